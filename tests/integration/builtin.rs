//! The built-in model against Hugging Face transformers and llama.cpp
//! (`tests/fixtures/builtin/goldens.json`).
//!
//! The model is fetched once into the model cache. Its weights take 0.7 GB, so the
//! engine is loaded once for all tests.

use std::sync::{Arc, OnceLock};

use harness::engine::local::LocalEngine;
use harness::engine::{Engine, Stop};
use harness::experiment::ModelSource;
use harness::model::chat::ChatMessage;
use harness::model::{self, Model, OpenOptions};
use harness::plan::{self, Joined};
use harness::request::{GenerationParams, Outcome, Request, Response, Sampling};
use harness::template::{Guard, Guarded};
use serde_json::Value as Json;

/// Largest deviation of one logprob. The reference's own rounding is 2.2e-5
/// (`float64_gap` of the goldens).
const LOGPROB_TOLERANCE: f64 = 1e-4;

/// Largest deviation of a log-likelihood.
const LOGLIKELIHOOD_TOLERANCE: f64 = 1e-3;

pub(super) fn model() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| {
        let source = ModelSource::Builtin("smollm2-135m-instruct".to_owned());
        model::open(&source, &OpenOptions::default(), &mut |_| {}).unwrap()
    })
}

pub(super) fn engine() -> &'static LocalEngine {
    static ENGINE: OnceLock<LocalEngine> = OnceLock::new();
    ENGINE.get_or_init(|| LocalEngine::load(model()).unwrap())
}

pub(super) fn goldens() -> &'static Json {
    static GOLDENS: OnceLock<Json> = OnceLock::new();
    GOLDENS.get_or_init(|| {
        serde_json::from_str(include_str!("../fixtures/builtin/goldens.json")).unwrap()
    })
}

pub(super) fn cases(of: &str) -> &'static Vec<Json> {
    let cases = goldens()[of].as_array().unwrap();
    assert!(!cases.is_empty(), "{of}");
    cases
}

pub(super) fn text(json: &Json) -> &str {
    json.as_str().unwrap()
}

fn numbers(json: &Json) -> Vec<f64> {
    json.as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_f64().unwrap())
        .collect()
}

pub(super) fn ids(json: &Json) -> Vec<u32> {
    json.as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_u64().unwrap() as u32)
        .collect()
}

/// A text of a golden; one without special tokens is all data.
pub(super) fn guarded(text: &str, parse_special: bool) -> Guarded {
    let is_data = !parse_special && !text.is_empty();
    let plain = if is_data {
        std::iter::once(0..text.len()).collect()
    } else {
        Vec::new()
    };
    Guarded {
        text: text.to_owned(),
        plain,
    }
}

pub(super) fn encode(guarded: &Guarded) -> Vec<u32> {
    let tokens = model()
        .tokenizer
        .encode(&guarded.text, &guarded.plain)
        .unwrap();
    tokens.iter().map(|it| it.id).collect()
}

fn joined(case: &Json) -> Joined {
    let parse_special = case["parse_special"].as_bool().unwrap();
    let [prompt, target] = ["prompt", "target"].map(|it| guarded(text(&case[it]), parse_special));
    plan::join(model(), &prompt, text(&case["delimiter"]), &target).unwrap()
}

/// The requests of all golden log-likelihoods.
pub(super) fn loglikelihood_requests() -> Vec<Request> {
    let requests = cases("loglikelihoods").iter().flat_map(|case| {
        let requests = joined(case).requests(model().n_context).unwrap();
        assert_eq!(requests.len(), 1, "{} fits the context", case["name"]);
        requests
    });
    requests.collect()
}

fn generation_requests() -> Vec<Request> {
    let requests = cases("generations").iter().map(|case| {
        let params = GenerationParams {
            max_tokens: case["max_tokens"].as_u64().unwrap() as usize,
            stop: Vec::new(),
            sampling: Sampling::Greedy,
            repetition_penalty: 1.0,
        };
        Request::generation(ids(&case["prompt"]), Arc::new(params))
    });
    requests.collect()
}

/// Answers in the order of the requests.
pub(super) fn run(requests: &[Request]) -> Vec<Outcome> {
    let mut outcomes = vec![None; requests.len()];
    engine()
        .run(requests, &Stop::new(), &mut |index, outcome| {
            outcomes[index] = Some(outcome);
        })
        .unwrap();
    outcomes.into_iter().map(Option::unwrap).collect()
}

pub(super) fn logprobs(outcome: &Outcome) -> (&[f32], &[bool]) {
    match outcome {
        Ok(Response::Loglikelihood {
            logprobs,
            is_argmax,
        }) => (logprobs, is_argmax),
        other => panic!("expected logprobs, got {other:?}"),
    }
}

fn sum(outcome: &Outcome) -> f64 {
    logprobs(outcome).0.iter().map(|it| f64::from(*it)).sum()
}

fn bits(outcomes: &[Outcome]) -> Vec<Vec<u32>> {
    let bits = |it: &Outcome| logprobs(it).0.iter().map(|it| it.to_bits()).collect();
    outcomes.iter().map(bits).collect()
}

/// Answers to all golden log-likelihoods, asked together.
pub(super) fn loglikelihoods() -> &'static Vec<Outcome> {
    static OUTCOMES: OnceLock<Vec<Outcome>> = OnceLock::new();
    OUTCOMES.get_or_init(|| run(&loglikelihood_requests()))
}

/// Answers to all golden generations, asked together.
fn generations() -> &'static Vec<Outcome> {
    static OUTCOMES: OnceLock<Vec<Outcome>> = OnceLock::new();
    OUTCOMES.get_or_init(|| run(&generation_requests()))
}

#[test]
fn token_ids_equal_hugging_face_and_llama_cpp() {
    for case in cases("tokenizations") {
        let text = guarded(
            text(&case["text"]),
            case["parse_special"].as_bool().unwrap(),
        );
        assert_eq!(encode(&text), ids(&case["ids"]), "{case:#}");
    }
}

/// `<|im_end|>` typed by a user ends no turn, whatever the template wrote around it.
#[test]
fn special_tokens_in_data_stay_text_between_those_of_the_template() {
    for case in cases("segments") {
        let mut whole = Guarded {
            text: String::new(),
            plain: Vec::new(),
        };
        for segment in case["segments"].as_array().unwrap() {
            let start = whole.text.len();
            whole.text += text(&segment["text"]);
            if segment["parse_special"] == false {
                whole.plain.push(start..whole.text.len());
            }
        }
        assert_eq!(encode(&whole), ids(&case["ids"]), "{case:#}");
    }
}

#[test]
fn chats_are_rendered_as_by_hugging_face() {
    let guard = Guard::new(model().tokenizer.specials());
    for case in cases("chats") {
        let messages = case["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| ChatMessage {
                role: text(&it["role"]).to_owned(),
                content: guard.text(text(&it["content"])).into_owned(),
            });
        let messages: Vec<ChatMessage> = messages.collect();
        let add_generation_prompt = case["add_generation_prompt"].as_bool().unwrap();
        let template = model().chat_template().unwrap();
        let rendered = template
            .render(&messages, add_generation_prompt, None)
            .unwrap();
        let prompt = guard.remove(&rendered);
        assert_eq!(prompt.text, text(&case["text"]));
        assert_eq!(encode(&prompt), ids(&case["ids"]), "{case:#}");
        assert_eq!(
            plan::prompt_tokens(model(), &prompt).unwrap(),
            ids(&case["ids"])
        );
    }
}

#[test]
fn prompt_and_target_are_joined_as_in_the_goldens() {
    for case in cases("loglikelihoods") {
        let joined = joined(case);
        let (context, continuation) = joined.tokens.split_at(joined.first_scored);
        assert_eq!(
            context,
            ids(&case["context"]),
            "context of {}",
            case["name"]
        );
        assert_eq!(
            continuation,
            ids(&case["continuation"]),
            "continuation of {}",
            case["name"]
        );
        assert_eq!(
            Some(joined.boundary_merge),
            case["boundary_merge"].as_bool(),
            "{}",
            case["name"]
        );
    }
}

#[test]
fn loglikelihoods_equal_hugging_face() {
    let (mut worst_logprob, mut worst_sum) = (0f64, 0f64);
    let cases = cases("loglikelihoods");
    for (outcome, case) in loglikelihoods().iter().zip(cases) {
        let (got, is_argmax) = logprobs(outcome);
        let want = numbers(&case["logprobs"]);
        assert_eq!(got.len(), want.len(), "{}", case["name"]);
        for (got, want) in got.iter().zip(&want) {
            worst_logprob = worst_logprob.max((f64::from(*got) - want).abs());
        }
        worst_sum = worst_sum.max((sum(outcome) - case["loglikelihood"].as_f64().unwrap()).abs());
        let want = case["is_argmax"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it.as_bool().unwrap());
        let margins = numbers(&case["margins"]);
        for ((got, want), margin) in is_argmax.iter().zip(want).zip(margins) {
            // Where two tokens are all but equally likely, rounding decides.
            assert!(
                margin < 1e-3 || *got == want,
                "{}, margin {margin}",
                case["name"]
            );
        }
    }
    println!("largest deviation: {worst_logprob:.2e} of a logprob, {worst_sum:.2e} of a sum");
    assert!(worst_logprob < LOGPROB_TOLERANCE, "{worst_logprob}");
    assert!(worst_sum < LOGLIKELIHOOD_TOLERANCE, "{worst_sum}");
}

#[test]
fn greedy_generations_equal_hugging_face() {
    for (outcome, case) in generations().iter().zip(cases("generations")) {
        let Ok(Response::Generation {
            tokens,
            text: written,
            finish_reason,
        }) = outcome
        else {
            panic!("{outcome:?}");
        };
        assert_eq!(*tokens, ids(&case["ids"]), "{}", case["name"]);
        assert_eq!(written, text(&case["text"]), "{}", case["name"]);
        assert_eq!(
            finish_reason.as_str(),
            text(&case["finish_reason"]),
            "{}",
            case["name"]
        );
        let prompt = guarded(text(&case["prompt_text"]), true);
        assert_eq!(
            plan::prompt_tokens(model(), &prompt).unwrap(),
            ids(&case["prompt"])
        );
    }
}

#[test]
fn perplexity_equals_hugging_face() {
    let golden = &goldens()["perplexity"];
    let target = guarded(text(&golden["text"]), false);
    let joined = plan::join(model(), &guarded("", false), "", &target).unwrap();
    let (context, continuation) = joined.tokens.split_at(joined.first_scored);
    assert_eq!(context, ids(&golden["context"]));
    assert_eq!(continuation, ids(&golden["continuation"]));
    let outcomes = run(&joined.requests(model().n_context).unwrap());
    let loglikelihood: f64 = outcomes.iter().map(sum).sum();
    let deviation = (loglikelihood - golden["loglikelihood"].as_f64().unwrap()).abs();
    assert!(deviation < LOGLIKELIHOOD_TOLERANCE, "{deviation}");
    let perplexity = (-loglikelihood / continuation.len() as f64).exp();
    let want = golden["perplexity"].as_f64().unwrap();
    // d(exp(-L/n)) = exp(-L/n) dL/n: 40 times 1e-3 over 23 tokens.
    assert!((perplexity - want).abs() < 2e-3, "{perplexity} {want}");
}

/// Batches, order and threads are how a score is computed, never what it is.
#[test]
fn a_score_has_the_same_bits_however_it_is_computed() {
    let every_third = |bits: Vec<Vec<u32>>| bits.into_iter().step_by(3).collect::<Vec<_>>();
    let together = every_third(bits(loglikelihoods()));
    let requests: Vec<Request> = loglikelihood_requests().into_iter().step_by(3).collect();
    let alone = requests
        .iter()
        .flat_map(|it| bits(&run(std::slice::from_ref(it))));
    assert_eq!(alone.collect::<Vec<_>>(), together, "one by one");
    let reversed: Vec<Request> = requests.iter().rev().cloned().collect();
    let mut backwards = bits(&run(&reversed));
    backwards.reverse();
    assert_eq!(backwards, together, "in another order");
    for n in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(n)
            .build()
            .unwrap();
        assert_eq!(
            bits(&pool.install(|| run(&requests))),
            together,
            "{n} threads"
        );
    }
}

#[test]
fn a_greedy_generation_does_not_depend_on_its_batch() {
    for (request, outcome) in generation_requests().iter().zip(generations()) {
        assert_eq!(run(std::slice::from_ref(request))[0], *outcome);
    }
}

/// Scoring what was generated finds every token to be the most likely one.
#[test]
fn what_is_generated_greedily_is_a_greedy_match() {
    let cases = cases("generations");
    let requests: Vec<Request> = cases
        .iter()
        .map(|case| {
            let prompt = ids(&case["prompt"]);
            Request::loglikelihood([&prompt[..], &ids(&case["ids"])].concat(), prompt.len())
        })
        .collect();
    for (outcome, case) in run(&requests).iter().zip(cases) {
        let (got, is_argmax) = logprobs(outcome);
        assert!(
            is_argmax.iter().all(|it| *it),
            "{}: {is_argmax:?}",
            case["name"]
        );
        for (got, want) in got.iter().zip(numbers(&case["logprobs"])) {
            let deviation = (f64::from(*got) - want).abs();
            assert!(
                deviation < LOGPROB_TOLERANCE,
                "{}: {deviation}",
                case["name"]
            );
        }
    }
}
