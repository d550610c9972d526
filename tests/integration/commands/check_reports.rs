//! `harness check --junit --github --markdown`: the files, the annotations, the exit code.
//!
//! Whatever the random weights say, a variant that is gone from the file fails, equal requests pass,
//! and so does a minimum of 0.

use std::path::Path;

use serde_json::Value as Json;

use super::{Bench, Ended};
use crate::references;

/// Checks XML files by a schema; ends with another code than 0 at the first that breaks it.
const VALIDATE: &str = "import sys, xmlschema\n\
                        schema = xmlschema.XMLSchema(sys.argv[1])\n\
                        for path in sys.argv[2:]:\n    schema.validate(path)\n";

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
         main::the variant is gone and not listed as `retired`%0Aif it was removed on purpose, \
         name it in the gate's `retired`"
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

/// A pull request changes its own file: only there does GitHub show an annotation.
#[test]
fn an_annotation_stands_in_the_file_of_the_candidate() {
    let bench = bench();
    let own = std::fs::read_to_string(bench.path("colours.toml")).unwrap();
    let question = "[variants.question]\ntemplate = \"{{ en }} Size:\"\n";
    let base = own.replacen("\n[[gates]]", &format!("\n{question}\n[[gates]]"), 1);
    std::fs::create_dir(bench.path("base")).unwrap();
    bench.write("base/colours.toml", &base);
    for file in ["phrases.jsonl", "phrases.train.jsonl"] {
        std::fs::copy(bench.path(file), bench.path("base").join(file)).unwrap();
    }
    std::fs::create_dir(bench.path("base/tiny-llama")).unwrap();
    for file in std::fs::read_dir(bench.path("tiny-llama")).unwrap() {
        let file = file.unwrap();
        let to = bench.path("base/tiny-llama").join(file.file_name());
        std::fs::copy(file.path(), to).unwrap();
    }
    let words = "check colours.toml --against base/colours.toml -q --github --markdown m.md";
    let annotated = || {
        let ended = step(&bench, words, None);
        assert_eq!(ended.code, Some(1), "{}\n{}", ended.stdout, ended.stderr);
        let mut lines = ended.stderr.lines().filter(|it| it.starts_with("::"));
        lines.next().unwrap().to_owned()
    };
    let said = "title=FAILED%3A acc of tiny · question vs base/colours.toml::the variant is gone";
    let line = gate_line(&bench);
    let same = annotated();
    let start = format!("::error file=colours.toml,line={line},{said}");
    assert!(same.starts_with(&start), "{same}");
    assert!(!same.contains("only"), "{same}");

    bench.write(
        "colours.toml",
        &own.replace("max_drop = 0.02", "max_drop = 0.5"),
    );
    let edited = annotated();
    let start = format!("::error file=colours.toml,line=1,{said}");
    assert!(edited.starts_with(&start), "{edited}");
    let base_line = base
        .split("[[gates]]")
        .next()
        .unwrap()
        .matches('\n')
        .count()
        + 1;
    let end = format!("%0Athe gate stands at base/colours.toml:{base_line} only");
    assert!(edited.ends_with(&end), "{edited}");
    let comment = std::fs::read_to_string(bench.path("m.md")).unwrap();
    for part in [
        format!("do not decide: `colours.toml:{line}`."),
        format!("still decide: `base/colours.toml:{base_line}`."),
    ] {
        assert!(comment.contains(&part), "{part} is missing in\n{comment}");
    }
}

/// A report of an earlier check must not stand for one that judged nothing.
#[test]
fn a_refused_check_says_so_in_its_reports() {
    let bench = bench();
    let summary = bench.path("summary.md");
    let reports = "-q --github --junit j.xml --markdown m.md";
    let assert_refused = |words: &str, why: &str| {
        for old in ["j.xml", "m.md", "summary.md"] {
            bench.write(old, "");
        }
        let ended = step(&bench, &format!("{words} {reports}"), Some(&summary));
        assert_eq!(ended.code, Some(2), "{}\n{}", ended.stdout, ended.stderr);
        let read = |name: &str| std::fs::read_to_string(bench.path(name)).unwrap();
        let start = "::error file=colours.toml,title=harness check%3A refused::";
        assert!(ended.stderr.contains(start), "{}", ended.stderr);
        let junit = read("j.xml");
        assert!(
            junit.contains("tests=\"1\" failures=\"0\" errors=\"1\""),
            "{junit}"
        );
        assert!(junit.contains(why), "{junit}");
        let comment = read("m.md");
        assert!(
            comment.starts_with("### `colours.toml`: refused\n\nNothing was judged: "),
            "{comment}"
        );
        assert!(comment.contains(why), "{comment}");
        assert_eq!(read("summary.md"), format!("\n{comment}"));
    };
    assert_refused("check colours.toml --limit 6", "the runs differ in 6 rows");
    assert_refused(
        "check colours.toml --against none",
        "neither a run nor a baseline",
    );
    let own = std::fs::read_to_string(bench.path("colours.toml")).unwrap();
    bench.write("colours.toml", &own.replace("[dataset]", "[dateset]"));
    assert_refused("check colours.toml", "the experiment was refused");
}

/// Jenkins checks reports by this schema before it shows them.
#[test]
fn junit_files_keep_to_the_schema_of_jenkins() {
    let Some(python) = references::python(&["xmlschema"]) else {
        return;
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let bench = bench();
    let failed = step(&bench, "check colours.toml -q --junit failed.xml", None);
    assert_eq!(failed.code, Some(1));
    let words = "check colours.toml -q --against none --junit refused.xml";
    assert_eq!(step(&bench, words, None).code, Some(2));
    // What a unit test holds the writer to: every kind of check.
    let name = "harness__report__junit__tests__every_kind_of_check_has_its_element.snap";
    let snapshot = std::fs::read_to_string(root.join("src/report/snapshots").join(name)).unwrap();
    let start = snapshot.find("<?xml").unwrap();
    bench.write("every.xml", &snapshot[start..]);
    let is_valid = |names: &[&str]| {
        let ended = std::process::Command::new(&python)
            .args(["-c", VALIDATE])
            .arg(root.join("tests/fixtures/junit/junit-10.xsd"))
            .args(names.iter().map(|it| bench.path(it)))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        (ended.status.success(), said)
    };
    let (is_ok, said) = is_valid(&["failed.xml", "refused.xml", "every.xml"]);
    assert!(is_ok, "{said}");
    bench.write(
        "broken.xml",
        &snapshot[start..].replace("classname=", "class="),
    );
    assert!(!is_valid(&["broken.xml"]).0, "the validator sees mistakes");
}
