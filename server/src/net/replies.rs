//! The way out: replies in the order of their requests, each held until its gate is open, and between
//! them the events of streams.
//!
//! Streams have bounds of their own, on each connection and in the whole server, so that those whose
//! clients do not read take no room from replies.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use luge_protocol::{ErrorCode, ErrorReply, FRAME_HEADER_BYTES, Reply, RequestId, Response};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::NetOptions;
use super::batch::{Batch, Encoded, MAX_BATCH_REPLIES, MAX_SHORT_FRAME_BYTES};
use super::buffers::{ALLOWANCE_BYTES, Held, SharedBuffers};
use super::outbox::{Frame, Outbox, Queued, Taken};
use crate::bugs::{Bug, is_seeded};
use crate::session::{Answer, MAX_PLAIN_RESPONSE_BYTES};
use crate::store::{Store, StoreError};

/// Replies that are written together at the most, in bytes.
const MAX_WRITE_BYTES: usize = 256 << 10;

/// What a client must take in the time that it has, so that one that takes a byte now and then does not
/// hold its replies for ever.
const PIECE_BYTES: usize = 64 << 10;

/// Events that one connection holds at the most, in bytes.
const MAX_EVENT_BYTES: usize = 1 << 20;

/// What an event counts for at the least: it has a place in the queue and in memory.
const MIN_EVENT_BYTES: usize = 1 << 10;

/// Where a session's answers go.
#[derive(Clone)]
pub(super) struct Replies {
    outbox: Arc<Outbox>,
    /// One permit a byte, so that unread replies are bounded in bytes, too.
    bytes: Arc<Semaphore>,
    /// What of them this connection holds without asking the server's budget.
    allowance: Arc<Semaphore>,
    shared: Shared,
    /// One permit a byte of events.
    event_bytes: Arc<Semaphore>,
    /// What of them this connection holds without asking the server's budget.
    event_allowance: Arc<Semaphore>,
    /// How long a large reply may wait for room.
    patience: Duration,
    max_frame_bytes: usize,
}

/// The server's budgets.
#[derive(Clone)]
pub(super) struct Shared {
    /// For requests and replies.
    pub(super) replies: SharedBuffers,
    /// For the events of streams.
    pub(super) events: SharedBuffers,
}

/// What a reply takes of the bounds on unread ones, given back when it is dropped.
#[expect(dead_code, reason = "holding it is its use")]
pub(super) struct Place {
    pub(super) bytes: Option<OwnedSemaphorePermit>,
    pub(super) room: Room,
}

/// Where a reply's bytes are counted, until it is dropped.
#[expect(dead_code, reason = "holding it is its use")]
pub(super) enum Room {
    Allowance(OwnedSemaphorePermit),
    Shared(Held),
    /// A stream's end, which is small, and the only one of its stream.
    None,
}

/// Makes both ends of the queue.
pub(super) fn queue(options: &NetOptions, shared: Shared) -> (Replies, Waiting) {
    let outbox = Arc::new(Outbox::new(options.max_unread_replies));
    let bytes = Arc::new(Semaphore::new(
        options.max_unread_bytes + options.max_frame_bytes,
    ));
    let allowance = Arc::new(Semaphore::new(ALLOWANCE_BYTES));
    let waiting = Waiting {
        outbox: Arc::clone(&outbox),
        bytes: Arc::clone(&bytes),
        allowance: Arc::clone(&allowance),
    };
    let replies = Replies {
        event_bytes: Arc::new(Semaphore::new(MAX_EVENT_BYTES)),
        event_allowance: Arc::new(Semaphore::new(ALLOWANCE_BYTES)),
        allowance,
        shared,
        patience: options.write_timeout,
        outbox,
        bytes,
        max_frame_bytes: options.max_frame_bytes,
    };
    (replies, waiting)
}

/// The other end. Once it is dropped, nothing more can be sent.
pub(super) struct Waiting {
    outbox: Arc<Outbox>,
    /// Those of the other end, to which the places of short replies are given back.
    bytes: Arc<Semaphore>,
    allowance: Arc<Semaphore>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.outbox.close();
    }
}

impl Replies {
    /// Whether there is a place for another short reply behind those of the batch, however long it is. Nobody
    /// else takes places by their bytes, so those can't be gone before the batch is sent.
    pub(super) fn has_room(&self, batch: &Batch) -> bool {
        let replies = batch.replies.len() + 1;
        let bytes = batch.frames.len() + MAX_SHORT_FRAME_BYTES;
        replies <= MAX_BATCH_REPLIES
            && MAX_PLAIN_RESPONSE_BYTES <= self.max_frame_bytes
            && replies <= self.outbox.room()
            && bytes <= self.allowance.available_permits()
            && bytes <= self.bytes.available_permits()
    }

    /// Hands the replies of a batch over, and empties it. Answers whether the connection can still be
    /// written to.
    pub(super) async fn send_batch(&self, batch: &mut Batch) -> bool {
        if batch.is_empty() {
            batch.clear();
            return true;
        }
        let Ok(weight) = u32::try_from(batch.frames.len()) else {
            return false;
        };
        let places = async {
            self.bytes.acquire_many(weight).await.ok()?.forget();
            self.allowance.acquire_many(weight).await.ok()?.forget();
            Some(())
        };
        if places.await.is_none() || !self.outbox.reserve(batch.replies.len()).await {
            return false;
        }
        self.outbox.push_short(&batch.frames, &batch.replies);
        batch.clear();
        true
    }

    /// Adds an answer to a batch, or where it is too long for that, hands it over behind what the batch has, waiting
    /// while too many are unread. Answers whether the connection can still be written to.
    pub(super) async fn answer(&self, batch: &mut Batch, answer: Answer) -> bool {
        if !self.has_room(batch) && !self.send_batch(batch).await {
            return false;
        }
        let long = match self.has_room(batch) {
            true => batch.add_short(answer, self.max_frame_bytes),
            false => Some(Encoded::new(answer, self.max_frame_bytes)),
        };
        match long {
            Some(long) => self.send_batch(batch).await && self.send(long).await,
            None => true,
        }
    }

    async fn send(&self, reply: Encoded) -> bool {
        let Encoded { id, gate, frame } = reply;
        let weight = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let Ok(permit) = Arc::clone(&self.bytes).acquire_many_owned(weight).await else {
            return false;
        };
        let Some(room) = self.room(weight).await else {
            return false;
        };
        let place = Place {
            bytes: Some(permit),
            room,
        };
        if !self.outbox.reserve(1).await {
            return false;
        }
        let frame = Frame::Own(frame, place);
        self.outbox.push(Queued { id, gate, frame });
        true
    }

    /// Nothing is sent from now on; what was sent is still written.
    pub(super) fn end(&self) {
        self.outbox.end();
    }

    /// Hands an event of a stream over, waiting while too many are unread. Answers whether the
    /// connection can still be written to. If it is dropped before, the event is not told.
    pub(super) async fn send_event(&self, response: Response<Reply>) -> bool {
        // Room is taken before the event is encoded, so that those who wait hold no bytes.
        let weight = match &response.outcome {
            Ok(Reply::Event(event)) => event.max_encoded_bytes(),
            Ok(Reply::Lines(event)) => event.max_encoded_bytes(),
            Ok(Reply::Piece(piece)) => piece.len(),
            _ => 0,
        };
        let weight = u32::try_from(weight.max(MIN_EVENT_BYTES)).unwrap_or(u32::MAX);
        let most = u32::try_from(MAX_EVENT_BYTES).unwrap_or(u32::MAX);
        let bytes = Arc::clone(&self.event_bytes).acquire_many_owned(weight.min(most));
        let Ok(bytes) = bytes.await else {
            return false;
        };
        let Some(room) = self.event_room(weight).await else {
            return false;
        };
        let bytes = Some(bytes);
        self.enqueue(response, Place { bytes, room }).await
    }

    /// Hands the last response of a stream over.
    pub(super) async fn send_last(&self, response: Response<Reply>) -> bool {
        let place = Place {
            bytes: None,
            room: Room::None,
        };
        self.enqueue(response, place).await
    }

    async fn enqueue(&self, response: Response<Reply>, place: Place) -> bool {
        if !self.outbox.reserve(1).await {
            return false;
        }
        self.outbox.push(Queued {
            id: response.id,
            // A stream tells only what is acked.
            gate: 0,
            frame: Frame::Own(encode(response, self.max_frame_bytes), place),
        });
        true
    }

    async fn event_room(&self, weight: u32) -> Option<Room> {
        let shared = self.shared.events.hold(weight as usize);
        if weight as usize > ALLOWANCE_BYTES {
            return shared.await.map(Room::Shared);
        }
        let own = Arc::clone(&self.event_allowance).acquire_many_owned(weight);
        tokio::select! {
            biased;
            permit = own => permit.ok().map(Room::Allowance),
            held = shared => held.map(Room::Shared),
        }
    }

    async fn room(&self, weight: u32) -> Option<Room> {
        match Arc::clone(&self.allowance).try_acquire_many_owned(weight) {
            Ok(permit) => Some(Room::Allowance(permit)),
            // Bounded, so that connections that wait for each other's room come to an end.
            Err(_) => timeout(self.patience, self.shared.replies.hold(weight as usize))
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
        self,
        store: &S,
        socket: &mut (impl AsyncWrite + Unpin),
        write_timeout: Duration,
        sent: &AtomicU64,
    ) {
        let may_leave = |gate| is_seeded(Bug::ReplyBeforeGate) || store.is_acked(gate);
        let mut taken = Taken::default();
        while let Some((id, gate)) = self.outbox.next().await {
            if !may_leave(gate)
                && let Err(error) = store.acked(gate).await
            {
                self.outbox
                    .replace_next(&mut taken, &unknown_outcome(id, &error));
            }
            // What is ready leaves together; what still waits for the disk does not hold it up.
            self.outbox.take(&mut taken, MAX_WRITE_BYTES, may_leave);
            if !write_all(socket, &taken.bytes, write_timeout).await {
                return;
            }
            sent.fetch_add(taken.bytes.len() as u64, Ordering::Relaxed);
            if taken.short_bytes > 0 {
                self.bytes.add_permits(taken.short_bytes);
                self.allowance.add_permits(taken.short_bytes);
            }
            taken.clear(MAX_WRITE_BYTES * 2);
        }
    }
}

/// What is told of a request whose gate will never open, as a frame.
fn unknown_outcome(id: RequestId, error: &StoreError) -> Vec<u8> {
    let reply = ErrorReply::new(ErrorCode::UnknownOutcome, error.to_string());
    let outcome = Err(reply);
    encode(Response { id, outcome }, usize::MAX)
}

async fn write_all(
    socket: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
    patience: Duration,
) -> bool {
    for piece in bytes.chunks(PIECE_BYTES) {
        if !matches!(timeout(patience, socket.write_all(piece)).await, Ok(Ok(()))) {
            return false;
        }
    }
    // What TLS has taken is not on its way yet.
    matches!(timeout(patience, socket.flush()).await, Ok(Ok(())))
}

/// What most replies have room in, so that they take memory once.
const USUAL_FRAME_BYTES: usize = 128;

/// A response as a frame; one that is too large for a frame is told as an error.
pub(super) fn encode(response: Response<Reply>, max_frame_bytes: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(USUAL_FRAME_BYTES);
    append(&mut frame, response, max_frame_bytes);
    frame
}

/// Appends a response as a frame; one that is too large for a frame is told as an error.
pub(super) fn append(frames: &mut Vec<u8>, response: Response<Reply>, max_frame_bytes: usize) {
    let (id, begin) = (response.id, frames.len());
    frames.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
    let encoded = response.encode(frames);
    let length = frames.len() - begin - FRAME_HEADER_BYTES;
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
        frames.truncate(begin);
        let outcome = Err(refusal);
        return append(frames, Response { id, outcome }, usize::MAX);
    }
    write_header(frames.get_mut(begin..).unwrap_or_default());
}

/// Puts the length of the body before it, where there is room for it already.
pub(super) fn write_header(frame: &mut [u8]) {
    if let Some((header, body)) = frame.split_first_chunk_mut::<FRAME_HEADER_BYTES>() {
        *header = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use luge_protocol::CallReply;

    use super::*;
    use crate::store::{Clock, MemoryStore};

    struct StoppedClock;

    impl Clock for StoppedClock {
        fn now_ms(&self) -> u64 {
            1
        }
    }

    #[test]
    fn a_client_that_takes_a_byte_now_and_then_is_given_up() {
        use tokio::io::AsyncReadExt;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (mut socket, mut slow) = tokio::io::duplex(1);
            let taking = async {
                loop {
                    slow.read_u8().await.unwrap();
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::select! {
                is_done = write_all(&mut socket, &[0; 1000], Duration::from_millis(200)) => {
                    assert!(!is_done);
                }
                () = taking => {}
                () = tokio::time::sleep(Duration::from_secs(5)) => panic!("it is waited for"),
            }
        });
    }

    const ROOM_BYTES: usize = 1 << 20;

    fn options() -> NetOptions {
        let patience = Duration::from_secs(60);
        NetOptions {
            max_connections: 1,
            max_frame_bytes: ROOM_BYTES,
            max_unread_replies: 2_000,
            max_unread_bytes: ROOM_BYTES,
            max_buffered_bytes: ROOM_BYTES,
            idle_timeout: patience,
            greeting_timeout: patience,
            frame_timeout: patience,
            write_timeout: patience,
            watch_timeout: patience,
            watch_progress: patience,
            stop_timeout: patience,
        }
    }

    fn answer(bytes: usize) -> Answer {
        Answer {
            response: Response {
                id: 1,
                outcome: Ok(Reply::Call(CallReply(vec![0; bytes].into()))),
            },
            gate: 0,
        }
    }

    #[test]
    fn events_that_nobody_reads_are_bounded_and_take_no_room_from_replies() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let shared = Shared {
                replies: SharedBuffers::new(ROOM_BYTES),
                events: SharedBuffers::new(2 * ROOM_BYTES),
            };
            for piece_bytes in [0, 100, 10_000, 300_000, ROOM_BYTES - 100] {
                let (replies, _waiting) = queue(&options(), shared.clone());
                let piece = |bytes: usize| Response {
                    id: 2,
                    outcome: Ok(Reply::Piece(vec![0; bytes].into())),
                };
                let mut queued_bytes = 0;
                loop {
                    tokio::select! {
                        biased;
                        is_sent = replies.send_event(piece(piece_bytes)) => assert!(is_sent),
                        () = tokio::task::yield_now() => break,
                    }
                    queued_bytes += piece_bytes.max(MIN_EVENT_BYTES);
                    assert!(queued_bytes <= MAX_EVENT_BYTES);
                }
                assert!(queued_bytes > 0);
                let end = Response {
                    id: 2,
                    outcome: Ok(Reply::Done(())),
                };
                assert!(replies.send_last(end).await);
                assert!(
                    replies
                        .answer(&mut Batch::default(), answer(ROOM_BYTES / 2))
                        .await
                );
            }
        });
    }

    #[test]
    fn a_reply_has_its_room_until_it_is_written() {
        let options = options();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let store = MemoryStore::new([1; 16], Box::new(StoppedClock));
            let shared = SharedBuffers::new(ROOM_BYTES);
            let both = Shared {
                replies: shared.clone(),
                events: shared.clone(),
            };
            let (replies, waiting) = queue(&options, both);
            let (mut socket, _deaf) = tokio::io::duplex(1024);
            assert!(
                replies
                    .answer(&mut Batch::default(), answer(ROOM_BYTES / 2))
                    .await
            );
            let sent = AtomicU64::new(0);
            tokio::select! {
                biased;
                () = waiting.write(&store, &mut socket, options.write_timeout, &sent) => {
                    panic!("nobody reads")
                }
                _ = shared.hold(ROOM_BYTES) => panic!("the room is taken"),
                () = tokio::task::yield_now() => {}
            }
        });
    }
}
