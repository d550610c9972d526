//! `harness baseline` and `harness check`, and the gates of `harness run`: exit codes and what is
//! said.
//!
//! The model's weights are random, so which of two prompts is better is chance, but the same
//! chance every time. Where a test needs a loss it measures two prompts first and saves the better
//! one as the baseline.

use harness::table;
use serde_json::{Value as Json, json};

use super::{Bench, Ended};

/// Two prompts for the same data.
const ASKED: &str = "To French: {{ en }}\\nFrench:";
const WORSE: &str = "{{ en }} qqq";

/// More than any two prompts of the tiny model differ, in nats per byte: its targets score about
/// -1.5, and a gain of 5 would need them certain from something worse than chance.
const NEVER: &str = "5.0";

/// A bench with `gated.toml`, where `asked` and `bare` are both `template`, of 40 examples.
fn bench(template: &str, gates: &str) -> Bench {
    let bench = Bench::new();
    let rows: Vec<Json> = (0..40)
        .map(|i| json!({"id": format!("p{i:02}"), "en": format!("The tree {i}."), "fr": format!("arbre {i} é")}))
        .collect();
    bench.rows("gated.jsonl", &rows);
    write(&bench, "gated.toml", template, gates);
    bench
}

fn write(bench: &Bench, name: &str, template: &str, gates: &str) {
    let text = format!(
        "[experiment]\nname = \"gated\"\nprimary = \"loglikelihood_per_byte\"\ncontrol = \"bare\"\n\
         [models.tiny]\nsource = \"./tiny-llama\"\n\
         [dataset]\npath = \"gated.jsonl\"\nid = \"id\"\ntarget = \"{{{{ fr }}}}\"\n\
         [variants.bare]\ntemplate = \"{{{{ en }}}}\\nFrench:\"\n\
         [variants.asked]\ntemplate = \"{template}\"\n{gates}"
    );
    bench.write(name, &text);
}

fn gate(rest: &str) -> String {
    format!("[[gates]]\nmetric = \"loglikelihood_per_byte\"\n{rest}\n")
}

fn against_baseline(max_drop: &str) -> String {
    gate(&format!("compare = \"baseline\"\nmax_drop = {max_drop}"))
}

/// The better and the worse of two prompts, as measured.
fn better_and_worse() -> (&'static str, &'static str) {
    let value = |template: &str| {
        let bench = bench(template, "");
        bench.ok("run gated.toml -q");
        let run = bench.latest("gated");
        let row = run
            .metrics
            .iter()
            .find(|it| (&*it.variant, &*it.metric) == ("asked", "loglikelihood_per_byte"));
        row.unwrap().value.unwrap()
    };
    if value(ASKED) > value(WORSE) {
        (ASKED, WORSE)
    } else {
        (WORSE, ASKED)
    }
}

/// The line of the `n`th `[[gates]]`, from 0.
fn gate_line(bench: &Bench, file: &str, n: usize) -> usize {
    let text = std::fs::read_to_string(bench.path(file)).unwrap();
    let lines = text.lines().enumerate().filter(|it| it.1 == "[[gates]]");
    lines.map(|it| it.0 + 1).nth(n).unwrap()
}

fn assert_code(ended: &Ended, code: i32) {
    assert_eq!(
        ended.code,
        Some(code),
        "stdout:\n{}\nstderr:\n{}",
        ended.stdout,
        ended.stderr
    );
}

#[track_caller]
fn assert_says(text: &str, part: &str) {
    assert!(text.contains(part), "`{part}` is missing in:\n{text}");
}

/// The whole loop of a pull request: save, edit for the worse, undo.
#[test]
fn an_edit_for_the_worse_fails_and_its_undoing_passes() {
    let (better, worse) = better_and_worse();
    let bench = bench(better, &against_baseline("0.0"));
    bench.ok("run gated.toml -q");
    let saved = bench.ok("baseline save main");
    assert_says(&saved, "saved run ");
    write(&bench, "gated.toml", worse, &against_baseline("0.0"));
    let ended = bench.harness("check gated.toml -q");
    assert_code(&ended, 1);
    let line = gate_line(&bench, "gated.toml", 0);
    assert_says(
        &ended.stdout,
        &format!(
            "FAILED  loglikelihood_per_byte of tiny · asked vs baseline main  [gated.toml:{line}]"
        ),
    );
    assert_says(&ended.stdout, "is shown at 5 %");
    let failed = ended.stdout.split("FAILED").nth(1).unwrap();
    let broken = failed.lines().find(|it| it.contains("worsened")).unwrap();
    assert!(broken.contains("by loglikelihood: p"), "{broken}");
    assert_says(&ended.stdout, "Edited variants: asked");
    assert_says(
        &ended.stdout,
        "passed  loglikelihood_per_byte of tiny · bare vs baseline main",
    );
    write(&bench, "gated.toml", better, &against_baseline("0.0"));
    for limit in ["", " --limit 40"] {
        let ended = bench.harness(&format!("check gated.toml -q{limit}"));
        assert_code(&ended, 0);
        assert_says(&ended.stdout, "all 40 examples sent equal requests");
        assert_says(
            &ended.stdout,
            "Identical, both sides sent equal requests: bare and asked.",
        );
    }
}

/// 12 units are below the floor of 30 that an unbounded metric needs, whatever the model says;
/// `NEVER` keeps it from failing, and makes 30 units enough.
#[test]
fn too_few_rows_for_a_verdict_say_how_many_it_takes() {
    let gates = against_baseline(NEVER);
    let bench = bench(ASKED, &gates);
    bench.ok("run gated.toml --limit 12 -q");
    bench.ok("baseline save main");
    for (rest, code, said) in [
        ("", 4, "inconclusive  "),
        ("on_inconclusive = \"warn\"\n", 0, "this is no failure"),
        ("on_inconclusive = \"pass\"\n", 0, "this is no failure"),
    ] {
        write(&bench, "gated.toml", WORSE, &format!("{gates}{rest}"));
        let ended = bench.harness("check gated.toml --limit 12");
        assert_code(&ended, code);
        assert_says(&ended.stdout, said);
        assert_says(
            &ended.stdout,
            "12 examples are too few to pass, which takes 30",
        );
        assert_says(&ended.stdout, "from about 30 examples on; there are 12");
        assert_says(&ended.stderr, "can be told once a second baseline is saved");
    }
    let json: Json =
        serde_json::from_str(&bench.ok("check gated.toml --limit 12 -q --json")).unwrap();
    assert_eq!(json["exit_code"], 0);
    let checks = json["checks"].as_array().unwrap();
    let states: Vec<&str> = checks
        .iter()
        .map(|it| it["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["passed", "inconclusive"]);
    assert_eq!(checks[1]["n_needed"], 30);
    assert_eq!(checks[1]["line"], gate_line(&bench, "gated.toml", 0));
    assert_eq!(json["comparison"]["edited_variants"], json!(["asked"]));
}

/// The base's file decides: a pull request cannot loosen the gate that judges it.
#[test]
fn another_file_is_run_first_and_its_gates_decide() {
    let (better, worse) = better_and_worse();
    let bench = bench(worse, &against_baseline(NEVER));
    write(&bench, "base.toml", better, &against_baseline("0.0"));
    let ended = bench.harness("check gated.toml --against base.toml -q");
    assert_code(&ended, 1);
    let line = gate_line(&bench, "base.toml", 0);
    assert_says(&ended.stdout, &format!("vs base.toml  [base.toml:{line}]"));
    assert_says(&ended.stderr, "gated.toml:");
    assert_says(&ended.stderr, "is not the base's; the base's gates decide");
    assert_says(&ended.stderr, "was edited or removed; it still decides");
    assert_eq!(bench.runs("results", "gated").len(), 2);
    let ended = bench.harness("check gated.toml --against base.toml -q --json");
    let json: Json = serde_json::from_str(&ended.stdout).unwrap();
    let own_line = gate_line(&bench, "gated.toml", 0);
    assert_eq!(
        json["edited_gates"],
        json!([
            {"file": "gated.toml", "line": own_line, "decides": false},
            {"file": "base.toml", "line": line, "decides": true},
        ])
    );
    // Equal gates are no news, wherever they stand.
    write(
        &bench,
        "gated.toml",
        better,
        &format!("\n\n{}", against_baseline("0.0")),
    );
    let ended = bench.harness("check gated.toml --against base.toml -q --json");
    assert_code(&ended, 0);
    assert_eq!(ended.stderr, "");
    let json: Json = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(json["exit_code"], 0);
    assert_eq!(json["edited_gates"], json!([]));
    // A run can be the base as well.
    let run = bench.latest("gated").manifest.run;
    assert_code(
        &bench.harness(&format!("check gated.toml --against {run} -q")),
        0,
    );
}

#[test]
fn without_a_usable_base_nothing_runs() {
    let bench = bench(ASKED, &against_baseline(NEVER));
    let missing = bench.harness("check gated.toml");
    assert_code(&missing, 2);
    assert_says(
        &missing.stderr,
        "experiment `gated` has no baseline `main`; it has none",
    );
    assert_says(&missing.stderr, "harness baseline save");
    let neither = bench.harness("check gated.toml --against nothing");
    assert_code(&neither, 2);
    assert_says(
        &neither.stderr,
        "`nothing` is neither a run nor a baseline of `gated`",
    );
    assert!(bench.runs("results", "gated").is_empty());

    bench.ok("run gated.toml -q");
    bench.ok("baseline save main");
    let n_runs = bench.runs("results", "gated").len();
    // Other rows are found out before anything runs, too.
    let rows = std::fs::read_to_string(bench.path("gated.jsonl")).unwrap();
    bench.write("gated.jsonl", &rows.replace("The tree", "A tree"));
    let other = bench.harness("check gated.toml");
    assert_code(&other, 2);
    bench.write("gated.jsonl", &rows);
    write(&bench, "gated.toml", ASKED, "");
    let ungated = bench.harness("check gated.toml");
    assert_code(&ungated, 2);
    assert_says(&ungated.stderr, "`gated.toml` has no gates");
    write(&bench, "gated.toml", ASKED, &against_baseline(NEVER));

    let path = table::baseline_path(&bench.path("results"), "gated", "main").unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("p00", "p99", 1)).unwrap();
    for command in ["check", "run", "plan"] {
        let damaged = bench.harness(&format!("{command} gated.toml"));
        assert_code(&damaged, 2);
        assert_says(&damaged.stderr, "main.json");
    }
    assert_eq!(bench.runs("results", "gated").len(), n_runs);
}

/// What the hint names, the command takes.
#[test]
fn a_run_on_fewer_rows_is_judged_where_that_is_asked_for() {
    let bench = bench(ASKED, &against_baseline(NEVER));
    bench.ok("run gated.toml -q");
    bench.ok("baseline save main");
    let few = "run gated.toml -q --limit 30";
    let ended = bench.harness(few);
    assert_code(&ended, 4);
    assert_says(
        &ended.stderr,
        "the runs differ in 10 rows (0 changed, 0 new, 10 missing)",
    );
    assert_says(&ended.stderr, "the candidate has 30");
    assert_says(&ended.stderr, "`--common-rows`");
    let ended = bench.harness(&format!("{few} --common-rows"));
    assert_code(&ended, 0);
    assert_says(&ended.stdout, "all 30 examples sent equal requests");
}

/// A model of 128 positions cannot read 200 words.
fn with_long_row(bench: &Bench) {
    let rows = std::fs::read_to_string(bench.path("gated.jsonl")).unwrap();
    bench.write(
        "gated.jsonl",
        &rows.replace("The tree 39.", &"word ".repeat(200)),
    );
}

#[test]
fn unscored_examples_end_with_3_unless_every_gate_tolerates_them() {
    let tolerant = format!("{}max_failed = 1\n", against_baseline(NEVER));
    let bench = bench(ASKED, &tolerant);
    with_long_row(&bench);
    assert_code(&bench.harness("run gated.toml -q"), 0);
    bench.ok("baseline save main");
    let ended = bench.harness("check gated.toml -q");
    assert_code(&ended, 0);
    // One gate that does not tolerate them is enough, and so is a variant without any gate.
    let strict = format!("{tolerant}{}", against_baseline(NEVER));
    write(&bench, "gated.toml", ASKED, &strict);
    assert_code(&bench.harness("run gated.toml -q"), 3);
    let ended = bench.harness("check gated.toml -q");
    assert_code(&ended, 3);
    assert_says(&ended.stdout, "1 example has no score, 0 are tolerated");
    let partly = format!("{tolerant}variant = \"asked\"\n");
    write(&bench, "gated.toml", ASKED, &partly);
    assert_code(&bench.harness("run gated.toml -q"), 3);
}

#[test]
fn gates_of_a_run_wait_for_a_baseline_and_say_so() {
    let bench = bench(ASKED, &against_baseline(NEVER));
    let ended = bench.harness("run gated.toml -q");
    assert_code(&ended, 0);
    assert_says(
        &ended.stderr,
        "no baseline yet, so gates against it were not evaluated",
    );
    let json: Json = serde_json::from_str(&bench.ok("run gated.toml -q --json")).unwrap();
    let line = gate_line(&bench, "gated.toml", 0);
    assert_eq!(
        json["gates_not_judged"],
        json!([{"file": "gated.toml", "line": line, "why": "no_baseline"}])
    );
    bench.ok("baseline save main");
    let ended = bench.harness("run gated.toml -q");
    assert_code(&ended, 0);
    assert_eq!(ended.stderr, "");
    assert_says(&ended.stdout, "asked vs baseline main");
    let plan = bench.ok("plan gated.toml");
    let expected =
        format!("gate gated.toml:{line} loglikelihood_per_byte, max_drop 5.0000 nats/byte: ");
    assert_says(&plan, &expected);
    assert_eq!(plan.matches("gate gated.toml:").count(), 1);
}

#[test]
fn floors_and_ceilings_hold_without_a_baseline() {
    // A text of several tokens under a random model: far below -0.5 nats, far below 1000 bits.
    let pass = "[[gates]]\nmetric = \"bits_per_byte\"\nmax = 1000.0\n";
    let fail = "[[gates]]\nmetric = \"loglikelihood\"\nvariant = \"asked\"\nmin = -0.5\n";
    let bench = bench(ASKED, pass);
    let ended = bench.harness("run gated.toml -q");
    assert_code(&ended, 0);
    assert_says(
        &ended.stdout,
        "passed  bits_per_byte of tiny · bare  [gated.toml:",
    );
    write(&bench, "gated.toml", ASKED, &format!("{pass}{fail}"));
    let ended = bench.harness("run gated.toml -q");
    assert_code(&ended, 1);
    let line = gate_line(&bench, "gated.toml", 1);
    assert_says(
        &ended.stdout,
        &format!("FAILED  loglikelihood of tiny · asked  [gated.toml:{line}]"),
    );
    let json = bench.harness("run gated.toml -q --json");
    assert_code(&json, 1);
    let json: Json = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["checks"].as_array().unwrap().len(), 3);
    assert_eq!(json["experiment"], "gated");
    // What was not selected is not judged.
    let ended = bench.harness("run gated.toml -q --variant bare");
    assert_code(&ended, 0);
    assert_says(&ended.stdout, &format!("skipped  gate [gated.toml:{line}]"));
}

/// Two files with one test each: Holm counts two, and a failing one beats a passing one.
#[test]
fn several_files_share_the_correction() {
    let fail = "[[gates]]\nmetric = \"loglikelihood\"\nvariant = \"asked\"\nmin = -0.5\n";
    let bench = bench(ASKED, fail);
    write(
        &bench,
        "other.toml",
        ASKED,
        "[[gates]]\nmetric = \"bits_per_byte\"\nvariant = \"bare\"\nmax = 1000.0\n",
    );
    let text = std::fs::read_to_string(bench.path("other.toml")).unwrap();
    bench.write("other.toml", &text.replace("\"gated\"", "\"other\""));
    let alone = bench.harness("run gated.toml -q");
    assert_says(&alone.stdout, "after Holm over 1 check)");
    let ended = bench.harness("run gated.toml other.toml -q");
    assert_code(&ended, 1);
    assert_says(&ended.stdout, "after Holm over 2 checks)");
    assert_says(&ended.stdout, "[other.toml:");
}

#[test]
fn a_variant_that_is_gone_fails_until_it_is_retired() {
    let bench = bench(ASKED, &against_baseline(NEVER));
    bench.ok("run gated.toml -q");
    bench.ok("baseline save main");
    let text = std::fs::read_to_string(bench.path("gated.toml")).unwrap();
    let renamed = text.replace("[variants.asked]", "[variants.question]");
    bench.write("gated.toml", &renamed);
    let ended = bench.harness("check gated.toml -q");
    assert_code(&ended, 1);
    assert_says(
        &ended.stdout,
        "the variant is gone and not listed as `retired`",
    );
    assert_says(
        &ended.stdout,
        "new  variant `question` is not in the baseline",
    );
    bench.write("gated.toml", &format!("{renamed}retired = [\"asked\"]\n"));
    assert_code(&bench.harness("check gated.toml -q"), 0);
}

#[test]
fn baselines_are_saved_listed_shown_and_removed() {
    let bench = bench(ASKED, &against_baseline(NEVER));
    assert_says(&bench.ok("baseline list"), "no baselines");
    bench.ok("run gated.toml -q");
    let first = bench.latest("gated").manifest.run;
    // The folder may be named before and after the subcommand.
    bench.ok("baseline --out results save main");
    bench.ok("run gated.toml -q --set variants.asked.template=x{{en}}");
    let second = bench.latest("gated").manifest.run;
    let saved = bench.ok("baseline save main --out results");
    assert_says(
        &saved,
        &format!("it replaces the one of run {first}; its line began with run {first}"),
    );
    let list = bench.ok("baseline list");
    assert_says(&list, &format!("gated/main  run {second}  saved "));
    assert_says(&list, "40 examples");
    let json: Json = serde_json::from_str(&bench.ok("baseline list --json")).unwrap();
    assert_eq!(json["baselines"][0]["anchor"], first.as_str());
    for name in ["main", "gated/main"] {
        let shown = bench.ok(&format!("baseline show {name}"));
        assert_says(&shown, &format!("replaced  {first}"));
        assert_says(&shown, &format!("anchor    {first}"));
        assert_says(
            &shown,
            "value     loglikelihood_per_byte of tiny · asked: -",
        );
    }
    // What was saved against another prompt is drift since then.
    let ended = bench.harness("check gated.toml -q");
    assert_says(
        &ended.stdout,
        &format!("Since the first baseline of this line, run {first}:"),
    );
    assert_says(
        &ended.stdout,
        "asked: 0.0000 [0.0000, 0.0000] nats/byte, unchanged (identical)",
    );
    let saved = bench.ok("baseline save main --new-line");
    assert_says(&saved, "its line begins anew");
    assert!(
        !bench
            .ok("check gated.toml -q")
            .contains("Since the first baseline")
    );
    for bad in ["../main", "Main", ""] {
        let words = ["baseline", "save", bad];
        let output = bench.command("").args(words).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{bad}");
    }
    let unknown = bench.harness("baseline show other");
    assert_code(&unknown, 2);
    assert_says(
        &unknown.stderr,
        "there is no baseline `other`; there are `gated/main`",
    );
    assert_says(&bench.ok("baseline rm main"), "removed ");
    assert_says(&bench.ok("baseline list"), "no baselines");
}
