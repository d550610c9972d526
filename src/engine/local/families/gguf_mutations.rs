//! Every tensor and every key of a GGUF counts: a changed file is refused by the name
//! of what changed, or what changed is one of few things listed here.

use super::mutations::{fixtures, is_refused_by_name, logits};
use super::notes;
use crate::model::gguf::testing::Builder;
use crate::model::gguf::{Gguf, TensorType, Value};

const FILES: [&str; 8] = [
    "tiny-gpt2.gguf",
    "tiny-llama.gguf",
    "tiny-llama-bias.gguf",
    "tiny-llama-linear.gguf",
    "tiny-llama3.gguf",
    "tiny-mistral.gguf",
    "tiny-qwen2.gguf",
    "tiny-qwen3.gguf",
];

/// A GGUF in parts that can be changed and put together again.
#[derive(Clone)]
struct File {
    keys: Vec<(String, Value)>,
    tensors: Vec<(String, Vec<u64>, Vec<u8>)>,
}

impl File {
    fn read(name: &str) -> Self {
        let bytes = std::fs::read(fixtures().join(name)).unwrap();
        let header = Gguf::parse(&bytes).unwrap();
        Self {
            keys: header
                .metadata()
                .map(|(key, value)| (key.to_owned(), value.clone()))
                .collect(),
            tensors: header
                .tensors()
                .iter()
                .map(|(name, it)| {
                    assert_eq!(it.tensor_type, TensorType::F32);
                    (name.clone(), it.shape.clone(), bytes[it.range()].to_vec())
                })
                .collect(),
        }
    }

    fn family(&self) -> String {
        let key = self.keys.iter().find(|it| it.0 == "general.architecture");
        key.unwrap().1.as_text().unwrap().to_owned()
    }

    /// A copy that `change` was applied to.
    fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut copy = self.clone();
        change(&mut copy);
        copy
    }

    /// A copy in which `key` has this value, whether or not it had one.
    fn with_key(&self, key: &str, value: Value) -> Self {
        self.with(|it| {
            it.keys.retain(|(name, _)| name != key);
            it.keys.push((key.to_owned(), value));
        })
    }

    fn logits(&self) -> Result<Vec<u32>, String> {
        let mut file = Builder::new();
        for (key, value) in &self.keys {
            file = file.key(key, value);
        }
        for (name, shape, bytes) in &self.tensors {
            file = file.tensor(name, shape, 0, bytes);
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x.gguf"), file.build()).unwrap();
        logits(folder.path(), "x.gguf")
    }
}

fn text(it: &str) -> Value {
    Value::Text(it.to_owned())
}

#[test]
fn a_file_written_again_has_the_same_logits() {
    for name in FILES {
        let expected = logits(&fixtures(), name).unwrap();
        assert_eq!(File::read(name).logits().unwrap(), expected, "{name}");
    }
}

/// Two tensors may be absent by the format's own rules: a file without a head is one
/// whose head is the embedding, and one without factors has plain frequencies. Nothing
/// else in such a file says otherwise, so both load, as another model.
#[test]
fn every_tensor_is_needed_and_known() {
    const MAY_BE_ABSENT: [&str; 2] = ["output.weight", "rope_freqs.weight"];
    for name in FILES {
        let file = File::read(name);
        let plain = file.logits().unwrap();
        for i in 0..file.tensors.len() {
            let tensor = file.tensors[i].0.clone();
            let part = tensor.rsplit_once('.').unwrap().0.to_owned();
            let got = file.with(|it| drop(it.tensors.remove(i))).logits();
            if MAY_BE_ABSENT.contains(&tensor.as_str()) {
                assert_ne!(got.unwrap(), plain, "{name} without {tensor}");
            } else {
                assert!(
                    is_refused_by_name(&got, &[&tensor]),
                    "{name} without {tensor}: {got:?}"
                );
            }
            let renamed = format!("{part}x.weight");
            let got = file.with(|it| it.tensors[i].0 = renamed.clone()).logits();
            assert!(
                is_refused_by_name(&got, &[&tensor, &renamed]),
                "{name} with {renamed}: {got:?}"
            );
            let transposed = file.with(|it| it.tensors[i].1.reverse()).logits();
            assert!(
                file.tensors[i].1.len() == 1
                    || file.tensors[i].1[0] == file.tensors[i].1[1]
                    || is_refused_by_name(&transposed, &[&tensor, "embedding"]),
                "{name} with {tensor} transposed: {transposed:?}"
            );
        }
    }
}

#[test]
fn a_tensor_too_many_is_refused_by_name() {
    for name in FILES {
        let file = File::read(name);
        let parts = [
            "attn_q.bias",
            "attn_qkv.bias",
            "attn_output.bias",
            "attn_norm.bias",
            "attn_q_norm.weight",
            "attn_sinks.weight",
            "attn_sub_norm.weight",
            "attn_output.scale",
            "ffn_up.bias",
            "ffn_gate_inp.weight",
            "post_attention_norm.weight",
            "rope_freqs.weight",
        ];
        let in_layers = parts
            .iter()
            .flat_map(|it| [format!("blk.0.{it}"), format!("blk.2.{it}")]);
        let others = ["output.bias", "rope_factors_long.weight", "x"].map(str::to_owned);
        for extra in in_layers.chain(others) {
            if file.tensors.iter().any(|it| it.0 == extra) {
                continue;
            }
            let got = file
                .with(|it| it.tensors.push((extra.clone(), vec![32], vec![0; 128])))
                .logits();
            // The first bias of its kind asks for those of the other matrices and layers.
            let is_bias = extra.rsplit_once('.').is_some_and(|it| it.1 == "bias");
            let also = if is_bias { ".bias" } else { &extra };
            assert!(
                is_refused_by_name(&got, &[&extra, also]),
                "{name} with {extra}: {got:?}"
            );
        }
    }
}

/// Keys that a file may lack: notes, and what repeats the tensors' shapes.
fn may_be_absent(name: &str) -> Vec<&'static str> {
    let mut keys = vec!["general.file_type", "general.name", "general.type"];
    match name {
        "tiny-gpt2.gguf" | "tiny-qwen2.gguf" | "tiny-qwen3.gguf" => {}
        _ => keys.extend([
            "llama.attention.key_length",
            "llama.attention.value_length",
            "llama.rope.dimension_count",
            "llama.vocab_size",
        ]),
    }
    if name == "tiny-llama-linear.gguf" {
        // A factor without a type is a linear one.
        keys.push("llama.rope.scaling.type");
    }
    keys.sort_unstable();
    keys
}

#[test]
fn every_key_is_needed_but_for_notes_and_repetitions() {
    for name in FILES {
        let file = File::read(name);
        let plain = file.logits().unwrap();
        let mut absent = Vec::new();
        for i in 0..file.keys.len() {
            let key = &file.keys[i].0;
            let got = file.with(|it| drop(it.keys.remove(i))).logits();
            match got {
                Ok(bits) => {
                    assert_eq!(bits, plain, "{name} without {key}");
                    absent.push(key.as_str());
                }
                Err(message) => assert!(
                    // A width that is missing disagrees with the first tensor that has it.
                    key.starts_with("tokenizer.")
                        || message.contains(key.as_str())
                        || message.contains("attn_")
                        || message.contains("value_length"),
                    "{name} without {key}: {message}"
                ),
            }
        }
        // What a tokenizer may lack is for the tokenizer's tests to say.
        absent.retain(|it| !it.starts_with("tokenizer."));
        absent.sort_unstable();
        assert_eq!(absent, may_be_absent(name), "{name}");
    }
}

#[test]
fn a_key_by_another_name_is_refused() {
    for name in FILES {
        let file = File::read(name);
        for i in 0..file.keys.len() {
            let key = file.keys[i].0.clone();
            let got = file.with(|it| it.keys[i].0.push('x')).logits();
            assert!(
                is_refused_by_name(&got, &[&key]) || key.starts_with("tokenizer.") && got.is_err(),
                "{name} with {key}x: {got:?}"
            );
        }
    }
}

#[test]
fn a_key_that_nothing_reads_is_refused_in_every_namespace() {
    for name in ["tiny-llama.gguf", "tiny-qwen3.gguf", "tiny-gpt2.gguf"] {
        let file = File::read(name);
        let family = file.family();
        for setting in [
            "attention.scale",
            "attn_logit_softcapping",
            "embedding_scale",
            "final_logit_softcapping",
            "logit_scale",
            "residual_scale",
            "rope.dimension_sections",
            "rope.scaling.alpha",
            "rope.scaling.yarn_log_multiplier",
            "use_parallel_residual",
            "x",
        ] {
            let key = format!("{family}.{setting}");
            let got = file.with_key(&key, Value::F32(2.0)).logits();
            assert!(is_refused_by_name(&got, &[&key]), "{name} {key}: {got:?}");
        }
        for key in [
            "adapter.type",
            "clip.has_vision_encoder",
            "diffusion.shift_logits",
            "gemma2.attention.sliding_window",
            "general.namex",
            "general.x",
            "quantize.x",
            "split.x",
            "tokenizer.ggml.x",
            "tokenizer.x",
            "x",
            "xielu.beta",
        ] {
            let got = file.with_key(key, Value::F32(2.0)).logits();
            assert!(is_refused_by_name(&got, &[key]), "{name} {key}: {got:?}");
        }
    }
}

#[test]
fn notes_change_no_bit() {
    for name in ["tiny-llama.gguf", "tiny-qwen2.gguf", "tiny-gpt2.gguf"] {
        let file = File::read(name);
        let mut noted = file.clone();
        let prefixed = notes::GGUF_NOTE_PREFIXES.map(|it| format!("{it}x"));
        for key in notes::GGUF_NOTES
            .map(str::to_owned)
            .into_iter()
            .chain(prefixed)
        {
            noted = noted.with_key(&key, text("x"));
        }
        assert_eq!(noted.logits(), file.logits(), "{name}");
    }
}

/// Settings of `tiny-llama.gguf`, whose context is 128.
#[test]
fn settings_that_restate_what_is_computed_change_no_bit() {
    let n = Value::Unsigned;
    let same: [(&str, Value); 17] = [
        ("general.type", text("model")),
        ("general.quantization_version", n(2)),
        ("split.count", n(1)),
        ("split.no", n(0)),
        ("split.tensors.count", n(21)),
        ("llama.expert_count", n(0)),
        ("llama.expert_used_count", n(0)),
        ("llama.attention.sliding_window", n(128)),
        ("llama.attention.causal", Value::Bool(true)),
        ("llama.tensor_data_layout", text("Meta AI original pth")),
        ("llama.rope.scaling.type", text("none")),
        ("llama.rope.scaling.factor", Value::F32(1.0)),
        ("llama.rope.scale_linear", Value::F32(1.0)),
        ("llama.rope.scaling.attn_factor", Value::F32(1.0)),
        ("llama.rope.scaling.original_context_length", n(64)),
        ("llama.rope.scaling.finetuned", Value::Bool(true)),
        ("llama.vocab_size", n(320)),
    ];
    let file = File::read("tiny-llama.gguf");
    let plain = file.logits();
    for (key, value) in same {
        assert_eq!(file.with_key(key, value).logits(), plain, "{key}");
    }
    // A note of the first converters, which says nothing about any Qwen2.
    let key = "qwen2.use_parallel_residual";
    let qwen2 = File::read("tiny-qwen2.gguf");
    let noted = qwen2.with_key(key, Value::Bool(true));
    assert_eq!(noted.logits(), qwen2.logits());
}

#[test]
fn settings_that_are_not_computed_are_refused_by_name() {
    let n = Value::Unsigned;
    let refused: [(&str, Value); 20] = [
        ("general.type", text("adapter")),
        ("general.quantization_version", n(1)),
        ("split.count", n(2)),
        ("llama.expert_count", n(8)),
        ("llama.attention.sliding_window", n(127)),
        ("llama.attention.causal", Value::Bool(false)),
        ("llama.tensor_data_layout", text("x")),
        ("llama.rope.scaling.type", text("yarn")),
        ("llama.rope.scaling.type", text("longrope")),
        ("llama.rope.scaling.type", n(1)),
        ("llama.rope.scaling.factor", Value::F32(0.0)),
        ("llama.rope.scaling.factor", Value::F32(f32::NAN)),
        ("llama.rope.scaling.factor", text("4")),
        ("llama.rope.scaling.attn_factor", Value::F32(1.1)),
        ("llama.rope.dimension_count", n(4)),
        ("llama.rope.freq_base", Value::F32(f32::INFINITY)),
        ("llama.attention.layer_norm_rms_epsilon", Value::Bool(true)),
        ("llama.vocab_size", n(319)),
        ("llama.attention.value_length", n(4)),
        ("llama.block_count", Value::Signed(-2)),
    ];
    // What is wrong with these shows in the number and the shape of tensors.
    let disagree: [(&str, u64, &str); 5] = [
        ("llama.block_count", 3, "`blk.2.attn_q.weight`"),
        ("llama.block_count", 1, "`blk.1.attn_k.weight`"),
        ("llama.attention.head_count_kv", 1, "`blk.0.attn_k.weight`"),
        ("llama.embedding_length", 64, "`token_embd.weight`"),
        ("llama.feed_forward_length", 32, "`blk.0.ffn_gate.weight`"),
    ];
    let file = File::read("tiny-llama.gguf");
    for (key, value) in refused {
        let got = file.with_key(key, value.clone()).logits();
        let names = [key, "adapter", "one of 2"];
        assert!(is_refused_by_name(&got, &names), "{key} {value:?}: {got:?}");
    }
    for (key, value, tensor) in disagree {
        let got = file.with_key(key, n(value)).logits();
        assert!(
            is_refused_by_name(&got, &[tensor]),
            "{key} {value}: {got:?}"
        );
    }
}

/// Two ways to write one scaling, and the way that a factor would be lost.
#[test]
fn linear_scalings_are_applied_however_they_are_written() {
    let file = File::read("tiny-llama.gguf");
    let factor = || Value::F32(4.0);
    let scaled = file
        .with_key("llama.rope.scaling.factor", factor())
        .logits();
    assert_ne!(scaled, file.logits());
    let older = file.with_key("llama.rope.scale_linear", factor());
    assert_eq!(older.logits(), scaled);
    let both = older.with_key("llama.rope.scaling.factor", Value::F32(2.0));
    assert!(is_refused_by_name(
        &both.logits(),
        &["rope.scale_linear` is 4"]
    ));
    let none = older.with_key("llama.rope.scaling.type", text("none"));
    assert!(is_refused_by_name(
        &none.logits(),
        &["rope.scaling.factor = 4"]
    ));
    let typed = older.with_key("llama.rope.scaling.type", text("linear"));
    assert_eq!(typed.logits(), scaled);
}

/// Refused before anything of that size is allocated.
#[test]
fn absurd_numbers_are_refused() {
    for name in FILES {
        let file = File::read(name);
        let family = file.family();
        for (key, value) in &file.keys {
            if !key.starts_with(&family) {
                continue;
            }
            let absurd = match value {
                Value::Unsigned(_) => [0, 1 << 40, u64::MAX].map(Value::Unsigned).to_vec(),
                Value::F32(_) => [-1.0, f32::NAN, 0.0, f32::INFINITY, 1e-39]
                    .map(Value::F32)
                    .to_vec(),
                _ => vec![],
            };
            for it in absurd {
                // An epsilon may be nothing, and a factor or theta close to it may not.
                if key.contains("epsilon") && matches!(it, Value::F32(x) if (0.0..1.0).contains(&x))
                {
                    continue;
                }
                let got = file.with_key(key, it.clone()).logits();
                assert!(got.is_err(), "{name} {key} = {it:?}");
            }
        }
        let heads = file.with_key(
            &format!("{family}.attention.head_count"),
            Value::Unsigned(3),
        );
        assert!(heads.logits().is_err(), "{name} with 3 heads");
    }
    let llama = File::read("tiny-llama.gguf");
    let table: [(&[(&str, u64)], &str); 4] = [
        (&[("head_count", 3)], "3 heads over 2 key heads"),
        (&[("head_count_kv", 3)], "4 heads over 3 key heads"),
        (
            &[("key_length", 7), ("value_length", 7)],
            "`llama.rope.dimension_count = 8` for heads of width 7",
        ),
        (&[("value_length", 7)], "`llama.attention.value_length`"),
    ];
    for (edits, expected) in table {
        let mut file = llama.clone();
        for (key, value) in edits {
            file = file.with_key(&format!("llama.attention.{key}"), Value::Unsigned(*value));
        }
        let got = file.logits();
        assert!(is_refused_by_name(&got, &[expected]), "{edits:?}: {got:?}");
    }
}

/// Factors of zero would make frequencies infinite.
#[test]
fn factors_that_are_no_divisors_are_refused() {
    let file = File::read("tiny-llama3.gguf");
    let at = file
        .tensors
        .iter()
        .position(|it| it.0 == "rope_freqs.weight")
        .unwrap();
    for value in [0.0_f32, -1.0, f32::NAN] {
        let got = file
            .with(|it| it.tensors[at].2[..4].copy_from_slice(&value.to_le_bytes()))
            .logits();
        assert!(is_refused_by_name(&got, &["rope_freqs.weight"]), "{got:?}");
    }
    let short = file.with(|it| {
        it.tensors[at].1 = vec![4];
        it.tensors[at].2.truncate(16);
    });
    assert!(is_refused_by_name(&short.logits(), &["rope_freqs.weight"]));
}
