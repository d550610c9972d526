//! Models on the hub: `hf:OWNER/REPO@REVISION[/FILE]` to files on this machine.
//!
//! The cache that Hugging Face's own libraries keep is read first and written in its own
//! layout, so that a model is fetched once for all tools. A revision that is a commit and
//! complete in the cache needs no network; a branch or tag is asked for its commit each
//! time, and the commit is what a run records.
//!
//! Promise: what is returned has the sizes and digests that the hub announced, or was in the
//! cache before; the token is sent to the endpoint only, and never without encryption to
//! another machine; nothing is sent offline. Limits: models only, no data sets; no `.bin` and
//! other formats that can run code; a `.gguf` file that is split is refused.
//!
//! Reference for names, headers and layout: `huggingface_hub` 2.4 (`file_download.py`).

mod address;
mod api;
mod cache;
mod contents;
mod download;
mod error;
mod http;
mod settings;

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::ModelError;
use super::builtin::PullProgress;
use super::folder;

use self::api::{Hub, Listing};
use self::cache::{Cache, is_commit};
use self::contents::{Choice, INDEX, OPTIONAL};
use self::download::{Download, Step};
pub use self::error::HubError;
use self::http::Client;
pub use self::settings::{Endpoint, Patience, Settings, Token, cache_folder};

/// Largest tokenizer file, in bytes.
const MAX_TOKENIZER_BYTES: u64 = 256 << 20;
/// Largest other settings file, in bytes.
const MAX_SETTINGS_BYTES: u64 = 16 << 20;

/// What a source names on the hub; every part is a plain name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HubSource<'a> {
    /// Who publishes it.
    pub owner: &'a str,
    /// The repository.
    pub repo: &'a str,
    /// The commit, tag or branch.
    pub revision: &'a str,
    /// One `.gguf` file of it.
    pub file: Option<&'a str>,
}

/// A model of the hub on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The `.gguf` file or the checkpoint folder.
    pub path: PathBuf,
    /// The commit that the revision had.
    pub commit: String,
}

/// Makes sure that the model is in the hub's cache, and says where.
///
/// `progress` is called while something is fetched, with the bytes of all files together,
/// and while another process fetches it.
///
/// # Errors
///
/// [`HubError`] as [`ModelError::Hub`] says what is wrong, what is kept and what to do; a
/// checkpoint that the engine cannot compute is refused before its weights are fetched.
pub fn fetch(
    source: &HubSource<'_>,
    settings: &Settings,
    progress: &mut dyn FnMut(PullProgress),
) -> Result<Fetched, ModelError> {
    let id = format!("{}/{}", source.owner, source.repo);
    let local = Local {
        source: *source,
        cache: Cache::of(&settings.cache, &id),
        id: &id,
    };
    if let Some(file) = source.file {
        local.check_file(file)?;
    }
    if settings.offline {
        return local.offline(settings).map_err(ModelError::Hub);
    }
    if let Some(found) = local.pinned() {
        return Ok(found);
    }
    let client = Client::new(settings)?;
    let mut remote = Remote {
        hub: Hub::new(&client, &id),
        client: &client,
        local: &local,
        tally: Tally {
            progress,
            n_done: 0,
            n_total: 0,
        },
    };
    let fetched = match source.file {
        Some(file) => remote.one(file)?,
        None => remote.whole()?,
    };
    if 0 < remote.tally.n_total {
        let path = fetched.path.clone();
        (remote.tally.progress)(PullProgress::Done { path });
    }
    Ok(fetched)
}

/// What is in the cache.
struct Local<'a> {
    source: HubSource<'a>,
    cache: Cache,
    /// `OWNER/REPO`.
    id: &'a str,
}

impl Local<'_> {
    /// Refuses a file that could not be opened, before it is fetched.
    fn check_file(&self, file: &str) -> Result<(), HubError> {
        let (repo, name) = (self.id.to_owned(), file.to_owned());
        if !contents::is_safe(file) {
            return Err(HubError::BadName { repo, name });
        }
        if !contents::is_gguf(file) {
            return Err(HubError::NotGguf { repo, file: name });
        }
        if contents::is_split_gguf(file) {
            return Err(HubError::SplitGguf { repo, file: name });
        }
        Ok(())
    }

    /// What the cache has for a revision that is a commit, if nothing can be missing.
    fn pinned(&self) -> Option<Fetched> {
        let commit = Some(self.source.revision).filter(|it| is_commit(it))?;
        let is_known = self.source.file.is_some() || self.is_complete(commit);
        is_known.then(|| self.cached(commit).ok()).flatten()
    }

    /// Whether what the cache has of the commit is all that would be fetched.
    fn is_complete(&self, commit: &str) -> bool {
        let revision = self.source.revision;
        let here = self.cache.files(commit);
        if let Some(all) = self.cache.tree(commit) {
            return match contents::choose(self.id, revision, &all) {
                Ok(Choice::Gguf(file)) => here.contains(&file),
                Ok(Choice::Checkpoint { settings, single }) => {
                    settings.iter().chain(&single).all(|it| here.contains(it))
                }
                Err(_) => false,
            };
        }
        let is_usual = here.contains(contents::SINGLE) || here.contains(INDEX);
        is_usual
            && OPTIONAL
                .iter()
                .all(|it| here.contains(*it) || self.cache.is_absent(commit, it))
    }

    /// What the cache has for the revision, or what it lacks.
    fn offline(&self, settings: &Settings) -> Result<Fetched, HubError> {
        let revision = self.source.revision;
        let commit = self.cache.commit_of(revision);
        commit
            .ok_or_else(|| format!("it holds no commit for `{revision}`"))
            .and_then(|it| self.cached(&it))
            .map_err(|reason| HubError::Offline {
                source_text: self.source.to_string(),
                cache: settings.cache.clone(),
                reason,
            })
    }

    /// What the cache has of the commit, or what it lacks.
    fn cached(&self, commit: &str) -> Result<Fetched, String> {
        let lacks = |file: &str| format!("it holds no `{file}` of the commit {commit}");
        let here = self.cache.files(commit);
        let found = |path: PathBuf| Fetched {
            path,
            commit: commit.to_owned(),
        };
        if let Some(file) = self.source.file {
            let path = self.cache.pointer(commit, file);
            return if path.is_file() {
                Ok(found(path))
            } else {
                Err(lacks(file))
            };
        }
        if here.is_empty() {
            return Err(format!("it holds no file of the commit {commit}"));
        }
        match contents::choose(self.id, self.source.revision, &here).map_err(|it| it.to_string())? {
            Choice::Gguf(file) => Ok(found(self.cache.pointer(commit, &file))),
            Choice::Checkpoint { single, .. } => {
                if single.is_none() {
                    let shards = self.shards(commit)?;
                    if let Some(missing) = shards.iter().find(|it| !here.contains(*it)) {
                        return Err(lacks(missing));
                    }
                }
                Ok(found(self.cache.snapshot(commit)))
            }
        }
    }

    /// The weights files that the commit's index lists.
    fn shards(&self, commit: &str) -> Result<BTreeSet<String>, String> {
        let path = self.cache.pointer(commit, INDEX);
        let bytes =
            std::fs::read(&path).map_err(|err| format!("`{INDEX}` cannot be read: {err}"))?;
        contents::shards(&bytes)
    }
}

/// What is on the hub.
struct Remote<'a, 'p> {
    hub: Hub<'a>,
    client: &'a Client<'a>,
    local: &'a Local<'a>,
    tally: Tally<'p>,
}

impl Remote<'_, '_> {
    /// Fetches the one file that the source names.
    fn one(&mut self, file: &str) -> Result<Fetched, HubError> {
        let revision = self.local.source.revision;
        let remote = self.hub.file(revision, file)?;
        let commit = remote.commit.clone();
        let path = self.local.cache.pointer(&commit, file);
        if !path.is_file() {
            self.tally.n_total = remote.size.unwrap_or(1);
            self.take(&remote, file, u64::MAX)?;
        }
        self.local.cache.write_reference(revision, &commit)?;
        Ok(Fetched { path, commit })
    }

    /// Fetches what makes a model of the repository.
    fn whole(&mut self) -> Result<Fetched, ModelError> {
        let (local, revision) = (self.local, self.local.source.revision);
        let listing = match self.hub.listing(revision) {
            // The files of a commit never change, and what a model needs is here.
            Err(err) if err.is_out_of_reach() && is_commit(revision) => {
                return local.cached(revision).map_err(|_| ModelError::Hub(err));
            }
            it => it?,
        };
        let names = listing.files.keys().cloned().collect();
        let commit = listing.commit.clone();
        let path = match contents::choose(local.id, revision, &names)? {
            Choice::Gguf(file) => {
                local.check_file(&file)?;
                self.tally.n_total = self.missing_bytes(&listing, [file.as_str()]);
                self.ensure(&commit, &file, u64::MAX)?;
                local.cache.pointer(&commit, &file)
            }
            Choice::Checkpoint { settings, single } => {
                self.checkpoint(&listing, &settings, single)?;
                for absent in OPTIONAL.iter().filter(|it| !names.contains(**it)) {
                    local.cache.write_absent(&commit, absent)?;
                }
                local.cache.snapshot(&commit)
            }
        };
        // Last, so that the revision never leads to a commit that is not all there.
        local.cache.write_reference(revision, &commit)?;
        Ok(Fetched { path, commit })
    }

    /// Fetches settings, then weights, which are large.
    fn checkpoint(
        &mut self,
        listing: &Listing,
        settings: &[String],
        single: Option<String>,
    ) -> Result<(), ModelError> {
        let (local, commit) = (self.local, &listing.commit);
        let is_likely = |it: &&String| match &single {
            Some(single) => *it == single,
            None => contents::is_shard(it),
        };
        let likely = listing.files.keys().filter(is_likely);
        let files = settings.iter().chain(likely).map(String::as_str);
        self.tally.n_total = self.missing_bytes(listing, files);
        for file in settings {
            self.ensure(commit, file, most_bytes(file))?;
        }
        // An architecture that is not supported should not cost a large download.
        folder::check_config(&local.cache.snapshot(commit))?;
        let no_model = |reason: String| HubError::NoModel {
            repo: local.id.to_owned(),
            reason,
        };
        let weights = match single {
            Some(single) => BTreeSet::from([single]),
            None => local.shards(commit).map_err(no_model)?,
        };
        for file in &weights {
            if !listing.files.contains_key(file) {
                let reason = format!("its `{INDEX}` lists `{file}`, which is not there");
                return Err(no_model(reason).into());
            }
        }
        for file in &weights {
            self.ensure(commit, file, u64::MAX)?;
        }
        Ok(())
    }

    /// Makes sure that a file of the commit is in the cache.
    fn ensure(&mut self, commit: &str, file: &str, most: u64) -> Result<(), HubError> {
        if self.local.cache.pointer(commit, file).is_file() {
            return Ok(());
        }
        let remote = self.hub.file(commit, file)?;
        self.take(&remote, file, most)
    }

    /// Fetches the file's bytes, unless they are here under another name or commit.
    fn take(&mut self, remote: &api::RemoteFile, file: &str, most: u64) -> Result<(), HubError> {
        let (local, tally) = (self.local, &mut self.tally);
        if !local.cache.blob(&remote.etag).is_file() {
            let download = Download {
                client: self.client,
                hub: &self.hub,
                cache: &local.cache,
                repo: local.id,
                file,
                remote,
                most,
            };
            download.run(&mut |step| tally.step(step))?;
        }
        tally.n_done += remote.size.unwrap_or(0);
        local.cache.link(&remote.commit, file, &remote.etag)?;
        Ok(())
    }

    /// Size of those files that are not in the cache, as far as the hub says it.
    fn missing_bytes<'f>(
        &self,
        listing: &Listing,
        files: impl IntoIterator<Item = &'f str>,
    ) -> u64 {
        let is_missing = |it: &&str| !self.local.cache.pointer(&listing.commit, it).is_file();
        let size = |it: &str| listing.files.get(it).copied().flatten();
        let files = files.into_iter().filter(is_missing);
        files.fold(0, |sum, it| sum.saturating_add(size(it).unwrap_or(1)))
    }
}

fn most_bytes(file: &str) -> u64 {
    match file {
        "tokenizer.json" | "vocab.json" | "merges.txt" => MAX_TOKENIZER_BYTES,
        _ => MAX_SETTINGS_BYTES,
    }
}

/// How much of all files has come.
struct Tally<'p> {
    progress: &'p mut dyn FnMut(PullProgress),
    /// Bytes of the files that are done.
    n_done: u64,
    /// Bytes of all files.
    n_total: u64,
}

impl Tally<'_> {
    fn step(&mut self, step: Step) {
        let (Step::Fetched(of_file) | Step::Waiting(of_file)) = step;
        let n_bytes = self.n_done.saturating_add(of_file);
        let total_bytes = self.n_total.max(n_bytes);
        (self.progress)(match step {
            Step::Fetched(_) => PullProgress::Downloading {
                n_bytes,
                total_bytes,
            },
            Step::Waiting(_) => PullProgress::Waiting {
                n_bytes,
                total_bytes,
            },
        });
    }
}

impl std::fmt::Display for HubSource<'_> {
    /// As it is written in an experiment file.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let revision = self.revision.replace('/', "%2F");
        write!(f, "hf:{}/{}@{revision}", self.owner, self.repo)?;
        self.file.map_or(Ok(()), |file| write!(f, "/{file}"))
    }
}
