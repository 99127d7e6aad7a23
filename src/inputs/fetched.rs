//! Files from elsewhere, which were fetched before planning.

use std::collections::BTreeMap;

use super::InputError;
use crate::cache::Downloaded;
use crate::url::Url;

/// What was fetched, by its address without user and password.
#[derive(Clone, Debug, Default)]
pub struct Fetched(BTreeMap<String, Downloaded>);

impl Fetched {
    /// These files.
    pub fn new(entries: impl IntoIterator<Item = (String, Downloaded)>) -> Fetched {
        Fetched(entries.into_iter().collect())
    }

    /// The file of an address.
    pub fn get(&self, url: &Url) -> Option<&Downloaded> {
        self.0.get(&url.bare())
    }

    /// The file of an address that was fetched.
    pub fn expect(&self, url: &Url) -> Result<&Downloaded, InputError> {
        self.get(url).ok_or_else(|| InputError::Missing(url.to_string().into()))
    }
}
