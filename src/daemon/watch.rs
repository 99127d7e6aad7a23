//! A connection that ends when too little moves on it.
//!
//! The timeout of a socket is one of each read: bytes that come one by one keep it from ever being reached. So a thread
//! counts what moves, and shuts the connection down when that is less than it should be.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// What must move: so many bytes in each such time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    time: Duration,
    bytes: u64,
}

impl Pace {
    /// So many bytes in each such time.
    pub(super) fn of(bytes: u64, time: Duration) -> Pace {
        Pace { time, bytes }
    }

    /// Whatever moves, it must be over in this time.
    pub(super) fn within(time: Duration) -> Pace {
        Pace { time, bytes: u64::MAX }
    }
}

/// A connection; reading and writing fail with [`io::ErrorKind::TimedOut`] once it was too slow.
pub(super) struct Connection {
    stream: Arc<UnixStream>,
    moved: Arc<Moved>,
    paces: Sender<Pace>,
}

#[derive(Default)]
struct Moved {
    bytes: AtomicU64,
    late: AtomicBool,
}

impl Connection {
    /// Connects. No pace is asked for yet.
    pub(super) fn open(socket: &Path) -> io::Result<Connection> {
        let stream = Arc::new(UnixStream::connect(socket)?);
        let moved = Arc::new(Moved::default());
        let (paces, orders) = channel();
        let (watched, counted) = (Arc::clone(&stream), Arc::clone(&moved));
        std::thread::Builder::new().spawn(move || watch(&watched, &counted, &orders))?;
        Ok(Connection { stream, moved, paces })
    }

    /// Asks for this pace from now on, instead of the one before.
    pub(super) fn keep(&self, pace: Pace) {
        // Nobody listens only when it was too slow already.
        let _ = self.paces.send(pace);
    }

    fn note(&self, done: io::Result<usize>) -> io::Result<usize> {
        if self.moved.late.load(Ordering::Acquire) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let bytes = done?;
        self.moved.bytes.fetch_add(bytes as u64, Ordering::AcqRel);
        Ok(bytes)
    }
}

/// Ends with the connection.
fn watch(stream: &UnixStream, moved: &Moved, paces: &Receiver<Pace>) {
    let Ok(mut pace) = paces.recv() else { return };
    loop {
        let before = moved.bytes.load(Ordering::Acquire);
        match paces.recv_timeout(pace.time) {
            Ok(next) => pace = next,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                if moved.bytes.load(Ordering::Acquire) - before < pace.bytes {
                    moved.late.store(true, Ordering::Release);
                    // Whoever waits for it wakes up.
                    let _ = stream.shutdown(std::net::Shutdown::Both);
                    return;
                }
            }
        }
    }
}

impl Drop for Connection {
    /// Ends it at once: the thread that watches it holds it too, for a moment longer.
    fn drop(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

impl Read for Connection {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.note((&*self.stream).read(out))
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.note((&*self.stream).write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self.stream).flush()
    }
}
