//! The fields of two entries of one path.

use dmoci_layers::untar::MemberKind;

use super::entries::Found;
use super::report::Field;
use super::value::{one, pair, text};
use crate::oci::timestamp::rfc3339;

/// A field with its values on both sides.
pub(super) type Told = (Field, Option<String>, Option<String>);

/// Tells every field that differs, in the order of [`Field`]; contents are not looked at.
///
/// Of entries of two kinds the fields that only one kind has are not told: that one is a file with content and the
/// other a directory is one difference.
pub(super) fn compare(left: &Found, right: &Found) -> Vec<Told> {
    let mut told = Vec::new();
    let mut tell = |field, left: String, right: String| {
        if left != right {
            let (left, right) = pair(&left, &right);
            told.push((field, Some(left), Some(right)));
        }
    };
    let kinds = (kind(left), kind(right));
    let same_kind = kinds.0 == kinds.1;
    tell(Field::Kind, kinds.0.to_owned(), kinds.1.to_owned());
    tell(Field::Mode, format!("{:04o}", left.mode), format!("{:04o}", right.mode));
    tell(Field::Uid, left.uid.to_string(), right.uid.to_string());
    tell(Field::Gid, left.gid.to_string(), right.gid.to_string());
    tell(Field::Uname, text(&left.uname), text(&right.uname));
    tell(Field::Gname, text(&left.gname), text(&right.gname));
    if same_kind {
        tell(Field::Size, left.size.to_string(), right.size.to_string());
        tell(Field::Target, target(left), target(right));
        tell(Field::Device, device(left), device(right));
    }
    tell(Field::Mtime, time(left.mtime), time(right.mtime));
    xattrs(left, right, &mut told);
    told
}

/// What an entry is, in one word.
pub(super) fn kind(found: &Found) -> &'static str {
    match (&found.kind, found.path.name().strip_prefix(b".wh.")) {
        (MemberKind::File, Some(b".wh..opq")) => "opaque mark",
        (MemberKind::File, Some(_)) => "whiteout",
        (MemberKind::File, None) => "file",
        (MemberKind::HardLink { .. }, _) => "hard link",
        (MemberKind::Symlink { .. }, _) => "symbolic link",
        (MemberKind::Directory, _) => "directory",
        (MemberKind::CharDevice { .. }, _) => "character device",
        (MemberKind::BlockDevice { .. }, _) => "block device",
        (MemberKind::Fifo, _) => "named pipe",
        (MemberKind::Other(_), _) => "entry of an unknown kind",
    }
}

fn target(found: &Found) -> String {
    match &found.kind {
        MemberKind::HardLink { target } | MemberKind::Symlink { target } => text(target),
        _ => String::new(),
    }
}

/// The numbers of a device, and of an unknown kind its letter.
fn device(found: &Found) -> String {
    match found.kind {
        MemberKind::CharDevice { major, minor } | MemberKind::BlockDevice { major, minor } => {
            format!("{major}:{minor}")
        }
        MemberKind::Other(flag) => text(&[flag]),
        _ => String::new(),
    }
}

/// RFC 3339 where it reaches, else seconds.
fn time((seconds, nanos): (i64, u32)) -> String {
    let fraction = match nanos {
        0 => String::new(),
        nanos => format!(".{nanos:09}"),
    };
    match u64::try_from(seconds).ok().and_then(rfc3339) {
        Some(text) => format!("{}{fraction}Z", text.trim_end_matches('Z')),
        None => format!("{seconds}{fraction} s"),
    }
}

/// Both lists are sorted.
fn xattrs(left: &Found, right: &Found, told: &mut Vec<Told>) {
    let (mut l, mut r) = (left.xattrs.iter().peekable(), right.xattrs.iter().peekable());
    while let Some(name) = match (l.peek(), r.peek()) {
        (Some((l, _)), Some((r, _))) => Some(l.min(r)),
        (Some((name, _)), None) | (None, Some((name, _))) => Some(name),
        (None, None) => None,
    } {
        let name: &[u8] = name;
        let left = l.next_if(|(own, _)| own == name).map(|(_, value)| text(value));
        let right = r.next_if(|(own, _)| own == name).map(|(_, value)| text(value));
        if left == right {
            continue;
        }
        let (left, right) = match (left, right) {
            (Some(left), Some(right)) => {
                let (left, right) = pair(&left, &right);
                (Some(left), Some(right))
            }
            (left, right) => (left.map(|value| one(&value)), right.map(|value| one(&value))),
        };
        told.push((Field::Xattr(one(&text(name))), left, right));
    }
}
