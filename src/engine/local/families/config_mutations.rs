//! Every key of a `config.json` counts: a changed one is refused by the name of what
//! changed, or stands for what transformers takes where a key is absent, all of which is
//! listed here.

use serde_json::{Value, json};

use super::mutations::{CheckpointCopy, FOLDERS, is_refused_by_name};
use super::notes::is_config_note;

/// What an absent key stands for in transformers 5.23: the class defaults of
/// `LlamaConfig`, `MistralConfig`, `Qwen2Config`, `Qwen3Config` and `GPT2Config`.
/// `check_models.py` holds the same table against transformers.
fn default_of(model_type: &str, key: &str) -> Option<Value> {
    let defaults = json!({
        "gpt2": {
            "n_inner": null, // 4 times the width.
            "scale_attn_weights": true,
            "tie_word_embeddings": true,
            "scale_attn_by_inverse_layer_idx": false,
            "add_cross_attention": false,
        },
        "llama": {
            "num_key_value_heads": null, // One per query head.
            "attention_bias": false,
            "mlp_bias": false,
            "head_dim": null, // Width over heads.
        },
        "mistral": { "sliding_window": 4096, "head_dim": null },
        "qwen2": {
            "use_sliding_window": false,
            "sliding_window": 4096,
            "max_window_layers": 28,
            "layer_types": null, // From the three keys above.
        },
        "qwen3": {
            "attention_bias": false,
            "use_sliding_window": false,
            "sliding_window": 4096,
            "max_window_layers": 28,
            "layer_types": null,
        },
        "rotary": {
            "tie_word_embeddings": false,
            "rope_theta": 10_000.0,
            "rope_scaling": null,
            "rope_parameters": { "rope_type": "default", "rope_theta": 10_000.0 },
        },
    });
    let shared = if model_type == "gpt2" {
        "gpt2"
    } else {
        "rotary"
    };
    let value = defaults[model_type].get(key).or(defaults[shared].get(key));
    value.cloned()
}

#[test]
fn an_absent_key_is_refused_or_stands_for_the_default_of_transformers() {
    for name in FOLDERS {
        let copy = CheckpointCopy::of(name);
        let plain = copy.under(&copy.config).unwrap();
        let model_type = copy.config["model_type"].as_str().unwrap();
        for key in copy.keys() {
            let got = copy.without(&key);
            if let Some(default) = default_of(model_type, &key) {
                let written = copy.with(&key, default);
                assert_eq!(got, written, "{name} without {key}");
            } else if is_config_note(&key) && key != "model_type" {
                assert_eq!(got.as_ref(), Ok(&plain), "{name} without {key}");
            } else {
                assert!(
                    is_refused_by_name(&got, &[&key, "how long a context may be"]),
                    "{name} without {key}: {got:?}"
                );
            }
        }
    }
}

#[test]
fn a_key_by_another_name_is_refused_unless_it_says_nothing() {
    for name in FOLDERS {
        let copy = CheckpointCopy::of(name);
        let plain = copy.under(&copy.config).unwrap();
        for key in copy.keys() {
            let mut config = copy.config.clone();
            let entries = config.as_object_mut().unwrap();
            let value = entries.shift_remove(&key).unwrap();
            entries.insert(format!("{key}_x"), value.clone());
            let got = copy.under(&config);
            if value.is_null() {
                assert_eq!(got.as_ref(), Ok(&plain), "{name} with {key}_x");
            } else {
                let names = [&key, "how long a context may be"];
                assert!(
                    is_refused_by_name(&got, &names),
                    "{name} with {key}_x: {got:?}"
                );
            }
        }
    }
}

#[test]
fn a_key_that_nothing_reads_is_refused() {
    for name in FOLDERS {
        let copy = CheckpointCopy::of(name);
        for key in [
            "attn_logit_softcapping",
            "attention_multiplier",
            "embedding_multiplier",
            "final_logit_softcapping",
            "logits_scaling",
            "mrope_section",
            "no_rope_layers",
            "num_experts",
            "original_max_position_embeddings",
            "partial_rotary_factor",
            "residual_multiplier",
            "rope_theta_x",
            "use_qk_norm",
            "x",
        ] {
            let got = copy.with(key, json!(2));
            assert!(is_refused_by_name(&got, &[key]), "{name} {key}: {got:?}");
            let nothing = copy.with(key, Value::Null);
            assert!(nothing.is_ok(), "{name} {key}: {nothing:?}");
        }
    }
}

/// Checkpoint, key, value, and what the refusal says.
const REFUSED: &str = r#"
tiny-llama hidden_act "gelu" => `hidden_act = "gelu"`
tiny-llama hidden_act 1 => `hidden_act = 1`
tiny-llama rope_interleaved true => `rope_interleaved = true`
tiny-llama is_encoder_decoder true => `is_encoder_decoder = true`
tiny-llama sliding_window 64 => `sliding_window`
tiny-llama layer_types ["full_attention"] => `layer_types`
tiny-llama attention_bias true => `model.layers.0.self_attn.q_proj.bias`
tiny-llama mlp_bias true => `model.layers.0.mlp.gate_proj.bias`
tiny-llama mlp_bias "yes" => `mlp_bias` is missing or not true or false
tiny-llama tie_word_embeddings true => `lm_head.weight` differs from it
tiny-llama-tied tie_word_embeddings false => no tensor `lm_head.weight`
tiny-llama-bias attention_bias false => `model.layers.0.self_attn.k_proj.bias`
tiny-llama-bias mlp_bias false => `model.layers.0.mlp.down_proj.bias`
tiny-llama head_dim 16 => `model.layers.0.self_attn.q_proj.weight` has shape [32, 32]
tiny-llama head_dim 7 => rotary heads of width 7
tiny-llama head_dim 1099511627776 => rotary heads of width 1099511627776
tiny-llama num_attention_heads 3 => 3 heads over 2 key heads
tiny-llama num_key_value_heads 0 => 0 as the number of key heads
tiny-qwen2 num_attention_heads 3 => a width of 32 over 3 heads
tiny-gpt2 n_head 5 => a width of 32 over 5 heads
tiny-gpt2 n_head 0 => a width of 32 over 0 heads
tiny-llama rms_norm_eps -1.0 => -1 as the epsilon
tiny-llama rms_norm_eps "1e-5" => `rms_norm_eps`
tiny-llama rope_theta 0 => a rotary theta of 0
tiny-llama rope_theta "x" => `rope_theta`
tiny-llama num_hidden_layers 3 => `model.layers.2.
tiny-llama num_hidden_layers 1 => `model.layers.1.
tiny-llama num_hidden_layers 18446744073709551615 => as the number of layers
tiny-llama intermediate_size 18446744073709551615 => as the number of mlp width
tiny-llama hidden_size 32.0 => `hidden_size` is missing or not a count
tiny-gpt2 n_embd 4611686018427387904 => `n_embd`
tiny-mistral sliding_window 127 => `sliding_window = 127` in a context of 128
tiny-mistral attention_bias true => `attention_bias = true`
tiny-qwen2 use_sliding_window true => `use_sliding_window = true`
tiny-qwen2 layer_types ["full_attention", "sliding_attention"] => "sliding_attention" among
tiny-qwen3 layer_types ["full_attention", "sliding_attention"] => "sliding_attention" among
tiny-qwen3 layer_types ["full_attention"] => 2 layers, but 1 `layer_types`
tiny-qwen3 attention_bias true => `attention_bias = true`
tiny-gpt2 activation_function "gelu" => `activation_function = "gelu"`
tiny-gpt2 scale_attn_weights false => `scale_attn_weights = false`
tiny-gpt2 scale_attn_by_inverse_layer_idx true => `scale_attn_by_inverse_layer_idx = true`
tiny-gpt2 add_cross_attention true => `add_cross_attention = true`
"#;

/// Checkpoint, key and value: settings that restate what is computed.
const SAME: &str = r#"
tiny-llama rope_interleaved false
tiny-llama is_llama_config true
tiny-llama _attn_implementation_autoset true
tiny-llama pretraining_tp 2
tiny-mistral sliding_window 128
tiny-qwen2 layer_types ["full_attention", "full_attention"]
tiny-gpt2 activation_function "gelu_pytorch_tanh"
tiny-gpt2 n_ctx 128
"#;

/// Checkpoint, key and value of a line.
fn setting(line: &str) -> (&str, &str, Value) {
    let (name, rest) = line.split_once(' ').unwrap();
    let (key, value) = rest.split_once(' ').unwrap();
    (name, key, serde_json::from_str(value).unwrap())
}

#[test]
fn settings_are_computed_or_refused() {
    for line in REFUSED.lines().skip(1) {
        let (written, expected) = line.split_once(" => ").unwrap();
        let (name, key, value) = setting(written);
        let got = CheckpointCopy::of(name).with(key, value);
        assert!(is_refused_by_name(&got, &[expected]), "{line}: {got:?}");
    }
    for line in SAME.lines().skip(1) {
        let (name, key, value) = setting(line);
        let copy = CheckpointCopy::of(name);
        assert_eq!(copy.with(key, value), copy.under(&copy.config), "{line}");
    }
}

/// A window that is not mentioned is one of 4096 tokens.
#[test]
fn a_window_that_is_not_mentioned_counts() {
    let mut copy = CheckpointCopy::of("tiny-mistral");
    let entries = copy.config.as_object_mut().unwrap();
    entries.shift_remove("sliding_window");
    assert!(copy.with("max_position_embeddings", json!(4096)).is_ok());
    let got = copy.with("max_position_embeddings", json!(4097));
    let expected = "`sliding_window = 4096` in a context of 4097";
    assert!(is_refused_by_name(&got, &[expected]), "{got:?}");
}

/// One scaling in the keys of versions before and after 5 has one result.
#[test]
fn rope_scalings_may_stand_in_older_and_newer_keys() {
    let llama3 = CheckpointCopy::of("tiny-llama3");
    let plain = llama3.under(&llama3.config).unwrap();
    let mut newer = llama3.config.clone();
    let entries = newer.as_object_mut().unwrap();
    let mut scaling = entries.shift_remove("rope_scaling").unwrap();
    scaling["rope_theta"] = entries.shift_remove("rope_theta").unwrap();
    entries.insert("rope_parameters".to_owned(), scaling.clone());
    assert_eq!(llama3.under(&newer).as_ref(), Ok(&plain));
    newer["rope_theta"] = json!(100);
    assert_eq!(llama3.under(&newer).as_ref(), Ok(&plain));
    newer["rope_theta"] = json!(101);
    assert!(is_refused_by_name(
        &llama3.under(&newer),
        &["`rope_theta` is 101"]
    ));
    let both = llama3.with("rope_parameters", scaling.clone());
    assert!(is_refused_by_name(
        &both,
        &["`rope_scaling` beside `rope_parameters`"]
    ));

    let mut older = llama3.config["rope_scaling"].clone();
    older["type"] = older
        .as_object_mut()
        .unwrap()
        .shift_remove("rope_type")
        .unwrap();
    assert_eq!(
        llama3.with("rope_scaling", older.clone()).as_ref(),
        Ok(&plain)
    );
    older["rope_type"] = json!("linear");
    let got = llama3.with("rope_scaling", older);
    assert!(is_refused_by_name(
        &got,
        &["`rope_scaling.rope_type` is linear"]
    ));
}

#[test]
fn rope_scalings_that_are_not_computed_are_refused_by_name() {
    let llama3 = CheckpointCopy::of("tiny-llama3");
    let table: [(Value, &str); 14] = [
        (
            json!({"rope_type": "dynamic", "factor": 2.0}),
            "the rope type `dynamic`",
        ),
        (
            json!({"type": "yarn", "factor": 2.0}),
            "the rope type `yarn`",
        ),
        (json!({"type": "longrope"}), "the rope type `longrope`"),
        (json!({"type": "su"}), "the rope type `su`"),
        (json!({"type": 3}), "`rope_scaling.type`"),
        (json!([4.0]), "`rope_scaling` is missing or not an object"),
        (
            json!({"factor": 2.0}),
            "`rope_scaling.factor` with the rope type `default`",
        ),
        (json!({"rope_type": "linear"}), "`rope_scaling.factor`"),
        (
            json!({"rope_type": "linear", "factor": 0}),
            "`rope_scaling.factor`",
        ),
        (
            json!({"rope_type": "linear", "factor": "2"}),
            "`rope_scaling.factor`",
        ),
        (
            json!({"rope_type": "linear", "factor": 2, "x": 1}),
            "`rope_scaling.x`",
        ),
        (
            json!({"rope_type": "default", "partial_rotary_factor": 0.5}),
            "`rope_scaling.partial_rotary_factor`",
        ),
        (
            json!({"rope_type": "default", "mrope_section": [1, 2]}),
            "`rope_scaling.mrope_section`",
        ),
        (
            json!({"full_attention": {"rope_type": "default"}}),
            "`rope_scaling.full_attention`",
        ),
    ];
    for (value, expected) in table {
        let got = llama3.with("rope_scaling", value.clone());
        assert!(is_refused_by_name(&got, &[expected]), "{value}: {got:?}");
    }
}

#[test]
fn every_number_of_llama_3_s_scaling_counts() {
    let llama3 = CheckpointCopy::of("tiny-llama3");
    let plain = llama3.under(&llama3.config).unwrap();
    for key in ["factor", "low_freq_factor", "high_freq_factor"] {
        for value in [Value::Null, json!(-1.0), json!(0.5)] {
            let mut scaling = llama3.config["rope_scaling"].clone();
            scaling[key] = value.clone();
            let got = llama3.with("rope_scaling", scaling);
            let is_high = key == "high_freq_factor";
            if value == json!(0.5) && !is_high {
                assert!(got.is_ok_and(|it| it != plain), "{key} {value}");
            } else {
                assert!(is_refused_by_name(&got, &[key]), "{key} {value}: {got:?}");
            }
        }
    }
    // Where Llama 3's original context is not given, the whole one is meant.
    let mut scaling = llama3.config["rope_scaling"].clone();
    let key = "original_max_position_embeddings";
    scaling.as_object_mut().unwrap().shift_remove(key);
    let absent = llama3.with("rope_scaling", scaling.clone());
    scaling[key] = json!(128);
    assert_eq!(absent, llama3.with("rope_scaling", scaling));
}
