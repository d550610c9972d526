//! Tests of rooms together, and of the binary; one crate, so that it links once.

#![expect(clippy::unwrap_used, reason = "a panic in a test is its report")]

mod bad_experiments;
mod batches;
mod builtin;
mod commands;
mod damaged_parquet;
mod engine_goldens;
mod faults;
mod formats;
mod html_report;
mod hub;
mod memo;
mod mutants;
mod protections;
mod references;
mod rooms;
mod same_bits;
mod second_opinion;
mod tokenizers;
