//! Media types of the OCI image specification 1.1 (`media-types.md`) and of Docker's manifest schema 2.

/// An image index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// An image manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An image configuration.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The empty JSON object `{}`, where a descriptor is needed and nothing is to be said.
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// A layer, plain tar.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// A layer, tar with gzip.
pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// A layer, tar with zstd.
pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// A layer that may not be pushed elsewhere, plain tar; deprecated.
pub const LAYER_FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";
/// The same with gzip; deprecated.
pub const LAYER_FOREIGN_GZIP: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
/// The same with zstd; deprecated.
pub const LAYER_FOREIGN_ZSTD: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd";
/// Docker's manifest list.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's image configuration.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Docker's layer, plain tar.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// Docker's layer, tar with gzip.
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// Docker's layer, tar with zstd, as its builder writes it.
pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";
/// Docker's layer that may not be pushed elsewhere.
pub const DOCKER_LAYER_FOREIGN_GZIP: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
/// What cosign signed before bundles: a text that names an image ("simple signing").
pub const COSIGN_SIGNATURE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// An envelope with a statement (DSSE).
pub const DSSE_ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";
/// A statement that is not signed.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";
/// What media types of Sigstore's bundles begin with.
pub const SIGSTORE_BUNDLES: &str = "application/vnd.dev.sigstore.bundle";

use dmoci_layers::Compression;

/// What a media type says a blob is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An index or manifest list.
    Index,
    /// A manifest.
    Manifest,
    /// An image configuration.
    Config,
    /// A tar layer with this compression.
    Layer(Compression),
    /// The empty JSON object.
    Empty,
    /// Anything else: content of some artifact.
    Other,
}

/// The kind of a media type. Parameters and letter case are not folded: the specification writes these types in one form.
pub fn kind(media_type: &str) -> Kind {
    match media_type {
        INDEX | DOCKER_INDEX => Kind::Index,
        MANIFEST | DOCKER_MANIFEST => Kind::Manifest,
        CONFIG | DOCKER_CONFIG => Kind::Config,
        LAYER | LAYER_FOREIGN | DOCKER_LAYER => Kind::Layer(Compression::None),
        LAYER_GZIP | LAYER_FOREIGN_GZIP | DOCKER_LAYER_GZIP | DOCKER_LAYER_FOREIGN_GZIP => {
            Kind::Layer(Compression::Gzip)
        }
        LAYER_ZSTD | LAYER_FOREIGN_ZSTD | DOCKER_LAYER_ZSTD => Kind::Layer(Compression::Zstd),
        EMPTY => Kind::Empty,
        _ => Kind::Other,
    }
}

/// The OCI media type of a layer with this compression.
pub fn layer(compression: Compression) -> &'static str {
    match compression {
        Compression::None => LAYER,
        Compression::Gzip => LAYER_GZIP,
        Compression::Zstd => LAYER_ZSTD,
    }
}

/// True for a layer type that says the content may not be pushed elsewhere and is fetched from `urls`.
pub fn is_foreign(media_type: &str) -> bool {
    matches!(media_type, LAYER_FOREIGN | LAYER_FOREIGN_GZIP | LAYER_FOREIGN_ZSTD | DOCKER_LAYER_FOREIGN_GZIP)
}

/// True for an SBOM, as cosign attached one in its older layout.
pub fn is_sbom(media_type: &str) -> bool {
    let formats = ["text/spdx", "spdx+json", "application/vnd.cyclonedx", "application/vnd.syft+json"];
    formats.iter().any(|format| media_type.starts_with(format))
}

/// True for a signature, an attestation or an SBOM.
pub fn is_evidence(media_type: &str) -> bool {
    matches!(media_type, COSIGN_SIGNATURE | DSSE_ENVELOPE | IN_TOTO)
        || media_type.starts_with(SIGSTORE_BUNDLES)
        || is_sbom(media_type)
}

/// True when `text` has the form `type/subtype` of RFC 6838, section 4.2, which descriptor.md asks for;
/// parameters (`; name=value`) may follow.
pub fn is_well_formed(text: &str) -> bool {
    let essence = text.split(';').next().unwrap_or_default().trim_end();
    let name = |part: &str| {
        let mut bytes = part.bytes();
        part.len() <= 127
            && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
            && bytes.all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    essence.split_once('/').is_some_and(|(kind, sub)| name(kind) && name(sub))
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::image::MediaType;

    #[test]
    fn constants_are_those_of_another_implementation() {
        for (ours, theirs) in [
            (INDEX, MediaType::ImageIndex),
            (MANIFEST, MediaType::ImageManifest),
            (CONFIG, MediaType::ImageConfig),
            (EMPTY, MediaType::EmptyJSON),
            (LAYER, MediaType::ImageLayer),
            (LAYER_GZIP, MediaType::ImageLayerGzip),
            (LAYER_ZSTD, MediaType::ImageLayerZstd),
            (LAYER_FOREIGN, MediaType::ImageLayerNonDistributable),
            (LAYER_FOREIGN_GZIP, MediaType::ImageLayerNonDistributableGzip),
            (LAYER_FOREIGN_ZSTD, MediaType::ImageLayerNonDistributableZstd),
        ] {
            assert_eq!(ours, theirs.to_string());
        }
    }

    #[test]
    fn grammar() {
        assert!(
            is_well_formed(LAYER_GZIP)
                && is_well_formed("text/plain; charset=utf-8")
                && is_well_formed("a/b")
        );
        for bad in
            ["", "a", "/b", "a/", "a/b/c", "a b/c", "a/\u{e9}", "-a/b", &format!("a/{}", "b".repeat(128))]
        {
            assert!(!is_well_formed(bad), "{bad}");
        }
    }
}
