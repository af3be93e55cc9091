//! Which snapshots are open, which moment a new one shows, and what time it is there.
//!
//! The newest visible sequence and the newest stamp are one pair behind one lock. A commit takes its
//! stamp and is published under that lock, and in between no snapshot gets a later time: so a
//! snapshot's `now` never exceeds the stamp of the first commit outside of it.
//!
//! Times given out are covered by a *lease*: a time that the log has already. After a restart no
//! stamp lies below it, even if the wall clock was set back and nothing but reads saw the time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::versions::Version;
use crate::store::{Millis, ReadPoint, Sequence, StoreError};

/// Entries of ended snapshots that are kept before they are cleared away.
const MAX_ENDED: usize = 1024;

/// The open snapshots, and the sequences between which new ones begin.
pub(super) struct Snapshots {
    published: Mutex<Published>,
    acked: AtomicU64,
    visible: AtomicU64,
    /// No snapshot, open or to come, sees less.
    needed: AtomicU64,
    /// Snapshots below are too old to be read.
    oldest: AtomicU64,
    /// Counts time, for the age of snapshots.
    ticks: AtomicU64,
}

struct Published {
    visible: Sequence,
    acked: Sequence,
    stamp_ms: Millis,
    lease_ms: Millis,
    /// A commit has its stamp and is not visible yet.
    is_committing: bool,
    /// What is visible and not acked will never be.
    has_failed: bool,
    /// The first commit of each stamp, from the one of the first commit that is not acked on.
    stamps: VecDeque<(Sequence, Millis)>,
    active: VecDeque<Active>,
    ended: usize,
}

/// Snapshots at one sequence.
struct Active {
    sequence: Sequence,
    count: usize,
    /// In which tick the last of them began. The history behind them grows only after that: while
    /// snapshots begin here, there is no newer commit for them.
    since: u64,
}

/// A snapshot's place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    pub(super) sequence: Sequence,
    pub(super) now_ms: Millis,
}

/// What a writer needs to know of who may see the versions that it replaces.
pub(super) struct Views<'a> {
    snapshots: &'a Snapshots,
    needed: Sequence,
}

impl Snapshots {
    pub(super) fn new(sequence: Sequence, stamp_ms: Millis) -> Self {
        let published = Published {
            visible: sequence,
            acked: sequence,
            stamp_ms,
            lease_ms: 0,
            is_committing: false,
            has_failed: false,
            stamps: VecDeque::new(),
            active: VecDeque::new(),
            ended: 0,
        };
        Self {
            published: Mutex::new(published),
            acked: AtomicU64::new(sequence),
            visible: AtomicU64::new(sequence),
            needed: AtomicU64::new(sequence),
            oldest: AtomicU64::new(0),
            ticks: AtomicU64::new(0),
        }
    }

    pub(super) fn acked(&self) -> Sequence {
        self.acked.load(Ordering::Acquire)
    }

    pub(super) fn visible(&self) -> Sequence {
        self.visible.load(Ordering::Acquire)
    }

    /// The sequence below which nobody looks.
    pub(super) fn needed(&self) -> Sequence {
        self.needed.load(Ordering::Acquire)
    }

    /// How many snapshots are open.
    pub(super) fn open(&self) -> usize {
        let published = self.lock();
        published.active.iter().map(|active| active.count).sum()
    }

    /// The newest stamp, and the time that the log covers.
    pub(super) fn times(&self) -> (Millis, Millis) {
        let published = self.lock();
        (published.stamp_ms, published.lease_ms)
    }

    /// Opens a snapshot; `None` where the log must cover this time first.
    pub(super) fn begin(&self, point: ReadPoint, clock_ms: Millis) -> Option<Begun> {
        let mut published = self.lock();
        let now_ms = published.advance(clock_ms)?;
        let sequence = match point {
            // Also for who has written what will never be.
            _ if published.has_failed => published.acked,
            ReadPoint::Newest => published.visible,
            ReadPoint::Acked(at_least) => published.acked.max(at_least.min(published.visible)),
        };
        published.register(sequence, self.ticks.load(Ordering::Relaxed));
        // What is stamped and not shown has happened later.
        let now_ms = published.stamp_after(sequence).unwrap_or(now_ms);
        Some(Begun { sequence, now_ms })
    }

    /// Closes a snapshot.
    pub(super) fn end(&self, sequence: Sequence) {
        let mut published = self.lock();
        published.unregister(sequence);
        self.update_needed(&published);
    }

    /// Whether a snapshot can't be read any more. To be asked after reading.
    pub(super) fn check(&self, sequence: Sequence) -> Result<(), StoreError> {
        let oldest = self.oldest.load(Ordering::Acquire);
        if sequence < oldest {
            return Err(StoreError::TooOld {
                snapshot: sequence,
                oldest,
            });
        }
        Ok(())
    }

    /// The stamp of a commit that is about to be made, and whether the log covers it. To be followed by
    /// a `publish` or a `give_up`.
    pub(super) fn start_commit(&self, clock_ms: Millis) -> (Millis, bool) {
        let mut published = self.lock();
        published.stamp_ms = published.stamp_ms.max(clock_ms);
        published.is_committing = true;
        (published.stamp_ms, published.stamp_ms <= published.lease_ms)
    }

    /// Makes a commit visible.
    pub(super) fn publish(&self, sequence: Sequence, stamp_ms: Millis) {
        let mut published = self.lock();
        published.is_committing = false;
        published.visible = sequence;
        if published
            .stamps
            .back()
            .is_none_or(|last| last.1 != stamp_ms)
        {
            published.stamps.push_back((sequence, stamp_ms));
        }
        self.visible.store(sequence, Ordering::Release);
    }

    /// There was no commit after all.
    pub(super) fn give_up(&self) {
        self.lock().is_committing = false;
    }

    /// Everything at or below is as durable as it was asked to be.
    pub(super) fn ack(&self, sequence: Sequence) {
        let mut published = self.lock();
        published.acked = sequence;
        let is_past = |next: &(Sequence, Millis)| next.0 <= sequence + 1;
        while published.stamps.get(1).is_some_and(is_past) {
            published.stamps.pop_front();
        }
        self.acked.store(sequence, Ordering::Release);
        self.update_needed(&published);
    }

    /// The log covers times up to this one.
    pub(super) fn extend_lease(&self, lease_ms: Millis) {
        let mut published = self.lock();
        published.lease_ms = published.lease_ms.max(lease_ms);
    }

    /// What is not acked will never be: from now on it is not shown.
    pub(super) fn fail(&self) {
        self.lock().has_failed = true;
    }

    /// Lets a tick pass, and gives up snapshots that have lived through more than `max_ticks`, and the
    /// oldest one in any case if memory is short.
    pub(super) fn tick(&self, max_ticks: u64, is_memory_short: bool) {
        let now = self.ticks.fetch_add(1, Ordering::Relaxed) + 1;
        let mut published = self.lock();
        let acked = published.acked;
        let mut may_give_up_one = is_memory_short;
        let mut oldest = None;
        while let Some(first) = published.active.front() {
            let is_late = now - first.since > max_ticks || may_give_up_one;
            if first.count > 0 && !(is_late && first.sequence < acked) {
                break;
            }
            if first.count > 0 {
                may_give_up_one = false;
                oldest = Some(first.sequence + 1);
            } else {
                published.ended -= 1;
            }
            published.active.pop_front();
        }
        if let Some(oldest) = oldest {
            self.oldest.store(oldest, Ordering::Release);
        }
        self.update_needed(&published);
    }

    /// For a writer that replaces versions.
    pub(super) fn views(&self) -> Views<'_> {
        Views {
            snapshots: self,
            needed: self.needed(),
        }
    }

    fn update_needed(&self, published: &Published) {
        let first = published.active.front().map(|active| active.sequence);
        let needed = first.map_or(published.acked, |first| first.min(published.acked));
        // Only who has the lock writes it, and mostly it stays.
        if needed > self.needed.load(Ordering::Relaxed) {
            self.needed.store(needed, Ordering::Release);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Published> {
        self.published
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Published {
    /// The time now, within the lease; it stands still while a commit has its stamp and is not
    /// visible.
    fn advance(&mut self, clock_ms: Millis) -> Option<Millis> {
        let now_ms = if self.is_committing {
            self.stamp_ms
        } else {
            self.stamp_ms.max(clock_ms)
        };
        if now_ms > self.lease_ms {
            return None;
        }
        self.stamp_ms = now_ms;
        Some(now_ms)
    }

    fn stamp_after(&self, snapshot: Sequence) -> Option<Millis> {
        if snapshot >= self.visible {
            return None;
        }
        let at = self
            .stamps
            .partition_point(|(first, _)| *first <= snapshot + 1);
        let stamp = at.checked_sub(1).and_then(|at| self.stamps.get(at));
        stamp.or_else(|| self.stamps.front()).map(|stamp| stamp.1)
    }

    fn register(&mut self, sequence: Sequence, since: u64) {
        let new = Active {
            sequence,
            count: 1,
            since,
        };
        match self.active.back_mut() {
            Some(last) if last.sequence == sequence => {
                self.ended -= usize::from(last.count == 0);
                last.count += 1;
                last.since = since;
            }
            Some(last) if last.sequence > sequence => {
                let at = self.active.partition_point(|it| it.sequence < sequence);
                match self.active.get_mut(at) {
                    Some(same) if same.sequence == sequence => {
                        self.ended -= usize::from(same.count == 0);
                        same.count += 1;
                        same.since = since;
                    }
                    _ => self.active.insert(at, new),
                }
            }
            _ => self.active.push_back(new),
        }
    }

    fn unregister(&mut self, sequence: Sequence) {
        let at = self.active.partition_point(|it| it.sequence < sequence);
        // A snapshot that was given up has no entry any more.
        let Some(active) = self.active.get_mut(at).filter(|it| it.sequence == sequence) else {
            return;
        };
        active.count = active.count.saturating_sub(1);
        self.ended += usize::from(active.count == 0);
        while self.active.front().is_some_and(|first| first.count == 0) {
            self.active.pop_front();
            self.ended -= 1;
        }
        if self.ended > MAX_ENDED && self.ended > self.active.len() / 2 {
            self.active.retain(|active| active.count > 0);
            self.ended = 0;
        }
    }
}

impl Views<'_> {
    /// No snapshot, open or to come, sees less.
    pub(super) fn needed(&self) -> Sequence {
        self.needed
    }

    /// Drops the versions that no snapshot sees, of those before `newest`; answers what they weighed.
    pub(super) fn prune(
        &self,
        older: &mut Vec<Version>,
        newest: Sequence,
        weight: impl Fn(&Version) -> usize,
    ) -> usize {
        let published = self.snapshots.lock();
        let mut next: Vec<Sequence> = older.iter().skip(1).map(|it| it.sequence).collect();
        next.push(newest);
        let mut next = next.into_iter();
        let mut freed = 0;
        older.retain(|version| {
            let until = next.next().unwrap_or(newest);
            let is_seen = until > published.acked || published.has_within(version.sequence, until);
            if !is_seen {
                freed += weight(version);
            }
            is_seen
        });
        freed
    }
}

impl Published {
    /// Whether a snapshot is open from `start` on and before `end`.
    fn has_within(&self, start: Sequence, end: Sequence) -> bool {
        let from = self.active.partition_point(|it| it.sequence < start);
        let mut within = self.active.iter().skip(from);
        within
            .by_ref()
            .take_while(|it| it.sequence < end)
            .any(|it| it.count > 0)
    }
}
