//! Writing so that a crash leaves the old or the new, never a part.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// Replaces the file `name` of `directory`: temporary file in `scratch`, fsync, rename, fsync of the directory.
///
/// `scratch` must be on the same file system.
pub fn replace(scratch: &Path, directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = tempfile::Builder::new().prefix(name).tempfile_in(scratch)?;
    temporary.write_all(bytes)?;
    publish(temporary, &directory.join(name))?;
    sync(directory)
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
