//! `dmoci key`, and reading key files for whoever needs them.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::diagnostic::{Diagnostic, Exit, Failure};
use crate::trust::key::KEY_BYTES;
use crate::trust::{Password, PublicKey, SigningKey};

/// A key pair that was made.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The private key, encrypted, readable by its owner alone.
    pub private: PathBuf,
    /// The public key.
    pub public: PathBuf,
    /// The public key itself.
    pub key: PublicKey,
}

/// Why a key file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It is there already.
    #[error("{} is there already, and keys are never overwritten", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Reading failed.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Writing failed.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is larger than a key.
    #[error("{} is larger than {limit} bytes", path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
}

impl Diagnostic for KeyFileError {
    fn code(&self) -> &'static str {
        match self {
            KeyFileError::Exists { .. } => "E-KEY-EXISTS",
            KeyFileError::Read { .. } => "E-IO",
            KeyFileError::Write { .. } => "E-WRITE",
            KeyFileError::Size { .. } => "E-KEY",
        }
    }

    fn exit(&self) -> Exit {
        match self {
            KeyFileError::Exists { .. } | KeyFileError::Size { .. } => Exit::Usage,
            _ => Exit::Undecided,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            KeyFileError::Exists { .. } => {
                Some("name another one with --output-prefix, or move it away yourself".into())
            }
            _ => None,
        }
    }
}

/// Makes a key pair in `PREFIX.key` and `PREFIX.pub`.
pub fn generate(prefix: &Path, password: &Password) -> Result<Generated, Failure> {
    let with = |ending: &str| {
        let mut name = prefix.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    let (private, public) = (with(".key"), with(".pub"));
    for path in [&private, &public] {
        if fs::symlink_metadata(path).is_ok() {
            return Err(KeyFileError::Exists { path: path.clone() }.into());
        }
    }
    let key = SigningKey::generate()?;
    write(&private, &key.seal(password)?, 0o600)?;
    let key = key.public();
    if let Err(error) = write(&public, &key.to_pem(), 0o644) {
        // Half a pair is none; the error is the one to report.
        let _ = fs::remove_file(&private);
        return Err(error.into());
    }
    Ok(Generated { private, public, key })
}

/// Opens a private key.
pub fn open(path: &Path, password: &Password) -> Result<SigningKey, Failure> {
    Ok(SigningKey::open(&read(path)?, password, &path.display().to_string())?)
}

/// Reads a public key.
pub fn public(path: &Path) -> Result<PublicKey, Failure> {
    Ok(PublicKey::read(&read(path)?, &path.display().to_string())?)
}

fn read(path: &Path) -> Result<String, KeyFileError> {
    let failed = |source| KeyFileError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    crate::files::open_named(path)
        .map_err(failed)?
        .take(KEY_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > KEY_BYTES {
        return Err(KeyFileError::Size { path: path.to_owned(), limit: KEY_BYTES });
    }
    // What is no text has no block in it either, and is told so.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A file that was not there, on the disk.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), KeyFileError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::Exists { path: path.to_owned() },
        _ => KeyFileError::Write { path: path.to_owned(), source },
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|source| {
        let _ = fs::remove_file(path);
        failed(source)
    })
}
