//! Reads and checks the header of a GGUF file: metadata and where each tensor lies.
//!
//! Promise: after [`Gguf::parse`] every tensor's byte range lies inside the file,
//! is aligned, overlaps no other, and has exactly the length its type and shape
//! ask for; no key and no tensor name occurs twice. A file that breaks one of
//! these rules is refused with the name and the offset of what broke it. The work
//! and the memory are bounded whatever the bytes say.
//!
//! Limits: versions 2 and 3, little-endian; no weights are read or decoded here,
//! and what a key means is for the reader to know. Format:
//! <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod cursor;
mod error;
mod file_type;
mod tensor_type;
mod tensors;
#[cfg(test)]
pub(crate) mod testing;
mod value;

use std::ops::Range;

use indexmap::IndexMap;

use super::foreign;

use self::cursor::Cursor;
pub use self::error::GgufError;
pub use self::file_type::file_type_name;
pub use self::tensor_type::TensorType;
pub use self::tensors::TensorInfo;
use self::tensors::{place, read_descriptions};
pub use self::value::{Array, Value};

/// Largest header that is read, in bytes: metadata and tensor descriptions.
pub const MAX_HEADER_BYTES: usize = 64 << 20;
/// Most tensors a file may describe.
pub const MAX_TENSORS: u64 = 1 << 20;
/// Most metadata keys a file may have.
pub const MAX_KEYS: u64 = 1 << 16;
/// Most elements in one metadata array; a vocabulary is one.
pub const MAX_ARRAY_LEN: u64 = 1 << 22;
/// Deepest nesting of metadata arrays.
pub const MAX_ARRAY_DEPTH: usize = 4;
/// Most bytes of memory that one byte of a metadata array takes once it is read. Empty
/// arrays inside an array take most; keys and tensors are bounded by their counts.
pub const MEMORY_FACTOR: usize = 6;

const MAGIC: &[u8] = b"GGUF";
const DEFAULT_ALIGNMENT: u64 = 32;
/// The format asks for a multiple of 8; with it every tensor also lies where its
/// elements may be read in place.
const MIN_ALIGNMENT: u64 = 8;

/// A metadata value and the bytes it was read from.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    value: Value,
    range: Range<usize>,
}

/// The checked header of a GGUF file.
#[derive(Debug, Clone, PartialEq)]
pub struct Gguf {
    version: u32,
    metadata: IndexMap<String, Entry>,
    tensors: IndexMap<String, TensorInfo>,
}

impl Gguf {
    /// Reads the header of `file`, which holds the whole file's bytes.
    ///
    /// # Errors
    ///
    /// [`GgufError`] names the key or tensor that breaks a rule, and where.
    pub fn parse(file: &[u8]) -> Result<Self, GgufError> {
        Self::parse_start(file, file.len() as u64)
    }

    /// Reads the header out of the first bytes of a file of `n_bytes`.
    pub(super) fn parse_start(start: &[u8], n_bytes: u64) -> Result<Self, GgufError> {
        let header = &start[..start.len().min(MAX_HEADER_BYTES)];
        let mut cursor = Cursor::new(header);
        let magic = &header[..header.len().min(MAGIC.len())];
        if magic != MAGIC {
            return Err(GgufError::BadMagic {
                found: magic.escape_ascii().to_string(),
                note: foreign::note(&header[..header.len().min(foreign::N_BYTES)]),
            });
        }
        cursor.take(MAGIC.len() as u64, "magic")?;
        let version = cursor.u32("version")?;
        if !matches!(version, 2 | 3) {
            return Err(GgufError::BadVersion { version });
        }
        let n_tensors = at_most(cursor.u64("tensor count")?, MAX_TENSORS, "tensors")?;
        let n_keys = at_most(cursor.u64("key count")?, MAX_KEYS, "metadata keys")?;
        let metadata = read_metadata(&mut cursor, n_keys)?;
        let alignment = alignment(&metadata)?;
        let described = read_descriptions(&mut cursor, n_tensors)?;
        let data_start = (cursor.position() as u64)
            .checked_next_multiple_of(alignment)
            .expect("a header of at most 64 MiB and an alignment below 2^32");
        let tensors = place(described, data_start, alignment, n_bytes)?;
        Ok(Self {
            version,
            metadata,
            tensors,
        })
    }

    /// The format's version: 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Every metadata key with its value, in file order.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.metadata
            .iter()
            .map(|(key, entry)| (key.as_str(), &entry.value))
    }

    /// Every tensor by name, in file order.
    pub fn tensors(&self) -> &IndexMap<String, TensorInfo> {
        &self.tensors
    }

    /// The value of `key`, if the file has it.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key).map(|entry| &entry.value)
    }

    /// The bytes of the file in which the value of `key` stands, its type number included.
    pub fn value_range(&self, key: &str) -> Option<Range<usize>> {
        self.metadata.get(key).map(|entry| entry.range.clone())
    }

    /// The text under `key`.
    ///
    /// # Errors
    ///
    /// The key is missing or is no text.
    pub fn text(&self, key: &str) -> Result<&str, GgufError> {
        self.required(key, "a text", Value::as_text)
    }

    /// The count under `key`.
    ///
    /// # Errors
    ///
    /// The key is missing or is no integer of 0 or more.
    pub fn count(&self, key: &str) -> Result<u64, GgufError> {
        self.required(key, "an integer of 0 or more", Value::as_u64)
    }

    /// The float under `key`.
    ///
    /// # Errors
    ///
    /// The key is missing or is no float.
    pub fn float(&self, key: &str) -> Result<f64, GgufError> {
        self.required(key, "a float", Value::as_f64)
    }

    /// The texts under `key`.
    ///
    /// # Errors
    ///
    /// The key is missing or is no array of texts.
    pub fn texts(&self, key: &str) -> Result<&[String], GgufError> {
        self.required(key, "an array of texts", Value::as_texts)
    }

    /// The value under `key` read by `read`, or `None` where the key is absent.
    ///
    /// # Errors
    ///
    /// The key is there with a value that `read` does not accept.
    pub fn optional<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match read(value) {
            Some(it) => Ok(Some(it)),
            None => Err(GgufError::WrongKind {
                key: key.to_owned(),
                found: value.kind(),
                expected,
            }),
        }
    }

    fn required<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<T, GgufError> {
        self.optional(key, expected, read)?
            .ok_or_else(|| GgufError::MissingKey {
                key: key.to_owned(),
            })
    }
}

fn at_most(n: u64, most: u64, what: &str) -> Result<u64, GgufError> {
    if most < n {
        Err(GgufError::TooMany {
            what: what.to_owned(),
            n,
            most,
        })
    } else {
        Ok(n)
    }
}

fn read_metadata(cursor: &mut Cursor, n: u64) -> Result<IndexMap<String, Entry>, GgufError> {
    let mut metadata = IndexMap::new();
    for _ in 0..n {
        let key = cursor.text("a metadata key")?;
        let start = cursor.position();
        let value = cursor.value(&key)?;
        let entry = Entry {
            value,
            range: start..cursor.position(),
        };
        if metadata.insert(key.clone(), entry).is_some() {
            return Err(GgufError::DuplicateKey { key });
        }
    }
    Ok(metadata)
}

fn alignment(metadata: &IndexMap<String, Entry>) -> Result<u64, GgufError> {
    match metadata.get("general.alignment").map(|entry| &entry.value) {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(Value::Unsigned(n))
            if n.is_power_of_two() && MIN_ALIGNMENT <= *n && u32::try_from(*n).is_ok() =>
        {
            Ok(*n)
        }
        Some(Value::Unsigned(n)) => Err(GgufError::BadAlignment {
            found: n.to_string(),
        }),
        Some(other) => Err(GgufError::BadAlignment {
            found: other.kind().to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{Builder, bytes_of};
    use super::*;

    fn small() -> Builder {
        Builder::new()
            .key("general.architecture", &Value::Text("llama".to_owned()))
            .key("llama.context_length", &Value::Unsigned(64))
            .key("llama.rope.freq_base", &Value::F32(10_000.0))
            .key("tokenizer.ggml.add_bos_token", &Value::Bool(true))
            .key(
                "t",
                &Value::Array(Array::Text(vec!["a".to_owned(), "é".to_owned()])),
            )
            .key("n", &Value::Array(Array::Signed(vec![-1, 3])))
            .key("b", &Value::Array(Array::Bytes(vec![0, 255])))
            .key("i", &Value::Array(Array::SignedBytes(vec![-1, 3])))
            .tensor("a", &[32, 3], 3, &[7; 60])
            .tensor("b", &[5], 0, &[1; 20])
    }

    #[test]
    fn a_header_reads_back_as_written() {
        let file = small().build();
        let gguf = Gguf::parse(&file).unwrap();
        assert_eq!(gguf.version(), 3);
        assert_eq!(gguf.text("general.architecture"), Ok("llama"));
        assert_eq!(gguf.count("llama.context_length"), Ok(64));
        assert_eq!(gguf.float("llama.rope.freq_base"), Ok(10_000.0));
        assert_eq!(
            gguf.get("tokenizer.ggml.add_bos_token").unwrap().as_bool(),
            Some(true)
        );
        assert_eq!(gguf.texts("t").unwrap(), ["a", "é"]);
        assert_eq!(
            gguf.get("n"),
            Some(&Value::Array(Array::Signed(vec![-1, 3])))
        );
        let a = &gguf.tensors()["a"];
        // 3 rows of one Q4_1 block: 3 * 20 bytes.
        assert_eq!((a.n_elements(), a.n_bytes, a.offset % 32), (96, 60, 0));
        assert_eq!(&file[a.range()], [7; 60]);
        assert_eq!(&file[gguf.tensors()["b"].range()], [1; 20]);
        let range = gguf.value_range("llama.context_length").unwrap();
        assert_eq!(
            gguf.get("b"),
            Some(&Value::Array(Array::Bytes(vec![0, 255])))
        );
        assert_eq!(
            gguf.get("b").unwrap().as_unsigned_array(),
            Some(vec![0, 255])
        );
        let signed = gguf.get("i").unwrap();
        assert_eq!(
            (signed, signed.as_unsigned_array()),
            (&Value::Array(Array::SignedBytes(vec![-1, 3])), None)
        );
        // Type number 10 (u64), then the value.
        assert_eq!(file[range], bytes_of(&Value::Unsigned(64))[..]);
    }

    #[test]
    fn absent_and_mistyped_keys_are_named() {
        let gguf = Gguf::parse(&small().build()).unwrap();
        assert_eq!(
            gguf.count("x").unwrap_err().to_string(),
            "the metadata key `x` is missing"
        );
        assert_eq!(
            gguf.count("general.architecture").unwrap_err().to_string(),
            "the metadata key `general.architecture` is a text, expected an integer of 0 or more"
        );
    }

    #[test]
    fn broken_tensors_are_refused_with_their_name() {
        let table: &[(&str, Builder, &str)] = &[
            (
                "zero",
                Builder::new().tensor("w", &[0], 0, &[]),
                "dimension of 0",
            ),
            (
                "five",
                Builder::new().tensor("w", &[1; 5], 0, &[0; 4]),
                "5 dimensions",
            ),
            (
                "none",
                Builder::new().tensor("w", &[], 0, &[0; 4]),
                "0 dimensions",
            ),
            (
                "wrap",
                Builder::new().tensor("w", &[1 << 32, 1 << 32], 0, &[]),
                "overflows",
            ),
            (
                "bytes",
                Builder::new().tensor("w", &[1 << 62], 0, &[]),
                "overflows",
            ),
            (
                "block",
                Builder::new().tensor("w", &[31], 3, &[0; 20]),
                "multiple of the 32",
            ),
            (
                "short",
                Builder::new().tensor("w", &[64], 0, &[0; 8]),
                "download cut short",
            ),
            (
                "twice",
                small().tensor("a", &[1], 0, &[0; 4]),
                "`a` occurs twice",
            ),
            (
                "skew",
                Builder::new().tensor_at("w", &[1], 0, 4),
                "alignment 32",
            ),
            (
                "over",
                small().tensor_at("c", &[1], 0, 32),
                "`a` and `c` overlap",
            ),
            (
                "far",
                small().tensor_at("c", &[1], 0, u64::MAX - 31),
                "overflows",
            ),
            (
                "key",
                small().key("n", &Value::Bool(true)),
                "`n` occurs twice",
            ),
            ("zero alignment", aligned(0), "`general.alignment` is 0"),
            ("odd alignment", aligned(48), "`general.alignment` is 48"),
            ("small alignment", aligned(4), "`general.alignment` is 4"),
            ("wide alignment", aligned(1 << 40), "a 32-bit unsigned"),
            (
                "huge alignment",
                aligned(1 << 31).tensor("w", &[1], 0, &[0; 4]),
                "ends at byte 2147483652",
            ),
            (
                "text alignment",
                Builder::new().key("general.alignment", &Value::Text("32".to_owned())),
                "`general.alignment` is a text",
            ),
        ];
        for (name, file, expected) in table {
            let message = Gguf::parse(&file.build()).unwrap_err().to_string();
            assert!(message.contains(expected), "{name}: {message}");
        }
    }

    fn aligned(alignment: u64) -> Builder {
        Builder::new().key("general.alignment", &Value::Unsigned(alignment))
    }

    #[test]
    fn other_formats_and_versions_are_refused_by_name() {
        let mut file = small().build();
        file[4] = 1;
        assert_eq!(
            Gguf::parse(&file),
            Err(GgufError::BadVersion { version: 1 })
        );
        file[4..8].copy_from_slice(&3_u32.to_be_bytes());
        assert!(
            Gguf::parse(&file)
                .unwrap_err()
                .to_string()
                .contains("big-endian")
        );
        for (start, note) in [
            (&b"tjgg"[..], "starts with `tjgg`"),
            (b"tjgg", "old format GGJT"),
            (b"lmgg", "old format GGML"),
            (b"algg", "old format GGLA"),
            (b"PK\x03\x04", "can run code"),
            (b"version https://git-lfs", "git lfs pull"),
            (b"", "``"),
        ] {
            assert!(Gguf::parse(start).unwrap_err().to_string().contains(note));
        }
    }

    /// A file of 57 bytes with alignment 0 makes some readers divide by zero.
    #[test]
    fn hostile_lengths_are_refused_wherever_they_stand() {
        let file = small().build();
        for value in [0, 1, 1 << 31, u64::from(u32::MAX), 1 << 63, u64::MAX] {
            for offset in 8..file.len().saturating_sub(8) {
                let mut mutated = file.clone();
                mutated[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
                // No panic, no large allocation; most are errors.
                let _ = Gguf::parse(&mutated);
            }
        }
        for (offset, most) in [(8, MAX_TENSORS), (16, MAX_KEYS)] {
            let mut many = file.clone();
            many[offset..offset + 8].copy_from_slice(&(most + 1).to_le_bytes());
            let err = Gguf::parse(&many).unwrap_err();
            assert!(matches!(err, GgufError::TooMany { .. }), "{err}");
        }
        // An array of a million texts, in a few bytes: not one of them is read.
        let claim = [&8_u32.to_le_bytes()[..], &(1_u64 << 20).to_le_bytes()].concat();
        let claim = [&9_u32.to_le_bytes()[..], &claim].concat();
        let err = Gguf::parse(&Builder::new().raw_key("k", &claim).build()).unwrap_err();
        assert!(format!("{err:?}").contains("needed: 8388608"), "{err:?}");
        for n in 0..file.len() {
            assert!(
                Gguf::parse(&file[..n]).is_err(),
                "a file cut at {n} was accepted"
            );
        }
    }

    #[test]
    fn types_that_are_not_decoded_are_refused_by_name() {
        let table = [
            (9, "Q8_1"),
            (15, "Q8_K"),
            (16, "IQ2_XXS"),
            (17, "IQ2_XS"),
            (18, "IQ3_XXS"),
            (19, "IQ1_S"),
            (20, "IQ4_NL"),
            (21, "IQ3_S"),
            (22, "IQ2_S"),
            (23, "IQ4_XS"),
            (24, "I8"),
            (25, "I16"),
            (26, "I32"),
            (27, "I64"),
            (28, "F64"),
            (29, "IQ1_M"),
            (31, "Q4_0_4_4"),
            (34, "TQ1_0"),
            (35, "TQ2_0"),
            (39, "MXFP4"),
            (40, "NVFP4"),
            (41, "Q1_0"),
            (u32::MAX, "unknown"),
        ];
        for (id, name) in table {
            let file = small().tensor("blk.0.w", &[256], id, &[0; 512]).build();
            assert_eq!(
                Gguf::parse(&file).unwrap_err().to_string(),
                format!(
                    "the tensor `blk.0.w` has type {name} (ggml type {id}), which is not supported"
                )
            );
        }
    }

    #[test]
    fn texts_that_are_not_utf_8_are_refused_by_place() {
        let file = small().build();
        let at = |text: &str| {
            file.windows(text.len())
                .position(|it| it == text.as_bytes())
        };
        for (text, what) in [
            ("n\x09\0\0\0", "a metadata key"),
            ("llama\x14", "general.architecture"),
            ("b\x01\0\0\0\x05", "a tensor name"),
        ] {
            let mut broken = file.clone();
            broken[at(text).unwrap()] = 0xff;
            let message = Gguf::parse(&broken).unwrap_err().to_string();
            let expected = format!("the text of `{what}` at byte ");
            assert!(message.starts_with(&expected), "{message}");
        }
    }

    /// Bytes on the heap, from the capacities.
    fn heap(array: &Array) -> usize {
        match array {
            Array::Bytes(it) => it.capacity(),
            Array::SignedBytes(it) => it.capacity(),
            Array::Unsigned(it) => 8 * it.capacity(),
            Array::Signed(it) => 8 * it.capacity(),
            Array::Float(it) => 8 * it.capacity(),
            Array::Bool(it) => it.capacity(),
            Array::Text(it) => {
                size_of::<String>() * it.capacity() + it.iter().map(String::capacity).sum::<usize>()
            }
            Array::Array(it) => {
                size_of::<Array>() * it.capacity() + it.iter().map(heap).sum::<usize>()
            }
        }
    }

    /// The kinds of arrays that grow most when they are read.
    #[test]
    fn a_header_takes_memory_in_proportion_to_its_length() {
        let n = 1 << 20;
        let raw = |kind: u32, bytes: usize| {
            let mut value = 9_u32.to_le_bytes().to_vec();
            value.extend(kind.to_le_bytes());
            value.extend((n as u64).to_le_bytes());
            value.resize(value.len() + n * bytes, 0);
            Builder::new().raw_key("k", &value).build()
        };
        // 8-bit and 16-bit integers, bools, f32, empty texts, empty arrays.
        for (kind, bytes) in [
            (0, 1),
            (1, 1),
            (2, 2),
            (3, 2),
            (7, 1),
            (6, 4),
            (8, 8),
            (9, 12),
        ] {
            let file = raw(kind, bytes);
            let gguf = Gguf::parse(&file).unwrap();
            let Some(Value::Array(array)) = gguf.get("k") else {
                panic!("an array of kind {kind}");
            };
            assert!(heap(array) <= MEMORY_FACTOR * file.len(), "kind {kind}");
        }
    }

    #[test]
    fn deep_arrays_are_refused() {
        let mut array = Array::Bool(vec![true]);
        for _ in 0..MAX_ARRAY_DEPTH {
            array = Array::Array(vec![array]);
        }
        let file = Builder::new().key("deep", &Value::Array(array)).build();
        assert!(matches!(Gguf::parse(&file), Err(GgufError::TooDeep { .. })));
    }
}
