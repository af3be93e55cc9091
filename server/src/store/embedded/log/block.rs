//! Blocks: what one write appends.

use super::super::fields::Fields;
use crate::store::{Millis, Sequence};

/// How long a block's head is.
pub const BLOCK_HEAD_BYTES: usize = PREFIX_BYTES + FIELDS_BYTES;

/// Magic, length and checksum.
const PREFIX_BYTES: usize = 12;

/// [`BlockHead`] as bytes.
pub(in crate::store::embedded) const FIELDS_BYTES: usize = 45;

pub(super) const MAGIC: [u8; 4] = *b"\xb1LgB";

/// What a block says besides its commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockHead {
    /// The last sequence before this block.
    pub previous: Sequence,
    /// The last sequence of this block; `previous` in a mark.
    pub last: Sequence,
    /// How many commits there are, numbered `last - count + 1` to `last`. None make it a mark. Numbers
    /// between `previous` and the first commit were never given out.
    pub count: u32,
    /// The sequence that was known to be durable when this block was written.
    pub synced: Sequence,
    /// The newest stamp of all commits so far.
    pub stamp_ms: Millis,
    /// The time up to which stamps may have been given out.
    pub lease_ms: Millis,
    /// Whether the store was closed in order after this.
    pub is_clean: bool,
}

/// Where a block lies. Its checksum covers that, so that bytes which look like a block and are part of
/// somebody's value, or of another segment, are none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    seed: u32,
    offset: u64,
}

impl BlockHead {
    /// Whether the numbers can be true.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let first = self.last.checked_sub(u64::from(self.count));
        let has_room = first.is_some_and(|before| before >= self.previous);
        has_room && (self.count > 0 || self.last == self.previous) && self.synced <= self.previous
    }

    pub(in crate::store::embedded) fn encode(&self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(&self.previous.to_le_bytes());
        buffer.extend_from_slice(&self.last.to_le_bytes());
        buffer.extend_from_slice(&self.count.to_le_bytes());
        buffer.extend_from_slice(&self.synced.to_le_bytes());
        buffer.extend_from_slice(&self.stamp_ms.to_le_bytes());
        buffer.extend_from_slice(&self.lease_ms.to_le_bytes());
        buffer.push(u8::from(self.is_clean));
    }

    pub(in crate::store::embedded) fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let head = Self {
            previous: fields.u64()?,
            last: fields.u64()?,
            count: fields.u32()?,
            synced: fields.u64()?,
            stamp_ms: fields.u64()?,
            lease_ms: fields.u64()?,
            is_clean: match fields.u8()? {
                0 => false,
                1 => true,
                _ => return None,
            },
        };
        head.is_sound().then_some(head)
    }
}

impl Place {
    /// Offset 0 of a segment.
    pub(super) fn start(store_id: &[u8; 16], number: u64) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(store_id);
        hasher.update(&number.to_le_bytes());
        Self {
            seed: hasher.finalize(),
            offset: 0,
        }
    }

    pub(super) fn at(self, offset: u64) -> Self {
        Self { offset, ..self }
    }

    fn checksum(self, length: u32, content: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.seed);
        hasher.update(&self.offset.to_le_bytes());
        hasher.update(&length.to_le_bytes());
        hasher.update(content);
        hasher.finalize()
    }
}

/// Appends a block to the buffer; `None`, and nothing appended, if its payload is too long for one.
pub(super) fn encode_block(
    buffer: &mut Vec<u8>,
    place: Place,
    head: &BlockHead,
    payload: &[u8],
) -> Option<()> {
    let length = u32::try_from(payload.len()).ok()?;
    let start = buffer.len();
    buffer.reserve(BLOCK_HEAD_BYTES + payload.len());
    buffer.extend_from_slice(&MAGIC);
    buffer.extend_from_slice(&length.to_le_bytes());
    buffer.extend_from_slice(&[0; 4]);
    head.encode(buffer);
    buffer.extend_from_slice(payload);
    let (prefix, content) = buffer.get_mut(start..)?.split_at_mut(PREFIX_BYTES);
    let checksum = place.checksum(length, content);
    prefix
        .last_chunk_mut::<4>()?
        .copy_from_slice(&checksum.to_le_bytes());
    Some(())
}

/// The length of the whole block that begins with these bytes, as far as it can be told without
/// checking it.
pub(super) fn block_bytes(bytes: &[u8]) -> Option<usize> {
    let mut fields = Fields::new(bytes);
    if fields.array()? != MAGIC {
        return None;
    }
    let length = usize::try_from(fields.u32()?).ok()?;
    length.checked_add(BLOCK_HEAD_BYTES)
}

/// The block at the front of `bytes`.
///
/// # Errors
/// There is none; says why.
pub(super) fn decode_block(bytes: &[u8], place: Place) -> Result<(BlockHead, &[u8]), &'static str> {
    let mut fields = Fields::new(bytes);
    if fields.array() != Some(MAGIC) {
        return Err("no block begins here");
    }
    let cut_off = "the block runs past the end of the file";
    let length = fields.u32().ok_or(cut_off)?;
    let checksum = fields.u32().ok_or(cut_off)?;
    let content = usize::try_from(length)
        .ok()
        .and_then(|length| length.checked_add(FIELDS_BYTES))
        .and_then(|length| fields.bytes(length))
        .ok_or(cut_off)?;
    if place.checksum(length, content) != checksum {
        return Err("the block's checksum does not fit its content");
    }
    let mut fields = Fields::new(content);
    let head = BlockHead::decode(&mut fields).ok_or("the block's numbers contradict each other")?;
    Ok((head, fields.rest()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_read_only_where_it_was_written() {
        let head = BlockHead {
            previous: 7,
            last: 12,
            count: 2,
            synced: 6,
            stamp_ms: 99,
            lease_ms: 100,
            is_clean: false,
        };
        let place = Place::start(&[3; 16], 4).at(72);
        let mut bytes = Vec::new();
        encode_block(&mut bytes, place, &head, b"payload").unwrap();
        assert_eq!(bytes.len(), BLOCK_HEAD_BYTES + 7);
        assert_eq!(block_bytes(&bytes), Some(bytes.len()));
        assert_eq!(decode_block(&bytes, place), Ok((head, &b"payload"[..])));
        for elsewhere in [
            place.at(73),
            Place::start(&[3; 16], 5).at(72),
            Place::start(&[4; 16], 4).at(72),
        ] {
            assert!(decode_block(&bytes, elsewhere).is_err());
        }
        for cut in 0..bytes.len() {
            assert!(decode_block(&bytes[..cut], place).is_err());
        }
    }

    #[test]
    fn numbers_that_contradict_each_other_are_refused() {
        let sound = BlockHead {
            previous: 5,
            last: 9,
            count: 4,
            ..BlockHead::default()
        };
        assert!(sound.is_sound());
        assert!(!BlockHead { count: 5, ..sound }.is_sound());
        assert!(!BlockHead { count: 0, ..sound }.is_sound());
        assert!(!BlockHead { last: 3, ..sound }.is_sound());
        assert!(!BlockHead { synced: 6, ..sound }.is_sound());
    }
}
