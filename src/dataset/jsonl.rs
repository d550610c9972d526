//! One JSON object per line, read strictly.
//!
//! The parser is `serde_json`; what it would let pass in silence is refused here:
//! a key written twice (it keeps the last), numbers beyond a 64-bit float, NUL.
//! Numbers keep their digits; an exponent is spelled `e+5`, `e-5`.

use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};

use super::{Fault, Faults, Fields, Row, forbidden, without_bom};

/// The only key of the map in which `serde_json` hands over a number when it
/// keeps digits as written.
const NUMBER_KEY: &str = "$serde_json::private::Number";

/// Marks our own messages inside a `serde_json` error.
const DUPLICATE: &str = "duplicate key ";
const TOO_LARGE: &str = "number too large ";

/// Reads all rows; faults go to `faults`.
pub(super) fn rows(bytes: &[u8], faults: &mut Faults) -> Vec<Row> {
    let (text, skipped) = without_bom(bytes);
    let end = text
        .iter()
        .rposition(|it| !it.is_ascii_whitespace())
        .map_or(0, |it| it + 1);
    let mut rows = Vec::new();
    let mut start = 0;
    // Blank lines at the end are past `end`, all others are faults.
    for (index, line) in text[..end].split(|it| *it == b'\n').enumerate() {
        if end == 0 || faults.is_full() {
            break;
        }
        match row(line.strip_suffix(b"\r").unwrap_or(line)) {
            Ok(fields) => rows.push(Row::new(&fields, index + 1)),
            Err((at, fault)) => faults.add(Some(index + 1), Some(skipped + start + at), fault),
        }
        start += line.len() + 1;
    }
    rows
}

/// Reads one line, or says at which of its bytes it goes wrong.
fn row(line: &[u8]) -> Result<Fields, (usize, Fault)> {
    let text = std::str::from_utf8(line).map_err(|error| {
        let at = error.valid_up_to();
        (at, Fault::NotUtf8 { value: line[at] })
    })?;
    if text.trim().is_empty() {
        return Err((0, Fault::BlankLine));
    }
    let mut parser = serde_json::Deserializer::from_str(text);
    let value = Strict
        .deserialize(&mut parser)
        .and_then(|value| parser.end().map(|()| value))
        .map_err(|error| explained(&error, text))?;
    if let Some(character) = forbidden_in(&value) {
        let at = text.find(character).unwrap_or(0); // 0: it was written as an escape.
        return Err((at, Fault::ForbiddenCharacter { character }));
    }
    match value {
        Value::Object(fields) => Ok(fields),
        other => Err((
            0,
            Fault::NotAnObject {
                got: type_name(&other),
            },
        )),
    }
}

/// Turns a parser's error into a fault and its offset in the line.
fn explained(error: &serde_json::Error, line: &str) -> (usize, Fault) {
    // Columns count bytes from 1; 0 means that the line ended too early.
    let at = error.column().saturating_sub(1).min(line.len());
    let message = error.to_string();
    let reason = message.split(" at line ").next().unwrap_or(&message);
    if let Some(key) = reason.strip_prefix(DUPLICATE) {
        return (
            key_start(line, at),
            Fault::DuplicateKey {
                key: key.to_owned(),
            },
        );
    }
    if let Some(number) = reason.strip_prefix(TOO_LARGE) {
        let is_digit = |it: &u8| it.is_ascii_digit() || b"+-.eE".contains(it);
        let length = line.as_bytes()[..=at.min(line.len() - 1)]
            .iter()
            .rev()
            .take_while(|it| is_digit(it))
            .count();
        return (
            at + 1 - length,
            Fault::NumberTooLarge {
                number: number.to_owned(),
            },
        );
    }
    if error.is_eof() {
        return (
            line.len(),
            Fault::NotJson {
                reason: "the line ends too early".to_owned(),
            },
        );
    }
    let word = word_at(line, at);
    let reason = match word {
        "NaN" | "Infinity" | "-Infinity" => format!("`{word}` is not a JSON number"),
        _ => reason.to_owned(),
    };
    (at, Fault::NotJson { reason })
}

/// The opening quote of the key whose closing quote is at `end`.
fn key_start(line: &str, end: usize) -> usize {
    let bytes = line.as_bytes();
    let is_escaped = |at: usize| {
        let backslashes = bytes[..at]
            .iter()
            .rev()
            .take_while(|it| **it == b'\\')
            .count();
        backslashes % 2 == 1
    };
    (0..end)
        .rev()
        .find(|&at| bytes[at] == b'"' && !is_escaped(at))
        .unwrap_or(end)
}

/// The unquoted word around byte `at`.
fn word_at(line: &str, at: usize) -> &str {
    let is_word = |it: &u8| it.is_ascii_alphanumeric() || *it == b'-';
    let bytes = line.as_bytes();
    let before = bytes[..at]
        .iter()
        .rev()
        .take_while(|it| is_word(it))
        .count();
    let after = bytes[at..].iter().take_while(|it| is_word(it)).count();
    line.get(at - before..at + after).unwrap_or_default()
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The first character in any key or text of `value` that data may not hold.
fn forbidden_in(value: &Value) -> Option<char> {
    match value {
        Value::String(text) => forbidden(text).map(|(_, it)| it),
        Value::Array(items) => items.iter().find_map(forbidden_in),
        Value::Object(fields) => fields.iter().find_map(|(key, value)| {
            forbidden(key)
                .map(|(_, it)| it)
                .or_else(|| forbidden_in(value))
        }),
        _ => None,
    }
}

/// Builds a JSON value, refusing keys that stand twice in one object.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, input: D) -> Result<Value, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut input: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = input.next_element_seed(Self)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut input: A) -> Result<Value, A::Error> {
        let mut fields = Fields::new();
        while let Some(key) = input.next_key::<String>()? {
            if key == NUMBER_KEY {
                return number(&input.next_value::<String>()?);
            }
            if fields.contains_key(&key) {
                return Err(A::Error::custom(format_args!("{DUPLICATE}{key}")));
            }
            fields.insert(key, input.next_value_seed(Self)?);
        }
        Ok(Value::Object(fields))
    }
}

/// Checks and keeps a number as written.
fn number<E: serde::de::Error>(digits: &str) -> Result<Value, E> {
    let number: Number = digits.parse().map_err(E::custom)?;
    match digits.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(Value::Number(number)),
        _ => Err(E::custom(format_args!("{TOO_LARGE}{digits}"))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::DatasetError;
    use super::*;

    /// The faults of a file, which must have some.
    fn faults(bytes: &[u8]) -> Vec<DatasetError> {
        let mut faults = Faults::default();
        rows(bytes, &mut faults);
        assert!(
            !faults.found.is_empty(),
            "accepted: {}",
            String::from_utf8_lossy(bytes)
        );
        faults.found
    }

    /// The rows of a file, which must be readable.
    fn read(text: &str) -> Vec<Row> {
        let mut faults = Faults::default();
        let rows = rows(text.as_bytes(), &mut faults);
        assert_eq!(faults.found, [], "{text}");
        rows
    }

    #[test]
    fn each_fault_is_named_with_its_line_and_byte() {
        let table: &[(&str, &[u8], &str)] = &[
            (
                "bad utf-8",
                b"{}\n{\"a\":\"\xff\"}",
                "line 2, byte 9: not valid UTF-8 (first bad byte 0xFF)",
            ),
            (
                "duplicate key",
                br#"{"a":1,"a":2}"#,
                "line 1, byte 7: key `a` stands twice in one object",
            ),
            (
                "nested duplicate",
                br#"{"x":[{"a":1,"a":2}]}"#,
                "line 1, byte 13: key `a` stands twice in one object",
            ),
            (
                "escaped duplicate",
                br#"{"a":1,"\u0061":2}"#,
                "line 1, byte 7: key `a` stands twice in one object",
            ),
            (
                "nan",
                br#"{"a":NaN}"#,
                "line 1, byte 5: not valid JSON: `NaN` is not a JSON number",
            ),
            (
                "infinity",
                br#"{"a":-Infinity}"#,
                "line 1, byte 6: not valid JSON: `-Infinity` is not a JSON number",
            ),
            (
                "too large",
                br#"{"a":1e999}"#,
                "line 1, byte 5: number `1e+999` is too large",
            ),
            (
                "lone surrogate",
                br#"{"a":"\ud800"}"#,
                "line 1, byte 12: not valid JSON: unexpected end of hex escape",
            ),
            (
                "array",
                b"[1]",
                "line 1, byte 0: expected one JSON object per line, got an array",
            ),
            (
                "text",
                b"\"x\"",
                "line 1, byte 0: expected one JSON object per line, got a string",
            ),
            ("blank", b"{}\n \r\n{}\n", "line 2, byte 3: blank line"),
            (
                "nul escape",
                br#"{"a":"\u0000"}"#,
                "line 1, byte 0: text holds the character U+0000, which is not allowed in data",
            ),
            (
                "reserved",
                "{\"a\":\"\u{FDD0}\"}".as_bytes(),
                "line 1, byte 6: text holds the character U+FDD0, which is not allowed in data",
            ),
            (
                "reserved key",
                br#"{"\ufdd0":1}"#,
                "line 1, byte 0: text holds the character U+FDD0, which is not allowed in data",
            ),
            (
                "trailing text",
                br#"{"a":1} x"#,
                "line 1, byte 8: not valid JSON: trailing characters",
            ),
            (
                "cut off",
                b"{\"a\":1}\n{\"a\":",
                "line 2, byte 13: not valid JSON: the line ends too early",
            ),
            (
                "bom inside",
                "{}\n\u{FEFF}{}".as_bytes(),
                "line 2, byte 3: not valid JSON: expected value",
            ),
        ];
        for (name, bytes, expected) in table {
            assert_eq!(faults(bytes)[0].to_string(), *expected, "{name}");
        }
    }

    #[test]
    fn every_faulty_line_is_reported() {
        let lines: Vec<_> = faults(b"{}\n[]\n{\n{}\n1")
            .iter()
            .map(|it| it.line)
            .collect();
        assert_eq!(lines, [Some(2), Some(3), Some(5)]);
    }

    #[test]
    fn a_byte_order_mark_is_skipped_and_counted() {
        assert_eq!(read("\u{FEFF}{\"a\":1}")[0].fields()["a"].to_string(), "1");
        assert_eq!(faults("\u{FEFF}[]".as_bytes())[0].byte, Some(3));
    }

    #[test]
    fn crlf_and_blank_lines_at_the_end_are_fine() {
        let rows = read("{\"a\":1}\r\n{\"a\":2}\r\n\r\n");
        assert_eq!(
            rows.iter().map(|it| it.source_line).collect::<Vec<_>>(),
            [1, 2]
        );
    }

    #[test]
    fn line_separators_inside_text_are_text() {
        let rows = read("{\"a\":\"x\u{2028}y\u{85}\\r\\n\"}");
        assert_eq!(rows[0].fields()["a"], "x\u{2028}y\u{85}\r\n");
    }

    #[test]
    fn numbers_keep_their_digits() {
        let text = r#"{"a":1.10,"b":12345678901234567890123,"c":-0,"d":1E5}"#;
        let row = &read(text)[0];
        let digits = |name: &str| row.fields()[name].to_string();
        assert_eq!(digits("a"), "1.10");
        assert_eq!(digits("b"), "12345678901234567890123");
        assert_eq!(
            (digits("c"), digits("d")),
            ("-0".to_owned(), "1e+5".to_owned())
        );
    }

    proptest! {
        /// Any line gives a row or a fault, never a panic.
        #[test]
        fn any_line_is_read_or_refused(
            parts in prop::collection::vec(prop::sample::select(vec![
                "{", "}", "\"", "a", ":", "1", ",", "[", "]", "e", "-", ".", "é", "\\", "\\u0000", "\n", "N", " ",
            ]), 0..16)
        ) {
            rows(parts.concat().as_bytes(), &mut Faults::default());
        }
    }

    #[test]
    fn deep_nesting_is_an_error_not_a_crash() {
        let text = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(
            faults(text.as_bytes())[0]
                .to_string()
                .contains("recursion limit")
        );
    }
}
