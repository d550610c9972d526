//! Choosing the next token, in Hugging Face's order.
//!
//! Repetition penalty; then, unless greedy: temperature, `top_k`, `top_p`, `min_p`,
//! and a draw from what is left (transformers `generation/logits_process.py`).
//! Each generation has its own random stream, so a draw depends on its case alone.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::request::{GenerationParams, Sampling};

/// Chooses the tokens of one generation.
#[derive(Debug)]
pub(crate) struct Chooser {
    sampling: Sampling,
    penalty: f32,
    rng: ChaCha8Rng,
    /// Distinct tokens of the prompt and the output, for the penalty; else empty.
    seen: Vec<u32>,
}

/// Logits this far below the best weigh under e^-25 each and rarely matter.
const NEGLIGIBLE: f32 = 25.0;

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
            seen: Vec::new(),
        };
        for token in prompt {
            chooser.remember(*token);
        }
        chooser
    }

    /// The next token after a row of finite logits; `argmax` is their most likely one.
    pub(crate) fn choose(&mut self, logits: &[f32], argmax: u32) -> u32 {
        let token = if self.penalty == 1.0 {
            self.choose_penalised(logits, argmax)
        } else {
            let mut logits = logits.to_vec();
            for token in &self.seen {
                let logit = &mut logits[*token as usize];
                *logit = if *logit < 0.0 {
                    *logit * self.penalty
                } else {
                    *logit / self.penalty
                };
            }
            let best = logits.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
            let argmax = logits.iter().position(|it| *it == best).unwrap_or(0) as u32;
            self.choose_penalised(&logits, argmax)
        };
        self.remember(token);
        token
    }

    fn choose_penalised(&mut self, logits: &[f32], argmax: u32) -> u32 {
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
        let kept = candidates(logits, argmax, temperature, top_k, top_p, min_p);
        let total: f64 = kept.iter().map(|it| it.1).sum();
        // 53 random bits: uniform in [0, 1).
        let uniform = (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let mut left = uniform * total;
        for (token, weight) in &kept {
            left -= weight;
            if left < 0.0 {
                return *token;
            }
        }
        kept.last().map_or(argmax, |it| it.0)
    }

    fn remember(&mut self, token: u32) {
        if self.penalty != 1.0 && !self.seen.contains(&token) {
            self.seen.push(token);
        }
    }
}

/// The tokens that may be drawn, most likely first, with weights relative to the best.
fn candidates(
    logits: &[f32],
    argmax: u32,
    temperature: f32,
    top_k: Option<usize>,
    top_p: Option<f32>,
    min_p: Option<f32>,
) -> Vec<(u32, f64)> {
    let best = logits[argmax as usize];
    let weight = |logit: f32| (f64::from(logit - best) / f64::from(temperature)).exp();
    let at_least = |limit: f32| -> Vec<(u32, f64)> {
        let mut kept: Vec<(u32, f64)> = (0u32..)
            .zip(logits)
            .filter(|(_, logit)| limit <= **logit)
            .map(|(token, logit)| (token, weight(*logit)))
            .collect();
        // Stable: equal weights stay in the order of their ids.
        kept.sort_by(|a, b| b.1.total_cmp(&a.1));
        kept
    };
    let k_limit = top_k
        .filter(|k| *k < logits.len())
        .map_or(f32::NEG_INFINITY, |k| {
            let mut sorted = logits.to_vec();
            let (_, kth, _) = sorted.select_nth_unstable_by(k.max(1) - 1, |a, b| b.total_cmp(a));
            *kth
        });
    let near = k_limit.max(best - NEGLIGIBLE * temperature);
    let mut kept = at_least(near);
    if let Some(p) = top_p.filter(|p| *p < 1.0) {
        let everything: f64 = logits
            .iter()
            .filter(|it| k_limit <= **it)
            .map(|it| weight(*it))
            .sum();
        let limit = f64::from(p) * everything;
        if kept.iter().map(|it| it.1).sum::<f64>() < limit {
            kept = at_least(k_limit);
        }
        // A token stays if those before it have not reached p; so one always stays.
        let mut before = 0.0;
        kept.retain(|(_, weight)| {
            let stays = before < limit;
            before += weight;
            stays
        });
    } else if k_limit < near {
        kept = at_least(k_limit);
    }
    if let Some(p) = min_p {
        kept.retain(|(_, weight)| f64::from(p) <= *weight);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(
        logits: &[f32],
        temperature: f32,
        top_k: Option<usize>,
        top_p: Option<f32>,
        min_p: Option<f32>,
    ) -> Vec<u32> {
        let mut kept: Vec<u32> = candidates(logits, 0, temperature, top_k, top_p, min_p)
            .into_iter()
            .map(|it| it.0)
            .collect();
        kept.sort_unstable();
        kept
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
            counts[Chooser::new(&params, &[]).choose(&HALVES, 0) as usize] += 1;
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
        assert_eq!(chooser.choose(&[3.0, 2.0, -1.0], 0), 0);
        // -1 · 2 = -2 for seen tokens, so the unseen -1.5 wins.
        assert_eq!(chooser.choose(&[-1.0, -1.0, -1.5], 0), 2);
    }
}
