//! Credential helpers: programs called `docker-credential-NAME` that are asked for one registry's credentials.

use std::io::{self, Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::mpsc;

use super::files::Login;
use super::{AuthError, Secret};
use crate::limits;

/// Asks the helper of this name; nothing when it has none for the registry.
pub(super) fn ask(name: &str, server: &str) -> Result<Option<Login>, AuthError> {
    let failed = |why: String| AuthError::Helper { program: program(name), server: server.to_owned(), why };
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > 128 || !name.bytes().all(good) {
        return Err(failed("this is no name of a program".into()));
    }
    let said = run(name, server).map_err(|error| failed(error.to_string()))?;
    if !said.good {
        // docker's helpers say so on standard output.
        let text = String::from_utf8_lossy(&said.out);
        if text.contains("credentials not found") {
            return Ok(None);
        }
        let why: String = String::from_utf8_lossy(&said.err).trim().chars().take(SHOWN).collect();
        return Err(failed(if why.is_empty() { "it ended with an error".into() } else { why }));
    }
    login(&said.out).map_or_else(|| Err(failed("its answer is not that of a helper".into())), Ok)
}

/// How many characters are shown of what a helper complains about.
const SHOWN: usize = 200;

fn program(name: &str) -> String {
    format!("docker-credential-{}", name.chars().take(128).collect::<String>())
}

struct Said {
    good: bool,
    out: Vec<u8>,
    err: Vec<u8>,
}

fn run(name: &str, server: &str) -> io::Result<Said> {
    let mut command = Command::new(program(name));
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (sender, receiver) = mpsc::channel();
    // These threads end with the pipes. One that a grandchild holds open is not waited for.
    let errors = sender.clone();
    std::thread::spawn(move || {
        let mut err = Vec::new();
        let read = stderr.map_or(Ok(0), |err_pipe| err_pipe.take(limits::HELPER_BYTES).read_to_end(&mut err));
        let _ = errors.send((false, read.map(|_| err)));
    });
    let server = server.to_owned();
    std::thread::spawn(move || {
        // A helper that does not read what it is asked says so by its answer.
        drop(stdin.map(|mut stdin| stdin.write_all(server.as_bytes())));
        let mut out = Vec::new();
        let read = stdout.map_or(Ok(0), |pipe| pipe.take(limits::HELPER_BYTES + 1).read_to_end(&mut out));
        let _ = sender.send((true, read.map(|_| out)));
    });
    let mut parts = [Vec::new(), Vec::new()];
    for _ in 0..2 {
        let (is_out, bytes) = match receiver.recv_timeout(limits::HELPER_TIME) {
            Ok(said) => said,
            Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                let seconds = limits::HELPER_TIME.as_secs();
                return Err(io::Error::other(format!("it gave no answer within {seconds} seconds")));
            }
        };
        parts[usize::from(!is_out)] = bytes?;
    }
    let [out, err] = parts;
    if out.len() as u64 > limits::HELPER_BYTES {
        let _ = child.kill();
        let _ = child.wait();
        return Err(io::Error::other(format!("its answer is larger than {} bytes", limits::HELPER_BYTES)));
    }
    Ok(Said { good: child.wait()?.success(), out, err })
}

/// `{"Username": …, "Secret": …}`; the user `<token>` says that the secret is an identity token.
fn login(answer: &[u8]) -> Option<Option<Login>> {
    let answer: serde_json::Value = serde_json::from_slice(answer).ok()?;
    let (user, secret) = (answer.get("Username")?.as_str()?, answer.get("Secret")?.as_str()?);
    Some(match (user, secret) {
        ("", "") => None,
        ("<token>", token) => Some(Login::Identity(Secret::new(token))),
        (user, password) => {
            Some(Login::Password { user: Secret::new(user), password: Secret::new(password) })
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let password = |user: &str, password: &str| {
            Some(Some(Login::Password { user: Secret::new(user), password: Secret::new(password) }))
        };
        for (answer, expected) in [
            (r#"{"ServerURL":"r","Username":"u","Secret":"p"}"#, password("u", "p")),
            (r#"{"Username":"u","Secret":""}"#, password("u", "")),
            (r#"{"Username":"<token>","Secret":"t"}"#, Some(Some(Login::Identity(Secret::new("t"))))),
            (r#"{"Username":"","Secret":""}"#, Some(None)),
            (r#"{"Username":1,"Secret":"p"}"#, None),
            (r#"{"Secret":"p"}"#, None),
            ("", None),
        ] {
            assert_eq!(login(answer.as_bytes()), expected, "{answer}");
        }
    }

    #[test]
    fn names_that_are_no_programs() {
        for name in ["", "../x", "a/b", "a b", "x;y", &"x".repeat(129)] {
            assert!(matches!(ask(name, "r"), Err(AuthError::Helper { .. })), "{name}");
        }
        let error = ask("dmoci-test-that-is-not-there", "r").unwrap_err().to_string();
        assert!(error.contains("docker-credential-dmoci-test-that-is-not-there"), "{error}");
    }
}
