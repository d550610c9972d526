//! Commands that need no run, and command lines that are none.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value as Json, json};

use super::{Bench, Ended};

fn json_of(toml: &str) -> Json {
    serde_json::to_value(toml::from_str::<toml::Table>(toml).unwrap()).unwrap()
}

#[test]
fn every_experiment_is_valid_under_the_schema_that_is_printed() {
    let bench = Bench::new();
    let schema: Json = serde_json::from_str(&bench.ok("schema")).unwrap();
    let validator = jsonschema::draft7::new(&schema).unwrap();
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut n_checked = 0;
    for folder in ["experiments", "tests/fixtures/experiments"] {
        for file in std::fs::read_dir(project.join(folder)).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_none_or(|it| it != "toml") {
                continue;
            }
            let experiment = json_of(&std::fs::read_to_string(&path).unwrap());
            let errors: Vec<String> = validator
                .iter_errors(&experiment)
                .map(|it| it.to_string())
                .collect();
            assert_eq!(errors, Vec::<String>::new(), "{}", path.display());
            n_checked += 1;
        }
    }
    assert!(5 <= n_checked, "{n_checked}");
    // A schema that lets everything through would pass the above.
    for name in [
        "spec-unknown-key",
        "spec-wrong-type",
        "spec-unknown-table",
        "spec-missing-name",
    ] {
        let path = project.join(format!("tests/fixtures/bad-experiments/{name}.toml"));
        assert!(
            !validator.is_valid(&json_of(&std::fs::read_to_string(path).unwrap())),
            "{name}"
        );
    }
}

/// The built-in model comes from the model cache, into which it is fetched once.
#[test]
fn what_init_writes_can_be_planned() {
    let bench = Bench::new();
    let said = bench.ok("init demo");
    assert!(said.contains("harness run demo/sentiment.toml"), "{said}");
    for experiment in ["sentiment", "translate"] {
        let plan = bench.ok(&format!("plan demo/{experiment}.toml --limit 5"));
        assert!(plan.contains("5 of "), "{plan}");
    }
    let again = bench.harness("init demo");
    assert_eq!(again.code, Some(2));
    assert!(
        again.stderr.contains("nothing was written"),
        "{}",
        again.stderr
    );
}

#[test]
fn models_are_listed_and_described() {
    let bench = Bench::new();
    assert!(bench.ok("models list").contains("smollm2-135m-instruct"));
    let list: Json = serde_json::from_str(&bench.ok("models list --json")).unwrap();
    assert!(list.to_string().contains("smollm2-135m-instruct"));
    let info = bench.ok("models info ./tiny-llama");
    assert!(info.contains("llama") && info.contains("128"), "{info}");
    let ended = bench.harness("models info ./nothing");
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("no model at"), "{}", ended.stderr);
}

#[test]
fn a_command_line_that_is_none_is_refused_with_2() {
    let bench = Bench::new();
    for words in [
        "run",
        "run phrases.toml --frehs",
        "run phrases.toml --limit 0",
        "run phrases.toml -q -v",
        "run nothing.toml",
        "plan phrases.toml --set generation",
        "plan phrases.toml --set generation.max_tokns=2",
        "plan phrases.toml --profile nope",
        "plan phrases.toml --model nope",
        "walk phrases.toml",
        "try phrases.toml",
        "show --nope",
    ] {
        let ended = bench.harness(words);
        assert_eq!(ended.code, Some(2), "{words}: {}", ended.stderr);
        assert_eq!(ended.stdout, "", "{words}");
        assert!(
            ended.stderr.starts_with("error: "),
            "{words}: {}",
            ended.stderr
        );
    }
    assert!(!bench.path("results").exists());
}

#[test]
fn help_version_and_completions_are_results() {
    let bench = Bench::new();
    assert!(
        bench.ok("--help").contains("130"),
        "exit codes are documented"
    );
    assert!(bench.ok("--version").starts_with("harness "));
    assert!(bench.ok("completions bash").contains("harness"));
}

#[test]
fn results_go_where_they_are_told_to() {
    let bench = Bench::new();
    let command = |words: &str| {
        let mut command = bench.command(words);
        command.env("HARNESS_RESULTS", bench.path("from-env"));
        Ended::from(command.output().unwrap())
    };
    assert_eq!(command("run colours.toml -q").code, Some(0));
    assert_eq!(command("show").code, Some(0));
    assert_eq!(command("run colours.toml -q --out flag").code, Some(0));
    for folder in ["from-env", "flag"] {
        assert_eq!(bench.runs(folder, "colours").len(), 1, "{folder}");
        assert!(
            bench
                .path(folder)
                .join(".store/responses.sqlite3")
                .is_file(),
            "{folder}"
        );
    }
    assert!(!bench.path("results").exists());
    let ended = bench.harness("run colours.toml --out phrases.jsonl");
    assert_eq!(ended.code, Some(3));
    assert!(
        ended.stderr.contains("name another folder with `--out`"),
        "{}",
        ended.stderr
    );
    // Told before weights are loaded, which would be refused here.
    let weights = bench.path("tiny-llama/model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let end = bytes.len() - 4;
    bytes[end..].fill(0xff);
    std::fs::write(&weights, bytes).unwrap();
    assert_eq!(bench.harness("run colours.toml --out new").code, Some(2));
    let ended = bench.harness("run colours.toml --out phrases.jsonl");
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let bench = Bench::new();
    let mut command = bench.command("schema");
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = Ended::from(child.wait_with_output().unwrap());
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
}

/// Whoever wrote the data must not be able to steer the terminal of whoever reads it.
#[test]
fn a_store_that_cannot_be_used_ends_with_3_and_says_what_to_do() {
    let bench = Bench::new();
    std::fs::create_dir_all(bench.path("results/.store")).unwrap();
    let store = bench.path("results/.store/responses.sqlite3");
    std::fs::write(
        &store,
        "not a database, but long enough for a header ".repeat(9),
    )
    .unwrap();
    let ended = bench.harness("run colours.toml");
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(3), ""));
    assert!(
        ended.stderr.contains("responses.sqlite3"),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.contains("hint: it is damaged: move it away"),
        "{}",
        ended.stderr
    );
    std::fs::remove_file(&store).unwrap();
    bench.ok("run colours.toml -q");
    // Bytes of the answers themselves change: they are computed again, to the same tables.
    let runs = bench.runs("results", "colours");
    let mut bytes = std::fs::read(&store).unwrap();
    let wal = bench.path("results/.store/responses.sqlite3-wal");
    assert!(!wal.exists(), "a store that was closed is one file");
    let header = 2 * 4096;
    for at in (header..bytes.len()).step_by(97) {
        bytes[at] ^= 0x40;
    }
    std::fs::write(&store, bytes).unwrap();
    let ended = bench.harness("run colours.toml");
    match ended.code {
        Some(0) => super::assert_equal_tables(&runs[0], &bench.runs("results", "colours")[1]),
        Some(3) => assert!(ended.stderr.contains("move it away"), "{}", ended.stderr),
        code => panic!("{code:?}: {}", ended.stderr),
    }
}

/// A pipe that closes early changes neither what is kept nor how the command ends.
#[test]
fn a_run_whose_reader_is_gone_goes_on_to_its_end() {
    let bench = Bench::new();
    let mut command = bench.command("run colours.toml");
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(
        bench.latest("colours").manifest.status,
        harness::table::RunStatus::Complete
    );
}

/// A full disk under standard output is told, and the run is there all the same.
#[cfg(target_os = "linux")]
#[test]
fn results_that_cannot_be_written_out_end_with_3() {
    let bench = Bench::new();
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut command = bench.command("run colours.toml");
    let child = command
        .stdout(Stdio::from(full))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let ended = Ended::from(child.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("cannot write to standard output"),
        "{}",
        ended.stderr
    );
    assert_eq!(
        bench.latest("colours").manifest.status,
        harness::table::RunStatus::Complete
    );
}

#[test]
fn control_characters_from_data_never_reach_the_terminal() {
    let bench = Bench::new();
    let evil = "\u{1b}[2J\u{7}\u{202e}gone";
    let row =
        |id: &str| json!({ "id": id, "en": evil, "fr": format!("{evil}{id}"), "size": "small" });
    bench.rows("phrases.jsonl", &[row("a"), row(evil)]);
    let mut said = Vec::new();
    for words in [
        "run phrases.toml",
        "show --prompts",
        "show --failures",
        "show --example a",
        "show --example nope",
        "plan phrases.toml --prompts 2",
        "try phrases.toml --variant few --generate",
        "run colours.toml --set dataset.target=\"{{en}}\"",
    ] {
        let ended = bench.harness(words);
        said.push((words, ended.stdout));
        said.push((words, ended.stderr));
    }
    assert!(
        said.iter().any(|it| it.1.contains("gone")),
        "the texts are shown"
    );
    for (words, text) in said {
        let steering = text
            .chars()
            .find(|it| (it.is_control() && *it != '\n') || *it == '\u{202e}');
        assert_eq!(steering, None, "{words}: {text:?}");
    }
}
