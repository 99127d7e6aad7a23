//! What an archive gives to a layer.

use dmoci_layers::EntryKind;

use super::super::error::BuildError;
use super::{Context, numbers};
use crate::inputs::archive::{Archive, ArchiveFile, Devices, Options};
use crate::inputs::base::Node;
use crate::inputs::pattern::Patterns;
use crate::inputs::unpack::Settled;
use crate::spec::target::{self, ArchiveSource};

impl Context<'_> {
    /// The members that it gives, at their places.
    pub(super) fn archive(&self, archive: &target::Archive) -> Result<Settled, BuildError> {
        let options = Options {
            to: archive.to.clone(),
            strip_components: archive.strip_components,
            patterns: Patterns::new(&archive.include, &archive.exclude)?,
            owner: archive.owner.as_ref().map(numbers),
            devices: match archive.devices {
                target::Devices::Error => Devices::Error,
                target::Devices::Skip => Devices::Skip,
                target::Devices::Keep => Devices::Keep,
            },
        };
        let source = match &archive.source {
            ArchiveSource::Project(source) => {
                ArchiveFile::Project(self.site.project.clone(), source.path.as_path().to_owned())
            }
            ArchiveSource::Remote(remote) => {
                let fetched = self.site.fetched.expect(&remote.url)?.clone();
                ArchiveFile::Fetched(fetched, remote.url.to_string().into())
            }
        };
        let read = Archive::read(self.site, &source, &options)?;
        let mut over = self.over.clone();
        if archive.replace {
            read.directories(|path| {
                let path = self.tree.resolve_over(&path, true, &over)?;
                if self.tree.get(&path) == Some(&Node::Other) {
                    over.insert(path);
                }
                Ok::<(), BuildError>(())
            })?;
        }
        let mut order = read.order()?;
        for member in read.members() {
            let mut member = member?;
            let directory = member.entry.kind == EntryKind::Directory;
            member.entry.path = self.tree.resolve_over(&member.entry.path, directory, &over)?;
            order.add(&member)?;
        }
        Ok(order.settle()?)
    }
}
