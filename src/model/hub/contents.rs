//! Which files of a repository make a model, decided from their names alone.
//!
//! Safetensors come before GGUF; formats that can run code when they are read (`.bin`,
//! `.pt`, `.h5`, ...) are never taken.

use std::collections::BTreeSet;

use super::error::HubError;

/// The single weights file of a checkpoint.
pub(super) const SINGLE: &str = "model.safetensors";
/// The list of a checkpoint's several weights files.
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// Files beside the weights that are fetched if the repository has them.
const SETTINGS: [&str; 9] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
];

/// Those of them without which no checkpoint opens.
const REQUIRED: [&str; 2] = ["config.json", "tokenizer.json"];

/// Those of them that change what a model computes or how it is asked: a cache that lacks
/// one is complete only if it is known that the repository has none.
pub(super) const OPTIONAL: [&str; 3] = [
    "generation_config.json",
    "tokenizer_config.json",
    "chat_template.jinja",
];

/// What to take from a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    /// A checkpoint in safetensors.
    Checkpoint {
        /// Its settings, the weights' index among them.
        settings: Vec<String>,
        /// Its only weights file; `None` if the index lists them.
        single: Option<String>,
    },
    /// The only `.gguf` file.
    Gguf(String),
}

/// Chooses from all `names` of the repository's files, folders with `/`.
///
/// # Errors
///
/// [`HubError::NoModel`] or [`HubError::ManyGguf`], with what there is.
pub(super) fn choose(
    repo: &str,
    revision: &str,
    names: &BTreeSet<String>,
) -> Result<Choice, HubError> {
    let no_model = |reason: String| {
        Err(HubError::NoModel {
            repo: repo.to_owned(),
            reason,
        })
    };
    let index = names.contains(INDEX).then_some(INDEX);
    let single = if index.is_some() {
        None
    } else {
        single_weights(names)
    };
    if single.is_some() || index.is_some() {
        if let Some(missing) = REQUIRED.iter().find(|it| !names.contains(**it)) {
            return no_model(format!("it has safetensors, but no `{missing}`"));
        }
        let settings = SETTINGS.into_iter().chain(index);
        return Ok(Choice::Checkpoint {
            settings: settings
                .filter(|it| names.contains(*it))
                .map(str::to_owned)
                .collect(),
            single,
        });
    }
    let files: Vec<String> = names.iter().filter(|it| is_gguf(it)).cloned().collect();
    match files.as_slice() {
        [] => no_model(why_nothing(names)),
        [file] => Ok(Choice::Gguf(file.clone())),
        _ => Err(HubError::ManyGguf {
            repo: repo.to_owned(),
            revision: revision.to_owned(),
            files,
        }),
    }
}

/// `model.safetensors`, else the only one that is there.
fn single_weights(names: &BTreeSet<String>) -> Option<String> {
    if names.contains(SINGLE) {
        return Some(SINGLE.to_owned());
    }
    let mut others = names
        .iter()
        .filter(|it| it.ends_with(".safetensors") && !it.contains('/'));
    match (others.next(), others.next()) {
        (Some(only), None) => Some(only.clone()),
        _ => None,
    }
}

fn why_nothing(names: &BTreeSet<String>) -> String {
    let has = |endings: &[&str]| {
        names
            .iter()
            .any(|it| endings.iter().any(|e| it.ends_with(e)))
    };
    if has(&[".safetensors"]) {
        format!("it has several `.safetensors` files, but no `{INDEX}`")
    } else if has(&[".bin", ".pt", ".pth", ".h5", ".ckpt", ".msgpack"]) {
        "it has no safetensors and no `.gguf` file, and its other formats can run code and are not read"
            .to_owned()
    } else {
        "it has no safetensors and no `.gguf` file".to_owned()
    }
}

/// Whether the name is that of a `.gguf` file.
pub(super) fn is_gguf(name: &str) -> bool {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    ending.eq_ignore_ascii_case("gguf")
}

/// Whether the name is that of one part of several, `NAME-00001-of-00003.gguf`.
pub(super) fn is_split_gguf(name: &str) -> bool {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let number = |text: &str| text.len() == 5 && text.bytes().all(|it| it.is_ascii_digit());
    stem.rsplit_once("-of-").is_some_and(|(before, n_parts)| {
        let part = before.rsplit_once('-').map_or("", |(_, part)| part);
        number(part) && number(n_parts) && n_parts != "00001"
    })
}

/// Whether the file is, by its name, a part of the checkpoint that the index will list.
pub(super) fn is_shard(name: &str) -> bool {
    name.starts_with("model-") && name.ends_with(".safetensors") && !name.contains('/')
}

/// Whether joining the name to a folder stays below it, on every system.
pub(super) fn is_safe(name: &str) -> bool {
    let is_plain = |c: char| !c.is_control() && !"\\:*?\"<>|".contains(c);
    let is_part =
        |part: &str| !part.is_empty() && part != "." && part != ".." && !part.ends_with(' ');
    name.len() <= 1024 && name.chars().all(is_plain) && name.split('/').all(is_part)
}

/// The weights files that an index lists, each once, or what is wrong with it.
pub(super) fn shards(index: &[u8]) -> Result<BTreeSet<String>, String> {
    let root: serde_json::Value = serde_json::from_slice(index)
        .map_err(|err| format!("`{INDEX}` is not valid JSON: {err}"))?;
    let map = root["weight_map"].as_object();
    let map = map.ok_or_else(|| format!("`{INDEX}` has no `weight_map`"))?;
    map.values()
        .map(|name| match name.as_str() {
            Some(name) if is_safe(name) && !name.contains('/') => Ok(name.to_owned()),
            _ => Err(format!("`{INDEX}` names the file {name}")),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str]) -> Result<Choice, String> {
        let names = names.iter().map(|it| (*it).to_owned()).collect();
        choose("o/r", "main", &names).map_err(|err| err.to_string())
    }

    fn checkpoint(settings: &[&str], single: Option<&str>) -> Choice {
        Choice::Checkpoint {
            settings: settings.iter().map(|it| (*it).to_owned()).collect(),
            single: single.map(str::to_owned),
        }
    }

    #[test]
    fn safetensors_come_before_all_else() {
        let both = ["config.json", "tokenizer.json"];
        let with = |more: &[&'static str]| [&both, more].concat();
        let beside = with(&[SINGLE, "b.safetensors", "a.gguf", "pytorch_model.bin"]);
        assert_eq!(chosen(&beside).unwrap(), checkpoint(&both, Some(SINGLE)));
        let shards = with(&[INDEX, SINGLE, "model-00001-of-00002.safetensors"]);
        let expected = checkpoint(&with(&[INDEX]), None);
        assert_eq!(chosen(&shards).unwrap(), expected);
        let other = with(&["weights.safetensors", "onnx/x.safetensors", "merges.txt"]);
        let expected = checkpoint(&with(&["merges.txt"]), Some("weights.safetensors"));
        assert_eq!(chosen(&other).unwrap(), expected);
    }

    #[test]
    fn one_gguf_file_needs_no_name() {
        assert_eq!(
            chosen(&["q/a.GGUF", "README.md"]),
            Ok(Choice::Gguf("q/a.GGUF".to_owned()))
        );
        let several = chosen(&["a.gguf", "b.gguf"]).unwrap_err();
        assert_eq!(several, "`o/r` has 2 `.gguf` files: a.gguf, b.gguf");
    }

    #[test]
    fn what_is_no_model_says_why() {
        let table: [(&[&str], &str); 4] = [
            (&["config.json", "pytorch_model.bin"], "can run code"),
            (
                &["a.safetensors", "b.safetensors"],
                "several `.safetensors`",
            ),
            (&["config.json", SINGLE], "no `tokenizer.json`"),
            (&["README.md"], "no safetensors and no `.gguf`"),
        ];
        for (names, expected) in table {
            let message = chosen(names).unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn names_stay_below_their_folder() {
        for it in ["a", "q/a b+c.gguf", ".hidden", "ü.gguf"] {
            assert!(is_safe(it), "{it}");
        }
        for it in [
            "", "/a", "a/../b", "a//b", "..", "a\\b", "C:a", "a\0", "a\nb", "a/",
        ] {
            assert!(!is_safe(it), "{it:?}");
        }
    }

    #[test]
    fn an_index_names_plain_files() {
        let good = br#"{"weight_map": {"a": "x.safetensors", "b": "x.safetensors"}}"#;
        assert_eq!(shards(good).unwrap().len(), 1);
        for bad in [
            "{}",
            "[",
            r#"{"weight_map": {"a": "../x"}}"#,
            r#"{"weight_map": {"a": 1}}"#,
        ] {
            assert!(shards(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn parts_of_a_split_file_are_recognised() {
        assert!(is_split_gguf("x-00001-of-00003.gguf"));
        for it in [
            "x.gguf",
            "x-00001-of-00001.gguf",
            "x-1-of-3.gguf",
            "made-of-wood.gguf",
        ] {
            assert!(!is_split_gguf(it), "{it}");
        }
    }
}
