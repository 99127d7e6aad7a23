//! A small ELF file that is linked to others.

/// A library of 64 or 32 bits, with the larger or the smaller byte first, that needs these libraries, and of the first of them these
/// versions. Nothing of it can be run.
pub(crate) fn elf((wide, large_first): (bool, bool), libraries: &[&str], versions: &[&str]) -> Vec<u8> {
    /// Where it is loaded to.
    const BASE: u64 = 0x1_0000;
    let (word, header, segment) = if wide { (8, 64, 56) } else { (4, 52, 32) };
    let number = |value: u64, size: usize| {
        let mut bytes = value.to_le_bytes()[..size].to_vec();
        if large_first {
            bytes.reverse();
        }
        bytes
    };
    let mut texts = vec![0];
    let mut text = |text: &str| {
        let at = texts.len() as u64;
        texts.extend(text.as_bytes());
        texts.push(0);
        at
    };
    let needed: Vec<u64> = libraries.iter().map(|name| text(name)).collect();
    let named: Vec<u64> = versions.iter().map(|name| text(name)).collect();
    // Elfxx_Verneed, and an Elfxx_Vernaux for each version.
    let mut verneed = Vec::new();
    if !named.is_empty() {
        for (value, size) in [
            (1, 2),
            (named.len() as u64, 2),
            (needed.first().copied().unwrap_or_default(), 4),
            (16, 4),
            (0, 4),
        ] {
            verneed.extend(number(value, size));
        }
    }
    for (at, name) in named.iter().enumerate() {
        let next = if at + 1 == named.len() { 0 } else { 16 };
        for (value, size) in [(0, 4), (0, 2), (2, 2), (*name, 4), (next, 4)] {
            verneed.extend(number(value, size));
        }
    }
    let texts_at = header as u64 + 2 * segment as u64;
    let verneed_at = texts_at + texts.len() as u64;
    let dynamic_at = verneed_at + verneed.len() as u64;
    let mut tags: Vec<(u64, u64)> = needed.iter().map(|at| (1, *at)).collect();
    tags.extend([(5, BASE + texts_at), (10, texts.len() as u64)]);
    if !named.is_empty() {
        tags.extend([(0x6fff_fffe, BASE + verneed_at), (0x6fff_ffff, 1)]);
    }
    tags.push((0, 0));
    let dynamic: Vec<u8> =
        tags.iter().flat_map(|(tag, value)| [number(*tag, word), number(*value, word)].concat()).collect();
    let end = dynamic_at + dynamic.len() as u64;
    let mut file = vec![0x7f, b'E', b'L', b'F', 1 + u8::from(wide), 1 + u8::from(large_first), 1];
    file.resize(16, 0);
    // Type, machine, version; entry, program headers, section headers; flags, and sizes and counts.
    for (value, size) in [(3, 2), (62, 2), (1, 4), (0, word), (header as u64, word), (0, word), (0, 4)] {
        file.extend(number(value, size));
    }
    for value in [header as u64, segment as u64, 2, 0, 0, 0] {
        file.extend(number(value, 2));
    }
    for (kind, at, length) in [(1, 0, end), (2, dynamic_at, dynamic.len() as u64)] {
        let (address, flags) = (BASE + at, (4, 4));
        let places = [(at, word), (address, word), (address, word), (length, word), (length, word)];
        file.extend(number(kind, 4));
        if wide {
            file.extend(number(flags.0, flags.1));
        }
        places.iter().for_each(|(value, size)| file.extend(number(*value, *size)));
        if !wide {
            file.extend(number(flags.0, flags.1));
        }
        file.extend(number(0x1000, word));
    }
    assert_eq!(file.len() as u64, texts_at);
    [file, texts, verneed, dynamic].concat()
}
