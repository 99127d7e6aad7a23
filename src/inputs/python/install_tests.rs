//! What a wheel with something of everything becomes.

use std::io::Read as _;
use std::path::PathBuf;

use dmoci_layers::Digest;

use super::super::target::{self, PythonTarget};
use super::super::venv::skeleton;
use super::super::wheel::tests::wheel;
use super::super::wheel_zip::tests::file;
use super::*;

const NAME: &str = "demo_app-1.0-py3-none-any.whl";
const INFO: [(&str, &[u8]); 2] = [
    ("demo_app-1.0.dist-info/METADATA", b"Metadata-Version: 2.1\nName: demo-app\nVersion: 1.0\n"),
    ("demo_app-1.0.dist-info/WHEEL", b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
];

fn path(text: &str) -> SafePath {
    SafePath::parse(text.as_bytes()).unwrap()
}

fn python() -> PythonTarget {
    let mut python = target::sample("3.13.5", "", "linux/amd64");
    python.interpreter = path("usr/local/bin/python3.13");
    python
}

fn read(files: &[(&str, &[u8])]) -> Wheel {
    let files = [files, &INFO].concat();
    let bytes = wheel(&files, |text| text);
    Wheel::read(file(&bytes), PathBuf::from(NAME), Digest::sha256(&bytes)).unwrap()
}

fn installed(files: &[(&str, &[u8])], scheme: &Scheme, url: Option<&str>) -> Result<Installed, String> {
    let options = Options { scheme, owner: (0, 0), requested: true, url };
    install(&read(files), &options).map_err(|error| error.to_string())
}

fn venv(at: &str) -> Scheme {
    Scheme::venv(&path(at), &python()).unwrap()
}

/// One line for each entry, with the content of short files.
fn shown(items: &[Item]) -> String {
    let mut text = String::new();
    for Item { entry, content } in items {
        let mut bytes = Vec::new();
        content.open().unwrap().read_to_end(&mut bytes).unwrap();
        let what = match &entry.kind {
            EntryKind::Directory => "/".to_owned(),
            EntryKind::Symlink { target } => format!(" -> {}", String::from_utf8_lossy(target)),
            EntryKind::File { size } => {
                assert_eq!(*size, bytes.len() as u64);
                format!(" {:?}", String::from_utf8_lossy(&bytes))
            }
            other => panic!("{other:?}"),
        };
        text += &format!("{:03o} {}{what}\n", entry.mode & 0o777, entry.path);
    }
    text
}

const FILES: [(&str, &[u8]); 10] = [
    ("demo.pth", b"import demo"),
    ("demo/__init__.py", b"1"),
    ("demo_app-1.0.data/data/share/demo.txt", b"2"),
    ("demo_app-1.0.data/headers/demo.h", b"3"),
    ("demo_app-1.0.data/platlib/demo/_c.so", b"4"),
    ("demo_app-1.0.data/scripts/demo-old", b"written by an old builder"),
    ("demo_app-1.0.data/scripts/demo.py", b"#!python -E\nimport demo\n"),
    ("demo_app-1.0.data/scripts/demo.sh", b"#!/bin/sh\n"),
    (
        "demo_app-1.0.dist-info/entry_points.txt",
        b"[console_scripts]\ndemo = demo : main\ndemo-old = demo:old.main [x]\n",
    ),
    ("demo_app-1.0.dist-info/licenses/LICENSE", b"5"),
];

#[test]
fn everything_has_its_place() {
    let Installed { items, shell } = installed(&FILES, &venv("opt/v"), None).unwrap();
    assert_eq!(shell, None);
    let text = shown(&items);
    let record = text.lines().find(|line| line.contains("/RECORD")).unwrap().to_owned();
    let rest: Vec<&str> = text.lines().filter(|line| *line != record).collect();
    assert_eq!(
        rest.join("\n"),
        r##"755 /opt/v/
755 /opt/v/bin/
755 /opt/v/bin/demo "#!/opt/v/bin/python\nimport sys\nfrom demo import main\n\nif __name__ == \"__main__\":\n    sys.exit(main())\n"
755 /opt/v/bin/demo-old "#!/opt/v/bin/python\nimport sys\nfrom demo import old\n\nif __name__ == \"__main__\":\n    sys.exit(old.main())\n"
755 /opt/v/bin/demo.py "#!/opt/v/bin/python -E\nimport demo\n"
755 /opt/v/bin/demo.sh "#!/bin/sh\n"
755 /opt/v/include/
755 /opt/v/include/site/
755 /opt/v/include/site/python3.13/
755 /opt/v/include/site/python3.13/demo-app/
644 /opt/v/include/site/python3.13/demo-app/demo.h "3"
755 /opt/v/lib/
755 /opt/v/lib/python3.13/
755 /opt/v/lib/python3.13/site-packages/
755 /opt/v/lib/python3.13/site-packages/demo/
644 /opt/v/lib/python3.13/site-packages/demo/__init__.py "1"
644 /opt/v/lib/python3.13/site-packages/demo/_c.so "4"
644 /opt/v/lib/python3.13/site-packages/demo.pth "import demo"
755 /opt/v/lib/python3.13/site-packages/demo_app-1.0.dist-info/
644 /opt/v/lib/python3.13/site-packages/demo_app-1.0.dist-info/INSTALLER "dmoci\n"
644 /opt/v/lib/python3.13/site-packages/demo_app-1.0.dist-info/METADATA "Metadata-Version: 2.1\nName: demo-app\nVersion: 1.0\n"
644 /opt/v/lib/python3.13/site-packages/demo_app-1.0.dist-info/REQUESTED ""
644 /opt/v/lib/python3.13/site-packages/demo_app-1.0.dist-info/WHEEL "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
644 /opt/v/lib/python3.13/site-packages/demo_app-1.0.dist-info/entry_points.txt "[console_scripts]\ndemo = demo : main\ndemo-old = demo:old.main [x]\n"
755 /opt/v/lib/python3.13/site-packages/demo_app-1.0.dist-info/licenses/
644 /opt/v/lib/python3.13/site-packages/demo_app-1.0.dist-info/licenses/LICENSE "5"
755 /opt/v/share/
644 /opt/v/share/demo.txt "2""##
    );
    assert!(items.is_sorted_by(|a, b| layer::order(&a.entry, &b.entry).is_lt()));
}

#[test]
fn record_says_what_is_there() {
    let Installed { items, .. } =
        installed(&FILES, &venv("opt/v"), Some("https://host.example/demo.whl")).unwrap();
    let site = path("opt/v/lib/python3.13/site-packages");
    let mut record = Vec::new();
    let content = |item: &Item| {
        let mut bytes = Vec::new();
        item.content.open().unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    };
    let mut expected = Vec::new();
    for item in items.iter().filter(|item| matches!(item.entry.kind, EntryKind::File { .. })) {
        let path = relative(&site, &item.entry.path).unwrap();
        let own = path.ends_with("/RECORD");
        if own {
            record = content(item);
        }
        expected.push(Line { content: (!own).then(|| Sum::of(&content(item))), path });
    }
    assert_eq!(String::from_utf8(record).unwrap(), record::write(expected.clone()));
    let paths: Vec<&str> = expected.iter().map(|line| line.path.as_str()).collect();
    assert!(paths.contains(&"../../../bin/demo") && paths.contains(&"../../../share/demo.txt"), "{paths:?}");
    let direct = items.iter().find(|item| item.entry.path.name() == b"direct_url.json").unwrap();
    let digest: Digest = read(&FILES).digest().clone();
    assert_eq!(
        String::from_utf8(content(direct)).unwrap(),
        format!(
            r#"{{"archive_info":{{"hashes":{{"sha256":"{}"}}}},"url":"https://host.example/demo.whl"}}"#,
            digest.hex()
        )
    );
}

/// What other installers left in the wheel is not kept.
#[test]
fn who_installed_it_is_not_taken_from_the_wheel() {
    let files: [(&str, &[u8]); 3] = [
        ("demo_app-1.0.dist-info/INSTALLER", b"pip"),
        ("demo_app-1.0.dist-info/REQUESTED", b""),
        ("demo_app-1.0.dist-info/direct_url.json", b"{}"),
    ];
    let scheme = venv("opt/v");
    let options = Options { scheme: &scheme, owner: (5, 6), requested: false, url: None };
    let Installed { items, .. } = install(&read(&files), &options).unwrap();
    let text = shown(&items);
    assert!(text.contains("INSTALLER \"dmoci\\n\""), "{text}");
    assert!(!text.contains("REQUESTED") && !text.contains("direct_url.json"), "{text}");
    assert!(items.iter().all(|item| (item.entry.uid, item.entry.gid) == (5, 6)));
}

#[test]
fn programs_that_need_a_shell_are_told() {
    let Installed { items, shell } = installed(&FILES, &venv("opt/my app"), None).unwrap();
    assert_eq!(shell, Some(path("opt/my app/bin/demo.py")));
    let text = shown(&items);
    assert!(
        text.contains(
            r#"#!/bin/sh\n'''exec' '/opt/my app/bin/python' '-E' \"$0\" \"$@\"\n' '''\nimport demo"#
        ),
        "{text}"
    );
    // Without a program of its own a long path is nobody's business.
    assert_eq!(installed(&[], &venv(&"long/".repeat(40)), None).unwrap().shell, None);
}

#[test]
fn refused() {
    let entry_points = "demo_app-1.0.dist-info/entry_points.txt";
    for (name, content, why) in [
        ("demo_app-1.0.data/lib/x", "", "in no folder that installers know"),
        ("demo_app-1.0.data/x", "", "in no folder that installers know"),
        ("demo_app-1.0.data/data/pyvenv.cfg", "", "would take the place of /opt/v/pyvenv.cfg"),
        ("demo_app-1.0.data/scripts/python3", "", "would take the place of /opt/v/bin/python3"),
        ("demo_app-1.0.data/data/bin/demo", "", "both go to /opt/v/bin/demo"),
        (
            "demo_app-1.0.data/purelib/demo/__init__.py",
            "",
            "both go to /opt/v/lib/python3.13/site-packages/demo/__init__.py",
        ),
        ("demo_app-1.0.data/scripts/sub/x", "#!python \u{1}", ""),
        ("demo_app-1.0.data/purelib/other-2.0.dist-info/METADATA", "", "which is another distribution"),
        ("demo_app-1.0.data/platlib/Other-2.0.Dist-Info/METADATA", "", "which is another distribution"),
        ("demo_app-1.0.data/platlib/demo_app-1.1.dist-info/METADATA", "", "which is another distribution"),
        (
            "demo_app-1.0.data/data/lib/python3.13/site-packages/other.dist-info/METADATA",
            "",
            "would be other.dist-info in site-packages, which is another distribution",
        ),
        ("demo_app-1.0.data/purelib/other.egg-info", "", "which is another distribution"),
        ("other-1.0-py3.13.egg-info/PKG-INFO", "", "which is another distribution"),
        ("demo_app.egg-info/PKG-INFO", "", ""),
        ("demo/_vendor/other-1.0.dist-info/METADATA", "", ""),
        ("demo_app-1.0.data/data/share/other-1.0.dist-info/METADATA", "", ""),
        (
            "demo_app-1.0.data/purelib/demo_app-1.0.dist-info/direct_url.json",
            "{}",
            "which the installer writes",
        ),
        ("demo_app-1.0.data/purelib/demo_app-1.0.dist-info/RECORD.jws", "{}", "which the installer writes"),
        ("demo_app-1.0.data/platlib/demo_app-1.0.dist-info/INSTALLER", "pip", "which the installer writes"),
        ("demo_app-1.0.data/platlib/demo_app-1.0.dist-info/licenses/X", "x", ""),
        ("demo_app-1.0.data/platlib/demo_app-1.0.dist-info/METADATA", "x", "both go to"),
        (
            entry_points,
            "[gui_scripts]\npython3.13 = demo:main",
            "would take the place of /opt/v/bin/python3.13",
        ),
    ] {
        let mut files: Vec<(&str, &[u8])> =
            FILES.iter().copied().filter(|(other, _)| *other != name).collect();
        files.push((name, content.as_bytes()));
        let found = installed(&files, &venv("opt/v"), None);
        match why {
            "" => assert!(found.is_ok()),
            why => assert!(
                found.as_ref().is_err_and(|message| message.contains(why)),
                "{found:?}, expected {why:?}"
            ),
        }
    }
    let found = installed(&FILES, &venv("opt/it's mine"), None).unwrap_err();
    assert!(found.contains("cannot stand in the first line of a program"), "{found}");
}

#[test]
fn an_environment() {
    let items = skeleton(&path("opt/v"), &python(), (0, 0)).unwrap();
    assert_eq!(
        shown(&items),
        "777 /opt/v/bin/python -> /usr/local/bin/python3.13\n777 /opt/v/bin/python3 -> python\n\
         777 /opt/v/bin/python3.13 -> python\n755 /opt/v/lib/python3.13/site-packages/\n777 /opt/v/lib64 -> lib\n\
         644 /opt/v/pyvenv.cfg \"home = /usr/local/bin\\ninclude-system-site-packages = false\\nversion = 3.13.5\\n\"\n"
    );
    assert!(items.is_sorted_by(|a, b| layer::order(&a.entry, &b.entry).is_lt()));
    let mut threaded = target::sample("3.13.0", "", "linux/arm/v7");
    threaded.threaded = true;
    let text = shown(&skeleton(&path("opt/v"), &threaded, (0, 0)).unwrap());
    assert!(text.contains("/opt/v/lib/python3.13t/site-packages/") && !text.contains("lib64"), "{text}");
    assert!(text.contains("/opt/v/bin/python3.13t -> python"), "{text}");
}
