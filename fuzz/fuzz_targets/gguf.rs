//! A GGUF header: every tensor of one that parses lies inside the file.
#![no_main]

use harness::model::gguf::Gguf;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    if let Ok(header) = Gguf::parse(file) {
        for tensor in header.tensors().values() {
            assert!(file.get(tensor.range()).is_some());
        }
        for (key, _) in header.metadata() {
            let _ = (
                header.text(key),
                header.count(key),
                header.float(key),
                header.texts(key),
            );
        }
    }
});
