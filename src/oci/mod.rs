//! The vocabulary of OCI that everything shares.

pub mod platform;
pub mod reference;
