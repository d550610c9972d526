//! `run.json`: what a run is, apart from its tables.

use std::io::Write;
use std::path::Path;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::metric::{Metric, Unit};
use crate::stats::Direction;

use super::{SCHEMA_VERSION, TableError, file};

/// The manifest's name in the folder of a run.
pub const MANIFEST: &str = "run.json";

/// What a run is: its inputs by digest, its circumstances, its counts.
///
/// Written with [`RunStatus::Running`] before the first request and again, with what has
/// become known, when the run ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Of manifest and tables; see [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The harness that wrote it.
    pub harness_version: String,
    /// Name of the experiment.
    pub experiment: String,
    /// Id of the run, the name of its folder.
    pub run: String,
    /// How far it got.
    pub status: RunStatus,
    /// Digests of the inputs.
    pub digests: Digests,
    /// The experiment's seed.
    pub seed: u64,
    /// The metric that ranks the variants.
    pub primary: String,
    /// The variant that differences are shown against, if there is one.
    pub control: Option<String>,
    /// What counts as unchanged, in the unit of the primary metric.
    pub margin: Option<f64>,
    /// When it started, RFC 3339 in UTC.
    pub started: String,
    /// When it ended.
    pub finished: Option<String>,
    /// The machine.
    pub host: String,
    /// What computed.
    pub device: String,
    /// The models, in plan order.
    pub models: Vec<ModelRecord>,
    /// The variants, in plan order.
    pub variants: Vec<VariantRecord>,
    /// The metrics, in the order of the tables.
    pub metrics: Vec<MetricRecord>,
    /// How much there was to do, and how it was done.
    pub counts: Counts,
    /// Time and length of prompts, for each model and variant.
    pub cells: Vec<CellRecord>,
    /// What stands under the ranking of each model; empty until the run is finished.
    pub rankings: Vec<RankingRecord>,
}

/// How far a run got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// At work, or killed without a chance to say so.
    Running,
    /// Every case was tried.
    Complete,
    /// Every case was tried, and more of them failed than is tolerated.
    Incomplete,
    /// Stopped before every case was tried.
    Interrupted,
}

impl RunStatus {
    /// Whether every case was tried, so that intervals and verdicts mean something.
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Complete | Self::Incomplete)
    }

    /// The name in the manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Incomplete => "incomplete",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Digests of what a run was made from, as hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Digests {
    /// Of the experiment file as resolved.
    pub experiment: String,
    /// Of the bytes of the dataset.
    pub dataset: String,
    /// Of the bytes of the few-shot pool.
    pub fewshot: Option<String>,
    /// Of the plan; an unfinished run is resumed only if it is equal.
    pub plan: String,
}

/// One model of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// Its name in the experiment.
    pub name: String,
    /// Where it came from.
    pub source: String,
    /// The commit of a model on the hub.
    #[serde(default)]
    pub revision: Option<String>,
    /// Digest of weights, tokenizer and adapter.
    pub digest: String,
    /// Digest of the tokenizer alone.
    pub tokenizer_digest: String,
    /// Its architecture.
    pub architecture: String,
    /// The arithmetic that computed it.
    pub numerics: String,
}

/// One variant of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VariantRecord {
    /// Its name in the experiment.
    pub name: String,
    /// Digest of its templates.
    pub template_digest: String,
}

/// How a metric is read and printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricRecord {
    /// Its name.
    pub name: String,
    /// Its unit: `%`, `points`, `nats`, `nats/token`, `nats/byte`, `bits/byte`, or empty. Values
    /// in the tables are fractions where this is `%`.
    pub unit: String,
    /// Which way it improves.
    pub higher_is_better: bool,
    /// Only describes: no interval, no comparison.
    pub is_descriptive: bool,
    /// Stands in the experiment file, as opposed to being computed anyway.
    pub is_declared: bool,
}

impl MetricRecord {
    /// The record of a metric that the experiment file asks for.
    pub fn declared(metric: &Metric) -> Self {
        Self {
            is_declared: true,
            ..Self::automatic(metric)
        }
    }

    /// The record of a metric that is computed without being asked for.
    pub fn automatic(metric: &Metric) -> Self {
        Self {
            name: metric.name.clone(),
            unit: metric.unit.as_str().to_owned(),
            higher_is_better: metric.direction == Direction::HigherIsBetter,
            is_descriptive: metric.is_descriptive,
            is_declared: false,
        }
    }

    /// Its unit; a plain number if the name is not known.
    pub fn unit(&self) -> Unit {
        Unit::from_name(&self.unit).unwrap_or(Unit::Plain)
    }

    /// Which way it improves.
    pub fn direction(&self) -> Direction {
        if self.higher_is_better {
            Direction::HigherIsBetter
        } else {
            Direction::LowerIsBetter
        }
    }
}

/// How much there was to do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Examples of the plan.
    pub n_examples: usize,
    /// Cases of the plan.
    pub n_cases: usize,
    /// Requests put, before equal ones collapse.
    pub n_requests: usize,
    /// Answers computed.
    pub n_computed: usize,
    /// Answers taken from the store.
    pub n_from_store: usize,
    /// Rows that went through a model, one per token.
    #[serde(default)]
    pub n_rows_computed: usize,
    /// Rows that did not, because requests had them in common.
    #[serde(default)]
    pub n_rows_shared: usize,
    /// Unscored cases by status.
    pub failed: IndexMap<String, usize>,
}

/// One variant on one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellRecord {
    /// Name of the model.
    pub model: String,
    /// Name of the variant.
    pub variant: String,
    /// Time at work, in seconds.
    pub elapsed_seconds: f64,
    /// Mean tokens of a prompt.
    pub tokens_per_prompt: f64,
    /// Prompts that lost shots so that they fit the model.
    #[serde(default)]
    pub n_dropped_shots: usize,
    /// Prompts that were cut on the left so that they fit the model.
    #[serde(default)]
    pub n_truncated: usize,
}

/// What a ranking by the primary metric needs besides the tables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankingRecord {
    /// Name of the model.
    pub model: String,
    /// How much of the best variant's lead is luck, in the metric's unit.
    pub luck_of_best: Option<f64>,
    /// Pairs for which it is known how many units would settle them.
    pub to_settle: Vec<ToSettle>,
}

/// How many units would settle a comparison by the primary metric.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToSettle {
    /// The variant that is judged.
    pub variant_a: String,
    /// The variant it is held against.
    pub variant_b: String,
    /// Units for 80 % power.
    pub n_units: u64,
}

/// The one field that every version has.
#[derive(Deserialize)]
struct Version {
    schema_version: serde_json::Value,
}

impl Manifest {
    /// Writes `run.json` into `folder`, which is made if need be.
    ///
    /// # Errors
    ///
    /// [`TableError::Write`] if the disk refuses; an older manifest is then still there.
    pub fn write(&self, folder: &Path) -> Result<(), TableError> {
        let path = folder.join(MANIFEST);
        let written = std::fs::create_dir_all(folder).and_then(|()| {
            file::replace(&path, |it| {
                serde_json::to_writer_pretty(&mut *it, self)?;
                it.write_all(b"\n")
            })
        });
        written.map_err(|source| TableError::Write { path, source })
    }

    /// Reads the `run.json` in `folder`.
    ///
    /// # Errors
    ///
    /// [`TableError`] if it is missing, unreadable, damaged or of another version.
    pub fn read(folder: &Path) -> Result<Self, TableError> {
        let path = folder.join(MANIFEST);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
                return Err(TableError::Missing { path });
            }
            Err(source) => return Err(TableError::Read { path, source }),
        };
        let damaged = |path, error: serde_json::Error| TableError::Damaged {
            path,
            reason: error.to_string(),
        };
        let version: Version = match serde_json::from_slice(&bytes) {
            Ok(version) => version,
            Err(error) => return Err(damaged(path, error)),
        };
        if version.schema_version != SCHEMA_VERSION {
            return Err(TableError::Version {
                path,
                found: version.schema_version.to_string(),
            });
        }
        serde_json::from_slice(&bytes).map_err(|error| damaged(path, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::fixture;

    #[test]
    fn a_manifest_comes_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("sentiment").join("20260101-000000-abcd");
        let mut manifest = fixture::manifest();
        manifest.seed = u64::MAX;
        manifest.margin = Some(0.1 + 0.2);
        manifest.write(&inner).unwrap();
        assert_eq!(Manifest::read(&inner).unwrap(), manifest);
        assert_eq!(std::fs::read_dir(&inner).unwrap().count(), 1);
    }

    #[test]
    fn a_manifest_that_cannot_be_read_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(MANIFEST);
        let read = || Manifest::read(folder.path()).unwrap_err();
        assert!(matches!(read(), TableError::Missing { .. }));
        std::fs::write(&path, "{\"schema_version\": 2, \"other\": 1}").unwrap();
        assert!(matches!(read(), TableError::Version { found, .. } if found == "2"));
        std::fs::write(&path, "{\"schema_version\": 1}").unwrap();
        assert!(
            matches!(read(), TableError::Damaged { reason, .. } if reason.contains("harness_version"))
        );
        std::fs::write(&path, "{\"schema").unwrap();
        assert!(matches!(read(), TableError::Damaged { .. }));
    }
}
