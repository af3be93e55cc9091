//! Waiting for acks: whoever waits for a sequence is woken when it is reached, and not before. A log
//! under load acks thousands of times a second, and waking everybody each time would cost more than
//! the commits.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::store::Sequence;

/// How far the log is, and who waits for what.
pub(super) struct Acks {
    state: Mutex<State>,
}

struct State {
    settled: Settled,
    /// By what they wait for, and a number of their own.
    waiting: BTreeMap<(Sequence, u64), Waker>,
    next: u64,
}

/// What whoever waited is told.
#[derive(Clone, Debug, Default)]
pub(super) struct Settled {
    pub(super) acked: Sequence,
    /// Why nothing more will be acked.
    pub(super) failure: Option<String>,
    pub(super) is_closed: bool,
}

/// Waits for a sequence, or the end.
pub(super) struct Reached<'a> {
    acks: &'a Acks,
    sequence: Sequence,
    /// The own number among those who wait.
    number: Option<u64>,
}

impl Acks {
    pub(super) fn new(acked: Sequence) -> Self {
        let settled = Settled {
            acked,
            ..Settled::default()
        };
        let state = State {
            settled,
            waiting: BTreeMap::new(),
            next: 0,
        };
        Self {
            state: Mutex::new(state),
        }
    }

    /// Resolves when the sequence is acked, or when it will never be.
    pub(super) fn reached(&self, sequence: Sequence) -> Reached<'_> {
        Reached {
            acks: self,
            sequence,
            number: None,
        }
    }

    pub(super) fn settled(&self) -> Settled {
        self.lock().settled.clone()
    }

    /// Everything at or below is acked.
    pub(super) fn ack(&self, sequence: Sequence) {
        let mut state = self.lock();
        state.settled.acked = sequence;
        let beyond = state.waiting.split_off(&(sequence.saturating_add(1), 0));
        let reached = std::mem::replace(&mut state.waiting, beyond);
        drop(state);
        wake(reached);
    }

    /// Nothing more is acked.
    pub(super) fn fail(&self, failure: &str) {
        self.end(|settled| settled.failure = Some(failure.to_owned()));
    }

    /// Nothing more comes.
    pub(super) fn close(&self) {
        self.end(|settled| settled.is_closed = true);
    }

    fn end(&self, change: impl FnOnce(&mut Settled)) {
        let mut state = self.lock();
        change(&mut state.settled);
        let all = std::mem::take(&mut state.waiting);
        drop(state);
        wake(all);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(waiting: BTreeMap<(Sequence, u64), Waker>) {
    for waker in waiting.into_values() {
        waker.wake();
    }
}

impl Settled {
    fn is_final(&self) -> bool {
        self.failure.is_some() || self.is_closed
    }
}

impl Future for Reached<'_> {
    type Output = Settled;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Settled> {
        let mut state = self.acks.lock();
        if state.settled.acked >= self.sequence || state.settled.is_final() {
            let settled = state.settled.clone();
            drop(state);
            return Poll::Ready(settled);
        }
        let number = self.number.unwrap_or_else(|| {
            state.next += 1;
            state.next
        });
        let waker = context.waker().clone();
        state.waiting.insert((self.sequence, number), waker);
        drop(state);
        self.number = Some(number);
        Poll::Pending
    }
}

impl Drop for Reached<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.acks.lock().waiting.remove(&(self.sequence, number));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn poll(waiting: &mut Reached<'_>, counter: &Arc<Counter>) -> Option<Settled> {
        let waker = Waker::from(Arc::clone(counter));
        match Pin::new(waiting).poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(settled) => Some(settled),
            Poll::Pending => None,
        }
    }

    #[test]
    fn each_is_woken_once_what_it_waits_for_is_reached_and_not_before() {
        let acks = Acks::new(10);
        let (near, far) = (Arc::new(Counter::default()), Arc::new(Counter::default()));
        let (mut first, mut second) = (acks.reached(11), acks.reached(20));
        assert!(poll(&mut acks.reached(10), &near).is_some());
        assert!(poll(&mut first, &near).is_none());
        assert!(poll(&mut second, &far).is_none());
        acks.ack(15);
        let woken = |counter: &Counter| counter.0.load(Ordering::Relaxed);
        assert_eq!((woken(&near), woken(&far)), (1, 0));
        assert_eq!(poll(&mut first, &near).unwrap().acked, 15);
        assert!(poll(&mut second, &far).is_none());
        acks.fail("a reason");
        assert_eq!((woken(&near), woken(&far)), (1, 1));
        let settled = poll(&mut second, &far).unwrap();
        assert_eq!(
            (settled.acked, settled.failure.as_deref()),
            (15, Some("a reason"))
        );
    }

    #[test]
    fn who_stops_waiting_leaves_nothing_behind() {
        let acks = Acks::new(0);
        let counter = Arc::new(Counter::default());
        let mut waiting = acks.reached(5);
        assert!(poll(&mut waiting, &counter).is_none());
        assert!(poll(&mut waiting, &counter).is_none());
        assert_eq!(acks.lock().waiting.len(), 1);
        drop(waiting);
        assert!(acks.lock().waiting.is_empty());
    }
}
