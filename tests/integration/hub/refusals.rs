//! What a hub refuses, and what is refused of a hub.

use harness::model::hub::HubError;
use harness::model::{ModelError, hub};

use super::server::{Answer, COMMIT, Repo, Server, hub, hub_with};
use super::{Cache, fetched, source, told};

fn always(answer: Answer) -> Server {
    Server::start(move |_| answer.clone())
}

/// What is told of a checkpoint that this server is asked for.
fn refused(answer: Answer, has_token: bool) -> String {
    let server = always(answer);
    let cache = Cache::new();
    let mut settings = cache.settings(&server.address);
    settings.token = settings.token.filter(|_| has_token);
    let text = told(&fetched(&settings, "main", None).unwrap_err());
    assert_eq!(server.seen().len(), 1, "a no is final: {text}");
    text
}

#[test]
fn a_refusal_says_who_has_to_do_what() {
    let gated = |status| Answer::status(status).with("X-Error-Code", "GatedRepo");
    let said = Answer::status(403).with("X-Error-Message", "Token lacks\tscope read.");
    let unknown = Answer::status(401).with("X-Error-Code", "RepoNotFound");
    let table = [
        (
            unknown,
            false,
            "without a token; check the repository's name; a private or gated one needs HF_TOKEN",
        ),
        (
            Answer::status(401),
            true,
            "for this token; check the repository's name, and that the token",
        ),
        (gated(401), false, "then set HF_TOKEN"),
        (gated(403), true, "with the account of the token"),
        (said, true, "(status 403): Token lacks scope read."),
        (
            Answer::status(404).with("X-Error-Code", "RepoNotFound"),
            true,
            "no model `tiny/llama` on 127.0.0.1",
        ),
        (Answer::status(418), true, "status 418; check HF_ENDPOINT"),
        (
            Answer::status(200).body("<html>"),
            true,
            "does not answer like a hub",
        ),
        (
            Answer::status(200).body(r#"{"sha": "../../etc", "siblings": []}"#),
            true,
            "no commit",
        ),
    ];
    for (answer, has_token, expected) in table {
        let text = refused(answer, has_token);
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn a_misspelt_name_is_told_with_those_there_are() {
    let two: &[(&str, &[u8])] = &[("model-q4.gguf", b"GGUF a"), ("model-q8.gguf", b"GGUF b")];
    let (server, _cdn) = hub(|cdn| Repo::of(cdn, two));
    let cache = Cache::new();
    let err = cache.fetch(&server, "v1").unwrap_err();
    let text = told(&err);
    assert!(
        text.starts_with("`tiny/llama` has no revision `v1`; there are: v1.0, "),
        "{text}"
    );
    let err = cache
        .fetch_file(&server, "main", Some("model_q8.gguf"))
        .unwrap_err();
    let text = told(&err);
    assert!(
        text.contains("no file `model_q8.gguf` at `main`; there are: model-q8.gguf, model-q4.gguf"),
        "{text}"
    );
    let err = cache
        .fetch_file(&server, "v1", Some("model-q8.gguf"))
        .unwrap_err();
    assert!(matches!(err, HubError::RevisionMissing { .. }), "{err}");
}

/// An etag, a commit and a file name become parts of paths.
#[test]
fn a_server_cannot_choose_a_path() {
    let with = |name: &'static str, value: &'static str| {
        hub_with(
            |cdn| Repo::of(cdn, &[("a.gguf", b"GGUF")]),
            move |repo, request| {
                let mut answer = repo.answer(request);
                if request.path.contains("/resolve/") {
                    answer.headers.retain(|(it, _)| it != name);
                    answer = answer.with(name, value);
                }
                answer
            },
            Repo::blob,
        )
    };
    for (name, value, expected) in [
        (
            "X-Linked-Etag",
            "\"../../../evil\"",
            "no etag that can be used",
        ),
        ("X-Repo-Commit", "../../../evil", "does not say the commit"),
    ] {
        let (server, _cdn) = with(name, value);
        let cache = Cache::new();
        let err = cache
            .fetch_file(&server, "main", Some("a.gguf"))
            .unwrap_err();
        assert!(told(&err).contains(expected), "{err}");
    }
    let (server, _cdn) = hub(|cdn| Repo::of(cdn, &[("../../../evil.gguf", b"GGUF")]));
    let cache = Cache::new();
    let err = cache.fetch(&server, "main").unwrap_err();
    assert!(matches!(err, HubError::BadName { .. }), "{err}");
    let left: Vec<_> = std::fs::read_dir(cache.0.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn files_that_cannot_be_opened_are_refused_before_any_request() {
    let server = always(Answer::status(500));
    let cache = Cache::new();
    let table = [
        ("config.json", "is not a `.gguf` file; leave the file out"),
        ("x-00001-of-00002.gguf", "one part of a split model"),
        ("a/../b.gguf", "not used as a path"),
    ];
    for (file, expected) in table {
        let err = cache.fetch_file(&server, "main", Some(file)).unwrap_err();
        assert!(told(&err).contains(expected), "{err}");
    }
    assert!(server.seen().is_empty());
}

/// Gigabytes of weights are not fetched to learn that they cannot be used.
#[test]
fn an_unknown_architecture_is_refused_before_its_weights() {
    let (server, cdn) = hub(|cdn| {
        let mut repo = Repo::tiny_llama(cdn);
        repo.files.insert(
            "config.json".to_owned(),
            br#"{"model_type": "mamba"}"#.to_vec(),
        );
        repo
    });
    let settings = Cache::new();
    let settings = settings.settings(&server.address);
    let err = hub::fetch(&source("main", None), &settings, &mut |_| {}).unwrap_err();
    assert!(matches!(err, ModelError::Architecture { .. }), "{err}");
    assert!(cdn.seen().is_empty());
}

#[test]
fn formats_that_can_run_code_are_not_fetched() {
    let (server, _cdn) = hub(|cdn| {
        Repo::of(
            cdn,
            &[
                ("config.json", b"{}"),
                ("tokenizer.json", b"{}"),
                ("pytorch_model.bin", b"PK"),
            ],
        )
    });
    let cache = Cache::new();
    let err = cache.fetch(&server, "main").unwrap_err();
    assert!(told(&err).contains("can run code"), "{err}");
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn a_settings_file_has_a_bounded_size() {
    let (server, _cdn) = hub_with(
        Repo::tiny_llama,
        |repo, request| {
            let mut answer = repo.answer(request);
            if request.path.ends_with("/config.json") {
                answer.headers.retain(|(name, _)| name != "Content-Length");
                answer = answer.with("Content-Length", &(1_u64 << 40).to_string());
            }
            answer
        },
        Repo::blob,
    );
    let err = Cache::new().fetch(&server, "main").unwrap_err();
    assert!(
        matches!(&err, HubError::TooLarge { file, .. } if file == "config.json"),
        "{err}"
    );
    assert!(server.asked("GET", "/resolve/").is_empty());
}

/// 192.0.2.1 is a documentation address: a request there would hang, not be refused.
#[test]
fn a_token_does_not_travel_in_the_clear() {
    let cache = Cache::new();
    let settings = cache.settings("http://192.0.2.1");
    let err = fetched(&settings, "main", None).unwrap_err();
    assert!(
        matches!(&err, HubError::TokenOverHttp { host } if host == "192.0.2.1"),
        "{err}"
    );
    assert!(told(&err).contains("HF_HUB_DISABLE_IMPLICIT_TOKEN=1"));
}

#[test]
fn redirections_come_to_an_end() {
    let server = always(Answer::status(302).with("Location", "/again"));
    let cache = Cache::new();
    let err = cache
        .fetch_file(&server, COMMIT, Some("a.gguf"))
        .unwrap_err();
    assert!(told(&err).contains("more than 10 redirections"), "{err}");
    assert_eq!(server.seen().len(), 10);
}
