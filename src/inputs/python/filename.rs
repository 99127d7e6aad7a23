//! File names of wheels (binary distribution format, "File name convention"; PEP 427, PEP 425).

use std::fmt;

use super::name::Name;
use super::tag::TagSet;
use super::version::{Version, version};

/// The longest file name that is read; file systems have no longer ones.
const LONGEST: usize = 255;

/// What the name of a wheel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WheelName {
    text: Box<str>,
    /// The project.
    pub name: Name,
    /// Its version.
    pub version: Version,
    /// Number and rest of the build tag; the larger of two is preferred.
    pub build: Option<(u64, Box<str>)>,
    /// What it runs on.
    pub tags: TagSet,
}

impl WheelName {
    /// Reads a file name; why it is none otherwise.
    pub fn parse(text: &str) -> Result<WheelName, &'static str> {
        if text.len() > LONGEST {
            return Err("it is longer than 255 bytes");
        }
        let stem = text.strip_suffix(".whl").ok_or("it does not end with .whl")?;
        if !stem.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b'\\')) {
            return Err("it holds characters that no wheel has in its name");
        }
        let parts: Vec<&str> = stem.split('-').collect();
        let (name, number, build, tags) = match parts[..] {
            [name, number, python, abi, platform] => (name, number, None, [python, abi, platform]),
            [name, number, build, python, abi, platform] => {
                (name, number, Some(build), [python, abi, platform])
            }
            _ => return Err("expected NAME-VERSION[-BUILD]-PYTHON-ABI-PLATFORM.whl"),
        };
        let name = Name::parse(name).ok_or("it does not begin with a name")?;
        let version = version(number).ok_or("its second part is no version")?;
        let build = match build {
            None => None,
            Some(build) => {
                let digits = build.bytes().take_while(u8::is_ascii_digit).count();
                let number = build[..digits].parse().map_err(|_| "its build tag has no number")?;
                Some((number, build[digits..].into()))
            }
        };
        let tags = TagSet::new(tags[0], tags[1], tags[2])?;
        Ok(WheelName { text: text.into(), name, version, build, tags })
    }

    /// The file name as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for WheelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let wheel = WheelName::parse(
            "zope.interface-5.4.0-1local-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        );
        let wheel = wheel.unwrap();
        assert_eq!(wheel.name.as_str(), "zope-interface");
        assert_eq!(wheel.version.to_string(), "5.4.0");
        assert_eq!(wheel.build, Some((1, "local".into())));
        assert_eq!(wheel.tags.to_string(), "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64");
        let local = WheelName::parse("torch-2.5.0+cpu-cp312-cp312-linux_x86_64.whl").unwrap();
        assert_eq!(local.version.to_string(), "2.5.0+cpu");
        assert_eq!(local.build, None);
    }

    #[test]
    fn refused() {
        for (text, why) in [
            ("a-1.0.tar.gz", "does not end with .whl"),
            ("a-1.0-py3-none.whl", "expected NAME"),
            ("a-1.0-x1-py3-none-any.whl", "build tag"),
            ("a-one-py3-none-any.whl", "no version"),
            ("-1.0-py3-none-any.whl", "a name"),
            ("a-1.0-py3-none-.whl", "tag"),
            ("a-1.0-py3..py2-none-any.whl", "tag"),
            ("../a-1.0-py3-none-any.whl", "characters"),
            ("a-1.0-py3-none-any\n.whl", "characters"),
            ("a-1.0-99999999999999999999999-py3-none-any.whl", "build tag"),
        ] {
            let found = WheelName::parse(text).unwrap_err();
            assert!(found.contains(why), "{text}: {found}");
        }
    }
}
