//! How the checkpoints of each family name and lay out their tensors.

/// Names and order of a checkpoint's tensors; `{}` stands for the layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    pub token_embedding: &'static str,
    pub position_embedding: Option<&'static str>,
    pub attention_norm: &'static str,
    pub qkv: Qkv,
    /// Norms of every head of the queries and of the keys.
    pub query_key_norm: Option<[&'static str; 2]>,
    pub output: &'static str,
    pub mlp_norm: &'static str,
    /// Gate and up, or up alone.
    pub up: &'static [&'static str],
    pub down: &'static str,
    pub norm: &'static str,
    /// The vocabulary head's own tensor.
    pub head_name: &'static str,
    /// Whether the vocabulary head is the embedding.
    pub head: Head,
    /// Divisors of the rotary frequencies, if the file has them.
    pub rope_factors: Option<&'static str>,
    /// Put before every name but the head's, e.g. `transformer.`.
    pub prefix: &'static str,
    /// `.bias` of queries, keys and values.
    pub qkv_bias: Bias,
    /// `.bias` of the attention's output.
    pub output_bias: Bias,
    /// `.bias` of the MLP's matrices.
    pub mlp_bias: Bias,
    /// Linear weights are stored (in, out), as GPT-2's `Conv1D`.
    pub is_in_out: bool,
    /// Rows of q and k are in llama.cpp's interleaved rotary order.
    pub is_interleaved: bool,
    /// Buffers that settings already determine; accepted and not read.
    pub derived: &'static [&'static str],
}

/// Names of the attention inputs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Qkv {
    Fused(&'static str),
    Split([&'static str; 3]),
}

/// Whether linear layers add a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bias {
    Absent,
    Stored,
}

impl From<bool> for Bias {
    fn from(is_stored: bool) -> Self {
        if is_stored {
            Self::Stored
        } else {
            Self::Absent
        }
    }
}

/// Where the weights of the vocabulary head are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    /// In a tensor of their own.
    Own,
    /// In the embedding; a tensor of their own, if stored as well, must equal it.
    Tied,
    /// In a tensor of their own if the file has it, else in the embedding: GGUF has no
    /// other way to say which.
    Found,
}

pub(super) const GGUF_LLAMA: Layout = Layout {
    token_embedding: "token_embd",
    position_embedding: None,
    attention_norm: "blk.{}.attn_norm",
    qkv: Qkv::Split(["blk.{}.attn_q", "blk.{}.attn_k", "blk.{}.attn_v"]),
    query_key_norm: None,
    output: "blk.{}.attn_output",
    mlp_norm: "blk.{}.ffn_norm",
    up: &["blk.{}.ffn_gate", "blk.{}.ffn_up"],
    down: "blk.{}.ffn_down",
    norm: "output_norm",
    head_name: "output",
    head: Head::Found,
    rope_factors: Some("rope_freqs"),
    prefix: "",
    qkv_bias: Bias::Absent,
    output_bias: Bias::Absent,
    mlp_bias: Bias::Absent,
    is_in_out: false,
    is_interleaved: true,
    derived: &[],
};

/// llama.cpp rotates Qwen's heads in halves, so their rows are not moved.
pub(super) const GGUF_QWEN2: Layout = Layout {
    rope_factors: None,
    qkv_bias: Bias::Stored,
    is_interleaved: false,
    ..GGUF_LLAMA
};

pub(super) const GGUF_QWEN3: Layout = Layout {
    query_key_norm: Some(["blk.{}.attn_q_norm", "blk.{}.attn_k_norm"]),
    qkv_bias: Bias::Absent,
    ..GGUF_QWEN2
};

pub(super) const GGUF_GPT2: Layout = Layout {
    position_embedding: Some("position_embd"),
    qkv: Qkv::Fused("blk.{}.attn_qkv"),
    up: &["blk.{}.ffn_up"],
    rope_factors: None,
    qkv_bias: Bias::Stored,
    output_bias: Bias::Stored,
    mlp_bias: Bias::Stored,
    is_interleaved: false,
    ..GGUF_LLAMA
};

/// Also Mistral's.
pub(super) const HF_LLAMA: Layout = Layout {
    token_embedding: "embed_tokens",
    position_embedding: None,
    attention_norm: "layers.{}.input_layernorm",
    qkv: Qkv::Split([
        "layers.{}.self_attn.q_proj",
        "layers.{}.self_attn.k_proj",
        "layers.{}.self_attn.v_proj",
    ]),
    query_key_norm: None,
    output: "layers.{}.self_attn.o_proj",
    mlp_norm: "layers.{}.post_attention_layernorm",
    up: &["layers.{}.mlp.gate_proj", "layers.{}.mlp.up_proj"],
    down: "layers.{}.mlp.down_proj",
    norm: "norm",
    head_name: "lm_head",
    head: Head::Own,
    rope_factors: None,
    prefix: "model.",
    qkv_bias: Bias::Absent,
    output_bias: Bias::Absent,
    mlp_bias: Bias::Absent,
    is_in_out: false,
    is_interleaved: false,
    // Frequencies without their scaling, which older versions of transformers stored;
    // it computes them anew too.
    derived: &["model.layers.{}.self_attn.rotary_emb.inv_freq"],
};

pub(super) const HF_QWEN2: Layout = Layout {
    qkv_bias: Bias::Stored,
    ..HF_LLAMA
};

pub(super) const HF_QWEN3: Layout = Layout {
    query_key_norm: Some(["layers.{}.self_attn.q_norm", "layers.{}.self_attn.k_norm"]),
    ..HF_LLAMA
};

pub(super) const HF_GPT2: Layout = Layout {
    token_embedding: "wte",
    position_embedding: Some("wpe"),
    attention_norm: "h.{}.ln_1",
    qkv: Qkv::Fused("h.{}.attn.c_attn"),
    output: "h.{}.attn.c_proj",
    mlp_norm: "h.{}.ln_2",
    up: &["h.{}.mlp.c_fc"],
    down: "h.{}.mlp.c_proj",
    norm: "ln_f",
    prefix: "transformer.",
    qkv_bias: Bias::Stored,
    output_bias: Bias::Stored,
    mlp_bias: Bias::Stored,
    is_in_out: true,
    // The causal mask.
    derived: &[
        "transformer.h.{}.attn.bias",
        "transformer.h.{}.attn.masked_bias",
    ],
    ..HF_LLAMA
};

/// `HF_GPT2` as the original checkpoint was published, without the prefix.
pub(super) const HF_GPT2_BARE: Layout = Layout {
    prefix: "",
    derived: &["h.{}.attn.bias", "h.{}.attn.masked_bias"],
    ..HF_GPT2
};
