//! Writes small GGUF files, right and wrong ones, for tests.

use super::value::{Array, Value};

/// Collects keys and tensors, then lays them out as a version 3 file.
#[derive(Clone, Default)]
pub(crate) struct Builder {
    n_keys: u64,
    keys: Vec<u8>,
    n_tensors: u64,
    descriptions: Vec<u8>,
    data: Vec<u8>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a metadata entry.
    pub(crate) fn key(self, key: &str, value: &Value) -> Self {
        self.raw_key(key, &bytes_of(value))
    }

    /// Adds a metadata entry whose type number and value are `bytes`.
    pub(crate) fn raw_key(mut self, key: &str, bytes: &[u8]) -> Self {
        self.n_keys += 1;
        push_text(&mut self.keys, key);
        self.keys.extend(bytes);
        self
    }

    /// Adds a tensor whose bytes follow those of the one before.
    pub(crate) fn tensor(mut self, name: &str, shape: &[u64], id: u32, bytes: &[u8]) -> Self {
        self.data.resize(self.data.len().next_multiple_of(32), 0);
        let offset = self.data.len() as u64;
        self.data.extend(bytes);
        self.tensor_at(name, shape, id, offset)
    }

    /// Adds a tensor that claims to start at `offset`, without bytes of its own.
    pub(crate) fn tensor_at(mut self, name: &str, shape: &[u64], id: u32, offset: u64) -> Self {
        self.n_tensors += 1;
        push_text(&mut self.descriptions, name);
        self.descriptions.extend((shape.len() as u32).to_le_bytes());
        for n in shape {
            self.descriptions.extend(n.to_le_bytes());
        }
        self.descriptions.extend(id.to_le_bytes());
        self.descriptions.extend(offset.to_le_bytes());
        self
    }

    /// The file's bytes.
    pub(crate) fn build(&self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(3_u32.to_le_bytes());
        file.extend(self.n_tensors.to_le_bytes());
        file.extend(self.n_keys.to_le_bytes());
        file.extend(&self.keys);
        file.extend(&self.descriptions);
        if !self.data.is_empty() {
            file.resize(file.len().next_multiple_of(32), 0);
        }
        file.extend(&self.data);
        file
    }
}

/// A value with its type number, as it stands in a file.
pub(crate) fn bytes_of(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    match value {
        Value::Unsigned(n) => {
            out.extend(10_u32.to_le_bytes());
            out.extend(n.to_le_bytes());
        }
        Value::Signed(n) => {
            out.extend(11_u32.to_le_bytes());
            out.extend(n.to_le_bytes());
        }
        Value::F32(x) => {
            out.extend(6_u32.to_le_bytes());
            out.extend(x.to_le_bytes());
        }
        Value::F64(x) => {
            out.extend(12_u32.to_le_bytes());
            out.extend(x.to_le_bytes());
        }
        Value::Bool(it) => {
            out.extend(7_u32.to_le_bytes());
            out.push(u8::from(*it));
        }
        Value::Text(text) => {
            out.extend(8_u32.to_le_bytes());
            push_text(&mut out, text);
        }
        Value::Array(array) => {
            out.extend(9_u32.to_le_bytes());
            push_array(&mut out, array);
        }
    }
    out
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn push_array(out: &mut Vec<u8>, array: &Array) {
    let (kind, n) = match array {
        Array::Bytes(it) => (0_u32, it.len()),
        Array::SignedBytes(it) => (1, it.len()),
        Array::Unsigned(it) => (10, it.len()),
        Array::Signed(it) => (11, it.len()),
        Array::Float(it) => (12, it.len()),
        Array::Bool(it) => (7, it.len()),
        Array::Text(it) => (8, it.len()),
        Array::Array(it) => (9, it.len()),
    };
    out.extend(kind.to_le_bytes());
    out.extend((n as u64).to_le_bytes());
    match array {
        Array::Bytes(it) => out.extend(it),
        Array::SignedBytes(it) => out.extend(it.iter().map(|n| n.to_le_bytes()[0])),
        Array::Unsigned(it) => it.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::Signed(it) => it.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::Float(it) => it.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::Bool(it) => out.extend(it.iter().map(|it| u8::from(*it))),
        Array::Text(it) => it.iter().for_each(|text| push_text(out, text)),
        Array::Array(it) => it.iter().for_each(|array| push_array(out, array)),
    }
}
