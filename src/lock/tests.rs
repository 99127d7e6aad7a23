//! What is read and what is written.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::diagnostic::{Diagnostic as _, Exit};

fn platform(text: &str) -> Platform {
    text.parse().unwrap()
}

fn pin(url: &str, content: &str, authenticated: Authenticated) -> Pin {
    let digest = Digest::sha256(content.as_bytes());
    Pin { url: url.parse().ok(), size: content.len() as u64, digest, authenticated, wheel: None, base: None }
}

fn example() -> Lock {
    let mut lock = Lock::default();
    let mut put = |on: &str, kind: Kind, pin: Pin| {
        lock.platforms.entry(platform(on)).or_default().insert((kind, pin.key()), pin);
    };
    let engine = "https://example.org/engine-aarch64.tar.gz";
    put("linux/arm64", Kind::Archive, pin(engine, "engine", Authenticated::Spec));
    let model = "https://example.org/model.bin?v=2";
    put("linux/arm64", Kind::Download, pin(model, "model", Authenticated::FirstUse));
    put("linux/amd64", Kind::Download, pin(model, "model", Authenticated::FirstUse));
    put("linux/amd64", Kind::Archive, pin("https://example.org/b.zip", "b", Authenticated::LockFile));
    put("linux/amd64", Kind::Archive, pin("https://example.org/a.zip", "a", Authenticated::FirstUse));
    for (on, index) in [("linux/amd64", None), ("linux/arm64", Some(Digest::sha256(b"index")))] {
        put(on, Kind::Base, base("registry.example/python:3.13", on, index));
    }
    let (first, second) = ("b-1.0-py3-none-any.whl", "c-1.0-py3-none-any.whl");
    put("linux/arm64", Kind::Wheel, wheel("https://example.org/2/b", first, None));
    let sha512: Digest = format!("sha512:{}", "5".repeat(128)).parse().unwrap();
    put("linux/arm64", Kind::Wheel, wheel("https://example.org/1/c", second, Some(sha512)));
    let stand_in = Pin { url: None, ..wheel("https://example.org/d", "d-1.0-py3-none-any.whl", None) };
    put("linux/arm64", Kind::Wheel, Pin { authenticated: Authenticated::FirstUse, ..stand_in });
    lock
}

fn base(name: &str, content: &str, index: Option<Digest>) -> Pin {
    let facts = index.iter().map(|_| "/etc d 0755 0:0".to_owned()).collect();
    let signed_by = index.is_some().then(|| "the key \"a\"".to_owned());
    let base = Some(BasePin { name: name.parse().unwrap(), index, signed_by, facts });
    Pin { url: None, base, ..pin("", content, Authenticated::FirstUse) }
}

fn wheel(url: &str, file: &str, sha512: Option<Digest>) -> Pin {
    let wheel = Some(WheelPin { file: file.to_owned(), sha512 });
    Pin { wheel, ..pin(url, file, Authenticated::LockFile) }
}

fn read(text: &str) -> Result<Written, LockError> {
    parse(Path::new("dmoci.lock"), text)
}

#[test]
fn the_form() {
    let text = example().text();
    let first = "\
# Written by dmoci: what the image is made of besides the project, by digest. It belongs into version control.
# `dmoci lock --update` makes entries anew. What is changed by hand is noticed.
schema = 1
rules = 1

[[platform.\"linux/amd64\".base]]
name = \"registry.example/python:3.13\"
size = 11
sha256 = \"baf0239e48ff4c47ebac3ba02b5cf1506b69cd5a0c0d0c825a53ba65976fb942\"
authenticated = \"first use\"
fields = \"";
    assert!(text.starts_with(first), "{text}");
    let order: Vec<&str> = text.lines().filter(|line| line.starts_with(['[', 'u'])).collect();
    assert_eq!(
        order,
        [
            "[[platform.\"linux/amd64\".base]]",
            "[[platform.\"linux/amd64\".archive]]",
            "url = \"https://example.org/a.zip\"",
            "[[platform.\"linux/amd64\".archive]]",
            "url = \"https://example.org/b.zip\"",
            "[[platform.\"linux/amd64\".download]]",
            "url = \"https://example.org/model.bin?v=2\"",
            "[[platform.\"linux/arm64\".base]]",
            "[[platform.\"linux/arm64\".archive]]",
            "url = \"https://example.org/engine-aarch64.tar.gz\"",
            "[[platform.\"linux/arm64\".download]]",
            "url = \"https://example.org/model.bin?v=2\"",
            "[[platform.\"linux/arm64\".wheel]]",
            "url = \"https://example.org/2/b\"",
            "[[platform.\"linux/arm64\".wheel]]",
            "url = \"https://example.org/1/c\"",
            "[[platform.\"linux/arm64\".wheel]]",
        ]
    );
    let written = read(&text).unwrap();
    assert_eq!(written.lock, example());
    assert!(written.check(|_, _, _| false).is_ok());
    assert_eq!(written.lock.text(), text);
    assert_eq!(read(&Lock::default().text()).unwrap().lock, Lock::default());
}

/// The digest of the fields, as anybody can compute it.
#[test]
fn fields_known_answer() {
    let text = example().text();
    let json = "{\"authenticated\":\"first use\",\"kind\":\"archive\",\"platform\":\"linux/amd64\",\
                \"sha256\":\"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb\",\"size\":1,\
                \"url\":\"https://example.org/a.zip\"}";
    assert!(text.contains(&format!("fields = \"{}\"", Digest::sha256(json.as_bytes()).hex())), "{text}");
}

#[test]
fn the_example_of_the_documentation() {
    let docs = include_str!("../../docs/lock.md");
    let example = docs.split("```toml\n").nth(2).unwrap().split("```").next().unwrap();
    let written = read(example).unwrap();
    written.check(|_, _, _| false).unwrap();
    assert!(written.lock.text().ends_with(example));
}

#[test]
fn every_edit_is_noticed() {
    let text = example().text();
    let mut edits = 0;
    for (number, line) in text.lines().enumerate() {
        let others = match line.split(' ').next().unwrap_or_default() {
            "url" => vec![line.replace(".org", ".net")],
            "size" => vec!["size = 999".to_owned()],
            "file" => vec![line.replace("1.0", "2.0")],
            "name" => vec![line.replace("3.13", "3.14")],
            "" if line.contains("/etc d") => vec![line.replace("0755", "0777")],
            "index" => vec![format!("index = \"{}\"", "0".repeat(64))],
            "sha512" => vec![format!("sha512 = \"{}\"", "0".repeat(128))],
            "sha256" => vec![format!("sha256 = \"{}\"", "0".repeat(64))],
            "authenticated" if line.contains("spec") => vec!["authenticated = \"lock file\"".to_owned()],
            "authenticated" => vec!["authenticated = \"spec\"".to_owned()],
            "fields" => vec![format!("fields = \"{}\"", "0".repeat(64)), "fields = \"\"".to_owned()],
            "[[platform.\"linux/amd64\".archive]]" => {
                vec![
                    line.replace("archive", "download"),
                    line.replace("amd64", "arm64"),
                    line.replace("amd64", "s390x"),
                ]
            }
            _ => continue,
        };
        for other in others {
            let changed: Vec<&str> =
                text.lines().enumerate().map(|(i, line)| if i == number { &other } else { line }).collect();
            let written = read(&changed.join("\n")).unwrap();
            let error = written.check(|_, _, _| false).unwrap_err();
            assert_eq!((error.code(), error.exit()), ("E-LOCK-EDITED", Exit::Mismatch), "{other}");
            assert!(error.places()[0].label.starts_with("expected "), "{other}");
            assert!(written.check(|_, _, url| error.to_string().contains(url)).is_ok());
            edits += 1;
        }
    }
    // Those of the wheel without address come last.
    assert_eq!(edits, 7 * 4 + 7 * 2 + 2 * 3 + 3 + 6 + 2 * 6 + 2);
}

#[test]
fn what_is_malformed_is_refused_at_its_place() {
    let good = example().text();
    let with = |from: &str, to: &str| good.replacen(from, to, 1);
    for (text, message, at) in [
        ("= 3\n".to_owned(), "not TOML", ""),
        (with("size = 1\n", "<<<<<<< ours\nsize = 1\n"), "both sides of a merge", "<<<<<<<"),
        (with("schema = 1", "schema = 2"), "schema 2 is not known", "2"),
        (with("schema = 1", "schema = \"1\""), "`schema` is no whole number", "\"1\""),
        (with("schema = 1\n", ""), "`schema` is missing", ""),
        (with("rules = 1\n", ""), "`rules` is missing", ""),
        (with("rules = 1", "rules = 1\npackage = []"), "unknown key", "package"),
        (with("size = 1\n", ""), "`size` is missing", ""),
        (with("size = 1\n", "size = 1\nsice = 1\n"), "unknown key", "sice"),
        (with("size = 1\n", "size = -1\n"), "a size is not negative", "-1"),
        (with("size = 1\n", "size = 1.5\n"), "`size` is no whole number", "1.5"),
        (with("\"ca97", "\"CA97"), "this is no sha256", "\"CA97"),
        (with("\"ca97", "\"a97"), "this is no sha256", "\"a97"),
        (with("\"555", "\"55x"), "this is no sha512", "\"55x"),
        (with("file = \"b-1.0-py3-none-any.whl\"\n", ""), "`file` is missing", ""),
        (with("\"b-1.0-py3-none-any.whl", "\"../b.whl"), "this is no name of a wheel", "\"../b"),
        (with("size = 1\n", "size = 1\nfile = \"b.whl\"\n"), "unknown key", "file"),
        (with("\"first use\"", "\"hearsay\""), "this is not known here", "\"hearsay\""),
        (
            with("https://example.org/a.zip", "https://u:p@example.org/a.zip"),
            "this is no address",
            "\"https://u",
        ),
        (
            with("https://example.org/a.zip", "https://example.org/../a.zip"),
            "this is no address",
            "\"https://e",
        ),
        (with("https://example.org/a.zip", "ftp://example.org/a.zip"), "this is no address", "\"ftp"),
        (with("https://example.org/b.zip", "https://example.org/a.zip"), "has an entry already", "\"https"),
        (with("linux/amd64", "linux/amd46"), "this is no platform", "\"linux/amd46\""),
        (
            with("linux/arm64\".archive", "linux/arm64/v8\".archive"),
            "this is no platform",
            "\"linux/arm64/v8\"",
        ),
        (
            with("registry.example/python:3.13", "registry.example/python"),
            "this is no name of an image",
            "\"reg",
        ),
        (with("facts = [", "facts = [3, "), "`facts` is no list of texts", "3"),
        (with("index = \"", "index = \"x"), "this is no sha256", "\"x"),
        (with(".archive]]", ".wheels]]"), "unknown key", "wheels"),
        (format!("{}platform = 3\n", Lock::default().text()), "`platform` is no table", "3"),
        (format!("{}platform.\"linux/s390x\" = 3\n", Lock::default().text()), "a platform is no table", "3"),
        (
            format!("{}platform.\"linux/s390x\".archive = {{}}\n", Lock::default().text()),
            "this is no array of tables",
            "{}",
        ),
        (
            format!("{}platform.\"linux/s390x\".archive = [3]\n", Lock::default().text()),
            "an entry is no table",
            "3",
        ),
    ] {
        let error = read(&text).unwrap_err();
        assert_eq!((error.code(), error.exit()), ("E-LOCK", Exit::Usage), "{error}");
        assert!(error.to_string().contains(message), "{message}: {error}");
        let place = &error.places()[0];
        assert!(
            place.text[place.span.clone()].starts_with(at),
            "{message}: {:?}",
            &place.text[place.span.clone()]
        );
    }
    let error = read(&with("rules = 1", "rules = 2")).unwrap_err();
    assert_eq!((error.code(), error.exit()), ("E-LOCK-RULES", Exit::Usage));
}

#[test]
fn one_address_gives_one_file() {
    let mut lock = example();
    for pins in lock.platforms.values_mut() {
        pins.retain(|(kind, _), _| !matches!(kind, Kind::Wheel | Kind::Base));
        for pin in pins.values_mut() {
            pin.url = "https://example.org/a".parse().ok();
        }
    }
    let written = read(&lock.text().replacen("archive]]\nurl", "download]]\nurl", 1));
    assert!(written.is_err(), "two entries of one kind");
    let a = "https://example.org/a".parse::<Url>().unwrap();
    let two = |second: &str| {
        let mut lock = Lock::default();
        for (on, content) in [("linux/amd64", "1"), ("linux/arm64", second)] {
            let pin = pin(&a.bare(), content, Authenticated::FirstUse);
            lock.platforms.insert(platform(on), [((Kind::Archive, a.bare()), pin)].into());
        }
        read(&lock.text()).unwrap()
    };
    assert!(two("1").check(|_, _, _| false).is_ok());
    let written = two("2");
    assert!(written.check(|_, _, _| false).unwrap_err().to_string().contains("two digests"));
    assert!(written.check(|_, _, _| true).is_ok());
}

#[test]
fn files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dmoci.lock");
    assert!(load(&path).unwrap().is_none());
    std::fs::write(&path, example().text()).unwrap();
    assert_eq!(load(&path).unwrap().unwrap().lock, example());
    std::fs::write(&path, b"# \xff").unwrap();
    assert!(matches!(load(&path), Err(LockError::Read { .. })));
    std::fs::write(&path, vec![b'#'; limits::LOCK_BYTES as usize + 1]).unwrap();
    assert!(matches!(load(&path), Err(LockError::Read { .. })));
    assert!(matches!(load(dir.path()), Err(LockError::Read { .. })));
}

proptest! {
    #[test]
    fn never_panics(text in any::<String>()) {
        let _ = read(&text);
    }

    #[test]
    fn never_panics_on_what_looks_right(cut in 0..2000usize, length in 0..60usize, put in "[\\[\\]{}=\"a-z0-9 \n.]{0,8}") {
        let text = example().text();
        let (start, end) = (text.floor_char_boundary(cut), text.floor_char_boundary(cut + length));
        let _ = read(&format!("{}{put}{}", &text[..start], &text[end..]));
    }
}
