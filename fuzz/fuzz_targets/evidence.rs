//! An `evidence.json`, the form of baselines: read whole, or refused with a reason.
#![no_main]

use harness::table::{EVIDENCE, read_evidence};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder for the file");
    std::fs::write(folder.path().join(EVIDENCE), bytes).expect("room for the file");
    if let Err(error) = read_evidence(folder.path()) {
        assert!(!error.to_string().is_empty());
    }
});
