//! The index: folded versions in one sled tree. It can be lost at any time, since base and log have
//! all that it has.
//!
//! ```text
//!   tree key                                          record
//!   'e' key                                           version, expiry, value: see `record.rs`
//!   'c' key_length key chunk_number                   up to 4 KiB of a value
//!   'x' expires key                                   nothing: the keys that expire, by when
//!   'm' name                                          what the store keeps of itself
//! ```
//!
//! Numbers are big-endian; `key_length` has 2 bytes, `chunk_number` 4. Large values are cut into
//! chunks because sled keeps a leaf of more than 128 KiB in a file of its own, of which it loses
//! track when it is killed.
//!
//! sled's batches and transactions are not used: the first of them makes every later operation take a
//! lock of the whole process. Each operation here is atomic by itself, and whatever a kill leaves half
//! done is done again from the log.

mod page;
mod record;
mod stretches;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use bytes::{BufMut, Bytes, BytesMut};
use sled::Tree;

use self::record::{MAX_CHUNK_BYTES, Value, chunk_count, chunks_of, decode, encode};
use self::stretches::Stretches;
use super::versions::Version;
use crate::store::{Entry, Millis, Sequence, StoreError, value};

pub(super) use self::page::{IndexPage, Search};

const ENTRY: u8 = b'e';
const CHUNK: u8 = b'c';
const EXPIRY: u8 = b'x';
/// The record that tells whose index it is, and how far it is.
const PROGRESS_KEY: &[u8] = b"mprogress";

/// The format of the index. One of another format is made anew from base and log.
const FORMAT: u8 = 2;

/// An open index.
pub(super) struct Index {
    database: sled::Db,
    tree: Tree,
    /// What scans have found.
    stretches: Stretches,
}

/// Whose index it is, and how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) store: [u8; 16],
    /// Every commit at or below has been folded.
    pub(super) applied: Sequence,
}

impl Index {
    /// Opens sled's folder, and makes one where there is none. `scan_cache_bytes` bounds what is kept for
    /// scans beside sled's own cache.
    pub(super) fn open(
        folder: &Path,
        cache_bytes: u64,
        scan_cache_bytes: usize,
    ) -> Result<Self, StoreError> {
        let config = sled::Config::new().path(folder).cache_capacity(cache_bytes);
        let database = guarded(|| config.open().map_err(storage))?;
        let tree = (*database).clone();
        Ok(Self {
            database,
            tree,
            stretches: Stretches::new(scan_cache_bytes),
        })
    }

    /// Bytes that are kept for scans.
    pub(super) fn cached_bytes(&self) -> usize {
        self.stretches.bytes()
    }

    /// What the index says of itself; nothing if it is new.
    pub(super) fn progress(&self) -> Result<Option<Progress>, StoreError> {
        let record = guarded(|| self.tree.get(PROGRESS_KEY).map_err(storage))?;
        let Some(record) = record else {
            return Ok(None);
        };
        if record.get(24..) != Some(&[FORMAT]) {
            return Err(StoreError::Storage("it has another format".to_owned()));
        }
        let store = record.get(0..16).and_then(|it: &[u8]| it.try_into().ok());
        let applied = record.get(16..24).and_then(|it: &[u8]| it.try_into().ok());
        let (Some(store), Some(applied)) = (store, applied) else {
            return Err(StoreError::Storage(
                "the progress record is cut short".to_owned(),
            ));
        };
        Ok(Some(Progress {
            store,
            applied: u64::from_be_bytes(applied),
        }))
    }

    /// Notes how far the index is, after what it covers, and hands all of it to the kernel.
    pub(super) fn note(&self, progress: Progress) -> Result<(), StoreError> {
        let mut record = Vec::with_capacity(25);
        record.put_slice(&progress.store);
        record.put_u64(progress.applied);
        record.put_u8(FORMAT);
        guarded(|| self.tree.insert(PROGRESS_KEY, record).map_err(storage))?;
        self.flush()
    }

    /// Hands everything to the kernel.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        guarded(|| self.database.flush().map(drop).map_err(storage))
    }

    /// The entry of a key.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Entry>, StoreError> {
        guarded(|| self.read(key))
    }

    fn read(&self, key: &[u8]) -> Result<Option<Entry>, StoreError> {
        let Some(record) = self.tree.get(entry_key(key)).map_err(storage)? else {
            return Ok(None);
        };
        let decoded = decode(key, &record)?;
        let value = match decoded.value {
            Value::Inline(inline) => value(inline),
            Value::Chunked { length } => {
                let mut value = BytesMut::new();
                self.read_chunks(key, length, &mut value)?;
                value.freeze()
            }
        };
        Ok(Some(Entry {
            value,
            version: decoded.version,
            expires_ms: decoded.expires_ms,
        }))
    }

    /// Makes the index have these versions of these keys, which are in order, and no others.
    ///
    /// Every other key first, and then those between them: a leaf that sled's keys reach in order is
    /// split when it has 17, and its lower half of 8 never grows again. So the first half of the keys
    /// leaves room for just the second, and scans find half as many leaves.
    pub(super) fn fold_ordered<'a>(
        &self,
        batch: impl Iterator<Item = (&'a [u8], &'a Version)> + Clone,
    ) -> Result<(), StoreError> {
        let _folding = self.stretches.fold(batch.clone().map(|(key, _)| key));
        let first = batch.clone().step_by(2);
        let second = batch.skip(1).step_by(2);
        let mut room = Vec::new();
        let mut all = first.chain(second);
        guarded(|| all.try_for_each(|(key, version)| self.fold(key, version, &mut room)))
    }

    /// Makes the index have this version of the key, and no other. `room` is for what is put together
    /// on the way, so that many keys share it.
    fn fold(&self, key: &[u8], version: &Version, room: &mut Vec<u8>) -> Result<(), StoreError> {
        room.clear();
        room.push(ENTRY);
        room.extend_from_slice(key);
        let place_bytes = room.len();
        let new_expiry = version.value.as_ref().map_or(0, |_| version.expires_ms);
        let (replaced, new_chunks) = match &version.value {
            Some(value) => {
                // The record last: after a kill it never speaks of chunks that are not there, and what
                // expires is never missing from the index of expiries.
                let new_chunks = self.write_chunks(key, value)?;
                if new_expiry != 0 {
                    let place = expiry_key(new_expiry, key);
                    self.tree.insert(place, &[]).map_err(storage)?;
                }
                encode(version, value, room);
                let (place, record) = room.split_at(place_bytes);
                let replaced = self.tree.insert(place, record).map_err(storage)?;
                (replaced, new_chunks)
            }
            None => (self.tree.remove(&room[..]).map_err(storage)?, 0),
        };
        let (old_expiry, old_chunks) = match replaced.as_ref().map(|it| decode(key, it)) {
            Some(Ok(old)) => (old.expires_ms, old.value.chunks()),
            Some(Err(_)) | None => (0, 0),
        };
        for number in new_chunks..old_chunks {
            self.tree.remove(chunk_key(key, number)).map_err(storage)?;
        }
        if old_expiry != 0 && old_expiry != new_expiry {
            self.forget_expiry(key, old_expiry)?;
        }
        Ok(())
    }

    /// Keys whose time has come by the index of expiries, and when that was; from behind a row on.
    pub(super) fn expired(
        &self,
        behind: Option<&(Millis, Bytes)>,
        now_ms: Millis,
        limit: usize,
    ) -> Result<Vec<(Millis, Bytes)>, StoreError> {
        guarded(|| self.read_expired(behind, now_ms, limit))
    }

    fn read_expired(
        &self,
        behind: Option<&(Millis, Bytes)>,
        now_ms: Millis,
        limit: usize,
    ) -> Result<Vec<(Millis, Bytes)>, StoreError> {
        let end = expiry_key(now_ms.saturating_add(1), &[]);
        let start = match behind {
            Some((expires_ms, key)) if *expires_ms <= now_ms => {
                let mut start = expiry_key(*expires_ms, key);
                start.push(0);
                start
            }
            _ => vec![EXPIRY],
        };
        let due = self.tree.range(start..end).take(limit);
        due.map(|row| {
            let (place, _) = row.map_err(storage)?;
            let expires = place.get(1..9).and_then(|it: &[u8]| it.try_into().ok());
            let expires_ms = expires.map_or(0, u64::from_be_bytes);
            let key = Bytes::copy_from_slice(place.get(9..).unwrap_or_default());
            Ok((expires_ms, key))
        })
        .collect()
    }

    /// Takes a key from the index of expiries that does not expire at this time any more.
    pub(super) fn forget_expiry(&self, key: &[u8], expires_ms: Millis) -> Result<(), StoreError> {
        let place = expiry_key(expires_ms, key);
        guarded(|| self.tree.remove(place).map(drop).map_err(storage))
    }

    fn write_chunks(&self, key: &[u8], value: &[u8]) -> Result<u32, StoreError> {
        let chunks = chunk_count(value.len());
        if chunks > 0 {
            for (number, chunk) in (0..).zip(value.chunks(MAX_CHUNK_BYTES)) {
                let place = chunk_key(key, number);
                self.tree.insert(place, chunk).map_err(storage)?;
            }
        }
        Ok(chunks)
    }

    fn read_chunks(
        &self,
        key: &[u8],
        length: usize,
        value: &mut BytesMut,
    ) -> Result<(), StoreError> {
        let before = value.len();
        for number in 0..chunks_of(length) {
            let chunk = self.tree.get(chunk_key(key, number)).map_err(storage)?;
            let chunk = chunk.ok_or_else(|| {
                let key = key.escape_ascii();
                StoreError::Storage(format!(
                    "chunk {number} of the value of key {key} is missing"
                ))
            })?;
            value.extend_from_slice(&chunk);
        }
        let have = value.len() - before;
        if have != length {
            let key = key.escape_ascii();
            return Err(StoreError::Storage(format!(
                "the value of key {key} has {have} bytes in its chunks, and should have {length}"
            )));
        }
        Ok(())
    }
}

/// Does something with sled. It panics where its files are not what it expects; here that is an error
/// like any other.
fn guarded<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let panicked = |_| StoreError::Storage("sled failed while it used its files".to_owned());
    catch_unwind(AssertUnwindSafe(work)).map_err(panicked)?
}

fn storage(error: sled::Error) -> StoreError {
    StoreError::Storage(error.to_string())
}

fn entry_key(key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + key.len());
    bytes.push(ENTRY);
    bytes.extend_from_slice(key);
    bytes
}

fn expiry_key(expires_ms: Millis, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(9 + key.len());
    bytes.push(EXPIRY);
    bytes.put_u64(expires_ms);
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

    fn index() -> (tempfile::TempDir, Index) {
        let folder = tempfile::tempdir().unwrap();
        let index = Index::open(folder.path(), 1 << 20, 1 << 20).unwrap();
        (folder, index)
    }

    impl Index {
        fn fold_one(&self, key: &[u8], version: &Version) {
            self.fold_ordered([(key, version)].into_iter()).unwrap();
        }
    }

    impl Index {
        /// Takes a piece of a value away, as who folds does on the way to another value.
        pub(in super::super) fn lose_a_chunk(&self, key: &[u8]) {
            let lost = self.tree.remove(chunk_key(key, 0)).unwrap();
            assert!(lost.is_some(), "the value lies in chunks");
        }
    }

    fn version(length: usize, expires_ms: Millis) -> Version {
        let value: Vec<u8> = (0..=250).cycle().take(length).collect();
        Version {
            value: Some(Bytes::from(value)),
            sequence: 7,
            expires_ms,
        }
    }

    fn absent() -> Version {
        Version {
            value: None,
            sequence: 8,
            expires_ms: 0,
        }
    }

    #[test]
    fn values_of_every_size_about_the_chunk_come_back_and_leave_nothing_behind() {
        let (_folder, index) = index();
        for length in [0, 1, 4095, 4096, 4097, 8192, 8193, 100_000, 5000, 10] {
            let new = version(length, 9);
            index.fold_one(b"key", &new);
            assert_eq!(index.get(b"key").unwrap(), new.entry(), "{length} bytes");
            assert_eq!(index.tree.len(), 2 + chunk_count(length) as usize);
        }
        index.fold_one(b"key", &absent());
        assert!(index.tree.is_empty());
    }

    #[test]
    fn chunks_of_keys_that_are_prefixes_of_each_other_do_not_mix() {
        let (_folder, index) = index();
        let keys: [&[u8]; 3] = [b"a", b"a\0\0\0\0", b"a\0\0\0\x01"];
        for (at, key) in keys.iter().enumerate() {
            index.fold_one(key, &version(9000 + at, 0));
        }
        for (at, key) in keys.iter().enumerate() {
            assert_eq!(index.get(key).unwrap(), version(9000 + at, 0).entry());
        }
    }

    #[test]
    fn the_index_of_expiries_follows_the_entries() {
        let (_folder, index) = index();
        index.fold_one(b"a", &version(1, 20));
        index.fold_one(b"b", &version(1, 10));
        index.fold_one(b"c", &version(1, 0));
        let due = |now_ms, limit| -> Vec<Bytes> {
            let due = index.expired(None, now_ms, limit).unwrap();
            due.into_iter().map(|(_, key)| key).collect()
        };
        assert_eq!(due(9, 10), [""; 0]);
        assert_eq!(due(20, 10), ["b", "a"]);
        assert_eq!(due(20, 1), ["b"]);
        index.fold_one(b"b", &version(1, 30));
        index.fold_one(b"a", &absent());
        assert_eq!(due(29, 10), [""; 0]);
        assert_eq!(due(30, 10), ["b"]);
        index.fold_one(b"b", &version(1, 0));
        assert_eq!(due(u64::MAX, 10), [""; 0]);
    }
}
