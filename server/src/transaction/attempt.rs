//! Attempts: a transaction that conflicts is run again, and after a few times alone.

use std::sync::Arc;

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, RwLockReadGuard};

/// Lets commits through side by side, or one whole attempt by itself.
///
/// A transaction that has conflicted a few times asks for the exclusive permit before it begins. No
/// other commit passes while it holds it, so its commit can't conflict. How long it holds it is
/// bounded by the limits of the call that it runs.
#[derive(Clone, Default)]
pub struct Coordinator {
    gate: Arc<RwLock<()>>,
}

/// The right to commit. Given back when it is dropped.
pub enum Permit {
    /// Beside others.
    Shared(OwnedRwLockReadGuard<()>),
    /// Alone.
    Exclusive(OwnedRwLockWriteGuard<()>),
}

impl Coordinator {
    /// The right to commit beside others.
    pub async fn shared(&self) -> Permit {
        Permit::Shared(Arc::clone(&self.gate).read_owned().await)
    }

    /// The right to commit beside others, where nobody has to be waited for.
    pub fn try_shared(&self) -> Option<RwLockReadGuard<'_, ()>> {
        self.gate.try_read().ok()
    }

    /// The right to commit alone, in turn with the others.
    pub async fn exclusive(&self) -> Permit {
        Permit::Exclusive(Arc::clone(&self.gate).write_owned().await)
    }
}
