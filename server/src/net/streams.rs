//! Streams on their way out: a task for each, beside the requests of its connection.

use luge_protocol::{ErrorReply, Reply, Response};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::NetOptions;
use super::replies::Replies;
use crate::function::Runtime;
use crate::session::{Interruption, Stream};
use crate::store::Store;

/// The streams of one connection. Dropping it ends them where they stand.
pub(super) struct Streams {
    tasks: JoinSet<()>,
    replies: Replies,
    options: NetOptions,
    stopping: watch::Receiver<bool>,
}

impl Streams {
    pub(super) fn new(
        replies: Replies,
        options: NetOptions,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self {
            tasks: JoinSet::new(),
            replies,
            options,
            stopping,
        }
    }

    /// Begins to drive a stream whose first response has been sent.
    pub(super) fn start<S: Store, R: Runtime<S::Snapshot>>(&mut self, stream: Stream<S, R>) {
        // Those that have ended are not kept.
        while self.tasks.try_join_next().is_some() {}
        let (replies, stopping) = (self.replies.clone(), self.stopping.clone());
        self.tasks
            .spawn(drive(stream, replies, self.options, stopping));
    }

    /// Whether none is under way.
    pub(super) fn is_empty(&mut self) -> bool {
        while self.tasks.try_join_next().is_some() {}
        self.tasks.is_empty()
    }

    /// Waits until all have ended, as they do when the server stops.
    pub(super) async fn finish(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Tells a stream's events, and how it ended.
async fn drive<S: Store, R: Runtime<S::Snapshot>>(
    mut stream: Stream<S, R>,
    replies: Replies,
    options: NetOptions,
    mut stopping: watch::Receiver<bool>,
) {
    let stopped = stream.stopped();
    let ended = tokio::select! {
        biased;
        () = stopped => Some(Ok(())),
        _ = stopping.wait_for(|is_stopping| *is_stopping) => None,
        outcome = tell(&mut stream, &replies, &options) => Some(outcome),
    };
    let outcome = ended.unwrap_or_else(|| Err(stream.interrupted(Interruption::Stopping)));
    let id = stream.id();
    // Whoever reads the last response may use the id again.
    let place = stream.release();
    let outcome = outcome.map(Reply::Done);
    replies.send_last(Response { id, outcome }).await;
    drop(place);
}

/// Tells event after event, until there are no more or one can't be told.
async fn tell<S: Store, R: Runtime<S::Snapshot>>(
    stream: &mut Stream<S, R>,
    replies: &Replies,
    options: &NetOptions,
) -> Result<(), ErrorReply> {
    let id = stream.id();
    let response = |reply| Response {
        id,
        outcome: Ok(reply),
    };
    while let Some(event) = next(stream, replies, options).await? {
        let sent = replies.send_event(response(event));
        let is_sent = match stream.is_cut_off() {
            true => match timeout(options.watch_timeout, sent).await {
                Ok(is_sent) => is_sent,
                Err(_) => return Err(stream.interrupted(Interruption::Slow)),
            },
            false => sent.await,
        };
        if !is_sent {
            // The connection has ended.
            return Ok(());
        }
        stream.told();
    }
    Ok(())
}

/// The next event. While there is none for long, a watcher is told how far it knows everything.
async fn next<S: Store, R: Runtime<S::Snapshot>>(
    stream: &mut Stream<S, R>,
    replies: &Replies,
    options: &NetOptions,
) -> Result<Option<Reply>, ErrorReply> {
    let (id, progress) = (stream.id(), stream.progress());
    let next = stream.next();
    tokio::pin!(next);
    loop {
        tokio::select! {
            biased;
            event = &mut next => return event,
            () = sleep(options.watch_progress), if progress.is_some() => {}
        }
        if let Some(progress) = &progress {
            let response = Response {
                id,
                outcome: Ok(progress.reply()),
            };
            // One that can't be told at once is as good as told: the client has others to read.
            let _ = timeout(options.watch_timeout, replies.send_event(response)).await;
        }
    }
}
