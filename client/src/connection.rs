//! One connection: a task that writes requests, a task that reads responses, and what is under way.
//!
//! ```text
//!   Client ── body ──> queue ──> writer ──> socket ──> server
//!     └─ waits for its id <── pending <── reader <── socket <──┘
//! ```
//!
//! Everything is bounded: a request enters only with a permit, which its entry in `pending` gives
//! back when the response has come. So a request that nobody waits for any more still counts, as it
//! still occupies the server. A stream gives its permit back with its first response; what arrives of
//! it has a bound of its own, and the server bounds their number.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use luge_protocol::{FrameCodec, FrameError, RequestId, Response, is_last_of_stream, response_id};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio_util::codec::{Decoder, Encoder};

use crate::error::Error;
use crate::stream::Sink;

/// How many bytes of frames are gathered before they are written.
const WRITE_BATCH_BYTES: usize = 64 << 10;

/// How many bytes the read buffer has room for before each read.
const READ_BYTES: usize = 16 << 10;

/// An open connection. Dropping it closes the socket.
#[derive(Debug)]
pub(crate) struct Connection {
    queue: mpsc::UnboundedSender<Vec<u8>>,
    pending: Arc<Pending>,
    /// Bounds the queue and `pending`.
    permits: Arc<Semaphore>,
    tasks: [AbortHandle; 2],
}

impl Connection {
    /// On the two halves of a socket.
    pub(crate) fn new(
        source: impl AsyncRead + Unpin + Send + 'static,
        sink: impl AsyncWrite + Unpin + Send + 'static,
        max_frame_bytes: usize,
        max_in_flight: usize,
    ) -> Self {
        let (queue, bodies) = mpsc::unbounded_channel();
        let pending = Arc::new(Pending::default());
        let codec = FrameCodec { max_frame_bytes };
        let reader = tokio::spawn(read(source, codec, Arc::clone(&pending)));
        let writer = tokio::spawn(write(sink, bodies, Arc::clone(&pending)));
        Self {
            queue,
            pending,
            permits: Arc::new(Semaphore::new(max_in_flight)),
            tasks: [reader.abort_handle(), writer.abort_handle()],
        }
    }

    /// Sends a body and waits for the response with the same id.
    ///
    /// The id must not be in use on this connection.
    pub(crate) async fn exchange(&self, id: RequestId, body: Vec<u8>) -> Result<Bytes, Error> {
        let permit = self.permit().await?;
        let (reply, response) = oneshot::channel();
        self.pending.enter(id, Waiting::One { reply, permit })?;
        // The writer ends only together with everything that is pending, so the error arrives there.
        let _ = self.queue.send(body);
        response.await.unwrap_or(Err(Error::Closed))
    }

    /// Sends a body whose responses, all of the same id, go to the sink.
    pub(crate) async fn begin(
        &self,
        id: RequestId,
        body: Vec<u8>,
        sink: Sink,
    ) -> Result<(), Error> {
        let permit = Some(self.permit().await?);
        self.pending.enter(id, Waiting::Many { sink, permit })?;
        let _ = self.queue.send(body);
        Ok(())
    }

    /// Passes over the responses that are still to come with this id.
    pub(crate) fn forget(&self, id: RequestId) {
        self.pending.forget(id);
    }

    /// The same, and sends a request that stops them, whose response is passed over, too.
    pub(crate) fn abandon(&self, id: RequestId, stop: RequestId, body: Vec<u8>) {
        if self.pending.forget(id) && self.pending.enter(stop, Waiting::Nobody).is_ok() {
            let _ = self.queue.send(body);
        }
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, Error> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        permit.map_err(|_| Error::Closed)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Who waits for a response. The permit is given back when this is dropped.
#[derive(Debug)]
enum Waiting {
    One {
        reply: oneshot::Sender<Result<Bytes, Error>>,
        #[expect(dead_code, reason = "held for its drop")]
        permit: OwnedSemaphorePermit,
    },
    /// Until the last response of a stream.
    Many {
        sink: Sink,
        permit: Option<OwnedSemaphorePermit>,
    },
    /// Until the last response, too.
    Nobody,
}

/// The requests that have no response yet, and why there will be none.
#[derive(Debug, Default)]
struct Pending {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: HashMap<RequestId, Waiting>,
    /// Set once, when the connection ends; then `waiting` stays empty.
    ended: Option<Error>,
}

impl Pending {
    fn enter(&self, id: RequestId, waiting: Waiting) -> Result<(), Error> {
        let mut state = self.lock();
        if let Some(error) = &state.ended {
            return Err(error.clone());
        }
        state.waiting.insert(id, waiting);
        Ok(())
    }

    /// Hands a response to the one who waits for it, who may have gone.
    async fn answer(&self, id: RequestId, body: Bytes) -> Result<(), Error> {
        if let Some(sink) = self.find(id, &body)?
            && !sink.send(body).await
        {
            self.forget(id);
        }
        Ok(())
    }

    /// Answers the stream that the response belongs to; what is no stream's is dealt with at once.
    fn find(&self, id: RequestId, body: &Bytes) -> Result<Option<Sink>, Error> {
        let mut state = self.lock();
        let sink = match state.waiting.get_mut(&id) {
            None => {
                return Err(Error::Protocol(format!(
                    "a response to request {id}, which is not under way"
                )));
            }
            Some(Waiting::One { .. }) => {
                if let Some(Waiting::One { reply, .. }) = state.waiting.remove(&id) {
                    let _ = reply.send(Ok(body.clone()));
                }
                return Ok(None);
            }
            Some(Waiting::Many { sink, permit }) => {
                *permit = None;
                Some(sink.clone())
            }
            Some(Waiting::Nobody) => None,
        };
        if is_last_of_stream(body) {
            state.waiting.remove(&id);
        }
        Ok(sink)
    }

    /// Leaves a stream without anybody who waits for it; answers whether it had not ended.
    fn forget(&self, id: RequestId) -> bool {
        let mut state = self.lock();
        let found = state.waiting.get_mut(&id);
        found.map(|waiting| *waiting = Waiting::Nobody).is_some()
    }

    /// Tells everyone, now and later, that the connection has ended.
    fn end(&self, error: &Error) {
        let mut state = self.lock();
        state.ended.get_or_insert_with(|| error.clone());
        for (_, waiting) in state.waiting.drain() {
            match waiting {
                Waiting::One { reply, .. } => {
                    let _ = reply.send(Err(error.clone()));
                }
                Waiting::Many { sink, .. } => sink.fail(error.clone()),
                Waiting::Nobody => {}
            }
        }
    }

    /// No code panics while it holds the lock, so a poisoned one has a sound state, too.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read(mut socket: impl AsyncRead + Unpin, codec: FrameCodec, pending: Arc<Pending>) {
    let error = match read_responses(&mut socket, codec, &pending).await {
        Ok(()) => Error::Closed,
        Err(error) => error,
    };
    pending.end(&error);
}

/// Hands out responses until the server closes the connection.
async fn read_responses(
    socket: &mut (impl AsyncRead + Unpin),
    mut codec: FrameCodec,
    pending: &Pending,
) -> Result<(), Error> {
    let mut buffer = BytesMut::new();
    loop {
        while let Some(body) = codec.decode(&mut buffer).map_err(frame_error)? {
            dispatch(body, pending).await?;
        }
        buffer.reserve(READ_BYTES);
        match socket.read_buf(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            // By TLS: the server has ended without saying so. Frames have lengths, so nothing is cut.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(broken(error)),
        }
    }
}

async fn dispatch(body: Bytes, pending: &Pending) -> Result<(), Error> {
    let id = response_id(&body).map_err(|error| Error::Protocol(error.message))?;
    if id != 0 {
        return pending.answer(id, body).await;
    }
    // Our ids begin with 1: this is about the connection, which the server closes.
    let response = Response::<()>::decode(&body).map_err(|error| Error::Protocol(error.message))?;
    match response.outcome {
        Err(reply) => Err(Error::Ended(reply)),
        Ok(()) => Err(Error::Protocol("a reply to no request".to_owned())),
    }
}

fn frame_error(error: FrameError) -> Error {
    match error {
        FrameError::Io(error) => broken(error),
        FrameError::TooLarge { header, .. } if header.iter().all(u8::is_ascii_graphic) => {
            Error::Protocol(format!(
                "it does not speak Luge's protocol: its first bytes are \"{}\"",
                header.escape_ascii()
            ))
        }
        too_large @ FrameError::TooLarge { .. } => Error::Protocol(too_large.to_string()),
    }
}

fn broken(error: io::Error) -> Error {
    Error::Io(Arc::new(error))
}

async fn write(
    mut socket: impl AsyncWrite + Unpin,
    mut bodies: mpsc::UnboundedReceiver<Vec<u8>>,
    pending: Arc<Pending>,
) {
    if let Err(error) = write_requests(&mut socket, &mut bodies).await
        && !is_hang_up(&error)
    {
        pending.end(&broken(error));
    }
}

/// Whether the server has closed: then the reader finds what it said before, and why.
fn is_hang_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

/// Writes what is queued, gathering small requests, until the connection is dropped.
async fn write_requests(
    socket: &mut (impl AsyncWrite + Unpin),
    bodies: &mut mpsc::UnboundedReceiver<Vec<u8>>,
) -> io::Result<()> {
    // Requests were held to the server's limit before they were queued.
    let mut codec = FrameCodec {
        max_frame_bytes: u32::MAX as usize,
    };
    let mut buffer = BytesMut::new();
    while let Some(body) = bodies.recv().await {
        encode(&mut codec, &body, &mut buffer)?;
        while buffer.len() < WRITE_BATCH_BYTES
            && let Ok(body) = bodies.try_recv()
        {
            encode(&mut codec, &body, &mut buffer)?;
        }
        socket.write_all(&buffer).await?;
        // What TLS has taken is not on its way yet.
        socket.flush().await?;
        buffer.clear();
    }
    Ok(())
}

fn encode(codec: &mut FrameCodec, body: &[u8], buffer: &mut BytesMut) -> io::Result<()> {
    codec.encode(body, buffer).map_err(io::Error::other)
}
