//! Reads the settings of a GGUF file; names and defaults are llama.cpp's
//! (`llama-arch.cpp`, `llama-model.cpp`).
//!
//! [`Metadata`] remembers which keys were read. Whatever is left must be a note
//! ([`super::notes`]), or the file is refused by the key's name.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::layout::{GGUF_GPT2, GGUF_LLAMA, GGUF_QWEN2, GGUF_QWEN3};
use super::rope::{self, Scaling};
use super::{Bias, Layout, LoadError, checked, head_dim, notes};
use crate::engine::local::architecture::{Architecture, Mlp, NormKind, Positions};
use crate::model::gguf::{Gguf, Value};

/// The record and layout of a GGUF file.
pub(crate) fn from_gguf(header: &Gguf) -> Result<(Architecture, Layout), LoadError> {
    let keys = Metadata::new(header);
    keys.refuse_parts()?;
    let layout = match keys.family.as_str() {
        "llama" => Layout {
            qkv_bias: has_bias(header, &["attn_q", "attn_k", "attn_v"]),
            output_bias: has_bias(header, &["attn_output"]),
            mlp_bias: has_bias(header, &["ffn_gate", "ffn_up", "ffn_down"]),
            ..GGUF_LLAMA
        },
        "qwen2" => GGUF_QWEN2,
        "qwen3" => GGUF_QWEN3,
        "gpt2" => GGUF_GPT2,
        other => return Err(LoadError::unsupported(format!("architecture `{other}`"))),
    };
    let n_embd = keys.count("embedding_length")?;
    let n_head = keys.count("attention.head_count")?;
    let head_dim = keys.head_dim(n_embd, n_head)?;
    let n_context = keys.count("context_length")?;
    let is_rotary = layout.position_embedding.is_none();
    let architecture = Architecture {
        n_layer: keys.count("block_count")?,
        n_embd,
        n_head,
        n_kv_head: keys
            .optional_count("attention.head_count_kv")?
            .unwrap_or(n_head),
        head_dim,
        n_ff: keys.count("feed_forward_length")?,
        n_vocab: keys.n_vocab()?,
        n_context,
        norm: if is_rotary {
            NormKind::Rms(keys.float("attention.layer_norm_rms_epsilon")?)
        } else {
            NormKind::Layer(keys.float("attention.layer_norm_epsilon")?)
        },
        positions: if is_rotary {
            keys.refuse_other_attention(n_context)?;
            keys.rope(head_dim)?
        } else {
            Positions::Learned
        },
        mlp: if is_rotary { Mlp::SwiGlu } else { Mlp::Gelu },
    };
    keys.refuse_unread()?;
    Ok((checked(architecture)?, layout))
}

/// Whether any layer has a bias of one of `parts`; then each of them must.
fn has_bias(header: &Gguf, parts: &[&str]) -> Bias {
    let is_bias = |name: &String| {
        let rest = name.strip_prefix("blk.").and_then(|it| it.split_once('.'));
        let part = rest.and_then(|(_, it)| it.strip_suffix(".bias"));
        part.is_some_and(|it| parts.contains(&it))
    };
    Bias::from(header.tensors().keys().any(is_bias))
}

/// A file's metadata, which remembers what was read of it.
struct Metadata<'a> {
    header: &'a Gguf,
    family: String,
    read: RefCell<BTreeSet<String>>,
}

impl<'a> Metadata<'a> {
    fn new(header: &'a Gguf) -> Self {
        let family = header.text("general.architecture").unwrap_or_default();
        Self {
            header,
            family: family.to_owned(),
            // The header's parser has applied the alignment.
            read: RefCell::new(
                ["general.architecture", "general.alignment"]
                    .map(str::to_owned)
                    .into(),
            ),
        }
    }

    /// The key of the family's setting `name`.
    fn full(&self, name: &str) -> String {
        format!("{}.{name}", self.family)
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.read.borrow_mut().insert(key.to_owned());
        self.header.get(key)
    }

    fn optional<T>(
        &self,
        key: &str,
        expected: &'static str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, LoadError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        read(value).map(Some).ok_or_else(|| LoadError::Setting {
            name: key.to_owned(),
            expected,
        })
    }

    fn optional_count(&self, name: &str) -> Result<Option<usize>, LoadError> {
        self.optional(&self.full(name), "a count", |it| {
            it.as_u64().and_then(|it| usize::try_from(it).ok())
        })
    }

    fn count(&self, name: &str) -> Result<usize, LoadError> {
        self.optional_count(name)?
            .ok_or_else(|| LoadError::Setting {
                name: self.full(name),
                expected: "a count",
            })
    }

    fn optional_float(&self, name: &str) -> Result<Option<f64>, LoadError> {
        self.optional(&self.full(name), "a number", |it| {
            it.as_f64().filter(|it| it.is_finite())
        })
    }

    fn float(&self, name: &str) -> Result<f32, LoadError> {
        let value = self.optional_float(name)?;
        value.map(|it| it as f32).ok_or_else(|| LoadError::Setting {
            name: self.full(name),
            expected: "a number",
        })
    }

    /// The width of a head's keys, which must be that of its values.
    fn head_dim(&self, n_embd: usize, n_head: usize) -> Result<usize, LoadError> {
        let width = |name: &str| match self.optional_count(name)? {
            Some(it) => Ok(it),
            None => head_dim(n_embd, n_head),
        };
        let (of_keys, of_values) = ("attention.key_length", "attention.value_length");
        let (keys, values) = (width(of_keys)?, width(of_values)?);
        if keys == values {
            return Ok(keys);
        }
        Err(LoadError::unsupported(format!(
            "a `{}` of {keys} with a `{}` of {values}",
            self.full(of_keys),
            self.full(of_values)
        )))
    }

    /// Rows of the embedding, which `vocab_size` may only repeat.
    fn n_vocab(&self) -> Result<usize, LoadError> {
        let tensor = self.header.tensors().get("token_embd.weight");
        let n_rows = tensor
            .and_then(|it| it.shape.get(1))
            .and_then(|it| usize::try_from(*it).ok())
            .ok_or_else(|| LoadError::MissingTensor {
                name: "token_embd.weight".to_owned(),
            })?;
        match self.optional_count("vocab_size")? {
            Some(n) if n != n_rows => Err(LoadError::Contradiction {
                what: format!(
                    "`{}` is {n}, but its embedding has {n_rows} rows",
                    self.full("vocab_size")
                ),
            }),
            _ => Ok(n_rows),
        }
    }

    /// Refuses what is no whole model: an adapter, a projector, a part of a file.
    fn refuse_parts(&self) -> Result<(), LoadError> {
        let kind = self.optional("general.type", "a text", Value::as_text)?;
        if let Some(kind) = kind.filter(|it| *it != "model") {
            return Err(LoadError::unsupported(format!(
                "`general.type = {kind}`; a file of type `model` is needed"
            )));
        }
        let version = self.optional("general.quantization_version", "a count", Value::as_u64)?;
        if let Some(version) = version.filter(|it| *it != 2) {
            return Err(LoadError::unsupported(format!(
                "`general.quantization_version = {version}`"
            )));
        }
        let number = self.optional("split.no", "a count", Value::as_u64)?;
        let count = self.optional("split.count", "a count", Value::as_u64)?;
        self.optional("split.tensors.count", "a count", Value::as_u64)?;
        if 1 < count.unwrap_or(0) || 0 < number.unwrap_or(0) {
            return Err(LoadError::unsupported(format!(
                "one of {} files (`split.count`) as if it were whole; \
                 join them with `llama-gguf-split --merge`",
                count.unwrap_or(2)
            )));
        }
        Ok(())
    }

    /// Accepts settings of attention that restate what is computed, and nothing else.
    fn refuse_other_attention(&self, n_context: usize) -> Result<(), LoadError> {
        let refuse = |name: &str, value: &dyn std::fmt::Display| {
            Err(LoadError::unsupported(format!(
                "`{} = {value}`",
                self.full(name)
            )))
        };
        for name in ["expert_count", "expert_used_count"] {
            if let Some(n @ 1..) = self.optional_count(name)? {
                return refuse(name, &n);
            }
        }
        let name = "attention.sliding_window";
        if let Some(window) = self.optional_count(name)?.filter(|it| *it < n_context) {
            return refuse(name, &window);
        }
        let name = "attention.causal";
        if let Some(false) = self.optional(&self.full(name), "a bool", Value::as_bool)? {
            return refuse(name, &false);
        }
        if self.family == "qwen2" {
            // The first converters copied it from a family that has one; no Qwen2 does.
            let key = self.full("use_parallel_residual");
            self.optional(&key, "a bool", Value::as_bool)?;
        }
        // The order of rows that llama.cpp's first converters had; it is still the same.
        let name = "tensor_data_layout";
        match self.optional(&self.full(name), "a text", Value::as_text)? {
            None => Ok(()),
            Some("Meta AI original pth") if self.family == "llama" => Ok(()),
            Some(other) => refuse(name, &other),
        }
    }

    fn rope(&self, head_dim: usize) -> Result<Positions, LoadError> {
        let name = "rope.dimension_count";
        if let Some(n) = self.optional_count(name)?.filter(|it| *it != head_dim) {
            return Err(LoadError::unsupported(format!(
                "`{} = {n}` for heads of width {head_dim}",
                self.full(name)
            )));
        }
        // llama.cpp takes 10000 where the key is absent, which few models mean.
        let theta = self.float("rope.freq_base")?;
        rope::positions(head_dim, f64::from(theta), self.rope_scaling()?)
    }

    fn rope_scaling(&self) -> Result<Scaling, LoadError> {
        // These two only matter to scalings that are refused.
        self.optional_count("rope.scaling.original_context_length")?;
        let finetuned = self.full("rope.scaling.finetuned");
        self.optional(&finetuned, "a bool", Value::as_bool)?;
        let name = "rope.scaling.attn_factor";
        if let Some(it) = self.optional_float(name)?.filter(|it| *it != 1.0) {
            let key = self.full(name);
            return Err(LoadError::unsupported(format!("`{key} = {it}`")));
        }
        let factor = self.optional_float("rope.scaling.factor")?;
        let older = self.optional_float("rope.scale_linear")?;
        if let (Some(a), Some(b)) = (factor, older)
            && a != b
        {
            return Err(LoadError::Contradiction {
                what: format!(
                    "`{}` is {a}, but `{}` is {b}",
                    self.full("rope.scaling.factor"),
                    self.full("rope.scale_linear")
                ),
            });
        }
        let key = self.full("rope.scaling.type");
        let kind = self.optional(&key, "a text", Value::as_text)?;
        let factor = factor.or(older);
        match (kind, factor) {
            // Without a type, a factor means the linear one.
            (Some("linear") | None, Some(factor)) if 0.0 < factor => Ok(Scaling::Linear { factor }),
            (Some("none") | None, None) | (Some("none"), Some(1.0)) => Ok(Scaling::None),
            (Some("linear"), None) => Err(LoadError::Setting {
                name: self.full("rope.scaling.factor"),
                expected: "a number",
            }),
            (Some("linear" | "none") | None, Some(factor)) => Err(LoadError::unsupported(format!(
                "`{} = {factor}` with the type `{}`",
                self.full("rope.scaling.factor"),
                kind.unwrap_or("linear")
            ))),
            (Some(other), _) => Err(LoadError::unsupported(format!("`{key} = {other}`"))),
        }
    }

    /// Refuses a key that nothing read, unless it is a note or the tokenizer's.
    fn refuse_unread(&self) -> Result<(), LoadError> {
        let read = self.read.borrow();
        for key in self.header.metadata().map(|it| it.0) {
            if !read.contains(key)
                && !notes::is_gguf_note(key)
                && !notes::is_gguf_tokenizer_key(key)
            {
                return Err(LoadError::unsupported(format!("setting `{key}`")));
            }
        }
        Ok(())
    }
}
