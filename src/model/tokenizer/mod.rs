//! Text to token ids and back, with the exact byte at which each token ends.
//!
//! One type serves the planner and the engine whatever stands behind it: the
//! `tokenizers` library for byte-level BPE and every `tokenizer.json` (feature
//! `tokenize`), our own encoder for the SentencePiece BPE of a GGUF header, or one
//! token per byte for tests. No type of the library crosses this module's border.
//!
//! Promise: no BOS or other token is added to what the text says; special tokens
//! are recognised where a template wrote them and never inside the byte ranges
//! that the caller marks as data; truncation, padding and dropout never happen.
//! `tests/integration/tokenizers.rs` compares ids with the original tokenizers.
//!
//! [`Memo`] encodes texts that begin alike without encoding the beginning again.
//!
//! Limits: byte-pair encodings only, byte-level or SentencePiece-like. Added
//! tokens that are not special (such as `<think>` in some models) are tokens
//! wherever they stand, in data too, as in the reference implementations.

#[cfg(feature = "tokenize")]
mod byte_level;
mod decoder;
#[cfg(feature = "tokenize")]
mod from_gguf;
#[cfg(feature = "tokenize")]
mod from_json;
#[cfg(feature = "tokenize")]
mod from_vocab_merges;
#[cfg(feature = "tokenize")]
mod library;
mod memo;
#[cfg(feature = "tokenize")]
mod pipeline;
pub(crate) mod policy;
#[cfg(any(feature = "tokenize", test))]
mod rewritten;
#[cfg(any(feature = "tokenize", test))]
mod sentencepiece;
mod vocabulary;
#[cfg(feature = "tokenize")]
mod words;

use std::ops::Range;

pub use self::decoder::StreamDecoder;
pub use self::memo::Memo;
use self::vocabulary::{Spelling, Vocabulary, byte_of_char};

/// Why a tokenizer could not be made, or a text not be encoded.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each field is named in its variant's message")]
pub enum TokenizerError {
    /// A GGUF header that lacks a key or has it with another kind of value.
    #[error("the tokenizer in the GGUF header cannot be read")]
    Gguf(#[from] super::gguf::GgufError),
    /// A kind of tokenizer that is not implemented.
    #[error("the tokenizer's {what} `{found}` is not supported, only {supported}")]
    Unsupported {
        what: &'static str,
        found: String,
        supported: &'static str,
    },
    /// A GGUF header that does not say how a text is cut into words.
    #[error(
        "the GGUF header does not name the tokenizer's rule for words (`tokenizer.ggml.pre`), without which ids would be guessed; convert the model again with a current llama.cpp"
    )]
    UnnamedWords,
    /// An added token that takes the white space around it, or only stands alone.
    #[error("the added token `{text}` has `{flag}`, which is not supported")]
    AddedFlag { text: String, flag: &'static str },
    /// Parts of the tokenizer that contradict each other.
    #[error("the tokenizer is broken: {reason}")]
    Broken { reason: String },
    /// Random tokens per call.
    #[error(
        "the tokenizer has BPE dropout {dropout}, which gives other tokens on every call; set it to null in `tokenizer.json`"
    )]
    Dropout { dropout: f64 },
    /// More bytes than the table holds.
    #[error("the vocabulary of {n_tokens} tokens is larger than 4 GiB")]
    TooLarge { n_tokens: usize },
    /// The library refused a text.
    #[error("the text cannot be tokenised: {reason}")]
    Encode { reason: String },
    /// A build without real tokenizers.
    #[error(
        "this build of harness has no tokenizers; build it with the feature `tokenize` (part of `local`)"
    )]
    NotBuilt,
}

/// A token id and where its text ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// Id in the vocabulary.
    pub id: u32,
    /// Offset in bytes of the encoded text at which the token ends; it may fall inside
    /// a character. Never decreases along a text. A space that the tokenizer puts in
    /// front of a text, where it is a token of its own, ends with the text's first byte.
    pub end: usize,
}

/// Encodes and decodes for one model.
#[derive(Debug)]
pub struct Tokenizer {
    vocabulary: Vocabulary,
    encoder: Encoder,
}

#[derive(Debug)]
enum Encoder {
    Bytes,
    #[cfg(feature = "tokenize")]
    Library(Box<library::Library>),
    #[cfg(any(feature = "tokenize", test))]
    SentencePiece(Box<sentencepiece::SentencePiece>),
}

/// A part of a text: a special token, or text to be encoded.
#[derive(Debug, PartialEq)]
enum Piece {
    Special(u32, Range<usize>),
    Text(Range<usize>),
}

impl Tokenizer {
    /// A tokenizer with one token per byte, for tests: ids 0 to 255, then the special
    /// tokens `<bos>` (256) and `<eos>` (257).
    pub fn bytes() -> Self {
        Self::bytes_with(&[])
    }

    /// As [`Tokenizer::bytes`], with more special tokens behind the two.
    fn bytes_with(more: &[&str]) -> Self {
        let mut texts = vec![String::new(); 256];
        for (text, byte) in byte_of_char() {
            texts[usize::from(byte)] = text.to_string();
        }
        texts.extend(
            ["<bos>", "<eos>"]
                .iter()
                .chain(more)
                .map(|it| (*it).to_owned()),
        );
        let texts: Vec<Option<&str>> = texts.iter().map(|text| Some(text.as_str())).collect();
        let added = (256..texts.len() as u32).map(|id| (id, true)).collect();
        let vocabulary = Vocabulary::new(&texts, &added, Spelling::ByteLevel)
            .expect("a few hundred short tokens are within every limit");
        Self {
            vocabulary,
            encoder: Encoder::Bytes,
        }
    }

    /// The tokenizer that a GGUF header describes.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::Unsupported`] for anything but byte-level BPE with a known
    /// rule for words and SentencePiece BPE; [`TokenizerError::Broken`] if tokens,
    /// merges, scores and types disagree.
    #[cfg(feature = "tokenize")]
    pub fn from_gguf(gguf: &super::gguf::Gguf) -> Result<Self, TokenizerError> {
        from_gguf::build(gguf)
    }

    /// Without the feature `tokenize` no model has a tokenizer.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::NotBuilt`], always.
    #[cfg(not(feature = "tokenize"))]
    pub fn from_gguf(_: &super::gguf::Gguf) -> Result<Self, TokenizerError> {
        Err(TokenizerError::NotBuilt)
    }

    /// The tokenizer in the bytes of a `tokenizer.json`.
    ///
    /// Its `truncation`, `padding` and post-processor are cleared.
    ///
    /// # Errors
    ///
    /// [`TokenizerError`] if it is not a byte-pair encoding, has dropout, or is broken.
    #[cfg(feature = "tokenize")]
    pub fn from_json(json: &[u8]) -> Result<Self, TokenizerError> {
        from_json::build(json)
    }

    /// Without the feature `tokenize` no model has a tokenizer.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::NotBuilt`], always.
    #[cfg(not(feature = "tokenize"))]
    pub fn from_json(_: &[u8]) -> Result<Self, TokenizerError> {
        Err(TokenizerError::NotBuilt)
    }

    /// The tokenizer in the bytes of a `vocab.json` and a `merges.txt`, of the class that
    /// `settings`, the folder's `tokenizer_config.json` or null, names.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::Unsupported`] for a class other than GPT-2's and Qwen 2's;
    /// [`TokenizerError::Broken`] if the files disagree.
    #[cfg(feature = "tokenize")]
    pub fn from_vocab_merges(
        vocab: &[u8],
        merges: &[u8],
        settings: &serde_json::Value,
    ) -> Result<Self, TokenizerError> {
        from_vocab_merges::build(vocab, merges, settings)
    }

    /// Without the feature `tokenize` no model has a tokenizer.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::NotBuilt`], always.
    #[cfg(not(feature = "tokenize"))]
    pub fn from_vocab_merges(
        _: &[u8],
        _: &[u8],
        _: &serde_json::Value,
    ) -> Result<Self, TokenizerError> {
        Err(TokenizerError::NotBuilt)
    }

    /// Encodes `text`; special tokens written in it are tokens except where a byte of
    /// them lies in one of the ranges `plain`, the parts that come from data.
    ///
    /// Adds nothing in front or behind. The end of each token is exact wherever the
    /// tokens spell the text; where characters were composed (NFC), it is the end of
    /// the original characters that the token stands for.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::Encode`] if the rule for words gives up on the text, after a
    /// million steps of backtracking; if the tokens spell another text, so that they have
    /// no ends in this one; or if the library panicked. Other texts are not concerned.
    pub fn encode(&self, text: &str, plain: &[Range<usize>]) -> Result<Vec<Token>, TokenizerError> {
        match &self.encoder {
            Encoder::Bytes => Ok(self.encode_bytes(text, plain)),
            #[cfg(feature = "tokenize")]
            Encoder::Library(library) => {
                let pieces = if library.composes(text) {
                    let specials = self.vocabulary.find_specials(text, plain);
                    Some(cut(text.len(), specials))
                } else {
                    self.pieces(text, plain)
                };
                library.encode(&self.vocabulary, text, pieces.as_deref())
            }
            #[cfg(any(feature = "tokenize", test))]
            Encoder::SentencePiece(encoder) => {
                let added = self.vocabulary.find_added(text, plain);
                Ok(encoder.encode(text, &added))
            }
        }
    }

    /// Encodes `text` as data: special tokens written in it are ordinary text.
    ///
    /// # Errors
    ///
    /// As [`Tokenizer::encode`].
    pub fn encode_plain(&self, text: &str) -> Result<Vec<Token>, TokenizerError> {
        self.encode(text, std::slice::from_ref(&(0..text.len())))
    }

    /// The text of `ids`; bytes that are no UTF-8 become U+FFFD.
    ///
    /// With `skip_special`, special tokens add nothing.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let bytes: Vec<u8> = ids
            .iter()
            .filter(|id| !(skip_special && self.is_special(**id)))
            .flat_map(|id| self.token_bytes(*id))
            .copied()
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The bytes that token `id` spells, empty for an id without a token.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.vocabulary.token_bytes(id)
    }

    /// The text that token `id` spells, with U+FFFD for parts of characters.
    pub fn token_text(&self, id: u32) -> String {
        String::from_utf8_lossy(self.token_bytes(id)).into_owned()
    }

    /// Number of ids: the largest one plus 1, special and added tokens included.
    pub fn n_vocab(&self) -> usize {
        self.vocabulary.len()
    }

    /// The texts of the special tokens, by id.
    pub fn specials(&self) -> &[String] {
        self.vocabulary.specials()
    }

    /// The id of the special token written as `text`.
    pub fn special_id(&self, text: &str) -> Option<u32> {
        self.vocabulary.special_id(text)
    }

    /// Whether `id` is a special token.
    pub fn is_special(&self, id: u32) -> bool {
        self.vocabulary.is_special(id)
    }

    /// Bytes that no token spells, in order: encoding drops them from a text.
    ///
    /// Some byte-level vocabularies lack rare control characters.
    pub fn missing_bytes(&self) -> &[u8] {
        self.vocabulary.missing_bytes()
    }

    /// The first byte of `text` that no token spells.
    pub fn missing_byte(&self, text: &str) -> Option<u8> {
        self.vocabulary.missing_byte(text)
    }

    /// Whether a word of `text` is known to end in front of every space that follows
    /// something else than white space, whatever stands around; see [`Memo`].
    #[cfg_attr(
        not(feature = "tokenize"),
        expect(unused_variables, reason = "only the library's answer depends on it")
    )]
    fn ends_words_at_spaces(&self, text: &str) -> bool {
        match &self.encoder {
            Encoder::Bytes => true,
            #[cfg(feature = "tokenize")]
            Encoder::Library(library) => library.ends_words_at_spaces() && !library.composes(text),
            #[cfg(any(feature = "tokenize", test))]
            Encoder::SentencePiece(_) => false,
        }
    }

    /// Cuts `text` at the special tokens outside `plain`; `None` if none is inside.
    #[cfg_attr(
        not(feature = "tokenize"),
        expect(dead_code, reason = "for the library alone")
    )]
    fn pieces(&self, text: &str, plain: &[Range<usize>]) -> Option<Vec<Piece>> {
        if plain.iter().all(Range::is_empty) {
            return None;
        }
        let found = self.vocabulary.find_specials(text, &[]);
        let kept = self.vocabulary.find_specials(text, plain);
        (kept != found).then(|| cut(text.len(), kept))
    }

    fn encode_bytes(&self, text: &str, plain: &[Range<usize>]) -> Vec<Token> {
        let kept = self.vocabulary.find_specials(text, plain);
        let mut tokens = Vec::with_capacity(text.len());
        for piece in cut(text.len(), kept) {
            match piece {
                Piece::Special(id, range) => tokens.push(Token { id, end: range.end }),
                Piece::Text(range) => tokens.extend(range.map(|at| Token {
                    id: u32::from(text.as_bytes()[at]),
                    end: at + 1,
                })),
            }
        }
        tokens
    }
}

/// Whether `range` shares no byte with one of `plain`.
fn is_outside(range: &Range<usize>, plain: &[Range<usize>]) -> bool {
    plain
        .iter()
        .all(|it| it.is_empty() || it.end <= range.start || range.end <= it.start)
}

fn cut(len: usize, specials: Vec<(Range<usize>, u32)>) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(2 * specials.len() + 1);
    let mut at = 0;
    for (range, id) in specials {
        if at < range.start {
            pieces.push(Piece::Text(at..range.start));
        }
        at = range.end;
        pieces.push(Piece::Special(id, range));
    }
    if at < len {
        pieces.push(Piece::Text(at..len));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::slice::from_ref;

    fn ids(tokens: &[Token]) -> Vec<u32> {
        tokens.iter().map(|token| token.id).collect()
    }

    #[test]
    fn a_byte_is_a_token_and_specials_are_one() {
        let it = Tokenizer::bytes();
        assert_eq!(it.n_vocab(), 258);
        assert_eq!(it.specials(), ["<bos>", "<eos>"]);
        assert_eq!(it.special_id("<eos>"), Some(257));
        assert!(it.missing_bytes().is_empty());
        let tokens = it.encode("<bos>é", &[]).unwrap();
        assert_eq!(ids(&tokens), [256, 0xC3, 0xA9]);
        assert_eq!(
            tokens.iter().map(|it| it.end).collect::<Vec<_>>(),
            [5, 6, 7]
        );
        assert_eq!(it.decode(&ids(&tokens), false), "<bos>é");
        assert_eq!(it.decode(&ids(&tokens), true), "é");
    }

    #[test]
    fn specials_in_data_are_text() {
        let it = Tokenizer::bytes();
        // "a<bos>" from data, "<eos>" from the template.
        let tokens = it.encode("a<bos><eos>", from_ref(&(0..6))).unwrap();
        assert_eq!(ids(&tokens), [97, 60, 98, 111, 115, 62, 257]);
        assert_eq!(it.encode_plain("<bos>").unwrap().len(), 5);
        // A special token that only forms where data meets template is text as well.
        assert_eq!(it.encode("<bos>", from_ref(&(0..2))).unwrap().len(), 5);
        // An empty value adds no byte, so it hides nothing.
        assert_eq!(it.encode("<bos>", from_ref(&(2..2))).unwrap().len(), 1);
    }
}
