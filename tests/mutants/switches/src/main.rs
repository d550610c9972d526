//! Asks the unit tests about every mutant of cargo-mutants, with one build for nearly all of them.
//!
//! A copy of the sources holds each function once as it is and once per mutant; an environment
//! variable chooses. A mutant that does not compile is dropped and called unviable, one that no
//! switch can express gets a build of its own. `README.md` says how it is called.

mod compile;
mod mutant;
mod outcome;
mod splice;
mod trial;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs, io};

use mutant::Mutant;
use outcome::{Outcome, Record};

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// What was typed.
struct Args {
    /// Where the copy is made and the outcomes are written.
    folder: PathBuf,
    /// Only mutants in whose name one of the lines of this file stands.
    names: Option<PathBuf>,
    /// Mutants whose names are lines of this file are compiled but not asked about: a run that was
    /// stopped goes on.
    skip: Option<PathBuf>,
    /// A build of its own for every mutant, to hold the switches against.
    alone: bool,
}

fn args() -> Result<Args, Failure> {
    const USAGE: &str = "usage: mutant-switches FOLDER [--names FILE] [--skip FILE] [--alone]";
    let mut args = env::args().skip(1);
    let folder = args.next().ok_or(USAGE)?;
    let (mut names, mut skip, mut alone) = (None, None, false);
    while let Some(flag) = args.next() {
        match flag.as_str() {
            "--names" => names = Some(args.next().ok_or(USAGE)?.into()),
            "--skip" => skip = Some(args.next().ok_or(USAGE)?.into()),
            "--alone" => alone = true,
            _ => return Err(USAGE.into()),
        }
    }
    fs::create_dir_all(&folder)?;
    Ok(Args {
        folder: fs::canonicalize(folder)?,
        names,
        skip,
        alone,
    })
}

fn run() -> Result<(), Failure> {
    let args = args()?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let copy = args.folder.join("copy");
    let mut mutants = mutant::list(&root)?;
    if let Some(path) = &args.names {
        let text = fs::read_to_string(path)?;
        let names: Vec<&str> = text.lines().filter(|it| !it.is_empty()).collect();
        mutants.retain(|mutant| names.iter().any(|it| mutant.name.contains(it)));
    }
    let sources = splice::Sources::read(&root, &mutants)?;
    copy_sources(&root, &copy, &sources)?;
    let (switched, alone): (Vec<Mutant>, Vec<Mutant>) = mutants
        .into_iter()
        .partition(|it| !args.alone && sources.can_switch(it));
    eprintln!(
        "{} mutants with a switch, {} without",
        switched.len(),
        alone.len()
    );

    let mut records = outcome::Writer::create(&args.folder.join("outcomes.tsv"))?;
    let mut unviable = Unviable::read(&args.folder.join("unviable.txt"))?;
    let (tests, viable) = loop {
        let viable: Vec<Mutant> = switched
            .iter()
            .filter(|it| !unviable.holds(it))
            .cloned()
            .collect();
        sources.write_switched(&copy, &viable)?;
        let built = compile::tests(&copy)?;
        let Some(errors) = built.errors() else {
            break (built.executable()?, viable);
        };
        let broken = sources.broken(&viable, &errors)?;
        eprintln!("{} mutants do not compile", broken.len());
        for mutant in viable.iter().filter(|it| broken.contains(&it.number)) {
            unviable.add(mutant)?;
        }
    };
    for mutant in switched.iter().filter(|it| unviable.holds(it)) {
        records.write(&Record::new(mutant, Outcome::Unviable));
    }
    let skipped = args.skip.map_or(Ok(String::new()), fs::read_to_string)?;
    let skipped: BTreeSet<&str> = skipped.lines().collect();
    let is_asked = |it: &&Mutant| !skipped.contains(it.name.as_str());
    let mut asked: Vec<Mutant> = viable.iter().filter(is_asked).cloned().collect();
    // In an order that mixes the rooms, so that a run that is stopped has asked a fair sample.
    asked.sort_by_key(|it| it.number * 7919 % 10_007);
    let mut trials = trial::Trials::new(&copy, &tests);
    trials.all(&asked, &mut records)?;
    let alone: Vec<Mutant> = alone.iter().filter(is_asked).cloned().collect();
    trials.prepare(&alone)?;
    for mutant in &alone {
        sources.write_alone(&copy, mutant)?;
        let built = compile::tests(&copy)?;
        records.write(&match built.errors() {
            Some(_) => Record::new(mutant, Outcome::Unviable),
            None => trials.alone(mutant, &built.executable()?)?,
        });
    }
    print!("{}", records.table());
    Ok(())
}

/// Names of mutants that do not compile, kept from one call to the next.
struct Unviable {
    path: PathBuf,
    names: BTreeSet<String>,
}

impl Unviable {
    fn read(path: &Path) -> io::Result<Self> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text?,
        };
        let names = text.lines().map(str::to_owned).collect();
        let path = path.to_owned();
        Ok(Self { path, names })
    }

    fn holds(&self, mutant: &Mutant) -> bool {
        self.names.contains(&mutant.name)
    }

    fn add(&mut self, mutant: &Mutant) -> io::Result<()> {
        self.names.insert(mutant.name.clone());
        let text: String = self.names.iter().map(|it| format!("{it}\n")).collect();
        fs::write(&self.path, text)
    }
}

/// Copies what git knows or would add, but for what will be changed. Files that are the same keep
/// their age, for cargo.
fn copy_sources(root: &Path, copy: &Path, sources: &splice::Sources) -> Result<(), Failure> {
    let git = Command::new("git")
        .current_dir(root)
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .output()?;
    if !git.status.success() {
        return Err(String::from_utf8_lossy(&git.stderr).into());
    }
    for name in String::from_utf8(git.stdout)?.split_terminator('\0') {
        if sources.writes(name) {
            continue;
        }
        match fs::read(root.join(name)) {
            Ok(bytes) => write_if_changed(&copy.join(name), &bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{name}: {error}").into()),
        }
    }
    Ok(())
}

/// Writes a file unless it is there with these bytes.
fn write_if_changed(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::read(path).is_ok_and(|it| it == bytes) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, bytes)
}
