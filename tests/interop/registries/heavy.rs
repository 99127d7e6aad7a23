//! A layer of 5 GB through three kills: how much is sent, and how much memory it takes. Minutes: `DMOCI_HEAVY=1`.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dmoci_layers::{Algorithm, Digest};
use serde_json::json;

use super::{PEERS, Registry};
use crate::support::{Place, have, heavy};

/// Bytes of the layer.
const SIZE: u64 = 5_000_000_000;

/// Between dmoci and the registry: counts what is sent, and stops when an upload is so far.
struct Between {
    host: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    sent: AtomicU64,
    /// When the registry says that it has so much, nothing more is let through.
    stop: AtomicU64,
    stopped: AtomicBool,
}

impl Between {
    fn start(registry: &str) -> Between {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State::default());
        let (shared, registry) = (Arc::clone(&state), registry.to_owned());
        // It ends with the test's process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&registry) else { continue };
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let (up, down) = (Arc::clone(&shared), Arc::clone(&shared));
                thread::spawn(move || pass(from, to, |bytes| up.going(bytes)));
                thread::spawn(move || pass(server, client, |bytes| down.coming(bytes)));
            }
        });
        Between { host, state }
    }
}

impl State {
    fn going(&self, bytes: &[u8]) -> bool {
        let open = !self.stopped.load(Ordering::SeqCst);
        if open {
            self.sent.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        }
        open
    }

    /// What has come of an upload stands in the answer to each piece.
    fn coming(&self, bytes: &[u8]) -> bool {
        let head = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]);
        let range = head.split("\r\n").find_map(|line| line.strip_prefix("Range: 0-")?.parse::<u64>().ok());
        let stop = self.stop.load(Ordering::SeqCst);
        if stop > 0 && range.is_some_and(|last| last >= stop) {
            self.stopped.store(true, Ordering::SeqCst);
        }
        true
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, see: impl Fn(&[u8]) -> bool) {
    let mut buffer = vec![0; 256 << 10];
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 || !see(&buffer[..count]) || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// A layout whose layer has other bytes at every place.
fn layout(place: &Place) -> Digest {
    let image = place.path("image");
    let blobs = image.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let unnamed = blobs.join("unnamed");
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&unnamed).unwrap());
    let mut block = vec![0u8; 1 << 20];
    let mut state = 1u64;
    for chunk in block.chunks_mut(8) {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        chunk.copy_from_slice(&state.to_le_bytes());
    }
    let mut left = SIZE;
    while left > 0 {
        block[..8].copy_from_slice(&left.to_le_bytes());
        let count = left.min(block.len() as u64);
        out.write_all(&block[..count as usize]).unwrap();
        left -= count;
    }
    out.into_inner().unwrap();
    let (digest, _) = Digest::of_reader(Algorithm::Sha256, &mut File::open(&unnamed).unwrap()).unwrap();
    fs::rename(&unnamed, blobs.join(digest.hex())).unwrap();
    let put = |value: serde_json::Value| {
        let bytes = dmoci::oci::json::canonical(&value);
        let digest = Digest::sha256(&bytes);
        fs::write(blobs.join(digest.hex()), &bytes).unwrap();
        (digest.to_string(), bytes.len())
    };
    let config = put(json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest.to_string()]}}));
    let manifest = put(json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.0, "size": config.1},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest.to_string(), "size": SIZE}]}));
    let index = json!({"schemaVersion": 2, "manifests": [
        {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest.0, "size": manifest.1}]});
    fs::write(image.join("index.json"), index.to_string()).unwrap();
    fs::write(image.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    digest
}

/// The most memory that a process had, in KiB.
fn peak(process: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

/// Waits for this; the most memory that the process had meanwhile.
fn until(process: &mut Child, mut done: impl FnMut(&mut Child) -> bool) -> u64 {
    let (end, mut most) = (Instant::now() + Duration::from_secs(600), 0);
    while !done(process) {
        assert!(Instant::now() < end, "it takes too long");
        most = most.max(peak(process));
        thread::sleep(Duration::from_millis(20));
    }
    most
}

/// distribution 2.8 forgets an upload that is cut in the middle of a piece, so it is killed between two.
#[test]
fn a_layer_of_5_gb_through_three_kills() {
    if !have(PEERS) || !heavy() {
        return;
    }
    let (registry, place) = (Registry::start(), Place::new());
    let digest = layout(&place);
    let between = Between::start(&registry.host);
    let to = format!("docker://{}/large:1", between.host);
    let push = || {
        let mut push = registry.dmoci("push");
        push.arg("--quiet").arg(place.path("image")).arg(&to).spawn().unwrap()
    };
    let mut most = 0;
    for kill in 1..=3u64 {
        between.state.stop.store(kill * SIZE / 4, Ordering::SeqCst);
        let mut process = push();
        let stopped = || between.state.stopped.load(Ordering::SeqCst);
        most = most.max(until(&mut process, |process| {
            assert!(process.try_wait().unwrap().is_none(), "it ended");
            stopped()
        }));
        thread::sleep(Duration::from_millis(300));
        most = most.max(peak(&process));
        process.kill().unwrap();
        process.wait().unwrap();
        between.state.stop.store(0, Ordering::SeqCst);
        between.state.stopped.store(false, Ordering::SeqCst);
    }
    let mut process = push();
    let mut code = None;
    most = most.max(until(&mut process, |process| {
        code = process.try_wait().unwrap();
        code.is_some()
    }));
    assert!(code.unwrap().success());
    let sent = between.state.sent.load(Ordering::SeqCst);
    println!("{sent} bytes sent of {SIZE}, {most} KiB of memory");
    assert!(sent <= SIZE / 10 * 11, "{sent} bytes were sent");
    assert!(most < 128 << 10, "{most} KiB of memory");
    let stored = stored(&registry.place.path("storage"), &digest);
    let (found, size) = Digest::of_reader(Algorithm::Sha256, &mut File::open(stored).unwrap()).unwrap();
    assert_eq!((found, size), (digest, SIZE));
}

/// Where the registry keeps a blob.
fn stored(storage: &Path, digest: &Digest) -> std::path::PathBuf {
    let hex = digest.hex();
    storage.join(format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]))
}

/// A registry that keeps what came of a piece, and nothing else: it hashes one upload, and is asked by one client.
struct Keeper {
    host: String,
    state: Arc<Kept>,
}

#[derive(Default)]
struct Kept {
    have: AtomicU64,
    taken: AtomicU64,
    wrong: AtomicBool,
    done: AtomicBool,
}

impl Keeper {
    fn start(layer: std::path::PathBuf, digest: Digest) -> Keeper {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Kept::default());
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (state, layer, digest) = (Arc::clone(&shared), layer.clone(), digest.clone());
                thread::spawn(
                    move || while serve(&client, &state, &layer, &digest).is_ok_and(|more| more) {},
                );
            }
        });
        Keeper { host, state }
    }
}

/// One request. The layer's bytes are held against the file that they are from.
fn serve(mut client: &TcpStream, state: &Kept, layer: &Path, digest: &Digest) -> io::Result<bool> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if client.read(&mut byte)? == 0 || head.len() > 64 << 10 {
            return Ok(false);
        }
        head.push(byte[0]);
        // It does not speak TLS.
        if !head[0].is_ascii_uppercase() {
            return Ok(false);
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let line = head.lines().next().unwrap_or_default().to_owned();
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    let length: u64 = header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let place =
        |have: u64| format!("Location: /v2/large/blobs/uploads/1\r\nRange: 0-{}\r\n", have.saturating_sub(1));
    let have = || state.have.load(Ordering::SeqCst);
    let is_layer = line.starts_with("PATCH") || line.contains(digest.hex());
    let begin = header("content-range").and_then(|range| range.split('-').next()?.parse::<u64>().ok());
    let fits = !line.starts_with("PATCH") || begin == Some(have());
    let mut file = File::open(layer)?;
    io::Seek::seek(&mut file, io::SeekFrom::Start(have()))?;
    let (mut left, mut buffer, mut other) = (length, vec![0; 128 << 10], vec![0; 128 << 10]);
    while left > 0 {
        let most = left.min(buffer.len() as u64) as usize;
        let count = client.read(&mut buffer[..most])?;
        if count == 0 {
            return Ok(false);
        }
        if is_layer && fits && length > 0 && !line.contains("/manifests/") {
            file.read_exact(&mut other[..count])?;
            state.wrong.fetch_or(buffer[..count] != other[..count], Ordering::SeqCst);
            state.have.fetch_add(count as u64, Ordering::SeqCst);
            state.taken.fetch_add(count as u64, Ordering::SeqCst);
        }
        left -= count as u64;
    }
    let answer = match line.split(' ').next().unwrap_or_default() {
        "GET" if line.starts_with("GET /v2/ ") => "200 OK\r\n".to_owned(),
        "GET" if line.contains("/uploads/") && have() > 0 => format!("204 No Content\r\n{}", place(have())),
        "POST" => {
            // Of the configuration, or of a layer that nothing has come of.
            format!("202 Accepted\r\n{}", place(0))
        }
        "PATCH" if !fits => format!("416 Range Not Satisfiable\r\n{}", place(have())),
        "PATCH" => format!("202 Accepted\r\n{}", place(have())),
        "PUT" => {
            state.done.fetch_or(line.contains(digest.hex()), Ordering::SeqCst);
            "201 Created\r\n".to_owned()
        }
        _ => "404 Not Found\r\n".to_owned(),
    };
    client.write_all(format!("HTTP/1.1 {answer}Content-Length: 0\r\n\r\n").as_bytes())?;
    Ok(true)
}

/// A registry that keeps what came of a piece loses nothing, wherever the push is killed.
#[test]
fn a_layer_of_5_gb_killed_in_the_middle_of_pieces() {
    if !have(PEERS) || !heavy() {
        return;
    }
    let place = Place::new();
    let digest = layout(&place);
    let keeper = Keeper::start(place.path("image/blobs/sha256").join(digest.hex()), digest);
    let to = format!("docker://{}/large:1", keeper.host);
    let push = || {
        let mut push = crate::support::dmoci();
        push.arg("push").arg("--quiet").env("XDG_CACHE_HOME", place.path("cache"));
        push.arg(place.path("image")).arg(&to).spawn().unwrap()
    };
    let mut most = 0;
    for kill in 1..=3u64 {
        let mut process = push();
        // Some bytes behind the beginning of a piece.
        let at = kill * SIZE / 4 / (64 << 20) * (64 << 20) + ((kill * 17) << 20) + 4321;
        most = most.max(until(&mut process, |process| {
            assert!(process.try_wait().unwrap().is_none(), "it ended");
            keeper.state.have.load(Ordering::SeqCst) >= at
        }));
        process.kill().unwrap();
        process.wait().unwrap();
    }
    let mut process = push();
    let mut code = None;
    most = most.max(until(&mut process, |process| {
        code = process.try_wait().unwrap();
        code.is_some()
    }));
    assert!(code.unwrap().success());
    let taken = keeper.state.taken.load(Ordering::SeqCst);
    println!("{taken} bytes taken of {SIZE}, {most} KiB of memory");
    assert!(keeper.state.done.load(Ordering::SeqCst) && !keeper.state.wrong.load(Ordering::SeqCst));
    assert_eq!(keeper.state.have.load(Ordering::SeqCst), SIZE);
    assert!(taken <= SIZE / 10 * 11, "{taken} bytes were taken");
    assert!(most < 128 << 10, "{most} KiB of memory");
}
