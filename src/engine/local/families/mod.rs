//! Tensor names and settings of each family, mapped onto the one decoder.
//!
//! [`from_gguf`] reads a GGUF's metadata, [`from_config`] a `config.json`; both fill
//! one [`Architecture`] and say in a [`Layout`] where the tensors stand. Every
//! setting is understood or the model is refused by that setting's name: a rope
//! scaling that is not applied, or an activation that is not the one computed, would
//! load without complaint and score wrong. What a setting means follows llama.cpp
//! for GGUF and transformers 5 for `config.json`, defaults included.

mod config;
#[cfg(test)]
mod config_mutations;
mod gguf;
#[cfg(test)]
mod gguf_mutations;
mod layout;
#[cfg(test)]
mod mutations;
mod notes;
mod rope;
#[cfg(test)]
mod tensor_mutations;

pub(crate) use config::from_config;
pub(crate) use gguf::from_gguf;
pub(crate) use layout::{Bias, Head, Layout, Qkv};

use super::LoadError;
use super::architecture::{Architecture, NormKind};

/// Refuses shapes no decoder can have, before anything is allocated for them.
fn checked(a: Architecture) -> Result<Architecture, LoadError> {
    // Products of two of these stay far below 2^64.
    let counts = [
        ("layers", a.n_layer, 10_000),
        ("width", a.n_embd, 1 << 20),
        ("heads", a.n_head, 1 << 16),
        ("key heads", a.n_kv_head, 1 << 16),
        ("head width", a.head_dim, rope::MAX_HEAD_DIM),
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
    let (NormKind::Rms(epsilon) | NormKind::Layer(epsilon)) = a.norm;
    if !(0.0..1.0).contains(&epsilon) {
        return Err(LoadError::unsupported(format!(
            "{epsilon} as the epsilon of its norms"
        )));
    }
    Ok(a)
}

/// The width of a head where the settings only give that of the residual stream.
fn head_dim(n_embd: usize, n_head: usize) -> Result<usize, LoadError> {
    if n_head == 0 || !n_embd.is_multiple_of(n_head) {
        return Err(LoadError::unsupported(format!(
            "a width of {n_embd} over {n_head} heads"
        )));
    }
    Ok(n_embd / n_head)
}
