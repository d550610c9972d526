//! Finds runs by the names that people use.

use std::io;
use std::path::{Path, PathBuf};

use super::{MANIFEST, clock};

/// How many names a message lists.
const SHOWN: usize = 5;

/// A run that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRunId {
    /// Name of its experiment.
    pub experiment: String,
    /// Its id.
    pub run: String,
    /// Its folder.
    pub folder: PathBuf,
}

/// Why a name is not that of one run.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The folder of the results cannot be read.
    #[error("cannot read the results in `{}`", .root.display())]
    Read {
        /// The folder.
        root: PathBuf,
        /// What the system reported.
        source: io::Error,
    },
    /// There are no runs at all.
    #[error("there are no runs in `{}`", .root.display())]
    NoRuns {
        /// The folder of the results.
        root: PathBuf,
    },
    /// No experiment of that name has a run.
    #[error("experiment `{experiment}` has no runs; there are runs of: {}", .known.join(", "))]
    NoExperiment {
        /// The name.
        experiment: String,
        /// Experiments that have runs.
        known: Vec<String>,
    },
    /// The name counts further back than there are runs.
    #[error("`{name}` goes back too far: there are {n_runs} runs")]
    TooFarBack {
        /// The name.
        name: String,
        /// How many runs it could choose from.
        n_runs: usize,
    },
    /// No run's id starts like this.
    #[error("no run is called `{name}`; the newest are: {}", .newest.join(", "))]
    Unknown {
        /// The name.
        name: String,
        /// The newest runs, newest first.
        newest: Vec<String>,
    },
    /// Several ids start like this.
    #[error("`{name}` could be any of {n_runs} runs: {}", .candidates.join(", "))]
    Ambiguous {
        /// The name.
        name: String,
        /// How many runs it fits.
        n_runs: usize,
        /// The newest of them, newest first.
        candidates: Vec<String>,
    },
}

impl ResolveError {
    /// What to try, if there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Read { .. } => None,
            Self::NoRuns { .. } => Some(
                "`harness run FILE` makes one; `--out DIR` or HARNESS_RESULTS names another folder",
            ),
            Self::Ambiguous { .. } => Some("write more of the id"),
            _ => Some(
                "a run is `latest`, `latest~1`, `EXPERIMENT/latest`, the start of an id, or a path",
            ),
        }
    }
}

/// All runs under `root`, oldest first by id; of all experiments, or of one.
///
/// A run is a folder `<experiment>/<id>` with a manifest; everything else is passed over.
///
/// # Errors
///
/// [`ResolveError::Read`] if `root` exists and cannot be read.
pub fn list(root: &Path, experiment: Option<&str>) -> Result<Vec<StoredRunId>, ResolveError> {
    let read = |source| ResolveError::Read {
        root: root.to_owned(),
        source,
    };
    let mut runs = Vec::new();
    for name in folders(root).map_err(read)? {
        if name.starts_with('.') || experiment.is_some_and(|it| it != name) {
            continue;
        }
        let of_experiment = root.join(&name);
        for run in folders(&of_experiment).map_err(read)? {
            let folder = of_experiment.join(&run);
            if clock::is_run_id(&run) && folder.join(MANIFEST).is_file() {
                runs.push(StoredRunId {
                    experiment: name.clone(),
                    run,
                    folder,
                });
            }
        }
    }
    runs.sort_by(|a, b| (&a.run, &a.experiment).cmp(&(&b.run, &b.experiment)));
    Ok(runs)
}

/// Names of the folders in `folder`; none if it does not exist.
fn folders(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.path().is_dir() {
            // A name that is not UTF-8 is none of ours.
            names.extend(entry.file_name().into_string().ok());
        }
    }
    Ok(names)
}

/// The folder of the run that `name` means: `latest`, `latest~1`, an id or its start, each also
/// behind `EXPERIMENT/`; or a path.
///
/// The latest run is the one with the greatest id, finished or not.
///
/// # Errors
///
/// [`ResolveError`] saying what there is instead.
pub fn resolve(root: &Path, name: &str) -> Result<PathBuf, ResolveError> {
    let (experiment, wanted) = match name.split_once('/') {
        Some((experiment, wanted)) if is_slug(experiment) && !wanted.contains('/') => {
            (Some(experiment), wanted)
        }
        _ => (None, name),
    };
    let age = age(wanted);
    // `latest` is never a path: a folder of that name must not shadow it.
    if age.is_none() && !name.is_empty() && Path::new(name).join(MANIFEST).is_file() {
        return Ok(PathBuf::from(name));
    }
    let all = list(root, None)?;
    if all.is_empty() {
        return Err(ResolveError::NoRuns {
            root: root.to_owned(),
        });
    }
    let of_experiment = |it: &&StoredRunId| experiment.is_none_or(|name| name == it.experiment);
    let runs: Vec<&StoredRunId> = all.iter().filter(of_experiment).rev().collect();
    if let (Some(experiment), true) = (experiment, runs.is_empty()) {
        let mut known: Vec<String> = all.iter().map(|it| it.experiment.clone()).collect();
        known.sort();
        known.dedup();
        return Err(ResolveError::NoExperiment {
            experiment: experiment.to_owned(),
            known,
        });
    }
    let name = name.to_owned();
    if let Some(age) = age {
        let found = runs.get(age).map(|it| it.folder.clone());
        return found.ok_or(ResolveError::TooFarBack {
            name,
            n_runs: runs.len(),
        });
    }
    let fits = |it: &&StoredRunId| !wanted.is_empty() && it.run.starts_with(wanted);
    let fitting: Vec<&StoredRunId> = runs.iter().copied().filter(fits).collect();
    match fitting.as_slice() {
        [] => Err(ResolveError::Unknown {
            name,
            newest: shown(&runs),
        }),
        [run] => Ok(run.folder.clone()),
        several => Err(ResolveError::Ambiguous {
            name,
            n_runs: several.len(),
            candidates: shown(several),
        }),
    }
}

fn shown(runs: &[&StoredRunId]) -> Vec<String> {
    runs.iter()
        .take(SHOWN)
        .map(|it| format!("{}/{}", it.experiment, it.run))
        .collect()
}

/// How many runs `latest` or `latest~N` goes back.
fn age(name: &str) -> Option<usize> {
    match name.strip_prefix("latest")? {
        "" => Some(0),
        rest => rest.strip_prefix('~')?.parse().ok(),
    }
}

/// Whether a word can be the name of an experiment; `.` and `..` cannot.
fn is_slug(word: &str) -> bool {
    let is_plain = |it: &u8| it.is_ascii_lowercase() || it.is_ascii_digit();
    word.as_bytes().first().is_some_and(is_plain)
        && word
            .bytes()
            .all(|it| is_plain(&it) || matches!(it, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "20260101-120000-aaaa";
    const MIDDLE: &str = "20260102-120000-bbbb";
    const NEW: &str = "20260102-130000-cccc";

    fn results() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (experiment, run) in [
            ("translate", MIDDLE),
            ("sentiment", OLD),
            ("sentiment", NEW),
            ("baselines", "main"),
        ] {
            let folder = root.path().join(experiment).join(run);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(MANIFEST), "{}").unwrap();
        }
        // Neither the store, nor a run without a manifest, nor a file is a run.
        std::fs::create_dir_all(root.path().join(".store")).unwrap();
        std::fs::create_dir_all(root.path().join("sentiment/20270101-000000-dddd")).unwrap();
        std::fs::write(root.path().join("README.md"), "").unwrap();
        root
    }

    #[test]
    fn runs_are_found_by_age_start_and_experiment() {
        let root = results();
        let path = root.path().join("translate").join(MIDDLE);
        for (name, expected) in [
            ("latest", NEW),
            ("latest~0", NEW),
            ("latest~1", MIDDLE),
            ("latest~2", OLD),
            ("sentiment/latest", NEW),
            ("sentiment/latest~1", OLD),
            ("translate/latest", MIDDLE),
            ("20260101", OLD),
            ("20260102-13", NEW),
            (MIDDLE, MIDDLE),
            ("translate/20260102", MIDDLE),
            (path.to_str().unwrap(), MIDDLE),
        ] {
            let folder = resolve(root.path(), name).unwrap();
            assert!(folder.ends_with(expected), "{name}: {}", folder.display());
        }
        let ids: Vec<String> = list(root.path(), None)
            .unwrap()
            .into_iter()
            .map(|it| it.run)
            .collect();
        assert_eq!(ids, [OLD, MIDDLE, NEW]);
    }

    #[test]
    fn a_name_that_fits_none_or_many_says_what_there_is() {
        let root = results();
        for (name, expected) in [
            ("latest~3", "`latest~3` goes back too far: there are 3 runs"),
            (
                "sentiment/latest~2",
                "`sentiment/latest~2` goes back too far: there are 2 runs",
            ),
            (
                "qa/latest",
                "experiment `qa` has no runs; there are runs of: sentiment, translate",
            ),
            (
                "2025",
                "no run is called `2025`; the newest are: sentiment/20260102-130000-cccc, \
                 translate/20260102-120000-bbbb, sentiment/20260101-120000-aaaa",
            ),
            (
                "20260102",
                "`20260102` could be any of 2 runs: sentiment/20260102-130000-cccc, \
                 translate/20260102-120000-bbbb",
            ),
            (
                "latest~x",
                "no run is called `latest~x`; the newest are: sentiment/20260102-130000-cccc, \
                 translate/20260102-120000-bbbb, sentiment/20260101-120000-aaaa",
            ),
        ] {
            let error = resolve(root.path(), name).unwrap_err();
            assert_eq!(error.to_string(), expected);
            assert!(error.hint().is_some());
        }
        assert!(matches!(
            resolve(root.path(), ""),
            Err(ResolveError::Unknown { .. } | ResolveError::Ambiguous { .. })
        ));
        let empty = tempfile::tempdir().unwrap();
        for root in [empty.path(), &empty.path().join("nowhere")] {
            let error = resolve(root, "latest").unwrap_err();
            assert!(matches!(error, ResolveError::NoRuns { .. }), "{error}");
        }
    }
}
