//! A run in short: what its cases add up to, without a single one of them.
//!
//! Enough for a ranking with its notes. It is counted while the cases come, or from the tables, a
//! row group at a time: a ranking of a run of a million examples holds no million rows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::score::{Score, Status};

use super::decode;
use super::encode::{self, RunTables};
use super::{Manifest, StoredCase, StoredChoice, StoredComparison, StoredMetric, StoredRun};
use super::{TableError, table_path};

/// A run without its cases and examples.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSummary {
    /// Where it lies.
    pub folder: PathBuf,
    /// Everything that is not a table.
    pub manifest: Manifest,
    /// Rows of `examples`.
    pub n_examples: usize,
    /// Whether examples belong to clusters.
    pub has_clusters: bool,
    /// One entry per model and variant that has cases.
    pub cells: Vec<CellTally>,
    /// One row per model, variant and metric.
    pub metrics: Vec<StoredMetric>,
    /// One row per model, metric and pair of variants.
    pub comparisons: Vec<StoredComparison>,
}

/// What the cases of one variant on one model add up to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CellTally {
    /// Name of the model.
    pub model: String,
    /// Name of the variant.
    pub variant: String,
    /// Cases.
    pub n_cases: usize,
    /// Cases without all their answers, by status.
    pub unscored: BTreeMap<Status, usize>,
    /// Examples with such cases.
    pub n_unscored_examples: usize,
    /// Cases with a likelihood of the target.
    pub n_likelihoods: usize,
    /// Cases in which a token straddled the border between prompt and target.
    pub n_boundary_merges: usize,
    /// Generations.
    pub n_generations: usize,
    /// Generations that were cut at `max_tokens`.
    pub n_cut: usize,
    /// Generations without text.
    pub n_empty: usize,
    /// Cases in which the likeliest choice is one of several.
    pub n_ties: usize,
    /// For each text of a choice, the sum of its priors; in order of first appearance.
    pub label_priors: Vec<(String, f64)>,
}

/// Counts cases as they come, in the order of the plan.
#[derive(Debug, Default)]
pub struct Tallies {
    cells: Vec<CellTally>,
    /// The example of the last unscored case, with the place of its cell.
    last_unscored: Option<(usize, String)>,
}

/// What is counted of a case.
pub(super) struct CaseFacts<'a> {
    pub(super) example_id: &'a str,
    pub(super) status: Status,
    pub(super) has_likelihood: bool,
    pub(super) is_merged: bool,
    /// Why the generation ended, and its text.
    pub(super) generation: Option<(&'a str, &'a str)>,
}

impl Tallies {
    /// Counts a case of the run.
    pub fn add(&mut self, run: &RunTables<'_>, score: &Score) {
        let model = &run.models[score.key.model];
        let place = self.cell(model, &run.variants[score.key.variant]);
        let generation = score.generation.as_ref();
        let facts = CaseFacts {
            example_id: run.examples.id(score.key.example),
            status: score.status,
            has_likelihood: score.likelihood.is_some(),
            is_merged: score.likelihood.is_some_and(|it| it.boundary_merge),
            generation: generation.map(|it| (it.finish_reason.as_str(), it.text.as_str())),
        };
        self.add_case(place, &facts);
        let choices = score.choices.iter();
        self.cells[place]
            .add_choices(choices.map(|it| (it.text.as_str(), it.loglikelihood, it.prior)));
    }

    /// The place of a cell, which is made if need be.
    pub(super) fn cell(&mut self, model: &str, variant: &str) -> usize {
        let is_it = |it: &CellTally| it.model == model && it.variant == variant;
        // Rows of a cell stand together.
        let found = self.cells.iter().rposition(is_it);
        found.unwrap_or_else(|| {
            self.cells.push(CellTally {
                model: model.to_owned(),
                variant: variant.to_owned(),
                ..CellTally::default()
            });
            self.cells.len() - 1
        })
    }

    pub(super) fn add_case(&mut self, place: usize, case: &CaseFacts<'_>) {
        let cell = &mut self.cells[place];
        cell.n_cases += 1;
        if case.status != Status::Ok {
            *cell.unscored.entry(case.status).or_default() += 1;
            // Repeats of an example stand together.
            let is_new = !matches!(&self.last_unscored, Some((cell, id))
                if *cell == place && id == case.example_id);
            if is_new {
                cell.n_unscored_examples += 1;
                self.last_unscored = Some((place, case.example_id.to_owned()));
            }
        }
        cell.n_likelihoods += usize::from(case.has_likelihood);
        cell.n_boundary_merges += usize::from(case.is_merged);
        if let Some((finish_reason, text)) = case.generation {
            cell.n_generations += 1;
            cell.n_cut += usize::from(finish_reason == "length");
            cell.n_empty += usize::from(text.trim().is_empty());
        }
    }

    /// Counts the choices of one case.
    pub(super) fn add_choices(&mut self, choices: &[StoredChoice]) {
        let place = self.cell(&choices[0].model, &choices[0].variant);
        let choices = choices.iter();
        self.cells[place]
            .add_choices(choices.map(|it| (it.choice.as_str(), it.loglikelihood, it.prior)));
    }

    /// What was counted, one entry per model and variant that had cases.
    pub fn cells(&self) -> &[CellTally] {
        &self.cells
    }

    pub(super) fn into_cells(self) -> Vec<CellTally> {
        self.cells
    }
}

impl CellTally {
    /// Cases without all their answers.
    pub fn n_unscored(&self) -> usize {
        self.unscored.values().sum()
    }

    /// Counts the choices of one case by text, loglikelihood and prior; none where it has none.
    fn add_choices<'a>(
        &mut self,
        choices: impl Iterator<Item = (&'a str, f64, Option<f64>)> + Clone,
    ) {
        let logs = || choices.clone().map(|it| it.1);
        let best = logs().fold(f64::NEG_INFINITY, f64::max);
        self.n_ties += usize::from(1 < logs().filter(|it| *it == best).count());
        for (text, _, prior) in choices {
            let Some(prior) = prior else { continue };
            match self.label_priors.iter_mut().find(|it| it.0 == text) {
                Some(entry) => entry.1 += prior,
                None => self.label_priors.push((text.to_owned(), prior)),
            }
        }
    }
}

/// A run in short, as its tables show it: what [`read_summary`] would give back.
///
/// # Errors
///
/// [`TableError::Value`] for a count beyond the range of int64; no real run has one.
pub fn summary(
    folder: &Path,
    manifest: Manifest,
    run: &RunTables<'_>,
    tallies: Tallies,
) -> Result<RunSummary, TableError> {
    let [metrics, comparisons] = encode::of_results(run);
    Ok(RunSummary {
        folder: folder.to_owned(),
        manifest,
        n_examples: run.examples.len(),
        has_clusters: run.examples.has_clusters(),
        cells: tallies.into_cells(),
        metrics: decode::metrics(folder, metrics)?,
        comparisons: decode::comparisons(folder, comparisons)?,
    })
}

/// Reads the run in `folder` in short, without ever holding all its cases.
///
/// # Errors
///
/// As [`super::read`], as far as what is read is concerned.
#[cfg(feature = "tables")]
pub fn read_summary(folder: &Path) -> Result<RunSummary, TableError> {
    use super::parquet::read_groups;
    let manifest = Manifest::read(folder)?;
    let mut tallies = Tallies::default();
    let groups = |name: &str| (table_path(folder, name), name.to_owned());
    let (path, name) = groups("cases");
    read_groups(&path, &name, Some(&decode::TALLIED), |table| {
        decode::tally_cases(folder, table, &mut tallies)
    })?;
    let (path, name) = groups("choices");
    // A row group may end within a case if another program wrote it.
    let mut last: Vec<StoredChoice> = Vec::new();
    read_groups(&path, &name, None, |table| {
        let mut choices = std::mem::take(&mut last);
        choices.extend(decode::stored_choices(folder, table)?);
        let mut of_cases = choices.chunk_by(is_one_case).peekable();
        while let Some(of_case) = of_cases.next() {
            if of_cases.peek().is_some() {
                tallies.add_choices(of_case);
            } else {
                last = of_case.to_vec();
            }
        }
        Ok(())
    })?;
    if !last.is_empty() {
        tallies.add_choices(&last);
    }
    let (mut n_examples, mut has_clusters) = (0, false);
    let (path, name) = groups("examples");
    read_groups(&path, &name, Some(&["cluster"]), |table| {
        n_examples += table.n_rows;
        has_clusters |= decode::has_clusters(folder, table)?;
        Ok(())
    })?;
    let mut metrics = Vec::new();
    let (path, name) = groups("metrics");
    read_groups(&path, &name, None, |table| {
        metrics.extend(decode::metrics(folder, table)?);
        Ok(())
    })?;
    let mut comparisons = Vec::new();
    let (path, name) = groups("comparisons");
    read_groups(&path, &name, None, |table| {
        comparisons.extend(decode::comparisons(folder, table)?);
        Ok(())
    })?;
    Ok(RunSummary {
        folder: folder.to_owned(),
        manifest,
        n_examples,
        has_clusters,
        cells: tallies.into_cells(),
        metrics,
        comparisons,
    })
}

impl StoredRun {
    /// The run in short.
    pub fn summary(&self) -> RunSummary {
        let mut tallies = Tallies::default();
        for case in &self.cases {
            let place = tallies.cell(&case.model, &case.variant);
            tallies.add_case(place, &facts(case));
        }
        for choices in self.choices.chunk_by(is_one_case) {
            tallies.add_choices(choices);
        }
        RunSummary {
            folder: self.folder.clone(),
            manifest: self.manifest.clone(),
            n_examples: self.examples.len(),
            has_clusters: self.examples.iter().any(|it| it.cluster.is_some()),
            cells: tallies.into_cells(),
            metrics: self.metrics.clone(),
            comparisons: self.comparisons.clone(),
        }
    }
}

fn is_one_case(a: &StoredChoice, b: &StoredChoice) -> bool {
    (&a.model, &a.variant, &a.example_id) == (&b.model, &b.variant, &b.example_id)
}

fn facts(case: &StoredCase) -> CaseFacts<'_> {
    let finish_reason = case.finish_reason.as_deref().unwrap_or_default();
    CaseFacts {
        example_id: &case.example_id,
        status: case.status,
        has_likelihood: case.loglikelihood.is_some(),
        is_merged: case.boundary_merge == Some(true),
        generation: case.generation.as_deref().map(|it| (finish_reason, it)),
    }
}
