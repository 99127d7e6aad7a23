//! `python` of a layer: from lock files of every kind to what is installed, without a network.

mod layers;
mod libraries;
mod needs;
mod pins;
mod programs;
mod project;
mod stand_ins;

use dmoci_layers::Digest;

use crate::support::layers::{image_spec, listing};
use crate::support::server::{Asked, Reply, Server};
use crate::support::wheel::Wheel;
use crate::support::{Project, Run};

/// On `scratch` the spec says which Python there is.
const SAID: &str = "venv = \"/opt/v\", interpreter = \"/usr/bin/python3\", python-version = \"3.12.4\", libc = \"glibc-2.36\"";

fn spec(entry: &str) -> String {
    image_spec(&format!("[[layer]]\nname = \"deps\"\npython = {{ {entry} }}\n"))
}

pub(crate) fn wheel(name: &str, version: &str) -> Wheel {
    Wheel::new(name, version).file(&format!("{name}.py"), format!("{name} {version}"))
}

/// A project with these wheels in `wheels/`.
pub(crate) fn project(spec: &str, wheels: &[Wheel]) -> Project {
    let mut project = Project::with_spec(spec);
    for wheel in wheels {
        project = project.file(&format!("wheels/{}", wheel.file_name()), wheel.bytes());
    }
    project
}

fn hash(wheel: &Wheel) -> String {
    Digest::sha256(&wheel.bytes()).hex().to_owned()
}

/// A `pylock.toml` of wheels beside it: name, version, and the files of each.
pub(crate) fn pylock(packages: &[(&str, &str, &[&Wheel])]) -> String {
    let mut text = "lock-version = \"1.0\"\ncreated-by = \"test\"\n".to_owned();
    for (name, version, wheels) in packages {
        text += &format!("[[packages]]\nname = \"{name}\"\nversion = \"{version}\"\n");
        for wheel in *wheels {
            text += &format!(
                "[[packages.wheels]]\npath = \"wheels/{}\"\nsize = {}\nhashes = {{ sha256 = \"{}\" }}\n",
                wheel.file_name(),
                wheel.bytes().len(),
                hash(wheel)
            );
        }
    }
    text
}

/// The modules that the layer holds, with what is in them, and the projects that were asked for.
fn installed(project: &Project) -> Vec<String> {
    let text = listing(&project.path("dist"), "deps");
    let site = "site-packages/";
    let mut found = Vec::new();
    for line in text.lines().filter_map(|line| line.split_once(site).map(|(_, rest)| rest)) {
        if let Some(folder) = line.trim_end().strip_suffix(".dist-info/REQUESTED") {
            found.push(format!("requested {folder}"));
        } else if let Some((_, content)) = line.split_once(".py ") {
            found.push(content.to_owned());
        }
    }
    found.sort();
    found
}

#[track_caller]
fn refused(project: &Project, exit: i32, code: &str, words: &[&str]) {
    let Run { exit: found, stderr, stdout } = project.dmoci(&["build"]);
    assert_eq!(found, exit, "{stderr}");
    for word in [&[code], words].concat() {
        assert!(stderr.contains(word), "no {word:?} in\n{stderr}");
    }
    assert!(stdout.is_empty() && !project.path("dist/image").exists(), "something was written");
}

#[test]
fn pylock_toml() {
    let (a, b) = (wheel("a", "1.0"), wheel("b", "2.0"));
    let text = pylock(&[("a", "1.0", &[&a]), ("b", "2.0", &[&b])])
        + "[[packages]]\nname = \"c\"\nmarker = \"sys_platform == 'win32'\"\nsdist = {}\n";
    let text = text.replace("name = \"b\"\n", "name = \"b\"\ndependencies = [{ name = \"a\" }]\n");
    let project =
        project(&spec(&format!("lock = \"pylock.toml\", {SAID}")), &[a, b]).file("pylock.toml", &text);
    let first = project.dmoci(&["build"]).ok().stdout;
    assert_eq!(installed(&project), ["a 1.0", "b 2.0", "requested b-2.0"]);
    // Neither where the wheels lie nor the way that leads to them shows.
    std::fs::rename(project.path("wheels"), project.path("other")).unwrap();
    project.write("pylock.toml", text.replace("wheels/", "./other/"));
    assert_eq!(project.dmoci(&["build", "--no-cache"]).ok().stdout, first);
}

#[test]
fn uv_lock() {
    let (a, b, lib, tool) = (wheel("a", "1.0"), wheel("b", "2.0"), wheel("lib", "0.1"), wheel("tool", "3"));
    let package = |name: &str, version: &str, wheel: &Wheel, rest: &str| {
        format!(
            "[[package]]\nname = \"{name}\"\nversion = \"{version}\"\nsource = {{ registry = \"wheels\" }}\n{rest}\
             wheels = [{{ path = \"{}\", hash = \"sha256:{}\" }}]\n",
            wheel.file_name(),
            hash(wheel)
        )
    };
    let lock = "version = 1\nrevision = 3\nrequires-python = \">=3.11\"\n[[package]]\nname = \"app\"\nversion = \"1.0\"\n\
                source = { editable = \".\" }\ndependencies = [{ name = \"a\" }, { name = \"lib\" }]\n\
                [package.optional-dependencies]\ncli = [{ name = \"b\" }]\n[package.dev-dependencies]\ndev = [{ name = \"tool\" }]\n\
                [[package]]\nname = \"lib\"\nversion = \"0.1\"\nsource = { editable = \"lib\" }\n"
        .to_owned()
        + &package("a", "1.0", &a, "dependencies = [{ name = \"b\", marker = \"python_full_version < '3.12'\" }]\n")
        + &package("b", "2.0", &b, "")
        + &package("tool", "3", &tool, "");
    let wheels = [a, b, lib, tool];
    let with = |rest: &str| {
        let entry = format!("lock = \"uv.lock\", wheels = \"wheels\", {SAID}{rest}");
        project(&spec(&entry), &wheels).file("uv.lock", &lock)
    };
    let project = with("");
    let run = project.dmoci(&["build"]).ok();
    assert_eq!(installed(&project), ["a 1.0", "lib 0.1", "requested a-1.0", "requested lib-0.1"]);
    for note in ["the group dev is left out", "app itself is left out; `[wheel]` in dmoci.toml"] {
        assert!(run.stderr.contains(note), "{}", run.stderr);
    }
    let project = with(", extras = [\"CLI\"], groups = [\"dev\"]");
    project.dmoci(&["build"]).ok();
    assert_eq!(installed(&project)[..4], ["a 1.0", "b 2.0", "lib 0.1", "requested a-1.0"]);
    assert!(installed(&project).contains(&"tool 3".to_owned()));
    refused(
        &with(", extras = [\"gui\"]"),
        2,
        "E-PYTHON-UNKNOWN",
        &["uv.lock: it has no extra gui", "the extras cli"],
    );
}

#[test]
fn requirements() {
    let (a, b, c) = (wheel("a", "1.0"), wheel("b", "2.0"), wheel("c", "3.0"));
    let text = format!(
        "--find-links ../wheels\n-r more.txt\nwheels_are_here @ ../wheels/{} --hash=sha256:{}\na==1.0 \\\n  --hash=sha256:{}\n",
        c.file_name(), hash(&c), hash(&a)
    )
    .replace("wheels_are_here", "c");
    let more = format!(
        "b==2.0 ; python_version >= '3.8' --hash=sha256:{}\nd==9 ; sys_platform == 'win32'\n",
        hash(&b)
    );
    let entry = format!("lock = \"req/prod.txt\", {SAID}");
    let project = project(&spec(&entry), &[a, b, c]).file("req/prod.txt", text).file("req/more.txt", more);
    project.dmoci(&["build"]).ok();
    assert_eq!(
        installed(&project),
        ["a 1.0", "b 2.0", "c 3.0", "requested a-1.0", "requested b-2.0", "requested c-3.0"]
    );
    let text = listing(&project.path("dist"), "deps");
    // Only what was asked for by its place says so, and nothing of this machine.
    let direct: Vec<&str> = text.lines().filter(|line| line.contains("direct_url.json ")).collect();
    assert!(direct.len() == 1 && direct[0].contains("file:///wheels/c-3.0-py3-none-any.whl"), "{direct:?}");
}

/// A little program that says of itself to be a Python, and its C library.
pub(crate) fn elf(machine: u8, loader: &str, text: &str) -> Vec<u8> {
    let mut bytes = vec![0; 120];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    (bytes[18], bytes[32], bytes[54], bytes[56], bytes[64], bytes[72], bytes[96]) =
        (machine, 64, 56, 1, 3, 120, loader.len() as u8 + 1);
    bytes.extend(loader.bytes());
    bytes.push(0);
    bytes.extend(text.bytes());
    bytes.push(0);
    bytes
}

/// The interpreter is found in an earlier layer, and each platform gets its own wheel.
#[test]
fn every_platform_gets_its_own_wheels() {
    let tagged = |tag: &str| Wheel::new("a", "1.0").tag(tag).file("a.py", tag);
    let (intel, arm) =
        (tagged("cp311-cp311-manylinux_2_17_x86_64"), tagged("cp38-abi3-manylinux_2_28_aarch64"));
    let (musl, old) =
        (tagged("cp311-cp311-musllinux_1_2_x86_64"), tagged("cp310-cp310-manylinux_2_17_x86_64"));
    let spec = "schema = 1\n[image]\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n\
                [[layer]]\nname = \"os\"\ncopy = [{ from = \"os-${platform.uname}/\", to = \"/\" }]\n\
                symlink = [{ path = \"/usr/bin/python3\", target = \"python3.11\" }]\n\
                [[layer]]\nname = \"deps\"\npython = { lock = \"pylock.toml\", venv = \"/opt/v\" }\n";
    let text = pylock(&[("a", "1.0", &[&intel, &arm, &musl, &old])]);
    let mut project = project(spec, &[intel, arm, musl, old]).file("pylock.toml", text);
    for (machine, number) in [("x86_64", 62), ("aarch64", 183)] {
        let banner = "GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\n";
        let os = |path: &str| format!("os-{machine}/{path}");
        project = project
            .file(&os("usr/bin/python3.11"), elf(number, "/lib/ld.so", "3.11.2"))
            .file(&os("lib/ld.so"), elf(number, "", ""))
            .file(&os("lib/libc.so.6"), elf(number, "", banner));
    }
    for (platform, tag) in [
        ("linux/amd64", "cp311-cp311-manylinux_2_17_x86_64"),
        ("linux/arm64", "cp38-abi3-manylinux_2_28_aarch64"),
    ] {
        project.dmoci(&["build", "--platform", platform]).ok();
        assert_eq!(installed(&project), [tag, "requested a-1.0"]);
        let text = listing(&project.path("dist"), "deps");
        assert!(
            text.contains("opt/v/bin/python /usr/bin/python3.11") && text.contains("opt/v/lib/python3.11/"),
            "{text}"
        );
    }
    // Both at once, without any program to be found.
    let mut command = crate::support::dmoci();
    command
        .args(["build"])
        .current_dir(project.root())
        .env("XDG_CACHE_HOME", project.cache())
        .env("PATH", "");
    Run::of(&mut command).ok();

    let spec = std::fs::read_to_string(project.path("dmoci.toml")).unwrap();
    project.write("dmoci.toml", spec.replace("\"linux/arm64\"", "\"linux/s390x\""));
    project.write("os-s390x/x", "");
    let run = project.dmoci(&["check"]);
    assert!(run.exit == 2 && run.stderr.contains("E-PYTHON-INTERPRETER"), "{}", run.stderr);
}

#[test]
fn what_changed_is_refused() {
    let a = wheel("a", "1.0");
    let text = pylock(&[("a", "1.0", &[&a])]);
    let project = project(&spec(&format!("lock = \"pylock.toml\", {SAID}")), std::slice::from_ref(&a))
        .file("pylock.toml", &text);
    let file = format!("wheels/{}", a.file_name());
    project.write(&file, Wheel::new("a", "1.0").file("a.py", "evil").bytes());
    refused(&project, 1, "E-PYTHON-CHANGED", &[&file, "and the lock file says sha256:", "pylock.toml:"]);
    std::fs::remove_file(project.path(&file)).unwrap();
    refused(&project, 2, "E-SOURCE-MISSING", &[&file, "pylock.toml:"]);
    project.write(&file, a.bytes());
    // A lock file edited by hand.
    project.write("pylock.toml", text.replace("size = ", "size = 1"));
    refused(&project, 1, "E-PYTHON-CHANGED", &["bytes, and the lock file says 1"]);
    project.write("pylock.toml", text.replace("name = \"a\"", "name = \"b\""));
    refused(&project, 1, "E-PYTHON-LOCK", &["a-1.0-py3-none-any.whl is no wheel of b 1.0"]);
    let b = wheel("b", "1.0");
    project.write(&format!("wheels/{}", b.file_name()), b.bytes());
    let other =
        pylock(&[("a", "1.0", &[&b])]).replace("path = ", &format!("name = \"{}\"\npath = ", a.file_name()));
    project.write("pylock.toml", other);
    let why = format!("wheels/{} is not {}, which the lock file says it is", b.file_name(), a.file_name());
    refused(&project, 1, "E-PYTHON-LOCK", &[&why, "pylock.toml:"]);
    project.write("pylock.toml", text.replace("lock-version = \"1.0\"", "lock-version = \"2.0\""));
    refused(&project, 2, "E-PYTHON-LOCK-VERSION", &["pylock.toml:1"]);
    project.write("pylock.toml", b"\xff");
    refused(&project, 1, "E-PYTHON-LOCK", &["is not UTF-8 text: byte 0"]);
    project.write("pylock.toml", &text);
    project.dmoci(&["build"]).ok();
}

#[test]
fn what_cannot_be_installed_says_what_to_do() {
    let entry = |lock: &str| spec(&format!("lock = \"{lock}\", {SAID}"));
    let windows = Wheel::new("a", "1.0").tag("cp312-cp312-win_amd64").file("a.py", "");
    let text = pylock(&[("a", "1.0", &[&windows])]);
    let project = project(&entry("pylock.toml"), &[windows]).file("pylock.toml", text);
    let words = [
        "a 1.0 has no wheel for CPython 3.12.4 on x86_64 with glibc-2.36",
        "looked for cp312-cp312, cp312-abi3",
        "there are cp312-cp312-win_amd64",
    ];
    refused(&project, 2, "E-PYTHON-WHEEL", &words);
    let sdist = "lock-version = \"1.0\"\ncreated-by = \"x\"\n[[packages]]\nname = \"a\"\nversion = \"1.0\"\nsdist = { path = \"a-1.0.tar.gz\" }\n";
    project.write("pylock.toml", sdist);
    refused(&project, 2, "E-PYTHON-SOURCE", &["pip wheel --no-deps --no-binary a --wheel-dir wheels a==1.0"]);
    project.write("dmoci.toml", spec(&format!("lock = \"pylock.toml\", wheels = \"wheels\", {SAID}")));
    let built = wheel("a", "1.0");
    project.write(&format!("wheels/{}", built.file_name()), built.bytes());
    project.dmoci(&["build"]).ok();
    assert_eq!(installed(&project), ["a 1.0", "requested a-1.0"]);

    // Some lock files do not say for which Python they are; their wheels do.
    let picky = wheel("b", "1.0").metadata("Requires-Python: >=3.13");
    let text = pylock(&[("b", "1.0", &[&picky])]);
    project.write(&format!("wheels/{}", picky.file_name()), picky.bytes());
    project.write("pylock.toml", &text);
    std::fs::remove_dir_all(project.path("dist")).unwrap();
    let why = "b-1.0-py3-none-any.whl asks for Python >=3.13, and there is CPython 3.12.4";
    refused(&project, 2, "E-PYTHON-TARGET", &[why, "pylock.toml:", "lock for the Python that the image has"]);

    for (lock, there, words) in [
        ("uv.lock", "pyproject.toml", "make it with `uv lock`"),
        (
            "pylock.toml",
            "uv.lock",
            "`uv export --format pylock.toml --no-dev --no-emit-project --output-file pylock.toml`; or name uv.lock, which is there",
        ),
        (
            "requirements.txt",
            "requirements.in",
            "`uv pip compile --universal --generate-hashes requirements.in --output-file requirements.txt`",
        ),
        ("poetry.lock", "poetry.lock", "poetry export --format requirements.txt"),
    ] {
        let project = Project::with_spec(&entry(lock)).file(there, "");
        refused(&project, 2, "E-PYTHON-LOCK-MISSING", &[words]);
    }
    let project = Project::with_spec(&entry("r.txt")).file("r.txt", "a>=1\n");
    refused(
        &project,
        2,
        "E-PYTHON-HASH",
        &["a is not pinned", "r.txt:1", "uv pip compile --universal --generate-hashes"],
    );
    let project =
        Project::with_spec(&spec("lock = \"pylock.toml\", venv = \"/opt/v\"")).file("pylock.toml", sdist);
    refused(&project, 2, "E-PYTHON-INTERPRETER", &["there is no Python below this layer", "`interpreter`"]);
}

/// An index with these files at `/f/NAME`, and with pages: `a` in HTML, everything else in JSON.
fn index(wheels: &[Wheel]) -> Server {
    let files: Vec<(String, Vec<u8>)> =
        wheels.iter().map(|wheel| (wheel.file_name(), wheel.bytes())).collect();
    Server::start(move |asked: &Asked| {
        let path = asked.target.as_str();
        if let Some(name) = path.strip_prefix("/f/") {
            return match files.iter().find(|(file, _)| file == name) {
                Some((_, bytes)) => Reply::ok(bytes),
                None => Reply::new("404 Not Found", &[], b""),
            };
        }
        let project = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let of: Vec<_> = files.iter().filter(|(file, _)| file.starts_with(&format!("{project}-"))).collect();
        if of.is_empty() {
            return Reply::new("404 Not Found", &[], b"");
        }
        let hex = |bytes: &[u8]| Digest::sha256(bytes).hex().to_owned();
        if project == "a" {
            let links = of
                .iter()
                .map(|(file, bytes)| format!("<a href='../../f/{file}#sha256={}'>{file}</a>", hex(bytes)));
            let page = format!("<!DOCTYPE html><html><body>{}</body></html>", links.collect::<String>());
            return Reply::new("200 OK", &["Content-Type: text/html; charset=utf-8"], page.as_bytes());
        }
        let links = of.iter().map(|(file, bytes)| {
            format!(
                r#"{{"filename":"{file}","url":"/f/{file}","size":{},"hashes":{{"sha256":"{}"}}}}"#,
                bytes.len(),
                hex(bytes)
            )
        });
        let page = format!(
            r#"{{"meta":{{"api-version":"1.0"}},"name":"{project}","files":[{}]}}"#,
            links.collect::<Vec<_>>().join(",")
        );
        Reply::new("200 OK", &["Content-Type: application/vnd.pypi.simple.v1+json"], page.as_bytes())
    })
}

#[test]
fn wheels_of_the_network() {
    let (a, b) = (wheel("a", "1.0"), wheel("b", "2.0"));
    let server = index(&[a.clone(), b.clone()]);
    let url = |wheel: &Wheel| server.url(&format!("/f/{}", wheel.file_name()));
    let text = pylock(&[("a", "1.0", &[&a]), ("b", "2.0", &[&b])]);
    let text = [&a, &b].iter().fold(text, |text, wheel| {
        text.replace(
            &format!("path = \"wheels/{}\"", wheel.file_name()),
            &format!("url = \"{}\"", url(wheel)),
        )
    });
    let entry = format!("lock = \"pylock.toml\", {SAID}");
    let project = Project::with_spec(&spec(&entry)).file("pylock.toml", &text);
    let first = project.dmoci(&["build"]).ok().stdout;
    assert_eq!(installed(&project), ["a 1.0", "b 2.0", "requested a-1.0", "requested b-2.0"]);
    assert_eq!(server.asked().len(), 2);
    // What was fetched once is there, by its hash.
    assert_eq!(project.dmoci(&["build", "--offline", "--no-cache"]).ok().stdout, first);
    assert_eq!(project.dmoci(&["check"]).ok().exit, 0);
    assert_eq!(server.asked().len(), 2);
    // Where the wheels come from does not show, nor whether they were fetched at all.
    let local = self::project(&spec(&format!("{entry}, wheels = \"wheels\"")), &[a.clone(), b.clone()])
        .file("pylock.toml", &text);
    assert_eq!(local.dmoci(&["build"]).ok().stdout, first);
    assert_eq!(server.asked().len(), 2);

    let fresh = || Project::with_spec(&spec(&entry));
    let offline = fresh().file("pylock.toml", &text).dmoci(&["build", "--offline"]);
    assert!(offline.exit == 6 && offline.stderr.contains("E-OFFLINE"), "{}", offline.stderr);
    let other = hash(&a).replace(|c: char| c.is_ascii_digit(), "0");
    let changed = fresh().file("pylock.toml", text.replace(&hash(&a), &other));
    refused(
        &changed,
        1,
        "E-FETCH-DIGEST",
        &["pylock.toml:", "lock again with the tool that made the lock file"],
    );
    let gone = fresh().file("pylock.toml", text.replace("/f/a-1.0", "/g/a-1.0"));
    refused(&gone, 6, "E-FETCH", &["/g/a-1.0-py3-none-any.whl", "pylock.toml:"]);
}

#[test]
fn requirements_of_an_index() {
    let (a, b, c) = (wheel("a", "1.0"), wheel("b", "2.0"), wheel("c", "3.0"));
    // What is not locked does not count, however well it suits.
    let newer = Wheel::new("a", "1.0").tag("cp312-cp312-linux_x86_64").file("a.py", "not locked");
    let (server, more) = (index(&[newer, a.clone(), b.clone()]), index(std::slice::from_ref(&c)));
    let text = format!(
        "--extra-index-url {}\na==1.0 --hash=sha256:{}\nb==2.0 --hash=sha256:{}\nc==3.0 --hash=sha256:{}\n",
        more.url("/simple/"),
        hash(&a),
        hash(&b),
        hash(&c)
    );
    let entry = format!("lock = \"requirements.txt\", {SAID}");
    let expected = ["a 1.0", "b 2.0", "c 3.0", "requested a-1.0", "requested b-2.0", "requested c-3.0"];
    let with = |text: &str, entry: &str| Project::with_spec(&spec(entry)).file("requirements.txt", text);

    let named = with(&format!("--index-url {}/${{PLACE}}\n{text}", server.url("")), &entry);
    let mut command = crate::support::dmoci();
    command
        .args(["build"])
        .current_dir(named.root())
        .env("XDG_CACHE_HOME", named.cache())
        .env("PLACE", "simple");
    Run::of(&mut command).ok();
    assert_eq!(installed(&named), expected);
    refused(
        &with(&format!("--index-url {}/${{PLACE}}\n{text}", server.url("")), &entry),
        1,
        "E-PYTHON-LOCK",
        &["PLACE is not set"],
    );

    let said = with(
        &text,
        &format!("{entry}, index = [\"{}\", \"{}\"]", server.url("/simple"), more.url("/simple")),
    );
    said.dmoci(&["build"]).ok();
    assert_eq!(installed(&said), expected);

    let settings = with(&text, &entry);
    let mut command = crate::support::dmoci();
    command.args(["build"]).current_dir(settings.root()).env("XDG_CACHE_HOME", settings.cache());
    Run::of(command.env("PIP_INDEX_URL", server.url("/simple"))).ok();
    assert_eq!(installed(&settings), expected);

    refused(
        &with(&text.replace("==3.0", "==3.1"), &format!("{entry}, index = \"{}\"", server.url("/simple"))),
        1,
        "E-PYTHON-INDEX",
        &["c 3.1 is not there", "requirements.txt:4"],
    );
    let edited = text.replace(&hash(&b), &hash(&c));
    refused(
        &with(&edited, &format!("{entry}, index = \"{}\"", server.url("/simple"))),
        1,
        "E-PYTHON-INDEX",
        &["b-2.0-py3-none-any.whl has none of the hashes that are locked"],
    );
    let none = with(&format!("a==1.0 --hash=sha256:{}\n", hash(&a)), &entry);
    refused(
        &none,
        2,
        "E-NO-INDEX",
        &["no index is named to get a 1.0 from", "`--index-url https://HOST/simple` in the file"],
    );
}
