//! What plans find out to need, from the network and the machine.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::lock::{Network, Told};
use super::plan::Watch;
use crate::cache::Downloads;
use crate::diagnostic::Failure;
use crate::fetch::{Cause, FetchError, Fetcher, Wanted};
use crate::inputs::python::requirements::Indexes;
use crate::inputs::python::settings;
use crate::inputs::supply::{Page, Supply, WheelNeed};
use crate::limits;
use crate::url::Url;

/// The network of a command, for one project.
pub(super) struct Online<'a> {
    network: &'a Network<'a>,
    project: &'a Path,
    told: &'a Told<'a>,
    watch: &'a dyn Watch,
    /// Made when something is asked for.
    fetcher: OnceCell<Fetcher<'a>>,
    reads: RefCell<BTreeSet<PathBuf>>,
}

impl<'a> Online<'a> {
    pub(super) fn new(
        network: &'a Network<'a>,
        project: &'a Path,
        told: &'a Told<'a>,
        watch: &'a dyn Watch,
    ) -> Online<'a> {
        Online { network, project, told, watch, fetcher: OnceCell::new(), reads: RefCell::default() }
    }

    /// The files of the project that were read and that the spec does not name itself.
    pub(super) fn reads(&self) -> BTreeSet<PathBuf> {
        self.reads.borrow().clone()
    }

    fn fetcher(&self) -> Result<&Fetcher<'a>, Failure> {
        if let Some(fetcher) = self.fetcher.get() {
            return Ok(fetcher);
        }
        let downloads = Downloads::open(self.network.downloads()?)?;
        let fetcher =
            Fetcher::new(self.network.settings.clone(), downloads, self.network.surroundings, self.told);
        Ok(self.fetcher.get_or_init(|| fetcher))
    }
}

impl fmt::Debug for Online<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Online").field("project", &self.project).finish_non_exhaustive()
    }
}

impl Supply for Online<'_> {
    fn wheels(&self, needs: &[WheelNeed]) -> Result<Vec<File>, Failure> {
        if needs.is_empty() {
            return Ok(Vec::new());
        }
        let wanted = |need: &WheelNeed| Wanted {
            size: need.wheel.size,
            ..Wanted::new(need.url.clone(), Some(need.wheel.digest.clone()))
        };
        let list: Vec<Wanted> = needs.iter().map(wanted).collect();
        let fetched = self.fetcher()?.files(&list);
        self.watch.all_fetched();
        let fetched = fetched.map_err(|error| failure(error, needs))?;
        fetched.iter().map(|entry| entry.open().map_err(Failure::from)).collect()
    }

    fn page(&self, url: &Url, accept: &str) -> Result<Option<Page>, Failure> {
        match self.fetcher()?.document(url, accept, limits::PYTHON_LOCK_BYTES) {
            Ok(page) => Ok(Some(Page {
                url: page.url,
                media_type: page.media_type.unwrap_or_default(),
                bytes: page.bytes,
            })),
            // What an index does not have, another one may.
            Err(FetchError::Failed { cause, .. })
                if matches!(*cause, Cause::Status { status: 404 | 410, .. }) =>
            {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn reads(&self, path: &Path) {
        self.reads.borrow_mut().insert(path.to_owned());
    }

    fn variable(&self, name: &str) -> Option<String> {
        (self.network.variable)(name)
    }

    fn indexes(&self) -> Result<Indexes, Failure> {
        let read = |path: &Path| {
            let mut text = String::new();
            let file = File::open(path).ok()?;
            file.take(limits::SPEC_BYTES).read_to_string(&mut text).ok()?;
            Some(text)
        };
        Ok(settings::indexes(self.project, &|name| self.variable(name), &read)?)
    }
}

/// The error with the places of what could not be fetched.
fn failure(error: FetchError, needs: &[WheelNeed]) -> Failure {
    let urls: Vec<String> = error.urls().iter().map(|url| url.bare()).collect();
    let mismatch = matches!(error, FetchError::Digest { .. } | FetchError::Size { .. });
    let mut failure = Failure::from(error);
    for need in needs.iter().filter(|need| urls.contains(&need.url.bare())) {
        failure.places.extend(need.wheel.place.clone());
        if !failure.places.contains(&need.place) {
            failure.places.push(need.place.clone());
        }
    }
    if mismatch {
        failure.help = Some(
            "look why it changed; when it is meant, lock again with the tool that made the lock file".into(),
        );
    }
    failure
}
