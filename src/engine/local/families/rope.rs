//! Rotary frequencies and the ways they are scaled to longer texts.
//!
//! Computed in f32 in the order of transformers 5 (`modeling_rope_utils.py`), where
//! dividing a number by a tensor is a reciprocal and a product.

use std::f64::consts::PI;

use super::LoadError;
use crate::engine::local::architecture::Positions;

/// Widest head, in floats.
pub(super) const MAX_HEAD_DIM: usize = 1 << 16;

/// What is done to the plain frequencies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scaling {
    /// Nothing.
    None,
    /// All are divided by `factor` (Chen et al. 2023).
    Linear {
        /// How much longer texts may be.
        factor: f64,
    },
    /// Long waves are divided, short ones kept, those between smoothed (Llama 3.1).
    Llama3 {
        /// What the longest waves' frequencies are divided by.
        factor: f64,
        /// `original / low` is the wavelength, in tokens, from which on waves are long.
        low: f64,
        /// `original / high` is the wavelength, in tokens, below which waves are short.
        high: f64,
        /// Positions the model was first made for.
        original: f64,
    },
}

/// Rotary positions for heads of `head_dim`.
///
/// # Errors
///
/// The width is odd or absurd, or theta is: a frequency outside 0 to 1 would wind round
/// more than once per token, or not at all.
pub(super) fn positions(
    head_dim: usize,
    theta: f64,
    scaling: Scaling,
) -> Result<Positions, LoadError> {
    if !head_dim.is_multiple_of(2) || MAX_HEAD_DIM < head_dim {
        return Err(LoadError::unsupported(format!(
            "rotary heads of width {head_dim}"
        )));
    }
    let frequencies = frequencies(head_dim, theta as f32, scaling);
    if frequencies.iter().all(|it| 0.0 < *it && *it <= 1.0) {
        return Ok(Positions::Rope { frequencies });
    }
    Err(LoadError::unsupported(format!(
        "a rotary theta of {theta} with the scaling {scaling:?}"
    )))
}

/// Radians per position for each of the `head_dim / 2` pairs: `theta^(-2i/D)`, scaled.
fn frequencies(head_dim: usize, theta: f32, scaling: Scaling) -> Vec<f32> {
    let plain = (0..head_dim / 2).map(|i| 1.0 / theta.powf((2 * i) as f32 / head_dim as f32));
    match scaling {
        Scaling::None => plain.collect(),
        Scaling::Linear { factor } => plain.map(|it| it / factor as f32).collect(),
        Scaling::Llama3 {
            factor,
            low,
            high,
            original,
        } => plain
            .map(|it| {
                let wavelength = it.recip() * (2.0 * PI) as f32;
                if wavelength < (original / high) as f32 {
                    it
                } else if ((original / low) as f32) < wavelength {
                    it / factor as f32
                } else {
                    let smooth =
                        (wavelength.recip() * original as f32 - low as f32) / (high - low) as f32;
                    (1.0 - smooth) * it / factor as f32 + smooth * it
                }
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits of `LlamaRotaryEmbedding.inv_freq` (transformers 5.23, torch 2.15, CPU).
    #[test]
    fn frequencies_are_those_of_transformers() {
        let llama3 = |factor, original| Scaling::Llama3 {
            factor,
            low: 1.0,
            high: 4.0,
            original,
        };
        let table: [(usize, f32, Scaling, &[u32]); 3] = [
            (
                8,
                1000.0,
                Scaling::Linear { factor: 4.0 },
                &[0x3e80_0000, 0x3d36_1887, 0x3c01_86e3, 0x3ab8_449c],
            ),
            (16, 100.0, llama3(8.0, 64.0), &TINY),
            // Llama 3.2 1B.
            (64, 500_000.0, llama3(32.0, 8192.0), &LLAMA_3_2),
        ];
        for (head_dim, theta, scaling, expected) in table {
            let got: Vec<u32> = frequencies(head_dim, theta, scaling)
                .iter()
                .map(|it| it.to_bits())
                .collect();
            assert_eq!(got, expected, "{scaling:?}");
        }
    }

    const TINY: [u32; 8] = [
        0x3f80_0000,
        0x3f0f_f59a,
        0x3e7a_3ff4,
        0x3d83_b4e5,
        0x3c55_af30,
        0x3be6_55c2,
        0x3b81_86e3,
        0x3b11_ad39,
    ];

    const LLAMA_3_2: [u32; 32] = [
        0x3f80_0000,
        0x3f29_e1c6,
        0x3ee1_77bc,
        0x3e95_9ee3,
        0x3e46_93b0,
        0x3e03_c6a0,
        0x3dae_e4ad,
        0x3d68_1e67,
        0x3d1a_08c8,
        0x3ccc_6f49,
        0x3c87_a9c3,
        0x3c34_0d6d,
        0x3bee_f74f,
        0x3b9e_9402,
        0x3b52_7720,
        0x3aa9_279b,
        0x39e1_3620,
        0x38cb_98f7,
        0x37a3_418d,
        0x3758_ac81,
        0x370f_c8f8,
        0x36be_d4f4,
        0x367d_45c3,
        0x3628_126b,
        0x35df_10c4,
        0x3594_06cb,
        0x3544_7610,
        0x3502_5f34,
        0x34ad_07a7,
        0x3465_a54d,
        0x3418_64a7,
        0x33ca_41b0,
    ];
}
