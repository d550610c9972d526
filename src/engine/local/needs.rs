//! What memory the weights of a model take, and in which form they are held.
//!
//! As f32 they are multiplied as they are; as stored, a panel is decoded whenever it is
//! read, which costs time and saves memory. The scores are the same bits.

use super::LoadError;
use super::architecture::{Architecture, Mlp};
use super::describe::tensors;
use super::families::Layout;
use super::kernel::PANEL;
use super::limits::{WAVE_ROWS, work_bytes};
use super::load::{AS_F32, AS_STORED};
use super::matrix::Keep;
use super::pool::{F32_BYTES, Sizes};
use super::weights::Weights;
use crate::model;

/// Tokens of a prompt for which room is left beside f32 weights.
const ORDINARY_TOKENS: usize = 4096;

/// Bytes of the weights in both forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "a unit ends a name")]
pub(crate) struct Needs {
    pub f32_bytes: u64,
    pub stored_bytes: u64,
    /// What a wave and a prompt of ordinary length take besides.
    work_bytes: u64,
}

impl Needs {
    /// From shapes and types alone; all tensors of the layout are there, so that no product
    /// of shapes is larger than a file.
    pub(crate) fn new(a: &Architecture, layout: &Layout, weights: &Weights) -> Self {
        let embedding = format!("{}{}.weight", layout.prefix, layout.token_embedding);
        let positions = layout
            .position_embedding
            .map(|it| format!("{}{it}.weight", layout.prefix));
        // Norms, biases and positions are f32 in both forms, the embedding is as stored.
        let mut always = weights.n_bytes(&embedding);
        let mut stored = 0;
        for (name, shape) in tensors(a, layout, |name| weights.has(name)) {
            if name == embedding {
            } else if shape.len() == 2 && positions.as_ref() != Some(&name) {
                stored += weights.n_bytes(&name);
            } else {
                always += F32_BYTES.saturating_mul(shape.iter().product::<usize>() as u64);
            }
        }
        let panels = |(k, n): (usize, usize)| F32_BYTES * (k * n.next_multiple_of(PANEL)) as u64;
        let layer: u64 = matrices(a).into_iter().map(panels).sum();
        let head = panels((a.n_embd, a.n_vocab));
        let n_tokens = a.n_context.min(ORDINARY_TOKENS) as u64;
        Self {
            f32_bytes: always + layer * a.n_layer as u64 + head,
            stored_bytes: always + stored,
            work_bytes: work_bytes(a, WAVE_ROWS)
                .saturating_add(n_tokens.saturating_mul(Sizes::new(a).token_bytes())),
        }
    }

    /// The form to hold weights in, if there is room; `free_bytes` where it is known.
    ///
    /// # Errors
    ///
    /// [`LoadError::Memory`] if there is not.
    pub(crate) fn choose(
        &self,
        wanted: model::Weights,
        free_bytes: Option<u64>,
    ) -> Result<Keep, LoadError> {
        let free_bytes = free_bytes.unwrap_or(u64::MAX);
        let decoded = (Keep::Decoded, AS_F32, self.f32_bytes);
        let stored = (Keep::Stored, AS_STORED, self.stored_bytes);
        let (keep, form, needed_bytes) = match wanted {
            model::Weights::F32 => decoded,
            model::Weights::Auto
                if self.f32_bytes.saturating_add(self.work_bytes) <= free_bytes =>
            {
                decoded
            }
            model::Weights::Auto | model::Weights::Stored => stored,
        };
        if needed_bytes <= free_bytes {
            return Ok(keep);
        }
        Err(LoadError::Memory {
            form,
            needed_bytes,
            free_bytes,
        })
    }
}

/// Inputs and outputs of a layer's matrices.
fn matrices(a: &Architecture) -> Vec<(usize, usize)> {
    let q = a.n_head * a.head_dim;
    let n_up = match a.mlp {
        Mlp::Gelu => 1,
        Mlp::SwiGlu => 2,
    };
    let mut matrices = vec![
        (a.n_embd, q + 2 * a.kv_width()),
        (q, a.n_embd),
        (a.n_ff, a.n_embd),
    ];
    matrices.extend(vec![(a.n_embd, a.n_ff); n_up]);
    matrices
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDS: Needs = Needs {
        f32_bytes: 5_000_000,
        stored_bytes: 1_000_000,
        work_bytes: 500_000,
    };

    #[test]
    fn f32_is_chosen_where_it_fits() {
        let keep = |wanted, free_bytes| NEEDS.choose(wanted, free_bytes).unwrap();
        assert_eq!(keep(model::Weights::Auto, None), Keep::Decoded);
        assert_eq!(keep(model::Weights::Auto, Some(5_500_000)), Keep::Decoded);
        assert_eq!(keep(model::Weights::Auto, Some(5_499_999)), Keep::Stored);
        assert_eq!(keep(model::Weights::Stored, None), Keep::Stored);
        assert_eq!(keep(model::Weights::F32, None), Keep::Decoded);
    }

    #[test]
    fn what_fits_in_neither_form_is_refused_with_the_memory_it_needs() {
        let told = |wanted, free_bytes| {
            let err = NEEDS.choose(wanted, Some(free_bytes)).unwrap_err();
            err.to_string()
        };
        assert_eq!(
            told(model::Weights::F32, 4_999_999),
            "the model needs 5 MB of memory for its weights as f32, but 4 MB are free; \
             use `weights = \"stored\"`, a smaller model, or free memory"
        );
        assert_eq!(
            told(model::Weights::Auto, 0),
            "the model needs 1 MB of memory for its weights as stored, but 0 MB are free; \
             use a smaller model, or free memory"
        );
    }
}
