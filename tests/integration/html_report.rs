//! The HTML report in a real browser, driven by `tests/html/drive.mjs`.
//!
//! Needs `node`, a Chromium and the npm package `playwright-core`, which `tests/references.sh`
//! installs; without one of them the test says what is missing and passes. The runs are made up here, so
//! that the right counts are known before the page counts. With `HARNESS_SCREENSHOTS=DIR`
//! pictures and a print are left there to be looked at.

use std::path::{Path, PathBuf};
use std::process::Command;

use harness::report::escape;
use harness::report::html::{self, PageRun};
use harness::score::Status;
use harness::stats::Verdict;
use harness::table::{
    CellRecord, Counts, Digests, Manifest, MetricRecord, ModelRecord, RankingRecord, RunStatus,
    SCHEMA_VERSION, StoredCase, StoredChoice, StoredComparison, StoredExample, StoredMetric,
    StoredRun, StoredToken, VariantRecord,
};
use serde_json::{Value, json};

use super::references;

/// As many as a page must show without delay.
const N_EXAMPLES: usize = 2_000;

/// So many that a page has 50,000 cases: slower, but it must open.
const N_HUGE: usize = 12_500;

/// The variants, and of ten examples how many each gets right.
const VARIANTS: [(&str, usize); 4] = [("bare", 6), ("instruct", 7), ("few", 9), ("chat", 5)];

/// Texts that would do something if they were taken for anything but text.
fn hostile() -> Vec<String> {
    let mut texts: Vec<String> = [
        "<script>window.pwned = 1</script>",
        "</script><script>window.pwned = 1</script>",
        "<!--<script>",
        "<img src=x onerror=\"window.pwned = 1\">",
        "<svg/onload=window.pwned=1>",
        "<a href=\"javascript:window.pwned=1\">x</a>",
        "<iframe srcdoc=\"<script>parent.pwned=1</script>\"></iframe>",
        "<style>body { display: none }</style>",
        "\" onfocus=\"window.pwned=1\" autofocus x=\"",
        "${window.pwned = 1} `${1}` {{ 7*7 }} {% raw %}",
        "\"}],\"runs\":[] \\\" \\u003cb\\u003e \\",
        "&lt;b&gt; &amp; &#x3c;script&#x3e;",
        "abc\u{202e}fdp.exe \u{2066}x\u{2069} \u{200f}y",
        "nul \0 escape \u{1b}[2J\u{1b}]0;title\u{7} c1 \u{9b}31m",
        "line\u{2028}paragraph\u{2029}end\ttab\rreturn",
        "two\nlines\n",
        "\u{e0041}\u{feff}\u{200b}\u{ad}",
        "]]>--><!DOCTYPE x><base href=//x>",
        "مرحبا 日本語 👩\u{200d}👧 e\u{301}",
        "__proto__",
        "constructor",
    ]
    .map(str::to_owned)
    .to_vec();
    texts.push("long ".repeat(40_000));
    texts.push("w".repeat(100_000));
    texts
}

/// Whether a variant gets an example right.
fn is_right(variant: usize, example: usize) -> bool {
    (example * 7 + variant * 3) % 10 < VARIANTS[variant].1
}

/// A value from 0 to 100 without a pattern to the eye.
fn chrf(variant: usize, example: usize) -> f64 {
    ((example * example * 37 + variant * (61 * example + 11)) % 1_000) as f64 / 10.0
}

fn manifest(run: &str) -> Manifest {
    let metric = |name: &str, unit: &str, is_descriptive, is_declared| MetricRecord {
        name: name.to_owned(),
        unit: unit.to_owned(),
        higher_is_better: true,
        is_descriptive,
        is_declared,
    };
    Manifest {
        schema_version: SCHEMA_VERSION,
        harness_version: "0.1.0".to_owned(),
        experiment: "made-up".to_owned(),
        run: run.to_owned(),
        status: RunStatus::Complete,
        digests: Digests::default(),
        seed: 17,
        primary: "acc".to_owned(),
        control: Some("bare".to_owned()),
        margin: Some(0.02),
        started: "2026-01-01T12:00:00Z".to_owned(),
        finished: None,
        host: "box".to_owned(),
        device: "cpu".to_owned(),
        models: vec![ModelRecord {
            name: "smol".to_owned(),
            source: "builtin:smollm2-135m-instruct".to_owned(),
            revision: None,
            digest: "0123456789abcdef".to_owned(),
            tokenizer_digest: "t".to_owned(),
            architecture: "llama".to_owned(),
            numerics: "local-f32".to_owned(),
        }],
        variants: VARIANTS
            .map(|it| VariantRecord {
                name: it.0.to_owned(),
                template_digest: "v".to_owned(),
            })
            .to_vec(),
        metrics: vec![
            metric("acc", "%", false, false),
            metric("loglikelihood_per_byte", "nats/byte", false, false),
            metric("ece", "", true, false),
            metric("chrf", "points", false, true),
            metric("sentence_chrf", "points", false, false),
        ],
        counts: Counts {
            n_examples: N_EXAMPLES,
            n_cases: N_EXAMPLES * VARIANTS.len(),
            ..Counts::default()
        },
        cells: VARIANTS
            .map(|it| CellRecord {
                model: "smol".to_owned(),
                variant: it.0.to_owned(),
                elapsed_seconds: 12.5,
                tokens_per_prompt: 40.0,
                n_dropped_shots: 0,
                n_truncated: 0,
            })
            .to_vec(),
        rankings: vec![RankingRecord {
            model: "smol".to_owned(),
            luck_of_best: Some(0.012),
            to_settle: Vec::new(),
        }],
    }
}

/// The made-up run: everything but its examples and cases.
fn empty(run: &str) -> StoredRun {
    let share = |variant: usize| VARIANTS[variant].1 as f64 / 10.0;
    let metric = |variant: usize, metric: &str, value: f64| StoredMetric {
        model: "smol".to_owned(),
        variant: VARIANTS[variant].0.to_owned(),
        metric: metric.to_owned(),
        value: Some(value),
        stderr: Some(0.01),
        ci_low: Some(value - 0.021),
        ci_high: Some(value + 0.02),
        n: N_EXAMPLES,
        n_failed: 0,
        higher_is_better: true,
        signature: None,
    };
    let of_variant = |it| {
        [
            metric(it, "acc", share(it)),
            metric(it, "loglikelihood_per_byte", share(it) - 1.0),
            metric(it, "chrf", 50.0),
        ]
    };
    let compared = |it: usize| StoredComparison {
        model: "smol".to_owned(),
        metric: "acc".to_owned(),
        variant_a: VARIANTS[it].0.to_owned(),
        variant_b: "bare".to_owned(),
        difference: Some(share(it) - share(0)),
        ci_low: Some(share(it) - share(0) - 0.02),
        ci_high: Some(share(it) - share(0) + 0.02),
        p_value: Some(0.000_1),
        p_adjusted: Some(0.000_3),
        n_pairs: N_EXAMPLES,
        n_unpaired: 0,
        method: "tango".to_owned(),
        margin: Some(0.02),
        verdict: Some(if share(0) < share(it) {
            Verdict::Improved
        } else {
            Verdict::Regressed
        }),
    };
    StoredRun {
        folder: PathBuf::from("results"),
        manifest: manifest(run),
        case_metrics: vec!["acc".to_owned(), "sentence_chrf".to_owned()],
        cases: Vec::new(),
        choices: Vec::new(),
        examples: Vec::new(),
        metrics: (0..VARIANTS.len()).flat_map(of_variant).collect(),
        comparisons: (1..VARIANTS.len()).map(compared).collect(),
    }
}

/// Puts one example with its cases, choices and tokens into a run.
fn push(run: &mut StoredRun, tokens: &mut Vec<StoredToken>, id: &str, text: &str) {
    let example = run.examples.len();
    run.examples.push(StoredExample {
        id: id.to_owned(),
        row_digest: format!("{example:x}"),
        source_line: example + 1,
        cluster: None,
        fields: vec![("review".to_owned(), Some(text.to_owned()))],
    });
    for (variant, (name, _)) in VARIANTS.iter().enumerate() {
        let is_right = is_right(variant, example);
        let target = example % 2;
        let tenths = (example % 7) as f64 / 8.0;
        let own = if is_right {
            -0.5 - tenths
        } else {
            -2.0 - tenths
        };
        let other = if is_right { -3.0 } else { -0.25 };
        run.cases.push(StoredCase {
            model: "smol".to_owned(),
            variant: (*name).to_owned(),
            example_id: id.to_owned(),
            repeat: 0,
            status: Status::Ok,
            prompt: format!(
                "{}{text}\nSentiment:",
                "Say what it is. ".repeat(variant * 8)
            ),
            target: Some(["negative", "positive"][target].to_owned()),
            n_context_tokens: 40,
            n_target_tokens: Some(2),
            n_target_bytes: Some(8),
            loglikelihood: Some(own),
            greedy_match: Some(is_right),
            boundary_merge: Some(false),
            predicted_choice: Some(if is_right { target } else { 1 - target }),
            target_choice: Some(target),
            generation: Some(format!("I think {text}")),
            finish_reason: Some("length".to_owned()),
            n_generated_tokens: Some(6),
            metrics: vec![
                Some(f64::from(u8::from(is_right))),
                Some(chrf(variant, example)),
            ],
        });
        for (index, choice) in ["negative", "positive"].into_iter().enumerate() {
            let loglikelihood = if index == target { own } else { other };
            run.choices.push(StoredChoice {
                model: "smol".to_owned(),
                variant: (*name).to_owned(),
                example_id: id.to_owned(),
                choice_index: index,
                choice: choice.to_owned(),
                is_target: index == target,
                loglikelihood,
                n_tokens: 2,
                n_chars: 8,
                n_bytes: 8,
                // As its prompt: 0.60, 0.65, ... for the first label.
                prior: Some([0.60, 0.40][index] + [0.05, -0.05][index] * variant as f64),
            });
            // A quarter and the rest, both exact in f32.
            for (position, part) in [0.25, 0.75].into_iter().enumerate() {
                tokens.push(StoredToken {
                    model: "smol".to_owned(),
                    variant: (*name).to_owned(),
                    example_id: id.to_owned(),
                    choice_index: Some(index),
                    position,
                    token_id: 10 * index + position,
                    token: [" ", "x"][position].to_owned() + &choice[..4],
                    logprob: f64::from((loglikelihood * part) as f32),
                    is_argmax: is_right,
                });
            }
        }
    }
}

fn large(run: &str, n_examples: usize) -> (StoredRun, Vec<StoredToken>) {
    let (mut run, mut tokens) = (empty(run), Vec::new());
    for i in 0..n_examples {
        let text = format!(
            "Review {i}: {}",
            "the film goes on and on. ".repeat(1 + i % 9)
        );
        push(&mut run, &mut tokens, &format!("e{i:04}"), &text);
    }
    // Two without a score, one of them in the pair that is shown first.
    for (place, status) in [
        (2, Status::ContextOverflow),
        (4 * 100 + 3, Status::EngineError),
    ] {
        let case = &mut run.cases[place];
        (case.status, case.loglikelihood, case.generation) = (status, None, None);
        (case.predicted_choice, case.metrics) = (None, vec![None, None]);
        let (variant, example) = (case.variant.clone(), case.example_id.clone());
        run.choices
            .retain(|it| (&it.variant, &it.example_id) != (&variant, &example));
    }
    (run, tokens)
}

/// What the page of [`large`] must count for `few` over `bare`.
fn expected() -> Value {
    // Variant 2 of example 0 has no score.
    let scored = || 1..N_EXAMPLES;
    let of = |a: bool, b: bool| {
        let is = |i: &usize| is_right(2, *i) == a && is_right(0, *i) == b;
        scored().filter(is).count()
    };
    let failed = (0..N_EXAMPLES).filter(|i| *i == 0 || !is_right(0, *i) || !is_right(2, *i));
    let limited = scored().filter(|i| 90.0 <= chrf(2, *i)).count();
    let first = |key: &dyn Fn(usize) -> f64| {
        let mut order: Vec<usize> = scored().collect();
        order.sort_by(|a, b| key(*a).total_cmp(&key(*b)));
        order[..20]
            .iter()
            .map(|it| format!("e{it:04}"))
            .collect::<Vec<_>>()
    };
    json!({
        "n": N_EXAMPLES,
        // From best to worst, as `push` makes them.
        "priors": [
            ["few", "70.0", "30.0"],
            ["instruct", "65.0", "35.0"],
            ["bare", "60.0", "40.0"],
            ["chat", "75.0", "25.0"],
        ],
        "gained": of(true, false),
        "lost": of(false, true),
        "same": of(true, true) + of(false, false),
        "failures": failed.count(),
        "unscored": 1,
        "unscored_all": 2,
        "found_12": (0..N_EXAMPLES).filter(|it| format!("e{it:04} review {it}:").contains("12")).count(),
        "chrf_from_90": limited,
        "mean_of_draws": format!("{:.1}", chrf(2, 1) + 5.0),
        "lowest_chrf": first(&|i| chrf(2, i)),
        "worst_chrf": first(&|i| chrf(2, i) - chrf(0, i)),
    })
}

fn hostile_run() -> (StoredRun, Vec<StoredToken>) {
    let (mut run, mut tokens) = (empty("20260102-120000-evil"), Vec::new());
    for (i, text) in hostile().iter().enumerate() {
        push(&mut run, &mut tokens, &format!("h{i}"), text);
        let id = if text.len() < 1_000 { text } else { "h-long" };
        let id = format!("{i} {id}");
        let old = format!("h{i}");
        let of_example = |it: &mut String| {
            if *it == old {
                it.clone_from(&id);
            }
        };
        let of_cases = run.cases.iter_mut().map(|it| &mut it.example_id);
        let of_choices = run.choices.iter_mut().map(|it| &mut it.example_id);
        let of_tokens = tokens.iter_mut().map(|it| &mut it.example_id);
        for it in of_cases.chain(of_choices).chain(of_tokens) {
            of_example(it);
        }
        let example = run.examples.last_mut().unwrap();
        example.id = id;
        example.cluster = Some(text.clone());
        example.fields = vec![(text.clone(), Some(text.clone()))];
        for case in run.cases.iter_mut().rev().take(VARIANTS.len()) {
            (case.target, case.generation) = (Some(text.clone()), Some(text.clone()));
            case.finish_reason = Some(text.clone());
        }
        for choice in run.choices.iter_mut().rev().take(2 * VARIANTS.len()) {
            choice.choice.clone_from(text);
        }
        for token in tokens.iter_mut().rev().take(4 * VARIANTS.len()) {
            token.token.clone_from(text);
        }
    }
    let short = &hostile()[1];
    run.manifest.experiment.clone_from(short);
    run.manifest.device.clone_from(short);
    run.manifest.models[0].source.clone_from(short);
    run.manifest.models[0].numerics.clone_from(short);
    (run, tokens)
}

/// A program by one of its names on the search path.
fn program(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let places = names
        .iter()
        .flat_map(|name| folders.iter().map(move |it| it.join(name)));
    places.into_iter().find(|it| it.is_file())
}

/// Node, a browser and the folder of node modules; `None`, and a line that says what is
/// missing, if one of them is not there.
fn tools() -> Option<(PathBuf, PathBuf, PathBuf)> {
    let modules = references::folder().join("npm/node_modules");
    let missing = |what: &str| references::skipped(what, Path::new("PATH"));
    let Some(node) = program(&["node"]) else {
        missing("no node");
        return None;
    };
    let Some(browser) = program(&["chromium", "chromium-browser", "google-chrome"]) else {
        missing("no Chromium");
        return None;
    };
    if !modules.join("playwright-core").is_dir() {
        references::skipped("no playwright-core", &modules);
        return None;
    }
    Some((node, browser, modules))
}

#[test]
fn the_page_works_in_a_browser() {
    let Some((node, browser, modules)) = tools() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, pages: &[PageRun<'_>]| {
        let path = folder.path().join(name);
        std::fs::write(&path, html::page(pages).unwrap()).unwrap();
        path
    };
    let (run, tokens) = large("20260102-120000-aaaa", N_EXAMPLES);
    let with_tokens = PageRun {
        run: &run,
        tokens: Some(&tokens),
    };
    let (mut other, _) = large("20260101-120000-bbbb", N_EXAMPLES);
    other.manifest.status = RunStatus::Interrupted;
    other.examples[3].row_digest = "other".to_owned();
    // A second draw for `few` on e0001: text metrics are then means over the draws.
    let again = StoredCase {
        repeat: 1,
        generation: Some("the second draw".to_owned()),
        loglikelihood: None,
        predicted_choice: None,
        metrics: vec![None, Some(chrf(2, 1) + 10.0)],
        ..other.cases[6].clone()
    };
    other.cases.insert(7, again);
    let without = PageRun {
        run: &other,
        tokens: None,
    };
    let (huge, _) = large("20260103-120000-cccc", N_HUGE);
    let huge = PageRun {
        run: &huge,
        tokens: None,
    };
    let (evil, evil_tokens) = hostile_run();
    let evil = PageRun {
        run: &evil,
        tokens: Some(&evil_tokens),
    };
    let texts: Vec<[String; 2]> = hostile()
        .iter()
        .map(|it| [it.clone(), escape::lines(it).join("\n")])
        .collect();
    let spec = json!({
        "modules": modules,
        "browser": browser,
        "large": write("large.html", &[with_tokens]),
        "both": write("both.html", &[with_tokens, without]),
        "huge": write("huge.html", &[huge]),
        "n_huge": N_HUGE,
        "hostile": write("hostile.html", &[evil]),
        "numbers": Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/html/numbers.json"),
        "texts": texts,
        "expected": expected(),
        "out": std::env::var_os("HARNESS_SCREENSHOTS").map(PathBuf::from),
    });
    let path = folder.path().join("spec.json");
    std::fs::write(&path, spec.to_string()).unwrap();
    let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/html/drive.mjs");
    let ended = Command::new(node).arg(driver).arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(
        ended.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    print!("{said}");
}
