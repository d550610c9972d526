//! One execution of a plan: answers, scores, tables and manifest, in a run folder.

use std::cell::RefCell;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use harness::compare::Evidence;
use harness::engine::Stop;
use harness::engine::local::LoadError;
use harness::metric::Metric;
use harness::plan::{Case, CaseKey, Plan};
use harness::request::{Answerer, Digest, Outcome, Request};
use harness::runner::{self, Progress, RunError, Storage, Tally};
use harness::score::{self, Key, Score};
use harness::store::{Store, StoreError};
use harness::table::{
    self, CellRecord, Counts, Digests, EvidenceFileError, Manifest, MetricRecord, ModelRecord,
    RunStatus, RunSummary, RunTables, SCHEMA_VERSION, TableError, Tallies, VariantRecord,
};
use harness::text_metric::{TextJudge, TextMetricError};

use super::analysis::{self, Analysis, CaseDigests, Measurements};
use super::lazy_engine::{Hire, Worker};
use super::recorder::{PlanExamples, Recorded, Recorder};
use super::run_folder::{self, FolderError, RunFolder};
use super::slips::{OfVariant, Slips};

/// Why an execution ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecuteError {
    /// The weights were refused.
    #[error("model `{model}` cannot be loaded")]
    Load { model: String, source: LoadError },
    /// Engine or store gave up.
    #[error("the run stopped early")]
    Run(#[source] RunError),
    /// The store could not be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Tables or manifest could not be written.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The evidence could not be written.
    #[error(transparent)]
    Evidence(#[from] EvidenceFileError),
    /// The folder of the run could not be made.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A declared metric cannot be computed.
    #[error(transparent)]
    Metric(#[from] TextMetricError),
}

/// What the user asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options<'a> {
    /// Root of results and store.
    pub(crate) results: &'a Path,
    /// Write the table of tokens.
    pub(crate) tokens: bool,
    /// Use no stored answers.
    pub(crate) fresh: bool,
    /// Makes the engine of each model.
    pub(crate) hire: Hire,
}

/// What is told while the work goes on.
pub(crate) trait Watcher {
    /// Weights are being loaded, until the returned value is dropped.
    fn loading(&self, model: &str) -> Box<dyn std::any::Any>;
    /// A request of this model and variant is answered.
    fn answered(&mut self, model: usize, variant: usize, from_store: bool);
    /// A text or generation of this model and variant will have no answer.
    fn refused(&mut self, model: usize, variant: usize);
    /// All answers are there; what follows takes a while where there are many.
    fn reached(&mut self, stage: Stage);
}

/// What is done after the last answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Metrics are computed and variants compared.
    Analysis,
    /// Tables are written.
    Tables,
    /// The evidence for later comparisons is written.
    Evidence,
    /// Nothing is left.
    End,
}

/// A finished or interrupted execution.
pub(crate) struct Finished {
    /// Where its files are.
    pub(crate) folder: PathBuf,
    /// The run in short; `None` if it was interrupted.
    pub(crate) run: Option<RunSummary>,
    /// What later comparisons need of it; `None` if it was interrupted.
    pub(crate) evidence: Option<Evidence>,
    pub(crate) written: Vec<PathBuf>,
    pub(crate) tally: Tally,
    pub(crate) n_damaged: usize,
    pub(crate) elapsed: Duration,
    /// Time that the engines took to answer, without loading weights.
    pub(crate) engine_elapsed: Duration,
    /// What is often a slip, by variant; of a run that was interrupted, none.
    pub(crate) noticed: Vec<OfVariant>,
}

/// Times and prompt lengths of one variant on one model.
#[derive(Debug, Clone, Default)]
struct Cell {
    elapsed: Duration,
    n_context_tokens: usize,
    n_cases: usize,
    n_dropped_shots: usize,
    n_truncated: usize,
}

/// What is executed, and how.
struct Work<'a> {
    plan: &'a Plan,
    judges: Vec<TextJudge>,
    options: Options<'a>,
    stop: &'a Stop,
}

/// What an execution gathers besides what is recorded of its scores.
struct Gathered {
    cells: Vec<Cell>,
    tally: Tally,
    engine_elapsed: Duration,
    slips: Slips,
}

impl Gathered {
    fn nothing(plan: &Plan) -> Self {
        Self {
            cells: vec![Cell::default(); plan.models.len() * plan.variants.len()],
            tally: Tally::default(),
            engine_elapsed: Duration::ZERO,
            slips: Slips::default(),
        }
    }

    /// Adds what one model did.
    fn add(&mut self, tally: Tally) {
        self.tally.n_requests += tally.n_requests;
        self.tally.n_computed += tally.n_computed;
        self.tally.n_stored += tally.n_stored;
        self.tally.rows += tally.rows;
        self.tally.is_stopped |= tally.is_stopped;
    }
}

/// Runs `plan`.
///
/// # Errors
///
/// [`ExecuteError`]; every answer until then is in the store.
pub(crate) fn execute(
    plan: &Plan,
    options: Options<'_>,
    stop: &Stop,
    watcher: &mut dyn Watcher,
) -> Result<Finished, ExecuteError> {
    let started = Instant::now();
    let judges = score::judges(&plan.experiment.spec.metrics)?;
    let mut store = Store::open(&options.results.join(".store/responses.sqlite3"))?;
    let experiment = plan.experiment.spec.experiment.name.as_str();
    let metrics = analysis::metrics(plan, &judges);
    let mut manifest = manifest(plan, &metrics);
    let folder = begin(plan, options.results, &mut manifest)?;
    let work = Work {
        plan,
        judges,
        options,
        stop,
    };
    let models: Vec<String> = plan.models.iter().map(|it| it.name.clone()).collect();
    let variants: Vec<String> = plan.variants.iter().map(|it| it.name.clone()).collect();
    let token_text =
        |token: u32, model: usize| plan.models[model].model.tokenizer.token_text(token);
    let tables = RunTables {
        experiment,
        run: &folder.id,
        models: &models,
        variants: &variants,
        examples: &PlanExamples(plan),
        metrics: &metrics,
        measurements: &[],
        comparisons: &[],
        with_tokens: options.tokens.then_some(&token_text),
    };
    let mut recorder = Recorder::begin(&folder, tables)?;
    let mut gathered = Gathered::nothing(plan);
    let watcher = RefCell::new(watcher);
    for (index, planned) in plan.models.iter().enumerate() {
        let loading = || watcher.borrow().loading(&planned.name);
        let engine = (options.hire)(&planned.model, &loading);
        manifest.models[index]
            .numerics
            .clone_from(&engine.answerer().numerics);
        let mut storage = Storage {
            store: &mut store,
            may_read: !options.fresh,
        };
        let hands = Hands {
            watcher: &watcher,
            recorder: &mut recorder,
            gathered: &mut gathered,
        };
        run_model(&work, index, &*engine, &mut storage, hands)?;
        if gathered.tally.is_stopped {
            break;
        }
    }
    conclude(&mut manifest, plan, &gathered, recorder.tallies());
    let finished = Finished {
        folder: folder.path.clone(),
        run: None,
        evidence: None,
        written: Vec::new(),
        tally: gathered.tally,
        n_damaged: store.n_damaged(),
        elapsed: started.elapsed(),
        engine_elapsed: gathered.engine_elapsed,
        noticed: Vec::new(),
    };
    if gathered.tally.is_stopped {
        manifest.status = RunStatus::Interrupted;
        manifest.write(&folder.path)?;
        return Ok(finished);
    }
    let watcher = watcher.into_inner();
    watcher.reached(Stage::Analysis);
    // What they keep of every prompt is not needed any more, and much of a large dataset.
    let noticed = gathered.slips.settled();
    let mut finished = finish(plan, tables, manifest, recorder.end()?, finished, watcher)?;
    finished.noticed = noticed;
    finished.elapsed = started.elapsed();
    Ok(finished)
}

/// Takes a folder and writes what is known of a run before its first answer.
fn begin(plan: &Plan, results: &Path, manifest: &mut Manifest) -> Result<RunFolder, ExecuteError> {
    let experiment = plan.experiment.spec.experiment.name.as_str();
    let digest = plan.digest().to_string();
    let folder = RunFolder::take(results, experiment, &digest, |folder| {
        manifest.run.clone_from(&folder.id);
        Ok::<(), ExecuteError>(manifest.write(&folder.path)?)
    })?;
    let toml = folder.path.join("experiment.toml");
    let written = File::create(&toml).and_then(|mut it| {
        it.write_all(plan.experiment.resolved.as_bytes())?;
        // Its name is synced with that of the first table.
        it.sync_all()
    });
    written.map_err(|source| FolderError::Write { path: toml, source })?;
    Ok(folder)
}

/// What an execution hands its answers to.
struct Hands<'h, 'a, 'w> {
    watcher: &'h RefCell<&'w mut dyn Watcher>,
    recorder: &'h mut Recorder<'a>,
    gathered: &'h mut Gathered,
}

fn run_model(
    work: &Work<'_>,
    model: usize,
    engine: &dyn Worker,
    storage: &mut Storage<'_>,
    hands: Hands<'_, '_, '_>,
) -> Result<(), ExecuteError> {
    let Hands {
        watcher,
        recorder,
        gathered,
    } = hands;
    let plan = work.plan;
    let n_variants = plan.variants.len();
    let mut last = Instant::now();
    let mut is_loading = true;
    let mut times = vec![Duration::ZERO; n_variants];
    let mut on_progress = |progress: Progress| {
        let mut watcher = watcher.borrow_mut();
        let (key, from_store) = match progress {
            Progress::Answered { key, from_store } => (key, from_store),
            Progress::Refused { key } => return watcher.refused(key.model, key.variant),
        };
        if !from_store {
            // Loading the weights is nobody's time; it lies before the first answer.
            let loading = std::mem::replace(&mut is_loading, false).then(|| engine.loading());
            times[key.variant] += last.elapsed().saturating_sub(loading.unwrap_or_default());
        }
        last = Instant::now();
        watcher.answered(key.model, key.variant, from_store);
    };
    let mut not_recorded = None;
    let mut on_case = |case: Case, outcomes: Vec<Outcome>| {
        let key = case.key;
        let cell = &mut gathered.cells[key.model * n_variants + key.variant];
        if key.repeat == 0 {
            cell.n_context_tokens += case.n_context_tokens;
            cell.n_cases += 1;
            cell.n_dropped_shots += usize::from(0 < case.n_dropped_shots);
            cell.n_truncated += usize::from(0 < case.n_truncated_tokens);
        }
        let digests = digests(&case, engine.answerer());
        gathered.slips.add(&case, &plan.answers[key.example]);
        if not_recorded.is_none() {
            let recorded = recorder.add(score_case(work, case, outcomes), digests);
            // Nothing can be shown for more answers; those that are there are stored.
            not_recorded = recorded.err().inspect(|_| work.stop.raise());
        }
    };
    let ended = runner::run(
        plan.cases_until(model, &|| work.stop.is_raised()),
        engine,
        storage,
        work.stop,
        &mut on_progress,
        &mut on_case,
    );
    let tally = ended.map_err(|err| match engine.take_refusal() {
        Some(source) => ExecuteError::Load {
            model: plan.models[model].name.clone(),
            source,
        },
        None => ExecuteError::Run(err),
    })?;
    if let Some(err) = not_recorded {
        return Err(err.into());
    }
    for (variant, time) in times.into_iter().enumerate() {
        gathered.cells[model * n_variants + variant].elapsed += time;
    }
    gathered.engine_elapsed += engine.busy();
    gathered.add(tally);
    Ok(())
}

/// The requests of a case by what they ask for; a case without some of them has no digest.
fn digests(case: &Case, answerer: &Answerer) -> CaseDigests {
    let of = |requests: &mut dyn Iterator<Item = Option<&Request>>| {
        let mut hash = blake3::Hasher::new();
        let mut n_requests = 0;
        for request in requests {
            hash.update(&request?.key(answerer).0);
            n_requests += 1;
        }
        (0 < n_requests).then(|| Digest(*hash.finalize().as_bytes()))
    };
    let mut scored = case.scored.iter().flat_map(|it| match &it.requests {
        Ok(requests) => requests.iter().map(Some).collect(),
        Err(_) => vec![None],
    });
    CaseDigests {
        likelihood: of(&mut scored),
        priors: of(&mut case.prior_requests().map(Some)),
        generation: of(&mut case.generation.iter().map(|it| it.as_ref().ok())),
    }
}

fn score_case(work: &Work<'_>, case: Case, outcomes: Vec<Outcome>) -> Score {
    let plan = work.plan;
    let CaseKey { example, .. } = case.key;
    let specs = &plan.experiment.spec.metrics;
    // Judges stand in the order of the declared metrics that judge a text.
    let of_texts = specs
        .iter()
        .enumerate()
        .filter(|it| it.1.metric.value.is_of_generation());
    let conditions: Vec<Result<Vec<TextJudge>, TextMetricError>> = of_texts
        .map(|(index, spec)| match plan.contains_texts(index, example) {
            Some(texts) => score::conditions(spec, texts),
            None => Ok(Vec::new()),
        })
        .collect();
    let key = Key {
        references: &plan.answers[example].references,
        judges: &work.judges,
        conditions: &conditions,
        keep_tokens: work.options.tokens,
    };
    score::score(case, outcomes, &key)
}

/// Writes into the manifest what the answers took.
fn conclude(manifest: &mut Manifest, plan: &Plan, gathered: &Gathered, tallies: &Tallies) {
    for cell in tallies.cells() {
        for (status, n) in &cell.unscored {
            let failed = manifest.counts.failed.entry(status.as_str().to_owned());
            *failed.or_default() += n;
        }
    }
    manifest.counts.n_requests = gathered.tally.n_requests;
    manifest.counts.n_computed = gathered.tally.n_computed;
    manifest.counts.n_from_store = gathered.tally.n_stored;
    manifest.counts.n_rows_computed = gathered.tally.rows.n_computed;
    manifest.counts.n_rows_shared = gathered.tally.rows.n_shared;
    manifest.cells = cells(plan, &gathered.cells);
    manifest.finished = Some(table::format_utc(SystemTime::now()));
}

/// Estimates, compares and writes what was recorded of a whole run.
fn finish(
    plan: &Plan,
    tables: RunTables<'_>,
    mut manifest: Manifest,
    recorded: Recorded,
    mut finished: Finished,
    watcher: &mut dyn Watcher,
) -> Result<Finished, ExecuteError> {
    manifest.status = if manifest.counts.failed.is_empty() {
        RunStatus::Complete
    } else {
        RunStatus::Incomplete
    };
    let numerics = manifest.models.iter().map(|it| it.numerics.clone());
    let measurements = Measurements {
        run: tables.run,
        numerics: &numerics.collect::<Vec<String>>(),
        metrics: tables.metrics,
        cells: recorded.cells,
    };
    let evidence = analysis::evidence(plan, measurements);
    let Analysis {
        metrics: _,
        measured,
        comparisons,
        rankings,
    } = analysis::analyse(plan, &evidence);
    manifest.rankings = rankings;
    let tables = RunTables {
        measurements: &measured,
        comparisons: &comparisons,
        ..tables
    };
    watcher.reached(Stage::Tables);
    finished.written = recorded.tables.finish(&tables)?;
    watcher.reached(Stage::Evidence);
    let path = table::write_evidence(&finished.folder, &evidence)?;
    finished.written.push(path);
    // Last: a run that says it is complete has all its tables.
    manifest.write(&finished.folder)?;
    let run = table::summary(&finished.folder, manifest, &tables, recorded.tallies)?;
    watcher.reached(Stage::End);
    finished.run = Some(run);
    finished.evidence = Some(evidence);
    Ok(finished)
}

/// The manifest of a run that begins now and has no id yet.
fn manifest(plan: &Plan, metrics: &[Metric]) -> Manifest {
    let spec = &plan.experiment.spec;
    let hex = |bytes: &[u8; 32]| Digest(*bytes).to_string();
    let record = |metric: &Metric| {
        if analysis::is_declared(metric, &spec.metrics) {
            MetricRecord::declared(metric)
        } else {
            MetricRecord::automatic(metric)
        }
    };
    Manifest {
        schema_version: SCHEMA_VERSION,
        harness_version: env!("CARGO_PKG_VERSION").to_owned(),
        experiment: spec.experiment.name.as_str().to_owned(),
        run: String::new(),
        status: RunStatus::Running,
        digests: Digests {
            experiment: plan.experiment.digest.clone(),
            dataset: hex(&plan.dataset.digest),
            fewshot: plan.pool.as_ref().map(|it| hex(&it.digest)),
            plan: plan.digest().to_string(),
        },
        seed: spec.experiment.seed,
        primary: plan.primary(),
        control: plan.control().map(|it| plan.variants[it].name.clone()),
        margin: spec
            .experiment
            .margin
            .map(harness::experiment::NonNegative::get),
        started: table::format_utc(SystemTime::now()),
        finished: None,
        host: run_folder::host(),
        device: format!("cpu, {} threads", rayon::current_num_threads()),
        models: plan.models.iter().map(model_record).collect(),
        variants: (0..plan.variants.len())
            .map(|it| VariantRecord {
                name: plan.variants[it].name.clone(),
                template_digest: plan.template_digest(it).to_string(),
            })
            .collect(),
        metrics: metrics.iter().map(record).collect(),
        counts: Counts {
            n_examples: plan.examples.len(),
            n_cases: plan.n_cases(),
            ..Counts::default()
        },
        cells: Vec::new(),
        rankings: Vec::new(),
    }
}

fn model_record(planned: &harness::plan::PlannedModel) -> ModelRecord {
    let model = Arc::clone(&planned.model);
    ModelRecord {
        name: planned.name.clone(),
        source: model.source.clone(),
        revision: model.revision.clone(),
        digest: model.digest.to_hex().to_string(),
        tokenizer_digest: model.tokenizer_digest.to_hex().to_string(),
        architecture: model.architecture.clone(),
        numerics: String::new(),
    }
}

fn cells(plan: &Plan, cells: &[Cell]) -> Vec<CellRecord> {
    let n_variants = plan.variants.len();
    let records = cells.iter().enumerate().map(|(i, cell)| CellRecord {
        model: plan.models[i / n_variants].name.clone(),
        variant: plan.variants[i % n_variants].name.clone(),
        elapsed_seconds: cell.elapsed.as_secs_f64(),
        tokens_per_prompt: cell.n_context_tokens as f64 / cell.n_cases.max(1) as f64,
        n_dropped_shots: cell.n_dropped_shots,
        n_truncated: cell.n_truncated,
    });
    records.collect()
}
