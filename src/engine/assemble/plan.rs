//! What every layer of an image consists of. After this only input and output can fail.

mod archive;
mod split;
mod walk;

use std::collections::BTreeSet;
use std::sync::Arc;

use dmoci_layers::{Digest, Entry, EntryKind, SafePath};

use super::adjust::{self, Below};
use super::base::BaseImage;
use super::config;
use super::distributions;
use super::error::BuildError;
use super::merge::{Origin, Rank, Source};
use super::programs::{Finished, Starts};
use super::python::Environments;
use super::remove::Removed;
use super::users;
use crate::diagnostic::Place;
use crate::inputs::base::{Node, Tree};
use crate::inputs::files::{CopySource, Project};
use crate::inputs::pattern::Patterns;
use crate::inputs::substitute::Substitution;
use crate::inputs::tracked::Tracked;
use crate::inputs::{Content, Item, Site};
use crate::oci::platform::Platform;
use crate::spec::target::{self, Input, Span, Target};
pub(super) use split::LARGE;
use walk::{Put, Way, complete};

/// An image that can be written.
#[derive(Debug)]
pub struct ImagePlan {
    /// What was asked for.
    pub target: Target,
    /// What it stands on; nothing for `scratch`.
    pub base: Option<BaseImage>,
    /// Its own layers, from the bottom up.
    pub layers: Vec<LayerPlan>,
    /// Bytes that writing it reads: contents of files, and layers of the base.
    pub bytes: u64,
    /// What is not wrong but hardly meant, and where in the spec.
    pub warnings: Vec<(String, Place)>,
}

/// What an input substitutes in text files, and where in the spec the strings are.
pub(super) type Substituted = (Arc<Substitution>, Vec<(String, Place)>);

/// A layer that can be written.
#[derive(Debug)]
pub struct LayerPlan {
    /// Its name.
    pub name: String,
    /// Sources. Parents that they need are among them unless they are 0755 0:0: see `Completed`.
    pub origins: Vec<Origin>,
    /// Where in the spec the inputs are.
    pub places: Vec<Place>,
    /// What inputs substitute in text files, and where in the spec the strings are.
    pub substitutions: Vec<Substituted>,
    /// Deflate streams of wheels stand in it as they are.
    pub spliced: bool,
    /// What decides its bytes; nothing when the layer must be made in any case.
    pub key: Option<Digest>,
    /// Bytes of its files.
    pub bytes: u64,
}

impl LayerPlan {
    /// A layer of this name that holds nothing yet.
    pub(super) fn new(name: &str) -> LayerPlan {
        LayerPlan {
            name: name.to_owned(),
            origins: Vec::new(),
            places: Vec::new(),
            substitutions: Vec::new(),
            spliced: false,
            key: None,
            bytes: 0,
        }
    }

    /// Which strings of substitutions were in no text so far: the number of the substitution, and that of its string.
    pub(super) fn unused(&self) -> Vec<(usize, usize)> {
        let tables = self.substitutions.iter().enumerate();
        tables.flat_map(|(number, (table, _))| table.unused().into_iter().map(move |n| (number, n))).collect()
    }

    /// What is to be said of strings that were in no text.
    pub(super) fn warnings(&self, unused: &[(usize, usize)]) -> Vec<(String, Place)> {
        let string = |&(table, string): &(usize, usize)| self.substitutions.get(table)?.1.get(string);
        let message = |string: &str| {
            format!("no text that this `copy` of the layer {:?} takes holds {string:?}", self.name)
        };
        unused.iter().filter_map(string).map(|(string, place)| (message(string), place.clone())).collect()
    }

    /// The places of origins, for an error about these.
    pub fn places(&self, origins: &[usize]) -> Vec<Place> {
        let input = |&origin: &usize| self.origins.get(origin).and_then(|origin| origin.input);
        let mut places: Vec<Place> = Vec::new();
        for place in origins.iter().filter_map(input).filter_map(|input| self.places.get(input)) {
            if !places.contains(place) {
                places.push(place.clone());
            }
        }
        places
    }
}

/// Plans a target on `base`. Reads names and metadata of the project, archives and the base's layers.
///
/// `locate` makes a place of the spec out of a span.
pub fn plan(
    target: Target,
    base: Option<BaseImage>,
    mut tree: Tree,
    site: &Site<'_>,
    locate: &dyn Fn(&Span, &str) -> Place,
) -> Result<ImagePlan, BuildError> {
    let mut layers = Vec::with_capacity(target.layers.len() + 1);
    let mut warnings = Vec::new();
    let variables = config::environment(&target.config, base.as_ref())
        .map_err(|error| error.at(locate(&target.base_span, "")))?;
    let mut bytes = base.iter().flat_map(|base| &base.layers).map(|layer| layer.size).sum();
    let mut environments = Environments::default();
    let mut starts = Starts::of(&target.config);
    let below = base.as_ref().map_or(0, |base| base.layers.len());
    let mut room = split::room(below, target.layers.len() + usize::from(!target.users.is_empty()));
    let given = distributions::given(&target, site.own);
    for (number, layer) in target.layers.iter().enumerate() {
        let last = number + 1 == target.layers.len() && target.users.is_empty();
        // Without what wheels give there may be nothing to take away.
        let lenient = site.supply.only_pins();
        let removed = Removed::take(&layer.remove, &mut tree, (&layer.name, lenient), locate)?;
        let image = (&target.platform, base.as_ref());
        let mut context = Context {
            image,
            layer: &layer.name,
            tree: &tree,
            over: BTreeSet::new(),
            given: &given,
            site,
            locate,
        };
        context.over = context.over(&layer.inputs);
        let mut plan = LayerPlan::new(&layer.name);
        for (number, input) in layer.inputs.iter().enumerate() {
            plan.places.push(locate(input.span(), ""));
            let substitution = substitution(input, locate);
            let table = substitution.as_ref().map(|(table, _)| Arc::clone(table));
            plan.substitutions.extend(substitution);
            let origins = context.sources(number, input, table, &mut environments, &mut warnings).map_err(
                |mut error| {
                    if error.places.is_empty() {
                        error = error.at(locate(input.span(), ""));
                    }
                    error
                },
            )?;
            plan.origins.extend(origins);
        }
        let over = context.over;
        let below = Below { tree: &tree, base: base.as_ref(), layers: &layers };
        let adjusted = adjust::plan(&layer.adjust, &below, &layer.name, site, locate)?;
        if let Some(first) = layer.adjust.first() {
            let input = Some(plan.places.len());
            let place = locate(&first.span, "");
            if adjusted.is_empty() {
                let message = "all that `adjust` of the layer {:?} names has this mode and owner already";
                warnings.push((message.replace("{:?}", &format!("{:?}", layer.name)), place.clone()));
            }
            plan.places.push(place);
            let origin = |source| Origin { input, rank: Rank::Explicit, replace: false, source, apart: None };
            // First, so that what others give may replace it.
            plan.origins.splice(..0, adjusted.into_iter().map(origin));
        }
        let (places, mut given) = (plan.places.clone(), vec![false; plan.places.len()]);
        let mut way = Way { over, put: Put::All, removed, starts: &mut starts };
        let parts = split::parts(plan, &mut tree, &mut way, site, &mut room)?;
        let count = parts.len();
        for (number, mut part) in parts.into_iter().enumerate() {
            way.put = if last && number + 1 == count { Put::Telling } else { Put::All };
            complete(&mut part, &mut tree, &mut way, site, &target, &mut given)?;
            // What the layer takes away stands in the lowest part: it is nothing that another part gives.
            way.removed = Removed::default();
            bytes += part.bytes;
            layers.push(part);
        }
        for (input, place) in places.into_iter().enumerate().filter(|(input, _)| !given[*input]) {
            let kind = match layer.inputs.get(input) {
                Some(Input::Archive(_)) => "archive",
                Some(Input::Python(_)) => "python",
                Some(_) => "copy",
                // Of what adjusts nothing it is said already.
                None => continue,
            };
            let message = format!("this `{kind}` of the layer {:?} gives no file at all", layer.name);
            warnings.push((message, place));
        }
    }
    if !target.users.is_empty() {
        let mut plan = users::plan(&target.users, &tree, locate)?;
        let mut given = vec![false; plan.places.len()];
        let removed = Removed::default();
        let mut way = Way { over: BTreeSet::new(), put: Put::Telling, removed, starts: &mut starts };
        complete(&mut plan, &mut tree, &mut way, site, &target, &mut given)?;
        bytes += plan.bytes;
        layers.push(plan);
    }
    // What is not installed may be missing: only the questions matter then, for those who note them.
    let installs = !site.supply.only_pins();
    let missing = environments.missing(&tree, &variables, &target.platform);
    if installs {
        warnings.extend(missing?);
    }
    {
        let (target, base, tree) = (&target, base.as_ref(), &tree);
        let (variables, environments, starts) = (&variables, &environments, &starts);
        let finished = Finished { target, base, tree, variables, environments, starts };
        let said = finished.program().into_iter().chain(finished.user());
        warnings.extend(said.map(|(message, span)| (message, locate(&span, ""))).filter(|_| installs));
    }
    Ok(ImagePlan { target, base, layers, bytes, warnings })
}

pub(super) struct Context<'a> {
    /// What it is for, and what it stands on.
    pub(super) image: (&'a Platform, Option<&'a BaseImage>),
    /// The name of the layer.
    pub(super) layer: &'a str,
    pub(super) tree: &'a Tree,
    /// Files of the layers below that inputs of this layer make directories of.
    over: BTreeSet<SafePath>,
    /// The environments that get the project's own wheel by an entry of its own.
    pub(super) given: &'a BTreeSet<SafePath>,
    pub(super) site: &'a Site<'a>,
    pub(super) locate: &'a dyn Fn(&Span, &str) -> Place,
}

impl Context<'_> {
    /// Files below that inputs which replace make directories of. What cannot be told here is an error later.
    fn over(&self, inputs: &[Input]) -> BTreeSet<SafePath> {
        let mut over = BTreeSet::new();
        for input in inputs.iter().filter(|input| input.replaces()) {
            let path = match input {
                Input::Directory(directory) => &directory.path,
                Input::Copy(copy) => &copy.to,
                _ => continue,
            };
            if let Ok(path) = self.tree.resolve_over(path, true, &over)
                && self.tree.get(&path) == Some(&Node::Other)
            {
                over.insert(path);
            }
        }
        over
    }

    /// The sources that an input stands for.
    fn sources(
        &self,
        number: usize,
        input: &Input,
        substitution: Option<Arc<Substitution>>,
        environments: &mut Environments,
        warnings: &mut Vec<(String, Place)>,
    ) -> Result<Vec<Origin>, BuildError> {
        let replace = input.replaces();
        let origin = |rank, source| Origin { input: Some(number), rank, replace, source, apart: None };
        Ok(match input {
            Input::Copy(copy) => {
                let mut origins = Vec::new();
                for from in &copy.from {
                    let sources = self
                        .copy(copy, &from.path, substitution.clone())
                        .map_err(|error| error.at((self.locate)(&from.span, "")))?;
                    origins
                        .extend(sources.into_iter().map(|s| origin(Rank::Content, Source::Copy(s.into()))));
                }
                origins
            }
            Input::File(file) => {
                let content = Content::Bytes(file.content.as_bytes().into());
                let size = file.content.len() as u64;
                let item =
                    self.item(&file.path, EntryKind::File { size }, file.mode, &file.owner, content)?;
                vec![origin(Rank::Explicit, Source::List(vec![item].into()))]
            }
            Input::Directory(directory) => {
                let kind = EntryKind::Directory;
                let item =
                    self.item(&directory.path, kind, directory.mode, &directory.owner, Content::None)?;
                vec![origin(Rank::Explicit, Source::List(vec![item].into()))]
            }
            Input::Symlink(link) => {
                let kind = EntryKind::Symlink { target: link.target.as_bytes().to_vec() };
                let item = self.item(&link.path, kind, 0o777, &link.owner, Content::None)?;
                vec![origin(Rank::Explicit, Source::List(vec![item].into()))]
            }
            Input::Archive(archive) => {
                let settled = self
                    .archive(archive)
                    .map_err(|error| error.at((self.locate)(archive.source.span(), "")))?;
                vec![origin(Rank::Content, Source::Archive(settled))]
            }
            Input::Download(file) => {
                let fetched = self.site.fetched.expect(&file.remote.url)?.clone();
                let kind = EntryKind::File { size: fetched.size() };
                let content = Content::Fetched(fetched);
                let item = self.item(&file.path, kind, file.mode, &file.owner, content)?;
                vec![origin(Rank::Explicit, Source::List(vec![item].into()))]
            }
            Input::Python(entry) => {
                let (lists, notes) = self.python(entry, environments)?;
                warnings.extend(notes);
                let list = |(items, apart): (Vec<Item>, _)| Origin {
                    apart,
                    ..origin(Rank::Destination, Source::List(items.into()))
                };
                lists.into_iter().map(list).collect()
            }
            Input::Wheel(wheel) => {
                let lists = self.wheel(wheel, environments)?;
                lists.into_iter().map(|items| origin(Rank::Destination, Source::List(items.into()))).collect()
            }
        })
    }

    fn item(
        &self,
        path: &SafePath,
        kind: EntryKind,
        mode: u32,
        owner: &target::Owner,
        content: Content,
    ) -> Result<Item, BuildError> {
        let path = self.tree.resolve_over(path, kind == EntryKind::Directory, &self.over)?;
        let (uid, gid) = numbers(owner);
        Ok(Item { entry: Entry { path, kind, mode, uid, gid, xattrs: Vec::new() }, content })
    }

    /// A copied file or folder; parts of it that lie behind symbolic links of the layers below go where
    /// these lead.
    fn copy(
        &self,
        copy: &target::Copy,
        from: &target::SourcePath,
        substitution: Option<Arc<Substitution>>,
    ) -> Result<Vec<CopySource>, BuildError> {
        let mut source = CopySource { substitution, ..copied(copy, from, self.site.project)? };
        let is_directory = source.is_directory()?;
        if !is_directory {
            if copy.into || copy.from.len() > 1 {
                let name = from.as_path().file_name().unwrap_or_default();
                source.to = self.join(&copy.to, std::os::unix::ffi::OsStrExt::as_bytes(name))?;
            }
            source.to = self.tree.resolve_over(&source.to, false, &self.over)?;
            return Ok(vec![source]);
        }
        source.to = self.tree.resolve_over(&copy.to, true, &self.over)?;
        let mut sources = vec![source];
        let mut done = 0;
        // A part that goes elsewhere may meet further links there.
        while let Some(current) = sources.get(done).cloned() {
            done += 1;
            for link in self.tree.links_below(&current.to) {
                let rest = link.as_bytes()[current.to.as_bytes().len()..].to_vec();
                let rest = rest.strip_prefix(b"/").unwrap_or(&rest).to_vec();
                if rest.is_empty() || !current.has_directory(&rest)? {
                    continue;
                }
                let mut part = current.clone();
                part.from =
                    current.from.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&rest));
                part.to = self.tree.resolve(link, true)?;
                part.without = Vec::new();
                part.below = match current.below.is_empty() {
                    true => rest.clone(),
                    false => [&current.below, &b"/"[..], &rest].concat(),
                };
                sources[done - 1].without.push(rest);
                sources.push(part);
            }
        }
        Ok(sources)
    }

    fn join(&self, to: &SafePath, name: &[u8]) -> Result<SafePath, BuildError> {
        to.join(name).map_err(|source| {
            let path = std::ffi::OsStr::new(&String::from_utf8_lossy(name).into_owned()).into();
            crate::inputs::InputError::Path { path, source }.into()
        })
    }
}

/// What an input substitutes.
fn substitution(input: &Input, locate: &dyn Fn(&Span, &str) -> Place) -> Option<Substituted> {
    let Input::Copy(copy) = input else { return None };
    let strings = &copy.substitute;
    if strings.is_empty() {
        return None;
    }
    let table = Substitution::new(strings.iter().map(|one| (one.string.as_str(), one.value.as_str())));
    let places = strings.iter().map(|one| (one.string.clone(), locate(&one.span, ""))).collect();
    Some((table.into(), places))
}

/// What a `copy` takes from one of its sources, and how; where it goes is as written, links below not
/// followed, and contents are as they are.
pub fn copied(
    copy: &target::Copy,
    from: &target::SourcePath,
    project: &Project,
) -> Result<CopySource, BuildError> {
    let mut source = CopySource {
        project: project.clone(),
        from: from.as_path().to_owned(),
        to: copy.to.clone(),
        patterns: Patterns::new(&copy.include, &copy.exclude)?,
        tracked: None,
        substitution: None,
        without: Vec::new(),
        below: Vec::new(),
        owner: numbers(&copy.owner),
        file_mode: copy.file_mode,
        dir_mode: copy.dir_mode.unwrap_or(0o755),
    };
    if copy.tracked {
        let at = project.path_of(&source.from);
        source.tracked = Some(Tracked::read(&at, &source.from, source.is_directory()?)?.into());
    }
    Ok(source)
}

pub(super) fn numbers(owner: &target::Owner) -> (u64, u64) {
    (owner.uid.into(), owner.gid.into())
}
