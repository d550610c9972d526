//! Every GGUF type against gguf-py's decoding and transformers in f32.

use std::path::Path;

use harness::engine::local::{LoadError, LocalEngine};
use harness::model::gguf::TensorType;
use serde_json::Value as Json;
use sha2::Digest as _;

use super::generated::{Part, Tensor, gguf_file, scales, tensors};
use super::{TOLERANCE, deviation, goldens, ids, open};

const TYPES: [TensorType; 13] = [
    TensorType::F32,
    TensorType::F16,
    TensorType::Bf16,
    TensorType::Q4_0,
    TensorType::Q4_1,
    TensorType::Q5_0,
    TensorType::Q5_1,
    TensorType::Q8_0,
    TensorType::Q2K,
    TensorType::Q3K,
    TensorType::Q4K,
    TensorType::Q5K,
    TensorType::Q6K,
];

/// `MIXED` of `make_types.py`.
fn mixed(name: &str) -> TensorType {
    match name {
        "token_embd" => TensorType::Q4K,
        "attn_q" => TensorType::Q5K,
        "attn_k" => TensorType::Q3K,
        "attn_output" => TensorType::Q8_0,
        "ffn_gate" => TensorType::Q2K,
        "ffn_up" => TensorType::Q5_1,
        "ffn_down" => TensorType::Bf16,
        _ => TensorType::Q6K,
    }
}

fn load(base: &Path, tensors: &[Tensor]) -> Result<LocalEngine, LoadError> {
    std::fs::write(base.join("x.gguf"), gguf_file(tensors)).unwrap();
    LocalEngine::load(&open(base, "x.gguf").unwrap())
}

/// Refuses to compare with numbers that were made from other weights.
fn assert_same_weights(name: &str, tensors: &[Tensor], golden: &Json) {
    let mut digest = sha2::Sha256::new();
    for tensor in tensors {
        digest.update(&tensor.bytes);
    }
    let digest = digest.finalize();
    let digest = digest
        .iter()
        .fold(String::new(), |hex, it| hex + &format!("{it:02x}"));
    assert_eq!(golden["sha256"], digest, "{name}: other weights were drawn");
}

#[test]
fn logits_of_every_type_equal_hugging_face() {
    let goldens = goldens();
    let tokens = ids(&goldens["ids"]);
    let base = tempfile::tempdir().unwrap();
    // Where there is no one type, they are mixed.
    let models: Vec<Option<TensorType>> = TYPES.map(Some).into_iter().chain([None]).collect();
    assert_eq!(goldens["models"].as_object().unwrap().len(), models.len());
    for kind in models {
        let name = kind.map_or("mixed", TensorType::name);
        let golden = &goldens["models"][name];
        let seed = golden["seed"].as_u64().unwrap();
        let tensors = tensors(seed, |tensor| kind.unwrap_or_else(|| mixed(tensor)));
        assert_same_weights(name, &tensors, golden);
        let engine = load(base.path(), &tensors).unwrap();
        let worst = deviation(&engine.logits(&tokens).unwrap(), &golden["logits"]);
        println!("{name}: largest logit deviation {worst:.2e}");
        assert!(worst < TOLERANCE, "{name}: {worst}");
    }
}

#[test]
fn a_file_of_mixed_types_says_what_it_holds() {
    let base = tempfile::tempdir().unwrap();
    std::fs::write(base.path().join("x.gguf"), gguf_file(&tensors(1, mixed))).unwrap();
    let info = open(base.path(), "x.gguf").unwrap().info();
    assert_eq!(info.file_type.as_deref(), Some("Q4_K_M"));
    assert_eq!(
        info.quantisation,
        "3 F32, 2 Q6_K, 1 BF16, 1 Q2_K, 1 Q3_K, 1 Q4_K, 1 Q5_1, 1 Q5_K, 1 Q8_0"
    );
}

/// A scale that is no number would turn 32 or 256 weights into none without a word.
#[test]
fn nan_and_infinite_scales_are_refused_with_the_tensor() {
    let base = tempfile::tempdir().unwrap();
    // Half floats: NaN, infinity, minus infinity.
    let (nan, plus, minus) = (0x7e00, 0x7c00, 0xfc00);
    for kind in TYPES {
        let mut cases = vec![
            ("token_embd", Part::Scale, nan),
            ("output", Part::Scale, plus),
            ("attn_k", Part::Scale, minus),
        ];
        if scales(kind).1.is_some() {
            cases.extend([
                ("token_embd", Part::Minimum, plus),
                ("output", Part::Minimum, nan),
            ]);
        }
        if kind == TensorType::F32 {
            cases.extend([
                ("attn_norm", Part::Scale, nan),
                ("output_norm", Part::Scale, plus),
            ]);
        }
        for (name, part, bits) in cases {
            let mut tensors = tensors(1, |_| kind);
            let tensor = tensors.iter_mut().find(|it| it.name == name).unwrap();
            tensor.poison(part, bits);
            let full_name = tensor.full_name();
            match load(base.path(), &tensors) {
                Err(LoadError::NotFinite { name }) => assert_eq!(name, full_name, "{kind:?}"),
                other => panic!("{kind:?} {name} {part:?}: {:?}", other.err()),
            }
        }
    }
}
