//! The kept instances of all modules together: how many there may be, and which go where they are many.
//!
//! A module that is called keeps its instances, and one that is not need not: where three quarters of the places are
//! taken, a thread lets go each second what waits for a module that nobody has called since it last looked. And what waits
//! gives way to a call that finds no slot.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// How often the thread looks. A module that is called less often may have its instances made anew.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The kept instances of all modules together, waiting or at work, and the bounds on them.
pub(super) struct Idle {
    count: AtomicUsize,
    made: AtomicU64,
    /// Leaves slots for calls.
    max: usize,
    max_of_version: usize,
    pools: Mutex<Vec<Weak<dyn Waits>>>,
}

/// Where instances of a version of a module wait.
pub(super) trait Waits: Send + Sync {
    /// Lets all go that wait; answers whether there were any.
    fn let_go(&self) -> bool;

    /// Whether one was asked for since this was asked before.
    fn is_used(&self) -> bool;
}

impl Idle {
    pub(super) fn new(max: usize, max_of_version: usize) -> Arc<Self> {
        Arc::new(Self {
            count: AtomicUsize::new(0),
            made: AtomicU64::new(0),
            max,
            max_of_version,
            pools: Mutex::new(Vec::new()),
        })
    }

    /// Starts the thread, which ends with the last owner of this.
    ///
    /// # Errors
    /// The operating system gives none.
    pub(super) fn start(this: &Arc<Self>) -> std::io::Result<()> {
        let idle = Arc::downgrade(this);
        let look = move || {
            loop {
                std::thread::sleep(LOOK_EVERY);
                match idle.upgrade() {
                    Some(idle) => idle.make_room(),
                    None => return,
                }
            }
        };
        let thread = std::thread::Builder::new().name("luge-idle".to_owned());
        thread.spawn(look).map(drop)
    }

    /// Counts one more, if there is room.
    pub(super) fn enter(&self) -> bool {
        let next = |count| (count < self.max).then_some(count + 1);
        let order = Ordering::Relaxed;
        self.count.fetch_update(order, order, next).is_ok()
    }

    pub(super) fn leave(&self, count: usize) {
        self.count.fetch_sub(count, Ordering::Relaxed);
    }

    /// The most kept instances of one version.
    pub(super) fn max_of_version(&self) -> usize {
        self.max_of_version
    }

    /// Takes care of another pool, as long as it is there.
    pub(super) fn add(&self, pool: Weak<dyn Waits>) {
        let mut pools = self.pools();
        // Only before it grows: a start adds thousands.
        if pools.len() == pools.capacity() {
            pools.retain(|pool| pool.strong_count() > 0);
        }
        pools.push(pool);
    }

    /// Lets go what waits unused, where there is little room.
    pub(super) fn make_room(&self) {
        if self.count.load(Ordering::Relaxed) < self.max - self.max / 4 {
            return;
        }
        // Held by none of them meanwhile: the last owner of a pool may be here.
        let pools: Vec<_> = self.pools().iter().filter_map(Weak::upgrade).collect();
        for pool in pools.iter().filter(|pool| !pool.is_used()) {
            pool.let_go();
        }
    }

    /// Lets go what waits in one pool, for a call that finds no slot; answers whether anything did.
    pub(super) fn give_way(&self) -> bool {
        let pools: Vec<_> = self.pools().iter().filter_map(Weak::upgrade).collect();
        pools.iter().any(|pool| pool.let_go())
    }

    /// Counts an instance that was made.
    pub(super) fn add_made(&self) {
        self.made.fetch_add(1, Ordering::Relaxed);
    }

    /// How many instances were made.
    pub(super) fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    fn pools(&self) -> MutexGuard<'_, Vec<Weak<dyn Waits>>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
