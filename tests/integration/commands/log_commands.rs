//! Texts that a log would take for commands.

use serde_json::json;

use super::{Bench, Ended, PHRASES};

/// Whether a line is a command to the runner of a CI system: GitHub Actions trims it first
/// and looks for `::`, and the older form and those of others count wherever they stand.
fn is_command(line: &str) -> bool {
    let marks = ["##[", "##vso[", "##teamcity["];
    line.trim_start().starts_with("::") || marks.iter().any(|it| line.contains(it))
}

/// Whoever wrote the data or the experiment must not be able to command the machine that
/// checks it.
#[test]
fn no_text_from_data_is_a_command_of_a_ci_system() {
    let bench = Bench::new();
    // Long enough that wrapped lines begin with any of its words.
    let evil = format!(
        "{} ##vso[task.setvariable variable=x]y ##[error]z ##teamcity[message text='t']\n  \
         ::error file=a::b\r::debug::c\n\t\u{a0}::d::",
        "::add-mask::q ".repeat(30)
    );
    // Fits the model, so that `try` shows its tokens, of which some begin with `::`.
    let short = "::error::x ##[y]";
    let row =
        |id: &str, en: &str, fr: &str| json!({ "id": id, "en": en, "fr": fr, "size": "small" });
    let rows = [
        row("short", short, short),
        row("a", &evil, &evil),
        row("::warning::id", &evil, "b"),
    ];
    bench.rows("phrases.jsonl", &rows);
    bench.write(
        "broken.toml",
        &PHRASES.replace(
            "[dataset]",
            "[dataset]\n\"::error::key ##[x]\" = '''\n::error::v\n'''",
        ),
    );
    let commands: &[(&str, &[&str])] = &[
        ("plan phrases.toml --prompts 2", &[]),
        ("plan phrases.toml --json", &[]),
        ("run phrases.toml --tokens", &[]),
        ("show", &[]),
        ("show --prompts", &[]),
        ("show --failures", &[]),
        ("show --failures --json", &[]),
        ("show --example a", &[]),
        ("show --example a --json", &[]),
        ("show --example ::nope", &[]),
        ("show --flips", &[]),
        ("compare latest:bare latest:few --all", &[]),
        ("try phrases.toml --variant bare --generate", &[]),
        ("try phrases.toml --variant bare --example a", &[]),
        ("try phrases.toml --variant few --example ::nope", &[]),
        ("try phrases.toml --variant few --json", &[]),
        ("query", &["SELECT * FROM examples"]),
        ("query --json", &["SELECT * FROM examples"]),
        ("query", &["SELECT ::nope\n::error::x"]),
        ("plan broken.toml", &[]),
        (
            "plan phrases.toml --set",
            &["dataset.target=\"{{\\n::error::x\""],
        ),
        ("run colours.toml --set", &["dataset.target=\"{{en}}\""]),
    ];
    let mut texts = Vec::new();
    for (words, more) in commands {
        let ended = Ended::from(bench.command(words).args(*more).output().unwrap());
        texts.push((words, ended.stdout));
        texts.push((words, ended.stderr));
    }
    let n_shown = texts.iter().filter(|it| it.1.contains("add-mask")).count();
    assert!(8 <= n_shown, "the texts are shown by {n_shown}");
    for (words, text) in texts {
        let command = text.split(['\n', '\r']).find(|it| is_command(it));
        assert_eq!(command, None, "{words}: {text}");
    }
}
