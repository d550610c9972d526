//! Opens a model that is a checkpoint folder: `config.json`, `tokenizer.json` and
//! `*.safetensors`, as Hugging Face's libraries write them.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::shards::{self, Shards, Stored};
use super::tokenizer::{Tokenizer, TokenizerError, policy::Policy};
use super::weights_file::WeightsFile;
use super::{Model, ModelError, ModelFiles, Parts};

/// Largest settings file, in bytes; a `tokenizer.json` may be larger.
pub(super) const MAX_CONFIG_BYTES: u64 = 16 << 20;
/// Largest `tokenizer.json`, in bytes.
const MAX_TOKENIZER_BYTES: u64 = 256 << 20;

/// Opens the checkpoint in `folder`.
pub(super) fn open(source: String, folder: &Path) -> Result<Model, ModelError> {
    let files = Folder(folder);
    let config_bytes = files.required("config.json", MAX_CONFIG_BYTES)?;
    let config = files.optional_json("config.json", Some(&config_bytes))?;
    let architecture = files.architecture(&config)?;
    let Shards {
        files: weights,
        tensors,
    } = shards::find(&files)?;
    let n_vocab = files.n_rows(&config, &tensors)?;
    let generation_bytes = files.optional("generation_config.json", MAX_CONFIG_BYTES)?;
    let generation_config =
        files.optional_json("generation_config.json", generation_bytes.as_deref())?;
    let settings_bytes = files.optional("tokenizer_config.json", MAX_CONFIG_BYTES)?;
    let settings = files.optional_json("tokenizer_config.json", settings_bytes.as_deref())?;
    let written = files.tokenizer(&config, &settings, settings_bytes.as_deref())?;
    let tokenizer = written.tokenizer;
    super::check_vocabulary(&tokenizer, n_vocab, folder)?;
    let policy = Policy::from_folder(
        &config,
        &generation_config,
        &settings,
        &written.json,
        &tokenizer,
    )
    .map_err(|source| files.bad_tokenizer(written.path, source))?;
    let template = files.chat_template(&settings)?;
    let eos = policy.eos.first().copied();
    let chat = super::chat_template(template.as_deref(), &tokenizer, policy.bos, eos);
    let mut parts = Parts::new("checkpoint");
    parts.add("config.json", &config_bytes);
    parts.add(
        "generation_config.json",
        generation_bytes.as_deref().unwrap_or_default(),
    );
    for (name, bytes) in &written.files {
        parts.add(name, bytes);
    }
    let (mut weights_bytes, mut stamps) = (0, Vec::new());
    for path in &weights {
        let file = WeightsFile::open(path)?;
        weights_bytes += file.n_bytes();
        stamps.push(file.stamp().clone());
        let digest = file.digest()?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        parts.add(&name, digest.as_bytes());
    }
    Ok(Model {
        source,
        revision: None,
        digest: parts.digest(),
        tokenizer_digest: written.digest,
        tokenizer: Arc::new(tokenizer),
        chat,
        n_context: files.n_context(&config)?,
        n_vocab,
        n_parameters: tensors
            .iter()
            .filter(|it| it.tensor.is_float())
            .map(|it| it.tensor.n_elements())
            .sum(),
        quantisation: super::summary(tensors.iter().map(|it| it.tensor.dtype.to_owned())),
        file_type: None,
        weights_bytes,
        weights: super::Weights::default(),
        bos: policy.bos,
        add_bos: policy.add_bos,
        eos: policy.eos,
        architecture,
        files: ModelFiles::Safetensors {
            folder: folder.to_owned(),
            config,
            weights,
        },
        stamps,
    })
}

/// Refuses a folder whose `config.json` no engine computes; reads nothing else.
pub(super) fn check_config(folder: &Path) -> Result<(), ModelError> {
    let files = Folder(folder);
    let bytes = files.required("config.json", MAX_CONFIG_BYTES)?;
    let config = files.json("config.json", &bytes)?;
    files.architecture(&config).map(drop)
}

/// A folder's tokenizer and the files it comes from.
struct Written {
    tokenizer: Tokenizer,
    digest: blake3::Hash,
    /// The file that a mistake is shown for.
    path: &'static str,
    /// `tokenizer.json`, or null.
    json: Value,
    /// What the model's digest covers.
    files: Vec<(&'static str, Vec<u8>)>,
}

/// A checkpoint folder, for errors that name it.
pub(super) struct Folder<'a>(pub(super) &'a Path);

impl Folder<'_> {
    pub(super) fn refuse(&self, reason: impl Into<String>) -> ModelError {
        ModelError::Folder {
            folder: self.0.to_owned(),
            reason: reason.into(),
        }
    }

    pub(super) fn optional(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>, ModelError> {
        let path = self.0.join(name);
        let metadata = match std::fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(self.refuse(format!("`{name}` cannot be read: {err}"))),
        };
        if !metadata.is_file() || most < metadata.len() {
            return Err(self.refuse(format!("`{name}` is not a file of at most {most} bytes")));
        }
        std::fs::read(&path)
            .map(Some)
            .map_err(|err| self.refuse(format!("`{name}` cannot be read: {err}")))
    }

    fn required(&self, name: &str, most: u64) -> Result<Vec<u8>, ModelError> {
        self.optional(name, most)?.ok_or_else(|| {
            let names = self.file_names().unwrap_or_default();
            let gguf = names.iter().find(|it| shards::has_extension(it, &["gguf"]));
            let hint = gguf.map(|it| format!("; to use `{it}`, give its own path"));
            self.refuse(format!("it has no `{name}`{}", hint.unwrap_or_default()))
        })
    }

    pub(super) fn json(&self, name: &str, bytes: &[u8]) -> Result<Value, ModelError> {
        serde_json::from_slice(bytes)
            .map_err(|err| self.refuse(format!("`{name}` is not valid JSON: {err}")))
    }

    /// The JSON object in a settings file; `Null` where the file is not there.
    fn optional_json(&self, name: &str, bytes: Option<&[u8]>) -> Result<Value, ModelError> {
        let Some(bytes) = bytes else {
            return Ok(Value::Null);
        };
        match self.json(name, bytes)? {
            object @ Value::Object(_) => Ok(object),
            _ => Err(self.refuse(format!("`{name}` is no JSON object"))),
        }
    }

    /// The names of the files in the folder, sorted; those that are not UTF-8 are left out.
    pub(super) fn file_names(&self) -> Result<Vec<String>, ModelError> {
        let refuse = |err| self.refuse(format!("it cannot be listed: {err}"));
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.0).map_err(refuse)? {
            let entry = entry.map_err(refuse)?;
            // Asked of what a link leads to: the caches of hubs are full of links.
            if entry.path().is_file() {
                names.extend(entry.file_name().into_string());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn bad_tokenizer(&self, name: &str, source: TokenizerError) -> ModelError {
        ModelError::Tokenizer {
            path: self.0.join(name),
            source,
        }
    }

    /// The tokenizer of `tokenizer.json`, else that of `vocab.json` and `merges.txt`.
    fn tokenizer(
        &self,
        config: &Value,
        settings: &Value,
        settings_bytes: Option<&[u8]>,
    ) -> Result<Written, ModelError> {
        let name = "tokenizer.json";
        if let Some(bytes) = self.optional(name, MAX_TOKENIZER_BYTES)? {
            return Ok(Written {
                tokenizer: Tokenizer::from_json(&bytes)
                    .map_err(|source| self.bad_tokenizer(name, source))?,
                digest: blake3::hash(&bytes),
                path: name,
                json: self.json(name, &bytes)?,
                files: vec![(name, bytes)],
            });
        }
        let vocab = self.optional("vocab.json", MAX_TOKENIZER_BYTES)?;
        let merges = self.optional("merges.txt", MAX_TOKENIZER_BYTES)?;
        let (Some(vocab), Some(merges)) = (vocab, merges) else {
            return Err(self.no_tokenizer());
        };
        let settings_with_class = with_class(settings, config);
        let tokenizer = Tokenizer::from_vocab_merges(&vocab, &merges, &settings_with_class)
            .map_err(|source| self.bad_tokenizer("vocab.json", source))?;
        // The settings say which tokens are added, so they decide ids as well.
        let settings_bytes = settings_bytes.unwrap_or_default().to_vec();
        let files = vec![
            ("vocab.json", vocab),
            ("merges.txt", merges),
            ("tokenizer_config.json", settings_bytes),
        ];
        let mut parts = Parts::new("vocabulary and merges");
        for (name, bytes) in &files {
            parts.add(name, bytes);
        }
        Ok(Written {
            tokenizer,
            digest: parts.digest(),
            path: "vocab.json",
            json: Value::Null,
            files,
        })
    }

    fn no_tokenizer(&self) -> ModelError {
        if self.0.join("tokenizer.model").is_file() {
            return self.refuse(
                "its tokenizer is a `tokenizer.model` alone, which is not read; write a `tokenizer.json` beside it with transformers, `AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)`, or bring the model as a `.gguf` file",
            );
        }
        self.refuse("it has no `tokenizer.json`, nor `vocab.json` and `merges.txt`")
    }

    fn architecture(&self, config: &Value) -> Result<String, ModelError> {
        for (key, why) in [
            (
                "auto_map",
                "it needs code from its repository (`auto_map`), which is never run",
            ),
            (
                "quantization_config",
                "its weights are quantised by `quantization_config`, which is not supported",
            ),
        ] {
            if !config[key].is_null() {
                return Err(self.refuse(why));
            }
        }
        let name = config["model_type"]
            .as_str()
            .ok_or_else(|| self.refuse("its `config.json` has no `model_type`"))?;
        super::supported_architecture(name, &super::ARCHITECTURES, self.0)
    }

    fn n_rows(&self, config: &Value, tensors: &[Stored]) -> Result<usize, ModelError> {
        let names = [
            "model.embed_tokens.weight",
            "wte.weight",
            "transformer.wte.weight",
        ];
        let shape = tensors
            .iter()
            .find(|it| names.contains(&it.name.as_str()))
            .map(|it| it.tensor.shape.as_slice())
            .ok_or_else(|| {
                self.refuse(format!("it has none of the tensors {}", names.join(", ")))
            })?;
        let &[n_rows, _] = shape else {
            return Err(self.refuse(format!("its embedding has the shape {shape:?}")));
        };
        match config["vocab_size"].as_u64() {
            Some(n) if n == n_rows => Ok(n_rows as usize),
            _ => Err(self.refuse(format!(
                "its embedding has {n_rows} rows, but `vocab_size` is {}",
                config["vocab_size"]
            ))),
        }
    }

    fn n_context(&self, config: &Value) -> Result<usize, ModelError> {
        ["max_position_embeddings", "n_positions", "n_ctx"]
            .iter()
            .find_map(|key| config[key].as_u64())
            .and_then(|n| usize::try_from(n).ok())
            .ok_or_else(|| self.refuse("its `config.json` does not say how long a context may be"))
    }

    /// `chat_template.jinja`, else what `tokenizer_config.json` has: a text, or a list of
    /// named ones of which `default` counts.
    fn chat_template(&self, settings: &Value) -> Result<Option<String>, ModelError> {
        let name = "chat_template.jinja";
        if let Some(bytes) = self.optional(name, MAX_CONFIG_BYTES)? {
            let text = String::from_utf8(bytes);
            return text
                .map(Some)
                .map_err(|_| self.refuse(format!("`{name}` is not UTF-8")));
        }
        match &settings["chat_template"] {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.clone())),
            Value::Array(named) => {
                let default = named.iter().find(|it| it["name"] == "default");
                let text = default.and_then(|it| it["template"].as_str());
                Ok(text.map(str::to_owned))
            }
            _ => Err(self.refuse(
                "`chat_template` in `tokenizer_config.json` is neither a text nor a list of named texts",
            )),
        }
    }
}

/// The settings with a tokenizer's class: where they name none, transformers takes that of
/// the model's type. GPT-2's own settings name none.
fn with_class(settings: &Value, config: &Value) -> Value {
    let mut map = settings.as_object().cloned().unwrap_or_default();
    let class = match config["model_type"].as_str() {
        Some("gpt2") => Some("GPT2Tokenizer"),
        Some("qwen2" | "qwen3") => Some("Qwen2Tokenizer"),
        _ => None,
    };
    if let (None, Some(class)) = (map.get("tokenizer_class"), class) {
        map.insert("tokenizer_class".to_owned(), class.into());
    }
    Value::Object(map)
}
