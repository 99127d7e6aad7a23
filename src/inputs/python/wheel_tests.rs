//! Wheels with one thing wrong each.

use std::io::Read as _;

use super::super::wheel_zip::tests::{Part, file, zip};
use super::*;

const NAME: &str = "demo_app-1.0-py3-none-any.whl";
const WHEEL: &str = "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n";
const METADATA: &str = "Metadata-Version: 2.1\nName: Demo.App\nVersion: 1.0.0\nRequires-Python: >=3.9\nRequires-Dist: a>=1\nrequires-dist: b ; extra == 'x'\n\nName: no\n\
     Requires-Dist: no\n";

fn parts(files: &[(&str, &[u8])]) -> Vec<Part> {
    files.iter().map(|(name, content)| Part::new(name, content, content.len() > 20)).collect()
}

/// A wheel of these files and a RECORD of them; RECORD's text goes through `change`.
pub(in crate::inputs::python) fn wheel(
    files: &[(&str, &[u8])],
    change: impl Fn(String) -> String,
) -> Vec<u8> {
    let mut lines: Vec<record::Line> = files
        .iter()
        .map(|(name, content)| record::Line { path: (*name).to_owned(), content: Some(Sum::of(content)) })
        .collect();
    let name = "demo_app-1.0.dist-info/RECORD";
    lines.push(record::Line { path: name.into(), content: None });
    let text = change(record::write(lines));
    let mut parts = parts(files);
    parts.push(Part::new(name, text.as_bytes(), true));
    zip(&parts)
}

const FILES: [(&str, &[u8]); 4] = [
    ("demo/__init__.py", b"print('demo')\n"),
    ("demo/data.txt", b"a text that is long enough to be deflated, a text that is long enough\n"),
    ("demo_app-1.0.dist-info/METADATA", METADATA.as_bytes()),
    ("demo_app-1.0.dist-info/WHEEL", WHEEL.as_bytes()),
];

fn read(name: &str, bytes: &[u8]) -> Result<Wheel, InputError> {
    Wheel::read(file(bytes), PathBuf::from("dist").join(name), Digest::sha256(bytes))
}

#[track_caller]
fn refused(name: &str, bytes: &[u8], why: &str) {
    let message = read(name, bytes).expect_err(why).to_string();
    assert!(
        message.starts_with(&format!("dist/{name}: ")) && message.contains(why),
        "{message}, expected {why:?}"
    );
}

fn with(name: &str, content: &str) -> Vec<u8> {
    let mut files: Vec<(&str, &[u8])> = FILES.iter().copied().filter(|(other, _)| *other != name).collect();
    files.push((name, content.as_bytes()));
    wheel(&files, |text| text)
}

#[test]
fn a_good_one() {
    let bytes = wheel(&FILES, |text| text);
    let read = read(NAME, &bytes).unwrap();
    assert_eq!((read.stem.as_str(), read.pure, read.files.len()), ("demo_app-1.0", true, 4));
    assert_eq!(read.requires_python.as_ref().unwrap().to_string(), ">=3.9");
    assert_eq!(read.requires, ["a>=1", "b ; extra == 'x'"]);
    for (name, content) in FILES {
        let mut found = Vec::new();
        read.member(name, &read.files[name]).open().read_to_end(&mut found).unwrap();
        assert_eq!(found, content);
    }
    assert_eq!(files::digest(&file(&bytes), |_| ()).unwrap(), Digest::sha256(&bytes));
}

#[test]
fn record_is_the_content() {
    let cut = |start: &'static str| {
        move |text: String| {
            text.lines()
                .filter(|line| !line.starts_with(start))
                .fold(String::new(), |all, line| all + line + "\n")
        }
    };
    refused(NAME, &wheel(&FILES, cut("demo/data.txt")), "\"demo/data.txt\" has no hash in its RECORD");
    refused(NAME, &wheel(&FILES, |text| text.replace("demo/data.txt", "demo/date.txt")), "no hash");
    refused(
        NAME,
        &wheel(&FILES, |text| {
            format!("{text}x.py,{},0\n", "sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU")
        }),
        "names \"x.py\", which is not in it",
    );
    refused(NAME, &wheel(&FILES, |text| format!("{text}demo/data.txt,,\n")), "names \"demo/data.txt\" twice");
    refused(NAME, &wheel(&FILES, |text| text.replace(",70\n", ",71\n")), "has 70 bytes, but RECORD says 71");
    refused(NAME, &wheel(&FILES, |text| text.replace("sha256=", "md5=")), "malformed: line 1");
    // Its own line may be missing, and signatures stand in no line.
    assert!(read(NAME, &wheel(&FILES, cut("demo_app-1.0.dist-info/RECORD"))).is_ok());
    let signed = [&FILES[..], &[("demo_app-1.0.dist-info/RECORD.jws", b"{}")]].concat();
    assert_eq!(read(NAME, &wheel(&signed, cut("demo_app-1.0.dist-info/RECORD.jws"))).unwrap().files.len(), 4);
    refused(NAME, &zip(&parts(&FILES)), "has no demo_app-1.0.dist-info/RECORD");
}

#[test]
fn contents_are_checked_when_they_are_read() {
    let sound = wheel(&FILES, |text| text);
    let message = |wheel: Wheel, name: &str| {
        let error = wheel.member(name, &wheel.files[name]).open().read_to_end(&mut Vec::new()).unwrap_err();
        error.into_inner().unwrap().downcast::<InputError>().unwrap().to_string()
    };
    // Another content of the same size: the CRC-32 is that of the directory.
    let at = sound.windows(5).position(|part| part == b"'demo").unwrap();
    let mut other = sound.clone();
    other[at + 1] = b'D';
    let wrong = message(read(NAME, &other).unwrap(), "demo/__init__.py");
    assert!(wrong.contains("\"demo/__init__.py\" has the CRC-32"), "{wrong}");
    // A RECORD about something else.
    let forged = wheel(&FILES, |text| {
        let sum = |content: &[u8]| {
            record::write(vec![record::Line { path: "x".into(), content: Some(Sum::of(content)) }])
        };
        let (real, forged) = (sum(FILES[0].1), sum(b"print('DEMO')\n"));
        text.replace(&real.trim_end()[1..], &forged.trim_end()[1..])
    });
    let wrong = message(read(NAME, &forged).unwrap(), "demo/__init__.py");
    assert!(wrong.contains("but RECORD says sha256:"), "{wrong}");
    // Damage anywhere in a deflate stream, but in the bits that fill its last byte.
    let wheel = read(NAME, &sound).unwrap();
    let place = wheel.files["demo/data.txt"].place;
    let mut unseen = 0;
    for at in place.start..place.start + place.packed {
        for bit in 0..8 {
            let mut damaged = sound.clone();
            damaged[at as usize] ^= 1 << bit;
            let wheel = read(NAME, &damaged).unwrap();
            let member = wheel.member("demo/data.txt", &wheel.files["demo/data.txt"]);
            if let Ok(content) = member.read(100) {
                assert!(content == FILES[1].1 && at + 1 == place.start + place.packed);
                unseen += 1;
            }
        }
    }
    assert!(unseen < 8, "{unseen}");
}

/// Bytes behind the end of a deflate stream, a stream without end, and one that is longer than it says.
#[test]
fn deflate_streams_are_exact() {
    let content = FILES[1].1;
    let good = Part::new("x", content, true);
    let streams = [
        ([&good.data[..], &[0]].concat(), "behind the end"),
        (good.data[..good.data.len() - 1].to_vec(), "cut off"),
        (Part::new("x", &[content, content].concat(), true).data, "holds more than"),
        (Part::new("x", &content[1..], true).data, "holds 69 bytes, expected 70"),
        (vec![0xff; 30], "no deflate stream"),
    ];
    for (stream, why) in streams {
        let place = Place { start: 0, packed: stream.len() as u64, size: 70, crc: 0, deflated: true };
        let opened = Opened { file: file(&stream), path: "w.whl".into(), digest: Digest::sha256(b"") };
        let error = Member::new(&Arc::new(opened), "x", place, None).read(100).unwrap_err();
        let message = error.of(Path::new("w.whl")).to_string();
        assert!(message.contains(why), "{message}, expected {why:?}");
    }
}

#[test]
fn the_file_name_is_what_it_says_inside() {
    let bytes = wheel(&FILES, |text| text);
    assert!(read("Demo.App-1.0.0-py3-none-any.whl", &bytes).is_ok());
    refused(
        "demo-1.0-py3-none-any.whl",
        &bytes,
        "\"demo_app-1.0.dist-info\", which is not what its file name says",
    );
    refused("demo_app-1.1-py3-none-any.whl", &bytes, "not what its file name says");
    refused(
        "demo_app-1.0-py2.py3-none-any.whl",
        &bytes,
        "has the tags py3-none-any, but the file name says py2-none-any, py3-none-any",
    );
    refused("demo_app.whl", &bytes, "its name is not that of a wheel");
    let metadata = "demo_app-1.0.dist-info/METADATA";
    refused(NAME, &with(metadata, "Name: other\nVersion: 1.0\n"), "says the name \"other\"");
    refused(NAME, &with(metadata, "Name: demo-app\nVersion: 2\n"), "says the version \"2\"");
    refused(NAME, &with(metadata, "Name: demo-app\nName: demo-app\nVersion: 1\n"), "the field Name twice");
    refused(NAME, &with(metadata, "Name: demo-app\n\nVersion: 1\n"), "has no field Version");
    refused(
        NAME,
        &with(metadata, "Name: demo-app\nVersion: 1\nRequires-Python: 3\n"),
        "Requires-Python: \"3\"",
    );
    let wheel = "demo_app-1.0.dist-info/WHEEL";
    refused(NAME, &with(wheel, &WHEEL.replace("1.0", "2.0")), "is of version 2.0");
    refused(NAME, &with(wheel, &WHEEL.replace("true", "yes")), "Root-Is-Purelib");
    refused(NAME, &with(wheel, &WHEEL.replace("none-any", "none")), "which is none");
    assert!(read(NAME, &with(wheel, &WHEEL.replace("1.0", "1.9"))).is_ok());
    assert!(
        read("demo_app-1.0-py2.py3-none-any.whl", &with(wheel, &WHEEL.replace("py3", "py3.py2"))).is_ok()
    );
}

#[test]
fn one_dist_info() {
    refused(NAME, &with("Demo_App-1.0.dist-info/x", "x"), "differ only by case");
    refused(NAME, &with("other-1.0.dist-info/x", "x"), "several .dist-info directories");
    refused(NAME, &with("other-1.0.DIST-INFO/x", "x"), "several .dist-info directories");
    refused(NAME, &zip(&parts(&[("demo.py", b"")])), "no .dist-info directory");
}

/// Names and values of a wheel stand in messages with their beginning alone.
#[test]
fn messages_are_short() {
    let long = "x".repeat(100_000);
    let (metadata, info) = ("demo_app-1.0.dist-info/METADATA", "demo_app-1.0.dist-info/WHEEL");
    let entry_points = "demo_app-1.0.dist-info/entry_points.txt";
    let sum = "sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";
    for bytes in [
        wheel(&FILES, |text| format!("{text}{long},{sum},0\n")),
        wheel(&FILES, |text| format!("{text}{long},,\n{long},,\n")),
        wheel(&FILES, |text| format!("{text}{long},x\u{1}{long},0\n")),
        with(metadata, &format!("Name: {long}\nVersion: 1.0\n")),
        with(metadata, &format!("Name: demo-app\nVersion: {long}\n")),
        with(metadata, &format!("Name: demo-app\nVersion: 1.0\nRequires-Python: {long}\n")),
        with(metadata, &format!("Name: demo-app\nVersion: 1.0\nRequires-Python: >={}\n", &long[..4000])),
        with(info, &WHEEL.replace("1.0", &long)),
        with(info, &WHEEL.replace("true", &long)),
        with(metadata, &format!("Name: demo-app\nVersion: 1.0\n{}", "Requires-Dist: a\n".repeat(50_000))),
        with(info, &format!("{WHEEL}Tag: {long}\n")),
        with(info, &format!("{WHEEL}Tag: {long}-none-any\n")),
        with(info, &format!("{WHEEL}Tag: {}-none-any\n", "a.".repeat(100) + "a")),
        with(
            info,
            &format!("{WHEEL}{}", (0..9000).map(|n| format!("Tag: py{n}-none-any\n")).collect::<String>()),
        ),
        with(entry_points, &format!("[console_scripts]\n{long}")),
        with(entry_points, &format!("[console_scripts]\na={long}")),
        with(entry_points, &format!("[console_scripts]\n{long}=a:b")),
    ] {
        let message = read(NAME, &bytes).unwrap_err().to_string();
        assert!(message.len() < 3 * limits::SHOWN_BYTES, "{} bytes: {}", message.len(), &message[..200]);
    }
}

/// Fields are those that Python finds: a carriage return alone ends a line of mail.
#[test]
fn fields_are_those_that_python_finds() {
    let metadata = "demo_app-1.0.dist-info/METADATA";
    refused(
        NAME,
        &with(metadata, "Name: demo-app\nVersion: 1.0\nSummary: x\rName: other\n"),
        "the field Name twice",
    );
    refused(NAME, &with(metadata, "Name: demo-app\r\r\nVersion: 1.0\n"), "has no field Version");
    let read =
        read(NAME, &with(metadata, "Name: demo-app\rVersion: 1.0\r\nRequires-Python: >=3.1\r\n\r\nName: x"));
    assert_eq!(read.unwrap().requires_python.unwrap().to_string(), ">=3.1");
    let all = |text| lines(text).collect::<Vec<_>>();
    assert_eq!(all("a\nb\r\nc\rd\r\r\n\ne"), ["a", "b", "c", "d", "", "", "e"]);
    assert_eq!(all("a\n"), ["a"]);
    assert!(all("").is_empty() && all("\n") == [""]);
}
