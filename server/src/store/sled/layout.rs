//! How entries lie in sled.
//!
//! ```text
//!   tree key                                          record
//!   'e' key                                           kind version expires ...
//!   'c' key_length key chunk_number                   up to 4 KiB of a value
//!   'm' name                                          what the store keeps of itself
//!
//!   record: | kind 1 | version 8 | expires 8 | value            kind 0: the value follows
//!           | kind 1 | version 8 | expires 8 | length 4 |       kind 1: the value lies in chunks
//! ```
//!
//! Numbers are big-endian; `key_length` has 2 bytes, `chunk_number` 4. Large values are cut into
//! chunks because sled keeps a leaf of more than 128 KiB in a file of its own, which it never syncs.

use std::ops::Bound;

use bytes::{BufMut, Bytes};
use sled::{Batch, IVec, Tree};

use super::super::{Entry, KeyRange, PageLimit, StoreError};

/// The longest part of a value in one record. 16 such records make a leaf, far below the 128 KiB
/// at which sled resorts to separate files.
const MAX_CHUNK_BYTES: usize = 4096;

const ENTRY: u8 = b'e';
const CHUNK: u8 = b'c';
/// The record that names the newest sequence and stamp.
pub(super) const PROGRESS_KEY: &[u8] = b"mprogress";

const KIND_INLINE: u8 = 0;
const KIND_CHUNKED: u8 = 1;
const HEAD_BYTES: usize = 17;

/// A page as sled has it now. A row whose chunks changed underneath is an error in its place, which
/// the history overrules.
pub(super) struct NewestPage {
    pub(super) rows: Vec<(Bytes, Result<Entry, StoreError>)>,
    pub(super) is_exhausted: bool,
}

/// The store's newest sequence and stamp, as kept in the tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) sequence: u64,
    pub(super) stamp_ms: u64,
    /// Whether the store was closed in order after this.
    pub(super) is_clean: bool,
}

pub(super) fn read(tree: &Tree, key: &[u8]) -> Result<Option<Entry>, StoreError> {
    let Some(record) = tree.get(entry_key(key)).map_err(storage)? else {
        return Ok(None);
    };
    decode(tree, key, &record, false).map(Some)
}

pub(super) fn read_page(
    tree: &Tree,
    range: &KeyRange,
    is_reverse: bool,
    keys_only: bool,
    limit: PageLimit,
) -> Result<NewestPage, StoreError> {
    let bounds = (
        Bound::Included(entry_key(&range.start)),
        Bound::Excluded(entry_key(&range.end)),
    );
    let mut rows = tree.range::<Vec<u8>, _>(bounds);
    let mut page = NewestPage {
        rows: Vec::new(),
        is_exhausted: false,
    };
    let mut bytes = 0;
    let mut next = || {
        if is_reverse {
            rows.next_back()
        } else {
            rows.next()
        }
    };
    while let Some(row) = next() {
        let is_full = page.rows.len() >= limit.rows || bytes >= limit.bytes;
        if is_full && !page.rows.is_empty() {
            return Ok(page);
        }
        let (key, record) = row.map_err(storage)?;
        let key = Bytes::copy_from_slice(key.get(1..).unwrap_or_default());
        let entry = decode(tree, &key, &record, keys_only);
        bytes += key.len() + entry.as_ref().map_or(0, |entry| entry.value.len());
        page.rows.push((key, entry));
    }
    page.is_exhausted = true;
    Ok(page)
}

/// Adds to `batch` what makes `key` hold `new` instead of `old`.
pub(super) fn write(batch: &mut Batch, key: &[u8], old: Option<&Entry>, new: Option<&Entry>) {
    let old_chunks = old.map_or(0, |entry| chunk_count(&entry.value));
    let new_chunks = new.map_or(0, |entry| chunk_count(&entry.value));
    match new {
        Some(entry) => batch.insert(entry_key(key), encode(entry)),
        None => batch.remove(entry_key(key)),
    }
    if let Some(entry) = new.filter(|_| new_chunks > 0) {
        for (number, chunk) in (0..).zip(entry.value.chunks(MAX_CHUNK_BYTES)) {
            batch.insert(chunk_key(key, number), chunk);
        }
    }
    for number in new_chunks..old_chunks {
        batch.remove(chunk_key(key, number));
    }
}

impl Progress {
    /// What the tree has; nothing in a tree that is new.
    pub(super) fn read(tree: &Tree) -> Result<Option<Self>, StoreError> {
        let Some(record) = tree.get(PROGRESS_KEY).map_err(storage)? else {
            return Ok(None);
        };
        let number = |range| {
            record
                .get(range)
                .and_then(|bytes: &[u8]| bytes.try_into().ok())
        };
        let (Some(sequence), Some(stamp_ms), Some(clean)) =
            (number(0..8), number(8..16), record.get(16))
        else {
            return Err(StoreError::Storage(
                "the progress record is cut short".to_owned(),
            ));
        };
        Ok(Some(Self {
            sequence: u64::from_be_bytes(sequence),
            stamp_ms: u64::from_be_bytes(stamp_ms),
            is_clean: *clean == 1,
        }))
    }

    pub(super) fn encode(self) -> Vec<u8> {
        let mut record = Vec::with_capacity(17);
        record.put_u64(self.sequence);
        record.put_u64(self.stamp_ms);
        record.put_u8(u8::from(self.is_clean));
        record
    }
}

pub(super) fn storage(error: sled::Error) -> StoreError {
    StoreError::Storage(error.to_string())
}

fn encode(entry: &Entry) -> Vec<u8> {
    let is_chunked = chunk_count(&entry.value) > 0;
    let mut record = Vec::with_capacity(HEAD_BYTES + entry.value.len().min(MAX_CHUNK_BYTES));
    record.put_u8(if is_chunked {
        KIND_CHUNKED
    } else {
        KIND_INLINE
    });
    record.put_u64(entry.version);
    record.put_u64(entry.expires_ms);
    if is_chunked {
        record.put_u32(u32::try_from(entry.value.len()).unwrap_or(u32::MAX));
    } else {
        record.put_slice(&entry.value);
    }
    record
}

fn decode(tree: &Tree, key: &[u8], record: &IVec, keys_only: bool) -> Result<Entry, StoreError> {
    let damaged = || StoreError::Storage(format!("the record of key {key:?} is damaged"));
    let (head, rest) = record.split_at_checked(HEAD_BYTES).ok_or_else(damaged)?;
    let number = |range| {
        head.get(range)
            .and_then(|bytes: &[u8]| bytes.try_into().ok())
    };
    let version = number(1..9).map(u64::from_be_bytes).ok_or_else(damaged)?;
    let expires_ms = number(9..17).map(u64::from_be_bytes).ok_or_else(damaged)?;
    let value = match head.first() {
        _ if keys_only => Bytes::new(),
        Some(&KIND_INLINE) => Bytes::copy_from_slice(rest),
        Some(&KIND_CHUNKED) => {
            let length = rest
                .try_into()
                .map(u32::from_be_bytes)
                .map_err(|_| damaged())?;
            read_chunks(tree, key, length as usize)?
        }
        _ => return Err(damaged()),
    };
    Ok(Entry {
        value,
        version,
        expires_ms,
    })
}

fn read_chunks(tree: &Tree, key: &[u8], length: usize) -> Result<Bytes, StoreError> {
    let mut value = Vec::new();
    for number in 0..chunks_of(length) {
        let chunk = tree
            .get(chunk_key(key, number))
            .map_err(storage)?
            .ok_or_else(|| {
                StoreError::Storage(format!(
                    "chunk {number} of the value of key {key:?} is missing"
                ))
            })?;
        value.extend_from_slice(&chunk);
    }
    if value.len() != length {
        let have = value.len();
        return Err(StoreError::Storage(format!(
            "the value of key {key:?} has {have} bytes in its chunks, and should have {length}"
        )));
    }
    Ok(Bytes::from(value))
}

fn chunk_count(value: &[u8]) -> u32 {
    if value.len() <= MAX_CHUNK_BYTES {
        0
    } else {
        chunks_of(value.len())
    }
}

fn chunks_of(length: usize) -> u32 {
    u32::try_from(length.div_ceil(MAX_CHUNK_BYTES)).unwrap_or(u32::MAX)
}

fn entry_key(key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + key.len());
    bytes.push(ENTRY);
    bytes.extend_from_slice(key);
    bytes
}

fn chunk_key(key: &[u8], number: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(7 + key.len());
    bytes.push(CHUNK);
    bytes.put_u16(u16::try_from(key.len()).unwrap_or(u16::MAX));
    bytes.extend_from_slice(key);
    bytes.put_u32(number);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> sled::Db {
        sled::Config::new().temporary(true).open().unwrap()
    }

    fn entry(length: usize) -> Entry {
        let value: Vec<u8> = (0..=250).cycle().take(length).collect();
        Entry {
            value: Bytes::from(value),
            version: 7,
            expires_ms: 9,
        }
    }

    #[test]
    fn values_of_every_size_about_the_chunk_come_back_and_leave_nothing_behind() {
        let tree = tree();
        let mut old = None;
        for length in [0, 1, 4095, 4096, 4097, 8192, 8193, 100_000, 5000, 10] {
            let new = entry(length);
            let mut batch = Batch::default();
            write(&mut batch, b"key", old.as_ref(), Some(&new));
            tree.apply_batch(batch).unwrap();
            assert_eq!(
                read(&tree, b"key").unwrap().as_ref(),
                Some(&new),
                "{length} bytes"
            );
            assert_eq!(tree.len(), 1 + chunk_count(&new.value) as usize);
            old = Some(new);
        }
        let mut batch = Batch::default();
        write(&mut batch, b"key", old.as_ref(), None);
        tree.apply_batch(batch).unwrap();
        assert!(tree.is_empty());
    }

    #[test]
    fn chunks_of_keys_that_are_prefixes_of_each_other_do_not_mix() {
        let tree = tree();
        let keys: [&[u8]; 3] = [b"a", b"a\0\0\0\0", b"a\0\0\0\x01"];
        for (at, key) in keys.iter().enumerate() {
            let mut batch = Batch::default();
            write(&mut batch, key, None, Some(&entry(9000 + at)));
            tree.apply_batch(batch).unwrap();
        }
        for (at, key) in keys.iter().enumerate() {
            assert_eq!(read(&tree, key).unwrap(), Some(entry(9000 + at)));
        }
    }
}
