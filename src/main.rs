//! The `dmoci` program.

fn main() {
    std::process::exit(dmoci::cli::main())
}
