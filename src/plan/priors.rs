//! What a model prefers before it has read the example: choices after content-free prompts, and
//! after no prompt at all.
//!
//! Contextual calibration (Zhao et al. 2021) asks for every choice after the variant's own prompt
//! with each field replaced by "N/A", "[MASK]" and "" in turn, shots kept. Pointwise mutual
//! information (Holtzman et al. 2021) asks for the same scored text after an empty context or a
//! premise. Both are likelihoods like any other, and equal for many cases: they are made once and
//! shared. Asked for where all examples have the same choices, so that every run shows a prompt's
//! own label prior, and else only where a metric needs them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde_json::Value as Json;

use crate::dataset::{Dataset, Fields};
use crate::experiment::{
    Diagnostic, Diagnostics, Experiment, MetricName, MetricOptions, ShotOrder, TemplateText,
};
use crate::template::{Guarded, Template};

use super::case::Asked;
use super::join::stripped;
use super::template_check;

/// What stands in for every field of a content-free prompt.
pub const CONTENT_FREE: [&str; 3] = ["N/A", "[MASK]", ""];

/// Likelihoods that tell what a model prefers without the example.
#[derive(Debug, Clone, Default)]
pub struct Priors {
    /// For each of [`CONTENT_FREE`], every choice after that prompt; `None` where not asked for.
    pub content_free: Option<Arc<Vec<Vec<Asked>>>>,
    /// Every choice without the prompt; empty where not asked for.
    pub unconditional: Vec<Arc<Asked>>,
    /// Whether a declared metric needs the content-free prompts, so that a case without them has
    /// no score.
    pub needs_content_free: bool,
    /// Whether a declared metric needs the choices without the prompt.
    pub needs_unconditional: bool,
}

impl Priors {
    /// Every text, in the order in which [`crate::score`] expects the outcomes.
    pub fn texts(&self) -> impl Iterator<Item = &Asked> {
        let content_free = self.content_free.iter().flat_map(|it| it.iter().flatten());
        content_free.chain(self.unconditional.iter().map(AsRef::as_ref))
    }
}

/// Whether one kind of prior is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    No,
    /// To be shown; a case without it has its score all the same.
    Shown,
    /// A declared metric needs it.
    Needed,
}

/// Which priors an experiment asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub content_free: Want,
    pub unconditional: Want,
}

impl Wanted {
    /// `are_choices_fixed`: every example has the same choices in the same order.
    pub(super) fn new(experiment: &Experiment, are_choices_fixed: bool) -> Self {
        let spec = &experiment.spec;
        // With shots of its own, every example has content-free prompts of its own.
        let is_shared = spec
            .fewshot
            .as_ref()
            .is_none_or(|it| it.order != ShotOrder::PerExample);
        let want = |name, is_cheap| {
            if spec.metrics.iter().any(|it| it.metric.value == name) {
                Want::Needed
            } else if is_cheap {
                Want::Shown
            } else {
                Want::No
            }
        };
        Self {
            content_free: want(MetricName::AccCalibrated, are_choices_fixed && is_shared),
            unconditional: want(MetricName::AccPmi, spec.dataset.choices.is_some()),
        }
    }
}

/// The premise of `acc_pmi`, compiled; `None` if there is none.
pub(super) fn premise(
    experiment: &Experiment,
    dataset: &Dataset,
    problems: &mut Diagnostics,
) -> Option<(TemplateText, Template)> {
    let text = experiment
        .spec
        .metrics
        .iter()
        .find_map(|it| match &it.options {
            MetricOptions::AccPmi { premise } => premise.as_ref(),
            _ => None,
        })?;
    let template = template_check::compile(text, dataset, &[], problems)?;
    Some((text.clone(), template))
}

/// Refuses the calibration of choices that vary.
pub(super) fn check(experiment: &Experiment, are_choices_fixed: bool, problems: &mut Diagnostics) {
    if are_choices_fixed {
        return;
    }
    let metrics = experiment.spec.metrics.iter();
    for metric in metrics.filter(|it| it.metric.value == MetricName::AccCalibrated) {
        problems.push(
            Diagnostic::error("`acc_calibrated` needs the same choices in every example")
                .at(&metric.metric.place, "")
                .help("a label prior says nothing about choices that vary; `acc_pmi` does"),
        );
    }
}

/// Every field of the dataset, replaced by `text`.
pub(super) fn content_free_fields(dataset: &Dataset, text: &str) -> Fields {
    let fields = dataset.columns.iter();
    fields
        .map(|it| (it.clone(), Json::String(text.to_owned())))
        .collect()
}

/// The text that is scored after an empty context: what follows the stripped prompt.
pub(super) fn lead(prompt: &str, delimiter: &str) -> String {
    format!("{}{delimiter}", &prompt[stripped(prompt).len()..])
}

/// A premise without its trailing white space, which the scored text brings along.
pub(super) fn stripped_premise(premise: Guarded) -> Guarded {
    let end = stripped(&premise.text).len();
    let plain = premise
        .plain
        .into_iter()
        .map(|it| it.start.min(end)..it.end.min(end));
    Guarded {
        plain: plain.filter(|it| it.start < it.end).collect(),
        text: premise.text[..end].to_owned(),
    }
}

/// Choices without the prompt that are remembered.
const MAX_UNCONDITIONAL: usize = 1 << 14;

/// The content-free prompts of one variant with one draw of shots.
type ContentFree = (Vec<usize>, Arc<Vec<Vec<Asked>>>);

/// Priors that are made already.
#[derive(Debug, Default)]
pub(super) struct Cache {
    /// The last draw of shots of each variant, which a fixed draw never leaves.
    content_free: Mutex<HashMap<usize, ContentFree>>,
    /// By premise, lead and choice.
    unconditional: Mutex<HashMap<(String, String, String), Arc<Asked>>>,
}

impl Cache {
    /// The content-free prompts of `variant` with these shots.
    pub(super) fn content_free(
        &self,
        variant: usize,
        shots: &[usize],
        make: impl FnOnce() -> Vec<Vec<Asked>>,
    ) -> Arc<Vec<Vec<Asked>>> {
        let mut made = self.content_free.lock().expect("no holder panics");
        match made.get(&variant) {
            Some((drawn, texts)) if drawn == shots => Arc::clone(texts),
            _ => {
                let texts = Arc::new(make());
                made.insert(variant, (shots.to_vec(), Arc::clone(&texts)));
                texts
            }
        }
    }

    /// One choice without the prompt.
    pub(super) fn unconditional(
        &self,
        (premise, lead, choice): (&str, &str, &str),
        make: impl FnOnce() -> Asked,
    ) -> Arc<Asked> {
        let key = (premise.to_owned(), lead.to_owned(), choice.to_owned());
        let made = || self.unconditional.lock().expect("no holder panics");
        if let Some(asked) = made().get(&key) {
            return Arc::clone(asked);
        }
        // Made without the lock; if two threads make it, both make the same.
        let asked = Arc::new(make());
        let mut made = made();
        if MAX_UNCONDITIONAL <= made.len() {
            // Choices that differ in every example are not met again.
            made.clear();
        }
        Arc::clone(made.entry(key).or_insert(asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_premise_gives_its_white_space_to_the_scored_text() {
        let premise = Guarded {
            text: "The answer: <s> \n".to_owned(),
            plain: vec![12..15, 15..17],
        };
        let stripped = stripped_premise(premise);
        assert_eq!(stripped.text, "The answer: <s>");
        assert_eq!(stripped.plain, vec![12..15]);
        assert_eq!(lead("A: \n", ""), " \n");
        assert_eq!(lead("A:", " "), " ");
    }
}
