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
use super::checked::{self, Checked, CheckedGate, INCOMPLETE, MAX_BROKEN, Unjudged};
use super::checks;
use super::escape::line;
use super::reason::sentence;

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
    document(&report)
}

/// That nothing was judged, as an error of the whole: so that CI shows more than a missing file.
pub fn unjudged(of: &Unjudged<'_>) -> String {
    let name = safe(&line(of.file));
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
    let why = safe(&line(of.why));
    let hint = of
        .hint
        .map_or(String::new(), |it| format!("\n{}", line(it)));
    status.set_type(of.state).set_message(why.as_str());
    status.set_description(format!("{why}{}\n", safe(&hint)));
    let mut suite = TestSuite::new(name.as_str());
    suite.add_test_case(with_class(TestCase::new("check", status), &name));
    let mut report = Report::new("harness check");
    report.add_test_suite(suite);
    document(&report)
}

fn document(report: &Report) -> String {
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
    let sentence = safe(&line(&sentence(check, it.line.unit)));
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
    text += &format!(
        "\nworse than {} by {}:\n",
        line(it.against),
        line(it.flip_metric())
    );
    for flip in broken.iter().take(MAX_BROKEN) {
        text += &format!(
            "  {}  {}  {}\n",
            flip.kind.as_str(),
            line(&flip.example_id),
            checked::change(flip, it.flip_unit)
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::compare::FlipKind;
    use crate::report::checked_fixture::{Fixture, PAYLOADS, flip};

    /// An element with its attributes, text and children.
    #[derive(Debug, Default)]
    struct Element {
        name: String,
        attributes: Vec<(String, String)>,
        text: String,
        children: Vec<Element>,
    }

    impl Element {
        fn get(&self, name: &str) -> Option<&str> {
            let found = self.attributes.iter().find(|it| it.0 == name);
            found.map(|it| it.1.as_str())
        }

        fn cases(&self) -> impl Iterator<Item = &Self> {
            self.children.iter().flat_map(|it| it.named("testcase"))
        }

        fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
            self.children.iter().filter(move |it| it.name == name)
        }
    }

    /// A strict reader of the part of XML 1.0 that is written here; panics at anything else.
    fn parse(xml: &str) -> Element {
        assert!(xml.chars().all(is_xml), "a character that XML 1.0 forbids");
        let body = xml.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>");
        let mut rest = body.expect("a declaration");
        let mut open = vec![Element::default()];
        while !rest.is_empty() {
            let Some(tag) = rest.strip_prefix('<') else {
                let end = rest.find('<').unwrap_or(rest.len());
                open.last_mut().unwrap().text += &plain(&rest[..end]);
                rest = &rest[end..];
                continue;
            };
            // No value holds a raw `>`, see `plain`.
            let (tag, after) = tag.split_once('>').expect("an end of the tag");
            rest = after;
            if let Some(name) = tag.strip_prefix('/') {
                let done = open.pop().unwrap();
                assert_eq!(done.name, name);
                open.last_mut().expect("a parent").children.push(done);
                continue;
            }
            let (tag, is_empty) = tag.strip_suffix('/').map_or((tag, false), |it| (it, true));
            let element = start_tag(tag);
            if is_empty {
                open.last_mut().unwrap().children.push(element);
            } else {
                open.push(element);
            }
        }
        assert_eq!(open.len(), 1, "every element is closed");
        let mut root = open.pop().unwrap().children;
        assert_eq!(root.len(), 1);
        root.remove(0)
    }

    fn start_tag(tag: &str) -> Element {
        let (name, mut rest) = tag.split_once(' ').unwrap_or((tag, ""));
        assert!(
            name.bytes().all(|it| it.is_ascii_lowercase() || it == b'-'),
            "{name}"
        );
        let mut attributes = Vec::new();
        while !rest.is_empty() {
            let (key, after) = rest.split_once("=\"").expect("an attribute");
            let (value, after) = after.split_once('"').expect("an end of the value");
            assert!(attributes.iter().all(|it: &(String, String)| it.0 != key));
            attributes.push((key.to_owned(), plain(value)));
            rest = after.strip_prefix(' ').unwrap_or(after);
        }
        Element {
            name: name.to_owned(),
            attributes,
            ..Element::default()
        }
    }

    /// The text that stands for itself, with its character references resolved.
    fn plain(raw: &str) -> String {
        assert!(!raw.contains(['<', '>']), "{raw}");
        let mut text = String::new();
        let mut rest = raw;
        while let Some((before, after)) = rest.split_once('&') {
            let (name, after) = after.split_once(';').expect("a whole reference");
            text += before;
            text.push(match name {
                "lt" => '<',
                "gt" => '>',
                "amp" => '&',
                "quot" => '"',
                "apos" => '\'',
                "#10" | "#xA" => '\n',
                other => panic!("the reference `{other}`"),
            });
            rest = after;
        }
        text + rest
    }

    /// `Char` of XML 1.0, section 2.2.
    fn is_xml(it: char) -> bool {
        matches!(it, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
    }

    /// An element's name, its attributes, those it must have, and its children.
    type Known = (
        &'static str,
        &'static [&'static str],
        &'static [&'static str],
        &'static [&'static str],
    );

    fn visit(element: &Element, table: &[Known]) {
        if element.name == "system-out" {
            assert!(element.attributes.is_empty() && element.children.is_empty());
            return;
        }
        let row = table.iter().find(|it| it.0 == element.name);
        let (_, known, demanded, children) = row.unwrap_or_else(|| panic!("{element:?}"));
        for (name, _) in &element.attributes {
            assert!(known.contains(&name.as_str()), "{}.{name}", element.name);
        }
        assert!(
            demanded.iter().all(|it| element.get(it).is_some()),
            "{element:?}"
        );
        for child in &element.children {
            assert!(children.contains(&child.name.as_str()), "{element:?}");
            visit(child, table);
        }
    }

    /// Elements and attributes that `junit-10.xsd` of Jenkins' xUnit plugin knows, with those it
    /// demands, and whether the sums are right.
    fn assert_valid(root: &Element) {
        let table: [Known; 8] = [
            (
                "testsuites",
                &["name", "tests", "failures", "errors"],
                &[],
                &["testsuite"],
            ),
            (
                "testsuite",
                &["name", "tests", "failures", "errors", "skipped"],
                &["name", "tests", "failures", "errors"],
                &["properties", "testcase"],
            ),
            ("properties", &[], &[], &["property"]),
            ("property", &["name", "value"], &["name", "value"], &[]),
            (
                "testcase",
                &["name", "classname"],
                &["name", "classname"],
                &["skipped", "error", "failure", "system-out"],
            ),
            ("failure", &["type", "message"], &["type", "message"], &[]),
            ("error", &["type", "message"], &["type", "message"], &[]),
            ("skipped", &["type", "message"], &["type", "message"], &[]),
        ];
        visit(root, &table);
        let n = |of: &Element, name| of.get(name).unwrap().parse::<usize>().unwrap();
        let holding = |suite: &Element, name: &str| {
            let cases = suite.named("testcase");
            cases.filter(|it| it.named(name).next().is_some()).count()
        };
        let mut sums = [0; 3];
        for suite in &root.children {
            let counts = [
                suite.named("testcase").count(),
                holding(suite, "failure"),
                holding(suite, "error"),
            ];
            assert_eq!(
                counts,
                ["tests", "failures", "errors"].map(|it| n(suite, it))
            );
            assert_eq!(holding(suite, "skipped"), n(suite, "skipped"));
            sums = std::array::from_fn(|i| sums[i] + counts[i]);
        }
        assert_eq!(sums, ["tests", "failures", "errors"].map(|it| n(root, it)));
        let names: HashSet<_> = root
            .cases()
            .map(|it| (it.get("classname"), it.get("name")))
            .collect();
        assert_eq!(names.len(), root.cases().count(), "names tell cases apart");
    }

    #[test]
    fn every_kind_of_check_has_its_element() {
        let text = Fixture::new().with(xml);
        assert_valid(&parse(&text));
        insta::assert_snapshot!(text);
    }

    #[test]
    fn equal_checks_give_equal_bytes() {
        assert_eq!(Fixture::new().with(xml), Fixture::new().with(xml));
    }

    #[test]
    fn a_run_without_enough_scores_is_not_green() {
        let mut fixture = Fixture::new();
        fixture.checks.truncate(1);
        fixture.is_incomplete = true;
        let root = parse(&fixture.with(xml));
        assert_valid(&root);
        assert_eq!(
            (root.get("tests"), root.get("errors")),
            (Some("2"), Some("1"))
        );
    }

    #[test]
    fn a_check_without_a_verdict_is_an_error() {
        for payload in PAYLOADS {
            let root = parse(&unjudged(&crate::report::checked_fixture::unjudged(
                payload,
            )));
            assert_valid(&root);
            assert_eq!(root.get("errors"), Some("1"));
            let case = root.cases().next().unwrap();
            let error = &case.children[0];
            let shown = safe(&line(payload));
            assert_eq!(error.get("message"), Some(&*shown));
            assert_eq!(error.get("type"), Some("refused"));
            assert_eq!(error.text, format!("{shown}\n{shown}\n"));
        }
    }

    #[test]
    fn every_model_is_a_suite() {
        let mut fixture = Fixture::new();
        fixture.checks[1].label.model = "large".to_owned();
        let root = parse(&fixture.with(xml));
        assert_valid(&root);
        let suites = root.children.iter().map(|it| it.get("name").unwrap());
        assert_eq!(
            suites.collect::<Vec<_>>(),
            ["translate.smol", "translate.large"]
        );
    }

    #[test]
    fn at_most_twenty_examples_are_named() {
        let mut fixture = Fixture::new();
        fixture.broken = (0..50)
            .map(|i| flip(&format!("r-{i:03}"), FlipKind::Broke))
            .collect();
        let text = fixture.with(xml);
        assert!(text.contains("r-019") && !text.contains("r-020"), "{text}");
        assert!(text.contains("… and 30 more"));
    }

    /// Whatever stands in a name is read back as the terminal shows it.
    fn assert_round_trip(payload: &str) {
        let root = parse(&Fixture::of_text(payload).with(xml));
        assert_valid(&root);
        let shown = safe(&line(payload));
        let case = root.cases().next().unwrap();
        assert_eq!(
            case.get("name"),
            Some(&*format!("{shown} · few vs {shown}"))
        );
        assert_eq!(case.get("classname"), Some(&*format!("{shown}.{shown}")));
        let failure = &case.children[0];
        assert!(
            failure
                .text
                .contains(&format!("  worsened  {shown}  100.0 → 0.0\n")),
            "{failure:?}"
        );
    }

    #[test]
    fn no_text_ends_an_element() {
        for payload in PAYLOADS {
            assert_round_trip(payload);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_back(text in any::<String>()) {
            assert_round_trip(&text);
        }
    }
}
