//! Named tensors of a checkpoint, decoded to f32, each taken exactly once.
//!
//! Every type that a file may have is decoded to the bits that ggml's reference
//! decodes it to, by candle; the tests hold its values against gguf-py's. A tensor
//! with a NaN or an infinity in its weights or scales is refused by name.
//!
//! A tensor that nothing takes means the model is not the one this code computes,
//! so [`Weights::finish`] refuses it: a silent wrong number is the worst outcome.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{DType, Device};
use half::{bf16, f16};
use rayon::prelude::*;

use super::LoadError;
use crate::model::gguf;
use crate::model::safetensors;
use crate::model::weights_file::WeightsFile;
use crate::model::{Model, ModelFiles};

/// The tensors of one checkpoint.
#[derive(Default)]
pub(crate) struct Weights {
    files: Vec<WeightsFile>,
    tensors: BTreeMap<String, Entry>,
    taken: Mutex<BTreeSet<String>>,
}

/// Where a tensor lies and how it is stored.
struct Entry {
    file: usize,
    start: u64,
    n_bytes: usize,
    /// Row-major: the last dimension is contiguous.
    shape: Vec<usize>,
    format: Format,
}

#[derive(Debug, Clone, Copy)]
enum Format {
    Plain(DType),
    Quantized(GgmlDType),
    /// Not decoded here; only a buffer that nothing reads may have it.
    Unread(&'static str),
}

/// A tensor in the types of its file, decoded row by row.
#[derive(Debug, Clone)]
pub(crate) struct Stored<'a> {
    name: String,
    bytes: Bytes<'a>,
    format: Format,
    pub n_rows: usize,
    pub n_columns: usize,
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
        let file = WeightsFile::open(path)?;
        let (_, header) = gguf::Gguf::read(&file)?;
        let header = header.map_err(|err| LoadError::file(path, err))?;
        for (name, info) in header.tensors() {
            let format = quantized_format(info.tensor_type);
            // GGUF lists the contiguous dimension first.
            let shape = info.shape.iter().rev().map(|it| *it as usize).collect();
            let entry = Entry {
                file: self.files.len(),
                start: info.offset,
                n_bytes: info.n_bytes as usize,
                shape,
                format: Format::Quantized(format),
            };
            self.tensors.insert(name.clone(), entry);
        }
        self.files.push(file);
        Ok(())
    }

    fn add_safetensors(&mut self, path: &Path) -> Result<(), LoadError> {
        let file = WeightsFile::open(path)?;
        let header = safetensors::Header::read(&file)?;
        let header = header.map_err(|err| LoadError::file(path, err))?;
        for (name, tensor) in &header.tensors {
            let format = match tensor.dtype {
                "F32" => Format::Plain(DType::F32),
                "F16" => Format::Plain(DType::F16),
                "BF16" => Format::Plain(DType::BF16),
                other => Format::Unread(other),
            };
            let entry = Entry {
                file: self.files.len(),
                start: header.start_of(tensor),
                n_bytes: tensor.n_bytes() as usize,
                shape: tensor.shape.iter().map(|it| *it as usize).collect(),
                format,
            };
            if self.tensors.insert(name.clone(), entry).is_some() {
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

    /// Bytes of a tensor as stored; 0 if there is none of that name.
    pub(crate) fn n_bytes(&self, name: &str) -> u64 {
        self.tensors.get(name).map_or(0, |it| it.n_bytes as u64)
    }

    /// Whether a tensor of that name exists.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Accepts a tensor of that name and shape, without reading it.
    pub(crate) fn expect(&self, name: &str, shape: &[usize]) -> Result<(), LoadError> {
        self.stored(name, shape).map(drop)
    }

    /// Whether there is a tensor of that name and shape; it is still to be taken.
    pub(crate) fn look(&self, name: &str, shape: &[usize]) -> Result<(), LoadError> {
        self.find(name, shape).map(drop)
    }

    /// The tensor of that name, which must have that shape.
    fn find(&self, name: &str, shape: &[usize]) -> Result<&Entry, LoadError> {
        let entry = self
            .tensors
            .get(name)
            .ok_or_else(|| LoadError::MissingTensor {
                name: name.to_owned(),
            })?;
        if entry.shape != shape {
            return Err(LoadError::Shape {
                name: name.to_owned(),
                expected: shape.to_vec(),
                got: entry.shape.clone(),
            });
        }
        Ok(entry)
    }

    /// The tensor as it is stored, after checking its shape; decodes nothing.
    pub(crate) fn stored(&self, name: &str, shape: &[usize]) -> Result<Stored<'_>, LoadError> {
        let entry = self.find(name, shape)?;
        self.mark(name);
        if let Format::Unread(dtype) = entry.format {
            return Err(LoadError::unsupported(format!(
                "the type {dtype} of the tensor `{name}`"
            )));
        }
        let n_columns = shape.last().copied().unwrap_or(1);
        Ok(Stored {
            name: name.to_owned(),
            bytes: Bytes::InFile {
                file: &self.files[entry.file],
                start: entry.start,
                n_bytes: entry.n_bytes,
            },
            format: entry.format,
            n_rows: shape.iter().rev().skip(1).product(),
            n_columns,
        })
    }

    /// The tensor's values in row-major order, after checking its shape.
    pub(crate) fn take(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        let stored = self.stored(name, shape)?;
        let mut values = Vec::with_capacity(stored.n_rows * stored.n_columns);
        stored.decode_rows(0..stored.n_rows, &mut values)?;
        Ok(values)
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

/// Where the bytes of a tensor are.
#[derive(Debug, Clone)]
enum Bytes<'a> {
    /// In the file, read whenever they are asked for.
    InFile {
        file: &'a WeightsFile,
        start: u64,
        n_bytes: usize,
    },
    /// In memory that clones share.
    Owned(Arc<[u8]>),
}

/// Rows that are decoded together when all of a tensor is.
const ROWS_AT_ONCE: usize = 64;

impl Stored<'_> {
    /// The same tensor, in memory of its own: what happens to the file is no matter then.
    ///
    /// # Errors
    ///
    /// [`LoadError::File`] if the file cannot be read.
    pub(crate) fn to_owned(&self) -> Result<Stored<'static>, LoadError> {
        Ok(Stored {
            name: self.name.clone(),
            bytes: Bytes::Owned(match &self.bytes {
                Bytes::InFile { .. } => self.bytes(0..self.n_bytes())?.into(),
                Bytes::Owned(bytes) => Arc::clone(bytes),
            }),
            format: self.format,
            n_rows: self.n_rows,
            n_columns: self.n_columns,
        })
    }

    /// Bytes as stored.
    pub(crate) fn n_bytes(&self) -> usize {
        match &self.bytes {
            Bytes::InFile { n_bytes, .. } => *n_bytes,
            Bytes::Owned(bytes) => bytes.len(),
        }
    }

    /// Some of the bytes as stored.
    fn bytes(&self, range: Range<usize>) -> Result<Cow<'_, [u8]>, LoadError> {
        match &self.bytes {
            Bytes::InFile { file, start, .. } => {
                let mut bytes = vec![0; range.len()];
                file.read(start + range.start as u64, &mut bytes)?;
                Ok(Cow::Owned(bytes))
            }
            Bytes::Owned(bytes) => Ok(Cow::Borrowed(&bytes[range])),
        }
    }

    /// Appends the values of `rows` to `values`.
    ///
    /// # Errors
    ///
    /// [`LoadError::NotFinite`] if one is NaN or infinite, [`LoadError::File`] if the file cannot
    /// be read.
    pub(crate) fn decode_rows(
        &self,
        rows: Range<usize>,
        values: &mut Vec<f32>,
    ) -> Result<(), LoadError> {
        let row_bytes = self.n_bytes() / self.n_rows.max(1);
        let bytes = self.bytes(rows.start * row_bytes..rows.end * row_bytes)?;
        self.append(&bytes, rows.len() * self.n_columns, values)
    }

    /// Appends the values of some columns of one row to `values`.
    ///
    /// # Errors
    ///
    /// As for [`Stored::decode_rows`].
    pub(crate) fn decode(
        &self,
        row: usize,
        columns: Range<usize>,
        values: &mut Vec<f32>,
    ) -> Result<(), LoadError> {
        let Format::Plain(dtype) = self.format else {
            // Blocks are decoded whole.
            let mut all = Vec::with_capacity(self.n_columns);
            self.decode_rows(row..row + 1, &mut all)?;
            values.extend_from_slice(&all[columns]);
            return Ok(());
        };
        let size = dtype.size_in_bytes();
        let first = (row * self.n_columns + columns.start) * size;
        let bytes = self.bytes(first..first + columns.len() * size)?;
        self.append(&bytes, columns.len(), values)
    }

    /// Decodes everything once and keeps nothing.
    ///
    /// # Errors
    ///
    /// As for [`Stored::decode_rows`].
    pub(crate) fn check(&self) -> Result<(), LoadError> {
        (0..self.n_rows.div_ceil(ROWS_AT_ONCE))
            .into_par_iter()
            .try_for_each_init(Vec::new, |values, block| {
                let first = block * ROWS_AT_ONCE;
                values.clear();
                self.decode_rows(first..self.n_rows.min(first + ROWS_AT_ONCE), values)
            })
    }

    /// Whether both decode to the same values.
    ///
    /// # Errors
    ///
    /// As for [`Stored::decode_rows`].
    pub(crate) fn equals(&self, other: &Stored<'_>) -> Result<bool, LoadError> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for first in (0..self.n_rows).step_by(ROWS_AT_ONCE) {
            let rows = first..self.n_rows.min(first + ROWS_AT_ONCE);
            ours.clear();
            theirs.clear();
            self.decode_rows(rows.clone(), &mut ours)?;
            other.decode_rows(rows, &mut theirs)?;
            if ours != theirs {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn append(&self, bytes: &[u8], n: usize, values: &mut Vec<f32>) -> Result<(), LoadError> {
        let first = values.len();
        match self.format {
            Format::Plain(DType::F16) => {
                values.extend(
                    bytes
                        .as_chunks()
                        .0
                        .iter()
                        .map(|it| f16::from_le_bytes(*it).to_f32()),
                );
            }
            Format::Plain(DType::BF16) => {
                values.extend(
                    bytes
                        .as_chunks()
                        .0
                        .iter()
                        .map(|it| bf16::from_le_bytes(*it).to_f32()),
                );
            }
            Format::Plain(_) => {
                values.extend(bytes.as_chunks().0.iter().map(|it| f32::from_le_bytes(*it)));
            }
            Format::Quantized(dtype) => {
                let storage = QStorage::from_data(Cow::Borrowed(bytes), &Device::Cpu, dtype)?;
                let tensor = QTensor::new(storage, n)?.dequantize(&Device::Cpu)?;
                values.extend(tensor.to_vec1::<f32>()?);
            }
            Format::Unread(_) => unreachable!("`Weights::stored` refuses it"),
        }
        if values[first..].iter().all(|it| it.is_finite()) {
            Ok(())
        } else {
            Err(LoadError::NotFinite {
                name: self.name.clone(),
            })
        }
    }
}

#[cfg(test)]
impl Stored<'static> {
    /// Row-major values, as a checkpoint would store them.
    pub(crate) fn of_f32(values: &[f32], n_rows: usize, n_columns: usize) -> Self {
        assert_eq!(values.len(), n_rows * n_columns);
        let bytes: Vec<u8> = values.iter().flat_map(|it| it.to_le_bytes()).collect();
        Self {
            name: "test".to_owned(),
            bytes: Bytes::Owned(bytes.into()),
            format: Format::Plain(DType::F32),
            n_rows,
            n_columns,
        }
    }
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
}
