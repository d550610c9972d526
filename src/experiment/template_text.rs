//! A string of the experiment file in which a later room may find a mistake.
//!
//! A template is compiled far from here, and what it gets wrong is known as a range of
//! bytes of the decoded string. [`TemplateText`] leads such a range back to the file, past
//! quotes, escapes and the line ends that TOML drops, so that a mark can sit on the very
//! `{{ field }}` that is misspelt.

use std::ops::Range;

use super::diagnostic::Place;

/// The decoded text of a template and where it was written.
///
/// Two are equal if their texts are.
#[derive(Debug, Clone)]
pub struct TemplateText {
    /// The template, with escapes decoded.
    pub text: String,
    /// The whole TOML string with its quotes, or the value of a `--set` flag.
    pub place: Place,
}

impl PartialEq for TemplateText {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl TemplateText {
    /// The bytes of the source that became the bytes `range` of [`text`](Self::text).
    ///
    /// A range that ends inside an escape covers all of it; one beyond the text is clipped.
    /// If the source is not a TOML string of this text, the answer is the whole value.
    pub fn span_of(&self, range: Range<usize>) -> Range<usize> {
        let whole = self.place.span.clone();
        let Some(raw) = self.place.source.text.get(whole.clone()) else {
            return whole;
        };
        let Some(pieces) = pieces(raw, &self.text) else {
            return whole;
        };
        let start = range.start.min(self.text.len());
        let end = range.end.clamp(start, self.text.len());
        // The piece that holds the byte at `offset`.
        let piece = |offset: usize| &pieces[pieces.partition_point(|it| it.text <= offset) - 1];
        // An empty text is marked at its opening quote.
        let last_end = pieces.last().map_or(0, |last| last.raw.end);
        let raw_start = if start < self.text.len() {
            piece(start).raw.start
        } else {
            last_end
        };
        let raw_end = if start < end {
            piece(end - 1).raw.end
        } else {
            raw_start
        };
        whole.start + raw_start..whole.start + raw_end
    }

    /// [`span_of`](Self::span_of) together with its source text.
    pub fn place_of(&self, range: Range<usize>) -> Place {
        Place::new(&self.place.source, self.span_of(range))
    }
}

/// One character of the decoded text and the raw bytes that stand for it.
struct Piece {
    /// Where the character begins in the decoded text.
    text: usize,
    /// Its bytes, or those of its escape, in the raw value.
    raw: Range<usize>,
}

/// Splits the raw value of `text` into one piece per character; `None` if `raw` does not
/// decode to `text`.
fn pieces(raw: &str, text: &str) -> Option<Vec<Piece>> {
    let multi_line = |quote: &str| raw.len() >= 6 && raw.starts_with(quote) && raw.ends_with(quote);
    let (quotes, escapes) = if multi_line("\"\"\"") {
        (3, true)
    } else if multi_line("'''") {
        (3, false)
    } else if raw.len() >= 2 && raw.starts_with('"') && raw.ends_with('"') {
        (1, true)
    } else if raw.len() >= 2 && raw.starts_with('\'') && raw.ends_with('\'') {
        (1, false)
    } else {
        (0, false) // A bare word after `--set key=`.
    };
    let end = raw.len() - quotes;
    let mut at = quotes;
    if quotes == 3 {
        // A line end right after the opening quotes is not part of the string.
        at += raw[at..end]
            .chars()
            .take_while(|c| *c == '\r')
            .map(char::len_utf8)
            .sum::<usize>();
        at = if raw[at..end].starts_with('\n') {
            at + 1
        } else {
            quotes
        };
    }
    let mut pieces = Vec::with_capacity(text.len());
    let mut decoded = text.char_indices();
    while let Some(c) = raw[at..end].chars().next() {
        let (found, length) = if escapes && c == '\\' {
            unescape(&raw[at..end])?
        } else {
            (Some(c), c.len_utf8())
        };
        if let Some(found) = found {
            let (offset, expected) = decoded.next()?;
            if found != expected {
                return None;
            }
            pieces.push(Piece {
                text: offset,
                raw: at..at + length,
            });
        }
        at += length;
    }
    decoded.next().is_none().then_some(pieces)
}

/// The character that the escape at the start of `raw` stands for and the escape's length in
/// bytes; no character for a line-ending backslash, which swallows white space.
fn unescape(raw: &str) -> Option<(Option<char>, usize)> {
    let hex = |digits: usize| {
        let code = u32::from_str_radix(raw.get(2..2 + digits)?, 16).ok()?;
        Some((Some(char::from_u32(code)?), 2 + digits))
    };
    let simple = |c: char| Some((Some(c), 2));
    match raw[1..].chars().next()? {
        'b' => simple('\u{8}'),
        'e' => simple('\u{1b}'),
        'f' => simple('\u{c}'),
        'n' => simple('\n'),
        'r' => simple('\r'),
        't' => simple('\t'),
        '"' => simple('"'),
        '\\' => simple('\\'),
        'x' => hex(2),
        'u' => hex(4),
        'U' => hex(8),
        ' ' | '\t' | '\r' | '\n' => {
            let blank = raw[1..].find(|c| !matches!(c, ' ' | '\t' | '\r' | '\n'));
            Some((None, 1 + blank.unwrap_or(raw.len() - 1)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::diagnostic::SourceText;

    /// The template of `template = RAW` as the TOML crate decodes it.
    fn template(raw: &str) -> TemplateText {
        let source = SourceText::new("x.toml", format!("template = {raw}\n"));
        let table = toml::de::DeTable::parse(&source.text).unwrap();
        let value = &table.get_ref()["template"];
        let text = value.get_ref().as_str().unwrap().to_owned();
        TemplateText {
            text,
            place: Place::new(&source, value.span()),
        }
    }

    /// What the mark for `needle` covers in the file.
    fn marked(raw: &str, needle: &str) -> String {
        let template = template(raw);
        let start = template.text.find(needle).unwrap();
        let span = template.span_of(start..start + needle.len());
        template.place.source.text[span].to_owned()
    }

    /// A mark in a template sits on the same words in the file, whatever the quotes.
    #[test]
    fn a_range_of_the_template_is_found_in_the_file() {
        let table = [
            (r#""{{ a }}\n\u00e9\t{{ bee }}""#, "{{ bee }}", "{{ bee }}"),
            (
                r#""{{ a }}\n\x41\U0001F600 \"{{ bee }}\"""#,
                "\"{{ bee",
                "\\\"{{ bee",
            ),
            (r"'{{ a }}\n {{ bee }}'", "{{ bee }}", "{{ bee }}"),
            (
                "\"\"\"\n{{ a }}\nü \\\n   {{ bee }}\"\"\"",
                "{{ bee }}",
                "{{ bee }}",
            ),
            (
                "\"\"\"{{ a }}\n\n\"{{ bee }}\"\"\"\"",
                "{{ bee }}\"",
                "{{ bee }}\"",
            ),
            (
                "'''\n\n{{ a }} \\n 'x' {{ bee }}'''",
                "{{ bee }}",
                "{{ bee }}",
            ),
            (r#""a\nb""#, "\n", "\\n"),
            (r#""a\u00e9b""#, "é", "\\u00e9"),
        ];
        for (raw, needle, expected) in table {
            assert_eq!(marked(raw, needle), expected, "{raw}");
        }
    }

    /// The end of a template, where an unclosed tag is reported, is just before the quote.
    #[test]
    fn an_empty_range_at_the_end_is_before_the_closing_quote() {
        let end = template("\"{{ a\"");
        let span = end.span_of(5..5);
        assert_eq!(&end.place.source.text[span.start..], "\"\n");
        let empty = template("\"\"");
        assert!(empty.place.span.contains(&empty.span_of(0..0).start));
        assert_eq!(empty.span_of(7..9), empty.span_of(0..0), "clipped");
    }

    /// A bare `--set` value has no quotes, so offsets are shifted and nothing else.
    #[test]
    fn a_bare_value_maps_to_itself() {
        let source = SourceText::new("--set", "variants.a.template=Hi {{ x }}");
        let place = Place::new(&source, 20..source.text.len());
        let text = TemplateText {
            text: "Hi {{ x }}".to_owned(),
            place,
        };
        assert_eq!(&source.text[text.span_of(3..10)], "{{ x }}");
    }
}
