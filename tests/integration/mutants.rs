//! `tests/mutants` held against the sources, so that the seeded bugs cannot rot.

use std::path::PathBuf;
use std::process::Command;

use super::faults::{assert_exist, named, root};

fn patches() -> Vec<PathBuf> {
    let folder = std::fs::read_dir(root().join("tests/mutants")).unwrap();
    let paths = folder.map(|it| it.unwrap().path());
    let mut patches: Vec<PathBuf> = paths
        .filter(|it| it.extension().is_some_and(|it| it == "patch"))
        .collect();
    patches.sort_unstable();
    patches
}

/// A patch that no longer applies is to be made anew: `tests/mutants/README.md` says how.
#[test]
fn every_seeded_bug_still_applies() {
    let patches = patches();
    assert!(30 <= patches.len(), "{patches:?}");
    for patch in patches {
        let text = std::fs::read_to_string(&patch).unwrap();
        let asked = text
            .lines()
            .nth(1)
            .and_then(|it| it.strip_prefix("Tests: "));
        let kind = asked.and_then(|it| it.split(' ').next());
        assert!(
            matches!(kind, Some("pure" | "integration")),
            "{}: which tests?",
            patch.display()
        );
        let git = Command::new("git")
            .current_dir(root())
            .args(["apply", "--check"])
            .arg(&patch)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&git.stderr);
        assert!(git.status.success(), "{}: {said}", patch.display());
    }
}

#[test]
fn every_seeded_bug_has_a_row_with_the_tests_that_catch_it() {
    let table = std::fs::read_to_string(root().join("tests/mutants/README.md")).unwrap();
    let rows: Vec<&str> = table.lines().filter(|it| it.starts_with("| `")).collect();
    let names = patches().into_iter().map(|it| {
        let name = it.file_stem().unwrap().to_str().unwrap();
        format!("| `{name}` |")
    });
    let names: Vec<String> = names.collect();
    assert_eq!(rows.len(), names.len());
    for (row, name) in rows.iter().zip(names) {
        assert!(row.starts_with(&name), "{row}: expected {name}");
        let named = named(row);
        assert!(!named.is_empty(), "{row}");
        assert_exist(&named);
    }
}
