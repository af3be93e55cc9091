//! One connection: a task that writes requests, a task that reads responses, and what is under way.
//!
//! ```text
//!   Client ── body ──> queue ──> writer ──> socket ──> server
//!     └─ waits for its id <── pending <── reader <── socket <──┘
//! ```
//!
//! Everything is bounded: a request enters only with a permit, which its entry in `pending` gives
//! back when the response has come. So a request that nobody waits for any more still counts, as it
//! still occupies the server.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use luge_protocol::{FrameCodec, FrameError, RequestId, Response, response_id};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio_util::codec::{Decoder, Encoder};

use crate::error::Error;

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
    pub(crate) fn new(stream: TcpStream, max_frame_bytes: usize, max_in_flight: usize) -> Self {
        let (read_half, write_half) = stream.into_split();
        let (queue, bodies) = mpsc::unbounded_channel();
        let pending = Arc::new(Pending::default());
        let codec = FrameCodec { max_frame_bytes };
        let reader = tokio::spawn(read(read_half, codec, Arc::clone(&pending)));
        let writer = tokio::spawn(write(write_half, bodies, Arc::clone(&pending)));
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
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| Error::Closed)?;
        let (reply, response) = oneshot::channel();
        self.pending.enter(id, Waiting { reply, permit })?;
        // The writer ends only together with everything that is pending, so the error arrives there.
        let _ = self.queue.send(body);
        response.await.unwrap_or(Err(Error::Closed))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// One who waits for a response.
#[derive(Debug)]
struct Waiting {
    reply: oneshot::Sender<Result<Bytes, Error>>,
    /// Given back when this is dropped.
    #[expect(dead_code, reason = "held for its drop")]
    permit: OwnedSemaphorePermit,
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
    fn answer(&self, id: RequestId, body: Bytes) -> Result<(), Error> {
        let waiting = self.lock().waiting.remove(&id);
        let Some(waiting) = waiting else {
            return Err(Error::Protocol(format!(
                "a response to request {id}, which is not under way"
            )));
        };
        let _ = waiting.reply.send(Ok(body));
        Ok(())
    }

    /// Tells everyone, now and later, that the connection has ended.
    fn end(&self, error: &Error) {
        let mut state = self.lock();
        state.ended.get_or_insert_with(|| error.clone());
        for (_, waiting) in state.waiting.drain() {
            let _ = waiting.reply.send(Err(error.clone()));
        }
    }

    /// No code panics while it holds the lock, so a poisoned one has a sound state, too.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read(mut socket: OwnedReadHalf, codec: FrameCodec, pending: Arc<Pending>) {
    let error = match read_responses(&mut socket, codec, &pending).await {
        Ok(()) => Error::Closed,
        Err(error) => error,
    };
    pending.end(&error);
}

/// Hands out responses until the server closes the connection.
async fn read_responses(
    socket: &mut OwnedReadHalf,
    mut codec: FrameCodec,
    pending: &Pending,
) -> Result<(), Error> {
    let mut buffer = BytesMut::new();
    loop {
        while let Some(body) = codec.decode(&mut buffer).map_err(frame_error)? {
            dispatch(body, pending)?;
        }
        buffer.reserve(READ_BYTES);
        if socket.read_buf(&mut buffer).await.map_err(broken)? == 0 {
            return Ok(());
        }
    }
}

fn dispatch(body: Bytes, pending: &Pending) -> Result<(), Error> {
    let id = response_id(&body).map_err(|error| Error::Protocol(error.message))?;
    if id != 0 {
        return pending.answer(id, body);
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
    mut socket: OwnedWriteHalf,
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
    socket: &mut OwnedWriteHalf,
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
        buffer.clear();
    }
    Ok(())
}

fn encode(codec: &mut FrameCodec, body: &[u8], buffer: &mut BytesMut) -> io::Result<()> {
    codec.encode(body, buffer).map_err(io::Error::other)
}
