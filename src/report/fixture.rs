//! Stored runs for tests, with numbers chosen by hand.

use crate::score::Status;
use crate::stats::Verdict;
use crate::table::fixture;
use crate::table::{
    CellRecord, MetricRecord, RankingRecord, StoredCase, StoredChoice, StoredComparison,
    StoredExample, StoredMetric, StoredRun, ToSettle, VariantRecord,
};

/// How one variant did, compared with the best or the control.
pub(super) struct Variant {
    pub(super) name: &'static str,
    /// Value and interval of the primary metric.
    pub(super) value: (f64, f64, f64),
    /// Gain, interval and verdict; `None` for the reference.
    pub(super) gain: Option<(f64, f64, f64, Verdict)>,
    pub(super) n_to_settle: Option<u64>,
}

impl Variant {
    pub(super) fn reference(name: &'static str, value: (f64, f64, f64)) -> Self {
        Self {
            name,
            value,
            gain: None,
            n_to_settle: None,
        }
    }

    pub(super) fn new(
        name: &'static str,
        value: (f64, f64, f64),
        gain: (f64, f64, f64, Verdict),
    ) -> Self {
        Self {
            name,
            value,
            gain: Some(gain),
            n_to_settle: None,
        }
    }
}

/// 120 reviews with two choices: `few` is best, `bare` within noise, the others worse.
pub(super) fn four_variants() -> [Variant; 4] {
    [
        Variant {
            n_to_settle: Some(304),
            ..Variant::new(
                "bare",
                (0.816_7, 0.738, 0.876),
                (-0.058_3, -0.12, 0.004, Verdict::Inconclusive),
            )
        },
        Variant::new(
            "instruct",
            (0.8, 0.72, 0.862),
            (-0.075, -0.14, -0.012, Verdict::Regressed),
        ),
        Variant::reference("few", (0.875, 0.804, 0.923)),
        Variant::new(
            "chat",
            (0.65, 0.561, 0.729),
            (-0.225, -0.31, -0.14, Verdict::Regressed),
        ),
    ]
}

/// The run of [`four_variants`].
pub(super) fn sentiment() -> StoredRun {
    run(&four_variants())
}

/// A run of one model whose primary metric is `acc`.
pub(super) fn run(variants: &[Variant]) -> StoredRun {
    let reference = variants
        .iter()
        .find(|it| it.gain.is_none())
        .map_or("", |it| it.name);
    let mut manifest = fixture::manifest();
    let record = |it: &Variant| VariantRecord {
        name: it.name.to_owned(),
        template_digest: "v1".to_owned(),
    };
    manifest.variants = variants.iter().map(record).collect();
    let cell = |(index, it): (usize, &Variant)| CellRecord {
        model: "smol".to_owned(),
        variant: it.name.to_owned(),
        elapsed_seconds: 6.04 + 60.0 * index as f64,
        tokens_per_prompt: 23.4 + 40.0 * index as f64,
        n_dropped_shots: 0,
        n_truncated: 0,
    };
    manifest.cells = variants.iter().enumerate().map(cell).collect();
    let settle = |it: &Variant| ToSettle {
        variant_a: it.name.to_owned(),
        variant_b: reference.to_owned(),
        n_units: it.n_to_settle.unwrap_or_default(),
    };
    manifest.rankings = vec![RankingRecord {
        model: "smol".to_owned(),
        luck_of_best: (1 < variants.len()).then_some(0.012_4),
        to_settle: variants
            .iter()
            .filter(|it| it.n_to_settle.is_some())
            .map(settle)
            .collect(),
    }];
    let example = |index: usize| StoredExample {
        id: format!("r{index:04}"),
        row_digest: format!("{index:02x}"),
        source_line: index + 1,
        cluster: None,
        fields: vec![(
            "review".to_owned(),
            Some(format!("Review {index}.\nNice\u{1b}[2J")),
        )],
    };
    let mut run = StoredRun {
        folder: "results/sentiment/20260101-120000-abcd".into(),
        manifest,
        case_metrics: vec!["acc".to_owned(), "exact_match".to_owned()],
        cases: Vec::new(),
        choices: Vec::new(),
        examples: (0..120).map(example).collect(),
        metrics: Vec::new(),
        comparisons: Vec::new(),
    };
    for variant in variants {
        run.metrics.extend(measured(variant));
        run.comparisons.extend(compared(variant, reference));
        for index in 0..3 {
            run.cases.push(case(variant, index));
            run.choices.extend(choices(variant, index));
        }
    }
    run
}

/// Gives the run another primary metric: the same numbers minus 1, which are no fractions.
pub(super) fn with_primary(mut run: StoredRun, name: &str, unit: &str) -> StoredRun {
    run.metrics.retain(|it| it.metric != name);
    for metric in run.metrics.iter_mut().filter(|it| it.metric == "acc") {
        name.clone_into(&mut metric.metric);
        for value in [&mut metric.value, &mut metric.ci_low, &mut metric.ci_high] {
            *value = value.map(|it| it - 1.0);
        }
    }
    for comparison in &mut run.comparisons {
        name.clone_into(&mut comparison.metric);
    }
    let record = MetricRecord {
        name: name.to_owned(),
        unit: unit.to_owned(),
        higher_is_better: true,
        is_descriptive: false,
        is_declared: false,
    };
    run.manifest
        .metrics
        .retain(|it| it.name != "acc" && it.name != name);
    run.manifest.metrics.push(record);
    name.clone_into(&mut run.manifest.primary);
    run
}

fn measured(variant: &Variant) -> [StoredMetric; 4] {
    let (value, low, high) = variant.value;
    let metric = |metric: &str, value: f64, low, high| StoredMetric {
        model: "smol".to_owned(),
        variant: variant.name.to_owned(),
        metric: metric.to_owned(),
        value: Some(value),
        stderr: Some(0.03),
        ci_low: low,
        ci_high: high,
        n: 120,
        n_failed: 0,
        higher_is_better: true,
        signature: None,
    };
    [
        metric("acc", value, Some(low), Some(high)),
        metric("acc_norm", value - 0.05, None, None),
        metric("loglikelihood_per_byte", -value / 2.0, None, None),
        metric("exact_match", value / 2.0, None, None),
    ]
}

fn compared(variant: &Variant, reference: &str) -> Option<StoredComparison> {
    let (gain, low, high, verdict) = variant.gain?;
    Some(StoredComparison {
        model: "smol".to_owned(),
        metric: "acc".to_owned(),
        variant_a: variant.name.to_owned(),
        variant_b: reference.to_owned(),
        difference: Some(gain),
        ci_low: Some(low),
        ci_high: Some(high),
        p_value: Some(0.01),
        p_adjusted: Some(0.03),
        n_pairs: 120,
        n_unpaired: 0,
        method: "tango".to_owned(),
        margin: None,
        verdict: Some(verdict),
    })
}

/// Example 0 is right, 1 is wrong by little, 2 is wrong by much.
fn case(variant: &Variant, index: usize) -> StoredCase {
    StoredCase {
        model: "smol".to_owned(),
        variant: variant.name.to_owned(),
        example_id: format!("r{index:04}"),
        repeat: 0,
        status: Status::Ok,
        prompt: format!("Review {index}.\nNice\u{1b}[2J\nSentiment: "),
        target: Some("positive".to_owned()),
        n_context_tokens: 23,
        n_target_tokens: Some(1),
        n_target_bytes: Some(8),
        loglikelihood: Some(-1.25),
        greedy_match: Some(false),
        boundary_merge: Some(false),
        predicted_choice: Some(usize::from(index == 0)),
        target_choice: Some(1),
        generation: Some("negative\n".to_owned()),
        finish_reason: Some("eos".to_owned()),
        n_generated_tokens: Some(2),
        metrics: vec![Some(f64::from(u8::from(index == 0))), Some(0.0)],
    }
}

fn choices(variant: &Variant, index: usize) -> [StoredChoice; 2] {
    let choice = |choice_index, choice: &str, loglikelihood| StoredChoice {
        model: "smol".to_owned(),
        variant: variant.name.to_owned(),
        example_id: format!("r{index:04}"),
        choice_index,
        choice: choice.to_owned(),
        is_target: choice_index == 1,
        loglikelihood,
        n_tokens: 1,
        n_chars: 8,
        n_bytes: 8,
        prior: None,
    };
    let wrong = [-2.0, -1.0, -0.25][index];
    [choice(0, "negative", wrong), choice(1, "positive", -1.25)]
}
