//! Samples, worked out by hand and held to what they promise.

use super::*;
use crate::stats::goldens::assert_near;
use crate::stats::proportion::wilson;

fn zero_to(high: f64) -> Interval {
    Interval { low: 0.0, high }
}

#[test]
fn a_proportion_gets_wilsons_interval_at_any_size() {
    let sample = Sample::proportion(&[true, false, true, true]).unwrap();
    let got = sample.estimate();
    assert_eq!((got.value, got.n), (0.75, 4));
    assert_eq!(got.interval, Some(wilson(3, 4, 0.95)));
    // Values 1 0 1 1: sample variance 0.75 / 3 = 1/4, so sqrt(1/4 / 4) = 1/4.
    assert_near(got.stderr.unwrap(), 0.25, 1e-15, "stderr");
    let single = Sample::proportion(&[true]).unwrap().estimate();
    assert_eq!(
        (single.stderr, single.interval),
        (None, Some(wilson(1, 1, 0.95)))
    );
}

#[test]
fn fewer_than_ten_units_get_no_interval() {
    let values: Vec<f64> = (0..10).map(f64::from).collect();
    let nine = Sample::mean(&values[..9], None).unwrap().estimate();
    assert!(nine.interval.is_none() && nine.stderr.is_some());
    assert!(
        Sample::mean(&values, None)
            .unwrap()
            .interval(0.95)
            .is_some()
    );
}

#[test]
fn a_bounded_metric_at_its_end_everywhere_gets_wilsons_interval() {
    for (value, successes) in [(0.0, 0), (2.0, 4)] {
        let got = Sample::mean(&[value; 4], Some(zero_to(2.0)))
            .unwrap()
            .interval(0.95)
            .unwrap();
        let share = wilson(successes, 4, 0.95);
        assert_eq!(
            got,
            Interval {
                low: 2.0 * share.low,
                high: 2.0 * share.high
            }
        );
    }
    let units = vec![[3.0, 3.0]; 12];
    let perfect = Sample::corpus(&units, Some(zero_to(100.0)), |sums| {
        100.0 * sums[0] / sums[1]
    });
    let got = perfect.unwrap().interval(0.9).unwrap();
    assert_near(got.low, 100.0 * wilson(12, 12, 0.9).low, 1e-12, "low");
    assert_eq!(got.high, 100.0);
    // Without a range there is no end to be at.
    let flat = Sample::mean(&[0.0; 20], None).unwrap().interval(0.95);
    assert_eq!(
        flat,
        Some(Interval {
            low: 0.0,
            high: 0.0
        })
    );
}

/// From 1 to 5: a single value at an end is one trial that was lost or won.
#[test]
fn one_unit_at_an_end_of_its_range_gets_wilsons_interval() {
    let range = Interval {
        low: 1.0,
        high: 5.0,
    };
    let interval = |value: f64| Sample::mean(&[value], Some(range)).unwrap().interval(0.95);
    let (lost, won) = (interval(1.0).unwrap(), interval(5.0).unwrap());
    let share = wilson(1, 1, 0.95);
    assert_near(won.low, 1.0 + 4.0 * share.low, 1e-12, "low");
    assert_eq!((won.high, lost.low), (5.0, 1.0));
    assert_near(lost.high, 5.0 - 4.0 * share.low, 1e-12, "high");
    assert_eq!(interval(3.0), None);
    // A billionth of the range, which is 4, is rounding.
    assert!(interval(5.0 - 2e-9).is_some());
    assert_eq!(interval(5.0 - 8e-9), None);
}

/// A billionth of the range is rounding, whatever the range.
#[test]
fn a_value_is_at_an_end_up_to_rounding_of_its_range() {
    for high in [0.01, 1.0, 100.0] {
        let interval = |off: f64| {
            let values = vec![high * (1.0 - off); 20];
            Sample::mean(&values, Some(zero_to(high)))
                .unwrap()
                .interval(0.95)
        };
        let lowest = high * wilson(20, 20, 0.95).low;
        assert_near(
            interval(5e-10).unwrap().low / lowest,
            1.0,
            1e-12,
            "at the end",
        );
        assert!(
            0.999 * high < interval(5e-9).unwrap().low,
            "all alike, but not at the end"
        );
    }
}

#[test]
fn a_mean_of_bounded_values_is_bounded_and_a_corpus_metric_is_not() {
    let range = Some(zero_to(100.0));
    let proportion = Sample::proportion(&[true]).unwrap();
    assert_eq!(proportion.bounded_mean(), Some(Interval::UNIT));
    assert_eq!(Sample::mean(&[50.0], range).unwrap().bounded_mean(), range);
    assert_eq!(Sample::mean(&[50.0], None).unwrap().bounded_mean(), None);
    let corpus = Sample::corpus(&[[50.0]], range, |sums| sums[0]).unwrap();
    assert_eq!((corpus.bounded_mean(), corpus.range()), (None, range));
}

#[test]
fn bounded_intervals_stay_in_range() {
    let mut values = vec![1.0; 20];
    values[3] = 0.2;
    let sample = Sample::mean(&values, Some(zero_to(1.0))).unwrap();
    let free = Sample::mean(&values, None).unwrap().interval(0.95).unwrap();
    let clipped = sample.interval(0.95).unwrap();
    assert!(1.0 < free.high);
    assert_eq!((clipped.low, clipped.high), (free.low, 1.0));
}

#[test]
fn every_row_twice_is_the_same_value_with_half_the_variance() {
    let values: Vec<f64> = (0..30).map(|k| f64::from(k * k % 17) / 7.0).collect();
    let twice: Vec<f64> = values.iter().chain(&values).copied().collect();
    let variance = |values: &[f64]| {
        let sample = Sample::mean(values, None).unwrap();
        let stderr = sample.jackknife().unwrap().stderr();
        (sample.value(), stderr * stderr)
    };
    let ((value, one), (same, two)) = (variance(&values), variance(&twice));
    assert_near(same, value, 1e-12, "value");
    // s^2 / n with divisor n - 1: sum / (29 * 30) becomes 2 * sum / (59 * 60).
    assert_near(two / one, 29.0 / 59.0, 1e-12, "variance");
}

#[test]
fn clusters_keep_the_value_and_widen_the_interval() {
    // Eleven clusters of five equal outcomes: 55 examples carry the news of eleven.
    let outcomes: Vec<bool> = (0..55).map(|k| (k / 5) % 3 == 0).collect();
    let clusters: Vec<usize> = (0..55).map(|k| k / 5).collect();
    let alone = Sample::proportion(&outcomes).unwrap();
    let merged = alone.clustered(&clusters).unwrap();
    assert_eq!((merged.n_units(), merged.value()), (11, alone.value()));
    let (wide, narrow) = (
        merged.interval(0.95).unwrap(),
        alone.interval(0.95).unwrap(),
    );
    assert!(1.5 * narrow.span() < wide.span());
    // Equal clusters: the same as a mean of the eleven cluster means.
    let means: Vec<f64> = (0..11)
        .map(|k| if k % 3 == 0 { 1.0 } else { 0.0 })
        .collect();
    let direct = Sample::mean(&means, Some(zero_to(1.0)))
        .unwrap()
        .interval(0.95)
        .unwrap();
    assert_near(wide.low, direct.low, 1e-12, "low");
    assert_near(wide.high, direct.high, 1e-12, "high");
    assert_eq!(
        alone.clustered(&clusters[1..]).unwrap_err(),
        StatsError::UnitsDiffer {
            expected: 55,
            got: 54
        }
    );
}

#[test]
fn clusters_may_be_scattered_and_named_by_text() {
    let sample = Sample::ratio(&[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], None).unwrap();
    let merged = sample.clustered(&["b", "a", "b"]).unwrap();
    assert_eq!(merged.statistics, [6.0, 8.0, 3.0, 4.0]);
    assert_eq!(merged.value(), 9.0 / 12.0);
}

#[test]
fn bad_numbers_are_refused_with_their_place() {
    let message = |got: Result<Sample, StatsError>| got.unwrap_err().to_string();
    assert_eq!(
        message(Sample::proportion(&[])),
        "expected at least one unit, got none"
    );
    assert_eq!(
        message(Sample::mean(&[0.0, f64::NEG_INFINITY], None)),
        "the value of unit 1 is -inf, expected a finite number"
    );
    assert_eq!(
        message(Sample::mean(&[0.5, 1.5], Some(zero_to(1.0)))),
        "the value of unit 1 is 1.5, expected 0 to 1"
    );
    assert_eq!(
        message(Sample::ratio(&[[1.0, 0.0]], None)),
        "the metric has no value on these 1 units"
    );
    assert_eq!(
        message(Sample::corpus(&[vec![1.0], vec![]], None, |sums| sums[0])),
        "unit 1 has 0 statistics, expected 1"
    );
}

/// A billionth of the range outside of it is rounding, more is a mistake.
#[test]
fn a_value_may_leave_its_range_by_rounding() {
    for high in [0.01, 1.0, 100.0] {
        let is_taken = |value: f64| Sample::mean(&[value * high], Some(zero_to(high))).is_ok();
        for (value, expected) in [
            (1.0 + 5e-10, true),
            (1.0 + 5e-9, false),
            (-5e-10, true),
            (-5e-9, false),
        ] {
            assert_eq!(is_taken(value), expected, "{value} of {high}");
        }
    }
}

#[test]
fn a_resampling_of_every_unit_once_changes_nothing() {
    let sample = Sample::ratio(&[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], None).unwrap();
    assert_eq!(sample.resampled(&[1, 1, 1]), sample.value());
    assert_eq!(sample.resampled(&[0, 3, 0]), 0.75);
    let sum = Sample::corpus(&[[1.0], [5.0]], None, |sums| sums[0]).unwrap();
    assert_eq!(sum.resampled(&[2, 1]), 7.0);
}
