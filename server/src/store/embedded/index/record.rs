//! Records of entries, as they lie in the index.
//!
//! ```text
//!   | head 1 | version 1..8 | expires 0 or 8 | value            the value itself
//!   | head 1 | version 1..8 | expires 0 or 8 | length 4 |       its length: it lies in chunks
//!
//!   head: bit 0 it lies in chunks, bit 1 it expires, bits 2 to 4 the bytes of the version, less one
//! ```
//!
//! A short head leaves a short record in few lines of the processor's cache, which is what a scan waits
//! for.

use bytes::BufMut;

use super::super::versions::Version;
use crate::store::{Millis, Sequence, StoreError};

/// The longest part of a value in one record. 16 such records make a leaf, far below the 128 KiB
/// at which sled resorts to separate files.
pub(super) const MAX_CHUNK_BYTES: usize = 4096;

const IS_CHUNKED: u8 = 1;
const EXPIRES: u8 = 2;
/// Where the number of the version's bytes stands.
const VERSION_SHIFT: u32 = 2;
const MAX_VERSION_BYTES: usize = size_of::<Sequence>();

/// The head of a record, and where its value is.
pub(super) struct Record<'a> {
    pub(super) version: Sequence,
    pub(super) expires_ms: Millis,
    pub(super) value: Value<'a>,
}

pub(super) enum Value<'a> {
    Inline(&'a [u8]),
    Chunked { length: usize },
}

impl Value<'_> {
    pub(super) fn chunks(&self) -> u32 {
        match self {
            Self::Inline(_) => 0,
            Self::Chunked { length } => chunks_of(*length),
        }
    }
}

/// Appends a record.
pub(super) fn encode(version: &Version, value: &[u8], record: &mut Vec<u8>) {
    let is_chunked = chunk_count(value.len()) > 0;
    // At least one byte, also of 0.
    let more = (version.sequence | 1).ilog2() / 8;
    let zeros = MAX_VERSION_BYTES - 1 - more as usize;
    let mut head = u8::try_from(more << VERSION_SHIFT).unwrap_or(u8::MAX);
    head |= if is_chunked { IS_CHUNKED } else { 0 };
    head |= if version.expires_ms != 0 { EXPIRES } else { 0 };
    record.put_u8(head);
    record.extend(version.sequence.to_be_bytes().iter().skip(zeros));
    if version.expires_ms != 0 {
        record.put_u64(version.expires_ms);
    }
    if is_chunked {
        record.put_u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
    } else {
        record.put_slice(value);
    }
}

pub(super) fn decode<'a>(key: &[u8], record: &'a [u8]) -> Result<Record<'a>, StoreError> {
    parts(record).ok_or_else(|| {
        let key = key.escape_ascii();
        StoreError::Storage(format!("the record of key {key} is damaged"))
    })
}

fn parts(record: &[u8]) -> Option<Record<'_>> {
    let (head, rest) = record.split_first()?;
    let version_bytes = usize::from(head >> VERSION_SHIFT) + 1;
    let (low, rest) = rest.split_at_checked(version_bytes)?;
    let mut version = [0; MAX_VERSION_BYTES];
    let zeros = MAX_VERSION_BYTES.checked_sub(version_bytes)?;
    version.get_mut(zeros..)?.copy_from_slice(low);
    let (expires_ms, rest) = match head & EXPIRES {
        0 => (0, rest),
        _ => {
            let (expires, rest) = rest.split_first_chunk()?;
            (u64::from_be_bytes(*expires), rest)
        }
    };
    let value = match head & IS_CHUNKED {
        0 => Value::Inline(rest),
        _ => Value::Chunked {
            length: u32::from_be_bytes(rest.try_into().ok()?) as usize,
        },
    };
    Some(Record {
        version: u64::from_be_bytes(version),
        expires_ms,
        value,
    })
}

pub(super) fn chunk_count(length: usize) -> u32 {
    if length <= MAX_CHUNK_BYTES {
        0
    } else {
        chunks_of(length)
    }
}

pub(super) fn chunks_of(length: usize) -> u32 {
    u32::try_from(length.div_ceil(MAX_CHUNK_BYTES)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(sequence: Sequence, expires_ms: Millis) -> Version {
        Version {
            sequence,
            expires_ms,
            value: None,
        }
    }

    #[test]
    fn records_of_every_version_and_expiry_come_back() {
        let sequences = (0..64)
            .flat_map(|bit| [1 << bit, (1 << bit) - 1])
            .chain([u64::MAX]);
        for sequence in sequences {
            for expires_ms in [0, 1, u64::MAX] {
                for value in [
                    &b""[..],
                    b"value",
                    &[7; MAX_CHUNK_BYTES],
                    &[7; MAX_CHUNK_BYTES + 1],
                ] {
                    let mut record = Vec::new();
                    encode(&version(sequence, expires_ms), value, &mut record);
                    let decoded = decode(b"key", &record).unwrap();
                    assert_eq!(
                        (decoded.version, decoded.expires_ms),
                        (sequence, expires_ms)
                    );
                    match decoded.value {
                        Value::Inline(inline) => assert_eq!(inline, value),
                        Value::Chunked { length } => assert_eq!(length, MAX_CHUNK_BYTES + 1),
                    }
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_a_record_or_an_error() {
        for head in 0..=u8::MAX {
            for length in 0..24 {
                let mut record = vec![head];
                record.resize(length, 0xff);
                if let Err(error) = decode(b"key", &record) {
                    assert!(
                        error
                            .to_string()
                            .contains("the record of key key is damaged")
                    );
                }
            }
        }
    }
}
