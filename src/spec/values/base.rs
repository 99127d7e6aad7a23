//! What an image stands on.

use super::super::suggest::nearest;
use super::super::target::{Base, Select};
use super::super::template::cut;
use super::{Bad, source_path};

/// What an image stands on.
pub(in crate::spec) fn base(text: &str) -> Result<Base, Bad> {
    const EXPECTED: &str =
        "expected scratch, oci:DIR[:TAG], oci-archive:FILE[:TAG] or docker-archive:FILE[:NAME:TAG]";
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
        Some(("docker-daemon", _)) => Err(daemon_base(text)),
        Some(("docker", _)) | Some(("containers-storage" | "dir", _)) => Err(unsupported_base(text)),
        _ if text.is_empty() => Err(Bad::new("the base is empty", EXPECTED)),
        _ if text.starts_with(['/', '.']) => {
            Err(Bad::new(format!("{:?} does not say what it is", cut(text)), EXPECTED))
        }
        _ => match nearest(text, ["scratch"]) {
            Some(meant) => {
                Err(Bad::new(format!("{:?} is not a base", cut(text)), format!("did you mean `{meant}`?")))
            }
            None => Err(unsupported_base(text)),
        },
    }
}

fn daemon_base(text: &str) -> Bad {
    Bad::new(
        format!("a base in a daemon ({}) is another one on every machine, and tomorrow", cut(text)),
        "expected scratch, oci:, oci-archive: or docker-archive:",
    )
    .code("E-SPEC-UNSUPPORTED")
    .help("write it to a file first: dmoci export docker-daemon:NAME:TAG -o oci-archive:base.tar, and write base = \"oci-archive:base.tar\"")
}

fn unsupported_base(text: &str) -> Bad {
    Bad::new(
        format!("a base from elsewhere than a file ({}) is not supported by this version of dmoci", cut(text)),
        "expected scratch, oci:, oci-archive: or docker-archive:",
    )
    .code("E-SPEC-UNSUPPORTED")
    .help("fetch it first, for example: skopeo copy --all docker://HOST/NAME:TAG oci:base:TAG, and write base = \"oci:base:TAG\"")
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
        for text in ["debian:trixie", "registry.example/base:1", "docker://registry.example/base", "debian"] {
            assert_eq!(base(text).unwrap_err().code, "E-SPEC-UNSUPPORTED", "{text}");
        }
    }
}
