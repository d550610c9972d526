//! From a plan's scores to everything a report says: pure, no printing.

use std::collections::HashMap;

use harness::compare::{self, Comparison, Family};
use harness::experiment::MetricSpec;
use harness::metric::{Facts, Metric, Units};
use harness::plan::{CaseKey, Plan};
use harness::request::Digest;
use harness::score::Score;
use harness::table::{Measured, RankingRecord, ToSettle};
use harness::text_metric::{ReferenceCount, TextJudge};

/// Digest of all requests of a case, by its place in the plan.
pub(crate) type RequestDigests = HashMap<CaseKey, Digest>;

/// The metrics of a run and what they show.
pub(crate) struct Analysis {
    pub(crate) metrics: Vec<Metric>,
    pub(crate) measured: Vec<Measured>,
    pub(crate) comparisons: Vec<Comparison>,
    pub(crate) rankings: Vec<RankingRecord>,
}

/// The metrics that a plan leads to.
pub(crate) fn metrics(plan: &Plan, judges: &[TextJudge]) -> Vec<Metric> {
    let facts = Facts {
        has_target: plan.has_target(),
        has_choices: plan.has_choices(),
        n_fixed_choices: plan.n_fixed_choices(),
        n_repeats: plan.n_generations(),
        judges,
        declared: &plan.experiment.spec.metrics,
        references: ReferenceCount::of(plan.answers.iter().map(|it| it.references.len())),
    };
    Metric::list(&facts)
}

/// Whether the experiment file asks for a metric of that name.
pub(crate) fn is_declared(metric: &Metric, specs: &[MetricSpec]) -> bool {
    specs.iter().any(|it| it.name == metric.name)
}

/// Measures and compares; `scores` in plan order, those of a whole run.
pub(crate) fn analyse(
    plan: &Plan,
    judges: &[TextJudge],
    scores: &[Score],
    requests: &RequestDigests,
) -> Analysis {
    let metrics = metrics(plan, judges);
    let primary_name = plan.primary();
    let primary = metrics
        .iter()
        .position(|it| it.name == primary_name)
        .unwrap_or(0);
    let clusters = plan.clusters();
    let mut analysis = Analysis {
        metrics,
        measured: Vec::new(),
        comparisons: Vec::new(),
        rankings: Vec::new(),
    };
    for model in 0..plan.models.len() {
        for metric in 0..analysis.metrics.len() {
            let units: Vec<Units> = (0..plan.variants.len())
                .map(|variant| {
                    let of_variant =
                        |it: &&Score| (it.key.model, it.key.variant) == (model, variant);
                    let scores: Vec<&Score> = scores.iter().filter(of_variant).collect();
                    analysis.metrics[metric].units(&scores)
                })
                .collect();
            let n_planned = plan.examples.len();
            for (variant, units) in units.iter().enumerate() {
                let measurement =
                    analysis.metrics[metric].measure(units, clusters.as_deref(), n_planned);
                analysis.measured.push(Measured {
                    model,
                    variant,
                    metric,
                    measurement,
                });
            }
            if !analysis.metrics[metric].is_descriptive {
                let identical = |a: usize, b: usize| is_identical(plan, requests, model, a, b);
                let family = Family {
                    model,
                    metric_index: metric,
                    metric: &analysis.metrics[metric],
                    units: &units,
                    control: plan.control(),
                    clusters: clusters.as_deref(),
                    margin: (metric == primary)
                        .then(|| {
                            plan.experiment
                                .spec
                                .experiment
                                .margin
                                .map(harness::experiment::NonNegative::get)
                        })
                        .flatten(),
                    identical: &identical,
                };
                let comparisons = compare::variants(&family);
                if metric == primary {
                    let ranking = ranking(plan, &family, &comparisons);
                    analysis.rankings.push(ranking);
                }
                analysis.comparisons.extend(comparisons);
            }
        }
    }
    analysis
}

/// Whether two variants sent equal requests for every example.
fn is_identical(plan: &Plan, requests: &RequestDigests, model: usize, a: usize, b: usize) -> bool {
    let n_repeats = plan.n_repeats();
    (0..plan.examples.len()).all(|example| {
        (0..n_repeats).all(|repeat| {
            let digest = |variant| {
                requests.get(&CaseKey {
                    model,
                    variant,
                    example,
                    repeat,
                })
            };
            digest(a).is_some() && digest(a) == digest(b)
        })
    })
}

fn ranking(plan: &Plan, family: &Family<'_>, comparisons: &[Comparison]) -> RankingRecord {
    let seed = plan.experiment.spec.experiment.seed;
    let name = |variant: usize| plan.variants[variant].name.clone();
    let to_settle = comparisons.iter().filter_map(|it| {
        let n_units = it.n_to_settle?;
        Some(ToSettle {
            variant_a: name(it.candidate),
            variant_b: name(it.reference),
            n_units,
        })
    });
    RankingRecord {
        model: plan.models[family.model].name.clone(),
        luck_of_best: (1 < plan.variants.len())
            .then(|| compare::luck_of_best(family, seed).ok())
            .flatten(),
        to_settle: to_settle.collect(),
    }
}
