//! Diagnostics as text for a terminal or a log; nothing here prints.
//!
//! miette draws the source lines with their marks. Headline and help are laid out here, so
//! that a message reads the same whatever it wraps at. No character of an input file can
//! steer the terminal: control and direction-changing characters are replaced.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::diagnostic::{Diagnostic, Diagnostics, Label, Severity, SourceText};

/// The narrowest text that is laid out, in columns.
const MIN_WIDTH: usize = 40;

/// Whether [`render`] may use escape codes for color.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    /// Escape codes.
    Always,
    /// Plain text.
    Never,
}

/// The diagnostics as text `width` columns wide: each with its message, `file:line:column`,
/// the source line, a mark and the help, and an empty line between two.
///
/// Source lines are never wrapped.
pub fn render(diagnostics: &Diagnostics, width: usize, color: Color) -> String {
    let width = width.max(MIN_WIDTH);
    let texts: Vec<String> = diagnostics
        .iter()
        .map(|it| render_one(it, width, color))
        .collect();
    texts.join("\n")
}

fn render_one(diagnostic: &Diagnostic, width: usize, color: Color) -> String {
    let (word, code) = match diagnostic.severity {
        Severity::Error => ("error:", "1;31"),
        Severity::Warning => ("warning:", "1;33"),
    };
    let mut text = paragraph(word, code, &diagnostic.message, width, color);
    let mut sources: Vec<&Arc<SourceText>> = Vec::new();
    for label in &diagnostic.labels {
        if !sources.contains(&&label.place.source) {
            sources.push(&label.place.source);
        }
    }
    for source in sources {
        let labels = diagnostic
            .labels
            .iter()
            .filter(|it| it.place.source == *source);
        text.push_str(&snippet(source, labels, width, color));
    }
    if let Some(help) = &diagnostic.help {
        text.push_str(&paragraph("help:", "36", help, width, color));
    }
    text
}

/// `word text`, wrapped, with later lines indented by two.
fn paragraph(word: &str, code: &str, text: &str, width: usize, color: Color) -> String {
    let text: String = text
        .chars()
        .map(|c| if c == '\n' { ' ' } else { harmless(c) })
        .collect();
    let mut lines = vec![word.to_owned()];
    for part in text.trim_end().split(' ') {
        let line = lines.last_mut().expect("starts with one");
        if unicode_width::UnicodeWidthStr::width(format!("{line} {part}").as_str()) <= width {
            line.push(' ');
            line.push_str(part);
        } else {
            lines.push(format!("  {part}"));
        }
    }
    let plain = lines.join("\n") + "\n";
    match color {
        Color::Never => plain,
        Color::Always => plain.replacen(word, &format!("\u{1b}[{code}m{word}\u{1b}[0m"), 1),
    }
}

/// The lines of one source text that have labels, with their marks.
fn snippet<'a>(
    source: &SourceText,
    labels: impl Iterator<Item = &'a Label>,
    width: usize,
    color: Color,
) -> String {
    let theme = match color {
        Color::Always => miette::GraphicalTheme::unicode(),
        Color::Never => miette::GraphicalTheme::unicode_nocolor(),
    };
    let handler = miette::GraphicalReportHandler::new_themed(theme)
        .with_width(width)
        .with_links(false)
        .with_wrap_lines(false)
        .with_context_lines(0);
    let snippet = Snippet {
        source: Lines(source.harmless()),
        labels: labels.map(marked).collect(),
    };
    let mut text = String::new();
    handler
        .render_report(&mut text, &snippet)
        .expect("labels are clipped to their text");
    // The first line is the headline of a diagnostic that has no message.
    let lines = text.lines().skip(1).filter(|line| !line.is_empty());
    lines.flat_map(|line| [line.trim_end(), "\n"]).collect()
}

/// A label in miette's form, clipped to its text.
fn marked(label: &Label) -> miette::LabeledSpan {
    let text = &label.place.source.text;
    // The end of the file is marked where its last line ends, not on an empty one after it.
    let last = text.trim_end_matches('\n').len();
    let start = text.floor_char_boundary(label.place.span.start).min(last);
    let end = text
        .ceil_char_boundary(label.place.span.end)
        .clamp(start, last);
    let words = (!label.text.is_empty()).then(|| label.text.chars().map(harmless).collect());
    miette::LabeledSpan::new(words, start, end - start)
}

impl SourceText {
    /// The text with each steering character replaced by one of the same length, so that
    /// spans stay right.
    fn harmless(&self) -> Self {
        let keep = |c| {
            if c == '\n' || c == '\t' {
                c
            } else {
                harmless(c)
            }
        };
        Self {
            name: self.name.chars().map(harmless).collect(),
            text: self.text.chars().map(keep).collect(),
            first_line: self.first_line,
        }
    }
}

/// A stand-in of equal UTF-8 length for a character that could steer a terminal.
fn harmless(c: char) -> char {
    match c {
        '\0'..='\u{1f}' | '\u{7f}' => '?',
        '\u{80}'..='\u{9f}' | '\u{61c}' => '\u{b7}',
        '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}'
        | '\u{feff}' => '\u{fffd}',
        other => other,
    }
}

/// The labels of one source text, which is what miette draws.
#[derive(Debug)]
struct Snippet {
    source: Lines,
    labels: Vec<miette::LabeledSpan>,
}

impl fmt::Display for Snippet {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

impl std::error::Error for Snippet {}

impl miette::Diagnostic for Snippet {
    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = miette::LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }
}

/// A source text of which whole lines are shown, with columns counted in characters.
#[derive(Debug)]
struct Lines(SourceText);

impl miette::SourceCode for Lines {
    fn read_span<'a>(
        &'a self,
        span: &miette::SourceSpan,
        _context_lines_before: usize,
        _context_lines_after: usize,
    ) -> Result<Box<dyn miette::SpanContents<'a> + 'a>, miette::MietteError> {
        let text = &self.0.text;
        let end = span.offset() + span.len();
        if text.len() < end {
            return Err(miette::MietteError::OutOfBounds);
        }
        let shown: Range<usize> = text[..span.offset()].rfind('\n').map_or(0, |it| it + 1)
            ..text[end..].find('\n').map_or(text.len(), |it| end + it + 1);
        let (line, column) = self.0.line_and_column(span.offset());
        Ok(Box::new(miette::MietteSpanContents::new_named(
            self.0.name.clone(),
            &text.as_bytes()[shown.clone()],
            shown.clone().into(),
            line - 1,
            column - 1,
            text[shown].lines().count(),
        )))
    }
}

impl miette::Diagnostic for Diagnostics {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        Some(Box::new(
            self.iter().map(|it| it as &dyn miette::Diagnostic),
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
            .map(|label| &label.place.source.text as &dyn miette::SourceCode)
    }

    /// The labels in the same text as the first one; [`render`] shows the others too.
    fn labels(&self) -> Option<Box<dyn Iterator<Item = miette::LabeledSpan> + '_>> {
        let main = &self.labels.first()?.place.source;
        Some(Box::new(
            self.labels
                .iter()
                .filter(|it| it.place.source == *main)
                .map(marked),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::diagnostic::Place;
    use super::*;

    fn one(diagnostic: Diagnostic) -> String {
        render(&diagnostic.into(), 60, Color::Never)
    }

    /// A mistake that shows in three files is shown in three files.
    #[test]
    fn every_source_text_gets_its_own_snippet() {
        let spec = SourceText::new("x.toml", "a = 1\nb = \"é {{ enn }}\"\n");
        let template = SourceText::new("prompts/x.jinja", "Hi\n{{ enn }}");
        let text = one(
            Diagnostic::error("variant `x` uses `enn`, which the examples do not have")
                .at(&Place::new(&spec, 9..18), "not a field")
                .at(&Place::new(&template, 6..9), "nor here")
                .label(Label::line("d.jsonl", 7, r#"{"en": "x"}"#, "has: en"))
                .help("did you mean `en`?"),
        );
        let expected = [
            "error: variant `x` uses `enn`, which the examples do not",
            "  have",
            "   ╭─[x.toml:2:4]",
            " 2 │ b = \"é {{ enn }}\"",
            "   ·    ────┬───",
            "   ·        ╰── not a field",
            "   ╰────",
            "   ╭─[prompts/x.jinja:2:4]",
            " 2 │ {{ enn }}",
            "   ·    ─┬─",
            "   ·     ╰── nor here",
            "   ╰────",
            "   ╭─[d.jsonl:7:1]",
            " 7 │ {\"en\": \"x\"}",
            "   · ─────┬─────",
            "   ·      ╰── has: en",
            "   ╰────",
            "help: did you mean `en`?",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_diagnostic_without_a_place_is_two_lines() {
        let text = one(Diagnostic::warning("nothing is scored").help("add a target"));
        assert_eq!(text, "warning: nothing is scored\nhelp: add a target\n");
    }

    #[test]
    fn long_messages_are_wrapped_between_words() {
        let text = one(Diagnostic::error("word ".repeat(20)));
        assert!(text.lines().all(|line| line.len() <= 60), "{text}");
        assert_eq!(text.split_whitespace().count(), 21);
    }

    /// Escape codes in a file or a flag do not reach the terminal.
    #[test]
    fn no_control_character_is_shown() {
        let source = SourceText::new("x\u{1b}[2J", "a\u{1b}[31m\u{202e}\u{9b}b = 1\r\n");
        let place = Place::new(&source, 0..source.text.len());
        let text = one(Diagnostic::error("m\u{7}\u{1b}c")
            .at(&place, "t\u{8}")
            .help("h\u{85}"));
        let is_bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!text.contains(is_bad), "{text:?}");
    }

    /// Color is decoration: without the escape codes the text is the same.
    #[test]
    fn color_changes_no_word() {
        let source = SourceText::new("x.toml", "a = 1\n");
        let found: Diagnostics = Diagnostic::error("bad")
            .at(&Place::new(&source, 4..5), "here")
            .help("fix it")
            .into();
        let colored = render(&found, 80, Color::Always);
        assert!(colored.contains('\u{1b}'));
        let mut plain = String::new();
        let mut rest = colored.as_str();
        while let Some((before, code)) = rest.split_once('\u{1b}') {
            plain.push_str(before);
            rest = code.split_once('m').unwrap().1;
        }
        plain.push_str(rest);
        assert_eq!(plain, render(&found, 80, Color::Never));
    }

    /// A mark is drawn wherever a span may lie, also past the end or inside a character.
    #[test]
    fn a_span_outside_its_text_is_clipped() {
        for text in ["", "\n", "é", "a = 1", "a\n\nb\n\n"] {
            let source = SourceText::new("x", text);
            for start in 0..8 {
                for end in [start, start + 1, 9] {
                    let shown =
                        one(Diagnostic::error("m").at(&Place::new(&source, start..end), "l"));
                    assert!(shown.contains("[x:"), "{text:?} {start}..{end}: {shown}");
                }
            }
        }
    }
}
