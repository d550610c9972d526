//! `harness models`: the built-in models, fetching one; `model_info` shows what a model is made of.

use std::path::Path;

use harness::experiment::{ModelSource, SourceError};
use harness::model::builtin::{self, Builtin, PullProgress};
use harness::model::{Model, ModelError, OpenOptions, open};
use serde_json::json;

use super::args::{ModelsCommand, Verbosity};
use super::draw::{Download, kind};
use super::exit::Exit;
use super::model_info;
use super::output::{self, OutputError};
use super::progress::{Kind, bytes};

/// Version of the JSON below.
const JSON_VERSION: u32 = 1;

/// Runs one of the subcommands.
pub(super) fn run(command: &ModelsCommand) -> Result<Exit, OutputError> {
    match command {
        ModelsCommand::List { json } => {
            let cache = builtin::default_cache().ok();
            let text = if *json {
                list_json(builtin::list(), cache.as_deref())
            } else {
                list_text(builtin::list(), cache.as_deref())
            };
            output::result(&text)?;
            Ok(Exit::Done)
        }
        ModelsCommand::Pull {
            name,
            offline,
            quiet,
        } => {
            let verbosity = if *quiet {
                Verbosity::Quiet
            } else {
                Verbosity::Normal
            };
            let kind = kind(verbosity);
            if name.starts_with("hf:") {
                return match name.parse() {
                    Ok(source) => told(find(&source, *offline, kind), None, |model| {
                        pulled_from_hub(&model)
                    }),
                    Err(err) => Ok(refused(&err)),
                };
            }
            let name = name.strip_prefix("builtin:").unwrap_or(name);
            let source = ModelSource::Builtin(name.to_owned());
            // Opening fetches, and checks the digest of what was there before.
            let opened = Builtin::find(name)
                .map_err(ModelError::from)
                .and_then(|it| Ok((it, find(&source, *offline, kind)?)));
            told(opened, None, |(builtin, model)| {
                pulled_text(builtin, &model)
            })
        }
        ModelsCommand::Info {
            source,
            offline,
            json,
        } => {
            let parsed = match source.parse() {
                Ok(parsed) => parsed,
                Err(err @ SourceError::Hub { .. }) => return Ok(refused(&err)),
                // A bare word may be a folder here, as in any shell command.
                Err(SourceError::Unclear { .. }) => ModelSource::Path(source.into()),
            };
            let opened = find(&parsed, *offline, kind(Verbosity::Normal));
            model_info::show(&parsed, opened, *json, hint(source).as_deref())
        }
    }
}

/// Opens the model, with a bar while it is fetched.
fn find(source: &ModelSource, offline: bool, kind: Kind) -> Result<Model, ModelError> {
    let options = OpenOptions {
        offline,
        ..OpenOptions::default()
    };
    open(source, &options, &mut fetching(kind, &source.to_string()))
}

/// Writes the result, or why there is none.
fn told<T>(
    result: Result<T, ModelError>,
    hint: Option<&str>,
    text: impl FnOnce(T) -> String,
) -> Result<Exit, OutputError> {
    match result {
        Ok(it) => {
            output::result(&text(it))?;
            Ok(Exit::Done)
        }
        Err(err) => {
            let own = err.hint();
            output::error(&err, own.as_deref().or(hint));
            Ok(Exit::Refused)
        }
    }
}

/// Says that the source of a hub's model is not written as it should be.
fn refused(err: &SourceError) -> Exit {
    let hint = "write hf:OWNER/REPO@REVISION, with /FILE after it for one `.gguf` file; the \
                revision is a commit, tag or branch such as `main`";
    output::error(err, Some(hint));
    Exit::Refused
}

/// What was probably meant by a source that cannot be opened.
fn hint(source: &str) -> Option<String> {
    let builtin = builtin::list().iter().find(|it| it.name == source)?;
    Some(format!("did you mean `builtin:{}`?", builtin.name))
}

/// Shows the progress of fetching the model called `name`, if it has to be fetched at all.
pub(crate) fn fetching(kind: Kind, name: &str) -> impl FnMut(PullProgress) + use<> {
    let mut download = Download::new(kind, name);
    move |progress| match progress {
        PullProgress::Downloading {
            n_bytes,
            total_bytes,
        } => {
            download.update("fetching", n_bytes, total_bytes);
        }
        PullProgress::Unpacking {
            n_bytes,
            total_bytes,
        } => {
            download.update("unpacking", n_bytes, total_bytes);
        }
        PullProgress::Waiting {
            n_bytes,
            total_bytes,
        } => {
            download.update("waiting for another process to fetch", n_bytes, total_bytes);
        }
        PullProgress::Done { .. } => download.clear(),
    }
}

fn list_text(builtins: &[Builtin], cache: Option<&Path>) -> String {
    let describe = |it: &Builtin| {
        let place = match cache {
            Some(cache) if it.is_cached(cache) => it.path(cache).display().to_string(),
            Some(_) => format!(
                "not in the model cache; fetched when needed, or by `harness models pull {}`",
                it.name
            ),
            None => "there is no model cache: set `HARNESS_MODELS` to a folder".to_owned(),
        };
        let size = format!(
            "{} ({} to fetch)",
            bytes(it.file_bytes),
            bytes(it.wheel_bytes)
        );
        let facts = rows(&[
            ("what", it.description.to_owned()),
            ("licence", it.licence.to_owned()),
            ("size", size),
            ("where", place),
        ]);
        format!("builtin:{}\n{facts}", it.name)
    };
    builtins.iter().map(describe).collect::<Vec<_>>().concat()
}

fn list_json(builtins: &[Builtin], cache: Option<&Path>) -> String {
    let models: Vec<_> = builtins
        .iter()
        .map(|it| {
            json!({
                "source": format!("builtin:{}", it.name),
                "description": it.description,
                "licence": it.licence,
                "file_bytes": it.file_bytes,
                "fetched_bytes": it.wheel_bytes,
                "sha256": it.sha256,
                "path": cache.map(|cache| it.path(cache)),
                "is_cached": cache.is_some_and(|cache| it.is_cached(cache)),
            })
        })
        .collect();
    output::json(&json!({ "schema_version": JSON_VERSION, "models": models }))
}

fn pulled_text(builtin: &Builtin, model: &Model) -> String {
    let info = model.info();
    let text = format!("{}\n", info.source);
    text + &rows(&[
        ("file", info.files.join("\n")),
        ("size", bytes(info.weights_bytes)),
        ("sha256", builtin.sha256.to_owned()),
        ("digest", info.digest),
    ])
}

fn pulled_from_hub(model: &Model) -> String {
    let info = model.info();
    let text = format!("{}\n", output::harmless(&info.source));
    text + &rows(&[
        ("files", info.files.join("\n")),
        ("size", bytes(info.weights_bytes)),
        ("commit", info.revision.unwrap_or_default()),
        ("digest", info.digest),
    ])
}

/// One row per fact, the values below each other; a value of several lines stays in its column.
fn rows(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let between = format!("\n{:1$}", "", width + 4);
    let row = |(name, value): &(&str, String)| {
        let value = output::harmless(value).replace('\n', &between);
        format!("  {name:width$}  {value}\n")
    };
    facts.iter().map(row).collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_says_whether_a_model_is_here() {
        let cache = tempfile::tempdir().unwrap();
        let it = &builtin::list()[0];
        let absent = list_text(builtin::list(), Some(cache.path()));
        assert!(
            absent.contains(&format!("harness models pull {}", it.name)),
            "{absent}"
        );
        std::fs::File::create(it.path(cache.path()))
            .unwrap()
            .set_len(it.file_bytes)
            .unwrap();
        let present = list_text(builtin::list(), Some(cache.path()));
        assert!(
            present.contains(&it.path(cache.path()).display().to_string()),
            "{present}"
        );
        assert!(list_text(builtin::list(), None).contains("HARNESS_MODELS"));
    }

    #[test]
    fn the_json_list_carries_its_version() {
        let cache = tempfile::tempdir().unwrap();
        let text = list_json(builtin::list(), Some(cache.path()));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["schema_version"], JSON_VERSION);
        assert_eq!(
            value["models"][0]["source"],
            "builtin:smollm2-135m-instruct"
        );
        assert_eq!(value["models"][0]["is_cached"], false);
    }

    #[test]
    fn a_builtin_without_its_prefix_is_recognised() {
        let name = builtin::list()[0].name;
        assert_eq!(hint(name), Some(format!("did you mean `builtin:{name}`?")));
        assert_eq!(hint("other.gguf"), None);
    }
}
