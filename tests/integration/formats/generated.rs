//! Llamas of width 256 whose weights are drawn from a seed, in any GGUF type.
//!
//! The mirror of `Stream` and `matrix` in `tests/fixtures/models/make_types.py`: a
//! checkpoint of width 256, the least that the K types allow, is too large to keep
//! thirteen times.

use harness::model::gguf::TensorType;

/// Name, rows and columns of every tensor, in the order of the file; a vector has no columns.
const TENSORS: [(&str, usize, Option<usize>); 12] = [
    ("token_embd", 64, Some(256)),
    ("attn_norm", 256, None),
    ("attn_q", 256, Some(256)),
    ("attn_k", 128, Some(256)),
    ("attn_v", 128, Some(256)),
    ("attn_output", 256, Some(256)),
    ("ffn_norm", 256, None),
    ("ffn_gate", 256, Some(256)),
    ("ffn_up", 256, Some(256)),
    ("ffn_down", 256, Some(256)),
    ("output_norm", 256, None),
    ("output", 64, Some(256)),
];

/// One tensor of a file to write.
pub(super) struct Tensor {
    /// As in [`TENSORS`].
    pub(super) name: &'static str,
    /// Contiguous dimension first.
    shape: Vec<u64>,
    pub(super) kind: TensorType,
    pub(super) bytes: Vec<u8>,
}

impl Tensor {
    /// The name in the file.
    pub(super) fn full_name(&self) -> String {
        if self.name.starts_with("attn") || self.name.starts_with("ffn") {
            format!("blk.0.{}.weight", self.name)
        } else {
            format!("{}.weight", self.name)
        }
    }

    /// Puts the half float `bits` where the last block keeps its scale or its minimum.
    ///
    /// In the types without blocks the last weight itself becomes that number.
    pub(super) fn poison(&mut self, part: Part, bits: u16) {
        let last = self.bytes.len() - self.kind.block_bytes() as usize;
        let at = match (self.kind, part) {
            (TensorType::F32, _) => {
                // The same special number in the wider type: f32 has eight exponent bits.
                let wide = f32::from_bits(
                    u32::from(bits & 0x8000) << 16 | 0x7f80_0000 | u32::from(bits & 0x3ff) << 13,
                );
                self.bytes[last..].copy_from_slice(&wide.to_le_bytes());
                return;
            }
            (TensorType::Bf16, _) => {
                let special = bits & 0x8000 | 0x7f80 | (bits & 0x3ff) >> 3;
                self.bytes[last..].copy_from_slice(&special.to_le_bytes());
                return;
            }
            (TensorType::F16, _) => 0,
            (kind, Part::Scale) => scales(kind).0,
            (kind, Part::Minimum) => scales(kind).1.expect("a type with minima"),
        };
        self.bytes[last + at..last + at + 2].copy_from_slice(&bits.to_le_bytes());
    }
}

/// What of a block is poisoned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Scale,
    Minimum,
}

/// Where a block keeps its scale, and its minimum if it has one.
pub(super) fn scales(kind: TensorType) -> (usize, Option<usize>) {
    match kind {
        TensorType::Q4_1 | TensorType::Q5_1 | TensorType::Q4K | TensorType::Q5K => (0, Some(2)),
        TensorType::Q2K => (80, Some(82)),
        TensorType::Q3K => (108, None),
        TensorType::Q6K => (208, None),
        _ => (0, None),
    }
}

/// Biased exponents of scale and minimum that give weights of about 0.05.
fn exponents(kind: TensorType) -> (u16, u16) {
    match kind {
        TensorType::Q4_0 => (8, 0),
        TensorType::Q4_1 => (8, 11),
        TensorType::Q5_0 => (7, 0),
        TensorType::Q5_1 => (7, 11),
        TensorType::Q8_0 => (4, 0),
        TensorType::Q2K => (7, 7),
        TensorType::Q3K => (5, 0),
        TensorType::Q4K => (2, 5),
        TensorType::Q5K => (1, 5),
        _ => (0, 0),
    }
}

/// `SplitMix64` (Steele, Lea and Flood 2014), as bytes.
struct Stream(u64);

impl Stream {
    fn take(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(n + 8);
        while bytes.len() < n {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            bytes.extend((z ^ z >> 31).to_le_bytes());
        }
        bytes.truncate(n);
        bytes
    }
}

/// Keeps sign and mantissa; the exponent becomes one of `low`, `low + 1`, ...
fn spread32(word: u32, low: u32, n_exponents: u32) -> u32 {
    word & 0x807f_ffff | ((word >> 23 & (n_exponents - 1)) + low) << 23
}

fn spread16(word: u16, mantissa_bits: u32, low: u16) -> u16 {
    let kept = 0x8000 | ((1 << mantissa_bits) - 1);
    word & kept | ((word >> mantissa_bits & 3) + low) << mantissa_bits
}

fn half(bytes: &[u8]) -> u16 {
    u16::from_le_bytes([bytes[0], bytes[1]])
}

fn matrix(stream: &mut Stream, kind: TensorType, n_weights: usize) -> Vec<u8> {
    let n_blocks = n_weights / kind.block_len() as usize;
    let mut bytes = stream.take(n_blocks * kind.block_bytes() as usize);
    for block in bytes.chunks_exact_mut(kind.block_bytes() as usize) {
        match kind {
            TensorType::F32 => {
                let word = u32::from_le_bytes([block[0], block[1], block[2], block[3]]);
                block.copy_from_slice(&spread32(word, 120, 4).to_le_bytes());
            }
            TensorType::F16 => {
                block.copy_from_slice(&spread16(half(block), 10, 8).to_le_bytes());
            }
            TensorType::Bf16 => {
                block.copy_from_slice(&spread16(half(block), 7, 120).to_le_bytes());
            }
            _ => set_scales(block, kind),
        }
    }
    bytes
}

fn set_scales(block: &mut [u8], kind: TensorType) {
    let (scale_at, minimum_at) = scales(kind);
    let (scale_exponent, minimum_exponent) = exponents(kind);
    let scale = half(&block[scale_at..]) & 0x83ff | scale_exponent << 10;
    block[scale_at..scale_at + 2].copy_from_slice(&scale.to_le_bytes());
    if let Some(at) = minimum_at {
        // Added in Q4_1 and Q5_1, subtracted in the K types.
        let flip = if kind.block_len() == 32 { 0x8000 } else { 0 };
        let minimum = half(&block[at..]) & 0x3ff | minimum_exponent << 10 | scale & 0x8000 ^ flip;
        block[at..at + 2].copy_from_slice(&minimum.to_le_bytes());
    }
}

fn norm(stream: &mut Stream, n: usize) -> Vec<u8> {
    let words = stream.take(4 * n);
    let words = words
        .chunks_exact(4)
        .map(|it| u32::from_le_bytes([it[0], it[1], it[2], it[3]]));
    words
        .flat_map(|it| spread32(it & 0x7fff_ffff, 126, 2).to_le_bytes())
        .collect()
}

/// Draws the tensors of one model; `kind_of` says how each matrix is stored.
pub(super) fn tensors(seed: u64, kind_of: impl Fn(&str) -> TensorType) -> Vec<Tensor> {
    let mut stream = Stream(seed);
    let draw = |(name, n_rows, n_columns): (&'static str, usize, Option<usize>)| match n_columns {
        None => Tensor {
            name,
            shape: vec![n_rows as u64],
            kind: TensorType::F32,
            bytes: norm(&mut stream, n_rows),
        },
        Some(n_columns) => Tensor {
            name,
            shape: vec![n_columns as u64, n_rows as u64],
            kind: kind_of(name),
            bytes: matrix(&mut stream, kind_of(name), n_rows * n_columns),
        },
    };
    TENSORS.into_iter().map(draw).collect()
}

/// Writes a GGUF file of version 3 with these tensors, and a tokenizer of 64 ids.
pub(super) fn gguf_file(tensors: &[Tensor]) -> Vec<u8> {
    const ALIGNMENT: usize = 32;
    let mut keys = Keys::default();
    keys.text("general.architecture", "llama");
    keys.count("general.file_type", 15);
    for (name, n) in [
        ("block_count", 1),
        ("context_length", 32),
        ("embedding_length", 256),
        ("feed_forward_length", 256),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
        ("rope.dimension_count", 64),
    ] {
        keys.count(&format!("llama.{name}"), n);
    }
    keys.float("llama.attention.layer_norm_rms_epsilon", 1e-5);
    keys.float("llama.rope.freq_base", 10_000.0);
    keys.text("tokenizer.ggml.model", "gpt2");
    keys.text("tokenizer.ggml.pre", "gpt-2");
    let mut vocabulary: Vec<String> = (0..63).map(|i| char::from(b'!' + i).to_string()).collect();
    vocabulary.push("!\"".to_owned());
    keys.texts("tokenizer.ggml.tokens", &vocabulary);
    keys.texts("tokenizer.ggml.merges", &["! \"".to_owned()]);
    let mut file = b"GGUF".to_vec();
    file.extend(3_u32.to_le_bytes());
    file.extend((tensors.len() as u64).to_le_bytes());
    file.extend(keys.n.to_le_bytes());
    file.extend(keys.bytes);
    let mut data: Vec<u8> = Vec::new();
    for tensor in tensors {
        text(&mut file, &tensor.full_name());
        file.extend((tensor.shape.len() as u32).to_le_bytes());
        for n in &tensor.shape {
            file.extend(n.to_le_bytes());
        }
        file.extend(tensor.kind.id().to_le_bytes());
        file.extend((data.len() as u64).to_le_bytes());
        data.extend(&tensor.bytes);
        data.resize(data.len().next_multiple_of(ALIGNMENT), 0);
    }
    file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
    file.extend(data);
    file
}

/// Metadata as it stands in a file.
#[derive(Default)]
struct Keys {
    n: u64,
    bytes: Vec<u8>,
}

impl Keys {
    fn key(&mut self, key: &str, kind: u32) {
        self.n += 1;
        text(&mut self.bytes, key);
        self.bytes.extend(kind.to_le_bytes());
    }

    fn count(&mut self, key: &str, n: u32) {
        self.key(key, 4);
        self.bytes.extend(n.to_le_bytes());
    }

    fn float(&mut self, key: &str, x: f32) {
        self.key(key, 6);
        self.bytes.extend(x.to_le_bytes());
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key, 8);
        text(&mut self.bytes, value);
    }

    fn texts(&mut self, key: &str, values: &[String]) {
        self.key(key, 9);
        self.bytes.extend(8_u32.to_le_bytes());
        self.bytes.extend((values.len() as u64).to_le_bytes());
        for value in values {
            text(&mut self.bytes, value);
        }
    }
}

fn text(out: &mut Vec<u8>, value: &str) {
    out.extend((value.len() as u64).to_le_bytes());
    out.extend(value.as_bytes());
}
