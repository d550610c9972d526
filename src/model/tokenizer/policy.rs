//! Which tokens begin and end a text: the BOS policy and the ids that end a generation.
//!
//! One policy per model, read once and recorded. `add_bos` says whether the model
//! was made to see the BOS token in front of every text; nothing here adds it.
//!
//! A setting that appends EOS to every text (`add_eos_token`, or a template with a
//! token behind the text) is passed over: texts are what a model continues, and a
//! target with an EOS behind it would be scored for a token that nobody wrote.

use serde_json::Value;

use super::{Tokenizer, TokenizerError};
use crate::model::gguf::{Gguf, Value as GgufValue};

/// The tokens that begin and end a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    /// The token that begins a text, if the model has one.
    pub(crate) bos: Option<u32>,
    /// Whether it stands in front of every text.
    pub(crate) add_bos: bool,
    /// Every token that ends a generation, the model's EOS first.
    pub(crate) eos: Vec<u32>,
}

impl Policy {
    /// The policy of a GGUF header, whose ends are its EOS, end-of-turn and
    /// end-of-message tokens. Unlike in llama.cpp, no token ends a text because of how
    /// it is spelled: the header and the original checkpoint then agree.
    pub(crate) fn from_gguf(gguf: &Gguf, tokenizer: &Tokenizer) -> Result<Self, TokenizerError> {
        let id = |key: &str| -> Result<Option<u32>, TokenizerError> {
            let key = format!("tokenizer.ggml.{key}");
            let Some(id) = gguf.optional(&key, "a token id", GgufValue::as_u64)? else {
                return Ok(None);
            };
            Ok(Some(checked(id, &key, tokenizer)?))
        };
        let bos = id("bos_token_id")?;
        let add_bos = gguf
            .optional("tokenizer.ggml.add_bos_token", "a bool", GgufValue::as_bool)?
            // What llama.cpp takes it for where the key is absent.
            .unwrap_or_else(|| {
                let text = |key: &str| gguf.get(key).and_then(GgufValue::as_text);
                text("tokenizer.ggml.model") == Some("llama")
                    || matches!(
                        text("tokenizer.ggml.pre"),
                        Some("llama-bpe" | "llama3" | "llama-v3" | "tekken")
                    )
            });
        let mut eos = Vec::new();
        for key in ["eos_token_id", "eot_token_id", "eom_token_id"] {
            push_new(&mut eos, id(key)?);
        }
        Self { bos, add_bos, eos }.checked()
    }

    /// The policy of a checkpoint folder.
    ///
    /// `tokenizer_config.json` decides where it says `add_bos_token`; else the
    /// template in `tokenizer.json` does, if it puts the BOS token first. The ends are
    /// those of `generation_config.json`, else of `config.json`, and the tokenizer's.
    pub(crate) fn from_folder(
        config: &Value,
        generation_config: &Value,
        tokenizer_config: &Value,
        tokenizer_json: &Value,
        tokenizer: &Tokenizer,
    ) -> Result<Self, TokenizerError> {
        let named = |key: &str| token_text(&tokenizer_config[key]);
        let config_bos = ids(&config["bos_token_id"], "bos_token_id", tokenizer)?;
        let bos = named("bos_token")
            .and_then(|text| tokenizer.special_id(text))
            .or_else(|| config_bos.first().copied());
        let add_bos = tokenizer_config["add_bos_token"]
            .as_bool()
            .unwrap_or_else(|| {
                first_of_template(&tokenizer_json["post_processor"], tokenizer)
                    .is_some_and(|id| bos.is_none_or(|bos| bos == id))
            });
        let mut eos = ids(
            &generation_config["eos_token_id"],
            "eos_token_id",
            tokenizer,
        )?;
        if eos.is_empty() {
            eos = ids(&config["eos_token_id"], "eos_token_id", tokenizer)?;
        }
        push_new(
            &mut eos,
            named("eos_token").and_then(|text| tokenizer.special_id(text)),
        );
        Self { bos, add_bos, eos }.checked()
    }

    fn checked(self) -> Result<Self, TokenizerError> {
        if self.add_bos && self.bos.is_none() {
            return Err(TokenizerError::Broken {
                reason: "it asks for a BOS token in front of every text but names none".to_owned(),
            });
        }
        Ok(self)
    }
}

/// The text of a token that is written as a text or as an object with `content`.
pub(crate) fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["content"].as_str())
}

/// The token that a post-processor puts in front of a single text: its id by the
/// template's own table, else by its name.
fn first_of_template(processor: &Value, tokenizer: &Tokenizer) -> Option<u32> {
    if let Some(parts) = processor["processors"].as_array() {
        return parts.iter().find_map(|it| first_of_template(it, tokenizer));
    }
    if processor["type"] != "TemplateProcessing" {
        return None;
    }
    let name = processor["single"].as_array()?.first()?["SpecialToken"]["id"].as_str()?;
    let id = &processor["special_tokens"][name]["ids"][0];
    let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
    id.or_else(|| tokenizer.special_id(name))
}

/// One id, a list of ids, or nothing.
fn ids(value: &Value, key: &str, tokenizer: &Tokenizer) -> Result<Vec<u32>, TokenizerError> {
    let mut out = Vec::new();
    for value in value
        .as_array()
        .map_or(std::slice::from_ref(value), Vec::as_slice)
    {
        match value.as_u64() {
            Some(id) => push_new(&mut out, Some(checked(id, key, tokenizer)?)),
            None if value.is_null() => {}
            None => {
                return Err(TokenizerError::Broken {
                    reason: format!("`{key}` is {value}"),
                });
            }
        }
    }
    Ok(out)
}

fn checked(id: u64, key: &str, tokenizer: &Tokenizer) -> Result<u32, TokenizerError> {
    match u32::try_from(id) {
        Ok(id) if (id as usize) < tokenizer.n_vocab() => Ok(id),
        _ => Err(TokenizerError::Broken {
            reason: format!(
                "`{key}` is {id}, but there are {} tokens",
                tokenizer.n_vocab()
            ),
        }),
    }
}

fn push_new(ids: &mut Vec<u32>, id: Option<u32>) {
    if let Some(id) = id.filter(|id| !ids.contains(id)) {
        ids.push(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::gguf::testing::Builder;
    use serde_json::json;

    fn from_gguf(file: &Builder) -> Result<Policy, TokenizerError> {
        Policy::from_gguf(&Gguf::parse(&file.build()).unwrap(), &Tokenizer::bytes())
    }

    #[test]
    fn a_gguf_header_says_or_implies_the_policy() {
        let id = GgufValue::Unsigned;
        let bos = Builder::new().key("tokenizer.ggml.bos_token_id", &id(256));
        let plain = from_gguf(&bos).unwrap();
        assert_eq!(
            plain,
            Policy {
                bos: Some(256),
                add_bos: false,
                eos: vec![]
            }
        );
        let llama = bos.clone().key(
            "tokenizer.ggml.pre",
            &GgufValue::Text("llama-bpe".to_owned()),
        );
        assert!(from_gguf(&llama).unwrap().add_bos);
        let told = llama
            .clone()
            .key("tokenizer.ggml.add_bos_token", &GgufValue::Bool(false));
        assert!(!from_gguf(&told).unwrap().add_bos);
        let llama_2 = bos
            .clone()
            .key("tokenizer.ggml.model", &GgufValue::Text("llama".to_owned()));
        assert!(from_gguf(&llama_2).unwrap().add_bos);
        let asks_for_eos = bos
            .clone()
            .key("tokenizer.ggml.add_eos_token", &GgufValue::Bool(true));
        assert_eq!(from_gguf(&asks_for_eos).unwrap(), plain);
        let ends = bos
            .key("tokenizer.ggml.eos_token_id", &id(257))
            .key("tokenizer.ggml.eot_token_id", &id(3));
        assert_eq!(from_gguf(&ends).unwrap().eos, [257, 3]);
        let far = Builder::new().key("tokenizer.ggml.eos_token_id", &id(258));
        assert!(
            from_gguf(&far)
                .unwrap_err()
                .to_string()
                .contains("there are 258 tokens")
        );
        let none = Builder::new().key("tokenizer.ggml.add_bos_token", &GgufValue::Bool(true));
        assert!(
            from_gguf(&none)
                .unwrap_err()
                .to_string()
                .contains("names none")
        );
    }

    #[test]
    fn a_folder_says_it_in_its_configs_or_its_template() {
        let it = Tokenizer::bytes();
        let template = json!({"post_processor": {"type": "Sequence", "processors": [
            {"type": "ByteLevel"},
            {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<bos>"}}, {"Sequence": {}}]}]}});
        let names = json!({"bos_token": {"content": "<bos>"}, "eos_token": "<eos>"});
        let policy = |config: &Value, generation: &Value, names: &Value, template: &Value| {
            Policy::from_folder(config, generation, names, template, &it).unwrap()
        };
        let null = Value::Null;
        let got = policy(&json!({"eos_token_id": 5}), &null, &names, &template);
        assert_eq!(
            got,
            Policy {
                bos: Some(256),
                add_bos: true,
                eos: vec![5, 257]
            }
        );
        // An EOS behind the text is not a policy of ours.
        let mut both = template.clone();
        both["post_processor"]["processors"][1]["single"] = json!([
            {"SpecialToken": {"id": "<bos>"}}, {"Sequence": {}}, {"SpecialToken": {"id": "<eos>"}}]);
        let asks = json!({"bos_token": "<bos>", "eos_token": "<eos>", "add_eos_token": true});
        let config = json!({"eos_token_id": 5});
        assert_eq!(policy(&config, &null, &asks, &both), got);
        let only_eos = json!({"post_processor": {"type": "TemplateProcessing",
            "single": [{"Sequence": {}}, {"SpecialToken": {"id": "<eos>"}}]}});
        assert!(!policy(&null, &null, &names, &only_eos).add_bos);
        // The template's own table says which token its name is.
        let table = json!({"post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "B"}}, {"Sequence": {}}],
            "special_tokens": {"B": {"id": "B", "ids": [256], "tokens": ["<bos>"]}}}});
        assert!(policy(&null, &null, &names, &table).add_bos);
        let mut told = names.clone();
        told["add_bos_token"] = json!(false);
        assert!(!policy(&null, &null, &told, &template).add_bos);
        assert!(!policy(&null, &null, &names, &null).add_bos);
        let listed = json!({"eos_token_id": [257, 7]});
        assert_eq!(
            policy(&json!({"eos_token_id": 5}), &listed, &null, &null).eos,
            [257, 7]
        );
        assert_eq!(
            policy(&json!({"bos_token_id": 2}), &null, &null, &null).bos,
            Some(2)
        );
    }
}
