//! What a Parquet file claims: passed or refused, without a decoder.
#![no_main]

use harness::parquet::{Limits, check};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use prompt_harness_fuzz::parquet;

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits {
        n_cells: 1 << 26,
        n_bytes: 4 << 30,
    };
    if let Err(err) = check(bytes, limits) {
        assert!(!err.to_string().is_empty());
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    parquet::mutate(data, size, max_size, seed)
});
