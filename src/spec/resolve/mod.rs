//! From the tree to the target: expansion, defaults, and the check of every value.
//!
//! The same code runs twice. [`check`] runs it over all entries without platform and variables: values with
//! placeholders are passed over (`None` without a problem). [`target`] runs it for one platform, where `None`
//! always comes with a problem.

mod expand;
mod image;
mod layers;
mod vars;

use std::collections::BTreeMap;
use std::time::Duration;

use super::Overrides;
use super::error::{Problem, one_of};
use super::suggest::nearest;
use super::target::*;
use super::template::Text;
use super::template::cut;
use super::tree::{Fields, Node, Value};
use super::values::{self, Bad};
use crate::limits;
use crate::oci::platform::Platform;

/// Checks all that needs no platform; the platforms, and what is wrong.
pub(super) fn check(root: &Fields) -> (Vec<Platform>, Vec<Problem>) {
    let mut resolver = Resolver::new(root, None);
    resolver.check_vars();
    let platforms = match root.table("image").and_then(|image| image.get("platforms")) {
        Some(node) => resolver.image_platforms(node),
        None => Vec::new(),
    };
    resolver.built = platforms.clone();
    resolver.target();
    (platforms, resolver.problems)
}

/// The same for a variant, merged with an image for the platforms `built`: it is for all of these, or for some.
pub(super) fn check_variant(
    root: &Fields,
    name: &str,
    span: &Span,
    built: &[Platform],
) -> (Vec<Platform>, Vec<Problem>) {
    let mut resolver = Resolver::new(root, None);
    let result = values::variant_name(name);
    resolver.good(span, result);
    let platforms = match root.table("image").and_then(|image| image.get("platforms")) {
        Some(node) => {
            let platforms = resolver.image_platforms(node);
            resolver.built = built.to_vec();
            resolver.are_built(node.list());
            platforms
        }
        None => Vec::new(),
    };
    resolver.built = built.to_vec();
    resolver.target();
    (platforms, resolver.problems)
}

/// What is to be built for `platform`.
pub(super) fn target(
    root: &Fields,
    built: &[Platform],
    platform: &Platform,
    overrides: &Overrides,
) -> Result<Target, Vec<Problem>> {
    let mut resolver = Resolver::new(root, Some((platform, overrides)));
    resolver.built = built.to_vec();
    match resolver.target() {
        Some(target) if resolver.problems.is_empty() => Ok(target),
        _ if resolver.problems.is_empty() => {
            Err(vec![Problem::new("E-SPEC", &(0..0), "the specification cannot be resolved")])
        }
        _ => Err(resolver.problems),
    }
}

/// What `[wheel]` says, which is the same for all platforms.
pub(super) fn own_wheel(root: &Fields, overrides: &Overrides) -> Result<Option<OwnWheel>, Vec<Problem>> {
    let platform = match root.table("image").and_then(|image| image.get("platforms")) {
        Some(node) => Resolver::new(root, None).image_platforms(node).into_iter().next(),
        None => None,
    };
    let platform = match platform {
        Some(platform) => platform,
        None => values::platform("linux/amd64").map_err(|_| Vec::new())?,
    };
    let mut resolver = Resolver::new(root, Some((&platform, overrides)));
    match resolver.own_wheel() {
        Some(wheel) if resolver.problems.is_empty() => Ok(wheel),
        _ => Err(resolver.problems),
    }
}

struct Resolver<'a> {
    root: &'a Fields,
    /// Nothing while only checking.
    given: Option<(&'a Platform, &'a Overrides)>,
    built: Vec<Platform>,
    /// Variables as written.
    texts: BTreeMap<&'a str, &'a Text>,
    /// Variables already expanded; nothing for those that cannot be.
    vars: BTreeMap<String, Option<String>>,
    /// Bytes that expansion may still make.
    budget: u64,
    users: Vec<User>,
    /// There is no base image.
    scratch: bool,
    problems: Vec<Problem>,
}

impl<'a> Resolver<'a> {
    fn new(root: &'a Fields, given: Option<(&'a Platform, &'a Overrides)>) -> Resolver<'a> {
        let vars = root.table("vars").into_iter().flat_map(|vars| &vars.entries);
        Resolver {
            root,
            given,
            built: Vec::new(),
            texts: vars.filter_map(|(name, _, node)| Some((name.as_str(), node.text()?))).collect(),
            vars: BTreeMap::new(),
            budget: limits::SPEC_EXPANDED_BYTES,
            users: Vec::new(),
            scratch: false,
            problems: Vec::new(),
        }
    }

    fn target(&mut self) -> Option<Target> {
        let none = Fields::default();
        let image = self.root.table("image").unwrap_or(&none);
        let users = self.users(image);
        self.users = users.clone().unwrap_or_default();
        let version = self.known_version();
        let name = self.optional(image, "name", values::image_name);
        let tags = self.each_once(image.list("tags"), "tag", values::tag);
        let base = self.or(image, "base", Base::Scratch, values::base);
        self.scratch = base == Some(Base::Scratch);
        let config = self.config(image);
        let annotations = self.labels(image, "annotations");
        let compression = self.or(image, "compression", Compression::default(), |text| {
            choice(
                text,
                &[("gzip", Compression::Gzip), ("zstd", Compression::Zstd), ("none", Compression::None)],
            )
        });
        let wheel = self.own_wheel();
        let base_trust = self.base_trust();
        let layers = self.layers();
        Some(Target {
            platform: self.given?.0.clone(),
            version: version?,
            name: name?,
            tags: tags?,
            base: base?,
            base_span: image.get("base").map(|node| node.span.clone()).unwrap_or_default(),
            config: config?,
            annotations: annotations?,
            compression: compression?,
            splice: image.switch("splice").unwrap_or(true),
            users: users?,
            wheel: wheel?,
            base_trust: base_trust?,
            layers: layers?,
        })
    }

    /// `[wheel]`.
    fn own_wheel(&mut self) -> Option<Option<OwnWheel>> {
        let Some(fields) = self.root.table("wheel") else { return Some(None) };
        let source = self.or(fields, "source", SourcePath::project(), values::source_path);
        let timeout = self.or(fields, "timeout", Duration::from_secs(1800), values::duration);
        Some(Some(OwnWheel {
            source: source?,
            sdist: fields.switch("sdist").unwrap_or(true),
            normalize: fields.switch("normalize").unwrap_or(true),
            all_files: fields.flag("all-files"),
            timeout: timeout?,
            span: fields.span.clone(),
        }))
    }

    /// `[trust.base]`.
    fn base_trust(&mut self) -> Option<Option<BaseTrust>> {
        let Some(fields) = self.root.table("trust").and_then(|trust| trust.table("base")) else {
            return Some(None);
        };
        const IDENTITY: &str = "certificate-identity";
        const PATTERN: &str = "certificate-identity-regexp";
        const ISSUER: &str = "certificate-oidc-issuer";
        let text = |text: &str| Ok::<_, Bad>(text.to_owned());
        let key = self.optional(fields, "key", values::source_path);
        let (exact, pattern) = (self.optional(fields, IDENTITY, text), self.optional(fields, PATTERN, text));
        let issuer = self.optional(fields, ISSUER, text);
        let root = self.optional(fields, "trusted-root", values::source_path);
        let predicate = self.optional(fields, "type", text);
        let (exact, pattern, issuer) = (exact?, pattern?, issuer?);
        let wrong = match (&issuer, exact.is_some() || pattern.is_some()) {
            (Some(_), false) => Some("an issuer is nothing without the identity that it vouches for"),
            (None, true) => Some("an identity is nothing without the issuer that vouches for it"),
            _ => None,
        };
        let identities = [(exact, false), (pattern, true)].into_iter().filter_map(|(subject, is_pattern)| {
            let (subject, issuer) = (subject?, issuer.clone().unwrap_or_default());
            Some(Signer::Identity { subject, is_pattern, issuer })
        });
        let signers: Vec<Signer> = key?.map(Signer::Key).into_iter().chain(identities).collect();
        let wrong = wrong.or(signers.is_empty().then_some("[trust.base] does not say who must have signed"));
        if let Some(message) = wrong {
            let problem = Problem::new("E-SPEC-VALUE", &fields.span, message)
                .expected(format!("expected `key`, or `{IDENTITY}` or `{PATTERN}` with `{ISSUER}`"));
            self.problems.push(problem);
            return None;
        }
        let span = fields.span.clone();
        Some(Some(BaseTrust { signers, root: root?, predicate: predicate?, span }))
    }

    fn image_platforms(&mut self, node: &Node) -> Vec<Platform> {
        let platforms = self.platforms(node.list());
        if node.list().is_empty() {
            let problem = Problem::new("E-SPEC-VALUE", &node.span, "image.platforms is empty");
            self.problems.push(problem.expected("expected at least one platform"));
        }
        platforms
    }

    /// Checked, each once.
    fn platforms(&mut self, list: &[Node]) -> Vec<Platform> {
        let mut platforms: Vec<(Platform, Span)> = Vec::new();
        for node in list {
            let Value::Literal(text) = &node.value else { continue };
            let Some(platform) = self.good(&node.span, values::platform(text)) else { continue };
            if let Some((_, first)) = platforms.iter().find(|(other, _)| *other == platform) {
                let problem = Problem::new(
                    "E-SPEC-DUPLICATE",
                    &node.span,
                    format!("the platform {platform} is named twice"),
                );
                self.problems.push(problem.expected("again here").other(first, "first here"));
                continue;
            }
            platforms.push((platform, node.span.clone()));
        }
        platforms.into_iter().map(|(platform, _)| platform).collect()
    }

    /// Whether a layer or entry is for the platform at hand.
    fn is_meant(&mut self, fields: &Fields) -> bool {
        let Some(node) = fields.get("platforms") else { return true };
        if let Some((platform, _)) = self.given {
            let parsed = |node: &Node| match &node.value {
                Value::Literal(text) => text.parse::<Platform>().ok(),
                _ => None,
            };
            return node.list().iter().filter_map(parsed).any(|other| other == *platform);
        }
        if node.list().is_empty() {
            let problem =
                Problem::new("E-SPEC-VALUE", &node.span, "`platforms` is empty, so this would never be used");
            self.problems.push(problem.expected("expected at least one platform"));
        }
        self.platforms(node.list());
        self.are_built(node.list());
        true
    }

    /// Checks that the image is built for all of these.
    fn are_built(&mut self, list: &[Node]) {
        for element in list {
            let Value::Literal(text) = &element.value else { continue };
            let Ok(platform) = values::platform(text) else { continue };
            if !self.built.is_empty() && !self.built.contains(&platform) {
                let built: Vec<String> = self.built.iter().map(ToString::to_string).collect();
                let problem =
                    Problem::new("E-SPEC-PLATFORM", &element.span, format!("{platform} is not built"));
                self.problems.push(
                    problem.expected(format!(
                        "image.platforms has {}",
                        one_of(built.iter().map(String::as_str))
                    )),
                );
            }
        }
    }
}

fn choice<T: Clone>(text: &str, choices: &[(&str, T)]) -> Result<T, Bad> {
    if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
        return Ok(value.clone());
    }
    let names = || choices.iter().map(|(name, _)| *name);
    let expected = match nearest(text, names()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("expected one of {}", one_of(names())),
    };
    Err(Bad::new(format!("{:?} is not known here", cut(text)), expected))
}
