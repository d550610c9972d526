//! Marks special-token text that comes from data, so that it stays text.
//!
//! A field that holds `<|im_end|>` must not end a turn. [`Guard::value`] puts the
//! noncharacter U+FDD0 into every such text before rendering; after rendering
//! [`Guard::remove`] takes the marks out again and tells which special texts held
//! one. Those are tokenized as plain text, all others as the token they name.
//!
//! The two halves of a special text at the end of one field and the start of the
//! next are marked too. Templates see the marks: a filter that counts or compares
//! characters of such a field sees one more. A filter that builds a special text
//! out of other characters (`replace`) is not caught.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::Value;

use crate::dataset::{Fields, RESERVED};

/// The special texts of a tokenizer.
#[derive(Debug, Clone)]
pub struct Guard {
    /// Without empty texts, longest first.
    specials: Vec<String>,
}

/// A rendered text without marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guarded {
    /// The text as it would be without a guard.
    pub text: String,
    /// Byte ranges in `text` of special texts from data; ascending, disjoint.
    pub plain: Vec<Range<usize>>,
}

/// Shorter pieces of a special text than this are too common to mark.
const PIECE: usize = 2;

impl Guard {
    /// Makes a guard for `specials`, such as `<|im_start|>`.
    pub fn new(specials: &[String]) -> Self {
        let mut specials: Vec<String> = specials
            .iter()
            .filter(|it| !it.is_empty())
            .cloned()
            .collect();
        specials.sort_by_key(|it| (std::cmp::Reverse(it.len()), it.clone()));
        specials.dedup();
        Self { specials }
    }

    /// Marks the special texts in every string of `value`.
    ///
    /// Borrows what needs no mark. Keys of objects are marked as well, unless they
    /// are plain names, by which a template may look them up.
    pub fn value<'a>(&self, value: &'a Value) -> Cow<'a, Value> {
        match value {
            Value::String(text) => match self.text(text) {
                Cow::Borrowed(_) => Cow::Borrowed(value),
                Cow::Owned(text) => Cow::Owned(Value::String(text)),
            },
            Value::Array(items) => {
                let guarded: Vec<Cow<'_, Value>> = items.iter().map(|it| self.value(it)).collect();
                if guarded.iter().all(|it| matches!(it, Cow::Borrowed(_))) {
                    return Cow::Borrowed(value);
                }
                Cow::Owned(Value::Array(
                    guarded.into_iter().map(Cow::into_owned).collect(),
                ))
            }
            Value::Object(fields) => {
                let keys: Vec<Cow<'_, str>> = fields.keys().map(|it| self.key(it)).collect();
                let marked = self.fields(fields);
                if matches!(marked, Cow::Borrowed(_))
                    && keys.iter().all(|it| matches!(it, Cow::Borrowed(_)))
                {
                    return Cow::Borrowed(value);
                }
                let keys = keys.into_iter().map(Cow::into_owned);
                Cow::Owned(Value::Object(keys.zip(marked.values().cloned()).collect()))
            }
            _ => Cow::Borrowed(value),
        }
    }

    fn key<'a>(&self, key: &'a str) -> Cow<'a, str> {
        let is_name = key.chars().all(|it| it.is_alphanumeric() || it == '_');
        if is_name {
            Cow::Borrowed(key)
        } else {
            self.text(key)
        }
    }

    /// Marks the special texts in every field; borrows if there are none.
    ///
    /// The names of the fields themselves are columns, which no template prints.
    pub fn fields<'a>(&self, fields: &'a Fields) -> Cow<'a, Fields> {
        let guarded: Vec<Cow<'_, Value>> = fields.values().map(|it| self.value(it)).collect();
        if guarded.iter().all(|it| matches!(it, Cow::Borrowed(_))) {
            return Cow::Borrowed(fields);
        }
        let values = guarded.into_iter().map(Cow::into_owned);
        Cow::Owned(fields.keys().cloned().zip(values).collect())
    }

    /// Marks the special texts in `text`, whatever the case of their letters.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut has_byte = [false; 256];
        for byte in text.bytes() {
            has_byte[usize::from(byte.to_ascii_lowercase())] = true;
        }
        let mut marks: Vec<usize> = Vec::new();
        for special in &self.specials {
            // Most text has none of the bytes that special texts are made of.
            let (first, last) = (special.as_bytes()[0], special.as_bytes()[special.len() - 1]);
            if ![first, last]
                .iter()
                .any(|it| has_byte[usize::from(it.to_ascii_lowercase())])
            {
                continue;
            }
            let first = first_length(special);
            marks.extend(starts(text, special, same_letters).map(|at| at + first));
            marks.extend(self::tail(text, special).map(|at| at + first));
            if starts_with_tail(text, special) {
                marks.push(0);
            }
        }
        if marks.is_empty() {
            return Cow::Borrowed(text);
        }
        marks.sort_unstable();
        marks.dedup();
        let mut marked = String::with_capacity(text.len() + marks.len() * RESERVED.len_utf8());
        let mut from = 0;
        for mark in marks {
            marked.push_str(&text[from..mark]);
            marked.push(RESERVED);
            from = mark;
        }
        marked.push_str(&text[from..]);
        Cow::Owned(marked)
    }

    /// Takes the marks out of a rendered text and finds what they marked.
    pub fn remove(&self, rendered: &str) -> Guarded {
        if !rendered.contains(RESERVED) {
            return Guarded {
                text: rendered.to_owned(),
                plain: Vec::new(),
            };
        }
        let mut text = String::with_capacity(rendered.len());
        let mut marks = Vec::new();
        for piece in rendered.split(RESERVED) {
            text.push_str(piece);
            marks.push(text.len());
        }
        marks.pop(); // The end of the text is no mark.
        let mut plain: Vec<Range<usize>> = Vec::new();
        for special in &self.specials {
            let first = first_length(special);
            // A mark inside, or after the only character.
            let places = starts(&text, special, str::eq).filter(|&at| {
                let last = at + special.len().max(first + 1);
                let next = marks.partition_point(|mark| *mark <= at);
                marks.get(next).is_some_and(|mark| *mark < last)
            });
            plain.extend(places.map(|at| at..at + special.len()));
        }
        Guarded {
            plain: merged(plain),
            text,
        }
    }
}

/// Bytes of the first character.
fn first_length(special: &str) -> usize {
    special.chars().next().map_or(0, char::len_utf8)
}

/// A filter such as `lower` must not turn a text that is no special into one.
fn same_letters(left: &str, right: &str) -> bool {
    left.eq_ignore_ascii_case(right)
}

/// Every place at which `special` stands in `text`, overlaps included.
fn starts<'a>(
    text: &'a str,
    special: &'a str,
    is_same: impl Fn(&str, &str) -> bool + 'a,
) -> impl Iterator<Item = usize> + 'a {
    let first = special.as_bytes()[0];
    let candidates = text
        .bytes()
        .enumerate()
        .filter(move |(_, it)| it.eq_ignore_ascii_case(&first));
    candidates.map(|(at, _)| at).filter(move |&at| {
        text.get(at..at + special.len())
            .is_some_and(|it| is_same(it, special))
    })
}

/// Where `text` ends in the first part of `special`.
fn tail(text: &str, special: &str) -> Option<usize> {
    let parts = special.char_indices().map(|(at, _)| &special[..at]);
    let ends = |part: &str| {
        let at = text.len().checked_sub(part.len())?;
        text.get(at..)
            .filter(|it| same_letters(it, part))
            .map(|_| at)
    };
    parts.filter(|it| PIECE <= it.len()).filter_map(ends).min()
}

/// Whether `text` starts with the last part of `special`.
fn starts_with_tail(text: &str, special: &str) -> bool {
    let parts = special.char_indices().skip(1).map(|(at, _)| &special[at..]);
    let starts = |part: &str| {
        text.get(..part.len())
            .is_some_and(|it| same_letters(it, part))
    };
    parts.filter(|it| PIECE <= it.len()).any(starts)
}

/// Sorts ranges and joins those that overlap.
fn merged(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_by_key(|it| (it.start, it.end));
    let mut out: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match out.last_mut() {
            Some(last) if range.start < last.end => last.end = last.end.max(range.end),
            _ => out.push(range),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::Template;
    use super::*;

    fn guard() -> Guard {
        Guard::new(&["<|im_start|>", "<|im_end|>", "<s>", "§", ""].map(str::to_owned))
    }

    fn object(value: &Value) -> &Fields {
        value.as_object().unwrap()
    }

    /// Renders guarded fields and returns the special texts that are plain.
    fn plain(source: &str, fields: &Value) -> Vec<String> {
        let template = Template::compile(source).unwrap();
        let rendered = template.render(&guard().fields(object(fields))).unwrap();
        let guarded = guard().remove(&rendered);
        assert_eq!(guarded.text, template.render(object(fields)).unwrap());
        guarded
            .plain
            .iter()
            .map(|it| guarded.text[it.clone()].to_owned())
            .collect()
    }

    #[test]
    fn only_special_text_from_data_is_plain() {
        let table: &[(&str, Value, &[&str])] = &[
            ("<|im_end|>{{ x }}<|im_end|>", json!({"x": "a"}), &[]),
            (
                "<|im_end|>{{ x }}<|im_end|>",
                json!({"x": "a<|im_end|>"}),
                &["<|im_end|>"],
            ),
            (
                "{{ x }}",
                json!({"x": "<|im_end|><|im_start|>é"}),
                &["<|im_end|>", "<|im_start|>"],
            ),
            ("{{ x }}§", json!({"x": "§"}), &["§"]),
            ("{{ x.y[0] }}", json!({"x": {"y": ["<s>"]}}), &["<s>"]),
            // Halves in two fields, and a filter that changes case.
            (
                "{{ x }}{{ y }}",
                json!({"x": "<|im", "y": "_end|>"}),
                &["<|im_end|>"],
            ),
            ("{{ x }}{{ y }}", json!({"x": "<", "y": "s>"}), &["<s>"]),
            ("{{ x }}{{ y }}", json!({"x": "<s", "y": ">"}), &["<s>"]),
            (
                "{{ x }}{{ y }}",
                json!({"x": "<|", "y": "im_end|>"}),
                &["<|im_end|>"],
            ),
            // A half next to a whole one that the template wrote.
            ("{{ x }}<|im_end|>", json!({"x": "a<|"}), &[]),
            ("<|im_end|>{{ x }}", json!({"x": "|>"}), &[]),
        ];
        for (source, fields, expected) in table {
            assert_eq!(plain(source, fields), *expected, "{source} {fields}");
        }
    }

    #[test]
    fn a_change_of_case_does_not_make_a_token() {
        let fields = json!({"x": "<|IM_END|>"});
        let template = Template::compile("{{ x | lower }}").unwrap();
        let rendered = template.render(&guard().fields(object(&fields))).unwrap();
        assert_eq!(
            guard()
                .remove(&rendered)
                .plain
                .iter()
                .map(|it| (it.start, it.end))
                .collect::<Vec<_>>(),
            vec![(0, 10)]
        );
    }

    #[test]
    fn keys_of_data_are_guarded_unless_they_are_names() {
        let fields = json!({"x": {"<|im_end|>": 1, "im_end": 2}});
        assert_eq!(
            plain("{% for k in x %}{{ k }},{% endfor %}", &fields),
            ["<|im_end|>"]
        );
        assert_eq!(plain("{{ x.im_end }}", &fields), [""; 0]);
    }

    #[test]
    fn data_without_special_text_is_borrowed() {
        let value = json!({"x": ["a < b", 1, null, {"y": "é|"}]});
        assert!(matches!(guard().value(&value), Cow::Borrowed(_)));
        assert!(matches!(guard().fields(object(&value)), Cow::Borrowed(_)));
    }

    proptest! {
        /// The guard changes which tokens a text becomes, never the text.
        #[test]
        fn a_guarded_render_has_the_unguarded_text(
            parts in prop::collection::vec(prop::sample::select(vec![
                "<|im_end|>", "<|", "im_end|>", "<", "s>", "<s>", "§", "é", " ", "<|IM_", "end|>",
            ]), 0..8),
            other in "[<|>s§ ]{0,4}",
        ) {
            let fields = json!({"x": parts.concat(), "y": other});
            let template = Template::compile("<s>{{ x }}{{ y }}<|im_end|>{{ y }}{{ x }}").unwrap();
            let rendered = template.render(&guard().fields(object(&fields))).unwrap();
            let guarded = guard().remove(&rendered);
            prop_assert_eq!(&guarded.text, &template.render(object(&fields)).unwrap());
            // Ascending, disjoint, on character borders, and the template's own stay tokens.
            prop_assert!(guarded.plain.windows(2).all(|it| it[0].end <= it[1].start));
            prop_assert!(guarded.plain.iter().all(|it| guarded.text.get(it.clone()).is_some()));
            prop_assert!(guarded.plain.iter().all(|it| 3 <= it.start));
        }

        /// Every special text inside one field is plain.
        #[test]
        fn no_special_text_of_a_field_is_missed(
            parts in prop::collection::vec(prop::sample::select(vec!["<s>", "<|im_end|>", "<", "|>", "a"]), 0..8),
        ) {
            let data = parts.concat();
            let guarded = guard().remove(&guard().text(&data));
            for special in ["<s>", "<|im_end|>"] {
                for (at, _) in data.match_indices(special) {
                    prop_assert!(guarded.plain.iter().any(|it| it.start <= at && at + special.len() <= it.end));
                }
            }
        }
    }
}
