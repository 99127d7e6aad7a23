use std::path::Path;

use super::super::document::Document;
use super::super::error::shown;
use super::super::plan::{Location, Options, PythonPlan};
use super::super::simple::Link;
use super::super::tests::{built, debian, document, files, names};
use super::super::version::specifiers;
use super::{Ask, Indexes, Offers, plan, read};
use crate::diagnostic::{Exit, Failure};

const ONE: &str = "--hash=sha256:1111111111111111111111111111111111111111111111111111111111111111";
const TWO: &str = "--hash=sha256:2222222222222222222222222222222222222222222222222222222222222222";

/// The same for this Python only.
fn link_for(python: &str, filename: &str, digit: char) -> Link {
    Link { requires_python: Some(specifiers(python).unwrap()), ..link(filename, digit) }
}

/// A link with this digit as its hash; without one when it is a dash.
fn link(filename: &str, digit: char) -> Link {
    let hashes = (digit != '-').then(|| format!("sha256:{}", digit.to_string().repeat(64)).parse().unwrap());
    let location = Location::Url(format!("https://files.example/{filename}").parse().unwrap());
    let filename = filename.to_owned();
    Link { filename, location, hashes: hashes.into_iter().collect(), size: Some(5), requires_python: None }
}

fn run_with(
    text: &str,
    options: &Options,
    defaults: &Indexes,
    links: &[Link],
) -> Result<PythonPlan, Failure> {
    let text = text.replace("ONE", ONE).replace("TWO", TWO);
    let mut open = |path: &Path| match path.to_str() {
        Some("more.txt") => Ok(document("more.txt", &format!("b==1 {TWO}\n-r sub/again.txt"))),
        Some("sub/again.txt") => Ok(document("sub/again.txt", "-r ../more.txt\n-c ../limits.txt")),
        Some("limits.txt") => {
            Ok(document("limits.txt", "b<1.5 ; python_version > '3'\nb>5 ; os_name == 'nt'\nzzz==1"))
        }
        Some("tight.txt") => Ok(document("tight.txt", "a<1")),
        Some(deep) if deep.starts_with("deep") => Ok(document(deep, &format!("-r {deep}x"))),
        _ => Err(Failure {
            code: "E-SOURCE-MISSING",
            exit: Exit::Usage,
            message: format!("{} does not exist", path.display()),
            causes: vec![],
            places: vec![],
            help: None,
        }),
    };
    let read = read(&document("requirements.txt", &text), &|_| None, &mut open)?;
    plan(&read, Offers { defaults, pinned: &[] }, &debian(), options, &mut |ask, _, _| match ask {
        Ask::Project(url, name) if url.host() == "index.example" => {
            Ok(links.iter().filter(|link| link.filename.starts_with(name.as_str())).cloned().collect())
        }
        _ => Ok(Vec::new()),
    })
}

fn run(text: &str) -> Result<PythonPlan, Failure> {
    let links = [
        link("a-1.0-cp311-cp311-manylinux_2_17_x86_64.whl", '1'),
        link("a-1.0-py3-none-any.whl", '2'),
        link("a-1.0.tar.gz", '3'),
        link("a-2.0-py3-none-any.whl", '3'),
        link("b-1-py3-none-any.whl", '2'),
        link("c-1-py3-none-any.whl", '-'),
        link("d-1.zip", '1'),
        link("e-1-cp312-cp312-win_amd64.whl", '1'),
        link_for(">=3.12", "f-1-py3-none-any.whl", '1'),
        link_for(">=3.12", "f-1-cp312-abi3-manylinux_2_17_x86_64.whl", '2'),
        link_for(">=3.11", "g-1-py3-none-any.whl", '1'),
        link_for(">=3.12", "g-1-cp311-cp311-manylinux_2_17_x86_64.whl", '2'),
        link("strange", '1'),
    ];
    let indexes =
        Indexes { main: Some("https://index.example/simple".parse().unwrap()), ..Indexes::default() };
    run_with(text, &Options::default(), &indexes, &links)
}

#[test]
fn what_is_listed_is_installed() {
    assert_eq!(files(&run("a==1.0 ONE TWO").unwrap()), ["a-1.0-cp311-cp311-manylinux_2_17_x86_64.whl"]);
    // Only what is locked counts, whatever suits better.
    assert_eq!(files(&run("a==1.0 TWO --hash=md5:0").unwrap()), ["a-1.0-py3-none-any.whl"]);
    assert_eq!(
        files(&run("A === 1.0 TWO\n-r more.txt\nx==1 ; os_name == 'nt'").unwrap()),
        ["a-1.0-py3-none-any.whl", "b-1-py3-none-any.whl"]
    );
    // What the index says is for another Python does not count either.
    assert_eq!(files(&run("g==1 ONE TWO").unwrap()), ["g-1-py3-none-any.whl"]);
    let plan = run("z @ https://h.example/z-1-py3-none-any.whl ONE\nw/y-1-py3-none-any.whl TWO\nhttps://h.example/x-1-py3-none-any.whl#sha256=1111111111111111111111111111111111111111111111111111111111111111").unwrap();
    let places: Vec<String> =
        plan.wheels.iter().map(|wheel| format!("{} {}", wheel.location, &wheel.digest.hex()[..1])).collect();
    assert_eq!(
        places,
        [
            "https://h.example/x-1-py3-none-any.whl 1",
            "w/y-1-py3-none-any.whl 2",
            "https://h.example/z-1-py3-none-any.whl 1"
        ]
    );
    assert!(plan.wheels.iter().all(|wheel| wheel.requested));
    assert_eq!(files(&run("a==1.0 TWO\na==1.0 TWO").unwrap()), ["a-1.0-py3-none-any.whl"]);
    let noted =
        run("--trusted-host x\n--only-binary=:all:\n--prefer-binary\n--require-hashes\n--no-binary other")
            .unwrap();
    assert_eq!(noted.notes, ["--trusted-host x is not obeyed: certificates are always checked"]);
}

#[test]
fn where_is_looked() {
    let mut asked = Vec::new();
    let text = "-i https://one.example/s\n-i https://two.example/s/\n--extra-index-url https://three.example/\n-f links\n-f https://four.example/x\nq==1 ONE";
    let text = text.replace("ONE", ONE);
    let requirements = read(&document("py/r.txt", &text), &|_| None, &mut |_| panic!()).unwrap();
    let defaults = Indexes { main: Some("https://zero.example".parse().unwrap()), ..Indexes::default() };
    let offers = Offers { defaults: &defaults, pinned: &[] };
    let _ = plan(&requirements, offers, &debian(), &Options::default(), &mut |ask, _, _| {
        asked.push(ask.to_string());
        Ok(Vec::new())
    });
    assert_eq!(
        asked,
        ["py/links", "https://four.example/x", "https://two.example/s/", "https://three.example/"]
    );
}

#[test]
fn built_wheels_stand_in() {
    let options = Options {
        built: vec![built("w/d-1-py3-none-any.whl"), built("w/lib-2-py3-none-any.whl")],
        ..Options::default()
    };
    let indexes =
        Indexes { main: Some("https://index.example/simple".parse().unwrap()), ..Indexes::default() };
    let plan = run_with("d==1 ONE\nlib @ ./lib", &options, &indexes, &[link("d-1.zip", '1')]).unwrap();
    assert_eq!(files(&plan), ["d-1-py3-none-any.whl", "lib-2-py3-none-any.whl"]);
}

#[test]
fn refused() {
    let how = "help: name what you need in requirements.in, and make the file with `uv pip compile --universal --generate-hashes requirements.in -o requirements.txt` or `pip-compile --generate-hashes requirements.in`";
    for (text, expected) in [
        ("a", format!("E-PYTHON-HASH: a is not pinned with ==\nrequirements.txt:1\n{how}")),
        ("\n\na>=1", format!("E-PYTHON-HASH: a is not pinned with ==\nrequirements.txt:3\n{how}")),
        ("a==1.0", format!("E-PYTHON-HASH: a 1.0 has no sha256 hash\nrequirements.txt:1\n{how}")),
        ("a==1.* ONE", "E-PYTHON-HASH: a is not pinned".into()),
        ("a==1.0 --hash=md5:0", "E-PYTHON-HASH: a 1.0 has no sha256".into()),
        ("a==1.0 --hash=sha256:0", "E-PYTHON-LOCK: a hash is malformed: expected 64 hex".into()),
        ("a==1.0 ONE\na==2.0 ONE", "E-PYTHON-LOCK: a is required twice, and not the same\nrequirements.txt:2\nrequirements.txt:1".into()),
        ("a==1.0 --hash=sha256:4444444444444444444444444444444444444444444444444444444444444444", "E-PYTHON-INDEX: a-1.0-cp311-cp311-manylinux_2_17_x86_64.whl has none of the hashes that are locked for a 1.0".into()),
        ("a==3.0 ONE", "E-PYTHON-INDEX: a 3.0 is not there: asked https://index.example/simple".into()),
        ("c==1 ONE", "E-PYTHON-INDEX: the index says no sha256 of c-1-py3-none-any.whl".into()),
        ("d==1 ONE", "E-PYTHON-SOURCE: d 1 is there only as a source distribution".into()),
        ("e==1 ONE", "E-PYTHON-WHEEL: e 1 has no wheel for CPython 3.11.2".into()),
        ("f==1 ONE TWO", "E-PYTHON-TARGET: f 1 asks for Python >=3.12, and there is CPython 3.11.2 on x86_64 with glibc-2.36\nrequirements.txt:1\nhelp: lock for".into()),
        ("a==1.0 ONE\n-c tight.txt", "E-PYTHON-LOCK: a 1.0 is not what the constraint <1 allows\nrequirements.txt:1\ntight.txt:1".into()),
        ("--no-binary :all:\na==1.0 ONE", "E-PYTHON-SOURCE: --no-binary :all: asks to build".into()),
        ("--no-binary x,A\na==1.0 ONE", "E-PYTHON-SOURCE: --no-binary A asks to build".into()),
        ("-e .", "E-PYTHON-SOURCE: this is no wheel, and dmoci builds none\nrequirements.txt:1\nhelp: make one with `uv build --wheel --out-dir wheels .`, and write its path and hash here instead; of the project itself have `[wheel]` in dmoci.toml build it, or leave the line out, as `uv export --no-emit-project` does".into()),
        ("./lib[x]", "E-PYTHON-SOURCE: this is no wheel, and dmoci builds none".into()),
        ("lib @ git+https://me:pw@git.example/lib@v1#subdirectory=x", "E-PYTHON-SOURCE: lib is a commit in git and no wheel\nrequirements.txt:1\nhelp: make one with `pip wheel --no-deps --wheel-dir wheels 'lib @ git+https://git.example/lib@v1#subdirectory=x'`".into()),
        ("lib @ https://h.example/lib.tar.gz ONE", "E-PYTHON-SOURCE: lib is an archive of sources".into()),
        ("lib @ https://h.example/a-1-py3-none-any.whl ONE", "E-PYTHON-LOCK: a-1-py3-none-any.whl is no wheel of lib".into()),
        ("a @ https://h.example/a-1-py3-none-any.whl", "E-PYTHON-HASH: a-1-py3-none-any.whl has no hash".into()),
        ("a @ https://h.example/a-1-py3-none-any.whl ONE TWO", "E-PYTHON-HASH: a-1-py3-none-any.whl has several hashes".into()),
        ("a @ https://h.example/a-1-cp27-cp27m-any.whl ONE", "E-PYTHON-WHEEL: a 1 has no wheel".into()),
        ("a @ file:///a-1-py3-none-any.whl ONE", "E-PYTHON-LOCK: the URL of a-1-py3-none-any.whl is none: it is a path of the machine".into()),
        ("../a-1-py3-none-any.whl ONE", "E-PYTHON-LOCK: \"../a-1-py3-none-any.whl\" is not in the project".into()),
        ("-r missing.txt", "E-SOURCE-MISSING: missing.txt does not exist\nrequirements.txt:1".into()),
        ("-r ../x.txt", "E-PYTHON-LOCK: \"../x.txt\" is not in the project".into()),
        ("-r https://h.example/r.txt", "E-PYTHON-LOCK: --requirement names a file on the network".into()),
        ("-r deep", "E-PYTHON-LOCK: files name each other more than 16 deep".into()),
        ("-i file:///x", "E-PYTHON-LOCK: the URL of --index-url is none".into()),
        ("--no-index\na==1.0 ONE", "E-NO-INDEX: no index is named to get a 1.0 from\nrequirements.txt:2".into()),
        ("--hash=sha256:0", "E-PYTHON-LOCK: --hash stands without a requirement".into()),
        ("a==1.0 --pre", "E-PYTHON-LOCK: --pre does not stand behind a requirement".into()),
        ("a==1.0 ; platform_release == 'x' ONE", "E-PYTHON-MARKER: whether a is needed cannot be decided".into()),
        ("a==", "E-PYTHON-LOCK: \"a==\" is no requirement: at its character 2: \"==\" is no version specifier".into()),
        ("./a-1-py3-none-any.whl ; os_name == 'nt' ONE", "E-PYTHON-LOCK: a URL or path with a marker needs a name".into()),
    ] {
        match run(text) {
            Ok(plan) => panic!("{text}: {plan:?}"),
            Err(failure) => {
                let error = shown(failure);
                assert!(error.starts_with(&expected), "{text}\n{error}\nexpected\n{expected}");
            }
        }
    }
    let options = Options { extras: names("x"), ..Options::default() };
    let error = run_with("", &options, &Indexes::default(), &[]).unwrap_err();
    assert!(shown(error).starts_with("E-PYTHON-UNKNOWN: `extras` means nothing for a requirements file"));
    let error = run_with("a==1.0 ONE", &Options::default(), &Indexes::default(), &[]).unwrap_err();
    assert!(shown(error).starts_with("E-NO-INDEX"));
}

/// Code, message, causes, help and labels of what goes wrong, and the notes of what does not.
fn told(text: &str) -> String {
    let variables = |name: &str| match name {
        "TOKEN" => Some("S3cret_Value".to_owned()),
        "NAME" => Some("requests".to_owned()),
        _ => None,
    };
    let text = text.replace("ONE", ONE);
    let mut open = |path: &Path| -> Result<Document, Failure> {
        Err(Failure {
            code: "E-SOURCE-MISSING",
            exit: Exit::Usage,
            message: format!("{} does not exist", path.display()),
            causes: vec![],
            places: vec![],
            help: None,
        })
    };
    let read = match read(&document("requirements.txt", &text), &variables, &mut open) {
        Ok(read) => read,
        Err(failure) => return shown(failure),
    };
    let notes = read.notes.join("\n");
    let planned = plan(
        &read,
        Offers { defaults: &Indexes::default(), pinned: &[] },
        &debian(),
        &Options::default(),
        &mut |ask, what, _| {
            Err(Failure {
                code: "E-FETCH",
                exit: Exit::Undecided,
                message: format!("cannot fetch {ask} for {what}"),
                causes: vec![],
                places: vec![],
                help: None,
            })
        },
    );
    format!("{notes}\n{}", planned.map_or_else(shown, |_| "planned".to_owned()))
}

#[test]
fn values_of_variables_are_not_shown() {
    for text in [
        "${TOKEN}",
        "${TOKEN} x",
        "a ${TOKEN}",
        "a==1 ; ${TOKEN} == 'x'",
        "${TOKEN}==1",
        "x${TOKEN}==1 ONE",
        "a==${TOKEN}",
        "a==1 --hash=${TOKEN}:x",
        "a==1 --${TOKEN}",
        "--${TOKEN}",
        "-e ${TOKEN}",
        "-e git+https://h.example/${TOKEN}/x@${TOKEN}#subdirectory=${TOKEN}",
        "-r ${TOKEN}",
        "-r ../${TOKEN}",
        "-r https://h.example/${TOKEN}",
        "-f ../${TOKEN}",
        "--trusted-host ${TOKEN}",
        "-i ftp://${TOKEN}",
        "-i https://me:${TOKEN}@h.example/${TOKEN}\na==1 ONE",
        "a==1 ONE\n--no-binary a,${TOKEN}\n--no-binary=a",
        "a @ https://h.example/${TOKEN}.whl",
        "a @ https://h.example/${TOKEN}-1-py3-none-any.whl",
        "a @ https://h.example/a-1-py3-none-${TOKEN}.whl ONE",
        "a @ https://me:${TOKEN}@h.example/${TOKEN}.tar.gz",
        "a @ git+https://h.example/x@${TOKEN}#subdirectory=${TOKEN} ; os_name == 'posix'",
        "./${TOKEN}",
        "../${TOKEN}.whl",
    ] {
        let told = told(text).to_lowercase();
        assert!(!told.contains("s3cret"), "{text}: {told}");
    }
    assert!(told("${NAME}==1 ONE").contains("to get ${NAME} 1 from"));
    assert!(
        told("-i https://h.example/${TOKEN}\na==1 ONE")
            .contains("cannot fetch https://h.example/${TOKEN} for a 1")
    );
    let source = told("-e git+https://h.example/x@${TOKEN}");
    assert!(source.contains("this is no wheel"), "{source}");
    let source = told("a @ git+https://u:p@h.example/x@${TOKEN}");
    assert!(source.contains("'a @ git+https://h.example/x@${TOKEN}'"), "{source}");
    let wrong = told("a==1 --${NAME}");
    assert!(wrong.contains("with its variables replaced this line is none that dmoci reads"), "{wrong}");
}

#[test]
fn many_hashes() {
    let many = |count: usize| told(&format!("a==1 {}", "ONE ".repeat(count)));
    let most = crate::limits::PYTHON_HASHES;
    assert!(many(most).contains("E-NO-INDEX"));
    assert_eq!(
        many(most + 1),
        format!("E-PYTHON-LOCK: there are more than {most} hashes\nrequirements.txt:1")
    );
}

/// Each file is opened once for requirements and once for constraints, however often it is named.
#[test]
fn files_are_opened_once() {
    let text = "-r big.txt\n-c big.txt\n-r ./big.txt\n".repeat(1000);
    let mut opened = 0;
    let mut open = |path: &Path| {
        opened += 1;
        Ok(document(path.to_str().unwrap(), "-r big.txt\n-r requirements.txt\n"))
    };
    read(&document("requirements.txt", &text), &|_| None, &mut open).unwrap();
    assert_eq!(opened, 3);
}
