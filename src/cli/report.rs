//! `harness report`: runs as one HTML file.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use harness::report::html::{self, PageRun};
use harness::table::{self, StoredRun, StoredToken, TableError};

use super::args::ReportArgs;
use super::exit::Exit;
use super::output::{self, OutputError};
use super::run_folder;

/// The file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write `{}`", .path.display())]
struct WriteError {
    path: PathBuf,
    source: io::Error,
}

/// Writes the page of the runs that were named.
pub(super) fn run(args: &ReportArgs) -> Result<Exit, OutputError> {
    let Some(runs) = read(args) else {
        return Ok(Exit::Refused);
    };
    let pages: Vec<PageRun<'_>> = runs
        .iter()
        .map(|(run, tokens)| PageRun {
            run,
            tokens: tokens.as_deref(),
        })
        .collect();
    let page = match html::page(&pages) {
        Ok(page) => page,
        Err(err) => {
            output::error(&err, None);
            return Ok(Exit::Refused);
        }
    };
    if args.output == Path::new("-") {
        output::as_it_is(&page)?;
        return Ok(Exit::Done);
    }
    if let Err(source) = replace(&args.output, page.as_bytes()) {
        let path = args.output.clone();
        let err = WriteError { path, source };
        output::error(&err, Some("name another file with `-o FILE`"));
        return Ok(Exit::Refused);
    }
    output::note(&format!(
        "wrote {} ({:.1} MB)",
        args.output.display(),
        page.len() as f64 / 1e6
    ));
    Ok(Exit::Done)
}

/// The runs with their tokens, each once; `None` after the first one that is not there or
/// cannot be read was told.
fn read(args: &ReportArgs) -> Option<Vec<(StoredRun, Option<Vec<StoredToken>>)>> {
    let mut folders: Vec<PathBuf> = Vec::new();
    for name in &args.runs {
        match table::resolve(&args.results.folder, name) {
            Ok(folder) if folders.contains(&folder) => {}
            Ok(folder) => folders.push(folder),
            Err(err) => {
                output::error(&err, err.hint());
                return None;
            }
        }
    }
    let read = |folder: &PathBuf| -> Option<_> {
        let tables =
            || -> Result<_, TableError> { Ok((table::read(folder)?, table::read_tokens(folder)?)) };
        let told = |err: &TableError| {
            output::error(err, run_folder::hint(folder, err.hint()).as_deref());
        };
        tables().inspect_err(told).ok()
    };
    folders.iter().map(read).collect()
}

/// Writes the file beside its place and renames it: a reader sees the old page or the new one.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Neither a device nor a pipe is replaced by a file.
    if path
        .metadata()
        .is_ok_and(|it| !it.is_file() && !it.is_dir())
    {
        return File::create(path)?.write_all(bytes);
    }
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    let mut builder = tempfile::Builder::new();
    builder.prefix(".").suffix(".partial");
    // Readable by others as far as the umask allows, as any file that a command writes.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|it| it.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_replaced_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        replace(&path, b"old").unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert!(replace(&folder.path().join("missing/report.html"), b"new").is_err());
        assert!(
            replace(folder.path(), b"new").is_err(),
            "a folder stays one"
        );
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(names.len(), 1, "nothing is left over");
    }
}
