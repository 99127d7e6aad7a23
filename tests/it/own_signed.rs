//! Signatures of the project's own distributions, and the builds after them.

use crate::own_wheel::{RUNS, SDIST, WHEEL, edit, names, project};
use crate::support::{Project, Run};

const BUNDLES: [&str; 2] =
    ["tide_table-1.4.0-py3-none-any.whl.sigstore.json", "tide_table-1.4.0.tar.gz.sigstore.json"];

/// The project, with a key pair; nothing without Python.
fn keyed() -> Option<Project> {
    let project = project()?;
    project.write("word", "word\n");
    project.dmoci(&["key", "generate", "--password-file", "word"]).ok();
    Some(project)
}

/// What the shell makes of a line with `dist/python/*` in it.
#[track_caller]
fn all(project: &Project, before: &[&str], folders: &[&str], after: &[&str]) -> Run {
    let mut arguments: Vec<String> = before.iter().map(|&text| text.to_owned()).collect();
    for folder in folders {
        arguments.extend(names(&project.path(folder)).iter().map(|name| format!("{folder}/{name}")));
    }
    arguments.extend(after.iter().map(|&text| text.to_owned()));
    project.dmoci(&arguments)
}

#[track_caller]
fn sign(project: &Project) -> Run {
    all(project, &["sign"], &["dist/python"], &["--key", "dmoci.key", "--password-file", "word"]).ok()
}

fn evidence(project: &Project) -> Vec<String> {
    names(&project.path("dist/evidence")).into_iter().filter(|name| name != "python.json").collect()
}

#[test]
fn signatures_of_distributions_stand_in_nobodys_way() {
    let Some(project) = keyed() else { return };
    for command in ["build", "wheel"] {
        project.dmoci(&[command]).ok();
        let run = sign(&project);
        assert!(run.stderr.contains(&format!("dist/evidence/{}", BUNDLES[0])), "{}", run.stderr);
        // Uploaders take the whole folder.
        assert_eq!(names(&project.path("dist/python")), [WHEEL, SDIST]);
        assert_eq!(evidence(&project), BUNDLES);
        let run = all(&project, &["verify"], &["dist/python"], &["--key", "dmoci.pub"]).ok();
        assert_eq!(run.stdout.matches("\nVERIFIED: ").count(), 2, "{}", run.stdout);
        assert!(sign(&project).stderr.contains("Unchanged"));
        // The same bytes keep them.
        project.dmoci(&[command]).ok();
        assert_eq!(evidence(&project), BUNDLES);
        all(&project, &["verify"], &["dist/python"], &["--key", "dmoci.pub"]).ok();
        // From the folder itself.
        let dist = project.path("dist/python");
        let mut inside = crate::support::dmoci();
        inside.args(["verify", WHEEL, "--key", "../../dmoci.pub"]).current_dir(&dist);
        Run::of(&mut inside).ok();
        // Of other bytes nothing is left that would be wrong.
        edit(&project, "src/tide_table/__init__.py", "def ", "# another\ndef ");
        project.dmoci(&[command]).ok();
        assert_eq!(evidence(&project), [""; 0]);
        let run = all(&project, &["verify"], &["dist/python"], &["--key", "dmoci.pub"]).exits(3);
        assert_eq!(run.stdout.matches("\nSOUND, NOT AUTHENTICATED: ").count(), 2, "{}", run.stdout);
    }
    // What builds of another version leave, and those without `[wheel]`.
    project.dmoci(&["build"]).ok();
    sign(&project);
    edit(&project, "pyproject.toml", "1.4.0", "1.5.0");
    project.dmoci(&["build"]).ok();
    assert_eq!(evidence(&project), [""; 0]);
    sign(&project);
    assert_eq!(evidence(&project).len(), 2);
    project.write("dmoci.toml", "schema = 1\n[image]\nplatforms = [\"linux/amd64\"]\n");
    project.dmoci(&["build"]).ok();
    assert!(!project.path("dist/python").exists() && !project.path("dist/evidence").exists());
}

#[test]
fn what_other_tools_put_beside_a_distribution() {
    let Some(project) = keyed() else { return };
    project.dmoci(&["build"]).ok();
    let beside = |name: &str, ending: &str| format!("dist/python/{name}{ending}");
    for (name, ending) in [(WHEEL, ".publish.attestation"), (SDIST, ".publish.attestation"), (SDIST, ".asc")]
    {
        project.write(&beside(name, ending), "{}");
    }
    let sign = ["sign", &format!("dist/python/{WHEEL}"), "--key", "dmoci.key", "--password-file", "word"];
    let bundle = beside(WHEEL, ".sigstore.json");
    project.dmoci(&[&sign[..], &["--bundle", &bundle]].concat()).ok();
    let before = names(&project.path("dist/python"));
    assert_eq!(before.len(), 6);
    // They are no subjects of their own, as long as what they are about is one.
    let run = all(&project, &["verify"], &["dist/python"], &["--integrity-only"]).ok();
    assert_eq!(run.stderr.matches("Passing over").count(), 4, "{}", run.stderr);
    assert_eq!(run.stdout.matches("\nSOUND: ").count(), 2, "{}", run.stdout);
    project.dmoci(&["verify", &format!("dist/python/{WHEEL}"), &bundle, "--key", "dmoci.pub"]).ok();
    let run = project.dmoci(&["verify", &bundle, "--key", "dmoci.pub"]).exits(3);
    assert!(run.stdout.contains("NOT AUTHENTICATED"), "{}", run.stdout);
    for command in ["build", "wheel"] {
        project.dmoci(&[command]).ok();
        assert_eq!(names(&project.path("dist/python")), before, "{command}");
    }
    // Those of what goes go with it.
    edit(&project, "src/tide_table/__init__.py", "def ", "# another\ndef ");
    project.dmoci(&["build"]).ok();
    assert_eq!(names(&project.path("dist/python")), [WHEEL, SDIST]);
    // Of what is not there they are somebody's; and that is said before anything is built.
    project.write("dist/python/other-1.0.tar.gz.sigstore.json", "{}");
    for command in ["build", "wheel"] {
        let run = project.dmoci(&[command]).exits(2);
        assert!(run.stderr.contains("E-OUTPUT-FOREIGN") && !run.stderr.contains(RUNS), "{}", run.stderr);
    }
}

#[test]
fn signatures_are_no_source() {
    let Some(project) = project() else { return };
    project.dmoci(&["wheel", "-o", "other"]).ok();
    let first = project.dmoci(&["wheel"]).ok();
    project.write(&format!("other/evidence/{}", BUNDLES[0]), "{}");
    project.write(&format!("other/python/{SDIST}.publish.attestation"), "{}");
    assert_eq!(project.dmoci(&["wheel"]).ok().stdout, first.stdout);
}

#[test]
fn a_backend_in_the_output_directory() {
    let Some(project) = project() else { return };
    for command in ["build", "wheel"] {
        let run = project.dmoci(&[command, "-o", "tools"]).exits(2);
        assert!(
            run.stderr.contains("E-SOURCE-OUTPUT") && run.stderr.contains("tools is the output directory"),
            "{}",
            run.stderr
        );
        assert_eq!(names(&project.path("tools")), ["backend.py"]);
    }
    let run = project.dmoci(&["build", "-o", "."]).ok();
    assert!(run.stderr.contains("warning: the output directory is the project directory"), "{}", run.stderr);
    assert!(!project.dmoci(&["build"]).ok().stderr.contains("warning"));
}

#[test]
fn what_git_does_not_track() {
    let Some(project) = project() else { return };
    project.git(&["init", "-q", "."]);
    for command in ["build", "wheel"] {
        let run = project.dmoci(&[command, "--epoch", "1"]).exits(2);
        assert!(run.stderr.contains("E-SOURCE-TRACKED"), "{}", run.stderr);
        let help = ["`git add`", "all-files = true", "--all-files"];
        assert!(help.iter().all(|word| run.stderr.contains(word)), "{}", run.stderr);
    }
    project.dmoci(&["wheel", "--all-files"]).ok();
}

#[test]
fn a_source_that_is_no_directory() {
    let Some(project) = project() else { return };
    project.dmoci(&["wheel"]).ok();
    let (wheel, sdist) = (format!("dist/python/{WHEEL}"), format!("dist/python/{SDIST}"));
    for source in [&*sdist, "nothing"] {
        let run = project.dmoci(&["verify", &wheel, "--rebuild", "--source", source]).exits(2);
        assert!(
            run.stderr.contains("error[E-WHEEL-SOURCE]") && run.stderr.contains("unpack"),
            "{}",
            run.stderr
        );
    }
}

#[test]
fn building_twice_says_what_is_compared() {
    let Some(project) = project() else { return };
    let run = project.dmoci(&["build", "--twice"]).ok();
    assert!(run.stderr.contains("Comparing the two images, wheels and sdists"), "{}", run.stderr);
}
