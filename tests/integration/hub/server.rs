//! A small hub on loopback: it answers as the public one does, and notes what it is asked.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use sha2::Digest as _;

/// The commit of `main`.
pub(super) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What a server was asked.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: String,
    /// Path and query.
    pub(super) path: String,
    /// Names in small letters.
    pub(super) headers: BTreeMap<String, String>,
    /// How often the same was asked before.
    pub(super) n_before: usize,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The byte that a `Range` begins at.
    pub(super) fn start(&self) -> Option<usize> {
        let range = self.header("range")?.strip_prefix("bytes=")?;
        Some(range.strip_suffix('-')?.parse().unwrap())
    }
}

/// What a server answers.
#[derive(Debug, Clone, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Closes the connection after so many bytes of the body.
    pub(super) cut_after: Option<usize>,
    /// Says nothing for so long after the head.
    pub(super) pause: Duration,
}

impl Answer {
    pub(super) fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

/// A server on loopback; it lives as long as the tests do.
pub(super) struct Server {
    pub(super) address: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub(super) fn start(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (noted, answer) = (Arc::clone(&seen), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (noted, answer) = (Arc::clone(&noted), Arc::clone(&answer));
                // A client that goes away is the client's business.
                std::thread::spawn(move || serve(&stream.unwrap(), &noted, &*answer));
            }
        });
        Self { address, seen }
    }

    /// Everything that was asked, oldest first.
    pub(super) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// The requests of this method whose path has `part` in it.
    pub(super) fn asked(&self, method: &str, part: &str) -> Vec<Request> {
        let mut seen = self.seen();
        seen.retain(|it| it.method == method && it.path.contains(part));
        seen
    }
}

fn serve(
    stream: &TcpStream,
    noted: &Mutex<Vec<Request>>,
    answer: &dyn Fn(&Request) -> Answer,
) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let request = {
        let mut noted = noted.lock().unwrap();
        let is_same = |it: &&Request| (&it.method, &it.path) == (&method, &path);
        let n_before = noted.iter().filter(is_same).count();
        let request = Request {
            method,
            path,
            headers,
            n_before,
        };
        noted.push(request.clone());
        request
    };
    if request.method == "CONNECT" {
        // As a proxy does: what follows is for the host that was named.
        let mut stream = stream;
        stream.write_all(b"HTTP/1.1 200 It\r\n\r\n").ok()?;
        return serve(stream, noted, answer);
    }
    let answer = answer(&request);
    let mut head = format!("HTTP/1.1 {} It\r\nConnection: close\r\n", answer.status);
    let has_length =
        |(name, _): &(String, String)| name == "Content-Length" || name == "Transfer-Encoding";
    if !answer.headers.iter().any(has_length) {
        write!(head, "Content-Length: {}\r\n", answer.body.len()).unwrap();
    }
    for (name, value) in &answer.headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    let mut stream = stream;
    stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
    std::thread::sleep(answer.pause);
    if request.method != "HEAD" {
        let n_bytes = answer.cut_after.unwrap_or(answer.body.len());
        stream.write_all(&answer.body[..n_bytes]).ok()?;
    }
    // Closed only after the client, so that it reads all before the connection ends.
    stream.shutdown(std::net::Shutdown::Write).ok()?;
    reader.read_to_end(&mut Vec::new()).ok().map(drop)
}

/// One repository, with small files on the hub and large ones on another host.
#[derive(Debug, Clone)]
pub(super) struct Repo {
    /// `OWNER/REPO`.
    pub(super) id: String,
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// Address of the server that has the large files.
    pub(super) cdn: String,
}

impl Repo {
    /// The checkpoint `tiny-llama` among files that no model needs.
    pub(super) fn tiny_llama(cdn: &str) -> Self {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/models/tiny-llama");
        let entries = std::fs::read_dir(folder).unwrap();
        let files = entries.map(|it| {
            let it = it.unwrap();
            let bytes = std::fs::read(it.path()).unwrap();
            (it.file_name().into_string().unwrap(), bytes)
        });
        let more = ["README.md", "pytorch_model.bin", "onnx/model.onnx"]
            .map(|it| (it.to_owned(), b"not needed".to_vec()));
        Self {
            id: "tiny/llama".to_owned(),
            files: files.chain(more).collect(),
            cdn: cdn.to_owned(),
        }
    }

    /// A repository with these files.
    pub(super) fn of(cdn: &str, files: &[(&str, &[u8])]) -> Self {
        Self {
            id: "tiny/llama".to_owned(),
            files: files
                .iter()
                .map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec()))
                .collect(),
            cdn: cdn.to_owned(),
        }
    }

    /// The answer of the hub.
    pub(super) fn answer(&self, request: &Request) -> Answer {
        let id = &self.id;
        let path = request.path.split('?').next().unwrap();
        if path == format!("/api/models/{id}/refs") {
            let names = json!({
                "branches": [{ "name": "main" }, { "name": "refs/pr/1" }],
                "tags": [{ "name": "v1.0" }],
            });
            return Answer::status(200).body(names.to_string());
        }
        if let Some(revision) = path.strip_prefix(&format!("/api/models/{id}/revision/")) {
            return self.listing(revision);
        }
        let Some(rest) = path.strip_prefix(&format!("/{id}/resolve/")) else {
            let missing = Answer::status(404);
            return missing.with("X-Error-Code", "RepoNotFound");
        };
        let (revision, file) = rest.split_once('/').unwrap();
        if !is_revision(revision) {
            return Answer::status(404).with("X-Error-Code", "RevisionNotFound");
        }
        let file = file.replace("%20", " ");
        let Some(bytes) = self.files.get(&file) else {
            return Answer::status(404).with("X-Error-Code", "EntryNotFound");
        };
        let answer = Answer::default().with("X-Repo-Commit", COMMIT);
        if is_large(&file) {
            let etag = sha256(bytes);
            let place = format!("{}/blob/{etag}?signature=secret", self.cdn);
            let mut answer = answer
                .with("X-Linked-Etag", &format!("\"{etag}\""))
                .with("X-Linked-Size", &bytes.len().to_string())
                .with("ETag", "\"of-the-redirection\"")
                .with("Location", &place);
            answer.status = 302;
            return answer;
        }
        let mut answer = answer
            .with("ETag", &format!("W/\"{}\"", git_hash(bytes)))
            .body(bytes.clone());
        answer.status = 200;
        answer.with("Content-Length", &bytes.len().to_string())
    }

    fn listing(&self, revision: &str) -> Answer {
        if !is_revision(revision) {
            return Answer::status(404).with("X-Error-Code", "RevisionNotFound");
        }
        let siblings = self.files.iter();
        let siblings = siblings.map(|(name, it)| json!({ "rfilename": name, "size": it.len() }));
        let listing = json!({ "sha": COMMIT, "siblings": siblings.collect::<Vec<_>>() });
        Answer::status(200).body(listing.to_string())
    }

    /// The large file with this digest, or the part of it that is asked for.
    pub(super) fn blob(&self, request: &Request) -> Answer {
        let is_it = |it: &&Vec<u8>| request.path.contains(&sha256(it));
        let Some(bytes) = self.files.values().find(is_it) else {
            return Answer::status(404);
        };
        let answer = Answer::default().with("ETag", "\"of-the-other-host\"");
        let Some(start) = request.start() else {
            return Answer {
                status: 200,
                ..answer.body(bytes.clone())
            };
        };
        if bytes.len() <= start {
            return Answer::status(416);
        }
        let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
        Answer {
            status: 206,
            ..answer.with("Content-Range", &range).body(&bytes[start..])
        }
    }
}

/// A hub with one repository, and the host of its large files.
pub(super) fn hub(repo: impl Fn(&str) -> Repo) -> (Server, Server) {
    hub_with(repo, Repo::answer, Repo::blob)
}

/// The same, with answers that may differ.
pub(super) fn hub_with(
    repo: impl Fn(&str) -> Repo,
    of_hub: impl Fn(&Repo, &Request) -> Answer + Send + Sync + 'static,
    of_cdn: impl Fn(&Repo, &Request) -> Answer + Send + Sync + 'static,
) -> (Server, Server) {
    let files = repo("");
    let cdn = Server::start(move |request| of_cdn(&files, request));
    let repo = repo(&cdn.address);
    let hub = Server::start(move |request| of_hub(&repo, request));
    (hub, cdn)
}

fn is_revision(text: &str) -> bool {
    ["main", "v1.0", "refs%2Fpr%2F1", COMMIT].contains(&text)
}

fn is_large(file: &str) -> bool {
    let ending = file.rsplit('.').next();
    matches!(ending, Some("safetensors" | "gguf"))
}

/// In small hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, it| {
        write!(out, "{it:02x}").unwrap();
        out
    })
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(&sha2::Sha256::digest(bytes))
}

/// As `git hash-object` prints it.
pub(super) fn git_hash(bytes: &[u8]) -> String {
    let mut hash = sha1::Sha1::new_with_prefix(format!("blob {}\0", bytes.len()));
    hash.update(bytes);
    hex(&hash.finalize())
}
