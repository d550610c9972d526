//! What a Parquet file claims: passed or refused, without a decoder.
#![no_main]

use harness::parquet::{Limits, check};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits {
        n_cells: 1 << 26,
        n_bytes: 4 << 30,
    };
    if let Err(err) = check(bytes, limits) {
        assert!(!err.to_string().is_empty());
    }
});
