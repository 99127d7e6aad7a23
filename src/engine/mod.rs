//! What joins the columns: planning and assembling images, judging them, and comparing them.

pub mod assemble;
pub mod diff;
mod reader;
pub mod verify;

pub use reader::Watch;
