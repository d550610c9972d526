//! SentencePiece's BPE with byte fallback, as Llama 1 and 2 and Mistral 1 to 3 use it.
//!
//! Spaces are written as `▁`, one more is put in front of a text, and then the
//! neighbours whose joined text is the piece with the best score merge, leftmost first,
//! until no joined text is a piece. A character that is no piece becomes its bytes.
//! After Kudo and Richardson 2018 (`bpe_model.cc`); that the space is put in front of
//! every text between added tokens is how llama.cpp reads a GGUF header.
//!
//! The library's BPE takes an ordered list of pairs instead of scores, so pairs that
//! give the same piece would have to be ordered by a guess. Here they have one score,
//! as in the original, and the end of each token is known by construction.

use std::collections::{BinaryHeap, HashMap};
use std::ops::Range;

use super::{Token, TokenizerError};

/// How SentencePiece writes a space.
const SPACE: &str = "▁";

/// A token that merges may make.
pub(super) struct Piece<'a> {
    pub(super) id: u32,
    pub(super) text: &'a str,
    /// Greater is merged earlier.
    pub(super) score: f32,
}

/// Pieces by text, and the bytes for what is no piece.
#[derive(Debug)]
pub(super) struct SentencePiece {
    pieces: HashMap<Box<str>, (u32, f32)>,
    bytes: Box<[u32; 256]>,
    prefix_space: bool,
}

/// A stretch of the escaped text; empty once it is merged into its left neighbour.
#[derive(Debug, Clone, Copy)]
struct Symbol {
    start: usize,
    len: usize,
    /// Where it begins and ends in the text before spaces were escaped.
    from: usize,
    to: usize,
    previous: Option<usize>,
    next: Option<usize>,
}

/// Two neighbours that may merge, ordered by score, then leftmost first.
#[derive(Debug, PartialEq)]
struct Candidate {
    score: f32,
    left: usize,
    right: usize,
    /// Length of both when the candidate was made; another one means it is stale.
    len: usize,
}

impl Eq for Candidate {}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let by_score = self.score.partial_cmp(&other.score);
        by_score
            .expect("scores are checked to be numbers")
            .then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl SentencePiece {
    /// An encoder; a text may be that of one piece only.
    pub(super) fn new(
        pieces: &[Piece<'_>],
        bytes: Box<[u32; 256]>,
        prefix_space: bool,
    ) -> Result<Self, TokenizerError> {
        let mut by_text = HashMap::with_capacity(pieces.len());
        for it in pieces {
            if let Some((first, _)) = by_text.insert(Box::from(it.text), (it.id, it.score)) {
                return Err(TokenizerError::Broken {
                    reason: format!("the tokens {first} and {} are both `{}`", it.id, it.text),
                });
            }
        }
        Ok(Self {
            pieces: by_text,
            bytes,
            prefix_space,
        })
    }

    /// Encodes `text`, in which `added` tokens stand at the places given, in order.
    pub(super) fn encode(&self, text: &str, added: &[(Range<usize>, u32)]) -> Vec<Token> {
        let mut tokens = Vec::with_capacity(text.len() / 3);
        let mut at = 0;
        for (range, id) in added {
            self.encode_part(text, at..range.start, &mut tokens);
            at = range.end;
            tokens.push(Token { id: *id, end: at });
        }
        self.encode_part(text, at..text.len(), &mut tokens);
        tokens
    }

    fn encode_part(&self, text: &str, range: Range<usize>, out: &mut Vec<Token>) {
        if range.is_empty() {
            return;
        }
        let (escaped, mut symbols) = self.escape(text, range);
        let mut queue = BinaryHeap::new();
        for right in 1..symbols.len() {
            self.offer(&escaped, &symbols, Some(right - 1), Some(right), &mut queue);
        }
        while let Some(top) = queue.pop() {
            let (left, right) = (symbols[top.left], symbols[top.right]);
            if left.len == 0 || right.len == 0 || left.len + right.len != top.len {
                continue;
            }
            symbols[top.left].len = top.len;
            symbols[top.left].to = right.to;
            symbols[top.left].next = right.next;
            symbols[top.right].len = 0;
            if let Some(next) = right.next {
                symbols[next].previous = Some(top.left);
            }
            self.offer(
                &escaped,
                &symbols,
                left.previous,
                Some(top.left),
                &mut queue,
            );
            self.offer(&escaped, &symbols, Some(top.left), right.next, &mut queue);
        }
        for it in symbols.iter().filter(|it| it.len != 0) {
            self.push(&escaped[it.start..it.start + it.len], it, out);
        }
    }

    /// The text with `▁` for spaces and one in front, and a symbol per character.
    fn escape(&self, text: &str, range: Range<usize>) -> (String, Vec<Symbol>) {
        let mut escaped = String::with_capacity(range.len() * 2);
        let mut symbols: Vec<Symbol> = Vec::with_capacity(range.len() + 1);
        let mut put = |written: &str, from: usize, to: usize| {
            let index = symbols.len();
            if let Some(last) = symbols.last_mut() {
                last.next = Some(index);
            }
            symbols.push(Symbol {
                start: escaped.len(),
                len: written.len(),
                from,
                to,
                previous: index.checked_sub(1),
                next: None,
            });
            escaped.push_str(written);
        };
        if self.prefix_space {
            // If it stays alone, it ends behind what it was put in front of, so that it
            // is on the same side of a border as the text that brought it.
            put(SPACE, range.start, range.start + 1);
        }
        let mut at = range.start;
        for it in text[range].chars() {
            let from = at;
            at += it.len_utf8();
            if it == ' ' {
                put(SPACE, from, at);
            } else {
                put(it.encode_utf8(&mut [0; 4]), from, at);
            }
        }
        (escaped, symbols)
    }

    /// Queues two neighbours if their joined text is a piece.
    fn offer(
        &self,
        escaped: &str,
        symbols: &[Symbol],
        left: Option<usize>,
        right: Option<usize>,
        queue: &mut BinaryHeap<Candidate>,
    ) {
        let (Some(left), Some(right)) = (left, right) else {
            return;
        };
        let start = symbols[left].start;
        let len = symbols[left].len + symbols[right].len;
        if let Some((_, score)) = self.pieces.get(&escaped[start..start + len]) {
            queue.push(Candidate {
                score: *score,
                left,
                right,
                len,
            });
        }
    }

    /// The piece that `text` is, or its bytes.
    fn push(&self, text: &str, symbol: &Symbol, out: &mut Vec<Token>) {
        if let Some((id, _)) = self.pieces.get(text) {
            out.push(Token {
                id: *id,
                end: symbol.to,
            });
            return;
        }
        // Only a single character is no piece. Its bytes end one after the other; a
        // space that is written with more bytes than it has ends with the first.
        for (index, byte) in text.bytes().enumerate() {
            out.push(Token {
                id: self.bytes[usize::from(byte)],
                end: symbol.to.min(symbol.from + index + 1),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::model::tokenizer::vocabulary::{Spelling, Vocabulary};
    use crate::model::tokenizer::{Encoder, Tokenizer};

    /// Bytes are ids 0 to 255, then `<s>`, then the pieces in order.
    fn tokenizer(pieces: &[(&str, f32)]) -> Tokenizer {
        let bytes: Vec<String> = (0..256).map(|byte| format!("<0x{byte:02X}>")).collect();
        let mut texts: Vec<Option<&str>> = bytes.iter().map(|it| Some(it.as_str())).collect();
        texts.push(Some("<s>"));
        texts.extend(pieces.iter().map(|(text, _)| Some(*text)));
        let added = HashMap::from([(256, true)]);
        let vocabulary = Vocabulary::new(&texts, &added, Spelling::SentencePiece).unwrap();
        let pieces: Vec<Piece<'_>> = (257..)
            .zip(pieces)
            .map(|(id, (text, score))| Piece {
                id,
                text,
                score: *score,
            })
            .collect();
        let bytes = Box::new(std::array::from_fn(|byte| byte as u32));
        let encoder = SentencePiece::new(&pieces, bytes, true).unwrap();
        Tokenizer {
            vocabulary,
            encoder: Encoder::SentencePiece(Box::new(encoder)),
        }
    }

    fn shown(it: &Tokenizer, text: &str) -> Vec<(String, usize)> {
        let tokens = it.encode(text, &[]).unwrap();
        tokens
            .iter()
            .map(|token| (it.token_text(token.id), token.end))
            .collect()
    }

    fn table(expected: &[(&str, usize)]) -> Vec<(String, usize)> {
        let rows = expected.iter();
        rows.map(|(text, end)| ((*text).to_owned(), *end)).collect()
    }

    #[test]
    fn the_best_score_merges_first_and_then_the_leftmost() {
        let letters = [("▁", -9.0), ("a", -9.0), ("b", -9.0)];
        let merges = [("ab", -2.0), ("ba", -1.0), ("aa", -3.0), ("▁ab", -4.0)];
        let it = tokenizer(&[&letters[..], &merges].concat());
        // `ba` beats `ab`; what is left of it stays alone.
        assert_eq!(shown(&it, "aba"), table(&[(" ", 1), ("a", 1), ("ba", 3)]));
        // Equal scores: the left pair of `aaa`.
        let got = shown(&it, "aaa");
        assert_eq!(got, table(&[(" ", 1), ("aa", 2), ("a", 3)]));
        // A pair can lead to a piece that neither half leads to alone.
        assert_eq!(shown(&it, "ab"), table(&[(" ab", 2)]));
        assert_eq!(shown(&it, "ab ab"), table(&[(" ab", 2), (" ab", 5)]));
    }

    #[test]
    fn what_is_no_piece_becomes_bytes_that_end_one_after_the_other() {
        let it = tokenizer(&[("▁", 0.0), ("a", 0.0)]);
        let tokens = it.encode("é<s>a", &[]).unwrap();
        let ids: Vec<u32> = tokens.iter().map(|it| it.id).collect();
        assert_eq!(ids, [257, 0xC3, 0xA9, 256, 257, 258]);
        let ends: Vec<usize> = tokens.iter().map(|it| it.end).collect();
        assert_eq!(ends, [1, 1, 2, 5, 6, 6]);
        assert_eq!(it.decode(&ids, true), " é a");
        // Without a piece for a space its three bytes end where the space does.
        let without = tokenizer(&[("a", 0.0)]);
        let ends: Vec<usize> = without
            .encode("a a", &[])
            .unwrap()
            .iter()
            .map(|it| it.end)
            .collect();
        assert_eq!(ends, [1, 1, 1, 1, 2, 2, 2, 3]);
        assert!(it.encode("", &[]).unwrap().is_empty());
    }

    #[test]
    fn a_text_with_two_ids_is_refused() {
        let pieces = [1, 2].map(|id| Piece {
            id,
            text: "a",
            score: 0.0,
        });
        let err = SentencePiece::new(&pieces, Box::new([0; 256]), true).unwrap_err();
        assert!(err.to_string().contains("the tokens 1 and 2 are both `a`"));
    }
}
