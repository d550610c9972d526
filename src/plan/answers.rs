//! What is right for each example: target, other accepted outputs, choices.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::dataset::{Dataset, Example, Fields};
use crate::experiment::{Choices, Diagnostic, Diagnostics, Experiment, Label, TemplateText};
use crate::template::Template;

use super::data;
use super::template_check;

/// The right answer of one example.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Accepted outputs; the first is the target. Empty without a target.
    pub references: Arc<[String]>,
    /// The choices, in order; empty without choices.
    pub choices: Arc<[String]>,
    /// Which choice is right.
    pub target_choice: Option<usize>,
}

impl Answer {
    /// How many texts are scored: every choice, or the target.
    pub fn n_scored(&self) -> usize {
        match self.choices.len() {
            0 => self.references.len().min(1),
            n => n,
        }
    }
}

/// The templates that yield an answer.
pub(super) struct AnswerTemplates<'a> {
    target: Option<(&'a TemplateText, Template)>,
    choices: Option<(&'a Choices, Vec<Template>)>,
}

/// Lists of texts that many examples have in common, kept once.
#[derive(Default)]
struct Shared(HashSet<Arc<[String]>>);

impl Shared {
    /// Labels and choices are few; where every example has its own, remembering them saves nothing.
    const MAX_LISTS: usize = 1024;

    fn list(&mut self, list: Vec<String>) -> Arc<[String]> {
        if let Some(known) = self.0.get(list.as_slice()) {
            return Arc::clone(known);
        }
        let list: Arc<[String]> = list.into();
        if self.0.len() < Self::MAX_LISTS {
            self.0.insert(Arc::clone(&list));
        }
        list
    }
}

/// A row-wise problem and the lines it was seen on.
#[derive(Default)]
struct Seen {
    kinds: Vec<(Problem, Vec<(usize, String)>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Problem {
    Render,
    EmptyTarget,
    EmptyChoice,
    TooFewChoices,
    DuplicateChoice,
    NotAChoice,
    NotAList,
}

impl Problem {
    /// Whether the list in the experiment file itself has it, where it was reported already.
    fn is_in_the_file(self, choices: Option<&Choices>) -> bool {
        let Some(Choices::Listed(texts)) = choices else {
            return false;
        };
        let is_repeated =
            |(i, it): (usize, &TemplateText)| texts[..i].iter().any(|other| other.text == it.text);
        match self {
            Self::TooFewChoices => true,
            Self::DuplicateChoice => texts.iter().enumerate().any(is_repeated),
            Self::EmptyChoice => texts.iter().any(|it| it.text.is_empty()),
            _ => false,
        }
    }
}

impl<'a> AnswerTemplates<'a> {
    /// Compiles them; problems are reported at their place in the file.
    pub(super) fn compile(
        experiment: &'a Experiment,
        dataset: &Dataset,
        problems: &mut Diagnostics,
    ) -> Self {
        let spec = &experiment.spec.dataset;
        let mut compile =
            |text: &TemplateText| template_check::compile(text, dataset, &[], problems);
        let target = spec.target.as_ref().and_then(|it| Some((it, compile(it)?)));
        let choices = spec.choices.as_ref().and_then(|choices| {
            let texts: Vec<&TemplateText> = match choices {
                Choices::Listed(texts) => texts.iter().collect(),
                Choices::Expression(text) => vec![text],
            };
            let templates: Option<Vec<Template>> = texts.into_iter().map(compile).collect();
            Some((choices, templates?))
        });
        Self { target, choices }
    }

    /// The target of one row as text, for shots of a chat.
    ///
    /// # Errors
    ///
    /// What the template engine says.
    pub(super) fn target_text(&self, fields: &Fields) -> Result<String, String> {
        let (_, template) = self.target.as_ref().ok_or("there is no target")?;
        let value = template.evaluate(fields).map_err(|err| err.to_string())?;
        let first = match value {
            Json::Array(items) => items.into_iter().next().unwrap_or(Json::Null),
            other => other,
        };
        text_of(&first).ok_or_else(|| "the target is neither text nor a number".to_owned())
    }

    /// The answer of every example; problems are reported with their rows.
    pub(super) fn answers(
        &self,
        experiment: &Experiment,
        dataset: &Dataset,
        examples: &[Example],
        problems: &mut Diagnostics,
    ) -> Vec<Answer> {
        let (mut seen, mut shared) = (Seen::default(), Shared::default());
        let answers = examples
            .iter()
            .map(|example| {
                let row = example.row(dataset);
                let mut answer = Answer::default();
                if let Err((problem, detail)) = self.fill(&row.fields(), &mut answer, &mut shared) {
                    seen.add(problem, row.source_line, detail);
                }
                answer
            })
            .collect();
        seen.report(experiment, dataset, problems);
        answers
    }

    fn fill(
        &self,
        fields: &Fields,
        answer: &mut Answer,
        shared: &mut Shared,
    ) -> Result<(), (Problem, String)> {
        let evaluate = |template: &Template| {
            template
                .evaluate(fields)
                .map_err(|err| (Problem::Render, err.to_string()))
        };
        let target = match &self.target {
            Some((_, template)) => Some(evaluate(template)?),
            None => None,
        };
        if let Some(value) = &target {
            let items: Vec<&Json> = match value {
                Json::Array(items) => items.iter().collect(),
                other => vec![other],
            };
            answer.references = shared.list(items.into_iter().filter_map(text_of).collect());
            if answer.references.is_empty()
                || answer.references.iter().any(|it| it.trim().is_empty())
            {
                return Err((Problem::EmptyTarget, String::new()));
            }
        }
        if let Some((choices, templates)) = &self.choices {
            let choices = match choices {
                Choices::Listed(_) => templates
                    .iter()
                    .map(|it| evaluate(it).map(|it| text_of(&it).unwrap_or_default()))
                    .collect::<Result<_, _>>()?,
                Choices::Expression(_) => match evaluate(&templates[0])? {
                    Json::Array(items) => items
                        .iter()
                        .map(|it| text_of(it).unwrap_or_default())
                        .collect(),
                    other => return Err((Problem::NotAList, other.to_string())),
                },
            };
            answer.choices = shared.list(choices);
            check_choices(&answer.choices)?;
            answer.target_choice = Some(match_target(target.as_ref(), answer)?);
            // The scored target is the choice as written in the list.
            let right = answer.choices[answer.target_choice.unwrap_or(0)].clone();
            answer.references = shared.list(vec![right]);
        }
        Ok(())
    }
}

fn check_choices(choices: &[String]) -> Result<(), (Problem, String)> {
    if choices.len() < 2 {
        return Err((Problem::TooFewChoices, format!("{} choices", choices.len())));
    }
    for (i, choice) in choices.iter().enumerate() {
        if choice.trim().is_empty() {
            return Err((Problem::EmptyChoice, String::new()));
        }
        if choices[..i].contains(choice) {
            return Err((Problem::DuplicateChoice, choice.clone()));
        }
    }
    Ok(())
}

/// The index of the right choice: matched as text; an integer counts as a 0-based
/// index only where no choice is itself a number.
fn match_target(target: Option<&Json>, answer: &Answer) -> Result<usize, (Problem, String)> {
    let text = answer.references.first().cloned().unwrap_or_default();
    if let Some(index) = answer.choices.iter().position(|it| *it == text) {
        return Ok(index);
    }
    let has_number = answer
        .choices
        .iter()
        .any(|it| it.trim().parse::<f64>().is_ok());
    let index = target.filter(|_| !has_number).and_then(Json::as_u64);
    match index
        .and_then(|it| usize::try_from(it).ok())
        .filter(|it| *it < answer.choices.len())
    {
        Some(index) => Ok(index),
        None => Err((Problem::NotAChoice, text)),
    }
}

/// A scalar as text; `None` for null, lists and objects.
fn text_of(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        Json::Bool(it) => Some(it.to_string()),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

impl Seen {
    fn add(&mut self, problem: Problem, line: usize, detail: String) {
        match self.kinds.iter_mut().find(|it| it.0 == problem) {
            Some((_, rows)) => rows.push((line, detail)),
            None => self.kinds.push((problem, vec![(line, detail)])),
        }
    }

    fn report(self, experiment: &Experiment, dataset: &Dataset, problems: &mut Diagnostics) {
        let spec = &experiment.spec.dataset;
        let target_place = spec.target.as_ref().map(|it| &it.place);
        let choices_place = spec.choices.as_ref().and_then(|it| match it {
            Choices::Listed(texts) => texts.first().map(|it| &it.place),
            Choices::Expression(text) => Some(&text.place),
        });
        for (problem, rows) in self.kinds {
            if problem.is_in_the_file(spec.choices.as_ref()) {
                continue;
            }
            let lines: Vec<usize> = rows.iter().map(|it| it.0).collect();
            let lines = data::shown_lines(&lines);
            let (have, on) = match rows.len() {
                1 => ("1 row has".to_owned(), "1 row".to_owned()),
                n => (format!("{n} rows have"), format!("{n} rows")),
            };
            let detail = &rows[0].1;
            let (message, help, place) = match problem {
                Problem::Render => (
                    format!("target or choices fail on {on} ({lines}): {detail}"),
                    "every row needs the fields they use",
                    target_place.or(choices_place),
                ),
                Problem::EmptyTarget => (
                    format!("{have} an empty target: {lines}"),
                    "a target is what the model should have written; fill it in, or filter the \
                     rows out with `filter`",
                    target_place,
                ),
                Problem::EmptyChoice => (
                    format!("{have} an empty choice: {lines}"),
                    "every choice is scored, so each needs a text",
                    choices_place,
                ),
                Problem::TooFewChoices => (
                    format!("{have} fewer than two choices: {lines}"),
                    "with one choice there is nothing to get wrong",
                    choices_place,
                ),
                Problem::DuplicateChoice => (
                    format!("{have} the choice `{detail}` twice: {lines}"),
                    "equal choices have equal scores; remove one",
                    choices_place,
                ),
                Problem::NotAChoice => (
                    format!("{have} a target that is not among the choices: {lines}"),
                    "the target must equal one of the choices, letter by letter; only an integer \
                     counts as an index, from 0",
                    target_place,
                ),
                Problem::NotAList => (
                    format!("on {on} ({lines}) the choices are no list, but {detail}"),
                    "name a column that holds a list, or write the choices as a TOML list",
                    choices_place,
                ),
            };
            let mut diagnostic = Diagnostic::error(message).help(help);
            if let Some(place) = place {
                let label = if problem == Problem::NotAChoice {
                    format!("gives `{detail}`")
                } else {
                    String::new()
                };
                diagnostic = diagnostic.at(place, label);
            }
            let row = dataset.rows.iter().find(|it| it.source_line == rows[0].0);
            if let Some(row) = row {
                let shown = Json::Object(row.fields()).to_string();
                let name = dataset.path.display().to_string();
                diagnostic =
                    diagnostic.label(Label::line(name, rows[0].0, &shown, "the first one"));
            }
            problems.push(diagnostic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(target: &Json, choices: &[&str]) -> Option<usize> {
        let answer = Answer {
            references: [text_of(target).unwrap()].into(),
            choices: choices.iter().map(|it| (*it).to_owned()).collect(),
            target_choice: None,
        };
        match_target(Some(target), &answer).ok()
    }

    #[test]
    fn a_target_is_matched_as_text_before_it_is_an_index() {
        assert_eq!(matched(&Json::from("b"), &["a", "b"]), Some(1));
        assert_eq!(matched(&Json::from(1), &["a", "b"]), Some(1));
        assert_eq!(matched(&Json::from(2), &["a", "b"]), None);
        // Choices that are numbers: 1 is the choice "1", and 0 is no index.
        assert_eq!(matched(&Json::from(1), &["1", "2"]), Some(0));
        assert_eq!(matched(&Json::from(0), &["1", "2"]), None);
        assert_eq!(
            matched(&Json::from("1"), &["a", "b"]),
            None,
            "a text is never an index"
        );
    }
}
