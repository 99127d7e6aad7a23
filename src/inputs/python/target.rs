//! What the wheels are for: an interpreter, its version, the machine and the C library.

use std::fmt;

use dmoci_layers::SafePath;

use super::version::{Version, version};
use crate::oci::platform::Platform;

/// A CPython on Linux that wheels are installed for. Nothing of it is the building machine's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PythonTarget {
    /// Where the interpreter stands in the image: a file, or a link to it.
    pub interpreter: SafePath,
    version: Box<str>,
    minor: u64,
    /// The build without global interpreter lock (PEP 703).
    pub threaded: bool,
    /// The C library; without it only wheels for every platform suit.
    pub libc: Option<Libc>,
    machine: &'static str,
}

/// A C library and the version of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Libc {
    /// The GNU C Library.
    Glibc {
        /// First number.
        major: u32,
        /// Second number.
        minor: u32,
    },
    /// musl.
    Musl {
        /// First number.
        major: u32,
        /// Second number.
        minor: u32,
    },
}

impl Libc {
    /// Reads `glibc-2.36` or `musl-1.2`; a third number is allowed and says nothing.
    pub fn parse(text: &str) -> Option<Libc> {
        let (name, number) = text.split_once('-')?;
        let (major, minor) = two_numbers(number)?;
        match name {
            // Earlier ones have no tags, and no later first number is known.
            "glibc" if major == 2 && (5..1000).contains(&minor) => Some(Libc::Glibc { major, minor }),
            "musl" if major == 1 && minor < 1000 => Some(Libc::Musl { major, minor }),
            _ => None,
        }
    }
}

impl fmt::Display for Libc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Libc::Glibc { major, minor } => write!(f, "glibc-{major}.{minor}"),
            Libc::Musl { major, minor } => write!(f, "musl-{major}.{minor}"),
        }
    }
}

fn two_numbers(text: &str) -> Option<(u32, u32)> {
    let number = |text: &str| match text {
        "" => None,
        text if text.len() > 4 || !text.bytes().all(|b| b.is_ascii_digit()) => None,
        text => text.parse().ok(),
    };
    let mut parts = text.split('.');
    let (major, minor) = (number(parts.next()?)?, number(parts.next()?)?);
    match (parts.next(), parts.next()) {
        (None, _) => Some((major, minor)),
        (Some(third), None) if number(third).is_some() => Some((major, minor)),
        _ => None,
    }
}

impl PythonTarget {
    /// Puts a target together; `full` is the whole version, such as `3.12.4` or `3.14.0rc2`.
    ///
    /// Fails, with what is wrong, when the version is not one of Python 3 or no wheel can be for the platform.
    pub fn new(
        interpreter: SafePath,
        full: &str,
        threaded: bool,
        libc: Option<Libc>,
        platform: &Platform,
    ) -> Result<PythonTarget, String> {
        let minor = minor(full)
            .ok_or_else(|| format!("{full:?} is no whole version of Python 3, such as \"3.12.4\""))?;
        let machine = platform.uname().ok_or_else(|| format!("there are no Python wheels for {platform}"))?;
        Ok(PythonTarget { interpreter, version: full.into(), minor, threaded, libc, machine })
    }

    /// The first two numbers of the version.
    pub fn python(&self) -> (u64, u64) {
        (3, self.minor)
    }

    /// The whole version as the interpreter says it: `platform.python_version()`.
    pub fn full_version(&self) -> &str {
        &self.version
    }

    /// The whole version, to compare with. A build between releases has a `+` behind it.
    pub fn version(&self) -> Version {
        let text = self.full_version();
        let local = if text.ends_with('+') { format!("{text}local") } else { text.to_owned() };
        version(&local).unwrap_or_else(|| Version::new([3, self.minor]))
    }

    /// What `uname -m` says.
    pub fn machine(&self) -> &str {
        self.machine
    }
}

/// The second number of a whole version of Python 3.
fn minor(full: &str) -> Option<u64> {
    let parsed = version(full.strip_suffix('+').unwrap_or(full))?;
    match parsed.release() {
        [3, minor, _] if *minor < 1000 && !parsed.is_post() && !parsed.is_local() && parsed.epoch() == 0 => {
            Some(*minor)
        }
        _ => None,
    }
}

/// What `sys.version` says in short: `CPython 3.12.4 for x86_64 with glibc-2.36`.
impl fmt::Display for PythonTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let threaded = if self.threaded { " (free-threaded)" } else { "" };
        write!(f, "CPython {}{threaded} on {}", self.version, self.machine)?;
        match self.libc {
            Some(libc) => write!(f, " with {libc}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
pub(super) fn sample(full: &str, libc: &str, platform: &str) -> PythonTarget {
    let interpreter = SafePath::parse(b"usr/bin/python3").unwrap();
    let libc = Libc::parse(libc);
    PythonTarget::new(interpreter, full, false, libc, &platform.parse().unwrap()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries() {
        for (text, shown) in
            [("glibc-2.36", "glibc-2.36"), ("musl-1.2.4", "musl-1.2"), ("glibc-2.5", "glibc-2.5")]
        {
            assert_eq!(Libc::parse(text).unwrap().to_string(), shown);
        }
        for text in [
            "glibc",
            "glibc-2",
            "glibc-2.x",
            "musl-2.0",
            "glibc-3.0",
            "glibc-2.4",
            "uclibc-1.0",
            "glibc-2.3.4.5",
            "musl-1.99999",
        ] {
            assert_eq!(Libc::parse(text), None, "{text}");
        }
    }

    #[test]
    fn versions() {
        let target = sample("3.12.4", "glibc-2.36", "linux/arm64");
        assert_eq!(target.to_string(), "CPython 3.12.4 on aarch64 with glibc-2.36");
        assert_eq!((target.python(), target.version().to_string().as_str()), ((3, 12), "3.12.4"));
        assert_eq!(sample("3.13.0+", "glibc-2.36", "linux/arm64").version().to_string(), "3.13.0+local");
        assert_eq!(sample("3.14.0rc2", "glibc-2.36", "linux/arm64").full_version(), "3.14.0rc2");
        for wrong in
            ["3", "3.12", "2.7.18", "3.12.4.post1", "3.12.x", "", "3.12.4+deb", "3.5000.0", "1!3.1.0"]
        {
            assert_eq!(minor(wrong), None, "{wrong}");
        }
    }
}
