//! What is allowed and often a slip: told by `plan`, and by `run` when it is over.
//!
//! Two things are noticed while cases are made. Prompts that a generation continues and
//! that end in a space: the words of most models begin with one, so they write badly
//! after it. And examples with the same prompt but another target: one of them must come
//! out wrong, and all that a model can learn from such rows is how often each target
//! stands there.
//!
//! Prompts are kept as digests of 8 bytes, of one variant at a time: some 50 bytes per
//! example. Two of a million prompts have the same one once in 30 million such runs, and
//! only a warning would be wrong.

use std::collections::HashMap;

use harness::plan::{Answer, Case, Plan};
use harness::report::escape;

/// Pairs of examples that are named.
const MAX_PAIRS: usize = 3;

/// What was noticed of a plan's cases, which are to be added in order.
#[derive(Debug, Default)]
pub(crate) struct Slips {
    /// By variant; of all models, each case once.
    variants: Vec<OfVariant>,
    /// Of the variant that was added last.
    inputs: HashMap<u64, Input>,
}

/// What was noticed of one variant.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct OfVariant {
    /// Prompts that a generation continues.
    pub(crate) n_continued: usize,
    /// Those of them that end in a space.
    pub(crate) n_end_in_space: usize,
    /// Examples whose prompt is also that of an example with another target.
    pub(crate) n_contradicted: usize,
    /// Two of the same prompt, by their indices, in the order of the first ones.
    pairs: Vec<(usize, usize)>,
}

/// The examples of one prompt, and of the same choices.
#[derive(Debug)]
struct Input {
    first: u32,
    n_examples: u32,
    target: u64,
    /// The first one with another target.
    other: Option<u32>,
}

impl Slips {
    /// Looks at a case with the answer of its example.
    pub(crate) fn add(&mut self, case: &Case, answer: &Answer) {
        let key = case.key;
        if key.repeat != 0 {
            return;
        }
        if self.variants.len() <= key.variant || key.model != 0 {
            self.settle();
        }
        if self.variants.len() <= key.variant {
            self.variants.resize(key.variant + 1, OfVariant::default());
        }
        let of_variant = &mut self.variants[key.variant];
        if case.generation.is_some() {
            of_variant.n_continued += 1;
            of_variant.n_end_in_space += usize::from(case.prompt.ends_with(' '));
        }
        // Inputs are compared on the first model: on another one only what the chat
        // template puts around them is different. What could not be rendered is none.
        let is_input = !case.prompt.is_empty() || case.own_requests().next().is_some();
        if key.model == 0 && !answer.references.is_empty() && is_input {
            self.add_input(case, answer);
        }
    }

    fn add_input(&mut self, case: &Case, answer: &Answer) {
        let choices = answer.choices.iter().map(String::as_str);
        let input = digest(std::iter::once(case.prompt.as_str()).chain(choices));
        let mut references: Vec<&str> = answer.references.iter().map(String::as_str).collect();
        references.sort_unstable();
        let target = digest(references.into_iter());
        // More examples than that have no room in memory.
        let example = case.key.example as u32;
        let input = self.inputs.entry(input).or_insert(Input {
            first: example,
            target,
            n_examples: 0,
            other: None,
        });
        input.n_examples += 1;
        if input.target != target {
            input.other.get_or_insert(example);
        }
    }

    /// Counts what contradicts in the variant that was added last.
    fn settle(&mut self) {
        let inputs = std::mem::take(&mut self.inputs);
        // A prompt that all examples share does not show them, and means not to.
        let (Some(of_variant), true) = (self.variants.last_mut(), 1 < inputs.len()) else {
            return;
        };
        for input in inputs.into_values() {
            if let Some(other) = input.other {
                of_variant.n_contradicted += input.n_examples as usize;
                of_variant
                    .pairs
                    .push((input.first as usize, other as usize));
            }
        }
        of_variant.pairs.sort_unstable();
        of_variant.pairs.truncate(MAX_PAIRS);
    }

    /// What was noticed of each variant, when all cases are added.
    pub(crate) fn settled(mut self) -> Vec<OfVariant> {
        self.settle();
        self.variants
    }
}

/// A sentence for each slip; several variants with the same contradictions share one.
pub(crate) fn warnings(plan: &Plan, noticed: &[OfVariant]) -> Vec<String> {
    let name = |index: usize| format!("`{}`", plan.variants[index].name);
    let mut warnings = Vec::new();
    for (index, it) in noticed.iter().enumerate() {
        if 0 < it.n_end_in_space {
            warnings.push(format!(
                "warning: {} of {} prompts of {} end in a space, after which most models write \
                 badly: their words begin with one",
                it.n_end_in_space,
                it.n_continued,
                name(index)
            ));
        }
    }
    let of = |it: &OfVariant| (it.n_contradicted, it.pairs.clone());
    for (index, it) in noticed.iter().enumerate() {
        let is_told = noticed[..index].iter().any(|before| of(before) == of(it));
        if it.n_contradicted == 0 || is_told {
            continue;
        }
        let alike = (index..noticed.len()).filter(|other| of(&noticed[*other]) == of(it));
        let names: Vec<String> = alike.map(name).collect();
        let pairs: Vec<String> = it.pairs.iter().map(|pair| pair_text(plan, *pair)).collect();
        warnings.push(format!(
            "warning: in {}, {} examples have the prompt of another example but not its target, \
             so not all of them can come out right: {}",
            names.join(", "),
            it.n_contradicted,
            pairs.join("; ")
        ));
    }
    warnings
}

fn pair_text(plan: &Plan, (a, b): (usize, usize)) -> String {
    let [a, b] = [a, b].map(|it| {
        let id = escape::head(&plan.examples[it].id, 40);
        format!("`{id}` (line {})", plan.row(it).source_line)
    });
    format!("{a} and {b}")
}

/// A digest in which no two lists of texts are alike.
fn digest<'t>(texts: impl Iterator<Item = &'t str>) -> u64 {
    let mut hash = blake3::Hasher::new();
    for text in texts {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    let mut first = [0; 8];
    hash.finalize_xof().fill(&mut first);
    u64::from_le_bytes(first)
}
