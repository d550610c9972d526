//! `tests/FAULTS.md` held against the sources, so that the table cannot rot.

use std::collections::BTreeSet;
use std::path::Path;

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn table() -> String {
    std::fs::read_to_string(root().join("tests/FAULTS.md")).unwrap()
}

/// The texts between backticks that name a test: `path.rs::name`.
pub(super) fn named(text: &str) -> Vec<(&str, &str)> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|it| it.split_once(".rs::"))
        .collect()
}

/// Names of the functions behind `#[test]`, or inside `proptest!`, in a source.
fn tests_of(source: &str) -> BTreeSet<&str> {
    let mut tests = BTreeSet::new();
    let (mut is_marked, mut is_property) = (false, false);
    for line in source.lines() {
        let line = line.trim_start();
        is_property |= line.starts_with("proptest!");
        if line == "#[test]" {
            is_marked = true;
        } else if let Some(rest) = line.strip_prefix("fn ") {
            // A property needs no attribute of its own.
            if is_marked || is_property {
                tests.extend(rest.split('(').next());
            }
            is_marked = false;
        }
    }
    tests
}

#[test]
fn every_test_that_is_named_exists() {
    let table = table();
    let named = named(&table);
    assert!(150 < named.len(), "{}", named.len());
    assert_exist(&named);
}

/// Holds that every named test stands in the source that it is said to stand in.
#[track_caller]
pub(super) fn assert_exist(named: &[(&str, &str)]) {
    let missing: Vec<String> = named
        .iter()
        .filter(|(path, name)| {
            let source = std::fs::read_to_string(root().join(format!("{path}.rs")));
            !source.is_ok_and(|it| tests_of(&it).contains(name))
        })
        .map(|(path, name)| format!("{path}.rs::{name}"))
        .collect();
    assert!(missing.is_empty(), "named, but not there: {missing:?}");
}

/// Cells of every row that begins with a number of the catalogue.
fn rows(table: &str) -> Vec<Vec<&str>> {
    let is_number = |cell: &str| {
        let digits = cell.trim_start_matches(|it: char| it.is_ascii_uppercase());
        digits.len() + 1 == cell.len() && digits.parse::<u32>().is_ok()
    };
    table
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|line| line.split(" | ").collect::<Vec<_>>())
        .filter(|cells| is_number(cells[0]))
        .collect()
}

#[test]
fn every_fault_and_invariant_has_one_row_with_its_state() {
    let table = table();
    let rows = rows(&table);
    let kinds = [
        ("S", 16),
        ("P", 8),
        ("M", 12),
        ("T", 8),
        ("D", 18),
        ("R", 13),
        ("L", 6),
        ("N", 24),
    ];
    let expected: Vec<String> = kinds
        .iter()
        .flat_map(|(kind, n)| (1..=*n).map(move |it| format!("{kind}{it}")))
        .collect();
    let found: Vec<&str> = rows.iter().map(|it| it[0]).collect();
    assert_eq!(found, expected);
    for cells in rows {
        let (state, said) = (cells[2], cells.join(" "));
        assert!(
            ["held", "open", "not applicable"].contains(&state) || state.starts_with("open: "),
            "{said}"
        );
        assert_eq!(state.starts_with("open"), said.contains("open: "), "{said}");
        if state == "held" {
            assert!(!named(&said).is_empty(), "no test holds {said}");
        }
    }
}

#[test]
fn names_of_tests_are_read_out_of_sources() {
    let source =
        "#[test]\nfn a() {}\nfn b() {}\n#[cfg(unix)]\n    #[test]\n    /// Doc.\n    fn c() {";
    assert_eq!(tests_of(source), BTreeSet::from(["a", "c"]));
    assert_eq!(
        tests_of("proptest! {\n    fn d(x in 0..1) {"),
        BTreeSet::from(["d"])
    );
    assert_eq!(
        named("`a/b.rs::c` and `d`, `e.rs::f`"),
        [("a/b", "c"), ("e", "f")]
    );
}
