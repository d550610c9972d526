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

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension};

use crate::request::{Digest, RequestKey, Response};

/// Version of the file's layout, kept in SQLite's `user_version`.
const LAYOUT_VERSION: i64 = 2;

/// Rows stand in the order in which they were written, and an index finds them by the first eight
/// bytes of their key. Ordered by the key itself, which is a digest, every row of a large store
/// would be written with a page of its own: of four million, three times as many bytes.
const LAYOUT: &str = "
    CREATE TABLE IF NOT EXISTS responses
        (head INTEGER NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, digest BLOB NOT NULL);
    CREATE INDEX IF NOT EXISTS responses_by_head ON responses (head);";

/// Bytes of a page; only of a store that is made anew.
const PAGE_BYTES: i64 = 8192;

/// Rows after which a transaction is written before its time, which bounds what waits in memory.
///
/// Every row goes to another page of the index, which is written once per transaction, so there
/// are many.
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
        connection.pragma_update(None, "page_size", PAGE_BYTES)?;
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
        connection.execute_batch(LAYOUT)?;
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
        let Some((value, digest)) = row.map_err(|source| self.error(source))? else {
            return Ok(None);
        };
        let is_sound = digest == row_digest(key, &value)[..];
        let response = is_sound.then(|| value::decode(&value)).flatten();
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

    /// From now on no row can be written, as on a full disk.
    #[cfg(test)]
    pub(crate) fn refuse_rows(&self) {
        let rename = "ALTER TABLE responses RENAME TO elsewhere";
        let file = self.shared.lock();
        file.connection
            .execute(rename, [])
            .expect("the store is sound");
    }

    fn error(&self, source: rusqlite::Error) -> StoreError {
        StoreError::Sqlite {
            path: self.path.clone(),
            source,
        }
    }
}

/// Value and digest of a row.
type Cells = (Vec<u8>, Vec<u8>);

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
    /// Value and digest, if there is such a row. Cells that are no blobs, which they become by
    /// damage alone, come empty, and no digest is.
    fn row(&self, key: RequestKey) -> Result<Option<Cells>, rusqlite::Error> {
        let mut select = self.connection.prepare_cached(
            "SELECT value, digest FROM responses WHERE head = ?1 AND key = ?2 LIMIT 1",
        )?;
        let row = select.query_row((indexed(key), &key.0[..]), |row| {
            let bytes = |cell: ValueRef<'_>| match cell {
                ValueRef::Blob(bytes) => bytes.to_vec(),
                _ => Vec::new(),
            };
            Ok((bytes(row.get_ref(0)?), bytes(row.get_ref(1)?)))
        });
        row.optional()
    }

    /// Writes what waits in one transaction; if that fails, it goes on waiting.
    fn write(&mut self) -> Result<(), rusqlite::Error> {
        if !self.pending.is_empty() {
            // In the order of the index, so that a page of it is visited once. Of equal keys the
            // last row stays the last.
            self.pending.sort_by_key(|it| (indexed(it.0), it.0.0));
            let transaction = self.connection.transaction()?;
            {
                let mut delete = transaction
                    .prepare_cached("DELETE FROM responses WHERE head = ?1 AND key = ?2")?;
                let mut insert =
                    transaction.prepare_cached("INSERT INTO responses VALUES (?1, ?2, ?3, ?4)")?;
                for (key, value) in &self.pending {
                    let (head, bytes) = (indexed(*key), &key.0[..]);
                    delete.execute((head, bytes))?;
                    insert.execute((head, bytes, value, &row_digest(*key, value)[..]))?;
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

/// The part of a key that is indexed, as SQLite's numbers have it.
fn indexed(key: RequestKey) -> i64 {
    key.head().cast_signed()
}

fn row_digest(Digest(key): RequestKey, value: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new()
        .update(&key)
        .update(value)
        .finalize()
        .as_bytes()
}

#[cfg(test)]
mod tests;
