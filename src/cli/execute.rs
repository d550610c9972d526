//! One execution of a plan: answers, scores, tables and manifest, in a run folder.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use harness::compare::Evidence;
use harness::engine::local::LoadError;
use harness::engine::{Engine, Stop};
use harness::plan::{Case, CaseKey, Plan};
use harness::request::{Answerer, Digest, Outcome, Request};
use harness::runner::{self, Progress, RunError, Storage, Tally};
use harness::score::{self, Key, Score, Status};
use harness::store::{Store, StoreError};
use harness::table::{
    self, CellRecord, Counts, Digests, EvidenceFileError, ExampleRow, Manifest, MetricRecord,
    ModelRecord, RunStatus, RunTables, SCHEMA_VERSION, StoredRun, TableError, VariantRecord,
};
use harness::text_metric::{TextJudge, TextMetricError};

use super::analysis::{self, Analysis, CaseDigests, Measurements, RequestDigests};
use super::lazy_engine::LazyEngine;
use super::run_folder::{self, FolderError, RunFolder};

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
}

/// What is told while the work goes on.
pub(crate) trait Watcher {
    /// Weights are being loaded, until the returned value is dropped.
    fn loading(&self, model: &str) -> Box<dyn std::any::Any>;
    /// A request of this model and variant is answered.
    fn answered(&mut self, model: usize, variant: usize, from_store: bool);
}

/// A finished or interrupted execution.
pub(crate) struct Finished {
    /// Where its files are.
    pub(crate) folder: PathBuf,
    /// The run as its tables show it; `None` if it was interrupted.
    pub(crate) run: Option<StoredRun>,
    /// What later comparisons need of it; `None` if it was interrupted.
    pub(crate) evidence: Option<Evidence>,
    pub(crate) written: Vec<PathBuf>,
    pub(crate) tally: Tally,
    pub(crate) n_damaged: usize,
    pub(crate) elapsed: Duration,
    /// Time that the engines took to answer, without loading weights.
    pub(crate) engine_elapsed: Duration,
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

/// What an execution gathers.
struct Gathered {
    scores: Vec<Score>,
    requests: RequestDigests,
    cells: Vec<Cell>,
    tally: Tally,
    engine_elapsed: Duration,
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
    let digest = plan.digest().to_string();
    let mut manifest = manifest(plan, &judges);
    let folder = RunFolder::take(options.results, experiment, &digest, |folder| {
        manifest.run.clone_from(&folder.id);
        Ok::<(), ExecuteError>(manifest.write(&folder.path)?)
    })?;
    let toml = folder.path.join("experiment.toml");
    std::fs::write(&toml, &plan.experiment.resolved)
        .map_err(|source| FolderError::Write { path: toml, source })?;
    let work = Work {
        plan,
        judges,
        options,
        stop,
    };
    let mut gathered = Gathered {
        scores: Vec::with_capacity(plan.n_cases()),
        requests: RequestDigests::new(),
        cells: vec![Cell::default(); plan.models.len() * plan.variants.len()],
        tally: Tally::default(),
        engine_elapsed: Duration::ZERO,
    };
    let watcher = RefCell::new(watcher);
    for (index, planned) in plan.models.iter().enumerate() {
        let loading = || watcher.borrow().loading(&planned.name);
        let engine = LazyEngine::new(&planned.model, &loading);
        manifest.models[index]
            .numerics
            .clone_from(&engine.answerer().numerics);
        let mut storage = Storage {
            store: &mut store,
            may_read: !options.fresh,
        };
        run_model(&work, index, &engine, &mut storage, &watcher, &mut gathered)?;
        if gathered.tally.is_stopped {
            break;
        }
    }
    finish(&work, &folder, manifest, &gathered, &store, started)
}

fn run_model(
    work: &Work<'_>,
    model: usize,
    engine: &LazyEngine<'_>,
    storage: &mut Storage<'_>,
    watcher: &RefCell<&mut dyn Watcher>,
    gathered: &mut Gathered,
) -> Result<(), ExecuteError> {
    let plan = work.plan;
    let n_variants = plan.variants.len();
    let mut last = Instant::now();
    let mut is_loading = true;
    let mut times = vec![Duration::ZERO; n_variants];
    let mut on_progress = |progress: Progress| {
        let Progress::Answered { key, from_store } = progress;
        if !from_store {
            // Loading the weights is nobody's time; it lies before the first answer.
            let loading = std::mem::replace(&mut is_loading, false).then(|| engine.elapsed());
            times[key.variant] += last.elapsed().saturating_sub(loading.unwrap_or_default());
        }
        last = Instant::now();
        let mut watcher = watcher.borrow_mut();
        watcher.answered(key.model, key.variant, from_store);
    };
    let mut on_case = |case: Case, outcomes: Vec<Outcome>| {
        let key = case.key;
        let cell = &mut gathered.cells[key.model * n_variants + key.variant];
        if key.repeat == 0 {
            cell.n_context_tokens += case.n_context_tokens;
            cell.n_cases += 1;
            cell.n_dropped_shots += usize::from(0 < case.n_dropped_shots);
            cell.n_truncated += usize::from(0 < case.n_truncated_tokens);
        }
        gathered
            .requests
            .insert(key, digests(&case, engine.answerer()));
        gathered.scores.push(score_case(work, case, outcomes));
    };
    let ended = runner::run(
        plan.cases(model),
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
    for (variant, time) in times.into_iter().enumerate() {
        gathered.cells[model * n_variants + variant].elapsed += time;
    }
    gathered.engine_elapsed += engine.busy();
    gathered.tally.n_requests += tally.n_requests;
    gathered.tally.n_computed += tally.n_computed;
    gathered.tally.n_stored += tally.n_stored;
    gathered.tally.rows += tally.rows;
    gathered.tally.is_stopped |= tally.is_stopped;
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

fn finish(
    work: &Work<'_>,
    folder: &RunFolder,
    mut manifest: Manifest,
    gathered: &Gathered,
    store: &Store,
    started: Instant,
) -> Result<Finished, ExecuteError> {
    let (plan, options) = (work.plan, work.options);
    let n_unscored = gathered
        .scores
        .iter()
        .filter(|it| it.status != Status::Ok)
        .count();
    for score in gathered.scores.iter().filter(|it| it.status != Status::Ok) {
        *manifest
            .counts
            .failed
            .entry(score.status.as_str().to_owned())
            .or_default() += 1;
    }
    manifest.counts.n_requests = gathered.tally.n_requests;
    manifest.counts.n_computed = gathered.tally.n_computed;
    manifest.counts.n_from_store = gathered.tally.n_stored;
    manifest.counts.n_rows_computed = gathered.tally.rows.n_computed;
    manifest.counts.n_rows_shared = gathered.tally.rows.n_shared;
    manifest.cells = cells(plan, &gathered.cells);
    manifest.finished = Some(table::format_utc(SystemTime::now()));
    let mut finished = Finished {
        folder: folder.path.clone(),
        run: None,
        evidence: None,
        written: Vec::new(),
        tally: gathered.tally,
        n_damaged: store.n_damaged(),
        elapsed: started.elapsed(),
        engine_elapsed: gathered.engine_elapsed,
    };
    if gathered.tally.is_stopped {
        manifest.status = RunStatus::Interrupted;
        manifest.write(&folder.path)?;
        return Ok(finished);
    }
    manifest.status = if n_unscored == 0 {
        RunStatus::Complete
    } else {
        RunStatus::Incomplete
    };
    let evidence = evidence(work, folder, &manifest, gathered);
    let Analysis {
        metrics,
        measured,
        comparisons,
        rankings,
    } = analysis::analyse(plan, &evidence);
    manifest.rankings = rankings;
    let models: Vec<String> = plan.models.iter().map(|it| it.name.clone()).collect();
    let variants: Vec<String> = plan.variants.iter().map(|it| it.name.clone()).collect();
    let examples = example_rows(plan);
    let token_text =
        |token: u32, model: usize| plan.models[model].model.tokenizer.token_text(token);
    let tables = RunTables {
        experiment: plan.experiment.spec.experiment.name.as_str(),
        run: &folder.id,
        models: &models,
        variants: &variants,
        examples: &examples,
        metrics: &metrics,
        scores: &gathered.scores,
        measurements: &measured,
        comparisons: &comparisons,
        with_tokens: options.tokens.then_some(&token_text),
    };
    finished.written = table::write(&folder.path, &tables)?;
    let path = table::write_evidence(&folder.path, &evidence)?;
    finished.written.push(path);
    // Last: a run that says it is complete has all its tables.
    manifest.write(&folder.path)?;
    finished.run = Some(table::stored(&folder.path, manifest, &tables)?);
    finished.evidence = Some(evidence);
    finished.elapsed = started.elapsed();
    Ok(finished)
}

fn evidence(
    work: &Work<'_>,
    folder: &RunFolder,
    manifest: &Manifest,
    gathered: &Gathered,
) -> Evidence {
    let numerics = manifest.models.iter().map(|it| it.numerics.clone());
    analysis::evidence(
        work.plan,
        &Measurements {
            run: &folder.id,
            numerics: &numerics.collect::<Vec<String>>(),
            judges: &work.judges,
            scores: &gathered.scores,
            requests: &gathered.requests,
        },
    )
}

/// The manifest of a run that begins now and has no id yet.
fn manifest(plan: &Plan, judges: &[TextJudge]) -> Manifest {
    let spec = &plan.experiment.spec;
    let hex = |bytes: &[u8; 32]| Digest(*bytes).to_string();
    let record = |metric: &harness::metric::Metric| {
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
        metrics: analysis::metrics(plan, judges).iter().map(record).collect(),
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

fn example_rows(plan: &Plan) -> Vec<ExampleRow> {
    let rows = plan.examples.iter().enumerate().map(|(i, example)| {
        let row = plan.row(i);
        let fields = plan.dataset.columns.iter().filter_map(|name| {
            let text = match row.fields.get(name)? {
                serde_json::Value::String(text) => text.clone(),
                serde_json::Value::Null => return None,
                other => other.to_string(),
            };
            Some((name.clone(), text))
        });
        ExampleRow {
            id: example.id.clone(),
            row_digest: Digest(row.digest).to_string(),
            source_line: row.source_line,
            cluster: example.cluster.clone(),
            target: plan.answers[i].references.first().cloned(),
            fields: fields.collect(),
        }
    });
    rows.collect()
}
