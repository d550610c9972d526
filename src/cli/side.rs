//! What a comparison is made of: a run or a baseline, by the name that was typed.

use std::error::Error;
use std::path::Path;

use harness::compare::Evidence;
use harness::table::{self, BaselineError, EvidenceFileError, ResolveError};

use super::run_folder;

/// Evidence with what it is called.
pub(crate) struct Side {
    /// `baseline main`, or the run's id.
    pub(crate) name: String,
    pub(crate) evidence: Evidence,
    /// The first of a baseline's line, if that is another one.
    pub(crate) anchor: Option<Evidence>,
}

/// Why a name leads to no evidence.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SideError {
    /// No run of that name.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// No baseline of that name, or a broken one.
    #[error(transparent)]
    Baseline(#[from] BaselineError),
    /// A run without evidence, or with a broken file.
    #[error(transparent)]
    Evidence(#[from] EvidenceFileError),
    /// A run that another process works on.
    #[error("the run `{run}` is not finished: {holder} is working on it")]
    AtWork {
        run: String,
        /// Who works on it, since when.
        holder: String,
    },
    /// Baselines of that name in several experiments.
    #[error("several experiments have a baseline `{name}`: `{}`", .experiments.join("`, `"))]
    Ambiguous {
        name: String,
        experiments: Vec<String>,
    },
    /// No experiment has such a baseline.
    #[error("there is no baseline `{name}`{}", there_are(.known))]
    NoBaseline {
        name: String,
        /// All baselines, as EXPERIMENT/NAME.
        known: Vec<String>,
    },
    /// Neither a run nor a baseline.
    #[error("`{name}` is neither a run nor a baseline of `{experiment}`")]
    Neither {
        name: String,
        experiment: String,
        source: Box<dyn Error + Send + Sync>,
    },
}

impl SideError {
    /// What to try, if there is something.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Resolve(err) => err.hint(),
            Self::Baseline(err) => err.hint(),
            Self::Evidence(err) => err.hint(),
            Self::AtWork { .. } => Some("wait for its end, or name another run"),
            Self::Ambiguous { .. } => Some("name one of them as EXPERIMENT/NAME"),
            Self::NoBaseline { .. } => {
                Some("`harness baseline save NAME` saves the latest run as one")
            }
            Self::Neither { .. } => Some(
                "`harness baseline list` shows baselines; a run is `latest`, `latest~1`, \
                 `EXPERIMENT/latest`, the start of an id, or a path",
            ),
        }
    }
}

fn there_are(names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    format!("; there are `{}`", names.join("`, `"))
}

/// The run called `name`.
pub(crate) fn run(results: &Path, name: &str) -> Result<Side, SideError> {
    let folder = table::resolve(results, name)?;
    let evidence = table::read_evidence(&folder).map_err(|err| {
        let run = folder.file_name().unwrap_or_default().to_string_lossy();
        match run_folder::holder(&folder) {
            Some(holder) => SideError::AtWork {
                run: run.into_owned(),
                holder,
            },
            None => err.into(),
        }
    })?;
    Ok(Side {
        name: evidence.run.clone(),
        evidence,
        anchor: None,
    })
}

/// The baseline of `experiment` called `name`.
pub(crate) fn baseline(results: &Path, experiment: &str, name: &str) -> Result<Side, SideError> {
    let baseline = table::read_baseline(results, experiment, name)?;
    Ok(Side {
        name: format!("baseline {name}"),
        evidence: baseline.evidence,
        anchor: baseline.anchor,
    })
}

/// A baseline of `experiment`, or else a run.
pub(crate) fn either(results: &Path, experiment: &str, name: &str) -> Result<Side, SideError> {
    match baseline(results, experiment, name) {
        Err(SideError::Baseline(
            err @ (BaselineError::Unknown { .. } | BaselineError::Name { .. }),
        )) => run(results, name).map_err(|_| SideError::Neither {
            name: name.to_owned(),
            experiment: experiment.to_owned(),
            source: Box::new(err),
        }),
        other => other,
    }
}
