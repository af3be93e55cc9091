//! Records of entries, as they lie in the index.

use bytes::BufMut;
use sled::IVec;

use super::super::versions::Version;
use crate::store::{Millis, Sequence, StoreError};

/// The longest part of a value in one record. 16 such records make a leaf, far below the 128 KiB
/// at which sled resorts to separate files.
pub(super) const MAX_CHUNK_BYTES: usize = 4096;

const KIND_INLINE: u8 = 0;
const KIND_CHUNKED: u8 = 1;
const HEAD_BYTES: usize = 17;

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
    record.put_u8(if is_chunked {
        KIND_CHUNKED
    } else {
        KIND_INLINE
    });
    record.put_u64(version.sequence);
    record.put_u64(version.expires_ms);
    if is_chunked {
        record.put_u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
    } else {
        record.put_slice(value);
    }
}

pub(super) fn decode<'a>(key: &[u8], record: &'a IVec) -> Result<Record<'a>, StoreError> {
    let damaged = || {
        let key = key.escape_ascii();
        StoreError::Storage(format!("the record of key {key} is damaged"))
    };
    let (head, rest) = record.split_at_checked(HEAD_BYTES).ok_or_else(damaged)?;
    let number = |range| {
        head.get(range)
            .and_then(|bytes: &[u8]| bytes.try_into().ok())
    };
    let version = number(1..9).map(u64::from_be_bytes).ok_or_else(damaged)?;
    let expires_ms = number(9..17).map(u64::from_be_bytes).ok_or_else(damaged)?;
    let value = match head.first() {
        Some(&KIND_INLINE) => Value::Inline(rest),
        Some(&KIND_CHUNKED) => {
            let length = rest.try_into().map(u32::from_be_bytes);
            let length = length.map_err(|_| damaged())? as usize;
            Value::Chunked { length }
        }
        _ => return Err(damaged()),
    };
    Ok(Record {
        version,
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
