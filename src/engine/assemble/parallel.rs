//! Pieces of work that are done at the same time, with the outcome of one after the other.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Does every piece, at most `at_once` at a time, and gives what they give, in order.
///
/// They begin in order. When some fail, the error is that of the first in order, whichever failed first: pieces before a
/// failed one are done to their end, those after it no longer begun.
pub(super) fn run<P: Sync, T: Send, E: Send>(
    pieces: &[P],
    at_once: usize,
    work: impl Fn(&P, Turn) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let next = AtomicUsize::new(0);
    let failed = Arc::new(AtomicUsize::new(usize::MAX));
    let results: Mutex<Vec<_>> = Mutex::new(pieces.iter().map(|_| None).collect());
    let work = || {
        loop {
            let turn = Turn { number: next.fetch_add(1, Ordering::Relaxed), failed: Arc::clone(&failed) };
            let number = turn.number;
            let Some(piece) = pieces.get(number).filter(|_| !turn.is_vain()) else { return };
            let result = work(piece, turn);
            if result.is_err() {
                failed.fetch_min(number, Ordering::Relaxed);
            }
            // Nothing panics while it holds the lock.
            results.lock().unwrap_or_else(PoisonError::into_inner)[number] = Some(result);
        }
    };
    thread::scope(|scope| {
        // This thread is one of them.
        for _ in 1..at_once.min(pieces.len()) {
            // Those that run will do.
            if thread::Builder::new().name("layer".into()).spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    // What was not begun comes after what failed.
    results.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().flatten().collect()
}

/// The place of a piece of work among all.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    number: usize,
    /// The first that failed so far.
    failed: Arc<AtomicUsize>,
}

impl Turn {
    /// True once a piece before this one has failed: what comes of this one is of no use, an error neither.
    pub(super) fn is_vain(&self) -> bool {
        self.failed.load(Ordering::Relaxed) < self.number
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::sync::{Barrier, Condvar};

    use super::*;

    const NONE: Result<(), usize> = Ok(());

    #[test]
    fn everything_in_order_and_once() {
        let pieces: Vec<usize> = (0..100).collect();
        for at_once in [0, 1, 2, 8, 1000] {
            let done: Result<Vec<usize>, ()> = run(&pieces, at_once, |piece, _| Ok(piece * 2));
            assert_eq!(done, Ok(pieces.iter().map(|piece| piece * 2).collect()), "{at_once}");
        }
        assert_eq!(run(&[0; 0], 4, |_, _| NONE), Ok(vec![]));
    }

    #[test]
    fn as_many_at_once_as_may_be_and_no_more() {
        // Without four at the same time nobody would come past the barrier.
        let barrier = Barrier::new(4);
        let now = AtomicUsize::new(0);
        let most = AtomicUsize::new(0);
        let work = |_: &(), _| {
            most.fetch_max(1 + now.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
            barrier.wait();
            now.fetch_sub(1, Ordering::SeqCst);
            NONE
        };
        assert_eq!(run(&[(); 40], 4, work), Ok(vec![(); 40]));
        assert_eq!(most.into_inner(), 4);
    }

    #[test]
    fn one_at_a_time_in_this_thread() {
        let own = thread::current().id();
        let done =
            run(&[(); 5], 1, |_, turn| if turn.number < 3 { Ok(thread::current().id()) } else { Err(3) });
        assert_eq!(done, Err(3));
        assert_eq!(run(&[()], 8, |_, _| Ok::<_, ()>(thread::current().id())), Ok(vec![own]));
    }

    #[test]
    fn the_first_error_in_order_whichever_comes_first() {
        // The last fails first, and each only when the one behind it has.
        let state = (Mutex::new(8), Condvar::new());
        let started = Mutex::new(Vec::new());
        let done = run(&[(); 20], 8, |_, turn| {
            started.lock().unwrap().push(turn.number);
            let mut failed =
                state.1.wait_while(state.0.lock().unwrap(), |next| *next != turn.number + 1).unwrap();
            *failed = turn.number;
            state.1.notify_all();
            Err::<(), _>(turn.number)
        });
        assert_eq!(done, Err(0));
        let mut started = started.into_inner().unwrap();
        started.sort_unstable();
        assert_eq!(started, [0, 1, 2, 3, 4, 5, 6, 7], "more were begun after an error");
    }

    #[test]
    fn what_comes_after_an_error_can_end_early_and_what_comes_before_cannot() {
        let (tell, told) = channel();
        let told = Mutex::new(told);
        // Nothing fails before all have begun.
        let begun = Barrier::new(3);
        let done = run(&[(); 3], 3, |_, turn| {
            begun.wait();
            match turn.number {
                0 => {
                    // Until the last has ended early, which it does for the error of the one in the middle.
                    told.lock().unwrap().recv().unwrap();
                    assert!(!turn.is_vain());
                }
                1 => return Err("middle"),
                _ => {
                    while !turn.is_vain() {
                        thread::yield_now();
                    }
                    tell.send(()).unwrap();
                    return Err("end");
                }
            }
            Ok(())
        });
        assert_eq!(done, Err("middle"));
    }
}
