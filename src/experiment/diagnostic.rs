//! What is wrong with an input, where, and what to do next.
//!
//! A [`Diagnostic`] has a message, labels that point into source texts, and a help
//! line. [`Diagnostics`] is all of them for one command, so that a person fixes a
//! file once and not once per mistake. [`super::render()`] turns them into text. Later rooms use the same types for their own findings: a row of a dataset
//! or a template in another file is a [`SourceText`] like any other.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// The longest line of a data file that an excerpt shows, in characters.
const MAX_EXCERPT_CHARS: usize = 160;

/// A named text that labels can point into: a file, one line of a file, or a `--set` flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceText {
    /// What is printed before `:line:column`, usually the path as the user gave it.
    pub name: String,
    /// The text that spans count bytes of.
    pub text: String,
    /// The number of the first line of `text` in the file it is from, from 1.
    pub first_line: usize,
}

impl SourceText {
    /// A whole file.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        Self::excerpt(name, 1, text)
    }

    /// Part of a file that starts at line `first_line` (from 1).
    pub fn excerpt(
        name: impl Into<String>,
        first_line: usize,
        text: impl Into<String>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            text: text.into(),
            first_line: first_line.max(1),
        })
    }

    /// Line and column, both from 1, of the byte at `offset`; columns count characters.
    ///
    /// An offset beyond the end is the end; one inside a character is that character.
    pub fn line_and_column(&self, offset: usize) -> (usize, usize) {
        let before = &self.text[..self.text.floor_char_boundary(offset)];
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = self.first_line + before.bytes().filter(|byte| *byte == b'\n').count();
        (line, before[start..].chars().count() + 1)
    }
}

/// A range of bytes in a source text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The text.
    pub source: Arc<SourceText>,
    /// The bytes of it that are meant; may be empty.
    pub span: Range<usize>,
}

impl Place {
    /// The bytes `span` of `source`.
    pub fn new(source: &Arc<SourceText>, span: Range<usize>) -> Self {
        Self {
            source: Arc::clone(source),
            span,
        }
    }
}

impl fmt::Display for Place {
    /// `name:line:column` of the first byte.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.source.line_and_column(self.span.start);
        write!(f, "{}:{line}:{column}", self.source.name)
    }
}

/// A value and where it was written.
///
/// Two are equal if their values are: a place is for messages only.
#[derive(Debug, Clone)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands: in the experiment file, or in a `--set` flag.
    pub place: Place,
}

impl<T> Spanned<T> {
    /// Pairs a value with its place.
    pub fn new(value: T, place: Place) -> Self {
        Self { value, place }
    }

    /// The same place with another value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned {
            value: f(self.value),
            place: self.place,
        }
    }
}

impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

/// One marked piece of a source text, with a few words on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// What is marked.
    pub place: Place,
    /// The words beside the mark; empty for a bare mark.
    pub text: String,
}

impl Label {
    /// Marks `place`.
    pub fn new(place: Place, text: impl Into<String>) -> Self {
        Self {
            place,
            text: text.into(),
        }
    }

    /// Marks line `line` (from 1) of the file called `name`, whose text is `content`.
    ///
    /// For data files, which are never kept as one string: only the line is shown, cut
    /// after 160 characters.
    pub fn line(
        name: impl Into<String>,
        line: usize,
        content: &str,
        text: impl Into<String>,
    ) -> Self {
        let mut shown: String = content.lines().next().unwrap_or("").to_owned();
        if let Some((cut, _)) = shown.char_indices().nth(MAX_EXCERPT_CHARS) {
            shown.truncate(cut);
            shown.push('…');
        }
        let span = 0..shown.len();
        Self::new(
            Place {
                source: SourceText::excerpt(name, line, shown),
                span,
            },
            text,
        )
    }
}

/// Whether something can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The command is refused.
    Error,
    /// Worth knowing; the command goes on.
    Warning,
}

/// One finding about an input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Diagnostic {
    /// Whether it refuses the command.
    pub severity: Severity,
    /// What is wrong, in one lowercase sentence without a final period.
    pub message: String,
    /// Where; the first is the main one and gives the file and line that are printed.
    pub labels: Vec<Label>,
    /// What to do next.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error without labels or help yet.
    pub fn error(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            labels: Vec::new(),
            help: None,
        }
    }

    /// A warning without labels or help yet.
    pub fn warning(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(message)
        }
    }

    /// Adds a mark at `place`.
    #[must_use]
    pub fn at(self, place: &Place, text: impl Into<String>) -> Self {
        self.label(Label::new(place.clone(), text))
    }

    /// Adds a mark.
    #[must_use]
    pub fn label(mut self, label: Label) -> Self {
        self.labels.push(label);
        self
    }

    /// Says what to do next; a second call replaces the first.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Findings about one or more inputs, in the order they were made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.list.push(diagnostic);
    }

    /// Whether any of them refuses the command.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|it| it.severity == Severity::Error)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Each of them, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self {
            list: vec![diagnostic],
        }
    }
}

impl Extend<Diagnostic> for Diagnostics {
    fn extend<I: IntoIterator<Item = Diagnostic>>(&mut self, more: I) {
        self.list.extend(more);
    }
}

impl FromIterator<Diagnostic> for Diagnostics {
    fn from_iter<I: IntoIterator<Item = Diagnostic>>(iter: I) -> Self {
        Self {
            list: iter.into_iter().collect(),
        }
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |severity| {
            self.list
                .iter()
                .filter(|it| it.severity == severity)
                .count()
        };
        let plural = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
        match (count(Severity::Error), count(Severity::Warning)) {
            (errors, 0) => write!(f, "{}", plural(errors, "error")),
            (0, warnings) => write!(f, "{}", plural(warnings, "warning")),
            (errors, warnings) => {
                write!(
                    f,
                    "{} and {}",
                    plural(errors, "error"),
                    plural(warnings, "warning")
                )
            }
        }
    }
}

impl std::error::Error for Diagnostics {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_lines_and_characters_from_one() {
        let source = SourceText::new("x.toml", "a\né = 1\n");
        assert_eq!(source.line_and_column(0), (1, 1));
        assert_eq!(source.line_and_column(2), (2, 1));
        assert_eq!(
            source.line_and_column(3),
            (2, 1),
            "inside the two bytes of é"
        );
        assert_eq!(source.line_and_column(4), (2, 2));
        assert_eq!(source.line_and_column(99), (3, 1), "beyond the end");
        assert_eq!(Place::new(&source, 4..5).to_string(), "x.toml:2:2");
        let row = SourceText::excerpt("d.jsonl", 17, "{}");
        assert_eq!(row.line_and_column(1), (17, 2));
    }

    #[test]
    fn a_line_of_a_data_file_is_cut_to_a_readable_length() {
        let label = Label::line("d.jsonl", 3, &"é".repeat(1000), "here");
        assert_eq!(
            label.place.source.text.chars().count(),
            MAX_EXCERPT_CHARS + 1
        );
        assert_eq!(label.place.to_string(), "d.jsonl:3:1");
    }

    #[test]
    fn only_errors_refuse_a_command() {
        let mut found = Diagnostics::from(Diagnostic::warning("w"));
        assert!(!found.has_errors());
        assert_eq!(found.to_string(), "1 warning");
        found.extend([Diagnostic::error("e"), Diagnostic::error("f")]);
        assert!(found.has_errors());
        assert_eq!(found.to_string(), "2 errors and 1 warning");
    }
}
