//! The cases of one variant on one model, column by column.
//!
//! A run may have millions of cases, so what is known of one is kept in some hundred bytes: values
//! of a metric stand in one list of their own type, a digest that all cases share stands once, and
//! counts take a byte each as long as they fit. [`CaseRef`] looks at a case where it lies;
//! [`Cases::case`] takes it out as a [`CaseEvidence`] of its own.

use std::collections::BTreeMap;

use crate::metric::{Metric, Value};
use crate::score::{Likelihood, Status};

use super::columns::{Digests, Likelihoods};
use super::evidence::{CaseEvidence, ShortDigest, digest_of_requests};

/// Cases in the order of their examples.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cases {
    statuses: Vec<Status>,
    likelihood_digests: Digests,
    prior_digests: Digests,
    generation_digests: Digests,
    likelihoods: Likelihoods,
    /// One column per metric that has values of its own.
    columns: Vec<Column>,
    /// The values of cases that do not fit the columns; none in evidence that is sound.
    irregular: BTreeMap<usize, Vec<Option<Value>>>,
}

/// One of several cases.
#[derive(Debug, Clone, Copy)]
pub struct CaseRef<'a> {
    cases: &'a Cases,
    index: usize,
}

impl Cases {
    /// None yet, with room for `n`: lists that grow hold themselves twice for a moment.
    pub fn with_capacity(n: usize) -> Self {
        Self {
            statuses: Vec::with_capacity(n),
            likelihoods: Likelihoods::with_capacity(n),
            ..Self::default()
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.statuses.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.statuses.is_empty()
    }

    /// Adds a case.
    pub fn push(&mut self, case: CaseEvidence) {
        if self.is_empty() {
            let n_values = case.values.len();
            self.columns = (0..n_values).map(|_| Column::default()).collect();
            let room = self.statuses.capacity();
            self.columns
                .iter_mut()
                .for_each(|it| it.is_there.reserve(room));
        }
        self.statuses.push(case.status);
        let room = self.statuses.capacity();
        self.likelihood_digests.push(case.likelihood_digest, room);
        self.prior_digests.push(case.prior_digest, room);
        self.generation_digests.push(case.generation_digest, room);
        self.likelihoods.push(case.likelihood);
        let columns = self.columns.iter().zip(&case.values);
        let fits = case.values.len() == self.columns.len()
            && columns
                .filter_map(|(column, value)| Some((column, value.as_ref()?)))
                .all(|(column, value)| column.fits(value));
        if fits {
            for (column, value) in self.columns.iter_mut().zip(&case.values) {
                column.push(value.as_ref());
            }
        } else {
            self.columns.iter_mut().for_each(|it| it.push(None));
            self.irregular.insert(self.len() - 1, case.values);
        }
    }

    /// The case at an index.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn get(&self, index: usize) -> CaseRef<'_> {
        assert!(index < self.len(), "case {index} of {}", self.len());
        CaseRef { cases: self, index }
    }

    /// All cases.
    pub fn iter(&self) -> impl Iterator<Item = CaseRef<'_>> {
        (0..self.len()).map(|index| CaseRef { cases: self, index })
    }

    /// The case at an index, taken out.
    ///
    /// # Panics
    ///
    /// As [`Cases::get`].
    pub fn case(&self, index: usize) -> CaseEvidence {
        self.get(index).to_owned()
    }

    /// Changes one case, in time that grows with all of them.
    #[cfg(test)]
    pub(crate) fn edit(&mut self, index: usize, change: impl Fn(&mut CaseEvidence)) {
        assert!(index < self.len(), "there is a case to be changed");
        self.edit_each(|at, case| {
            if at == index {
                change(case);
            }
        });
    }

    /// Changes every case.
    #[cfg(test)]
    pub(crate) fn edit_each(&mut self, mut change: impl FnMut(usize, &mut CaseEvidence)) {
        let mut cases: Vec<CaseEvidence> = self.iter().map(CaseRef::to_owned).collect();
        let each = cases.iter_mut().enumerate();
        each.for_each(|(index, case)| change(index, case));
        *self = cases.into_iter().collect();
    }
}

impl FromIterator<CaseEvidence> for Cases {
    fn from_iter<T: IntoIterator<Item = CaseEvidence>>(cases: T) -> Self {
        let mut all = Self::default();
        cases.into_iter().for_each(|it| all.push(it));
        all
    }
}

impl CaseRef<'_> {
    /// Whether all its answers are there.
    pub fn status(self) -> Status {
        self.cases.statuses[self.index]
    }

    /// The target's likelihood.
    pub fn likelihood(self) -> Option<Likelihood> {
        self.cases.likelihoods.get(self.index)
    }

    /// Its value in a column.
    pub(super) fn value(self, slot: usize) -> Option<Value> {
        if let Some(values) = self.cases.irregular.get(&self.index) {
            return values.get(slot)?.clone();
        }
        self.cases.columns.get(slot)?.value(self.index)
    }

    /// How many values it has.
    pub(super) fn n_values(self) -> usize {
        let irregular = self.cases.irregular.get(&self.index);
        irregular.map_or(self.cases.columns.len(), Vec::len)
    }

    /// Digest of the requests whose answers `metric` reads; `None` if some could not be made.
    pub fn requests(self, metric: &Metric) -> Option<ShortDigest> {
        digest_of_requests(
            metric,
            self.cases.likelihood_digests.get(self.index),
            self.cases.prior_digests.get(self.index),
            self.cases.generation_digests.get(self.index),
        )
    }

    /// The case for itself.
    pub fn to_owned(self) -> CaseEvidence {
        let Self { cases, index } = self;
        CaseEvidence {
            status: self.status(),
            likelihood_digest: cases.likelihood_digests.get(index),
            prior_digest: cases.prior_digests.get(index),
            generation_digest: cases.generation_digests.get(index),
            likelihood: self.likelihood(),
            values: (0..self.n_values()).map(|it| self.value(it)).collect(),
        }
    }
}

/// The values of one metric.
#[derive(Debug, Clone, Default, PartialEq)]
struct Column {
    /// Whether a case has a value; where it has none, `values` has something without meaning.
    is_there: Vec<bool>,
    values: Values,
}

#[derive(Debug, Clone, Default, PartialEq)]
enum Values {
    /// No case had a value yet.
    #[default]
    None,
    Outcomes(Vec<bool>),
    Numbers(Vec<f64>),
    Ratios(Vec<[f64; 2]>),
    /// `width` numbers per case.
    Statistics {
        width: usize,
        numbers: Numbers,
    },
}

/// Numbers that take a byte each as long as all are small counts.
#[derive(Debug, Clone, PartialEq)]
enum Numbers {
    Counts(Vec<u8>),
    Any(Vec<f64>),
}

impl Column {
    fn fits(&self, value: &Value) -> bool {
        match (&self.values, value) {
            (Values::None, _)
            | (Values::Outcomes(_), Value::Outcome(_))
            | (Values::Numbers(_), Value::Number(_))
            | (Values::Ratios(_), Value::Ratio(_)) => true,
            (Values::Statistics { width, .. }, Value::Statistics(list)) => *width == list.len(),
            _ => false,
        }
    }

    /// Adds a value, which [`Column::fits`].
    fn push(&mut self, value: Option<&Value>) {
        let before = self.is_there.len();
        self.is_there.push(value.is_some());
        if let (Values::None, Some(value)) = (&self.values, value) {
            self.values = Values::filled(value, before, self.is_there.capacity());
        }
        match (&mut self.values, value) {
            (Values::None, _) => {}
            (Values::Outcomes(list), value) => {
                list.push(matches!(value, Some(Value::Outcome(true))));
            }
            (Values::Numbers(list), Some(Value::Number(number))) => list.push(*number),
            (Values::Numbers(list), _) => list.push(0.0),
            (Values::Ratios(list), Some(Value::Ratio(pair))) => list.push(*pair),
            (Values::Ratios(list), _) => list.push([0.0; 2]),
            (Values::Statistics { numbers, .. }, Some(Value::Statistics(list))) => {
                for it in list {
                    numbers.push(*it);
                }
            }
            (Values::Statistics { width, numbers }, _) => {
                (0..*width).for_each(|_| numbers.push(0.0));
            }
        }
    }

    fn value(&self, index: usize) -> Option<Value> {
        if !self.is_there[index] {
            return None;
        }
        Some(match &self.values {
            Values::None => return None,
            Values::Outcomes(list) => Value::Outcome(list[index]),
            Values::Numbers(list) => Value::Number(list[index]),
            Values::Ratios(list) => Value::Ratio(list[index]),
            Values::Statistics { width, numbers } => {
                let places = width * index..width * (index + 1);
                Value::Statistics(places.map(|it| numbers.get(it)).collect())
            }
        })
    }
}

impl Values {
    /// A list of the type of `value`, with `n` entries without meaning and room for some more.
    fn filled(value: &Value, n: usize, room: usize) -> Self {
        match value {
            Value::Outcome(_) => Self::Outcomes(entries(false, n, room)),
            Value::Number(_) => Self::Numbers(entries(0.0, n, room)),
            Value::Ratio(_) => Self::Ratios(entries([0.0; 2], n, room)),
            Value::Statistics(list) => Self::Statistics {
                width: list.len(),
                numbers: Numbers::Counts(entries(0, n * list.len(), room * list.len())),
            },
        }
    }
}

/// `n` entries, with room for some more.
fn entries<T: Clone>(entry: T, n: usize, room: usize) -> Vec<T> {
    let mut entries = Vec::with_capacity(room.max(n));
    entries.resize(n, entry);
    entries
}

impl Numbers {
    fn push(&mut self, number: f64) {
        match self {
            Self::Counts(counts) => {
                let count = number as u8;
                // To the bit: -0 and NaN are no counts.
                if f64::from(count).to_bits() == number.to_bits() {
                    counts.push(count);
                } else {
                    let mut any = Vec::with_capacity(counts.capacity());
                    any.extend(counts.iter().map(|it| f64::from(*it)));
                    any.push(number);
                    *self = Self::Any(any);
                }
            }
            Self::Any(numbers) => numbers.push(number),
        }
    }

    fn get(&self, index: usize) -> f64 {
        match self {
            Self::Counts(counts) => f64::from(counts[index]),
            Self::Any(numbers) => numbers[index],
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let number = prop_oneof![
            any::<f64>(),
            (0u32..300).prop_map(f64::from),
            Just(-0.0),
            Just(f64::NAN),
        ];
        prop_oneof![
            any::<bool>().prop_map(Value::Outcome),
            number.clone().prop_map(Value::Number),
            [number.clone(), number.clone()].prop_map(Value::Ratio),
            prop::collection::vec(number, 0..4).prop_map(Value::Statistics),
        ]
    }

    fn case() -> impl Strategy<Value = CaseEvidence> {
        let digest = || prop::option::of((0u8..2).prop_map(|it| ShortDigest([it; 16])));
        let status = prop::sample::select(Status::ALL.to_vec());
        let likelihood = prop::option::of(any::<(f64, usize, bool)>());
        let values = prop::collection::vec(prop::option::of(value()), 0..4);
        let digests = (digest(), digest(), digest());
        (status, digests, likelihood, values).prop_map(|(status, digests, likelihood, values)| {
            CaseEvidence {
                status,
                likelihood_digest: digests.0,
                prior_digest: digests.1,
                generation_digest: digests.2,
                likelihood: likelihood.map(|(loglikelihood, n, is_it)| Likelihood {
                    loglikelihood,
                    n_tokens: n,
                    n_bytes: n / 2,
                    greedy_match: is_it,
                    boundary_merge: !is_it,
                }),
                values,
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        /// Columns are a matter of memory: whatever goes in comes out, to the bit.
        #[test]
        fn cases_come_back_as_they_went_in(cases in prop::collection::vec(case(), 0..12)) {
            let packed: Cases = cases.iter().cloned().collect();
            prop_assert_eq!(packed.len(), cases.len());
            for (i, case) in cases.iter().enumerate() {
                // Debug tells 0 from -0, and NaN equals itself.
                prop_assert_eq!(format!("{:?}", packed.case(i)), format!("{case:?}"));
            }
        }
    }

    /// Regular cases take as many bytes as their columns.
    #[test]
    fn what_is_alike_is_kept_once_and_counts_take_a_byte() {
        let case = |i: usize| CaseEvidence {
            status: Status::Ok,
            likelihood_digest: Some(ShortDigest([i as u8; 16])),
            prior_digest: Some(ShortDigest([7; 16])),
            generation_digest: None,
            likelihood: None,
            values: vec![
                Some(Value::Outcome(i.is_multiple_of(2))),
                (i != 1).then(|| Value::Statistics(vec![1.0, i as f64])),
            ],
        };
        let cases: Cases = (0..4).map(case).collect();
        assert_eq!(
            cases.prior_digests,
            Digests::Same(Some(ShortDigest([7; 16])), 4)
        );
        assert!(matches!(cases.likelihood_digests, Digests::Each(_)));
        let Values::Statistics { numbers, .. } = &cases.columns[1].values else {
            panic!("{cases:?}")
        };
        assert_eq!(*numbers, Numbers::Counts(vec![1, 0, 0, 0, 1, 2, 1, 3]));
        assert!(cases.irregular.is_empty());
    }
}
