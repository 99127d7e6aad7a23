use super::super::document::Document;
use super::super::error::shown;
use super::super::plan::{Location, Options, PythonPlan};
use super::super::tests::{alone, built, debian, document, files, names};
use super::plan;
use crate::inputs::python::PythonError;

/// A workspace with a project, two members, a directory, a wheel, and extras and groups that exclude each other.
const WORKSPACE: &str = include_str!("../../../../fixtures/python/workspace/uv.lock");

const HASH: &str = "hash = \"sha256:1111111111111111111111111111111111111111111111111111111111111111\"";

fn run(text: &str, options: &Options) -> Result<PythonPlan, PythonError> {
    plan(&document("uv.lock", &text.replace("HASH", HASH)), &mut alone, &debian(), options)
}

fn options(extras: &str, groups: &str) -> Options {
    Options {
        extras: names(extras),
        groups: Some(names(groups)),
        built: vec![
            built("wheels/acme_lib-0.1-py3-none-any.whl"),
            built("wheels/local_dir-0.3-py3-none-any.whl"),
        ],
        ..Options::default()
    }
}

/// The projects with their versions.
fn projects(plan: &PythonPlan) -> Vec<String> {
    plan.wheels.iter().map(|wheel| format!("{} {}", wheel.name(), wheel.version())).collect()
}

fn package(name: &str, rest: &str) -> String {
    format!(
        "[[package]]\nname = \"{name}\"\nversion = \"1.0\"\nsource = {{ registry = \"https://index.example/simple\" }}\n{rest}\n\
         wheels = [{{ url = \"https://files.example/{name}-1.0-py3-none-any.whl\", HASH }}]\n"
    )
}

fn project(rest: &str) -> String {
    format!(
        "version = 1\n[[package]]\nname = \"app\"\nversion = \"1.0\"\nsource = {{ virtual = \".\" }}\n{rest}\n"
    )
}

#[test]
fn a_workspace() {
    let plan = run(WORKSPACE, &options("new", "a")).unwrap();
    let versions = [
        "acme-lib 0.1",
        "certifi 2026.10.19.post1",
        "h11 0.16.0",
        "idna 2.10",
        "iniconfig 2.3.1",
        "local-dir 0.3",
    ];
    assert_eq!(projects(&plan)[..6], versions);
    assert_eq!(projects(&plan)[6..], ["local-wheel 1.0", "packaging 26.3"]);
    let location = |name: &str| {
        plan.wheels
            .iter()
            .find(|wheel| wheel.name().as_str() == name)
            .map(|wheel| wheel.location.clone())
            .unwrap()
    };
    assert_eq!(location("local-wheel"), Location::Path("wheels/local_wheel-1.0-py3-none-any.whl".into()));
    assert_eq!(location("acme-lib"), Location::Path("wheels/acme_lib-0.1-py3-none-any.whl".into()));
    let (name, note) = plan.left_out.unwrap();
    assert!(plan.notes.is_empty() && name.as_str() == "acme-root");
    assert_eq!(
        note,
        "acme-root itself is left out; `[wheel]` in dmoci.toml has it built and installed, or `uv build --wheel --out-dir wheels .` and \
         `wheels = \"wheels\"` take it in"
    );

    let old = run(WORKSPACE, &options("old", "b dev")).unwrap();
    assert!(projects(&old).contains(&"packaging 23.2".to_owned()), "{old:?}");
    assert!(
        projects(&old).contains(&"idna 3.20".to_owned())
            && projects(&old).contains(&"pluggy 1.7.0".to_owned())
    );

    let mut whole = options("", "");
    whole.built.push(built("wheels/acme_root-1.0-py3-none-any.whl"));
    let whole = run(WORKSPACE, &whole).unwrap();
    assert!(projects(&whole).contains(&"acme-root 1.0".to_owned()) && whole.left_out.is_none(), "{whole:?}");

    let mut member = options("fast", "dev");
    member.package = names("acme-other").into_iter().next();
    member.built.clear();
    let member = run(WORKSPACE, &member).unwrap();
    assert_eq!(
        projects(&member),
        [
            "certifi 2026.10.19.post1",
            "markdown-it-py 4.3.0",
            "mdurl 0.1.2",
            "pygments 2.21.0",
            "rich 15.0.0",
            "sniffio 1.3.1"
        ]
    );
}

#[test]
fn what_excludes_itself_is_refused() {
    for (extras, groups, expected) in [
        (
            "new old",
            "",
            "E-PYTHON-CONFLICT: the extra new of acme-root and the extra old of acme-root exclude each other",
        ),
        (
            "",
            "a b",
            "E-PYTHON-CONFLICT: the group a of acme-root and the group b of acme-root exclude each other",
        ),
        ("newer", "", "E-PYTHON-UNKNOWN: uv.lock: it has no extra newer\nhelp: it has the extras new, old"),
        (
            "newer",
            "c",
            "E-PYTHON-UNKNOWN: uv.lock: it has no extra newer, and no group c\nhelp: it has the extras new, old; it has the groups a, b, dev",
        ),
        ("", "c", "E-PYTHON-UNKNOWN: uv.lock: it has no group c\nhelp: it has the groups a, b, dev"),
    ] {
        let error = shown(run(WORKSPACE, &options(extras, groups)).unwrap_err());
        assert!(error.starts_with(expected), "{error}");
    }
    let mut without = options("", "");
    without.built.remove(0);
    let error = shown(run(WORKSPACE, &without).unwrap_err());
    let expected = "E-PYTHON-SOURCE: acme-lib 0.1 is the directory packages/lib and no wheel";
    assert!(error.starts_with(expected) && error.contains("--out-dir wheels packages/lib`"), "{error}");
}

/// Markers ask for what is active by encoded names; what is active is known only after everything was seen.
#[test]
fn markers_about_what_is_active() {
    let lock = project(
        "dependencies = [{ name = \"a\", marker = \"extra != 'extra-1-b-gpu'\" }, { name = \"b\" }, { name = \"c\", extra = [\"x\"] }]\n\
         [package.optional-dependencies]\nmore = [{ name = \"b\", extra = [\"gpu\"] }]\n\
         [package.dev-dependencies]\ndev = [{ name = \"d\", marker = \"extra == 'group-3-app-dev' and extra == 'project-3-app'\" }]",
    ) + &package("a", "")
        + &package("b", "[package.optional-dependencies]\ngpu = [{ name = \"e\" }]\n[package.metadata]")
            .replace("[package.metadata]\nwheels", "wheels")
        + &package("c", "dependencies = [{ name = \"a\", marker = \"extra == 'extra-1-c-x'\" }]")
        + &package("d", "")
        + &package("e", "");
    // Inside a package that has tables of its own, wheels come before these.
    let lock = lock.replace(
        "[package.optional-dependencies]\ngpu = [{ name = \"e\" }]\nwheels = [{ url = \"https://files.example/b-1.0-py3-none-any.whl\", HASH }]",
        "wheels = [{ url = \"https://files.example/b-1.0-py3-none-any.whl\", HASH }]\n[package.optional-dependencies]\ngpu = [{ name = \"e\" }]",
    );
    let conflicts =
        "conflicts = [[{ package = \"b\", extra = \"gpu\" }, { package = \"b\", extra = \"cpu\" }]]\n";
    let lock = lock.replace("version = 1\n[[", &format!("version = 1\n{conflicts}[["));
    let found = |extras: &str, groups: &str| {
        let options = Options { extras: names(extras), groups: Some(names(groups)), ..Options::default() };
        run(&lock, &options)
            .map(|plan| files(&plan).iter().map(|file| file[..1].to_owned()).collect::<String>())
    };
    assert_eq!(found("", "").unwrap(), "abc");
    // The first pass meets `a` before it knows of gpu; `c` still asks for it.
    assert_eq!(found("more", "").unwrap(), "abce");
    assert_eq!(found("", "dev").unwrap(), "abcd");
}

#[test]
fn default_groups() {
    let lock = |own: &str| {
        project(&format!(
            "{own}\n[package.dev-dependencies]\ndev = [{{ name = \"a\" }}]\ndocs = [{{ name = \"b\" }}]\n[package.metadata.requires-dev]\nempty = []"
        )) + &package("a", "")
            + &package("b", "")
    };
    let found = |own: &str, beside: Option<&str>| {
        let beside: Option<Document> = beside.map(|text| document("pyproject.toml", text));
        let plan = plan(
            &document("uv.lock", &lock(own).replace("HASH", HASH)),
            &mut |_| Ok::<_, PythonError>(beside.clone()),
            &debian(),
            &Options::default(),
        );
        plan.map(|plan| (files(&plan).len(), plan.notes))
    };
    let note = vec!["the group dev is left out; `groups = [\"dev\"]` takes it in".to_owned()];
    assert_eq!(found("", None).unwrap(), (0, note.clone()));
    assert_eq!(found("", Some("[project]\nname = \"app\"")).unwrap(), (0, note));
    assert_eq!(
        found("", Some("[tool.uv]\ndefault-groups = [\"dev\", \"empty\", \"gone\"]")).unwrap(),
        (1, vec![])
    );
    assert_eq!(found("", Some("[tool.uv]\ndefault-groups = \"all\"")).unwrap(), (2, vec![]));
    assert_eq!(
        found("default-groups = [\"docs\"]", Some("[tool.uv]\ndefault-groups = \"all\"")).unwrap(),
        (1, vec![])
    );
    let error = shown(found("", Some("[tool.uv]\ndefault-groups = 1")).unwrap_err());
    assert!(
        error.starts_with("E-PYTHON-LOCK: `default-groups` is not what it should be\npyproject.toml:2"),
        "{error}"
    );
}

/// A workspace root or a script that is no project: what it needs stands in the manifest, without versions.
#[test]
fn no_project() {
    let fork = |version: &str, marker: &str| {
        package("a", &format!("resolution-markers = [\"{marker}\"]")).replace("1.0", version)
    };
    let lock = "version = 1\n[manifest]\nrequirements = [{ name = \"a\", specifier = \">=1\" }, { name = \"b\", marker = \"os_name == 'nt'\" }]\n\
                [manifest.dependency-groups]\ndev = [{ name = \"c\", extras = [\"x\"] }]\n"
        .to_owned()
        + &fork("1.0", "python_full_version < '3.12'") + &fork("2.0", "python_full_version >= '3.12'")
        + &package("b", "") + &package("c", "");
    let with = |groups: &str| {
        run(&lock, &Options { groups: Some(names(groups)), ..Options::default() }).map(|plan| projects(&plan))
    };
    assert_eq!(with("").unwrap(), ["a 1.0"]);
    assert_eq!(with("dev").unwrap(), ["a 1.0", "c 1.0"]);
    let error = shown(run(&lock.replace("manifest", "other"), &Options::default()).unwrap_err());
    assert!(
        error.starts_with("E-PYTHON-UNKNOWN: uv.lock: it is of a workspace, and no project stands beside it"),
        "{error}"
    );
}

#[test]
fn refused() {
    let depends = |on: &str| project(&format!("dependencies = [{on}]"));
    let source = |source: &str| {
        depends("{ name = \"a\" }")
            + &format!("[[package]]\nname = \"a\"\nversion = \"1.0\"\nsource = {{ {source} }}\n")
    };
    let wheel = |wheel: &str| {
        source("registry = \"https://index.example/simple\"") + &format!("wheels = [{{ {wheel} }}]")
    };
    let good = "url = \"https://files.example/a-1.0-py3-none-any.whl\"";
    for (text, expected) in [
        (String::new(), "E-PYTHON-LOCK: uv.lock: `version` is missing"),
        ("version = 2".into(), "E-PYTHON-LOCK-VERSION: version 2 of uv.lock is not known here\nuv.lock:1"),
        (
            "version = 1\nrequires-python = \">=3.12\"".into(),
            "E-PYTHON-TARGET: the lock file is for Python >=3.12, and the image has 3.11.2",
        ),
        (
            "version = 1\nsupported-markers = [\"sys_platform == 'win32'\"]".into(),
            "E-PYTHON-TARGET: the lock file is not for CPython",
        ),
        ("version = 1\n[[package]]\nname = \"a\"".into(), "E-PYTHON-LOCK: `source` is missing\nuv.lock:2"),
        (source("oci = \"x\""), "E-PYTHON-LOCK: this source is of no known kind"),
        (
            depends("{ name = \"a\" }"),
            "E-PYTHON-LOCK: there is no package that this dependency on a means\nuv.lock:6",
        ),
        (
            depends("{ name = \"a\", version = \"2\" }") + &package("a", ""),
            "E-PYTHON-LOCK: there is no package",
        ),
        (depends("{ name = \"a\", marker = \"x\" }"), "E-PYTHON-LOCK: `marker` is not what it should be"),
        (
            depends("{ name = \"a\", marker = \"platform_version == 'x'\" }"),
            "E-PYTHON-MARKER: whether a is needed cannot be decided",
        ),
        (
            depends("{ name = \"a\" }") + &package("a", "") + &package("a", "").replace("1.0", "2.0"),
            "E-PYTHON-LOCK: there is more than one package",
        ),
        (
            depends("{ name = \"a\", version = \"1.0\" }, { name = \"a\", version = \"2.0\" }")
                + &package("a", "")
                + &package("a", "").replace("1.0", "2.0"),
            "E-PYTHON-LOCK: the lock file has two versions of a",
        ),
        (wheel("size = 1"), "E-PYTHON-LOCK: a wheel has none of `url`, `path` and `filename`"),
        (wheel(good), "E-PYTHON-HASH: a-1.0-py3-none-any.whl has no hash in the lock file"),
        (wheel(&format!("{good}, hash = \"md5:0\"")), "E-PYTHON-HASH: a-1.0-py3-none-any.whl has neither"),
        (wheel(&format!("{good}, hash = \"sha256:0\"")), "E-PYTHON-LOCK: a hash is malformed: expected 64"),
        (
            wheel(&format!("{}, HASH", good.replace("a-1", "b-1"))),
            "E-PYTHON-LOCK: b-1.0-py3-none-any.whl is no wheel of a 1.0",
        ),
        (
            wheel(&format!("{}, HASH", good.replace("1.0", "1.1"))),
            "E-PYTHON-LOCK: a-1.1-py3-none-any.whl is no wheel of a 1.0",
        ),
        (
            wheel(&format!("{}, HASH", good.replace("https:/", "file://"))),
            "E-PYTHON-LOCK: the URL of a-1.0-py3-none-any.whl is none",
        ),
        (
            wheel("filename = \"a-1.0-py3-none-any.whl\", HASH"),
            "E-PYTHON-LOCK: the lock file does not say where a-1.0-py3-none-any.whl is",
        ),
        (
            source("path = \"../a-1.0-py3-none-any.whl\"")
                + "wheels = [{ filename = \"a-1.0-py3-none-any.whl\", HASH }]",
            "E-PYTHON-LOCK: a-1.0-py3-none-any.whl is not in the project",
        ),
        (
            wheel(&format!("{}, HASH", good.replace("py3-none-any", "cp312-cp312-win_amd64"))),
            "E-PYTHON-WHEEL: a 1.0 has no wheel for",
        ),
        (
            source("registry = \"https://index.example/simple\""),
            "E-PYTHON-SOURCE: a 1.0 is there only as a source distribution",
        ),
        (
            source("git = \"https://me:pw@git.example/a?subdirectory=x%2Fy&rev=main#abcdef\""),
            "E-PYTHON-SOURCE: a 1.0 is a commit in git and no wheel\nuv.lock:8\nhelp: make one with `pip wheel --no-deps --wheel-dir wheels 'a @ git+https://git.example/a@abcdef#subdirectory=x/y'`",
        ),
        (source("url = \"https://files.example/a.zip\""), "E-PYTHON-SOURCE: a 1.0 is an archive of sources"),
        (source("path = \"a.tar.gz\""), "E-PYTHON-SOURCE: a 1.0 is an archive of sources"),
    ] {
        let error = shown(run(&text, &Options::default()).unwrap_err());
        assert!(error.starts_with(expected), "{text}\n{error}\nexpected\n{expected}");
    }
}

#[test]
fn where_wheels_are() {
    let one = |source: &str, wheel: &str| {
        let text = project("dependencies = [{ name = \"a\" }]")
            + &format!(
                "[[package]]\nname = \"a\"\nversion = \"1.0\"\nsource = {{ {source} }}\nwheels = [{{ {wheel}, HASH }}]"
            );
        run(&text, &Options::default()).unwrap().wheels.remove(0).location.to_string()
    };
    let name = "filename = \"a-1.0-py3-none-any.whl\"";
    assert_eq!(
        one("registry = \"links\"", "path = \"a-1.0-py3-none-any.whl\""),
        "links/a-1.0-py3-none-any.whl"
    );
    assert_eq!(one("path = \"w/a-1.0-py3-none-any.whl\"", name), "w/a-1.0-py3-none-any.whl");
    assert_eq!(
        one("url = \"https://h.example/a-1.0-py3-none-any.whl\"", name),
        "https://h.example/a-1.0-py3-none-any.whl"
    );
    // A wheel with a local version stands for the public one.
    assert_eq!(
        one("registry = \"x\"", "path = \"a-1.0+cpu-py3-none-any.whl\""),
        "x/a-1.0+cpu-py3-none-any.whl"
    );
}

/// Many packages of one name, many edges without a version, many extras: each is looked at once.
#[test]
fn large_graphs() {
    let fork = |n: usize| {
        format!(
            "[[package]]\nname = \"a\"\nversion = \"{n}\"\nsource = {{ registry = \"https://index.example/simple\" }}\n\
             resolution-markers = [\"sys_platform == 'x{n}'\"]\n"
        )
    };
    let forks = |count: usize| (0..count).map(fork).collect::<String>();
    let app = |edges: &str| project(&format!("dependencies = [{edges}]"));
    let many = forks(crate::limits::PYTHON_FORKS + 1);
    let error = shown(run(&format!("{}{many}", app("")), &Options::default()).unwrap_err());
    assert!(error.starts_with("E-PYTHON-LOCK: there are more than 256 of a\nuv.lock:"), "{error}");
    let enough = forks(crate::limits::PYTHON_FORKS);
    assert!(run(&format!("{}{enough}", app("")), &Options::default()).is_ok());
    let error = run(&format!("{}{enough}", app("{ name = \"a\" }")), &Options::default()).unwrap_err();
    assert!(error.to_string().contains("there is no package that this dependency on a means"), "{error}");

    let extras: Vec<String> = (0..3000).map(|n| format!("e{n}")).collect();
    let list = extras.iter().map(|extra| format!("\"{extra}\"")).collect::<Vec<_>>().join(", ");
    let offered = extras.iter().map(|extra| format!("{extra} = [{{ name = \"c\" }}]\n")).collect::<String>();
    let text = format!(
        "conflicts = [[{{ package = \"b\", extra = \"e1\" }}, {{ package = \"app\", extra = \"x\" }}]]\n{}{}{}",
        app(&format!(
            "{{ name = \"b\", extra = [{list}] }}, {{ name = \"d\", marker = \"extra == 'extra-1-b-e2999'\" }}"
        )),
        package("b", &format!("[package.optional-dependencies]\n{offered}"))
            .replace("\nwheels", "\n[[package.wheels]]\n#"),
        [package("c", ""), package("d", "")].concat()
    );
    let text = text.replace(
        "\n[[package.wheels]]\n#",
        "\n[[package.wheels]]\nurl = \"https://files.example/b-1.0-py3-none-any.whl\"\nHASH\n#",
    );
    let plan = run(&text, &Options::default()).unwrap();
    assert_eq!(projects(&plan), ["b 1.0", "c 1.0", "d 1.0"]);
}
