//! Reads numbers, texts and arrays from the header bytes, never past their end.
//!
//! Every length is compared with the bytes that are left before anything is
//! allocated for it, so a hostile length field costs nothing. What is read takes at
//! most [`MEMORY_FACTOR`](super::MEMORY_FACTOR) times the bytes it was read from.

use super::value::{Array, Value};
use super::{GgufError, MAX_ARRAY_DEPTH, MAX_ARRAY_LEN};

/// A read position in the header, with the name of what is being read for messages.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    /// Starts at byte 0 of `bytes`, which holds the header and no more than the cap.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// The offset of the next byte in the file.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// The next `n` bytes.
    pub(super) fn take(&mut self, n: u64, what: &str) -> Result<&'a [u8], GgufError> {
        let remaining = self.bytes.len() - self.position;
        let n = usize::try_from(n)
            .ok()
            .filter(|n| *n <= remaining)
            .ok_or_else(|| GgufError::Truncated {
                what: what.to_owned(),
                offset: self.position,
                needed: n,
                remaining,
            })?;
        let taken = &self.bytes[self.position..self.position + n];
        self.position += n;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], GgufError> {
        let bytes = self.take(N as u64, what)?;
        Ok(bytes
            .try_into()
            .expect("`take` returns as many bytes as asked for"))
    }

    /// The next 32-bit unsigned integer.
    pub(super) fn u32(&mut self, what: &str) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    /// The next 64-bit unsigned integer.
    pub(super) fn u64(&mut self, what: &str) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// The next text: a 64-bit length, then UTF-8.
    pub(super) fn text(&mut self, what: &str) -> Result<String, GgufError> {
        let offset = self.position;
        let n = self.u64(what)?;
        let bytes = self.take(n, what)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(GgufError::NotUtf8 {
                what: what.to_owned(),
                offset,
            }),
        }
    }

    /// The next value, whose type number stands in front of it.
    pub(super) fn value(&mut self, key: &str) -> Result<Value, GgufError> {
        let kind = self.u32(key)?;
        Ok(match kind {
            8 => Value::Text(self.text(key)?),
            9 => Value::Array(self.typed_array(key, 1)?),
            6 => Value::F32(f32::from_le_bytes(self.array(key)?)),
            12 => Value::F64(f64::from_le_bytes(self.array(key)?)),
            7 => Value::Bool(self.bool(key)?),
            0 | 2 | 4 | 10 => Value::Unsigned(self.unsigned(kind, key)?),
            1 | 3 | 5 | 11 => Value::Signed(self.signed(kind, key)?),
            _ => return Err(self.unknown_kind(kind, key)),
        })
    }

    fn typed_array(&mut self, key: &str, depth: usize) -> Result<Array, GgufError> {
        if MAX_ARRAY_DEPTH < depth {
            return Err(GgufError::TooDeep {
                key: key.to_owned(),
                offset: self.position,
            });
        }
        let kind = self.u32(key)?;
        let n = self.u64(key)?;
        let remaining = (self.bytes.len() - self.position) as u64;
        // A nested array holds at least its own type and length.
        let least = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            9 => 12,
            _ => return Err(self.unknown_kind(kind, key)),
        };
        if MAX_ARRAY_LEN < n {
            return Err(GgufError::TooMany {
                what: format!("elements in `{key}`"),
                n,
                most: MAX_ARRAY_LEN,
            });
        }
        let needed = n * least;
        if remaining < needed {
            return Err(GgufError::Truncated {
                what: key.to_owned(),
                offset: self.position,
                needed,
                remaining: remaining as usize,
            });
        }
        Ok(match kind {
            8 => Array::Text(elements(n, || self.text(key))?),
            // Not reserved: each level of a nested claim would reserve anew.
            9 => Array::Array(
                (0..n)
                    .map(|_| self.typed_array(key, depth + 1))
                    .collect::<Result<_, _>>()?,
            ),
            0 => Array::Bytes(self.take(n, key)?.to_vec()),
            1 => Array::SignedBytes(
                self.take(n, key)?
                    .iter()
                    .map(|it| it.cast_signed())
                    .collect(),
            ),
            7 => Array::Bool(elements(n, || self.bool(key))?),
            6 => Array::Float(elements(n, || {
                Ok(f64::from(f32::from_le_bytes(self.array(key)?)))
            })?),
            12 => Array::Float(elements(n, || Ok(f64::from_le_bytes(self.array(key)?)))?),
            3 | 5 | 11 => Array::Signed(elements(n, || self.signed(kind, key))?),
            _ => Array::Unsigned(elements(n, || self.unsigned(kind, key))?),
        })
    }

    fn unsigned(&mut self, kind: u32, key: &str) -> Result<u64, GgufError> {
        Ok(match kind {
            0 => u64::from(u8::from_le_bytes(self.array(key)?)),
            2 => u64::from(u16::from_le_bytes(self.array(key)?)),
            4 => u64::from(u32::from_le_bytes(self.array(key)?)),
            _ => u64::from_le_bytes(self.array(key)?),
        })
    }

    fn signed(&mut self, kind: u32, key: &str) -> Result<i64, GgufError> {
        Ok(match kind {
            1 => i64::from(i8::from_le_bytes(self.array(key)?)),
            3 => i64::from(i16::from_le_bytes(self.array(key)?)),
            5 => i64::from(i32::from_le_bytes(self.array(key)?)),
            _ => i64::from_le_bytes(self.array(key)?),
        })
    }

    fn bool(&mut self, key: &str) -> Result<bool, GgufError> {
        let offset = self.position;
        match self.take(1, key)?[0] {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(GgufError::NotABool {
                key: key.to_owned(),
                offset,
                value,
            }),
        }
    }

    fn unknown_kind(&self, kind: u32, key: &str) -> GgufError {
        GgufError::UnknownValueType {
            key: key.to_owned(),
            offset: self.position,
            kind,
        }
    }
}

/// Reads `n` elements, a count that was compared with the bytes that are left.
///
/// The room for them is taken at once: a vector that grows would take up to twice of it.
fn elements<T>(
    n: u64,
    mut read: impl FnMut() -> Result<T, GgufError>,
) -> Result<Vec<T>, GgufError> {
    let mut out = Vec::with_capacity(n as usize);
    for _ in 0..n {
        out.push(read()?);
    }
    Ok(out)
}
