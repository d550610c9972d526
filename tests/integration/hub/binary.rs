//! The real binary with a model on the hub: pull, info, plan, run, and the same offline.

use std::path::Path;
use std::process::{Command, Output};

use harness::table;

use super::NOBODY;
use super::server::{COMMIT, Repo, Server, hub};

const EXPERIMENT: &str = r#"
[experiment]
name = "tiny"

[models.tiny]
source = "hf:tiny/llama@main"

[dataset]
path = "rows.jsonl"
target = "{{ fr }}"

[variants.bare]
template = "{{ en }}\nFrench:"
"#;

struct Bench {
    folder: tempfile::TempDir,
    hub: Server,
    _cdn: Server,
}

impl Bench {
    fn new() -> Self {
        let (hub, cdn) = hub(Repo::tiny_llama);
        let folder = tempfile::tempdir().unwrap();
        let rows = [("red", "rouge"), ("blue", "bleu"), ("old", "vieux")];
        let rows = rows.map(|(en, fr)| format!("{{\"en\": \"{en}\", \"fr\": \"{fr}\"}}\n"));
        std::fs::write(folder.path().join("tiny.toml"), EXPERIMENT).unwrap();
        std::fs::write(folder.path().join("rows.jsonl"), rows.concat()).unwrap();
        Self {
            folder,
            hub,
            _cdn: cdn,
        }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, words: &str, endpoint: &str) -> Output {
        self.with(words, endpoint).output().unwrap()
    }

    /// The command, with nothing inherited that steers it.
    fn with(&self, words: &str, endpoint: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            let steers = name.starts_with("HF_") || name.starts_with("HUGGING");
            if steers || name.to_lowercase().ends_with("_proxy") || name == "HARNESS_RESULTS" {
                command.env_remove(name);
            }
        }
        command
            .current_dir(self.folder.path())
            .args(words.split(' '))
            .env("NO_COLOR", "1")
            .env("HF_HOME", self.path("hf"))
            .env("HF_ENDPOINT", endpoint)
            .env("HF_TOKEN", super::TOKEN)
            .env_remove("TRANSFORMERS_OFFLINE");
        command
    }

    /// Standard output of a command that ends well.
    fn ok(&self, words: &str, endpoint: &str) -> String {
        let output = self.command(words, endpoint);
        let [stdout, stderr] = texts(&output);
        assert_eq!(output.status.code(), Some(0), "{words}: {stderr}");
        stdout
    }
}

/// What was printed, without secrets.
fn texts(output: &Output) -> [String; 2] {
    [&output.stdout, &output.stderr].map(|it| {
        let text = String::from_utf8(it.clone()).unwrap();
        assert!(!text.contains(super::TOKEN), "{text}");
        text
    })
}

fn line<'a>(text: &'a str, name: &str) -> &'a str {
    let found = text.lines().find(|it| it.trim_start().starts_with(name));
    found
        .unwrap_or_else(|| panic!("no `{name}` in {text}"))
        .trim()
}

#[test]
fn a_run_records_the_commit_of_its_model() {
    let bench = Bench::new();
    let hub = bench.hub.address.clone();
    let pulled = bench.ok("models pull hf:tiny/llama@main", &hub);
    assert!(pulled.starts_with("hf:tiny/llama@main\n"), "{pulled}");
    assert!(line(&pulled, "commit").ends_with(COMMIT), "{pulled}");
    let path = Path::new("models--tiny--llama/snapshots").join(COMMIT);
    assert!(
        line(&pulled, "files").contains(&path.display().to_string()),
        "{pulled}"
    );

    let info = bench.ok("models info hf:tiny/llama@main --json", &hub);
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["model"]["revision"], COMMIT);
    bench.ok("plan tiny.toml", &hub);
    bench.ok("run tiny.toml --limit 2", &hub);
    // Offline no connection is opened: nobody listens there.
    bench.ok("run tiny.toml --limit 2 --offline", NOBODY);
    let runs = table::list(&bench.path("results"), Some("tiny")).unwrap();
    assert_eq!(runs.len(), 2);
    for run in runs {
        let manifest = std::fs::read_to_string(run.folder.join("run.json")).unwrap();
        assert!(!manifest.contains(super::TOKEN));
        let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        assert_eq!(manifest["models"][0]["source"], "hf:tiny/llama@main");
        assert_eq!(manifest["models"][0]["revision"], COMMIT);
    }
}

#[test]
fn a_model_that_is_not_there_says_what_to_do() {
    let bench = Bench::new();
    let hub = bench.hub.address.clone();
    let table = [
        ("models pull hf:tiny/llama@v2", &hub, "hint: there are: "),
        (
            "models pull hf:tiny/llama",
            &hub,
            "hint: write hf:OWNER/REPO@REVISION",
        ),
        (
            "models info hf:tiny/llama",
            &hub,
            "hint: write hf:OWNER/REPO@REVISION",
        ),
        (
            "models pull hf:tiny/other@main",
            &hub,
            "no model `tiny/other`",
        ),
        (
            "models info hf:tiny/llama@main --offline",
            &hub,
            "hint: run `harness models pull",
        ),
        (
            "plan tiny.toml --offline",
            &hub,
            "holds no commit for `main`",
        ),
        (
            "models pull hf:tiny/llama@main",
            &"http://192.0.2.1".to_owned(),
            "without encryption",
        ),
    ];
    for (words, endpoint, expected) in table {
        let output = bench.command(words, endpoint);
        let [stdout, stderr] = texts(&output);
        // Long lines of a diagnostic are wrapped.
        let flat = stderr.replace(['│', '\n'], " ");
        let flat = flat.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(expected), "{words}: {stderr}");
        assert_eq!(
            (output.status.code(), stdout.as_str()),
            (Some(2), ""),
            "{words}"
        );
    }
    assert!(
        !bench
            .path("hf")
            .join("hub/models--tiny--llama/refs")
            .exists()
    );
}

/// Neither the proxy's password nor a hub behind it is anybody else's business.
#[test]
fn a_proxy_is_used_as_the_environment_says() {
    let bench = Bench::new();
    let proxy = bench.hub.address.replace("http://", "http://me:hunter2@");
    let pull = |no_proxy: &str, proxy: &str| {
        let mut command = bench.with("models pull hf:tiny/llama@main", "http://hub.invalid");
        command
            .env("HTTP_PROXY", proxy)
            .env("NO_PROXY", no_proxy)
            .env("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1");
        let output = command.output().unwrap();
        let [_, stderr] = texts(&output);
        assert!(!stderr.contains("hunter2"), "{stderr}");
        (output.status.code(), stderr)
    };
    let (code, stderr) = pull("", &proxy);
    assert_eq!(code, Some(0), "{stderr}");
    let asked = bench.hub.asked("CONNECT", "");
    assert!(
        asked.iter().all(|it| it.path == "hub.invalid:80"),
        "{asked:?}"
    );
    assert!(
        asked
            .iter()
            .all(|it| it.header("proxy-authorization").is_some())
    );
    assert!(!asked.is_empty());
    // An exception goes straight to a host that, by its name, does not exist.
    let (code, stderr) = pull("hub.invalid", &proxy);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("hub.invalid cannot be reached"), "{stderr}");
    let (code, stderr) = pull("", "socks5://me:hunter2@127.0.0.1:1");
    assert_eq!(code, Some(2));
    assert!(
        stderr.contains("the proxy in `HTTP_PROXY` cannot be used"),
        "{stderr}"
    );
}
