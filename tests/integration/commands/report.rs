//! `harness report`: from stored runs to one HTML file.

use std::collections::HashMap;

use harness::table;
use serde_json::Value as Json;

use super::Bench;

/// What the script of a page reads.
fn payload(page: &str) -> Json {
    let data = page.split_once("id=\"data\">").unwrap().1;
    serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap()
}

#[test]
fn a_report_holds_the_runs_that_were_named() {
    let bench = Bench::new();
    bench.ok("run phrases.toml --limit 3 --tokens -q");
    bench.ok("run colours.toml --limit 4 -q");
    let said = bench.harness("report colours/latest phrases/latest colours/latest -o new.html");
    assert_eq!(
        (said.code, said.stdout.as_str()),
        (Some(0), ""),
        "{}",
        said.stderr
    );
    assert!(
        said.stderr.starts_with("wrote new.html ("),
        "{}",
        said.stderr
    );
    let page = std::fs::read_to_string(bench.path("new.html")).unwrap();
    let runs = payload(&page)["runs"].clone();
    let names: Vec<&str> = runs
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|it| it["experiment"].as_str())
        .collect();
    assert_eq!(
        names,
        ["colours", "phrases"],
        "each run once, in the order of the command"
    );
    assert!(runs[0]["tokens"].is_null(), "colours ran without --tokens");
    assert_eq!(runs[1]["examples"].as_array().unwrap().len(), 3);
    assert_eq!(runs[1]["cases"]["variant"].as_array().unwrap().len(), 12);
    let text = bench.ok("show phrases/latest");
    let few = &runs[1]["models"][0]["variants"][2]["estimates"];
    let primary = runs[1]["primary"].as_u64().unwrap() as usize;
    assert!(
        text.contains(few[primary]["text"].as_str().unwrap()),
        "{text}"
    );

    // Without words: the latest run, into the working folder, over what was there.
    std::fs::write(bench.path("report.html"), "old").unwrap();
    bench.ok("report");
    let written = std::fs::read_to_string(bench.path("report.html")).unwrap();
    assert_eq!(
        written,
        bench.ok("report -o -"),
        "equal runs make equal pages"
    );
    assert_eq!(payload(&written)["runs"][0]["experiment"], "colours");
}

/// The heat map's sums are the log-likelihoods that were judged, to the last bit.
#[test]
fn tokens_come_back_and_add_up_to_their_loglikelihood() {
    let bench = Bench::new();
    bench.ok("run phrases.toml --limit 3 --tokens -q");
    let run = bench.latest("phrases");
    let tokens = table::read_tokens(&run.folder).unwrap().unwrap();
    let mut sums: HashMap<(&str, &str), f64> = HashMap::new();
    for it in &tokens {
        *sums.entry((&it.variant, &it.example_id)).or_default() += it.logprob;
    }
    assert_eq!(run.cases.len(), 12);
    for case in &run.cases {
        let sum = sums[&(case.variant.as_str(), case.example_id.as_str())];
        assert_eq!(Some(sum.to_bits()), case.loglikelihood.map(f64::to_bits));
    }
    bench.ok("run colours.toml --limit 2 -q");
    let without = bench.latest("colours");
    assert_eq!(table::read_tokens(&without.folder).unwrap(), None);
}

#[test]
fn a_report_that_cannot_be_made_is_refused() {
    let bench = Bench::new();
    for (words, expected) in [
        ("report", "there are no runs in `results`"),
        ("report nothing -o x.html", "there are no runs in `results`"),
    ] {
        let ended = bench.harness(words);
        assert_eq!(ended.code, Some(2), "{words}");
        assert!(ended.stderr.contains(expected), "{}", ended.stderr);
    }
    bench.ok("run colours.toml --limit 2 -q");
    let ended = bench.harness("report -o missing/report.html");
    assert_eq!(ended.code, Some(2));
    assert!(
        ended
            .stderr
            .starts_with("error: cannot write `missing/report.html`\n  cause: "),
        "{}",
        ended.stderr
    );
    std::fs::remove_file(table::table_path(&bench.latest("colours").folder, "cases")).unwrap();
    let ended = bench.harness("report");
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.stderr.contains("cases.parquet") && ended.stderr.contains("hint:"),
        "{}",
        ended.stderr
    );
    assert!(
        !bench.path("report.html").exists(),
        "nothing is left behind"
    );
}
