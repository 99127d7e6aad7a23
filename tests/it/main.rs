//! Tests of the built program, one module per command; the fixtures, and the house itself.

mod cli;
mod hello;
mod house;
mod support;
