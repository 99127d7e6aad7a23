//! Push and pull of one image, against Debian's docker-registry on this machine.

use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use dmoci_layers::Digest;
use serde_json::json;

use crate::Result;
use crate::contender::{Situation, emptied};
use crate::launcher::{Sample, measure};
use crate::machine::path_of;
use crate::options::{Options, Peer, Section};
use crate::section::Outcome;
use crate::table::Row;

/// Push, then pull: round after round, each of the peers in turn.
pub(crate) fn outcomes(
    options: &Options,
    work: &Path,
    peers: &[Peer],
    left_out: &[String],
) -> Result<Vec<Outcome>> {
    let size = if options.smoke { 100_000 } else { 50_000_000 };
    let image = Image::make(work.join("image"), 20, size)?;
    let server = Server::start(&work.join("registry"))?;
    let mut outcomes = Vec::new();
    for (what, pull) in [("Push", false), ("Pull", true)] {
        let mut rows: Vec<Row> = peers
            .iter()
            .map(|peer| Row { who: name(*peer, pull).to_owned(), samples: Vec::new(), size: None })
            .collect();
        let runs = options.runs_at(Section::Registry, 0);
        for round in 1..=runs {
            image.warm()?;
            for (peer, row) in peers.iter().zip(&mut rows) {
                rustix::fs::sync();
                eprintln!("  {round}/{runs} {}", row.who);
                row.samples.push(match pull {
                    true => self::pull(*peer, &image, &server, work)?,
                    false => self::push(*peer, &image, &server, work)?,
                });
            }
        }
        outcomes.push(Outcome {
            section: Section::Registry,
            situation: if pull { Situation::Unchanged } else { Situation::Cold },
            tree: format!("{what}: an image of 20 layers that no compression makes smaller"),
            files: 20,
            bytes: image.bytes,
            rows,
            left_out: left_out.to_vec(),
        });
    }
    drop(server);
    for place in ["image", "registry", "cache", "got"] {
        let _ = fs::remove_dir_all(work.join(place));
    }
    Ok(outcomes)
}

fn name(peer: Peer, pull: bool) -> &'static str {
    match (peer, pull) {
        (Peer::Skopeo, _) => "skopeo copy",
        (Peer::Crane, false) => "crane push",
        (Peer::Crane, true) => "crane pull",
        (_, false) => "dmoci push",
        (_, true) => "dmoci pull",
    }
}

/// To a registry that has nothing.
fn push(peer: Peer, image: &Image, server: &Server, work: &Path) -> Result<Sample> {
    server.forget()?;
    let layout = image.path.display();
    let sample = measure(
        &mut match peer {
            Peer::Skopeo => {
                skopeo(&["--dest-tls-verify=false", &format!("oci:{layout}:1"), &server.subject()])
            }
            Peer::Crane => crane(work, &["push", &layout.to_string(), &server.image()]),
            _ => dmoci(work, &["push", &layout.to_string(), &server.subject()])?,
        },
        work,
    )?;
    server.has(image)?;
    Ok(sample)
}

/// Into a layout, with nothing kept of an earlier time.
fn pull(peer: Peer, image: &Image, server: &Server, work: &Path) -> Result<Sample> {
    let got = work.join("got");
    if got.exists() {
        fs::remove_dir_all(&got)?;
    }
    let place = got.display();
    let sample = measure(
        &mut match peer {
            Peer::Skopeo => skopeo(&["--src-tls-verify=false", &server.subject(), &format!("oci:{place}:1")]),
            Peer::Crane => crane(work, &["pull", "--format=oci", &server.image(), &place.to_string()]),
            _ => dmoci(work, &["pull", &server.subject(), "-o", &place.to_string()])?,
        },
        work,
    )?;
    for (digest, size) in &image.blobs {
        let there = fs::metadata(got.join("blobs/sha256").join(digest.hex()))?.len();
        if there != *size {
            return Err(format!("{} did not pull {digest}", name(peer, true)).into());
        }
    }
    Ok(sample)
}

/// Its cache begins empty.
fn dmoci(work: &Path, arguments: &[&str]) -> Result<Command> {
    let mut dmoci = Command::new(env!("CARGO_BIN_EXE_dmoci"));
    dmoci.env("XDG_CACHE_HOME", emptied(work.join("cache"))?).env("REGISTRY_AUTH_FILE", "/dev/null");
    dmoci.arg("--quiet").args(arguments);
    Ok(dmoci)
}

fn skopeo(arguments: &[&str]) -> Command {
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["--insecure-policy", "copy", "--quiet"]).args(arguments);
    skopeo
}

fn crane(work: &Path, arguments: &[&str]) -> Command {
    let mut crane = Command::new("crane");
    crane.env("DOCKER_CONFIG", work).arg("--insecure").args(arguments);
    crane
}

/// A layout of layers that are as random as they look, each a tar with one file.
struct Image {
    path: PathBuf,
    blobs: Vec<(Digest, u64)>,
    bytes: u64,
}

impl Image {
    fn make(path: PathBuf, layers: u64, size: u64) -> Result<Image> {
        let blobs = emptied(path.clone())?.join("blobs/sha256");
        fs::create_dir_all(&blobs)?;
        let mut image = Image { path, blobs: Vec::new(), bytes: 0 };
        let mut state = 1u64;
        let (mut described, mut diff_ids) = (Vec::new(), Vec::new());
        for number in 0..layers {
            let mut tar = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_ustar();
            header.set_size(size);
            header.set_mode(0o644);
            header.set_cksum();
            let mut content = vec![0u8; usize::try_from(size)?];
            for chunk in content.chunks_mut(8) {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                chunk.copy_from_slice(&(state ^ (state >> 29)).to_le_bytes()[..chunk.len()]);
            }
            tar.append_data(&mut header, format!("file-{number}"), &content[..])?;
            let tar = tar.into_inner()?;
            diff_ids.push(Digest::sha256(&tar).to_string());
            // skopeo compresses on its way what is not compressed.
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
            gzip.write_all(&tar)?;
            described.push(image.put(&gzip.finish()?)?);
        }
        let config = json!({"architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config = image.put(config.to_string().as_bytes())?;
        let descriptor = |kind: &str, (digest, size): &(Digest, u64)| {
            json!({
            "mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest.to_string(), "size": size})
        };
        let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("config.v1+json", &config),
            "layers": described.iter().map(|one| descriptor("layer.v1.tar+gzip", one)).collect::<Vec<_>>()});
        let manifest = image.put(manifest.to_string().as_bytes())?;
        let mut root = descriptor("manifest.v1+json", &manifest);
        root["annotations"] = json!({"org.opencontainers.image.ref.name": "1"});
        let index = json!({"schemaVersion": 2, "manifests": [root]});
        fs::write(image.path.join("index.json"), index.to_string())?;
        fs::write(image.path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(image)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(Digest, u64)> {
        let blob = (Digest::sha256(bytes), bytes.len() as u64);
        fs::write(self.path.join("blobs/sha256").join(blob.0.hex()), bytes)?;
        self.blobs.push(blob.clone());
        self.bytes += blob.1;
        Ok(blob)
    }

    /// All of it is in memory.
    fn warm(&self) -> Result<()> {
        for (digest, _) in &self.blobs {
            let mut file = fs::File::open(self.path.join("blobs/sha256").join(digest.hex()))?;
            std::io::copy(&mut file, &mut std::io::sink())?;
        }
        Ok(())
    }
}

/// docker-registry, in a directory of its own. Stopped before that goes.
struct Server {
    place: PathBuf,
    host: String,
    process: Child,
}

impl Server {
    fn start(place: &Path) -> Result<Server> {
        let place = emptied(place.to_owned())?;
        let host = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let (config, storage) = (place.join("config.yml"), place.join("storage"));
        fs::create_dir_all(&storage)?;
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {host}}}\n",
            storage.display()
        );
        fs::write(&config, text)?;
        let log = fs::File::create(place.join("registry.log"))?;
        // The kernel ends it when this process is killed and cannot do so itself.
        let mut server = Command::new(path_of("setpriv").ok_or("setpriv is not here")?);
        server.args(["--pdeathsig", "TERM", "--"]);
        server.arg(path_of("docker-registry").ok_or("docker-registry is not here")?).arg("serve").arg(config);
        server.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = server.spawn()?;
        let mut server = Server { place, host, process };
        let end = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(&server.host).is_err() {
            if server.process.try_wait()?.is_some() || Instant::now() > end {
                let said = fs::read_to_string(server.place.join("registry.log")).unwrap_or_default();
                return Err(format!("docker-registry is not ready:\n{said}").into());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    fn image(&self) -> String {
        format!("{}/image:1", self.host)
    }

    fn subject(&self) -> String {
        format!("docker://{}", self.image())
    }

    fn storage(&self) -> PathBuf {
        self.place.join("storage/docker/registry/v2")
    }

    /// It keeps nothing in memory.
    fn forget(&self) -> Result<()> {
        emptied(self.place.join("storage")).map(|_| ())
    }

    /// What was pushed is there.
    fn has(&self, image: &Image) -> Result<()> {
        for (digest, size) in &image.blobs {
            let path =
                self.storage().join(format!("blobs/sha256/{}/{}/data", &digest.hex()[..2], digest.hex()));
            if fs::metadata(&path)?.len() != *size {
                return Err(format!("{digest} was not pushed").into());
            }
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
