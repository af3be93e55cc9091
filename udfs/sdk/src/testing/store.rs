//! The store in memory, and a transaction on it: a snapshot with writes on top.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

type Key = Vec<u8>;

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) value: Vec<u8>,
    /// Nothing for a key that does not expire.
    pub(super) expires_ms: Option<i64>,
    /// -1 until it is committed.
    pub(super) version: i64,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Store {
    // Shared with the transaction that runs, so that beginning one copies nothing.
    entries: Rc<BTreeMap<Key, Entry>>,
    sequence: i64,
}

#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) now_ms: i64,
    entries: Rc<BTreeMap<Key, Entry>>,
    /// Nothing for a deleted key.
    writes: BTreeMap<Key, Option<Entry>>,
}

impl Store {
    pub(super) fn begin(&self, now_ms: i64) -> Transaction {
        Transaction {
            now_ms,
            entries: Rc::clone(&self.entries),
            writes: BTreeMap::new(),
        }
    }

    pub(super) fn commit(&mut self, transaction: Transaction) {
        let Transaction {
            writes, entries, ..
        } = transaction;
        drop(entries);
        if writes.is_empty() {
            return;
        }
        self.sequence += 1;
        let entries = Rc::make_mut(&mut self.entries);
        for (key, write) in writes {
            match write {
                Some(entry) => entries.insert(
                    key,
                    Entry {
                        version: self.sequence,
                        ..entry
                    },
                ),
                None => entries.remove(&key),
            };
        }
    }
}

impl Transaction {
    pub(super) fn get(&self, key: &[u8]) -> Option<&Entry> {
        match self.writes.get(key) {
            Some(write) => write.as_ref(),
            None => self.entries.get(key).filter(|entry| self.is_live(entry)),
        }
    }

    pub(super) fn set(&mut self, key: &[u8], value: &[u8], ttl_ms: i64) {
        let expires_ms = match ttl_ms {
            ..0 => self.get(key).and_then(|entry| entry.expires_ms),
            0 => None,
            _ => Some(self.now_ms.saturating_add(ttl_ms)),
        };
        let entry = Entry {
            value: value.to_vec(),
            expires_ms,
            version: -1,
        };
        self.writes.insert(key.to_vec(), Some(entry));
    }

    pub(super) fn delete(&mut self, key: &[u8]) -> bool {
        let was_there = self.get(key).is_some();
        self.writes.insert(key.to_vec(), None);
        was_there
    }

    /// The time that a key has left, as `kv_ttl` tells it.
    pub(super) fn ttl_ms(&self, key: &[u8]) -> i64 {
        match self.get(key) {
            None => -1,
            Some(entry) => entry
                .expires_ms
                .map_or(0, |expires_ms| expires_ms - self.now_ms),
        }
    }

    /// The first live key of a range, or the last.
    pub(super) fn next(&self, range: &Range, reverse: bool) -> Option<(&Key, &Entry)> {
        if range.is_empty() {
            return None;
        }
        let written = self.writes.range::<[u8], _>(range.bounds());
        let mut written = written.filter_map(|(key, write)| Some((key, write.as_ref()?)));
        let stored = self.entries.range::<[u8], _>(range.bounds());
        let mut stored =
            stored.filter(|(key, entry)| !self.writes.contains_key(*key) && self.is_live(entry));
        if reverse {
            let both = [written.next_back(), stored.next_back()];
            both.into_iter().flatten().max_by_key(|(key, _)| *key)
        } else {
            let both = [written.next(), stored.next()];
            both.into_iter().flatten().min_by_key(|(key, _)| *key)
        }
    }

    fn is_live(&self, entry: &Entry) -> bool {
        entry
            .expires_ms
            .is_none_or(|expires_ms| expires_ms > self.now_ms)
    }
}

/// The keys that a scan has still to go through.
#[derive(Debug, Clone)]
pub(super) struct Range {
    pub(super) start: Bound<Key>,
    pub(super) end: Bound<Key>,
}

impl Range {
    pub(super) fn new(start: &[u8], end: &[u8]) -> Self {
        let end = if end.is_empty() {
            Bound::Unbounded
        } else {
            Bound::Excluded(end.to_vec())
        };
        Self {
            start: Bound::Included(start.to_vec()),
            end,
        }
    }

    fn is_empty(&self) -> bool {
        match (&self.start, &self.end) {
            (Bound::Included(start), Bound::Excluded(end))
            | (Bound::Excluded(start), Bound::Excluded(end)) => start >= end,
            _ => false,
        }
    }

    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (
            self.start.as_ref().map(Vec::as_slice),
            self.end.as_ref().map(Vec::as_slice),
        )
    }
}
