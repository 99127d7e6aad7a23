//! Mirrors of a registry: asked before it, and only for what is read. What has a digest is held against that, wherever it comes from.

use std::sync::OnceLock;

use super::{RegistryError, Repository};
use crate::fetch::{Access, Fetcher, Mirror, Scope};
use crate::oci::reference::ImageName;
use crate::url::Url;

/// The mirrors of a repository, in the order in which they are asked.
#[derive(Default)]
pub(super) struct Mirrors(Vec<Known>);

struct Known {
    name: ImageName,
    mirror: Mirror,
    /// Where it answers, found out when it is needed; nothing when it does not.
    root: OnceLock<Option<Url>>,
}

impl Mirrors {
    pub(super) fn new(mirrors: Vec<Mirror>) -> Result<Mirrors, RegistryError> {
        let known = |mirror: Mirror| Ok(Known { name: parsed(&mirror.name)?, mirror, root: OnceLock::new() });
        Ok(Mirrors(mirrors.into_iter().map(known).collect::<Result<_, RegistryError>>()?))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that answer and may be asked for a tag, or for what has a digest. Credentials are those of each one's own host.
    pub(super) fn of<'a>(&self, fetcher: &'a Fetcher<'a>, tag: bool) -> impl Iterator<Item = Repository<'a>> {
        let fits = move |known: &&Known| if tag { known.mirror.tags } else { known.mirror.digests };
        self.0.iter().filter(fits).filter_map(move |known| known.repository(fetcher))
    }
}

impl Known {
    fn repository<'a>(&self, fetcher: &'a Fetcher<'a>) -> Option<Repository<'a>> {
        let mut own = None;
        let root = self.root.get_or_init(|| {
            let insecure = self.mirror.insecure;
            let found =
                Repository::found(fetcher, &self.name, Access::Read, insecure, true, Mirrors::default());
            let told = |error: &RegistryError| {
                fetcher.pass_over(&self.name.to_string(), &super::error::chain(error))
            };
            own = found.inspect_err(told).ok();
            own.as_ref().map(|found| found.root.clone())
        });
        let root = root.clone()?;
        Some(own.unwrap_or_else(|| {
            let (host, repository) = (self.name.host().to_owned(), super::path(&self.name));
            Repository {
                fetcher,
                name: self.name.clone(),
                root,
                scope: Scope { host, repository, access: Access::Read, also: None },
                plain: fetcher.is_plain() || self.mirror.insecure,
                once: true,
                mirrors: Mirrors::default(),
            }
        }))
    }
}

/// A name that a file of mirrors makes.
pub(super) fn parsed(name: &str) -> Result<ImageName, RegistryError> {
    name.parse().map_err(|source| RegistryError::Name { name: name.chars().take(300).collect(), source })
}
