//! A settled check: its state, the numbers behind it, and the reasons. Words for them are the
//! report's.

use super::forecast::Forecast;
use super::observation::Unscored;
use super::rule::Rule;
use crate::experiment::OnInconclusive;

/// Which gate was held against what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Position of the gate in its file, counted from 0.
    pub gate_index: usize,
    /// The metric's name.
    pub metric: String,
    /// The model's name.
    pub model: String,
    /// The variant that is judged.
    pub variant: String,
    /// What it is held against, as a name for people; `None` for `min` and `max`.
    pub reference: Option<String>,
}

/// One gate held against one variant on one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// Which gate, metric, model and variant.
    pub label: Label,
    /// The rule.
    pub rule: Rule,
    /// What came out.
    pub state: State,
    /// Why, the deciding reason first; never empty. A check that passes has one.
    pub reasons: Vec<Reason>,
    /// The gain over the reference (positive is better), or the metric's value for `min` and
    /// `max`; `None` if it cannot be told.
    pub value: Option<f64>,
    /// The one-sided lower bound of `value` at the rule's confidence.
    pub lower: Option<f64>,
    /// The one-sided upper bound of `value` at the rule's confidence.
    pub upper: Option<f64>,
    /// One-sided, that of a failure, after Holm over the checks of the command; `None` if the
    /// check could not fail by a test.
    pub p_adjusted: Option<f64>,
    /// Units that were judged.
    pub n: usize,
    /// Whether units are clusters of examples.
    pub is_clustered: bool,
    /// The fewest units that can pass; `None` if no number suffices.
    pub floor: Option<u64>,
    /// Examples that were to be scored.
    pub n_planned: usize,
    /// Those without a score.
    pub unscored: Unscored,
    /// What such a rule needs, from the spread seen here; `None` if nothing could be measured.
    pub forecast: Option<Forecast>,
}

/// What came out of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The rule holds.
    Passed,
    /// The rule is broken, and not by luck.
    Failed,
    /// The data does not say.
    Inconclusive,
    /// Too many examples have no score for a verdict.
    Unscored,
}

impl State {
    /// The name that reports and files show.
    pub fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Inconclusive => "inconclusive",
            Self::Unscored => "unscored",
        }
    }
}

/// Why a check came out as it did.
#[derive(Debug, Clone, PartialEq)]
pub enum Reason {
    /// Passed: equal requests have equal answers.
    Identical {
        /// Over so many examples.
        n: usize,
    },
    /// Passed, or failed by the value itself: this comparison holds.
    Holds(Comparison),
    /// Failed: beyond the limit, and the test says that it is not luck.
    Shown {
        /// The value, and the limit that it lies beyond.
        comparison: Comparison,
        /// What was tested: `comparison`'s value lies beyond this. 0 for a drop.
        tested: f64,
        /// After Holm.
        p_adjusted: f64,
        /// The chance of a false failure, which `p_adjusted` stays below.
        significance: f64,
        /// Over so many checks.
        n_checks: usize,
    },
    /// The value lies beyond the limit, but that may be luck.
    NotShown {
        /// The value, and the limit that it lies beyond.
        comparison: Comparison,
        /// After Holm.
        p_adjusted: f64,
        /// The chance of a false failure, which `p_adjusted` does not stay below.
        significance: f64,
        /// Over so many checks.
        n_checks: usize,
    },
    /// The value keeps the limit, but its bound does not.
    TooWide(Comparison),
    /// Fewer units than the rule's floor.
    TooFewUnits {
        /// Units there are.
        n: usize,
        /// Units there must be.
        floor: u64,
    },
    /// Too few units for any bound.
    NoBound {
        /// Units there are.
        n: usize,
    },
    /// Too few clusters for any verdict.
    TooFewClusters {
        /// Clusters there are.
        n: usize,
    },
    /// Nothing is tolerated of a bounded metric, which no number of units can show.
    NoTolerance,
    /// One unit decides the outcome.
    Dominated {
        /// The unit: an example's id, or a cluster's.
        unit: String,
        /// Its share of the squared deviation, above 0.25.
        share: f64,
    },
    /// Filled in against the candidate, the missing examples break the limit.
    Missing {
        /// How many are missing.
        n: usize,
        /// The comparison that fails once they are filled in.
        comparison: Comparison,
    },
    /// Examples are missing, and this bounded metric has no values to fill in.
    CannotFill {
        /// How many are missing.
        n: usize,
    },
    /// Failed: the baseline has the variant, the experiment does not.
    Gone,
    /// There is nothing to hold against the rule.
    NotComparable {
        /// Why.
        why: String,
    },
    /// More examples have no score than `max_failed` tolerates.
    TooManyUnscored {
        /// How many.
        n: usize,
        /// How many are tolerated.
        max_failed: usize,
    },
}

/// A number held against another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// What the number is.
    pub quantity: Quantity,
    /// The number, in the metric's unit.
    pub value: f64,
    /// How the two stand to each other.
    pub relation: Relation,
    /// The other number: 0 minus the tolerated drop, or `min`, or `max`.
    pub limit: f64,
}

/// What a compared number is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Quantity {
    /// The gain over the reference.
    Gain,
    /// The metric's value.
    Value,
    /// The one-sided lower bound at this confidence.
    Lower(f64),
    /// The one-sided upper bound at this confidence.
    Upper(f64),
}

/// How two numbers stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// `>=`
    AtLeast,
    /// `<=`
    AtMost,
    /// `<`
    Below,
    /// `>`
    Above,
}

/// What the checks of a command amount to, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Every check passed, or its gate says that not knowing is no failure.
    Passed,
    /// No check failed, but one is inconclusive and its gate says that fails.
    Inconclusive,
    /// A check failed.
    Failed,
    /// A check has no verdict, because too many examples have no score.
    Incomplete,
}

/// What `checks` amount to: the worst of them. [`Outcome::Passed`] if there are none.
pub fn outcome(checks: &[Check]) -> Outcome {
    let all = checks.iter().map(Check::outcome);
    all.max().unwrap_or(Outcome::Passed)
}

impl Check {
    /// What this check alone amounts to.
    pub fn outcome(&self) -> Outcome {
        match (self.state, self.rule.on_inconclusive) {
            (State::Unscored, _) => Outcome::Incomplete,
            (State::Failed, _) => Outcome::Failed,
            (State::Inconclusive, OnInconclusive::Fail) => Outcome::Inconclusive,
            (State::Passed | State::Inconclusive, _) => Outcome::Passed,
        }
    }

    /// Whether it is inconclusive and its gate asks to say so without failing.
    pub fn is_warning(&self) -> bool {
        let asks = self.rule.on_inconclusive == OnInconclusive::Warn;
        self.state == State::Inconclusive && asks
    }
}

impl Comparison {
    /// Whether the relation is what the numbers say.
    pub fn is_true(&self) -> bool {
        match self.relation {
            Relation::AtLeast => self.limit <= self.value,
            Relation::AtMost => self.value <= self.limit,
            Relation::Below => self.value < self.limit,
            Relation::Above => self.limit < self.value,
        }
    }

    /// The same numbers with the relation turned into its contrary.
    #[must_use]
    pub fn denied(self) -> Self {
        let relation = match self.relation {
            Relation::AtLeast => Relation::Below,
            Relation::AtMost => Relation::Above,
            Relation::Below => Relation::AtLeast,
            Relation::Above => Relation::AtMost,
        };
        Self { relation, ..self }
    }
}

impl Relation {
    /// The sign between two numbers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AtLeast => ">=",
            Self::AtMost => "<=",
            Self::Below => "<",
            Self::Above => ">",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lower(value: f64, limit: f64) -> Comparison {
        Comparison {
            quantity: Quantity::Lower(0.95),
            value,
            relation: Relation::AtLeast,
            limit,
        }
    }

    /// Files and reports are read by these names.
    #[test]
    fn states_and_relations_have_their_names() {
        let states = [
            State::Passed,
            State::Failed,
            State::Inconclusive,
            State::Unscored,
        ];
        let names = ["passed", "failed", "inconclusive", "unscored"];
        assert_eq!(states.map(State::name), names);
        let relations = [
            Relation::AtLeast,
            Relation::AtMost,
            Relation::Below,
            Relation::Above,
        ];
        assert_eq!(relations.map(Relation::as_str), [">=", "<=", "<", ">"]);
        // Each holds of two numbers as its sign says: 1 and 2, 2 and 2, 3 and 2.
        let holds = relations.map(|relation| {
            [1.0, 2.0, 3.0].map(|value| {
                let limit = 2.0;
                let quantity = Quantity::Value;
                let comparison = Comparison {
                    quantity,
                    value,
                    relation,
                    limit,
                };
                comparison.is_true()
            })
        });
        let expected = [
            [false, true, true],
            [true, true, false],
            [true, false, false],
            [false, false, true],
        ];
        assert_eq!(holds, expected);
    }

    #[test]
    fn a_denied_comparison_is_true_exactly_where_the_first_is_not() {
        for relation in [
            Relation::AtLeast,
            Relation::AtMost,
            Relation::Below,
            Relation::Above,
        ] {
            for value in [-1.0, 0.0, 1.0] {
                let comparison = Comparison {
                    relation,
                    ..lower(value, 0.0)
                };
                assert_ne!(comparison.is_true(), comparison.denied().is_true());
            }
        }
    }
}
