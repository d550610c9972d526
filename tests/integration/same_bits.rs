//! An answer is a function of weights and request, however it is computed: alone or among
//! others, in any order, in waves and windows of any size, on any number of threads, with
//! little memory. Compared bit by bit, on every tiny checkpoint and the built-in model.

use std::collections::HashSet;
use std::sync::Arc;

use harness::engine::local::{Limits, LocalEngine};
use harness::engine::{Engine, EngineError, Rows, Stop};
use harness::model::Weights;
use harness::request::{
    FinishReason, GenerationParams, Outcome, Request, Response, Sampling, Work,
};

use super::engine_goldens::{CHECKPOINTS, open};

/// What an answer is, to the last bit.
type Bits = Result<(Vec<u32>, Vec<bool>, String), String>;

fn bits(outcome: &Outcome) -> Bits {
    match outcome {
        Ok(Response::Loglikelihood {
            logprobs,
            is_argmax,
        }) => {
            let bits = logprobs.iter().map(|it| it.to_bits()).collect();
            Ok((bits, is_argmax.clone(), String::new()))
        }
        Ok(Response::Generation {
            tokens,
            text,
            finish_reason,
        }) => Ok((
            tokens.clone(),
            Vec::new(),
            format!("{text}, {finish_reason:?}"),
        )),
        Err(failure) => Err(failure.to_string()),
    }
}

fn try_run(
    engine: &LocalEngine,
    limits: &Limits,
    requests: &[Request],
) -> Result<(Vec<Bits>, Rows), EngineError> {
    let mut outcomes = vec![None; requests.len()];
    let rows = engine.run_within(limits, requests, &Stop::new(), &mut |index, outcome| {
        assert!(outcomes[index].is_none(), "answered once");
        outcomes[index] = Some(bits(&outcome));
    })?;
    let outcomes = outcomes.into_iter().map(Option::unwrap).collect();
    Ok((outcomes, rows))
}

fn run(engine: &LocalEngine, limits: &Limits, requests: &[Request]) -> Vec<Bits> {
    try_run(engine, limits, requests).unwrap().0
}

/// One request at a time: nothing is shared with another.
fn alone(engine: &LocalEngine, requests: &[Request]) -> Vec<Bits> {
    let limits = Limits::default();
    let alone = requests.iter().map(std::slice::from_ref);
    alone.flat_map(|it| run(engine, &limits, it)).collect()
}

/// Tokens that look random and are no special ones.
fn tokens(seed: u32, n: u32) -> Vec<u32> {
    (0..n)
        .map(|it| 4 + (seed.wrapping_mul(7919) ^ it.wrapping_mul(104_729)) % 290)
        .collect()
}

fn params(max_tokens: usize, sampling: Sampling) -> GenerationParams {
    GenerationParams {
        max_tokens,
        stop: Vec::new(),
        sampling,
        repetition_penalty: 1.0,
    }
}

/// How a request is drawn; `None` if it is scored.
pub(super) fn sampling(request: &Request) -> Option<&Sampling> {
    match &request.work {
        Work::Loglikelihood { .. } => None,
        Work::Generation(params) => Some(&params.sampling),
    }
}

fn draw(seed: u8, top_k: Option<usize>, top_p: Option<f32>) -> Sampling {
    Sampling::Draw {
        temperature: 1.5,
        top_k,
        top_p,
        min_p: None,
        stream: [seed; 32],
    }
}

/// An experiment in small: three variants on some examples, each with choices, a greedy
/// generation and draws; and what is at the edges.
pub(super) fn experiment() -> Vec<Request> {
    let mut requests = Vec::new();
    for (variant, n_prefix) in [(1, 41), (2, 17), (3, 1)] {
        for example in 0..3 {
            let prompt = [
                tokens(variant, n_prefix),
                tokens(10 * variant + example, 6 + example),
            ]
            .concat();
            for choice in 0..3 {
                let whole = [&prompt[..], &tokens(100 + choice, 1 + choice)].concat();
                requests.push(Request::loglikelihood(whole, prompt.len()));
            }
            let seed = (10 * variant + example) as u8;
            let mut penalised = params(9, Sampling::Greedy);
            penalised.repetition_penalty = 1.3;
            let mut stopped = params(12, draw(seed, None, Some(0.8)));
            stopped.stop = vec!["e".to_owned(), "the".to_owned()];
            for params in [
                params(1 + 7 * example as usize, Sampling::Greedy),
                params(10, draw(seed, Some(20), None)),
                params(10, draw(seed + 1, None, None)),
                penalised,
                stopped,
            ] {
                requests.push(Request::generation(&prompt[..], Arc::new(params)));
            }
        }
    }
    let long = tokens(5, 120);
    requests.push(Request::loglikelihood(&long[..], 1));
    requests.push(Request::loglikelihood(&long[..60], 59));
    // The context is full before 100 tokens are written.
    let params = Arc::new(params(100, draw(9, None, None)));
    requests.push(Request::generation(&long[..], Arc::clone(&params)));
    requests.push(Request::generation(&long[..60], params));
    requests.push(requests[0].clone());
    requests
}

fn limits(wave_rows: usize, n_slots: usize, window: usize) -> Limits {
    Limits {
        wave_rows,
        n_slots,
        window,
        memory_bytes: None,
    }
}

#[test]
fn waves_windows_and_slots_of_any_size_give_the_same_bits() {
    for name in CHECKPOINTS {
        let (_, engine) = open(name);
        let requests = experiment();
        let want = alone(&engine, &requests);
        for limits in [
            Limits::default(),
            limits(1, 1, 1 << 18),
            limits(3, 2, 40),
            limits(16, 7, 1),
            limits(64, 64, 300),
            limits(1000, 3, 1 << 18),
        ] {
            assert!(
                run(&engine, &limits, &requests) == want,
                "{name} {limits:?}"
            );
        }
    }
}

#[test]
fn company_and_order_give_the_same_bits() {
    for name in CHECKPOINTS {
        let (_, engine) = open(name);
        let (requests, limits) = (experiment(), limits(48, 4, 1 << 18));
        let want = run(&engine, &limits, &requests);
        let mut backwards: Vec<Request> = requests.iter().rev().cloned().collect();
        let mut got = run(&engine, &limits, &backwards);
        got.reverse();
        assert!(got == want, "{name} backwards");
        backwards.reverse();
        let batches = backwards.chunks(7).flat_map(|it| run(&engine, &limits, it));
        assert!(batches.eq(want.iter().cloned()), "{name} in batches of 7");
        for is_scored in [false, true] {
            let of_kind = |it: &Request| is_scored == sampling(it).is_none();
            let (some, want): (Vec<Request>, Vec<Bits>) = requests
                .iter()
                .cloned()
                .zip(want.iter().cloned())
                .filter(|it| of_kind(&it.0))
                .unzip();
            assert!(20 < some.len());
            assert!(
                run(&engine, &limits, &some) == want,
                "{name}, scored only: {is_scored}"
            );
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for name in CHECKPOINTS {
        let (_, engine) = open(name);
        let requests = experiment();
        let with_threads = |n: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n);
            let pool = pool.build().unwrap();
            pool.install(|| run(&engine, &Limits::default(), &requests))
        };
        let one = with_threads(1);
        assert!(with_threads(2) == one, "{name}");
        assert!(with_threads(4) == one, "{name}");
    }
}

/// With a byte less the requests are refused before anything is computed; with just
/// enough, waves are small and sequences are written one by one. A debug build checks at
/// every allocation that the limit holds.
#[test]
fn the_least_memory_gives_the_same_bits() {
    for name in ["tiny-gpt2", "tiny-llama", "tiny-qwen3.gguf"] {
        let (_, engine) = open(name);
        let requests = experiment();
        let within = |memory_bytes: u64| Limits {
            memory_bytes: Some(memory_bytes),
            ..Limits::default()
        };
        // A stop that is raised already: only what comes before the first wave is done.
        let stop = Stop::new();
        stop.raise();
        let fits = |bytes: u64| {
            let limits = within(bytes);
            let run = engine.run_within(&limits, &requests, &stop, &mut |_, _| panic!());
            run.is_ok()
        };
        let (mut refused, mut enough) = (0, 1 << 30);
        assert!(fits(enough) && !fits(refused));
        while refused + 1 < enough {
            let middle = refused.midpoint(enough);
            *(if fits(middle) {
                &mut enough
            } else {
                &mut refused
            }) = middle;
        }
        let want = run(&engine, &Limits::default(), &requests);
        for more in [0, 1000, 30_000, 100_000] {
            assert!(
                run(&engine, &within(enough + more), &requests) == want,
                "{name}"
            );
        }
        let err = try_run(&engine, &within(refused), &requests).unwrap_err();
        let message = err.to_string();
        assert!(
            message.contains("MB of memory besides the weights")
                && message.contains("`max_tokens`"),
            "{message}"
        );
    }
}

/// Rows are those of a trie: one for each distinct beginning that is fed.
#[test]
fn what_is_shared_is_computed_once() {
    let (_, engine) = open("tiny-llama");
    let requests: Vec<Request> = experiment()
        .into_iter()
        .map(|it| match sampling(&it) {
            // One token needs no row beyond the prompt's.
            Some(sampling) => {
                let params = params(1, sampling.clone());
                Request::generation(Arc::clone(&it.tokens), Arc::new(params))
            }
            None => it,
        })
        .collect();
    let fed = |it: &Request| it.tokens[..it.n_positions()].to_vec();
    let distinct: HashSet<Vec<u32>> = requests
        .iter()
        .flat_map(|it| {
            let fed = fed(it);
            (1..=fed.len()).map(move |n| fed[..n].to_vec())
        })
        .collect();
    let n_alone: usize = requests.iter().map(|it| fed(it).len()).sum();
    let rows = |limits: &Limits| try_run(&engine, limits, &requests).unwrap().1;
    let whole = rows(&Limits::default());
    assert_eq!(whole.n_computed, distinct.len());
    assert_eq!(whole.n_shared, n_alone - distinct.len());
    assert!(4 * distinct.len() < n_alone, "the experiment shares a lot");
    assert_eq!(rows(&limits(5, 2, 1 << 18)), whole, "waves change nothing");
    // A window of 200 takes at least 80 new rows or scores, and its seam costs at most the
    // longest sequence.
    let cut = rows(&limits(64, 8, 200));
    assert!(whole.n_computed < cut.n_computed, "seams cost something");
    assert!(cut.n_computed < 3 * whole.n_computed);
    assert_eq!(cut.n_computed + cut.n_shared, n_alone);
}

/// What a sequence writes goes through the model too, but for its last token.
#[test]
fn rows_of_what_is_written_are_counted() {
    let (_, engine) = open("tiny-gpt2");
    let prompt = tokens(3, 10);
    let request =
        |seed: u8| Request::generation(&prompt[..], Arc::new(params(6, draw(seed, None, None))));
    let requests = [request(1), request(2), request(3)];
    let (answers, rows) = try_run(&engine, &Limits::default(), &requests).unwrap();
    let n_written: usize = answers.iter().map(|it| it.as_ref().unwrap().0.len()).sum();
    assert_eq!(n_written, 18, "no end token among them");
    assert_eq!(rows.n_computed, 10 + 18 - 3);
    assert_eq!(rows.n_shared, 20);
}

#[test]
fn nothing_is_written_where_nothing_may_be() {
    let (_, engine) = open("tiny-gpt2");
    let request = Request::generation([5, 6], Arc::new(params(0, Sampling::Greedy)));
    let (answers, rows) = try_run(&engine, &Limits::default(), &[request]).unwrap();
    assert_eq!(answers[0], Ok((vec![], vec![], ", Length".to_owned())));
    assert_eq!(rows, Rows::default());
}

/// A special token adds nothing to the text, so a stop that is its name is told by its id.
#[test]
fn a_stop_that_names_a_special_token_ends_the_text() {
    let (model, engine) = open("tiny-llama");
    let tokenizer = &model.tokenizer;
    let written = |params: GenerationParams| {
        let request = Request::generation([5, 6], Arc::new(params));
        let mut told = None;
        let mut deliver = |_, outcome| told = Some(outcome);
        engine.run(&[request], &Stop::new(), &mut deliver).unwrap();
        match told.unwrap().unwrap() {
            Response::Generation {
                tokens,
                finish_reason,
                ..
            } => (tokens, finish_reason),
            Response::Loglikelihood { .. } => panic!("nothing was scored"),
        }
    };
    let mut n_stopped = 0;
    for seed in 0..20 {
        let mut params = params(100, draw(seed, None, None));
        let (free, _) = written(params.clone());
        let special = free.iter().position(|it| tokenizer.is_special(*it));
        if let Some(at) = special {
            params.stop = vec!["never".to_owned(), tokenizer.token_text(free[at])];
            assert_eq!(written(params), (free[..at].to_vec(), FinishReason::Stop));
            n_stopped += 1;
        }
    }
    assert!(0 < n_stopped, "some text has a special token in it");
}

/// Weights decoded at each use are the same numbers in the same sums.
#[test]
fn weights_held_as_stored_give_the_same_bits() {
    for name in CHECKPOINTS {
        let (mut model, engine) = open(name);
        model.weights = Weights::Stored;
        let stored = LocalEngine::load(&model).unwrap();
        let requests = experiment();
        let limits = limits(48, 4, 1 << 18);
        assert!(
            run(&stored, &limits, &requests) == run(&engine, &limits, &requests),
            "{name}"
        );
    }
    let mut model = super::builtin::model().clone();
    model.weights = Weights::Stored;
    let stored = LocalEngine::load(&model).unwrap();
    let requests: Vec<Request> = super::builtin::loglikelihood_requests()
        .into_iter()
        .step_by(16)
        .collect();
    let want = run(super::builtin::engine(), &Limits::default(), &requests);
    assert!(run(&stored, &Limits::default(), &requests) == want);
}

/// The same on a real model: scored and written together, alone, in small waves.
#[test]
fn the_built_in_model_gives_the_same_bits() {
    let engine = super::builtin::engine();
    let scored = super::builtin::loglikelihood_requests()
        .into_iter()
        .step_by(5);
    let mut requests: Vec<Request> = scored.collect();
    for (seed, case) in (1u8..).zip(super::builtin::cases("generations").iter().take(3)) {
        let prompt = super::builtin::ids(&case["prompt"]);
        let greedy = Arc::new(params(6, Sampling::Greedy));
        requests.push(Request::generation(&prompt[..], greedy));
        let drawn = Arc::new(params(6, draw(seed, None, Some(0.95))));
        requests.push(Request::generation(&prompt[..], drawn));
        let whole = [&prompt[..], &super::builtin::ids(&case["ids"])].concat();
        requests.push(Request::loglikelihood(whole, prompt.len()));
    }
    let want = alone(engine, &requests);
    for limits in [Limits::default(), limits(40, 2, 150)] {
        assert!(run(engine, &limits, &requests) == want, "{limits:?}");
    }
}
