//! Addresses: who is behind one, where a redirection leads, how names are written in one.

use std::fmt::Write as _;
use std::net::IpAddr;

use ureq::http::Uri;

/// Scheme, host and port: to whom a secret may be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) is_encrypted: bool,
    pub(super) host: String,
    port: u16,
}

impl Origin {
    /// Of an address with http or https.
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        let is_encrypted = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        Some(Self {
            is_encrypted,
            host: uri.host()?.to_lowercase(),
            port: uri
                .port_u16()
                .unwrap_or(if is_encrypted { 443 } else { 80 }),
        })
    }

    /// Whether going on from here to there gives encryption up.
    pub(super) fn is_downgrade(&self, to: &Self) -> bool {
        self.is_encrypted && !to.is_encrypted && !is_loopback(&to.host)
    }
}

/// Whether what is sent to the host stays on this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|it| it.is_loopback())
}

/// The address that a `Location` names, seen from `base`.
pub(super) fn leads_to(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next()?.trim();
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let address = if location.starts_with("https://") || location.starts_with("http://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.is_empty() {
        return None;
    } else {
        let folder = base
            .path()
            .rsplit_once('/')
            .map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    address.parse().ok()
}

/// A path's parts for an address; `/` between them stays.
pub(super) fn encoded_path(path: &str) -> String {
    path.split('/').map(encoded).collect::<Vec<_>>().join("/")
}

/// One part of an address: everything but letters, digits and `-._~` as `%XX`.
pub(super) fn encoded(part: &str) -> String {
    part.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a String cannot fail");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn a_redirection_is_read_as_browsers_do() {
        let base = uri("https://hub.example:8443/a/b?c=d");
        let table = [
            ("/x?y", "https://hub.example:8443/x?y"),
            ("//cdn.example/x", "https://cdn.example/x"),
            ("http://other.example/x#part", "http://other.example/x"),
            ("x", "https://hub.example:8443/a/x"),
        ];
        for (location, expected) in table {
            assert_eq!(leads_to(&base, location), Some(uri(expected)), "{location}");
        }
        for bad in ["", "#x", "https://", "http://a b/"] {
            assert_eq!(leads_to(&base, bad), None, "{bad}");
        }
    }

    /// A secret goes to the same scheme, host and port only.
    #[test]
    fn an_origin_is_more_than_a_host() {
        let origin = |text: &str| Origin::of(&uri(text)).unwrap();
        let home = origin("https://huggingface.co/x");
        assert_eq!(origin("https://HuggingFace.co:443/y"), home);
        for other in [
            "http://huggingface.co/x",
            "https://huggingface.co:444/x",
            "https://huggingface.co.example/x",
            "https://cdn.huggingface.co/x",
        ] {
            assert_ne!(origin(other), home, "{other}");
        }
        assert_eq!(Origin::of(&uri("ftp://huggingface.co/x")), None);
    }

    #[test]
    fn encryption_is_not_given_up_on_the_way() {
        let origin = |text: &str| Origin::of(&uri(text)).unwrap();
        let home = origin("https://huggingface.co");
        assert!(home.is_downgrade(&origin("http://huggingface.co")));
        for to in ["https://cdn.example", "http://localhost:1"] {
            assert!(!home.is_downgrade(&origin(to)), "{to}");
        }
        assert!(!origin("http://hub.example").is_downgrade(&origin("http://cdn.example")));
    }

    #[test]
    fn loopback_is_this_machine_alone() {
        for it in ["localhost", "127.0.0.1", "127.9.9.9", "[::1]", "::1"] {
            assert!(is_loopback(it), "{it}");
        }
        for it in [
            "localhost.example.com",
            "10.0.0.1",
            "0.0.0.0",
            "[2001:db8::1]",
        ] {
            assert!(!is_loopback(it), "{it}");
        }
    }

    #[test]
    fn paths_are_encoded_by_part() {
        assert_eq!(encoded_path("q/a b+ü.gguf"), "q/a%20b%2B%C3%BC.gguf");
        assert_eq!(encoded("refs/pr/1"), "refs%2Fpr%2F1");
    }
}
