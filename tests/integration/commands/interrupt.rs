//! Runs that are stopped in the middle, and runs side by side.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Stdio};

use harness::table::{Manifest, RunStatus};

use super::{Bench, Ended, PHRASES, assert_equal_tables};

/// Makes `slow.toml`: 2,400 sampled generations, which take seconds.
fn slow_bench() -> Bench {
    let bench = Bench::new();
    let slow = PHRASES
        .replace("name = \"phrases\"", "name = \"slow\"")
        .replace(
            "max_tokens = 6",
            "max_tokens = 50\ntemperature = 1.0\nrepeats = 50",
        );
    bench.write("slow.toml", &slow);
    bench
}

/// Starts `words` and waits until some cases are done; with what was said until then.
fn begun(bench: &Bench, words: &str) -> (Child, BufReader<ChildStderr>, String) {
    let mut command = bench.command(words);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains(" %)") {
        assert_ne!(
            stderr.read_line(&mut said).unwrap(),
            0,
            "it ended by itself: {said}"
        );
    }
    assert!(!said.contains("(100 %)"), "too fast to be stopped: {said}");
    (child, stderr, said)
}

/// Starts `words`, sends `signal` as soon as some cases are done, and waits for the end.
fn stopped(bench: &Bench, words: &str, signal: &str) -> Ended {
    let (child, mut stderr, mut said) = begun(bench, words);
    send(&child, signal);
    stderr.read_to_string(&mut said).unwrap();
    let output = child.wait_with_output().unwrap();
    Ended {
        stderr: said,
        ..Ended::from(output)
    }
}

fn send(child: &Child, signal: &str) {
    let id = child.id().to_string();
    let sent = std::process::Command::new("kill")
        .args(["-s", signal, &id])
        .status()
        .unwrap();
    assert!(sent.success());
}

/// What was printed as the command to go on with.
fn resume_command(stderr: &str) -> String {
    let (_, command) = stderr
        .split_once("To go on: harness ")
        .unwrap_or_else(|| panic!("{stderr}"));
    command.lines().next().unwrap().to_owned()
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_goes_on_in_its_folder_and_ends_as_if_nothing_had_happened() {
    let bench = slow_bench();
    let ended = stopped(&bench, "run slow.toml", "INT");
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    assert_eq!(ended.stdout, "", "an unfinished run has no results");
    let folder = bench.runs("results", "slow").pop().unwrap();
    assert_eq!(
        Manifest::read(&folder).unwrap().status,
        RunStatus::Interrupted
    );
    let (kept, _) = ended.stderr.split_once(" answers are kept").unwrap();
    let kept = kept.rsplit(' ').next().unwrap();
    let resumed = bench.harness(&resume_command(&ended.stderr));
    assert_eq!(resumed.code, Some(0), "{}", resumed.stderr);
    assert_ne!(kept, "0");
    // It did not go on to the end of what it had been given.
    assert!(
        !resumed.stderr.contains(": 0 computed"),
        "{}",
        resumed.stderr
    );
    assert!(
        resumed.stderr.contains(&format!(", {kept} from the store")),
        "{kept} were kept: {}",
        resumed.stderr
    );
    assert_eq!(
        bench.runs("results", "slow"),
        std::slice::from_ref(&folder),
        "the same folder"
    );
    assert_eq!(Manifest::read(&folder).unwrap().status, RunStatus::Complete);
    bench.ok("run slow.toml -q --out elsewhere");
    assert_equal_tables(&folder, &bench.runs("elsewhere", "slow")[0]);
    // A finished run is never opened again.
    bench.ok("run slow.toml -q");
    assert_eq!(bench.runs("results", "slow").len(), 2);
}

#[cfg(unix)]
#[test]
fn a_request_to_terminate_keeps_what_was_answered() {
    let bench = slow_bench();
    let ended = stopped(&bench, "run slow.toml", "TERM");
    assert_eq!(ended.code, Some(143), "{}", ended.stderr);
    assert_eq!(resume_command(&ended.stderr), "run slow.toml");
    let folder = bench.runs("results", "slow").pop().unwrap();
    assert_eq!(
        Manifest::read(&folder).unwrap().status,
        RunStatus::Interrupted
    );
}

/// No chance to say goodbye: the store and the manifest on disk must do.
#[cfg(unix)]
#[test]
fn a_killed_run_goes_on_in_its_folder() {
    let bench = slow_bench();
    let ended = stopped(&bench, "run slow.toml", "KILL");
    assert_eq!(ended.code, None, "{}", ended.stderr);
    let folder = bench.runs("results", "slow").pop().unwrap();
    assert_eq!(Manifest::read(&folder).unwrap().status, RunStatus::Running);
    let resumed = bench.harness("run slow.toml");
    assert_eq!(resumed.code, Some(0), "{}", resumed.stderr);
    assert!(
        !resumed.stderr.contains(", 0 from the store"),
        "{}",
        resumed.stderr
    );
    assert_eq!(bench.runs("results", "slow"), [folder]);
}

/// Whoever presses Ctrl-C again does not want to wait any longer.
#[cfg(unix)]
#[test]
fn a_second_interrupt_ends_the_run_at_once() {
    let bench = slow_bench();
    let (mut child, _stderr, _) = begun(&bench, "run slow.toml");
    send(&child, "INT");
    // Two signals that wait together would be one.
    std::thread::sleep(std::time::Duration::from_millis(5));
    send(&child, "INT");
    let begun = std::time::Instant::now();
    let code = child.wait().unwrap().code();
    assert!(
        begun.elapsed().as_millis() < 200,
        "it took {:?}",
        begun.elapsed()
    );
    assert_eq!(code, Some(130));
    let resumed = bench.harness("run slow.toml -q");
    assert_eq!(resumed.code, Some(0), "{}", resumed.stderr);
    assert_eq!(bench.runs("results", "slow").len(), 1, "the same folder");
}

/// The second signal is not one more request to stop: what was on its way is not waited for.
#[cfg(unix)]
#[test]
fn a_second_signal_is_heard_before_the_first_is_done_with() {
    let bench = slow_bench();
    let (mut child, stderr, _) = begun(&bench, "run slow.toml");
    // Both are there when the process wakes up, so nothing happens between them.
    for signal in ["STOP", "INT", "TERM", "CONT"] {
        send(&child, signal);
    }
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let said = std::io::read_to_string(stderr).unwrap();
    assert!(!said.contains("To go on"), "{said}");
}

/// What is at work is not what was cut off.
#[cfg(unix)]
#[test]
fn a_run_at_work_says_who_works_on_it() {
    let bench = slow_bench();
    let (mut child, _stderr, _) = begun(&bench, "run slow.toml");
    let holder = format!("process {} on ", child.id());
    let ask = |is_at_work: bool| {
        for words in ["show", "report", "show --flips", "baseline save main"] {
            let ended = bench.harness(words);
            assert_eq!(ended.code, Some(2), "{words}");
            assert_eq!(
                ended.stderr.contains(&holder) && ended.stderr.contains("working on it"),
                is_at_work,
                "{words}: {}",
                ended.stderr
            );
        }
    };
    ask(true);
    child.kill().unwrap();
    child.wait().unwrap();
    ask(false);
}

/// What was begun with other inputs is not gone on with, so each is part of the plan.
#[test]
fn every_input_is_part_of_the_plan() {
    let bench = Bench::new();
    let template = "template = \"{{ en }}\\nFrench:\"";
    let text = PHRASES.replacen(template, "file = \"prompt.jinja\"", 1);
    assert_ne!(text, PHRASES);
    bench.write("phrases.toml", &text);
    bench.write("prompt.jinja", "{{ en }} =");
    let plan = |flags: &str| {
        let said = bench.ok(&format!("plan phrases.toml --offline --json{flags}"));
        let json: serde_json::Value = serde_json::from_str(&said).unwrap();
        json["plan_digest"].as_str().unwrap().to_owned()
    };
    let first = plan("");
    assert_eq!(plan(""), first);
    let mut plans = vec![first, plan(" --limit 5"), plan(" --variant bare")];
    for (file, from, to) in [
        ("phrases.toml", "seed = 17", "seed = 18"),
        ("phrases.jsonl", "maison", "Maison"),
        ("phrases.train.jsonl", "Prends", "prends"),
        ("prompt.jinja", "=", ":"),
    ] {
        let text = std::fs::read_to_string(bench.path(file)).unwrap();
        assert!(text.contains(from), "{file}");
        bench.write(file, &text.replace(from, to));
        plans.push(plan(""));
    }
    let weights = bench.path("tiny-llama/model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    plans.push(plan(""));
    let n_plans = plans.len();
    plans.sort_unstable();
    plans.dedup();
    assert_eq!(plans.len(), n_plans);
}

/// Starts `words`, with everything it says kept.
fn spawned(bench: &Bench, words: &str) -> Child {
    let mut command = bench.command(words);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn ended(child: Child) -> Ended {
    Ended::from(child.wait_with_output().unwrap())
}

/// Runs of other plans have nothing to wait for, and share what is stored.
#[test]
fn runs_of_different_plans_share_a_store_side_by_side() {
    let bench = Bench::new();
    let plans = ["", " --limit 9", " --limit 5"];
    let children = plans.map(|it| spawned(&bench, &format!("run phrases.toml{it}")));
    for child in children {
        let ended = ended(child);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
    let together = bench.runs("results", "phrases");
    assert_eq!(together.len(), plans.len(), "each has a folder of its own");
    for plan in plans {
        bench.ok(&format!("run phrases.toml -q --out alone{plan}"));
    }
    let alone = bench.runs("alone", "phrases");
    let plan = |folder: &PathBuf| Manifest::read(folder).unwrap().digests.plan;
    for run in &together {
        let same = alone.iter().find(|it| plan(it) == plan(run)).unwrap();
        assert_equal_tables(run, same);
    }
}

/// What two processes compute at the same time is computed twice; so the later ones are refused.
#[test]
fn of_equal_runs_begun_at_once_one_works_and_the_others_say_who() {
    let bench = slow_bench();
    let mut children: Vec<Child> = (0..8).map(|_| spawned(&bench, "run slow.toml")).collect();
    let ids: Vec<u32> = children.iter().map(Child::id).collect();
    let ends: Vec<Ended> = children.drain(..).map(ended).collect();
    let (worked, refused): (Vec<_>, Vec<_>) =
        ids.iter().zip(&ends).partition(|it| it.1.code == Some(0));
    let said = || ends.iter().map(|it| &*it.stderr).collect::<String>();
    let [(worker, _)] = worked[..] else {
        panic!("{} worked: {}", worked.len(), said());
    };
    for (_, ended) in refused {
        assert_eq!(ended.code, Some(3), "{}", ended.stderr);
        let who = format!("is at work already: process {worker} on ");
        for part in [&who[..], " since 2", "answers as they come", "--out"] {
            assert!(ended.stderr.contains(part), "{}", ended.stderr);
        }
        assert!(!ended.stderr.contains("loading weights"), "{}", said());
        assert_eq!(ended.stdout, "");
    }
    let runs = bench.runs("results", "slow");
    assert_eq!(runs.len(), 1, "nobody else began one");
    assert_eq!(
        Manifest::read(&runs[0]).unwrap().status,
        RunStatus::Complete
    );
}

/// A check is a run as well, and so is the file that it is held against.
#[cfg(unix)]
#[test]
fn a_check_does_not_repeat_what_another_process_is_computing() {
    let bench = slow_bench();
    let mut slow = std::fs::read_to_string(bench.path("slow.toml")).unwrap();
    slow += "[[gates]]\nmetric = \"loglikelihood\"\nmin = -1e9\n";
    bench.write("slow.toml", &slow);
    let (mut child, _stderr, _) = begun(&bench, "run slow.toml");
    let check = "check slow.toml --against slow.toml --junit junit.xml";
    let refused = bench.harness(check);
    assert_eq!(child.try_wait().unwrap(), None, "the run is still at work");
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    let who = format!("is at work already: process {} on ", child.id());
    assert!(refused.stderr.contains(&who), "{}", refused.stderr);
    assert!(bench.path("junit.xml").is_file(), "CI does not lack a file");
    child.kill().unwrap();
    child.wait().unwrap();
    // The holder is dead, and with it the lock. Twelve examples are too few for the gate.
    let ended = bench.harness("run slow.toml -q");
    assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    assert_eq!(bench.runs("results", "slow").len(), 1, "the same folder");
}
