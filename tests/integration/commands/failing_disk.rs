//! Disks that fail: what the system answers is changed by `strace`, call by call.
//!
//! Where `strace` is not there, or may not look into processes, the tests say that they were
//! skipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use harness::table::{Manifest, RunStatus};

use super::{Bench, Ended, assert_equal_tables};

/// Whether calls can be watched here.
pub(super) fn has_strace() -> bool {
    let mut tried = Command::new("strace");
    tried.args(["-f", "-o", "/dev/null", "true"]);
    let has_it = tried.output().is_ok_and(|it| it.status.success());
    if !has_it {
        println!("skipped: there is no strace, or it may not watch processes");
    }
    has_it
}

/// Runs `harness` with `words` under `strace` with `options`; also what strace wrote.
pub(super) fn traced(bench: &Bench, options: &[&str], words: &str) -> (Ended, String) {
    let log = bench.path("strace.log");
    let plain = bench.command(words);
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-o"]).arg(&log).args(options);
    command.arg(plain.get_program()).args(plain.get_args());
    command.current_dir(bench.folder.path());
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let ended = Ended::from(command.output().unwrap());
    (ended, std::fs::read_to_string(log).unwrap())
}

/// Every sync fails once, in turn; a failed one may have dropped what it did not write, so it is
/// never tried again on the same file.
#[test]
fn a_sync_that_fails_ends_the_run_and_the_next_one_goes_on() {
    if !has_strace() {
        return;
    }
    let bench = Bench::new();
    bench.ok("run phrases.toml -q --out undisturbed");
    let undisturbed = bench.runs("undisturbed", "phrases").remove(0);
    let (mut n_failed, mut n_of_store) = (0, 0);
    loop {
        let out = format!("out-{n_failed}");
        let inject = format!("inject=fsync,fdatasync:error=EIO:when={}", n_failed + 1);
        let options = ["-e", "trace=fsync,fdatasync", "-e", &inject];
        let words = format!("run phrases.toml -q --out {out}");
        let (ended, log) = traced(&bench, &options, &words);
        let Some(failed) = log.lines().position(|it| it.contains("(INJECTED)")) else {
            assert_eq!(ended.code, Some(0), "{}", ended.stderr);
            break;
        };
        let line = log.lines().nth(failed).unwrap();
        let file = file_of(line);
        if file.contains("/.store") {
            // SQLite takes back what it has not stored: of an empty store the change to its log,
            // at the end the move of answers out of the log, where they are synced. What it
            // could not store ends the run.
            n_of_store += usize::from(ended.code == Some(3));
            assert!(
                matches!(ended.code, Some(0 | 3)),
                "{line}: {}",
                ended.stderr
            );
        } else {
            assert_eq!(ended.code, Some(3), "{line}: {}", ended.stderr);
            assert_eq!(ended.stdout, "", "{line}: results that may not be there");
            let again = log.lines().skip(failed + 1).find(|it| file_of(it) == file);
            assert_eq!(again, None, "tried again after {line}");
        }
        if let Some(run) = bench.runs(&out, "phrases").first() {
            let status = Manifest::read(run).unwrap().status;
            // The last sync is that of the folder, when the manifest has its name.
            let is_half = ended.code == Some(3) && file.ends_with(".partial");
            assert!(!is_half || !status.is_finished(), "{line}: {status:?}");
        }
        let resumed = bench.harness(&words);
        assert_eq!(resumed.code, Some(0), "after {line}: {}", resumed.stderr);
        let run = bench.runs(&out, "phrases").pop().unwrap();
        assert_eq!(Manifest::read(&run).unwrap().status, RunStatus::Complete);
        assert_equal_tables(&run, &undisturbed);
        n_failed += 1;
    }
    // Every table, the manifest twice and the evidence, each with its folder, and the store.
    assert!(16 < n_failed, "{n_failed}");
    assert!(0 < n_of_store, "no failure of the store ended a run");
}

/// From some write of the store on, or at one write of anything, there is no room.
#[test]
fn a_full_disk_ends_the_run_and_the_next_one_goes_on() {
    if !has_strace() {
        return;
    }
    let bench = Bench::new();
    bench.ok("run phrases.toml -q --out undisturbed");
    let undisturbed = bench.runs("undisturbed", "phrases").remove(0);
    let (mut n_full, mut n_told) = (0, 0);
    // Only SQLite says where to write; from every third of its writes on is enough.
    for (call, which, step) in [("pwrite64", "+", 3), ("write", "", 1)] {
        for nth in (1..).step_by(step) {
            let inject = format!("inject={call}:error=ENOSPC:when={nth}{which}");
            let options = ["-e", &format!("trace={call}"), "-e", &inject];
            let out = format!("{call}-{nth}");
            let words = format!("run phrases.toml -q --out {out}");
            let (ended, log) = traced(&bench, &options, &words);
            let Some(line) = log.lines().find(|it| it.contains("(INJECTED)")) else {
                break;
            };
            let said = format!("{line}: {}", ended.stderr);
            // What SQLite cannot move out of its log while it closes stays there.
            let may_end_well = call == "pwrite64";
            let is_full = ended.code == Some(3);
            assert!(is_full || (may_end_well && ended.code == Some(0)), "{said}");
            n_full += usize::from(is_full);
            n_told += usize::from(ended.stderr.contains("hint: free space"));
            if let Some(run) = bench.runs(&out, "phrases").first() {
                let is_result = line.contains("write(1<");
                let is_finished = Manifest::read(run).unwrap().status.is_finished();
                assert!(!is_full || is_result || !is_finished, "{said}");
            }
            bench.ok(&words);
            let run = bench.runs(&out, "phrases").pop().unwrap();
            assert_equal_tables(&run, &undisturbed);
        }
    }
    assert!(16 < n_full && 0 < n_told, "{n_full}, {n_told}");
}

/// Without locks two processes might work on one run.
#[test]
fn where_there_are_no_locks_nothing_is_begun() {
    if !has_strace() {
        return;
    }
    let bench = Bench::new();
    let options = ["-e", "trace=flock", "-e", "inject=flock:error=ENOLCK"];
    let (ended, log) = traced(&bench, &options, "run phrases.toml -q");
    assert!(log.contains("(INJECTED)"), "{log}");
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("name another folder"),
        "{}",
        ended.stderr
    );
    assert_eq!(bench.runs("results", "phrases"), Vec::<PathBuf>::new());
}

/// As where another program cuts the file of weights short: every read may be the one that finds
/// its end.
#[test]
fn weights_that_end_early_are_an_error_wherever_they_do() {
    if !has_strace() {
        return;
    }
    let bench = Bench::new();
    let weights = bench
        .path("tiny-llama/model.safetensors")
        .canonicalize()
        .unwrap();
    let weights = weights.to_str().unwrap();
    let mut codes = Vec::new();
    for nth in 1.. {
        let inject = format!("inject=pread64:retval=0:when={nth}");
        let options = ["-P", weights, "-e", "trace=pread64", "-e", &inject];
        let words = format!("run colours.toml -q -j 1 --fresh --out out-{nth}");
        let (ended, log) = traced(&bench, &options, &words);
        if !log.contains("(INJECTED)") {
            assert_eq!(ended.code, Some(0), "{}", ended.stderr);
            break;
        }
        let said = ended.stderr.split_whitespace().collect::<Vec<&str>>();
        assert!(
            said.join(" ").contains("was cut short while it was read"),
            "{}",
            ended.stderr
        );
        codes.push(ended.code);
    }
    // First those of planning, which refuses the file, then those of loading.
    let n_refused = codes.iter().take_while(|it| **it == Some(2)).count();
    assert!(0 < n_refused && n_refused < codes.len(), "{codes:?}");
    assert!(
        codes[n_refused..].iter().all(|it| *it == Some(3)),
        "{codes:?}"
    );
}

/// The file between the angle brackets of `fsync(3</path>)`.
fn file_of(line: &str) -> String {
    let path = line.split(['<', '>']).nth(1).unwrap_or_default();
    path.to_owned()
}

/// A name must not be there before the bytes are, nor be lost after it was told.
#[test]
fn files_are_synced_before_they_get_their_name_and_their_folder_after() {
    if !has_strace() {
        return;
    }
    let bench = Bench::new();
    let calls = "trace=fsync,fdatasync,rename,renameat,renameat2";
    let (ended, log) = traced(&bench, &["-e", calls], "run phrases.toml -q --tokens");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let lines: Vec<&str> = log.lines().collect();
    let mut named = Vec::new();
    for (i, line) in lines
        .iter()
        .enumerate()
        .filter(|it| it.1.contains("rename"))
    {
        // The folders by descriptor are not quoted.
        let [from, to] = quoted(line)[..] else {
            panic!("{line}")
        };
        let is_sync_of = |line: &&&str, name: &str| {
            line.contains("sync(") && file_of(line).ends_with(name) && line.ends_with("= 0")
        };
        let name = Path::new(from).file_name().unwrap().to_str().unwrap();
        let before = lines[..i].iter().any(|it| is_sync_of(&it, name));
        assert!(before, "{from} was not synced before {line}");
        let folder = PathBuf::from(to);
        let folder = folder.parent().unwrap().file_name().unwrap();
        let folder = folder.to_str().unwrap();
        let after = lines[i..].iter().any(|it| is_sync_of(&it, folder));
        assert!(after, "the folder of {to} was not synced after {line}");
        named.push(Path::new(to).file_name().unwrap().to_str().unwrap());
    }
    for name in [
        "run.json",
        "cases.parquet",
        "tokens.parquet",
        "evidence.json",
    ] {
        assert!(named.contains(&name), "{name}: {named:?}");
    }
}

/// The texts between quotation marks.
fn quoted(line: &str) -> Vec<&str> {
    line.split('"').skip(1).step_by(2).collect()
}
