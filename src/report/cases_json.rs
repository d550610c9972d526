//! Single cases as JSON, for `harness show --json` with a closer look.

use serde_json::{Map, Value, json};

use crate::table::{StoredCase, StoredRun};

use super::json::SCHEMA_VERSION;

/// `cases` with their choices and metrics, under the names of the tables' columns.
pub fn cases(run: &StoredRun, cases: &[&StoredCase]) -> String {
    let cases: Vec<Value> = cases.iter().map(|it| case(run, it)).collect();
    let document = json!({
        "schema_version": SCHEMA_VERSION,
        "experiment": run.manifest.experiment,
        "run": run.manifest.run,
        "cases": cases,
    });
    super::escape::document(&document)
}

fn case(run: &StoredRun, case: &StoredCase) -> Value {
    let is_same = |model: &str, variant: &str, example_id: &str| {
        case.repeat == 0
            && (model, variant, example_id) == (&case.model, &case.variant, &case.example_id)
    };
    let choices: Vec<Value> = run
        .choices
        .iter()
        .filter(|it| is_same(&it.model, &it.variant, &it.example_id))
        .map(|it| {
            json!({
                "choice_index": it.choice_index,
                "choice": it.choice,
                "is_target": it.is_target,
                "loglikelihood": it.loglikelihood,
                "n_tokens": it.n_tokens,
            })
        })
        .collect();
    let metrics: Map<String, Value> = run
        .case_metrics
        .iter()
        .zip(&case.metrics)
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    json!({
        "model": case.model,
        "variant": case.variant,
        "example_id": case.example_id,
        "repeat": case.repeat,
        "status": case.status.as_str(),
        "prompt": case.prompt,
        "target": case.target,
        "n_context_tokens": case.n_context_tokens,
        "n_target_tokens": case.n_target_tokens,
        "n_target_bytes": case.n_target_bytes,
        "loglikelihood": case.loglikelihood,
        "greedy_match": case.greedy_match,
        "boundary_merge": case.boundary_merge,
        "predicted_choice": case.predicted_choice,
        "target_choice": case.target_choice,
        "generation": case.generation,
        "finish_reason": case.finish_reason,
        "n_generated_tokens": case.n_generated_tokens,
        "metrics": metrics,
        "choices": choices,
    })
}
