//! `dmoci build`

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args as ClapArgs, ValueEnum};

use super::backend::BackendArgs;
use super::network::{self, RegistryArgs};
use super::project::{ProjectArgs, VariantArgs};
use super::sharing::SharingArgs;
use super::twice;
use super::watcher::Watcher;
use super::{Report, docker, push};
use crate::diagnostic::{Exit, Failure};
use crate::oci::platform::Platform;
use crate::ops::build::{self, Built, Request};
use crate::ops::load::{self, Engine};
use crate::ops::remote::Remote;

/// Build the image that dmoci.toml describes
///
/// Writes an OCI image layout to OUTPUT/image, all digests to OUTPUT/digests.json and what was done to
/// OUTPUT/build.log, and prints one line for each artifact: kind, name, digest. Needs no daemon and no root, and the network only for what dmoci.toml takes
/// from there and no earlier run has fetched: that is pinned in dmoci.lock. The same spec, lock and sources give
/// the same digests on every machine. When it fails, what was in OUTPUT is still there.
/// With [wheel] in dmoci.toml the project's own wheel and source distribution are built first, as `dmoci wheel` does, into OUTPUT/python.
/// A variant is an image of its own and has an OUTPUT of its own.
/// With --push the image then goes to its registry.
///
/// What earlier builds made and what has not changed since is not made again: layers are kept in
/// $XDG_CACHE_HOME/dmoci (~/.cache/dmoci), which can be removed at any time. The cache never shows in the digests.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    project: ProjectArgs,
    #[command(flatten)]
    variant: VariantArgs,
    /// The output directory [default: dist in the project directory; of a variant, dist/variant-NAME]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Build for this platform of the spec only; can be repeated
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Vec<Platform>,
    /// When the image was created, in seconds since 1970-01-01T00:00:00Z [default: the environment's
    /// SOURCE_DATE_EPOCH, else the commit's time, else 1980-01-02]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    epoch: Option<u64>,
    /// The revision that the image is built from [default: git's, with -dirty when the tree is]
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    revision: Option<String>,
    /// Use and keep nothing of other builds: make every layer anew
    #[arg(long)]
    no_cache: bool,
    /// Refuse to add anything to dmoci.lock
    #[arg(long)]
    locked: bool,
    /// Build a second time, from a copy of the inputs and under another umask, time zone, locale, directory and number
    /// of threads; exit with 5, and leave OUTPUT as it was, if anything differs
    #[arg(long)]
    twice: bool,
    /// Then hand the image to an engine: of the platform that --platform names, else of this machine's
    #[arg(long, value_name = "ENGINE")]
    load: Option<EngineName>,
    /// Then push it under its name with all tags, the tags last. Layers that the registry has are neither made nor sent, those
    /// of a base in a registry neither fetched nor sent where the registry can take them over: OUTPUT/image lacks these
    #[arg(long, conflicts_with = "offline")]
    push: bool,
    /// Print digests.json instead of lines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    sharing: SharingArgs,
    #[command(flatten)]
    backend: BackendArgs,
    #[command(flatten)]
    network: RegistryArgs,
}

/// Who takes the image.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum EngineName {
    /// A Docker daemon, over its socket: /var/run/docker.sock, or DOCKER_HOST=unix:///PATH
    Docker,
    /// podman, by its command
    Podman,
}

pub(crate) fn run(args: Args, report: &mut Report) -> Result<Exit, Failure> {
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let second = twice::circumstances()?;
    // The first build says all that there is to say of the revision.
    let none = second.map(|_| String::new());
    let threads = second.map_or(cores, twice::Circumstances::enter);
    let outputs = args.output.clone().unwrap_or_else(|| args.project.outputs());
    let engine = args.load.map(engine).transpose()?;
    let loads = engine.as_ref().map(|_| to_load(&args.platform)).transpose()?;
    // Said before the work is done, not after it.
    engine.as_ref().map(Engine::ready).transpose()?;
    let request = Request {
        spec: args.project.spec(),
        output: match &args.variant.variant {
            Some(name) if args.output.is_none() => outputs.join(format!("variant-{name}")),
            _ => outputs.clone(),
        },
        outputs,
        platforms: args.platform,
        loads: loads.clone(),
        set: args.project.set(),
        variant: args.variant.variant,
        project: args.project.directory,
        epoch: args.epoch.map_or_else(epoch, |epoch| Ok(Some(epoch)))?,
        revision: args.revision.or(none),
        cache: if args.no_cache { None } else { network::cache_root() },
        threads,
        backend: args.backend.backend()?,
        push: args.push,
        sharing: args.sharing.sharing()?,
    };
    let network = args.network.of_project(args.locked);
    let watch = Watcher::new(report);
    let built = match args.twice {
        true => twice::build(&request, &network, &watch, report, args.json)?,
        false => build::build(&request, &network, &watch)?,
    };
    drop(watch);
    report.status("Finished", built.layout.display());
    let print = |report: &mut Report| match args.json {
        true => report.json(&built.digests),
        false => report.rows(&rows(&built)),
    };
    // Digests of what may be denied yet would look like those of what was pushed.
    let last = args.push && engine.is_none();
    if !last {
        print(report);
    }
    if let (Some(engine), Some(platform)) = (&engine, &loads) {
        hand_over(&built, platform, engine, args.json, report)?;
    }
    if args.push {
        report.status("Pushing", built.names.join(", "));
        let watch = Watcher::new(report);
        let done = build::push(&built, &Remote { network: &network, watch: &watch })?;
        drop(watch);
        if last {
            print(report);
        }
        if !args.json {
            report.rows(&push::rows(&done));
        }
        push::told(&done, false, report);
        sparse(&built, report);
    }
    Ok(Exit::Done)
}

/// How many layers are named one by one.
const NAMED: usize = 4;

/// Says what the layout lacks that was pushed.
fn sparse(built: &Built, report: &Report) {
    let (lacking, all) = build::lacking(built);
    if lacking.is_empty() {
        return;
    }
    let mut names: Vec<String> = lacking.iter().take(NAMED).map(|one| one.layer.clone()).collect();
    if let Some(more) = lacking.len().checked_sub(NAMED).filter(|more| *more > 0) {
        names.push(format!("{more} more"));
    }
    let layers = super::count(all, "layer", "layers");
    report.status(
        "Sparse",
        format!(
            "{} lacks {} of {layers}, which the registry has: {}; `dmoci build` without --push makes it whole",
            built.layout.display(),
            lacking.len(),
            names.join(", ")
        ),
    );
}

fn engine(name: EngineName) -> Result<Engine, Failure> {
    Ok(match name {
        EngineName::Docker => Engine::Docker(docker::socket()?),
        EngineName::Podman => Engine::Podman,
    })
}

/// Hands the image to an engine, and prints what that has then.
fn hand_over(
    built: &Built,
    platform: &Platform,
    engine: &Engine,
    json: bool,
    report: &Report,
) -> Result<(), Failure> {
    report.status("Loading", format!("{platform} into {}", engine.name()));
    let loaded = load::load(&built.layout, platform, engine)?;
    let names = if loaded.names.is_empty() { vec!["(unnamed)".to_owned()] } else { loaded.names };
    report.status("Loaded", format!("{} into {}", names.join(", "), engine.name()));
    if !json {
        let id = loaded.id.to_string();
        report.rows(&names.into_iter().map(|name| ("loaded", name, id.clone())).collect::<Vec<_>>());
    }
    Ok(())
}

/// The platform that is asked for, or this machine's.
fn to_load(asked: &[Platform]) -> Result<Platform, Failure> {
    if let [one] = asked {
        return Ok(one.clone());
    }
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "powerpc64" => "ppc64",
        "loongarch64" => "loong64",
        other => other,
    };
    Platform::new("linux", architecture, None).map_err(|error| Failure {
        code: "E-LOAD-PLATFORM",
        exit: Exit::Usage,
        message: "it is not known which platform this machine's images are for".into(),
        causes: vec![error.to_string()],
        places: Vec::new(),
        help: Some("say which image to load with --platform".into()),
    })
}

/// SOURCE_DATE_EPOCH, when it is set (<https://reproducible-builds.org/specs/source-date-epoch/>).
pub(super) fn epoch() -> Result<Option<u64>, Failure> {
    let Some(value) = std::env::var_os("SOURCE_DATE_EPOCH") else { return Ok(None) };
    match value.to_str().and_then(|text| text.parse().ok()) {
        Some(seconds) => Ok(Some(seconds)),
        None => Err(Failure {
            code: "E-EPOCH",
            exit: Exit::Usage,
            message: format!(
                "SOURCE_DATE_EPOCH is {value:?} in the environment, which is no number of seconds"
            ),
            causes: Vec::new(),
            places: Vec::new(),
            help: Some("unset it, or set it to seconds since 1970-01-01T00:00:00Z".into()),
        }),
    }
}

/// One line for each artifact: kind, name, digest.
fn rows(built: &Built) -> Vec<(&'static str, String, String)> {
    let mut rows = Vec::new();
    let root = built.image.root.digest.to_string();
    match built.names.as_slice() {
        [] => rows.push(("image", "(unnamed)".into(), root)),
        names => rows.extend(names.iter().map(|name| ("image", name.clone(), root.clone()))),
    }
    for platform in &built.image.platforms {
        let on = platform.platform.to_string();
        rows.push(("manifest", on.clone(), platform.manifest.digest.to_string()));
        rows.push(("config", on.clone(), platform.config.digest.to_string()));
        for layer in &platform.layers {
            rows.push(("layer", format!("{on}:{}", layer.name), layer.descriptor.digest.to_string()));
        }
    }
    let own = built.distributions.iter();
    rows.extend(own.map(|made| (made.kind, made.name.clone(), made.digest.to_string())));
    rows
}
