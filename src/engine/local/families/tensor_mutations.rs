//! Every tensor of a checkpoint folder counts: without one, with one by another name or
//! with one too many it is refused by that name, but for buffers that settings determine.

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

use super::mutations::{CheckpointCopy, FOLDERS, is_refused_by_name, logits};

/// Name, shape and f32 values of a tensor.
type Tensor = (String, Vec<usize>, Vec<u8>);

/// The logits of `copy` with its weights as `change` leaves them.
fn with_tensors(
    copy: &CheckpointCopy,
    change: impl FnOnce(&mut Vec<Tensor>),
) -> Result<Vec<u32>, String> {
    let path = copy.path().join("model.safetensors");
    let original = std::fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&original).unwrap();
    let mut tensors: Vec<Tensor> = file
        .iter()
        .map(|(name, it)| (name.to_owned(), it.shape().to_vec(), it.data().to_vec()))
        .collect();
    tensors.sort();
    change(&mut tensors);
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap();
        (name.clone(), view)
    });
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    let got = logits(copy.path(), "./");
    std::fs::write(&path, &original).unwrap();
    got
}

#[test]
fn every_tensor_is_needed_and_known() {
    for name in FOLDERS {
        let copy = CheckpointCopy::of(name);
        let plain = with_tensors(&copy, |_| {}).unwrap();
        let mut names = Vec::new();
        with_tensors(&copy, |it| names.extend(it.iter().map(|it| it.0.clone()))).unwrap();
        for (i, tensor) in names.iter().enumerate() {
            let got = with_tensors(&copy, |it| drop(it.remove(i)));
            if tensor.ends_with(".attn.bias") {
                // A causal mask, which no setting can change.
                assert_eq!(got.as_ref(), Ok(&plain), "{name} without {tensor}");
            } else {
                assert!(
                    is_refused_by_name(&got, &[tensor]),
                    "{name} without {tensor}: {got:?}"
                );
            }
            let renamed = format!("{tensor}x");
            let got = with_tensors(&copy, |it| it[i].0.clone_from(&renamed));
            let names = [tensor, renamed.as_str()];
            assert!(
                is_refused_by_name(&got, &names),
                "{name} with {renamed}: {got:?}"
            );
        }
        for extra in [
            "lm_head.bias",
            "model.layers.0.self_attn.q_proj.bias",
            "model.layers.0.self_attn.q_norm.weight",
            "model.layers.0.self_attn.o_proj.bias",
            "model.layers.2.input_layernorm.weight",
            "model.layers.2.self_attn.rotary_emb.inv_freq",
            "model.norm.bias",
            "h.2.attn.bias",
            "score.weight",
            "x",
        ] {
            if names.iter().any(|it| it == extra) {
                continue;
            }
            let tensor = (extra.to_owned(), vec![32], vec![0; 128]);
            let got = with_tensors(&copy, |it| it.push(tensor));
            assert!(
                is_refused_by_name(&got, &[extra]),
                "{name} with {extra}: {got:?}"
            );
        }
    }
}

/// What older versions of transformers stored beside the weights.
#[test]
fn a_copy_of_what_settings_say_is_accepted() {
    let llama = CheckpointCopy::of("tiny-llama-tied");
    let plain = llama.under(&llama.config).unwrap();
    let got = with_tensors(&llama, |it| {
        it.push((
            "model.layers.1.self_attn.rotary_emb.inv_freq".to_owned(),
            vec![4],
            vec![0; 16],
        ));
        let embedding = it.iter().find(|it| it.0.ends_with("embed_tokens.weight"));
        let (_, shape, bytes) = embedding.unwrap().clone();
        it.push(("lm_head.weight".to_owned(), shape, bytes));
    });
    assert_eq!(got.as_ref(), Ok(&plain));
    let gpt2 = CheckpointCopy::of("tiny-gpt2");
    let plain = gpt2.under(&gpt2.config).unwrap();
    let got = with_tensors(&gpt2, |it| {
        it.push((
            "transformer.h.0.attn.masked_bias".to_owned(),
            vec![1],
            vec![0; 4],
        ));
    });
    assert_eq!(got.as_ref(), Ok(&plain));
}
