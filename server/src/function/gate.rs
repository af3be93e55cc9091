//! A module's gate: how many requests may run its functions at once, and how many may wait for that.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// Bounds the requests that run functions of one version of a module.
#[derive(Debug)]
pub struct Gate {
    places: Semaphore,
    max_running: usize,
    max_waiting: usize,
    waiting: AtomicUsize,
}

/// A place behind a gate. Dropping it gives it back.
#[derive(Debug)]
pub struct Place<'a> {
    _permit: SemaphorePermit<'a>,
}

/// Too many wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{max_running} requests run its functions and {max_waiting} wait, which are its limits")]
pub struct Crowded {
    max_running: usize,
    max_waiting: usize,
}

/// Counts one who waits, for as long as it does: a request may go away while it waits.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Gate {
    /// A gate with so many places, and room for so many who wait for one.
    #[must_use]
    pub fn new(max_running: usize, max_waiting: usize) -> Self {
        Self {
            places: Semaphore::new(max_running.min(Semaphore::MAX_PERMITS)),
            max_running,
            max_waiting,
            waiting: AtomicUsize::new(0),
        }
    }

    /// Takes a place, if there is one.
    pub fn try_enter(&self) -> Option<Place<'_>> {
        let permit = self.places.try_acquire().ok()?;
        Some(Place { _permit: permit })
    }

    /// Takes a place, and waits for one where there is none, behind those who wait already.
    ///
    /// # Errors
    /// As many as may wait do.
    pub async fn enter(&self) -> Result<Place<'_>, Crowded> {
        if let Some(place) = self.try_enter() {
            return Ok(place);
        }
        let before = self.waiting.fetch_add(1, Ordering::AcqRel);
        let _waiting = Waiting(&self.waiting);
        let crowded = Crowded {
            max_running: self.max_running,
            max_waiting: self.max_waiting,
        };
        if before >= self.max_waiting {
            return Err(crowded);
        }
        // A gate is never closed.
        let permit = self.places.acquire().await;
        permit
            .map(|permit| Place { _permit: permit })
            .map_err(|_| crowded)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        }
    }

    #[test]
    fn who_finds_no_place_waits_in_turn_and_no_more_than_may_wait() {
        let gate = Gate::new(1, 1);
        let first = poll(pin!(gate.enter())).unwrap().unwrap();
        let mut second = pin!(gate.enter());
        assert!(poll(second.as_mut()).is_none());
        let refused = poll(pin!(gate.enter())).unwrap().unwrap_err();
        assert_eq!(
            refused.to_string(),
            "1 requests run its functions and 1 wait, which are its limits"
        );
        drop(first);
        let second = poll(second).unwrap().unwrap();
        let mut third = pin!(gate.enter());
        assert!(poll(third.as_mut()).is_none());
        drop(second);
        assert!(poll(third).unwrap().is_ok());
    }

    #[test]
    fn who_goes_away_while_it_waits_leaves_its_room_to_others() {
        let gate = Gate::new(1, 1);
        let first = poll(pin!(gate.enter())).unwrap().unwrap();
        for _ in 0..3 {
            assert!(poll(pin!(gate.enter())).is_none());
        }
        drop(first);
        assert!(poll(pin!(gate.enter())).unwrap().is_ok());
    }
}
