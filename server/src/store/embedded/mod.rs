//! The embedded store: the log is the truth, sled is the index.
//!
//! ```text
//!   commit:  memory ← versions   visible ← sequence   log ← bytes   sync   acked ← sequence
//!   read:    memory, then the index
//!   fold:    versions that every snapshot may see: memory → index
//!   base:    from time to time a copy of the index; then the log before it can go
//! ```
//!
//! A commit is in memory before it is visible, and in the index only when no snapshot is older. So a
//! reader looks into memory first and into the index second, and finds one moment.
//!
//! Threads: the callers' own do reads and commits; one writes the log, one makes room for it ahead, one
//! syncs it on the clock where acks do not wait for that, one folds, one writes bases.

mod acks;
pub mod base;
mod commit;
pub mod disk;
mod feed;
mod fields;
mod files;
mod fold;
mod folder;
mod index;
mod journal;
mod key;
pub mod log;
mod order;
mod rebase;
mod recovery;
mod redo;
mod scan;
mod shared;
mod snapshots;
mod versions;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use self::commit::Attempted;
use self::disk::Disk;
use self::index::{Index, Search};
use self::shared::{Shared, Threads};
use self::snapshots::Begun;
use self::versions::Known;
use super::{
    Clock, Commit, CommitOutcome, Decision, Entry, Evaluated, Glimpse, KeyRange, Millis, Page,
    PageLimit, Peeked, ReadPoint, RowGlimpse, Sequence, Snapshot, Store, StoreError, StoreFigures,
    Target, Visited,
};
use crate::bugs::{Bug, is_seeded};

pub use self::feed::{EmbeddedBackup, EmbeddedFeed};
pub use self::files::{Checked, Restored, check, restore};
pub use self::folder::FolderError;

/// How far the sequence skips ahead after an unclean stop, so that a number that some reader may
/// have seen before the stop is never given to another commit.
const SKIP_AFTER_UNCLEAN_STOP: u64 = 1_000_000;

/// Pages of the index of expiries that one look for expired keys goes through.
const MAX_EXPIRY_PAGES: usize = 16;

/// When the log is synced without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Before anything is acked that asked for it; callers ask for it wherever users' data changes.
    Always,
    /// On the clock; what asks for it is synced at once.
    Interval(Duration),
}

/// How the store is set up.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// When the log is synced.
    pub sync: SyncPolicy,
    /// What sled may cache of the index, in bytes. Its real use is a multiple of this.
    pub index_cache_bytes: u64,
    /// What memory may hold of entries that the index has too, in bytes. A quarter of it is for scans.
    pub cache_bytes: usize,
    /// What the history may hold for old snapshots, in bytes; beyond it the oldest are `too_old`.
    pub max_history_bytes: usize,
    /// How old a snapshot may become before it is `too_old`.
    pub max_snapshot_age: Duration,
    /// Bytes in memory alone at which a fold begins.
    pub fold_bytes: usize,
    /// Bytes of log at which a fold begins.
    pub fold_log_bytes: u64,
    /// Bytes in memory alone beyond which writers wait.
    pub max_unfolded_bytes: usize,
    /// How long a writer waits before it is told that the store is overloaded.
    pub max_write_wait: Duration,
    /// The length of the log's files, in bytes.
    pub log_segment_bytes: u64,
    /// Bytes of log that are folded, or the base's own if that is more, at which a new base is written.
    pub base_log_bytes: u64,
    /// Bytes of log that may be kept for a backup or a watcher that reads it.
    pub max_kept_log_bytes: u64,
    /// Free bytes of the disk below which no writes are taken, so that the index and the base have
    /// room.
    pub min_free_bytes: u64,
    /// What tells one run of the machine from the next: after another one the index is not trusted.
    pub boot: String,
}

/// A store in a folder.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    threads: Threads,
}

/// A view of an [`EmbeddedStore`].
pub struct EmbeddedSnapshot {
    shared: Arc<Shared>,
    begun: Begun,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            sync: SyncPolicy::Always,
            index_cache_bytes: 64 << 20,
            cache_bytes: 256 << 20,
            max_history_bytes: 256 << 20,
            max_snapshot_age: Duration::from_secs(5),
            fold_bytes: 128 << 20,
            fold_log_bytes: 96 << 20,
            max_unfolded_bytes: 256 << 20,
            max_write_wait: Duration::from_secs(10),
            log_segment_bytes: 16 << 20,
            base_log_bytes: 64 << 20,
            max_kept_log_bytes: 1 << 30,
            min_free_bytes: 256 << 20,
            boot: boot(),
        }
    }
}

impl EmbeddedOptions {
    fn syncs_always(&self) -> bool {
        self.sync == SyncPolicy::Always
    }

    fn scan_cache_bytes(&self) -> usize {
        self.cache_bytes / 4
    }

    fn open_index(&self, folder: &Path) -> Result<Index, StoreError> {
        Index::open(folder, self.index_cache_bytes, self.scan_cache_bytes())
    }
}

/// What the kernel says of this run of the machine. Where it says nothing, each start counts as one of
/// its own.
fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

/// Where one-key commands look for what memory does not have.
fn decision_point() -> ReadPoint {
    match is_seeded(Bug::DecideOnAcked) {
        true => ReadPoint::Acked(0),
        false => ReadPoint::Newest,
    }
}

impl EmbeddedStore {
    /// Opens the store in `folder`, and makes one where there is none.
    ///
    /// # Errors
    /// The folder can't be used: it is locked by another server, holds something else, has another
    /// format, or is damaged.
    pub fn open(
        folder: &Path,
        new_id: [u8; 16],
        disk: Arc<dyn Disk>,
        clock: Box<dyn Clock>,
        options: EmbeddedOptions,
    ) -> Result<Self, FolderError> {
        let shared = Arc::new(recovery::open(folder, new_id, disk, clock, options)?);
        let threads = Threads::start(&shared)?;
        Ok(Self { shared, threads })
    }

    /// Bytes in memory: of what the index has not, and of what only old snapshots see.
    #[must_use]
    pub fn memory_bytes(&self) -> (usize, usize) {
        let versions = &self.shared.versions;
        (versions.unfolded_bytes(), versions.older_bytes())
    }

    /// Waits until the index has what every open snapshot sees: for tests and benchmarks.
    ///
    /// # Errors
    /// The store failed.
    pub async fn folded(&self) -> Result<(), StoreError> {
        self.acked(self.visible()).await?;
        let wanted = self.shared.snapshots.needed();
        while self.shared.applied() < wanted {
            self.shared.ask_for_fold();
            self.shared.step().await?;
        }
        Ok(())
    }

    /// Waits until a new base is written: for tests and benchmarks.
    ///
    /// # Errors
    /// The base could not be written, or the store failed.
    pub async fn rebased(&self) -> Result<(), StoreError> {
        let before = self.shared.bases.load(Ordering::Acquire);
        let failed = self.shared.failed_bases.load(Ordering::Acquire);
        while self.shared.bases.load(Ordering::Acquire) == before {
            self.shared.wants_base.store(true, Ordering::Release);
            self.shared.step().await?;
            if self.shared.failed_bases.load(Ordering::Acquire) != failed {
                return Err(StoreError::Storage("no base could be written".to_owned()));
            }
        }
        Ok(())
    }
}

impl Store for EmbeddedStore {
    type Snapshot = EmbeddedSnapshot;
    type Feed = EmbeddedFeed;
    type Backup = EmbeddedBackup;

    async fn begin(&self, point: ReadPoint) -> Result<EmbeddedSnapshot, StoreError> {
        let begun = self.shared.begin(point).await?;
        Ok(EmbeddedSnapshot {
            shared: Arc::clone(&self.shared),
            begun,
        })
    }

    fn peek(&self, key: &[u8], at_least: Sequence) -> Option<Peeked> {
        let sequence = self.shared.snapshots.acked();
        if at_least > sequence {
            return None;
        }
        let entry = self.shared.versions.peek(key, sequence)?;
        Some(Peeked { sequence, entry })
    }

    fn peek_with<T>(
        &self,
        key: &[u8],
        at_least: Sequence,
        take: impl FnOnce(Option<Glimpse<'_>>) -> T,
    ) -> Option<(Sequence, T)> {
        let sequence = self.shared.snapshots.acked();
        if at_least > sequence {
            return None;
        }
        let taken = self.shared.versions.peek_with(key, sequence, take)?;
        Some((sequence, taken))
    }

    async fn commit(
        &self,
        snapshot: EmbeddedSnapshot,
        commit: Commit,
    ) -> Result<CommitOutcome, StoreError> {
        let sequence = snapshot.begun.sequence;
        // Where nothing was read it is not needed any more, and would only hold up the fold while this
        // waits for room.
        let _open = (!commit.reads.is_empty()).then_some(snapshot);
        let mut commit = commit;
        loop {
            self.shared.admit().await?;
            match self.shared.commit(sequence, commit)? {
                Attempted::Done(outcome) => return Ok(outcome),
                Attempted::Crowded(given) => commit = given,
                Attempted::Unknown => return Ok(CommitOutcome::Conflict),
            }
        }
    }

    async fn evaluate<T: Send>(
        &self,
        target: Target<'_>,
        mut decide: impl FnMut(Option<Entry>, Sequence, Millis) -> Decision<T> + Send,
    ) -> Result<Evaluated<T>, StoreError> {
        loop {
            // Before the snapshot, which would hold up the fold that makes room.
            self.shared.admit().await?;
            match self.shared.evaluate(target, None, &mut decide)? {
                Attempted::Done(evaluated) => return Ok(evaluated),
                Attempted::Crowded(()) => continue,
                Attempted::Unknown => {}
            }
            // The index must be asked, or the log must cover the time.
            let snapshot = self.begin(decision_point()).await?;
            match snapshot.evaluate(target, &mut decide) {
                Ok(Attempted::Done(evaluated)) => return Ok(evaluated),
                // Nothing was decided yet, and a fresh snapshot may do: only the order of commits
                // tells what the key holds, and that asks for no certain one.
                Ok(Attempted::Crowded(()) | Attempted::Unknown)
                | Err(StoreError::TooOld { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn evaluate_at_once<T>(
        &self,
        target: Target<'_>,
        mut decide: impl FnMut(Option<Entry>, Sequence, Millis) -> Decision<T>,
    ) -> Option<Evaluated<T>> {
        if self.shared.is_crowded() {
            return None;
        }
        match self.shared.evaluate(target, None, &mut decide) {
            Ok(Attempted::Done(evaluated)) => Some(evaluated),
            Ok(Attempted::Crowded(()) | Attempted::Unknown) | Err(_) => None,
        }
    }

    async fn expired(&self, limit: usize) -> Result<Vec<Bytes>, StoreError> {
        let snapshot = self.begin(ReadPoint::Newest).await?;
        snapshot.expired(limit)
    }

    async fn follow(&self, after: Option<Sequence>) -> Result<EmbeddedFeed, StoreError> {
        let shared = Arc::clone(&self.shared);
        // It opens files.
        let opened = tokio::task::spawn_blocking(move || EmbeddedFeed::new(shared, after)).await;
        opened.map_err(|_| StoreError::Storage("the log's reader failed".to_owned()))?
    }

    async fn backup(&self) -> Result<EmbeddedBackup, StoreError> {
        EmbeddedBackup::start(Arc::clone(&self.shared))
    }

    async fn acked(&self, sequence: Sequence) -> Result<(), StoreError> {
        self.shared.wait_acked(sequence).await
    }

    fn is_acked(&self, sequence: Sequence) -> bool {
        self.shared.snapshots.acked() >= sequence
    }

    fn visible(&self) -> Sequence {
        self.shared.snapshots.visible()
    }

    fn figures(&self) -> StoreFigures {
        let (snapshots, versions) = (&self.shared.snapshots, &self.shared.versions);
        StoreFigures {
            visible: snapshots.visible(),
            acked: snapshots.acked(),
            synced: self.shared.journal.synced(),
            snapshots: snapshots.open() as u64,
            is_writable: self.check_writable().is_ok(),
            unfolded_bytes: versions.unfolded_bytes() as u64,
            history_bytes: versions.older_bytes() as u64,
            cached_bytes: (versions.cached_bytes() + self.shared.index.cached_bytes()) as u64,
            log_bytes: self.shared.journal.extent().0,
            folds: self.shared.folds.load(Ordering::Relaxed),
            bases: self.shared.bases.load(Ordering::Relaxed),
        }
    }

    fn check_writable(&self) -> Result<(), StoreError> {
        self.shared.sequencer.check()
    }

    fn id(&self) -> [u8; 16] {
        self.shared.id
    }

    fn engine(&self) -> &'static str {
        "sled"
    }

    async fn close(&self) -> Result<(), StoreError> {
        let (shared, threads) = (Arc::clone(&self.shared), self.threads.clone());
        let closed = tokio::task::spawn_blocking(move || threads.close(&shared)).await;
        closed.map_err(|_| StoreError::UnknownOutcome("a thread of the store failed".to_owned()))?
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        // Without a `close` the threads end, and the folder is left as a kill would leave it.
        self.threads.end(&self.shared);
    }
}

impl EmbeddedSnapshot {
    /// The newest commit in view.
    fn shown(&self) -> Sequence {
        match is_seeded(Bug::SnapshotOffByOne) {
            true => self.begun.sequence.saturating_sub(1),
            false => self.begun.sequence,
        }
    }

    fn find(&self, key: &[u8]) -> Result<Option<Entry>, StoreError> {
        match self.shared.versions.get(key, self.shown()) {
            Known::Seen(entry) => {
                self.shared.snapshots.check(self.begun.sequence)?;
                Ok(entry)
            }
            Known::InIndex => self.read_index(key),
        }
    }

    /// Decides on a key's newest entry. This snapshot is there for what the index may be asked.
    fn evaluate<T>(
        &self,
        target: Target<'_>,
        decide: &mut impl FnMut(Option<Entry>, Sequence, Millis) -> Decision<T>,
    ) -> Result<Attempted<(), Evaluated<T>>, StoreError> {
        let found = match self.shared.versions.newest(target.key) {
            Some(_) if is_seeded(Bug::DecideOnAcked) => self.find(target.key)?,
            Some(_) => return self.shared.evaluate(target, None, decide),
            None => self.read_index(target.key)?,
        };
        let found = Some((self.begun.sequence, found));
        self.shared.evaluate(target, found, decide)
    }

    /// What the index was found to have, where this snapshot may still be read. Behind one that is given up, a value in
    /// chunks may be in pieces, which is no fault of the index.
    fn told<T>(&self, found: Result<T, StoreError>) -> Result<T, StoreError> {
        self.shared.snapshots.check(self.begun.sequence)?;
        self.shared.trusting(found)
    }

    /// What the index has of a key, for a key that memory does not have. It is kept in memory.
    fn read_index(&self, key: &[u8]) -> Result<Option<Entry>, StoreError> {
        let found = self.told(self.shared.index.get(key))?;
        let is_valid = || self.shared.snapshots.check(self.begun.sequence).is_ok();
        self.shared.versions.fill(key, found.as_ref(), is_valid);
        Ok(found)
    }

    fn expired(&self, limit: usize) -> Result<Vec<Bytes>, StoreError> {
        let now_ms = self.begun.now_ms;
        let mut due = self.shared.versions.expired(now_ms, limit);
        let mut swept = self
            .shared
            .swept
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Rows whose keys were removed stay until the next fold, so each look goes on behind the last.
        for _ in 0..MAX_EXPIRY_PAGES {
            let rows = self.shared.index.expired(swept.as_ref(), now_ms, limit)?;
            let is_last = rows.len() < limit;
            *swept = rows.last().filter(|_| !is_last).cloned();
            for (expires_ms, key) in rows {
                due.extend(self.due(expires_ms, key)?);
            }
            if is_last || due.len() >= limit {
                break;
            }
        }
        Ok(due)
    }

    /// The key of a row of the index of expiries, if its time has come.
    fn due(&self, expires_ms: Millis, key: Bytes) -> Result<Option<Bytes>, StoreError> {
        // What memory has newer is not told by the index; it is among the others if it is due.
        if let Some(newest) = self.shared.versions.newest(&key) {
            return Ok((newest.expires_ms == expires_ms).then_some(key));
        }
        match self.shared.index.get(&key)? {
            Some(entry) if entry.expires_ms == expires_ms => Ok(Some(key)),
            // What a kill left.
            _ => {
                self.shared.index.forget_expiry(&key, expires_ms)?;
                Ok(None)
            }
        }
    }
}

impl Snapshot for EmbeddedSnapshot {
    fn sequence(&self) -> Sequence {
        self.begun.sequence
    }

    fn now_ms(&self) -> Millis {
        self.begun.now_ms
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Entry>, StoreError> {
        self.find(key)
    }

    async fn scan(
        &self,
        range: &KeyRange,
        is_reverse: bool,
        keys_only: bool,
        limit: PageLimit,
    ) -> Result<Page, StoreError> {
        if range.is_empty() {
            return Ok(Page::default());
        }
        let search = Search {
            is_reverse,
            keys_only,
            limit,
        };
        self.told(self.shared.page(range, search, self.shown()))
    }

    async fn visit(
        &self,
        range: &KeyRange,
        is_reverse: bool,
        keys_only: bool,
        limit: PageLimit,
        mut take: impl FnMut(RowGlimpse<'_>) -> bool + Send,
    ) -> Result<Visited, StoreError> {
        if range.is_empty() {
            return Ok(Visited::Through(None));
        }
        let search = Search {
            is_reverse,
            keys_only,
            limit,
        };
        self.told(self.shared.visit(range, search, self.shown(), &mut take))
    }
}

impl Drop for EmbeddedSnapshot {
    fn drop(&mut self) {
        self.shared.snapshots.end(self.begun.sequence);
    }
}
