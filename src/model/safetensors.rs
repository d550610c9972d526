//! Reads and checks the header of a safetensors file.
//!
//! Promise: after [`Header::parse`] the tensors cover the data without a hole or an
//! overlap, each is as long as its type and shape say, and no name occurs twice.
//! The header is read into exactly these facts, never into a tree of JSON, so that
//! what it takes in memory is bounded by its length. Format:
//! <https://github.com/huggingface/safetensors#format>. No weights are read.

use std::fmt;

use indexmap::IndexMap;
use serde::Deserialize;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};

use super::foreign;
use super::weights_file::{FileError, WeightsFile};

/// Bytes of the header's length, with which a file begins.
const LENGTH_BYTES: u64 = 8;

/// Largest header, in bytes, as in the reference implementation.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// Most dimensions of a tensor; weights of language models have at most 4.
const MAX_DIMENSIONS: usize = 8;
/// The key beside the tensors, whose texts say nothing about them.
const METADATA: &str = "__metadata__";

/// Why bytes are not a safetensors file that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each field is named in its variant's message")]
pub enum SafetensorsError {
    /// Not even the header's length.
    #[error("the file has {file_len} bytes, too few for a header")]
    TooShort { file_len: u64 },
    /// The file is of another kind.
    #[error("not a safetensors file; it is {note}")]
    Foreign { note: &'static str },
    /// The header's length does not fit the file.
    #[error(
        "the header claims {n_bytes} bytes, but {remaining} follow its length; was the download cut short?"
    )]
    BadLength { n_bytes: u64, remaining: u64 },
    /// A header longer than any that is read.
    #[error("the header claims {n_bytes} bytes, but at most {MAX_HEADER_BYTES} are accepted")]
    TooLong { n_bytes: u64 },
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
    pub dtype: &'static str,
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

    /// Whether the elements are floats, so that the tensor may hold weights.
    pub fn is_float(&self) -> bool {
        self.dtype.contains('F')
    }
}

/// The checked header of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Every tensor by name.
    pub tensors: IndexMap<String, Tensor>,
    /// The byte of the file at which the tensors begin.
    data_start: u64,
}

impl Header {
    /// The byte of the file at which a tensor begins.
    pub fn start_of(&self, tensor: &Tensor) -> u64 {
        self.data_start + tensor.start
    }

    /// Reads the header of `file`, which holds the whole file's bytes.
    ///
    /// # Errors
    ///
    /// [`SafetensorsError`] names the tensor that breaks a rule.
    pub fn parse(file: &[u8]) -> Result<Self, SafetensorsError> {
        Self::parse_start(file, file.len() as u64)
    }

    /// Reads the header of a file.
    ///
    /// # Errors
    ///
    /// [`FileError`] if the file cannot be read; a header that breaks a rule is a value here.
    pub fn read(file: &WeightsFile) -> Result<Result<Self, SafetensorsError>, FileError> {
        let mut start = file.first(LENGTH_BYTES + foreign::N_BYTES as u64)?;
        if let Some(length) = start.first_chunk().map(|it| u64::from_le_bytes(*it))
            && length <= MAX_HEADER_BYTES
        {
            start = file.first((LENGTH_BYTES + length).max(start.len() as u64))?;
        }
        Ok(Self::parse_start(&start, file.n_bytes()))
    }

    /// Reads the header out of the first bytes of a file of `file_len`.
    fn parse_start(file: &[u8], file_len: u64) -> Result<Self, SafetensorsError> {
        let Some((length, rest)) = file.split_first_chunk() else {
            return Err(SafetensorsError::TooShort { file_len });
        };
        if rest.first() != Some(&b'{')
            && let Some(note) = foreign::note(&file[..file.len().min(foreign::N_BYTES)])
        {
            return Err(SafetensorsError::Foreign { note });
        }
        let n_bytes = u64::from_le_bytes(*length);
        let remaining = file_len - LENGTH_BYTES;
        if MAX_HEADER_BYTES < n_bytes {
            return Err(SafetensorsError::TooLong { n_bytes });
        }
        if remaining < n_bytes {
            return Err(SafetensorsError::BadLength { n_bytes, remaining });
        }
        let json = &rest[..n_bytes as usize];
        let bad = |reason: String| SafetensorsError::BadHeader { reason };
        if json.first() != Some(&b'{') {
            return Err(bad("it does not start with `{`".to_owned()));
        }
        let Entries(entries) = serde_json::from_slice(json).map_err(|err| bad(err.to_string()))?;
        let mut tensors = IndexMap::with_capacity(entries.len());
        for (tensor, entry) in entries {
            match entry.check() {
                Ok(checked) => tensors.insert(tensor, checked),
                Err(reason) => return Err(SafetensorsError::BadTensor { tensor, reason }),
            };
        }
        check_cover(&tensors, remaining - n_bytes)?;
        Ok(Self {
            tensors,
            data_start: LENGTH_BYTES + n_bytes,
        })
    }
}

/// Bits of one element of each type of the format, as in safetensors 0.8.
const BITS: [(&str, u64); 22] = [
    ("BOOL", 8),
    ("F4", 4),
    ("F6_E2M3", 6),
    ("F6_E3M2", 6),
    ("U8", 8),
    ("I8", 8),
    ("F8_E5M2", 8),
    ("F8_E4M3", 8),
    ("F8_E5M2FNUZ", 8),
    ("F8_E4M3FNUZ", 8),
    ("F8_E8M0", 8),
    ("I16", 16),
    ("U16", 16),
    ("F16", 16),
    ("BF16", 16),
    ("I32", 32),
    ("U32", 32),
    ("F32", 32),
    ("C64", 64),
    ("F64", 64),
    ("I64", 64),
    ("U64", 64),
];

/// One tensor as the header describes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Shape,
    data_offsets: [u64; 2],
}

impl Entry {
    fn check(self) -> Result<Tensor, String> {
        let Some((dtype, bits)) = BITS.iter().find(|(name, _)| *name == self.dtype) else {
            return Err(format!("its `dtype` {:?} is not known", self.dtype));
        };
        let Self {
            shape: Shape(shape),
            data_offsets: [start, end],
            ..
        } = self;
        let n_bits = shape
            .iter()
            .try_fold(*bits, |product, n| product.checked_mul(*n))
            .ok_or_else(|| format!("the size of its shape {shape:?} overflows"))?;
        if !n_bits.is_multiple_of(8) {
            return Err(format!("{n_bits} bits are no whole number of bytes"));
        }
        if end.checked_sub(start) != Some(n_bits / 8) {
            return Err(format!(
                "its `data_offsets` {start} and {end} do not fit its shape {shape:?} of {dtype}"
            ));
        }
        Ok(Tensor {
            dtype,
            shape,
            start,
            end,
        })
    }
}

/// The lengths of a tensor's dimensions, at most [`MAX_DIMENSIONS`].
struct Shape(Vec<u64>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Lengths;
        impl<'de> Visitor<'de> for Lengths {
            type Value = Shape;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, "a list of at most {MAX_DIMENSIONS} counts")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Shape, A::Error> {
                let mut shape = Vec::new();
                while let Some(n) = list.next_element()? {
                    if shape.len() == MAX_DIMENSIONS {
                        return Err(A::Error::invalid_length(MAX_DIMENSIONS + 1, &self));
                    }
                    shape.push(n);
                }
                Ok(Shape(shape))
            }
        }
        deserializer.deserialize_seq(Lengths)
    }
}

/// Every entry of the header but the metadata, each name once.
struct Entries(IndexMap<String, Entry>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Entries;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = IndexMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == METADATA {
                        map.next_value::<Texts>()?;
                        continue;
                    }
                    let entry = map
                        .next_value()
                        .map_err(|err| A::Error::custom(format!("the tensor `{name}`: {err}")))?;
                    if entries.contains_key(&name) {
                        return Err(A::Error::custom(format!(
                            "the tensor `{name}` occurs twice"
                        )));
                    }
                    entries.insert(name, entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// An object of texts, which are read and forgotten.
struct Texts;

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Texts;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, "an object of texts under `{METADATA}`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts, A::Error> {
                while map.next_entry::<String, String>()?.is_some() {}
                Ok(Texts)
            }
        }
        deserializer.deserialize_map(Object)
    }
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
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A file with this header and `n_bytes` zero bytes of data.
    fn file(header: &str, n_bytes: usize) -> Vec<u8> {
        let mut out = (header.len() as u64).to_le_bytes().to_vec();
        out.extend(header.as_bytes());
        out.resize(out.len() + n_bytes, 0);
        out
    }

    fn tensor(dtype: &str, shape: &[u64], offsets: &[u64]) -> Value {
        json!({"dtype": dtype, "shape": shape, "data_offsets": offsets})
    }

    fn message(file: &[u8]) -> String {
        Header::parse(file).unwrap_err().to_string()
    }

    #[test]
    fn a_header_reads_back() {
        let header = json!({"__metadata__": {"format": "pt"},
            "b": tensor("F32", &[2, 3], &[4, 28]), "a": tensor("BF16", &[2], &[0, 4]),
            "none": tensor("F16", &[0, 7], &[28, 28]), "scalar": tensor("U8", &[], &[28, 29]),
            "half": tensor("F4", &[4], &[29, 31])});
        let it = Header::parse(&file(&format!("{header}   "), 31)).unwrap();
        assert_eq!(it.tensors["b"].shape, [2, 3]);
        assert_eq!(
            (it.tensors["b"].n_elements(), it.tensors["a"].n_bytes()),
            (6, 4)
        );
        assert_eq!(
            (
                it.tensors["scalar"].n_elements(),
                it.tensors["scalar"].is_float()
            ),
            (1, false)
        );
        assert_eq!(it.tensors["none"].n_elements(), 0);
    }

    #[test]
    fn broken_tensors_are_refused_with_their_name() {
        let one = |dtype: &str, shape: &[u64], offsets: &[u64]| json!({"a": tensor(dtype, shape, offsets)});
        let table: &[(Value, usize, &str)] = &[
            (
                one("F32", &[1], &[4, 8]),
                8,
                "`a` starts at 4, but the one before ends at 0",
            ),
            (
                json!({"a": tensor("F32", &[1], &[0, 4]), "b": tensor("F32", &[1], &[2, 6])}),
                6,
                "`b` starts at 2, but the one before ends at 4",
            ),
            (
                json!({"a": tensor("F32", &[1], &[0, 4]), "b": tensor("F32", &[1], &[0, 4])}),
                4,
                "`b` starts at 0, but the one before ends at 4",
            ),
            (
                one("F32", &[1], &[0, 4]),
                5,
                "take 4 bytes of data, but the file holds 5",
            ),
            (one("F32", &[1], &[0, 4]), 3, "cut short"),
            (
                one("F32", &[2], &[0, 4]),
                4,
                "`a` is not valid: its `data_offsets` 0 and 4 do not fit its shape [2] of F32",
            ),
            (
                one("BF16", &[1], &[0, 4]),
                4,
                "do not fit its shape [1] of BF16",
            ),
            (one("F32", &[1], &[4, 0]), 4, "do not fit its shape"),
            (one("F32", &[1 << 63, 8], &[0, 0]), 0, "overflows"),
            (one("F32", &[1 << 62], &[0, 0]), 0, "overflows"),
            (one("F32", &[u64::MAX, 0], &[0, 0]), 0, "overflows"),
            (
                one("F8_E9", &[1], &[0, 4]),
                4,
                "`a` is not valid: its `dtype` \"F8_E9\" is not known",
            ),
            (
                one("F4", &[3], &[0, 2]),
                2,
                "12 bits are no whole number of bytes",
            ),
            (
                one("F32", &[1; 9], &[0, 4]),
                4,
                "`a`: invalid length 9, expected a list of at most 8 counts",
            ),
            (one("F32", &[1], &[0, 4, 8]), 8, "`a`: "),
            (
                json!({"a": {"dtype": "F32", "shape": [1]}}),
                4,
                "missing field `data_offsets`",
            ),
            (
                json!({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}),
                4,
                "`a`: invalid",
            ),
            (
                json!({"a": {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]}}),
                4,
                "`a`: invalid",
            ),
            (
                json!({"a": {"dtype": "F32", "shape": 1, "data_offsets": [0, 4]}}),
                4,
                "a list of at most 8",
            ),
            (
                json!({"a": {"dtype": 4, "shape": [1], "data_offsets": [0, 4]}}),
                4,
                "`a`: invalid",
            ),
            (json!({"a": {"x": 4}}), 4, "unknown field `x`"),
            (json!({"a": [[[]]]}), 4, "`a`: "),
            (json!({"__metadata__": {"format": 1}}), 0, "invalid type"),
            (json!({"__metadata__": []}), 0, "texts under `__metadata__`"),
        ];
        for (header, n_bytes, expected) in table {
            let got = message(&file(&header.to_string(), *n_bytes));
            assert!(got.contains(expected), "{header}: {got}");
        }
    }

    #[test]
    fn broken_headers_are_refused() {
        let a = r#""a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#;
        let table = [
            (format!("{{{a},{a}}}"), "the tensor `a` occurs twice"),
            ("[]".to_owned(), "does not start with `{`"),
            (" {}".to_owned(), "does not start with `{`"),
            (String::new(), "does not start with `{`"),
            (format!("{{{a}"), "EOF while parsing"),
            (format!("{{{a}}} x"), "trailing characters"),
            (
                format!("{{\"a\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000)),
                "`a`: ",
            ),
        ];
        for (header, expected) in table {
            let got = message(&file(&header, 1));
            assert!(got.contains(expected), "{got}");
        }
        let mut not_text = file(&format!("{{{a}}}"), 1);
        not_text[10] = 0xff;
        assert!(message(&not_text).contains("the header is not valid"));
    }

    #[test]
    fn lengths_are_compared_before_anything_is_read() {
        let with = |n: u64, rest: &[u8]| [&n.to_le_bytes()[..], rest].concat();
        assert!(message(b"").contains("0 bytes, too few"));
        assert!(message(&[1; 7]).contains("7 bytes, too few"));
        for n in [u64::MAX, 1 << 63, 1 << 32, 100_000_001] {
            assert!(message(&with(n, b"{}")).contains("at most 100000000"));
        }
        for n in [3, 100_000_000] {
            assert!(message(&with(n, b"{}")).contains("but 2 follow its length"));
        }
    }

    #[test]
    fn other_files_are_refused_by_name() {
        for (start, expected) in [
            (
                &b"version https://git-lfs.github.com/spec/v1\n"[..],
                "git lfs pull",
            ),
            (b"PK\x03\x04\x00\x00\x08\x08\x00\x00", "can run code"),
            (b"<!doctype html><html>", "a web page"),
        ] {
            assert!(message(start).contains(expected), "{}", message(start));
        }
    }
}
