//! Content-addressed responses on disk, so that nothing is computed twice.
//!
//! One SQLite file in WAL mode holds `key → response`. Keys name everything an
//! answer depends on ([`crate::request::Request::key`]), so an answer is never
//! served for another model, prompt or setting. Every row carries a digest of key
//! and value; a row that fails the check is dropped and computed again, and counted.
//! Failures are not stored: the next run tries them again.
//!
//! New rows are written in one short transaction per 512 rows or second, whichever comes
//! first, so several runs can share the file. A transaction that was written survives the end
//! of the process and of the power; what is lost is the second before, which is computed again.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, OptionalExtension};

use crate::request::{Digest, FinishReason, RequestKey, Response};

/// Version of the file's layout, kept in SQLite's `user_version`.
const LAYOUT_VERSION: i64 = 1;

/// Rows after which a transaction is written.
const ROWS_PER_COMMIT: usize = 512;

/// How long another process is waited for.
const WAIT: Duration = Duration::from_secs(30);

/// Whether another process has the file, or a part of it, for itself.
fn is_busy(err: &rusqlite::Error) -> bool {
    matches!(
        err.sqlite_error_code(),
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked)
    )
}

/// Time after which a transaction is written.
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
    connection: Connection,
    pending: Vec<(RequestKey, Vec<u8>)>,
    last_commit: Instant,
    n_damaged: usize,
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
        Ok(Ok(Self {
            path: path.to_owned(),
            connection,
            pending: Vec::new(),
            last_commit: Instant::now(),
            n_damaged: 0,
        }))
    }

    /// The stored response of that key, if there is an undamaged one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sqlite`] if the file cannot be read.
    pub fn get(&mut self, key: RequestKey) -> Result<Option<Response>, StoreError> {
        let row: Option<(SqlValue, SqlValue)> = self
            .connection
            .prepare_cached("SELECT value, digest FROM responses WHERE key = ?1")
            .and_then(|mut it| {
                it.query_row([&key.0[..]], |row| Ok((row.get(0)?, row.get(1)?)))
                    .optional()
            })
            .map_err(|source| self.error(source))?;
        let Some(row) = row else {
            return Ok(None);
        };
        let response = match row {
            (SqlValue::Blob(value), SqlValue::Blob(digest))
                if digest == row_digest(key, &value) =>
            {
                decode(&value)
            }
            // Of another type only after damage.
            _ => None,
        };
        if response.is_none() {
            self.n_damaged += 1;
        }
        Ok(response)
    }

    /// Stores a response; it is on disk at the latest after [`Store::flush`].
    ///
    /// # Errors
    ///
    /// [`StoreError::Sqlite`] if a transaction is due and cannot be written; its rows
    /// are kept in memory and tried again with the next one.
    pub fn put(&mut self, key: RequestKey, response: &Response) -> Result<(), StoreError> {
        self.pending.push((key, encode(response)));
        if ROWS_PER_COMMIT <= self.pending.len() || COMMIT_INTERVAL <= self.last_commit.elapsed() {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes everything that is still in memory.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sqlite`] if the transaction cannot be written.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        if !self.pending.is_empty() {
            self.write_pending().map_err(|source| self.error(source))?;
            self.pending.clear();
        }
        self.last_commit = Instant::now();
        Ok(())
    }

    fn write_pending(&mut self) -> Result<(), rusqlite::Error> {
        let transaction = self.connection.transaction()?;
        {
            let mut insert = transaction
                .prepare_cached("INSERT OR REPLACE INTO responses VALUES (?1, ?2, ?3)")?;
            for (key, value) in &self.pending {
                insert.execute((&key.0[..], value, &row_digest(*key, value)[..]))?;
            }
        }
        transaction.commit()
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

fn row_digest(Digest(key): RequestKey, value: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new()
        .update(&key)
        .update(value)
        .finalize()
        .as_bytes()
}

// A value is a kind byte, then little-endian fields; every list has a u32 length
// before it. f32 values keep their bits, -inf included, which JSON could not hold.

fn encode(response: &Response) -> Vec<u8> {
    let mut out = Vec::new();
    let length = |out: &mut Vec<u8>, n: usize| out.extend((n as u32).to_le_bytes());
    match response {
        Response::Loglikelihood {
            logprobs,
            is_argmax,
        } => {
            out.push(b'l');
            length(&mut out, logprobs.len());
            out.extend(logprobs.iter().flat_map(|it| it.to_le_bytes()));
            out.extend(is_argmax.iter().map(|it| u8::from(*it)));
        }
        Response::Generation {
            tokens,
            text,
            finish_reason,
        } => {
            out.push(b'g');
            length(&mut out, tokens.len());
            out.extend(tokens.iter().flat_map(|it| it.to_le_bytes()));
            length(&mut out, finish_reason.as_str().len());
            out.extend(finish_reason.as_str().as_bytes());
            out.extend(text.as_bytes());
        }
    }
    out
}

/// `None` if the bytes are not a whole response.
fn decode(bytes: &[u8]) -> Option<Response> {
    let (kind, rest) = bytes.split_first()?;
    let (n, rest) = split_length(rest)?;
    match kind {
        b'l' => {
            let (logprobs, flags) = rest.split_at_checked(4 * n)?;
            let logprobs = words(logprobs).map(f32::from_le_bytes).collect();
            let is_argmax: Vec<bool> = flags.iter().map(|it| *it == 1).collect();
            (is_argmax.len() == n).then_some(Response::Loglikelihood {
                logprobs,
                is_argmax,
            })
        }
        b'g' => {
            let (tokens, rest) = rest.split_at_checked(4 * n)?;
            let (n_reason, rest) = split_length(rest)?;
            let (reason, text) = rest.split_at_checked(n_reason)?;
            Some(Response::Generation {
                tokens: words(tokens).map(u32::from_le_bytes).collect(),
                text: String::from_utf8(text.to_vec()).ok()?,
                finish_reason: FinishReason::from_name(std::str::from_utf8(reason).ok()?)?,
            })
        }
        _ => None,
    }
}

fn split_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*length) as usize, rest))
}

fn words(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> + '_ {
    bytes
        .chunks_exact(4)
        .map(|it| it.try_into().expect("chunks of four bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_damaged_row_is_not_an_answer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("responses.sqlite3");
        let mut store = Store::open(&path).unwrap();
        store.put(Digest([1; 32]), &responses()[0]).unwrap();
        store.flush().unwrap();
        store
            .connection
            .execute("UPDATE responses SET value = zeroblob(length(value))", [])
            .unwrap();
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
            let change = format!("UPDATE responses SET {cell} = 'text'");
            store.connection.execute(&change, []).unwrap();
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
            let set: i64 = store
                .connection
                .query_row(&format!("PRAGMA max_page_count = {n}"), [], |it| it.get(0))
                .unwrap();
            assert!(0 < set);
        };
        limit(&store, 1);
        for i in 1..40 {
            store.pending.push((Digest([i; 32]), encode(&numbered(i))));
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
}
