//! `harness init --ci github`: a workflow that checks every pull request.
//!
//! The workflow is the file `prompts.yml` beside this one, with the experiments that were
//! found written into it. Nothing else is written, and a workflow that exists is left as it
//! is. A name that YAML, a shell or an expression of GitHub could read as more than a name
//! is not listed, but told.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::super::exit::Exit;
use super::super::output::{self, OutputError};

/// Where GitHub looks for workflows, from the root of a repository.
const WORKFLOWS: &str = ".github/workflows";

/// The workflow, with `__NAMES__` for what differs.
const TEMPLATE: &str = include_str!("prompts.yml");

/// Why no workflow was written.
#[derive(Debug, thiserror::Error)]
enum WorkflowError {
    /// There is a workflow of this name.
    #[error("`{}` exists already", .path.display())]
    Exists { path: PathBuf },
    /// A workflow that checks nothing would always pass.
    #[error("no experiment with gates in `{}` or a folder in it", .folder.display())]
    NothingToCheck { folder: PathBuf },
    /// A file or folder cannot be made or read.
    #[error("cannot use `{}`", .path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl WorkflowError {
    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Exists { .. } => Some(
                "list experiments under EXPERIMENTS in it, or move it away and try again; \
                 nothing was written",
            ),
            Self::NothingToCheck { .. } => Some(
                "add a table [[gates]] to an experiment, or name the root of the repository; \
                 nothing was written",
            ),
            Self::Io { .. } => None,
        }
    }
}

/// The experiments of a repository.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    /// Those with gates, from the root, parted by `/`, in the order of their names.
    experiments: Vec<String>,
    /// Those that are not checked, with the reason.
    left_out: Vec<String>,
}

/// Writes the workflow into the repository at `root` and says what to do next.
pub(super) fn run(root: &Path) -> Result<Exit, OutputError> {
    let written = find(root).and_then(|found| Ok((write(root, &found)?, found)));
    match written {
        Ok((path, found)) => {
            for why in &found.left_out {
                output::note(&format!("note: {why}"));
            }
            if !root.join(".git").exists() {
                output::note(&format!(
                    "note: `{}` is not the root of a git repository; GitHub reads workflows only \
                     there",
                    root.display()
                ));
            }
            output::result(&report(&path, &found.experiments))?;
            Ok(Exit::Done)
        }
        Err(err) => {
            output::error(&err, err.hint());
            Ok(Exit::Refused)
        }
    }
}

fn report(path: &Path, experiments: &[String]) -> String {
    let list: Vec<String> = experiments.iter().map(|it| format!("  {it}\n")).collect();
    let file = output::shell_word(path);
    output::harmless(&format!(
        "wrote {}\n\nIt checks, in every pull request:\n{}\nNext:\n  \
         fill in HARNESS_SOURCE and HARNESS_REVISION: where harness is built from\n  \
         git add {file}\n  \
         make its check `prompts` a required one once it has run\n",
        path.display(),
        list.concat(),
    ))
}

/// Writes the workflow and returns its path.
fn write(root: &Path, found: &Found) -> Result<PathBuf, WorkflowError> {
    if found.experiments.is_empty() {
        for why in &found.left_out {
            output::note(&format!("note: {why}"));
        }
        return Err(WorkflowError::NothingToCheck {
            folder: root.to_owned(),
        });
    }
    let folder = WORKFLOWS
        .split('/')
        .fold(root.to_owned(), |it, name| it.join(name));
    std::fs::create_dir_all(&folder).map_err(|source| WorkflowError::Io {
        path: folder.clone(),
        source,
    })?;
    let path = folder.join("prompts.yml");
    let created = OpenOptions::new().write(true).create_new(true).open(&path);
    let written = created.and_then(|mut file| file.write_all(text(&found.experiments).as_bytes()));
    match written {
        Ok(()) => Ok(path),
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {
            Err(WorkflowError::Exists { path })
        }
        Err(source) => Err(WorkflowError::Io { path, source }),
    }
}

/// The workflow for these experiments.
fn text(experiments: &[String]) -> String {
    let list: Vec<String> = experiments.iter().map(|it| format!("    {it}")).collect();
    TEMPLATE
        .replace("__VERSION__", env!("CARGO_PKG_VERSION"))
        .replace("__RUST_VERSION__", env!("CARGO_PKG_RUST_VERSION"))
        .replace("__FILES__", &watched(experiments))
        .replace("__EXPERIMENTS__", &list.join("\n"))
}

/// Patterns of the files on which answers depend, as arguments of `hashFiles`.
fn watched(experiments: &[String]) -> String {
    let mut patterns = BTreeSet::new();
    for experiment in experiments {
        match experiment.split_once('/') {
            Some((folder, _)) => {
                patterns.insert(format!("'{folder}/**'"));
            }
            None => patterns.extend(
                [
                    "*.toml",
                    "**/*.jsonl",
                    "**/*.csv",
                    "**/*.tsv",
                    "**/*.parquet",
                ]
                .map(|it| format!("'{it}'")),
            ),
        }
    }
    Vec::from_iter(patterns).join(", ")
}

/// The experiments in `root` and in the folders in it.
fn find(root: &Path) -> Result<Found, WorkflowError> {
    let mut found = Found::default();
    for (name, path) in entries(root)? {
        // What git or a tool keeps for itself, or a program made.
        if path.is_dir() && !name.starts_with('.') && name != "results" && name != "target" {
            for (file, path) in entries(&path)? {
                found.add(&format!("{name}/{file}"), &path);
            }
        } else {
            found.add(&name, &path);
        }
    }
    found.experiments.sort();
    Ok(found)
}

/// Names and paths in `folder`, sorted; one that is no Unicode is shown with replacements.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, WorkflowError> {
    let io_error = |source| WorkflowError::Io {
        path: folder.to_owned(),
        source,
    };
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io_error)? {
        let entry = entry.map_err(io_error)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        entries.push((name, entry.path()));
    }
    entries.sort();
    Ok(entries)
}

impl Found {
    /// Takes the file in if it is an experiment.
    fn add(&mut self, name: &str, path: &Path) {
        if path.extension().is_none_or(|it| it != "toml") || !path.is_file() {
            return;
        }
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let Ok(table) = text.parse::<toml::Table>() else {
            self.left_out
                .push(format!("`{name}` is left out: it is no TOML"));
            return;
        };
        if !table.get("experiment").is_some_and(toml::Value::is_table) {
            return;
        }
        let gates = table.get("gates").and_then(toml::Value::as_array);
        if gates.is_none_or(Vec::is_empty) {
            self.left_out.push(format!(
                "`{name}` is left out: it has no [[gates]], so there is nothing to decide"
            ));
        } else if !is_plain(name) {
            self.left_out.push(format!(
                "`{name}` is left out: a workflow lists only names of letters, digits, spaces \
                 and `-_.+@,=/`"
            ));
        } else {
            self.experiments.push(name.to_owned());
        }
    }
}

/// Whether a path is nothing but a path in YAML, in an expression and on a command line.
fn is_plain(name: &str) -> bool {
    let is_plain = |c: char| c.is_alphanumeric() || "-_.+@,=/ ".contains(c);
    name.chars().all(is_plain) && !name.starts_with([' ', '-']) && !name.ends_with(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATED: &str = "[experiment]\nname = 'x'\n[[gates]]\nmetric = 'acc'\nmin = 0.5\n";

    fn repository(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn experiments_with_gates_are_found_and_the_rest_is_told() {
        let root = repository(&[
            ("top.toml", GATED),
            ("experiments/b.toml", &format!("\u{feff}{GATED}")),
            ("experiments/a file.toml", GATED),
            ("experiments/bare.toml", "[experiment]\nname = 'x'\n"),
            ("experiments/${{ x }}.toml", GATED),
            ("experiments/broken.toml", "[experiment"),
            ("experiments/deep/c.toml", GATED),
            ("Cargo.toml", "[package]\nname = 'x'\n"),
            ("results/run.toml", GATED),
            (".hidden/d.toml", GATED),
            ("notes.txt", GATED),
        ]);
        let found = find(root.path()).unwrap();
        assert_eq!(
            found.experiments,
            ["experiments/a file.toml", "experiments/b.toml", "top.toml"]
        );
        assert_eq!(
            found.left_out,
            [
                "`experiments/${{ x }}.toml` is left out: a workflow lists only names of letters, \
                 digits, spaces and `-_.+@,=/`",
                "`experiments/bare.toml` is left out: it has no [[gates]], so there is nothing to \
                 decide",
                "`experiments/broken.toml` is left out: it is no TOML",
            ]
        );
    }

    #[test]
    fn a_workflow_that_would_check_nothing_is_not_written() {
        let root = repository(&[("a.toml", "[experiment]\nname = 'x'\n")]);
        let err = find(root.path())
            .and_then(|found| write(root.path(), &found))
            .unwrap_err();
        assert!(matches!(err, WorkflowError::NothingToCheck { .. }));
        assert!(!root.path().join(".github").exists());
    }

    #[test]
    fn a_workflow_that_exists_is_left_alone() {
        let root = repository(&[("a.toml", GATED), (".github/workflows/prompts.yml", "mine")]);
        let err = find(root.path())
            .and_then(|found| write(root.path(), &found))
            .unwrap_err();
        assert!(matches!(err, WorkflowError::Exists { .. }));
        let path = root.path().join(".github/workflows/prompts.yml");
        assert_eq!(std::fs::read_to_string(path).unwrap(), "mine");
    }

    #[test]
    fn every_blank_of_the_template_is_filled_in() {
        let text = text(&["experiments/a.toml".into(), "b.toml".into()]);
        assert!(!text.contains("__"), "{text}");
        assert!(text.contains("  EXPERIMENTS: |\n    experiments/a.toml\n    b.toml\n\njobs:"));
        assert!(text.contains(
            "hashFiles('**/*.csv', '**/*.jsonl', '**/*.parquet', '**/*.tsv', '*.toml', \
             'experiments/**')"
        ));
        assert!(text.contains("harness 0.") && text.contains("rustup toolchain install 1."));
    }
}
