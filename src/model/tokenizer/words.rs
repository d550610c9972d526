//! Cuts a text into words before merges apply, as the library does, and says when a rule
//! for words gives up.
//!
//! A rule is an expression that may backtrack, and `fancy-regex` bounds the steps of one
//! match, and the places to which it can go back, to a million: a run of more than a
//! million spaces takes more in every known rule, a hostile expression takes more on a
//! line of text. The library then stops cutting without a word, and
//! all that is left of the text becomes one word, in which merges cross words: plausible
//! ids, and wrong. So the parts of a pre-tokeniser that use expressions are run here, with
//! the same crate; the rest is the library's. The tests compare the two.

use fancy_regex::Regex;
use serde::Deserialize;
use tokenizers::pattern::{Invert, Pattern};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::pre_tokenizers::split::SplitPattern;
use tokenizers::{
    DecoderWrapper, ModelWrapper, NormalizerWrapper, Offsets, PostProcessorWrapper,
    PreTokenizedString, PreTokenizer, SplitDelimiterBehavior, TokenizerImpl,
};

use super::byte_level::GPT_2;

/// The library's tokenizer, but for how it cuts words.
pub(super) type LibraryTokenizer =
    TokenizerImpl<ModelWrapper, NormalizerWrapper, Cut, PostProcessorWrapper, DecoderWrapper>;

/// A rule gave up on a text.
#[derive(Debug, thiserror::Error)]
#[error(
    "the model's rule for words gives up on it ({reason}), as happens with more than a million spaces in a row"
)]
struct GaveUp {
    reason: String,
}

/// How a text is cut into words.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "PreTokenizerWrapper")]
pub(super) enum Cut {
    /// Each part cuts what the one before it left.
    Parts(Vec<Cut>),
    /// At the matches of an expression.
    Matches {
        rule: Regex,
        behavior: SplitDelimiterBehavior,
        is_inverted: bool,
    },
    /// Cuts nothing, but puts a space in front of what does not begin with one.
    SpaceInFront,
    /// As the library does it, without an expression.
    Library(PreTokenizerWrapper),
}

impl TryFrom<PreTokenizerWrapper> for Cut {
    type Error = fancy_regex::Error;

    fn try_from(it: PreTokenizerWrapper) -> Result<Self, Self::Error> {
        match it {
            PreTokenizerWrapper::Sequence(parts) => {
                let parts = parts.into_iter().map(Self::try_from);
                Ok(Self::Parts(parts.collect::<Result<_, _>>()?))
            }
            PreTokenizerWrapper::ByteLevel(it) if it.use_regex => {
                let space = it.add_prefix_space.then_some(Self::SpaceInFront);
                let words = Self::Matches {
                    rule: Regex::new(GPT_2)?,
                    behavior: SplitDelimiterBehavior::Isolated,
                    is_inverted: false,
                };
                let bytes = ByteLevel::new(false, it.trim_offsets, false);
                let parts = space
                    .into_iter()
                    .chain([words, Self::Library(bytes.into())]);
                Ok(Self::Parts(parts.collect()))
            }
            PreTokenizerWrapper::Split(it) => match &it.pattern {
                SplitPattern::Regex(pattern) => Ok(Self::Matches {
                    rule: Regex::new(pattern)?,
                    behavior: it.behavior,
                    is_inverted: it.invert,
                }),
                // A text to look for is no expression that could backtrack.
                SplitPattern::String(_) => Ok(Self::Library(it.into())),
            },
            other => Ok(Self::Library(other)),
        }
    }
}

impl PreTokenizer for Cut {
    fn pre_tokenize(&self, text: &mut PreTokenizedString) -> tokenizers::Result<()> {
        match self {
            Self::Parts(parts) => parts.iter().try_for_each(|it| it.pre_tokenize(text)),
            Self::Matches {
                rule,
                behavior,
                is_inverted: false,
            } => text.split(|_, part| part.split(Matches(rule), *behavior)),
            Self::Matches { rule, behavior, .. } => {
                text.split(|_, part| part.split(Invert(Matches(rule)), *behavior))
            }
            Self::SpaceInFront => text.split(|_, mut part| {
                if !part.get().starts_with(' ') {
                    part.prepend(" ");
                }
                Ok([part])
            }),
            Self::Library(it) => it.pre_tokenize(text),
        }
    }
}

impl Cut {
    /// A space that goes in front of a whole text goes in front of no later piece.
    pub(super) fn without_first_space(self) -> Self {
        match self {
            Self::Library(PreTokenizerWrapper::Metaspace(mut it)) => {
                if it.get_prepend_scheme() == PrependScheme::First {
                    it.set_prepend_scheme(PrependScheme::Never);
                }
                Self::Library(it.into())
            }
            Self::Parts(parts) => {
                Self::Parts(parts.into_iter().map(Self::without_first_space).collect())
            }
            other => other,
        }
    }
}

/// Matches of an expression, or the error that the library passes over.
struct Matches<'a>(&'a Regex);

impl Pattern for Matches<'_> {
    fn find_matches(&self, inside: &str) -> tokenizers::Result<Vec<(Offsets, bool)>> {
        self.0.find_matches(inside).map_err(|err| {
            let reason = err.to_string();
            GaveUp { reason }.into()
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use tokenizers::{OffsetReferential, OffsetType};

    use super::super::byte_level::SPLITS;
    use super::*;

    type Words = Vec<(String, (usize, usize))>;

    fn words(cutter: &impl PreTokenizer, text: &str) -> tokenizers::Result<Words> {
        let mut text = PreTokenizedString::from(text);
        cutter.pre_tokenize(&mut text)?;
        let words = text.get_splits(OffsetReferential::Original, OffsetType::Byte);
        let words = words.into_iter();
        Ok(words.map(|it| (it.0.to_owned(), it.1)).collect())
    }

    fn split(pattern: &Value, behavior: &str, invert: bool) -> Value {
        json!({"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert})
    }

    fn bytes(add_prefix_space: bool, use_regex: bool) -> Value {
        json!({"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": true,
               "use_regex": use_regex})
    }

    fn sequence(parts: &[Value]) -> Value {
        json!({"type": "Sequence", "pretokenizers": parts})
    }

    /// Every kind of part that a `tokenizer.json` may have.
    fn cutters() -> Vec<Value> {
        let digits = json!({"type": "Digits", "individual_digits": true});
        let mut all = vec![
            bytes(false, true),
            bytes(true, true),
            bytes(true, false),
            sequence(&[digits, bytes(false, true)]),
            sequence(&[
                json!({"type": "Punctuation", "behavior": "Isolated"}),
                bytes(true, true),
            ]),
            split(&json!({"String": "."}), "MergedWithPrevious", false),
        ];
        all.extend(SPLITS.map(|it| {
            sequence(&[
                split(&json!({"Regex": it}), "Isolated", false),
                bytes(false, false),
            ])
        }));
        for behavior in [
            "Isolated",
            "Contiguous",
            "MergedWithNext",
            "MergedWithPrevious",
        ] {
            for invert in [false, true] {
                all.push(split(&json!({"Regex": r"\d+(?!a)|\s"}), behavior, invert));
            }
        }
        all.extend(["first", "always", "never"].map(|it| {
            json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": it, "split": true})
        }));
        all
    }

    fn both(it: &Value) -> (PreTokenizerWrapper, Cut) {
        let read = "a pre-tokeniser of the library";
        let library = serde_json::from_value(it.clone()).expect(read);
        (library, serde_json::from_value(it.clone()).expect(read))
    }

    /// Where no rule gives up, the library is right.
    #[test]
    fn words_are_those_of_the_library() {
        let cutters: Vec<_> = cutters().into_iter().map(|it| (both(&it), it)).collect();
        let part = prop::sample::select(vec![
            "a", "Bc", "don't", "é", "世界", "🌍", "12", "7", "a7", " ", "  ", "\n", "\r\n", "\t",
            "\u{a0}", ".", "!?", "_", "▁", "\u{301}", "'s", "\u{0}",
        ]);
        proptest!(|(parts in prop::collection::vec(part, 0..16))| {
            let text = parts.concat();
            for ((library, cut), it) in &cutters {
                let expected = words(library, &text).unwrap();
                prop_assert_eq!(words(cut, &text).unwrap(), expected, "{} on {:?}", it, text);
            }
        });
    }

    /// What the library makes of such a text is why this file exists.
    #[test]
    fn a_rule_that_gives_up_is_an_error() {
        let text = format!("one{}two three four", " ".repeat(1_000_100));
        for pattern in SPLITS {
            let (library, cut) = both(&split(&json!({"Regex": pattern}), "Isolated", false));
            let cut_by_library = words(&library, &text).unwrap();
            let last = cut_by_library.last().unwrap();
            assert!(
                last.0.ends_with("two three four"),
                "the library cuts the rest now"
            );
            let err = words(&cut, &text).unwrap_err().to_string();
            assert!(
                err.starts_with("the model's rule for words gives up on it ("),
                "{err}"
            );
            // A million are as many as it can take.
            let text = format!("one{}two", " ".repeat(999_990));
            assert_eq!(words(&cut, &text).unwrap().len(), 3);
        }
    }
}
