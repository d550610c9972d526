//! How much of the best variant's lead is luck.
//!
//! The best of several variants on these rows is partly the one that these rows favour. Drawing
//! the rows again shows by how much such a winner flatters itself.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::StatsError;
use super::difference::Direction;
use super::sample::Sample;

/// How many times the units are drawn anew.
const N_RESAMPLINGS: usize = 1_000;

/// How much the best of `samples` is expected to lose on new rows, in the metric's unit.
///
/// The mean over 1,000 resamplings of `theta*(w) - theta(w)`: units are drawn with replacement,
/// the same draw for every variant; w is the variant that wins the draw (the first of equals),
/// `theta*` its value there and `theta` its value on all units. Signs are turned where lower is
/// better, so the number counts a loss in either direction. It may fall a little below 0 where
/// one variant always wins, and is 0 with fewer than two variants, where nothing was chosen.
///
/// The draws come from `ChaCha8` keyed by `seed`: the same seed gives the same bits everywhere. A
/// variant without a value in a draw cannot win it, and a draw that nobody wins is left out.
///
/// # Errors
///
/// [`StatsError::UnitsDiffer`] if the samples do not have the same number of units;
/// [`StatsError::Undefined`] if no draw has a winner.
pub fn luck_of_best(
    samples: &[Sample],
    direction: Direction,
    seed: u64,
) -> Result<f64, StatsError> {
    let Some(first) = samples.first().filter(|_| 2 <= samples.len()) else {
        return Ok(0.0);
    };
    let n_units = first.n_units();
    if let Some(other) = samples.iter().find(|it| it.n_units() != n_units) {
        return Err(StatsError::UnitsDiffer {
            expected: n_units,
            got: other.n_units(),
        });
    }
    let sign = match direction {
        Direction::HigherIsBetter => 1.0,
        Direction::LowerIsBetter => -1.0,
    };
    let mut rng = seeded(seed);
    let mut n_draws = vec![0; n_units];
    let (mut total, mut n_won) = (0.0, 0_u32);
    for _ in 0..N_RESAMPLINGS {
        draw_units(&mut rng, &mut n_draws);
        let mut winner: Option<(f64, f64)> = None;
        for sample in samples {
            let drawn = sign * sample.resampled(&n_draws);
            if drawn.is_finite() && winner.is_none_or(|(best, _)| best < drawn) {
                winner = Some((drawn, sign * sample.value()));
            }
        }
        if let Some((drawn, value)) = winner {
            total += drawn - value;
            n_won += 1;
        }
    }
    if n_won == 0 {
        return Err(StatsError::Undefined { n_units });
    }
    Ok(total / f64::from(n_won))
}

/// A generator whose key is the seed followed by zeros.
fn seeded(seed: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// Draws as many units as there are, with replacement, and counts how often each came up.
fn draw_units(rng: &mut ChaCha8Rng, n_draws: &mut [u32]) {
    n_draws.fill(0);
    let n_units = n_draws.len() as u64;
    for _ in 0..n_units {
        n_draws[draw_below(rng, n_units) as usize] += 1;
    }
}

/// A whole number below `end`, each equally likely (D. Lemire, ACM TOMACS 29 (2019) 3).
fn draw_below(rng: &mut ChaCha8Rng, end: u64) -> u64 {
    // The high half of a random number times `end`; the few low halves that would favour some
    // results are drawn again.
    let unfair = end.wrapping_neg() % end;
    loop {
        let product = u128::from(rng.next_u64()) * u128::from(end);
        if unfair <= product as u64 {
            return (product >> 64) as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::goldens::{assert_near, count, goldens, number, numbers};

    const HIGHER: Direction = Direction::HigherIsBetter;

    fn mean(values: impl Iterator<Item = f64>) -> Sample {
        Sample::mean(&values.collect::<Vec<f64>>(), None).unwrap()
    }

    /// The reference has its own `ChaCha8`, in Python, and resamples unit by unit.
    #[test]
    fn the_same_seed_gives_the_same_number_everywhere() {
        for row in goldens("luck_of_best") {
            let variants = row["variants"].as_array().unwrap();
            let samples: Vec<Sample> = variants
                .iter()
                .map(|it| mean(numbers(it).into_iter()))
                .collect();
            let got = luck_of_best(&samples, HIGHER, count(&row, "seed")).unwrap();
            assert_near(got, number(&row, "luck"), 1e-13, &row["seed"].to_string());
        }
    }

    #[test]
    fn equal_variants_promise_too_much_by_what_chance_adds() {
        // Two unrelated patterns of 1 and -1 over 400 units: drawn means are near normal with
        // standard deviation 1/20, and the larger of two exceeds the mean by 1 / (20 sqrt(pi)).
        let one = mean((0..400).map(|k| if k % 2 == 0 { 1.0 } else { -1.0 }));
        let other = mean((0..400).map(|k| if k % 4 < 2 { 1.0 } else { -1.0 }));
        let got = luck_of_best(&[one, other], HIGHER, 7).unwrap();
        // 1,000 draws of a standard deviation of 0.041: standard error 0.0013.
        assert_near(got, 0.0282, 0.004, "luck");
    }

    #[test]
    fn a_clear_winner_owes_nothing_to_luck() {
        let weak = mean((0..50).map(|k| f64::from(k % 5)));
        let strong = mean((0..50).map(|k| f64::from(k % 5) + 10.0));
        // The winner is always the same; what is left is noise of sqrt(2 / 50 / 1000) = 0.006.
        assert_near(
            luck_of_best(&[weak, strong], HIGHER, 1).unwrap(),
            0.0,
            0.03,
            "luck",
        );
    }

    #[test]
    fn direction_only_turns_the_sign() {
        let values = |k: i32, at: i32| f64::from((k * 7 + at * 3) % 11);
        let side = |sign: f64| [1, 2, 3].map(|at| mean((0..40).map(|k| sign * values(k, at))));
        let up = luck_of_best(&side(1.0), HIGHER, 5).unwrap();
        let down = luck_of_best(&side(-1.0), Direction::LowerIsBetter, 5).unwrap();
        assert_eq!(up, down);
        assert!(0.0 < up);
        assert_ne!(up, luck_of_best(&side(1.0), HIGHER, 6).unwrap());
    }

    #[test]
    fn nothing_chosen_is_nothing_gained_by_chance() {
        let one = mean((0..5).map(f64::from));
        assert_eq!(luck_of_best(&[], HIGHER, 0), Ok(0.0));
        assert_eq!(luck_of_best(std::slice::from_ref(&one), HIGHER, 0), Ok(0.0));
        let short = mean((0..4).map(f64::from));
        let expected = StatsError::UnitsDiffer {
            expected: 5,
            got: 4,
        };
        assert_eq!(luck_of_best(&[one, short], HIGHER, 0), Err(expected));
    }

    #[test]
    fn draws_without_a_value_are_left_out() {
        // A draw without the first unit has a denominator of 0, in either variant.
        let ratio = |top: f64| Sample::ratio(&[[top, 1.0], [0.0, 0.0]], None).unwrap();
        assert_eq!(luck_of_best(&[ratio(0.5), ratio(0.25)], HIGHER, 0), Ok(0.0));
    }

    /// Where the first unit is drawn twice (once in four), both variants are 0 there; on all units
    /// one is 1 and the other 1/2, so that the first of equals loses more or less.
    #[test]
    fn the_first_of_equals_wins_a_draw() {
        let better = mean([0.0, 2.0].into_iter());
        let worse = mean([0.0, 1.0].into_iter());
        let luck =
            |samples: [&Sample; 2]| luck_of_best(&samples.map(Clone::clone), HIGHER, 11).unwrap();
        // 1,000 draws: standard error of 1/2 times a share of 1/4, 0.007.
        let gap = luck([&worse, &better]) - luck([&better, &worse]);
        assert_near(gap, 0.125, 0.03, "1/2 in a quarter of the draws");
    }

    /// Three quarters of 2^64 random numbers: without drawing some again, every third result
    /// would come up twice as often as the others.
    #[test]
    fn a_large_range_is_as_fair_as_a_small_one() {
        let mut rng = seeded(4);
        let mut n_seen = [0_u32; 3];
        for _ in 0..30_000 {
            n_seen[(draw_below(&mut rng, 3 << 62) % 3) as usize] += 1;
        }
        // Standard deviation sqrt(30000 * 1/3 * 2/3) = 82.
        assert!(
            n_seen.iter().all(|n| n.abs_diff(10_000) < 400),
            "{n_seen:?}"
        );
    }

    #[test]
    fn every_unit_is_as_likely_as_the_next() {
        let mut rng = seeded(3);
        let mut n_seen = [0_u32; 7];
        for _ in 0..70_000 {
            n_seen[draw_below(&mut rng, 7) as usize] += 1;
        }
        // Standard deviation sqrt(70000 * 1/7 * 6/7) = 93.
        assert!(
            n_seen.iter().all(|n| n.abs_diff(10_000) < 400),
            "{n_seen:?}"
        );
    }
}
