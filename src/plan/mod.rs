//! Every cross-check of one input against another, and the cases that follow.
//!
//! Experiment, dataset, templates and models meet here and nowhere else. Building
//! goes in two steps: [`Draft::new`] reads the data and finds every mistake that
//! can be found without a model; [`Draft::with_models`] adds tokenizers and chat
//! templates and finds the rest. Neither needs weights. A [`Plan`] then yields its
//! [`Case`]s lazily, in table order: model, variant, example, repeat.

mod answers;
mod case;
mod cases;
#[cfg(test)]
mod closed_form;
mod contains;
mod data;
mod files;
mod join;
mod priors;
mod prompt;
mod template_check;

use std::sync::Arc;

pub use answers::Answer;
pub use case::{Asked, Case, CaseKey, ScoredText};
pub use cases::Caser;
pub use contains::ContainsTexts;
pub use join::{JoinError, Joined, Joiner, default_delimiter, join, prompt_tokens, stripped};
pub use priors::{CONTENT_FREE, Priors};
pub use prompt::PlannedVariant;

use crate::dataset::{Dataset, Example, Row};
use crate::experiment::{Diagnostic, Diagnostics, Experiment, MetricName, ModelSpec, TemplateText};
use crate::model::Model;
use crate::request::Digest;
use crate::template::Template;
use answers::AnswerTemplates;
use contains::ContainsTemplates;
use data::Data;

/// Which of the file's variants and models take part.
pub struct Selection<'a> {
    /// Whether a variant of that name does.
    pub variant: &'a dyn Fn(&str) -> bool,
    /// Whether a model of that name does.
    pub model: &'a dyn Fn(&str) -> bool,
}

/// An experiment whose data and templates fit together; no models yet.
#[derive(Debug)]
pub struct Draft {
    experiment: Experiment,
    data: Data,
    variants: Vec<PlannedVariant>,
    answers: Vec<Answer>,
    contains: Vec<Option<ContainsTemplates>>,
    premise: Option<(TemplateText, Template)>,
    model_names: Vec<String>,
}

/// Everything that will be asked, ready to be asked.
#[derive(Debug)]
pub struct Plan {
    /// The experiment.
    pub experiment: Experiment,
    /// The dataset, all rows.
    pub dataset: Dataset,
    /// The few-shot pool.
    pub pool: Option<Dataset>,
    /// The examples that take part, in dataset order.
    pub examples: Vec<Example>,
    /// The right answer of each example.
    pub answers: Vec<Answer>,
    /// The variants that take part, in file order.
    pub variants: Vec<PlannedVariant>,
    /// The models that take part, in file order.
    pub models: Vec<PlannedModel>,
    contains: Vec<Option<ContainsTemplates>>,
    /// The premise of `acc_pmi`.
    premise: Option<(TemplateText, Template)>,
}

/// A model under its name in the experiment file.
#[derive(Debug, Clone)]
pub struct PlannedModel {
    /// The name.
    pub name: String,
    /// Tokenizer, chat template and files.
    pub model: Arc<Model>,
}

/// Data and templates of a draft, before they are tried on the rows.
struct Compiled {
    data: Data,
    variants: Vec<PlannedVariant>,
    contains: Vec<Option<ContainsTemplates>>,
    premise: Option<(TemplateText, Template)>,
    model_names: Vec<String>,
}

impl Compiled {
    /// `None` if there is no dataset to check anything against.
    fn new(
        experiment: &Experiment,
        selection: &Selection<'_>,
        problems: &mut Diagnostics,
    ) -> Option<Self> {
        let spec = &experiment.spec;
        refuse_later_features(experiment, problems);
        let models = spec.models.keys().filter(|it| (selection.model)(it));
        let model_names: Vec<String> = models.cloned().collect();
        if model_names.is_empty() && !spec.models.is_empty() {
            problems.push(none_selected("--model", spec.models.keys()));
        }
        let chosen: Vec<_> = spec
            .variants
            .iter()
            .filter(|it| (selection.variant)(it.0))
            .collect();
        if chosen.is_empty() && !spec.variants.is_empty() {
            problems.push(none_selected("--variant", spec.variants.keys()));
        }
        let data = data::read(experiment, problems)?;
        let (dataset, pool) = (&data.dataset, data.pool.as_ref());
        AnswerTemplates::compile(experiment, dataset, problems);
        let mut variants = Vec::new();
        for (_, spec) in chosen {
            variants.extend(prompt::compile(experiment, spec, dataset, pool, problems));
        }
        let metrics = spec.metrics.iter();
        let contains = metrics
            .map(|it| ContainsTemplates::compile(it, dataset, problems))
            .collect();
        let premise = priors::premise(experiment, dataset, problems);
        Some(Self {
            data,
            variants,
            contains,
            premise,
            model_names,
        })
    }

    /// Renders everything on every row; returns the right answer of each example.
    fn try_rows(&self, experiment: &Experiment, problems: &mut Diagnostics) -> Vec<Answer> {
        let (dataset, pool) = (&self.data.dataset, self.data.pool.as_ref());
        // Compiled before without a problem.
        let templates = AnswerTemplates::compile(experiment, dataset, &mut Diagnostics::new());
        let answers = templates.answers(experiment, dataset, &self.data.examples, problems);
        let rows: Vec<usize> = self.data.examples.iter().map(|it| it.row_index).collect();
        for variant in &self.variants {
            prompt::try_rows(variant, dataset, &rows, pool, problems);
        }
        for templates in self.contains.iter().flatten() {
            templates.try_rows(dataset, &rows, problems);
        }
        if let Some((text, template)) = &self.premise {
            let rows = rows.iter().map(|it| &dataset.rows[*it]);
            let rows = rows.map(|it| (it.source_line, it.fields()));
            template_check::try_rows(text, template, dataset, rows, problems);
        }
        priors::check(experiment, n_fixed_choices(&answers).is_some(), problems);
        answers
    }
}

impl Draft {
    /// Reads data and templates; collects every problem that needs no model.
    ///
    /// # Errors
    ///
    /// All problems at once.
    pub fn new(experiment: Experiment, selection: &Selection<'_>) -> Result<Self, Diagnostics> {
        let mut problems = Diagnostics::new();
        let compiled = Compiled::new(&experiment, selection, &mut problems);
        let Some(compiled) = compiled.filter(|_| !problems.has_errors()) else {
            return Err(problems);
        };
        let answers = compiled.try_rows(&experiment, &mut problems);
        if problems.has_errors() {
            return Err(problems);
        }
        Ok(Self {
            answers,
            data: compiled.data,
            variants: compiled.variants,
            contains: compiled.contains,
            premise: compiled.premise,
            model_names: compiled.model_names,
            experiment,
        })
    }

    /// What else is wrong with an experiment that has mistakes of its own: files that cannot
    /// be read, templates that do not fit the data. Rows are not tried.
    pub fn more_problems(experiment: &Experiment, selection: &Selection<'_>) -> Diagnostics {
        let mut problems = Diagnostics::new();
        Compiled::new(experiment, selection, &mut problems);
        problems
    }

    /// The models to open, by name.
    pub fn models(&self) -> impl Iterator<Item = (&str, &ModelSpec)> {
        let spec = &self.experiment.spec;
        self.model_names
            .iter()
            .map(|name| (name.as_str(), &spec.models[name]))
    }

    /// The experiment.
    pub fn experiment(&self) -> &Experiment {
        &self.experiment
    }

    /// Adds the opened models, in the order of [`Draft::models`], and tries the first
    /// example of every variant on every model.
    ///
    /// # Errors
    ///
    /// All problems at once: a chat variant on a model without chat template, a prompt
    /// that begins with two BOS tokens, ...
    pub fn with_models(self, models: Vec<Arc<Model>>) -> Result<Plan, Diagnostics> {
        let models = self
            .model_names
            .into_iter()
            .zip(models)
            .map(|(name, model)| PlannedModel { name, model })
            .collect();
        let plan = Plan {
            experiment: self.experiment,
            dataset: self.data.dataset,
            pool: self.data.pool,
            examples: self.data.examples,
            answers: self.answers,
            variants: self.variants,
            models,
            contains: self.contains,
            premise: self.premise,
        };
        let problems = plan.first_problems();
        if problems.has_errors() {
            Err(problems)
        } else {
            Ok(plan)
        }
    }
}

impl Plan {
    /// The row of an example.
    pub fn row(&self, example: usize) -> &Row {
        self.examples[example].row(&self.dataset)
    }

    /// What the declared metric at `metric` looks for in one example's generation, if it
    /// is a `contains` that names texts of its own.
    pub fn contains_texts(&self, metric: usize, example: usize) -> Option<ContainsTexts> {
        self.contains[metric]
            .as_ref()
            .map(|it| it.texts(&self.row(example).fields()))
    }

    /// Generations per case; 0 without generation.
    pub fn n_generations(&self) -> usize {
        self.experiment
            .spec
            .generation
            .as_ref()
            .map_or(0, |it| it.repeats.get() as usize)
    }

    /// Cases per model, variant and example.
    pub fn n_repeats(&self) -> usize {
        self.n_generations().max(1)
    }

    /// All cases.
    pub fn n_cases(&self) -> usize {
        self.models.len() * self.variants.len() * self.examples.len() * self.n_repeats()
    }

    /// Whether the experiment has a target.
    pub fn has_target(&self) -> bool {
        self.experiment.spec.dataset.target.is_some()
    }

    /// Whether the experiment has choices.
    pub fn has_choices(&self) -> bool {
        self.experiment.spec.dataset.choices.is_some()
    }

    /// The number of choices, where every example has the same ones in the same order.
    pub fn n_fixed_choices(&self) -> Option<usize> {
        n_fixed_choices(&self.answers)
    }

    /// Each example's cluster, if the experiment names them.
    pub fn clusters(&self) -> Option<Vec<String>> {
        self.examples.iter().map(|it| it.cluster.clone()).collect()
    }

    /// The index of the control variant, if it takes part.
    pub fn control(&self) -> Option<usize> {
        let name = &self.experiment.spec.experiment.control.as_ref()?.value;
        self.variants.iter().position(|it| it.name == *name)
    }

    /// The name of the metric that ranks the variants.
    pub fn primary(&self) -> String {
        let spec = &self.experiment.spec;
        if let Some(name) = &spec.experiment.primary {
            return name.value.clone();
        }
        if self.has_choices() {
            return MetricName::Acc.as_str().to_owned();
        }
        let declared = spec.metrics.first().map(|it| it.name.clone());
        declared.unwrap_or_else(|| MetricName::LoglikelihoodPerByte.as_str().to_owned())
    }

    /// Identifies what will be asked: equal plans lead to equal tables.
    pub fn digest(&self) -> Digest {
        let mut hash = blake3::Hasher::new();
        let mut add = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_le_bytes())
                .update(bytes);
        };
        add(self.experiment.digest.as_bytes());
        add(&self.dataset.digest);
        add(self.pool.as_ref().map_or(&[], |it| &it.digest[..]));
        for example in &self.examples {
            add(example.id.as_bytes());
        }
        for variant in &self.variants {
            add(variant.name.as_bytes());
            variant.sources().iter().for_each(|it| add(it.as_bytes()));
        }
        for model in &self.models {
            add(model.name.as_bytes());
            add(model.model.digest.as_bytes());
        }
        Digest(*hash.finalize().as_bytes())
    }

    /// Replaces fields of one example, for trying a prompt on other data.
    ///
    /// # Errors
    ///
    /// A field the dataset does not have, or a target that is none any more.
    pub fn set_fields(
        &mut self,
        example: usize,
        fields: &[(String, serde_json::Value)],
    ) -> Result<(), Diagnostics> {
        let mut problems = Diagnostics::new();
        let row = self.examples[example].row_index;
        for (name, value) in fields {
            if !self.dataset.columns.contains(name) {
                problems.push(
                    Diagnostic::error(format!("the dataset has no field `{name}`"))
                        .help(format!("it has: {}", self.dataset.columns.join(", "))),
                );
            }
            self.dataset.rows[row].set(name, value.clone());
        }
        let templates = AnswerTemplates::compile(&self.experiment, &self.dataset, &mut problems);
        let one = std::slice::from_ref(&self.examples[example]);
        let answers = templates.answers(&self.experiment, &self.dataset, one, &mut problems);
        if problems.has_errors() {
            return Err(problems);
        }
        self.answers[example] = answers.into_iter().next().unwrap_or_default();
        Ok(())
    }

    /// The digest of one variant's templates.
    pub fn template_digest(&self, variant: usize) -> Digest {
        let mut hash = blake3::Hasher::new();
        for source in self.variants[variant].sources() {
            hash.update(&(source.len() as u64).to_le_bytes())
                .update(source.as_bytes());
        }
        Digest(*hash.finalize().as_bytes())
    }
}

fn n_fixed_choices(answers: &[Answer]) -> Option<usize> {
    let first = &answers.first()?.choices;
    let is_fixed = !first.is_empty() && answers.iter().all(|it| it.choices == *first);
    is_fixed.then_some(first.len())
}

/// What the file may say but this version cannot do yet.
fn refuse_later_features(experiment: &Experiment, problems: &mut Diagnostics) {
    let spec = &experiment.spec;
    for variant in spec.variants.values() {
        if let Some(adapter) = &variant.adapter {
            problems.push(
                Diagnostic::error("this version cannot load adapters yet")
                    .at(&adapter.place, "")
                    .help("remove `adapter`"),
            );
        }
    }
}

fn none_selected<'a>(flag: &str, names: impl Iterator<Item = &'a String>) -> Diagnostic {
    let names: Vec<&str> = names.map(String::as_str).collect();
    Diagnostic::error(format!("{flag} selects nothing"))
        .help(format!("the file has: {}", names.join(", ")))
}
