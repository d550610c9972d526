//! Builds a [`Decoder`] from a checkpoint: matrices side by side in panels, as f32 or as
//! stored, every tensor used.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rayon::prelude::*;

use super::architecture::{Architecture, Mlp, NormKind, Positions};
use super::arithmetic::{Arithmetic, HeadNorms, Linear, Norm};
use super::decoder::{Decoder, Layer};
use super::describe::tensors;
use super::families::{self, Bias, Head, Layout, Qkv};
use super::limits::usable_bytes;
use super::matrix::{Keep, Order, Part};
use super::needs::Needs;
use super::weights::{Stored, Weights};
use crate::model::gguf;
use crate::model::weights_file::{FileError, WeightsFile};
use crate::model::{Model, ModelFiles};

/// Why a checkpoint was refused.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file could not be read or parsed.
    #[error("cannot read `{}`: {message}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The checkpoint asks for something this engine does not compute.
    #[error("the model uses {what}, which is not supported")]
    Unsupported {
        /// The setting, tensor type or architecture.
        what: String,
    },
    /// A setting is absent or not of the expected type.
    #[error("the model's setting `{name}` is missing or not {expected}")]
    Setting {
        /// The key.
        name: String,
        /// What stands there in a model that loads.
        expected: &'static str,
    },
    /// Two things that the checkpoint says cannot both be.
    #[error("the model contradicts itself: {what}")]
    Contradiction {
        /// Both of them.
        what: String,
    },
    /// A tensor is absent.
    #[error("the model has no tensor `{name}`")]
    MissingTensor {
        /// Its name.
        name: String,
    },
    /// A tensor's shape disagrees with the settings.
    #[error("tensor `{name}` has shape {got:?}, but the model's settings say {expected:?}")]
    Shape {
        /// Its name.
        name: String,
        /// The shape that follows from the settings.
        expected: Vec<usize>,
        /// The shape in the file.
        got: Vec<usize>,
    },
    /// A tensor holds NaN or infinite values.
    #[error("tensor `{name}` holds NaN or infinite values")]
    NotFinite {
        /// Its name.
        name: String,
    },
    /// Tensors that the architecture does not use.
    #[error("nothing uses the tensors {}, so this is not the model it claims to be", list(.names))]
    UnusedTensors {
        /// Their names.
        names: Vec<String>,
    },
    /// The weights do not fit in memory.
    #[error(
        "the model needs {} MB of memory for its weights {form}, but {} MB are free; \
         use {}a smaller model, or free memory",
        .needed_bytes / 1_000_000, .free_bytes / 1_000_000,
        if *.form == AS_F32 { "`weights = \"stored\"`, " } else { "" }
    )]
    Memory {
        /// How they would be held.
        form: &'static str,
        /// Bytes that takes.
        needed_bytes: u64,
        /// Bytes available now.
        free_bytes: u64,
    },
    /// The device or the storage of weights asked for is not there.
    #[error("{message}")]
    Device {
        /// What was asked for and what to set instead.
        message: String,
    },
    /// The system gives no memory for the weights.
    #[error("the system gives no memory for the weights: {source}")]
    NoRoom {
        /// What it said.
        source: std::io::Error,
    },
    /// candle could not decode a tensor.
    #[error("a tensor could not be decoded: {0}")]
    Candle(#[from] candle_core::Error),
}

/// Weights decoded once.
pub(super) const AS_F32: &str = "as f32";

/// Weights decoded at each use.
pub(super) const AS_STORED: &str = "as stored";

impl From<FileError> for LoadError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Io { path, source } => Self::file(&path, source),
            FileError::NotAFile { path } => Self::file(&path, "it is not a regular file"),
            FileError::Empty { path } => Self::file(&path, "it is empty"),
            FileError::Cut { path } => Self::file(&path, "it was cut short while it was read"),
        }
    }
}

impl LoadError {
    /// Whether a file could not be read, or changed after its digest was computed.
    pub fn is_file(&self) -> bool {
        matches!(self, Self::File { .. })
    }

    pub(crate) fn file(path: &Path, error: impl std::fmt::Display) -> Self {
        Self::File {
            path: path.to_owned(),
            message: error.to_string(),
        }
    }

    pub(crate) fn unsupported(what: String) -> Self {
        Self::Unsupported { what }
    }
}

fn list(names: &[String]) -> String {
    let shown = names
        .iter()
        .take(5)
        .map(|it| format!("`{it}`"))
        .collect::<Vec<_>>()
        .join(", ");
    match names.len().saturating_sub(5) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Loads the weights of `model` into the arithmetic that is made for their form.
pub(crate) fn load<A: Arithmetic>(
    model: &Model,
    arithmetic: impl FnOnce(Keep) -> A,
) -> Result<Decoder<A>, LoadError> {
    let weights = Weights::open(model)?;
    let (mut architecture, layout) = architecture(model, &weights)?;
    for (name, shape) in tensors(&architecture, &layout, |name| weights.has(name)) {
        weights.look(&name, &shape)?;
    }
    let needs = Needs::new(&architecture, &layout, &weights);
    let arithmetic = arithmetic(needs.choose(model.weights, usable_bytes())?);
    divide_frequencies(&mut architecture, &layout, &weights)?;
    let source = Source {
        weights: &weights,
        layout: &layout,
        architecture: &architecture,
        arithmetic: &arithmetic,
    };
    let a = &architecture;
    let name = format!("{}{}.weight", layout.prefix, layout.token_embedding);
    let token_embedding = weights.stored(&name, &[a.n_vocab, a.n_embd])?.to_owned()?;
    source.refuse_other_head(&token_embedding)?;
    let position_embedding = match layout.position_embedding {
        Some(name) => source.raw(name, &[a.n_context, a.n_embd])?,
        None => Vec::new(),
    };
    let head = source.head(&token_embedding)?;
    let layers = (0..a.n_layer)
        .into_par_iter()
        .map(|i| source.layer(i))
        // The first layer's error, whichever is met first.
        .collect::<Vec<_>>()
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    let norm = source.norm(layout.norm)?;
    for (i, name) in (0..a.n_layer).flat_map(|i| layout.derived.iter().map(move |it| (i, it))) {
        let name = numbered(name, i);
        if weights.has(&name) {
            weights.mark(&name);
        }
    }
    weights.finish()?;
    Ok(Decoder {
        architecture,
        arithmetic,
        token_embedding,
        position_embedding,
        layers,
        norm,
        head,
        buffers: Mutex::default(),
    })
}

/// Divides the rotary frequencies by the factors that a GGUF stores, if it does.
///
/// That is how llama.cpp keeps Llama 3.1's scaling.
fn divide_frequencies(
    architecture: &mut Architecture,
    layout: &Layout,
    weights: &Weights,
) -> Result<(), LoadError> {
    let Some(name) = layout.rope_factors.map(|it| format!("{it}.weight")) else {
        return Ok(());
    };
    let Positions::Rope { frequencies } = &mut architecture.positions else {
        return Ok(());
    };
    if !weights.has(&name) {
        return Ok(());
    }
    let factors = weights.take(&name, &[frequencies.len()])?;
    if let Some(factor) = factors.iter().find(|it| **it <= 0.0) {
        return Err(LoadError::unsupported(format!("{factor} in `{name}`")));
    }
    for (frequency, factor) in frequencies.iter_mut().zip(factors) {
        *frequency /= factor;
    }
    Ok(())
}

/// What the headers of `model` say of its decoder and the names of its tensors.
pub(super) fn architecture(
    model: &Model,
    weights: &Weights,
) -> Result<(Architecture, Layout), LoadError> {
    match &model.files {
        ModelFiles::Gguf(path) => {
            let file = WeightsFile::open(path)?;
            let (_, header) = gguf::Gguf::read(&file)?;
            let header = header.map_err(|err| LoadError::file(path, err))?;
            families::from_gguf(&header)
        }
        ModelFiles::Safetensors { config, .. } => {
            families::from_config(config, |name| weights.has(name))
        }
    }
}

/// Names a layer's tensor.
pub(super) fn numbered(name: &str, layer: usize) -> String {
    name.replace("{}", &layer.to_string())
}

/// Takes tensors by the names of a layout.
struct Source<'a, A> {
    weights: &'a Weights,
    layout: &'a Layout,
    architecture: &'a Architecture,
    arithmetic: &'a A,
}

impl<A: Arithmetic> Source<'_, A> {
    fn raw(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        self.weights
            .take(&format!("{}{name}.weight", self.layout.prefix), shape)
    }

    fn bias(&self, name: &str, n: usize) -> Result<Vec<f32>, LoadError> {
        self.weights
            .take(&format!("{}{name}.bias", self.layout.prefix), &[n])
    }

    fn norm(&self, name: &str) -> Result<Norm<A>, LoadError> {
        let n = self.architecture.n_embd;
        let kind = self.architecture.norm;
        let bias = match kind {
            NormKind::Layer(_) => Some(self.arithmetic.vector(self.bias(name, n)?)?),
            NormKind::Rms(_) => None,
        };
        Ok(Norm {
            kind,
            weight: self.arithmetic.vector(self.raw(name, &[n])?)?,
            bias,
        })
    }

    /// The biases of stored linear maps with `n_out` outputs each, one after the other.
    fn biases(
        &self,
        bias: Bias,
        names: &[String],
        n_out: &[usize],
    ) -> Result<Option<Vec<f32>>, LoadError> {
        if bias == Bias::Absent {
            return Ok(None);
        }
        let parts = names
            .iter()
            .zip(n_out)
            .map(|(name, n)| self.bias(name, *n))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Some(parts.concat()))
    }

    /// A linear map of `k` inputs made of several stored ones with `n_out` outputs each.
    fn linear(
        &self,
        names: &[String],
        n_out: &[usize],
        k: usize,
        bias: Bias,
    ) -> Result<Linear<A>, LoadError> {
        let orders = vec![Order::Rows; names.len()];
        let bias = self.biases(bias, names, n_out)?;
        Ok(Linear {
            weight: self.matrix(names, n_out, &orders, k)?,
            bias: bias.map(|it| self.arithmetic.vector(it)).transpose()?,
        })
    }

    /// Stored matrices of `k` inputs side by side, each in the order of its part.
    fn matrix(
        &self,
        names: &[String],
        n_out: &[usize],
        orders: &[Order],
        k: usize,
    ) -> Result<A::Matrix, LoadError> {
        let mut parts = Vec::new();
        for ((name, n), order) in names.iter().zip(n_out).zip(orders) {
            let name = format!("{}{name}.weight", self.layout.prefix);
            let part = if self.layout.is_in_out {
                Part {
                    tensor: self.weights.stored(&name, &[k, *n])?,
                    order: Order::Columns,
                }
            } else {
                Part {
                    tensor: self.weights.stored(&name, &[*n, k])?,
                    order: *order,
                }
            };
            parts.push(part);
        }
        self.arithmetic.matrix(k, &parts)
    }

    fn qkv(&self, layer: usize) -> Result<Linear<A>, LoadError> {
        let (a, bias) = (self.architecture, self.layout.qkv_bias);
        let (q, g) = (a.n_head * a.head_dim, a.kv_width());
        match self.layout.qkv {
            Qkv::Fused(name) => self.linear(&[numbered(name, layer)], &[q + 2 * g], a.n_embd, bias),
            Qkv::Split(names) => {
                let names = names.map(|it| numbered(it, layer));
                if !self.layout.is_interleaved {
                    return self.linear(&names, &[q, g, g], a.n_embd, bias);
                }
                let halves = Order::InterleavedRows(a.head_dim);
                let mut bias = self.biases(bias, &names, &[q, g, g])?;
                if let Some(bias) = &mut bias {
                    let rotated = half_split(&bias[..q + g], a.head_dim);
                    bias[..q + g].copy_from_slice(&rotated);
                }
                let orders = [halves, halves, Order::Rows];
                Ok(Linear {
                    weight: self.matrix(&names, &[q, g, g], &orders, a.n_embd)?,
                    bias: bias.map(|it| self.arithmetic.vector(it)).transpose()?,
                })
            }
        }
    }

    /// The norms of single query and key heads, where the family has them.
    fn head_norms(&self, layer: usize) -> Result<Option<HeadNorms<A>>, LoadError> {
        let Some(names) = self.layout.query_key_norm else {
            return Ok(None);
        };
        let [query, key] = names.map(|name| {
            let weight = self.raw(&numbered(name, layer), &[self.architecture.head_dim])?;
            Ok::<_, LoadError>(Norm {
                kind: self.architecture.norm,
                weight: self.arithmetic.vector(weight)?,
                bias: None,
            })
        });
        Ok(Some(HeadNorms {
            query: query?,
            key: key?,
        }))
    }

    fn layer(&self, i: usize) -> Result<Layer<A>, LoadError> {
        let (a, layout) = (self.architecture, self.layout);
        let widen =
            |name: &&str| self.linear(&[numbered(name, i)], &[a.n_ff], a.n_embd, layout.mlp_bias);
        let (up, gate) = layout.up.split_last().expect("an MLP has a way in");
        debug_assert_eq!(gate.len(), usize::from(a.mlp == Mlp::SwiGlu));
        let output = numbered(layout.output, i);
        let down = numbered(layout.down, i);
        Ok(Layer {
            attention_norm: self.norm(&numbered(layout.attention_norm, i))?,
            qkv: self.qkv(i)?,
            head_norms: self.head_norms(i)?,
            output: self.linear(
                &[output],
                &[a.n_embd],
                a.n_head * a.head_dim,
                layout.output_bias,
            )?,
            mlp_norm: self.norm(&numbered(layout.mlp_norm, i))?,
            gate: gate.first().map(widen).transpose()?,
            up: widen(up)?,
            down: self.linear(&[down], &[a.n_embd], a.n_ff, layout.mlp_bias)?,
        })
    }

    /// Refuses a tied head that is stored as well, with other values.
    fn refuse_other_head(&self, token_embedding: &Stored<'_>) -> Result<(), LoadError> {
        let name = format!("{}.weight", self.layout.head_name);
        if self.layout.head != Head::Tied || !self.weights.has(&name) {
            return Ok(());
        }
        let (n_vocab, n_embd) = (self.architecture.n_vocab, self.architecture.n_embd);
        let head = self.weights.stored(&name, &[n_vocab, n_embd])?;
        if head.equals(token_embedding)? {
            return Ok(());
        }
        Err(LoadError::Contradiction {
            what: format!("its head is the embedding, but `{name}` differs from it"),
        })
    }

    /// The vocabulary head: its own tensor, or the embedding read the other way round.
    fn head(&self, token_embedding: &Stored<'_>) -> Result<A::Matrix, LoadError> {
        let (n_vocab, n_embd) = (self.architecture.n_vocab, self.architecture.n_embd);
        let name = format!("{}.weight", self.layout.head_name);
        let is_own = match self.layout.head {
            Head::Own => true,
            Head::Tied => false,
            Head::Found => self.weights.has(&name),
        };
        let tensor = if is_own {
            token_embedding.check()?;
            self.weights.stored(&name, &[n_vocab, n_embd])?
        } else {
            token_embedding.clone()
        };
        let part = Part {
            tensor,
            order: Order::Rows,
        };
        self.arithmetic.matrix(n_embd, &[part])
    }
}

/// Reorders each head's values from llama.cpp's interleaved pairs (0 1)(2 3)... to
/// halves: pair `i` becomes `i` and `i + D/2`, the order the decoder rotates.
fn half_split(values: &[f32], head_dim: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for head in values.chunks_exact(head_dim) {
        for parity in 0..2 {
            out.extend(head.iter().skip(parity).step_by(2));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::cpu::Cpu;
    use super::*;
    use crate::experiment::ModelSource;
    use crate::model::{self, OpenOptions};

    fn frequencies(name: &str) -> Vec<f32> {
        let options = OpenOptions {
            base: Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models"),
            ..OpenOptions::default()
        };
        let model = model::open(&ModelSource::Path(name.into()), &options, &mut |_| {}).unwrap();
        match load(&model, |keep| Cpu { keep })
            .unwrap()
            .architecture
            .positions
        {
            Positions::Rope { frequencies } => frequencies,
            Positions::Learned => panic!("{name} has learned positions"),
        }
    }

    /// llama.cpp stores factors, Hugging Face the rule behind them: up to the rounding of
    /// two operations both give the same frequencies.
    #[test]
    fn factors_of_a_gguf_give_the_frequencies_of_the_checkpoint() {
        let (ours, theirs) = (frequencies("tiny-llama3.gguf"), frequencies("tiny-llama3"));
        assert_eq!(ours.len(), 8);
        for (a, b) in ours.iter().zip(&theirs) {
            assert!(
                (a - b).abs() <= 2.0 * f32::EPSILON * b,
                "{ours:?} {theirs:?}"
            );
        }
        // The shortest wave is kept, the longest stretched 8 times: 100^(-14/16) / 8.
        assert_eq!(theirs[0], 1.0);
        assert!((theirs[7] - 0.002_222_85).abs() < 1e-8, "{theirs:?}");
    }

    #[test]
    fn interleaved_heads_become_halves() {
        // One head of D = 4: pairs (0 1)(2 3) to halves 0 2 | 1 3.
        assert_eq!(half_split(&[0.0, 1.0, 2.0, 3.0], 4), [0.0, 2.0, 1.0, 3.0]);
    }
}
