//! `dmoci inspect`

use clap::Args as ClapArgs;

use super::network::RegistryArgs;
use super::watcher::Watcher;
use super::{Report, docker};
use crate::diagnostic::{Exit, Failure};
use crate::oci::platform::Platform;
use crate::ops::inspect::{self, FileEntry, Files, Inspected, InspectedImage, Request};
use crate::ops::remote::Remote;
use crate::store::Subject;

/// Show what an image is and holds
///
/// Documents are checked against their digests; `dmoci verify` checks everything.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// An image: oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE, docker-daemon:NAME:TAG, docker://HOST/NAME:TAG or a path
    #[arg(value_name = "SUBJECT")]
    subject: Subject,
    /// Only this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// List every path that a container sees, with mode, owner, size and layer
    #[arg(long)]
    files: bool,
    /// List the entries of this layer, from 1, as they stand
    #[arg(long, value_name = "NUMBER")]
    layer: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(crate) fn run(args: Args, report: &mut Report) -> Result<Exit, Failure> {
    let files = match (args.layer, args.files) {
        (Some(number), _) => Some(Files::Layer(number)),
        (None, true) => Some(Files::Merged),
        (None, false) => None,
    };
    let subject = docker::located(args.subject)?;
    let (network, watch) = (args.registry.network(), Watcher::new(report));
    let remote = Remote { network: &network, watch: &watch };
    let found = inspect::inspect(&Request { subject, platform: args.platform, files }, &remote)?;
    if args.json {
        report.json(&found.to_value());
        return Ok(Exit::Done);
    }
    match files {
        None => described(&found).iter().for_each(|line| report.data(line)),
        Some(_) => {
            for image in &found.images {
                if found.images.len() > 1 {
                    report.data(format!("{}:", image.platform));
                }
                for file in image.files.iter().flatten() {
                    if report.nobody_listens() {
                        return Ok(Exit::Done);
                    }
                    report.data(line(file, image));
                }
            }
        }
    }
    Ok(Exit::Done)
}

fn described(found: &Inspected) -> Vec<String> {
    let mut lines = vec![found.subject.clone()];
    for root in &found.roots {
        lines.push(format!("  {}  {}", root.descriptor.digest, root.descriptor.media_type));
        lines.extend(root.names.iter().map(|name| format!("    name {name}")));
        lines.extend(root.tags.iter().map(|tag| format!("    tag  {tag}")));
    }
    for image in &found.images {
        lines.extend(image_lines(image));
    }
    lines
}

fn image_lines(image: &InspectedImage) -> Vec<String> {
    let (manifest, config) = (image.image.manifest.value(), image.image.config.value());
    let mut lines = vec![
        format!("  {}", image.platform),
        format!("    manifest     {}", image.image.manifest.digest()),
        format!("    config       {}", manifest.config.digest),
    ];
    let mut field = |name: &str, value: String| {
        if !value.is_empty() {
            lines.push(format!("    {name:<12} {value}"));
        }
    };
    let run = &config.run;
    field("created", config.created.clone().unwrap_or_default());
    field("user", run.user.clone().unwrap_or_default());
    field("workdir", run.workdir.clone().unwrap_or_default());
    field("entrypoint", words(&run.entrypoint));
    field("cmd", words(&run.cmd));
    run.env.iter().for_each(|item| field("env", item.clone()));
    field("ports", run.ports.join(" "));
    field("volumes", run.volumes.join(" "));
    field("stop-signal", run.stop_signal.clone().unwrap_or_default());
    run.labels.iter().for_each(|(key, value)| field("label", format!("{key}={value}")));
    manifest.annotations.iter().for_each(|(key, value)| field("annotation", format!("{key}={value}")));
    for (i, (layer, name)) in manifest.layers.iter().zip(&image.layers).enumerate() {
        let name = name.as_deref().unwrap_or("-");
        field(
            "layer",
            format!("{} {name}  {}  {} bytes  {}", i + 1, layer.digest, layer.size, layer.media_type),
        );
    }
    lines
}

/// An argument list, unambiguous.
fn words(words: &[String]) -> String {
    if words.is_empty() { String::new() } else { format!("{words:?}") }
}

fn line(file: &FileEntry, image: &InspectedImage) -> String {
    let kind = match file.kind {
        "file" => '-',
        "link" => 'h',
        "symlink" => 'l',
        "fifo" => 'p',
        other => other.chars().next().unwrap_or('?'),
    };
    let owner = format!("{}:{}", file.uid, file.gid);
    let name = image.layers.get(file.layer - 1).and_then(Option::as_ref);
    let layer = name.map_or_else(|| file.layer.to_string(), |name| format!("{} {name}", file.layer));
    let target = file
        .target
        .as_ref()
        .map(|target| format!(" -> {}", String::from_utf8_lossy(target)))
        .unwrap_or_default();
    format!("{kind} {:04o} {owner:>11} {:>12}  {}{target}  [{layer}]", file.mode, file.size, file.path)
}
