//! Where the other implementations are that tests compare with.
//!
//! `tests/references.sh` installs them and `PROMPT_HARNESS_REFERENCES` names the folder.
//! Without the variable a test that needs them says so and passes; with it, what is
//! missing in the folder is a failure, so that a test is never skipped by accident.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The folder of the references; `None` if there is none, which is said once.
pub(super) fn folder() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let Some(folder) = std::env::var_os("PROMPT_HARNESS_REFERENCES") else {
            // The test runner swallows what `println!` says in a test that passes.
            let line = "skipped: what compares with other implementations; \
                        see tests/references.sh\n";
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            return None;
        };
        let folder = PathBuf::from(folder);
        assert!(
            folder.join("stamp").is_file(),
            "`{}` is not complete; run tests/references.sh",
            folder.display()
        );
        Some(folder)
    });
    folder.as_deref()
}

/// The Python that has the references' packages.
pub(super) fn python(folder: &Path) -> Command {
    Command::new(folder.join("venv/bin/python"))
}
