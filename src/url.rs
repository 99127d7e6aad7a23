//! Addresses on the network: http and https URLs (RFC 3986), checked. What is secret in them is never shown.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::limits;

/// An absolute http or https URL, normalised: scheme and host in lower case, no default port, no `.` and `..`, and
/// percent-encoded where it must be. It cannot be made without that check.
///
/// `Display` and `Debug` show neither user nor password, and of a query only that there is one: it may hold a token.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Url {
    scheme: Scheme,
    host: Box<str>,
    port: Option<u16>,
    path: Box<str>,
    query: Option<Box<str>>,
    fragment: Option<Box<str>>,
    credentials: Option<Credentials>,
}

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

/// A user and a password, decoded.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// The password; empty when there is none.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// Why a text is no such URL. Nothing of the text is repeated: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// The scheme is neither http nor https, or there is none.
    #[error("it does not begin with https:// or http://")]
    Scheme,
    /// There is no host, or one that cannot be a host.
    #[error("its host is not a name or an address in ASCII")]
    Host,
    /// The port is no number from 1 to 65535.
    #[error("its port is not a number from 1 to 65535")]
    Port,
    /// A control character, or a `%` without two hexadecimal digits behind it.
    #[error("it holds a control character, or a `%` without two hexadecimal digits")]
    Character,
    /// It is longer than [`limits::URL_BYTES`].
    #[error("it is longer than {} bytes", limits::URL_BYTES)]
    Long,
}

impl Scheme {
    /// The port where none is written.
    pub fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

impl Url {
    /// How it is spoken to.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host, in lower case; an IPv6 address stands in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, written or not.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(self.scheme.default_port())
    }

    /// User and password, when they are written.
    pub fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// What stands behind `#`; it is never sent.
    pub fn fragment(&self) -> Option<&str> {
        self.fragment.as_deref()
    }

    /// The last part of the path; may be empty. Still percent-encoded.
    pub fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// True when both are served by one server: scheme, host and port are the same (RFC 6454).
    pub fn same_origin(&self, other: &Url) -> bool {
        (self.scheme, &self.host, self.port()) == (other.scheme, &other.host, other.port())
    }

    /// True for `localhost` and the addresses that never leave this machine.
    pub fn is_loopback(&self) -> bool {
        if let Some(address) = self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            return address.parse().is_ok_and(|address: Ipv6Addr| address.is_loopback());
        }
        &*self.host == "localhost" || self.host.parse().is_ok_and(|address: Ipv4Addr| address.is_loopback())
    }

    /// Whether what lies at this address may send to the other one, by a link or a redirect. Nobody may send to what only serves
    /// the machine's own network card (such as the data of a cloud's machines at 169.254.169.254), and into a private network or
    /// to this machine only who is there too. Names of hosts are not looked up.
    pub fn may_lead_to(&self, other: &Url) -> bool {
        let (from, to) = (self.reach(), other.reach());
        to != Reach::Link && (to <= from || self.host == other.host)
    }

    /// From where the host can be reached.
    fn reach(&self) -> Reach {
        let address = match self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => address.parse().ok().map(IpAddr::V6),
            // Also `0x7f.1`, `127.1` and `2130706433`, which the system takes for addresses.
            None => numbers(self.host.trim_end_matches('.')).map(IpAddr::V4),
        };
        match address.map(|address| address.to_canonical()) {
            None if matches!(&*self.host, "localhost" | "localhost.")
                || self.host.ends_with(".localhost") =>
            {
                Reach::Machine
            }
            None => Reach::Everywhere,
            Some(IpAddr::V4(address)) => reach_of_v4(address),
            Some(IpAddr::V6(address)) => match address.segments() {
                [0xfe80..=0xfebf, ..] => Reach::Link,
                // What the providers of clouds put there.
                [0xfd00, 0x0ec2, ..] => Reach::Link,
                [0xfc00..=0xfdff, ..] => Reach::Network,
                [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Reach::Machine,
                // IPv4 addresses in another form: NAT64, 6to4, and the oldest one.
                [0x64, 0xff9b, 0, 0, 0, 0, high, low]
                | [0x2002, high, low, ..]
                | [0, 0, 0, 0, 0, 0, high, low] => {
                    reach_of_v4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
                }
                _ => Reach::Everywhere,
            },
        }
    }

    /// The whole address without user, password and fragment: what is sent, and written into lock files. A query is part of it.
    pub fn bare(&self) -> String {
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        let query = self.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        format!("{}://{}{port}{}{query}", self.scheme.name(), self.host, self.path)
    }

    /// The same address without user and password.
    pub fn without_secrets(&self) -> Url {
        Url { credentials: None, ..self.clone() }
    }

    /// What a reference in a document at this address means (RFC 3986, section 5.2). User and password are inherited within
    /// one origin only, and those that the reference brings are dropped.
    pub fn join(&self, reference: &str) -> Result<Url, UrlError> {
        let reference = reference.trim_matches(|c: char| c.is_ascii_whitespace());
        let (target, fragment) = cut(reference, '#');
        let mut url = if has_scheme(target) {
            target.parse()?
        } else if let Some(rest) = target.strip_prefix("//") {
            format!("{}://{rest}", self.scheme.name()).parse()?
        } else {
            let (path, query) = cut(target, '?');
            let mut url = Url { fragment: None, ..self.clone() };
            if !path.is_empty() {
                let directory = self.path.rfind('/').map_or("", |end| &self.path[..=end]);
                let joined =
                    if path.starts_with('/') { path.to_owned() } else { format!("{directory}{path}") };
                url.path = without_dots(&encoded(&joined)?).into();
            }
            if query.is_some() || !path.is_empty() {
                url.query = query.map(encoded).transpose()?.map(Into::into);
            }
            url
        };
        url.fragment = fragment.map(encoded).transpose()?.map(Into::into);
        url.credentials = self.credentials.clone().filter(|_| self.same_origin(&url));
        match url.bare().len() > limits::URL_BYTES {
            true => Err(UrlError::Long),
            false => Ok(url),
        }
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Url, UrlError> {
        if text.len() > limits::URL_BYTES {
            return Err(UrlError::Long);
        }
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(UrlError::Scheme),
        };
        let (rest, fragment) = cut(rest, '#');
        let (rest, query) = cut(rest, '?');
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (userinfo, authority) = match authority.rsplit_once('@') {
            Some((userinfo, authority)) => (Some(userinfo), authority),
            None => (None, authority),
        };
        // The colons inside an address in brackets are not that of a port.
        let end = authority.rfind(']').map_or(0, |end| end + 1);
        let (host, port) = match authority[end..].split_once(':') {
            Some((rest, port)) => (&authority[..end + rest.len()], Some(port)),
            None => (authority, None),
        };
        let port = match port {
            None | Some("") => None,
            Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => {
                Some(port.parse::<u16>().ok().filter(|port| *port > 0).ok_or(UrlError::Port)?)
            }
            Some(_) => return Err(UrlError::Port),
        };
        let path = if path.is_empty() { "/" } else { path };
        Ok(Url {
            scheme,
            host: checked_host(host)?.into(),
            port: port.filter(|port| *port != scheme.default_port()),
            path: without_dots(&encoded(path)?).into(),
            query: query.map(encoded).transpose()?.map(Into::into),
            fragment: fragment.map(encoded).transpose()?.map(Into::into),
            credentials: userinfo.map(credentials).transpose()?,
        })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        let query = if self.query.is_some() { "?…" } else { "" };
        write!(f, "{}://{}{port}{}{query}", self.scheme.name(), self.host, self.path)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// From where an address can be reached, the widest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Everywhere,
    /// A private network.
    Network,
    /// This machine alone.
    Machine,
    /// The next piece of cable.
    Link,
}

fn reach_of_v4(address: Ipv4Addr) -> Reach {
    match address.octets() {
        [169, 254, ..] | [100, 100, 100, 200] => Reach::Link,
        [127, ..] | [0, ..] => Reach::Machine,
        [100, 64..=127, ..] => Reach::Network,
        _ if address.is_private() => Reach::Network,
        _ => Reach::Everywhere,
    }
}

/// An IPv4 address in any of the forms that `inet_aton` reads: one to four numbers, decimal, octal or hexadecimal, of which the
/// last fills what is left.
fn numbers(host: &str) -> Option<Ipv4Addr> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some("") => Some(0),
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None if text.len() > 1 && text.starts_with('0') => u32::from_str_radix(text, 8).ok(),
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        None => None,
    };
    let parts: Vec<u32> = host.split('.').map(number).collect::<Option<_>>()?;
    let (last, first) = parts.split_last().filter(|(_, first)| first.len() < 4)?;
    let room = 32 - 8 * first.len() as u32;
    if first.iter().any(|part| *part > 255) || (room < 32 && *last >> room != 0) {
        return None;
    }
    let start = first.iter().fold(0u32, |all, part| all << 8 | part);
    Some(Ipv4Addr::from(start.checked_shl(room).unwrap_or(0) | last))
}

/// What stands before and behind the first of these characters.
fn cut(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at).map_or((text, None), |(before, behind)| (before, Some(behind)))
}

/// `scheme ":"` of RFC 3986, section 3.1, before anything that could be a path.
fn has_scheme(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
    })
}

fn checked_host(host: &str) -> Result<String, UrlError> {
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return address.parse().map(|address: Ipv6Addr| format!("[{address}]")).map_err(|_| UrlError::Host);
    }
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    let label = |label: &str| (1..=63).contains(&label.len());
    let name = host.strip_suffix('.').unwrap_or(host);
    match host.len() <= 253 && host.bytes().all(good) && name.split('.').all(label) {
        true => Ok(host.to_ascii_lowercase()),
        false => Err(UrlError::Host),
    }
}

/// With everything percent-encoded that may not stand in a path or query (RFC 3986, appendix A).
fn encoded(text: &str) -> Result<String, UrlError> {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            b'%' => {
                let digits = bytes.get(at + 1..at + 3).unwrap_or_default();
                if digits.len() != 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
                    return Err(UrlError::Character);
                }
                out.push('%');
            }
            _ if byte.is_ascii_control() => return Err(UrlError::Character),
            b' ' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x80.. => {
                out.push_str(&format!("%{byte:02X}"));
            }
            _ => out.push(char::from(byte)),
        }
    }
    Ok(out)
}

/// Without `.` and `..` (RFC 3986, section 5.2.4); never above the root.
fn without_dots(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let mut directory = false;
    for part in path.strip_prefix('/').unwrap_or(path).split('/') {
        directory = matches!(part, "." | "..");
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    if directory {
        parts.push("");
    }
    format!("/{}", parts.join("/"))
}

fn credentials(userinfo: &str) -> Result<Credentials, UrlError> {
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    Ok(Credentials { user: decoded(user)?, password: decoded(password)? })
}

fn decoded(text: &str) -> Result<String, UrlError> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digit = |b: &u8| char::from(*b).to_digit(16).ok_or(UrlError::Character);
                out.push(u8::try_from(digit(high)? * 16 + digit(low)?).map_err(|_| UrlError::Character)?);
                rest = tail;
            }
            (b'%', _) => return Err(UrlError::Character),
            (byte, _) => out.push(*byte),
        }
    }
    let text = String::from_utf8(out).map_err(|_| UrlError::Character)?;
    match text.chars().any(char::is_control) {
        true => Err(UrlError::Character),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn normal_form() {
        for (text, bare) in [
            ("HTTPS://Example.ORG", "https://example.org/"),
            ("https://example.org:443/a/./b/../c?q=1", "https://example.org/a/c?q=1"),
            ("http://example.org:8080/..", "http://example.org:8080/"),
            ("http://[::0:1]:80/x y/ü", "http://[::1]/x%20y/%C3%BC"),
            ("https://u:p@example.org/a#part", "https://example.org/a"),
            ("https://example.org/a%2fb//c", "https://example.org/a%2fb//c"),
        ] {
            assert_eq!(url(text).bare(), bare, "{text}");
            assert_eq!(url(bare).bare(), bare);
        }
    }

    #[test]
    fn refused() {
        for (text, error) in [
            ("example.org/a", UrlError::Scheme),
            ("ftp://example.org/", UrlError::Scheme),
            ("file:///etc/passwd", UrlError::Scheme),
            ("https:///a", UrlError::Host),
            ("https://exa mple.org/", UrlError::Host),
            ("https://ex\u{e4}mple.org/", UrlError::Host),
            ("https://a..b/", UrlError::Host),
            ("https://[::1/", UrlError::Port),
            ("https://[1.2.3.4]/", UrlError::Host),
            ("https://h:0/", UrlError::Port),
            ("https://h:65536/", UrlError::Port),
            ("https://h:+80/", UrlError::Port),
            ("https://h/\r\nHost: evil", UrlError::Character),
            ("https://h/%zz", UrlError::Character),
            ("https://h/%", UrlError::Character),
            ("https://u%0d:p@h/", UrlError::Character),
        ] {
            assert_eq!(text.parse::<Url>(), Err(error), "{text}");
        }
        assert_eq!(
            format!("https://h/{}", "a".repeat(limits::URL_BYTES)).parse::<Url>(),
            Err(UrlError::Long)
        );
    }

    /// The examples of RFC 3986, section 5.4, as far as they are about http, and what matters beside them.
    #[test]
    fn references() {
        let base = url("http://a/b/c/d;p?q");
        for (reference, bare) in [
            ("g", "http://a/b/c/g"),
            ("./g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g/"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y#s", "http://a/b/c/g?y"),
            (";x", "http://a/b/c/;x"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../../../g", "http://a/g"),
            ("g;x=1/../y", "http://a/b/c/y"),
            ("https://x:1/y", "https://x:1/y"),
        ] {
            assert_eq!(base.join(reference).unwrap().bare(), bare, "{reference}");
        }
        assert_eq!(base.join("g#sha256=0").unwrap().fragment(), Some("sha256=0"));
        for bad in ["mailto:x", "file:/x", "javascript:x", "/\0"] {
            assert!(base.join(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn credentials_stay_with_their_origin() {
        let base = url("https://user:p%40ss@host/a");
        assert_eq!(base.credentials().unwrap().password, "p@ss");
        let kept = |reference: &str| base.join(reference).unwrap().credentials().is_some();
        assert!(kept("b") && kept("https://host:443/b"));
        assert!(!kept("http://host/b") && !kept("https://host:444/b") && !kept("//other/b"));
        assert!(!kept("https://user:p%40ss@other/b"));
        for shown in
            [format!("{base}"), format!("{base:?}"), base.bare(), format!("{:?}", base.credentials())]
        {
            assert!(!shown.contains("user") && !shown.contains("p@ss") && !shown.contains("p%40"), "{shown}");
        }
        assert_eq!(url("https://h/a?token=secret").to_string(), "https://h/a?…");
    }

    #[test]
    fn what_stays_on_this_machine() {
        for (text, loopback) in [
            ("http://localhost:1/", true),
            ("http://127.8.9.1/", true),
            ("http://[::1]/", true),
            ("http://localhost.evil.com/", false),
            ("http://127.0.0.1.evil.com/", false),
            ("http://10.0.0.1/", false),
            ("http://0.0.0.0/", false),
        ] {
            assert_eq!(url(text).is_loopback(), loopback, "{text}");
        }
    }

    #[test]
    fn who_may_send_where() {
        let leads = |from: &str, to: &str| {
            url(&format!("https://{from}/")).may_lead_to(&url(&format!("https://{to}/")))
        };
        let public = ["index.example", "8.8.8.8", "[2001:db8::1]", "100.128.0.1"];
        let private =
            ["10.0.0.1", "192.168.1.1", "172.31.0.1", "100.64.0.1", "[fd12::1]", "[::ffff:10.0.0.1]"];
        let own = [
            "localhost",
            "a.localhost",
            "127.0.0.1",
            "127.1",
            "0x7f.1",
            "2130706433",
            "017700000001",
            "[::1]",
            "0.0.0.0",
            "[::ffff:127.0.0.1]",
            "[::]",
            "localhost.",
            "127.0.0.1.",
        ];
        let link = [
            "169.254.169.254",
            "[fe80::1]",
            "0xa9fea9fe",
            "2852039166",
            "169.254.43518",
            "[::ffff:169.254.169.254]",
            "[64:ff9b::a9fe:a9fe]",
            "[fd00:ec2::254]",
            "100.100.100.200",
            "[2002:a9fe:a9fe::1]",
            "[::a9fe:a9fe]",
        ];
        for from in public.iter().chain(&private).chain(&own) {
            assert!(public.iter().all(|to| leads(from, to)), "{from}");
            assert!(link.iter().all(|to| !leads(from, to)), "{from}");
        }
        for to in private {
            assert!(public.iter().all(|from| !leads(from, to)), "{to}");
            assert!(private.iter().chain(&own).all(|from| leads(from, to)), "{to}");
        }
        for to in own {
            assert!(public.iter().chain(&private).all(|from| !leads(from, to)), "{to}");
            assert!(own.iter().all(|from| leads(from, to)), "{to}");
        }
        assert!(leads("256.1.1.1", "1.2.3.4.5") && leads("a", "08.1.1.1"));
    }
}
