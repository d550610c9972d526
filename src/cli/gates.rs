//! Gates: what they need before a run, and what they say after it.

use std::path::{Path, PathBuf};

use harness::compare::{
    self, CellPair, CompareRunsError, Evidence, FlipKind, RunComparison, RunsOptions,
};
use harness::experiment::{Against, GateSpec, Rule as GateRule};
use harness::gate::{
    self, Base, Check, Covered, Forecast, Limit, Outcome, Outlook, Rule, State, cover, decide_all,
    forecast,
};
use harness::metric::{Kind, Metric, Unit};
use harness::plan::Plan;
use harness::report::checks::{self, CheckLine, Expected};
use harness::report::escape::line;
use harness::report::flips;
use harness::score;
use harness::stats::Difference;
use harness::table::BaselineError;

use super::analysis::{self, Measurements, RequestDigests};
use super::exit::Exit;
use super::output;
use super::run::style;
use super::side::{self, Side, SideError};

/// The baseline that gates are held against where no other is named.
pub(crate) const DEFAULT_BASELINE: &str = "main";

/// One experiment's run, to be held against its gates.
pub(crate) struct Judging<'a> {
    /// The file that the gates stand in.
    pub(crate) gates_file: PathBuf,
    pub(crate) gates: &'a [GateSpec],
    pub(crate) candidate: &'a Evidence,
    pub(crate) base: Option<&'a Side>,
    /// Whether all variants of the file took part.
    pub(crate) is_whole: bool,
    pub(crate) options: RunsOptions,
}

/// What became of one experiment's gates.
pub(crate) struct Judged {
    pub(crate) gates_file: PathBuf,
    /// The line of every gate.
    lines: Vec<usize>,
    pub(crate) checks: Vec<Check>,
    units: Vec<Unit>,
    /// What every failed check got wrong that its reference had right, on lines.
    broken: Vec<Vec<String>>,
    pub(crate) covered: Covered,
    /// The run against its base, where there is one.
    pub(crate) comparison: Option<Result<RunComparison, CompareRunsError>>,
}

/// Holds every run of a command against its gates, with Holm over all of its checks.
pub(crate) fn judge(all: &[Judging<'_>]) -> Vec<Judged> {
    let mut findings = Vec::new();
    let mut judged = Vec::new();
    for it in all {
        let comparison = it
            .base
            .map(|base| compare::runs(it.candidate, &base.evidence, &it.options));
        let why = match &comparison {
            Some(Err(err)) => err.to_string(),
            _ => String::new(),
        };
        let base = match (it.base, &comparison) {
            (Some(side), Some(Ok(_))) => Base::Evidence {
                evidence: &side.evidence,
                name: &side.name,
            },
            (Some(side), _) => Base::Refused {
                name: &side.name,
                why: &why,
            },
            (None, _) => Base::None,
        };
        let mut covered = cover(it.gates, it.candidate, base, it.is_whole);
        let of_file = std::mem::take(&mut covered.findings);
        judged.push((of_file.len(), it, covered, comparison));
        findings.extend(of_file);
    }
    let mut checks = decide_all(findings).into_iter();
    let done = judged.into_iter().map(|(n, it, covered, comparison)| {
        let checks: Vec<Check> = checks.by_ref().take(n).collect();
        let unit = |check: &Check| {
            let index = it.candidate.metric(&check.label.metric);
            index.map_or(Unit::Plain, |index| it.candidate.metrics[index].metric.unit)
        };
        Judged {
            gates_file: it.gates_file.clone(),
            lines: it.gates.iter().map(gate_line).collect(),
            units: checks.iter().map(unit).collect(),
            broken: checks.iter().map(|check| broken(it, check)).collect(),
            checks,
            covered,
            comparison,
        }
    });
    done.collect()
}

/// Examples that a failed check lists of each kind.
const MAX_BROKEN: usize = 5;

/// The examples that a failed check's variant lost against its reference.
fn broken(of: &Judging<'_>, check: &Check) -> Vec<String> {
    let label = &check.label;
    let Some(GateRule::Compare { against, .. }) = of.gates.get(label.gate_index).map(|it| &it.rule)
    else {
        return Vec::new();
    };
    if check.state != State::Failed {
        return Vec::new();
    }
    let (reference, variant) = match (&against.value, of.base) {
        (Against::Variant(other), _) => (of.candidate, other),
        (Against::Baseline, Some(base)) => (&base.evidence, &label.variant),
        (Against::Baseline, None) => return Vec::new(),
    };
    let Some(cells) = cells(reference, &label.model, (&label.variant, variant)) else {
        return Vec::new();
    };
    let metric = flips::per_case(&label.metric);
    let lost = compare::flips(of.candidate, reference, &cells)
        .into_iter()
        .filter(|it| it.metric == metric)
        .filter(|it| matches!(it.kind, FlipKind::Broke | FlipKind::Worsened));
    let unit = of.candidate.metric(metric);
    let unit = unit.map_or(Unit::Plain, |it| of.candidate.metrics[it].metric.unit);
    let lists = flips::lists(&lost.collect::<Vec<_>>(), unit, MAX_BROKEN);
    let of_cases = if metric == label.metric {
        String::new()
    } else {
        format!(" by {metric}")
    };
    let listed = lists
        .iter()
        .map(|it| it.replacen(':', &format!("{of_cases}:"), 1));
    listed.collect()
}

/// A variant and its counterpart in `reference`, on the model of that name or the only one.
fn cells(reference: &Evidence, model: &str, variants: (&str, &str)) -> Option<CellPair> {
    let reference_model = match (reference.model(model), &reference.models[..]) {
        (Some(index), _) => &reference.models[index].name,
        (None, [only]) => &only.name,
        (None, _) => return None,
    };
    Some(CellPair {
        candidate_model: model.to_owned(),
        candidate: variants.0.to_owned(),
        reference_model: reference_model.clone(),
        reference: variants.1.to_owned(),
    })
}

/// The line of `[[gates]]`, from 1.
fn gate_line(gate: &GateSpec) -> usize {
    let place = &gate.header.place;
    place.source.line_and_column(place.span.start).0
}

impl Judged {
    /// How the command ends as far as these gates go.
    pub(crate) fn exit(&self) -> Exit {
        match gate::outcome(&self.checks) {
            Outcome::Passed => Exit::Done,
            Outcome::Inconclusive => Exit::Inconclusive,
            Outcome::Failed => Exit::GateFailed,
            Outcome::Incomplete => Exit::Incomplete,
        }
    }

    /// The name of the file in reports.
    pub(crate) fn file(&self) -> String {
        self.gates_file.display().to_string()
    }

    /// The line of a gate, from 1.
    pub(crate) fn line(&self, gate_index: usize) -> usize {
        self.lines.get(gate_index).copied().unwrap_or(1)
    }

    /// Every check with its place; `file` is [`Judged::file`].
    pub(crate) fn check_lines<'a>(&'a self, file: &'a str) -> Vec<CheckLine<'a>> {
        let checks = self.checks.iter().zip(&self.units);
        checks
            .map(|(check, unit)| CheckLine {
                file,
                line: self.line(check.label.gate_index),
                check,
                unit: *unit,
            })
            .collect()
    }

    /// What the gates say, for people.
    pub(crate) fn text(&self) -> String {
        let file = self.file();
        let mut text = String::new();
        for (check, broken) in self.check_lines(&file).iter().zip(&self.broken) {
            text += &checks::text(std::slice::from_ref(check), style());
            for line in broken {
                text += &format!("    {line}\n");
            }
        }
        for (what, names) in [
            ("variant", &self.covered.new_variants),
            ("model", &self.covered.new_models),
        ] {
            for name in names {
                let name = line(name);
                text += &format!(
                    "new  {what} `{name}` is not in the baseline: not judged against it\n"
                );
            }
        }
        for gate in &self.covered.unselected {
            text += &format!(
                "skipped  gate [{}:{}]: its variants, its model or its reference were not selected\n",
                line(&file),
                self.line(*gate)
            );
        }
        text
    }
}

/// The baseline that `run` holds gates against; `None` where there is none yet or no gate asks.
///
/// # Errors
///
/// A baseline that cannot be read.
pub(crate) fn base_of_run(results: &Path, plan: &Plan) -> Result<Option<Side>, SideError> {
    let spec = &plan.experiment.spec;
    let asks = |gate: &GateSpec| matches!(&gate.rule, GateRule::Compare { against, .. } if against.value == Against::Baseline);
    if !spec.gates.iter().any(asks) {
        return Ok(None);
    }
    let experiment = spec.experiment.name.as_str();
    match side::baseline(results, experiment, DEFAULT_BASELINE) {
        Ok(side) => Ok(Some(side)),
        Err(SideError::Baseline(BaselineError::Unknown { .. })) => Ok(None),
        Err(err) => Err(err),
    }
}

/// Why a run of `plan` could not be compared with `base`, as far as that can be told before it
/// runs: another model, other rows, nothing in common. Another arithmetic shows only later.
pub(crate) fn refusal(
    plan: &Plan,
    base: &Evidence,
    options: RunsOptions,
) -> Option<CompareRunsError> {
    let numerics: Vec<String> = base.models.iter().map(|it| it.numerics.clone()).collect();
    let outline = outline(plan, "", |name| {
        let index = base.model(name).unwrap_or_default();
        numerics.get(index).cloned().unwrap_or_default()
    })?;
    let error = compare::runs(&outline, base, &options).err()?;
    // An outline has no answers, which is no fault of either side.
    (!matches!(error, CompareRunsError::Evidence { .. })).then_some(error)
}

/// The evidence that a run of `plan` will leave, but for its answers.
pub(crate) fn outline(
    plan: &Plan,
    run: &str,
    numerics: impl Fn(&str) -> String,
) -> Option<Evidence> {
    let judges = score::judges(&plan.experiment.spec.metrics).ok()?;
    let numerics: Vec<String> = plan.models.iter().map(|it| numerics(&it.name)).collect();
    Some(analysis::evidence(
        plan,
        &Measurements {
            run,
            numerics: &numerics,
            judges: &judges,
            scores: &[],
            requests: &RequestDigests::new(),
        },
    ))
}

/// Tells how many examples the gates need, before anything runs.
pub(crate) fn tell_forecasts(file: &Path, plan: &Plan, gates: &[GateSpec], base: Option<&Side>) {
    for line in forecasts(file, plan, gates, base) {
        output::note(&line);
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
