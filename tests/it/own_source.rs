//! What is source of `[wheel]`, and what is not: the lock file, links, outputs of earlier builds.

use std::fs;
use std::os::unix::fs::symlink;

use dmoci_layers::Digest;

use crate::own_wheel::{PYTHON, RUNS, SDIST, WHEEL, edit, layers, members, names, project};
use crate::support::server::{Reply, Server};
use crate::support::wheel::Wheel;
use crate::support::{Project, Run, dmoci};

/// Serves these, as an index and by their names.
fn index(wheels: Vec<Wheel>) -> Server {
    Server::start(move |asked| {
        let named = |wheel: &&Wheel| asked.target.ends_with(&wheel.file_name());
        match wheels.iter().find(named) {
            Some(wheel) => Reply::file(asked, None, &wheel.bytes()),
            None if asked.target.starts_with("/simple/") => {
                let project = asked.target.trim_start_matches("/simple/").trim_end_matches('/');
                let own = wheels.iter().filter(|wheel| wheel.name.replace('_', "-") == project);
                let link = |wheel: &Wheel| {
                    let (name, digest) = (wheel.file_name(), Digest::sha256(&wheel.bytes()));
                    format!("<a href=\"/f/{name}#sha256={}\">{name}</a>\n", digest.hex())
                };
                let page: String = own.map(link).collect();
                match page.is_empty() {
                    true => Reply::new("404 Not Found", &[], b""),
                    false => Reply::new("200 OK", &["Content-Type: text/html"], page.as_bytes()),
                }
            }
            None if asked.target == "/model.bin" => Reply::ok(b"model"),
            None => Reply::new("404 Not Found", &[], b""),
        }
    })
}

#[test]
fn what_is_pinned_is_pinned_before_the_source_is_copied() {
    let Some(project) = project() else { return };
    let served = [("always", "1.0"), ("asked-for", "2.0"), ("used", "3.0")];
    let server = index(served.map(|(name, version)| Wheel::new(name, version)).to_vec());
    let run = |arguments: &[&str]| {
        let mut command = dmoci();
        command.args(arguments).current_dir(project.root()).env("XDG_CACHE_HOME", project.cache());
        // Whichever resolves.
        let index = server.url("/simple/");
        Run::of(command.env("PIP_INDEX_URL", &index).env("UV_DEFAULT_INDEX", &index))
    };
    // Requirements that only the source tells, an archive, and a wheel that only a plan finds; the lock file is in what is built.
    edit(&project, "pyproject.toml", "requires = []", "requires = [\"always\"]");
    let hook = "def get_requires_for_build_wheel(config_settings=None):\n    return [\"asked-for\"]\n\n\ndef build_sdist(";
    edit(&project, "tools/backend.py", "def build_sdist(", hook);
    edit(
        &project,
        "tools/backend.py",
        "*sources(), \"tools/backend.py\"",
        "*sources(), \"tools/backend.py\", \"dmoci.lock\"",
    );
    edit(
        &project,
        "tools/backend.py",
        "    info = f\"{stem}.dist-info\"\n",
        "    info = f\"{stem}.dist-info\"\n    files.append((\"tide_table/lock\", open(\"dmoci.lock\", \"rb\").read()))\n",
    );
    let used = Wheel::new("used", "3.0");
    let pylock = format!(
        "lock-version = \"1.0\"\ncreated-by = \"hand\"\n[[packages]]\nname = \"used\"\nversion = \"3.0\"\n[[packages.wheels]]\n\
         name = \"{name}\"\nurl = \"{}\"\nhashes.sha256 = \"{}\"\n",
        server.url(&format!("/f/{}", used.file_name())),
        Digest::sha256(&used.bytes()).hex(),
        name = used.file_name(),
    );
    project.write("pylock.toml", pylock);
    layers(
        &project,
        &format!(
            "[[layer]]\nname = \"app\"\npython = {{ lock = \"pylock.toml\", {PYTHON} }}\nwheel = {{ {PYTHON} }}\n\
             download = [{{ url = \"{}\", path = \"/model.bin\" }}]\n",
            server.url("/model.bin")
        ),
    );
    let first = run(&["build"]).ok();
    let lock = fs::read(project.path("dmoci.lock")).unwrap();
    for word in ["always-1.0", "asked_for-2.0", "used-3.0", "model.bin"] {
        assert!(String::from_utf8_lossy(&lock).contains(word), "no {word:?}");
    }
    let wheel = fs::read(project.path("dist/python").join(WHEEL)).unwrap();
    assert_eq!(members(&wheel)["tide_table/lock"], lock);
    // Each pin is told of once.
    for word in ["always-1.0", "asked_for-2.0", "used-3.0", "model.bin: "] {
        let lines = first.stderr.lines().filter(|line| line.contains("Added") && line.contains(word));
        assert_eq!(lines.count(), 1, "{word}\n{}", first.stderr);
    }
    let again = run(&["build", "--no-cache"]).ok();
    assert!(again.stderr.contains(RUNS) && again.stdout == first.stdout, "{}", again.stderr);
    // The first build at all, twice.
    for what in ["dmoci.lock", "dist"] {
        let path = project.path(what);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
    }
    let twice = run(&["build", "--twice"]).ok();
    assert!(twice.stderr.contains("twice the same") && twice.stdout == first.stdout, "{}", twice.stderr);
    // Pins made anew are the same, and so is what is built of them.
    run(&["lock", "--update"]).ok();
    assert_eq!(fs::read(project.path("dmoci.lock")).unwrap(), lock);
    assert_eq!(run(&["build", "--locked", "--offline"]).ok().stdout, first.stdout);
}

#[test]
fn links_stay_in_the_source() {
    let Some(project) = project() else { return };
    edit(&project, "dmoci.toml", "[wheel]\n", "[wheel]\nsdist = false\n");
    let outside = tempfile::NamedTempFile::new().unwrap();
    let link = project.path("src/tide_table/data.txt");
    let absolute = outside.path().to_str().unwrap();
    for target in [absolute, "/nowhere", "../../../x", "../../missing/../../x", "../../dist/../../x"] {
        symlink(target, &link).unwrap();
        for arguments in [&["build"][..], &["check"], &["lock"], &["wheel"]] {
            let run = project.dmoci(arguments);
            // Without build requirements nothing is copied to lock them.
            if arguments == ["lock"] && run.exit == 0 {
                continue;
            }
            let run = run.exits(2);
            let words = ["error[E-SOURCE-OUTSIDE]: src/tide_table/data.txt leads out", "help:"];
            assert!(words.iter().all(|word| run.stderr.contains(word)), "{target}: {}", run.stderr);
        }
        assert!(!project.path("dist").exists(), "{target}");
        fs::remove_file(&link).unwrap();
    }
    // Within it they are taken as they are.
    symlink("../../pyproject.toml", &link).unwrap();
    project.dmoci(&["build"]).ok();
    let wheel = fs::read(project.path("dist/python").join(WHEEL)).unwrap();
    assert_eq!(members(&wheel)["tide_table/data.txt"], fs::read(project.path("pyproject.toml")).unwrap());
    edit(&project, "pyproject.toml", "when the tide", "whether the tide");
    let run = project.dmoci(&["build"]).ok();
    assert!(run.stderr.contains(RUNS), "{}", run.stderr);
    // The source itself.
    fs::remove_file(&link).unwrap();
    let other = tempfile::tempdir().unwrap();
    symlink(other.path(), project.path("part")).unwrap();
    edit(&project, "dmoci.toml", "[wheel]\n", "[wheel]\nsource = \"part\"\n");
    for command in ["build", "check", "lock"] {
        let run = project.dmoci(&[command]).exits(2);
        assert!(run.stderr.contains("error[E-SOURCE-OUTSIDE]: part leads out"), "{command}: {}", run.stderr);
        assert!(run.stderr.contains("--> dmoci.toml"), "{command}: {}", run.stderr);
    }
}

/// Whatever is in the tree, a wheel that has the names of all of it tells.
fn tells_names(project: &Project) {
    edit(
        project,
        "tools/backend.py",
        "    info = f\"{stem}.dist-info\"\n",
        "    info = f\"{stem}.dist-info\"\n    names = sorted(os.path.join(at, name) for at, folders, files in os.walk(\".\") \
         for name in folders + files if \"__pycache__\" not in at + name and name not in (\"PKG-INFO\", \"dmoci.lock\"))\n    \
         files.append((\"tide_table/names\", \"\\n\".join(names).encode()))\n",
    );
}

#[test]
fn outputs_of_earlier_builds_are_no_source() {
    let Some(project) = project() else { return };
    tells_names(&project);
    let first = project.dmoci(&["build"]).ok();
    let wheel = fs::read(project.path("dist/python").join(WHEEL)).unwrap();
    let told = String::from_utf8(members(&wheel)["tide_table/names"].clone()).unwrap();
    assert!(told.contains("./tools/backend.py") && !told.contains("dist"), "{told}");
    for arguments in [
        &["build", "-o", "o2"][..],
        &["build", "-o", "o3"],
        &["build", "-o", "deep/er/o4"],
        &["build", "-o", "."],
    ] {
        for more in [&[][..], &["--no-cache"]] {
            let run = project.dmoci(&[arguments, more].concat()).ok();
            assert_eq!(run.stdout, first.stdout, "{arguments:?}");
        }
    }
    project.dmoci(&["wheel", "-o", "o5"]).ok();
    let run = project.dmoci(&["build", "--twice", "-o", "o6"]).ok();
    assert!(run.stderr.contains("twice the same") && run.stdout == first.stdout, "{}", run.stderr);
    assert_eq!(names(&project.path("o6/python")), [WHEEL, SDIST]);
    // What somebody has put there is somebody's.
    project.write("o2/notes.txt", "");
    let run = project.dmoci(&["build"]).ok();
    let wheel = fs::read(project.path("dist/python").join(WHEEL)).unwrap();
    let told = String::from_utf8(members(&wheel)["tide_table/names"].clone()).unwrap();
    let ours: Vec<&str> = told.lines().filter(|line| line.starts_with("./o")).collect();
    assert!(ours == ["./o2", "./o2/notes.txt"] && run.stderr.contains(RUNS), "{told}");
}

#[test]
fn one_version() {
    let Some(project) = project() else { return };
    let run = project.dmoci(&["build"]).ok();
    assert!(!run.stderr.contains("warning"), "{}", run.stderr);
    for command in ["build", "check"] {
        let run = project.dmoci(&[command, "--set", "version=1.5.0"]).ok();
        let words = ["warning: dmoci.toml:22: ", "tide-table 1.4.0", "${version} is 1.5.0"];
        assert!(words.iter().all(|word| run.stderr.contains(word)), "{}", run.stderr);
    }
    assert!(fs::read_to_string(project.path("dist/build.log")).unwrap().contains("${version} is 1.5.0"));
    // Another spelling of the same.
    let run = project.dmoci(&["build", "--set", "version=v1.4"]).ok();
    assert!(!run.stderr.contains("warning"), "{}", run.stderr);
    // What the backend would find out is not known before it runs.
    edit(&project, "pyproject.toml", "version = \"1.4.0\"", "dynamic = [\"version\"]");
    let run = project.dmoci(&["build"]).exits(2);
    assert!(run.stderr.contains("E-SPEC-VERSION") && run.stderr.contains("--set version="), "{}", run.stderr);
}

#[test]
fn without_the_table_what_it_built_goes() {
    let Some(project) = project() else { return };
    let spec = fs::read_to_string(project.path("dmoci.toml")).unwrap();
    project.dmoci(&["build"]).ok();
    assert_eq!(names(&project.path("dist/python")), [WHEEL, SDIST]);
    let wheel = fs::read(project.path("dist/python").join(WHEEL)).unwrap();
    // Not when the build fails.
    edit(&project, "dmoci.toml", "[wheel]\n", "");
    layers(&project, "[[layer]]\nname = \"app\"\nremove = [\"/nothing\"]\n");
    project.dmoci(&["build"]).exits(2);
    assert!(project.path("dist/evidence/python.json").exists());
    layers(&project, "[[layer]]\nname = \"app\"\nfile = [{ path = \"/x\", content = \"\" }]\n");
    project.dmoci(&["build"]).ok();
    assert_eq!(
        names(&project.path("dist")),
        [".gitignore", "build.log", "digests.json", "image"],
        "nothing of it is left"
    );
    // What another command made stays, and so does what the image is made of.
    project.dmoci(&["wheel"]).ok();
    project.dmoci(&["build"]).ok();
    assert_eq!(fs::read(project.path("dist/python").join(WHEEL)).unwrap(), wheel);
    project.write("dmoci.toml", &spec);
    project.dmoci(&["build"]).ok();
    edit(&project, "dmoci.toml", "[wheel]\n", "");
    layers(
        &project,
        &format!("[[layer]]\nname = \"app\"\nwheel = {{ path = \"dist/python/{WHEEL}\", {PYTHON} }}\n"),
    );
    project.dmoci(&["build"]).ok();
    assert_eq!(names(&project.path("dist/python")), [WHEEL, SDIST]);
}

#[test]
fn the_command_alone_goes_by_the_table() {
    let Some(project) = project() else { return };
    let table = "[wheel]\nsource = \"part\"\nsdist = false\n";
    edit(&project, "dmoci.toml", "[wheel]\n", table);
    edit(&project, "dmoci.toml", "python = \"3.13.5\"", "python = \"3.13.5\"\nversion = \"1.4.0\"");
    for name in ["pyproject.toml", "src/tide_table/__init__.py", "tools/backend.py"] {
        project.write(&format!("part/{name}"), fs::read(project.path(name)).unwrap());
        fs::remove_file(project.path(name)).unwrap();
    }
    let built = project.dmoci(&["build"]).ok();
    let alone = project.dmoci(&["wheel", "-o", "alone"]).ok();
    assert_eq!(names(&project.path("alone/python")), [WHEEL]);
    assert_eq!(built.stdout.lines().last(), alone.stdout.lines().last());
    // Without an image, too, and not when it is wrong.
    project.write("dmoci.toml", format!("schema = 1\n{table}"));
    assert_eq!(project.dmoci(&["wheel", "-o", "alone"]).ok().stdout, alone.stdout);
    project.write("dmoci.toml", format!("schema = 1\n{table}normalize = false\n"));
    let run = project.dmoci(&["wheel", "-o", "alone", "--json"]).ok();
    assert!(run.stdout.contains("\"normalized\": false"), "{}", run.stdout);
    project.write("dmoci.toml", format!("schema = 1\n{table}sdits = true\n"));
    let run = project.dmoci(&["wheel"]).exits(2);
    assert!(run.stderr.contains("E-SPEC-KEY") && run.stderr.contains("--> dmoci.toml:5"), "{}", run.stderr);
    project.write("dmoci.toml", "schema = 1\n[wheel]\ntimeout = \"soon\"\n");
    let run = project.dmoci(&["wheel"]).exits(2);
    assert!(run.stderr.contains("E-SPEC-VALUE"), "{}", run.stderr);
    // A file without the table says nothing of it.
    project.write("dmoci.toml", "schema = 1\n[image]\nplatforms = [\"linux/amd64\"]\n");
    project.dmoci(&["wheel", "-C", "part", "-o", "alone"]).ok();
    assert_eq!(names(&project.path("alone/python")), [WHEEL, SDIST]);
}
