//! The threads of the log: one writes it, one makes room ahead, and one syncs it on the clock.
//!
//! ```text
//!   group of commits → one block → write → sync, if one of them asks for it → acked
//! ```
//!
//! A group that need not be synced is written by whoever waits for it, if nobody writes just then: that is
//! one system call into the kernel's memory, and to wake this thread and to be woken by it costs more. What
//! may wait for the disk is left to the thread.

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use super::commit::{Group, Task};
use super::log::{self, LogWriter};
use super::shared::Shared;
use crate::bugs::{Bug, is_seeded};
use crate::store::{Millis, Sequence};

/// How far ahead of the stamps the log covers time. After a kill, time stands still for at most as
/// long; a read after a pause waits for one write.
const LEASE_MS: Millis = 1000;

/// How much of the lease is left when it is renewed.
const RENEW_MS: Millis = 500;

/// How long the thread sleeps when nothing is committed: time enough before a lease ends.
const PATIENCE: Duration = Duration::from_millis(100);

/// Commits that may be in the log and not yet on disk. It is half of what sequences skip after an
/// unclean stop, so that no number that a reader saw is given to another commit.
const MAX_UNSYNCED_COMMITS: u64 = super::SKIP_AFTER_UNCLEAN_STOP / 2;

/// In a busy log a group gathers for a moment, where acks do not wait for a sync: a system call costs
/// as much as many commits.
const GATHER: Duration = Duration::from_micros(100);

/// A group of so many commits makes a busy log: more than clients that wait for each reply usually are.
const BUSY_COMMITS: u32 = 64;

/// How often room is looked for, ahead or on a disk that was full.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(20);

/// A group that is written by who waits for it is no larger than this, since others may wait for the
/// same thread.
const MAX_WRITE_HERE_BYTES: usize = 64 << 10;

/// The log's writer.
pub(super) struct Journal {
    state: Mutex<State>,
    /// Held from when a group is taken until it is written, with the room of the last one.
    pen: Mutex<Vec<u8>>,
    /// A spare segment is there, or can't be had.
    spare: Condvar,
}

struct State {
    writer: LogWriter,
    /// Bytes that the log had at the start, and of commits since.
    position: u64,
    stamp_ms: Millis,
    lease_ms: Millis,
    /// A spare segment is being made without the lock.
    is_preparing: bool,
}

impl Journal {
    pub(super) fn new(writer: LogWriter, stamp_ms: Millis) -> Self {
        let state = State {
            position: writer.bytes(),
            writer,
            stamp_ms,
            lease_ms: 0,
            is_preparing: false,
        };
        Self {
            state: Mutex::new(state),
            pen: Mutex::default(),
            spare: Condvar::new(),
        }
    }

    /// Waits until nobody writes: what was taken to be written is written, and acked.
    pub(super) fn wait_for_writers(&self) {
        drop(lock(&self.pen));
    }

    /// The newest sequence that is on disk.
    pub(super) fn synced(&self) -> Sequence {
        self.lock().writer.synced()
    }

    /// Bytes of the log, and the sequence that it begins behind.
    pub(super) fn extent(&self) -> (u64, Sequence) {
        let state = self.lock();
        (state.writer.bytes(), state.writer.first())
    }

    /// Bytes that the log had at the start, and of commits since: never less than before.
    pub(super) fn position(&self) -> u64 {
        self.lock().position
    }

    /// Removes segments that nobody needs.
    pub(super) fn remove_through(&self, sequence: Sequence) -> io::Result<()> {
        self.lock().writer.remove_through(sequence)
    }

    /// Syncs what is written, without holding up who writes.
    pub(super) fn sync(&self) -> io::Result<()> {
        let state = self.lock();
        let task = state.writer.unsynced();
        drop(state);
        let outcome = task.run();
        self.lock().writer.finish_sync(&task, outcome)
    }

    /// Begins a run at a sequence ahead, with a commit that changes nothing, and syncs it.
    pub(super) fn skip_to(&self, sequence: Sequence) -> io::Result<()> {
        let mut payload = Vec::new();
        log::encode_commit(&mut payload, std::iter::empty()).map_err(io::Error::other)?;
        let mut state = self.lock();
        let group = log::Group {
            last: sequence,
            count: 1,
            ..state.mark()
        };
        state.writer.append(&group, &payload)?;
        state.writer.sync()
    }

    /// Begins or ends a run with a mark that is synced.
    pub(super) fn mark(&self, is_clean: bool) -> io::Result<()> {
        let mut state = self.lock();
        let mark = log::Group {
            is_clean,
            ..state.mark()
        };
        state.writer.append(&mark, &[])?;
        state.writer.sync()
    }

    /// Gives back what is reserved behind the end of a run.
    pub(super) fn give_back(&self) -> io::Result<()> {
        self.lock().writer.give_back()
    }

    /// Makes the next segment ahead, without holding up who writes to this one.
    fn prepare(&self) -> io::Result<()> {
        let mut state = self.lock();
        let Some(task) = state.writer.spare_task() else {
            return Ok(());
        };
        state.is_preparing = true;
        drop(state);
        let made = task.run();
        let mut state = self.lock();
        state.is_preparing = false;
        let prepared = state.writer.install(made);
        self.spare.notify_all();
        prepared
    }

    /// The writer, once it has room for a block of this payload or must look for it itself.
    fn with_room(&self, payload_bytes: usize) -> MutexGuard<'_, State> {
        let state = self.lock();
        let waited = self.spare.wait_while(state, |state| {
            state.is_preparing && !state.writer.fits(payload_bytes)
        });
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, State>> {
        try_lock(&self.state)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

impl State {
    /// Whether commits up to a sequence can be written without waiting for the disk.
    fn takes_at_once(&self, last: Sequence, bytes: usize) -> bool {
        bytes <= MAX_WRITE_HERE_BYTES
            && self.writer.fits_here(bytes)
            && last.saturating_sub(self.writer.synced()) <= MAX_UNSYNCED_COMMITS
    }

    /// A block without commits.
    fn mark(&self) -> log::Group {
        log::Group {
            last: self.writer.last(),
            count: 0,
            stamp_ms: self.stamp_ms,
            lease_ms: self.lease_ms,
            is_clean: false,
        }
    }
}

/// The thread that writes.
pub(super) fn run(shared: &Shared) {
    loop {
        let written = match shared.sequencer.wait(PATIENCE) {
            Task::Write => write_next(shared),
            Task::Idle => renew_lease(shared),
            Task::End => return,
        };
        if let Err(error) = written {
            fail(shared, &error);
            return;
        }
    }
}

/// Writes what is committed on the caller's thread, if that can't wait for the disk.
pub(super) fn write_here(shared: &Shared) {
    let (Some(mut pen), Some(state)) = (try_lock(&shared.journal.pen), shared.journal.try_lock())
    else {
        return;
    };
    let group = shared.sequencer.take(&mut pen, |group| {
        !group.is_durable && state.takes_at_once(group.last, group.commits.len())
    });
    let Some(group) = group else { return };
    match write(shared, state, &group) {
        Ok(()) => reuse(&mut pen, group),
        Err(error) => fail(shared, &error),
    }
}

fn write_next(shared: &Shared) -> io::Result<()> {
    let mut pen = lock(&shared.journal.pen);
    let Some(group) = shared.sequencer.take(&mut pen, |_| true) else {
        return Ok(());
    };
    let state = shared.journal.with_room(group.commits.len());
    write(shared, state, &group)?;
    let is_busy = group.count >= BUSY_COMMITS && !group.is_durable;
    reuse(&mut pen, group);
    drop(pen);
    if is_busy {
        std::thread::sleep(GATHER);
    }
    Ok(())
}

fn reuse(pen: &mut Vec<u8>, group: Group) {
    *pen = group.commits;
    pen.clear();
}

fn fail(shared: &Shared, error: &io::Error) {
    shared.fail(&format!(
        "the log can't be written: {error}; restart the server to find out what is on the disk"
    ));
}

fn write(shared: &Shared, mut state: MutexGuard<'_, State>, group: &Group) -> io::Result<()> {
    // A group that was taken and not written, as where a thread panicked, must not be acked with this one.
    if group.last - u64::from(group.count).min(group.last) != state.writer.last() {
        return Err(io::Error::other("commits before it were lost"));
    }
    let lease_ms = group.stamp_ms.max(shared.clock.now_ms()) + LEASE_MS;
    let block = log::Group {
        last: group.last,
        count: group.count,
        stamp_ms: group.stamp_ms,
        lease_ms,
        is_clean: false,
    };
    state.writer.append(&block, &group.commits)?;
    state.position += group.commits.len() as u64;
    state.stamp_ms = group.stamp_ms;
    let unsynced = group.last - state.writer.synced().min(group.last);
    let must_sync = group.is_durable || unsynced > MAX_UNSYNCED_COMMITS;
    if must_sync && !is_seeded(Bug::AckBeforeSync) {
        state.writer.sync()?;
    }
    let covers_time = group.is_durable || !shared.options.syncs_always();
    if covers_time {
        state.lease_ms = lease_ms;
    }
    drop(state);
    if covers_time {
        shared.extend_lease(lease_ms);
    }
    shared.ack(group.last);
    Ok(())
}

/// Covers more time, if what is covered runs out and someone has looked at the clock.
fn renew_lease(shared: &Shared) -> io::Result<()> {
    let (stamp_ms, lease_ms) = shared.snapshots.times();
    // A mark may need the spare that is being made: a segment of its own would have the same name.
    let mut state = shared.journal.with_room(0);
    let is_used = stamp_ms > state.stamp_ms && stamp_ms + RENEW_MS > lease_ms;
    if !is_used && !shared.is_waiting_for_time() {
        return Ok(());
    }
    state.stamp_ms = stamp_ms;
    state.lease_ms = stamp_ms.max(shared.clock.now_ms()) + LEASE_MS;
    let mark = state.mark();
    match state.writer.append(&mark, &[]) {
        Ok(_) if shared.options.syncs_always() => state.writer.sync()?,
        Ok(_) => {}
        // On a full disk reads go on, and with them time, for which there is no room in the log.
        Err(_) if !state.writer.has_failed() => {}
        Err(error) => return Err(error),
    }
    drop(state);
    shared.extend_lease(mark.lease_ms);
    Ok(())
}

/// The thread that sees to it that the log has room ahead. Without it, no commit is taken that could
/// not be written.
pub(super) fn make_room(shared: &Shared) {
    let mut is_full = false;
    while shared.sleep(LOOK_FOR_ROOM) {
        let lack = match shared.lack_of_room() {
            Ok(Some(lack)) => Some(lack),
            Ok(None) => shared.journal.prepare().err().map(|error| {
                format!("the disk has no room for the log: {error}; make room, and writes go on")
            }),
            Err(error) => Some(format!("the disk's free room can't be told: {error}")),
        };
        if lack.is_some() != is_full {
            is_full = lack.is_some();
            shared.set_full(lack);
        }
    }
}

/// The thread that syncs on the clock.
pub(super) fn sync_on_the_clock(shared: &Shared, interval: Duration) {
    while shared.sleep(interval) {
        if let Err(error) = shared.journal.sync() {
            shared.fail(&format!(
                "the log can't be synced: {error}; restart the server to find out what is on the disk"
            ));
            return;
        }
    }
}
