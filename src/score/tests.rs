//! Answers to scores, and what is no answer.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::plan::Priors;
use crate::request::{GenerationParams, Sampling};
use crate::text_metric::{ContainsMode, TextMetric};

fn choice(index: usize, is_target: bool) -> ScoredText {
    ScoredText {
        choice_index: Some(index),
        is_target,
        text: format!("choice {index}"),
        boundary_merge: false,
        requests: Ok(vec![Request::loglikelihood([1, 2, 3], 1)]),
    }
}

fn case(scored: Vec<ScoredText>, with_generation: bool) -> Case {
    let params = GenerationParams {
        max_tokens: 4,
        stop: vec![],
        sampling: Sampling::Greedy,
        repetition_penalty: 1.0,
    };
    Case {
        key: CaseKey {
            model: 0,
            variant: 0,
            example: 0,
            repeat: 0,
        },
        prompt: String::new(),
        n_context_tokens: 1,
        scored,
        generation: with_generation.then(|| Ok(Request::generation([1], Arc::new(params)))),
        priors: Priors::default(),
        n_dropped_shots: 0,
        n_truncated_tokens: 0,
    }
}

fn answer(logprobs: [f32; 2]) -> Response {
    Response::Loglikelihood {
        logprobs: logprobs.to_vec(),
        is_argmax: vec![true, false],
    }
}

const NO_JUDGES: Key<'static> = Key {
    references: &[],
    judges: &[],
    conditions: &[],
    keep_tokens: false,
};

#[test]
fn a_loglikelihood_is_the_sum_of_its_tokens() {
    let case = case(vec![choice(0, true), choice(1, false)], false);
    let outcomes = vec![
        Ok(answer([-0.5, -0.25])),
        Ok(answer([-1.0, f32::NEG_INFINITY])),
    ];
    let score = score(case, outcomes, &NO_JUDGES);
    assert_eq!(score.status, Status::Ok, "-inf is legal for a wrong choice");
    let likelihood = score.likelihood.unwrap();
    assert_eq!((likelihood.loglikelihood, likelihood.n_tokens), (-0.75, 2));
    assert!(!likelihood.greedy_match);
    assert_eq!(score.choices[1].loglikelihood, f64::NEG_INFINITY);
}

/// A logprob of 0 is a probability of 1.
#[test]
fn a_certain_token_is_an_answer() {
    let outcomes = vec![Ok(answer([0.0, -0.0])), Ok(answer([-1.0, 0.0]))];
    let case = case(vec![choice(0, true), choice(1, false)], false);
    let score = score(case, outcomes, &NO_JUDGES);
    assert_eq!(score.status, Status::Ok);
    assert_eq!(score.likelihood.unwrap().loglikelihood, 0.0);
    assert_eq!(score.choices[1].loglikelihood, -1.0);
}

/// A missing answer is neither right nor wrong.
#[test]
fn a_ranking_without_all_its_choices_is_none() {
    for (outcomes, status) in [
        (
            vec![Ok(answer([-0.5, -0.25])), Err(Failure::NonFinite)],
            Status::NonFinite,
        ),
        (
            vec![
                Ok(answer([-0.5, f32::NEG_INFINITY])),
                Ok(answer([-1.0, -1.0])),
            ],
            Status::ZeroProbability,
        ),
    ] {
        let case = case(vec![choice(0, true), choice(1, false)], false);
        let score = score(case, outcomes, &NO_JUDGES);
        assert_eq!(score.status, status);
        assert!(score.choices.is_empty() && score.likelihood.is_none());
    }
}

/// It must not fall back to looking for the target.
#[test]
fn a_generation_that_cannot_be_judged_is_unscored() {
    let generated = Ok(Response::Generation {
        tokens: vec![5],
        text: "tea".to_owned(),
        finish_reason: FinishReason::Eos,
    });
    let metric = TextMetric::Contains {
        values: None,
        mode: ContainsMode::Any,
        ignore_case: false,
    };
    let judges = [TextJudge::new(None, metric, None, None).unwrap()];
    let key = Key {
        references: &["tea".to_owned()],
        judges: &judges,
        conditions: &[Err(TextMetricError::NoValues)],
        keep_tokens: false,
    };
    let score = score(case(vec![], true), vec![generated], &key);
    assert_eq!(score.judgements, [None]);
    assert_eq!(score.status, Status::EngineError);
}

/// Everything that is no answer to what was asked makes the case one without a score.
#[test]
fn what_is_no_answer_is_never_a_score() {
    let loglikelihood = |logprobs: &[f32], is_argmax: &[bool]| {
        Ok(Response::Loglikelihood {
            logprobs: logprobs.to_vec(),
            is_argmax: is_argmax.to_vec(),
        })
    };
    let generation = || {
        Ok(Response::Generation {
            tokens: vec![5],
            text: "tea".to_owned(),
            finish_reason: FinishReason::Eos,
        })
    };
    let (flags, overflow) = (
        [true, false],
        Failure::ContextOverflow {
            needed: 9,
            n_context: 8,
        },
    );
    let texts = [
        (None, Status::EngineError),
        (Some(generation()), Status::EngineError),
        (Some(loglikelihood(&[], &[])), Status::EngineError),
        (Some(loglikelihood(&[-1.0], &[true])), Status::EngineError),
        (
            Some(loglikelihood(&[-1.0; 3], &[true; 3])),
            Status::EngineError,
        ),
        (
            Some(loglikelihood(&[-1.0; 2], &[true])),
            Status::EngineError,
        ),
        (
            Some(loglikelihood(&[-1.0, 0.5], &flags)),
            Status::EngineError,
        ),
        (
            Some(loglikelihood(&[-1.0, f32::INFINITY], &flags)),
            Status::EngineError,
        ),
        (
            Some(loglikelihood(&[f32::NAN, -1.0], &flags)),
            Status::NonFinite,
        ),
        (Some(Err(Failure::NonFinite)), Status::NonFinite),
        (Some(Err(overflow.clone())), Status::ContextOverflow),
    ];
    for (outcome, status) in texts {
        let shown = format!("{outcome:?}");
        let target = ScoredText {
            choice_index: None,
            ..choice(0, true)
        };
        let outcomes = outcome.into_iter().collect();
        let got = score(case(vec![target], false), outcomes, &NO_JUDGES);
        assert_eq!(got.status, status, "{shown}");
        assert!(got.message.is_some() && got.likelihood.is_none(), "{shown}");
    }
    let generations = [
        (None, Status::EngineError),
        (Some(loglikelihood(&[-1.0; 2], &flags)), Status::EngineError),
        (Some(Err(Failure::NonFinite)), Status::NonFinite),
        (Some(Err(overflow)), Status::ContextOverflow),
    ];
    for (outcome, status) in generations {
        let shown = format!("{outcome:?}");
        let outcomes = outcome.into_iter().collect();
        let got = score(case(vec![], true), outcomes, &NO_JUDGES);
        assert_eq!(got.status, status, "{shown}");
        assert!(got.message.is_some() && got.generation.is_none(), "{shown}");
    }
}

/// A long text takes several requests; a failure of one leaves the others where they are.
#[test]
fn a_text_that_fails_takes_all_of_its_outcomes_with_it() {
    let windows = ScoredText {
        choice_index: None,
        requests: Ok(vec![Request::loglikelihood([1, 2, 3], 1); 2]),
        ..choice(0, true)
    };
    let generation = Ok(Response::Generation {
        tokens: vec![5],
        text: "tea".to_owned(),
        finish_reason: FinishReason::Eos,
    });
    for failed in 0..2 {
        let mut outcomes = vec![
            Ok(answer([-0.5, -0.25])),
            Ok(answer([-1.0, -2.0])),
            generation.clone(),
        ];
        outcomes[failed] = Err(Failure::NonFinite);
        let got = score(case(vec![windows.clone()], true), outcomes, &NO_JUDGES);
        assert_eq!(got.status, Status::NonFinite, "{failed}");
        assert_eq!(got.likelihood, None, "half a text has no score");
        assert_eq!(got.generation.unwrap().text, "tea", "{failed}");
    }
}

/// One case in which anything failed is one that failed, whatever came before or after.
#[test]
fn a_failure_anywhere_is_the_status_of_the_case() {
    let generation = || {
        Ok(Response::Generation {
            tokens: vec![5],
            text: "tea".to_owned(),
            finish_reason: FinishReason::Eos,
        })
    };
    let whole = || {
        vec![
            Ok(answer([-0.5, -0.25])),
            Ok(answer([-1.0, -2.0])),
            generation(),
        ]
    };
    let choices = || case(vec![choice(0, true), choice(1, false)], true);
    assert_eq!(score(choices(), whole(), &NO_JUDGES).status, Status::Ok);
    for place in 0..3 {
        let mut outcomes = whole();
        outcomes[place] = Err(Failure::NonFinite);
        let got = score(choices(), outcomes, &NO_JUDGES);
        assert_eq!(got.status, Status::NonFinite, "{place}");
        assert_eq!(got.choices.is_empty(), place < 2, "{place}");
        // What was answered for others is theirs.
        assert_eq!(got.generation.is_none(), place == 2, "{place}");
    }
}

proptest! {
    /// Permuting the choices permutes their scores, to the bit, and changes nothing else.
    #[test]
    fn permuting_choices_permutes_their_scores(
        logprobs in prop::collection::vec(prop::array::uniform2(-30f32..=0.0), 2..7),
        target in any::<prop::sample::Index>(),
        order in any::<prop::sample::Index>(),
    ) {
        let n = logprobs.len();
        let target = target.index(n);
        // A rotation that also swaps the first two, so that it is no mere rotation.
        let mut order: Vec<usize> = (0..n).map(|it| (it + order.index(n)) % n).collect();
        order.swap(0, 1);
        let scored = |order: &[usize]| {
            let texts = order.iter().enumerate().map(|(place, it)| ScoredText {
                choice_index: Some(place),
                text: format!("choice {it}"),
                is_target: *it == target,
                ..choice(0, false)
            });
            let outcomes = order.iter().map(|it| Ok(answer(logprobs[*it]))).collect();
            score(case(texts.collect(), false), outcomes, &NO_JUDGES)
        };
        let plain = scored(&(0..n).collect::<Vec<usize>>());
        let permuted = scored(&order);
        prop_assert_eq!(permuted.likelihood, plain.likelihood);
        prop_assert_eq!(permuted.status, plain.status);
        let want: Vec<_> = order.iter().map(|it| plain.choices[*it].clone()).collect();
        prop_assert_eq!(permuted.choices, want);
    }
}

/// The names stand in tables, and come back from them.
#[test]
fn a_status_is_read_by_the_name_it_is_written_with() {
    let names = [
        "ok",
        "context_overflow",
        "non_finite",
        "zero_probability",
        "engine_error",
        "remote_error",
    ];
    assert_eq!(Status::ALL.map(Status::as_str), names);
    assert_eq!(
        names.map(Status::from_name),
        Status::ALL.map(Some),
        "and nothing else"
    );
    assert_eq!(Status::from_name("xyzzy"), None);
}

/// `acc_norm` divides by characters and `acc_bytes` by bytes; "été" has 3 in 5.
#[test]
fn the_length_of_a_choice_is_that_of_its_own_text() {
    let choice = ChoiceScore {
        text: "été".to_owned(),
        is_target: true,
        loglikelihood: -1.0,
        n_tokens: 1,
        prior: None,
        unconditional: None,
    };
    assert_eq!((choice.n_chars(), choice.n_bytes()), (3, 5));
}

/// Each scored token is the one that stands in the request, with its place in the text.
#[test]
fn tokens_are_kept_where_they_are_asked_for() {
    let windows = ScoredText {
        requests: Ok(vec![
            Request::loglikelihood([11, 12, 13, 14], 2),
            Request::loglikelihood([13, 14, 15, 16], 2),
        ]),
        ..choice(0, true)
    };
    let outcomes = || vec![Ok(answer([-0.5, -0.25])), Ok(answer([-1.0, -2.0]))];
    let kept = Key {
        keep_tokens: true,
        ..NO_JUDGES
    };
    let got = score(case(vec![windows.clone()], false), outcomes(), &kept);
    let token = |position, token_id, logprob, is_argmax| TokenScore {
        choice_index: Some(0),
        position,
        token_id,
        logprob,
        is_argmax,
    };
    assert_eq!(
        got.tokens,
        [
            token(0, 13, -0.5, true),
            token(1, 14, -0.25, false),
            token(2, 15, -1.0, true),
            token(3, 16, -2.0, false),
        ]
    );
    let got = score(case(vec![windows], false), outcomes(), &NO_JUDGES);
    assert_eq!(got.tokens, []);
}

/// Texts that an example names itself are looked for in place of its references.
#[test]
fn conditions_of_an_example_judge_in_place_of_the_metric() {
    let contains = |values: Option<&str>| {
        let metric = TextMetric::Contains {
            values: values.map(|it| vec![it.to_owned()]),
            mode: ContainsMode::Any,
            ignore_case: false,
        };
        TextJudge::new(None, metric, None, None).unwrap()
    };
    for (written, conditions, expected) in [
        ("tea", vec![], 1.0),
        ("milk", vec![], 0.0),
        ("tea", vec![contains(Some("tea"))], 1.0),
        ("milk", vec![contains(Some("milk"))], 1.0),
        ("tea", vec![contains(Some("milk"))], 0.0),
    ] {
        let generated = Ok(Response::Generation {
            tokens: vec![5],
            text: written.to_owned(),
            finish_reason: FinishReason::Eos,
        });
        let key = Key {
            references: &["tea".to_owned()],
            judges: &[contains(None)],
            conditions: &[Ok(conditions)],
            keep_tokens: false,
        };
        let got = score(case(vec![], true), vec![generated], &key);
        assert_eq!(got.judgements[0].as_ref().unwrap().value, expected);
        assert_eq!(got.status, Status::Ok);
    }
}
