//! Ends the process where a case takes too long, and tells which.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// What a case may take: its calls have a second each.
const LONGEST: Duration = Duration::from_secs(60);

/// A thread that looks whether there is progress.
pub(crate) struct Watchdog {
    seed: Arc<AtomicU64>,
    cases: Arc<AtomicU64>,
}

impl Watchdog {
    pub(crate) fn start() -> Self {
        let watchdog = Self {
            seed: Arc::default(),
            cases: Arc::default(),
        };
        let seed = Arc::downgrade(&watchdog.seed);
        let cases = Arc::downgrade(&watchdog.cases);
        std::thread::spawn(move || watch(&seed, &cases));
        watchdog
    }

    /// A case begins.
    pub(crate) fn note(&self, seed: u64) {
        self.seed.store(seed, Ordering::Relaxed);
        self.cases.fetch_add(1, Ordering::Relaxed);
    }
}

fn watch(seed: &Weak<AtomicU64>, cases: &Weak<AtomicU64>) {
    let mut last = None;
    while let (Some(seed), Some(cases)) = (seed.upgrade(), cases.upgrade()) {
        let now = cases.load(Ordering::Relaxed);
        if last == Some(now) {
            let seed = seed.load(Ordering::Relaxed);
            println!("FAILED: a case takes longer than {LONGEST:?}");
            println!("again: smith --seed {seed} --cases 1");
            std::process::exit(1);
        }
        last = Some(now);
        drop((seed, cases));
        std::thread::sleep(LONGEST);
    }
}
