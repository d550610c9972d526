//! An `evidence.json`, the form of baselines: read whole, or refused with a reason.
//!
//! The digest in the last line is made right first: whoever changes a file on purpose would do so,
//! and with a wrong one nothing else is read.
#![no_main]

use harness::table::{EVIDENCE, read_evidence, write_evidence};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use prompt_harness_fuzz::json;

const LAST_LINE: &str = "\n\"digest\": \"";

fn sealed(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    match text.rfind(LAST_LINE) {
        Some(end) => {
            let digest = blake3::hash(&text.as_bytes()[..end]).to_hex();
            format!("{}{LAST_LINE}{digest}\"\n}}\n", &text[..end])
        }
        None => text,
    }
}

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder for the file");
    let path = folder.path().join(EVIDENCE);
    let bytes = match std::str::from_utf8(bytes) {
        Ok(text) => sealed(text).into_bytes(),
        Err(_) => bytes.to_vec(),
    };
    std::fs::write(&path, bytes).expect("room for the file");
    match read_evidence(folder.path()) {
        Ok(evidence) => {
            write_evidence(folder.path(), &evidence).expect("what was read can be written");
            let again = read_evidence(folder.path()).expect("what was written can be read");
            assert_eq!(evidence, again);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    json::mutate(data, size, max_size, seed)
});
