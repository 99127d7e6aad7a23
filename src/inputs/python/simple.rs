//! The Simple API of indexes: the files of a project, as HTML (PEP 503) or JSON (PEP 691).

use std::borrow::Cow;
use std::fmt;

use dmoci_layers::Digest;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::document::best_hash;
use super::filename::WheelName;
use super::name::Name;
use super::plan::{Location, last_part};
use super::version::{VersionSpecifiers, specifiers};
use crate::diagnostic::shown::Short;
use crate::limits;
use crate::url::Url;

/// What is asked for, best first (PEP 691, "Content-Type").
pub const ACCEPT: &str = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, \
                          text/html;q=0.01";

/// A file that an index offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub filename: String,
    /// Where it is.
    pub location: Location,
    /// What its bytes have: sha256 or sha512, where the index says it.
    pub hashes: Vec<Digest>,
    /// How many bytes it has, where the index says it.
    pub size: Option<u64>,
    /// Which Python it asks for, where the index says it; what cannot be read is as if it was not there.
    pub requires_python: Option<VersionSpecifiers>,
}

/// Why an answer is not one of the Simple API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SimpleError {
    /// It has a type that the Simple API does not have.
    #[error("it answers with {0:?}, which is not the Simple API")]
    ContentType(String),
    /// It is of a version that is not known.
    #[error("it answers with version {0:?} of the Simple API; 1.x is known here")]
    Version(String),
    /// It is JSON of another form.
    #[error("it answers with JSON that is not the Simple API: {0}")]
    Json(String),
    /// It is not UTF-8.
    #[error("it answers with text that is not UTF-8")]
    Encoding,
    /// It has too many links, or too long ones.
    #[error(
        "it answers with more than {} files of one project, {} bytes of addresses or {} specifiers",
        limits::PYTHON_LINKS,
        limits::PYTHON_LINK_BYTES,
        limits::PYTHON_LINK_SPECIFIERS
    )]
    Many,
}

/// The page of a project in an index.
pub fn page(index: &Url, name: &Name) -> Result<Url, crate::url::UrlError> {
    let base = index.to_string();
    // A base without a slash at its end would lose its last part.
    let slash = if base.ends_with('/') { "" } else { "/" };
    let last = last_segment(index);
    index.join(&format!("{last}{slash}{name}/"))
}

/// The last part of the path, to be kept when a reference is joined.
fn last_segment(url: &Url) -> String {
    match url.file_name() {
        "" => String::new(),
        name => format!("./{name}"),
    }
}

/// Which project a file is of, by its name: a wheel, or an archive of sources.
pub fn project(filename: &str) -> Option<Name> {
    if let Ok(wheel) = WheelName::parse(filename) {
        return Some(wheel.name);
    }
    let stem = SOURCES.iter().find_map(|end| filename.strip_suffix(end))?;
    stem.rsplit_once('-').and_then(|(project, _)| Name::parse(project))
}

/// How archives of sources end.
pub(super) const SOURCES: [&str; 3] = [".tar.gz", ".zip", ".tar.bz2"];

/// The links of a page that are of use: files of this project, or of any one.
struct Links<'a> {
    project: Option<&'a Name>,
    found: Vec<Link>,
    /// Bytes of all addresses together.
    bytes: usize,
    /// What is said of Python for all files together.
    specifiers: usize,
}

impl Links<'_> {
    /// Whether a file of this name is of use.
    fn wants(&self, filename: &str) -> bool {
        let other = project(filename);
        other.is_some() && (self.project.is_none() || other.as_ref() == self.project)
    }

    fn add(&mut self, link: Link) -> Result<(), SimpleError> {
        if let Location::Url(url) = &link.location {
            self.bytes += url.bare().len() + url.fragment().unwrap_or_default().len();
        }
        self.specifiers += link.requires_python.as_ref().map_or(0, |all| all.len());
        let full =
            self.found.len() == limits::PYTHON_LINKS || self.specifiers > limits::PYTHON_LINK_SPECIFIERS;
        if full || self.bytes > limits::PYTHON_LINK_BYTES {
            return Err(SimpleError::Many);
        }
        self.found.push(link);
        Ok(())
    }
}

/// Reads an answer: the files of the project that it offers, or of all without one. `address` is where it came from after
/// redirects, `content_type` its header.
pub fn parse(
    address: &Url,
    content_type: &str,
    body: &[u8],
    project: Option<&Name>,
) -> Result<Vec<Link>, SimpleError> {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let text = std::str::from_utf8(body).map_err(|_| SimpleError::Encoding)?;
    let mut links = Links { project, found: Vec::new(), bytes: 0, specifiers: 0 };
    match kind.as_str() {
        "application/vnd.pypi.simple.v1+json" | "application/json" => json(address, text, &mut links)?,
        "application/vnd.pypi.simple.v1+html" | "text/html" | "application/xhtml+xml" => {
            html(address, text, &mut links)?
        }
        _ => return Err(SimpleError::ContentType(kind.chars().take(80).collect())),
    }
    Ok(links.found)
}

/// What is read of the JSON form; everything else is passed over without being held.
#[derive(serde::Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    meta: Option<Meta<'a>>,
    #[serde(borrow)]
    files: Option<Files<'a>>,
}

/// Files, each as it is written.
struct Files<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Files<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Files<'a>, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Files<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of files")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Files<'de>, A::Error> {
                let mut files: Vec<&RawValue> = Vec::new();
                while let Some(file) = all.next_element::<&RawValue>()? {
                    if file.get().len() > limits::PYTHON_FILE_BYTES {
                        let most = limits::PYTHON_FILE_BYTES;
                        return Err(A::Error::custom(format!("it says more than {most} bytes of one file")));
                    }
                    if files.len() == limits::PYTHON_LISTED {
                        return Err(A::Error::custom(format!("it lists more than {} files", files.len())));
                    }
                    files.push(file);
                }
                Ok(Files(files))
            }
        }
        deserializer.deserialize_seq(Each)
    }
}

#[derive(serde::Deserialize)]
struct Meta<'a> {
    #[serde(borrow, rename = "api-version")]
    version: Option<Cow<'a, str>>,
}

fn json(address: &Url, text: &str, links: &mut Links<'_>) -> Result<(), SimpleError> {
    let wrong = |what: &str| SimpleError::Json(what.to_owned());
    let malformed = |error: serde_json::Error| SimpleError::Json(Short(&error.to_string()).to_string());
    let page: Page<'_> = serde_json::from_str(text).map_err(malformed)?;
    let version = page.meta.and_then(|meta| meta.version).ok_or_else(|| wrong("no api-version"))?;
    if version.split('.').next() != Some("1") {
        return Err(SimpleError::Version(version.chars().take(40).collect()));
    }
    for raw in page.files.ok_or_else(|| wrong("no files"))?.0 {
        let file: serde_json::Value = serde_json::from_str(raw.get()).map_err(malformed)?;
        let text = |key: &str| file.get(key).and_then(|value| value.as_str());
        let filename = text("filename").ok_or_else(|| wrong("a file without filename"))?;
        let url = text("url").ok_or_else(|| wrong("a file without url"))?;
        if !links.wants(filename) {
            continue;
        }
        let hashes = file.get("hashes").and_then(|hashes| hashes.as_object());
        let hashes =
            hashes.into_iter().flatten().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
        // Links of other schemes are not for us, nor are those into networks that the index is not in.
        let Some(url) = address.join(url).ok().filter(|url| address.may_lead_to(url)) else { continue };
        links.add(Link {
            filename: filename.to_owned(),
            location: Location::Url(url),
            hashes: digests(hashes),
            size: file.get("size").and_then(|size| size.as_u64()),
            requires_python: text("requires-python").and_then(|text| specifiers(text).ok()),
        })?;
    }
    Ok(())
}

/// What can be read of them; what cannot is as if it was not there.
fn digests<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Digest> {
    pairs.into_iter().filter_map(|pair| best_hash([pair]).ok().flatten()).collect()
}

/// Every `<a href>`; `<base href>` moves them (HTML 5, as far as the Simple API needs it).
fn html(address: &Url, text: &str, links: &mut Links<'_>) -> Result<(), SimpleError> {
    let mut base = address.clone();
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        rest = &rest[at..];
        if let Some(comment) = rest.strip_prefix("<!--") {
            rest = comment.find("-->").map_or("", |end| &comment[end + 3..]);
            continue;
        }
        let Some((tag, behind)) = tag(rest) else { break };
        rest = behind;
        if tag.is("script") || tag.is("style") {
            let end = |at: &usize| {
                let name = rest.as_bytes().get(at + 2..at + 2 + tag.name.len());
                name.is_some_and(|name| name.eq_ignore_ascii_case(tag.name.as_bytes()))
            };
            rest = rest.match_indices("</").map(|(at, _)| at).find(end).map_or("", |at| &rest[at..]);
        } else if tag.is("meta") && tag.get("name").is_some_and(|name| name == "pypi:repository-version") {
            let version = tag.get("content").unwrap_or_default();
            if version.split('.').next() != Some("1") {
                return Err(SimpleError::Version(version.chars().take(40).collect()));
            }
        } else if tag.is("base") {
            if let Some(Ok(url)) = tag.get("href").map(|href| address.join(&href)) {
                base = url;
            }
        } else if tag.is("a") {
            // Its name is in the reference: most are not worth an address.
            let Some(href) = tag.get("href").filter(|href| links.wants(&last_part(href.trim()))) else {
                continue;
            };
            let Some(url) = base.join(&href).ok().filter(|url| address.may_lead_to(url)) else { continue };
            let fragment = url.fragment().unwrap_or_default().to_owned();
            let hashes = digests(fragment.split('&').filter_map(|pair| pair.split_once('=')));
            let filename = last_part(url.file_name());
            let requires_python = tag.get("data-requires-python").and_then(|text| specifiers(&text).ok());
            links.add(Link {
                filename,
                location: Location::Url(url),
                hashes,
                size: None,
                requires_python,
            })?;
        }
    }
    Ok(())
}

/// The attributes that are read.
const ATTRIBUTES: [&str; 4] = ["href", "name", "content", "data-requires-python"];

/// A start tag, or the name of an end tag with its slash.
struct Tag<'a> {
    name: &'a str,
    /// The values of [`ATTRIBUTES`] as written; of one that stands there twice the first.
    values: [Option<&'a str>; 4],
}

impl Tag<'_> {
    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    fn get(&self, name: &str) -> Option<String> {
        let at = ATTRIBUTES.iter().position(|known| *known == name)?;
        self.values[at].map(unescaped)
    }
}

/// The tag at the `<` that the text begins with, and what follows it; nothing when it has no end.
fn tag(text: &str) -> Option<(Tag<'_>, &str)> {
    let mut rest = text.strip_prefix('<')?;
    let end = rest.find(|c: char| c.is_ascii_whitespace() || c == '>').unwrap_or(rest.len());
    let name = rest[..end].trim_end_matches('/');
    rest = &rest[end..];
    let mut values = [None; 4];
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/');
        if let Some(behind) = rest.strip_prefix('>') {
            return Some((Tag { name, values }, behind));
        }
        if rest.is_empty() {
            return None;
        }
        let is_end = |c: char| c.is_ascii_whitespace() || matches!(c, '=' | '>' | '/');
        // A `=` at the beginning belongs to the name.
        let first = rest.chars().next().map_or(0, char::len_utf8);
        let end = rest[first..].find(is_end).map_or(rest.len(), |at| at + first);
        let key = &rest[..end];
        rest = rest[end..].trim_start_matches(|c: char| c.is_ascii_whitespace());
        let mut value = "";
        if let Some(behind) = rest.strip_prefix('=') {
            rest = behind.trim_start_matches(|c: char| c.is_ascii_whitespace());
            let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''));
            if let Some(quote) = quote {
                (value, rest) = rest[1..].split_once(quote)?;
            } else {
                let end = rest.find(|c: char| c.is_ascii_whitespace() || c == '>').unwrap_or(rest.len());
                (value, rest) = rest.split_at(end);
            }
        }
        if let Some(at) = ATTRIBUTES.iter().position(|known| known.eq_ignore_ascii_case(key)) {
            values[at].get_or_insert(value);
        }
    }
}

/// With the character references replaced that occur in URLs.
fn unescaped(text: &str) -> String {
    const NAMED: [(&str, char); 6] =
        [("amp", '&'), ("lt", '<'), ("gt", '>'), ("quot", '"'), ("apos", '\''), ("nbsp", '\u{a0}')];
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('&') {
        out.push_str(before);
        let end = behind.bytes().take(9).position(|b| b == b';');
        let reference = end.map(|end| (&behind[..end], &behind[end + 1..]));
        let character = reference.and_then(|(name, _)| match name.strip_prefix('#') {
            Some(number) => match number.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16).ok().and_then(char::from_u32),
                None => number.parse().ok().and_then(char::from_u32),
            },
            None => NAMED.iter().find(|(known, _)| *known == name).map(|(_, c)| *c),
        });
        match (character, reference) {
            (Some(character), Some((_, behind))) => {
                out.push(character);
                rest = behind;
            }
            _ => {
                out.push('&');
                rest = behind;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> Url {
        "https://index.example/simple/a/".parse().unwrap()
    }

    fn shown(links: &[Link]) -> Vec<String> {
        links
            .iter()
            .map(|l| {
                let python = l.requires_python.as_ref().map(ToString::to_string).unwrap_or_default();
                let line = format!("{} {} {} {:?} {python}", l.filename, l.location, l.hashes.len(), l.size);
                line.trim_end().to_owned()
            })
            .collect()
    }

    #[test]
    fn pages() {
        let page = |index: &str| {
            super::page(&index.parse().unwrap(), &Name::parse("A.b").unwrap()).unwrap().to_string()
        };
        assert_eq!(page("https://index.example/simple"), "https://index.example/simple/a-b/");
        assert_eq!(page("https://index.example/simple/"), "https://index.example/simple/a-b/");
        assert_eq!(page("https://index.example"), "https://index.example/a-b/");
        assert_eq!(page("https://index.example/a:b/c"), "https://index.example/a:b/c/a-b/");
    }

    #[test]
    fn html_is_read_loosely() {
        let hash = "0".repeat(64);
        let text = format!(
            "<!DOCTYPE html><html><head><meta name=\"pypi:repository-version\" content=\"1.3\">\
             <!-- <a href=\"no.whl\">no</a> --><script>if (a<b) '</a><a href=\"no.whl\">'</SCRIPT></head><body>\n\
             <A data-requires-python=\"&gt;=3.7\" HREF='../../files/a-1.0-py3-none-any.whl#sha256={hash}' >x</A><br/>\
             <a href=/f/a%2Db-1.0.tar.gz#md5=0 data-requires-python='>=x'>\n<a\nhref = \"https://other.example/a-2.0-py3-none-any.whl?x=1&amp;y=2#sha512={}\" data-yanked>y\n\
             <a>none</a><a href=\"ftp://h/a-3.whl\">ftp</a><a href=\"a-4-py3-none-any.whl",
            "1".repeat(128)
        );
        let links = parse(&address(), "text/html; charset=UTF-8", text.as_bytes(), None).unwrap();
        assert_eq!(
            shown(&links),
            [
                "a-1.0-py3-none-any.whl https://index.example/files/a-1.0-py3-none-any.whl 1 None >=3.7",
                "a-b-1.0.tar.gz https://index.example/f/a%2Db-1.0.tar.gz 0 None",
                "a-2.0-py3-none-any.whl https://other.example/a-2.0-py3-none-any.whl?… 1 None",
            ]
        );
        let based = "<base href='https://files.example/x/'><a href='a-1-py3-none-any.whl'>";
        let links = parse(&address(), "text/html", based.as_bytes(), None).unwrap();
        assert_eq!(
            shown(&links),
            ["a-1-py3-none-any.whl https://files.example/x/a-1-py3-none-any.whl 0 None"]
        );
        let later = "<meta name=pypi:repository-version content=2.0>";
        assert_eq!(
            parse(&address(), "text/html", later.as_bytes(), None),
            Err(SimpleError::Version("2.0".into()))
        );
        for odd in [
            "<",
            "<a",
            "<a href",
            "<a href=",
            "<a href='",
            "<!--",
            "<script",
            "<script>",
            "<=>",
            "<a =x=y>",
            "&#;<a href='&#x110000;&'>",
        ] {
            assert!(parse(&address(), "text/html", odd.as_bytes(), None).is_ok(), "{odd}");
        }
    }

    #[test]
    fn json_is_read_strictly() {
        let kind = "application/vnd.pypi.simple.v1+json";
        let text = format!(
            r#"{{"meta": {{"api-version": "1.1"}}, "name": "a", "files": [
                {{"filename": "a-1.0-py3-none-any.whl", "url": "../../f/a-1.0-py3-none-any.whl", "size": 12, "requires-python": ">=3.8, <4",
                  "hashes": {{"sha256": "{}", "md5": "x", "sha512": "short"}}, "yanked": "why"}}]}}"#,
            "a".repeat(64)
        );
        let links = parse(&address(), kind, text.as_bytes(), None).unwrap();
        assert_eq!(
            shown(&links),
            ["a-1.0-py3-none-any.whl https://index.example/f/a-1.0-py3-none-any.whl 1 Some(12) >=3.8, <4"]
        );
        for (text, why) in [
            ("{", "EOF"),
            ("{}", "no api-version"),
            (r#"{"meta":{"api-version":"2.0"},"files":[]}"#, "2.0"),
            (r#"{"meta":{"api-version":"1.0"}}"#, "no files"),
            (r#"{"meta":{"api-version":"1.0"},"files":[{"url":"x"}]}"#, "without filename"),
        ] {
            let error = parse(&address(), kind, text.as_bytes(), None).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(matches!(parse(&address(), "text/plain", b"", None), Err(SimpleError::ContentType(_))));
        assert_eq!(parse(&address(), kind, b"\xff", None), Err(SimpleError::Encoding));
        let deep = "[".repeat(100_000);
        assert!(parse(&address(), kind, deep.as_bytes(), None).is_err());
    }

    /// What is not of the project costs no address, and what is of it not more than all of them may have.
    #[test]
    fn pages_stay_small() {
        let name = Name::parse("a").unwrap();
        let of = |text: &str, kind: &str| parse(&address(), kind, text.as_bytes(), Some(&name));
        let other =
            "<a href=b-1-py3-none-any.whl><a href=a.whl><a href=a-1.tar.gz><a href='a-2-py3-none-any.whl#x'>";
        let names = |links: Vec<Link>| links.into_iter().map(|link| link.filename).collect::<Vec<_>>();
        assert_eq!(names(of(other, "text/html").unwrap()), ["a-1.tar.gz", "a-2-py3-none-any.whl"]);

        let base = format!("<base href='https://h.example/{}/'>", "x".repeat(8000));
        let link = |count: usize| "<a href=a-1-py3-none-any.whl>".repeat(count);
        assert_eq!(of(&format!("{base}{}", link(100)), "text/html").unwrap().len(), 100);
        assert_eq!(of(&format!("{base}{}", link(9000)), "text/html"), Err(SimpleError::Many));
        assert_eq!(of(&link(limits::PYTHON_LINKS + 1), "text/html"), Err(SimpleError::Many));
        let python = |count: usize| {
            let all = format!("<a href=a-1.zip data-requires-python='{}'>", [">1"; 1000].join(","));
            of(&all.repeat(count), "text/html").map(|links| links.len())
        };
        let most = limits::PYTHON_LINK_SPECIFIERS / 1000;
        assert_eq!((python(most), python(most + 1)), (Ok(most), Err(SimpleError::Many)));
        let elsewhere = format!("{base}{}", "<a href=b-1-py3-none-any.whl>".repeat(9000));
        assert_eq!(of(&elsewhere, "text/html"), Ok(vec![]));

        let many =
            format!("<a {} href=a-1-py3-none-any.whl href=b-1-py3-none-any.whl>", "x=y ".repeat(100_000));
        assert_eq!(names(of(&many, "text/html").unwrap()), ["a-1-py3-none-any.whl"]);

        let kind = "application/vnd.pypi.simple.v1+json";
        let page =
            |files: &str| format!(r#"{{"meta":{{"api-version":"1.0"}},"x":[{files}],"files":[{files}]}}"#);
        let file =
            r#"{"filename":"b-1-py3-none-any.whl","url":"x"},{"filename":"a-1-py3-none-any.whl","url":"x"}"#;
        assert_eq!(names(of(&page(file), kind).unwrap()), ["a-1-py3-none-any.whl"]);
        let told =
            format!(r#"{{"filename":"a-1.zip","url":"x","y":"{}"}}"#, "z".repeat(limits::PYTHON_FILE_BYTES));
        let error = of(&page(&told), kind).unwrap_err().to_string();
        assert!(error.contains("more than 65536 bytes of one file"), "{error}");
        let numbers = format!("{}0", "0,".repeat(limits::PYTHON_LISTED));
        let error = of(&page(&numbers), kind).unwrap_err().to_string();
        assert!(error.contains("it lists more than"), "{error}");
        assert!(of(&page("0"), kind).unwrap_err().to_string().contains("without filename"));
    }
}
