//! A store in memory: every version of a key that some snapshot can see, in one ordered map.
//!
//! It is the reference that other stores are tested against, so it is plain: one lock, and versions
//! kept as they were written.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{
    Clock, Commit, CommitOutcome, Entry, KeyRange, Millis, Page, PageLimit, ReadPoint, ReadSet,
    Sequence, Snapshot, Store, StoreError,
};

/// A store in memory. Nothing survives it.
pub struct MemoryStore {
    shared: Arc<Shared>,
}

struct Shared {
    id: [u8; 16],
    clock: Box<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    /// Versions of each key, oldest first; `None` is a deletion.
    versions: BTreeMap<Bytes, Vec<(Sequence, Option<Entry>)>>,
    visible: Sequence,
    stamp_ms: Millis,
    /// How many snapshots are open at each sequence.
    active: BTreeMap<Sequence, usize>,
    /// Keys whose old versions can go once no snapshot is older than the sequence.
    superseded: VecDeque<(Sequence, Bytes)>,
    is_closed: bool,
}

/// A view of a [`MemoryStore`].
pub struct MemorySnapshot {
    shared: Arc<Shared>,
    sequence: Sequence,
    now_ms: Millis,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new(id: [u8; 16], clock: Box<dyn Clock>) -> Self {
        let state = State {
            versions: BTreeMap::new(),
            visible: 0,
            stamp_ms: 0,
            active: BTreeMap::new(),
            superseded: VecDeque::new(),
            is_closed: false,
        };
        Self {
            shared: Arc::new(Shared {
                id,
                clock,
                state: Mutex::new(state),
            }),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    type Snapshot = MemorySnapshot;

    async fn begin(&self, _point: ReadPoint) -> Result<MemorySnapshot, StoreError> {
        let now_ms = self.shared.clock.now_ms();
        let mut state = self.shared.lock();
        state.stamp_ms = state.stamp_ms.max(now_ms);
        let (sequence, now_ms) = (state.visible, state.stamp_ms);
        *state.active.entry(sequence).or_default() += 1;
        drop(state);
        Ok(MemorySnapshot {
            shared: Arc::clone(&self.shared),
            sequence,
            now_ms,
        })
    }

    async fn commit(
        &self,
        snapshot: MemorySnapshot,
        commit: Commit,
    ) -> Result<CommitOutcome, StoreError> {
        let now_ms = self.shared.clock.now_ms();
        let mut state = self.shared.lock();
        if state.is_closed {
            return Err(StoreError::Unavailable("it is closed".to_owned()));
        }
        state.stamp_ms = state.stamp_ms.max(now_ms);
        if state.has_conflict(&commit.reads, snapshot.sequence) {
            return Ok(CommitOutcome::Conflict);
        }
        let sequence = state.apply(commit.writes);
        drop(state);
        Ok(CommitOutcome::Committed(sequence))
    }

    async fn acked(&self, _sequence: Sequence) -> Result<(), StoreError> {
        Ok(())
    }

    fn is_acked(&self, _sequence: Sequence) -> bool {
        true
    }

    fn visible(&self) -> Sequence {
        self.shared.lock().visible
    }

    fn id(&self) -> [u8; 16] {
        self.shared.id
    }

    fn engine(&self) -> &'static str {
        "memory"
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.shared.lock().is_closed = true;
        Ok(())
    }
}

impl State {
    fn has_conflict(&self, reads: &ReadSet, snapshot: Sequence) -> bool {
        let is_newer = |versions: &Vec<(Sequence, Option<Entry>)>| {
            versions
                .last()
                .is_some_and(|(sequence, _)| *sequence > snapshot)
        };
        reads.has_expired(self.stamp_ms)
            || reads
                .points
                .iter()
                .any(|key| self.versions.get(key).is_some_and(is_newer))
            || reads.ranges.iter().any(|range| {
                !range.is_empty() && self.in_range(range).any(|(_, versions)| is_newer(versions))
            })
    }

    fn in_range(
        &self,
        range: &KeyRange,
    ) -> impl DoubleEndedIterator<Item = (&Bytes, &Vec<(Sequence, Option<Entry>)>)> {
        let bounds = (
            Bound::Included(&range.start[..]),
            Bound::Excluded(&range.end[..]),
        );
        self.versions.range::<[u8], _>(bounds)
    }

    fn apply(&mut self, writes: super::WriteSet) -> Sequence {
        let sequence = self.visible + 1;
        for (key, write) in writes {
            let entry = write.into_entry(sequence);
            self.superseded.push_back((sequence, key.clone()));
            self.versions
                .entry(key)
                .or_default()
                .push((sequence, entry));
        }
        self.visible = sequence;
        self.forget();
        sequence
    }

    /// Drops versions that no snapshot, open or to come, can see.
    fn forget(&mut self) {
        let oldest = self
            .active
            .keys()
            .next()
            .copied()
            .unwrap_or(self.visible)
            .min(self.visible);
        while let Some((sequence, _)) = self.superseded.front() {
            if *sequence > oldest {
                return;
            }
            let Some((_, key)) = self.superseded.pop_front() else {
                return;
            };
            let Some(versions) = self.versions.get_mut(&key) else {
                continue;
            };
            let seen = versions
                .iter()
                .rposition(|(sequence, _)| *sequence <= oldest)
                .unwrap_or(0);
            versions.drain(..seen);
            if matches!(versions.as_slice(), [(_, None)]) {
                self.versions.remove(&key);
            }
        }
    }
}

fn seen_at(versions: &[(Sequence, Option<Entry>)], sequence: Sequence) -> Option<&Entry> {
    versions
        .iter()
        .rev()
        .find(|(written, _)| *written <= sequence)?
        .1
        .as_ref()
}

impl Snapshot for MemorySnapshot {
    fn sequence(&self) -> Sequence {
        self.sequence
    }

    fn now_ms(&self) -> Millis {
        self.now_ms
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Entry>, StoreError> {
        let state = self.shared.lock();
        let entry = state
            .versions
            .get(key)
            .and_then(|versions| seen_at(versions, self.sequence));
        Ok(entry.cloned())
    }

    async fn scan(
        &self,
        range: &KeyRange,
        is_reverse: bool,
        _keys_only: bool,
        limit: PageLimit,
    ) -> Result<Page, StoreError> {
        if range.is_empty() {
            return Ok(Page::default());
        }
        let state = self.shared.lock();
        let seen = state.in_range(range).filter_map(|(key, versions)| {
            seen_at(versions, self.sequence).map(|entry| (key.clone(), entry.clone()))
        });
        Ok(if is_reverse {
            fill(seen.rev(), limit)
        } else {
            fill(seen, limit)
        })
    }
}

fn fill(rows: impl Iterator<Item = (Bytes, Entry)>, limit: PageLimit) -> Page {
    let mut page = Page::default();
    let mut bytes = 0;
    for (key, entry) in rows {
        bytes += key.len() + entry.value.len();
        let is_full = page.rows.len() >= limit.rows || bytes > limit.bytes;
        if is_full && !page.rows.is_empty() {
            page.reached = page.rows.last().map(|(last, _)| last.clone());
            return page;
        }
        page.rows.push((key, entry));
    }
    page
}

impl Drop for MemorySnapshot {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if let Some(count) = state.active.get_mut(&self.sequence) {
            *count -= 1;
            if *count == 0 {
                state.active.remove(&self.sequence);
            }
        }
    }
}
