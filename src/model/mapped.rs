//! Files mapped into memory for reading.
//!
//! The only place in the crate that maps files, and so the only one that needs
//! `unsafe`: everything else sees `&[u8]`. Only regular files are mapped, so a
//! pipe or a device can neither block nor feed endless bytes.
//!
//! Limit: a file that another program shortens or rewrites while it is mapped is
//! outside what a mapping can promise (on Unix the process receives SIGBUS). The
//! model digest is computed from the same file, and [`MappedFile::is_unchanged`]
//! tells afterwards whether length or modification time moved.

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

/// A regular file mapped read-only; dereferences to its bytes.
#[derive(Debug)]
pub struct MappedFile {
    path: PathBuf,
    modified: Option<SystemTime>,
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
            path: path.to_owned(),
            modified: metadata.modified().ok(),
            map,
        })
    }

    /// The path the file was opened under.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether length and modification time are still those of when it was mapped.
    pub fn is_unchanged(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|now| {
            now.len() == self.map.len() as u64 && now.modified().ok() == self.modified
        })
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
        assert!(mapped.is_unchanged());
        // A longer file leaves the mapped pages valid; only the claim changes.
        std::fs::write(folder.path().join("b"), b"other weights").unwrap();
        std::fs::rename(folder.path().join("b"), &path).unwrap();
        assert!(!mapped.is_unchanged());
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
