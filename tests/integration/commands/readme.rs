//! The commands that README.md tells a stranger to type.

use std::path::Path;
use std::process::Command;

use super::{Bench, PHRASES};
use crate::references;

/// The lines of fenced blocks that call `harness`, as the words after it.
fn commands(readme: &str) -> Vec<Vec<String>> {
    let mut is_code = false;
    let mut commands = Vec::new();
    for line in readme.lines().map(str::trim) {
        if line.starts_with("```") {
            is_code = !is_code;
            continue;
        }
        let line = line.trim_start_matches("$ ");
        let words = ["harness ", "cargo run --release -- "];
        let words = words
            .into_iter()
            .find_map(|it| line.strip_prefix(it))
            .filter(|_| is_code);
        // A comment after the command is no part of it.
        let words = words.map(|it| it.split(" #").next().unwrap_or_default());
        commands.extend(words.map(split));
    }
    commands
}

/// Words as a shell sees them, as far as quotes go.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    for c in line.trim().chars() {
        match quote {
            Some(it) if it == c => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == ' ' => words.push(std::mem::take(&mut word)),
            _ => word.push(c),
        }
    }
    words.push(word);
    words.retain(|it| !it.is_empty());
    words
}

fn harness(words: &[String], also: &[&str]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(words)
        .args(also)
        .output()
        .unwrap()
}

#[test]
fn the_commands_of_the_readme_are_understood() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let commands = commands(&readme);
    assert!(!commands.is_empty(), "README.md shows no command");
    for words in commands {
        // With `--help` behind them, words are only read; one that is unknown is refused.
        let output = harness(&words, &["--help"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "harness {}: {said}",
            words.join(" ")
        );
        let is_quick = ["plan", "schema", "completions"].contains(&words[0].as_str())
            || words.join(" ") == "models list";
        if is_quick {
            let output = harness(&words, &[]);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.success(),
                "harness {}: {said}",
                words.join(" ")
            );
        }
    }
}

/// Blocks of Python, each as one program.
fn python_blocks(readme: &str) -> Vec<&str> {
    let blocks = readme.split("```python\n").skip(1);
    blocks.filter_map(|it| it.split("\n```").next()).collect()
}

/// Needs a Python with polars, duckdb, pandas and pyarrow: `tests/references.sh` installs one.
#[test]
fn the_python_of_the_readme_runs_on_real_tables() {
    let readme = include_str!("../../../README.md");
    let blocks = python_blocks(readme);
    assert_eq!(blocks.len(), 3, "polars, duckdb and pandas");
    let Some(python) = references::python(&["polars", "duckdb", "pandas", "pyarrow"]) else {
        return;
    };
    let bench = Bench::new();
    bench.write(
        "translate.toml",
        &PHRASES.replace("\"phrases\"", "\"translate\""),
    );
    bench.ok("run translate.toml --limit 8 --out results");
    for block in blocks {
        let output = Command::new(&python)
            .current_dir(bench.folder.path())
            .args(["-c", block])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{block}\n{said}");
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(shown.contains("few"), "{block}\n{shown}");
    }
}

#[test]
fn commands_are_found_in_fenced_blocks() {
    let readme = "harness prose\n```sh\nharness run 'a b.toml' # why\n$ cargo run --release -- \
                  plan x.toml\ncargo test --release\n```\n`harness show`\n";
    assert_eq!(
        commands(readme),
        [vec!["run", "a b.toml"], vec!["plan", "x.toml"]]
    );
}
