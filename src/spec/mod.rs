//! `dmoci.toml`: as written, and resolved for one platform.

pub mod target;
