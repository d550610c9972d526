//! Files of weights, read piece by piece.
//!
//! Nothing is mapped into memory: where another program cuts a mapped file short, looking at it
//! ends the process with a signal, while reading it is an error with the file's name. Only
//! regular files are opened, so a pipe or a device can neither block nor feed endless bytes.
//!
//! Limit: what another program writes into the file meanwhile is read as it comes. A
//! [`FileStamp`] taken when a digest is computed tells later whether the file at that path is
//! still the same one, unwritten.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rayon::prelude::*;

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be opened or read.
    #[error("cannot read `{}`", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
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
    /// Another program cut the file short after it was opened.
    #[error("`{}` was cut short while it was read", .path.display())]
    Cut {
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

/// Bytes that one thread reads at once: few enough to be in its cache when they are hashed.
const PIECE: usize = 1 << 20;

/// An open regular file with bytes in it.
#[derive(Debug)]
pub struct WeightsFile {
    stamp: FileStamp,
    file: File,
}

impl WeightsFile {
    /// Opens the file at `path`.
    ///
    /// # Errors
    ///
    /// [`FileError`] if there is no such file, it is not a regular file, or it is empty.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let io = |source| FileError::Io {
            path: path.to_owned(),
            source,
        };
        // Asked before opening: opening a pipe without a writer would block.
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(FileError::NotAFile {
                path: path.to_owned(),
            });
        }
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if metadata.len() == 0 {
            return Err(FileError::Empty {
                path: path.to_owned(),
            });
        }
        Ok(Self {
            stamp: FileStamp::of(path, &metadata),
            file,
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

    /// Bytes in the file when it was opened.
    pub fn n_bytes(&self) -> u64 {
        self.stamp.length
    }

    /// Reads bytes from `start` on until `buffer` is full.
    ///
    /// # Errors
    ///
    /// [`FileError`] if the file ends before that, or cannot be read.
    pub fn read(&self, start: u64, buffer: &mut [u8]) -> Result<(), FileError> {
        let mut done = 0;
        while done < buffer.len() {
            match read_at(&self.file, &mut buffer[done..], start + done as u64) {
                Ok(0) => {
                    let path = self.path().to_owned();
                    return Err(FileError::Cut { path });
                }
                Ok(n) => done += n,
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(source) => {
                    let path = self.path().to_owned();
                    return Err(FileError::Io { path, source });
                }
            }
        }
        Ok(())
    }

    /// The first bytes of the file, `n` or as many as it has.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub fn first(&self, n: u64) -> Result<Vec<u8>, FileError> {
        let mut bytes = vec![0; n.min(self.n_bytes()) as usize];
        self.read(0, &mut bytes)?;
        Ok(bytes)
    }

    /// Hands on the whole file, a piece at a time and in order.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub fn each_piece(&self, mut take: impl FnMut(&[u8])) -> Result<(), FileError> {
        let n = self.n_bytes();
        let room = (PIECE * rayon::current_num_threads()) as u64;
        let mut buffer = vec![0; room.min(n) as usize];
        let mut start = 0;
        while start < n {
            let length = room.min(n - start) as usize;
            let pieces = buffer[..length].par_chunks_mut(PIECE).enumerate();
            pieces.try_for_each(|(i, piece)| self.read(start + (i * PIECE) as u64, piece))?;
            take(&buffer[..length]);
            start += length as u64;
        }
        Ok(())
    }

    /// The BLAKE3 digest of the whole file.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub fn digest(&self) -> Result<blake3::Hash, FileError> {
        let mut hasher = blake3::Hasher::new();
        self.each_piece(|bytes| {
            hasher.update_rayon(bytes);
        })?;
        Ok(hasher.finalize())
    }
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], start: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, start)
}

#[cfg(windows)]
fn read_at(file: &File, buffer: &mut [u8], start: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(path: &Path) -> blake3::Hash {
        WeightsFile::open(path).unwrap().digest().unwrap()
    }

    #[test]
    fn a_file_is_read_in_pieces_and_notices_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        // A few pieces for each thread, and a bit.
        let n = 3 * PIECE * rayon::current_num_threads() + 17;
        let bytes: Vec<u8> = (0..n).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let file = WeightsFile::open(&path).unwrap();
        assert_eq!(file.n_bytes(), n as u64);
        assert_eq!(file.first(5).unwrap(), [0, 1, 2, 3, 4]);
        assert_eq!(file.first(u64::MAX).unwrap(), bytes);
        let mut some = [0; 9];
        file.read(n as u64 - 9, &mut some).unwrap();
        assert_eq!(some, bytes[n - 9..]);
        assert_eq!(file.digest().unwrap(), blake3::hash(&bytes));
        assert!(file.stamp().is_current());
        std::fs::write(folder.path().join("b"), b"other weights").unwrap();
        std::fs::rename(folder.path().join("b"), &path).unwrap();
        assert!(!file.stamp().is_current());
        assert_eq!(digest(&path), blake3::hash(b"other weights"));
    }

    /// A mapping would end the process.
    #[test]
    fn a_file_that_is_cut_short_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, vec![1; 3 * PIECE]).unwrap();
        let file = WeightsFile::open(&path).unwrap();
        let writer = File::options().write(true).open(&path).unwrap();
        writer.set_len(2 * PIECE as u64 + 5).unwrap();
        file.read(2 * PIECE as u64, &mut [0; 5]).unwrap();
        for cut in [
            file.read(2 * PIECE as u64, &mut [0; 6]),
            file.first(3 * PIECE as u64).map(drop),
            file.digest().map(drop),
        ] {
            assert!(matches!(cut, Err(FileError::Cut { .. })), "{cut:?}");
        }
        assert!(!file.stamp().is_current());
    }

    /// Same length, and the time of the last write put back: some tools do that.
    #[cfg(unix)]
    #[test]
    fn a_write_in_place_is_noticed_by_its_time_of_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, b"weights").unwrap();
        let stamp = WeightsFile::open(&path).unwrap().stamp().clone();
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
            WeightsFile::open(folder.path()),
            Err(FileError::NotAFile { .. })
        ));
        assert!(matches!(
            WeightsFile::open(&folder.path().join("none")),
            Err(FileError::Io { .. })
        ));
        let empty = folder.path().join("empty");
        std::fs::write(&empty, b"").unwrap();
        assert!(matches!(
            WeightsFile::open(&empty),
            Err(FileError::Empty { .. })
        ));
    }
}
