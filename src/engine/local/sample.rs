//! Choosing the next token, in Hugging Face's order.
//!
//! Repetition penalty; then, unless greedy: temperature, `top_k`, `top_p`, `min_p`,
//! and a draw from what is left (transformers `generation/logits_process.py`).
//! Each generation has its own random stream, so a draw depends on its case alone.
//!
//! A draw is defined on the tokens in order of their logits, most likely first, equal
//! ones by id, with the weight `exp((logit - best) / temperature)` each: every filter
//! keeps a beginning of that order, and the token drawn is the first at which the
//! weights so far exceed `u` times the weights of all that is kept, `u` uniform in
//! [0, 1). Only as much of the order is made as the draw walks through, mostly a few
//! dozen tokens, so no vocabulary is ever sorted as a whole.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::vector;
use crate::request::{GenerationParams, Sampling};

/// Tokens that are put in order at first; each time more are needed, four times as many.
const FIRST_SORTED: usize = 64;

/// Chooses the tokens of one generation.
#[derive(Debug, Clone)]
pub(crate) struct Chooser {
    sampling: Sampling,
    penalty: f32,
    rng: ChaCha8Rng,
    /// What chance says for the next token.
    uniform: f64,
    /// Distinct tokens of the prompt and the output, for the penalty; else empty.
    seen: BTreeSet<u32>,
}

impl Chooser {
    pub(crate) fn new(params: &GenerationParams, prompt: &[u32]) -> Self {
        let seed = match &params.sampling {
            Sampling::Greedy => [0; 32],
            Sampling::Draw { stream, .. } => *stream,
        };
        let mut chooser = Self {
            sampling: params.sampling.clone(),
            penalty: params.repetition_penalty,
            rng: ChaCha8Rng::from_seed(seed),
            uniform: 0.0,
            seen: BTreeSet::new(),
        };
        for token in prompt {
            chooser.remember(*token);
        }
        chooser
    }

    /// Whether a choice depends on more than the most likely token.
    pub(crate) fn needs_logits(&self) -> bool {
        self.penalty != 1.0 || self.sampling != Sampling::Greedy
    }

    /// Draws for the next choice; called once before each.
    pub(crate) fn draw(&mut self) {
        // 53 random bits: uniform in [0, 1).
        self.uniform = (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    }

    /// The next token after a row of finite logits; `argmax` is their most likely one.
    ///
    /// [`Chooser::remember`] has to be told of it.
    pub(crate) fn choose(&self, logits: &[f32], argmax: u32) -> u32 {
        if self.penalty == 1.0 {
            return self.choose_penalised(logits, argmax);
        }
        let mut logits = logits.to_vec();
        for token in &self.seen {
            let logit = &mut logits[*token as usize];
            *logit = if *logit < 0.0 {
                *logit * self.penalty
            } else {
                *logit / self.penalty
            };
        }
        let best = vector::max(&logits);
        let argmax = logits.iter().position(|it| *it == best).unwrap_or(0) as u32;
        self.choose_penalised(&logits, argmax)
    }

    fn choose_penalised(&self, logits: &[f32], argmax: u32) -> u32 {
        let Sampling::Draw {
            temperature,
            top_k,
            top_p,
            min_p,
            ..
        } = self.sampling
        else {
            return argmax;
        };
        let weights = weights(logits, logits[argmax as usize], temperature);
        let mut filtered = Filtered::new(logits, &weights, top_k, top_p, min_p);
        filtered.drawn(self.uniform).unwrap_or(argmax)
    }

    /// Takes a token of the prompt or the output.
    pub(crate) fn remember(&mut self, token: u32) {
        if self.penalty != 1.0 {
            self.seen.insert(token);
        }
    }
}

/// `exp((logit - best) / temperature)` of every logit.
fn weights(logits: &[f32], best: f32, temperature: f32) -> Vec<f32> {
    let mut weights = vec![0.0; logits.len()];
    vector::fast(
        #[inline(always)]
        || {
            for (weight, logit) in weights.iter_mut().zip(logits) {
                *weight = vector::exp((logit - best) / temperature);
            }
        },
    );
    weights
}

/// A token that may be drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    token: u32,
    logit: f32,
    weight: f64,
}

impl Candidate {
    /// Most likely first, equal ones by id.
    fn order(&self, other: &Self) -> Ordering {
        let by_logit = other.logit.total_cmp(&self.logit);
        by_logit.then(self.token.cmp(&other.token))
    }
}

/// The tokens that the filters keep, in order as far as somebody looked.
#[derive(Debug)]
struct Filtered {
    candidates: Vec<Candidate>,
    /// How many of them are in their places.
    n_sorted: usize,
    /// How many of them are kept.
    n_kept: usize,
    total: f64,
}

impl Filtered {
    fn new(
        logits: &[f32],
        weights: &[f32],
        top_k: Option<usize>,
        top_p: Option<f32>,
        min_p: Option<f32>,
    ) -> Self {
        let k_limit = k_limit(logits, top_k);
        // Below a weight of 1e-38 it is 0, and such a token cannot be drawn.
        let candidates: Vec<Candidate> = (0u32..)
            .zip(logits.iter().zip(weights))
            .filter(|(_, (logit, weight))| k_limit <= **logit && 0.0 < **weight)
            .map(|(token, (logit, weight))| Candidate {
                token,
                logit: *logit,
                weight: f64::from(*weight),
            })
            .collect();
        let mut filtered = Self {
            n_kept: candidates.len(),
            total: candidates.iter().map(|it| it.weight).sum(),
            candidates,
            n_sorted: 0,
        };
        if let Some(p) = top_p.filter(|p| *p < 1.0) {
            filtered.keep_top_p(f64::from(p));
        }
        if let Some(p) = min_p {
            filtered.keep_min_p(f64::from(p));
        }
        filtered
    }

    /// The candidate at `place` in the order.
    fn at(&mut self, place: usize) -> Candidate {
        while self.n_sorted <= place {
            let n = (3 * self.n_sorted).max(FIRST_SORTED);
            let rest = &mut self.candidates[self.n_sorted..];
            let n = n.min(rest.len());
            if n < rest.len() {
                rest.select_nth_unstable_by(n, Candidate::order);
            }
            rest[..n].sort_unstable_by(Candidate::order);
            self.n_sorted += n;
        }
        self.candidates[place]
    }

    /// Keeps the fewest tokens whose probability reaches `p`, at least one.
    fn keep_top_p(&mut self, p: f64) {
        let limit = p * self.total;
        let mut before = 0.0;
        let mut n = 0;
        // A token stays if those before it have not reached p.
        while n < self.n_kept && (n == 0 || before < limit) {
            before += self.at(n).weight;
            n += 1;
        }
        (self.n_kept, self.total) = (n, before);
    }

    /// Keeps tokens at least `p` as likely as the best.
    fn keep_min_p(&mut self, p: f64) {
        let mut n = 0;
        let mut total = 0.0;
        while n < self.n_kept && (n == 0 || p <= self.at(n).weight) {
            total += self.at(n).weight;
            n += 1;
        }
        (self.n_kept, self.total) = (n, total);
    }

    /// The token at the part `uniform` of the weights; none only if nothing is kept.
    fn drawn(&mut self, uniform: f64) -> Option<u32> {
        let mut left = uniform * self.total;
        for place in 0..self.n_kept {
            left -= self.at(place).weight;
            // Rounding may leave a little at the end.
            if left < 0.0 || place + 1 == self.n_kept {
                return Some(self.at(place).token);
            }
        }
        None
    }
}

/// The logit of the k-th most likely token; equal ones are kept too.
fn k_limit(logits: &[f32], top_k: Option<usize>) -> f32 {
    top_k
        .filter(|k| *k < logits.len())
        .map_or(f32::NEG_INFINITY, |k| {
            let mut found = logits.to_vec();
            let (_, kth, _) = found.select_nth_unstable_by(k.max(1) - 1, |a, b| b.total_cmp(a));
            *kth
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(
        logits: &[f32],
        temperature: f32,
        top_k: Option<usize>,
        top_p: Option<f32>,
        min_p: Option<f32>,
    ) -> Vec<u32> {
        let weights = weights(logits, logits[0], temperature);
        let mut filtered = Filtered::new(logits, &weights, top_k, top_p, min_p);
        let mut tokens: Vec<u32> = (0..filtered.n_kept)
            .map(|it| filtered.at(it).token)
            .collect();
        tokens.sort_unstable();
        tokens
    }

    /// Probabilities .5 .25 .125 .0625 .0625, best first.
    const HALVES: [f32; 5] = [
        0.0,
        -std::f32::consts::LN_2,
        -1.386_294_4,
        -2.079_441_5,
        -2.079_441_5,
    ];

    #[test]
    fn filters_keep_what_hugging_face_keeps() {
        assert_eq!(ids(&HALVES, 1.0, None, None, None), [0, 1, 2, 3, 4]);
        assert_eq!(ids(&HALVES, 1.0, Some(2), None, None), [0, 1]);
        assert_eq!(
            ids(&HALVES, 1.0, Some(4), None, None),
            [0, 1, 2, 3, 4],
            "ties are kept"
        );
        // .5 < .6, so the second is needed to reach it; after it .75 >= .6.
        assert_eq!(ids(&HALVES, 1.0, None, Some(0.6), None), [0, 1]);
        assert_eq!(ids(&HALVES, 1.0, None, Some(0.4), None), [0]);
        assert_eq!(ids(&HALVES, 1.0, None, Some(0.9), None), [0, 1, 2, 3]);
        // At least .2 of the best's .5 is .1.
        assert_eq!(ids(&HALVES, 1.0, None, None, Some(0.2)), [0, 1, 2]);
        // top_p works on what top_k left: .5/.75 = .67 already reaches .6.
        assert_eq!(ids(&HALVES, 1.0, Some(2), Some(0.6), None), [0]);
        // Temperature 2 flattens to weights 1 .71 .5 .35 .35, so .6 needs three: 1.71/2.91 = .59.
        assert_eq!(ids(&HALVES, 2.0, None, Some(0.6), None), [0, 1, 2]);
    }

    #[test]
    fn draws_follow_the_distribution() {
        let mut counts = [0u32; 5];
        for seed in 0..4000u32 {
            let mut stream = [0; 32];
            stream[..4].copy_from_slice(&seed.to_le_bytes());
            let params = GenerationParams {
                max_tokens: 1,
                stop: vec![],
                sampling: Sampling::Draw {
                    temperature: 1.0,
                    top_k: None,
                    top_p: None,
                    min_p: None,
                    stream,
                },
                repetition_penalty: 1.0,
            };
            let mut chooser = Chooser::new(&params, &[]);
            chooser.draw();
            counts[chooser.choose(&HALVES, 0) as usize] += 1;
        }
        // Expected 2000 1000 500 250 250; four standard deviations are 126 110 84 61 61.
        for (count, (want, slack)) in
            counts
                .iter()
                .zip([(2000u32, 126), (1000, 110), (500, 84), (250, 61), (250, 61)])
        {
            assert!(count.abs_diff(want) < slack, "{counts:?}");
        }
    }

    /// Divides positive and multiplies negative logits, once per distinct token.
    #[test]
    fn repetition_is_penalised_as_in_hugging_face() {
        let params = GenerationParams {
            max_tokens: 4,
            stop: vec![],
            sampling: Sampling::Greedy,
            repetition_penalty: 2.0,
        };
        let mut chooser = Chooser::new(&params, &[0, 0]);
        // 3 / 2 = 1.5 < 2: token 1 wins; then 2 / 2 = 1 < 1.5: token 0 again.
        assert_eq!(chooser.choose(&[3.0, 2.0, -1.0], 0), 1);
        chooser.remember(1);
        assert_eq!(chooser.choose(&[3.0, 2.0, -1.0], 0), 0);
        // -1 · 2 = -2 for seen tokens, so the unseen -1.5 wins.
        assert_eq!(chooser.choose(&[-1.0, -1.0, -1.5], 0), 2);
    }

    /// The definition: everything sorted, every filter a beginning of it.
    fn by_full_sort(
        logits: &[f32],
        temperature: f32,
        (top_k, top_p, min_p): (Option<usize>, Option<f32>, Option<f32>),
        uniform: f64,
    ) -> u32 {
        let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights = weights(logits, best, temperature);
        let mut sorted: Vec<usize> = (0..logits.len()).collect();
        sorted.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
        if let Some(k) = top_k.filter(|k| *k < logits.len()) {
            let limit = logits[sorted[k - 1]];
            sorted.retain(|it| limit <= logits[*it]);
        }
        sorted.retain(|it| 0.0 < weights[*it]);
        let in_order = |ids: &[usize]| ids.iter().map(|it| f64::from(weights[*it])).sum::<f64>();
        let mut by_id = sorted.clone();
        by_id.sort_unstable();
        let mut total = in_order(&by_id);
        if let Some(p) = top_p.filter(|p| *p < 1.0) {
            let n = (1..=sorted.len()).find(|n| f64::from(p) * total <= in_order(&sorted[..*n]));
            sorted.truncate(n.unwrap_or(sorted.len()));
            total = in_order(&sorted);
        }
        if let Some(p) = min_p {
            sorted.retain(|it| p <= weights[*it]);
            total = in_order(&sorted);
        }
        let mut left = uniform * total;
        for it in &sorted {
            left -= f64::from(weights[*it]);
            if left < 0.0 {
                return *it as u32;
            }
        }
        *sorted.last().unwrap() as u32
    }

    proptest! {
        /// Sorting less must draw the same, also where many tokens are equally likely and
        /// where the draw walks far into the tail.
        #[test]
        fn draws_are_those_of_a_full_sort(
            steps in prop::collection::vec(-40i8..40, 1..900),
            step in prop::sample::select(vec![0.01f32, 0.25, 3.0]),
            temperature in prop::sample::select(vec![0.2f32, 1.0, 5.0]),
            top_k in prop::option::of(1usize..300),
            top_p in prop::option::of(0.01f32..1.0),
            min_p in prop::option::of(0.0f32..0.5),
            uniform in prop::sample::select(vec![0.0, 0.1, 0.5, 0.9, 0.99, 0.999_999_999_999]),
        ) {
            let logits: Vec<f32> = steps.iter().map(|it| f32::from(*it) * step).collect();
            let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let weights = weights(&logits, best, temperature);
            let drawn = Filtered::new(&logits, &weights, top_k, top_p, min_p).drawn(uniform);
            let want = by_full_sort(&logits, temperature, (top_k, top_p, min_p), uniform);
            prop_assert_eq!(drawn, Some(want));
        }
    }

    #[test]
    fn a_likely_token_needs_little_order() {
        let logits: Vec<f32> = (0..50_000).map(|it| -(it as f32) / 10.0).collect();
        let weights = weights(&logits, 0.0, 1.0);
        let mut filtered = Filtered::new(&logits, &weights, None, Some(0.9), None);
        // Weights fall by exp(-0.1) a token, so 0.9 is reached after ln(10) / 0.1 = 23.03.
        assert_eq!(filtered.n_kept, 24);
        assert_eq!(filtered.drawn(0.999_999), Some(23));
        assert_eq!(filtered.n_sorted, FIRST_SORTED);
    }

    proptest! {
        /// A draw knows differences of logits alone, so a constant on all of them changes none.
        #[test]
        fn a_constant_on_all_logits_changes_no_draw(
            steps in prop::collection::vec(-400i16..400, 2..600),
            // Multiples of 2^-6 up to 2^14 keep all their bits.
            constant in prop::sample::select(vec![-1e4f32, -88.0, 0.25, 1.0, 1000.0, 1e4]),
            temperature in prop::sample::select(vec![0.2f32, 1.0, 5.0]),
            top_k in prop::option::of(1usize..300),
            top_p in prop::option::of(0.01f32..1.0),
            min_p in prop::option::of(0.0f32..0.5),
            stream in prop::array::uniform32(0u8..),
        ) {
            let params = GenerationParams {
                max_tokens: 1,
                stop: vec![],
                sampling: Sampling::Draw { temperature, top_k, top_p, min_p, stream },
                repetition_penalty: 1.0,
            };
            let mut chooser = Chooser::new(&params, &[]);
            chooser.draw();
            let drawn = |constant: f32| {
                let logits: Vec<f32> =
                    steps.iter().map(|it| f32::from(*it) / 64.0 + constant).collect();
                let best = vector::max(&logits);
                let argmax = logits.iter().position(|it| *it == best).unwrap();
                chooser.choose(&logits, argmax as u32)
            };
            prop_assert_eq!(drawn(constant), drawn(0.0));
        }
    }
}
