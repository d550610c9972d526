//! Scores to metrics: one number per model, variant and metric, with its error.
//!
//! A [`Metric`] knows how to read a score, what kind of number it is and which way
//! it improves. [`Units`] are its values example by example; they can be restricted
//! to the examples that two variants share before [`Units::sample`] turns them into
//! an estimate. Repeats of an example are merged before anything is counted: the
//! example, or its cluster, is the unit.

mod choices;

use std::sync::Arc;

use crate::experiment::{MetricName, MetricOptions, MetricSpec, Requires};
use crate::score::Score;
use crate::stats::{Direction, Estimate, Interval, Sample, StatsError};
use crate::text_metric::{self, ReferenceCount, TextJudge};

use choices::{calibration_error, choice_statistics, choice_value, macro_f1, majority_share};
pub use choices::{is_tie, predicted_choice};

/// How values are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A fraction, printed as a percentage; its differences as percentage points.
    Percent,
    /// Points from 0 to 100.
    Points,
    /// Nats of a whole target.
    Nats,
    /// Nats per scored token.
    NatsPerToken,
    /// Nats per byte of target.
    NatsPerByte,
    /// Bits per byte of target.
    BitsPerByte,
    /// A plain number.
    Plain,
}

impl Unit {
    /// The unit as written behind a value; empty for a plain number.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Percent => "%",
            Self::Points => "points",
            Self::Nats => "nats",
            Self::NatsPerToken => "nats/token",
            Self::NatsPerByte => "nats/byte",
            Self::BitsPerByte => "bits/byte",
            Self::Plain => "",
        }
    }
}

/// What is known of an experiment when its metrics are listed.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// There is a target.
    pub has_target: bool,
    /// There are choices.
    pub has_choices: bool,
    /// Every example has the same choices: how many.
    pub n_fixed_choices: Option<usize>,
    /// Generations per case.
    pub n_repeats: usize,
    /// The declared text metrics.
    pub judges: &'a [TextJudge],
    /// Everything that `[[metrics]]` declares.
    pub declared: &'a [MetricSpec],
    /// How many references the examples have, for signatures.
    pub references: ReferenceCount,
}

/// A metric as computed in one experiment.
#[derive(Debug, Clone)]
pub struct Metric {
    /// Its name in tables, files and reports.
    pub name: String,
    /// Which way it improves.
    pub direction: Direction,
    /// How values are printed.
    pub unit: Unit,
    /// Its least and greatest value, where both exist.
    pub range: Option<Interval>,
    /// Only describes: no interval, no comparison.
    pub is_descriptive: bool,
    /// sacrebleu's signature, where it is one of sacrebleu's.
    pub signature: Option<String>,
    source: Source,
}

/// Where a metric's values come from.
#[derive(Debug, Clone)]
enum Source {
    Likelihood(MetricName),
    Choices {
        name: MetricName,
        n_choices: usize,
    },
    /// The judgement at that index: the case's own value ...
    Judgement {
        index: usize,
        is_proportion: bool,
    },
    /// ... or its statistics, summed over the corpus.
    Corpus {
        index: usize,
        judge: Arc<TextJudge>,
    },
}

/// A metric's values, one entry per example that has one.
#[derive(Debug, Clone)]
pub struct Units {
    /// Indices of the examples, ascending.
    pub examples: Vec<usize>,
    values: Values,
}

#[derive(Debug, Clone)]
enum Values {
    Proportion(Vec<bool>),
    Mean(Vec<f64>),
    Ratio(Vec<[f64; 2]>),
    Corpus(Vec<Vec<f64>>),
}

/// A metric's value for one variant on one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    /// The estimate; `None` if no case has a value.
    pub estimate: Option<Estimate>,
    /// Examples without a value.
    pub n_failed: usize,
}

impl Metric {
    /// The metrics of an experiment: likelihood, choices, then the declared ones.
    pub fn list(facts: &Facts<'_>) -> Vec<Self> {
        let mut metrics = Vec::new();
        let has_premise = facts
            .declared
            .iter()
            .any(|it| matches!(it.options, MetricOptions::AccPmi { premise: Some(_) }));
        for name in MetricName::ALL.into_iter().filter(|it| it.is_automatic()) {
            match name.requires() {
                Requires::Target if facts.has_target => {
                    metrics.push(Self::automatic(name, Source::Likelihood(name)));
                }
                Requires::Choices if facts.has_choices => {
                    let n_choices = facts.n_fixed_choices.unwrap_or(0);
                    // Classes must mean the same in every example, and nothing stand before them.
                    let is_defined = match name {
                        MetricName::MacroF1 | MetricName::AccMajority => {
                            facts.n_fixed_choices.is_some()
                        }
                        MetricName::AccNoContext => !has_premise,
                        _ => true,
                    };
                    if is_defined {
                        metrics.push(Self::automatic(name, Source::Choices { name, n_choices }));
                    }
                }
                _ => {}
            }
        }
        for spec in facts.declared.iter().filter(|_| facts.has_choices) {
            let name = spec.metric.value;
            if matches!(name, MetricName::AccPmi | MetricName::AccCalibrated) {
                metrics.push(Self {
                    name: spec.name.clone(),
                    ..Self::automatic(name, Source::Choices { name, n_choices: 0 })
                });
            }
        }
        for (index, judge) in facts.judges.iter().enumerate() {
            metrics.extend(Self::declared(index, judge, facts));
        }
        metrics
    }

    fn automatic(name: MetricName, source: Source) -> Self {
        let (low, high) = name.range();
        Self {
            name: name.as_str().to_owned(),
            direction: if name.is_higher_better() {
                Direction::HigherIsBetter
            } else {
                Direction::LowerIsBetter
            },
            unit: match name {
                MetricName::Loglikelihood => Unit::Nats,
                MetricName::LoglikelihoodPerToken => Unit::NatsPerToken,
                MetricName::LoglikelihoodPerByte => Unit::NatsPerByte,
                MetricName::BitsPerByte => Unit::BitsPerByte,
                MetricName::Perplexity | MetricName::Brier | MetricName::Ece => Unit::Plain,
                _ => Unit::Percent,
            },
            range: (low.is_finite() && high.is_finite()).then_some(Interval { low, high }),
            is_descriptive: name.is_descriptive(),
            signature: None,
            source,
        }
    }

    /// A declared text metric; a corpus metric brings the mean of its cases' own values along.
    fn declared(index: usize, judge: &TextJudge, facts: &Facts<'_>) -> Vec<Self> {
        let definition = judge.definition();
        let signature = judge.signature(facts.references);
        let is_proportion =
            definition.kind == text_metric::Kind::Proportion && facts.n_repeats <= 1;
        // sacrebleu's sentence_bleu counts only the orders that a sentence has.
        let case_signature = signature.as_ref().map(|it| it.replace("eff:no", "eff:yes"));
        let case = Self {
            name: judge.case_name(),
            direction: match definition.direction {
                text_metric::Direction::HigherIsBetter => Direction::HigherIsBetter,
                text_metric::Direction::LowerIsBetter => Direction::LowerIsBetter,
            },
            unit: match definition.unit {
                text_metric::Unit::Percent => Unit::Percent,
                text_metric::Unit::Points => Unit::Points,
            },
            range: definition.range.map(|it| Interval {
                low: it.min,
                high: it.max,
            }),
            is_descriptive: false,
            signature: case_signature,
            source: Source::Judgement {
                index,
                is_proportion,
            },
        };
        if definition.kind != text_metric::Kind::Corpus {
            return vec![case];
        }
        let source = Source::Corpus {
            index,
            judge: Arc::new(judge.clone()),
        };
        let corpus = Self {
            name: judge.name().to_owned(),
            signature,
            source,
            ..case.clone()
        };
        vec![corpus, case]
    }

    /// Whether a single case has a value, so that the table of cases has a column.
    ///
    /// Likelihood metrics stand in columns of their own.
    pub fn is_per_case(&self) -> bool {
        match &self.source {
            Source::Likelihood(_) | Source::Corpus { .. } => false,
            Source::Choices { name, .. } => !matches!(
                name,
                MetricName::MacroF1
                    | MetricName::Ece
                    | MetricName::AccMajority
                    | MetricName::AccNoContext
            ),
            Source::Judgement { .. } => true,
        }
    }

    /// The value of one case; `None` where it has none, or the metric is not per case.
    pub fn case_value(&self, score: &Score) -> Option<f64> {
        match &self.source {
            Source::Choices { name, .. } if self.is_per_case() => {
                choice_value(*name, &score.choices)
            }
            Source::Judgement { index, .. } => {
                score.judgements.get(*index)?.as_ref().map(|it| it.value)
            }
            _ => None,
        }
    }

    /// The values of one variant on one model; `scores` in plan order, all repeats.
    pub fn units(&self, scores: &[&Score]) -> Units {
        let mut examples = Vec::new();
        let mut values = match &self.source {
            Source::Likelihood(MetricName::GreedyMatch) => Values::Proportion(Vec::new()),
            Source::Likelihood(MetricName::Loglikelihood) => Values::Mean(Vec::new()),
            Source::Likelihood(_) => Values::Ratio(Vec::new()),
            Source::Choices { name, .. } => match name {
                MetricName::MacroF1 | MetricName::Ece | MetricName::AccMajority => {
                    Values::Corpus(Vec::new())
                }
                MetricName::Brier => Values::Mean(Vec::new()),
                _ => Values::Proportion(Vec::new()),
            },
            Source::Judgement { is_proportion, .. } if *is_proportion => {
                Values::Proportion(Vec::new())
            }
            Source::Judgement { .. } => Values::Mean(Vec::new()),
            Source::Corpus { .. } => Values::Corpus(Vec::new()),
        };
        for repeats in scores.chunk_by(|a, b| a.key.example == b.key.example) {
            if self.push(repeats, &mut values) {
                examples.push(repeats[0].key.example);
            }
        }
        Units { examples, values }
    }

    /// Adds one example's value, merged over its repeats; false if it has none.
    fn push(&self, repeats: &[&Score], values: &mut Values) -> bool {
        let first = repeats[0];
        let pushed = match (&self.source, values) {
            (Source::Likelihood(_), Values::Proportion(list)) => {
                first.likelihood.map(|it| list.push(it.greedy_match))
            }
            (Source::Likelihood(_), Values::Mean(list)) => {
                first.likelihood.map(|it| list.push(it.loglikelihood))
            }
            (Source::Likelihood(name), Values::Ratio(list)) => first.likelihood.map(|it| {
                let by_token = matches!(
                    name,
                    MetricName::LoglikelihoodPerToken | MetricName::Perplexity
                );
                let n = if by_token { it.n_tokens } else { it.n_bytes };
                // -L / (n ln 2) for bits; the sign and the constant sit in the numerator.
                let factor = match name {
                    MetricName::BitsPerByte => -1.0 / std::f64::consts::LN_2,
                    _ => 1.0,
                };
                list.push([factor * it.loglikelihood, n as f64]);
            }),
            (Source::Choices { name, .. }, Values::Proportion(list)) => {
                choice_value(*name, &first.choices).map(|it| list.push(it == 1.0))
            }
            (Source::Choices { name, .. }, Values::Mean(list)) => {
                choice_value(*name, &first.choices).map(|it| list.push(it))
            }
            (Source::Choices { name, n_choices }, Values::Corpus(list)) => {
                choice_statistics(*name, *n_choices, &first.choices).map(|it| list.push(it))
            }
            (Source::Judgement { .. }, Values::Proportion(list)) => {
                self.case_value(first).map(|it| list.push(it == 1.0))
            }
            (Source::Judgement { .. }, Values::Mean(list)) => {
                let of_repeats: Option<Vec<f64>> =
                    repeats.iter().map(|it| self.case_value(it)).collect();
                of_repeats.map(|it| list.push(it.iter().sum::<f64>() / it.len() as f64))
            }
            (Source::Corpus { index, .. }, Values::Corpus(list)) => {
                let of_repeats: Option<Vec<&Vec<f64>>> = repeats
                    .iter()
                    .map(|it| it.judgements.get(*index)?.as_ref().map(|it| &it.statistics))
                    .collect();
                of_repeats.map(|it| {
                    let width = it[0].len();
                    list.push(
                        (0..width)
                            .map(|i| it.iter().map(|row| row[i]).sum())
                            .collect(),
                    );
                })
            }
            _ => None,
        };
        pushed.is_some()
    }

    /// Measures one variant on one model. `clusters` names each example's cluster.
    ///
    /// `n_planned` examples were to be scored; those without a value count as failed.
    pub fn measure(
        &self,
        units: &Units,
        clusters: Option<&[String]>,
        n_planned: usize,
    ) -> Measurement {
        let estimate = match &self.source {
            Source::Likelihood(MetricName::Perplexity) => {
                let per_token = units.sample(self, None).ok();
                per_token.map(|it| self.bare((-it.value()).exp(), it.n_units()))
            }
            Source::Choices {
                name: MetricName::Ece,
                ..
            } => units
                .corpus()
                .and_then(calibration_error)
                .map(|it| self.bare(it, units.examples.len())),
            Source::Choices {
                name: MetricName::AccMajority,
                ..
            } => units
                .corpus()
                .and_then(majority_share)
                .map(|it| self.bare(it, units.examples.len())),
            Source::Choices {
                name: MetricName::AccNoContext,
                ..
            } => {
                let sample = units.sample(self, None).ok();
                sample.map(|it| self.bare(it.value(), it.n_units()))
            }
            _ => units.sample(self, clusters).ok().map(|it| it.estimate()),
        };
        Measurement {
            estimate,
            n_failed: n_planned - units.examples.len(),
        }
    }

    fn bare(&self, value: f64, n: usize) -> Estimate {
        debug_assert!(
            self.is_descriptive,
            "only a description goes without an interval"
        );
        Estimate {
            value,
            stderr: None,
            interval: None,
            n,
        }
    }
}

impl Units {
    /// The same values on those examples for which `keep` holds.
    #[must_use]
    pub fn restricted(&self, keep: impl Fn(usize) -> bool) -> Self {
        fn kept<T: Clone>(list: &[T], mask: &[bool]) -> Vec<T> {
            let kept = list.iter().zip(mask).filter(|it| *it.1);
            kept.map(|it| it.0.clone()).collect()
        }
        let mask: Vec<bool> = self.examples.iter().map(|it| keep(*it)).collect();
        Self {
            examples: kept(&self.examples, &mask),
            values: match &self.values {
                Values::Proportion(list) => Values::Proportion(kept(list, &mask)),
                Values::Mean(list) => Values::Mean(kept(list, &mask)),
                Values::Ratio(list) => Values::Ratio(kept(list, &mask)),
                Values::Corpus(list) => Values::Corpus(kept(list, &mask)),
            },
        }
    }

    /// The values as a sample of examples, or of their clusters.
    ///
    /// # Errors
    ///
    /// [`StatsError`] if there are none, or the metric has no value on them.
    pub fn sample(
        &self,
        metric: &Metric,
        clusters: Option<&[String]>,
    ) -> Result<Sample, StatsError> {
        let sample = match (&self.values, &metric.source) {
            (Values::Proportion(list), _) => Sample::proportion(list),
            (Values::Mean(list), _) => Sample::mean(list, metric.range),
            (Values::Ratio(list), _) => Sample::ratio(list, metric.range),
            (Values::Corpus(list), Source::Corpus { judge, .. }) => {
                let judge = Arc::clone(judge);
                let value = move |sums: &[f64]| judge.corpus(sums).unwrap_or(f64::NAN);
                Sample::corpus(list, metric.range, value)
            }
            (Values::Corpus(list), _) => Sample::corpus(list, metric.range, macro_f1),
        }?;
        match clusters {
            Some(clusters) => {
                let of_units: Vec<&String> =
                    self.examples.iter().map(|it| &clusters[*it]).collect();
                sample.clustered(&of_units)
            }
            None => Ok(sample),
        }
    }

    /// Each example's own value, where the metric is a mean of such.
    pub fn values(&self) -> Option<Vec<f64>> {
        match &self.values {
            Values::Proportion(list) => {
                Some(list.iter().map(|it| f64::from(u8::from(*it))).collect())
            }
            Values::Mean(list) => Some(list.clone()),
            Values::Ratio(_) | Values::Corpus(_) => None,
        }
    }

    /// Each example's statistics, where the metric is a function of their sums.
    fn corpus(&self) -> Option<&[Vec<f64>]> {
        match &self.values {
            Values::Corpus(list) => Some(list),
            _ => None,
        }
    }

    /// Denominators of a ratio, for checks that two variants scored the same text.
    pub fn denominators(&self) -> Option<Vec<f64>> {
        match &self.values {
            Values::Ratio(list) => Some(list.iter().map(|it| it[1]).collect()),
            _ => None,
        }
    }
}
