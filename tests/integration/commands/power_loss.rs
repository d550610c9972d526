//! Power that goes while a run works: every state that a disk may be left in, as far as drawn.
//!
//! `strace` writes down what a run asks of the file system. At a moment between two calls the
//! power goes: what was synced is there, of the rest anything may be. The same command on what
//! is left must then end with the tables of a run that was not disturbed. Thirty states in every
//! test run; more with `HARNESS_POWER_CUTS=2000`, others with another `HARNESS_POWER_SEED`:
//!
//! ```text
//! HARNESS_POWER_CUTS=2000 HARNESS_POWER_SEED=5 cargo test --release --test integration power_loss
//! ```
//!
//! Where `strace` is not there, or may not look into processes, the test says that it was skipped.

mod disk;
mod trace;

use std::path::{Path, PathBuf};

use harness::table::{Manifest, RunStatus};

use super::failing_disk::{has_strace, traced};
use super::{Bench, Draws, assert_equal_tables, number};
use disk::{Disk, Names};
use trace::{CALLS, Call};

/// Two runs of one folder of results: the second finds answers of the first in the store.
const COMMANDS: [&str; 2] = [
    "run phrases.toml -q --tokens --limit 3",
    "run phrases.toml -q --tokens",
];

/// A call with the number of the command that made it.
struct Step {
    command: usize,
    call: Call,
}

/// What both commands did to the folder `recorded`.
fn recorded(bench: &Bench) -> Vec<Step> {
    let root = bench.path("recorded");
    let mut steps = Vec::new();
    for (command, words) in COMMANDS.iter().enumerate() {
        let options = ["-xx", "-s", "100000000", "-e", CALLS];
        let (ended, log) = traced(bench, &options, &format!("{words} --out recorded"));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let calls = trace::calls(&log, bench.folder.path(), &root);
        steps.extend(calls.into_iter().map(|call| Step { command, call }));
    }
    steps
}

/// A run in which nothing happened, of each command.
fn undisturbed(bench: &Bench) -> [PathBuf; 2] {
    [0, 1].map(|command| {
        let out = format!("undisturbed-{command}");
        bench.ok(&format!("{} --out {out}", COMMANDS[command]));
        bench.runs(&out, "phrases").remove(0)
    })
}

/// The run that was not disturbed with the plan of the run in `folder`.
fn twin<'a>(folder: &Path, undisturbed: &'a [PathBuf; 2]) -> &'a Path {
    let plan = |folder: &Path| Manifest::read(folder).unwrap().digests.plan;
    let mut twins = undisturbed.iter().filter(|it| plan(it) == plan(folder));
    twins.next().unwrap()
}

/// The moments after which the power goes: every sync in turn, and any other place as often.
fn moment(nth: usize, steps: &[Step], draws: &mut Draws) -> usize {
    let is_sync = |it: &usize| matches!(steps[*it].call, Call::Sync(_));
    let syncs: Vec<usize> = (0..steps.len()).filter(is_sync).collect();
    match nth % 2 {
        // 7 is coprime to their number, so that all are met, the last ones among the first few.
        0 => syncs[syncs.len() - 1 - nth / 2 * 7 % syncs.len()] + 1,
        _ => draws.below(steps.len() + 1),
    }
}

/// Whether all answers of a command were stored before `moment`: its tables come later.
fn is_answered(command: usize, steps: &[Step], moment: usize) -> bool {
    let is_table =
        |call: &Call| matches!(call, Call::Rename { to, .. } if to.ends_with("cases.parquet"));
    let mut done = steps[..moment].iter();
    done.any(|it| it.command == command && is_table(&it.call))
}

#[test]
fn whatever_a_power_loss_leaves_the_same_command_ends_with_the_same_tables() {
    if !has_strace() {
        return;
    }
    let (n_states, seed) = (
        number("HARNESS_POWER_CUTS", 30),
        number("HARNESS_POWER_SEED", 23),
    );
    println!("{n_states} states, seed {seed}");
    let bench = Bench::new();
    let undisturbed = undisturbed(&bench);
    let steps = recorded(&bench);
    let root = bench.path("recorded");
    let mut draws = Draws::new(seed);
    let (mut n_answered, mut n_complete, mut n_refused) = (0, 0, 0);
    for nth in 0..n_states as usize {
        let names = [Names::Journal, Names::Free][nth / 2 % 2];
        let moment = moment(nth, &steps, &mut draws);
        let mut disk = Disk::empty(names);
        for step in &steps[..moment] {
            disk.apply(&step.call, &root);
        }
        let out = format!("left-{nth}");
        disk.leave(&mut draws, &bench.path(&out));
        let said = format!("seed {seed}, state {nth}, {names:?}, after {moment} calls");
        // What says that it is complete is.
        for run in bench.runs(&out, "phrases") {
            if Manifest::read(&run).is_ok_and(|it| it.status == RunStatus::Complete) {
                let twin = twin(&run, &undisturbed);
                assert_equal_tables(&run, twin);
                let toml = |folder: &Path| std::fs::read(folder.join("experiment.toml")).unwrap();
                assert!(toml(&run) == toml(twin), "{said}");
                n_complete += 1;
            }
        }
        let command = steps[moment.min(steps.len() - 1)].command;
        let ended = bench.harness(&format!("{} --out {out}", COMMANDS[command]));
        if ended.code != Some(0) {
            let is_told = ended.stderr.contains("error: ") && ended.stderr.contains("hint: ");
            assert!(ended.code == Some(3) && is_told, "{said}: {}", ended.stderr);
            n_refused += 1;
            continue;
        }
        let run = bench.runs(&out, "phrases").pop().unwrap();
        assert_eq!(twin(&run, &undisturbed), undisturbed[command], "{said}");
        assert_equal_tables(&run, &undisturbed[command]);
        // Where a sync writes names as well, nothing that was stored is computed again.
        if names == Names::Journal && is_answered(command, &steps, moment) {
            let counts = Manifest::read(&run).unwrap().counts;
            assert_eq!(counts.n_computed, 0, "{said}: lost answers");
            n_answered += 1;
        }
        std::fs::remove_dir_all(bench.path(&out)).unwrap();
    }
    println!("{n_complete} complete runs left, {n_answered} with all answers, {n_refused} refused");
    assert_eq!(n_refused, 0, "a store that was cut off can be used");
    assert!(0 < n_answered && 0 < n_complete);
}
