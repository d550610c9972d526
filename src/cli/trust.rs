//! Whether anyone on the machine may write where answers are read from.
//!
//! A stored answer carries a digest of key and value, which finds damage, not intent: whoever
//! may write to the store may put any answer into it. That is for the owner of the folder to
//! know, so it is told and not refused.

use std::path::{Path, PathBuf};

/// The first of the results, the folder of the store and the store that everyone may write to.
///
/// A folder with the sticky bit, as `/tmp` has it, is not counted: others may put files into it,
/// but not touch those that are there.
#[cfg(unix)]
pub(crate) fn open_to_all(results: &Path) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;

    const OTHERS_WRITE: u32 = 0o002;
    const STICKY: u32 = 0o1000;
    let below = [".store", ".store/responses.sqlite3"].map(|it| results.join(it));
    let mut places = std::iter::once(results.to_owned()).chain(below);
    places.find(|it| {
        std::fs::metadata(it).is_ok_and(|found| {
            let mode = found.permissions().mode();
            let is_shared = found.is_dir() && mode & STICKY != 0;
            mode & OTHERS_WRITE != 0 && !is_shared
        })
    })
}

/// Nothing is known of permissions elsewhere.
#[cfg(not(unix))]
pub(crate) fn open_to_all(_: &Path) -> Option<PathBuf> {
    None
}

/// What is said of such a place.
pub(crate) fn warning(place: &Path) -> String {
    format!(
        "warning: everyone on this machine may write to `{}`, and so forge the answers that runs \
         read: take that right away (`chmod o-w`), or name another folder with `--out`",
        place.display()
    )
}
