//! Programs that numbers are compared with, where `tests/references.sh` has installed them.
//!
//! They lie in `$PROMPT_HARNESS_REFERENCES`, or else in `prompt-harness/references` of the
//! user's cache folder. A test that needs one and does not find it says so in one line; where
//! the variable is set it fails instead, so that CI skips nothing by accident.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder, whether it is there or not.
pub(crate) fn folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("PROMPT_HARNESS_REFERENCES") {
        return PathBuf::from(folder);
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::home_dir().map(|it| it.join(".cache"));
    let cache = cache.or_else(home).unwrap_or_default();
    cache.join("prompt-harness/references")
}

/// A Python that can import all of `modules`; `None`, and a line that says so, if there is none.
pub(crate) fn python(modules: &[&str]) -> Option<PathBuf> {
    let python = folder().join("venv/bin/python");
    let import = format!("import {}", modules.join(", "));
    let is_there = python.is_file()
        && Command::new(&python)
            .args(["-c", &import])
            .output()
            .is_ok_and(|it| it.status.success());
    if is_there {
        return Some(python);
    }
    let reason = format!("no Python with {}", modules.join(", "));
    assert!(
        std::env::var_os("PROMPT_HARNESS_REFERENCES").is_none(),
        "{reason} at {}; run tests/references.sh",
        python.display()
    );
    skipped(&reason, &python);
    None
}

/// Says why a test did not run, past the capture of its output.
pub(crate) fn skipped(reason: &str, path: &Path) {
    use std::io::Write as _;
    let line = format!("skipped: {reason} at {}\n", path.display());
    std::io::stderr().write_all(line.as_bytes()).ok();
}
