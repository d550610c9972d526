//! Reads a table of the tree key by key, so that one bad key hides no other.
//!
//! Every reader returns an `Option` and puts what is wrong into [`Problems`]. A `None` for a
//! key that is present means that a problem was reported, and the whole file is refused in
//! the end; nobody has to tell "absent" from "bad" on the way.

use std::cell::RefCell;
use std::path::PathBuf;
use std::str::FromStr;

use super::diagnostic::{Diagnostic, Diagnostics, Place, Spanned};
use super::template_text::TemplateText;
use super::tree::{Node, Table, Value};

/// Where problems are gathered while a file is read.
#[derive(Debug, Default)]
pub(super) struct Problems(RefCell<Diagnostics>);

impl Problems {
    pub(super) fn push(&self, diagnostic: Diagnostic) {
        self.0.borrow_mut().push(diagnostic);
    }

    /// Reports an error with one mark.
    pub(super) fn error(&self, place: &Place, message: impl Into<String>, help: impl Into<String>) {
        self.push(Diagnostic::error(message).at(place, "").help(help));
    }

    pub(super) fn into_inner(self) -> Diagnostics {
        self.0.into_inner()
    }
}

/// An error that may know what to do next.
pub(super) trait Explain: std::fmt::Display {
    fn help(&self) -> Option<String> {
        None
    }
}

/// A closed set of words that a key may hold.
pub(super) trait Keyword: Copy + 'static {
    /// Each word and what it stands for, in the order in which messages list them.
    const WORDS: &'static [(&'static str, Self)];
}

/// One table while it is read.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    table: &'a Table,
    /// The table's name in messages, such as `[variants.few]`.
    name: &'a str,
    /// Where the table begins, for keys that are missing.
    pub(super) place: &'a Place,
    pub(super) problems: &'a Problems,
}

impl<'a> Fields<'a> {
    /// The table `node`; reports one that is not a table.
    pub(super) fn of(node: &'a Node, name: &'a str, problems: &'a Problems) -> Option<Self> {
        if let Some(table) = node.as_table() {
            return Some(Self {
                table,
                name,
                place: &node.place,
                problems,
            });
        }
        let message = format!("expected a table for `{name}`, got {}", node.value.kind());
        let help = if name.ends_with(']') {
            format!("open it with the line {name} and write its keys below")
        } else {
            "write it as { key = value, key = value }".to_owned()
        };
        problems.error(&node.place, message, help);
        None
    }

    pub(super) fn name(&self) -> &'a str {
        self.name
    }

    /// Whether the key is there, right or wrong.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Whether the key is there, or one that was reported as a misspelling of it.
    pub(super) fn seems_to_have(&self, key: &str) -> bool {
        has_or_misspells(self.table, key)
    }

    pub(super) fn node(&self, key: &str) -> Option<&'a Node> {
        self.table.get(key).map(|entry| &entry.node)
    }

    /// Where the key itself stands; the table's place if it is absent.
    pub(super) fn key_place(&self, key: &str) -> &'a Place {
        self.table.get(key).map_or(self.place, |entry| &entry.key)
    }

    /// Reports an error at a key.
    pub(super) fn error(&self, key: &str, message: impl Into<String>, help: impl Into<String>) {
        self.problems.error(self.key_place(key), message, help);
    }

    /// Reports a missing key; passes on one that is there.
    pub(super) fn required<T>(&self, key: &str, value: Option<T>, example: &str) -> Option<T> {
        if !has_or_misspells(self.table, key) {
            let message = format!("`{}` has no `{key}`", self.name);
            self.problems.error(
                self.place,
                message,
                format!("add a line such as `{key} = {example}`"),
            );
        }
        value
    }

    /// Reports a value that its type refused.
    fn refuse(&self, key: &str, place: &Place, error: &impl Explain) {
        let diagnostic = Diagnostic::error(format!("`{key}`: {error}")).at(place, "");
        self.problems.push(Diagnostic {
            help: error.help(),
            ..diagnostic
        });
    }

    /// Reports a value of the wrong type.
    fn wrong_type(&self, key: &str, node: &Node, expected: &str) {
        let diagnostic = Diagnostic::error(format!(
            "expected {expected} for `{key}`, got {}",
            got(node)
        ))
        .at(&node.place, "");
        self.problems.push(match (&node.value, expected) {
            (Value::Integer(_) | Value::Float(_) | Value::Boolean(_), "a string") => {
                diagnostic.help("put the value in quotes")
            }
            (Value::String(text), _) if text.parse::<f64>().is_ok() => {
                diagnostic.help("write the number without quotes")
            }
            _ => diagnostic,
        });
    }

    pub(super) fn string(&self, key: &str) -> Option<Spanned<String>> {
        let node = self.node(key)?;
        let Value::String(text) = &node.value else {
            self.wrong_type(key, node, "a string");
            return None;
        };
        Some(Spanned::new(text.clone(), node.place.clone()))
    }

    pub(super) fn path(&self, key: &str) -> Option<Spanned<PathBuf>> {
        let text = self.string(key)?;
        if text.value.is_empty() {
            self.problems
                .error(&text.place, format!("`{key}` is empty"), "name a file");
            return None;
        }
        Some(text.map(PathBuf::from))
    }

    pub(super) fn template(&self, key: &str) -> Option<TemplateText> {
        self.string(key).map(|text| TemplateText {
            text: text.value,
            place: text.place,
        })
    }

    pub(super) fn boolean(&self, key: &str) -> Option<bool> {
        let node = self.node(key)?;
        let Value::Boolean(value) = node.value else {
            self.wrong_type(key, node, "true or false");
            return None;
        };
        Some(value)
    }

    /// A whole number of at least `least`, that fits the type asked for.
    pub(super) fn count<T: TryFrom<i64>>(&self, key: &str, least: i64) -> Option<Spanned<T>> {
        let node = self.node(key)?;
        let Value::Integer(value) = node.value else {
            self.wrong_type(key, node, "a whole number");
            return None;
        };
        let fits = T::try_from(value).ok().filter(|_| least <= value);
        if fits.is_none() {
            let message =
                format!("expected a whole number from {least} up for `{key}`, got {value}");
            self.problems
                .push(Diagnostic::error(message).at(&node.place, ""));
        }
        fits.map(|it| Spanned::new(it, node.place.clone()))
    }

    /// A number, whole or not, as it stands; may be infinite or NaN.
    pub(super) fn number(&self, key: &str) -> Option<Spanned<f64>> {
        let node = self.node(key)?;
        let value = match node.value {
            Value::Float(value) => value,
            Value::Integer(value) => value as f64,
            _ => {
                self.wrong_type(key, node, "a number");
                return None;
            }
        };
        Some(Spanned::new(value, node.place.clone()))
    }

    /// A number that passes the check of a type such as [`super::NonNegative`].
    pub(super) fn checked<T: TryFrom<f64, Error: Explain>>(&self, key: &str) -> Option<Spanned<T>> {
        let number = self.number(key)?;
        match T::try_from(number.value) {
            Ok(value) => Some(Spanned::new(value, number.place)),
            Err(error) => {
                self.refuse(key, &number.place, &error);
                None
            }
        }
    }

    /// A string that parses as a type such as [`super::Slug`].
    pub(super) fn parsed<T: FromStr<Err: Explain>>(&self, key: &str) -> Option<Spanned<T>> {
        let text = self.string(key)?;
        match text.value.parse() {
            Ok(value) => Some(Spanned::new(value, text.place)),
            Err(error) => {
                self.refuse(key, &text.place, &error);
                None
            }
        }
    }

    /// One word of a closed set.
    pub(super) fn keyword<T: Keyword>(&self, key: &str) -> Option<Spanned<T>> {
        let text = self.string(key)?;
        keyword(&text, key, self.problems).map(|value| Spanned::new(value, text.place))
    }

    /// The items of a list.
    pub(super) fn list(&self, key: &str) -> Option<&'a [Node]> {
        let node = self.node(key)?;
        let Value::Array(items) = &node.value else {
            self.wrong_type(key, node, "a list");
            return None;
        };
        Some(items)
    }

    /// A list of strings; items that are not are reported and left out.
    pub(super) fn strings(&self, key: &str) -> Option<Vec<Spanned<String>>> {
        let items = self.list(key)?;
        Some(
            items
                .iter()
                .filter_map(|item| self.string_item(key, item))
                .collect(),
        )
    }

    /// A string, or a list of strings.
    pub(super) fn one_or_more(&self, key: &str) -> Option<Vec<Spanned<String>>> {
        match &self.node(key)?.value {
            Value::Array(_) => self.strings(key),
            Value::String(_) => self.string(key).map(|text| vec![text]),
            _ => {
                self.wrong_type(key, self.node(key)?, "a string or a list of strings");
                None
            }
        }
    }

    fn string_item(&self, key: &str, item: &Node) -> Option<Spanned<String>> {
        if let Some(text) = item.as_str() {
            return Some(Spanned::new(text.to_owned(), item.place.clone()));
        }
        let message = format!(
            "expected a list of strings for `{key}`, got {} in it",
            got(item)
        );
        self.problems
            .error(&item.place, message, "put the value in quotes");
        None
    }
}

/// Looks a word up in its closed set.
pub(super) fn keyword<T: Keyword>(
    text: &Spanned<String>,
    key: &str,
    problems: &Problems,
) -> Option<T> {
    let found = T::WORDS.iter().find(|(word, _)| *word == text.value);
    if found.is_none() {
        let known: Vec<&str> = T::WORDS.iter().map(|(word, _)| *word).collect();
        let message = format!("`{}` is not a value of `{key}`", text.value);
        let help = match suggestion(&text.value, &known) {
            Some(meant) => format!(
                "did you mean `{meant}`? The values are: {}",
                known.join(", ")
            ),
            None => format!("the values are: {}", known.join(", ")),
        };
        problems.error(&text.place, message, help);
    }
    found.map(|(_, value)| *value)
}

/// A value in a message: its kind, and itself where that is short.
fn got(node: &Node) -> String {
    match &node.value {
        Value::String(text) if text.chars().count() <= 40 => format!("the string {text:?}"),
        Value::Integer(value) => value.to_string(),
        Value::Float(value) => format!("{value:?}"),
        Value::Boolean(value) => value.to_string(),
        Value::Datetime(value) => format!("the date {value}"),
        other => other.kind().to_owned(),
    }
}

/// Whether a table has a key or one that was reported as a misspelling of it; to report it as
/// missing as well would be noise.
pub(super) fn has_or_misspells(table: &Table, key: &str) -> bool {
    table.contains_key(key)
        || table
            .keys()
            .any(|written| suggestion(written, &[key]).is_some())
}

/// The known name closest to what was written, if one is close.
pub(super) fn suggestion<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    let lower = written.to_lowercase();
    known
        .iter()
        .map(|name| {
            (
                strsim::damerau_levenshtein(&lower, &name.to_lowercase()),
                *name,
            )
        })
        // A third of the letters may be wrong, and one always.
        .filter(|(distance, name)| *distance <= (name.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suggestion_is_close_or_absent() {
        let known = ["limit", "limit_order", "path", "target"];
        let table = [
            ("limti", Some("limit")),
            ("Limit", Some("limit")),
            ("limitorder", Some("limit_order")),
            ("traget", Some("target")),
            ("pth", Some("path")),
            ("prompt", None),
            ("", None),
        ];
        for (written, expected) in table {
            assert_eq!(suggestion(written, &known), expected, "{written}");
        }
    }
}
