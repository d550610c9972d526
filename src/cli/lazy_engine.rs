//! Loads a model's weights when the first request is computed, and not before: a run whose
//! answers are all stored needs none.

use std::cell::{Cell, OnceCell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use harness::engine::local::{self, LoadError, LocalEngine};
use harness::engine::{Capabilities, Engine, EngineError, Rows, Stop, panic_text};
use harness::model::Model;
use harness::request::{Answerer, Outcome, Request};

/// A local engine that may never be loaded.
pub(crate) struct LazyEngine<'a> {
    model: &'a Model,
    answerer: Answerer,
    engine: OnceCell<LocalEngine>,
    refused: RefCell<Option<LoadError>>,
    elapsed: Cell<Duration>,
    busy: Cell<Duration>,
    /// Shows that weights are being loaded, until what it returns is dropped.
    loading: &'a dyn Fn() -> Box<dyn std::any::Any>,
}

impl<'a> LazyEngine<'a> {
    pub(crate) fn new(model: &'a Model, loading: &'a dyn Fn() -> Box<dyn std::any::Any>) -> Self {
        Self {
            model,
            answerer: local::answerer(model),
            engine: OnceCell::new(),
            refused: RefCell::new(None),
            elapsed: Cell::new(Duration::ZERO),
            busy: Cell::new(Duration::ZERO),
            loading,
        }
    }

    /// Why the weights were refused, if they were.
    pub(crate) fn take_refusal(&self) -> Option<LoadError> {
        self.refused.borrow_mut().take()
    }

    /// How long loading took.
    pub(crate) fn elapsed(&self) -> Duration {
        self.elapsed.get()
    }

    /// How long answering took, without loading.
    pub(crate) fn busy(&self) -> Duration {
        self.busy.get()
    }

    fn load(&self) -> Result<&LocalEngine, EngineError> {
        if let Some(engine) = self.engine.get() {
            return Ok(engine);
        }
        let started = Instant::now();
        let shown = (self.loading)();
        let loaded = catch_unwind(AssertUnwindSafe(|| LocalEngine::load(self.model)));
        drop(shown);
        self.elapsed.set(started.elapsed());
        // As an error it ends the run; a panic would be taken for that of a request, and
        // the weights loaded again for every other one.
        let loaded = loaded.map_err(|panic| EngineError {
            message: format!("loading the weights panicked: {}", panic_text(&*panic)),
        })?;
        match loaded {
            Ok(engine) => Ok(self.engine.get_or_init(|| engine)),
            Err(err) => {
                let message = err.to_string();
                self.refused.replace(Some(err));
                Err(EngineError { message })
            }
        }
    }
}

impl Engine for LazyEngine<'_> {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            n_context: self.model.n_context,
            loglikelihood: true,
            generation: true,
        }
    }

    fn answerer(&self) -> &Answerer {
        &self.answerer
    }

    fn run(
        &self,
        requests: &[Request],
        stop: &Stop,
        deliver: &mut dyn FnMut(usize, Outcome),
    ) -> Result<Rows, EngineError> {
        if requests.is_empty() {
            return Ok(Rows::default());
        }
        let engine = self.load()?;
        let started = Instant::now();
        let rows = engine.run(requests, stop, deliver);
        self.busy.set(self.busy.get() + started.elapsed());
        rows
    }
}
