//! Python wheels for an image: what a target is, what its lock files and its base say of it, and what wheels become.
//!
//! ```text
//! install > launcher, venv > wheel > wheel_zip, wheel_member, wheel_scripts > record
//! interpreter > target, error
//! requirement, filename > marker, tag > target > version, name
//! ```

pub mod error;
pub mod filename;
pub mod install;
pub mod interpreter;
mod launcher;
pub mod marker;
pub mod name;
mod record;
pub mod requirement;
pub mod tag;
pub mod target;
pub mod venv;
pub mod version;
pub mod wheel;
mod wheel_member;
mod wheel_scripts;
mod wheel_zip;

pub use error::PythonError;
pub use target::{Libc, PythonTarget};
pub use wheel_member::{Member, MemberReader};
