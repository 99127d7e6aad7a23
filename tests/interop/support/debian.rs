//! A real Debian root file system, and the image of an application on it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::{command, dmoci, run};

/// What it needs.
pub(crate) const PEERS: &[&str] = &["root", "amd64", "mmdebstrap"];

/// A suite of Debian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suite {
    /// 12, with Python 3.11 and glibc 2.36.
    Bookworm,
    /// 13, with Python 3.13 and glibc 2.41.
    Trixie,
}

impl Suite {
    fn name(self) -> &'static str {
        match self {
            Suite::Bookworm => "bookworm",
            Suite::Trixie => "trixie",
        }
    }

    /// The version of its Python.
    pub(crate) fn python(self) -> &'static str {
        match self {
            Suite::Bookworm => "3.11",
            Suite::Trixie => "3.13",
        }
    }
}

const VARIANT: &str = "minbase";

/// The name of the image.
pub(crate) const NAME: &str = "registry.example/debian-app:1.0";

/// What the application prints.
pub(crate) const OUTPUT: &str = "\
application on debian as 10001:10001 in /opt/app
one line
another line
/opt/app/bin/report 0:0 755 315619200
/opt/app/share/lines.txt 0:0 644 315619200
/opt/app/var 10001:10001 750 315619200
/usr/bin/passwd 0:0 4755 315619200
";

const REPORT: &str = r#"#!/bin/sh
. /etc/os-release
echo "application on $ID as $(id -u):$(id -g) in $(pwd)"
cat /opt/app/share/lines.txt
stat -c '%n %u:%g %a %Y' /opt/app/bin/report /opt/app/share/lines.txt /opt/app/var /usr/bin/passwd
"#;

/// A spec with this operating system below the application.
pub(crate) fn spec(os: &str) -> String {
    format!(
        r#"schema = 1

[image]
name = "registry.example/debian-app"
tags = ["1.0"]
platforms = ["linux/amd64"]
entrypoint = ["/opt/app/bin/report"]
user = "10001:10001"
workdir = "/opt/app"
env = {{ PATH = "/usr/sbin:/usr/bin:/sbin:/bin" }}
users = [{{ name = "app", uid = 10001, gid = 10001, home = "/opt/app" }}]

[[layer]]
name = "os"
{os}

[[layer]]
name = "app"
copy = [{{ from = ["app/"], to = "/opt/app/" }}]
directory = [{{ path = "/opt/app/var", mode = "0750", owner = "10001:10001" }}]
"#
    )
}

/// Writes the application's folder.
pub(crate) fn write_app(project: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::create_dir_all(project.join("app/bin")).unwrap();
    fs::create_dir_all(project.join("app/share")).unwrap();
    fs::write(project.join("app/bin/report"), REPORT).unwrap();
    fs::set_permissions(project.join("app/bin/report"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(project.join("app/share/lines.txt"), "one line\nanother line\n").unwrap();
}

/// The project with the root file system's tar as a layer, built: `dist/image`, and `oci.tar` and `docker.tar` beside it.
///
/// Made once for all tests; several gigabytes are spared by not making it anew.
pub(crate) fn project() -> &'static Path {
    static PROJECT: OnceLock<PathBuf> = OnceLock::new();
    PROJECT.get_or_init(|| {
        let project = Path::new(env!("CARGO_TARGET_TMPDIR")).join("debian-app");
        let _ = fs::remove_dir_all(&project);
        fs::create_dir_all(&project).unwrap();
        write_app(&project);
        let tar = root_file_system();
        if fs::hard_link(tar, project.join("os.tar")).is_err() {
            fs::copy(tar, project.join("os.tar")).unwrap();
        }
        let os = r#"archive = [{ path = "os.tar", to = "/", owner = "archive", devices = "skip" }]"#;
        fs::write(project.join("dmoci.toml"), spec(os)).unwrap();
        run(dmoci().arg("build").arg("-C").arg(&project));
        for (kind, file) in [("oci-archive", "oci.tar"), ("docker-archive", "docker.tar")] {
            let output = format!("{kind}:{}", project.join(file).display());
            run(dmoci().arg("export").arg(project.join("dist/image")).arg("-o").arg(output));
        }
        project
    })
}

/// The tar of a Debian root file system, kept between runs.
#[track_caller]
pub(crate) fn root_file_system() -> &'static Path {
    static TAR: OnceLock<PathBuf> = OnceLock::new();
    TAR.get_or_init(|| made(Suite::Bookworm, &[]))
}

/// The same with Python, of this suite.
#[track_caller]
fn root_file_system_with_python(suite: Suite) -> &'static Path {
    static TARS: [OnceLock<PathBuf>; 2] = [OnceLock::new(), OnceLock::new()];
    TARS[suite as usize].get_or_init(|| made(suite, &["python3"]))
}

/// The Python of a suite, to be run on this machine: in this folder its files, and a program that starts it with its own C
/// library.
pub(crate) fn python(suite: Suite, folder: &Path) -> PathBuf {
    fs::create_dir(folder).unwrap();
    let mut tar = command("tar");
    tar.arg("-xf").arg(root_file_system_with_python(suite)).arg("-C").arg(folder);
    run(tar.args(["--no-same-owner", "./usr", "./lib", "./lib64"]));
    let (root, version) = (folder.display(), suite.python());
    let text = format!(
        "#!/bin/sh\nexport PYTHONHOME={root}/usr PYTHONDONTWRITEBYTECODE=1\n\
         exec {root}/lib64/ld-linux-x86-64.so.2 --library-path {root}/usr/lib/x86_64-linux-gnu \
         {root}/usr/bin/python{version} \"$@\"\n"
    );
    let program = folder.join("python");
    fs::write(&program, text).unwrap();
    run(command("chmod").arg("a+x").arg(&program));
    program
}

/// Writes the image of a Debian with Python into `base-project/dist/image` of a project, with the tag `3`.
pub(crate) fn write_base_with_python(project: &Path) {
    write_base_with_python_of(Suite::Bookworm, project);
}

/// The same of this suite.
pub(crate) fn write_base_with_python_of(suite: Suite, project: &Path) {
    let base = project.join("base-project");
    fs::create_dir_all(&base).unwrap();
    let tar = root_file_system_with_python(suite);
    if fs::hard_link(tar, base.join("os.tar")).is_err() {
        fs::copy(tar, base.join("os.tar")).unwrap();
    }
    let os = "archive = [{ path = \"os.tar\", to = \"/\", owner = \"archive\", devices = \"skip\" }]";
    let spec = format!(
        "schema = 1\n[image]\nname = \"registry.example/python\"\ntags = [\"3\"]\nplatforms = [\"linux/amd64\"]\n\
         [[layer]]\nname = \"os\"\n{os}\n"
    );
    fs::write(base.join("dmoci.toml"), spec).unwrap();
    run(dmoci().arg("build").arg("-C").arg(&base));
}

fn made(suite: Suite, packages: &[&str]) -> PathBuf {
    let cache = cache();
    fs::create_dir_all(&cache).unwrap();
    let name = [&["debian", suite.name(), VARIANT], packages].concat().join("-");
    let tar = cache.join(format!("{name}.tar"));
    if !tar.is_file() {
        let part = cache.join(format!("{name}.{}.part.tar", std::process::id()));
        let mut make = command("mmdebstrap");
        make.arg(format!("--variant={VARIANT}"));
        // An empty list is none for mmdebstrap.
        if !packages.is_empty() {
            make.arg(format!("--include={}", packages.join(",")));
        }
        run(make.arg(suite.name()).arg(&part).args(sources(suite)));
        fs::rename(&part, &tar).unwrap();
    }
    tar
}

/// The machine's own files of package sources that name the suite; none means the default of mmdebstrap.
fn sources(suite: Suite) -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    files.extend(
        fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().map(|file| file.unwrap().path()),
    );
    files.sort();
    let name = suite.name();
    let words = [name.to_owned(), format!("{name}-updates"), format!("{name}-security")];
    files.retain(|file| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let lines = text.lines().filter(|line| line.starts_with("deb ") || line.starts_with("Suites:"));
        lines.flat_map(str::split_whitespace).any(|word| words.iter().any(|suite| suite == word))
    });
    files
}

/// What is kept between runs.
pub(crate) fn cache() -> PathBuf {
    let home = || PathBuf::from(env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache");
    env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("dmoci-ci")
}
