//! Label priors, corrected accuracies and trivial baselines, against sums over the tables.

use harness::table::{StoredChoice, StoredRun};

use super::Bench;

/// `colours` with the corrected accuracies and with shots.
fn experiment() -> String {
    super::COLOURS.to_owned()
        + r#"
[[metrics]]
use = ["acc_calibrated", "acc_pmi"]
"#
}

fn value(run: &StoredRun, variant: &str, metric: &str) -> f64 {
    let row = run
        .metrics
        .iter()
        .find(|it| it.variant == variant && it.metric == metric);
    row.unwrap_or_else(|| panic!("no {metric}")).value.unwrap()
}

/// The choices of every case of a variant, in order.
fn cases<'a>(run: &'a StoredRun, variant: &str) -> Vec<&'a [StoredChoice]> {
    let all = run
        .choices
        .chunk_by(|a, b| (&a.variant, &a.example_id) == (&b.variant, &b.example_id));
    all.filter(|it| it[0].variant == variant).collect()
}

/// Share of cases whose right choice has the largest of `values`.
fn accuracy(cases: &[&[StoredChoice]], values: impl Fn(&StoredChoice) -> f64) -> f64 {
    let hits = cases.iter().filter(|choices| {
        let best = choices
            .iter()
            .map(&values)
            .fold(f64::NEG_INFINITY, f64::max);
        let predicted = choices.iter().find(|it| values(it) == best).unwrap();
        predicted.is_target
    });
    hits.count() as f64 / cases.len() as f64
}

#[test]
fn corrected_accuracies_follow_from_the_tables() {
    let bench = Bench::new();
    bench.write("colours.toml", &experiment());
    let said = bench.ok("run colours.toml");
    assert!(
        said.contains("Trivial accuracy: the commonest label alone 50.0 %"),
        "{said}"
    );
    assert!(said.contains("Label prior of question"), "{said}");
    let run = bench.latest("colours");
    for variant in ["bare", "question"] {
        let cases = cases(&run, variant);
        assert_eq!(cases.len(), super::N_EXAMPLES);
        for choices in &cases {
            let sum: f64 = choices.iter().map(|it| it.prior.unwrap()).sum();
            assert!((sum - 1.0).abs() < 1e-12, "{sum}");
            assert_eq!(choices[0].prior, cases[0][0].prior, "one prior per variant");
        }
        let calibrated = accuracy(&cases, |it| it.loglikelihood - it.prior.unwrap().ln());
        assert_eq!(value(&run, variant, "acc_calibrated"), calibrated);
        assert_eq!(value(&run, variant, "acc_majority"), 0.5);
    }
    let bare = cases(&run, "bare")[0][0].prior;
    assert_ne!(
        bare,
        cases(&run, "question")[0][0].prior,
        "a prior is the prompt's own"
    );
}

/// The definitions, carried out with datasets that say what the definitions replace.
#[test]
fn priors_are_likelihoods_of_the_prompts_they_are_defined_by() {
    let bench = Bench::new();
    bench.write("colours.toml", &experiment());
    bench.ok("run colours.toml");
    let run = bench.latest("colours");
    let rows: Vec<serde_json::Value> = ["N/A", "[MASK]", ""]
        .iter()
        .enumerate()
        .map(|(i, text)| serde_json::json!({"id": format!("p{i}"), "en": text, "size": "small"}))
        .collect();
    bench.rows("phrases.jsonl", &rows);
    let replaced = experiment().replace("\"colours\"", "\"replaced\"");
    bench.write("replaced.toml", &replaced);
    bench.ok("run replaced.toml");
    let other = bench.latest("replaced");
    for variant in ["bare", "question"] {
        let shares = cases(&other, variant).into_iter().map(|choices| {
            let [a, b] = [0, 1].map(|i| choices[i].loglikelihood.exp());
            a / (a + b)
        });
        let expected = shares.sum::<f64>() / 3.0;
        let prior = cases(&run, variant)[0][0].prior.unwrap();
        assert!((prior - expected).abs() < 1e-9, "{prior} {expected}");
    }
}

#[test]
fn an_accuracy_by_mutual_information_takes_the_choice_after_nothing() {
    let bench = Bench::new();
    bench.write("colours.toml", &experiment());
    bench.ok("run colours.toml");
    let run = bench.latest("colours");
    // The same scored text after nothing: an empty template with the other prompts' delimiter.
    let nothing = super::COLOURS
        .replace("\"colours\"", "\"nothing\"")
        .replace(
            "template = \"{{ en }}\\nSize:\"",
            "template = \"\"\ndelimiter = \" \"",
        );
    bench.write("nothing.toml", &nothing);
    bench.ok("run nothing.toml --variant bare");
    let alone = bench.latest("nothing");
    let alone: Vec<f64> = cases(&alone, "bare")[0]
        .iter()
        .map(|it| it.loglikelihood)
        .collect();
    for variant in ["bare", "question"] {
        let cases = cases(&run, variant);
        let pmi = accuracy(&cases, |it| it.loglikelihood - alone[it.choice_index]);
        assert_eq!(value(&run, variant, "acc_pmi"), pmi);
        let no_context = accuracy(&cases, |it| alone[it.choice_index]);
        assert_eq!(value(&run, variant, "acc_no_context"), no_context);
    }
}
