//! Lines up the examples of two runs, and one metric's values on them.
//!
//! Two examples are a pair if id and fields are equal; a pair counts for a metric if both sides
//! have a value and the value speaks of the same target. Whatever is left out is listed with
//! its cause.

use std::collections::{HashMap, HashSet};

use crate::metric::{Metric, Source, Units, Value};
use crate::score::Status;

use super::cases::CaseRef;
use super::evidence::Evidence;
use super::examples::{ExampleRef, Examples};

/// An example that takes no part in a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpaired {
    /// Its id.
    pub example_id: String,
    /// Why.
    pub cause: Cause,
}

/// Why an example takes no part in a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The reference has no example of that id.
    OnlyInCandidate,
    /// The candidate has no example of that id.
    OnlyInReference,
    /// The dataset's fields are not what they were.
    FieldsChanged,
    /// The target, or the references a text metric reads, are not what they were.
    TargetChanged,
    /// The candidate has no value.
    UnscoredInCandidate(Status),
    /// The reference has no value.
    UnscoredInReference(Status),
    /// Neither has a value.
    UnscoredInBoth {
        /// The candidate's status.
        candidate: Status,
        /// The reference's status.
        reference: Status,
    },
}

impl Cause {
    /// Whether the candidate lacks the value.
    pub fn is_unscored_in_candidate(self) -> bool {
        matches!(
            self,
            Self::UnscoredInCandidate(_) | Self::UnscoredInBoth { .. }
        )
    }

    /// Whether the reference lacks the value.
    pub fn is_unscored_in_reference(self) -> bool {
        matches!(
            self,
            Self::UnscoredInReference(_) | Self::UnscoredInBoth { .. }
        )
    }
}

/// Two runs, or one run twice.
#[derive(Clone, Copy)]
pub(super) struct Sides<'a> {
    pub(super) candidate: &'a Evidence,
    pub(super) reference: &'a Evidence,
}

/// The examples of two runs, lined up.
pub(super) struct Rows {
    /// Indices of equal examples on both sides, in the candidate's order.
    pub(super) both: Vec<(usize, usize)>,
    /// The rest, the candidate's first.
    pub(super) unpaired: Vec<Unpaired>,
}

/// Indices of a model and a variant on either side.
#[derive(Clone, Copy)]
pub(super) struct Cells {
    pub(super) candidate: (usize, usize),
    pub(super) reference: (usize, usize),
}

/// One metric's values on the examples that both sides have.
pub(super) struct Paired {
    /// Indices of the candidate's examples.
    pub(super) examples: Vec<usize>,
    /// Values by their place in `examples`.
    pub(super) candidate: Units,
    pub(super) reference: Units,
    pub(super) unpaired: Vec<Unpaired>,
    /// Every pair was asked the same and got the same values.
    pub(super) is_identical: bool,
}

/// Single numbers of all rows that speak of the same target, whichever side lacks them.
#[derive(Debug, Default)]
pub(super) struct Planned {
    /// Indices of the candidate's examples.
    pub(super) examples: Vec<usize>,
    pub(super) candidate: Vec<Option<f64>>,
    pub(super) reference: Vec<Option<f64>>,
}

impl Rows {
    pub(super) fn of(sides: Sides<'_>) -> Self {
        fn index(examples: &Examples) -> HashMap<&str, usize> {
            examples.ids().zip(0..).collect()
        }
        let mut rows = Self {
            both: Vec::new(),
            unpaired: Vec::new(),
        };
        let mut leave_out = |example_id: &str, cause| {
            rows.unpaired.push(Unpaired {
                example_id: example_id.to_owned(),
                cause,
            });
        };
        let of_reference = index(&sides.reference.examples);
        for (i, example) in sides.candidate.examples.iter().enumerate() {
            let other = of_reference.get(example.id());
            match other.map(|j| (*j, sides.reference.examples.get(*j))) {
                None => leave_out(example.id(), Cause::OnlyInCandidate),
                Some((_, other)) if other.row_digest() != example.row_digest() => {
                    leave_out(example.id(), Cause::FieldsChanged);
                }
                Some((j, _)) => rows.both.push((i, j)),
            }
        }
        drop(of_reference);
        let of_candidate = index(&sides.candidate.examples);
        for id in sides.reference.examples.ids() {
            if !of_candidate.contains_key(id) {
                leave_out(id, Cause::OnlyInReference);
            }
        }
        rows
    }
}

impl Planned {
    /// As [`Paired::of`], of a metric whose examples have numbers of their own.
    pub(super) fn of(sides: Sides<'_>, rows: &Rows, cells: Cells, metrics: (usize, usize)) -> Self {
        let metric = &sides.candidate.metrics[metrics.0].metric;
        let candidates = sides.candidate.cell(cells.candidate.0, cells.candidate.1);
        let references = sides.reference.cell(cells.reference.0, cells.reference.1);
        let number = |value: Option<Value>| value.as_ref().and_then(Value::number);
        let mut planned = Self::default();
        for &(i, j) in &rows.both {
            let example = sides.candidate.examples.get(i);
            if !speaks_of_one_target(metric, example, sides.reference.examples.get(j)) {
                continue;
            }
            let candidate = sides.candidate.value(metrics.0, candidates.get(i));
            let reference = sides.reference.value(metrics.1, references.get(j));
            planned.examples.push(i);
            planned.candidate.push(number(candidate));
            planned.reference.push(number(reference));
        }
        planned
    }
}

impl Paired {
    /// `metrics` are the indices of one metric on either side.
    pub(super) fn of(sides: Sides<'_>, rows: &Rows, cells: Cells, metrics: (usize, usize)) -> Self {
        let metric = &sides.candidate.metrics[metrics.0].metric;
        let candidates = sides.candidate.cell(cells.candidate.0, cells.candidate.1);
        let references = sides.reference.cell(cells.reference.0, cells.reference.1);
        let mut paired = Self {
            examples: Vec::new(),
            candidate: Units::none(metric.kind()),
            reference: Units::none(metric.kind()),
            unpaired: Vec::new(),
            is_identical: true,
        };
        for &(i, j) in &rows.both {
            let (one, other) = (candidates.get(i), references.get(j));
            let example = sides.candidate.examples.get(i);
            if !speaks_of_one_target(metric, example, sides.reference.examples.get(j)) {
                paired.leave_out(example, Cause::TargetChanged);
                continue;
            }
            let values = (
                sides.candidate.value(metrics.0, one),
                sides.reference.value(metrics.1, other),
            );
            paired.add(metric, (i, example), (one, other), values);
        }
        paired.is_identical &= !paired.examples.is_empty();
        paired
    }

    fn add(
        &mut self,
        metric: &Metric,
        (index, example): (usize, ExampleRef<'_>),
        (candidate, reference): (CaseRef<'_>, CaseRef<'_>),
        values: (Option<Value>, Option<Value>),
    ) {
        let (one, other) = (candidate.status(), reference.status());
        match values {
            (Some(one), Some(other)) => {
                let asked = candidate.requests(metric);
                // Equal requests have equal answers; the values are looked at all the same,
                // since a file may be wrong.
                self.is_identical &=
                    asked.is_some() && asked == reference.requests(metric) && one == other;
                let place = self.examples.len();
                self.examples.push(index);
                self.candidate.push(place, one);
                self.reference.push(place, other);
            }
            (None, Some(_)) => self.leave_out(example, Cause::UnscoredInCandidate(one)),
            (Some(_), None) => self.leave_out(example, Cause::UnscoredInReference(other)),
            (None, None) => self.leave_out(
                example,
                Cause::UnscoredInBoth {
                    candidate: one,
                    reference: other,
                },
            ),
        }
    }

    fn leave_out(&mut self, example: ExampleRef<'_>, cause: Cause) {
        self.unpaired.push(Unpaired {
            example_id: example.id().to_owned(),
            cause,
        });
    }
}

/// Whether the metric's values of two examples with equal fields are about the same thing.
fn speaks_of_one_target(metric: &Metric, one: ExampleRef<'_>, other: ExampleRef<'_>) -> bool {
    let is_same_target = one.target_digest() == other.target_digest();
    match (metric.source, &metric.recipe) {
        (Source::Likelihood(_), _) => is_same_target,
        // How the choices are worded belongs to the prompt that is judged.
        (Source::Choices { .. }, _) => true,
        (_, Some(recipe)) if !recipe.reads_references => true,
        _ => is_same_target && one.references_digest() == other.references_digest(),
    }
}

/// The clusters of some of the candidate's examples, where there are clusters.
///
/// Where the candidate names none, the reference's, so that leaving the setting out never
/// narrows an interval.
pub(super) fn clusters(sides: Sides<'_>, examples: &[usize]) -> Option<Vec<String>> {
    if let Some(own) = sides.candidate.clusters() {
        return Some(examples.iter().map(|it| own[*it].clone()).collect());
    }
    let theirs = sides.reference.clusters()?;
    let ids = sides.reference.examples.ids();
    let by_id: HashMap<&str, &String> = ids.zip(&theirs).collect();
    let ids = examples
        .iter()
        .map(|it| sides.candidate.examples.get(*it).id());
    ids.map(|id| by_id.get(id).map(|it| (*it).clone()))
        .collect()
}

/// The name of every unit: examples by id, clusters by name in order of first appearance.
pub(super) fn unit_names(
    sides: Sides<'_>,
    examples: &[usize],
    clusters: Option<&[String]>,
) -> Vec<String> {
    let Some(clusters) = clusters else {
        let ids = examples.iter().map(|it| sides.candidate.examples.get(*it));
        return ids.map(|it| it.id().to_owned()).collect();
    };
    distinct(clusters).cloned().collect()
}

/// The name of one unit, as [`unit_names`] gives it.
pub(super) fn unit_name(
    sides: Sides<'_>,
    examples: &[usize],
    clusters: Option<&[String]>,
    unit: usize,
) -> Option<String> {
    if let Some(clusters) = clusters {
        return distinct(clusters).nth(unit).cloned();
    }
    let example = sides.candidate.examples.get(*examples.get(unit)?);
    Some(example.id().to_owned())
}

fn distinct(clusters: &[String]) -> impl Iterator<Item = &String> {
    let mut seen = HashSet::new();
    clusters.iter().filter(move |it| seen.insert(*it))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{ExampleEvidence, Refusal, RunsOptions, ShortDigest, runs, sketch};

    /// Only a side that lacks a value is counted as one without a score.
    #[test]
    fn a_cause_says_which_side_has_no_score() {
        let failed = Status::NonFinite;
        let both = Cause::UnscoredInBoth {
            candidate: failed,
            reference: failed,
        };
        for (cause, candidate, reference) in [
            (Cause::UnscoredInCandidate(failed), true, false),
            (Cause::UnscoredInReference(failed), false, true),
            (both, true, true),
            (Cause::OnlyInCandidate, false, false),
            (Cause::OnlyInReference, false, false),
            (Cause::FieldsChanged, false, false),
            (Cause::TargetChanged, false, false),
        ] {
            assert_eq!(cause.is_unscored_in_candidate(), candidate, "{cause:?}");
            assert_eq!(cause.is_unscored_in_reference(), reference, "{cause:?}");
        }
    }

    /// What judges the generation alone does not care what it might have been held against.
    #[test]
    fn other_references_matter_to_what_reads_them() {
        let mut one = sketch::run("b", 20, [0.0, 0.0]);
        let f1 = one.metric("f1").unwrap();
        let recipe = one.metrics[f1].metric.recipe.as_mut().unwrap();
        recipe.reads_references = false;
        let mut other = one.clone();
        let another = Some(ShortDigest::of(["another"]));
        let change = |_, it: &mut ExampleEvidence| it.references_digest = another;
        other.examples.edit_each(change);
        let options = RunsOptions {
            across_models: false,
            common_rows: false,
        };
        let compared = runs(&one, &other, &options).unwrap();
        for (metric, refusal) in [
            ("f1", None),
            ("loglikelihood", None),
            ("acc", None),
            ("exact_match", Some(Refusal::NoPairs)),
            ("chrf", Some(Refusal::NoPairs)),
        ] {
            let mut found = compared.comparisons.iter();
            let found = found.find(|it| it.metric == metric).unwrap();
            assert_eq!(found.refusal, refusal, "{metric}");
        }
    }
}
