//! Checkpoint names and settings of each family, mapped onto the one decoder.
//!
//! Every semantic setting is understood or refused: a rope scaling that is not
//! applied, or an activation that is not the one computed, would load without
//! complaint and score wrong.

use serde_json::Value as Json;

use super::LoadError;
use super::architecture::{Architecture, Mlp, NormKind, Positions};
use crate::model::gguf;

/// How a checkpoint names and lays out its tensors; `{}` stands for the layer.
pub(crate) struct Layout {
    pub token_embedding: &'static str,
    pub position_embedding: Option<&'static str>,
    pub attention_norm: &'static str,
    pub qkv: Qkv,
    pub output: &'static str,
    pub mlp_norm: &'static str,
    /// Gate and up, or up alone.
    pub up: &'static [&'static str],
    pub down: &'static str,
    pub norm: &'static str,
    /// The vocabulary head where it is not tied to the embedding.
    pub head: &'static str,
    /// Put before every name but the head's, e.g. `transformer.`.
    pub prefix: &'static str,
    /// Linear layers and norms have a `.bias`.
    pub biases: bool,
    /// Linear weights are stored (in, out), as GPT-2's `Conv1D`.
    pub is_in_out: bool,
    /// Rows of q and k are in llama.cpp's interleaved rotary order.
    pub is_interleaved: bool,
    /// Buffers that settings already determine; accepted and not read.
    pub derived: &'static [&'static str],
}

/// Names of the attention inputs.
pub(crate) enum Qkv {
    Fused(&'static str),
    Split([&'static str; 3]),
}

const GGUF_LLAMA: Layout = Layout {
    token_embedding: "token_embd",
    position_embedding: None,
    attention_norm: "blk.{}.attn_norm",
    qkv: Qkv::Split(["blk.{}.attn_q", "blk.{}.attn_k", "blk.{}.attn_v"]),
    output: "blk.{}.attn_output",
    mlp_norm: "blk.{}.ffn_norm",
    up: &["blk.{}.ffn_gate", "blk.{}.ffn_up"],
    down: "blk.{}.ffn_down",
    norm: "output_norm",
    head: "output",
    prefix: "",
    biases: false,
    is_in_out: false,
    is_interleaved: true,
    derived: &[],
};

const GGUF_GPT2: Layout = Layout {
    position_embedding: Some("position_embd"),
    qkv: Qkv::Fused("blk.{}.attn_qkv"),
    up: &["blk.{}.ffn_up"],
    biases: true,
    is_interleaved: false,
    ..GGUF_LLAMA
};

const HF_LLAMA: Layout = Layout {
    token_embedding: "embed_tokens",
    position_embedding: None,
    attention_norm: "layers.{}.input_layernorm",
    qkv: Qkv::Split([
        "layers.{}.self_attn.q_proj",
        "layers.{}.self_attn.k_proj",
        "layers.{}.self_attn.v_proj",
    ]),
    output: "layers.{}.self_attn.o_proj",
    mlp_norm: "layers.{}.post_attention_layernorm",
    up: &["layers.{}.mlp.gate_proj", "layers.{}.mlp.up_proj"],
    down: "layers.{}.mlp.down_proj",
    norm: "norm",
    head: "lm_head",
    prefix: "model.",
    biases: false,
    is_in_out: false,
    is_interleaved: false,
    derived: &["model.layers.{}.self_attn.rotary_emb.inv_freq"],
};

const HF_GPT2: Layout = Layout {
    token_embedding: "wte",
    position_embedding: Some("wpe"),
    attention_norm: "h.{}.ln_1",
    qkv: Qkv::Fused("h.{}.attn.c_attn"),
    output: "h.{}.attn.c_proj",
    mlp_norm: "h.{}.ln_2",
    up: &["h.{}.mlp.c_fc"],
    down: "h.{}.mlp.c_proj",
    norm: "ln_f",
    head: "lm_head",
    prefix: "transformer.",
    biases: true,
    is_in_out: true,
    is_interleaved: false,
    derived: &[
        "transformer.h.{}.attn.bias",
        "transformer.h.{}.attn.masked_bias",
    ],
};

/// `HF_GPT2` as the original checkpoint was published, without the prefix.
const HF_GPT2_BARE: Layout = Layout {
    prefix: "",
    derived: &["h.{}.attn.bias", "h.{}.attn.masked_bias"],
    ..HF_GPT2
};

/// The record and layout of a GGUF file.
pub(crate) fn from_gguf(header: &gguf::Gguf) -> Result<(Architecture, Layout), LoadError> {
    let family = header
        .text("general.architecture")
        .unwrap_or_default()
        .to_owned();
    let keys = GgufKeys {
        header,
        family: family.clone(),
    };
    let (known, layout): (&[&str], Layout) = match family.as_str() {
        "llama" => (
            &[
                "attention.layer_norm_rms_epsilon",
                "rope.freq_base",
                "rope.dimension_count",
                "attention.head_count_kv",
                "attention.key_length",
                "attention.value_length",
                "vocab_size",
            ],
            GGUF_LLAMA,
        ),
        "gpt2" => (&["attention.layer_norm_epsilon"], GGUF_GPT2),
        other => return Err(LoadError::unsupported(format!("architecture `{other}`"))),
    };
    keys.refuse_unknown(known)?;
    let n_embd = keys.count("embedding_length")?;
    let n_head = keys.count("attention.head_count")?;
    let head_dim = keys.count_or("attention.key_length", n_embd / n_head.max(1))?;
    if keys.count_or("attention.value_length", head_dim)? != head_dim {
        return Err(LoadError::unsupported("values wider than keys".to_owned()));
    }
    let is_llama = family == "llama";
    if is_llama && keys.count_or("rope.dimension_count", head_dim)? != head_dim {
        return Err(LoadError::unsupported(
            "partial rotary embedding".to_owned(),
        ));
    }
    let architecture = Architecture {
        n_layer: keys.count("block_count")?,
        n_embd,
        n_head,
        n_kv_head: keys.count_or("attention.head_count_kv", n_head)?,
        head_dim,
        n_ff: keys.count("feed_forward_length")?,
        n_vocab: header
            .tensors()
            .get("token_embd.weight")
            .and_then(|it| it.shape.get(1))
            .map_or(0, |it| *it as usize),
        n_context: keys.count("context_length")?,
        norm: if is_llama {
            NormKind::Rms(keys.float("attention.layer_norm_rms_epsilon")?)
        } else {
            NormKind::Layer(keys.float("attention.layer_norm_epsilon")?)
        },
        positions: if is_llama {
            let theta = keys.float("rope.freq_base").unwrap_or(10_000.0);
            Positions::Rope {
                frequencies: Architecture::rope_frequencies(head_dim, theta),
            }
        } else {
            Positions::Learned
        },
        mlp: if is_llama { Mlp::SwiGlu } else { Mlp::Gelu },
    };
    Ok((checked(architecture)?, layout))
}

/// Typed access to one family's metadata.
struct GgufKeys<'a> {
    header: &'a gguf::Gguf,
    family: String,
}

impl GgufKeys<'_> {
    fn refuse_unknown(&self, known: &[&str]) -> Result<(), LoadError> {
        const ALWAYS: [&str; 5] = [
            "context_length",
            "embedding_length",
            "block_count",
            "feed_forward_length",
            "attention.head_count",
        ];
        let prefix = format!("{}.", self.family);
        for key in self.header.metadata().map(|it| it.0) {
            if let Some(name) = key.strip_prefix(&prefix)
                && !ALWAYS.contains(&name)
                && !known.contains(&name)
            {
                return Err(LoadError::unsupported(format!("setting `{key}`")));
            }
        }
        Ok(())
    }

    fn count(&self, name: &str) -> Result<usize, LoadError> {
        let key = format!("{}.{name}", self.family);
        let value = self.header.get(&key).and_then(gguf::Value::as_u64);
        value
            .map(|it| it as usize)
            .ok_or(LoadError::Setting { name: key })
    }

    fn count_or(&self, name: &str, default: usize) -> Result<usize, LoadError> {
        let key = format!("{}.{name}", self.family);
        if self.header.get(&key).is_some() {
            self.count(name)
        } else {
            Ok(default)
        }
    }

    fn float(&self, name: &str) -> Result<f32, LoadError> {
        let key = format!("{}.{name}", self.family);
        let value = self.header.get(&key).and_then(gguf::Value::as_f64);
        value
            .map(|it| it as f32)
            .ok_or(LoadError::Setting { name: key })
    }
}

/// Keys of a `config.json` that say nothing about the forward pass of one text.
const NEUTRAL_KEYS: [&str; 31] = [
    "_name_or_path",
    "architectures",
    "attention_dropout",
    "attn_pdrop",
    "bos_token_id",
    "dtype",
    "embd_pdrop",
    "eos_token_id",
    "initializer_range",
    "is_llama_config",
    "keys_to_ignore_at_inference",
    "model_type",
    "n_ctx",
    "output_past",
    "pad_token_id",
    "pretraining_tp",
    "resid_pdrop",
    "rope_interleaved",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "task_specific_params",
    "torch_dtype",
    "transformers.js_config",
    "transformers_version",
    "use_cache",
    "gradient_checkpointing",
    "id2label",
    "label2id",
];

/// The record and layout of a Hugging Face checkpoint folder.
pub(crate) fn from_config(
    config: &Json,
    has_tensor: impl Fn(&str) -> bool,
) -> Result<(Architecture, Layout), LoadError> {
    let keys = ConfigKeys { config };
    match config["model_type"].as_str().unwrap_or_default() {
        "llama" => Ok((llama_config(&keys)?, HF_LLAMA)),
        "gpt2" => {
            let layout = if has_tensor("transformer.wte.weight") {
                HF_GPT2
            } else {
                HF_GPT2_BARE
            };
            Ok((gpt2_config(&keys)?, layout))
        }
        other => Err(LoadError::unsupported(format!("model_type `{other}`"))),
    }
}

fn llama_config(keys: &ConfigKeys<'_>) -> Result<Architecture, LoadError> {
    keys.refuse_unknown(&[
        "hidden_size",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "intermediate_size",
        "num_hidden_layers",
        "vocab_size",
        "max_position_embeddings",
        "rms_norm_eps",
        "rope_theta",
        "rope_parameters",
        "rope_scaling",
        "hidden_act",
        "attention_bias",
        "mlp_bias",
        "tie_word_embeddings",
    ])?;
    keys.require("hidden_act", &["silu"])?;
    for flag in ["attention_bias", "mlp_bias"] {
        if keys.config[flag].as_bool() == Some(true) {
            return Err(LoadError::unsupported(format!("`{flag}`")));
        }
    }
    if !keys.config["rope_scaling"].is_null() {
        return Err(LoadError::unsupported("`rope_scaling`".to_owned()));
    }
    // transformers 5 writes theta into `rope_parameters`, earlier ones beside it.
    let rope = &keys.config["rope_parameters"];
    if !matches!(rope["rope_type"].as_str(), None | Some("default")) {
        return Err(LoadError::unsupported(format!(
            "rope type {}",
            rope["rope_type"]
        )));
    }
    let theta = rope["rope_theta"]
        .as_f64()
        .or(keys.config["rope_theta"].as_f64());
    let n_embd = keys.count("hidden_size")?;
    let n_head = keys.count("num_attention_heads")?;
    let head_dim = keys.count_or("head_dim", n_embd / n_head.max(1))?;
    checked(Architecture {
        n_layer: keys.count("num_hidden_layers")?,
        n_embd,
        n_head,
        n_kv_head: keys.count_or("num_key_value_heads", n_head)?,
        head_dim,
        n_ff: keys.count("intermediate_size")?,
        n_vocab: keys.count("vocab_size")?,
        n_context: keys.count("max_position_embeddings")?,
        norm: NormKind::Rms(keys.float("rms_norm_eps")?),
        positions: Positions::Rope {
            frequencies: Architecture::rope_frequencies(head_dim, theta.unwrap_or(10_000.0) as f32),
        },
        mlp: Mlp::SwiGlu,
    })
}

fn gpt2_config(keys: &ConfigKeys<'_>) -> Result<Architecture, LoadError> {
    keys.refuse_unknown(&[
        "n_embd",
        "n_head",
        "n_inner",
        "n_layer",
        "n_positions",
        "vocab_size",
        "layer_norm_epsilon",
        "activation_function",
        "scale_attn_weights",
        "scale_attn_by_inverse_layer_idx",
        "reorder_and_upcast_attn",
        "add_cross_attention",
        "tie_word_embeddings",
    ])?;
    keys.require("activation_function", &["gelu_new", "gelu_pytorch_tanh"])?;
    for (flag, expected) in [
        ("scale_attn_weights", true),
        ("scale_attn_by_inverse_layer_idx", false),
        ("add_cross_attention", false),
    ] {
        if keys.config[flag].as_bool().unwrap_or(expected) != expected {
            return Err(LoadError::unsupported(format!("`{flag} = {}`", !expected)));
        }
    }
    let n_embd = keys.count("n_embd")?;
    let n_head = keys.count("n_head")?;
    checked(Architecture {
        n_layer: keys.count("n_layer")?,
        n_embd,
        n_head,
        n_kv_head: n_head,
        head_dim: n_embd / n_head.max(1),
        n_ff: keys.count_or("n_inner", 4 * n_embd)?,
        n_vocab: keys.count("vocab_size")?,
        n_context: keys.count("n_positions")?,
        norm: NormKind::Layer(keys.float("layer_norm_epsilon")?),
        positions: Positions::Learned,
        mlp: Mlp::Gelu,
    })
}

/// Typed access to a `config.json`.
struct ConfigKeys<'a> {
    config: &'a Json,
}

impl ConfigKeys<'_> {
    fn refuse_unknown(&self, known: &[&str]) -> Result<(), LoadError> {
        for key in self.config.as_object().into_iter().flat_map(|it| it.keys()) {
            if !known.contains(&key.as_str()) && !NEUTRAL_KEYS.contains(&key.as_str()) {
                return Err(LoadError::unsupported(format!(
                    "setting `{key}` of config.json"
                )));
            }
        }
        Ok(())
    }

    fn require(&self, name: &str, expected: &[&str]) -> Result<(), LoadError> {
        match self.config[name].as_str() {
            Some(value) if expected.contains(&value) => Ok(()),
            _ => Err(LoadError::unsupported(format!(
                "`{name} = {}`",
                self.config[name]
            ))),
        }
    }

    fn count(&self, name: &str) -> Result<usize, LoadError> {
        let value = self.config[name]
            .as_u64()
            .and_then(|it| usize::try_from(it).ok());
        value.ok_or_else(|| LoadError::Setting {
            name: name.to_owned(),
        })
    }

    fn count_or(&self, name: &str, default: usize) -> Result<usize, LoadError> {
        if self.config[name].is_null() {
            Ok(default)
        } else {
            self.count(name)
        }
    }

    fn float(&self, name: &str) -> Result<f32, LoadError> {
        let value = self.config[name].as_f64();
        value.map(|it| it as f32).ok_or_else(|| LoadError::Setting {
            name: name.to_owned(),
        })
    }
}

/// Refuses shapes no decoder can have, before anything is allocated for them.
fn checked(a: Architecture) -> Result<Architecture, LoadError> {
    let counts = [
        ("layers", a.n_layer, 10_000),
        ("width", a.n_embd, 1 << 20),
        ("heads", a.n_head, 1 << 16),
        ("key heads", a.n_kv_head, 1 << 16),
        ("head width", a.head_dim, 1 << 16),
        ("mlp width", a.n_ff, 1 << 22),
        ("vocabulary", a.n_vocab, 1 << 22),
        ("context", a.n_context, 1 << 28),
    ];
    for (name, value, limit) in counts {
        if value == 0 || limit < value {
            return Err(LoadError::unsupported(format!(
                "{value} as the number of {name}"
            )));
        }
    }
    if !a.n_head.is_multiple_of(a.n_kv_head) {
        let (h, g) = (a.n_head, a.n_kv_head);
        return Err(LoadError::unsupported(format!(
            "{h} heads over {g} key heads"
        )));
    }
    if matches!(a.positions, Positions::Rope { .. }) && !a.head_dim.is_multiple_of(2) {
        return Err(LoadError::unsupported(format!(
            "rotary heads of odd width {}",
            a.head_dim
        )));
    }
    Ok(a)
}
