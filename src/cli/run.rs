//! `harness run`: validate every file, then run one after another and show the rankings.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use harness::compare::Evidence;
use harness::engine::Rows;
use harness::experiment::GateSpec;
use harness::plan::Plan;
use harness::report::{ReportInput, Style, checks, count, json, text, wrap};
use harness::runner::RunError;
use harness::table::RunSummary;

use super::args::{MeasureArgs, RunArgs, Verbosity};
use super::check;
use super::draw::{self, Bars, Waiting};
use super::execute::{ExecuteError, Finished, Options, Stage, Watcher, execute};
use super::exit::Exit;
use super::forecasts;
use super::gates::{self, DEFAULT_BASELINE, Judging};
use super::lazy_engine;
use super::open::{self, OpenModels, Opening};
use super::output::{self, OutputError, Stream};
use super::progress::{Clock, Group, Kind, duration};
use super::side::Side;
use super::{STOP, signal, slips, trust};

/// What came of one experiment.
pub(crate) struct Ran {
    /// How it ended, gates apart.
    pub(crate) exit: Exit,
    /// The run's id.
    pub(crate) run: Option<String>,
    /// What there is to report of it.
    report: Option<ReportInput>,
    /// `None` if it did not come to its end.
    pub(crate) evidence: Option<Evidence>,
}

/// Runs the experiments named on the command line, then holds them against their gates.
pub(super) fn run(args: &RunArgs) -> Result<Exit, OutputError> {
    let Some(planned) = plan_all(&args.files, &args.measure) else {
        return Ok(Exit::Refused);
    };
    let mut bases = Vec::new();
    for (file, plan) in &planned {
        match gates::base_of_run(&args.measure.results.folder, plan) {
            Ok(base) => bases.push(base),
            Err(err) => {
                // A verdict from a damaged baseline would be worse than none.
                output::error(&err, err.hint());
                return Ok(Exit::Refused);
            }
        }
        if Verbosity::Normal <= args.measure.verbosity.verbosity() {
            let base = bases.last().and_then(Option::as_ref);
            forecasts::tell(file, plan, &plan.experiment.spec.gates, base);
        }
    }
    let mut exit = Exit::Done;
    let mut all = Vec::new();
    for (file, plan) in &planned {
        let ran = run_one(
            &args.measure,
            (file, plan),
            &plan.experiment.spec.gates,
            Shown::Ranking,
        )?;
        exit = exit.worst(ran.exit);
        all.push(ran);
        if STOP.is_raised() {
            break;
        }
    }
    Ok(exit.worst(tell_gates(args, &planned, &bases, &all)?))
}

/// Settles all gates of the command at once; returns how it ends as far as they go.
fn tell_gates(
    args: &RunArgs,
    planned: &[(PathBuf, Plan)],
    bases: &[Option<Side>],
    all: &[Ran],
) -> Result<Exit, OutputError> {
    let runs = planned.iter().zip(bases).zip(all);
    let runs: Vec<(Judging<'_>, &ReportInput)> = runs
        .filter_map(|(((file, plan), base), ran)| {
            let judging = Judging {
                gates_file: file.clone(),
                gates: &plan.experiment.spec.gates,
                own_gates: &plan.experiment.spec.gates,
                candidate: ran.evidence.as_ref()?,
                base: base.as_ref(),
                is_whole: check::is_whole(plan),
                options: args.comparison.options(),
            };
            Some((judging, ran.report.as_ref()?))
        })
        .collect();
    let (judging, reports): (Vec<Judging<'_>>, Vec<&ReportInput>) = runs.into_iter().unzip();
    let mut exit = Exit::Done;
    for (judged, report) in gates::judge(&judging).iter().zip(reports) {
        exit = exit.worst(judged.exit());
        if args.measure.json {
            let file = judged.file();
            let checks = checks::json(&judged.check_lines(&file));
            // Only now, since one document tells of a run and of its gates.
            output::result(&json::judged(report, checks, judged.not_judged_json()))?;
        } else {
            output::result(&judged.text())?;
        }
        if let Some(Err(err)) = &judged.comparison {
            output::note(&format!(
                "warning: gates cannot be held against the baseline: {err}"
            ));
            if let Some(hint) = err.hint() {
                output::note(&format!("  hint: {hint}"));
            }
        }
        if !judged.covered.without_baseline.is_empty() {
            output::note(&format!(
                "no baseline yet, so gates against it were not evaluated: `harness baseline save \
                 {DEFAULT_BASELINE}` saves this run as one"
            ));
        }
    }
    Ok(exit)
}

/// Opens and checks every file; `None` after every mistake in all of them was told.
pub(crate) fn plan_all(files: &[PathBuf], measure: &MeasureArgs) -> Option<Vec<(PathBuf, Plan)>> {
    let kind = draw::kind(measure.verbosity.verbosity());
    set_threads(measure.compute.n_threads);
    let opening = Opening {
        offline: measure.compute.offline,
        kind,
    };
    let plans = plans(files, measure, opening)?;
    if let Err(err) = signal::watch(&STOP) {
        output::error(&err, None);
    }
    Some(plans)
}

/// What a run shows of its results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// The ranking of its variants, unless JSON was asked for, which comes later.
    Ranking,
    /// Nothing: it is only what another run is held against.
    Nothing,
}

/// Runs one experiment and shows what came out; `gates` say how many unscored examples are
/// tolerated.
pub(crate) fn run_one(
    measure: &MeasureArgs,
    (file, plan): (&Path, &Plan),
    gates: &[GateSpec],
    shown: Shown,
) -> Result<Ran, OutputError> {
    let options = Options {
        results: &measure.results.folder,
        tokens: measure.tokens,
        fresh: measure.fresh,
        hire: lazy_engine::local,
    };
    let mut watcher = Bar {
        bars: None,
        clock: Rc::new(Clock::start()),
        waiting: None,
        kind: draw::kind(measure.verbosity.verbosity()),
        plan,
    };
    let result = execute(plan, options, &STOP, &mut watcher);
    drop(watcher);
    let finished = match result {
        Ok(finished) => finished,
        Err(err) => {
            let hint = hint(&err);
            output::error(&err, hint);
            let exit = match &err {
                // A file that could be read for its digest: another try may find it whole.
                ExecuteError::Load { source, .. } if source.is_file() => Exit::Incomplete,
                ExecuteError::Load { .. } => Exit::Refused,
                _ => Exit::Incomplete,
            };
            return Ok(Ran {
                exit,
                run: None,
                report: None,
                evidence: None,
            });
        }
    };
    let report = report(&finished);
    if let (Some(input), Shown::Ranking, false) = (&report, shown, measure.json) {
        output::result(&text::summary(input, style()))?;
    }
    let mut exit = tell(measure, (file, plan), gates, &finished);
    if finished.run.is_some() && report.is_none() {
        // What cannot be reported is not judged either, so it must not pass.
        exit = exit.worst(Exit::Incomplete);
    }
    Ok(Ran {
        exit,
        run: finished.run.map(|it| it.manifest.run),
        report,
        evidence: finished.evidence,
    })
}

/// What there is to report of a run that came to its end.
fn report(finished: &Finished) -> Option<ReportInput> {
    match ReportInput::from_summary(finished.run.as_ref()?) {
        Ok(input) => Some(input),
        Err(err) => {
            output::error(&err, None);
            None
        }
    }
}

/// Limits the threads of all work; the default is one per core.
pub(super) fn set_threads(n_threads: Option<std::num::NonZeroUsize>) {
    if let Some(n) = n_threads {
        // Fails only if a pool exists already, and nothing made one before.
        rayon::ThreadPoolBuilder::new()
            .num_threads(n.get())
            .build_global()
            .ok();
    }
}

/// All plans, or `None` after every mistake in every file was told.
fn plans(
    files: &[PathBuf],
    measure: &MeasureArgs,
    opening: Opening,
) -> Option<Vec<(PathBuf, Plan)>> {
    let selection = measure.selection.selection();
    let drafts: Vec<_> = files
        .iter()
        .map(|file| (file, open::draft(file, &selection, &measure.inputs)))
        .collect();
    let mut models = OpenModels::default();
    let mut plans = Vec::new();
    let mut is_refused = drafts.iter().any(|it| it.1.is_err());
    for (file, draft) in drafts {
        let plan = match draft {
            // Models may have to be fetched; not while some file is broken anyway.
            Ok(_) if is_refused => continue,
            Ok(draft) => open::plan(draft, opening, &mut models),
            Err(problems) => Err(problems),
        };
        match plan {
            Ok(plan) => plans.push((file.clone(), plan)),
            Err(problems) => {
                output::diagnostics(&problems);
                is_refused = true;
            }
        }
    }
    (!is_refused).then_some(plans)
}

/// Tells what else is to know of a run; returns how it ended.
fn tell(
    args: &MeasureArgs,
    (file, plan): (&Path, &Plan),
    gates: &[GateSpec],
    finished: &Finished,
) -> Exit {
    let verbosity = args.verbosity.verbosity();
    if 0 < finished.n_damaged {
        output::note(&format!(
            "warning: {} stored answers were damaged and computed again",
            finished.n_damaged
        ));
    }
    if let Some(place) = trust::open_to_all(&args.results.folder) {
        output::note(&wrap(&trust::warning(&place), Stream::Stderr.width(), "  "));
    }
    let Some(run) = &finished.run else {
        output::note(&format!(
            "stopped; {} answers are kept in {}. To go on: {}",
            finished.tally.n_computed + finished.tally.n_stored,
            finished.folder.display(),
            again(file)
        ));
        return signal::received().unwrap_or(Exit::Interrupted);
    };
    if Verbosity::Normal <= verbosity {
        tell_counts(finished);
        for warning in slips::warnings(plan, &finished.noticed) {
            output::note(&wrap(&warning, Stream::Stderr.width(), "  "));
        }
        hint_at_chat(plan);
    }
    if verbosity == Verbosity::Verbose {
        for path in &finished.written {
            output::note(&format!("wrote {}", path.display()));
        }
    }
    if is_tolerated(gates, run) {
        Exit::Done
    } else {
        Exit::Incomplete
    }
}

/// Whether no variant has more unscored cases than a gate that covers it tolerates.
fn is_tolerated(gates: &[GateSpec], run: &RunSummary) -> bool {
    run.cells.iter().all(|cell| {
        let covering = gates
            .iter()
            .filter(|it| it.model.covers(&cell.model) && it.variant.covers(&cell.variant));
        // Every gate that covers it must tolerate them; without one, nothing does.
        let least = covering.map(|it| it.max_failed).min();
        cell.n_unscored_examples <= least.unwrap_or(0)
    })
}

fn tell_counts(finished: &Finished) {
    let tally = finished.tally;
    // A stopped run is told elsewhere, so what is neither was answered by an equal request.
    let n_equal = tally.n_requests - tally.n_computed - tally.n_stored;
    let equal = if n_equal == 0 {
        String::new()
    } else {
        format!(", {n_equal} equal to another")
    };
    output::note(&format!(
        "{} requests: {} computed, {} from the store{equal}; {} in all",
        tally.n_requests,
        tally.n_computed,
        tally.n_stored,
        duration(finished.elapsed)
    ));
    if let Some(line) = rows_line(tally.rows, finished.engine_elapsed) {
        output::note(&line);
    }
    let folder = finished.folder.display();
    output::note(&format!(
        "wrote {folder} · look closer: harness show --failures"
    ));
}

/// What the model's work was; nothing if there was none.
///
/// The factor says how many times as many rows the same requests take one by one.
fn rows_line(rows: Rows, elapsed: Duration) -> Option<String> {
    if rows.n_computed == 0 {
        return None;
    }
    let n_alone = rows.n_computed + rows.n_shared;
    let rate = rows.n_computed as f64 / elapsed.as_secs_f64().max(1e-9);
    Some(format!(
        "{} rows computed, {} shared ({:.1}x), {} rows/s",
        count(rows.n_computed as u64),
        count(rows.n_shared as u64),
        n_alone as f64 / rows.n_computed as f64,
        count(rate.round() as u64)
    ))
}

/// A raw template on a chat model is often a slip; said once.
fn hint_at_chat(plan: &Plan) {
    let has_chat = plan
        .variants
        .iter()
        .any(harness::plan::PlannedVariant::is_chat);
    let chat_model = plan.models.iter().find(|it| it.model.chat.is_ok());
    if let (false, Some(model)) = (has_chat, chat_model) {
        output::note(&format!(
            "hint: model `{}` was made for chat, but no variant uses its chat template; \
             a variant with `user = \"...\"` would",
            model.name
        ));
    }
}

/// The command that was typed, for going on with it.
fn again(file: &Path) -> String {
    let words: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|it| output::shell_word(Path::new(&it)))
        .collect();
    let typed = words.join(" ");
    if typed.is_empty() {
        format!("harness run {}", output::shell_word(file))
    } else {
        format!("harness {typed}")
    }
}

fn hint(err: &ExecuteError) -> Option<&'static str> {
    match err {
        ExecuteError::Folder(err) => Some(err.hint()),
        ExecuteError::Store(err) | ExecuteError::Run(RunError::Store(err)) => Some(err.hint()),
        ExecuteError::Run(RunError::Engine(_)) => {
            Some("answers until then are kept; the same command goes on from there")
        }
        ExecuteError::Table(err) => err.hint(),
        ExecuteError::Evidence(err) => err.hint(),
        ExecuteError::Load { source, .. } if source.is_file() => Some(
            "leave the file alone while it is read; answers until then are kept, the same command \
             goes on from there",
        ),
        ExecuteError::Load { .. } => Some("`harness models info SOURCE` shows what the file holds"),
        ExecuteError::Metric(_) => None,
    }
}

/// How text for stdout is laid out.
pub(super) fn style() -> Style {
    Style {
        color: Stream::Stdout.color() == harness::experiment::Color::Always,
        width: Stream::Stdout.width(),
    }
}

/// Draws the progress of one experiment.
struct Bar<'a> {
    bars: Option<Bars>,
    /// Runs from the start, since the first answers take a while; that they do must show in what is
    /// told of the time that is left.
    clock: Rc<Clock>,
    /// What goes on after the last answer.
    waiting: Option<Waiting>,
    kind: Kind,
    plan: &'a Plan,
}

impl Bar<'_> {
    fn bars(&mut self) -> &mut Bars {
        let clock = Rc::clone(&self.clock);
        self.bars
            .get_or_insert_with(|| Bars::new(self.kind, &groups(self.plan), clock))
    }
}

/// Shows that weights are being loaded; the time until it is dropped is not that of answers.
struct Loading {
    _waiting: Waiting,
    clock: Rc<Clock>,
    since: Instant,
}

impl Drop for Loading {
    fn drop(&mut self) {
        self.clock.leave_out(self.since.elapsed());
    }
}

impl Watcher for Bar<'_> {
    fn loading(&self, model: &str) -> Box<dyn Any> {
        let what = format!("loading weights of {model}");
        let waiting = match &self.bars {
            Some(bars) => bars.above(|| Waiting::start(self.kind, &what)),
            None => Waiting::start(self.kind, &what),
        };
        Box::new(Loading {
            _waiting: waiting,
            clock: Rc::clone(&self.clock),
            since: Instant::now(),
        })
    }

    fn answered(&mut self, model: usize, variant: usize, from_store: bool) {
        self.bars().answered(model, variant, from_store);
    }

    fn refused(&mut self, model: usize, variant: usize) {
        self.bars().refused(model, variant);
    }

    fn reached(&mut self, stage: Stage) {
        let what = match stage {
            Stage::Analysis => "comparing the variants",
            Stage::Tables => "writing tables",
            Stage::Evidence => "writing evidence",
            Stage::End => "",
        };
        if let Some(bars) = self.bars.take() {
            bars.finish();
        }
        // A second of silence is no news in a log; a still screen looks dead.
        let is_shown = self.kind == Kind::Bars && stage != Stage::End;
        self.waiting = is_shown.then(|| Waiting::start(self.kind, what));
    }
}

fn groups(plan: &Plan) -> Vec<Group> {
    // A long text takes several requests; the bar then ends a little late.
    let n_texts: usize = plan
        .answers
        .iter()
        .map(harness::plan::Answer::n_scored)
        .sum();
    let n_answers = (n_texts + plan.examples.len() * plan.n_generations()) as u64;
    let of_model = |model: usize| {
        (0..plan.variants.len()).map(move |variant| Group {
            model,
            variant,
            model_name: plan.models[model].name.clone(),
            variant_name: plan.variants[variant].name.clone(),
            n_answers,
        })
    };
    (0..plan.models.len()).flat_map(of_model).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_is_told_in_rows() {
        let rows = Rows {
            n_computed: 38_016,
            n_shared: 333_716,
        };
        // 371,732 / 38,016 = 9.78; 38,016 rows in 30 s are 1,267.2 a second.
        assert_eq!(
            rows_line(rows, Duration::from_secs(30)).unwrap(),
            "38,016 rows computed, 333,716 shared (9.8x), 1,267 rows/s"
        );
        assert_eq!(rows_line(Rows::default(), Duration::ZERO), None);
        let numbers = [0, 999, 1_000, 1_234_567].map(count);
        assert_eq!(numbers, ["0", "999", "1,000", "1,234,567"]);
    }
}
