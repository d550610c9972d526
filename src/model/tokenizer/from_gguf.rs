//! Builds the tokenizer that a GGUF header describes.
//!
//! The header names its pre-tokeniser (`tokenizer.ggml.pre`); what the name means
//! is written down here for the few whose rules are certain, from the
//! `tokenizer.json` of the models they belong to and llama.cpp's `llama-vocab.cpp`,
//! which agree. An unknown name is refused: a wrong rule gives plausible, wrong ids.

use std::collections::HashMap;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

use super::library::{Library, broken};
use super::vocabulary::{Spelling, Vocabulary};
use super::{Tokenizer, TokenizerError};
use crate::model::gguf::{Gguf, Value};

/// Token types of the format, of which the others are ordinary text.
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;

/// Llama 3's split, as in its `tokenizer.json`.
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen 2's split: as Llama 3's, but digits stand alone.
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Which rules cut a text before the merges apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PreTokenizer {
    Gpt2,
    Smollm,
    Llama3,
    Qwen2,
}

impl PreTokenizer {
    fn named(name: &str) -> Result<Self, TokenizerError> {
        match name {
            "gpt-2" => Ok(Self::Gpt2),
            "smollm" => Ok(Self::Smollm),
            "llama-bpe" | "llama3" | "llama-v3" => Ok(Self::Llama3),
            "qwen2" => Ok(Self::Qwen2),
            _ => Err(TokenizerError::Unsupported {
                what: "pre-tokeniser",
                found: name.to_owned(),
                supported: "`gpt-2`, `smollm`, `llama-bpe` and `qwen2`",
            }),
        }
    }

    fn rules(self) -> Result<PreTokenizerWrapper, TokenizerError> {
        let gpt_2 = ByteLevel::new(false, false, true);
        let split = |pattern: &str| {
            let pattern = SplitPattern::Regex(pattern.to_owned());
            Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
                .map_err(|err| broken(&*err))
        };
        let bytes_only = ByteLevel::new(false, false, false);
        Ok(match self {
            Self::Gpt2 => gpt_2.into(),
            Self::Smollm => Sequence::new(vec![Digits::new(true).into(), gpt_2.into()]).into(),
            Self::Llama3 => Sequence::new(vec![split(LLAMA_3)?.into(), bytes_only.into()]).into(),
            Self::Qwen2 => Sequence::new(vec![split(QWEN_2)?.into(), bytes_only.into()]).into(),
        })
    }
}

/// Builds the tokenizer of `gguf`.
pub(super) fn build(gguf: &Gguf) -> Result<Tokenizer, TokenizerError> {
    let model = gguf.text("tokenizer.ggml.model")?;
    if model != "gpt2" {
        return Err(TokenizerError::Unsupported {
            what: "model",
            found: if model == "llama" {
                "llama (SentencePiece)".to_owned()
            } else {
                model.to_owned()
            },
            supported: "`gpt2` (byte-level BPE)",
        });
    }
    let pre = PreTokenizer::named(gguf.text("tokenizer.ggml.pre")?)?;
    let texts = gguf.texts("tokenizer.ggml.tokens")?;
    let added = added_tokens(gguf, texts.len())?;
    let mut vocab = Vocab::with_capacity(texts.len());
    for (id, text) in (0_u32..).zip(texts) {
        if let Some(first) = vocab.insert(text.clone(), id) {
            return Err(TokenizerError::Broken {
                reason: format!("the tokens {first} and {id} are both `{text}`"),
            });
        }
    }
    let merges = merges(gguf.texts("tokenizer.ggml.merges")?, &vocab)?;
    let bpe = BPE::builder()
        .vocab_and_merges(vocab, merges)
        // Llama 3 takes a whole word that is in the vocabulary before trying merges.
        .ignore_merges(pre == PreTokenizer::Llama3)
        .build()
        .map_err(|err| broken(&*err))?;
    let mut tokenizer = tokenizers::Tokenizer::new(bpe);
    tokenizer.with_pre_tokenizer(Some(pre.rules()?));
    if pre == PreTokenizer::Qwen2 {
        tokenizer
            .with_normalizer(Some(tokenizers::normalizers::unicode::NFC))
            .map_err(|err| broken(&*err))?;
    }
    tokenizer
        .add_tokens((0_u32..).zip(texts).filter_map(|(id, text)| {
            added
                .get(&id)
                .map(|special| AddedToken::from(text.clone(), *special).normalized(false))
        }))
        .map_err(|err| broken(&*err))?;
    let texts: Vec<Option<&str>> = texts.iter().map(|text| Some(text.as_str())).collect();
    Library::wrap(
        tokenizer,
        Vocabulary::new(&texts, &added, Spelling::ByteLevel)?,
    )
}

/// The ids that are matched in a text before the merges apply; `true` for special ones.
fn added_tokens(gguf: &Gguf, n_tokens: usize) -> Result<HashMap<u32, bool>, TokenizerError> {
    let key = "tokenizer.ggml.token_type";
    let Some(types) = gguf.optional(key, "an array of integers", Value::as_unsigned_array)? else {
        return Ok(HashMap::new());
    };
    if types.len() != n_tokens {
        return Err(TokenizerError::Broken {
            reason: format!("{n_tokens} tokens, but {} token types", types.len()),
        });
    }
    Ok((0_u32..)
        .zip(types)
        .filter(|(_, it)| matches!(*it, CONTROL | USER_DEFINED))
        .map(|(id, it)| (id, it == CONTROL))
        .collect())
}

/// Splits `a b` at its space and checks that both parts and the whole are tokens.
fn merges(lines: &[String], vocab: &Vocab) -> Result<Vec<(String, String)>, TokenizerError> {
    let known = |text: &str| vocab.contains_key(text);
    lines
        .iter()
        .map(|line| match line.split_once(' ') {
            Some((a, b)) if known(a) && known(b) && known(&format!("{a}{b}")) => {
                Ok((a.to_owned(), b.to_owned()))
            }
            _ => Err(TokenizerError::Broken {
                reason: format!("the merge `{line}` is not made of known tokens"),
            }),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::gguf::testing::Builder;
    use crate::model::gguf::{Array, Value};
    use crate::model::tokenizer::vocabulary::byte_of_char;

    const SPECIALS: [&str; 2] = ["<|end|>", "<|im_start|>"];

    /// All 256 bytes, four merges, two special tokens and one user-defined one.
    fn texts() -> Vec<String> {
        let mut bytes: Vec<(u8, char)> = byte_of_char().into_iter().map(|(c, b)| (b, c)).collect();
        bytes.sort_unstable();
        let mut texts: Vec<String> = SPECIALS.map(str::to_owned).to_vec();
        texts.extend(bytes.iter().map(|(_, it)| it.to_string()));
        texts.extend(["th", "the", "Ġthe", "12", "<tool>"].map(str::to_owned));
        texts
    }

    fn file(pre: &str, merges: &[&str]) -> Builder {
        let texts = texts();
        let types = (0..texts.len())
            .map(|id| match id {
                0 | 1 => 3,
                id if id + 1 == texts.len() => 4,
                _ => 1,
            })
            .collect();
        let text = |it: &str| Value::Text(it.to_owned());
        let merges = merges.iter().map(|it| (*it).to_owned()).collect();
        Builder::new()
            .key("tokenizer.ggml.model", &text("gpt2"))
            .key("tokenizer.ggml.pre", &text(pre))
            .key("tokenizer.ggml.tokens", &Value::Array(Array::Text(texts)))
            .key(
                "tokenizer.ggml.token_type",
                &Value::Array(Array::Signed(types)),
            )
            .key("tokenizer.ggml.merges", &Value::Array(Array::Text(merges)))
    }

    fn tokenizer(pre: &str) -> Tokenizer {
        let file = file(pre, &["t h", "th e", "Ġ the", "1 2"]).build();
        Tokenizer::from_gguf(&Gguf::parse(&file).unwrap()).unwrap()
    }

    fn pieces(it: &Tokenizer, text: &str, plain: &[std::ops::Range<usize>]) -> Vec<String> {
        let tokens = it.encode(text, plain).unwrap();
        tokens.iter().map(|token| it.token_text(token.id)).collect()
    }

    #[test]
    fn words_merge_and_digits_do_as_the_pre_tokeniser_says() {
        assert_eq!(
            pieces(&tokenizer("smollm"), "the the12", &[]),
            ["the", " the", "1", "2"]
        );
        assert_eq!(
            pieces(&tokenizer("gpt-2"), "the the12", &[]),
            ["the", " the", "12"]
        );
        assert_eq!(
            pieces(&tokenizer("llama-bpe"), "the the12", &[]),
            ["the", " the", "12"]
        );
        assert_eq!(
            pieces(&tokenizer("qwen2"), "the the12", &[]),
            ["the", " the", "1", "2"]
        );
    }

    #[test]
    fn specials_are_tokens_in_templates_and_text_in_data() {
        let it = tokenizer("smollm");
        let text = "<|im_start|>the<|im_start|>the<|end|>";
        assert_eq!(
            pieces(&it, text, &[]),
            ["<|im_start|>", "the", "<|im_start|>", "the", "<|end|>"]
        );
        // The second special token comes from data: bytes 12 to 30 are `the<|im_start|>the`.
        let tokens = it.encode(text, std::slice::from_ref(&(12..30))).unwrap();
        assert_eq!((tokens[0].id, tokens[tokens.len() - 1].id), (1, 0));
        assert_eq!(
            tokens
                .iter()
                .filter(|token| it.is_special(token.id))
                .count(),
            2
        );
        assert_eq!(
            it.decode(&tokens.iter().map(|it| it.id).collect::<Vec<_>>(), false),
            text
        );
        assert_eq!(tokens.last().unwrap().end, text.len());
        // User-defined tokens are tokens everywhere.
        assert_eq!(it.encode_plain("<tool>").unwrap().len(), 1);
        assert_eq!(it.specials(), SPECIALS);
    }

    #[test]
    fn ends_are_exact_inside_characters() {
        let it = tokenizer("smollm");
        let text = "the ç世🌍";
        let ends: Vec<usize> = it
            .encode(text, &[])
            .unwrap()
            .iter()
            .map(|it| it.end)
            .collect();
        assert_eq!(ends, [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
        for tokenizer in ["smollm", "gpt-2", "llama-bpe"].map(tokenizer) {
            for text in [
                "",
                " ",
                "\n\n a\t",
                "a\u{FDD0}b\u{301}",
                "<|end|",
                "x<|end|><|end|>  ",
            ] {
                let tokens = tokenizer.encode(text, &[]).unwrap();
                let ids: Vec<u32> = tokens.iter().map(|it| it.id).collect();
                assert_eq!(tokenizer.decode(&ids, false), text);
                assert_eq!(tokens.last().map_or(0, |it| it.end), text.len());
            }
        }
    }

    /// A normaliser composes `e` and the accent; the end is then the original's.
    #[test]
    fn ends_refer_to_the_text_before_normalisation() {
        let ends: Vec<usize> = tokenizer("qwen2")
            .encode("e\u{301}a", &[])
            .unwrap()
            .iter()
            .map(|it| it.end)
            .collect();
        assert_eq!(ends.last(), Some(&4));
    }

    #[test]
    fn other_tokenizers_are_refused_by_name() {
        let table = [
            (
                file("falcon", &[]),
                "pre-tokeniser `falcon` is not supported",
            ),
            (
                file("smollm", &["t zz"]),
                "the merge `t zz` is not made of known tokens",
            ),
            (
                file("smollm", &["t"]),
                "the merge `t` is not made of known tokens",
            ),
            (
                Builder::new().key("tokenizer.ggml.model", &Value::Text("llama".to_owned())),
                "model `llama (SentencePiece)` is not supported",
            ),
        ];
        for (file, expected) in table {
            let gguf = Gguf::parse(&file.build()).unwrap();
            let message = Tokenizer::from_gguf(&gguf).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
