//! Tests of the built program, one module per command; the fixtures, and the house itself.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that fails says so"
)]

mod adjust;
mod archive_input;
mod build;
mod build_log;
mod cache;
mod check;
mod cli;
mod diff;
mod doctor;
mod export;
mod fetch;
mod git;
mod hello;
mod house;
mod image_spec;
mod inspect;
mod large;
mod load;
mod lock;
mod man;
mod own_killed;
mod own_signed;
mod own_sockets;
mod own_source;
mod own_wheel;
mod python;
mod readers;
mod registry;
mod remove;
mod replace;
mod schema;
mod signing;
mod sources;
mod spec;
mod splice;
mod substitute;
mod support;
mod threads;
mod tracked;
mod twice;
mod variant;
mod verify;
mod webapp;
mod wheel;
