//! JSONL, CSV, TSV and Parquet files to rows, and rows to examples.
//!
//! [`read`] turns a file into a [`Dataset`]: every row with the line it stands on
//! and a digest of its fields. What cannot be read exactly is refused with file,
//! line and byte, several faults at once; nothing is guessed, skipped or
//! repaired, except a byte order mark at the start of the file. Values of CSV and
//! TSV are texts: `0870` stays `0870`.
//!
//! [`examples`] then names the rows (an id each, a cluster if wanted), [`limit`]
//! keeps a reproducible subset, [`overlap`] finds rows that a few-shot pool
//! shares with the dataset.
//!
//! All rows are held in memory, each packed into about the bytes that it has in the file; the file
//! itself only while it is read. Knows no other room.

mod delimited;
mod digest;
mod error;
mod example;
mod jsonl;
mod overlap;
mod parquet;
mod row;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

pub use digest::{Digest, fields_digest, hex};
pub use error::{DatasetError, DatasetErrors, Fault, shown};
pub use example::{Example, ExamplesError, Order, examples, limit};
pub use overlap::{Overlap, overlap};
pub use row::Row;

/// The named values of one row, in the order of the file.
///
/// Numbers keep the digits of the file (`1.10` is not `1.1`).
pub type Fields = serde_json::Map<String, serde_json::Value>;

/// A character that never stands for text; refused in data, so that
/// `template` can use it to mark what came from data.
pub const RESERVED: char = '\u{FDD0}';

/// Rows of a file, in file order.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// The file as it was named.
    pub path: PathBuf,
    /// Field names in the order in which the file shows them first. A JSONL row
    /// may lack some of them.
    pub columns: Vec<String>,
    /// At least one row.
    pub rows: Vec<Row>,
    /// BLAKE3 of the bytes of the file.
    pub digest: Digest,
}

/// How a dataset is written; the file name's extension says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    Jsonl,
    /// Comma separated with a header line, quoted as in RFC 4180.
    Csv,
    /// Tab separated with a header line; a quote is a character like any other.
    Tsv,
    /// Apache Parquet.
    Parquet,
}

impl Format {
    /// Returns the format that the extension of `path` names.
    ///
    /// # Errors
    ///
    /// [`Fault::UnknownExtension`] for anything but `jsonl`, `csv`, `tsv` and
    /// `parquet`; case does not matter.
    pub fn of(path: &Path) -> Result<Self, DatasetErrors> {
        let extension = path
            .extension()
            .and_then(|it| it.to_str())
            .unwrap_or_default();
        match extension.to_ascii_lowercase().as_str() {
            "jsonl" => Ok(Self::Jsonl),
            "csv" => Ok(Self::Csv),
            "tsv" => Ok(Self::Tsv),
            "parquet" => Ok(Self::Parquet),
            _ => {
                let extension = extension.to_owned();
                Err(DatasetErrors::one(
                    path,
                    Fault::UnknownExtension { extension },
                ))
            }
        }
    }
}

/// Reads the dataset at `path`; the extension decides the format.
///
/// # Errors
///
/// [`DatasetErrors`] with the first 20 faults of the file. Anything but a regular
/// file is refused before it is opened, so a pipe cannot block.
pub fn read(path: &Path) -> Result<Dataset, DatasetErrors> {
    let format = Format::of(path)?;
    let unreadable = |source: std::io::Error| {
        DatasetErrors::one(
            path,
            Fault::Unreadable {
                reason: source.to_string(),
            },
        )
    };
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(DatasetErrors::one(path, Fault::NotAFile));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    parse(path, format, &bytes)
}

/// Reads a dataset from the bytes of a file; `path` serves messages only.
///
/// # Errors
///
/// [`DatasetErrors`] with the first 20 faults.
pub fn parse(path: &Path, format: Format, bytes: &[u8]) -> Result<Dataset, DatasetErrors> {
    let mut faults = Faults::default();
    let (header, rows) = match format {
        Format::Jsonl => (Vec::new(), jsonl::rows(bytes, &mut faults)),
        Format::Csv => delimited::rows(bytes, delimited::Dialect::Csv, &mut faults),
        Format::Tsv => delimited::rows(bytes, delimited::Dialect::Tsv, &mut faults),
        Format::Parquet => (Vec::new(), parquet::rows(bytes, &mut faults)),
    };
    if faults.found.is_empty() && rows.is_empty() {
        faults.add(None, None, Fault::Empty);
    }
    if !faults.found.is_empty() {
        return Err(DatasetErrors {
            path: path.to_owned(),
            errors: faults.found,
        });
    }
    let columns = if header.is_empty() {
        union_of_keys(&rows)
    } else {
        header
    };
    let digest = *blake3::hash(bytes).as_bytes();
    Ok(Dataset {
        path: path.to_owned(),
        columns,
        rows,
        digest,
    })
}

/// Field names in the order of their first appearance.
fn union_of_keys(rows: &[Row]) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut columns = Vec::new();
    for key in rows.iter().flat_map(Row::names) {
        if seen.insert(key) {
            columns.push(key.to_owned());
        }
    }
    columns
}

/// The faults of a file so far; reading stops when it is full.
#[derive(Debug, Default)]
struct Faults {
    found: Vec<DatasetError>,
}

impl Faults {
    /// More would scroll the first ones away.
    const LIMIT: usize = 20;

    fn add(&mut self, line: Option<usize>, byte: Option<usize>, fault: Fault) {
        if self.found.len() < Self::LIMIT {
            self.found.push(DatasetError { line, byte, fault });
        }
    }

    fn is_full(&self) -> bool {
        Self::LIMIT <= self.found.len()
    }
}

/// Returns the bytes after a byte order mark and how many were skipped.
fn without_bom(bytes: &[u8]) -> (&[u8], usize) {
    match bytes.strip_prefix("\u{FEFF}".as_bytes()) {
        Some(rest) => (rest, 3),
        None => (bytes, 0),
    }
}

/// Returns the first character of `text` that data may not hold, and its offset.
fn forbidden(text: &str) -> Option<(usize, char)> {
    text.char_indices()
        .find(|(_, it)| matches!(*it, '\0' | RESERVED))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses text that must be readable.
    fn rows(format: Format, text: &str) -> Dataset {
        parse(Path::new("data/x"), format, text.as_bytes()).unwrap()
    }

    #[test]
    fn the_extension_decides_the_format() {
        assert_eq!(Format::of(Path::new("a/b.jsonl")).unwrap(), Format::Jsonl);
        assert_eq!(Format::of(Path::new("b.TSV")).unwrap(), Format::Tsv);
        let error = Format::of(Path::new("b.json")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot read dataset `b.json`: unknown extension `json`, expected `.jsonl`, `.csv`, \
             `.tsv` or `.parquet`"
        );
    }

    #[test]
    fn a_directory_is_refused_before_it_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        std::fs::create_dir(&path).unwrap();
        let error = read(&path).unwrap_err();
        assert_eq!(error.errors[0].fault, Fault::NotAFile);
    }

    #[test]
    fn a_missing_file_says_why() {
        let error = read(Path::new("no/such.csv")).unwrap_err();
        assert!(
            matches!(error.errors[0].fault, Fault::Unreadable { .. }),
            "{error}"
        );
    }

    #[test]
    fn columns_are_the_union_of_keys_in_order_of_appearance() {
        let data = rows(Format::Jsonl, "{\"b\":1,\"a\":2}\n{\"c\":3,\"a\":4}\n");
        assert_eq!(data.columns, ["b", "a", "c"]);
        assert_eq!(data.rows[1].source_line, 2);
        assert_eq!(
            data.digest,
            *blake3::hash(b"{\"b\":1,\"a\":2}\n{\"c\":3,\"a\":4}\n").as_bytes()
        );
    }

    #[test]
    fn the_same_row_has_one_digest_in_every_format() {
        let jsonl = rows(Format::Jsonl, "{\"y\":\"2\",\"x\":\"1\"}");
        let csv = rows(Format::Csv, "x,y\r\n1,2\r\n");
        let tsv = rows(Format::Tsv, "x\ty\n1\t2");
        assert_eq!(jsonl.rows[0].digest, csv.rows[0].digest);
        assert_eq!(csv.rows, tsv.rows);
    }

    #[test]
    fn a_file_without_rows_is_refused() {
        for (format, text) in [
            (Format::Jsonl, "\n"),
            (Format::Csv, "a,b\n"),
            (Format::Tsv, ""),
        ] {
            let error = parse(Path::new("x"), format, text.as_bytes()).unwrap_err();
            assert_eq!(error.errors[0].fault, Fault::Empty, "{text:?}");
        }
    }

    #[test]
    fn reading_stops_after_twenty_faults() {
        let error = parse(Path::new("x"), Format::Jsonl, "[]\n".repeat(50).as_bytes()).unwrap_err();
        assert_eq!(error.errors.len(), 20);
        assert!(
            error
                .to_string()
                .ends_with("only the first 20 errors are shown"),
            "{error}"
        );
    }
}
