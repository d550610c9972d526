//! Opens a model that is one `.gguf` file.

use std::path::Path;
use std::sync::Arc;

use super::builtin::Builtin;
use super::gguf::{Gguf, GgufError, MAX_HEADER_BYTES, Value, file_type_name};
use super::tokenizer::{Tokenizer, TokenizerError, policy::Policy};
use super::weights_file::{FileError, WeightsFile};
use super::{Model, ModelError, ModelFiles, Parts};

/// The tensor whose rows are the vocabulary.
const EMBEDDING: &str = "token_embd.weight";

/// What is read of a file at first: most headers are shorter.
const FIRST_BYTES: u64 = 8 << 20;

impl Gguf {
    /// Reads the header of a file, and the bytes in which it stands, followed by some weights.
    ///
    /// # Errors
    ///
    /// [`FileError`] if the file cannot be read; a header that breaks a rule is a value here.
    pub fn read(file: &WeightsFile) -> Result<(Vec<u8>, Result<Self, GgufError>), FileError> {
        let longest = file.n_bytes().min(MAX_HEADER_BYTES as u64);
        let start = file.first(longest.min(FIRST_BYTES))?;
        let header = Self::parse_start(&start, file.n_bytes());
        if start.len() as u64 == longest || !matches!(header, Err(GgufError::Truncated { .. })) {
            return Ok((start, header));
        }
        let start = file.first(longest)?;
        let header = Self::parse_start(&start, file.n_bytes());
        Ok((start, header))
    }
}

/// Opens the file at `path`; a built-in one must have its pinned digest.
pub(super) fn open(
    source: String,
    path: &Path,
    builtin: Option<&'static Builtin>,
) -> Result<Model, ModelError> {
    let file = WeightsFile::open(path)?;
    let refused = |source: GgufError| ModelError::Gguf {
        path: path.to_owned(),
        source,
    };
    let broken = |source: TokenizerError| ModelError::Tokenizer {
        path: path.to_owned(),
        source,
    };
    let (start, gguf) = Gguf::read(&file)?;
    let gguf = gguf.map_err(refused)?;
    check_whole_model(&gguf).map_err(refused)?;
    let architecture = gguf.text("general.architecture").map_err(refused)?;
    let architecture =
        super::supported_architecture(architecture, &super::GGUF_ARCHITECTURES, path)?;
    let n_context = gguf
        .count(&format!("{architecture}.context_length"))
        .map_err(refused)?;
    let n_vocab = n_rows(&gguf).map_err(refused)?;
    let tokenizer = Tokenizer::from_gguf(&gguf).map_err(broken)?;
    super::check_vocabulary(&tokenizer, n_vocab, path)?;
    let policy = Policy::from_gguf(&gguf, &tokenizer).map_err(broken)?;
    let template = gguf
        .optional("tokenizer.chat_template", "a text", Value::as_text)
        .map_err(refused)?;
    let eos = policy.eos.first().copied();
    let chat = super::chat_template(template, &tokenizer, policy.bos, eos);
    let digest = file.digest()?;
    if let Some(builtin) = builtin {
        check_pin(builtin, digest, path)?;
    }
    let types = gguf
        .tensors()
        .values()
        .map(|it| it.tensor_type.name().to_owned());
    Ok(Model {
        source,
        revision: None,
        files: ModelFiles::Gguf(path.to_owned()),
        stamps: vec![file.stamp().clone()],
        digest,
        tokenizer_digest: tokenizer_digest(&gguf, &start),
        tokenizer: Arc::new(tokenizer),
        chat,
        architecture,
        n_context: n_context as usize,
        n_vocab,
        n_parameters: gguf
            .tensors()
            .values()
            .map(super::gguf::TensorInfo::n_elements)
            .sum(),
        quantisation: super::summary(types),
        file_type: gguf
            .get("general.file_type")
            .and_then(Value::as_u64)
            .map(file_type_name),
        weights_bytes: file.n_bytes(),
        weights: super::Weights::default(),
        bos: policy.bos,
        add_bos: policy.add_bos,
        eos: policy.eos,
    })
}

/// Refuses parts of models and what is none: adapters, projectors of images, statistics.
fn check_whole_model(gguf: &Gguf) -> Result<(), GgufError> {
    let count = gguf.optional("split.count", "a count", Value::as_u64)?;
    if let Some(n_parts) = count.filter(|n| 1 < *n) {
        return Err(GgufError::Split { n_parts });
    }
    match gguf.optional("general.type", "a text", Value::as_text)? {
        None | Some("model") => Ok(()),
        Some(kind) => Err(GgufError::NotAModel {
            kind: kind.to_owned(),
        }),
    }
}

fn n_rows(gguf: &Gguf) -> Result<usize, GgufError> {
    let embedding = gguf
        .tensors()
        .get(EMBEDDING)
        .ok_or_else(|| GgufError::MissingTensor {
            tensor: EMBEDDING.to_owned(),
        })?;
    match embedding.shape[..] {
        [_, n_rows] => Ok(n_rows as usize),
        _ => Err(GgufError::WrongShape {
            tensor: EMBEDDING.to_owned(),
            shape: embedding.shape.clone(),
            expected: "two dimensions",
        }),
    }
}

fn check_pin(
    builtin: &'static Builtin,
    digest: blake3::Hash,
    path: &Path,
) -> Result<(), ModelError> {
    let found = digest.to_hex().to_string();
    if found == builtin.blake3 {
        return Ok(());
    }
    Err(ModelError::Damaged {
        path: path.to_owned(),
        name: builtin.name,
        found,
        expected: builtin.blake3,
    })
}

/// Hashes every `tokenizer.ggml.` key, in alphabetical order, as it stands in the file.
fn tokenizer_digest(gguf: &Gguf, start: &[u8]) -> blake3::Hash {
    let mut keys: Vec<&str> = gguf
        .metadata()
        .map(|(key, _)| key)
        .filter(|key| key.starts_with("tokenizer.ggml."))
        .collect();
    keys.sort_unstable();
    let mut parts = Parts::new("gguf tokenizer");
    for key in keys {
        let range = gguf.value_range(key).expect("the key was just listed");
        parts.add(key, &start[range]);
    }
    parts.digest()
}
