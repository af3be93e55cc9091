//! What the store's threads and its callers share.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use super::acks::Acks;
use super::commit::{MAX_PENDING_BYTES, Sequencer};
use super::folder::{Folder, FolderError};
use super::index::Index;
use super::journal::{self, Journal};
use super::snapshots::{Begun, Snapshots};
use super::versions::Versions;
use super::{EmbeddedOptions, SyncPolicy, fold, rebase};
use crate::bugs::{Bug, is_seeded};
use crate::store::{Clock, Millis, ReadPoint, Sequence, StoreError};

/// An open store.
pub(super) struct Shared {
    pub(super) id: [u8; 16],
    pub(super) options: EmbeddedOptions,
    /// Dropped before the folder, which is sealed once sled has closed its files.
    pub(super) index: Index,
    pub(super) folder: Folder,
    pub(super) clock: Box<dyn Clock>,
    pub(super) versions: Versions,
    pub(super) snapshots: Snapshots,
    pub(super) sequencer: Sequencer,
    pub(super) journal: Journal,
    pub(super) acks: Acks,
    /// Every commit at or below is in the index.
    pub(super) applied: AtomicU64,
    /// Where the log was, at the least, when everything up to there was in the index.
    pub(super) applied_position: AtomicU64,
    /// No row of the index is newer.
    pub(super) folded_through: AtomicU64,
    pub(super) base_start: AtomicU64,
    pub(super) base_bytes: AtomicU64,
    /// Where the log was, at the most, at the commit that the base starts behind.
    pub(super) base_position: AtomicU64,
    /// Passes of the fold that came to their end.
    pub(super) folds: AtomicU64,
    pub(super) is_index_doubtful: AtomicBool,
    /// The disk has no room.
    pub(super) is_full: AtomicBool,
    /// Where the next look for expired keys goes on in the index.
    pub(super) swept: Mutex<Option<(Millis, Bytes)>>,
    pub(super) wants_fold: AtomicBool,
    pub(super) wants_base: AtomicBool,
    /// Bases written since the start.
    pub(super) bases: AtomicU64,
    /// Bases that could not be written.
    pub(super) failed_bases: AtomicU64,
    /// For writers that wait until there is less to fold and to write.
    pub(super) room: Notify,
    /// For snapshots that wait until the log covers their time.
    pub(super) time: Notify,
    pub(super) waiting_for_time: AtomicUsize,
    pub(super) ending: Ending,
    /// The sequences behind which readers of the log still need it.
    pub(super) readers: Mutex<BTreeMap<u64, Sequence>>,
}

/// Counts one who waits, for as long as it does: a request may go away while it waits.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Tells the threads that they should end.
#[derive(Default)]
pub(super) struct Ending {
    is_ending: Mutex<bool>,
    changed: Condvar,
}

/// The store's threads.
#[derive(Clone)]
pub(super) struct Threads {
    journal: Arc<Mutex<Option<JoinHandle<()>>>>,
    others: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Ending {
    /// Sleeps; answers whether to go on.
    fn sleep(&self, time: Duration) -> bool {
        let is_ending = self.lock();
        let waited = self
            .changed
            .wait_timeout_while(is_ending, time, |is_ending| !*is_ending);
        let (is_ending, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !*is_ending
    }

    fn end(&self) {
        *self.lock() = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.is_ending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    pub(super) fn sleep(&self, time: Duration) -> bool {
        self.ending.sleep(time)
    }

    pub(super) fn is_ending(&self) -> bool {
        *self.ending.lock()
    }

    pub(super) fn applied(&self) -> Sequence {
        self.applied.load(Ordering::Acquire)
    }

    pub(super) fn base_start(&self) -> Sequence {
        self.base_start.load(Ordering::Acquire)
    }

    pub(super) fn ask_for_fold(&self) {
        self.wants_fold.store(true, Ordering::Release);
    }

    /// Gives the threads a moment, for who waits for what they do.
    pub(super) async fn step(&self) -> Result<(), StoreError> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        if self.is_full.load(Ordering::Acquire) {
            return Err(StoreError::Storage("the disk has no room".to_owned()));
        }
        let settled = self.acks.settled();
        match settled.failure {
            Some(failure) => Err(StoreError::Unavailable(failure)),
            None if settled.is_closed => Err(StoreError::Unavailable("it is closed".to_owned())),
            None => Ok(()),
        }
    }

    /// Opens a snapshot, after the log covers its time.
    pub(super) async fn begin(&self, point: ReadPoint) -> Result<Begun, StoreError> {
        if let Some(begun) = self.snapshots.begin(point, self.clock.now_ms()) {
            return Ok(begun);
        }
        let _waiting = Waiting::new(&self.waiting_for_time);
        loop {
            let mut covered = std::pin::pin!(self.time.notified());
            covered.as_mut().enable();
            if let Some(begun) = self.snapshots.begin(point, self.clock.now_ms()) {
                return Ok(begun);
            }
            self.sequencer.ask_for_time();
            covered.await;
        }
    }

    pub(super) fn is_waiting_for_time(&self) -> bool {
        self.waiting_for_time.load(Ordering::Acquire) > 0
    }

    pub(super) fn extend_lease(&self, lease_ms: Millis) {
        self.snapshots.extend_lease(lease_ms);
        self.time.notify_waiters();
    }

    /// Waits while there is more to fold or to write than memory may hold.
    pub(super) async fn admit(&self) -> Result<(), StoreError> {
        if !self.is_crowded() {
            return Ok(());
        }
        let room = async {
            loop {
                let mut room = std::pin::pin!(self.room.notified());
                room.as_mut().enable();
                // Where no more is taken, nothing makes room any more.
                self.sequencer.check()?;
                if !self.is_crowded() {
                    return Ok(());
                }
                self.ask_for_fold();
                self.sequencer.hurry();
                room.await;
            }
        };
        let patience = self.options.max_write_wait;
        tokio::time::timeout(patience, room).await.unwrap_or_else(|_| {
            let bytes = self.versions.unfolded_bytes();
            let limit = self.options.max_unfolded_bytes;
            Err(StoreError::Overloaded(format!(
                "{bytes} bytes wait for it, of at most {limit}; the write waited for {patience:?}, try again later"
            )))
        })
    }

    pub(super) fn is_crowded(&self) -> bool {
        self.versions.unfolded_bytes() > self.options.max_unfolded_bytes
            || self.sequencer.pending_bytes() > MAX_PENDING_BYTES
    }

    /// Everything at or below is as durable as it was asked to be.
    pub(super) fn ack(&self, sequence: Sequence) {
        self.snapshots.ack(sequence);
        self.acks.ack(sequence);
        self.room.notify_waiters();
        if self.is_waiting_for_time() {
            self.time.notify_waiters();
        }
    }

    pub(super) async fn wait_acked(&self, sequence: Sequence) -> Result<(), StoreError> {
        if self.snapshots.acked() >= sequence {
            return Ok(());
        }
        if !self.options.syncs_always() {
            // Those who are ready to run commit before: what they commit is written, too.
            tokio::task::yield_now().await;
            if self.snapshots.acked() < sequence {
                journal::write_here(self);
            }
            if self.snapshots.acked() >= sequence {
                return Ok(());
            }
        }
        self.sequencer.hurry();
        let settled = self.acks.reached(sequence).await;
        if settled.acked >= sequence {
            return Ok(());
        }
        let why = settled.failure;
        let why = why.unwrap_or_else(|| "the store is closed".to_owned());
        Err(StoreError::UnknownOutcome(why))
    }

    /// After a failed write or sync nothing that follows can be trusted to last.
    pub(super) fn fail(&self, failure: &str) {
        tracing::error!(failure, "the store failed; writes need a restart");
        self.sequencer.fail(failure);
        self.snapshots.fail();
        // The index may have commits that the log turns out to have lost.
        self.note_doubt();
        self.acks.fail(failure);
        // Reads go on, and nothing that comes after them has a stamp.
        self.extend_lease(Millis::MAX);
        self.room.notify_waiters();
    }

    /// The index failed: it is made anew at the next start.
    pub(super) fn doubt(&self, error: &StoreError) {
        self.fail(&format!(
            "the index failed: {error}; restart the server, and it is made anew from base and log"
        ));
    }

    /// Why no commit can be taken for want of room.
    pub(super) fn lack_of_room(&self) -> io::Result<Option<String>> {
        let path = self.folder.path();
        let free = self.folder.disk().free_bytes(path)?;
        let limit = self.options.min_free_bytes;
        Ok((free < limit).then(|| {
            format!(
                "the disk of {} has {free} bytes left, and writes need {limit} (the setting min_free_disk_bytes); make room, and they go on",
                path.display()
            )
        }))
    }

    /// Takes no commits while the disk is full.
    pub(super) fn set_full(&self, lack: Option<String>) {
        match &lack {
            Some(lack) => tracing::warn!(%lack, "writes are refused"),
            None => tracing::info!("the disk has room again; writes go on"),
        }
        self.is_full.store(lack.is_some(), Ordering::Release);
        self.sequencer.set_full(lack);
    }

    /// Removes the log that neither a rebuild nor the index nor, within the bound, a reader needs.
    pub(super) fn remove_log(&self) {
        let mut through = match is_seeded(Bug::RemoveLogTooEarly) {
            true => self.applied(),
            false => self.base_start().min(self.applied()),
        };
        let (bytes, _) = self.journal.extent();
        if bytes < self.options.max_kept_log_bytes {
            let readers = self.lock_readers();
            through = readers.values().copied().fold(through, Sequence::min);
        }
        if let Err(error) = self.journal.remove_through(through) {
            tracing::warn!(%error, "old log can't be removed");
        }
    }

    pub(super) fn lock_readers(&self) -> MutexGuard<'_, BTreeMap<u64, Sequence>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After the index failed to read, it is made anew at the next start.
    pub(super) fn trusting<T>(&self, read: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &read
            && !self.is_index_doubtful.load(Ordering::Acquire)
        {
            tracing::error!(%error, "the index failed; restart the server, and it is made anew from base and log");
            self.note_doubt();
        }
        read
    }

    fn note_doubt(&self) {
        if !self.is_index_doubtful.swap(true, Ordering::AcqRel)
            && let Err(error) = self.folder.note_doubt()
        {
            tracing::error!(%error, "the doubt about the index can't be noted");
        }
    }
}

impl Threads {
    pub(super) fn start(shared: &Arc<Shared>) -> Result<Self, FolderError> {
        let threads = Self {
            journal: Arc::default(),
            others: Arc::default(),
        };
        let started = threads.start_all(shared);
        if started.is_err() {
            // Those that run hold the folder.
            threads.end(shared);
        }
        started.map(|()| threads)
    }

    fn start_all(&self, shared: &Arc<Shared>) -> Result<(), FolderError> {
        let journal = spawn(shared, "luge-log", |shared| {
            journal::run(shared);
            // Nobody waits for what does not come.
            shared.extend_lease(Millis::MAX);
        })?;
        *lock(&self.journal) = Some(journal);
        let mut others = lock(&self.others);
        others.push(spawn(shared, "luge-fold", fold::run)?);
        others.push(spawn(shared, "luge-base", rebase::run)?);
        others.push(spawn(shared, "luge-room", journal::make_room)?);
        if let SyncPolicy::Interval(interval) = shared.options.sync {
            others.push(spawn(shared, "luge-sync", move |shared| {
                journal::sync_on_the_clock(shared, interval);
            })?);
        }
        Ok(())
    }

    /// Ends the threads, after what is committed has been written.
    pub(super) fn end(&self, shared: &Shared) {
        shared.sequencer.close();
        let journal = lock(&self.journal).take();
        let is_first = journal.is_some();
        join(journal);
        shared.journal.wait_for_writers();
        shared.ending.end();
        let mut others = lock(&self.others);
        join(others.drain(..));
        if is_first {
            shared.acks.close();
            shared.room.notify_waiters();
        }
    }

    /// Ends the threads, and leaves everything on disk and in order.
    pub(super) fn close(&self, shared: &Shared) -> Result<(), StoreError> {
        self.end(shared);
        if let Some(failure) = shared.acks.settled().failure {
            return Err(StoreError::Unavailable(failure));
        }
        let storage = |error: io::Error| StoreError::Storage(error.to_string());
        shared.journal.mark(true).map_err(storage)?;
        if let Err(error) = shared.journal.give_back() {
            tracing::warn!(%error, "what is reserved for the log can't be given back, so the next start takes longer");
        }
        if shared.is_index_doubtful.load(Ordering::Acquire) {
            return Ok(());
        }
        shared.index.flush()?;
        shared.folder.seal_when_closed();
        Ok(())
    }
}

fn spawn(
    shared: &Arc<Shared>,
    name: &str,
    work: impl FnOnce(&Shared) + Send + 'static,
) -> Result<JoinHandle<()>, FolderError> {
    let shared = Arc::clone(shared);
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let worked = catch_unwind(AssertUnwindSafe(|| work(&shared)));
            if worked.is_err() {
                shared.fail("a thread of the store failed; this is a fault of the server");
            }
        })
        .map_err(|error| FolderError::Io {
            action: "start a thread for",
            path: name.into(),
            error,
        })
}

fn lock<T>(threads: &Mutex<T>) -> MutexGuard<'_, T> {
    threads.lock().unwrap_or_else(PoisonError::into_inner)
}

fn join(threads: impl IntoIterator<Item = JoinHandle<()>>) {
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a thread of the store failed");
        }
    }
}
