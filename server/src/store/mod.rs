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

pub mod embedded;
mod memory;
mod value;

use std::collections::BTreeSet;
use std::future::Future;

use bytes::Bytes;

pub use memory::{MemoryBackup, MemoryFeed, MemorySnapshot, MemoryStore};
pub use value::{joined, value};

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
    /// Removes the key because its time has come: the sweeper's way to delete.
    Expire,
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

/// A transaction's changes, in the order of keys, each key once.
pub type WriteSet = Vec<(Bytes, Write)>;

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

/// What a commit of one key is about; see [`Store::evaluate`].
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Whether the decision depends on what the key holds or on the time. Without, it may be given no
    /// entry where there is one.
    pub looks: bool,
    /// As of [`Commit::durable`].
    pub durable: bool,
}

/// One key as the newest acked commit left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peeked {
    /// That commit.
    pub sequence: Sequence,
    /// What the key holds; it never expires.
    pub entry: Option<Entry>,
}

/// An entry where it lies; see [`Store::peek_with`]. It never expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glimpse<'a> {
    /// The value.
    pub value: &'a [u8],
    /// The sequence of the commit that wrote it.
    pub version: Sequence,
}

/// What was decided on one key's newest entry.
#[derive(Clone, Debug)]
pub struct Decision<T> {
    /// What changes; `None` leaves the key as it is.
    pub write: Option<Write>,
    /// What is handed back.
    pub outcome: T,
}

/// How an evaluation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluated<T> {
    /// The commit, if something was written.
    pub committed: Option<Sequence>,
    /// The newest commit before it, which the decision has seen.
    pub seen: Sequence,
    /// What the decision handed back.
    pub outcome: T,
}

/// What one commit changed, in the order of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedChanges {
    /// The commit.
    pub sequence: Sequence,
    /// The keys with what was written.
    pub changes: Vec<(Bytes, Write)>,
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

/// A row where it lies; see [`Snapshot::visit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowGlimpse<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// When it ceases to be; 0 for never.
    pub expires_ms: Millis,
}

impl<'a> RowGlimpse<'a> {
    fn of(key: &'a [u8], entry: &'a Entry) -> Self {
        Self {
            key,
            value: &entry.value,
            expires_ms: entry.expires_ms,
        }
    }
}

/// How far a visit of rows came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visited {
    /// Before a row that was refused.
    Refused,
    /// To where it speaks for what there is; as of [`Page::reached`].
    Through(Option<Bytes>),
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
    /// More is written than the disk takes.
    #[error("the store has more to write than the disk takes: {0}")]
    Overloaded(String),
    /// The snapshot is older than the history that is kept.
    #[error("the snapshot at {snapshot} is older than the history kept, which begins at {oldest}")]
    TooOld {
        /// The sequence of the snapshot.
        snapshot: Sequence,
        /// The oldest sequence that can still be read.
        oldest: Sequence,
    },
    /// The changes that are asked for are not kept any more.
    #[error("changes behind {after} are not kept any more; the first that are follow {first}")]
    Forgotten {
        /// The sequence that was asked for.
        after: Sequence,
        /// Every change behind this one is kept.
        first: Sequence,
    },
}

/// What was committed, in order.
pub trait Feed: Send + 'static {
    /// The next commits that are acked; waits while there are none. Empty commits are left out.
    ///
    /// # Errors
    /// [`StoreError::Forgotten`] for who is too slow; the store failed or was closed.
    fn next(&mut self) -> impl Future<Output = Result<Vec<CommittedChanges>, StoreError>> + Send;
}

/// A copy of the store on its way out.
pub trait Backup: Send + 'static {
    /// The next piece, of at most 1 MiB; nothing at the end.
    ///
    /// # Errors
    /// The disk failed, or so much was written meanwhile that the copy can't be finished.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send;
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

    /// As [`Snapshot::scan`], for who takes what it needs of each row where it lies. Ends before the first row
    /// that `take` refuses.
    ///
    /// # Errors
    /// As of [`Snapshot::scan`]. What was taken of rows before is of no worth then.
    fn visit(
        &self,
        range: &KeyRange,
        is_reverse: bool,
        keys_only: bool,
        limit: PageLimit,
        mut take: impl FnMut(RowGlimpse<'_>) -> bool + Send,
    ) -> impl Future<Output = Result<Visited, StoreError>> + Send {
        async move {
            let page = self.scan(range, is_reverse, keys_only, limit).await?;
            Ok(page.visit(&mut take))
        }
    }
}

/// A store in numbers, of about one moment. Those that count begin when it is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreFigures {
    /// The newest commit that new snapshots see.
    pub visible: Sequence,
    /// The newest commit that is as durable as it was asked to be.
    pub acked: Sequence,
    /// The newest commit that is on disk.
    pub synced: Sequence,
    /// Open snapshots.
    pub snapshots: u64,
    /// Whether writes are taken.
    pub is_writable: bool,
    /// Writes in memory that the index has not, in bytes.
    pub unfolded_bytes: u64,
    /// Replaced values in memory, in bytes.
    pub history_bytes: u64,
    /// Entries of the index in memory, in bytes.
    pub cached_bytes: u64,
    /// The log's files, in bytes.
    pub log_bytes: u64,
    /// Passes that took writes to the index.
    pub folds: u64,
    /// Copies of the index that were written.
    pub bases: u64,
}

/// A store. See the head of this module for what it guarantees.
pub trait Store: Send + Sync + 'static {
    /// Its snapshots.
    type Snapshot: Snapshot;

    /// Its feeds.
    type Feed: Feed;

    /// Its backups.
    type Backup: Backup;

    /// Opens a snapshot.
    ///
    /// # Errors
    /// The store is closed.
    fn begin(
        &self,
        point: ReadPoint,
    ) -> impl Future<Output = Result<Self::Snapshot, StoreError>> + Send;

    /// What the newest acked commit left under a key, where that can be told at once: without a disk,
    /// without the time, and without a snapshot, which costs more than the look. `None` where it can't,
    /// and where the commit `at_least` is not acked yet.
    fn peek(&self, key: &[u8], at_least: Sequence) -> Option<Peeked> {
        let _ = (key, at_least);
        None
    }

    /// As [`Store::peek`], for who takes what it needs of the entry where it lies, and quickly: others who
    /// look for it may have to wait meanwhile. Answers the newest acked commit, too.
    fn peek_with<T>(
        &self,
        key: &[u8],
        at_least: Sequence,
        take: impl FnOnce(Option<Glimpse<'_>>) -> T,
    ) -> Option<(Sequence, T)> {
        let Peeked { sequence, entry } = self.peek(key, at_least)?;
        let glimpse = entry.as_ref().map(|entry| Glimpse {
            value: &entry.value,
            version: entry.version,
        });
        Some((sequence, take(glimpse)))
    }

    /// Validates and applies a commit. While too much waits for the disk it waits before it has begun;
    /// once it has a sequence it is carried out and this resolves without another wait: who stops waiting
    /// for it before has not committed.
    ///
    /// # Errors
    /// The disk failed or the store takes no writes; [`StoreError::UnknownOutcome`] where the commit
    /// may have happened.
    fn commit(
        &self,
        snapshot: Self::Snapshot,
        commit: Commit,
    ) -> impl Future<Output = Result<CommitOutcome, StoreError>> + Send;

    /// Decides on the newest entry of one key and writes what was decided, as one step: no other commit
    /// comes between, so there is no conflict. `decide` gets the entry, expired or not, the newest
    /// sequence and the time; it may be called once only.
    ///
    /// # Errors
    /// As of [`Store::commit`].
    fn evaluate<T: Send>(
        &self,
        target: Target<'_>,
        decide: impl FnMut(Option<Entry>, Sequence, Millis) -> Decision<T> + Send,
    ) -> impl Future<Output = Result<Evaluated<T>, StoreError>> + Send;

    /// As [`Store::evaluate`], where that can be done at once: `None` where something must be waited for, and
    /// where it fails. Then `decide` was not called, or nothing came of it.
    fn evaluate_at_once<T>(
        &self,
        target: Target<'_>,
        decide: impl FnMut(Option<Entry>, Sequence, Millis) -> Decision<T>,
    ) -> Option<Evaluated<T>> {
        let _ = (target, decide);
        None
    }

    /// Keys whose time has come, at most `limit`. Some may have changed since.
    ///
    /// # Errors
    /// The disk failed.
    fn expired(&self, limit: usize) -> impl Future<Output = Result<Vec<Bytes>, StoreError>> + Send;

    /// Follows what is committed behind a sequence, or from now on.
    ///
    /// # Errors
    /// [`StoreError::Forgotten`] where the sequence lies too far back.
    fn follow(
        &self,
        after: Option<Sequence>,
    ) -> impl Future<Output = Result<Self::Feed, StoreError>> + Send;

    /// Begins a copy that shows the store as it is at some moment before its end.
    ///
    /// # Errors
    /// The store is closed, or can't be copied.
    fn backup(&self) -> impl Future<Output = Result<Self::Backup, StoreError>> + Send;

    /// Waits until everything at or below `sequence` is acked.
    ///
    /// # Errors
    /// It can't be acked any more: a sync failed.
    fn acked(&self, sequence: Sequence) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Whether everything at or below `sequence` is acked already.
    fn is_acked(&self, sequence: Sequence) -> bool;

    /// The newest visible sequence.
    fn visible(&self) -> Sequence;

    /// What is known of it in numbers. It may wait for locks that are held while the disk is written.
    fn figures(&self) -> StoreFigures;

    /// Whether writes are taken.
    ///
    /// # Errors
    /// Why they are not.
    fn check_writable(&self) -> Result<(), StoreError>;

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

impl Page {
    /// Shows its rows, until one is refused.
    fn visit(self, take: &mut impl FnMut(RowGlimpse<'_>) -> bool) -> Visited {
        let mut rows = self.rows.iter();
        match rows.all(|(key, entry)| take(RowGlimpse::of(key, entry))) {
            true => Visited::Through(self.reached),
            false => Visited::Refused,
        }
    }
}

impl Write {
    /// Bytes of the key and of the value, if there is one.
    #[must_use]
    pub fn bytes(&self, key: &[u8]) -> usize {
        match self {
            Self::Put { value, .. } => key.len() + value.len(),
            Self::Delete | Self::Expire => key.len(),
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
            Self::Delete | Self::Expire => None,
        }
    }
}

impl ReadSet {
    /// Whether nothing was read, so that nothing can have changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.points.is_empty() && self.ranges.is_empty()
    }

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

/// The first key behind this one.
#[must_use]
pub fn successor(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    Bytes::from(next)
}
