//! `harness models`: the built-in models, fetching one, and what a model is made of.

use std::path::Path;

use harness::experiment::{ModelSource, SourceError};
use harness::model::builtin::{self, Builtin, PullProgress};
use harness::model::{Model, ModelError, ModelInfo, OpenOptions, open};
use serde_json::json;

use super::args::{ModelsCommand, Verbosity};
use super::draw::{Download, kind};
use super::exit::Exit;
use super::output::{self, OutputError};
use super::progress::{Kind, bytes};

/// Version of the JSON below.
const JSON_VERSION: u32 = 1;
/// Bytes of one weight in memory.
const F32_BYTES: u64 = 4;

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
            let model = find(&parsed, *offline, kind(Verbosity::Normal));
            told(model, hint(source).as_deref(), |model| {
                if *json {
                    info_json(&model)
                } else {
                    info_text(&model)
                }
            })
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

fn info_json(model: &Model) -> String {
    let info = model.info();
    output::json(&json!({
        "schema_version": JSON_VERSION,
        "f32_bytes": f32_bytes(&info),
        "model": info,
    }))
}

fn info_text(model: &Model) -> String {
    let chat = match &model.chat {
        Ok(_) => "yes".to_owned(),
        Err(err) => format!("no: {err}"),
    };
    text_of(&model.info(), chat)
}

fn text_of(info: &ModelInfo, chat: String) -> String {
    let bos = match (&info.bos, info.add_bos) {
        (None, _) => "none".to_owned(),
        (Some(token), true) => format!("{token}, in front of every text"),
        (Some(token), false) => format!("{token}, not put in front of texts"),
    };
    let padding = match info.n_padding {
        0 => String::new(),
        n => format!(", {n} of them without a text"),
    };
    let text = format!("{}\n", output::harmless(&info.source));
    let commit = info.revision.iter().map(|it| ("commit", it.clone()));
    let mut facts: Vec<_> = commit.collect();
    facts.extend([
        ("files", info.files.join("\n")),
        ("size", bytes(info.weights_bytes)),
        ("architecture", info.architecture.clone()),
        ("parameters", grouped(info.n_parameters)),
        ("tensors", info.quantisation.clone()),
        (
            "memory",
            format!("{} as f32, weights alone", bytes(f32_bytes(info))),
        ),
        ("context", format!("{} tokens", info.n_context)),
        ("vocabulary", format!("{} ids{padding}", info.n_vocab)),
        ("BOS", bos),
        (
            "EOS",
            if info.eos.is_empty() {
                "none".to_owned()
            } else {
                info.eos.join(" ")
            },
        ),
        ("chat template", chat),
        ("tokenizer digest", info.tokenizer_digest.clone()),
        ("digest", info.digest.clone()),
    ]);
    text + &rows(&facts)
}

/// Memory of all weights as f32, in bytes.
fn f32_bytes(info: &ModelInfo) -> u64 {
    info.n_parameters.saturating_mul(F32_BYTES)
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

/// `134 515 008`.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if 0 < i && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> ModelInfo {
        ModelInfo {
            source: "ckpt\u{1b}[2J".to_owned(),
            revision: None,
            files: vec![
                "ckpt/a.safetensors".to_owned(),
                "ckpt/b.safetensors".to_owned(),
            ],
            weights_bytes: 98_362_432,
            architecture: "llama".to_owned(),
            n_parameters: 134_515_008,
            quantisation: "272 F32".to_owned(),
            file_type: None,
            n_context: 8192,
            n_vocab: 49_152,
            n_padding: 0,
            bos: Some("<|im_start|>".to_owned()),
            add_bos: false,
            eos: vec!["<|im_end|>".to_owned()],
            has_chat_template: true,
            digest: "d1".to_owned(),
            tokenizer_digest: "d2".to_owned(),
        }
    }

    #[test]
    fn info_of_a_model() {
        insta::assert_snapshot!(text_of(&info(), "yes".to_owned()));
    }

    #[test]
    fn info_tells_the_commit_of_a_model_on_the_hub() {
        let info = ModelInfo {
            revision: Some("c1899de2".to_owned()),
            ..info()
        };
        let text = text_of(&info, "yes".to_owned());
        let line = text.lines().nth(1).unwrap();
        assert_eq!(
            line.split_whitespace().collect::<Vec<_>>(),
            ["commit", "c1899de2"]
        );
    }

    #[test]
    fn info_tells_the_policies_apart() {
        let line = |info: &ModelInfo, name: &str| {
            let text = text_of(info, "yes".to_owned());
            text.lines()
                .find(|it| it.trim_start().starts_with(name))
                .unwrap()
                .to_owned()
        };
        let base = info();
        assert!(
            line(
                &ModelInfo {
                    add_bos: true,
                    ..info()
                },
                "BOS"
            )
            .ends_with("in front of every text")
        );
        assert!(line(&base, "BOS").ends_with("not put in front of texts"));
        assert!(
            line(
                &ModelInfo {
                    bos: None,
                    ..info()
                },
                "BOS"
            )
            .ends_with("none")
        );
        assert!(
            line(
                &ModelInfo {
                    n_padding: 3,
                    ..info()
                },
                "vocab"
            )
            .ends_with("3 of them without a text")
        );
        // 134 515 008 weights of 4 bytes.
        assert!(line(&base, "memory").contains("538.1 MB"));
    }

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

    #[test]
    fn digits_are_grouped_by_thousands() {
        let shown = [0, 999, 1_000, 134_515_008].map(grouped);
        assert_eq!(shown, ["0", "999", "1 000", "134 515 008"]);
    }
}
