//! Digests of rows: equal fields, equal digest, whatever the order of columns.

use serde_json::Value;

use super::Fields;

/// A BLAKE3 digest.
pub type Digest = [u8; 32];

/// Returns the digest of a row's fields.
///
/// Fields are hashed in the order of their names (also inside nested objects),
/// numbers by their digits as written, so `1.10` and `1.1` differ, and so do the
/// text `"1"` and the number `1`.
pub fn fields_digest(fields: &Fields) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hash_object(&mut hasher, fields);
    *hasher.finalize().as_bytes()
}

/// Returns the lower-case hexadecimal form of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let pair = |byte: &u8| {
        [
            DIGITS[usize::from(byte >> 4)],
            DIGITS[usize::from(byte & 15)],
        ]
    };
    bytes.iter().flat_map(pair).map(char::from).collect()
}

fn hash_object(hasher: &mut blake3::Hasher, fields: &Fields) {
    let mut keys: Vec<&String> = fields.keys().collect();
    keys.sort_unstable();
    hash_head(hasher, b'o', keys.len());
    for key in keys {
        hash_text(hasher, b's', key);
        hash_value(hasher, &fields[key.as_str()]);
    }
}

fn hash_value(hasher: &mut blake3::Hasher, value: &Value) {
    match value {
        Value::Null => hash_head(hasher, b'0', 0),
        Value::Bool(value) => hash_head(hasher, b'b', usize::from(*value)),
        Value::Number(number) => hash_text(hasher, b'n', number.as_str()),
        Value::String(text) => hash_text(hasher, b's', text),
        Value::Array(items) => {
            hash_head(hasher, b'a', items.len());
            for item in items {
                hash_value(hasher, item);
            }
        }
        Value::Object(fields) => hash_object(hasher, fields),
    }
}

fn hash_text(hasher: &mut blake3::Hasher, kind: u8, text: &str) {
    hash_head(hasher, kind, text.len());
    hasher.update(text.as_bytes());
}

/// A kind and a length in front of every value keep `["ab"]` and `["a", "b"]` apart.
fn hash_head(hasher: &mut blake3::Hasher, kind: u8, length: usize) {
    hasher.update(&[kind]);
    hasher.update(&(length as u64).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(json: &str) -> Digest {
        fields_digest(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn the_order_of_columns_does_not_change_a_digest() {
        let (a, b) = (
            r#"{"x":1,"y":{"p":2,"q":3}}"#,
            r#"{"y":{"q":3,"p":2},"x":1}"#,
        );
        assert_eq!(digest(a), digest(b));
    }

    #[test]
    fn different_values_have_different_digests() {
        let rows = [
            r#"{"x":1}"#,
            r#"{"x":"1"}"#,
            r#"{"x":1.0}"#,
            r#"{"x":null}"#,
            r#"{"x":false}"#,
            r#"{"x":["ab"]}"#,
            r#"{"x":["a","b"]}"#,
            r#"{"x":[]}"#,
            r#"{"x":{}}"#,
            r#"{"xs":""}"#,
            "{}",
        ];
        let digests: std::collections::HashSet<Digest> = rows.iter().map(|it| digest(it)).collect();
        assert_eq!(digests.len(), rows.len());
    }

    #[test]
    fn hex_is_lower_case_and_padded() {
        assert_eq!(hex(&[0, 10, 255]), "000aff");
    }
}
