//! Texts for the page: each once, and none that ends the script element.

use std::collections::HashMap;

use serde::{Serialize, Serializer};

/// Texts by number; equal texts have equal numbers.
#[derive(Debug, Default)]
pub(super) struct Texts<'a> {
    numbers: HashMap<&'a str, usize>,
    texts: Vec<&'a str>,
}

impl<'a> Texts<'a> {
    /// The number of a text.
    pub(super) fn number(&mut self, text: &'a str) -> usize {
        *self.numbers.entry(text).or_insert_with(|| {
            self.texts.push(text);
            self.texts.len() - 1
        })
    }

    /// All texts, in the order of their numbers.
    pub(super) fn into_list(self) -> Vec<&'a str> {
        self.texts
    }
}

/// A number that may be infinite, which JSON cannot say: then it is a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Number(pub(super) f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_finite() {
            serializer.serialize_f64(self.0)
        } else {
            serializer.serialize_str(&self.0.to_string())
        }
    }
}

/// JSON as it may stand in a script element, and in any other place of a page: characters
/// that mean something to HTML, and line ends that only JSON allows in a string, are escaped.
///
/// Outside of strings JSON has none of them, so the meaning stays the same.
pub(super) fn in_script(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len() + json.len() / 16);
    for character in json.chars() {
        match character {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// How many bytes at the start all texts share; never splits a character.
pub(super) fn shared_start<'a>(mut texts: impl Iterator<Item = &'a str>) -> usize {
    let Some(first) = texts.next() else { return 0 };
    let mut n_bytes = first.len();
    for text in texts {
        let pairs = first[..n_bytes].char_indices().zip(text.chars());
        let same = pairs.take_while(|((_, a), b)| a == b).last();
        n_bytes = same.map_or(0, |((at, it), _)| at + it.len_utf8());
    }
    n_bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_texts_are_kept_once() {
        let mut texts = Texts::default();
        let numbers = ["a", "b", "a", ""].map(|it| texts.number(it));
        assert_eq!(numbers, [0, 1, 0, 2]);
        assert_eq!(texts.into_list(), ["a", "b", ""]);
    }

    #[test]
    fn numbers_survive_json() {
        let json = |it: f64| serde_json::to_string(&Number(it)).unwrap();
        assert_eq!(json(-1.25), "-1.25");
        assert_eq!(json(f64::NEG_INFINITY), "\"-inf\"");
        assert_eq!(json(f64::NAN), "\"NaN\"");
    }

    #[test]
    fn what_texts_share_is_found() {
        for (texts, expected) in [
            (&["ab", "ac"][..], 1),
            (&["ab", "ab"], 2),
            (&["ab", "abc", "a"], 1),
            (&["äb", "öb"], 0), // The first bytes of both are equal.
            (&["xäb", "xäc"], 3),
            (&["only"], 4),
            (&["", "a"], 0),
            (&[], 0),
        ] {
            assert_eq!(shared_start(texts.iter().copied()), expected, "{texts:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_leaves_the_script_element(parts in prop::collection::vec(
            prop_oneof![
                any::<String>(),
                Just("</script>".to_owned()), Just("<!--<script".to_owned()),
                Just("]]>".to_owned()), Just("&lt;".to_owned()), Just("\"}]".to_owned()),
                Just("\u{2028}\u{2029}\0\u{1b}\\u003c".to_owned()),
            ],
            0..8,
        )) {
            let json = serde_json::to_string(&parts).unwrap();
            let escaped = in_script(&json);
            let is_safe = !escaped.contains(['<', '>', '&', '\u{2028}', '\u{2029}']);
            prop_assert!(is_safe, "{}", escaped);
            let back: Vec<String> = serde_json::from_str(&escaped).unwrap();
            prop_assert_eq!(back, parts);
        }
    }
}
