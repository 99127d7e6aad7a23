//! The tar form of entries: POSIX.1-1988 ustar, with POSIX.1-2001 (PAX) records only where a field needs one.
//!
//! One entry has exactly one form. Rules `1`:
//!
//! * names are raw bytes; a directory ends in `/`, the root is `./`;
//! * a name over 100 bytes is split at the first `/` that leaves at most 100 bytes behind it and at most
//!   155 before it; where there is none, a PAX `path` record holds it;
//! * a link target over 100 bytes is a PAX `linkpath`, a size over 8 GiB - 1 a PAX `size`, an owner over
//!   2,097,151 a PAX `uid` or `gid`; the header field then holds what fits (names cut, numbers 0);
//! * extended attributes are PAX records `SCHILY.xattr.NAME`; records are sorted by key; where a value of
//!   `path` or `linkpath` is not UTF-8, the record `hdrcharset=BINARY` says so;
//! * a whiteout has mode 0, owner 0:0 and no attributes;
//! * the PAX header is called `././@PaxHeader`, mode 0644;
//! * the time is [`MTIME`], owner names are empty, device numbers are zero but for devices;
//! * contents are padded with zeros to 512 bytes, and the archive ends in two zero blocks and nothing more.

use std::borrow::Cow;

use crate::MTIME;
use crate::entry::{Entry, EntryKind, SafePath};

/// The unit of tar: every header is one block, every content is padded to whole blocks.
pub const BLOCK: usize = 512;

/// What stands behind the last entry.
pub const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

const PAX_NAME: &[u8] = b"././@PaxHeader";
const OCTAL_7: u64 = 0o7_777_777;
const OCTAL_11: u64 = 0o77_777_777_777;

/// Why an entry has no tar form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TarError {
    /// Permission bits other than `0o7777`.
    #[error("{path}: mode {mode:o} is more than permission bits")]
    Mode {
        /// The entry.
        path: SafePath,
        /// Its mode.
        mode: u32,
    },
    /// A device number over 2,097,151.
    #[error("{path}: device number {major}:{minor} is larger than tar can hold")]
    Device {
        /// The entry.
        path: SafePath,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A link target that is empty or holds a NUL byte.
    #[error("{0}: the link target is empty or holds a NUL byte")]
    Target(SafePath),
    /// An extended attribute's name that is empty, holds `=`, NUL or newline, is not UTF-8 or occurs twice.
    #[error("{path}: the extended attribute {name:?} cannot be written")]
    Xattr {
        /// The entry.
        path: SafePath,
        /// The name, as far as it is text.
        name: String,
    },
    /// A whiteout of the root.
    #[error("the root directory cannot be whited out")]
    RootWhiteout,
}

/// Appends the header blocks of `entry` to `out`: one, or three and more when PAX records are needed.
///
/// The content of a file, padded by [`padding`], is to follow.
pub fn write_header(entry: &Entry, out: &mut Vec<u8>) -> Result<(), TarError> {
    write_header_at(entry, MTIME, out)
}

/// The same with another time, in seconds since 1970-01-01T00:00:00Z; what does not fit is the largest that does.
pub(crate) fn write_header_at(entry: &Entry, time: u64, out: &mut Vec<u8>) -> Result<(), TarError> {
    let time = time.min(OCTAL_11);
    let fields = Fields::new(entry)?;
    let mut pax = Pax::default();
    let mut block = [0u8; BLOCK];

    if !put_name(&mut block, &fields.name) {
        pax.text("path", &fields.name);
    }
    if fields.link.len() > 100 {
        pax.text("linkpath", fields.link);
    }
    put(&mut block, 157, &fields.link[..fields.link.len().min(100)]);
    put_octal(&mut block, 100, 7, fields.mode.into());
    put_octal(&mut block, 108, 7, pax.number("uid", fields.uid, OCTAL_7));
    put_octal(&mut block, 116, 7, pax.number("gid", fields.gid, OCTAL_7));
    put_octal(&mut block, 124, 11, pax.number("size", fields.size, OCTAL_11));
    put_octal(&mut block, 136, 11, time);
    block[156] = fields.typeflag;
    put_octal(&mut block, 329, 7, fields.major.into());
    put_octal(&mut block, 337, 7, fields.minor.into());
    seal(&mut block);

    let hidden = matches!(entry.kind, EntryKind::Whiteout | EntryKind::Opaque);
    for (name, value) in entry.xattrs.iter().filter(|_| !hidden) {
        let bad = name.is_empty() || name.iter().any(|b| matches!(b, b'=' | 0 | b'\n'));
        let error =
            || TarError::Xattr { path: entry.path.clone(), name: String::from_utf8_lossy(name).into() };
        let text = std::str::from_utf8(name).map_err(|_| error())?;
        if bad || !pax.add(format!("SCHILY.xattr.{text}"), value.clone()) {
            return Err(error());
        }
    }
    pax.write(time, out);
    out.extend_from_slice(&block);
    Ok(())
}

/// Number of zero bytes that follow `size` bytes of content.
pub fn padding(size: u64) -> usize {
    // The remainder is below 512.
    (BLOCK - (size % BLOCK as u64) as usize) % BLOCK
}

/// What the header of an entry says, before it is known what fits.
struct Fields<'a> {
    name: Cow<'a, [u8]>,
    link: &'a [u8],
    typeflag: u8,
    mode: u32,
    uid: u64,
    gid: u64,
    size: u64,
    major: u32,
    minor: u32,
}

impl<'a> Fields<'a> {
    fn new(entry: &'a Entry) -> Result<Fields<'a>, TarError> {
        let path = &entry.path;
        if entry.mode & !0o7777 != 0 {
            return Err(TarError::Mode { path: path.clone(), mode: entry.mode });
        }
        let mut fields = Fields {
            name: path.as_bytes().into(),
            link: &[],
            typeflag: b'0',
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            size: 0,
            major: 0,
            minor: 0,
        };
        let device = |major: u32, minor: u32| {
            if u64::from(major.max(minor)) > OCTAL_7 {
                return Err(TarError::Device { path: path.clone(), major, minor });
            }
            Ok((major, minor))
        };
        match &entry.kind {
            EntryKind::Directory => {
                fields.typeflag = b'5';
                fields.name = match path.is_root() {
                    true => b"./".into(),
                    false => [path.as_bytes(), b"/"].concat().into(),
                };
            }
            EntryKind::File { size } => fields.size = *size,
            EntryKind::HardLink { target } => {
                fields.typeflag = b'1';
                fields.link = target.as_bytes();
            }
            EntryKind::Symlink { target } => {
                fields.typeflag = b'2';
                fields.mode = 0o777;
                fields.link = target;
            }
            EntryKind::CharDevice { major, minor } => {
                fields.typeflag = b'3';
                (fields.major, fields.minor) = device(*major, *minor)?;
            }
            EntryKind::BlockDevice { major, minor } => {
                fields.typeflag = b'4';
                (fields.major, fields.minor) = device(*major, *minor)?;
            }
            EntryKind::Whiteout => {
                let parent = path.parent().ok_or(TarError::RootWhiteout)?;
                fields.hide(&parent, &[b".wh.", path.name()].concat());
            }
            EntryKind::Opaque => fields.hide(path, b".wh..wh..opq"),
        }
        if matches!(fields.typeflag, b'1' | b'2') && (fields.link.is_empty() || fields.link.contains(&0)) {
            return Err(TarError::Target(path.clone()));
        }
        Ok(fields)
    }

    fn hide(&mut self, directory: &SafePath, name: &[u8]) {
        (self.mode, self.uid, self.gid) = (0, 0, 0);
        self.name = match directory.is_root() {
            true => name.to_vec().into(),
            false => [directory.as_bytes(), b"/", name].concat().into(),
        };
    }
}

/// PAX records, sorted by key, each key once.
#[derive(Default)]
struct Pax(std::collections::BTreeMap<String, Vec<u8>>);

impl Pax {
    /// False when the key is there already.
    fn add(&mut self, key: String, value: Vec<u8>) -> bool {
        self.0.insert(key, value).is_none()
    }

    fn text(&mut self, key: &str, value: &[u8]) {
        if std::str::from_utf8(value).is_err() {
            self.add("hdrcharset".into(), b"BINARY".to_vec());
        }
        self.add(key.into(), value.to_vec());
    }

    /// What the header field holds: the value when it fits, else 0 beside a record.
    fn number(&mut self, key: &str, value: u64, most: u64) -> u64 {
        if value <= most {
            return value;
        }
        self.add(key.into(), value.to_string().into_bytes());
        0
    }

    fn write(&self, time: u64, out: &mut Vec<u8>) {
        if self.0.is_empty() {
            return;
        }
        let mut records = Vec::new();
        for (key, value) in &self.0 {
            // "<length> <key>=<value>\n", where the length counts its own digits.
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while rest + length.to_string().len() != length {
                length = rest + length.to_string().len();
            }
            records.extend_from_slice(format!("{length} {key}=").as_bytes());
            records.extend_from_slice(value);
            records.push(b'\n');
        }
        let mut block = [0u8; BLOCK];
        put(&mut block, 0, PAX_NAME);
        put_octal(&mut block, 100, 7, 0o644);
        put_octal(&mut block, 108, 7, 0);
        put_octal(&mut block, 116, 7, 0);
        put_octal(&mut block, 124, 11, records.len() as u64);
        put_octal(&mut block, 136, 11, time);
        block[156] = b'x';
        put_octal(&mut block, 329, 7, 0);
        put_octal(&mut block, 337, 7, 0);
        seal(&mut block);
        out.extend_from_slice(&block);
        out.extend_from_slice(&records);
        out.resize(out.len() + padding(records.len() as u64), 0);
    }
}

/// Fills the name and prefix fields; false when they cannot hold the name.
fn put_name(block: &mut [u8; BLOCK], name: &[u8]) -> bool {
    if name.len() <= 100 {
        put(block, 0, name);
        return true;
    }
    // The slash that ends a directory is no place to split: nothing would be left behind it.
    let inner = &name[..name.len() - 1];
    let split = inner.iter().enumerate().find(|&(i, &b)| b == b'/' && name.len() - i - 1 <= 100);
    match split {
        Some((at, _)) if (1..=155).contains(&at) => {
            put(block, 345, &name[..at]);
            put(block, 0, &name[at + 1..]);
            true
        }
        _ => {
            put(block, 0, &name[..100]);
            false
        }
    }
}

fn put(block: &mut [u8; BLOCK], at: usize, bytes: &[u8]) {
    block[at..at + bytes.len()].copy_from_slice(bytes);
}

/// `digits` octal digits; the NUL behind them is there already.
fn put_octal(block: &mut [u8; BLOCK], at: usize, digits: usize, value: u64) {
    let mut rest = value;
    for byte in block[at..at + digits].iter_mut().rev() {
        *byte = b'0' + (rest & 7) as u8;
        rest >>= 3;
    }
}

fn seal(block: &mut [u8; BLOCK]) {
    put(block, 257, b"ustar\x0000");
    put(block, 148, b"        ");
    let sum: u64 = block.iter().map(|&b| u64::from(b)).sum();
    put_octal(block, 148, 6, sum);
    block[154] = 0;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &[u8], kind: EntryKind) -> Entry {
        let path = SafePath::parse(path).unwrap();
        Entry { path, kind, mode: 0o644, uid: 0, gid: 0, xattrs: Vec::new() }
    }

    fn header(entry: &Entry) -> Vec<u8> {
        let mut out = Vec::new();
        write_header(entry, &mut out).unwrap();
        out
    }

    #[test]
    fn names_split_at_the_first_slash_that_fits() {
        let file = EntryKind::File { size: 0 };
        let deep = [b"d".repeat(60), b"e".repeat(60), b"f".repeat(60)].join(&b'/');
        let out = header(&entry(&deep, file.clone()));
        assert_eq!(out.len(), BLOCK);
        assert_eq!(out[345..345 + 121], deep[..121]);
        // 155 bytes of prefix, 100 of name, and one more of each.
        for (prefix, name, blocks) in [(155, 100, 1), (156, 100, 3), (155, 101, 3)] {
            let path = [b"p".repeat(prefix), b"n".repeat(name)].join(&b'/');
            assert_eq!(header(&entry(&path, file.clone())).len(), blocks * BLOCK, "{prefix} {name}");
        }
        // A directory's last slash counts, and is never where it splits.
        let path = [b"p".repeat(100), b"n".repeat(100)].join(&b'/');
        assert_eq!(header(&entry(&path, EntryKind::Directory)).len(), 3 * BLOCK);
        assert_eq!(header(&entry(&[b'n'; 100], EntryKind::Directory)).len(), 3 * BLOCK);
    }

    #[test]
    fn what_does_not_fit_is_a_pax_record() {
        let mut big = entry(b"big", EntryKind::File { size: 8 << 30 });
        big.uid = 1 << 40;
        big.xattrs =
            vec![(b"user.b".to_vec(), b"\0\xff".to_vec()), (b"security.capability".to_vec(), b"x".to_vec())];
        let out = header(&big);
        let records = &out[BLOCK..2 * BLOCK];
        let expected: &[u8] = b"34 SCHILY.xattr.security.capability=x\n";
        // The length counts itself: 34 would be wrong.
        assert_ne!(&records[..expected.len()], expected);
        let expected: &[u8] =
            b"38 SCHILY.xattr.security.capability=x\n26 SCHILY.xattr.user.b=\0\xff\n19 size=8589934592\n21 uid=1099511627776\n";
        assert_eq!(&records[..expected.len()], expected);
        assert!(records[expected.len()..].iter().all(|&b| b == 0));
        assert_eq!(&out[2 * BLOCK + 124..2 * BLOCK + 135], b"00000000000");
        assert_eq!(header(&entry(b"f", EntryKind::File { size: (8 << 30) - 1 })).len(), BLOCK);
    }

    #[test]
    fn names_that_are_not_utf8() {
        assert_eq!(&header(&entry(b"a\xff", EntryKind::Directory))[..4], b"a\xff/\0");
        let out = header(&entry(&[0xff; 200], EntryKind::File { size: 0 }));
        assert!(out[BLOCK..].starts_with(b"21 hdrcharset=BINARY\n210 path=\xff"));
    }

    #[test]
    fn hidden_paths() {
        assert!(header(&entry(b"a/b", EntryKind::Whiteout)).starts_with(b"a/.wh.b\0"));
        assert!(header(&entry(b"b", EntryKind::Whiteout)).starts_with(b".wh.b\0"));
        assert!(header(&entry(b"a", EntryKind::Opaque)).starts_with(b"a/.wh..wh..opq\0"));
        assert!(header(&entry(b"", EntryKind::Directory)).starts_with(b"./\0"));
    }

    #[test]
    fn refused() {
        let refused = |change: &dyn Fn(&mut Entry), kind: EntryKind| {
            let mut entry = entry(b"x", kind);
            change(&mut entry);
            write_header(&entry, &mut Vec::new()).unwrap_err()
        };
        let twice = |e: &mut Entry| e.xattrs = vec![(b"a".to_vec(), vec![]), (b"a".to_vec(), vec![])];
        assert!(matches!(refused(&twice, EntryKind::Directory), TarError::Xattr { .. }));
        let equals = |e: &mut Entry| e.xattrs = vec![(b"a=b".to_vec(), vec![])];
        assert!(matches!(refused(&equals, EntryKind::Directory), TarError::Xattr { .. }));
        assert!(matches!(refused(&|e| e.mode = 0o100_644, EntryKind::Directory), TarError::Mode { .. }));
        assert!(matches!(refused(&|_| (), EntryKind::Symlink { target: vec![] }), TarError::Target(_)));
        let device = EntryKind::CharDevice { major: 1 << 30, minor: 0 };
        assert!(matches!(refused(&|_| (), device), TarError::Device { .. }));
    }
}
