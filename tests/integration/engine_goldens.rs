//! The engine against Hugging Face transformers in f32 (`tests/fixtures/models`).

use std::path::Path;
use std::sync::Arc;

use harness::engine::local::{LocalEngine, TensorDevice};
use harness::engine::{Engine, Stop};
use harness::experiment::ModelSource;
use harness::model::{self, Model, OpenOptions};
use harness::request::{GenerationParams, Outcome, Request, Response, Sampling};
use proptest::prelude::*;
use serde_json::Value as Json;

use super::same_bits::{experiment, sampling};

pub(super) const CHECKPOINTS: [&str; 18] = [
    "tiny-gpt2",
    "tiny-gpt2-bare",
    "tiny-gpt2.gguf",
    "tiny-llama",
    "tiny-llama-bias",
    "tiny-llama-bias.gguf",
    "tiny-llama-linear",
    "tiny-llama-linear.gguf",
    "tiny-llama-tied",
    "tiny-llama.gguf",
    "tiny-llama3",
    "tiny-llama3.gguf",
    "tiny-mistral",
    "tiny-mistral.gguf",
    "tiny-qwen2",
    "tiny-qwen2.gguf",
    "tiny-qwen3",
    "tiny-qwen3.gguf",
];

/// Largest deviation of a logit or logprob from the reference.
const TOLERANCE: f64 = 1e-4;

pub(super) fn open(name: &str) -> (Model, LocalEngine) {
    let model = open_model(name);
    let engine = LocalEngine::load(&model).unwrap();
    (model, engine)
}

pub(super) fn open_model(name: &str) -> Model {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models");
    let options = OpenOptions {
        base: folder,
        ..OpenOptions::default()
    };
    model::open(&ModelSource::Path(name.into()), &options, &mut |_| {}).unwrap()
}

pub(super) fn goldens(name: &str) -> Json {
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

/// Largest deviations from the reference, one line per checkpoint.
struct Deviations {
    what: &'static str,
    worst: Vec<(&'static str, f64)>,
}

impl Deviations {
    fn of(what: &'static str, measure: impl Fn(&str) -> f64) -> Self {
        let worst = CHECKPOINTS.map(|name| (name, measure(name))).to_vec();
        Self { what, worst }
    }

    /// Shows all of them if one is too large.
    fn check(&self) {
        let lines: Vec<String> = self
            .worst
            .iter()
            .map(|(name, it)| format!("{name:24} {it:.2e}"))
            .collect();
        let table = format!(
            "largest deviation of a {}:\n{}",
            self.what,
            lines.join("\n")
        );
        println!("{table}");
        assert!(self.worst.iter().all(|it| it.1 < TOLERANCE), "{table}");
    }
}

/// Largest deviation of the engine's logits from the goldens.
fn logit_deviation(name: &str, engine: &LocalEngine) -> f64 {
    let mut worst = 0f64;
    for sequence in goldens(name)["sequences"].as_array().unwrap() {
        let rows = engine.logits(&ids(&sequence["ids"])).unwrap();
        for golden in sequence["logits"].as_array().unwrap() {
            let row = &rows[golden["position"].as_u64().unwrap() as usize];
            let want = floats(&golden["values"]);
            assert_eq!(row.len(), want.len(), "{name}");
            for (got, want) in row.iter().zip(want) {
                worst = worst.max((f64::from(*got) - want).abs());
            }
        }
    }
    worst
}

#[test]
fn logits_equal_hugging_face() {
    Deviations::of("logit", |name| logit_deviation(name, &open(name).1)).check();
}

/// The engine in candle operations, written from the definitions and not for speed.
#[test]
fn logits_in_candle_operations_equal_hugging_face() {
    let measure = |name: &str| {
        let engine = LocalEngine::load_as_tensors(&open_model(name), TensorDevice::Cpu).unwrap();
        logit_deviation(name, &engine)
    };
    Deviations::of("logit in candle operations", measure).check();
}

/// The same experiment through both arithmetics, packed, shared and written alike.
#[test]
fn candle_operations_agree_with_the_loops() {
    let measure = |name: &str| {
        let (model, loops) = open(name);
        let tensors = LocalEngine::load_as_tensors(&model, TensorDevice::Cpu).unwrap();
        // Their answers are not the same bits, so they must not be stored as the same.
        assert_ne!(loops.answerer().numerics, tensors.answerer().numerics);
        // A draw may fall to either side of a rounding.
        let is_drawn = |it: &Request| matches!(sampling(it), Some(Sampling::Draw { .. }));
        let requests: Vec<Request> = experiment()
            .into_iter()
            .filter(|it| !is_drawn(it))
            .collect();
        let mut worst = 0f64;
        for (got, want) in run(&tensors, &requests).iter().zip(&run(&loops, &requests)) {
            match (got, want) {
                (
                    Ok(Response::Loglikelihood { logprobs, .. }),
                    Ok(Response::Loglikelihood { logprobs: want, .. }),
                ) => {
                    assert_eq!(logprobs.len(), want.len(), "{name}");
                    let apart = logprobs.iter().zip(want);
                    let apart = apart.map(|(a, b)| f64::from((a - b).abs()));
                    worst = apart.fold(worst, f64::max);
                }
                (got, want) => assert_eq!(got, want, "{name}"),
            }
        }
        worst
    };
    Deviations::of("logprob in candle operations from the loops'", measure).check();
}

#[test]
fn loglikelihoods_equal_hugging_face() {
    let measure = |name: &str| {
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
        let mut worst = 0f64;
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
                worst = worst.max((f64::from(*got) - want).abs());
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
        worst
    };
    Deviations::of("logprob", measure).check();
}

/// What the fixtures are for: a scaling that is missed, or a theta 1 % off, must show.
#[test]
fn rope_settings_move_the_numbers() {
    // The same weights under other settings.
    for (name, edit) in [
        ("tiny-llama3", r#"{"rope_scaling": null}"#),
        (
            "tiny-llama-linear",
            r#"{"rope_parameters": {"rope_type": "default", "rope_theta": 1000.0}}"#,
        ),
        ("tiny-mistral", r#"{"rope_theta": 5050.0}"#),
        ("tiny-qwen2", r#"{"rope_theta": 2020.0}"#),
        (
            "tiny-qwen3",
            r#"{"rope_parameters": {"rope_theta": 3030.0}}"#,
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models");
        for file in std::fs::read_dir(source.join(name)).unwrap().flatten() {
            std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
        let config = folder.path().join("config.json");
        let mut json: Json = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
        let edit: Json = serde_json::from_str(edit).unwrap();
        for (key, value) in edit.as_object().unwrap() {
            json[key] = value.clone();
        }
        std::fs::write(&config, json.to_string()).unwrap();
        let options = OpenOptions {
            base: folder.path().to_owned(),
            ..OpenOptions::default()
        };
        let model = model::open(&ModelSource::Path("./".into()), &options, &mut |_| {}).unwrap();
        let other = LocalEngine::load(&model).unwrap();
        let (_, engine) = open(name);
        let tokens: Vec<u32> = (0..120).map(|it| 2 + it * 7 % 310).collect();
        let gap = engine
            .logits(&tokens)
            .unwrap()
            .concat()
            .iter()
            .zip(other.logits(&tokens).unwrap().concat())
            .fold(0f32, |gap, (a, b)| gap.max((a - b).abs()));
        assert!(10.0 * TOLERANCE < f64::from(gap), "{name}: {gap}");
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
        for name in ["tiny-gpt2", "tiny-llama", "tiny-qwen2", "tiny-qwen3"] {
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
        for name in ["tiny-gpt2", "tiny-llama-tied", "tiny-llama3.gguf", "tiny-qwen3"] {
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

    /// A later token never changes the probability of an earlier one, nor whether it is there. Each
    /// text is asked for alone: asked for together they would share what they begin with.
    #[test]
    fn no_token_sees_the_future(
        tokens in prop::collection::vec(4u32..300, 4..24),
        others in prop::collection::vec(4u32..300, 24),
        at in any::<prop::sample::Index>(),
    ) {
        let (_, engine) = open("tiny-llama");
        let at = 2 + at.index(tokens.len() - 2);
        let cut = tokens[..at].to_vec();
        let changed = [&cut[..], &others[at..tokens.len()]].concat();
        let [whole, cut, changed] = [tokens, cut, changed].map(|it| {
            let outcomes = run(&engine, &[Request::loglikelihood(it, 1)]);
            bits(&outcomes[0])
        });
        prop_assert_eq!(&whole[..at - 1], &cut[..]);
        prop_assert_eq!(&changed[..at - 1], &cut[..]);
    }
}
