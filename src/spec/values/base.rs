//! What an image stands on.

use dmoci_layers::Algorithm;

use super::super::suggest::nearest;
use super::super::target::{Base, Select};
use super::super::template::cut;
use super::{Bad, source_path};
use crate::oci::reference::{NameError, Reference, ReferenceError};

const EXPECTED: &str = "expected scratch, docker://HOST/NAME:TAG, docker://HOST/NAME@sha256:…, oci:DIR[:TAG], \
                        oci-archive:FILE[:TAG] or docker-archive:FILE[:NAME:TAG]";

/// What an image stands on.
pub(in crate::spec) fn base(text: &str) -> Result<Base, Bad> {
    if text == "scratch" {
        return Ok(Base::Scratch);
    }
    let source = |path: &str| source_path(path);
    match text.split_once(':') {
        Some(("oci", rest)) => {
            let (path, select) = split(rest)?;
            Ok(Base::OciDir { dir: source(path)?, select })
        }
        Some(("oci-archive", rest)) => {
            let (path, select) = split(rest)?;
            Ok(Base::OciArchive { file: source(path)?, select })
        }
        Some(("docker-archive", rest)) => {
            let (path, select) = split(rest)?;
            Ok(Base::DockerArchive { file: source(path)?, select })
        }
        Some(("docker", rest)) => registry(rest.strip_prefix("//").unwrap_or(rest)),
        Some(("docker-daemon", _)) => Err(daemon_base(text)),
        Some(("containers-storage" | "dir", _)) => Err(unsupported_base(text)),
        _ if text.is_empty() => Err(Bad::new("the base is empty", EXPECTED)),
        _ if text.starts_with(['/', '.']) => {
            Err(Bad::new(format!("{:?} does not say what it is", cut(text)), EXPECTED))
        }
        _ => match nearest(text, ["scratch"]) {
            Some(meant) => {
                Err(Bad::new(format!("{:?} is not a base", cut(text)), format!("did you mean `{meant}`?")))
            }
            None => registry(text),
        },
    }
}

/// An image in a registry: the host is said, and which image.
fn registry(text: &str) -> Result<Base, Bad> {
    match text.parse::<Reference>() {
        Ok(reference) if reference.digest().is_some_and(|digest| digest.algorithm() != Algorithm::Sha256) => {
            Err(Bad::new("a base in a registry is pinned by sha256", "expected HOST/NAME@sha256:…"))
        }
        Ok(reference) => Ok(Base::Registry(reference)),
        Err(error @ ReferenceError::Name(NameError::NoHost(_))) => {
            Err(Bad::new(error.to_string(), "expected HOST/NAME:TAG, such as docker.io/library/debian:13"))
        }
        Err(error @ ReferenceError::Open(_)) => {
            Err(Bad::new(error.to_string(), "expected HOST/NAME:TAG or HOST/NAME@sha256:…")
                .help("the tag that other tools mean where there is none is `latest`"))
        }
        Err(error) => Err(Bad::new(error.to_string(), "expected HOST/NAME:TAG or HOST/NAME@sha256:…")),
    }
}

fn daemon_base(text: &str) -> Bad {
    Bad::new(
        format!("a base in a daemon ({}) is another one on every machine, and tomorrow", cut(text)),
        EXPECTED,
    )
    .code("E-SPEC-UNSUPPORTED")
    .help("write it to a file first: dmoci export docker-daemon:NAME:TAG -o oci-archive:base.tar, and write base = \"oci-archive:base.tar\"")
}

fn unsupported_base(text: &str) -> Bad {
    Bad::new(format!("a base of this kind ({}) is not supported by this version of dmoci", cut(text)), EXPECTED)
        .code("E-SPEC-UNSUPPORTED")
        .help("write it into a layout first, for example: skopeo copy --all FROM oci:base:TAG, and write base = \"oci:base:TAG\"")
}

/// `PATH`, `PATH:NAME` or `PATH@DIGEST`.
fn split(text: &str) -> Result<(&str, Select), Bad> {
    if let Some((path, digest)) = text.split_once('@')
        && digest.contains(':')
    {
        let digest = digest
            .parse()
            .map_err(|error| Bad::new(format!("{error}"), "expected @sha256: and 64 hex digits"))?;
        return Ok((path, Select::Digest(digest)));
    }
    match text.split_once(':') {
        None => Ok((text, Select::Only)),
        Some((_, "")) => {
            Err(Bad::new("a `:` without a name after it", "expected the name or tag of an image"))
        }
        Some((path, name)) => Ok((path, Select::Name(name.to_owned()))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::target::SourcePath;
    use super::*;

    #[test]
    fn bases() {
        let source = |path: &str| SourcePath::parse(path).unwrap();
        assert_eq!(base("scratch"), Ok(Base::Scratch));
        assert_eq!(base("oci:a/b"), Ok(Base::OciDir { dir: source("a/b"), select: Select::Only }));
        assert_eq!(
            base("docker-archive:x.tar:acme/km:1.0"),
            Ok(Base::DockerArchive { file: source("x.tar"), select: Select::Name("acme/km:1.0".into()) })
        );
        let digest = format!("sha256:{}", "0".repeat(64));
        assert_eq!(
            base(&format!("oci-archive:x.tar@{digest}")),
            Ok(Base::OciArchive { file: source("x.tar"), select: Select::Digest(digest.parse().unwrap()) })
        );
        for text in ["", "oci:", "oci:/abs", "oci:../x", "oci:x:", "oci:x@sha256:00", "scrath", "./base"] {
            assert_eq!(base(text).unwrap_err().code, "E-SPEC-VALUE", "{text}");
        }
        for text in [
            "debian:trixie",
            "debian",
            "registry.example/base",
            "docker://registry.example/base",
            "docker://base:1",
        ] {
            assert_eq!(base(text).unwrap_err().code, "E-SPEC-VALUE", "{text}");
        }
        for text in ["docker-daemon:x:1", "dir:x", "containers-storage:x"] {
            assert_eq!(base(text).unwrap_err().code, "E-SPEC-UNSUPPORTED", "{text}");
        }
        let reference = format!("registry.example/base:1@{digest}");
        for text in [reference.clone(), format!("docker://{reference}"), format!("docker:{reference}")] {
            assert_eq!(base(&text), Ok(Base::Registry(reference.parse().unwrap())), "{text}");
        }
    }
}
