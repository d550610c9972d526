//! Prompt experiments: which of these prompts is better, by how much, and is it real?
//!
//! The binary `harness` is a thin shell over this library. Data flows one way:
//!
//! ```text
//! experiment file → plan → requests → engine → responses → scores → metrics → comparison → tables, report
//! ```
//!
//! A module may name the modules to its left that it consumes, never one to its
//! right; `tests/integration/rooms.rs` holds that rule. `ARCHITECTURE.md` has the map.

#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub mod compare;
pub mod dataset;
pub mod engine;
pub mod experiment;
pub mod gate;
pub mod metric;
pub mod model;
pub mod parquet;
pub mod plan;
pub mod query;
pub mod reach;
pub mod report;
pub mod request;
pub mod runner;
pub mod score;
pub mod stats;
pub mod store;
pub mod table;
pub mod template;
pub mod text_metric;
