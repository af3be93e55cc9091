//! The way out: replies in the order of their requests, each held until its gate is open.

use std::sync::Arc;
use std::time::Duration;

use luge_protocol::{ErrorCode, ErrorReply, Reply, RequestId, Response};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use super::NetOptions;
use super::buffers::{ALLOWANCE_BYTES, Held, SharedBuffers};
use crate::session::Answer;
use crate::store::{Sequence, Store};

/// Replies that are written together at the most, in bytes.
const MAX_WRITE_BYTES: usize = 256 << 10;

/// Where a session's answers go.
pub(super) struct Replies {
    queue: mpsc::Sender<HeldReply>,
    /// One permit a byte, so that unread replies are bounded in bytes, too.
    bytes: Arc<Semaphore>,
    /// What of them this connection holds without asking the server's budget.
    allowance: Arc<Semaphore>,
    shared: SharedBuffers,
    /// How long a large reply may wait for room.
    patience: Duration,
    max_frame_bytes: usize,
}

/// A reply that waits for its gate and its turn.
struct HeldReply {
    id: RequestId,
    frame: Vec<u8>,
    gate: Sequence,
    _bytes: OwnedSemaphorePermit,
    _room: Room,
}

/// Where a reply's bytes are counted, until it is dropped.
#[expect(dead_code, reason = "holding it is its use")]
enum Room {
    Allowance(OwnedSemaphorePermit),
    Shared(Held),
}

/// Makes both ends of the queue.
pub(super) fn queue(options: &NetOptions, shared: SharedBuffers) -> (Replies, Waiting) {
    let (queue, waiting) = mpsc::channel(options.max_unread_replies);
    let bytes = Arc::new(Semaphore::new(
        options.max_unread_bytes + options.max_frame_bytes,
    ));
    let allowance = Arc::new(Semaphore::new(ALLOWANCE_BYTES));
    let replies = Replies {
        allowance,
        shared,
        patience: options.write_timeout,
        queue,
        bytes,
        max_frame_bytes: options.max_frame_bytes,
    };
    (replies, Waiting(waiting))
}

/// The other end.
pub(super) struct Waiting(mpsc::Receiver<HeldReply>);

impl Replies {
    /// Hands an answer over, waiting while too many are unread. Answers whether the connection can
    /// still be written to.
    pub(super) async fn send(&self, answer: Answer) -> bool {
        let Answer { response, gate } = answer;
        let id = response.id;
        let frame = encode(response, self.max_frame_bytes);
        let weight = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let Ok(permit) = Arc::clone(&self.bytes).acquire_many_owned(weight).await else {
            return false;
        };
        let Some(room) = self.room(weight).await else {
            return false;
        };
        let held = HeldReply {
            id,
            frame,
            gate,
            _bytes: permit,
            _room: room,
        };
        self.queue.send(held).await.is_ok()
    }

    async fn room(&self, weight: u32) -> Option<Room> {
        match Arc::clone(&self.allowance).try_acquire_many_owned(weight) {
            Ok(permit) => Some(Room::Allowance(permit)),
            // Bounded, so that connections that wait for each other's room come to an end.
            Err(_) => timeout(self.patience, self.shared.hold(weight as usize))
                .await
                .ok()
                .flatten()
                .map(Room::Shared),
        }
    }
}

impl Waiting {
    /// Writes replies until there are no more, or the client takes none any longer.
    pub(super) async fn write<S: Store>(
        mut self,
        store: &S,
        socket: &mut (impl AsyncWrite + Unpin),
        write_timeout: Duration,
    ) {
        let mut next = self.0.recv().await;
        let mut buffer = Vec::new();
        while let Some(held) = next.take() {
            open(store, held, &mut buffer).await;
            // What is ready leaves together; what still waits for the disk does not hold it up.
            while buffer.len() < MAX_WRITE_BYTES {
                let Ok(held) = self.0.try_recv() else { break };
                if !store.is_acked(held.gate) {
                    next = Some(held);
                    break;
                }
                buffer.extend_from_slice(&held.frame);
            }
            if !write_all(socket, &buffer, write_timeout).await {
                return;
            }
            buffer.clear();
            if buffer.capacity() > MAX_WRITE_BYTES * 2 {
                buffer = Vec::new();
            }
            if next.is_none() {
                next = self.0.recv().await;
            }
        }
    }
}

/// Waits for the gate, and appends the frame.
async fn open<S: Store>(store: &S, held: HeldReply, buffer: &mut Vec<u8>) {
    match store.acked(held.gate).await {
        Ok(()) => buffer.extend_from_slice(&held.frame),
        Err(error) => {
            let reply = ErrorReply::new(ErrorCode::UnknownOutcome, error.to_string());
            let response = Response {
                id: held.id,
                outcome: Err(reply),
            };
            buffer.extend_from_slice(&encode(response, usize::MAX));
        }
    }
}

async fn write_all(
    socket: &mut (impl AsyncWrite + Unpin),
    mut bytes: &[u8],
    patience: Duration,
) -> bool {
    while !bytes.is_empty() {
        match timeout(patience, socket.write(bytes)).await {
            Ok(Ok(written)) if written > 0 => bytes = bytes.get(written..).unwrap_or_default(),
            _ => return false,
        }
    }
    true
}

/// A response as a frame; one that is too large for a frame is told as an error.
pub(super) fn encode(response: Response<Reply>, max_frame_bytes: usize) -> Vec<u8> {
    let id = response.id;
    let mut frame = vec![0; luge_protocol::FRAME_HEADER_BYTES];
    let encoded = response.encode(&mut frame);
    let length = frame.len() - luge_protocol::FRAME_HEADER_BYTES;
    let refusal = match encoded {
        Ok(()) if length <= max_frame_bytes => None,
        Ok(()) => Some(ErrorReply::new(
            ErrorCode::TooLarge,
            format!(
                "the reply of {length} bytes exceeds the limit of {max_frame_bytes} for a frame"
            ),
        )),
        Err(error) => Some(ErrorReply::new(ErrorCode::Internal, error.to_string())),
    };
    if let Some(refusal) = refusal {
        return encode(
            Response {
                id,
                outcome: Err(refusal),
            },
            usize::MAX,
        );
    }
    let header = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    for (place, byte) in frame.iter_mut().zip(header) {
        *place = byte;
    }
    frame
}
