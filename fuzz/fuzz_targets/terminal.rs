//! Any text on a terminal: no control character, no change of direction, no line too wide.
#![no_main]

use harness::report::escape::{columns, head, line, lines, tail};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for shown in lines(text)
        .into_iter()
        .chain([line(text), head(text, 20), tail(text, 20)])
    {
        let is_raw = |it: char| {
            it.is_control() || matches!(it, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}')
        };
        assert!(!shown.chars().any(is_raw), "{shown:?}");
    }
    assert!(columns(&head(text, 20)) <= 20 && columns(&tail(text, 20)) <= 20);
});
