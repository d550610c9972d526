//! What the headers of a model say about it, whether or not the model can be used.
//!
//! For people who look at a model: `harness models info`. Nothing is decided here and
//! nothing is refused: a fact that the header does not have, or has in a form that is not
//! understood, is `None`. What the engine makes of a model is for the engine to say. No
//! weights are read; a header is checked in length and in nothing else.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value as Json;

use super::gguf::{Array, Gguf, TensorInfo, Value};
use super::weights_file::WeightsFile;
use super::{ModelFiles, OpenOptions, builtin, safetensors};
use crate::experiment::ModelSource;

/// Largest JSON file that is looked at, in bytes; a `tokenizer.json` is one.
const MAX_JSON_BYTES: u64 = 256 << 20;

/// A model's facts as its headers tell them.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct HeaderFacts {
    /// The format, e.g. `GGUF 3` or `safetensors`.
    pub format: String,
    /// The architecture's name.
    pub architecture: Option<String>,
    /// Layers.
    pub n_layer: Option<u64>,
    /// Width of the residual stream.
    pub n_embd: Option<u64>,
    /// Query heads.
    pub n_head: Option<u64>,
    /// Heads of keys and values.
    pub n_kv_head: Option<u64>,
    /// Width of one head.
    pub head_dim: Option<u64>,
    /// Width of the MLP's hidden layer.
    pub n_ff: Option<u64>,
    /// Longest sequence the model was made for, in tokens.
    pub n_context: Option<u64>,
    /// Rows of the embedding.
    pub n_vocab: Option<u64>,
    /// Experts of a mixture.
    pub n_experts: Option<u64>,
    /// Tokens that attention looks back at most.
    pub sliding_window: Option<u64>,
    /// The kind of norm: `RMS` or `layer`.
    pub norm: Option<String>,
    /// The norm's epsilon.
    pub norm_epsilon: Option<f64>,
    /// The name of the MLP's activation.
    pub activation: Option<String>,
    /// The base of the rotary frequencies.
    pub rope_base: Option<f64>,
    /// How the rotary frequencies are scaled, as the header says it.
    pub rope_scaling: Option<String>,
    /// What the tensors' names tell; `None` where they could not be read.
    pub tensors: Option<TensorFacts>,
    /// What the tokenizer's own data say.
    pub tokenizer: TokenizerFacts,
}

/// What the names, types and shapes of the tensors tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one answer that a name gives; they do not depend on each other"
)]
pub struct TensorFacts {
    /// Number of weights.
    pub n_parameters: u64,
    /// How many tensors have which type.
    pub types: String,
    /// Whether the vocabulary head is the embedding: no tensor of its own.
    pub is_head_tied: bool,
    /// Whether the MLP has a gate.
    pub is_gated: bool,
    /// Whether heads of queries and keys have norms of their own.
    pub has_query_key_norm: bool,
    /// Whether positions have an embedding of their own.
    pub has_position_embedding: bool,
    /// The linear layers that add a vector, by the last part of their names.
    pub biases: BTreeSet<String>,
}

/// What the tokenizer's data say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TokenizerFacts {
    /// The kind: `tokenizer.ggml.model` of a GGUF header, the type of model in a `tokenizer.json`.
    pub kind: Option<String>,
    /// How texts are cut before the merges: `tokenizer.ggml.pre`, or the parts in a `tokenizer.json`.
    pub pre: Option<String>,
    /// Tokens, added ones not counted in a `tokenizer.json`.
    pub n_tokens: Option<u64>,
    /// Merges.
    pub n_merges: Option<u64>,
    /// Where it stands whether a BOS token goes in front of every text; `None` if nowhere.
    pub bos_rule: Option<String>,
}

/// The facts of the model at `source`, as far as its files are there; fetches nothing.
pub fn look(source: &ModelSource, options: &OpenOptions) -> Option<HeaderFacts> {
    let path = match source {
        ModelSource::Builtin(name) => {
            let builtin = builtin::Builtin::find(name).ok()?;
            let cache = options.cache.clone();
            builtin.path(&cache.or_else(|| builtin::default_cache().ok())?)
        }
        ModelSource::Path(path) => options.base.join(path),
        ModelSource::Hub { .. } => return None,
    };
    if path.is_dir() {
        of_folder(&path, &safetensors_files(&path))
    } else {
        of_gguf(&path)
    }
}

impl HeaderFacts {
    /// The facts of files that were found.
    pub fn of(files: &ModelFiles) -> Option<Self> {
        match files {
            ModelFiles::Gguf(path) => of_gguf(path),
            ModelFiles::Safetensors {
                folder, weights, ..
            } => of_folder(folder, weights),
        }
    }
}

fn of_gguf(path: &Path) -> Option<HeaderFacts> {
    let (start, read) = Gguf::read(&WeightsFile::open(path).ok()?).ok()?;
    match read {
        Ok(header) => Some(HeaderFacts {
            tensors: Some(gguf_tensors(&header)),
            ..gguf_facts(&header)
        }),
        // Mostly a tensor of a type that is not decoded; the metadata stand before them.
        Err(_) => without_tensors(start).map(|it| gguf_facts(&it)),
    }
}

/// The header read as if it described no tensors.
fn without_tensors(mut header: Vec<u8>) -> Option<Gguf> {
    // Magic and version take 8 bytes, then comes the number of tensors.
    header.get_mut(8..16)?.fill(0);
    Gguf::parse(&header).ok()
}

fn gguf_facts(header: &Gguf) -> HeaderFacts {
    let text = |key: &str| header.get(key).and_then(Value::as_text).map(str::to_owned);
    let architecture = text("general.architecture");
    let own = |name: &str| {
        let key = format!("{}.{name}", architecture.as_deref()?);
        header.get(&key)
    };
    let count = |name: &str| own(name).and_then(Value::as_u64);
    let float = |name: &str| own(name).and_then(Value::as_f64);
    let (n_embd, n_head) = (count("embedding_length"), count("attention.head_count"));
    let (rms, layer) = (
        float("attention.layer_norm_rms_epsilon"),
        float("attention.layer_norm_epsilon"),
    );
    let embedding = header.tensors().get("token_embd.weight");
    let n_tokens = length(header.get("tokenizer.ggml.tokens"));
    HeaderFacts {
        format: format!("GGUF {}", header.version()),
        n_layer: count("block_count"),
        n_embd,
        n_head,
        n_kv_head: count("attention.head_count_kv").or(n_head),
        head_dim: count("attention.key_length").or_else(|| n_embd?.checked_div(n_head?)),
        n_ff: count("feed_forward_length"),
        n_context: count("context_length"),
        n_vocab: embedding
            .and_then(|it| it.shape.get(1).copied())
            .or(n_tokens),
        n_experts: count("expert_count").filter(|n| 0 < *n),
        sliding_window: count("attention.sliding_window").filter(|n| 0 < *n),
        norm: norm(rms, layer),
        norm_epsilon: rms.or(layer).map(shortest),
        activation: None,
        rope_base: float("rope.freq_base").map(shortest),
        rope_scaling: gguf_scaling(header, &own),
        tensors: None,
        tokenizer: TokenizerFacts {
            kind: text("tokenizer.ggml.model"),
            pre: text("tokenizer.ggml.pre"),
            n_tokens,
            n_merges: length(header.get("tokenizer.ggml.merges")),
            bos_rule: bos_key(header),
        },
        architecture,
    }
}

/// The GGUF key that says whether texts begin with BOS.
fn bos_key(header: &Gguf) -> Option<String> {
    let key = "tokenizer.ggml.add_bos_token";
    header.get(key).map(|_| format!("`{key}`"))
}

fn gguf_scaling<'a>(header: &Gguf, own: &impl Fn(&str) -> Option<&'a Value>) -> Option<String> {
    let mut parts = Vec::new();
    if let Some(kind) = own("rope.scaling.type").and_then(Value::as_text) {
        parts.push(kind.to_owned());
    }
    if let Some(factor) = own("rope.scaling.factor").and_then(Value::as_f64) {
        parts.push(format!("factor {}", shortest(factor)));
    }
    if header.tensors().contains_key("rope_freqs.weight") {
        parts.push("factors in `rope_freqs`".to_owned());
    }
    (!parts.is_empty() && parts != ["none"]).then(|| parts.join(", "))
}

fn gguf_tensors(header: &Gguf) -> TensorFacts {
    let tensors = header.tensors();
    let types = tensors.values().map(|it| it.tensor_type.name().to_owned());
    TensorFacts {
        n_parameters: tensors.values().map(TensorInfo::n_elements).sum(),
        types: super::summary(types),
        ..named(tensors.keys().map(String::as_str))
    }
}

/// What names alone tell, in GGUF's and Hugging Face's ways of naming.
fn named<'a>(names: impl Iterator<Item = &'a str>) -> TensorFacts {
    let mut facts = TensorFacts {
        is_head_tied: true,
        ..TensorFacts::default()
    };
    for name in names {
        let mut parts = name.rsplit('.');
        let (last, part) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        match part {
            "output" | "lm_head" => facts.is_head_tied = false,
            "ffn_gate" | "gate_proj" => facts.is_gated = true,
            "attn_q_norm" | "q_norm" => facts.has_query_key_norm = true,
            "position_embd" | "wpe" => facts.has_position_embedding = true,
            _ => {}
        }
        // A layer norm has one by nature, and GPT-2's `attn.bias` is its causal mask.
        if last == "bias" && part != "attn" && !part.contains("norm") && !part.starts_with("ln_") {
            facts.biases.insert(part.to_owned());
        }
    }
    facts
}

fn length(value: Option<&Value>) -> Option<u64> {
    match value? {
        Value::Array(Array::Text(it)) => Some(it.len() as u64),
        _ => None,
    }
}

fn norm(rms: Option<f64>, layer: Option<f64>) -> Option<String> {
    let kind = if rms.is_some() { "RMS" } else { "layer" };
    (rms.is_some() || layer.is_some()).then(|| kind.to_owned())
}

/// A number that was stored as f32, as it was meant: 1e-5 and not 9.999999747378752e-6.
fn shortest(value: f64) -> f64 {
    let narrow = value as f32;
    if f64::from(narrow) == value {
        narrow.to_string().parse().unwrap_or(value)
    } else {
        value
    }
}

fn safetensors_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|it| it.path())
        .filter(|it| it.extension().is_some_and(|it| it == "safetensors"))
        .collect();
    files.sort();
    files
}

fn of_folder(folder: &Path, weights: &[PathBuf]) -> Option<HeaderFacts> {
    let config = json(&folder.join("config.json"))?;
    let count = |names: &[&str]| names.iter().find_map(|it| config[it].as_u64());
    let float = |name: &str| config[name].as_f64();
    let (n_embd, n_head) = (
        count(&["hidden_size", "n_embd"]),
        count(&["num_attention_heads", "n_head"]),
    );
    let layer = float("layer_norm_epsilon").or(float("layer_norm_eps"));
    let window = count(&["sliding_window"]);
    let activation = ["hidden_act", "activation_function"]
        .iter()
        .find_map(|it| config[it].as_str());
    Some(HeaderFacts {
        format: "safetensors".to_owned(),
        architecture: config["model_type"].as_str().map(str::to_owned),
        n_layer: count(&["num_hidden_layers", "n_layer"]),
        n_embd,
        n_head,
        n_kv_head: count(&["num_key_value_heads"]).or(n_head),
        head_dim: count(&["head_dim"]).or_else(|| n_embd?.checked_div(n_head?)),
        n_ff: count(&["intermediate_size", "n_inner"]),
        n_context: count(&["max_position_embeddings", "n_positions", "n_ctx"]),
        n_vocab: count(&["vocab_size"]),
        n_experts: count(&["num_local_experts", "num_experts", "n_routed_experts"]),
        sliding_window: window.filter(|_| config["use_sliding_window"] != Json::Bool(false)),
        norm: norm(float("rms_norm_eps"), layer),
        norm_epsilon: float("rms_norm_eps").or(layer),
        activation: activation.map(str::to_owned),
        rope_base: float("rope_theta").or(config["rope_parameters"]["rope_theta"].as_f64()),
        rope_scaling: config_scaling(&config),
        tensors: folder_tensors(weights),
        tokenizer: folder_tokenizer(folder),
    })
}

/// `rope_scaling`, or what transformers 5 writes in its place.
fn config_scaling(config: &Json) -> Option<String> {
    let settings = ["rope_scaling", "rope_parameters"]
        .iter()
        .find_map(|it| config[it].as_object())?;
    let kind = settings
        .get("rope_type")
        .or(settings.get("type"))?
        .as_str()?;
    if kind == "default" {
        return None;
    }
    let numbers = settings
        .iter()
        .filter(|(key, value)| value.is_number() && *key != "rope_theta");
    let numbers = numbers.map(|(key, value)| format!(", {key} {value}"));
    Some(kind.to_owned() + &numbers.collect::<String>())
}

fn folder_tensors(weights: &[PathBuf]) -> Option<TensorFacts> {
    let mut names = Vec::new();
    let mut types = Vec::new();
    let mut n_parameters = 0_u64;
    for path in weights {
        let header = safetensors::Header::read(&WeightsFile::open(path).ok()?).ok()?;
        for (name, it) in header.ok()?.tensors {
            if it.is_float() {
                n_parameters = n_parameters.saturating_add(it.n_elements());
            }
            types.push(it.dtype.to_owned());
            names.push(name);
        }
    }
    (!names.is_empty()).then(|| TensorFacts {
        n_parameters,
        types: super::summary(types.into_iter()),
        ..named(names.iter().map(String::as_str))
    })
}

fn folder_tokenizer(folder: &Path) -> TokenizerFacts {
    let settings = json(&folder.join("tokenizer_config.json")).unwrap_or_default();
    let root = json(&folder.join("tokenizer.json")).unwrap_or_default();
    let model = &root["model"];
    let n_tokens = model["vocab"]
        .as_object()
        .map(serde_json::Map::len)
        .or_else(|| model["vocab"].as_array().map(Vec::len));
    let bos_rule = if settings["add_bos_token"].is_boolean() {
        Some("`add_bos_token` of tokenizer_config.json")
    } else if root["post_processor"].is_object() {
        Some("the post-processor of tokenizer.json")
    } else {
        None
    };
    TokenizerFacts {
        kind: model["type"].as_str().map(str::to_owned),
        pre: parts_of(&root["pre_tokenizer"]),
        n_tokens: n_tokens.map(|n| n as u64),
        n_merges: model["merges"].as_array().map(|it| it.len() as u64),
        bos_rule: bos_rule.map(str::to_owned),
    }
}

/// The types of a pre-tokeniser's parts, in order.
fn parts_of(part: &Json) -> Option<String> {
    match part["pretokenizers"].as_array() {
        Some(parts) => {
            let parts: Option<Vec<String>> = parts.iter().map(parts_of).collect();
            Some(parts?.join(", "))
        }
        None => part["type"].as_str().map(str::to_owned),
    }
}

fn json(path: &Path) -> Option<Json> {
    let metadata = std::fs::metadata(path).ok()?;
    let is_readable = metadata.is_file() && metadata.len() <= MAX_JSON_BYTES;
    is_readable
        .then(|| std::fs::read(path).ok())
        .flatten()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
}

#[cfg(test)]
mod tests {
    use super::super::gguf::testing::Builder;
    use super::*;

    fn fixture(name: &str) -> HeaderFacts {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/models")
            .join(name);
        look(&ModelSource::Path(path), &OpenOptions::default()).unwrap()
    }

    /// One model in two formats: what both headers say, they say alike.
    #[test]
    fn both_formats_tell_the_same() {
        for name in ["tiny-llama", "tiny-gpt2"] {
            let (folder, gguf) = (fixture(name), fixture(&format!("{name}.gguf")));
            let shape = |it: &HeaderFacts| {
                [
                    it.n_layer,
                    it.n_embd,
                    it.n_head,
                    it.n_kv_head,
                    it.head_dim,
                    it.n_context,
                    it.n_vocab,
                ]
            };
            assert_eq!(shape(&folder), shape(&gguf), "{name}");
            assert_eq!(folder.architecture, gguf.architecture);
            assert_eq!(
                (&folder.norm, folder.norm_epsilon),
                (&gguf.norm, gguf.norm_epsilon)
            );
            let tensors = |it: &HeaderFacts| {
                let it = it.tensors.clone().unwrap();
                (
                    it.n_parameters,
                    it.is_head_tied,
                    it.is_gated,
                    it.has_position_embedding,
                )
            };
            assert_eq!(tensors(&folder), tensors(&gguf), "{name}");
        }
        let llama = fixture("tiny-llama");
        assert_eq!(
            (llama.n_head, llama.n_kv_head, llama.head_dim),
            (Some(4), Some(2), Some(8))
        );
        assert_eq!(
            (llama.rope_base, llama.norm_epsilon),
            (Some(10_000.0), Some(1e-5))
        );
        assert_eq!(llama.tokenizer.kind.as_deref(), Some("BPE"));
        assert!(llama.tensors.unwrap().biases.is_empty());
        let biases = fixture("tiny-gpt2").tensors.unwrap().biases;
        assert_eq!(
            biases.into_iter().collect::<Vec<_>>(),
            ["c_attn", "c_fc", "c_proj"]
        );
    }

    #[test]
    fn a_tensor_that_cannot_be_decoded_hides_no_settings() {
        let folder = tempfile::tempdir().unwrap();
        let file = Builder::new()
            .key("general.architecture", &Value::Text("mamba".to_owned()))
            .key("mamba.block_count", &Value::Unsigned(7))
            // No type of ggml has this number.
            .tensor("w", &[32], 12_345, &[0; 20])
            .build();
        let path = folder.path().join("x.gguf");
        std::fs::write(&path, file).unwrap();
        let facts = look(&ModelSource::Path(path), &OpenOptions::default()).unwrap();
        assert_eq!(facts.architecture.as_deref(), Some("mamba"));
        assert_eq!(
            (facts.n_layer, facts.n_head, facts.tensors),
            (Some(7), None, None)
        );
        std::fs::write(folder.path().join("y.gguf"), b"GGUF\x03\0\0\0\xff").unwrap();
        let broken = ModelSource::Path(folder.path().join("y.gguf"));
        assert_eq!(look(&broken, &OpenOptions::default()), None);
    }

    #[test]
    fn scalings_are_told_as_they_are_written() {
        let table = [
            (r#"{"rope_scaling": null}"#, None),
            (
                r#"{"rope_parameters": {"rope_type": "default", "rope_theta": 1}}"#,
                None,
            ),
            (
                r#"{"rope_scaling": {"type": "linear", "factor": 2.0}}"#,
                Some("linear, factor 2.0"),
            ),
            (
                r#"{"rope_parameters": {"rope_type": "llama3", "rope_theta": 1, "factor": 8}}"#,
                Some("llama3, factor 8"),
            ),
        ];
        for (config, expected) in table {
            let config = serde_json::from_str(config).unwrap();
            assert_eq!(config_scaling(&config).as_deref(), expected, "{config}");
        }
    }

    #[test]
    fn names_tell_what_a_decoder_has() {
        let facts = named(
            [
                "blk.0.attn_q_norm.weight",
                "blk.0.attn_k.bias",
                "blk.0.ffn_gate.weight",
                "output.weight",
            ]
            .into_iter(),
        );
        assert!(facts.has_query_key_norm && facts.is_gated && !facts.is_head_tied);
        assert_eq!(facts.biases.into_iter().collect::<Vec<_>>(), ["attn_k"]);
        // A causal mask and the bias of a layer norm are none.
        let facts = named(["h.0.attn.bias", "h.0.ln_1.bias"].into_iter());
        assert!(facts.is_head_tied && facts.biases.is_empty());
    }

    #[test]
    fn stored_floats_are_shown_as_they_were_meant() {
        assert_eq!(shortest(f64::from(1e-5_f32)), 1e-5);
        assert_eq!(shortest(0.1), 0.1);
    }
}
