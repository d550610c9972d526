//! Holds the simulated figures to what is required of them, in 1,000 replicates.
//!
//! Apart from the simulations because `benches/honesty.rs` shares those.

use super::honesty::{Effort, Figure, clusters, controls, corpus, exact, families, gates};

/// Runs a section small, and says which figures miss what is required of them.
#[track_caller]
fn hold(figures: fn(Effort) -> Vec<Figure>) {
    let effort = Effort {
        n_replicates: 1_000,
        is_full: false,
    };
    let figures = figures(effort);
    assert!(!figures.is_empty());
    let missed: Vec<String> = figures
        .iter()
        .filter(|it| !it.is_as_expected())
        .map(ToString::to_string)
        .collect();
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn wilson_covers_as_promised() {
    hold(exact::wilson_coverage);
}

#[test]
fn a_gate_on_a_proportion_seldom_passes_a_drop() {
    hold(exact::gate_on_proportions);
}

#[test]
fn bounds_of_a_mean_seldom_lie_beyond_the_truth() {
    hold(gates::bounds);
}

#[test]
fn a_gate_on_a_mean_seldom_passes_a_drop() {
    hold(gates::false_pass);
}

#[test]
fn a_harmless_edit_seldom_fails_and_passes_as_planned() {
    hold(gates::no_drop);
}

#[test]
fn leaving_out_the_worst_rows_does_not_help() {
    hold(gates::worst_rows_missing);
}

#[test]
fn corpus_intervals_cover_as_promised() {
    hold(corpus::coverage);
}

#[test]
fn clusters_are_units() {
    hold(clusters::bounds);
}

#[test]
fn equal_variants_are_seldom_told_apart() {
    hold(families::false_claims);
}

#[test]
fn the_luck_of_the_best_is_near_the_true_one() {
    hold(families::luck);
}

#[test]
fn careless_procedures_are_caught() {
    hold(controls::defects);
}
