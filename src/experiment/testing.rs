//! A small valid experiment for tests to add to.

use std::path::Path;

use super::{Diagnostics, ExperimentSpec, Overlay, parse};

/// Parses a small valid experiment in which `tables` replaces the tables of the same name.
fn read(tables: &str, set: &[(&str, &str)]) -> Result<ExperimentSpec, Diagnostics> {
    let defaults = [
        ("[experiment]", "name = 'x'"),
        ("[models.", "smol]\nsource = 'builtin:smol'"),
        ("[dataset]", "path = 'd.jsonl'\ntarget = '{{ fr }}'"),
        ("[variants.", "bare]\ntemplate = '{{ en }}'"),
    ];
    let mut text = String::new();
    for (head, rest) in defaults {
        if !tables.contains(head) {
            let newline = if head.ends_with(']') { "\n" } else { "" };
            text.extend([head, newline, rest, "\n"]);
        }
    }
    text.push_str(tables);
    let set = set
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    parse(Path::new("x.toml"), text, &Overlay { profile: None, set }).map(|(it, _)| it.spec)
}

/// The spec of a valid experiment with these tables.
pub(super) fn spec(tables: &str) -> ExperimentSpec {
    read(tables, &[]).unwrap_or_else(|problems| panic!("{tables}: {problems:?}"))
}

/// The messages about an experiment with these tables, a line each; empty if it is valid.
pub(super) fn message(tables: &str) -> String {
    message_with(tables, &[])
}

/// [`message`] with `--set` flags.
pub(super) fn message_with(tables: &str, set: &[(&str, &str)]) -> String {
    let problems = read(tables, set).err().unwrap_or_default();
    problems
        .iter()
        .map(|it| it.message.as_str())
        .collect::<Vec<_>>()
        .join("\n")
}
