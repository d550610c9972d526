//! Compares two runs, or two variants of one run, from their evidence.
//!
//! Within a model, every variant that both sides have is paired with itself by example, for
//! every metric that both sides compute alike. P-values are adjusted by Holm over the pairs of
//! one model and metric; only the candidate's primary metric is confirmatory, with the
//! candidate's margin. What takes no part is listed, never dropped: examples with their cause,
//! variants, models and metrics by side.

use crate::metric::{Kind, Metric, Units};
use crate::stats::{self, Direction, Verdict};

use super::difference::{self, Outcome};
use super::evidence::{Evidence, ModelEvidence};
use super::pairing::{self, Cause, Cells, Paired, Rows, Sides};
use super::run_comparison::{
    CellPair, CompareRunsError, Described, Dominant, Gains, ModelDifference, ModelPair,
    PairedComparison, Redefined, RunComparison, RunName, RunsOptions,
};

/// Changed, new and missing rows above this share of the candidate's rows need consent.
pub const MAX_ROW_CHANGES: f64 = 0.10;

/// How many ids a message lists.
const SHOWN: usize = 5;

/// Compares every variant of `candidate` with the same variant of `reference`.
///
/// Models pair by name. If none does and each side has one model, those two are a pair: a model
/// that was only renamed is still the same.
///
/// # Errors
///
/// [`CompareRunsError`] if a side is unfinished or not whole, if the sides share no model,
/// variant, metric or row, and for another model or other rows without consent in `options`.
pub fn runs(
    candidate: &Evidence,
    reference: &Evidence,
    options: &RunsOptions,
) -> Result<RunComparison, CompareRunsError> {
    let sides = Sides {
        candidate,
        reference,
    };
    sides.check()?;
    let models = sides.models(*options)?;
    let rows = sides.rows(*options)?;
    let names =
        |it: &Evidence| -> Vec<String> { it.variants.iter().map(|it| it.name.clone()).collect() };
    let (ours, theirs) = (names(candidate), names(reference));
    let variants: Vec<(usize, usize)> = (0..ours.len())
        .filter_map(|it| Some((it, reference.variant(&ours[it])?)))
        .collect();
    if variants.is_empty() {
        return Err(nothing_in_common("variant", &ours, &theirs));
    }
    let mut comparison = compared(sides, &models, &rows, &variants)?;
    comparison.new_variants = only_in(&ours, &theirs);
    comparison.missing_variants = only_in(&theirs, &ours);
    let is_edited = |(ours, theirs): &(usize, usize)| {
        candidate.variants[*ours].template_digest != reference.variants[*theirs].template_digest
    };
    let edited = variants.iter().filter(|it| is_edited(it));
    comparison.edited_variants = edited.map(|it| ours[it.0].clone()).collect();
    Ok(comparison)
}

/// Compares variant `candidate` with variant `reference` of one run, on every model.
///
/// # Errors
///
/// [`CompareRunsError`] if the run is unfinished or not whole, or has no such variant.
pub fn variants_of(
    evidence: &Evidence,
    candidate: &str,
    reference: &str,
) -> Result<RunComparison, CompareRunsError> {
    let sides = Sides {
        candidate: evidence,
        reference: evidence,
    };
    sides.check()?;
    let index = |name: &str| {
        let known = || evidence.variants.iter().map(|it| it.name.clone()).collect();
        let found = evidence.variant(name);
        found.ok_or_else(|| CompareRunsError::UnknownVariant {
            run: evidence.run.clone(),
            variant: name.to_owned(),
            known: known(),
        })
    };
    let pair = (index(candidate)?, index(reference)?);
    let models = sides.models(RunsOptions::default())?;
    let rows = sides.rows(RunsOptions::default())?;
    compared(sides, &models, &rows, &[pair])
}

impl<'a> Sides<'a> {
    fn check(self) -> Result<(), CompareRunsError> {
        for side in [self.candidate, self.reference] {
            let run = || side.run.clone();
            side.check()
                .map_err(|source| CompareRunsError::Evidence { run: run(), source })?;
            if !side.is_finished {
                return Err(CompareRunsError::Unfinished { run: run() });
            }
        }
        Ok(())
    }

    /// Indices of the models that pair.
    fn models(self, options: RunsOptions) -> Result<Vec<(usize, usize)>, CompareRunsError> {
        let (ours, theirs) = (&self.candidate.models, &self.reference.models);
        let mut pairs: Vec<(usize, usize)> = (0..ours.len())
            .filter_map(|it| Some((it, self.reference.model(&ours[it].name)?)))
            .collect();
        if pairs.is_empty() && ours.len() == 1 && theirs.len() == 1 {
            pairs.push((0, 0));
        }
        if pairs.is_empty() {
            let names =
                |list: &[ModelEvidence]| list.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
            return Err(nothing_in_common("model", &names(ours), &names(theirs)));
        }
        for (one, other) in &pairs {
            let differences = model_differences(&ours[*one], &theirs[*other]);
            if !differences.is_empty() && !options.across_models {
                return Err(CompareRunsError::OtherModel {
                    model: ours[*one].name.clone(),
                    run: self.reference.run.clone(),
                    differences,
                });
            }
        }
        Ok(pairs)
    }

    fn rows(self, options: RunsOptions) -> Result<Rows, CompareRunsError> {
        let rows = Rows::of(self);
        let first = |list: &mut dyn Iterator<Item = &str>| -> Vec<String> {
            list.take(SHOWN).map(str::to_owned).collect()
        };
        if rows.both.is_empty() {
            let ids = |it: &'a Evidence| first(&mut it.examples.ids());
            let (ours, theirs) = (ids(self.candidate), ids(self.reference));
            return Err(nothing_in_common("row", &ours, &theirs));
        }
        let n_rows = self.candidate.examples.len();
        let is_much = MAX_ROW_CHANGES * (n_rows as f64) < rows.unpaired.len() as f64;
        if is_much && !options.common_rows {
            let count = |cause| rows.unpaired.iter().filter(|it| it.cause == cause).count();
            return Err(CompareRunsError::OtherRows {
                n_rows,
                n_changed: count(Cause::FieldsChanged),
                n_new: count(Cause::OnlyInCandidate),
                n_missing: count(Cause::OnlyInReference),
                examples: first(&mut rows.unpaired.iter().map(|it| it.example_id.as_str())),
            });
        }
        Ok(rows)
    }
}

fn nothing_in_common(
    what: &'static str,
    candidate: &[String],
    reference: &[String],
) -> CompareRunsError {
    CompareRunsError::NothingInCommon {
        what,
        candidate: candidate.to_vec(),
        reference: reference.to_vec(),
    }
}

fn only_in(one: &[String], other: &[String]) -> Vec<String> {
    let own = one.iter().filter(|it| !other.contains(it));
    own.cloned().collect()
}

fn model_differences(one: &ModelEvidence, other: &ModelEvidence) -> Vec<ModelDifference> {
    let table = [
        (ModelDifference::Weights, one.digest != other.digest),
        (
            ModelDifference::Tokenizer,
            one.tokenizer_digest != other.tokenizer_digest,
        ),
        (ModelDifference::Numerics, one.numerics != other.numerics),
        (
            ModelDifference::ScoringVersion,
            one.scoring_version != other.scoring_version,
        ),
    ];
    let differing = table.into_iter().filter(|it| it.1);
    differing.map(|it| it.0).collect()
}

/// Metrics of either side: those computed alike by index, the others by name.
struct Metrics {
    both: Vec<(usize, usize)>,
    redefined: Vec<Redefined>,
    new: Vec<String>,
    missing: Vec<String>,
}

impl Metrics {
    fn of(sides: Sides<'_>) -> Self {
        let mut metrics = Self {
            both: Vec::new(),
            redefined: Vec::new(),
            new: Vec::new(),
            missing: Vec::new(),
        };
        for (index, it) in sides.candidate.metrics.iter().enumerate() {
            let ours = &it.metric;
            let Some(other) = sides.reference.metric(&ours.name) else {
                metrics.new.push(ours.name.clone());
                continue;
            };
            let theirs = &sides.reference.metrics[other].metric;
            let (candidate, reference) = (ours.definition(), theirs.definition());
            if candidate == reference {
                metrics.both.push((index, other));
            } else {
                metrics.redefined.push(Redefined {
                    metric: ours.name.clone(),
                    candidate,
                    reference,
                });
            }
        }
        for it in &sides.reference.metrics {
            if sides.candidate.metric(&it.metric.name).is_none() {
                metrics.missing.push(it.metric.name.clone());
            }
        }
        metrics
    }
}

fn compared(
    sides: Sides<'_>,
    models: &[(usize, usize)],
    rows: &Rows,
    variants: &[(usize, usize)],
) -> Result<RunComparison, CompareRunsError> {
    let metrics = Metrics::of(sides);
    if metrics.both.is_empty() {
        let names = |it: &Evidence| -> Vec<String> {
            let names = it.metrics.iter().map(|it| it.metric.name.clone());
            names.collect()
        };
        let (ours, theirs) = (names(sides.candidate), names(sides.reference));
        return Err(nothing_in_common("metric", &ours, &theirs));
    }
    let (mut comparisons, mut described) = (Vec::new(), Vec::new());
    for &(one, other) in models {
        for &indices in &metrics.both {
            let is_descriptive = sides.candidate.metrics[indices.0].metric.is_descriptive;
            let cells = variants.iter().map(|it| Cells {
                candidate: (one, it.0),
                reference: (other, it.1),
            });
            if is_descriptive {
                described.extend(cells.map(|it| describe(sides, rows, it, indices)));
            } else {
                comparisons.extend(family(sides, rows, cells, indices));
            }
        }
    }
    let name = |it: &Evidence| RunName {
        experiment: it.experiment.clone(),
        run: it.run.clone(),
    };
    let names = |list: &[ModelEvidence], paired: &dyn Fn(usize) -> bool| -> Vec<String> {
        let rest = list.iter().enumerate().filter(|it| !paired(it.0));
        rest.map(|it| it.1.name.clone()).collect()
    };
    let model_pair = |(one, other): &(usize, usize)| {
        let (one, other) = (
            &sides.candidate.models[*one],
            &sides.reference.models[*other],
        );
        ModelPair {
            candidate: one.name.clone(),
            reference: other.name.clone(),
            differences: model_differences(one, other),
        }
    };
    Ok(RunComparison {
        candidate: name(sides.candidate),
        reference: name(sides.reference),
        models: models.iter().map(model_pair).collect(),
        new_models: names(&sides.candidate.models, &|it| {
            models.iter().any(|pair| pair.0 == it)
        }),
        missing_models: names(&sides.reference.models, &|it| {
            models.iter().any(|pair| pair.1 == it)
        }),
        new_variants: Vec::new(),
        missing_variants: Vec::new(),
        edited_variants: Vec::new(),
        new_metrics: metrics.new,
        missing_metrics: metrics.missing,
        redefined_metrics: metrics.redefined,
        n_common_rows: rows.both.len(),
        unpaired_rows: rows.unpaired.clone(),
        primary: sides.candidate.primary.clone(),
        comparisons,
        described,
    })
}

/// The comparisons of one model and metric, with p-values adjusted over all of them.
fn family(
    sides: Sides<'_>,
    rows: &Rows,
    cells: impl Iterator<Item = Cells>,
    metrics: (usize, usize),
) -> Vec<PairedComparison> {
    let mut family: Vec<PairedComparison> = cells
        .map(|cells| compare_cells(sides, rows, cells, metrics))
        .collect();
    let p_values: Vec<(usize, f64)> = family
        .iter()
        .enumerate()
        .filter_map(|(i, it)| Some((i, it.difference.as_ref()?.p_value()?)))
        .collect();
    let adjusted = stats::holm(&p_values.iter().map(|it| it.1).collect::<Vec<f64>>());
    for ((index, _), adjusted) in p_values.iter().zip(adjusted) {
        family[*index].p_adjusted = Some(adjusted);
    }
    for it in &mut family {
        if let Some(difference) = &it.difference {
            it.verdict = stats::decide(difference, it.p_adjusted, it.margin);
        }
    }
    family
}

/// One pair; the adjusted p-value and the verdict are left to the family.
fn compare_cells(
    sides: Sides<'_>,
    rows: &Rows,
    cells: Cells,
    metrics: (usize, usize),
) -> PairedComparison {
    let metric = &sides.candidate.metrics[metrics.0].metric;
    let mut paired = Paired::of(sides, rows, cells, metrics);
    let gains = gains(metric, &paired);
    let clusters = pairing::clusters(sides, &paired.examples);
    let outcome = difference::outcome(
        metric,
        (&paired.candidate, &paired.reference),
        clusters.as_deref(),
        paired.is_identical,
    );
    let is_confirmatory = metric.name == sides.candidate.primary;
    let mut comparison = PairedComparison {
        cells: CellPair::of(sides, cells),
        metric: metric.name.clone(),
        unit: metric.unit,
        direction: metric.direction,
        range: metric.range,
        is_confirmatory,
        candidate_value: None,
        reference_value: None,
        difference: None,
        refusal: None,
        p_adjusted: None,
        margin: sides.candidate.margin.filter(|_| is_confirmatory),
        verdict: Verdict::Inconclusive,
        n_pairs: paired.examples.len(),
        unpaired: std::mem::take(&mut paired.unpaired),
        smallest_difference: None,
        n_to_settle: None,
        spread_of_gains: None,
        dominant: None,
    };
    match outcome {
        Err(refusal) => comparison.refusal = Some(refusal),
        Ok(Outcome {
            candidate,
            reference,
            difference,
        }) => {
            comparison.candidate_value = Some(candidate);
            comparison.reference_value = Some(reference);
            comparison.smallest_difference = difference::smallest_difference(&difference);
            comparison.n_to_settle = difference::n_to_settle(&difference);
            comparison.spread_of_gains = gains;
            comparison.dominant = difference.dominant_unit().and_then(|(unit, share)| {
                let clusters = clusters.as_deref();
                let unit = pairing::unit_name(sides, &paired.examples, clusters, unit)?;
                Some(Dominant { unit, share })
            });
            comparison.difference = Some(difference);
        }
    }
    comparison
}

impl CellPair {
    fn of(sides: Sides<'_>, cells: Cells) -> Self {
        let (model, variant) = cells.candidate;
        let (reference_model, reference) = cells.reference;
        Self {
            candidate_model: sides.candidate.models[model].name.clone(),
            candidate: sides.candidate.variants[variant].name.clone(),
            reference_model: sides.reference.models[reference_model].name.clone(),
            reference: sides.reference.variants[reference].name.clone(),
        }
    }

    pub(super) fn places(&self, sides: Sides<'_>) -> Option<Cells> {
        Some(Cells {
            candidate: (
                sides.candidate.model(&self.candidate_model)?,
                sides.candidate.variant(&self.candidate)?,
            ),
            reference: (
                sides.reference.model(&self.reference_model)?,
                sides.reference.variant(&self.reference)?,
            ),
        })
    }
}

/// How the gains of single examples lie; of a yes or no the flips say more.
fn gains(metric: &Metric, paired: &Paired) -> Option<Gains> {
    if !matches!(metric.kind(), Kind::Mean | Kind::Ratio) {
        return None;
    }
    let sign = match metric.direction {
        Direction::HigherIsBetter => 1.0,
        Direction::LowerIsBetter => -1.0,
    };
    let values = paired.candidate.numbers().zip(paired.reference.numbers());
    let gains = values.map(|(one, other)| Some(sign * (one? - other?)));
    let mut gains = gains.collect::<Option<Vec<f64>>>()?;
    gains.sort_by(f64::total_cmp);
    let n = gains.len();
    let middle = gains.get(n / 2)?;
    let median = if n % 2 == 0 {
        f64::midpoint(gains[n / 2 - 1], *middle)
    } else {
        *middle
    };
    let share = |is_counted: &dyn Fn(f64) -> bool| {
        gains.iter().filter(|it| is_counted(**it)).count() as f64 / n as f64
    };
    Some(Gains {
        median,
        share_improved: share(&|it| 0.0 < it),
        share_worsened: share(&|it| it < 0.0),
    })
}

fn describe(sides: Sides<'_>, rows: &Rows, cells: Cells, metrics: (usize, usize)) -> Described {
    let metric = &sides.candidate.metrics[metrics.0].metric;
    let paired = Paired::of(sides, rows, cells, metrics);
    let value = |units: &Units| {
        let estimate = metric.measure(units, None, units.examples.len()).estimate;
        estimate.map(|it| it.value)
    };
    Described {
        cells: CellPair::of(sides, cells),
        metric: metric.name.clone(),
        candidate_value: value(&paired.candidate),
        reference_value: value(&paired.reference),
        instead: metric.instead(),
    }
}
