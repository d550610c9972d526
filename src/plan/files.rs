//! Files that an experiment names: within its reach, and regular.

use std::path::PathBuf;

use crate::experiment::{Diagnostic, Experiment, Spanned};
use crate::reach::ReachError;

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
    let Ok(reach) = experiment.reach() else {
        let message = format!(
            "the folder `{}` cannot be read",
            experiment.folder.display()
        );
        return refuse(message, "", "check the permissions of the folder");
    };
    let path = match reach.follow(&experiment.resolve(&written.value)) {
        Ok(path) => path,
        Err(ReachError::Missing(_)) => {
            return refuse(
                format!("there is no {what} `{shown}`"),
                "no such file",
                "paths are relative to the folder of the experiment file",
            );
        }
        Err(ReachError::Outside(outside)) => {
            return refuse(
                format!("the {what} `{shown}` lies outside the experiment's folder"),
                "leads outside",
                &format!(
                    "an experiment reads only files in its own folder and below; copy the file \
                     there, or allow its folder with `{}`",
                    outside.flag()
                ),
            );
        }
    };
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
