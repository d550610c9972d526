//! Jackknives, held against samples rebuilt without each unit and against what they promise.

use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::Value;

use super::*;
use crate::stats::goldens::{assert_near, goldens, number, numbers};

fn corpus_f1(sums: &[f64]) -> f64 {
    2.0 * sums[0] / (2.0 * sums[0] + sums[1] + sums[2])
}

/// The jackknife of a golden sample, by the constructor for its kind.
fn golden_sample(row: &Value) -> Jackknife {
    let units: Vec<Vec<f64>> = row["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(numbers)
        .collect();
    match row["name"].as_str().unwrap() {
        "ratio" => {
            let pairs: Vec<[f64; 2]> = units.iter().map(|it| [it[0], it[1]]).collect();
            Jackknife::of_ratio(&pairs)
        }
        "corpus" => Jackknife::of_corpus(&units, corpus_f1),
        "corpus_difference" => {
            let side =
                |at: usize| -> Vec<&[f64]> { units.iter().map(|it| &it[at..at + 3]).collect() };
            let of = |units: Vec<&[f64]>| Jackknife::of_corpus(&units, corpus_f1).unwrap();
            of(side(0)).minus(&of(side(3)))
        }
        _ => Jackknife::of_mean(&units.concat()),
    }
    .unwrap()
}

#[test]
fn everything_agrees_with_samples_rebuilt_without_each_unit() {
    for row in goldens("jackknife") {
        let (got, name) = (golden_sample(&row), &row["name"]);
        let near = |value: f64, key: &str| {
            assert_near(value, number(&row, key), 1e-10, &format!("{key} of {name}"));
        };
        near(got.value(), "theta");
        near(got.stderr(), "stderr");
        near(got.spread(), "spread");
        near(got.skewness(), "skewness");
        near(got.lower(0.95), "low95");
        near(got.upper(0.95), "high95");
        near(got.p_value(), "p");
        let below = &row["below"];
        let p = got.p_below(number(below, "threshold"));
        assert_near(p, number(below, "p"), 1e-10, &format!("p below of {name}"));
        let above = &row["above"];
        let p = got.p_above(number(above, "threshold"));
        assert_near(p, number(above, "p"), 1e-10, &format!("p above of {name}"));
        let (interval, expected) = (got.interval(0.95), numbers(&row["interval95"]));
        assert_near(interval.low, expected[0], 1e-10, &format!("low of {name}"));
        assert_near(
            interval.high,
            expected[1],
            1e-10,
            &format!("high of {name}"),
        );
    }
}

#[test]
fn small_p_values_keep_their_digits() {
    let rows = goldens("jackknife");
    let ratio = rows.iter().find(|row| row["name"] == "ratio").unwrap();
    assert_near(
        golden_sample(ratio).p_value() / number(ratio, "p"),
        1.0,
        1e-8,
        "ratio",
    );
}

#[test]
fn without_skewness_it_is_the_paired_t_of_scipy() {
    let row = &goldens("paired_t")[0];
    let side = |key: &str| Jackknife::of_mean(&numbers(&row[key])).unwrap();
    let got = side("candidate").minus(&side("reference")).unwrap();
    assert_near(got.p_value(), number(row, "p"), 1e-12, "p");
    for expected in row["intervals"].as_array().unwrap() {
        let interval = got.interval(number(expected, "confidence"));
        assert_near(interval.low, number(expected, "low"), 1e-12, "low");
        assert_near(interval.high, number(expected, "high"), 1e-12, "high");
    }
}

/// Where skewness is mere rounding, Hall's bound would divide rounding by rounding.
#[test]
fn skewness_that_is_rounding_is_none() {
    for noise in (-40..=40).map(|k| f64::from(k) * 1e-15) {
        let values = [
            -2.5,
            -2.0,
            -1.5,
            -1.0,
            -0.5,
            0.5,
            1.0,
            1.5,
            2.0,
            2.5 + noise,
        ];
        let jackknife = Jackknife::of_mean(&values).unwrap();
        assert!(jackknife.skewness().abs() < 1e-11, "{noise}");
        // Student's t with 9 degrees of freedom leaves 2.5 % beyond 2.262157163.
        let reach = 2.262_157_162_854 * jackknife.stderr();
        assert_near(jackknife.lower(0.975), -reach, 1e-9, "lower");
        assert_near(jackknife.upper(0.975), reach, 1e-9, "upper");
    }
}

#[test]
fn a_skewed_sample_reaches_further_on_its_long_side() {
    // 96 times 0 and 4 times -1: the long tail is below, so Hall's lower bound is the wider.
    let failures: Vec<f64> = (0..100).map(|k| if k < 4 { -1.0 } else { 0.0 }).collect();
    let got = Jackknife::of_mean(&failures).unwrap();
    let interval = got.interval(0.95);
    let half = student_t_quantile(0.975, 99) * got.stderr();
    assert!(interval.low < got.value() - half - 0.01);
    assert_near(
        interval.high,
        got.value() + half,
        1e-14,
        "the short side is Student's",
    );
}

#[test]
fn the_unit_that_carries_the_difference_is_named() {
    // One -1 among 100: mean -0.01, its squared deviation 0.9801 of 0.99 in all.
    let mut gains = vec![0.0; 100];
    gains[41] = -1.0;
    let (unit_index, share) = Jackknife::of_mean(&gains).unwrap().dominant_unit().unwrap();
    assert_eq!(unit_index, 41);
    assert_near(share, 0.99, 1e-12, "share");
    assert_eq!(
        Jackknife::of_mean(&[0.0, 1.0, 0.0, 1.0, 1.0, 0.0])
            .unwrap()
            .dominant_unit(),
        None
    );
    assert_eq!(
        Jackknife::of_mean(&[0.1; 30]).unwrap().dominant_unit(),
        None
    );
}

/// A ratio with one denominator is a mean, whose pseudo-values are the values to the bit.
#[test]
fn the_pseudo_values_of_a_mean_are_its_values() {
    let values: Vec<f64> = (0..30).map(|k| 0.7 + 0.1 * f64::from(k)).collect();
    let mean = Jackknife::of_mean(&values).unwrap();
    assert_eq!(mean.pseudo_values(), values);
    let pairs: Vec<[f64; 2]> = values.iter().map(|it| [3.0 * it, 3.0]).collect();
    let ratio = Jackknife::of_ratio(&pairs).unwrap();
    let quotients: Vec<f64> = pairs.iter().map(|[a, b]| a / b).collect();
    assert_eq!(ratio.pseudo_values(), quotients);
}

/// The mean of twelve times 0.7 is not 0.7 in floats, and the square of 1e-200 is 0.
#[test]
fn a_spread_that_is_rounding_is_none() {
    for (n, value) in [(12, 0.7), (24, 0.1), (13, 0.9)] {
        let got = Jackknife::of_mean(&vec![value; n]).unwrap();
        assert_ne!(got.value(), value, "else this shows nothing");
        assert_eq!((got.spread(), got.skewness()), (0.0, 0.0));
    }
    let mut values = [0.0; 12];
    values[5] = 1e-200;
    let got = Jackknife::of_mean(&values).unwrap();
    assert_eq!((got.spread(), got.skewness()), (0.0, 0.0));
}

/// A share of exactly a quarter does not dominate, and of two equal ones the first is named.
#[test]
fn a_unit_dominates_beyond_a_quarter_and_the_first_of_equals_is_named() {
    let gains = |at: &[(usize, f64)]| {
        let mut gains = [0.0; 16];
        for (unit, gain) in at {
            gains[*unit] = *gain;
        }
        Jackknife::of_mean(&gains).unwrap().dominant_unit()
    };
    // Four of size 1 among 16, mean 0: the spread is 1/2 and each share (1 / (1/2))^2 / 16.
    assert_eq!(gains(&[(1, 1.0), (4, -1.0), (7, 1.0), (9, -1.0)]), None);
    let (unit, share) = gains(&[(4, -1.0), (7, 1.0)]).unwrap();
    assert_eq!(unit, 4);
    assert_near(share, 0.5, 1e-12, "share");
}

/// Without skewness the tails on both sides of any threshold make up the whole.
#[test]
fn above_and_below_are_complements_where_nothing_is_skewed() {
    let values: Vec<f64> = (-7..=7).map(f64::from).collect();
    let got = Jackknife::of_mean(&values).unwrap();
    for threshold in [-2.0, -0.5, 0.0, 0.5, 2.0] {
        let whole = got.p_above(threshold) + got.p_below(threshold);
        assert_near(whole, 1.0, 1e-12, "whole");
    }
}

#[test]
fn constant_values_lie_for_certain_on_their_side_of_a_threshold() {
    let got = Jackknife::of_mean(&[0.1; 30]).unwrap();
    assert_eq!((got.p_positive(), got.p_negative()), (0.0, 1.0));
    assert_eq!((got.p_above(0.2), got.p_below(0.2)), (1.0, 0.0));
    // Neither above nor below itself.
    let value = got.value();
    assert_eq!((got.p_above(value), got.p_below(value)), (1.0, 1.0));
}

#[test]
fn constant_values_have_no_spread() {
    let got = Jackknife::of_mean(&[0.1; 30]).unwrap();
    assert_eq!((got.stderr(), got.skewness()), (0.0, 0.0));
    assert_eq!(
        got.interval(0.95),
        Interval {
            low: got.value(),
            high: got.value()
        }
    );
    assert_eq!(got.p_value(), 0.0);
    assert_eq!(Jackknife::of_mean(&[0.0; 30]).unwrap().p_value(), 1.0);
}

#[test]
fn what_has_no_value_without_a_unit_is_refused() {
    assert_eq!(Jackknife::of_mean(&[1.0]), None);
    assert_eq!(Jackknife::of_mean(&[1.0, f64::NAN]), None);
    assert_eq!(Jackknife::of_ratio(&[[1.0, 2.0], [0.0, 0.0]]), None);
    let (two, three) = (
        Jackknife::of_mean(&[1.0, 2.0]),
        Jackknife::of_mean(&[1.0, 2.0, 3.0]),
    );
    assert_eq!(two.unwrap().minus(&three.unwrap()), None);
}

/// The promise of a 95 % interval, on means of 50 exponential values (skewness 2).
#[test]
fn ninety_five_percent_intervals_hold_the_truth_that_often() {
    let mut rng = ChaCha8Rng::seed_from_u64(50);
    let mut n_covered = 0;
    for _ in 0..2_000 {
        // -ln(1 - u), u uniform on [0, 1) from the top 53 bits: mean 1.
        let values: Vec<f64> = (0..50)
            .map(|_| -(-((rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64)).ln_1p())
            .collect();
        let interval = Jackknife::of_mean(&values).unwrap().interval(0.95);
        n_covered += u32::from(interval.contains(1.0));
    }
    let coverage = f64::from(n_covered) / 2_000.0;
    assert!((0.93..=0.98).contains(&coverage), "coverage {coverage}");
}

fn values() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(-3.0_f64..4.0, 10..60)
}

proptest! {
    #[test]
    fn the_interval_contains_the_value_and_grows(values in values(), confidence in 0.05_f64..0.98) {
        let got = Jackknife::of_mean(&values).unwrap();
        let interval = got.interval(confidence);
        prop_assert!(interval.contains(got.value()));
        prop_assert!(interval.is_within(got.interval(confidence + 0.01)));
    }

    #[test]
    fn p_is_the_level_at_which_the_interval_reaches_zero(values in values(), shift in -1.0_f64..1.0) {
        let values: Vec<f64> = values.iter().map(|it| it.powi(3) / 9.0 + shift).collect();
        let got = Jackknife::of_mean(&values).unwrap();
        let p = got.p_value();
        if 1e-9 < p && p < 0.999 {
            let interval = got.interval(1.0 - p);
            let end = if 0.0 < got.value() { interval.low } else { interval.high };
            prop_assert!(end.abs() < 1e-7 * got.spread(), "{p} {end}");
        }
        let excludes_zero = !got.interval(0.95).contains(0.0);
        if 1e-9 < (p - 0.05).abs() {
            prop_assert_eq!(p <= 0.05, excludes_zero);
        }
    }

    #[test]
    fn swapping_sides_negates(candidate in values(), seed in any::<u64>()) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let noise: Vec<f64> = candidate.iter().map(|it| it + f64::from(rng.next_u32() % 9)).collect();
        let (one, other) = (Jackknife::of_mean(&candidate).unwrap(), Jackknife::of_mean(&noise).unwrap());
        let (there, back) = (one.minus(&other).unwrap(), other.minus(&one).unwrap());
        prop_assert_eq!(there.value(), -back.value());
        prop_assert!((there.lower(0.95) + back.upper(0.95)).abs() < 1e-12 * (1.0 + there.value().abs()));
        prop_assert!((there.p_value() - back.p_value()).abs() < 1e-12);
    }

    #[test]
    fn the_order_of_units_does_not_matter(mut values in values()) {
        let one = Jackknife::of_mean(&values).unwrap();
        values.reverse();
        values.swap(0, 5);
        let other = Jackknife::of_mean(&values).unwrap();
        prop_assert!((one.value() - other.value()).abs() < 1e-14);
        prop_assert!((one.upper(0.9) - other.upper(0.9)).abs() < 1e-12);
    }

    #[test]
    fn three_roads_to_a_mean_agree(values in values()) {
        let mean = Jackknife::of_mean(&values).unwrap();
        let halves: Vec<[f64; 2]> = values.iter().map(|it| [*it, 1.0]).collect();
        let corpus = Jackknife::of_corpus(&halves, |sums| sums[0] / sums[1]).unwrap();
        let doubled: Vec<[f64; 2]> =
            values.iter().enumerate().map(|(k, it)| [it * (1 + k % 2) as f64, (1 + k % 2) as f64]).collect();
        let ratio = Jackknife::of_ratio(&doubled).unwrap();
        let brute = Jackknife::of_corpus(&doubled, |sums| sums[0] / sums[1]).unwrap();
        for confidence in [0.05, 0.9, 0.975] {
            prop_assert!((mean.lower(confidence) - corpus.lower(confidence)).abs() < 1e-10);
            prop_assert!((ratio.upper(confidence) - brute.upper(confidence)).abs() < 1e-10);
        }
    }
}
