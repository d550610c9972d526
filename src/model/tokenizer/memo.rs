//! Texts that have much in common are encoded without doing the same work twice.
//!
//! The choices of an example share its prompt, the prompts of a variant their shots, and
//! all of them their words. [`Memo`] takes the beginning that a text has in common with the
//! last one from there, and cuts the rest into parts, which it looks up before it encodes
//! them. Promise: the tokens are those of [`Tokenizer::encode`], ids and ends.
//!
//! A part ends behind a character that is no white space and in front of a space (U+0020).
//! Where [`Tokenizer::ends_words_at_spaces`] holds, nothing can tell the parts from the
//! whole:
//!
//! - in every rule for words that is known here (those of GPT-2, `SmolLM`, Llama 3, Qwen 2
//!   and Tekken) a space is the first character of a word or follows white space, so that a
//!   word ends in front of it; merges do not cross words;
//! - the rules read from left to right and look back at nothing. The one look ahead,
//!   `\s+(?!\S)`, goes from white space to the next character, and the last one of a part
//!   is not white space;
//! - digits stand alone or in runs, on either side;
//! - no beginning of an added token ends where a part does ([`Vocabulary::may_straddle`]), so
//!   none lies across and none that was found would have been longer;
//! - a space composes with nothing in front of it, and texts that are not composed (NFC)
//!   are encoded whole.
//!
//! Encoded whole are also texts with special tokens from data, texts with a byte that the
//! vocabulary lacks, and everything of other tokenizers: SentencePiece's pieces may cross
//! spaces, and what an unknown rule for words does is not known.
//!
//! [`Vocabulary::may_straddle`]: super::vocabulary::Vocabulary::may_straddle

use std::collections::HashMap;
use std::ops::Range;

use super::{Token, Tokenizer, TokenizerError};

/// Longest part that is kept, in bytes; longer ones hardly come again.
const MAX_PART_BYTES: usize = 64;
/// Most parts that are kept: some megabytes.
const MAX_PARTS: usize = 1 << 15;

/// Encodes texts one after the other and remembers their parts.
#[derive(Debug, Clone)]
pub struct Memo<'t> {
    tokenizer: &'t Tokenizer,
    /// The last text, if its tokens are those of its parts; else empty.
    text: String,
    tokens: Vec<Token>,
    /// Tokens of parts, with ends that count from the part's beginning.
    parts: HashMap<Box<str>, Box<[Token]>>,
    n_encoded_bytes: usize,
}

impl<'t> Memo<'t> {
    /// A memo for texts of `tokenizer`, which has seen none.
    pub fn new(tokenizer: &'t Tokenizer) -> Self {
        Self {
            tokenizer,
            text: String::new(),
            tokens: Vec::new(),
            parts: HashMap::new(),
            n_encoded_bytes: 0,
        }
    }

    /// The tokens of `text`, as [`Tokenizer::encode`] gives them.
    ///
    /// # Errors
    ///
    /// Those of [`Tokenizer::encode`].
    pub fn encode(
        &mut self,
        text: &str,
        plain: &[Range<usize>],
    ) -> Result<&[Token], TokenizerError> {
        let last = std::mem::take(&mut self.text);
        if !(plain.iter().all(Range::is_empty) && self.tokenizer.is_divisible(text)) {
            self.n_encoded_bytes += text.len();
            self.tokens = self.tokenizer.encode(text, plain)?;
            return Ok(&self.tokens);
        }
        let n_common = common_length(&last, text);
        let mut places = (1..n_common).rev();
        // Whether a part ends at a place is told by what stands before it and by the space
        // behind it, which both texts have: a token ends there in the last one too.
        let start = places.find(|at| self.tokenizer.divides(text, *at));
        let mut from = start.unwrap_or(0);
        let n_kept = self.tokens.partition_point(|it| it.end <= from);
        self.tokens.truncate(n_kept);
        for (space, _) in text.match_indices(' ') {
            if from < space && self.tokenizer.divides(text, space) {
                self.push(text, from..space)?;
                from = space;
            }
        }
        self.push(text, from..text.len())?;
        self.text = last;
        self.text.replace_range(n_common.., &text[n_common..]);
        Ok(&self.tokens)
    }

    /// Appends the tokens of a part.
    fn push(&mut self, text: &str, range: Range<usize>) -> Result<(), TokenizerError> {
        let start = range.start;
        let moved = |it: &Token| Token {
            end: it.end + start,
            ..*it
        };
        let part = &text[range];
        if let Some(tokens) = self.parts.get(part) {
            self.tokens.extend(tokens.iter().map(moved));
            return Ok(());
        }
        self.n_encoded_bytes += part.len();
        let tokens = self.tokenizer.encode(part, &[])?;
        self.tokens.extend(tokens.iter().map(moved));
        if part.len() <= MAX_PART_BYTES && self.parts.len() < MAX_PARTS {
            self.parts.insert(part.into(), tokens.into());
        }
        Ok(())
    }

    /// Bytes that were not known and went through the tokenizer, of all texts so far.
    pub fn n_encoded_bytes(&self) -> usize {
        self.n_encoded_bytes
    }
}

/// Bytes at the beginning that two texts have in common, up to the end of a character.
fn common_length(a: &str, b: &str) -> usize {
    let pairs = a.bytes().zip(b.bytes());
    let n_common = pairs.take_while(|(a, b)| a == b).count();
    a.floor_char_boundary(n_common)
}

impl Tokenizer {
    /// Whether the tokens of `text` are those of its parts, if no special token of it comes
    /// from data.
    fn is_divisible(&self, text: &str) -> bool {
        self.ends_words_at_spaces(text) && self.missing_byte(text).is_none()
    }

    /// Whether a part of `text` ends in front of byte `at`, which is not the first.
    fn divides(&self, text: &str, at: usize) -> bool {
        text.as_bytes()[at] == b' '
            && !text[..at].ends_with(char::is_whitespace)
            && !self.vocabulary.may_straddle(text, at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts() -> impl Strategy<Value = Vec<&'static str>> {
        let part = prop::sample::select(vec![
            "a", "bc", " ", "  ", "\n", "\t", "é", "<bos>", "<", "<b", "os>", "<eos>", "7",
            "\u{a0}",
        ]);
        prop::collection::vec(part, 0..12)
    }

    proptest! {
        #[test]
        fn shared_beginnings_change_no_token(texts in prop::collection::vec(parts(), 1..8)) {
            let tokenizer = Tokenizer::bytes();
            let mut memo = Memo::new(&tokenizer);
            let mut text = String::new();
            for parts in texts {
                // Half of the last text stays.
                let kept = text.char_indices().nth(text.chars().count() / 2).map_or(0, |it| it.0);
                text.truncate(kept);
                text += &parts.concat();
                let expected = tokenizer.encode(&text, &[]).unwrap();
                prop_assert_eq!(memo.encode(&text, &[]).unwrap(), &expected[..], "{:?}", text);
            }
        }
    }

    #[test]
    fn only_parts_that_are_new_are_encoded() {
        let tokenizer = Tokenizer::bytes();
        let mut memo = Memo::new(&tokenizer);
        let mut n_encoded = |text: &str, plain: &[Range<usize>]| {
            let before = memo.n_encoded_bytes();
            let expected = tokenizer.encode(text, plain).unwrap();
            assert_eq!(memo.encode(text, plain).unwrap(), expected, "{text:?}");
            memo.n_encoded_bytes() - before
        };
        let data = |range: Range<usize>| vec![range];
        assert_eq!(n_encoded("Q: one A: yes", &[]), 13);
        assert_eq!(n_encoded("Q: one A: no", &[]), 3);
        // A part may begin with several spaces, but none begins behind white space.
        assert_eq!(n_encoded("Q: one A:  no", &[]), 4);
        assert_eq!(n_encoded("Q: one A:\n yes", &[]), 8);
        assert_eq!(n_encoded("yes no", &[]), 3);
        // An empty range is no data; with another one the text is encoded whole.
        assert_eq!(n_encoded("Q: one A: <eos>", &data(3..3)), 6);
        assert_eq!(n_encoded("Q: one A: <eos>", &data(10..15)), 15);
        assert_eq!(n_encoded("Q: one A: <eos>", &[]), 0);
        assert_eq!(n_encoded("Q: one A: é", &[]), 3);
        // `è` begins with the same byte.
        assert_eq!(n_encoded("Q: one A: è", &[]), 3);
        assert_eq!(n_encoded("", &[]), 0);
    }

    /// Were it divided, ` >` would be text.
    #[test]
    fn an_added_token_with_a_space_stays_whole() {
        let tokenizer = Tokenizer::bytes_with(&["< >"]);
        let mut memo = Memo::new(&tokenizer);
        for (text, n_tokens) in [("x < y", 5), ("x < >", 3), ("x < > <", 5), ("x <> <", 6)] {
            let expected = tokenizer.encode(text, &[]).unwrap();
            assert_eq!(expected.len(), n_tokens, "{text}");
            assert_eq!(memo.encode(text, &[]).unwrap(), expected, "{text}");
        }
    }
}
