//! Tests of the built program, one module per command.

mod cli;
mod support;
