//! A `run.json`: read, or refused with a reason.
#![no_main]

use harness::table::{MANIFEST, Manifest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder for the file");
    std::fs::write(folder.path().join(MANIFEST), bytes).expect("room for the file");
    if let Ok(manifest) = Manifest::read(folder.path()) {
        manifest.write(folder.path()).expect("what was read can be written");
        let again = Manifest::read(folder.path()).expect("what was written can be read");
        assert_eq!(manifest, again);
    }
});
