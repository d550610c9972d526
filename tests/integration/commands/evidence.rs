//! What a run leaves for later comparisons: `evidence.json` against its tables, and two runs
//! held against each other from it.

use harness::compare::{self, Evidence, PairedComparison, RunComparison, RunsOptions};
use harness::stats::Verdict;
use harness::table;

use super::Bench;

fn latest(bench: &Bench, experiment: &str) -> Evidence {
    let folder = bench.runs("results", experiment).pop().unwrap();
    table::read_evidence(&folder).unwrap()
}

fn of<'a>(it: &'a RunComparison, variant: &str, metric: &str) -> &'a PairedComparison {
    let mut found = it.comparisons.iter();
    let found = found.find(|it| (&*it.cells.candidate, &*it.metric) == (variant, metric));
    found.unwrap_or_else(|| panic!("{metric} of {variant}"))
}

#[test]
fn evidence_tells_the_same_as_the_tables() {
    let bench = Bench::new();
    for (experiment, pair) in [
        ("phrases", ("few", "bare")),
        ("colours", ("question", "bare")),
    ] {
        bench.ok(&format!("run {experiment}.toml -q"));
        let (run, evidence) = (bench.latest(experiment), latest(&bench, experiment));
        assert_eq!(evidence.run, run.manifest.run);
        assert_eq!(evidence.primary, run.manifest.primary);
        for row in run.metrics.iter().filter(|it| it.value.is_some()) {
            let index = evidence.metric(&row.metric).unwrap();
            if evidence.metrics[index].metric.is_descriptive {
                continue;
            }
            let variant = evidence.variant(&row.variant).unwrap();
            let sample = evidence.sample(0, variant, index).unwrap().sample;
            assert_eq!(Some(sample.value()), row.value, "{}", row.metric);
        }
        let compared = compare::variants_of(&evidence, pair.0, pair.1).unwrap();
        for it in &compared.comparisons {
            let stands = |(a, b): (&str, &str)| {
                let mut rows = run.comparisons.iter();
                rows.find(|row| {
                    (&*row.metric, &*row.variant_a, &*row.variant_b) == (&*it.metric, a, b)
                })
            };
            // Without a control the table may hold the pair the other way round.
            let (row, sign) = match stands(pair) {
                Some(row) => (row, 1.0),
                None => (stands((pair.1, pair.0)).unwrap(), -1.0),
            };
            assert_eq!(
                it.gain(),
                row.difference.map(|it| sign * it),
                "{}",
                it.metric
            );
            assert_eq!(it.method(), row.method, "{}", it.metric);
        }
    }
}

/// What is kept for years may be shown to anyone who may see the numbers.
#[test]
fn evidence_holds_no_text_of_the_dataset() {
    let bench = Bench::new();
    bench.ok("run phrases.toml -q");
    let folder = bench.runs("results", "phrases").pop().unwrap();
    let text = std::fs::read_to_string(folder.join(table::EVIDENCE)).unwrap();
    for word in ["maison", "arbre", "house", "French"] {
        assert!(!text.contains(word), "{word}");
    }
}

#[test]
fn an_edit_changes_what_it_touches_and_nothing_else() {
    let bench = Bench::new();
    bench.ok("run phrases.toml -q");
    let before = latest(&bench, "phrases");
    bench.ok("run phrases.toml -q");
    let again = latest(&bench, "phrases");
    assert_ne!(before.run, again.run);
    let options = RunsOptions::default();
    for it in &compare::runs(&again, &before, &options)
        .unwrap()
        .comparisons
    {
        assert_eq!((it.method(), it.verdict), ("identical", Verdict::Unchanged));
    }

    bench.ok("run phrases.toml -q --set generation.max_tokens=5");
    let shorter = latest(&bench, "phrases");
    let compared = compare::runs(&shorter, &before, &options).unwrap();
    assert_eq!(
        of(&compared, "bare", "loglikelihood_per_byte").method(),
        "identical"
    );
    assert_ne!(of(&compared, "bare", "f1").method(), "identical");

    bench.ok("run phrases.toml -q --set variants.bare.template=x{{en}}");
    let edited = latest(&bench, "phrases");
    let compared = compare::runs(&edited, &before, &options).unwrap();
    assert_eq!(compared.edited_variants, ["bare"]);
    assert_ne!(
        of(&compared, "bare", "loglikelihood_per_byte").method(),
        "identical"
    );
    assert_eq!(
        of(&compared, "few", "loglikelihood_per_byte").method(),
        "identical"
    );
    let flips = compare::flips(&edited, &before, &of(&compared, "bare", "f1").cells, None);
    assert!(flips.iter().any(|it| &*it.metric == "loglikelihood"));
}

#[test]
fn a_saved_baseline_is_what_the_run_was() {
    let bench = Bench::new();
    bench.ok("run phrases.toml -q");
    let evidence = latest(&bench, "phrases");
    let results = bench.path("results");
    let time = "2026-01-01T00:00:00Z";
    table::save_baseline(&results, "main", &evidence, time, table::Line::Continue).unwrap();
    let baseline = table::read_baseline(&results, "phrases", "main").unwrap();
    assert_eq!(baseline.evidence, evidence);
    assert_eq!(baseline.anchor(), &evidence);
}
