//! Named tensors of a checkpoint, as f32, each taken exactly once.
//!
//! Every type that a file may have is decoded to the bits that ggml's reference
//! decodes it to, by candle; the tests hold its values against gguf-py's. A tensor
//! with a NaN or an infinity in its weights or scales is refused by name.
//!
//! A tensor that nothing takes means the model is not the one this code computes,
//! so [`Weights::finish`] refuses it: a silent wrong number is the worst outcome.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use safetensors::SafeTensors;

use super::LoadError;
use crate::model::gguf;
use crate::model::mapped::MappedFile;
use crate::model::{Model, ModelFiles};

/// The tensors of one checkpoint.
#[derive(Default)]
pub(crate) struct Weights {
    files: Vec<MappedFile>,
    tensors: BTreeMap<String, Stored>,
    taken: Mutex<BTreeSet<String>>,
}

/// Where a tensor lies and how it is stored.
struct Stored {
    file: usize,
    start: usize,
    n_bytes: usize,
    /// Row-major: the last dimension is contiguous.
    shape: Vec<usize>,
    format: Format,
}

#[derive(Clone, Copy)]
enum Format {
    Plain(DType),
    Quantized(GgmlDType),
    /// Not decoded here; only a buffer that nothing reads may have it.
    Unread(safetensors::Dtype),
}

impl Weights {
    /// Opens the files of `model` and lists their tensors; reads no weights yet.
    pub(crate) fn open(model: &Model) -> Result<Self, LoadError> {
        let mut weights = Self::default();
        match &model.files {
            ModelFiles::Gguf(path) => weights.add_gguf(path)?,
            ModelFiles::Safetensors { weights: paths, .. } => {
                for path in paths {
                    weights.add_safetensors(path)?;
                }
            }
        }
        Ok(weights)
    }

    fn add_gguf(&mut self, path: &Path) -> Result<(), LoadError> {
        let file = MappedFile::open(path).map_err(|err| LoadError::file(path, err))?;
        let header = gguf::Gguf::parse(&file).map_err(|err| LoadError::file(path, err))?;
        for (name, info) in header.tensors() {
            let format = quantized_format(info.tensor_type);
            // GGUF lists the contiguous dimension first.
            let shape = info.shape.iter().rev().map(|it| *it as usize).collect();
            let stored = Stored {
                file: self.files.len(),
                start: info.offset as usize,
                n_bytes: info.n_bytes as usize,
                shape,
                format: Format::Quantized(format),
            };
            self.tensors.insert(name.clone(), stored);
        }
        self.files.push(file);
        Ok(())
    }

    fn add_safetensors(&mut self, path: &Path) -> Result<(), LoadError> {
        let file = MappedFile::open(path).map_err(|err| LoadError::file(path, err))?;
        let parsed = SafeTensors::deserialize(&file).map_err(|err| LoadError::file(path, err))?;
        let base = file.as_ptr() as usize;
        for (name, view) in parsed.iter() {
            let format = match view.dtype() {
                safetensors::Dtype::F32 => Format::Plain(DType::F32),
                safetensors::Dtype::F16 => Format::Plain(DType::F16),
                safetensors::Dtype::BF16 => Format::Plain(DType::BF16),
                other => Format::Unread(other),
            };
            let stored = Stored {
                file: self.files.len(),
                start: view.data().as_ptr() as usize - base,
                n_bytes: view.data().len(),
                shape: view.shape().to_vec(),
                format,
            };
            if self.tensors.insert(name.to_owned(), stored).is_some() {
                return Err(LoadError::unsupported(format!(
                    "tensor `{name}` in two files"
                )));
            }
        }
        self.files.push(file);
        Ok(())
    }

    /// The names of all tensors.
    #[cfg(test)]
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether a tensor of that name exists.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Accepts a tensor of that name and shape, without reading it.
    pub(crate) fn expect(&self, name: &str, shape: &[usize]) -> Result<(), LoadError> {
        self.find(name, shape).map(|_| self.mark(name))
    }

    /// The tensor of that name, which must have that shape.
    fn find(&self, name: &str, shape: &[usize]) -> Result<&Stored, LoadError> {
        let stored = self
            .tensors
            .get(name)
            .ok_or_else(|| LoadError::MissingTensor {
                name: name.to_owned(),
            })?;
        if stored.shape != shape {
            return Err(LoadError::Shape {
                name: name.to_owned(),
                expected: shape.to_vec(),
                got: stored.shape.clone(),
            });
        }
        Ok(stored)
    }

    /// The tensor's values in row-major order, after checking its shape.
    pub(crate) fn take(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        let stored = self.find(name, shape)?;
        self.mark(name);
        let bytes = &self.files[stored.file][stored.start..stored.start + stored.n_bytes];
        let tensor = match stored.format {
            Format::Plain(dtype) => {
                Tensor::from_raw_buffer(bytes, dtype, shape, &Device::Cpu)?.to_dtype(DType::F32)?
            }
            Format::Unread(dtype) => {
                return Err(LoadError::unsupported(format!(
                    "the type {dtype:?} of the tensor `{name}`"
                )));
            }
            Format::Quantized(dtype) => {
                let storage = QStorage::from_data(Cow::Borrowed(bytes), &Device::Cpu, dtype)?;
                QTensor::new(storage, shape)?.dequantize(&Device::Cpu)?
            }
        };
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        if values.iter().all(|it| it.is_finite()) {
            Ok(values)
        } else {
            Err(LoadError::NotFinite {
                name: name.to_owned(),
            })
        }
    }

    /// Accepts a tensor that other settings already determine, e.g. a stored mask.
    pub(crate) fn mark(&self, name: &str) {
        self.taken
            .lock()
            .expect("no holder panics")
            .insert(name.to_owned());
    }

    /// Refuses the checkpoint if some tensor was not taken.
    pub(crate) fn finish(self) -> Result<(), LoadError> {
        let taken = self.taken.into_inner().expect("no holder panics");
        let left: Vec<String> = self
            .tensors
            .into_keys()
            .filter(|name| !taken.contains(name))
            .collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(LoadError::UnusedTensors { names: left })
        }
    }
}

fn quantized_format(tensor_type: gguf::TensorType) -> GgmlDType {
    use gguf::TensorType as G;
    match tensor_type {
        G::F32 => GgmlDType::F32,
        G::F16 => GgmlDType::F16,
        G::Bf16 => GgmlDType::BF16,
        G::Q4_0 => GgmlDType::Q4_0,
        G::Q4_1 => GgmlDType::Q4_1,
        G::Q5_0 => GgmlDType::Q5_0,
        G::Q5_1 => GgmlDType::Q5_1,
        G::Q8_0 => GgmlDType::Q8_0,
        G::Q2K => GgmlDType::Q2K,
        G::Q3K => GgmlDType::Q3K,
        G::Q4K => GgmlDType::Q4K,
        G::Q5K => GgmlDType::Q5K,
        G::Q6K => GgmlDType::Q6K,
    }
}

/// A matrix of a checkpoint: `rows` outputs of `cols` inputs, row-major.
pub(crate) struct Matrix {
    pub values: Vec<f32>,
    pub n_rows: usize,
}

/// Puts matrices (`n_i`, k) side by side as one (k, n) matrix, n = sum `n_i`.
///
/// A product reads its weight column by column in tiles; with the columns
/// contiguous, packing a tile is a copy.
pub(crate) fn side_by_side(parts: &[Matrix], k: usize) -> Vec<f32> {
    const TILE: usize = 32;
    let n: usize = parts.iter().map(|it| it.n_rows).sum();
    let mut out = vec![0.0; k * n];
    out.par_chunks_mut(TILE * n)
        .enumerate()
        .for_each(|(tile, rows)| {
            let first = tile * TILE;
            let mut column = 0;
            for part in parts {
                for from in (0..part.n_rows).step_by(TILE) {
                    for row in from..part.n_rows.min(from + TILE) {
                        let source = &part.values[row * k + first..row * k + k.min(first + TILE)];
                        for (i, value) in source.iter().enumerate() {
                            rows[i * n + column + row] = *value;
                        }
                    }
                }
                column += part.n_rows;
            }
        });
    out
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn types() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models/types")
    }

    /// What gguf-py decodes each tensor of `blocks.gguf` to, by name.
    fn goldens() -> serde_json::Map<String, serde_json::Value> {
        let text = std::fs::read(types().join("goldens.json")).unwrap();
        let goldens: serde_json::Value = serde_json::from_slice(&text).unwrap();
        goldens["blocks"].as_object().unwrap().clone()
    }

    fn assert_bits(weights: &Weights, name: &str, golden: &serde_json::Value) {
        use sha2::Digest as _;
        let numbers = |key: &str| golden[key].as_array().unwrap().iter();
        let shape: Vec<usize> = numbers("shape")
            .map(|it| it.as_u64().unwrap() as usize)
            .collect();
        let values = weights.take(name, &shape).unwrap();
        let first: Vec<f32> = numbers("first_row")
            .map(|it| it.as_f64().unwrap() as f32)
            .collect();
        assert_eq!(values[..first.len()], first, "{name}");
        let bytes: Vec<u8> = values.iter().flat_map(|it| it.to_le_bytes()).collect();
        let digest: String = sha2::Sha256::digest(&bytes)
            .iter()
            .fold(String::new(), |hex, it| hex + &format!("{it:02x}"));
        assert_eq!(golden["sha256"], digest, "{name}");
    }

    /// Random blocks of every type, and blocks with every kind of scale: the largest and
    /// the smallest, negative, subnormal, zero. Made by `make_types.py`, decoded by gguf-py.
    #[test]
    fn blocks_decode_to_the_bits_of_gguf_py() {
        let goldens = goldens();
        let mut weights = Weights::default();
        weights.add_gguf(&types().join("blocks.gguf")).unwrap();
        assert_eq!(goldens.len(), 13);
        for (name, golden) in &goldens {
            assert_bits(&weights, name, golden);
        }
        weights.finish().unwrap();
    }

    /// The same floats in a safetensors file, wherever in memory they lie.
    #[test]
    fn plain_floats_decode_to_the_same_bits_at_any_address() {
        let goldens = goldens();
        let file = std::fs::read(types().join("blocks.gguf")).unwrap();
        let blocks = gguf::Gguf::parse(&file).unwrap();
        for n_spaces in 0..4 {
            for name in ["F32", "F16", "BF16"] {
                let data = &file[blocks.tensors()[name].range()];
                let header = serde_json::json!({name: {
                    "dtype": name, "shape": goldens[name]["shape"], "data_offsets": [0, data.len()],
                }});
                let header = format!("{header}{}", " ".repeat(n_spaces));
                let length = (header.len() as u64).to_le_bytes();
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("x.safetensors");
                std::fs::write(&path, [&length[..], header.as_bytes(), data].concat()).unwrap();
                let mut weights = Weights::default();
                weights.add_safetensors(&path).unwrap();
                assert_bits(&weights, name, &goldens[name]);
            }
        }
    }

    #[test]
    fn matrices_side_by_side_are_transposed() {
        // (2, 3) and (1, 3) become (3, 3): columns 1 2 3 | 4 5 6 | 7 8 9.
        let parts = [
            Matrix {
                values: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
                n_rows: 2,
            },
            Matrix {
                values: vec![7.0, 8.0, 9.0],
                n_rows: 1,
            },
        ];
        assert_eq!(
            side_by_side(&parts, 3),
            [1.0, 4.0, 7.0, 2.0, 5.0, 8.0, 3.0, 6.0, 9.0]
        );
    }
}
