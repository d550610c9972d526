//! A safetensors header: the tensors of one that parses fill the file.
#![no_main]

use harness::model::safetensors::{Header, Tensor};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use prompt_harness_fuzz::safetensors;

fuzz_target!(|file: &[u8]| {
    if let Ok(header) = Header::parse(file) {
        let n_bytes: u64 = header.tensors.values().map(Tensor::n_bytes).sum();
        assert!(n_bytes <= file.len() as u64);
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    safetensors::mutate(data, size, max_size, seed)
});
