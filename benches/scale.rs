//! How do time and memory grow with the rows of a dataset, stage by stage?
//!
//! Writes datasets of 10,000, 100,000 and 1,000,000 rows of JSONL with a short text and a label, two
//! variants each: once with two choices, once with a target alone. A run of each, an edit of one
//! variant and a second run, which has half of its answers from the store, then `show` and
//! `compare`. Everything goes the way of the commands (the modules of the binary are those of
//! `src/cli/`), but for the engine, which is the fake one: what is measured is all that stands
//! around a model. Each
//! dataset has a process of its own. Printed are the rows, and for every stage its seconds and the
//! peak of resident memory within it, in MiB; the last column is the peak of the whole process,
//! which the system keeps as `VmHWM`. Linux only.
//!
//! `cargo bench --bench scale [-- ROWS...] [--only choices|target] [--json FILE]`

#[expect(dead_code, reason = "the bench does not tell who holds a folder")]
#[path = "../src/cli/run_folder.rs"]
mod run_folder;

#[path = "../src/cli/analysis.rs"]
mod analysis;
#[expect(dead_code, reason = "the bench reads some of what a run tells")]
#[path = "../src/cli/execute.rs"]
mod execute;
#[path = "../src/cli/recorder.rs"]
mod recorder;
#[expect(dead_code, reason = "the bench does not tell what is noticed")]
#[path = "../src/cli/slips.rs"]
mod slips;

#[expect(dead_code, reason = "the bench hires a fake engine instead")]
#[path = "../src/cli/lazy_engine.rs"]
mod lazy_engine;

use std::error::Error;
use std::fmt::Write as _;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::compare::{self, RunsOptions};
use harness::engine::fake::FakeEngine;
use harness::engine::local::LoadError;
use harness::engine::{Capabilities, Engine, EngineError, Rows, Stop};
use harness::experiment::{self, ModelSource, ModelSpec, Overlay};
use harness::model::{self, Model, OpenOptions};
use harness::plan::{Draft, Plan, Selection};
use harness::report::{ReportInput, Style, text};
use harness::request::{Answerer, Outcome, Request};
use harness::table;
use serde_json::{Value, json};

use execute::{Finished, Options, Stage, Watcher};
use lazy_engine::{Loading, Worker};

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What goes wrong ends the bench.
type Fallible<T> = Result<T, Box<dyn Error>>;

const SIZES: [usize; 3] = [10_000, 100_000, 1_000_000];
const KINDS: [&str; 2] = ["choices", "target"];

fn main() -> Fallible<()> {
    let mut sizes = Vec::new();
    let (mut kinds, mut json_path) = (KINDS.to_vec(), None);
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [first, kind, n_rows] = &args[..]
        && first == "--child"
    {
        return child(kind, n_rows.parse()?);
    }
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--bench" => {} // Cargo's own.
            "--only" => {
                let name = args.next().ok_or("`--only` needs a kind")?;
                kinds.retain(|it| *it == name);
            }
            "--json" => json_path = Some(args.next().ok_or("`--json` needs a file")?),
            _ => sizes.push(
                arg.parse::<usize>()
                    .map_err(|_| format!("unknown argument `{arg}`"))?,
            ),
        }
    }
    if sizes.is_empty() {
        sizes = SIZES.to_vec();
    }
    let mut runs = Vec::new();
    for kind in kinds {
        let measured = sizes.iter().map(|n_rows| measured(kind, *n_rows));
        let measured: Vec<Value> = measured.collect::<Fallible<_>>()?;
        print_table(kind, &measured);
        runs.extend(measured);
    }
    if let Some(path) = json_path {
        std::fs::write(path, serde_json::to_string_pretty(&runs)? + "\n")?;
    }
    Ok(())
}

/// What a process of its own measures on a dataset of `n_rows`.
fn measured(kind: &str, n_rows: usize) -> Fallible<Value> {
    let output = Command::new(std::env::current_exe()?)
        .args(["--child", kind, &n_rows.to_string()])
        .stderr(std::process::Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("{kind}, {n_rows} rows: {}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// One line per stage, a pair of columns per size.
fn print_table(kind: &str, runs: &[Value]) {
    let mut head = format!("| {kind} |");
    let mut rule = "|---|".to_owned();
    for run in runs {
        let _ = write!(head, " {} rows: s | MiB |", run["rows"]);
        rule += "--:|--:|";
    }
    println!("{head}\n{rule}");
    let stages = runs[0]["stages"].as_array().cloned().unwrap_or_default();
    for (i, stage) in stages.iter().enumerate() {
        let mut line = format!("| {} |", stage["stage"].as_str().unwrap_or_default());
        for run in runs {
            let own = &run["stages"][i];
            let number = |key: &str| own[key].as_f64().unwrap_or(f64::NAN);
            let _ = write!(
                line,
                " {:.2} | {:.0} |",
                number("seconds"),
                number("peak_mib")
            );
        }
        println!("{line}");
    }
    let mut line = "| all |".to_owned();
    for run in runs {
        let number = |key: &str| run[key].as_f64().unwrap_or(f64::NAN);
        let _ = write!(
            line,
            " {:.2} | {:.0} |",
            number("seconds"),
            number("peak_mib")
        );
    }
    println!("{line}\n");
}

/// The stages that are over, with the time and memory of each.
struct Clock {
    stages: Vec<Value>,
    since: Instant,
    peak_kib: u64,
}

impl Clock {
    fn start() -> Self {
        forget_peak();
        Self {
            stages: Vec::new(),
            since: Instant::now(),
            peak_kib: 0,
        }
    }

    /// A stage is over, and the next one begins.
    fn stage(&mut self, name: &str) {
        let seconds = self.since.elapsed().as_secs_f64();
        let (peak, now) = (status("VmHWM:"), status("VmRSS:"));
        self.peak_kib = self.peak_kib.max(peak);
        let mib = |kib: u64| kib as f64 / 1024.0;
        eprintln!(
            "{name}: {seconds:.2} s, peak {:.0} MiB, left {:.0} MiB",
            mib(peak),
            mib(now)
        );
        self.stages.push(json!({
            "stage": name, "seconds": seconds, "peak_mib": mib(peak), "left_mib": mib(now),
        }));
        forget_peak();
        self.since = Instant::now();
    }
}

/// A number of `/proc/self/status`, in KiB.
fn status(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|it| it.strip_prefix(key));
    let number = line.and_then(|it| it.trim().strip_suffix(" kB"));
    number.and_then(|it| it.parse().ok()).unwrap_or(0)
}

/// Lets `VmHWM` begin anew at what is resident now.
fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").ok();
}

/// Measures one dataset, and writes what was measured to stdout.
fn child(kind: &str, n_rows: usize) -> Fallible<()> {
    let folder = tempfile::tempdir()?;
    write_dataset(&folder.path().join("rows.jsonl"), n_rows)?;
    let file = folder.path().join("scale.toml");
    std::fs::write(&file, experiment(kind, "Good or bad?"))?;
    let results = folder.path().join("results");
    let started = Instant::now();
    let mut clock = Clock::start();
    let first_plan = plan(&file)?;
    clock.stage("plan");
    let n_cases = first_plan.cases(0).count();
    clock.stage("make all cases");
    let first = run(&first_plan, &results, &mut clock, "")?;
    drop((first, first_plan));
    std::fs::write(&file, experiment(kind, "Good or bad:"))?;
    let second_plan = plan(&file)?;
    clock.stage("plan (one variant edited)");
    let second = run(&second_plan, &results, &mut clock, " (one variant edited)")?;
    // But for the few that ask for what choices are worth without an example.
    let of_half = second.tally.n_requests / 2;
    assert!(
        second.tally.n_stored.abs_diff(of_half) < n_rows / 100,
        "half of the answers were stored"
    );
    let folder_of_run = second.folder.clone();
    drop((second, second_plan));
    clock.stage("drop the plan");
    show(&folder_of_run)?;
    clock.stage("show");
    compare_runs(&results)?;
    clock.stage("compare two runs");
    let n_bytes = |name: &str| std::fs::metadata(folder_of_run.join(name)).map_or(0, |it| it.len());
    let measured = json!({
        "kind": kind, "rows": n_rows, "cases": n_cases, "stages": clock.stages,
        "seconds": started.elapsed().as_secs_f64(), "peak_mib": clock.peak_kib as f64 / 1024.0,
        "dataset_bytes": std::fs::metadata(folder.path().join("rows.jsonl"))?.len(),
        "evidence_bytes": n_bytes("evidence.json"), "cases_bytes": n_bytes("cases.parquet"),
    });
    println!("{measured}");
    Ok(())
}

/// Rows of about 78 bytes, no two alike.
fn write_dataset(path: &Path, n_rows: usize) -> Fallible<()> {
    let (who, what) = (
        ["The mayor", "A student", "My brother"],
        ["said", "wrote", "denied"],
    );
    let whether = ["again that it was good", "that nobody had liked it", "it"];
    let mut file = BufWriter::new(std::fs::File::create(path)?);
    for i in 0..n_rows {
        let text = format!(
            "{} {} {} {i}.",
            who[i % 3],
            what[i / 3 % 3],
            whether[i / 9 % 3]
        );
        let label = ["good", "bad"][usize::from(blake3::hash(text.as_bytes()).as_bytes()[0] < 99)];
        writeln!(
            file,
            "{}",
            json!({ "text": text, "page": i / 7, "label": label })
        )?;
    }
    Ok(file.flush()?)
}

fn experiment(kind: &str, question: &str) -> String {
    let choices = match kind {
        "choices" => "choices = [\"good\", \"bad\"]\n",
        _ => "",
    };
    format!(
        r#"
[experiment]
name = "scale"

[models.tiny]
source = "./tiny"

[dataset]
path = "rows.jsonl"
target = "{{{{ label }}}}"
{choices}
[variants.bare]
template = "{{{{ text }}}}\nIt is"

[variants.asked]
template = "{{{{ text }}}}\n{question}"
"#
    )
}

/// The plan, with the tokenizer of a tiny model; its weights are never looked at.
fn plan(file: &Path) -> Fallible<Plan> {
    let told = |it: &dyn std::fmt::Debug| format!("{it:?}");
    let (experiment, _) = experiment::load(file, &Overlay::default()).map_err(|it| told(&it))?;
    let all = |_: &str| true;
    let selection = Selection {
        variant: &all,
        model: &all,
    };
    let draft = Draft::new(experiment, &selection).map_err(|it| told(&it))?;
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models/tiny-llama");
    let open = |_: (&str, &ModelSpec)| {
        let source = ModelSource::Path(tiny.clone());
        model::open(&source, &OpenOptions::default(), &mut |_| {}).map(Arc::new)
    };
    let models: Vec<Arc<Model>> = draft.models().map(open).collect::<Result<_, _>>()?;
    Ok(draft.with_models(models).map_err(|it| told(&it))?)
}

/// Runs the plan; the stages of the run get `suffix` behind their names.
fn run(plan: &Plan, results: &Path, clock: &mut Clock, suffix: &'static str) -> Fallible<Finished> {
    let options = Options {
        results,
        tokens: false,
        fresh: false,
        hire: fake,
    };
    let mut stages = Stages { clock, suffix };
    let finished = execute::execute(plan, options, &Stop::new(), &mut stages)?;
    let Some(run) = &finished.run else {
        return Err("the run did not come to its end".into());
    };
    let input = ReportInput::from_summary(run)?;
    let n_shown = text::summary(&input, style()).len();
    assert!(
        0 < n_shown && run.manifest.counts.failed.is_empty(),
        "every case has its score"
    );
    clock.stage(&format!("report{suffix}"));
    Ok(finished)
}

/// Tells the clock where a run has come to.
struct Stages<'a> {
    clock: &'a mut Clock,
    suffix: &'static str,
}

impl Watcher for Stages<'_> {
    fn loading(&self, _: &str) -> Box<dyn std::any::Any> {
        Box::new(())
    }

    fn answered(&mut self, _: usize, _: usize, _: bool) {}

    fn refused(&mut self, _: usize, _: usize) {}

    fn reached(&mut self, stage: Stage) {
        let over = match stage {
            Stage::Analysis => "make cases, answer, store, score",
            Stage::Tables => "evidence, metrics, compare variants",
            Stage::Evidence => "write tables",
            Stage::End => "write evidence.json",
        };
        self.clock.stage(&format!("{over}{}", self.suffix));
    }
}

fn style() -> Style {
    Style {
        color: false,
        width: 100,
    }
}

/// As `harness show`.
fn show(folder: &Path) -> Fallible<()> {
    let run = table::read_summary(folder)?;
    let shown = text::summary(&ReportInput::from_summary(&run)?, style());
    assert!(!shown.is_empty());
    Ok(())
}

/// As `harness compare latest~1 latest`.
fn compare_runs(results: &Path) -> Fallible<()> {
    let read =
        |name: &str| -> Fallible<_> { Ok(table::read_evidence(&table::resolve(results, name)?)?) };
    let (reference, candidate) = (read("latest~1")?, read("latest")?);
    let compared = compare::runs(&candidate, &reference, &RunsOptions::default())?;
    assert_eq!(compared.n_common_rows, candidate.examples.len());
    let mut seen: Vec<&compare::CellPair> = Vec::new();
    for row in &compared.comparisons {
        if !seen.contains(&&row.cells) {
            seen.push(&row.cells);
            // By a metric that every edited row flips by.
            let metric = Some("loglikelihood");
            let flips = compare::flips(&candidate, &reference, &row.cells, metric);
            let is_edited = row.cells.candidate != "bare";
            let expected = if is_edited {
                candidate.examples.len()
            } else {
                0
            };
            assert_eq!(flips.len(), expected, "what was edited flips");
        }
    }
    Ok(())
}

/// The fake engine for a model.
fn fake<'a>(model: &'a Model, _: Loading<'a>) -> Box<dyn Worker + 'a> {
    Box::new(Fake(FakeEngine::new(320, model.n_context)))
}

struct Fake(FakeEngine);

impl Worker for Fake {
    fn loading(&self) -> Duration {
        Duration::ZERO
    }

    fn busy(&self) -> Duration {
        Duration::ZERO
    }

    fn take_refusal(&self) -> Option<LoadError> {
        None
    }
}

impl Engine for Fake {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn answerer(&self) -> &Answerer {
        self.0.answerer()
    }

    fn run(
        &self,
        requests: &[Request],
        stop: &Stop,
        deliver: &mut dyn FnMut(usize, Outcome),
    ) -> Result<Rows, EngineError> {
        self.0.run(requests, stop, deliver)
    }
}
