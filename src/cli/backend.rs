//! The options of commands that run a build backend.

use std::path::PathBuf;

use crate::diagnostic::{Exit, Failure};
use crate::ops::own::Backend;

/// What runs the backend.
#[derive(Debug, clap::Args)]
pub(crate) struct BackendArgs {
    /// The interpreter that runs the build backend
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: PathBuf,
}

impl BackendArgs {
    /// What of this machine runs it.
    pub(crate) fn backend(self) -> Result<Backend, Failure> {
        backend(self.python)
    }
}

/// What of this machine runs it with this interpreter.
pub(crate) fn backend(python: PathBuf) -> Result<Backend, Failure> {
    let dmoci = std::env::current_exe().map_err(|error| Failure {
        code: "E-WHEEL-TOOLS",
        exit: Exit::Undecided,
        message: "this program does not find itself".into(),
        causes: vec![error.to_string()],
        places: Vec::new(),
        help: None,
    })?;
    Ok(Backend { dmoci, python, scratch: std::env::temp_dir() })
}
