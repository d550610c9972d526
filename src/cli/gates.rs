//! Gates: what they need before a run, and what they say after it.

use std::path::{Path, PathBuf};

use harness::compare::{self, CellPair, CompareRunsError, Evidence, RunComparison, RunsOptions};
use harness::experiment::{Against, GateSpec, Rule as GateRule};
use harness::gate::{
    self, Base, Check, Covered, Limit, Outcome, Outlook, Rule, cover, decide_all, forecast,
};
use harness::metric::{Kind, Metric, Unit};
use harness::plan::Plan;
use harness::report::checks::{self, CheckLine};
use harness::report::escape::line;
use harness::score;
use harness::stats::Difference;
use harness::table::BaselineError;

use super::analysis;
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
            checks,
            covered,
            comparison,
        }
    });
    done.collect()
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
        let mut text = checks::text(&self.check_lines(&file), style());
        for variant in &self.covered.new_variants {
            text += &format!(
                "new     variant `{}` has nothing in the baseline\n",
                line(variant)
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
    let mut lines = Vec::new();
    for gate in gates {
        let Some(metric) = metrics.iter().find(|it| it.name == gate.metric.value) else {
            continue;
        };
        let rule = Rule::of(gate);
        if !matches!(rule.limit, Limit::MaxDrop(_)) {
            continue;
        }
        let place = format!("{}:{}", file.display(), gate_line(gate));
        let models = plan.models.iter().filter(|it| gate.model.covers(&it.name));
        for model in models {
            let variants = plan.variants.iter();
            for variant in variants.filter(|it| gate.variant.covers(&it.name)) {
                let spread = base.and_then(|it| spread(it, gate, &model.name, &variant.name));
                let outlook = outlook(plan, metric, spread);
                let subject = format!("{} of {}", gate.metric.value, variant.name);
                lines.push(checks::forecast_line(
                    &place,
                    &subject,
                    &forecast(&rule, &outlook),
                    outlook.n_units,
                    metric.unit,
                ));
            }
        }
    }
    lines.dedup();
    lines
}

fn outlook(plan: &Plan, metric: &Metric, spread: Option<f64>) -> Outlook {
    let n_units = plan.clusters().map_or(plan.examples.len(), |it| {
        let distinct: std::collections::HashSet<&String> = it.iter().collect();
        distinct.len()
    });
    let is_clustered = plan.clusters().is_some();
    Outlook {
        range: metric.range,
        is_mean: matches!(metric.kind(), Kind::Proportion | Kind::Mean),
        is_proportion: metric.kind() == Kind::Proportion && !is_clustered,
        spread,
        n_units,
    }
}

/// The spread of gains that a baseline holds: of its own variants, or since its anchor.
fn spread(base: &Side, gate: &GateSpec, model: &str, variant: &str) -> Option<f64> {
    let GateRule::Compare { against, .. } = &gate.rule else {
        return None;
    };
    let (reference, other) = match &against.value {
        Against::Variant(other) if other == variant => return None,
        Against::Variant(other) => (&base.evidence, other.as_str()),
        Against::Baseline => (base.anchor.as_ref()?, variant),
    };
    let cells = CellPair {
        candidate_model: model.to_owned(),
        candidate: variant.to_owned(),
        reference_model: model.to_owned(),
        reference: other.to_owned(),
    };
    let metric = &gate.metric.value;
    let samples = compare::samples(&base.evidence, reference, &cells, metric)?.ok()?;
    let index = base.evidence.metric(metric)?;
    let direction = base.evidence.metrics[index].metric.direction;
    Difference::paired(&samples.candidate, &samples.reference, direction)
        .ok()?
        .spread()
}
