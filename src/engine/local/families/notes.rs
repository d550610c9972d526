//! Keys that describe a checkpoint and decide nothing about its numbers.
//!
//! Lists, not patterns, as far as writers agree on names: what stands here is
//! ignored, everything else that no family reads is refused.

/// Whether `key` of a GGUF is a note: who made the file, from what, and how it was named.
pub(super) fn is_gguf_note(key: &str) -> bool {
    GGUF_NOTES.contains(&key) || GGUF_NOTE_PREFIXES.iter().any(|it| key.starts_with(it))
}

/// Whether `key` of a GGUF belongs to the tokenizer, which reads it when the model is opened.
pub(super) fn is_gguf_tokenizer_key(key: &str) -> bool {
    key == "tokenizer.chat_template"
        || key == "tokenizer.chat_templates"
        || key == "tokenizer.huggingface.json"
        || key.starts_with("tokenizer.chat_template.")
        || key
            .strip_prefix("tokenizer.ggml.")
            .is_some_and(|it| GGML_TOKENIZER.contains(&it))
}

pub(super) const GGUF_NOTES: [&str; 23] = [
    "general.author",
    "general.basename",
    "general.datasets",
    "general.description",
    "general.doi",
    "general.file_type",
    "general.finetune",
    "general.languages",
    "general.license",
    "general.name",
    "general.organization",
    "general.parameter_count",
    "general.quantized_by",
    "general.repo_url",
    "general.size_label",
    "general.tags",
    "general.url",
    "general.uuid",
    "general.version",
    "quantize.imatrix.chunks_count",
    "quantize.imatrix.dataset",
    "quantize.imatrix.entries_count",
    "quantize.imatrix.file",
];

pub(super) const GGUF_NOTE_PREFIXES: [&str; 6] = [
    "general.base_model.",
    "general.dataset.",
    "general.license.",
    // How the model's maker generates; an experiment says how it does.
    "general.sampling.",
    "general.source.",
    "mradermacher.",
];

const GGML_TOKENIZER: [&str; 32] = [
    "add_bos_token",
    "add_eos_token",
    "add_sep_token",
    "add_space_prefix",
    "bos_token_id",
    "cls_token_id",
    "eom_token_id",
    "eos_token_id",
    "eot_token_id",
    "fim_mid_token_id",
    "fim_pad_token_id",
    "fim_pre_token_id",
    "fim_rep_token_id",
    "fim_sep_token_id",
    "fim_suf_token_id",
    "mask_token_id",
    "merges",
    "middle_token_id",
    "model",
    "padding_token_id",
    "pre",
    "precompiled_charsmap",
    "prefix_token_id",
    "remove_extra_whitespaces",
    "scores",
    "seperator_token_id",
    "suffix_token_id",
    "token_type",
    "token_type_count",
    "tokens",
    "unk_token_id",
    "unknown_token_id",
];

/// Whether `key` of a `config.json` says nothing about the forward pass of one text.
pub(super) fn is_config_note(key: &str) -> bool {
    CONFIG_NOTES.contains(&key)
        || CONFIG_TRAINING.contains(&key)
        || CONFIG_OUTPUTS.contains(&key)
        || CONFIG_GENERATION.contains(&key)
}

/// What the checkpoint is called, and what wrote it.
const CONFIG_NOTES: [&str; 18] = [
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_commit_hash",
    "_name_or_path",
    "architectures",
    "attn_implementation",
    "dtype",
    "is_llama_config",
    "model_type",
    // GPT-2's older name of `n_positions`, which transformers does not read.
    "n_ctx",
    "task_specific_params",
    "tokenizer_class",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "unsloth_fixed",
    "unsloth_version",
];

/// What only training sees. `pretraining_tp` slices products that are the same whole.
const CONFIG_TRAINING: [&str; 9] = [
    "attention_dropout",
    "attn_pdrop",
    "embd_pdrop",
    "gradient_checkpointing",
    "initializer_range",
    "pretraining_tp",
    "resid_pdrop",
    "summary_first_dropout",
    "use_bfloat16",
];

/// What a call returns beside logits, and heads of other tasks: their weights would be
/// refused as unused. `reorder_and_upcast_attn` is about half precision.
const CONFIG_OUTPUTS: [&str; 20] = [
    "_num_labels",
    "chunk_size_feed_forward",
    "finetuning_task",
    "id2label",
    "keys_to_ignore_at_inference",
    "label2id",
    "num_labels",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "predict_special_tokens",
    "problem_type",
    "reorder_and_upcast_attn",
    "return_dict",
    "summary_activation",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "tf_legacy_loss",
    "use_cache",
];

/// Special tokens, which the tokenizer's files decide, and generation defaults of older
/// versions; an experiment says how it generates.
const CONFIG_GENERATION: [&str; 35] = [
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "length_penalty",
    "max_length",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_scores",
    "pad_token_id",
    "prefix",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
    "unk_token_id",
    "renormalize_logits",
    "guidance_scale",
    "max_new_tokens",
];
