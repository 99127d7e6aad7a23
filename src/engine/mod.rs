//! What joins the columns: planning and assembling images, and judging them.

pub mod assemble;
pub mod verify;
