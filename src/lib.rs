//! dmoci builds OCI images without a daemon, bit for bit the same on every machine, and verifies them.
//!
//! ```text
//! cli      one file per command: arguments → ops → print.  The only place that prints, reads the
//!                                                          environment or the clock, or exits
//! ops      build wheel export pull push sign inspect verify …           (joins what is below)
//! engine   assemble   verify   diff                        (may use every column)
//! ─────────────────────────────────────────────────────────────────────────────────────
//! columns  spec lock       inputs                store                       trust
//!          (pure)          files archive base    layout archive registry     key bundle statement judge
//!                          python
//! ─────────────────────────────────────────────────────────────────────────────────────
//! base     diagnostic   limits   sha256   base64   url   files   cache   daemon   fetch (HTTP, proxies, retries, who asks)   vcs
//!          oci (descriptor manifest index config reference platform)   sandbox (namespaces sockets)
//! ═════════════════════════════════════ crate border ══════════════════════════════════
//! layers   dmoci-layers: entries → exact bytes
//! ```
//!
//! A row uses only rows below it; columns do not know each other. `tests/it/house.rs` holds the picture.

pub mod base64;
pub mod cache;
pub mod cli;
pub mod daemon;
pub mod diagnostic;
pub mod engine;
pub mod fetch;
pub mod files;
pub mod inputs;
pub mod limits;
pub mod lock;
pub mod oci;
pub mod ops;
pub mod sandbox;
pub mod sha256;
pub mod spec;
pub mod store;
pub mod trust;
pub mod url;
pub mod vcs;
