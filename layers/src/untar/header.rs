//! The fields of one header block.

use super::{TarError, malformed};

/// One header block.
pub(super) struct Block(pub(super) [u8; 512]);

/// Who defined the fields behind the first 257 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Nobody: a V7 header ends there.
    V7,
    /// POSIX.1-1988.
    Ustar,
    /// GNU tar's own.
    Gnu,
    /// star, whose prefix is shorter.
    Star,
}

/// True when all bytes are zero.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&b| b == 0)
}

impl Block {
    /// The block, when its checksum is right: the sum of its bytes, unsigned or, as some old writers, signed.
    pub(super) fn checked(self, offset: u64) -> Result<Block, TarError> {
        let sum = |value: fn(u8) -> i64| -> i64 {
            self.0
                .iter()
                .enumerate()
                .map(|(i, &b)| value(if (148..156).contains(&i) { b' ' } else { b }))
                .sum()
        };
        let unsigned = sum(i64::from);
        let signed = sum(|b| i64::from(b.cast_signed()));
        let found = self.number(148, 8, "checksum", offset);
        if found.as_ref().is_ok_and(|&found| i64::try_from(found).is_ok_and(|n| n == unsigned || n == signed))
        {
            return Ok(self);
        }
        let found = found.map_or_else(|_| self.0[148..156].escape_ascii().to_string(), |n| n.to_string());
        Err(TarError::Checksum { offset, expected: unsigned.unsigned_abs(), found })
    }

    pub(super) fn typeflag(&self) -> u8 {
        self.0[156]
    }

    pub(super) fn format(&self) -> Format {
        match &self.0[257..263] {
            b"ustar\0" if &self.0[508..512] == b"tar\0" => Format::Star,
            b"ustar\0" => Format::Ustar,
            b"ustar " => Format::Gnu,
            _ => Format::V7,
        }
    }

    /// The name with its prefix.
    pub(super) fn path(&self) -> Vec<u8> {
        let name = self.text(0, 100);
        let prefix = match self.format() {
            Format::Ustar => self.text(345, 155),
            Format::Star => self.text(345, 131),
            Format::Gnu | Format::V7 => Vec::new(),
        };
        if prefix.is_empty() { name } else { [&prefix, &b"/"[..], &name].concat() }
    }

    pub(super) fn link(&self) -> Vec<u8> {
        self.text(157, 100)
    }

    pub(super) fn size(&self, offset: u64) -> Result<u64, TarError> {
        self.number(124, 12, "size", offset)
    }

    pub(super) fn mode(&self, offset: u64) -> Result<u32, TarError> {
        let mode = self.number(100, 8, "mode", offset)?;
        u32::try_from(mode).map_err(|_| malformed(offset, "the mode is too large"))
    }

    pub(super) fn mtime(&self, offset: u64) -> Result<i64, TarError> {
        let field = &self.0[136..148];
        if field[0] == 0xff {
            // Base-256, negative: the whole field is one two's complement number.
            let number =
                field[1..].iter().try_fold(-1i64, |n, &b| n.checked_mul(256).map(|n| n | i64::from(b)));
            return number.ok_or_else(|| malformed(offset, "the mtime is out of range"));
        }
        let number = self.number(136, 12, "mtime", offset)?;
        i64::try_from(number).map_err(|_| malformed(offset, "the mtime is out of range"))
    }

    /// The bytes of a field up to the first NUL.
    pub(super) fn text(&self, at: usize, len: usize) -> Vec<u8> {
        let field = &self.0[at..at + len];
        field[..field.iter().position(|&b| b == 0).unwrap_or(len)].to_vec()
    }

    /// An octal number between spaces and NULs, or base-256 when the first bit is set; an empty field is 0.
    pub(super) fn number(&self, at: usize, len: usize, name: &str, offset: u64) -> Result<u64, TarError> {
        let field = &self.0[at..at + len];
        let wrong = || malformed(offset, &format!("the {name} field is no number: {}", field.escape_ascii()));
        if field[0] & 0x80 != 0 {
            let first = u64::from(field[0] & 0x7f);
            if field[0] & 0x40 != 0 {
                return Err(wrong());
            }
            return field[1..]
                .iter()
                .try_fold(first, |n, &b| n.checked_mul(256).map(|n| n | u64::from(b)))
                .ok_or_else(wrong);
        }
        let start = field.iter().position(|&b| b != b' ').unwrap_or(len);
        let digits = &field[start..];
        let end = digits.iter().position(|&b| matches!(b, b' ' | 0)).unwrap_or(digits.len());
        let (digits, rest) = digits.split_at(end);
        if !digits.iter().all(|b| (b'0'..=b'7').contains(b)) || !rest.iter().all(|b| matches!(b, b' ' | 0)) {
            return Err(wrong());
        }
        // At most 12 digits of 3 bits.
        Ok(digits.iter().fold(0, |n, &b| n << 3 | u64::from(b - b'0')))
    }
}
