//! OCI image layouts in directories (OCI image-spec 1.1, `image-layout.md`).
//!
//! Everything is opened from the directory downwards, name by name, without following any link: the names are fixed
//! (`blobs`, `sha256`, hexadecimal digits), so that this is all that RESOLVE_BENEATH would give, on every system and
//! in sandboxes that do not know `openat2`. A pipe or device is never opened for longer than it takes to see it.

pub mod write;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use dmoci_layers::{Digest, SafePath};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, openat, statat};

use super::{Backing, Blob, Form, ImageStore, StoreError, blob_name};
use crate::files::Stamp;
use crate::limits;
use crate::oci::Problem;

/// Opens a layout.
pub(super) fn open(path: &Path) -> Result<ImageStore, StoreError> {
    let io = |source: rustix::io::Errno| StoreError::Io { path: path.to_owned(), source: source.into() };
    // The directory itself may be a link: the user named it.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = Arc::new(rustix::fs::open(path, flags, Mode::empty()).map_err(io)?);
    let mut store = ImageStore {
        form: Form::Layout,
        place: path.to_owned(),
        layout_file: None,
        index: Vec::new(),
        docker_manifest: None,
        blobs: BTreeMap::new(),
        strays: Vec::new(),
        problems: Vec::new(),
        members: Vec::new(),
        backing: Backing::Directory(Arc::clone(&root)),
        whole_compressed: false,
        streamed: false,
    };
    let mut index = None;
    for (name, kind) in names(&root, path)? {
        match (name.as_slice(), kind) {
            (b"oci-layout", _) => {
                store.layout_file = Some(read_file(&root, path, "oci-layout", limits::LAYOUT_FILE_BYTES)?);
            }
            (b"index.json", _) => index = Some(read_file(&root, path, "index.json", limits::JSON_BYTES)?),
            (b"blobs", FileType::Directory) => list_blobs(&root, path, &mut store)?,
            (b"blobs", _) => return Err(StoreError::Irregular { path: path.join("blobs") }),
            _ => store.strays.push(shown(&name)),
        }
    }
    let Some(index) = index else {
        // An output directory of dmoci, say.
        let inside = path.join("image");
        let inside = std::fs::symlink_metadata(inside.join("index.json")).is_ok().then_some(inside);
        let (path, why) = (path.to_owned(), "it has no index.json".into());
        return Err(StoreError::NoImage { path, why, inside });
    };
    store.index = index;
    store.strays.sort();
    Ok(store)
}

/// Opens a blob of an open layout.
pub(super) fn open_blob(root: &OwnedFd, place: &Path, digest: &Digest) -> Result<File, StoreError> {
    let blobs = open_directory(root, &place.join("blobs"), "blobs")?;
    let algorithm = digest.algorithm().name();
    let path = place.join("blobs").join(algorithm);
    let directory = open_directory(&blobs, &path, algorithm)?;
    open_file(&directory, &path, digest.hex())
}

/// The state of a blob's file.
pub(super) fn stamp(root: &OwnedFd, digest: &Digest) -> io::Result<Stamp> {
    let path = format!("blobs/{}/{}", digest.algorithm().name(), digest.hex());
    Ok(Stamp::of(&statat(root, path, AtFlags::SYMLINK_NOFOLLOW)?))
}

fn list_blobs(root: &OwnedFd, place: &Path, store: &mut ImageStore) -> Result<(), StoreError> {
    let path = place.join("blobs");
    let blobs = open_directory(root, &path, "blobs")?;
    for (algorithm, kind) in names(&blobs, &path)? {
        let known = matches!(algorithm.as_slice(), b"sha256" | b"sha512") && kind == FileType::Directory;
        let Some(name) = std::str::from_utf8(&algorithm).ok().filter(|_| known) else {
            store.strays.push(format!("blobs/{}", shown(&algorithm)));
            continue;
        };
        let path = path.join(name);
        let directory = open_directory(&blobs, &path, name)?;
        for (file, kind) in names(&directory, &path)? {
            let here = || format!("blobs/{name}/{}", shown(&file));
            match blob_name(&algorithm, &file) {
                Some(digest) if kind == FileType::RegularFile => {
                    let stat = statat(&directory, digest.hex(), AtFlags::SYMLINK_NOFOLLOW);
                    let stat = stat.map_err(|source| StoreError::Io {
                        path: path.join(digest.hex()),
                        source: source.into(),
                    })?;
                    let size = u64::try_from(stat.st_size).unwrap_or(0);
                    store.blobs.insert(digest, Blob::File { size });
                }
                Some(_) => {
                    let text = "a blob that is a link or another thing than a file: it is not opened";
                    let problem = Problem::error("E-LAYOUT-IRREGULAR", "", text)
                        .but("a regular file", format!("{kind:?}"));
                    store.problems.push((here(), problem));
                }
                None => store.strays.push(here()),
            }
        }
    }
    Ok(())
}

/// The names in a directory with their types, sorted.
fn names(directory: &OwnedFd, path: &Path) -> Result<Vec<(Vec<u8>, FileType)>, StoreError> {
    let io = |source: rustix::io::Errno| StoreError::Io { path: path.to_owned(), source: source.into() };
    let mut names = Vec::new();
    for entry in Dir::read_from(directory).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => {
                let stat = statat(directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW).map_err(io)?;
                FileType::from_raw_mode(stat.st_mode)
            }
            kind => kind,
        };
        names.push((name.to_vec(), kind));
        if names.len() > limits::LAYOUT_NAMES {
            let why = format!("a directory of it holds more than {} names", limits::LAYOUT_NAMES);
            return Err(StoreError::NoImage { path: path.to_owned(), why, inside: None });
        }
    }
    names.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(names)
}

fn open_directory(parent: &OwnedFd, path: &Path, name: &str) -> Result<OwnedFd, StoreError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty()).map_err(|source| refused(path, source))
}

/// Opens a regular file, never a link and never waiting for a pipe's other end.
fn open_file(directory: &OwnedFd, path: &Path, name: &str) -> Result<File, StoreError> {
    let path = path.join(name);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file =
        openat(directory.as_fd(), name, flags, Mode::empty()).map_err(|source| refused(&path, source))?;
    let stat = fstat(&file).map_err(|source| refused(&path, source))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(File::from(file)),
        _ => Err(StoreError::Irregular { path }),
    }
}

fn refused(path: &Path, source: rustix::io::Errno) -> StoreError {
    let path = path.to_owned();
    match source {
        rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR | rustix::io::Errno::NXIO => {
            StoreError::Irregular { path }
        }
        _ => StoreError::Io { path, source: source.into() },
    }
}

fn read_file(root: &OwnedFd, place: &Path, name: &str, limit: u64) -> Result<Vec<u8>, StoreError> {
    let file = open_file(root, place, name)?;
    let mut bytes = Vec::new();
    let read: io::Result<usize> = file.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|source| StoreError::Io { path: place.join(name), source })?;
    if bytes.len() as u64 > limit {
        let why = format!("its {name} is larger than {limit} bytes");
        return Err(StoreError::NoImage { path: place.to_owned(), why, inside: None });
    }
    Ok(bytes)
}

/// A file name for printing.
fn shown(name: &[u8]) -> String {
    SafePath::parse(name)
        .map_or_else(|_| name.escape_ascii().to_string(), |path| path.to_string()[1..].to_owned())
}
