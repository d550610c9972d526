//! Names that every template knows, to tell a misspelt one from its neighbours.

use minijinja::{Error, ErrorKind};

/// Filters of the engine.
const FILTERS: [&str; 48] = [
    "abs",
    "attr",
    "batch",
    "bool",
    "capitalize",
    "chain",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "first",
    "float",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "pprint",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "unique",
    "upper",
    "zip",
];

/// Tests of the engine that are words.
const TESTS: [&str; 21] = [
    "boolean",
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "even",
    "false",
    "float",
    "in",
    "integer",
    "iterable",
    "lower",
    "mapping",
    "none",
    "number",
    "odd",
    "sequence",
    "startingwith",
    "string",
    "true",
    "undefined",
];

/// The unknown name that the error is about and the names it could have been; `None` if it is
/// about something else.
pub(super) fn unknown<'a>(
    error: &Error,
    written: &'a str,
) -> Option<(&'static str, &'a str, Vec<&'static str>)> {
    let (what, known) = match error.kind() {
        ErrorKind::UnknownFilter => ("filter", FILTERS.to_vec()),
        ErrorKind::UnknownTest => ("test", TESTS.to_vec()),
        _ => return None,
    };
    // Where the engine points, it points at the name alone.
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    (!written.is_empty() && written.chars().all(is_word)).then_some((what, written, known))
}

#[cfg(test)]
mod tests {
    use super::super::Template;
    use super::*;

    #[test]
    fn every_name_is_known_to_the_engine() {
        for (kind, names) in [("filter", &FILTERS[..]), ("test", &TESTS)] {
            for name in names {
                let source = format!("{{{{ '{name}' is {kind} }}}}");
                let told = Template::compile(&source)
                    .unwrap()
                    .render(&crate::dataset::Fields::new());
                assert_eq!(told.as_deref(), Ok("True"), "{name}");
            }
            assert!(names.is_sorted());
        }
    }
}
