//! Reads the settings of a checkpoint folder's `config.json`; names and defaults are
//! those of transformers 5, which also reads the keys of its earlier versions.
//!
//! [`Config`] remembers which keys were read. Whatever is left must be a note
//! ([`super::notes`]) or null, or the model is refused by the key's name.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::layout::{HF_GPT2, HF_GPT2_BARE, HF_LLAMA, HF_QWEN2, HF_QWEN3};
use super::notes::is_config_note;
use super::rope::{self, Scaling};
use super::{Bias, Head, Layout, LoadError, checked, head_dim};
use crate::engine::local::architecture::{Architecture, Mlp, NormKind, Positions};

/// The record and layout of a checkpoint folder.
pub(crate) fn from_config(
    config: &Value,
    has_tensor: impl Fn(&str) -> bool,
) -> Result<(Architecture, Layout), LoadError> {
    let config = Config::new(config);
    let family = config.config["model_type"].as_str().unwrap_or_default();
    let (architecture, layout) = match family {
        "llama" => config.llama()?,
        "mistral" => config.mistral()?,
        "qwen2" => config.qwen2()?,
        "qwen3" => config.qwen3()?,
        "gpt2" if has_tensor("transformer.wte.weight") => config.gpt2(&HF_GPT2)?,
        "gpt2" => config.gpt2(&HF_GPT2_BARE)?,
        other => return Err(LoadError::unsupported(format!("model_type `{other}`"))),
    };
    config.refuse_unread()?;
    Ok((checked(architecture)?, layout))
}

/// Whether `num_key_value_heads` may be absent.
enum KvHeads {
    /// Then every query head has its own.
    Optional,
    /// Then transformers takes a number of its own, which fits few models; `null` means
    /// one per query head.
    Required,
}

/// A `config.json`, which remembers what was read of it.
struct Config<'a> {
    config: &'a Value,
    read: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Config<'a> {
    fn new(config: &'a Value) -> Self {
        Self {
            config,
            read: RefCell::default(),
        }
    }

    /// The value of `name`, also where it is null.
    fn get(&self, name: &'static str) -> Option<&'a Value> {
        self.read.borrow_mut().insert(name);
        self.config.get(name)
    }

    fn optional_count(&self, name: &'static str) -> Result<Option<usize>, LoadError> {
        match self.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => as_count(value)
                .map(Some)
                .ok_or_else(|| wrong(name, "a count")),
        }
    }

    fn count(&self, name: &'static str) -> Result<usize, LoadError> {
        self.optional_count(name)?
            .ok_or_else(|| wrong(name, "a count"))
    }

    fn float(&self, name: &'static str) -> Result<f32, LoadError> {
        self.get(name)
            .and_then(Value::as_f64)
            .map(|it| it as f32)
            .ok_or_else(|| wrong(name, "a number"))
    }

    /// A truth value, `default` where the key is absent.
    fn flag(&self, name: &'static str, default: bool) -> Result<bool, LoadError> {
        self.get(name).map_or(Ok(default), |value| {
            value.as_bool().ok_or_else(|| wrong(name, "true or false"))
        })
    }

    /// Refuses a truth value other than the one that is computed, which is the default.
    fn must_be(&self, name: &'static str, computed: bool) -> Result<(), LoadError> {
        if self.flag(name, computed)? == computed {
            return Ok(());
        }
        Err(LoadError::unsupported(format!("`{name} = {}`", !computed)))
    }

    fn must_be_one_of(&self, name: &'static str, names: &[&str]) -> Result<(), LoadError> {
        match self.get(name).map(|it| (it, it.as_str())) {
            None => Err(wrong(name, "a text")),
            Some((_, Some(text))) if names.contains(&text) => Ok(()),
            Some((value, _)) => Err(LoadError::unsupported(format!("`{name} = {value}`"))),
        }
    }

    fn head(&self, default: bool) -> Result<Head, LoadError> {
        let is_tied = self.flag("tie_word_embeddings", default)?;
        Ok(if is_tied { Head::Tied } else { Head::Own })
    }

    fn head_dim(&self) -> Result<usize, LoadError> {
        match self.optional_count("head_dim")? {
            Some(it) => Ok(it),
            None => head_dim(
                self.count("hidden_size")?,
                self.count("num_attention_heads")?,
            ),
        }
    }

    fn llama(&self) -> Result<(Architecture, Layout), LoadError> {
        let attention = Bias::from(self.flag("attention_bias", false)?);
        let layout = Layout {
            head: self.head(false)?,
            qkv_bias: attention,
            output_bias: attention,
            mlp_bias: Bias::from(self.flag("mlp_bias", false)?),
            ..HF_LLAMA
        };
        Ok((self.rotary(self.head_dim()?, KvHeads::Optional)?, layout))
    }

    fn mistral(&self) -> Result<(Architecture, Layout), LoadError> {
        let layout = Layout {
            head: self.head(false)?,
            ..HF_LLAMA
        };
        self.must_be("attention_bias", false)?;
        self.must_be("mlp_bias", false)?;
        let architecture = self.rotary(self.head_dim()?, KvHeads::Required)?;
        self.refuse_window(architecture.n_context)?;
        Ok((architecture, layout))
    }

    fn qwen2(&self) -> Result<(Architecture, Layout), LoadError> {
        let layout = Layout {
            head: self.head(false)?,
            ..HF_QWEN2
        };
        let architecture = self.rotary(self.head_dim()?, KvHeads::Required)?;
        self.refuse_windowed_layers(architecture.n_layer)?;
        Ok((architecture, layout))
    }

    fn qwen3(&self) -> Result<(Architecture, Layout), LoadError> {
        let layout = Layout {
            head: self.head(false)?,
            ..HF_QWEN3
        };
        self.must_be("attention_bias", false)?;
        // Where the key is absent transformers takes 128, not a share of the width.
        let head_dim = self.count("head_dim")?;
        let architecture = self.rotary(head_dim, KvHeads::Required)?;
        self.refuse_windowed_layers(architecture.n_layer)?;
        Ok((architecture, layout))
    }

    /// What Llama and the families that share its blocks have.
    fn rotary(&self, head_dim: usize, kv_heads: KvHeads) -> Result<Architecture, LoadError> {
        self.must_be_one_of("hidden_act", &["silu"])?;
        for name in ["is_encoder_decoder", "rope_interleaved", "use_mrope"] {
            self.must_be(name, false)?;
        }
        let n_head = self.count("num_attention_heads")?;
        let n_kv_head = match (kv_heads, self.get("num_key_value_heads")) {
            (KvHeads::Required, None) => return Err(wrong("num_key_value_heads", "a count")),
            _ => self.optional_count("num_key_value_heads")?,
        };
        let n_context = self.count("max_position_embeddings")?;
        let (theta, scaling) = self.rope(n_context)?;
        Ok(Architecture {
            n_layer: self.count("num_hidden_layers")?,
            n_embd: self.count("hidden_size")?,
            n_head,
            n_kv_head: n_kv_head.unwrap_or(n_head),
            head_dim,
            n_ff: self.count("intermediate_size")?,
            n_vocab: self.count("vocab_size")?,
            n_context,
            norm: NormKind::Rms(self.float("rms_norm_eps")?),
            positions: rope::positions(head_dim, theta, scaling)?,
            mlp: Mlp::SwiGlu,
        })
    }

    fn gpt2(&self, layout: &Layout) -> Result<(Architecture, Layout), LoadError> {
        let layout = Layout {
            head: self.head(true)?,
            ..*layout
        };
        self.must_be_one_of("activation_function", &["gelu_new", "gelu_pytorch_tanh"])?;
        self.must_be("is_encoder_decoder", false)?;
        self.must_be("scale_attn_weights", true)?;
        self.must_be("scale_attn_by_inverse_layer_idx", false)?;
        self.must_be("add_cross_attention", false)?;
        let n_embd = self.count("n_embd")?;
        let n_head = self.count("n_head")?;
        let architecture = Architecture {
            n_layer: self.count("n_layer")?,
            n_embd,
            n_head,
            n_kv_head: n_head,
            head_dim: head_dim(n_embd, n_head)?,
            n_ff: match self.optional_count("n_inner")? {
                Some(it) => it,
                None => n_embd
                    .checked_mul(4)
                    .ok_or_else(|| wrong("n_embd", "a count that a machine can hold"))?,
            },
            n_vocab: self.count("vocab_size")?,
            n_context: self.count("n_positions")?,
            norm: NormKind::Layer(self.float("layer_norm_epsilon")?),
            positions: Positions::Learned,
            mlp: Mlp::Gelu,
        };
        Ok((architecture, layout))
    }

    /// Refuses Mistral's window where it is shorter than the context.
    fn refuse_window(&self, n_context: usize) -> Result<(), LoadError> {
        let window = match self.get("sliding_window") {
            None => Some(4096), // As `MistralConfig` where the key is absent.
            Some(_) => self.optional_count("sliding_window")?,
        };
        match window.filter(|it| *it < n_context) {
            None => Ok(()),
            Some(window) => Err(LoadError::unsupported(format!(
                "`sliding_window = {window}` in a context of {n_context} tokens"
            ))),
        }
    }

    /// Refuses Qwen's windows, which some layers may have.
    fn refuse_windowed_layers(&self, n_layer: usize) -> Result<(), LoadError> {
        self.must_be("use_sliding_window", false)?;
        // Without the flag these two decide nothing.
        self.get("sliding_window");
        self.get("max_window_layers");
        let Some(value) = self.get("layer_types").filter(|it| !it.is_null()) else {
            return Ok(());
        };
        let kinds = value
            .as_array()
            .ok_or_else(|| wrong("layer_types", "a list"))?;
        if let Some(other) = kinds.iter().find(|it| *it != "full_attention") {
            return Err(LoadError::unsupported(format!(
                "{other} among its `layer_types`"
            )));
        }
        if kinds.len() == n_layer {
            return Ok(());
        }
        Err(LoadError::Contradiction {
            what: format!("it has {n_layer} layers, but {} `layer_types`", kinds.len()),
        })
    }

    /// Theta and scaling: `rope_parameters`, or `rope_theta` and `rope_scaling` as
    /// versions before 5 wrote them.
    fn rope(&self, n_context: usize) -> Result<(f64, Scaling), LoadError> {
        let older = self.get("rope_scaling").filter(|it| !it.is_null());
        let newer = self.get("rope_parameters").filter(|it| !it.is_null());
        if older.is_some() && newer.is_some() {
            return Err(LoadError::unsupported(
                "`rope_scaling` beside `rope_parameters`".to_owned(),
            ));
        }
        let beside = self
            .get("rope_theta")
            .filter(|it| !it.is_null())
            .map(|it| it.as_f64().ok_or_else(|| wrong("rope_theta", "a number")))
            .transpose()?;
        let name = if older.is_some() {
            "rope_scaling"
        } else {
            "rope_parameters"
        };
        let empty = Map::new();
        let entries = match older.or(newer) {
            None => &empty,
            Some(value) => value.as_object().ok_or_else(|| wrong(name, "an object"))?,
        };
        let rope = RopeEntries { name, entries };
        let theta = match (rope.float("rope_theta")?, beside) {
            (Some(a), Some(b)) if a != b => {
                return Err(LoadError::Contradiction {
                    what: format!("`rope_theta` is {b}, but {a} in `{name}`"),
                });
            }
            // Where nothing is said, `RotaryEmbeddingConfigMixin.default_theta`.
            (a, b) => a.or(b).unwrap_or(10_000.0),
        };
        Ok((theta, rope.scaling(n_context)?))
    }

    /// Refuses a key that nothing read, unless it is a note or null.
    fn refuse_unread(&self) -> Result<(), LoadError> {
        let read = self.read.borrow();
        for (key, value) in self.config.as_object().into_iter().flatten() {
            if !read.contains(key.as_str()) && !is_config_note(key) && !value.is_null() {
                return Err(LoadError::unsupported(format!(
                    "setting `{key}` of config.json"
                )));
            }
        }
        Ok(())
    }
}

/// What stands inside `rope_parameters` or `rope_scaling`.
struct RopeEntries<'a> {
    name: &'static str,
    entries: &'a Map<String, Value>,
}

impl RopeEntries<'_> {
    fn float(&self, key: &str) -> Result<Option<f64>, LoadError> {
        match self.entries.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value
                .as_f64()
                .map(Some)
                .ok_or_else(|| wrong(&format!("{}.{key}", self.name), "a number")),
        }
    }

    fn positive(&self, key: &str) -> Result<f64, LoadError> {
        self.float(key)?
            .filter(|it| 0.0 < *it)
            .ok_or_else(|| wrong(&format!("{}.{key}", self.name), "a positive number"))
    }

    fn kind(&self) -> Result<&str, LoadError> {
        let text = |key: &str| match self.entries.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value
                .as_str()
                .map(Some)
                .ok_or_else(|| wrong(&format!("{}.{key}", self.name), "a text")),
        };
        match (text("rope_type")?, text("type")?) {
            (Some(a), Some(b)) if a != b => Err(LoadError::Contradiction {
                what: format!("`{}.rope_type` is {a}, but `type` is {b}", self.name),
            }),
            (a, b) => Ok(a.or(b).unwrap_or("default")),
        }
    }

    fn scaling(&self, n_context: usize) -> Result<Scaling, LoadError> {
        let kind = self.kind()?;
        let (scaling, known): (Scaling, &[&str]) = match kind {
            "default" => (Scaling::None, &[]),
            "linear" => {
                let factor = self.positive("factor")?;
                (Scaling::Linear { factor }, &["factor"])
            }
            "llama3" => (self.llama3(n_context)?, &LLAMA3_KEYS),
            other => {
                return Err(LoadError::unsupported(format!(
                    "the rope type `{other}` in `{}`",
                    self.name
                )));
            }
        };
        for (key, value) in self.entries {
            let is_known = match key.as_str() {
                // The last decides nothing for the two types that do not read it.
                "rope_type" | "type" | "rope_theta" | "original_max_position_embeddings" => true,
                "partial_rotary_factor" | "factor" if value.as_f64() == Some(1.0) => true,
                key => known.contains(&key) || value.is_null(),
            };
            if !is_known {
                return Err(LoadError::unsupported(format!(
                    "`{}.{key}` with the rope type `{kind}`",
                    self.name
                )));
            }
        }
        Ok(scaling)
    }

    fn llama3(&self, n_context: usize) -> Result<Scaling, LoadError> {
        let [low, high] = [
            self.positive("low_freq_factor")?,
            self.positive("high_freq_factor")?,
        ];
        if high <= low {
            return Err(LoadError::Contradiction {
                what: format!("`high_freq_factor` is {high}, not above `low_freq_factor`, {low}"),
            });
        }
        let key = "original_max_position_embeddings";
        Ok(Scaling::Llama3 {
            factor: self.positive("factor")?,
            low,
            high,
            original: match self.float(key)? {
                None => n_context as f64,
                Some(_) => self.positive(key)?,
            },
        })
    }
}

const LLAMA3_KEYS: [&str; 3] = ["factor", "low_freq_factor", "high_freq_factor"];

fn wrong(name: &str, expected: &'static str) -> LoadError {
    LoadError::Setting {
        name: name.to_owned(),
        expected,
    }
}

fn as_count(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|it| usize::try_from(it).ok())
}
