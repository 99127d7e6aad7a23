//! The `dmoci` program.

fn main() {}
