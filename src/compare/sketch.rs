//! Evidence for tests, with values that are a function of variant and example.

use crate::metric::{Facts, Metric, Recipe, Source, Units, Value};
use crate::score::{Likelihood, Status};
use crate::text_metric::{BleuTokenizer, ReferenceCount, TextJudge, TextMetric};

use super::{
    CaseEvidence, CellPair, Evidence, ExampleEvidence, Family, MetricEvidence, ModelEvidence,
    ShortDigest, VariantEvidence,
};

/// Every kind of metric: likelihoods, `exact_match`, `f1`, BLEU, chrF.
pub(crate) fn metrics() -> Vec<MetricEvidence> {
    let judges: Vec<TextJudge> = [
        TextMetric::ExactMatch,
        TextMetric::F1,
        TextMetric::Bleu {
            tokenize: BleuTokenizer::V13a,
        },
        TextMetric::Chrf,
    ]
    .map(|it| TextJudge::new(None, it, None, None).unwrap())
    .to_vec();
    let facts = Facts {
        has_target: true,
        has_choices: false,
        n_fixed_choices: None,
        n_repeats: 1,
        judges: &judges,
        declared: &[],
        references: ReferenceCount::of([1]),
    };
    let with_choices = Facts {
        has_target: false,
        has_choices: true,
        n_fixed_choices: Some(2),
        judges: &[],
        ..facts
    };
    let list = Metric::list(&facts);
    let metrics = list.into_iter().chain(Metric::list(&with_choices));
    metrics
        .map(|mut metric| {
            let name = metric.name.trim_start_matches("sentence_").to_owned();
            if let Some(recipe) = &mut metric.recipe {
                *recipe = Recipe {
                    text: format!("{name} normalize=[trim]"),
                    reads_references: true,
                };
            }
            MetricEvidence {
                is_declared: metric.recipe.is_some(),
                metric,
            }
        })
        .collect()
}

/// A number between 0 and 1 that looks like chance, for a seed.
pub(crate) fn noise(seed: &[u64]) -> f64 {
    let digest = ShortDigest::of(seed.iter().map(|it| it.to_le_bytes()));
    let bytes: [u8; 8] = std::array::from_fn(|i| digest.0[i]);
    (u64::from_le_bytes(bytes) >> 11) as f64 / (1u64 << 53) as f64
}

/// A run of two variants; `quality` shifts every value of its variants to the better.
pub(crate) fn run(id: &str, n_examples: usize, quality: [f64; 2]) -> Evidence {
    let metrics = metrics();
    let example = |i: usize| ExampleEvidence {
        id: format!("e{i:04}"),
        row_digest: ShortDigest::of([format!("row {i}")]),
        target_digest: Some(ShortDigest::of([format!("target {i}")])),
        references_digest: None,
        cluster: None,
    };
    let case = |variant: usize, i: usize| case(&metrics, variant, i, quality[variant]);
    Evidence {
        experiment: "translate".to_owned(),
        run: id.to_owned(),
        is_finished: true,
        seed: u64::MAX,
        primary: "loglikelihood_per_byte".to_owned(),
        control: Some("bare".to_owned()),
        margin: Some(0.1 + 0.2),
        models: vec![ModelEvidence {
            name: "smol".to_owned(),
            digest: "m1".to_owned(),
            tokenizer_digest: "t1".to_owned(),
            numerics: "local-f32".to_owned(),
            scoring_version: 1,
        }],
        variants: ["bare", "few"]
            .map(|name| VariantEvidence {
                name: name.to_owned(),
                template_digest: format!("{name} {quality:?}"),
            })
            .to_vec(),
        examples: (0..n_examples).map(example).collect(),
        cells: [0, 1]
            .map(|variant| (0..n_examples).map(|i| case(variant, i)).collect())
            .to_vec(),
        metrics,
    }
}

fn case(metrics: &[MetricEvidence], variant: usize, i: usize, quality: f64) -> CaseEvidence {
    let seed = |salt: u64| noise(&[variant as u64, i as u64, salt]);
    let n_bytes = 20 + i % 7;
    let value = |it: &MetricEvidence| {
        let level = (0.5 * seed(1) + 0.25 + quality).clamp(0.0, 1.0);
        Some(match it.metric.source {
            Source::Likelihood(_) => return None,
            _ if it.metric.name.starts_with("sentence_") => Value::Number(100.0 * level),
            _ if it.metric.name == "brier" => Value::Number(2.0 - 2.0 * level),
            Source::Judgement {
                is_proportion: false,
                ..
            } => Value::Number(level),
            Source::Corpus { .. } => {
                let n = it.metric.source.n_statistics();
                let count = |k: usize| (30.0 + 20.0 * seed(k as u64) + 20.0 * quality).floor();
                Value::Statistics((0..n).map(count).collect())
            }
            Source::Choices { .. } if it.metric.source.n_statistics() == 6 => {
                let right = f64::from(u8::from(0.5 < level));
                Value::Statistics(vec![right, 1.0, 1.0, 0.0, 0.0, 0.0])
            }
            Source::Choices { .. } if it.metric.source.n_statistics() == 2 => {
                Value::Statistics(vec![level, 1.0])
            }
            _ => Value::Outcome(0.5 < level),
        })
    };
    CaseEvidence {
        status: Status::Ok,
        likelihood_digest: Some(ShortDigest::of([format!("l {variant} {i} {quality}")])),
        prior_digest: Some(ShortDigest::of(["p"])),
        generation_digest: Some(ShortDigest::of([format!("g {variant} {i} {quality}")])),
        likelihood: Some(Likelihood {
            loglikelihood: -(n_bytes as f64) * (1.0 + seed(2) - quality),
            n_tokens: 5 + i % 3,
            n_bytes,
            greedy_match: seed(3) < 0.25,
            boundary_merge: i.is_multiple_of(5),
        }),
        values: metrics
            .iter()
            .filter(|it| !matches!(it.metric.source, Source::Likelihood(_)))
            .map(value)
            .collect(),
    }
}

/// Where a metric's values stand in those of a case.
pub(crate) fn own_slot(evidence: &Evidence, name: &str) -> usize {
    let own = evidence.metrics.iter().map(|it| &it.metric);
    let mut own = own.filter(|it| !matches!(it.source, Source::Likelihood(_)));
    own.position(|it| it.name == name).unwrap()
}

/// A variant against the one of that name in another run.
pub(crate) fn cells(variant: &str) -> CellPair {
    CellPair {
        candidate_model: "smol".to_owned(),
        candidate: variant.to_owned(),
        reference_model: "smol".to_owned(),
        reference: variant.to_owned(),
    }
}

/// The variants of a run by one metric, without a control, clusters or margin.
pub(crate) fn family<'a>(evidence: &'a Evidence, metric: usize, units: &'a [Units]) -> Family<'a> {
    Family {
        model: 0,
        metric_index: metric,
        metric: &evidence.metrics[metric].metric,
        units,
        control: None,
        clusters: None,
        margin: None,
        identical: &|_, _| false,
    }
}
