//! How fast is the engine, against candle-transformers on the same file and the machine's peak?
//!
//! | question | what is timed | unit |
//! |---|---|---|
//! | `distinct` | log-likelihoods of every token of texts that share nothing, in one call | tokens/s |
//! | `distinct_candle` | the peer's forward pass over such texts, one at a time; logits of the last position only, so it does less | tokens/s |
//! | `generation` | prompts continued greedily, in one call, prefill included | new tokens/s |
//! | `alone` | one sequence continued, prefill taken off | new tokens/s |
//! | `alone_candle` | the same with the peer | new tokens/s |
//! | `trunk` | the layers alone: such texts of which one token is scored | rows/s |
//! | `peak` | chains of fused multiply-adds in registers, on every thread at once | GFLOP/s |
//!
//! The peer is `quantized_llama`. Questions take turns for several rounds, so that what else the
//! machine does meets all of them; every figure of every round is kept.
//!
//! `cargo bench --bench engine [-- --quick] [--rounds N] [--only QUESTION]... [--json FILE]`; needs
//! the built-in model (fetched if absent). `RAYON_NUM_THREADS` and `CANDLE_NUM_THREADS` set the threads, all cores unless set.

use std::error::Error;
use std::fs::File;
use std::hint::black_box;
use std::io::BufReader;
use std::sync::Arc;
use std::time::Instant;

use candle_core::quantized::gguf_file;
use candle_core::{D, Device, Tensor};
use candle_transformers::models::quantized_llama::ModelWeights;
use harness::engine::local::LocalEngine;
use harness::engine::{Engine, Stop};
use harness::experiment::ModelSource;
use harness::model::{self, Model, OpenOptions};
use harness::request::{GenerationParams, Request, Response, Sampling};
use indexmap::IndexMap;
use serde_json::{Value, json};

/// What goes wrong ends the bench.
type Fallible<T> = Result<T, Box<dyn Error>>;

/// Tokens of one distinct text.
const TEXT_TOKENS: usize = 128;
/// Tokens of a prompt that is continued; equal lengths, so that a peer needs no padding.
const PROMPT_TOKENS: usize = 20;

/// Beginnings and continuations of the prompts, each with each.
const OPENINGS: [&str; 8] = [
    "The old lighthouse keeper climbed the stairs every evening before the sun went down, because",
    "When the first train of the morning arrived at the small station, nobody on the platform knew that",
    "The recipe for the soup that my grandmother used to cook on cold winter days began with",
    "After three years of work in the laboratory, the young chemist finally understood why",
    "The city council met on Thursday to decide whether the bridge over the river should be",
    "Far away from the road, behind the last houses of the village, there was a garden where",
    "The teacher drew a large circle on the blackboard and asked the children to imagine that",
    "In the summer of the great drought the farmers of the valley walked to the lake and",
];
/// What stands before each opening.
const PLACES: [&str; 4] = [
    "Chapter one, in the north.",
    "From the diary of a traveller.",
    "A story told in the harbour.",
    "Notes for a short film.",
];

/// How much is measured.
struct Effort {
    rounds: usize,
    n_texts: usize,
    n_candle_texts: usize,
    n_prompts: usize,
    new_tokens: usize,
    tokens_alone: usize,
    peak_steps: usize,
}

const FULL: Effort = Effort {
    rounds: 5,
    n_texts: 64,
    n_candle_texts: 4,
    n_prompts: 32,
    new_tokens: 32,
    tokens_alone: 64,
    peak_steps: 5_000_000,
};
/// Enough to see that everything runs.
const QUICK: Effort = Effort {
    rounds: 1,
    n_texts: 4,
    n_candle_texts: 1,
    n_prompts: 4,
    new_tokens: 4,
    tokens_alone: 8,
    peak_steps: 500_000,
};

fn main() -> Fallible<()> {
    let (mut effort, mut n_rounds, mut json_path) = (&FULL, None, None);
    let mut only: Vec<String> = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--bench" => {} // Cargo's own.
            "--quick" => effort = &QUICK,
            "--rounds" => n_rounds = Some(args.next().ok_or("`--rounds` needs a number")?.parse()?),
            "--only" => only.push(args.next().ok_or("`--only` needs a question")?),
            "--json" => json_path = Some(args.next().ok_or("`--json` needs a file")?),
            _ => return Err(format!("unknown argument `{arg}`").into()),
        }
    }
    let answers = Bench::new(effort)?.run(n_rounds.unwrap_or(effort.rounds), &only)?;
    for (question, unit) in QUESTIONS {
        let figure = median(&rounds(&answers, question));
        println!("{question:<16} {figure:>10.1} {unit}");
    }
    println!("{:<16} {:>10.1} %", "trunk of peak", share(&answers));
    if let Some(path) = json_path {
        std::fs::write(path, serde_json::to_string(&answers)? + "\n")?;
    }
    Ok(())
}

/// Every question with its unit, in the order in which they take turns.
const QUESTIONS: [(&str, &str); 7] = [
    ("peak", "GFLOP/s"),
    ("distinct", "tokens/s"),
    ("distinct_candle", "tokens/s"),
    ("generation", "new tokens/s"),
    ("alone", "new tokens/s"),
    ("alone_candle", "new tokens/s"),
    ("trunk", "rows/s"),
];

/// The middle value; the mean of the middle two.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n => f64::midpoint(sorted[(n - 1) / 2], sorted[n / 2]),
    }
}

/// The figures of all rounds.
fn rounds(answers: &Value, question: &str) -> Vec<f64> {
    let values = answers["rounds"][question].as_array();
    let figures = values.into_iter().flatten();
    figures.filter_map(Value::as_f64).collect()
}

/// Percent of the peak that the products of the layers reach; the peak is the best round's.
fn share(answers: &Value) -> f64 {
    let flop = answers["trunk_flop_per_row"].as_f64().unwrap_or(f64::NAN);
    let peak = rounds(answers, "peak").into_iter().fold(0.0, f64::max);
    100.0 * median(&rounds(answers, "trunk")) * flop / (peak * 1e9)
}

/// Both engines with what they are asked.
struct Bench {
    effort: &'static Effort,
    engine: LocalEngine,
    peer: ModelWeights,
    texts: Vec<Vec<u32>>,
    prompts: Vec<Vec<u32>>,
    /// Floating-point operations of the layers' products per row.
    trunk_flop: u64,
    n_parameters: u64,
}

impl Bench {
    fn new(effort: &'static Effort) -> Fallible<Self> {
        let source = ModelSource::Builtin("smollm2-135m-instruct".to_owned());
        let model = model::open(&source, &OpenOptions::default(), &mut |_| {})?;
        let mut reader = BufReader::new(File::open(&model.files.weights()[0])?);
        let content = gguf_file::Content::read(&mut reader)?;
        let trunk_flop = content
            .tensor_infos
            .iter()
            .filter(|(name, info)| name.starts_with("blk.") && info.shape.dims().len() == 2)
            .map(|(_, info)| 2 * info.shape.elem_count() as u64)
            .sum();
        Ok(Self {
            effort,
            engine: LocalEngine::load(&model)?,
            peer: ModelWeights::from_gguf(content, &mut reader, &Device::Cpu)?,
            texts: texts(effort.n_texts),
            prompts: prompts(&model, effort.n_prompts)?,
            trunk_flop,
            n_parameters: model.n_parameters,
        })
    }

    /// Asks every question once per round.
    /// Asks every question, or `only` some, in each of the rounds.
    fn run(mut self, n_rounds: usize, only: &[String]) -> Fallible<Value> {
        let mut rounds: IndexMap<&str, Vec<f64>> = IndexMap::new();
        let mut answers = json!({
            "threads": rayon::current_num_threads(),
            "instructions": peak::instructions(),
            "trunk_flop_per_row": self.trunk_flop,
            "weights_f32_bytes": 4 * self.n_parameters,
            "texts": self.texts,
            "prompts": self.prompts,
        });
        for _ in 0..n_rounds {
            for (question, _) in QUESTIONS {
                if !only.is_empty() && !only.iter().any(|it| it == question) {
                    continue;
                }
                let figure = match question {
                    "peak" => peak::gflop_per_s(self.effort.peak_steps),
                    "distinct" => self.distinct(&mut answers["loglikelihoods"])?,
                    "distinct_candle" => self.distinct_candle()?,
                    "generation" => self.generation(&mut answers["generations"])?,
                    "alone" => self.alone()?,
                    "alone_candle" => self.alone_candle()?,
                    _ => self.trunk()?,
                };
                rounds.entry(question).or_default().push(figure);
                eprintln!("{question} {figure:.1}");
            }
        }
        answers["rounds"] = json!(rounds);
        Ok(answers)
    }

    /// Tokens per second of texts that share nothing; keeps each text's log-likelihood.
    fn distinct(&self, loglikelihoods: &mut Value) -> Fallible<f64> {
        let requests: Vec<Request> = self
            .texts
            .iter()
            .map(|it| Request::loglikelihood(&it[..], 1))
            .collect();
        let (seconds, answers) = answer(&self.engine, &requests)?;
        let sums: Vec<f64> = answers
            .iter()
            .map(|it| match it {
                Response::Loglikelihood { logprobs, .. } => {
                    logprobs.iter().map(|it| f64::from(*it)).sum()
                }
                Response::Generation { .. } => f64::NAN,
            })
            .collect();
        *loglikelihoods = json!(sums);
        Ok((requests.len() * TEXT_TOKENS) as f64 / seconds)
    }

    fn distinct_candle(&mut self) -> Fallible<f64> {
        let texts = &self.texts[..self.effort.n_candle_texts];
        let start = Instant::now();
        for text in texts {
            // Position 0 starts a new sequence.
            black_box(self.peer.forward(&row(text)?, 0)?);
        }
        Ok((texts.len() * TEXT_TOKENS) as f64 / start.elapsed().as_secs_f64())
    }

    /// New tokens per second of all prompts together; keeps what was written.
    fn generation(&self, generations: &mut Value) -> Fallible<f64> {
        let params = greedy(self.effort.new_tokens);
        let requests: Vec<Request> = self
            .prompts
            .iter()
            .map(|it| Request::generation(&it[..], Arc::clone(&params)))
            .collect();
        let (seconds, answers) = answer(&self.engine, &requests)?;
        let written: Vec<&[u32]> = answers.iter().map(new_tokens).collect();
        let n_tokens: usize = written.iter().map(|it| it.len()).sum();
        *generations = json!(written);
        Ok(n_tokens as f64 / seconds)
    }

    /// New tokens per second of one sequence: a long generation less one of a single token.
    fn alone(&self) -> Fallible<f64> {
        let n = self.effort.tokens_alone;
        let mut seconds = [0.0; 2];
        for (seconds, max_tokens) in seconds.iter_mut().zip([1, 1 + n]) {
            let request = Request::generation(&self.prompts[0][..], greedy(max_tokens));
            let (passed, answers) = answer(&self.engine, &[request])?;
            if new_tokens(&answers[0]).len() != max_tokens {
                return Err("the generation ended early".into());
            }
            *seconds = passed;
        }
        Ok(n as f64 / (seconds[1] - seconds[0]))
    }

    fn alone_candle(&mut self) -> Fallible<f64> {
        let prompt = &self.prompts[0];
        let mut logits = self.peer.forward(&row(prompt)?, 0)?;
        let start = Instant::now();
        for step in 0..self.effort.tokens_alone {
            let token = logits.argmax(D::Minus1)?.to_vec1::<u32>()?[0];
            logits = self.peer.forward(&row(&[token])?, prompt.len() + step)?;
        }
        black_box(logits);
        Ok(self.effort.tokens_alone as f64 / start.elapsed().as_secs_f64())
    }

    /// Rows per second where hardly a row reaches the vocabulary; the last token is never fed.
    fn trunk(&self) -> Fallible<f64> {
        let requests: Vec<Request> = self
            .texts
            .iter()
            .map(|it| Request::loglikelihood(&it[..], TEXT_TOKENS - 1))
            .collect();
        let (seconds, _) = answer(&self.engine, &requests)?;
        Ok((requests.len() * (TEXT_TOKENS - 1)) as f64 / seconds)
    }
}

/// Texts of pseudo-random tokens that differ from the first token on.
fn texts(n: usize) -> Vec<Vec<u32>> {
    let text = |i: usize| -> Vec<u32> {
        (0..TEXT_TOKENS)
            .map(|t| 100 + ((i * 7919 + t * 104_729 + i * t) % 40_000) as u32)
            .collect()
    };
    (0..n).map(text).collect()
}

/// The first tokens of `n` texts, at most 32.
fn prompts(model: &Model, n: usize) -> Fallible<Vec<Vec<u32>>> {
    let mut prompts = Vec::new();
    for i in 0..n {
        let text = format!(
            "{} {}",
            PLACES[i / OPENINGS.len()],
            OPENINGS[i % OPENINGS.len()]
        );
        let ids: Vec<u32> = model
            .tokenizer
            .encode_plain(&text)?
            .iter()
            .map(|it| it.id)
            .collect();
        let prompt = ids.get(..PROMPT_TOKENS).ok_or("a prompt is too short")?;
        prompts.push(prompt.to_vec());
    }
    Ok(prompts)
}

fn greedy(max_tokens: usize) -> Arc<GenerationParams> {
    Arc::new(GenerationParams {
        max_tokens,
        stop: Vec::new(),
        sampling: Sampling::Greedy,
        repetition_penalty: 1.0,
    })
}

/// The tokens that an answer brought; none if it is a likelihood.
fn new_tokens(response: &Response) -> &[u32] {
    match response {
        Response::Generation { tokens, .. } => tokens,
        Response::Loglikelihood { .. } => &[],
    }
}

/// Seconds of one call, and its answers in the order of the requests.
fn answer(engine: &LocalEngine, requests: &[Request]) -> Fallible<(f64, Vec<Response>)> {
    let mut outcomes: Vec<Option<_>> = vec![None; requests.len()];
    let start = Instant::now();
    engine.run(requests, &Stop::new(), &mut |index, outcome| {
        outcomes[index] = Some(outcome);
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let mut answers = Vec::new();
    for outcome in outcomes {
        answers.push(outcome.ok_or("a request was not answered")??);
    }
    Ok((seconds, answers))
}

/// Token ids as a batch of one, shape (1, T).
fn row(ids: &[u32]) -> candle_core::Result<Tensor> {
    Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)
}

/// What the machine's arithmetic units can do.
mod peak {
    use std::hint::black_box;
    use std::time::Instant;

    /// Chains of multiply-adds that do not wait for each other: more than a latency of 4 on 2 or 4
    /// units needs, and no more than fit into 32 registers.
    const CHAINS: usize = 20;
    /// The same for the 16 registers of AVX2, on 2 units.
    #[cfg(target_arch = "x86_64")]
    const CHAINS_AVX2: usize = 12;

    /// The widest instruction set that the loop is written for and the machine has.
    pub(super) fn instructions() -> &'static str {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx512f") {
            return "avx512f";
        } else if std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("fma")
        {
            return "avx2 and fma";
        }
        std::env::consts::ARCH
    }

    /// 10^9 multiplications and additions per second in f32, all threads together; the best of ten
    /// tries, since the first ones wake the threads and raise the clock.
    pub(super) fn gflop_per_s(steps: usize) -> f64 {
        let tries = (0..10).map(|_| {
            let start = Instant::now();
            let flop: usize = rayon::broadcast(|_| run(steps)).into_iter().sum();
            flop as f64 / start.elapsed().as_secs_f64() / 1e9
        });
        tries.fold(0.0, f64::max)
    }

    /// Runs one thread's chains and returns their floating-point operations.
    fn run(steps: usize) -> usize {
        #[cfg(target_arch = "x86_64")]
        match instructions() {
            "avx512f" => {
                #[expect(unsafe_code, reason = "the machine was asked for the instructions")]
                black_box(unsafe { x86::avx512(steps) });
                return 2 * 16 * CHAINS * steps;
            }
            "avx2 and fma" => {
                #[expect(unsafe_code, reason = "the machine was asked for the instructions")]
                black_box(unsafe { x86::avx2(steps) });
                return 2 * 8 * CHAINS_AVX2 * steps;
            }
            _ => {}
        }
        // Four lanes: what every 64-bit ARM has, compiled in.
        let (a, b) = black_box(([0.999_f32; 4], [0.001_f32; 4]));
        let mut chains = [[1.0_f32; 4]; CHAINS];
        for _ in 0..steps {
            for chain in &mut chains {
                for lane in 0..4 {
                    chain[lane] = chain[lane].mul_add(a[lane], b[lane]);
                }
            }
        }
        black_box(chains);
        2 * 4 * CHAINS * steps
    }

    #[cfg(target_arch = "x86_64")]
    mod x86 {
        use std::arch::x86_64::{
            __m256, __m512, _mm256_fmadd_ps, _mm256_set1_ps, _mm512_fmadd_ps, _mm512_set1_ps,
        };
        use std::hint::black_box;

        use super::{CHAINS, CHAINS_AVX2};

        #[target_feature(enable = "avx512f")]
        pub(super) fn avx512(steps: usize) -> [__m512; CHAINS] {
            let a = black_box(_mm512_set1_ps(0.999));
            let b = black_box(_mm512_set1_ps(0.001));
            let mut chains = [_mm512_set1_ps(1.0); CHAINS];
            for _ in 0..steps {
                for chain in &mut chains {
                    *chain = _mm512_fmadd_ps(*chain, a, b);
                }
            }
            chains
        }

        #[target_feature(enable = "avx2,fma")]
        pub(super) fn avx2(steps: usize) -> [__m256; CHAINS_AVX2] {
            let a = black_box(_mm256_set1_ps(0.999));
            let b = black_box(_mm256_set1_ps(0.001));
            let mut chains = [_mm256_set1_ps(1.0); CHAINS_AVX2];
            for _ in 0..steps {
                for chain in &mut chains {
                    *chain = _mm256_fmadd_ps(*chain, a, b);
                }
            }
            chains
        }
    }
}
