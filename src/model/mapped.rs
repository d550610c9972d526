//! Files mapped into memory for reading.
//!
//! The only place in the crate that maps files: everything else sees `&[u8]`. Only regular files are mapped, so a
//! pipe or a device can neither block nor feed endless bytes.
//!
//! Limit: a file that another program shortens or rewrites while it is mapped is
//! outside what a mapping can promise (on Unix the process receives SIGBUS). A
//! [`FileStamp`] taken when a digest is computed tells later whether the file at that
//! path is still the same one, unwritten.

use std::fs::File;
use std::io::Read as _;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Why a file could not be mapped.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The file cannot be opened, read or mapped.
    #[error("cannot read `{}`", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A folder, pipe, device or socket stands where a file was expected.
    #[error("`{}` is not a regular file", .path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file has no bytes.
    #[error("`{}` is empty", .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// What tells a file from a later one at the same path, and from itself after a write.
///
/// On Unix that is device, inode, length and the time of the last change, which no program can
/// set back; elsewhere length and the time of the last write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStamp {
    path: PathBuf,
    length: u64,
    modified: Option<SystemTime>,
    /// Device, inode, and seconds and nanoseconds of the last change; zeros where there are none.
    identity: [i128; 4],
}

impl FileStamp {
    fn of(path: &Path, metadata: &std::fs::Metadata) -> Self {
        Self {
            path: path.to_owned(),
            length: metadata.len(),
            modified: metadata.modified().ok(),
            identity: identity(metadata),
        }
    }

    /// The path the file was opened under.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file at that path is still the one that was opened, and nobody wrote to it.
    pub fn is_current(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|now| *self == Self::of(&self.path, &now))
    }
}

#[cfg(unix)]
fn identity(metadata: &std::fs::Metadata) -> [i128; 4] {
    use std::os::unix::fs::MetadataExt as _;
    [
        metadata.dev().into(),
        metadata.ino().into(),
        metadata.ctime().into(),
        metadata.ctime_nsec().into(),
    ]
}

#[cfg(not(unix))]
fn identity(_: &std::fs::Metadata) -> [i128; 4] {
    [0; 4]
}

/// A regular file mapped read-only; dereferences to its bytes.
#[derive(Debug)]
pub struct MappedFile {
    stamp: FileStamp,
    map: memmap2::Mmap,
}

impl MappedFile {
    /// Maps the file at `path`.
    ///
    /// # Errors
    ///
    /// [`MapError`] if there is no such file, it is not a regular file, or it is empty.
    #[expect(
        unsafe_code,
        reason = "a mapping is only sound while nobody shortens the file"
    )]
    pub fn open(path: &Path) -> Result<Self, MapError> {
        let io = |source| MapError::Io {
            path: path.to_owned(),
            source,
        };
        // Asked before opening: opening a pipe without a writer would block.
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(MapError::NotAFile {
                path: path.to_owned(),
            });
        }
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if metadata.len() == 0 {
            return Err(MapError::Empty {
                path: path.to_owned(),
            });
        }
        // SAFETY: the mapping is private to this struct, read-only, and lives as long as
        // the slices handed out; the header of this module states what is not promised.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(io)?;
        Ok(Self {
            stamp: FileStamp::of(path, &metadata),
            map,
        })
    }

    /// The path the file was opened under.
    pub fn path(&self) -> &Path {
        self.stamp.path()
    }

    /// What tells this file from a later one.
    pub fn stamp(&self) -> &FileStamp {
        &self.stamp
    }
}

/// The first bytes of the file at `path`, at most `n`, read without mapping it.
///
/// # Errors
///
/// [`MapError`] if it is not a regular file or cannot be read.
pub(super) fn start(path: &Path, n: usize) -> Result<Vec<u8>, MapError> {
    let io = |source| MapError::Io {
        path: path.to_owned(),
        source,
    };
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        return Err(MapError::NotAFile {
            path: path.to_owned(),
        });
    }
    let mut start = Vec::with_capacity(n);
    let file = File::open(path).map_err(io)?;
    file.take(n as u64).read_to_end(&mut start).map_err(io)?;
    Ok(start)
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_file_is_its_bytes_and_notices_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, b"weights").unwrap();
        let mapped = MappedFile::open(&path).unwrap();
        assert_eq!(&mapped[..], b"weights");
        assert!(mapped.stamp().is_current());
        // A longer file leaves the mapped pages valid; only the claim changes.
        std::fs::write(folder.path().join("b"), b"other weights").unwrap();
        std::fs::rename(folder.path().join("b"), &path).unwrap();
        assert!(!mapped.stamp().is_current());
    }

    /// Same length, and the time of the last write put back: some tools do that.
    #[cfg(unix)]
    #[test]
    fn a_write_in_place_is_noticed_by_its_time_of_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, b"weights").unwrap();
        let stamp = MappedFile::open(&path).unwrap().stamp().clone();
        let written = std::fs::metadata(&path).unwrap().modified().unwrap();
        // Times of change move in ticks of the kernel's clock.
        std::thread::sleep(std::time::Duration::from_millis(20));
        std::fs::write(&path, b"changed").unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(written).unwrap();
        assert!(!stamp.is_current());
    }

    #[test]
    fn what_is_no_file_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(
            MappedFile::open(folder.path()),
            Err(MapError::NotAFile { .. })
        ));
        assert!(matches!(
            MappedFile::open(&folder.path().join("none")),
            Err(MapError::Io { .. })
        ));
        let empty = folder.path().join("empty");
        std::fs::write(&empty, b"").unwrap();
        assert!(matches!(
            MappedFile::open(&empty),
            Err(MapError::Empty { .. })
        ));
    }
}
