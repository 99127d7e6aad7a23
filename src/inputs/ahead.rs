//! Sources of entries that are read ahead, each in a thread of its own.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use dmoci_layers::EntryKind;

use super::{InputError, Item};

/// What a source gives.
type Given = Result<Item, InputError>;

/// How many entries come before a thread is worth it.
const FIRST: usize = 256;

/// How many entries go to the other side at once: fewer would wake it too often.
const BATCH: usize = 256;

/// How many directories may be among those. Entries hold descriptors of their folders open: with the batch that is filled
/// and the one that is emptied some hundred.
const FOLDERS: usize = 16;

/// How many batches wait.
const WAITING: usize = 4;

/// How many threads those who read together may still have.
#[derive(Clone, Debug)]
pub struct Threads(Rc<Cell<usize>>);

impl Threads {
    /// None: every source is read when it is asked.
    pub fn none() -> Threads {
        Threads(Rc::new(Cell::new(0)))
    }

    /// Two, where there is more than one processor: what is copied to one place seldom comes from more large folders.
    pub fn some() -> Threads {
        let alone = thread::available_parallelism().map_or(true, |cores| cores.get() == 1);
        Threads(Rc::new(Cell::new(if alone { 0 } else { 2 })))
    }

    fn take(&self) -> bool {
        let left = self.0.get().checked_sub(1);
        left.inspect(|left| self.0.set(*left)).is_some()
    }

    fn give_back(&self) {
        self.0.set(self.0.get() + 1);
    }
}

/// Gives what `I` gives, in that order. Where no thread can be had it is as slow as `I` is, and no error.
pub struct Ahead<I> {
    state: State<I>,
    threads: Threads,
    /// What comes next.
    batch: std::vec::IntoIter<Given>,
}

enum State<I> {
    /// In this thread; a new one is tried when so many have come.
    Here(I, usize),
    /// In another.
    There(Receiver<Vec<Given>>, JoinHandle<()>),
    /// All was given.
    Done,
}

impl<I: Iterator<Item = Given> + Send + 'static> Ahead<I> {
    /// Starts at the first entry that `source` still has.
    pub fn new(source: I, threads: &Threads) -> Ahead<I> {
        let state = State::Here(source, FIRST);
        Ahead { state, threads: threads.clone(), batch: Vec::new().into_iter() }
    }

    /// Lets a thread read on, if there can be one.
    fn settle(&mut self) {
        let State::Here(source, _) = std::mem::replace(&mut self.state, State::Done) else { return };
        self.state = match self.threads.take() {
            true => spawn(source).unwrap_or_else(|source| {
                self.threads.give_back();
                State::Here(source, FIRST)
            }),
            false => State::Here(source, FIRST),
        };
    }
}

/// Starts a thread; without one the source comes back.
fn spawn<I: Iterator<Item = Given> + Send + 'static>(source: I) -> Result<State<I>, I> {
    let (send, receive) = sync_channel(WAITING);
    // A thread that cannot be started would take the source with it.
    let (hand, handed) = sync_channel::<I>(1);
    let work = move || {
        if let Ok(source) = handed.recv() {
            read(source, &send);
        }
    };
    let Ok(thread) = thread::Builder::new().name("read".into()).spawn(work) else { return Err(source) };
    match hand.send(source) {
        Ok(()) => Ok(State::There(receive, thread)),
        Err(error) => Err(error.0),
    }
}

/// Reads until the end, or until nobody waits for more.
fn read(source: impl Iterator<Item = Given>, send: &SyncSender<Vec<Given>>) {
    let (mut batch, mut folders) = (Vec::with_capacity(BATCH), 0);
    for item in source {
        folders += usize::from(item.as_ref().is_ok_and(|item| item.entry.kind == EntryKind::Directory));
        batch.push(item);
        if batch.len() == BATCH || folders == FOLDERS {
            let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
            folders = 0;
            if send.send(full).is_err() {
                return;
            }
        }
    }
    // Nobody may wait any more.
    let _ = send.send(batch);
}

impl<I: Iterator<Item = Given> + Send + 'static> Iterator for Ahead<I> {
    type Item = Given;

    fn next(&mut self) -> Option<Given> {
        loop {
            if let Some(item) = self.batch.next() {
                return Some(item);
            }
            match &mut self.state {
                State::Here(source, left) => {
                    *left -= 1;
                    if *left > 0 {
                        return source.next();
                    }
                    self.settle();
                }
                State::There(receive, _) => match receive.recv() {
                    Ok(batch) => self.batch = batch.into_iter(),
                    Err(_) => self.end(),
                },
                State::Done => return None,
            }
        }
    }
}

impl<I> Ahead<I> {
    /// Waits for the thread, so that nothing of the source is open any more.
    fn end(&mut self) {
        if let State::There(receive, thread) = std::mem::replace(&mut self.state, State::Done) {
            drop(receive);
            self.threads.give_back();
            if let Err(panic) = thread.join()
                && !thread::panicking()
            {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

impl<I> Drop for Ahead<I> {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use dmoci_layers::{Entry, SafePath};

    use super::*;
    use crate::inputs::Content;

    /// So many entries, of which every third is a directory; then perhaps an error. Counts what is asked for, and tells by
    /// the other count whether it is still there.
    struct Numbers {
        next: usize,
        last: usize,
        error: bool,
        asked: Arc<AtomicUsize>,
        _alive: Arc<()>,
    }

    impl Iterator for Numbers {
        type Item = Given;

        fn next(&mut self) -> Option<Given> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            if self.next == self.last {
                return std::mem::take(&mut self.error).then(|| Err(InputError::Changed("here".into())));
            }
            let path = SafePath::parse(format!("{:06}", self.next).as_bytes()).unwrap();
            let kind = match self.next % 3 {
                0 => EntryKind::Directory,
                _ => EntryKind::File { size: 0 },
            };
            self.next += 1;
            let entry = Entry { path, kind, mode: 0o755, uid: 0, gid: 0, xattrs: Vec::new() };
            Some(Ok(Item { entry, content: Content::None }))
        }
    }

    struct Case {
        asked: Arc<AtomicUsize>,
        alive: Arc<()>,
        threads: Threads,
    }

    impl Case {
        fn new(threads: usize) -> Case {
            let threads = Threads(Rc::new(Cell::new(threads)));
            Case { asked: Arc::default(), alive: Arc::default(), threads }
        }

        fn ahead(&self, last: usize, error: bool) -> Ahead<Numbers> {
            let (asked, _alive) = (Arc::clone(&self.asked), Arc::clone(&self.alive));
            Ahead::new(Numbers { next: 0, last, error, asked, _alive }, &self.threads)
        }
    }

    fn line(given: Given) -> String {
        given.map_or_else(|error| error.to_string(), |item| item.entry.path.to_string())
    }

    #[test]
    fn the_same_in_the_same_order_with_a_thread_and_without() {
        for last in [0, 1, FIRST - 2, FIRST - 1, FIRST, FIRST + 1, FIRST + BATCH, 3000] {
            for error in [false, true] {
                let mut wanted: Vec<String> = (0..last).map(|number| format!("/{number:06}")).collect();
                wanted.extend(error.then(|| line(Err(InputError::Changed("here".into())))));
                for threads in [0, 1, 2] {
                    let case = Case::new(threads);
                    let mut ahead = case.ahead(last, error);
                    assert_eq!(
                        ahead.by_ref().map(line).collect::<Vec<_>>(),
                        wanted,
                        "{last}, {threads} threads"
                    );
                    assert!(ahead.next().is_none());
                    assert_eq!(case.threads.0.get(), threads, "what was taken comes back at the end");
                }
            }
        }
    }

    #[test]
    fn only_so_far_ahead_and_ended_when_nobody_waits() {
        let case = Case::new(1);
        let mut ahead = case.ahead(1_000_000, false);
        let taken = FIRST + 10;
        assert_eq!(ahead.by_ref().take(taken).count(), taken);
        assert!(matches!(ahead.state, State::There(..)));
        // A second one reads for itself.
        let mut other = case.ahead(1_000_000, false);
        assert_eq!(other.by_ref().take(taken).count(), taken);
        assert!(matches!(other.state, State::Here(..)));
        drop(other);
        assert_eq!(Arc::strong_count(&case.alive), 2);
        drop(ahead);
        assert_eq!(Arc::strong_count(&case.alive), 1, "the source is gone when the reader is");
        let most = 2 * taken + BATCH * (WAITING + 2);
        assert!(case.asked.load(Ordering::SeqCst) <= most, "{most}");
        assert_eq!(case.threads.0.get(), 1);
    }

    #[test]
    fn a_panic_is_one_here_too() {
        struct Bad(usize);
        impl Iterator for Bad {
            type Item = Given;
            fn next(&mut self) -> Option<Given> {
                self.0 += 1;
                assert!(self.0 < 2 * FIRST, "bad");
                Some(Err(InputError::Changed("x".into())))
            }
        }
        let case = Case::new(1);
        let mut ahead = Ahead::new(Bad(0), &case.threads);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ahead.by_ref().count()));
        assert_eq!(outcome.unwrap_err().downcast_ref::<&str>(), Some(&"bad"));
    }
}
