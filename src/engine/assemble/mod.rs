//! From a target to an image: `plan` says what every layer consists of, `image` writes it.
//!
//! ```text
//! image > shared, documents, parallel, config, plan > users, key, programs, distributions > locked, python > merge > error
//! ```

mod adjust;
mod base;
mod config;
mod distributions;
mod documents;
mod error;
mod image;
mod key;
mod locked;
mod merge;
mod parallel;
mod plan;
mod programs;
mod python;
mod remove;
mod shared;
mod users;

pub use base::BaseImage;
pub use documents::index;
pub use error::{BuildError, BuildErrorKind};
pub use image::{BuiltImage, BuiltLayer, BuiltPlatform, Facts, Output, assemble, prove};
pub use plan::{ImagePlan, LayerPlan, copied, plan};
pub use shared::{Made, Shared};
