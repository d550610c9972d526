//! `harness check`: run, compare with a base, and decide by the gates.

use std::path::{Path, PathBuf};

use harness::compare::{self, CellPair, CompareRunsError, Evidence, RunComparison, RunsOptions};
use harness::experiment::{Against as GateAgainst, GateSpec, Rule};
use harness::plan::Plan;
use harness::report::checks::{self, CheckLine};
use harness::report::comparison::{self as report, Compared};
use harness::report::escape::line;
use harness::report::{Checked, CheckedGate};
use serde_json::json;

use super::args::{CheckArgs, Verbosity};
use super::ci;
use super::compare::{Flips, flips};
use super::exit::Exit;
use super::gates::{self, DEFAULT_BASELINE, Judging};
use super::output::{self, OutputError};
use super::run::{self, Ran, Shown, style};
use super::side::{self, Side, SideError};

/// Version of the JSON below.
const JSON_VERSION: u32 = 1;

/// What the candidate is held against.
enum Against {
    /// A baseline or a run.
    Side(Box<Side>),
    /// An experiment file, which is run first.
    File(PathBuf),
}

/// Checks one experiment.
pub(super) fn run(args: &CheckArgs) -> Result<Exit, OutputError> {
    let Some(mut planned) = run::plan_all(&files(args), &args.measure) else {
        return Ok(Exit::Refused);
    };
    // The base's file, where one is run, comes first.
    let Some((file, plan)) = planned.pop() else {
        return Ok(Exit::Refused);
    };
    let base_plan = planned.pop();
    let gates: &[GateSpec] = &base_plan
        .as_ref()
        .map_or(&plan, |it| &it.1)
        .experiment
        .spec
        .gates;
    if gates.is_empty() {
        let gates_file = base_plan.as_ref().map_or(&file, |it| &it.0);
        output::note(&format!(
            "error: `{}` has no gates, so there is nothing to decide\n  hint: add a table \
             [[gates]], or compare runs with `harness compare`",
            gates_file.display()
        ));
        return Ok(Exit::Refused);
    }
    let against = match against(args, &plan) {
        Ok(against) => against,
        Err(err) => {
            output::error(&err, err.hint());
            return Ok(Exit::Refused);
        }
    };
    let options = RunsOptions {
        across_models: args.across_models,
        common_rows: args.common_rows,
    };
    if let Some(err) = refusal(&plan, &against, base_plan.as_ref(), options) {
        output::error(&err, err.hint());
        return Ok(Exit::Refused);
    }
    let mut exit = Exit::Done;
    let base = match against {
        Against::Side(side) => *side,
        Against::File(base_file) => {
            let Some((_, base_plan)) = &base_plan else {
                return Ok(Exit::Refused);
            };
            let planned = (&*base_file, base_plan);
            let ran = run::run_one(&args.measure, planned, gates, Shown::Nothing)?;
            let Some(evidence) = ran.evidence else {
                return Ok(ran.exit);
            };
            exit = ran.exit;
            tell_edited_gates(gates, &plan.experiment.spec.gates);
            Side {
                name: base_file.display().to_string(),
                evidence,
                anchor: None,
            }
        }
    };
    let gates_file = base_plan.as_ref().map_or(&file, |it| &it.0).clone();
    if Verbosity::Normal <= args.measure.verbosity.verbosity() {
        gates::tell_forecasts(&gates_file, &plan, gates, Some(&base));
    }
    let ran = run::run_one(&args.measure, (&file, &plan), gates, Shown::Ranking)?;
    let exit = exit.worst(ran.exit);
    match &ran.evidence {
        None => Ok(exit),
        Some(evidence) => {
            let judging = Judging {
                gates_file,
                gates,
                candidate: evidence,
                base: Some(&base),
                is_whole: is_whole(&plan),
                options,
            };
            tell(args, &ran, &judging, exit)
        }
    }
}

/// Why the two cannot be compared, as far as that can be told before anything runs.
fn refusal(
    plan: &Plan,
    against: &Against,
    base_plan: Option<&(PathBuf, Plan)>,
    options: RunsOptions,
) -> Option<CompareRunsError> {
    match (against, base_plan) {
        (Against::Side(side), _) => gates::refusal(plan, &side.evidence, options),
        (Against::File(file), Some((_, base_plan))) => {
            let run = file.display().to_string();
            let outline = gates::outline(base_plan, &run, |_| String::new())?;
            gates::refusal(plan, &outline, options)
        }
        (Against::File(_), None) => None,
    }
}

/// Whether all variants of the file take part.
pub(crate) fn is_whole(plan: &Plan) -> bool {
    plan.variants.len() == plan.experiment.spec.variants.len()
}

/// Everything that is planned: the base's file first, if one is named.
fn files(args: &CheckArgs) -> Vec<PathBuf> {
    let base = args.against.as_deref().filter(|it| is_file(it));
    base.map(PathBuf::from)
        .into_iter()
        .chain([args.file.clone()])
        .collect()
}

/// Whether a base is an experiment file.
fn is_file(base: &str) -> bool {
    let path = Path::new(base);
    path.extension().is_some_and(|it| it == "toml")
}

fn against(args: &CheckArgs, plan: &Plan) -> Result<Against, SideError> {
    let experiment = plan.experiment.spec.experiment.name.as_str();
    let results = &args.measure.results.folder;
    let side = match args.against.as_deref() {
        Some(base) if is_file(base) => return Ok(Against::File(base.into())),
        Some(base) => side::either(results, experiment, base)?,
        None => side::baseline(results, experiment, DEFAULT_BASELINE)?,
    };
    Ok(Against::Side(Box::new(side)))
}

/// Says which gates the candidate's file changes: they do not judge themselves.
fn tell_edited_gates(base: &[GateSpec], own: &[GateSpec]) {
    let is_in = |gate: &GateSpec, list: &[GateSpec]| list.contains(gate);
    for gate in own.iter().filter(|it| !is_in(it, base)) {
        output::note(&format!(
            "note: the gate at {} is not the base's; the base's gates decide",
            gate.header.place
        ));
    }
    for gate in base.iter().filter(|it| !is_in(it, own)) {
        output::note(&format!(
            "note: the base's gate at {} was edited or removed; it still decides",
            gate.header.place
        ));
    }
}

fn tell(
    args: &CheckArgs,
    ran: &Ran,
    judging: &Judging<'_>,
    exit: Exit,
) -> Result<Exit, OutputError> {
    let mut judged = gates::judge(std::slice::from_ref(judging));
    let Some(judged) = judged.pop() else {
        return Ok(exit);
    };
    let comparison = match &judged.comparison {
        Some(Ok(comparison)) => comparison,
        Some(Err(err)) => {
            output::error(err, err.hint());
            return Ok(Exit::Refused.worst(exit));
        }
        None => return Ok(exit),
    };
    let Some(base) = judging.base else {
        return Ok(exit);
    };
    let changes = flips(judging.candidate, &base.evidence, comparison);
    let compared = Compared {
        comparison,
        flips: &changes,
        is_complete: false,
    };
    let drift = base
        .anchor
        .as_ref()
        .map(|anchor| compare::runs(judging.candidate, anchor, &judging.options));
    let file = judged.file();
    let lines = judged.check_lines(&file).into_iter();
    let checks: Vec<CheckedGate<'_>> = lines.map(|it| with_flips(it, judging, &changes)).collect();
    let reports = Checked {
        checks: &checks,
        compared,
        base: &base.name,
        new_variants: &judged.covered.new_variants,
        is_incomplete: exit == Exit::Incomplete,
        drift: drift.as_ref().and_then(|it| it.as_ref().ok()),
        command: &ci::command(),
        version: env!("CARGO_PKG_VERSION"),
    };
    let exit = exit
        .worst(judged.exit())
        .worst(ci::write(args, &judged.gates_file, &reports));
    let text = if args.measure.json {
        output::json(&json!({
            "schema_version": JSON_VERSION,
            "exit_code": exit.code(),
            "run": ran.run.clone(),
            "checks": checks::json(&judged.check_lines(&file)),
            "new_variants": judged.covered.new_variants,
            "comparison": report::json(&compared),
            "since_anchor": drift.as_ref().and_then(|it| it.as_ref().ok()).map(|it| {
                report::json(&Compared { comparison: it, flips: &[], is_complete: false })
            }),
        }))
    } else {
        let mut text = report::text(&compared, style());
        text += &drift_text(drift.as_ref(), base.anchor.as_ref());
        text.push('\n');
        text += &judged.text();
        text
    };
    output::result(&text)?;
    Ok(exit)
}

/// The check with what changed against its reference, or the base where it has none.
fn with_flips<'a>(
    line: CheckLine<'a>,
    judging: &Judging<'_>,
    since_base: &Flips,
) -> CheckedGate<'a> {
    let label = &line.check.label;
    let rule = judging.gates.get(label.gate_index).map(|it| &it.rule);
    let other = match rule {
        Some(Rule::Compare { against, .. }) => match &against.value {
            GateAgainst::Variant(other) => Some(other),
            GateAgainst::Baseline => None,
        },
        _ => None,
    };
    let (against, flips) = if let Some(reference) = other {
        let cells = CellPair {
            candidate_model: label.model.clone(),
            candidate: label.variant.clone(),
            reference_model: label.model.clone(),
            reference: reference.clone(),
        };
        let flips = compare::flips(judging.candidate, judging.candidate, &cells);
        (reference.clone(), flips)
    } else {
        let base = judging.base.map_or(String::new(), |it| it.name.clone());
        let of = |it: &&(String, String, _)| (&it.0, &it.1) == (&label.model, &label.variant);
        let found = since_base.iter().find(of);
        (base, found.map_or(Vec::new(), |it| it.2.clone()))
    };
    let metric = judging
        .candidate
        .metric(harness::report::flips::per_case(&label.metric));
    let unit = metric.map(|it| judging.candidate.metrics[it].metric.unit);
    CheckedGate {
        line,
        against,
        flips,
        flip_unit: unit.unwrap_or(line.unit),
    }
}

/// How far the candidate has come from the first baseline of the line.
fn drift_text(
    drift: Option<&Result<RunComparison, CompareRunsError>>,
    anchor: Option<&Evidence>,
) -> String {
    let (Some(drift), Some(anchor)) = (drift, anchor) else {
        return String::new();
    };
    let lines: String = match drift {
        Ok(drift) => {
            let rows = drift.comparisons.iter().filter(|it| it.is_confirmatory);
            rows.fold(String::new(), |text, it| {
                text + "  " + &report::gain_line(it) + "\n"
            })
        }
        Err(err) => format!("  not compared: {}\n", line(&err.to_string())),
    };
    format!(
        "\nSince the first baseline of this line, run {}:\n{lines}",
        line(&anchor.run)
    )
}
