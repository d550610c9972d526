//! What each token id spells: its bytes, and whether it is a special token.
//!
//! Every supported tokenizer spells text by joining the bytes of its tokens, so
//! decoding and token ends need no tokenizer library. Byte-level vocabularies
//! write each byte as one printable character (GPT-2's table); SentencePiece ones
//! write a space as `▁` and a lone byte as `<0x0A>`.

use std::collections::HashMap;
use std::ops::Range;

use super::TokenizerError;

/// How the texts of a vocabulary stand for bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// One character per byte, by GPT-2's table.
    ByteLevel,
    /// `▁` for a space and `<0xHH>` for a byte.
    #[cfg_attr(
        not(any(feature = "tokenize", test)),
        expect(dead_code, reason = "only files that need the library have it")
    )]
    SentencePiece,
}

/// The bytes of every token, and which of them are special.
#[derive(Debug, Clone, Default)]
pub(super) struct Vocabulary {
    /// All token bytes one after the other; token `i` ends at `ends[i]`.
    bytes: Vec<u8>,
    ends: Vec<u32>,
    /// Texts of the special tokens, by id.
    specials: Vec<String>,
    special_ids: HashMap<String, u32>,
    is_special: Vec<bool>,
    is_added: Vec<bool>,
    /// For each byte, the added tokens whose text starts with it, longest first; empty
    /// where no token is added.
    by_first_byte: Vec<Vec<(String, u32)>>,
    /// Bytes of the longest added token.
    longest_added: usize,
    missing_bytes: Vec<u8>,
}

impl Vocabulary {
    /// Builds the table from token texts; `None` is an id without a token.
    ///
    /// `added` tokens are written as they are, whatever the `spelling`; those with
    /// `true` are special.
    pub(super) fn new(
        texts: &[Option<&str>],
        added: &HashMap<u32, bool>,
        spelling: Spelling,
    ) -> Result<Self, TokenizerError> {
        let mut it = Self::default();
        let mut single = [false; 256];
        let byte_of = byte_of_char();
        for (id, text) in (0_u32..).zip(texts) {
            let start = it.bytes.len();
            let is_added = added.contains_key(&id);
            match (text, spelling) {
                (None, _) => {}
                (Some(text), _) if is_added => it.bytes.extend(text.as_bytes()),
                (Some(text), Spelling::ByteLevel) => {
                    spell_byte_level(text, &byte_of, &mut it.bytes);
                }
                (Some(text), Spelling::SentencePiece) => spell_sentencepiece(text, &mut it.bytes),
            }
            if let ([byte], false) = (&it.bytes[start..], is_added) {
                single[usize::from(*byte)] = true;
            }
            let end = u32::try_from(it.bytes.len()).map_err(|_| TokenizerError::TooLarge {
                n_tokens: texts.len(),
            })?;
            it.ends.push(end);
            it.is_special.push(added.get(&id) == Some(&true));
            it.is_added.push(is_added);
            if let (Some(text), true) = (text, is_added) {
                it.add(text, id);
            }
        }
        if spelling == Spelling::ByteLevel {
            it.missing_bytes = (0..=255)
                .filter(|byte| !single[usize::from(*byte)])
                .collect();
        }
        Ok(it)
    }

    fn add(&mut self, text: &str, id: u32) {
        let Some(first) = text.bytes().next() else {
            return;
        };
        if self.is_special(id) {
            self.specials.push(text.to_owned());
            self.special_ids.insert(text.to_owned(), id);
        }
        self.longest_added = self.longest_added.max(text.len());
        self.by_first_byte.resize(256, Vec::new());
        let bucket = &mut self.by_first_byte[usize::from(first)];
        bucket.push((text.to_owned(), id));
        bucket.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of token `id`; empty if there is no such token.
    pub(super) fn token_bytes(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let Some(end) = self.ends.get(id) else {
            return &[];
        };
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        &self.bytes[start as usize..*end as usize]
    }

    pub(super) fn is_special(&self, id: u32) -> bool {
        self.is_special.get(id as usize).copied().unwrap_or(false)
    }

    pub(super) fn specials(&self) -> &[String] {
        &self.specials
    }

    pub(super) fn special_id(&self, text: &str) -> Option<u32> {
        self.special_ids.get(text).copied()
    }

    /// Bytes that no token spells; a byte-level tokenizer drops them from a text.
    pub(super) fn missing_bytes(&self) -> &[u8] {
        &self.missing_bytes
    }

    /// The first byte of `text` that no token spells.
    pub(super) fn missing_byte(&self, text: &str) -> Option<u8> {
        if self.missing_bytes.is_empty() {
            return None;
        }
        let mut is_missing = [false; 256];
        for byte in &self.missing_bytes {
            is_missing[usize::from(*byte)] = true;
        }
        text.bytes().find(|it| is_missing[usize::from(*it)])
    }

    /// Where special tokens are written in `text` with no byte in one of `plain`:
    /// leftmost first, then the longest.
    pub(super) fn find_specials(
        &self,
        text: &str,
        plain: &[Range<usize>],
    ) -> Vec<(Range<usize>, u32)> {
        self.find(text, |range, id| {
            self.is_special(id) && super::is_outside(range, plain)
        })
    }

    /// Where added tokens stand in `text`: leftmost first, then the longest; special
    /// ones only where no byte of them lies in one of `plain`.
    #[cfg(any(feature = "tokenize", test))]
    pub(super) fn find_added(
        &self,
        text: &str,
        plain: &[Range<usize>],
    ) -> Vec<(Range<usize>, u32)> {
        self.find(text, |range, id| {
            !self.is_special(id) || super::is_outside(range, plain)
        })
    }

    fn find(
        &self,
        text: &str,
        counts: impl Fn(&Range<usize>, u32) -> bool,
    ) -> Vec<(Range<usize>, u32)> {
        let mut found = Vec::new();
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let hit = self.added_from(bytes[at]).iter().find_map(|(added, id)| {
                let range = at..at + added.len();
                let is_here = bytes[at..].starts_with(added.as_bytes());
                (is_here && counts(&range, *id)).then_some((range, *id))
            });
            match hit {
                Some((range, id)) => {
                    at = range.end;
                    found.push((range, id));
                }
                None => at += 1,
            }
        }
        found
    }

    /// The added tokens whose text starts with `first`.
    fn added_from(&self, first: u8) -> &[(String, u32)] {
        let bucket = self.by_first_byte.get(usize::from(first));
        bucket.map_or(&[], Vec::as_slice)
    }

    /// Whether a beginning of an added token ends at byte `at` of `text`: then one may lie
    /// across the place, or be longer than the one that ends there.
    pub(super) fn may_straddle(&self, text: &str, at: usize) -> bool {
        let before = &text.as_bytes()[..at];
        (at.saturating_sub(self.longest_added)..at).any(|start| {
            let begun = &before[start..];
            let mut added = self.added_from(begun[0]).iter();
            added.any(|(it, _)| begun.len() < it.len() && it.as_bytes().starts_with(begun))
        })
    }

    /// The byte offset in `text` at which each of `ids` ends, if the tokens spell `text`.
    ///
    /// Bytes that the vocabulary lacks are passed over, since the tokenizer dropped
    /// them. The first token of the text, or after an added token, may begin with a
    /// space that `text` does not have, as SentencePiece tokenizers put one there.
    #[cfg(any(feature = "tokenize", test))]
    pub(super) fn ends_in(&self, text: &str, ids: &[u32]) -> Option<Vec<usize>> {
        let text = text.as_bytes();
        let is_added = |id: u32| self.is_added.get(id as usize).copied().unwrap_or(false);
        let mut ends = Vec::with_capacity(ids.len());
        let mut done = 0;
        let mut at = 0;
        while done < ids.len() {
            let rest = &ids[done..];
            let n_before = rest.iter().take_while(|id| !is_added(**id)).count();
            // The tokens up to the next added one, and that one, which says where they end.
            let part = &rest[..rest.len().min(n_before + 1)];
            let is_last = part.len() == rest.len();
            let may_have_space = n_before != 0 && self.token_bytes(part[0]).first() == Some(&b' ');
            let found = self.align(text, at, part, 0, is_last).or_else(|| {
                let n_extra = usize::from(may_have_space);
                (n_extra == 1).then(|| self.align(text, at, part, n_extra, is_last))?
            })?;
            at = found.last().copied().unwrap_or(at);
            ends.extend(found);
            done += part.len();
        }
        let rest = &text[at..];
        rest.iter().all(|it| self.is_missing(*it)).then_some(ends)
    }

    #[cfg(any(feature = "tokenize", test))]
    fn is_missing(&self, byte: u8) -> bool {
        self.missing_bytes.binary_search(&byte).is_ok()
    }

    /// The ends of `ids`, which begin at `at`, without the first `n_extra` bytes.
    #[cfg(any(feature = "tokenize", test))]
    fn align(
        &self,
        text: &[u8],
        mut at: usize,
        ids: &[u32],
        n_extra: usize,
        is_last: bool,
    ) -> Option<Vec<usize>> {
        let mut ends = Vec::with_capacity(ids.len());
        for (index, id) in ids.iter().enumerate() {
            let bytes = self.token_bytes(*id);
            for byte in &bytes[if index == 0 { n_extra } else { 0 }..] {
                while text
                    .get(at)
                    .is_some_and(|it| it != byte && self.is_missing(*it))
                {
                    at += 1;
                }
                if text.get(at) != Some(byte) {
                    return None;
                }
                at += 1;
            }
            // A space alone that was put in front of the text ends with its first byte.
            let is_put = index == 0 && n_extra == bytes.len();
            ends.push(text.len().min(at + usize::from(is_put)));
        }
        let is_whole = !is_last || text[at..].iter().all(|byte| self.is_missing(*byte));
        is_whole.then_some(ends)
    }
}

/// The byte that each character of a byte-level token stands for.
///
/// GPT-2's `bytes_to_unicode`: printable Latin-1 stands for itself, the other bytes
/// for the characters from U+0100 on, in order.
pub(super) fn byte_of_char() -> HashMap<char, u8> {
    let is_printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut next = 0x100;
    (0..=255_u8)
        .map(|byte| {
            if is_printable(byte) {
                return (char::from(byte), byte);
            }
            let it = char::from_u32(next).expect("U+0100 to U+0143 are characters");
            next += 1;
            (it, byte)
        })
        .collect()
}

fn spell_byte_level(text: &str, byte_of: &HashMap<char, u8>, out: &mut Vec<u8>) {
    let start = out.len();
    for it in text.chars() {
        let Some(byte) = byte_of.get(&it) else {
            // No byte-level text, so written as it is.
            out.truncate(start);
            out.extend(text.as_bytes());
            return;
        };
        out.push(*byte);
    }
}

fn spell_sentencepiece(text: &str, out: &mut Vec<u8>) {
    let byte = text
        .strip_prefix("<0x")
        .and_then(|rest| rest.strip_suffix('>'))
        .filter(|hex| hex.len() == 2)
        .and_then(|hex| u8::from_str_radix(hex, 16).ok());
    match byte {
        Some(byte) => out.push(byte),
        None => out.extend(text.replace('▁', " ").as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary() -> Vocabulary {
        let texts = [
            Some("<s>"),
            Some("Ġa"),
            Some("Ã"),
            Some("§"),
            None,
            Some("<s>x"),
        ];
        let added = HashMap::from([(0, true), (5, true)]);
        Vocabulary::new(&texts, &added, Spelling::ByteLevel).unwrap()
    }

    #[test]
    fn byte_level_texts_are_bytes() {
        let it = vocabulary();
        // "ç" is C3 A7 in UTF-8: the characters Ã and § of the table.
        assert_eq!(
            [it.token_bytes(1), it.token_bytes(2), it.token_bytes(3)],
            [&b" a"[..], &[0xC3], &[0xA7]]
        );
        assert_eq!(
            (it.token_bytes(0), it.token_bytes(4)),
            (&b"<s>"[..], &b""[..])
        );
        assert_eq!(it.token_bytes(99), b"");
        assert!(it.missing_bytes().contains(&b'z') && !it.missing_bytes().contains(&0xC3));
        assert_eq!(byte_of_char().len(), 256);
    }

    #[test]
    fn ends_fall_inside_characters_where_tokens_do() {
        let it = vocabulary();
        assert_eq!(it.ends_in(" aç", &[1, 2, 3]), Some(vec![2, 3, 4]));
        // `z` is not in the vocabulary, so the tokenizer drops it.
        assert_eq!(it.ends_in(" zazç", &[1, 2, 3]), Some(vec![3, 5, 6]));
        assert_eq!(
            it.ends_in("a", &[1]),
            Some(vec![1]),
            "a written-in leading space"
        );
        assert_eq!(it.ends_in(" aÃ", &[1, 2, 3]), None);
    }

    #[test]
    fn the_longest_special_token_wins() {
        let found = vocabulary().find_specials("<s><s>x<s", &[]);
        assert_eq!(found, [(0..3, 0), (3..7, 5)]);
    }

    #[test]
    fn sentencepiece_texts_spell_spaces_and_bytes() {
        let texts = ["▁a", "<0xE4>", "<0xE4", "<s>", "▁", "a"].map(Some);
        let added = HashMap::from([(3, true)]);
        let it = Vocabulary::new(&texts, &added, Spelling::SentencePiece).unwrap();
        assert_eq!(it.token_bytes(0), b" a");
        assert_eq!(it.token_bytes(1), [0xE4]);
        assert_eq!(it.token_bytes(2), b"<0xE4");
        // Each part after an added token may have a space that the text does not.
        let table: [(&str, &[u32], &[usize]); 6] = [
            ("a", &[4, 5], &[1, 1]),
            ("a<s>aa", &[0, 3, 4, 5, 5], &[1, 4, 5, 5, 6]),
            ("a<s>a", &[0, 3, 0], &[1, 4, 5]),
            (" a<s>a", &[0, 3, 0], &[2, 5, 6]),
            ("a<s> a<s>", &[0, 3, 0, 3], &[1, 4, 6, 9]),
            ("<s><s>a", &[3, 3, 0], &[3, 6, 7]),
        ];
        for (text, ids, ends) in table {
            assert_eq!(it.ends_in(text, ids).as_deref(), Some(ends), "{text}");
        }
    }
}
