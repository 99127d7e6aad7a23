//! What an image runs on.

use std::fmt;
use std::str::FromStr;

/// An operating system and a processor, as of the OCI image-spec 1.1 `image-index.md`, "platform".
///
/// Written `os/architecture[/variant]`, with the names of Go (`GOOS`, `GOARCH`). It cannot be made without
/// checking these names. One machine has one form: `arm64/v8` is `arm64`, `amd64/v1` is `amd64`, and `arm`
/// without variant is `arm/v7`, as container engines read them.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform {
    os: Box<str>,
    architecture: Box<str>,
    variant: Option<Box<str>>,
}

/// Why a text is no platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// There are not two or three parts.
    #[error("{0:?} is not a platform (expected os/architecture or os/architecture/variant)")]
    Grammar(String),
    /// The first part is no `GOOS`.
    #[error("{0:?} is not an operating system that OCI names")]
    Os(String),
    /// The second part is no `GOARCH`.
    #[error("{0:?} is not an architecture that OCI names")]
    Architecture(String),
    /// The third part is no variant of that architecture.
    #[error("{1:?} is not a variant of {0}")]
    Variant(String, String),
}

impl Platform {
    /// The operating systems: the values of `GOOS`.
    pub const OS: &[&str] = &[
        "aix",
        "android",
        "darwin",
        "dragonfly",
        "freebsd",
        "illumos",
        "ios",
        "js",
        "linux",
        "netbsd",
        "openbsd",
        "plan9",
        "solaris",
        "wasip1",
        "windows",
    ];

    /// The architectures: the values of `GOARCH`.
    pub const ARCHITECTURES: &[&str] = &[
        "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64",
        "ppc64le", "riscv64", "s390x", "wasm",
    ];

    /// Checks the parts as manifests and configs hold them; an empty variant is none.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Result<Platform, PlatformError> {
        let shown = |text: &str| text.chars().take(64).collect::<String>();
        if !Platform::OS.contains(&os) {
            return Err(PlatformError::Os(shown(os)));
        }
        if !Platform::ARCHITECTURES.contains(&architecture) {
            return Err(PlatformError::Architecture(shown(architecture)));
        }
        let variant = variant.filter(|variant| !variant.is_empty());
        let variant = match (architecture, variant) {
            ("arm64", Some("v8")) | ("amd64", Some("v1")) => None,
            ("arm", None) => Some("v7"),
            (_, None) => None,
            ("arm", Some("v5" | "v6" | "v7" | "v8")) | ("amd64", Some("v2" | "v3" | "v4")) => variant,
            // v8.1 to v9.5 and so on, the values of GOARM64.
            ("arm64", Some(version)) if is_arm64_version(version) => variant,
            (_, Some(variant)) => {
                return Err(PlatformError::Variant(architecture.to_owned(), shown(variant)));
            }
        };
        Ok(Platform { os: os.into(), architecture: architecture.into(), variant: variant.map(Into::into) })
    }

    /// The operating system, such as `linux`.
    pub fn os(&self) -> &str {
        &self.os
    }

    /// The architecture, such as `amd64`.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// The variant of the architecture, such as `v7`.
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// True when the operating system is Linux.
    pub fn is_linux(&self) -> bool {
        &*self.os == "linux"
    }

    /// Debian's name of the architecture, or nothing when Debian has none.
    pub fn debian(&self) -> Option<&'static str> {
        Some(match (self.is_linux(), self.architecture(), self.variant()) {
            (false, ..) => return None,
            (_, "amd64", _) => "amd64",
            (_, "arm64", _) => "arm64",
            (_, "arm", Some("v5" | "v6")) => "armel",
            (_, "arm", _) => "armhf",
            (_, "386", _) => "i386",
            (_, "loong64", _) => "loong64",
            (_, "mips64le", _) => "mips64el",
            (_, "ppc64le", _) => "ppc64el",
            (_, "riscv64", _) => "riscv64",
            (_, "s390x", _) => "s390x",
            _ => return None,
        })
    }

    /// What `uname -m` says on such a machine under Linux, or nothing when there is none.
    pub fn uname(&self) -> Option<&'static str> {
        Some(match (self.is_linux(), self.architecture(), self.variant()) {
            (false, ..) => return None,
            (_, "amd64", _) => "x86_64",
            (_, "arm64", _) => "aarch64",
            (_, "arm", Some("v5")) => "armv5tel",
            (_, "arm", Some("v6")) => "armv6l",
            (_, "arm", Some("v8")) => "armv8l",
            (_, "arm", _) => "armv7l",
            (_, "386", _) => "i686",
            (_, "loong64", _) => "loongarch64",
            (_, "mips" | "mipsle", _) => "mips",
            (_, "mips64" | "mips64le", _) => "mips64",
            (_, "ppc64", _) => "ppc64",
            (_, "ppc64le", _) => "ppc64le",
            (_, "riscv64", _) => "riscv64",
            (_, "s390x", _) => "s390x",
            _ => return None,
        })
    }

    /// What OCI calls a machine that goes by another name elsewhere: `x86_64` is `amd64`.
    pub fn oci_name(other: &str) -> Option<&'static str> {
        Some(match other.to_ascii_lowercase().as_str() {
            "x86_64" | "x86-64" | "x64" => "amd64",
            "aarch64" | "armv8" | "armv8l" => "arm64",
            "armhf" | "armel" | "armv7l" | "armv6l" | "armv7" | "armv6" => "arm",
            "i386" | "i486" | "i586" | "i686" | "x86" => "386",
            "ppc64el" | "powerpc64le" => "ppc64le",
            "mips64el" => "mips64le",
            "mipsel" => "mipsle",
            "loongarch64" => "loong64",
            _ => return None,
        })
    }
}

fn is_arm64_version(text: &str) -> bool {
    let digits = |part: &str| part.len() == 1 && part.bytes().all(|b| b.is_ascii_digit());
    match text.strip_prefix('v').map(|rest| rest.split_once('.').unwrap_or((rest, "0"))) {
        Some((major, minor)) => (major == "8" || major == "9") && digits(minor),
        None => false,
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Platform, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        match parts[..] {
            _ if parts.contains(&"") => Err(PlatformError::Grammar(text.chars().take(64).collect())),
            [os, architecture] => Platform::new(os, architecture, None),
            [os, architecture, variant] => Platform::new(os, architecture, Some(variant)),
            _ => Err(PlatformError::Grammar(text.chars().take(64).collect())),
        }
    }
}

/// `os/architecture[/variant]`.
impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_for_one_machine() {
        for (text, shown, debian, uname) in [
            ("linux/amd64", "linux/amd64", "amd64", "x86_64"),
            ("linux/amd64/v1", "linux/amd64", "amd64", "x86_64"),
            ("linux/amd64/v3", "linux/amd64/v3", "amd64", "x86_64"),
            ("linux/arm64/v8", "linux/arm64", "arm64", "aarch64"),
            ("linux/arm64/v9.2", "linux/arm64/v9.2", "arm64", "aarch64"),
            ("linux/arm", "linux/arm/v7", "armhf", "armv7l"),
            ("linux/arm/v6", "linux/arm/v6", "armel", "armv6l"),
            ("linux/386", "linux/386", "i386", "i686"),
            ("linux/ppc64le", "linux/ppc64le", "ppc64el", "ppc64le"),
            ("linux/riscv64", "linux/riscv64", "riscv64", "riscv64"),
            ("linux/s390x", "linux/s390x", "s390x", "s390x"),
            ("linux/mips64le", "linux/mips64le", "mips64el", "mips64"),
        ] {
            let platform: Platform = text.parse().unwrap();
            assert_eq!(platform.to_string(), shown);
            assert_eq!((platform.debian(), platform.uname()), (Some(debian), Some(uname)), "{text}");
            assert_eq!(shown.parse::<Platform>().unwrap(), platform);
        }
        assert_eq!("windows/amd64".parse::<Platform>().unwrap().debian(), None);
    }

    #[test]
    fn refused() {
        for text in ["", "linux", "/", "linux/", "/amd64", "linux/amd64/", "linux/amd64/v2/x", " linux/amd64"]
        {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
        assert_eq!("linux/x86_64".parse::<Platform>(), Err(PlatformError::Architecture("x86_64".into())));
        assert_eq!("Linux/amd64".parse::<Platform>(), Err(PlatformError::Os("Linux".into())));
        for text in ["linux/arm64/v7", "linux/arm64/v8.x", "linux/amd64/v8", "linux/arm/v9", "linux/s390x/v1"]
        {
            assert!(matches!(text.parse::<Platform>(), Err(PlatformError::Variant(..))), "{text}");
        }
    }
}
