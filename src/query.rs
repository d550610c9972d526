//! Answers SQL over the tables of stored runs.
//!
//! The tables of all runs that are given stand in one in-memory database of the bundled
//! SQLite: `cases`, `choices`, `examples`, `metrics`, `comparisons` and `tokens` as their
//! Parquet files hold them, and `runs` with what the manifests say. Runs of different
//! experiments have different columns; a table has all of them, empty where a run lacks one.
//!
//! Only tables that the statement mentions are loaded. The files are never written: the
//! database is a copy, and the one statement that is allowed must give rows. Knows `table`;
//! how an answer is shown is for `report` to say.

use indexmap::IndexMap;
use rusqlite::types::{ToSqlOutput, Value as SqlValue, ValueRef};
use rusqlite::{Connection, ErrorCode, params_from_iter};

use crate::table::{Manifest, TABLES, TOKENS, Table, Values};

/// The table of manifests, one row per run.
pub const RUNS: &str = "runs";

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// SQLite does not understand the statement, or it names what is not there.
    #[error("{message}")]
    Sql {
        /// What SQLite reported.
        message: String,
        /// Tables and their columns, for a hint; empty where they would not help.
        known: Vec<String>,
    },
    /// A statement that gives no rows, such as `DELETE`.
    #[error("the statement gives no rows; the tables are for reading")]
    NotAQuery,
    /// The database refused the tables.
    #[error("table `{table}` cannot be loaded")]
    Load {
        /// The table.
        table: String,
        /// What SQLite reported.
        source: rusqlite::Error,
    },
}

impl QueryError {
    /// What to try, if there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Sql { known, .. } if !known.is_empty() => Some(known.join("\n        ")),
            Self::NotAQuery => Some("begin with SELECT or WITH".to_owned()),
            _ => None,
        }
    }
}

/// One cell of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Nothing.
    Null,
    /// A count, an index, or a claim as 0 or 1.
    Count(i64),
    /// A number; may be infinite.
    Number(f64),
    /// A text.
    Text(String),
}

/// What a statement gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Names of the columns, as SQL names them.
    pub columns: Vec<String>,
    /// The rows, each with one cell per column.
    pub rows: Vec<Vec<Cell>>,
}

/// Whether `statement` can need `table`: whether its name occurs as a word.
///
/// A name inside a string or a comment counts too, which costs time and changes nothing.
pub fn mentions(statement: &str, table: &str) -> bool {
    statement
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|it| it.eq_ignore_ascii_case(table))
}

/// Tables of several runs, to be asked.
#[derive(Debug)]
pub struct Database {
    connection: Connection,
    /// Columns of each table so far.
    tables: IndexMap<String, Vec<String>>,
}

impl Database {
    /// A database of empty tables.
    ///
    /// # Errors
    ///
    /// [`QueryError::Load`] if SQLite cannot start.
    pub fn new() -> Result<Self, QueryError> {
        let connection = Connection::open_in_memory().map_err(|source| QueryError::Load {
            table: RUNS.to_owned(),
            source,
        })?;
        let mut database = Self {
            connection,
            tables: IndexMap::new(),
        };
        for table in TABLES.into_iter().chain([TOKENS, RUNS]) {
            database.prepare(table, &[("experiment", "string"), ("run", "string")])?;
        }
        Ok(database)
    }

    /// Adds the rows of a run's table.
    ///
    /// # Errors
    ///
    /// [`QueryError::Load`] if SQLite refuses, such as for want of memory.
    pub fn add(&mut self, table: &Table<'_>) -> Result<(), QueryError> {
        let columns: Vec<(&str, &str)> = table
            .columns
            .iter()
            .map(|it| (it.name.as_str(), it.values.type_name()))
            .collect();
        self.prepare(&table.name, &columns)?;
        let names: Vec<&str> = columns.iter().map(|it| it.0).collect();
        self.insert(&table.name, &names, table.n_rows, |row, column| {
            cell(&table.columns[column].values, row)
        })
    }

    /// Adds a run's row to `runs`.
    ///
    /// # Errors
    ///
    /// As [`Database::add`].
    pub fn add_manifest(&mut self, manifest: &Manifest) -> Result<(), QueryError> {
        let text = |it: &str| SqlValue::Text(it.to_owned());
        let count = |it: usize| SqlValue::Integer(i64::try_from(it).unwrap_or(i64::MAX));
        let optional = |it: Option<&str>| it.map_or(SqlValue::Null, text);
        let cells = [
            ("experiment", "string", text(&manifest.experiment)),
            ("run", "string", text(&manifest.run)),
            ("status", "string", text(manifest.status.as_str())),
            ("started", "string", text(&manifest.started)),
            ("finished", "string", optional(manifest.finished.as_deref())),
            // Seeds are unsigned and may exceed what SQL counts with.
            ("seed", "string", text(&manifest.seed.to_string())),
            ("primary_metric", "string", text(&manifest.primary)),
            ("control", "string", optional(manifest.control.as_deref())),
            ("n_examples", "int64", count(manifest.counts.n_examples)),
            ("n_cases", "int64", count(manifest.counts.n_cases)),
            ("host", "string", text(&manifest.host)),
            ("device", "string", text(&manifest.device)),
            ("harness_version", "string", text(&manifest.harness_version)),
        ];
        let columns: Vec<(&str, &str)> = cells.iter().map(|it| (it.0, it.1)).collect();
        self.prepare(RUNS, &columns)?;
        let names: Vec<&str> = cells.iter().map(|it| it.0).collect();
        self.insert(RUNS, &names, 1, |_, column| {
            ToSqlOutput::Owned(cells[column].2.clone())
        })
    }

    /// Makes the table, or adds the columns that it lacks.
    fn prepare(&mut self, table: &str, columns: &[(&str, &str)]) -> Result<(), QueryError> {
        let known = self.tables.entry(table.to_owned()).or_default();
        for (name, kind) in columns {
            // SQL tells no case apart in names.
            if known.iter().any(|it| it.eq_ignore_ascii_case(name)) {
                continue;
            }
            let (table_name, column) = (quoted(table), quoted(name));
            let kind = match *kind {
                "string" => "TEXT",
                "float64" => "REAL",
                _ => "INTEGER",
            };
            let statement = if known.is_empty() {
                format!("CREATE TABLE {table_name} ({column} {kind})")
            } else {
                format!("ALTER TABLE {table_name} ADD COLUMN {column} {kind}")
            };
            self.connection
                .execute_batch(&statement)
                .map_err(|source| QueryError::Load {
                    table: table.to_owned(),
                    source,
                })?;
            known.push((*name).to_owned());
        }
        Ok(())
    }

    fn insert<'a>(
        &mut self,
        table: &str,
        columns: &[&str],
        n_rows: usize,
        cell: impl Fn(usize, usize) -> ToSqlOutput<'a>,
    ) -> Result<(), QueryError> {
        let names: Vec<String> = columns.iter().map(|it| quoted(it)).collect();
        let places = vec!["?"; columns.len()].join(", ");
        let statement = format!(
            "INSERT INTO {} ({}) VALUES ({places})",
            quoted(table),
            names.join(", ")
        );
        let mut insert_all = || {
            let transaction = self.connection.transaction()?;
            {
                let mut insert = transaction.prepare(&statement)?;
                for row in 0..n_rows {
                    let cells = (0..columns.len()).map(|column| cell(row, column));
                    insert.execute(params_from_iter(cells))?;
                }
            }
            transaction.commit()
        };
        insert_all().map_err(|source| QueryError::Load {
            table: table.to_owned(),
            source,
        })
    }

    /// Runs one statement.
    ///
    /// # Errors
    ///
    /// [`QueryError::Sql`] with SQLite's message, and the columns there are if it names one
    /// that is not; [`QueryError::NotAQuery`] for a statement that gives no rows.
    pub fn ask(&self, statement: &str) -> Result<Answer, QueryError> {
        let sql = |error: rusqlite::Error| self.explained(&error);
        let mut prepared = self.connection.prepare(statement).map_err(sql)?;
        if prepared.column_count() == 0 || !prepared.readonly() {
            return Err(QueryError::NotAQuery);
        }
        let columns: Vec<String> = prepared.column_names().map(str::to_owned).collect();
        let mut answer = Answer {
            columns,
            rows: Vec::new(),
        };
        let mut rows = prepared.query([]).map_err(sql)?;
        while let Some(row) = rows.next().map_err(sql)? {
            let cells = (0..answer.columns.len()).map(|i| row.get_ref(i).map(read));
            answer
                .rows
                .push(cells.collect::<Result<_, _>>().map_err(sql)?);
        }
        Ok(answer)
    }

    fn explained(&self, error: &rusqlite::Error) -> QueryError {
        let message = match error {
            rusqlite::Error::SqlInputError { msg, .. }
            | rusqlite::Error::SqliteFailure(_, Some(msg)) => msg.clone(),
            rusqlite::Error::MultipleStatement => "one statement at a time".to_owned(),
            rusqlite::Error::SqliteFailure(it, None) if it.code == ErrorCode::OutOfMemory => {
                "out of memory".to_owned()
            }
            other => other.to_string(),
        };
        let names_nothing =
            message.starts_with("no such table") || message.starts_with("no such column");
        let known = if names_nothing {
            let line = |(table, columns): (&String, &Vec<String>)| {
                format!("{table}: {}", columns.join(", "))
            };
            self.tables
                .iter()
                .filter(|it| 2 < it.1.len() || message.starts_with("no such table"))
                .map(line)
                .collect()
        } else {
            Vec::new()
        };
        QueryError::Sql { message, known }
    }
}

fn cell<'a>(values: &'a Values<'_>, row: usize) -> ToSqlOutput<'a> {
    let value = match values {
        Values::Text(cells) => cells[row]
            .as_deref()
            .map(|it| ValueRef::Text(it.as_bytes())),
        Values::Count(cells) => cells[row].map(ValueRef::Integer),
        Values::Number(cells) => cells[row].map(ValueRef::Real),
        Values::Claim(cells) => cells[row].map(|it| ValueRef::Integer(i64::from(it))),
    };
    ToSqlOutput::Borrowed(value.unwrap_or(ValueRef::Null))
}

fn read(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(it) => Cell::Count(it),
        ValueRef::Real(it) => Cell::Number(it),
        ValueRef::Text(it) | ValueRef::Blob(it) => {
            Cell::Text(String::from_utf8_lossy(it).into_owned())
        }
    }
}

/// A name as SQL writes it, whatever characters it has.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::table::Column;

    fn table(name: &str, columns: &[(&str, Values<'static>)]) -> Table<'static> {
        Table {
            name: name.to_owned(),
            n_rows: columns[0].1.len(),
            columns: columns
                .iter()
                .map(|(name, values)| Column {
                    name: (*name).to_owned(),
                    values: values.clone(),
                })
                .collect(),
        }
    }

    fn texts(cells: &[Option<&'static str>]) -> Values<'static> {
        Values::Text(cells.iter().map(|it| it.map(Cow::Borrowed)).collect())
    }

    fn database() -> Database {
        let mut database = Database::new().unwrap();
        let first = table(
            "cases",
            &[
                ("experiment", texts(&[Some("a"), Some("a")])),
                ("run", texts(&[Some("1"), Some("1")])),
                (
                    "loglikelihood",
                    Values::Number(vec![Some(-1.5), Some(f64::NEG_INFINITY)]),
                ),
                ("greedy_match", Values::Claim(vec![Some(true), None])),
            ],
        );
        let second = table(
            "cases",
            &[
                ("experiment", texts(&[Some("b")])),
                ("run", texts(&[Some("2")])),
                ("repeat", Values::Count(vec![Some(0)])),
                ("the \"odd\" one", texts(&[Some("x'; DROP TABLE cases")])),
            ],
        );
        database.add(&first).unwrap();
        database.add(&second).unwrap();
        database
    }

    #[test]
    fn runs_with_other_columns_share_a_table() {
        let answer = database().ask("SELECT * FROM cases ORDER BY run").unwrap();
        assert_eq!(
            answer.columns,
            [
                "experiment",
                "run",
                "loglikelihood",
                "greedy_match",
                "repeat",
                "the \"odd\" one"
            ]
        );
        let text = |it: &str| Cell::Text(it.to_owned());
        assert_eq!(
            answer.rows,
            [
                vec![
                    text("a"),
                    text("1"),
                    Cell::Number(-1.5),
                    Cell::Count(1),
                    Cell::Null,
                    Cell::Null
                ],
                vec![
                    text("a"),
                    text("1"),
                    Cell::Number(f64::NEG_INFINITY),
                    Cell::Null,
                    Cell::Null,
                    Cell::Null
                ],
                vec![
                    text("b"),
                    text("2"),
                    Cell::Null,
                    Cell::Null,
                    Cell::Count(0),
                    text("x'; DROP TABLE cases")
                ],
            ]
        );
    }

    #[test]
    fn a_table_without_rows_is_empty_and_not_unknown() {
        let database = Database::new().unwrap();
        for name in TABLES.into_iter().chain([TOKENS, RUNS]) {
            let answer = database.ask(&format!("SELECT * FROM {name}")).unwrap();
            assert_eq!((answer.columns.len(), answer.rows.len()), (2, 0), "{name}");
        }
    }

    #[test]
    fn only_one_statement_that_reads_is_run() {
        let database = database();
        let table = [
            (
                "DELETE FROM cases",
                "the statement gives no rows; the tables are for reading",
            ),
            (
                "DELETE FROM cases RETURNING run",
                "the statement gives no rows; the tables are for reading",
            ),
            (
                "ATTACH 'x.db' AS x",
                "the statement gives no rows; the tables are for reading",
            ),
            ("", "SQL is empty or comment only"),
            ("SELECT 1; SELECT 2", "one statement at a time"),
            ("SELECT FROM", "near \"FROM\": syntax error"),
            ("SELECT x FROM cases", "no such column: x"),
            ("SELECT * FROM case_", "no such table: case_"),
        ];
        for (statement, expected) in table {
            let error = database.ask(statement).unwrap_err();
            assert_eq!(error.to_string(), expected, "{statement}: {error:?}");
        }
        assert_eq!(database.ask("SELECT run FROM cases").unwrap().rows.len(), 3);
    }

    #[test]
    fn what_is_not_there_is_answered_with_what_is() {
        let database = database();
        let hint = |statement: &str| database.ask(statement).unwrap_err().hint().unwrap();
        assert!(hint("SELECT x FROM cases").starts_with("cases: experiment, run, loglikelihood"));
        assert!(hint("SELECT * FROM nowhere").contains("\n        runs: experiment, run"));
        assert_eq!(database.ask("SELECT").unwrap_err().hint(), None);
    }

    #[test]
    fn a_table_is_mentioned_by_its_whole_name() {
        assert!(mentions("select * from CASES where 1", "cases"));
        assert!(mentions("select cases.run from\"cases\"", "cases"));
        assert!(!mentions("select * from mycases, cases_2", "cases"));
    }

    #[test]
    fn a_manifest_is_a_row_of_runs() {
        let mut database = Database::new().unwrap();
        database
            .add_manifest(&crate::table::fixture::manifest())
            .unwrap();
        let answer = database
            .ask("SELECT experiment, status, seed, primary_metric FROM runs")
            .unwrap();
        let cells = ["sentiment", "complete", "17", "acc"].map(|it| Cell::Text(it.to_owned()));
        assert_eq!(answer.rows, [cells.to_vec()]);
    }
}
