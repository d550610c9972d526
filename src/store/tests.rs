use super::value::{decode, encode};
use super::*;
use crate::request::FinishReason;

fn responses() -> [Response; 2] {
    [
        Response::Loglikelihood {
            logprobs: vec![-0.1, f32::NEG_INFINITY],
            is_argmax: vec![true, false],
        },
        Response::Generation {
            tokens: vec![1, 2, 70_000],
            text: "été\n".to_owned(),
            finish_reason: FinishReason::Length,
        },
    ]
}

#[test]
fn what_is_stored_comes_back_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/responses.sqlite3");
    let mut store = Store::open(&path).unwrap();
    for (i, response) in (0u8..).zip(&responses()) {
        store.put(Digest([i; 32]), response).unwrap();
    }
    store.flush().unwrap();
    drop(store);
    let mut store = Store::open(&path).unwrap();
    for (i, response) in (0u8..).zip(responses()) {
        assert_eq!(store.get(Digest([i; 32])).unwrap(), Some(response));
    }
    assert_eq!(store.get(Digest([9; 32])).unwrap(), None);
    assert_eq!(store.n_damaged(), 0);
}

fn change(store: &Store, assignment: &str) {
    let file = store.shared.lock();
    let update = format!("UPDATE responses SET {assignment}");
    file.connection.execute(&update, []).unwrap();
}

/// Until `is_so`, which comes within a second or two unless it never does.
fn wait_until(mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_mins(1));
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The last answers of a wave, behind which the next one takes minutes.
#[test]
fn what_nobody_flushes_is_written_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sqlite3");
    let mut store = Store::open(&path).unwrap();
    let mut other = Store::open(&path).unwrap();
    for round in 0..2_u8 {
        for i in 0..3 {
            let key = Digest([10 * round + i; 32]);
            store.put(key, &numbered(i)).unwrap();
        }
        wait_until(|| other.get(Digest([10 * round + 2; 32])).unwrap() == Some(numbered(2)));
        assert_eq!(
            other.get(Digest([10 * round; 32])).unwrap(),
            Some(numbered(0))
        );
    }
}

#[test]
fn whoever_puts_the_next_row_is_told_that_the_last_was_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sqlite3");
    let mut store = Store::open(&path).unwrap();
    store.refuse_rows();
    store.put(Digest([1; 32]), &numbered(1)).unwrap();
    wait_until(|| store.shared.lock().failure.is_some());
    store.put(Digest([2; 32]), &numbered(2)).unwrap_err();
    let other = Connection::open(&path).unwrap();
    let back = "ALTER TABLE elsewhere RENAME TO responses";
    other.execute(back, []).unwrap();
    store.flush().unwrap();
    for i in 1..3 {
        assert_eq!(store.get(Digest([i; 32])).unwrap(), Some(numbered(i)));
    }
}

#[test]
fn many_rows_do_not_wait_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(&folder.path().join("s.sqlite3")).unwrap();
    let key = |i: usize| Digest(*blake3::hash(&i.to_le_bytes()).as_bytes());
    for i in 0..ROWS_PER_COMMIT {
        store.put(key(i), &responses()[0]).unwrap();
    }
    assert!(store.shared.lock().pending.is_empty());
    assert!(store.get(key(0)).unwrap().is_some());
}

#[test]
fn a_damaged_row_is_not_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("responses.sqlite3");
    let mut store = Store::open(&path).unwrap();
    store.put(Digest([1; 32]), &responses()[0]).unwrap();
    store.flush().unwrap();
    change(&store, "value = zeroblob(length(value))");
    assert_eq!(store.get(Digest([1; 32])).unwrap(), None);
    assert_eq!(store.n_damaged(), 1);
    store.put(Digest([1; 32]), &responses()[0]).unwrap();
    store.flush().unwrap();
    assert_eq!(
        store.get(Digest([1; 32])).unwrap().as_ref(),
        Some(&responses()[0])
    );
}

/// Keys that begin alike are told apart, and a key has one row however often it is put.
#[test]
fn a_key_has_one_row_and_is_compared_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(&folder.path().join("s.sqlite3")).unwrap();
    let key = |last: u8| {
        let mut key = [7; 32];
        key[31] = last;
        Digest(key)
    };
    for i in 0..3 {
        store.put(key(i), &numbered(i)).unwrap();
    }
    store.flush().unwrap();
    for i in 0..3 {
        assert_eq!(store.get(key(i)).unwrap(), Some(numbered(i)));
    }
    assert_eq!(store.get(key(3)).unwrap(), None);
    store.put(key(1), &numbered(8)).unwrap();
    store.put(key(1), &numbered(9)).unwrap();
    store.flush().unwrap();
    assert_eq!(store.get(key(1)).unwrap(), Some(numbered(9)));
    let count = "SELECT count(*) FROM responses";
    let file = store.shared.lock();
    let n: i64 = file
        .connection
        .query_row(count, [], |it| it.get(0))
        .unwrap();
    assert_eq!(n, 3);
}

#[test]
fn every_cut_of_a_value_is_noticed() {
    for response in &responses()[..1] {
        let bytes = encode(response);
        for n in 0..bytes.len() {
            assert_eq!(decode(&bytes[..n]), None, "cut at {n}");
        }
    }
}

#[test]
fn another_layout_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("responses.sqlite3");
    drop(Store::open(&path).unwrap());
    Connection::open(&path)
        .unwrap()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    let err = Store::open(&path).unwrap_err();
    assert!(matches!(err, StoreError::Layout { found: 99, .. }), "{err}");
}

/// Writes 40 answers and returns the bytes of the closed file.
fn written(path: &Path) -> Vec<u8> {
    let mut store = Store::open(path).unwrap();
    for i in 0..40 {
        store.put(Digest([i; 32]), &numbered(i)).unwrap();
    }
    store.flush().unwrap();
    drop(store);
    std::fs::read(path).unwrap()
}

fn numbered(i: u8) -> Response {
    Response::Loglikelihood {
        logprobs: vec![-f32::from(i); 100],
        is_argmax: vec![i.is_multiple_of(2); 100],
    }
}

/// Whatever byte is flipped: the answer, no answer, or an error, but never another answer.
#[test]
fn a_flipped_byte_never_changes_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sqlite3");
    let bytes = written(&path);
    let (mut n_lost, mut n_refused) = (0, 0);
    // 101 is coprime to the sizes of pages and rows, so that every kind of place is met.
    for at in (0..bytes.len()).step_by(101) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        std::fs::write(&path, flipped).unwrap();
        let mut store = match Store::open(&path) {
            Ok(store) => store,
            Err(err) => {
                assert!(!err.hint().is_empty());
                n_refused += 1;
                continue;
            }
        };
        for i in 0..40 {
            match store.get(Digest([i; 32])) {
                Ok(Some(response)) => assert_eq!(response, numbered(i), "byte {at}"),
                Ok(None) => n_lost += 1,
                Err(err) => {
                    assert!(err.hint().contains("move it away"), "{err:?}");
                    n_refused += 1;
                }
            }
        }
    }
    assert!(0 < n_lost && 0 < n_refused, "{n_lost}, {n_refused}");
}

#[test]
fn a_cut_file_never_changes_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sqlite3");
    let bytes = written(&path);
    for n in (0..bytes.len()).step_by(509) {
        std::fs::write(&path, &bytes[..n]).unwrap();
        let Ok(mut store) = Store::open(&path) else {
            continue;
        };
        for i in 0..40 {
            if let Ok(Some(response)) = store.get(Digest([i; 32])) {
                assert_eq!(response, numbered(i), "cut at {n}");
            }
        }
    }
}

/// A cell that is no blob is damage like any other, not the end of the run.
#[test]
fn a_row_of_another_type_is_not_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(&folder.path().join("s.sqlite3")).unwrap();
    store.put(Digest([1; 32]), &responses()[0]).unwrap();
    store.flush().unwrap();
    // The last one is no text either: no UTF-8.
    for cell in [
        "value = 'text'",
        "digest = 'text'",
        "value = CAST(x'ff' AS TEXT)",
    ] {
        change(&store, cell);
        assert_eq!(store.get(Digest([1; 32])).unwrap(), None);
    }
    assert_eq!(store.n_damaged(), 3);
}

#[test]
fn a_full_disk_keeps_what_was_written_and_what_waits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sqlite3");
    let mut store = Store::open(&path).unwrap();
    store.put(Digest([0; 32]), &numbered(0)).unwrap();
    store.flush().unwrap();
    // As a disk that has room for no page more.
    let limit = |store: &Store, n: i64| {
        let pragma = format!("PRAGMA max_page_count = {n}");
        let file = store.shared.lock();
        let set: i64 = file
            .connection
            .query_row(&pragma, [], |it| it.get(0))
            .unwrap();
        assert!(0 < set);
    };
    limit(&store, 1);
    for i in 1..40 {
        store.put(Digest([i; 32]), &numbered(i)).unwrap();
    }
    let err = store.flush().unwrap_err();
    assert!(err.hint().starts_with("free space"), "{err:?}");
    assert_eq!(store.get(Digest([0; 32])).unwrap(), Some(numbered(0)));
    assert_eq!(store.get(Digest([1; 32])).unwrap(), None);
    limit(&store, 1_000_000);
    store.flush().unwrap();
    for i in 0..40 {
        assert_eq!(store.get(Digest([i; 32])).unwrap(), Some(numbered(i)));
    }
}

#[test]
fn what_is_no_store_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sqlite3");
    std::fs::write(
        &path,
        "not a database, but long enough to look for a header ".repeat(9),
    )
    .unwrap();
    let err = Store::open(&path).unwrap_err();
    assert!(err.hint().contains("move it away"), "{err:?}");
    let err = Store::open(&path.join("below/a-file.sqlite3")).unwrap_err();
    assert!(err.hint().contains("--out"), "{err:?}");
    let err = Store::open(folder.path()).unwrap_err();
    assert!(err.hint().contains("--out"), "{err:?}");
}

/// Another process writes for a while.
#[test]
fn a_store_at_work_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sqlite3");
    let mut store = Store::open(&path).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            other.execute_batch("COMMIT").unwrap();
        });
        store.put(Digest([1; 32]), &numbered(1)).unwrap();
        store.flush().unwrap();
    });
}

/// Who comes second is told that the file is locked, while its journal is changed.
#[test]
fn several_open_a_new_store_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for nth in 0..20 {
        let path = folder.path().join(nth.to_string());
        let together = std::sync::Barrier::new(8);
        let open = || drop((together.wait(), Store::open(&path).unwrap()));
        std::thread::scope(|scope| (0..8).for_each(|_| drop(scope.spawn(open))));
    }
}

/// Eight writers and readers of one file: every answer is whole and belongs to its key.
#[test]
fn several_share_a_store_without_torn_reads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sqlite3");
    std::thread::scope(|scope| {
        for thread in 0..8_u8 {
            let path = &path;
            scope.spawn(move || {
                let mut store = Store::open(path).unwrap();
                for round in 0..100_u8 {
                    let i = round.wrapping_mul(thread + 1) % 50;
                    if let Some(response) = store.get(Digest([i; 32])).unwrap() {
                        assert_eq!(response, numbered(i));
                    } else {
                        store.put(Digest([i; 32]), &numbered(i)).unwrap();
                    }
                }
                store.flush().unwrap();
                assert_eq!(store.n_damaged(), 0);
            });
        }
    });
    let mut store = Store::open(&path).unwrap();
    assert_eq!(store.get(Digest([0; 32])).unwrap(), Some(numbered(0)));
}
