//! Whether a text contains others.

/// How many of the values a text must contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ContainsMode {
    /// At least one of them.
    #[default]
    Any,
    /// Every one of them.
    All,
    /// Not a single one of them.
    None,
}

/// Whether `text` contains `values` in the way `mode` asks; `values` is not empty.
///
/// An empty value is contained in an empty text only: it would otherwise be found
/// everywhere, and a case whose target is empty would be right whatever was written.
pub(super) fn holds(text: &str, values: &[String], mode: ContainsMode) -> bool {
    let contains = |value: &String| match value.as_str() {
        "" => text.is_empty(),
        value => text.contains(value),
    };
    match mode {
        ContainsMode::Any => values.iter().any(contains),
        ContainsMode::All => values.iter().all(contains),
        ContainsMode::None => !values.iter().any(contains),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_decides_how_many_values_must_occur() {
        let values = ["Paris".to_owned(), "France".to_owned()];
        let table = [
            // text, any, all, none
            ("Paris, France", true, true, false),
            ("Paris", true, false, false),
            ("paris", false, false, true),
            ("", false, false, true),
        ];
        for (text, any, all, none) in table {
            assert_eq!(
                holds(text, &values, ContainsMode::Any),
                any,
                "any of `{text}`"
            );
            assert_eq!(
                holds(text, &values, ContainsMode::All),
                all,
                "all of `{text}`"
            );
            assert_eq!(
                holds(text, &values, ContainsMode::None),
                none,
                "none of `{text}`"
            );
        }
    }

    #[test]
    fn an_empty_reference_is_not_found_in_every_text() {
        let values = [String::new()];
        assert!(!holds("anything", &values, ContainsMode::Any));
        assert!(holds("", &values, ContainsMode::Any));
    }
}
