//! Where the files that an experiment names may lie.
//!
//! An experiment file may come from a stranger's pull request. What it names must lie in the
//! folder of the file or below, or in a folder that the person at the command line allowed;
//! links are followed before that is decided. Limit: another process that exchanges a link
//! between the look and the read is not kept off.
//!
//! Reads no file, only where paths lead. Knows no other room.

use std::io;
use std::path::{Path, PathBuf};

/// Folders in which files may be read, with everything below them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// With all links followed.
    folders: Vec<PathBuf>,
}

/// Why a path may not be read.
#[derive(Debug)]
pub enum ReachError {
    /// Nothing is there, or the way to it cannot be followed.
    Missing(io::Error),
    /// It leads out of every folder.
    Outside(Outside),
}

/// A file that lies outside every allowed folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outside {
    /// Where it lies, with all links followed.
    pub path: PathBuf,
}

impl Reach {
    /// Reach over `folder`, an empty path being the working folder.
    ///
    /// # Errors
    ///
    /// What the system reports if there is no such folder.
    pub fn of(folder: &Path) -> io::Result<Self> {
        let mut reach = Self::default();
        reach.allow(folder)?;
        Ok(reach)
    }

    /// Adds `folder` and everything below it.
    ///
    /// # Errors
    ///
    /// What the system reports if there is no such folder.
    pub fn allow(&mut self, folder: &Path) -> io::Result<()> {
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        let whole = folder.canonicalize()?;
        if !whole.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        self.folders.push(whole);
        Ok(())
    }

    /// Where `path` leads, links followed.
    ///
    /// # Errors
    ///
    /// [`ReachError`] if it leads nowhere or outside.
    pub fn follow(&self, path: &Path) -> Result<PathBuf, ReachError> {
        let path = path.canonicalize().map_err(ReachError::Missing)?;
        if self.folders.iter().any(|it| path.starts_with(it)) {
            Ok(path)
        } else {
            Err(ReachError::Outside(Outside { path }))
        }
    }
}

impl Outside {
    /// The flag that would allow the file, to be pasted into a shell.
    pub fn flag(&self) -> String {
        let folder = if self.path.is_dir() {
            &self.path
        } else {
            self.path.parent().unwrap_or(&self.path)
        };
        let text = folder.display().to_string();
        let is_plain = |c: char| c.is_alphanumeric() || "-_./:\\".contains(c);
        let word = match (text.chars().all(is_plain), cfg!(windows)) {
            (true, _) => text,
            (false, true) => format!("\"{text}\""),
            (false, false) => format!("'{}'", text.replace('\'', r"'\''")),
        };
        format!("--allow-path {word}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_a_folder_or_below_is_in_reach() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("experiment");
        std::fs::create_dir_all(folder.join("data")).unwrap();
        std::fs::create_dir(scratch.path().join("experiment-2")).unwrap();
        for name in [
            "experiment/data/x.csv",
            "experiment-2/x.csv",
            "it's secret.csv",
        ] {
            std::fs::write(scratch.path().join(name), "x").unwrap();
        }
        let reach = Reach::of(&folder).unwrap();
        let whole = scratch.path().canonicalize().unwrap();
        for path in ["data/x.csv", "data/../data/x.csv", "."] {
            assert!(reach.follow(&folder.join(path)).is_ok(), "{path}");
        }
        for (path, leads_to) in [
            ("../it's secret.csv", "it's secret.csv"),
            // Begins with the same letters, and is another folder.
            ("../experiment-2/x.csv", "experiment-2/x.csv"),
            ("data/../../experiment-2", "experiment-2"),
        ] {
            let refused = reach.follow(&folder.join(path)).unwrap_err();
            let ReachError::Outside(outside) = refused else {
                panic!("{path}: {refused:?}")
            };
            assert_eq!(outside.path, whole.join(leads_to));
            let mut wider = reach.clone();
            wider.allow(&scratch.path().join("experiment-2")).unwrap();
            assert_eq!(
                wider.follow(&folder.join(path)).is_ok(),
                path.contains("experiment-2")
            );
        }
        assert!(matches!(
            reach.follow(&folder.join("none")),
            Err(ReachError::Missing(_))
        ));
        assert!(Reach::of(&folder.join("data/x.csv")).is_err(), "no folder");
    }

    #[cfg(unix)]
    #[test]
    fn the_flag_is_one_word_of_a_shell() {
        let outside = |path: &str| Outside { path: path.into() }.flag();
        assert_eq!(outside("/no/such/x.gguf"), "--allow-path /no/such");
        assert_eq!(
            outside("/it's $HOME/x.gguf"),
            r"--allow-path '/it'\''s $HOME'"
        );
    }
}
