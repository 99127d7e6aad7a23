//! What plans find out to need, from the network and the machine.

mod base;

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::lock::{Bases, Network, Settled, Told, Wheels};
use super::plan::Watch;
use crate::cache::Downloads;
use crate::diagnostic::Failure;
use crate::fetch::{Cause, FetchError, Fetcher, Wanted};
use crate::inputs::python::requirements::Indexes;
use crate::inputs::python::simple::Link;
use crate::inputs::python::{Location, settings};
use crate::inputs::supply::{BaseDocuments, Page, Purpose, Supply, WheelNeed};
use crate::limits;
use crate::lock::Pins;
use crate::oci::Descriptor;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::url::Url;

/// The network of a command, for one project.
pub(super) struct Online<'a> {
    network: &'a Network<'a>,
    project: &'a Path,
    told: &'a Told<'a>,
    watch: &'a dyn Watch,
    wheels: Wheels<'a>,
    bases: Bases<'a>,
    /// Pages that were asked for, by their addresses: other platforms need the same.
    pages: RefCell<Pages>,
    /// Made when something is asked for.
    fetcher: OnceCell<Fetcher<'a>>,
    reads: RefCell<BTreeSet<PathBuf>>,
}

/// Some pages, of [`limits::PYTHON_PAGE_BYTES`] together.
#[derive(Default)]
struct Pages {
    known: BTreeMap<String, Option<Page>>,
    bytes: u64,
}

impl Pages {
    fn add(&mut self, address: String, page: &Option<Page>) {
        let size = page.as_ref().map_or(0, |page| page.bytes.len() as u64);
        if self.bytes + size <= limits::PYTHON_PAGE_BYTES {
            self.bytes += size;
            self.known.insert(address, page.clone());
        }
    }
}

impl<'a> Online<'a> {
    pub(super) fn new(
        network: &'a Network<'a>,
        project: &'a Path,
        settled: &'a Settled,
        told: &'a Told<'a>,
        watch: &'a dyn Watch,
    ) -> Online<'a> {
        Online {
            network,
            project,
            told,
            watch,
            wheels: Wheels::new(settled),
            bases: Bases::new(settled),
            pages: RefCell::default(),
            fetcher: OnceCell::new(),
            reads: RefCell::default(),
        }
    }

    /// The pins of all wheels and bases that plans asked for.
    pub(super) fn pins(&self) -> BTreeMap<Platform, Pins> {
        let mut all = self.wheels.pins();
        for (platform, pins) in self.bases.pins() {
            all.entry(platform).or_default().extend(pins);
        }
        all
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
    fn base(&self, name: &Reference, platform: &Platform) -> Result<BaseDocuments, Failure> {
        self.documents(name, platform)
    }

    fn base_facts(&self, name: &Reference, platform: &Platform) -> BTreeSet<String> {
        self.bases.facts(name, platform)
    }

    fn keep_base_facts(&self, name: &Reference, platform: &Platform, facts: BTreeSet<String>) {
        self.bases.keep_facts(name, platform, facts);
    }

    fn base_layers(&self, name: &Reference, layers: &[Descriptor]) -> Result<Vec<Arc<File>>, Failure> {
        let entries = self.blobs(name.name(), layers)?;
        Ok(entries.iter().map(|entry| Arc::clone(entry.file())).collect())
    }

    fn only_pins(&self) -> bool {
        self.wheels.only_pins()
    }

    fn pinned(&self, platform: &Platform, layer: &str) -> Vec<Link> {
        let link = |pin: &crate::lock::Pin| {
            let wheel = pin.wheel.as_ref()?;
            let hashes = wheel.sha512.iter().chain([&pin.digest]).cloned().collect();
            let location = match &pin.url {
                Some(url) => Location::Url(url.clone()),
                None => Location::Path(wheel.file.as_str().into()),
            };
            let filename = wheel.file.clone();
            // What it asks for is read in the wheel.
            Some(Link { filename, location, hashes, size: Some(pin.size), requires_python: None })
        };
        self.wheels.pinned(platform, layer).into_iter().filter_map(link).collect()
    }

    fn wheels(&self, needs: &[WheelNeed]) -> Result<Vec<Option<File>>, Failure> {
        let pins = self.wheels.find(needs)?;
        let mut fetch = Vec::with_capacity(needs.len());
        // Of each that is on the network, whether it is fetched.
        let mut order = Vec::with_capacity(needs.len());
        for (need, pin) in needs.iter().zip(pins) {
            if let Some(pin) = &pin {
                self.wheels.keep(need, pin);
            }
            let Some(url) = &need.url else {
                if pin.is_none() {
                    self.wheels.pin_here(need);
                }
                continue;
            };
            let wanted = pin.is_none() || !self.only_pins();
            order.push(wanted);
            if wanted {
                fetch.push((need, url, pin));
            }
        }
        if fetch.is_empty() {
            return Ok(order.iter().map(|_| None).collect());
        }
        let wanted = |(need, url, pin): &(&WheelNeed, &Url, Option<crate::lock::Pin>)| Wanted {
            size: need.wheel.size.or(pin.as_ref().map(|pin| pin.size)),
            most: limits::WHEEL_BYTES,
            ..Wanted::new((*url).clone(), Some(need.wheel.digest.clone()))
        };
        let list: Vec<Wanted> = fetch.iter().map(wanted).collect();
        let fetched = self.fetcher()?.files(&list);
        self.watch.all_fetched();
        let fetched = fetched.map_err(|error| self.told.without_secrets(failure(error, needs)))?;
        for ((need, ..), entry) in fetch.iter().zip(&fetched).filter(|((.., pin), _)| pin.is_none()) {
            self.wheels.pin(need, entry)?;
        }
        let mut fetched = fetched.iter();
        let file = |wanted: bool| {
            let entry = if wanted { fetched.next() } else { None };
            entry.map(|entry| entry.open().map_err(Failure::from)).transpose()
        };
        order.into_iter().map(file).collect()
    }

    fn page(&self, url: &Url, accept: &str, purpose: &Purpose) -> Result<Option<Page>, Failure> {
        if self.network.locked {
            return Err(self.wheels.lacking(purpose).into());
        }
        let address = url.bare();
        if let Some(page) = self.pages.borrow().known.get(&address) {
            return Ok(page.clone());
        }
        let page = match self.fetcher()?.document(url, accept, limits::PYTHON_PAGE_BYTES) {
            Ok(page) => Some(Page {
                url: page.url,
                media_type: page.media_type.unwrap_or_default(),
                bytes: page.bytes,
            }),
            // What an index does not have, another one may.
            Err(FetchError::Failed { cause, .. })
                if matches!(*cause, Cause::Status { status: 404 | 410, .. }) =>
            {
                None
            }
            Err(error) => {
                let mut failure = Failure::from(error);
                failure.places.extend(purpose.places.iter().cloned());
                return Err(self.told.without_secrets(failure));
            }
        };
        self.pages.borrow_mut().add(address, &page);
        Ok(page)
    }

    fn reads(&self, path: &Path) {
        self.reads.borrow_mut().insert(path.to_owned());
    }

    fn variable(&self, name: &str) -> Option<String> {
        let value = (self.network.variable)(name)?;
        self.told.hide(name, &value);
        Some(value)
    }

    fn indexes(&self) -> Result<Indexes, Failure> {
        let read = |path: &Path| {
            let mut text = String::new();
            let file = File::open(path).ok()?;
            file.take(limits::SPEC_BYTES).read_to_string(&mut text).ok()?;
            Some(text)
        };
        Ok(settings::indexes(self.project, &self.network.variable, &read)?)
    }
}

/// How many of several files are shown with their places.
const PLACES: usize = 5;

/// The error with the places of what could not be fetched.
fn failure(error: FetchError, needs: &[WheelNeed]) -> Failure {
    let urls: Vec<String> = error.urls().iter().map(|url| url.bare()).collect();
    let mismatch = matches!(error, FetchError::Digest { .. } | FetchError::Size { .. });
    let mut failure = Failure::from(error);
    for need in needs.iter().filter(|need| urls.contains(&need.key())).take(PLACES) {
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
