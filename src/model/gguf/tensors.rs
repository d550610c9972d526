//! The tensor descriptions of a header, and the proof that the tensors lie in the file.

use std::ops::Range;

use indexmap::IndexMap;

use super::GgufError;
use super::cursor::Cursor;
use super::tensor_type::TensorType;

/// Where one tensor lies, and how it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Lengths in ggml's order: `shape[0]` is the contiguous one. A weight matrix that
    /// maps I inputs to O outputs has the shape `[I, O]`: O rows of I weights each.
    pub shape: Vec<u64>,
    /// How the weights are stored.
    pub tensor_type: TensorType,
    /// Offset of the first byte in the file.
    pub offset: u64,
    /// Length in bytes, padding not included.
    pub n_bytes: u64,
}

impl TensorInfo {
    /// Number of weights.
    pub fn n_elements(&self) -> u64 {
        // Checked against overflow when the header was read.
        self.shape.iter().product()
    }

    /// The tensor's bytes in the file.
    pub fn range(&self) -> Range<usize> {
        // Inside a file that was read or is to be, so both ends fit in `usize`.
        self.offset as usize..(self.offset + self.n_bytes) as usize
    }
}

/// Reads the tensor descriptions; offsets still count from the start of the data.
pub(super) fn read_descriptions(
    cursor: &mut Cursor,
    n: u64,
) -> Result<Vec<(String, TensorInfo)>, GgufError> {
    let mut described = Vec::new();
    for _ in 0..n {
        let tensor = cursor.text("a tensor name")?;
        let n_dimensions = cursor.u32(&tensor)?;
        if !(1..=4).contains(&n_dimensions) {
            return Err(GgufError::BadDimensionCount {
                tensor,
                n: n_dimensions,
            });
        }
        let shape = (0..n_dimensions)
            .map(|_| cursor.u64(&tensor))
            .collect::<Result<Vec<_>, _>>()?;
        let id = cursor.u32(&tensor)?;
        let offset = cursor.u64(&tensor)?;
        let tensor_type = match TensorType::from_id(id) {
            Ok(it) => it,
            Err(name) => return Err(GgufError::UnsupportedType { tensor, name, id }),
        };
        let n_bytes = byte_len(&tensor, &shape, tensor_type)?;
        described.push((
            tensor,
            TensorInfo {
                shape,
                tensor_type,
                offset,
                n_bytes,
            },
        ));
    }
    Ok(described)
}

fn byte_len(tensor: &str, shape: &[u64], tensor_type: TensorType) -> Result<u64, GgufError> {
    if shape.contains(&0) {
        return Err(GgufError::ZeroDimension {
            tensor: tensor.to_owned(),
            shape: shape.to_vec(),
        });
    }
    if !shape[0].is_multiple_of(tensor_type.block_len()) {
        return Err(GgufError::PartialBlock {
            tensor: tensor.to_owned(),
            row_len: shape[0],
            block_len: tensor_type.block_len(),
            name: tensor_type.name(),
        });
    }
    shape
        .iter()
        .try_fold(1_u64, |product, n| product.checked_mul(*n))
        .map(|n| n / tensor_type.block_len())
        .and_then(|n_blocks| n_blocks.checked_mul(tensor_type.block_bytes()))
        .ok_or_else(|| GgufError::SizeOverflow {
            tensor: tensor.to_owned(),
            shape: shape.to_vec(),
        })
}

/// Turns offsets into offsets in the file, and proves that the tensors fit there.
pub(super) fn place(
    described: Vec<(String, TensorInfo)>,
    data_start: u64,
    alignment: u64,
    file_len: u64,
) -> Result<IndexMap<String, TensorInfo>, GgufError> {
    let mut tensors = IndexMap::with_capacity(described.len());
    for (tensor, mut info) in described {
        if !info.offset.is_multiple_of(alignment) {
            return Err(GgufError::Unaligned {
                tensor,
                offset: info.offset,
                alignment,
            });
        }
        let end = data_start
            .checked_add(info.offset)
            .and_then(|offset| offset.checked_add(info.n_bytes))
            .ok_or_else(|| GgufError::SizeOverflow {
                tensor: tensor.clone(),
                shape: info.shape.clone(),
            })?;
        if file_len < end {
            return Err(GgufError::OutsideFile {
                tensor,
                end,
                file_len,
            });
        }
        info.offset += data_start;
        if tensors.insert(tensor.clone(), info).is_some() {
            return Err(GgufError::DuplicateTensor { tensor });
        }
    }
    let mut order: Vec<(&String, &TensorInfo)> = tensors.iter().collect();
    order.sort_by_key(|(_, info)| info.offset);
    for pair in order.windows(2) {
        let [(first, before), (second, after)] = [pair[0], pair[1]];
        if after.offset < before.offset + before.n_bytes {
            return Err(GgufError::Overlap {
                first: first.clone(),
                second: second.clone(),
                offset: after.offset,
            });
        }
    }
    Ok(tensors)
}
