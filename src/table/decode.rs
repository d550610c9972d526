//! Tables to the rows of a stored run, with every column and cell checked.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::score::Status;
use crate::stats::Verdict;

use super::{
    Column, Manifest, StoredCase, StoredChoice, StoredComparison, StoredExample, StoredMetric,
    StoredRun, Table, TableError, Values, table_path,
};

#[cfg(feature = "tables")]
use super::StoredToken;
#[cfg(feature = "tables")]
use super::summary::{CaseFacts, Tallies};

/// Columns of `cases` before those of the per-case metrics.
const N_CASE_COLUMNS: usize = 20;

/// Columns of `examples` before the dataset's own.
const N_EXAMPLE_COLUMNS: usize = 6;

/// Puts a run together from the tables that `table` gives by name.
pub(super) fn run<'a>(
    folder: &Path,
    manifest: Manifest,
    mut table: impl FnMut(&str) -> Result<Table<'a>, TableError>,
) -> Result<StoredRun, TableError> {
    let mut open = |name| table(name).map(|table| Rows::of(folder, table));
    let (case_metrics, cases) = cases(open("cases")?)?;
    Ok(StoredRun {
        folder: folder.to_owned(),
        manifest,
        case_metrics,
        cases,
        choices: choices(open("choices")?)?,
        examples: examples(open("examples")?)?,
        metrics: metrics(folder, table("metrics")?)?,
        comparisons: comparisons(folder, table("comparisons")?)?,
    })
}

/// The columns of `cases` that are tallied.
#[cfg(feature = "tables")]
pub(super) const TALLIED: [&str; 8] = [
    "model",
    "variant",
    "example_id",
    "status",
    "loglikelihood",
    "boundary_merge",
    "generation",
    "finish_reason",
];

/// Counts rows of the table `cases`, of which the columns [`TALLIED`] are enough.
#[cfg(feature = "tables")]
pub(super) fn tally_cases(
    folder: &Path,
    table: Table<'_>,
    tallies: &mut Tallies,
) -> Result<(), TableError> {
    let mut rows = Rows::of(folder, table);
    let (model, variant) = (rows.texts("model")?, rows.texts("variant")?);
    let example_id = rows.texts("example_id")?;
    let status = rows.named("status", Status::from_name)?;
    let status = rows.full("status", status)?;
    let loglikelihood = rows.maybe_numbers("loglikelihood")?;
    let boundary_merge = rows.maybe_claims("boundary_merge")?;
    let generation = rows.maybe_texts("generation")?;
    let finish_reason = rows.maybe_texts("finish_reason")?;
    for row in 0..rows.n {
        let place = tallies.cell(&model[row], &variant[row]);
        let finish_reason = finish_reason[row].as_deref().unwrap_or_default();
        let facts = CaseFacts {
            example_id: &example_id[row],
            status: status[row],
            has_likelihood: loglikelihood[row].is_some(),
            is_merged: boundary_merge[row] == Some(true),
            generation: generation[row].as_deref().map(|it| (finish_reason, it)),
        };
        tallies.add_case(place, &facts);
    }
    Ok(())
}

/// The rows of the table `choices`.
#[cfg(feature = "tables")]
pub(super) fn stored_choices(
    folder: &Path,
    table: Table<'_>,
) -> Result<Vec<StoredChoice>, TableError> {
    choices(Rows::of(folder, table))
}

/// Whether a row of the table `examples` has a cluster.
#[cfg(feature = "tables")]
pub(super) fn has_clusters(folder: &Path, table: Table<'_>) -> Result<bool, TableError> {
    let clusters = Rows::of(folder, table).maybe_texts("cluster")?;
    Ok(clusters.iter().any(Option::is_some))
}

/// The rows of the table `tokens`.
#[cfg(feature = "tables")]
pub(super) fn tokens(folder: &Path, table: Table<'_>) -> Result<Vec<StoredToken>, TableError> {
    let mut rows = Rows::of(folder, table);
    let (mut model, mut variant) = (rows.texts("model")?, rows.texts("variant")?);
    let mut example_id = rows.texts("example_id")?;
    let choice_index = rows.maybe_counts("choice_index")?;
    let (position, token_id) = (rows.counts("position")?, rows.counts("token_id")?);
    let mut token = rows.texts("token")?;
    let logprob = rows.numbers("logprob")?;
    let is_argmax = rows.claims("is_argmax")?;
    let row = |row| StoredToken {
        model: cell(&mut model, row),
        variant: cell(&mut variant, row),
        example_id: cell(&mut example_id, row),
        choice_index: choice_index[row],
        position: position[row],
        token_id: token_id[row],
        token: cell(&mut token, row),
        logprob: logprob[row],
        is_argmax: is_argmax[row],
    };
    Ok((0..rows.n).map(row).collect())
}

/// A table whose columns are taken out one by one.
struct Rows<'a> {
    path: PathBuf,
    n: usize,
    columns: Vec<Column<'a>>,
}

impl<'a> Rows<'a> {
    fn of(folder: &Path, table: Table<'a>) -> Self {
        Self {
            path: table_path(folder, &table.name),
            n: table.n_rows,
            columns: table.columns,
        }
    }

    fn column_error(&self, column: &str, reason: String) -> TableError {
        TableError::Column {
            path: self.path.clone(),
            column: column.to_owned(),
            reason,
        }
    }

    fn value_error(&self, column: &str, index: usize, reason: String) -> TableError {
        let path = self.path.clone();
        TableError::Value {
            path,
            column: column.to_owned(),
            row: index + 1,
            reason,
        }
    }

    fn take(&mut self, column: &str) -> Result<Values<'a>, TableError> {
        let place = self.columns.iter().position(|it| it.name == column);
        match place {
            Some(place) => Ok(self.columns.remove(place).values),
            None => Err(self.column_error(column, "is missing".to_owned())),
        }
    }

    fn wrong_type(&self, column: &str, expected: &str, got: &Values<'_>) -> TableError {
        self.column_error(
            column,
            format!("is {}, expected {expected}", got.type_name()),
        )
    }

    /// All cells, none of which may be empty.
    fn full<T>(&self, column: &str, cells: Vec<Option<T>>) -> Result<Vec<T>, TableError> {
        let full = |(index, cell): (usize, Option<T>)| {
            cell.ok_or_else(|| self.value_error(column, index, "is empty".to_owned()))
        };
        cells.into_iter().enumerate().map(full).collect()
    }

    fn maybe_texts(&mut self, column: &str) -> Result<Vec<Option<String>>, TableError> {
        match self.take(column)? {
            Values::Text(cells) => Ok(cells
                .into_iter()
                .map(|it| it.map(Cow::into_owned))
                .collect()),
            other => Err(self.wrong_type(column, "string", &other)),
        }
    }

    fn texts(&mut self, column: &str) -> Result<Vec<String>, TableError> {
        let cells = self.maybe_texts(column)?;
        self.full(column, cells)
    }

    fn maybe_counts(&mut self, column: &str) -> Result<Vec<Option<usize>>, TableError> {
        let cells = match self.take(column)? {
            Values::Count(cells) => cells,
            other => return Err(self.wrong_type(column, "int64", &other)),
        };
        let count = |(index, cell): (usize, Option<i64>)| {
            let count = cell.map(usize::try_from).transpose();
            count.map_err(|_| self.value_error(column, index, "is negative".to_owned()))
        };
        cells.into_iter().enumerate().map(count).collect()
    }

    fn counts(&mut self, column: &str) -> Result<Vec<usize>, TableError> {
        let cells = self.maybe_counts(column)?;
        self.full(column, cells)
    }

    fn maybe_numbers(&mut self, column: &str) -> Result<Vec<Option<f64>>, TableError> {
        match self.take(column)? {
            Values::Number(cells) => Ok(cells),
            other => Err(self.wrong_type(column, "float64", &other)),
        }
    }

    fn numbers(&mut self, column: &str) -> Result<Vec<f64>, TableError> {
        let cells = self.maybe_numbers(column)?;
        self.full(column, cells)
    }

    fn maybe_claims(&mut self, column: &str) -> Result<Vec<Option<bool>>, TableError> {
        match self.take(column)? {
            Values::Claim(cells) => Ok(cells),
            other => Err(self.wrong_type(column, "boolean", &other)),
        }
    }

    fn claims(&mut self, column: &str) -> Result<Vec<bool>, TableError> {
        let cells = self.maybe_claims(column)?;
        self.full(column, cells)
    }

    /// Texts of which each is the name of something.
    fn named<T>(
        &mut self,
        column: &str,
        by_name: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<Option<T>>, TableError> {
        let cells = self.maybe_texts(column)?;
        let named = |(index, cell): (usize, Option<String>)| {
            let Some(name) = cell else { return Ok(None) };
            let found = by_name(&name);
            let unknown = || self.value_error(column, index, format!("holds unknown {name:?}"));
            found.ok_or_else(unknown).map(Some)
        };
        cells.into_iter().enumerate().map(named).collect()
    }
}

/// Takes the value of a row out of its column.
fn cell<T: Default>(cells: &mut [T], row: usize) -> T {
    std::mem::take(&mut cells[row])
}

fn cases(mut rows: Rows<'_>) -> Result<(Vec<String>, Vec<StoredCase>), TableError> {
    let names: Vec<String> = rows
        .columns
        .iter()
        .skip(N_CASE_COLUMNS)
        .map(|it| it.name.clone())
        .collect();
    let mut of_metrics = Vec::new();
    for name in &names {
        of_metrics.push(rows.maybe_numbers(name)?);
    }
    let (mut model, mut variant) = (rows.texts("model")?, rows.texts("variant")?);
    let mut example_id = rows.texts("example_id")?;
    let repeat = rows.counts("repeat")?;
    let status = rows.named("status", Status::from_name)?;
    let status = rows.full("status", status)?;
    let (mut prompt, mut target) = (rows.texts("prompt")?, rows.maybe_texts("target")?);
    let n_context_tokens = rows.counts("n_context_tokens")?;
    let n_target_tokens = rows.maybe_counts("n_target_tokens")?;
    let n_target_bytes = rows.maybe_counts("n_target_bytes")?;
    let loglikelihood = rows.maybe_numbers("loglikelihood")?;
    let greedy_match = rows.maybe_claims("greedy_match")?;
    let boundary_merge = rows.maybe_claims("boundary_merge")?;
    let predicted_choice = rows.maybe_counts("predicted_choice")?;
    let target_choice = rows.maybe_counts("target_choice")?;
    let mut generation = rows.maybe_texts("generation")?;
    let mut finish_reason = rows.maybe_texts("finish_reason")?;
    let n_generated_tokens = rows.maybe_counts("n_generated_tokens")?;
    let case = |row| StoredCase {
        model: cell(&mut model, row),
        variant: cell(&mut variant, row),
        example_id: cell(&mut example_id, row),
        repeat: repeat[row],
        status: status[row],
        prompt: cell(&mut prompt, row),
        target: cell(&mut target, row),
        n_context_tokens: n_context_tokens[row],
        n_target_tokens: n_target_tokens[row],
        n_target_bytes: n_target_bytes[row],
        loglikelihood: loglikelihood[row],
        greedy_match: greedy_match[row],
        boundary_merge: boundary_merge[row],
        predicted_choice: predicted_choice[row],
        target_choice: target_choice[row],
        generation: cell(&mut generation, row),
        finish_reason: cell(&mut finish_reason, row),
        n_generated_tokens: n_generated_tokens[row],
        metrics: of_metrics.iter().map(|it| it[row]).collect(),
    };
    let cases = (0..rows.n).map(case).collect();
    Ok((names, cases))
}

fn choices(mut rows: Rows<'_>) -> Result<Vec<StoredChoice>, TableError> {
    let (mut model, mut variant) = (rows.texts("model")?, rows.texts("variant")?);
    let mut example_id = rows.texts("example_id")?;
    let choice_index = rows.counts("choice_index")?;
    let mut choice = rows.texts("choice")?;
    let is_target = rows.claims("is_target")?;
    let loglikelihood = rows.numbers("loglikelihood")?;
    let n_tokens = rows.counts("n_tokens")?;
    let (n_chars, n_bytes) = (rows.counts("n_chars")?, rows.counts("n_bytes")?);
    let prior = rows.maybe_numbers("prior")?;
    let row = |row| StoredChoice {
        model: cell(&mut model, row),
        variant: cell(&mut variant, row),
        example_id: cell(&mut example_id, row),
        choice_index: choice_index[row],
        choice: cell(&mut choice, row),
        is_target: is_target[row],
        loglikelihood: loglikelihood[row],
        n_tokens: n_tokens[row],
        n_chars: n_chars[row],
        n_bytes: n_bytes[row],
        prior: prior[row],
    };
    Ok((0..rows.n).map(row).collect())
}

fn examples(mut rows: Rows<'_>) -> Result<Vec<StoredExample>, TableError> {
    let names: Vec<String> = rows
        .columns
        .iter()
        .skip(N_EXAMPLE_COLUMNS)
        .map(|it| it.name.clone())
        .collect();
    let mut fields = Vec::new();
    for name in &names {
        fields.push(rows.maybe_texts(name)?);
    }
    let (mut id, mut row_digest) = (rows.texts("example_id")?, rows.texts("row_digest")?);
    let source_line = rows.counts("source_line")?;
    let mut cluster = rows.maybe_texts("cluster")?;
    let row = |row| {
        let of_row =
            |(name, cells): (&String, &mut Vec<Option<String>>)| (name.clone(), cell(cells, row));
        StoredExample {
            id: cell(&mut id, row),
            row_digest: cell(&mut row_digest, row),
            source_line: source_line[row],
            cluster: cell(&mut cluster, row),
            fields: names.iter().zip(&mut fields).map(of_row).collect(),
        }
    };
    Ok((0..rows.n).map(row).collect())
}

/// The rows of the table `metrics`.
pub(super) fn metrics(folder: &Path, table: Table<'_>) -> Result<Vec<StoredMetric>, TableError> {
    let mut rows = Rows::of(folder, table);
    let (mut model, mut variant) = (rows.texts("model")?, rows.texts("variant")?);
    let mut metric = rows.texts("metric")?;
    let (value, stderr) = (rows.maybe_numbers("value")?, rows.maybe_numbers("stderr")?);
    let (ci_low, ci_high) = (
        rows.maybe_numbers("ci_low")?,
        rows.maybe_numbers("ci_high")?,
    );
    let (n, n_failed) = (rows.counts("n")?, rows.counts("n_failed")?);
    let higher_is_better = rows.claims("higher_is_better")?;
    let mut signature = rows.maybe_texts("signature")?;
    let row = |row| StoredMetric {
        model: cell(&mut model, row),
        variant: cell(&mut variant, row),
        metric: cell(&mut metric, row),
        value: value[row],
        stderr: stderr[row],
        ci_low: ci_low[row],
        ci_high: ci_high[row],
        n: n[row],
        n_failed: n_failed[row],
        higher_is_better: higher_is_better[row],
        signature: cell(&mut signature, row),
    };
    Ok((0..rows.n).map(row).collect())
}

/// The rows of the table `comparisons`.
pub(super) fn comparisons(
    folder: &Path,
    table: Table<'_>,
) -> Result<Vec<StoredComparison>, TableError> {
    let mut rows = Rows::of(folder, table);
    let by_name = |name: &str| {
        let all = [
            Verdict::Improved,
            Verdict::Unchanged,
            Verdict::Regressed,
            Verdict::Inconclusive,
        ];
        all.into_iter().find(|it| it.name() == name)
    };
    let (mut model, mut metric) = (rows.texts("model")?, rows.texts("metric")?);
    let (mut variant_a, mut variant_b) = (rows.texts("variant_a")?, rows.texts("variant_b")?);
    let difference = rows.maybe_numbers("difference")?;
    let (ci_low, ci_high) = (
        rows.maybe_numbers("ci_low")?,
        rows.maybe_numbers("ci_high")?,
    );
    let p_value = rows.maybe_numbers("p_value")?;
    let p_adjusted = rows.maybe_numbers("p_adjusted")?;
    let (n_pairs, n_unpaired) = (rows.counts("n_pairs")?, rows.counts("n_unpaired")?);
    let mut method = rows.texts("method")?;
    let margin = rows.maybe_numbers("margin")?;
    let verdict = rows.named("verdict", by_name)?;
    let row = |row| StoredComparison {
        model: cell(&mut model, row),
        metric: cell(&mut metric, row),
        variant_a: cell(&mut variant_a, row),
        variant_b: cell(&mut variant_b, row),
        difference: difference[row],
        ci_low: ci_low[row],
        ci_high: ci_high[row],
        p_value: p_value[row],
        p_adjusted: p_adjusted[row],
        n_pairs: n_pairs[row],
        n_unpaired: n_unpaired[row],
        method: cell(&mut method, row),
        margin: margin[row],
        verdict: verdict[row],
    };
    Ok((0..rows.n).map(row).collect())
}
