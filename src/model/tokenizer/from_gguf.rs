//! Reads the tokenizer that a GGUF header describes.
//!
//! Two kinds pass, by `tokenizer.ggml.model`: `gpt2`, byte-level BPE whose rule for
//! words `tokenizer.ggml.pre` names ([`Words`]), and `llama`, SentencePiece BPE with
//! byte fallback ([`SentencePiece`]). A header means what llama.cpp's `llama-vocab.cpp`
//! makes of it, but for what the conversion lost: Qwen 2's texts are composed (NFC), and
//! no token becomes special because of how it is spelled.
//!
//! Token types: normal ones are text; control and unknown ones are special; user-defined
//! ones are tokens wherever they stand, in data too; unused ones are padding that no
//! text uses; byte ones spell a byte.

use std::collections::HashMap;

use super::byte_level::{self, Words, unknown_merge};
use super::sentencepiece::{Piece, SentencePiece};
use super::vocabulary::{Spelling, Vocabulary};
use super::{Encoder, Tokenizer, TokenizerError};
use crate::model::gguf::{Array, Gguf, Value};

const TYPES: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";

/// What a token is for, as the format numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    /// Control and unknown tokens: special.
    Control,
    UserDefined,
    Unused,
    Byte,
}

/// Builds the tokenizer of `gguf`.
pub(super) fn build(gguf: &Gguf) -> Result<Tokenizer, TokenizerError> {
    let model = gguf.text("tokenizer.ggml.model")?;
    let texts = match model {
        "gpt2" | "llama" => gguf.texts("tokenizer.ggml.tokens")?,
        _ => {
            return Err(TokenizerError::Unsupported {
                what: "model",
                found: model.to_owned(),
                supported: "`gpt2` (byte-level BPE) and `llama` (SentencePiece BPE)",
            });
        }
    };
    let kinds = kinds(gguf, texts.len())?;
    if model == "gpt2" {
        byte_level(gguf, texts, &kinds)
    } else {
        sentencepiece(gguf, texts, &kinds)
    }
}

fn byte_level(gguf: &Gguf, texts: &[String], kinds: &[Kind]) -> Result<Tokenizer, TokenizerError> {
    if let Some(id) = kinds.iter().position(|it| *it == Kind::Byte) {
        return Err(TokenizerError::Broken {
            reason: format!("the token {id} is a byte, but every token of byte-level BPE is"),
        });
    }
    let merges = gguf.texts("tokenizer.ggml.merges")?.iter();
    let parts = byte_level::Parts {
        texts: spelled(texts, kinds),
        merges: merges
            .map(|line| line.split_once(' ').ok_or_else(|| unknown_merge(line)))
            .collect::<Result<_, _>>()?,
        added: added(kinds),
        words: Words::of_gguf(gguf.get("tokenizer.ggml.pre").and_then(Value::as_text))?,
        prefix_space: flag(gguf, "tokenizer.ggml.add_space_prefix", false)?,
    };
    if parts.prefix_space {
        return Err(TokenizerError::Unsupported {
            what: "setting",
            found: "add_space_prefix".to_owned(),
            supported: "with SentencePiece",
        });
    }
    byte_level::build(&parts)
}

fn sentencepiece(
    gguf: &Gguf,
    texts: &[String],
    kinds: &[Kind],
) -> Result<Tokenizer, TokenizerError> {
    // Both change the text before it is encoded; llama.cpp reads them for T5 only.
    if flag(gguf, "tokenizer.ggml.remove_extra_whitespaces", false)? {
        return Err(unsupported_text("remove_extra_whitespaces"));
    }
    if gguf.get("tokenizer.ggml.precompiled_charsmap").is_some() {
        return Err(unsupported_text("precompiled_charsmap"));
    }
    let scores = scores(gguf, texts.len())?;
    let mut pieces = Vec::with_capacity(texts.len());
    for (id, (text, score)) in (0_u32..).zip(texts.iter().zip(&scores)) {
        match kinds[id as usize] {
            Kind::Normal | Kind::UserDefined => pieces.push(Piece {
                id,
                text,
                score: *score,
            }),
            // What the conversion pads the vocabulary with; an unused piece of
            // SentencePiece's own would still take part in merges.
            Kind::Unused if !text.is_empty() && !text.starts_with("[PAD") => {
                return Err(TokenizerError::Unsupported {
                    what: "unused piece",
                    found: text.clone(),
                    supported: "padding",
                });
            }
            _ => {}
        }
    }
    let bytes = bytes(texts, kinds)?;
    let prefix_space = flag(gguf, "tokenizer.ggml.add_space_prefix", true)?;
    let encoder = SentencePiece::new(&pieces, bytes, prefix_space)?;
    Ok(Tokenizer {
        vocabulary: Vocabulary::new(
            &spelled(texts, kinds),
            &added(kinds),
            Spelling::SentencePiece,
        )?,
        encoder: Encoder::SentencePiece(Box::new(encoder)),
    })
}

fn unsupported_text(setting: &str) -> TokenizerError {
    TokenizerError::Unsupported {
        what: "setting",
        found: setting.to_owned(),
        supported: "texts that are encoded as they are",
    }
}

/// The kind of every token; without the array all are normal.
fn kinds(gguf: &Gguf, n_tokens: usize) -> Result<Vec<Kind>, TokenizerError> {
    let Some(types) = gguf.optional(TYPES, "an array of integers", Value::as_unsigned_array)?
    else {
        return Ok(vec![Kind::Normal; n_tokens]);
    };
    if types.len() != n_tokens {
        return Err(TokenizerError::Broken {
            reason: format!("{n_tokens} tokens, but {} token types", types.len()),
        });
    }
    let kinds = types.iter().enumerate().map(|(id, it)| match it {
        1 => Ok(Kind::Normal),
        2 | 3 => Ok(Kind::Control),
        4 => Ok(Kind::UserDefined),
        5 => Ok(Kind::Unused),
        6 => Ok(Kind::Byte),
        other => Err(TokenizerError::Broken {
            reason: format!("the token {id} has the type {other}"),
        }),
    });
    kinds.collect()
}

fn added(kinds: &[Kind]) -> HashMap<u32, bool> {
    let ids = (0_u32..).zip(kinds);
    ids.filter(|(_, kind)| matches!(kind, Kind::Control | Kind::UserDefined))
        .map(|(id, kind)| (id, *kind == Kind::Control))
        .collect()
}

/// The text of every token; unused and empty ones have none.
fn spelled<'a>(texts: &'a [String], kinds: &[Kind]) -> Vec<Option<&'a str>> {
    let texts = texts.iter().zip(kinds);
    texts
        .map(|(text, kind)| {
            Some(text.as_str()).filter(|it| !it.is_empty() && *kind != Kind::Unused)
        })
        .collect()
}

fn flag(gguf: &Gguf, key: &str, otherwise: bool) -> Result<bool, TokenizerError> {
    Ok(gguf
        .optional(key, "a bool", Value::as_bool)?
        .unwrap_or(otherwise))
}

/// The score of every piece, in the 32 bits that SentencePiece compares.
fn scores(gguf: &Gguf, n_tokens: usize) -> Result<Vec<f32>, TokenizerError> {
    let floats = |value: &Value| match value {
        Value::Array(Array::Float(it)) => Some(it.iter().map(|it| *it as f32).collect()),
        _ => None,
    };
    let scores: Vec<f32> = gguf
        .optional(SCORES, "an array of floats", floats)?
        .ok_or_else(|| TokenizerError::Broken {
            reason: format!("it has no `{SCORES}`, which order the merges"),
        })?;
    if scores.len() != n_tokens || scores.iter().any(|it| it.is_nan()) {
        return Err(TokenizerError::Broken {
            reason: format!(
                "{n_tokens} tokens, but {} scores or one that is no number",
                scores.len()
            ),
        });
    }
    Ok(scores)
}

/// The id of every byte, which spell what no piece does.
fn bytes(texts: &[String], kinds: &[Kind]) -> Result<Box<[u32; 256]>, TokenizerError> {
    let by_text: HashMap<&str, u32> = (0_u32..)
        .zip(texts)
        .filter(|(id, _)| kinds[*id as usize] == Kind::Byte)
        .map(|(id, text)| (text.as_str(), id))
        .collect();
    let mut ids = Box::new([0; 256]);
    for (byte, id) in ids.iter_mut().enumerate() {
        let text = format!("<0x{byte:02X}>");
        *id = *by_text
            .get(text.as_str())
            .ok_or_else(|| TokenizerError::Broken {
                reason: format!("the byte token `{text}` is missing"),
            })?;
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::gguf::testing::Builder;
    use crate::model::gguf::{Array, Value};
    use crate::model::tokenizer::Memo;
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

    /// Characters are composed first, and `ộ` is three bytes, which are three tokens here.
    #[test]
    fn ends_refer_to_the_text_before_it_was_composed() {
        let it = tokenizer("qwen2");
        let ends = |text: &str| -> Vec<usize> {
            it.encode(text, &[])
                .unwrap()
                .iter()
                .map(|it| it.end)
                .collect()
        };
        assert_eq!(ends("e\u{301}a"), [3, 3, 4]);
        assert_eq!(ends("o\u{302}\u{323} the"), [5, 5, 5, 9]);
        // Data behind a special token does not compose with it, though `>` can.
        let text = "<|end|>\u{338}a";
        assert_eq!(
            it.encode(text, std::slice::from_ref(&(7..10))).unwrap()[0].id,
            0
        );
        assert_eq!(ends(text), [7, 8, 9, 10]);
    }

    /// `<unk>`, `<s>`, all bytes, then pieces by their merges.
    fn spm(add_space_prefix: Option<bool>) -> Builder {
        let mut texts: Vec<String> = ["<unk>", "<s>"].map(str::to_owned).to_vec();
        texts.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
        texts.extend(["▁", "a", "b", "ab", "▁a", "▁ab", "<tool>", "[PAD265]"].map(str::to_owned));
        let n = texts.len();
        let mut types = vec![2, 3];
        types.extend([6; 256]);
        types.extend([1, 1, 1, 1, 1, 1, 4, 5]);
        // `ab` beats `▁a`, and both lead to `▁ab`.
        let mut scores = vec![0.0; 258];
        scores.extend([-9.0, -9.0, -9.0, -1.0, -2.0, -3.0, 0.0, -10000.0]);
        assert_eq!((types.len(), scores.len()), (n, n));
        let text = |it: &str| Value::Text(it.to_owned());
        let file = Builder::new()
            .key("tokenizer.ggml.model", &text("llama"))
            .key("tokenizer.ggml.pre", &text("default"))
            .key("tokenizer.ggml.tokens", &Value::Array(Array::Text(texts)))
            .key("tokenizer.ggml.scores", &Value::Array(Array::Float(scores)))
            .key(
                "tokenizer.ggml.token_type",
                &Value::Array(Array::Signed(types)),
            );
        match add_space_prefix {
            Some(it) => file.key("tokenizer.ggml.add_space_prefix", &Value::Bool(it)),
            None => file,
        }
    }

    fn load(file: &Builder) -> Tokenizer {
        Tokenizer::from_gguf(&Gguf::parse(&file.build()).unwrap()).unwrap()
    }

    #[test]
    fn sentencepiece_puts_a_space_in_front_of_every_part() {
        let it = load(&spm(None));
        assert_eq!(pieces(&it, "ab<s>ab", &[]), [" ab", "<s>", " ab"]);
        assert_eq!(pieces(&it, " ab", &[]), [" ", " ab"]);
        // The space comes after the tokens that data may hold, and only there.
        assert_eq!(pieces(&it, "ab<tool>ab", &[]), [" ab", "<tool>", " ab"]);
        let plain = pieces(&it, "ab<s>", std::slice::from_ref(&(0..5)));
        assert_eq!(plain, [" ab", "<", "s", ">"]);
        let without = load(&spm(Some(false)));
        assert_eq!(pieces(&without, "ab<s>ab", &[]), ["ab", "<s>", "ab"]);
        let ids: Vec<u32> = it
            .encode("ab é", &[])
            .unwrap()
            .iter()
            .map(|it| it.id)
            .collect();
        assert_eq!(ids, [263, 258, 2 + 0xC3, 2 + 0xA9]);
        assert_eq!(it.n_vocab(), 266);
        assert_eq!(it.token_bytes(265), b"", "padding spells nothing");
        assert_eq!(it.specials(), ["<unk>", "<s>"]);
    }

    /// The library would take all that follows the spaces for one word.
    #[test]
    fn a_text_on_which_the_rule_for_words_gives_up_is_an_error() {
        let text = format!("the{}the the", " ".repeat(1_000_100));
        let pres = ["smollm", "gpt-2", "llama-bpe", "qwen2", "tekken"];
        for it in pres.map(tokenizer) {
            let mut memo = Memo::new(&it);
            let results = [
                it.encode(&text, &[]).map(|_| ()),
                it.encode_plain(&text).map(|_| ()),
                memo.encode(&text, &[]).map(|_| ()),
            ];
            for result in results {
                let message = result.unwrap_err().to_string();
                assert!(message.contains("rule for words gives up"), "{message}");
            }
            // The next text has the same beginning, and is another text.
            let expected = it.encode("the the", &[]).unwrap();
            assert_eq!(memo.encode("the the", &[]).unwrap(), expected);
            let shorter = format!("the{}the", " ".repeat(100_000));
            assert_eq!(
                it.encode(&shorter, &[]).unwrap().last().unwrap().end,
                100_006
            );
        }
        // SentencePiece has no such rule.
        let it = load(&spm(None));
        let tokens = it.encode(&text, &[]).unwrap();
        assert_eq!(tokens.len(), 1 + 3 + 1_000_100 + 3 + 1 + 3);
        let ids: Vec<u32> = tokens.iter().map(|it| it.id).collect();
        assert_eq!(it.decode(&ids, true), format!(" {text}"));
    }

    #[test]
    fn other_tokenizers_are_refused_by_name() {
        let model =
            |it: &str| Builder::new().key("tokenizer.ggml.model", &Value::Text(it.to_owned()));
        let yes = Value::Bool(true);
        let table = [
            (
                file("falcon", &[]),
                "pre-tokeniser `falcon` is not supported",
            ),
            (
                file("default", &[]),
                "does not name the tokenizer's rule for words",
            ),
            (model("t5"), "model `t5` is not supported"),
            (model("bert"), "model `bert` is not supported"),
            (model("rwkv"), "model `rwkv` is not supported"),
            (model("plamo2"), "model `plamo2` is not supported"),
            (
                spm(None).key("tokenizer.ggml.remove_extra_whitespaces", &yes),
                "setting `remove_extra_whitespaces` is not supported",
            ),
            (
                spm(None).key("tokenizer.ggml.precompiled_charsmap", &yes),
                "setting `precompiled_charsmap` is not supported",
            ),
            (
                file("gpt-2", &[]).key("tokenizer.ggml.add_space_prefix", &yes),
                "setting `add_space_prefix` is not supported",
            ),
            (
                file("smollm", &["t zz"]),
                "the merge `t zz` is not made of known tokens",
            ),
            // Longer together than any token, which the library does not check.
            (
                file("smollm", &["t h", "<|im_start|> <|end|>"]),
                "the merge `<|im_start|> <|end|>` is not made of known tokens",
            ),
            (
                file("smollm", &["t"]),
                "the merge `t` is not made of known tokens",
            ),
        ];
        for (file, expected) in table {
            let gguf = Gguf::parse(&file.build()).unwrap();
            let message = Tokenizer::from_gguf(&gguf).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
