//! Models on the hub, against a server on loopback that answers as the public hub does.

mod binary;
mod refusals;
mod server;
mod transfer;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harness::experiment::ModelSource;
use harness::model::builtin::PullProgress;
use harness::model::hub::{
    Endpoint, Fetched, HubError, HubSource, Patience, Settings, Token, fetch,
};
use harness::model::{ModelError, OpenOptions, open};

use self::server::{Answer, COMMIT, Repo, Request, Server, git_hash, hub, hub_with, sha256};

const TOKEN: &str = "hf_hunter2";
/// A port that nobody listens on: the discard service.
const NOBODY: &str = "http://127.0.0.1:9";

/// A cache of its own.
struct Cache(tempfile::TempDir);

impl Cache {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A path in the repository's folder.
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("models--tiny--llama").join(name)
    }

    fn snapshot(&self) -> PathBuf {
        self.path("snapshots").join(COMMIT)
    }

    /// Settings with little patience.
    fn settings(&self, endpoint: &str) -> Settings {
        Settings {
            cache: self.0.path().to_owned(),
            endpoint: Endpoint::parse(endpoint).unwrap(),
            token: Token::parse(TOKEN, "the test").unwrap(),
            offline: false,
            patience: Patience {
                connect: Duration::from_secs(5),
                idle: Duration::from_secs(5),
                n_retries: 2,
                backoff: Duration::from_millis(1),
                longest_wait: Duration::from_secs(5),
            },
        }
    }

    fn fetch(&self, server: &Server, revision: &str) -> Result<Fetched, HubError> {
        self.fetch_file(server, revision, None)
    }

    fn fetch_file(
        &self,
        server: &Server,
        revision: &str,
        file: Option<&str>,
    ) -> Result<Fetched, HubError> {
        fetched(&self.settings(&server.address), revision, file)
    }

    /// Names in `blobs`, sorted.
    fn blobs(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path("blobs")).into_iter().flatten();
        let mut names: Vec<String> = entries
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// A snapshot as another tool leaves it, without notes about files that do not exist.
    fn fill(&self, files: &[&str]) {
        let all = Repo::tiny_llama("").files;
        for file in files {
            let path = self.snapshot().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, &all[*file]).unwrap();
        }
    }
}

fn source<'a>(revision: &'a str, file: Option<&'a str>) -> HubSource<'a> {
    HubSource {
        owner: "tiny",
        repo: "llama",
        revision,
        file,
    }
}

fn fetched(settings: &Settings, revision: &str, file: Option<&str>) -> Result<Fetched, HubError> {
    fetch(&source(revision, file), settings, &mut |_| {}).map_err(|err| match err {
        ModelError::Hub(err) => err,
        other => panic!("{other}"),
    })
}

/// All that a person would see of an error.
fn told(err: &HubError) -> String {
    let mut text = format!("{err}; {}", err.hint().unwrap_or_default());
    let mut cause = std::error::Error::source(err);
    while let Some(it) = cause {
        write!(text, "; {it}").unwrap();
        cause = it.source();
    }
    assert!(!text.contains("hunter2"), "{text}");
    assert!(!text.contains("signature"), "{text}");
    text
}

const CHECKPOINT: [&str; 5] = [
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// The layout is that of `huggingface_hub`: links from snapshots to blobs named by etag.
#[test]
fn a_checkpoint_lands_in_the_shared_cache() {
    let (hub, _cdn) = hub(Repo::tiny_llama);
    let cache = Cache::new();
    let mut steps = Vec::new();
    let settings = cache.settings(&hub.address);
    let it = fetch(&source("main", None), &settings, &mut |it| steps.push(it)).unwrap();
    assert_eq!((it.commit.as_str(), &it.path), (COMMIT, &cache.snapshot()));
    let files = Repo::tiny_llama("").files;
    let mut etags = Vec::new();
    for name in CHECKPOINT {
        let bytes = &files[name];
        let is_large = name.ends_with(".safetensors");
        let etag = if is_large {
            sha256(bytes)
        } else {
            git_hash(bytes)
        };
        let link = it.path.join(name);
        if cfg!(unix) {
            let target = Path::new("../../blobs").join(&etag);
            assert_eq!(std::fs::read_link(&link).unwrap(), target, "{name}");
        }
        assert_eq!(&std::fs::read(&link).unwrap(), bytes, "{name}");
        etags.push(etag);
    }
    etags.sort();
    assert_eq!(cache.blobs(), etags, "and nothing that no model needs");
    let main = std::fs::read_to_string(cache.path("refs/main")).unwrap();
    assert_eq!(main, COMMIT);
    let absent = cache
        .path(".no_exist")
        .join(COMMIT)
        .join("chat_template.jinja");
    assert_eq!(std::fs::read(absent).unwrap(), b"");
    // The bytes of all files together, up to the last one.
    let total: u64 = CHECKPOINT.iter().map(|it| files[*it].len() as u64).sum();
    let Some(
        [
            PullProgress::Downloading {
                n_bytes,
                total_bytes,
            },
            PullProgress::Done { .. },
        ],
    ) = steps.last_chunk()
    else {
        panic!("{steps:?}");
    };
    assert_eq!(*total_bytes, total);
    assert!(*n_bytes <= total && 0 < *n_bytes);
    let options = OpenOptions::default();
    let model = open(&ModelSource::Path(it.path), &options, &mut |_| {}).unwrap();
    assert_eq!(model.architecture, "llama");
}

#[test]
fn what_is_in_the_cache_is_not_fetched_again() {
    let (hub, cdn) = hub(Repo::tiny_llama);
    let cache = Cache::new();
    let first = cache.fetch(&hub, "main").unwrap();
    let n_first = hub.seen().len();
    // A branch may have moved: one question, and no bytes.
    assert_eq!(cache.fetch(&hub, "main").unwrap(), first);
    assert_eq!(hub.seen().len(), n_first + 1);
    assert_eq!(cdn.seen().len(), 1);
    // A commit cannot: no question.
    let settings = cache.settings(NOBODY);
    assert_eq!(fetched(&settings, COMMIT, None).unwrap(), first);
    // The same bytes under another revision are there already.
    cache.fetch(&hub, "v1.0").unwrap();
    assert_eq!(cdn.seen().len(), 1);
    // A deleted link is made again from its blob.
    std::fs::remove_file(first.path.join("model.safetensors")).unwrap();
    cache.fetch(&hub, "main").unwrap();
    assert!(first.path.join("model.safetensors").is_file());
    assert_eq!(cdn.seen().len(), 1);
}

#[test]
fn a_sharded_checkpoint_comes_whole() {
    let index = br#"{"weight_map": {"a": "model-00001-of-00002.safetensors",
        "b": "model-00002-of-00002.safetensors", "c": "model-00001-of-00002.safetensors"}}"#;
    let (hub, cdn) = hub(|cdn| {
        let mut repo = Repo::tiny_llama(cdn);
        repo.files.remove("model.safetensors");
        let names = [
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
        ];
        for name in names.into_iter().chain(["consolidated.safetensors"]) {
            repo.files.insert(name.to_owned(), name.as_bytes().to_vec());
        }
        repo.files
            .insert("model.safetensors.index.json".to_owned(), index.to_vec());
        repo
    });
    let cache = Cache::new();
    let it = cache.fetch(&hub, "main").unwrap();
    for name in [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ] {
        assert_eq!(std::fs::read(it.path.join(name)).unwrap(), name.as_bytes());
    }
    assert!(!it.path.join("consolidated.safetensors").exists());
    assert_eq!(cdn.seen().len(), 2);
    // Offline, a checkpoint that lacks a shard is said to be incomplete.
    let mut settings = cache.settings(NOBODY);
    settings.offline = true;
    assert_eq!(fetched(&settings, "main", None).unwrap(), it);
    std::fs::remove_file(it.path.join("model-00002-of-00002.safetensors")).unwrap();
    let err = fetched(&settings, "main", None).unwrap_err();
    assert!(
        told(&err).contains("no `model-00002-of-00002.safetensors` of"),
        "{err}"
    );
}

#[test]
fn a_gguf_file_is_found_or_named() {
    let one: &[(&str, &[u8])] = &[("q/tiny model.gguf", b"GGUF one"), ("README.md", b"")];
    let (single, _cdn) = hub(|cdn| Repo::of(cdn, one));
    let cache = Cache::new();
    let it = cache.fetch(&single, "refs/pr/1").unwrap();
    assert_eq!(it.path, cache.snapshot().join("q/tiny model.gguf"));
    assert_eq!(std::fs::read(&it.path).unwrap(), b"GGUF one");
    assert!(cache.path("refs/refs/pr/1").is_file());

    let two: &[(&str, &[u8])] = &[("a.gguf", b"GGUF a"), ("b.gguf", b"GGUF b")];
    let (several, _cdn2) = hub(|cdn| Repo::of(cdn, two));
    let cache = Cache::new();
    let err = told(&cache.fetch(&several, "main").unwrap_err());
    assert!(
        err.contains("2 `.gguf` files: a.gguf, b.gguf; name one: `hf:tiny/llama@main/a.gguf`"),
        "{err}"
    );
    let it = cache.fetch_file(&several, "main", Some("b.gguf")).unwrap();
    assert_eq!(std::fs::read(&it.path).unwrap(), b"GGUF b");
    assert_eq!(
        std::fs::read_to_string(cache.path("refs/main")).unwrap(),
        COMMIT
    );
    // With a commit, no question is asked.
    let again = fetched(&cache.settings(NOBODY), COMMIT, Some("b.gguf")).unwrap();
    assert_eq!(again, it);
}

/// A token is for the endpoint: the host of large files must never see it.
#[test]
fn the_token_goes_to_the_endpoint_alone() {
    let (hub, cdn) = hub_with(
        Repo::tiny_llama,
        |repo, request| {
            // Small files by way of a redirection on the same host, as the public hub does.
            let rest = request.path.strip_prefix("/cached/");
            if let Some(rest) = rest {
                let path = format!("/{rest}");
                let inner = Request {
                    path,
                    ..request.clone()
                };
                return repo.answer(&inner);
            }
            if request.path.contains(".json") {
                let place = format!("/cached{}", request.path);
                return Answer::status(307).with("Location", &place);
            }
            repo.answer(request)
        },
        Repo::blob,
    );
    let cache = Cache::new();
    cache.fetch(&hub, "main").unwrap();
    let (at_hub, elsewhere) = (hub.seen(), cdn.seen());
    assert!(at_hub.iter().any(|it| it.path.starts_with("/cached/")));
    for it in &at_hub {
        assert_eq!(
            it.header("authorization"),
            Some("Bearer hf_hunter2"),
            "{it:?}"
        );
    }
    assert_eq!(elsewhere.len(), 1);
    for it in &elsewhere {
        assert_eq!(it.header("authorization"), None, "{it:?}");
        assert_eq!(it.method, "GET", "facts of a file are the hub's");
    }
    // Without a token, none is sent.
    let other = Cache::new();
    let mut settings = other.settings(&hub.address);
    settings.token = None;
    fetched(&settings, "main", None).unwrap();
    let later = &hub.seen()[at_hub.len()..];
    assert!(later.iter().all(|it| it.header("authorization").is_none()));
}

#[test]
fn offline_uses_what_other_tools_left() {
    let cache = Cache::new();
    let mut settings = cache.settings(NOBODY);
    settings.offline = true;
    let offline = |revision: &str| fetched(&settings, revision, None);
    let err = told(&offline("main").unwrap_err());
    for part in [
        "`hf:tiny/llama@main` is not in the hub's cache",
        &cache.0.path().display().to_string(),
        "no commit for `main`",
        "run `harness models pull hf:tiny/llama@main` where there is a network",
    ] {
        assert!(err.contains(part), "{part}: {err}");
    }
    cache.fill(&["config.json", "tokenizer.json"]);
    let err = told(&offline(COMMIT).unwrap_err());
    assert!(err.contains("no safetensors and no `.gguf` file"), "{err}");
    cache.fill(&["model.safetensors"]);
    assert_eq!(offline(COMMIT).unwrap().path, cache.snapshot());
    std::fs::create_dir_all(cache.path("refs")).unwrap();
    std::fs::write(cache.path("refs/main"), COMMIT).unwrap();
    assert_eq!(offline("main").unwrap().commit, COMMIT);
}

/// A cache that may lack a file the repository has would be another model.
#[test]
fn a_commit_needs_no_network_if_its_files_are_known() {
    let cache = Cache::new();
    cache.fill(&CHECKPOINT);
    let (hub, _cdn) = hub(Repo::tiny_llama);
    // Nobody noted whether there is a chat template, so the hub is asked, once.
    cache.fetch(&hub, COMMIT).unwrap();
    assert_eq!(hub.seen().len(), 1);
    cache.fetch(&hub, COMMIT).unwrap();
    assert_eq!(hub.seen().len(), 1);
    // A newer tool noted all files of the commit.
    let noted = Cache::new();
    noted.fill(&CHECKPOINT);
    let files: serde_json::Map<String, serde_json::Value> = CHECKPOINT
        .iter()
        .map(|it| {
            (
                (*it).to_owned(),
                serde_json::json!({ "size": 1, "blob_id": "x" }),
            )
        })
        .collect();
    let tree = serde_json::json!({ "format_version": 1, "files": files });
    std::fs::create_dir_all(noted.path("trees")).unwrap();
    std::fs::write(
        noted.path("trees").join(format!("{COMMIT}.json")),
        tree.to_string(),
    )
    .unwrap();
    noted.fetch(&hub, COMMIT).unwrap();
    assert_eq!(hub.seen().len(), 1);
    // Without a network a commit's files are used as they are.
    let alone = Cache::new();
    alone.fill(&CHECKPOINT);
    assert!(fetched(&alone.settings(NOBODY), COMMIT, None).is_ok());
    let err = fetched(&alone.settings(NOBODY), "main", None).unwrap_err();
    assert!(matches!(err, HubError::Unreachable { .. }), "{err}");
}

#[test]
fn two_at_once_fetch_once() {
    // The bytes come when both have asked for the file, so that neither is alone.
    let n_asked = Arc::new(AtomicUsize::new(0));
    let n_seen = Arc::clone(&n_asked);
    let (hub, cdn) = hub_with(
        Repo::tiny_llama,
        move |repo, request| {
            if request.method == "HEAD" && request.path.ends_with("/model.safetensors") {
                n_asked.fetch_add(1, Ordering::SeqCst);
            }
            repo.answer(request)
        },
        move |repo, request| {
            while n_seen.load(Ordering::SeqCst) < 2 {
                std::thread::sleep(Duration::from_millis(10));
            }
            Answer {
                pause: Duration::from_millis(500),
                ..repo.blob(request)
            }
        },
    );
    let cache = Cache::new();
    let settings = Arc::new(cache.settings(&hub.address));
    let n_waits: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let settings = Arc::clone(&settings);
                scope.spawn(move || {
                    let mut n_waits = 0;
                    let mut count = |it| {
                        n_waits += usize::from(matches!(it, PullProgress::Waiting { .. }));
                    };
                    fetch(&source("main", None), &settings, &mut count).unwrap();
                    n_waits
                })
            })
            .collect();
        threads.into_iter().map(|it| it.join().unwrap()).sum()
    });
    assert_eq!(cdn.seen().len(), 1);
    assert!(0 < n_waits, "the one that waits says so");
    assert_eq!(cache.blobs().len(), CHECKPOINT.len());
}
