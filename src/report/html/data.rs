//! What the page's script reads: runs as JSON.
//!
//! Judged numbers come twice, as they are for drawing and as text for reading. Indices
//! point into the lists of the same run, texts into the list of all texts.

use serde::Serialize;

use crate::compare::Comparison;
use crate::metric::{Measurement, Unit};
use crate::stats::{Direction, Verdict};
use crate::table::Manifest;

use super::super::ranking::{Place, Ranking};
use super::super::{InputError, MetricInput, ModelInput, ReportInput, VariantInput, notes, number};
use super::cases::{self, CaseValue, Cases, ExampleData, TokenData};
use super::texts::{Number, Texts};
use super::{PageRun, cases::Places};

#[derive(Serialize)]
struct Payload<'a> {
    harness_version: &'static str,
    runs: Vec<RunData<'a>>,
    texts: Vec<&'a str>,
}

#[derive(Serialize)]
struct RunData<'a> {
    experiment: &'a str,
    run: &'a str,
    status: &'static str,
    is_finished: bool,
    started: &'a str,
    harness_version: &'a str,
    device: &'a str,
    seed: u64,
    digests: Vec<(&'static str, &'a str)>,
    n_examples: usize,
    sampling_unit: &'static str,
    primary: usize,
    control: Option<usize>,
    margin: Option<Number>,
    margin_text: Option<String>,
    metrics: Vec<MetricData<'a>>,
    variants: Vec<VariantName<'a>>,
    models: Vec<ModelData<'a>>,
    case_metrics: Vec<CaseMetric<'a>>,
    examples: Vec<ExampleData<'a>>,
    cases: Cases,
    tokens: Option<TokenData>,
}

#[derive(Serialize)]
struct MetricData<'a> {
    name: &'a str,
    unit: &'static str,
    difference_unit: &'static str,
    is_higher_better: bool,
    is_descriptive: bool,
    signature: Option<&'a str>,
    /// Where a single case's value is found; `None` where it has none.
    by_case: Option<CaseValue>,
}

#[derive(Serialize)]
struct VariantName<'a> {
    name: &'a str,
    template_digest: &'a str,
}

#[derive(Serialize)]
struct CaseMetric<'a> {
    name: &'a str,
    unit: &'static str,
}

#[derive(Serialize)]
struct ModelData<'a> {
    name: &'a str,
    source: &'a str,
    digest: &'a str,
    numerics: &'a str,
    sentence: String,
    legend: String,
    notes: Vec<String>,
    /// The variants from best to worst by the primary metric.
    ranking: Vec<PlaceData>,
    variants: Vec<VariantData<'a>>,
    comparisons: Vec<ComparisonData<'a>>,
}

#[derive(Serialize)]
struct PlaceData {
    variant: usize,
    mark: &'static str,
    standing: &'static str,
}

#[derive(Serialize)]
struct VariantData<'a> {
    /// One entry per metric.
    estimates: Vec<Option<EstimateData>>,
    n_cases: usize,
    n_unscored: usize,
    unscored: Vec<(&'static str, usize)>,
    /// Each label's probability for an input that says nothing, in percent.
    label_prior: Vec<(&'a str, String)>,
    tokens_per_prompt: Option<String>,
    time: Option<String>,
}

#[derive(Serialize)]
struct EstimateData {
    value: Number,
    low: Option<Number>,
    high: Option<Number>,
    text: String,
    low_text: Option<String>,
    high_text: Option<String>,
    n: usize,
    n_failed: usize,
}

#[derive(Serialize)]
struct ComparisonData<'a> {
    metric: usize,
    candidate: usize,
    reference: usize,
    gain: Option<Number>,
    low: Option<Number>,
    high: Option<Number>,
    text: Option<String>,
    low_text: Option<String>,
    high_text: Option<String>,
    p: Option<String>,
    p_adjusted: Option<String>,
    n_pairs: usize,
    n_unpaired: usize,
    method: &'a str,
    margin: Option<Number>,
    verdict: Option<&'static str>,
    n_to_settle: Option<String>,
}

/// The JSON of `runs`, of which `inputs` are the reports.
pub(super) fn payload<'a>(
    runs: &'a [PageRun<'a>],
    inputs: &'a [ReportInput],
) -> Result<String, InputError> {
    let mut texts = Texts::default();
    let runs = runs
        .iter()
        .zip(inputs)
        .map(|(run, input)| run_data(run, input, &mut texts))
        .collect::<Result<Vec<_>, _>>()?;
    let payload = Payload {
        harness_version: env!("CARGO_PKG_VERSION"),
        runs,
        texts: texts.into_list(),
    };
    Ok(serde_json::to_string(&payload).expect("plain structs always have a JSON form"))
}

fn run_data<'a>(
    of: &'a PageRun<'a>,
    input: &'a ReportInput,
    texts: &mut Texts<'a>,
) -> Result<RunData<'a>, InputError> {
    let (run, manifest) = (of.run, &of.run.manifest);
    let places = Places::new(run);
    let metrics = input.metrics.iter();
    let models = input.models.iter().zip(&manifest.models);
    let unit_of = |name: &str| {
        let record = manifest.metrics.iter().find(|it| it.name == name);
        record.map_or(Unit::Plain, crate::table::MetricRecord::unit)
    };
    Ok(RunData {
        experiment: &input.experiment,
        run: &input.run,
        status: input.status.as_str(),
        is_finished: input.status.is_finished(),
        started: &manifest.started,
        harness_version: &manifest.harness_version,
        device: &manifest.device,
        seed: manifest.seed,
        digests: digests(manifest),
        n_examples: input.n_examples,
        sampling_unit: input.unit_noun(),
        primary: input.primary,
        control: input.control,
        margin: input.margin.map(Number),
        margin_text: input
            .margin
            .map(|it| number::amount(input.primary().unit, it)),
        metrics: metrics.map(|it| metric(it, of)).collect(),
        variants: manifest
            .variants
            .iter()
            .map(|it| VariantName {
                name: &it.name,
                template_digest: &it.template_digest,
            })
            .collect(),
        models: models
            .map(|(it, record)| model(input, it, record))
            .collect(),
        case_metrics: run
            .case_metrics
            .iter()
            .map(|name| CaseMetric {
                name,
                unit: unit_of(name).as_str(),
            })
            .collect(),
        examples: cases::examples(run, texts),
        cases: cases::cases(run, &places, texts)?,
        tokens: of
            .tokens
            .map(|it| cases::tokens(it, &places, texts))
            .transpose()?,
    })
}

fn digests(manifest: &Manifest) -> Vec<(&'static str, &str)> {
    let of = &manifest.digests;
    let mut digests = vec![
        ("experiment", of.experiment.as_str()),
        ("dataset", of.dataset.as_str()),
    ];
    digests.extend(of.fewshot.as_deref().map(|it| ("few-shot pool", it)));
    digests.push(("plan", of.plan.as_str()));
    digests
}

fn metric<'a>(metric: &'a MetricInput, of: &PageRun<'_>) -> MetricData<'a> {
    MetricData {
        name: &metric.name,
        unit: metric.unit.as_str(),
        difference_unit: number::difference_unit(metric.unit),
        is_higher_better: metric.direction == Direction::HigherIsBetter,
        is_descriptive: metric.is_descriptive,
        signature: metric.signature.as_deref(),
        by_case: CaseValue::of(&metric.name, of.run),
    }
}

fn model<'a>(
    input: &'a ReportInput,
    model: &'a ModelInput,
    record: &'a crate::table::ModelRecord,
) -> ModelData<'a> {
    let ranking = Ranking::new(input, model);
    let place = |it: &Place<'_>| PlaceData {
        variant: it.variant,
        mark: it.standing.mark(),
        standing: it.standing.name(),
    };
    // An unfinished run has no verdicts, whatever its tables hold.
    let compared = model
        .comparisons
        .iter()
        .filter(|_| input.status.is_finished());
    ModelData {
        name: &model.name,
        source: &record.source,
        digest: &record.digest,
        numerics: &record.numerics,
        sentence: ranking.sentence(),
        legend: ranking.legend(),
        notes: notes::without_label_priors(&ranking),
        ranking: ranking.places.iter().map(place).collect(),
        variants: model.variants.iter().map(|it| variant(input, it)).collect(),
        comparisons: compared.map(|it| comparison(input, it)).collect(),
    }
}

fn variant<'a>(input: &ReportInput, variant: &'a VariantInput) -> VariantData<'a> {
    let estimates = input.metrics.iter().zip(&variant.measurements);
    let priors = variant.label_prior.iter();
    let percent = |prior| number::value(Unit::Percent, prior);
    let unscored = variant.unscored.iter();
    VariantData {
        estimates: estimates.map(|(of, it)| estimate(input, of, it)).collect(),
        n_cases: variant.n_cases,
        n_unscored: variant.n_unscored(),
        unscored: unscored.map(|it| (it.0.as_str(), it.1)).collect(),
        label_prior: priors.map(|it| (it.0.as_str(), percent(it.1))).collect(),
        tokens_per_prompt: variant.tokens_per_prompt.map(|it| number::fixed(it, 0)),
        time: variant.elapsed_seconds.map(number::seconds),
    }
}

fn estimate(
    input: &ReportInput,
    metric: &MetricInput,
    measurement: &Measurement,
) -> Option<EstimateData> {
    let estimate = measurement.estimate?;
    let interval = estimate.interval.filter(|_| input.status.is_finished());
    let text = |it: f64| number::value(metric.unit, it);
    Some(EstimateData {
        value: Number(estimate.value),
        low: interval.map(|it| Number(it.low)),
        high: interval.map(|it| Number(it.high)),
        text: text(estimate.value),
        low_text: interval.map(|it| text(it.low)),
        high_text: interval.map(|it| text(it.high)),
        n: estimate.n,
        n_failed: measurement.n_failed,
    })
}

fn comparison<'a>(input: &ReportInput, it: &'a Comparison) -> ComparisonData<'a> {
    let unit = input.metrics[it.metric].unit;
    let text = |it: f64| number::gain(unit, it);
    ComparisonData {
        metric: it.metric,
        candidate: it.candidate,
        reference: it.reference,
        gain: it.gain.map(Number),
        low: it.interval.map(|it| Number(it.low)),
        high: it.interval.map(|it| Number(it.high)),
        text: it.gain.map(text),
        low_text: it.interval.map(|it| text(it.low)),
        high_text: it.interval.map(|it| text(it.high)),
        p: it.p_value.map(p_text),
        p_adjusted: it.p_adjusted.map(p_text),
        n_pairs: it.n_pairs,
        n_unpaired: it.n_unpaired,
        method: &it.method,
        margin: it.margin.map(Number),
        verdict: it.verdict.map(Verdict::name),
        n_to_settle: it.n_to_settle.map(number::about),
    }
}

/// A p-value with three decimals, rounded up, so that none reads as 0 and none that missed a
/// limit reads as having met it.
fn p_text(p: f64) -> String {
    if p < 0.001 {
        "< 0.001".to_owned()
    } else {
        let thousandths = (1_000.0 * p).ceil();
        // 0.05 times 1,000 may come out a little above 50.
        let is_exact = (1_000.0 * p - (thousandths - 1.0)).abs() < 1e-9;
        let thousandths = if is_exact {
            thousandths - 1.0
        } else {
            thousandths
        };
        number::fixed(thousandths / 1_000.0, 3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_p_value_never_reads_smaller_than_it_is() {
        for (p, expected) in [
            (0.0, "< 0.001"),
            (0.000_999, "< 0.001"),
            (0.001, "0.001"),
            (0.050_01, "0.051"),
            (0.05, "0.050"),
            (0.049_9, "0.050"),
            (0.3, "0.300"),
            (1.0, "1.000"),
        ] {
            assert_eq!(p_text(p), expected, "{p}");
        }
    }
}
