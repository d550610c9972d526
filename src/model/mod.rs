//! A source string to everything about a model but its weights.
//!
//! [`open`] finds the files of a built-in model, of a model on the hub, of a `.gguf`
//! file or a checkpoint folder, checks their headers, computes the digests under which
//! responses are stored, and builds the tokenizer, the chat template and the BOS policy.
//!
//! Promise: a model that opens has a tokenizer whose ids fit its embedding, an
//! architecture the engine knows, and headers in which every length was checked.
//! Limits: no weights are read but for the digest; nothing is printed; only a
//! built-in model or one on the hub is ever fetched, and never when offline. Whether
//! every tensor has a use is for the engine to say.

pub mod builtin;
pub mod chat;
mod folder;
mod foreign;
pub mod gguf;
mod gguf_file;
pub mod header;
pub mod hub;
mod info;
#[cfg(test)]
mod opened;
pub mod safetensors;
mod shards;
pub mod tokenizer;
pub mod weights_file;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::experiment::ModelSource;
pub use crate::experiment::Weights;

use self::builtin::{Builtin, PullError, PullProgress};
use self::chat::{ChatError, ChatTemplate};
use self::hub::HubError;
pub use self::info::ModelInfo;
use self::tokenizer::{Tokenizer, TokenizerError};
use self::weights_file::WeightsFile;
use crate::reach::{Outside, Reach, ReachError};

/// Architectures that the engine computes, by their name in `config.json`.
pub const ARCHITECTURES: [&str; 5] = ["llama", "mistral", "qwen2", "qwen3", "gpt2"];
/// Architectures that the engine computes, by their name in GGUF, where Mistral is `llama`.
pub const GGUF_ARCHITECTURES: [&str; 4] = ["llama", "qwen2", "qwen3", "gpt2"];

/// How [`open`] finds and checks a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// Never fetch anything.
    pub offline: bool,
    /// Folder of the built-in models; `None` asks [`builtin::default_cache`].
    pub cache: Option<PathBuf>,
    /// Folder that relative paths start at: the experiment file's.
    pub base: PathBuf,
    /// Where a model at a path may lie, the model caches apart, with every file of a folder;
    /// `None` for a source that the user typed.
    pub within: Option<Reach>,
    /// The SHA-256 that the weights file must have, in hexadecimal.
    pub sha256: Option<String>,
    /// How the weights are to be held in memory.
    pub weights: Weights,
}

/// Why a model could not be opened.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each field is named in its variant's message")]
pub enum ModelError {
    /// A model on the hub is not there and could not be fetched.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// A built-in model is not there and could not be fetched.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] weights_file::FileError),
    /// A `.gguf` file that breaks the format's rules.
    #[error("`{}` cannot be used", .path.display())]
    Gguf {
        path: PathBuf,
        source: gguf::GgufError,
    },
    /// A `.safetensors` file that breaks the format's rules.
    #[error("`{}` cannot be used", .path.display())]
    Safetensors {
        path: PathBuf,
        source: safetensors::SafetensorsError,
    },
    /// A tokenizer that is not supported or broken.
    #[error("the tokenizer of `{}` cannot be used", .path.display())]
    Tokenizer {
        path: PathBuf,
        source: TokenizerError,
    },
    /// A path that is neither a `.gguf` file nor a folder.
    #[error("`{}` is neither a `.gguf` file nor a checkpoint folder (`config.json`, `tokenizer.json`, `*.safetensors`){}", .path.display(), .note.map(|it| format!("; it is {it}")).unwrap_or_default())]
    UnknownFormat {
        path: PathBuf,
        /// What the file is, where its first bytes tell.
        note: Option<&'static str>,
    },
    /// A model, or a file of one, that an experiment may not read.
    #[error("`{}` lies outside the experiment's folder", .named.display())]
    Outside {
        /// The path as it was named.
        named: PathBuf,
        /// Where it leads.
        outside: Outside,
    },
    /// Nothing at the path.
    #[error("there is no model at `{}`", .path.display())]
    Missing { path: PathBuf },
    /// A file of a checkpoint folder that is missing or says what cannot be.
    #[error("the checkpoint `{}` cannot be used: {reason}", .folder.display())]
    Folder { folder: PathBuf, reason: String },
    /// An architecture that the engine does not compute.
    #[error("`{}` has the architecture `{architecture}`, which is not supported yet, only {}", .path.display(), .known.join(", "))]
    Architecture {
        path: PathBuf,
        architecture: String,
        known: &'static [&'static str],
    },
    /// A tokenizer with more ids than the embedding has rows.
    #[error("the tokenizer of `{}` has {n_tokens} ids, but the embedding has {n_rows} rows", .path.display())]
    VocabularyMismatch {
        path: PathBuf,
        n_tokens: usize,
        n_rows: usize,
    },
    /// A cached built-in model whose bytes changed.
    #[error("`{}` is damaged: its BLAKE3 is {found}, expected {expected}; delete it and run `harness models pull {name}`", .path.display())]
    Damaged {
        path: PathBuf,
        name: &'static str,
        found: String,
        expected: &'static str,
    },
    /// Weights other than the experiment file pins.
    #[error("`{}` has the SHA-256 {found}, but the experiment file says {expected}", .path.display())]
    WrongSha256 {
        path: PathBuf,
        found: String,
        expected: String,
    },
    /// A pin on weights that are several files.
    #[error("`sha256` pins one weights file, but `{}` has {n_files}", .path.display())]
    PinnedManyFiles { path: PathBuf, n_files: usize },
}

/// The files that hold a model's weights.
#[derive(Debug, Clone, PartialEq)]
pub enum ModelFiles {
    /// One `.gguf` file.
    Gguf(PathBuf),
    /// A checkpoint folder.
    Safetensors {
        /// The folder.
        folder: PathBuf,
        /// Its `config.json`.
        config: serde_json::Value,
        /// Its weights files, sorted by name.
        weights: Vec<PathBuf>,
    },
}

/// A model that is known to be usable, without its weights.
#[derive(Debug, Clone)]
pub struct Model {
    /// The source as it was written.
    pub source: String,
    /// The commit of a model on the hub.
    pub revision: Option<String>,
    /// Where the weights are.
    pub files: ModelFiles,
    /// The weights files as they were when the digest was computed; see [`Model::changed_file`].
    pub stamps: Vec<weights_file::FileStamp>,
    /// BLAKE3 over weights, tokenizer and settings: what responses are stored under.
    pub digest: blake3::Hash,
    /// BLAKE3 over what decides the token ids of a text.
    pub tokenizer_digest: blake3::Hash,
    /// Text to ids and back.
    pub tokenizer: Arc<Tokenizer>,
    /// The chat template, or why there is none that can be used.
    pub chat: Result<ChatTemplate, ChatError>,
    /// One of [`ARCHITECTURES`] or [`GGUF_ARCHITECTURES`].
    pub architecture: String,
    /// Longest sequence the model was made for, in tokens.
    pub n_context: usize,
    /// Rows of the embedding: the ids that the model gives a probability. May exceed
    /// [`Tokenizer::n_vocab`]; the ids beyond are padding that no text uses.
    pub n_vocab: usize,
    /// Number of weights.
    pub n_parameters: u64,
    /// How many tensors have which type, e.g. `210 Q4_1, 61 F32, 1 Q8_0`.
    pub quantisation: String,
    /// What a `.gguf` file says of its types as a whole, e.g. `Q4_K_M`: a label only.
    pub file_type: Option<String>,
    /// Size of the weights files in bytes.
    pub weights_bytes: u64,
    /// How the weights are to be held in memory; no part of the digest, since the scores
    /// are the same bits.
    pub weights: Weights,
    /// The token that begins a text, if the model has one.
    pub bos: Option<u32>,
    /// Whether the model was made to see `bos` in front of every text.
    pub add_bos: bool,
    /// Every token that ends a generation, the model's own EOS first.
    pub eos: Vec<u32>,
}

/// Opens the model at `source`.
///
/// `progress` is called while a built-in model or one on the hub is fetched.
///
/// # Errors
///
/// [`ModelError`] says what is wrong, where, and what to do.
pub fn open(
    source: &ModelSource,
    options: &OpenOptions,
    progress: &mut dyn FnMut(PullProgress),
) -> Result<Model, ModelError> {
    let written = source.to_string();
    let model = match source {
        ModelSource::Builtin(name) => {
            let builtin = Builtin::find(name)?;
            let cache = options
                .cache
                .clone()
                .map_or_else(builtin::default_cache, Ok)?;
            let path = builtin::pull(builtin, &cache, options.offline, progress)?;
            gguf_file::open(written, &path, Some(builtin))?
        }
        ModelSource::Path(path) => {
            let path = options.base.join(path);
            if let Some(reach) = &options.within {
                confine(&path, reach)?;
            }
            open_path(written, path)?
        }
        ModelSource::Hub {
            owner,
            repo,
            revision,
            file,
        } => {
            let source = hub::HubSource {
                owner,
                repo,
                revision,
                file: file.as_deref(),
            };
            let settings = hub::Settings::from_environment(options)?;
            let fetched = hub::fetch(&source, &settings, progress)?;
            Model {
                revision: Some(fetched.commit),
                ..open_path(written, fetched.path)?
            }
        }
    };
    if let Some(expected) = &options.sha256 {
        check_sha256(&model.files, expected)?;
    }
    Ok(Model {
        weights: options.weights,
        ..model
    })
}

/// Refuses a model of which a file lies neither within `reach` nor in a model cache.
fn confine(path: &Path, reach: &Reach) -> Result<(), ModelError> {
    let mut reach = reach.clone();
    let caches = [builtin::default_cache().ok(), hub::cache_folder()];
    for cache in caches.into_iter().flatten() {
        // A cache that is not there has no models.
        reach.allow(&cache).ok();
    }
    let follow = |path: &Path| match reach.follow(path) {
        Err(ReachError::Outside(outside)) => Err(ModelError::Outside {
            named: path.to_owned(),
            outside,
        }),
        // What is not there is told by whoever opens it.
        Ok(_) | Err(ReachError::Missing(_)) => Ok(()),
    };
    follow(path)?;
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        // Folders within are never read.
        if entry.path().is_file() {
            follow(&entry.path())?;
        }
    }
    Ok(())
}

fn open_path(written: String, path: PathBuf) -> Result<Model, ModelError> {
    let Ok(metadata) = std::fs::metadata(&path) else {
        return Err(ModelError::Missing { path });
    };
    if metadata.is_dir() {
        folder::open(written, &path)
    } else if path
        .extension()
        .is_some_and(|it| it.eq_ignore_ascii_case("gguf"))
    {
        gguf_file::open(written, &path, None)
    } else {
        let start = WeightsFile::open(&path)?.first(foreign::N_BYTES as u64)?;
        let note = foreign::note(&start);
        Err(ModelError::UnknownFormat { path, note })
    }
}

impl ModelError {
    /// What to do about it, where the message does not say it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Hub(err) => err.hint(),
            Self::Outside { outside, .. } => Some(format!(
                "models are read in the experiment's own folder and in the model caches; if you \
                 trust what lies there, allow it with `{}`",
                outside.flag()
            )),
            _ => None,
        }
    }
}

impl Model {
    /// The chat template.
    ///
    /// # Errors
    ///
    /// [`ChatError`] if the model has none, or one that is not valid.
    pub fn chat_template(&self) -> Result<&ChatTemplate, ChatError> {
        self.chat.as_ref().map_err(Clone::clone)
    }

    /// A weights file that was replaced or written to since the digest was computed, if one was:
    /// what is computed from it would be stored under the digest of other weights.
    pub fn changed_file(&self) -> Option<&Path> {
        let mut changed = self.stamps.iter().filter(|it| !it.is_current());
        changed.next().map(weights_file::FileStamp::path)
    }
}

impl ModelFiles {
    /// The weights files.
    pub fn weights(&self) -> &[PathBuf] {
        match self {
            Self::Gguf(path) => std::slice::from_ref(path),
            Self::Safetensors { weights, .. } => weights,
        }
    }
}

/// `name` if the engine computes it, which is one of `known`.
fn supported_architecture(
    name: &str,
    known: &'static [&'static str],
    path: &Path,
) -> Result<String, ModelError> {
    if known.contains(&name) {
        return Ok(name.to_owned());
    }
    Err(ModelError::Architecture {
        path: path.to_owned(),
        architecture: name.to_owned(),
        known,
    })
}

/// Refuses ids for which the embedding has no row.
fn check_vocabulary(tokenizer: &Tokenizer, n_rows: usize, path: &Path) -> Result<(), ModelError> {
    if tokenizer.n_vocab() <= n_rows {
        return Ok(());
    }
    Err(ModelError::VocabularyMismatch {
        path: path.to_owned(),
        n_tokens: tokenizer.n_vocab(),
        n_rows,
    })
}

/// Compiles the chat template, with the texts of the tokens it may name.
fn chat_template(
    source: Option<&str>,
    tokenizer: &Tokenizer,
    bos: Option<u32>,
    eos: Option<u32>,
) -> Result<ChatTemplate, ChatError> {
    let text = |id: Option<u32>| id.map(|id| tokenizer.token_text(id));
    let (bos, eos) = (text(bos), text(eos));
    ChatTemplate::compile(
        source.ok_or(ChatError::None)?,
        bos.as_deref(),
        eos.as_deref(),
    )
}

/// `210 Q4_1, 61 F32`: the most frequent type first, then by name.
fn summary(types: impl Iterator<Item = String>) -> String {
    let mut counts = std::collections::BTreeMap::new();
    for it in types {
        *counts.entry(it).or_insert(0_usize) += 1;
    }
    let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    counts
        .iter()
        .map(|(it, n)| format!("{n} {it}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Hashes named parts, so that moving a byte from one part to the next changes the digest.
struct Parts(blake3::Hasher);

impl Parts {
    fn new(what: &str) -> Self {
        let mut it = Self(blake3::Hasher::new());
        it.add("what", what.as_bytes());
        it
    }

    fn add(&mut self, name: &str, bytes: &[u8]) {
        for part in [name.as_bytes(), bytes] {
            self.0.update(&(part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
    }

    fn digest(&self) -> blake3::Hash {
        self.0.finalize()
    }
}

fn check_sha256(files: &ModelFiles, expected: &str) -> Result<(), ModelError> {
    use sha2::Digest as _;
    let [path] = files.weights() else {
        let path = match files {
            ModelFiles::Gguf(path) => path,
            ModelFiles::Safetensors { folder, .. } => folder,
        };
        return Err(ModelError::PinnedManyFiles {
            path: path.clone(),
            n_files: files.weights().len(),
        });
    };
    let mut hasher = sha2::Sha256::new();
    WeightsFile::open(path)?.each_piece(|bytes| hasher.update(bytes))?;
    let found = builtin::hex(&hasher.finalize());
    if found.eq_ignore_ascii_case(expected.trim()) {
        return Ok(());
    }
    Err(ModelError::WrongSha256 {
        path: path.clone(),
        found,
        expected: expected.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(base: &Path, source: &str) -> String {
        let options = OpenOptions {
            base: base.to_owned(),
            ..OpenOptions::default()
        };
        open(&source.parse().unwrap(), &options, &mut |_| {})
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn what_is_no_model_is_refused_by_name() {
        let base = tempfile::tempdir().unwrap();
        std::fs::write(base.path().join("pytorch_model.bin"), b"PK").unwrap();
        let open = |source: &str| failure(base.path(), source);
        assert!(open("none.gguf").contains("there is no model at"));
        assert!(open("pytorch_model.bin").contains("neither a `.gguf` file nor"));
        std::fs::write(base.path().join("ggml-model.bin"), b"tjgg\x03\0\0\0").unwrap();
        assert!(open("ggml-model.bin").contains("it is a file of the old format GGJT"));
        std::fs::write(base.path().join("model.pt"), b"PK\x03\x04").unwrap();
        assert!(open("model.pt").contains("which can run code and are never opened"));
        assert!(open("./").contains("it has no `config.json`"));
        assert!(open("builtin:gpt-5").contains("there is no built-in model `gpt-5`"));
    }

    #[test]
    fn types_are_counted_most_frequent_first() {
        let types = ["F32", "Q4_1", "BF16", "Q4_1"].map(str::to_owned);
        assert_eq!(summary(types.into_iter()), "2 Q4_1, 1 BF16, 1 F32");
    }

    #[test]
    fn digests_keep_parts_apart() {
        let digest = |parts: [(&str, &[u8]); 2]| {
            let mut it = Parts::new("test");
            for (name, bytes) in parts {
                it.add(name, bytes);
            }
            it.digest()
        };
        assert_ne!(
            digest([("a", b"xy"), ("b", b"z")]),
            digest([("a", b"x"), ("b", b"yz")])
        );
        assert_ne!(
            digest([("a", b"x"), ("b", b"y")]),
            digest([("a", b"y"), ("b", b"x")])
        );
    }
}
