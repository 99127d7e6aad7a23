//! When to try again, and after how long.

use std::time::Duration;

use super::error::Cause;
use crate::limits;

/// How long is waited for what, and how often it is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For a connection, TLS included.
    pub connect: Duration,
    /// For the head of an answer.
    pub answer: Duration,
    /// For the head of an answer to what ends an upload: a registry may hash or move all of it first.
    pub commit: Duration,
    /// Between two pieces of a body.
    pub silence: Duration,
    /// In every such time at least [`Patience::least`] bytes of a body must come, or go.
    pub window: Duration,
    /// See [`Patience::window`].
    pub least: u64,
    /// For a page as a whole, with all attempts.
    pub page: Duration,
    /// How often something is tried that brings nothing new.
    pub attempts: u32,
    /// The first wait between two attempts; each further one is twice as long.
    pub first_wait: Duration,
    /// The longest such wait.
    pub longest_wait: Duration,
    /// The longest that a server may ask to wait (`Retry-After`); one that asks for more is not asked again.
    pub longest_asked: Duration,
    /// How much of an upload goes at once.
    pub piece: u64,
}

impl Patience {
    /// The same for what is only of use when it comes quickly: two attempts, and 256 KiB a second at least.
    pub fn hasty(self) -> Patience {
        let seconds = Duration::from_secs;
        Patience {
            connect: self.connect.min(seconds(10)),
            answer: self.answer.min(seconds(15)),
            silence: self.silence.min(seconds(10)),
            window: self.window.min(seconds(10)),
            least: self.least.max(2560 << 10),
            page: self.page.min(seconds(30)),
            attempts: self.attempts.min(2),
            longest_wait: self.longest_wait.min(seconds(2)),
            longest_asked: self.longest_asked.min(seconds(2)),
            ..self
        }
    }
}

impl Default for Patience {
    /// What suits a slow network: five attempts within some ten seconds, and 1 KiB a second at least.
    fn default() -> Patience {
        let seconds = Duration::from_secs;
        Patience {
            connect: seconds(30),
            answer: seconds(60),
            commit: seconds(600),
            silence: seconds(30),
            window: seconds(30),
            least: 30 << 10,
            page: seconds(600),
            attempts: 5,
            first_wait: Duration::from_millis(500),
            longest_wait: seconds(30),
            longest_asked: seconds(300),
            piece: limits::UPLOAD_PIECE,
        }
    }
}

/// So many bytes more than ever before make an attempt a new beginning.
const PROGRESS: u64 = 1 << 20;

/// All attempts for one file, whatever they bring.
const ALL: u32 = 50;

/// Sees to it that a body does not come, or go, too slowly.
#[derive(Debug)]
pub(super) struct Pace<'a> {
    patience: &'a Patience,
    since: Duration,
    came: u64,
}

impl<'a> Pace<'a> {
    /// It begins to come now.
    pub(super) fn new(patience: &'a Patience, now: Duration) -> Pace<'a> {
        Pace { patience, since: now, came: 0 }
    }

    /// So many bytes more came, and now it is so late.
    pub(super) fn came(&mut self, bytes: u64, now: Duration) -> Result<(), Cause> {
        self.came += bytes;
        if now.saturating_sub(self.since) >= self.patience.window {
            if self.came < self.patience.least {
                return Err(Cause::Slow(self.patience.least, self.patience.window.as_secs()));
            }
            (self.since, self.came) = (now, 0);
        }
        Ok(())
    }
}

/// Counts the attempts for one file.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// Since the last that brought something.
    vain: u32,
    all: u32,
    /// The most bytes that were there at once.
    furthest: u64,
}

impl Attempts {
    /// How many there were.
    pub(super) fn count(&self) -> u32 {
        self.all
    }

    /// An attempt ended early, with so many bytes of the file there: how long to wait before the next, or nothing when it was
    /// the last. `asked` is what the server wants; `chance` is from 0 to 1.
    pub(super) fn next(
        &mut self,
        patience: &Patience,
        there: u64,
        asked: Option<Duration>,
        chance: f64,
    ) -> Option<Duration> {
        self.all += 1;
        self.vain += 1;
        if there >= self.furthest.saturating_add(PROGRESS) {
            self.furthest = there;
            self.vain = 1;
        }
        if self.vain >= patience.attempts || self.all >= ALL {
            return None;
        }
        if asked.is_some_and(|asked| asked > patience.longest_asked) {
            return None;
        }
        let doubled = patience.first_wait.saturating_mul(1 << (self.vain - 1).min(16));
        // Half of it is left to chance, so that machines that failed together do not come back together.
        let own = doubled.min(patience.longest_wait).mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0);
        Some(asked.map_or(own, |asked| asked.max(own)))
    }
}

/// `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date, which is held against the answer's own `Date`.
pub(super) fn asked(retry_after: &str, date: Option<&str>) -> Option<Duration> {
    let text = retry_after.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let (then, now) = (seconds(text)?, seconds(date?)?);
    Some(Duration::from_secs(then.saturating_sub(now)))
}

/// The seconds of an IMF-fixdate (RFC 9110, section 5.6.7) since some day in the past.
fn seconds(date: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut parts = date.trim().split_once(", ")?.1.split(' ');
    let number = |text: Option<&str>| text?.parse::<u64>().ok().filter(|number| *number < 10_000);
    let day = number(parts.next())?;
    let month = parts.next().and_then(|name| MONTHS.iter().position(|month| *month == name))? as u64 + 1;
    let year = number(parts.next())?;
    let mut clock = parts.next()?.split(':');
    let (hour, minute, second) = (number(clock.next())?, number(clock.next())?, number(clock.next())?);
    // Days of the civil calendar, with years that begin in March so that the leap day is the last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patience() -> Patience {
        Patience::default()
    }

    #[test]
    fn waits_double_and_end() {
        let waits = |chance: f64| {
            let mut attempts = Attempts::default();
            let mut waits = Vec::new();
            while let Some(wait) = attempts.next(&patience(), 0, None, chance) {
                waits.push(wait.as_millis());
            }
            assert_eq!(attempts.count(), 5);
            waits
        };
        assert_eq!(waits(1.0), [500, 1000, 2000, 4000]);
        assert_eq!(waits(0.0), [250, 500, 1000, 2000]);
        assert_eq!(waits(7.0), waits(1.0));
    }

    #[test]
    fn what_brings_something_may_go_on_but_not_for_ever() {
        let mut attempts = Attempts::default();
        let mut there = 0;
        while attempts.next(&patience(), there, None, 0.5).is_some() {
            there += PROGRESS;
        }
        assert_eq!(attempts.count(), ALL);
        // Coming to the same place again and again is no progress.
        let mut attempts = Attempts::default();
        while attempts.next(&patience(), 10 * PROGRESS, None, 0.5).is_some() {}
        assert_eq!(attempts.count(), 5);
    }

    #[test]
    fn what_the_server_asks_for() {
        let next =
            |asked: u64| Attempts::default().next(&patience(), 0, Some(Duration::from_secs(asked)), 1.0);
        assert_eq!(next(7), Some(Duration::from_secs(7)));
        assert_eq!(next(0), Some(Duration::from_millis(500)));
        assert_eq!(next(301), None);
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        for (value, date, expected) in [
            ("120", None, Some(120)),
            (" 3 ", None, Some(3)),
            ("99999999999999999999", None, Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:50:00 GMT", date, Some(23)),
            ("Mon, 07 Nov 1994 08:49:37 GMT", date, Some(86_400)),
            ("Wed, 01 Mar 1995 08:49:37 GMT", date, Some(115 * 86_400)),
            ("Sat, 05 Nov 1994 08:49:37 GMT", date, Some(0)),
            ("Sun, 06 Nov 1994 08:50:00 GMT", None, None),
            ("soon", date, None),
            ("-1", date, None),
            ("Sun, 06 Foo 1994 08:50:00 GMT", date, None),
            ("", date, None),
        ] {
            assert_eq!(asked(value, date), expected.map(Duration::from_secs), "{value}");
        }
    }
}
