//! dmoci against programs that others wrote.
//!
//! A test whose peers are missing says so on standard error and passes; with `DMOCI_REQUIRE_PEERS=1`, as `.ci/run`
//! sets it, it fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails says so")]

mod applications;
mod backends;
mod cache;
mod changes;
mod determinism;
mod diff;
mod engines;
mod example;
mod faults;
mod foreign;
mod loaders;
mod own_wheel;
mod own_wheel_killed;
mod owners;
mod published;
mod python;
mod registries;
mod registry_base;
mod signing;
mod splice;
mod support;
mod webapp;
mod wheels;
