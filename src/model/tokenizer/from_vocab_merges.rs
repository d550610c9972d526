//! Builds the tokenizer of a folder that has `vocab.json` and `merges.txt` but no
//! `tokenizer.json`, as GPT-2's authors wrote them.
//!
//! The two files hold no rule for words and no special tokens. `tokenizer_config.json`
//! names the class of the tokenizer, whose rule is known for two classes, and lists the
//! tokens that were added. A special token that it names, or that its class has, but that
//! has no id is refused: transformers would invent one.

use std::collections::HashMap;

use serde_json::Value;

use super::byte_level::{self, Words, unknown_merge};
use super::from_json::{MAX_VOCAB, put, refuse_flags};
use super::library::broken;
use super::policy::token_text;
use super::{Tokenizer, TokenizerError};

/// What both classes take where their settings name none.
const END: &str = "<|endoftext|>";

/// Builds the tokenizer from the two files and the settings, `null` where there are none.
pub(super) fn build(
    vocab: &[u8],
    merges: &[u8],
    settings: &Value,
) -> Result<Tokenizer, TokenizerError> {
    let words = words(settings)?;
    let vocab: HashMap<String, u64> = serde_json::from_slice(vocab).map_err(|err| broken(&err))?;
    let merges = std::str::from_utf8(merges).map_err(|err| broken(&err))?;
    let mut texts: Vec<Option<&str>> = Vec::new();
    for (text, id) in &vocab {
        put(&mut texts, checked(*id, text)?, text)?;
    }
    let mut added = HashMap::new();
    if let Some(entries) = settings["added_tokens_decoder"].as_object() {
        for (id, entry) in entries {
            let (id, text) = listed(id, entry)?;
            put(&mut texts, id, text)?;
            added.insert(id, entry["special"].as_bool().unwrap_or(false));
        }
    }
    let ids: HashMap<&str, u32> = (0_u32..)
        .zip(&texts)
        .filter_map(|(id, text)| Some(((*text)?, id)))
        .collect();
    for text in specials(settings, words) {
        let id = ids.get(text).ok_or_else(|| TokenizerError::Broken {
            reason: format!(
                "it has the special token `{text}`, but neither `vocab.json` nor `added_tokens_decoder` of `tokenizer_config.json` has its id"
            ),
        })?;
        added.insert(*id, true);
    }
    byte_level::build(&byte_level::Parts {
        merges: pairs(merges)?,
        added,
        words,
        prefix_space: settings["add_prefix_space"].as_bool().unwrap_or(false),
        texts,
    })
}

/// The rule for words of the tokenizer's class.
fn words(settings: &Value) -> Result<Words, TokenizerError> {
    let class = settings["tokenizer_class"].as_str().unwrap_or("unnamed");
    match class {
        "GPT2Tokenizer" | "GPT2TokenizerFast" => Ok(Words::Gpt2),
        "Qwen2Tokenizer" | "Qwen2TokenizerFast" => Ok(Words::Qwen2),
        _ => Err(TokenizerError::Unsupported {
            what: "class",
            found: class.to_owned(),
            supported: "`GPT2Tokenizer` and `Qwen2Tokenizer` where `tokenizer.json` is missing (`tokenizer_class` of `tokenizer_config.json`)",
        }),
    }
}

/// An entry of `added_tokens_decoder`: `"50257": {"content": "<x>", "special": true}`.
fn listed<'a>(id: &str, entry: &'a Value) -> Result<(u32, &'a str), TokenizerError> {
    let (Ok(id), Some(text)) = (id.parse(), entry["content"].as_str()) else {
        return Err(TokenizerError::Broken {
            reason: format!("`added_tokens_decoder` has `{id}` with {entry}"),
        });
    };
    refuse_flags(entry, text)?;
    Ok((checked(id, text)?, text))
}

fn checked(id: u64, text: &str) -> Result<u32, TokenizerError> {
    if id < MAX_VOCAB {
        return Ok(id as u32);
    }
    Err(TokenizerError::Broken {
        reason: format!("the token `{text}` has the id {id}"),
    })
}

/// The texts of the tokens that the settings or the class call special.
fn specials(settings: &Value, words: Words) -> Vec<&str> {
    let roles = ["bos_token", "eos_token", "unk_token", "pad_token"];
    let mut texts: Vec<&str> = roles
        .iter()
        .filter_map(|role| match &settings[*role] {
            // Absent, not null: the class has a default, if not for this role.
            Value::Null if settings.get(*role).is_none() => {
                let without = if words == Words::Gpt2 {
                    "pad_token"
                } else {
                    "bos_token"
                };
                (*role != without).then_some(END)
            }
            other => token_text(other),
        })
        .collect();
    if let Some(more) = settings["additional_special_tokens"].as_array() {
        texts.extend(more.iter().filter_map(token_text));
    }
    texts
}

/// The lines `a b` of `merges.txt`; a first line `#version` is none.
fn pairs(merges: &str) -> Result<Vec<(&str, &str)>, TokenizerError> {
    let is_title = |index: usize, line: &str| index == 0 && line.starts_with("#version");
    let lines = merges.lines().enumerate();
    lines
        .filter(|(index, line)| !line.is_empty() && !is_title(*index, line))
        .map(|(_, line)| {
            line.split_once(' ')
                .filter(|(_, b)| !b.contains(' '))
                .ok_or_else(|| unknown_merge(line))
        })
        .collect()
}
