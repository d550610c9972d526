//! A Parquet dataset: rows or faults, whatever the decoder is given.
#![no_main]

use std::path::Path;

use harness::dataset::{Format, parse};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use prompt_harness_fuzz::parquet;

fuzz_target!(init: {
    // A decoder that panics is caught and is no finding; libfuzzer would end at its hook.
    std::panic::set_hook(Box::new(|_| {}));
}, |bytes: &[u8]| {
    match parse(Path::new("x.parquet"), Format::Parquet, bytes) {
        Ok(dataset) => assert!(!dataset.rows.is_empty()),
        Err(errors) => assert!(!errors.to_string().is_empty()),
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    parquet::mutate(data, size, max_size, seed)
});
