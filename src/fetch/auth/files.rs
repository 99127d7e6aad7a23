//! Files of credentials: docker's `config.json` and `auth.json` of podman, skopeo and buildah (containers-auth.json(5)).

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{AuthError, Secret, helper};
use crate::base64;
use crate::limits;

/// Where credentials are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logins {
    /// The files, the first that has something for a registry counts.
    pub files: Vec<PathBuf>,
    /// The user named the first file, so it must be there.
    pub named: bool,
}

/// What is known to tell a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Login {
    /// A user and a password.
    Password {
        /// The user.
        user: Secret,
        /// The password.
        password: Secret,
    },
    /// What a token is given for: an OAuth 2 refresh token.
    Identity(Secret),
    /// A token.
    Token(Secret),
}

/// Credentials, and where they are from.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) login: Login,
    /// For people.
    pub(crate) from: String,
}

impl Logins {
    /// The credentials for a repository: those of the most specific entry of the first file that has any.
    pub(crate) fn find(&self, host: &str, repository: &str) -> Result<Option<Found>, AuthError> {
        for (i, path) in self.files.iter().enumerate() {
            let Some(file) = read(path, self.named && i == 0)? else { continue };
            if let Some(found) = lookup(&file, path, host, repository)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The files, for people.
    pub(crate) fn places(&self) -> String {
        match &self.files[..] {
            [] => "nowhere: there is no home directory".to_owned(),
            files => files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "),
        }
    }
}

/// Reads a file; nothing when it is not there and need not be.
fn read(path: &Path, must: bool) -> Result<Option<Value>, AuthError> {
    let failed = |source| AuthError::Unreadable { path: path.to_owned(), source };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !must => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let mut text = Vec::new();
    file.take(limits::LOGINS_BYTES + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > limits::LOGINS_BYTES {
        return Err(failed(io::Error::other(format!("it is larger than {} bytes", limits::LOGINS_BYTES))));
    }
    // As docker and podman leave it, and `/dev/null` for nothing at all.
    if text.is_empty() {
        return Ok(None);
    }
    // Only the place of the error is shown: the text around it may be a secret.
    let value = serde_json::from_slice(&text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        failed(io::Error::other(format!("it is no JSON at line {line}, column {column}")))
    })?;
    Ok(Some(value))
}

fn lookup(file: &Value, path: &Path, host: &str, repository: &str) -> Result<Option<Found>, AuthError> {
    let from = |what: String| format!("{what} in {}", path.display());
    let helper = |name: &Value| -> Result<Option<Found>, AuthError> {
        let name = name.as_str().unwrap_or_default();
        let server = if is_hub(host) { HUB_KEY } else { host };
        let login = helper::ask(name, server)?;
        Ok(login.map(|login| Found { login, from: from(format!("docker-credential-{name}")) }))
    };
    let helpers = file.get("credHelpers").and_then(Value::as_object);
    let own = helpers.and_then(|helpers| helpers.iter().find(|(key, _)| names(key, host)));
    // A helper for one registry is all that counts for it.
    if let Some((_, name)) = own {
        return helper(name);
    }
    if let Some(store) = file.get("credsStore").filter(|store| store.as_str().is_some_and(|s| !s.is_empty()))
        && let Some(found) = helper(store)?
    {
        return Ok(Some(found));
    }
    let auths = file.get("auths").and_then(Value::as_object);
    for key in keys(host, repository) {
        let entry = auths.and_then(|auths| auths.iter().find(|(other, _)| bare(other) == key));
        if let Some((key, entry)) = entry
            && let Some(login) = login(entry, path, key)?
        {
            return Ok(Some(Found { login, from: from(format!("{key:?}")) }));
        }
    }
    Ok(None)
}

/// Docker's own registry goes by several names, and docker writes this one.
const HUB_KEY: &str = "https://index.docker.io/v1/";
const HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

fn is_hub(host: &str) -> bool {
    HUB.contains(&host)
}

fn names(key: &str, host: &str) -> bool {
    let key = bare(key);
    key == host || (is_hub(host) && is_hub(key))
}

/// The keys that an entry for a repository may have, the most specific first.
fn keys(host: &str, repository: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let hosts: Vec<&str> = if is_hub(host) { HUB.to_vec() } else { vec![host] };
    for host in hosts {
        let mut path = repository;
        loop {
            keys.push(format!("{host}/{path}"));
            match path.rsplit_once('/') {
                Some((above, _)) => path = above,
                None => break,
            }
        }
        keys.push(host.to_owned());
    }
    keys.sort_by_key(|key| std::cmp::Reverse(key.matches('/').count()));
    keys
}

/// A key without scheme, and without the path of version 1 that docker writes.
fn bare(key: &str) -> &str {
    let (key, had_scheme) = match key.split_once("://") {
        Some((_, rest)) => (rest, true),
        None => (key, false),
    };
    let key = key.trim_end_matches('/');
    match key.split_once('/') {
        Some((host, "v1" | "v2")) if had_scheme || is_hub(host) => host,
        _ => key,
    }
}

/// What one entry says; nothing when it is empty, as docker leaves it for what a helper has.
fn login(entry: &Value, path: &Path, key: &str) -> Result<Option<Login>, AuthError> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(token) = text("identitytoken") {
        return Ok(Some(Login::Identity(Secret::new(token))));
    }
    if let Some(token) = text("registrytoken") {
        return Ok(Some(Login::Token(Secret::new(token))));
    }
    if let Some(auth) = text("auth") {
        // Some leave the padding out.
        let digits = auth.trim_end_matches('=');
        let padded = format!("{digits}{}", &"==="[..(4 - digits.len() % 4) % 4]);
        let pair = base64::decode(&padded).and_then(|pair| String::from_utf8(pair).ok());
        let pair = pair.as_deref().and_then(|pair| pair.split_once(':'));
        let Some((user, password)) = pair else {
            return Err(AuthError::Entry { path: path.to_owned(), key: key.chars().take(200).collect() });
        };
        let password = Secret::new(password.trim_matches('\0'));
        return Ok(Some(Login::Password { user: Secret::new(user), password }));
    }
    Ok(text("username")
        .zip(text("password"))
        .map(|(user, password)| Login::Password { user: Secret::new(user), password: Secret::new(password) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, host: &str, repository: &str) -> Option<(String, String)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        let logins = Logins { files: vec![dir.path().join("none"), path], named: false };
        let found = logins.find(host, repository).unwrap()?;
        let login = match found.login {
            Login::Password { user, password } => format!("{}:{}", user.open(), password.open()),
            Login::Identity(token) => format!("identity {}", token.open()),
            Login::Token(token) => format!("token {}", token.open()),
        };
        Some((login, found.from.split(" in ").next().unwrap().to_owned()))
    }

    fn login_of(text: &str, host: &str, repository: &str) -> Option<String> {
        found(text, host, repository).map(|(login, _)| login)
    }

    #[test]
    fn entries() {
        let pair = base64::encode(b"user:p:s\0");
        for (entry, expected) in [
            (format!(r#"{{"auth":"{pair}"}}"#), Some("user:p:s")),
            (format!(r#"{{"auth":"{}"}}"#, pair.trim_end_matches('=')), Some("user:p:s")),
            (r#"{"username":"u","password":"p"}"#.into(), Some("u:p")),
            (format!(r#"{{"auth":"{pair}","identitytoken":"t"}}"#), Some("identity t")),
            (r#"{"registrytoken":"t"}"#.into(), Some("token t")),
            ("{}".into(), None),
            (r#"{"auth":""}"#.into(), None),
        ] {
            let text = format!(r#"{{"auths":{{"r.example:5000":{entry}}}}}"#);
            assert_eq!(login_of(&text, "r.example:5000", "a").as_deref(), expected, "{entry}");
            assert_eq!(login_of(&text, "r.example", "a"), None);
        }
    }

    #[test]
    fn the_most_specific_entry_counts() {
        let auth = |user: &str| base64::encode(format!("{user}:x").as_bytes());
        let text = format!(
            r#"{{"auths":{{"r.example":{{"auth":"{}"}},"r.example/a":{{"auth":"{}"}},"r.example/a/b":{{"auth":"{}"}},
               "https://old.example/v1/":{{"auth":"{}"}},"https://index.docker.io/v1/":{{"auth":"{}"}}}}}}"#,
            auth("host"),
            auth("space"),
            auth("repository"),
            auth("old"),
            auth("hub")
        );
        for (host, repository, expected) in [
            ("r.example", "a/b", Some("repository:x")),
            ("r.example", "a/c", Some("space:x")),
            ("r.example", "ab", Some("host:x")),
            ("old.example", "a", Some("old:x")),
            ("docker.io", "library/a", Some("hub:x")),
            ("other.example", "a/b", None),
        ] {
            assert_eq!(login_of(&text, host, repository).as_deref(), expected, "{host}/{repository}");
        }
        assert_eq!(found(&text, "r.example", "a/b").unwrap().1, "\"r.example/a/b\"");
    }

    #[test]
    fn damaged_files_are_errors_that_tell_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        for text in [
            r#"{"auths":{"r.example":{"auth":"c2VjcmV0"}}}"#,
            r#"{"auths":{"r.example":{"auth":"secret!"}}}"#,
            r#"{"auths":{"r.example":{"auth":"secret" oops}}}"#,
        ] {
            std::fs::write(&path, text).unwrap();
            let logins = Logins { files: vec![path.clone()], named: false };
            let error = logins.find("r.example", "a").unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("secret") && !shown.contains("c2VjcmV0"), "{shown}");
        }
        let none = Logins { files: vec![dir.path().join("none")], named: true };
        assert!(matches!(none.find("r", "a"), Err(AuthError::Unreadable { .. })));
    }
}
