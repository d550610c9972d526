//! The TOML file as a tree in which every key and value knows where it was written.
//!
//! The tree outlives the text it was parsed from and may mix sources: a profile or a
//! `--set` flag replaces a value, and the new one points at the flag. It is read by
//! [`super::fields`] and written back by [`to_toml`].

use std::ops::Range;
use std::sync::Arc;

use indexmap::IndexMap;
use toml::de::{DeTable, DeValue};
use toml::value::Datetime;

use super::diagnostic::{Diagnostic, Diagnostics, Place, SourceText};

/// A value and its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) place: Place,
}

/// A TOML value.
#[derive(Debug, Clone)]
pub(super) enum Value {
    String(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Datetime(Datetime),
    Array(Vec<Node>),
    Table(Table),
}

/// The entries of a table, in the order of the file.
pub(super) type Table = IndexMap<String, Entry>;

/// A key's place and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: Place,
    pub(super) node: Node,
}

impl Value {
    /// What it is, with an article, for "expected ..., got ...".
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Boolean(_) => "true or false",
            Self::Datetime(_) => "a date",
            Self::Array(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

impl Node {
    /// The node as a table, if it is one.
    pub(super) fn as_table(&self) -> Option<&Table> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The node as a string, if it is one.
    pub(super) fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }
}

/// Parses a whole document; every syntax error is reported, with its place.
pub(super) fn parse(source: &Arc<SourceText>) -> Result<Table, Diagnostics> {
    let (document, errors) = DeTable::parse_recoverable(&source.text);
    if !errors.is_empty() {
        return Err(syntax_errors(source, errors));
    }
    let mut problems = Diagnostics::new();
    let table = table(source, document.get_ref(), &mut problems);
    if problems.is_empty() {
        Ok(table)
    } else {
        Err(problems)
    }
}

/// Parses the bytes `span` of `source`, after `KEY=`, as one TOML value; `None` if they are
/// not one.
pub(super) fn parse_value(source: &Arc<SourceText>, span: Range<usize>) -> Option<Node> {
    // Reads `x   =VALUE` with as many bytes before the value as the source has, so that spans
    // in it are spans in the source. A line end could smuggle in a second key.
    let padded = format!(
        "{:<width$}={}",
        "x",
        &source.text[span.clone()],
        width = span.start - 1
    );
    let document = DeTable::parse(&padded).ok()?;
    let (1, Some(value)) = (document.get_ref().len(), document.get_ref().values().next()) else {
        return None;
    };
    let mut problems = Diagnostics::new();
    let node = node(source, value, &mut problems);
    problems.is_empty().then_some(node)
}

/// The parser's complaints in the order of the file, one per line: it recovers after a
/// mistake and often complains about the same one again.
fn syntax_errors(source: &Arc<SourceText>, mut errors: Vec<toml::de::Error>) -> Diagnostics {
    let start = |error: &toml::de::Error| error.span().map_or(0, |span| span.start);
    errors.sort_by_key(start);
    errors.dedup_by_key(|error| source.line_and_column(start(error)).0);
    if let Some(first) = errors.iter().position(is_unclosed) {
        errors.truncate(first + 1);
    }
    errors
        .iter()
        .map(|error| syntax_error(source, error))
        .collect()
}

/// The parser's complaint, with advice for the mistakes that people make most.
fn syntax_error(source: &Arc<SourceText>, error: &toml::de::Error) -> Diagnostic {
    let span = error.span().unwrap_or(0..0);
    let complaint = error.message().lines().next().unwrap_or("");
    let text = source.text.get(span.clone()).unwrap_or("");
    let (message, help) = if complaint.contains("duplicate key") {
        let help = "a key may stand once in a table, and a table once in a file; delete or rename one of the two";
        (format!("`{text}` stands here a second time"), help)
    } else if is_unclosed(error) {
        let help =
            "close the string on the same line, or write \"\"\" around a text of several lines";
        ("a string is not closed".to_owned(), help)
    } else if complaint.contains("missing escaped value") {
        let help = "write the string in '...', which takes backslashes as they are, or double the backslash";
        (
            "a backslash in \"...\" starts an escape, and this is none".to_owned(),
            help,
        )
    } else if complaint.contains("string values must be quoted") {
        let what = if text.is_empty() {
            "a value is missing"
        } else {
            "a text must stand in quotes"
        };
        (
            what.to_owned(),
            "write `key = \"value\"`; only numbers, true, false and dates stand without quotes",
        )
    } else {
        (
            complaint.to_owned(),
            "tables are `[name]`, entries `key = value`, texts stand in quotes; see https://toml.io",
        )
    };
    Diagnostic::error(format!("not valid TOML: {message}"))
        .at(&Place::new(source, shown(source, span)), "")
        .help(help)
}

/// Whether a string has no end; what is reported after it is text read as something else.
fn is_unclosed(error: &toml::de::Error) -> bool {
    let complaint = error.message();
    complaint.contains("string, expected `\"`") || complaint.contains("string, expected `'`")
}

/// A span cut at the end of its first line, so that a mark stays on one line.
fn shown(source: &SourceText, span: Range<usize>) -> Range<usize> {
    let text = source.text.get(span.clone()).unwrap_or("");
    span.start..span.start + text.find('\n').unwrap_or(text.len())
}

/// Copies a table of the parser's.
fn table(source: &Arc<SourceText>, from: &DeTable<'_>, problems: &mut Diagnostics) -> Table {
    let entry = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>),
                 problems: &mut _| {
        let node = node(source, value, problems);
        let name: &std::borrow::Cow<'_, str> = key.get_ref();
        (
            name.to_string(),
            Entry {
                key: Place::new(source, key.span()),
                node,
            },
        )
    };
    from.iter().map(|pair| entry(pair, problems)).collect()
}

/// Copies a value of the parser's.
fn node(
    source: &Arc<SourceText>,
    from: &toml::Spanned<DeValue<'_>>,
    problems: &mut Diagnostics,
) -> Node {
    let place = Place::new(source, from.span());
    let value = match from.get_ref() {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Datetime(value) => Value::Datetime(*value),
        DeValue::Integer(digits) => Value::Integer(
            i64::from_str_radix(digits.as_str(), digits.radix()).unwrap_or_else(|_| {
                let message = format!("`{digits}` does not fit a 64-bit whole number");
                problems.push(Diagnostic::error(message).at(&place, "too large"));
                0
            }),
        ),
        // The parser let only digits, `inf` and `nan` through.
        DeValue::Float(digits) => Value::Float(digits.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Array(items) => Value::Array(
            items
                .iter()
                .map(|item| node(source, item, problems))
                .collect(),
        ),
        DeValue::Table(entries) => Value::Table(table(source, entries, problems)),
    };
    Node { value, place }
}

/// The tree as TOML text: same keys, order and values, no comments.
pub(super) fn to_toml(table: &Table) -> String {
    toml::to_string_pretty(&to_value(table)).expect("a parsed TOML tree can be written as TOML")
}

fn to_value(table: &Table) -> toml::Table {
    table
        .iter()
        .map(|(key, entry)| (key.clone(), value_of(&entry.node)))
        .collect()
}

fn value_of(node: &Node) -> toml::Value {
    match &node.value {
        Value::String(text) => toml::Value::String(text.clone()),
        Value::Integer(value) => toml::Value::Integer(*value),
        Value::Float(value) => toml::Value::Float(*value),
        Value::Boolean(value) => toml::Value::Boolean(*value),
        Value::Datetime(value) => toml::Value::Datetime(*value),
        Value::Array(items) => toml::Value::Array(items.iter().map(value_of).collect()),
        Value::Table(table) => toml::Value::Table(to_value(table)),
    }
}
