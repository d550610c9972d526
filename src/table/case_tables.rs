//! The tables of a run, written in row groups as its cases come.
//!
//! Nothing of a case is kept here once its row group is written, so a run of a million examples
//! takes no more memory for its tables than one of some thousand. The files stand beside their
//! places until [`CaseTables::finish`]: a run that ends early leaves none.

use std::path::{Path, PathBuf};

use crate::score::Score;

use super::encode::{self, RunTables};
use super::parquet::{self, Growing};
use super::{Table, TableError, table_path};

/// Cases that are written together, as a row group of each of their tables.
pub const GROUP_CASES: usize = 1 << 14;

/// The tables of cases, choices and tokens, as far as they are written.
#[derive(Debug)]
pub struct CaseTables {
    folder: PathBuf,
    growing: Vec<Growing>,
}

impl CaseTables {
    /// Begins the tables of the run in `folder`, which is made if need be.
    ///
    /// # Errors
    ///
    /// [`TableError::Write`] if the disk refuses.
    pub fn begin(folder: &Path, run: &RunTables<'_>) -> Result<Self, TableError> {
        std::fs::create_dir_all(folder).map_err(|source| TableError::Write {
            path: folder.to_owned(),
            source,
        })?;
        // Without rows they are what a run without cases has.
        let empty = encode::of_cases(run, &[]);
        let growing = empty.iter().map(|it| grow(folder, it));
        Ok(Self {
            folder: folder.to_owned(),
            growing: growing.collect::<Result<_, _>>()?,
        })
    }

    /// Adds the cases of `scores`, a row group of each table; they come in the order of the plan,
    /// all of them over the calls.
    ///
    /// # Errors
    ///
    /// [`TableError::Write`] if the disk refuses.
    pub fn add(&mut self, run: &RunTables<'_>, scores: &[&Score]) -> Result<(), TableError> {
        debug_assert!(
            scores.is_sorted_by_key(|it| it.key),
            "rows stand in plan order"
        );
        let tables = encode::of_cases(run, scores);
        let mut each = self.growing.iter_mut().zip(&tables);
        each.try_for_each(|(growing, table)| growing.add(table))
    }

    /// Puts the tables into their places, with those of examples, metrics and comparisons, and says
    /// where they are.
    ///
    /// # Errors
    ///
    /// [`TableError::Write`] if the disk refuses; what was there before is then still there.
    pub fn finish(self, run: &RunTables<'_>) -> Result<Vec<PathBuf>, TableError> {
        let mut paths = Vec::new();
        let mut of_cases = self.growing.into_iter();
        for growing in of_cases.by_ref().take(2) {
            paths.push(growing.finish()?);
        }
        paths.push(write_examples(&self.folder, run)?);
        for table in encode::of_results(run) {
            let path = table_path(&self.folder, &table.name);
            parquet::write(&path, &table)?;
            paths.push(path);
        }
        for growing in of_cases {
            paths.push(growing.finish()?);
        }
        Ok(paths)
    }
}

fn grow(folder: &Path, table: &Table<'_>) -> Result<Growing, TableError> {
    Growing::begin(&table_path(folder, &table.name), table)
}

fn write_examples(folder: &Path, run: &RunTables<'_>) -> Result<PathBuf, TableError> {
    let names = run.examples.field_names();
    let mut growing = grow(folder, &encode::examples(run, &names, 0..0))?;
    let n_examples = run.examples.len();
    for start in (0..n_examples).step_by(GROUP_CASES) {
        let places = start..n_examples.min(start + GROUP_CASES);
        growing.add(&encode::examples(run, &names, places))?;
    }
    growing.finish()
}

/// Writes the tables of a run into `folder`, which is made if need be, and says where they are.
///
/// `scores` may come in any order. The table `tokens` is written only where
/// [`RunTables::with_tokens`] is set.
///
/// # Errors
///
/// [`TableError::Write`] if the disk refuses; what was there before is then still there.
pub fn write(
    folder: &Path,
    run: &RunTables<'_>,
    scores: &[Score],
) -> Result<Vec<PathBuf>, TableError> {
    let mut scores: Vec<&Score> = scores.iter().collect();
    // The order of the plan, whatever the order of the work was.
    scores.sort_by_key(|it| it.key);
    let mut tables = CaseTables::begin(folder, run)?;
    for group in scores.chunks(GROUP_CASES) {
        tables.add(run, group)?;
    }
    tables.finish(run)
}
