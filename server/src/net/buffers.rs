//! The bound on what all connections together hold in memory.
//!
//! Each connection has a small allowance, which is enough for a pipeline of small requests. What goes
//! beyond it, such as a large frame that is arriving or a large reply that waits to be written, is
//! taken from one budget of the whole server. When that is used up, large ones wait for each other;
//! small ones go on. A peer that holds its part without making progress is closed by its timeouts.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a connection may hold in each direction without asking.
pub(super) const ALLOWANCE_BYTES: usize = 64 << 10;

/// The budget of the whole server.
#[derive(Clone)]
pub(super) struct SharedBuffers(Arc<Semaphore>);

/// A part of the budget, given back when it is dropped.
pub(super) struct Held(OwnedSemaphorePermit);

impl SharedBuffers {
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes)))
    }

    /// Waits until there is room for `bytes`.
    pub(super) async fn hold(&self, bytes: usize) -> Option<Held> {
        let bytes = u32::try_from(bytes).ok()?;
        Arc::clone(&self.0)
            .acquire_many_owned(bytes)
            .await
            .ok()
            .map(Held)
    }
}

impl Held {
    /// How much it is.
    pub(super) fn bytes(&self) -> usize {
        self.0.num_permits()
    }

    /// Adds another part to this one.
    pub(super) fn join(&mut self, other: Self) {
        self.0.merge(other.0);
    }
}
