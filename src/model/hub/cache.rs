//! The hub's cache on disk, in the layout of `huggingface_hub` 2.4 (`file_download.py`).
//!
//! ```text
//! .locks/models--OWNER--REPO/<etag>.lock
//! models--OWNER--REPO/blobs/<etag>                     a file's bytes
//! models--OWNER--REPO/snapshots/<commit>/<file>        a relative link to its blob
//! models--OWNER--REPO/refs/<revision>                  the commit of a branch or tag
//! models--OWNER--REPO/.no_exist/<commit>/<file>        the commit has no such file
//! models--OWNER--REPO/trees/<commit>.json              all files of the commit
//! ```
//!
//! What other tools wrote is read, and what is written here they can read; `trees` is only
//! read. A file appears whole or not at all, so that a reader needs no lock.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::HubError;

/// How long to wait before asking for a lock again.
const LOCK_PACE: Duration = Duration::from_millis(200);
/// Folders in folders of a snapshot that are looked into.
const MAX_DEPTH: usize = 8;
/// Largest listing that is read, in bytes.
const MAX_TREE_BYTES: u64 = 64 << 20;

/// The part of the cache that belongs to one repository.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    repo: PathBuf,
    locks: PathBuf,
}

/// Whether `text` is a full commit hash.
pub(super) fn is_commit(text: &str) -> bool {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == 40 && text.bytes().all(is_hex)
}

impl Cache {
    /// The part of `cache` for the repository `id`, which is `OWNER/REPO`.
    pub(super) fn of(cache: &Path, id: &str) -> Self {
        let name = format!("models--{}", id.replace('/', "--"));
        Self {
            locks: cache.join(".locks").join(&name),
            repo: cache.join(name),
        }
    }

    /// The folder of a commit's files.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.repo.join("snapshots").join(commit)
    }

    /// Where a file of a commit is, or would be.
    pub(super) fn pointer(&self, commit: &str, file: &str) -> PathBuf {
        file.split('/')
            .fold(self.snapshot(commit), |path, part| path.join(part))
    }

    /// Where the bytes with this etag are, or would be.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.repo.join("blobs").join(etag)
    }

    /// The commit that the revision is or had when it was last fetched.
    pub(super) fn commit_of(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let text = std::fs::read_to_string(self.reference(revision)).ok()?;
        Some(text.trim().to_owned()).filter(|it| is_commit(it))
    }

    fn reference(&self, revision: &str) -> PathBuf {
        revision
            .split('/')
            .fold(self.repo.join("refs"), |path, part| path.join(part))
    }

    /// Notes that the revision has this commit now.
    pub(super) fn write_reference(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        if is_commit(revision) || self.commit_of(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.reference(revision);
        let folder = path.parent().expect("it is below `refs`");
        let write = || -> io::Result<()> {
            std::fs::create_dir_all(folder)?;
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(commit.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(HubError::io(&path))
    }

    /// Whether it is known that the commit has no such file.
    pub(super) fn is_absent(&self, commit: &str, file: &str) -> bool {
        self.absence(commit, file).is_file()
    }

    fn absence(&self, commit: &str, file: &str) -> PathBuf {
        self.repo.join(".no_exist").join(commit).join(file)
    }

    /// Notes that the commit has no such file, a name without a slash.
    pub(super) fn write_absent(&self, commit: &str, file: &str) -> Result<(), HubError> {
        let path = self.absence(commit, file);
        let folder = path.parent().expect("it is below `.no_exist`");
        std::fs::create_dir_all(folder)
            .and_then(|()| File::create(&path).map(drop))
            .map_err(HubError::io(&path))
    }

    /// The names of the files that are here for the commit, with `/` between folders.
    pub(super) fn files(&self, commit: &str) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        collect(&self.snapshot(commit), "", MAX_DEPTH, &mut names);
        names
    }

    /// The names of all files of the commit, if another tool noted them.
    pub(super) fn tree(&self, commit: &str) -> Option<BTreeSet<String>> {
        let path = self.repo.join("trees").join(format!("{commit}.json"));
        if MAX_TREE_BYTES < std::fs::metadata(&path).ok()?.len() {
            return None;
        }
        let root: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
        if root["format_version"] != 1 {
            return None;
        }
        Some(root["files"].as_object()?.keys().cloned().collect())
    }

    /// Puts the blob into the commit's snapshot under the name `file`.
    pub(super) fn link(&self, commit: &str, file: &str, etag: &str) -> Result<PathBuf, HubError> {
        let (blob, pointer) = (self.blob(etag), self.pointer(commit, file));
        let folder = pointer.parent().expect("it is below `snapshots`");
        std::fs::create_dir_all(folder).map_err(HubError::io(folder))?;
        // From snapshots/<commit>/<folders>/ up to the repository.
        let n_up = 2 + file.matches('/').count();
        let target = PathBuf::from("../".repeat(n_up)).join("blobs").join(etag);
        let mut made = symlink(&target, &pointer);
        if made.is_err() && pointer.is_symlink() && !pointer.is_file() {
            // Leads nowhere: what it named was deleted.
            std::fs::remove_file(&pointer).map_err(HubError::io(&pointer))?;
            made = symlink(&target, &pointer);
        }
        if made.is_err() && !pointer.is_file() {
            copy(&blob, &pointer).map_err(HubError::io(&pointer))?;
        }
        Ok(pointer)
    }

    /// Waits until this process alone may write the blob; `waiting` is called meanwhile.
    ///
    /// `None` where the file system has no locks: then the caller shares nothing.
    pub(super) fn lock(
        &self,
        etag: &str,
        waiting: &mut dyn FnMut(),
    ) -> Result<Option<File>, HubError> {
        let path = self.locks.join(format!("{etag}.lock"));
        std::fs::create_dir_all(&self.locks).map_err(HubError::io(&self.locks))?;
        loop {
            let file = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .map_err(HubError::io(&path))?;
            match file.try_lock() {
                // Another tool may delete the file when it lets go of it.
                Ok(()) if is_at(&file, &path) => return Ok(Some(file)),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    waiting();
                    std::thread::sleep(LOCK_PACE);
                }
                Err(TryLockError::Error(err)) if err.kind() == ErrorKind::Unsupported => {
                    return Ok(None);
                }
                Err(TryLockError::Error(err)) => return Err(HubError::io(&path)(err)),
            }
        }
    }
}

/// Whether the open file is still the one at the path.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let place = |it: io::Result<std::fs::Metadata>| it.ok().map(|it| (it.dev(), it.ino()));
    place(file.metadata()) == place(std::fs::metadata(path))
}

/// Elsewhere an open file cannot be deleted.
#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.is_file()
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
}

#[cfg(not(any(unix, windows)))]
fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// Copies by way of a temporary file beside the copy.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let folder = to.parent().ok_or(ErrorKind::InvalidInput)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    io::copy(&mut File::open(from)?, &mut file)?;
    file.as_file().sync_all()?;
    file.persist(to)?;
    Ok(())
}

fn collect(folder: &Path, prefix: &str, depth: usize, names: &mut BTreeSet<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let (path, name) = (entry.path(), format!("{prefix}{name}"));
        if path.is_file() {
            names.insert(name);
        } else if path.is_dir() && 0 < depth {
            collect(&path, &format!("{name}/"), depth - 1, names);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn a_commit_is_forty_small_hex_digits() {
        assert!(is_commit(COMMIT));
        for it in [&COMMIT[1..], &COMMIT.to_uppercase(), "main", ""] {
            assert!(!is_commit(it), "{it}");
        }
    }

    #[test]
    fn a_reference_says_what_a_revision_was() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::of(folder.path(), "o/r");
        assert_eq!(cache.commit_of("refs/pr/1"), None);
        cache.write_reference("refs/pr/1", COMMIT).unwrap();
        assert_eq!(cache.commit_of("refs/pr/1").unwrap(), COMMIT);
        let path = folder.path().join("models--o--r/refs/refs/pr/1");
        // Without a line break: other tools take the file's whole text.
        assert_eq!(std::fs::read_to_string(&path).unwrap(), COMMIT);
        std::fs::write(&path, "../../x").unwrap();
        assert_eq!(cache.commit_of("refs/pr/1"), None);
        cache.write_reference(COMMIT, COMMIT).unwrap();
        assert!(!path.with_file_name(COMMIT).exists());
    }

    #[test]
    fn a_link_leads_to_the_blob_and_is_mended() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::of(folder.path(), "o/r");
        let blob = cache.blob("e1");
        std::fs::create_dir_all(blob.parent().unwrap()).unwrap();
        for file in ["a.json", "q/deep/a.gguf"] {
            std::fs::write(&blob, b"bytes").unwrap();
            let pointer = cache.link(COMMIT, file, "e1").unwrap();
            assert_eq!(std::fs::read(&pointer).unwrap(), b"bytes");
            assert_eq!(cache.link(COMMIT, file, "e1").unwrap(), pointer);
            // Leads nowhere until another blob is there.
            std::fs::remove_file(&blob).unwrap();
            std::fs::write(cache.blob("e2"), b"other").unwrap();
            let mended = cache.link(COMMIT, file, "e2").unwrap();
            if pointer.is_symlink() {
                assert_eq!(std::fs::read(&mended).unwrap(), b"other");
            }
        }
        let names: Vec<String> = cache.files(COMMIT).into_iter().collect();
        assert_eq!(names, ["a.json", "q/deep/a.gguf"]);
    }

    #[test]
    fn one_at_a_time_holds_a_lock() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::of(folder.path(), "o/r");
        let held = cache.lock("e", &mut || {}).unwrap();
        let (waits, waited) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                let tell = &mut || waits.send(()).unwrap();
                cache.lock("e", tell).unwrap().is_some()
            });
            waited.recv().unwrap();
            drop(held);
            assert!(other.join().unwrap());
        });
    }
}
