//! The real binary on a tiny random checkpoint: wiring, output, exit codes, tables.
//!
//! A [`Bench`] is a folder of its own with a model, data and experiments, so that tests
//! run side by side and never touch the results of the project.

mod check;
mod check_reports;
mod choices;
mod compare;
mod evidence;
#[cfg(target_os = "linux")]
mod failing_disk;
mod hard_texts;
mod interrupt;
mod kills;
mod log_commands;
mod model_info;
mod one_example;
mod other;
mod overflow;
#[cfg(target_os = "linux")]
mod power_loss;
mod priors;
mod query;
mod readme;
// The workflow runs on Linux, with git and a bash of this decade.
#[cfg(target_os = "linux")]
mod recipe;
mod report;
mod run;
mod scale;
mod slips;
mod unscored;
mod untrusted;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use harness::table::{self, StoredRun, Table, Values};
use serde_json::{Value as Json, json};

/// Four ways to prompt for the same data, with a generation and text metrics.
const PHRASES: &str = r#"
[experiment]
name = "phrases"
seed = 17
primary = "loglikelihood_per_byte"

[models.tiny]
source = "./tiny-llama"

[dataset]
path = "phrases.jsonl"
id = "id"
target = "{{ fr }}"

[fewshot]
path = "phrases.train.jsonl"

[variants.bare]
template = "{{ en }}\nFrench:"

[variants.instruction]
template = "To French: {{ en }}\nFrench:"

[variants.few]
shots = 2
example = "{{ en }} = {{ fr }}\n"
template = "{{ examples }}{{ en }} ="

[variants.chat]
user = "{{ en }}"

[generation]
max_tokens = 6

[[metrics]]
use = ["exact_match", "f1", "chrf"]

[profiles.small]
"dataset.limit" = 5
"#;

/// Two choices, no generation.
const COLOURS: &str = r#"
[experiment]
name = "colours"
control = "bare"

[models.tiny]
source = "./tiny-llama"

[dataset]
path = "phrases.jsonl"
id = "id"
target = "{{ size }}"
choices = ["small", "very large"]

[variants.bare]
template = "{{ en }}\nSize:"

[variants.question]
template = "{{ en }}\nSmall or large? Size:"
"#;

/// Rows of `phrases.jsonl`.
const N_EXAMPLES: usize = 12;

/// A folder with a model, data and experiments.
struct Bench {
    folder: tempfile::TempDir,
}

/// A command that ended.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Bench {
    /// `phrases.toml` and `colours.toml` with their data and the model `tiny-llama`.
    fn new() -> Self {
        let bench = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models/tiny-llama");
        std::fs::create_dir(bench.path("tiny-llama")).unwrap();
        for file in std::fs::read_dir(model).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), bench.path("tiny-llama").join(file.file_name())).unwrap();
        }
        let adjectives = ["red", "blue", "old", "new"];
        let nouns = [("house", "maison"), ("tree", "arbre"), ("book", "livre")];
        let rows = nouns.iter().flat_map(|(en, fr)| {
            adjectives.iter().enumerate().map(move |(i, adjective)| {
                let size = if i % 2 == 0 { "small" } else { "very large" };
                let en = format!("The {adjective} {en}.");
                json!({ "en": en, "fr": format!("{fr} {i} é"), "size": size })
            })
        });
        let rows = rows.enumerate().map(|(i, mut row)| {
            row["id"] = Json::from(format!("p{i:02}"));
            row
        });
        bench.rows("phrases.jsonl", &rows.collect::<Vec<_>>());
        let shots: Vec<Json> = ["one", "two", "three"]
            .map(|it| json!({ "en": format!("Take {it}."), "fr": format!("Prends {it}.") }))
            .into();
        bench.rows("phrases.train.jsonl", &shots);
        bench.write("phrases.toml", PHRASES);
        bench.write("colours.toml", COLOURS);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Writes a JSONL file.
    fn rows(&self, name: &str, rows: &[Json]) {
        let mut text = String::new();
        for row in rows {
            writeln!(text, "{row}").unwrap();
        }
        self.write(name, &text);
    }

    /// Puts rows in front of and behind those of `phrases.jsonl`.
    fn add_phrases(&self, before: &[Json], behind: &[Json]) {
        let rows = std::fs::read_to_string(self.path("phrases.jsonl")).unwrap();
        let lines = |rows: &[Json]| {
            rows.iter()
                .fold(String::new(), |text, it| text + &format!("{it}\n"))
        };
        self.write("phrases.jsonl", &(lines(before) + &rows + &lines(behind)));
    }

    /// `harness` with `words`, in the folder, with nothing inherited that steers it.
    fn command(&self, words: &str) -> std::process::Command {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_harness"));
        command
            .current_dir(self.folder.path())
            .args(words.split(' '))
            .env("NO_COLOR", "1");
        command
            .env_remove("HARNESS_RESULTS")
            .env_remove("HARNESS_MODELS");
        command
    }

    /// Runs `harness` with `words` to its end.
    fn harness(&self, words: &str) -> Ended {
        Ended::from(self.command(words).output().unwrap())
    }

    /// Runs `harness` with `words`, which must end well, and gives its standard output.
    fn ok(&self, words: &str) -> String {
        let ended = self.harness(words);
        assert_eq!(ended.code, Some(0), "{words}: {}", ended.stderr);
        ended.stdout
    }

    /// The folders of all runs of an experiment, oldest first.
    fn runs(&self, results: &str, experiment: &str) -> Vec<PathBuf> {
        let runs = table::list(&self.path(results), Some(experiment)).unwrap();
        runs.into_iter().map(|it| it.folder).collect()
    }

    /// The newest run of an experiment.
    fn latest(&self, experiment: &str) -> StoredRun {
        table::read(self.runs("results", experiment).last().unwrap()).unwrap()
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The draws of Sebastiano Vigna's `SplitMix64`.
struct Draws(u64);

impl Draws {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 if there is none.
    #[cfg(target_os = "linux")]
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// The number that a variable of the environment holds.
fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap(),
        Err(_) => default,
    }
}

/// The tables that `folder` has, without the column `run`, which alone tells equal runs apart.
fn tables_without_run(folder: &Path) -> Vec<Table<'static>> {
    let names = table::TABLES.into_iter().chain([table::TOKENS]);
    let names = names.filter(|it| table::table_path(folder, it).is_file());
    let tables: Vec<Table<'static>> = names
        .map(|name| {
            let mut table = table::read_table(folder, name).unwrap();
            table.columns.retain(|it| it.name != "run");
            table
        })
        .collect();
    assert!(
        table::TABLES.len() <= tables.len(),
        "tables are missing in {}",
        folder.display()
    );
    tables
}

/// Equal tables, with a message of a bearable length if they are not.
fn assert_equal_tables(a: &Path, b: &Path) {
    for (a, b) in tables_without_run(a).iter().zip(&tables_without_run(b)) {
        assert_eq!((&a.name, a.n_rows), (&b.name, b.n_rows));
        for (column, other) in a.columns.iter().zip(&b.columns) {
            assert!(
                is_same(&column.values, &other.values),
                "{}.{}",
                a.name,
                column.name
            );
        }
        assert_eq!(a.columns.len(), b.columns.len(), "{}", a.name);
    }
}

/// Equal bit for bit: a NaN equals itself, 0 does not equal -0.
fn is_same(a: &Values<'_>, b: &Values<'_>) -> bool {
    let bits = |it: &Vec<Option<f64>>| -> Vec<Option<u64>> {
        it.iter().map(|it| it.map(f64::to_bits)).collect()
    };
    match (a, b) {
        (Values::Number(a), Values::Number(b)) => bits(a) == bits(b),
        _ => a == b,
    }
}
