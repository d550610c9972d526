//! Tests of [`super::open`] on the tiny checkpoints in `tests/fixtures/models`, whose
//! expected ids and texts come from Hugging Face's libraries.

#![cfg(feature = "tokenize")]

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::chat::ChatMessage;
use super::gguf::testing::Builder;
use super::gguf::{Array, Value as GgufValue};
use super::{Model, ModelError, ModelFiles, OpenOptions, open};
use crate::experiment::ModelSource;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models")
}

fn open_in(base: &Path, path: &str, sha256: Option<&str>) -> Result<Model, ModelError> {
    let options = OpenOptions {
        offline: true,
        base: base.to_owned(),
        sha256: sha256.map(str::to_owned),
        ..OpenOptions::default()
    };
    open(&ModelSource::Path(path.into()), &options, &mut |_| {})
}

fn goldens() -> Value {
    let text = std::fs::read(fixtures().join("goldens.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_u64().unwrap() as u32)
        .collect()
}

/// The error and what caused it, joined.
fn message(err: &ModelError) -> String {
    let cause = std::error::Error::source(err)
        .map(ToString::to_string)
        .unwrap_or_default();
    format!("{err}: {cause}")
}

const MODELS: [(&str, &str); 5] = [
    ("tiny-gpt2", "tiny-gpt2"),
    ("tiny-llama", "tiny-llama"),
    ("tiny-llama-tied", "tiny-llama-tied"),
    ("tiny-gpt2.gguf", "tiny-gpt2"),
    ("tiny-llama.gguf", "tiny-llama"),
];

#[test]
fn ids_are_those_of_the_reference() {
    let goldens = goldens();
    for (path, name) in MODELS {
        let model = open_in(&fixtures(), path, None).unwrap();
        let golden = &goldens["models"][name];
        assert_eq!(golden["n_vocab"], model.n_vocab, "{path}");
        assert_eq!(golden["n_positions"], model.n_context, "{path}");
        assert_eq!(golden["bos"].as_u64(), model.bos.map(u64::from), "{path}");
        assert_eq!(
            golden["eos"].as_u64(),
            model.eos.first().copied().map(u64::from),
            "{path}"
        );
        for case in golden["tokenizations"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            let tokens = if case["parse_special"].as_bool().unwrap() {
                model.tokenizer.encode(text, &[]).unwrap()
            } else {
                model.tokenizer.encode_plain(text).unwrap()
            };
            let mut got: Vec<u32> = tokens.iter().map(|it| it.id).collect();
            assert_eq!(model.tokenizer.decode(&got, false), text, "{path}");
            assert_eq!(tokens.last().map_or(0, |it| it.end), text.len(), "{path}");
            if case["add_special"].as_bool().unwrap() && model.add_bos {
                got.insert(0, model.bos.unwrap());
            }
            assert_eq!(got, ids(&case["ids"]), "{path}: {text:?}");
        }
    }
}

#[test]
fn chats_are_those_of_the_reference() {
    let goldens = goldens();
    let mut n_chats = 0;
    for (path, name) in MODELS {
        let model = open_in(&fixtures(), path, None).unwrap();
        let cases = goldens["models"][name]["chats"].as_array().unwrap();
        assert_eq!(model.chat_template().is_err(), cases.is_empty(), "{path}");
        for case in cases {
            let messages: Vec<ChatMessage> = case["messages"]
                .as_array()
                .unwrap()
                .iter()
                .map(|it| ChatMessage {
                    role: it["role"].as_str().unwrap().to_owned(),
                    content: it["content"].as_str().unwrap().to_owned(),
                })
                .collect();
            let add = case["add_generation_prompt"].as_bool().unwrap();
            let text = model
                .chat_template()
                .unwrap()
                .render(&messages, add, None)
                .unwrap();
            assert_eq!(case["text"], text, "{path}");
            let tokens = model.tokenizer.encode(&text, &[]).unwrap();
            let got: Vec<u32> = tokens.iter().map(|it| it.id).collect();
            assert_eq!(got, ids(&case["ids"]), "{path}");
            n_chats += 1;
        }
    }
    assert!(0 < n_chats);
}

#[test]
fn a_checkpoint_says_what_it_is() {
    let model = open_in(&fixtures(), "tiny-llama", None).unwrap();
    assert!(matches!(&model.files, ModelFiles::Safetensors { weights, .. } if weights.len() == 1));
    assert!(model.add_bos);
    assert!(model.quantisation.ends_with(" F32") && !model.quantisation.contains(','));
    let info = model.info();
    assert_eq!((info.architecture.as_str(), info.n_padding), ("llama", 0));
    assert_eq!(info.bos.as_deref(), Some("<s>"));
    let gguf = open_in(&fixtures(), "tiny-llama.gguf", None).unwrap();
    assert_eq!(gguf.n_parameters, model.n_parameters);
    assert_eq!((gguf.add_bos, &gguf.eos), (model.add_bos, &model.eos));
    assert_ne!(gguf.digest, model.digest);
}

/// A copy of a checkpoint with one of its JSON files changed.
fn changed(file: &str, change: impl Fn(&mut Value)) -> (tempfile::TempDir, String) {
    let base = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixtures().join("tiny-llama"))
        .unwrap()
        .flatten()
    {
        std::fs::copy(entry.path(), base.path().join(entry.file_name())).unwrap();
    }
    let path = base.path().join(file);
    let mut root =
        std::fs::read(&path).map_or(Value::Null, |bytes| serde_json::from_slice(&bytes).unwrap());
    change(&mut root);
    std::fs::write(path, root.to_string()).unwrap();
    let digest = match open_in(base.path(), ".", None) {
        Ok(model) => model.digest.to_hex().to_string(),
        Err(err) => message(&err),
    };
    (base, digest)
}

#[test]
fn the_digest_covers_weights_tokenizer_and_settings() {
    let plain = open_in(&fixtures(), "tiny-llama", None).unwrap();
    let same = changed("config.json", |_| {}).1;
    // Written anew, so other bytes, but the tokenizer's file is untouched.
    assert_ne!(same, plain.digest.to_hex().to_string());
    let other = changed("config.json", |it| it["rms_norm_eps"] = 0.5.into()).1;
    assert_ne!(same, other);
    let (base, _) = changed("tokenizer_config.json", |_| {});
    let weights = base.path().join("model.safetensors");
    assert_eq!(
        open_in(base.path(), ".", None).unwrap().digest,
        plain.digest
    );
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let flipped = open_in(base.path(), ".", None).unwrap();
    assert_ne!(flipped.digest, plain.digest);
    assert_eq!(flipped.tokenizer_digest, plain.tokenizer_digest);
}

#[test]
fn checkpoints_that_would_score_wrong_are_refused() {
    let table: &[(&str, &str, Value, &str)] = &[
        (
            "config.json",
            "model_type",
            "mamba".into(),
            "architecture `mamba`",
        ),
        ("config.json", "auto_map", "x".into(), "never run"),
        (
            "config.json",
            "quantization_config",
            "x".into(),
            "not supported",
        ),
        (
            "config.json",
            "vocab_size",
            321.into(),
            "320 rows, but `vocab_size` is 321",
        ),
        (
            "config.json",
            "max_position_embeddings",
            Value::Null,
            "how long a context",
        ),
        (
            "generation_config.json",
            "eos_token_id",
            320.into(),
            "there are 320 tokens",
        ),
        ("tokenizer_config.json", "add_bos_token", false.into(), ""),
        (
            "model.safetensors.index.json",
            "weight_map",
            "x".into(),
            "no `weight_map`",
        ),
    ];
    for (file, key, value, expected) in table {
        let (_, got) = changed(file, |it| it[*key] = value.clone());
        assert!(got.contains(expected), "{file} {key}: {got}");
    }
    for name in ["../model.safetensors", "/etc/passwd", "a/b.safetensors", ""] {
        let (_, got) = changed("model.safetensors.index.json", |it| {
            it["weight_map"] = serde_json::json!({ "x": name });
        });
        assert!(got.contains("names the file"), "{name}: {got}");
    }
    let (base, _) = changed("config.json", |_| {});
    let weights = base.path().join("model.safetensors");
    let [a, b] = ["a.safetensors", "b.safetensors"].map(|it| base.path().join(it));
    std::fs::copy(&weights, &b).unwrap();
    // The usual name says which one is meant.
    assert!(open_in(base.path(), ".", None).is_ok());
    std::fs::rename(&weights, &a).unwrap();
    let err = open_in(base.path(), ".", None).unwrap_err();
    assert!(
        message(&err).contains("2 `.safetensors` files but no"),
        "{err}"
    );
    std::fs::remove_file(a).unwrap();
    std::fs::remove_file(b).unwrap();
    let err = open_in(base.path(), ".", None).unwrap_err();
    assert!(message(&err).contains("no `.safetensors` file"), "{err}");
}

/// A copy of the tiny GPT-2 in which `vocab.json` and `merges.txt` stand for `tokenizer.json`.
fn with_vocab_and_merges(settings: &Value) -> tempfile::TempDir {
    let base = tempfile::tempdir().unwrap();
    let from = fixtures().join("tiny-gpt2");
    for entry in std::fs::read_dir(&from).unwrap().flatten() {
        std::fs::copy(entry.path(), base.path().join(entry.file_name())).unwrap();
    }
    let path = base.path().join("tokenizer.json");
    let root: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    std::fs::remove_file(path).unwrap();
    let merges = root["model"]["merges"].as_array().unwrap().iter();
    let lines: Vec<String> = merges
        .map(|it| match it {
            Value::String(line) => line.clone(),
            pair => format!(
                "{} {}",
                pair[0].as_str().unwrap(),
                pair[1].as_str().unwrap()
            ),
        })
        .collect();
    let write = |name: &str, text: String| std::fs::write(base.path().join(name), text).unwrap();
    // As GPT-2's own file does, this one has the special token.
    let mut vocab = root["model"]["vocab"].clone();
    for added in root["added_tokens"].as_array().unwrap() {
        vocab[added["content"].as_str().unwrap()] = added["id"].clone();
    }
    write("vocab.json", vocab.to_string());
    write(
        "merges.txt",
        format!("#version: 0.2\n{}\n", lines.join("\n")),
    );
    write("tokenizer_config.json", settings.to_string());
    base
}

#[test]
fn vocab_and_merges_stand_for_a_tokenizer_json() {
    let whole = open_in(&fixtures(), "tiny-gpt2", None).unwrap();
    let end = whole.tokenizer.specials()[0].clone();
    let settings = serde_json::json!({
        "tokenizer_class": "GPT2Tokenizer", "bos_token": end, "eos_token": end, "unk_token": end,
    });
    let base = with_vocab_and_merges(&settings);
    let pair = open_in(base.path(), ".", None).unwrap();
    let ids = |model: &Model, text: &str| -> Vec<u32> {
        let tokens = model.tokenizer.encode(text, &[]).unwrap();
        tokens.iter().map(|it| it.id).collect()
    };
    let text = format!("it's  2024,\nthe\u{301} end{end} \t{end}");
    assert_eq!(ids(&pair, &text), ids(&whole, &text));
    assert_eq!(
        (pair.bos, pair.add_bos, &pair.eos),
        (whole.bos, whole.add_bos, &whole.eos)
    );
    // Each of the two files decides ids, and so do the settings.
    let merges = base.path().join("merges.txt");
    let written = std::fs::read_to_string(&merges).unwrap();
    let shorter = written.trim_end().rsplit_once('\n').unwrap().0;
    std::fs::write(&merges, shorter).unwrap();
    let other = open_in(base.path(), ".", None).unwrap();
    assert_ne!(other.tokenizer_digest, pair.tokenizer_digest);
    assert_ne!(other.digest, pair.digest);
    std::fs::write(&merges, format!("{written}a b c\n")).unwrap();
    let err = open_in(base.path(), ".", None).unwrap_err();
    assert!(message(&err).contains("the merge `a b c` is not"), "{err}");
}

#[test]
fn the_chat_template_is_the_file_or_the_default_of_a_list() {
    let (base, _) = changed("tokenizer_config.json", |it| {
        it["chat_template"] = serde_json::json!([
            {"name": "tool_use", "template": "tools"}, {"name": "default", "template": "listed"}]);
    });
    let file = base.path().join("chat_template.jinja");
    let source = || {
        let model = open_in(base.path(), ".", None).unwrap();
        model.chat_template().map(|it| it.source().to_owned())
    };
    if file.exists() {
        std::fs::remove_file(&file).unwrap();
    }
    assert_eq!(source().as_deref(), Ok("listed"));
    std::fs::write(&file, "of the file").unwrap();
    assert_eq!(source().as_deref(), Ok("of the file"));
}

#[test]
fn a_folder_without_a_known_tokenizer_says_what_to_do() {
    let refused = |settings: Value| {
        let base = with_vocab_and_merges(&settings);
        message(&open_in(base.path(), ".", None).unwrap_err())
    };
    let table = [
        (
            serde_json::json!({"tokenizer_class": "RobertaTokenizer"}),
            "class `RobertaTokenizer` is not supported",
        ),
        (
            serde_json::json!({"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|nowhere|>"}),
            "the special token `<|nowhere|>`, but neither",
        ),
        (
            serde_json::json!({"tokenizer_class": "Qwen2Tokenizer",
                "added_tokens_decoder": {"5": {"content": "<x>", "rstrip": true}}}),
            "added token `<x>` has `rstrip`",
        ),
        (
            serde_json::json!({"tokenizer_class": "Qwen2Tokenizer",
                "added_tokens_decoder": {"5": {"content": "<x>"}}}),
            "both have the id 5",
        ),
    ];
    for (settings, expected) in table {
        let got = refused(settings);
        assert!(got.contains(expected), "{got}");
    }
    let base = with_vocab_and_merges(&serde_json::json!({}));
    // Without settings the class is that of the model's type.
    assert!(open_in(base.path(), ".", None).is_ok());
    std::fs::remove_file(base.path().join("merges.txt")).unwrap();
    let err = open_in(base.path(), ".", None).unwrap_err();
    assert!(
        message(&err).contains("it has no `tokenizer.json`"),
        "{err}"
    );
    std::fs::write(base.path().join("tokenizer.model"), b"x").unwrap();
    let err = open_in(base.path(), ".", None).unwrap_err();
    assert!(message(&err).contains("`tokenizer.model` alone"), "{err}");
}

#[test]
fn a_pinned_sha256_is_compared() {
    use sha2::Digest as _;
    let bytes = std::fs::read(fixtures().join("tiny-llama.gguf")).unwrap();
    let right = super::builtin::hex(&sha2::Sha256::digest(&bytes));
    assert!(open_in(&fixtures(), "tiny-llama.gguf", Some(&right)).is_ok());
    let err = open_in(&fixtures(), "tiny-gpt2.gguf", Some(&right)).unwrap_err();
    assert!(matches!(err, ModelError::WrongSha256 { .. }));
}

#[test]
fn gguf_files_that_would_score_wrong_are_refused() {
    let text = |it: &str| GgufValue::Text(it.to_owned());
    let llama = Builder::new()
        .key("general.architecture", &text("llama"))
        .key("llama.context_length", &GgufValue::Unsigned(8));
    let texts =
        |it: &[&str]| GgufValue::Array(Array::Text(it.iter().map(|it| (*it).to_owned()).collect()));
    let words = llama
        .clone()
        .key("tokenizer.ggml.model", &text("gpt2"))
        .key("tokenizer.ggml.pre", &text("gpt-2"))
        .key("tokenizer.ggml.tokens", &texts(&["a", "b", "ab"]))
        .key("tokenizer.ggml.merges", &texts(&["a b"]));
    let embedding = |rows: u64| vec![0; 4 * 2 * rows as usize];
    let table = [
        (
            Builder::new().key("general.architecture", &text("rwkv")),
            "architecture `rwkv`",
        ),
        (llama.clone(), "tensor `token_embd.weight` is missing"),
        (
            llama.tensor("token_embd.weight", &[2], 0, &[0; 8]),
            "expected two dimensions",
        ),
        (
            words
                .clone()
                .tensor("token_embd.weight", &[2, 2], 0, &embedding(2)),
            "has 3 ids, but the embedding has 2 rows",
        ),
    ];
    let base = tempfile::tempdir().unwrap();
    for (file, expected) in table {
        std::fs::write(base.path().join("x.gguf"), file.build()).unwrap();
        let got = message(&open_in(base.path(), "x.gguf", None).unwrap_err());
        assert!(got.contains(expected), "{got}");
    }
    // More rows than ids are padding, and said so.
    let padded = words.tensor("token_embd.weight", &[2, 5], 0, &embedding(5));
    std::fs::write(base.path().join("x.gguf"), padded.build()).unwrap();
    let model = open_in(base.path(), "x.gguf", None).unwrap();
    assert_eq!((model.info().n_padding, model.n_vocab), (2, 5));
    assert_eq!(model.quantisation, "1 F32");
}
