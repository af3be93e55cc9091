//! The store over sled: the newest entries in one sled tree, what older snapshots still see in memory.
//!
//! One thread, the *committer*, validates and writes; it alone changes the tree. Before it does, it
//! puts the entries that it is about to replace into the *history*. A reader looks into sled first
//! and into the history second, so whoever sees a new entry in sled also finds the old one:
//!
//! ```text
//!   commit:  history ← old entries   sled ← new entries   visible ← sequence   sync   acked ← sequence
//!   read:    sled, then the first history entry above the snapshot's sequence, which overrules it
//! ```
//!
//! sled's own transactions are not used: they hold a process-wide lock and know no ranges.

mod committer;
mod folder;
mod history;
mod layout;

use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use self::committer::{Committer, Request};
use self::history::History;
use super::{
    Clock, Commit, CommitOutcome, Entry, KeyRange, Millis, Page, PageLimit, ReadPoint, Sequence,
    Snapshot, Store, StoreError,
};

pub use folder::FolderError;

/// How the store is set up.
#[derive(Clone, Debug)]
pub struct SledOptions {
    /// What sled may cache of the tree, in bytes. Its real use is a multiple of this.
    pub cache_bytes: u64,
    /// What the history may hold for old snapshots, in bytes; beyond it the oldest are `too_old`.
    pub max_history_bytes: usize,
    /// Commits that may wait for the committer.
    pub max_waiting_commits: usize,
}

/// A store in a folder.
pub struct SledStore {
    shared: Arc<Shared>,
    commits: mpsc::Sender<Request>,
    acks: watch::Receiver<Acks>,
    id: [u8; 16],
}

/// What readers and the committer share.
struct Shared {
    tree: sled::Tree,
    clock: Box<dyn Clock>,
    state: Mutex<State>,
    /// The newest acked sequence, for looking without waiting.
    acked: AtomicU64,
}

struct State {
    visible: Sequence,
    acked: Sequence,
    stamp_ms: Millis,
    history: History,
}

/// What the committer tells of durability.
#[derive(Clone, Debug, Default)]
struct Acks {
    acked: Sequence,
    /// Why nothing more will be acked.
    failure: Option<String>,
    /// Whether the committer is done for good.
    is_closed: bool,
}

/// A view of a [`SledStore`].
pub struct SledSnapshot {
    shared: Arc<Shared>,
    sequence: Sequence,
    now_ms: Millis,
}

impl SledStore {
    /// Opens the store in `folder`, and makes one where there is none.
    ///
    /// # Errors
    /// The folder can't be used: it is locked by another server, holds something else, has a newer
    /// format, or sled can't read it.
    pub fn open(
        folder: &Path,
        new_id: [u8; 16],
        clock: Box<dyn Clock>,
        options: &SledOptions,
    ) -> Result<Self, FolderError> {
        let folder = folder::Folder::open(folder, new_id)?;
        let database = folder.open_sled(options.cache_bytes)?;
        let tree = (*database).clone();
        let start = folder.begin_run(&tree, &database)?;
        let state = State {
            visible: start.sequence,
            acked: start.sequence,
            stamp_ms: start.stamp_ms,
            history: History::new(options.max_history_bytes),
        };
        let shared = Arc::new(Shared {
            tree,
            clock,
            state: Mutex::new(state),
            acked: AtomicU64::new(start.sequence),
        });
        let (commits, waiting) = mpsc::channel(options.max_waiting_commits);
        let first = Acks {
            acked: start.sequence,
            ..Acks::default()
        };
        let (publish, acks) = watch::channel(first);
        let id = folder.id();
        Committer::start(Arc::clone(&shared), database, folder, waiting, publish)?;
        Ok(Self {
            shared,
            commits,
            acks,
            id,
        })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for SledStore {
    type Snapshot = SledSnapshot;

    async fn begin(&self, point: ReadPoint) -> Result<SledSnapshot, StoreError> {
        let now_ms = self.shared.clock.now_ms();
        let mut state = self.shared.lock();
        state.stamp_ms = state.stamp_ms.max(now_ms);
        let sequence = match point {
            ReadPoint::Newest => state.visible,
            ReadPoint::Acked(at_least) => state.acked.max(at_least.min(state.visible)),
        };
        state.history.register(sequence);
        // What is stamped and not shown has happened later.
        let now_ms = state
            .history
            .stamp_after(sequence)
            .unwrap_or(state.stamp_ms);
        drop(state);
        Ok(SledSnapshot {
            shared: Arc::clone(&self.shared),
            sequence,
            now_ms,
        })
    }

    async fn commit(
        &self,
        snapshot: SledSnapshot,
        commit: Commit,
    ) -> Result<CommitOutcome, StoreError> {
        let (answer, outcome) = oneshot::channel();
        let request = Request::Commit {
            snapshot,
            commit,
            answer,
        };
        let closed = || StoreError::Unavailable("it is closed".to_owned());
        self.commits.send(request).await.map_err(|_| closed())?;
        let lost = || StoreError::UnknownOutcome("the committer failed".to_owned());
        outcome.await.map_err(|_| lost())?
    }

    async fn acked(&self, sequence: Sequence) -> Result<(), StoreError> {
        if self.is_acked(sequence) {
            return Ok(());
        }
        let mut acks = self.acks.clone();
        let settled = acks
            .wait_for(|acks| acks.acked >= sequence || acks.failure.is_some() || acks.is_closed)
            .await
            .map_err(|_| StoreError::UnknownOutcome("the committer ended".to_owned()))?;
        if settled.acked >= sequence {
            return Ok(());
        }
        let why = settled
            .failure
            .clone()
            .unwrap_or_else(|| "the store is closed".to_owned());
        Err(StoreError::UnknownOutcome(why))
    }

    fn is_acked(&self, sequence: Sequence) -> bool {
        self.shared.acked.load(Ordering::Acquire) >= sequence
    }

    fn visible(&self) -> Sequence {
        self.shared.lock().visible
    }

    fn id(&self) -> [u8; 16] {
        self.id
    }

    fn engine(&self) -> &'static str {
        "sled"
    }

    async fn close(&self) -> Result<(), StoreError> {
        let (answer, outcome) = oneshot::channel();
        // Where it can't be sent the committer has ended, in order or not.
        let _ = self.commits.send(Request::Close(answer)).await;
        let closed = outcome.await;
        let mut acks = self.acks.clone();
        // Until then the folder is locked.
        let ended = acks.wait_for(|acks| acks.is_closed).await;
        if ended.is_err() {
            return Err(StoreError::UnknownOutcome(
                "the committer failed".to_owned(),
            ));
        }
        match closed {
            Ok(Err(error)) => Err(error),
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    }
}

impl Snapshot for SledSnapshot {
    fn sequence(&self) -> Sequence {
        self.sequence
    }

    fn now_ms(&self) -> Millis {
        self.now_ms
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Entry>, StoreError> {
        let newest = layout::read(&self.shared.tree, key);
        let state = self.shared.lock();
        match state.history.seen_at(key, self.sequence)? {
            Some(replaced) => Ok(replaced.clone()),
            None => {
                drop(state);
                newest
            }
        }
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
        let newest = layout::read_page(&self.shared.tree, range, is_reverse, keys_only, limit)?;
        let covered = covered(range, &newest, is_reverse);
        let state = self.shared.lock();
        let replaced = state.history.in_range(&covered, self.sequence)?;
        drop(state);
        let reached = match newest.rows.last() {
            Some((last, _)) if !newest.is_exhausted => Some(last.clone()),
            _ => None,
        };
        let rows = overrule(newest.rows, replaced, is_reverse)?;
        Ok(Page { rows, reached })
    }
}

/// The part of the range that a page of sled speaks for.
fn covered(
    range: &KeyRange,
    page: &layout::NewestPage,
    is_reverse: bool,
) -> (Bound<Bytes>, Bound<Bytes>) {
    let (start, end) = (
        Bound::Included(range.start.clone()),
        Bound::Excluded(range.end.clone()),
    );
    match page.rows.last() {
        Some((last, _)) if !page.is_exhausted && is_reverse => (Bound::Included(last.clone()), end),
        Some((last, _)) if !page.is_exhausted => (start, Bound::Included(last.clone())),
        _ => (start, end),
    }
}

/// Puts the entries that the snapshot sees in place of newer ones.
fn overrule(
    newest: Vec<(Bytes, Result<Entry, StoreError>)>,
    mut replaced: std::collections::BTreeMap<Bytes, Option<Entry>>,
    is_reverse: bool,
) -> Result<Vec<(Bytes, Entry)>, StoreError> {
    if replaced.is_empty() {
        return newest
            .into_iter()
            .map(|(key, entry)| Ok((key, entry?)))
            .collect();
    }
    for (key, entry) in newest {
        if let std::collections::btree_map::Entry::Vacant(place) = replaced.entry(key) {
            place.insert(Some(entry?));
        }
    }
    let rows = replaced
        .into_iter()
        .filter_map(|(key, entry)| Some((key, entry?)));
    let mut rows: Vec<_> = rows.collect();
    if is_reverse {
        rows.reverse();
    }
    Ok(rows)
}

impl Drop for SledSnapshot {
    fn drop(&mut self) {
        self.shared.lock().history.unregister(self.sequence);
    }
}
