//! A safetensors header: the tensors of one that parses fill the file.
#![no_main]

use harness::model::safetensors::{Header, Tensor};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    if let Ok(header) = Header::parse(file) {
        let n_bytes: u64 = header.tensors.values().map(Tensor::n_bytes).sum();
        assert!(n_bytes <= file.len() as u64);
    }
});
