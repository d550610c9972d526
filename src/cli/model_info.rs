//! `harness models info`: what a model is made of, whether it can be used, and why not.
//!
//! The facts of the header are shown for a model that is refused too: they are what one
//! looks at to find out why. The refusal then follows on stderr.

use harness::engine::local::{self, LoadError, Memory};
use harness::experiment::ModelSource;
use harness::model::header::{self, HeaderFacts, TensorFacts};
use harness::model::{Model, ModelError, ModelInfo, OpenOptions};
use serde_json::json;

use super::exit::Exit;
use super::output::{self, OutputError, Stream};
use super::progress::bytes;

/// Version of the JSON below.
const JSON_VERSION: u32 = 2;

/// Special tokens that are shown; some models have hundreds.
const SPECIALS: usize = 20;

/// Why a model cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// Its files or its tokenizer.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// What the engine would have to compute.
    #[error("the model cannot be computed")]
    Engine(#[from] LoadError),
}

/// Everything that is known of one model.
struct Known<'a> {
    source: String,
    header: Option<HeaderFacts>,
    model: Option<Described>,
    memory: Option<Memory>,
    refusal: Option<&'a Refusal>,
}

/// What an opened model tells.
struct Described {
    info: ModelInfo,
    /// Texts of the special tokens.
    specials: Vec<String>,
    /// Why there is no chat template; `None` if there is one.
    no_chat: Option<String>,
}

/// Shows what is known of `opened` or, where it could not be opened, of its header.
pub(super) fn show(
    source: &ModelSource,
    opened: Result<Model, ModelError>,
    is_json: bool,
    hint: Option<&str>,
) -> Result<Exit, OutputError> {
    let mut known = Known {
        source: source.to_string(),
        header: None,
        model: None,
        memory: None,
        refusal: None,
    };
    let checked = match opened {
        Ok(model) => {
            known.header = HeaderFacts::of(&model.files);
            known.model = Some(Described::new(&model));
            local::check(&model).map_err(Refusal::from)
        }
        Err(err) => {
            known.header = header::look(source, &OpenOptions::default());
            Err(err.into())
        }
    };
    known.memory = checked.as_ref().ok().copied();
    known.refusal = checked.as_ref().err();
    if known.header.is_some() {
        output::result(&if is_json {
            known.json()
        } else {
            known.text(Stream::Stdout.width())
        })?;
    }
    match &checked {
        Ok(_) => Ok(Exit::Done),
        Err(err) => {
            let own = match err {
                Refusal::Model(err) => err.hint(),
                Refusal::Engine(_) => None,
            };
            output::error(err, own.as_deref().or(hint));
            Ok(Exit::Refused)
        }
    }
}

impl Described {
    fn new(model: &Model) -> Self {
        Self {
            info: model.info(),
            specials: model.tokenizer.specials().to_vec(),
            no_chat: model.chat.as_ref().err().map(ToString::to_string),
        }
    }
}

impl Known<'_> {
    fn json(&self) -> String {
        let memory = self.memory.map(|it| {
            json!({
                "weights": if it.is_f32 { "f32" } else { "stored" },
                "f32_bytes": it.f32_bytes,
                "stored_bytes": it.stored_bytes,
                "token_bytes": it.token_bytes,
                "work_bytes": it.work_bytes,
            })
        });
        let model = self.model.as_ref().map(|it| {
            let mut info = json!(it.info);
            info["special_tokens"] = json!(it.specials);
            info["no_chat_template"] = json!(it.no_chat);
            info
        });
        output::json(&json!({
            "schema_version": JSON_VERSION,
            "source": self.source,
            "header": self.header,
            "model": model,
            "memory": memory,
            "refused": self.refusal.map(full_message),
        }))
    }

    fn text(&self, width: usize) -> String {
        let mut rows = Rows {
            width,
            text: format!("{}\n", output::harmless(&self.source)),
        };
        let Some(header) = &self.header else {
            return rows.text;
        };
        if let Some(it) = &self.model {
            rows.add_some("commit", [it.info.revision.clone()]);
            rows.add("files", &it.info.files.join("\n"));
            let size = bytes(it.info.weights_bytes);
            let label = it
                .info
                .file_type
                .as_ref()
                .map(|it| format!("labelled {it}"));
            rows.add_some("size", [Some(size), Some(header.format.clone()), label]);
        } else {
            rows.add("format", &header.format);
        }
        header_rows(&mut rows, header);
        if let Some(it) = &self.memory {
            rows.add("memory", &memory_text(it, header.n_context));
        }
        rows.add("tokenizer", &tokenizer_text(header));
        if let Some(it) = &self.model {
            model_rows(&mut rows, it, header);
        }
        rows.text
    }
}

/// One row per fact, the values below each other in one column.
struct Rows {
    width: usize,
    text: String,
}

impl Rows {
    /// Columns of the names; the values begin behind it and two spaces on either side.
    const NAMES: usize = 12;

    /// Adds a fact; its lines are broken at spaces.
    fn add(&mut self, name: &str, value: &str) {
        let indent = Self::NAMES + 4;
        let width = self.width.saturating_sub(indent);
        let mut lines = Vec::new();
        for line in output::harmless(value).split('\n') {
            let mut last = String::new();
            for word in line.split(' ') {
                let is_full = width < last.chars().count() + 1 + word.chars().count();
                if is_full && !last.is_empty() {
                    lines.push(std::mem::take(&mut last));
                }
                if !last.is_empty() {
                    last.push(' ');
                }
                last.push_str(word);
            }
            lines.push(last);
        }
        let lines = lines.join(&format!("\n{:indent$}", ""));
        let name = format!("{name:0$}", Self::NAMES);
        self.text += &["  ", &name, "  ", &lines, "\n"].concat();
    }
}

/// What the header says of the decoder.
fn header_rows(rows: &mut Rows, header: &HeaderFacts) {
    let counted = |n: Option<u64>, what: &str| n.map(|n| format!("{n} {what}"));
    let architecture = [
        header.architecture.clone(),
        counted(header.n_layer, "layers"),
        header.n_embd.map(|n| format!("width {n}")),
        counted(header.n_experts, "experts"),
    ];
    rows.add_some("architecture", architecture);
    let head_dim = header
        .head_dim
        .map_or(String::new(), |n| format!(" of {n}"));
    let tensors = header.tensors.as_ref();
    let has_norms = tensors.is_some_and(|it| it.has_query_key_norm);
    let attention = [
        header.n_head.map(|n| format!("{n} heads{head_dim}")),
        counted(
            header.n_kv_head.filter(|n| Some(*n) != header.n_head),
            "for keys and values",
        ),
        header
            .sliding_window
            .map(|n| format!("window of {n} tokens")),
        has_norms.then(|| "queries and keys normed by head".to_owned()),
    ];
    rows.add_some("attention", attention);
    let gate = tensors.map(|it| if it.is_gated { "gated" } else { "not gated" });
    let mlp = [
        header.n_ff.map(|n| format!("width {n}")),
        gate.map(str::to_owned),
        header.activation.clone(),
    ];
    rows.add_some("MLP", mlp);
    let epsilon = header.norm_epsilon.map(|it| format!("epsilon {it:e}"));
    rows.add_some("norm", [header.norm.clone(), epsilon]);
    let is_learned = tensors.is_some_and(|it| it.has_position_embedding);
    let positions = [
        is_learned.then(|| "an embedding of their own".to_owned()),
        header.rope_base.map(|it| format!("rotary, base {it}")),
        header
            .rope_scaling
            .as_ref()
            .map(|it| format!("scaled: {it}")),
    ];
    rows.add_some("positions", positions);
    if let Some(it) = tensors {
        rows.add("biases", &or_none(&it.biases));
        rows.add("head", head_text(it));
        rows.add("parameters", &grouped(it.n_parameters));
        rows.add("tensors", &it.types);
    }
    rows.add_some("context", [counted(header.n_context, "tokens")]);
}

impl Rows {
    /// Adds a fact of several parts, if any of them is known.
    fn add_some<const N: usize>(&mut self, name: &str, parts: [Option<String>; N]) {
        let known: Vec<String> = parts.into_iter().flatten().collect();
        if !known.is_empty() {
            self.add(name, &known.join(", "));
        }
    }
}

fn head_text(tensors: &TensorFacts) -> &'static str {
    if tensors.is_head_tied {
        "the embedding"
    } else {
        "weights of its own"
    }
}

fn memory_text(memory: &Memory, n_context: Option<u64>) -> String {
    let full = n_context.map_or(String::new(), |n| {
        let full = bytes(memory.token_bytes.saturating_mul(n));
        format!(" ({full} for a whole context)")
    });
    let (as_f32, as_stored) = (bytes(memory.f32_bytes), bytes(memory.stored_bytes));
    let weights = if memory.is_f32 {
        format!("{as_f32} of weights as f32 (as stored: {as_stored})")
    } else {
        format!("{as_stored} of weights as stored (as f32 {as_f32}, more than is free)")
    };
    format!(
        "{weights}\n+ {} per shared token{full}\n+ {} to compute in",
        bytes(memory.token_bytes),
        bytes(memory.work_bytes),
    )
}

fn tokenizer_text(header: &HeaderFacts) -> String {
    let it = &header.tokenizer;
    // GGUF names a tokenizer by the first model that had its kind.
    let kind = it.kind.as_deref().map(|kind| match kind {
        "gpt2" => "byte-level BPE".to_owned(),
        "llama" => "SentencePiece BPE".to_owned(),
        other => other.to_owned(),
    });
    let parts = [
        kind,
        it.pre.as_ref().map(|pre| format!("words cut by {pre}")),
        it.n_tokens.map(|n| format!("{n} tokens")),
        it.n_merges.map(|n| format!("{n} merges")),
    ];
    let known: Vec<String> = parts.into_iter().flatten().collect();
    if known.is_empty() {
        return "the files do not say".to_owned();
    }
    known.join(", ")
}

/// What only an opened model tells.
fn model_rows(rows: &mut Rows, model: &Described, header: &HeaderFacts) {
    let info = &model.info;
    let padding = match info.n_padding {
        0 => String::new(),
        n => format!(", {n} of them without a text"),
    };
    rows.add("vocabulary", &format!("{} ids{padding}", info.n_vocab));
    let rule = match &header.tokenizer.bos_rule {
        Some(place) => format!("from {place}"),
        None => "no file says so".to_owned(),
    };
    let bos = match (&info.bos, info.add_bos) {
        (None, _) => "none".to_owned(),
        (Some(token), true) => format!("{token}, in front of every text ({rule})"),
        (Some(token), false) => format!("{token}, not put in front of texts ({rule})"),
    };
    rows.add("BOS", &bos);
    rows.add("EOS", &or_none(&info.eos));
    let specials = match model.specials.len() {
        n if n <= SPECIALS => or_none(&model.specials),
        n => format!(
            "{} and {} more",
            model.specials[..SPECIALS].join(" "),
            n - SPECIALS
        ),
    };
    rows.add("special", &specials);
    let chat = match &model.no_chat {
        None => "a template".to_owned(),
        Some(reason) => format!("none: {reason}"),
    };
    rows.add("chat", &chat);
    rows.add("token digest", &info.tokenizer_digest);
    rows.add("digest", &info.digest);
}

fn or_none<'a>(texts: impl IntoIterator<Item = &'a String>) -> String {
    let texts: Vec<&str> = texts.into_iter().map(String::as_str).collect();
    if texts.is_empty() {
        "none".to_owned()
    } else {
        texts.join(" ")
    }
}

/// The error with its causes on one line.
fn full_message(err: &Refusal) -> String {
    let mut message = err.to_string();
    let mut cause = std::error::Error::source(err);
    while let Some(it) = cause {
        message += ": ";
        message += &it.to_string();
        cause = it.source();
    }
    message
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
    use harness::model::open;
    use serde_json::Value as Json;
    use std::path::{Path, PathBuf};

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/models")
            .join(name)
    }

    /// What is shown of a fixture, without what changes with the folder of the project.
    fn known(name: &str) -> Known<'static> {
        let source = ModelSource::Path(fixture(name));
        let model = open(&source, &OpenOptions::default(), &mut |_| {}).unwrap();
        let mut described = Described::new(&model);
        described.info.files = vec![format!("models/{name}")];
        described.info.digest = "d".repeat(64);
        described.info.tokenizer_digest = "t".repeat(64);
        Known {
            source: format!("models/{name}\u{1b}[2J"),
            header: HeaderFacts::of(&model.files),
            memory: Some(local::check(&model).unwrap()),
            model: Some(described),
            refusal: None,
        }
    }

    #[test]
    fn info_of_models() {
        for name in [
            "tiny-gpt2",
            "tiny-llama3",
            "tiny-qwen3.gguf",
            "tiny-llama.gguf",
        ] {
            insta::assert_snapshot!(format!("info_of_{name}"), known(name).text(80));
        }
    }

    #[test]
    fn a_wide_terminal_has_longer_lines() {
        let text = known("tiny-llama").text(110);
        assert!(text.lines().any(|it| 80 < it.chars().count()), "{text}");
        let narrow = known("tiny-llama").text(80);
        assert!(
            narrow.lines().all(|it| it.chars().count() <= 80),
            "{narrow}"
        );
    }

    #[test]
    fn the_json_holds_all_that_is_known() {
        let value: Json = serde_json::from_str(&known("tiny-llama").json()).unwrap();
        assert_eq!(value["schema_version"], JSON_VERSION);
        assert_eq!(value["refused"], Json::Null);
        assert_eq!(value["header"]["n_kv_head"], 2);
        assert_eq!(value["header"]["tensors"]["is_head_tied"], false);
        assert_eq!(value["memory"]["token_bytes"], 640);
        assert_eq!(value["memory"]["weights"], "f32");
        assert_eq!(value["model"]["n_vocab"], 320);
        assert!(value["model"]["special_tokens"].is_array());
    }

    #[test]
    fn info_tells_the_policies_apart() {
        let line = |change: fn(&mut ModelInfo), name: &str| {
            let mut known = known("tiny-llama");
            change(&mut known.model.as_mut().unwrap().info);
            let text = known.text(200);
            let mut lines = text.lines();
            lines
                .find(|it| it.trim_start().starts_with(name))
                .unwrap()
                .to_owned()
        };
        let of = |change| line(change, "BOS");
        assert!(of(|it| it.add_bos = true).contains("in front of every text"));
        assert!(of(|it| it.add_bos = false).contains("not put in front of texts"));
        assert!(of(|it| it.bos = None).ends_with("none"));
        assert!(
            line(|it| it.revision = Some("c1899de2".to_owned()), "commit").ends_with("c1899de2")
        );
        assert!(line(|it| it.n_padding = 3, "vocab").ends_with("3 of them without a text"));
    }

    #[test]
    fn digits_are_grouped_by_thousands() {
        let shown = [0, 999, 1_000, 134_515_008].map(grouped);
        assert_eq!(shown, ["0", "999", "1 000", "134 515 008"]);
    }
}
