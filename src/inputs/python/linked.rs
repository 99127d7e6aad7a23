//! What the programs and libraries of a wheel need of the system, and whether an image has it: what auditwheel looks at when
//! it gives a wheel its tag.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::elf::Needs;
use super::error::{Kind as Code, PythonError};
use super::target::{Libc, PythonTarget};
use super::wheel::{Fault, Shelf, Wheel, WheelFile};
use crate::cache::{KeyWriter, Kind};
use crate::inputs::InputError;

/// The most libraries of a wheel that are known by name; the largest need some dozens.
const LIBRARIES: usize = 1024;

/// The libraries that are the GNU C Library, by the beginnings of their names.
const GLIBC: [&str; 10] = [
    "libc.so.6",
    "libm.so.6",
    "libdl.so.2",
    "libpthread.so.0",
    "librt.so.1",
    "libutil.so.1",
    "libresolv.so.2",
    "libanl.so.1",
    "libmvec.so.1",
    "ld-linux",
];

/// Those that are musl.
const MUSL: [&str; 3] = ["libc.musl-", "ld-musl-", "libc.so"];

/// Libraries of drivers: the machine that runs an image puts them in.
const DRIVERS: [&str; 2] = ["libcuda.so.", "libnvidia-"];

/// What a wheel is linked to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Linked {
    /// The libraries that are needed, and the first file that needs each.
    libraries: BTreeMap<String, String>,
    /// The latest version of the GNU C Library, and the first file that needs it.
    glibc: Option<(u32, u32, String)>,
}

impl Wheel {
    /// What it is linked to. Of a wheel for every platform that is not asked: what it may bring for some is not all used.
    pub fn linked(&self, shelf: Shelf<'_>) -> Result<Linked, InputError> {
        if self.name.tags.iter().any(|(_, _, platform)| platform == "any") {
            return Ok(Linked::default());
        }
        let memory = shelf.memory().and_then(|(cache, since)| {
            let mut key = KeyWriter::new(Kind::Archive, since);
            key.bytes(b"what a wheel is linked to");
            key.bytes(self.digest().to_string().as_bytes());
            Some((key.finish()?, cache))
        });
        if let Some(known) = memory.as_ref().and_then(|(key, cache)| cache.get(Kind::Archive, key)) {
            return Ok(known);
        }
        let mut linked = Linked::default();
        for (name, file) in self.files.iter().filter(|(name, file)| is_asked(name, file)) {
            if let Some(needs) = self.needs(name, file).map_err(|fault| fault.of(self.path()))? {
                linked.add(name, needs);
            }
        }
        if let Some((key, cache)) = memory {
            cache.put(Kind::Archive, &key, &linked);
        }
        Ok(linked)
    }

    /// Whether its tags say nothing of a C library, though it is for one platform.
    pub fn names_no_libc(&self) -> bool {
        self.name.tags.iter().all(|(_, _, platform)| platform.starts_with("linux_"))
    }

    fn needs(&self, name: &str, file: &WheelFile) -> Result<Option<Needs>, Fault> {
        let member = self.member(name, file).unhashed();
        Needs::read(|places| {
            let end = places.iter().map(|place| place.end).max().unwrap_or_default();
            let mut found: Vec<Vec<u8>> = vec![Vec::new(); places.len()];
            let mut reader = member.open().take(end);
            let mut buffer = vec![0; 64 << 10];
            let mut at = 0u64;
            loop {
                let count = match reader.read(&mut buffer) {
                    Ok(0) => return Ok(found),
                    Ok(count) => count as u64,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(Fault::Read(error)),
                };
                for (place, found) in places.iter().zip(&mut found) {
                    let part = |bound: u64| (bound.clamp(at, at + count) - at) as usize;
                    let Range { start, end } = part(place.start)..part(place.end);
                    found.extend_from_slice(&buffer[start..end.max(start)]);
                }
                at += count;
            }
        })
    }
}

/// Whether a file may be a program or a library.
fn is_asked(name: &str, file: &WheelFile) -> bool {
    let last = name.rsplit('/').next().unwrap_or(name);
    file.executable || last.ends_with(".so") || last.contains(".so.") || name.contains(".data/scripts/")
}

fn begins(library: &str, all: &[&str]) -> bool {
    all.iter().any(|begin| library.starts_with(begin))
}

fn is_musl(library: &str) -> bool {
    library == "libc.so" || !library.starts_with("libc.so") && begins(library, &MUSL)
}

impl Linked {
    fn add(&mut self, file: &str, needs: Needs) {
        for library in needs.libraries {
            if self.libraries.len() < LIBRARIES {
                self.libraries.entry(library).or_insert_with(|| file.to_owned());
            }
        }
        if let Some((major, minor)) = needs.glibc
            && self.glibc.as_ref().is_none_or(|(a, b, _)| (*a, *b) < (major, minor))
        {
            self.glibc = Some((major, minor, file.to_owned()));
        }
    }

    /// Refuses a wheel that is built against another C library than that of the image, or a later one.
    pub fn check(&self, wheel: &str, python: &PythonTarget) -> Result<(), PythonError> {
        let of = |all: &dyn Fn(&str) -> bool| {
            self.libraries
                .iter()
                .find(|(library, _)| all(library))
                .map(|(library, file)| (library.clone(), file))
        };
        let version =
            || self.glibc.as_ref().map(|(major, minor, file)| (format!("glibc {major}.{minor}"), file));
        let of_glibc = || of(&|library| begins(library, &GLIBC)).or_else(version);
        let needed = match python.libc {
            None => version().or_else(of_glibc).or_else(|| of(&is_musl)),
            Some(Libc::Musl { .. }) => of_glibc(),
            Some(Libc::Glibc { major, minor }) => match &self.glibc {
                Some((a, b, _)) if (*a, *b) > (major, minor) => version(),
                _ => of(&is_musl),
            },
        };
        let Some((what, file)) = needed else { return Ok(()) };
        let message = format!("{wheel} does not run on {python}: {file} needs {what}");
        let help = match python.libc {
            None => "say which C library there is, such as libc = \"glibc-2.36\"",
            Some(_) => {
                "its tags name no C library: it is for that of the machine that built it, or a later one. Build it where the \
                 image's C library is, such as in a container of its base, or have auditwheel make a manylinux or musllinux \
                 wheel of one that was built there"
            }
        };
        Err(PythonError::new(Code::Wheel, message).with_help(help))
    }

    /// The libraries that are needed and in no place, with the first file that needs each.
    pub fn lacking<'a>(&'a self, there: &BTreeSet<&[u8]>) -> impl Iterator<Item = (&'a str, &'a str)> {
        let there = |library: &str| there.contains(library.as_bytes());
        let found = move |library: &str| {
            begins(library, &GLIBC) || is_musl(library) || begins(library, &DRIVERS) || there(library)
        };
        // A path is not looked for by name.
        let names = self.libraries.iter().filter(|(library, _)| !library.contains('/'));
        let mut lacking: Vec<(&str, &str)> = names
            .filter(|(library, _)| !found(library))
            .map(|(library, file)| (&**library, &**file))
            .collect();
        lacking.sort_unstable();
        lacking.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::super::target::sample;
    use super::*;

    fn linked(libraries: &[&str], glibc: Option<(u32, u32)>) -> Linked {
        let mut linked = Linked::default();
        linked.add(
            "a.so",
            Needs { libraries: libraries.iter().map(|name| (*name).to_owned()).collect(), glibc },
        );
        linked
    }

    #[test]
    fn c_libraries() {
        for (libraries, glibc, libc, why) in [
            (&["libc.so.6"][..], Some((2, 38)), "glibc-2.36", Some("a.so needs glibc 2.38")),
            (&["libc.so.6"], Some((2, 36)), "glibc-2.36", None),
            (&["libc.so.6"], Some((2, 9)), "glibc-2.36", None),
            (&["libc.so.6"], Some((2, 2)), "musl-1.2", Some("a.so needs libc.so.6")),
            (&[], Some((2, 17)), "musl-1.2", Some("a.so needs glibc 2.17")),
            (&["ld-linux-x86-64.so.2"], None, "musl-1.2", Some("a.so needs ld-linux-x86-64.so.2")),
            (&["libc.musl-x86_64.so.1"], None, "musl-1.2", None),
            (&["libc.musl-x86_64.so.1"], None, "glibc-2.36", Some("a.so needs libc.musl-x86_64.so.1")),
            (&["libc.so"], None, "glibc-2.36", Some("a.so needs libc.so")),
            (&["libc.so"], None, "musl-1.2", None),
            (&["libstdc++.so.6"], None, "musl-1.2", None),
            (&[], None, "glibc-2.36", None),
        ] {
            let found = linked(libraries, glibc).check("x.whl", &sample("3.12.4", libc, "linux/amd64"));
            match (found, why) {
                (Ok(()), None) => {}
                (Err(error), Some(why)) => assert!(error.to_string().ends_with(why), "{error}"),
                (found, why) => panic!("{libraries:?} {glibc:?} {libc}: {found:?}, expected {why:?}"),
            }
        }
    }

    #[test]
    fn libraries() {
        let all = [
            "libc.so.6",
            "ld-linux-aarch64.so.1",
            "libz.so.1",
            "libstdc++.so.6",
            "libcuda.so.1",
            "/opt/x.so",
        ];
        let there: BTreeSet<&[u8]> = [&b"libz.so.1"[..]].into();
        let linked = linked(&all, None);
        assert_eq!(linked.lacking(&there).collect::<Vec<_>>(), [("libstdc++.so.6", "a.so")]);
    }
}
