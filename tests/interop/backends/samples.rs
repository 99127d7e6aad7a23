//! A project for each common backend.

use std::fs;
use std::path::Path;

/// A project that says `demo` when it is imported.
pub(super) struct Sample {
    pub(super) name: &'static str,
    backend: &'static str,
    requires: &'static str,
    /// What else is in `pyproject.toml`.
    more: &'static str,
    files: &'static [(&'static str, &'static str)],
    /// The programs that it needs.
    pub(super) peers: &'static [&'static str],
}

const EXTENSION: &str = "#include <Python.h>\nstatic PyObject *f(PyObject *s, PyObject *a) { return PyUnicode_FromString(__FILE__); }\n\
    static PyMethodDef m[] = {{\"f\", f, METH_NOARGS, \"\"}, {0}};\n\
    static struct PyModuleDef d = {PyModuleDef_HEAD_INIT, \"_x\", 0, -1, m};\n\
    PyMODINIT_FUNC PyInit__x(void) { return PyModule_Create(&d); }\n";

pub(super) const SETUPTOOLS: Sample = Sample {
    name: "setuptools",
    backend: "setuptools.build_meta",
    requires: "setuptools>=77",
    more: "",
    files: &[("src/demo/data/b.txt", "b\n"), ("src/demo/data/a.txt", "a\n")],
    peers: &[],
};

pub(super) const EXTENSIONS: Sample = Sample {
    name: "setuptools-c",
    files: &[
        ("src/demo/_x.c", EXTENSION),
        (
            "setup.py",
            "from setuptools import setup, Extension\nsetup(ext_modules=[Extension('demo._x', ['src/demo/_x.c'], \
             extra_compile_args=['-g'])])\n",
        ),
    ],
    peers: &["cc"],
    ..SETUPTOOLS
};

pub(super) const HATCHLING: Sample = Sample {
    name: "hatchling",
    backend: "hatchling.build",
    requires: "hatchling",
    files: &[("src/demo/data/b.txt", "b\n"), ("src/demo/data/a.txt", "a\n"), ("tests/test_demo.py", "")],
    ..SETUPTOOLS
};

pub(super) const FLIT: Sample =
    Sample { name: "flit", backend: "flit_core.buildapi", requires: "flit_core", ..HATCHLING };

pub(super) const POETRY: Sample = Sample {
    name: "poetry",
    backend: "poetry.core.masonry.api",
    requires: "poetry-core",
    more: "[tool.poetry]\npackages = [{ include = \"demo\", from = \"src\" }]\n",
    ..HATCHLING
};

pub(super) const PDM: Sample =
    Sample { name: "pdm", backend: "pdm.backend", requires: "pdm-backend", ..HATCHLING };

pub(super) const UV: Sample = Sample { name: "uv", backend: "uv_build", requires: "uv_build", ..HATCHLING };

pub(super) const MATURIN: Sample = Sample {
    name: "maturin",
    backend: "maturin",
    requires: "maturin>=1,<2",
    more: "[tool.maturin]\nbindings = \"bin\"\npython-source = \"src\"\n",
    files: &[
        ("Cargo.toml", "[package]\nname = \"demo\"\nversion = \"1.0.0\"\nedition = \"2021\"\n"),
        // The panic has the name of the file in it.
        ("src/main.rs", "fn main() {\n    println!(\"{}\", std::env::args().nth(1).unwrap());\n}\n"),
    ],
    peers: &["cargo", "cc"],
};

pub(super) const MESON: Sample = Sample {
    name: "meson",
    backend: "mesonpy",
    requires: "meson-python",
    more: "",
    files: &[
        ("src/demo/_x.c", EXTENSION),
        (
            "meson.build",
            "project('demo', 'c', version: '1.0')\npy = import('python').find_installation(pure: false)\n\
             py.install_sources('src/demo/__init__.py', subdir: 'demo')\n\
             py.extension_module('_x', 'src/demo/_x.c', install: true, subdir: 'demo')\n",
        ),
    ],
    peers: &["cc"],
};

impl Sample {
    /// Writes it into a folder that is not there yet.
    pub(super) fn write(&self, folder: &Path) {
        fs::create_dir_all(folder.join("src/demo")).unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let Sample { backend, requires, more, .. } = self;
        write("src/demo/__init__.py", "print('demo')\n");
        write("README.md", "# demo\n");
        write(".gitignore", "dist\n");
        write(
            "pyproject.toml",
            &format!(
                "[build-system]\nrequires = [\"{requires}\"]\nbuild-backend = \"{backend}\"\n[project]\nname = \"demo\"\n\
                 version = \"1.0\"\ndescription = \"x\"\nreadme = \"README.md\"\n{more}"
            ),
        );
        self.files.iter().for_each(|(name, text)| write(name, text));
    }

    /// Whether nothing in it depends on the interpreter and compilers of the machine.
    pub(super) fn is_pure(&self) -> bool {
        self.peers.is_empty()
    }
}
