//! `dmoci tags`: what tags a repository has.

use super::remote::{Remote, Told};
use crate::diagnostic::Failure;
use crate::fetch::Access;
use crate::oci::reference::ImageName;
use crate::store::registry::Repository;

/// All tags, sorted, but those that stand in for lists of referrers.
pub fn tags(name: &ImageName, remote: &Remote<'_>) -> Result<Vec<String>, Failure> {
    remote.online_name(name)?;
    let listener = Told(remote.watch);
    let fetcher = remote.fetcher(&listener)?;
    let repository = Repository::reach(&fetcher, name, Access::Read)?;
    let mut tags = repository.tags()?;
    tags.retain(|tag| !crate::oci::reference::is_referrers_tag(tag));
    // Not every registry gives them in the order of the specification.
    tags.sort();
    tags.dedup();
    Ok(tags)
}
