//! What a comparison is made of: a run or a baseline, by the name that was typed.

use std::error::Error;
use std::path::Path;

use harness::compare::Evidence;
use harness::table::{self, BaselineError, BaselineId, EvidenceFileError, ResolveError};

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
    /// No experiment has baselines of both names.
    #[error("no experiment has both a baseline `{reference}` and a baseline `{candidate}`")]
    NoPair {
        reference: String,
        candidate: String,
    },
    /// Neither a run nor a baseline of any experiment.
    #[error("`{name}` is neither a run nor a baseline")]
    Nowhere { name: String },
    /// Neither a run nor a baseline of the experiment.
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
            Self::NoPair { .. } => Some("name them as EXPERIMENT/NAME"),
            Self::Neither { .. } | Self::Nowhere { .. } => Some(
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

/// The one baseline of that name: `EXPERIMENT/NAME`, or a name that only one experiment has.
pub(crate) fn find_baseline(results: &Path, name: &str) -> Result<BaselineId, SideError> {
    let (of_name, known) = baselines_of_name(results, name)?;
    match &of_name[..] {
        [only] => Ok(only.clone()),
        [] => Err(SideError::NoBaseline {
            name: name.to_owned(),
            known,
        }),
        _ => Err(ambiguous(name, &of_name)),
    }
}

/// Two baselines of one experiment, or of those that are named.
pub(crate) fn two_baselines(
    results: &Path,
    reference: &str,
    candidate: &str,
) -> Result<(Side, Side), SideError> {
    let [ours, theirs] = [reference, candidate].map(|it| baselines_of_name(results, it));
    let (ours, theirs) = (ours?.0, theirs?.0);
    for (name, ids) in [(reference, &ours), (candidate, &theirs)] {
        if ids.is_empty() {
            return Err(SideError::Nowhere {
                name: name.to_owned(),
            });
        }
    }
    let are_named = [reference, candidate].iter().all(|it| it.contains('/'));
    let pairs = ours.iter().flat_map(|one| {
        let theirs = theirs.iter();
        let fit = theirs.filter(move |it| are_named || it.experiment == one.experiment);
        fit.map(move |other| (one, other))
    });
    match &pairs.collect::<Vec<_>>()[..] {
        [(one, other)] => {
            let read = |id: &BaselineId| baseline(results, &id.experiment, &id.name);
            Ok((read(one)?, read(other)?))
        }
        [] => Err(SideError::NoPair {
            reference: reference.to_owned(),
            candidate: candidate.to_owned(),
        }),
        several => {
            let ids: Vec<BaselineId> = several.iter().map(|it| it.0.clone()).collect();
            Err(ambiguous(reference, &ids))
        }
    }
}

/// The baselines of that name, which may begin with an experiment's, and what there is instead.
fn baselines_of_name(
    results: &Path,
    name: &str,
) -> Result<(Vec<BaselineId>, Vec<String>), SideError> {
    let (experiment, own) = match name.split_once('/') {
        Some((experiment, own)) => (Some(experiment), own),
        None => (None, name),
    };
    let all = table::list_baselines(results, experiment)?;
    let of_name = all.iter().filter(|it| it.name == own).cloned().collect();
    let names = all.iter();
    let names = names.map(|it| format!("{}/{}", it.experiment, it.name));
    Ok((of_name, names.collect()))
}

fn ambiguous(name: &str, ids: &[BaselineId]) -> SideError {
    SideError::Ambiguous {
        name: name.to_owned(),
        experiments: ids.iter().map(|it| it.experiment.clone()).collect(),
    }
}

/// A baseline of `experiment`, or of the one that is named in front of it, or else a run.
pub(crate) fn either(results: &Path, experiment: &str, name: &str) -> Result<Side, SideError> {
    let (of, own) = name.split_once('/').unwrap_or((experiment, name));
    match baseline(results, of, own) {
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
