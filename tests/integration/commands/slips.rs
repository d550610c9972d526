//! What is allowed and often a slip.

use serde_json::{Value as Json, json};

use super::{Bench, Ended};

#[test]
fn what_is_allowed_but_often_a_slip_is_told() {
    let bench = Bench::new();
    let row =
        |id: &str, fr: &str| json!({ "id": id, "en": "The red house.", "fr": fr, "size": "small" });
    // The same sentence as that of p00, which is `maison 0 é`.
    bench.add_phrases(
        &[],
        &[
            row("same", "maison 0 é"),
            row("other", "demeure"),
            row("third", "logis"),
        ],
    );
    let run = |words: &str| {
        let mut command = bench.command(words);
        command.args(["--set", "variants.bare.template=\"{{ en }}\\nFrench: \""]);
        Ended::from(command.output().unwrap())
    };
    let plan = run("plan phrases.toml --variant bare --variant instruction --variant few");
    assert_eq!(plan.code, Some(0), "{}", plan.stderr);
    let ended = run("run phrases.toml --variant bare --variant instruction --variant few");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for text in [plan.stdout, ended.stderr] {
        let text = text.split_whitespace().collect::<Vec<&str>>().join(" ");
        let spaces = "warning: 15 of 15 prompts of `bare` end in a space";
        assert!(text.contains(spaces), "{text}");
        assert!(!text.contains("prompts of `instruction` end"), "{text}");
        let pairs = "warning: in `bare`, `instruction`, `few`, 4 examples have the prompt of \
                     another example but not its target, so not all of them can come out right: \
                     `p00` (line 1) and `other` (line 14)";
        assert!(text.contains(pairs), "{text}");
    }
    let plan: Json =
        serde_json::from_str(&bench.ok("plan phrases.toml --variant few --json")).unwrap();
    let expected = json!([{"variant": "few", "n_end_in_space": 0, "n_contradicted": 4}]);
    assert_eq!(plan["noticed"], expected);
    // Choices are part of the input and `size` is the same in all four rows.
    let plan: Json = serde_json::from_str(&bench.ok("plan colours.toml --json")).unwrap();
    assert_eq!(plan["noticed"][0]["n_contradicted"], 0);
    // A prompt that does not show the example has nothing to contradict.
    let plan =
        bench.ok("plan phrases.toml --variant bare --set variants.bare.template=\"French:\"");
    assert!(!plan.contains("another example"), "{plan}");
}
