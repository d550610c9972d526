//! CSV and TSV datasets: rows or faults, and every row has every column.
#![no_main]

use std::path::Path;

use harness::dataset::{Format, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for format in [Format::Csv, Format::Tsv] {
        if let Ok(dataset) = parse(Path::new("x"), format, bytes) {
            for row in &dataset.rows {
                assert_eq!(row.fields().len(), dataset.columns.len());
            }
        }
    }
});
