//! A text as its tokens spell it, and where a place in it was in the text that was given.
//!
//! Qwen 2's tokenizer composes characters (NFC) before it encodes, and SentencePiece takes
//! a `▁` of the text for a space. The tokens then spell another text, and the end of a
//! token has to be carried back: prompt and target are told apart by it. The library's
//! own offsets are not used for this, because they stop too early where composing changes
//! the order of marks, nor is its composing, whose table of characters is older.

use unicode_normalization::char::{canonical_combining_class, decompose_canonical};
use unicode_normalization::{IsNormalized, UnicodeNormalization as _, is_nfc, is_nfc_quick};

/// What is done to a text before it is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rewriting {
    /// Nothing.
    None,
    /// Characters are composed (NFC).
    Composed,
    /// `▁` is a space.
    Spaced,
}

/// A stretch of a text that is written anew independently of what is around it.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    /// Where it ends in the new text and in the old one.
    end: usize,
    end_before: usize,
    /// Whether it has the same bytes in both.
    is_same: bool,
}

/// The new text, with the way back.
#[derive(Debug)]
pub(super) struct Rewritten {
    pub(super) text: String,
    stretches: Vec<Stretch>,
}

impl Rewritten {
    /// `text` as it is encoded; `None` if that is what it was.
    pub(super) fn of(text: &str, rewriting: Rewriting) -> Option<Self> {
        match rewriting {
            Rewriting::Composed if !is_nfc(text) => {
                Some(Self::by(text, starts_stretch, |it, out| {
                    out.extend(it.nfc());
                }))
            }
            Rewriting::Spaced if text.contains('▁') => Some(Self::by(
                text,
                |_| true,
                |it, out| out.push_str(if it == "▁" { " " } else { it }),
            )),
            _ => None,
        }
    }

    fn by(text: &str, is_start: impl Fn(char) -> bool, write: impl Fn(&str, &mut String)) -> Self {
        let mut it = Self {
            text: String::with_capacity(text.len()),
            stretches: Vec::new(),
        };
        let mut from = 0;
        let starts = text
            .char_indices()
            .filter(|(at, it)| 0 < *at && is_start(*it));
        for to in starts.map(|(at, _)| at).chain([text.len()]) {
            let start = it.text.len();
            write(&text[from..to], &mut it.text);
            let is_same = it.text[start..] == text[from..to];
            it.stretches.push(Stretch {
                end: it.text.len(),
                end_before: to,
                is_same,
            });
            from = to;
        }
        it
    }

    /// Where the place `at` of the new text was in the old one; inside a stretch that
    /// changed, the end of it.
    pub(super) fn before(&self, at: usize) -> usize {
        let index = self.stretches.partition_point(|it| it.end < at);
        match self.stretches.get(index) {
            Some(it) if it.is_same => it.end_before - (it.end - at),
            Some(it) => it.end_before,
            None => self.stretches.last().map_or(0, |it| it.end_before),
        }
    }
}

/// Whether `it` composes with nothing in front of it and stays behind all of it.
fn starts_stretch(it: char) -> bool {
    let mut first = None;
    decompose_canonical(it, |part| {
        first.get_or_insert(part);
    });
    first.is_some_and(|it| {
        canonical_combining_class(it) == 0 && is_nfc_quick(std::iter::once(it)) == IsNormalized::Yes
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn composed(text: &str) -> Rewritten {
        Rewritten::of(text, Rewriting::Composed).unwrap()
    }

    #[test]
    fn places_in_composed_text_lead_back() {
        // `o` with a circumflex and a dot below is one character of three bytes.
        let it = composed("the o\u{302}\u{323} x");
        assert_eq!(it.text, "the ộ x");
        assert_eq!(
            [0, 3, 4, 7, 8, 9].map(|at| it.before(at)),
            [0, 3, 4, 9, 10, 11]
        );
        // Inside the character is its end.
        assert_eq!([5, 6].map(|at| it.before(at)), [9, 9]);
        // Jamo compose, and so do characters that only stand for others.
        let it = composed("\u{1100}\u{1161}\u{11A8}a\u{212B}");
        assert_eq!(it.text, "각aÅ");
        assert_eq!([3, 4, 6].map(|at| it.before(at)), [9, 10, 13]);
        // Marks in front of everything.
        let it = composed("\u{301}\u{323}a");
        assert_eq!(it.before(it.text.len()), 5);
        assert!(Rewritten::of("ộ각Å", Rewriting::Composed).is_none());
        assert!(Rewritten::of("o\u{302}\u{323}", Rewriting::None).is_none());
    }

    #[test]
    fn stretches_compose_alone_as_they_do_together() {
        let parts = [
            "a", "o", "\u{302}", "\u{323}", "\u{327}", "\u{212B}", "\u{1100}", "\u{1161}",
            "\u{11A8}", "\u{AC00}", "क", "\u{93C}", "\u{958}", "\u{9C7}", "\u{9BE}", "\u{344}",
            "é", "🌍",
        ];
        for a in parts {
            for b in parts {
                for c in parts {
                    let text = format!("{a}{b}{c}");
                    let Some(it) = Rewritten::of(&text, Rewriting::Composed) else {
                        continue;
                    };
                    assert_eq!(it.text, text.nfc().collect::<String>(), "{text:?}");
                    assert_eq!(it.before(it.text.len()), text.len(), "{text:?}");
                }
            }
        }
    }

    #[test]
    fn a_written_space_is_a_space() {
        let it = Rewritten::of("a▁b ▁", Rewriting::Spaced).unwrap();
        assert_eq!(it.text, "a b  ");
        assert_eq!([1, 2, 3, 4, 5].map(|at| it.before(at)), [1, 4, 5, 6, 9]);
        assert!(Rewritten::of("a b", Rewriting::Spaced).is_none());
    }
}
