//! What the committer replaced in sled, for as long as some snapshot can see it.
//!
//! It is also what commits are validated against: a key that was read conflicts if the history has
//! a replacement of it above the reader's sequence.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use bytes::Bytes;

use super::super::{Entry, KeyRange, Millis, ReadSet, Sequence, StoreError};

/// Replaced entries by key.
pub(super) struct History {
    /// For each key, oldest first: the commit that replaced the entry, and the entry, `None` for
    /// absent.
    replaced: BTreeMap<Bytes, VecDeque<(Sequence, Option<Entry>)>>,
    /// Commits in order, each with the keys it replaced: what to drop when nobody sees it any more.
    commits: VecDeque<Forgettable>,
    /// How many snapshots are open at each sequence.
    active: BTreeMap<Sequence, usize>,
    /// The oldest sequence that can still be read.
    oldest: Sequence,
    bytes: usize,
    max_bytes: usize,
}

struct Forgettable {
    sequence: Sequence,
    stamp_ms: Millis,
    keys: Vec<Bytes>,
    bytes: usize,
}

impl History {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            replaced: BTreeMap::new(),
            commits: VecDeque::new(),
            active: BTreeMap::new(),
            oldest: 0,
            bytes: 0,
            max_bytes,
        }
    }

    pub(super) fn register(&mut self, sequence: Sequence) {
        *self.active.entry(sequence).or_default() += 1;
    }

    pub(super) fn unregister(&mut self, sequence: Sequence) {
        let Some(count) = self.active.get_mut(&sequence) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.active.remove(&sequence);
        }
    }

    /// The entry that a snapshot sees in place of sled's, if sled's is too new for it.
    pub(super) fn seen_at(
        &self,
        key: &[u8],
        snapshot: Sequence,
    ) -> Result<Option<&Option<Entry>>, StoreError> {
        self.check_age(snapshot)?;
        let Some(replaced) = self.replaced.get(key) else {
            return Ok(None);
        };
        let first = replaced.iter().find(|(sequence, _)| *sequence > snapshot);
        Ok(first.map(|(_, entry)| entry))
    }

    /// The same for every key within the bounds.
    pub(super) fn in_range(
        &self,
        bounds: &(Bound<Bytes>, Bound<Bytes>),
        snapshot: Sequence,
    ) -> Result<BTreeMap<Bytes, Option<Entry>>, StoreError> {
        self.check_age(snapshot)?;
        let keys = self
            .replaced
            .range::<Bytes, _>((bounds.0.as_ref(), bounds.1.as_ref()));
        let seen = keys.filter_map(|(key, replaced)| {
            let first = replaced.iter().find(|(sequence, _)| *sequence > snapshot)?;
            Some((key.clone(), first.1.clone()))
        });
        Ok(seen.collect())
    }

    pub(super) fn has_conflict(
        &self,
        reads: &ReadSet,
        snapshot: Sequence,
    ) -> Result<bool, StoreError> {
        self.check_age(snapshot)?;
        let is_newer = |replaced: &VecDeque<(Sequence, Option<Entry>)>| {
            replaced
                .back()
                .is_some_and(|(sequence, _)| *sequence > snapshot)
        };
        let is_range_newer = |range: &KeyRange| {
            let bounds = (Bound::Included(&range.start), Bound::Excluded(&range.end));
            !range.is_empty()
                && self
                    .replaced
                    .range::<Bytes, _>(bounds)
                    .any(|(_, replaced)| is_newer(replaced))
        };
        Ok(reads
            .points
            .iter()
            .any(|key| self.replaced.get(key).is_some_and(is_newer))
            || reads.ranges.iter().any(is_range_newer))
    }

    /// The stamp of the first commit that a snapshot does not show, if there is one.
    pub(super) fn stamp_after(&self, snapshot: Sequence) -> Option<Millis> {
        let outside = self
            .commits
            .partition_point(|commit| commit.sequence <= snapshot);
        self.commits.get(outside).map(|commit| commit.stamp_ms)
    }

    /// Keeps the entries that the commit `sequence` is about to replace.
    pub(super) fn record(
        &mut self,
        sequence: Sequence,
        stamp_ms: Millis,
        replaced: impl Iterator<Item = (Bytes, Option<Entry>)>,
    ) {
        let mut commit = Forgettable {
            sequence,
            stamp_ms,
            keys: Vec::new(),
            bytes: 0,
        };
        for (key, entry) in replaced {
            commit.bytes += weight(&key, entry.as_ref());
            self.replaced
                .entry(key.clone())
                .or_default()
                .push_back((sequence, entry));
            commit.keys.push(key);
        }
        self.bytes += commit.bytes;
        self.commits.push_back(commit);
    }

    /// Drops what no snapshot sees any more; `acked` is where new ones may begin. Above the bound it
    /// also drops what is seen, and the snapshots in question are too old from then on.
    pub(super) fn forget(&mut self, acked: Sequence) {
        let needed = self
            .active
            .keys()
            .next()
            .copied()
            .unwrap_or(acked)
            .min(acked);
        while let Some(commit) = self.commits.front() {
            let is_unneeded = commit.sequence <= needed;
            let is_over_bound = self.bytes > self.max_bytes && commit.sequence <= acked;
            if !is_unneeded && !is_over_bound {
                return;
            }
            self.oldest = self.oldest.max(commit.sequence);
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        let Some(commit) = self.commits.pop_front() else {
            return;
        };
        self.bytes -= commit.bytes;
        for key in commit.keys {
            let Some(replaced) = self.replaced.get_mut(&key) else {
                continue;
            };
            replaced.pop_front();
            if replaced.is_empty() {
                self.replaced.remove(&key);
            }
        }
    }

    fn check_age(&self, snapshot: Sequence) -> Result<(), StoreError> {
        if snapshot < self.oldest {
            return Err(StoreError::TooOld {
                snapshot,
                oldest: self.oldest,
            });
        }
        Ok(())
    }
}

/// What an entry of the history costs, in bytes, about.
fn weight(key: &Bytes, entry: Option<&Entry>) -> usize {
    const NODE_BYTES: usize = 128;
    NODE_BYTES + key.len() + entry.map_or(0, |entry| entry.value.len())
}
