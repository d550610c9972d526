//! What a check came to, for reports that are read away from the terminal.
//!
//! [`Checked`] holds what [`super::junit`], [`super::github`] and [`super::markdown`] show, so
//! that they cannot tell different stories. The examples behind a check are those that got worse
//! against what it is held against, by its metric, or by the one of single examples that tells
//! most about it ([`per_case`]).

use crate::compare::{Flip, FlipKind, RunComparison};
use crate::gate::{Outcome, State};
use crate::metric::Unit;

use super::Style;
use super::checks::{self, CheckLine};
use super::comparison::{Compared, wrapped};
use super::escape::line;
use super::flips::{lists, per_case};
use super::number;

/// Broken examples that the terminal lists for one failed check.
const MAX_LISTED: usize = 5;

/// Broken examples that are named for one check.
pub(super) const MAX_BROKEN: usize = 20;

/// What stands for a run with fewer scores than it needs.
pub(super) const INCOMPLETE: &str = "more cases have no score than the experiment allows";

/// Everything that came of one experiment's gates.
#[derive(Debug, Clone, Copy)]
pub struct Checked<'a> {
    /// Every check, in the order of the gates.
    pub checks: &'a [CheckedGate<'a>],
    /// The run against its base.
    pub compared: Compared<'a>,
    /// The base, as a name for people, such as `baseline main`.
    pub base: &'a str,
    /// Variants that the base does not have, and so no gate against it judges.
    pub new_variants: &'a [String],
    /// Gates whose variants, model or reference were not selected to run.
    pub skipped: &'a [GatePlace],
    /// Where the base is a file: the gates that only one of the two files has.
    pub edited: &'a [EditedGate],
    /// Whether a run has more cases without a score than allowed, whatever the gates say.
    pub is_incomplete: bool,
    /// How far the candidate has come from the first baseline of the line.
    pub drift: Option<&'a RunComparison>,
    /// The command line that does the same again.
    pub command: &'a str,
    /// The version of this program.
    pub version: &'a str,
}

/// Where a gate stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatePlace {
    /// The experiment file, as the user named it.
    pub file: String,
    /// The line of `[[gates]]` in it, from 1.
    pub line: usize,
}

impl GatePlace {
    /// `file.toml:12`, on one line.
    pub fn text(&self) -> String {
        format!("{}:{}", line(&self.file), self.line)
    }
}

/// A gate that the candidate's file and the base's do not share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditedGate {
    /// Where it stands.
    pub place: GatePlace,
    /// Whether it is the base's, which decides; the candidate's does not judge itself.
    pub decides: bool,
}

impl EditedGate {
    /// What became of it, as half a sentence.
    pub fn sentence(&self) -> String {
        let place = self.place.text();
        if self.decides {
            format!("the base's gate at {place} was edited or removed; it still decides")
        } else {
            format!("the gate at {place} is not the base's; the base's gates decide")
        }
    }
}

/// A check that came to no verdict at all: nothing was compared.
#[derive(Debug, Clone, Copy)]
pub struct Unjudged<'a> {
    /// The experiment file, as the user named it.
    pub file: &'a str,
    /// How it ended: `refused`, `incomplete` or `interrupted`.
    pub state: &'static str,
    /// Why.
    pub why: &'a str,
    /// What to do about it.
    pub hint: Option<&'a str>,
    /// The command line that does the same again.
    pub command: &'a str,
    /// The version of this program.
    pub version: &'a str,
}

/// A check with the examples that changed.
#[derive(Debug, Clone, Copy)]
pub struct CheckedGate<'a> {
    /// The check and its place.
    pub line: CheckLine<'a>,
    /// The line of the same gate in the candidate's own file; `None` if it has no such gate.
    pub own_line: Option<usize>,
    /// What the flips are against: the check's reference, or the base for `min` and `max`.
    pub against: &'a str,
    /// What changed, the largest change first.
    pub flips: &'a [Flip],
    /// How the values of flips by the check's metric of single examples are printed.
    pub flip_unit: Unit,
}

impl Checked<'_> {
    /// What all of it amounts to.
    pub fn outcome(&self) -> Outcome {
        let all = self.checks.iter().map(|it| it.line.check.outcome());
        let run = if self.is_incomplete {
            Outcome::Incomplete
        } else {
            Outcome::Passed
        };
        all.fold(run, Outcome::max)
    }

    /// `4 checks: 2 passed, 1 failed, 1 inconclusive`.
    pub(super) fn counts(&self) -> String {
        let states = [
            State::Passed,
            State::Failed,
            State::Inconclusive,
            State::Unscored,
        ];
        let of = |state: State| {
            let all = self.checks.iter();
            let n = all.filter(|it| it.line.check.state == state).count();
            (0 < n).then(|| format!("{} {}", number::count(n as u64), state.name()))
        };
        let counts: Vec<String> = states.into_iter().filter_map(of).collect();
        let all = number::counted(self.checks.len(), "check");
        if counts.is_empty() {
            return all;
        }
        format!("{all}: {}", counts.join(", "))
    }
}

impl CheckedGate<'_> {
    /// The metric of single examples that the flips are told by.
    pub(super) fn flip_metric(&self) -> &str {
        per_case(&self.line.check.label.metric)
    }

    /// The examples that got worse by that metric, the largest change first.
    pub(super) fn broken(&self) -> Vec<&Flip> {
        broken(self.flips, self.flip_metric())
    }

    /// `acc · few vs baseline main`, on one line.
    pub(super) fn name(&self) -> String {
        let label = &self.line.check.label;
        let against = label.reference.as_ref();
        let against = against.map_or(String::new(), |it| format!(" vs {}", line(it)));
        format!(
            "{} · {}{against}",
            line(&label.metric),
            line(&label.variant)
        )
    }

    /// Where the gate stands: `file.toml:12`, on one line.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", line(self.line.file), self.line.line)
    }
}

/// Every check as the terminal shows it: [`checks::text`], and what each failed one lost.
pub fn text(all: &[CheckedGate<'_>], style: Style) -> String {
    let one = |it: &CheckedGate<'_>| {
        let lost = lost(it).into_iter();
        let lost = lost.map(|of| wrapped(&format!("    {of}"), style) + "\n");
        checks::text(&[it.line], style) + &lost.collect::<String>()
    };
    all.iter().map(one).collect()
}

/// `broke 2: r-007, r-064` where a check failed; names the metric where it is another one.
fn lost(it: &CheckedGate<'_>) -> Vec<String> {
    if it.line.check.state != State::Failed {
        return Vec::new();
    }
    let broken: Vec<Flip> = it.broken().into_iter().cloned().collect();
    let lists = lists(&broken, it.flip_unit, MAX_LISTED).into_iter();
    let metric = it.flip_metric();
    if metric == it.line.check.label.metric {
        return lists.collect();
    }
    let by = format!(" by {}:", line(metric));
    lists.map(|of| of.replacen(':', &by, 1)).collect()
}

/// Those of `flips` that got worse by `metric`, in the same order.
pub(super) fn broken<'a>(flips: &'a [Flip], metric: &str) -> Vec<&'a Flip> {
    let is_worse = |it: &&Flip| matches!(it.kind, FlipKind::Broke | FlipKind::Worsened);
    let of_metric = flips.iter().filter(|it| &*it.metric == metric);
    of_metric.filter(is_worse).collect()
}

/// `100.0 → 0.0`; all digits where rounding would hide the change.
pub(super) fn change(flip: &Flip, unit: Unit) -> String {
    let [before, after] = [flip.before, flip.after].map(|it| number::value(unit, it));
    if before == after {
        let scale = if unit == Unit::Percent { 100.0 } else { 1.0 };
        return format!("{} → {}", scale * flip.before, scale * flip.after);
    }
    format!("{before} → {after}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::checked_fixture::{Fixture, flip};

    #[test]
    fn rounding_never_hides_a_change() {
        let with = |before, after| Flip {
            before,
            after,
            ..flip("r-1", FlipKind::Worsened)
        };
        assert_eq!(change(&with(1.0, 0.0), Unit::Percent), "100.0 → 0.0");
        assert_eq!(change(&with(1.75, 1.5), Unit::Plain), "1.750 → 1.500");
        assert_eq!(change(&with(1.0, 1.000_1), Unit::Plain), "1 → 1.0001");
        assert_eq!(change(&with(0.5, 0.500_25), Unit::Percent), "50 → 50.025");
    }

    /// No single example has a loglikelihood per byte, but each has a loglikelihood.
    #[test]
    fn a_metric_of_many_examples_is_told_by_the_one_behind_it() {
        let mut fixture = Fixture::new();
        fixture.checks[1].label.metric = "loglikelihood_per_byte".to_owned();
        for it in &mut fixture.broken {
            it.metric = "loglikelihood".into();
        }
        let ids = fixture.with(|it| {
            let broken = it.checks[1].broken();
            broken
                .iter()
                .map(|of| of.example_id.clone())
                .collect::<Vec<_>>()
        });
        assert_eq!(ids, ["r-007", "r-064"]);
    }

    #[test]
    fn a_failed_check_names_what_it_lost() {
        let mut fixture = Fixture::new();
        let shown = |fixture: &Fixture| {
            let style = Style {
                color: false,
                width: 80,
            };
            fixture.with(|it| text(&it.checks[1..2], style))
        };
        assert!(shown(&fixture).ends_with("\n    broke 2: r-007, r-064\n"));
        fixture.checks[1].label.metric = "loglikelihood_per_byte".to_owned();
        fixture.broken = (0..7)
            .map(|i| Flip {
                metric: "loglikelihood".into(),
                ..flip(&format!("r-{i:03}"), FlipKind::Worsened)
            })
            .collect();
        let said = shown(&fixture);
        assert!(
            said.contains("\n    worsened 7 by loglikelihood: r-000 ("),
            "{said}"
        );
        assert!(said.ends_with(" and 2 more\n"), "{said}");
        assert!(said.lines().all(|it| it.chars().count() <= 80), "{said}");
        fixture.checks[1].state = State::Passed;
        assert!(!shown(&fixture).contains("worsened"));
    }

    #[test]
    fn the_worst_check_and_an_incomplete_run_decide() {
        let of = |fixture: &Fixture| fixture.with(|it| (it.outcome(), it.counts()));
        let mut fixture = Fixture::new();
        let all = "9 checks: 3 passed, 2 failed, 3 inconclusive, 1 unscored";
        assert_eq!(of(&fixture), (Outcome::Incomplete, all.to_owned()));
        fixture.checks.truncate(2);
        let two = "2 checks: 1 passed, 1 failed".to_owned();
        assert_eq!(of(&fixture), (Outcome::Failed, two.clone()));
        fixture.is_incomplete = true;
        assert_eq!(of(&fixture), (Outcome::Incomplete, two));
    }
}
