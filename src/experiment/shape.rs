//! Every key that an experiment file may hold, and the walk that finds the others.
//!
//! This list and the JSON Schema are held in step by a test in [`super::schema()`]; that every
//! key here is also read is held by one in [`super`].

use super::diagnostic::Diagnostic;
use super::fields::{Problems, suggestion};
use super::tree::{Node, Table, Value};

/// What stands under a key, as far as keys go.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// A value without keys of its own.
    Value,
    /// A table with these keys.
    Table(Keys),
    /// A table of tables under names that the user chooses.
    Named(Keys),
    /// A list of tables.
    List(Keys),
    /// Read elsewhere.
    Free,
}

/// The keys of one kind of table.
pub(super) type Keys = &'static [(&'static str, Shape)];

/// The keys of the file.
pub(super) const ROOT: Keys = &[
    ("experiment", Shape::Table(EXPERIMENT)),
    ("models", Shape::Named(MODEL)),
    ("dataset", Shape::Table(DATASET)),
    ("fewshot", Shape::Table(FEWSHOT)),
    ("variants", Shape::Named(VARIANT)),
    ("scoring", Shape::Table(SCORING)),
    ("generation", Shape::Table(GENERATION)),
    ("metrics", Shape::List(METRIC)),
    ("gates", Shape::List(GATE)),
    ("profiles", Shape::Free),
];

const EXPERIMENT: Keys = &[
    ("name", Shape::Value),
    ("seed", Shape::Value),
    ("primary", Shape::Value),
    ("control", Shape::Value),
    ("margin", Shape::Value),
    ("date", Shape::Value),
];

const MODEL: Keys = &[
    ("source", Shape::Value),
    ("sha256", Shape::Value),
    ("device", Shape::Value),
    ("weights", Shape::Value),
    ("api", Shape::Value),
    ("base_url", Shape::Value),
    ("model", Shape::Value),
    ("key", Shape::Value),
    ("max_concurrency", Shape::Value),
    ("retries", Shape::Value),
    ("timeout_s", Shape::Value),
    ("price", Shape::Table(PRICE)),
];

const PRICE: Keys = &[("input", Shape::Value), ("output", Shape::Value)];

const DATASET: Keys = &[
    ("path", Shape::Value),
    ("target", Shape::Value),
    ("choices", Shape::Value),
    ("id", Shape::Value),
    ("filter", Shape::Value),
    ("cluster", Shape::Value),
    ("limit", Shape::Value),
    ("limit_order", Shape::Value),
];

const FEWSHOT: Keys = &[("path", Shape::Value), ("order", Shape::Value)];

const VARIANT: Keys = &[
    ("base", Shape::Value),
    ("template", Shape::Value),
    ("file", Shape::Value),
    ("example", Shape::Value),
    ("shots", Shape::Value),
    ("delimiter", Shape::Value),
    ("system", Shape::Value),
    ("user", Shape::Value),
    ("messages", Shape::List(MESSAGE)),
    ("adapter", Shape::Value),
];

const MESSAGE: Keys = &[
    ("role", Shape::Value),
    ("content", Shape::Value),
    ("file", Shape::Value),
];

const SCORING: Keys = &[("delimiter", Shape::Value), ("overflow", Shape::Value)];

const GENERATION: Keys = &[
    ("max_tokens", Shape::Value),
    ("stop", Shape::Value),
    ("temperature", Shape::Value),
    ("top_k", Shape::Value),
    ("top_p", Shape::Value),
    ("min_p", Shape::Value),
    ("repetition_penalty", Shape::Value),
    ("repeats", Shape::Value),
];

const METRIC: Keys = &[
    ("use", Shape::Value),
    ("name", Shape::Value),
    ("extract", Shape::Value),
    ("normalize", Shape::Value),
    ("value", Shape::Value),
    ("all", Shape::Value),
    ("any", Shape::Value),
    ("none", Shape::Value),
    ("ignore_case", Shape::Value),
    ("pattern", Shape::Value),
    ("tokenize", Shape::Value),
    ("premise", Shape::Value),
];

const GATE: Keys = &[
    ("metric", Shape::Value),
    ("variant", Shape::Value),
    ("model", Shape::Value),
    ("compare", Shape::Value),
    ("max_drop", Shape::Value),
    ("min", Shape::Value),
    ("max", Shape::Value),
    ("confidence", Shape::Value),
    ("on_inconclusive", Shape::Value),
    ("max_failed", Shape::Value),
    ("use", Shape::Value),
    ("retired", Shape::Value),
];

/// Reports every key of `table` that is not in `keys`, at any depth.
///
/// `title` is how messages call the table, `[dataset]`; empty for the file itself.
pub(super) fn check(table: &Table, keys: Keys, title: &str, problems: &Problems) {
    for (key, entry) in table {
        let Some((_, shape)) = keys.iter().find(|(known, _)| known == key) else {
            problems.push(unknown_key(key, title, keys).at(&entry.key, ""));
            continue;
        };
        check_value(&entry.node, *shape, key, title, problems);
    }
}

/// Goes on below a value; one of the wrong type is left to its reader.
fn check_value(node: &Node, shape: Shape, key: &str, outer: &str, problems: &Problems) {
    let title = match shape {
        _ if !outer.is_empty() => format!("{outer}.{key}"),
        Shape::List(_) => format!("[[{key}]]"),
        _ => format!("[{key}]"),
    };
    match (shape, &node.value) {
        (Shape::Table(keys), Value::Table(table)) => check(table, keys, &title, problems),
        (Shape::Named(keys), Value::Table(named)) => {
            for (name, entry) in named {
                if let Some(table) = entry.node.as_table() {
                    check(table, keys, &format!("[{key}.{name}]"), problems);
                }
            }
        }
        (Shape::List(keys), Value::Array(items)) => {
            for table in items.iter().filter_map(Node::as_table) {
                check(table, keys, &title, problems);
            }
        }
        _ => {}
    }
}

/// The complaint about a key, with the closest key, else the table where such a key belongs,
/// else all that this table knows.
fn unknown_key(key: &str, title: &str, keys: Keys) -> Diagnostic {
    let known: Vec<&str> = keys.iter().map(|(known, _)| *known).collect();
    let message = if title.is_empty() {
        format!("unknown table or key `{key}`")
    } else {
        format!("unknown key `{key}` in `{title}`")
    };
    let homes = homes(key);
    let help = if let Some(meant) = suggestion(key, &known) {
        format!("did you mean `{meant}`?")
    } else if !homes.is_empty() {
        format!("`{key}` belongs in {}", homes.join(" or "))
    } else if title.is_empty() {
        let tables: Vec<String> = keys
            .iter()
            .map(|(key, shape)| headline(key, *shape))
            .collect();
        format!("the file may have: {}", tables.join(" "))
    } else {
        format!("the keys of this table are: {}", known.join(", "))
    };
    Diagnostic::error(message).help(help)
}

/// How a table of the file is opened.
fn headline(key: &str, shape: Shape) -> String {
    match shape {
        Shape::Named(_) | Shape::Free => format!("[{key}.NAME]"),
        Shape::List(_) => format!("[[{key}]]"),
        Shape::Table(_) | Shape::Value => format!("[{key}]"),
    }
}

/// The tables of the file that have such a key.
fn homes(key: &str) -> Vec<String> {
    let has = |keys: Keys| keys.iter().any(|(known, _)| *known == key);
    let home = |(table, shape): &(&str, Shape)| match shape {
        Shape::Table(keys) | Shape::Named(keys) | Shape::List(keys) if has(keys) => {
            Some(format!("`{}`", headline(table, *shape)))
        }
        _ => None,
    };
    ROOT.iter().filter_map(home).collect()
}
