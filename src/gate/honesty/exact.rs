//! Proportions, where every possible dataset can be counted instead of drawn.

use std::ops::RangeInclusive;

use crate::stats::{Interval, floor_units, tango_lower, wilson};

use super::{Effort, Figure, Required};

/// How close to a jump of the coverage curve it is read.
const BESIDE: f64 = 1e-9;

/// Mean and minimum of the coverage of Wilson's interval over the true share.
pub(crate) fn wilson_coverage(effort: Effort) -> Vec<Figure> {
    let mut figures = Vec::new();
    for &n in effort.of(&[50], &[20, 50, 100, 300]) {
        let mean = mean_coverage(n);
        let what = format!("mean over all shares, n = {n}");
        figures.push(Figure::exact(what, mean, Required::AtLeast(0.95)));
    }
    // At n = 50 and 51 the curve's third dip, near 1.02 / n, lies just above a share of 0.02.
    figures.push(Figure {
        is_known_miss: true,
        ..least_coverage(50..=51, 1)
    });
    let step = if effort.is_full { 1 } else { 10 };
    figures.push(least_coverage(52..=300, step));
    for &n in effort.of(&[], &[50, 100, 300]) {
        let (coverage, share) = deepest(n, 0.0..=1.0);
        let what = format!("deepest dip over all shares, n = {n} (at {share:.5})");
        figures.push(Figure::exact(what, coverage, Required::Nothing));
    }
    figures
}

/// The least coverage over shares from 0.02 to 0.98 and these sizes.
fn least_coverage(sizes: RangeInclusive<u64>, step: usize) -> Figure {
    let (first, last) = (*sizes.start(), *sizes.end());
    let mut least = (1.0, 0.0, 0);
    for n in sizes.step_by(step) {
        let (coverage, share) = deepest(n, 0.02..=0.98);
        if coverage < least.0 {
            least = (coverage, share, n);
        }
    }
    let (coverage, share, n) = least;
    let what =
        format!("least over shares 0.02 to 0.98, n = {first} to {last} (at n = {n}, {share:.4})");
    Figure::exact(what, coverage, Required::AtLeast(0.92))
}

fn mean_coverage(n: u64) -> f64 {
    const GRID: u32 = 2_000;
    let intervals = intervals(n);
    let factorials = LnFactorials::new(n);
    let at = |k: u32| {
        coverage(
            &intervals,
            &factorials,
            (f64::from(k) + 0.5) / f64::from(GRID),
        )
    };
    (0..GRID).map(at).sum::<f64>() / f64::from(GRID)
}

/// The least coverage within `shares`, and where: the curve jumps down only at interval ends.
fn deepest(n: u64, shares: RangeInclusive<f64>) -> (f64, f64) {
    let intervals = intervals(n);
    let factorials = LnFactorials::new(n);
    let mut least = (1.0, 0.0);
    for interval in &intervals {
        for share in [interval.low - BESIDE, interval.high + BESIDE] {
            if shares.contains(&share) {
                let coverage = coverage(&intervals, &factorials, share);
                if coverage < least.0 {
                    least = (coverage, share);
                }
            }
        }
    }
    least
}

fn intervals(n: u64) -> Vec<Interval> {
    (0..=n)
        .map(|successes| wilson(successes, n, 0.95))
        .collect()
}

fn coverage(intervals: &[Interval], factorials: &LnFactorials, share: f64) -> f64 {
    let n = intervals.len() - 1;
    let inside = (0..=n).filter(|successes| intervals[*successes].contains(share));
    inside.map(|it| factorials.binomial(n, it, share)).sum()
}

/// The largest chance that a gate passes although the true drop is `max_drop`, over the share of
/// discordant pairs.
pub(crate) fn gate_on_proportions(effort: Effort) -> Vec<Figure> {
    let mut figures = Vec::new();
    for &max_drop in effort.of(&[0.05], &[0.02, 0.03, 0.05, 0.1, 0.15]) {
        let floor = floor_units(0.95, max_drop, Some(Interval::UNIT)).unwrap_or(u64::MAX);
        let first = floor.max(20) as usize;
        let mut worst = (0.0, 0, 0.0);
        let step = if effort.is_full { 1 } else { 40 };
        for n in (first..=300).step_by(step) {
            let most_lost = most_lost(n, max_drop);
            let factorials = LnFactorials::new(n as u64);
            for discordant in [max_drop, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5] {
                if discordant < max_drop {
                    continue;
                }
                let chance = chance_of_pass(&most_lost, &factorials, max_drop, discordant);
                if worst.0 < chance {
                    worst = (chance, n, discordant);
                }
            }
        }
        let (chance, n, discordant) = worst;
        let what = format!(
            "`max_drop` {max_drop}, worst of n = {first} to 300 (n = {n}, {discordant} discordant)"
        );
        let figure = Figure::exact(what, chance, Required::AtMost(0.065));
        // The widest jump of Tango's curve, where all discordant pairs are lost ones.
        let is_known_miss = max_drop == 0.1;
        figures.push(Figure {
            is_known_miss,
            ..figure
        });
    }
    figures
}

/// For each number of gained pairs the largest number of lost ones that passes, if any.
fn most_lost(n: usize, max_drop: f64) -> Vec<Option<usize>> {
    let passes = |gained: usize, lost: usize| {
        -max_drop <= tango_lower(gained as u64, lost as u64, n as u64, 0.95)
    };
    let mut next = 0;
    let of = |gained: usize| {
        // One more gained pair never lets fewer lost ones pass.
        while gained + next <= n && passes(gained, next) {
            next += 1;
        }
        next.checked_sub(1).map(|it| it.min(n - gained))
    };
    (0..=n).map(of).collect()
}

fn chance_of_pass(
    most_lost: &[Option<usize>],
    factorials: &LnFactorials,
    drop: f64,
    discordant: f64,
) -> f64 {
    let n = most_lost.len() - 1;
    let (gained_share, lost_share) = ((discordant - drop) / 2.0, f64::midpoint(discordant, drop));
    let mut chance = 0.0;
    for (gained, most) in most_lost.iter().enumerate() {
        let outer = factorials.binomial(n, gained, gained_share);
        let Some(most) = most else { continue };
        if outer < 1e-15 {
            continue;
        }
        let share = lost_share / (1.0 - gained_share);
        let inner = (0..=*most).map(|lost| factorials.binomial(n - gained, lost, share));
        chance += outer * inner.sum::<f64>();
    }
    chance
}

/// Logarithms of factorials up to some number.
struct LnFactorials(Vec<f64>);

impl LnFactorials {
    fn new(n: u64) -> Self {
        let mut sums = vec![0.0];
        let mut total = 0.0;
        for k in 1..=n {
            total += (k as f64).ln();
            sums.push(total);
        }
        Self(sums)
    }

    /// The chance of `k` successes in `n` trials.
    fn binomial(&self, n: usize, k: usize, share: f64) -> f64 {
        let power = |base: f64, exponent: usize| match exponent {
            0 => 0.0,
            it => it as f64 * base.ln(),
        };
        let ways = self.0[n] - self.0[k] - self.0[n - k];
        (ways + power(share, k) + power(1.0 - share, n - k)).exp()
    }
}
