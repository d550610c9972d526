//! The command line: what a user may type, and its help.
//!
//! The types with `Args` in their name mirror what was typed. Where a command needs it in
//! another form, a method turns one into the other: [`SelectionArgs::selection`],
//! [`VerbosityArgs::verbosity`]. Nothing here opens a file; whether a name exists is found
//! out by the command.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::help;

mod groups;

pub(crate) use groups::{
    ComparisonArgs, ComputeArgs, InputArgs, ResultsArgs, Selection, SelectionArgs, Setting,
    Verbosity, VerbosityArgs,
};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "harness",
    version,
    about = help::PROMISE,
    after_help = help::EXAMPLES,
    after_long_help = help::LONG,
    max_term_width = 100
)]
pub(crate) struct Args {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// One subcommand.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure every variant of an experiment on every example, and compare them
    #[command(after_long_help = help::RUN)]
    Run(RunArgs),
    /// Run an experiment, compare it with a baseline, and decide by its gates
    #[command(after_long_help = help::CHECK)]
    Check(CheckArgs),
    /// Compare two runs, a run and a baseline, or two variants of one run
    #[command(after_long_help = help::COMPARE)]
    Compare(CompareArgs),
    /// Save, list, show and remove what later runs are compared with
    #[command(after_long_help = help::BASELINE)]
    Baseline(BaselineArgs),
    /// Check an experiment and show what would run: cases, tokens, prompts. Loads no weights
    #[command(after_long_help = help::PLAN)]
    Plan(PlanArgs),
    /// Put one example through one variant and show every token with its logprob
    #[command(name = "try", after_long_help = help::TRY)]
    Try(TryArgs),
    /// Show the results of a run
    #[command(after_long_help = help::SHOW)]
    Show(ShowArgs),
    /// Write runs as one HTML file: ranking, differences, every example side by side
    #[command(after_long_help = help::REPORT)]
    Report(ReportArgs),
    /// Ask the tables of all runs in SQL
    #[command(after_long_help = help::QUERY)]
    Query(QueryArgs),
    /// List, fetch and describe models
    Models(ModelsArgs),
    /// Write a small experiment with data to start from, or a workflow that checks experiments
    #[command(after_long_help = help::INIT)]
    Init(InitArgs),
    /// Print the JSON Schema of experiment files, for editors
    #[command(after_long_help = help::SCHEMA)]
    Schema,
    /// Print a completion script for a shell
    #[command(after_long_help = help::COMPLETIONS)]
    Completions(CompletionsArgs),
}

/// `harness run`.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// Experiment files; all are checked before the first one runs
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// What gates may compare with a baseline.
    #[command(flatten)]
    pub(crate) comparison: ComparisonArgs,
    /// What is measured, and how.
    #[command(flatten)]
    pub(crate) measure: MeasureArgs,
}

/// `harness check`.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// Experiment file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// What it is held against: a baseline, a run, or another experiment file, which is run
    /// first and whose gates then decide [default: the baseline `main`]
    #[arg(long, value_name = "BASE")]
    pub(crate) against: Option<String>,
    /// What may be compared.
    #[command(flatten)]
    pub(crate) comparison: ComparisonArgs,
    /// Write the checks as JUnit XML
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    pub(crate) junit: Option<PathBuf>,
    /// Annotate the gates that fail or warn in GitHub Actions (on stderr), and append to the step
    /// summary (`$GITHUB_STEP_SUMMARY`)
    #[arg(long, help_heading = "Reports")]
    pub(crate) github: bool,
    /// Write checks, gains and broken examples as Markdown, for a comment on a pull request
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    pub(crate) markdown: Option<PathBuf>,
    /// What is measured, and how.
    #[command(flatten)]
    pub(crate) measure: MeasureArgs,
}

/// `harness compare`.
#[derive(Debug, clap::Args)]
pub(crate) struct CompareArgs {
    /// What it is held against: a run, a baseline, or RUN:VARIANT
    #[arg(value_name = "A")]
    pub(crate) reference: String,
    /// What is judged: a run, a baseline, or RUN:VARIANT
    #[arg(value_name = "B")]
    pub(crate) candidate: String,
    /// Show the flips by every metric, not only by the primary one
    #[arg(long, help_heading = "Output")]
    pub(crate) all: bool,
    /// What may be compared.
    #[command(flatten)]
    pub(crate) comparison: ComparisonArgs,
    /// Where results are.
    #[command(flatten)]
    pub(crate) results: ResultsArgs,
    /// Print as JSON
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

/// `harness baseline`.
#[derive(Debug, clap::Args)]
pub(crate) struct BaselineArgs {
    /// What to do with baselines.
    #[command(subcommand)]
    pub(crate) command: BaselineCommand,
    /// Where results are.
    #[command(flatten)]
    pub(crate) results: ResultsArgs,
}

/// One subcommand of `harness baseline`.
#[derive(Debug, Subcommand)]
pub(crate) enum BaselineCommand {
    /// Save a run as a baseline of its experiment
    Save {
        /// Name of the baseline; `harness check` takes `main` where no other is named
        #[arg(value_name = "NAME")]
        name: String,
        /// Run to save
        #[arg(value_name = "RUN", default_value = "latest")]
        run: String,
        /// Begin a new line: from now on drift is counted from this run, as after a change of
        /// model or dataset
        #[arg(long)]
        new_line: bool,
    },
    /// List all baselines
    List {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Describe a baseline
    Show {
        /// Its name, or EXPERIMENT/NAME
        #[arg(value_name = "NAME")]
        name: String,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a baseline
    Rm {
        /// Its name, or EXPERIMENT/NAME
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// What `run` and `check` measure, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct MeasureArgs {
    /// Which part of the experiments runs.
    #[command(flatten)]
    pub(crate) selection: SelectionArgs,
    /// What may be read.
    #[command(flatten)]
    pub(crate) inputs: InputArgs,
    /// Where results go.
    #[command(flatten)]
    pub(crate) results: ResultsArgs,
    /// How models are found and computed.
    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
    /// Also write the table `tokens`: every scored token with its logprob
    #[arg(long, help_heading = "Results")]
    pub(crate) tokens: bool,
    /// Compute everything anew instead of reading stored responses
    #[arg(long, help_heading = "Computation")]
    pub(crate) fresh: bool,
    /// Print the results as JSON
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    /// How much is told.
    #[command(flatten)]
    pub(crate) verbosity: VerbosityArgs,
}

/// `harness plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct PlanArgs {
    /// Experiment file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Which part of the experiment is planned.
    #[command(flatten)]
    pub(crate) selection: SelectionArgs,
    /// What may be read.
    #[command(flatten)]
    pub(crate) inputs: InputArgs,
    /// Print the prompts of the first N examples, one per variant
    #[arg(long, value_name = "N", help_heading = "Output")]
    pub(crate) prompts: Option<NonZeroUsize>,
    /// Where baselines are.
    #[command(flatten)]
    pub(crate) results: ResultsArgs,
    /// Fetch nothing: fail if a built-in model is not in the cache
    #[arg(long, help_heading = "Computation")]
    pub(crate) offline: bool,
    /// Print the plan as JSON
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    /// How much is told.
    #[command(flatten)]
    pub(crate) verbosity: VerbosityArgs,
}

/// `harness try`.
#[derive(Debug, clap::Args)]
pub(crate) struct TryArgs {
    /// Experiment file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Variant to try
    #[arg(long, value_name = "NAME")]
    pub(crate) variant: String,
    /// Example to put into it [default: the first one]
    #[arg(long, value_name = "ID")]
    pub(crate) example: Option<String>,
    /// Put another text into a field of the example; may be repeated
    #[arg(long, value_name = "FIELD=VALUE")]
    pub(crate) set: Vec<Setting>,
    /// Also let the model write
    #[arg(long)]
    pub(crate) generate: bool,
    /// Model of the experiment to try it on [default: the first one]
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// What may be read.
    #[command(flatten)]
    pub(crate) inputs: InputArgs,
    /// How models are found and computed.
    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
    /// Print everything as JSON
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    /// How much is told.
    #[command(flatten)]
    pub(crate) verbosity: VerbosityArgs,
}

/// `harness show`.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags, as they are typed")]
pub(crate) struct ShowArgs {
    /// Run to show: `latest`, `latest~1`, `EXPERIMENT/latest`, the start of an id, or a path
    #[arg(value_name = "RUN", default_value = "latest")]
    pub(crate) run: String,
    /// Show prompts and generations
    #[arg(long)]
    pub(crate) prompts: bool,
    /// Show the cases that went wrong
    #[arg(long)]
    pub(crate) failures: bool,
    /// Show one example in every variant
    #[arg(long, value_name = "ID")]
    pub(crate) example: Option<String>,
    /// Show which examples each variant gets right or wrong that the control, or else the best
    /// variant, does not
    #[arg(long, conflicts_with_all = ["prompts", "failures", "example"])]
    pub(crate) flips: bool,
    /// Where results are.
    #[command(flatten)]
    pub(crate) results: ResultsArgs,
    /// Print as JSON
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

/// `harness report`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReportArgs {
    /// Runs to put into the file: `latest`, `latest~1`, `EXPERIMENT/latest`, the start of an id,
    /// or a path; the first one is shown first
    #[arg(value_name = "RUN", default_value = "latest")]
    pub(crate) runs: Vec<String>,
    /// File to write, `-` for stdout; one that exists is replaced
    #[arg(
        short,
        long = "output",
        value_name = "FILE",
        default_value = "report.html"
    )]
    pub(crate) output: PathBuf,
    /// Where results are.
    #[command(flatten)]
    pub(crate) results: ResultsArgs,
}

/// `harness query`.
#[derive(Debug, clap::Args)]
pub(crate) struct QueryArgs {
    /// One SELECT statement, in the SQL of SQLite
    #[arg(value_name = "SQL")]
    pub(crate) statement: String,
    /// Ask only this run; may be repeated [default: all runs]
    #[arg(long, value_name = "RUN", help_heading = "Selection")]
    pub(crate) run: Vec<String>,
    /// Where results are.
    #[command(flatten)]
    pub(crate) results: ResultsArgs,
    /// Print as CSV, fit for spreadsheets: a text that looks like a formula gets an apostrophe
    #[arg(long, help_heading = "Output", conflicts_with = "json")]
    pub(crate) csv: bool,
    /// Print as JSON
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

/// `harness models`.
#[derive(Debug, clap::Args)]
pub(crate) struct ModelsArgs {
    /// What to do with models.
    #[command(subcommand)]
    pub(crate) command: ModelsCommand,
}

/// One subcommand of `harness models`.
#[derive(Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    /// List the built-in models and whether they are in the model cache
    List {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Fetch a built-in model or one on the hub into its cache
    #[command(after_long_help = help::MODELS_PULL)]
    Pull {
        /// Built-in model, with or without `builtin:`, or hf:OWNER/REPO@REVISION[/FILE]
        #[arg(value_name = "NAME")]
        name: String,
        /// Fetch nothing: fail if the model is not in the cache
        #[arg(long)]
        offline: bool,
        /// Show no progress
        #[arg(short, long)]
        quiet: bool,
    },
    /// Describe a model, or say why it cannot be used. Loads no weights
    #[command(after_long_help = help::MODELS_INFO)]
    Info {
        /// `builtin:NAME`, hf:OWNER/REPO@REVISION[/FILE], or a path to a .gguf file or a
        /// checkpoint folder
        #[arg(value_name = "SOURCE")]
        source: String,
        /// Fetch nothing: fail if the model is not in its cache
        #[arg(long)]
        offline: bool,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
}

/// `harness init`.
#[derive(Debug, clap::Args)]
pub(crate) struct InitArgs {
    /// Folder to write; must not exist yet, or be empty. With --ci: root of the repository
    /// [default with --ci: the working folder]
    #[arg(value_name = "DIR", required_unless_present = "ci")]
    pub(crate) folder: Option<PathBuf>,
    /// Write a workflow instead, which checks the experiments of every pull request
    #[arg(long, value_name = "SERVICE")]
    pub(crate) ci: Option<CiService>,
}

/// A service that runs workflows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CiService {
    /// GitHub Actions: .github/workflows/prompts.yml
    Github,
}

/// `harness completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// Shell to complete for
    #[arg(value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::exit::Exit;

    fn parse(words: &[&str]) -> Result<Command, clap::Error> {
        Args::try_parse_from(std::iter::once(&"harness").chain(words)).map(|it| it.command)
    }

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }

    /// Every `--help` is a snapshot, so that each change of wording is seen in review.
    #[test]
    fn help_of_every_command() {
        for words in [
            &[][..],
            &["run"],
            &["check"],
            &["compare"],
            &["baseline"],
            &["baseline", "save"],
            &["plan"],
            &["try"],
            &["show"],
            &["report"],
            &["models"],
            &["models", "list"],
            &["models", "pull"],
            &["models", "info"],
            &["init"],
            &["schema"],
            &["completions"],
        ] {
            let mut command = Args::command().term_width(100).name("harness");
            command.build();
            let mut named = &mut command;
            for word in words {
                named = named.find_subcommand_mut(word).unwrap();
            }
            let name = [&["help"][..], words].concat().join("_");
            insta::assert_snapshot!(name, named.render_long_help().to_string());
        }
        let mut command = Args::command().term_width(100);
        insta::assert_snapshot!("short_help", command.render_help().to_string());
    }

    #[test]
    fn help_names_every_exit_code() {
        let help = Args::command().render_long_help().to_string();
        for exit in [
            Exit::Done,
            Exit::GateFailed,
            Exit::Refused,
            Exit::Incomplete,
            Exit::Inconclusive,
            Exit::Interrupted,
            Exit::Terminated,
        ] {
            let code = exit.code().to_string();
            let names_it = |line: &str| line.split_whitespace().next() == Some(&code);
            assert!(
                help.lines().any(names_it),
                "exit code {code} is not explained"
            );
        }
    }

    #[test]
    fn a_selection_lays_profile_settings_and_limit_over_the_file() {
        let words = [
            "run",
            "a.toml",
            "b.toml",
            "--limit",
            "5",
            "--set",
            "scoring.delimiter=",
            "--set",
            "generation.stop=[\"=\"]",
            "--profile",
            "ci",
            "--variant",
            "f*",
            "--variant",
            "bare",
            "--model",
            "smol",
            "-j4",
            "-v",
        ];
        let Command::Run(run) = parse(&words).unwrap() else {
            panic!("not a run")
        };
        assert_eq!(
            run.files,
            [PathBuf::from("a.toml"), PathBuf::from("b.toml")]
        );
        let selection = run.measure.selection.selection();
        assert_eq!(selection.overlay.profile.as_deref(), Some("ci"));
        let expected = [
            ("scoring.delimiter", ""),
            ("generation.stop", "[\"=\"]"),
            ("dataset.limit", "5"), // Last, so it wins over a `--set` of the same key.
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(selection.overlay.set, expected);
        assert!(selection.variants.matches("few") && selection.variants.matches("bare"));
        assert!(!selection.variants.matches("chat") && !selection.models.matches("other"));
        assert_eq!(
            run.measure.compute.n_threads.map(NonZeroUsize::get),
            Some(4)
        );
        assert_eq!(run.measure.verbosity.verbosity(), Verbosity::Verbose);
    }

    #[test]
    fn without_flags_everything_is_selected() {
        let Command::Plan(plan) = parse(&["plan", "a.toml"]).unwrap() else {
            panic!("no plan")
        };
        assert_eq!(plan.selection.selection(), Selection::default());
        assert_eq!(plan.verbosity.verbosity(), Verbosity::Normal);
        let Command::Show(show) = parse(&["show"]).unwrap() else {
            panic!("no show")
        };
        assert_eq!(show.run, "latest");
    }

    #[test]
    fn what_is_mistyped_is_refused_with_the_code_of_a_refusal() {
        for (words, part) in [
            (&["run"][..], "<FILE>"),
            (&["run", "a.toml", "--limit", "0"], "'0' for '--limit <N>'"),
            (&["run", "a.toml", "--set", "limit"], "expected KEY=VALUE"),
            (&["run", "a.toml", "--set", " =1"], "expected KEY=VALUE"),
            (&["run", "a.toml", "-q", "-v"], "cannot be used with"),
            (&["run", "a.toml", "--varient", "x"], "--variant"),
            (&["try", "a.toml"], "--variant <NAME>"),
            (&["plam"], "'plan'"),
            (&["init"], "<DIR>"),
            (&["init", "--ci", "gitlab"], "possible values: github"),
        ] {
            let err = parse(words).unwrap_err();
            assert!(err.to_string().contains(part), "{words:?}: {err}");
            assert_eq!(
                err.exit_code(),
                i32::from(Exit::Refused.code()),
                "{words:?}"
            );
        }
        assert_eq!(parse(&["run", "--help"]).unwrap_err().exit_code(), 0);
    }
}
