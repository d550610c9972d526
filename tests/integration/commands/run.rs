//! `harness run`: what it writes and what it says.

use harness::experiment::MetricName;
use harness::table::{self, StoredCase, StoredRun};
use serde_json::Value as Json;

use super::{Bench, N_EXAMPLES, PHRASES, assert_equal_tables};

/// Every table of the design, with its columns in order.
const COLUMNS: [(&str, &str); 6] = [
    (
        "cases",
        "experiment, run, model, variant, example_id, repeat, status, prompt, target, \
         n_context_tokens, n_target_tokens, n_target_bytes, loglikelihood, greedy_match, \
         boundary_merge, predicted_choice, target_choice, generation, finish_reason, \
         n_generated_tokens",
    ),
    (
        "choices",
        "experiment, run, model, variant, example_id, choice_index, choice, is_target, \
         loglikelihood, n_tokens, n_chars, n_bytes, prior",
    ),
    (
        "examples",
        "experiment, run, example_id, row_digest, source_line, cluster",
    ),
    (
        "metrics",
        "experiment, run, model, variant, metric, value, stderr, ci_low, ci_high, n, n_failed, \
         higher_is_better, signature",
    ),
    (
        "comparisons",
        "experiment, run, model, metric, variant_a, variant_b, difference, ci_low, ci_high, \
         p_value, p_adjusted, n_pairs, n_unpaired, method, margin, verdict",
    ),
    (
        "tokens",
        "experiment, run, model, variant, example_id, choice_index, position, token_id, token, \
         logprob, is_argmax",
    ),
];

fn value(run: &StoredRun, variant: &str, metric: &str) -> f64 {
    let found = run
        .metrics
        .iter()
        .find(|it| (&*it.variant, &*it.metric) == (variant, metric));
    found
        .and_then(|it| it.value)
        .unwrap_or_else(|| panic!("{metric} of {variant}"))
}

fn cases<'a>(run: &'a StoredRun, variant: &'a str) -> impl Iterator<Item = &'a StoredCase> + Clone {
    run.cases.iter().filter(move |it| it.variant == variant)
}

/// Equal but for the rounding of another order of additions.
fn assert_close(got: f64, want: f64, what: &str) {
    assert!(
        (got - want).abs() <= 1e-12 * want.abs().max(1.0),
        "{what}: {got}, expected {want}"
    );
}

#[test]
fn every_table_has_the_columns_of_the_design() {
    let bench = Bench::new();
    for (experiment, own) in [
        (
            "phrases",
            ["exact_match, f1, sentence_chrf", "en, fr, size, id"],
        ),
        ("colours", ["", "en, fr, size, id"]),
    ] {
        bench.ok(&format!("run {experiment}.toml --tokens -q"));
        let folder = bench.runs("results", experiment).pop().unwrap();
        for (name, columns) in COLUMNS {
            let table = table::read_table(&folder, name).unwrap();
            let names: Vec<&str> = table.columns.iter().map(|it| it.name.as_str()).collect();
            let names = names.join(", ");
            let extra = match name {
                "cases" => own[0],
                "examples" => own[1],
                _ => "",
            };
            let got = names
                .strip_prefix(columns)
                .unwrap_or_else(|| panic!("{name}: {names}"));
            let got: Vec<&str> = got.split(", ").filter(|it| !it.is_empty()).collect();
            // Metrics of cases come after the columns of the contract, in any number.
            for wanted in extra.split(", ").filter(|it| !it.is_empty()) {
                assert!(got.contains(&wanted), "{name} of {experiment}: {names}");
            }
            if name != "cases" {
                assert_eq!(got.join(", "), extra, "{name} of {experiment}");
            }
        }
        assert!(folder.join("run.json").is_file() && folder.join("experiment.toml").is_file());
    }
}

#[test]
fn what_is_planned_is_scored_or_failed() {
    let bench = Bench::new();
    bench.ok("run phrases.toml -q");
    let run = bench.latest("phrases");
    assert_eq!(run.examples.len(), N_EXAMPLES);
    assert_eq!(run.cases.len(), 4 * N_EXAMPLES);
    assert_eq!(run.manifest.counts.n_cases, 4 * N_EXAMPLES);
    for metric in &run.metrics {
        assert_eq!(metric.n + metric.n_failed, N_EXAMPLES, "{metric:?}");
    }
    // Rows stand in the order of the plan.
    let order: Vec<(&str, &str)> = run
        .cases
        .iter()
        .map(|it| (it.variant.as_str(), it.example_id.as_str()))
        .collect();
    let examples = || run.examples.iter().map(|it| it.id.as_str());
    let plan: Vec<(&str, &str)> = ["bare", "instruction", "few", "chat"]
        .into_iter()
        .flat_map(|variant| examples().map(move |it| (variant, it)))
        .collect();
    assert_eq!(order, plan);
}

/// Six pairs of four variants for each metric; the first named is the candidate.
#[test]
fn comparisons_are_the_differences_of_the_metrics() {
    let bench = Bench::new();
    bench.ok("run phrases.toml -q");
    let run = bench.latest("phrases");
    let of = |metric: &'static str| run.comparisons.iter().filter(move |it| it.metric == metric);
    for (metric, sign) in [
        ("loglikelihood", 1.0),
        ("loglikelihood_per_byte", 1.0),
        ("bits_per_byte", -1.0),
    ] {
        assert_eq!(of(metric).count(), 6, "{metric}");
        for it in of(metric) {
            // A gain: where lower is better, the difference is negated.
            let (a, b) = (
                value(&run, &it.variant_a, metric),
                value(&run, &it.variant_b, metric),
            );
            assert_close(it.difference.unwrap(), sign * (a - b), metric);
            assert_eq!((it.n_pairs, it.n_unpaired), (N_EXAMPLES, 0));
        }
    }
    assert_eq!(
        of("perplexity").count(),
        0,
        "a perplexity is never compared"
    );
}

#[test]
fn likelihood_metrics_are_those_of_the_cases() {
    let bench = Bench::new();
    bench.ok("run phrases.toml -q");
    let run = bench.latest("phrases");
    for variant in ["bare", "few", "chat"] {
        let cases = cases(&run, variant);
        let n = cases.clone().count() as f64;
        let sum: f64 = cases.clone().map(|it| it.loglikelihood.unwrap()).sum();
        let tokens: usize = cases.clone().map(|it| it.n_target_tokens.unwrap()).sum();
        let bytes: usize = cases.clone().map(|it| it.n_target_bytes.unwrap()).sum();
        // "maison 0 é" has 11 bytes, "arbre 0 é" and "livre 0 é" 10; four of each.
        assert_eq!(bytes, 4 * (11 + 10 + 10));
        let greedy = cases.clone().filter(|it| it.greedy_match.unwrap()).count() as f64;
        let per_token = sum / tokens as f64;
        let per_byte = sum / bytes as f64;
        for (metric, want) in [
            (MetricName::Loglikelihood.as_str(), sum / n),
            (MetricName::LoglikelihoodPerToken.as_str(), per_token),
            (MetricName::LoglikelihoodPerByte.as_str(), per_byte),
            ("bits_per_byte", -per_byte / std::f64::consts::LN_2),
            ("perplexity", (-per_token).exp()),
            ("greedy_match", greedy / n),
        ] {
            assert_close(value(&run, variant, metric), want, metric);
        }
    }
}

#[test]
fn choice_metrics_are_those_of_the_choices() {
    let bench = Bench::new();
    bench.ok("run colours.toml -q");
    let run = bench.latest("colours");
    for variant in ["bare", "question"] {
        let mut right = [0.0; 3];
        let mut brier = 0.0;
        for case in cases(&run, variant) {
            let choices = run.choices.iter();
            let choices: Vec<_> = choices
                .filter(|it| (&it.variant, &it.example_id) == (&case.variant, &case.example_id))
                .collect();
            assert_eq!(choices.len(), 2);
            assert_eq!(
                ["small", "very large"],
                [&*choices[0].choice, &*choices[1].choice]
            );
            let target = case.target_choice.unwrap();
            assert!(choices[target].is_target && !choices[1 - target].is_target);
            assert_eq!(case.target.as_deref(), Some(&*choices[target].choice));
            assert_eq!(case.loglikelihood, Some(choices[target].loglikelihood));
            let [a, b] = [choices[0].loglikelihood, choices[1].loglikelihood];
            assert_eq!(case.predicted_choice, Some(usize::from(a < b)));
            // "small" has 5 characters and bytes, "very large" 10.
            for (right, [a, b]) in
                right
                    .iter_mut()
                    .zip([[a, b], [a / 5.0, b / 10.0], [a / 5.0, b / 10.0]])
            {
                *right += f64::from(u8::from(usize::from(a < b) == target));
            }
            // Two choices: both squared errors are 1 minus the probability of the right one.
            let p = 1.0
                / (1.0 + (choices[1 - target].loglikelihood - choices[target].loglikelihood).exp());
            brier += 2.0 * (1.0 - p).powi(2);
        }
        let n = N_EXAMPLES as f64;
        for (metric, want) in [
            ("acc", right[0]),
            ("acc_norm", right[1]),
            ("acc_bytes", right[2]),
            ("brier", brier),
        ] {
            assert_close(value(&run, variant, metric), want / n, metric);
        }
    }
}

/// The few tokens that a table of tokens holds are those that were summed.
#[test]
fn the_tokens_add_up_to_the_loglikelihoods() {
    use harness::table::Values;
    let bench = Bench::new();
    bench.ok("run phrases.toml --tokens -q");
    let folder = bench.runs("results", "phrases").pop().unwrap();
    let run = table::read(&folder).unwrap();
    let tokens = table::read_table(&folder, "tokens").unwrap();
    let column = |name: &str| {
        &tokens
            .columns
            .iter()
            .find(|it| it.name == name)
            .unwrap()
            .values
    };
    let (Values::Text(variants), Values::Text(examples), Values::Number(logprobs)) =
        (column("variant"), column("example_id"), column("logprob"))
    else {
        panic!("{}", tokens.describe());
    };
    for case in &run.cases {
        let of_case = (0..tokens.n_rows).filter(|row| {
            (variants[*row].as_deref(), examples[*row].as_deref())
                == (Some(&*case.variant), Some(&*case.example_id))
        });
        let logprobs: Vec<f64> = of_case.map(|row| logprobs[row].unwrap()).collect();
        assert_eq!(logprobs.len(), case.n_target_tokens.unwrap());
        assert_eq!(logprobs.iter().sum::<f64>(), case.loglikelihood.unwrap());
    }
}

#[test]
fn a_second_run_computes_nothing_and_has_equal_tables() {
    let bench = Bench::new();
    let first = bench.harness("run phrases.toml --tokens");
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    assert!(
        first.stderr.contains(", 0 from the store"),
        "{}",
        first.stderr
    );
    let second = bench.harness("run phrases.toml --tokens");
    assert!(second.stderr.contains(" 0 computed"), "{}", second.stderr);
    let [a, b] = bench.runs("results", "phrases").try_into().unwrap();
    assert_equal_tables(&a, &b);
}

/// Neither the store, nor the number of threads, nor the company of other examples and
/// variants has a say in a score.
#[test]
fn a_fresh_run_computes_the_same_bits() {
    let bench = Bench::new();
    bench.ok("run phrases.toml -q");
    let fresh = bench.harness("run phrases.toml --fresh -j 1");
    assert!(
        fresh.stderr.contains(", 0 from the store"),
        "{}",
        fresh.stderr
    );
    let [a, b] = bench.runs("results", "phrases").try_into().unwrap();
    assert_equal_tables(&a, &b);
    bench.ok("run phrases.toml --fresh -q --limit 3 --variant few --out alone");
    let alone = table::read(&bench.runs("alone", "phrases")[0]).unwrap();
    let all = table::read(&a).unwrap();
    assert_eq!(alone.cases.len(), 3);
    for case in &alone.cases {
        let same = cases(&all, "few")
            .find(|it| it.example_id == case.example_id)
            .unwrap();
        assert_eq!(
            same.loglikelihood.map(f64::to_bits),
            case.loglikelihood.map(f64::to_bits)
        );
        assert_eq!(same.generation, case.generation);
        assert_eq!(
            same.prompt, case.prompt,
            "the shots do not depend on the selection"
        );
    }
}

#[test]
fn selections_take_a_part_of_the_experiment() {
    let bench = Bench::new();
    let run = |words: &str| {
        bench.ok(&format!("run phrases.toml -q {words}"));
        bench.latest("phrases")
    };
    let ids = |run: &StoredRun| {
        run.examples
            .iter()
            .map(|it| it.id.clone())
            .collect::<Vec<_>>()
    };
    let three = ids(&run("--limit 3 --variant bare"));
    let six = ids(&run("--limit 6 --variant bare"));
    assert_eq!((three.len(), six.len()), (3, 6));
    assert!(
        three.iter().all(|it| six.contains(it)),
        "a smaller subset lies in a larger one"
    );
    assert_eq!(ids(&run("--profile small --variant bare")).len(), 5);
    assert_eq!(
        ids(&run("--profile small --limit 2 --variant bare")).len(),
        2
    );
    let globbed = run("--variant f* --variant ?are --limit 2");
    let names: Vec<&str> = globbed
        .manifest
        .variants
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(names, ["bare", "few"], "in the order of the file");
    let short = run("--set generation.max_tokens=2 --limit 4 --variant bare");
    assert!(
        short
            .cases
            .iter()
            .all(|it| it.n_generated_tokens.unwrap() <= 2)
    );
    let resolved = std::fs::read_to_string(short.folder.join("experiment.toml")).unwrap();
    assert!(resolved.contains("max_tokens = 2"), "{resolved}");
    let ended = bench.harness("run phrases.toml --variant nope");
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.stderr.contains("nope") && ended.stderr.contains("instruction"),
        "{}",
        ended.stderr
    );
}

#[test]
fn results_as_json_are_those_of_the_tables() {
    let bench = Bench::new();
    let shown: Json = serde_json::from_str(&bench.ok("run phrases.toml --json")).unwrap();
    assert!(shown["schema_version"].is_u64(), "{shown:#}");
    let again: Json = serde_json::from_str(&bench.ok("show --json")).unwrap();
    assert_eq!(shown, again);
    let text = shown.to_string();
    let run = bench.latest("phrases");
    for variant in ["bare", "instruction", "few", "chat"] {
        let value = value(&run, variant, "loglikelihood_per_byte");
        assert!(
            text.contains(&format!("{value}")),
            "{value} of {variant} in {shown:#}"
        );
    }
}

#[test]
fn results_stand_on_stdout_and_everything_else_on_stderr() {
    let bench = Bench::new();
    let loud = bench.harness("run phrases.toml");
    let quiet = bench.harness("run phrases.toml -q");
    assert_eq!(quiet.stderr, "");
    for variant in ["bare", "instruction", "few", "chat"] {
        assert!(quiet.stdout.contains(variant), "{}", quiet.stdout);
    }
    assert!(!loud.stdout.contains("answers/s") && loud.stderr.contains("answers (100 %)"));
    let shown = bench.ok("show");
    assert_eq!(
        shown, quiet.stdout,
        "a run is shown as it was when it ended"
    );
}

/// Draws are keyed by seed, model, variant, example and repeat.
#[test]
fn sampled_generations_are_reproducible_and_repeats_differ() {
    let bench = Bench::new();
    let sampled = PHRASES.replace(
        "max_tokens = 6",
        "max_tokens = 6\ntemperature = 1.0\ntop_p = 0.95\nrepeats = 3",
    );
    bench.write("phrases.toml", &sampled);
    for words in ["", " --fresh -j 1", " --set experiment.seed=18"] {
        bench.ok(&format!(
            "run phrases.toml -q --variant bare --variant chat{words}"
        ));
    }
    let [first, fresh, reseeded] = bench.runs("results", "phrases").try_into().unwrap();
    assert_equal_tables(&first, &fresh);
    let generations = |folder: &std::path::Path| -> Vec<String> {
        let run = table::read(folder).unwrap();
        run.cases
            .into_iter()
            .map(|it| it.generation.unwrap())
            .collect()
    };
    let (first_texts, other_texts) = (generations(&first), generations(&reseeded));
    assert_eq!(first_texts.len(), 2 * N_EXAMPLES * 3);
    let n_equal_repeats = first_texts
        .chunks(3)
        .filter(|it| it[0] == it[1] || it[1] == it[2])
        .count();
    assert_eq!(
        n_equal_repeats, 0,
        "six random tokens of 320 hardly ever coincide"
    );
    let n_same = first_texts
        .iter()
        .zip(&other_texts)
        .filter(|(a, b)| a == b)
        .count();
    assert_eq!(n_same, 0, "another seed draws other texts");
    // Likelihoods belong to the first repeat alone, and repeats are averaged per example.
    let run = table::read(&first).unwrap();
    assert!(
        run.cases
            .iter()
            .all(|it| it.loglikelihood.is_some() == (it.repeat == 0))
    );
    let metric = run
        .metrics
        .iter()
        .find(|it| it.metric == "exact_match")
        .unwrap();
    assert_eq!(metric.n, N_EXAMPLES);
}

#[test]
fn a_broken_file_stops_the_others_before_they_begin() {
    let bench = Bench::new();
    bench.write(
        "broken.toml",
        &PHRASES.replace("{{ en }}\\nFrench:", "{{ enn }}"),
    );
    let ended = bench.harness("run phrases.toml broken.toml");
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("did you mean `en`?"),
        "{}",
        ended.stderr
    );
    assert!(!bench.path("results").exists(), "nothing ran");
    bench.ok("run phrases.toml colours.toml -q");
    assert_eq!(bench.runs("results", "phrases").len(), 1);
    assert_eq!(bench.runs("results", "colours").len(), 1);
}

/// Six prompts that hardly differ: which of them leads on twelve rows is luck for a good part.
#[test]
fn the_best_of_several_is_said_to_owe_some_of_its_lead_to_luck() {
    let bench = Bench::new();
    let (start, _) = PHRASES.split_once("[variants.bare]").unwrap();
    let signs = [":", ";", ",", ".", "!", "?"];
    let variant = |(i, sign): (usize, &&str)| {
        format!("[variants.v{i}]\ntemplate = \"{{{{ en }}}}\\nFrench{sign}\"\n")
    };
    let variants: Vec<String> = signs.iter().enumerate().map(variant).collect();
    bench.write("signs.toml", &format!("{start}{}", variants.concat()));
    let text = bench.ok("run signs.toml -q");
    let json: Json = serde_json::from_str(&bench.ok("show --json")).unwrap();
    let luck = json["models"][0]["luck_of_best"].as_f64().unwrap();
    let said = format!("Best of 6: expect at least {luck:.4} nats/byte less on new rows.");
    assert!(
        text.contains(&said) || luck < 0.000_05,
        "`{said}` is missing in:\n{text}"
    );

    // Once more from the tables, with another source of chance.
    let run = bench.latest("phrases");
    let mut cells: Vec<Vec<(f64, f64)>> = vec![Vec::new(); signs.len()];
    for case in &run.cases {
        let variant: usize = case.variant[1..].parse().unwrap();
        let n_bytes = case.n_target_bytes.unwrap() as f64;
        cells[variant].push((case.loglikelihood.unwrap(), n_bytes));
    }
    let value = |cell: &[(f64, f64)], picked: &[usize]| {
        let sum = |of: &dyn Fn(&(f64, f64)) -> f64| -> f64 {
            picked.iter().map(|it| of(&cell[*it])).sum()
        };
        sum(&|it| it.0) / sum(&|it| it.1)
    };
    let all: Vec<usize> = (0..N_EXAMPLES).collect();
    let mut state = 1_u64;
    let mut draw = || {
        // Knuth's MMIX generator; its upper bits.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % N_EXAMPLES
    };
    let gaps: Vec<f64> = (0..4_000)
        .map(|_| {
            let picked: Vec<usize> = (0..N_EXAMPLES).map(|_| draw()).collect();
            let values = cells.iter().map(|it| (value(it, &picked), it));
            let best = values.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
            best.0 - value(best.1, &all)
        })
        .collect();
    let n = gaps.len() as f64;
    let mean = gaps.iter().sum::<f64>() / n;
    let deviation = (gaps.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / n).sqrt();
    // Five standard errors of both simulations, of 1,000 and 4,000 draws.
    let tolerance = 5.0 * deviation * (1.0 / 1_000.0 + 1.0 / n).sqrt();
    assert!(
        (luck - mean).abs() < tolerance,
        "{luck} is not {mean} ± {tolerance}"
    );
}
