//! `[models.NAME]`: where each model comes from, or which server answers for it.

use std::fmt;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::diagnostic::{Diagnostic, Spanned};
use super::fields::{Explain, Fields, Keyword};
use super::value::NonNegative;

/// A model under test.
#[derive(Debug, Clone, PartialEq)]
pub enum ModelSpec {
    /// Weights that are read here.
    Local(LocalModel),
    /// A server that is asked; read now, served by a later version.
    Remote(RemoteModel),
}

/// A model whose weights are read on this machine.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalModel {
    /// Where its files are.
    pub source: Spanned<ModelSource>,
    /// The digest its weights must have: 64 small hex digits.
    pub sha256: Option<Spanned<String>>,
    /// What computes.
    pub device: Device,
    /// How the weights are held in memory.
    pub weights: Weights,
}

/// Where a local model's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// `builtin:NAME`: a model that harness knows how to get.
    Builtin(String),
    /// A `.gguf` file or a checkpoint folder, relative to the experiment's folder.
    Path(PathBuf),
    /// `hf:OWNER/REPO@REVISION[/FILE]`: in the hub's cache.
    Hub {
        /// Who publishes it.
        owner: String,
        /// The repository.
        repo: String,
        /// The commit, tag or branch; a `/` in it is written `%2F`.
        revision: String,
        /// One `.gguf` file of it, which may stand in folders.
        file: Option<String>,
    },
}

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// CUDA where there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The first CUDA device.
    Cuda,
}

impl Keyword for Device {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("auto", Self::Auto),
        ("cpu", Self::Cpu),
        ("cuda", Self::Cuda),
    ];
}

/// How the weights are held in memory; the scores are the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Weights {
    /// As f32 if they fit, else as stored.
    #[default]
    Auto,
    /// As f32.
    F32,
    /// As in the file, decoded panel by panel.
    Stored,
}

impl Keyword for Weights {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("auto", Self::Auto),
        ("f32", Self::F32),
        ("stored", Self::Stored),
    ];
}

/// A model behind a server.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteModel {
    /// The protocol.
    pub api: Api,
    /// The server, without the protocol's own path; no user name or password in it.
    pub base_url: Spanned<String>,
    /// The model's name there.
    pub model: String,
    /// `NAME` of the variable `HARNESS_KEY_NAME` that holds the key; capital letters, digits
    /// and `_`.
    pub key: Option<Spanned<String>>,
    /// Requests under way at once.
    pub max_concurrency: NonZeroU32,
    /// How often a failed request is tried again.
    pub retries: u32,
    /// How long one request may take, in seconds.
    pub timeout_s: NonZeroU32,
    /// What it costs.
    pub price: Option<Price>,
}

/// US dollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Price {
    /// Tokens sent.
    pub input: NonNegative,
    /// Tokens generated.
    pub output: NonNegative,
}

/// The protocol of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// `/v1/completions` and `/v1/chat/completions`.
    OpenAi,
}

impl Keyword for Api {
    const WORDS: &'static [(&'static str, Self)] = &[("openai", Self::OpenAi)];
}

/// Keys of a local model only.
const LOCAL_KEYS: [&str; 4] = ["source", "sha256", "device", "weights"];
/// Keys of a remote model only.
const REMOTE_KEYS: [&str; 8] = [
    "api",
    "base_url",
    "model",
    "key",
    "max_concurrency",
    "retries",
    "timeout_s",
    "price",
];

/// Reads one `[models.NAME]`.
pub(super) fn read(fields: Fields<'_>) -> Option<ModelSpec> {
    let foreign = |keys: &[&str], why: &str| {
        for key in keys.iter().filter(|key| fields.has(key)) {
            fields.error(
                key,
                format!("`{key}` has no meaning for {why}"),
                "delete the line",
            );
        }
    };
    match (fields.has("source"), fields.has("api")) {
        (true, true) => {
            fields.error(
                "api",
                format!("`{}` has both `source` and `api`", fields.name()),
                "keep `source` for weights on this machine, or `api` for a server",
            );
            None
        }
        (true, false) => {
            foreign(&REMOTE_KEYS[1..], "a model with `source`");
            read_local(fields).map(ModelSpec::Local)
        }
        (false, true) => {
            foreign(&LOCAL_KEYS[1..], "a model with `api`");
            read_remote(fields).map(ModelSpec::Remote)
        }
        (false, false) if fields.seems_to_have("source") || fields.seems_to_have("api") => None,
        (false, false) => {
            let message = format!("`{}` has neither `source` nor `api`", fields.name());
            let help = "add `source = \"builtin:smollm2-135m-instruct\"`, a path, or \"hf:OWNER/REPO@REVISION\"";
            fields.problems.error(fields.place, message, help);
            None
        }
    }
}

fn read_local(fields: Fields<'_>) -> Option<LocalModel> {
    let source = fields.parsed("source");
    let sha256 = fields.string("sha256");
    let device = fields.keyword("device");
    let weights = fields.keyword("weights");
    if let Some(digest) = &sha256 {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if digest.value.len() != 64 || !digest.value.bytes().all(is_hex) {
            let message = "`sha256` is not 64 small hex digits";
            fields.problems.error(
                &digest.place,
                message,
                "`harness models info` prints the digest of a model",
            );
        }
    }
    Some(LocalModel {
        source: source?,
        sha256,
        device: device.map_or(Device::default(), |it| it.value),
        weights: weights.map_or(Weights::default(), |it| it.value),
    })
}

fn read_remote(fields: Fields<'_>) -> Option<RemoteModel> {
    let api = fields.keyword("api");
    let base_url = fields.required("base_url", base_url(fields), "\"http://127.0.0.1:8080\"");
    let model = fields.required("model", fields.string("model"), "\"smollm2\"");
    let key = key_name(fields);
    let max_concurrency = fields.count::<u32>("max_concurrency", 1);
    let retries = fields.count::<u32>("retries", 0);
    let timeout_s = fields.count::<u32>("timeout_s", 1);
    if let (Some(url), Some(key)) = (&base_url, &key)
        && is_in_the_clear(&url.value)
    {
        fields.problems.push(
            Diagnostic::warning("the key would be sent to another machine without encryption")
                .at(&url.place, "")
                .at(&key.place, "this key")
                .help("use https://"),
        );
    }
    let price = fields.node("price").and_then(|node| {
        let name = format!("{}.price", fields.name());
        let prices = Fields::of(node, &name, fields.problems)?;
        let input = prices.required("input", prices.checked("input"), "0.15");
        let output = prices.required("output", prices.checked("output"), "0.60");
        Some(Price {
            input: input?.value,
            output: output?.value,
        })
    });
    let or = |value: Option<Spanned<u32>>, default: u32| {
        let value = value.map_or(default, |it| it.value);
        NonZeroU32::new(value).unwrap_or(NonZeroU32::MIN)
    };
    Some(RemoteModel {
        api: api?.value,
        base_url: base_url?,
        model: model?.value,
        key,
        max_concurrency: or(max_concurrency, 8),
        retries: retries.map_or(5, |it| it.value),
        timeout_s: or(timeout_s, 120),
        price,
    })
}

fn base_url(fields: Fields<'_>) -> Option<Spanned<String>> {
    let url = fields.string("base_url")?;
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|scheme| url.value.strip_prefix(scheme));
    let host = rest.map_or("", |rest| rest.split(['/', '?', '#']).next().unwrap_or(""));
    let (problem, help) = if host.is_empty() {
        (
            "`base_url` is not an address",
            "write it with http:// or https://",
        )
    } else if host.contains('@') {
        // The message must not repeat what may be a password.
        (
            "`base_url` has a user name or password in it",
            "name a variable with `key` instead",
        )
    } else {
        return Some(url);
    };
    fields.problems.error(&url.place, problem, help);
    None
}

/// Whether what is sent to the address can be read on the way.
fn is_in_the_clear(url: &str) -> bool {
    let local = ["localhost", "127.0.0.1", "[::1]"];
    url.strip_prefix("http://").is_some_and(|rest| {
        let host = rest.split(['/', '?', '#']).next().unwrap_or("");
        let is = |name: &&str| {
            host.strip_prefix(*name)
                .is_some_and(|port| port.is_empty() || port.starts_with(':'))
        };
        !local.iter().any(is)
    })
}

fn key_name(fields: Fields<'_>) -> Option<Spanned<String>> {
    let key = fields.string("key")?;
    let is_letter = |byte: u8| byte.is_ascii_uppercase() || byte == b'_' || byte.is_ascii_digit();
    let starts_well = key.value.starts_with(|c: char| c.is_ascii_uppercase());
    if starts_well && key.value.len() <= 64 && key.value.bytes().all(is_letter) {
        return Some(key);
    }
    // The message must not repeat what may be the key itself.
    fields.error(
        "key",
        "`key` is not a name of capital letters, digits and `_`",
        "`key = \"NAME\"` stands for the variable HARNESS_KEY_NAME; never write the key itself",
    );
    None
}

/// Why a string is not a source of a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// No prefix, no slash, no extension.
    #[error("`{got}` is not a source of a model")]
    Unclear {
        /// What was written.
        got: String,
    },
    /// Starts with `hf:` and goes on wrongly.
    #[error("`{got}` is not a source in the hub's form")]
    Hub {
        /// What was written.
        got: String,
    },
}

impl Explain for SourceError {
    fn help(&self) -> Option<String> {
        Some(match self {
            Self::Unclear { got } => format!(
                "write \"builtin:{got}\", \"hf:OWNER/REPO@REVISION\", or a path, which has a `/` or an \
                 extension: \"./{got}\""
            ),
            Self::Hub { .. } => {
                "write \"hf:OWNER/REPO@REVISION\", with /FILE after it for one file; the revision pins \
                 what is measured"
                    .to_owned()
            }
        })
    }
}

impl fmt::Display for ModelSource {
    /// As it is written in an experiment file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builtin(name) => write!(f, "builtin:{name}"),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Hub {
                owner,
                repo,
                revision,
                file,
            } => {
                let revision = revision.replace('/', "%2F");
                write!(f, "hf:{owner}/{repo}@{revision}")?;
                file.as_ref().map_or(Ok(()), |file| write!(f, "/{file}"))
            }
        }
    }
}

impl FromStr for ModelSource {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let unclear = || SourceError::Unclear {
            got: text.to_owned(),
        };
        if let Some(name) = text.strip_prefix("builtin:") {
            return if name.is_empty() {
                Err(unclear())
            } else {
                Ok(Self::Builtin(name.to_owned()))
            };
        }
        if let Some(rest) = text.strip_prefix("hf:") {
            return hub(rest).ok_or_else(|| SourceError::Hub {
                got: text.to_owned(),
            });
        }
        if text.contains('/') || Path::new(text).extension().is_some() {
            return Ok(Self::Path(PathBuf::from(text)));
        }
        Err(unclear())
    }
}

/// `OWNER/REPO@REVISION[/FILE]`; each part may become part of a path, so none is `..`.
///
/// The first `/` after the `@` begins the file, so that a revision writes its own as `%2F`.
fn hub(text: &str) -> Option<ModelSource> {
    let (repository, rest) = text.split_once('@')?;
    let (owner, repo) = repository.split_once('/')?;
    let (revision, file) = match rest.split_once('/') {
        Some((revision, file)) => (revision, Some(file)),
        None => (rest, None),
    };
    let revision = revision.replace("%2F", "/").replace("%2f", "/");
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let is_part = |part: &str| !part.is_empty() && !part.starts_with('.');
    let is_word = |part: &str| is_part(part) && part.chars().all(plain);
    // `--` stands for the `/` between the two in the hub's cache.
    let is_name = |part: &str| is_word(part) && !part.contains("--") && !part.contains("..");
    let in_file = |c: char| !c.is_control() && !"\\:*?\"<>|".contains(c);
    let is_file = |file: &str| file.chars().all(in_file) && file.split('/').all(is_part);
    let is_good = is_name(owner)
        && is_name(repo)
        && revision.split('/').all(is_word)
        && file.is_none_or(is_file);
    is_good.then(|| ModelSource::Hub {
        owner: owner.to_owned(),
        repo: repo.to_owned(),
        revision,
        file: file.map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::testing::{message, spec};

    #[test]
    fn a_source_string_says_where_a_model_is() {
        let hub = |revision: &str, file: Option<&str>| ModelSource::Hub {
            owner: "HuggingFaceTB".to_owned(),
            repo: "SmolLM2-135M".to_owned(),
            revision: revision.to_owned(),
            file: file.map(str::to_owned),
        };
        let table = [
            (
                "builtin:smollm2-135m-instruct",
                ModelSource::Builtin("smollm2-135m-instruct".to_owned()),
            ),
            ("models/x", ModelSource::Path(PathBuf::from("models/x"))),
            ("x.gguf", ModelSource::Path(PathBuf::from("x.gguf"))),
            ("./x", ModelSource::Path(PathBuf::from("./x"))),
            ("hf:HuggingFaceTB/SmolLM2-135M@main", hub("main", None)),
            (
                "hf:HuggingFaceTB/SmolLM2-135M@v1.0/q/x.gguf",
                hub("v1.0", Some("q/x.gguf")),
            ),
            (
                "hf:HuggingFaceTB/SmolLM2-135M@refs%2Fpr%2F1/a b+c.gguf",
                hub("refs/pr/1", Some("a b+c.gguf")),
            ),
        ];
        for (text, expected) in table {
            assert_eq!(expected.to_string(), text);
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        let bad = [
            "smollm2",
            "builtin:",
            "hf:a/b",
            "hf:a@main",
            "hf:a/b@",
            "hf:a/b@m/../x",
            "hf:../b@m",
            "hf:a/b@m//x",
            "hf:a/b c@m",
            "hf:a/b--c@m",
            "hf:a/b@..%2Fm",
            "hf:a/b@m%2F",
            "hf:a/b@m%20n",
            "hf:a/b@m/q\\x.gguf",
            "hf:a/b@m/C:x.gguf",
            "hf:a/b@m/x\n.gguf",
            "",
        ];
        for text in bad {
            assert!(text.parse::<ModelSource>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_model_parses_or_says_why_not() {
        let api = "api = 'openai'\nmodel = 'm'\n";
        let url = "base_url = 'https://example.com/v1'\n";
        let table = [
            ("source = 'x.gguf'".to_owned(), ""),
            (
                "source = 'x.gguf'\ndevice = 'gpu'".to_owned(),
                "`gpu` is not a value of `device`",
            ),
            (
                "source = 'x.gguf'\nsha256 = 'ABC'".to_owned(),
                "`sha256` is not 64 small hex digits",
            ),
            (
                "source = 'x.gguf'\nkey = 'K'".to_owned(),
                "`key` has no meaning for a model with `source`",
            ),
            (
                "source = 'x.gguf'\napi = 'openai'".to_owned(),
                "`[models.m]` has both `source` and `api`",
            ),
            (
                "sorce = 'x.gguf'".to_owned(),
                "unknown key `sorce` in `[models.m]`",
            ),
            (
                "device = 'cpu'".to_owned(),
                "`[models.m]` has neither `source` nor `api`",
            ),
            (format!("{api}{url}"), ""),
            (format!("{api}{url}key = 'MY_KEY_2'"), ""),
            (
                format!("{api}{url}key = '$HOME'"),
                "`key` is not a name of capital letters, digits and `_`",
            ),
            (
                format!("{api}{url}weights = 'f32'"),
                "`weights` has no meaning for a model with `api`",
            ),
            (
                format!("{api}base_url = 'example.com'"),
                "`base_url` is not an address",
            ),
            (
                format!("{api}base_url = 'https://a:b@example.com'"),
                "`base_url` has a user name or password in it",
            ),
            (
                format!("{api}{url}max_concurrency = 0"),
                "expected a whole number from 1 up for `max_concurrency`, got 0",
            ),
            (
                format!("{api}{url}price = {{ input = 1 }}"),
                "`[models.m].price` has no `output`",
            ),
            (
                format!("{api}{url}price = 1"),
                "expected a table for `[models.m].price`, got a whole number",
            ),
            (
                "api = 'opnai'\nmodel = 'm'\nbase_url = 'http://x'".to_owned(),
                "`opnai` is not a value of `api`",
            ),
            (
                "api = 'openai'".to_owned(),
                "`[models.m]` has no `base_url`\n`[models.m]` has no `model`",
            ),
        ];
        for (rest, expected) in table {
            assert_eq!(
                message(&format!("[models.m]\n{rest}\n")),
                expected,
                "{rest}"
            );
        }
    }

    #[test]
    fn a_server_has_the_defaults_of_the_format() {
        let text = "[models.m]\napi = 'openai'\nmodel = 'x'\nbase_url = 'http://localhost'\n\
            price = { input = 0.15, output = 1 }\n[models.n]\nsource = 'x.gguf'\n";
        let models = spec(text).models;
        let [ModelSpec::Remote(server), ModelSpec::Local(local)] = [&models["m"], &models["n"]]
        else {
            panic!("a server and a file");
        };
        let limits = (
            server.max_concurrency.get(),
            server.retries,
            server.timeout_s.get(),
        );
        assert_eq!(limits, (8, 5, 120));
        assert_eq!(
            server.price.map(|it| (it.input.get(), it.output.get())),
            Some((0.15, 1.0))
        );
        assert_eq!((local.device, local.weights), (Device::Auto, Weights::Auto));
    }

    /// Neither a key nor a password is repeated where a log keeps it.
    #[test]
    fn no_message_repeats_a_secret() {
        let text = "[models.m]\napi = 'openai'\nmodel = 'm'\nbase_url = 'https://me:hunter2@x'\nkey = 'sk-hunter2'\n";
        assert!(!message(text).contains("hunter2"), "{}", message(text));
    }

    #[test]
    fn a_key_over_plain_http_is_warned_about() {
        let table = [
            ("http://example.com", true),
            ("http://localhost.example.com", true),
            ("https://example.com", false),
            ("http://localhost:8080/v1", false),
            ("http://127.0.0.1", false),
            ("http://[::1]:80", false),
        ];
        for (url, expected) in table {
            assert_eq!(is_in_the_clear(url), expected, "{url}");
        }
    }
}
