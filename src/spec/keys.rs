//! The keys of `dmoci.toml`: one table that the parser, the JSON Schema and the reference are held to.

mod python;

use python::{BUILT, PYTHON, WHEEL};

/// A table of `dmoci.toml`.
#[derive(Debug)]
pub(super) struct Table {
    /// How messages call it, such as `[image]`.
    pub(super) name: &'static str,
    /// What it is.
    pub(super) doc: &'static str,
    /// What it may hold.
    pub(super) keys: &'static [Key],
    /// A table whose keys it may hold too, each instead of that table's.
    pub(super) extends: Option<&'static Table>,
}

/// A key of a table.
#[derive(Debug)]
pub(super) struct Key {
    /// The key.
    pub(super) name: &'static str,
    /// What it means, one or two sentences.
    pub(super) doc: &'static str,
    /// What its value is.
    pub(super) kind: Kind,
    /// Whether the table must have it.
    pub(super) required: bool,
    /// The value that stands for a missing one, as TOML, where there is one.
    pub(super) default: Option<&'static str>,
}

/// What a value is. Strings are expanded (`${…}`) unless the kind says otherwise.
#[derive(Debug)]
pub(super) enum Kind {
    /// A string.
    Text,
    /// One of these strings.
    Choice(&'static [&'static str]),
    /// A whole number, at least and at most.
    Integer(i64, i64),
    /// `true` or `false`.
    Flag,
    /// Strings.
    Texts,
    /// One string or several.
    OneOrMoreTexts,
    /// Platforms, not expanded.
    Platforms,
    /// A table of free names and strings.
    TextMap,
    /// A table of these keys.
    Table(&'static Table),
    /// An array of tables of these keys.
    Tables(&'static Table),
    /// A table of free names and tables of these keys.
    Named(&'static Table),
    /// One table of these keys, or an array of them.
    OneOrMoreTables(&'static Table),
    /// Named by the design, not read by this version.
    Later,
}

impl Key {
    const fn new(name: &'static str, kind: Kind, doc: &'static str) -> Key {
        Key { name, doc, kind, required: false, default: None }
    }

    const fn required(mut self) -> Key {
        self.required = true;
        self
    }

    const fn default(mut self, value: &'static str) -> Key {
        self.default = Some(value);
        self
    }

    const fn later(name: &'static str) -> Key {
        Key::new(name, Kind::Later, "")
    }
}

impl Table {
    /// All keys, its own first.
    pub(super) fn all(&self) -> impl Iterator<Item = &'static Key> + use<> {
        self.keys.iter().chain(self.extends.map(|other| other.keys).unwrap_or_default())
    }

    /// The key of this name.
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.all().find(|key| key.name == name)
    }

    /// The names that this version reads.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.all().filter(|key| !matches!(key.kind, Kind::Later)).map(|key| key.name)
    }
}

/// The largest number of a user or group: all bits set means "unchanged" to the kernel.
pub(super) const MAX_ID: i64 = u32::MAX as i64 - 1;

const PLATFORMS: Key = Key::new(
    "platforms",
    Kind::Platforms,
    "The platforms that this is for, each one of image.platforms; without it, all of them.",
);
const INCLUDE: Key = Key::new(
    "include",
    Kind::Texts,
    "Glob patterns of what is taken, matched against the path below the source; without it, everything.",
);
const EXCLUDE: Key = Key::new(
    "exclude",
    Kind::Texts,
    "Glob patterns of what is left out of that, matched against the path below the source.",
);
const REPLACE: Key = Key::new(
    "replace",
    Kind::Flag,
    "Whether this takes the place of what earlier entries of the layer give, and of another kind of file below.",
)
.default("false");
const SHA256: Key = Key::new(
    "sha256",
    Kind::Text,
    "What `url` must give, 64 hexadecimal digits; without it, what came first is written into dmoci.lock.",
);
const OWNER_DOC: &str =
    "Owner as \"uid:gid\", \"uid\" (the group has the same number) or the name of one of image.users.";
const OWNER: Key = Key::new("owner", Kind::Text, OWNER_DOC).default("\"0:0\"");

/// The whole file.
pub(super) static ROOT: Table = Table {
    name: "dmoci.toml",
    doc: "An OCI image as dmoci builds it.",
    keys: &[
        Key::new("schema", Kind::Integer(1, 1), "The version of this file's format: 1.").required(),
        Key::new(
            "vars",
            Kind::TextMap,
            "Values for ${vars.NAME}; --set NAME=VALUE replaces them. vars.version is ${version} too.",
        ),
        Key::new("image", Kind::Table(&IMAGE), "The image: its name, platforms, base and configuration.")
            .required(),
        Key::new("layer", Kind::Tables(&LAYER), "The layers, from the bottom up."),
        Key::new(
            "variant",
            Kind::Named(&VARIANT),
            "Images like this one with something else on top, each by its name; `build --variant NAME` makes one.",
        ),
        Key::new(
            "wheel",
            Kind::Table(&BUILT),
            "The project's own wheel and source distribution, built by its own backend before the image.",
        ),
        Key::new("trust", Kind::Table(&TRUST), "Who must have signed what comes from elsewhere."),
        Key::later("release"),
    ],
    extends: None,
};

static TRUST: Table = Table {
    name: "[trust]",
    doc: "Who must have signed what comes from elsewhere.",
    keys: &[Key::new(
        "base",
        Kind::Table(&TRUST_BASE),
        "Who must have signed the base, an image in a registry.",
    )],
    extends: None,
};

static TRUST_BASE: Table = Table {
    name: "[trust.base]",
    doc: "Who must have signed the base, an image in a registry: whoever has the key, or a certificate for the identity; of several each alone is enough. It is checked when the base is pinned.",
    keys: &[
        Key::new("key", Kind::Text, "The file of a public key, in the project directory."),
        Key::new(
            "certificate-identity",
            Kind::Text,
            "The subject of the signer's certificate, such as the address of a workflow.",
        ),
        Key::new(
            "certificate-identity-regexp",
            Kind::Text,
            "A regular expression that must match the subject as a whole, instead of that.",
        ),
        Key::new(
            "certificate-oidc-issuer",
            Kind::Text,
            "Who vouches for the identity, an address; every identity needs one.",
        ),
        Key::new(
            "trusted-root",
            Kind::Text,
            "The file of the trusted root, in the project directory; without it, that of the public Sigstore service.",
        ),
        Key::new(
            "type",
            Kind::Text,
            "The predicate type that the statement must have; without it, a signature and no attestation.",
        ),
    ],
    extends: None,
};

static IMAGE: Table = Table {
    name: "[image]",
    doc: "The image: its name, platforms, base and configuration.",
    keys: &[
        Key::new(
            "name",
            Kind::Text,
            "The name without tag, host/path. An image that goes to no registry may be called localhost/NAME.",
        ),
        Key::new("tags", Kind::Texts, "The tags.").default("[]"),
        Key::new(
            "platforms",
            Kind::Platforms,
            "What the image is built for, such as [\"linux/amd64\", \"linux/arm64\"]. Not expanded.",
        )
        .required(),
        Key::new(
            "base",
            Kind::Text,
            "What the image stands on: scratch, docker://HOST/NAME[:TAG][@DIGEST], oci:DIR[:TAG|@DIGEST], \
             oci-archive:FILE[:TAG|@DIGEST] or docker-archive:FILE[:NAME:TAG].",
        )
        .default("\"scratch\""),
        Key::new("entrypoint", Kind::Texts, "The program and its first arguments."),
        Key::new("cmd", Kind::Texts, "Further arguments, or the program when there is no entrypoint."),
        Key::new("user", Kind::Text, "Who the program runs as: user, uid, user:group or uid:gid."),
        Key::new("workdir", Kind::Text, "The directory that the program starts in; absolute."),
        Key::new("ports", Kind::Texts, "Ports that the program listens on, such as \"8000/tcp\".").default("[]"),
        Key::new("volumes", Kind::Texts, "Directories that hold data of their own; absolute.").default("[]"),
        Key::new("stop-signal", Kind::Text, "The signal that ends the program, such as \"SIGTERM\"."),
        Key::new(
            "env",
            Kind::TextMap,
            "Environment variables. ${base.NAME} is the value of NAME in the base image.",
        )
        .default("{}"),
        Key::new("labels", Kind::TextMap, "Labels in the image's configuration.").default("{}"),
        Key::new("annotations", Kind::TextMap, "Annotations of the image's manifest.").default("{}"),
        Key::new("compression", Kind::Choice(&["gzip", "zstd", "none"]), "How layers are compressed.")
            .default("\"gzip\""),
        Key::new(
            "splice",
            Kind::Flag,
            "Whether gzip layers take what wheels hold as it is compressed there, instead of compressing it anew.",
        )
        .default("true"),
        Key::new(
            "users",
            Kind::Tables(&USER),
            "Users, each with a group of the same name, that a last layer adds to /etc/passwd and /etc/group.",
        )
        .default("[]"),
        Key::new("healthcheck", Kind::Table(&HEALTHCHECK), "How to see whether a container is well (Docker's HEALTHCHECK)."),
    ],
    extends: None,
};

static VARIANT: Table = Table {
    name: "[variant.NAME]",
    doc: "An image like [image], with these keys instead of its own. What env, labels and annotations have is added to \
          the image's; users and layers too.",
    keys: &[Key::new("layer", Kind::Tables(&LAYER), "Layers on top of the image's, from the bottom up.")],
    extends: Some(&IMAGE),
};

static USER: Table = Table {
    name: "a user",
    doc: "A user and a group of the same name.",
    keys: &[
        Key::new("name", Kind::Text, "The name of the user and of the group.").required(),
        Key::new("uid", Kind::Integer(0, MAX_ID), "The number of the user.").required(),
        Key::new("gid", Kind::Integer(0, MAX_ID), "The number of the group; without it, that of the user."),
        Key::new("home", Kind::Text, "The home directory; absolute. It is not made.")
            .default("\"/nonexistent\""),
        Key::new("shell", Kind::Text, "The login shell; absolute.").default("\"/sbin/nologin\""),
    ],
    extends: None,
};

static HEALTHCHECK: Table = Table {
    name: "[image.healthcheck]",
    doc: "How to see whether a container is well.",
    keys: &[
        Key::new(
            "test",
            Kind::Texts,
            "[\"CMD\", PROGRAM, …], [\"CMD-SHELL\", COMMAND], or [\"NONE\"] to switch off the base's check.",
        )
        .required(),
        Key::new("interval", Kind::Text, "Time between two checks, such as \"30s\" or \"1m30s\"."),
        Key::new("timeout", Kind::Text, "Time after which a check has failed."),
        Key::new("start-period", Kind::Text, "Time after the start in which failures do not count."),
        Key::new("start-interval", Kind::Text, "Time between two checks of the start period."),
        Key::new(
            "retries",
            Kind::Integer(0, i32::MAX as i64),
            "Failures in a row that make the container unhealthy.",
        ),
    ],
    extends: None,
};

static LAYER: Table = Table {
    name: "[[layer]]",
    doc: "A layer; each path comes from one entry, or from the last of several that says `replace`.",
    keys: &[
        Key::new("name", Kind::Text, "The name of the layer, each once.").required(),
        PLATFORMS,
        Key::new("copy", Kind::Tables(&COPY), "Files and directories of the project."),
        Key::new("file", Kind::Tables(&FILE), "Files whose content is here."),
        Key::new("directory", Kind::Tables(&DIRECTORY), "Directories."),
        Key::new("symlink", Kind::Tables(&SYMLINK), "Symbolic links."),
        Key::new(
            "archive",
            Kind::Tables(&ARCHIVE),
            "The content of tar (plain, gzip, xz, zstd) and zip archives.",
        ),
        Key::new("download", Kind::Tables(&DOWNLOAD), "Files from elsewhere."),
        Key::new("python", Kind::OneOrMoreTables(&PYTHON), "What a Python lock file names, installed."),
        Key::new(
            "wheel",
            Kind::OneOrMoreTables(&WHEEL),
            "The project's own wheel or others of the project directory, installed.",
        ),
        Key::later("debian"),
        Key::new(
            "remove",
            Kind::Texts,
            "Absolute paths and patterns of what this layer takes away from the layers below it.",
        )
        .default("[]"),
        Key::new("adjust", Kind::Tables(&ADJUST), "Things of the layers below, with another mode or owner."),
    ],
    extends: None,
};

static COPY: Table = Table {
    name: "a `copy` entry",
    doc: "Files and directories of the project. A directory puts what is in it into `to`; a file goes to `to`, or \
          into it when `to` ends with `/`.",
    keys: &[
        Key::new("from", Kind::OneOrMoreTexts, "Paths in the project directory; never absolute, never `..`.")
            .required(),
        Key::new(
            "to",
            Kind::Text,
            "Where to, in the image; absolute. Ends with `/` when there are several `from`.",
        )
        .required(),
        INCLUDE,
        EXCLUDE,
        OWNER,
        Key::new(
            "file-mode",
            Kind::Text,
            "Permission bits of every file, octal; without it \"0755\" for files that their owner may execute, else \
             \"0644\".",
        ),
        Key::new("dir-mode", Kind::Text, "Permission bits of every directory, octal.").default("\"0755\""),
        Key::new("tracked", Kind::Flag, "Whether only files that git tracks are taken.").default("false"),
        Key::new(
            "substitute",
            Kind::TextMap,
            "Strings, and what is put in their places in all copied text files: files without a NUL byte.",
        )
        .default("{}"),
        REPLACE,
        PLATFORMS,
    ],
    extends: None,
};

static FILE: Table = Table {
    name: "a `file` entry",
    doc: "A file whose content is here.",
    keys: &[
        Key::new("path", Kind::Text, "Where it stands in the image; absolute.").required(),
        Key::new("content", Kind::Text, "The text in it.").required(),
        Key::new("mode", Kind::Text, "Permission bits, octal.").default("\"0644\""),
        OWNER,
        REPLACE,
        PLATFORMS,
    ],
    extends: None,
};

static DIRECTORY: Table = Table {
    name: "a `directory` entry",
    doc: "A directory.",
    keys: &[
        Key::new("path", Kind::Text, "Where it stands in the image; absolute.").required(),
        Key::new("mode", Kind::Text, "Permission bits, octal.").default("\"0755\""),
        OWNER,
        REPLACE,
        PLATFORMS,
    ],
    extends: None,
};

static SYMLINK: Table = Table {
    name: "a `symlink` entry",
    doc: "A symbolic link.",
    keys: &[
        Key::new("path", Kind::Text, "Where it stands in the image; absolute.").required(),
        Key::new("target", Kind::Text, "Where it points; kept as it is.").required(),
        OWNER,
        REPLACE,
        PLATFORMS,
    ],
    extends: None,
};

static ARCHIVE: Table = Table {
    name: "an `archive` entry",
    doc: "The content of a tar (plain, gzip, xz, zstd) or zip archive.",
    keys: &[
        Key::new("path", Kind::Text, "The archive, in the project directory; never absolute, never `..`."),
        Key::new(
            "url",
            Kind::Text,
            "The archive, elsewhere; instead of `path`. https, or http where sha256 is given.",
        ),
        SHA256,
        Key::new("to", Kind::Text, "The directory in the image that its content goes to; absolute.")
            .required(),
        Key::new(
            "strip-components",
            Kind::Integer(0, 1000),
            "How many leading parts are cut off every path; shorter paths are left out.",
        )
        .default("0"),
        INCLUDE,
        EXCLUDE,
        Key::new(
            "owner",
            Kind::Text,
            "Owner of everything, written as elsewhere; \"archive\" keeps the archive's own numbers.",
        )
        .default("\"0:0\""),
        Key::new(
            "devices",
            Kind::Choice(&["error", "skip", "keep"]),
            "What is done with device files in the archive.",
        )
        .default("\"error\""),
        REPLACE,
        PLATFORMS,
        Key::later("substitute"),
    ],
    extends: None,
};

static DOWNLOAD: Table = Table {
    name: "a `download` entry",
    doc: "A file from elsewhere, as it is.",
    keys: &[
        Key::new("url", Kind::Text, "Where it is: https, or http where sha256 is given.").required(),
        SHA256,
        Key::new("path", Kind::Text, "Where it stands in the image; absolute.").required(),
        Key::new("mode", Kind::Text, "Permission bits, octal.").default("\"0644\""),
        OWNER,
        REPLACE,
        PLATFORMS,
    ],
    extends: None,
};

static ADJUST: Table = Table {
    name: "an `adjust` entry",
    doc: "Things of the layers below, with another mode or owner.",
    keys: &[
        Key::new(
            "path",
            Kind::OneOrMoreTexts,
            "Absolute paths and patterns, matched against what lies below the layer.",
        )
        .required(),
        Key::new("recursive", Kind::Flag, "Whether all below the directories among them is meant too.")
            .default("false"),
        Key::new("mode", Kind::Text, "Permission bits, octal; without it, they stay. Links have none."),
        Key::new("file-mode", Kind::Text, "Permission bits of what is no directory, instead of `mode`."),
        Key::new("dir-mode", Kind::Text, "Permission bits of directories, instead of `mode`."),
        Key::new(
            "owner",
            Kind::Text,
            "Owner as elsewhere: \"uid:gid\", \"uid\" or the name of one of image.users; without it, it stays.",
        ),
        PLATFORMS,
    ],
    extends: None,
};

/// All tables, outermost first.
pub(super) fn tables() -> [&'static Table; 18] {
    [
        &ROOT,
        &IMAGE,
        &BUILT,
        &TRUST,
        &TRUST_BASE,
        &VARIANT,
        &HEALTHCHECK,
        &USER,
        &LAYER,
        &COPY,
        &FILE,
        &DIRECTORY,
        &SYMLINK,
        &ARCHIVE,
        &DOWNLOAD,
        &PYTHON,
        &WHEEL,
        &ADJUST,
    ]
}
