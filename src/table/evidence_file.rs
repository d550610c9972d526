//! `evidence.json`: what a later comparison needs of a finished run.
//!
//! Reading promises that what comes back is what was written, to the bit, or an error that says
//! which file is wrong, how, and what to do; no content of a file leads to a panic.

use std::borrow::Cow;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use crate::compare::{Evidence, EvidenceError};

use super::evidence_text::{self, Document, EVIDENCE_VERSION, TextError};
use super::file;

/// The name of the evidence in the folder of a run.
pub const EVIDENCE: &str = "evidence.json";

/// The largest file that is read: a million examples of 8 variants need half of it. It is read as a
/// stream; what is kept takes about a third of its bytes.
const MAX_BYTES: u64 = 8 << 30;

/// Why evidence, of a run or a baseline, could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceFileError {
    /// The evidence does not fit together, so nothing was written.
    #[error("`{}` was not written", .path.display())]
    Unsound {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: EvidenceError,
    },
    /// The system refused to write.
    #[error("cannot write `{}`", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system reported.
        source: std::io::Error,
    },
    /// The system refused to read.
    #[error("cannot read `{}`", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system reported.
        source: std::io::Error,
    },
    /// The file is not there.
    #[error("there is no `{}`", .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file is larger than any that harness writes.
    #[error("`{}` is larger than {} MiB, which no evidence is", .path.display(), MAX_BYTES >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is something else.
    #[error("`{}` is not {expected} written by harness", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it should be, with its article.
        expected: &'static str,
    },
    /// Another version of harness wrote the file.
    #[error(
        "`{}` has schema version `{found}`, this harness reads {EVIDENCE_VERSION}", .path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: String,
    },
    /// The end of the file is missing.
    #[error("`{}` ends before its last line", .path.display())]
    Cut {
        /// The file.
        path: PathBuf,
    },
    /// The file is not what its digest says.
    #[error("`{}` was changed after harness wrote it: its digest does not match", .path.display())]
    Edited {
        /// The file.
        path: PathBuf,
    },
    /// The file's parts do not fit together.
    #[error("`{}` is damaged: {reason}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
}

impl EvidenceFileError {
    /// What to try, if there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unsound { .. } => Some("this is a mistake in harness; please report it"),
            Self::Write { .. } => {
                Some("free space or fix the permissions, then run again: answers are kept")
            }
            Self::Read { .. } => None,
            Self::Version { .. } => {
                Some("read it with the harness that wrote it, or run again: answers are kept")
            }
            Self::Missing { .. }
            | Self::TooLarge { .. }
            | Self::Foreign { .. }
            | Self::Cut { .. }
            | Self::Edited { .. }
            | Self::Damaged { .. } => Some(
                "run the experiment again, which computes nothing twice, or restore the file from \
                 version control",
            ),
        }
    }
}

/// Writes the evidence of a run into its `folder` and says where it is.
///
/// # Errors
///
/// [`EvidenceFileError`] if the evidence is unsound or the disk refuses; an older file is then
/// still there.
pub fn write_evidence(folder: &Path, evidence: &Evidence) -> Result<PathBuf, EvidenceFileError> {
    let path = folder.join(EVIDENCE);
    let document = Document {
        kind: "evidence".to_owned(),
        name: String::new(),
        saved_at: String::new(),
        replaced: None,
        evidence: Cow::Borrowed(evidence),
        anchor: None,
    };
    write(&path, &document)?;
    Ok(path)
}

/// Reads the evidence of the run in `folder`.
///
/// # Errors
///
/// [`EvidenceFileError`] saying what is wrong with the file.
pub fn read_evidence(folder: &Path) -> Result<Evidence, EvidenceFileError> {
    let path = folder.join(EVIDENCE);
    let (document, _) = read(&path, "evidence")?;
    Ok(document.evidence.into_owned())
}

/// Writes a document and returns the digest in its last line.
pub(super) fn write(path: &Path, document: &Document<'_>) -> Result<String, EvidenceFileError> {
    evidence_text::check(document).map_err(|source| EvidenceFileError::Unsound {
        path: path.to_owned(),
        source,
    })?;
    let mut digest = String::new();
    let written = file::replace(path, |it| {
        digest = evidence_text::encode(document, it)?;
        Ok(())
    });
    written.map_err(|source| EvidenceFileError::Write {
        path: path.to_owned(),
        source,
    })?;
    Ok(digest)
}

/// Reads a document of that kind and the digest in its last line.
pub(super) fn read(
    path: &Path,
    kind: &'static str,
) -> Result<(Document<'static>, String), EvidenceFileError> {
    let owned = || path.to_owned();
    let refuse = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => EvidenceFileError::Missing { path: owned() },
        _ => EvidenceFileError::Read {
            path: owned(),
            source,
        },
    };
    let opened = std::fs::File::open(path).map_err(refuse)?;
    if MAX_BYTES < opened.metadata().map_err(refuse)?.len() {
        return Err(EvidenceFileError::TooLarge { path: owned() });
    }
    let expected = match kind {
        "baseline" => "a baseline",
        _ => "the evidence of a run",
    };
    let foreign = || EvidenceFileError::Foreign {
        path: owned(),
        expected,
    };
    let decoded = evidence_text::decode(&mut BufReader::new(opened));
    let (document, digest) = decoded.map_err(|error| match error {
        TextError::Io(source) => refuse(source),
        TextError::Foreign => foreign(),
        TextError::Version(found) => EvidenceFileError::Version {
            path: owned(),
            found,
        },
        TextError::Cut => EvidenceFileError::Cut { path: owned() },
        TextError::Edited => EvidenceFileError::Edited { path: owned() },
        TextError::Damaged(reason) => EvidenceFileError::Damaged {
            path: owned(),
            reason,
        },
    })?;
    if document.kind != kind {
        return Err(foreign());
    }
    Ok((document, digest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::sketch;

    #[test]
    fn evidence_is_written_beside_its_place_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let evidence = sketch::run("a", 3, [0.0, 0.0]);
        let path = write_evidence(folder.path(), &evidence).unwrap();
        assert_eq!(path, folder.path().join("evidence.json"));
        assert_eq!(read_evidence(folder.path()).unwrap(), evidence);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_used_says_why_and_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(EVIDENCE);
        let message = || {
            let error = read_evidence(folder.path()).unwrap_err();
            let text = error.to_string();
            assert!(text.contains("evidence.json"), "{text}");
            assert!(error.hint().is_some(), "{text}");
            text
        };
        assert!(message().starts_with("there is no"));
        let evidence = sketch::run("a", 3, [0.0, 0.0]);
        write_evidence(folder.path(), &evidence).unwrap();
        let whole = std::fs::read_to_string(&path).unwrap();
        let table: [(Vec<u8>, &str); 5] = [
            (b"PAR1".to_vec(), "is not the evidence of a run"),
            (vec![0xff; 9], "is not the evidence of a run"),
            (
                whole.as_bytes()[..whole.len() / 2].to_vec(),
                "ends before its last line",
            ),
            (
                whole.replace("true", "false").into_bytes(),
                "its digest does not match",
            ),
            (
                whole.replacen(": 1,", ": 7,", 1).into_bytes(),
                "has schema version `7`, this harness reads 1",
            ),
        ];
        for (content, expected) in table {
            std::fs::write(&path, content).unwrap();
            let text = message();
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn unsound_evidence_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let evidence = sketch::run("a", 3, [0.0, 0.0]);
        write_evidence(folder.path(), &evidence).unwrap();
        let mut unsound = evidence.clone();
        unsound.cells.pop();
        let error = write_evidence(folder.path(), &unsound).unwrap_err();
        assert!(matches!(error, EvidenceFileError::Unsound { .. }));
        assert_eq!(read_evidence(folder.path()).unwrap(), evidence);
    }
}
