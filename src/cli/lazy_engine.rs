//! Loads a model's weights when the first request is computed, and not before: a run whose
//! answers are all stored needs none.
//!
//! A run knows its engine as a [`Worker`], so that the bench of scale can hire a fake one.

use std::cell::{Cell, OnceCell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use harness::engine::local::{self, LoadError, LocalEngine};
use harness::engine::{Capabilities, Engine, EngineError, Rows, Stop, panic_text};
use harness::model::Model;
use harness::request::{Answerer, Outcome, Request};

/// An engine that a run asks, with what the run tells of it.
pub(crate) trait Worker: Engine {
    /// How long loading took.
    fn loading(&self) -> Duration;
    /// How long answering took, without loading.
    fn busy(&self) -> Duration;
    /// Why the weights were refused, if they were.
    fn take_refusal(&self) -> Option<LoadError>;
}

/// Shows that weights are being loaded, until what it returns is dropped.
pub(crate) type Loading<'a> = &'a dyn Fn() -> Box<dyn std::any::Any>;

/// Makes the engine for a model.
pub(crate) type Hire = for<'a> fn(&'a Model, Loading<'a>) -> Box<dyn Worker + 'a>;

/// The engine of this machine for `model`.
pub(crate) fn local<'a>(model: &'a Model, loading: Loading<'a>) -> Box<dyn Worker + 'a> {
    Box::new(LazyEngine::new(model, loading))
}

/// A local engine that may never be loaded.
struct LazyEngine<'a> {
    model: &'a Model,
    answerer: Answerer,
    engine: OnceCell<LocalEngine>,
    refused: RefCell<Option<LoadError>>,
    elapsed: Cell<Duration>,
    busy: Cell<Duration>,
    loading: Loading<'a>,
}

impl<'a> LazyEngine<'a> {
    fn new(model: &'a Model, loading: Loading<'a>) -> Self {
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

    fn load(&self) -> Result<&LocalEngine, EngineError> {
        if let Some(engine) = self.engine.get() {
            return Ok(engine);
        }
        let started = Instant::now();
        let shown = (self.loading)();
        let loaded = caught(|| LocalEngine::load(self.model));
        drop(shown);
        self.elapsed.set(started.elapsed());
        match loaded? {
            Ok(engine) => Ok(self.engine.get_or_init(|| engine)),
            Err(err) => {
                let message = err.to_string();
                self.refused.replace(Some(err));
                Err(EngineError { message })
            }
        }
    }
}

/// What `load` gives, a panic in it as an error: that ends the run, while a panic would be taken
/// for that of a request, and the weights loaded again for every other one.
fn caught<T>(load: impl FnOnce() -> T) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(load)).map_err(|panic| EngineError {
        message: format!("loading the weights panicked: {}", panic_text(&*panic)),
    })
}

impl Worker for LazyEngine<'_> {
    fn loading(&self) -> Duration {
        self.elapsed.get()
    }

    fn busy(&self) -> Duration {
        self.busy.get()
    }

    fn take_refusal(&self) -> Option<LoadError> {
        self.refused.borrow_mut().take()
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

#[cfg(test)]
mod tests {
    #[test]
    fn a_panic_while_weights_are_loaded_is_an_error() {
        assert_eq!(super::caught(|| 1).unwrap(), 1);
        let err = super::caught(|| -> usize { panic!("no such layer") }).unwrap_err();
        assert_eq!(err.message, "loading the weights panicked: no such layer");
    }
}
