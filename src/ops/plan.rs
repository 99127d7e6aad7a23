//! What `check` and `build` have in common: plans for all platforms, with everything that can be wrong found.

use std::path::Path;

use crate::cache::Cache;
use crate::diagnostic::{Diagnostic as _, Failure, Place};
use crate::engine::assemble::{self, BaseImage, ImagePlan};
use crate::files::Moment;
use crate::inputs::base::Tree;
use crate::inputs::fetched::Fetched;
use crate::inputs::files::Project;
use crate::inputs::python::Own;
use crate::inputs::supply::Supply;
use crate::inputs::{InputError, Site};
use crate::spec::{Span, Spec, Target};

/// Who is told what is done.
pub trait Watch: Sync {
    /// A step begins.
    fn status(&self, verb: &str, message: &str);
    /// Something that only those want to know who look closely.
    fn detail(&self, verb: &str, message: &str);
    /// Something is not wrong, but hardly meant.
    fn warning(&self, message: &str);
    /// So many bytes more are to be fetched.
    fn fetching(&self, _bytes: u64) {}
    /// So many bytes more were fetched.
    fn fetched(&self, _bytes: u64) {}
    /// Nothing more is to be fetched.
    fn all_fetched(&self) {}
    /// So many bytes are to be written.
    fn total(&self, bytes: u64);
    /// So many bytes more were written.
    fn wrote(&self, bytes: u64);
}

/// What a plan is made from, beside the spec.
pub(super) struct Ground<'a> {
    /// The project directory.
    pub(super) project: &'a Path,
    /// The directory that a build writes, when there is one: it can be neither copied nor a base.
    pub(super) output: &'a Path,
    /// Where what archives hold is unpacked, into nameless files.
    pub(super) scratch: &'a Path,
    /// What earlier runs learnt.
    pub(super) cache: Option<&'a Cache>,
    /// What comes from elsewhere.
    pub(super) fetched: &'a Fetched,
    /// What plans find out to need.
    pub(super) supply: &'a dyn Supply,
    /// The project's own wheel.
    pub(super) own: Option<&'a Own>,
}

impl Ground<'_> {
    /// Gives the site that this is to what plans.
    pub(super) fn site<T>(&self, plan: impl FnOnce(&Site<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
        let &Ground { project, output, scratch, cache, fetched, supply, own } = self;
        let since = Moment::now(scratch)
            .map_err(|source| InputError::Scratch { path: scratch.to_owned(), source })?;
        let project = Project::open(project)?.writing(output)?;
        plan(&Site { project: &project, scratch, cache, since, fetched, supply, own })
    }
}

/// Plans all targets.
pub(super) fn plan(
    spec: &Spec,
    targets: Vec<Target>,
    ground: &Ground<'_>,
    watch: &dyn Watch,
) -> Result<Vec<ImagePlan>, Failure> {
    ground.site(|site| {
        let mut plans: Vec<ImagePlan> = Vec::with_capacity(targets.len());
        for target in targets {
            watch.status("Planning", &on(spec, &target));
            let plan = one(spec, target, site)?;
            warn(watch, &plan.warnings);
            plans.push(plan);
        }
        Ok(plans)
    })
}

/// Plans one target.
pub(super) fn one(spec: &Spec, target: Target, site: &Site<'_>) -> Result<ImagePlan, Failure> {
    let at_base = spec.place(&target.base_span, "");
    let open = || {
        BaseImage::open(&target, site).map_err(|error| match error.places().is_empty() {
            true => error.at(at_base.clone()),
            // It is about another line, such as that of a key.
            false => error,
        })
    };
    let whole = |base: &BaseImage| base.tree(site).map_err(|error| error.at(at_base.clone()));
    let Some(mut base) = open()? else { return above(spec, target, None, Tree::default(), site) };
    let Some(name) = base.reference().cloned() else {
        let tree = whole(&base)?;
        return above(spec, target.clone(), Some(base), tree, site);
    };
    // What earlier builds have asked of its layers may be all that there is to ask.
    let facts = site.supply.base_facts(&name, &target.platform);
    if let Some((tree, sketch)) = Tree::known(facts.iter().map(String::as_str)).filter(|_| !facts.is_empty())
    {
        let planned = above(spec, target.clone(), Some(base), tree, site);
        if !sketch.is_lacking() {
            return planned;
        }
        let Some(again) = open()? else { return planned };
        base = again;
    }
    let (tree, notes) = whole(&base)?.noted();
    let planned = above(spec, target.clone(), Some(base), tree, site)?;
    if let Some(facts) = notes.lines() {
        site.supply.keep_base_facts(&name, &target.platform, facts);
    }
    Ok(planned)
}

/// Plans a target above the tree of its base.
fn above(
    spec: &Spec,
    target: Target,
    base: Option<BaseImage>,
    tree: Tree,
    site: &Site<'_>,
) -> Result<ImagePlan, Failure> {
    let locate = |span: &Span, label: &str| spec.place(span, label);
    let place = (spec.platforms().len() > 1 || spec.variant().is_some()).then(|| on(spec, &target));
    assemble::plan(target, base, tree, site, &locate).map_err(|error| {
        let mut failure = Failure::from(error);
        // What is below a layer may be another thing on each platform.
        if let Some(place) = place.filter(|_| matches!(failure.code, "E-REMOVE" | "E-ADJUST")) {
            failure.message += &format!(", for {place}");
        }
        failure
    })
}

/// Tells warnings, with their lines.
pub(super) fn warn(watch: &dyn Watch, warnings: &[(String, Place)]) {
    for (message, place) in warnings {
        watch.warning(&format!("{}:{}: {message}", place.file.display(), place.line()));
    }
}

/// How a target is called: its platform, and the variant.
pub fn on(spec: &Spec, target: &Target) -> String {
    match spec.variant() {
        Some(variant) => format!("{} (variant {variant})", target.platform),
        None => target.platform.to_string(),
    }
}
