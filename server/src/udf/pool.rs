//! Instances that are kept between requests: as they are, for modules that ask for it, or rewound.
//!
//! ```text
//!   pool of a version ──take──▶ Instance, serving one call after another ──drop──▶ back, if it is sound
//! ```
//!
//! A version of a module has pools of its own, so an instance never serves another version nor another
//! module. It goes back where its last call came to an end by itself, and is dropped in every other case:
//! after a failure, in the middle of a call that nobody waits for any more, after enough calls, where the
//! pool is full, and where the version is gone.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::idle::{Idle, Waits};
use super::rewind::Rewind;
use super::sandbox::Sandbox;
use crate::function::CallLimits;
use crate::store::Snapshot;

/// The calls after which an instance is retired: what a guest leaks by the call ends with it, and the making
/// of another is then a thousandth of what they cost.
const MAX_INSTANCE_CALLS: u32 = 10_000;

/// The parts of a pool. A thread that serves requests has one that it mostly needs not share.
const PARTS: usize = 8;

/// The kept instances of one version.
pub(super) struct Pool<S: Snapshot> {
    parts: [Waiting<S>; PARTS],
    /// Those that wait and those at work.
    kept: AtomicUsize,
    /// Whether an instance was asked for since this was last looked at.
    is_used: AtomicBool,
    idle: Arc<Idle>,
    /// How an instance is rewound before it waits here, where it must be.
    rewind: Option<Arc<Rewind>>,
}

/// The instances that wait in a part, on a line of the cache of its own.
#[repr(align(64))]
struct Waiting<S: Snapshot>(Mutex<Sandboxes<S>>);

/// Boxed, since a sandbox moves at each call, and is some 200 bytes.
type Sandboxes<S> = Vec<Box<Sandbox<S>>>;

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

impl<S: Snapshot> Pool<S> {
    /// A pool of instances that keep what their calls leave in them.
    pub(super) fn new(idle: Arc<Idle>) -> Arc<Self> {
        Self::of(idle, None)
    }

    /// A pool of instances that are as new.
    pub(super) fn rewinding(rewind: Arc<Rewind>, idle: Arc<Idle>) -> Arc<Self> {
        Self::of(idle, Some(rewind))
    }

    fn of(idle: Arc<Idle>, rewind: Option<Arc<Rewind>>) -> Arc<Self> {
        let pool = Arc::new(Self {
            parts: std::array::from_fn(|_| Waiting(Mutex::new(Vec::new()))),
            kept: AtomicUsize::new(0),
            is_used: AtomicBool::new(false),
            idle: Arc::clone(&idle),
            rewind,
        });
        let own: Arc<dyn Waits> = Arc::<Self>::clone(&pool);
        idle.add(Arc::downgrade(&own));
        pool
    }

    /// An instance that came back last, to this thread if there is one, unless it has outgrown these limits.
    pub(super) fn take(self: &Arc<Self>, limits: &CallLimits) -> Option<Instance<S>> {
        let rewind = self.rewind.as_ref();
        if rewind.is_some_and(|rewind| rewind.table_elements() > limits.table_elements) {
            return None;
        }
        // Written only where it changes: all threads read it.
        if !self.is_used.load(Ordering::Relaxed) {
            self.is_used.store(true, Ordering::Relaxed);
        }
        let own = own_part();
        let mut parts = (own..PARTS).chain(0..own);
        let taken = parts.find_map(|part| {
            let mut waiting = self.parts.get(part)?.lock();
            let last = waiting.last();
            last.filter(|last| last.memory_bytes() <= limits.memory_bytes)?;
            waiting.pop()
        })?;
        let mut instance = Instance::new(taken, Some(Arc::clone(self)));
        instance.is_counted = true;
        Some(instance)
    }

    /// Keeps an instance that is counted, if it is as its pool wants it.
    fn put(&self, mut sandbox: Box<Sandbox<S>>) -> bool {
        let rewind = self.rewind.as_deref();
        if rewind.is_some_and(|rewind| !sandbox.rewind(rewind)) {
            return false;
        }
        if let Some(part) = self.parts.get(own_part()) {
            part.lock().push(sandbox);
        }
        true
    }

    fn enter(&self) -> bool {
        let next = |kept| (kept < self.idle.max_of_version()).then_some(kept + 1);
        let order = Ordering::Relaxed;
        let has_room = self.kept.fetch_update(order, order, next).is_ok();
        let is_kept = has_room && self.idle.enter();
        if has_room && !is_kept {
            self.kept.fetch_sub(1, order);
        }
        is_kept
    }

    fn leave(&self) {
        self.kept.fetch_sub(1, Ordering::Relaxed);
        self.idle.leave(1);
    }
}

impl<S: Snapshot> Waits for Pool<S> {
    fn let_go(&self) -> bool {
        if self.kept.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let mut has_any = false;
        for part in &self.parts {
            let waiting = std::mem::take(&mut *part.lock());
            has_any |= !waiting.is_empty();
            self.kept.fetch_sub(waiting.len(), Ordering::Relaxed);
            self.idle.leave(waiting.len());
        }
        has_any
    }

    fn is_used(&self) -> bool {
        self.is_used.swap(false, Ordering::Relaxed)
    }
}

impl<S: Snapshot> Waiting<S> {
    fn lock(&self) -> MutexGuard<'_, Sandboxes<S>> {
        let Self(waiting) = self;
        waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The part of this thread. They are given in turns, to threads that run functions.
fn own_part() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static PART: usize = NEXT.fetch_add(1, Ordering::Relaxed) % PARTS;
    }
    PART.with(|part| *part)
}

impl<S: Snapshot> Drop for Pool<S> {
    fn drop(&mut self) {
        // Those at work hold the pool, so all that are kept wait.
        self.idle.leave(*self.kept.get_mut());
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
        let is_counted = self.is_counted || (may_serve && home.enter());
        let is_kept = may_serve && is_counted && home.put(sandbox);
        if is_counted && !is_kept {
            home.leave();
        }
    }
}
