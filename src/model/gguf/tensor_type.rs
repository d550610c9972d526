//! The tensor types of the ggml format: how many weights one block holds, in how many bytes.
//!
//! Block sizes are those of ggml's `ggml-common.h` (llama.cpp, 2026). Types that
//! exist there but are not decoded here are still known by name, so that a refusal
//! can say which one it met.

/// A tensor type that the engine can decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TensorType {
    /// 32-bit floats.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    Bf16,
    /// 4 bits, a scale per 32 weights.
    Q4_0,
    /// 4 bits, a scale and a minimum per 32 weights.
    Q4_1,
    /// 5 bits, a scale per 32 weights.
    Q5_0,
    /// 5 bits, a scale and a minimum per 32 weights.
    Q5_1,
    /// 8 bits, a scale per 32 weights.
    Q8_0,
    /// 2 bits in super-blocks of 256 weights.
    Q2K,
    /// 3 bits in super-blocks of 256 weights.
    Q3K,
    /// 4 bits in super-blocks of 256 weights.
    Q4K,
    /// 5 bits in super-blocks of 256 weights.
    Q5K,
    /// 6 bits in super-blocks of 256 weights.
    Q6K,
}

impl TensorType {
    /// The type with ggml's number `id`, or the name of a type that is not supported.
    ///
    /// # Errors
    ///
    /// The name ggml gives to `id`, or `"unknown"`.
    pub fn from_id(id: u32) -> Result<Self, &'static str> {
        Ok(match id {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            10 => Self::Q2K,
            11 => Self::Q3K,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            30 => Self::Bf16,
            _ => return Err(unsupported_name(id)),
        })
    }

    /// ggml's number of this type, as it stands in the file.
    pub fn id(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q5_0 => 6,
            Self::Q5_1 => 7,
            Self::Q8_0 => 8,
            Self::Q2K => 10,
            Self::Q3K => 11,
            Self::Q4K => 12,
            Self::Q5K => 13,
            Self::Q6K => 14,
            Self::Bf16 => 30,
        }
    }

    /// ggml's name of this type, e.g. `Q4_1`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q2K => "Q2_K",
            Self::Q3K => "Q3_K",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        }
    }

    /// How many weights one block holds.
    pub fn block_len(self) -> u64 {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// How many bytes one block takes.
    pub fn block_bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 => 2 + 16,
            Self::Q4_1 => 2 + 2 + 16,
            Self::Q5_0 => 2 + 4 + 16,
            Self::Q5_1 => 2 + 2 + 4 + 16,
            Self::Q8_0 => 2 + 32,
            Self::Q2K => 16 + 64 + 2 + 2,
            Self::Q3K => 32 + 64 + 12 + 2,
            Self::Q4K => 2 + 2 + 12 + 128,
            Self::Q5K => 2 + 2 + 12 + 32 + 128,
            Self::Q6K => 128 + 64 + 16 + 2,
        }
    }
}

/// ggml's name of a type that cannot be decoded here.
fn unsupported_name(id: u32) -> &'static str {
    match id {
        4 => "Q4_2",
        5 => "Q4_3",
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        31 => "Q4_0_4_4",
        32 => "Q4_0_4_8",
        33 => "Q4_0_8_8",
        34 => "TQ1_0",
        35 => "TQ2_0",
        36 => "IQ4_NL_4_4",
        37 => "IQ4_NL_4_8",
        38 => "IQ4_NL_8_8",
        39 => "MXFP4",
        40 => "NVFP4",
        41 => "Q1_0",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_types_map_both_ways() {
        let known: Vec<u32> = (0..64)
            .filter(|id| TensorType::from_id(*id).is_ok())
            .collect();
        assert_eq!(known, [0, 1, 2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 30]);
        for id in known {
            assert_eq!(TensorType::from_id(id).unwrap().id(), id);
        }
        assert_eq!(TensorType::from_id(19), Err("IQ1_S"));
        assert_eq!(TensorType::from_id(4_000), Err("unknown"));
    }

    /// The sizes that ggml's own table (`type_traits`) lists.
    #[test]
    fn blocks_have_the_sizes_of_ggml() {
        let sizes = [
            (TensorType::Q4_0, 18),
            (TensorType::Q4_1, 20),
            (TensorType::Q5_0, 22),
            (TensorType::Q5_1, 24),
            (TensorType::Q8_0, 34),
            (TensorType::Q2K, 84),
            (TensorType::Q3K, 110),
            (TensorType::Q4K, 144),
            (TensorType::Q5K, 176),
            (TensorType::Q6K, 210),
        ];
        for (it, bytes) in sizes {
            assert_eq!(it.block_bytes(), bytes, "{}", it.name());
        }
    }
}
