//! The ranking of a run's variants as JSON, for `--json`.
//!
//! The same content as [`super::text`], with numbers as they are: fractions where the unit
//! is `%`, nothing rounded. What is not known is null. [`SCHEMA_VERSION`] is raised when a
//! field goes or changes its meaning; new fields may come at any time.

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::Value;

use crate::compare::Comparison;
use crate::stats::{Direction, Verdict};

use super::escape::document;
use super::ranking::{Place, Ranking};
use super::{MetricInput, ModelInput, ReportInput, VariantInput, notes};

/// Version of the JSON.
pub const SCHEMA_VERSION: u32 = 1;

#[derive(Serialize)]
struct Summary<'a> {
    schema_version: u32,
    experiment: &'a str,
    run: &'a str,
    folder: &'a str,
    status: &'a str,
    n_examples: usize,
    n_planned_cases: usize,
    sampling_unit: &'a str,
    primary: &'a str,
    control: Option<&'a str>,
    margin: Option<f64>,
    metrics: Vec<MetricJson<'a>>,
    models: Vec<ModelJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<Vec<Value>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gates_not_judged: Vec<Value>,
}

#[derive(Serialize)]
struct MetricJson<'a> {
    name: &'a str,
    unit: &'a str,
    higher_is_better: bool,
    is_descriptive: bool,
    is_exploratory: bool,
    signature: Option<&'a str>,
}

#[derive(Serialize)]
struct ModelJson<'a> {
    model: &'a str,
    summary: String,
    notes: Vec<String>,
    luck_of_best: Option<f64>,
    variants: Vec<VariantJson<'a>>,
    comparisons: Vec<ComparisonJson<'a>>,
}

/// A variant; the list is in order of rank.
#[derive(Serialize)]
struct VariantJson<'a> {
    variant: &'a str,
    rank: usize,
    standing: &'a str,
    gain: Option<f64>,
    gain_ci_low: Option<f64>,
    gain_ci_high: Option<f64>,
    metrics: IndexMap<&'a str, EstimateJson>,
    n_cases: usize,
    unscored: IndexMap<&'a str, usize>,
    n_boundary_merges: usize,
    n_ties: usize,
    label_prior: IndexMap<&'a str, f64>,
    n_generations: usize,
    n_cut_generations: usize,
    n_empty_generations: usize,
    n_dropped_shots: usize,
    n_truncated: usize,
    tokens_per_prompt: Option<f64>,
    elapsed_seconds: Option<f64>,
}

#[derive(Serialize)]
struct EstimateJson {
    value: Option<f64>,
    stderr: Option<f64>,
    ci_low: Option<f64>,
    ci_high: Option<f64>,
    n: usize,
    n_failed: usize,
}

#[derive(Serialize)]
struct ComparisonJson<'a> {
    metric: &'a str,
    variant_a: &'a str,
    variant_b: &'a str,
    difference: Option<f64>,
    ci_low: Option<f64>,
    ci_high: Option<f64>,
    p_value: Option<f64>,
    p_adjusted: Option<f64>,
    n_pairs: usize,
    n_unpaired: usize,
    method: &'a str,
    verdict: Option<&'a str>,
    n_to_settle: Option<u64>,
}

/// The run as JSON, pretty, ending in a line feed.
pub fn summary(input: &ReportInput) -> String {
    judged(input, Vec::new(), Vec::new())
}

/// The run as JSON with what its gates said, as [`super::checks::json`] gives it, and the gates
/// that were not judged; without either, as [`summary`].
pub fn judged(input: &ReportInput, checks: Vec<Value>, gates_not_judged: Vec<Value>) -> String {
    let control = input
        .control
        .and_then(|it| input.models.first()?.variants.get(it));
    let summary = Summary {
        schema_version: SCHEMA_VERSION,
        experiment: &input.experiment,
        run: &input.run,
        folder: &input.folder,
        status: input.status.as_str(),
        n_examples: input.n_examples,
        n_planned_cases: input.n_planned_cases,
        sampling_unit: input.unit_noun(),
        primary: &input.primary().name,
        control: control.map(|it| it.name.as_str()),
        margin: input.margin,
        metrics: input
            .metrics
            .iter()
            .enumerate()
            .map(|(i, it)| metric(input, i, it))
            .collect(),
        models: input.models.iter().map(|it| model(input, it)).collect(),
        checks: (!checks.is_empty()).then_some(checks),
        gates_not_judged,
    };
    document(&summary)
}

fn metric<'a>(input: &ReportInput, index: usize, metric: &'a MetricInput) -> MetricJson<'a> {
    MetricJson {
        name: &metric.name,
        unit: metric.unit.as_str(),
        higher_is_better: metric.direction == Direction::HigherIsBetter,
        is_descriptive: metric.is_descriptive,
        is_exploratory: index != input.primary,
        signature: metric.signature.as_deref(),
    }
}

fn model<'a>(input: &'a ReportInput, model: &'a ModelInput) -> ModelJson<'a> {
    let ranking = Ranking::new(input, model);
    // An unfinished run has no verdicts, whatever its tables hold.
    let comparisons = model
        .comparisons
        .iter()
        .filter(|_| input.status.is_finished());
    let places = ranking.places.iter().enumerate();
    ModelJson {
        model: &model.name,
        summary: ranking.sentence(),
        notes: notes::notes(&ranking),
        luck_of_best: model.luck_of_best.filter(|_| input.status.is_finished()),
        variants: places
            .map(|(rank, it)| variant(input, model, rank, it))
            .collect(),
        comparisons: comparisons.map(|it| comparison(input, model, it)).collect(),
    }
}

fn variant<'a>(
    input: &'a ReportInput,
    model: &'a ModelInput,
    rank: usize,
    place: &Place<'a>,
) -> VariantJson<'a> {
    let variant = &model.variants[place.variant];
    VariantJson {
        variant: &variant.name,
        rank: rank + 1,
        standing: place.standing.name(),
        gain: place.gain,
        gain_ci_low: place.interval.map(|it| it.low),
        gain_ci_high: place.interval.map(|it| it.high),
        metrics: estimates(input, variant),
        n_cases: variant.n_cases,
        unscored: variant
            .unscored
            .iter()
            .map(|it| (it.0.as_str(), it.1))
            .collect(),
        n_boundary_merges: variant.n_boundary_merges,
        n_ties: variant.n_ties,
        label_prior: variant
            .label_prior
            .iter()
            .map(|it| (it.0.as_str(), it.1))
            .collect(),
        n_generations: variant.n_generations,
        n_cut_generations: variant.n_cut,
        n_empty_generations: variant.n_empty,
        n_dropped_shots: variant.n_dropped_shots,
        n_truncated: variant.n_truncated,
        tokens_per_prompt: variant.tokens_per_prompt,
        elapsed_seconds: variant.elapsed_seconds,
    }
}

fn estimates<'a>(
    input: &'a ReportInput,
    variant: &VariantInput,
) -> IndexMap<&'a str, EstimateJson> {
    let is_finished = input.status.is_finished();
    let of_metric = |(metric, it): (&'a MetricInput, &crate::metric::Measurement)| {
        let estimate = it.estimate;
        let interval = estimate.and_then(|of| of.interval).filter(|_| is_finished);
        let json = EstimateJson {
            value: estimate.map(|of| of.value),
            stderr: estimate.and_then(|of| of.stderr).filter(|_| is_finished),
            ci_low: interval.map(|of| of.low),
            ci_high: interval.map(|of| of.high),
            n: estimate.map_or(0, |of| of.n),
            n_failed: it.n_failed,
        };
        (metric.name.as_str(), json)
    };
    input
        .metrics
        .iter()
        .zip(&variant.measurements)
        .map(of_metric)
        .collect()
}

fn comparison<'a>(
    input: &'a ReportInput,
    model: &'a ModelInput,
    comparison: &'a Comparison,
) -> ComparisonJson<'a> {
    ComparisonJson {
        metric: &input.metrics[comparison.metric].name,
        variant_a: &model.variants[comparison.candidate].name,
        variant_b: &model.variants[comparison.reference].name,
        difference: comparison.gain,
        ci_low: comparison.interval.map(|it| it.low),
        ci_high: comparison.interval.map(|it| it.high),
        p_value: comparison.p_value,
        p_adjusted: comparison.p_adjusted,
        n_pairs: comparison.n_pairs,
        n_unpaired: comparison.n_unpaired,
        method: &comparison.method,
        verdict: comparison.verdict.map(Verdict::name),
        n_to_settle: comparison.n_to_settle,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;
    use crate::table::RunStatus;

    #[test]
    fn json_says_what_the_table_says() {
        let input = ReportInput::from_stored(&fixture::sentiment()).unwrap();
        insta::assert_snapshot!(summary(&input));
    }

    #[test]
    fn an_unfinished_run_has_values_but_no_intervals_and_no_verdicts() {
        let mut input = ReportInput::from_stored(&fixture::sentiment()).unwrap();
        input.status = RunStatus::Interrupted;
        let json: serde_json::Value = serde_json::from_str(&summary(&input)).unwrap();
        let model = &json["models"][0];
        assert_eq!(model["comparisons"], serde_json::json!([]));
        let few = &model["variants"][0];
        assert_eq!(few["standing"], "unjudged");
        assert_eq!(few["metrics"]["acc"]["value"], 0.875);
        assert!(few["metrics"]["acc"]["ci_low"].is_null());
        assert!(model["luck_of_best"].is_null());
    }
}
