//! What the commands do: each joins the rooms below it, and prints nothing.

pub mod build;
pub mod check;
mod content;
pub mod delete;
pub mod diff;
pub mod doctor;
pub mod export;
pub mod index;
pub mod inspect;
pub mod key;
pub mod load;
pub mod lock;
mod log;
mod made;
mod output;
pub mod own;
pub mod plan;
pub mod pull;
pub mod push;
pub mod remote;
pub mod shared;
pub mod sign;
mod supply;
pub mod tags;
pub mod twice;
pub mod verify;
pub mod wheel;
