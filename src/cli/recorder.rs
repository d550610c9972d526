//! What becomes of a run's scores as they come: rows of tables, evidence, counts.
//!
//! A score is in memory until its row group is written. What stays of it are some hundred bytes of
//! evidence, from which everything that is estimated and compared follows.

use harness::compare::Cases;
use harness::plan::Plan;
use harness::request::Digest;
use harness::score::Score;
use harness::table::{
    CaseTables, ExampleRow, Examples, GROUP_CASES, RunTables, TableError, Tallies,
};

use super::analysis::{self, CaseDigests};
use super::run_folder::RunFolder;

/// Bytes of texts in scores that wait for their row group.
const MAX_WAITING_BYTES: usize = 32 << 20;

/// Records the scores of a run, which come in plan order.
pub(crate) struct Recorder<'a> {
    run: RunTables<'a>,
    recorded: Recorded,
    /// The example that is being recorded, repeat by repeat.
    repeats: Vec<(Score, CaseDigests)>,
    /// Scores that no table has yet.
    waiting: Vec<Score>,
    n_waiting_bytes: usize,
}

/// Everything that is kept of a run's scores.
pub(crate) struct Recorded {
    pub(crate) tables: CaseTables,
    pub(crate) tallies: Tallies,
    /// For each model and, within it, each variant: one entry per example.
    pub(crate) cells: Vec<Cases>,
}

impl<'a> Recorder<'a> {
    /// Begins the tables of the run in `folder`.
    ///
    /// # Errors
    ///
    /// [`TableError`] if the disk refuses.
    pub(crate) fn begin(folder: &RunFolder, run: RunTables<'a>) -> Result<Self, TableError> {
        Ok(Self {
            recorded: Recorded {
                tables: CaseTables::begin(&folder.path, &run)?,
                tallies: Tallies::default(),
                cells: (0..run.models.len() * run.variants.len())
                    .map(|_| Cases::with_capacity(run.examples.len()))
                    .collect(),
            },
            run,
            repeats: Vec::new(),
            waiting: Vec::new(),
            n_waiting_bytes: 0,
        })
    }

    /// Takes the next score, with the digests of what was asked for it.
    ///
    /// # Errors
    ///
    /// [`TableError`] if a row group is due and cannot be written.
    pub(crate) fn add(&mut self, score: Score, digests: CaseDigests) -> Result<(), TableError> {
        let example = |it: &Score| (it.key.model, it.key.variant, it.key.example);
        let is_next = |it: &(Score, CaseDigests)| example(&it.0) != example(&score);
        if self.repeats.first().is_some_and(is_next) {
            self.end_example()?;
        }
        self.recorded.tallies.add(&self.run, &score);
        self.repeats.push((score, digests));
        Ok(())
    }

    /// What the scores so far add up to.
    pub(crate) fn tallies(&self) -> &Tallies {
        &self.recorded.tallies
    }

    fn end_example(&mut self) -> Result<(), TableError> {
        let Some((first, _)) = self.repeats.first() else {
            return Ok(());
        };
        let cell = first.key.model * self.run.variants.len() + first.key.variant;
        self.recorded.cells[cell].push(analysis::case(self.run.metrics, &self.repeats));
        for (score, _) in self.repeats.drain(..) {
            self.n_waiting_bytes += text_bytes(&score);
            self.waiting.push(score);
        }
        if GROUP_CASES <= self.waiting.len() || MAX_WAITING_BYTES <= self.n_waiting_bytes {
            self.write_waiting()?;
        }
        Ok(())
    }

    fn write_waiting(&mut self) -> Result<(), TableError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let scores: Vec<&Score> = self.waiting.iter().collect();
        self.recorded.tables.add(&self.run, &scores)?;
        self.waiting.clear();
        self.n_waiting_bytes = 0;
        Ok(())
    }

    /// Gives what was recorded, after the last score.
    ///
    /// # Errors
    ///
    /// [`TableError`] if the last row group cannot be written.
    pub(crate) fn end(mut self) -> Result<Recorded, TableError> {
        self.end_example()?;
        self.write_waiting()?;
        Ok(self.recorded)
    }
}

/// Bytes of the texts of a score, of which one alone may be large.
fn text_bytes(score: &Score) -> usize {
    let generation = score.generation.as_ref().map_or(0, |it| it.text.len());
    let choices: usize = score.choices.iter().map(|it| it.text.len()).sum();
    score.prompt.len() + generation + choices
}

/// The examples of a plan, as its tables show them.
pub(crate) struct PlanExamples<'a>(pub(crate) &'a Plan);

impl Examples for PlanExamples<'_> {
    fn len(&self) -> usize {
        self.0.examples.len()
    }

    fn id(&self, index: usize) -> &str {
        &self.0.examples[index].id
    }

    fn target(&self, index: usize) -> Option<&str> {
        self.0.answers[index].references.first().map(String::as_str)
    }

    fn has_clusters(&self) -> bool {
        self.0.examples.iter().any(|it| it.cluster.is_some())
    }

    fn field_names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for index in 0..self.len() {
            for (name, _) in self.row(index).fields {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            if names.len() == self.0.dataset.columns.len() {
                break;
            }
        }
        names
    }

    fn row(&self, index: usize) -> ExampleRow {
        let (plan, example) = (self.0, &self.0.examples[index]);
        let row = plan.row(index);
        let mut fields = row.fields();
        let fields = plan.dataset.columns.iter().filter_map(|name| {
            let text = match fields.get_mut(name)?.take() {
                serde_json::Value::String(text) => text,
                serde_json::Value::Null => return None,
                other => other.to_string(),
            };
            Some((name.clone(), text))
        });
        ExampleRow {
            fields: fields.collect(),
            id: example.id.clone(),
            row_digest: Digest(row.digest).to_string(),
            source_line: row.source_line,
            cluster: example.cluster.clone(),
            target: self.target(index).map(str::to_owned),
        }
    }
}
