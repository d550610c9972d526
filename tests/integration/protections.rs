//! `tests/protections` held against the sources, so that the protections in it can be taken out.

use std::collections::{BTreeMap, BTreeSet};

use super::faults::{assert_exist, named, root};

/// A place in the sources at which switches are put: a file, and what stands there once.
type Place = (String, String);

/// The names in `switches.txt`, and all places.
fn switches() -> (BTreeSet<String>, Vec<Place>) {
    let text = std::fs::read_to_string(root().join("tests/protections/switches.txt")).unwrap();
    let (mut names, mut places) = (BTreeSet::new(), Vec::<Place>::new());
    for line in text.lines() {
        if let Some(named) = line.strip_prefix("# ") {
            let (name, _) = named.split_once(": ").unwrap();
            assert!(names.insert(name.to_owned()), "{name} stands twice");
        } else if let Some(old) = line.strip_prefix('-') {
            let (_, text) = places.last_mut().unwrap();
            *text += old;
            *text += "\n";
        } else if line.starts_with("src/") {
            places.push((line.to_owned(), String::new()));
        }
    }
    (names, places)
}

/// What no longer stands there is to be written anew: the same protection, taken out of the code
/// as it is now.
#[test]
fn every_protection_can_still_be_taken_out() {
    let (names, places) = switches();
    assert!(250 < names.len(), "{}", names.len());
    let mut sources = BTreeMap::new();
    for (file, old) in places {
        let source = sources
            .entry(file.clone())
            .or_insert_with(|| std::fs::read_to_string(root().join(&file)).unwrap());
        let old = old.trim_end_matches('\n');
        assert_eq!(source.matches(old).count(), 1, "{file}: {old}");
    }
}

/// A row, or a place among those that were not measured.
#[test]
fn every_protection_has_a_row_with_a_test_that_holds_it() {
    let table = std::fs::read_to_string(root().join("tests/PROTECTIONS.md")).unwrap();
    let (_, rest) = table.split_once("## Not measured").unwrap();
    let (listed, _) = rest.split_once("##").unwrap();
    let (names, _) = switches();
    let mut found: BTreeSet<String> = listed
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect();
    for row in table.lines() {
        let cells: Vec<&str> = row.trim_matches(['|', ' ']).split(" | ").collect();
        if let [name, _, _, tests] = cells[..]
            && names.contains(name)
        {
            let tests = named(tests);
            assert!(!tests.is_empty(), "no test holds {name}");
            assert_exist(&tests);
            assert!(found.insert(name.to_owned()), "{name} stands twice");
        }
    }
    assert_eq!(found, names);
}
