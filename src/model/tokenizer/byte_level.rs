//! Byte-level BPE from its parts: a vocabulary, merges, and the rule that cuts a text
//! into words before the merges apply.
//!
//! A GGUF header and a folder with `vocab.json` and `merges.txt` name that rule, and
//! what the names mean is written down here, for those whose rules are certain: the
//! `tokenizer.json` of the models they belong to, llama.cpp's `llama-vocab.cpp` and,
//! where there is one, the original tokenizer's code agree. A wrong rule gives
//! plausible, wrong ids, so an unknown name is refused.

use std::collections::{HashMap, HashSet};

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, ModelWrapper, SplitDelimiterBehavior};

use super::library::{Library, Traits, broken};
use super::rewritten::Rewriting;
use super::vocabulary::{Spelling, Vocabulary};
use super::words::{Cut, LibraryTokenizer};
use super::{Tokenizer, TokenizerError};

/// GPT-2's split, as the library has it built in.
pub(super) const GPT_2: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Llama 3's split, as in its `tokenizer.json`.
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen 2's split: as Llama 3's, but digits stand alone.
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Mistral's Tekken: a change from lower to upper case begins a word.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Splits in which a space is the first character of a word or follows white space, and
/// which look ahead from white space only.
pub(super) const SPLITS: [&str; 4] = [GPT_2, LLAMA_3, QWEN_2, TEKKEN];

/// Which rule cuts a text before the merges apply. In all of them a space is the first
/// character of a word or follows white space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Words {
    Gpt2,
    Smollm,
    Llama3,
    Qwen2,
    Tekken,
}

impl Words {
    /// The rule that `tokenizer.ggml.pre` names.
    pub(super) fn of_gguf(pre: Option<&str>) -> Result<Self, TokenizerError> {
        match pre {
            Some("gpt-2" | "phi-2") => Ok(Self::Gpt2),
            Some("smollm" | "starcoder" | "refact") => Ok(Self::Smollm),
            Some("llama-bpe" | "llama3" | "llama-v3") => Ok(Self::Llama3),
            Some("qwen2") => Ok(Self::Qwen2),
            Some("tekken") => Ok(Self::Tekken),
            None | Some("default") => Err(TokenizerError::UnnamedWords),
            Some(name) => Err(TokenizerError::Unsupported {
                what: "pre-tokeniser",
                found: name.to_owned(),
                supported: "`gpt-2`, `smollm`, `starcoder`, `refact`, `phi-2`, `llama-bpe`, `qwen2` and `tekken`",
            }),
        }
    }

    fn rules(self, prefix_space: bool) -> Result<PreTokenizerWrapper, TokenizerError> {
        let gpt_2 = ByteLevel::new(prefix_space, false, true);
        let split = |pattern: &str| {
            let pattern = SplitPattern::Regex(pattern.to_owned());
            Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
                .map_err(|err| broken(&*err))
        };
        let pattern = match self {
            Self::Gpt2 => return Ok(gpt_2.into()),
            Self::Smollm => {
                return Ok(Sequence::new(vec![Digits::new(true).into(), gpt_2.into()]).into());
            }
            Self::Llama3 => LLAMA_3,
            Self::Qwen2 => QWEN_2,
            Self::Tekken => TEKKEN,
        };
        let bytes_only = ByteLevel::new(prefix_space, false, false);
        Ok(Sequence::new(vec![split(pattern)?.into(), bytes_only.into()]).into())
    }
}

/// What a byte-level tokenizer is made of.
pub(super) struct Parts<'a> {
    /// The text of each id; `None` for an id without a token.
    pub(super) texts: Vec<Option<&'a str>>,
    /// Pairs to merge, first ones first.
    pub(super) merges: Vec<(&'a str, &'a str)>,
    /// The ids that are matched in a text before the merges apply; `true` for special ones.
    pub(super) added: HashMap<u32, bool>,
    pub(super) words: Words,
    /// Whether a space is put in front of a text that does not begin with one.
    pub(super) prefix_space: bool,
}

/// Builds the tokenizer; merges of unknown tokens and a text with two ids are refused.
pub(super) fn build(parts: &Parts<'_>) -> Result<Tokenizer, TokenizerError> {
    let mut vocab = Vocab::with_capacity(parts.texts.len());
    for (id, text) in (0_u32..).zip(&parts.texts) {
        let Some(text) = text else { continue };
        if let Some(first) = vocab.insert((*text).to_owned(), id) {
            return Err(TokenizerError::Broken {
                reason: format!("the tokens {first} and {id} are both `{text}`"),
            });
        }
    }
    let longest = vocab.keys().map(String::len).max().unwrap_or(0);
    // The library would panic.
    let is_too_long = |(a, b): &(&str, &str)| longest < a.len() + b.len();
    if parts.merges.iter().any(is_too_long) {
        return Err(first_unknown_merge(parts));
    }
    let merges = parts.merges.iter();
    let bpe = BPE::builder()
        .vocab_and_merges(
            vocab,
            merges
                .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
                .collect::<Vec<_>>(),
        )
        // These take a whole word that is in the vocabulary before trying merges.
        .ignore_merges(matches!(parts.words, Words::Llama3 | Words::Tekken))
        .build()
        .map_err(|_| first_unknown_merge(parts))?;
    let mut tokenizer = LibraryTokenizer::new(ModelWrapper::from(bpe));
    let rules = parts.words.rules(parts.prefix_space)?;
    let cut = Cut::try_from(rules).map_err(|err| broken(&err))?;
    tokenizer.with_pre_tokenizer(Some(cut));
    let mut rewriting = Rewriting::None;
    if parts.words == Words::Qwen2 {
        rewriting = Rewriting::Composed;
        tokenizer
            .with_normalizer(Some(tokenizers::normalizers::unicode::NFC))
            .map_err(|err| broken(&*err))?;
    }
    let added = (0_u32..).zip(&parts.texts).filter_map(|(id, text)| {
        let special = parts.added.get(&id)?;
        Some(AddedToken::from((*text)?, *special).normalized(false))
    });
    tokenizer.add_tokens(added).map_err(|err| broken(&*err))?;
    let vocabulary = Vocabulary::new(&parts.texts, &parts.added, Spelling::ByteLevel)?;
    let traits = Traits {
        rewriting,
        // True of all of `Words`, if no space is put in front of a part.
        ends_words_at_spaces: !parts.prefix_space,
    };
    Library::wrap(tokenizer, vocabulary, traits)
}

/// The error for merges of which one has an unknown token, the only thing that the library
/// refuses; it names no merge.
fn first_unknown_merge(parts: &Parts<'_>) -> TokenizerError {
    let known: HashSet<&str> = parts.texts.iter().copied().flatten().collect();
    let is_known = |(a, b): &&(&str, &str)| {
        known.contains(a) && known.contains(b) && known.contains(format!("{a}{b}").as_str())
    };
    let unknown = parts.merges.iter().find(|it| !is_known(it));
    let (a, b) = unknown.copied().unwrap_or_default();
    unknown_merge(&format!("{a} {b}"))
}

/// The error for a line of merges that is none.
pub(super) fn unknown_merge(line: &str) -> TokenizerError {
    TokenizerError::Broken {
        reason: format!("the merge `{line}` is not made of known tokens"),
    }
}
