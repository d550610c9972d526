//! Opens a model that is a checkpoint folder: `config.json`, `tokenizer.json` and
//! `*.safetensors`, as Hugging Face's libraries write them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::mapped::MappedFile;
use super::safetensors::Header;
use super::tokenizer::{Tokenizer, TokenizerError, policy::Policy};
use super::{Model, ModelError, ModelFiles, Parts};

/// Largest settings file, in bytes; a `tokenizer.json` may be larger.
const MAX_CONFIG_BYTES: u64 = 16 << 20;
/// Largest `tokenizer.json`, in bytes.
const MAX_TOKENIZER_BYTES: u64 = 256 << 20;

/// Opens the checkpoint in `folder`.
pub(super) fn open(source: String, folder: &Path) -> Result<Model, ModelError> {
    let files = Folder(folder);
    let config_bytes = files.required("config.json", MAX_CONFIG_BYTES)?;
    let config = files.json("config.json", &config_bytes)?;
    let architecture = files.architecture(&config)?;
    let weights = files.weights()?;
    let tensors = read_headers(&weights, folder)?;
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
    let mut weights_bytes = 0;
    for path in &weights {
        let file = MappedFile::open(path)?;
        weights_bytes += file.len() as u64;
        let digest = blake3::Hasher::new().update_rayon(&file).finalize();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        parts.add(&name, digest.as_bytes());
    }
    let is_weight = |dtype: &str| dtype.contains('F');
    Ok(Model {
        source,
        digest: parts.digest(),
        tokenizer_digest: written.digest,
        tokenizer: Arc::new(tokenizer),
        chat,
        n_context: files.n_context(&config)?,
        n_vocab,
        n_parameters: tensors
            .iter()
            .filter(|it| is_weight(&it.dtype))
            .map(|it| it.n_elements)
            .sum(),
        quantisation: super::summary(tensors.iter().map(|it| it.dtype.clone())),
        weights_bytes,
        bos: policy.bos,
        add_bos: policy.add_bos,
        eos: policy.eos,
        architecture,
        files: ModelFiles::Safetensors {
            folder: folder.to_owned(),
            config,
            weights,
        },
    })
}

/// A tensor of any of the weights files.
struct Stored {
    name: String,
    dtype: String,
    shape: Vec<u64>,
    n_elements: u64,
}

/// Reads the headers of all weights files; a tensor may stand in one of them only.
fn read_headers(weights: &[PathBuf], folder: &Path) -> Result<Vec<Stored>, ModelError> {
    let mut names = BTreeSet::new();
    let mut tensors = Vec::new();
    for path in weights {
        let file = MappedFile::open(path)?;
        let header = Header::parse(&file).map_err(|source| ModelError::Safetensors {
            path: path.clone(),
            source,
        })?;
        for (name, it) in header.tensors {
            if !names.insert(name.clone()) {
                return Err(ModelError::Folder {
                    folder: folder.to_owned(),
                    reason: format!("the tensor `{name}` stands in two weights files"),
                });
            }
            let n_elements = it.n_elements();
            tensors.push(Stored {
                name,
                dtype: it.dtype,
                shape: it.shape,
                n_elements,
            });
        }
    }
    Ok(tensors)
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
struct Folder<'a>(&'a Path);

impl Folder<'_> {
    fn refuse(&self, reason: impl Into<String>) -> ModelError {
        ModelError::Folder {
            folder: self.0.to_owned(),
            reason: reason.into(),
        }
    }

    fn optional(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>, ModelError> {
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
        self.optional(name, most)?
            .ok_or_else(|| self.refuse(format!("it has no `{name}`")))
    }

    fn json(&self, name: &str, bytes: &[u8]) -> Result<Value, ModelError> {
        serde_json::from_slice(bytes)
            .map_err(|err| self.refuse(format!("`{name}` is not valid JSON: {err}")))
    }

    fn optional_json(&self, name: &str, bytes: Option<&[u8]>) -> Result<Value, ModelError> {
        bytes.map_or(Ok(Value::Null), |bytes| self.json(name, bytes))
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
        super::supported_architecture(name, self.0)
    }

    /// The files that `model.safetensors.index.json` lists, or the single one there is.
    fn weights(&self) -> Result<Vec<PathBuf>, ModelError> {
        let index = "model.safetensors.index.json";
        if let Some(bytes) = self.optional(index, MAX_CONFIG_BYTES)? {
            let root = self.json(index, &bytes)?;
            let map = root["weight_map"]
                .as_object()
                .ok_or_else(|| self.refuse(format!("`{index}` has no `weight_map`")))?;
            let names = map
                .values()
                .map(|name| match name.as_str() {
                    Some(name) if is_plain_name(name) => Ok(name),
                    _ => Err(self.refuse(format!("`{index}` names the file {name}"))),
                })
                .collect::<Result<BTreeSet<&str>, _>>()?;
            return Ok(names.into_iter().map(|name| self.0.join(name)).collect());
        }
        let entries = std::fs::read_dir(self.0)
            .map_err(|err| self.refuse(format!("it cannot be listed: {err}")))?;
        let found: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|it| it == "safetensors"))
            .collect();
        match found.len() {
            1 => Ok(found),
            0 => Err(self.refuse(
                "it has no `.safetensors` file; other formats (`.bin`, `.pt`) can run code and are not read",
            )),
            n => Err(self.refuse(format!("it has {n} `.safetensors` files but no `{index}`"))),
        }
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
            .map(|it| it.shape.as_slice())
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
            .map(|n| n as usize)
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
        let template = &settings["chat_template"];
        let named = template
            .as_array()
            .and_then(|it| it.iter().find(|it| it["name"] == "default"));
        let text = template.as_str().or_else(|| named?["template"].as_str());
        Ok(text.map(str::to_owned))
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

/// Whether `name` is one plain file name, so that joining it stays in the folder.
fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!(
        (parts.next(), parts.next()),
        (Some(std::path::Component::Normal(_)), None)
    )
}
