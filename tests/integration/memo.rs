//! Texts that have much in common have the tokens that each has alone.
//!
//! Asked of the tokenizers of all fixtures and of the built-in model, and of rules for words
//! that are known or not; `tokenizers` asks it of the references' vocabularies as well.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use harness::experiment::{self, ModelSource, Overlay};
use harness::model::tokenizer::{Memo, Token, Tokenizer};
use harness::model::{self, OpenOptions};
use harness::plan::{Case, Draft, Plan, Selection};
use serde_json::{Value as Json, json};

use crate::builtin;
use crate::tokenizers::{Random, part};

/// Groups of texts that are made from the same parts.
const N_GROUPS: usize = 400;

#[test]
fn fixtures_give_the_same_tokens_with_a_memo() {
    let base = fixtures();
    let mut names: Vec<String> = std::fs::read_dir(&base)
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .filter(|it| it.starts_with("tiny-"))
        .collect();
    names.sort_unstable();
    assert!(10 < names.len(), "{names:?}");
    for name in names {
        let options = OpenOptions {
            base: base.clone(),
            ..OpenOptions::default()
        };
        let source = ModelSource::Path(name.clone().into());
        let tokenizer = model::open(&source, &options, &mut |_| {})
            .unwrap()
            .tokenizer;
        check(&name, &tokenizer, true);
    }
}

#[test]
fn the_built_in_model_gives_the_same_tokens_with_a_memo() {
    check("smollm2", &builtin::model().tokenizer, true);
}

/// The rules for words of other models, as their `tokenizer.json` has them, around the
/// vocabulary of a fixture; and rules that cross spaces or are not known.
#[test]
fn rules_for_words_are_divided_only_where_they_are_known() {
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let words = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let spaced = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    let digits = |alone: bool| json!({"type": "Digits", "individual_digits": alone});
    let punctuation = json!({"type": "Punctuation", "behavior": "Isolated"});
    let split = |pattern: &str, behavior: &str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": false});
    let inverted = json!({"type": "Split", "pattern": {"Regex": GPT_2}, "behavior": "Isolated", "invert": true});
    let parts = |parts: &[&Json]| json!({"type": "Sequence", "pretokenizers": parts});
    let whole = |pattern: &str| parts(&[&split(pattern, "Isolated"), &bytes]);
    let table = [
        ("GPT-2", words.clone(), true),
        ("GPT-2 as a split", whole(GPT_2), true),
        ("SmolLM", parts(&[&digits(true), &words]), true),
        ("runs of digits", parts(&[&digits(false), &words]), true),
        ("Llama 3", whole(LLAMA_3), true),
        ("Qwen 2", whole(QWEN_2), true),
        ("Tekken", whole(TEKKEN), true),
        (
            "two splits",
            parts(&[&split(LLAMA_3, "Isolated"), &words]),
            true,
        ),
        ("nothing is split", bytes.clone(), false),
        ("a space in front", spaced, false),
        ("inverted", parts(&[&inverted, &bytes]), false),
        ("two words at once", whole("[a-z]+ [a-z]+"), false),
        ("a look behind", whole(r"(?<=the) [a-z]+|\S+|\s"), false),
        (
            "merged with the next",
            parts(&[&split(GPT_2, "MergedWithNext"), &bytes]),
            false,
        ),
        ("punctuation", parts(&[&punctuation, &words]), false),
    ];
    let path = fixtures().join("tiny-llama/tokenizer.json");
    let root: Json = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for (name, pre_tokenizer, is_divided) in table {
        for normalizer in [Json::Null, json!({"type": "NFC"})] {
            let mut root = root.clone();
            root["pre_tokenizer"] = pre_tokenizer.clone();
            root["normalizer"] = normalizer.clone();
            let tokenizer = Tokenizer::from_json(root.to_string().as_bytes()).unwrap();
            check(&format!("{name}, {normalizer}"), &tokenizer, is_divided);
        }
    }
}

/// Tokens that are added, but not special, and that hold spaces or begin alike.
#[test]
fn added_tokens_are_never_divided() {
    let path = fixtures().join("tiny-llama/tokenizer.json");
    let mut root: Json = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let texts = [
        "the world",
        "<s> the",
        " the",
        "the  ",
        "x the y z",
        "' '",
        "<|",
        "a  b",
    ];
    let added = root["added_tokens"].as_array_mut().unwrap();
    let first = 320;
    for (id, text) in (first..).zip(texts) {
        added.push(
            json!({"id": id, "content": text, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": id % 2 == 0}),
        );
    }
    let tokenizer = Tokenizer::from_json(root.to_string().as_bytes()).unwrap();
    let ids: Vec<u32> = texts
        .iter()
        .map(|it| tokenizer.encode(it, &[]).unwrap()[0].id)
        .collect();
    assert_eq!(
        ids,
        (first..first + texts.len() as u32).collect::<Vec<u32>>()
    );
    check("added tokens", &tokenizer, true);
}

/// Cases are made in parallel, and each meets a memo that others have filled.
#[test]
fn a_case_does_not_depend_on_what_was_made_before_it() {
    for name in ["sentiment", "qa", "translate"] {
        let plan = plan(name);
        let in_threads = |n: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build();
            pool.unwrap()
                .install(|| plan.cases(0).collect::<Vec<Case>>())
        };
        let (cases, alone) = (in_threads(4), in_threads(1));
        assert_eq!((cases.len(), alone.len()), (plan.n_cases(), plan.n_cases()));
        assert!(cases.is_sorted_by_key(|it| it.key), "{name}: table order");
        for (case, alone) in cases.iter().zip(&alone) {
            let shown = format!("{case:?}");
            assert_eq!(shown, format!("{alone:?}"));
            // Every tenth by itself, with nothing known.
            if case.key.example % 10 == 0 {
                assert_eq!(shown, format!("{:?}", plan.caser(0).case(case.key)));
            }
        }
    }
}

fn plan(name: &str) -> Plan {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments");
    let file = folder.join(name).with_extension("toml");
    let (experiment, _) = experiment::load_partly(&file, &Overlay::default());
    let all = |_: &str| true;
    let selection = Selection {
        variant: &all,
        model: &all,
    };
    let draft = Draft::new(experiment.unwrap(), &selection).unwrap();
    draft
        .with_models(vec![Arc::new(builtin::model().clone())])
        .unwrap()
}

/// Encodes texts that begin, continue and end alike, and compares each with itself alone.
pub(crate) fn check(name: &str, tokenizer: &Tokenizer, is_divided: bool) {
    let mut random = Random(29);
    let mut memo = Memo::new(tokenizer);
    let mut n_bytes = 0;
    let mut compare = |text: &str, plain: &[Range<usize>]| {
        n_bytes += text.len();
        // A refusal tells the reason; of a part it may tell another.
        let expected = tokenizer.encode(text, plain).ok();
        let got = memo.encode(text, plain).ok().map(<[Token]>::to_vec);
        assert_eq!(got, expected, "{name}: {text:?} with data at {plain:?}");
    };
    let mut shots = String::new();
    for group in 0..N_GROUPS {
        if group % 10 == 0 {
            shots = text(&mut random, tokenizer);
        }
        let prompt = format!("{shots}{}", text(&mut random, tokenizer));
        compare(&prompt, &[]);
        for _ in 0..3 {
            let target = text(&mut random, tokenizer);
            let delimiter = ["", " ", "  ", "\n", ": "][random.below(5)];
            compare(&format!("{prompt}{delimiter}{target}"), &[]);
        }
        // Cut anywhere, and with all or some of it from data.
        let cut = prompt.floor_char_boundary(random.below(prompt.len() + 1));
        compare(&prompt[..cut], &[]);
        compare(&prompt[cut..], &[]);
        compare(&prompt, std::slice::from_ref(&(cut..prompt.len())));
        compare(&prompt, &[]);
    }
    let n_encoded = memo.n_encoded_bytes();
    if is_divided {
        // Many of these texts are not composed or lack bytes, so that they stay whole.
        assert!(
            n_encoded < n_bytes / 4 * 3,
            "{name}: {n_encoded} of {n_bytes}"
        );
    } else {
        assert_eq!(n_encoded, n_bytes, "{name}");
    }
}

/// Some parts of all kinds, and special tokens of this tokenizer.
fn text(random: &mut Random, tokenizer: &Tokenizer) -> String {
    let mut text = String::new();
    for _ in 0..random.below(8) {
        text += &part(random);
        let specials = tokenizer.specials();
        if !specials.is_empty() && random.below(8) == 0 {
            text += &specials[random.below(specials.len())];
        }
        text += ["", "", " ", " the", "  ", "7 "][random.below(6)];
    }
    text
}

fn fixtures() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models")
}

const GPT_2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
