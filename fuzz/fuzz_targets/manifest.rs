//! A `run.json`: read, or refused with a reason.
#![no_main]

use harness::table::{MANIFEST, Manifest};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use prompt_harness_fuzz::json;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder for the file");
    std::fs::write(folder.path().join(MANIFEST), bytes).expect("room for the file");
    if let Ok(manifest) = Manifest::read(folder.path()) {
        manifest
            .write(folder.path())
            .expect("what was read can be written");
        let again = Manifest::read(folder.path()).expect("what was written can be read");
        assert_eq!(manifest, again);
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    json::mutate(data, size, max_size, seed)
});
