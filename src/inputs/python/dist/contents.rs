//! What a distribution holds and when it was made, to compare it with another.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use dmoci_layers::Digest;
use dmoci_layers::zip::ZipTime;
use rawzip::{RECOMMENDED_BUFFER_SIZE, ZipArchive};

use super::{DistKind, Sdist, SdistFile};
use crate::inputs::InputError;
use crate::inputs::python::wheel::{Wheel, fault};
use crate::limits;

/// A sound distribution, whole in memory.
#[derive(Clone, Debug)]
pub struct Contents {
    /// Every file but RECORD, by its path; a symbolic link has its target.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The time of its first member, in seconds since 1970-01-01T00:00:00Z.
    pub time: u64,
    /// What WHEEL says made it: a name and a version, such as `hatchling` and `1.27.0`.
    pub generator: Option<(String, String)>,
}

impl Contents {
    /// Reads all of it: at most [`limits::SDIST_BYTES`].
    pub fn read(kind: DistKind, file: &File, path: &Path, digest: &Digest) -> Result<Contents, InputError> {
        let io = |source| InputError::Io { path: path.to_owned(), source };
        let copy = file.try_clone().map_err(io)?;
        match kind {
            DistKind::Sdist => {
                let (sdist, time) = Sdist::with_time(copy, path)?;
                let file = |(path, file): (dmoci_layers::SafePath, SdistFile)| {
                    let name = String::from_utf8_lossy(path.as_bytes()).into_owned();
                    match file {
                        SdistFile::Directory => None,
                        SdistFile::File { content, .. } => Some((name, content)),
                        SdistFile::Symlink(target) => Some((name, target)),
                    }
                };
                Ok(Contents {
                    files: sdist.files.into_iter().filter_map(file).collect(),
                    time,
                    generator: None,
                })
            }
            DistKind::Wheel => {
                let wheel = Wheel::read(copy, path.to_owned(), digest.clone())?;
                if wheel.size() > limits::SDIST_BYTES {
                    return Err(
                        fault(format!("it unpacks to more than {} bytes", limits::SDIST_BYTES)).of(path)
                    );
                }
                let mut files = BTreeMap::new();
                for (name, entry) in &wheel.files {
                    let content = wheel.member(name, entry).read(limits::SDIST_BYTES);
                    files.insert(name.clone(), content.map_err(|wrong| wrong.of(path))?);
                }
                let made = files.get(&format!("{}.dist-info/WHEEL", wheel.stem));
                let generator = made.and_then(|text| generator(&String::from_utf8_lossy(text)));
                Ok(Contents { files, time: first(file).map_err(io)?, generator })
            }
        }
    }
}

/// `Generator: NAME VERSION` or `NAME (VERSION)`.
fn generator(text: &str) -> Option<(String, String)> {
    let value = text.lines().find_map(|line| line.strip_prefix("Generator:"))?;
    let (name, version) = value.trim().split_once(' ')?;
    Some((name.to_owned(), version.trim_matches(['(', ')']).to_owned()))
}

/// The time of the first member of the central directory of a zip archive that is sound.
fn first(file: &File) -> io::Result<u64> {
    let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
    let archive = ZipArchive::from_file(file.try_clone()?, &mut buffer).map_err(io::Error::other)?;
    let mut fields = [0; 4];
    file.read_exact_at(&mut fields, archive.directory_offset() + 12)?;
    let [time, date] = [0, 2].map(|at| u16::from_le_bytes([fields[at], fields[at + 1]]));
    Ok(ZipTime::from_fields(date, time).seconds())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generators() {
        let pair = |name: &str, version: &str| Some((name.to_owned(), version.to_owned()));
        assert_eq!(
            generator("Wheel-Version: 1.0\nGenerator: hatchling 1.27.0\n"),
            pair("hatchling", "1.27.0")
        );
        assert_eq!(generator("Generator: setuptools (80.9.0)\n"), pair("setuptools", "80.9.0"));
        assert_eq!(generator("Generator: hand\n"), None);
    }
}
