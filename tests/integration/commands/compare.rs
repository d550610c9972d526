//! `harness compare` and `harness show --flips`: what may be named, what is said, what is refused.

use std::collections::BTreeMap;

use harness::table;
use serde_json::{Value as Json, json as json_of};

use super::Bench;

#[track_caller]
fn assert_says(text: &str, part: &str) {
    assert!(text.contains(part), "`{part}` is missing in:\n{text}");
}

fn json(bench: &Bench, words: &str) -> Json {
    serde_json::from_str(&bench.ok(words)).unwrap()
}

/// Two runs of `colours.toml`, between which `question` was edited.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.ok("run colours.toml -q");
    bench.ok("run colours.toml -q --set variants.question.template=x{{en}}");
    bench
}

#[test]
fn two_runs_are_compared_variant_by_variant() {
    let bench = bench();
    let text = bench.ok("compare latest~1 latest");
    assert_says(&text, "Identical, both sides sent equal requests: bare.");
    assert_says(&text, "Edited variants: question");
    assert_says(&text, "tiny · acc, % · 12 common examples");
    let json = json(&bench, "compare latest~1 latest --json");
    assert_eq!(json["schema_version"], 1);
    assert_eq!(
        json["candidate"]["run"],
        bench.latest("colours").manifest.run
    );
    let rows = json["comparisons"].as_array().unwrap();
    let row = rows
        .iter()
        .find(|it| (&it["metric"], &it["variant_a"]) == (&"acc".into(), &"question".into()))
        .unwrap();
    // The table shows percent and percentage points.
    let percent = |it: &Json| format!("{:.1}", 100.0 * it.as_f64().unwrap());
    let shown = text
        .lines()
        .find(|it| it.contains("┆") && it.contains("question"));
    let shown = shown.unwrap_or_else(|| panic!("no row in:\n{text}"));
    assert_says(shown, &percent(&row["candidate_value"]));
    assert_says(shown, &percent(&row["reference_value"]));
    let all = bench.ok("compare latest~1 latest --all");
    assert!(text.lines().count() < all.lines().count());
    assert_says(&all, "  brier of tiny · question: ");
}

#[test]
fn a_baseline_may_stand_on_either_side() {
    let bench = bench();
    bench.ok("baseline save main latest~1");
    let there = json(&bench, "compare main latest --json");
    let back = json(&bench, "compare latest main --json");
    assert_eq!(there["candidate"], back["reference"]);
    let gain = |it: &Json| {
        let rows = it["comparisons"].as_array().unwrap();
        let row = rows.iter().find(|it| {
            (&it["metric"], &it["variant_a"]) == (&"loglikelihood".into(), &"question".into())
        });
        row.unwrap()["difference"].as_f64().unwrap()
    };
    assert!(gain(&there) != 0.0);
    assert!((gain(&there) + gain(&back)).abs() < 1e-12);
}

#[test]
fn two_baselines_are_compared() {
    let bench = bench();
    bench.ok("baseline save old latest~1");
    bench.ok("baseline save new latest");
    let runs = json(&bench, "compare latest~1 latest --json");
    for words in [
        "compare old new --json",
        "compare colours/old colours/new --json",
        "compare colours/old latest --json",
    ] {
        assert_eq!(json(&bench, words), runs, "{words}");
    }
    let refused = |words: &str, said: &str| {
        let ended = bench.harness(words);
        assert_eq!(ended.code, Some(2), "{words}: {}", ended.stdout);
        assert_says(&ended.stderr, said);
    };
    let nowhere = "`none` is neither a run nor a baseline";
    refused("compare old none", nowhere);
    refused("compare none new", nowhere);
    bench.ok("run phrases.toml -q");
    bench.ok("baseline save other");
    refused("compare old other", "no experiment has both");
    for name in ["old", "new"] {
        bench.ok(&format!("baseline save {name}"));
    }
    refused(
        "compare old new",
        "several experiments have a baseline `old`",
    );
    assert_eq!(json(&bench, "compare colours/old colours/new --json"), runs);
}

#[test]
fn two_variants_of_one_run_are_compared() {
    let bench = bench();
    let text = bench.ok("compare latest:bare latest:question");
    assert_says(&text, "question vs bare");
    let json = json(&bench, "compare latest:bare latest:question --json");
    let rows = json["comparisons"].as_array().unwrap();
    assert!(
        rows.iter()
            .all(|it| it["variant_a"] == "question" && it["variant_b"] == "bare")
    );
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let bench = bench();
    let refused = |words: &str, said: &str| {
        let ended = bench.harness(words);
        assert_eq!(ended.code, Some(2), "{words}: {}", ended.stdout);
        assert_says(&ended.stderr, said);
        assert_eq!(ended.stdout, "", "{words}");
    };
    let variants = "a variant is compared with another variant of the same run";
    refused("compare latest:bare latest", variants);
    refused("compare latest~1:bare latest:question", variants);
    refused("compare latest:bare latest:blue", "has no variant `blue`");
    refused(
        "compare main latest",
        "`main` is neither a run nor a baseline of `colours`",
    );
    // Another dataset, and another model.
    bench.ok("run colours.toml -q --limit 6");
    refused("compare latest~1 latest", "--common-rows");
    bench.ok("compare latest~1 latest --common-rows");
    let path = bench.path("tiny-llama").join("config.json");
    let config = std::fs::read_to_string(&path).unwrap();
    let other = config.replacen("\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": 2e-05", 1);
    assert_ne!(config, other, "{config}");
    std::fs::write(&path, other).unwrap();
    bench.ok("run colours.toml -q");
    refused("compare latest~2 latest", "--across-models");
    let text = bench.ok("compare latest~2 latest --across-models");
    assert_says(&text, "across models: weights differ");
}

/// Rows of one cluster are no independent evidence: 12 clusters count as 12 units.
#[test]
fn clusters_are_the_units_of_a_comparison() {
    let bench = Bench::new();
    // Clusters of 2, 3 and 4 rows in turn, 36 in all.
    let of_row = (0..12).flat_map(|it| std::iter::repeat_n(it, 2 + it % 3));
    let rows: Vec<Json> = of_row
        .enumerate()
        .map(|(i, cluster)| {
            let en = format!("The tree {cluster} of {i}.");
            json_of!({"id": format!("p{i:02}"), "page": format!("c{cluster}"), "en": en, "fr": format!("arbre {i}")})
        })
        .collect();
    assert_eq!(rows.len(), 36);
    bench.rows("pages.jsonl", &rows);
    bench.write(
        "pages.toml",
        "[experiment]\nname = \"pages\"\nprimary = \"loglikelihood\"\n\
         [models.tiny]\nsource = \"./tiny-llama\"\n\
         [dataset]\npath = \"pages.jsonl\"\nid = \"id\"\ncluster = \"page\"\ntarget = \"{{ fr }}\"\n\
         [variants.bare]\ntemplate = \"{{ en }}\\nFrench:\"\n",
    );
    bench.ok("run pages.toml -q");
    bench.ok("run pages.toml -q --set variants.bare.template={{en}}=");
    let json = json(&bench, "compare latest~1 latest --json");
    let rows = json["comparisons"].as_array().unwrap();
    let row = rows.iter().find(|it| it["metric"] == "loglikelihood");
    let row = row.unwrap();
    assert_eq!((&row["n_pairs"], &row["n_units"]), (&36.into(), &12.into()));

    // Once more from the tables: a jackknife that leaves out one cluster at a time.
    let values = |run: &std::path::Path| -> Vec<f64> {
        let cases = table::read(run).unwrap().cases.into_iter();
        cases.map(|it| it.loglikelihood.unwrap()).collect()
    };
    let runs = bench.runs("results", "pages");
    let clusters: Vec<String> = table::read(&runs[0])
        .unwrap()
        .examples
        .into_iter()
        .map(|it| it.cluster.unwrap())
        .collect();
    let gains: Vec<f64> = values(&runs[1])
        .iter()
        .zip(values(&runs[0]))
        .map(|(after, before)| after - before)
        .collect();
    let mut sums: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for (cluster, gain) in clusters.iter().zip(&gains) {
        let (sum, n) = sums.entry(cluster).or_default();
        (*sum, *n) = (*sum + gain, *n + 1.0);
    }
    let total: f64 = gains.iter().sum();
    let without: Vec<f64> = sums
        .values()
        .map(|it| (total - it.0) / (36.0 - it.1))
        .collect();
    let mean = without.iter().sum::<f64>() / 12.0;
    let deviations: f64 = without.iter().map(|it| (it - mean).powi(2)).sum();
    let theta = total / 36.0;
    // Student's t with 11 degrees of freedom at 97.5 %, from a table.
    let half = 2.200_985 * (deviations * 11.0 / 12.0).sqrt();
    let number = |name: &str| row[name].as_f64().unwrap();
    assert!((number("difference") - theta).abs() < 1e-9);
    let ends = [
        theta - half - number("ci_low"),
        number("ci_high") - theta - half,
    ];
    // On each side the wider of t and Hall's; for a skew of either sign one of them is t.
    assert!(ends.iter().all(|it| -1e-5 * half < *it), "{ends:?}");
    assert!(ends.iter().any(|it| it.abs() < 1e-5 * half), "{ends:?}");
}

#[test]
fn flips_of_a_run_are_told_against_its_control() {
    let bench = bench();
    let text = bench.ok("show --flips");
    assert_says(&text, "flips by acc against bare");
    assert_says(&text, "tiny · question");
    let json = json(&bench, "show --flips --json");
    assert_eq!(json["reference"], "bare");
    let of_acc = json["flips"].as_array().unwrap().iter();
    let n_broke = of_acc
        .filter(|it| (&it["metric"], &it["kind"]) == (&"acc".into(), &"broke".into()))
        .count();
    assert_eq!(text.contains(&format!("broke {n_broke}: ")), 0 < n_broke);
    // Without a control the best variant is the reference.
    bench.ok("run phrases.toml -q");
    let text = bench.ok("show --flips");
    assert_says(&text, "flips by loglikelihood against ");
    assert_eq!(bench.harness("show --flips --failures").code, Some(2));
}
