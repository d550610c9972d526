//! Encoding through the `tokenizers` library.
//!
//! Where special-token text comes from data, a text is cut at the special tokens that a
//! template wrote, and the pieces between them are encoded one by one, as the library
//! itself does with a text that has special tokens in it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use tokenizers::PostProcessorWrapper;

use super::rewritten::{Rewriting, Rewritten};
use super::vocabulary::Vocabulary;
use super::words::{Cut, LibraryTokenizer};
use super::{Encoder, Piece, Token, Tokenizer, TokenizerError};

/// The library's tokenizer, and a second one for text from data.
#[derive(Debug)]
pub(super) struct Library {
    /// Recognises special tokens written in a text.
    tokenizer: LibraryTokenizer,
    /// Encodes special tokens as text; made when first needed.
    plain: OnceLock<Box<LibraryTokenizer>>,
    /// The same for a piece that does not begin the text.
    rest: OnceLock<Box<LibraryTokenizer>>,
    /// What the tokenizer does to a text before it encodes it.
    rewriting: Rewriting,
    /// Whether a space behind something else than white space always begins a word.
    ends_words_at_spaces: bool,
}

/// What is known of a tokenizer besides its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Traits {
    /// What it does to a text before it encodes it.
    pub(super) rewriting: Rewriting,
    /// Whether a space behind something else than white space always begins a word, and
    /// the words on either side do not depend on the other; see [`super::Memo`].
    pub(super) ends_words_at_spaces: bool,
}

impl Library {
    /// Takes over `tokenizer`, without its truncation, padding and post-processor.
    pub(super) fn wrap(
        mut tokenizer: LibraryTokenizer,
        vocabulary: Vocabulary,
        traits: Traits,
    ) -> Result<Tokenizer, TokenizerError> {
        tokenizer
            .with_truncation(None)
            .map_err(|err| broken(&*err))?;
        tokenizer.with_padding(None);
        tokenizer.with_post_processor(None::<PostProcessorWrapper>);
        tokenizer.set_encode_special_tokens(false);
        let library = Self {
            tokenizer,
            plain: OnceLock::new(),
            rest: OnceLock::new(),
            rewriting: traits.rewriting,
            ends_words_at_spaces: traits.ends_words_at_spaces,
        };
        Ok(Tokenizer {
            vocabulary,
            encoder: Encoder::Library(Box::new(library)),
        })
    }

    /// Encodes all of `text`, or piece by piece where some special tokens are text.
    pub(super) fn encode(
        &self,
        vocabulary: &Vocabulary,
        text: &str,
        pieces: Option<&[Piece]>,
    ) -> Result<Vec<Token>, TokenizerError> {
        let mut tokens = Vec::with_capacity(text.len() / 3);
        let Some(pieces) = pieces else {
            self.encode_with(&self.tokenizer, vocabulary, text, 0, &mut tokens)?;
            return Ok(tokens);
        };
        for piece in pieces {
            match piece {
                Piece::Special(id, range) => tokens.push(Token {
                    id: *id,
                    end: range.end,
                }),
                Piece::Text(range) => {
                    self.encode_with(
                        self.of_pieces(range.start),
                        vocabulary,
                        &text[range.clone()],
                        range.start,
                        &mut tokens,
                    )?;
                }
            }
        }
        Ok(tokens)
    }

    fn encode_with(
        &self,
        tokenizer: &LibraryTokenizer,
        vocabulary: &Vocabulary,
        text: &str,
        start: usize,
        out: &mut Vec<Token>,
    ) -> Result<(), TokenizerError> {
        let rewritten = Rewritten::of(text, self.rewriting);
        // Composed here and not by the library, whose table of characters is older.
        let composed = rewritten.as_ref().filter(|_| self.is_composing());
        let ids = ids(tokenizer, composed.map_or(text, |it| it.text.as_str()))?;
        let as_given = || vocabulary.ends_in(text, &ids);
        let as_rewritten = || {
            let it = rewritten.as_ref()?;
            let ends = vocabulary.ends_in(&it.text, &ids)?;
            Some(ends.into_iter().map(|end| it.before(end)).collect())
        };
        let ends: Vec<usize> = as_given()
            .or_else(as_rewritten)
            .ok_or_else(|| refused("its tokens spell another text".to_owned()))?;
        out.extend(ids.iter().zip(ends).map(|(id, end)| Token {
            id: *id,
            end: start + end,
        }));
        Ok(())
    }

    fn is_composing(&self) -> bool {
        self.rewriting == Rewriting::Composed
    }

    pub(super) fn ends_words_at_spaces(&self) -> bool {
        self.ends_words_at_spaces
    }

    /// Whether `text` is composed before it is encoded. Then it is cut at its special
    /// tokens first, since data behind one may compose with its last character.
    pub(super) fn composes(&self, text: &str) -> bool {
        self.is_composing() && !unicode_normalization::is_nfc(text)
    }

    /// The tokenizer of a piece that begins at byte `start` of its text.
    fn of_pieces(&self, start: usize) -> &LibraryTokenizer {
        let plain = self.plain.get_or_init(|| {
            let mut plain = self.tokenizer.clone();
            plain.set_encode_special_tokens(true);
            Box::new(plain)
        });
        if start == 0 {
            return plain;
        }
        self.rest.get_or_init(|| {
            let mut rest = plain.clone();
            let cut = rest.get_pre_tokenizer().cloned();
            rest.with_pre_tokenizer(cut.map(Cut::without_first_space));
            rest
        })
    }
}

/// The ids of `text`. A panic of the library is an error of this text alone: it keeps
/// nothing from one text to the next but a cache of whole words.
fn ids(tokenizer: &LibraryTokenizer, text: &str) -> Result<Vec<u32>, TokenizerError> {
    let encode = AssertUnwindSafe(|| tokenizer.encode_fast(text, false));
    let encoding = catch_unwind(encode).map_err(|panic| {
        let said = panic_text(&*panic);
        refused(format!("the tokenizers library panicked on it: {said}"))
    })?;
    let encoding = encoding.map_err(|err| refused(err.to_string()))?;
    Ok(encoding.get_ids().to_vec())
}

/// What a panic said.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    let said = owned.or_else(|| panic.downcast_ref::<&str>().copied());
    said.unwrap_or("nothing")
}

fn refused(reason: String) -> TokenizerError {
    TokenizerError::Encode { reason }
}

/// An error of the library while a tokenizer is made.
pub(super) fn broken(err: &dyn std::error::Error) -> TokenizerError {
    TokenizerError::Broken {
        reason: err.to_string(),
    }
}
