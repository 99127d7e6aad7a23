//! Writing so that a crash leaves the old or the new, never a part; and telling states of a file apart.

mod stamp;

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use dmoci_layers::{Digest, Hasher};

pub use stamp::{Moment, Stamp, Time};

/// Replaces the file `name` of `directory`: temporary file in `scratch`, fsync, rename, fsync of the directory.
///
/// `scratch` must be on the same file system.
pub fn replace(scratch: &Path, directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = tempfile::Builder::new().prefix(name).tempfile_in(scratch)?;
    temporary.write_all(bytes)?;
    publish(temporary, &directory.join(name))?;
    sync(directory)
}

/// Puts a folder in the place of another one, or where none is: in one step where the file system can. The old one has the name of the
/// new one then, or that with `.old`.
pub fn replace_folder(new: &Path, folder: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    let there = fs::symlink_metadata(folder).is_ok();
    let how = if there { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
    match renameat_with(CWD, new, CWD, folder, how) {
        // File systems that cannot do this at once: nobody else is at work here, but a crash between leaves nothing there.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            if there {
                fs::rename(folder, new.with_extension("old"))?;
            }
            fs::rename(new, folder)?;
        }
        other => other?,
    }
    sync(folder.parent().unwrap_or(folder))
}

/// Gives a temporary file its final name, readable by all, with its content on the disk first.
///
/// The caller syncs the directory once all its files are there.
pub fn publish(temporary: tempfile::NamedTempFile, name: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    temporary.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    temporary.as_file().sync_all()?;
    temporary.persist(name).map_err(|error| error.error)?;
    Ok(())
}

/// Writes a directory's list of names to the disk.
pub fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// The digest of a whole file, wherever it stands; `read` hears of every part.
pub fn digest(file: &File, mut read: impl FnMut(u64)) -> io::Result<Digest> {
    let mut hasher = Hasher::sha256();
    let mut buffer = vec![0; 256 << 10];
    let mut at = 0;
    loop {
        match file.read_at(&mut buffer, at) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) => return Ok(hasher.finish()),
            count => {
                let count = count?;
                hasher.update(&buffer[..count]);
                at += count as u64;
                read(count as u64);
            }
        }
    }
}

/// True when the file is there, regular and has exactly these bytes; it is read only when its size is theirs.
pub fn holds(path: &Path, bytes: &[u8]) -> bool {
    let Ok(file) = open_regular(path) else { return false };
    let same_size = file.metadata().is_ok_and(|metadata| metadata.len() == bytes.len() as u64);
    let mut found = Vec::with_capacity(bytes.len());
    same_size && file.take(bytes.len() as u64 + 1).read_to_end(&mut found).is_ok() && found == bytes
}

/// Opens a file that somebody named, through links, and never waits for a pipe's other end. `/dev/null` is an empty file.
pub fn open_named(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    use std::os::unix::fs::FileTypeExt as _;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let kind = file.metadata()?.file_type();
    match kind.is_file() || kind.is_char_device() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")),
    }
}

/// Opens a regular file for reading, never a link and never waiting for a pipe's other end.
pub fn open_regular(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")),
    }
}
