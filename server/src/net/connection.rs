//! One connection: a socket that drives a session.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use luge_protocol::{ErrorCode, ErrorReply, FRAME_HEADER_BYTES, FrameCodec, FrameError, Response};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::codec::Decoder;

use super::buffers::{ALLOWANCE_BYTES, Held, SharedBuffers};
use super::replies::Batch;
use super::streams::Streams;
use super::{NetOptions, Tls, foreign, replies};
use crate::function::{Identity, Runtime};
use crate::session::{Answer, Core, Session};
use crate::store::Store;

/// How much is read at once: many requests of a pipeline.
const READ_BYTES: usize = 32 << 10;

/// The longest body before a greeting is accepted: a `hello` is short, and strangers should not fill
/// buffers.
const MAX_GREETING_BYTES: usize = 16 << 10;

/// How long a refused peer may go on sending before it is cut off. Without it, a reset could
/// overtake the refusal.
const LINGER: Duration = Duration::from_secs(1);

/// What is left of a connection that came to its end.
enum End {
    /// The peer closed, or the socket failed.
    Closed,
    /// No request came for too long.
    Idle,
    /// We close, and everything has been said.
    Over,
    /// We close, after this has been said.
    Refused(Vec<u8>),
}

/// The way in.
struct Requests<'a, I> {
    socket: I,
    buffer: BytesMut,
    codec: FrameCodec,
    options: NetOptions,
    /// When the frame that is arriving began to.
    frame_began: Option<Instant>,
    has_spoken: bool,
    /// When the connection must have been greeted; nothing once it was.
    greeting_deadline: Option<Instant>,
    shared: SharedBuffers,
    received: &'a AtomicU64,
    /// What the buffer takes of the server's budget, while a large frame arrives and is handled.
    held: Option<Held>,
}

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
    let mut stopping = common.stopping.clone();
    let accepted = tokio::select! {
        accepted = tls.accept(socket, deadline, &common.options) => accepted,
        _ = stopping.wait_for(|is_stopping| *is_stopping) => None,
    };
    if let Some(stream) = accepted {
        let (source, sink) = tokio::io::split(stream);
        converse(common, identity, source, sink, deadline).await;
    }
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
    let read = async {
        let streams = Streams::new(answers.clone(), options, stopping.clone());
        let end = answer_all(session, requests, &answers, streams, stopping).await;
        // The writer ends once everything that was answered has left.
        answers.end();
        end
    };
    let store = &core.store;
    let write = async move {
        let sent = &core.traffic().sent_bytes;
        let patience = options.write_timeout;
        waiting.write(store, &mut sink, patience, sent).await;
        sink
    };
    // Whichever ends first: without a writer there is nobody to answer to, and without a reader the
    // writer goes on with what is left.
    tokio::pin!(read, write);
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
        say_farewell(
            &mut requests.socket,
            &mut sink,
            &farewell,
            options.write_timeout,
        )
        .await;
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
        if !batch.is_empty() {
            requests.release();
            if !answers.send_batch(&mut batch).await {
                return (requests, End::Closed);
            }
            if *stopping.borrow() {
                break;
            }
            continue;
        }
        let next = tokio::select! {
            biased;
            next = requests.next() => next,
            _ = stopping.wait_for(|is_stopping| *is_stopping) => break,
            // An idle connection, too, and one that only watches, ends with its token.
            Ok(()) = authority.changed() => match session.renew() {
                Ok(()) => continue,
                Err(over) => return (requests, End::Refused(farewell(over))),
            },
        };
        let body = match next {
            Ok(Some(body)) => body,
            Ok(None) => continue,
            // A connection with a stream has something to wait for.
            Err(End::Idle) if !streams.is_empty() => continue,
            Err(end) => return (requests, end),
        };
        let arrived = now();
        let answer: Answer = session.handle(&body, arrived).await;
        // What the request took is given back before its reply asks for room.
        drop(body);
        requests.release();
        if !answers.send(answer).await {
            return (requests, End::Closed);
        }
        if session.is_over() {
            return (requests, End::Over);
        }
        if session.is_admitted() {
            requests.admit();
        }
        if let Some(stream) = session.begun() {
            streams.start(stream);
        }
        if *stopping.borrow() {
            break;
        }
    }
    streams.finish().await;
    (requests, End::Closed)
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

impl<I: AsyncRead + Unpin> Requests<'_, I> {
    /// The body of the next request where it lies, if that is there as a whole and within the bounds.
    fn whole(&self) -> Option<&[u8]> {
        let (header, rest) = self.buffer.split_first_chunk::<FRAME_HEADER_BYTES>()?;
        let bytes = u32::from_be_bytes(*header) as usize;
        (bytes <= self.codec.max_frame_bytes)
            .then(|| rest.get(..bytes))
            .flatten()
    }

    /// Goes on behind a request's body that was looked at.
    fn pass(&mut self, bytes: usize) {
        self.buffer.advance(FRAME_HEADER_BYTES + bytes);
        self.frame_began = None;
        self.has_spoken = true;
    }

    /// The next request's body if it is there as a whole; otherwise reads what has arrived, which may be one.
    async fn next(&mut self) -> Result<Option<bytes::Bytes>, End> {
        match self.codec.decode(&mut self.buffer) {
            Ok(Some(body)) => {
                self.frame_began = None;
                self.has_spoken = true;
                Ok(Some(body))
            }
            Ok(None) => self.read().await.map(|()| None),
            Err(error) => Err(self.refuse(&error)),
        }
    }

    /// From the greeting on, the bounds of users hold.
    fn admit(&mut self) {
        self.greeting_deadline = None;
        self.codec.max_frame_bytes = self.options.max_frame_bytes;
    }

    /// Gives the room of a frame back that has been handled, and with it the memory.
    fn release(&mut self) {
        if self.held.is_some() && self.buffer.len() < ALLOWANCE_BYTES {
            self.buffer = BytesMut::from(&self.buffer[..]);
            self.held = None;
        }
    }

    /// Reads what has arrived. The buffer grows with it, never with what a header announces.
    async fn read(&mut self) -> Result<(), End> {
        if !self.buffer.is_empty() && self.frame_began.is_none() {
            self.frame_began = Some(Instant::now());
        }
        let deadline = match self.frame_began {
            Some(began) => began + self.options.frame_timeout,
            None => Instant::now() + self.options.idle_timeout,
        };
        let greeting = self
            .greeting_deadline
            .filter(|greeting| *greeting < deadline);
        let deadline = greeting.unwrap_or(deadline);
        let read = async {
            // A frame beyond the allowance takes room as it arrives, however small its pieces are.
            let needed = (self.buffer.len() + READ_BYTES).saturating_sub(ALLOWANCE_BYTES);
            let held_bytes = self.held.as_ref().map_or(0, Held::bytes);
            if needed > held_bytes {
                let more = (needed - held_bytes).max(READ_BYTES);
                let more = self.shared.hold(more).await;
                let more = more.ok_or(std::io::ErrorKind::OutOfMemory)?;
                match &mut self.held {
                    Some(held) => held.join(more),
                    None => self.held = Some(more),
                }
            }
            self.buffer.reserve(READ_BYTES);
            self.socket.read_buf(&mut self.buffer).await
        };
        match timeout_at(deadline, read).await {
            Ok(Ok(0) | Err(_)) => Err(End::Closed),
            Ok(Ok(bytes)) => {
                self.received.fetch_add(bytes as u64, Ordering::Relaxed);
                Ok(())
            }
            Err(_) if greeting.is_some() => {
                let limit = self.options.greeting_timeout;
                Err(End::Refused(too_late("no `hello` was accepted", limit)))
            }
            Err(_) if self.frame_began.is_none() => Err(End::Idle),
            Err(_) => {
                let limit = self.options.frame_timeout;
                let farewell = too_late("a frame did not arrive whole", limit);
                Err(End::Refused(farewell))
            }
        }
    }

    fn refuse(&self, error: &FrameError) -> End {
        match error {
            FrameError::Io(_) => End::Closed,
            FrameError::TooLarge { header, .. } => {
                let foreign = if self.has_spoken {
                    None
                } else {
                    foreign::farewell(*header)
                };
                End::Refused(
                    foreign.unwrap_or_else(|| refusal(ErrorCode::TooLarge, error.to_string())),
                )
            }
        }
    }
}

fn too_late(what: &str, limit: Duration) -> Vec<u8> {
    let message = format!("{what} within {limit:?}; the connection is closed");
    refusal(ErrorCode::DeadlineExceeded, message)
}

/// A refusal that belongs to no request, as a frame.
pub(super) fn refusal(code: ErrorCode, message: String) -> Vec<u8> {
    farewell(ErrorReply::new(code, message))
}

fn farewell(error: ErrorReply) -> Vec<u8> {
    let outcome = Err(error);
    replies::encode(Response { id: 0, outcome }, usize::MAX)
}

/// Says the last word, and reads on for a moment so that it arrives.
pub(super) async fn say_farewell(
    source: &mut (impl AsyncRead + Unpin),
    sink: &mut (impl AsyncWrite + Unpin),
    farewell: &[u8],
    patience: Duration,
) {
    let said = timeout(patience, async {
        sink.write_all(farewell).await?;
        sink.shutdown().await
    });
    if !matches!(said.await, Ok(Ok(()))) {
        return;
    }
    let mut ignored = [0; 4096];
    let deadline = Instant::now() + LINGER;
    while let Ok(Ok(1..)) = timeout_at(deadline, source.read(&mut ignored)).await {}
}

#[expect(
    clippy::disallowed_methods,
    reason = "here time enters: a request's arrival"
)]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}
