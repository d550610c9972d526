//! `harness check`: run, compare with a base, and decide by the gates.
//!
//! A check that comes to no verdict, because something was refused or a run broke off, writes its
//! reports too: they say why, so that CI does not merely lack a file.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use harness::compare::{self, CompareRunsError, Evidence, RunComparison, RunsOptions};
use harness::experiment::GateSpec;
use harness::plan::Plan;
use harness::report::checks;
use harness::report::comparison::{self as report, Compared};
use harness::report::escape::line;
use harness::report::{Checked, EditedGate};
use serde_json::{Value, json};

use super::args::{CheckArgs, Verbosity};
use super::ci;
use super::compare::{flips, told_flips};
use super::exit::Exit;
use super::forecasts;
use super::gates::{self, DEFAULT_BASELINE, Judged, Judging};
use super::output::{self, OutputError};
use super::run::{self, Ran, Shown, style};
use super::side::{self, Side};

/// Version of the JSON below.
const JSON_VERSION: u32 = 1;

/// Checks one experiment.
pub(super) fn run(args: &CheckArgs) -> Result<Exit, OutputError> {
    match checked(args) {
        Ok(exit) => Ok(exit),
        Err(End::Unjudged(end)) => Ok(end.exit.worst(ci::write_unjudged(args, &end))),
        Err(End::Output(err)) => Err(err),
    }
}

/// Why a check came to no verdict; whatever it was has been told.
#[derive(Debug)]
pub(super) struct Unjudged {
    /// How the command ends.
    pub(super) exit: Exit,
    pub(super) why: String,
    pub(super) hint: Option<&'static str>,
}

/// What ends a check early.
enum End {
    Unjudged(Unjudged),
    Output(OutputError),
}

impl From<OutputError> for End {
    fn from(err: OutputError) -> Self {
        Self::Output(err)
    }
}

/// Tells the error, and that nothing is judged.
fn refused(err: &dyn std::error::Error, hint: Option<&'static str>) -> End {
    output::error(err, hint);
    let mut why = err.to_string();
    let mut cause = err.source();
    while let Some(it) = cause {
        why += &format!(": {it}");
        cause = it.source();
    }
    let exit = Exit::Refused;
    End::Unjudged(Unjudged { exit, why, hint })
}

/// A run that left no evidence; it has said why.
fn broken_off(exit: Exit, file: &Path) -> End {
    let what = match exit {
        Exit::Interrupted | Exit::Terminated => "was interrupted",
        Exit::Refused => "was refused",
        _ => "did not come to its end",
    };
    End::Unjudged(Unjudged {
        exit,
        why: format!("the run of `{}` {what}", file.display()),
        hint: Some("the log says more"),
    })
}

/// What is checked, and what it is held against.
struct Planned {
    file: PathBuf,
    plan: Plan,
    against: Against,
}

/// What the candidate is held against.
enum Against {
    /// A baseline or a run.
    Side(Rc<Side>),
    /// An experiment file, which is run first.
    File(PathBuf, Box<Plan>),
}

impl Planned {
    /// The file whose gates decide, with its plan.
    fn judge(&self) -> (&Path, &Plan) {
        match &self.against {
            Against::Side(_) => (&self.file, &self.plan),
            Against::File(file, plan) => (file, plan),
        }
    }

    fn gates(&self) -> &[GateSpec] {
        &self.judge().1.experiment.spec.gates
    }

    fn own_gates(&self) -> &[GateSpec] {
        &self.plan.experiment.spec.gates
    }

    /// The gates that only one of two files has.
    fn edited(&self) -> Vec<EditedGate> {
        gates::edited(
            (self.judge().0, self.gates()),
            (&self.file, self.own_gates()),
        )
    }
}

/// There is nothing to decide.
#[derive(Debug, thiserror::Error)]
#[error("`{}` has no gates, so there is nothing to decide", .file.display())]
struct NoGatesError {
    file: PathBuf,
}

fn checked(args: &CheckArgs) -> Result<Exit, End> {
    let planned = planned(args)?;
    let edited = planned.edited();
    let (base, exit) = base(args, &planned, &edited)?;
    let (gates_file, gates) = (planned.judge().0, planned.gates());
    if Verbosity::Normal <= args.measure.verbosity.verbosity() {
        forecasts::tell(gates_file, &planned.plan, gates, Some(&base));
    }
    let candidate = (&*planned.file, &planned.plan);
    let ran = run::run_one(&args.measure, candidate, gates, Shown::Ranking)?;
    let exit = exit.worst(ran.exit);
    let Some(evidence) = &ran.evidence else {
        return Err(broken_off(exit, &planned.file));
    };
    let judging = Judging {
        gates_file: gates_file.to_path_buf(),
        gates,
        own_gates: planned.own_gates(),
        candidate: evidence,
        base: Some(&base),
        is_whole: is_whole(&planned.plan),
        options: args.comparison.options(),
    };
    tell(args, &ran, &judging, (&edited, exit))
}

/// Everything that is refused before anything runs, is refused here.
fn planned(args: &CheckArgs) -> Result<Planned, End> {
    let base = args.against.as_deref().filter(|it| is_file(it));
    // The base's file, where one is run, comes first.
    let files = base.map(PathBuf::from).into_iter();
    let files: Vec<PathBuf> = files.chain([args.file.clone()]).collect();
    let mut plans = run::plan_all(&files, &args.measure).unwrap_or_default();
    let Some((file, plan)) = plans.pop() else {
        return Err(End::Unjudged(Unjudged {
            exit: Exit::Refused,
            why: "the experiment was refused".to_owned(),
            hint: Some("the log says what is wrong, and on which line"),
        }));
    };
    let against = match plans.pop() {
        Some((file, plan)) => Against::File(file, Box::new(plan)),
        None => Against::Side(Rc::new(side(args, &plan)?)),
    };
    let planned = Planned {
        file,
        plan,
        against,
    };
    if planned.gates().is_empty() {
        let file = planned.judge().0.to_path_buf();
        let hint = "add a table [[gates]], or compare runs with `harness compare`";
        return Err(refused(&NoGatesError { file }, Some(hint)));
    }
    match refusal(&planned, args.comparison.options()) {
        Some(err) => Err(refused(&err, err.hint())),
        None => Ok(planned),
    }
}

/// Whether a base is an experiment file.
fn is_file(base: &str) -> bool {
    let path = Path::new(base);
    path.extension().is_some_and(|it| it == "toml")
}

/// The baseline or run that was named.
fn side(args: &CheckArgs, plan: &Plan) -> Result<Side, End> {
    let experiment = plan.experiment.spec.experiment.name.as_str();
    let results = &args.measure.results.folder;
    let side = match args.against.as_deref() {
        Some(base) => side::either(results, experiment, base),
        None => side::baseline(results, experiment, DEFAULT_BASELINE),
    };
    side.map_err(|err| refused(&err, err.hint()))
}

/// Why the two cannot be compared, as far as that can be told before anything runs.
fn refusal(planned: &Planned, options: RunsOptions) -> Option<CompareRunsError> {
    match &planned.against {
        Against::Side(side) => gates::refusal(&planned.plan, &side.evidence, options),
        Against::File(file, plan) => {
            let run = file.display().to_string();
            let outline = gates::outline(plan, &run, |_| String::new())?;
            gates::refusal(&planned.plan, &outline, options)
        }
    }
}

/// The base, run first if it is a file, and how that ended.
fn base(
    args: &CheckArgs,
    planned: &Planned,
    edited: &[EditedGate],
) -> Result<(Rc<Side>, Exit), End> {
    let (file, plan) = match &planned.against {
        Against::Side(side) => return Ok((Rc::clone(side), Exit::Done)),
        Against::File(file, plan) => (file, plan),
    };
    let ran = run::run_one(&args.measure, (file, plan), planned.gates(), Shown::Nothing)?;
    let Some(evidence) = ran.evidence else {
        return Err(broken_off(ran.exit, file));
    };
    for it in edited {
        output::note(&format!("note: {}", it.sentence()));
    }
    let base = Side {
        name: file.display().to_string(),
        evidence,
        anchor: None,
    };
    Ok((Rc::new(base), ran.exit))
}

/// Whether all variants of the file take part.
pub(crate) fn is_whole(plan: &Plan) -> bool {
    plan.variants.len() == plan.experiment.spec.variants.len()
}

/// Judges the run, and tells what came of it wherever that was asked for.
fn tell(
    args: &CheckArgs,
    ran: &Ran,
    judging: &Judging<'_>,
    (edited, exit): (&[EditedGate], Exit),
) -> Result<Exit, End> {
    let judged = gates::judge(std::slice::from_ref(judging)).pop();
    let (Some(judged), Some(base)) = (judged, judging.base) else {
        return Ok(exit);
    };
    let comparison = match &judged.comparison {
        Some(Ok(comparison)) => comparison,
        Some(Err(err)) => return Err(refused(err, err.hint())),
        None => return Ok(exit),
    };
    let told = told_flips(args.measure.json, comparison);
    let changes = flips(judging.candidate, &base.evidence, comparison, told);
    let anchor = base.anchor.as_ref();
    let drift = anchor.map(|it| compare::runs(judging.candidate, it, &judging.options));
    let drift = anchor.zip(drift.as_ref());
    let file = judged.file();
    let reports = Checked {
        checks: &judged.checked_gates(&file),
        compared: Compared {
            comparison,
            flips: &changes,
            is_complete: false,
        },
        base: &base.name,
        new_variants: &judged.covered.new_variants,
        skipped: &judged.skipped(),
        edited,
        is_incomplete: exit == Exit::Incomplete,
        drift: drift.and_then(|it| it.1.as_ref().ok()),
        command: &ci::command(),
        version: env!("CARGO_PKG_VERSION"),
    };
    let exit = exit.worst(judged.exit()).worst(ci::write(args, &reports));
    let text = if args.measure.json {
        output::json(&json(ran, &judged, &reports, drift, exit))
    } else {
        let mut text = report::text(&reports.compared, style());
        text += &drift_text(drift);
        text.push('\n');
        text += &judged.text();
        text
    };
    output::result(&text)?;
    Ok(exit)
}

/// The first baseline of a line, and the run held against it.
type Drift<'a> = (&'a Evidence, &'a Result<RunComparison, CompareRunsError>);

fn json(
    ran: &Ran,
    judged: &Judged,
    reports: &Checked<'_>,
    drift: Option<Drift<'_>>,
    exit: Exit,
) -> Value {
    let edited = reports.edited.iter();
    let edited = edited
        .map(|it| json!({"file": it.place.file, "line": it.place.line, "decides": it.decides}));
    let since_anchor = drift.map(|(anchor, drift)| match drift {
        Ok(it) => report::json(&Compared {
            comparison: it,
            flips: &[],
            is_complete: false,
        }),
        Err(err) => json!({"run": anchor.run, "not_compared": err.to_string()}),
    });
    json!({
        "schema_version": JSON_VERSION,
        "exit_code": exit.code(),
        "run": ran.run,
        "checks": checks::json(&judged.check_lines(&judged.file())),
        "edited_gates": edited.collect::<Vec<_>>(),
        "gates_not_judged": judged.not_judged_json(),
        "new_variants": judged.covered.new_variants,
        "new_models": judged.covered.new_models,
        "comparison": report::json(&reports.compared),
        "since_anchor": since_anchor,
    })
}

/// How far the candidate has come from the first baseline of the line.
fn drift_text(drift: Option<Drift<'_>>) -> String {
    let Some((anchor, drift)) = drift else {
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
