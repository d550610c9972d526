//! `harness check` in continuous integration: reports as files, annotations, the step's summary.
//!
//! Annotations go to stderr, of which the runner of GitHub Actions reads commands as it does of
//! stdout: so results can be redirected, and `--json` stays JSON. A report that cannot be written
//! is told and makes the command incomplete, but never hides the verdict.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use harness::report::{Checked, Unjudged, github, junit, markdown};

use super::args::CheckArgs;
use super::check;
use super::exit::Exit;
use super::output;

/// A report could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the report `{}`", .path.display())]
struct ReportFileError {
    path: PathBuf,
    source: io::Error,
}

/// Writes what the flags ask for.
pub(super) fn write(args: &CheckArgs, checked: &Checked<'_>) -> Exit {
    write_all(
        args,
        &Texts {
            junit: &|| junit::xml(checked),
            github: &|file| github::annotations(checked, file),
            markdown: &|limit| markdown::text(checked, limit),
        },
    )
}

/// The same for a check that came to no verdict: the reports say why.
pub(super) fn write_unjudged(args: &CheckArgs, end: &check::Unjudged) -> Exit {
    let (file, command) = (args.file.display().to_string(), command());
    let unjudged = Unjudged {
        file: &file,
        state: match end.exit {
            Exit::Interrupted | Exit::Terminated => "interrupted",
            Exit::Refused => "refused",
            _ => "incomplete",
        },
        why: &end.why,
        hint: end.hint,
        command: &command,
        version: env!("CARGO_PKG_VERSION"),
    };
    write_all(
        args,
        &Texts {
            junit: &|| junit::unjudged(&unjudged),
            github: &|file| github::unjudged(&unjudged, file),
            markdown: &|_| markdown::unjudged(&unjudged),
        },
    )
}

/// What makes the text for each place.
struct Texts<'a> {
    junit: &'a dyn Fn() -> String,
    /// For the experiment file at this path from the root.
    github: &'a dyn Fn(&str) -> String,
    /// At most so many bytes.
    markdown: &'a dyn Fn(usize) -> String,
}

fn write_all(args: &CheckArgs, texts: &Texts<'_>) -> Exit {
    let mut results = Vec::new();
    if let Some(path) = &args.junit {
        results.push((path.clone(), replace(path, &(texts.junit)())));
    }
    if let Some(path) = &args.markdown {
        let text = (texts.markdown)(markdown::COMMENT_LIMIT);
        results.push((path.clone(), replace(path, &text)));
    }
    if args.github {
        let workspace = std::env::var_os("GITHUB_WORKSPACE").map(PathBuf::from);
        let file = from_root(&args.file, workspace.as_deref());
        output::commands(&(texts.github)(&file));
        let summary = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|it| !it.is_empty());
        if let Some(path) = summary.map(PathBuf::from) {
            let result = append(&path, texts.markdown);
            results.push((path, result));
        }
    }
    let mut exit = Exit::Done;
    for (path, result) in results {
        if let Err(source) = result {
            output::error(&ReportFileError { path, source }, None);
            exit = exit.worst(Exit::Incomplete);
        }
    }
    exit
}

/// The command line as it was typed, without what asks for reports.
pub(super) fn command() -> String {
    let args = std::env::args_os().skip(1);
    let words = without_reports(args);
    let words = words.iter().map(|it| output::shell_word(Path::new(it)));
    let words: Vec<String> = std::iter::once("harness".to_owned()).chain(words).collect();
    words.join(" ")
}

fn without_reports(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut args = args;
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy();
        if text == "--junit" || text == "--markdown" {
            // Its value.
            args.next();
        } else if text != "--github"
            && !text.starts_with("--junit=")
            && !text.starts_with("--markdown=")
        {
            kept.push(arg);
        }
    }
    kept
}

/// The path from the root of the checkout, with `/`; as it was named if it lies elsewhere.
fn from_root(file: &Path, workspace: Option<&Path>) -> String {
    let inside = || {
        let root = workspace?.canonicalize().ok()?;
        let whole = file.canonicalize().ok()?;
        whole.strip_prefix(root).ok().map(Path::to_path_buf)
    };
    let path = inside().unwrap_or_else(|| file.to_path_buf());
    let parts = path.display().to_string();
    if cfg!(windows) {
        parts.replace('\\', "/")
    } else {
        parts
    }
}

/// Writes the file as a whole or not at all; what is no plain file, such as a pipe, is written to.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let target = match path.canonicalize() {
        Ok(found) if !found.is_file() => return fs::write(path, text),
        // A link keeps leading where it does.
        Ok(found) => found,
        Err(_) => path.to_path_buf(),
    };
    let folder = target.parent().filter(|it| *it != OsStr::new(""));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".").suffix(".partial");
    // Others may read it as far as the umask lets them.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(&target).map_err(|it| it.error)?;
    Ok(())
}

/// Appends to the step's summary, which earlier commands may have begun.
fn append(path: &Path, markdown: &dyn Fn(usize) -> String) -> io::Result<()> {
    let taken = fs::metadata(path).map_or(0, |it| usize::try_from(it.len()).unwrap_or(usize::MAX));
    let left = markdown::SUMMARY_LIMIT.saturating_sub(taken);
    if left < markdown::MIN_LIMIT {
        return Err(io::Error::other("the summary of this step is full"));
    }
    let mut file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)?;
    // What is there may end within a paragraph.
    let text = format!("\n{}", markdown(left - 1));
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_shown_without_its_reports() {
        let args = "check a.toml --junit j.xml --limit 5 --github --markdown=m.md --junit=x -q";
        let kept = without_reports(args.split(' ').map(OsString::from));
        assert_eq!(kept, ["check", "a.toml", "--limit", "5", "-q"]);
    }

    #[test]
    fn an_annotation_names_the_path_from_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let nested = folder.path().join("prompts");
        fs::create_dir(&nested).unwrap();
        let file = nested.join("a.toml");
        fs::write(&file, "").unwrap();
        assert_eq!(from_root(&file, Some(folder.path())), "prompts/a.toml");
        let around = nested.join("../prompts/a.toml");
        assert_eq!(from_root(&around, Some(folder.path())), "prompts/a.toml");
        let plain = Path::new("elsewhere/a.toml");
        assert_eq!(from_root(plain, Some(folder.path())), "elsewhere/a.toml");
        assert_eq!(from_root(plain, None), "elsewhere/a.toml");
    }

    #[test]
    fn a_report_replaces_the_old_one_and_nothing_is_left_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("junit.xml");
        replace(&path, "old and long").unwrap();
        replace(&path, "new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(replace(&folder.path().join("none/junit.xml"), "new").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_and_a_device_stay_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let [path, link] = ["junit.xml", "link"].map(|it| folder.path().join(it));
        fs::write(&path, "old").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        replace(&link, "new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert!(link.is_symlink());
        replace(Path::new("/dev/null"), "new").unwrap();
        assert!(!Path::new("/dev/null").is_file());
    }
}
