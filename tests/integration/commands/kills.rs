//! Runs that are killed again and again, at any moment, without a chance to say goodbye.
//!
//! Twenty kills in every test run; more with `HARNESS_KILLS=200`, others with another
//! `HARNESS_KILL_SEED`:
//!
//! ```text
//! HARNESS_KILLS=200 HARNESS_KILL_SEED=5 cargo test --release --test integration kills
//! ```

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use harness::table::{Manifest, RunStatus};

use super::{Bench, Draws, PHRASES, assert_equal_tables, number};

/// A moment before `end`.
fn moment(draws: &mut Draws, end: Duration) -> Duration {
    end.mul_f64((draws.next() >> 11) as f64 / (1_u64 << 53) as f64)
}

/// Makes `draws.toml`: likelihoods, priors of nothing, and several hundred draws.
fn bench_of_draws() -> Bench {
    let bench = Bench::new();
    let draws = PHRASES
        .replace("name = \"phrases\"", "name = \"draws\"")
        .replace(
            "max_tokens = 6",
            "max_tokens = 30\ntemperature = 1.0\nrepeats = 10",
        );
    bench.write("draws.toml", &draws);
    bench
}

/// Starts the run and kills it at `moment`; whether it had ended by itself.
fn killed(bench: &Bench, out: &str, moment: Duration) -> bool {
    let mut child = bench
        .command(&format!("run draws.toml -q --tokens --out {out}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(moment);
    child.kill().unwrap();
    match child.wait().unwrap().code() {
        None => false,
        Some(0) => true,
        Some(code) => panic!("ended with {code} instead of being killed"),
    }
}

/// The one run in `out`, if it has got as far as a manifest.
fn the_run(bench: &Bench, out: &str) -> Option<PathBuf> {
    let runs = bench.runs(out, "draws");
    assert!(
        runs.len() <= 1,
        "the run went on in another folder: {runs:?}"
    );
    runs.into_iter().next()
}

fn is_complete(folder: &Path) -> bool {
    Manifest::read(folder).unwrap().status == RunStatus::Complete
}

#[cfg(unix)]
#[test]
fn however_often_a_run_is_killed_its_tables_are_those_of_one_that_was_not() {
    let (n_kills, seed) = (number("HARNESS_KILLS", 20), number("HARNESS_KILL_SEED", 17));
    println!("{n_kills} kills, seed {seed}");
    let bench = bench_of_draws();
    let begun = Instant::now();
    bench.ok("run draws.toml -q --tokens --out undisturbed");
    let whole = begun.elapsed();
    let undisturbed = bench.runs("undisturbed", "draws").remove(0);
    let mut draws = Draws::new(seed);
    let (mut n_killed, mut n_completed) = (0, 0);
    while n_killed < n_kills {
        // A finished run is never opened again, so the next one gets a store of its own.
        let out = format!("results-{n_completed}");
        let moment = moment(&mut draws, whole);
        let said = format!("seed {seed}, kill {n_killed}, at {moment:?}, in {out}");
        let ended = killed(&bench, &out, moment);
        n_killed += u64::from(!ended);
        let run = the_run(&bench, &out);
        if let Some(run) = run.filter(|it| is_complete(it)) {
            assert_equal_tables(&run, &undisturbed);
            n_completed += 1;
        } else {
            assert!(!ended, "{said}: it ended without a complete run");
            let shown = bench.harness(&format!("show --out {out}"));
            // Between the last table and the word `complete` there is something to show.
            assert!(
                matches!(shown.code, Some(0 | 2)),
                "{said}: {}",
                shown.stderr
            );
            assert!(!shown.stderr.contains("working on it"), "{said}: nobody is");
        }
    }
    let out = format!("results-{n_completed}");
    bench.ok(&format!("run draws.toml -q --tokens --out {out}"));
    let run = the_run(&bench, &out).unwrap();
    assert!(is_complete(&run));
    assert_equal_tables(&run, &undisturbed);
    let left: Vec<String> = std::fs::read_dir(&run)
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .filter(|it| it.ends_with(".partial"))
        .collect();
    assert!(left.is_empty(), "half files of killed processes: {left:?}");
    println!("{n_completed} runs completed on the way");
}
