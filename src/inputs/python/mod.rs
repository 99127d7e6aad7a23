//! Python for an image, without Python: which wheels a target needs by its lock files, and what wheels become.
//!
//! ```text
//! dist, own, linked > wheel, elf, and what is below them
//! install > launcher, venv > wheel > wheel_zip, wheel_member, wheel_scripts > record
//! pylock, uv, requirements, settings > pyproject, simple, lockfile, source > plan > document > tag, marker, requirement
//! needs > marker, requirement
//! interpreter, filename, tag, marker > target > version, name, error
//! ```

pub mod dist;
mod document;
pub mod elf;
#[cfg(test)]
mod elf_sample;
pub mod error;
pub mod filename;
pub mod install;
pub mod interpreter;
mod launcher;
pub mod linked;
pub mod lockfile;
pub mod marker;
pub mod name;
pub mod needs;
mod own;
pub mod plan;
pub mod pylock;
pub mod pyproject;
mod record;
pub mod requirement;
pub mod requirements;
pub mod settings;
pub mod simple;
mod source;
pub mod tag;
pub mod target;
pub mod uv;
pub mod venv;
pub mod version;
pub mod wheel;
mod wheel_member;
mod wheel_scripts;
mod wheel_zip;

pub use document::Document;
pub use error::PythonError;
pub use own::Own;
pub use plan::{BuiltWheel, Location, Options, OwnProject, PlannedWheel, PythonPlan};
pub use source::quoted;
pub use target::{Libc, PythonTarget};
pub use wheel_member::{Member, MemberReader};

#[cfg(test)]
mod tests;
