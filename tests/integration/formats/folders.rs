//! Checkpoint folders: half types, shards, and what stands where weights should.

use std::collections::BTreeMap;
use std::path::Path;

use harness::engine::local::LocalEngine;
use harness::model::ModelFiles;
use safetensors::SafeTensors;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::{TOLERANCE, deviation, fixtures, goldens, ids, open, refusal};

const INDEX: &str = "model.safetensors.index.json";

/// A copy of `tiny-llama` without its weights.
fn without_weights() -> TempDir {
    let base = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixtures().join("tiny-llama")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|it| it == "json") {
            std::fs::copy(&path, base.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    base
}

fn with_weights(path: &Path) -> TempDir {
    let base = without_weights();
    std::fs::copy(path, base.path().join("model.safetensors")).unwrap();
    base
}

fn tiny_llama() -> Vec<u8> {
    std::fs::read(fixtures().join("tiny-llama/model.safetensors")).unwrap()
}

fn write_json(base: &Path, name: &str, value: &Json) {
    std::fs::write(base.join(name), value.to_string()).unwrap();
}

/// Cuts `tiny-llama` into three shards by turns and writes the index.
fn sharded() -> (TempDir, BTreeMap<String, String>) {
    let base = without_weights();
    let bytes = tiny_llama();
    let whole = SafeTensors::deserialize(&bytes).unwrap();
    let mut names = whole.names();
    names.sort_unstable();
    let mut map = BTreeMap::new();
    for shard in 0..3 {
        let file = format!("model-{:05}-of-00003.safetensors", shard + 1);
        let part: Vec<_> = names.iter().skip(shard).step_by(3).collect();
        let views = part.iter().map(|it| (**it, whole.tensor(it).unwrap()));
        let bytes = safetensors::serialize(views, None).unwrap();
        std::fs::write(base.path().join(&file), bytes).unwrap();
        map.extend(part.into_iter().map(|it| ((*it).to_owned(), file.clone())));
    }
    write_index(base.path(), &map);
    (base, map)
}

fn write_index(base: &Path, map: &BTreeMap<String, String>) {
    // The total is wrong on purpose: nothing depends on it.
    write_json(
        base,
        INDEX,
        &json!({"metadata": {"total_size": 7}, "weight_map": map}),
    );
}

fn logits(base: &Path, tokens: &[u32]) -> Vec<Vec<f32>> {
    let engine = LocalEngine::load(&open(base, ".").unwrap()).unwrap();
    engine.logits(tokens).unwrap()
}

#[test]
fn half_checkpoints_equal_hugging_face() {
    for (name, types) in [("f16", "F16"), ("bf16", "BF16")] {
        let base = with_weights(&fixtures().join(format!("types/tiny-llama-{name}.safetensors")));
        let model = open(base.path(), ".").unwrap();
        assert!(
            model.quantisation.ends_with(types),
            "{}",
            model.quantisation
        );
        for sequence in goldens()["checkpoints"][name]["sequences"]
            .as_array()
            .unwrap()
        {
            let rows = logits(base.path(), &ids(&sequence["ids"]));
            let worst = deviation(&rows, &sequence["logits"]);
            println!("{name}: largest logit deviation {worst:.2e}");
            assert!(worst < TOLERANCE, "{name}: {worst}");
        }
    }
}

/// Where the tensors lie is no part of what is computed.
#[test]
fn a_sharded_checkpoint_has_the_bits_of_the_single_file() {
    let (sharded, _) = sharded();
    let single = with_weights(&fixtures().join("tiny-llama/model.safetensors"));
    let tokens: Vec<u32> = (3..40).collect();
    assert_eq!(
        logits(sharded.path(), &tokens),
        logits(single.path(), &tokens)
    );
    let model = open(sharded.path(), ".").unwrap();
    assert!(matches!(&model.files, ModelFiles::Safetensors { weights, .. } if weights.len() == 3));
    assert_eq!(model.info().files.len(), 3);
    // A file that the index does not list is not looked at, whatever is in it.
    std::fs::write(sharded.path().join("other.safetensors"), b"no header").unwrap();
    std::fs::write(sharded.path().join("pytorch_model.bin"), b"\x80\x02").unwrap();
    assert_eq!(open(sharded.path(), ".").unwrap().digest, model.digest);
}

#[test]
fn an_index_that_does_not_fit_the_shards_is_refused() {
    type Change = fn(&Path, &mut BTreeMap<String, String>);
    let shard = |n: u32| format!("model-0000{n}-of-00003.safetensors");
    let table: [(Change, &str); 8] = [
        (
            |base, _| {
                std::fs::remove_file(base.join("model-00002-of-00003.safetensors")).unwrap();
            },
            "lists `model-00002-of-00003.safetensors`, which is not there",
        ),
        (
            |_, map| {
                map.insert(
                    "lm_head.weight".to_owned(),
                    "model-00003-of-00003.safetensors".to_owned(),
                );
            },
            "`lm_head.weight` stands in `model-00001-of-00003.safetensors`, but `model.safetensors.index.json` says \"model-00003-of-00003.safetensors\"",
        ),
        (
            |_, map| {
                map.remove("model.norm.weight").unwrap();
            },
            "but `model.safetensors.index.json` does not list it",
        ),
        (
            |_, map| {
                map.insert(
                    "extra".to_owned(),
                    "model-00001-of-00003.safetensors".to_owned(),
                );
            },
            "says that the tensor `extra` stands in \"model-00001-of-00003.safetensors\", but it does not",
        ),
        (|_, map| map.clear(), "has no `weight_map` of tensors"),
        (
            |_, map| {
                map.insert("extra".to_owned(), "../model.safetensors".to_owned());
            },
            "names the file \"../model.safetensors\"",
        ),
        (
            |base, _| std::fs::write(base.join("model.safetensors"), tiny_llama()).unwrap(),
            "remove the one that is not meant",
        ),
        (
            |base, _| {
                let twice = base.join("model-00001-of-00003.safetensors");
                std::fs::copy(&twice, base.join("model-00002-of-00003.safetensors")).unwrap();
            },
            "`model.safetensors.index.json` says \"model-00001-of-00003.safetensors\"",
        ),
    ];
    for (change, expected) in table {
        let (base, mut map) = sharded();
        assert!(map.values().any(|it| *it == shard(2)));
        change(base.path(), &mut map);
        write_index(base.path(), &map);
        let got = refusal(base.path(), ".");
        assert!(got.contains(expected), "{expected}: {got}");
    }
    let (base, _) = sharded();
    std::fs::write(base.path().join(INDEX), "{").unwrap();
    assert!(refusal(base.path(), ".").contains("is not valid JSON"));
}

#[test]
fn what_stands_where_weights_should_is_named() {
    let table = [
        (
            "pytorch_model.bin",
            "`pytorch_model.bin`: a pickle can run code and is never opened",
        ),
        ("pytorch_model-00001-of-00002.bin", "a pickle can run code"),
        ("consolidated.00.pth", "a pickle can run code"),
        ("model.pt", "a pickle can run code"),
        ("model.ckpt", "from_pretrained`, then `save_pretrained`"),
        ("weights.pkl", "a pickle can run code"),
        (
            "model-Q4_K_M.gguf",
            "to use `model-Q4_K_M.gguf`, give its own path",
        ),
        (
            "consolidated.safetensors",
            "only in `consolidated.safetensors`, under Mistral's own names",
        ),
        ("tf_model.h5", "of a format that is not read"),
        ("notes.txt", "it has no `.safetensors` file"),
    ];
    for (name, expected) in table {
        let base = without_weights();
        std::fs::write(base.path().join(name), b"\x80\x02").unwrap();
        let got = refusal(base.path(), ".");
        assert!(got.contains(expected), "{name}: {got}");
    }
    // Beside safetensors a pickle is not in the way.
    let base = with_weights(&fixtures().join("tiny-llama/model.safetensors"));
    std::fs::write(base.path().join("pytorch_model.bin"), b"\x80\x02").unwrap();
    std::fs::write(base.path().join("consolidated.safetensors"), tiny_llama()).unwrap();
    assert!(open(base.path(), ".").is_ok());
    let adapter = base.path().join("adapter_config.json");
    std::fs::write(&adapter, "{}").unwrap();
    assert!(refusal(base.path(), ".").contains("asks for an adapter"));
    std::fs::remove_file(adapter).unwrap();
    std::fs::remove_file(base.path().join("config.json")).unwrap();
    std::fs::write(base.path().join("x.gguf"), b"GGUF").unwrap();
    let got = refusal(base.path(), ".");
    assert!(
        got.contains("it has no `config.json`; to use `x.gguf`, give its own path"),
        "{got}"
    );
}

#[test]
fn weights_of_other_types_are_refused_by_name() {
    let bytes = tiny_llama();
    let whole = SafeTensors::deserialize(&bytes).unwrap();
    let name = "model.layers.1.mlp.up_proj.weight";
    for (dtype, bits) in [
        (safetensors::Dtype::F64, 64),
        (safetensors::Dtype::F8_E4M3, 8),
        (safetensors::Dtype::F4, 4),
        (safetensors::Dtype::I8, 8),
        (safetensors::Dtype::I32, 32),
    ] {
        let shape = whole.tensor(name).unwrap().shape().to_vec();
        let data = vec![0; shape.iter().product::<usize>() * bits / 8];
        let other = safetensors::tensor::TensorView::new(dtype, shape, &data).unwrap();
        let views = whole.iter().map(|(key, view)| {
            let view = if key == name { other.clone() } else { view };
            (key, view)
        });
        let base = without_weights();
        let bytes = safetensors::serialize(views.collect::<Vec<_>>(), None).unwrap();
        std::fs::write(base.path().join("model.safetensors"), bytes).unwrap();
        let got = refusal(base.path(), ".");
        assert!(
            got.contains(name) && got.contains(&format!("{dtype:?}")),
            "{got}"
        );
    }
}

#[test]
fn broken_settings_are_refused_by_name() {
    let table = [
        ("config.json", "{", "`config.json` is not valid JSON"),
        ("config.json", "[]", "`config.json` is no JSON object"),
        (
            "generation_config.json",
            "{\"a\":",
            "`generation_config.json` is not valid JSON",
        ),
        (
            "generation_config.json",
            "7",
            "`generation_config.json` is no JSON object",
        ),
        (
            "tokenizer_config.json",
            "\u{feff}{}",
            "`tokenizer_config.json` is not valid JSON",
        ),
        (
            "tokenizer_config.json",
            "\"x\"",
            "`tokenizer_config.json` is no JSON object",
        ),
        (
            "tokenizer_config.json",
            "{\"chat_template\": 7}",
            "neither a text nor a list",
        ),
        ("tokenizer.json", "", "the tokenizer of"),
    ];
    for (name, text, expected) in table {
        let base = with_weights(&fixtures().join("tiny-llama/model.safetensors"));
        std::fs::write(base.path().join(name), text).unwrap();
        let got = refusal(base.path(), ".");
        assert!(got.contains(expected), "{name}: {got}");
    }
    // Only `config.json` and `tokenizer.json` must be there.
    let base = with_weights(&fixtures().join("tiny-llama/model.safetensors"));
    for name in ["generation_config.json", "tokenizer_config.json"] {
        std::fs::remove_file(base.path().join(name)).unwrap();
    }
    let model = open(base.path(), ".").unwrap();
    assert!(model.chat.is_err() && LocalEngine::load(&model).is_ok());
    std::fs::remove_file(base.path().join("tokenizer.json")).unwrap();
    assert!(refusal(base.path(), ".").contains("it has no `tokenizer.json`"));
}
