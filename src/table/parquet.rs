//! Plain tables to Parquet files and back; the only place that knows polars here.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Read as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use polars::io::parquet::write::BatchedWriter;
use polars::prelude::{
    Column as PolarsColumn, DataFrame, DataType, KeyValueMetadata, NamedFrom, ParquetReader,
    ParquetWriter, PolarsError, PolarsResult, Schema, SerReader, Series,
};

use crate::parquet::{self, Limits};

use super::file::Replacement;
use super::{Column, SCHEMA_VERSION, Table, TableError, Values};

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
    let mut growing = Growing::begin(path, table)?;
    growing.add(table)?;
    growing.finish()?;
    Ok(())
}

/// A table that is written a row group at a time, beside its place until all is there.
pub(super) struct Growing {
    path: PathBuf,
    file: Replacement,
    writer: BatchedWriter<BufWriter<File>>,
}

impl std::fmt::Debug for Growing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Growing").field(&self.path).finish()
    }
}

impl Growing {
    /// Begins what will be `path`, with the columns of `table`; its rows are not written yet.
    pub(super) fn begin(path: &Path, table: &Table<'_>) -> Result<Self, TableError> {
        let begun = || {
            let file = Replacement::begin(path)?;
            let metadata = KeyValueMetadata::from_static(vec![
                (VERSION_KEY.to_owned(), SCHEMA_VERSION.to_string()),
                (TABLE_KEY.to_owned(), table.name.clone()),
            ]);
            let writer = ParquetWriter::new(file.writer()?)
                .with_key_value_metadata(Some(metadata))
                .batched(&schema(table))
                .map_err(io::Error::other)?;
            Ok((file, writer))
        };
        let (file, writer) = begun().map_err(|it| refused(path, it))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            writer,
        })
    }

    /// Adds the rows of `table`, which has the columns that it began with.
    pub(super) fn add(&mut self, table: &Table<'_>) -> Result<(), TableError> {
        let written = frame(table).and_then(|it| self.writer.write_batch(&it));
        written.map_err(|it| refused(&self.path, io::Error::other(it)))
    }

    /// Puts the table into its place and says where that is.
    pub(super) fn finish(self) -> Result<PathBuf, TableError> {
        // Flushes too.
        let ended = self.writer.finish().map(drop).map_err(io::Error::other);
        let placed = ended.and_then(|()| self.file.commit());
        placed.map_err(|it| refused(&self.path, it))?;
        Ok(self.path)
    }
}

fn refused(path: &Path, source: io::Error) -> TableError {
    TableError::Write {
        path: path.to_owned(),
        source,
    }
}

fn schema(table: &Table<'_>) -> Schema {
    let columns = table.columns.iter().map(|it| {
        let dtype = match &it.values {
            Values::Text(_) => DataType::String,
            Values::Count(_) => DataType::Int64,
            Values::Number(_) => DataType::Float64,
            Values::Claim(_) => DataType::Boolean,
        };
        (it.name.as_str().into(), dtype)
    });
    columns.collect()
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
    check(path)?;
    decoding(path, |file| {
        let (reader, _) = open(file, path, name)?;
        let frame = reader.finish().map_err(|it| damaged(path, &it))?;
        table(&frame, path, name)
    })
}

/// Reads the table `name` from `path`, a row group at a time.
///
/// With `columns`, those alone; what is missing of them, `each` will miss. `each` is called once
/// at least, with a table without rows if need be.
pub(super) fn read_groups(
    path: &Path,
    name: &str,
    columns: Option<&[&str]>,
    mut each: impl FnMut(Table<'static>) -> Result<(), TableError>,
) -> Result<(), TableError> {
    check(path)?;
    let mut start = 0;
    loop {
        let (table, n_total) = decoding(path, |file| {
            let (mut reader, groups) = open(file, path, name)?;
            let mut ends = groups.iter().scan(0, |end, n| {
                *end += n;
                Some(*end)
            });
            let end = ends.find(|it| start < *it).unwrap_or(start);
            if let Some(columns) = columns {
                let schema = reader.schema().map_err(|it| damaged(path, &it))?;
                let there = columns.iter().filter(|it| schema.contains(it));
                let there = there.map(|it| (*it).to_owned()).collect();
                reader = reader.with_columns(Some(there));
            }
            let reader = reader.with_slice(Some((start, end - start)));
            let frame = reader.finish().map_err(|it| damaged(path, &it))?;
            Ok((table(&frame, path, name)?, groups.iter().sum::<usize>()))
        })?;
        let n_rows = table.n_rows;
        each(table)?;
        start += n_rows;
        if n_total <= start || n_rows == 0 {
            return Ok(());
        }
    }
}

/// Opens `path` for `decode`, whose panics are faults of the file.
fn decoding<T>(
    path: &Path,
    decode: impl FnOnce(File) -> Result<T, TableError>,
) -> Result<T, TableError> {
    let file = opened(path)?;
    // The decoder can panic on a hostile file; that is a fault of the file.
    let decoded = catch_unwind(AssertUnwindSafe(|| decode(file)));
    decoded.unwrap_or_else(|_| {
        Err(TableError::Damaged {
            path: path.to_owned(),
            reason: "its decoding failed".to_owned(),
        })
    })
}

/// Refuses a file, which must be a regular one, whose claims are more than its bytes stand for.
fn check(path: &Path) -> Result<(), TableError> {
    let damaged = |reason| TableError::Damaged {
        path: path.to_owned(),
        reason,
    };
    let unreadable = |source| TableError::Read {
        path: path.to_owned(),
        source,
    };
    let file = opened(path)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() || LIMITS.n_bytes < metadata.len() {
        let reason = format!("it is not a file of at most {} bytes", LIMITS.n_bytes);
        return Err(damaged(reason));
    }
    let mut bytes = Vec::new();
    let mut within = file.take(LIMITS.n_bytes);
    within.read_to_end(&mut bytes).map_err(unreadable)?;
    parquet::check(&bytes, LIMITS).map_err(|err| damaged(err.to_string()))
}

fn opened(path: &Path) -> Result<File, TableError> {
    let path = path.to_owned();
    File::open(&path).map_err(|source| match source.kind() {
        ErrorKind::NotFound => TableError::Missing { path },
        _ => TableError::Read { path, source },
    })
}

fn damaged(path: &Path, error: &PolarsError) -> TableError {
    TableError::Damaged {
        path: path.to_owned(),
        reason: printable(&error.to_string()),
    }
}

/// A reader of the table `name`, with the rows of each row group.
fn open(
    file: File,
    path: &Path,
    name: &str,
) -> Result<(ParquetReader<File>, Vec<usize>), TableError> {
    let mut reader = ParquetReader::new(file);
    let metadata = reader.get_metadata().map_err(|it| damaged(path, &it))?;
    #[expect(
        clippy::redundant_closure_for_method_calls,
        reason = "polars does not name the type"
    )]
    let groups = metadata.row_groups.iter().map(|it| it.num_rows()).collect();
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
    Ok((reader, groups))
}

fn table(frame: &DataFrame, path: &Path, name: &str) -> Result<Table<'static>, TableError> {
    let n_bytes = frame.columns().iter().map(text_bytes).sum::<u64>();
    if LIMITS.n_bytes < n_bytes {
        return Err(TableError::Damaged {
            path: path.to_owned(),
            reason: format!("its texts would take {n_bytes} bytes"),
        });
    }
    let columns = frame.columns().iter().map(|it| column(it, path));
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

fn column(column: &PolarsColumn, path: &Path) -> Result<Column<'static>, TableError> {
    let damaged = |it: PolarsError| damaged(path, &it);
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
    use crate::score::Score;
    use crate::table::fixture::{self, Run};
    use crate::table::{
        CaseTables, CellTally, RunTables, StoredRun, TOKENS, Tallies, read_summary, read_table,
        stored, summary, table_path,
    };

    fn written(run: &Run) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fixture::manifest().write(folder.path()).unwrap();
        crate::table::write(folder.path(), &run.tables(), &run.scores).unwrap();
        folder
    }

    fn read_back(folder: &Path) -> Result<StoredRun, TableError> {
        crate::table::read(folder)
    }

    #[test]
    fn a_run_comes_back_as_it_was_written() {
        for run in [Run::new(), Run::empty()] {
            let folder = written(&run);
            let (manifest, tables) = (fixture::manifest(), run.tables());
            let expected = stored(folder.path(), manifest, &tables, &run.scores).unwrap();
            assert_eq!(read_back(folder.path()).unwrap(), expected);
        }
    }

    #[test]
    fn every_table_keeps_its_columns_and_types_on_disk() {
        let text = |id: u32, _: usize| format!("<{id}>");
        for run in [Run::new(), Run::empty()] {
            let tables = RunTables {
                with_tokens: Some(&text),
                ..run.tables()
            };
            let folder = tempfile::tempdir().unwrap();
            crate::table::write(folder.path(), &tables, &run.scores).unwrap();
            for table in crate::table::encode::tables(&tables, &run.scores) {
                let back = read_table(folder.path(), &table.name).unwrap();
                assert_eq!(back, table);
            }
        }
    }

    #[test]
    fn equal_runs_have_equal_files() {
        let run = Run::new();
        let (one, other) = (written(&run), written(&run));
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

    /// Row groups are a matter of memory: rows and columns are those of one that was written whole.
    #[test]
    fn tables_written_in_row_groups_are_the_same_tables() {
        let text = |id: u32, _: usize| format!("<{id}>");
        let run = Run::new();
        let tables = RunTables {
            with_tokens: Some(&text),
            ..run.tables()
        };
        let mut scores: Vec<&Score> = run.scores.iter().collect();
        scores.sort_by_key(|it| it.key);
        let folder = tempfile::tempdir().unwrap();
        let mut of_cases = CaseTables::begin(folder.path(), &tables).unwrap();
        for group in scores.chunks(5) {
            of_cases.add(&tables, group).unwrap();
        }
        of_cases.finish(&tables).unwrap();
        for table in crate::table::encode::tables(&tables, &run.scores) {
            let back = read_table(folder.path(), &table.name).unwrap();
            assert_eq!(back, table);
            let path = table_path(folder.path(), &table.name);
            let (mut rows, mut n_groups) = (0, 0);
            read_groups(&path, &table.name, Some(&["run"]), |it| {
                assert_eq!(it.columns.len(), 1);
                rows += it.n_rows;
                n_groups += 1;
                Ok(())
            })
            .unwrap();
            assert_eq!(rows, table.n_rows, "{}", table.name);
            if table.name == "cases" {
                assert_eq!(n_groups, 3, "12 cases, 5 at a time");
            }
        }
    }

    /// A summary may come from memory, from a whole run or from its row groups.
    #[test]
    fn a_summary_is_the_same_wherever_it_comes_from() {
        for run in [Run::new(), Run::empty()] {
            let folder = written(&run);
            let mut tallies = Tallies::default();
            let mut scores: Vec<&Score> = run.scores.iter().collect();
            scores.sort_by_key(|it| it.key);
            for score in scores {
                tallies.add(&run.tables(), score);
            }
            let manifest = fixture::manifest();
            let expected = summary(folder.path(), manifest, &run.tables(), tallies).unwrap();
            assert_eq!(read_summary(folder.path()).unwrap(), expected);
            assert_eq!(read_back(folder.path()).unwrap().summary(), expected);
            let n_unscored: usize = expected.cells.iter().map(CellTally::n_unscored).sum();
            assert_eq!(n_unscored, usize::from(!run.scores.is_empty()));
        }
    }

    #[test]
    fn tables_that_are_not_finished_leave_nothing() {
        let run = Run::new();
        let folder = tempfile::tempdir().unwrap();
        let mut tables = CaseTables::begin(folder.path(), &run.tables()).unwrap();
        tables.add(&run.tables(), &[&run.scores[0]]).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        drop(tables);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn nothing_but_the_tables_is_left_in_the_folder() {
        let run = Run::new();
        let folder = written(&run);
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
        let folder = written(&run);
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
        let folder = written(&run);
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
        let folder = written(&run);
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
            let folder = written(&run);
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
