//! One connection: a socket that drives a session.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use bytes::BytesMut;
use luge_protocol::FrameCodec;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::batch::Batch;
use super::farewell::{LINGER, farewell, say_farewell, too_late};
use super::requests::{End, Requests};
use super::streams::Streams;
use super::{NetOptions, Tls, replies};
use crate::function::{Identity, Runtime};
use crate::session::{Answer, Core, Session};
use crate::store::Store;

/// The longest body before a greeting is accepted: a `hello` is short, and strangers should not fill
/// buffers.
const MAX_GREETING_BYTES: usize = 16 << 10;

/// What the connections of a listener share.
pub(super) struct Common<S: Store, R: Runtime<S::Snapshot>> {
    pub(super) core: Arc<Core<S, R>>,
    pub(super) options: NetOptions,
    pub(super) shared: replies::Shared,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) stopping: watch::Receiver<bool>,
}

/// Serves one connection until it ends, or until the server stops.
pub(super) async fn serve<S: Store, R: Runtime<S::Snapshot>>(
    common: &Common<S, R>,
    socket: TcpStream,
    peer: SocketAddr,
    number: u64,
) {
    let deadline = Instant::now() + common.options.greeting_timeout;
    // Replies are written together already; waiting for more would only add time.
    let _ = socket.set_nodelay(true);
    let identity = Identity {
        connection: number,
        peer: peer.ip().to_string(),
        client: None,
        user: None,
    };
    let Some(tls) = &common.tls else {
        let (source, sink) = socket.into_split();
        return converse(common, identity, source, sink, deadline).await;
    };
    // A connection without TLS has no room for it.
    Box::pin(async {
        let mut stopping = common.stopping.clone();
        let accepted = tokio::select! {
            accepted = tls.accept(socket, deadline, &common.options) => accepted,
            _ = stopping.wait_for(|is_stopping| *is_stopping) => None,
        };
        if let Some(stream) = accepted {
            let (source, sink) = tokio::io::split(stream);
            converse(common, identity, source, sink, deadline).await;
        }
    })
    .await;
}

/// Answers what comes in at `source` by way of `sink`. A greeting must be accepted until `deadline`.
async fn converse<S: Store, R: Runtime<S::Snapshot>>(
    common: &Common<S, R>,
    identity: Identity,
    source: impl AsyncRead + Unpin,
    mut sink: impl AsyncWrite + Unpin,
    deadline: Instant,
) {
    let (core, options) = (&common.core, common.options);
    let (shared, stopping) = (common.shared.clone(), common.stopping.clone());
    let session = Session::new(Arc::clone(core), identity);
    let (answers, waiting) = replies::queue(&options, shared.clone());
    let requests = Requests {
        socket: source,
        buffer: BytesMut::new(),
        codec: FrameCodec {
            max_frame_bytes: options.max_frame_bytes.min(MAX_GREETING_BYTES),
        },
        options,
        frame_began: None,
        has_spoken: false,
        greeting_deadline: Some(deadline),
        shared: shared.replies,
        received: &core.traffic().received_bytes,
        held: None,
    };
    // In memory of their own: to be pinned where they were made they would be moved, and a connection would have room for
    // them twice.
    let mut read = Box::pin(async {
        let streams = Streams::new(answers.clone(), options, stopping.clone());
        let end = answer_all(session, requests, &answers, streams, stopping).await;
        // The writer ends once everything that was answered has left.
        answers.end();
        end
    });
    let store = &core.store;
    let mut write = Box::pin(async move {
        let sent = &core.traffic().sent_bytes;
        let patience = options.write_timeout;
        waiting.write(store, &mut sink, patience, sent).await;
        sink
    });
    // Whichever ends first: without a writer there is nobody to answer to, and without a reader the
    // writer goes on with what is left.
    let Some((mut requests, end)) = before(read.as_mut(), write.as_mut()).await else {
        return;
    };
    let mut sink = write.await;
    let farewell = match end {
        End::Closed => {
            // By TLS, an end in order is said.
            let _ = timeout(LINGER, sink.shutdown()).await;
            None
        }
        End::Idle => Some(too_late("no request came", options.idle_timeout)),
        End::Over => Some(Vec::new()),
        End::Refused(farewell) => Some(farewell),
    };
    if let Some(farewell) = farewell {
        // It has a buffer, for which there is no room before it comes to that.
        let (socket, patience) = (&mut requests.socket, options.write_timeout);
        Box::pin(say_farewell(socket, &mut sink, &farewell, patience)).await;
    }
}

/// What the reader ends with, if it does before the writer, which has the first and the last word of each turn: what
/// was answered in a turn leaves in it, and what a turn that was cut short has left leaves in the next, before more is
/// answered.
async fn before<T, W>(
    mut reader: Pin<&mut impl Future<Output = T>>,
    mut writer: Pin<&mut impl Future<Output = W>>,
) -> Option<T> {
    poll_fn(|context| {
        if writer.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(end) = reader.as_mut().poll(context) {
            return Poll::Ready(Some(end));
        }
        writer.as_mut().poll(context).map(|_| None)
    })
    .await
}

async fn answer_all<'a, S: Store, R: Runtime<S::Snapshot>, I: AsyncRead + Unpin>(
    mut session: Session<S, R>,
    mut requests: Requests<'a, I>,
    answers: &replies::Replies,
    mut streams: Streams,
    mut stopping: watch::Receiver<bool>,
) -> (Requests<'a, I>, End) {
    let mut authority = session.authority();
    let mut batch = Batch::default();
    loop {
        answer_batch(&mut session, &mut requests, answers, &mut batch);
        if !batch.is_due() && requests.whole().is_some() {
            let (session, requests_in) = (&mut session, &mut requests);
            let answered = answer_next(session, requests_in, answers, &mut batch, &mut streams);
            if let Err(end) = answered.await {
                return (requests, end);
            }
            if !is_told_to_stop(&stopping) {
                continue;
            }
        }
        if !batch.is_empty() {
            requests.release();
            let is_due = batch.is_due();
            if !answers.send_batch(&mut batch).await {
                return (requests, End::Closed);
            }
            if is_due {
                // Other connections, and the way out of these replies, get their turn.
                tokio::task::yield_now().await;
            }
            if !is_told_to_stop(&stopping) {
                continue;
            }
        }
        if is_told_to_stop(&stopping) {
            break;
        }
        let arrived = tokio::select! {
            biased;
            arrived = requests.more() => arrived,
            _ = stopping.wait_for(|is_stopping| *is_stopping) => break,
            // An idle connection, too, and one that only watches, ends with its token.
            Ok(()) = authority.changed() => match session.renew() {
                Ok(()) => continue,
                Err(over) => return (requests, End::Refused(farewell(over))),
            },
        };
        match arrived {
            Ok(()) => {}
            // A connection with a stream has something to wait for.
            Err(End::Idle) if !streams.is_empty() => {}
            Err(end) => return (requests, end),
        }
    }
    streams.finish().await;
    (requests, End::Closed)
}

/// Answers the next request, which is there as a whole, and takes up what it began.
async fn answer_next<S: Store, R: Runtime<S::Snapshot>, I: AsyncRead + Unpin>(
    session: &mut Session<S, R>,
    requests: &mut Requests<'_, I>,
    answers: &replies::Replies,
    batch: &mut Batch,
    streams: &mut Streams,
) -> Result<(), End> {
    let Some(body) = requests.whole() else {
        return Ok(());
    };
    let bytes = body.len();
    let answer = handle(session, body, answers, batch).await;
    let answer = answer.ok_or(End::Closed)?;
    // What the request took is given back before its reply asks for room.
    requests.pass(bytes);
    requests.release();
    if !answers.answer(batch, answer).await {
        return Err(End::Closed);
    }
    if session.is_over() {
        answers.send_batch(batch).await;
        return Err(End::Over);
    }
    if session.is_admitted() {
        requests.admit();
    }
    if let Some(stream) = session.begun() {
        // Its events go behind its first response.
        if !answers.send_batch(batch).await {
            return Err(End::Closed);
        }
        streams.start(stream);
    }
    Ok(())
}

/// Looks without the lock of the value: it is told once.
fn is_told_to_stop(stopping: &watch::Receiver<bool>) -> bool {
    stopping.has_changed().unwrap_or(true)
}

/// Handles a request. If it has to wait for something, the replies before it do not wait with it. Answers nothing
/// where the connection can't be written to any more.
async fn handle<S: Store, R: Runtime<S::Snapshot>>(
    session: &mut Session<S, R>,
    body: &[u8],
    answers: &replies::Replies,
    batch: &mut Batch,
) -> Option<Answer> {
    let arrived = now();
    batch.note(arrived);
    let mut handling = pin!(session.handle(body, arrived));
    let at_once = poll_fn(|context| match handling.as_mut().poll(context) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending => Poll::Ready(None),
    });
    if let Some(answer) = at_once.await {
        return Some(answer);
    }
    // The request goes on while the replies wait for room: others may wait for it, and who ends it for its end.
    let sent = async { answers.send_batch(batch).await.then_some(()).ok_or(()) };
    let handled = async { Ok(handling.await) };
    let ((), answer) = tokio::try_join!(sent, handled).ok()?;
    Some(answer)
}

/// Answers the plain requests that have arrived and come next, as long as there is room for their replies.
fn answer_batch<S: Store, R: Runtime<S::Snapshot>, I: AsyncRead + Unpin>(
    session: &mut Session<S, R>,
    requests: &mut Requests<'_, I>,
    answers: &replies::Replies,
    batch: &mut Batch,
) {
    while answers.has_room(batch)
        && let Some(body) = requests.whole()
        && batch.add(|target| session.answer_at_once(body, target))
    {
        let bytes = body.len();
        requests.pass(bytes);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "here time enters: a request's arrival"
)]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}
