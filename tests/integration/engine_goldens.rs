//! The engine against Hugging Face transformers in f32 (`tests/fixtures/models`).

use std::path::Path;
use std::sync::Arc;

use harness::engine::local::LocalEngine;
use harness::engine::{Engine, Stop};
use harness::experiment::ModelSource;
use harness::model::{self, Model, OpenOptions};
use harness::request::{GenerationParams, Outcome, Request, Response, Sampling};
use proptest::prelude::*;
use serde_json::Value as Json;

const CHECKPOINTS: [&str; 5] = [
    "tiny-gpt2",
    "tiny-llama",
    "tiny-llama-tied",
    "tiny-gpt2.gguf",
    "tiny-llama.gguf",
];

/// Largest deviation of a logit or logprob from the reference.
const TOLERANCE: f64 = 1e-4;

fn open(name: &str) -> (Model, LocalEngine) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models");
    let options = OpenOptions {
        base: folder,
        ..OpenOptions::default()
    };
    let model = model::open(&ModelSource::Path(name.into()), &options, &mut |_| {}).unwrap();
    let engine = LocalEngine::load(&model).unwrap();
    (model, engine)
}

fn goldens(name: &str) -> Json {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models/goldens.json");
    let all: Json = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    all["models"][name.trim_end_matches(".gguf")].clone()
}

fn ids(json: &Json) -> Vec<u32> {
    json.as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_u64().unwrap() as u32)
        .collect()
}

fn floats(json: &Json) -> Vec<f64> {
    json.as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_f64().unwrap())
        .collect()
}

/// Answers in the order of the requests.
fn run(engine: &LocalEngine, requests: &[Request]) -> Vec<Outcome> {
    let mut outcomes = vec![None; requests.len()];
    engine
        .run(requests, &Stop::new(), &mut |index, outcome| {
            outcomes[index] = Some(outcome);
        })
        .unwrap();
    outcomes.into_iter().map(Option::unwrap).collect()
}

fn logprobs(outcome: &Outcome) -> &[f32] {
    match outcome {
        Ok(Response::Loglikelihood { logprobs, .. }) => logprobs,
        other => panic!("expected logprobs, got {other:?}"),
    }
}

fn bits(outcome: &Outcome) -> Vec<u32> {
    logprobs(outcome).iter().map(|it| it.to_bits()).collect()
}

fn greedy(max_tokens: usize) -> Arc<GenerationParams> {
    Arc::new(GenerationParams {
        max_tokens,
        stop: vec![],
        sampling: Sampling::Greedy,
        repetition_penalty: 1.0,
    })
}

#[test]
fn logits_equal_hugging_face() {
    for name in CHECKPOINTS {
        let (_, engine) = open(name);
        let mut worst = 0f64;
        for sequence in goldens(name)["sequences"].as_array().unwrap() {
            let rows = engine.logits(&ids(&sequence["ids"])).unwrap();
            for golden in sequence["logits"].as_array().unwrap() {
                let row = &rows[golden["position"].as_u64().unwrap() as usize];
                for (got, want) in row.iter().zip(floats(&golden["values"])) {
                    worst = worst.max((f64::from(*got) - want).abs());
                }
            }
        }
        println!("{name}: largest logit deviation {worst:.2e}");
        assert!(worst < TOLERANCE, "{name}: {worst}");
    }
}

#[test]
fn loglikelihoods_equal_hugging_face() {
    for name in CHECKPOINTS {
        let (_, engine) = open(name);
        let goldens = goldens(name);
        let cases = goldens["loglikelihoods"].as_array().unwrap();
        let requests: Vec<Request> = cases
            .iter()
            .map(|it| {
                let context = ids(&it["context"]);
                let tokens = [&context[..], &ids(&it["continuation"])].concat();
                Request::loglikelihood(tokens, context.len())
            })
            .collect();
        for (outcome, case) in run(&engine, &requests).iter().zip(cases) {
            let Ok(Response::Loglikelihood {
                logprobs,
                is_argmax,
            }) = outcome
            else {
                panic!("{outcome:?}");
            };
            let want = floats(&case["logprobs"]);
            assert_eq!(logprobs.len(), want.len());
            for (got, want) in logprobs.iter().zip(&want) {
                assert!(
                    (f64::from(*got) - want).abs() < TOLERANCE,
                    "{name}: {got} {want}"
                );
            }
            let margins = floats(&case["margins"]);
            for ((got, want), margin) in is_argmax
                .iter()
                .zip(case["is_argmax"].as_array().unwrap())
                .zip(margins)
            {
                assert!(margin < 1e-3 || Some(*got) == want.as_bool(), "{name}");
            }
        }
    }
}

#[test]
fn greedy_generations_equal_hugging_face() {
    for name in CHECKPOINTS {
        let (_, engine) = open(name);
        let goldens = goldens(name);
        let cases = goldens["generations"].as_array().unwrap();
        let requests: Vec<Request> = cases
            .iter()
            .map(|it| Request::generation(ids(&it["prompt"]), greedy(16)))
            .collect();
        for (outcome, case) in run(&engine, &requests).iter().zip(cases) {
            let Ok(Response::Generation { tokens, .. }) = outcome else {
                panic!("{outcome:?}")
            };
            assert_eq!(*tokens, ids(&case["ids"]), "{name}");
        }
    }
}

#[test]
fn tokens_equal_hugging_face() {
    for name in CHECKPOINTS {
        let (model, _) = open(name);
        let goldens = goldens(name);
        for case in goldens["tokenizations"].as_array().unwrap() {
            if case["add_special"].as_bool() == Some(true) {
                continue; // The planner adds a BOS, not the tokenizer.
            }
            let text = case["text"].as_str().unwrap();
            let got = if case["parse_special"].as_bool().unwrap() {
                model.tokenizer.encode(text, &[])
            } else {
                model.tokenizer.encode_plain(text)
            };
            let got: Vec<u32> = got.unwrap().iter().map(|it| it.id).collect();
            assert_eq!(got, ids(&case["ids"]), "{name}: {text:?}");
        }
    }
}

/// Requests of mixed lengths that share prefixes, from the goldens' sequences.
fn mixed_requests(name: &str) -> Vec<Request> {
    let goldens = goldens(name);
    let mut requests = Vec::new();
    for sequence in goldens["sequences"].as_array().unwrap() {
        let tokens = ids(&sequence["ids"]);
        for (len, first) in [(2, 1), (5, 2), (17, 3), (33, 30), (90, 4), (120, 119)] {
            if len <= tokens.len() {
                requests.push(Request::loglikelihood(&tokens[..len], first));
            }
        }
    }
    requests
}

/// Batching and sharing are optimizations: they must never change a score.
#[test]
fn a_score_does_not_depend_on_its_batch() {
    for name in CHECKPOINTS {
        let (_, engine) = open(name);
        let requests = mixed_requests(name);
        let alone: Vec<Vec<u32>> = requests
            .iter()
            .map(|it| bits(&run(&engine, std::slice::from_ref(it))[0]))
            .collect();
        for size in [2, 3, 7, requests.len()] {
            let mut reversed = requests.clone();
            reversed.reverse();
            let together: Vec<Vec<u32>> = reversed
                .chunks(size)
                .flat_map(|it| run(&engine, it))
                .map(|it| bits(&it))
                .collect();
            let together: Vec<Vec<u32>> = together.into_iter().rev().collect();
            assert_eq!(together, alone, "{name}, batches of {size}");
        }
    }
}

#[test]
fn a_score_does_not_depend_on_the_number_of_threads() {
    for name in CHECKPOINTS {
        let (_, engine) = open(name);
        let requests = mixed_requests(name);
        let with_threads = |n: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(n)
                .build()
                .unwrap();
            let outcomes = pool.install(|| run(&engine, &requests));
            outcomes.iter().map(bits).collect::<Vec<_>>()
        };
        let one = with_threads(1);
        assert_eq!(with_threads(2), one, "{name}");
        assert_eq!(with_threads(4), one, "{name}");
    }
}

#[test]
fn greedy_match_agrees_with_greedy_generation() {
    for name in CHECKPOINTS {
        let (_, engine) = open(name);
        let goldens = goldens(name);
        for case in goldens["generations"].as_array().unwrap() {
            let (prompt, continuation) = (ids(&case["prompt"]), ids(&case["ids"]));
            let whole = [&prompt[..], &continuation[..]].concat();
            let mut other = whole.clone();
            *other.last_mut().unwrap() ^= 1;
            let requests = [whole, other].map(|it| Request::loglikelihood(it, prompt.len()));
            let flags: Vec<bool> = run(&engine, &requests)
                .iter()
                .map(|it| match it {
                    Ok(Response::Loglikelihood { is_argmax, .. }) => is_argmax.iter().all(|it| *it),
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(flags, [true, false], "{name}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_one_by_one() {
    let (model, engine) = open("tiny-llama");
    let fits = vec![5; model.n_context + 1];
    let requests = [
        Request::loglikelihood(fits.clone(), 1),
        Request::loglikelihood([fits, vec![5]].concat(), 1),
        Request::loglikelihood(vec![5, 100_000], 1),
    ];
    let outcomes = run(&engine, &requests);
    assert!(
        outcomes[0].is_ok(),
        "the last token is never fed: {:?}",
        outcomes[0]
    );
    let messages: Vec<String> = outcomes[1..]
        .iter()
        .map(|it| it.as_ref().unwrap_err().to_string())
        .collect();
    assert_eq!(
        messages,
        [
            "129 tokens do not fit the model's context of 128",
            "the engine failed: token 100000 is outside the vocabulary of 320",
        ]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Sum over the vocabulary of exp(logprob) is 1 at every position.
    #[test]
    fn probabilities_sum_to_one(tokens in prop::collection::vec(4u32..300, 2..20)) {
        for name in ["tiny-gpt2", "tiny-llama"] {
            let (model, engine) = open(name);
            let requests: Vec<Request> = (0..model.n_vocab as u32)
                .map(|next| Request::loglikelihood([&tokens[..], &[next]].concat(), tokens.len()))
                .collect();
            let total: f64 =
                run(&engine, &requests).iter().map(|it| f64::from(logprobs(it)[0]).exp()).sum();
            prop_assert!((total - 1.0).abs() < 1e-5, "{}: {}", name, total);
        }
    }

    /// log P(ab | c) = log P(a | c) + log P(b | ca), token by token, at every split.
    #[test]
    fn the_chain_rule_holds_at_every_split(tokens in prop::collection::vec(4u32..300, 3..24)) {
        for name in ["tiny-gpt2", "tiny-llama-tied"] {
            let (_, engine) = open(name);
            let requests: Vec<Request> =
                (1..tokens.len()).map(|split| Request::loglikelihood(&tokens[..], split)).collect();
            let outcomes = run(&engine, &requests);
            let whole = bits(&outcomes[0]);
            for (i, outcome) in outcomes.iter().enumerate() {
                prop_assert_eq!(&bits(outcome)[..], &whole[i..]);
            }
        }
    }

    /// A later token never changes the probability of an earlier one.
    #[test]
    fn no_token_sees_the_future(
        tokens in prop::collection::vec(4u32..300, 4..24),
        other in 4u32..300,
    ) {
        let (_, engine) = open("tiny-llama");
        let mut changed = tokens.clone();
        *changed.last_mut().unwrap() = other;
        let requests = [tokens.clone(), changed].map(|it| Request::loglikelihood(it, 1));
        let outcomes = run(&engine, &requests);
        let n = tokens.len() - 2;
        prop_assert_eq!(&bits(&outcomes[0])[..n], &bits(&outcomes[1])[..n]);
    }
}
