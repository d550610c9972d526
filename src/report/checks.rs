//! Checks of gates as lines: what was held against what, and the bound that decided.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::gate::{Check, Forecast, Limit, Need, Outcome, Reason, State};
use crate::metric::Unit;

use super::Style;
use super::escape::line;
use super::number::{about, amount, counted};

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

/// One check on lines of their own: place, state and deciding bound, then what else is to know.
pub fn text(checks: &[CheckLine<'_>], style: Style) -> String {
    let mut text = String::new();
    for it in checks {
        let state = word(it.check.state);
        let state = if style.color {
            format!("\u{1b}[{}m{state}\u{1b}[0m", color(it.check.state))
        } else {
            state.to_owned()
        };
        writeln!(
            text,
            "{state}  {}  [{}:{}]",
            subject(it.check),
            line(it.file),
            it.line
        )
        .expect("a string takes everything");
        for reason in &it.check.reasons {
            writeln!(text, "    {}", line(&reason.to_string())).expect("a string takes everything");
            if *reason == Reason::Gone {
                text.push_str(
                    "    if it was removed on purpose, name it in the gate's `retired`\n",
                );
            }
        }
        if it.check.state == State::Inconclusive {
            for sentence in it.check.forecast.iter().flat_map(|of| needs(of, it)) {
                writeln!(text, "    {sentence}").expect("a string takes everything");
            }
            if it.check.is_warning() {
                text.push_str(
                    "    the gate says `on_inconclusive = \"warn\"`: this is no failure\n",
                );
            }
        }
    }
    text
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
    let mut sentences = Vec::new();
    match forecast.need {
        Need::Units(n) => sentences.push(format!(
            "a harmless edit passes 4 times in 5 from about {} examples on; there are {}",
            about(n),
            it.check.n
        )),
        Need::Never => {
            sentences.push("no number of examples passes it: nothing is tolerated".to_owned());
        }
        Need::Unknown => {}
    }
    if let Some(smallest) = forecast.smallest_difference {
        sentences.push(format!(
            "this dataset shows a difference of {} 4 times in 5",
            amount(it.unit, smallest)
        ));
    }
    sentences
}

/// Whether a harmless edit would mostly not pass, which is worth a warning before the run.
pub fn forecast_line(
    place: &str,
    subject: &str,
    forecast: &Forecast,
    n_units: usize,
    unit: Unit,
) -> String {
    let need = match forecast.need {
        Need::Units(n) if n <= n_units as u64 => {
            format!("{} of {} needed", about(n), counted(n_units, "example"))
        }
        Need::Units(n) => format!(
            "warning: a harmless edit is mostly inconclusive: about {} examples needed, there are {n_units}",
            about(n)
        ),
        Need::Never => "warning: nothing is tolerated, so only unchanged prompts pass".to_owned(),
        Need::Unknown => "the need cannot be told before a run".to_owned(),
    };
    let assumed = if forecast.is_assumed && matches!(forecast.need, Need::Units(_)) {
        ", if 1 in 10 answers changes"
    } else {
        ""
    };
    let smallest = forecast.smallest_difference.map_or(String::new(), |it| {
        format!("; differences from {} on can be shown", amount(unit, it))
    });
    format!("gate {place}: {subject}: {need}{assumed}{smallest}")
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
            "reasons": check.reasons.iter().map(ToString::to_string).collect::<Vec<_>>(),
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
