//! What a Parquet file claims, held against its bytes before a decoder believes it.
//!
//! A decoder makes room for what footer and page headers announce, and a process that asks for
//! more than there is ends at once, without a chance to say why. [`check`] reads both first and
//! refuses what cannot be: pages that unpack to more than their column, counts that no bytes
//! stand for, lists and schemas that nest without end, and files that unpack to more than the
//! [`Limits`]. The delta encodings are refused as well: they say inside a page, which is not
//! unpacked here, how many values and bytes there are, and decoders believe it.
//!
//! Limits: what else lies inside a page is for the decoder, which may still find it damaged.
//! Knows no other room and no decoder.

mod shapes;
mod thrift;

use shapes::{chunk, dictionary, file, group, page, page_v1, page_v2, schema};
use thrift::Fields;

/// How much a file may unpack to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Values in all columns: a few bytes can stand for any number of equal ones.
    pub n_cells: u64,
    /// Bytes of all pages when they are unpacked.
    pub n_bytes: u64,
}

/// Why a file is not to be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParquetError {
    /// The file is damaged, or something else altogether.
    #[error("{reason}")]
    Damaged {
        /// What is wrong.
        reason: String,
    },
    /// The file unpacks to more than the limits.
    #[error("it unpacks to {n_cells} values and {n_bytes} bytes")]
    TooMuch {
        /// Values in all columns, as the footer says.
        n_cells: u64,
        /// Bytes when unpacked, as the footer says.
        n_bytes: u64,
    },
}

/// What begins and ends every file.
const MAGIC: &[u8; 4] = b"PAR1";

/// Largest footer, in bytes.
const MAX_FOOTER_BYTES: usize = 16 << 20;

/// How deep columns may nest: decoders go down with calls.
const MAX_SCHEMA_DEPTH: usize = 16;

/// Up to this size a page may unpack from any number of bytes, in bytes.
const ANY_PAGE_BYTES: u64 = 16 << 20;

/// Beyond it, how many times as large as its bytes an unpacked page may be: somewhat more than
/// what the format can make of equal bytes.
fn max_page_ratio(codec: i64) -> u64 {
    match codec {
        // Brotli has no bound to speak of; a block of Zstandard is 128 KiB from 4 bytes.
        4 | 6 => 1 << 16,
        // 1,032 for deflate, 255 for LZ4, 21 for Snappy.
        _ => 2048,
    }
}

/// Encodings that are read, by number.
const ENCODINGS: [(i64, &str); 5] = [
    (0, "PLAIN"),
    (2, "PLAIN_DICTIONARY"),
    (3, "RLE"),
    (8, "RLE_DICTIONARY"),
    (9, "BYTE_STREAM_SPLIT"),
];

/// Encodings that are not, by number.
const DELTAS: [(i64, &str); 3] = [
    (5, "DELTA_BINARY_PACKED"),
    (6, "DELTA_LENGTH_BYTE_ARRAY"),
    (7, "DELTA_BYTE_ARRAY"),
];

/// The codec of pages that are not compressed.
const UNCOMPRESSED: i64 = 0;

/// Refuses a file whose footer or page headers claim what cannot be, or more than `limits`.
///
/// # Errors
///
/// [`ParquetError`] says what and where.
pub fn check(bytes: &[u8], limits: Limits) -> Result<(), ParquetError> {
    let (footer, start) = footer(bytes)?;
    check_schema(&footer)?;
    check_totals(&footer, limits)?;
    for (i, group) in footer.structs(file::ROW_GROUPS).enumerate() {
        for (j, column) in group.structs(group::COLUMNS).enumerate() {
            let checked = column
                .fields(chunk::METADATA)
                .ok_or("it has no metadata".to_owned())
                .and_then(|it| Chunk::of(it, &bytes[..start]))
                .and_then(|it| it.check());
            checked
                .map_err(|it| damaged(format!("column {} of row group {}: {it}", j + 1, i + 1)))?;
        }
    }
    Ok(())
}

fn damaged(reason: impl Into<String>) -> ParquetError {
    ParquetError::Damaged {
        reason: reason.into(),
    }
}

/// The footer, and where it begins.
fn footer(bytes: &[u8]) -> Result<(Fields, usize), ParquetError> {
    let is_parquet = bytes.starts_with(MAGIC) && bytes.ends_with(MAGIC) && 12 <= bytes.len();
    if !is_parquet {
        return Err(damaged("it does not begin and end as a Parquet file does"));
    }
    let end = bytes.len() - 8;
    let length = [0, 1, 2, 3].map(|i| bytes[end + i]);
    let length = u32::from_le_bytes(length) as usize;
    if end - MAGIC.len() < length || MAX_FOOTER_BYTES < length {
        return Err(damaged(format!("a footer of {length} bytes is too long")));
    }
    let start = end - length;
    match thrift::read(&bytes[start..end], shapes::FILE) {
        Ok((footer, _)) => Ok((footer, start)),
        Err(what) => Err(damaged(format!("its footer {what}"))),
    }
}

/// Walks the schema, which lists a tree from its root, parents before children.
fn check_schema(footer: &Fields) -> Result<(), ParquetError> {
    // Children that are still to come, for every open parent.
    let mut open: Vec<i64> = Vec::new();
    for (i, element) in footer.structs(file::SCHEMA).enumerate() {
        while open.last() == Some(&0) {
            open.pop();
        }
        match open.last_mut() {
            Some(n) => *n -= 1,
            None if i == 0 => {}
            None => return Err(damaged("its schema has more than one root")),
        }
        let n_children = element.int(schema::N_CHILDREN).unwrap_or(0);
        if n_children < 0 {
            return Err(damaged("its schema has a negative number of columns"));
        }
        if n_children != 0 {
            open.push(n_children);
        }
        if MAX_SCHEMA_DEPTH < open.len() {
            return Err(damaged(format!(
                "its columns nest more than {MAX_SCHEMA_DEPTH} deep"
            )));
        }
    }
    if open.iter().any(|it| *it != 0) {
        return Err(damaged("its schema ends too early"));
    }
    Ok(())
}

fn check_totals(footer: &Fields, limits: Limits) -> Result<(), ParquetError> {
    let n_rows = footer.int(file::N_ROWS).unwrap_or(0);
    let (mut n_cells, mut n_bytes, mut rows_of_groups) = (0_u64, 0_u64, 0_i64);
    for group in footer.structs(file::ROW_GROUPS) {
        let rows = group.int(group::N_ROWS).unwrap_or(0);
        let of_group = u64::try_from(rows)
            .map_err(|_| damaged("a row group has a negative number of rows"))?;
        rows_of_groups = rows_of_groups.saturating_add(rows);
        for column in group.structs(group::COLUMNS) {
            let Some(column) = column.fields(chunk::METADATA) else {
                continue;
            };
            let count = |id| u64::try_from(column.int(id).unwrap_or(0)).unwrap_or(u64::MAX);
            n_cells = n_cells.saturating_add(count(chunk::N_VALUES).max(of_group));
            n_bytes = n_bytes.saturating_add(count(chunk::UNPACKED_BYTES));
        }
    }
    if rows_of_groups != n_rows {
        return Err(damaged(format!(
            "it has {n_rows} rows, but its row groups have {rows_of_groups}"
        )));
    }
    if limits.n_cells < n_cells || limits.n_bytes < n_bytes {
        return Err(ParquetError::TooMuch { n_cells, n_bytes });
    }
    Ok(())
}

/// One column of one row group.
struct Chunk<'a> {
    bytes: &'a [u8],
    codec: i64,
    n_values: u64,
    unpacked_bytes: u64,
}

impl<'a> Chunk<'a> {
    fn of(metadata: &Fields, bytes: &'a [u8]) -> Result<Self, String> {
        let count = |id, what| {
            let it = metadata.int(id).unwrap_or(-1);
            u64::try_from(it).map_err(|_| format!("{it} is no {what}"))
        };
        let start = match metadata.int(chunk::DICTIONARY_AT) {
            Some(_) => count(chunk::DICTIONARY_AT, "place of a dictionary")?,
            None => count(chunk::DATA_AT, "place of data")?,
        };
        let n_bytes = count(chunk::PACKED_BYTES, "number of bytes")?;
        let end = start.saturating_add(n_bytes);
        let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
        let bytes = range
            .and_then(|(start, end)| bytes.get(start..end))
            .ok_or_else(|| format!("bytes {start} to {end} are not there"))?;
        Ok(Self {
            bytes,
            codec: metadata.int(chunk::CODEC).unwrap_or(-1),
            n_values: count(chunk::N_VALUES, "number of values")?,
            unpacked_bytes: count(chunk::UNPACKED_BYTES, "number of bytes")?,
        })
    }

    /// Walks the pages as a decoder does: a dictionary may come first, then data until all
    /// values were seen.
    fn check(&self) -> Result<(), String> {
        let (mut at, mut n_seen, mut n_pages) = (0, 0_u64, 0);
        // A decoder looks for a dictionary even where there are no values.
        while n_seen < self.n_values || (n_pages == 0 && !self.bytes.is_empty()) {
            let page = Page::of(self, at).map_err(|it| format!("page {}: {it}", n_pages + 1))?;
            if page.is_dictionary && 0 < n_pages {
                return Err(format!("page {}: a second dictionary", n_pages + 1));
            }
            at = page.end;
            n_seen = n_seen.saturating_add(page.n_values);
            n_pages += 1;
        }
        if n_seen != self.n_values {
            return Err(format!(
                "its pages have {n_seen} values, but the footer says {}",
                self.n_values
            ));
        }
        Ok(())
    }
}

/// One page, of which the header was checked.
struct Page {
    end: usize,
    /// Of a dictionary none, since it repeats nothing.
    n_values: u64,
    is_dictionary: bool,
}

impl Page {
    /// The page that begins at byte `at` of the column.
    fn of(column: &Chunk<'_>, at: usize) -> Result<Self, String> {
        let (header, length) = thrift::read(&column.bytes[at..], shapes::PAGE)
            .map_err(|it| format!("its header {it}"))?;
        let start = at + length;
        let left = (column.bytes.len() - start) as u64;
        let packed = size(&header, page::PACKED_BYTES)?;
        let unpacked = size(&header, page::UNPACKED_BYTES)?;
        if left < packed {
            return Err(format!("{packed} bytes, where the column has {left} left"));
        }
        if column.unpacked_bytes < unpacked {
            return Err(format!(
                "it would unpack to {unpacked} bytes, more than its column with {}",
                column.unpacked_bytes
            ));
        }
        let is_plausible = unpacked <= packed.saturating_mul(max_page_ratio(column.codec));
        if ANY_PAGE_BYTES < unpacked && !is_plausible {
            return Err(format!("{packed} bytes do not unpack to {unpacked}"));
        }
        if column.codec == UNCOMPRESSED && packed != unpacked {
            return Err(format!(
                "{packed} bytes that are not compressed cannot be {unpacked}"
            ));
        }
        let (n_values, is_dictionary) = match header.int(page::TYPE) {
            Some(page::DATA) => {
                check_encoding(of_data(&header, page::V1, page_v1::ENCODING)?)?;
                (of_data(&header, page::V1, page_v1::N_VALUES)?, false)
            }
            Some(page::DATA_V2) => {
                check_encoding(of_data(&header, page::V2, page_v2::ENCODING)?)?;
                let n_values = of_data(&header, page::V2, page_v2::N_VALUES)?;
                check_levels(&header, packed.min(unpacked))?;
                (n_values, false)
            }
            Some(page::DICTIONARY) => {
                let n = of_data(&header, page::OF_DICTIONARY, dictionary::N_VALUES)?;
                // The smallest value of a type that may have a dictionary takes four bytes.
                if unpacked / 4 < n {
                    return Err(format!("{n} values do not fit in {unpacked} bytes"));
                }
                (0, true)
            }
            _ => return Err("it is of a kind that is not read".to_owned()),
        };
        Ok(Self {
            end: start + packed as usize,
            n_values,
            is_dictionary,
        })
    }
}

fn size(header: &Fields, id: i16) -> Result<u64, String> {
    let it = header.int(id).unwrap_or(-1);
    u64::try_from(it).map_err(|_| format!("it is said to have {it} bytes"))
}

/// A number in the header of its own kind.
fn of_data(header: &Fields, kind: i16, id: i16) -> Result<u64, String> {
    let it = header.fields(kind).and_then(|it| it.int(id)).unwrap_or(-1);
    u64::try_from(it).map_err(|_| format!("{it} in its header is no count"))
}

fn check_encoding(encoding: u64) -> Result<(), String> {
    let is = |it: &&(i64, &str)| it.0.cast_unsigned() == encoding;
    if ENCODINGS.iter().any(|it| is(&it)) {
        return Ok(());
    }
    let name = DELTAS.iter().find(is).map(|it| it.1);
    let name = name.map_or_else(|| format!("number {encoding}"), str::to_owned);
    let known = ENCODINGS.map(|it| it.1).join(", ");
    Err(format!(
        "the encoding {name} is not read, only {known}: write the file with one of them"
    ))
}

/// The levels of a page of the second version stand in front of its values, uncompressed.
fn check_levels(header: &Fields, most: u64) -> Result<(), String> {
    let of = |id| of_data(header, page::V2, id);
    let n_bytes = of(page_v2::DEFINITION_BYTES)?.saturating_add(of(page_v2::REPETITION_BYTES)?);
    if most < n_bytes {
        return Err(format!("levels of {n_bytes} bytes in {most}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
