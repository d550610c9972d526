//! Groups of flags that several commands share.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use harness::compare::RunsOptions;
use harness::experiment::Overlay;

use crate::cli::glob::{Glob, Globs};

/// Which part of an experiment is meant, and what is laid over its file.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Selection")]
pub(crate) struct SelectionArgs {
    /// Take only N examples: a fixed random subset, unless the experiment says otherwise
    #[arg(long, value_name = "N")]
    limit: Option<NonZeroUsize>,
    /// Take only variants of this name; `*` and `?` are wildcards; may be repeated
    #[arg(long, value_name = "GLOB")]
    variant: Vec<Glob>,
    /// Take only models of this name; `*` and `?` are wildcards; may be repeated
    #[arg(long, value_name = "GLOB")]
    model: Vec<Glob>,
    /// Change a value of the experiment file, such as `generation.max_tokens=16`; may be
    /// repeated, the last one counts
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<Setting>,
    /// Apply the table [profiles.P] of the experiment file; --set comes after it
    #[arg(long, value_name = "P")]
    profile: Option<String>,
}

/// What [`SelectionArgs`] mean.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Selection {
    /// What is laid over the experiment file.
    pub(crate) overlay: Overlay,
    /// Variants that take part.
    pub(crate) variants: Globs,
    /// Models that take part.
    pub(crate) models: Globs,
}

impl SelectionArgs {
    /// What was selected; `--limit` is the last of the settings, so it wins.
    pub(crate) fn selection(&self) -> Selection {
        let limit = self
            .limit
            .map(|n| ("dataset.limit".to_owned(), n.to_string()));
        let set = self
            .set
            .iter()
            .map(|it| (it.key.clone(), it.value.clone()))
            .chain(limit);
        Selection {
            overlay: Overlay {
                profile: self.profile.clone(),
                set: set.collect(),
            },
            variants: Globs::new(self.variant.clone()),
            models: Globs::new(self.model.clone()),
        }
    }
}

/// What an experiment file may make harness read.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Inputs")]
pub(crate) struct InputArgs {
    /// Let the experiment read data, prompts and models below DIR too, not only below its own
    /// folder and in the model caches; may be repeated
    #[arg(long = "allow-path", value_name = "DIR")]
    pub(crate) allowed: Vec<PathBuf>,
}

/// Where runs, stored responses and baselines are.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Results")]
pub(crate) struct ResultsArgs {
    /// Folder of runs, stored responses and baselines
    #[arg(
        long = "out",
        global = true,
        value_name = "DIR",
        env = "HARNESS_RESULTS",
        hide_env_values = true,
        default_value = "results"
    )]
    pub(crate) folder: PathBuf,
}

/// Which differences between two runs a comparison may have.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Comparison")]
pub(crate) struct ComparisonArgs {
    /// Compare even where model, tokenizer or arithmetic are not the same
    #[arg(long)]
    across_models: bool,
    /// Compare on the common rows even where more than 10 % of the rows differ
    #[arg(long)]
    common_rows: bool,
}

impl ComparisonArgs {
    /// The same for [`harness::compare::runs`].
    pub(crate) fn options(&self) -> RunsOptions {
        RunsOptions {
            across_models: self.across_models,
            common_rows: self.common_rows,
        }
    }
}

/// How models are found and computed.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Computation")]
pub(crate) struct ComputeArgs {
    /// Fetch nothing: fail if a built-in model is not in the cache
    #[arg(long)]
    pub(crate) offline: bool,
    /// Threads to compute with; scores do not depend on it [default: one per core]
    #[arg(short = 'j', long = "threads", value_name = "N")]
    pub(crate) n_threads: Option<NonZeroUsize>,
}

/// How much is told on stderr.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct VerbosityArgs {
    /// Tell nothing but results, warnings and errors: no progress
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,
    /// Tell more: where files are, what came from the store, how long things took
    #[arg(short, long)]
    verbose: bool,
}

/// How much is told on stderr; results, warnings and errors always are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Verbosity {
    /// No progress.
    Quiet,
    /// Progress.
    #[default]
    Normal,
    /// Progress, and how and where things were done.
    Verbose,
}

impl VerbosityArgs {
    /// The one level that the flags mean.
    pub(crate) fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, true) => Verbosity::Verbose,
            (false, false) => Verbosity::Normal,
        }
    }
}

/// `KEY=VALUE`, split at the first `=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    /// What stands before the `=`, without spaces around it; not empty.
    pub(crate) key: String,
    /// What stands after it, as it is; may be empty.
    pub(crate) value: String,
}

/// Why a text is no [`Setting`].
#[derive(Debug, thiserror::Error)]
#[error("expected KEY=VALUE, such as `dataset.limit=20`")]
pub(crate) struct SettingError;

impl FromStr for Setting {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, value) = text.split_once('=').ok_or(SettingError)?;
        let key = key.trim();
        if key.is_empty() {
            return Err(SettingError);
        }
        Ok(Self {
            key: key.to_owned(),
            value: value.to_owned(),
        })
    }
}
