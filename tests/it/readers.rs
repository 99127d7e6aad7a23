//! What dmoci writes, read by a library that shares no code with it.

use std::io::Read as _;

use ocipkg::image::{Image, OciArchive, OciDir};

use crate::support::Project;

/// A project with one layer of a few megabytes, so that it has several gzip members.
fn project(compression: &str) -> Project {
    let noise = |n: u32| n.wrapping_mul(2_654_435_761).rotate_left(n % 29).to_le_bytes();
    let spec = format!(
        r#"schema = 1
[image]
name = "registry.example/readers"
tags = ["1.0"]
platforms = ["linux/amd64"]
compression = "{compression}"
env = {{ A = "b" }}
[[layer]]
name = "files"
copy = [{{ from = ["files/"], to = "/srv" }}]
symlink = [{{ path = "/srv/link", target = "noise" }}]
"#
    );
    Project::with_spec(&spec)
        .file("files/noise", (0..1_300_000).flat_map(noise).collect::<Vec<u8>>())
        .file("files/sub/text", "some text")
}

/// The paths and sizes of the only layer, and the bytes of one of its files.
fn read(image: &mut dyn Image, compression: &str) -> (Vec<(String, u64)>, String) {
    let manifest = image.get_manifest().unwrap();
    let config = image.get_blob(manifest.config().digest()).unwrap();
    let config = oci_spec::image::ImageConfiguration::from_reader(&config[..]).unwrap();
    assert_eq!(config.architecture().to_string(), "amd64");
    assert_eq!(config.rootfs().diff_ids().len(), 1);
    let [layer] = &manifest.layers()[..] else { panic!("{manifest:?}") };
    let blob = image.get_blob(layer.digest()).unwrap();
    assert_eq!(blob.len() as u64, layer.size());
    let mut tar = Vec::new();
    match compression {
        "gzip" => drop(flate2::read::MultiGzDecoder::new(&blob[..]).read_to_end(&mut tar).unwrap()),
        _ => tar = blob,
    }
    let diff_id = dmoci_layers::Digest::sha256(&tar).to_string();
    assert_eq!(config.rootfs().diff_ids()[0].to_string(), diff_id);
    let mut archive = tar::Archive::new(&tar[..]);
    let (mut paths, mut text) = (Vec::new(), String::new());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        let header = entry.header();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0), "{path}");
        assert_eq!(header.mtime().unwrap(), dmoci_layers::MTIME, "{path}");
        paths.push((path.clone(), header.size().unwrap()));
        if path.ends_with("text") {
            entry.read_to_string(&mut text).unwrap();
        }
    }
    (paths, text)
}

#[test]
fn ocipkg_reads_layouts_and_archives() {
    for compression in ["gzip", "none"] {
        let project = project(compression);
        project.dmoci(&["build"]).ok();
        project.dmoci(&["export", "dist/image", "-o", "oci-archive:image.tar"]).ok();
        let expected: Vec<(String, u64)> =
            [("srv/", 0), ("srv/link", 0), ("srv/noise", 5_200_000), ("srv/sub/", 0), ("srv/sub/text", 9)]
                .map(|(path, size)| (path.to_owned(), size))
                .into();
        let directory = read(&mut OciDir::new(&project.path("dist/image")).unwrap(), compression);
        assert_eq!(directory, (expected, "some text".to_owned()), "{compression}");
        let archive = read(&mut OciArchive::new(&project.path("image.tar")).unwrap(), compression);
        assert_eq!(archive, directory, "{compression}");
    }
}
