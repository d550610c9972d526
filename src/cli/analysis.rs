//! From a plan's scores to everything a report says: pure, no printing.

use harness::compare::{
    self, CaseEvidence, Cases, Comparison, Evidence, ExampleEvidence, Family, MetricEvidence,
    ModelEvidence, ShortDigest, VariantEvidence,
};
use harness::experiment::{MetricSpec, NonNegative};
use harness::metric::{Facts, Metric, Source, Units};
use harness::plan::Plan;
use harness::request::{Digest, SCORING_VERSION};
use harness::score::{Score, Status};
use harness::table::{Measured, RankingRecord, ToSettle};
use harness::text_metric::{ReferenceCount, TextJudge};

/// Digests of the requests of a case; `None` where some could not be made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CaseDigests {
    pub(crate) likelihood: Option<Digest>,
    pub(crate) priors: Option<Digest>,
    pub(crate) generation: Option<Digest>,
}

/// What was measured: the cases of a whole run, and under which id.
pub(crate) struct Measurements<'a> {
    pub(crate) run: &'a str,
    /// The arithmetic of each model.
    pub(crate) numerics: &'a [String],
    /// The metrics that the plan leads to.
    pub(crate) metrics: &'a [Metric],
    /// For each model and, within it, each variant: one entry per example.
    pub(crate) cells: Vec<Cases>,
}

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

/// What later comparisons need of a finished run.
pub(crate) fn evidence(plan: &Plan, measurements: Measurements<'_>) -> Evidence {
    let spec = &plan.experiment.spec;
    let model = |(index, it): (usize, &harness::plan::PlannedModel)| ModelEvidence {
        name: it.name.clone(),
        digest: it.model.digest.to_hex().to_string(),
        tokenizer_digest: it.model.tokenizer_digest.to_hex().to_string(),
        numerics: measurements
            .numerics
            .get(index)
            .cloned()
            .unwrap_or_default(),
        scoring_version: SCORING_VERSION,
    };
    let variant = |index: usize| VariantEvidence {
        name: plan.variants[index].name.clone(),
        template_digest: plan.template_digest(index).to_string(),
    };
    Evidence {
        experiment: spec.experiment.name.as_str().to_owned(),
        run: measurements.run.to_owned(),
        is_finished: true,
        seed: spec.experiment.seed,
        primary: plan.primary(),
        control: plan.control().map(|it| plan.variants[it].name.clone()),
        margin: spec.experiment.margin.map(NonNegative::get),
        models: plan.models.iter().enumerate().map(model).collect(),
        variants: (0..plan.variants.len()).map(variant).collect(),
        examples: (0..plan.examples.len())
            .map(|it| example(plan, it))
            .collect(),
        cells: measurements.cells,
        metrics: measurements
            .metrics
            .iter()
            .map(|metric| MetricEvidence {
                is_declared: is_declared(metric, &spec.metrics),
                metric: metric.clone(),
            })
            .collect(),
    }
}

fn example(plan: &Plan, index: usize) -> ExampleEvidence {
    let example = &plan.examples[index];
    let references = plan.answers[index].references.split_first();
    ExampleEvidence {
        id: example.id.clone(),
        row_digest: ShortDigest::shortened(&plan.row(index).digest),
        target_digest: references.map(|(target, _)| ShortDigest::of([target])),
        references_digest: references
            .filter(|(_, others)| !others.is_empty())
            .map(|(_, others)| ShortDigest::of(others)),
        cluster: example.cluster.clone(),
    }
}

/// One example from the scores of its repeats, each with the digests of its requests.
pub(crate) fn case(metrics: &[Metric], repeats: &[(Score, CaseDigests)]) -> CaseEvidence {
    let scores: Vec<&Score> = repeats.iter().map(|it| &it.0).collect();
    let failed = scores
        .iter()
        .map(|it| it.status)
        .find(|it| *it != Status::Ok);
    let of_generations = || -> Option<ShortDigest> {
        let each = repeats.iter().map(|it| it.1.generation);
        let each: Vec<[u8; 32]> = each.map(|it| it.map(|it| it.0)).collect::<Option<_>>()?;
        (!each.is_empty()).then(|| ShortDigest::of(each))
    };
    // Likelihoods are asked for on the first repeat alone.
    let first = repeats.first();
    let short = |digest: Digest| ShortDigest::shortened(&digest.0);
    let has_own_values = |it: &&Metric| !matches!(it.source, Source::Likelihood(_));
    CaseEvidence {
        status: failed.unwrap_or(Status::Ok),
        likelihood_digest: first.and_then(|it| it.1.likelihood).map(short),
        prior_digest: first.and_then(|it| it.1.priors).map(short),
        generation_digest: of_generations(),
        likelihood: first.and_then(|it| it.0.likelihood),
        values: metrics
            .iter()
            .filter(has_own_values)
            .map(|it| it.value(&scores))
            .collect(),
    }
}

/// Measures and compares the variants of a run.
pub(crate) fn analyse(plan: &Plan, evidence: &Evidence) -> Analysis {
    let metrics = evidence.metrics.iter().map(|it| it.metric.clone());
    let primary = evidence.metric(&evidence.primary).unwrap_or(0);
    let clusters = evidence.clusters();
    let mut analysis = Analysis {
        metrics: metrics.collect(),
        measured: Vec::new(),
        comparisons: Vec::new(),
        rankings: Vec::new(),
    };
    for model in 0..plan.models.len() {
        for metric in 0..analysis.metrics.len() {
            let units: Vec<Units> = (0..plan.variants.len())
                .map(|variant| evidence.units(model, variant, metric))
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
                let identical = |a: usize, b: usize| evidence.is_identical(model, metric, a, b);
                let family = Family {
                    model,
                    metric_index: metric,
                    metric: &analysis.metrics[metric],
                    units: &units,
                    control: plan.control(),
                    clusters: clusters.as_deref(),
                    margin: evidence.margin.filter(|_| metric == primary),
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
