//! `dmoci build --twice`: what is chosen for the second build, and what is said when it differs.

use std::num::NonZeroUsize;
use std::str::FromStr;

use rustix::fs::Mode;
use rustix::process::{Signal, set_parent_process_death_signal, umask};
use serde_json::json;

use super::Report;
use super::differences::{Names, TOLD, lines, summary};
use super::watcher::Watcher;
use crate::diagnostic::{Exit, Failure};
use crate::ops::build::{Built, Request};
use crate::ops::lock::Network;
use crate::ops::twice::{SECOND, Second, Twice, build_twice};

/// What the second build must do itself: `UMASK:THREADS` in the variable [`SECOND`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Circumstances {
    umask: u32,
    threads: NonZeroUsize,
}

/// Those that a first build has set for this process. No option: it is nothing for people.
pub(super) fn circumstances() -> Result<Option<Circumstances>, Failure> {
    let Some(text) = std::env::var_os(SECOND) else { return Ok(None) };
    text.to_string_lossy().parse().map(Some).map_err(|message| Failure {
        code: "E-TWICE-RUN",
        exit: Exit::Usage,
        message: format!("{SECOND} is {text:?} in the environment: {message}"),
        causes: Vec::new(),
        places: Vec::new(),
        help: Some("unset it: `build --twice` sets it for its second build alone".into()),
    })
}

impl FromStr for Circumstances {
    type Err = String;

    fn from_str(text: &str) -> Result<Circumstances, String> {
        let parse = || {
            let (umask, threads) = text.split_once(':')?;
            let umask = u32::from_str_radix(umask, 8).ok().filter(|mask| *mask <= 0o777)?;
            Some(Circumstances { umask, threads: threads.parse().ok()? })
        };
        parse().ok_or_else(|| "expected UMASK:THREADS".to_owned())
    }
}

impl Circumstances {
    /// Makes them those of this process; gives the number of threads.
    pub(super) fn enter(self) -> NonZeroUsize {
        umask(mode(self.umask));
        // Nobody waits for this build when the first one is gone. Where that cannot be said it only takes longer.
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
        self.threads
    }
}

/// Builds twice. Differences are printed, and are an error.
pub(super) fn build(
    request: &Request,
    network: &Network<'_>,
    watch: &Watcher<'_>,
    report: &Report,
    json: bool,
) -> Result<Built, Failure> {
    match build_twice(request, network, &second(request.threads, json), watch)? {
        Twice::Same(built) => {
            report.status("Compared", format!("twice the same: {}", built.image.root.digest));
            Ok(*built)
        }
        Twice::Differs(differs) => {
            if json {
                let failure = json!({"code": differs.failure.code, "message": differs.failure.message});
                report.json(&json!({"schema": 1, "error": failure, "diff": differs.diff.to_value()}));
            } else {
                let names = Names { left: "first", right: "second" };
                let shown = [lines(&differs.diff, names), summary(&differs.diff, names)].concat();
                shown.iter().for_each(|line| report.data(line));
            }
            Err(differs.failure)
        }
    }
}

/// Circumstances that are all other than those of this process.
fn second(threads: NonZeroUsize, json: bool) -> Second {
    let own = umask(Mode::empty());
    umask(own);
    let other = |name: &str, one: &str, two: &str| match std::env::var_os(name) {
        Some(value) if value == one => two.to_owned(),
        _ => one.to_owned(),
    };
    Second {
        program: "/proc/self/exe".into(),
        umask: if own == mode(0o077) { 0o022 } else { 0o077 },
        threads: NonZeroUsize::new(threads.get() - 1).unwrap_or(NonZeroUsize::MIN.saturating_add(1)),
        environment: vec![
            // As POSIX writes them, which needs no file of zones: ahead of UTC, or behind it.
            ("TZ", other("TZ", "TWO-13:45", "TWO+11:15")),
            ("LC_ALL", other("LC_ALL", "tr_TR.UTF-8", "C")),
            ("LANG", other("LANG", "tr_TR.UTF-8", "C")),
        ],
        limit: if json { TOLD.1 } else { TOLD.0 },
    }
}

fn mode(mask: u32) -> Mode {
    Mode::from_bits_truncate(mask as rustix::fs::RawMode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circumstances() {
        let two = NonZeroUsize::new(2).unwrap();
        assert_eq!("077:2".parse(), Ok(Circumstances { umask: 0o077, threads: two }));
        for bad in ["", "077", "077:0", "1777:1", "8:1", "077:x"] {
            assert!(bad.parse::<Circumstances>().is_err(), "{bad}");
        }
        assert_eq!(second(NonZeroUsize::MIN, false).threads, two);
        assert_eq!(second(two, false).threads, NonZeroUsize::MIN);
    }
}
