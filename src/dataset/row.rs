//! Rows of a file, each packed into one piece of memory.
//!
//! A map of values takes several times the bytes of its texts, and a dataset may have a million
//! rows. A row therefore holds its fields as bytes, about as many as the file has for it, and
//! unpacks them where they are read: what comes back is what was put in, digit by digit.
//!
//! A value is a kind byte, then what it needs: texts, digits and names behind their length, lists
//! and objects behind the number of their parts. Lengths are LEB128. The bytes never leave the
//! process, so they carry no version.

use serde_json::{Number, Value};

use super::digest::fields_digest;
use super::{Digest, Fields};

/// One row of a file.
#[derive(Clone, PartialEq)]
pub struct Row {
    /// The values by name, packed.
    packed: Box<[u8]>,
    /// The line on which the row starts, from 1; for Parquet the row's number.
    pub source_line: usize,
    /// Digest of the fields; the order of the columns does not matter.
    pub digest: Digest,
}

impl Row {
    /// Makes a row and its digest.
    pub(super) fn new(fields: &Fields, source_line: usize) -> Self {
        Self {
            packed: packed(fields),
            source_line,
            digest: fields_digest(fields),
        }
    }

    /// The values by name, in the order of the file.
    pub fn fields(&self) -> Fields {
        Reader(&self.packed).fields()
    }

    /// The value of one field, if the row has it.
    pub fn field(&self, name: &str) -> Option<Value> {
        let mut reader = Reader(&self.packed);
        for _ in 0..reader.length() {
            let is_it = reader.text() == name;
            let value = reader.value();
            if is_it {
                return Some(value);
            }
        }
        None
    }

    /// The names of the fields, in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let mut reader = Reader(&self.packed);
        (0..reader.length()).map(move |_| {
            let name = reader.text();
            reader.skip();
            name
        })
    }

    /// About how many bytes the row takes in memory, and had in its file.
    pub fn n_bytes(&self) -> usize {
        self.packed.len()
    }

    /// Replaces one field; the digest stays that of the file's row.
    pub fn set(&mut self, name: &str, value: Value) {
        let mut fields = self.fields();
        fields.insert(name.to_owned(), value);
        self.packed = packed(&fields);
    }
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Row")
            .field("fields", &self.fields())
            .field("source_line", &self.source_line)
            .finish_non_exhaustive()
    }
}

fn packed(fields: &Fields) -> Box<[u8]> {
    let mut bytes = Vec::new();
    put_fields(&mut bytes, fields);
    bytes.into_boxed_slice()
}

fn put_fields(bytes: &mut Vec<u8>, fields: &Fields) {
    put_length(bytes, fields.len());
    for (name, value) in fields {
        put_text(bytes, name);
        put_value(bytes, value);
    }
}

fn put_value(bytes: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => bytes.push(b'0'),
        Value::Bool(false) => bytes.push(b'f'),
        Value::Bool(true) => bytes.push(b't'),
        Value::Number(number) => {
            bytes.push(b'n');
            put_text(bytes, number.as_str());
        }
        Value::String(text) => {
            bytes.push(b's');
            put_text(bytes, text);
        }
        Value::Array(items) => {
            bytes.push(b'a');
            put_length(bytes, items.len());
            for item in items {
                put_value(bytes, item);
            }
        }
        Value::Object(fields) => {
            bytes.push(b'o');
            put_fields(bytes, fields);
        }
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_length(bytes, text.len());
    bytes.extend_from_slice(text.as_bytes());
}

fn put_length(bytes: &mut Vec<u8>, mut length: usize) {
    while 0x80 <= length {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
}

/// Reads what was packed above; nothing else ever comes here, so it does not look for faults.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n);
        self.0 = rest;
        taken
    }

    fn length(&mut self) -> usize {
        let mut length = 0;
        for shift in (0..).step_by(7) {
            let byte = self.take(1)[0];
            length |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        length
    }

    fn text(&mut self) -> &'a str {
        let length = self.length();
        std::str::from_utf8(self.take(length)).expect("a text was packed")
    }

    fn fields(&mut self) -> Fields {
        let n_fields = self.length();
        let fields = (0..n_fields).map(|_| (self.text().to_owned(), self.value()));
        fields.collect()
    }

    fn value(&mut self) -> Value {
        match self.take(1)[0] {
            b'f' => Value::Bool(false),
            b't' => Value::Bool(true),
            // Parsing would spell an exponent anew.
            b'n' => Value::Number(Number::from_string_unchecked(self.text().to_owned())),
            b's' => Value::String(self.text().to_owned()),
            b'a' => {
                let n_items = self.length();
                Value::Array((0..n_items).map(|_| self.value()).collect())
            }
            b'o' => Value::Object(self.fields()),
            _ => Value::Null,
        }
    }

    /// Goes past a value.
    fn skip(&mut self) {
        match self.take(1)[0] {
            b'n' | b's' => {
                let length = self.length();
                self.take(length);
            }
            b'a' => (0..self.length()).for_each(|_| self.skip()),
            b'o' => {
                for _ in 0..self.length() {
                    let length = self.length();
                    self.take(length);
                    self.skip();
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<f64>()
                .prop_map(|it| Value::Number(Number::from_string_unchecked(it.to_string()))),
            "[0-9]{1,3}e[0-9]".prop_map(|it| Value::Number(Number::from_string_unchecked(it))),
            any::<String>().prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::vec((any::<String>(), inner), 0..4)
                    .prop_map(|it| Value::Object(it.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn fields_come_back_as_they_were_packed(
            fields in prop::collection::vec((any::<String>(), value()), 0..6),
        ) {
            let fields: Fields = fields.into_iter().collect();
            let row = Row::new(&fields, 1);
            let back = row.fields();
            // Equal as maps, and in the same order.
            prop_assert_eq!(
                back.iter().collect::<Vec<_>>(),
                fields.iter().collect::<Vec<_>>()
            );
            prop_assert_eq!(row.names().collect::<Vec<_>>(), fields.keys().collect::<Vec<_>>());
            for (name, value) in &fields {
                prop_assert_eq!(row.field(name), Some(value.clone()));
            }
        }
    }

    #[test]
    fn a_row_takes_about_the_bytes_of_its_texts() {
        let text = "x".repeat(300);
        let fields: Fields = [("text".to_owned(), Value::String(text))]
            .into_iter()
            .collect();
        // A count, a name of 4 behind its length, a kind, a length of two bytes, the text.
        assert_eq!(Row::new(&fields, 1).packed.len(), 1 + 5 + 1 + 2 + 300);
    }

    #[test]
    fn a_field_is_replaced_and_the_digest_stays() {
        let fields: Fields = [("a".to_owned(), Value::Null), ("b".to_owned(), Value::Null)]
            .into_iter()
            .collect();
        let mut row = Row::new(&fields, 1);
        let digest = row.digest;
        row.set("a", Value::Bool(true));
        assert_eq!(row.fields()["a"], Value::Bool(true));
        assert_eq!(row.names().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(row.digest, digest);
    }
}
