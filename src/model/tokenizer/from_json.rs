//! Loads a `tokenizer.json`, after checking what the library would not.
//!
//! The library panics on some merges, renumbers added tokens whose ids do not fit,
//! and keeps truncation, padding and dropout. So the JSON is read once by us
//! first, and only byte-pair encodings whose tokens spell bytes pass.
//!
//! One thing is changed: a special token is matched in the text as it is written
//! (`normalized: false`). Some files of Llama 2's kind have the library look for it
//! after a space was put in front of the text, so that it is found only there;
//! SentencePiece and llama.cpp find it everywhere.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::library::{Library, broken};
use super::pipeline;
use super::vocabulary::Vocabulary;
use super::words::LibraryTokenizer;
use super::{Tokenizer, TokenizerError};

/// Largest vocabulary, as in a GGUF header.
pub(super) const MAX_VOCAB: u64 = 1 << 22;

/// Builds the tokenizer in `json`.
pub(super) fn build(json: &[u8]) -> Result<Tokenizer, TokenizerError> {
    let mut root: Value = serde_json::from_slice(json).map_err(|err| broken(&err))?;
    let changed = match_specials_as_written(&mut root).then(|| root.to_string());
    let json = changed.as_ref().map_or(json, |it| it.as_bytes());
    let model = &root["model"];
    check_model(model)?;
    let vocab = vocab(model)?;
    check_merges(model, &vocab)?;
    let (spelling, traits) = pipeline::check(&root)?;
    let added = added(&root)?;
    // The checks above cover the known panics; what is left must not end the process.
    let tokenizer = std::panic::catch_unwind(|| LibraryTokenizer::from_bytes(json))
        .map_err(|_| TokenizerError::Broken {
            reason: "the tokenizers library panicked on it".to_owned(),
        })?
        .map_err(|err| broken(&*err))?;
    let mut texts = Vec::new();
    let mut flags = HashMap::new();
    for (text, id) in vocab.iter().map(|(text, id)| (*text, *id)) {
        put(&mut texts, id, text)?;
    }
    for it in &added {
        if tokenizer.token_to_id(it.text) != Some(it.id) {
            return Err(TokenizerError::Broken {
                reason: format!("the added token `{}` cannot have the id {}", it.text, it.id),
            });
        }
        put(&mut texts, it.id, it.text)?;
        flags.insert(it.id, it.special);
    }
    let vocabulary = Vocabulary::new(&texts, &flags, spelling)?;
    Library::wrap(tokenizer, vocabulary, traits)
}

struct Added<'a> {
    id: u32,
    text: &'a str,
    special: bool,
}

/// Gives `text` the id `id`, which no other text may have.
pub(super) fn put<'a>(
    texts: &mut Vec<Option<&'a str>>,
    id: u32,
    text: &'a str,
) -> Result<(), TokenizerError> {
    let index = id as usize;
    if texts.len() <= index {
        texts.resize(index + 1, None);
    }
    match texts[index] {
        Some(other) if other != text => Err(TokenizerError::Broken {
            reason: format!("`{other}` and `{text}` both have the id {id}"),
        }),
        _ => {
            texts[index] = Some(text);
            Ok(())
        }
    }
}

fn check_model(model: &Value) -> Result<(), TokenizerError> {
    let kind = match &model["type"] {
        Value::String(kind) => kind.as_str(),
        // Files from before the field existed are BPE if they have merges.
        _ if model["merges"].is_array() => "BPE",
        _ => "unnamed",
    };
    if kind != "BPE" {
        return Err(TokenizerError::Unsupported {
            what: "model",
            found: kind.to_owned(),
            supported: "`BPE`",
        });
    }
    if let Some(dropout) = model["dropout"].as_f64().filter(|it| *it != 0.0) {
        return Err(TokenizerError::Dropout { dropout });
    }
    for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if model[key].as_str().is_some_and(|it| !it.is_empty()) {
            return Err(TokenizerError::Unsupported {
                what: "model setting",
                found: key.to_owned(),
                supported: "byte-level and SentencePiece-like BPE",
            });
        }
    }
    Ok(())
}

fn vocab(model: &Value) -> Result<HashMap<&str, u32>, TokenizerError> {
    let entries = model["vocab"]
        .as_object()
        .ok_or_else(|| TokenizerError::Broken {
            reason: "it has no `model.vocab`".to_owned(),
        })?;
    let vocab = entries
        .iter()
        .map(|(text, id)| Ok((text.as_str(), checked_id(id, text)?)))
        .collect::<Result<HashMap<_, _>, TokenizerError>>()?;
    if let Some(unknown) = model["unk_token"]
        .as_str()
        .filter(|it| !vocab.contains_key(it))
    {
        return Err(TokenizerError::Broken {
            reason: format!("the unknown-token `{unknown}` is not in the vocabulary"),
        });
    }
    Ok(vocab)
}

fn checked_id(id: &Value, text: &str) -> Result<u32, TokenizerError> {
    id.as_u64()
        .filter(|id| *id < MAX_VOCAB)
        .map(|id| id as u32)
        .ok_or_else(|| TokenizerError::Broken {
            reason: format!("the token `{text}` has the id {id}"),
        })
}

/// Merges are `"a b"` or `["a", "b"]`; a merge of unknown tokens makes the library panic.
fn check_merges(model: &Value, vocab: &HashMap<&str, u32>) -> Result<(), TokenizerError> {
    let merges = model["merges"].as_array().map_or(&[][..], Vec::as_slice);
    let known: HashSet<&str> = vocab.keys().copied().collect();
    for merge in merges {
        let parts = match merge {
            Value::String(line) => line.split_once(' '),
            Value::Array(pair) => match pair.as_slice() {
                [Value::String(a), Value::String(b)] => Some((a.as_str(), b.as_str())),
                _ => None,
            },
            _ => None,
        };
        let is_known = parts.is_some_and(|(a, b)| {
            known.contains(a) && known.contains(b) && known.contains(format!("{a}{b}").as_str())
        });
        if !is_known {
            return Err(TokenizerError::Broken {
                reason: format!("the merge {merge} is not made of known tokens"),
            });
        }
    }
    Ok(())
}

/// Clears `normalized` of special tokens where there is a normaliser; whether any had it.
fn match_specials_as_written(root: &mut Value) -> bool {
    if root["normalizer"].is_null() {
        return false;
    }
    let mut is_changed = false;
    for entry in root["added_tokens"].as_array_mut().into_iter().flatten() {
        if entry["special"] == true && entry["normalized"] == true {
            entry["normalized"] = Value::Bool(false);
            is_changed = true;
        }
    }
    is_changed
}

/// Refuses an added token that takes white space with it or only stands alone.
pub(super) fn refuse_flags(entry: &Value, text: &str) -> Result<(), TokenizerError> {
    let flags = ["lstrip", "rstrip", "single_word"];
    match flags.into_iter().find(|flag| entry[*flag] == true) {
        Some(flag) => Err(TokenizerError::AddedFlag {
            text: text.to_owned(),
            flag,
        }),
        None => Ok(()),
    }
}

fn added(root: &Value) -> Result<Vec<Added<'_>>, TokenizerError> {
    let entries = root["added_tokens"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    entries
        .iter()
        .map(|entry| {
            let text = entry["content"]
                .as_str()
                .ok_or_else(|| TokenizerError::Broken {
                    reason: "an added token has no `content`".to_owned(),
                })?;
            let special = entry["special"].as_bool().unwrap_or(false);
            refuse_flags(entry, text)?;
            Ok(Added {
                id: checked_id(&entry["id"], text)?,
                text,
                special,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn byte_level() -> Value {
        json!({
            "version": "1.0",
            "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
            "padding": {"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": null,
                        "pad_id": 0, "pad_type_id": 0, "pad_token": "<s>"},
            "added_tokens": [
                {"id": 0, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
                 "normalized": false, "special": true},
                {"id": 6, "content": "<x>", "single_word": false, "lstrip": false, "rstrip": false,
                 "normalized": false, "special": true}],
            "normalizer": null,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
            "post_processor": {"type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}},
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": {"<s>": 0, "a": 1, "b": 2, "Ġ": 3, "ab": 4, "Ġab": 5},
                "merges": ["a b", "Ġ ab"]}
        })
    }

    fn load(root: &Value) -> Result<Tokenizer, TokenizerError> {
        Tokenizer::from_json(root.to_string().as_bytes())
    }

    fn ids(it: &Tokenizer, text: &str) -> Vec<u32> {
        it.encode(text, &[])
            .unwrap()
            .iter()
            .map(|token| token.id)
            .collect()
    }

    /// Truncation to 2, padding to 8 and the template's BOS would each show here.
    #[test]
    fn truncation_padding_and_templates_are_cleared() {
        let it = load(&byte_level()).unwrap();
        assert_eq!(ids(&it, "ab ab ab<x>a"), [4, 5, 5, 6, 1]);
        assert_eq!(it.n_vocab(), 7);
        assert_eq!(it.specials(), ["<s>", "<x>"]);
        // A byte the vocabulary lacks is dropped, and the ends know.
        let ends: Vec<usize> = it
            .encode("abzab", &[])
            .unwrap()
            .iter()
            .map(|it| it.end)
            .collect();
        assert_eq!(ends, [2, 5]);
        assert!(it.missing_bytes().contains(&b'z'));
    }

    /// Llama 2's pipeline with six pieces and all bytes.
    fn sentencepiece() -> Value {
        let mut root = byte_level();
        root["normalizer"] = json!({"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]});
        root["pre_tokenizer"] = Value::Null;
        root["decoder"] = json!({"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]});
        root["model"]["byte_fallback"] = json!(true);
        let mut vocab = json!({"<s>": 0, "a": 1, "b": 2, "▁": 3, "ab": 4, "▁ab": 5});
        for byte in 0..256 {
            vocab[format!("<0x{byte:02X}>")] = json!(6 + byte);
        }
        root["model"]["vocab"] = vocab;
        root["model"]["merges"] = json!([["a", "b"], ["▁", "ab"]]);
        root["added_tokens"][1]["id"] = json!(262);
        root
    }

    #[test]
    fn sentencepiece_like_files_spell_their_text() {
        let it = load(&sentencepiece()).unwrap();
        let tokens = it.encode("ab çab", &[]).unwrap();
        let spelled: Vec<u32> = tokens.iter().map(|token| token.id).collect();
        let (c3, a7) = (6 + 0xC3, 6 + 0xA7);
        assert_eq!(spelled, [5, 3, c3, a7, 4]);
        let ends: Vec<usize> = tokens.iter().map(|token| token.end).collect();
        assert_eq!(ends, [2, 3, 4, 5, 7]);
        assert_eq!(it.decode(&spelled, true), " ab çab");
    }

    /// `normalized` would have the library look for `▁<x>`, which only begins a text.
    #[test]
    fn a_special_token_is_found_wherever_it_is_written() {
        let mut root = sentencepiece();
        root["added_tokens"][1]["normalized"] = json!(true);
        let it = load(&root).unwrap();
        assert_eq!(ids(&it, "ab<x>ab"), [5, 262, 5]);
        let ends: Vec<usize> = it
            .encode("ab<x>ab", &[])
            .unwrap()
            .iter()
            .map(|it| it.end)
            .collect();
        assert_eq!(ends, [2, 5, 7]);
    }

    /// `▁` in a text is a space, but in the text of an added token it is itself.
    #[test]
    fn a_written_space_is_a_space_but_in_a_token() {
        let mut root = sentencepiece();
        root["added_tokens"][1]["content"] = json!("▁<x>");
        let it = load(&root).unwrap();
        assert_eq!(ids(&it, "ab▁ab"), [5, 5]);
        assert_eq!(ids(&it, "ab▁<x>"), [5, 262]);
        let ends: Vec<usize> = it
            .encode("ab▁ab", &[])
            .unwrap()
            .iter()
            .map(|it| it.end)
            .collect();
        assert_eq!(ends, [2, 7]);
    }

    /// With `prepend_scheme: first` a space goes in front of the whole text, but not of
    /// what follows a special token, also where special-token text in data makes the
    /// text be encoded in pieces.
    #[test]
    fn a_space_goes_in_front_of_the_first_piece_only() {
        let mut root = sentencepiece();
        root["normalizer"] = Value::Null;
        root["pre_tokenizer"] = json!({"type": "Metaspace", "replacement": "▁",
            "prepend_scheme": "first", "split": false});
        let it = load(&root).unwrap();
        assert_eq!(ids(&it, "ab<x>ab<s>"), [5, 262, 4, 0]);
        let in_pieces = it
            .encode("ab<x>ab<s>", std::slice::from_ref(&(7..10)))
            .unwrap();
        let byte = |it: u8| 6 + u32::from(it);
        let got: Vec<u32> = in_pieces.iter().map(|token| token.id).collect();
        assert_eq!(got, [5, 262, 4, byte(b'<'), byte(b's'), byte(b'>')]);
        let ends: Vec<usize> = in_pieces.iter().map(|token| token.end).collect();
        assert_eq!(ends, [2, 5, 7, 8, 9, 10]);
    }

    /// A pre-tokeniser with one expression in front of the bytes.
    fn with_rule(pattern: &str) -> Tokenizer {
        let mut root = byte_level();
        root["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]});
        load(&root).unwrap()
    }

    /// `(a+)+` in front of what never comes takes two to the power of the number of `a` steps;
    /// a million are taken.
    #[test]
    fn an_expression_that_backtracks_without_end_is_an_error() {
        let it = with_rule(r"(a+)+\b(?!.)b");
        let message = it
            .encode(&"a".repeat(100_000), &[])
            .unwrap_err()
            .to_string();
        assert!(message.contains("rule for words gives up"), "{message}");
        assert_eq!(ids(&it, "aab"), [1, 4]);
        let spaces = format!("ab{}ab", " ".repeat(1_000_100));
        let gpt_2 = load(&byte_level()).unwrap();
        let message = gpt_2.encode(&spaces, &[]).unwrap_err().to_string();
        assert!(message.contains("rule for words gives up"), "{message}");
        let n_tokens = load(&sentencepiece())
            .unwrap()
            .encode(&spaces, &[])
            .unwrap()
            .len();
        // A space in front, which merges, and the last one, which does too.
        assert_eq!(n_tokens, 1 + 1_000_099 + 1);
    }

    /// `\K` lets a match begin inside the one before it, by which no text can be cut.
    #[test]
    fn a_panic_while_encoding_is_an_error_of_that_text() {
        let it = with_rule(r"(?<=\Ka)b|a");
        let message = it.encode("ab", &[]).unwrap_err().to_string();
        assert!(
            message.contains("the tokenizers library panicked on it"),
            "{message}"
        );
        assert_eq!(ids(&it, "bba"), [2, 2, 1]);
    }

    #[test]
    fn what_would_score_wrong_or_panic_is_refused() {
        let table: &[(&str, Value, &str)] = &[
            ("/model/dropout", json!(0.1), "BPE dropout 0.1"),
            (
                "/model/type",
                json!("Unigram"),
                "model `Unigram` is not supported",
            ),
            (
                "/model/end_of_word_suffix",
                json!("</w>"),
                "end_of_word_suffix",
            ),
            ("/model/merges", json!(["a b", "ab ab"]), "merge \"ab ab\""),
            (
                "/model/merges",
                json!([["a"]]),
                "is not made of known tokens",
            ),
            ("/model/unk_token", json!("?"), "unknown-token `?`"),
            ("/model/vocab/a", json!(2), "both have the id 2"),
            ("/model/vocab/a", json!(-1), "has the id -1"),
            ("/model/vocab/a", json!(MAX_VOCAB), "has the id 4194304"),
            ("/added_tokens/1/id", json!(9), "`<x>` cannot have the id 9"),
            ("/decoder/type", json!("WordPiece"), "decoder `WordPiece`"),
            (
                "/decoder/type",
                json!("ByteFallback"),
                "only one of its pre-tokeniser and its decoder",
            ),
            (
                "/normalizer",
                json!({"type": "StripAccents"}),
                "normaliser `StripAccents`",
            ),
            (
                "/normalizer",
                json!({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Strip"}]}),
                "normaliser `Strip`",
            ),
            (
                "/pre_tokenizer",
                json!({"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}]}),
                "pre-tokeniser `Whitespace`",
            ),
            (
                "/pre_tokenizer",
                json!({"type": "Split", "behavior": "Removed"}),
                "pre-tokeniser `Split`",
            ),
            (
                "/post_processor",
                json!({"type": "BertProcessing"}),
                "post-processor `BertProcessing`",
            ),
            (
                "/added_tokens/1/rstrip",
                json!(true),
                "added token `<x>` has `rstrip`",
            ),
            ("/version", json!("9.9"), "Unknown tokenizer version"),
        ];
        for (place, value, expected) in table {
            let mut root = byte_level();
            *root.pointer_mut(place).unwrap() = value.clone();
            let message = load(&root).unwrap_err().to_string();
            assert!(message.contains(expected), "{place}: {message}");
        }
        let mut root = sentencepiece();
        let vocab = root["model"]["vocab"].as_object_mut().unwrap();
        vocab.remove("<0x7F>").unwrap();
        let message = load(&root).unwrap_err().to_string();
        assert!(
            message.contains("byte token `<0x7F>` is missing"),
            "{message}"
        );
        assert!(Tokenizer::from_json(b"{").is_err());
        assert!(Tokenizer::from_json(b"[]").is_err());
    }
}
