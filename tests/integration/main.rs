//! Tests of rooms together, and of the binary; one crate, so that it links once.

#![expect(clippy::unwrap_used, reason = "a panic in a test is its report")]

mod bad_experiments;
mod builtin;
mod commands;
mod engine_goldens;
mod formats;
mod html_report;
mod hub;
mod references;
mod rooms;
mod same_bits;
mod second_opinion;
mod tokenizers;
