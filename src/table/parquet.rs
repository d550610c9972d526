//! Plain tables to Parquet files and back; the only place that knows polars here.

use std::fs::File;
use std::io::{self, Cursor, ErrorKind, Read as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use polars::prelude::{
    Column as PolarsColumn, DataFrame, DataType, KeyValueMetadata, NamedFrom, ParquetReader,
    ParquetWriter, PolarsResult, SerReader, Series,
};

use crate::parquet::{self, Limits};

use super::{Column, SCHEMA_VERSION, Table, TableError, Values, file};

/// How much a table may unpack to, and how long its texts may be together once they stand in
/// cells. A run of a hundred thousand examples stays far below.
const LIMITS: Limits = Limits {
    n_cells: 1 << 29,
    n_bytes: 8 << 30,
};

/// The key of the schema version in a file's metadata.
const VERSION_KEY: &str = "harness.schema_version";

/// The key of the table's name in a file's metadata.
const TABLE_KEY: &str = "harness.table";

/// Writes a table to `path`.
pub(super) fn write(path: &Path, table: &Table<'_>) -> Result<(), TableError> {
    let written = file::replace(path, |it| {
        let mut frame = frame(table).map_err(io::Error::other)?;
        let metadata = KeyValueMetadata::from_static(vec![
            (VERSION_KEY.to_owned(), SCHEMA_VERSION.to_string()),
            (TABLE_KEY.to_owned(), table.name.clone()),
        ]);
        let writer = ParquetWriter::new(it).with_key_value_metadata(Some(metadata));
        writer
            .finish(&mut frame)
            .map(drop)
            .map_err(io::Error::other)
    });
    written.map_err(|source| TableError::Write {
        path: path.to_owned(),
        source,
    })
}

fn frame(table: &Table<'_>) -> PolarsResult<DataFrame> {
    let column = |column: &Column<'_>| -> PolarsColumn {
        let name = column.name.as_str().into();
        match &column.values {
            Values::Text(cells) => {
                let cells: Vec<Option<&str>> = cells.iter().map(Option::as_deref).collect();
                Series::new(name, cells)
            }
            Values::Count(cells) => Series::new(name, cells),
            Values::Number(cells) => Series::new(name, cells),
            Values::Claim(cells) => Series::new(name, cells),
        }
        .into()
    };
    DataFrame::new(table.n_rows, table.columns.iter().map(column).collect())
}

/// Reads the table `name` from `path`.
pub(super) fn read(path: &Path, name: &str) -> Result<Table<'static>, TableError> {
    let path = path.to_owned();
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(source) if source.kind() == ErrorKind::NotFound => {
            return Err(TableError::Missing { path });
        }
        Err(source) => return Err(TableError::Read { path, source }),
    };
    let bytes = bytes(file, &path)?;
    if let Err(err) = parquet::check(&bytes, LIMITS) {
        let reason = err.to_string();
        return Err(TableError::Damaged { path, reason });
    }
    // The decoder can panic on a hostile file; that is a fault of the file.
    let decoded = catch_unwind(AssertUnwindSafe(|| decode(bytes, &path, name)));
    decoded.unwrap_or_else(|_| {
        Err(TableError::Damaged {
            path,
            reason: "its decoding failed".to_owned(),
        })
    })
}

/// The bytes of a table's file, which must be a regular one.
fn bytes(file: File, path: &Path) -> Result<Vec<u8>, TableError> {
    let unreadable = |source| TableError::Read {
        path: path.to_owned(),
        source,
    };
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() || LIMITS.n_bytes < metadata.len() {
        return Err(TableError::Damaged {
            path: path.to_owned(),
            reason: format!("it is not a file of at most {} bytes", LIMITS.n_bytes),
        });
    }
    let mut bytes = Vec::new();
    let mut within = file.take(LIMITS.n_bytes);
    within.read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

fn decode(bytes: Vec<u8>, path: &Path, name: &str) -> Result<Table<'static>, TableError> {
    let damaged = |error: polars::prelude::PolarsError| TableError::Damaged {
        path: path.to_owned(),
        reason: printable(&error.to_string()),
    };
    let mut reader = ParquetReader::new(Cursor::new(bytes));
    let metadata = reader.get_metadata().map_err(damaged)?;
    let pairs = metadata.key_value_metadata().as_deref().unwrap_or_default();
    let find = |key: &str| {
        pairs
            .iter()
            .find(|it| it.key == key)
            .and_then(|it| it.value.clone())
            .ok_or_else(|| {
                let reason = format!("its metadata lacks `{key}`");
                TableError::Foreign {
                    path: path.to_owned(),
                    reason,
                }
            })
    };
    let (version, written_as) = (find(VERSION_KEY)?, find(TABLE_KEY)?);
    if version != SCHEMA_VERSION.to_string() {
        return Err(TableError::Version {
            path: path.to_owned(),
            found: version,
        });
    }
    if written_as != name {
        let reason = format!("it is the table `{written_as}`");
        return Err(TableError::Foreign {
            path: path.to_owned(),
            reason,
        });
    }
    let frame = reader.finish().map_err(damaged)?;
    let n_bytes = frame.columns().iter().map(text_bytes).sum::<u64>();
    if LIMITS.n_bytes < n_bytes {
        return Err(TableError::Damaged {
            path: path.to_owned(),
            reason: format!("its texts would take {n_bytes} bytes"),
        });
    }
    let columns = frame.columns().iter().map(|it| column(it, path, damaged));
    Ok(Table {
        name: name.to_owned(),
        n_rows: frame.height(),
        columns: columns.collect::<Result<_, _>>()?,
    })
}

/// How long a column's texts are together: one in a dictionary is repeated at no cost.
fn text_bytes(column: &PolarsColumn) -> u64 {
    let texts = column.str().into_iter().flat_map(|it| it.iter().flatten());
    texts.map(|it| it.len() as u64).sum()
}

/// Text from a file that nobody vouches for, fit for a message.
fn printable(text: &str) -> String {
    let shown = |it: char| match it {
        it if it.is_control() => it.escape_default().to_string(),
        it => it.to_string(),
    };
    text.chars().map(shown).collect()
}

fn column(
    column: &PolarsColumn,
    path: &Path,
    damaged: impl Fn(polars::prelude::PolarsError) -> TableError,
) -> Result<Column<'static>, TableError> {
    let values = match column.dtype() {
        DataType::String => {
            let cells = column.str().map_err(damaged)?;
            Values::Text(
                cells
                    .iter()
                    .map(|it| it.map(|text| text.to_owned().into()))
                    .collect(),
            )
        }
        DataType::Int64 => Values::Count(column.i64().map_err(damaged)?.iter().collect()),
        DataType::Float64 => Values::Number(column.f64().map_err(damaged)?.iter().collect()),
        DataType::Boolean => Values::Claim(column.bool().map_err(damaged)?.iter().collect()),
        other => {
            return Err(TableError::Column {
                path: path.to_owned(),
                column: printable(column.name()),
                reason: format!("is {other}, which harness does not write"),
            });
        }
    };
    Ok(Column {
        name: column.name().to_string(),
        values,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::fixture::{self, Run};
    use crate::table::{RunTables, StoredRun, TOKENS, read_table, stored, table_path};

    fn written(run: &RunTables<'_>) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fixture::manifest().write(folder.path()).unwrap();
        crate::table::write(folder.path(), run).unwrap();
        folder
    }

    fn read_back(folder: &Path) -> Result<StoredRun, TableError> {
        crate::table::read(folder)
    }

    #[test]
    fn a_run_comes_back_as_it_was_written() {
        for run in [Run::new(), Run::empty()] {
            let folder = written(&run.tables());
            let expected = stored(folder.path(), fixture::manifest(), &run.tables()).unwrap();
            assert_eq!(read_back(folder.path()).unwrap(), expected);
        }
    }

    #[test]
    fn every_table_keeps_its_columns_and_types_on_disk() {
        let text = |id: u32, _: usize| format!("<{id}>");
        for run in [Run::new(), Run::empty()] {
            let run = RunTables {
                with_tokens: Some(&text),
                ..run.tables()
            };
            let folder = written(&run);
            for table in crate::table::encode::tables(&run) {
                let back = read_table(folder.path(), &table.name).unwrap();
                assert_eq!(back, table);
            }
        }
    }

    #[test]
    fn equal_runs_have_equal_files() {
        let run = Run::new();
        let (one, other) = (written(&run.tables()), written(&run.tables()));
        for name in crate::table::TABLES {
            let bytes =
                |of: &tempfile::TempDir| std::fs::read(table_path(of.path(), name)).unwrap();
            assert_eq!(bytes(&one), bytes(&other), "{name}");
        }
        assert!(
            !table_path(one.path(), TOKENS).exists(),
            "nobody asked for tokens"
        );
    }

    #[test]
    fn nothing_but_the_tables_is_left_in_the_folder() {
        let run = Run::new();
        let folder = written(&run.tables());
        let names = std::fs::read_dir(folder.path()).unwrap();
        let mut names: Vec<String> = names
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let expected = [
            "cases.parquet",
            "choices.parquet",
            "comparisons.parquet",
            "examples.parquet",
            "metrics.parquet",
            "run.json",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_table_that_cannot_be_used_says_which_and_why() {
        let run = Run::new();
        let folder = written(&run.tables());
        let cases = table_path(folder.path(), "cases");
        let error = |bytes: &[u8]| {
            std::fs::write(&cases, bytes).unwrap();
            let error = read_back(folder.path()).unwrap_err();
            assert!(error.to_string().contains("cases.parquet"), "{error}");
            error
        };
        let good = std::fs::read(&cases).unwrap();
        assert!(matches!(
            error(b"not parquet at all"),
            TableError::Damaged { .. }
        ));
        assert!(matches!(
            error(&good[..good.len() / 2]),
            TableError::Damaged { .. }
        ));
        // As another program would write it: no metadata of ours.
        let foreign = {
            let mut bytes = Vec::new();
            let mut frame = frame(&read_table(folder.path(), "choices").unwrap()).unwrap();
            ParquetWriter::new(&mut bytes).finish(&mut frame).unwrap();
            bytes
        };
        assert!(matches!(error(&foreign), TableError::Foreign { .. }));
        let choices = std::fs::read(table_path(folder.path(), "choices")).unwrap();
        let other = error(&choices);
        assert!(
            other.to_string().ends_with("it is the table `choices`"),
            "{other}"
        );
        std::fs::remove_file(&cases).unwrap();
        assert!(matches!(
            read_back(folder.path()),
            Err(TableError::Missing { .. })
        ));
    }

    /// Whatever its bytes are: a table or a refusal, and no room for more than it holds.
    #[test]
    fn a_damaged_table_is_read_or_refused() {
        let run = Run::new();
        let folder = written(&run.tables());
        let path = table_path(folder.path(), "cases");
        let good = std::fs::read(&path).unwrap();
        let mut n_refused = 0;
        for at in (0..good.len()).step_by(3) {
            let mut damaged = good.clone();
            damaged[at] ^= 0x80 | (at % 127) as u8;
            std::fs::write(&path, damaged).unwrap();
            n_refused += usize::from(read_table(folder.path(), "cases").is_err());
        }
        assert!(100 < n_refused, "{n_refused}");
    }

    #[test]
    fn another_schema_version_is_named() {
        let run = Run::new();
        let folder = written(&run.tables());
        let path = table_path(folder.path(), "metrics");
        let mut frame = frame(&read_table(folder.path(), "metrics").unwrap()).unwrap();
        let pairs = [(VERSION_KEY, "99"), (TABLE_KEY, "metrics")];
        let pairs = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let metadata = KeyValueMetadata::from_static(pairs.to_vec());
        ParquetWriter::new(File::create(&path).unwrap())
            .with_key_value_metadata(Some(metadata))
            .finish(&mut frame)
            .unwrap();
        let error = read_back(folder.path()).unwrap_err();
        assert!(
            matches!(&error, TableError::Version { found, .. } if found == "99"),
            "{error}"
        );
    }

    #[test]
    fn a_column_that_is_missing_or_of_another_type_is_named() {
        let run = Run::new();
        for (change, expected) in [
            (
                (|it| it.columns.retain(|it| it.name != "status")) as fn(&mut Table<'_>),
                "is missing",
            ),
            (
                |it| it.columns[6].values = Values::Count(vec![None; it.n_rows]),
                "is int64, expected string",
            ),
            (
                |it| it.columns[6].values = Values::Text(vec![None; it.n_rows]),
                "is empty in row 1",
            ),
            (
                |it| it.columns[6].values = Values::Text(vec![Some("fine".into()); it.n_rows]),
                "holds unknown \"fine\" in row 1",
            ),
        ] {
            let folder = written(&run.tables());
            let mut table = read_table(folder.path(), "cases").unwrap();
            assert_eq!(table.columns[6].name, "status");
            change(&mut table);
            write(&table_path(folder.path(), "cases"), &table).unwrap();
            let error = read_back(folder.path()).unwrap_err().to_string();
            assert!(error.starts_with("column `status` of `"), "{error}");
            assert!(error.ends_with(expected), "{error}");
        }
    }
}
