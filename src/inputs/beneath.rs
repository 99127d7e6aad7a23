//! Opening a path that must stay beneath a directory, links within it followed.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2, readlinkat};
use rustix::io::Errno;

/// Opens `path` from `root`. What leads out of it, absolute links too, is [`Errno::XDEV`].
///
/// Linux before 5.6 and some sandboxes have no `openat2`; there the same is done name by name.
pub(super) fn open(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    match openat2(root, path, flags, Mode::empty(), beneath) {
        Err(Errno::NOSYS) => walk(root, path, flags),
        // Older filters of system calls refuse what they do not know, even this.
        Err(Errno::PERM)
            if openat2(root, ".", OFlags::PATH, Mode::empty(), beneath).err() == Some(Errno::PERM) =>
        {
            walk(root, path, flags)
        }
        opened => opened,
    }
}

/// As many links as Linux follows.
const LINKS: usize = 40;

/// Every directory on the way is held open, so `..` leads back where the walk came from, whatever is renamed meanwhile.
fn walk(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut above: Vec<OwnedFd> = Vec::new();
    let mut names = VecDeque::new();
    put(&mut names, path.as_os_str())?;
    let mut links = LINKS;
    while let Some(name) = names.pop_front() {
        if name == ".." {
            above.pop().ok_or(Errno::XDEV)?;
            continue;
        }
        let here = above.last().map_or(root, AsFd::as_fd);
        let last = names.is_empty();
        let on_the_way = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = match last && flags.contains(OFlags::NOFOLLOW) {
            true => return openat(here, &name, flags, Mode::empty()),
            false => match readlinkat(here, &name, Vec::new()) {
                Ok(target) => {
                    links = links.checked_sub(1).ok_or(Errno::LOOP)?;
                    put(&mut names, &OsString::from_vec(target.into_bytes()))?;
                    continue;
                }
                // No link.
                Err(Errno::INVAL) if last => {
                    return openat(here, &name, flags | OFlags::NOFOLLOW, Mode::empty());
                }
                Err(Errno::INVAL) => openat(here, &name, on_the_way | OFlags::NOFOLLOW, Mode::empty())?,
                Err(error) => return Err(error),
            },
        };
        above.push(opened);
    }
    openat(above.last().map_or(root, AsFd::as_fd), ".", flags, Mode::empty())
}

/// Puts the names of a path before those that are still to come.
fn put(names: &mut VecDeque<OsString>, path: &OsStr) -> Result<(), Errno> {
    let bytes = path.as_bytes();
    match bytes {
        [] => return Err(Errno::NOENT),
        [b'/', ..] => return Err(Errno::XDEV),
        _ => {}
    }
    for name in bytes.rsplit(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")) {
        names.push_front(OsStr::from_bytes(name).to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    /// What was opened, as the kernel names it, or why not.
    fn shown(opened: Result<OwnedFd, Errno>) -> Result<std::path::PathBuf, Errno> {
        use std::os::fd::AsRawFd as _;
        opened.map(|fd| fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap())
    }

    #[test]
    fn name_by_name_is_as_the_kernel_does_it() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        fs::create_dir_all(root.join("a/b/c")).unwrap();
        for file in ["outside", "root/file", "root/a/b/file"] {
            fs::write(outer.path().join(file), file).unwrap();
        }
        for (link, target) in [
            ("up", ".."),
            ("out", "../outside"),
            ("absolute", "/etc"),
            ("loop", "loop"),
            ("to-file", "a/b/file"),
            ("to-folder", "./a//b/"),
            ("a/back", "../file"),
            ("a/b/c/two-up", "../../back"),
            ("dangling", "nothing"),
            ("chain", "to-folder/c/two-up"),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        let fd = OwnedFd::from(File::open(&root).unwrap());
        let kinds = [
            OFlags::PATH,
            OFlags::PATH | OFlags::NOFOLLOW,
            OFlags::RDONLY | OFlags::NONBLOCK,
            OFlags::RDONLY | OFlags::DIRECTORY,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY,
        ];
        let mut outcomes = std::collections::BTreeSet::new();
        for path in [
            "",
            ".",
            "..",
            "/",
            "/etc",
            "file",
            "./file",
            "file/",
            "file/x",
            "a",
            "a/",
            "a/..",
            "a/../..",
            "a/b/file",
            "a/b/c/..",
            "a/b/../../file",
            "missing",
            "missing/x",
            "up",
            "up/outside",
            "out",
            "absolute",
            "absolute/passwd",
            "loop",
            "loop/x",
            "to-file",
            "to-file/x",
            "to-folder",
            "to-folder/file",
            "to-folder/../..",
            "to-folder/../../..",
            "a/back",
            "a/b/c/two-up",
            "dangling",
            "chain",
        ] {
            for flags in kinds {
                let flags = flags | OFlags::CLOEXEC;
                let expected = shown(open(fd.as_fd(), Path::new(path), flags));
                let found = shown(walk(fd.as_fd(), Path::new(path), flags));
                outcomes.insert(format!("{:?}", expected.as_ref().map(|_| ())));
                // Of `file/` the kernel wants a directory; to open the file then does no harm.
                let slash = path.ends_with('/') && expected == Err(Errno::NOTDIR);
                assert!(
                    found == expected || slash,
                    "{path:?} {flags:?}: {found:?}, the kernel: {expected:?}"
                );
            }
        }
        // Found, missing, out, a loop, not a directory, at the least.
        assert!(outcomes.len() >= 5, "{outcomes:?}");
    }
}
