//! What the store has in memory of each key: every version that a snapshot may see and sled has not,
//! and, within a bound, versions that sled has too, as a cache.
//!
//! ```text
//!   shard (by the key's hash)                        order (by key)
//!     slots: key, newest version, older versions       the keys that have something sled has not
//! ```
//!
//! A slot is *unfolded* while its newest version is not in sled. It is *whole* if nothing that can be
//! read lies below its oldest version, so that nobody needs to ask sled. Slots that are whole and
//! folded are the cache, and go when it is full, the ones not looked at lately first.
//!
//! Why a value that was read from sled may be cached without asking whether it is still current: the
//! reader's snapshot is open. Whatever is folded while it is open was committed at or below it, was
//! therefore in memory before the snapshot began, and would have been found there.

use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::key::Key;
use super::order::{Order, Pass};
use super::snapshots::Views;
use crate::bugs::{Bug, is_seeded};
use crate::store::{Entry, Glimpse, KeyRange, Millis, Sequence};

/// Parts of the map, each with a lock of its own: many beside the threads that a server runs, and each
/// small, since one that grows moves its slots while others wait.
const MAX_SHARDS: usize = 256;

/// A small cache has fewer parts, so that each has room for a few entries.
const MIN_SHARDS: usize = 64;

/// The room of a part below which there are fewer of them.
const SHARD_CACHE_BYTES: usize = 1 << 10;

/// What a slot costs beside a long key and its value: the slot, its place in the table, and the head of
/// the value.
const SLOT_BYTES: usize = 208;

/// What an older version costs beside its value.
const VERSION_BYTES: usize = 80;

/// Slots that the search for a place in the cache looks at, before it lets the cache grow by one.
const MAX_EVICTION_STEPS: usize = 64;

/// Older versions of one slot that are kept before it is worth asking who sees them.
const PRUNE_AT: u32 = 8;

/// One version of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// The commit that wrote it; 0 for an absence of which nothing more is known.
    pub(super) sequence: Sequence,
    pub(super) expires_ms: Millis,
    /// `None` where the key is absent.
    pub(super) value: Option<Bytes>,
}

/// What the memory knows of a key at a snapshot.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// This is what the snapshot sees.
    Seen(Option<Entry>),
    /// sled has it.
    InIndex,
}

struct Slot {
    key: Key,
    newest: Version,
    /// Versions before the newest, oldest first.
    older: Vec<Version>,
    /// How many older versions there may be before they are looked through.
    prune_at: u32,
    is_unfolded: bool,
    is_whole: bool,
    /// Whether it was read since the search for places last passed.
    is_touched: bool,
}

#[derive(Default)]
struct Shard {
    slots: HashTable<Slot>,
    /// The place in the table that the search for places has come to.
    hand: usize,
    cached_bytes: usize,
}

/// The versions of all keys.
pub(super) struct Versions {
    hasher: DefaultHashBuilder,
    shards: Box<[Mutex<Shard>]>,
    /// Keys of unfolded slots.
    order: Order,
    /// Unfolded slots that expire, by when.
    expiring: Mutex<BTreeSet<(Millis, Key)>>,
    max_cached_bytes: usize,
    unfolded_bytes: AtomicUsize,
    older_bytes: AtomicUsize,
}

/// What a fold takes to sled.
pub(super) struct Unfolded {
    pub(super) key: Key,
    pub(super) version: Version,
}

impl Unfolded {
    pub(super) fn parts(&self) -> (&[u8], &Version) {
        (&self.key, &self.version)
    }
}

impl Version {
    pub(super) fn entry(&self) -> Option<Entry> {
        self.value.as_ref().map(|value| Entry {
            value: value.clone(),
            version: self.sequence,
            expires_ms: self.expires_ms,
        })
    }

    fn bytes(&self) -> usize {
        self.value.as_ref().map_or(0, Bytes::len)
    }
}

impl From<Option<Entry>> for Version {
    fn from(entry: Option<Entry>) -> Self {
        match entry {
            Some(entry) => Self {
                sequence: entry.version,
                expires_ms: entry.expires_ms,
                value: Some(entry.value),
            },
            None => Self {
                sequence: 0,
                expires_ms: 0,
                value: None,
            },
        }
    }
}

impl Slot {
    /// A slot with what was written just now, or found in the index.
    fn new(key: Key, newest: Version, is_unfolded: bool) -> Self {
        Self {
            key,
            newest,
            older: Vec::new(),
            prune_at: PRUNE_AT,
            is_unfolded,
            is_whole: !is_unfolded,
            is_touched: false,
        }
    }

    fn touch(&mut self) {
        // Most are touched already, and a write would take the line from other readers.
        if !self.is_touched {
            self.is_touched = true;
        }
    }

    fn bytes(&self) -> usize {
        SLOT_BYTES + self.key.heap_bytes() + self.newest.bytes()
    }

    fn seen_at(&self, snapshot: Sequence) -> Option<&Version> {
        if self.newest.sequence <= snapshot {
            return Some(&self.newest);
        }
        let seen = self.older.iter().rev();
        seen.into_iter()
            .find(|version| version.sequence <= snapshot)
    }

    /// When it expires, if sled's index of expiries does not know it yet.
    fn unfolded_expiry(&self) -> Option<Millis> {
        let is_expiring =
            self.is_unfolded && self.newest.value.is_some() && self.newest.expires_ms != 0;
        is_expiring.then_some(self.newest.expires_ms)
    }
}

impl Versions {
    pub(super) fn new(max_cached_bytes: usize) -> Self {
        let shards = (max_cached_bytes / SHARD_CACHE_BYTES).clamp(MIN_SHARDS, MAX_SHARDS);
        // So that a mask finds the part, and no division.
        let shards = shards.next_power_of_two();
        Self {
            hasher: DefaultHashBuilder::default(),
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            order: Order::default(),
            expiring: Mutex::default(),
            max_cached_bytes: max_cached_bytes / shards,
            unfolded_bytes: AtomicUsize::new(0),
            older_bytes: AtomicUsize::new(0),
        }
    }

    /// Bytes of what sled has not.
    pub(super) fn unfolded_bytes(&self) -> usize {
        self.unfolded_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of versions that only older snapshots see.
    pub(super) fn older_bytes(&self) -> usize {
        self.older_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of what the index has, too. It looks at one part after the other.
    pub(super) fn cached_bytes(&self) -> usize {
        let parts = self.shards.iter();
        let shards = parts.map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner));
        shards.map(|shard| shard.cached_bytes).sum()
    }

    /// What a snapshot sees under a key.
    pub(super) fn get(&self, key: &[u8], snapshot: Sequence) -> Known {
        let (hash, mut shard) = self.shard(key);
        let Some(slot) = shard.find(hash, key) else {
            return Known::InIndex;
        };
        slot.touch();
        match slot.seen_at(snapshot) {
            Some(version) => Known::Seen(version.entry()),
            // Nothing older can be read, so the key was not there.
            None if slot.is_whole => Known::Seen(None),
            None => Known::InIndex,
        }
    }

    /// What a key holds, if its newest version is not above the sequence and never expires.
    pub(super) fn peek(&self, key: &[u8], sequence: Sequence) -> Option<Option<Entry>> {
        let (hash, mut shard) = self.shard(key);
        let slot = shard.find(hash, key)?;
        slot.touch();
        let newest = &slot.newest;
        (newest.sequence <= sequence && newest.expires_ms == 0).then(|| newest.entry())
    }

    /// The same, for who takes what it needs while the slot can't change.
    pub(super) fn peek_with<T>(
        &self,
        key: &[u8],
        sequence: Sequence,
        take: impl FnOnce(Option<Glimpse<'_>>) -> T,
    ) -> Option<T> {
        let (hash, mut shard) = self.shard(key);
        let slot = shard.find(hash, key)?;
        slot.touch();
        let newest = &slot.newest;
        if newest.sequence > sequence || newest.expires_ms != 0 {
            return None;
        }
        Some(take(newest.value.as_deref().map(|value| Glimpse {
            value,
            version: newest.sequence,
        })))
    }

    /// The newest version of a key, if the memory has it.
    pub(super) fn newest(&self, key: &[u8]) -> Option<Version> {
        let (hash, mut shard) = self.shard(key);
        shard.find(hash, key).map(|slot| slot.newest.clone())
    }

    /// The sequence of the newest version of a key; 0 where only sled may know it.
    pub(super) fn newest_sequence(&self, key: &[u8]) -> Sequence {
        let (hash, mut shard) = self.shard(key);
        shard.find(hash, key).map_or(0, |slot| slot.newest.sequence)
    }

    /// Whether a key of the range has a version above the sequence.
    pub(super) fn is_range_newer(&self, range: &KeyRange, snapshot: Sequence) -> bool {
        if range.is_empty() {
            return false;
        }
        // A few at a time: most ranges that were written to show it at once.
        const STEP_KEYS: usize = 512;
        let (mut start, end) = (range.start.clone(), Bound::Excluded(&range.end[..]));
        let mut is_first = true;
        loop {
            let from = match is_first {
                true => Bound::Included(&start[..]),
                false => Bound::Excluded(&start[..]),
            };
            let keys = self.order.keys((from, end), false, STEP_KEYS);
            if keys.iter().any(|key| self.newest_sequence(key) > snapshot) {
                return true;
            }
            match keys.last() {
                Some(last) if keys.len() == STEP_KEYS => start = last.to_bytes(),
                _ => return false,
            }
            is_first = false;
        }
    }

    /// The range's keys that may be unfolded, in the scan's order, at most `limit`; and whether that is
    /// all.
    pub(super) fn unfolded_keys(
        &self,
        range: &KeyRange,
        is_reverse: bool,
        limit: usize,
    ) -> (Vec<Key>, bool) {
        let mut keys = self.order.keys(bounds(range), is_reverse, limit + 1);
        let is_all = keys.len() <= limit;
        keys.truncate(limit);
        (keys, is_all)
    }

    /// Brings what memory has of a key near the processor: a writer who does that first waits for memory
    /// before it has the commit section, and not in it.
    pub(super) fn approach(&self, key: &[u8]) {
        let (hash, mut shard) = self.shard(key);
        if let Some(slot) = shard.find(hash, key) {
            slot.touch();
        }
    }

    /// Puts a new version on top. The caller is the only writer. Answers what need not be kept, to be
    /// dropped where it holds nobody up.
    pub(super) fn put(&self, key: &[u8], version: Version, views: &Views<'_>) -> Option<Version> {
        let (hash, mut shard) = self.shard(key);
        let Some(slot) = shard.find(hash, key) else {
            let key = Key::from(key);
            let slot = Slot::new(key.clone(), version, true);
            self.unfolded_bytes
                .fetch_add(slot.bytes(), Ordering::Relaxed);
            let expiry = slot.unfolded_expiry();
            shard.insert(hash, slot, &self.hasher);
            drop(shard);
            self.set_expiry(&key, None, expiry);
            self.order.add(key);
            return None;
        };
        let was_unfolded = slot.is_unfolded;
        let old_expiry = slot.unfolded_expiry();
        let old_bytes = slot.bytes();
        let old = std::mem::replace(&mut slot.newest, version);
        slot.is_unfolded = true;
        let new_bytes = slot.bytes();
        let expiry = slot.unfolded_expiry();
        if was_unfolded {
            let dropped = self.push_older(slot, old, views);
            self.unfolded_bytes.fetch_add(new_bytes, Ordering::Relaxed);
            self.unfolded_bytes.fetch_sub(old_bytes, Ordering::Relaxed);
            if old_expiry != expiry {
                let key = slot.key.clone();
                drop(shard);
                self.set_expiry(&key, old_expiry, expiry);
            }
            return dropped;
        }
        // Who may still see the old version finds it in the index.
        slot.is_whole = is_seeded(Bug::KeepWhole);
        let key = slot.key.clone();
        self.unfolded_bytes.fetch_add(new_bytes, Ordering::Relaxed);
        shard.cached_bytes = shard.cached_bytes.saturating_sub(old_bytes);
        drop(shard);
        self.set_expiry(&key, None, expiry);
        if !is_seeded(Bug::LostOrderEntry) {
            self.order.add(key);
        }
        Some(old)
    }

    fn push_older(&self, slot: &mut Slot, old: Version, views: &Views<'_>) -> Option<Version> {
        let needed = match is_seeded(Bug::ForgetOlderVersions) {
            true => Sequence::MAX,
            false => views.needed(),
        };
        if slot.newest.sequence <= needed {
            // Nobody looks back at all, as while a log is done again.
            let freed = clear(&mut slot.older);
            if freed > 0 {
                self.older_bytes.fetch_sub(freed, Ordering::Relaxed);
            }
            return Some(old);
        }
        let mut freed = 0;
        let mut dropped = None;
        if old.sequence <= needed {
            // Nobody looks further back than this one.
            dropped = slot.older.pop();
            freed += dropped.as_ref().map_or(0, weight) + clear(&mut slot.older);
        }
        let added = weight(&old);
        if slot.older.capacity() == 0 {
            // Most have one.
            slot.older.reserve_exact(1);
        }
        slot.older.push(old);
        if slot.older.len() > slot.prune_at as usize {
            freed += views.prune(&mut slot.older, slot.newest.sequence, weight);
            let next = u32::try_from(slot.older.len() * 2).unwrap_or(u32::MAX);
            slot.prune_at = next.max(PRUNE_AT);
        }
        if added > freed {
            self.older_bytes.fetch_add(added - freed, Ordering::Relaxed);
        } else if freed > added {
            self.older_bytes.fetch_sub(freed - added, Ordering::Relaxed);
        }
        dropped
    }

    /// Keeps what a reader found in sled. Its snapshot must still be open: see the head of this file.
    pub(super) fn fill(&self, key: &[u8], found: Option<&Entry>, is_open: impl FnOnce() -> bool) {
        let (hash, mut shard) = self.shard(key);
        // A snapshot that was given up shows nothing reliable; with the lock held, none that is needed
        // here is given up without anyone noticing.
        if let Some(slot) = shard.find(hash, key) {
            if is_seeded(Bug::StaleCacheFill) {
                let before = slot.bytes();
                slot.newest = Version::from(found.cloned());
                if slot.is_unfolded {
                    self.unfolded_bytes
                        .fetch_add(slot.bytes(), Ordering::Relaxed);
                    self.unfolded_bytes.fetch_sub(before, Ordering::Relaxed);
                }
            }
            return;
        }
        if !is_open() {
            return;
        }
        let slot = Slot::new(Key::from(key), Version::from(found.cloned()), false);
        let bytes = slot.bytes();
        // One key should not empty a part of the cache.
        if bytes > self.max_cached_bytes / 4 {
            return;
        }
        shard.cached_bytes += bytes;
        shard.insert(hash, slot, &self.hasher);
        shard.evict(self.max_cached_bytes);
    }

    /// All keys that were unfolded before, to be folded.
    pub(super) fn begin_pass(&self) -> Pass {
        self.order.pass()
    }

    /// Ends a pass: what could not be folded is left for the next.
    pub(super) fn finish_pass(&self, pass: Pass) {
        // A commit adds a key to the order after its slot has become unfolded: so whoever is not seen
        // here is added later.
        self.order.finish(pass, |key| {
            let (hash, mut shard) = self.shard(key);
            shard.find(hash, key).is_some_and(|slot| slot.is_unfolded)
        });
    }

    /// Keeps what is unfolded in few pieces, for those who scan.
    pub(super) fn merge_runs(&self) {
        self.order.merge_runs();
    }

    /// The version of a key to take to sled: the newest that every snapshot from `needed` on may see.
    pub(super) fn to_fold(&self, key: &Key, needed: Sequence) -> Option<Unfolded> {
        let (hash, mut shard) = self.shard(key);
        let slot = shard.find(hash, key).filter(|slot| slot.is_unfolded)?;
        let version = slot.seen_at(needed)?.clone();
        Some(Unfolded {
            key: key.clone(),
            version,
        })
    }

    /// Takes note that sled has these versions.
    pub(super) fn folded(&self, batch: &[Unfolded]) {
        for Unfolded { key, version } in batch {
            let (hash, mut shard) = self.shard(key);
            let Some(slot) = shard.find(hash, key) else {
                continue;
            };
            let below = slot
                .older
                .iter()
                .position(|older| older.sequence >= version.sequence)
                .unwrap_or(slot.older.len());
            let freed: usize = slot.older.drain(..below).map(|it| weight(&it)).sum();
            self.older_bytes.fetch_sub(freed, Ordering::Relaxed);
            slot.is_whole = true;
            if slot.newest.sequence != version.sequence {
                continue;
            }
            let expiry = slot.unfolded_expiry();
            slot.is_unfolded = false;
            slot.older = Vec::new();
            let bytes = slot.bytes();
            self.unfolded_bytes.fetch_sub(bytes, Ordering::Relaxed);
            shard.cached_bytes += bytes;
            shard.evict(self.max_cached_bytes);
            // With the lock held: a version that comes next may expire at the same moment.
            self.set_expiry(key, expiry, None);
        }
    }

    /// Unfolded keys that have expired, as far as the memory knows.
    pub(super) fn expired(&self, now_ms: Millis, limit: usize) -> Vec<Bytes> {
        let expiring = self.expiring.lock().unwrap_or_else(PoisonError::into_inner);
        let due = expiring
            .iter()
            .take_while(|(expires_ms, _)| *expires_ms <= now_ms);
        due.take(limit).map(|(_, key)| key.to_bytes()).collect()
    }

    fn set_expiry(&self, key: &Key, old: Option<Millis>, new: Option<Millis>) {
        if old == new {
            return;
        }
        let mut expiring = self.expiring.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = old {
            expiring.remove(&(old, key.clone()));
        }
        if let Some(new) = new {
            expiring.insert((new, key.clone()));
        }
    }

    /// Which of so many parts of the keys this one is in, where that is a power of two below the number
    /// of shards: keys of different parts never share one.
    pub(super) fn part(&self, key: &[u8], parts: usize) -> usize {
        place(self.hasher.hash_one(key), parts)
    }

    fn shard(&self, key: &[u8]) -> (u64, MutexGuard<'_, Shard>) {
        let hash = self.hasher.hash_one(key);
        let at = place(hash, self.shards.len());
        let shard = self.shards.get(at).expect("their number is a power of two");
        (hash, shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shard {
    fn find(&mut self, hash: u64, key: &[u8]) -> Option<&mut Slot> {
        self.slots.find_mut(hash, |slot| slot.key[..] == *key)
    }

    fn insert(&mut self, hash: u64, new: Slot, hasher: &DefaultHashBuilder) {
        self.slots
            .insert_unique(hash, new, |slot| hasher.hash_one(&slot.key[..]));
    }

    /// Lets go of what was not looked at lately, until the cache is within its bound.
    fn evict(&mut self, max_cached_bytes: usize) {
        let mut steps = 0;
        while self.cached_bytes > max_cached_bytes && steps < MAX_EVICTION_STEPS {
            steps += 1;
            self.hand += 1;
            if self.hand >= self.slots.num_buckets() {
                self.hand = 0;
            }
            let Ok(mut place) = self.slots.get_bucket_entry(self.hand) else {
                continue;
            };
            let slot = place.get_mut();
            if slot.is_unfolded || std::mem::take(&mut slot.is_touched) {
                continue;
            }
            let bytes = slot.bytes();
            self.cached_bytes = self.cached_bytes.saturating_sub(bytes);
            place.remove();
        }
    }
}

/// One of a number of places, which is a power of two.
fn place(hash: u64, places: usize) -> usize {
    // The table uses the low and the topmost bits.
    (hash >> 40) as usize & (places - 1)
}

fn weight(version: &Version) -> usize {
    VERSION_BYTES + version.bytes()
}

fn clear(older: &mut Vec<Version>) -> usize {
    older.drain(..).map(|version| weight(&version)).sum()
}

fn bounds(range: &KeyRange) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (
        Bound::Included(&range.start[..]),
        Bound::Excluded(&range.end[..]),
    )
}
