//! Why bytes are not a GGUF file: one variant per broken rule, naming what and where.

use super::{MAX_ARRAY_DEPTH, MIN_ALIGNMENT};

/// Why bytes are not a GGUF file that can be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "each field is named in its variant's message")]
pub enum GgufError {
    /// The file starts with something else.
    #[error("not a GGUF file: it starts with `{found}` instead of `GGUF`{}", clause(*.note))]
    BadMagic {
        found: String,
        /// What the file is, where its first bytes tell.
        note: Option<&'static str>,
    },
    /// A version that is not read.
    #[error("GGUF version {version} is not supported, only versions 2 and 3 are{}", version_note(*.version))]
    BadVersion { version: u32 },
    /// A length field asks for more bytes than there are.
    #[error(
        "`{what}` at byte {offset} needs {needed} bytes, but {remaining} are left in the header"
    )]
    Truncated {
        what: String,
        offset: usize,
        needed: u64,
        remaining: usize,
    },
    /// A count above its cap.
    #[error("{n} {what}, but at most {most} are accepted")]
    TooMany { what: String, n: u64, most: u64 },
    /// Arrays inside arrays inside arrays.
    #[error("the array `{key}` at byte {offset} is nested more than {MAX_ARRAY_DEPTH} deep")]
    TooDeep { key: String, offset: usize },
    /// Text that is not UTF-8.
    #[error("the text of `{what}` at byte {offset} is not UTF-8")]
    NotUtf8 { what: String, offset: usize },
    /// A truth value that is neither 0 nor 1.
    #[error("`{key}` at byte {offset} is a bool with value {value}, expected 0 or 1")]
    NotABool {
        key: String,
        offset: usize,
        value: u8,
    },
    /// A value type outside the format.
    #[error("`{key}` at byte {offset} has the unknown value type {kind}")]
    UnknownValueType {
        key: String,
        offset: usize,
        kind: u32,
    },
    /// The same key twice.
    #[error("the metadata key `{key}` occurs twice")]
    DuplicateKey { key: String },
    /// The same tensor name twice.
    #[error("the tensor `{tensor}` occurs twice")]
    DuplicateTensor { tensor: String },
    /// An alignment that nothing can be aligned to.
    #[error(
        "`general.alignment` is {found}, expected a power of two, at least {MIN_ALIGNMENT}, as a 32-bit unsigned integer"
    )]
    BadAlignment { found: String },
    /// A tensor with no dimension, or more than 4.
    #[error("the tensor `{tensor}` has {n} dimensions, expected 1 to 4")]
    BadDimensionCount { tensor: String, n: u32 },
    /// A dimension of length 0.
    #[error("the tensor `{tensor}` has the shape {shape:?}: a dimension of 0")]
    ZeroDimension { tensor: String, shape: Vec<u64> },
    /// A tensor type that cannot be decoded.
    #[error("the tensor `{tensor}` has type {name} (ggml type {id}), which is not supported")]
    UnsupportedType {
        tensor: String,
        name: &'static str,
        id: u32,
    },
    /// A row that is not a whole number of blocks.
    #[error(
        "the tensor `{tensor}` has rows of {row_len} weights, not a multiple of the {block_len} of a {name} block"
    )]
    PartialBlock {
        tensor: String,
        row_len: u64,
        block_len: u64,
        name: &'static str,
    },
    /// More weights than 64 bits count.
    #[error("the size of the tensor `{tensor}` with shape {shape:?} overflows")]
    SizeOverflow { tensor: String, shape: Vec<u64> },
    /// An offset that breaks the alignment.
    #[error(
        "the tensor `{tensor}` starts at offset {offset}, not a multiple of the alignment {alignment}"
    )]
    Unaligned {
        tensor: String,
        offset: u64,
        alignment: u64,
    },
    /// A tensor that ends after the file does.
    #[error(
        "the tensor `{tensor}` ends at byte {end}, but the file has {file_len} bytes; was the download cut short?"
    )]
    OutsideFile {
        tensor: String,
        end: u64,
        file_len: u64,
    },
    /// Two tensors that share bytes.
    #[error("the tensors `{first}` and `{second}` overlap at byte {offset}")]
    Overlap {
        first: String,
        second: String,
        offset: u64,
    },
    /// A tensor that a reader needs and the file lacks.
    #[error("the tensor `{tensor}` is missing")]
    MissingTensor { tensor: String },
    /// A tensor with a shape that a reader cannot use.
    #[error("the tensor `{tensor}` has the shape {shape:?}, expected {expected}")]
    WrongShape {
        tensor: String,
        shape: Vec<u64>,
        expected: &'static str,
    },
    /// One of several files that only together are a model.
    #[error(
        "the file is one of {n_parts} parts of a model; merge them with llama.cpp's `llama-gguf-split --merge`"
    )]
    Split { n_parts: u64 },
    /// A file that holds something beside a model, e.g. an adapter.
    #[error("the file holds no model but: {kind}")]
    NotAModel { kind: String },
    /// A key that a reader needs and the file lacks.
    #[error("the metadata key `{key}` is missing")]
    MissingKey { key: String },
    /// A key whose value is of another kind than a reader needs.
    #[error("the metadata key `{key}` is {found}, expected {expected}")]
    WrongKind {
        key: String,
        found: &'static str,
        expected: &'static str,
    },
}

fn clause(note: Option<&str>) -> String {
    note.map(|it| format!("; it is {it}")).unwrap_or_default()
}

fn version_note(version: u32) -> &'static str {
    match version {
        1 => "; convert the original model again",
        _ if matches!(version.swap_bytes(), 1..=3) => " (the file is big-endian)",
        _ => "",
    }
}
