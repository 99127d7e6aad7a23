//! A Python application: wheels that a lock file names, and files of its own above them.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use dmoci_layers::Digest;

use crate::Result;
use crate::corpus::{APP_FILES, Layer, Tree, cache, succeed, walk, write_files};
use crate::machine::path_of;
use crate::wheel::Wheel;

/// The Python of Debian bookworm, and its C library.
pub(crate) const VERSION: &str = "3.11.2";
pub(crate) const LIBC: &str = "glibc-2.36";

/// dmoci's spec, and the same without splicing.
pub(crate) const SPEC: &str = "dmoci.toml";
pub(crate) const PLAIN_SPEC: &str = "plain.toml";

/// What is installed, a line for each wheel.
const LIST: &str = "benches/peers/litellm.txt";

const LAYERS: &[Layer] =
    &[Layer { folder: "wheels", target: "/opt/app" }, Layer { folder: "app", target: "/opt/app/src" }];

/// A wheel of the list.
struct Pin {
    name: String,
    version: String,
    digest: Digest,
}

/// litellm with all it needs. The wheels are fetched once.
pub(crate) fn litellm(project: PathBuf) -> Result<(String, Tree)> {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join(LIST);
    let pins = pins(&fs::read_to_string(&list)?)?;
    let kept = cache().join("litellm");
    let wheels = match chosen(&kept, &pins) {
        Ok(wheels) => wheels,
        Err(_) => {
            fetch(&list, &kept)?;
            chosen(&kept, &pins)?
        }
    };
    let main = pins.iter().find(|pin| pin.name == "litellm").ok_or("the list has no litellm")?;
    let name = format!("litellm {} for Python {VERSION}, {} wheels", main.version, pins.len());
    Ok((name, write(project, &pins, &wheels)?))
}

/// A handful of small wheels, one for this platform among them.
pub(crate) fn generated(project: PathBuf, scratch: &Path) -> Result<(String, Tree)> {
    fs::create_dir_all(scratch)?;
    let (mut pins, mut wheels) = (Vec::new(), Vec::new());
    for number in 0..6 {
        let tag = if number == 5 { "cp311-cp311-manylinux_2_17_x86_64" } else { "py3-none-any" };
        let mut wheel = Wheel::new(&format!("part-{number}"), "1.0").tag(tag);
        for file in 0..10 {
            let lines: Vec<String> =
                (0..500 * (file % 3) + 1).map(|line| format!("X{line} = {number}")).collect();
            wheel = wheel.file(&format!("part_{number}/file_{file}.py"), lines.join("\n"));
        }
        let (path, bytes) = (scratch.join(wheel.file_name()), wheel.bytes());
        fs::write(&path, &bytes)?;
        pins.push(Pin {
            name: format!("part-{number}"),
            version: "1.0".into(),
            digest: Digest::sha256(&bytes),
        });
        wheels.push(path);
    }
    Ok((format!("{} generated wheels", pins.len()), write(project, &pins, &wheels)?))
}

/// Reads `NAME==VERSION --hash=sha256:HEX` and comments.
fn pins(text: &str) -> Result<Vec<Pin>> {
    let pin = |line: &str| -> Result<Pin> {
        let parts = line.split_once(" --hash=").and_then(|(pin, hash)| Some((pin.split_once("==")?, hash)));
        let ((name, version), hash) = parts.ok_or_else(|| format!("{LIST}: {line:?} pins nothing"))?;
        Ok(Pin { name: name.to_owned(), version: version.to_owned(), digest: hash.parse()? })
    };
    text.lines().filter(|line| !line.starts_with('#')).map(pin).collect()
}

/// The wheels of a folder that have these digests, in this order.
fn chosen(folder: &Path, pins: &[Pin]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        found.push((Digest::of_reader(dmoci_layers::Algorithm::Sha256, &mut File::open(&path)?)?.0, path));
    }
    let wheel = |pin: &Pin| -> Result<PathBuf> {
        let path = found.iter().find(|(digest, _)| *digest == pin.digest).map(|(_, path)| path.clone());
        path.ok_or_else(|| format!("{} holds no {} {}", folder.display(), pin.name, pin.version).into())
    };
    pins.iter().map(wheel).collect()
}

/// Lets pip download the wheels of the list, which must have the hashes there.
fn fetch(list: &Path, folder: &Path) -> Result<()> {
    eprintln!("  fetching the wheels of {LIST}");
    let mut pip = Command::new(path_of("pip3").ok_or("pip3 is not here")?);
    pip.args(["download", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:", "--dest"])
        .arg(folder);
    // Whatever Python runs pip.
    pip.args(["--implementation=cp", "--python-version=3.11"]);
    for glibc in (17..=36).rev() {
        pip.arg(format!("--platform=manylinux_2_{glibc}_x86_64"));
    }
    pip.arg("--platform=manylinux2014_x86_64").arg("--requirement").arg(list);
    succeed(&mut pip).map(|_| ()).map_err(|error| {
        eprintln!("{error}");
        format!("pip cannot fetch the wheels of {LIST}").into()
    })
}

/// The project: the wheels, the application, and the locks and specs of all contenders.
fn write(project: PathBuf, pins: &[Pin], wheels: &[PathBuf]) -> Result<Tree> {
    let folder = project.join("wheels");
    fs::create_dir_all(&folder)?;
    write_files(&project.join("app"), APP_FILES)?;
    let mut pylock = "lock-version = \"1.0\"\ncreated-by = \"benches/peers\"\n".to_owned();
    let (mut requirements, mut files, mut bytes) = (String::new(), APP_FILES, 0);
    walk(&project.join("app"), &mut |file| {
        bytes += file.metadata()?.len();
        Ok(())
    })?;
    for (Pin { name, version, digest }, wheel) in pins.iter().zip(wheels) {
        let file = wheel.file_name().and_then(|name| name.to_str()).ok_or("a wheel without a name")?;
        let content = fs::read(wheel)?;
        for member in rawzip::ZipArchive::from_slice(&content)?.entries() {
            let member = member?;
            files += u64::from(!member.is_dir());
            bytes += member.uncompressed_size_hint();
        }
        fs::write(folder.join(file), content)?;
        let hex = digest.hex();
        let _ = write!(
            pylock,
            "\n[[packages]]\nname = \"{name}\"\nversion = \"{version}\"\n\
             wheels = [{{ path = \"wheels/{file}\", hashes = {{ sha256 = \"{hex}\" }} }}]\n"
        );
        let _ = writeln!(requirements, "{name}=={version} --hash=sha256:{hex}");
    }
    fs::write(project.join("pylock.toml"), pylock)?;
    fs::write(project.join("requirements.txt"), requirements)?;
    fs::write(project.join(SPEC), spec(""))?;
    fs::write(project.join(PLAIN_SPEC), spec("splice = false\n"))?;
    Ok(Tree { project, layers: LAYERS, files, bytes })
}

/// Without a base: what there will be is said.
fn spec(more: &str) -> String {
    format!(
        "schema = 1\n\n[image]\nname = \"registry.example/bench\"\ntags = [\"1\"]\nplatforms = [\"linux/amd64\"]\n{more}\n\
         [[layer]]\nname = \"dependencies\"\npython = {{ lock = \"pylock.toml\", venv = \"/opt/app\", interpreter = \
         \"/usr/bin/python3\", python-version = \"{VERSION}\", libc = \"{LIBC}\" }}\n\n\
         [[layer]]\nname = \"app\"\ncopy = [{{ from = [\"app/\"], to = \"/opt/app/src\" }}]\n"
    )
}
