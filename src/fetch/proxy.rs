//! Which requests go through a proxy.

use std::fmt;
use std::net::IpAddr;

use crate::diagnostic::{Diagnostic, Exit};
use crate::url::{Scheme, Url};

/// The proxies of `http_proxy`, `https_proxy` and `all_proxy`, and the hosts of `no_proxy` that need none.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    http: Option<Result<Proxy, ProxyError>>,
    https: Option<Result<Proxy, ProxyError>>,
    direct: Vec<Direct>,
}

/// A proxy that tunnels with CONNECT. What it is called shows neither user nor password.
#[derive(Clone)]
pub(super) struct Proxy {
    pub(super) inner: ureq::Proxy,
    name: String,
}

/// Why there is no such proxy. Its value is not repeated: it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} in the environment is no proxy that can be used")]
pub struct ProxyError {
    /// The variable.
    pub variable: &'static str,
}

impl Diagnostic for ProxyError {
    fn code(&self) -> &'static str {
        "E-FETCH-PROXY"
    }

    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some("write it as http://HOST:PORT or https://USER:PASSWORD@HOST:PORT; SOCKS is not spoken".into())
    }
}

/// Hosts that need no proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Direct {
    All,
    /// This domain and those below it, on this port or all.
    Domain(String, Option<u16>),
    /// The addresses that begin with so many bits of this one.
    Network(IpAddr, u8),
}

impl Proxies {
    /// Reads the values of the variables as curl does; empty ones are none. One that is no proxy is an error when it is needed.
    pub fn new(http: Option<&str>, https: Option<&str>, all: Option<&str>, none: Option<&str>) -> Proxies {
        let all = || proxy("all_proxy", all);
        let direct = none.unwrap_or_default().split([',', ' ']).filter_map(|text| direct(text.trim()));
        Proxies {
            http: proxy("http_proxy", http).or_else(all),
            https: proxy("https_proxy", https).or_else(all),
            direct: direct.collect(),
        }
    }

    /// The proxy for this address. What stays on this machine goes through none.
    pub(super) fn of(&self, url: &Url) -> Result<Option<&Proxy>, ProxyError> {
        let proxy = match url.scheme() {
            Scheme::Http => self.http.as_ref(),
            Scheme::Https => self.https.as_ref(),
        };
        let proxy =
            proxy.filter(|_| !url.is_loopback() && !self.direct.iter().any(|direct| direct.holds(url)));
        proxy.map(Result::as_ref).transpose().map_err(Clone::clone)
    }
}

impl Direct {
    fn holds(&self, url: &Url) -> bool {
        let host = url.host().trim_start_matches('[').trim_end_matches([']', '.']);
        match self {
            Direct::All => true,
            Direct::Domain(domain, port) => {
                let below = host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.ends_with('.'));
                (host == domain || below) && port.is_none_or(|port| port == url.port())
            }
            Direct::Network(network, bits) => match (network, host.parse::<IpAddr>()) {
                (IpAddr::V4(a), Ok(IpAddr::V4(b))) => {
                    u32::from(*bits) == 0 || (a.to_bits() ^ b.to_bits()) >> (32 - u32::from(*bits)) == 0
                }
                (IpAddr::V6(a), Ok(IpAddr::V6(b))) => {
                    u32::from(*bits) == 0 || (a.to_bits() ^ b.to_bits()) >> (128 - u32::from(*bits)) == 0
                }
                _ => false,
            },
        }
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

fn proxy(variable: &'static str, value: Option<&str>) -> Option<Result<Proxy, ProxyError>> {
    let text = value.map(str::trim).filter(|text| !text.is_empty())?;
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let parsed = full.parse::<Url>().ok().zip(ureq::Proxy::new(&full).ok());
    Some(match parsed {
        Some((url, inner)) => Ok(Proxy { inner, name: format!("{}:{}", url.host(), url.port()) }),
        None => Err(ProxyError { variable }),
    })
}

fn direct(text: &str) -> Option<Direct> {
    if text == "*" {
        return Some(Direct::All);
    }
    if let Some((address, bits)) = text.split_once('/') {
        let (address, bits): (IpAddr, u8) = (address.parse().ok()?, bits.parse().ok()?);
        let most = if address.is_ipv4() { 32 } else { 128 };
        return (bits <= most).then_some(Direct::Network(address, bits));
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Some(Direct::Network(address, if address.is_ipv4() { 32 } else { 128 }));
    }
    let (domain, port) = match text.rsplit_once(':') {
        Some((domain, port)) => (domain, Some(port.parse().ok()?)),
        None => (text, None),
    };
    let domain = domain.trim_start_matches("*.").trim_start_matches('.').trim_end_matches('.');
    (!domain.is_empty()).then(|| Direct::Domain(domain.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(none: &str, url: &str) -> bool {
        let proxies = Proxies::new(Some("http://p:1"), Some("p:2"), None, Some(none));
        proxies.of(&url.parse().unwrap()).unwrap().is_some()
    }

    #[test]
    fn hosts_without_a_proxy() {
        for (none, url, proxied) in [
            ("", "http://a.org/", true),
            ("", "http://localhost/", false),
            ("", "https://[::1]/", false),
            ("*", "http://a.org/", false),
            ("a.org", "http://a.org/", false),
            ("A.org, b.org", "http://x.a.org/", false),
            (".a.org", "http://x.a.org/", false),
            ("*.a.org", "http://x.a.org/", false),
            ("a.org", "http://ba.org/", true),
            ("a.org:8080", "http://a.org/", true),
            ("a.org:8080", "http://a.org:8080/", false),
            ("10.0.0.0/8", "http://10.1.2.3/", false),
            ("10.0.0.0/8", "http://11.1.2.3/", true),
            ("0.0.0.0/0", "http://11.1.2.3/", false),
            ("10.1.2.3", "http://10.1.2.3/", false),
            ("fd00::/8", "http://[fd12::1]/", false),
            ("10.0.0.0/99", "http://10.1.2.3/", true),
        ] {
            assert_eq!(through(none, url), proxied, "{none:?} {url}");
        }
    }

    #[test]
    fn each_scheme_has_its_proxy() {
        let name =
            |proxies: &Proxies, url: &str| proxies.of(&url.parse().unwrap()).unwrap().map(Proxy::to_string);
        let proxies = Proxies::new(Some("http://user:secret@p"), None, Some("all:3"), None);
        assert_eq!(name(&proxies, "http://a.org/"), Some("p:80".to_owned()));
        assert_eq!(name(&proxies, "https://a.org/"), Some("all:3".to_owned()));
        assert!(!format!("{proxies:?}").contains("secret"));
        for bad in ["socks5://p:1", "http://", "ht tp://p", "ftp://p"] {
            let proxies = Proxies::new(None, Some(bad), Some("good:1"), Some("direct.org"));
            let error = proxies.of(&"https://a.org/".parse().unwrap()).unwrap_err();
            assert_eq!(error, ProxyError { variable: "https_proxy" }, "{bad}");
            assert_eq!(name(&proxies, "https://direct.org/"), None);
            assert_eq!(name(&proxies, "http://a.org/"), Some("good:1".to_owned()));
        }
    }
}
