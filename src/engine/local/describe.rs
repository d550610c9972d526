//! What the engine will make of a model, told from its headers: whether it computes it,
//! and how much memory that takes.
//!
//! [`check`] goes through everything that loading does but decoding values: settings,
//! names, shapes, tensors that nothing uses. Promise: what it refuses, loading refuses for
//! the same reason; what it passes can only fail on values (NaN, a second head that differs
//! from the embedding, rotary factors below 0), on files that change in between, and on
//! memory. The list of tensors below stands beside the loader's code, and tests hold one
//! against the other.

use super::LoadError;
use super::architecture::{Architecture, NormKind};
use super::families::{Bias, Head, Layout, Qkv};
use super::limits::{WAVE_ROWS, usable_bytes, work_bytes};
use super::load::{architecture, numbered};
use super::matrix::Keep;
use super::needs::Needs;
use super::pool::Sizes;
use super::weights::Weights;
use crate::model::Model;

/// Memory that the engine takes, in bytes, beside what the process takes anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Whether weights will be held as f32, rather than as stored.
    pub is_f32: bool,
    /// The weights, if they are held as f32: matrices padded to whole panels, and the
    /// embedding as stored.
    pub f32_bytes: u64,
    /// The weights, if they are held as stored.
    pub stored_bytes: u64,
    /// Keys and values of one token of all layers, kept while requests share it.
    pub token_bytes: u64,
    /// Room for one wave of tokens in one layer and for the logits of some rows.
    pub work_bytes: u64,
}

/// Checks that the engine computes `model`, and says what memory that takes; reads no weights.
///
/// # Errors
///
/// [`LoadError`], as from loading.
pub fn check(model: &Model) -> Result<Memory, LoadError> {
    let weights = Weights::open(model)?;
    let (architecture, layout) = architecture(model, &weights)?;
    for (name, shape) in tensors(&architecture, &layout, |name| weights.has(name)) {
        weights.expect(&name, &shape)?;
    }
    for (name, shape) in not_kept(&architecture, &layout) {
        if weights.has(&name) {
            weights.expect(&name, &shape)?;
        }
    }
    for i in 0..architecture.n_layer {
        for name in layout.derived {
            weights.mark(&numbered(name, i));
        }
    }
    let needs = Needs::new(&architecture, &layout, &weights);
    weights.finish()?;
    let keep = needs.choose(model.weights, usable_bytes())?;
    Ok(Memory {
        is_f32: keep == Keep::Decoded,
        f32_bytes: needs.f32_bytes,
        stored_bytes: needs.stored_bytes,
        token_bytes: Sizes::new(&architecture).token_bytes(),
        work_bytes: work_bytes(&architecture, WAVE_ROWS),
    })
}

/// Every tensor that stays in memory, with its shape.
pub(super) fn tensors(
    a: &Architecture,
    layout: &Layout,
    has: impl Fn(&str) -> bool,
) -> Vec<(String, Vec<usize>)> {
    let mut all = List {
        prefix: layout.prefix,
        tensors: Vec::new(),
    };
    all.weight(layout.token_embedding, &[a.n_vocab, a.n_embd]);
    if let Some(name) = layout.position_embedding {
        all.weight(name, &[a.n_context, a.n_embd]);
    }
    let head = format!("{}.weight", layout.head_name);
    if layout.head == Head::Own || (layout.head == Head::Found && has(&head)) {
        all.tensors.push((head, vec![a.n_vocab, a.n_embd]));
    }
    for i in 0..a.n_layer {
        all.layer(a, layout, i);
    }
    all.norm(layout.norm, a.n_embd, a.norm);
    all.tensors
}

/// Tensors that loading reads where they are there, and then drops.
fn not_kept(a: &Architecture, layout: &Layout) -> Vec<(String, Vec<usize>)> {
    let mut all = Vec::new();
    if let Some(name) = layout.rope_factors {
        all.push((format!("{name}.weight"), vec![a.head_dim / 2]));
    }
    if layout.head == Head::Tied {
        all.push((
            format!("{}.weight", layout.head_name),
            vec![a.n_vocab, a.n_embd],
        ));
    }
    all
}

/// Names and shapes as they are collected.
struct List {
    prefix: &'static str,
    tensors: Vec<(String, Vec<usize>)>,
}

impl List {
    fn weight(&mut self, name: &str, shape: &[usize]) {
        let name = format!("{}{name}.weight", self.prefix);
        self.tensors.push((name, shape.to_vec()));
    }

    fn bias(&mut self, name: &str, n: usize) {
        self.tensors
            .push((format!("{}{name}.bias", self.prefix), vec![n]));
    }

    fn norm(&mut self, name: &str, n: usize, kind: NormKind) {
        self.weight(name, &[n]);
        if matches!(kind, NormKind::Layer(_)) {
            self.bias(name, n);
        }
    }

    fn layer(&mut self, a: &Architecture, layout: &Layout, i: usize) {
        let (q, g) = (a.n_head * a.head_dim, a.kv_width());
        let mut linear = |name: &str, n_out: usize, n_in: usize, bias: Bias| {
            let name = numbered(name, i);
            let shape = if layout.is_in_out {
                [n_in, n_out]
            } else {
                [n_out, n_in]
            };
            self.weight(&name, &shape);
            if bias == Bias::Stored {
                self.bias(&name, n_out);
            }
        };
        match layout.qkv {
            Qkv::Fused(name) => linear(name, q + 2 * g, a.n_embd, layout.qkv_bias),
            Qkv::Split(names) => names
                .iter()
                .zip([q, g, g])
                .for_each(|(name, n_out)| linear(name, n_out, a.n_embd, layout.qkv_bias)),
        }
        linear(layout.output, a.n_embd, q, layout.output_bias);
        for name in layout.up {
            linear(name, a.n_ff, a.n_embd, layout.mlp_bias);
        }
        linear(layout.down, a.n_embd, a.n_ff, layout.mlp_bias);
        for name in layout.query_key_norm.into_iter().flatten() {
            self.weight(&numbered(name, i), &[a.head_dim]);
        }
        for name in [layout.attention_norm, layout.mlp_norm] {
            self.norm(&numbered(name, i), a.n_embd, a.norm);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::super::cpu::Cpu;
    use super::super::load::load;
    use super::*;
    use crate::experiment::ModelSource;
    use crate::model::{ModelError, OpenOptions, open};

    fn fixtures() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models")
    }

    fn opened(path: &Path) -> Result<Model, ModelError> {
        let source = ModelSource::Path(path.to_owned());
        open(&source, &OpenOptions::default(), &mut |_| {})
    }

    /// Every checkpoint folder of the fixtures.
    fn folders() -> Vec<PathBuf> {
        let entries = std::fs::read_dir(fixtures()).unwrap();
        let folders: Vec<PathBuf> = entries
            .map(|it| it.unwrap().path())
            .filter(|it| it.join("config.json").is_file())
            .collect();
        assert!(3 <= folders.len());
        folders
    }

    /// A tensor of the list that is not loaded, or one that is loaded and not in the list,
    /// would fail here.
    #[test]
    fn what_can_be_loaded_passes() {
        for entry in std::fs::read_dir(fixtures()).unwrap() {
            let path = entry.unwrap().path();
            if path.join("config.json").is_file() || path.extension().is_some_and(|it| it == "gguf")
            {
                let memory = check(&opened(&path).unwrap()).unwrap();
                assert!(0 < memory.stored_bytes, "{}", path.display());
                assert!(
                    memory.stored_bytes <= memory.f32_bytes,
                    "{}",
                    path.display()
                );
            }
        }
    }

    /// Renames each tensor in turn: it is then missing, or unused, or both.
    #[test]
    fn what_cannot_be_loaded_is_refused_in_the_same_words() {
        let mut n_refused = 0;
        for folder in folders() {
            let copy = tempfile::tempdir().unwrap();
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
            }
            let weights = Weights::open(&opened(&folder).unwrap()).unwrap();
            let file = copy.path().join("model.safetensors");
            let bytes = std::fs::read(&file).unwrap();
            for name in weights.names() {
                let name = format!("\"{name}\"");
                let at = bytes
                    .windows(name.len())
                    .position(|it| it == name.as_bytes())
                    .unwrap();
                let mut renamed = bytes.clone();
                renamed[at + 1] = b'!';
                std::fs::write(&file, renamed).unwrap();
                // Without its embedding a model does not even open.
                let Ok(model) = opened(copy.path()) else {
                    continue;
                };
                let expected = load(&model, |keep| Cpu { keep }).unwrap_err().to_string();
                assert_eq!(check(&model).unwrap_err().to_string(), expected);
                n_refused += 1;
            }
        }
        assert!(50 < n_refused, "{n_refused}");
    }

    #[test]
    fn shapes_are_compared_with_the_settings() {
        let copy = tempfile::tempdir().unwrap();
        for name in [
            "tokenizer.json",
            "model.safetensors",
            "tokenizer_config.json",
        ] {
            let from = fixtures().join("tiny-llama").join(name);
            std::fs::copy(from, copy.path().join(name)).unwrap();
        }
        let config = std::fs::read_to_string(fixtures().join("tiny-llama/config.json")).unwrap();
        let config = config.replace("\"intermediate_size\": 64", "\"intermediate_size\": 96");
        std::fs::write(copy.path().join("config.json"), config).unwrap();
        let err = check(&opened(copy.path()).unwrap())
            .unwrap_err()
            .to_string();
        assert!(
            err.contains("[64, 32]") && err.contains("[96, 32]"),
            "{err}"
        );
    }

    #[test]
    fn memory_follows_from_the_shapes() {
        let memory = check(&opened(&fixtures().join("tiny-llama")).unwrap()).unwrap();
        // In each of 2 layers q, k and v 32·64, output 32·32, gate and up 32·128, down
        // 64·32; head 32·320; embedding 320·32; five norms of 32: 39 072 floats, and
        // nothing to pad. The file has f32 too.
        assert_eq!(memory.f32_bytes, 4 * 39_072);
        assert_eq!(memory.stored_bytes, 4 * 39_072);
        assert!(memory.is_f32);
        // Keys and values, 2 layers, 2 heads of 8, values padded to 32.
        assert_eq!(memory.token_bytes, 4 * 2 * 2 * (8 + 32));
        // 256 rows of 2·32 + 2·6·8 + 64 floats, and 32 rows of 320 logits.
        assert_eq!(memory.work_bytes, 4 * (256 * 224 + 32 * 320));
    }
}
