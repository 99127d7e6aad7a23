//! The password of a key file: of a file, of the environment, or of whoever sits at the terminal. It is never shown.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::diagnostic::{Exit, Failure};
use crate::trust::Password;

/// The longest password.
const LONGEST: u64 = 4096;
/// The variable that cosign reads too.
const VARIABLE: &str = "COSIGN_PASSWORD";

/// Where the password of a private key comes from.
#[derive(Debug, clap::Args)]
pub(crate) struct PasswordArgs {
    /// A file with the password of the private key; its last line end does not count. Without it COSIGN_PASSWORD is read, else the terminal
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl PasswordArgs {
    /// The password of a key that is there.
    pub(crate) fn old(&self, key: &Path) -> Result<Password, Failure> {
        match self.given()? {
            Some(password) => Ok(password),
            None => ask(&format!("Password for {}: ", key.display())),
        }
    }

    /// The password of a new key: at the terminal asked for twice.
    pub(crate) fn new_one(&self) -> Result<Password, Failure> {
        if let Some(password) = self.given()? {
            return Ok(password);
        }
        let first = ask("Password for the new private key: ")?;
        match ask("The same again: ")? == first {
            true => Ok(first),
            false => Err(failure("the two passwords are not the same", None)),
        }
    }

    fn given(&self) -> Result<Option<Password>, Failure> {
        if let Some(path) = &self.password_file {
            let mut bytes = Vec::new();
            let read = File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes));
            read.map_err(|error| failure(&format!("cannot read {}", path.display()), Some(error)))?;
            if bytes.len() as u64 > LONGEST {
                return Err(failure(&format!("{} is longer than {LONGEST} bytes", path.display()), None));
            }
            return Ok(Some(Password::new(trimmed(bytes))));
        }
        let variable = std::env::var_os(VARIABLE);
        Ok(variable.map(|value| Password::new(std::os::unix::ffi::OsStringExt::into_vec(value))))
    }
}

/// Without the line end that editors write.
fn trimmed(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    bytes
}

/// Asks at the terminal, which does not show what is typed.
fn ask(question: &str) -> Result<Password, Failure> {
    let none =
        |error| failure("the private key has a password, and there is no terminal to ask for it at", error);
    let mut terminal =
        File::options().read(true).write(true).open("/dev/tty").map_err(|error| none(Some(error)))?;
    let before = tcgetattr(&terminal).map_err(|error| none(Some(error.into())))?;
    let mut silent = before.clone();
    silent.local_modes &= !LocalModes::ECHO;
    silent.local_modes |= LocalModes::ECHONL;
    tcsetattr(&terminal, OptionalActions::Flush, &silent).map_err(|error| none(Some(error.into())))?;
    let answer = terminal.write_all(question.as_bytes()).and_then(|()| line(&mut terminal));
    // As it was, whatever came.
    let _ = tcsetattr(&terminal, OptionalActions::Now, &before);
    answer.map(Password::new).map_err(|error| failure("cannot read the password", Some(error)))
}

fn line(terminal: &mut File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while terminal.read(&mut byte)? == 1 && byte[0] != b'\n' {
        bytes.push(byte[0]);
        if bytes.len() as u64 > LONGEST {
            return Err(io::Error::other(format!("it is longer than {LONGEST} bytes")));
        }
    }
    Ok(bytes)
}

fn failure(message: &str, error: Option<io::Error>) -> Failure {
    Failure {
        code: "E-KEY-PASSWORD",
        exit: Exit::Usage,
        message: message.to_owned(),
        causes: error.map(|error| error.to_string()).into_iter().collect(),
        places: Vec::new(),
        help: Some(format!("set {VARIABLE} (it may be empty), or name a file with --password-file")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_no_part_of_it() {
        for (text, password) in
            [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("", ""), (" a ", " a ")]
        {
            assert_eq!(trimmed(text.into()), password.as_bytes());
        }
    }
}
