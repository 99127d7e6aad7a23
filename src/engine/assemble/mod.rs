//! From a target to an image: `plan` says what every layer consists of, `image` writes it.
//!
//! ```text
//! image > documents, parallel, config, plan > users, key, programs, distributions > locked, python > merge > error
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
mod users;

pub use base::BaseImage;
pub use documents::index;
pub use error::{BuildError, BuildErrorKind};
pub use image::{BuiltImage, BuiltLayer, BuiltPlatform, Facts, Made, Output, assemble, prove};
pub use plan::{ImagePlan, LayerPlan, copied, plan};
