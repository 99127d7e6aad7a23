//! The layers and what they are made of.

use std::collections::BTreeMap;

use super::super::error::Problem;
use super::super::suggest::nearest;
use super::super::target::*;
use super::super::template::cut;
use super::super::tree::{Fields, Node, Value};
use super::super::values::{self, Bad};
use super::{Resolver, choice};
use crate::url::Scheme;

/// How many wheels at most get a layer of their own when nothing is said.
const OWN_LAYERS: usize = 16;

impl Resolver<'_> {
    pub(super) fn layers(&mut self) -> Option<Vec<Layer>> {
        let mut layers: Vec<Option<Layer>> = Vec::new();
        let mut seen: BTreeMap<String, Span> = BTreeMap::new();
        for fields in self.root.tables("layer") {
            let meant = self.is_meant(fields);
            let name = self.required(fields, "name", values::layer_name);
            let span = fields.get("name").map_or(&fields.span, |node| &node.span).clone();
            if let Some(name) = &name
                && let Some(first) = seen.insert(name.clone(), span.clone())
            {
                let problem =
                    Problem::new("E-SPEC-DUPLICATE", &span, format!("two layers have the name `{name}`"));
                self.problems.push(problem.expected("again here").other(&first, "first here"));
            }
            if name.as_deref() == Some(USERS_LAYER)
                && let Some(user) = self.users.first()
            {
                let problem = Problem::new(
                    "E-SPEC-DUPLICATE",
                    &span,
                    format!("`{USERS_LAYER}` is the layer that image.users makes"),
                );
                let problem = problem.expected("expected another name").other(&user.span, "made from this");
                self.problems.push(problem);
            }
            let inputs = if meant { self.inputs(fields) } else { Some(Vec::new()) };
            let remove = if meant { self.named(fields.list("remove")) } else { Some(Vec::new()) };
            let adjust = if meant { self.adjusts(fields) } else { Some(Vec::new()) };
            layers.push(name.zip(inputs).zip(remove.zip(adjust)).map(
                |((name, mut inputs), (remove, adjust))| {
                    inputs.sort_by_key(|input| input.span().start);
                    Layer { name, remove, adjust, inputs, span }
                },
            ));
        }
        let mut layers = layers.into_iter().collect::<Option<Vec<Layer>>>()?;
        layers
            .retain(|layer| !layer.inputs.is_empty() || !layer.remove.is_empty() || !layer.adjust.is_empty());
        Some(layers)
    }

    pub(super) fn inputs(&mut self, layer: &Fields) -> Option<Vec<Input>> {
        let mut inputs = Vec::new();
        let mut entries = layer.list("remove").len() + layer.list("adjust").len();
        for (kind, _, node) in layer.entries.iter().filter(|(kind, ..)| kind != "adjust") {
            for fields in node.list().iter().filter_map(Node::table) {
                entries += 1;
                if !self.is_meant(fields) {
                    continue;
                }
                inputs.push(match kind.as_str() {
                    "copy" => self.copy(fields).map(Input::Copy),
                    "file" => self.file(fields).map(Input::File),
                    "directory" => self.directory(fields).map(Input::Directory),
                    "symlink" => self.symlink(fields).map(Input::Symlink),
                    "archive" => self.archive(fields).map(Input::Archive),
                    "download" => self.download(fields).map(Input::Download),
                    "python" => self.python(fields).map(Input::Python),
                    "wheel" => self.wheel(fields).map(Input::Wheel),
                    _ => None,
                });
            }
        }
        if self.given.is_none() && entries == 0 && !layer.broken {
            let problem = Problem::new("E-SPEC-VALUE", &layer.span, "the layer is empty");
            self.problems.push(problem.expected(
                "expected one of `copy`, `file`, `directory`, `symlink`, `archive`, `download`, `python`, `wheel`, `remove`, `adjust`",
            ));
        }
        inputs.into_iter().collect()
    }

    /// Paths and patterns of the layers below.
    fn named(&mut self, list: &[Node]) -> Option<Vec<Named>> {
        let named = list.iter().map(|node| {
            let pattern = self.checked(node, values::absolute_pattern)?;
            Some(Named { pattern, span: node.span.clone() })
        });
        named.collect::<Vec<_>>().into_iter().collect()
    }

    fn adjusts(&mut self, layer: &Fields) -> Option<Vec<Adjust>> {
        let mut adjusts = Vec::new();
        for fields in layer.tables("adjust") {
            if self.is_meant(fields) {
                adjusts.push(self.adjust(fields));
            }
        }
        adjusts.into_iter().collect()
    }

    fn adjust(&mut self, fields: &Fields) -> Option<Adjust> {
        let paths = self.named(fields.list("path"));
        self.not_empty(fields, "path");
        let mode = self.optional(fields, "mode", values::mode);
        let file_mode = self.optional(fields, "file-mode", values::mode);
        let dir_mode = self.optional(fields, "dir-mode", values::mode);
        let owner = self.owner(fields);
        if ["mode", "file-mode", "dir-mode", "owner"].iter().all(|key| fields.get(key).is_none())
            && !fields.broken
        {
            let problem = Problem::new("E-SPEC-VALUE", &fields.span, "this `adjust` changes nothing");
            self.problems.push(problem.expected("expected `mode`, `file-mode`, `dir-mode` or `owner`"));
        }
        Some(Adjust {
            paths: paths?,
            recursive: fields.flag("recursive"),
            mode: mode?,
            file_mode: file_mode?,
            dir_mode: dir_mode?,
            owner: owner?,
            span: fields.span.clone(),
        })
    }

    /// Refuses an empty list of paths.
    fn not_empty(&mut self, fields: &Fields, key: &str) {
        if let Some(node) = fields.get(key)
            && node.list().is_empty()
            && matches!(node.value, Value::List(_))
        {
            let problem = Problem::new("E-SPEC-VALUE", &node.span, format!("`{key}` is empty"));
            self.problems.push(problem.expected("expected a path"));
        }
    }

    pub(super) fn copy(&mut self, fields: &Fields) -> Option<Copy> {
        let from = self.sources(fields.list("from"));
        self.not_empty(fields, "from");
        let to =
            self.required(fields, "to", |text| Ok((values::image_path_or_root(text)?, text.ends_with('/'))));
        if let (Some(from), Some((path, false)), Some(node)) = (&from, &to, fields.get("to"))
            && from.len() > 1
        {
            let problem = Problem::new("E-SPEC-VALUE", &node.span, "several `from` go to one `to`");
            self.problems
                .push(problem.expected("expected `/` at the end").help(format!("write to = \"{path}/\"")));
        }
        let include = self.each(fields.list("include"), values::pattern);
        let exclude = self.each(fields.list("exclude"), values::pattern);
        let owner = self.owner(fields);
        let file_mode = self.optional(fields, "file-mode", values::mode);
        let dir_mode = self.optional(fields, "dir-mode", values::mode);
        let substitute = self.substitute(fields);
        let (to, into) = to?;
        Some(Copy {
            from: from?,
            to,
            into,
            include: include?,
            exclude: exclude?,
            owner: owner?.unwrap_or_default(),
            file_mode: file_mode?,
            dir_mode: dir_mode?,
            tracked: fields.flag("tracked"),
            substitute: substitute?,
            replace: fields.flag("replace"),
            span: fields.span.clone(),
        })
    }

    fn substitute(&mut self, fields: &Fields) -> Option<Vec<Substitute>> {
        let mut all = Vec::new();
        let mut complete = true;
        for (string, span, node) in
            fields.table("substitute").map(|table| &table.entries[..]).unwrap_or_default()
        {
            complete &= self.good(span, values::substituted(string)).is_some();
            match self.checked(node, values::text) {
                Some(value) => all.push(Substitute { string: string.clone(), value, span: span.clone() }),
                None => complete = false,
            }
        }
        all.sort_by(|a, b| a.string.cmp(&b.string));
        complete.then_some(all)
    }

    pub(super) fn file(&mut self, fields: &Fields) -> Option<File> {
        let path = self.required(fields, "path", values::image_file);
        let content = self.required(fields, "content", |text| Ok(text.to_owned()));
        let mode = self.or(fields, "mode", 0o644, values::mode);
        let owner = self.owner(fields);
        Some(File {
            path: path?,
            content: content?,
            mode: mode?,
            owner: owner?.unwrap_or_default(),
            replace: fields.flag("replace"),
            span: fields.span.clone(),
        })
    }

    pub(super) fn directory(&mut self, fields: &Fields) -> Option<Directory> {
        let path = self.required(fields, "path", values::image_path);
        let mode = self.or(fields, "mode", 0o755, values::mode);
        let owner = self.owner(fields);
        Some(Directory {
            path: path?,
            mode: mode?,
            owner: owner?.unwrap_or_default(),
            replace: fields.flag("replace"),
            span: fields.span.clone(),
        })
    }

    pub(super) fn symlink(&mut self, fields: &Fields) -> Option<Symlink> {
        let path = self.required(fields, "path", values::image_file);
        let target = self.required(fields, "target", values::link_target);
        let owner = self.owner(fields);
        Some(Symlink {
            path: path?,
            target: target?,
            owner: owner?.unwrap_or_default(),
            replace: fields.flag("replace"),
            span: fields.span.clone(),
        })
    }

    pub(super) fn archive(&mut self, fields: &Fields) -> Option<Archive> {
        let source = self.archive_source(fields);
        let to = self.required(fields, "to", values::image_path_or_root);
        let include = self.each(fields.list("include"), values::pattern);
        let exclude = self.each(fields.list("exclude"), values::pattern);
        let users = std::mem::take(&mut self.users);
        let owner = self.optional(fields, "owner", |text| match text {
            ARCHIVE_OWNERS => Ok(None),
            text => owner(text, &users).map(Some),
        });
        self.users = users;
        let devices = self.or(fields, "devices", Devices::default(), |text| {
            choice(text, &[("error", Devices::Error), ("skip", Devices::Skip), ("keep", Devices::Keep)])
        });
        Some(Archive {
            source: source?,
            to: to?,
            strip_components: fields
                .integer("strip-components")
                .and_then(|n| u32::try_from(n).ok())
                .unwrap_or(0),
            include: include?,
            exclude: exclude?,
            owner: owner?.unwrap_or(Some(Owner::default())),
            devices: devices?,
            replace: fields.flag("replace"),
            span: fields.span.clone(),
        })
    }

    fn archive_source(&mut self, fields: &Fields) -> Option<ArchiveSource> {
        let problem = match (fields.get("path"), fields.get("url"), fields.get("sha256")) {
            (Some(node), None, None) => return self.source(node).map(ArchiveSource::Project),
            (None, Some(_), _) => return self.remote(fields).map(ArchiveSource::Remote),
            (Some(path), Some(url), _) => {
                Problem::new("E-SPEC-VALUE", &url.span, "an archive has either `path` or `url`")
                    .expected("expected only one of them")
                    .other(&path.span, "and `path` is here")
            }
            (Some(_), None, Some(sha256)) => {
                Problem::new("E-SPEC-VALUE", &sha256.span, "`sha256` says what `url` must give")
                    .expected("expected a `url` beside it")
                    .help("what a file of the project holds is up to the project")
            }
            (None, None, _) if fields.broken => return None,
            (None, None, _) => Problem::new(
                "E-SPEC-MISSING",
                &fields.span,
                "`path` or `url` is missing in an `archive` entry",
            )
            .help("path: a file of the project; url: an address to fetch from"),
        };
        self.problems.push(problem);
        None
    }

    fn download(&mut self, fields: &Fields) -> Option<Download> {
        let remote = self.remote(fields);
        let path = self.required(fields, "path", values::image_file);
        let mode = self.or(fields, "mode", 0o644, values::mode);
        let owner = self.owner(fields);
        Some(Download {
            remote: remote?,
            path: path?,
            mode: mode?,
            owner: owner?.unwrap_or_default(),
            replace: fields.flag("replace"),
            span: fields.span.clone(),
        })
    }

    /// `url` and `sha256`.
    fn remote(&mut self, fields: &Fields) -> Option<Remote> {
        let url = self.required(fields, "url", values::url);
        let sha256 = self.optional(fields, "sha256", values::sha256);
        let span = fields.get("url").map(|node| node.span.clone())?;
        let (url, sha256) = (url?, sha256?);
        if url.scheme() == Scheme::Http && !url.is_loopback() {
            let problem = match (&sha256, url.credentials()) {
                (_, Some(_)) => {
                    Problem::new("E-SPEC-VALUE", &span, "user and password would be sent unencrypted")
                        .expected("expected https")
                }
                (None, None) => Problem::new(
                    "E-SPEC-VALUE",
                    &span,
                    "anybody on the way could change what comes over http",
                )
                .expected("expected https, or a `sha256` beside it"),
                (Some(_), None) => return Some(Remote { url, sha256, span }),
            };
            self.problems.push(problem);
            return None;
        }
        Some(Remote { url, sha256, span })
    }

    pub(super) fn python(&mut self, fields: &Fields) -> Option<Python> {
        let lock = fields.get("lock").and_then(|node| self.source(node));
        let extras = self.each_once(fields.list("extras"), "extra", values::python_name);
        let groups = match fields.get("groups") {
            Some(node) => self.each_once(node.list(), "group", values::python_name).map(Some),
            None => Some(None),
        };
        let package = self.optional(fields, "package", values::python_name);
        let wheels = match fields.get("wheels") {
            Some(node) => self.source(node).map(Some),
            None => Some(None),
        };
        let index = self.each_once(fields.list("index"), "index", values::index);
        let environment = self.environment(fields);
        let owner = self.owner(fields);
        Some(Python {
            lock: lock?,
            extras: extras?,
            groups: groups?,
            package: package?,
            wheels: wheels?,
            index: index?,
            own_layers: fields
                .integer("own-layers")
                .and_then(|number| usize::try_from(number).ok())
                .unwrap_or(OWN_LAYERS),
            environment: environment?,
            owner: owner?.unwrap_or_default(),
            replace: fields.flag("replace"),
            span: fields.span.clone(),
        })
    }

    pub(super) fn wheel(&mut self, fields: &Fields) -> Option<Wheel> {
        let source = match fields.get("path") {
            Some(node) => self.source(node).map(Some),
            None if self.root.get("wheel").is_none() && !fields.broken => {
                let message = "`path` is missing in a `wheel` entry, and there is no [wheel] that builds one";
                let problem = Problem::new("E-SPEC-MISSING", &fields.span, message);
                self.problems.push(problem.help(
                    "write path = \"NAME.whl\", or add the table [wheel], which builds the project's own wheel",
                ));
                None
            }
            None => Some(None),
        };
        let environment = self.environment(fields);
        let owner = self.owner(fields);
        Some(Wheel {
            source: source?,
            environment: environment?,
            owner: owner?.unwrap_or_default(),
            replace: fields.flag("replace"),
            span: fields.span.clone(),
        })
    }

    pub(super) fn environment(&mut self, fields: &Fields) -> Option<Environment> {
        let venv = self.optional(fields, "venv", values::program_path);
        let interpreter = self.optional(fields, "interpreter", values::program_path);
        let version = self.optional(fields, "python-version", values::python_version);
        let libc = self.optional(fields, "libc", values::libc);
        Some(Environment { venv: venv?, interpreter: interpreter?, version: version?, libc: libc? })
    }

    pub(super) fn sources(&mut self, list: &[Node]) -> Option<Vec<Source>> {
        let sources: Vec<_> = list.iter().map(|node| self.source(node)).collect();
        sources.into_iter().collect()
    }

    pub(super) fn source(&mut self, node: &Node) -> Option<Source> {
        let path = self.checked(node, values::source_path)?;
        Some(Source { path, span: node.span.clone() })
    }

    pub(super) fn owner(&mut self, fields: &Fields) -> Option<Option<Owner>> {
        let users = std::mem::take(&mut self.users);
        let owner = self.optional(fields, "owner", |text| owner(text, &users));
        self.users = users;
        owner
    }
}

/// The name of the layer that is made for image.users.
const USERS_LAYER: &str = "users";

/// What `owner` of an archive says when the archive's own numbers are wanted.
const ARCHIVE_OWNERS: &str = "archive";

fn owner(text: &str, users: &[User]) -> Result<Owner, Bad> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let declared = |name: &str| users.iter().find(|user| user.name == name);
    let unknown = |name: &str| {
        let expected = match nearest(name, users.iter().map(|user| user.name.as_str())) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => "expected numbers, \"uid:gid\", or a name in image.users".to_owned(),
        };
        let mut bad =
            Bad::new(format!("the owner {:?} is no number and not in image.users", cut(name)), expected);
        bad.help =
            Some("names are not looked up in the base or on this machine; write the number".to_owned());
        bad
    };
    let user_part = match values::id(user) {
        Some(uid) => (uid, uid),
        None => declared(user).map(|user| (user.uid, user.gid)).ok_or_else(|| unknown(user))?,
    };
    let gid = match group {
        None => user_part.1,
        Some(group) => match values::id(group) {
            Some(gid) => gid,
            None => declared(group).map(|user| user.gid).ok_or_else(|| unknown(group))?,
        },
    };
    Ok(Owner { uid: user_part.0, gid })
}
