//! Who made something: keys, signatures and what they are about.
//!
//! ```text
//! legacy > judge > identity, root     bundle, envelope > statement, key > pem, der
//! ```
//!
//! Bytes in, answers out: nothing here reads a file, the clock or the network. Bundles of keys are read and checked here;
//! certificates, transparency logs and time-stamps are `sigstore-verify`'s to judge.

pub mod bundle;
mod der;
mod envelope;
mod identity;
mod judge;
pub mod key;
pub mod legacy;
mod pem;
mod root;
pub mod statement;

pub use envelope::Envelope;
pub use identity::{Identity, IdentityError};
pub use judge::{Artifact, Opener, Reason, Refusal, Signature, Signer, Trusted, Wanted, claims};
pub use key::{KeyError, Password, PublicKey, SigningKey};
pub use root::{Root, RootError};
