//! The folder of a run, taken by one process at a time.
//!
//! Whoever works on a run holds a lock of the system on the file `.lock` in its folder, with
//! its process id, machine and time in it. The lock vanishes with the process, however that
//! ends, so no file has to be removed by hand. A second process that is given the same
//! experiment meanwhile takes a folder of its own; answers are shared by the store.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use harness::table::{self, Manifest, RunStatus};

/// The file that is locked.
const LOCK: &str = ".lock";

/// More than any line that is written there.
const MAX_HOLDER_BYTES: u64 = 512;

/// Nothing can be written where the results are to go.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to `{}`", .path.display())]
pub(crate) struct FolderError {
    pub(crate) path: PathBuf,
    pub(crate) source: io::Error,
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
    /// # Errors
    ///
    /// [`FolderError`] if a new folder cannot be made.
    pub(crate) fn take(results: &Path, experiment: &str, plan: &str) -> Result<Self, FolderError> {
        let known = table::list(results, Some(experiment)).unwrap_or_default();
        for run in known.into_iter().rev() {
            // Of a folder that cannot be written to, such as another user's, nothing is resumed.
            if is_unfinished(&run.folder, plan)
                && let Ok(Some(lock)) = lock(&run.folder)
                // Another process may have finished it between the look and the lock.
                && is_unfinished(&run.folder, plan)
            {
                remove_partial_files(&run.folder);
                return Ok(Self {
                    path: run.folder,
                    id: run.run,
                    _lock: lock,
                });
            }
        }
        Self::make(&results.join(experiment))
    }

    fn make(experiment: &Path) -> Result<Self, FolderError> {
        let refuse = |path: &Path, source| FolderError {
            path: path.to_owned(),
            source,
        };
        std::fs::create_dir_all(experiment).map_err(|it| refuse(experiment, it))?;
        loop {
            let id = table::new_run_id();
            let path = experiment.join(&id);
            match std::fs::create_dir(&path) {
                Ok(()) => {}
                // Another process began in the same microsecond.
                Err(it) if it.kind() == io::ErrorKind::AlreadyExists => continue,
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

fn is_unfinished(folder: &Path, plan: &str) -> bool {
    Manifest::read(folder).is_ok_and(|it| !it.status.is_finished() && it.digests.plan == plan)
}

/// Takes the folder for this process; `None` if another one has it.
fn lock(folder: &Path) -> io::Result<Option<File>> {
    // Not truncated before the lock is held: it says who holds it.
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.join(LOCK))?;
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
    let mut holder = String::new();
    // Some systems let nobody read a locked file.
    let read = file.take(MAX_HOLDER_BYTES).read_to_string(&mut holder);
    match (read, holder.trim()) {
        (Err(_), _) | (_, "") => Some("another process".to_owned()),
        (_, holder) => Some(holder.to_owned()),
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

    #[test]
    fn a_folder_is_taken_by_one_process_at_a_time() {
        let results = tempfile::tempdir().unwrap();
        let take = || RunFolder::take(results.path(), "x", "plan").unwrap();
        let first = take();
        write_manifest(&first, "running", "plan");
        let path = first.path.clone();
        let found = holder(&path).unwrap();
        assert!(
            found.starts_with(&format!("process {} on ", std::process::id())),
            "{found}"
        );
        assert!(hint(&path, Some("other")).unwrap().contains(&found));
        let second = take();
        assert_ne!(second.path, path, "the first is at work");
        // Its process is gone, without a word.
        drop(first);
        assert_eq!(holder(&path), None);
        assert_eq!(hint(&path, Some("other")).as_deref(), Some("other"));
        std::fs::write(path.join(".x.partial"), "half a table").unwrap();
        let resumed = take();
        assert_eq!(resumed.path, path);
        assert!(!path.join(".x.partial").exists());
        write_manifest(&resumed, "complete", "plan");
        drop(resumed);
        assert_ne!(take().path, path, "a finished run is not opened again");
    }

    #[test]
    fn a_run_of_another_plan_is_not_resumed() {
        let results = tempfile::tempdir().unwrap();
        let first = RunFolder::take(results.path(), "x", "plan").unwrap();
        write_manifest(&first, "interrupted", "plan");
        let path = first.path.clone();
        drop(first);
        assert_ne!(
            RunFolder::take(results.path(), "x", "other").unwrap().path,
            path
        );
        assert_eq!(
            RunFolder::take(results.path(), "x", "plan").unwrap().path,
            path
        );
    }
}
