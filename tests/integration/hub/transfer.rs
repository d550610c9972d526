//! Connections that break, servers that change their mind, bytes that are not the right ones.

use std::time::{Duration, Instant};

use harness::model::hub::HubError;

use super::server::{Answer, Repo, Request, Server, hub_with, sha256};
use super::{Cache, TOKEN, fetched, told};

const FILE: &str = "a.gguf";

/// 100,000 bytes that repeat nowhere soon.
fn bytes() -> Vec<u8> {
    (0..25_000_u32)
        .flat_map(|it| it.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect()
}

fn repo(cdn: &str) -> Repo {
    Repo::of(cdn, &[(FILE, &bytes())])
}

/// A hub whose large file comes as `of_cdn` says.
fn with_cdn(
    of_cdn: impl Fn(&Repo, &Request) -> Answer + Send + Sync + 'static,
) -> (Server, Server) {
    hub_with(repo, Repo::answer, of_cdn)
}

fn ranges(cdn: &Server) -> Vec<Option<String>> {
    let seen = cdn.seen();
    seen.iter()
        .map(|it| it.header("range").map(str::to_owned))
        .collect()
}

/// The file as it is in the cache.
fn take(cache: &Cache, hub: &Server) -> Result<Vec<u8>, HubError> {
    let it = cache.fetch_file(hub, "main", Some(FILE))?;
    Ok(std::fs::read(it.path).unwrap())
}

/// The answer, cut after this many bytes of its body.
fn cut(answer: Answer, after: usize) -> Answer {
    Answer {
        cut_after: Some(after),
        ..answer
    }
}

#[test]
fn a_cut_connection_is_taken_up_where_it_broke() {
    let (hub, cdn) = with_cdn(|repo, request| match request.n_before {
        0 => cut(repo.blob(request), 40_000),
        1 => cut(repo.blob(request), 10_000),
        _ => repo.blob(request),
    });
    let cache = Cache::new();
    assert_eq!(take(&cache, &hub).unwrap(), bytes());
    let expected = [None, Some("bytes=40000-"), Some("bytes=50000-")];
    assert_eq!(ranges(&cdn), expected.map(|it| it.map(str::to_owned)));
    assert_eq!(
        cache.blobs(),
        [sha256(&bytes())],
        "no `.incomplete` is left"
    );
}

/// What has arrived is kept for the next command.
#[test]
fn a_later_process_goes_on_from_what_is_there() {
    let (hub, cdn) = with_cdn(|repo, request| match request.n_before {
        0 => cut(repo.blob(request), 30_000),
        _ => repo.blob(request),
    });
    let cache = Cache::new();
    let mut settings = cache.settings(&hub.address);
    settings.patience.n_retries = 0;
    let err = fetched(&settings, "main", Some(FILE)).unwrap_err();
    assert!(
        matches!(&err, HubError::Cut { file: Some(it), n_attempts: 1, .. } if it == FILE),
        "{err}"
    );
    assert!(told(&err).contains("what has arrived is kept"));
    let name = format!("{}.incomplete", sha256(&bytes()));
    assert_eq!(cache.blobs(), [name]);
    assert!(
        !cache.path("refs/main").exists(),
        "not before the file is there"
    );
    assert_eq!(take(&cache, &hub).unwrap(), bytes());
    assert_eq!(ranges(&cdn), [None, Some("bytes=30000-".to_owned())]);
}

#[test]
fn a_connection_that_always_breaks_is_given_up() {
    let (hub, cdn) = with_cdn(|repo, request| cut(repo.blob(request), 10));
    let err = take(&Cache::new(), &hub).unwrap_err();
    assert!(matches!(err, HubError::Cut { n_attempts: 3, .. }), "{err}");
    assert_eq!(cdn.seen().len(), 3);
}

#[test]
fn a_server_that_knows_no_parts_starts_again() {
    let (hub, cdn) = with_cdn(|repo, request| {
        let mut whole = request.clone();
        whole.headers.remove("range");
        match request.n_before {
            0 => cut(repo.blob(&whole), 40_000),
            _ => repo.blob(&whole),
        }
    });
    assert_eq!(take(&Cache::new(), &hub).unwrap(), bytes());
    assert_eq!(ranges(&cdn), [None, Some("bytes=40000-".to_owned())]);
}

#[test]
fn another_part_than_asked_for_is_not_put_in() {
    let (hub, cdn) = with_cdn(|repo, request| match request.n_before {
        0 => cut(repo.blob(request), 40_000),
        1 => {
            let mut wrong = repo.blob(request);
            wrong.headers.retain(|(name, _)| name != "Content-Range");
            wrong.with("Content-Range", "bytes 39999-99998/100000")
        }
        _ => repo.blob(request),
    });
    assert_eq!(take(&Cache::new(), &hub).unwrap(), bytes());
    assert_eq!(ranges(&cdn), [None, Some("bytes=40000-".to_owned()), None]);
}

/// A damaged beginning is thrown away once, and never becomes a blob.
#[test]
fn a_wrong_beginning_is_fetched_again() {
    let (hub, cdn) = with_cdn(Repo::blob);
    let cache = Cache::new();
    std::fs::create_dir_all(cache.path("blobs")).unwrap();
    let name = format!("{}.incomplete", sha256(&bytes()));
    std::fs::write(cache.path("blobs").join(name), [7; 5]).unwrap();
    assert_eq!(take(&cache, &hub).unwrap(), bytes());
    assert_eq!(ranges(&cdn), [Some("bytes=5-".to_owned()), None]);
}

#[test]
fn wrong_bytes_are_refused_and_not_kept() {
    let (hub, _cdn) = with_cdn(|repo, request| {
        let mut answer = repo.blob(request);
        answer.body[99_999] ^= 1;
        answer
    });
    let cache = Cache::new();
    let err = take(&cache, &hub).unwrap_err();
    assert!(
        matches!(&err, HubError::WrongDigest { expected, algorithm: "SHA-256", .. } if *expected == sha256(&bytes())),
        "{err}"
    );
    assert!(told(&err).contains("nothing of it was kept"));
    assert!(cache.blobs().is_empty());

    // A small file is held against its Git hash.
    let (hub, _cdn) = hub_with(
        Repo::tiny_llama,
        |repo, request| {
            let mut answer = repo.answer(request);
            if request.path.ends_with("/generation_config.json") {
                answer.body[0] = b' ';
            }
            answer
        },
        Repo::blob,
    );
    let cache = Cache::new();
    let err = cache.fetch(&hub, "main").unwrap_err();
    assert!(
        matches!(&err, HubError::WrongDigest { file, .. } if file == "generation_config.json"),
        "{err}"
    );
    assert!(!cache.snapshot().join("generation_config.json").exists());
}

#[test]
fn a_wrong_size_is_refused() {
    let shorter = |repo: &Repo, request: &Request| {
        let mut answer = repo.blob(request);
        answer.body.pop();
        answer
    };
    let longer = |repo: &Repo, request: &Request| {
        let mut answer = repo.blob(request);
        answer.body.push(0);
        // Without a length, so that only counting shows it.
        let body = std::mem::take(&mut answer.body);
        let chunk = [
            format!("{:x}\r\n", body.len()).into_bytes(),
            body,
            b"\r\n0\r\n\r\n".to_vec(),
        ];
        answer
            .with("Transfer-Encoding", "chunked")
            .body(chunk.concat())
    };
    for (found, (hub, cdn)) in [(99_999, with_cdn(shorter)), (100_001, with_cdn(longer))] {
        let cache = Cache::new();
        let err = take(&cache, &hub).unwrap_err();
        let HubError::WrongSize {
            found: it,
            expected: 100_000,
            ..
        } = err
        else {
            panic!("{err}");
        };
        assert_eq!(it, found);
        assert_eq!(cdn.seen().len(), 1, "asking again is no use");
        assert!(cache.blobs().is_empty());
    }
}

#[test]
fn a_server_that_falls_silent_is_given_up() {
    let (hub, cdn) = with_cdn(|repo, request| Answer {
        pause: Duration::from_secs(30),
        ..repo.blob(request)
    });
    let cache = Cache::new();
    let mut settings = cache.settings(&hub.address);
    settings.patience.idle = Duration::from_secs(1);
    settings.patience.n_retries = 1;
    let start = Instant::now();
    let err = fetched(&settings, "main", Some(FILE)).unwrap_err();
    assert!(
        matches!(&err, HubError::Stalled { file: Some(it), n_attempts: 2, .. } if it == FILE),
        "{err}"
    );
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(cdn.seen().len(), 2);
}

#[test]
fn a_busy_server_is_asked_again_when_it_says() {
    let (hub, cdn) = with_cdn(|repo, request| match request.n_before {
        0 => Answer::status(429).with("Retry-After", "1"),
        1 => Answer::status(503),
        _ => repo.blob(request),
    });
    let start = Instant::now();
    assert_eq!(take(&Cache::new(), &hub).unwrap(), bytes());
    assert!(Duration::from_secs(1) <= start.elapsed());
    assert_eq!(cdn.seen().len(), 3);
}

#[test]
fn a_server_that_stays_busy_is_given_up() {
    let answers = [
        (Answer::status(429).with("Retry-After", "3600"), 1),
        (
            Answer::status(429).with("RateLimit", "\"api\";r=0;t=3600"),
            1,
        ),
        (Answer::status(503), 3),
    ];
    for (answer, n_asked) in answers {
        let is_limit = answer.status == 429;
        let (hub, cdn) = with_cdn(move |_, _| answer.clone());
        let err = take(&Cache::new(), &hub).unwrap_err();
        match &err {
            HubError::RateLimited {
                wait_s: Some(3600), ..
            } if is_limit => {}
            HubError::ServerFailed {
                status: 503,
                n_attempts: 3,
                ..
            } if !is_limit => {}
            other => panic!("{other}"),
        }
        assert_eq!(cdn.seen().len(), n_asked);
        told(&err);
    }
}

#[test]
fn nobody_there_is_said_with_what_to_check() {
    let cache = Cache::new();
    let err = fetched(&cache.settings(super::NOBODY), "main", Some(FILE)).unwrap_err();
    assert!(
        matches!(&err, HubError::Unreachable { host, .. } if host == "127.0.0.1"),
        "{err}"
    );
    assert!(told(&err).contains("HF_ENDPOINT"), "{err}");
    assert!(!format!("{err:?}").contains(TOKEN));
}
