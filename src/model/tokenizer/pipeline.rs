//! Checks the parts of a `tokenizer.json` around its model: what changes, cuts and
//! spells a text.
//!
//! Every part that passes keeps the whole text in its tokens, so that the end of each
//! token is a place in the text. A part that drops text, such as one that strips accents
//! or white space, is refused by name, as is one that is not known here.

use serde_json::Value;

use super::TokenizerError;
use super::byte_level::SPLITS;
use super::library::Traits;
use super::rewritten::Rewriting;
use super::vocabulary::Spelling;

const SPACE: &str = "▁";

/// Checks every part of `root`; says how its tokens spell text, and what else is known.
pub(super) fn check(root: &Value) -> Result<(Spelling, Traits), TokenizerError> {
    let spelling = spelling(&root["decoder"])?;
    let normalizers = flat(&root["normalizer"], "normalizers");
    for it in &normalizers {
        normalizer(it, spelling)?;
    }
    let rewriting = match spelling {
        Spelling::SentencePiece => Rewriting::Spaced,
        Spelling::ByteLevel if normalizers.is_empty() => Rewriting::None,
        Spelling::ByteLevel => Rewriting::Composed,
    };
    let mut is_byte_level = false;
    for it in flat(&root["pre_tokenizer"], "pretokenizers") {
        is_byte_level |= it["type"] == "ByteLevel";
        pre_tokenizer(it)?;
    }
    for it in flat(&root["post_processor"], "processors") {
        post_processor(it)?;
    }
    if is_byte_level != (spelling == Spelling::ByteLevel) {
        return Err(TokenizerError::Broken {
            reason: "only one of its pre-tokeniser and its decoder is byte-level".to_owned(),
        });
    }
    if spelling == Spelling::SentencePiece {
        byte_fallback(&root["model"])?;
    }
    let traits = Traits {
        rewriting,
        ends_words_at_spaces: spelling == Spelling::ByteLevel && ends_words_at_spaces(root),
    };
    Ok((spelling, traits))
}

/// Whether the pre-tokeniser is one of those of which it is known that a space behind
/// something else than white space begins a word: digits or known splits, then the bytes.
fn ends_words_at_spaces(root: &Value) -> bool {
    let parts = flat(&root["pre_tokenizer"], "pretokenizers");
    let Some((bytes, before)) = parts.split_last() else {
        return false;
    };
    let is_known_split = |part: &Value| {
        let known = |it: &str| SPLITS.contains(&it);
        kind(part) == "Split"
            && part["pattern"]["Regex"].as_str().is_some_and(known)
            && part["behavior"] == "Isolated"
            && part["invert"] == false
    };
    // The library splits where the field is missing.
    let splits = |part: &Value| part["use_regex"] != false;
    // An added token that is looked for after the text was composed may be spelled anew.
    let is_as_written = |entry: &Value| entry["normalized"] == false;
    kind(bytes) == "ByteLevel"
        && bytes["add_prefix_space"] == false
        && (splits(bytes) || before.iter().any(|it| is_known_split(it)))
        && before
            .iter()
            .all(|it| kind(it) == "Digits" || is_known_split(it))
        && (root["normalizer"].is_null()
            || root["added_tokens"]
                .as_array()
                .is_none_or(|it| it.iter().all(is_as_written)))
}

/// A part, or the parts of a sequence; none for null.
fn flat<'a>(part: &'a Value, list: &str) -> Vec<&'a Value> {
    if part.is_null() {
        return Vec::new();
    }
    match part[list].as_array() {
        Some(parts) if part["type"] == "Sequence" => {
            parts.iter().flat_map(|it| flat(it, list)).collect()
        }
        _ => vec![part],
    }
}

fn kind(part: &Value) -> &str {
    part["type"].as_str().unwrap_or("unnamed")
}

/// How tokens spell bytes, told by the decoder that turns them into text.
fn spelling(decoder: &Value) -> Result<Spelling, TokenizerError> {
    let parts = flat(decoder, "decoders");
    let kinds: Vec<&str> = parts.iter().map(|part| kind(part)).collect();
    if kinds.contains(&"ByteLevel") {
        return Ok(Spelling::ByteLevel);
    }
    let is_sentencepiece = |kind: &&str| matches!(*kind, "Metaspace" | "Replace" | "ByteFallback");
    if kinds.iter().any(is_sentencepiece) {
        return Ok(Spelling::SentencePiece);
    }
    Err(TokenizerError::Unsupported {
        what: "decoder",
        found: if kinds.is_empty() {
            "none".to_owned()
        } else {
            kinds.join("+")
        },
        supported: "`ByteLevel` and SentencePiece's (`Metaspace`, or `Replace` with `ByteFallback`)",
    })
}

fn normalizer(part: &Value, spelling: Spelling) -> Result<(), TokenizerError> {
    let is_space = spelling == Spelling::SentencePiece;
    let is_known = match kind(part) {
        "NFC" => !is_space,
        "Prepend" => is_space && part["prepend"] == SPACE,
        "Replace" => is_space && part["pattern"]["String"] == " " && part["content"] == SPACE,
        _ => false,
    };
    if is_known {
        return Ok(());
    }
    Err(TokenizerError::Unsupported {
        what: "normaliser",
        found: kind(part).to_owned(),
        supported: "`NFC` with byte-level BPE, and SentencePiece's `Prepend` and `Replace` of spaces",
    })
}

fn pre_tokenizer(part: &Value) -> Result<(), TokenizerError> {
    let is_known = match kind(part) {
        "ByteLevel" | "Digits" => true,
        "Metaspace" => part["replacement"] == SPACE,
        "Split" | "Punctuation" => part["behavior"] != "Removed",
        _ => false,
    };
    if is_known {
        return Ok(());
    }
    Err(TokenizerError::Unsupported {
        what: "pre-tokeniser",
        found: kind(part).to_owned(),
        supported: "`ByteLevel`, `Metaspace`, `Digits`, `Split` and `Punctuation` that remove nothing",
    })
}

/// Post-processors only add tokens around a text; the BOS policy reads them.
fn post_processor(part: &Value) -> Result<(), TokenizerError> {
    match kind(part) {
        "ByteLevel" | "TemplateProcessing" => Ok(()),
        other => Err(TokenizerError::Unsupported {
            what: "post-processor",
            found: other.to_owned(),
            supported: "`ByteLevel` and `TemplateProcessing`",
        }),
    }
}

/// Without a token for every byte, text would become the unknown-token.
fn byte_fallback(model: &Value) -> Result<(), TokenizerError> {
    if model["byte_fallback"] != true {
        return Err(TokenizerError::Unsupported {
            what: "model setting",
            found: "byte_fallback: false".to_owned(),
            supported: "SentencePiece with a token for every byte",
        });
    }
    for byte in 0..=255_u8 {
        let text = format!("<0x{byte:02X}>");
        if model["vocab"].get(&text).is_none() {
            return Err(TokenizerError::Broken {
                reason: format!("the byte token `{text}` is missing"),
            });
        }
    }
    Ok(())
}
