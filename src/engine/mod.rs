//! Engines: requests in, outcomes out.
//!
//! An [`Engine`] sees tokens and which of them to score, never an example, a
//! choice or a label. It states what it can do in [`Capabilities`] before it is
//! asked, and it may answer in any order: every outcome carries the index of its
//! request. [`local`] runs a model on this machine; [`fake`] has closed-form
//! answers for tests of everything around it.

pub mod fake;
#[cfg(feature = "local")]
pub mod local;

use std::any::Any;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::request::{Answerer, Outcome, Request};

/// What an engine can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Positions the model has: prompt and generated tokens together.
    pub n_context: usize,
    /// Logprobs of given tokens.
    pub loglikelihood: bool,
    /// Text that continues a prompt.
    pub generation: bool,
}

/// Answers requests with one model.
pub trait Engine {
    /// What may be asked; constant over the engine's life.
    fn capabilities(&self) -> Capabilities;

    /// What, besides the request, the answers depend on.
    fn answerer(&self) -> &Answerer;

    /// Answers every request once, in any order, through `deliver(index, outcome)`.
    ///
    /// Returns early, with some requests unanswered, when `stop` is raised. The rows that
    /// were computed say what the answers took.
    ///
    /// # Errors
    ///
    /// [`EngineError`] if the engine as a whole cannot go on; what was delivered
    /// before stays valid. Trouble with a single request is an `Err` outcome instead.
    fn run(
        &self,
        requests: &[Request],
        stop: &Stop,
        deliver: &mut dyn FnMut(usize, Outcome),
    ) -> Result<Rows, EngineError>;
}

/// What answers took, in rows: tokens that go through the model.
///
/// A request alone takes a row for every token but the last one, which is only predicted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rows {
    /// Rows that were computed.
    pub n_computed: usize,
    /// Rows that were not computed, because answered requests had them in common.
    pub n_shared: usize,
}

impl AddAssign for Rows {
    fn add_assign(&mut self, more: Self) {
        self.n_computed += more.n_computed;
        self.n_shared += more.n_shared;
    }
}

/// Why an engine cannot go on.
#[derive(Debug, thiserror::Error)]
#[error("the engine cannot go on: {message}")]
pub struct EngineError {
    /// What went wrong, with what to do about it where that is known.
    pub message: String,
}

/// What a panic said, for whoever catches one that came out of an engine.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    let said = owned.or_else(|| panic.downcast_ref::<&str>().copied());
    said.unwrap_or("nothing was said")
}

/// A request to stop, raised by a signal and seen by the engine between layers.
#[derive(Debug, Default)]
pub struct Stop(AtomicBool);

impl Stop {
    /// Not raised yet; `const`, so that a signal handler can own a static one.
    pub const fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Asks for a stop; cannot be taken back.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether a stop was asked for.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
