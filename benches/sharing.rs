//! Does time grow with the distinct tokens of the work, or with the requests?
//!
//! The same 12 items are asked about with 1, 2, 4 and 8 choices after prompts of 0 to 8 shots. For
//! each it counts requests, the tokens that these have together, and the distinct ones: equal
//! beginnings count once. Of a request the last token is only predicted and takes no part in either
//! count. What is timed, in seconds, is one call of the engine with all requests; weights are loaded
//! before.
//!
//! `cargo bench --bench sharing [-- --quick] [--json FILE]`; needs the built-in model (fetched if
//! absent). `benches/sharing.py` draws the file. `RAYON_NUM_THREADS` sets the threads.

use std::error::Error;
use std::time::Instant;

use harness::engine::local::LocalEngine;
use harness::engine::{Engine, Stop};
use harness::experiment::ModelSource;
use harness::model::tokenizer::Tokenizer;
use harness::model::{self, OpenOptions};
use harness::request::Request;
use serde_json::{Value, json};

/// What goes wrong ends the bench.
type Fallible<T> = Result<T, Box<dyn Error>>;

const N_ITEMS: usize = 12;
const N_CHOICES: [usize; 4] = [1, 2, 4, 8];
const MAX_SHOTS: usize = 8;

const CHOICES: [&str; 8] = [
    "a report from abroad",
    "a story about sports",
    "news for investors and traders",
    "a piece on modern science",
    "advice about your health",
    "tips for the next journey",
    "a review of a play",
    "the weather of the week",
];
/// Who, what and when: an item takes one of each, and no two items take the same three.
const WHO: [&str; 5] = [
    "The mayor of a small town by the sea",
    "A group of students from the old university",
    "Two brothers who own a bakery in the harbour",
    "The captain of the national handball team",
    "An engineer with many years of experience",
];
const WHAT: [&str; 4] = [
    "announced that the long delayed plan for the bridge",
    "told reporters in a crowded room that the new contract",
    "wrote in a letter to the editor that last year's result",
    "could not explain to the committee why the experiment",
];
const WHEN: [&str; 3] = [
    "would be looked at again before the end of the month.",
    "had surprised everyone, most of all the neighbours.",
    "was worth neither the money nor the trouble it had caused.",
];

fn main() -> Fallible<()> {
    let (mut n_rounds, mut max_shots, mut json_path) = (3, MAX_SHOTS, None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--bench" => {} // Cargo's own.
            "--quick" => (n_rounds, max_shots) = (1, 1),
            "--json" => json_path = Some(args.next().ok_or("`--json` needs a file")?),
            _ => return Err(format!("unknown argument `{arg}`").into()),
        }
    }
    let source = ModelSource::Builtin("smollm2-135m-instruct".to_owned());
    let model = model::open(&source, &OpenOptions::default(), &mut |_| {})?;
    let engine = LocalEngine::load(&model)?;
    let mut cells = Vec::new();
    for n_choices in N_CHOICES {
        for n_shots in 0..=max_shots {
            cells.push(Cell {
                n_choices,
                n_shots,
                requests: requests(&model.tokenizer, n_choices, n_shots)?,
                rounds: Vec::new(),
            });
        }
    }
    // Cells take turns, so that what else the machine does meets all of them.
    for round in 1..=n_rounds {
        for cell in &mut cells {
            cell.rounds.push(seconds(&engine, &cell.requests)?);
        }
        eprintln!("round {round} of {n_rounds}");
    }
    println!("choices  shots  requests  request tokens  distinct tokens  least seconds");
    let cells: Vec<Value> = cells.iter().map(Cell::report).collect();
    if let Some(path) = json_path {
        let answers = json!({ "threads": rayon::current_num_threads(), "cells": cells });
        std::fs::write(path, serde_json::to_string_pretty(&answers)? + "\n")?;
    }
    Ok(())
}

/// One pair of numbers with what is asked.
struct Cell {
    n_choices: usize,
    n_shots: usize,
    requests: Vec<Request>,
    /// Seconds of each round.
    rounds: Vec<f64>,
}

impl Cell {
    /// Prints the cell as a line and gives it as JSON.
    fn report(&self) -> Value {
        let Self {
            n_choices, n_shots, ..
        } = self;
        let read = read(&self.requests);
        let n_requests = read.len();
        let n_tokens: usize = read.iter().map(|it| it.len()).sum();
        let n_distinct = distinct(read);
        let least = self.rounds.iter().copied().fold(f64::INFINITY, f64::min);
        println!(
            "{n_choices:>7} {n_shots:>6} {n_requests:>9} {n_tokens:>15} {n_distinct:>16} {least:>14.2}"
        );
        json!({
            "choices": n_choices,
            "shots": n_shots,
            "requests": n_requests,
            "request_tokens": n_tokens,
            "distinct_tokens": n_distinct,
            "seconds": self.rounds,
        })
    }
}

/// The text of an item; different for every `i` under 60.
fn item(i: usize) -> String {
    format!("{} {} {}", WHO[i % 5], WHAT[i % 4], WHEN[i % 3])
}

/// One request per item and choice; shots are items that nothing is asked about.
fn requests(tokenizer: &Tokenizer, n_choices: usize, n_shots: usize) -> Fallible<Vec<Request>> {
    let mut shots = String::new();
    for (i, choice) in CHOICES[..n_shots].iter().enumerate() {
        shots += &format!("Text: {}\nThis is {choice}\n\n", item(N_ITEMS + i));
    }
    let mut requests = Vec::new();
    for i in 0..N_ITEMS {
        let prompt = format!("{shots}Text: {}\nThis is", item(i));
        let first_scored = tokenizer.encode_plain(&prompt)?.len();
        for choice in &CHOICES[..n_choices] {
            let tokens = tokenizer.encode_plain(&format!("{prompt} {choice}"))?;
            let ids: Vec<u32> = tokens.iter().map(|it| it.id).collect();
            requests.push(Request::loglikelihood(ids, first_scored));
        }
    }
    Ok(requests)
}

/// The tokens of each request that are read; the last one is only predicted.
fn read(requests: &[Request]) -> Vec<&[u32]> {
    requests
        .iter()
        .filter_map(|it| it.tokens.split_last())
        .map(|(_, read)| read)
        .collect()
}

/// How many different beginnings the sequences have.
///
/// In sorted order a sequence shares most with its predecessor, and what follows that is new.
fn distinct(mut sequences: Vec<&[u32]>) -> usize {
    sequences.sort_unstable();
    let mut previous: &[u32] = &[];
    let mut n = 0;
    for sequence in sequences {
        let pairs = sequence.iter().zip(previous);
        n += sequence.len() - pairs.take_while(|(a, b)| a == b).count();
        previous = sequence;
    }
    n
}

/// Seconds until the engine has answered all requests.
fn seconds(engine: &LocalEngine, requests: &[Request]) -> Fallible<f64> {
    let mut n_answers = 0;
    let start = Instant::now();
    engine.run(requests, &Stop::new(), &mut |_, outcome| {
        n_answers += usize::from(outcome.is_ok());
    })?;
    let seconds = start.elapsed().as_secs_f64();
    if n_answers != requests.len() {
        return Err("a request has no answer".into());
    }
    Ok(seconds)
}
