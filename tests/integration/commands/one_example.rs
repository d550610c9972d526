//! Looking closely: `harness show`, `harness plan` and `harness try`.

use serde_json::Value as Json;

use super::{Bench, N_EXAMPLES};

#[test]
fn runs_are_shown_by_every_name_they_have() {
    let bench = Bench::new();
    bench.ok("run phrases.toml -q");
    bench.ok("run colours.toml -q");
    let phrases = bench.runs("results", "phrases").pop().unwrap();
    let id = phrases.file_name().unwrap().to_str().unwrap().to_owned();
    let shown = bench.ok(&format!("show {}", phrases.display()));
    assert!(shown.contains("instruction"), "{shown}");
    for name in ["phrases/latest", "latest~1", &id, &format!("phrases/{id}")] {
        assert_eq!(bench.ok(&format!("show {name}")), shown, "{name}");
    }
    assert!(
        bench.ok("show").contains("question"),
        "the latest is that of the colours"
    );
    assert_eq!(bench.ok("show"), bench.ok("show latest"));
    for wrong in ["latest~2", "nope", "nope/latest"] {
        let ended = bench.harness(&format!("show {wrong}"));
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(2), ""),
            "{wrong}"
        );
        assert!(ended.stderr.starts_with("error: "), "{}", ended.stderr);
    }
}

#[test]
fn prompts_failures_and_single_examples_can_be_read() {
    let bench = Bench::new();
    bench.ok("run phrases.toml -q");
    let run = bench.latest("phrases");
    let prompts = bench.ok("show --prompts");
    assert!(prompts.contains("To French: The red house."), "{prompts}");
    let failures = bench.ok("show --failures");
    assert!(failures.contains("maison"), "{failures}");
    let example = bench.ok("show --example p05");
    let case = run.cases.iter().find(|it| it.example_id == "p05").unwrap();
    assert!(example.contains(case.target.as_ref().unwrap()), "{example}");
    for variant in ["bare", "instruction", "few", "chat"] {
        assert!(example.contains(variant), "{example}");
    }
    let ended = bench.harness("show --example p5");
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.stderr.contains("did you mean `p0"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_plan_counts_what_a_run_then_does() {
    let bench = Bench::new();
    let plan: Json = serde_json::from_str(&bench.ok("plan phrases.toml --json")).unwrap();
    assert_eq!(plan["n_examples"], N_EXAMPLES);
    assert_eq!(plan["n_cases"], 4 * N_EXAMPLES);
    assert!(!bench.path("results").exists(), "a plan writes nothing");
    bench.ok("run phrases.toml -q");
    let run = bench.latest("phrases");
    assert_eq!(plan["n_distinct_requests"], run.manifest.counts.n_computed);
    assert_eq!(plan["plan_digest"], run.manifest.digests.plan.as_str());
    let text = bench.ok("plan phrases.toml --prompts 2");
    for prompt in [
        "To French: The red house.",
        "To French: The blue house.",
        "Take ",
    ] {
        assert!(text.contains(prompt), "{text}");
    }
}

#[test]
fn an_example_is_tried_with_the_numbers_of_the_run() {
    let bench = Bench::new();
    bench.ok("run phrases.toml -q");
    let run = bench.latest("phrases");
    for variant in ["few", "chat"] {
        let words = format!("try phrases.toml --variant {variant} --example p07 --generate --json");
        let tried: Json = serde_json::from_str(&bench.ok(&words)).unwrap();
        let case = run.cases.iter();
        let case = case
            .clone()
            .find(|it| (&*it.variant, &*it.example_id) == (variant, "p07"))
            .unwrap();
        let tokens = tried["scored"][0]["tokens"].as_array().unwrap();
        let sum: f64 = tokens
            .iter()
            .map(|it| it["logprob"].as_f64().unwrap())
            .sum();
        // Logprobs are f32, and are printed as such: 8 digits.
        assert!(
            (sum - case.loglikelihood.unwrap()).abs() < 1e-4,
            "{tried:#}"
        );
        assert_eq!(tokens.len(), case.n_target_tokens.unwrap());
        assert_eq!(tried["prompt"], case.prompt.as_str());
        assert_eq!(
            tried["generation"]["text"],
            case.generation.as_deref().unwrap()
        );
        assert_eq!(tried["status"], "ok");
    }
}

#[test]
fn another_text_can_be_tried() {
    let bench = Bench::new();
    let tried = bench.ok("try phrases.toml --variant bare --set en=Hello. --set fr=Salut");
    assert!(
        tried.contains("│ Hello.") && tried.contains("target: Salut"),
        "{tried}"
    );
    for (words, hint) in [
        ("--variant nope", "instruction"),
        ("--variant bare --example nope", "p00"),
        ("--variant bare --set english=x", "fr"),
        ("--variant bare --set fr=", "empty target"),
    ] {
        let ended = bench.harness(&format!("try phrases.toml {words}"));
        assert_eq!(ended.code, Some(2), "{words}: {}", ended.stderr);
        assert!(ended.stderr.contains(hint), "{words}: {}", ended.stderr);
    }
}
