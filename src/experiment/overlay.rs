//! What is laid over the experiment file before it is read: a profile, then `--set` flags.
//!
//! Both are dotted keys with a value, `dataset.limit = 100`. They change the tree, never
//! the typed spec, so a value from a flag passes the same checks as one from the file and a
//! mistake in it is shown in the flag.

use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Place, SourceText};
use super::fields::{Problems, suggestion};
use super::shape;
use super::tree::{self, Entry, Node, Table, Value};

/// What the command line lays over the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overlay {
    /// `--profile P`: the table `[profiles.P]` of the file.
    pub profile: Option<String>,
    /// `--set k=v`, in order: a dotted key, and a TOML value or a bare word.
    pub set: Vec<(String, String)>,
}

/// One dotted key with its value.
struct Assignment {
    /// The segments, without quotes.
    path: Vec<String>,
    /// Where the key stands.
    key: Place,
    value: Node,
}

/// Takes `[profiles]` out of `root` and applies the chosen one, then the flags.
pub(super) fn apply(root: &mut Table, overlay: &Overlay, problems: &Problems) {
    let profiles = root.shift_remove("profiles");
    for assignment in chosen_profile(root, profiles.as_ref(), overlay, problems) {
        assign(root, assignment, problems);
    }
    for (key, value) in &overlay.set {
        match flag(key, value) {
            Ok(assignment) => assign(root, assignment, problems),
            Err(diagnostic) => problems.push(diagnostic),
        }
    }
}

/// The assignments of the profile that the command line names.
///
/// The keys of the other profiles are checked too, so that a slip in one of them is found on
/// every run and not first in CI.
fn chosen_profile(
    root: &Table,
    profiles: Option<&Entry>,
    overlay: &Overlay,
    problems: &Problems,
) -> Vec<Assignment> {
    let empty = Table::new();
    let table = match profiles.map(|entry| (entry, entry.node.as_table())) {
        Some((_, Some(table))) => table,
        None => &empty,
        Some((entry, None)) => {
            let message = format!(
                "expected tables `[profiles.NAME]`, got {}",
                entry.node.value.kind()
            );
            problems.push(Diagnostic::error(message).at(&entry.node.place, ""));
            return Vec::new();
        }
    };
    let mut chosen = Vec::new();
    for (name, entry) in table {
        let Some(settings) = entry.node.as_table() else {
            let message = format!(
                "expected a table `[profiles.{name}]`, got {}",
                entry.node.value.kind()
            );
            problems.push(Diagnostic::error(message).at(&entry.node.place, ""));
            continue;
        };
        let mut assignments = Vec::new();
        for (key, setting) in settings {
            match split(key) {
                Some(path) => assignments.push(Assignment {
                    path,
                    key: setting.key.clone(),
                    value: setting.node.clone(),
                }),
                None => problems.push(not_a_key(key, &setting.key)),
            }
        }
        if overlay.profile.as_ref() == Some(name) {
            chosen = assignments;
        } else {
            for assignment in assignments {
                check_unused(root, assignment, problems);
            }
        }
    }
    if let Some(name) = &overlay.profile
        && !table.contains_key(name)
    {
        let source = SourceText::new("--profile", name.as_str());
        let known: Vec<&str> = table.keys().map(String::as_str).collect();
        let mut diagnostic = Diagnostic::error(format!("there is no profile `{name}`"))
            .at(&Place::new(&source, 0..name.len()), "");
        diagnostic = match suggestion(name, &known) {
            _ if known.is_empty() => diagnostic.help(format!(
                "the file has no profiles; write one as `[profiles.{name}]`"
            )),
            Some(meant) => diagnostic.help(format!("did you mean `{meant}`?")),
            None => diagnostic.help(format!("the file has: {}", known.join(", "))),
        };
        problems.push(diagnostic);
    }
    chosen
}

/// Checks the key of an assignment that is not made.
fn check_unused(root: &Table, assignment: Assignment, problems: &Problems) {
    let Assignment { path, key, value } = assignment;
    let mut alone = Table::new();
    match unknown_name(root, &path, &key) {
        Some(diagnostic) => problems.push(diagnostic),
        // An empty table takes any path.
        None => match place_at(&mut alone, &path, 0, &key, value) {
            Ok(()) => shape::check(&alone, shape::ROOT, "", problems),
            Err(diagnostic) => problems.push(diagnostic),
        },
    }
}

fn not_a_key(key: &str, place: &Place) -> Diagnostic {
    Diagnostic::error(format!("`{key}` is not a dotted key"))
        .at(place, "")
        .help("write names joined by dots, such as `dataset.limit`; quote a name that has a dot: `models.\"a.b\".device`")
}

/// The segments of a dotted key, by the rules of TOML.
fn split(key: &str) -> Option<Vec<String>> {
    let document = format!("{key} = 0");
    let parsed = DeTable::parse(&document).ok()?;
    let mut table = parsed.get_ref();
    let mut path = Vec::new();
    loop {
        let (1, Some((key, value))) = (table.len(), table.iter().next()) else {
            return None;
        };
        path.push(key.get_ref().to_string());
        match value.get_ref() {
            DeValue::Table(next) => table = next,
            _ => return Some(path),
        }
    }
}

/// A `--set` flag as an assignment that points into a text of its own.
fn flag(key: &str, value: &str) -> Result<Assignment, Diagnostic> {
    let source = SourceText::new("--set", format!("{key}={value}"));
    let key_place = Place::new(&source, 0..key.len());
    let Some(path) = split(key) else {
        return Err(not_a_key(key, &key_place));
    };
    let place = Place::new(&source, key.len() + 1..source.text.len());
    // What is not a TOML value is a bare word: `--set models.smol.device=cpu`.
    let value = tree::parse_value(&source, place.span.clone()).unwrap_or_else(|| Node {
        value: Value::String(value.to_owned()),
        place,
    });
    Ok(Assignment {
        path,
        key: key_place,
        value,
    })
}

/// Puts the value at its path, making tables on the way.
fn assign(root: &mut Table, assignment: Assignment, problems: &Problems) {
    let Assignment { path, key, value } = assignment;
    if path.first().is_some_and(|first| first == "profiles") {
        let message = "a profile cannot be changed from a profile or a flag";
        problems.push(
            Diagnostic::error(message)
                .at(&key, "")
                .help("set the keys themselves"),
        );
        return;
    }
    if let Some(diagnostic) = unknown_name(root, &path, &key) {
        problems.push(diagnostic);
        return;
    }
    if let Err(diagnostic) = place_at(root, &path, 0, &key, value) {
        problems.push(diagnostic);
    }
}

/// A variant or model that is not in the file: a new one needs a whole table, a dotted key
/// into one that is not there is a slip.
fn unknown_name(root: &Table, path: &[String], key: &Place) -> Option<Diagnostic> {
    let [section, name, _, ..] = path else {
        return None;
    };
    let what = match section.as_str() {
        "variants" => "variant",
        "models" => "model",
        _ => return None,
    };
    let table = root.get(section)?.node.as_table()?;
    if table.contains_key(name) {
        return None;
    }
    let known: Vec<&str> = table.keys().map(String::as_str).collect();
    let help = match suggestion(name, &known) {
        Some(meant) => format!("did you mean `{section}.{meant}`?"),
        None => format!("the file has: {}", known.join(", ")),
    };
    Some(
        Diagnostic::error(format!("there is no {what} `{name}`"))
            .at(key, "")
            .help(help),
    )
}

/// Descends to `path[depth..]` below `table` and puts `value` there.
fn place_at(
    table: &mut Table,
    path: &[String],
    depth: usize,
    key: &Place,
    value: Node,
) -> Result<(), Diagnostic> {
    let name = &path[depth];
    if depth + 1 == path.len() {
        match table.get_mut(name) {
            Some(old) => merge(
                old,
                Entry {
                    key: key.clone(),
                    node: value,
                },
            ),
            None => {
                table.insert(
                    name.clone(),
                    Entry {
                        key: key.clone(),
                        node: value,
                    },
                );
            }
        }
        return Ok(());
    }
    let entry = table.entry(name.clone()).or_insert_with(|| Entry {
        key: key.clone(),
        node: Node {
            value: Value::Table(Table::new()),
            place: key.clone(),
        },
    });
    descend(&mut entry.node, path, depth + 1, key, value)
}

/// Goes on below `node`: a table by name, a list by index from 0.
fn descend(
    node: &mut Node,
    path: &[String],
    depth: usize,
    key: &Place,
    value: Node,
) -> Result<(), Diagnostic> {
    let so_far = path[..depth].join(".");
    match &mut node.value {
        Value::Table(next) => place_at(next, path, depth, key, value),
        Value::Array(items) => {
            let count = items.len();
            let Some(item) = path[depth]
                .parse::<usize>()
                .ok()
                .and_then(|i| items.get_mut(i))
            else {
                let message = format!(
                    "`{so_far}` is a list of {count}, and `{}` is not one of its items",
                    path[depth]
                );
                return Err(Diagnostic::error(message)
                    .at(key, "")
                    .help(format!("items count from 0: `{so_far}.0`")));
            };
            if depth + 1 == path.len() {
                *item = value;
                return Ok(());
            }
            descend(item, path, depth + 1, key, value)
        }
        other => {
            let message = format!(
                "`{so_far}` is {}, so `{}` cannot be set in it",
                other.kind(),
                path[depth]
            );
            Err(Diagnostic::error(message)
                .at(key, "")
                .at(&node.place, "set here"))
        }
    }
}

/// Replaces a value; two tables are merged key by key.
fn merge(old: &mut Entry, new: Entry) {
    match (&mut old.node.value, new.node.value) {
        (Value::Table(into), Value::Table(from)) => {
            for (name, entry) in from {
                match into.get_mut(&name) {
                    Some(inner) => merge(inner, entry),
                    None => {
                        into.insert(name, entry);
                    }
                }
            }
        }
        (_, value) => {
            *old = Entry {
                key: new.key,
                node: Node {
                    value,
                    place: new.node.place,
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::experiment::testing::message_with;
    use crate::experiment::{Overlay, Prompt, TemplateSource, parse};
    use std::path::Path;

    const TEXT: &str = "[experiment]\nname = 'x'\n[models.'smol.1']\nsource = 'builtin:smol'\n\
        [dataset]\npath = 'd.csv'\ntarget = 't'\n[variants.bare]\ntemplate = 'T'\n\
        [[gates]]\nmetric = 'loglikelihood'\nmin = -3\n\
        [profiles.ci]\n\"dataset.limit\" = 100\nscoring.overflow = 'drop-shots'\n\"gates.0.min\" = -4\n\
        [profiles.new.variants.added]\ntemplate = 'A'\n";

    fn resolved(profile: Option<&str>, set: &[(&str, &str)]) -> toml::Table {
        let set = set
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let overlay = Overlay {
            profile: profile.map(str::to_owned),
            set,
        };
        parse(Path::new("x.toml"), TEXT.to_owned(), &overlay)
            .unwrap()
            .0
            .resolved
            .parse()
            .unwrap()
    }

    #[test]
    fn a_profile_is_laid_over_the_file_and_flags_over_both() {
        let plain = resolved(None, &[]);
        assert!(!plain.contains_key("profiles") && !plain.contains_key("scoring"));
        let ci = resolved(Some("ci"), &[("dataset.limit", "5")]);
        assert_eq!(ci["dataset"]["limit"].as_integer(), Some(5));
        assert_eq!(ci["dataset"]["target"].as_str(), Some("t"), "kept");
        assert_eq!(ci["scoring"]["overflow"].as_str(), Some("drop-shots"));
        assert_eq!(ci["gates"][0]["min"].as_integer(), Some(-4));
        let new = resolved(Some("new"), &[]);
        assert_eq!(
            new["variants"].as_table().unwrap().len(),
            2,
            "a whole table adds a variant"
        );
    }

    /// What is not a TOML value is a bare word.
    #[test]
    fn a_flag_takes_a_toml_value_or_a_word() {
        let set = [
            ("models.\"smol.1\".device", "cpu"),
            ("experiment.seed", "7"),
            ("dataset.filter", "a == 'b' and c"),
            ("dataset.id", "\"quoted\""),
            ("dataset.choices", "['a', 'b']"),
            ("experiment.control", "bare"),
            ("scoring.delimiter", ""),
        ];
        let table = resolved(None, &set);
        assert_eq!(table["models"]["smol.1"]["device"].as_str(), Some("cpu"));
        assert_eq!(table["experiment"]["seed"].as_integer(), Some(7));
        assert_eq!(table["dataset"]["filter"].as_str(), Some("a == 'b' and c"));
        assert_eq!(table["dataset"]["id"].as_str(), Some("quoted"));
        assert_eq!(table["dataset"]["choices"].as_array().unwrap().len(), 2);
        assert_eq!(table["scoring"]["delimiter"].as_str(), Some(""));
    }

    #[test]
    fn a_flag_that_fits_nothing_is_refused() {
        let table = [
            (("dataset.limti", "5"), "unknown key `limti` in `[dataset]`"),
            (("datset.limit", "5"), "unknown table or key `datset`"),
            (
                ("dataset.limit", "many"),
                "expected a whole number for `limit`, got the string \"many\"",
            ),
            (
                ("dataset.limit.x", "5"),
                "`dataset.limit` is a whole number, so `x` cannot be set in it",
            ),
            (("variants.few.shots", "5"), "there is no variant `few`"),
            (("models.big.device", "cpu"), "there is no model `big`"),
            (
                ("variants", "5"),
                "expected tables `[variants.NAME]`, got a whole number",
            ),
            (
                ("profiles.ci", "5"),
                "a profile cannot be changed from a profile or a flag",
            ),
            (("", "5"), "`` is not a dotted key"),
            (("a b", "5"), "`a b` is not a dotted key"),
            (("dataset.", "5"), "`dataset.` is not a dotted key"),
            (
                ("dataset.limit = 1\nx", "5"),
                "`dataset.limit = 1\nx` is not a dotted key",
            ),
            (
                ("gates.1.min", "5"),
                "`gates` is a list of 1, and `1` is not one of its items",
            ),
        ];
        let tables = "[dataset]\npath = 'd.csv'\ntarget = 't'\nlimit = 9\n[[gates]]\nmetric = 'loglikelihood'\nmin = -3\n";
        for (set, expected) in table {
            assert_eq!(message_with(tables, &[set]), expected, "{set:?}");
        }
    }

    /// A mark in a template from a flag sits in the flag.
    #[test]
    fn a_value_from_a_flag_points_at_the_flag() {
        let set = vec![(
            "variants.bare.template".to_owned(),
            "\"a\\n{{ b }}\"".to_owned(),
        )];
        let overlay = Overlay { profile: None, set };
        let spec = parse(Path::new("x.toml"), TEXT.to_owned(), &overlay)
            .unwrap()
            .0
            .spec;
        let Prompt::Raw {
            template: TemplateSource::Inline(template),
            ..
        } = &spec.variants["bare"].prompt
        else {
            panic!("a plain prompt");
        };
        assert_eq!(template.text, "a\n{{ b }}");
        let place = template.place_of(2..9);
        assert_eq!(place.source.name, "--set");
        assert_eq!(&place.source.text[place.span], "{{ b }}");
    }
}
