//! Why a model on the hub could not be had, and what to do about it.
//!
//! No message holds a token, a user name of an address, or the query of an address, which
//! may carry a signature; what a server said comes without control characters.

use std::path::PathBuf;

/// Why a model on the hub is not there.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each field is named in its variant's message")]
pub enum HubError {
    /// No variable says where the hub's cache is.
    #[error("there is no place for models of the hub")]
    NoCacheFolder,
    /// `HF_ENDPOINT` is not an address that can be used.
    #[error("`HF_ENDPOINT` {reason}")]
    BadEndpoint { reason: &'static str },
    /// A token that cannot be sent.
    #[error("the token in {place} is not one line of visible ASCII characters")]
    BadToken { place: String },
    /// A proxy's address that cannot be used.
    #[error("the proxy in `{variable}` cannot be used: it has to be http:// or https://")]
    BadProxy { variable: &'static str },
    /// A token would travel without encryption.
    #[error("the token would be sent to {host} without encryption")]
    TokenOverHttp { host: String },
    /// A name that is not a plain path below a folder.
    #[error("`{repo}` has a file with the name `{name}`, which is not used as a path")]
    BadName { repo: String, name: String },
    /// A source names a file that is no `.gguf` file.
    #[error("`{file}` of `{repo}` is not a `.gguf` file")]
    NotGguf { repo: String, file: String },
    /// A model that is split over several `.gguf` files.
    #[error("`{file}` of `{repo}` is one part of a split model, which is not read")]
    SplitGguf { repo: String, file: String },
    /// Not in the cache, and fetching is not allowed.
    #[error("`{source_text}` is not in the hub's cache `{}` and this run is offline: {reason}", .cache.display())]
    Offline {
        source_text: String,
        cache: PathBuf,
        reason: String,
    },
    /// The hub wants a token, or does not accept the one it got.
    #[error("{host} does not give `{repo}` {}{}", if *.has_token { "for this token" } else { "without a token" }, told(.said))]
    Unauthorized {
        repo: String,
        host: String,
        has_token: bool,
        said: String,
    },
    /// The repository's terms have to be accepted first.
    #[error("`{repo}` is gated: {host} gives it only to those who accepted its terms{}", told(.said))]
    Gated {
        repo: String,
        host: String,
        has_token: bool,
        said: String,
    },
    /// The token's owner may not read it.
    #[error("{host} refuses `{repo}` (status 403){}", told(.said))]
    Forbidden {
        repo: String,
        host: String,
        said: String,
    },
    /// No such repository, or one that may not be seen.
    #[error("there is no model `{repo}` on {host}, or it is private")]
    RepoMissing { repo: String, host: String },
    /// No such branch, tag or commit.
    #[error("`{repo}` has no revision `{revision}`")]
    RevisionMissing {
        repo: String,
        revision: String,
        near: Vec<String>,
    },
    /// No such file at the revision.
    #[error("`{repo}` has no file `{file}` at `{revision}`")]
    FileMissing {
        repo: String,
        revision: String,
        file: String,
        near: Vec<String>,
    },
    /// An answer that no retry changes.
    #[error("{host} answers with status {status}{}", told(.said))]
    Status {
        host: String,
        status: u16,
        said: String,
    },
    /// Too many requests.
    #[error("{host} takes no more requests for now{}", .wait_s.map_or_else(String::new, |s| format!(", try again in {s} s")))]
    RateLimited { host: String, wait_s: Option<u64> },
    /// The server failed again and again.
    #[error("{host} failed {n_attempts} times, last with status {status}")]
    ServerFailed {
        host: String,
        status: u16,
        n_attempts: u32,
    },
    /// No connection.
    #[error("{host} cannot be reached: {reason}")]
    Unreachable { host: String, reason: String },
    /// The connection broke again and again.
    #[error("the connection to {host} was cut {n_attempts} times{}: {reason}", of_file(.file.as_deref()))]
    Cut {
        host: String,
        file: Option<String>,
        reason: String,
        n_attempts: u32,
    },
    /// Nothing arrived for too long, again and again.
    #[error("{host} sent nothing for {idle_s} s, {n_attempts} times{}", of_file(.file.as_deref()))]
    Stalled {
        host: String,
        file: Option<String>,
        idle_s: u64,
        n_attempts: u32,
    },
    /// More or fewer bytes than announced.
    #[error(
        "`{file}` of `{repo}` has {found} bytes, but {expected} were announced; nothing of it was kept"
    )]
    WrongSize {
        repo: String,
        file: String,
        found: u64,
        expected: u64,
    },
    /// Other bytes than announced.
    #[error(
        "`{file}` of `{repo}` has the {algorithm} {found}, but {expected} was announced; nothing of it was kept"
    )]
    WrongDigest {
        repo: String,
        file: String,
        algorithm: &'static str,
        found: String,
        expected: String,
    },
    /// A settings file beyond all reason.
    #[error(
        "`{file}` of `{repo}` is larger than {most} bytes, which no such file needs; nothing of it was kept"
    )]
    TooLarge {
        repo: String,
        file: String,
        most: u64,
    },
    /// An answer that a hub does not give.
    #[error("{host} does not answer like a hub: {reason}")]
    BadReply { host: String, reason: String },
    /// A redirection from https to http.
    #[error("{host} leads on to {to} without encryption, which is refused")]
    InsecureRedirect { host: String, to: String },
    /// The files are no model that can be opened.
    #[error("`{repo}` is no model that can be used: {reason}")]
    NoModel { repo: String, reason: String },
    /// Several `.gguf` files and no other weights.
    #[error("`{repo}` has {} `.gguf` files: {}", .files.len(), listed(.files))]
    ManyGguf {
        repo: String,
        revision: String,
        files: Vec<String>,
    },
    /// No space for the file.
    #[error("there is no space left for `{}`", .path.display())]
    DiskFull {
        path: PathBuf,
        source: std::io::Error,
    },
    /// A file or folder of the hub's cache cannot be used.
    #[error("cannot use `{}`", .path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
}

impl HubError {
    /// The error of a file operation on `path`.
    pub(super) fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        let path = path.to_owned();
        move |source| match source.kind() {
            StorageFull | QuotaExceeded => Self::DiskFull { path, source },
            _ => Self::Io { path, source },
        }
    }

    /// Whether the hub could not be asked at all, as opposed to having said no.
    pub(super) fn is_out_of_reach(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Cut { .. }
                | Self::Stalled { .. }
                | Self::ServerFailed { .. }
                | Self::RateLimited { .. }
        )
    }

    /// What to do about it, if anything can be done.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoCacheFolder => "set `HF_HOME` to a folder".to_owned(),
            Self::BadEndpoint { .. } => {
                "write it as https://HOST, or delete the variable for the public hub".to_owned()
            }
            Self::BadToken { .. } => {
                "`hf auth login` writes a new one; HF_HUB_DISABLE_IMPLICIT_TOKEN=1 sends none"
                    .to_owned()
            }
            Self::BadProxy { .. } => {
                "mend the variable, or add the host to `NO_PROXY`".to_owned()
            }
            Self::TokenOverHttp { .. } => {
                "use an endpoint with https://, or HF_HUB_DISABLE_IMPLICIT_TOKEN=1 to send no token"
                    .to_owned()
            }
            Self::BadName { .. } | Self::SplitGguf { .. } => {
                "choose another file or another repository".to_owned()
            }
            Self::NotGguf { repo, .. } => format!(
                "leave the file out for a checkpoint in safetensors: `hf:{repo}@REVISION`"
            ),
            Self::Offline { source_text, .. } => format!(
                "run `harness models pull {source_text}` where there is a network, without \
                 --offline, HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE"
            ),
            Self::Unauthorized { has_token, .. } => unauthorized(*has_token).to_owned(),
            Self::Gated {
                repo,
                host,
                has_token,
                ..
            } => {
                let accept = format!("accept its terms at https://{host}/{repo}");
                if *has_token {
                    format!("{accept} with the account of the token")
                } else {
                    format!("{accept}, then set HF_TOKEN or run `hf auth login`")
                }
            }
            Self::Forbidden { .. } => {
                "give the token the right to read the repository's content".to_owned()
            }
            Self::RepoMissing { .. } => {
                "check the spelling; a private one needs HF_TOKEN, and HF_ENDPOINT says which hub is asked"
                    .to_owned()
            }
            Self::RevisionMissing { near, .. } | Self::FileMissing { near, .. } => {
                if near.is_empty() {
                    return None;
                }
                format!("there are: {}", listed(near))
            }
            Self::ManyGguf {
                repo,
                revision,
                files,
            } => format!(
                "name one: `hf:{repo}@{revision}/{}`",
                files.first().map_or("FILE", String::as_str)
            ),
            _ => return self.hint_of_transfer(),
        })
    }

    fn hint_of_transfer(&self) -> Option<String> {
        Some(match self {
            Self::Status { .. } | Self::BadReply { .. } | Self::InsecureRedirect { .. } => {
                "check HF_ENDPOINT and the proxy settings".to_owned()
            }
            Self::RateLimited { .. } => {
                "wait, or set HF_TOKEN: those who log in may ask more often".to_owned()
            }
            Self::Unreachable { reason, .. } if reason.contains("certificate") => {
                "add the certificate of its issuer to the system's, or name its file in SSL_CERT_FILE"
                    .to_owned()
            }
            Self::Unreachable { .. } => {
                "check the network, HF_ENDPOINT and HTTPS_PROXY; --offline uses what is in the cache"
                    .to_owned()
            }
            Self::Cut { .. } | Self::Stalled { .. } | Self::ServerFailed { .. } => {
                "what has arrived is kept: run the same command again to go on from there"
                    .to_owned()
            }
            Self::WrongSize { .. } | Self::WrongDigest { .. } => {
                "run it again; if it stays so, something between here and the hub changes files"
                    .to_owned()
            }
            Self::DiskFull { .. } => {
                "make room, or set HF_HUB_CACHE to a folder elsewhere; what has arrived is kept"
                    .to_owned()
            }
            Self::Io { .. } => {
                "HF_HUB_CACHE can name another folder for models of the hub".to_owned()
            }
            _ => return None,
        })
    }
}

fn unauthorized(has_token: bool) -> &'static str {
    if has_token {
        "check the repository's name, and that the token (HF_TOKEN, or from `hf auth login`) is valid and may read it"
    } else {
        "check the repository's name; a private or gated one needs HF_TOKEN or `hf auth login`"
    }
}

/// What the server said, to be put behind a message.
fn told(said: &str) -> String {
    if said.is_empty() {
        String::new()
    } else {
        format!(": {said}")
    }
}

fn of_file(file: Option<&str>) -> String {
    file.map_or_else(String::new, |it| format!(" during `{it}`"))
}

/// The first few names, and how many more there are.
fn listed(names: &[String]) -> String {
    const MOST: usize = 12;
    let shown = names[..names.len().min(MOST)].join(", ");
    match names.len().saturating_sub(MOST) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

impl HubError {
    /// The same error, after so many attempts.
    pub(super) fn after(mut self, n: u32) -> Self {
        if let Self::Cut { n_attempts, .. }
        | Self::Stalled { n_attempts, .. }
        | Self::ServerFailed { n_attempts, .. } = &mut self
        {
            *n_attempts = n;
        }
        self
    }

    /// The same error, while this file was on the way.
    pub(super) fn during(mut self, name: &str) -> Self {
        if let Self::Cut { file, .. } | Self::Stalled { file, .. } = &mut self {
            *file = Some(name.to_owned());
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};
    use std::path::Path;

    use super::*;

    #[test]
    fn a_full_disk_is_told_apart_from_other_faults() {
        let of = |kind: ErrorKind| HubError::io(Path::new("blobs/x"))(Error::from(kind));
        for kind in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded] {
            let err = of(kind);
            assert_eq!(err.to_string(), "there is no space left for `blobs/x`");
            assert!(err.hint().unwrap().contains("what has arrived is kept"));
        }
        let other = of(ErrorKind::PermissionDenied);
        assert_eq!(other.to_string(), "cannot use `blobs/x`");
        assert!(std::error::Error::source(&other).is_some());
    }

    #[test]
    fn a_long_list_is_cut() {
        let names: Vec<String> = (0..14).map(|it| it.to_string()).collect();
        assert!(listed(&names).ends_with("10, 11 and 2 more"));
        assert_eq!(listed(&names[..2]), "0, 1");
    }
}
