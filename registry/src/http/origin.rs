//! Where a URL leads, in the parts by which credentials are bound to it.

use reqwest::Url;

/// Scheme, host and port of an http or https URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
    loopback: bool,
}

impl Origin {
    /// The origin of a URL that has no credentials of its own: where it has, those are meant.
    pub fn of(url: &str) -> Option<Origin> {
        let url: Url = url.parse().ok()?;
        if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
            return None;
        }
        let host = url.host_str()?;
        let loopback = match super::address::literal(&url) {
            Some(ip) => ip.is_loopback(),
            None => host == "localhost",
        };
        Some(Origin { scheme: url.scheme().to_owned(), host: host.to_owned(), port: url.port(), loopback })
    }

    /// What the user may call it: the host with the port that the URL names, then the host.
    pub fn names(&self) -> Vec<String> {
        let with_port = self.port.map(|port| format!("{}:{port}", self.host));
        with_port.into_iter().chain([self.host.clone()]).collect()
    }

    /// Nobody on the way can read what is sent.
    pub fn is_private(&self) -> bool {
        self.scheme == "https" || self.loopback
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_credentials_are_for() {
        let of = |url: &str| Origin::of(url).map(|origin| (origin.to_string(), origin.names(), origin.is_private()));
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(of("https://H.example/a").unwrap(), ("https://h.example".to_owned(), names(&["h.example"]), true));
        let (shown, called, private) = of("http://h:81/a").unwrap();
        assert_eq!((shown.as_str(), called, private), ("http://h:81", names(&["h:81", "h"]), false));
        assert!(of("http://127.0.0.1:1/").unwrap().2 && of("http://[::1]/").unwrap().2);
        for none in ["https://user@h/", "https://u:p@h/", "ssh://h/r", "git://h/r", "h/r", "user@h:r"] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
