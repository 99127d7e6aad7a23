//! The grammar of single values.

mod base;
mod python;

use std::time::Duration;

use dmoci_layers::{Digest, SafePath};

pub(super) use base::base;
pub(super) use python::{index, libc, program_path, python_name, python_version};

use super::suggest::nearest;
use super::target::{SourcePath, SourcePathError};
use super::template::cut;
use crate::oci::platform::{Platform, PlatformError};
use crate::oci::reference::{ImageName, NameError, Tag};
use crate::url::{Url, UrlError};

/// Why a value is no good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bad {
    /// Another code than `E-SPEC-VALUE`.
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) expected: String,
    pub(super) help: Option<String>,
}

impl Bad {
    pub(super) fn new(message: impl Into<String>, expected: impl Into<String>) -> Bad {
        Bad { code: "E-SPEC-VALUE", message: message.into(), expected: expected.into(), help: None }
    }

    fn help(mut self, help: impl Into<String>) -> Bad {
        self.help = Some(help.into());
        self
    }

    fn code(mut self, code: &'static str) -> Bad {
        self.code = code;
        self
    }
}

/// Anything without a NUL character, which no program can be given.
pub(super) fn text(text: &str) -> Result<String, Bad> {
    if text.contains('\0') {
        return Err(Bad::new("the value holds a NUL character", "expected text without it"));
    }
    Ok(text.to_owned())
}

/// The name of an image.
pub(super) fn image_name(text: &str) -> Result<ImageName, Bad> {
    text.parse().map_err(|error: NameError| {
        let message = match &error {
            NameError::Path(path) => format!("{path:?} is not the path of an image"),
            error => error.to_string(),
        };
        let bad = Bad::new(message, "expected host/path, in lower case");
        let help = name_help(text, &error);
        if help.is_empty() { bad } else { bad.help(help) }
    })
}

/// Everything that keeps the text from being a name, and what would be one.
fn name_help(text: &str, error: &NameError) -> String {
    let mut help = Vec::new();
    let no_host = matches!(error, NameError::NoHost(_));
    if no_host {
        help.push("an image that goes to no registry can be called localhost/NAME".to_owned());
    }
    let start = text.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match text[start..].find([':', '@']) {
        Some(at) => (&text[..start + at], &text[start + at + 1..]),
        None => (text, ""),
    };
    let (host, path) = match name.split_once('/') {
        Some((host, path)) if !no_host => (host, path),
        _ => ("localhost", name),
    };
    if path.contains(|c: char| c.is_uppercase()) {
        help.push("upper case is not allowed".to_owned());
    }
    if text[name.len()..].starts_with(':') {
        help.push("tags go to `tags`".to_owned());
    } else if name != text {
        help.push("a digest is no part of a name".to_owned());
    }
    let meant = format!("{host}/{}", path.to_lowercase());
    if meant.parse::<ImageName>().is_ok() {
        let tags = tag.parse::<Tag>().map(|tag| format!(" and tags = [\"{tag}\"]")).unwrap_or_default();
        help.push(format!("write name = \"{meant}\"{tags}"));
    }
    help.join("\n")
}

/// A tag.
pub(super) fn tag(text: &str) -> Result<Tag, Bad> {
    text.parse::<Tag>().map_err(|_| {
        Bad::new(
            format!("{:?} is not a tag", cut(text)),
            "expected up to 128 letters, digits, `_`, `.` or `-`",
        )
        .help("a tag does not begin with `.` or `-`")
    })
}

/// A platform that can be built.
pub(super) fn platform(text: &str) -> Result<Platform, Bad> {
    let platform: Platform = text.parse().map_err(|error: PlatformError| {
        let meant = match &error {
            PlatformError::Os(os) => nearest(os, Platform::OS.iter().copied()).map(str::to_owned),
            PlatformError::Architecture(name) => Platform::oci_name(name)
                .or_else(|| nearest(name, Platform::ARCHITECTURES.iter().copied()))
                .map(str::to_owned),
            PlatformError::Grammar(name) => {
                let known = Platform::oci_name(name).unwrap_or(name);
                Platform::ARCHITECTURES.contains(&known).then(|| format!("linux/{known}"))
            }
            PlatformError::Variant(..) => None,
        };
        let expected = match meant {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => "expected such as linux/amd64, linux/arm64 or linux/arm/v7".to_owned(),
        };
        let message = match &error {
            PlatformError::Grammar(name) => format!("{name:?} is not a platform"),
            error => error.to_string(),
        };
        let bad = Bad::new(message, expected).code("E-SPEC-PLATFORM");
        if text.contains('$') { bad.help("placeholders are not expanded in platforms") } else { bad }
    })?;
    if !platform.is_linux() {
        return Err(Bad::new(format!("images for {platform} cannot be built"), "only Linux is built")
            .code("E-SPEC-PLATFORM"));
    }
    Ok(platform)
}

/// A path in the project directory.
pub(super) fn source_path(text: &str) -> Result<SourcePath, Bad> {
    SourcePath::parse(text).map_err(|error| {
        let bad = Bad::new(
            format!("{:?} is not a path in the project: {error}", cut(text)),
            "expected a path relative to the project directory",
        );
        match error {
            SourcePathError::Parent | SourcePathError::Absolute => {
                bad.help("everything that goes into the image lies in the project directory (-C DIR)")
            }
            _ => bad,
        }
    })
}

/// An address to fetch from. It is not repeated in messages: it may hold a password.
pub(super) fn url(text: &str) -> Result<Url, Bad> {
    let url: Url = text.parse().map_err(|error: UrlError| {
        let bad = Bad::new(
            format!("this is no address that can be fetched: {error}"),
            "expected such as \"https://example.org/engine.tar.gz\"",
        );
        match error {
            UrlError::Scheme if !text.contains("://") => {
                bad.help("a file of the project is named with `path`")
            }
            UrlError::Host => bad.help("names that are not ASCII have a form that begins with xn--"),
            _ => bad,
        }
    })?;
    match url.fragment() {
        Some(_) => Err(Bad::new("what stands behind `#` in an address is never sent", "expected no `#`")
            .help("a digest goes to `sha256`; a `#` in a name is written %23")),
        None => Ok(url),
    }
}

/// A sha256 without its name.
pub(super) fn sha256(text: &str) -> Result<Digest, Bad> {
    format!("sha256:{text}").parse().map_err(|_| {
        let bad = Bad::new(format!("{:?} is not a sha256", cut(text)), "expected 64 characters of 0-9a-f");
        match text.trim().to_ascii_lowercase().trim_start_matches("sha256:").trim_start_matches("sha256=") {
            meant if meant != text && format!("sha256:{meant}").parse::<Digest>().is_ok() => {
                bad.help(format!("write sha256 = \"{meant}\""))
            }
            _ => bad,
        }
    })
}

/// A directory or file in the image, which may be the root.
pub(super) fn image_path_or_root(text: &str) -> Result<SafePath, Bad> {
    const EXPECTED: &str = "expected an absolute path in the image";
    if !text.starts_with('/') {
        return Err(Bad::new(format!("{:?} is not an absolute path", cut(text)), EXPECTED));
    }
    let path = SafePath::parse(text.as_bytes()).map_err(|error| Bad::new(error.to_string(), EXPECTED))?;
    if path.components().any(|name| name.starts_with(b".wh.")) {
        return Err(Bad::new(
            format!("{path} holds a name that begins with `.wh.`"),
            "such a name would hide files of lower layers",
        ));
    }
    Ok(path)
}

/// A path in the image below the root.
pub(super) fn image_path(text: &str) -> Result<SafePath, Bad> {
    let path = image_path_or_root(text)?;
    if path.is_root() {
        return Err(Bad::new("the root of the image is always there", "expected a path below it"));
    }
    Ok(path)
}

/// The path of something that is no directory.
pub(super) fn image_file(text: &str) -> Result<SafePath, Bad> {
    if text.len() > 1 && text.ends_with('/') {
        return Err(Bad::new(format!("{:?} ends with `/`", cut(text)), "expected the path of a file"));
    }
    image_path(text)
}

/// An absolute path as configurations hold it, cleaned.
pub(super) fn config_path(text: &str) -> Result<String, Bad> {
    let path = image_path_or_root(text)?;
    String::from_utf8([b"/", path.as_bytes()].concat())
        .map_err(|_| Bad::new("the path is not UTF-8", "expected an absolute path in the image"))
}

/// Where a symbolic link points.
pub(super) fn link_target(text: &str) -> Result<String, Bad> {
    if text.is_empty() || text.contains('\0') || text.len() > 4095 {
        return Err(Bad::new(
            format!("{:?} cannot be the target of a link", cut(text)),
            "expected 1 to 4095 bytes without NUL",
        ));
    }
    Ok(text.to_owned())
}

/// A glob pattern, as `inputs::pattern` reads it.
pub(super) fn pattern(text: &str) -> Result<String, Bad> {
    let bad = |message: &str| {
        Err(Bad::new(
            format!("the pattern {:?} {message}", cut(text)),
            "expected such as \"*.md\" or \"docs/**\"",
        ))
    };
    let body = text.strip_suffix('/').unwrap_or(text);
    let body = body.strip_prefix("./").unwrap_or(body).trim_start_matches('/');
    if body.is_empty() {
        return bad("names nothing");
    }
    if body.split('/').any(|part| part == "." || part == "..") {
        return bad("holds a `.` or `..` component");
    }
    if text.contains('\0') {
        return bad("holds a NUL character");
    }
    // It would turn the pattern into its opposite.
    if body.starts_with('!') {
        return bad("begins with `!` (a name that does is written `\\!`)");
    }
    match fast_glob::validate(body) {
        Ok(()) => Ok(text.to_owned()),
        Err(_) => bad("has brackets, braces or a backslash that do not fit together"),
    }
}

/// An absolute path in the layers below, or a pattern of such.
pub(super) fn absolute_pattern(text: &str) -> Result<String, Bad> {
    const EXPECTED: &str = "expected such as \"/etc/motd\" or \"/var/cache/**\"";
    if !text.starts_with('/') {
        return Err(Bad::new(format!("{:?} is not an absolute path or pattern", cut(text)), EXPECTED));
    }
    if text.trim_matches('/').is_empty() {
        let expected = "expected such as \"/*\", which is all that is in it";
        return Err(Bad::new(format!("{:?} is the root, which stays as it is", cut(text)), expected));
    }
    pattern(text).map_err(|bad| Bad { expected: EXPECTED.to_owned(), ..bad })
}

/// A string that something else is put in the places of.
pub(super) fn substituted(text: &str) -> Result<(), Bad> {
    let expected = "expected a string of text files";
    match text {
        "" => Err(Bad::new("the empty string is everywhere", expected)),
        _ if text.contains('\0') => Err(Bad::new("a file that holds a NUL character is no text", expected)),
        _ => Ok(()),
    }
}

/// Permission bits.
pub(super) fn mode(text: &str) -> Result<u32, Bad> {
    let octal = text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    match u32::from_str_radix(text, 8) {
        Ok(mode) if octal && (3..=5).contains(&text.len()) && mode <= 0o7777 => Ok(mode),
        _ => {
            Err(Bad::new(format!("{:?} is not a mode", cut(text)), "expected octal digits, such as \"0644\""))
        }
    }
}

/// `number[/tcp|/udp|/sctp]`: the number and the protocol.
pub(super) fn port(text: &str) -> Result<(u16, &'static str), Bad> {
    let bad = |message: String| {
        Err(Bad::new(message, "expected 1 to 65535 with /tcp, /udp or /sctp, such as \"8000/tcp\""))
    };
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let Some(protocol) = ["tcp", "udp", "sctp"].into_iter().find(|name| *name == protocol) else {
        return bad(format!("{:?} is not a protocol", cut(protocol)));
    };
    match number.parse::<u16>() {
        Ok(port) if port > 0 && number.bytes().all(|b| b.is_ascii_digit()) && !number.starts_with('0') => {
            Ok((port, protocol))
        }
        _ => bad(format!("{:?} is not a port", cut(number))),
    }
}

/// The signals of Linux that have one name on all processors.
const SIGNALS: &[&str] = &[
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGIOT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPOLL",
    "SIGPWR",
    "SIGSYS",
];

/// A signal by name, `SIGRTMIN+N` and `SIGRTMAX-N` included, or by number.
pub(super) fn signal(text: &str) -> Result<String, Bad> {
    let small = |digits: &str, range: std::ops::RangeInclusive<u8>| {
        digits.bytes().all(|b| b.is_ascii_digit())
            && digits.parse().is_ok_and(|number| range.contains(&number))
    };
    let realtime = |prefix: &str| {
        text.strip_prefix(prefix).is_some_and(|rest| {
            rest.is_empty() || rest.strip_prefix(['+', '-']).is_some_and(|digits| small(digits, 1..=30))
        })
    };
    let real = (realtime("SIGRTMIN") && !text.contains('-')) || (realtime("SIGRTMAX") && !text.contains('+'));
    if SIGNALS.contains(&text) || real || small(text, 1..=64) {
        return Ok(text.to_owned());
    }
    let full = format!("SIG{}", text.to_ascii_uppercase());
    let meant =
        SIGNALS.iter().copied().find(|name| *name == full).or_else(|| nearest(text, SIGNALS.iter().copied()));
    let expected = match meant {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => "expected a name such as \"SIGTERM\" or a number from 1 to 64".to_owned(),
    };
    Err(Bad::new(format!("{:?} is not a signal", cut(text)), expected))
}

/// The name of an environment variable.
pub(super) fn env_name(name: &str) -> Result<(), Bad> {
    let bad = |message: &str| {
        Err(Bad::new(format!("{:?} is not the name of a variable: {message}", cut(name)), "expected a name"))
    };
    match name {
        "" => bad("it is empty"),
        _ if name.contains('=') => bad("it holds `=`"),
        _ if name.chars().any(|c| c.is_control() || c.is_whitespace()) => {
            bad("it holds spaces or control characters")
        }
        _ => Ok(()),
    }
}

/// The key of a label or annotation.
pub(super) fn label_name(name: &str) -> Result<(), Bad> {
    let bad = |message: &str, expected: &str| {
        Err(Bad::new(format!("{:?} cannot be a key here: {message}", cut(name)), expected.to_owned()))
    };
    match name {
        "" => bad("it is empty", "expected such as \"org.example.key\""),
        _ if name.chars().any(char::is_control) => {
            bad("it holds control characters", "expected such as \"org.example.key\"")
        }
        _ if name.starts_with("dev.dmoci.") => bad("dmoci writes these itself", "`dev.dmoci.` is reserved"),
        _ => Ok(()),
    }
}

/// `user`, `uid`, `user:group`, `uid:gid`, `uid:group` or `user:gid` (OCI image-spec 1.1 `config.md`, "User").
pub(super) fn run_as(text: &str) -> Result<String, Bad> {
    let good = |part: &str| {
        id(part).is_some() || (!part.starts_with(|c: char| c.is_ascii_digit()) && is_user_name(part))
    };
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    if good(user) && group.is_none_or(good) {
        return Ok(text.to_owned());
    }
    Err(Bad::new(format!("{:?} is not a user", cut(text)), "expected user, uid, user:group or uid:gid"))
}

/// The name of a user.
pub(super) fn user_name(text: &str) -> Result<String, Bad> {
    if is_user_name(text) && text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_') {
        return Ok(text.to_owned());
    }
    Err(Bad::new(
        format!("{:?} is not the name of a user", cut(text)),
        "expected up to 32 lower-case letters, digits, `_` or `-`, beginning with a letter or `_`",
    ))
}

fn is_user_name(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    (1..=32).contains(&text.len()) && text.bytes().all(good) && !text.starts_with(['-', '.'])
}

/// The number of a user or group.
pub(super) fn id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|id: &u32| digits && *id != u32::MAX)
}

/// The absolute path in a line of `/etc/passwd`.
pub(super) fn passwd_path(text: &str) -> Result<String, Bad> {
    if text.contains(':') || text.chars().any(char::is_control) {
        return Err(Bad::new(
            format!("{:?} cannot stand in /etc/passwd", cut(text)),
            "expected an absolute path without `:` and control characters",
        ));
    }
    config_path(text)
}

/// The name of a layer.
pub(super) fn layer_name(text: &str) -> Result<String, Bad> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'+' | b' ');
    if (1..=64).contains(&text.len()) && text.bytes().all(good) && text.trim() == text {
        return Ok(text.to_owned());
    }
    Err(Bad::new(
        format!("{:?} is not the name of a layer", cut(text)),
        "expected up to 64 letters, digits, spaces and `-` `_` `.` `+`",
    ))
}

/// The name of a variant, which becomes one of a directory.
pub(super) fn variant_name(text: &str) -> Result<(), Bad> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    if (1..=64).contains(&text.len()) && text.bytes().all(good) && !text.starts_with(['.', '-']) {
        return Ok(());
    }
    Err(Bad::new(
        format!("{:?} is not the name of a variant", cut(text)),
        "expected up to 64 letters, digits, `-`, `_` and `.`, beginning with a letter or digit",
    ))
}

/// A time such as `1m30s`, of whole numbers with `h`, `m`, `s`, `ms`; either nothing or at least 1 ms.
pub(super) fn duration(text: &str) -> Result<Duration, Bad> {
    let bad = || {
        Bad::new(format!("{:?} is not a time", cut(text)), "expected such as \"30s\", \"1m30s\" or \"500ms\"")
    };
    let mut total = Duration::ZERO;
    let mut rest = text;
    let mut last = usize::MAX;
    while !rest.is_empty() || text.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u32 = rest[..digits].parse().map_err(|_| bad())?;
        let unit_length = rest[digits..].bytes().take_while(u8::is_ascii_lowercase).count();
        let (unit, order) = match &rest[digits..digits + unit_length] {
            "h" => (Duration::from_secs(3600), 3),
            "m" => (Duration::from_secs(60), 2),
            "s" => (Duration::from_secs(1), 1),
            "ms" => (Duration::from_millis(1), 0),
            _ => return Err(bad()),
        };
        if order >= last {
            return Err(bad());
        }
        last = order;
        total = unit.checked_mul(number).and_then(|part| total.checked_add(part)).ok_or_else(bad)?;
        rest = &rest[digits + unit_length..];
    }
    // Docker stores nanoseconds in 63 bits.
    i64::try_from(total.as_nanos()).map_err(|_| bad())?;
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        for (text, expected) in
            [("0644", 0o644), ("755", 0o755), ("4755", 0o4755), ("01777", 0o1777), ("000", 0)]
        {
            assert_eq!(mode(text), Ok(expected));
        }
        for text in ["", "0", "64", "0888", "+644", "0o644", "u+x", "17777", "000644", "-644"] {
            assert!(mode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ports() {
        assert_eq!(port("8000/tcp"), Ok((8000, "tcp")));
        assert_eq!(port("53/udp"), Ok((53, "udp")));
        assert_eq!(port("65535"), Ok((65535, "tcp")));
        for text in ["", "0", "65536", "+80", "080", "80/TCP", "80/", "a", "80-90", "80:80"] {
            assert!(port(text).is_err(), "{text}");
        }
    }

    #[test]
    fn signals() {
        for text in ["SIGTERM", "SIGRTMIN+3", "SIGRTMAX", "SIGRTMAX-1", "9", "64"] {
            assert_eq!(signal(text).as_deref(), Ok(text));
        }
        for text in ["", "0", "65", "SIGRTMIN-1", "SIGRTMIN+", "SIGRTMIN+31", "sigterm", "+9", "SIGFOO"] {
            assert!(signal(text).is_err(), "{text}");
        }
        assert_eq!(signal("term").unwrap_err().expected, "did you mean `SIGTERM`?");
    }

    #[test]
    fn durations() {
        for (text, milliseconds) in
            [("30s", 30_000), ("1m30s", 90_000), ("500ms", 500), ("1h", 3_600_000), ("0s", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in
            ["", "30", "s", "-1s", "1.5s", "1s1m", "1s1s", "30 s", "99999999999s", "4294967295h", "1d", "1ü"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn users() {
        for text in ["0", "10001:10001", "km", "km:km", "10001:km", "Km.x"] {
            assert!(run_as(text).is_ok(), "{text}");
        }
        for text in ["", ":", "km:", ":km", "1x", "4294967295", "a b", "a:b:c", "-x"] {
            assert!(run_as(text).is_err(), "{text}");
        }
        assert!(user_name("km-1").is_ok());
        for text in ["", "Km", "1km", "-km", "a:b", "ü", "a\n"] {
            assert!(user_name(text).is_err(), "{text}");
        }
    }

    #[test]
    fn paths() {
        assert_eq!(config_path("/opt//km/").as_deref(), Ok("/opt/km"));
        assert_eq!(config_path("/").as_deref(), Ok("/"));
        for text in ["", "opt", "/a/../b", "/a\0", "/x/.wh.y"] {
            assert!(config_path(text).is_err(), "{text}");
        }
        assert!(image_path("/").is_err() && image_file("/a/").is_err() && image_path("/a/").is_ok());
        assert!(pattern("**/*.md").is_ok() && pattern("/a").is_ok());
        for text in ["", "../a", "a/../b", "/", "a/./b", "[a", "{a,b", "a\\", "!a", "/!a"] {
            assert!(pattern(text).is_err(), "{text}");
        }
    }
}
