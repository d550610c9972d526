//! Examples that come in clusters and resemble each other within one.

use crate::stats::{Difference, Direction, Sample};

use super::draws::Draws;
use super::{Effort, Figure, Required};

/// The share of an example's variance that its cluster shares.
const CORRELATION: f64 = 0.3;

/// Both one-sided bounds of a mean gain of 0 over clusters of 1 to 16 examples.
pub(crate) fn bounds(effort: Effort) -> Vec<Figure> {
    let mut figures = Vec::new();
    for &(n_clusters, most) in effort.of(&[(20, 0.075)], &[(10, 0.09), (20, 0.075), (50, 0.06)]) {
        let (above, below) = errors(effort, n_clusters, true);
        for (side, share) in [("lower", above), ("upper", below)] {
            let what = format!("{n_clusters} clusters, {side} bound");
            figures.push(Figure::share(effort, what, share, Required::AtMost(most)));
        }
    }
    figures
}

/// How often the lower bound lies above 0 and the upper one below it, over `n_clusters`; with
/// `are_units` false every example counts as a unit.
pub(crate) fn errors(effort: Effort, n_clusters: usize, are_units: bool) -> (f64, f64) {
    let mut draws = Draws::new(5_000 + n_clusters as u64);
    let (mut n_above, mut n_below) = (0, 0);
    for _ in 0..effort.n_replicates {
        let (mut gains, mut clusters) = (Vec::new(), Vec::new());
        for cluster in 0..n_clusters {
            let shared = draws.normal();
            for _ in 0..=draws.below(16) {
                let own = draws.normal();
                gains.push(CORRELATION.sqrt() * shared + (1.0 - CORRELATION).sqrt() * own);
                clusters.push(cluster);
            }
        }
        let zeros = vec![0.0; gains.len()];
        let of = |values: &[f64]| {
            let sample = Sample::mean(values, None).expect("finite values");
            if are_units {
                sample.clustered(&clusters).expect("a cluster for each")
            } else {
                sample
            }
        };
        let gain = Difference::paired(&of(&gains), &of(&zeros), Direction::HigherIsBetter)
            .expect("as many units on both sides");
        n_above += u32::from(gain.lower(0.95).is_some_and(|it| 0.0 < it));
        n_below += u32::from(gain.upper(0.95).is_some_and(|it| it < 0.0));
    }
    let share = |count: u32| f64::from(count) / f64::from(effort.n_replicates);
    (share(n_above), share(n_below))
}
