//! The queue between a connection's two sides: what was answered, in order, and not taken to be written yet.
//!
//! ```text
//!   replies   [id, gate, 37 bytes] [id, gate, 41 bytes] [id, gate, a frame of its own] …
//!   short     └────── frame ─────┘└────── frame ──────┘
//! ```
//!
//! The frames of short replies lie one behind the other in memory that is used again. Whoever adds to the
//! queue has taken a slot and room before.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use luge_protocol::RequestId;
use tokio::sync::Semaphore;

use super::replies::Place;
use crate::store::Sequence;

/// Short frames' memory that is kept while there are none.
const MAX_KEPT_BYTES: usize = 32 << 10;

/// The queue of one connection.
pub(super) struct Outbox {
    state: Mutex<State>,
    /// One permit for each reply that may wait; whoever takes replies gives theirs back.
    slots: Semaphore,
}

#[derive(Default)]
struct State {
    replies: VecDeque<Queued>,
    /// The frames of short replies, from `begin` on.
    short: Vec<u8>,
    begin: usize,
    /// Who waits for a reply to take.
    waker: Option<Waker>,
    /// Nothing is added any more.
    is_ended: bool,
}

/// A reply in the queue.
pub(super) struct Queued {
    pub(super) id: RequestId,
    /// What must be acked before it may leave.
    pub(super) gate: Sequence,
    pub(super) frame: Frame,
}

/// Where a reply's frame lies, and what it takes of the bounds.
pub(super) enum Frame {
    /// Behind those of the short replies before it. It is counted by its bytes.
    Short(usize),
    /// By itself.
    Own(Vec<u8>, Place),
}

/// Replies that were taken to be written.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) bytes: Vec<u8>,
    /// What of them is short replies.
    pub(super) short_bytes: usize,
    /// A reply has its place until it is written, or slow readers would hold more than is counted.
    pub(super) places: Vec<Place>,
}

impl Outbox {
    pub(super) fn new(max_replies: usize) -> Self {
        Self {
            state: Mutex::default(),
            slots: Semaphore::new(max_replies),
        }
    }

    /// How many replies the queue takes now.
    pub(super) fn room(&self) -> usize {
        self.slots.available_permits()
    }

    /// Waits for so many slots; `false` if nobody takes replies any more.
    pub(super) async fn reserve(&self, replies: usize) -> bool {
        let Ok(replies) = u32::try_from(replies) else {
            return false;
        };
        match self.slots.acquire_many(replies).await {
            Ok(permit) => {
                permit.forget();
                true
            }
            Err(_) => false,
        }
    }

    /// Adds a reply that has a slot.
    pub(super) fn push(&self, reply: Queued) {
        let mut state = self.lock();
        if state.is_ended {
            return;
        }
        state.replies.push_back(reply);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Adds short replies that have slots: their frames, and for each its id, its gate and its length.
    /// Nobody is woken: they are of the connection's own task, which looks for them before it waits.
    pub(super) fn push_short(&self, frames: &[u8], replies: &[(RequestId, Sequence, usize)]) {
        let mut state = self.lock();
        state.short.extend_from_slice(frames);
        let queued = replies.iter().map(|(id, gate, bytes)| Queued {
            id: *id,
            gate: *gate,
            frame: Frame::Short(*bytes),
        });
        state.replies.extend(queued);
    }

    /// Nothing is added from now on.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.is_ended = true;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    /// Nobody takes replies from now on.
    pub(super) fn close(&self) {
        self.slots.close();
    }

    /// The id and the gate of the next reply; nothing once there will be none.
    pub(super) async fn next(&self) -> Option<(RequestId, Sequence)> {
        poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&self, context: &Context<'_>) -> Poll<Option<(RequestId, Sequence)>> {
        let mut state = self.lock();
        if let Some(next) = state.replies.front() {
            return Poll::Ready(Some((next.id, next.gate)));
        }
        if state.is_ended {
            return Poll::Ready(None);
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// Takes replies to be written together, as long as the next one may leave and there are fewer bytes
    /// than `max_bytes`.
    pub(super) fn take(
        &self,
        taken: &mut Taken,
        max_bytes: usize,
        may_leave: impl Fn(Sequence) -> bool,
    ) {
        let mut state = self.lock();
        let mut count = 0;
        while taken.bytes.len() < max_bytes
            && let Some(next) = state.replies.pop_front_if(|next| may_leave(next.gate))
        {
            count += 1;
            state.move_frame(next.frame, taken);
        }
        drop(state);
        self.slots.add_permits(count);
    }

    /// Takes the next reply away, and puts other bytes in its place.
    pub(super) fn replace_next(&self, taken: &mut Taken, frame: &[u8]) {
        let mut state = self.lock();
        let Some(next) = state.replies.pop_front() else {
            return;
        };
        let begin = taken.bytes.len();
        state.move_frame(next.frame, taken);
        taken.bytes.truncate(begin);
        taken.bytes.extend_from_slice(frame);
        drop(state);
        self.slots.add_permits(1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn move_frame(&mut self, frame: Frame, taken: &mut Taken) {
        match frame {
            Frame::Own(bytes, place) => {
                taken.bytes.extend_from_slice(&bytes);
                taken.places.push(place);
            }
            Frame::Short(bytes) => {
                let end = self.begin + bytes;
                let frame = self.short.get(self.begin..end).unwrap_or_default();
                taken.bytes.extend_from_slice(frame);
                taken.short_bytes += bytes;
                self.begin = end;
                self.tidy();
            }
        }
    }

    /// Gives back the memory of what was taken.
    fn tidy(&mut self) {
        if self.begin >= self.short.len() {
            self.short.clear();
            self.short.shrink_to(MAX_KEPT_BYTES);
        } else if self.begin >= MAX_KEPT_BYTES {
            self.short.drain(..self.begin);
        } else {
            return;
        }
        self.begin = 0;
    }
}

impl Taken {
    /// Forgets what was written, and gives its places back.
    pub(super) fn clear(&mut self, max_kept_bytes: usize) {
        self.bytes.clear();
        self.bytes.shrink_to(max_kept_bytes);
        self.short_bytes = 0;
        self.places.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::replies::Room;

    fn own(id: RequestId, gate: Sequence, bytes: &[u8]) -> Queued {
        let place = Place {
            bytes: None,
            room: Room::None,
        };
        Queued {
            id,
            gate,
            frame: Frame::Own(bytes.to_vec(), place),
        }
    }

    fn take(outbox: &Outbox, max_bytes: usize, acked: Sequence) -> Vec<u8> {
        let mut taken = Taken::default();
        outbox.take(&mut taken, max_bytes, |gate| gate <= acked);
        taken.bytes
    }

    fn next(outbox: &Outbox) -> Poll<Option<(RequestId, Sequence)>> {
        outbox.poll_next(&Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn replies_leave_in_order_whatever_their_length_and_none_before_its_gate() {
        let outbox = Outbox::new(5);
        assert!(outbox.reserve(5).await);
        assert!(next(&outbox).is_pending());
        outbox.push_short(b"aabbb", &[(1, 10, 2), (2, 11, 3)]);
        outbox.push(own(3, 11, b"cccc"));
        outbox.push_short(b"dee", &[(4, 11, 1), (5, 12, 2)]);
        assert_eq!(next(&outbox), Poll::Ready(Some((1, 10))));
        assert_eq!(take(&outbox, 100, 9), b"");
        assert_eq!(take(&outbox, 100, 10), b"aa");
        assert_eq!(
            (outbox.room(), next(&outbox)),
            (1, Poll::Ready(Some((2, 11))))
        );
        // What is too much for one write is left for the next.
        assert_eq!(take(&outbox, 4, 11), b"bbbcccc");
        assert_eq!(take(&outbox, 100, 11), b"d");
        assert_eq!(take(&outbox, 100, 12), b"ee");
        assert_eq!(outbox.room(), 5);
        outbox.end();
        assert_eq!(next(&outbox), Poll::Ready(None));
    }

    #[tokio::test]
    async fn a_reply_that_can_not_leave_is_replaced_and_those_behind_it_stay() {
        let outbox = Outbox::new(3);
        assert!(outbox.reserve(3).await);
        outbox.push_short(b"aabbb", &[(1, 1, 2), (2, 2, 3)]);
        outbox.push(own(3, 3, b"c"));
        for (bytes, short_bytes) in [(&b"first"[..], 2), (b"second", 3), (b"third", 0)] {
            let mut taken = Taken::default();
            outbox.replace_next(&mut taken, bytes);
            assert_eq!((&taken.bytes[..], taken.short_bytes), (bytes, short_bytes));
        }
        assert_eq!(outbox.room(), 3);
    }

    #[tokio::test]
    async fn short_frames_take_no_more_memory_than_is_bounded_while_some_always_wait() {
        let outbox = Outbox::new(2);
        assert!(outbox.reserve(1).await);
        outbox.push_short(&[0; 1000], &[(0, 0, 1000)]);
        for id in 1..2000 {
            assert!(outbox.reserve(1).await);
            let byte = u8::try_from(id % 251).unwrap();
            outbox.push_short(&[byte; 1000], &[(id, id, 1000)]);
            let taken = take(&outbox, 1, id - 1);
            assert_eq!(taken, [u8::try_from((id - 1) % 251).unwrap(); 1000]);
        }
        assert!(outbox.lock().short.capacity() <= 4 * MAX_KEPT_BYTES);
    }
}
