//! Runs the tests against one mutant after the other: those of its file, of its room, then all.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::mutant::Mutant;
use crate::outcome::{Outcome, Record, Writer};

/// For how many times as long as without a mutant tests may compute, and for how long at least.
/// Counted as computing, so that a busy machine makes no timeouts.
const PATIENCE: u32 = 5;
const SHORTEST_LIMIT: Duration = Duration::from_secs(5);
/// A loop that allocates is stopped before it takes the machine.
const MEMORY_KIB: u64 = 4 << 20;
const N_WORKERS: usize = 2;

/// A program of tests, and how long parts of it took without any mutant.
pub(crate) struct Trials<'a> {
    copy: &'a Path,
    tests: &'a Path,
    /// By the filter that names the part.
    untouched: BTreeMap<String, Duration>,
}

impl<'a> Trials<'a> {
    pub(crate) fn new(copy: &'a Path, tests: &'a Path) -> Self {
        let untouched = BTreeMap::new();
        Self {
            copy,
            tests,
            untouched,
        }
    }

    /// Asks about mutants that have switches: first the tests of their rooms, then, about those
    /// that are left, all tests.
    ///
    /// # Errors
    ///
    /// A test fails without any mutant.
    pub(crate) fn all(&mut self, mutants: &[Mutant], records: &mut Writer) -> Result<(), Failure> {
        self.measure(mutants.iter().flat_map(room_filters))?;
        let left = self.each(mutants, room_filters, &mut |record: &Record, mutant| {
            let is_left = record.outcome == Outcome::Survived;
            if is_left {
                eprintln!("its room does not notice {}", mutant.name);
            } else {
                records.write(record);
            }
            is_left
        })?;
        if !left.is_empty() {
            self.measure([String::new()])?;
        }
        self.each(&left, |_| vec![String::new()], &mut |record, _| {
            records.write(record);
            false
        })?;
        Ok(())
    }

    /// Makes ready for [`Trials::alone`], whose builds take the place of the program.
    ///
    /// # Errors
    ///
    /// A test fails without any mutant.
    pub(crate) fn prepare(&mut self, mutants: &[Mutant]) -> Result<(), Failure> {
        self.measure(mutants.iter().flat_map(all_filters))
    }

    /// Asks about a mutant that was compiled in, alone.
    pub(crate) fn alone(&self, mutant: &Mutant, tests: &Path) -> Result<Record, Failure> {
        self.judge(mutant, tests, 0, &all_filters(mutant))
    }

    /// Remembers how long parts take without any mutant.
    fn measure(&mut self, filters: impl IntoIterator<Item = String>) -> Result<(), Failure> {
        for filter in filters {
            if self.untouched.contains_key(&filter) {
                continue;
            }
            let started = Instant::now();
            let outcome = run(self.copy, self.tests, 0, &filter, Duration::from_secs(3600))?;
            if outcome != Outcome::Survived {
                return Err(format!("without any mutant, `{filter}`: {outcome:?}").into());
            }
            eprintln!("{:?} for the tests of `{filter}`", started.elapsed());
            self.untouched.insert(filter, started.elapsed());
        }
        Ok(())
    }

    /// Those mutants for which `keep` says so once they are judged, several at a time.
    fn each(
        &self,
        mutants: &[Mutant],
        filters: impl Fn(&Mutant) -> Vec<String> + Sync,
        keep: &mut (dyn FnMut(&Record, &Mutant) -> bool + Send),
    ) -> Result<Vec<Mutant>, Failure> {
        let next = AtomicUsize::new(0);
        let kept = Mutex::new((Vec::new(), None, keep));
        thread::scope(|scope| {
            for _ in 0..N_WORKERS {
                scope.spawn(|| {
                    while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let judged =
                            self.judge(mutant, self.tests, mutant.number, &filters(mutant));
                        let (kept, failure, keep) = &mut *kept.lock().expect("no panic");
                        match judged {
                            Ok(record) if keep(&record, mutant) => kept.push(mutant.clone()),
                            Ok(_) => {}
                            Err(it) => *failure = Some(it),
                        }
                    }
                });
            }
        });
        let (kept, failure, _) = kept.into_inner().expect("no panic");
        failure.map_or(Ok(kept), Err)
    }

    fn judge(
        &self,
        mutant: &Mutant,
        tests: &Path,
        number: usize,
        filters: &[String],
    ) -> Result<Record, Failure> {
        let started = Instant::now();
        let mut outcome = Outcome::Survived;
        for filter in filters {
            let limit = SHORTEST_LIMIT.max(PATIENCE * self.untouched[filter]);
            outcome = run(self.copy, tests, number, filter, limit)?;
            if outcome != Outcome::Survived {
                break;
            }
        }
        let mut record = Record::new(mutant, outcome);
        record.elapsed = started.elapsed();
        Ok(record)
    }
}

/// What stands in the paths of the tests of a mutant's file, and of those of its room.
fn room_filters(mutant: &Mutant) -> Vec<String> {
    let module = mutant.file.trim_start_matches("src/");
    let module = module.trim_end_matches("mod.rs").trim_end_matches(".rs");
    let file = format!("{}::", module.trim_end_matches('/').replace('/', "::"));
    let mut filters = vec![file, format!("{}::", mutant.room())];
    filters.dedup();
    filters
}

/// The same, and what stands in all paths.
fn all_filters(mutant: &Mutant) -> Vec<String> {
    let mut filters = room_filters(mutant);
    filters.push(String::new());
    filters
}

/// Runs the tests in whose path `filter` stands, up to the first that fails.
fn run(
    copy: &Path,
    tests: &Path,
    number: usize,
    filter: &str,
    limit: Duration,
) -> Result<Outcome, Failure> {
    // Random inputs are the same for every mutant, and a failing one is not made smaller.
    let environment = [
        ("MUTANT", number.to_string()),
        ("PROPTEST_RNG_SEED", "1".to_owned()),
        ("PROPTEST_MAX_SHRINK_ITERS", "0".to_owned()),
        ("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true".to_owned()),
        ("INSTA_UPDATE", "no".to_owned()),
        ("INSTA_WORKSPACE_ROOT", copy.display().to_string()),
        ("RUST_BACKTRACE", "0".to_owned()),
    ];
    let limit_s = limit.as_secs_f64().ceil();
    let limits = format!("ulimit -v {MEMORY_KIB}; ulimit -t {limit_s}; ulimit -c 0");
    let mut child = Command::new("sh")
        .current_dir(copy)
        .envs(environment)
        .args(["-c", &format!("{limits}; exec \"$0\" \"$@\"")])
        .arg(tests)
        .args(["--test-threads", "1", "--skip", "honesty", filter])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let said = BufReader::new(child.stdout.take().expect("it is piped"));
    for line in said.split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        if let Some(name) = line.strip_suffix(" ... FAILED") {
            child.kill()?;
            child.wait()?;
            return Ok(Outcome::Killed(name.trim_start_matches("test ").to_owned()));
        }
    }
    let status = child.wait()?;
    Ok(match status.signal() {
        // SIGXCPU, or SIGKILL where that was not heard.
        Some(24 | 9) => Outcome::Timeout,
        Some(signal) => Outcome::Killed(format!("signal {signal}")),
        None if status.success() => Outcome::Survived,
        None => Outcome::Killed("no test's name".to_owned()),
    })
}
