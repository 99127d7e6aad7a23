//! PAX records: `LENGTH KEY=VALUE\n` (POSIX.1-2017, `pax`, "pax Extended Header").

use super::{TarError, ambiguous, malformed};

/// The most records of one header. A record for each attribute of a file is some dozens.
const RECORDS: usize = 4096;

/// The most records that hold for all members. Each member is compared with all of them.
const GLOBAL_RECORDS: usize = 256;

/// The records of one header, in the order given, each key once.
#[derive(Clone, Default)]
pub(super) struct Records(Vec<(Vec<u8>, Vec<u8>)>);

impl Records {
    /// Reads records strictly: exact lengths without leading zeros, no key twice, no NUL in keys and names.
    pub(super) fn parse(mut content: &[u8], offset: u64) -> Result<Records, TarError> {
        let mut records = Vec::new();
        let mut keys = std::collections::HashSet::new();
        while !content.is_empty() {
            let (key, value, rest) =
                record(content).ok_or_else(|| malformed(offset, "a PAX record is malformed"))?;
            let text = key.starts_with(b"GNU.sparse.")
                || matches!(
                    key,
                    b"path" | b"linkpath" | b"uname" | b"gname" | b"size" | b"uid" | b"gid" | b"mtime"
                );
            if text && value.contains(&0) {
                return Err(malformed(offset, "a NUL byte in a PAX record"));
            }
            if !keys.insert(key) {
                return Err(ambiguous(offset, "a PAX key occurs twice in one header"));
            }
            if records.len() == RECORDS {
                return Err(malformed(offset, "a PAX header of more than 4096 records"));
            }
            records.push((key.to_vec(), value.to_vec()));
            content = rest;
        }
        Ok(Records(records))
    }

    /// Takes over the records of a global header. What names an entry or sizes it may not come from there: some
    /// readers apply global records, some do not.
    pub(super) fn adopt(&mut self, records: Records, offset: u64) -> Result<(), TarError> {
        let decides =
            |key: &[u8]| matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse.");
        if records.0.iter().any(|(key, _)| decides(key)) {
            return Err(ambiguous(offset, "a PAX global header that sets names or sizes"));
        }
        for (key, value) in records.0 {
            self.0.retain(|(old, _)| *old != key);
            if self.0.len() == GLOBAL_RECORDS {
                return Err(malformed(offset, "PAX global headers of more than 256 records"));
            }
            self.0.push((key, value));
        }
        Ok(())
    }

    /// These records, with those of `globals` whose key is not here.
    pub(super) fn over(mut self, globals: &Records) -> Records {
        for (key, value) in &globals.0 {
            if !self.0.iter().any(|(own, _)| own == key) {
                self.0.push((key.clone(), value.clone()));
            }
        }
        self
    }

    /// The value of a key; an empty value stands for "not given".
    pub(super) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.0
            .iter()
            .find(|(own, _)| own == key)
            .map(|(_, value)| value.as_slice())
            .filter(|value| !value.is_empty())
    }

    /// True when a record describes a sparse file.
    pub(super) fn is_sparse(&self) -> bool {
        self.0.iter().any(|(key, _)| key.starts_with(b"GNU.sparse."))
    }

    /// A decimal number.
    pub(super) fn number(&self, key: &[u8], offset: u64) -> Result<Option<u64>, TarError> {
        self.get(key).map(|value| decimal(value).ok_or_else(|| no_number(key, offset))).transpose()
    }

    /// A time: whole seconds, rounded down, and nanoseconds.
    pub(super) fn time(&self, key: &[u8], offset: u64) -> Result<Option<(i64, u32)>, TarError> {
        self.get(key).map(|value| time(value).ok_or_else(|| no_number(key, offset))).transpose()
    }

    /// Extended attributes by name.
    pub(super) fn xattrs(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let xattr = |(key, value): &(Vec<u8>, Vec<u8>)| {
            key.strip_prefix(b"SCHILY.xattr.").map(|name| (name.to_vec(), value.clone()))
        };
        self.0.iter().filter_map(xattr).collect()
    }
}

fn no_number(key: &[u8], offset: u64) -> TarError {
    malformed(offset, &format!("the PAX record {} is no number", key.escape_ascii()))
}

/// One record and what follows it.
fn record(content: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = content.iter().take(21).position(|&b| b == b' ')?;
    let digits = content.get(..space)?;
    if digits.starts_with(b"0") {
        return None;
    }
    let length = usize::try_from(decimal(digits)?).ok()?;
    if length > content.len() {
        return None;
    }
    let (whole, rest) = content.split_at(length);
    let body = whole.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|&b| b == b'=')?;
    let (key, value) = (body.get(..equals)?, body.get(equals + 1..)?);
    if key.is_empty() || key.contains(&0) {
        return None;
    }
    Some((key, value, rest))
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |n, &b| {
        let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
        n.checked_mul(10)?.checked_add(digit)
    })
}

fn time(value: &[u8]) -> Option<(i64, u32)> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let (whole, fraction) = match value.iter().position(|&b| b == b'.') {
        Some(point) => (value.get(..point)?, value.get(point + 1..)?),
        None => (value, &b""[..]),
    };
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |i: usize| u32::from(fraction.get(i).map_or(0, |b| b - b'0'));
    let nanos = (0..9).fold(0, |n, i| n * 10 + digit(i));
    match (negative, nanos) {
        (false, _) => Some((seconds, nanos)),
        (true, 0) => Some((-seconds, 0)),
        (true, _) => Some((-seconds - 1, 1_000_000_000 - nanos)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(count: usize, first: usize) -> Vec<u8> {
        // "14 k00000000=\n": two digits, a space, the key, `=` and a newline.
        (first..first + count).flat_map(|i| format!("14 k{i:08}=\n").into_bytes()).collect()
    }

    #[test]
    fn headers_are_bounded_in_records() {
        assert!(Records::parse(&records(RECORDS, 0), 0).is_ok());
        assert!(Records::parse(&records(RECORDS + 1, 0), 0).is_err());
        let mut globals = Records::default();
        let parsed = |first| Records::parse(&records(GLOBAL_RECORDS, first), 0).unwrap();
        globals.adopt(parsed(0), 0).unwrap();
        // The same keys again replace the old ones; one more does not fit.
        globals.adopt(parsed(0), 0).unwrap();
        assert!(globals.adopt(parsed(1), 0).is_err());
    }
}
