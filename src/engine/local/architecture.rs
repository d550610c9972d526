//! What differs between the decoder families, as data.
//!
//! GPT-2, Llama, Mistral, Qwen2 and Qwen3 are one decoder ([`super::decoder`]) under
//! different records: which norm, which positions, which biases, which MLP. Field
//! names follow the papers; loaders fill the record from a GGUF's metadata or a
//! `config.json`.

/// Shape and variations of a decoder-only transformer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Architecture {
    /// Layers, `L`.
    pub n_layer: usize,
    /// Width of the residual stream, `E`.
    pub n_embd: usize,
    /// Query heads, `H`.
    pub n_head: usize,
    /// Key and value heads, `G`; divides `n_head`.
    pub n_kv_head: usize,
    /// Width of one head, `D`.
    pub head_dim: usize,
    /// Width of the MLP's hidden layer, `F`.
    pub n_ff: usize,
    /// Rows of the vocabulary head, `V`.
    pub n_vocab: usize,
    /// Positions the model was made for.
    pub n_context: usize,
    /// The norm before attention, before the MLP and at the end.
    pub norm: NormKind,
    /// How positions enter.
    pub positions: Positions,
    /// The MLP.
    pub mlp: Mlp,
}

/// The kind of a norm layer with its epsilon.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum NormKind {
    /// `x / sqrt(mean(x²) + eps) · w` (Zhang & Sennrich 2019).
    Rms(f32),
    /// `(x − mean) / sqrt(var + eps) · w + b` (Ba et al. 2016).
    Layer(f32),
}

/// How positions enter the model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Positions {
    /// A learned embedding per position, added to the token's.
    Learned,
    /// Rotary embedding, first half of a head paired with its second half
    /// (Su et al. 2021; Hugging Face's `rotate_half` layout).
    Rope {
        /// Radians per position for each of the `D / 2` pairs.
        frequencies: Vec<f32>,
    },
}

/// The kind of MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mlp {
    /// `down(gelu(up(x)))` with the tanh form of gelu, as GPT-2's `gelu_new`.
    Gelu,
    /// `down(silu(gate(x)) · up(x))` (Shazeer 2020).
    SwiGlu,
}

impl Architecture {
    /// Floats of one token's keys in one layer, `G·D`.
    pub(crate) fn kv_width(&self) -> usize {
        self.n_kv_head * self.head_dim
    }

    /// A made-up decoder of three layers, for tests that compute nothing.
    #[cfg(test)]
    pub(crate) fn small() -> Self {
        Self {
            n_layer: 3,
            n_embd: 8,
            n_head: 2,
            n_kv_head: 1,
            head_dim: 4,
            n_ff: 16,
            n_vocab: 32,
            n_context: 1000,
            norm: NormKind::Rms(1e-5),
            positions: Positions::Learned,
            mlp: Mlp::Gelu,
        }
    }
}
