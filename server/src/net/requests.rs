//! The way in: requests as they arrive at a connection, within the bounds on their number of bytes and their time.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, BytesMut};
use luge_protocol::{ErrorCode, FRAME_HEADER_BYTES, FrameCodec, FrameError};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout_at};

use super::buffers::{ALLOWANCE_BYTES, Held, SharedBuffers};
use super::farewell::{refusal, too_late};
use super::{NetOptions, foreign};

/// How much is read at once: many requests of a pipeline.
const READ_BYTES: usize = 32 << 10;

/// What is left of a connection that came to its end.
pub(super) enum End {
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
pub(super) struct Requests<'a, I> {
    pub(super) socket: I,
    pub(super) buffer: BytesMut,
    pub(super) codec: FrameCodec,
    pub(super) options: NetOptions,
    /// When the frame that is arriving began to.
    pub(super) frame_began: Option<Instant>,
    pub(super) has_spoken: bool,
    /// When the connection must have been greeted; nothing once it was.
    pub(super) greeting_deadline: Option<Instant>,
    pub(super) shared: SharedBuffers,
    pub(super) received: &'a AtomicU64,
    /// What the buffer takes of the server's budget, while a large frame arrives and is handled.
    pub(super) held: Option<Held>,
}

impl<I: AsyncRead + Unpin> Requests<'_, I> {
    /// The body of the next request where it lies, if that is there as a whole and within the bounds.
    pub(super) fn whole(&self) -> Option<&[u8]> {
        let bytes = self.codec.announced(&self.buffer).ok()??;
        self.buffer
            .get(FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + bytes)
    }

    /// Goes on behind a request's body that was looked at.
    pub(super) fn pass(&mut self, bytes: usize) {
        self.buffer.advance(FRAME_HEADER_BYTES + bytes);
        self.frame_began = None;
        self.has_spoken = true;
    }

    /// Reads what has arrived, where the next request is not there as a whole.
    pub(super) async fn more(&mut self) -> Result<(), End> {
        match self.codec.announced(&self.buffer) {
            Ok(_) => self.read().await,
            Err(error) => Err(self.refuse(&error)),
        }
    }

    /// From the greeting on, the bounds of users hold.
    pub(super) fn admit(&mut self) {
        self.greeting_deadline = None;
        self.codec.max_frame_bytes = self.options.max_frame_bytes;
    }

    /// Gives the room of a frame back that has been handled, and with it the memory.
    pub(super) fn release(&mut self) {
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
