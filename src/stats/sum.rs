//! Sums that lose nothing worth showing.

/// The sum of `values` with Neumaier's correction: the error does not grow with their number.
///
/// Sums of whole numbers below 2^53 are exact, so a unit can be taken off again exactly.
pub(super) fn sum(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut total = 0.0_f64;
    let mut correction = 0.0_f64;
    for value in values {
        let next = total + value;
        correction += if value.abs() <= total.abs() {
            (total - next) + value
        } else {
            (value - next) + total
        };
        total = next;
    }
    total + correction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_terms_survive_large_ones() {
        // Added in order in f64, 1 + 1e100 + 1 - 1e100 is 0.
        assert_eq!(sum([1.0, 1e100, 1.0, -1e100]), 2.0);
        assert_eq!(sum([]), 0.0);
    }
}
