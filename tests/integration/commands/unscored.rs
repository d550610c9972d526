//! A run with a case that has no score never ends with 0, however the case lost it, unless a
//! gate of the file tolerates it.

use harness::score::Status;
use harness::table::StoredRun;
use serde_json::{Value as Json, json};

use super::{Bench, N_EXAMPLES};

/// The tensors of the bench's model, to be changed in place.
struct Checkpoint<'a> {
    bench: &'a Bench,
    bytes: Vec<u8>,
}

impl<'a> Checkpoint<'a> {
    const FILE: &'static str = "tiny-llama/model.safetensors";

    fn of(bench: &'a Bench) -> Self {
        let bytes = std::fs::read(bench.path(Self::FILE)).unwrap();
        Self { bench, bytes }
    }

    /// Calls `change` with every number of a tensor of f32 and its place.
    fn change(&mut self, tensor: &str, change: impl Fn(usize, f32) -> f32) {
        let (length, rest) = self.bytes.split_first_chunk::<8>().unwrap();
        let n_header = u64::from_le_bytes(*length) as usize;
        let header: Json = serde_json::from_slice(&rest[..n_header]).unwrap();
        assert_eq!(header[tensor]["dtype"], "F32", "{tensor}");
        let at = |i: usize| {
            let offset = header[tensor]["data_offsets"][i].as_u64().unwrap();
            8 + n_header + offset as usize
        };
        let (numbers, _) = self.bytes[at(0)..at(1)].as_chunks_mut::<4>();
        for (i, bytes) in numbers.iter_mut().enumerate() {
            *bytes = change(i, f32::from_le_bytes(*bytes)).to_le_bytes();
        }
    }

    fn write(self) {
        std::fs::write(self.bench.path(Self::FILE), self.bytes).unwrap();
    }
}

/// Statuses of all cases, in table order.
fn statuses(run: &StoredRun) -> Vec<Status> {
    run.cases.iter().map(|it| it.status).collect()
}

/// What was planned was scored or failed, and what failed has no number anywhere.
fn assert_nothing_is_hidden(run: &StoredRun) {
    let unscored = run.cases.iter().filter(|it| it.status != Status::Ok);
    let n_unscored = unscored.clone().count();
    let told: usize = run.manifest.counts.failed.values().sum();
    assert_eq!(told, n_unscored, "{:?}", run.manifest.counts);
    for case in unscored {
        if case.status != Status::EngineError {
            assert_eq!(case.loglikelihood, None, "{case:?}");
            assert_eq!(case.predicted_choice, None, "{case:?}");
        }
    }
    for metric in &run.metrics {
        assert_eq!(metric.n + metric.n_failed, N_EXAMPLES, "{metric:?}");
        if metric.n == 0 {
            assert_eq!(metric.value, None, "nothing is no number: {metric:?}");
        }
    }
}

/// Weights that are finite each, and whose products are not.
#[test]
fn weights_that_overflow_are_a_status_and_not_a_score() {
    let bench = Bench::new();
    let mut checkpoint = Checkpoint::of(&bench);
    // 1e30 times 1e30 is infinite, and infinities of both signs add up to NaN.
    checkpoint.change("model.norm.weight", |_, _| 1e30);
    checkpoint.change("lm_head.weight", |_, it| it * 1e30);
    checkpoint.write();
    for words in [
        "run phrases.toml --variant bare",
        // Failures are not stored, so the same command fails again.
        "run phrases.toml --variant bare",
        "run phrases.toml --variant bare --set generation.temperature=0.7",
    ] {
        let ended = bench.harness(words);
        assert_eq!(ended.code, Some(3), "{}{}", ended.stdout, ended.stderr);
        assert!(ended.stdout.contains("non_finite"), "{}", ended.stdout);
        let run = bench.latest("phrases");
        assert_eq!(statuses(&run), [Status::NonFinite; N_EXAMPLES]);
        assert_nothing_is_hidden(&run);
        let texts = run.cases.iter().map(|it| it.generation.as_ref());
        assert!(texts.flatten().next().is_none(), "no text was written");
    }
    let ended = bench.harness("run colours.toml --variant bare");
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    let run = bench.latest("colours");
    assert_eq!(statuses(&run), [Status::NonFinite; N_EXAMPLES]);
    assert!(run.choices.is_empty(), "{:?}", run.choices);
    assert_nothing_is_hidden(&run);
    let ended = bench.harness("try phrases.toml --variant bare --generate");
    assert_eq!(ended.code, Some(3), "{}", ended.stdout);
}

/// One token that overflows to -inf is impossible, which a target must not be; where it
/// overflows to +inf nothing has a probability.
#[test]
fn a_target_of_probability_0_has_no_score() {
    let bench = Bench::new();
    let row = |i: usize| {
        let letter = char::from(b'a' + i as u8);
        json!({"id": format!("p{i:02}"), "en": format!("Say {letter}"), "fr": "the"})
    };
    bench.rows(
        "phrases.jsonl",
        &(0..N_EXAMPLES).map(row).collect::<Vec<_>>(),
    );
    let start = super::PHRASES.split("[fewshot]").next().unwrap();
    let variant = "[variants.bare]\ntemplate = \"{{ en }}\"\n";
    bench.write("phrases.toml", &format!("{start}{variant}"));
    let shown = bench.ok("try phrases.toml --variant bare --json");
    let shown: Json = serde_json::from_str(&shown).unwrap();
    let tokens = shown["scored"][0]["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), 1, "{shown:#}");
    let token = tokens[0]["token_id"].as_u64().unwrap() as usize;
    let mut checkpoint = Checkpoint::of(&bench);
    checkpoint.change("model.norm.weight", |i, it| if i == 5 { 1e9 } else { it });
    // The token's logit is 3e38 times what stands in place 5, which has either sign.
    checkpoint.change("lm_head.weight", |i, it| match (i / 32 == token, i % 32) {
        (true, 5) => 3e38,
        (true, _) | (false, 5) => 0.0,
        (false, _) => it,
    });
    checkpoint.write();
    let ended = bench.harness("run phrases.toml");
    assert_eq!(ended.code, Some(3), "{}{}", ended.stdout, ended.stderr);
    let run = bench.latest("phrases");
    assert_nothing_is_hidden(&run);
    let statuses = statuses(&run);
    for status in [Status::ZeroProbability, Status::NonFinite] {
        let name = status.as_str();
        assert!(statuses.contains(&status), "{name}: {statuses:?}");
        assert!(ended.stdout.contains(name), "{}", ended.stdout);
    }
    assert!(!statuses.contains(&Status::Ok), "{statuses:?}");
}

/// The chat template may refuse what other templates take.
#[test]
fn a_prompt_that_one_model_refuses_has_no_score() {
    let bench = Bench::new();
    let path = bench.path("tiny-llama/tokenizer_config.json");
    let mut config: Json = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let template = config["chat_template"].as_str().unwrap();
    let refusing = format!(
        "{{% if 'old' in messages[0]['content'] %}}{{{{ raise_exception('too old') }}}}\
         {{% endif %}}{template}"
    );
    config["chat_template"] = Json::from(refusing);
    bench.write("tiny-llama/tokenizer_config.json", &config.to_string());
    let ended = bench.harness("run phrases.toml --variant chat");
    assert_eq!(ended.code, Some(3), "{}{}", ended.stdout, ended.stderr);
    let run = bench.latest("phrases");
    // One noun in four is old.
    let failed = run.cases.iter().filter(|it| it.status != Status::Ok);
    let failed: Vec<(&str, Status)> = failed.map(|it| (&*it.example_id, it.status)).collect();
    let want = ["p02", "p06", "p10"].map(|it| (it, Status::EngineError));
    assert_eq!(failed, want);
    assert_nothing_is_hidden(&run);
}

/// What a generation must contain is empty for one example, so every text would contain it.
#[test]
fn a_generation_that_cannot_be_judged_has_no_score() {
    let bench = Bench::new();
    let rows = std::fs::read_to_string(bench.path("phrases.jsonl")).unwrap();
    let rows = rows.replace("arbre 1 é", "  \u{2009}é");
    bench.write("phrases.jsonl", &rows);
    let start = super::PHRASES.split("[[metrics]]").next().unwrap();
    let metric = "[[metrics]]\nuse = \"contains\"\nvalue = \"{{ fr[:3] }}\"\n";
    bench.write("phrases.toml", &format!("{start}{metric}"));
    let ended = bench.harness("run phrases.toml --variant bare");
    assert_eq!(ended.code, Some(3), "{}{}", ended.stdout, ended.stderr);
    let run = bench.latest("phrases");
    let failed = run.cases.iter().filter(|it| it.status != Status::Ok);
    let failed: Vec<(&str, Status)> = failed.map(|it| (&*it.example_id, it.status)).collect();
    assert_eq!(failed, [("p05", Status::EngineError)]);
    assert_nothing_is_hidden(&run);
    let contains = run.metrics.iter().find(|it| it.metric == "contains");
    assert_eq!(contains.unwrap().n_failed, 1, "not counted as wrong");
}

/// An unscored case that a gate tolerates leaves the word to the gates; any other outweighs
/// them, whatever they say.
#[test]
fn an_unscored_case_that_is_not_tolerated_outweighs_every_gate() {
    let bench = Bench::new();
    let rows = std::fs::read_to_string(bench.path("phrases.jsonl")).unwrap();
    bench.write(
        "phrases.jsonl",
        &rows.replace("The blue tree.", &"word ".repeat(200)),
    );
    // The targets score about -1.5 nats a byte. By its bound, the last one needs 30 examples.
    for (limit, code) in [
        ("min = -99.0\nuse = \"point\"", 0),
        ("min = 0.0\nuse = \"point\"", 1),
        ("min = -99.0", 4),
    ] {
        for (max_failed, code) in [(0, 3), (1, code)] {
            let gate = format!(
                "[[gates]]\nmetric = \"loglikelihood_per_byte\"\n{limit}\n\
                 max_failed = {max_failed}\n"
            );
            bench.write("phrases.toml", &format!("{}{gate}", super::PHRASES));
            let ended = bench.harness("run phrases.toml --variant bare");
            let said = format!("{limit}, {max_failed}: {}{}", ended.stdout, ended.stderr);
            assert_eq!(ended.code, Some(code), "{said}");
            assert!(said.contains("1 context_overflow"), "{said}");
            assert_nothing_is_hidden(&bench.latest("phrases"));
        }
    }
}
