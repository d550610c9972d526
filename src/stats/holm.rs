//! Holm's correction for testing many differences at once.

/// The p-values of one family, adjusted after Holm and in the order given.
///
/// Rejecting every adjusted value of at most `a` keeps the chance of any false rejection below
/// `a`, whatever the dependence (S. Holm, Scandinavian Journal of Statistics 6 (1979) 65). The
/// i-th smallest of m (from 0) is multiplied by `m - i`; a value is never below a smaller one's
/// and never above 1. Whoever has no p-value has no place in the family.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut floor = 0.0_f64;
    for (rank, index) in order.into_iter().enumerate() {
        floor = floor
            .max((p_values.len() - rank) as f64 * p_values[index])
            .min(1.0);
        adjusted[index] = floor;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stats::goldens::{assert_near, goldens, numbers};

    #[test]
    fn agrees_with_statsmodels() {
        for row in goldens("holm") {
            let (got, expected) = (holm(&numbers(&row["p"])), numbers(&row["adjusted"]));
            assert_eq!(got.len(), expected.len());
            for (got, expected) in got.iter().zip(&expected) {
                assert_near(*got, *expected, 1e-15, &row.to_string());
            }
        }
        assert!(holm(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn adjusting_only_raises_and_keeps_the_order(p in prop::collection::vec(0.0_f64..=1.0, 1..9)) {
            let adjusted = holm(&p);
            for (i, one) in adjusted.iter().enumerate() {
                prop_assert!(p[i] <= *one && *one <= 1.0);
                for (j, other) in adjusted.iter().enumerate() {
                    prop_assert!(p[j] < p[i] || *one <= *other);
                }
            }
        }
    }
}
