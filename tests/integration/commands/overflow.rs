//! Prompts that do not fit the model's 128 positions.

use harness::score::Status;
use harness::table::{self, Values};
use serde_json::json;

use super::{Bench, N_EXAMPLES, PHRASES};

/// A bench whose last example, `long`, has a text of 18 words.
fn bench() -> Bench {
    let bench = Bench::new();
    let rows = std::fs::read_to_string(bench.path("phrases.jsonl")).unwrap();
    let long =
        json!({ "en": "word ".repeat(18).trim(), "fr": "mot", "size": "small", "id": "long" });
    bench.write("phrases.jsonl", &format!("{rows}{long}\n"));
    bench
}

#[test]
fn a_prompt_that_does_not_fit_is_counted_and_shown_and_the_rest_is_scored() {
    let bench = bench();
    let ended = bench.harness("run phrases.toml --variant few --variant bare");
    let run = bench.latest("phrases");
    let statuses: Vec<(&str, &str, Status)> = run
        .cases
        .iter()
        .filter(|it| it.status != Status::Ok)
        .map(|it| (it.variant.as_str(), it.example_id.as_str(), it.status))
        .collect();
    let failed = run
        .cases
        .iter()
        .find(|it| it.status == Status::ContextOverflow);
    assert!(failed.is_some(), "{:?}", run.cases.last());
    assert!(
        statuses
            .iter()
            .all(|it| it.1 == "long" && it.2 == Status::ContextOverflow),
        "{statuses:?}"
    );
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(
        ended.stdout.contains("context_overflow"),
        "{}",
        ended.stdout
    );
    assert_eq!(
        run.manifest.counts.failed["context_overflow"],
        statuses.len()
    );
    for metric in run.metrics.iter().filter(|it| it.variant == "few") {
        assert_eq!((metric.n, metric.n_failed), (N_EXAMPLES, 1), "{metric:?}");
    }
    // What has no answer has no values, and does not count as wrong.
    let failed = failed.unwrap();
    assert_eq!(
        (failed.loglikelihood, failed.generation.as_ref()),
        (None, None)
    );
    assert!(failed.metrics.iter().all(Option::is_none), "{failed:?}");
    let scored: Vec<f64> = run
        .cases
        .iter()
        .filter(|it| it.variant == "few" && it.status == Status::Ok)
        .map(|it| it.loglikelihood.unwrap())
        .collect();
    let mean = scored.iter().sum::<f64>() / N_EXAMPLES as f64;
    let metric = run
        .metrics
        .iter()
        .find(|it| (&*it.variant, &*it.metric) == ("few", "loglikelihood"));
    assert!((metric.unwrap().value.unwrap() - mean).abs() < 1e-12);
}

#[test]
fn the_plan_says_what_will_not_fit() {
    let bench = bench();
    let plan = bench.harness("plan phrases.toml --variant few");
    assert_eq!(plan.code, Some(3), "{}", plan.stderr);
    assert!(
        plan.stdout
            .contains("do not fit the model's context of 128"),
        "{}",
        plan.stdout
    );
}

#[test]
fn shots_are_dropped_one_by_one_until_the_prompt_fits() {
    let bench = bench();
    let words = "run phrases.toml --variant few --set scoring.overflow=\"drop-shots\"";
    let ended = bench.harness(words);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let run = bench.latest("phrases");
    let n_shots = |it: &harness::table::StoredCase| it.prompt.matches("Take").count();
    for case in &run.cases {
        if case.example_id == "long" {
            assert!(n_shots(case) < 2, "{}", case.prompt);
        } else {
            assert_eq!(n_shots(case), 2, "{}", case.prompt);
        }
    }
    assert!(
        ended.stdout.contains("lost shots"),
        "said, never silent: {}",
        ended.stdout
    );
}

#[test]
fn context_is_cut_on_the_left_until_the_prompt_fits() {
    let bench = bench();
    let words = "run phrases.toml --variant few --tokens --set scoring.overflow=\"truncate-left\"";
    let ended = bench.harness(words);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let run = bench.latest("phrases");
    let long = run.cases.iter().find(|it| it.example_id == "long").unwrap();
    // The last token that is scored takes no position.
    let n_tokens = long.n_context_tokens + long.n_target_tokens.unwrap();
    assert!(n_tokens <= 128 + 1, "{n_tokens}");
    assert!(long.loglikelihood.is_some() && long.generation.is_some());
    assert!(
        ended.stdout.contains("cut on the left"),
        "said, never silent: {}",
        ended.stdout
    );
}

/// The last token that is written is never fed, so it takes no position.
#[test]
fn a_generation_may_fill_the_context_to_the_last_position() {
    let bench = Bench::new();
    bench.ok("run phrases.toml -q --variant bare");
    let longest = bench
        .latest("phrases")
        .cases
        .iter()
        .map(|it| it.n_context_tokens)
        .max()
        .unwrap();
    let run = |max_tokens: usize| {
        let set = format!("--set generation.max_tokens={max_tokens}");
        bench.harness(&format!("run phrases.toml -q --variant bare {set}"))
    };
    let fits = run(128 + 1 - longest);
    assert_eq!(fits.code, Some(0), "{}", fits.stdout);
    let written = bench
        .latest("phrases")
        .cases
        .iter()
        .map(|it| it.n_generated_tokens)
        .max();
    assert_eq!(written, Some(Some(128 + 1 - longest)), "not one token less");
    let too_many = run(128 + 2 - longest);
    assert_eq!(too_many.code, Some(3), "{}", too_many.stdout);
}

/// An empty prompt has the context BOS, so a long target is scored in windows, each token once.
#[test]
fn a_target_longer_than_the_context_is_scored_after_an_empty_prompt() {
    let bench = Bench::new();
    let text = "The quick brown fox. ".repeat(20);
    bench.rows(
        "phrases.jsonl",
        &[json!({ "id": "text", "fr": text.trim() })],
    );
    let start = PHRASES.split("[fewshot]").next().unwrap();
    let whole = format!("{start}[variants.text]\ntemplate = \"\"\n");
    bench.write("whole.toml", &whole);
    bench.ok("run whole.toml --tokens -q");
    let run = bench.latest("phrases");
    let case = &run.cases[0];
    let n_tokens = case.n_target_tokens.unwrap();
    assert!(2 * 128 < n_tokens, "three windows: {n_tokens}");
    assert_eq!((case.status, case.n_context_tokens), (Status::Ok, 1));
    let tokens = table::read_table(&run.folder, "tokens").unwrap();
    let column = |name: &str| {
        &tokens
            .columns
            .iter()
            .find(|it| it.name == name)
            .unwrap()
            .values
    };
    let (Values::Count(positions), Values::Text(texts), Values::Number(logprobs)) =
        (column("position"), column("token"), column("logprob"))
    else {
        panic!("{}", tokens.describe());
    };
    let places = positions
        .iter()
        .map(|it| usize::try_from(it.unwrap()).unwrap());
    assert!(places.eq(0..n_tokens), "{positions:?}");
    assert_eq!(
        texts.iter().flatten().map(|it| &**it).collect::<String>(),
        text.trim()
    );
    let sum: f64 = logprobs.iter().map(|it| it.unwrap()).sum();
    assert_eq!(Some(sum), case.loglikelihood);
}
