//! Why a dataset could not be read: every fault with its line and byte.

use std::fmt;
use std::path::{Path, PathBuf};

use super::Faults;

/// The faults of one file; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetErrors {
    /// The file as it was named.
    pub path: PathBuf,
    /// At most 20, in file order.
    pub errors: Vec<DatasetError>,
}

/// One fault and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetError {
    /// The line, from 1; for Parquet the row's number. None: the file as a whole.
    pub line: Option<usize>,
    /// Bytes before the fault, from the start of the file. None: not known.
    pub byte: Option<usize>,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a file or a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The file name says no known format.
    #[error("unknown extension `{}`, expected `.jsonl`, `.csv`, `.tsv` or `.parquet`", shown(.extension))]
    UnknownExtension {
        /// The extension without its dot; may be empty.
        extension: String,
    },
    /// A folder, pipe, socket or device.
    #[error("not a regular file")]
    NotAFile,
    /// The operating system refused.
    #[error("{reason}")]
    Unreadable {
        /// The system's words.
        reason: String,
    },
    /// No row at all.
    #[error("no rows")]
    Empty,
    /// Bytes that are not UTF-8.
    #[error("not valid UTF-8 (first bad byte 0x{value:02X})")]
    NotUtf8 {
        /// The first byte that does not fit.
        value: u8,
    },
    /// A line that is not JSON.
    #[error("not valid JSON: {reason}")]
    NotJson {
        /// The parser's words, without a position.
        reason: String,
    },
    /// JSON, but not an object.
    #[error("expected one JSON object per line, got {got}")]
    NotAnObject {
        /// The JSON type that was there.
        got: &'static str,
    },
    /// A key written twice in one object; one of the values would be lost.
    #[error("key `{}` stands twice in one object", shown(.key))]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A number that no 64-bit float can hold.
    #[error("number `{}` is too large", shown(.number))]
    NumberTooLarge {
        /// The digits as written.
        number: String,
    },
    /// NUL or the character that marks data in prompts.
    #[error("text holds the character U+{:04X}, which is not allowed in data", u32::from(*.character))]
    ForbiddenCharacter {
        /// The character.
        character: char,
    },
    /// A line without content between rows.
    #[error("blank line")]
    BlankLine,
    /// A column without a name.
    #[error("column {index} has no name in the header")]
    EmptyHeader {
        /// From 1.
        index: usize,
    },
    /// Two columns of one name.
    #[error("column `{}` stands twice in the header", shown(.name))]
    DuplicateHeader {
        /// The name.
        name: String,
    },
    /// A row with more or fewer values than the header.
    #[error("expected {expected} values as in the header, got {got}")]
    Ragged {
        /// Columns of the header.
        expected: usize,
        /// Values of the row.
        got: usize,
    },
    /// A quoted value that never ends.
    #[error("quoted value has no closing quote")]
    UnclosedQuote,
    /// A quoted value followed by more text.
    #[error("text after a closing quote (inside a quoted value, write a quote twice)")]
    TextAfterQuote,
    /// A Parquet column whose type has no JSON counterpart.
    #[error("column `{}` has type {dtype}, expected text, numbers, booleans or lists of them", shown(.name))]
    UnsupportedType {
        /// The column.
        name: String,
        /// Its type as polars names it.
        dtype: String,
    },
    /// A Parquet file that cannot be decoded.
    #[error("not a readable Parquet file: {reason}")]
    NotParquet {
        /// The reader's words.
        reason: String,
    },
    /// A Parquet file that would fill memory once it is unpacked.
    #[error("it unpacks to {n_cells} cells or {n_bytes} bytes, which is more than is read at once")]
    TooMuch {
        /// Values in all columns, as the file says.
        n_cells: u64,
        /// Bytes of its columns, as the file says.
        n_bytes: u64,
    },
    /// A Parquet file whose texts would fill memory once they stand in cells.
    #[error(
        "its texts are longer than {n_bytes} bytes together, which is more than is read at once"
    )]
    TooMuchText {
        /// The most that is read.
        n_bytes: u64,
    },
    /// This binary was built without Parquet.
    #[error("Parquet needs a build with the feature `tables`; use .jsonl, .csv or .tsv")]
    ParquetNotBuilt,
}

impl DatasetErrors {
    /// A fault of the file as a whole.
    pub(super) fn one(path: &Path, fault: Fault) -> Self {
        let errors = vec![DatasetError {
            line: None,
            byte: None,
            fault,
        }];
        Self {
            path: path.to_owned(),
            errors,
        }
    }

    /// What to try about the first fault, if there is something.
    pub fn hint(&self) -> Option<&'static str> {
        self.errors.first()?.fault.hint()
    }
}

impl Fault {
    /// What to try, if there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotAnObject { .. } => {
                Some("JSONL holds one object on each line, without brackets or commas between them")
            }
            Self::NotJson { .. } => Some(
                "JSONL holds one whole JSON object on each line; what is not known is `null`, \
                 or left out",
            ),
            Self::DuplicateKey { .. } => Some("remove or rename one of them"),
            Self::Empty => Some("a dataset needs at least one row"),
            Self::BlankLine => Some("delete the line"),
            Self::NotUtf8 { .. } => Some("save the file as UTF-8"),
            Self::Ragged { .. } => Some("quote values that hold the separator or a line break"),
            Self::UnclosedQuote => Some("double every quote inside a quoted value"),
            _ => None,
        }
    }
}

impl fmt::Display for DatasetErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot read dataset `{}`:", self.path.display())?;
        if let [only] = self.errors.as_slice() {
            return write!(f, " {only}");
        }
        for error in &self.errors {
            write!(f, "\n  {error}")?;
        }
        if Faults::LIMIT <= self.errors.len() {
            write!(f, "\n  only the first {} errors are shown", Faults::LIMIT)?;
        }
        Ok(())
    }
}

impl std::error::Error for DatasetErrors {}

impl fmt::Display for DatasetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.byte) {
            (Some(line), Some(byte)) => write!(f, "line {line}, byte {byte}: {}", self.fault),
            (Some(line), None) => write!(f, "line {line}: {}", self.fault),
            (None, Some(byte)) => write!(f, "byte {byte}: {}", self.fault),
            (None, None) => write!(f, "{}", self.fault),
        }
    }
}

impl std::error::Error for DatasetError {}

/// Text from data as a message may show it: no control characters, at most 60
/// characters.
pub fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(60).flat_map(escaped).collect();
    if 60 < text.chars().count() {
        out.push('…');
    }
    out
}

/// Control and direction characters as escapes, everything else as it is.
fn escaped(character: char) -> Vec<char> {
    let hidden = character.is_control()
        || matches!(character, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    if hidden {
        character.escape_default().collect()
    } else {
        vec![character]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_hold_no_raw_control_character() {
        let fault = Fault::DuplicateKey {
            key: "a\u{1b}[31m\u{202E}é".to_owned(),
        };
        assert_eq!(
            fault.to_string(),
            "key `a\\u{1b}[31m\\u{202e}é` stands twice in one object"
        );
        assert_eq!(shown(&"x".repeat(61)), "x".repeat(60) + "…");
    }
}
