//! One request and one answer of HTTP/1.1 (RFC 9112) over a unix socket. A connection serves one request.

use std::io::{self, BufRead as _, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::time::Duration;

use super::DaemonError;
use super::watch::{Connection, Pace};
use crate::limits;

/// What is asked.
pub(super) struct Request {
    head: String,
    size: u64,
    effort: Effort,
}

/// What a daemon does for its answer, which decides how long it may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    /// Looks something up.
    Small,
    /// Packs an image, which is the answer.
    Packs,
    /// Unpacks what it is sent, and says a few words.
    Unpacks,
}

/// How long a daemon may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For a short answer, and for a head from its first byte on.
    pub(super) answer: Duration,
    /// For an answer about an image to begin; its bytes move at [`limits::DAEMON_LEAST_BYTES`] in each such time.
    pub(super) silence: Duration,
}

impl Request {
    /// Asks for something. `target` is a path, and a query if wanted, without anything to escape.
    pub(super) fn get(target: &str, effort: Effort) -> Request {
        Request { head: format!("GET {target} HTTP/1.1\r\n{COMMON}\r\n"), size: 0, effort }
    }

    /// Sends something of this type, of exactly `size` bytes.
    pub(super) fn post(target: &str, content_type: &str, size: u64) -> Request {
        let body = format!("Content-Type: {content_type}\r\nContent-Length: {size}\r\n");
        let head = format!("POST {target} HTTP/1.1\r\n{COMMON}{body}\r\n");
        Request { head, size, effort: Effort::Unpacks }
    }

    /// Sends it, with the body that `write` writes, and reads the beginning of the answer. When too little moves for the
    /// patience there is, it has failed.
    pub(super) fn send<E: From<DaemonError>>(
        self,
        socket: &Path,
        patience: Patience,
        write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<Answer, E> {
        let io = |source| DaemonError::read(socket, source);
        let connection = Connection::open(socket)
            .map_err(|source| DaemonError::Connect { socket: socket.to_owned(), source })?;
        connection.keep(match self.effort {
            Effort::Small => Pace::within(patience.answer),
            _ => Pace::of(limits::DAEMON_LEAST_BYTES, patience.silence),
        });
        let mut body =
            Body { out: BufWriter::with_capacity(256 << 10, connection), left: self.size, broken: false };
        let sent = body.out.write_all(self.head.as_bytes()).map_err(io);
        let sent = sent.map_err(E::from).and_then(|()| write(&mut body));
        let sent = sent.and_then(|()| body.finish().map_err(|source| io(source).into()));
        // What is left in the buffer is not to be sent when the whole cannot be.
        let Body { out, broken, .. } = body;
        let (connection, _) = out.into_parts();
        match sent {
            Ok(()) => Ok(self.effort.answer(connection, patience).map_err(io)?),
            // A daemon that does not want the rest closes, and has said why before.
            Err(error) => match broken.then(|| self.effort.answer(connection, patience)) {
                Some(Ok(answer)) if answer.status >= 400 => Ok(answer),
                _ => Err(error),
            },
        }
    }
}

impl Effort {
    /// Reads the head of the answer to what was sent, and sets the pace of its body.
    fn answer(self, connection: Connection, patience: Patience) -> io::Result<Answer> {
        if self == Effort::Small {
            // The time that began with the request is that of all of it.
            return Answer::read(connection, |_, _| {});
        }
        let answer = Answer::read(connection, |connection: &Connection, moment| {
            connection.keep(match moment {
                Moment::Waiting => Pace::within(patience.silence),
                Moment::Head => Pace::within(patience.answer),
            });
        })?;
        answer.stream.get_ref().keep(match self {
            Effort::Packs if answer.is_good() => Pace::of(limits::DAEMON_LEAST_BYTES, patience.silence),
            Effort::Unpacks if answer.is_good() => Pace::within(patience.silence),
            _ => Pace::within(patience.answer),
        });
        Ok(answer)
    }
}

/// Where an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// Nothing of the next head has come.
    Waiting,
    /// The head has begun.
    Head,
}

/// Header fields of every request.
const COMMON: &str = concat!(
    "Host: docker\r\nUser-Agent: dmoci/",
    env!("CARGO_PKG_VERSION"),
    "\r\nAccept: */*\r\nConnection: close\r\n"
);

/// A body that must have the announced length.
struct Body {
    out: BufWriter<Connection>,
    left: u64,
    /// The other side takes no more.
    broken: bool,
}

impl Body {
    fn finish(&mut self) -> io::Result<()> {
        let flushed = self.out.flush();
        self.note(flushed)?;
        match self.left {
            0 => Ok(()),
            left => Err(io::Error::other(format!("{left} bytes of what was announced are missing"))),
        }
    }

    fn note<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        self.broken |= result.is_err();
        result
    }
}

impl Write for Body {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(io::Error::other("more bytes than were announced"));
        }
        let written = self.out.write(bytes);
        let n = self.note(written)?;
        self.left -= n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.out.flush();
        self.note(flushed)
    }
}

/// An answer; reading gives its body, and an error when that is cut.
pub(super) struct Answer<S = Connection> {
    stream: BufReader<S>,
    status: u16,
    length: Length,
}

/// How the end of a body is told (RFC 9112, section 6.3).
enum Length {
    /// So many bytes more.
    Fixed(u64),
    /// Chunks; so many bytes more of this one.
    Chunked(u64),
    /// The last chunk was read.
    Over,
    /// The connection ends with it.
    Connection,
}

impl<S: Read> Answer<S> {
    /// Reads status and header fields. `moment` is told when it waits for a head, and when one has begun.
    pub(super) fn read(stream: S, moment: impl Fn(&S, Moment)) -> io::Result<Answer<S>> {
        let mut stream = BufReader::with_capacity(64 << 10, stream);
        for _ in 0..=limits::DAEMON_INTERIM_ANSWERS {
            moment(stream.get_ref(), Moment::Waiting);
            while let Err(error) = stream.fill_buf() {
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
            moment(stream.get_ref(), Moment::Head);
            let (status, length) = head(&mut stream)?;
            // Interim answers come before the one that counts.
            if !(100..200).contains(&status) {
                return Ok(Answer { stream, status, length });
            }
        }
        Err(malformed("it sends one interim answer after another"))
    }

    pub(super) fn status(&self) -> u16 {
        self.status
    }

    /// It does what was asked.
    pub(super) fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The whole body, which should be short; of a longer one the beginning.
    pub(super) fn text(&mut self) -> io::Result<String> {
        let mut bytes = Vec::new();
        self.take(limits::DAEMON_TEXT_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The size line of the next chunk; behind the last one come trailer fields, which say nothing here.
    fn next_chunk(&mut self) -> io::Result<u64> {
        let line = line(&mut self.stream, limits::DAEMON_CHUNK_LINE)?;
        match httparse::parse_chunk_size(&line) {
            Ok(httparse::Status::Complete((_, 0))) => {
                for _ in 0..HEADERS {
                    if matches!(&*self::line(&mut self.stream, limits::DAEMON_HEAD_BYTES)?, b"\r\n" | b"\n") {
                        return Ok(0);
                    }
                }
                Err(malformed("its chunks have too many trailer fields"))
            }
            Ok(httparse::Status::Complete((_, size))) => Ok(size),
            _ => Err(malformed("a chunk has no size")),
        }
    }
}

impl<S: Read> Read for Answer<S> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let cut = || io::Error::new(io::ErrorKind::UnexpectedEof, "the answer is cut");
        if let Length::Chunked(0) = self.length {
            self.length = match self.next_chunk()? {
                0 => Length::Over,
                size => Length::Chunked(size),
            };
        }
        let left = match &mut self.length {
            _ if out.is_empty() => return Ok(0),
            Length::Over | Length::Fixed(0) => return Ok(0),
            Length::Connection => return self.stream.read(out),
            Length::Fixed(left) | Length::Chunked(left) => left,
        };
        let most = usize::try_from(*left).unwrap_or(usize::MAX).min(out.len());
        let n = self.stream.read(&mut out[..most])?;
        if n == 0 {
            return Err(cut());
        }
        *left -= n as u64;
        if let Length::Chunked(0) = self.length
            && !matches!(&*line(&mut self.stream, limits::DAEMON_CHUNK_LINE)?, b"\r\n" | b"\n")
        {
            return Err(malformed("a chunk does not end where its size says"));
        }
        Ok(n)
    }
}

/// How many header fields an answer may have.
const HEADERS: usize = 64;

/// One head: the status, and how the end of the body is told.
fn head(stream: &mut BufReader<impl Read>) -> io::Result<(u16, Length)> {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") && !text.ends_with(b"\n\n") {
        text.extend(line(stream, limits::DAEMON_HEAD_BYTES)?);
        if text.len() as u64 > limits::DAEMON_HEAD_BYTES {
            return Err(malformed("its header is too long"));
        }
    }
    let mut fields = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut fields);
    let whole = response.parse(&text).map_err(|error| malformed(&format!("no HTTP: {error}")))?;
    let status = response.code.filter(|_| whole.is_complete()).ok_or_else(|| malformed("no HTTP"))?;
    let mut length = None;
    for field in response.headers.iter() {
        let value = String::from_utf8_lossy(field.value).trim().to_owned();
        let said = if field.name.eq_ignore_ascii_case("transfer-encoding") {
            let chunked = value.eq_ignore_ascii_case("chunked");
            chunked
                .then_some(Length::Chunked(0))
                .ok_or_else(|| malformed("it has an unknown transfer coding"))?
        } else if field.name.eq_ignore_ascii_case("content-length") {
            let digits = value.bytes().all(|byte| byte.is_ascii_digit());
            let bytes = value.parse().ok().filter(|_| digits);
            Length::Fixed(bytes.ok_or_else(|| malformed("its Content-Length is no number"))?)
        } else {
            continue;
        };
        if length.replace(said).is_some() {
            return Err(malformed("the length of its body is said twice"));
        }
    }
    let empty = matches!(status, 100..200 | 204 | 304);
    Ok((status, if empty { Length::Over } else { length.unwrap_or(Length::Connection) }))
}

/// A line of at most so many bytes, with its end.
fn line(stream: &mut BufReader<impl Read>, most: u64) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    stream.take(most).read_until(b'\n', &mut line)?;
    match line.ends_with(b"\n") {
        true => Ok(line),
        false if line.len() as u64 >= most => Err(malformed("a line is too long")),
        false => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the answer is cut")),
    }
}

/// What came is no HTTP: see [`DaemonError::read`].
fn malformed(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Status and body of an answer that comes in pieces of one byte.
    fn read(text: &str) -> Result<(u16, String), String> {
        struct Bytes<'a>(&'a [u8]);
        impl Read for Bytes<'_> {
            fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
                let most = out.len().min(1);
                self.0.read(&mut out[..most])
            }
        }
        let mut answer =
            Answer::read(Bytes(text.as_bytes()), |_, _| {}).map_err(|error| error.to_string())?;
        let mut body = String::new();
        answer.read_to_string(&mut body).map_err(|error| error.to_string())?;
        Ok((answer.status(), body))
    }

    #[test]
    fn bodies() {
        for (text, status, body) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more", 200, "hello"),
            ("HTTP/1.1 200 OK\r\n\r\nto the end", 200, "to the end"),
            ("HTTP/1.0 404 Not Found\r\ncontent-length: 0\r\n\r\n", 404, ""),
            ("HTTP/1.1 204 No Content\r\n\r\nnothing of this", 204, ""),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 1\r\n\r\nx", 201, "x"),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nX: y\r\n\r\nmore",
                200,
                "hello world",
            ),
        ] {
            assert_eq!(read(text), Ok((status, body.to_owned())), "{text}");
        }
    }

    #[test]
    fn answers_that_are_none() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(70_000));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(100));
        for text in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut",
            "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx",
            &format!("{chunked}5\r\nhello\r\n"),
            &format!("{chunked}5\r\nhel"),
            &format!("{chunked}5\r\nhello world\r\n0\r\n\r\n"),
            &format!("{chunked}zz\r\nhello\r\n0\r\n\r\n"),
            &format!("{chunked}fffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
            &format!("{chunked}0\r\nX: y\r\n"),
            &long,
            &many,
        ] {
            assert!(read(text).is_err(), "{text:.100}");
        }
    }
}
