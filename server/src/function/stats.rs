//! What is counted of functions: calls, how they ended, and what they used.
//!
//! A version has a place for each function that it offers. What is counted for one is made when it is first
//! called, and goes with the version.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use luge_protocol::{ErrorCode, FunctionKind, HookDescription, ProcedureDescription};

use super::Usage;
use super::histogram::{Distribution, Histogram, Sharded};

/// The functions of a version.
#[derive(Debug, Default)]
pub struct VersionStats {
    /// By name.
    functions: Box<[Place]>,
    room: Arc<StatsRoom>,
}

#[derive(Debug)]
struct Place {
    name: Box<str>,
    kind: FunctionKind,
    stats: OnceLock<Arc<FunctionStats>>,
}

/// How many functions are counted, of all versions, against a bound.
#[derive(Debug, Default)]
pub struct StatsRoom {
    limit: usize,
    taken: AtomicUsize,
    uncounted: AtomicU64,
}

/// What is counted of one function.
#[derive(Debug)]
pub struct FunctionStats {
    used: Sharded<Used>,
    errors: [AtomicU64; ErrorCode::ALL.len()],
    conflicts: AtomicU64,
    retries: AtomicU64,
    memory_bytes: AtomicUsize,
    room: Arc<StatsRoom>,
}

#[derive(Debug, Default)]
struct Used {
    cpu_ns: Histogram,
    fuel: Histogram,
}

/// What was counted of a function up to one moment.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// Calls by the codes that they ended with; those that succeeded are not among them.
    pub errors: Vec<(ErrorCode, u64)>,
    /// Attempts that met a conflict.
    pub conflicts: u64,
    /// Calls in attempts behind the first.
    pub retries: u64,
    /// Time running, in nanoseconds.
    pub cpu_ns: Distribution,
    /// Fuel.
    pub fuel: Distribution,
    /// The most linear memory that a call had, in bytes.
    pub memory_bytes: usize,
}

impl VersionStats {
    /// Places for the functions that a version offers.
    pub fn new(
        procedures: &[ProcedureDescription],
        hooks: &[HookDescription],
        room: &Arc<StatsRoom>,
    ) -> Self {
        let place = |name: &String, kind| Place {
            name: name.as_str().into(),
            kind,
            stats: OnceLock::new(),
        };
        let hooks = hooks.iter();
        let mut functions: Vec<Place> = procedures
            .iter()
            .map(|it| place(&it.procedure, FunctionKind::Procedure))
            .chain(hooks.map(|it| place(&it.hook, FunctionKind::Hook)))
            .collect();
        functions.sort_by(|left, right| left.name.cmp(&right.name));
        Self {
            functions: functions.into(),
            room: Arc::clone(room),
        }
    }

    /// The place of a function among those that are counted.
    pub fn place(&self, function: &str) -> Option<usize> {
        let order = |place: &Place| (*place.name).cmp(function);
        self.functions.binary_search_by(order).ok()
    }

    /// Where the function at a place is counted; nowhere if there is no room.
    pub fn at(&self, place: usize) -> Option<&Arc<FunctionStats>> {
        self.counts(self.functions.get(place)?)
    }

    /// Where a function of this version is counted; nowhere if there is no room.
    pub fn of(&self, function: &str) -> Option<&Arc<FunctionStats>> {
        self.at(self.place(function)?)
    }

    fn counts<'a>(&self, place: &'a Place) -> Option<&'a Arc<FunctionStats>> {
        if place.stats.get().is_none() && self.room.is_full() {
            self.room.uncounted.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let make = || Arc::new(FunctionStats::new(&self.room));
        Some(place.stats.get_or_init(make))
    }

    /// The functions that were called, by name.
    pub fn called(&self) -> impl Iterator<Item = (&str, FunctionKind, Counted)> {
        self.functions.iter().filter_map(|place| {
            let counted = place.stats.get()?.counted();
            Some((&*place.name, place.kind, counted))
        })
    }
}

impl StatsRoom {
    /// Room for so many functions.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    /// Calls of functions that there was no room for.
    pub fn uncounted(&self) -> u64 {
        self.uncounted.load(Ordering::Relaxed)
    }

    fn is_full(&self) -> bool {
        self.taken.load(Ordering::Relaxed) >= self.limit
    }
}

impl FunctionStats {
    fn new(room: &Arc<StatsRoom>) -> Self {
        room.taken.fetch_add(1, Ordering::Relaxed);
        Self {
            used: Sharded::default(),
            errors: [const { AtomicU64::new(0) }; ErrorCode::ALL.len()],
            conflicts: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            memory_bytes: AtomicUsize::new(0),
            room: Arc::clone(room),
        }
    }

    /// Counts a call that is over.
    pub fn add_call(&self, usage: &Usage, attempt: u32) {
        let used = self.used.own();
        let cpu_ns = u64::try_from(usage.cpu.as_nanos()).unwrap_or(u64::MAX);
        used.cpu_ns.add(cpu_ns);
        used.fuel.add(usage.fuel);
        if usage.memory_bytes > self.memory_bytes.load(Ordering::Relaxed) {
            self.memory_bytes
                .fetch_max(usage.memory_bytes, Ordering::Relaxed);
        }
        if attempt > 1 {
            self.retries.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts that a call did not succeed.
    pub fn add_error(&self, code: ErrorCode) {
        if let Some(count) = self.errors.get(code.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts that an attempt in which it ran met a conflict.
    pub fn add_conflict(&self) {
        self.conflicts.fetch_add(1, Ordering::Relaxed);
    }

    fn counted(&self) -> Counted {
        let errors = ErrorCode::ALL.iter().zip(&self.errors);
        let errors = errors.map(|(code, count)| (*code, count.load(Ordering::Relaxed)));
        let mut counted = Counted {
            errors: errors.filter(|(_, count)| *count > 0).collect(),
            conflicts: self.conflicts.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            memory_bytes: self.memory_bytes.load(Ordering::Relaxed),
            ..Counted::default()
        };
        for used in self.used.all() {
            counted.cpu_ns.join(&used.cpu_ns);
            counted.fuel.join(&used.fuel);
        }
        counted
    }
}

impl Drop for FunctionStats {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(1, Ordering::Relaxed);
    }
}
