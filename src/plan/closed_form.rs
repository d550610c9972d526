//! Whole experiments on a model of closed form: what is asked, and what it is scored.
//!
//! The tokenizer has a token per byte, and the engine a table of bigrams, so that every request
//! and every number can be written down from the texts alone: a mistake in where a target
//! begins, in what stands in front of it or in which choice is right shows at once.

use std::sync::Arc;

use super::{Case, Draft, JoinError, Plan, Selection};
use crate::engine::fake::FakeEngine;
use crate::engine::{Engine, Stop};
use crate::experiment::{self, Overlay, Weights};
use crate::model::chat::ChatTemplate;
use crate::model::tokenizer::Tokenizer;
use crate::model::{Model, ModelFiles};
use crate::request::{Outcome, Work};
use crate::score::{self, Key, Score, Status};
use crate::template::Guarded;

const BOS: u32 = 256;
const EOS: u32 = 257;

/// What stands in front of texts, and how much fits.
#[derive(Debug, Clone, Copy)]
struct Settings {
    bos: Option<u32>,
    add_bos: bool,
    n_context: usize,
}

/// A BOS in front of every text, and room enough.
const WITH_BOS: Settings = Settings {
    bos: Some(BOS),
    add_bos: true,
    n_context: 500,
};

fn model(settings: Settings) -> Model {
    let chat = "{{ bos_token }}{% for it in messages %}[{{ it.role }}] {{ it.content }}\n\
                {% endfor %}[assistant]\n";
    Model {
        source: "closed form".to_owned(),
        revision: None,
        files: ModelFiles::Gguf("none.gguf".into()),
        stamps: Vec::new(),
        digest: blake3::hash(b"weights"),
        tokenizer_digest: blake3::hash(b"bytes"),
        tokenizer: Arc::new(Tokenizer::bytes()),
        chat: ChatTemplate::compile(chat, Some("<bos>"), Some("<eos>")),
        architecture: "bigrams".to_owned(),
        n_context: settings.n_context,
        n_vocab: 258,
        n_parameters: 0,
        quantisation: String::new(),
        file_type: None,
        weights_bytes: 0,
        weights: Weights::Auto,
        bos: settings.bos,
        add_bos: settings.add_bos,
        eos: vec![EOS],
    }
}

/// The plan of an experiment on these rows; `tables` follow `[experiment]` and `[models]`.
fn plan(rows: &[&str], tables: &str, settings: Settings) -> Plan {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rows.jsonl"), rows.join("\n")).unwrap();
    let text = format!(
        "[experiment]\nname = 'x'\n[models.m]\nsource = 'builtin:smollm2-135m-instruct'\n{tables}"
    );
    let path = folder.path().join("x.toml");
    let (experiment, _) = experiment::parse(&path, text, &Overlay::default())
        .unwrap_or_else(|problems| panic!("{tables}: {problems:?}"));
    let all = |_: &str| true;
    let selection = Selection {
        variant: &all,
        model: &all,
    };
    let draft = Draft::new(experiment, &selection);
    let draft = draft.unwrap_or_else(|problems| panic!("{tables}: {problems:?}"));
    let plan = draft.with_models(vec![Arc::new(model(settings))]);
    plan.unwrap_or_else(|problems| panic!("{tables}: {problems:?}"))
}

fn engine(settings: Settings) -> FakeEngine {
    FakeEngine::new(258, settings.n_context)
}

fn scored(plan: &Plan, case: Case, engine: &FakeEngine) -> Score {
    let requests: Vec<_> = case.requests().cloned().collect();
    let mut outcomes: Vec<Option<Outcome>> = vec![None; requests.len()];
    let mut deliver = |index: usize, outcome| outcomes[index] = Some(outcome);
    engine.run(&requests, &Stop::new(), &mut deliver).unwrap();
    let key = Key {
        references: &plan.answers[case.key.example].references,
        judges: &[],
        conditions: &[],
        keep_tokens: true,
    };
    score::score(
        case,
        outcomes.into_iter().map(Option::unwrap).collect(),
        &key,
    )
}

/// Logprob of `text` after `context`: of each byte after the token before it, in order.
fn loglikelihood(engine: &FakeEngine, context: &[u32], text: &str) -> f64 {
    let tokens: Vec<u32> = context.iter().copied().chain(ids(text)).collect();
    let pairs = tokens[context.len() - 1..].windows(2);
    pairs
        .map(|it| f64::from(engine.logprob(it[0], it[1])))
        .sum()
}

fn ids(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

/// The one likelihood request of a case without choices: its context, and what is scored.
fn parts(case: &Case) -> (Vec<u32>, Vec<u32>) {
    let requests = case.scored[0].requests.as_ref().unwrap();
    let [request] = &requests[..] else {
        panic!("{requests:?}")
    };
    let Work::Loglikelihood { first_scored } = request.work else {
        panic!("{request:?}")
    };
    let (context, scored) = request.tokens.split_at(first_scored);
    (context.to_vec(), scored.to_vec())
}

const ROWS: [&str; 3] = [
    r#"{"en": "the house", "fr": "la maison"}"#,
    r#"{"en": "a tree  ", "fr": "un arbre, é"}"#,
    r#"{"en": "x", "fr": "y"}"#,
];

const DATASET: &str = "[dataset]\npath = 'rows.jsonl'\ntarget = '{{ fr }}'\n";

/// A target is data: what looks like a special token in it is text.
#[test]
fn special_tokens_in_a_target_are_text() {
    let rows = [r#"{"en": "x", "fr": "<eos> y"}"#];
    let tables = format!("{DATASET}[variants.v]\ntemplate = '{{{{ en }}}}<eos>'\n");
    let plan = plan(&rows, &tables, WITH_BOS);
    let case = plan.cases(0).next().unwrap();
    let context = [&[BOS][..], &ids("x"), &[EOS]].concat();
    assert_eq!(parts(&case), (context, ids(" <eos> y")));
}

/// The last token that is written takes no position.
#[test]
fn a_generation_that_may_leave_the_context_is_refused() {
    let rows = [r#"{"en": "x", "fr": "y"}"#];
    let tables = |n| {
        format!(
            "{DATASET}[variants.v]\ntemplate = '{{{{ en }}}}'\n[generation]\nmax_tokens = {n}\n"
        )
    };
    let settings = Settings {
        n_context: 8,
        ..WITH_BOS
    };
    // A BOS and a byte, then six tokens that are fed.
    for (max_tokens, fits) in [(7, true), (8, false)] {
        let plan = plan(&rows, &tables(max_tokens), settings);
        let case = plan.cases(0).next().unwrap();
        let request = case.generation.unwrap();
        assert_eq!(request.is_ok(), fits, "{request:?}");
    }
}

/// With nothing to score there would be a loglikelihood of 0, the best there is.
#[test]
fn a_target_without_tokens_is_refused() {
    let model = model(WITH_BOS);
    let text = |text: &str| Guarded {
        text: text.to_owned(),
        plain: Vec::new(),
    };
    let joined = super::join(&model, &text("a"), "", &text(""));
    assert!(matches!(joined, Err(JoinError::EmptyTarget)), "{joined:?}");
    assert!(super::join(&model, &text("a"), "", &text("b")).is_ok());
}

/// What stands before the border is the context, what stands behind it is scored: white space
/// at the end of the prompt, the delimiter and the target, each byte once and in order.
#[test]
fn a_target_is_scored_behind_its_prompt_byte_by_byte() {
    // Template, delimiter; then what is stripped of the prompt and what the delimiter is.
    let variants = [
        ("template = '{{ en }}:'", "", " "),
        ("template = '{{ en }}: '", " ", ""),
        ("template = \"{{ en }}:\\n\\n\"", "\n\n", ""),
        ("template = '{{ en }}:'\ndelimiter = '->'", "", "->"),
        ("template = '{{ en }}:'\ndelimiter = ''", "", ""),
    ];
    for (bos, add_bos) in [(Some(BOS), true), (Some(BOS), false), (None, false)] {
        let settings = Settings {
            bos,
            add_bos,
            ..WITH_BOS
        };
        let prefix: &[u32] = if add_bos { &[BOS] } else { &[] };
        for (variant, space, delimiter) in variants {
            let plan = plan(
                &ROWS,
                &format!("{DATASET}[variants.v]\n{variant}\n"),
                settings,
            );
            let engine = engine(settings);
            for case in plan.cases(0) {
                let fields = &plan.row(case.key.example).fields();
                let field = |name: &str| fields[name].as_str().unwrap().to_owned();
                let prompt = format!("{}:", field("en"));
                let text = format!("{space}{delimiter}{}", field("fr"));
                let context = [prefix, &ids(&prompt)].concat();
                assert_eq!(case.prompt, format!("{prompt}{space}"), "{variant}");
                assert_eq!(parts(&case), (context.clone(), ids(&text)), "{variant}");
                assert_eq!(case.n_context_tokens, context.len(), "{variant}");
                let score = scored(&plan, case, &engine);
                assert_eq!(score.status, Status::Ok);
                let likelihood = score.likelihood.unwrap();
                let want = loglikelihood(&engine, &context, &text);
                assert_eq!(likelihood.loglikelihood, want, "{variant}");
                assert_eq!(likelihood.n_tokens, text.len(), "{variant}");
                assert_eq!(likelihood.n_bytes, field("fr").len(), "{variant}");
                let tokens: Vec<u32> = score.tokens.iter().map(|it| it.token_id).collect();
                assert_eq!(tokens, ids(&text), "{variant}");
            }
        }
    }
}

/// An empty context is BOS, else EOS, whatever the policy says of other texts.
#[test]
fn an_empty_prompt_is_conditioned_on_bos_or_else_eos() {
    for (bos, add_bos, prefix) in [
        (Some(BOS), true, BOS),
        (Some(BOS), false, BOS),
        (None, false, EOS),
    ] {
        let settings = Settings {
            bos,
            add_bos,
            ..WITH_BOS
        };
        let tables = format!("{DATASET}[variants.v]\ntemplate = ''\n");
        let plan = plan(&ROWS, &tables, settings);
        for (case, target) in plan.cases(0).zip(["la maison", "un arbre, é", "y"]) {
            assert_eq!(parts(&case), (vec![prefix], ids(target)));
            assert_eq!(case.n_context_tokens, 1);
            let engine = engine(settings);
            let likelihood = scored(&plan, case, &engine).likelihood.unwrap();
            let want = loglikelihood(&engine, &[prefix], target);
            assert_eq!(likelihood.loglikelihood, want);
        }
    }
}

/// A template, or the model's own chat template, may write the BOS itself.
#[test]
fn a_bos_that_a_template_writes_is_the_only_one() {
    for (variant, rest) in [
        ("template = '<bos>{{ en }}:'", "x:"),
        ("user = '{{ en }}'", "[user] x\n[assistant]"),
    ] {
        let generation = "[generation]\nmax_tokens = 2\n";
        let tables = format!("{DATASET}[variants.v]\n{variant}\n{generation}");
        let plan = plan(&ROWS[2..], &tables, WITH_BOS);
        let case = plan.cases(0).next().unwrap();
        let want = [&[BOS], &ids(rest)[..]].concat();
        assert_eq!(parts(&case).0, want, "{variant}");
        let written = case.generation.unwrap().unwrap();
        assert!(written.tokens.starts_with(&want), "{variant}");
        let n_bos = written.tokens.iter().filter(|it| **it == BOS).count();
        assert_eq!(n_bos, 1, "{variant}");
    }
}

/// Context goes from the left, and the BOS and every scored token stay.
#[test]
fn truncation_changes_the_context_alone() {
    let rows = [r#"{"en": "0123456789 0123456789 end", "fr": "la maison"}"#];
    let tables = format!(
        "{DATASET}[variants.v]\ntemplate = '{{{{ en }}}}:'\n\
         [scoring]\noverflow = 'truncate-left'\n"
    );
    let text = " la maison";
    // 27 tokens of context and 10 that are scored, of which the last takes no position.
    for n_context in [36, 20, 12] {
        let settings = Settings {
            n_context,
            ..WITH_BOS
        };
        let plan = plan(&rows, &tables, settings);
        let case = plan.cases(0).next().unwrap();
        let n_kept = n_context + 1 - text.len() - 1;
        let prompt = ids("0123456789 0123456789 end:");
        let context = [&[BOS], &prompt[prompt.len() - n_kept..]].concat();
        assert_eq!(parts(&case), (context.clone(), ids(text)), "{n_context}");
        assert_eq!(case.n_truncated_tokens, 36 - n_context);
        let engine = engine(settings);
        let likelihood = scored(&plan, case, &engine).likelihood.unwrap();
        let want = loglikelihood(&engine, &context, text);
        assert_eq!(likelihood.loglikelihood, want, "{n_context}");
    }
}

/// A target longer than the context is scored in windows, each token once.
#[test]
fn windows_add_up_to_the_whole_text() {
    let long = "le petit chat est mort ".repeat(9);
    let row = format!(r#"{{"en": "", "fr": "{}"}}"#, long.trim());
    let tables = format!("{DATASET}[variants.v]\ntemplate = ''\n");
    for n_context in [7, 64, 500] {
        let settings = Settings {
            n_context,
            ..WITH_BOS
        };
        let plan = plan(&[&row], &tables, settings);
        let engine = engine(settings);
        let case = plan.cases(0).next().unwrap();
        let score = scored(&plan, case, &engine);
        let likelihood = score.likelihood.unwrap();
        assert_eq!(likelihood.n_tokens, long.trim().len(), "{n_context}");
        let want = loglikelihood(&engine, &[BOS], long.trim());
        assert_eq!(likelihood.loglikelihood, want, "{n_context}");
    }
}

const LABELLED: [&str; 3] = [
    r#"{"en": "fine", "label": "good"}"#,
    r#"{"en": "poor", "label": "very bad"}"#,
    r#"{"en": "so so", "label": "é"}"#,
];

fn with_choices(choices: &[&str]) -> String {
    format!(
        "[dataset]\npath = 'rows.jsonl'\ntarget = '{{{{ label }}}}'\nchoices = {choices:?}\n\
         [variants.v]\ntemplate = '{{{{ en }}}} is'\n[variants.w]\ntemplate = 'A: {{{{ en }}}}'\n\
         [[metrics]]\nuse = ['acc_calibrated', 'acc_pmi']\n"
    )
}

/// Permuting the choices of a file permutes their scores, to the bit, and nothing else; each
/// is what the table of bigrams says, and the right one is the row's label. Equal choices are
/// refused before anything runs.
#[test]
fn every_choice_is_scored_and_the_label_is_the_right_one() {
    let choices = ["good", "very bad", "é"];
    let engine = engine(WITH_BOS);
    let mut n_seen = 0;
    for order in [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ] {
        let permuted = order.map(|it: usize| choices[it]);
        let plan = plan(&LABELLED, &with_choices(&permuted), WITH_BOS);
        for case in plan.cases(0) {
            let fields = &plan.row(case.key.example).fields();
            let (en, label) = (&fields["en"].as_str().unwrap(), &fields["label"]);
            let prompts = [format!("{en} is"), format!("A: {en}")];
            let prompt = prompts[case.key.variant].as_str();
            let context = [&[BOS], &ids(prompt)[..]].concat();
            let score = scored(&plan, case, &engine);
            assert_eq!(score.status, Status::Ok);
            assert_eq!(score.choices.len(), 3);
            for (choice, text) in score.choices.iter().zip(permuted) {
                let what = format!("{text} of {permuted:?} after {prompt}");
                assert_eq!(choice.text, text, "{what}");
                assert_eq!(choice.is_target, label == text, "{what}");
                let text = format!(" {text}");
                let want = loglikelihood(&engine, &context, &text);
                assert_eq!(choice.loglikelihood, want, "{what}");
                assert_eq!(choice.n_tokens, text.len(), "{what}");
                let want = loglikelihood(&engine, &[BOS], &text);
                assert_eq!(choice.unconditional, Some(want), "{what}");
                if choice.is_target {
                    let likelihood = score.likelihood.unwrap();
                    assert_eq!(likelihood.loglikelihood, choice.loglikelihood, "{what}");
                    n_seen += 1;
                }
            }
        }
    }
    assert_eq!(n_seen, 6 * 2 * 3, "one right choice in every case");
}

/// A choice's prior is its mean share after the variant's own prompt without the example.
#[test]
fn priors_are_shares_after_prompts_without_the_example() {
    let choices = ["good", "very bad", "é"];
    let engine = engine(WITH_BOS);
    let plan = plan(&LABELLED, &with_choices(&choices), WITH_BOS);
    for case in plan.cases(0) {
        let shares = ["N/A", "[MASK]", ""].map(|text| {
            let prompts = [format!("{text} is"), format!("A: {text}")];
            let prompt = prompts[case.key.variant].as_str();
            let stripped = prompt.trim_end();
            let (space, delimiter) = (&prompt[stripped.len()..], " ");
            let delimiter = if space.is_empty() { delimiter } else { "" };
            let context = [&[BOS], &ids(stripped)[..]].concat();
            choices.map(|it| {
                let text = format!("{space}{delimiter}{it}");
                loglikelihood(&engine, &context, &text).exp()
            })
        });
        let score = scored(&plan, case, &engine);
        for (i, choice) in score.choices.iter().enumerate() {
            let of = shares.map(|it| it[i] / it.iter().sum::<f64>());
            let want = of.iter().sum::<f64>() / 3.0;
            assert!((choice.prior.unwrap() - want).abs() < 1e-12, "{choice:?}");
        }
    }
}
