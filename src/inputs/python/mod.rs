//! Python wheels for an image: what a target is, and what its lock files and its base say of it.
//!
//! ```text
//! interpreter > target, error
//! requirement, filename > marker, tag > target > version, name
//! ```

pub mod error;
pub mod filename;
pub mod interpreter;
pub mod marker;
pub mod name;
pub mod requirement;
pub mod tag;
pub mod target;
pub mod version;

pub use error::PythonError;
pub use target::{Libc, PythonTarget};
