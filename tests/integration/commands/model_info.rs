//! `harness models info` of models that cannot be used: the facts, then the reason.

use serde_json::{Value as Json, json};

use super::{Bench, Ended};

/// Sets keys in the `config.json` of the bench's model.
fn with_config(changes: &[(&str, Json)]) -> Bench {
    let bench = Bench::new();
    let path = bench.path("tiny-llama/config.json");
    let mut config: Json = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for (key, value) in changes {
        config[*key] = value.clone();
    }
    std::fs::write(path, config.to_string()).unwrap();
    bench
}

fn refused(bench: &Bench, words: &str) -> Ended {
    let ended = bench.harness(words);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.starts_with("error: "), "{}", ended.stderr);
    ended
}

#[test]
fn what_the_engine_refuses_is_described_first() {
    let bench = with_config(&[("logit_scale", json!(2.0))]);
    let ended = refused(&bench, "models info ./tiny-llama");
    assert!(
        ended.stdout.contains("llama, 2 layers, width 32"),
        "{}",
        ended.stdout
    );
    assert!(ended.stdout.contains("BOS"), "{}", ended.stdout);
    assert!(!ended.stdout.contains("memory"), "{}", ended.stdout);
    assert!(ended.stderr.contains("`logit_scale`"), "{}", ended.stderr);
    let ended = refused(&bench, "models info ./tiny-llama --json");
    let value: Json = serde_json::from_str(&ended.stdout).unwrap();
    assert!(
        value["refused"].as_str().unwrap().contains("`logit_scale`"),
        "{value:#}"
    );
    assert_eq!(value["memory"], Json::Null);
    assert_eq!(value["model"]["n_vocab"], 320);
}

#[test]
fn what_does_not_open_is_described_by_its_header() {
    let bench = with_config(&[("model_type", json!("mamba"))]);
    let ended = refused(&bench, "models info ./tiny-llama");
    assert!(
        ended.stdout.contains("mamba, 2 layers, width 32"),
        "{}",
        ended.stdout
    );
    assert!(ended.stdout.contains("39 072"), "{}", ended.stdout);
    assert!(ended.stderr.contains("`mamba`"), "{}", ended.stderr);
    let ended = refused(&bench, "models info ./tiny-llama --json");
    let value: Json = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(value["model"], Json::Null);
    assert_eq!(value["header"]["n_layer"], 2);
    assert!(
        value["refused"].as_str().unwrap().contains("`mamba`"),
        "{value:#}"
    );
}

/// There is nothing to describe, so nothing goes to stdout.
#[test]
fn what_is_no_model_is_only_refused() {
    let bench = Bench::new();
    let ended = refused(&bench, "models info ./nothing.gguf");
    assert_eq!(ended.stdout, "");
    std::fs::write(bench.path("x.gguf"), b"GGUF").unwrap();
    assert_eq!(refused(&bench, "models info ./x.gguf").stdout, "");
}
