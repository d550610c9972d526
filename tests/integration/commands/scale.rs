//! Many rows, and long ones: memory grows by a bounded number of bytes a row, and a row that is far
//! too long is counted like any other that does not fit.

use std::process::Stdio;
use std::time::Duration;

use harness::score::Status;
use serde_json::{Value as Json, json};

use super::Bench;

const MANY: &str = r#"
[experiment]
name = "many"

[models.tiny]
source = "./tiny-llama"

[dataset]
path = "many.jsonl"
target = "{{ label }}"
choices = ["yes", "no"]

[variants.bare]
template = "{{ text }}"

[variants.asked]
template = "{{ text }}?"
"#;

/// The peak of resident memory of `harness` with `words`, in bytes.
///
/// The system adds it up, so the last look before the end misses little.
#[cfg(target_os = "linux")]
fn peak(bench: &Bench, words: &str) -> u64 {
    let mut command = bench.command(words);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|it| it.strip_prefix("VmHWM:"));
        let number = line.and_then(|it| it.trim().strip_suffix(" kB"));
        peak = peak.max(number.and_then(|it| it.parse().ok()).unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{words}: {status}");
            return 1024 * peak;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whatever is done with a row, what it takes in memory is bounded.
#[cfg(target_os = "linux")]
#[test]
fn a_row_takes_less_than_three_kilobytes() {
    const SIZES: [usize; 2] = [16_000, 36_000];
    // Measured: 2,447 bytes in `run`. Windows and row groups still fill up between these sizes, and
    // lists double, so that a row of a larger file takes less.
    const MAX_BYTES: u64 = 3_000;
    let bench = Bench::new();
    bench.write("many.toml", MANY);
    let mut peaks = Vec::new();
    for n_rows in SIZES {
        let labels = ["yes", "no"].into_iter().cycle();
        let row = |(i, label): (usize, &str)| json!({ "text": format!("{i}"), "label": label });
        let rows: Vec<Json> = (0..n_rows).zip(labels).map(row).collect();
        bench.rows("many.jsonl", &rows);
        let run = peak(&bench, "run many.toml -q -j 2");
        let again = peak(&bench, "run many.toml -q -j 2");
        let show = peak(&bench, "show latest");
        let compare = peak(&bench, "compare latest~1 latest");
        peaks.push([run, again, show, compare]);
    }
    let n_more = (SIZES[1] - SIZES[0]) as u64;
    let what = ["run", "run (stored)", "show", "compare"];
    for (i, what) in what.into_iter().enumerate() {
        let growth = peaks[1][i].saturating_sub(peaks[0][i]);
        assert!(
            growth < MAX_BYTES * n_more,
            "{what}: {} bytes a row, {peaks:?}",
            growth / n_more
        );
    }
}

/// The example is far longer than the model's context; nothing else suffers.
#[test]
fn a_row_of_ten_megabytes_is_counted_and_the_rest_is_scored() {
    let bench = Bench::new();
    bench.write("many.toml", MANY);
    let long = "A long word and another. ".repeat(400_000);
    let rows = [
        json!({"text": "short", "label": "yes"}),
        json!({"text": long, "label": "no"}),
        json!({"text": "shorter", "label": "no"}),
    ];
    bench.rows("many.jsonl", &rows);
    let ended = bench.harness("run many.toml");
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    let run = bench.latest("many");
    let statuses: Vec<Status> = run.cases.iter().map(|it| it.status).collect();
    let of_variant = [Status::Ok, Status::ContextOverflow, Status::Ok];
    assert_eq!(statuses, [of_variant, of_variant].concat());
    assert_eq!(run.cases[1].prompt.len(), long.len());
    let shown = bench.ok("show latest --failures");
    assert!(shown.contains("context_overflow"), "{shown}");
    assert!(shown.len() < 10_000, "a screen shows but the end of it");
}
