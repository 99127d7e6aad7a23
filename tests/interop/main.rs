//! Tests against programs that we did not write.

fn main() {}
