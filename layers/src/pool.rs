//! The threads that compress, and the memory for what is on its way: shared by all layers that are written at the
//! same time.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::Compression;
use crate::encode::{Encoder, block_size};

/// What all blocks between reading and writing may take together, their compressed forms included.
///
/// Enough for some twenty gzip members or six zstd frames at a time. More cores would not help: one layer is bound by
/// its digest, which one core computes.
const BYTES_IN_FLIGHT: usize = 48 << 20;

/// What the blocks that are being filled may take together, one for each layer; and their compressed forms as much again.
const BYTES_FILLING: usize = 16 << 20;

/// Layers that are written at the same time at most. Each keeps three cores or four busy, and its thread has an encoder and
/// memory of its own.
const LAYERS: usize = 8;

/// Threads that compress, for any number of layers at the same time.
///
/// They start when there is work for them, and end with the last clone of this handle. Their number never shows in
/// the output. Whatever it is, and however many layers are written: the blocks that wait to be compressed, hashed or
/// written take 48 MiB at most, and each layer one more block that is being filled.
#[derive(Clone)]
pub struct Pool(Arc<Owner>);

impl Pool {
    /// A pool of at most so many threads.
    pub fn new(threads: NonZeroUsize) -> Pool {
        let shared = Shared {
            threads: threads.get(),
            state: Mutex::default(),
            work: Condvar::new(),
            room: Condvar::new(),
        };
        Pool(Arc::new(Owner { shared: Arc::new(shared), running: Mutex::default() }))
    }

    /// The most threads that it starts.
    pub fn threads(&self) -> usize {
        self.0.shared.threads
    }

    /// How many layers of this compression should be written at the same time at most: as many as there are threads,
    /// but at most 8, and not so many that the blocks which they fill would take more than 16 MiB.
    pub fn layers(&self, compression: Compression) -> usize {
        self.threads().min(LAYERS).min(BYTES_FILLING / block_size(compression))
    }

    /// Lets a thread do this; what is urgent before what is not.
    pub(crate) fn run(&self, urgent: bool, job: Job) -> io::Result<()> {
        let shared = &self.0.shared;
        let mut state = shared.lock();
        let waiting = state.urgent.len() + state.usual.len() + 1;
        if waiting > state.idle && state.started < shared.threads {
            let worker = Arc::clone(shared);
            let spawned = std::thread::Builder::new().name("compress".into()).spawn(move || worker.work());
            match spawned {
                Ok(thread) => {
                    state.started += 1;
                    self.0.running.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
                }
                // Those that run will do.
                Err(_) if state.started > 0 => {}
                Err(error) => return Err(error),
            }
        }
        match urgent {
            true => state.urgent.push_back(job),
            false => state.usual.push_back(job),
        }
        drop(state);
        shared.work.notify_one();
        Ok(())
    }

    /// Waits until there is room for `bytes` more on their way.
    pub(crate) fn permit(&self, bytes: usize) -> Permit {
        let shared = &self.0.shared;
        // A few blocks for each thread keep all busy and stay in the processor's caches.
        let most = BYTES_IN_FLIGHT.min(bytes.saturating_mul(2 * shared.threads + 2));
        let mut state = shared.lock();
        while state.in_flight > 0 && state.in_flight + bytes > most {
            state = shared.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.in_flight += bytes;
        Permit { shared: Arc::clone(shared), bytes }
    }

    /// A buffer of this many bytes with anything in it.
    pub(crate) fn buffer(&self, size: usize) -> Buffer {
        self.0.shared.buffer(size)
    }

    /// What jobs need of the pool: not the pool itself, whose end waits for them.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish_non_exhaustive()
    }
}

/// What a thread is to do.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// Ends the threads when the last handle is gone. No job holds one, so no thread waits for itself.
struct Owner {
    shared: Arc<Shared>,
    running: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
        for thread in self.running.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // Jobs that panic are caught.
            let _ = thread.join();
        }
    }
}

/// What the threads share.
pub(crate) struct Shared {
    threads: usize,
    state: Mutex<State>,
    /// There is a job, or the end.
    work: Condvar,
    /// Something has been written.
    room: Condvar,
}

#[derive(Default)]
struct State {
    urgent: VecDeque<Job>,
    usual: VecDeque<Job>,
    started: usize,
    idle: usize,
    closed: bool,
    in_flight: usize,
    /// Bytes of the buffers that are in use.
    lent: usize,
    /// Buffers to be used again, the latest last, and how many bytes they have.
    spare: Vec<Vec<u8>>,
    spare_bytes: usize,
    encoders: Vec<Encoder>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.urgent.pop_front().or_else(|| state.usual.pop_front()) {
                drop(state);
                // A job tells those who wait for it of its panic.
                let _ = catch_unwind(AssertUnwindSafe(job));
                state = self.lock();
            } else if state.closed {
                return;
            } else {
                state.idle += 1;
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
        }
    }

    /// An encoder, to be given [`back`](Shared::give_encoder).
    pub(crate) fn encoder(&self, compression: Compression) -> io::Result<Encoder> {
        let mut state = self.lock();
        let found = state.encoders.iter().rposition(|encoder| encoder.compression() == compression);
        match found {
            Some(at) => Ok(state.encoders.swap_remove(at)),
            None => {
                drop(state);
                Encoder::new(compression)
            }
        }
    }

    pub(crate) fn give_encoder(&self, encoder: Encoder) {
        self.lock().encoders.push(encoder);
    }

    pub(crate) fn buffer(self: &Arc<Self>, size: usize) -> Buffer {
        let mut state = self.lock();
        state.lent += size;
        let spare = match state.spare.iter().rposition(|buffer| buffer.len() == size) {
            Some(at) => {
                state.spare_bytes -= size;
                Some(state.spare.remove(at))
            }
            None => None,
        };
        state.shrink();
        drop(state);
        // Zeroed by the system, page by page as it is used.
        Buffer { bytes: spare.unwrap_or_else(|| vec![0; size]), shared: Arc::clone(self) }
    }
}

impl State {
    /// Frees the buffers that were not used for longest, as long as all are more than may be.
    fn shrink(&mut self) {
        while !self.spare.is_empty() && self.lent + self.spare_bytes > BYTES_IN_FLIGHT {
            self.spare_bytes -= self.spare.remove(0).len();
        }
    }
}

/// Bytes that are used again and again.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    shared: Arc<Shared>,
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if bytes.is_empty() {
            return;
        }
        let mut state = self.shared.lock();
        state.lent -= bytes.len();
        state.spare_bytes += bytes.len();
        state.spare.push(bytes);
        state.shrink();
    }
}

/// Room for something on its way, as long as it is held.
pub(crate) struct Permit {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shared.lock().in_flight -= self.bytes;
        self.shared.room.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn pool(threads: usize) -> Pool {
        Pool::new(NonZeroUsize::new(threads).unwrap())
    }

    #[test]
    fn buffers_are_used_again_and_never_too_many() {
        let pool = pool(64);
        let held = |pool: &Pool| {
            let state = pool.0.shared.lock();
            (state.lent, state.spare_bytes, state.spare.iter().map(Vec::len).sum::<usize>())
        };
        let mut buffer = pool.buffer(1 << 20);
        buffer[5] = 7;
        drop(buffer);
        assert_eq!(pool.buffer(1 << 20)[5], 7, "not the same buffer");
        let many: Vec<Buffer> = (0..100).map(|i| pool.buffer((1 + i % 4) << 20)).collect();
        assert_eq!(held(&pool), (250 << 20, 0, 0));
        drop(many);
        let (lent, spare, real) = held(&pool);
        assert!(lent == 0 && spare == real && spare <= BYTES_IN_FLIGHT && spare > 0, "{lent} {spare} {real}");
        // Others take the place of those that nobody wants any more.
        let others: Vec<Buffer> = (0..8).map(|_| pool.buffer(5 << 20)).collect();
        let (lent, spare, real) = held(&pool);
        assert!(lent == 40 << 20 && spare == real && spare <= 8 << 20, "{lent} {spare} {real}");
        drop(others);
    }

    #[test]
    fn what_is_on_its_way_is_bounded_whatever_the_threads() {
        for (threads, bytes, most) in [(1, 2 << 20, 4), (2, 2 << 20, 6), (64, 2 << 20, 24), (64, 8 << 20, 6)]
        {
            let pool = pool(threads);
            let mut permits: Vec<Permit> = (0..most).map(|_| pool.permit(bytes)).collect();
            let (tell, told) = channel();
            let waiting = pool.clone();
            let waiter = std::thread::spawn(move || {
                let _permit = waiting.permit(bytes);
                tell.send(()).unwrap();
            });
            assert_eq!(pool.0.shared.lock().in_flight, most * bytes);
            assert!(told.try_recv().is_err(), "one more than {most} for {threads}");
            permits.pop();
            told.recv().unwrap();
            waiter.join().unwrap();
        }
        // Something larger than all may be alone.
        let _alone = pool(1).permit(1 << 30);
    }

    #[test]
    fn layers_at_the_same_time_are_bounded_whatever_the_threads() {
        for (threads, gzip, zstd) in [(1, 1, 1), (2, 2, 2), (8, 8, 4), (64, 8, 4)] {
            let layers = [Compression::Gzip, Compression::None, Compression::Zstd]
                .map(|compression| pool(threads).layers(compression));
            assert_eq!(layers, [gzip, gzip, zstd], "{threads} threads");
        }
    }

    #[test]
    fn a_panic_ends_no_thread() {
        let pool = pool(1);
        let (tell, told) = channel();
        pool.run(false, Box::new(|| panic!("as the test wants it"))).unwrap();
        pool.run(false, Box::new(move || tell.send(1).unwrap())).unwrap();
        assert_eq!(told.recv(), Ok(1));
    }

    #[test]
    fn what_is_urgent_comes_first() {
        let pool = pool(1);
        let (open, opened) = channel::<()>();
        let (tell, told) = channel();
        pool.run(false, Box::new(move || opened.recv().unwrap())).unwrap();
        for (urgent, number) in [(false, 3), (true, 1), (false, 4), (true, 2)] {
            let tell = tell.clone();
            pool.run(urgent, Box::new(move || tell.send(number).unwrap())).unwrap();
        }
        open.send(()).unwrap();
        assert_eq!(told.iter().take(4).collect::<Vec<_>>(), [1, 2, 3, 4]);
    }
}
