//! A response store with damage: the answers that were stored, or none, or an error.
//!
//! The input is a list of places and masks; what they hit is a store of a few answers.
#![no_main]

use std::sync::OnceLock;

use harness::request::{Digest, Response};
use harness::store::Store;
use libfuzzer_sys::fuzz_target;

fn answer(i: u8) -> Response {
    Response::Loglikelihood {
        logprobs: vec![-f32::from(i); 40],
        is_argmax: vec![i % 2 == 0; 40],
    }
}

fn whole() -> &'static [u8] {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder for the store");
        let path = folder.path().join("s.sqlite3");
        let mut store = Store::open(&path).expect("a new store");
        for i in 0..20 {
            store
                .put(Digest([i; 32]), &answer(i))
                .expect("room for an answer");
        }
        store.flush().expect("room for the answers");
        drop(store);
        std::fs::read(&path).expect("the store")
    })
}

fuzz_target!(|damage: &[u8]| {
    let mut file = whole().to_vec();
    for change in damage.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % file.len();
        file[at] ^= change[2];
    }
    let folder = tempfile::tempdir().expect("a folder for the store");
    let path = folder.path().join("s.sqlite3");
    std::fs::write(&path, file).expect("room for the store");
    let Ok(mut store) = Store::open(&path) else {
        return;
    };
    // The second time after more was written, which a damaged file may take.
    for n_stored in [20, 30] {
        for i in 20..n_stored {
            let _ = store.put(Digest([i; 32]), &answer(i));
        }
        let _ = store.flush();
        for i in 0..n_stored {
            if let Ok(Some(found)) = store.get(Digest([i; 32])) {
                assert_eq!(found, answer(i));
            }
        }
    }
});
