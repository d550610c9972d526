//! The reference numbers of `tests/fixtures/stats/make_goldens.py`, for the tests of this room.

use serde_json::Value;

/// The array stored under `name`.
pub(super) fn goldens(name: &str) -> Vec<Value> {
    let text = include_str!("../../tests/fixtures/stats/goldens.json");
    let all: Value = serde_json::from_str(text).unwrap();
    match &all[name] {
        Value::Array(rows) => rows.clone(),
        other => vec![other.clone()],
    }
}

/// The number stored under `key`.
pub(super) fn number(row: &Value, key: &str) -> f64 {
    row[key].as_f64().unwrap()
}

/// The whole number stored under `key`.
pub(super) fn count(row: &Value, key: &str) -> u64 {
    row[key].as_u64().unwrap()
}

/// The list of numbers in `value`.
pub(super) fn numbers(value: &Value) -> Vec<f64> {
    let items = value.as_array().unwrap();
    items.iter().map(|it| it.as_f64().unwrap()).collect()
}

/// Fails unless `got` is `expected` within `tolerance`, relative above 1 and absolute below.
#[track_caller]
pub(super) fn assert_near(got: f64, expected: f64, tolerance: f64, what: &str) {
    let error = (got - expected).abs() / expected.abs().max(1.0);
    assert!(
        error <= tolerance,
        "{what}: got {got:e}, expected {expected:e}, error {error:e}"
    );
}
