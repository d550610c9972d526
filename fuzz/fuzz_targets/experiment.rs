//! An experiment file: read or explained, and what was read parses again to the same.
#![no_main]

use std::path::Path;

use harness::experiment::{Color, Overlay, parse, render};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let path = Path::new("x.toml");
    match parse(path, text.to_owned(), &Overlay::default()) {
        Ok((experiment, _)) => {
            let again = parse(path, experiment.resolved.clone(), &Overlay::default());
            let (again, _) = again.expect("what was resolved is valid");
            assert_eq!(again.digest, experiment.digest);
        }
        Err(problems) => {
            let said = render(&problems, 100, Color::Never);
            assert!(
                !said.chars().any(|it| it.is_control() && it != '\n'),
                "{said:?}"
            );
        }
    }
});
