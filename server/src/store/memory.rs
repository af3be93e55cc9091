//! A store in memory: every version of a key that some snapshot can see, in one ordered map.
//!
//! It is the reference that other stores are tested against, so it is plain: one lock, and versions
//! kept as they were written.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use super::embedded::base::{CopyHeader, CopyWriter, Row};
use super::{
    Backup, Clock, Commit, CommitOutcome, CommittedChanges, Decision, Entry, Evaluated, Feed,
    KeyRange, Millis, Page, PageLimit, ReadPoint, ReadSet, Sequence, Snapshot, Store, StoreError,
    StoreFigures, Target, WriteSet,
};
use crate::bugs::{Bug, is_seeded};

/// Commits that are kept for feeds.
const MAX_KEPT_COMMITS: usize = 10_000;

/// The pieces in which a backup leaves.
const PIECE_BYTES: usize = 256 << 10;

/// A store in memory. Nothing survives it.
pub struct MemoryStore {
    shared: Arc<Shared>,
}

struct Shared {
    id: [u8; 16],
    clock: Box<dyn Clock>,
    state: Mutex<State>,
    /// The newest commit, for feeds; `None` once the store is closed.
    visible: watch::Sender<Option<Sequence>>,
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
    /// The newest commits, for feeds.
    commits: VecDeque<CommittedChanges>,
    /// Every commit behind this one is among them.
    kept_from: Sequence,
    is_closed: bool,
}

/// What was committed to a [`MemoryStore`].
pub struct MemoryFeed {
    shared: Arc<Shared>,
    after: Sequence,
    visible: watch::Receiver<Option<Sequence>>,
}

/// A copy of a [`MemoryStore`].
pub struct MemoryBackup {
    pieces: VecDeque<Bytes>,
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
            commits: VecDeque::new(),
            kept_from: 0,
            is_closed: false,
        };
        Self {
            shared: Arc::new(Shared {
                id,
                clock,
                state: Mutex::new(state),
                visible: watch::Sender::new(Some(0)),
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
    type Feed = MemoryFeed;
    type Backup = MemoryBackup;

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
        state.check_open()?;
        state.stamp_ms = state.stamp_ms.max(now_ms);
        if state.has_conflict(&commit.reads, snapshot.sequence) {
            return Ok(CommitOutcome::Conflict);
        }
        let sequence = state.apply(commit.writes);
        drop(state);
        self.shared.visible.send_replace(Some(sequence));
        Ok(CommitOutcome::Committed(sequence))
    }

    async fn evaluate<T: Send>(
        &self,
        target: Target<'_>,
        mut decide: impl FnMut(Option<Entry>, Sequence, Millis) -> Decision<T> + Send,
    ) -> Result<Evaluated<T>, StoreError> {
        let now_ms = self.shared.clock.now_ms();
        let mut state = self.shared.lock();
        state.check_open()?;
        state.stamp_ms = state.stamp_ms.max(now_ms);
        let seen = state.visible;
        let newest = state.versions.get(target.key);
        let newest = newest.and_then(|versions| seen_at(versions, seen)).cloned();
        let Decision { write, outcome } = decide(newest, seen, state.stamp_ms);
        let committed =
            write.map(|write| state.apply(vec![(Bytes::copy_from_slice(target.key), write)]));
        drop(state);
        if committed.is_some() {
            self.shared.visible.send_replace(committed);
        }
        Ok(Evaluated {
            committed,
            seen,
            outcome,
        })
    }

    async fn expired(&self, limit: usize) -> Result<Vec<Bytes>, StoreError> {
        let now_ms = self.shared.clock.now_ms();
        let state = self.shared.lock();
        let is_due = |versions: &Vec<(Sequence, Option<Entry>)>| {
            let newest = versions.last().and_then(|(_, entry)| entry.as_ref());
            newest.is_some_and(|it| it.expires_ms != 0 && it.expires_ms <= now_ms)
        };
        let due = state.versions.iter().filter(|(_, it)| is_due(it));
        Ok(due.take(limit).map(|(key, _)| key.clone()).collect())
    }

    async fn follow(&self, after: Option<Sequence>) -> Result<MemoryFeed, StoreError> {
        let state = self.shared.lock();
        let after = after.unwrap_or(state.visible);
        let first = state.kept_from;
        if after < first {
            return Err(StoreError::Forgotten { after, first });
        }
        Ok(MemoryFeed {
            shared: Arc::clone(&self.shared),
            after,
            visible: self.shared.visible.subscribe(),
        })
    }

    async fn backup(&self) -> Result<MemoryBackup, StoreError> {
        let copy = self.shared.lock().copy(self.shared.id);
        let copy = Bytes::from(copy.map_err(|error| StoreError::Storage(error.to_string()))?);
        let pieces = (0..copy.len())
            .step_by(PIECE_BYTES)
            .map(|at| copy.slice(at..copy.len().min(at + PIECE_BYTES)));
        Ok(MemoryBackup {
            pieces: pieces.collect(),
        })
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

    fn figures(&self) -> StoreFigures {
        let visible = self.visible();
        StoreFigures {
            visible,
            acked: visible,
            synced: visible,
            is_writable: true,
            ..StoreFigures::default()
        }
    }

    fn check_writable(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn id(&self) -> [u8; 16] {
        self.shared.id
    }

    fn engine(&self) -> &'static str {
        "memory"
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.shared.lock().is_closed = true;
        self.shared.visible.send_replace(None);
        Ok(())
    }
}

impl Feed for MemoryFeed {
    async fn next(&mut self) -> Result<Vec<CommittedChanges>, StoreError> {
        let closed = || StoreError::Unavailable("the store is closed".to_owned());
        loop {
            let after = self.after;
            let settled = self
                .visible
                .wait_for(|visible| visible.is_none_or(|visible| visible > after))
                .await;
            settled.map_err(|_| closed())?.ok_or_else(closed)?;
            let state = self.shared.lock();
            if after < state.kept_from {
                let first = state.kept_from;
                return Err(StoreError::Forgotten { after, first });
            }
            self.after = state.visible;
            let from = state.commits.partition_point(|it| it.sequence <= after);
            let commits: Vec<_> = state.commits.iter().skip(from).cloned().collect();
            if !commits.is_empty() {
                return Ok(commits);
            }
        }
    }
}

impl Backup for MemoryBackup {
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        Ok(self.pieces.pop_front())
    }
}

impl State {
    fn check_open(&self) -> Result<(), StoreError> {
        if self.is_closed {
            return Err(StoreError::Unavailable("it is closed".to_owned()));
        }
        Ok(())
    }

    fn copy(&self, store_id: [u8; 16]) -> std::io::Result<Vec<u8>> {
        let header = CopyHeader {
            store_id,
            start: self.visible,
            stamp_ms: self.stamp_ms,
        };
        let mut writer = CopyWriter::new(Vec::new(), &header)?;
        for (key, versions) in &self.versions {
            if let Some(entry) = seen_at(versions, self.visible) {
                writer.row(&Row {
                    key,
                    value: &entry.value,
                    version: entry.version,
                    expires_ms: entry.expires_ms,
                })?;
            }
        }
        writer.finish(self.visible).map(|(copy, _)| copy)
    }

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
                !is_seeded(Bug::SkipRangeValidation)
                    && !range.is_empty()
                    && self.in_range(range).any(|(_, versions)| is_newer(versions))
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

    fn apply(&mut self, writes: WriteSet) -> Sequence {
        let sequence = self.visible + 1;
        self.keep(sequence, &writes);
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

    fn keep(&mut self, sequence: Sequence, writes: &WriteSet) {
        if !writes.is_empty() {
            self.commits.push_back(CommittedChanges {
                sequence,
                changes: writes.clone(),
            });
        }
        if self.commits.len() > MAX_KEPT_COMMITS
            && let Some(first) = self.commits.pop_front()
        {
            self.kept_from = first.sequence;
        }
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
            .and_then(|versions| seen_at(versions, self.shown()));
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
            seen_at(versions, self.shown()).map(|entry| (key.clone(), entry.clone()))
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

impl MemorySnapshot {
    /// The newest commit in view.
    fn shown(&self) -> Sequence {
        match is_seeded(Bug::SnapshotOffByOne) {
            true => self.sequence.saturating_sub(1),
            false => self.sequence,
        }
    }
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
