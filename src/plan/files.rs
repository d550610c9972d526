//! Files that an experiment names: inside its folder tree, and regular.
//!
//! An experiment file may come from a stranger's pull request, so what it names is
//! resolved through links first and must then still lie under the file's folder.

use std::path::{Path, PathBuf};

use crate::experiment::{Diagnostic, Experiment, Spanned};

/// Where `written` leads, or why it may not be read.
///
/// # Errors
///
/// A diagnostic at the path in the experiment file.
pub(super) fn resolve(
    experiment: &Experiment,
    written: &Spanned<PathBuf>,
    what: &str,
) -> Result<PathBuf, Diagnostic> {
    let shown = written.value.display();
    let refuse = |message: String, label: &str, help: &str| {
        Err(Diagnostic::error(message)
            .at(&written.place, label)
            .help(help))
    };
    let folder = if experiment.folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        experiment.folder.as_path()
    };
    let Ok(root) = folder.canonicalize() else {
        let message = format!("the folder `{}` cannot be read", folder.display());
        return refuse(message, "", "check the permissions of the folder");
    };
    let Ok(path) = root.join(&written.value).canonicalize() else {
        return refuse(
            format!("there is no {what} `{shown}`"),
            "no such file",
            "paths are relative to the folder of the experiment file",
        );
    };
    if !path.starts_with(&root) {
        return refuse(
            format!("the {what} `{shown}` lies outside the experiment's folder"),
            "leads outside",
            "an experiment reads only files in its own folder and below; copy the file there",
        );
    }
    if !path.is_file() {
        return refuse(
            format!("the {what} `{shown}` is not a regular file"),
            "not a file",
            "name a file with examples",
        );
    }
    // Messages and manifests name the file as the user would type it.
    Ok(experiment.resolve(&written.value))
}
