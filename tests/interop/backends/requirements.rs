//! Build requirements: found by uv or pip, pinned, and refused when they are other bytes.

use std::env;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use dmoci_layers::Digest;

use super::{PEERS, backend, commit};
use crate::support::wheel::Wheel;
use crate::support::{Guard, Place, command, exits, have, path_of, run, said, service};

const FILE: &str = "hand_backend-1.0-py3-none-any.whl";

/// An index on the loopback with one project, a backend, and a project that is built by it.
struct Index {
    place: Place,
    port: u16,
    _server: Guard,
}

impl Index {
    fn new() -> Index {
        let place = Place::new();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        for folder in ["index/simple/hand-backend", "index/files", "project"] {
            fs::create_dir_all(place.path(folder)).unwrap();
        }
        let mut server = service(path_of("python3").unwrap());
        server.args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string(), "--directory"]);
        server.arg(place.path("index"));
        let ready = || TcpStream::connect(("127.0.0.1", port)).is_ok();
        let server = Guard::start(&mut server, &place.path("log"), ready);
        let index = Index { place, port, _server: server };
        let bytes = index.serve("None");
        index.say(&bytes);
        let text = "[build-system]\nrequires = [\"hand-backend\"]\nbuild-backend = \"hand_backend\"\n";
        fs::write(index.path("pyproject.toml"), text).unwrap();
        fs::write(index.path("demo.py"), "print('demo')\n").unwrap();
        fs::write(index.path(".gitignore"), "dist\ndmoci.lock\n").unwrap();
        commit(&index.path(""));
        index
    }

    /// A path in the project.
    fn path(&self, name: &str) -> PathBuf {
        self.place.path("project").join(name)
    }

    /// Serves a backend with this in its hook for wheels.
    fn serve(&self, extra: &str) -> Vec<u8> {
        let bytes = Wheel::new("hand-backend", "1.0").file("hand_backend.py", backend(extra)).bytes();
        fs::write(self.place.path("index/files").join(FILE), &bytes).unwrap();
        bytes
    }

    /// What the page of the project says.
    fn say(&self, bytes: &[u8]) {
        let hash = Digest::sha256(bytes);
        let page = format!("<a href=\"../../files/{FILE}#sha256={}\">{FILE}</a>\n", hash.hex());
        fs::write(self.place.path("index/simple/hand-backend/index.html"), page).unwrap();
    }

    /// Builds with nothing in any cache.
    fn dmoci(&self, tool: &str) -> Command {
        let caches = self.place.path("caches");
        let _ = fs::remove_dir_all(&caches);
        let mut dmoci = crate::support::dmoci();
        dmoci.args(["wheel", "-C"]).arg(self.path("")).env("XDG_CACHE_HOME", &caches);
        let index = format!("http://127.0.0.1:{}/simple/", self.port);
        dmoci.env("UV_DEFAULT_INDEX", &index).env("UV_CACHE_DIR", caches.join("uv"));
        dmoci.env("PIP_INDEX_URL", &index).env("PIP_NO_CACHE_DIR", "1");
        for name in
            ["PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS"]
        {
            dmoci.env_remove(name);
        }
        only(tool, &mut dmoci);
        dmoci
    }
}

/// Takes uv from the path of a command, unless it is the tool.
fn only<'a>(tool: &str, command: &'a mut Command) -> &'a mut Command {
    let path = env::var_os("PATH").unwrap();
    let folders = env::split_paths(&path).filter(|folder| tool == "uv" || !folder.join("uv").exists());
    command.env("PATH", env::join_paths(folders).unwrap())
}

fn installer(folder: &Path) -> String {
    let evidence = fs::read(folder.join("dist/evidence/python.json")).unwrap();
    let evidence: serde_json::Value = serde_json::from_slice(&evidence).unwrap();
    evidence["installer"].as_str().unwrap().to_owned()
}

#[test]
fn other_bytes_than_pinned() {
    if !have(&[PEERS, &["uv", "setpriv"]].concat()) {
        return;
    }
    let index = Index::new();
    let good = index.serve("None");
    let lock = || fs::read_to_string(index.path("dmoci.lock"));
    for tool in ["uv", "pip"] {
        let _ = fs::remove_file(index.path("dmoci.lock"));
        let first = run(&mut index.dmoci(tool));
        assert!(installer(&index.path("")).starts_with(&format!("{tool} ")));
        let pinned = lock().unwrap();
        assert!(pinned.contains(Digest::sha256(&good).hex()), "{pinned}");
        run(command("rm").arg("-r").arg(index.path("dist")));
        let refused = |code: &[i32], why: &str| {
            let ended = said(&mut index.dmoci(tool));
            assert!(code.contains(&ended.code.unwrap()), "{tool} {:?} {}", ended.code, ended.err);
            assert!(ended.err.contains(why), "{tool} {why}: {}", ended.err);
            assert!(!index.path("dist").exists(), "{tool} {why}");
        };
        // A lock file that somebody changed.
        let other = Digest::sha256(b"other");
        fs::write(index.path("dmoci.lock"), pinned.replace(Digest::sha256(&good).hex(), other.hex()))
            .unwrap();
        refused(&[1], "error[E-LOCK-EDITED]");
        // An index that serves other bytes than before, whether it says so or not.
        fs::write(index.path("dmoci.lock"), &pinned).unwrap();
        let longer = index.serve("raise ValueError('it ran')");
        refused(&[1], "error[E-FETCH-DIGEST]");
        index.say(&longer);
        refused(&[1], "error[E-FETCH-DIGEST]");
        // Of the same size.
        let mut others = ('a'..='z').map(|letter| index.serve(&format!("bo{letter}m")));
        let same_size = others.find(|bytes| bytes.len() == good.len()).unwrap();
        index.say(&same_size);
        refused(&[1], Digest::sha256(&good).hex());
        assert_eq!(lock().unwrap(), pinned);
        // One that serves other bytes than it says, when nothing is pinned yet.
        index.say(&good);
        fs::remove_file(index.path("dmoci.lock")).unwrap();
        refused(&[1, 6], "error[");
        assert!(lock().is_err());
        index.serve("None");
        assert_eq!(run(&mut index.dmoci(tool)), first);
    }
}

/// pip finds the same as uv, and installs it in the same way.
#[test]
fn without_uv() {
    if !have(&[PEERS, &["uv"]].concat()) {
        return;
    }
    let place = Place::new();
    let made = ["uv", "pip"].map(|tool| {
        let folder = place.path(tool);
        super::samples::HATCHLING.write(&folder);
        commit(&folder);
        let mut dmoci = super::dmoci(&folder);
        let out = exits(only(tool, &mut dmoci), 0).out;
        assert!(installer(&folder).starts_with(&format!("{tool} ")), "{}", installer(&folder));
        (out, fs::read_to_string(folder.join("dmoci.lock")).unwrap())
    });
    assert_eq!(made[0], made[1]);
    assert!(made[0].1.contains("hatchling-"));
}
