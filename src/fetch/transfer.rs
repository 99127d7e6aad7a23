//! One file, in as many attempts as it takes: an attempt goes on where the last one was cut.

use std::io::Read as _;
use std::time::Duration;

use dmoci_layers::{Algorithm, Digest, Hasher};
use ureq::http::header;

use super::error::{Cause, FetchError};
use super::exchange::{Answer, Question, Trouble};
use super::retry::{Attempts, Pace};
use super::{Fetcher, Wanted};
use crate::cache::{CacheError, Reserved};
use crate::url::Url;

/// Where bytes go as they come.
pub(super) enum Sink {
    /// A file of the cache.
    File(Reserved),
    /// Memory, for small documents.
    Memory(Vec<u8>),
}

impl Sink {
    fn append(&mut self, bytes: &[u8]) -> Result<(), CacheError> {
        match self {
            Sink::File(file) => file.append(bytes),
            Sink::Memory(memory) => {
                memory.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    fn clear(&mut self) -> Result<(), CacheError> {
        match self {
            Sink::File(file) => file.clear(),
            Sink::Memory(memory) => {
                memory.clear();
                Ok(())
            }
        }
    }
}

/// A file that is being fetched.
pub(super) struct Transfer<'a> {
    fetcher: &'a Fetcher<'a>,
    wanted: &'a Wanted,
    accept: &'a str,
    sink: Sink,
    hasher: Hasher,
    /// What is there.
    have: u64,
    /// What is there did not all come in one piece.
    pieced: bool,
    /// It came in pieces that did not fit, and was asked for anew.
    again: bool,
    /// What the server calls this very version of the file.
    validator: Option<String>,
    /// What was told to the listener.
    told: u64,
    total_told: bool,
    /// The digest, when the sink held it all.
    whole: Option<Digest>,
    /// When a page must be there.
    deadline: Option<Duration>,
}

/// A file that is there, whole, and has the digest that was expected.
pub(super) struct Whole {
    pub(super) sink: Sink,
    pub(super) digest: Digest,
    /// Who gave it.
    pub(super) url: Url,
    /// Its media type, as the server calls it.
    pub(super) media_type: Option<String>,
}

enum Ended {
    /// It is not worth trying again.
    Error(FetchError),
    /// Another attempt may do better.
    Trouble(Box<Trouble>),
}

impl From<FetchError> for Ended {
    fn from(error: FetchError) -> Ended {
        Ended::Error(error)
    }
}

impl From<Cause> for Ended {
    fn from(cause: Cause) -> Ended {
        Ended::Trouble(Box::new(cause.into()))
    }
}

impl From<CacheError> for Ended {
    fn from(error: CacheError) -> Ended {
        Ended::Error(error.into())
    }
}

impl<'a> Transfer<'a> {
    /// Begins with what is in the sink.
    pub(super) fn new(
        fetcher: &'a Fetcher<'a>,
        wanted: &'a Wanted,
        accept: &'a str,
        mut sink: Sink,
    ) -> Result<Transfer<'a>, FetchError> {
        let algorithm = wanted.expected.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        let (mut have, mut hasher, mut whole) = (0, Hasher::new(algorithm), None);
        let page = matches!(sink, Sink::Memory(_));
        let deadline = page.then(|| fetcher.surroundings.now() + fetcher.patience().page);
        if let Sink::File(file) = &mut sink {
            (have, hasher) = file.content(algorithm)?;
            // It may be all there: then nothing is left to ask for.
            if have > 0 && wanted.size.is_none_or(|size| have >= size) {
                let found = hasher.finish();
                (have, hasher) = match wanted.size {
                    _ if Some(&found) == wanted.expected.as_ref() => {
                        whole = Some(found);
                        (have, Hasher::new(algorithm))
                    }
                    None => file.content(algorithm)?,
                    Some(_) => {
                        file.clear()?;
                        (0, Hasher::new(algorithm))
                    }
                };
            }
        }
        Ok(Transfer {
            fetcher,
            wanted,
            accept,
            sink,
            hasher,
            have,
            pieced: have > 0,
            again: false,
            validator: None,
            told: 0,
            total_told: false,
            whole,
            deadline,
        })
    }

    /// Fetches it. Nobody else is asked when the sink held it all.
    pub(super) fn run(mut self) -> Result<Whole, FetchError> {
        let mut attempts = Attempts::default();
        if let Some(digest) = self.whole {
            return Ok(Whole { sink: self.sink, digest, url: self.wanted.url.clone(), media_type: None });
        }
        let (patience, surroundings) = (self.fetcher.patience(), self.fetcher.surroundings);
        loop {
            let trouble = match self.attempt() {
                Ok((url, media_type)) => match self.judge() {
                    Ok(digest) => return Ok(Whole { sink: self.sink, digest, url, media_type }),
                    // What an earlier attempt left may be what is wrong.
                    Err(_) if self.pieced && !self.again => {
                        self.again = true;
                        self.restart()?;
                        continue;
                    }
                    Err(error) => {
                        self.sink.clear()?;
                        return Err(error);
                    }
                },
                Err(Ended::Error(error)) => {
                    // What is too large is of no use to the next run, and takes its place.
                    if matches!(error, FetchError::Large { .. } | FetchError::Size { .. }) {
                        self.sink.clear()?;
                    }
                    return Err(error);
                }
                Err(Ended::Trouble(trouble)) => trouble,
            };
            if self.wanted.expected.is_none() && self.validator.is_none() {
                self.restart()?;
            }
            let wait = attempts.next(patience, self.have, trouble.asked, surroundings.chance());
            let in_time = |wait: &Duration| self.deadline.is_none_or(|end| surroundings.now() + *wait < end);
            match wait.filter(|wait| trouble.cause.passes() && !self.wanted.once && in_time(wait)) {
                Some(wait) => {
                    self.fetcher.listener.retry(&self.wanted.url, &trouble.cause, wait);
                    self.fetcher.pause(&self.wanted.url, wait)?;
                }
                None => {
                    return Err(FetchError::Failed {
                        url: Box::new(self.wanted.url.clone()),
                        at: trouble.elsewhere.map(Box::new),
                        attempts: attempts.count(),
                        cause: Box::new(trouble.cause),
                    });
                }
            }
        }
    }

    /// Forgets all that is there.
    fn restart(&mut self) -> Result<(), FetchError> {
        self.sink.clear()?;
        let algorithm = self.wanted.expected.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        self.hasher = Hasher::new(algorithm);
        (self.have, self.pieced, self.validator) = (0, false, None);
        Ok(())
    }

    /// Whether all that came is what was expected.
    fn judge(&mut self) -> Result<Digest, FetchError> {
        let found = std::mem::replace(&mut self.hasher, Hasher::sha256()).finish();
        if let Some(expected) = self.wanted.size.filter(|size| *size != self.have) {
            return Err(self.size_error(expected, self.have.to_string()));
        }
        match &self.wanted.expected {
            Some(expected) if *expected != found => Err(FetchError::Digest {
                url: Box::new(self.wanted.url.clone()),
                expected: expected.clone(),
                found,
            }),
            _ => Ok(found),
        }
    }

    fn size_error(&self, expected: u64, found: String) -> FetchError {
        FetchError::Size { url: Box::new(self.wanted.url.clone()), expected, found }
    }

    /// Asks for what is missing and takes it as far as it comes. Who gave the last of it, and its media type.
    fn attempt(&mut self) -> Result<(Url, Option<String>), Ended> {
        let question = Question {
            url: &self.wanted.url,
            plain: self.wanted.plain,
            scope: self.wanted.scope.as_ref(),
            accept: self.accept,
            from: self.have,
            validator: self.validator.as_deref(),
        };
        let answer = match self.fetcher.web.ask(&question, self.fetcher.surroundings)? {
            Ok(answer) => answer,
            // There is nothing behind what is here, so what is here is not that file.
            Err(Trouble { cause: Cause::Status { status: 416, .. }, .. }) if self.have > 0 => {
                self.restart()?;
                return Err(Cause::Protocol("it refused to go on".into()).into());
            }
            Err(trouble) => return Err(Ended::Trouble(Box::new(trouble))),
        };
        let total = self.begin(&answer)?;
        let url = answer.elsewhere.clone().unwrap_or_else(|| self.wanted.url.clone());
        let media_type = answer.header(header::CONTENT_TYPE).map(|text| text.chars().take(200).collect());
        if let (Some(total), false) = (total, self.total_told) {
            self.total_told = true;
            self.fetcher.listener.expect(total - self.have.min(total));
            self.told = self.have;
        }
        self.take(answer, total)?;
        Ok((url, media_type))
    }

    /// Looks at the head of an answer: where it begins, and how long the whole file is.
    fn begin(&mut self, answer: &Answer) -> Result<Option<u64>, Ended> {
        let length = answer.length();
        let total = if answer.status == 206 {
            let range = answer.header(header::CONTENT_RANGE).and_then(content_range);
            let total = range.and_then(|(_, total)| total);
            let fits = range.is_some_and(|(start, _)| start == self.have && self.have > 0)
                && self.wanted.size.zip(total).is_none_or(|(expected, total)| expected == total);
            if !fits {
                self.restart()?;
                return Err(Cause::Protocol("it gave another part than asked for".into()).into());
            }
            self.pieced = true;
            total.or_else(|| length.map(|length| self.have.saturating_add(length)))
        } else {
            self.restart()?;
            self.validator = validator(answer);
            length
        };
        let chunked = answer.headers.contains_key(header::TRANSFER_ENCODING);
        if total.is_none() && !chunked && self.wanted.expected.is_none() {
            return Err(Cause::Length { page: matches!(self.sink, Sink::Memory(_)) }.into());
        }
        match (self.wanted.size, total) {
            (Some(expected), Some(total)) if total != expected => {
                Err(self.size_error(expected, total.to_string()).into())
            }
            (None, Some(total)) if total > self.wanted.most => Err(self.large().into()),
            _ => Ok(total),
        }
    }

    fn large(&self) -> FetchError {
        FetchError::Large { url: Box::new(self.wanted.url.clone()), limit: self.wanted.most }
    }

    /// Takes a body to its end.
    fn take(&mut self, mut answer: Answer, total: Option<u64>) -> Result<(), Ended> {
        let (patience, surroundings) = (self.fetcher.patience(), self.fetcher.surroundings);
        let most = self.wanted.size.unwrap_or(self.wanted.most);
        let elsewhere = answer.elsewhere.clone();
        let trouble =
            |cause| Ended::Trouble(Box::new(Trouble { cause, elsewhere: elsewhere.clone(), asked: None }));
        let mut buffer = vec![0; 128 << 10];
        let mut pace = Pace::new(patience, surroundings.now());
        loop {
            let count = match answer.body.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let url = elsewhere.as_ref().unwrap_or(&self.wanted.url);
                    return Err(trouble(self.fetcher.web.body_cause(error, self.have, total, url)));
                }
            };
            if count == 0 {
                return match total.is_some_and(|total| self.have < total) {
                    true => Err(trouble(Cause::Cut { have: self.have, of: total })),
                    false => Ok(()),
                };
            }
            if self.have + count as u64 > most {
                return Err(match self.wanted.size {
                    Some(expected) => self.size_error(expected, "more".into()).into(),
                    None => self.large().into(),
                });
            }
            self.sink.append(&buffer[..count])?;
            self.hasher.update(&buffer[..count]);
            self.have += count as u64;
            if self.have > self.told {
                self.fetcher.listener.receive(self.have - self.told);
                self.told = self.have;
            }
            self.fetcher.check_given_up(&self.wanted.url)?;
            let now = surroundings.now();
            if self.deadline.is_some_and(|end| now > end) {
                return Err(trouble(Cause::Late(patience.page.as_secs())));
            }
            pace.came(count as u64, now).map_err(trouble)?;
        }
    }
}

/// What a server calls one version of a file: a strong entity tag, or else the time of its last change (RFC 9110, section
/// 13.1.5).
fn validator(answer: &Answer) -> Option<String> {
    let tag = answer.header(header::ETAG).filter(|tag| tag.starts_with('"'));
    tag.or_else(|| answer.header(header::LAST_MODIFIED)).map(str::to_owned)
}

/// `bytes FIRST-LAST/TOTAL` (RFC 9110, section 14.4): the first byte, and the number of all when it is told.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let total = match total {
        "*" => None,
        total => Some(total.parse::<u64>().ok()?),
    };
    (first <= last && total.is_none_or(|total| last < total)).then_some((first, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_files() {
        for (text, expected) in [
            ("bytes 5-9/10", Some((5, Some(10)))),
            ("bytes 5-9/*", Some((5, None))),
            ("bytes 5-10/10", None),
            ("bytes 9-5/10", None),
            ("bytes */10", None),
            ("5-9/10", None),
            ("bytes 5-9", None),
            ("bytes 5-99999999999999999999/*", None),
        ] {
            assert_eq!(content_range(text), expected, "{text}");
        }
    }
}
