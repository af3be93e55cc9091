//! Replies that are handed over together.

use luge_protocol::{FRAME_HEADER_BYTES, RequestId};

use super::replies::write_header;
use crate::session::Written;
use crate::store::Sequence;

/// Plain replies that are handed over together at the most, before others get their turn.
pub(super) const MAX_BATCH_REPLIES: usize = 128;

/// The memory of a batch that is kept for the next one, in bytes.
pub(super) const MAX_KEPT_BATCH_BYTES: usize = 16 << 10;

/// Replies to plain requests that came in together, until they are handed over. They have no place yet, and
/// are added only while there is one for all of them.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) frames: Vec<u8>,
    pub(super) replies: Vec<(RequestId, Sequence, usize)>,
}

impl Batch {
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
}
