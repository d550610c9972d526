//! The folder of a run, taken by one process at a time.
//!
//! Whoever works on a run holds a lock of the system on the file `.lock` in its folder, with
//! its process id, machine and time in it. The lock vanishes with the process, however that
//! ends, so no file has to be removed by hand. A second process that is given the same plan
//! meanwhile is refused: it would only compute everything a second time. Runs of other plans
//! have folders of their own and share answers through the store.
//!
//! Which folder is taken is decided by one process at a time too, under a lock on `.lock` in
//! the folder of the results: of several that begin together, one must be the first.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use harness::table::{self, Manifest, RunStatus};

/// The file that is locked.
const LOCK: &str = ".lock";

/// More than any line that is written there.
const MAX_HOLDER_BYTES: u64 = 512;

/// How long the decision of another process is waited for; it takes milliseconds.
const WAIT: Duration = Duration::from_secs(30);

/// Why there is no folder to run in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    /// Nothing can be written where the results are to go.
    #[error("cannot write to `{}`", .path.display())]
    Write { path: PathBuf, source: io::Error },
    /// Another process works on a run of the same plan.
    #[error("the same run is at work already: {holder} works on `{}`", .path.display())]
    AtWork { path: PathBuf, holder: String },
    /// Another process has begun to take a folder and does not get on.
    #[error("`{}` is held by {holder}, which is beginning a run", .path.display())]
    Deciding { path: PathBuf, holder: String },
}

impl FolderError {
    /// What is kept, and what to do.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Write { .. } => "name another folder with `--out` or HARNESS_RESULTS",
            Self::AtWork { .. } => {
                "nothing was begun here, and that run keeps its answers as they come: wait for \
                 its end and run again, which computes nothing twice, or name another folder \
                 with `--out`"
            }
            Self::Deciding { .. } => {
                "is it stopped? Nothing was begun here: end it or let it go on, then run again, \
                 or name another folder with `--out`"
            }
        }
    }
}

/// The folder of a run, locked as long as this lives.
#[derive(Debug)]
pub(crate) struct RunFolder {
    pub(crate) path: PathBuf,
    pub(crate) id: String,
    _lock: File,
}

impl RunFolder {
    /// Takes the folder of the newest unfinished run of that plan, or else a new one.
    ///
    /// `begin` writes the manifest, by which other processes see what is at work here; they
    /// decide only after it.
    ///
    /// # Errors
    ///
    /// [`FolderError`] if a new folder cannot be made, or another process works on that plan.
    pub(crate) fn take<E: From<FolderError>>(
        results: &Path,
        experiment: &str,
        plan: &str,
        begin: impl FnOnce(&Self) -> Result<(), E>,
    ) -> Result<Self, E> {
        let _deciding = decide(results)?;
        let folder = match Self::unfinished(results, experiment, plan)? {
            Some(folder) => folder,
            None => Self::make(results, experiment)?,
        };
        begin(&folder)?;
        Ok(folder)
    }

    fn unfinished(
        results: &Path,
        experiment: &str,
        plan: &str,
    ) -> Result<Option<Self>, FolderError> {
        let known = table::list(results, Some(experiment)).unwrap_or_default();
        for run in known.into_iter().rev() {
            if !is_unfinished(&run.folder, plan) || has_links(&run.folder) {
                continue;
            }
            match lock(&run.folder) {
                Ok(Some(lock)) => {
                    // Another process may have finished it between the look and the lock.
                    if is_unfinished(&run.folder, plan) {
                        remove_partial_files(&run.folder);
                        return Ok(Some(Self {
                            path: run.folder,
                            id: run.run,
                            _lock: lock,
                        }));
                    }
                }
                Ok(None) => {
                    let holder = named_holder(&run.folder);
                    return Err(FolderError::AtWork {
                        path: run.folder,
                        holder,
                    });
                }
                // Of a folder that cannot be written to, such as another user's, nothing is
                // resumed.
                Err(_) => {}
            }
        }
        Ok(None)
    }

    fn make(results: &Path, experiment: &str) -> Result<Self, FolderError> {
        let refuse = |path: &Path, source| FolderError::Write {
            path: path.to_owned(),
            source,
        };
        let folder = results.join(experiment);
        std::fs::create_dir_all(&folder).map_err(|it| refuse(&folder, it))?;
        let all = table::list(results, None).unwrap_or_default();
        let mut newest = all.into_iter().next_back().map(|it| it.run);
        loop {
            let id = table::new_run_id(newest.as_deref());
            let path = folder.join(&id);
            match std::fs::create_dir(&path) {
                Ok(()) => {}
                // Of a process that was killed before it wrote a manifest.
                Err(it) if it.kind() == io::ErrorKind::AlreadyExists => {
                    newest = newest.max(Some(id));
                    continue;
                }
                Err(it) => return Err(refuse(&path, it)),
            }
            if let Some(lock) = lock(&path).map_err(|it| refuse(&path.join(LOCK), it))? {
                return Ok(Self {
                    path,
                    id,
                    _lock: lock,
                });
            }
        }
    }
}

/// Waits until no other process is taking a folder below `results`, and keeps others waiting
/// until what it returns is dropped.
fn decide(results: &Path) -> Result<File, FolderError> {
    let refuse = |source| FolderError::Write {
        path: results.join(LOCK),
        source,
    };
    std::fs::create_dir_all(results).map_err(refuse)?;
    let begun = Instant::now();
    loop {
        if let Some(lock) = lock(results).map_err(refuse)? {
            return Ok(lock);
        }
        if WAIT < begun.elapsed() {
            return Err(FolderError::Deciding {
                path: results.to_owned(),
                holder: named_holder(results),
            });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether something in the folder leads elsewhere. No run that harness made has links in it, and
/// one that came with a commit must not be written through.
fn has_links(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    is_link(folder) || entries.into_iter().any(|it| is_link(&it.path()))
}

fn is_link(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|it| it.is_symlink())
}

fn is_unfinished(folder: &Path, plan: &str) -> bool {
    Manifest::read(folder).is_ok_and(|it| !it.status.is_finished() && it.digests.plan == plan)
}

/// Takes the folder for this process; `None` if another one has it.
fn lock(folder: &Path) -> io::Result<Option<File>> {
    let path = folder.join(LOCK);
    if is_link(&path) {
        return Err(io::Error::other("it is a link; remove it"));
    }
    // Not truncated before the lock is held: it says who holds it.
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => return Ok(None),
        Err(std::fs::TryLockError::Error(source)) => return Err(source),
    }
    let now = table::format_utc(SystemTime::now());
    let holder = format!("process {} on {} since {now}\n", std::process::id(), host());
    file.set_len(0)?;
    file.write_all(holder.as_bytes())?;
    Ok(Some(file))
}

/// Removes what a killed process left of files it was writing; the lock must be held.
fn remove_partial_files(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.ends_with(".partial") {
            // What stays only takes space.
            std::fs::remove_file(entry.path()).ok();
        }
    }
}

/// Who works on the run in `folder`, such as `process 42 on host since 2026-11-23T17:56:01Z`;
/// `None` if nobody does.
pub(crate) fn holder(folder: &Path) -> Option<String> {
    if !Manifest::read(folder).is_ok_and(|it| it.status == RunStatus::Running) {
        return None;
    }
    let file = File::open(folder.join(LOCK)).ok()?;
    // Released at once, when `file` is dropped.
    if !matches!(
        file.try_lock_shared(),
        Err(std::fs::TryLockError::WouldBlock)
    ) {
        return None;
    }
    Some(named_holder(folder))
}

/// The holder of the lock in `folder` by its own words, as far as they can be read.
fn named_holder(folder: &Path) -> String {
    let mut holder = String::new();
    // Some systems let nobody read a locked file.
    let read = File::open(folder.join(LOCK))
        .and_then(|it| it.take(MAX_HOLDER_BYTES).read_to_string(&mut holder));
    match (read, holder.trim()) {
        (Err(_), _) | (_, "") => "another process".to_owned(),
        (_, holder) => holder.to_owned(),
    }
}

/// What to do about a run in `folder` that cannot be read: wait for it, or else `hint`.
pub(crate) fn hint(folder: &Path, hint: Option<&str>) -> Option<String> {
    match holder(folder) {
        Some(holder) => Some(format!(
            "the run is not finished: {holder} is working on it; its tables come at its end"
        )),
        None => hint.map(str::to_owned),
    }
}

/// The machine's name, where the system tells.
pub(crate) fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = name.or_else(|| std::env::var("HOSTNAME").ok());
    let name = name.or_else(|| std::env::var("COMPUTERNAME").ok());
    name.map_or_else(|| "unknown".to_owned(), |it| it.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives the run in `folder` a manifest.
    fn write_manifest(folder: &RunFolder, status: &str, plan: &str) {
        let manifest = serde_json::json!({
            "schema_version": table::SCHEMA_VERSION, "harness_version": "0", "experiment": "x",
            "run": folder.id, "status": status, "seed": 0, "primary": "acc", "started": "",
            "digests": {"experiment": "", "dataset": "", "plan": plan}, "host": "", "device": "",
            "models": [], "variants": [], "metrics": [], "cells": [], "rankings": [],
            "counts": {"n_examples": 0, "n_cases": 0, "n_requests": 0, "n_computed": 0,
                "n_from_store": 0, "failed": {}},
        });
        let path = folder.path.join(table::MANIFEST);
        std::fs::write(path, manifest.to_string()).unwrap();
        Manifest::read(&folder.path).unwrap();
    }

    /// Takes the folder of a plan and gives the run a manifest.
    fn take(results: &Path, plan: &str) -> Result<RunFolder, FolderError> {
        RunFolder::take(results, "x", plan, |it| {
            write_manifest(it, "running", plan);
            Ok(())
        })
    }

    #[test]
    fn a_folder_is_taken_by_one_process_at_a_time() {
        let results = tempfile::tempdir().unwrap();
        let take = || take(results.path(), "plan");
        let first = take().unwrap();
        let path = first.path.clone();
        let found = holder(&path).unwrap();
        assert!(
            found.starts_with(&format!("process {} on ", std::process::id())),
            "{found}"
        );
        assert!(hint(&path, Some("other")).unwrap().contains(&found));
        let refused = take().unwrap_err();
        let expected = format!("{found} works on `{}`", path.display());
        assert!(refused.to_string().ends_with(&expected), "{refused}");
        // Its process is gone, without a word.
        drop(first);
        assert_eq!(holder(&path), None);
        assert_eq!(hint(&path, Some("other")).as_deref(), Some("other"));
        std::fs::write(path.join(".x.partial"), "half a table").unwrap();
        let resumed = take().unwrap();
        assert_eq!(resumed.path, path);
        assert!(!path.join(".x.partial").exists());
        write_manifest(&resumed, "complete", "plan");
        assert_ne!(
            take().unwrap().path,
            path,
            "a finished run is not opened again"
        );
    }

    /// None of them has a manifest yet by which another could see it.
    #[test]
    fn of_several_that_begin_together_one_takes_the_folder() {
        let results = tempfile::tempdir().unwrap();
        let together = std::sync::Barrier::new(4);
        let taken: Vec<Result<RunFolder, FolderError>> = std::thread::scope(|scope| {
            let begin = |_| {
                scope.spawn(|| {
                    together.wait();
                    RunFolder::take(results.path(), "x", "plan", |it| {
                        std::thread::sleep(Duration::from_millis(20));
                        write_manifest(it, "running", "plan");
                        Ok(())
                    })
                })
            };
            let threads: Vec<_> = (0..4).map(begin).collect();
            threads.into_iter().map(|it| it.join().unwrap()).collect()
        });
        let n_taken = taken.iter().filter(|it| it.is_ok()).count();
        assert_eq!(n_taken, 1, "{taken:?}");
        let is_told = |it: &FolderError| matches!(it, FolderError::AtWork { .. });
        let mut refused = taken.iter().filter_map(|it| it.as_ref().err());
        assert!(refused.all(is_told), "{taken:?}");
    }

    #[test]
    fn a_run_of_another_plan_is_not_resumed() {
        let results = tempfile::tempdir().unwrap();
        let first = take(results.path(), "plan").unwrap();
        let path = first.path.clone();
        // Side by side: another plan has nothing to wait for.
        assert_ne!(take(results.path(), "other").unwrap().path, path);
        write_manifest(&first, "interrupted", "plan");
        drop(first);
        assert_ne!(take(results.path(), "third").unwrap().path, path);
        assert_eq!(take(results.path(), "plan").unwrap().path, path);
    }

    /// The folder of the results may come with a commit.
    #[cfg(unix)]
    #[test]
    fn nothing_is_written_through_links() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let results = folder.path().join("results");
        let precious = folder.path().join("precious");
        std::fs::write(&precious, "kept").unwrap();
        for name in [LOCK, "experiment.toml", "cases.parquet"] {
            let first = take(&results, name).unwrap();
            let path = first.path.clone();
            drop(first);
            std::fs::remove_file(path.join(name)).ok();
            symlink(&precious, path.join(name)).unwrap();
            assert_ne!(take(&results, name).unwrap().path, path, "{name}");
        }
        std::fs::remove_file(results.join(LOCK)).unwrap();
        symlink(&precious, results.join(LOCK)).unwrap();
        let refused = take(&results, "plan").unwrap_err();
        assert!(matches!(refused, FolderError::Write { .. }), "{refused}");
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "kept");
    }

    /// `latest` is the greatest id, and must be what was begun last.
    #[test]
    fn an_id_is_greater_than_all_before_whatever_the_clock_says() {
        let results = tempfile::tempdir().unwrap();
        // Of another experiment, while the clock was a year ahead.
        let ahead = "20991231-235959-0abz";
        let folder = results.path().join("y").join(ahead);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(table::MANIFEST), "{}").unwrap();
        // What a killed process left, without a manifest, is no run but stands in the way.
        std::fs::create_dir_all(results.path().join("x/20991231-235959-0ac0")).unwrap();
        let id = |plan| take(results.path(), plan).unwrap().id;
        assert_eq!(id("one"), "20991231-235959-0ac1");
        assert_eq!(id("two"), "20991231-235959-0ac2");
        let latest = table::resolve(results.path(), "latest").unwrap();
        assert!(latest.ends_with("x/20991231-235959-0ac2"));
    }
}
