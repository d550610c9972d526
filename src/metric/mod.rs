//! Scores to metrics: one number per model, variant and metric, with its error.
//!
//! A [`Metric`] knows how to read a score, what kind of number it is and which way
//! it improves; it is plain data, so that it can be kept beside stored numbers. A
//! [`Value`] is what one example contributes, repeats merged: the example, or its
//! cluster, is the unit. [`Units`] are the values example by example; they can be
//! restricted to the examples that two variants share before [`Units::sample`] turns
//! them into an estimate.

mod choices;
mod recipe;
mod source;
#[cfg(test)]
mod tests;
mod units;

use crate::experiment::{MetricName, MetricOptions, MetricSpec, Requires};
use crate::score::{Likelihood, Score};
use crate::stats::{Direction, Estimate, Interval};
use crate::text_metric::{self, ReferenceCount, TextJudge};

use choices::{calibration_error, choice_statistics, choice_value, majority_share};
pub use choices::{is_tie, predicted_choice};
pub use recipe::Recipe;
pub use source::{CorpusMetric, Kind, Source, UnknownSource};
pub use units::{Units, Value};

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

    /// The unit that is written so.
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [
            Self::Percent,
            Self::Points,
            Self::Nats,
            Self::NatsPerToken,
            Self::NatsPerByte,
            Self::BitsPerByte,
            Self::Plain,
        ];
        all.into_iter().find(|it| it.as_str() == name)
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
#[derive(Debug, Clone, PartialEq)]
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
    /// How it was declared; `None` for a metric that is computed anyway.
    pub recipe: Option<Recipe>,
    /// Where its values come from.
    pub source: Source,
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
                    recipe: Some(Recipe::of(spec)),
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
            recipe: None,
            source,
        }
    }

    /// A declared text metric; a corpus metric brings the mean of its cases' own values along.
    fn declared(index: usize, judge: &TextJudge, facts: &Facts<'_>) -> Vec<Self> {
        // Judges stand in the order of the declared metrics that judge a text.
        let specs = facts.declared.iter();
        let spec = specs
            .filter(|it| it.metric.value.is_of_generation())
            .nth(index);
        // Asked for as the mean of the cases' own values, not as the value of the corpus.
        let is_of_cases = spec.is_some_and(|it| {
            let name = it.metric.value;
            matches!(name, MetricName::SentenceBleu | MetricName::SentenceChrf)
        });
        let definition = judge.definition();
        let signature = judge.signature(facts.references);
        let is_proportion =
            definition.kind == text_metric::Kind::Proportion && facts.n_repeats <= 1;
        // sacrebleu's sentence_bleu counts only the orders that a sentence has.
        let case_signature = signature.as_ref().map(|it| it.replace("eff:no", "eff:yes"));
        let case = Self {
            name: if is_of_cases {
                judge.name().to_owned()
            } else {
                judge.case_name()
            },
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
            recipe: Some(spec.map(Recipe::of).unwrap_or_default()),
            source: Source::Judgement {
                index,
                is_proportion,
            },
        };
        let Some(corpus) = CorpusMetric::of(judge.metric()).filter(|_| !is_of_cases) else {
            return vec![case];
        };
        let source = Source::Corpus { index, corpus };
        let corpus = Self {
            name: judge.name().to_owned(),
            signature,
            source,
            ..case.clone()
        };
        // One that the file declares itself has its own options.
        if facts.judges.iter().any(|it| it.name() == case.name) {
            return vec![corpus];
        }
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
        match self.source {
            Source::Choices { name, .. } if self.is_per_case() => {
                choice_value(name, &score.choices)
            }
            Source::Judgement { index, .. } => {
                score.judgements.get(index)?.as_ref().map(|it| it.value)
            }
            _ => None,
        }
    }

    /// The values of one variant on one model; `scores` in plan order, all repeats.
    pub fn units(&self, scores: &[&Score]) -> Units {
        let examples = scores.chunk_by(|a, b| a.key.example == b.key.example);
        let values = examples.filter_map(|it| Some((it[0].key.example, self.value(it)?)));
        Units::new(self.kind(), values)
    }

    /// The value of one example from the scores of all its repeats; `None` if it has none, or
    /// none that is a finite number.
    pub fn value(&self, repeats: &[&Score]) -> Option<Value> {
        let first = *repeats.first()?;
        let value = match self.source {
            Source::Likelihood(_) => self.likelihood_value(first.likelihood.as_ref()?)?,
            Source::Choices { name, n_choices } => match self.kind() {
                Kind::Corpus => {
                    Value::Statistics(choice_statistics(name, n_choices, &first.choices)?)
                }
                Kind::Mean => Value::Number(choice_value(name, &first.choices)?),
                _ => Value::Outcome(choice_value(name, &first.choices)? == 1.0),
            },
            Source::Judgement {
                is_proportion: true,
                ..
            } => Value::Outcome(self.case_value(first)? == 1.0),
            Source::Judgement { .. } => {
                let of_repeats: Option<Vec<f64>> =
                    repeats.iter().map(|it| self.case_value(it)).collect();
                let of_repeats = of_repeats?;
                Value::Number(of_repeats.iter().sum::<f64>() / of_repeats.len() as f64)
            }
            Source::Corpus { index, .. } => {
                let of_repeats: Option<Vec<&Vec<f64>>> = repeats
                    .iter()
                    .map(|it| it.judgements.get(index)?.as_ref().map(|it| &it.statistics))
                    .collect();
                let of_repeats = of_repeats?;
                let sum = |i: usize| of_repeats.iter().map(|row| row[i]).sum();
                Value::Statistics((0..of_repeats[0].len()).map(sum).collect())
            }
        };
        value.is_finite().then_some(value)
    }

    /// The value of an example whose target has this likelihood; `None` for a metric that is
    /// not read from it.
    pub fn likelihood_value(&self, likelihood: &Likelihood) -> Option<Value> {
        let Source::Likelihood(name) = self.source else {
            return None;
        };
        let total = likelihood.loglikelihood;
        Some(match name {
            MetricName::GreedyMatch => Value::Outcome(likelihood.greedy_match),
            MetricName::Loglikelihood => Value::Number(total),
            MetricName::LoglikelihoodPerToken | MetricName::Perplexity => {
                Value::Ratio([total, likelihood.n_tokens as f64])
            }
            // -L / (n ln 2) for bits; the sign and the constant sit in the numerator.
            MetricName::BitsPerByte => Value::Ratio([
                -1.0 / std::f64::consts::LN_2 * total,
                likelihood.n_bytes as f64,
            ]),
            _ => Value::Ratio([total, likelihood.n_bytes as f64]),
        })
    }

    /// The kind of number it is.
    pub fn kind(&self) -> Kind {
        self.source.kind()
    }

    /// The metric to compare by instead, where this one only describes.
    pub fn instead(&self) -> Option<&'static str> {
        let (Source::Likelihood(name) | Source::Choices { name, .. }) = self.source else {
            return None;
        };
        name.instead().map(MetricName::as_str)
    }

    /// How it is computed, in one line: two metrics with equal lines may be compared.
    pub fn definition(&self) -> String {
        let direction = match self.direction {
            Direction::HigherIsBetter => "higher is better",
            Direction::LowerIsBetter => "lower is better",
        };
        let how = match (&self.recipe, self.source.essence()) {
            (Some(recipe), Source::Corpus { .. }) => format!("{} over the corpus", recipe.text),
            (Some(recipe), _) => recipe.text.clone(),
            (None, source) => source.to_string(),
        };
        let signature = self.signature.as_deref();
        let signature = signature.map_or_else(String::new, |it| format!(", {it}"));
        let range = self
            .range
            .map_or_else(String::new, |it| format!(" from {} to {}", it.low, it.high));
        let unit = self.unit.as_str();
        format!("{how}{signature}, {direction}, {unit}{range}")
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
        let estimate = match self.source {
            Source::Likelihood(MetricName::Perplexity) => {
                let per_token = units.sample(self, None).ok();
                per_token.map(|it| self.bare((-it.value()).exp(), it.n_units()))
            }
            Source::Choices {
                name: MetricName::Ece,
                ..
            } => units
                .corpus()
                .and_then(|it| calibration_error(&it.iter().collect::<Vec<_>>()))
                .map(|it| self.bare(it, units.examples.len())),
            Source::Choices {
                name: MetricName::AccMajority,
                ..
            } => units
                .corpus()
                .and_then(|it| majority_share(&it.iter().collect::<Vec<_>>()))
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
