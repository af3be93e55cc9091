//! The commit section: one commit at a time is validated, numbered, put into memory and published.
//!
//! ```text
//!   stamp → validate → versions in memory → bytes for the log → visible
//! ```
//!
//! Ranges are validated before it, and in it only against what was written since, unless that is too much
//! a few times over. Nothing in it waits for a disk. The log's thread takes the bytes of all commits that
//! came since it last looked, as one group.
//!
//! A sleeping log's thread is woken by who waits for an ack, and not by each commit: a wake-up is a system
//! call, which costs as much as a commit, and a connection commits all that it has read before it waits.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::key::Key;
use super::log::{Change, encode_commit};
use super::shared::Shared;
use super::versions::Version;
use crate::bugs::{Bug, is_seeded};
use crate::store::{
    Commit, CommitOutcome, Decision, Entry, Evaluated, KeyRange, Millis, ReadSet, Sequence,
    StoreError, Target, Write,
};

/// Commits for the log, in order.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// The commits, as they will lie in the log.
    pub(super) commits: Vec<u8>,
    pub(super) count: u32,
    pub(super) last: Sequence,
    pub(super) stamp_ms: Millis,
    /// Whether one of them must be on disk before it is acked.
    pub(super) is_durable: bool,
}

/// Bytes of commits that may wait for the log's thread. What comes then waits, so that a group is no
/// larger than this and one commit.
pub(super) const MAX_PENDING_BYTES: usize = 8 << 20;

/// Keys of the newest commits that are remembered, for commits whose ranges were validated up to a
/// moment before.
const MAX_RECENT_KEYS: usize = 8192;

/// Versions that a commit replaced. Their memory is given back once the next commit may begin; those of
/// a large commit, which are more than there are places for, before.
#[derive(Default)]
struct Garbage {
    kept: [Option<Version>; 4],
    count: usize,
}

/// A commit wakes the log's thread where nothing was written for so long, so that what nobody waits for is
/// written, too.
const MAX_NAP_MS: Millis = 1;

/// How often ranges are validated without the lock before they are with it.
const MAX_RANGE_TRIES: u32 = 4;

/// What the commit section did with what it was given.
pub(super) enum Attempted<Given, Done> {
    Done(Done),
    /// Too much waits for the log's thread already.
    Crowded(Given),
    /// What the index has of the key is needed first, or that the log covers the time.
    Unknown,
}

/// What the log's thread is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Something is committed and not written.
    Write,
    /// Nothing was committed for a while, or someone waits for time.
    Idle,
    /// Everything is written, and nothing more comes.
    End,
}

/// The order of commits.
pub(super) struct Sequencer {
    state: Mutex<State>,
    work: Condvar,
    pending_bytes: AtomicUsize,
    /// Whether the log's thread sleeps. It falls asleep with the state locked, and only where nothing is
    /// pending: so whoever looks here after a commit sees that it sleeps, or it has seen the commit.
    is_idle: AtomicBool,
}

struct State {
    /// The newest sequence.
    last: Sequence,
    pending: Group,
    /// The keys of the newest commits, oldest first.
    recent: VecDeque<(Sequence, Key)>,
    /// Every commit behind this one has its keys among them.
    recent_from: Sequence,
    /// Why no more commits are taken.
    refusal: Option<Refusal>,
    is_closing: bool,
    /// The stamp of the last commit that was taken to be written.
    taken_ms: Millis,
    wants_time: bool,
}

#[derive(Clone, Debug)]
enum Refusal {
    /// Until there is room on the disk again.
    Full(String),
    /// For good.
    Ended(String),
}

impl Sequencer {
    pub(super) fn new(last: Sequence) -> Self {
        let state = State {
            last,
            pending: Group::default(),
            recent: VecDeque::with_capacity(MAX_RECENT_KEYS),
            recent_from: last,
            refusal: None,
            is_closing: false,
            taken_ms: 0,
            wants_time: false,
        };
        Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            pending_bytes: AtomicUsize::new(0),
            is_idle: AtomicBool::new(false),
        }
    }

    /// Bytes that wait for the log's thread.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending_bytes.load(Ordering::Relaxed)
    }

    /// Waits for something to do.
    pub(super) fn wait(&self, patience: Duration) -> Task {
        let mut state = self.lock();
        if state.pending.count == 0 && !state.is_closing && !state.wants_time {
            self.is_idle.store(true, Ordering::Release);
            let waited = self.work.wait_timeout(state, patience);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            self.is_idle.store(false, Ordering::Release);
        }
        state.wants_time = false;
        match state.pending.count {
            0 if state.is_closing => Task::End,
            0 => Task::Idle,
            _ => Task::Write,
        }
    }

    /// The commits that came since this was last called, if `accepts` does. `room` is for those that come
    /// next. Whoever calls this holds the log's pen, so that groups are written in their order.
    pub(super) fn take(
        &self,
        room: &mut Vec<u8>,
        accepts: impl FnOnce(&Group) -> bool,
    ) -> Option<Group> {
        let mut state = self.lock();
        if state.pending.count == 0 || !accepts(&state.pending) {
            return None;
        }
        let group = std::mem::take(&mut state.pending);
        state.taken_ms = group.stamp_ms;
        state.pending.commits = std::mem::take(room);
        self.pending_bytes.store(0, Ordering::Relaxed);
        Some(group)
    }

    /// Wakes the log's thread, because a snapshot waits for time.
    pub(super) fn ask_for_time(&self) {
        let mut state = self.lock();
        state.wants_time = true;
        self.wake();
    }

    /// Takes no more commits, and has the log's thread end.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.is_closing = true;
        state.refusal = Some(Refusal::Ended("it is closed".to_owned()));
        self.wake();
    }

    /// Whether commits are taken.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.lock().check()
    }

    /// Takes no more commits, ever.
    pub(super) fn fail(&self, failure: &str) {
        self.lock().refusal = Some(Refusal::Ended(failure.to_owned()));
    }

    /// Takes no commits while the disk is full.
    pub(super) fn set_full(&self, full: Option<String>) {
        let mut state = self.lock();
        match state.refusal {
            Some(Refusal::Ended(_)) => {}
            Some(Refusal::Full(_)) | None => state.refusal = full.map(Refusal::Full),
        }
    }

    /// Has what is committed written now, for someone who waits for it.
    pub(super) fn hurry(&self) {
        // Only a sleeper needs it, and only one of those who wait.
        if self.is_idle.load(Ordering::Acquire) && self.is_idle.swap(false, Ordering::AcqRel) {
            // It may have set the flag and not be waiting yet: then it holds the lock.
            drop(self.lock());
            self.work.notify_one();
        }
    }

    /// The same, with the state locked.
    fn wake(&self) {
        if self.is_idle.swap(false, Ordering::AcqRel) {
            self.work.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Garbage {
    fn keep(&mut self, version: Option<Version>) {
        if version.is_some()
            && let Some(place) = self.kept.get_mut(self.count)
        {
            *place = version;
            self.count += 1;
        }
    }
}

impl State {
    fn remember(&mut self, sequence: Sequence, key: &[u8]) {
        if self.recent.len() >= MAX_RECENT_KEYS
            && let Some((sequence, _)) = self.recent.pop_front()
        {
            self.recent_from = sequence;
        }
        self.recent.push_back((sequence, Key::from(key)));
    }

    /// Whether a commit behind `moment` wrote a key of the ranges; `None` where too many came since.
    fn has_written_since(&self, moment: Sequence, ranges: &[KeyRange]) -> Option<bool> {
        if moment < self.recent_from {
            return None;
        }
        let mut since = self
            .recent
            .iter()
            .rev()
            .take_while(|(sequence, _)| *sequence > moment);
        Some(since.any(|(_, key)| ranges.iter().any(|range| range.contains(key))))
    }

    fn is_crowded(&self) -> bool {
        self.pending.commits.len() > MAX_PENDING_BYTES
    }

    fn check(&self) -> Result<(), StoreError> {
        match &self.refusal {
            None => Ok(()),
            Some(Refusal::Full(why)) => Err(StoreError::Storage(why.clone())),
            Some(Refusal::Ended(why)) => Err(StoreError::Unavailable(why.clone())),
        }
    }
}

impl Shared {
    /// Validates and applies a commit against an open snapshot.
    pub(super) fn commit(
        &self,
        snapshot: Sequence,
        commit: Commit,
    ) -> Result<Attempted<Commit, CommitOutcome>, StoreError> {
        let mut garbage = Garbage::default();
        let mut tries = MAX_RANGE_TRIES;
        // Ranges may hold many keys, which others should not have to wait for: up to a moment they are
        // validated without the lock, and behind it only what was written since.
        let (mut state, moment) = loop {
            let moment = self.snapshots.visible();
            if self.has_newer_in(&commit.reads.ranges, snapshot) {
                self.snapshots.check(snapshot)?;
                return Ok(Attempted::Done(CommitOutcome::Conflict));
            }
            let state = self.sequencer.lock();
            tries -= 1;
            if commit.reads.ranges.is_empty() || moment >= state.recent_from || tries == 0 {
                break (state, moment);
            }
        };
        state.check()?;
        if state.is_crowded() {
            return Ok(Attempted::Crowded(commit));
        }
        let (stamp_ms, _) = self.snapshots.start_commit(self.clock.now_ms());
        match self.is_unchanged(&state, &commit.reads, snapshot, moment, stamp_ms) {
            Ok(true) => {}
            changed => {
                self.snapshots.give_up();
                return changed.map(|_| Attempted::Done(CommitOutcome::Conflict));
            }
        }
        let applied = self.apply(
            &mut state,
            commit.writes,
            stamp_ms,
            commit.durable,
            &mut garbage,
        );
        applied.map(|sequence| Attempted::Done(CommitOutcome::Committed(sequence)))
    }

    /// Decides on one key's newest entry, and writes what was decided, as one step. `found` is what
    /// the index had while this snapshot was open, if it was asked.
    pub(super) fn evaluate<T>(
        &self,
        target: Target<'_>,
        found: Option<(Sequence, Option<Entry>)>,
        decide: &mut impl FnMut(Option<Entry>, Sequence, Millis) -> Decision<T>,
    ) -> Result<Attempted<(), Evaluated<T>>, StoreError> {
        self.versions.approach(target.key);
        let mut garbage = Garbage::default();
        let mut state = self.sequencer.lock();
        state.check()?;
        if state.is_crowded() {
            return Ok(Attempted::Crowded(()));
        }
        let current = match target.looks {
            true => match self.current(target.key, found)? {
                Some(current) => current,
                None => return Ok(Attempted::Unknown),
            },
            false => None,
        };
        let (stamp_ms, is_covered) = self.snapshots.start_commit(self.clock.now_ms());
        if target.looks && !is_covered {
            // What it decides may tell the time, also where it writes nothing.
            self.snapshots.give_up();
            return Ok(Attempted::Unknown);
        }
        let seen = state.last;
        let Decision { write, outcome } = decide(current, seen, stamp_ms);
        let committed = match write {
            Some(write) => {
                let writes = [(target.key, write)];
                Some(self.apply(&mut state, writes, stamp_ms, target.durable, &mut garbage)?)
            }
            None => {
                self.snapshots.give_up();
                None
            }
        };
        Ok(Attempted::Done(Evaluated {
            committed,
            seen,
            outcome,
        }))
    }

    /// What a key holds now, with the commit section to oneself; `None` where the index must be asked.
    fn current(
        &self,
        key: &[u8],
        found: Option<(Sequence, Option<Entry>)>,
    ) -> Result<Option<Option<Entry>>, StoreError> {
        // What memory has is the newest. Where it has nothing, nothing was written since the snapshot,
        // if that was open until after the look: behind one that is given up, entries are folded.
        Ok(match (self.versions.newest(key), found) {
            (Some(_), Some((_, found))) if is_seeded(Bug::DecideOnAcked) => Some(found),
            (Some(_), None) if is_seeded(Bug::DecideOnAcked) => None,
            (Some(newest), _) => Some(newest.entry()),
            (None, Some((snapshot, found))) => {
                self.snapshots.check(snapshot)?;
                Some(found)
            }
            (None, None) => None,
        })
    }

    /// Whether what was read still holds. Ranges are validated up to `moment` already.
    fn is_unchanged(
        &self,
        state: &State,
        reads: &ReadSet,
        snapshot: Sequence,
        moment: Sequence,
        stamp_ms: Millis,
    ) -> Result<bool, StoreError> {
        let is_newer = |key: &Bytes| self.versions.newest_sequence(key) > snapshot;
        let has_point_conflict =
            !is_seeded(Bug::SkipPointValidation) && reads.points.iter().any(is_newer);
        let has_range_conflict = !is_seeded(Bug::SkipRangeValidation)
            && state
                .has_written_since(moment, &reads.ranges)
                .unwrap_or_else(|| self.has_newer_in(&reads.ranges, snapshot));
        if reads.has_expired(stamp_ms) || has_point_conflict || has_range_conflict {
            return Ok(false);
        }
        // After the look, and not before it: behind a snapshot that is given up meanwhile, memory may
        // have lost what the look was for.
        if !reads.is_empty() {
            self.snapshots.check(snapshot)?;
        }
        Ok(true)
    }

    fn has_newer_in(&self, ranges: &[KeyRange], snapshot: Sequence) -> bool {
        !is_seeded(Bug::SkipRangeValidation)
            && ranges
                .iter()
                .any(|range| self.versions.is_range_newer(range, snapshot))
    }

    fn apply<K: Deref<Target = [u8]>>(
        &self,
        state: &mut State,
        writes: impl AsRef<[(K, Write)]> + IntoIterator<Item = (K, Write)>,
        stamp_ms: Millis,
        is_durable: bool,
        garbage: &mut Garbage,
    ) -> Result<Sequence, StoreError> {
        let sequence = state.last + 1;
        let changes = writes.as_ref().iter();
        let changes = changes.map(|(key, write)| (&key[..], change(write)));
        if let Err(error) = encode_commit(&mut state.pending.commits, changes) {
            self.snapshots.give_up();
            return Err(StoreError::Storage(error.to_string()));
        }
        let views = self.snapshots.views();
        for (key, write) in writes {
            garbage.keep(self.versions.put(&key, version(write, sequence), &views));
            state.remember(sequence, &key);
        }
        state.last = sequence;
        let pending = &mut state.pending;
        pending.count += 1;
        pending.last = sequence;
        pending.stamp_ms = stamp_ms;
        pending.is_durable |= is_durable;
        let bytes = pending.commits.len();
        self.sequencer.pending_bytes.store(bytes, Ordering::Relaxed);
        self.snapshots.publish(sequence, stamp_ms);
        if stamp_ms - stamp_ms.min(state.taken_ms) >= MAX_NAP_MS {
            self.sequencer.wake();
        }
        Ok(sequence)
    }
}

fn change(write: &Write) -> Change<'_> {
    match write {
        Write::Put { value, expires_ms } => Change::Put {
            value,
            expires_ms: *expires_ms,
        },
        Write::Delete => Change::Delete,
        Write::Expire => Change::Expire,
    }
}

fn version(write: Write, sequence: Sequence) -> Version {
    match write {
        Write::Put { value, expires_ms } => Version {
            sequence,
            expires_ms,
            value: Some(value),
        },
        Write::Delete | Write::Expire => Version {
            sequence,
            expires_ms: 0,
            value: None,
        },
    }
}
