use super::super::error::shown;
use super::super::filename::WheelName;
use super::super::plan::{Location, Options, PythonPlan};
use super::super::tests::{built, debian, document, files, names};
use super::plan;
use crate::inputs::python::PythonError;

const HASH: &str = "sha256 = \"1111111111111111111111111111111111111111111111111111111111111111\"";

fn run(text: &str, options: &Options) -> Result<PythonPlan, PythonError> {
    let text = text.replace("HASH", HASH).replace("HEAD", "lock-version = \"1.0\"\ncreated-by = \"x\"\n");
    plan(&document("py/pylock.toml", &text), &debian(), options)
}

fn wheel(name: &str) -> String {
    format!(
        "[[packages]]\nname = \"{name}\"\nwheels = [{{ path = \"{name}-1.0-py3-none-any.whl\", hashes = {{ HASH }} }}]\n"
    )
}

#[test]
fn extras_and_groups() {
    let text = format!(
        "HEAD\nextras = [\"cli\"]\ndependency-groups = [\"docs\", \"dev\"]\ndefault-groups = [\"app\", \"dev\"]\n{}\
         marker = \"'cli' in extras\"\n{}marker = \"'docs' in dependency_groups\"\n{}marker = \"'app' in dependency_groups\"\n\
         {}marker = \"'dev' in dependency_groups or 'x' in extras\"\n",
        wheel("a"),
        wheel("b"),
        wheel("c"),
        wheel("d")
    );
    let found = |extras: &str, groups: Option<&str>| {
        let options = Options { extras: names(extras), groups: groups.map(names), ..Options::default() };
        run(&text, &options)
            .map(|plan| files(&plan).iter().map(|file| file[..1].to_owned()).collect::<String>())
    };
    assert_eq!(found("", None).unwrap(), "cd");
    assert_eq!(found("cli", None).unwrap(), "acd");
    // Defaults that are no public group stay; those that are one give way.
    assert_eq!(found("", Some("")).unwrap(), "c");
    assert_eq!(found("Cli", Some("docs")).unwrap(), "abc");
    let error = shown(found("gui", None).unwrap_err());
    assert_eq!(error, "E-PYTHON-UNKNOWN: py/pylock.toml: it has no extra gui\nhelp: it has the extras cli");
    let error = shown(found("", Some("test")).unwrap_err());
    assert_eq!(
        error,
        "E-PYTHON-UNKNOWN: py/pylock.toml: it has no group test\nhelp: it has the groups dev, docs"
    );
}

#[test]
fn places_and_roots() {
    let text = "HEAD\n[[packages]]\nname = \"a\"\nversion = \"1.0\"\ndependencies = [{ name = \"b\" }]\n\
                wheels = [{ url = \"https://files.example/a-1.0-py3-none-any.whl\", path = \"../w/a-1.0-py3-none-any.whl\", size = 7, hashes = { md5 = \"0\", HASH } },\n\
                { name = \"a-1.0-2-py3-none-any.whl\", url = \"https://files.example/x\", hashes = { HASH } }]\n\
                [[packages]]\nname = \"b\"\narchive = { url = \"https://files.example/b-2.0-py3-none-any.whl\", hashes = { HASH } }\n";
    let plan = run(text, &Options::default()).unwrap();
    let [a, b] = &plan.wheels[..] else { panic!("{plan:?}") };
    // The larger build tag of two wheels that run equally well.
    assert_eq!((a.file.as_str(), a.requested), ("a-1.0-2-py3-none-any.whl", true));
    assert_eq!((b.file.as_str(), b.requested), ("b-2.0-py3-none-any.whl", false));
    let plan = run(&text.replace("-2-py3", "-2-cp312"), &Options::default()).unwrap();
    assert_eq!(plan.wheels[0].location, Location::Path("w/a-1.0-py3-none-any.whl".into()));
    assert_eq!(plan.wheels[0].size, Some(7));
}

#[test]
fn notes() {
    let text = format!(
        "lock-version = \"1.1\"\ncreated-by = \"x\"\n{}new = 1\n[[packages.attestation-identities]]\nkind = \"x\"\n",
        wheel("a")
    );
    let options = Options { built: vec![built("wheels/z-1.0-py3-none-any.whl")], ..Options::default() };
    assert_eq!(
        run(&text, &options).unwrap().notes,
        [
            "py/pylock.toml has a newer version than 1.0; what it says with new is not known here",
            "the attestation identities of 1 package are not checked",
            "wheels/z-1.0-py3-none-any.whl is not needed",
        ]
    );
}

#[test]
fn built_wheels_stand_in() {
    let text = "HEAD\n[[packages]]\nname = \"a\"\nversion = \"1.0\"\nsdist = { url = \"https://files.example/a-1.0.tar.gz\", hashes = { HASH } }\n";
    let stand_in = built("wheels/a-1.0-py3-none-any.whl");
    let with = |path: &str| run(text, &Options { built: vec![built(path)], ..Options::default() });
    let plan = with("wheels/a-1.0-py3-none-any.whl").unwrap();
    assert_eq!(plan.wheels[0].digest, stand_in.digest);
    assert_eq!(plan.wheels[0].location, Location::Path(stand_in.path));
    let error = shown(with("wheels/a-2.0-py3-none-any.whl").unwrap_err());
    assert!(error.contains("wheels/a-2.0-py3-none-any.whl is a 2.0"), "{error}");
    let error = shown(with("wheels/a-1.0-cp312-cp312-win_amd64.whl").unwrap_err());
    assert!(error.contains("a-1.0-cp312-cp312-win_amd64.whl does not run on CPython"), "{error}");
}

#[test]
fn refused() {
    let package = |rest: &str| format!("HEAD\n[[packages]]\nname = \"a\"\n{rest}\n");
    let entry = |rest: &str| package(&format!("wheels = [{{ {rest} }}]"));
    for (text, expected) in [
        (String::new(), "E-PYTHON-LOCK: py/pylock.toml: `lock-version` is missing"),
        ("x".into(), "E-PYTHON-LOCK: py/pylock.toml is not TOML"),
        (
            "lock-version = 1".into(),
            "E-PYTHON-LOCK: `lock-version` is not what it should be\npy/pylock.toml:1: expected a string",
        ),
        (
            "lock-version = \"2.0\"".into(),
            "E-PYTHON-LOCK-VERSION: the lock version \"2.0\" is not known here",
        ),
        ("lock-version = \"1\"".into(), "E-PYTHON-LOCK-VERSION: "),
        ("lock-version = \"1.0\"".into(), "E-PYTHON-LOCK: py/pylock.toml: `created-by` is missing"),
        ("HEAD".into(), "E-PYTHON-LOCK: py/pylock.toml: `packages` is missing"),
        (
            "HEAD\npackages = 1".into(),
            "E-PYTHON-LOCK: `packages` is not what it should be\npy/pylock.toml:4: expected an array of tables",
        ),
        (
            "HEAD\nrequires-python = \"3.9\"".into(),
            "E-PYTHON-LOCK: `requires-python` is not what it should be",
        ),
        (
            "HEAD\nrequires-python = \">=3.12\"".into(),
            "E-PYTHON-TARGET: the lock file is for Python >=3.12, and the image has 3.11.2\npy/pylock.toml:4\nhelp: lock for",
        ),
        (
            "HEAD\nenvironments = [\"sys_platform == 'win32'\"]\npackages = []".into(),
            "E-PYTHON-TARGET: the lock file is not for CPython 3.11.2 on x86_64 with glibc-2.36\npy/pylock.toml:4",
        ),
        (
            "HEAD\nenvironments = [\"sys_platform = 'win32'\"]\npackages = []".into(),
            "E-PYTHON-LOCK: `environments` is not what it should be\npy/pylock.toml:4: expected an environment marker; at its character 14: expected one of ==",
        ),
        ("HEAD\n[[packages]]\nversion = \"1\"".into(), "E-PYTHON-LOCK: `name` is missing\npy/pylock.toml:4"),
        (
            "HEAD\n[[packages]]\nname = \"a b\"".into(),
            "E-PYTHON-LOCK: `name` is not what it should be\npy/pylock.toml:5: expected a name of letters",
        ),
        (
            package("marker = \"platform_release == '1'\""),
            "E-PYTHON-MARKER: whether a is needed cannot be decided: `platform_release` is of the kernel",
        ),
        (
            package("requires-python = \"<3\""),
            "E-PYTHON-TARGET: a is for Python <3, and the image has 3.11.2\npy/pylock.toml:6",
        ),
        (
            format!("HEAD\n{}{}", wheel("a"), wheel("A")),
            "E-PYTHON-LOCK: the lock file has two entries of a for CPython 3.11.2 on x86_64 with glibc-2.36\npy/pylock.toml:8\npy/pylock.toml:5: the other one",
        ),
        (package(""), "E-PYTHON-LOCK: the entry of a does not say where it comes from"),
        (
            package("wheels = []\ndirectory = { path = \".\" }"),
            "E-PYTHON-LOCK: the entry of a has several sources: directory, wheels",
        ),
        (
            entry("path = \"b-1-py3-none-any.whl\", hashes = { HASH }"),
            "E-PYTHON-LOCK: b-1-py3-none-any.whl is no wheel of a",
        ),
        (
            package("version = \"2\"\nwheels = [{ path = \"a-1-py3-none-any.whl\", hashes = { HASH } }]"),
            "E-PYTHON-LOCK: a-1-py3-none-any.whl is no wheel of a 2",
        ),
        (
            entry("path = \"a.zip\", hashes = { HASH }"),
            "E-PYTHON-LOCK: \"a.zip\" is no name of a wheel: it does not end with .whl",
        ),
        (entry("hashes = { HASH }"), "E-PYTHON-LOCK: a wheel has neither `path` nor `url`"),
        (entry("path = \"a-1-py3-none-any.whl\""), "E-PYTHON-HASH: a-1-py3-none-any.whl has no hash"),
        (
            entry("path = \"a-1-py3-none-any.whl\", hashes = { md5 = \"0\" }"),
            "E-PYTHON-HASH: a-1-py3-none-any.whl has neither a sha256 nor a sha512",
        ),
        (
            entry("path = \"a-1-py3-none-any.whl\", hashes = { sha256 = \"0\" }"),
            "E-PYTHON-LOCK: a hash of a-1-py3-none-any.whl is malformed: expected 64 hex",
        ),
        (
            entry("path = \"a-1-py3-none-any.whl\", size = -1, hashes = { HASH }"),
            "E-PYTHON-LOCK: `size` is not what it should be\npy/pylock.toml:6: expected a whole number",
        ),
        (
            entry("path = \"../../a-1-py3-none-any.whl\", hashes = { HASH }"),
            "E-PYTHON-LOCK: a-1-py3-none-any.whl is not in the project",
        ),
        (
            entry("path = \"/a-1-py3-none-any.whl\", hashes = { HASH }"),
            "E-PYTHON-LOCK: a-1-py3-none-any.whl is not in the project",
        ),
        (
            entry("url = \"file:///a-1-py3-none-any.whl\", hashes = { HASH }"),
            "E-PYTHON-LOCK: the URL of a-1-py3-none-any.whl is none: it is a path of the machine",
        ),
        (
            entry("url = \"ftp://h.example/a-1-py3-none-any.whl\", hashes = { HASH }"),
            "E-PYTHON-LOCK: the URL of a-1-py3-none-any.whl is none: it does not begin with https",
        ),
        (
            entry("path = \"a-1-cp312-cp312-win_amd64.whl\", hashes = { HASH }"),
            "E-PYTHON-WHEEL: a has no wheel for CPython 3.11.2 on x86_64 with glibc-2.36\npy/pylock.toml:5\nhelp: looked for cp311-cp311, cp311-abi3, py3-none, py311-none, each for manylinux_2_36_x86_64 … manylinux1_x86_64, linux_x86_64, or any\nthere are cp312-cp312-win_amd64",
        ),
        (
            package(
                "version = \"1.0\"\nsdist = { url = \"https://files.example/a-1.0.tar.gz\", hashes = { HASH } }",
            ),
            "E-PYTHON-SOURCE: a 1.0 is there only as a source distribution\npy/pylock.toml:5\nhelp: make one with `pip wheel --no-deps --no-binary a --wheel-dir wheels a==1.0` and say `wheels = \"wheels\"`",
        ),
        (
            package(&format!(
                "version = \"1.0\"\nsdist = {{ url = \"https://files.example/a-1.0.tar.gz\", hashes = {{ HASH }} }}\nwheels = [{}]",
                (0..9)
                    .map(|minor| {
                        let file = format!("a-1.0-cp3{minor}-cp3{minor}-win_amd64.whl");
                        format!("{{ url = \"https://files.example/{file}\", hashes = {{ HASH }} }}, ")
                    })
                    .collect::<String>()
            )),
            "E-PYTHON-WHEEL: a 1.0 has no wheel for CPython 3.11.2 on x86_64 with glibc-2.36\npy/pylock.toml:5\nhelp: looked for cp311-cp311, cp311-abi3, py3-none, py311-none, each for manylinux_2_36_x86_64 … manylinux1_x86_64, linux_x86_64, or any\nthere are none for x86_64\nmake one from the source distribution with `pip wheel --no-deps --no-binary a --wheel-dir wheels a==1.0` and say `wheels = \"wheels\"`",
        ),
        (
            package("directory = { path = \"../lib\", subdirectory = \"py\" }"),
            "E-PYTHON-SOURCE: a is the directory ../lib/py and no wheel\npy/pylock.toml:5\nhelp: make one with `uv build --wheel --out-dir wheels ../lib/py`",
        ),
        (
            package("archive = { url = \"https://me:pw@files.example/a.tar.gz\", hashes = { HASH } }"),
            "E-PYTHON-SOURCE: a is an archive of sources and no wheel\npy/pylock.toml:5\nhelp: make one with `pip wheel --no-deps --wheel-dir wheels https://files.example/a.tar.gz`",
        ),
        (
            package(
                "vcs = { type = \"git\", url = \"https://me:pw@git.example/a\", commit-id = \"abc\", subdirectory = \"py\" }",
            ),
            "E-PYTHON-SOURCE: a is a commit in git and no wheel\npy/pylock.toml:5\nhelp: make one with `pip wheel --no-deps --wheel-dir wheels 'a @ git+https://git.example/a@abc#subdirectory=py'`",
        ),
        (
            package("vcs = { type = \"git\", url = \"https://git.example/a\" }"),
            "E-PYTHON-LOCK: `commit-id` is missing",
        ),
    ] {
        let error = shown(run(&text, &Options::default()).unwrap_err());
        assert!(error.starts_with(expected), "{text}\n{error}\nexpected\n{expected}");
    }
    let options = Options { package: names("a").into_iter().next(), ..Options::default() };
    assert!(shown(run("HEAD\npackages = []", &options).unwrap_err()).contains("is not of one package"));
    assert!(WheelName::parse("a-1.0-py3-none-any.whl").is_ok());
}
