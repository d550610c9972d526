//! One metric's values example by example.

use crate::experiment::MetricName;
use crate::stats::{Sample, StatsError};

use super::choices::macro_f1;
use super::{Kind, Metric, Source};

/// One example's value of one metric, merged over its repeats.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Whether something holds; see [`Kind::Proportion`].
    Outcome(bool),
    /// A number to be averaged.
    Number(f64),
    /// Numerator and denominator of a ratio of sums.
    Ratio([f64; 2]),
    /// What is summed over the corpus.
    Statistics(Vec<f64>),
}

impl Value {
    /// The kind of metric that it belongs to.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Outcome(_) => Kind::Proportion,
            Self::Number(_) => Kind::Mean,
            Self::Ratio(_) => Kind::Ratio,
            Self::Statistics(_) => Kind::Corpus,
        }
    }

    /// Whether every number in it is finite.
    pub fn is_finite(&self) -> bool {
        match self {
            Self::Outcome(_) => true,
            Self::Number(number) => number.is_finite(),
            Self::Ratio(pair) => pair.iter().all(|it| it.is_finite()),
            Self::Statistics(list) => list.iter().all(|it| it.is_finite()),
        }
    }

    /// The example's own number: 0 or 1 for an outcome, a ratio's own quotient. `None` for
    /// statistics, and for a quotient that is none.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Outcome(holds) => Some(f64::from(u8::from(*holds))),
            Self::Number(number) => Some(*number),
            Self::Ratio([top, bottom]) => Some(top / bottom).filter(|it| it.is_finite()),
            Self::Statistics(_) => None,
        }
    }
}

/// A metric's values, one entry per example that has one.
#[derive(Debug, Clone, PartialEq)]
pub struct Units {
    /// Indices of the examples, ascending.
    pub examples: Vec<usize>,
    values: Values,
}

#[derive(Debug, Clone, PartialEq)]
enum Values {
    Proportion(Vec<bool>),
    Mean(Vec<f64>),
    Ratio(Vec<[f64; 2]>),
    Corpus(Vec<Vec<f64>>),
}

impl Units {
    /// Values of one kind, by ascending index of their example.
    ///
    /// An outcome among numbers counts as 0 or 1; a value of any other kind than `kind` is left
    /// out, as if the example had none.
    pub fn new(kind: Kind, values: impl IntoIterator<Item = (usize, Value)>) -> Self {
        let mut examples = Vec::new();
        let mut lists = match kind {
            Kind::Proportion => Values::Proportion(Vec::new()),
            Kind::Mean => Values::Mean(Vec::new()),
            Kind::Ratio => Values::Ratio(Vec::new()),
            Kind::Corpus => Values::Corpus(Vec::new()),
        };
        for (example, value) in values {
            match (&mut lists, value) {
                (Values::Proportion(list), Value::Outcome(holds)) => list.push(holds),
                (Values::Mean(list), Value::Number(number)) => list.push(number),
                (Values::Mean(list), Value::Outcome(holds)) => {
                    list.push(f64::from(u8::from(holds)));
                }
                (Values::Ratio(list), Value::Ratio(pair)) => list.push(pair),
                (Values::Corpus(list), Value::Statistics(statistics)) => list.push(statistics),
                _ => continue,
            }
            examples.push(example);
        }
        Self {
            examples,
            values: lists,
        }
    }

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
        let sample = match (&self.values, metric.source) {
            (Values::Proportion(list), _) => Sample::proportion(list),
            (Values::Mean(list), _) => Sample::mean(list, metric.range),
            (Values::Ratio(list), _) => Sample::ratio(list, metric.range),
            (Values::Corpus(list), Source::Corpus { corpus, .. }) => {
                let judge = corpus.judge();
                let value = move |sums: &[f64]| judge.corpus(sums).unwrap_or(f64::NAN);
                Sample::corpus(list, metric.range, value)
            }
            (
                Values::Corpus(list),
                Source::Choices {
                    name: MetricName::MacroF1,
                    ..
                },
            ) => Sample::corpus(list, metric.range, macro_f1),
            // What only describes has no sample; see [`Metric::measure`].
            (Values::Corpus(list), _) => Err(StatsError::Undefined {
                n_units: list.len(),
            }),
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
    pub(super) fn corpus(&self) -> Option<&[Vec<f64>]> {
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
