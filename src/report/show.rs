//! A look at single cases of a stored run: what failed, what was sent, one example.

use std::collections::HashMap;
use std::fmt::Write;

use crate::metric::Unit;
use crate::score::Status;
use crate::stats::Direction;
use crate::table::{MetricRecord, StoredCase, StoredChoice, StoredExample, StoredRun};

use super::Style;
use super::escape::{head, line, lines, tail};
use super::number::{self, counted};
use super::wrap::pieces;

/// Width of the names of facts in front of their values.
const LABEL: usize = 12;

/// Narrowest room for a text, whatever the terminal says.
const MIN_TEXT: usize = 20;

/// What marks the end of a text, so that trailing spaces and line ends are seen.
const END: char = '◂';

/// Why there is nothing to show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShowError {
    /// No example has that id.
    #[error("run `{run}` has no example `{}`", line(.id))]
    UnknownExample {
        /// Id of the run.
        run: String,
        /// What was asked for.
        id: String,
        /// The most similar id.
        nearest: Option<String>,
    },
    /// Several ids start like that.
    #[error("`{}` could be any of {} in run `{run}`", line(.id), counted(*.n_examples, "example"))]
    AmbiguousExample {
        /// Id of the run.
        run: String,
        /// What was asked for.
        id: String,
        /// How many examples it fits.
        n_examples: usize,
    },
}

impl ShowError {
    /// What to try, if there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownExample { nearest, .. } => nearest
                .as_ref()
                .map(|it| format!("did you mean `{}`?", line(it))),
            Self::AmbiguousExample { .. } => Some("write more of the id".to_owned()),
        }
    }
}

/// The cases of one variant on one model, in plan order.
struct Group<'a> {
    model: &'a str,
    variant: &'a str,
    cases: &'a [StoredCase],
}

fn groups(run: &StoredRun) -> Vec<Group<'_>> {
    let same = |a: &StoredCase, b: &StoredCase| (&a.model, &a.variant) == (&b.model, &b.variant);
    let chunks = run.cases.chunk_by(same);
    chunks
        .map(|it| Group {
            model: &it[0].model,
            variant: &it[0].variant,
            cases: it,
        })
        .collect()
}

/// The worst cases of every variant, at most `n` each: unscored ones first, then wrong choices,
/// then the lowest scores.
pub fn failures(run: &StoredRun, n: usize, style: Style) -> String {
    let mut text = String::new();
    let (judge, choices) = (Judge::new(run), Choices::new(run));
    for group in groups(run) {
        let (kind, worst) = judge.worst(&group, &choices);
        let (model, variant) = (line(group.model), line(group.variant));
        let n_cases = counted(group.cases.len(), "case");
        let _ = writeln!(text, "{model} · {variant} · {kind} of {n_cases}");
        for case in worst.iter().take(n) {
            fact(&mut text, "example", &line(&case.example_id));
            case_facts(&mut text, &choices, case, style);
            text.push('\n');
        }
        if n < worst.len() {
            let _ = writeln!(text, "  and {} more\n", worst.len() - n);
        } else if worst.is_empty() {
            text.push('\n');
        }
    }
    trimmed(&text)
}

/// The cases that [`failures`] shows, in its order.
pub fn failing_cases(run: &StoredRun, n: usize) -> Vec<&StoredCase> {
    let (judge, choices) = (Judge::new(run), Choices::new(run));
    let worst = groups(run).into_iter();
    let worst = worst.flat_map(|it| judge.worst(&it, &choices).1.into_iter().take(n));
    worst.collect()
}

/// The cases that [`prompts`] shows, in its order.
pub fn first_cases(run: &StoredRun, n: usize) -> Vec<&StoredCase> {
    let first = groups(run).into_iter();
    let first = first.flat_map(|it| it.cases.iter().filter(|it| it.repeat == 0).take(n));
    first.collect()
}

/// The cases of one example, whose id starts with `id`.
///
/// # Errors
///
/// [`ShowError`] if no example, or more than one, is meant.
pub fn example_cases<'a>(run: &'a StoredRun, id: &str) -> Result<Vec<&'a StoredCase>, ShowError> {
    let found = find(run, id)?;
    Ok(run
        .cases
        .iter()
        .filter(|it| it.example_id == found.id)
        .collect())
}

/// The first `n` prompts of every variant as the model meets them, with their end marked.
pub fn prompts(run: &StoredRun, n: usize, style: Style) -> String {
    let mut text = format!("{END} marks the end of a prompt\n\n");
    for group in groups(run) {
        let first = group.cases.iter().filter(|it| it.repeat == 0).take(n);
        for case in first {
            let id = line(&case.example_id);
            let n_tokens = counted(case.n_context_tokens, "token");
            let _ = writeln!(
                text,
                "{} · {} · {id} · {n_tokens}",
                line(group.model),
                line(group.variant)
            );
            block(&mut text, &case.prompt, style);
            if let Some(target) = &case.target {
                fact(&mut text, "target", &head(target, room(style)));
            }
            text.push('\n');
        }
    }
    trimmed(&text)
}

/// Everything about one example, variant below variant; `id` may be the start of an id.
///
/// # Errors
///
/// [`ShowError`] if no example, or more than one, is meant.
pub fn example(run: &StoredRun, id: &str, style: Style) -> Result<String, ShowError> {
    let found = find(run, id)?;
    let choices = Choices::new(run);
    let mut text = format!("example {} · line {}\n", line(&found.id), found.source_line);
    for (name, value) in &found.fields {
        if let Some(value) = value {
            let name = head(name, LABEL);
            fact(&mut text, &name, &head(value, room(style)));
        }
    }
    for case in run.cases.iter().filter(|it| it.example_id == found.id) {
        let repeat = match case.repeat {
            0 => String::new(),
            n => format!(" · repeat {n}"),
        };
        let _ = writeln!(
            text,
            "\n{} · {}{repeat}",
            line(&case.model),
            line(&case.variant)
        );
        case_facts(&mut text, &choices, case, style);
        for choice in choices.of(case) {
            let mark = if choice.is_target {
                "choice ✓"
            } else {
                "choice"
            };
            fact(
                &mut text,
                mark,
                &with_nats(&choice.choice, Some(choice.loglikelihood), style),
            );
        }
        for (name, value) in run.case_metrics.iter().zip(&case.metrics) {
            if let Some(value) = value {
                let unit = unit(run, name);
                let value = number::value(unit, *value);
                fact(
                    &mut text,
                    &head(name, LABEL),
                    &format!("{value} {}", unit.as_str()),
                );
            }
        }
    }
    Ok(trimmed(&text))
}

fn find<'a>(run: &'a StoredRun, id: &str) -> Result<&'a StoredExample, ShowError> {
    if let Some(exact) = run.examples.iter().find(|it| it.id == id) {
        return Ok(exact);
    }
    let fitting = || {
        run.examples
            .iter()
            .filter(|it| !id.is_empty() && it.id.starts_with(id))
    };
    let (run_id, id) = (run.manifest.run.clone(), id.to_owned());
    match (fitting().next(), fitting().count()) {
        (Some(only), 1) => Ok(only),
        (_, 0) => {
            let distance = |it: &&String| strsim::damerau_levenshtein(it, &id);
            let nearest = run.examples.iter().map(|it| &it.id).min_by_key(distance);
            let nearest = nearest.filter(|it| distance(it) <= 3).cloned();
            Err(ShowError::UnknownExample {
                run: run_id,
                id,
                nearest,
            })
        }
        (_, n_examples) => Err(ShowError::AmbiguousExample {
            run: run_id,
            id,
            n_examples,
        }),
    }
}

/// The choices of every case; those of later repeats have none.
struct Choices<'a> {
    of_case: HashMap<(&'a str, &'a str, &'a str), &'a [StoredChoice]>,
}

impl<'a> Choices<'a> {
    fn new(run: &'a StoredRun) -> Self {
        fn key(it: &StoredChoice) -> (&str, &str, &str) {
            (&it.model, &it.variant, &it.example_id)
        }
        let chunks = run.choices.chunk_by(|a, b| key(a) == key(b));
        Self {
            of_case: chunks.map(|it| (key(&it[0]), it)).collect(),
        }
    }

    fn of(&self, case: &StoredCase) -> &'a [StoredChoice] {
        let key = (
            case.model.as_str(),
            case.variant.as_str(),
            case.example_id.as_str(),
        );
        let is_first = case.repeat == 0;
        self.of_case
            .get(&key)
            .copied()
            .filter(|_| is_first)
            .unwrap_or_default()
    }

    fn find(&self, case: &StoredCase, choice_index: usize) -> Option<&'a StoredChoice> {
        self.of(case)
            .iter()
            .find(|it| it.choice_index == choice_index)
    }
}

/// How cases are told to be bad.
struct Judge {
    /// The per-case metric that decides where there are no choices: its index, and the sign that
    /// makes larger better.
    metric: Option<(usize, f64)>,
    /// The badness of a case that could not be better.
    best: f64,
}

impl Judge {
    /// The primary metric decides if cases have it, else the first declared one that they have.
    fn new(run: &StoredRun) -> Self {
        let manifest = &run.manifest;
        let place = |name: &String| run.case_metrics.iter().position(|it| it == name);
        let declared = manifest
            .metrics
            .iter()
            .filter(|it| it.is_declared)
            .map(|it| &it.name);
        let index = std::iter::once(&manifest.primary)
            .chain(declared)
            .find_map(place);
        let Some(index) = index else {
            return Self {
                metric: None,
                best: f64::NEG_INFINITY,
            };
        };
        let name = &run.case_metrics[index];
        let record = manifest.metrics.iter().find(|it| it.name == *name);
        let unit = record.map_or(Unit::Plain, MetricRecord::unit);
        let direction = record.map_or(Direction::HigherIsBetter, MetricRecord::direction);
        let (sign, best) = match (direction, unit) {
            (Direction::LowerIsBetter, _) => (-1.0, 0.0),
            (Direction::HigherIsBetter, Unit::Percent) => (1.0, -1.0),
            (Direction::HigherIsBetter, Unit::Points) => (1.0, -100.0),
            (Direction::HigherIsBetter, _) => (1.0, f64::NEG_INFINITY),
        };
        Self {
            metric: Some((index, sign)),
            best,
        }
    }

    /// The cases worth a look, worst first, and what they are.
    fn worst<'a>(&self, group: &Group<'a>, choices: &Choices<'_>) -> (String, Vec<&'a StoredCase>) {
        let mut unscored = Vec::new();
        let mut bad: Vec<(f64, &StoredCase)> = Vec::new();
        let has_choices = group.cases.iter().any(|it| it.predicted_choice.is_some());
        for case in group.cases {
            if case.status != Status::Ok {
                unscored.push(case);
            } else if !has_choices {
                let badness = self.badness(case).filter(|it| self.best < *it);
                bad.extend(badness.map(|it| (it, case)));
            } else if case.predicted_choice != case.target_choice {
                bad.extend(lead(case, choices).map(|it| (it, case)));
            }
        }
        // Stable, so that equals stay in plan order.
        bad.sort_by(|a, b| b.0.total_cmp(&a.0));
        let kind = if has_choices {
            format!("{} wrong", bad.len())
        } else {
            "lowest scores".to_owned()
        };
        let kind = match unscored.len() {
            0 => kind,
            n => format!("{n} unscored, {kind}"),
        };
        (
            kind,
            unscored
                .into_iter()
                .chain(bad.into_iter().map(|it| it.1))
                .collect(),
        )
    }

    /// Larger is worse: the metric, turned where it must be, else the log-likelihood per byte.
    fn badness(&self, case: &StoredCase) -> Option<f64> {
        if let Some((index, sign)) = self.metric {
            return case.metrics[index].map(|it| -sign * it);
        }
        Some(-case.loglikelihood? / case.n_target_bytes?.max(1) as f64)
    }
}

/// By how much the predicted choice is more likely than the right one, in nats.
fn lead(case: &StoredCase, choices: &Choices<'_>) -> Option<f64> {
    let own = |index| choices.find(case, index).map(|it| it.loglikelihood);
    Some(own(case.predicted_choice?)? - own(case.target_choice?)?)
}

fn unit(run: &StoredRun, metric: &str) -> Unit {
    let record = run.manifest.metrics.iter().find(|it| it.name == metric);
    record.map_or(Unit::Plain, MetricRecord::unit)
}

fn case_facts(text: &mut String, choices: &Choices<'_>, case: &StoredCase, style: Style) {
    if case.status != Status::Ok {
        fact(text, "status", case.status.as_str());
    }
    fact(
        text,
        "prompt",
        &format!("{}{END}", tail(&case.prompt, room(style) - 1)),
    );
    if let Some(target) = &case.target {
        fact(
            text,
            "target",
            &with_nats(target, case.loglikelihood, style),
        );
    }
    let wrong = case
        .predicted_choice
        .filter(|it| Some(*it) != case.target_choice);
    if let Some(choice) = wrong.and_then(|it| choices.find(case, it)) {
        fact(
            text,
            "predicted",
            &with_nats(&choice.choice, Some(choice.loglikelihood), style),
        );
    }
    if let Some(generation) = &case.generation {
        let reason = case.finish_reason.as_deref().unwrap_or_default();
        fact(
            text,
            "generation",
            &format!("{}{END}", head(generation, room(style) - 1)),
        );
        fact(text, "ended by", &line(reason));
    }
}

/// A scored text with its log-likelihood behind it.
fn with_nats(scored: &str, loglikelihood: Option<f64>, style: Style) -> String {
    let likelihood = loglikelihood.map(|it| format!(" ({} nats)", number::fixed(it, 2)));
    let likelihood = likelihood.unwrap_or_default();
    let room = room(style).saturating_sub(likelihood.len()).max(MIN_TEXT);
    format!("{}{likelihood}", head(scored, room))
}

/// Columns that are left for the value of a fact.
fn room(style: Style) -> usize {
    style.width.saturating_sub(LABEL + 4).max(MIN_TEXT)
}

fn fact(text: &mut String, label: &str, value: &str) {
    let padding = LABEL.saturating_sub(super::escape::columns(label));
    let _ = writeln!(text, "  {label}{:padding$}  {value}", "");
}

/// A text of several lines behind a rule, its end marked.
fn block(text: &mut String, content: &str, style: Style) {
    let width = style.width.saturating_sub(5).max(MIN_TEXT);
    let mut shown = lines(content);
    if let Some(last) = shown.last_mut() {
        last.push(END);
    }
    for line in shown {
        for piece in pieces(&line, width) {
            let _ = writeln!(text, "  │ {piece}");
        }
    }
}

/// The text with exactly one line feed at its end.
fn trimmed(text: &str) -> String {
    format!("{}\n", text.trim_end_matches('\n'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture::{self, sentiment};

    const STYLE: Style = Style {
        color: false,
        width: 80,
    };

    fn small() -> StoredRun {
        fixture::run(&fixture::four_variants()[..1])
    }

    #[test]
    fn failures_come_worst_first() {
        let mut run = small();
        run.cases[0].status = Status::ContextOverflow;
        let text = failures(&run, 2, STYLE);
        insta::assert_snapshot!(text);
    }

    #[test]
    fn without_choices_the_lowest_scores_are_shown() {
        let mut run = small();
        for (case, value) in run.cases.iter_mut().zip([0.5, 0.25, 1.0]) {
            (case.predicted_choice, case.target_choice) = (None, None);
            case.metrics = vec![None, Some(value)];
        }
        run.case_metrics = vec!["other".to_owned(), "exact_match".to_owned()];
        let text = failures(&run, 1, STYLE);
        assert!(
            text.contains("lowest scores of 3 cases\n  example       r0001"),
            "{text}"
        );
        assert!(
            text.contains("and 1 more"),
            "a perfect score is no failure: {text}"
        );
    }

    #[test]
    fn prompts_show_where_they_end() {
        insta::assert_snapshot!(prompts(&sentiment(), 1, STYLE));
    }

    #[test]
    fn an_example_shows_every_variant() {
        let run = fixture::run(&fixture::four_variants()[..2]);
        insta::assert_snapshot!(example(&run, "r0001", STYLE).unwrap());
    }

    #[test]
    fn an_example_is_found_by_the_start_of_its_id() {
        let run = small();
        assert!(example(&run, "r0119", STYLE).is_ok());
        let error = |id| example(&run, id, STYLE).unwrap_err();
        assert_eq!(
            error("r01").to_string(),
            "`r01` could be any of 20 examples in run `20260101-120000-abcd`"
        );
        assert_eq!(
            error("x0001").to_string(),
            "run `20260101-120000-abcd` has no example `x0001`"
        );
        assert_eq!(
            error("x0001").hint().as_deref(),
            Some("did you mean `r0001`?")
        );
        assert_eq!(error("\u{1b}[2J!").hint(), None);
        assert!(
            error("\u{1b}[2J!")
                .to_string()
                .ends_with("no example `\\u{1b}[2J!`")
        );
    }

    #[test]
    fn nothing_of_the_data_reaches_the_terminal_raw() {
        let run = sentiment();
        let texts = [
            failures(&run, 9, STYLE),
            prompts(&run, 9, STYLE),
            example(&run, "r0001", STYLE).unwrap(),
        ];
        for text in texts {
            assert!(!text.contains('\u{1b}'), "{text}");
            assert!(text.contains("\\u{1b}[2J"), "{text}");
            assert!(
                text.lines()
                    .all(|it| super::super::escape::columns(it) <= 80),
                "{text}"
            );
        }
    }
}
