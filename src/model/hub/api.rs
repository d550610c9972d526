//! What is asked of a hub about one repository: its files, a file's facts, its revisions.
//!
//! Every name that comes back and becomes part of a path is checked here.

use std::collections::BTreeMap;

use serde_json::Value;

use super::address::{encoded, encoded_path};
use super::cache::is_commit;
use super::error::HubError;
use super::http::{Client, Reply};

/// Largest listing that is read, in bytes.
const MAX_LISTING_BYTES: u64 = 64 << 20;
/// Names that are offered for a misspelt one.
const N_NEAR: usize = 5;

/// A repository on the hub.
pub(super) struct Hub<'a> {
    client: &'a Client<'a>,
    /// `OWNER/REPO`.
    id: &'a str,
}

/// The files of a revision.
#[derive(Debug)]
pub(super) struct Listing {
    /// The revision's commit.
    pub(super) commit: String,
    /// Size of each file in bytes, where the hub says it.
    pub(super) files: BTreeMap<String, Option<u64>>,
}

/// A file of a commit.
#[derive(Debug)]
pub(super) struct RemoteFile {
    /// The commit of the revision that was asked for.
    pub(super) commit: String,
    /// The name of its bytes: SHA-256 of the content, or the hash of its Git object.
    pub(super) etag: String,
    /// Its size in bytes.
    pub(super) size: Option<u64>,
}

impl<'a> Hub<'a> {
    pub(super) fn new(client: &'a Client<'a>, id: &'a str) -> Self {
        Self { client, id }
    }

    /// The files of the revision.
    pub(super) fn listing(&self, revision: &str) -> Result<Listing, HubError> {
        let path = format!(
            "/api/models/{}/revision/{}?blobs=true",
            self.id,
            encoded(revision)
        );
        let (reply, body) = self.client.read(&path, MAX_LISTING_BYTES)?;
        if reply.status != 200 {
            let refused = self.refused(&reply, revision, None);
            return Err(self.with_revisions(refused));
        }
        let root: Value = serde_json::from_slice(&body)
            .map_err(|err| reply.strange(&format!("its listing is not JSON ({err})")))?;
        let commit = root["sha"].as_str().filter(|it| is_commit(it));
        let commit = commit.ok_or_else(|| reply.strange("its listing has no commit"))?;
        let files = root["siblings"].as_array();
        let files = files.ok_or_else(|| reply.strange("its listing has no files"))?;
        let files = files.iter().filter_map(|it| {
            let name = it["rfilename"].as_str()?;
            Some((name.to_owned(), it["size"].as_u64()))
        });
        Ok(Listing {
            commit: commit.to_owned(),
            files: files.collect(),
        })
    }

    /// The facts of a file at the revision.
    pub(super) fn file(&self, revision: &str, file: &str) -> Result<RemoteFile, HubError> {
        let (reply, facts) = self.client.head(&self.address(revision, file))?;
        if !(200..400).contains(&reply.status) {
            let refused = self.refused(&reply, revision, Some(file));
            return Err(self.with_files(refused));
        }
        let commit = facts.commit.filter(|it| is_commit(it));
        let commit = commit
            .or_else(|| is_commit(revision).then(|| revision.to_owned()))
            .ok_or_else(|| reply.strange("it does not say the commit of a file"))?;
        if is_commit(revision) && commit != revision {
            return Err(reply.strange("it gives another commit than it was asked for"));
        }
        let etag = facts.etag.filter(|it| is_plain_etag(it));
        let etag = etag.ok_or_else(|| reply.strange("it gives a file no etag that can be used"))?;
        Ok(RemoteFile {
            commit,
            etag,
            size: facts.size,
        })
    }

    /// The file's path on the endpoint.
    pub(super) fn address(&self, revision: &str, file: &str) -> String {
        format!(
            "/{}/resolve/{}/{}",
            self.id,
            encoded(revision),
            encoded_path(file)
        )
    }

    /// Why an answer is not what was asked for.
    pub(super) fn refused(&self, reply: &Reply, revision: &str, file: Option<&str>) -> HubError {
        let (repo, host, said) = (self.id.to_owned(), reply.host.clone(), reply.said());
        let has_token = self.client.settings().token.is_some();
        match (reply.status, reply.code()) {
            (_, "GatedRepo") => HubError::Gated {
                repo,
                host,
                has_token,
                said,
            },
            (_, "RevisionNotFound") => HubError::RevisionMissing {
                repo,
                revision: revision.to_owned(),
                near: Vec::new(),
            },
            (404, code) if code != "RepoNotFound" && file.is_some() => HubError::FileMissing {
                repo,
                revision: revision.to_owned(),
                file: file.unwrap_or_default().to_owned(),
                near: Vec::new(),
            },
            (404, _) => HubError::RepoMissing { repo, host },
            // Without a token the hub does not say which of the two it is.
            (401, _) => HubError::Unauthorized {
                repo,
                host,
                has_token,
                said,
            },
            (403, _) => HubError::Forbidden { repo, host, said },
            (status, _) => HubError::Status { host, status, said },
        }
    }

    /// Adds the names of revisions that may have been meant.
    fn with_revisions(&self, error: HubError) -> HubError {
        let HubError::RevisionMissing { repo, revision, .. } = error else {
            return error;
        };
        let near = closest(&revision, self.revisions().unwrap_or_default());
        HubError::RevisionMissing {
            repo,
            revision,
            near,
        }
    }

    /// Adds the names of files that may have been meant; a listing that fails knows better.
    fn with_files(&self, error: HubError) -> HubError {
        let HubError::FileMissing {
            repo,
            revision,
            file,
            ..
        } = error
        else {
            return self.with_revisions(error);
        };
        let files = match self.listing(&revision) {
            Ok(listing) => listing.files,
            Err(it @ (HubError::RepoMissing { .. } | HubError::RevisionMissing { .. })) => {
                return it;
            }
            Err(_) => BTreeMap::new(),
        };
        let is_offered = |it: &String| super::contents::is_gguf(it);
        let near = closest(&file, files.into_keys().filter(is_offered).collect());
        HubError::FileMissing {
            repo,
            revision,
            file,
            near,
        }
    }

    /// The names of branches and tags.
    fn revisions(&self) -> Option<Vec<String>> {
        let path = format!("/api/models/{}/refs", self.id);
        let (reply, body) = self.client.read(&path, MAX_LISTING_BYTES).ok()?;
        let root: Value = (reply.status == 200)
            .then(|| serde_json::from_slice(&body).ok())
            .flatten()?;
        let of = |kind: &str| root[kind].as_array().cloned().unwrap_or_default();
        let all = of("branches").into_iter().chain(of("tags"));
        Some(
            all.filter_map(|it| it["name"].as_str().map(str::to_owned))
                .collect(),
        )
    }
}

/// The names that are closest to what was written, the best first.
fn closest(written: &str, mut names: Vec<String>) -> Vec<String> {
    let lower = written.to_lowercase();
    names.sort_by_cached_key(|it| strsim::damerau_levenshtein(&lower, &it.to_lowercase()));
    names.truncate(N_NEAR);
    names
}

/// Whether the etag can be the name of a file.
fn is_plain_etag(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    !text.is_empty() && text.len() <= 128 && text.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_is_a_plain_name_or_refused() {
        assert!(is_plain_etag("0ab9-Z_"));
        for it in ["", "..", "a/b", "a\\b", "a.b", "a b", &"a".repeat(129)] {
            assert!(!is_plain_etag(it), "{it}");
        }
    }

    #[test]
    fn near_names_come_closest_first() {
        let names = ["model-q8.gguf", "Model-Q4.gguf", "x.gguf"].map(str::to_owned);
        let near = closest("model-q4.ggu", names.to_vec());
        assert_eq!(near, ["Model-Q4.gguf", "model-q8.gguf", "x.gguf"]);
    }
}
