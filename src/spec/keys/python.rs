//! What concerns Python: `[wheel]`, and the entries of layers that install something.

use super::{Key, Kind, OWNER, PLATFORMS, REPLACE, Table};

/// What is built of the project itself.
pub(super) static BUILT: Table = Table {
    name: "[wheel]",
    doc: "The project's own wheel and source distribution, built by its own backend (PEP 517) before the image.",
    keys: &[
        Key::new(
            "source",
            Kind::Text,
            "The directory of the Python project, in the project directory; never absolute, never `..`.",
        )
        .default("\".\""),
        Key::new("sdist", Kind::Flag, "Whether a source distribution is built too.").default("true"),
        Key::new(
            "normalize",
            Kind::Flag,
            "Whether both get the one form that dmoci has for them; without it, the backend's bytes are kept.",
        )
        .default("true"),
        Key::new(
            "all-files",
            Kind::Flag,
            "Whether all files of the directory are taken, and not only those that git tracks.",
        )
        .default("false"),
        Key::new("timeout", Kind::Text, "How long each call of the backend may take, such as \"10m\".")
            .default("\"30m\""),
    ],
    extends: None,
};

pub(super) static PYTHON: Table = Table {
    name: "a `python` entry",
    doc: "The distributions that a Python lock file names, installed as pip would, without running Python.",
    keys: &[
        Key::new(
            "lock",
            Kind::Text,
            "The lock file, in the project directory: uv.lock, pylock.toml, pylock.NAME.toml, or a .txt file of \
             requirements with hashes.",
        )
        .required(),
        Key::new("extras", Kind::Texts, "Extras of the project that are taken.").default("[]"),
        Key::new(
            "groups",
            Kind::Texts,
            "Dependency groups that are taken; without it, those that the lock file takes by default.",
        ),
        Key::new(
            "package",
            Kind::Text,
            "The member of a uv workspace that is meant; without it, the project beside the lock file.",
        ),
        Key::new(
            "wheels",
            Kind::Text,
            "A folder of the project with wheels: of what the lock file names, by their hashes, and of what has none there.",
        ),
        Key::new(
            "index",
            Kind::OneOrMoreTexts,
            "The index that requirements come from, and further ones; without it, what the file says, else what pip and \
             uv are set up with.",
        ),
        Key::new(
            "own-layers",
            Kind::Integer(0, 100),
            "How many wheels at most get a layer of their own: the largest, with files of at least 4 MiB.",
        )
        .default("16"),
        VENV,
        INTERPRETER,
        PYTHON_VERSION,
        LIBC,
        OWNER,
        REPLACE,
        PLATFORMS,
    ],
    extends: None,
};

pub(super) static WHEEL: Table = Table {
    name: "a `wheel` entry",
    doc: "A wheel (Python binary distribution), installed as pip would, without running Python.",
    keys: &[
        Key::new(
            "path",
            Kind::Text,
            "The wheel, in the project directory; never absolute, never `..`. Without it, the one that [wheel] builds.",
        ),
        VENV,
        INTERPRETER,
        PYTHON_VERSION,
        LIBC,
        OWNER,
        REPLACE,
        PLATFORMS,
    ],
    extends: None,
};

const VENV: Key = Key::new(
    "venv",
    Kind::Text,
    "The virtual environment to install into; absolute. It is made unless an earlier entry or the base has it. \
     Without it, the interpreter's own `site-packages`.",
);
const INTERPRETER: Key = Key::new(
    "interpreter",
    Kind::Text,
    "The Python in the image, such as \"/usr/local/bin/python3.13\"; absolute. Needed where the layers below have \
     none or several.",
);
const PYTHON_VERSION: Key = Key::new(
    "python-version",
    Kind::Text,
    "The whole version of that Python, such as \"3.13.5\". Needed where the layers below do not tell.",
);
const LIBC: Key = Key::new(
    "libc",
    Kind::Text,
    "The C library of that Python, such as \"glibc-2.36\" or \"musl-1.2\". Needed where the layers below do not tell.",
);
