//! Where the members of a stream begin and end, for who wants to know it while the content is read.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// So many members are remembered until they are asked for.
const REMEMBERED: usize = 1 << 20;

/// A gzip member, zstd frame or whole plain stream that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where in the decoded stream its content is.
    pub content: Range<u64>,
    /// Number of bytes that it is compressed to; of a gzip member without header and trailer.
    pub packed: u64,
}

/// The members of a [`Decoder`](super::Decoder) that have ended, in their order.
///
/// What nobody takes in time is not remembered: then [`are_complete`](Members::are_complete) says so.
#[derive(Clone, Debug, Default)]
pub struct Members(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    ended: VecDeque<Member>,
    lost: bool,
}

impl Members {
    /// Takes the next one when its content ends at this place or before it.
    pub fn next_until(&self, place: u64) -> Option<Member> {
        let mut state = self.lock();
        match state.ended.front() {
            Some(member) if member.content.end <= place => state.ended.pop_front(),
            _ => None,
        }
    }

    /// True when no member was lost because there were too many at once.
    pub fn are_complete(&self) -> bool {
        !self.lock().lost
    }

    pub(super) fn ended(&self, member: Member) {
        let mut state = self.lock();
        match state.ended.len() < REMEMBERED {
            true => state.ended.push_back(member),
            false => state.lost = true,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
