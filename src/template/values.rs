//! JSON values to template values and back, with numbers as they were written.
//!
//! Templates compute with 64-bit floats, which forget that `1.10` had a zero. The
//! texts of such numbers are kept aside, and a float that is printed or returned
//! by itself gets the text of the field it is equal to.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use minijinja::Value;
use minijinja::value::ValueKind;
use serde_json::{Map, Number, Value as Json};

use crate::dataset::Fields;

/// Texts of floats that would otherwise print differently, by their bits.
///
/// None marks a float that the row writes in several ways.
pub(super) type NumberTexts = HashMap<u64, Option<Arc<str>>>;

/// A row as a template sees it.
#[derive(Debug, Default)]
pub(super) struct Context {
    pub(super) value: Value,
    pub(super) numbers: NumberTexts,
    /// Size of the data, with a charge for each value.
    pub(super) n_bytes: u64,
}

impl Context {
    pub(super) fn new(fields: &Fields) -> Self {
        let mut context = Self::default();
        context.value = context.object(fields);
        // A text that agrees with the usual form needs no special treatment.
        context.numbers.retain(|bits, text| match text {
            Some(text) => **text != *Value::from(f64::from_bits(*bits)).to_string(),
            None => false,
        });
        context
    }

    fn object(&mut self, fields: &Fields) -> Value {
        Value::from_pairs(
            fields
                .iter()
                .map(|(key, value)| (self.text(key), self.convert(value))),
        )
    }

    fn convert(&mut self, value: &Json) -> Value {
        self.n_bytes += 8;
        match value {
            Json::Null => Value::from(()),
            Json::Bool(value) => Value::from(*value),
            Json::Number(number) => self.number(number),
            Json::String(text) => self.text(text),
            Json::Array(items) => items.iter().map(|it| self.convert(it)).collect(),
            Json::Object(fields) => self.object(fields),
        }
    }

    fn text(&mut self, text: &str) -> Value {
        self.n_bytes += text.len() as u64;
        Value::from(text)
    }

    fn number(&mut self, number: &Number) -> Value {
        let digits = number.as_str();
        self.n_bytes += digits.len() as u64;
        if let Some(integer) = integer(digits) {
            return integer;
        }
        // Digits are valid JSON; the dataset refuses what overflows to infinity.
        let float: f64 = digits.parse().unwrap_or(f64::NAN);
        match self.numbers.entry(float.to_bits()) {
            Entry::Vacant(entry) => drop(entry.insert(Some(Arc::from(digits)))),
            Entry::Occupied(mut entry) => {
                if entry.get().as_deref() != Some(digits) {
                    entry.insert(None);
                }
            }
        }
        Value::from(float)
    }
}

/// The integer that prints as exactly `digits`, if it fits 128 bits.
fn integer(digits: &str) -> Option<Value> {
    if digits == "-0" {
        return None;
    }
    let narrow = digits.parse::<i64>().map(Value::from);
    narrow
        .or_else(|_| digits.parse::<i128>().map(Value::from))
        .or_else(|_| digits.parse::<u128>().map(Value::from))
        .ok()
}

/// The text of a float that is printed by itself, where it has one of its own.
pub(super) fn number_text<'a>(value: &Value, numbers: &'a NumberTexts) -> Option<&'a str> {
    if value.kind() != ValueKind::Number || value.is_integer() {
        return None;
    }
    let float = f64::try_from(value.clone()).ok()?;
    numbers.get(&float.to_bits())?.as_deref()
}

/// Turns what an expression gave into JSON.
///
/// # Errors
///
/// The kind of a value that JSON does not have: undefined, bytes, functions,
/// keys that are not text, NaN and infinities.
pub(super) fn to_json(value: &Value, numbers: &NumberTexts) -> Result<Json, String> {
    let children = || value.try_iter().map_err(|_| value.kind().to_string());
    match value.kind() {
        ValueKind::None => Ok(Json::Null),
        ValueKind::Bool => Ok(Json::Bool(value.is_true())),
        ValueKind::String => Ok(Json::String(value.as_str().unwrap_or_default().to_owned())),
        ValueKind::Number if value.is_integer() => Ok(Json::Number(Number::from_string_unchecked(
            value.to_string(),
        ))),
        ValueKind::Number => match number_text(value, numbers) {
            Some(text) => Ok(Json::Number(Number::from_string_unchecked(text.to_owned()))),
            None => f64::try_from(value.clone())
                .ok()
                .and_then(Number::from_f64)
                .map(Json::Number)
                .ok_or_else(|| format!("number {value}")),
        },
        ValueKind::Seq | ValueKind::Iterable => children()?
            .map(|it| to_json(&it, numbers))
            .collect::<Result<_, _>>()
            .map(Json::Array),
        ValueKind::Map => {
            let mut fields = Map::new();
            for key in children()? {
                let name = key
                    .as_str()
                    .ok_or_else(|| format!("map with the key {key}"))?;
                let item = value.get_item(&key).map_err(|_| value.kind().to_string())?;
                fields.insert(name.to_owned(), to_json(&item, numbers)?);
            }
            Ok(Json::Object(fields))
        }
        other => Err(other.to_string()),
    }
}
