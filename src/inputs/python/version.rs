//! Versions and what is said about them (PEP 440), by `pep440_rs`.

use std::str::FromStr as _;

pub use pep440_rs::{Version, VersionSpecifier, VersionSpecifiers};

/// The longest version or set of specifiers that is read.
const LONGEST: usize = 4096;

/// Reads a version; `None` when it is none.
pub fn version(text: &str) -> Option<Version> {
    if text.len() > LONGEST {
        return None;
    }
    Version::from_str(text).ok()
}

/// Reads specifiers such as `>=3.9,!=3.9.7`; an empty text holds for every version.
pub fn specifiers(text: &str) -> Result<VersionSpecifiers, String> {
    if text.len() > LONGEST {
        return Err(format!("it has more than {LONGEST} bytes"));
    }
    VersionSpecifiers::from_str(text).map_err(|error| {
        // The first line says what is wrong; the others draw the place.
        error.to_string().lines().next().unwrap_or_default().trim_end_matches(':').to_owned()
    })
}

/// True when the version is one of those; pre-releases count like any other.
///
/// Missing parts of the version are zeros, also before `.*`.
pub fn contains(specifiers: &VersionSpecifiers, version: &Version) -> bool {
    specifiers.iter().all(|specifier| {
        let wanted = specifier.version().release().len();
        let found = version.release().len();
        if found >= wanted {
            return specifier.contains(version);
        }
        let release = version.release().iter().copied().chain(std::iter::repeat(0)).take(wanted);
        specifier.contains(&version.clone().with_release(release))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets() {
        for (set, inside, outside) in [
            (">=3.9,!=3.9.7", "3.9", "3.9.7"),
            ("==3.11.*", "3.11.4", "3.1"),
            ("==3.11.2.*", "3.11.2", "3.11"),
            ("~=3.9", "3.12", "4.0"),
            ("", "1.0", ""),
            ("<4,>=3.8", "3.14.0rc1", "4.0"),
            ("==1.0", "1.0+cpu", "1.0.1"),
        ] {
            let set = specifiers(set).unwrap();
            assert!(contains(&set, &version(inside).unwrap()), "{inside} in {set}");
            if let Some(outside) = version(outside) {
                assert!(!contains(&set, &outside), "{outside} in {set}");
            }
        }
        for wrong in ["3.9", ">=x", ">=3.8.*", "~=3", "=>3"] {
            assert!(specifiers(wrong).is_err(), "{wrong}");
        }
        assert!(version(&"1.".repeat(3000)).is_none() && version("1.0-x-y").is_none());
    }
}
