//! The options of commands that work on a project.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Which project, and what is said about it beside its file.
#[derive(Debug, clap::Args)]
pub(crate) struct ProjectArgs {
    /// The project directory, which all paths of the file are relative to
    #[arg(
        short = 'C',
        long = "directory",
        value_name = "DIR",
        default_value = ".",
        hide_default_value = true
    )]
    pub(crate) directory: PathBuf,
    /// The file that describes the image, relative to the project directory
    #[arg(short, long, value_name = "FILE", default_value = "dmoci.toml")]
    file: PathBuf,
    /// Set a variable of [vars], or the version with NAME `version`; can be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
}

/// Which of the images that the file describes.
#[derive(Debug, clap::Args)]
pub(crate) struct VariantArgs {
    /// The variant of the image that [variant.NAME] describes
    #[arg(long, value_name = "NAME")]
    pub(crate) variant: Option<String>,
}

impl ProjectArgs {
    /// The project's file, named as the user would.
    pub(crate) fn spec(&self) -> PathBuf {
        match self.directory == Path::new(".") {
            true => self.file.clone(),
            false => self.directory.join(&self.file),
        }
    }

    /// Where builds of the project are written when nothing else is said.
    pub(crate) fn outputs(&self) -> PathBuf {
        self.directory.join("dist")
    }

    /// The variables that are set; of a name said twice the last value.
    pub(crate) fn set(&self) -> BTreeMap<String, String> {
        self.set.iter().cloned().collect()
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}
