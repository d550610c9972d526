//! Baselines: the evidence of a run, kept under a name to hold later runs against.
//!
//! A baseline remembers the one it replaced, by run and digest, and carries the evidence of the
//! first of its line, the anchor: ten tolerable drops are not tolerable, and a paired comparison
//! with the anchor needs its values example by example. The files lie in
//! `baselines/<experiment>/<name>.json` under the results and are meant to be committed.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::compare::Evidence;

use super::evidence_file::{self, EvidenceFileError};
use super::evidence_text::Document;

/// The folder of baselines under the results.
const FOLDER: &str = "baselines";

/// The evidence of a run under a name.
#[derive(Debug, Clone, PartialEq)]
pub struct Baseline {
    /// Its name.
    pub name: String,
    /// When it was saved, RFC 3339 in UTC.
    pub saved_at: String,
    /// The baseline of that name that it replaced.
    pub replaced: Option<ReplacedBaseline>,
    /// The run.
    pub evidence: Evidence,
    /// The first of its line; `None` where that is this one.
    pub anchor: Option<Evidence>,
    /// The digest in its file's last line.
    pub digest: String,
}

/// A baseline that another one replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplacedBaseline {
    /// Its run.
    pub run: String,
    /// The digest in its file's last line.
    pub digest: String,
}

/// What a baseline that is saved has to do with the one of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// It follows it, and keeps its anchor.
    Continue,
    /// It replaces it and is an anchor itself, as after a change of model or dataset.
    New,
}

/// A baseline's place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BaselineId {
    /// Its experiment.
    pub experiment: String,
    /// Its name.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
}

/// Why a baseline could not be saved, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// The name cannot be that of a file everywhere.
    #[error("`{name}` cannot name {what}")]
    Name {
        /// The name.
        name: String,
        /// What it should name, with its article.
        what: &'static str,
    },
    /// There is no such baseline.
    #[error("experiment `{experiment}` has no baseline `{name}`{}", listed(.known))]
    Unknown {
        /// The experiment.
        experiment: String,
        /// The name.
        name: String,
        /// The experiment's baselines.
        known: Vec<String>,
    },
    /// The run is not finished.
    #[error("run `{run}` is not finished")]
    Unfinished {
        /// The run.
        run: String,
    },
    /// The file cannot be written or read.
    #[error(transparent)]
    File(#[from] EvidenceFileError),
    /// The system refused.
    #[error("cannot {what} `{}`", .path.display())]
    Folder {
        /// `list`, `make` or `remove`.
        what: &'static str,
        /// The folder or file.
        path: PathBuf,
        /// What the system reported.
        source: std::io::Error,
    },
}

impl BaselineError {
    /// What to try, if there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Name { .. } => Some(
                "use small letters, digits, `.`, `_` and `-`, at most 64, a letter or digit first",
            ),
            Self::Unknown { .. } => {
                Some("`harness baseline save NAME` saves the latest run as one")
            }
            Self::Unfinished { .. } => Some("the same `harness run` resumes it"),
            Self::File(error) => error.hint(),
            Self::Folder { .. } => None,
        }
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        return "; it has none".to_owned();
    }
    format!("; it has `{}`", names.join("`, `"))
}

impl Baseline {
    /// The first of its line: itself, if nothing came before.
    pub fn anchor(&self) -> &Evidence {
        self.anchor.as_ref().unwrap_or(&self.evidence)
    }
}

/// Where the baseline of an experiment lies under the results.
///
/// # Errors
///
/// [`BaselineError::Name`] for a name that could lead elsewhere.
pub fn baseline_path(
    results: &Path,
    experiment: &str,
    name: &str,
) -> Result<PathBuf, BaselineError> {
    let folder = results
        .join(FOLDER)
        .join(slug(experiment, "an experiment")?);
    Ok(folder.join(format!("{}.json", slug(name, "a baseline")?)))
}

/// A name as the experiment file demands it of an experiment.
fn slug<'a>(name: &'a str, what: &'static str) -> Result<&'a str, BaselineError> {
    let is_plain = |it: &u8| it.is_ascii_lowercase() || it.is_ascii_digit();
    let is_slug = name.len() <= 64
        && name.as_bytes().first().is_some_and(is_plain)
        && name
            .bytes()
            .all(|it| is_plain(&it) || matches!(it, b'.' | b'_' | b'-'));
    is_slug.then_some(name).ok_or_else(|| BaselineError::Name {
        name: name.chars().take(80).collect(),
        what,
    })
}

/// Saves the evidence of a finished run as its experiment's baseline `name`; `saved_at` is the
/// time, RFC 3339 in UTC.
///
/// A baseline of that name is replaced, and remembered as [`Baseline::replaced`]; saving the run
/// it already holds changes nothing but the time.
///
/// # Errors
///
/// [`BaselineError`]; with [`Line::Continue`] also if the one to be replaced cannot be read,
/// since its anchor would be lost. What was there before is then still there.
pub fn save_baseline(
    results: &Path,
    name: &str,
    evidence: &Evidence,
    saved_at: &str,
    line: Line,
) -> Result<(PathBuf, Baseline), BaselineError> {
    if !evidence.is_finished {
        return Err(BaselineError::Unfinished {
            run: evidence.run.clone(),
        });
    }
    let path = baseline_path(results, &evidence.experiment, name)?;
    let previous = match read_path(&path) {
        Ok(previous) => Some(previous),
        Err(EvidenceFileError::Missing { .. }) => None,
        Err(_) if line == Line::New => None,
        Err(error) => return Err(error.into()),
    };
    let (replaced, anchor) = match previous {
        None => (None, None),
        Some(it) if it.evidence.run == evidence.run && line == Line::Continue => {
            (it.replaced, it.anchor)
        }
        Some(it) => {
            let replaced = ReplacedBaseline {
                run: it.evidence.run.clone(),
                digest: it.digest,
            };
            let anchor = match line {
                Line::Continue => Some(it.anchor.unwrap_or(it.evidence)),
                Line::New => None,
            };
            (Some(replaced), anchor)
        }
    };
    let folder = path.parent().unwrap_or(results);
    std::fs::create_dir_all(folder).map_err(|source| BaselineError::Folder {
        what: "make",
        path: folder.to_owned(),
        source,
    })?;
    let document = Document {
        kind: KIND.to_owned(),
        name: name.to_owned(),
        saved_at: saved_at.to_owned(),
        replaced: replaced
            .as_ref()
            .map(|it| (it.run.clone(), it.digest.clone())),
        evidence: Cow::Borrowed(evidence),
        anchor,
    };
    let digest = evidence_file::write(&path, &document)?;
    Ok((path, of_document(document, digest)))
}

/// The kind of document that a baseline is.
const KIND: &str = "baseline";

fn of_document(document: Document<'_>, digest: String) -> Baseline {
    Baseline {
        name: document.name,
        saved_at: document.saved_at,
        replaced: document
            .replaced
            .map(|(run, digest)| ReplacedBaseline { run, digest }),
        evidence: document.evidence.into_owned(),
        anchor: document.anchor,
        digest,
    }
}

fn read_path(path: &Path) -> Result<Baseline, EvidenceFileError> {
    let (document, digest) = evidence_file::read(path, KIND)?;
    Ok(of_document(document, digest))
}

/// Reads the baseline `name` of an experiment.
///
/// # Errors
///
/// [`BaselineError::Unknown`] with the baselines that there are, or what is wrong with the file.
pub fn read_baseline(
    results: &Path,
    experiment: &str,
    name: &str,
) -> Result<Baseline, BaselineError> {
    let path = baseline_path(results, experiment, name)?;
    match read_path(&path) {
        Err(EvidenceFileError::Missing { .. }) => Err(unknown(results, experiment, name)),
        other => Ok(other?),
    }
}

fn unknown(results: &Path, experiment: &str, name: &str) -> BaselineError {
    let known = list_baselines(results, Some(experiment)).unwrap_or_default();
    BaselineError::Unknown {
        experiment: experiment.to_owned(),
        name: name.to_owned(),
        known: known.into_iter().map(|it| it.name).collect(),
    }
}

/// All baselines under the results, by experiment and name; of all experiments, or of one.
///
/// # Errors
///
/// [`BaselineError::Folder`] if a folder exists and cannot be read.
pub fn list_baselines(
    results: &Path,
    experiment: Option<&str>,
) -> Result<Vec<BaselineId>, BaselineError> {
    let root = results.join(FOLDER);
    let mut found = Vec::new();
    for (of_experiment, folder) in entries(&root)? {
        let is_asked = experiment.is_none_or(|it| it == of_experiment);
        if !is_asked || !folder.is_dir() || slug(&of_experiment, "an experiment").is_err() {
            continue;
        }
        for (file, path) in entries(&folder)? {
            if let Some(name) = file.strip_suffix(".json")
                && slug(name, "a baseline").is_ok()
                && path.is_file()
            {
                found.push(BaselineId {
                    experiment: of_experiment.clone(),
                    name: name.to_owned(),
                    path,
                });
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Names and paths in a folder; none if it does not exist.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, BaselineError> {
    let refuse = |source| BaselineError::Folder {
        what: "list",
        path: folder.to_owned(),
        source,
    };
    let listed = match std::fs::read_dir(folder) {
        Ok(listed) => listed,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(refuse(error)),
    };
    let mut found = Vec::new();
    for entry in listed {
        let entry = entry.map_err(refuse)?;
        // A name that is not UTF-8 is none of ours.
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}

/// Removes the baseline `name` of an experiment and says where it was.
///
/// # Errors
///
/// [`BaselineError::Unknown`] with the baselines that there are, or if the system refuses.
pub fn remove_baseline(
    results: &Path,
    experiment: &str,
    name: &str,
) -> Result<PathBuf, BaselineError> {
    let path = baseline_path(results, experiment, name)?;
    match std::fs::remove_file(&path) {
        Ok(()) => Ok(path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(unknown(results, experiment, name))
        }
        Err(source) => Err(BaselineError::Folder {
            what: "remove",
            path,
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::sketch;

    fn save(root: &Path, run: &str, line: Line) -> Baseline {
        let evidence = sketch::run(run, 3, [0.0, 0.0]);
        let time = "2026-01-01T00:00:00Z";
        save_baseline(root, "main", &evidence, time, line)
            .unwrap()
            .1
    }

    #[test]
    fn a_baseline_remembers_the_one_it_replaced_and_the_first_of_its_line() {
        let root = tempfile::tempdir().unwrap();
        let first = save(root.path(), "a", Line::Continue);
        assert_eq!((&first.replaced, &first.anchor), (&None, &None));
        assert_eq!(first.anchor().run, "a");
        let second = save(root.path(), "b", Line::Continue);
        let third = save(root.path(), "c", Line::Continue);
        let replaced = |it: &Baseline| ReplacedBaseline {
            run: it.evidence.run.clone(),
            digest: it.digest.clone(),
        };
        assert_eq!(second.replaced, Some(replaced(&first)));
        assert_eq!(third.replaced, Some(replaced(&second)));
        assert_eq!(third.anchor(), &first.evidence);
        assert_eq!(
            read_baseline(root.path(), "translate", "main").unwrap(),
            third
        );
        // The same run again is no step of its own.
        assert_eq!(save(root.path(), "c", Line::Continue), third);
        let new = save(root.path(), "d", Line::New);
        assert_eq!(new.replaced, Some(replaced(&third)));
        assert_eq!(new.anchor().run, "d");
    }

    #[test]
    fn baselines_are_listed_and_removed_by_name() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(list_baselines(root.path(), None).unwrap(), []);
        let evidence = sketch::run("a", 3, [0.0, 0.0]);
        for name in ["main", "0.9_rc-1"] {
            save_baseline(root.path(), name, &evidence, "", Line::Continue).unwrap();
        }
        let folder = root.path().join("baselines/translate");
        std::fs::write(folder.join("README.md"), "").unwrap();
        std::fs::write(folder.join("Main.json"), "").unwrap();
        let names = |experiment| -> Vec<String> {
            let listed = list_baselines(root.path(), experiment).unwrap();
            listed.into_iter().map(|it| it.name).collect()
        };
        assert_eq!(names(None), ["0.9_rc-1", "main"]);
        assert!(names(Some("qa")).is_empty());
        let error = read_baseline(root.path(), "translate", "mian").unwrap_err();
        assert_eq!(
            error.to_string(),
            "experiment `translate` has no baseline `mian`; it has `0.9_rc-1`, `main`"
        );
        remove_baseline(root.path(), "translate", "main").unwrap();
        assert_eq!(names(None), ["0.9_rc-1"]);
        let error = remove_baseline(root.path(), "translate", "main").unwrap_err();
        assert!(matches!(error, BaselineError::Unknown { .. }));
        let error = read_baseline(root.path(), "qa", "main").unwrap_err();
        assert_eq!(
            error.to_string(),
            "experiment `qa` has no baseline `main`; it has none"
        );
    }

    /// A name comes from a command line or a file that may be a stranger's.
    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let mut evidence = sketch::run("a", 3, [0.0, 0.0]);
        for name in [
            "",
            "..",
            "../main",
            "a/b",
            "a\\b",
            "Main",
            "-x",
            ".main",
            &"a".repeat(65),
        ] {
            let saved = save_baseline(root.path(), name, &evidence, "", Line::Continue);
            assert!(matches!(saved, Err(BaselineError::Name { .. })), "{name}");
        }
        evidence.experiment = "../../elsewhere".to_owned();
        let error = save_baseline(root.path(), "main", &evidence, "", Line::Continue).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`../../elsewhere` cannot name an experiment"
        );
        assert!(error.hint().is_some());
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }

    /// Its anchor would be lost.
    #[test]
    fn a_damaged_baseline_is_replaced_only_by_a_new_line() {
        let root = tempfile::tempdir().unwrap();
        save(root.path(), "a", Line::Continue);
        let path = baseline_path(root.path(), "translate", "main").unwrap();
        std::fs::write(&path, "{").unwrap();
        let evidence = sketch::run("b", 3, [0.0, 0.0]);
        let error = save_baseline(root.path(), "main", &evidence, "", Line::Continue).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("is not a baseline written by harness")
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{");
        let new = save(root.path(), "b", Line::New);
        assert_eq!((new.anchor().run.as_str(), &new.replaced), ("b", &None));
        // The evidence of a run is none either.
        let folder = tempfile::tempdir().unwrap();
        let written = super::super::write_evidence(folder.path(), &evidence).unwrap();
        std::fs::copy(written, &path).unwrap();
        assert!(read_baseline(root.path(), "translate", "main").is_err());
    }

    #[test]
    fn an_unfinished_run_is_no_baseline() {
        let root = tempfile::tempdir().unwrap();
        let mut evidence = sketch::run("a", 3, [0.0, 0.0]);
        evidence.is_finished = false;
        let error = save_baseline(root.path(), "main", &evidence, "", Line::Continue).unwrap_err();
        assert_eq!(error.to_string(), "run `a` is not finished");
    }
}
