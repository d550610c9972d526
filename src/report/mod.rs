//! Turns a run into text for people and JSON for scripts; returns strings, never prints.
//!
//! [`ReportInput`] is what a report says, independent of its form: [`text::summary`] makes
//! the table of a terminal of it, [`json::summary`] the same content with a schema version,
//! [`html::page`] a page with every example. All are filled from a [`StoredRun`](crate::table::StoredRun), whether just computed or
//! read back, so `run` and `show` cannot differ. [`show`] looks into single cases.
//! [`Checked`] is what a check came to; [`junit`], [`github`] and [`markdown`] are for where CI
//! shows it.
//!
//! Numbers are rounded here and nowhere else. Meaning never depends on color. Texts that
//! come from data or from a model pass through [`escape`], so that they cannot move the
//! cursor or reorder a line. Knows `score`, `metric`, `stats`, `compare` and `table`.

pub mod cases_json;
pub mod checked;
#[cfg(test)]
mod checked_fixture;
pub mod checks;
pub mod comparison;
pub mod escape;
#[cfg(test)]
mod fixture;
pub mod flips;
pub mod github;
pub mod html;
mod input;
pub mod json;
pub mod junit;
pub mod markdown;
mod notes;
mod number;
pub mod query;
mod ranking;
mod ranking_table;
pub mod reason;
pub mod show;
pub mod text;
mod wrap;

pub use checked::{Checked, CheckedGate, EditedGate, GatePlace, Unjudged};
pub use input::{InputError, MetricInput, ModelInput, ReportInput, VariantInput};
pub use number::count;
pub use ranking::Standing;
pub use wrap::wrap;

/// How text is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Whether to color; what is colored is also said in words or signs.
    pub color: bool,
    /// Columns of the terminal; tables are at most this wide where they can be.
    pub width: usize,
}
