//! A small run for tests: two variants, choices, generations with repeats, a failure.

use indexmap::IndexMap;

use crate::compare::Comparison;
use crate::metric::{Facts, Metric};
use crate::plan::CaseKey;
use crate::request::FinishReason;
use crate::score::{ChoiceScore, Generation, Likelihood, Score, Status, TokenScore};
use crate::stats::{Interval, Verdict};
use crate::text_metric::{BleuTokenizer, ReferenceCount, TextJudge, TextMetric};

use super::{
    CellRecord, Counts, Digests, ExampleRow, Manifest, Measured, MetricRecord, ModelRecord,
    RankingRecord, RunStatus, RunTables, SCHEMA_VERSION, ToSettle, VariantRecord,
};

/// What [`RunTables`] borrows.
pub(crate) struct Run {
    models: Vec<String>,
    variants: Vec<String>,
    examples: Vec<ExampleRow>,
    metrics: Vec<Metric>,
    judges: Vec<TextJudge>,
    pub(crate) scores: Vec<Score>,
    measurements: Vec<Measured>,
    comparisons: Vec<Comparison>,
}

/// A manifest with every field set.
pub(crate) fn manifest() -> Manifest {
    let metric = |name: &str, unit: &str, is_declared| MetricRecord {
        name: name.to_owned(),
        unit: unit.to_owned(),
        higher_is_better: true,
        is_descriptive: false,
        is_declared,
    };
    Manifest {
        schema_version: SCHEMA_VERSION,
        harness_version: "0.1.0".to_owned(),
        experiment: "sentiment".to_owned(),
        run: "20260101-120000-abcd".to_owned(),
        status: RunStatus::Complete,
        digests: Digests {
            experiment: "e1".to_owned(),
            dataset: "d1".to_owned(),
            fewshot: None,
            plan: "p1".to_owned(),
        },
        seed: 17,
        primary: "acc".to_owned(),
        control: None,
        margin: None,
        started: "2026-01-01T12:00:00Z".to_owned(),
        finished: Some("2026-01-01T12:00:09Z".to_owned()),
        host: "box".to_owned(),
        device: "cpu".to_owned(),
        models: vec![ModelRecord {
            name: "smol".to_owned(),
            source: "builtin:smollm2-135m-instruct".to_owned(),
            revision: None,
            digest: "m1".to_owned(),
            tokenizer_digest: "t1".to_owned(),
            architecture: "llama".to_owned(),
            numerics: "local-f32".to_owned(),
        }],
        variants: ["bare", "few"]
            .map(|name| VariantRecord {
                name: name.to_owned(),
                template_digest: "v1".to_owned(),
            })
            .to_vec(),
        metrics: vec![
            metric("loglikelihood_per_byte", "nats/byte", false),
            metric("acc", "%", false),
            metric("acc_norm", "%", false),
            metric("exact_match", "%", true),
        ],
        counts: Counts {
            n_examples: 3,
            n_cases: 12,
            n_requests: 24,
            n_computed: 20,
            n_from_store: 4,
            n_rows_computed: 300,
            n_rows_shared: 900,
            failed: IndexMap::from([("context_overflow".to_owned(), 1)]),
        },
        cells: [("bare", 6.0, 23.0), ("few", 14.1, 131.0)]
            .map(|(variant, elapsed_seconds, tokens_per_prompt)| CellRecord {
                model: "smol".to_owned(),
                variant: variant.to_owned(),
                elapsed_seconds,
                tokens_per_prompt,
                n_dropped_shots: 0,
                n_truncated: 0,
            })
            .to_vec(),
        rankings: vec![RankingRecord {
            model: "smol".to_owned(),
            luck_of_best: Some(0.012),
            to_settle: vec![ToSettle {
                variant_a: "bare".to_owned(),
                variant_b: "few".to_owned(),
                n_units: 310,
            }],
        }],
    }
}

impl Run {
    /// Two variants on three examples with two repeats; the last case failed.
    pub(crate) fn new() -> Self {
        let judges: Vec<TextJudge> = [
            TextMetric::ExactMatch,
            TextMetric::Bleu {
                tokenize: BleuTokenizer::V13a,
            },
        ]
        .map(|it| TextJudge::new(None, it, None, None).unwrap())
        .to_vec();
        let facts = Facts {
            has_target: true,
            has_choices: true,
            n_fixed_choices: Some(2),
            n_repeats: 2,
            declared: &[],
            judges: &judges,
            references: ReferenceCount::of([1]),
        };
        let metrics = Metric::list(&facts);
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut examples: Vec<ExampleRow> = ["good", "bäd", "so\nso"]
            .iter()
            .enumerate()
            .map(|(i, text)| ExampleRow {
                id: format!("r{i}"),
                row_digest: format!("{i:02x}"),
                source_line: i + 1,
                cluster: (i < 2).then(|| "page".to_owned()),
                target: Some("yes".to_owned()),
                fields: vec![field("text", text)],
            })
            .collect();
        examples[2].fields.push(field("Cluster", "own"));
        let mut run = Self {
            models: vec!["smol".to_owned()],
            variants: vec!["bare".to_owned(), "few".to_owned()],
            examples,
            metrics,
            judges,
            scores: Vec::new(),
            measurements: Vec::new(),
            comparisons: vec![comparison()],
        };
        // Backwards, as if the work had been done in that order.
        for variant in [1, 0] {
            for example in [2, 1, 0] {
                for repeat in [1, 0] {
                    run.scores.push(run.score(CaseKey {
                        model: 0,
                        variant,
                        example,
                        repeat,
                    }));
                }
            }
        }
        run.scores[0].status = Status::ContextOverflow;
        run.scores[0].generation = None;
        run.scores[0].judgements = vec![None, None];
        run.measure();
        run
    }

    /// A run without a single row.
    pub(crate) fn empty() -> Self {
        let mut run = Self::new();
        run.examples.clear();
        run.scores.clear();
        run.measurements.clear();
        run.comparisons.clear();
        run
    }

    pub(crate) fn tables(&self) -> RunTables<'_> {
        RunTables {
            experiment: "sentiment",
            run: "20260101-120000-abcd",
            models: &self.models,
            variants: &self.variants,
            examples: &self.examples,
            metrics: &self.metrics,
            measurements: &self.measurements,
            comparisons: &self.comparisons,
            with_tokens: None,
        }
    }

    fn score(&self, key: CaseKey) -> Score {
        let is_first = key.repeat == 0;
        let loglikelihood = -1.5 - key.example as f64;
        let choice = |text: &str, loglikelihood, is_target| ChoiceScore {
            text: text.to_owned(),
            is_target,
            loglikelihood,
            n_tokens: 1,
            prior: None,
            unconditional: None,
        };
        let choices = if is_first {
            // The wrong choice is impossible in `few` and likely in `bare`.
            let other = if key.variant == 1 {
                f64::NEG_INFINITY
            } else {
                -2.0
            };
            vec![
                choice("nö", other, false),
                choice("yes", loglikelihood, true),
            ]
        } else {
            Vec::new()
        };
        let text = if key.example == 1 { "no" } else { "yes" };
        let judged = |it: &TextJudge| it.judge(text, &["yes".to_owned()]).ok();
        Score {
            key,
            status: Status::Ok,
            message: None,
            prompt: format!("Is it {}?\n", self.examples[key.example].fields[0].1),
            n_context_tokens: 5,
            likelihood: is_first.then_some(Likelihood {
                loglikelihood,
                n_tokens: 1,
                n_bytes: 3,
                greedy_match: key.variant == 1,
                boundary_merge: key.example == 2,
            }),
            choices,
            generation: Some(Generation {
                text: text.to_owned(),
                finish_reason: FinishReason::Length,
                n_tokens: 2,
            }),
            judgements: self.judges.iter().map(judged).collect(),
            tokens: vec![TokenScore {
                choice_index: Some(1),
                position: 0,
                token_id: 7,
                logprob: -1.5,
                is_argmax: true,
            }],
        }
    }

    fn measure(&mut self) {
        let mut scores: Vec<&Score> = self.scores.iter().collect();
        scores.sort_by_key(|it| it.key);
        for variant in [1, 0] {
            let own: Vec<&Score> = scores
                .iter()
                .copied()
                .filter(|it| it.key.variant == variant)
                .collect();
            for (index, metric) in self.metrics.iter().enumerate() {
                let measurement = metric.measure(&metric.units(&own), None, 3);
                self.measurements.push(Measured {
                    model: 0,
                    variant,
                    metric: index,
                    measurement,
                });
            }
        }
    }
}

fn comparison() -> Comparison {
    Comparison {
        model: 0,
        metric: 0,
        candidate: 0,
        reference: 1,
        gain: Some(-0.25),
        interval: Some(Interval {
            low: -0.5,
            high: 0.125,
        }),
        p_value: Some(0.2),
        p_adjusted: Some(0.4),
        n_pairs: 3,
        n_unpaired: 0,
        method: "tango".to_owned(),
        margin: None,
        verdict: Some(Verdict::Inconclusive),
        n_to_settle: Some(310),
    }
}
