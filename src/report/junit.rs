//! Checks as JUnit XML, which most CI systems read.
//!
//! A test suite is an experiment on a model, a test case is a check. A check that fails is a
//! `failure` with its reasons, the gate's place and the examples that broke; one without a verdict
//! for lack of scores is an `error`; a warning is `skipped`. Equal checks give equal bytes: there
//! are no times. The elements and attributes are those of the schema `junit-10.xsd` of Jenkins'
//! xUnit plugin.

use std::collections::HashMap;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::gate::{Outcome, State};

use super::Style;
use super::checked::{self, Checked, CheckedGate, INCOMPLETE, MAX_BROKEN};
use super::checks;
use super::escape::line;

/// Nothing that a terminal would need.
const PLAIN: Style = Style {
    color: false,
    width: 100,
};

/// The checks as a document.
pub fn xml(checked: &Checked<'_>) -> String {
    let mut report = Report::new("harness check");
    if checked.is_incomplete {
        report.add_test_suite(incomplete(checked));
    }
    let mut models: Vec<&str> = Vec::new();
    for it in checked.checks {
        let model = it.line.check.label.model.as_str();
        if !models.contains(&model) {
            models.push(model);
        }
    }
    for model in models {
        report.add_test_suite(suite(checked, model));
    }
    let text = report
        .to_string()
        .expect("a string takes everything, and all of it is UTF-8");
    // The schema knows the sum of skipped cases for suites only. The first such attribute is the
    // root's: quotes within a name are escaped.
    text.replacen(&format!(" skipped=\"{}\"", report.skipped), "", 1)
}

fn suite(checked: &Checked<'_>, model: &str) -> TestSuite {
    let experiment = &checked.compared.comparison.candidate.experiment;
    let class = safe(&format!("{}.{}", line(experiment), line(model)));
    let mut suite = new_suite(checked, &class);
    let mut n_of_name: HashMap<String, usize> = HashMap::new();
    let all = checked.checks.iter();
    for it in all.filter(|it| it.line.check.label.model == model) {
        let mut name = safe(&it.name());
        let n = n_of_name.entry(name.clone()).or_default();
        *n += 1;
        if 1 < *n {
            // Two gates on one metric; readers take cases of one name for the same.
            name += &format!(" #{n}");
        }
        suite.add_test_case(case(&name, &class, it));
    }
    suite
}

fn new_suite(checked: &Checked<'_>, name: &str) -> TestSuite {
    let comparison = checked.compared.comparison;
    let mut suite = TestSuite::new(name);
    for (key, value) in [
        ("candidate", &comparison.candidate.run),
        ("reference", &comparison.reference.run),
    ] {
        suite.add_property((key, safe(&line(value)).as_str()));
    }
    suite
}

/// A run without enough scores fails the command, so it must not look green here.
fn incomplete(checked: &Checked<'_>) -> TestSuite {
    let experiment = safe(&line(&checked.compared.comparison.candidate.experiment));
    let mut suite = new_suite(checked, &experiment);
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
    status.set_type("incomplete").set_message(INCOMPLETE);
    let mut case = TestCase::new("run", status);
    case.set_classname(experiment.as_str());
    suite.add_test_case(case);
    suite
}

fn case(name: &str, class: &str, it: &CheckedGate<'_>) -> TestCase {
    let check = it.line.check;
    let sentence = safe(&line(&check.sentence()));
    let body = safe(&body(it));
    let kind = match check.outcome() {
        Outcome::Passed if check.is_warning() => {
            let mut status = TestCaseStatus::skipped();
            status.set_type("inconclusive").set_message(sentence);
            status.set_description(body);
            return with_class(TestCase::new(name, status), class);
        }
        Outcome::Passed => {
            let mut case = TestCase::new(name, TestCaseStatus::success());
            case.set_system_out(body);
            return with_class(case, class);
        }
        Outcome::Incomplete => NonSuccessKind::Error,
        Outcome::Failed | Outcome::Inconclusive => NonSuccessKind::Failure,
    };
    let mut status = TestCaseStatus::non_success(kind);
    status.set_type(check.state.name()).set_message(sentence);
    status.set_description(body);
    with_class(TestCase::new(name, status), class)
}

fn with_class(mut case: TestCase, class: &str) -> TestCase {
    case.set_classname(class);
    case
}

/// What the terminal says of the check, and the examples that broke.
fn body(it: &CheckedGate<'_>) -> String {
    let mut text = checks::text(&[it.line], PLAIN);
    let broken = it.broken();
    if it.line.check.state == State::Passed || broken.is_empty() {
        return text;
    }
    text += &format!("\nworse than {}:\n", line(&it.against));
    for flip in broken.iter().take(MAX_BROKEN) {
        text += &format!(
            "  {}  {}  {}\n",
            flip.kind.as_str(),
            line(&flip.example_id),
            checked::change(flip, it.line.unit)
        );
    }
    if MAX_BROKEN < broken.len() {
        text += &format!("  … and {} more\n", broken.len() - MAX_BROKEN);
    }
    text
}

/// Writes out what no XML 1.0 document may hold and `line` leaves: two noncharacters.
fn safe(text: &str) -> String {
    text.replace('\u{fffe}', "\\u{fffe}")
        .replace('\u{ffff}', "\\u{ffff}")
}
