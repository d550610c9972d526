//! Builds the unit tests as `.cargo/mutants.toml` says, and reads what rustc answers.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::Failure;
use crate::splice::Place;

/// What came of a build.
pub(crate) struct Built {
    succeeded: bool,
    messages: Vec<Value>,
    stderr: String,
}

/// Builds the unit tests of the copy.
pub(crate) fn tests(copy: &Path) -> Result<Built, Failure> {
    let cargo = Command::new("cargo")
        .current_dir(copy)
        .args([
            "test",
            "--no-run",
            "--lib",
            "--release",
            "--no-default-features",
        ])
        .args([
            "--config",
            "profile.release.package.prompt-harness.opt-level=1",
        ])
        .args(["--message-format", "json"])
        .output()?;
    let lines = String::from_utf8(cargo.stdout)?;
    Ok(Built {
        succeeded: cargo.status.success(),
        messages: lines
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?,
        stderr: String::from_utf8_lossy(&cargo.stderr).into_owned(),
    })
}

impl Built {
    /// Where rustc found fault; `None` if it did not.
    pub(crate) fn errors(&self) -> Option<Vec<Place>> {
        if self.succeeded {
            return None;
        }
        let errors = self
            .messages
            .iter()
            .map(|it| &it["message"])
            .filter(|it| it["level"] == "error");
        let spans = errors.flat_map(|it| it["spans"].as_array().into_iter().flatten());
        let primary = spans.filter(|it| it["is_primary"] == true);
        Some(primary.filter_map(place).collect())
    }

    /// The program that holds the tests.
    pub(crate) fn executable(&self) -> Result<PathBuf, Failure> {
        let mut executables = self
            .messages
            .iter()
            .filter_map(|it| it["executable"].as_str());
        let last = executables.next_back();
        last.map(PathBuf::from)
            .ok_or_else(|| self.stderr.clone().into())
    }
}

/// File and line of a span, outside of all macros.
fn place(span: &Value) -> Option<Place> {
    let mut span = span;
    while let Some(outer) = span["expansion"].get("span") {
        span = outer;
    }
    let line = span["line_start"].as_u64()?;
    Some((span["file_name"].as_str()?.to_owned(), line as usize))
}
