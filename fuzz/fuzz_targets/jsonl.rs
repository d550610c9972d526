//! A JSONL dataset: rows or faults.
#![no_main]

use std::path::Path;

use harness::dataset::{Format, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match parse(Path::new("x.jsonl"), Format::Jsonl, bytes) {
        Ok(dataset) => assert!(!dataset.rows.is_empty()),
        Err(errors) => {
            let said = errors.to_string();
            assert!(
                !said.chars().any(|it| it.is_control() && it != '\n'),
                "{said:?}"
            );
        }
    }
});
