//! What a report says, whatever its form.

use std::collections::HashMap;

use crate::compare::Comparison;
use crate::metric::{Measurement, Unit};
use crate::score::Status;
use crate::stats::{Direction, Estimate, Interval};
use crate::table::{CellTally, RunStatus, RunSummary, StoredComparison, StoredMetric, StoredRun};

use super::escape::line;

/// A run as its report needs it; indices point into [`ReportInput::metrics`] and
/// [`ModelInput::variants`].
#[derive(Debug, Clone, PartialEq)]
pub struct ReportInput {
    /// Name of the experiment.
    pub experiment: String,
    /// Id of the run.
    pub run: String,
    /// The run's folder.
    pub folder: String,
    /// How far the run got.
    pub status: RunStatus,
    /// Examples of the plan.
    pub n_examples: usize,
    /// Cases of the plan, tried or not.
    pub n_planned_cases: usize,
    /// Whether the units of the statistics are clusters of examples.
    pub has_clusters: bool,
    /// Index of the metric that ranks the variants.
    pub primary: usize,
    /// Index of the variant that differences are shown against.
    pub control: Option<usize>,
    /// What counts as unchanged, in the unit of the primary metric.
    pub margin: Option<f64>,
    /// The metrics.
    pub metrics: Vec<MetricInput>,
    /// The models, in plan order.
    pub models: Vec<ModelInput>,
}

/// How a metric is printed.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricInput {
    /// Its name.
    pub name: String,
    /// Its unit.
    pub unit: Unit,
    /// Which way it improves.
    pub direction: Direction,
    /// Only describes: no interval, no comparison.
    pub is_descriptive: bool,
    /// Stands in the experiment file.
    pub is_declared: bool,
    /// sacrebleu's signature.
    pub signature: Option<String>,
}

/// One model with all variants.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelInput {
    /// Its name.
    pub name: String,
    /// The variants, in plan order.
    pub variants: Vec<VariantInput>,
    /// The compared pairs of variants, of all metrics.
    pub comparisons: Vec<Comparison>,
    /// How much of the best variant's lead is luck, in the unit of the primary metric.
    pub luck_of_best: Option<f64>,
}

/// One variant on one model.
#[derive(Debug, Clone, PartialEq)]
pub struct VariantInput {
    /// Its name.
    pub name: String,
    /// One entry per metric.
    pub measurements: Vec<Measurement>,
    /// Cases that the run has, repeats included.
    pub n_cases: usize,
    /// Unscored cases by status, in the order of [`Status::ALL`].
    pub unscored: Vec<(Status, usize)>,
    /// Cases with the likelihood of a target.
    pub n_likelihoods: usize,
    /// Of those, cases in which a token straddles the border between prompt and target.
    pub n_boundary_merges: usize,
    /// Cases in which several choices share the largest log-likelihood.
    pub n_ties: usize,
    /// Every choice with its probability after content-free prompts, averaged over the cases;
    /// empty where that was not asked for.
    pub label_prior: Vec<(String, f64)>,
    /// Cases with a generation.
    pub n_generations: usize,
    /// Of those, cases that ended because `max_tokens` were written.
    pub n_cut: usize,
    /// Of those, cases without any text.
    pub n_empty: usize,
    /// Prompts that lost shots so that they fit the model.
    pub n_dropped_shots: usize,
    /// Prompts that were cut on the left so that they fit the model.
    pub n_truncated: usize,
    /// Mean tokens of a prompt.
    pub tokens_per_prompt: Option<f64>,
    /// Time at work.
    pub elapsed_seconds: Option<f64>,
}

/// Why a stored run has no report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// The tables name something that the manifest does not have.
    #[error("run `{}` contradicts itself: its manifest has no {what} `{}`", line(.run), line(.name))]
    Unknown {
        /// Id of the run.
        run: String,
        /// `model`, `variant` or `metric`.
        what: &'static str,
        /// The name.
        name: String,
    },
}

impl ReportInput {
    /// What there is to report of a run.
    ///
    /// # Errors
    ///
    /// [`InputError`] if tables and manifest do not belong together.
    pub fn from_stored(run: &StoredRun) -> Result<Self, InputError> {
        Self::from_summary(&run.summary())
    }

    /// What there is to report of a run in short.
    ///
    /// # Errors
    ///
    /// As [`ReportInput::from_stored`].
    pub fn from_summary(run: &RunSummary) -> Result<Self, InputError> {
        let manifest = &run.manifest;
        let names = Names::new(run);
        let signatures: HashMap<&str, &String> = run
            .metrics
            .iter()
            .filter_map(|it| it.signature.as_ref().map(|of| (it.metric.as_str(), of)))
            .collect();
        let metrics = manifest.metrics.iter().map(|it| MetricInput {
            name: line(&it.name),
            unit: it.unit(),
            direction: it.direction(),
            is_descriptive: it.is_descriptive,
            is_declared: it.is_declared,
            signature: signatures.get(it.name.as_str()).map(|it| (*it).clone()),
        });
        let mut input = Self {
            experiment: line(&manifest.experiment),
            run: line(&manifest.run),
            folder: line(&run.folder.display().to_string()),
            status: manifest.status,
            n_examples: run.n_examples,
            n_planned_cases: manifest.counts.n_cases,
            has_clusters: run.has_clusters,
            primary: names.metric(&manifest.primary)?,
            control: manifest
                .control
                .as_deref()
                .map(|it| names.variant(it))
                .transpose()?,
            margin: manifest.margin,
            metrics: metrics.collect(),
            models: Vec::new(),
        };
        for model in &manifest.models {
            let variants = manifest
                .variants
                .iter()
                .map(|it| VariantInput::new(&it.name, &input));
            let variants = variants.collect();
            let ranking = manifest.rankings.iter().find(|it| it.model == model.name);
            input.models.push(ModelInput {
                name: line(&model.name),
                variants,
                comparisons: Vec::new(),
                luck_of_best: ranking.and_then(|it| it.luck_of_best),
            });
        }
        for tally in &run.cells {
            let cell = input.cell(&names, &tally.model, &tally.variant)?;
            cell.count(tally);
        }
        for variant in input.models.iter_mut().flat_map(|it| &mut it.variants) {
            variant.average_priors();
        }
        for row in &run.metrics {
            let metric = names.metric(&row.metric)?;
            input.cell(&names, &row.model, &row.variant)?.measurements[metric] = measurement(row);
        }
        for row in &run.comparisons {
            let model = names.model(&row.model)?;
            let comparison = names.comparison(model, row, run)?;
            input.models[model].comparisons.push(comparison);
        }
        for row in &manifest.cells {
            let cell = input.cell(&names, &row.model, &row.variant)?;
            cell.tokens_per_prompt = Some(row.tokens_per_prompt);
            cell.elapsed_seconds = Some(row.elapsed_seconds);
            cell.n_dropped_shots = row.n_dropped_shots;
            cell.n_truncated = row.n_truncated;
        }
        Ok(input)
    }

    /// The metric that ranks the variants.
    pub fn primary(&self) -> &MetricInput {
        &self.metrics[self.primary]
    }

    /// Cases that were tried, of all models.
    pub(super) fn n_cases(&self) -> usize {
        self.models
            .iter()
            .flat_map(|it| &it.variants)
            .map(|it| it.n_cases)
            .sum()
    }

    /// What the statistics count: `example` or `cluster`.
    pub(super) fn unit_noun(&self) -> &'static str {
        if self.has_clusters {
            "cluster"
        } else {
            "example"
        }
    }

    fn cell(
        &mut self,
        names: &Names<'_>,
        model: &str,
        variant: &str,
    ) -> Result<&mut VariantInput, InputError> {
        let (model, variant) = (names.model(model)?, names.variant(variant)?);
        Ok(&mut self.models[model].variants[variant])
    }
}

impl VariantInput {
    /// A variant of which nothing is known yet.
    fn new(name: &str, input: &ReportInput) -> Self {
        let nothing = Measurement {
            estimate: None,
            n_failed: input.n_examples,
        };
        Self {
            name: line(name),
            measurements: vec![nothing; input.metrics.len()],
            n_cases: 0,
            unscored: Vec::new(),
            n_likelihoods: 0,
            n_boundary_merges: 0,
            n_ties: 0,
            label_prior: Vec::new(),
            n_generations: 0,
            n_cut: 0,
            n_empty: 0,
            n_dropped_shots: 0,
            n_truncated: 0,
            tokens_per_prompt: None,
            elapsed_seconds: None,
        }
    }

    /// Turns sums of priors into means: the priors of one case sum to 1.
    fn average_priors(&mut self) {
        let n: f64 = self.label_prior.iter().map(|it| it.1).sum();
        for (_, prior) in &mut self.label_prior {
            *prior /= n;
        }
    }

    /// Takes what the cases add up to; priors are sums until [`Self::average_priors`].
    fn count(&mut self, tally: &CellTally) {
        self.n_cases = tally.n_cases;
        self.unscored = tally.unscored.iter().map(|it| (*it.0, *it.1)).collect();
        self.n_likelihoods = tally.n_likelihoods;
        self.n_boundary_merges = tally.n_boundary_merges;
        self.n_generations = tally.n_generations;
        self.n_cut = tally.n_cut;
        self.n_empty = tally.n_empty;
        self.n_ties = tally.n_ties;
        for (text, sum) in &tally.label_priors {
            let name = line(text);
            match self.label_prior.iter_mut().find(|it| it.0 == name) {
                Some(entry) => entry.1 += sum,
                None => self.label_prior.push((name, *sum)),
            }
        }
    }

    /// Unscored cases, whatever their status.
    pub fn n_unscored(&self) -> usize {
        self.unscored.iter().map(|it| it.1).sum()
    }
}

/// Names to indices.
struct Names<'a> {
    run: &'a str,
    models: HashMap<&'a str, usize>,
    variants: HashMap<&'a str, usize>,
    metrics: HashMap<&'a str, usize>,
}

impl<'a> Names<'a> {
    fn new(run: &'a RunSummary) -> Self {
        let manifest = &run.manifest;
        Self {
            run: &manifest.run,
            models: indices(manifest.models.iter().map(|it| &it.name)),
            variants: indices(manifest.variants.iter().map(|it| &it.name)),
            metrics: indices(manifest.metrics.iter().map(|it| &it.name)),
        }
    }

    fn find(
        &self,
        what: &'static str,
        names: &HashMap<&'a str, usize>,
        name: &str,
    ) -> Result<usize, InputError> {
        let unknown = || InputError::Unknown {
            run: self.run.to_owned(),
            what,
            name: name.to_owned(),
        };
        names.get(name).copied().ok_or_else(unknown)
    }

    fn model(&self, name: &str) -> Result<usize, InputError> {
        self.find("model", &self.models, name)
    }

    fn variant(&self, name: &str) -> Result<usize, InputError> {
        self.find("variant", &self.variants, name)
    }

    fn metric(&self, name: &str) -> Result<usize, InputError> {
        self.find("metric", &self.metrics, name)
    }

    fn comparison(
        &self,
        model: usize,
        row: &StoredComparison,
        run: &RunSummary,
    ) -> Result<Comparison, InputError> {
        let ranking = run
            .manifest
            .rankings
            .iter()
            .find(|it| it.model == row.model);
        let of_pair = ranking
            .filter(|_| row.metric == run.manifest.primary)
            .and_then(|it| {
                let is_pair = |of: &&crate::table::ToSettle| {
                    of.variant_a == row.variant_a && of.variant_b == row.variant_b
                };
                it.to_settle.iter().find(is_pair)
            });
        Ok(Comparison {
            model,
            metric: self.metric(&row.metric)?,
            candidate: self.variant(&row.variant_a)?,
            reference: self.variant(&row.variant_b)?,
            gain: row.difference,
            interval: interval(row.ci_low, row.ci_high),
            p_value: row.p_value,
            p_adjusted: row.p_adjusted,
            n_pairs: row.n_pairs,
            n_unpaired: row.n_unpaired,
            method: row.method.clone(),
            margin: row.margin,
            verdict: row.verdict,
            n_to_settle: of_pair.map(|it| it.n_units),
        })
    }
}

fn indices<'a>(names: impl Iterator<Item = &'a String>) -> HashMap<&'a str, usize> {
    names
        .enumerate()
        .map(|(index, name)| (name.as_str(), index))
        .collect()
}

fn measurement(row: &StoredMetric) -> Measurement {
    let estimate = row.value.map(|value| Estimate {
        value,
        stderr: row.stderr,
        interval: interval(row.ci_low, row.ci_high),
        n: row.n,
    });
    Measurement {
        estimate,
        n_failed: row.n_failed,
    }
}

fn interval(low: Option<f64>, high: Option<f64>) -> Option<Interval> {
    low.zip(high).map(|(low, high)| Interval { low, high })
}
