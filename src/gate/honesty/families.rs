//! Several variants that are equally good: what is said of them, and what the best owes to luck.

use crate::stats::{
    Difference, Direction, Sample, Verdict, decide, holm, luck_of_best, mcnemar_mid_p,
};

use super::draws::Draws;
use super::{Effort, Figure, Required};

const HIGHER: Direction = Direction::HigherIsBetter;

/// Examples of a family's dataset.
const N_EXAMPLES: usize = 100;

/// What the variants of a family are measured by.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// Right or wrong, with examples of differing difficulty.
    Accuracy,
    /// A number per example, half of whose variance all variants share.
    Mean,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::Mean => "a mean",
        }
    }
}

/// `k` equally good variants over the same examples.
pub(crate) fn equal_variants(kind: Kind, k: usize, n: usize, draws: &mut Draws) -> Vec<Sample> {
    let difficulties: Vec<f64> = match kind {
        Kind::Accuracy => (0..n).map(|_| 0.3 + 0.7 * draws.uniform()).collect(),
        Kind::Mean => (0..n).map(|_| draws.normal()).collect(),
    };
    let sample = |_| match kind {
        Kind::Accuracy => {
            let outcomes: Vec<bool> = difficulties.iter().map(|it| draws.chance(*it)).collect();
            Sample::proportion(&outcomes)
        }
        Kind::Mean => {
            let values: Vec<f64> = difficulties.iter().map(|it| it + draws.normal()).collect();
            Sample::mean(&values, None)
        }
    };
    (0..k)
        .map(sample)
        .collect::<Result<_, _>>()
        .expect("finite values")
}

/// Whether any pair of variants is told apart: all pairs are one family, as without a control.
fn is_any_told_apart(samples: &[Sample]) -> bool {
    let mut pairs = Vec::new();
    for (at, one) in samples.iter().enumerate() {
        for other in &samples[at + 1..] {
            pairs.push(Difference::paired(one, other, HIGHER).expect("as many units"));
        }
    }
    let p_values: Vec<f64> = pairs.iter().filter_map(Difference::p_value).collect();
    let adjusted = holm(&p_values);
    // Without a small p-value there is nothing to decide.
    let told_apart = pairs.iter().zip(adjusted).filter(|it| it.1 <= 0.05);
    told_apart.into_iter().any(|(pair, p)| {
        matches!(
            decide(pair, Some(p), None),
            Verdict::Improved | Verdict::Regressed
        )
    })
}

/// Any false claim in a family of equal variants.
pub(crate) fn false_claims(effort: Effort) -> Vec<Figure> {
    let mut figures = Vec::new();
    let all = [2, 4, 8, 16];
    for kind in [Kind::Accuracy, Kind::Mean] {
        for &k in effort.of(&all[1..2], &all) {
            let mut draws = Draws::new(6_000 + k as u64);
            let share = effort
                .share(|_| is_any_told_apart(&equal_variants(kind, k, N_EXAMPLES, &mut draws)));
            let what = format!("{k} variants, {}", kind.name());
            figures.push(Figure::share(effort, what, share, Required::AtMost(0.05)));
        }
    }
    figures
}

/// The negative control: each variant against the one that happens to be best in the sample, with
/// Holm over those `k - 1` comparisons only.
pub(crate) fn holm_against_the_samples_best(effort: Effort, k: usize) -> f64 {
    let mut draws = Draws::new(6_500 + k as u64);
    effort.share(|_| {
        let hits: Vec<Vec<bool>> = {
            let difficulties: Vec<f64> = (0..N_EXAMPLES)
                .map(|_| 0.3 + 0.7 * draws.uniform())
                .collect();
            let one = |_| difficulties.iter().map(|it| draws.chance(*it)).collect();
            (0..k).map(one).collect()
        };
        let n_right = |it: &Vec<bool>| it.iter().filter(|hit| **hit).count();
        let best = (0..k).max_by_key(|it| n_right(&hits[*it])).unwrap_or(0);
        let p_values: Vec<f64> = (0..k)
            .filter(|it| *it != best)
            .map(|it| {
                let only = |one: usize, other: usize| {
                    let pairs = hits[one].iter().zip(&hits[other]);
                    pairs.filter(|(a, b)| **a && !**b).count() as u64
                };
                mcnemar_mid_p(only(it, best), only(best, it))
            })
            .collect();
        holm(&p_values).iter().any(|p| *p <= 0.05)
    })
}

/// What is printed as the luck of the best, as a share of what the best truly loses on new rows.
pub(crate) fn luck(effort: Effort) -> Vec<Figure> {
    // Every replicate draws its rows anew 1,000 times.
    let (n, n_replicates) = if effort.is_full {
        (100, effort.n_replicates / 5)
    } else {
        (30, effort.n_replicates / 10)
    };
    let mut figures = Vec::new();
    // Of k equal variants, whose means differ by their own normal noise of variance 1 / n, the
    // best shows the expected maximum of k standard normal variables over the root of n, all of
    // it luck. The constants are integrals of x k phi(x) Phi(x)^(k-1) (scipy 1.17.1).
    let all = [
        (2, 0.564_189_6),
        (4, 1.029_375_4),
        (8, 1.423_600_3),
        (16, 1.765_991_4),
    ];
    for &(k, expected_maximum) in effort.of(&all[1..2], &all) {
        let truth = expected_maximum / (n as f64).sqrt();
        let mut draws = Draws::new(7_000 + k as u64);
        let ratios: Vec<f64> = (0..n_replicates)
            .map(|replicate| {
                let samples = equal_variants(Kind::Mean, k, n, &mut draws);
                let luck = luck_of_best(&samples, HIGHER, u64::from(replicate));
                luck.expect("as many units in every variant") / truth
            })
            .collect();
        let count = f64::from(n_replicates);
        let mean = ratios.iter().sum::<f64>() / count;
        let variance = ratios.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / count;
        figures.push(Figure {
            what: format!("{k} equal variants, n = {n}, {n_replicates} datasets"),
            measured: mean,
            required: Required::Within(0.6, 1.1),
            tolerance: 3.0 * (variance / count).sqrt(),
            is_known_miss: false,
        });
    }
    figures
}
