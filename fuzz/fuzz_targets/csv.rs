//! Any text as a cell of CSV: no formula, and the quotes close.
#![no_main]

use harness::query::{Answer, Cell};
use harness::report::query::csv;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let written = csv(&Answer {
        columns: vec!["text".to_owned()],
        rows: vec![vec![Cell::Text(text.to_owned())]],
    });
    let cell = written
        .strip_prefix("text\r\n")
        .expect("the header comes first");
    let cell = cell.strip_suffix("\r\n").expect("every row ends");
    let inner = match cell.strip_prefix('"') {
        Some(quoted) => {
            let inner = quoted.strip_suffix('"').expect("the quotes close");
            assert!(!inner.replace("\"\"", "").contains('"'), "{cell:?}");
            inner
        }
        None => {
            assert!(!cell.contains(['"', ',', '\r', '\n']), "{cell:?}");
            cell
        }
    };
    assert!(
        !inner.starts_with(['=', '+', '-', '@', '\t', '\r']),
        "{cell:?}"
    );
});
