//! The trees that images are made of: a Debian root file system with Python, and generated ones.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;

/// The suite of Debian that is made.
const SUITE: &str = "bookworm";

/// What an image is made of: folders of a project, each of which is one layer.
pub(crate) struct Tree {
    /// The project: `dmoci.toml`, `Dockerfile`, and the folders.
    pub(crate) project: PathBuf,
    /// The layers, the lowest first.
    pub(crate) layers: &'static [Layer],
    /// Files in all layers.
    pub(crate) files: u64,
    /// Bytes in all files.
    pub(crate) bytes: u64,
}

/// One folder that becomes one layer.
pub(crate) struct Layer {
    /// Its name in the project.
    pub(crate) folder: &'static str,
    /// Where it goes in the image.
    pub(crate) target: &'static str,
}

const DEPENDENCIES_AND_APP: &[Layer] =
    &[Layer { folder: "dependencies", target: "/" }, Layer { folder: "app", target: "/opt/app" }];
const FILES: &[Layer] = &[Layer { folder: "files", target: "/srv/files" }];

/// Files of the application.
pub(crate) const APP_FILES: u64 = 40;

impl Tree {
    /// An operating system below a small application.
    pub(crate) fn debian(project: PathBuf, tar: &Path) -> Result<Tree> {
        let dependencies = project.join("dependencies");
        fs::create_dir_all(&dependencies)?;
        // Without devices, which nobody needs in an image and some refuse.
        let mut unpack = Command::new("tar");
        unpack.args(["--numeric-owner", "--exclude=./dev/*", "-xpf"]).arg(tar).arg("-C").arg(&dependencies);
        succeed(&mut unpack)?;
        write_files(&project.join("app"), APP_FILES)?;
        Tree::of(project, DEPENDENCIES_AND_APP)
    }

    /// A layer of `files` small files below a small application.
    pub(crate) fn generated(project: PathBuf, files: u64) -> Result<Tree> {
        write_files(&project.join("dependencies"), files)?;
        write_files(&project.join("app"), APP_FILES)?;
        Tree::of(project, DEPENDENCIES_AND_APP)
    }

    /// One layer of so many small files.
    pub(crate) fn small_files(project: PathBuf, files: u64) -> Result<Tree> {
        write_files(&project.join("files"), files)?;
        Tree::of(project, FILES)
    }

    /// One layer with one file of so many bytes.
    pub(crate) fn one_file(project: PathBuf, bytes: u64) -> Result<Tree> {
        let folder = project.join("files");
        fs::create_dir_all(&folder)?;
        let mut out = BufWriter::with_capacity(1 << 20, File::create(folder.join("one"))?);
        Content::new().write(bytes, &mut out)?;
        out.flush()?;
        Tree::of(project, FILES)
    }

    fn of(project: PathBuf, layers: &'static [Layer]) -> Result<Tree> {
        let (mut spec, mut docker) = (SPEC.to_owned(), "FROM scratch\n".to_owned());
        let (mut files, mut bytes) = (0, 0);
        for Layer { folder, target } in layers {
            spec += &format!(
                "\n[[layer]]\nname = \"{folder}\"\ncopy = [{{ from = [\"{folder}/\"], to = \"{target}\" }}]\n"
            );
            docker += &format!("COPY {folder}/ {target}\n");
            walk(&project.join(folder), &mut |file| {
                files += 1;
                bytes += file.metadata()?.len();
                Ok(())
            })?;
        }
        fs::write(project.join("dmoci.toml"), spec)?;
        fs::write(project.join("Dockerfile"), docker)?;
        Ok(Tree { project, layers, files, bytes })
    }

    /// Changes one file of the last layer, for the `round`th time.
    pub(crate) fn change(&self, round: usize) -> Result<()> {
        let folder = self.layers.last().map_or("", |layer| layer.folder);
        Ok(fs::write(self.project.join(folder).join("changed.txt"), format!("change {round}\n"))?)
    }

    /// Reads every file once, so that all find them in memory.
    pub(crate) fn warm(&self) -> Result<()> {
        let mut read = |file: &Path| io::copy(&mut File::open(file)?, &mut io::sink()).map(|_| ());
        self.layers.iter().try_for_each(|layer| walk(&self.project.join(layer.folder), &mut read))
    }
}

const SPEC: &str = r#"schema = 1

[image]
name = "registry.example/bench"
tags = ["1"]
platforms = ["linux/amd64"]
entrypoint = ["/opt/app/run"]
"#;

/// The tar of a Debian root file system with Python, kept between runs beside that of the tests.
pub(crate) fn root_file_system() -> Result<PathBuf> {
    let cache = cache();
    let tar = cache.join(format!("debian-{SUITE}-python.tar"));
    if !tar.is_file() {
        fs::create_dir_all(&cache)?;
        let part = cache.join(format!("debian-{SUITE}-python.{}.part.tar", std::process::id()));
        let mut make = Command::new("mmdebstrap");
        make.args(["--variant=minbase", "--include=python3,python3-pip", SUITE]).arg(&part).args(sources()?);
        succeed(&mut make)?;
        fs::rename(&part, &tar)?;
    }
    Ok(tar)
}

/// What is kept between runs.
pub(crate) fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache");
    std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("dmoci-ci")
}

/// The machine's own files of package sources that name the suite; none means the default of mmdebstrap.
fn sources() -> Result<Vec<PathBuf>> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
    }
    files.sort();
    let suites = ["", "-updates", "-security"].map(|of| format!("{SUITE}{of}"));
    files.retain(|file| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let lines = text.lines().filter(|line| line.starts_with("deb ") || line.starts_with("Suites:"));
        lines.flat_map(str::split_whitespace).any(|word| suites.iter().any(|suite| suite == word))
    });
    Ok(files)
}

/// Small files, a hundred in a directory and a hundred directories in another, of 200 to 2,247 bytes each.
pub(crate) fn write_files(folder: &Path, files: u64) -> Result<()> {
    let mut content = Content::new();
    let mut bytes = Vec::new();
    for number in 0..files {
        let directory = folder.join(format!("{:03}/{:02}", number / 10_000, number / 100 % 100));
        if number % 100 == 0 {
            fs::create_dir_all(&directory)?;
        }
        bytes.clear();
        let length = 200 + (content.next() >> 53);
        content.write(length, &mut bytes)?;
        fs::write(directory.join(format!("file-{number:07}.txt")), &bytes)?;
    }
    Ok(())
}

/// Bytes that compress about as programs do, the same on every run: words by a fixed recurrence, the frequent ones
/// more often, and noise in every eighth block of 64 KiB.
struct Content {
    state: u64,
    words: Vec<Vec<u8>>,
    left_of_block: u64,
    block: u64,
}

const BLOCK: u64 = 64 << 10;

impl Content {
    fn new() -> Content {
        let mut content =
            Content { state: 0x9e37_79b9_7f4a_7c15, words: Vec::new(), left_of_block: BLOCK, block: 0 };
        for _ in 0..4096 {
            let length = 3 + content.next() % 10;
            let mut word: Vec<u8> = (0..length).map(|_| b'a' + (content.next() >> 32) as u8 % 26).collect();
            word.push(b' ');
            content.words.push(word);
        }
        content
    }

    /// Writes exactly so many bytes.
    fn write(&mut self, bytes: u64, out: &mut dyn Write) -> io::Result<()> {
        let mut left = bytes;
        while left > 0 {
            let number = self.next();
            let noise = number.to_le_bytes();
            let word = match self.block % 8 {
                7 => &noise[..],
                // The square makes small numbers likely.
                _ => &self.words[(((number >> 52) * ((number >> 40) & 0xfff)) >> 12) as usize],
            };
            let length = word.len() as u64;
            out.write_all(&word[..length.min(left) as usize])?;
            left = left.saturating_sub(length);
            self.left_of_block = self.left_of_block.saturating_sub(length);
            if self.left_of_block == 0 {
                (self.block, self.left_of_block) = (self.block + 1, BLOCK);
            }
        }
        Ok(())
    }

    /// xorshift64* (Vigna, 2014).
    fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// Every regular file below a directory.
pub(crate) fn walk(directory: &Path, each: &mut dyn FnMut(&Path) -> io::Result<()>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(&entry.path(), each)?;
        } else if kind.is_file() {
            each(&entry.path())?;
        }
    }
    Ok(())
}

/// Runs a command that is not measured and must end well.
pub(crate) fn succeed(command: &mut Command) -> Result<String> {
    let output = command.stdin(std::process::Stdio::null()).output();
    let output = output.map_err(|error| format!("cannot run {command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("{command:?}: {}\n{said}", output.status).into())
        }
    }
}
