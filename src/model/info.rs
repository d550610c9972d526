//! What `harness models info` shows of a model.

use serde::Serialize;

use super::Model;

/// A model's facts in a form to print or to write as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelInfo {
    /// The source as it was written.
    pub source: String,
    /// The commit of a model on the hub.
    pub revision: Option<String>,
    /// The weights files.
    pub files: Vec<String>,
    /// Size of the weights files in bytes.
    pub weights_bytes: u64,
    /// The architecture's name.
    pub architecture: String,
    /// Number of weights.
    pub n_parameters: u64,
    /// How many tensors have which type.
    pub quantisation: String,
    /// What a `.gguf` file says of its types as a whole, e.g. `Q4_K_M`.
    pub file_type: Option<String>,
    /// Longest sequence in tokens.
    pub n_context: usize,
    /// Ids that the model gives a probability.
    pub n_vocab: usize,
    /// Ids beyond the tokenizer's own, which no text uses.
    pub n_padding: usize,
    /// The token that begins a text, as text.
    pub bos: Option<String>,
    /// Whether it is put in front of every text.
    pub add_bos: bool,
    /// The tokens that end a generation, as texts.
    pub eos: Vec<String>,
    /// Whether the model has a chat template that compiles.
    pub has_chat_template: bool,
    /// BLAKE3 over weights, tokenizer and settings, in hexadecimal.
    pub digest: String,
    /// BLAKE3 over the tokenizer, in hexadecimal.
    pub tokenizer_digest: String,
}

impl Model {
    /// The model's facts.
    pub fn info(&self) -> ModelInfo {
        let text = |id: &u32| self.tokenizer.token_text(*id);
        ModelInfo {
            source: self.source.clone(),
            revision: self.revision.clone(),
            files: self
                .files
                .weights()
                .iter()
                .map(|it| it.display().to_string())
                .collect(),
            weights_bytes: self.weights_bytes,
            architecture: self.architecture.clone(),
            n_parameters: self.n_parameters,
            quantisation: self.quantisation.clone(),
            file_type: self.file_type.clone(),
            n_context: self.n_context,
            n_vocab: self.n_vocab,
            n_padding: self.n_vocab - self.tokenizer.n_vocab(),
            bos: self.bos.as_ref().map(text),
            add_bos: self.add_bos,
            eos: self.eos.iter().map(text).collect(),
            has_chat_template: self.chat.is_ok(),
            digest: self.digest.to_hex().to_string(),
            tokenizer_digest: self.tokenizer_digest.to_hex().to_string(),
        }
    }
}
