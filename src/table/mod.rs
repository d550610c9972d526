//! Writes and reads one run: its Parquet tables and its manifest.
//!
//! The only room that names columns. `CaseTables` turns the scores, estimates and
//! comparisons of a run into the tables `cases`, `choices`, `examples`, `metrics`,
//! `comparisons` and, where asked for, `tokens`, in row groups as the cases come; `read` gives
//! them back as the plain structs of a [`StoredRun`], `read_summary` as a [`RunSummary`], which
//! holds no case. All columns are always there, of four plain types (text,
//! int64, float64, boolean), with rows in plan order; the schema version stands in the
//! file's metadata. [`Manifest`] is `run.json`: everything about a run that is not a
//! table, with times and host, so that equal runs have equal tables but for the column
//! `run`. [`resolve`] finds a run by the names that people use. [`write_evidence`] keeps what a
//! later comparison needs of a run, one line per example, and [`save_baseline`] the same under a
//! name.
//!
//! Every file is written beside its place, synced and renamed: a reader sees the old file
//! or the new one, never half of one. Only `parquet` needs the feature `tables`; the rest
//! builds without it. Knows `score`, `metric`, `stats` and `compare`; what a run means is
//! for `report` to say.

mod baseline;
#[cfg(feature = "tables")]
mod case_tables;
mod clock;
mod column;
mod decode;
mod encode;
mod evidence_file;
mod evidence_text;
mod file;
#[cfg(test)]
pub(crate) mod fixture;
mod manifest;
#[cfg(feature = "tables")]
mod parquet;
mod resolve;
mod stored;
mod summary;

use std::path::{Path, PathBuf};

pub use baseline::{
    Baseline, BaselineError, BaselineId, Line, ReplacedBaseline, baseline_path, list_baselines,
    read_baseline, remove_baseline, save_baseline,
};
#[cfg(feature = "tables")]
pub use case_tables::{CaseTables, GROUP_CASES, write};
pub use clock::{format_utc, new_run_id};
pub use column::{Column, Table, Values};
pub use encode::{ExampleRow, Examples, Measured, RunTables, TokenText};
pub use evidence_file::{EVIDENCE, EvidenceFileError, read_evidence, write_evidence};
pub use evidence_text::EVIDENCE_VERSION;
pub use manifest::{
    CellRecord, Counts, Digests, MANIFEST, Manifest, MetricRecord, ModelRecord, RankingRecord,
    RunStatus, ToSettle, VariantRecord,
};
pub use resolve::{ResolveError, StoredRunId, list, resolve};
pub use stored::{
    StoredCase, StoredChoice, StoredComparison, StoredExample, StoredMetric, StoredRun, StoredToken,
};
#[cfg(feature = "tables")]
pub use summary::read_summary;
pub use summary::{CellTally, RunSummary, Tallies, summary};

/// Version of the tables and of the manifest; another one is refused by name.
pub const SCHEMA_VERSION: u32 = 1;

/// The tables that every finished run has.
pub const TABLES: [&str; 5] = ["cases", "choices", "examples", "metrics", "comparisons"];

/// The table of scored tokens, which a run has only where it was asked for.
pub const TOKENS: &str = "tokens";

/// Why a run could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
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
    /// The file is damaged, or something else altogether.
    #[error("`{}` is damaged or not of its kind: {reason}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the decoder reported.
        reason: String,
    },
    /// A Parquet file that harness did not write, or that another program wrote anew.
    #[error("`{}` was not written by harness: {reason}", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is missing or different.
        reason: String,
    },
    /// Another version of harness wrote the file.
    #[error("`{}` has schema version {found}, this harness reads {SCHEMA_VERSION}", .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: String,
    },
    /// A column is missing, or not of the type it must have.
    #[error("column `{column}` of `{}` {reason}", .path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// What is wrong with it, as the rest of a sentence.
        reason: String,
    },
    /// A cell holds what its column cannot mean.
    #[error("column `{column}` of `{}` {reason} in row {row}", .path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// The row, from 1.
        row: usize,
        /// What is wrong with it, as the middle of a sentence.
        reason: String,
    },
}

impl TableError {
    /// What to try, if there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Write { .. } => {
                Some("free space or fix the permissions, then run again: answers are kept")
            }
            Self::Missing { .. } => {
                Some("a run that was cut off has no tables; the same `harness run` resumes it")
            }
            Self::Version { .. } => {
                Some("read it with the harness that wrote it, or run again: answers are kept")
            }
            Self::Damaged { .. } | Self::Foreign { .. } | Self::Column { .. } => {
                Some("run the experiment again: answers are kept, so nothing is computed twice")
            }
            Self::Read { .. } | Self::Value { .. } => None,
        }
    }
}

/// Where a table of the run in `folder` lies.
pub fn table_path(folder: &Path, table: &str) -> PathBuf {
    folder.join(format!("{table}.parquet"))
}

/// Reads the run in `folder`: its manifest and its tables, without `tokens`.
///
/// # Errors
///
/// [`TableError`] naming the file, and the column where it is one, that is missing, damaged,
/// foreign or of another version.
#[cfg(feature = "tables")]
pub fn read(folder: &Path) -> Result<StoredRun, TableError> {
    let manifest = Manifest::read(folder)?;
    decode::run(folder, manifest, |name| read_table(folder, name))
}

/// Reads the table `tokens` of the run in `folder`; `None` if the run was made without it.
///
/// # Errors
///
/// As `read`, but that the file is missing.
#[cfg(feature = "tables")]
pub fn read_tokens(folder: &Path) -> Result<Option<Vec<StoredToken>>, TableError> {
    match read_table(folder, TOKENS) {
        Ok(table) => decode::tokens(folder, table).map(Some),
        Err(TableError::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads one table of the run in `folder` as it is.
///
/// # Errors
///
/// As `read`.
#[cfg(feature = "tables")]
pub fn read_table(folder: &Path, name: &str) -> Result<Table<'static>, TableError> {
    parquet::read(&table_path(folder, name), name)
}

/// What `read` would give back after `write`, without the way over the disk.
#[cfg(test)]
pub(crate) fn stored(
    folder: &Path,
    manifest: Manifest,
    run: &RunTables<'_>,
    scores: &[crate::score::Score],
) -> Result<StoredRun, TableError> {
    let mut tables = encode::tables(run, scores);
    decode::run(folder, manifest, |name| {
        let place = tables.iter().position(|it| it.name == name);
        let place = place.ok_or_else(|| TableError::Missing {
            path: table_path(folder, name),
        })?;
        Ok(tables.swap_remove(place))
    })
}
