//! What is wrong with an input, where, and what to do next.
//!
//! A [`Diagnostic`] has a message, labels that point into source texts, and a help
//! line. [`Diagnostics`] is all of them for one command, so that a person fixes a
//! file once and not once per mistake. [`render`] turns them into text; nothing here
//! prints. Later rooms use the same types for their own findings: a row of a dataset
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

    /// The text with each control and direction-changing character replaced by a harmless
    /// one of the same length, so that spans stay right and no terminal is steered.
    fn harmless(&self) -> String {
        self.text
            .chars()
            .map(|c| {
                if c == '\n' || c == '\t' {
                    c
                } else {
                    harmless(c)
                }
            })
            .collect()
    }
}

/// A stand-in of equal UTF-8 length for a character that could steer a terminal.
fn harmless(c: char) -> char {
    match c {
        '\0'..='\u{1f}' | '\u{7f}' => '?',
        '\u{80}'..='\u{9f}' => '\u{b7}',
        '\u{61c}' => '\u{b7}',
        '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}'
        | '\u{feff}' => '\u{fffd}',
        other => other,
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

impl miette::Diagnostic for Diagnostics {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        Some(Box::new(
            self.list.iter().map(|it| it as &dyn miette::Diagnostic),
        ))
    }
}

impl miette::Diagnostic for Diagnostic {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help
            .as_ref()
            .map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        self.labels
            .first()
            .map(|label| label.place.source.as_ref() as &dyn miette::SourceCode)
    }

    /// The labels in the same text as the first one; [`render`] shows the others too.
    fn labels(&self) -> Option<Box<dyn Iterator<Item = miette::LabeledSpan> + '_>> {
        let main = &self.labels.first()?.place.source;
        Some(Box::new(
            self.labels
                .iter()
                .filter(|it| it.place.source == *main)
                .map(labeled_span),
        ))
    }
}

/// A label in miette's form, clipped to its text.
fn labeled_span(label: &Label) -> miette::LabeledSpan {
    let text = &label.place.source.text;
    let start = text.floor_char_boundary(label.place.span.start);
    let end = text.ceil_char_boundary(label.place.span.end.max(start));
    let words = (!label.text.is_empty()).then(|| printable(&label.text));
    miette::LabeledSpan::new(words, start, end - start)
}

impl miette::SourceCode for SourceText {
    fn read_span<'a>(
        &'a self,
        span: &miette::SourceSpan,
        context_lines_before: usize,
        context_lines_after: usize,
    ) -> Result<Box<dyn miette::SpanContents<'a> + 'a>, miette::MietteError> {
        let found = self
            .text
            .read_span(span, context_lines_before, context_lines_after)?;
        // miette counts columns in bytes, an editor in characters.
        let (_, column) = self.line_and_column(found.span().offset());
        Ok(Box::new(miette::MietteSpanContents::new_named(
            self.name.clone(),
            found.data(),
            *found.span(),
            found.line() + self.first_line - 1,
            column - 1,
            found.line_count(),
        )))
    }
}

/// The diagnostics as text for a terminal `width` columns wide, each with `file:line:column`,
/// the source line, a mark and the help.
///
/// With [`Color::Never`] the text has no escape codes. Control characters in messages and
/// sources are replaced, whatever file they came from.
pub fn render(diagnostics: &Diagnostics, width: usize, color: Color) -> String {
    let mut theme = match color {
        Color::Always => miette::GraphicalTheme::unicode(),
        Color::Never => miette::GraphicalTheme::unicode_nocolor(),
    };
    "error:".clone_into(&mut theme.characters.error);
    "warning:".clone_into(&mut theme.characters.warning);
    "also:".clone_into(&mut theme.characters.advice);
    let handler = miette::GraphicalReportHandler::new_themed(theme)
        .with_width(width.max(40))
        .with_links(false)
        .with_break_words(false)
        .with_context_lines(0);
    let mut text = String::new();
    for diagnostic in diagnostics {
        for snippet in snippets(diagnostic) {
            handler
                .render_report(&mut text, &snippet)
                .expect("writing to a string does not fail, and labels are clipped to their text");
        }
        text.push('\n');
    }
    // miette indents every line by two; the frame needs none.
    text.lines()
        .map(|line| format!("{}\n", line.strip_prefix("  ").unwrap_or(line).trim_end()))
        .collect()
}

/// Whether [`render`] may use escape codes for color.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    /// Escape codes.
    Always,
    /// Plain text.
    Never,
}

/// One diagnostic per source text that it points into: the first carries the message, the
/// last the help.
fn snippets(diagnostic: &Diagnostic) -> Vec<Snippet> {
    let mut sources: Vec<&Arc<SourceText>> = Vec::new();
    for label in &diagnostic.labels {
        if !sources.contains(&&label.place.source) {
            sources.push(&label.place.source);
        }
    }
    let mut snippets = vec![Snippet {
        message: printable(&diagnostic.message),
        severity: miette::Diagnostic::severity(diagnostic),
        ..Snippet::default()
    }];
    for (index, source) in sources.into_iter().enumerate() {
        if 0 < index {
            let message = format!("see `{}`", printable(&source.name));
            snippets.push(Snippet {
                message,
                severity: Some(miette::Severity::Advice),
                ..Snippet::default()
            });
        }
        let snippet = snippets.last_mut().expect("starts with one");
        snippet.source = Some(SourceText {
            name: printable(&source.name),
            text: source.harmless(),
            first_line: source.first_line,
        });
        let own = diagnostic
            .labels
            .iter()
            .filter(|it| it.place.source == *source);
        snippet.labels = own.map(labeled_span).collect();
    }
    snippets.last_mut().expect("starts with one").help = diagnostic.help.as_deref().map(printable);
    snippets
}

/// Text on one or more lines without control characters.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c == '\n' { c } else { harmless(c) })
        .collect()
}

/// A piece of a diagnostic with one source text, which is what miette draws.
#[derive(Debug, Default)]
struct Snippet {
    message: String,
    severity: Option<miette::Severity>,
    source: Option<SourceText>,
    labels: Vec<miette::LabeledSpan>,
    help: Option<String>,
}

impl fmt::Display for Snippet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Snippet {}

impl miette::Diagnostic for Snippet {
    fn severity(&self) -> Option<miette::Severity> {
        self.severity
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help
            .as_ref()
            .map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        self.source
            .as_ref()
            .map(|source| source as &dyn miette::SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = miette::LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }
}
