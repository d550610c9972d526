//! Which examples an edit fixed and which it broke.

use std::sync::Arc;

use crate::metric::Kind;
use crate::stats::Direction;

use super::evidence::Evidence;
use super::pairing::{Paired, Rows, Sides};
use super::run_comparison::CellPair;

/// One example's value before and after, where the two differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Flip {
    /// The example.
    pub example_id: String,
    /// The metric; the flips of one share its name.
    pub metric: Arc<str>,
    /// The reference's value, in the metric's unit; 0 or 1 for a yes or no.
    pub before: f64,
    /// The candidate's.
    pub after: f64,
    /// Which way it went.
    pub kind: FlipKind,
}

/// Which way an example went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlipKind {
    /// From wrong to right.
    Fixed,
    /// From right to wrong.
    Broke,
    /// To a better number.
    Improved,
    /// To a worse number.
    Worsened,
}

impl FlipKind {
    /// The word in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Broke => "broke",
            Self::Improved => "improved",
            Self::Worsened => "worsened",
        }
    }
}

/// The examples whose value differs between two sides, by `metric` or, without one, by every
/// metric that single examples have: metrics in the candidate's order, the largest change first,
/// equals by id. Of a large dataset the flips by all metrics are more than the two sides.
///
/// Pairs as [`super::runs()`] does: an example that it leaves out is no flip. Empty if a name of
/// `cells` is not there, or evidence does not fit together.
pub fn flips(
    candidate: &Evidence,
    reference: &Evidence,
    cells: &CellPair,
    metric: Option<&str>,
) -> Vec<Flip> {
    let sides = Sides {
        candidate,
        reference,
    };
    if candidate.check().is_err() || reference.check().is_err() {
        return Vec::new();
    }
    let Some(places) = cells.places(sides) else {
        return Vec::new();
    };
    let rows = Rows::of(sides);
    let mut flips = Vec::new();
    for (index, it) in candidate.metrics.iter().enumerate() {
        let is_wanted = metric.is_none_or(|wanted| wanted == it.metric.name);
        let it = &it.metric;
        let is_of_cases = matches!(it.kind(), Kind::Proportion | Kind::Mean);
        let Some(other) = reference.metric(&it.name) else {
            continue;
        };
        let is_same = reference.metrics[other].metric.definition() == it.definition();
        if is_wanted && is_of_cases && is_same && !it.is_descriptive {
            let paired = Paired::of(sides, &rows, places, (index, other));
            flips.extend(of_metric(candidate, index, &paired));
        }
    }
    flips
}

fn of_metric(candidate: &Evidence, metric: usize, paired: &Paired) -> Vec<Flip> {
    let metric = &candidate.metrics[metric].metric;
    let sign = match metric.direction {
        Direction::HigherIsBetter => 1.0,
        Direction::LowerIsBetter => -1.0,
    };
    let values = paired.candidate.numbers().zip(paired.reference.numbers());
    let name: Arc<str> = metric.name.as_str().into();
    let mut flips: Vec<Flip> = values
        .zip(&paired.examples)
        .filter_map(|((after, before), example)| {
            let (after, before) = (after?, before?);
            let gain = sign * (after - before);
            let kind = match (metric.kind(), 0.0 < gain) {
                _ if gain == 0.0 => return None,
                (Kind::Proportion, true) => FlipKind::Fixed,
                (Kind::Proportion, false) => FlipKind::Broke,
                (_, true) => FlipKind::Improved,
                (_, false) => FlipKind::Worsened,
            };
            Some(Flip {
                example_id: candidate.examples.get(*example).id().to_owned(),
                metric: Arc::clone(&name),
                before,
                after,
                kind,
            })
        })
        .collect();
    let size = |it: &Flip| (it.after - it.before).abs();
    flips.sort_by(|a, b| {
        size(b)
            .total_cmp(&size(a))
            .then_with(|| a.example_id.cmp(&b.example_id))
    });
    flips
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::sketch;
    use crate::metric::Value;

    #[test]
    fn a_flip_goes_by_the_word_of_reports() {
        let kinds = [
            FlipKind::Fixed,
            FlipKind::Broke,
            FlipKind::Improved,
            FlipKind::Worsened,
        ];
        let words = ["fixed", "broke", "improved", "worsened"];
        assert_eq!(kinds.map(FlipKind::as_str), words);
    }

    /// A quotient of sums belongs to no single example, and what only describes is no change.
    #[test]
    fn only_what_single_examples_have_flips() {
        let (one, other) = (
            sketch::run("b", 20, [0.1, 0.0]),
            sketch::run("a", 20, [0.0, 0.0]),
        );
        let cells = sketch::cells("bare");
        let flipped = |name: &str| {
            let flips = flips(&one, &other, &cells, None);
            flips.iter().filter(|it| &*it.metric == name).count()
        };
        for name in ["loglikelihood", "f1", "sentence_chrf"] {
            assert_eq!(flipped(name), 20, "{name}");
        }
        for name in [
            "loglikelihood_per_byte",
            "loglikelihood_per_token",
            "bits_per_byte",
            "perplexity",
            "chrf",
            "ece",
            "acc_no_context",
        ] {
            assert_eq!(flipped(name), 0, "{name}");
        }
    }

    #[test]
    fn flips_are_the_changes_with_the_largest_first() {
        let before = sketch::run("a", 8, [0.0, 0.0]);
        let mut after = before.clone();
        let (exact_match, brier) = (
            sketch::own_slot(&after, "exact_match"),
            sketch::own_slot(&after, "brier"),
        );
        let mut start = before.clone();
        for (i, (was, is)) in [(false, true), (true, false), (true, true)]
            .into_iter()
            .enumerate()
        {
            start.cells[0].edit(i, |it| it.values[exact_match] = Some(Value::Outcome(was)));
            after.cells[0].edit(i, |it| it.values[exact_match] = Some(Value::Outcome(is)));
        }
        for (i, (was, is)) in [(0.5, 0.25), (0.5, 1.5), (0.5, 0.75)]
            .into_iter()
            .enumerate()
        {
            start.cells[0].edit(i, |it| it.values[brier] = Some(Value::Number(was)));
            after.cells[0].edit(i, |it| it.values[brier] = Some(Value::Number(is)));
        }
        let cells = sketch::cells("bare");
        let got: Vec<(String, String, f64, f64, FlipKind)> = flips(&after, &start, &cells, None)
            .into_iter()
            .map(|it| {
                (
                    it.metric.to_string(),
                    it.example_id,
                    it.before,
                    it.after,
                    it.kind,
                )
            })
            .collect();
        let flip = |metric: &str, id: &str, before, after, kind| {
            (metric.to_owned(), id.to_owned(), before, after, kind)
        };
        // A Brier score is the better the lower; equal sizes come by id.
        assert_eq!(
            got,
            [
                flip("exact_match", "e0000", 0.0, 1.0, FlipKind::Fixed),
                flip("exact_match", "e0001", 1.0, 0.0, FlipKind::Broke),
                flip("brier", "e0001", 0.5, 1.5, FlipKind::Worsened),
                flip("brier", "e0000", 0.5, 0.25, FlipKind::Improved),
                flip("brier", "e0002", 0.5, 0.75, FlipKind::Worsened),
            ]
        );
        let by_brier = flips(&after, &start, &cells, Some("brier"));
        assert_eq!(by_brier.len(), 3);
        assert!(by_brier.iter().all(|it| &*it.metric == "brier"));
        assert!(flips(&after, &start, &cells, Some("bleu")).is_empty());
        // Evidence that does not fit together, on whichever side, says nothing.
        for unsound in [&mut after.clone(), &mut start.clone()] {
            unsound.margin = Some(-1.0);
            assert!(flips(unsound, &start, &cells, None).is_empty());
            assert!(flips(&after, unsound, &cells, None).is_empty());
        }
        let unknown = CellPair {
            candidate: "chat".to_owned(),
            ..cells
        };
        assert!(flips(&after, &start, &unknown, None).is_empty());
    }
}
