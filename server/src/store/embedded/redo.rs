//! Doing again what a base and a log have, before anyone reads.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvError, SyncSender, sync_channel};
use std::thread::{Builder, Scope, ScopedJoinHandle};

use super::base::Rows;
use super::fold::side_by_side;
use super::index::Index;
use super::log::{BadPayload, BlockHead, Change, Commits, LogEnd, LogError};
use super::snapshots::{Snapshots, Views};
use super::versions::{Unfolded, Version, Versions};
use crate::store::{Sequence, StoreError, value};

/// Threads that share the work. One more reads, which is a small part of it.
const THREADS: usize = 2;

/// Blocks that wait for a thread at the most: a block may be as long as all that waits for the log.
const MAX_WAITING_BLOCKS: usize = 4;

/// Why something can't be recovered.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecoveryError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("sled: {0}")]
    Index(#[from] StoreError),
    #[error("a block of the log does not decode: {0}")]
    Payload(#[from] BadPayload),
}

/// Puts rows and commits into memory, and takes them to the index when they become too many. Nobody
/// reads yet, so only the newest version of each key counts.
pub(super) struct Redo<'a> {
    index: &'a Index,
    versions: &'a Versions,
    snapshots: Snapshots,
    max_bytes: usize,
}

impl<'a> Redo<'a> {
    pub(super) fn new(index: &'a Index, versions: &'a Versions, max_bytes: usize) -> Self {
        Self {
            index,
            versions,
            // Nobody looks at anything but the newest.
            snapshots: Snapshots::new(Sequence::MAX, 0),
            max_bytes,
        }
    }

    /// Rows of a copy: they come in order, and go to the index as they are.
    pub(super) fn rows(&self, rows: &Rows) -> Result<(), RecoveryError> {
        let versions: Vec<(&[u8], Version)> = rows
            .iter()
            .map(|row| {
                let version = Version {
                    sequence: row.version,
                    expires_ms: row.expires_ms,
                    value: Some(value(row.value)),
                };
                (row.key, version)
            })
            .collect();
        side_by_side(THREADS, &versions, |versions| {
            let parts = versions.iter().map(|(key, version)| (*key, version));
            self.index.fold_ordered(parts)
        })?;
        Ok(())
    }

    /// The commits of a log. `scan` is given what takes its blocks.
    pub(super) fn log(
        &self,
        scan: impl FnOnce(&mut Visit<'_>) -> Result<LogEnd, RecoveryError>,
    ) -> Result<LogEnd, RecoveryError> {
        let versions = self.versions;
        std::thread::scope(|scope| {
            let (senders, threads) = start(scope, versions, &self.snapshots)?;
            let scanned = scan(&mut |head, payload| {
                let block: Arc<[u8]> = payload.into();
                for sender in &senders {
                    let task = Task::Block(*head, Arc::clone(&block));
                    sender.send(task).map_err(|_| ended())?;
                }
                if versions.unfolded_bytes() > self.max_bytes {
                    wait(&senders)?;
                    self.fold_all()?;
                }
                Ok(())
            });
            drop(senders);
            for thread in threads {
                // Why a thread ended tells more than that it did.
                thread.join().map_err(|_| ended())??;
            }
            scanned
        })
    }

    /// The commits of a block.
    pub(super) fn block(&self, head: &BlockHead, payload: &[u8]) -> Result<(), RecoveryError> {
        put(
            self.versions,
            &self.snapshots.views(),
            head,
            payload,
            |_| true,
        )?;
        if self.versions.unfolded_bytes() > self.max_bytes {
            self.fold_all()?;
        }
        Ok(())
    }

    /// Takes everything to the index.
    pub(super) fn fold_all(&self) -> Result<(), StoreError> {
        const BATCH_KEYS: usize = 1024;
        let unfolded = self.versions.begin_pass();
        side_by_side(THREADS, &unfolded.keys, |keys| {
            for keys in keys.chunks(BATCH_KEYS) {
                let batch: Vec<Unfolded> = keys
                    .iter()
                    .filter_map(|key| self.versions.to_fold(key, Sequence::MAX))
                    .collect();
                self.index.fold_ordered(batch.iter().map(Unfolded::parts))?;
                self.versions.folded(&batch);
            }
            Ok(())
        })?;
        self.versions.finish_pass(unfolded);
        Ok(())
    }
}

/// What takes the blocks of a log.
type Visit<'a> = dyn FnMut(&BlockHead, &[u8]) -> Result<(), RecoveryError> + 'a;

/// What a thread is to do.
enum Task {
    /// Puts those keys of the block into memory that are its own.
    Block(BlockHead, Arc<[u8]>),
    /// Lets go of this, after what came before is done.
    Tell { _done: SyncSender<()> },
}

type Threads<'scope> = Vec<ScopedJoinHandle<'scope, Result<(), BadPayload>>>;

/// Starts the threads. Each has keys of its own, and does what happened to them in order.
fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    versions: &'scope Versions,
    snapshots: &'scope Snapshots,
) -> Result<(Vec<SyncSender<Task>>, Threads<'scope>), RecoveryError> {
    let (mut senders, mut threads) = (Vec::new(), Vec::new());
    for part in 0..THREADS {
        let (sender, receiver) = sync_channel(MAX_WAITING_BLOCKS);
        let work = move || work(part, versions, &snapshots.views(), &receiver);
        let builder = Builder::new().name("luge-redo".to_owned());
        let thread = builder.spawn_scoped(scope, work);
        let failed = |error| StoreError::Storage(format!("can't start a thread: {error}"));
        threads.push(thread.map_err(failed)?);
        senders.push(sender);
    }
    Ok((senders, threads))
}

fn work(
    part: usize,
    versions: &Versions,
    views: &Views<'_>,
    tasks: &Receiver<Task>,
) -> Result<(), BadPayload> {
    for task in tasks {
        if let Task::Block(head, payload) = task {
            let is_own = |key: &[u8]| versions.part(key, THREADS) == part;
            put(versions, views, &head, &payload, is_own)?;
        }
    }
    Ok(())
}

/// Waits until the threads have done what they were given.
fn wait(senders: &[SyncSender<Task>]) -> Result<(), RecoveryError> {
    let (done, all_done) = sync_channel(0);
    for sender in senders {
        let task = Task::Tell {
            _done: done.clone(),
        };
        sender.send(task).map_err(|_| ended())?;
    }
    drop(done);
    // It ends when nobody holds the other end any more, and nothing is ever sent.
    match all_done.recv() {
        Ok(()) | Err(RecvError) => Ok(()),
    }
}

fn ended() -> RecoveryError {
    RecoveryError::Index(StoreError::Storage(
        "a thread that reads the log again failed".to_owned(),
    ))
}

/// Puts the commits of a block into memory, as far as they are about these keys.
fn put(
    versions: &Versions,
    views: &Views<'_>,
    head: &BlockHead,
    payload: &[u8],
    is_own: impl Fn(&[u8]) -> bool,
) -> Result<(), BadPayload> {
    for commit in Commits::new(head, payload) {
        let (sequence, writes) = commit?;
        for (key, change) in writes.filter(|(key, _)| is_own(key)) {
            let (value, expires_ms) = match change {
                Change::Put { value, expires_ms } => (Some(self::value(value)), expires_ms),
                Change::Delete | Change::Expire => (None, 0),
            };
            let version = Version {
                sequence,
                expires_ms,
                value,
            };
            versions.put(key, version, views);
        }
    }
    Ok(())
}
