//! Negative controls: careless procedures that the simulation must catch.

use crate::stats::{Sample, normal_quantile};

use super::draws::Draws;
use super::families::holm_against_the_samples_best;
use super::gates::passes_without_worst;
use super::population::Population;
use super::{Effort, Figure, Required, clusters};

/// What careless procedures do.
pub(crate) fn defects(effort: Effort) -> Vec<Figure> {
    let mut figures = Vec::new();
    let (above, _) = clusters::errors(effort, 50, false);
    figures.push(Figure::share(
        effort,
        "50 clusters ignored: lower bound beyond the truth",
        above,
        Required::ShowsAbove(0.10),
    ));
    figures.push(Figure::share(
        effort,
        "8 repeats of 50 examples as 400 examples: lower bound beyond the truth",
        repeats_as_examples(effort),
        Required::ShowsAbove(0.10),
    ));
    figures.push(Figure::exact(
        "Wald's 95 % interval for 6 rows at a share of 0.9: coverage (exact)",
        wald_coverage(6, 0.9),
        Required::ShowsBelow(0.60),
    ));
    for &k in effort.of(&[16], &[8, 16]) {
        figures.push(Figure::share(
            effort,
            format!(
                "{k} equal variants against the sample's best, Holm over k - 1: any false claim"
            ),
            holm_against_the_samples_best(effort, k),
            Required::ShowsAbove(0.08),
        ));
    }
    let mut draws = Draws::new(9_200);
    let share = effort.share(|_| {
        let rows: Vec<(f64, f64)> = (0..300)
            .map(|_| Population::RareDrops.draw(&mut draws, 0.03))
            .collect();
        passes_without_worst(&rows, 0.03, 10, false)
    });
    figures.push(Figure::share(
        effort,
        "the worst 3 % of 300 rows left out and nothing filled in: passes a drop of 0.03",
        share,
        Required::ShowsAbove(0.30),
    ));
    figures
}

/// How often the lower bound of a mean lies above the truth if every repeat counts as an example.
fn repeats_as_examples(effort: Effort) -> f64 {
    let mut draws = Draws::new(9_100);
    effort.share(|_| {
        let mut values = Vec::new();
        for _ in 0..50 {
            let example = draws.normal();
            for _ in 0..8 {
                values.push(example + 0.5 * draws.normal());
            }
        }
        let sample = Sample::mean(&values, None).expect("finite values");
        sample.lower(0.95).is_some_and(|it| 0.0 < it)
    })
}

/// The coverage of `share -/+ z sqrt(share (1 - share) / n)` with the observed share.
fn wald_coverage(n: u32, share: f64) -> f64 {
    let z = normal_quantile(0.975);
    let mut chance = (1.0 - share).powi(n.cast_signed());
    let mut covered = 0.0;
    for successes in 0..=n {
        let observed = f64::from(successes) / f64::from(n);
        let half = z * (observed * (1.0 - observed) / f64::from(n)).sqrt();
        if observed - half <= share && share <= observed + half {
            covered += chance;
        }
        chance *= f64::from(n - successes) / f64::from(successes + 1) * share / (1.0 - share);
    }
    covered
}
