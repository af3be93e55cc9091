//! Replies that are handed over together.

use std::time::{Duration, Instant};

use luge_protocol::{FRAME_HEADER_BYTES, RequestId};

use super::replies::{append, encode, write_header};
use crate::session::{Answer, MAX_PLAIN_RESPONSE_BYTES, Written};
use crate::store::Sequence;

/// The longest frame that a batch takes, so that a place for it can be known of before it is made.
pub(super) const MAX_SHORT_FRAME_BYTES: usize = FRAME_HEADER_BYTES + MAX_PLAIN_RESPONSE_BYTES;

/// Replies that are handed over together at the most, before others get their turn.
pub(super) const MAX_BATCH_REPLIES: usize = 128;

/// The longest time in which replies are gathered to requests that may take theirs; of others a batch is full sooner. What they wait for each other is less than they would have waited for
/// another turn of their connection's task, and no connection keeps a thread from the others for longer, by more than
/// one request.
const MAX_BATCH_TIME: Duration = Duration::from_micros(200);

/// The memory of a batch that is kept for the next one, in bytes.
pub(super) const MAX_KEPT_BATCH_BYTES: usize = 16 << 10;

/// Short replies to requests that came in together, until they are handed over. They have no place yet, and
/// are added only while there is one for all of them.
#[derive(Default)]
pub(super) struct Batch {
    /// When the first of the requests arrived that may have taken their time, and whether that is long ago.
    began: Option<Instant>,
    is_late: bool,
    pub(super) frames: Vec<u8>,
    pub(super) replies: Vec<(RequestId, Sequence, usize)>,
}

/// A reply that goes by itself.
pub(super) struct Encoded {
    pub(super) id: RequestId,
    /// What must be acked before it may leave.
    pub(super) gate: Sequence,
    pub(super) frame: Vec<u8>,
}

impl Encoded {
    pub(super) fn new(answer: Answer, max_frame_bytes: usize) -> Self {
        let Answer { response, gate } = answer;
        let id = response.id;
        let frame = encode(response, max_frame_bytes);
        Self { id, gate, frame }
    }
}

impl Batch {
    /// Notes that a request is handled that may take its time.
    pub(super) fn note(&mut self, arrived: Instant) {
        let began = *self.began.get_or_insert(arrived);
        self.is_late = arrived.duration_since(began) >= MAX_BATCH_TIME;
    }

    /// Whether it is to be handed over, whatever else has arrived.
    pub(super) fn is_due(&self) -> bool {
        (self.is_late && !self.is_empty()) || self.replies.len() >= MAX_BATCH_REPLIES
    }

    /// Forgets what was handed over.
    pub(super) fn clear(&mut self) {
        self.frames.clear();
        self.frames.shrink_to(MAX_KEPT_BATCH_BYTES);
        self.replies.clear();
        (self.began, self.is_late) = (None, false);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.replies.is_empty()
    }

    /// Adds a reply that `write` makes by appending its body; answers whether there is one.
    pub(super) fn add(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Option<Written>) -> bool {
        let begin = self.frames.len();
        self.frames.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
        let Some(Written { id, gate }) = write(&mut self.frames) else {
            self.frames.truncate(begin);
            return false;
        };
        let frame = self.frames.get_mut(begin..).unwrap_or_default();
        write_header(frame);
        self.replies.push((id, gate, frame.len()));
        true
    }

    /// Adds an answer if its response is short; gives it back as a frame if not.
    pub(super) fn add_short(&mut self, answer: Answer, max_frame_bytes: usize) -> Option<Encoded> {
        let Answer { response, gate } = answer;
        let (id, begin) = (response.id, self.frames.len());
        append(&mut self.frames, response, max_frame_bytes);
        let bytes = self.frames.len() - begin;
        if bytes > MAX_SHORT_FRAME_BYTES {
            let frame = match begin {
                0 => std::mem::take(&mut self.frames),
                _ => self.frames.split_off(begin),
            };
            self.frames.shrink_to(MAX_KEPT_BATCH_BYTES);
            return Some(Encoded { id, gate, frame });
        }
        self.replies.push((id, gate, bytes));
        None
    }
}
