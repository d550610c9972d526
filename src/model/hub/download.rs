//! One file from the hub into a blob of the cache.
//!
//! What has arrived stays in `blobs/<etag>.incomplete` and is continued by the next try,
//! in this process or a later one. The blob appears only after its size and digest were
//! found to be those that the hub announced: the SHA-256 of the content for large files,
//! the hash of the Git object for small ones. One process at a time fetches a blob.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::api::{Hub, RemoteFile};
use super::cache::Cache;
use super::error::HubError;
use super::http::{Client, Reply};
use crate::model::builtin::hex;

/// Bytes that make a try count as progress, so that failures are counted anew.
const PROGRESS_BYTES: u64 = 1 << 20;
/// Bytes read at once.
const BUFFER_BYTES: usize = 1 << 18;

/// A file to be fetched.
pub(super) struct Download<'a> {
    pub(super) client: &'a Client<'a>,
    pub(super) hub: &'a Hub<'a>,
    pub(super) cache: &'a Cache,
    /// `OWNER/REPO`, for messages.
    pub(super) repo: &'a str,
    /// Its name in the repository.
    pub(super) file: &'a str,
    /// What the hub announced.
    pub(super) remote: &'a RemoteFile,
    /// Largest size that is taken, in bytes.
    pub(super) most: u64,
}

/// How far the file has come, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It is on its way to this process.
    Fetched(u64),
    /// Another process is fetching it.
    Waiting(u64),
}

impl Download<'_> {
    /// Makes sure that the blob is there.
    pub(super) fn run(&self, report: &mut dyn FnMut(Step)) -> Result<(), HubError> {
        let etag = &self.remote.etag;
        let blob = self.cache.blob(etag);
        let folder = blob.parent().expect("it is below `blobs`");
        std::fs::create_dir_all(folder).map_err(HubError::io(folder))?;
        if self.most < self.remote.size.unwrap_or(0) {
            return Err(self.too_large());
        }
        let shared = blob.with_file_name(format!("{etag}.incomplete"));
        let lock = self.cache.lock(etag, &mut || {
            let n_bytes = std::fs::metadata(&shared).map_or(0, |it| it.len());
            report(Step::Waiting(n_bytes));
        })?;
        if blob.is_file() {
            return Ok(()); // The process that held the lock fetched it.
        }
        let path = if lock.is_some() {
            shared
        } else {
            blob.with_file_name(format!("{etag}.{}.incomplete", std::process::id()))
        };
        let mut partial = Partial::open(path, self.remote)?;
        let was_resumed = 0 < partial.n_bytes;
        let mut result = self.complete(&mut partial, report);
        if was_resumed && result.as_ref().is_err_and(is_about_bytes) {
            // The beginning may be what was wrong.
            partial.restart()?;
            result = self.complete(&mut partial, report);
        }
        if result.as_ref().is_err_and(is_about_bytes) {
            std::fs::remove_file(&partial.path).ok();
        }
        result?;
        partial.become_blob(&blob)
    }

    /// Receives until all bytes are there, and checks them.
    fn complete(
        &self,
        partial: &mut Partial,
        report: &mut dyn FnMut(Step),
    ) -> Result<(), HubError> {
        let mut n_failures = 0;
        while !partial.is_complete {
            let before = partial.n_bytes;
            let Some(broken) = self.receive(partial, report)? else {
                continue;
            };
            if before.saturating_add(PROGRESS_BYTES) <= partial.n_bytes {
                n_failures = 0;
            }
            n_failures += 1;
            if self.client.settings().patience.n_retries < n_failures {
                return Err(broken.after(n_failures).during(self.file));
            }
            std::thread::sleep(self.client.pause(n_failures));
        }
        self.check(partial)
    }

    /// One request; returns why it broke off, if it may go on from there.
    fn receive(
        &self,
        partial: &mut Partial,
        report: &mut dyn FnMut(Step),
    ) -> Result<Option<HubError>, HubError> {
        let start = Some(partial.n_bytes).filter(|it| 0 < *it);
        let address = self.hub.address(&self.remote.commit, self.file);
        let reply = self
            .client
            .get(&address, start)
            .map_err(|err| err.during(self.file))?;
        match (reply.status, start) {
            // The whole file: nothing was asked for, or the server knows no parts.
            (200, _) => {
                self.check_announced(&reply)?;
                partial.restart()?;
            }
            (206, Some(start)) if starts_at(&reply, start) => {}
            (206 | 416, Some(_)) => {
                partial.restart()?;
                return Ok(None);
            }
            (206, None) => return Err(reply.strange("it gives a part of a file unasked")),
            _ => {
                let commit = &self.remote.commit;
                return Err(self.hub.refused(&reply, commit, Some(self.file)));
            }
        }
        let host = reply.host.clone();
        let mut body = reply.into_reader();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let n = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(err) if err.kind() == ErrorKind::Interrupted => continue,
                Err(err) => return Ok(Some(self.client.broken_body(&host, err))),
            };
            partial.append(&buffer[..n])?;
            match self.remote.size {
                Some(size) if size < partial.n_bytes => {
                    return Err(self.wrong_size(partial.n_bytes, size));
                }
                None if self.most < partial.n_bytes => return Err(self.too_large()),
                _ => report(Step::Fetched(partial.n_bytes)),
            }
        }
        if self.remote.size.is_some_and(|it| partial.n_bytes < it) {
            let early = std::io::Error::new(ErrorKind::UnexpectedEof, "the answer ended early");
            return Ok(Some(self.client.broken_body(&host, early)));
        }
        partial.is_complete = true;
        Ok(None)
    }

    /// A whole file of another size than announced need not be read.
    fn check_announced(&self, reply: &Reply) -> Result<(), HubError> {
        let length = reply.header("content-length");
        let found: Option<u64> = length.and_then(|it| it.trim().parse().ok());
        match (found, self.remote.size) {
            (Some(found), Some(expected)) if found != expected => {
                Err(self.wrong_size(found, expected))
            }
            _ => Ok(()),
        }
    }

    fn check(&self, partial: &Partial) -> Result<(), HubError> {
        let expected = &self.remote.etag;
        partial
            .digest
            .mismatch(expected)
            .map_or(Ok(()), |(algorithm, found)| {
                Err(HubError::WrongDigest {
                    repo: self.repo.to_owned(),
                    file: self.file.to_owned(),
                    algorithm,
                    found,
                    expected: expected.clone(),
                })
            })
    }

    fn wrong_size(&self, found: u64, expected: u64) -> HubError {
        HubError::WrongSize {
            repo: self.repo.to_owned(),
            file: self.file.to_owned(),
            found,
            expected,
        }
    }

    fn too_large(&self) -> HubError {
        HubError::TooLarge {
            repo: self.repo.to_owned(),
            file: self.file.to_owned(),
            most: self.most,
        }
    }
}

/// Whether the bytes are not the announced ones, so that going on from them is no use.
fn is_about_bytes(err: &HubError) -> bool {
    matches!(
        err,
        HubError::WrongSize { .. } | HubError::WrongDigest { .. } | HubError::TooLarge { .. }
    )
}

/// Whether the part that is given begins at this byte: `Content-Range: bytes 5-9/10`.
fn starts_at(reply: &Reply, start: u64) -> bool {
    let range = reply.header("content-range").unwrap_or_default();
    let first = range.trim().strip_prefix("bytes");
    let first = first.and_then(|it| it.trim_start().split('-').next());
    first.and_then(|it| it.trim().parse().ok()) == Some(start)
}

/// The bytes that have arrived, with their digest so far.
struct Partial {
    path: PathBuf,
    file: File,
    n_bytes: u64,
    digest: Digest,
    is_complete: bool,
    etag: String,
    size: Option<u64>,
}

impl Partial {
    /// Takes up what an earlier try left.
    fn open(path: PathBuf, remote: &RemoteFile) -> Result<Self, HubError> {
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(HubError::io(&path))?;
        let mut it = Self {
            digest: Digest::of(&remote.etag, remote.size),
            file,
            path,
            n_bytes: 0,
            is_complete: false,
            etag: remote.etag.clone(),
            size: remote.size,
        };
        let found = it.file.metadata().map_err(HubError::io(&it.path))?.len();
        // Without a size nobody can tell whether what is there is all.
        if remote.size.is_none_or(|size| size < found) {
            it.cut_to_nothing()?;
        } else {
            it.read_to_end()?;
        }
        it.is_complete = remote.size == Some(it.n_bytes);
        Ok(it)
    }

    fn read_to_end(&mut self) -> Result<(), HubError> {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let n = self
                .file
                .read(&mut buffer)
                .map_err(HubError::io(&self.path))?;
            if n == 0 {
                return Ok(());
            }
            self.digest.update(&buffer[..n]);
            self.n_bytes += n as u64;
        }
    }

    /// Forgets what has arrived.
    fn restart(&mut self) -> Result<(), HubError> {
        self.is_complete = false;
        if self.n_bytes == 0 {
            return Ok(());
        }
        self.cut_to_nothing()
    }

    fn cut_to_nothing(&mut self) -> Result<(), HubError> {
        self.n_bytes = 0;
        self.digest = Digest::of(&self.etag, self.size);
        let cut = self.file.set_len(0).and_then(|()| self.file.rewind());
        cut.map_err(HubError::io(&self.path))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), HubError> {
        self.file
            .write_all(bytes)
            .map_err(HubError::io(&self.path))?;
        self.digest.update(bytes);
        self.n_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Moves the file to its place, durably.
    fn become_blob(self, blob: &Path) -> Result<(), HubError> {
        self.file.sync_all().map_err(HubError::io(&self.path))?;
        drop(self.file);
        match std::fs::rename(&self.path, blob) {
            Ok(()) => {}
            // Another process was first and has the file open (Windows).
            Err(_) if blob.is_file() => {}
            Err(err) => return Err(HubError::io(blob)(err)),
        }
        if let Some(folder) = blob.parent().and_then(|it| File::open(it).ok()) {
            // A lost rename only means that the file is fetched again.
            folder.sync_all().ok();
        }
        Ok(())
    }
}

/// What an etag says about the bytes.
enum Digest {
    /// 64 hex digits: their SHA-256.
    Sha256(Sha256),
    /// 40 hex digits: the SHA-1 of the Git object, or on some mirrors of the bytes alone.
    Sha1 { object: Sha1, bytes: Sha1 },
    /// Anything else: nothing that could be checked.
    Unknown,
}

impl Digest {
    fn of(etag: &str, size: Option<u64>) -> Self {
        let is_hex = etag.bytes().all(|it| it.is_ascii_hexdigit());
        match (etag.len(), size) {
            (64, _) if is_hex => Self::Sha256(Sha256::new()),
            (40, Some(size)) if is_hex => Self::Sha1 {
                object: Sha1::new_with_prefix(format!("blob {size}\0")),
                bytes: Sha1::new(),
            },
            _ => Self::Unknown,
        }
    }

    fn update(&mut self, more: &[u8]) {
        match self {
            Self::Sha256(it) => it.update(more),
            Self::Sha1 { object, bytes } => {
                object.update(more);
                bytes.update(more);
            }
            Self::Unknown => {}
        }
    }

    /// The name of the digest and its value, if it is not the expected one.
    fn mismatch(&self, expected: &str) -> Option<(&'static str, String)> {
        let is_it = |found: &str| found.eq_ignore_ascii_case(expected);
        match self {
            Self::Sha256(it) => {
                let found = hex(&it.clone().finalize());
                (!is_it(&found)).then_some(("SHA-256", found))
            }
            Self::Sha1 { object, bytes } => {
                let found = hex(&object.clone().finalize());
                let is_known = is_it(&found) || is_it(&hex(&bytes.clone().finalize()));
                (!is_known).then_some(("Git object hash", found))
            }
            Self::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mismatch(etag: &str, bytes: &[u8]) -> Option<&'static str> {
        let mut digest = Digest::of(etag, Some(bytes.len() as u64));
        digest.update(bytes);
        digest.mismatch(etag).map(|(algorithm, _)| algorithm)
    }

    #[test]
    fn an_etag_is_held_against_the_bytes() {
        // `printf 'hello\n' | git hash-object --stdin`, `| sha1sum`, `| sha256sum`.
        let object = "ce013625030ba8dba906f756967f9e9ca394464a";
        let sha1 = "f572d396fae9206628714fb2ce00f72e94f2258f";
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        for etag in [object, sha1, sha256, "no-digest"] {
            assert_eq!(mismatch(etag, b"hello\n"), None, "{etag}");
        }
        assert_eq!(mismatch(object, b"hellO\n"), Some("Git object hash"));
        assert_eq!(mismatch(sha256, b"hellO\n"), Some("SHA-256"));
    }

    #[test]
    fn what_an_earlier_try_left_is_taken_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.incomplete");
        let remote = |size| RemoteFile {
            commit: String::new(),
            etag: "ce013625030ba8dba906f756967f9e9ca394464a".to_owned(),
            size,
        };
        let n_kept = |size| {
            std::fs::write(&path, b"hel").unwrap();
            Partial::open(path.clone(), &remote(size)).unwrap().n_bytes
        };
        assert_eq!((n_kept(Some(6)), n_kept(Some(2)), n_kept(None)), (3, 0, 0));
        std::fs::write(&path, b"hel").unwrap();
        let mut partial = Partial::open(path.clone(), &remote(Some(6))).unwrap();
        partial.append(b"lo\n").unwrap();
        assert_eq!(partial.digest.mismatch(&remote(None).etag), None);
        let blob = folder.path().join("blob");
        partial.become_blob(&blob).unwrap();
        assert_eq!(std::fs::read(&blob).unwrap(), b"hello\n");
        assert!(!path.exists());
    }
}
