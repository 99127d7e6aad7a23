//! From a target to an image: `plan` says what every layer consists of, `image` writes it.
//!
//! ```text
//! image > config, plan > users, key, distributions > locked, python > merge > error
//! ```

mod adjust;
mod base;
mod config;
mod distributions;
mod error;
mod image;
mod key;
mod locked;
mod merge;
mod plan;
mod python;
mod remove;
mod users;

pub use base::BaseImage;
pub use error::{BuildError, BuildErrorKind};
pub use image::{BuiltImage, BuiltLayer, BuiltPlatform, Facts, Made, Output, assemble, index, prove};
pub use plan::{ImagePlan, LayerPlan, copied, plan};
