//! Tar entries with any field, which no honest writer would write.

/// Entries, without the end of an archive.
pub(crate) struct Raw(pub(crate) Vec<u8>);

impl Raw {
    pub(crate) fn file(name: &str, content: &[u8]) -> Raw {
        Raw::typed(b'0', name, content)
    }

    pub(crate) fn typed(typeflag: u8, name: &str, content: &[u8]) -> Raw {
        let mut bytes = header(name, typeflag, content.len() as u64, |_| ());
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        Raw(bytes)
    }

    /// A header that announces content which does not follow.
    pub(crate) fn sized(typeflag: u8, name: &str, size: u64) -> Raw {
        Raw(header(name, typeflag, size, |_| ()))
    }

    pub(crate) fn link(typeflag: u8, name: &str, target: &str) -> Raw {
        Raw(header(name, typeflag, 0, |block| {
            block[157..157 + target.len()].copy_from_slice(target.as_bytes())
        }))
    }

    pub(crate) fn moded(name: &str, mode: u32) -> Raw {
        Raw(header(name, b'0', 0, |block| block[100..107].copy_from_slice(format!("{mode:07o}").as_bytes())))
    }

    pub(crate) fn device(typeflag: u8, name: &str, major: u32, minor: u32) -> Raw {
        Raw(header(name, typeflag, 0, |block| {
            block[329..336].copy_from_slice(format!("{major:07o}").as_bytes());
            block[337..344].copy_from_slice(format!("{minor:07o}").as_bytes());
        }))
    }

    /// The archive of these entries.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// A PAX header with these records.
pub(crate) fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let mut content = String::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while rest + length.to_string().len() != length {
            length += 1;
        }
        content += &format!("{length} {key}={value}\n");
    }
    Raw::typed(b'x', "././@PaxHeader", content.as_bytes()).0
}

fn header(name: &str, typeflag: u8, size: u64, change: impl FnOnce(&mut [u8; 512])) -> Vec<u8> {
    let mut block = [0u8; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(b"0000644");
    block[108..115].copy_from_slice(b"0000000");
    block[116..123].copy_from_slice(b"0000000");
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[136..147].copy_from_slice(b"02263777600");
    block[156] = typeflag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    change(&mut block);
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block.to_vec()
}
