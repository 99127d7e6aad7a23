//! What the numbers were measured on, and with which programs.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::corpus::cache;

/// What decides how fast everything is.
pub(crate) fn facts(work: &Path) -> Vec<(&'static str, String)> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let after = |text: &str, key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        line.trim_start_matches([' ', '\t', ':', '=']).trim_matches('"').to_owned()
    };
    let cpu = read("/proc/cpuinfo");
    let flags: Vec<&str> =
        ["sha_ni", "avx2", "avx512f"].into_iter().filter(|flag| has_flag(&cpu, flag)).collect();
    let model = ["cpu family", "model\t", "stepping"].map(|key| after(&cpu, key)).join("/");
    let memory = after(&read("/proc/meminfo"), "MemTotal");
    let kib: u64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
    vec![
        (
            "processor",
            format!("{}, family/model/stepping {model}, {}", after(&cpu, "model name"), flags.join(" ")),
        ),
        ("cores", cores.to_string()),
        ("memory", format!("{} GiB", (kib + (1 << 19)) >> 20)),
        ("kernel", format!("Linux {}", read("/proc/sys/kernel/osrelease").trim())),
        ("system", after(&read("/etc/os-release"), "PRETTY_NAME")),
        ("file system", file_system(work).unwrap_or_else(|| "unknown".to_owned())),
    ]
}

/// True when the processor has instructions for SHA-256.
pub(crate) fn has_sha_ni() -> bool {
    has_flag(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default(), "sha_ni")
}

fn has_flag(cpuinfo: &str, flag: &str) -> bool {
    let line = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    line.split_whitespace().any(|word| word == flag)
}

/// The kind of file system that a directory is on.
fn file_system(directory: &Path) -> Option<String> {
    let directory = directory.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mount = |line: &str| {
        let (before, behind) = line.split_once(" - ")?;
        let place = PathBuf::from(before.split(' ').nth(4)?);
        let kind = behind.split(' ').next()?.to_owned();
        directory.starts_with(&place).then_some((place.components().count(), kind))
    };
    mounts.lines().filter_map(mount).max_by_key(|(depth, _)| *depth).map(|(_, kind)| kind)
}

/// Where a program is; what `.ci/peers` puts into an environment of its own comes first, and system folders are searched
/// too, which an ordinary user's path lacks.
pub(crate) fn path_of(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let own = (program == "uv").then(|| cache().join("python/bin"));
    let folders = own
        .into_iter()
        .chain(env::split_paths(&path))
        .chain(["/usr/bin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|candidate| candidate.is_file())
}

/// The first line that a program says of its version.
pub(crate) fn version(program: &Path) -> Result<String> {
    let mut output = Command::new(program).arg("--version").output()?;
    if !output.status.success() {
        output = Command::new(program).arg("version").output()?;
    }
    // pigz says it on standard error.
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned();
    match text.is_empty() {
        true => Err(format!("{} does not say its version", program.display()).into()),
        false => Ok(text),
    }
}

/// How a program written in Go computes SHA-256, from what its file says of itself.
///
/// Go's own code uses the SHA instructions since version 1.21; before, only the package `sha256-simd` did.
pub(crate) fn go_sha256(program: &Path) -> Result<String> {
    let bytes = fs::read(program)?;
    let Some(version) = go_version(&bytes) else { return Ok("not written in Go".to_owned()) };
    let simd = find(&bytes, b"github.com/minio/sha256-simd").is_some();
    let minor = version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok()).unwrap_or_default();
    let how = match (minor >= 21, simd) {
        (true, _) => "its SHA-256 uses SHA-NI",
        (false, true) => "its sha256-simd uses SHA-NI",
        (false, false) => "its SHA-256 does not use SHA-NI",
    };
    Ok(format!("built with {version}: {how}"))
}

/// The version in the header that the Go linker writes (`debug/buildinfo`; inline since Go 1.18).
fn go_version(bytes: &[u8]) -> Option<String> {
    const MAGIC: &[u8] = b"\xff Go buildinf:";
    let header = &bytes[find(bytes, MAGIC)?..];
    let inline = header.get(15)? & 2 != 0;
    let length = usize::from(*header.get(32)?);
    let text = header.get(33..33 + length)?;
    (inline && length < 128).then(|| String::from_utf8_lossy(text).into_owned())
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + bytes[from..].iter().position(|byte| *byte == wanted[0])?;
        if bytes[at..].starts_with(wanted) {
            return Some(at);
        }
        from = at + 1;
    }
}
