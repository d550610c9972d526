//! How many prompts with an answer are tokenised per second, each whole or with a memo?
//!
//! The texts are those of a multiple-choice experiment: three shots that all prompts share, a
//! question of its own for each prompt, and four choices behind it. Whole, every text goes
//! through the tokenizers library; with a memo, only what was not met before. The unit is
//! texts; both run on one thread. `cases_of_a_plan` makes the cases of
//! `experiments/qa.toml` as `harness plan` and `harness run` do, on all threads
//! (`RAYON_NUM_THREADS` sets how many), and its unit is cases.
//!
//! `cargo bench --bench tokenize`; needs the built-in model (fetched if absent).

use std::path::Path;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use harness::experiment::{self, ModelSource, Overlay};
use harness::model::tokenizer::Memo;
use harness::model::{self, Model, OpenOptions};
use harness::plan::{Draft, Plan, Selection};

const N_PROMPTS: usize = 250;
const CHOICES: [&str; 4] = [
    " the first one",
    " a river in Spain",
    " 1848",
    " none of them",
];

fn main() {
    divan::main();
}

fn open() -> Model {
    let source = ModelSource::Builtin("smollm2-135m-instruct".to_owned());
    model::open(&source, &OpenOptions::default(), &mut |_| {}).expect("the built-in model opens")
}

/// Words of this project's own description, which are as common as words are.
const WORDS: &str = include_str!("../README.md");

/// A question of 24 words that differ from prompt to prompt.
fn question(n: usize) -> String {
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let word = |i: usize| words[(n * 7919 + i * 104_729 + n * i) % words.len()];
    (0..24).map(word).collect::<Vec<&str>>().join(" ")
}

fn texts() -> Vec<String> {
    let shot = |n: usize| format!("Question: {}\nAnswer: yes\n\n", question(1_000_000 + n));
    let shots: String = (0..3).map(shot).collect();
    let prompt = |n: usize| format!("{shots}Question: {}\nAnswer:", question(n));
    let with_choices = |prompt: String| CHOICES.map(|it| format!("{prompt}{it}"));
    (0..N_PROMPTS).map(prompt).flat_map(with_choices).collect()
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn whole_texts(bencher: Bencher<'_, '_>) {
    let (model, texts) = (open(), texts());
    let n_texts = ItemsCount::new(texts.len());
    bencher.counter(n_texts).bench_local(|| {
        for text in &texts {
            let tokens = model.tokenizer.encode(text, &[]);
            divan::black_box(tokens.expect("a text without rare bytes"));
        }
    });
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn texts_with_a_memo(bencher: Bencher<'_, '_>) {
    let (model, texts) = (open(), texts());
    let n_texts = ItemsCount::new(texts.len());
    bencher.counter(n_texts).bench_local(|| {
        // A new one each time, so that nothing is known at the start.
        let mut memo = Memo::new(&model.tokenizer);
        for text in &texts {
            let tokens = memo.encode(text, &[]);
            divan::black_box(tokens.expect("a text without rare bytes"));
        }
    });
}

fn plan() -> Plan {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/qa.toml");
    let (experiment, _) = experiment::load_partly(&file, &Overlay::default());
    let all = |_: &str| true;
    let selection = Selection {
        variant: &all,
        model: &all,
    };
    let draft = Draft::new(experiment.expect("the file is valid"), &selection);
    let planned = draft.and_then(|it| it.with_models(vec![Arc::new(open())]));
    planned.expect("the experiment can be run")
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn cases_of_a_plan(bencher: Bencher<'_, '_>) {
    let plan = plan();
    let n_cases = ItemsCount::new(plan.n_cases());
    bencher.counter(n_cases).bench_local(|| {
        assert_eq!(plan.cases(0).count(), plan.n_cases());
    });
}
