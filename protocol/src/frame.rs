//! Frames: a length and that many bytes.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

/// The bytes that stand before each body: its length, unsigned, big-endian.
pub const FRAME_HEADER_BYTES: usize = 4;

/// Turns a stream of bytes into bodies, and bodies into a stream of bytes.
///
/// A body longer than `max_frame_bytes` is refused from its header, before a byte of it is kept.
/// The buffer is never grown to the announced length: it grows with what has arrived.
#[derive(Clone, Copy, Debug)]
pub struct FrameCodec {
    /// The longest body that is accepted or sent, without its header.
    pub max_frame_bytes: usize,
}

/// What can be wrong with a frame.
#[derive(Debug)]
pub enum FrameError {
    /// The header announced a body over the limit. The stream can't be read on.
    TooLarge {
        /// The length that the header announced, in bytes.
        announced: usize,
        /// The limit, in bytes.
        limit: usize,
        /// The header as it arrived, for telling other protocols by their first bytes.
        header: [u8; FRAME_HEADER_BYTES],
    },
    /// The transport failed.
    Io(io::Error),
}

impl FrameCodec {
    /// The length of the body that `source` begins with, in bytes; `None` while its header has not arrived.
    ///
    /// # Errors
    /// It exceeds the limit.
    pub fn announced(&self, source: &[u8]) -> Result<Option<usize>, FrameError> {
        let Some(header) = source.first_chunk::<FRAME_HEADER_BYTES>().copied() else {
            return Ok(None);
        };
        let announced = u32::from_be_bytes(header) as usize;
        let limit = self.max_frame_bytes;
        match announced > limit {
            true => Err(FrameError::TooLarge {
                announced,
                limit,
                header,
            }),
            false => Ok(Some(announced)),
        }
    }
}

impl Decoder for FrameCodec {
    type Item = Bytes;
    type Error = FrameError;

    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        let Some(length) = self.announced(source)? else {
            return Ok(None);
        };
        if source.len() - FRAME_HEADER_BYTES < length {
            return Ok(None);
        }
        source.advance(FRAME_HEADER_BYTES);
        Ok(Some(source.split_to(length).freeze()))
    }
}

impl Encoder<&[u8]> for FrameCodec {
    type Error = FrameError;

    fn encode(&mut self, body: &[u8], target: &mut BytesMut) -> Result<(), FrameError> {
        let length = u32::try_from(body.len())
            .ok()
            .filter(|_| body.len() <= self.max_frame_bytes);
        let Some(length) = length else {
            return Err(FrameError::TooLarge {
                announced: body.len(),
                limit: self.max_frame_bytes,
                header: [0; FRAME_HEADER_BYTES],
            });
        };
        target.reserve(FRAME_HEADER_BYTES + body.len());
        target.put_u32(length);
        target.put_slice(body);
        Ok(())
    }
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLarge {
                announced, limit, ..
            } => {
                write!(
                    formatter,
                    "frame of {announced} bytes exceeds the limit of {limit}"
                )
            }
            Self::Io(_) => formatter.write_str("the connection failed"),
        }
    }
}

impl std::error::Error for FrameError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::TooLarge { .. } => None,
            Self::Io(error) => Some(error),
        }
    }
}
