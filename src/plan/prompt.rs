//! Variants as compiled templates, and prompts rendered from them.

use std::path::PathBuf;

use serde_json::Value as Json;

use crate::dataset::{Dataset, Fields};
use crate::experiment::{
    Diagnostic, Diagnostics, Experiment, Place, Prompt, Role, SourceText, TemplateSource,
    TemplateText, VariantSpec,
};
use crate::model::Model;
use crate::model::chat::ChatMessage;
use crate::template::{Guard, Guarded, Template};

use super::answers::AnswerTemplates;
use super::{files, template_check};

/// A variant, ready to render.
#[derive(Debug)]
pub struct PlannedVariant {
    /// Its name.
    pub name: String,
    /// Solved examples in each prompt.
    pub n_shots: usize,
    /// Written between prompt and target; `None` for the default of the prompt.
    pub delimiter: Option<String>,
    pub(super) body: Body,
}

#[derive(Debug)]
pub(super) enum Body {
    Raw {
        template: Box<Compiled>,
        example: Option<Box<Compiled>>,
    },
    Chat {
        messages: Vec<(Role, Compiled)>,
    },
}

/// A template and where it was written.
#[derive(Debug)]
pub(super) struct Compiled {
    text: TemplateText,
    template: Template,
}

impl PlannedVariant {
    /// Whether the prompt goes through the model's chat template.
    pub fn is_chat(&self) -> bool {
        matches!(self.body, Body::Chat { .. })
    }

    /// The sources of all templates, for a digest.
    pub(super) fn sources(&self) -> Vec<&str> {
        match &self.body {
            Body::Raw { template, example } => std::iter::once(template)
                .chain(example)
                .map(|it| it.template.source())
                .collect(),
            Body::Chat { messages } => messages.iter().map(|it| it.1.template.source()).collect(),
        }
    }
}

/// Compiles a variant; `None` if some template does not compile.
pub(super) fn compile(
    experiment: &Experiment,
    spec: &VariantSpec,
    dataset: &Dataset,
    pool: Option<&Dataset>,
    problems: &mut Diagnostics,
) -> Option<PlannedVariant> {
    let mut read = |source: &TemplateSource| match read_source(experiment, source) {
        Ok(text) => Some(text),
        Err(diagnostic) => {
            problems.push(diagnostic);
            None
        }
    };
    let body = match &spec.prompt {
        Prompt::Raw { template, example } => {
            let text = read(template)?;
            let also: &[&str] = if 0 < spec.shots.value {
                &["examples"]
            } else {
                &[]
            };
            let template = template_check::compile(&text, dataset, also, problems);
            let example = match (example, pool) {
                (Some(text), Some(pool)) => {
                    let template = template_check::compile(text, pool, &[], problems)?;
                    Some(Box::new(Compiled {
                        text: text.clone(),
                        template,
                    }))
                }
                _ => None,
            };
            Body::Raw {
                template: Box::new(Compiled {
                    text,
                    template: template?,
                }),
                example,
            }
        }
        Prompt::Chat { messages } => {
            let mut compiled = Vec::new();
            let texts: Vec<(Role, Option<TemplateText>)> = messages
                .iter()
                .map(|it| (it.role, read(&it.content)))
                .collect();
            for (role, text) in texts {
                let text = text?;
                let template = template_check::compile(&text, dataset, &[], problems);
                compiled.push((role, template.map(|template| Compiled { text, template })));
            }
            let messages = compiled.into_iter().map(|(role, it)| Some((role, it?)));
            Body::Chat {
                messages: messages.collect::<Option<_>>()?,
            }
        }
    };
    if let Some(pool) = pool
        && pool.rows.len() < spec.shots.value
    {
        let (n, shots) = (pool.rows.len(), spec.shots.value);
        problems.push(
            Diagnostic::error(format!(
                "variant `{}` wants {shots} shots, but the few-shot pool has {n} rows",
                spec.name.value
            ))
            .at(&spec.shots.place, "")
            .help("add rows to the pool, or ask for fewer shots"),
        );
    }
    Some(PlannedVariant {
        name: spec.name.value.clone(),
        n_shots: spec.shots.value,
        delimiter: spec
            .delimiter
            .clone()
            .or_else(|| experiment.spec.scoring.delimiter.clone()),
        body,
    })
}

fn read_source(
    experiment: &Experiment,
    source: &TemplateSource,
) -> Result<TemplateText, Diagnostic> {
    match source {
        TemplateSource::Inline(text) => Ok(text.clone()),
        TemplateSource::File(written) => {
            let path: PathBuf = files::resolve(experiment, written, "prompt file")?;
            let text = std::fs::read_to_string(&path).map_err(|err| {
                Diagnostic::error(format!("cannot read `{}`: {err}", path.display()))
                    .at(&written.place, "")
                    .help("a prompt file is a text in UTF-8")
            })?;
            let length = text.len();
            let place = Place::new(
                &SourceText::new(path.display().to_string(), text.clone()),
                0..length,
            );
            Ok(TemplateText { text, place })
        }
    }
}

/// Renders every template on every row it will meet, to find what fails before the run.
pub(super) fn try_rows(
    variant: &PlannedVariant,
    dataset: &Dataset,
    rows: &[usize],
    pool: Option<&Dataset>,
    problems: &mut Diagnostics,
) {
    let row = |index: &usize| {
        (
            dataset.rows[*index].source_line,
            dataset.rows[*index].fields(),
        )
    };
    match &variant.body {
        Body::Raw { template, example } => {
            if let (Some(example), Some(pool)) = (example, pool) {
                let rows = pool.rows.iter().map(|it| (it.source_line, it.fields()));
                template_check::try_rows(&example.text, &example.template, pool, rows, problems);
            }
            if example.is_none() {
                let rows = rows.iter().map(row);
                template_check::try_rows(
                    &template.text,
                    &template.template,
                    dataset,
                    rows,
                    problems,
                );
            } else {
                let rows = rows.iter().map(row);
                let rows = rows.map(|(line, fields)| (line, with_examples(&fields, String::new())));
                template_check::try_rows(
                    &template.text,
                    &template.template,
                    dataset,
                    rows,
                    problems,
                );
            }
        }
        Body::Chat { messages } => {
            for (_, message) in messages {
                let rows = rows.iter().map(row);
                template_check::try_rows(&message.text, &message.template, dataset, rows, problems);
            }
        }
    }
}

fn with_examples(fields: &Fields, examples: String) -> Fields {
    let mut fields = fields.clone();
    fields.insert("examples".to_owned(), Json::String(examples));
    fields
}

/// What a prompt is rendered with.
pub(super) struct Rendering<'a> {
    pub model: &'a Model,
    pub guard: &'a Guard,
    pub pool: Option<&'a Dataset>,
    pub answers: &'a AnswerTemplates<'a>,
    /// `YYYY-MM-DD`, what chat templates take for today.
    pub date: Option<&'a str>,
}

impl Rendering<'_> {
    /// Renders `variant` for one row, with the shots at `shots` of the pool.
    ///
    /// # Errors
    ///
    /// What a template engine says; on checked rows only the chat template can fail.
    pub(super) fn prompt(
        &self,
        variant: &PlannedVariant,
        fields: &Fields,
        shots: &[usize],
    ) -> Result<Guarded, String> {
        let guarded = self.guard.fields(fields);
        let rendered = match &variant.body {
            Body::Raw { template, example } => {
                let rendered = match example {
                    None => template.template.render(&guarded),
                    Some(example) => {
                        let examples = self.examples(example, shots)?;
                        template.template.render(&with_examples(&guarded, examples))
                    }
                };
                rendered.map_err(|err| err.to_string())?
            }
            Body::Chat { messages } => self.chat(messages, &guarded, shots)?,
        };
        Ok(self.guard.remove(&rendered))
    }

    fn pool_fields(&self, shot: usize) -> Fields {
        let pool = self.pool.expect("shots are drawn from a pool");
        pool.rows[shot].fields()
    }

    fn examples(&self, example: &Compiled, shots: &[usize]) -> Result<String, String> {
        let mut text = String::new();
        for shot in shots {
            let fields = self.pool_fields(*shot);
            let fields = self.guard.fields(&fields);
            text += &example
                .template
                .render(&fields)
                .map_err(|err| err.to_string())?;
        }
        Ok(text)
    }

    /// Messages through the chat template; shots become turns before the last user message.
    fn chat(
        &self,
        messages: &[(Role, Compiled)],
        fields: &Fields,
        shots: &[usize],
    ) -> Result<String, String> {
        let render = |compiled: &Compiled, fields: &Fields| {
            compiled
                .template
                .render(fields)
                .map_err(|err| err.to_string())
        };
        let last_user = messages.iter().rposition(|it| it.0 == Role::User);
        let mut turns = Vec::new();
        for (i, (role, compiled)) in messages.iter().enumerate() {
            if Some(i) == last_user {
                for shot in shots {
                    let shot_fields = self.pool_fields(*shot);
                    let target = self.answers.target_text(&shot_fields)?;
                    let shot_fields = self.guard.fields(&shot_fields);
                    turns.push(turn(Role::User, render(compiled, &shot_fields)?));
                    turns.push(turn(Role::Assistant, self.guard.text(&target).into_owned()));
                }
            }
            turns.push(turn(*role, render(compiled, fields)?));
        }
        let template = self.model.chat_template().map_err(|err| err.to_string())?;
        let is_begun = messages.last().is_some_and(|it| it.0 == Role::Assistant);
        let text = template
            .render(&turns, !is_begun, self.date)
            .map_err(|err| err.to_string())?;
        if !is_begun {
            return Ok(text);
        }
        // A last assistant message is the beginning of the answer: cut what the
        // template puts behind it (Hugging Face's `continue_final_message`).
        let begun = turns.last().map_or("", |it| it.content.trim());
        let end = text.rfind(begun).map(|at| at + begun.len());
        end.map(|end| text[..end].to_owned())
            .ok_or_else(|| "the chat template does not show the last message as written".to_owned())
    }
}

fn turn(role: Role, content: String) -> ChatMessage {
    let role = match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    ChatMessage {
        role: role.to_owned(),
        content,
    }
}
