//! What the tests said of each mutant, as a file of rows and as a table of rooms.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::Failure;
use crate::mutant::Mutant;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It does not compile.
    Unviable,
    /// A test failed, or the program ended otherwise; the first test that failed.
    Killed(String),
    /// The tests did not come to an end.
    Timeout,
    Survived,
}

impl Outcome {
    fn name(&self) -> &str {
        match self {
            Self::Unviable => "unviable",
            Self::Killed(_) => "killed",
            Self::Timeout => "timeout",
            Self::Survived => "survived",
        }
    }
}

/// A row of the file.
pub(crate) struct Record {
    pub room: String,
    pub name: String,
    pub outcome: Outcome,
    pub elapsed: Duration,
}

impl Record {
    pub(crate) fn new(mutant: &Mutant, outcome: Outcome) -> Self {
        Self {
            room: mutant.room().to_owned(),
            name: mutant.name.clone(),
            outcome,
            elapsed: Duration::ZERO,
        }
    }
}

/// Writes rows as they come, so that a run that is stopped leaves what it found.
pub(crate) struct Writer {
    file: File,
    /// Per room: how often each outcome.
    counts: BTreeMap<String, BTreeMap<String, usize>>,
}

impl Writer {
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        let (file, counts) = (File::create(path)?, BTreeMap::new());
        Ok(Self { file, counts })
    }

    pub(crate) fn write(&mut self, record: &Record) {
        let outcome = record.outcome.name();
        let by = match &record.outcome {
            Outcome::Killed(test) => test,
            _ => "",
        };
        let (room, name) = (&record.room, &record.name);
        let elapsed_ms = record.elapsed.as_millis();
        writeln!(self.file, "{room}\t{outcome}\t{elapsed_ms}\t{name}\t{by}")
            .expect("a row can be written");
        let counts = self.counts.entry(room.clone()).or_default();
        *counts.entry(outcome.to_owned()).or_default() += 1;
    }

    /// Rooms with their counts and the share of viable mutants that did not survive.
    pub(crate) fn table(&self) -> String {
        let mut table = "| room | mutants | unviable | killed | timeout | survived | score |\n\
                         |---|---|---|---|---|---|---|\n"
            .to_owned();
        let mut all = BTreeMap::new();
        for (room, counts) in &self.counts {
            for (outcome, n) in counts {
                *all.entry(outcome.clone()).or_default() += n;
            }
            table += &row(&format!("`{room}`"), counts);
        }
        table + &row("all", &all)
    }
}

fn row(room: &str, counts: &BTreeMap<String, usize>) -> String {
    let n = |outcome: &str| counts.get(outcome).copied().unwrap_or(0);
    let (unviable, killed) = (n("unviable"), n("killed"));
    let (timeout, survived) = (n("timeout"), n("survived"));
    let n_mutants: usize = counts.values().sum();
    let score = 100.0 * (killed + timeout) as f64 / (n_mutants - unviable) as f64;
    format!(
        "| {room} | {n_mutants} | {unviable} | {killed} | {timeout} | {survived} | {score:.1} % |\n"
    )
}
