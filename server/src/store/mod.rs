//! What the core asks of a store: snapshots, and commits that are validated against them.
//!
//! A store keeps versioned entries under keys, in order. A *snapshot* shows the newest entries at or
//! below its sequence. A *commit* hands in what a transaction read and wants to write; the store
//! applies it whole if nothing that was read has changed since the snapshot, and reports a
//! *conflict*, which is an outcome and not an error, otherwise.
//!
//! Two sequences tell how far the store is. The newest *visible* commit is what new snapshots see.
//! The newest *acked* commit is as durable as it was asked to be; a reply may leave the server once
//! everything it tells is acked.
//!
//! The store judges no time to live: entries carry their expiry, and the transaction above, which has
//! one `now` for all its reads, passes over expired ones. The store only stamps its commits, such
//! that a snapshot's `now` never exceeds the stamp of the first commit outside of it.

mod memory;
pub mod sled;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use bytes::Bytes;

pub use memory::{MemorySnapshot, MemoryStore};

/// The number of a commit: store-wide, ascending, never reused. 0 is before the first.
pub type Sequence = u64;

/// Milliseconds since 1970.
pub type Millis = u64;

/// Where the store's time comes from.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock. It may step; the store sees to it that its stamps do not run backwards.
    fn now_ms(&self) -> Millis;
}

/// A value with what the store knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Bytes,
    /// The sequence of the commit that wrote it.
    pub version: Sequence,
    /// When it ceases to be; 0 for never.
    pub expires_ms: Millis,
}

/// Keys from `start` on and before `end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key of the range.
    pub start: Bytes,
    /// The first key behind it.
    pub end: Bytes,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Stores a value.
    Put {
        /// The value.
        value: Bytes,
        /// When it ceases to be; 0 for never.
        expires_ms: Millis,
    },
    /// Removes the key.
    Delete,
}

/// What a transaction read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadSet {
    /// Keys that were looked up, present or absent.
    pub points: BTreeSet<Bytes>,
    /// Ranges as far as they were covered, also where nothing was found.
    pub ranges: Vec<KeyRange>,
    /// The earliest expiry among the entries read as live; 0 where none of them expires.
    pub live_until_ms: Millis,
}

/// A transaction's changes, by key.
pub type WriteSet = BTreeMap<Bytes, Write>;

/// What is handed to [`Store::commit`].
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// What must not have changed since the snapshot.
    pub reads: ReadSet,
    /// What changes.
    pub writes: WriteSet,
    /// Whether the commit must be on disk before it counts as acked; otherwise the operating system
    /// having it is enough.
    pub durable: bool,
}

/// How a commit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    /// The changes are visible, under this sequence. They are acked later.
    Committed(Sequence),
    /// Another commit touched what was read. Nothing is changed.
    Conflict,
}

/// Which moment a snapshot shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadPoint {
    /// The newest visible commit.
    Newest,
    /// The newest acked commit, or this one if it is later: reads there never wait for a sync.
    Acked(Sequence),
}

/// How much one page of a scan holds at the most.
#[derive(Clone, Copy, Debug)]
pub struct PageLimit {
    /// Rows.
    pub rows: usize,
    /// Bytes of keys and values; a page holds at least one row all the same.
    pub bytes: usize,
}

/// Rows from one end of a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Rows in the order of the scan.
    pub rows: Vec<(Bytes, Entry)>,
    /// The last key that the page speaks for, which need not be among its rows: a key may be there
    /// and too new for the snapshot. `None` where it speaks for the whole range.
    pub reached: Option<Bytes>,
}

/// Why a store can't do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk refused. Nothing was changed.
    #[error("the disk refused: {0}")]
    Storage(String),
    /// Whether the change will last can't be told.
    #[error("the sync of this change failed: {0}")]
    UnknownOutcome(String),
    /// The store takes no more writes.
    #[error("the store takes no writes: {0}")]
    Unavailable(String),
    /// The snapshot is older than the history that is kept.
    #[error("the snapshot at {snapshot} is older than the history kept, which begins at {oldest}")]
    TooOld {
        /// The sequence of the snapshot.
        snapshot: Sequence,
        /// The oldest sequence that can still be read.
        oldest: Sequence,
    },
}

/// A fixed view of a store. Dropping it lets the store forget what only it could see.
pub trait Snapshot: Send + Sync + 'static {
    /// The sequence of the newest commit in view.
    fn sequence(&self) -> Sequence;

    /// The transaction's time.
    fn now_ms(&self) -> Millis;

    /// The entry of a key, expired or not.
    ///
    /// # Errors
    /// The disk failed, or the snapshot is too old.
    fn get(&self, key: &[u8]) -> impl Future<Output = Result<Option<Entry>, StoreError>> + Send;

    /// Rows of a range in order, or from its end backwards, expired or not. With `keys_only`, values
    /// may be left empty.
    ///
    /// # Errors
    /// The disk failed, or the snapshot is too old.
    fn scan(
        &self,
        range: &KeyRange,
        is_reverse: bool,
        keys_only: bool,
        limit: PageLimit,
    ) -> impl Future<Output = Result<Page, StoreError>> + Send;
}

/// A store. See the head of this module for what it guarantees.
pub trait Store: Send + Sync + 'static {
    /// Its snapshots.
    type Snapshot: Snapshot;

    /// Opens a snapshot.
    ///
    /// # Errors
    /// The store is closed.
    fn begin(
        &self,
        point: ReadPoint,
    ) -> impl Future<Output = Result<Self::Snapshot, StoreError>> + Send;

    /// Validates and applies a commit. Once handed over it is carried out, also if the caller stops
    /// waiting for it.
    ///
    /// # Errors
    /// The disk failed or the store takes no writes; [`StoreError::UnknownOutcome`] where the commit
    /// may have happened.
    fn commit(
        &self,
        snapshot: Self::Snapshot,
        commit: Commit,
    ) -> impl Future<Output = Result<CommitOutcome, StoreError>> + Send;

    /// Waits until everything at or below `sequence` is acked.
    ///
    /// # Errors
    /// It can't be acked any more: a sync failed.
    fn acked(&self, sequence: Sequence) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Whether everything at or below `sequence` is acked already.
    fn is_acked(&self, sequence: Sequence) -> bool;

    /// The newest visible sequence.
    fn visible(&self) -> Sequence;

    /// 16 bytes that tell this store from every other.
    fn id(&self) -> [u8; 16];

    /// What holds the data, in one word.
    fn engine(&self) -> &'static str;

    /// Makes everything durable and takes no writes from then on.
    ///
    /// # Errors
    /// The disk failed.
    fn close(&self) -> impl Future<Output = Result<(), StoreError>> + Send;
}

impl Write {
    /// Bytes of the key and of the value, if there is one.
    #[must_use]
    pub fn bytes(&self, key: &[u8]) -> usize {
        match self {
            Self::Put { value, .. } => key.len() + value.len(),
            Self::Delete => key.len(),
        }
    }

    /// What the key holds once the commit of this sequence has written it.
    #[must_use]
    pub fn into_entry(self, version: Sequence) -> Option<Entry> {
        match self {
            Self::Put { value, expires_ms } => Some(Entry {
                value,
                version,
                expires_ms,
            }),
            Self::Delete => None,
        }
    }
}

impl ReadSet {
    /// Whether something that was read as live has ended at this stamp.
    #[must_use]
    pub fn has_expired(&self, stamp_ms: Millis) -> bool {
        self.live_until_ms != 0 && self.live_until_ms <= stamp_ms
    }
}

impl KeyRange {
    /// Whether the key lies in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.start <= key && key < &self.end[..]
    }

    /// Whether no key can lie in the range.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start >= self.end
    }
}
