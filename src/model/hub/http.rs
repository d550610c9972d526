//! Requests to the hub: the only code that opens a connection.
//!
//! The token is sent to the endpoint's own scheme, host and port and nowhere else, so
//! redirections are followed here, one request after the other. Requests that failed for a
//! passing reason (no connection, status 429 or 5xx) are tried again a bounded number of
//! times; an answer that says no is final.

use std::fmt;
use std::io::Read;
use std::time::Duration;

use ureq::http::{HeaderMap, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy, ProxyProtocol, Timeout};

use super::address::{Origin, is_loopback, leads_to};
use super::error::HubError;
use super::settings::Settings;

/// Redirections that are followed for one request.
const MAX_HOPS: usize = 10;
/// Longest text of a server that is repeated, in characters.
const MAX_SAID: usize = 200;
/// Retries where there is no connection at all: waiting rarely helps.
const N_RETRIES_UNREACHABLE: u32 = 2;
/// Longest pause between two tries that the server did not ask for.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Get,
    Head,
}

/// Sends requests for one fetch.
pub(super) struct Client<'a> {
    settings: &'a Settings,
    home: Origin,
    agent: Agent,
}

/// An answer: its head is here, its body still on the way.
pub(super) struct Reply {
    pub(super) status: u16,
    /// Who gave it.
    pub(super) host: String,
    headers: HeaderMap,
    body: Body,
}

/// What the hub says of a file on the way to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) commit: Option<String>,
    pub(super) etag: Option<String>,
    pub(super) size: Option<u64>,
}

/// Why a request has no answer, and whether to ask again.
struct Failure {
    error: Box<HubError>,
    /// How often it may be tried again.
    n_retries: u32,
    /// How long the server says to wait.
    wait: Option<Duration>,
}

impl<'a> Client<'a> {
    /// A client of the settings' endpoint.
    ///
    /// # Errors
    ///
    /// [`HubError::TokenOverHttp`] if the token could be read on the way.
    pub(super) fn new(settings: &'a Settings) -> Result<Self, HubError> {
        let bad = HubError::BadEndpoint {
            reason: "is not an address",
        };
        let uri = settings.endpoint.as_str().parse().ok();
        let home = uri.as_ref().and_then(Origin::of).ok_or(bad)?;
        if settings.token.is_some() && !home.is_encrypted && !is_loopback(&home.host) {
            return Err(HubError::TokenOverHttp { host: home.host });
        }
        let patience = settings.patience;
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("prompt-harness/", env!("CARGO_PKG_VERSION")))
            .accept("*/*")
            // The size of a file is counted in its own bytes.
            .accept_encoding("identity")
            .timeout_resolve(Some(patience.connect))
            .timeout_connect(Some(patience.connect))
            .timeout_per_read(Some(patience.idle))
            .timeout_per_write(Some(patience.idle))
            .timeout_recv_response(Some(patience.idle))
            .tls_config(
                TlsConfig::builder()
                    .root_certs(RootCerts::PlatformVerifier)
                    .build(),
            )
            .build()
            .new_agent();
        Ok(Self {
            settings,
            home,
            agent,
        })
    }

    /// The settings that it follows.
    pub(super) fn settings(&self) -> &Settings {
        self.settings
    }

    /// Asks for what is at `path` of the endpoint, from byte `start` on.
    pub(super) fn get(&self, path: &str, start: Option<u64>) -> Result<Reply, HubError> {
        self.patiently(|| self.follow(Method::Get, path, start))
            .map(|(reply, _)| reply)
    }

    /// Asks for the facts of the file at `path` of the endpoint.
    pub(super) fn head(&self, path: &str) -> Result<(Reply, Facts), HubError> {
        self.patiently(|| self.follow(Method::Head, path, None))
    }

    /// The body at `path` of the endpoint if the status is 200, with at most `most` bytes.
    pub(super) fn read(&self, path: &str, most: u64) -> Result<(Reply, Vec<u8>), HubError> {
        self.patiently(|| {
            let (mut reply, _) = self.follow(Method::Get, path, None)?;
            let mut bytes = Vec::new();
            if reply.status == 200 {
                let body = reply.body.as_reader();
                let n = body.take(most + 1).read_to_end(&mut bytes);
                n.map_err(|err| self.broken(&reply.host, err.into()))?;
                if most < bytes.len() as u64 {
                    let reason = format!("an answer has more than {most} bytes");
                    return Err(reply.strange(&reason).into());
                }
            }
            Ok((reply, bytes))
        })
    }

    /// Calls `ask` until it succeeds or there is no point in it.
    fn patiently<T>(&self, ask: impl Fn() -> Result<T, Failure>) -> Result<T, HubError> {
        let mut n_failures = 0;
        loop {
            let failure = match ask() {
                Ok(it) => return Ok(it),
                Err(failure) => failure,
            };
            n_failures += 1;
            let patience = &self.settings.patience;
            let wait = failure.wait.unwrap_or_else(|| self.pause(n_failures));
            if failure.n_retries < n_failures || patience.longest_wait < wait {
                return Err(failure.error.after(n_failures));
            }
            std::thread::sleep(wait);
        }
    }

    /// How long to wait after the `n`-th failure in a row, counted from 1.
    pub(super) fn pause(&self, n: u32) -> Duration {
        let factor = 2_u32.saturating_pow(n.saturating_sub(1));
        self.settings
            .patience
            .backoff
            .saturating_mul(factor)
            .min(MAX_BACKOFF)
    }

    /// One request with its redirections.
    ///
    /// The facts of a file stand in the hub's own answer, which for a large file leads on to
    /// another host: once they are known, a HEAD request goes no further.
    fn follow(
        &self,
        method: Method,
        path: &str,
        start: Option<u64>,
    ) -> Result<(Reply, Facts), Failure> {
        let address = format!("{}{path}", self.settings.endpoint.as_str());
        let mut uri: Uri = address.parse().map_err(|_| HubError::BadReply {
            host: self.home.host.clone(),
            reason: format!("`{path}` is not an address"),
        })?;
        let (mut facts, mut linked) = (Facts::default(), false);
        for _ in 0..MAX_HOPS {
            let reply = self.send(method, &uri, start)?;
            linked = facts.add(&reply, linked);
            if !matches!(reply.status, 301 | 302 | 303 | 307 | 308) {
                return Ok((reply, facts));
            }
            let location = reply.header("location").unwrap_or_default();
            let next = leads_to(&uri, location)
                .ok_or_else(|| reply.strange("a redirection leads to no address"))?;
            let to = Origin::of(&next)
                .ok_or_else(|| reply.strange("a redirection leads to no address"))?;
            let is_known = facts.commit.is_some() && facts.etag.is_some();
            if method == Method::Head && is_known && to != self.home {
                return Ok((reply, facts));
            }
            if Origin::of(&uri).is_some_and(|from| from.is_downgrade(&to)) {
                let host = reply.host;
                return Err(HubError::InsecureRedirect { host, to: to.host }.into());
            }
            uri = next;
        }
        let reason = format!("more than {MAX_HOPS} redirections");
        let host = self.home.host.clone();
        Err(HubError::BadReply { host, reason }.into())
    }

    fn send(&self, method: Method, uri: &Uri, start: Option<u64>) -> Result<Reply, Failure> {
        let origin = Origin::of(uri).ok_or_else(|| HubError::BadReply {
            host: self.home.host.clone(),
            reason: "an address without a host".to_owned(),
        })?;
        let mut request = match method {
            Method::Get => self.agent.get(uri.clone()),
            Method::Head => self.agent.head(uri.clone()),
        };
        if let (Some(token), true) = (&self.settings.token, origin == self.home) {
            request = request.header("Authorization", token.authorization());
        }
        if let Some(start) = start {
            request = request.header("Range", format!("bytes={start}-"));
        }
        let proxy = proxy_for(uri, &origin)?;
        let response = request.config().proxy(proxy).build().call();
        let (head, body) = response
            .map_err(|err| self.broken(&origin.host, err))?
            .into_parts();
        let reply = Reply {
            status: head.status.as_u16(),
            host: origin.host,
            headers: head.headers,
            body,
        };
        match reply.status {
            429 | 500 | 502 | 503 | 504 => Err(self.busy(&reply)),
            _ => Ok(reply),
        }
    }

    /// The failure of a server that may work later.
    fn busy(&self, reply: &Reply) -> Failure {
        let (host, wait) = (reply.host.clone(), reply.wait());
        let error = if reply.status == 429 {
            let wait_s = wait.map(|it| it.as_secs());
            HubError::RateLimited { host, wait_s }
        } else {
            HubError::ServerFailed {
                host,
                status: reply.status,
                n_attempts: 0,
            }
        };
        Failure {
            error: Box::new(error),
            n_retries: self.settings.patience.n_retries,
            wait,
        }
    }

    /// The failure of a connection; no text of it holds an address.
    fn broken(&self, host: &str, err: ureq::Error) -> Failure {
        let patience = &self.settings.patience;
        let host = host.to_owned();
        let unreachable = |reason: String, n_retries: u32| Failure {
            error: Box::new(HubError::Unreachable {
                host: host.clone(),
                reason,
            }),
            n_retries: n_retries.min(patience.n_retries),
            wait: None,
        };
        let error = match err {
            ureq::Error::Timeout(Timeout::Connect | Timeout::Resolve) => {
                let reason = format!("no connection within {} s", patience.connect.as_secs());
                return unreachable(reason, N_RETRIES_UNREACHABLE);
            }
            ureq::Error::HostNotFound => {
                let reason = "its name is not known".to_owned();
                return unreachable(reason, N_RETRIES_UNREACHABLE);
            }
            ureq::Error::Timeout(_) => self.stalled(&host),
            ureq::Error::Io(err) => match err.kind() {
                std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock => {
                    self.stalled(&host)
                }
                std::io::ErrorKind::UnexpectedEof
                | std::io::ErrorKind::ConnectionReset
                | std::io::ErrorKind::ConnectionAborted
                | std::io::ErrorKind::BrokenPipe => cut(&host, &err),
                // Certificates that are not trusted, among others.
                std::io::ErrorKind::InvalidData => return unreachable(plain(&err), 0),
                _ => return unreachable(plain(&err), N_RETRIES_UNREACHABLE),
            },
            ureq::Error::Protocol(err) => {
                let reason = plain(&err);
                return HubError::BadReply { host, reason }.into();
            }
            ureq::Error::BodyStalled => cut(&host, &"the answer ended early"),
            ureq::Error::ConnectProxyFailed(reason) => {
                return unreachable(format!("the proxy refused: {}", plain(&reason)), 0);
            }
            ureq::Error::BadUri(_) => return unreachable("its address is not valid".to_owned(), 0),
            other => return unreachable(plain(&other), 0),
        };
        Failure {
            error: Box::new(error),
            n_retries: patience.n_retries,
            wait: None,
        }
    }

    fn stalled(&self, host: &str) -> HubError {
        HubError::Stalled {
            host: host.to_owned(),
            file: None,
            idle_s: self.settings.patience.idle.as_secs(),
            n_attempts: 0,
        }
    }

    /// Why reading a body failed.
    pub(super) fn broken_body(&self, host: &str, err: std::io::Error) -> HubError {
        *self.broken(host, err.into()).error
    }
}

fn cut(host: &str, reason: &dyn fmt::Display) -> HubError {
    HubError::Cut {
        host: host.to_owned(),
        file: None,
        reason: plain(reason),
        n_attempts: 0,
    }
}

impl From<HubError> for Failure {
    /// A failure that asking again does not mend.
    fn from(error: HubError) -> Self {
        Self {
            error: Box::new(error),
            n_retries: 0,
            wait: None,
        }
    }
}

impl Reply {
    /// A header's value, if it is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The hub's own name for what went wrong, such as `GatedRepo`.
    pub(super) fn code(&self) -> &str {
        self.header("x-error-code").unwrap_or_default()
    }

    /// What the hub says about what went wrong, short and harmless.
    pub(super) fn said(&self) -> String {
        plain(&self.header("x-error-message").unwrap_or_default())
    }

    /// The body's bytes as they come.
    pub(super) fn into_reader(self) -> impl Read {
        self.body.into_reader()
    }

    /// That this is no answer of a hub.
    pub(super) fn strange(&self, reason: &str) -> HubError {
        HubError::BadReply {
            host: self.host.clone(),
            reason: reason.to_owned(),
        }
    }

    /// How long the server says to wait: `Retry-After` in seconds, or the `t` of `RateLimit`.
    fn wait(&self) -> Option<Duration> {
        let after = self.header("retry-after").map(str::trim);
        let window = || {
            let parts = self.header("ratelimit")?.split(';');
            parts.map(str::trim).find_map(|it| it.strip_prefix("t="))
        };
        let seconds = after.or_else(window)?.parse().ok()?;
        Some(Duration::from_secs(seconds))
    }
}

impl Facts {
    /// Adds what this answer says; `linked` is whether an etag of the linked file is known,
    /// which no other etag replaces.
    fn add(&mut self, reply: &Reply, linked: bool) -> bool {
        let number = |name: &str| reply.header(name)?.trim().parse().ok();
        let commit = reply.header("x-repo-commit").map(str::to_owned);
        self.commit = commit.or(self.commit.take());
        let linked_etag = reply.header("x-linked-etag").map(normal_etag);
        let is_linked = linked || linked_etag.is_some();
        let own_etag = reply.header("etag").map(normal_etag);
        self.etag = linked_etag
            .or_else(|| if linked { self.etag.take() } else { own_etag })
            .or(self.etag.take());
        let own_size = || {
            let is_file = reply.status == 200;
            is_file.then(|| number("content-length")).flatten()
        };
        self.size = number("x-linked-size").or(self.size).or_else(own_size);
        is_linked
    }
}

/// `W/"abc"` and `"abc"` are both `abc`.
fn normal_etag(text: &str) -> String {
    let text = text.trim();
    text.strip_prefix("W/")
        .unwrap_or(text)
        .trim_matches('"')
        .to_owned()
}

/// The proxy that the environment names for the address.
fn proxy_for(uri: &Uri, origin: &Origin) -> Result<Option<Proxy>, HubError> {
    let names = if origin.is_encrypted {
        ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
    } else {
        ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
    };
    let value = |name: &'static str| {
        let value = std::env::var(name).ok()?;
        (!value.is_empty()).then_some((name, value))
    };
    let Some((variable, value)) = names.into_iter().find_map(value) else {
        return Ok(None);
    };
    // Only the reader of the whole environment knows `NO_PROXY`.
    let is_excepted = Proxy::try_from_env().is_some_and(|it| it.is_no_proxy(uri));
    if is_excepted || is_loopback(&origin.host) {
        return Ok(None);
    }
    let proxy = Proxy::new(&value).ok();
    let is_usable =
        |it: &Proxy| matches!(it.protocol(), ProxyProtocol::Http | ProxyProtocol::Https);
    proxy
        .filter(is_usable)
        .map(Some)
        .ok_or(HubError::BadProxy { variable })
}

/// A text of another program on one line, short and without control characters.
fn plain(text: &dyn fmt::Display) -> String {
    let text = text.to_string();
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(MAX_SAID).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_lose_what_is_not_theirs() {
        for it in ["W/\"abc\"", "\"abc\"", " abc "] {
            assert_eq!(normal_etag(it), "abc");
        }
    }

    #[test]
    fn what_others_say_is_short_and_harmless() {
        let said = plain(&format!("a\u{1b}[2J\n{}", "x".repeat(999)));
        assert_eq!(said.chars().count(), MAX_SAID);
        assert!(said.starts_with("a [2J x"));
    }
}
