//! `harness init DIR`: a small experiment with data, to run at once and to edit.
//!
//! What it writes are this project's own experiments, embedded in the program. Only a
//! folder that does not exist yet or is empty is written to, and every file is created
//! anew, so nothing is ever overwritten. With `--ci` it writes a [`workflow`] instead.

mod workflow;

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::args::{CiService, InitArgs};
use super::exit::Exit;
use super::output::{self, OutputError};

/// Name of the JSON Schema that the first line of each experiment points an editor at.
const SCHEMA_FILE: &str = "experiment.schema.json";

/// The experiment files.
const EXPERIMENTS: [(&str, &str); 2] = [
    (
        "sentiment.toml",
        include_str!("../../experiments/sentiment.toml"),
    ),
    (
        "translate.toml",
        include_str!("../../experiments/translate.toml"),
    ),
];

/// Their data, below `data/`.
const DATA: [(&str, &str); 4] = [
    (
        "reviews.jsonl",
        include_str!("../../experiments/data/reviews.jsonl"),
    ),
    (
        "reviews.train.jsonl",
        include_str!("../../experiments/data/reviews.train.jsonl"),
    ),
    (
        "en-fr.jsonl",
        include_str!("../../experiments/data/en-fr.jsonl"),
    ),
    (
        "en-fr.train.jsonl",
        include_str!("../../experiments/data/en-fr.train.jsonl"),
    ),
];

/// Results are large and can be made again; baselines are small and belong to the code.
const GITIGNORE: &str = "results/*\n!results/baselines/\n";

/// Why the folder was not written.
#[derive(Debug, thiserror::Error)]
enum InitError {
    /// Something is in the folder already.
    #[error("`{}` is not empty: `{in_the_way}` is in the way", .folder.display())]
    NotEmpty { folder: PathBuf, in_the_way: String },
    /// The path leads to a file.
    #[error("`{}` is not a folder", .folder.display())]
    NotAFolder { folder: PathBuf },
    /// A file or folder cannot be made or read.
    #[error("cannot use `{}`", .path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl InitError {
    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotEmpty { .. } | Self::NotAFolder { .. } => {
                Some("name a folder that does not exist yet; nothing was written")
            }
            Self::Io { .. } => None,
        }
    }
}

/// Writes the folder, or the workflow, and says what to do next.
pub(super) fn run(args: &InitArgs) -> Result<Exit, OutputError> {
    // The parser asks for a folder where no service is named.
    let folder = args.folder.as_deref().unwrap_or(Path::new("."));
    match args.ci {
        Some(CiService::Github) => workflow::run(folder),
        None => experiments(folder),
    }
}

fn experiments(folder: &Path) -> Result<Exit, OutputError> {
    match write(folder) {
        Ok(files) => {
            output::result(&report(folder, &files))?;
            Ok(Exit::Done)
        }
        Err(err) => {
            output::error(&err, err.hint());
            Ok(Exit::Refused)
        }
    }
}

fn report(folder: &Path, files: &[PathBuf]) -> String {
    let wrote = |it: &PathBuf| format!("wrote {}\n", output::harmless(&it.display().to_string()));
    let files: Vec<String> = files.iter().map(wrote).collect();
    let first = output::shell_word(&folder.join(EXPERIMENTS[0].0));
    format!("{}\nNext:\n  harness run {first}\n", files.concat())
}

/// Writes every file and returns their paths.
fn write(folder: &Path) -> Result<Vec<PathBuf>, InitError> {
    check_free(folder)?;
    let data = folder.join("data");
    std::fs::create_dir_all(&data).map_err(|source| InitError::Io {
        path: data.clone(),
        source,
    })?;
    let experiments = EXPERIMENTS.map(|(name, text)| {
        (
            folder.join(name),
            format!("#:schema ./{SCHEMA_FILE}\n\n{text}"),
        )
    });
    let rows = DATA.map(|(name, text)| (data.join(name), text.to_owned()));
    let around = [
        (
            folder.join(SCHEMA_FILE),
            output::json(&harness::experiment::schema()),
        ),
        (folder.join(".gitignore"), GITIGNORE.to_owned()),
    ];
    let mut written = Vec::new();
    for (path, text) in experiments.into_iter().chain(rows).chain(around) {
        let created = OpenOptions::new().write(true).create_new(true).open(&path);
        created
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|source| InitError::Io {
                path: path.clone(),
                source,
            })?;
        written.push(path);
    }
    Ok(written)
}

/// Whether nothing but perhaps a fresh repository is at `folder`.
fn check_free(folder: &Path) -> Result<(), InitError> {
    let io_error = |source| InitError::Io {
        path: folder.to_owned(),
        source,
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(err) if err.kind() == io::ErrorKind::NotADirectory => {
            return Err(InitError::NotAFolder {
                folder: folder.to_owned(),
            });
        }
        Err(err) => return Err(io_error(err)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(
            entry
                .map_err(io_error)?
                .file_name()
                .to_string_lossy()
                .into_owned(),
        );
    }
    match names.into_iter().filter(|it| it != ".git").min() {
        None => Ok(()),
        Some(in_the_way) => Err(InitError::NotEmpty {
            folder: folder.to_owned(),
            in_the_way,
        }),
    }
}

#[cfg(test)]
mod tests {
    use harness::experiment::{Overlay, load};

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_written_can_be_run() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("new").join("demo");
        let files = write(&folder).unwrap();
        assert_eq!(
            names(&folder),
            [
                ".gitignore",
                "data",
                "experiment.schema.json",
                "sentiment.toml",
                "translate.toml"
            ]
        );
        for (name, _) in EXPERIMENTS {
            let (experiment, warnings) = load(&folder.join(name), &Overlay::default()).unwrap();
            assert!(warnings.is_empty(), "{warnings:?}");
            let spec = &experiment.spec;
            let fewshot = spec.fewshot.as_ref().map(|it| &it.path.value);
            for path in [&spec.dataset.path.value].into_iter().chain(fewshot) {
                let path = experiment.resolve(path);
                assert!(files.contains(&path), "{} is missing", path.display());
            }
        }
    }

    #[test]
    fn every_experiment_names_the_schema_beside_it() {
        let scratch = tempfile::tempdir().unwrap();
        write(scratch.path()).unwrap();
        for (name, _) in EXPERIMENTS {
            let text = std::fs::read_to_string(scratch.path().join(name)).unwrap();
            let file = text
                .lines()
                .next()
                .unwrap()
                .strip_prefix("#:schema ")
                .unwrap();
            let schema = std::fs::read_to_string(scratch.path().join(file)).unwrap();
            let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
            assert!(schema.is_object());
        }
    }

    #[test]
    fn nothing_is_ever_overwritten() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("demo");
        write(&folder).unwrap();
        let edited = folder.join("sentiment.toml");
        std::fs::write(&edited, "mine").unwrap();
        let message = write(&folder).unwrap_err().to_string();
        assert!(
            message.ends_with("is not empty: `.gitignore` is in the way"),
            "{message}"
        );
        assert_eq!(std::fs::read_to_string(&edited).unwrap(), "mine");
        let message = write(&edited).unwrap_err().to_string();
        assert!(
            message.ends_with("sentiment.toml` is not a folder"),
            "{message}"
        );
    }

    #[test]
    fn a_fresh_repository_is_not_in_the_way() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::create_dir(scratch.path().join(".git")).unwrap();
        write(scratch.path()).unwrap();
        assert!(write(scratch.path()).is_err());
    }

    #[test]
    fn the_next_command_can_be_pasted() {
        let report = report(Path::new("my demo"), &[PathBuf::from("my demo/a")]);
        assert_eq!(
            report,
            "wrote my demo/a\n\nNext:\n  harness run 'my demo/sentiment.toml'\n"
        );
    }
}
