//! CSV and TSV: a header, then rows of as many texts.
//!
//! CSV follows RFC 4180: a value that starts with a quote runs to the closing
//! quote, two quotes inside stand for one, line breaks inside are kept as they
//! are. TSV has no quoting (IANA `text/tab-separated-values`): corpora in this
//! form hold lone quotes, and a reader that pairs them up swallows rows.
//!
//! Written by hand instead of the `csv` crate, which accepts an unclosed quote,
//! skips blank lines and does not say where a value stands.

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::Value;

use super::{Fault, Faults, Fields, Row, forbidden, without_bom};

/// Which separator, and whether quotes mean something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Csv,
    Tsv,
}

/// Reads the header and all rows; faults go to `faults`.
pub(super) fn rows(bytes: &[u8], dialect: Dialect, faults: &mut Faults) -> (Vec<String>, Vec<Row>) {
    let (body, skipped) = without_bom(bytes);
    let text = match std::str::from_utf8(body) {
        Ok(text) => text,
        Err(error) => {
            let at = error.valid_up_to();
            let line = 1 + line_breaks(&body[..at]);
            faults.add(
                Some(line),
                Some(skipped + at),
                Fault::NotUtf8 { value: body[at] },
            );
            return (Vec::new(), Vec::new());
        }
    };
    let mut reader = Reader {
        text,
        at: 0,
        line: 1,
        skipped,
        dialect,
    };
    let header = header(&mut reader, faults);
    if header.is_empty() {
        return (header, Vec::new());
    }
    let mut rows = Vec::new();
    while !reader.is_done() && !faults.is_full() {
        let (line, start) = (reader.line, reader.at);
        if reader.at_line_end() {
            reader.skip_line_end();
            faults.add(Some(line), Some(skipped + start), Fault::BlankLine);
            continue;
        }
        match reader.record() {
            Ok(values) if values.len() == header.len() => {
                let values = values.into_iter().map(|it| Value::String(it.into_owned()));
                let fields: Fields = header.iter().cloned().zip(values).collect();
                rows.push(Row::new(&fields, line));
            }
            Ok(values) => {
                let fault = Fault::Ragged {
                    expected: header.len(),
                    got: values.len(),
                };
                faults.add(Some(line), Some(skipped + start), fault);
            }
            Err((line, at, fault)) => {
                let is_unclosed = fault == Fault::UnclosedQuote;
                faults.add(Some(line), Some(at), fault);
                if is_unclosed {
                    break; // Everything after it would be read inside out.
                }
            }
        }
    }
    (header, rows)
}

/// Reads the column names; every name must be there once.
fn header(reader: &mut Reader<'_>, faults: &mut Faults) -> Vec<String> {
    if reader.is_done() {
        return Vec::new();
    }
    if reader.at_line_end() {
        faults.add(Some(1), Some(reader.skipped), Fault::BlankLine);
        return Vec::new();
    }
    let names = match reader.record() {
        Ok(names) => names,
        Err((line, at, fault)) => {
            faults.add(Some(line), Some(at), fault);
            return Vec::new();
        }
    };
    let mut seen = HashSet::new();
    for (index, name) in names.iter().enumerate() {
        if name.trim().is_empty() {
            faults.add(Some(1), None, Fault::EmptyHeader { index: index + 1 });
        } else if !seen.insert(name) {
            faults.add(
                Some(1),
                None,
                Fault::DuplicateHeader {
                    name: name.clone().into_owned(),
                },
            );
        }
    }
    names.into_iter().map(Cow::into_owned).collect()
}

/// A fault with its line and its byte in the file.
type Located = (usize, usize, Fault);

/// A position in the text.
struct Reader<'a> {
    text: &'a str,
    /// Bytes read.
    at: usize,
    /// From 1.
    line: usize,
    /// Bytes of the byte order mark.
    skipped: usize,
    dialect: Dialect,
}

impl<'a> Reader<'a> {
    /// True if only line breaks are left.
    fn is_done(&self) -> bool {
        self.text.as_bytes()[self.at..]
            .iter()
            .all(|it| matches!(it, b'\r' | b'\n'))
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn at_line_end(&self) -> bool {
        matches!(self.peek(), Some(b'\r' | b'\n'))
    }

    /// Steps over one of LF, CR LF and CR.
    fn skip_line_end(&mut self) {
        let is_crlf = self.text[self.at..].starts_with("\r\n");
        self.at += if is_crlf { 2 } else { 1 };
        self.line += 1;
    }

    /// Reads the values up to the end of the record, line break included.
    ///
    /// After text behind a closing quote the rest of the line is skipped, so that
    /// the next record can be read.
    fn record(&mut self) -> Result<Vec<Cow<'a, str>>, Located> {
        let separator = match self.dialect {
            Dialect::Csv => b',',
            Dialect::Tsv => b'\t',
        };
        let mut values = Vec::new();
        let mut first_fault = None;
        loop {
            let (line, start) = (self.line, self.at);
            let value = if self.dialect == Dialect::Csv && self.peek() == Some(b'"') {
                self.quoted()?
            } else {
                Cow::Borrowed(self.plain(separator))
            };
            if let Some((offset, character)) = forbidden(&value) {
                let at = self.skipped + start + offset;
                first_fault.get_or_insert((line, at, Fault::ForbiddenCharacter { character }));
            }
            values.push(value);
            match self.peek() {
                Some(it) if it == separator => self.at += 1,
                Some(b'\r' | b'\n') => {
                    self.skip_line_end();
                    break;
                }
                None => break,
                Some(_) => {
                    let fault = (self.line, self.skipped + self.at, Fault::TextAfterQuote);
                    first_fault.get_or_insert(fault);
                    self.plain(separator);
                }
            }
        }
        first_fault.map_or(Ok(values), Err)
    }

    /// Reads up to the separator or the end of the line.
    fn plain(&mut self, separator: u8) -> &'a str {
        let rest = &self.text[self.at..];
        let ends = |it: u8| it == separator || matches!(it, b'\r' | b'\n');
        let length = rest.bytes().position(ends).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    /// Reads a quoted value; the position is on its opening quote.
    fn quoted(&mut self) -> Result<Cow<'a, str>, Located> {
        let unclosed = (self.line, self.skipped + self.at, Fault::UnclosedQuote);
        let start = self.at + 1;
        let mut at = start;
        loop {
            let Some(length) = self.text[at..].find('"') else {
                return Err(unclosed);
            };
            at += length;
            if self.text.as_bytes().get(at + 1) != Some(&b'"') {
                break;
            }
            at += 2;
        }
        let inside = &self.text[start..at];
        self.line += line_breaks(inside.as_bytes());
        self.at = at + 1;
        Ok(if inside.contains('"') {
            Cow::Owned(inside.replace("\"\"", "\""))
        } else {
            Cow::Borrowed(inside)
        })
    }
}

/// Counts line breaks: LF, CR LF and CR are one each.
fn line_breaks(bytes: &[u8]) -> usize {
    let is_break = |(index, it): (usize, &u8)| {
        *it == b'\n' || (*it == b'\r' && bytes.get(index + 1) != Some(&b'\n'))
    };
    bytes.iter().enumerate().filter(|it| is_break(*it)).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(dialect: Dialect, text: &str) -> (Vec<String>, Vec<Row>) {
        let mut faults = Faults::default();
        let read = rows(text.as_bytes(), dialect, &mut faults);
        assert_eq!(faults.found, [], "{text}");
        read
    }

    fn texts(row: &Row) -> Vec<String> {
        row.fields()
            .values()
            .map(|it| it.as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn values_are_texts_as_written() {
        let (header, rows) = read(Dialect::Csv, "a,b,c,d\n0870,1e5, NA ,true\n");
        assert_eq!(header, ["a", "b", "c", "d"]);
        assert_eq!(texts(&rows[0]), ["0870", "1e5", " NA ", "true"]);
    }

    #[test]
    fn quoted_values_hold_separators_quotes_and_line_breaks() {
        let text = "\u{FEFF}a,b\r\n\"x,\"\"y\"\"\",\"1\r\n2\"\r\n\"\",5\" pipe\r\n";
        let (header, rows) = read(Dialect::Csv, text);
        assert_eq!(header, ["a", "b"]);
        assert_eq!(texts(&rows[0]), ["x,\"y\"", "1\r\n2"]);
        assert_eq!(texts(&rows[1]), ["", "5\" pipe"]);
        // The header is line 1, the first row takes lines 2 and 3.
        assert_eq!((rows[0].source_line, rows[1].source_line), (2, 4));
    }

    #[test]
    fn tsv_quotes_are_characters() {
        let (_, rows) = read(Dialect::Tsv, "a\tb\n\"x\t1\ny\"\t2\n");
        assert_eq!(texts(&rows[0]), ["\"x", "1"]);
        assert_eq!(texts(&rows[1]), ["y\"", "2"]);
    }

    #[test]
    fn each_fault_is_named_with_its_line_and_byte() {
        let table: &[(&str, &[u8], &str)] = &[
            (
                "ragged",
                b"a,b\n1,2\n3\n",
                "line 3, byte 8: expected 2 values as in the header, got 1",
            ),
            ("blank", b"a\n1\n\n2\n", "line 3, byte 4: blank line"),
            (
                "blank crlf",
                b"a\r\n1\r\n\r\n2\r\n",
                "line 3, byte 6: blank line",
            ),
            ("blank header", b"\na\n1", "line 1, byte 0: blank line"),
            (
                "duplicate",
                b"a,b,a\n1,2,3",
                "line 1: column `a` stands twice in the header",
            ),
            (
                "no name",
                b"a, \n1,2",
                "line 1: column 2 has no name in the header",
            ),
            (
                "unclosed",
                b"a\n\"1\n2\n",
                "line 2, byte 2: quoted value has no closing quote",
            ),
            (
                "after quote",
                b"a\n\"1\"x\n",
                "line 2, byte 5: text after a closing quote (inside a quoted value, write a quote twice)",
            ),
            (
                "nul",
                b"a\nx\0\n",
                "line 2, byte 3: text holds the character U+0000, which is not allowed in data",
            ),
            (
                "utf-8",
                b"a\r\n1\r\n\xe9\r\n",
                "line 3, byte 6: not valid UTF-8 (first bad byte 0xE9)",
            ),
        ];
        for (name, bytes, expected) in table {
            let mut faults = Faults::default();
            rows(bytes, Dialect::Csv, &mut faults);
            assert_eq!(
                faults.found.first().unwrap().to_string(),
                *expected,
                "{name}"
            );
        }
    }

    #[test]
    fn reading_goes_on_after_a_faulty_row() {
        let mut faults = Faults::default();
        rows(b"a,b\n\"1\"x,2\n3\n4,5\n6", Dialect::Csv, &mut faults);
        let lines: Vec<_> = faults.found.iter().map(|it| it.line).collect();
        assert_eq!(lines, [Some(2), Some(3), Some(5)]);
    }

    proptest! {
        /// What a standard writer writes is read back unchanged.
        #[test]
        fn written_csv_reads_back_as_the_same_texts(
            table in (1_usize..4).prop_flat_map(|n| {
                prop::collection::vec(prop::collection::vec("[a\", \r\n\té]{0,6}", n), 1..6)
            })
        ) {
            let n_columns = table[0].len();
            let mut writer = csv::WriterBuilder::new().quote_style(csv::QuoteStyle::Always).from_writer(Vec::new());
            writer.write_record((0..n_columns).map(|it| format!("c{it}"))).unwrap();
            for row in &table {
                writer.write_record(row).unwrap();
            }
            let text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            let (_, rows) = read(Dialect::Csv, &text);
            let got: Vec<Vec<String>> = rows.iter().map(texts).collect();
            prop_assert_eq!(got, table);
        }

        /// Any bytes give rows or faults, never a panic.
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(prop::sample::select(b"a\",\n\r\t\0\xff".to_vec()), 0..40)) {
            for dialect in [Dialect::Csv, Dialect::Tsv] {
                rows(&bytes, dialect, &mut Faults::default());
            }
        }
    }
}
