//! Encoding through the `tokenizers` library.

use std::sync::OnceLock;

use super::vocabulary::Vocabulary;
use super::{Encoder, Piece, Token, Tokenizer, TokenizerError};

/// The library's tokenizer, and a second one for text from data.
#[derive(Debug)]
pub(super) struct Library {
    /// Recognises special tokens written in a text.
    tokenizer: tokenizers::Tokenizer,
    /// Encodes special tokens as text; made when first needed.
    plain: OnceLock<Box<tokenizers::Tokenizer>>,
}

impl Library {
    /// Takes over `tokenizer`, without its truncation, padding and post-processor.
    pub(super) fn wrap(
        mut tokenizer: tokenizers::Tokenizer,
        vocabulary: Vocabulary,
    ) -> Result<Tokenizer, TokenizerError> {
        tokenizer
            .with_truncation(None)
            .map_err(|err| broken(&*err))?;
        tokenizer.with_padding(None);
        tokenizer.with_post_processor(None::<tokenizers::PostProcessorWrapper>);
        tokenizer.set_encode_special_tokens(false);
        let library = Self {
            tokenizer,
            plain: OnceLock::new(),
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
            encode_with(&self.tokenizer, vocabulary, text, 0, &mut tokens)?;
            return Ok(tokens);
        };
        let plain = self.plain.get_or_init(|| {
            let mut plain = self.tokenizer.clone();
            plain.set_encode_special_tokens(true);
            Box::new(plain)
        });
        for piece in pieces {
            match piece {
                Piece::Special(id, range) => tokens.push(Token {
                    id: *id,
                    end: range.end,
                }),
                Piece::Text(range) => {
                    encode_with(
                        plain,
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
}

fn encode_with(
    tokenizer: &tokenizers::Tokenizer,
    vocabulary: &Vocabulary,
    text: &str,
    start: usize,
    out: &mut Vec<Token>,
) -> Result<(), TokenizerError> {
    let refused = |err: tokenizers::Error| TokenizerError::Encode {
        reason: err.to_string(),
    };
    let encoding = tokenizer.encode_fast(text, false).map_err(refused)?;
    let ids = encoding.get_ids();
    if let Some(ends) = vocabulary.ends_in(text, ids) {
        out.extend(ids.iter().zip(ends).map(|(id, end)| Token {
            id: *id,
            end: start + end,
        }));
        return Ok(());
    }
    // The tokens spell something else than the text: a normaliser changed it, or an
    // unknown-token stands for a part. The library's offsets know the original.
    let encoding = tokenizer.encode(text, false).map_err(refused)?;
    let mut end = 0;
    for (id, offsets) in encoding.get_ids().iter().zip(encoding.get_offsets()) {
        end = end.max(offsets.1);
        out.push(Token {
            id: *id,
            end: start + end,
        });
    }
    Ok(())
}

/// An error of the library while a tokenizer is made.
pub(super) fn broken(err: &dyn std::error::Error) -> TokenizerError {
    TokenizerError::Broken {
        reason: err.to_string(),
    }
}
