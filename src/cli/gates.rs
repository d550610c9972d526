//! Gates: what a run is held against, whether that can be, and what they say after it.

use std::path::{Path, PathBuf};

use harness::compare::{
    self, Cases, CellPair, CompareRunsError, Evidence, Flip, RunComparison, RunsOptions,
};
use harness::experiment::{Against, GateSpec, Rule as GateRule};
use harness::gate::{self, Base, Check, Covered, Outcome, Reason, cover, decide_all};
use harness::metric::Unit;
use harness::plan::Plan;
use harness::report::checks::CheckLine;
use harness::report::escape::line;
use harness::report::flips::per_case;
use harness::report::{CheckedGate, EditedGate, GatePlace, checked};
use harness::score;
use harness::table::BaselineError;
use serde_json::{Value, json};

use super::analysis::{self, Measurements};
use super::exit::Exit;
use super::run::style;
use super::side::{self, Side, SideError};

/// The baseline that gates are held against where no other is named.
pub(crate) const DEFAULT_BASELINE: &str = "main";

/// One experiment's run, to be held against its gates.
pub(crate) struct Judging<'a> {
    /// The file that the gates stand in.
    pub(crate) gates_file: PathBuf,
    pub(crate) gates: &'a [GateSpec],
    /// Those of the candidate's own file, which are others where the base is a file.
    pub(crate) own_gates: &'a [GateSpec],
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
    /// The lines of equal gates in the candidate's own file.
    own_lines: Vec<Option<usize>>,
    pub(crate) checks: Vec<Check>,
    units: Vec<Unit>,
    changes: Vec<Changes>,
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
        let is_comparable = matches!(comparison, Some(Ok(_)));
        let base = it.base.filter(|_| is_comparable);
        let changes = checks.iter().map(|check| changes(it, base, check));
        Judged {
            gates_file: it.gates_file.clone(),
            lines: it.gates.iter().map(gate_line).collect(),
            own_lines: own_lines(it),
            units: checks.iter().map(unit).collect(),
            changes: changes.collect(),
            checks,
            covered,
            comparison,
        }
    });
    done.collect()
}

/// What changed against what a check holds its variant against.
#[derive(Default)]
struct Changes {
    /// The reference's name, or the base's for `min` and `max`.
    against: String,
    /// By the metric of single examples that tells most about the check's.
    flips: Vec<Flip>,
    /// The unit of that metric.
    unit: Option<Unit>,
}

/// Nothing where requests were equal, or where there is no reference.
fn changes(of: &Judging<'_>, base: Option<&Side>, check: &Check) -> Changes {
    let label = &check.label;
    let rule = of.gates.get(label.gate_index).map(|it| &it.rule);
    let other = match rule {
        Some(GateRule::Compare { against, .. }) => match &against.value {
            Against::Variant(other) => Some(other),
            Against::Baseline => None,
        },
        _ => None,
    };
    let (reference, variant, against) = match (other, base) {
        (Some(other), _) => (of.candidate, other, other),
        (None, Some(base)) => (&base.evidence, &label.variant, &base.name),
        (None, None) => return Changes::default(),
    };
    let metric = per_case(&label.metric);
    let unit = of.candidate.metric(metric);
    let mut changes = Changes {
        against: against.clone(),
        flips: Vec::new(),
        unit: unit.map(|it| of.candidate.metrics[it].metric.unit),
    };
    let is_identical = matches!(check.reasons[..], [Reason::Identical { .. }]);
    let cells = cells(reference, &label.model, (&label.variant, variant));
    if let (Some(cells), false) = (cells, is_identical) {
        changes.flips = compare::flips(of.candidate, reference, &cells, Some(metric));
    }
    changes
}

/// A variant and its counterpart in `reference`, on the model of that name or the only one.
pub(super) fn cells(reference: &Evidence, model: &str, variants: (&str, &str)) -> Option<CellPair> {
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
pub(super) fn gate_line(gate: &GateSpec) -> usize {
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

    /// Every check with what changed; `file` is [`Judged::file`].
    pub(crate) fn checked_gates<'a>(&'a self, file: &'a str) -> Vec<CheckedGate<'a>> {
        let lines = self.check_lines(file).into_iter().zip(&self.changes);
        lines
            .map(|(line, changes)| CheckedGate {
                line,
                own_line: self.own_lines[line.check.label.gate_index],
                against: &changes.against,
                flips: &changes.flips,
                flip_unit: changes.unit.unwrap_or(line.unit),
            })
            .collect()
    }

    /// Gates that cover nothing of what was selected.
    pub(crate) fn skipped(&self) -> Vec<GatePlace> {
        self.places(&self.covered.unselected)
    }

    fn places(&self, gates: &[usize]) -> Vec<GatePlace> {
        let place = |gate: &usize| GatePlace {
            file: self.file(),
            line: self.line(*gate),
        };
        gates.iter().map(place).collect()
    }

    /// What was not judged, as JSON: gates with their place and why.
    pub(crate) fn not_judged_json(&self) -> Vec<Value> {
        let of = |gates: &[usize], why: &str| -> Vec<Value> {
            let places = self.places(gates);
            let one = |it: &GatePlace| json!({"file": it.file, "line": it.line, "why": why});
            places.iter().map(one).collect()
        };
        [
            of(&self.covered.unselected, "not_selected"),
            of(&self.covered.without_baseline, "no_baseline"),
        ]
        .concat()
    }

    /// What the gates say, for people.
    pub(crate) fn text(&self) -> String {
        let file = self.file();
        let mut text = checked::text(&self.checked_gates(&file), style());
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
        for place in self.skipped() {
            text += &format!(
                "skipped  gate [{}]: its variants, its model or its reference were not selected\n",
                place.text()
            );
        }
        text
    }
}

/// Position in `own` of the gate that is equal to each of `gates`; each is taken once.
fn counterparts(gates: &[GateSpec], own: &[GateSpec]) -> Vec<Option<usize>> {
    let mut is_free = vec![true; own.len()];
    let mut counterpart = |gate: &GateSpec| {
        let found = (0..own.len()).find(|it| is_free[*it] && own[*it] == *gate)?;
        is_free[found] = false;
        Some(found)
    };
    gates.iter().map(&mut counterpart).collect()
}

fn own_lines(of: &Judging<'_>) -> Vec<Option<usize>> {
    let own = counterparts(of.gates, of.own_gates).into_iter();
    own.map(|it| Some(gate_line(&of.own_gates[it?]))).collect()
}

/// The gates that only one of two files has: those of `own`, which do not judge themselves, then
/// those of `base`, which decide.
pub(crate) fn edited(
    (base_file, base): (&Path, &[GateSpec]),
    (own_file, own): (&Path, &[GateSpec]),
) -> Vec<EditedGate> {
    let counterparts = counterparts(base, own);
    let edited = |file: &Path, gate: &GateSpec, decides| EditedGate {
        place: GatePlace {
            file: file.display().to_string(),
            line: gate_line(gate),
        },
        decides,
    };
    let of_own = own.iter().enumerate();
    let of_own = of_own.filter(|it| !counterparts.contains(&Some(it.0)));
    let of_base = base.iter().zip(&counterparts).filter(|it| it.1.is_none());
    of_own
        .map(|it| edited(own_file, it.1, false))
        .chain(of_base.map(|it| edited(base_file, it.0, true)))
        .collect()
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
    let metrics = analysis::metrics(plan, &judges);
    let unanswered = (0..plan.examples.len()).map(|_| analysis::case(&metrics, &[]));
    let cell: Cases = unanswered.collect();
    let measurements = Measurements {
        run,
        numerics: &numerics,
        metrics: &metrics,
        cells: vec![cell; plan.models.len() * plan.variants.len()],
    };
    Some(analysis::evidence(plan, measurements))
}
