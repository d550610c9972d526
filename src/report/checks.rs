//! Checks of gates as lines: what was held against what, and the bound that decided.

use serde_json::{Value, json};

use crate::gate::{Check, Forecast, Limit, Need, Outcome, Reason, State};
use crate::metric::Unit;

use super::Style;
use super::escape::{columns, line};
use super::number::{about, amount, counted, difference_unit, side_by_side};
use super::reason::reasons;
use super::wrap::wrap;

/// A check with where its gate stands.
#[derive(Debug, Clone, Copy)]
pub struct CheckLine<'a> {
    /// The experiment file, as the user named it.
    pub file: &'a str,
    /// The line of `[[gates]]` in it, from 1.
    pub line: usize,
    /// The check.
    pub check: &'a Check,
    /// How the metric's values are printed.
    pub unit: Unit,
}

/// What a check is called where it stands in a list.
pub fn word(state: State) -> &'static str {
    match state {
        State::Passed => "passed",
        State::Failed => "FAILED",
        State::Inconclusive => "inconclusive",
        State::Unscored => "unscored",
    }
}

/// What is judged, such as `acc of smol · few vs baseline main`.
pub fn subject(check: &Check) -> String {
    let label = &check.label;
    let against = label.reference.as_ref();
    let against = against.map_or(String::new(), |it| format!(" vs {}", line(it)));
    format!(
        "{} of {} · {}{against}",
        line(&label.metric),
        line(&label.model),
        line(&label.variant)
    )
}

/// Each check on lines of its own: state, what was judged and the gate's place, then the deciding
/// bound and what else is to know.
pub fn text(checks: &[CheckLine<'_>], style: Style) -> String {
    checks.iter().map(|it| one(it, style)).collect()
}

fn one(it: &CheckLine<'_>, style: Style) -> String {
    let state = word(it.check.state);
    let (subject, place) = (
        subject(it.check),
        format!("[{}:{}]", line(it.file), it.line),
    );
    let is_room = columns(&format!("{state}  {subject}  {place}")) <= style.width;
    let space = if is_room { "  " } else { "\n    " };
    let state = if style.color {
        format!("\u{1b}[{}m{state}\u{1b}[0m", color(it.check.state))
    } else {
        state.to_owned()
    };
    let mut text = format!("{state}  {subject}{space}{place}\n");
    for sentence in details(it) {
        let sentence = wrap(&line(&sentence), style.width.saturating_sub(4), "    ");
        text += &format!("    {sentence}\n");
    }
    text
}

/// The reasons, and what they ask for: half a sentence each.
pub(super) fn details(it: &CheckLine<'_>) -> Vec<String> {
    let mut details = reasons(it.check, it.unit);
    if it.check.reasons.contains(&Reason::Gone) {
        details.push("if it was removed on purpose, name it in the gate's `retired`".to_owned());
    }
    if it.check.state == State::Inconclusive {
        details.extend(it.check.forecast.iter().flat_map(|of| needs(of, it)));
        let word = if it.check.is_warning() {
            "warn"
        } else {
            "pass"
        };
        if it.check.outcome() == Outcome::Passed {
            details.push(format!(
                "the gate says `on_inconclusive = \"{word}\"`: this is no failure"
            ));
        }
    }
    details
}

fn color(state: State) -> u8 {
    match state {
        State::Passed => 32,
        State::Failed => 31,
        State::Inconclusive | State::Unscored => 33,
    }
}

/// What the rule needs, and what the dataset can show.
fn needs(forecast: &Forecast, it: &CheckLine<'_>) -> Vec<String> {
    let units = if it.check.is_clustered {
        "clusters"
    } else {
        "examples"
    };
    let mut sentences = Vec::new();
    match forecast.need {
        Need::Units(n) => sentences.push(format!(
            "a harmless edit passes 4 times in 5 from about {} {units} on; there are {}",
            about(n),
            it.check.n
        )),
        Need::Never => sentences.push(format!(
            "no number of {units} makes a harmless edit pass: nothing is tolerated"
        )),
        Need::Unknown => {}
    }
    if let Some(smallest) = forecast.smallest_difference {
        sentences.push(format!(
            "the smallest difference that these {units} show 4 times in 5 is {}",
            amount(it.unit, smallest)
        ));
    }
    sentences
}

/// What a gate needs, to be told before a run.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The experiment file, as the user named it.
    pub file: &'a str,
    /// The line of `[[gates]]` in it, from 1.
    pub line: usize,
    /// The metric's name.
    pub metric: &'a str,
    /// How the metric's values are printed.
    pub unit: Unit,
    /// The tolerated drop.
    pub max_drop: f64,
    /// The variants this holds for; empty for all that the gate covers.
    pub variants: &'a [String],
    /// What is needed.
    pub forecast: Forecast,
    /// Units there are.
    pub n_units: usize,
    /// Whether units are clusters of examples.
    pub is_clustered: bool,
}

/// One line: how many units a harmless edit needs to pass, and whether there are so many.
pub fn forecast_line(it: &Expected<'_>) -> String {
    let noun = if it.is_clustered {
        "cluster"
    } else {
        "example"
    };
    let (max_drop, _) = side_by_side(it.unit, it.max_drop, it.max_drop);
    let unit_name = difference_unit(it.unit);
    let space = if unit_name.is_empty() { "" } else { " " };
    let mut text = format!(
        "gate {}:{} {}, max_drop {max_drop}{space}{unit_name}",
        line(it.file),
        it.line,
        line(it.metric)
    );
    if !it.variants.is_empty() {
        let names: Vec<String> = it.variants.iter().map(|of| line(of)).collect();
        text += &format!(" ({})", names.join(", "));
    }
    let there_are = counted(it.n_units, noun);
    let assumed = if it.forecast.is_assumed {
        " (if 1 in 10 answers changes)"
    } else {
        ""
    };
    text += &match it.forecast.need {
        Need::Units(n) => {
            let outcome = if n <= it.n_units as u64 {
                "which is enough"
            } else {
                "so it will mostly be inconclusive"
            };
            format!(
                ": needs about {} {noun}s for a harmless edit to pass 4 times in 5{assumed}; there \
                 are {there_are}, {outcome}",
                about(n),
            )
        }
        // A bounded metric has no floor then: no number of units can show that nothing was lost.
        Need::Never if it.forecast.floor.is_none() => {
            ": nothing is tolerated, so only unchanged prompts pass".to_owned()
        }
        Need::Never => {
            ": nothing is tolerated, so only unchanged prompts and shown gains pass".to_owned()
        }
        Need::Unknown => {
            format!(": how many {noun}s it needs can be told once a second baseline is saved")
        }
    };
    let is_planned = matches!(it.forecast.need, Need::Units(_));
    if let (Some(smallest), true) = (it.forecast.smallest_difference, is_planned) {
        let smallest = amount(it.unit, smallest);
        text += &format!(" (the smallest difference they show 4 times in 5 is {smallest})");
    }
    text
}

/// The checks as JSON values.
pub fn json(checks: &[CheckLine<'_>]) -> Vec<Value> {
    let one = |it: &CheckLine<'_>| {
        let check = it.check;
        let limit = match check.rule.limit {
            Limit::MaxDrop(max_drop) => json!({"max_drop": max_drop}),
            Limit::Min { value, .. } => json!({"min": value}),
            Limit::Max { value, .. } => json!({"max": value}),
        };
        let needed = check.forecast.and_then(|it| match it.need {
            Need::Units(n) => Some(n),
            Need::Never | Need::Unknown => None,
        });
        json!({
            "file": it.file,
            "line": it.line,
            "metric": check.label.metric,
            "model": check.label.model,
            "variant": check.label.variant,
            "reference": check.label.reference,
            "limit": limit,
            "confidence": check.rule.confidence,
            "state": check.state.name(),
            "is_warning": check.is_warning(),
            "fails": check.outcome() != Outcome::Passed,
            "reasons": reasons(check, it.unit),
            "value": check.value,
            "lower": check.lower,
            "upper": check.upper,
            "p_adjusted": check.p_adjusted,
            "n_units": check.n,
            "floor": check.floor,
            "n_needed": needed,
            "n_unscored": check.unscored.examples,
        })
    };
    checks.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::OnInconclusive;
    use crate::gate::{
        Label, Observation, Pair, Rule, Seen, Unscored, decide_all, forecast, judge,
    };
    use crate::stats::{Direction, Interval, Sample};

    const STYLE: Style = Style {
        color: false,
        width: 80,
    };

    /// Accuracy over `n` pairs of which only the reference has `lost`.
    fn accuracy(lost: usize, n: usize) -> Seen {
        let side = |first_wrong: usize| {
            let outcomes: Vec<bool> = (0..n).map(|k| k < first_wrong).collect();
            Sample::proportion(&outcomes).unwrap()
        };
        Seen::Paired {
            pair: Pair {
                candidate: side(n - lost),
                reference: side(n),
            },
            filled: None,
        }
    }

    fn check(seen: Seen, on_inconclusive: OnInconclusive, n_unscored: usize) -> Check {
        let label = Label {
            gate_index: 0,
            metric: "acc".to_owned(),
            model: "smol".to_owned(),
            variant: "few".to_owned(),
            reference: Some("baseline main".to_owned()),
        };
        let rule = Rule {
            limit: Limit::MaxDrop(0.05),
            confidence: 0.95,
            on_inconclusive,
            max_failed: 0,
        };
        let observation = Observation {
            seen,
            direction: Direction::HigherIsBetter,
            n_planned: 100,
            unscored: Unscored {
                candidate: n_unscored,
                reference: 0,
                examples: n_unscored,
            },
            units: (0..100).map(|k| format!("r{k:03}")).collect(),
            is_clustered: false,
        };
        decide_all(vec![judge(label, &rule, &observation)]).remove(0)
    }

    fn checks() -> Vec<Check> {
        let fail = OnInconclusive::Fail;
        vec![
            check(Seen::Identical { n: 3 }, fail, 0),
            check(accuracy(20, 100), fail, 0),
            check(accuracy(3, 100), fail, 0),
            check(accuracy(3, 100), OnInconclusive::Warn, 0),
            check(accuracy(3, 100), OnInconclusive::Pass, 0),
            check(accuracy(0, 100), fail, 2),
            check(Seen::Gone, fail, 0),
        ]
    }

    fn lines(checks: &[Check]) -> Vec<CheckLine<'_>> {
        let line = |check| CheckLine {
            file: "experiments/x.toml",
            line: 41,
            check,
            unit: Unit::Percent,
        };
        checks.iter().map(line).collect()
    }

    #[test]
    fn a_check_says_what_was_judged_where_and_why() {
        insta::assert_snapshot!(text(&lines(&checks()), STYLE));
    }

    #[test]
    fn color_says_nothing_that_words_do_not() {
        let checks = checks();
        let style = Style {
            color: true,
            ..STYLE
        };
        let colored = text(&lines(&checks), style);
        let mut plain = colored.clone();
        for code in ["31", "32", "33", "0"] {
            plain = plain.replace(&format!("\u{1b}[{code}m"), "");
        }
        assert_ne!(colored, plain);
        assert_eq!(plain, text(&lines(&checks), STYLE));
    }

    #[test]
    fn json_carries_state_reasons_and_numbers() {
        let checks = checks();
        let json = json(&lines(&checks));
        let fails: Vec<bool> = json.iter().map(|it| it["fails"] == true).collect();
        assert_eq!(fails, [false, true, true, false, false, true, true]);
        assert_eq!(json[1]["state"], "failed");
        assert_eq!(json[1]["value"], -0.2);
        assert_eq!(json[1]["limit"]["max_drop"], 0.05);
        assert_eq!(json[3]["is_warning"], true);
        assert_eq!(json[5]["n_unscored"], 2);
    }

    #[test]
    fn a_forecast_says_how_many_examples_a_gate_needs() {
        let rule = |max_drop| Rule {
            limit: Limit::MaxDrop(max_drop),
            confidence: 0.95,
            on_inconclusive: OnInconclusive::Fail,
            max_failed: 0,
        };
        let line = |max_drop, range, variants: &[String]| {
            let outlook = crate::gate::Outlook {
                range,
                is_mean: true,
                is_proportion: range.is_some(),
                spread: None,
                n_units: 160,
            };
            forecast_line(&Expected {
                file: "experiments/x.toml",
                line: 41,
                metric: "acc",
                unit: Unit::Percent,
                max_drop,
                variants,
                forecast: forecast(&rule(max_drop), &outlook),
                n_units: 160,
                is_clustered: false,
            })
        };
        let unit = Some(Interval::UNIT);
        let got = [
            // (1.6449 + 0.842)^2 * 0.1 / 0.02^2 = 1,546; / 0.1^2 = 62; 2.8 * sqrt(0.1 / 160) = 0.07
            line(0.02, unit, &[]),
            line(0.1, unit, &["few".to_owned(), "bare".to_owned()]),
            line(0.0, unit, &[]),
            line(0.02, None, &[]),
        ];
        insta::assert_snapshot!(got.join("\n"));
    }
}
