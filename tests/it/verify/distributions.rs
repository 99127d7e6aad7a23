//! `verify` on wheels and source distributions, as a user sees it.

use std::fs;
use std::io::Write as _;

use dmoci_layers::Digest;

use crate::support::Project;
use crate::support::wheel::Wheel;

const WHEEL: &str = "demo_app-1.0-py3-none-any.whl";
const SDIST: &str = "demo_app-1.0.tar.gz";

fn wheel() -> Wheel {
    Wheel::new("demo-app", "1.0").file("demo/__init__.py", "print('demo')\n")
}

/// A `.tar.gz` of these files, as any tar program writes it.
fn targz(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o664);
        header.set_mtime(1_600_000_000);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    gzip.write_all(&tar.into_inner().unwrap()).unwrap();
    gzip.finish().unwrap()
}

fn sdist() -> Vec<u8> {
    targz(&[
        ("demo_app-1.0/PKG-INFO", "Metadata-Version: 2.2\nName: demo-app\nVersion: 1.0\n"),
        ("demo_app-1.0/pyproject.toml", "[project]\n"),
    ])
}

fn project() -> Project {
    Project::new().file(WHEEL, wheel().bytes()).file(SDIST, sdist())
}

#[test]
fn a_sound_wheel() {
    let project = project();
    let digest = Digest::sha256(&wheel().bytes());
    let run = project.dmoci(&["verify", WHEEL]).exits(3);
    assert_eq!(
        run.stdout,
        format!(
            "{WHEEL}
  wheel demo-app 1.0 for py3-none-any
    file     {digest}
  container     pass    4 files, 421 bytes
  record        pass
  metadata      pass
  names         pass
  version       skipped no version was asked for
  signatures    skipped no key or identity was given
  authenticity  skipped no digest, list, key or identity was given: anyone could have made this file
  canonical: no, because
    a member has other flags: sizes behind the data, say
SOUND, NOT AUTHENTICATED: {WHEEL}
"
        )
    );
    project.dmoci(&["verify", "--integrity-only", WHEEL, SDIST]).ok();
    project.dmoci(&["verify", "--expect-version", "1.0", "--integrity-only", WHEEL, SDIST]).ok();
    let run = project.dmoci(&["verify", "--expect-version", "1.1", WHEEL]).exits(1);
    assert!(run.stdout.contains("error[E-VERSION]") && run.stdout.contains("MISMATCH"), "{}", run.stdout);
}

/// Nothing builds an image again from a source tree.
#[test]
fn rebuilding_images() {
    let project = project();
    project.write("dmoci.toml", "schema = 1\n[image]\nplatforms = [\"linux/amd64\"]\n");
    project.dmoci(&["build"]).ok();
    project.dmoci(&["export", "dist/image", "-o", "oci-archive:image.tar"]).ok();
    for image in ["dist/image", "oci:dist/image", "image.tar", "oci-archive:image.tar"] {
        let run = project.dmoci(&["verify", "--rebuild", "--source", ".", image]).exits(2);
        assert!(run.stdout.is_empty(), "{}", run.stdout);
        let said = [
            "error[E-REBUILD]",
            " is no wheel and no source distribution",
            "help: --rebuild is for wheels and source distributions",
        ];
        said.iter().for_each(|said| assert!(run.stderr.contains(said), "{said} in {}", run.stderr));
    }
}

#[test]
fn what_the_operator_holds() {
    let project = project();
    let [wheel, sdist] = [wheel().bytes(), sdist()].map(|bytes| Digest::sha256(&bytes));
    let run = project.dmoci(&["verify", &format!("{WHEEL}@{wheel}")]).ok();
    assert!(run.stdout.contains("  authenticated by the digest"), "{}", run.stdout);
    let run = project.dmoci(&["verify", &format!("{SDIST}@{wheel}")]).exits(1);
    assert!(run.stdout.contains("E-SELECT") && run.stdout.contains("MISMATCH"), "{}", run.stdout);
    project.write("SUMS", format!("{}  {WHEEL}\n{}  dist/{SDIST}\n", wheel.hex(), sdist.hex()));
    let run = project.dmoci(&["verify", "--against", "SUMS", WHEEL, SDIST]).ok();
    assert!(run.stdout.contains("a list that is itself not signed"), "{}", run.stdout);
    project.write("SUMS", format!("{}  {SDIST}\n", wheel.hex()));
    let run = project.dmoci(&["verify", "--against", "SUMS", SDIST]).exits(1);
    assert!(run.stdout.contains("E-AGAINST"), "{}", run.stdout);
    project.write("SUMS", format!("{}  other\n", Digest::sha256(b"x").hex()));
    let run = project.dmoci(&["verify", "--against", "SUMS", SDIST]).exits(3);
    assert!(run.stdout.contains("E-UNCOVERED"), "{}", run.stdout);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let project = project();
    // One byte of a stored content.
    let mut bytes = wheel().bytes();
    let at = bytes.windows(5).position(|part| part == b"'demo").unwrap();
    bytes[at + 1] = b'D';
    project.write(WHEEL, &bytes);
    let run = project.dmoci(&["verify", WHEEL]).exits(1);
    assert!(
        run.stdout.contains("error[E-ZIP]") && run.stdout.contains("in demo/__init__.py"),
        "{}",
        run.stdout
    );
    assert!(run.stdout.contains("canonical: no, because\n    it is damaged or malformed"), "{}", run.stdout);
    // Another name than inside; a name that is none.
    project.write("other-1.0-py3-none-any.whl", wheel().bytes());
    let run = project.dmoci(&["verify", "other-1.0-py3-none-any.whl"]).exits(1);
    assert!(run.stdout.contains("error[E-DIST-NAME]"), "{}", run.stdout);
    project.write("download", wheel().bytes());
    let run = project.dmoci(&["verify", "download"]).exits(1);
    assert!(run.stdout.contains("is not that of a wheel"), "{}", run.stdout);
    // No wheel at all.
    project.write(WHEEL, b"x");
    let run = project.dmoci(&["verify", WHEEL]).exits(1);
    assert!(run.stdout.contains("error[E-ZIP]"), "{}", run.stdout);
}

#[test]
fn a_compressed_archive_of_an_image_is_none() {
    let project =
        Project::new().file("image-1.0.tar.gz", targz(&[("oci-layout", "{}"), ("index.json", "{}")]));
    let run = project.dmoci(&["verify", "image-1.0.tar.gz"]);
    assert!(!run.stdout.contains("sdist") && run.exit == 1, "{} {}", run.stdout, run.stderr);
    let project = Project::new().file("image-1.0.tar.gz", targz(&[("other/x", "")]));
    let run = project.dmoci(&["verify", "image-1.0.tar.gz"]).exits(1);
    assert!(run.stdout.contains("sdist") && run.stdout.contains("E-METADATA"), "{}", run.stdout);
    fs::remove_file(project.path("image-1.0.tar.gz")).unwrap();
    project.dmoci(&["verify", "image-1.0.tar.gz"]).exits(6);
}
