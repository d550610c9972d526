//! Files that are either the old or the new, never half of one.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A file that is being written beside its place.
///
/// Dropped, it is gone, and what was there before is still there.
#[derive(Debug)]
pub(super) struct Replacement {
    path: PathBuf,
    folder: PathBuf,
    file: NamedTempFile,
}

impl Replacement {
    /// Begins to write what will be `path`.
    pub(super) fn begin(path: &Path) -> io::Result<Self> {
        let folder = path
            .parent()
            .filter(|it| !it.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        builder.prefix(".").suffix(".partial");
        // A temporary file is for its owner alone by default, but this one will be renamed to what
        // others may read as far as the umask lets them.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        Ok(Self {
            path: path.to_owned(),
            folder: folder.to_owned(),
            file: builder.tempfile_in(folder)?,
        })
    }

    /// Where to write; whoever does flushes at the end.
    pub(super) fn writer(&self) -> io::Result<BufWriter<File>> {
        self.file.as_file().try_clone().map(BufWriter::new)
    }

    /// Puts what was written into its place: synced, renamed, the folder synced.
    pub(super) fn commit(self) -> io::Result<()> {
        self.file.as_file().sync_all()?;
        self.file.persist(&self.path).map_err(|it| it.error)?;
        sync_folder(&self.folder)
    }
}

/// Writes `path` through `write`: beside its place, synced, renamed, the folder synced.
///
/// If anything fails, the file that was there before is still there.
pub(super) fn replace(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let replacement = Replacement::begin(path)?;
    let mut buffered = replacement.writer()?;
    write(&mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    replacement.commit()
}

/// A rename lasts once its folder is on the disk. Windows has no such thing to sync.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
#[expect(
    clippy::unnecessary_wraps,
    reason = "has the signature of the other form"
)]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_fails_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        replace(&path, |it| it.write_all(b"old")).unwrap();
        let failed = replace(&path, |it| {
            it.write_all(b"new and long")?;
            Err(io::Error::other("disk full"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "disk full");
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            1,
            "nothing is left over"
        );
        replace(&path, |it| it.write_all(b"new")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_what_the_umask_lets_them() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        replace(&ours, |it| it.write_all(b"x")).unwrap();
        std::fs::write(&plain, b"x").unwrap();
        let mode = |path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }
}
