//! `harness query`: SQL over the tables of several runs.

use serde_json::{Value as Json, json};

use super::Bench;

#[test]
fn all_runs_are_asked_at_once() {
    let bench = Bench::new();
    bench.ok("run phrases.toml colours.toml --limit 6 --tokens");
    bench.ok("run phrases.toml --limit 3");
    let ask = |words: &[&str]| -> Json {
        let mut command = bench.command("query --json");
        let output = command.args(words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {said}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let counts =
        ask(&["SELECT experiment, count(*) AS n FROM cases GROUP BY experiment, run ORDER BY n"]);
    // Three examples of four variants, six of two, six of four.
    assert_eq!(counts["columns"], json!(["experiment", "n"]));
    let expected = json!([["phrases", 12], ["colours", 12], ["phrases", 24]]);
    let sorted = |it: &Json| {
        let mut rows: Vec<String> = it.as_array().unwrap().iter().map(Json::to_string).collect();
        rows.sort();
        rows
    };
    assert_eq!(sorted(&counts["rows"]), sorted(&expected));
    // A column of one experiment is empty in the other's rows.
    let generations = ask(&["SELECT DISTINCT experiment FROM cases WHERE exact_match IS NOT NULL"]);
    assert_eq!(generations["rows"], json!([["phrases"]]));
    // The sum of a target's tokens is its loglikelihood, across two tables.
    let gap = ask(&[
        "SELECT max(abs(c.loglikelihood - t.total)) < 1e-9 FROM cases c JOIN \
         (SELECT run, variant, example_id, sum(logprob) AS total FROM tokens \
          WHERE experiment = 'phrases' GROUP BY run, variant, example_id) t \
         USING (run, variant, example_id)",
    ]);
    assert_eq!(gap["rows"], json!([[1]]));
    let latest = ask(&["--run", "phrases/latest", "SELECT count(*) FROM examples"]);
    assert_eq!(latest["rows"], json!([[3]]));
    let runs = ask(&["SELECT count(*), min(status) FROM runs"]);
    assert_eq!(runs["rows"], json!([[3, "complete"]]));
}

#[test]
fn what_cannot_be_answered_is_explained() {
    let bench = Bench::new();
    let refused = |statement: &str| {
        let output = bench.command("query").arg(statement).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{statement}");
        assert!(output.stdout.is_empty());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refused("SELECT 1").starts_with("error: there are no runs in"));
    bench.ok("run colours.toml --limit 2");
    let said = refused("SELECT accuracy FROM metrics");
    assert!(
        said.starts_with("error: no such column: accuracy"),
        "{said}"
    );
    assert!(
        said.contains("metrics: experiment, run, model, variant"),
        "{said}"
    );
    assert!(refused("DROP TABLE cases").contains("gives no rows"));
    // A damaged run is named and left out; the others are still asked.
    let damaged = bench.runs("results", "colours").remove(0);
    bench.ok("run colours.toml --limit 2");
    std::fs::write(damaged.join("cases.parquet"), "not parquet").unwrap();
    let output = bench
        .command("query --csv")
        .arg("SELECT count(*) AS n FROM cases")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "n\r\n4\r\n");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("left out: "), "{said}");
}
