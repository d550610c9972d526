//! What gates need, told before anything runs.
//!
//! Reckons with the spread of gains that a baseline holds, where it holds any, never with the
//! difference that was observed.

use std::path::Path;

use harness::compare;
use harness::experiment::{Against, GateSpec, Rule as GateRule};
use harness::gate::{Forecast, Limit, Outlook, Rule, forecast};
use harness::metric::{Kind, Metric};
use harness::plan::Plan;
use harness::report::checks::{self, Expected};
use harness::report::wrap;
use harness::score;
use harness::stats::Difference;

use super::analysis;
use super::gates::{cells, gate_line};
use super::output::{self, Stream};
use super::side::Side;

/// Tells how many examples the gates need, before anything runs.
pub(crate) fn tell(file: &Path, plan: &Plan, gates: &[GateSpec], base: Option<&Side>) {
    for line in forecasts(file, plan, gates, base) {
        if Stream::Stderr.is_terminal() {
            output::note(&wrap(&line, Stream::Stderr.width(), "  "));
        } else {
            output::note(&line);
        }
    }
}

/// One line per gate, or several where variants need different numbers.
pub(crate) fn forecasts(
    file: &Path,
    plan: &Plan,
    gates: &[GateSpec],
    base: Option<&Side>,
) -> Vec<String> {
    let Ok(judges) = score::judges(&plan.experiment.spec.metrics) else {
        return Vec::new();
    };
    let metrics = analysis::metrics(plan, &judges);
    let file = file.display().to_string();
    let mut lines = Vec::new();
    for gate in gates {
        let metric = metrics.iter().find(|it| it.name == gate.metric.value);
        let (Some(metric), Limit::MaxDrop(max_drop)) = (metric, Rule::of(gate).limit) else {
            continue;
        };
        let groups = of_gate(plan, gate, metric, base);
        for (forecast, variants) in &groups {
            lines.push(checks::forecast_line(&Expected {
                file: &file,
                line: gate_line(gate),
                metric: &metric.name,
                unit: metric.unit,
                max_drop,
                variants: if groups.len() == 1 { &[] } else { variants },
                forecast: *forecast,
                n_units: n_units(plan),
                is_clustered: plan.clusters().is_some(),
            }));
        }
    }
    lines
}

/// What a gate needs, with the variants that need it.
fn of_gate(
    plan: &Plan,
    gate: &GateSpec,
    metric: &Metric,
    base: Option<&Side>,
) -> Vec<(Forecast, Vec<String>)> {
    let mut groups: Vec<(Forecast, Vec<String>)> = Vec::new();
    let models = plan.models.iter().filter(|it| gate.model.covers(&it.name));
    for model in models {
        let variants = plan.variants.iter();
        for variant in variants.filter(|it| gate.variant.covers(&it.name)) {
            if is_reference(gate, &variant.name) {
                continue;
            }
            let spread = base.and_then(|it| spread(it, gate, &model.name, &variant.name));
            let forecast = forecast(&Rule::of(gate), &outlook(plan, metric, spread));
            let name = if plan.models.len() == 1 {
                variant.name.clone()
            } else {
                format!("{} · {}", model.name, variant.name)
            };
            match groups.iter_mut().find(|it| it.0 == forecast) {
                Some(group) => group.1.push(name),
                None => groups.push((forecast, vec![name])),
            }
        }
    }
    groups
}

/// Whether a gate holds others against this variant.
fn is_reference(gate: &GateSpec, variant: &str) -> bool {
    let GateRule::Compare { against, .. } = &gate.rule else {
        return false;
    };
    matches!(&against.value, Against::Variant(it) if it == variant)
}

/// Examples of a plan, or their clusters.
fn n_units(plan: &Plan) -> usize {
    plan.clusters().map_or(plan.examples.len(), |it| {
        let distinct: std::collections::HashSet<&String> = it.iter().collect();
        distinct.len()
    })
}

fn outlook(plan: &Plan, metric: &Metric, spread: Option<f64>) -> Outlook {
    let is_clustered = plan.clusters().is_some();
    Outlook {
        range: metric.range,
        is_mean: matches!(metric.kind(), Kind::Proportion | Kind::Mean),
        is_proportion: metric.kind() == Kind::Proportion && !is_clustered,
        spread,
        n_units: n_units(plan),
    }
}

/// The spread of gains that a baseline holds: of its own variants, or since its anchor.
fn spread(base: &Side, gate: &GateSpec, model: &str, variant: &str) -> Option<f64> {
    let GateRule::Compare { against, .. } = &gate.rule else {
        return None;
    };
    let (reference, other) = match &against.value {
        Against::Variant(other) => (&base.evidence, other.as_str()),
        Against::Baseline => (base.anchor.as_ref()?, variant),
    };
    let cells = cells(reference, model, (variant, other))?;
    let metric = &gate.metric.value;
    let samples = compare::samples(&base.evidence, reference, &cells, metric)?.ok()?;
    let index = base.evidence.metric(metric)?;
    let direction = base.evidence.metrics[index].metric.direction;
    Difference::paired(&samples.candidate, &samples.reference, direction)
        .ok()?
        .spread()
}
