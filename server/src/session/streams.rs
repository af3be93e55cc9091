//! Streams: `watch`, `backup` and `logs`, which answer one request with many responses.
//!
//! A session opens a stream and knows it by its request's id until it has ended. Whoever drives the
//! session takes the stream over, asks it for one event after the other, and says which of them were
//! told, so that the end of a watch can say where to go on.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use luge_protocol::{ErrorReply, HookCommand, Logs, Reply, RequestId, Watch, WatchEvent};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::logs::Reading;
use super::watch::Filter;
use super::{Core, Outcome, Session, refusal};
use crate::function::Runtime;
use crate::store::{Backup, Feed, Sequence, Store, StoreError};
use crate::transaction::prefix_end;

/// What a piece of a backup takes as a response beside its bytes, at the most.
const PIECE_OVERHEAD_BYTES: usize = 32;

/// What a request is answered with over time.
pub struct Stream<S: Store, R: Runtime<S::Snapshot>> {
    core: Arc<Core<S, R>>,
    id: RequestId,
    source: Source<S>,
    stop: watch::Receiver<bool>,
    place: OwnedSemaphorePermit,
}

enum Source<S: Store> {
    Watch(Box<Watching<S::Feed>>),
    Backup {
        backup: S::Backup,
        /// What is left of the last piece.
        piece: Bytes,
    },
    Logs(Reading),
}

struct Watching<F> {
    feed: F,
    filter: Filter,
    /// Where the keys begin and end whose hooks matter, where values are told.
    hooked: Option<(Vec<u8>, Vec<u8>)>,
    waiting: VecDeque<WatchEvent>,
    /// Why it ends once what waits is told.
    failed: Option<ErrorReply>,
    /// The newest commit that was read.
    seen: Sequence,
    /// The commit that is told whole once the event that was taken last is told.
    offered: Option<Sequence>,
    /// The first commit that was not told.
    resume: Arc<AtomicU64>,
}

/// What ends a stream from the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interruption {
    /// The watcher does not take what it is told.
    Slow,
    /// The server stops.
    Stopping,
}

/// The streams of a session that have not ended, by their requests' ids.
#[derive(Default)]
pub(super) struct StreamTable(Vec<(RequestId, watch::Sender<bool>)>);

impl StreamTable {
    /// A place for one more.
    fn enter(&mut self, id: RequestId, limit: usize) -> Result<watch::Receiver<bool>, ErrorReply> {
        self.0.retain(|(_, stop)| !stop.is_closed());
        if self.0.iter().any(|(other, _)| *other == id) {
            return Err(refusal::stream_twice(id));
        }
        if self.0.len() >= limit {
            return Err(refusal::too_many_streams(limit, "of a connection"));
        }
        let (stop, stopped) = watch::channel(false);
        self.0.push((id, stop));
        Ok(stopped)
    }

    /// Ends a stream, if there is one of this id.
    pub(super) fn stop(&self, id: RequestId) {
        for (_, stop) in self.0.iter().filter(|(other, _)| *other == id) {
            stop.send_replace(true);
        }
    }
}

impl<S: Store, R: Runtime<S::Snapshot>> Session<S, R> {
    /// The stream that the last request began, for whoever drives it; dropping it ends it.
    pub fn begun(&mut self) -> Option<Stream<S, R>> {
        self.begun.take()
    }

    pub(super) async fn watch(&mut self, id: RequestId, watch: &Watch<'_>) -> Outcome {
        match self.open_watch(id, watch).await {
            Ok((begin, gate)) => (Ok(Reply::Event(WatchEvent::progress(begin))), gate),
            Err(error) => (Err(error), 0),
        }
    }

    /// Answers the commit behind which everything will be told, and the gate for saying so.
    async fn open_watch(
        &mut self,
        id: RequestId,
        watch: &Watch<'_>,
    ) -> Result<(Sequence, Sequence), ErrorReply> {
        let (core, prefix) = (&self.core, &watch.prefix[..]);
        let limit = core.settings.command.max_key_bytes;
        if prefix.len() > limit {
            return Err(refusal::long_prefix(prefix.len(), limit));
        }
        let keys_only = watch.keys_only == Some(true);
        let hooked = (!keys_only).then(|| (prefix.to_vec(), prefix_end(prefix)));
        check_hooks(core, hooked.as_ref())?;
        let newest = core.store.visible();
        let begin = watch.from.map_or(newest, |from| from.saturating_sub(1));
        if begin > newest {
            return Err(refusal::ahead(begin + 1, newest));
        }
        let (stop, place) = self.place(id)?;
        let core = Arc::clone(&self.core);
        let feed = core.store.follow(Some(begin)).await;
        let feed = feed.map_err(|error| refusal::store(&error))?;
        let watching = Watching {
            feed,
            filter: Filter::new(prefix, keys_only, core.settings.max_frame_bytes),
            hooked,
            waiting: VecDeque::new(),
            failed: None,
            seen: begin,
            offered: None,
            resume: Arc::new(AtomicU64::new(begin + 1)),
        };
        self.begun = Some(Stream {
            core,
            id,
            source: Source::Watch(Box::new(watching)),
            stop,
            place,
        });
        Ok((begin, begin))
    }

    pub(super) async fn backup(&mut self, id: RequestId) -> Outcome {
        match self.open_backup(id).await {
            Ok(()) => (Ok(Reply::Piece(Bytes::new())), 0),
            Err(error) => (Err(error), 0),
        }
    }

    async fn open_backup(&mut self, id: RequestId) -> Result<(), ErrorReply> {
        let (stop, place) = self.place(id)?;
        let core = Arc::clone(&self.core);
        let backup = core.store.backup().await;
        let backup = backup.map_err(|error| refusal::store(&error))?;
        let piece = Bytes::new();
        self.begun = Some(Stream {
            core,
            id,
            source: Source::Backup { backup, piece },
            stop,
            place,
        });
        Ok(())
    }

    /// Answers the first of the lines that are kept.
    pub(super) fn logs(&mut self, id: RequestId, logs: &Logs<'_>) -> Result<Reply, ErrorReply> {
        let mut reading = Reading::new(&self.core.log, logs)?;
        let first = reading.kept();
        let (stop, place) = self.place(id)?;
        self.begun = Some(Stream {
            core: Arc::clone(&self.core),
            id,
            source: Source::Logs(reading),
            stop,
            place,
        });
        Ok(Reply::Lines(first))
    }

    fn place(
        &mut self,
        id: RequestId,
    ) -> Result<(watch::Receiver<bool>, OwnedSemaphorePermit), ErrorReply> {
        let settings = &self.core.settings;
        let stop = self.streams.enter(id, settings.max_streams)?;
        let place = Arc::clone(&self.core.stream_places).try_acquire_owned();
        let limit = settings.max_all_streams;
        let place = place.map_err(|_| refusal::too_many_streams(limit, "of all connections"))?;
        Ok((stop, place))
    }
}

impl<S: Store, R: Runtime<S::Snapshot>> Stream<S, R> {
    /// The request that it answers.
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// The next event; nothing at the end. Not to be dropped before it is ready, unless the stream is.
    ///
    /// # Errors
    /// The stream ends, and why.
    pub async fn next(&mut self) -> Result<Option<Reply>, ErrorReply> {
        match &mut self.source {
            Source::Watch(watching) => {
                let event = watching.next(&self.core).await?;
                Ok(Some(Reply::Event(event)))
            }
            Source::Backup { backup, piece } => {
                if piece.is_empty() {
                    match backup.next().await {
                        Ok(Some(next)) => *piece = next,
                        Ok(None) => return Ok(None),
                        Err(error) => return Err(refusal::store(&error)),
                    }
                }
                let limit = self.core.settings.max_frame_bytes - PIECE_OVERHEAD_BYTES;
                let next = piece.split_to(piece.len().min(limit));
                Ok(Some(Reply::Piece(next)))
            }
            Source::Logs(reading) => Ok(reading.next().await.map(Reply::Lines)),
        }
    }

    /// Notes that the event that was taken last is on its way.
    pub fn told(&mut self) {
        if let Source::Watch(watching) = &mut self.source
            && let Some(offered) = watching.offered.take()
        {
            watching.resume.store(offered + 1, Ordering::Relaxed);
        }
    }

    /// What a watcher can be told when it was told nothing for long: how far it knows everything.
    pub fn progress(&self) -> Option<Progress> {
        match &self.source {
            Source::Watch(watching) => Some(Progress(Arc::clone(&watching.resume))),
            Source::Backup { .. } | Source::Logs(_) => None,
        }
    }

    /// Whether it is cut off when its client does not take what it is told; else it waits.
    pub fn is_cut_off(&self) -> bool {
        matches!(self.source, Source::Watch(_))
    }

    /// Waits until `stop` ends it.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut stop = self.stop.clone();
        async move {
            if stop.wait_for(|is_stopped| *is_stopped).await.is_err() {
                // The connection has ended, and nobody is told anything any more.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Why it ends.
    pub fn interrupted(&self, why: Interruption) -> ErrorReply {
        let resume = match &self.source {
            Source::Watch(watching) => Some(watching.resume.load(Ordering::Relaxed)),
            Source::Backup { .. } | Source::Logs(_) => None,
        };
        match why {
            Interruption::Slow => refusal::slow(resume),
            Interruption::Stopping => refusal::stopping(resume),
        }
    }

    /// Ends it, so that its id can be used again. Its place is given back when what is returned is
    /// dropped.
    pub fn release(self) -> OwnedSemaphorePermit {
        self.place
    }
}

impl Progress {
    /// What the watcher is told now. It moves on also while the next event is waited for, over commits
    /// that the watcher is not told.
    pub fn reply(&self) -> Reply {
        let resume = self.0.load(Ordering::Relaxed);
        Reply::Event(WatchEvent::progress(resume - 1))
    }
}

impl<F: Feed> Watching<F> {
    fn resume(&self) -> Sequence {
        self.resume.load(Ordering::Relaxed)
    }

    async fn next<S: Store, R: Runtime<S::Snapshot>>(
        &mut self,
        core: &Core<S, R>,
    ) -> Result<WatchEvent, ErrorReply> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                self.offered = (!event.more).then_some(event.sequence);
                return Ok(event);
            }
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            let commits = match self.feed.next().await {
                Ok(commits) => commits,
                Err(error @ StoreError::Forgotten { .. }) => return Err(refusal::store(&error)),
                Err(error) => {
                    return Err(refusal::resumed_at(refusal::store(&error), self.resume()));
                }
            };
            // After they were read: a commit behind the push of a hook is never told.
            check_hooks(core, self.hooked.as_ref())
                .map_err(|error| refusal::resumed_at(error, self.resume()))?;
            for commit in commits {
                self.seen = commit.sequence;
                match self.filter.events(commit) {
                    Ok(events) => self.waiting.extend(events),
                    Err(error) => {
                        self.failed = Some(refusal::too_large_to_tell(&error));
                        break;
                    }
                }
            }
            if self.waiting.is_empty() {
                self.resume.store(self.seen + 1, Ordering::Relaxed);
            }
        }
    }
}

/// How far a watcher knows everything.
pub struct Progress(Arc<AtomicU64>);

/// Values do not pass the hooks of `get` on their way to a watcher, so they are not told where there
/// are any.
fn check_hooks<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    hooked: Option<&(Vec<u8>, Vec<u8>)>,
) -> Result<(), ErrorReply> {
    let Some((start, end)) = hooked else {
        return Ok(());
    };
    let registry = core.registry.load();
    match registry.hook_in_range(HookCommand::Get, start, end) {
        Some(entry) => {
            let module = &entry.module.description.name;
            Err(refusal::hooked_prefix(start, module, &entry.hook.hook))
        }
        None => Ok(()),
    }
}
