//! Content-addressed responses on disk, so that nothing is computed twice.
//!
//! One SQLite file in WAL mode holds `key → response`. Keys name everything an
//! answer depends on ([`crate::request::Request::key`]), so an answer is never
//! served for another model, prompt or setting. Every row carries a digest of key
//! and value; a row that fails the check is dropped and computed again, and counted.
//! Failures are not stored: the next run tries them again.
//!
//! New rows are written in short transactions, so several runs can share the file. No row waits
//! longer than a second, even if no other follows it: a thread of the store's own sees to that,
//! since the next answers of a large model may be minutes away. A transaction that was written
//! survives the end of the process and of the power; what is lost is the second before, which is
//! computed again.

mod value;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, OptionalExtension};

use crate::request::{Digest, RequestKey, Response};

/// Version of the file's layout, kept in SQLite's `user_version`.
const LAYOUT_VERSION: i64 = 1;

/// Rows after which a transaction is written before its time, which bounds what waits in memory.
///
/// Keys are digests, so every row has another page, and what many of them share a transaction for
/// is written once. Fewer rows made a million examples write 36 GB.
const ROWS_PER_COMMIT: usize = 1 << 15;

/// KiB of pages that SQLite keeps: the inner pages of some millions of rows.
const CACHE_KIB: i64 = 16 << 10;

/// How long another process is waited for.
const WAIT: Duration = Duration::from_secs(30);

/// Whether another process has the file, or a part of it, for itself.
fn is_busy(err: &rusqlite::Error) -> bool {
    matches!(
        err.sqlite_error_code(),
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked)
    )
}

/// How long a row waits before its transaction is written.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// Why the store could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite refused; the disk may be full or the folder read-only.
    #[error("the response store `{}` cannot be used", .path.display())]
    Sqlite {
        /// The store's file.
        path: PathBuf,
        /// What SQLite reported.
        source: rusqlite::Error,
    },
    /// The folder could not be made.
    #[error("the folder of the response store `{}` cannot be made", .path.display())]
    Folder {
        /// The store's file.
        path: PathBuf,
        /// What the system reported.
        source: std::io::Error,
    },
    /// Another version of harness wrote the file.
    #[error(
        "the response store `{}` has layout {found}, this harness reads {LAYOUT_VERSION}; \
         move it away to start a new one", .path.display()
    )]
    Layout {
        /// The store's file.
        path: PathBuf,
        /// The version found.
        found: i64,
    },
}

impl StoreError {
    /// What to try.
    pub fn hint(&self) -> &'static str {
        use rusqlite::ErrorCode;
        match self {
            Self::Folder { .. } => "name another folder with `--out` or HARNESS_RESULTS",
            Self::Layout { .. } => "moved away, it can still be used by the harness that wrote it",
            Self::Sqlite { source, .. } => match source.sqlite_error_code() {
                Some(ErrorCode::DiskFull) => {
                    "free space; answers until then are kept, the same command goes on from there"
                }
                Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                    "fix its permissions and those of its folder, or name another folder with \
                     `--out` or HARNESS_RESULTS"
                }
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                    "it is damaged: move it away; what it held is computed again"
                }
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                    "another process has it for itself; the same command tries again"
                }
                _ => "answers until then are kept; the same command goes on from there",
            },
        }
    }
}

/// An open store.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    shared: Arc<Shared>,
    /// Writes what nobody flushes; joined when the store is dropped.
    timer: Option<JoinHandle<()>>,
    n_damaged: usize,
}

/// What the owner of a store and its timer have in common.
#[derive(Debug)]
struct Shared {
    file: Mutex<File>,
    /// The first row waits, or the store is dropped.
    changed: Condvar,
}

#[derive(Debug)]
struct File {
    connection: Connection,
    pending: Vec<(RequestKey, Vec<u8>)>,
    /// Since when the first of `pending` has been waiting, or when it was last tried in vain.
    waiting_since: Option<Instant>,
    /// Why the timer could not write, until the owner is told.
    failure: Option<rusqlite::Error>,
    is_closing: bool,
}

impl Store {
    /// Opens the store at `path`, making file and folder as needed.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the file cannot be used or is of another layout.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|source| StoreError::Folder {
                path: path.to_owned(),
                source,
            })?;
        }
        // Several processes that make the file together are told "locked" at once, whatever
        // the timeout: SQLite does not wait while the journal's mode changes.
        let started = Instant::now();
        loop {
            match Self::prepare(path) {
                Err(source) if is_busy(&source) && started.elapsed() < WAIT => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                prepared => {
                    return prepared.map_err(|source| StoreError::Sqlite {
                        path: path.to_owned(),
                        source,
                    })?;
                }
            }
        }
    }

    fn prepare(path: &Path) -> Result<Result<Self, StoreError>, rusqlite::Error> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(WAIT)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        let found: i64 = connection.query_row("PRAGMA user_version", [], |it| it.get(0))?;
        if found != 0 && found != LAYOUT_VERSION {
            return Ok(Err(StoreError::Layout {
                path: path.to_owned(),
                found,
            }));
        }
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS responses \
             (key BLOB PRIMARY KEY, value BLOB NOT NULL, digest BLOB NOT NULL) WITHOUT ROWID",
        )?;
        connection.pragma_update(None, "user_version", LAYOUT_VERSION)?;
        let shared = Arc::new(Shared {
            file: Mutex::new(File {
                connection,
                pending: Vec::new(),
                waiting_since: None,
                failure: None,
                is_closing: false,
            }),
            changed: Condvar::new(),
        });
        let timer = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.write_in_time()
        });
        Ok(Ok(Self {
            path: path.to_owned(),
            shared,
            timer: Some(timer),
            n_damaged: 0,
        }))
    }

    /// The stored response of that key, if there is an undamaged one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sqlite`] if the file cannot be read.
    pub fn get(&mut self, key: RequestKey) -> Result<Option<Response>, StoreError> {
        let row = self.shared.lock().row(key);
        let Some(row) = row.map_err(|source| self.error(source))? else {
            return Ok(None);
        };
        let response = match row {
            (SqlValue::Blob(value), SqlValue::Blob(digest))
                if digest == row_digest(key, &value) =>
            {
                value::decode(&value)
            }
            // Of another type only after damage.
            _ => None,
        };
        if response.is_none() {
            self.n_damaged += 1;
        }
        Ok(response)
    }

    /// Stores a response; it is on disk a second later, and at the latest after [`Store::flush`].
    ///
    /// # Errors
    ///
    /// [`StoreError::Sqlite`] if a transaction could not be written, this one or one of the
    /// second before; its rows are kept in memory and tried again with the next one.
    pub fn put(&mut self, key: RequestKey, response: &Response) -> Result<(), StoreError> {
        let value = value::encode(response);
        let mut file = self.shared.lock();
        file.pending.push((key, value));
        if file.waiting_since.is_none() {
            file.waiting_since = Some(Instant::now());
            self.shared.changed.notify_one();
        }
        let written = match file.failure.take() {
            Some(failure) => Err(failure),
            None if ROWS_PER_COMMIT <= file.pending.len() => file.write(),
            None => Ok(()),
        };
        drop(file);
        written.map_err(|source| self.error(source))
    }

    /// Writes everything that is still in memory.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sqlite`] if the transaction cannot be written.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        let written = self.shared.lock().write();
        written.map_err(|source| self.error(source))
    }

    /// Rows that failed their check since the store was opened.
    pub fn n_damaged(&self) -> usize {
        self.n_damaged
    }

    fn error(&self, source: rusqlite::Error) -> StoreError {
        StoreError::Sqlite {
            path: self.path.clone(),
            source,
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shared.lock().is_closing = true;
        self.shared.changed.notify_one();
        if let Some(timer) = self.timer.take() {
            // A panic of the timer has been told on stderr, and `put` and `flush` write without it.
            timer.join().ok();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, File> {
        // Rows stay pending until their transaction is written, whatever panicked meanwhile.
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes every transaction that is due, until the store is dropped.
    fn write_in_time(&self) {
        let mut file = self.lock();
        while !file.is_closing {
            let Some(since) = file.waiting_since else {
                let woken = self.changed.wait(file);
                file = woken.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = COMMIT_INTERVAL.saturating_sub(since.elapsed());
            if left.is_zero() {
                if let Err(err) = file.write() {
                    file.failure = Some(err);
                    file.waiting_since = Some(Instant::now());
                }
            } else {
                let woken = self.changed.wait_timeout(file, left);
                (file, _) = woken.unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

impl File {
    fn row(&self, key: RequestKey) -> Result<Option<(SqlValue, SqlValue)>, rusqlite::Error> {
        let mut select = self
            .connection
            .prepare_cached("SELECT value, digest FROM responses WHERE key = ?1")?;
        let row = select.query_row([&key.0[..]], |row| Ok((row.get(0)?, row.get(1)?)));
        row.optional()
    }

    /// Writes what waits in one transaction; if that fails, it goes on waiting.
    fn write(&mut self) -> Result<(), rusqlite::Error> {
        if !self.pending.is_empty() {
            // In the order of the file, so that a page is visited once. Of equal keys the last
            // row stays the last.
            self.pending.sort_by_key(|it| it.0.0);
            let transaction = self.connection.transaction()?;
            {
                let mut insert = transaction
                    .prepare_cached("INSERT OR REPLACE INTO responses VALUES (?1, ?2, ?3)")?;
                for (key, value) in &self.pending {
                    insert.execute((&key.0[..], value, &row_digest(*key, value)[..]))?;
                }
            }
            transaction.commit()?;
            self.pending.clear();
        }
        self.waiting_since = None;
        self.failure = None;
        Ok(())
    }
}

fn row_digest(Digest(key): RequestKey, value: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new()
        .update(&key)
        .update(value)
        .finalize()
        .as_bytes()
}

#[cfg(test)]
mod tests {
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
        let rename = |from: &str, to: &str| {
            let other = Connection::open(&path).unwrap();
            let rename = format!("ALTER TABLE {from} RENAME TO {to}");
            other.execute(&rename, []).unwrap();
        };
        rename("responses", "elsewhere");
        store.put(Digest([1; 32]), &numbered(1)).unwrap();
        wait_until(|| store.shared.lock().failure.is_some());
        store.put(Digest([2; 32]), &numbered(2)).unwrap_err();
        rename("elsewhere", "responses");
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
        // 37 is coprime to the sizes of pages and rows, so that every kind of place is met.
        for at in (0..bytes.len()).step_by(37) {
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
        for cell in ["value", "digest"] {
            change(&store, &format!("{cell} = 'text'"));
            assert_eq!(store.get(Digest([1; 32])).unwrap(), None);
        }
        assert_eq!(store.n_damaged(), 2);
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
}
