//! Where the hub and its cache are and who asks, as the environment says.
//!
//! The names and their order are those of `huggingface_hub` 2.4 (`constants.py`,
//! `utils/_auth.py`), so that one setting serves all tools. An experiment file has no say
//! here: it comes from a stranger and must not choose where a token is sent.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::HubError;
use crate::model::OpenOptions;

/// The hub that is asked if `HF_ENDPOINT` names no other.
const PUBLIC_HUB: &str = "https://huggingface.co";

/// Where the hub and its cache are, and how they are used.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder that holds `models--OWNER--REPO` folders.
    pub cache: PathBuf,
    /// Where requests go.
    pub endpoint: Endpoint,
    /// Who asks; sent to the endpoint only.
    pub token: Option<Token>,
    /// Open no connection.
    pub offline: bool,
    /// How long to wait for what.
    pub patience: Patience,
}

/// How long to wait for what, and how often to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For the next bytes.
    pub idle: Duration,
    /// How often a failed request is tried again.
    pub n_retries: u32,
    /// Before the first retry; doubled before each further one.
    pub backoff: Duration,
    /// The longest wait that a server may ask for.
    pub longest_wait: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_mins(1),
            n_retries: 5,
            backoff: Duration::from_millis(500),
            longest_wait: Duration::from_mins(5),
        }
    }
}

/// The address of a hub, without a slash at its end: `https://HOST[:PORT][/PATH]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(String);

impl Endpoint {
    /// Checks an address.
    ///
    /// # Errors
    ///
    /// [`HubError::BadEndpoint`], which does not repeat what may be a password.
    pub fn parse(text: &str) -> Result<Self, HubError> {
        let bad = |reason| Err(HubError::BadEndpoint { reason });
        let text = text.trim().trim_end_matches('/');
        let rest = ["https://", "http://"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme));
        let Some(rest) = rest else {
            return bad("does not begin with https:// or http://");
        };
        let host = rest.split('/').next().unwrap_or_default();
        if host.contains('@') {
            return bad("has a user name or password in it");
        }
        let is_plain = |c: char| c.is_ascii_graphic() && !"?#\\\"<>%{}|^`".contains(c);
        if host.is_empty() || !rest.chars().all(is_plain) {
            return bad("is not an address");
        }
        Ok(Self(text.to_owned()))
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A secret that says who asks; neither `Debug` nor `Display` shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Takes a token from `place`, which the error names; `None` if it is blank.
    ///
    /// # Errors
    ///
    /// [`HubError::BadToken`] if it cannot stand in a header.
    pub fn parse(text: &str, place: &str) -> Result<Option<Self>, HubError> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        if !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err(HubError::BadToken {
                place: place.to_owned(),
            });
        }
        Ok(Some(Self(text.to_owned())))
    }

    /// The value of the header `Authorization`.
    pub(super) fn authorization(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The folder of the hub's cache, as the environment says; `None` if it says nothing.
pub fn cache_folder() -> Option<PathBuf> {
    Variables(&|name| std::env::var_os(name)).cache()
}

impl Settings {
    /// The settings of this process, in which [`OpenOptions::offline`] counts as well.
    ///
    /// # Errors
    ///
    /// [`HubError`] if a variable or the token's file cannot be used.
    pub fn from_environment(options: &OpenOptions) -> Result<Self, HubError> {
        Self::from_variables(options, &|name| std::env::var_os(name))
    }

    /// The settings that `variable` gives; an empty variable counts as absent.
    fn from_variables(
        options: &OpenOptions,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, HubError> {
        let variable = Variables(variable);
        let endpoint = variable.text("HF_ENDPOINT");
        let mut switches = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].into_iter();
        let offline = options.offline || switches.any(|it| variable.is_true(it));
        let home = variable.hub_home();
        let cache = variable.cache().ok_or(HubError::NoCacheFolder)?;
        let token = if offline {
            None
        } else {
            variable.token(home.as_deref())?
        };
        Ok(Self {
            cache,
            endpoint: Endpoint::parse(endpoint.as_deref().unwrap_or(PUBLIC_HUB))?,
            token,
            offline,
            patience: Patience::default(),
        })
    }
}

/// Environment variables as `huggingface_hub` reads them.
struct Variables<'a>(&'a dyn Fn(&str) -> Option<OsString>);

impl Variables<'_> {
    fn get(&self, name: &str) -> Option<OsString> {
        (self.0)(name).filter(|it| !it.is_empty())
    }

    fn text(&self, name: &str) -> Option<String> {
        Some(self.get(name)?.to_string_lossy().into_owned())
    }

    fn is_true(&self, name: &str) -> bool {
        let text = self.text(name).unwrap_or_default().to_uppercase();
        ["1", "ON", "YES", "TRUE"].contains(&text.as_str())
    }

    /// A path, with `~`, `$NAME` and `${NAME}` replaced as Python does.
    fn path(&self, name: &str) -> Option<PathBuf> {
        let value = self.get(name)?;
        let Some(text) = value.to_str() else {
            return Some(value.into());
        };
        let text = self.expanded(text);
        let below_home = text
            .strip_prefix('~')
            .filter(|it| it.is_empty() || it.starts_with('/'));
        Some(match (below_home, self.user_home()) {
            (Some(rest), Some(home)) => home.join(rest.trim_start_matches('/')),
            _ => text.into(),
        })
    }

    /// Unknown names stay as they are.
    fn expanded(&self, text: &str) -> String {
        let Some((before, rest)) = text.split_once('$') else {
            return text.to_owned();
        };
        let braced = rest.strip_prefix('{').and_then(|it| it.split_once('}'));
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let (name, after) = braced
            .unwrap_or_else(|| rest.split_at(rest.find(|c| !is_name(c)).unwrap_or(rest.len())));
        let written = &rest[..rest.len() - after.len()];
        let value = self.text(name).unwrap_or_else(|| format!("${written}"));
        format!("{before}{value}{}", self.expanded(after))
    }

    fn user_home(&self) -> Option<PathBuf> {
        let name = if cfg!(windows) { "USERPROFILE" } else { "HOME" };
        self.get(name).map(PathBuf::from)
    }

    /// The folder that holds `models--OWNER--REPO` folders.
    fn cache(&self) -> Option<PathBuf> {
        self.path("HF_HUB_CACHE")
            .or_else(|| self.path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(self.hub_home()?.join("hub")))
    }

    /// The folder that holds the cache `hub` and the file `token`.
    fn hub_home(&self) -> Option<PathBuf> {
        self.path("HF_HOME").or_else(|| {
            let caches = self.path("XDG_CACHE_HOME");
            let caches = caches.or_else(|| Some(self.user_home()?.join(".cache")))?;
            Some(caches.join("huggingface"))
        })
    }

    fn token(&self, home: Option<&Path>) -> Result<Option<Token>, HubError> {
        if self.is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            return Ok(None);
        }
        for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
            if let Some(text) = self.text(name) {
                return Token::parse(&text, &format!("`{name}`"));
            }
        }
        let path = self
            .path("HF_TOKEN_PATH")
            .or_else(|| Some(home?.join("token")));
        let Some(path) = path else { return Ok(None) };
        match std::fs::read_to_string(&path) {
            Ok(text) => Token::parse(&text, &format!("`{}`", path.display())),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(HubError::Io { path, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings, HubError> {
        Settings::from_variables(&OpenOptions::default(), &|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| value.into())
        })
    }

    #[test]
    #[cfg(unix)]
    fn the_cache_is_the_one_of_other_tools() {
        let table: [(&[(&str, &str)], &str); 8] = [
            (&[("HOME", "/h")], "/h/.cache/huggingface/hub"),
            (
                &[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")],
                "/x/huggingface/hub",
            ),
            (&[("HOME", "/h"), ("HF_HOME", "/hf")], "/hf/hub"),
            (&[("HOME", "/h"), ("HF_HOME", "~/hf")], "/h/hf/hub"),
            (
                &[("HF_HOME", "${DISK}/hf$NOT/x"), ("DISK", "/d")],
                "/d/hf$NOT/x/hub",
            ),
            (
                &[("HF_HOME", "/hf"), ("HUGGINGFACE_HUB_CACHE", "/old")],
                "/old",
            ),
            (
                &[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HUB_CACHE", "/new")],
                "/new",
            ),
            (
                &[("HOME", "/h"), ("HF_HUB_CACHE", "")],
                "/h/.cache/huggingface/hub",
            ),
        ];
        for (variables, expected) in table {
            assert_eq!(settings(variables).unwrap().cache, Path::new(expected));
        }
        assert!(matches!(settings(&[]), Err(HubError::NoCacheFolder)));
    }

    #[test]
    fn the_token_comes_from_the_environment_before_the_file() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().to_str().unwrap();
        let token = |more: &[(&str, &str)]| {
            let variables = [&[("HF_HOME", path)], more].concat();
            settings(&variables).unwrap().token.map(|it| it.0)
        };
        assert_eq!(token(&[]), None);
        std::fs::write(home.path().join("token"), "hf_file\n").unwrap();
        assert_eq!(token(&[]).unwrap(), "hf_file");
        assert_eq!(
            token(&[("HUGGING_FACE_HUB_TOKEN", "hf_old")]).unwrap(),
            "hf_old"
        );
        let both = [
            ("HUGGING_FACE_HUB_TOKEN", "hf_old"),
            ("HF_TOKEN", " hf_new\n"),
        ];
        assert_eq!(token(&both).unwrap(), "hf_new");
        for name in [
            "HF_HUB_DISABLE_IMPLICIT_TOKEN",
            "HF_HUB_OFFLINE",
            "TRANSFORMERS_OFFLINE",
        ] {
            assert_eq!(
                token(&[("HF_TOKEN", "hf_new"), (name, "yes")]),
                None,
                "{name}"
            );
        }
        let elsewhere = home.path().join("other");
        std::fs::write(&elsewhere, "hf_other").unwrap();
        let at = [("HF_TOKEN_PATH", elsewhere.to_str().unwrap())];
        assert_eq!(token(&at).unwrap(), "hf_other");
    }

    #[test]
    fn no_message_shows_a_secret() {
        let base = [("HOME", "/h")];
        let refused = |more: &[(&str, &str)]| {
            let err = settings(&[&base, more].concat()).unwrap_err();
            format!("{err} {err:?} {}", err.hint().unwrap_or_default())
        };
        for it in [
            refused(&[("HF_TOKEN", "hf_hunter2\u{7}")]),
            refused(&[("HF_ENDPOINT", "https://me:hunter2@example.com")]),
        ] {
            assert!(!it.contains("hunter2"), "{it}");
        }
        let with = settings(&[("HOME", "/h"), ("HF_TOKEN", "hf_hunter2")]).unwrap();
        assert!(!format!("{with:?}").contains("hunter2"));
    }

    #[test]
    fn an_endpoint_is_an_address_or_says_why_not() {
        let table = [
            ("https://huggingface.co/", Some("https://huggingface.co")),
            ("http://127.0.0.1:8080", Some("http://127.0.0.1:8080")),
            ("https://example.com/hub/", Some("https://example.com/hub")),
            ("huggingface.co", None),
            ("https://", None),
            ("https://a?b", None),
            ("https://a b", None),
        ];
        for (text, expected) in table {
            let got = Endpoint::parse(text).ok();
            assert_eq!(got.as_ref().map(Endpoint::as_str), expected, "{text}");
        }
    }
}
