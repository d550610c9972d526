//! What a model prefers without the example, read into the scores of the choices.

use crate::plan::{Asked, Priors};
use crate::request::{Failure, Outcome};

use super::{ChoiceScore, read_asked};

/// Gives every choice its prior, where one was asked for.
///
/// # Errors
///
/// Why there is none, if a declared metric needs it.
pub(super) fn add(
    choices: &mut [ChoiceScore],
    priors: &Priors,
    outcomes: &mut impl Iterator<Item = Outcome>,
) -> Result<(), Failure> {
    let mut read = |texts: &mut dyn Iterator<Item = &Asked>| -> Result<Vec<f64>, Failure> {
        // All outcomes are taken, so that those of the next texts are theirs.
        let read: Vec<_> = texts
            .map(|it| read_asked(it, None, outcomes).map(|it| it.loglikelihood))
            .collect();
        read.into_iter().collect()
    };
    let content_free: Option<Result<Vec<Vec<f64>>, Failure>> =
        priors.content_free.as_ref().map(|prompts| {
            let of_prompts: Vec<_> = prompts.iter().map(|it| read(&mut it.iter())).collect();
            of_prompts.into_iter().collect()
        });
    let unconditional = read(&mut priors.unconditional.iter().map(AsRef::as_ref));
    let mut needed = Ok(());
    match content_free {
        Some(Ok(prompts)) => {
            for (i, choice) in choices.iter_mut().enumerate() {
                choice.prior = Some(prior(&prompts, i));
            }
        }
        Some(Err(failure)) if priors.needs_content_free => needed = Err(failure),
        _ => {}
    }
    match unconditional {
        Ok(logs) => {
            for (choice, log) in choices.iter_mut().zip(logs) {
                choice.unconditional = Some(log);
            }
        }
        Err(failure) if priors.needs_unconditional => needed = needed.and(Err(failure)),
        Err(_) => {}
    }
    needed
}

/// The mean over the prompts of the choice's share of the probability of all choices.
fn prior(prompts: &[Vec<f64>], choice: usize) -> f64 {
    let shares = prompts.iter().map(|logs| softmax(logs)[choice]);
    shares.sum::<f64>() / prompts.len() as f64
}

/// The probabilities of choices among themselves; equal shares where all are impossible.
pub fn softmax(loglikelihoods: &[f64]) -> Vec<f64> {
    let max = loglikelihoods
        .iter()
        .copied()
        .fold(f64::NEG_INFINITY, f64::max);
    if max == f64::NEG_INFINITY {
        return vec![1.0 / loglikelihoods.len() as f64; loglikelihoods.len()];
    }
    let weights: Vec<f64> = loglikelihoods.iter().map(|it| (it - max).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|it| it / total).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::request::{Request, Response};

    #[expect(clippy::unnecessary_wraps, reason = "the type of what a plan asks")]
    fn asked() -> Asked {
        Ok(vec![Request::loglikelihood(&[1, 2][..], 1)])
    }

    #[expect(
        clippy::unnecessary_wraps,
        reason = "the type of what an engine answers"
    )]
    fn answer(probability: f64) -> Outcome {
        Ok(Response::Loglikelihood {
            logprobs: vec![probability.ln() as f32],
            is_argmax: vec![false],
        })
    }

    fn choices() -> Vec<ChoiceScore> {
        let choice = |is_target| ChoiceScore {
            text: "x".to_owned(),
            is_target,
            loglikelihood: -1.0,
            n_tokens: 1,
            prior: None,
            unconditional: None,
        };
        vec![choice(true), choice(false)]
    }

    fn priors() -> Priors {
        Priors {
            content_free: Some(Arc::new(vec![
                vec![asked(), asked()],
                vec![asked(), asked()],
            ])),
            unconditional: vec![Arc::new(asked()), Arc::new(asked())],
            needs_content_free: true,
            needs_unconditional: false,
        }
    }

    #[test]
    fn a_prior_is_the_mean_share_over_the_content_free_prompts() {
        // Shares 0.2 / 0.4 = 1/2 and 0.3 / 0.4 = 3/4: mean 5/8.
        let outcomes = [0.2, 0.2, 0.3, 0.1, 0.5, 0.25].map(answer);
        let mut choices = choices();
        add(&mut choices, &priors(), &mut outcomes.into_iter()).unwrap();
        assert!((choices[0].prior.unwrap() - 0.625).abs() < 1e-6);
        assert!((choices[1].prior.unwrap() - 0.375).abs() < 1e-6);
        assert!((choices[1].unconditional.unwrap() - 0.25f64.ln()).abs() < 1e-6);
    }

    #[test]
    fn a_prior_that_fails_is_told_only_where_a_metric_needs_it() {
        let outcomes = || {
            let mut outcomes = [0.2, 0.2, 0.3, 0.1, 0.5, 0.25].map(answer);
            outcomes[1] = Err(Failure::NonFinite);
            outcomes.into_iter()
        };
        let mut scored = choices();
        let told = add(&mut scored, &priors(), &mut outcomes());
        assert_eq!(told, Err(Failure::NonFinite));
        assert_eq!(scored[0].prior, None);
        // What comes after the failure still finds its own outcome.
        assert!((scored[0].unconditional.unwrap() - 0.5f64.ln()).abs() < 1e-6);
        let unneeded = Priors {
            needs_content_free: false,
            ..priors()
        };
        assert_eq!(add(&mut choices(), &unneeded, &mut outcomes()), Ok(()));
    }

    #[test]
    fn a_choice_without_an_unconditional_likelihood_is_told_only_where_a_metric_needs_it() {
        let outcomes = || {
            let mut outcomes = [0.2, 0.2, 0.3, 0.1, 0.5, 0.25].map(answer);
            outcomes[5] = Err(Failure::NonFinite);
            outcomes.into_iter()
        };
        let mut scored = choices();
        assert_eq!(add(&mut scored, &priors(), &mut outcomes()), Ok(()));
        assert_eq!(
            (scored[0].unconditional, scored[1].unconditional),
            (None, None)
        );
        assert!(scored[0].prior.is_some(), "the other prior is there");
        let needed = Priors {
            needs_unconditional: true,
            ..priors()
        };
        let told = add(&mut choices(), &needed, &mut outcomes());
        assert_eq!(told, Err(Failure::NonFinite));
    }

    #[test]
    fn impossible_choices_share_equally() {
        assert_eq!(softmax(&[f64::NEG_INFINITY; 4]), [0.25; 4]);
        let shares = softmax(&[f64::NEG_INFINITY, -1e4, -1e4]);
        assert_eq!(shares, [0.0, 0.5, 0.5]);
    }
}
