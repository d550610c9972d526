//! `harness check --junit --github --markdown`: the files, the annotations, the exit code.
//!
//! Whatever the random weights say, a variant that is gone from the file fails, equal requests pass,
//! and so does a minimum of 0.

use std::path::Path;

use serde_json::Value as Json;

use super::{Bench, Ended};

/// The gates of `colours.toml`, the second of which no accuracy breaks.
const GATES: &str = "\n[[gates]]\nmetric = \"acc\"\ncompare = \"baseline\"\nmax_drop = 0.02\n\
                     \n[[gates]]\nmetric = \"acc\"\nmin = 0.0\nuse = \"point\"\n";

/// A bench with a baseline of `bare` and `question`, of which the file has lost `question`.
fn bench() -> Bench {
    let bench = Bench::new();
    let whole = std::fs::read_to_string(bench.path("colours.toml")).unwrap();
    bench.ok("run colours.toml -q");
    bench.ok("baseline save main");
    let (start, _) = whole.split_once("[variants.question]").unwrap();
    bench.write("colours.toml", &format!("{start}{GATES}"));
    bench
}

/// Runs `harness` as a step in the folder, with a summary if one is named.
fn step(bench: &Bench, words: &str, summary: Option<&Path>) -> Ended {
    let mut command = bench.command(words);
    command
        .env("GITHUB_WORKSPACE", bench.folder.path())
        .env_remove("GITHUB_STEP_SUMMARY");
    if let Some(path) = summary {
        command.env("GITHUB_STEP_SUMMARY", path);
    }
    Ended::from(command.output().unwrap())
}

fn gate_line(bench: &Bench) -> usize {
    let text = std::fs::read_to_string(bench.path("colours.toml")).unwrap();
    let before = text.split("[[gates]]").next().unwrap();
    before.matches('\n').count() + 1
}

#[test]
fn a_gate_that_fails_is_reported_wherever_it_is_asked_for() {
    let bench = bench();
    let summary = bench.path("summary.md");
    std::fs::write(&summary, "An earlier command.").unwrap();
    let file = bench.path("colours.toml").display().to_string();
    let words = format!("check {file} -q --junit junit.xml --github --markdown comment.md");
    let ended = step(&bench, &words, Some(&summary));
    assert_eq!(ended.code, Some(1), "{}\n{}", ended.stdout, ended.stderr);
    let line = gate_line(&bench);

    let annotation = format!(
        "::error file=colours.toml,line={line},title=FAILED%3A acc of tiny · question vs baseline \
         main::the variant is gone and not listed as `retired`"
    );
    let told: Vec<&str> = ended
        .stderr
        .lines()
        .filter(|it| it.starts_with("::"))
        .collect();
    assert_eq!(told, [annotation]);
    assert!(!ended.stdout.contains("::error"), "{}", ended.stdout);

    let junit = std::fs::read_to_string(bench.path("junit.xml")).unwrap();
    for part in [
        "<testsuites name=\"harness check\" tests=\"3\" failures=\"1\" errors=\"0\">",
        "<testcase name=\"acc · question vs baseline main\" classname=\"colours.tiny\">",
        "<failure message=\"the variant is gone and not listed as `retired`\" type=\"failed\">",
        "<testcase name=\"acc · bare\" classname=\"colours.tiny\">",
        &format!("colours.toml:{line}]"),
    ] {
        assert!(junit.contains(part), "{part} is missing in\n{junit}");
    }

    let comment = std::fs::read_to_string(bench.path("comment.md")).unwrap();
    assert!(comment.starts_with("### `colours`: failed\n\n3 checks: 2 passed, 1 failed.\n"));
    assert!(comment.contains("| **failed** | `acc` of `tiny` · `question` vs `baseline main` |"));
    let again = format!(": `harness check {file} -q`\n");
    assert!(comment.ends_with(&again), "{comment}");
    let summary = std::fs::read_to_string(summary).unwrap();
    assert_eq!(summary, format!("An earlier command.\n{comment}"));
}

#[test]
fn a_report_that_cannot_be_written_does_not_hide_the_verdict() {
    let bench = bench();
    let words = "check colours.toml -q --json --github --junit none/junit.xml --markdown m.md";
    let ended = step(&bench, words, None);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    let said = "error: cannot write the report `none/junit.xml`\n  cause: ";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
    assert!(bench.path("m.md").is_file(), "the other report is there");
    let result: Json = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(result["exit_code"], 3);
    assert_eq!(result["checks"][0]["state"], "failed");
}

#[test]
fn a_check_that_passes_is_not_annotated() {
    let bench = Bench::new();
    let text = std::fs::read_to_string(bench.path("colours.toml")).unwrap();
    bench.write("colours.toml", &format!("{text}{GATES}"));
    bench.ok("run colours.toml -q");
    bench.ok("baseline save main");
    let ended = step(&bench, "check colours.toml -q --github --junit j.xml", None);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("::"), "{}", ended.stderr);
    let junit = std::fs::read_to_string(bench.path("j.xml")).unwrap();
    assert!(
        junit.contains("tests=\"4\" failures=\"0\" errors=\"0\""),
        "{junit}"
    );
}
