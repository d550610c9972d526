//! `harness query`: SQL over the tables of all runs.

use std::path::{Path, PathBuf};

use harness::query::{self, Answer, Database, QueryError};
use harness::report::query as report;
use harness::table::{self, Manifest, TABLES, TOKENS, TableError};

use super::args::QueryArgs;
use super::exit::Exit;
use super::output::{self, OutputError};
use super::run::style;

/// Answers the statement that was typed.
pub(super) fn run(args: &QueryArgs) -> Result<Exit, OutputError> {
    let folders = match folders(args) {
        Ok(folders) => folders,
        Err(err) => {
            output::error(&err, err.hint());
            return Ok(Exit::Refused);
        }
    };
    match ask(&folders, &args.statement) {
        Ok(answer) => {
            if args.json {
                output::result(&report::json(&answer))?;
            } else if args.csv {
                output::as_it_is(&report::csv(&answer))?;
            } else {
                output::result(&report::text(&answer, style()))?;
            }
            Ok(Exit::Done)
        }
        Err(err) => {
            output::error(&err, err.hint().as_deref());
            Ok(Exit::Refused)
        }
    }
}

/// The folders of the runs that were named, or of all.
fn folders(args: &QueryArgs) -> Result<Vec<PathBuf>, table::ResolveError> {
    let root = &args.results.folder;
    if args.run.is_empty() {
        let runs = table::list(root, None)?;
        if runs.is_empty() {
            return Err(table::ResolveError::NoRuns { root: root.clone() });
        }
        return Ok(runs.into_iter().map(|it| it.folder).collect());
    }
    let mut folders = Vec::new();
    for name in &args.run {
        let folder = table::resolve(root, name)?;
        // Two names of one run must not count its rows twice.
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    Ok(folders)
}

/// Loads what the statement mentions, and runs it.
fn ask(folders: &[PathBuf], statement: &str) -> Result<Answer, QueryError> {
    let mut database = Database::new()?;
    for folder in folders {
        match tables(folder, statement) {
            Ok((manifest, tables)) => {
                database.add_manifest(&manifest)?;
                for table in &tables {
                    database.add(table)?;
                }
            }
            // One run that cannot be read hides no other; it is named, not passed over.
            Err(err) => {
                output::error(&err, err.hint());
                output::note(&format!("left out: {}", folder.display()));
            }
        }
    }
    database.ask(statement)
}

/// A run's manifest, and those of its tables that the statement mentions.
fn tables(
    folder: &Path,
    statement: &str,
) -> Result<(Manifest, Vec<table::Table<'static>>), TableError> {
    let manifest = Manifest::read(folder)?;
    let mut tables = Vec::new();
    // A run that is at work has no tables yet; `runs` shows it.
    let has_tables = table::table_path(folder, TABLES[0]).exists() || manifest.status.is_finished();
    for name in TABLES.into_iter().chain([TOKENS]) {
        let is_missing = name == TOKENS && !table::table_path(folder, name).exists();
        if has_tables && !is_missing && query::mentions(statement, name) {
            tables.push(table::read_table(folder, name)?);
        }
    }
    Ok((manifest, tables))
}
