//! The lines under a table: what the numbers above them do not show.

use crate::metric::Unit;

use super::number::{self, amount, count, counted, is_zero, share};
use super::ranking::{Ranking, listed};
use super::{ReportInput, VariantInput};

/// Labels whose priors fit a line.
const MAX_LABELS: usize = 6;

/// A share of generations cut at `max_tokens` above which `stop` is worth a look.
const CUT_SHARE: f64 = 0.20;

/// Everything that a reader of the ranking should know, most important first.
pub(super) fn notes(ranking: &Ranking<'_>) -> Vec<String> {
    let priors = each(&ranking.model.variants, label_prior);
    around(ranking, priors)
}

/// The same where the label priors are told elsewhere.
pub(super) fn without_label_priors(ranking: &Ranking<'_>) -> Vec<String> {
    around(ranking, std::iter::empty())
}

fn around(ranking: &Ranking<'_>, priors: impl Iterator<Item = String>) -> Vec<String> {
    let variants = &ranking.model.variants;
    let mut notes = Vec::new();
    notes.extend(luck(ranking));
    notes.extend(trivial(ranking));
    notes.extend(priors);
    notes.extend(unscored(variants));
    notes.extend(unpaired(ranking));
    notes.extend(not_comparable(ranking));
    notes.extend(each(variants, dropped_shots));
    notes.extend(each(variants, truncated));
    notes.extend(each(variants, boundary_merges));
    notes.extend(each(variants, ties));
    notes.extend(each(variants, cut_generations));
    notes.extend(each(variants, empty_generations));
    notes
}

fn each(
    variants: &[VariantInput],
    note: impl Fn(&VariantInput) -> Option<String>,
) -> impl Iterator<Item = String> {
    variants
        .iter()
        .filter_map(note)
        .collect::<Vec<String>>()
        .into_iter()
}

/// How much less than shown the best variant promises.
fn luck(ranking: &Ranking<'_>) -> Option<String> {
    let ReportInput { status, .. } = ranking.input;
    let unit = ranking.input.primary().unit;
    let luck = ranking
        .model
        .luck_of_best
        .filter(|_| status.is_finished())?;
    let n = ranking.model.variants.len();
    (0.0 < luck && !is_zero(unit, luck) && 1 < n).then(|| {
        let less = amount(unit, luck);
        format!("Best of {n}: expect at least {less} less on new rows.")
    })
}

/// What takes no prompt at all: without it, an accuracy says little.
fn trivial(ranking: &Ranking<'_>) -> Option<String> {
    let values = |name: &str| -> Option<(f64, f64)> {
        let metrics = &ranking.input.metrics;
        let metric = metrics.iter().position(|it| it.name == name)?;
        let estimates = ranking.model.variants.iter();
        let values =
            estimates.filter_map(|it| Some(it.measurements[metric].estimate.as_ref()?.value));
        values.fold(None, |range, it| {
            let (low, high) = range.unwrap_or((it, it));
            Some((low.min(it), high.max(it)))
        })
    };
    let shown = |(low, high): (f64, f64)| {
        let [low, high] = [low, high].map(|it| number::value(Unit::Percent, it));
        if low == high {
            format!("{low} %")
        } else {
            format!("{low} to {high} %")
        }
    };
    let majority = values("acc_majority").map(shown);
    let no_context = values("acc_no_context").map(shown);
    let parts = [
        majority.map(|it| format!("the commonest label alone {it}")),
        no_context.map(|it| format!("the choices without any prompt {it}")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| format!("Trivial accuracy: {}.", parts.join(", ")))
}

/// What the prompt says of an example that says nothing.
fn label_prior(variant: &VariantInput) -> Option<String> {
    if variant.label_prior.is_empty() || MAX_LABELS < variant.label_prior.len() {
        return None;
    }
    let label = |(name, prior): &(String, f64)| {
        format!("{name} {} %", number::value(Unit::Percent, *prior))
    };
    let labels: Vec<String> = variant.label_prior.iter().map(label).collect();
    Some(format!(
        "Label prior of {}, for an input that says nothing: {}.",
        variant.name,
        labels.join(", ")
    ))
}

fn unscored(variants: &[VariantInput]) -> Option<String> {
    let n_unscored: usize = variants.iter().map(VariantInput::n_unscored).sum();
    if n_unscored == 0 {
        return None;
    }
    let n_cases: usize = variants.iter().map(|it| it.n_cases).sum();
    let of_variant = |variant: &VariantInput| -> Vec<String> {
        let one = |(status, n): &(crate::score::Status, usize)| {
            format!(
                "{} {} in {}",
                count(*n as u64),
                status.as_str(),
                variant.name
            )
        };
        variant.unscored.iter().map(one).collect()
    };
    let parts: Vec<String> = variants.iter().flat_map(of_variant).collect();
    let cases = counted(n_cases, "case");
    let n_unscored = count(n_unscored as u64);
    Some(format!(
        "Unscored: {n_unscored} of {cases} ({}).",
        parts.join(", ")
    ))
}

fn unpaired(ranking: &Ranking<'_>) -> Option<String> {
    let n = ranking
        .places
        .iter()
        .filter_map(|it| it.comparison)
        .map(|it| it.n_unpaired)
        .max()?;
    (0 < n).then(|| {
        let examples = counted(n, "example");
        format!("Comparisons leave out up to {examples} that only one side scored.")
    })
}

/// Variants whose targets were not the same tokens or bytes.
fn not_comparable(ranking: &Ranking<'_>) -> Option<String> {
    let is_refused = |it: &&super::ranking::Place<'_>| {
        it.comparison
            .is_some_and(|it| it.method == "not_comparable")
    };
    let places = ranking.places.iter().filter(is_refused);
    let names: Vec<&str> = places.map(|it| ranking.name(it.variant)).collect();
    let metric = &ranking.input.primary().name;
    let instead = if metric == "loglikelihood_per_token" {
        "; loglikelihood_per_byte divides by what no prompt changes"
    } else {
        ""
    };
    (!names.is_empty()).then(|| {
        format!(
            "Not compared: {} scored other targets or tokens by {metric}{instead}.",
            listed(&names)
        )
    })
}

fn dropped_shots(variant: &VariantInput) -> Option<String> {
    (0 < variant.n_dropped_shots).then(|| {
        format!(
            "Overflow: {} of {} lost shots to fit the model's context.",
            counted(variant.n_dropped_shots, "prompt"),
            variant.name
        )
    })
}

fn truncated(variant: &VariantInput) -> Option<String> {
    (0 < variant.n_truncated).then(|| {
        format!(
            "Overflow: {} of {} cut on the left to fit the model's context.",
            counted(variant.n_truncated, "prompt"),
            variant.name
        )
    })
}

fn boundary_merges(variant: &VariantInput) -> Option<String> {
    let n = variant.n_boundary_merges;
    (0 < n).then(|| {
        format!(
            "Boundary merges: in {} of {} of {} a token straddles prompt and target and is scored \
             with the target.",
            count(n as u64),
            counted(variant.n_likelihoods, "case"),
            variant.name
        )
    })
}

fn ties(variant: &VariantInput) -> Option<String> {
    (0 < variant.n_ties).then(|| {
        let cases = counted(variant.n_ties, "case");
        format!(
            "Ties: in {cases} of {} the lowest of equally likely choices counts.",
            variant.name
        )
    })
}

fn cut_generations(variant: &VariantInput) -> Option<String> {
    let (n_cut, n) = (variant.n_cut, variant.n_generations);
    (CUT_SHARE * (n as f64) < n_cut as f64).then(|| {
        format!(
            "Cut: {} of the generations of {} ended only at max_tokens; a `stop` text under \
             [generation] would end them where the answer does.",
            share(n_cut, n),
            variant.name
        )
    })
}

fn empty_generations(variant: &VariantInput) -> Option<String> {
    (0 < variant.n_empty).then(|| {
        format!(
            "Empty: {} of {} of {} hold no text; they are judged like any other.",
            number::count(variant.n_empty as u64),
            counted(variant.n_generations, "generation"),
            variant.name
        )
    })
}
