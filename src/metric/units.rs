//! One metric's values example by example.

use std::sync::Arc;

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
    /// Indices of the examples, ascending; like the values, shared by those that were restricted
    /// to all of them.
    pub examples: Arc<Vec<usize>>,
    values: Arc<Values>,
}

#[derive(Debug, Clone, PartialEq)]
enum Values {
    Proportion(Vec<bool>),
    Mean(Vec<f64>),
    Ratio(Vec<[f64; 2]>),
    Corpus(Rows),
}

/// The statistics of all examples in one list, since each has but a few.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Rows {
    /// Statistics of an example.
    width: usize,
    statistics: Vec<f64>,
    /// The first example, counted among those here, that has another number of them.
    ragged: Option<(usize, usize)>,
}

impl Rows {
    fn push(&mut self, row: &[f64]) {
        if self.statistics.is_empty() {
            self.width = row.len();
        }
        if row.len() != self.width {
            let place = self.statistics.len().checked_div(self.width).unwrap_or(0);
            self.ragged.get_or_insert((place, row.len()));
        }
        self.statistics.extend_from_slice(row);
    }

    /// The statistics of each example.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[f64]> {
        self.statistics.chunks_exact(self.width.max(1))
    }
}

impl Units {
    /// Values of one kind, by ascending index of their example.
    ///
    /// An outcome among numbers counts as 0 or 1; a value of any other kind than `kind` is left
    /// out, as if the example had none.
    pub fn new(kind: Kind, values: impl IntoIterator<Item = (usize, Value)>) -> Self {
        let mut units = Self::none(kind);
        for (example, value) in values {
            units.push(example, value);
        }
        units
    }

    /// No values yet, of that kind.
    pub fn none(kind: Kind) -> Self {
        Self {
            examples: Arc::default(),
            values: Arc::new(match kind {
                Kind::Proportion => Values::Proportion(Vec::new()),
                Kind::Mean => Values::Mean(Vec::new()),
                Kind::Ratio => Values::Ratio(Vec::new()),
                Kind::Corpus => Values::Corpus(Rows::default()),
            }),
        }
    }

    /// Adds the value of an example behind all others; see [`Units::new`] for its kind.
    pub fn push(&mut self, example: usize, value: Value) {
        match (Arc::make_mut(&mut self.values), value) {
            (Values::Proportion(list), Value::Outcome(holds)) => list.push(holds),
            (Values::Mean(list), Value::Number(number)) => list.push(number),
            (Values::Mean(list), Value::Outcome(holds)) => {
                list.push(f64::from(u8::from(holds)));
            }
            (Values::Ratio(list), Value::Ratio(pair)) => list.push(pair),
            (Values::Corpus(rows), Value::Statistics(statistics)) => rows.push(&statistics),
            _ => return,
        }
        Arc::make_mut(&mut self.examples).push(example);
    }

    /// Each example's own number, as [`Value::number`] gives it.
    pub fn numbers(&self) -> impl Iterator<Item = Option<f64>> {
        (0..self.examples.len()).map(|place| match &*self.values {
            Values::Proportion(list) => Some(f64::from(u8::from(list[place]))),
            Values::Mean(list) => Some(list[place]),
            Values::Ratio(list) => Value::Ratio(list[place]).number(),
            Values::Corpus(_) => None,
        })
    }

    /// The same values on those examples for which `keep` holds.
    #[must_use]
    pub fn restricted(&self, keep: impl Fn(usize) -> bool) -> Self {
        fn kept<T: Clone>(list: &[T], mask: &[bool]) -> Vec<T> {
            let kept = list.iter().zip(mask).filter(|it| *it.1);
            kept.map(|it| it.0.clone()).collect()
        }
        let mask: Vec<bool> = self.examples.iter().map(|it| keep(*it)).collect();
        if mask.iter().all(|it| *it) {
            return self.clone();
        }
        let values = match &*self.values {
            Values::Proportion(list) => Values::Proportion(kept(list, &mask)),
            Values::Mean(list) => Values::Mean(kept(list, &mask)),
            Values::Ratio(list) => Values::Ratio(kept(list, &mask)),
            Values::Corpus(rows) => {
                let mut of_kept = Rows::default();
                let kept = rows.iter().zip(&mask).filter(|it| *it.1);
                kept.for_each(|it| of_kept.push(it.0));
                of_kept.ragged = rows.ragged;
                Values::Corpus(of_kept)
            }
        };
        Self {
            examples: Arc::new(kept(&self.examples, &mask)),
            values: Arc::new(values),
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
        let sample = match (&*self.values, metric.source) {
            (Values::Proportion(list), _) => Sample::proportion(list),
            (Values::Mean(list), _) => Sample::mean(list, metric.range),
            (Values::Ratio(list), _) => Sample::ratio(list, metric.range),
            (
                Values::Corpus(Rows {
                    width: expected,
                    ragged: Some((unit_index, got)),
                    ..
                }),
                _,
            ) => Err(StatsError::Ragged {
                unit_index: *unit_index,
                got: *got,
                expected: *expected,
            }),
            (Values::Corpus(rows), Source::Corpus { corpus, .. }) => {
                let judge = corpus.judge();
                let value = move |sums: &[f64]| judge.corpus(sums).unwrap_or(f64::NAN);
                Sample::corpus_rows(&rows.statistics, rows.width, metric.range, value)
            }
            (
                Values::Corpus(rows),
                Source::Choices {
                    name: MetricName::MacroF1,
                    ..
                },
            ) => Sample::corpus_rows(&rows.statistics, rows.width, metric.range, macro_f1),
            // What only describes has no sample; see [`Metric::measure`].
            (Values::Corpus(_), _) => Err(StatsError::Undefined {
                n_units: self.examples.len(),
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

    /// Each example's statistics, where the metric is a function of their sums.
    pub(super) fn corpus(&self) -> Option<&Rows> {
        match &*self.values {
            Values::Corpus(list) => Some(list),
            _ => None,
        }
    }

    /// Denominators of a ratio, for checks that two variants scored the same text.
    pub fn denominators(&self) -> Option<Vec<f64>> {
        match &*self.values {
            Values::Ratio(list) => Some(list.iter().map(|it| it[1]).collect()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of examples 2, 5 and 9.
    fn units(kind: Kind, values: [Value; 3]) -> Units {
        Units::new(kind, [2, 5, 9].into_iter().zip(values))
    }

    fn statistics(values: [[f64; 2]; 3]) -> Units {
        units(
            Kind::Corpus,
            values.map(|it| Value::Statistics(it.to_vec())),
        )
    }

    fn numbers(units: &Units) -> Vec<Option<f64>> {
        units.numbers().collect()
    }

    #[test]
    fn an_example_has_a_number_of_its_own_where_the_metric_averages_some() {
        for (value, number) in [
            (Value::Outcome(true), Some(1.0)),
            (Value::Outcome(false), Some(0.0)),
            (Value::Number(2.5), Some(2.5)),
            (Value::Ratio([3.0, 4.0]), Some(0.75)),
            (Value::Ratio([3.0, 0.0]), None),
            (Value::Statistics(vec![1.0]), None),
        ] {
            assert_eq!(value.number(), number, "{value:?}");
        }
        let outcomes = [true, false, true].map(Value::Outcome);
        let outcomes = units(Kind::Proportion, outcomes);
        assert_eq!(numbers(&outcomes), [Some(1.0), Some(0.0), Some(1.0)]);
        let means = units(Kind::Mean, [0.5, 1.5, 2.5].map(Value::Number));
        assert_eq!(numbers(&means), [Some(0.5), Some(1.5), Some(2.5)]);
        let ratios = [[1.0, 2.0], [1.0, 0.0], [6.0, 4.0]].map(Value::Ratio);
        let ratios = units(Kind::Ratio, ratios);
        assert_eq!(numbers(&ratios), [Some(0.5), None, Some(1.5)]);
        assert_eq!(ratios.denominators(), Some(vec![2.0, 0.0, 4.0]));
        let corpus = statistics([[1.0; 2]; 3]);
        assert_eq!(numbers(&corpus), [None; 3]);
        for other in [outcomes, means, corpus] {
            assert_eq!(other.denominators(), None, "{other:?}");
        }
    }

    #[test]
    fn a_restriction_keeps_the_values_of_what_it_keeps() {
        let lists = [
            [true, false, true].map(Value::Outcome),
            [0.5, 1.5, 2.5].map(Value::Number),
            [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]].map(Value::Ratio),
            [vec![1.0, 2.0], vec![3.0, 4.0], vec![5.0, 6.0]].map(Value::Statistics),
        ];
        for values in lists {
            let kind = values[0].kind();
            let all = units(kind, values.clone());
            assert_eq!(all.restricted(|_| true), all);
            let [first, _, last] = values;
            let kept = Units::new(kind, [(2, first), (9, last)]);
            assert_eq!(all.restricted(|it| it != 5), kept, "{kind:?}");
        }
    }

    /// An outcome counts among numbers; anything else that does not belong is left out.
    #[test]
    fn values_of_another_kind_are_as_if_there_were_none() {
        let values = [
            Value::Outcome(true),
            Value::Ratio([1.0, 2.0]),
            Value::Number(0.25),
        ];
        let mean = units(Kind::Mean, values.clone());
        assert_eq!(
            (&mean.examples[..], numbers(&mean)),
            (&[2, 9][..], vec![Some(1.0), Some(0.25)])
        );
        assert_eq!(*units(Kind::Ratio, values.clone()).examples, [5]);
        assert_eq!(*units(Kind::Proportion, values.clone()).examples, [2]);
        assert!(units(Kind::Corpus, values).examples.is_empty());
    }

    /// Statistics that do not match are a mistake of whoever stored them, and never summed.
    #[test]
    fn examples_with_other_statistics_are_refused_by_their_place() {
        let metric = crate::compare::sketch::metrics()
            .into_iter()
            .map(|it| it.metric);
        let chrf = metric.into_iter().find(|it| it.name == "chrf").unwrap();
        let list = [vec![1.0; 18], vec![1.0; 18], vec![1.0; 17]];
        let ragged = units(Kind::Corpus, list.map(Value::Statistics));
        let error = ragged.sample(&chrf, None).unwrap_err();
        assert_eq!(error.to_string(), "unit 2 has 17 statistics, expected 18");
        let whole = units(
            Kind::Corpus,
            [0; 3].map(|_| Value::Statistics(vec![1.0; 18])),
        );
        assert!(whole.sample(&chrf, None).is_ok());
    }
}
