//! The JSON Schema of an experiment file, for editors.
//!
//! The doc comments here are what an editor shows while a person types. They are kept apart
//! from the spec's, which speak to programmers. Tests hold keys and words in step with the
//! parser; what a schema cannot say (a gate names a variant that exists) only the parser
//! checks.

#![expect(
    dead_code,
    reason = "the fields are read by the derive that turns them into a schema"
)]

use std::borrow::Cow;
use std::marker::PhantomData;

use indexmap::IndexMap;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::dataset::{LimitOrder, ShotOrder};
use super::fields::Keyword;
use super::gate::{Estimate, OnInconclusive};
use super::metric_name::MetricName;
use super::metrics::{BleuTokenizer, Normalizer};
use super::model::{Api, Device, Weights};
use super::scoring::Overflow;
use super::variant::Role;

/// The JSON Schema (draft 7) of an experiment file.
pub fn schema() -> Value {
    let generator = SchemaSettings::draft07().into_generator();
    let mut schema = generator.into_root_schema_for::<File>().to_value();
    drop_nulls(&mut schema);
    schema
}

/// Takes `null` out of every alternative: an optional key is left out, TOML has no null.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        Value::Object(map) => {
            map.values_mut().for_each(drop_nulls);
            if let Some(Value::Array(types)) = map.get_mut("type") {
                types.retain(|it| it != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    map.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(any)) = map.get_mut("anyOf") {
                any.retain(|it| it.get("type").is_none_or(|kind| kind != "null"));
            }
        }
        _ => {}
    }
}

/// One word of a closed set that the parser knows.
struct Word<T>(PhantomData<T>);

impl<T: Keyword> JsonSchema for Word<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Word".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let words: Vec<&str> = T::WORDS.iter().map(|(word, _)| *word).collect();
        json_schema!({ "type": "string", "enum": words })
    }
}

/// The name of a metric.
struct Metric;

impl JsonSchema for Metric {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Metric".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": MetricName::ALL.map(MetricName::as_str) })
    }
}

/// One value, or a list of them.
#[derive(JsonSchema)]
#[schemars(untagged, inline)]
enum OneOrMore<T> {
    One(T),
    More(Vec<T>),
}

/// An experiment: which of these prompts is better, by how much, and is it real?
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, title = "harness experiment")]
struct File {
    /// What the experiment is called and how its variants are ranked.
    experiment: Experiment,
    /// The models, by a name of your choice. Each variant runs on each model.
    #[schemars(extend("minProperties" = 1))]
    models: IndexMap<String, Model>,
    /// The labelled examples.
    dataset: Dataset,
    /// The solved examples that shots are drawn from.
    fewshot: Option<Fewshot>,
    /// The prompt formulations under test, by a name of your choice.
    #[schemars(extend("minProperties" = 1))]
    variants: IndexMap<String, Variant>,
    /// How a prompt and its target become one text to score.
    scoring: Option<Scoring>,
    /// How text is generated. Without this table nothing is.
    generation: Option<Generation>,
    /// Metrics of the generated text. Metrics of the likelihood need no declaration.
    metrics: Option<Vec<MetricTable>>,
    /// Rules that `harness check` judges a run by. One gate is one check per model and variant it covers.
    gates: Option<Vec<Gate>>,
    /// Settings for `--profile NAME`: dotted keys with values, such as "dataset.limit" = 100.
    profiles: Option<IndexMap<String, IndexMap<String, Value>>>,
}

/// What the experiment is called and how its variants are ranked.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Experiment {
    /// The folder of its runs.
    #[schemars(regex(pattern = "^[a-z0-9][a-z0-9._-]{0,63}$"))]
    name: String,
    /// Seeds every draw. Default 0.
    seed: Option<u64>,
    /// The metric that ranks the variants. Default: `acc` with choices, else the first of `[[metrics]]`, else `loglikelihood_per_byte`.
    primary: Option<String>,
    /// The variant against which differences are shown. Without one, the best.
    control: Option<String>,
    /// What counts as unchanged for the primary metric, in its unit.
    #[schemars(range(min = 0.0))]
    margin: Option<f64>,
    /// What `strftime_now` returns in chat templates: `YYYY-MM-DD`.
    #[schemars(regex(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"))]
    date: Option<String>,
}

/// A model on this machine (`source`) or behind a server (`api`).
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(
    clippy::struct_field_names,
    reason = "the keys of the file are what they are"
)]
struct Model {
    /// `builtin:NAME`, a path to a .gguf file or a checkpoint folder, or `hf:OWNER/REPO@REVISION[/FILE]`.
    source: Option<String>,
    /// The digest that the weights must have.
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    sha256: Option<String>,
    /// What computes. Default auto.
    device: Option<Word<Device>>,
    /// How the weights are held in memory; the scores are the same bits. Default auto.
    weights: Option<Word<Weights>>,
    /// The protocol of a server. Read now, served by a later version.
    api: Option<Word<Api>>,
    /// The server, such as `http://127.0.0.1:8080`.
    base_url: Option<String>,
    /// The model's name at the server.
    model: Option<String>,
    /// `NAME` of the variable `HARNESS_KEY_NAME` that holds the key; never the key itself.
    #[schemars(regex(pattern = "^[A-Z][A-Z0-9_]{0,63}$"))]
    key: Option<String>,
    /// Requests under way at once. Default 8.
    #[schemars(range(min = 1))]
    max_concurrency: Option<u32>,
    /// How often a failed request is tried again. Default 5.
    retries: Option<u32>,
    /// How long one request may take, in seconds. Default 120.
    #[schemars(range(min = 1))]
    timeout_s: Option<u32>,
    /// US dollars per million tokens.
    price: Option<Price>,
}

/// US dollars per million tokens.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Price {
    /// Tokens sent.
    #[schemars(range(min = 0.0))]
    input: f64,
    /// Tokens generated.
    #[schemars(range(min = 0.0))]
    output: f64,
}

/// The labelled examples.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Dataset {
    /// A .jsonl, .csv, .tsv or .parquet file, relative to this file.
    path: String,
    /// The labelled output: a template such as "{{ fr }}". A list field is several references.
    target: Option<String>,
    /// Candidate answers: a list of templates, or one expression that gives a list. Every choice is scored; the target is one of them.
    choices: Option<OneOrMore<String>>,
    /// The field that identifies an example.
    id: Option<String>,
    /// An expression; examples for which it is false are left out.
    filter: Option<String>,
    /// The field whose equal values make examples one unit of the statistics.
    cluster: Option<String>,
    /// How many examples are kept.
    #[schemars(range(min = 1))]
    limit: Option<u64>,
    /// Which examples a limit keeps. Default random: a fixed subset, nested in every larger one.
    limit_order: Option<Word<LimitOrder>>,
}

/// The solved examples that shots are drawn from.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Fewshot {
    /// A data file without any example of the dataset.
    path: String,
    /// How shots are drawn. Default fixed: one draw per variant, shared by all examples.
    order: Option<Word<ShotOrder>>,
}

/// One prompt formulation: `template` or `file` for a plain prompt, `user` or `messages` for a chat.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Variant {
    /// The variant to inherit from: whatever is not set here is taken from there.
    base: Option<String>,
    /// The prompt, with placeholders such as "{{ en }}".
    template: Option<String>,
    /// A file that holds the prompt.
    file: Option<String>,
    /// How one shot is written; shots stand at "{{ examples }}".
    example: Option<String>,
    /// How many solved examples stand in the prompt. Default 0.
    shots: Option<u64>,
    /// What stands between prompt and target, literally. Overrides that of `[scoring]`.
    delimiter: Option<String>,
    /// The system message, for the model's own chat template.
    system: Option<String>,
    /// The user message, for the model's own chat template.
    user: Option<String>,
    /// All messages of a chat. Shots become user and assistant turns.
    messages: Option<Vec<Message>>,
    /// Weights laid over the model's for this variant.
    adapter: Option<String>,
}

/// One message of a chat.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Message {
    /// Who speaks.
    role: Word<Role>,
    /// What is said: a template.
    content: Option<String>,
    /// A file that holds what is said.
    file: Option<String>,
}

/// How a prompt and its target become one text to score.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Scoring {
    /// What stands between them, literally. Default: a blank, if the prompt is not empty and does not end in white space.
    delimiter: Option<String>,
    /// What happens to a text that is longer than the model's context; always counted and shown. Default error.
    overflow: Option<Word<Overflow>>,
}

/// How text is generated.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Generation {
    /// The most tokens of one generation.
    #[schemars(range(min = 1))]
    max_tokens: u32,
    /// Strings that end a generation and are cut off.
    stop: Option<OneOrMore<String>>,
    /// 0, the default, is greedy.
    #[schemars(range(min = 0.0))]
    temperature: Option<f64>,
    /// Draw among this many of the likeliest tokens.
    #[schemars(range(min = 1))]
    top_k: Option<u32>,
    /// Draw among the likeliest tokens that together reach this probability.
    #[schemars(range(min = 0.0, max = 1.0))]
    top_p: Option<f64>,
    /// Draw among tokens with at least this share of the likeliest one's probability.
    #[schemars(range(min = 0.0, max = 1.0))]
    min_p: Option<f64>,
    /// Divides the logits of tokens that occurred. 1 changes nothing.
    repetition_penalty: Option<f64>,
    /// Generations per example. Default 1.
    #[schemars(range(min = 1))]
    repeats: Option<u32>,
}

/// A metric of the generated text, or a corrected accuracy.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct MetricTable {
    /// The metric, or a list of metrics.
    #[schemars(rename = "use")]
    metric: OneOrMore<Metric>,
    /// Its name in tables and gates. Default: the metric's.
    #[schemars(regex(pattern = "^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$"))]
    name: Option<String>,
    /// A pattern whose first group is judged instead of the whole generation, such as 'Answer: (\w+)'.
    extract: Option<String>,
    /// Steps before comparing. Default `["trim"]`; none for `bleu`, `chrf` and `ter`.
    normalize: Option<OneOrMore<Word<Normalizer>>>,
    /// `contains`: the text that must be in the generation. `max_length`: the most characters.
    value: Option<TextOrLength>,
    /// `contains`: each of these must be in it.
    all: Option<Vec<String>>,
    /// `contains`: one of these must be in it.
    any: Option<Vec<String>>,
    /// `contains`: none of these may be in it.
    none: Option<Vec<String>>,
    /// `contains`: compare without regard to case.
    ignore_case: Option<bool>,
    /// `regex`: the pattern.
    pattern: Option<String>,
    /// `bleu`: sacrebleu's tokenizer. Default 13a.
    tokenize: Option<Word<BleuTokenizer>>,
    /// `acc_pmi`: what stands before a choice instead of the prompt. Default: nothing.
    premise: Option<String>,
}

/// A text or a length.
#[derive(JsonSchema)]
#[schemars(untagged, inline)]
enum TextOrLength {
    Text(String),
    Length(u64),
}

/// A rule that turns a comparison into a verdict: one of `compare`, `min` and `max`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Gate {
    /// The metric, by its name in reports.
    metric: String,
    /// Who is judged: a name, a list, or "*" for all, which is the default.
    variant: Option<OneOrMore<String>>,
    /// For which models: a name, a list, or "*" for all, which is the default.
    model: Option<OneOrMore<String>>,
    /// The reference: "baseline", or "variant:NAME".
    compare: Option<String>,
    /// With compare: the worsening that is tolerable, in the metric's unit.
    #[schemars(range(min = 0.0))]
    max_drop: Option<f64>,
    /// The value must be at least this.
    min: Option<f64>,
    /// The value must be at most this.
    max: Option<f64>,
    /// One-sided confidence of the bounds, above 0.5 and below 1. Default 0.95.
    #[schemars(extend("exclusiveMinimum" = 0.5, "exclusiveMaximum" = 1.0))]
    confidence: Option<f64>,
    /// What becomes of the command if the data cannot tell. Default fail.
    on_inconclusive: Option<Word<OnInconclusive>>,
    /// Unscored examples that are tolerated. Default 0.
    max_failed: Option<u64>,
    /// With min or max: hold the confidence bound (default) or the value itself against it.
    #[schemars(rename = "use")]
    estimate: Option<Word<Estimate>>,
    /// Variants of the baseline that were removed on purpose.
    retired: Option<Vec<String>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::shape::{Keys, ROOT, Shape};

    /// The schema that `part` stands for: a definition, an item or itself.
    fn follow<'a>(root: &'a Value, part: &'a Value) -> &'a Value {
        if let Some(name) = part.get("$ref").and_then(Value::as_str) {
            return follow(root, root.pointer(name.trim_start_matches('#')).unwrap());
        }
        for wrapper in ["anyOf", "allOf"] {
            if let Some([only]) = part
                .get(wrapper)
                .and_then(Value::as_array)
                .map(Vec::as_slice)
            {
                return follow(root, only);
            }
        }
        part
    }

    /// Compares the keys of a table with its schema, at any depth.
    fn compare(root: &Value, part: &Value, keys: Keys, path: &str) {
        let part = follow(root, part);
        assert_eq!(part["additionalProperties"], Value::Bool(false), "{path}");
        let properties = part["properties"].as_object().unwrap();
        let mut in_schema: Vec<&str> = properties.keys().map(String::as_str).collect();
        let mut known: Vec<&str> = keys.iter().map(|(key, _)| *key).collect();
        in_schema.sort_unstable();
        known.sort_unstable();
        assert_eq!(in_schema, known, "{path}");
        for (key, shape) in keys {
            let (below, path) = (follow(root, &properties[*key]), format!("{path}.{key}"));
            assert!(
                properties[*key]["description"]
                    .as_str()
                    .is_some_and(|it| it.len() > 10),
                "{path} has no hover text"
            );
            match shape {
                Shape::Table(keys) => compare(root, below, keys, &path),
                Shape::Named(keys) => compare(root, &below["additionalProperties"], keys, &path),
                Shape::List(keys) => compare(root, &below["items"], keys, &path),
                Shape::Value | Shape::Free => {}
            }
        }
    }

    /// What the parser knows the editor knows, and the other way round.
    #[test]
    fn the_schema_has_the_keys_of_the_parser() {
        let schema = schema();
        compare(&schema, &schema, ROOT, "file");
    }

    fn as_json(text: &str) -> Value {
        serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap()
    }

    #[test]
    fn the_schema_accepts_a_file_with_every_key() {
        let schema = schema();
        assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
        let full = as_json(include_str!("../../tests/fixtures/experiments/full.toml"));
        let validator = jsonschema::validator_for(&schema).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&full)
            .map(|it| it.to_string())
            .collect();
        assert_eq!(errors, Vec::<String>::new());
    }

    /// An editor underlines what one table alone can show to be wrong.
    #[test]
    fn the_schema_refuses_what_a_single_table_gets_wrong() {
        let validator = jsonschema::validator_for(&schema()).unwrap();
        let names = [
            "unknown-table",
            "unknown-key",
            "unknown-key-in-variant",
            "unknown-key-in-gate",
            "unknown-key-in-message",
            "wrong-type",
            "variant-is-not-a-table",
            "bad-slug",
            "missing-tables",
            "missing-name",
            "empty-variants",
            "bad-role",
            "bad-keyword",
            "gate-negative-max-drop",
            "bad-date",
        ];
        for name in names {
            let folder = concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/fixtures/bad-experiments"
            );
            let text = std::fs::read_to_string(format!("{folder}/spec-{name}.toml")).unwrap();
            assert!(!validator.is_valid(&as_json(&text)), "{name}");
        }
    }
}
