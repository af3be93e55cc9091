//! The one thread that writes: it takes commits in groups, and each group costs one sync.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use super::folder::{Folder, FolderError};
use super::layout::{self, Progress};
use super::{Acks, Shared, SledSnapshot};
use crate::store::{Commit, CommitOutcome, Entry, Sequence, StoreError};

/// The most commits that share a sync. What more there is waits for the next.
const MAX_GROUP_COMMITS: usize = 1024;

/// The most bytes of keys and values in a group, so that one group's batch stays small beside the
/// bound of the largest single commit.
const MAX_GROUP_BYTES: usize = 16 << 20;

type Answer = oneshot::Sender<Result<CommitOutcome, StoreError>>;

/// What is asked of the committer.
pub(super) enum Request {
    /// To validate and write.
    Commit {
        snapshot: SledSnapshot,
        commit: Commit,
        answer: Answer,
    },
    /// To make everything durable and end.
    Close(Answer),
}

pub(super) struct Committer {
    shared: Arc<Shared>,
    database: sled::Db,
    folder: Folder,
    waiting: mpsc::Receiver<Request>,
    publish: watch::Sender<Acks>,
    /// Why no more commits are taken, after a failure that leaves the disk in doubt.
    failure: Option<String>,
}

/// A group of commits on its way to sled.
#[derive(Default)]
struct Group {
    /// What each key in question holds: before the group at first, then as its commits change it.
    current: HashMap<Bytes, Option<Entry>>,
    /// What each changed key held before the group.
    before: HashMap<Bytes, Option<Entry>>,
    /// Who is to be told which sequence.
    committed: Vec<(Answer, Sequence)>,
    last: Option<Progress>,
    is_durable: bool,
}

struct Pending {
    snapshot: SledSnapshot,
    commit: Commit,
    answer: Answer,
}

impl Committer {
    /// Starts the thread. It ends when it is told to close, or when nobody can ask it any more.
    pub(super) fn start(
        shared: Arc<Shared>,
        database: sled::Db,
        folder: Folder,
        waiting: mpsc::Receiver<Request>,
        publish: watch::Sender<Acks>,
    ) -> Result<(), FolderError> {
        let committer = Self {
            shared,
            database,
            folder,
            waiting,
            publish,
            failure: None,
        };
        let thread = std::thread::Builder::new().name("luge-committer".to_owned());
        thread
            .spawn(move || committer.run())
            .map(drop)
            .map_err(|error| FolderError::Io {
                action: "start a thread for",
                path: "the committer".into(),
                error,
            })
    }

    fn run(mut self) {
        let mut close = None;
        while let Some(first) = self.waiting.blocking_recv() {
            let mut group = Vec::new();
            close = self.collect(first, &mut group);
            self.commit_group(group);
            if close.is_some() {
                break;
            }
        }
        self.refuse_rest();
        let closed = self.close();
        let publish = self.publish.clone();
        // The folder's lock and sled's own are given back before anyone is told.
        drop(self);
        publish.send_modify(|acks| acks.is_closed = true);
        if let Some(answer) = close {
            let _ = answer.send(closed.map(|()| CommitOutcome::Committed(0)));
        }
    }

    /// Answers what came too late.
    fn refuse_rest(&mut self) {
        self.waiting.close();
        while let Ok(late) = self.waiting.try_recv() {
            let (Request::Commit { answer, .. } | Request::Close(answer)) = late;
            let _ = answer.send(Err(StoreError::Unavailable("it is closed".to_owned())));
        }
    }

    /// Takes what is waiting, up to the bounds of a group. Answers who asked to close, if anyone did.
    fn collect(&mut self, first: Request, group: &mut Vec<Pending>) -> Option<Answer> {
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(request) = next {
            match request {
                Request::Close(answer) => return Some(answer),
                Request::Commit {
                    snapshot,
                    commit,
                    answer,
                } => {
                    bytes += weight(&commit);
                    group.push(Pending {
                        snapshot,
                        commit,
                        answer,
                    });
                }
            }
            let is_full = group.len() >= MAX_GROUP_COMMITS || bytes >= MAX_GROUP_BYTES;
            next = if is_full {
                None
            } else {
                self.waiting.try_recv().ok()
            };
        }
        None
    }

    fn commit_group(&mut self, pending: Vec<Pending>) {
        if let Some(failure) = &self.failure {
            for Pending { answer, .. } in pending {
                let _ = answer.send(Err(StoreError::Unavailable(failure.clone())));
            }
            return;
        }
        let mut group = Group::default();
        for pending in pending {
            match self.read_current(&mut group, &pending.commit) {
                Ok(()) => self.sequence(&mut group, pending),
                Err(error) => drop(pending.answer.send(Err(error))),
            }
        }
        if let Some(last) = group.last {
            self.write(group, last);
        }
    }

    /// Reads what the commit is about to replace, outside of any lock: a cold read takes its time.
    fn read_current(&self, group: &mut Group, commit: &Commit) -> Result<(), StoreError> {
        for key in commit.writes.keys() {
            if !group.current.contains_key(key) {
                let entry = layout::read(&self.shared.tree, key)?;
                group.current.insert(key.clone(), entry);
            }
        }
        Ok(())
    }

    /// Validates one commit, and puts what it replaces into the history.
    fn sequence(&self, group: &mut Group, pending: Pending) {
        let Pending {
            snapshot,
            commit,
            answer,
        } = pending;
        let now_ms = self.shared.clock.now_ms();
        let mut state = self.shared.lock();
        state.stamp_ms = state.stamp_ms.max(now_ms);
        let stamp_ms = state.stamp_ms;
        let has_expired = commit.reads.has_expired(stamp_ms);
        let outcome = match state.history.has_conflict(&commit.reads, snapshot.sequence) {
            Ok(has_changed) if has_changed || has_expired => Ok(CommitOutcome::Conflict),
            Ok(_) => {
                let sequence = group.last.map_or(state.visible, |last| last.sequence) + 1;
                let replaced = commit
                    .writes
                    .keys()
                    .map(|key| (key.clone(), group.current.get(key).cloned().flatten()));
                state.history.record(sequence, stamp_ms, replaced);
                group.last = Some(Progress {
                    sequence,
                    stamp_ms,
                    is_clean: false,
                });
                Ok(CommitOutcome::Committed(sequence))
            }
            Err(error) => Err(error),
        };
        drop(state);
        match outcome {
            Ok(CommitOutcome::Committed(sequence)) => {
                group.is_durable |= commit.durable;
                group.apply(commit, sequence);
                group.committed.push((answer, sequence));
            }
            other => drop(answer.send(other)),
        }
    }

    fn write(&mut self, group: Group, last: Progress) {
        let mut batch = sled::Batch::default();
        for (key, before) in &group.before {
            let new = group.current.get(key).and_then(Option::as_ref);
            layout::write(&mut batch, key, before.as_ref(), new);
        }
        batch.insert(layout::PROGRESS_KEY, last.encode());
        if let Err(error) = self.shared.tree.apply_batch(batch) {
            let failure = error.to_string();
            for (answer, _) in group.committed {
                let _ = answer.send(Err(StoreError::UnknownOutcome(failure.clone())));
            }
            self.fail(failure);
            return;
        }
        self.shared.lock().visible = last.sequence;
        for (answer, sequence) in group.committed {
            let _ = answer.send(Ok(CommitOutcome::Committed(sequence)));
        }
        match self.sync(group.is_durable) {
            Ok(()) => self.ack(last.sequence),
            Err(failure) => self.fail(failure),
        }
    }

    fn sync(&mut self, is_durable: bool) -> Result<(), String> {
        self.database.flush().map_err(|error| error.to_string())?;
        if !is_durable {
            return Ok(());
        }
        self.folder.sync().map_err(|error| error.to_string())
    }

    fn ack(&self, sequence: Sequence) {
        let mut state = self.shared.lock();
        state.acked = sequence;
        state.history.forget(sequence);
        drop(state);
        self.shared.acked.store(sequence, Ordering::Release);
        self.publish.send_modify(|acks| acks.acked = sequence);
    }

    /// After a failed write or sync nothing that follows can be trusted to last.
    fn fail(&mut self, failure: String) {
        tracing::error!(%failure, "the store failed; writes need a restart");
        self.publish
            .send_modify(|acks| acks.failure = Some(failure.clone()));
        self.failure = Some(failure);
    }

    fn close(&mut self) -> Result<(), StoreError> {
        if let Some(failure) = &self.failure {
            return Err(StoreError::Unavailable(failure.clone()));
        }
        let state = self.shared.lock();
        let (sequence, stamp_ms) = (state.visible, state.stamp_ms);
        drop(state);
        let progress = Progress {
            sequence,
            stamp_ms,
            is_clean: true,
        };
        let marked = self
            .shared
            .tree
            .insert(layout::PROGRESS_KEY, progress.encode());
        marked.map_err(layout::storage)?;
        self.sync(true).map_err(StoreError::Storage)
    }
}

impl Group {
    fn apply(&mut self, commit: Commit, sequence: Sequence) {
        for (key, write) in commit.writes {
            let new = write.into_entry(sequence);
            let old = self.current.insert(key.clone(), new).flatten();
            self.before.entry(key).or_insert(old);
        }
    }
}

fn weight(commit: &Commit) -> usize {
    commit
        .writes
        .iter()
        .map(|(key, write)| write.bytes(key))
        .sum()
}
