//! Instances that are kept between calls, for modules that ask for it.
//!
//! ```text
//!   pool of a version ──take──▶ Instance, serving one call after another ──drop──▶ back, if it is sound
//! ```
//!
//! A version of a module has a pool of its own, so an instance never serves another version nor another
//! module. It goes back where its last call came to an end by itself, and is dropped in every other case:
//! after a failure, in the middle of a call that nobody waits for any more, after enough calls, where the
//! pool is full, and where the version is gone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::sandbox::Sandbox;
use crate::function::CallLimits;
use crate::store::Snapshot;

/// The calls after which an instance is retired: what a guest leaks by the call ends with it, and the making
/// of another is then a thousandth of what they cost.
const MAX_INSTANCE_CALLS: u32 = 10_000;

/// The kept instances of all modules together, waiting or at work, and the bounds on them.
pub(super) struct Idle {
    count: AtomicUsize,
    /// Leaves slots for calls.
    max: usize,
    max_of_version: usize,
}

/// The waiting instances of one version.
pub(super) struct Pool<S: Snapshot> {
    #[expect(
        clippy::vec_box,
        reason = "a sandbox moves at each call, and is some 200 bytes"
    )]
    waiting: Mutex<Vec<Box<Sandbox<S>>>>,
    idle: Arc<Idle>,
}

/// A live instance. It serves the calls of one module in one attempt of one request; after that it is
/// dropped, or goes back to its pool.
pub struct Instance<S: Snapshot> {
    /// Gone only while it is dropped.
    sandbox: Option<Box<Sandbox<S>>>,
    /// Where it goes back to, if it is kept. The pool of a version that is gone ends with the last of these.
    home: Option<Arc<Pool<S>>>,
    /// Whether its last call came to an end by itself.
    is_sound: bool,
    /// Whether it was kept before, and so is counted among those that are.
    is_counted: bool,
}

impl Idle {
    pub(super) fn new(max: usize, max_of_version: usize) -> Arc<Self> {
        Arc::new(Self {
            count: AtomicUsize::new(0),
            max,
            max_of_version,
        })
    }

    fn enter(&self) -> bool {
        let next = |count| (count < self.max).then_some(count + 1);
        let order = Ordering::Relaxed;
        self.count.fetch_update(order, order, next).is_ok()
    }

    fn leave(&self, count: usize) {
        self.count.fetch_sub(count, Ordering::Relaxed);
    }
}

impl<S: Snapshot> Pool<S> {
    pub(super) fn new(idle: Arc<Idle>) -> Arc<Self> {
        let waiting = Mutex::new(Vec::new());
        Arc::new(Self { waiting, idle })
    }

    /// The instance that came back last, unless its memory has outgrown these limits.
    pub(super) fn take(self: &Arc<Self>, limits: &CallLimits) -> Option<Instance<S>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting
            .last()
            .filter(|last| last.memory_bytes() <= limits.memory_bytes)?;
        let taken = waiting.pop()?;
        drop(waiting);
        let mut instance = Instance::new(taken, Some(Arc::clone(self)));
        instance.is_counted = true;
        Some(instance)
    }

    /// Keeps an instance, if there is room. One that was kept before is counted already.
    fn put(&self, sandbox: Box<Sandbox<S>>, is_counted: bool) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = waiting.len() < self.idle.max_of_version;
        let is_kept = has_room && (is_counted || self.idle.enter());
        if is_kept {
            waiting.push(sandbox);
        }
        is_kept
    }
}

impl<S: Snapshot> Drop for Pool<S> {
    fn drop(&mut self) {
        let waiting = self.waiting.get_mut();
        let waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        self.idle.leave(waiting.len());
    }
}

impl<S: Snapshot> Instance<S> {
    /// An instance whose call is under way, and that is not sound before it is over.
    pub(super) fn new(sandbox: Box<Sandbox<S>>, home: Option<Arc<Pool<S>>>) -> Self {
        Self {
            sandbox: Some(sandbox),
            home,
            is_sound: false,
            is_counted: false,
        }
    }

    /// What it is made of.
    pub(super) fn sandbox(&mut self) -> &mut Sandbox<S> {
        self.sandbox.as_mut().expect("only its drop takes it out")
    }

    /// Says whether the instance may be used again.
    pub(super) fn set_sound(&mut self, is_sound: bool) {
        self.is_sound = is_sound;
    }
}

impl<S: Snapshot> Drop for Instance<S> {
    fn drop(&mut self) {
        let Some((home, sandbox)) = self.home.take().zip(self.sandbox.take()) else {
            return;
        };
        let may_serve = self.is_sound && sandbox.calls() < MAX_INSTANCE_CALLS;
        let is_kept = may_serve && home.put(sandbox, self.is_counted);
        if self.is_counted && !is_kept {
            home.idle.leave(1);
        }
    }
}
