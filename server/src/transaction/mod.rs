//! Transactions: reads recorded, writes buffered, one commit.
//!
//! A transaction reads a snapshot and, before it, its own writes. It records every key that it looks
//! up and every range as far as it covers it, also where it finds nothing, so that the store can tell
//! at the commit whether any of it has changed. What a savepoint undoes stays in the read set: the
//! decision to undo was made on what was read.
//!
//! Here, once for every store, lie the time to live, the bounds on what one transaction may write,
//! and the place of user keys in the store: behind one byte that no user range can leave.

mod attempt;
mod keyspace;
mod point;
mod scan;

use std::collections::{BTreeMap, BTreeSet, btree_map};

use bytes::Bytes;

use crate::bugs::{Bug, is_seeded};
use crate::store::{Commit, Entry, Millis, ReadSet, Sequence, Snapshot, StoreError, Write};

pub use attempt::{Coordinator, Permit};
pub use keyspace::{Keyspace, prefix_end};
pub use point::PointSnapshot;
pub use scan::{Row, Scan, ScanOrder};

/// What one transaction may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteLimits {
    /// Keys.
    pub keys: usize,
    /// Bytes of keys and values together.
    pub bytes: usize,
}

/// A key's time to live, as a write asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeToLive {
    /// None: the key stays.
    Forever,
    /// From the transaction's time on.
    For(Millis),
    /// What the key has.
    Kept,
}

/// A live value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// The value.
    pub value: Bytes,
    /// Its version; `None` if this transaction wrote it.
    pub version: Option<Sequence>,
    /// Milliseconds that it has left; `None` if it does not expire.
    pub ttl_ms: Option<Millis>,
}

/// Why a transaction can't do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum TransactionError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bound on what is recorded as read.
    #[error("the transaction would read more than {limit} keys and ranges")]
    TooManyReads {
        /// The bound.
        limit: usize,
    },
    /// The write limits.
    #[error("the transaction would write {what}, and may write {limit}")]
    TooLarge {
        /// What it would write, with its unit.
        what: String,
        /// The limit.
        limit: usize,
    },
    /// A write in a transaction that may not.
    #[error("a read-only call may not write")]
    ReadOnly,
    /// An increment of something else than a number.
    #[error("{0}")]
    NotANumber(String),
}

/// A place in a transaction to return to.
#[derive(Clone, Copy, Debug)]
pub struct Savepoint {
    /// What was noted to be undone before it.
    noted: usize,
    /// Whether nothing was written before it, so that to undo is to forget every write.
    is_first: bool,
}

/// One transaction over a snapshot.
pub struct Transaction<S> {
    snapshot: S,
    reads: ReadSet,
    writes: BTreeMap<Bytes, Write>,
    /// What each write since the first savepoint behind a write replaced in `writes`, in order: played backwards,
    /// it undoes. Most transactions have no such savepoint.
    undo: Vec<(Bytes, Option<Write>)>,
    /// Keys in `undo` since the last savepoint: what they held at it is known already.
    undoable: BTreeSet<Bytes>,
    /// Whether there is a place to return to behind a write.
    has_savepoint: bool,
    written_bytes: usize,
    limits: WriteLimits,
    is_read_only: bool,
    /// Keys and ranges that may be recorded as read.
    max_reads: usize,
}

impl<S: Snapshot> Transaction<S> {
    /// A transaction that has read and written nothing.
    pub fn new(snapshot: S, limits: WriteLimits) -> Self {
        Self {
            snapshot,
            reads: ReadSet::default(),
            writes: BTreeMap::new(),
            undo: Vec::new(),
            undoable: BTreeSet::new(),
            has_savepoint: false,
            written_bytes: 0,
            limits,
            is_read_only: false,
            max_reads: usize::MAX,
        }
    }

    /// The same transaction with a bound on the keys and ranges that it may read.
    #[must_use]
    pub fn with_max_reads(self, max_reads: usize) -> Self {
        Self { max_reads, ..self }
    }

    /// The sequence of the snapshot.
    pub fn sequence(&self) -> Sequence {
        self.snapshot.sequence()
    }

    /// The transaction's time: every time to live is judged by it.
    pub fn now_ms(&self) -> Millis {
        self.snapshot.now_ms()
    }

    /// Whether there is something to commit.
    pub fn has_writes(&self) -> bool {
        !self.writes.is_empty()
    }

    /// Bytes of keys and values that it would write.
    pub fn written_bytes(&self) -> usize {
        self.written_bytes
    }

    /// Replaces the write limits; answers what they were.
    pub fn set_limits(&mut self, limits: WriteLimits) -> WriteLimits {
        std::mem::replace(&mut self.limits, limits)
    }

    /// Forbids or allows writes; answers whether they were forbidden.
    pub fn set_read_only(&mut self, is_read_only: bool) -> bool {
        std::mem::replace(&mut self.is_read_only, is_read_only)
    }

    /// The live value of a key.
    ///
    /// # Errors
    /// The store failed.
    pub async fn get(&mut self, key: &[u8]) -> Result<Option<Live>, TransactionError> {
        self.lookup(&Keyspace::Data.key(key)).await
    }

    /// The value that the key had before this transaction.
    ///
    /// # Errors
    /// The store failed.
    pub async fn get_before(&mut self, key: &[u8]) -> Result<Option<Live>, TransactionError> {
        let key = Keyspace::Data.key(key);
        let entry = self.read(&key).await?;
        Ok(entry.map(|entry| self.live(&entry)))
    }

    /// Stores a value.
    ///
    /// # Errors
    /// The write limits, or the store failed.
    pub async fn set(
        &mut self,
        key: &[u8],
        value: Bytes,
        ttl: TimeToLive,
    ) -> Result<(), TransactionError> {
        let key = Keyspace::Data.key(key);
        let expires_ms = match ttl {
            TimeToLive::Forever => 0,
            TimeToLive::For(ttl_ms) => self.now_ms().saturating_add(ttl_ms.max(1)),
            TimeToLive::Kept => self.expiry(&key).await?,
        };
        self.write(key, Write::Put { value, expires_ms })
    }

    /// Deletes a key; answers whether it was there.
    ///
    /// # Errors
    /// The write limits, or the store failed.
    pub async fn delete(&mut self, key: &[u8]) -> Result<bool, TransactionError> {
        let key = Keyspace::Data.key(key);
        let found = self.lookup(&key).await?;
        if is_seeded(Bug::UnrecordedDelete) {
            self.reads.points.remove(&key);
        }
        if found.is_none() {
            self.check_writable()?;
            return Ok(false);
        }
        self.write(key, Write::Delete)?;
        Ok(true)
    }

    /// Gives a key a time to live, or takes it away; answers whether the key is there.
    ///
    /// # Errors
    /// The write limits, or the store failed.
    pub async fn expire(&mut self, key: &[u8], ttl: TimeToLive) -> Result<bool, TransactionError> {
        let Some(live) = self.get(key).await? else {
            self.check_writable()?;
            return Ok(false);
        };
        self.set(key, live.value, ttl).await?;
        Ok(true)
    }

    /// The number that a key would hold after adding `delta`; an absent key holds 0.
    ///
    /// # Errors
    /// The value is no number, or the sum is none that fits; or the store failed.
    pub async fn sum(&mut self, key: &[u8], delta: i64) -> Result<i64, TransactionError> {
        let number = match self.get(key).await? {
            None => 0,
            Some(live) => parse_number(&live.value)?,
        };
        number.checked_add(delta).ok_or_else(|| {
            TransactionError::NotANumber(format!(
                "{number} plus {delta} does not fit into 64 bits with a sign"
            ))
        })
    }

    /// Adds `delta` to the number that a key holds as decimal text, and keeps its expiry.
    ///
    /// # Errors
    /// As of [`Transaction::sum`] and [`Transaction::set`].
    pub async fn incr(&mut self, key: &[u8], delta: i64) -> Result<i64, TransactionError> {
        let sum = self.sum(key, delta).await?;
        self.set(key, Bytes::from(sum.to_string()), TimeToLive::Kept)
            .await?;
        Ok(sum)
    }

    /// A record of the server's own.
    ///
    /// # Errors
    /// The store failed.
    pub async fn record(
        &mut self,
        keyspace: Keyspace,
        name: &[u8],
    ) -> Result<Option<Bytes>, TransactionError> {
        let found = self.lookup(&keyspace.key(name)).await?;
        Ok(found.map(|live| live.value))
    }

    /// Writes a record of the server's own, which no limit on users' writes counts.
    pub fn set_record(&mut self, keyspace: Keyspace, name: &[u8], record: Option<Bytes>) {
        let write = match record {
            Some(value) => Write::Put {
                value,
                expires_ms: 0,
            },
            None => Write::Delete,
        };
        self.put(keyspace.key(name), write);
    }

    /// A place to return to.
    pub fn savepoint(&mut self) -> Savepoint {
        let is_first = self.writes.is_empty();
        self.undoable.clear();
        self.has_savepoint |= !is_first;
        Savepoint {
            noted: self.undo.len(),
            is_first,
        }
    }

    /// Whether anything was written since the savepoint.
    pub fn has_changed_since(&self, savepoint: Savepoint) -> bool {
        match savepoint.is_first {
            true => !self.writes.is_empty(),
            false => self.undo.len() > savepoint.noted,
        }
    }

    /// Undoes every write since the savepoint. What was read stays read.
    pub fn undo_to(&mut self, savepoint: Savepoint) {
        if is_seeded(Bug::UndoNothing) {
            return;
        }
        self.undoable.clear();
        if savepoint.is_first {
            self.writes.clear();
            self.undo.clear();
            self.written_bytes = 0;
            self.has_savepoint = false;
            return;
        }
        while self.undo.len() > savepoint.noted {
            let Some((key, before)) = self.undo.pop() else {
                return;
            };
            let undone = match before {
                Some(write) => {
                    self.written_bytes += write.bytes(&key);
                    self.writes.insert(key.clone(), write)
                }
                None => self.writes.remove(&key),
            };
            self.written_bytes -= undone.map_or(0, |write| write.bytes(&key));
        }
    }

    /// Forgets what was read, as no transaction should: for a bug that is planted.
    pub(crate) fn forget_reads(&mut self) {
        self.reads = ReadSet::default();
    }

    /// What to commit, and against which snapshot.
    pub fn into_commit(self, is_durable: bool) -> (S, Commit) {
        let mut reads = self.reads;
        if is_seeded(Bug::DropPoints) {
            reads.points.clear();
        }
        if is_seeded(Bug::DropRanges) {
            reads.ranges.clear();
        }
        if is_seeded(Bug::IgnoreExpiryAtCommit) {
            reads.live_until_ms = 0;
        }
        let commit = Commit {
            reads,
            writes: self.writes.into_iter().collect(),
            durable: is_durable,
        };
        (self.snapshot, commit)
    }

    async fn lookup(&mut self, key: &Bytes) -> Result<Option<Live>, TransactionError> {
        if let Some(write) = self.writes.get(key)
            && !is_seeded(Bug::GetWithoutOwnWrites)
        {
            return Ok(own(write, self.snapshot.now_ms()));
        }
        let entry = self.read(key).await?;
        Ok(entry.map(|entry| self.live(&entry)))
    }

    /// Reads the snapshot, and records it.
    async fn read(&mut self, key: &Bytes) -> Result<Option<Entry>, TransactionError> {
        let entry = self.snapshot.get(key).await?;
        if !self.reads.points.contains(key) {
            self.check_reads()?;
            self.reads.points.insert(key.clone());
        }
        let mut now_ms = self.now_ms();
        if is_seeded(Bug::LateExpiryInGet) {
            now_ms = now_ms.saturating_sub(40);
        }
        let live = entry.filter(|entry| is_live(entry.expires_ms, now_ms));
        if let Some(entry) = &live {
            self.record_expiry(entry.expires_ms);
        }
        Ok(live)
    }

    fn check_reads(&self) -> Result<(), TransactionError> {
        if self.reads.points.len() + self.reads.ranges.len() >= self.max_reads {
            return Err(TransactionError::TooManyReads {
                limit: self.max_reads,
            });
        }
        Ok(())
    }

    fn record_expiry(&mut self, expires_ms: Millis) {
        let until = &mut self.reads.live_until_ms;
        if expires_ms != 0 && (*until == 0 || expires_ms < *until) {
            *until = expires_ms;
        }
    }

    fn live(&self, entry: &Entry) -> Live {
        Live {
            value: entry.value.clone(),
            version: Some(entry.version),
            ttl_ms: remaining(entry.expires_ms, self.now_ms()),
        }
    }

    async fn expiry(&mut self, key: &Bytes) -> Result<Millis, TransactionError> {
        let ttl_ms = self.lookup(key).await?.and_then(|live| live.ttl_ms);
        Ok(ttl_ms.map_or(0, |ttl_ms| self.now_ms().saturating_add(ttl_ms)))
    }

    fn check_writable(&self) -> Result<(), TransactionError> {
        if self.is_read_only {
            return Err(TransactionError::ReadOnly);
        }
        Ok(())
    }

    fn write(&mut self, key: Bytes, write: Write) -> Result<(), TransactionError> {
        self.check_writable()?;
        let replaced = self.writes.get(&key);
        let freed = replaced.map_or(0, |write| write.bytes(&key));
        let keys = self.writes.len() + usize::from(replaced.is_none());
        let bytes = self.written_bytes - freed + write.bytes(&key);
        if keys > self.limits.keys {
            let what = format!("{keys} keys");
            return Err(TransactionError::TooLarge {
                what,
                limit: self.limits.keys,
            });
        }
        if bytes > self.limits.bytes {
            let what = format!("{bytes} bytes");
            return Err(TransactionError::TooLarge {
                what,
                limit: self.limits.bytes,
            });
        }
        self.put(key, write);
        Ok(())
    }

    fn put(&mut self, key: Bytes, write: Write) {
        self.written_bytes += write.bytes(&key);
        let undoable = self.has_savepoint.then(|| key.clone());
        let replaced = match self.writes.entry(key) {
            btree_map::Entry::Occupied(mut place) => {
                self.written_bytes -= place.get().bytes(place.key());
                Some(place.insert(write))
            }
            btree_map::Entry::Vacant(place) => {
                place.insert(write);
                None
            }
        };
        if let Some(key) = undoable
            && self.undoable.insert(key.clone())
        {
            self.undo.push((key, replaced));
        }
    }
}

/// Decimal text as a number, as Redis reads it: an optional minus, no leading zeros, nothing else.
///
/// # Errors
/// Anything else.
pub fn parse_number(value: &[u8]) -> Result<i64, TransactionError> {
    let number = std::str::from_utf8(value).ok().and_then(|text| {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let is_canonical = text == "0" || digits.starts_with(|digit| ('1'..='9').contains(&digit));
        is_canonical.then(|| text.parse().ok()).flatten()
    });
    number.ok_or_else(|| {
        let shown = String::from_utf8_lossy(value.get(..32).unwrap_or(value)).into_owned();
        TransactionError::NotANumber(format!(
            "the value {shown:?} is not a decimal number of 64 bits"
        ))
    })
}

fn is_live(expires_ms: Millis, now_ms: Millis) -> bool {
    expires_ms == 0 || expires_ms > now_ms
}

fn remaining(expires_ms: Millis, now_ms: Millis) -> Option<Millis> {
    (expires_ms != 0).then(|| expires_ms.saturating_sub(now_ms))
}

fn own(write: &Write, now_ms: Millis) -> Option<Live> {
    match write {
        Write::Delete | Write::Expire => None,
        Write::Put { value, expires_ms } => Some(Live {
            value: value.clone(),
            version: None,
            ttl_ms: remaining(*expires_ms, now_ms),
        }),
    }
}
