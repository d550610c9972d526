//! File formats of weights: read exactly, or refused with what is wrong.

mod folders;
mod generated;
mod hostile;
mod tensor_types;

use std::path::{Path, PathBuf};

use harness::engine::local::LocalEngine;
use harness::experiment::ModelSource;
use harness::model::{self, Model, ModelError, OpenOptions};
use serde_json::Value as Json;

/// Largest deviation of a logit from the reference.
const TOLERANCE: f64 = 1e-4;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models")
}

/// `types/goldens.json`, which `make_types.py` writes.
fn goldens() -> Json {
    let text = std::fs::read(fixtures().join("types/goldens.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn open(base: &Path, path: &str) -> Result<Model, ModelError> {
    let options = OpenOptions {
        offline: true,
        base: base.to_owned(),
        ..OpenOptions::default()
    };
    model::open(&ModelSource::Path(path.into()), &options, &mut |_| {})
}

/// Why the model cannot be opened or loaded, with every cause.
fn refusal(base: &Path, path: &str) -> String {
    let model = match open(base, path) {
        Ok(model) => model,
        Err(err) => return chain(&err),
    };
    match LocalEngine::load(&model) {
        Ok(_) => panic!("{path} was accepted"),
        Err(err) => chain(&err),
    }
}

fn chain(err: &dyn std::error::Error) -> String {
    match err.source() {
        Some(cause) => format!("{err}: {}", chain(cause)),
        None => err.to_string(),
    }
}

/// The largest deviation from rows of logits as `{"position", "values"}`.
fn deviation(rows: &[Vec<f32>], golden: &Json) -> f64 {
    let mut worst = 0f64;
    let golden = golden.as_array().unwrap();
    assert!(!golden.is_empty());
    for row in golden {
        let got = &rows[row["position"].as_u64().unwrap() as usize];
        let want = row["values"].as_array().unwrap();
        assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(want) {
            worst = worst.max((f64::from(*got) - want.as_f64().unwrap()).abs());
        }
    }
    worst
}

fn ids(json: &Json) -> Vec<u32> {
    let list = json.as_array().unwrap().iter();
    list.map(|it| it.as_u64().unwrap() as u32).collect()
}
