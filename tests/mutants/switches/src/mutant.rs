//! The mutants that cargo-mutants lists.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::Failure;

/// One change of one file.
#[derive(Debug, Clone)]
pub(crate) struct Mutant {
    /// From 1, in the order of the list; what the switch is set to.
    pub number: usize,
    /// As cargo-mutants prints it, with file, line and column.
    pub name: String,
    pub file: String,
    /// Line and column of the first character that is replaced, both from 1.
    pub start: (usize, usize),
    /// The same, behind the last one.
    pub end: (usize, usize),
    pub replacement: String,
}

impl Mutant {
    /// The folder below `src/`.
    pub(crate) fn room(&self) -> &str {
        self.file.split('/').nth(1).unwrap_or_default()
    }
}

/// Asks cargo-mutants, with the settings in `.cargo/mutants.toml`.
pub(crate) fn list(root: &Path) -> Result<Vec<Mutant>, Failure> {
    let listed = Command::new("cargo")
        .current_dir(root)
        .args(["mutants", "--list", "--json"])
        .output()?;
    if !listed.status.success() {
        return Err(String::from_utf8_lossy(&listed.stderr).into());
    }
    let values: Vec<Value> = serde_json::from_slice(&listed.stdout)?;
    let mutants = values.iter().enumerate().map(|(i, value)| {
        let text = |key: &str| value[key].as_str().map(str::to_owned);
        let place = |end: &str| {
            let number = |key: &str| value["span"][end][key].as_u64();
            Some((number("line")? as usize, number("column")? as usize))
        };
        Some(Mutant {
            number: i + 1,
            name: text("name")?,
            file: text("file")?,
            start: place("start")?,
            end: place("end")?,
            replacement: text("replacement")?,
        })
    });
    mutants
        .collect::<Option<_>>()
        .ok_or_else(|| "cargo-mutants lists something else than expected".into())
}
