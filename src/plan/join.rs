//! Prompt and scored text become tokens, and the border between them is found.
//!
//! The scored text is the prompt's trailing whitespace, the delimiter and the
//! target. All of it is tokenised as one string, as the model would have met it;
//! scored are the tokens that end beyond the stripped prompt:
//!
//! ```text
//! prompt "Q: 2+2\nA:"   delimiter " "   target "4"
//! text   Q: 2+2\nA: 4
//! tokens Q | : | ␠ | 2 | + | 2 | \n | A | : | ␠4      scored: ␠4
//! ```
//!
//! Where no merge crosses the border this equals lm-evaluation-harness; where one
//! does, the straddling token is scored and the row is flagged `boundary_merge`.

use std::ops::Range;

use crate::model::Model;
use crate::model::tokenizer::{Memo, Token, TokenizerError};
use crate::request::Request;
use crate::template::Guarded;

/// A prompt joined with one scored text.
#[derive(Debug, Clone, PartialEq)]
pub struct Joined {
    /// Every token: context, then scored.
    pub tokens: Vec<u32>,
    /// Index of the first scored token; at least 1.
    pub first_scored: usize,
    /// Whether the first scored token begins inside the prompt.
    pub boundary_merge: bool,
    /// The context is only the token that stands for an empty one.
    pub is_context_empty: bool,
}

/// Why a prompt and a target could not be joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The tokenizer refused the text.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// Nothing would be scored.
    #[error("the target has no tokens")]
    EmptyTarget,
    /// An empty prompt, and a model without a token to stand for it.
    #[error(
        "the prompt is empty, and the model has neither a BOS nor an EOS token to stand for it"
    )]
    NoPrefixToken,
    /// The text has a byte that the vocabulary has no token for; it would be lost.
    #[error("the text has the byte 0x{byte:02x}, for which the model has no token")]
    MissingByte {
        /// The first such byte.
        byte: u8,
    },
    /// The template wrote the beginning-of-sequence token twice.
    #[error("the prompt begins with two BOS tokens; remove one from the template")]
    TwoBos,
}

/// The prompt without its trailing whitespace (Python's `str.rstrip`).
pub fn stripped(prompt: &str) -> &str {
    // Python also strips the four ASCII separators, which Unicode does not call whitespace.
    prompt.trim_end_matches(|c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c))
}

/// The delimiter where the experiment sets none: a space, unless the prompt is
/// empty, ends in whitespace, or comes from a chat template.
pub fn default_delimiter(prompt: &str, is_chat: bool) -> &'static str {
    if is_chat || prompt.is_empty() || stripped(prompt).len() < prompt.len() {
        ""
    } else {
        " "
    }
}

/// Joins `prompt`, `delimiter` and `target` for `model`.
///
/// # Errors
///
/// [`JoinError`] if nothing would be scored or the model cannot condition on it.
pub fn join(
    model: &Model,
    prompt: &Guarded,
    delimiter: &str,
    target: &Guarded,
) -> Result<Joined, JoinError> {
    Joiner::new(model).join(prompt, delimiter, target)
}

/// The tokens of a prompt that a generation continues, exactly as rendered.
///
/// # Errors
///
/// [`JoinError`] if the prompt is empty and nothing can stand for it.
pub fn prompt_tokens(model: &Model, prompt: &Guarded) -> Result<Vec<u32>, JoinError> {
    Joiner::new(model).prompt_tokens(prompt)
}

/// Joins many texts for one model, and does not encode again what one has in common with
/// the one before.
#[derive(Debug)]
pub struct Joiner<'m> {
    model: &'m Model,
    memo: Memo<'m>,
}

impl<'m> Joiner<'m> {
    /// A joiner for texts of `model`.
    pub fn new(model: &'m Model) -> Self {
        Self {
            model,
            memo: Memo::new(&model.tokenizer),
        }
    }

    /// As [`join`].
    ///
    /// # Errors
    ///
    /// Those of [`join`].
    pub fn join(
        &mut self,
        prompt: &Guarded,
        delimiter: &str,
        target: &Guarded,
    ) -> Result<Joined, JoinError> {
        let text = format!("{}{delimiter}{}", prompt.text, target.text);
        let shift = prompt.text.len() + delimiter.len();
        let shifted = target
            .plain
            .iter()
            .map(|it| it.start + shift..it.end + shift);
        let plain: Vec<Range<usize>> = prompt.plain.iter().cloned().chain(shifted).collect();
        let model = self.model;
        let tokens = self.encode(&text, &plain)?;
        let border = stripped(&prompt.text).len();
        let first = tokens.partition_point(|it| it.end <= border);
        if first == tokens.len() || target.text.is_empty() {
            return Err(JoinError::EmptyTarget);
        }
        let previous_end = if first == 0 { 0 } else { tokens[first - 1].end };
        let boundary_merge = previous_end < border;
        let (ids, n_added) = with_prefix(model, tokens, first == 0)?;
        // An empty prompt conditions on the prefix; if the text brought it along itself,
        // it becomes the context and is not scored.
        let first_scored = (first + n_added).max(1);
        if ids.len() <= first_scored {
            return Err(JoinError::EmptyTarget);
        }
        let is_context_empty = border == 0 && first_scored == 1;
        Ok(Joined {
            tokens: ids,
            first_scored,
            boundary_merge,
            is_context_empty,
        })
    }

    /// As [`prompt_tokens`].
    ///
    /// # Errors
    ///
    /// Those of [`prompt_tokens`].
    pub fn prompt_tokens(&mut self, prompt: &Guarded) -> Result<Vec<u32>, JoinError> {
        let model = self.model;
        let tokens = self.encode(&prompt.text, &prompt.plain)?;
        Ok(with_prefix(model, tokens, tokens.is_empty())?.0)
    }

    /// Tokenises a text of which no byte may be lost.
    fn encode(&mut self, text: &str, plain: &[Range<usize>]) -> Result<&[Token], JoinError> {
        match self.model.tokenizer.missing_byte(text) {
            Some(byte) => Err(JoinError::MissingByte { byte }),
            None => Ok(self.memo.encode(text, plain)?),
        }
    }
}

/// Puts the model's BOS in front where its policy says so, or where the context
/// would be empty (there EOS serves a model without BOS); returns how many were added.
fn with_prefix(
    model: &Model,
    tokens: &[Token],
    is_context_empty: bool,
) -> Result<(Vec<u32>, usize), JoinError> {
    let ids: Vec<u32> = tokens.iter().map(|it| it.id).collect();
    let prefix = if is_context_empty {
        let prefix = model.bos.or_else(|| model.eos.first().copied());
        Some(prefix.ok_or(JoinError::NoPrefixToken)?)
    } else {
        model.bos.filter(|_| model.add_bos)
    };
    if let (Some(bos), [first, second, ..]) = (model.bos, &ids[..])
        && *first == bos
        && *second == bos
    {
        return Err(JoinError::TwoBos);
    }
    match prefix {
        Some(prefix) if ids.first() != Some(&prefix) => {
            Ok((std::iter::once(prefix).chain(ids).collect(), 1))
        }
        _ => Ok((ids, 0)),
    }
}

impl Joined {
    /// Requests whose logprobs together are those of the scored tokens.
    ///
    /// One request where everything fits `n_context` positions. A longer text with
    /// an empty context is scored in windows that predict each token once: the
    /// first is full, each next one predicts the next `n_context` tokens or the
    /// rest, with as much context as fits (lm-evaluation-harness'
    /// `get_rolling_token_windows` with a context of 1). `None` if a non-empty
    /// context does not fit.
    pub fn requests(&self, n_context: usize) -> Option<Vec<Request>> {
        let last = self.tokens.len() - 1;
        if last <= n_context {
            return Some(vec![Request::loglikelihood(
                &self.tokens[..],
                self.first_scored,
            )]);
        }
        if !self.is_context_empty {
            return None;
        }
        let mut requests = Vec::new();
        let mut done = 0;
        while done < last {
            let end = last.min(done + n_context);
            let start = end.saturating_sub(n_context);
            requests.push(Request::loglikelihood(
                &self.tokens[start..=end],
                done + 1 - start,
            ));
            done = end;
        }
        Some(requests)
    }

    /// Drops context from the left until `n_context` positions suffice.
    ///
    /// A BOS in front stays in front. `None` if the scored tokens alone are too many.
    pub fn truncated_left(mut self, n_context: usize, bos: Option<u32>) -> Option<Self> {
        let excess = (self.tokens.len() - 1).saturating_sub(n_context);
        let keep = usize::from(bos.is_some() && self.tokens.first().copied() == bos);
        // At least one token must remain to condition on.
        if self.first_scored < excess + keep.max(1) {
            return None;
        }
        self.tokens.drain(keep..keep + excess);
        self.first_scored -= excess;
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Work;

    fn rolling(n_tokens: u32, n_context: usize) -> Vec<(Vec<u32>, usize)> {
        let joined = Joined {
            tokens: (0..n_tokens).collect(),
            first_scored: 1,
            boundary_merge: false,
            is_context_empty: true,
        };
        let requests = joined.requests(n_context).unwrap();
        requests
            .into_iter()
            .map(|it| {
                let Work::Loglikelihood { first_scored } = it.work else {
                    panic!("{it:?}")
                };
                assert!(it.n_positions() <= n_context);
                (it.tokens.to_vec(), first_scored)
            })
            .collect()
    }

    /// lm-evaluation-harness 0.4.13's docstring example: ten tokens, length 4, context 1.
    #[test]
    fn windows_are_those_of_lm_evaluation_harness() {
        // Token 0 is the prefix; its tokens 0..9 are 1..10 here.
        let got = rolling(11, 4);
        let want = [
            (vec![0, 1, 2, 3, 4], 1),
            (vec![4, 5, 6, 7, 8], 1),
            // The last window predicts 9 and 10 with the four tokens before 10.
            (vec![6, 7, 8, 9, 10], 3),
        ];
        assert_eq!(got, want);
    }

    /// The engine refuses it too, but then it would have been planned.
    #[test]
    fn what_is_longer_than_the_context_is_no_request() {
        let joined = Joined {
            tokens: (0..6).collect(),
            first_scored: 2,
            boundary_merge: false,
            is_context_empty: false,
        };
        assert!(joined.requests(5).is_some());
        assert_eq!(joined.requests(4), None);
    }

    #[test]
    fn every_token_of_a_long_text_is_scored_once() {
        for n_tokens in 2..40 {
            for n_context in 1..12 {
                let scored: Vec<u32> = rolling(n_tokens, n_context)
                    .into_iter()
                    .flat_map(|(tokens, first)| tokens[first..].to_vec())
                    .collect();
                let want: Vec<u32> = (1..n_tokens).collect();
                assert_eq!(scored, want, "{n_tokens} tokens, context {n_context}");
            }
        }
    }

    #[test]
    fn truncation_keeps_the_bos_and_every_scored_token() {
        let joined = Joined {
            tokens: vec![9, 1, 2, 3, 4, 5],
            first_scored: 4,
            boundary_merge: false,
            is_context_empty: false,
        };
        assert_eq!(joined.requests(4), None);
        // Five positions needed, three there: 1 and 2 go, the BOS 9 stays.
        let got = joined.clone().truncated_left(3, Some(9)).unwrap();
        assert_eq!((got.tokens, got.first_scored), (vec![9, 3, 4, 5], 2));
        let got = joined.clone().truncated_left(3, None).unwrap();
        assert_eq!((got.tokens, got.first_scored), (vec![2, 3, 4, 5], 2));
        assert_eq!(joined.truncated_left(1, Some(9)), None);
    }

    #[test]
    fn the_delimiter_is_a_space_only_where_one_is_missing() {
        assert_eq!(default_delimiter("A:", false), " ");
        assert_eq!(default_delimiter("A:\n", false), "");
        assert_eq!(default_delimiter("A: ", false), "");
        assert_eq!(default_delimiter("", false), "");
        assert_eq!(default_delimiter("A:", true), "");
    }
}
