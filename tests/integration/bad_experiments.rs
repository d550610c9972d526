//! Broken experiments: each is refused with a message that lets a tired person fix it.
//!
//! Those named `plan-*` are well-formed files that do not fit their data, templates or
//! models; `spec-*` are tested beside the parser. A new case is a new file, not new code.

use std::path::{Path, PathBuf};
use std::process::Command;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// What `harness plan` says about an experiment that it must refuse.
fn refusal(folder: &Path, file: &str, allowed: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    let output = command
        .current_dir(folder)
        .args(["plan", "--offline", file])
        .args(allowed)
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{file}: {said}");
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "",
        "{file}: results of nothing"
    );
    said
}

/// The same wherever `folder` is: it is named in hints, whose lines then break elsewhere.
fn anywhere(said: &str, folder: &Path) -> String {
    match said.split_once("help:") {
        Some((before, help)) if help.contains("--allow-path") => {
            let words: Vec<&str> = help.split_whitespace().collect();
            let help = words
                .join(" ")
                .replace(folder.to_str().unwrap(), "[folder]");
            format!("{before}help: {help}\n")
        }
        _ => said.to_owned(),
    }
}

#[test]
fn bad_experiments_explain_themselves() {
    let folder = fixtures().join("bad-experiments");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../fixtures/bad-experiments/snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        insta::glob!("../fixtures/bad-experiments", "plan-*.toml", |path| {
            let file = path.file_name().unwrap().to_str().unwrap();
            let said = refusal(&folder, file, &["--allow-path", "../models"]);
            insta::assert_snapshot!(anywhere(&said, Path::new(env!("CARGO_MANIFEST_DIR"))));
        });
    });
}

/// What can be read of a file with mistakes is checked against the data too, and no mistake
/// of the one may bring down the check of the other.
#[test]
fn whatever_is_wrong_with_a_file_its_data_are_checked_too() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in std::fs::read_dir(project.join("experiments/data")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), data.join(file.file_name())).unwrap();
    }
    let mut n_files = 0;
    for file in std::fs::read_dir(fixtures().join("bad-experiments")).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        // Some are broken only by the flags that their first line names.
        let is_file = name.starts_with("spec-") && path.is_file();
        if !is_file || text.starts_with("# args:") {
            continue;
        }
        std::fs::copy(&path, scratch.path().join(name)).unwrap();
        let said = refusal(scratch.path(), name, &[]);
        assert!(said.contains(name), "{name}: {said}");
        n_files += 1;
    }
    assert!(40 < n_files, "{n_files}");
    // The choices that an empty list leaves to the rows.
    let start = "[experiment]\nname = \"x\"\n[models.m]\nsource = \"builtin:smollm2-135m-instruct\"\n\
                 [variants.bare]\ntemplate = \"{{ text }}\"\n\
                 [dataset]\npath = \"data/reviews.jsonl\"\ntarget = \"{{ label }}\"\n";
    for choices in [
        "[]",
        "[\"positive\"]",
        "[\"\", \"\"]",
        "[\"{{ id }}\"]",
        "\"\"",
        "3",
    ] {
        let file = "choices.toml";
        std::fs::write(
            scratch.path().join(file),
            format!("{start}choices = {choices}\n"),
        )
        .unwrap();
        let said = refusal(scratch.path(), file, &[]);
        assert!(said.contains("choice"), "{choices}: {said}");
    }
}

/// A link inside the folder is judged by where it leads.
#[cfg(unix)]
#[test]
fn a_link_does_not_lead_out_of_the_folder() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("experiment");
    std::fs::create_dir(&folder).unwrap();
    let outside = scratch.path().join("secret.jsonl");
    std::fs::write(&outside, "{\"en\": \"Yes.\", \"fr\": \"Oui.\"}\n").unwrap();
    std::os::unix::fs::symlink(&outside, folder.join("data.jsonl")).unwrap();
    let model = fixtures().join("models/tiny-llama");
    let text = format!(
        "[experiment]\nname = \"broken\"\n[models.tiny]\nsource = {model:?}\n\
         [dataset]\npath = \"data.jsonl\"\ntarget = \"{{{{ fr }}}}\"\n\
         [variants.bare]\ntemplate = \"{{{{ en }}}}\"\n"
    );
    std::fs::write(folder.join("linked.toml"), &text).unwrap();
    let allowed = ["--allow-path", model.parent().unwrap().to_str().unwrap()];
    let said = refusal(&folder, "linked.toml", &allowed);
    insta::assert_snapshot!(anywhere(&said, &scratch.path().canonicalize().unwrap()), @r#"
    error: the dataset `data.jsonl` lies outside the experiment's folder
       ╭─[linked.toml:6:8]
     6 │ path = "data.jsonl"
       ·        ──────┬─────
       ·              ╰── leads outside
       ╰────
    help: an experiment reads only files in its own folder and below; copy the file there, or allow its folder with `--allow-path [folder]`
    "#);
    // The same file inside the folder is fine.
    std::fs::remove_file(folder.join("data.jsonl")).unwrap();
    std::fs::copy(&outside, folder.join("data.jsonl")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    let output = command
        .current_dir(&folder)
        .args(["plan", "linked.toml"])
        .args(allowed)
        .output()
        .unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
