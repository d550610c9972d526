//! What a paired comparison needs of a run: one number per example, and what it belongs to.
//!
//! [`Evidence`] is plain data without texts: no prompt, no generation, no field of the dataset,
//! only their digests. Two runs, or two variants of one run, can be compared from it years
//! later without a model and without the dataset. It is made of a plan's scores in memory or
//! read from a file; [`Evidence::check`] says whether its parts fit together, and everything
//! that compares relies on that.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use crate::metric::{Metric, Source, Units, Value};
use crate::score::{Likelihood, Status};

use super::cases::{CaseRef, Cases};
use super::examples::{ExampleRef, Examples};

/// Everything about a run that a paired comparison needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// Name of the experiment.
    pub experiment: String,
    /// Id of the run.
    pub run: String,
    /// Whether every case was tried; an unfinished run is not compared.
    pub is_finished: bool,
    /// The experiment's seed.
    pub seed: u64,
    /// The metric that ranks the variants.
    pub primary: String,
    /// The variant that differences are shown against, if there is one.
    pub control: Option<String>,
    /// What counts as unchanged, in the unit of the primary metric.
    pub margin: Option<f64>,
    /// The models, in plan order.
    pub models: Vec<ModelEvidence>,
    /// The variants, in plan order.
    pub variants: Vec<VariantEvidence>,
    /// The metrics, in the order of the tables.
    pub metrics: Vec<MetricEvidence>,
    /// The examples, in plan order.
    pub examples: Examples,
    /// For each model and, within it, each variant: one entry per example.
    pub cells: Vec<Cases>,
}

/// What the answers of one model depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelEvidence {
    /// Its name in the experiment.
    pub name: String,
    /// Digest of weights, tokenizer and adapter.
    pub digest: String,
    /// Digest of the tokenizer alone.
    pub tokenizer_digest: String,
    /// The arithmetic that computed the answers.
    pub numerics: String,
    /// The version of that arithmetic.
    pub scoring_version: u32,
}

/// One variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariantEvidence {
    /// Its name in the experiment.
    pub name: String,
    /// Digest of its templates.
    pub template_digest: String,
}

/// One metric.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricEvidence {
    /// How it is computed and read.
    pub metric: Metric,
    /// Stands in the experiment file, as opposed to being computed anyway.
    pub is_declared: bool,
}

/// One example, without its texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExampleEvidence {
    /// Unique in its dataset.
    pub id: String,
    /// Digest of its fields.
    pub row_digest: ShortDigest,
    /// Digest of the target, if there is one; with choices, of the right one.
    pub target_digest: Option<ShortDigest>,
    /// Digest of the references beside the target, if there are any.
    pub references_digest: Option<ShortDigest>,
    /// What it belongs to, if clusters are named.
    pub cluster: Option<String>,
}

/// One example under one variant on one model, its repeats merged.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseEvidence {
    /// Whether all its answers are there; of several repeats, the first that failed says why not.
    pub status: Status,
    /// Digest of all requests for likelihoods of targets and choices; `None` if some could not be made.
    pub likelihood_digest: Option<ShortDigest>,
    /// Digest of all requests for what choices are worth without the example; `None` if there
    /// are none.
    pub prior_digest: Option<ShortDigest>,
    /// Digest of all requests for generations; `None` if some could not be made.
    pub generation_digest: Option<ShortDigest>,
    /// The target's likelihood, from which the metrics of likelihoods follow.
    pub likelihood: Option<Likelihood>,
    /// One entry per metric that is not read from [`CaseEvidence::likelihood`], in their order.
    pub values: Vec<Option<Value>>,
}

/// The first half of a blake3 digest: enough to tell contents apart, half as long to store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ShortDigest(pub [u8; 16]);

impl ShortDigest {
    /// Shortens a digest.
    pub fn shortened(digest: &[u8; 32]) -> Self {
        let (first, _) = digest.split_at(16);
        Self(std::array::from_fn(|i| first[i]))
    }

    /// The digest of a list of texts or digests; no two lists share an encoding.
    pub fn of<T: AsRef<[u8]>>(parts: impl IntoIterator<Item = T>) -> Self {
        let mut hash = blake3::Hasher::new();
        for part in parts {
            let part = part.as_ref();
            hash.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        Self::shortened(hash.finalize().as_bytes())
    }
}

impl fmt::Display for ShortDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A text that is no short digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a digest of 32 hex digits in small letters")]
pub struct NotADigest {
    /// The text.
    pub text: String,
}

impl FromStr for ShortDigest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; 16];
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let is_right = rest.is_empty()
            && pairs.len() == bytes.len()
            && bytes.iter_mut().zip(pairs).all(|(byte, [high, low])| {
                let (high, low) = (digit(*high), digit(*low));
                let (Some(high), Some(low)) = (high, low) else {
                    return false;
                };
                *byte = 16 * high + low;
                true
            });
        is_right.then_some(Self(bytes)).ok_or_else(|| NotADigest {
            text: text.chars().take(40).collect(),
        })
    }
}

/// Why evidence does not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct EvidenceError {
    /// Which part.
    pub place: String,
    /// What is wrong with it.
    pub reason: String,
}

fn refuse(place: impl Into<String>, reason: impl Into<String>) -> Result<(), EvidenceError> {
    Err(EvidenceError {
        place: place.into(),
        reason: reason.into(),
    })
}

impl Evidence {
    /// The cases of one variant on one model, one per example.
    ///
    /// # Panics
    ///
    /// If there is no such cell; indices below the lengths of the lists are safe once
    /// [`Evidence::check`] has passed.
    pub fn cell(&self, model: usize, variant: usize) -> &Cases {
        &self.cells[model * self.variants.len() + variant]
    }

    /// What one example under a variant on a model contributes to a metric.
    pub fn value(&self, metric: usize, case: CaseRef<'_>) -> Option<Value> {
        let MetricEvidence { metric: it, .. } = &self.metrics[metric];
        if is_of_likelihood(it) {
            return it.likelihood_value(&case.likelihood()?);
        }
        case.value(self.slot(metric))
    }

    /// The values of one metric of one variant on one model.
    pub fn units(&self, model: usize, variant: usize, metric: usize) -> Units {
        let cases = self.cell(model, variant).iter().enumerate();
        let values = cases.filter_map(|(example, case)| Some((example, self.value(metric, case)?)));
        Units::new(self.metrics[metric].metric.kind(), values)
    }

    /// Each example's cluster, if all have one.
    pub fn clusters(&self) -> Option<Vec<String>> {
        let clusters = self.examples.iter().map(ExampleRef::cluster);
        clusters.map(|it| it.map(str::to_owned)).collect()
    }

    /// Whether two variants sent equal requests for every example, as far as `metric` reads
    /// their answers.
    pub fn is_identical(&self, model: usize, metric: usize, a: usize, b: usize) -> bool {
        let metric = &self.metrics[metric].metric;
        let (a, b) = (self.cell(model, a), self.cell(model, b));
        a.iter().zip(b.iter()).all(|(a, b)| {
            let digest = a.requests(metric);
            digest.is_some() && digest == b.requests(metric)
        })
    }

    /// Where a metric's own values stand in [`CaseEvidence::values`].
    fn slot(&self, metric: usize) -> usize {
        let before = self.metrics[..metric].iter();
        before.filter(|it| !is_of_likelihood(&it.metric)).count()
    }

    /// The index of the model of that name.
    pub fn model(&self, name: &str) -> Option<usize> {
        self.models.iter().position(|it| it.name == name)
    }

    /// The index of the variant of that name.
    pub fn variant(&self, name: &str) -> Option<usize> {
        self.variants.iter().position(|it| it.name == name)
    }

    /// The index of the first metric of that name.
    pub fn metric(&self, name: &str) -> Option<usize> {
        self.metrics.iter().position(|it| it.metric.name == name)
    }

    /// Whether every list has the length, every name is there once, and every value is finite
    /// and of its metric's kind.
    ///
    /// # Errors
    ///
    /// [`EvidenceError`] with the first part that does not fit.
    pub fn check(&self) -> Result<(), EvidenceError> {
        unique("models", self.models.iter().map(|it| it.name.as_str()))?;
        unique("variants", self.variants.iter().map(|it| it.name.as_str()))?;
        unique("examples", self.examples.ids())?;
        if self.margin.is_some_and(|it| !it.is_finite() || it < 0.0) {
            return refuse("margin", "expected a finite number, 0 or more");
        }
        for MetricEvidence { metric, .. } in &self.metrics {
            let ends = metric.range.map_or([0.0, 0.0], |it| [it.low, it.high]);
            if !(ends[0].is_finite() && ends[1].is_finite() && ends[0] <= ends[1]) {
                return refuse(
                    format!("metric `{}`", metric.name),
                    "its range is no interval",
                );
            }
        }
        let n_cells = self.models.len() * self.variants.len();
        if self.cells.len() != n_cells {
            let reason = format!("expected {n_cells}, got {}", self.cells.len());
            return refuse("cells", reason);
        }
        let own: Vec<&Metric> = self
            .metrics
            .iter()
            .map(|it| &it.metric)
            .filter(|it| !is_of_likelihood(it))
            .collect();
        for (index, cell) in self.cells.iter().enumerate() {
            let model = &self.models[index / self.variants.len()].name;
            let variant = &self.variants[index % self.variants.len()].name;
            let place = format!("variant `{variant}` on `{model}`");
            if cell.len() != self.examples.len() {
                let reason = format!(
                    "expected {} examples, got {}",
                    self.examples.len(),
                    cell.len()
                );
                return refuse(place, reason);
            }
            for (case, id) in cell.iter().zip(self.examples.ids()) {
                if let Err(reason) = check_case(case, &own) {
                    return refuse(format!("{place}, example `{id}`"), reason);
                }
            }
        }
        Ok(())
    }
}

/// Which of a case's digests is that of the requests whose answers `metric` reads.
pub(super) fn digest_of_requests(
    metric: &Metric,
    of_likelihood: Option<ShortDigest>,
    of_priors: Option<ShortDigest>,
    of_generation: Option<ShortDigest>,
) -> Option<ShortDigest> {
    match metric.source {
        // A declared metric of choices takes their priors into account.
        Source::Choices { .. } if metric.recipe.is_some() => {
            let digests = [of_likelihood?, of_priors?];
            Some(ShortDigest::of(digests.map(|it| it.0)))
        }
        Source::Likelihood(_) | Source::Choices { .. } => of_likelihood,
        Source::Judgement { .. } | Source::Corpus { .. } => of_generation,
    }
}

/// `metrics` are those with values of their own.
fn check_case(case: CaseRef<'_>, metrics: &[&Metric]) -> Result<(), String> {
    if let Some(it) = case.likelihood()
        && !(it.loglikelihood.is_finite() && 0 < it.n_tokens)
    {
        return Err("its likelihood is no finite number over at least one token".to_owned());
    }
    if case.n_values() != metrics.len() {
        let (expected, got) = (metrics.len(), case.n_values());
        return Err(format!("expected {expected} values, got {got}"));
    }
    for (slot, metric) in metrics.iter().enumerate() {
        let Some(value) = case.value(slot) else {
            continue;
        };
        if value.kind() != metric.kind() {
            return Err(format!("its value of `{}` is of another kind", metric.name));
        }
        if let Value::Statistics(list) = &value
            && list.len() != metric.source.n_statistics()
        {
            let (expected, got) = (metric.source.n_statistics(), list.len());
            let name = &metric.name;
            return Err(format!(
                "expected {expected} statistics of `{name}`, got {got}"
            ));
        }
        if !value.is_finite() {
            return Err(format!("its value of `{}` is not finite", metric.name));
        }
    }
    Ok(())
}

/// Whether a metric follows from the likelihood of the target.
fn is_of_likelihood(metric: &Metric) -> bool {
    matches!(metric.source, Source::Likelihood(_))
}

fn unique<'a>(place: &str, names: impl Iterator<Item = &'a str>) -> Result<(), EvidenceError> {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return refuse(place, format!("`{name}` stands there twice"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
