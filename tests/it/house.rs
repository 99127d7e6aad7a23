//! The house of `src/lib.rs` and `docs/design.md`, held as tables.

mod source;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use source::{SourceFile, files_below, reached, reexports};

/// Everything that stands further down in the table.
const BELOW: &[&str] = &["*"];

/// The parts of `dmoci`, from the top, and what each may use. Parts of one row do not know each other.
const PROGRAM: &[(&str, &[&str])] = &[
    ("cli", BELOW),
    ("ops", BELOW),
    (
        "engine",
        &["spec", "inputs", "store", "trust", "oci", "cache", "url", "files", "vcs", "limits", "diagnostic"],
    ),
    ("spec", &["url", "oci", "limits", "diagnostic"]),
    ("lock", &["url", "oci", "limits", "diagnostic"]),
    ("inputs", &["oci", "cache", "url", "files", "vcs", "limits", "diagnostic"]),
    ("store", &["oci", "daemon", "fetch", "cache", "url", "files", "limits", "diagnostic"]),
    ("trust", &["oci", "base64", "limits", "diagnostic"]),
    ("fetch", &["cache", "url", "files", "base64", "limits", "diagnostic"]),
    ("daemon", &["limits", "diagnostic"]),
    ("cache", &["files", "limits", "diagnostic"]),
    ("vcs", &["files", "limits", "diagnostic"]),
    ("sandbox", &["limits"]),
    ("files", &["limits", "diagnostic"]),
    ("oci", &["base64", "limits", "diagnostic"]),
    ("url", &["limits"]),
    ("sha256", &[]),
    ("diagnostic", &["limits"]),
    ("base64", &[]),
    ("limits", &[]),
];

/// The parts of `dmoci-layers`.
const LAYERS: &[(&str, &[&str])] = &[
    ("zip", &["calendar"]),
    ("tgz", &["tar", "encode", "entry"]),
    ("layer", &["tar", "compress", "pool", "decompress", "inflate", "entry", "digest"]),
    ("untar", &["tar", "decompress", "entry", "digest"]),
    ("tar", &["entry"]),
    ("compress", &["pool", "encode", "decompress", "inflate", "digest"]),
    ("pool", &["encode", "decompress"]),
    ("encode", &["decompress"]),
    ("decompress", &["digest"]),
    ("inflate", &["digest"]),
    ("entry", &[]),
    ("digest", &[]),
    ("calendar", &[]),
];

/// What only `cli` and `main` may do.
const FACE_ONLY: &[&str] = &[
    "env::",
    "SystemTime::now",
    "Instant::now",
    "process::exit",
    "println!",
    "eprintln!",
    "print!(",
    "io::stdin",
];

/// A file with more lines of code than this, tests and comments apart, has more than one noun in it.
const LINES: usize = 500;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_row_uses_only_rows_below_it() {
    let mut wrong = String::new();
    for (roots, table) in [(&["src/lib.rs", "src/main.rs"][..], PROGRAM), (&["layers/src/lib.rs"], LAYERS)] {
        let files = reached(repository(), roots);
        let root = files.iter().find(|file| file.path.ends_with("lib.rs")).unwrap();
        let names = reexports(root);
        for file in &files {
            let Some(own) = file.module.first() else { continue };
            let Some(row) = table.iter().position(|(part, _)| part == own) else {
                writeln!(wrong, "{}: {own} is in no row of the table", file.path.display()).unwrap();
                continue;
            };
            for path in file.paths() {
                let Some(first) = path.first() else { continue };
                let used = names.get(first).unwrap_or(first).as_str();
                let Some(at) = table.iter().position(|(part, _)| *part == used) else { continue };
                let allowed = table[row].1;
                if at != row && !allowed.contains(&used) && (allowed != BELOW || at < row) {
                    writeln!(wrong, "{}: {own} may not use {}", file.path.display(), path.join("::"))
                        .unwrap();
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn the_table_itself_has_no_way_up() {
    for table in [PROGRAM, LAYERS] {
        for (i, (part, allowed)) in table.iter().enumerate() {
            for used in allowed.iter().filter(|used| **used != "*") {
                let row = table.iter().position(|(part, _)| part == used).unwrap();
                assert!(row > i, "{part} uses {used}, which stands above it");
            }
        }
    }
}

#[test]
fn only_the_face_prints_and_reads_the_machine() {
    let mut wrong = String::new();
    let mut files = reached(repository(), &["src/lib.rs"]);
    files.retain(|file| file.module.first().is_some_and(|part| part != "cli"));
    files.extend(reached(repository(), &["layers/src/lib.rs"]));
    for file in &files {
        for (line, text) in file.code.lines().enumerate() {
            for word in FACE_ONLY.iter().filter(|word| has_word(text, word)) {
                writeln!(wrong, "{}:{}: {word} belongs to cli", file.path.display(), line + 1).unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn every_file_is_reached() {
    let crates: [(&str, &[&str]); 5] = [
        ("src", &["src/lib.rs", "src/main.rs"]),
        ("layers/src", &["layers/src/lib.rs"]),
        ("tests/it", &["tests/it/main.rs"]),
        ("tests/interop", &["tests/interop/main.rs"]),
        ("benches", &["benches/peers/main.rs"]),
    ];
    let mut all = BTreeSet::new();
    for (folder, roots) in crates {
        let declared: BTreeSet<_> = reached(repository(), roots).into_iter().map(|file| file.path).collect();
        let present = files_below(repository(), folder);
        let lost: Vec<_> = present.difference(&declared).collect();
        assert!(lost.is_empty(), "no `mod` declaration reaches {lost:?}");
        all.extend(present);
    }
    let tests: Vec<_> =
        files_below(repository(), "tests").into_iter().filter(|file| !all.contains(file)).collect();
    assert!(tests.is_empty(), "no test binary holds {tests:?}");
}

#[test]
fn files_stay_readable() {
    let mut wrong = String::new();
    for folder in ["src", "layers", "tests", "benches"] {
        for path in files_below(repository(), folder) {
            let lines = source::lines_of_code(&fs::read_to_string(repository().join(&path)).unwrap());
            if lines > LINES {
                writeln!(wrong, "{} has {lines} lines of code, more than {LINES}", path.display()).unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}split by noun");
}

#[test]
fn no_registry_and_no_machine_is_named() {
    // In pieces, or this file would be the one that names them.
    let registries =
        ["crates|.io", "py|pi.org", "python|hosted.org", "npm|js.org", "npm|js.com", "golang|.org"];
    let others =
        ["maven|.org", "maven.apache|.org", "deb.debian|.org", "security.debian|.org", "yarn|pkg.com"];
    let machine = ["/work/|main", "/work/|shared", "/tmp/|w/", "/root/|."];
    let mut wrong = String::new();
    for path in texts() {
        let text = fs::read_to_string(repository().join(&path)).unwrap();
        for word in registries.iter().chain(&others).chain(&machine).map(|word| word.replace('|', "")) {
            if text.contains(&word) {
                writeln!(wrong, "{path} names {word}").unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// The codes of the program, and those that the tables of the reference explain.
#[test]
fn every_code_is_explained() {
    let mut used = BTreeSet::new();
    for path in files_below(repository(), "src") {
        let text = fs::read_to_string(repository().join(&path)).unwrap();
        used.extend(codes(&text, "\"E-").filter(|code| text.contains(&format!("\"{code}\""))));
    }
    let mut explained = BTreeSet::new();
    for path in ["dmoci-toml", "verify", "archives", "diff", "lock", "wheel", "registries", "signing"]
        .map(|name| format!("docs/{name}.md"))
    {
        let text = fs::read_to_string(repository().join(path)).unwrap();
        explained.extend(codes(&text, "E-"));
    }
    assert!(used.len() > 80, "{used:?}");
    let silent: Vec<_> = used.difference(&explained).collect();
    let gone: Vec<_> = explained.difference(&used).collect();
    assert!(silent.is_empty() && gone.is_empty(), "not in docs: {silent:?}; only in docs: {gone:?}");
}

/// The codes that stand behind this beginning, whole.
fn codes<'a>(text: &'a str, beginning: &'a str) -> impl Iterator<Item = String> + 'a {
    text.match_indices(beginning).filter(|(at, _)| !text[..*at].ends_with(char::is_alphanumeric)).map(
        move |(at, _)| {
            let rest = &text[at + beginning.len()..];
            let end = rest.find(|c: char| !c.is_ascii_uppercase() && c != '-').unwrap_or(rest.len());
            format!("E-{}", &rest[..end])
        },
    )
}

/// Every text file of the repository but lock files and what is built.
fn texts() -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![String::new()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(repository().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if matches!(name.as_str(), ".git" | "target" | "dist" | "Cargo.lock") {
                continue;
            }
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            if entry.file_type().unwrap().is_dir() {
                open.push(path);
            } else if String::from_utf8(fs::read(entry.path()).unwrap()).is_ok() {
                found.push(path);
            }
        }
    }
    found
}

/// True when the word stands in the text and is not the end of a longer one.
fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

#[test]
fn words_are_whole() {
    assert!(has_word("std::env::var", "env::") && !has_word("my_env::var", "env::"));
    let file = SourceFile { path: "x".into(), module: vec![], code: "use crate::a;".into() };
    assert_eq!(file.paths().into_iter().next(), Some(vec!["a".to_owned()]));
}
