//! How fast are distinct texts scored, against candle-transformers on the same file?
//!
//! Ours scores every token of texts that share nothing (the log-likelihood of tokens
//! 1.. given the ones before), so the trie saves no work. The peer runs
//! `quantized_llama`'s forward pass over the same tokens, one text at a time; it
//! returns logits of the last position only, so it does less. The unit is tokens.
//!
//! `cargo bench --bench likelihood`; needs the built-in model (fetched if absent).

use std::fs::File;
use std::io::BufReader;

use candle_core::quantized::gguf_file;
use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_llama::ModelWeights;
use divan::Bencher;
use divan::counter::ItemsCount;
use harness::engine::local::LocalEngine;
use harness::engine::{Engine, Stop};
use harness::experiment::ModelSource;
use harness::model::{self, Model, OpenOptions};
use harness::request::Request;

/// Tokens of one text.
const TEXT_TOKENS: usize = 128;

fn main() {
    divan::main();
}

fn open() -> Model {
    let source = ModelSource::Builtin("smollm2-135m-instruct".to_owned());
    model::open(&source, &OpenOptions::default(), &mut |_| {}).expect("the built-in model opens")
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

#[divan::bench(args = [8, 64], sample_count = 3, sample_size = 1)]
fn distinct_texts_harness(bencher: Bencher<'_, '_>, n: usize) {
    let engine = LocalEngine::load(&open()).expect("the built-in model loads");
    let requests: Vec<Request> = texts(n)
        .into_iter()
        .map(|it| Request::loglikelihood(it, 1))
        .collect();
    bencher
        .counter(ItemsCount::new(n * TEXT_TOKENS))
        .bench_local(|| {
            let mut n_answers = 0;
            engine
                .run(&requests, &Stop::new(), &mut |_, outcome| {
                    n_answers += usize::from(outcome.is_ok());
                })
                .expect("the engine runs");
            assert_eq!(n_answers, requests.len());
        });
}

#[divan::bench(args = [8], sample_count = 3, sample_size = 1)]
fn distinct_texts_candle_quantized_llama(bencher: Bencher<'_, '_>, n: usize) {
    let model = open();
    let path = &model.files.weights()[0];
    let mut reader = BufReader::new(File::open(path).expect("the weights are there"));
    let content = gguf_file::Content::read(&mut reader).expect("a GGUF header");
    let mut peer = ModelWeights::from_gguf(content, &mut reader, &Device::Cpu).expect("weights");
    let texts = texts(n);
    bencher
        .counter(ItemsCount::new(n * TEXT_TOKENS))
        .bench_local(|| {
            for text in &texts {
                let input = Tensor::new(&text[..], &Device::Cpu)
                    .and_then(|it| it.unsqueeze(0))
                    .expect("a tensor of ids");
                // Position 0 starts a new sequence.
                divan::black_box(peer.forward(&input, 0).expect("a forward pass"));
            }
        });
}
