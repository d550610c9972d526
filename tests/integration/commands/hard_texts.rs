//! Texts that a tokenizer cannot take.

use harness::score::Status;
use serde_json::{Value as Json, json};

use super::{Bench, N_EXAMPLES};

/// More than a million spaces are more than the rule for words can look back over. In silence
/// the rest of the text, target included, would have been one word. Being the first row must
/// not make it the whole run's trouble.
#[test]
fn a_text_that_cannot_be_cut_into_words_fails_alone() {
    let bench = Bench::new();
    let spaces = format!("The{}end.", " ".repeat(1_000_100));
    let row = json!({ "id": "spaces", "en": spaces, "fr": "fin", "size": "small" });
    bench.add_phrases(&[row], &[]);
    let plan = bench.harness("plan phrases.toml --variant bare");
    assert_eq!(plan.code, Some(3), "{}", plan.stderr);
    let said = "1 cannot be scored (the engine failed: the text cannot be tokenised: the model's \
                rule for words gives up on it";
    assert!(plan.stdout.contains(said), "{}", plan.stdout);
    let ended = bench.harness("run phrases.toml --variant bare");
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    let run = bench.latest("phrases");
    assert_eq!(run.cases.len(), N_EXAMPLES + 1);
    for case in &run.cases {
        let expected = if case.example_id == "spaces" {
            Status::EngineError
        } else {
            Status::Ok
        };
        assert_eq!(case.status, expected, "{}", case.example_id);
    }
}

/// With choices and shots every text of the case is made anew.
#[test]
fn an_example_of_ten_megabytes_does_not_fit_and_the_rest_is_scored() {
    let bench = Bench::new();
    let words = "word and word ".repeat(10_000_000 / 14);
    let letters = "a".repeat(10_000_000);
    let row = |id: &str, text: &str| json!({ "id": id, "en": text, "fr": "fin", "size": "small" });
    bench.add_phrases(&[], &[row("words", &words), row("letters", &letters)]);
    for (experiment, name) in [
        ("colours.toml", "colours"),
        ("phrases.toml --variant few --variant bare", "phrases"),
    ] {
        let ended = bench.harness(&format!("run {experiment} -q"));
        assert_eq!(ended.code, Some(3), "{}", ended.stderr);
        for case in &bench.latest(name).cases {
            let is_huge = ["words", "letters"].contains(&case.example_id.as_str());
            let expected = if is_huge {
                Status::ContextOverflow
            } else {
                Status::Ok
            };
            assert_eq!(case.status, expected, "{}", case.example_id);
        }
    }
}

/// The tokenizer's expression makes a match begin inside the one before it where an `en`
/// begins with `Red`, which the library panics on.
#[test]
fn a_panic_of_the_tokenizers_library_is_the_failure_of_its_case() {
    let bench = Bench::new();
    let path = bench.path("tiny-llama/tokenizer.json");
    let mut tokenizer: Json = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let rule = json!({"type": "Split", "pattern": {"Regex": r"(?<=\KR)e|R"}, "behavior": "Isolated",
                      "invert": false});
    let bytes = tokenizer["pre_tokenizer"].take();
    tokenizer["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [rule, bytes]});
    std::fs::write(&path, tokenizer.to_string()).unwrap();
    let row = json!({ "id": "red", "en": "Red\n::error::x", "fr": "rouge", "size": "small" });
    bench.add_phrases(&[], &[row]);
    let ended = bench.harness("run phrases.toml --variant bare");
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    let run = bench.latest("phrases");
    let failed: Vec<&str> = run
        .cases
        .iter()
        .filter(|it| it.status != Status::Ok)
        .map(|it| it.example_id.as_str())
        .collect();
    assert_eq!(failed, ["red"]);
    assert!(
        ended.stderr.contains("internal error: panicked at"),
        "{}",
        ended.stderr
    );
    let plan = bench.harness("plan phrases.toml --variant bare");
    let said = "the tokenizers library panicked on it: ";
    assert!(plan.stdout.contains(said), "{}", plan.stdout);
}
