//! Checks as workflow commands of GitHub Actions: annotations at the lines of gates.
//!
//! The runner reads a command from a line `::error file=…,line=…,title=…::message`. GitHub shows
//! ten annotations of a step, so there are never more, the failures first. Values are escaped as
//! `actions/toolkit` does, after everything that a terminal must not see is written out: no text
//! from data can start a command of its own.

use crate::gate::{Check, Outcome};

use super::checked::{Checked, CheckedGate, INCOMPLETE, Unjudged};
use super::checks::{details, subject, word};
use super::escape::{head, line};

/// Annotations that GitHub shows of one step.
const MAX_ANNOTATIONS: usize = 10;

/// Columns of a title; the API behind annotations takes 255 characters.
const TITLE_WIDTH: usize = 200;

/// Columns of one reason.
const REASON_WIDTH: usize = 500;

/// How loud an annotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Error,
    Warning,
}

/// One line per check that fails or warns, failures first, at most ten.
///
/// `file` is the path of the candidate's experiment file from the root of the repository. A gate
/// that stands only in the base's file is told at the first line: GitHub attaches nothing to files
/// outside of the checkout.
pub fn annotations(checked: &Checked<'_>, file: &str) -> String {
    let mut lines = Vec::new();
    if checked.is_incomplete {
        lines.push(format!("::error title=incomplete::{}", data(INCOMPLETE)));
    }
    let mut told: Vec<(Level, &CheckedGate<'_>)> = checked
        .checks
        .iter()
        .filter_map(|it| Some((level(it.line.check)?, it)))
        .collect();
    // Stable: checks stay in the order of their gates.
    told.sort_by_key(|it| it.0);
    let room = MAX_ANNOTATIONS - lines.len();
    let n_shown = if told.len() <= room {
        told.len()
    } else {
        room - 1
    };
    lines.extend(
        told[..n_shown]
            .iter()
            .map(|(level, it)| annotation(*level, it, file)),
    );
    if let Some((level, _)) = told.get(n_shown) {
        lines.push(format!(
            "::{} file={},title=harness check::{}",
            name(*level),
            property(file),
            data(&format!(
                "{} more checks failed or warn; the log lists all",
                told.len() - n_shown
            ))
        ));
    }
    lines.into_iter().map(|it| it + "\n").collect()
}

/// One error: nothing was judged, and why. `file` is as in [`annotations`].
pub fn unjudged(of: &Unjudged<'_>, file: &str) -> String {
    let lines: Vec<String> = std::iter::once(of.why)
        .chain(of.hint)
        .map(|it| head(it, REASON_WIDTH))
        .collect();
    format!(
        "::error file={},title=harness check%3A {}::{}\n",
        property(file),
        of.state,
        data(&lines.join("\n"))
    )
}

fn level(check: &Check) -> Option<Level> {
    match check.outcome() {
        Outcome::Passed if check.is_warning() => Some(Level::Warning),
        Outcome::Passed => None,
        Outcome::Inconclusive | Outcome::Failed | Outcome::Incomplete => Some(Level::Error),
    }
}

fn name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warning => "warning",
    }
}

fn annotation(level: Level, it: &CheckedGate<'_>, file: &str) -> String {
    let check = it.line.check;
    let title = format!("{}: {}", word(check.state), subject(check));
    let mut details = details(&it.line);
    if it.own_line.is_none() {
        details.push(format!("the gate stands at {} only", it.place()));
    }
    let details: Vec<String> = details.iter().map(|it| head(it, REASON_WIDTH)).collect();
    format!(
        "::{} file={},line={},title={}::{}",
        name(level),
        property(file),
        it.own_line.unwrap_or(1),
        property(&head(&title, TITLE_WIDTH)),
        data(&details.join("\n"))
    )
}

/// A message: `%`, carriage returns and line feeds are written as bytes in hexadecimal.
fn data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// A property: also `:` and `,`, which end one.
fn property(text: &str) -> String {
    data(&line(text)).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::report::checked_fixture::{Fixture, PAYLOADS, failed};

    const FILE: &str = "prompts/sentiment.toml";

    #[test]
    fn what_fails_or_warns_is_annotated() {
        insta::assert_snapshot!(Fixture::new().with(|it| annotations(it, FILE)));
    }

    /// GitHub attaches nothing to a file of another checkout.
    #[test]
    fn a_gate_that_only_the_base_has_is_told_at_the_first_line() {
        let mut fixture = Fixture::new();
        fixture.file = "../base/sentiment.toml".to_owned();
        fixture.checks = vec![failed("few")];
        for (own_line, line, place) in [
            (Some(27), 27, ""),
            (
                None,
                1,
                "%0Athe gate stands at ../base/sentiment.toml:21 only",
            ),
        ] {
            fixture.own_line = own_line;
            let all = fixture.with(|it| annotations(it, FILE));
            let start = format!("::error file={FILE},line={line},title=FAILED");
            assert!(all.starts_with(&start), "{all}");
            assert!(all.ends_with(&format!("9 checks){place}\n")), "{all}");
        }
    }

    #[test]
    fn a_check_without_a_verdict_is_one_error() {
        for payload in PAYLOADS {
            let text = unjudged(&crate::report::checked_fixture::unjudged(payload), FILE);
            assert_eq!(text.matches(['\n', '\r']).count(), 1, "{text:?}");
            let (name, properties, message) = read(text.trim_end_matches('\n'));
            let title = "harness check: refused".to_owned();
            assert_eq!((name.as_str(), &properties[1].1), ("error", &title));
            let shown = head(payload, REASON_WIDTH);
            assert_eq!(message, format!("{shown}\n{shown}"));
        }
    }

    #[test]
    fn there_are_never_more_than_github_shows() {
        for n in 0..30 {
            let mut fixture = Fixture::new();
            fixture.checks = (0..n).map(|i| failed(&format!("v{i}"))).collect();
            let all = fixture.with(|it| annotations(it, FILE));
            assert_eq!(all.lines().count(), n.min(10), "{all}");
            assert_eq!(all.contains("more checks"), 10 < n);
            fixture.is_incomplete = true;
            let all = fixture.with(|it| annotations(it, FILE));
            assert_eq!(all.lines().count(), (n + 1).min(10), "{all}");
        }
        let mut fixture = Fixture::new();
        fixture.checks = (0..13).map(|i| failed(&format!("v{i}"))).collect();
        let all = fixture.with(|it| annotations(it, FILE));
        assert!(all.contains("4 more checks"), "9 of 13 are shown: {all}");
    }

    /// Reads a command as the runner does: properties up to the next `::`, then the message.
    fn read(command: &str) -> (String, Vec<(String, String)>, String) {
        let rest = command.strip_prefix("::").unwrap();
        let (head, message) = rest.split_once("::").unwrap();
        let (name, properties) = head.split_once(' ').unwrap();
        let property = |it: &str| {
            let (key, value) = it.split_once('=').unwrap();
            let value = value.replace("%3A", ":").replace("%2C", ",");
            (key.to_owned(), decoded(&value))
        };
        let properties = properties.split(',').map(property).collect();
        (name.to_owned(), properties, decoded(message))
    }

    fn decoded(text: &str) -> String {
        text.replace("%0D", "\r")
            .replace("%0A", "\n")
            .replace("%25", "%")
    }

    fn assert_one_command(payload: &str) {
        let all = Fixture::of_text(payload).with(|it| annotations(it, payload));
        assert_eq!(all.matches(['\n', '\r']).count(), 1, "{all:?}");
        let (name, properties, message) = read(all.trim_end_matches('\n'));
        let keys: Vec<&str> = properties.iter().map(|it| it.0.as_str()).collect();
        assert_eq!(
            (name.as_str(), keys),
            ("error", vec!["file", "line", "title"])
        );
        assert_eq!(properties[0].1, line(payload));
        assert_eq!(properties[1].1, "21");
        let reason = head(&format!("not comparable: {payload}"), REASON_WIDTH);
        assert_eq!(message.split_once('\n').unwrap().1, reason);
    }

    #[test]
    fn no_text_starts_a_command() {
        for payload in PAYLOADS {
            assert_one_command(payload);
        }
        // Texts come without them; whatever comes is escaped.
        assert_eq!(data("a%\r\n:,"), "a%25%0D%0A:,");
        assert_eq!(property(":,"), "%3A%2C");
    }

    proptest! {
        #[test]
        fn any_text_is_one_command(text in any::<String>()) {
            assert_one_command(&text);
        }
    }
}
