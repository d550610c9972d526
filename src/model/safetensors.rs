//! Reads and checks the header of a safetensors file.
//!
//! Promise: after [`Header::parse`] the tensors cover the data without a hole or an
//! overlap, and each is as long as its type and shape say. Format:
//! <https://github.com/huggingface/safetensors#format>. No weights are read.

use indexmap::IndexMap;
use serde_json::Value;

/// Largest header, in bytes, as in the reference implementation.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Why bytes are not a safetensors file that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each field is named in its variant's message")]
pub enum SafetensorsError {
    /// The header's length does not fit the file.
    #[error("the header claims {n_bytes} bytes, but the file has {file_len}")]
    BadLength { n_bytes: u64, file_len: u64 },
    /// The header is no JSON object of tensors.
    #[error("the header is not valid: {reason}")]
    BadHeader { reason: String },
    /// A tensor whose description contradicts itself.
    #[error("the tensor `{tensor}` is not valid: {reason}")]
    BadTensor { tensor: String, reason: String },
    /// Bytes that belong to no tensor, or to two.
    #[error("the tensor `{tensor}` starts at {start}, but the one before ends at {end}")]
    NotContiguous {
        tensor: String,
        start: u64,
        end: u64,
    },
    /// Data missing or left over.
    #[error(
        "the tensors take {n_bytes} bytes of data, but the file holds {data_len}; was the download cut short?"
    )]
    WrongDataLength { n_bytes: u64, data_len: u64 },
}

/// One tensor: its type as named in the file, and its shape, slowest dimension first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// The type, e.g. `BF16`.
    pub dtype: String,
    /// Lengths; a `PyTorch` linear layer has the shape `[outputs, inputs]`.
    pub shape: Vec<u64>,
    start: u64,
    end: u64,
}

impl Tensor {
    /// Number of elements.
    pub fn n_elements(&self) -> u64 {
        // Checked against overflow when the header was read.
        self.shape.iter().product()
    }

    /// Length in bytes.
    pub fn n_bytes(&self) -> u64 {
        self.end - self.start
    }
}

/// The checked header of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Every tensor by name.
    pub tensors: IndexMap<String, Tensor>,
}

impl Header {
    /// Reads the header of `file`, which holds the whole file's bytes.
    ///
    /// # Errors
    ///
    /// [`SafetensorsError`] names the tensor that breaks a rule.
    pub fn parse(file: &[u8]) -> Result<Self, SafetensorsError> {
        let file_len = file.len() as u64;
        let Some(n_bytes) = file.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)) else {
            return Err(SafetensorsError::BadLength {
                n_bytes: 0,
                file_len,
            });
        };
        if MAX_HEADER_BYTES < n_bytes || file_len - 8 < n_bytes {
            return Err(SafetensorsError::BadLength { n_bytes, file_len });
        }
        let (json, data) = file[8..].split_at(n_bytes as usize);
        let bad = |reason: String| SafetensorsError::BadHeader { reason };
        let root: Value = serde_json::from_slice(json).map_err(|err| bad(err.to_string()))?;
        let entries = root
            .as_object()
            .ok_or_else(|| bad("it is no JSON object".to_owned()))?;
        let mut tensors = IndexMap::new();
        for (tensor, entry) in entries.iter().filter(|(name, _)| *name != "__metadata__") {
            let described = describe(entry).map_err(|reason| SafetensorsError::BadTensor {
                tensor: tensor.clone(),
                reason: reason.to_owned(),
            })?;
            tensors.insert(tensor.clone(), described);
        }
        check_cover(&tensors, data.len() as u64)?;
        Ok(Self { tensors })
    }
}

fn describe(entry: &Value) -> Result<Tensor, &'static str> {
    let dtype = entry["dtype"].as_str().ok_or("it has no `dtype`")?;
    let width: u64 = match dtype {
        "BOOL" | "U8" | "I8" | "F8_E4M3" | "F8_E5M2" => 1,
        "U16" | "I16" | "F16" | "BF16" => 2,
        "U32" | "I32" | "F32" => 4,
        "U64" | "I64" | "F64" => 8,
        _ => return Err("its `dtype` is not known"),
    };
    let numbers = |key: &str| -> Option<Vec<u64>> {
        entry[key].as_array()?.iter().map(Value::as_u64).collect()
    };
    let shape = numbers("shape").ok_or("its `shape` is not a list of counts")?;
    let Some([start, end]) = numbers("data_offsets").and_then(|it| <[u64; 2]>::try_from(it).ok())
    else {
        return Err("its `data_offsets` are not two counts");
    };
    let n_bytes = shape
        .iter()
        .try_fold(width, |product, n| product.checked_mul(*n))
        .ok_or("its size overflows")?;
    if end.checked_sub(start) != Some(n_bytes) {
        return Err("its `data_offsets` do not fit its shape");
    }
    Ok(Tensor {
        dtype: dtype.to_owned(),
        shape,
        start,
        end,
    })
}

fn check_cover(tensors: &IndexMap<String, Tensor>, data_len: u64) -> Result<(), SafetensorsError> {
    let mut order: Vec<(&String, &Tensor)> = tensors.iter().collect();
    order.sort_by_key(|(_, it)| (it.start, it.end));
    let mut end = 0;
    for (tensor, it) in order {
        if it.start != end {
            return Err(SafetensorsError::NotContiguous {
                tensor: tensor.clone(),
                start: it.start,
                end,
            });
        }
        end = it.end;
    }
    if end == data_len {
        Ok(())
    } else {
        Err(SafetensorsError::WrongDataLength {
            n_bytes: end,
            data_len,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    /// A file with this header and `n_bytes` zero bytes of data.
    pub(crate) fn file(header: &Value, n_bytes: usize) -> Vec<u8> {
        let json = header.to_string();
        let mut out = (json.len() as u64).to_le_bytes().to_vec();
        out.extend(json.as_bytes());
        out.resize(out.len() + n_bytes, 0);
        out
    }

    fn tensor(dtype: &str, shape: &[u64], offsets: &[u64]) -> Value {
        json!({"dtype": dtype, "shape": shape, "data_offsets": offsets})
    }

    #[test]
    fn a_header_reads_back() {
        let header = json!({"__metadata__": {"format": "pt"},
            "b": tensor("F32", &[2, 3], &[4, 28]), "a": tensor("BF16", &[2], &[0, 4])});
        let it = Header::parse(&file(&header, 28)).unwrap();
        assert_eq!(it.tensors["b"].shape, [2, 3]);
        assert_eq!(
            (it.tensors["b"].n_elements(), it.tensors["a"].n_bytes()),
            (6, 4)
        );
    }

    #[test]
    fn broken_headers_are_refused() {
        let table: &[(Value, usize, &str)] = &[
            (
                json!({"a": tensor("F32", &[1], &[4, 8])}),
                8,
                "the one before ends at 0",
            ),
            (
                json!({"a": tensor("F32", &[1], &[0, 4]), "b": tensor("F32", &[1], &[2, 6])}),
                6,
                "ends at 4",
            ),
            (
                json!({"a": tensor("F32", &[1], &[0, 4])}),
                5,
                "file holds 5",
            ),
            (json!({"a": tensor("F32", &[1], &[0, 4])}), 3, "cut short"),
            (
                json!({"a": tensor("F32", &[2], &[0, 4])}),
                4,
                "do not fit its shape",
            ),
            (
                json!({"a": tensor("F32", &[1], &[4, 0])}),
                4,
                "do not fit its shape",
            ),
            (
                json!({"a": tensor("F32", &[1 << 63, 8], &[0, 0])}),
                0,
                "overflows",
            ),
            (
                json!({"a": tensor("F4", &[1], &[0, 4])}),
                4,
                "`dtype` is not known",
            ),
            (json!([]), 0, "no JSON object"),
        ];
        for (header, n_bytes, expected) in table {
            let message = Header::parse(&file(header, *n_bytes))
                .unwrap_err()
                .to_string();
            assert!(message.contains(expected), "{message}");
        }
        for bytes in [&b""[..], &[255; 8], &[1, 0, 0, 0, 0, 0, 0, 0]] {
            assert!(matches!(
                Header::parse(bytes),
                Err(SafetensorsError::BadLength { .. })
            ));
        }
    }
}
