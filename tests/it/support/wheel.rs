//! Wheels made from files: the same bytes every time, on every machine.
#![allow(dead_code, reason = "each binary of tests uses a part")]

use dmoci_layers::Digest;

/// A wheel that is being made.
#[derive(Clone, Debug)]
pub(crate) struct Wheel {
    pub(crate) name: String,
    pub(crate) version: String,
    tag: String,
    metadata: String,
    files: Vec<(String, Vec<u8>, u32)>,
}

impl Wheel {
    /// With nothing in it but METADATA and WHEEL.
    pub(crate) fn new(name: &str, version: &str) -> Wheel {
        let metadata = format!("Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n");
        Wheel {
            name: name.replace(['-', '.'], "_"),
            version: version.to_owned(),
            tag: "py3-none-any".to_owned(),
            metadata,
            files: Vec::new(),
        }
    }

    /// For another tag than `py3-none-any`.
    pub(crate) fn tag(mut self, tag: &str) -> Wheel {
        self.tag = tag.to_owned();
        self
    }

    /// With one more line of METADATA.
    pub(crate) fn metadata(mut self, line: &str) -> Wheel {
        self.metadata += &format!("{line}\n");
        self
    }

    /// With a file.
    pub(crate) fn file(self, path: &str, content: impl Into<Vec<u8>>) -> Wheel {
        self.mode(path, content, 0o644)
    }

    /// With a file of this mode.
    pub(crate) fn mode(mut self, path: &str, content: impl Into<Vec<u8>>, mode: u32) -> Wheel {
        self.files.push((path.to_owned(), content.into(), mode));
        self
    }

    /// With a file in `.data`.
    pub(crate) fn data(self, path: &str, content: impl Into<Vec<u8>>) -> Wheel {
        let path = format!("{}-{}.data/{path}", self.name, self.version);
        self.file(&path, content)
    }

    /// With a file in `.dist-info`.
    pub(crate) fn info(self, path: &str, content: impl Into<Vec<u8>>) -> Wheel {
        let path = format!("{}-{}.dist-info/{path}", self.name, self.version);
        self.file(&path, content)
    }

    /// The file name.
    pub(crate) fn file_name(&self) -> String {
        format!("{}-{}-{}.whl", self.name, self.version, self.tag)
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.bytes_but(|_| {})
    }

    /// The bytes, with members changed after RECORD was made.
    pub(crate) fn bytes_but(&self, change: impl Fn(&mut Part)) -> Vec<u8> {
        let (platform, tag) = (!self.tag.ends_with("-any"), &self.tag);
        let wheel = format!(
            "Wheel-Version: 1.0\nGenerator: dmoci fixtures\nRoot-Is-Purelib: {}\nTag: {tag}\n",
            !platform
        );
        let mut all = self.clone().info("METADATA", self.metadata.as_str()).info("WHEEL", wheel);
        all.files.sort();
        let mut record = String::new();
        for (path, content, _) in &all.files {
            let path = if path.contains(',') { format!("\"{path}\"") } else { path.clone() };
            record += &format!("{path},sha256={},{}\n", base64(content), content.len());
        }
        let path = format!("{}-{}.dist-info/RECORD", self.name, self.version);
        record += &format!("{path},,\n");
        let mut parts: Vec<Part> = all.file(&path, record).files.iter().map(Part::new).collect();
        parts.iter_mut().for_each(change);
        zip_of(&parts)
    }
}

/// The SHA-256 of a content as RECORD has it: URL-safe base64 without padding.
fn base64(content: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digest = Digest::sha256(content);
    let bits: String =
        digest.hex().chars().map(|digit| format!("{:04b}", digit.to_digit(16).unwrap())).collect();
    let bits = format!("{bits}00");
    (0..bits.len())
        .step_by(6)
        .map(|at| char::from(ALPHABET[usize::from_str_radix(&bits[at..at + 6], 2).unwrap()]))
        .collect()
}

/// A member of a zip archive.
pub(crate) struct Part {
    pub(crate) path: String,
    /// 8 for deflate, 0 for none.
    pub(crate) method: u16,
    pub(crate) data: Vec<u8>,
    pub(crate) crc: u32,
    pub(crate) size: u32,
    mode: u32,
}

impl Part {
    /// Deflated where that makes it smaller.
    fn new((path, content, mode): &(String, Vec<u8>, u32)) -> Part {
        let (path, mode) = (path.clone(), *mode);
        let mut part = Part { path, method: 8, data: deflated(content), crc: 0, size: 0, mode };
        if part.data.len() >= content.len() {
            (part.method, part.data) = (0, content.clone());
        }
        part.says(content);
        part
    }

    /// With the size and CRC-32 of this content.
    pub(crate) fn says(&mut self, content: &[u8]) {
        (self.size, self.crc) = (content.len() as u32, libdeflater::crc32(content));
    }
}

/// A deflate stream of this content.
pub(crate) fn deflated(content: &[u8]) -> Vec<u8> {
    let mut deflate = libdeflater::Compressor::new(libdeflater::CompressionLvl::new(6).unwrap());
    let mut packed = vec![0; deflate.deflate_compress_bound(content.len())];
    let length = deflate.deflate_compress(content, &mut packed).unwrap();
    packed.truncate(length);
    packed
}

/// A zip archive of these files in this order, deflated where that makes them smaller.
pub(crate) fn zip(files: &[(String, Vec<u8>, u32)]) -> Vec<u8> {
    zip_of(&files.iter().map(Part::new).collect::<Vec<_>>())
}

fn zip_of(parts: &[Part]) -> Vec<u8> {
    // 1980-01-02, the earliest day that is one in every time zone.
    const TIME: [u8; 4] = [0, 0, 0x22, 0];
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for Part { path, method, data, crc, size, mode } in parts {
        let mut header = Vec::new();
        header.extend(0x0800u16.to_le_bytes());
        header.extend(method.to_le_bytes());
        header.extend(TIME);
        header.extend(crc.to_le_bytes());
        header.extend((data.len() as u32).to_le_bytes());
        header.extend(size.to_le_bytes());
        header.extend((path.len() as u16).to_le_bytes());
        header.extend([0, 0]);
        directory.extend(b"PK\x01\x02\x14\x03\x14\0");
        directory.extend(&header);
        directory.extend([0; 6]);
        directory.extend(((0o100_000 | mode) << 16).to_le_bytes());
        directory.extend((bytes.len() as u32).to_le_bytes());
        directory.extend(path.bytes());
        bytes.extend(b"PK\x03\x04\x14\0");
        bytes.extend(header);
        bytes.extend(path.bytes());
        bytes.extend(data);
    }
    let (start, count) = (bytes.len() as u32, parts.len() as u16);
    bytes.extend(&directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend(count.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    bytes.extend((directory.len() as u32).to_le_bytes());
    bytes.extend(start.to_le_bytes());
    bytes.extend([0, 0]);
    bytes
}
