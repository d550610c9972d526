//! Where pairs of values are drawn from: candidate and reference of one example.
//!
//! Every population comes with the true gain 0 and with a true drop of any size.

use std::sync::OnceLock;

use crate::stats::{Interval, Sample};

use super::draws::Draws;

/// The scale of a shift that stands for "the drop" in unbounded populations: any value serves,
/// because bounds move with the data.
const UNBOUNDED_DROP: f64 = 0.25;

/// One kind of example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Population {
    /// Measured gains of log-likelihood, recentred: `chat` over `bare` on 80 translations
    /// (skewness -1.0, kurtosis 8.2).
    Translate,
    /// The same for `instruction` over `bare` on 120 reviews (skewness 1.3, kurtosis 6.0).
    Sentiment,
    /// F1: four of five examples do not change at all, the rest is answered anew.
    F1,
    /// Everything gains a little, some lose much: minus a lognormal variable (sigma 1).
    LognormalDrops,
    /// Student's t with 3 degrees of freedom.
    Student3,
    /// A bounded mean that is 1, and 0 in 3 % of the candidate's examples.
    RareDrops,
    /// Log-likelihood with a little noise, and 3 nats lost in 3 % of the examples.
    RareNats,
}

impl Population {
    pub(crate) const ALL: [Self; 7] = [
        Self::Translate,
        Self::Sentiment,
        Self::F1,
        Self::LognormalDrops,
        Self::Student3,
        Self::RareDrops,
        Self::RareNats,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Translate => "measured log-likelihood, translations",
            Self::Sentiment => "measured log-likelihood, reviews",
            Self::F1 => "F1, 80 % zeros",
            Self::LognormalDrops => "lognormal drops",
            Self::Student3 => "t with 3 degrees of freedom",
            Self::RareDrops => "3 % rare drops, bounded",
            Self::RareNats => "3 % rare drops, unbounded",
        }
    }

    /// The metric's range, where it is bounded.
    pub(crate) fn range(self) -> Option<Interval> {
        matches!(self, Self::F1 | Self::RareDrops).then_some(Interval::UNIT)
    }

    /// The true drop that the population is used with.
    pub(crate) fn drop(self) -> f64 {
        match self {
            Self::F1 => 0.05,
            Self::RareDrops => 0.03,
            _ => UNBOUNDED_DROP,
        }
    }

    /// Candidate and reference of one example whose expected gain is `-drop`.
    pub(crate) fn draw(self, draws: &mut Draws, drop: f64) -> (f64, f64) {
        let unbounded = match self {
            Self::Translate | Self::Sentiment => {
                let gains = self.measured();
                gains[draws.below(gains.len())]
            }
            Self::LognormalDrops => 0.5_f64.exp() - draws.normal().exp(),
            Self::Student3 => draws.student3(),
            Self::RareNats => {
                let lost = if draws.chance(0.03) { 3.0 } else { 0.0 };
                0.3 * draws.normal() - lost + 0.09
            }
            Self::F1 => return f1(draws, drop),
            Self::RareDrops => {
                let is_lost = draws.chance(drop);
                return (f64::from(u8::from(!is_lost)), 1.0);
            }
        };
        (unbounded - drop, 0.0)
    }

    /// The samples of `n` examples.
    pub(crate) fn pair(self, draws: &mut Draws, n: usize, drop: f64) -> (Sample, Sample) {
        let (candidate, reference): (Vec<f64>, Vec<f64>) =
            (0..n).map(|_| self.draw(draws, drop)).unzip();
        let of = |values: &[f64]| Sample::mean(values, self.range()).expect("drawn within range");
        (of(&candidate), of(&reference))
    }

    /// Measured gains less their mean, so that the true gain is 0.
    fn measured(self) -> &'static [f64] {
        static TRANSLATE: OnceLock<Vec<f64>> = OnceLock::new();
        static SENTIMENT: OnceLock<Vec<f64>> = OnceLock::new();
        let (cell, name) = match self {
            Self::Sentiment => (&SENTIMENT, "sentiment_instruction_over_bare"),
            _ => (&TRANSLATE, "translate_chat_over_bare"),
        };
        cell.get_or_init(|| {
            let text = include_str!("../../../tests/fixtures/stats/populations.json");
            let all: serde_json::Value = serde_json::from_str(text).expect("a fixture in JSON");
            let gains = all[name].as_array().expect("a list of gains");
            let gains: Vec<f64> = gains.iter().filter_map(serde_json::Value::as_f64).collect();
            let mean = gains.iter().sum::<f64>() / gains.len() as f64;
            gains.iter().map(|it| it - mean).collect()
        })
    }
}

/// An answer's F1: wrong, right or partly right. Mean 1/2.
fn f1_value(draws: &mut Draws) -> f64 {
    match draws.below(10) {
        0..3 => 0.0,
        3..6 => 1.0,
        _ => draws.uniform(),
    }
}

/// One in five examples is answered anew; besides, a share of `2 drop` falls to 0 from a mean of
/// 1/2, which drops the mean by `drop`.
fn f1(draws: &mut Draws, drop: f64) -> (f64, f64) {
    let reference = f1_value(draws);
    let anew = f1_value(draws);
    let candidate = if draws.chance(2.0 * drop) {
        0.0
    } else if draws.chance(0.2) {
        anew
    } else {
        reference
    };
    (candidate, reference)
}
