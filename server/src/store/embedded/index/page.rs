//! Pages of a scan.

use bytes::{Bytes, BytesMut};
use sled::IVec;

use super::Index;
use super::record::{Value, decode};
use crate::store::{Entry, Millis, PageLimit, Sequence, StoreError};

/// A page as the index has it.
pub(in super::super) struct IndexPage {
    pub(in super::super) rows: Vec<(Bytes, Entry)>,
    /// Rows whose record can't be read, by their place. What memory knows of the key overrules them.
    pub(in super::super) faults: Vec<(usize, StoreError)>,
    pub(in super::super) is_exhausted: bool,
}

/// Collects a page in one piece of memory: two allocations a row would cost as much as the look-up.
pub(super) struct PageBuilder {
    bytes: BytesMut,
    rows: Vec<Place>,
    faults: Vec<(usize, StoreError)>,
}

/// Where a row lies in the page's memory.
struct Place {
    key_end: usize,
    end: usize,
    version: Sequence,
    expires_ms: Millis,
}

impl PageBuilder {
    pub(super) fn new(limit: PageLimit) -> Self {
        const ROW_BYTES: usize = 96;
        const MAX_ROWS: usize = 1024;
        let rows = limit.rows.min(MAX_ROWS);
        Self {
            bytes: BytesMut::with_capacity((rows * ROW_BYTES).min(limit.bytes)),
            rows: Vec::with_capacity(rows),
            faults: Vec::new(),
        }
    }

    pub(super) fn is_full(&self, limit: PageLimit) -> bool {
        !self.rows.is_empty() && (self.rows.len() >= limit.rows || self.bytes.len() >= limit.bytes)
    }

    /// How many rows more there may be, and one at the least.
    pub(super) fn room(&self, limit: PageLimit) -> usize {
        limit.rows.saturating_sub(self.rows.len()).max(1)
    }

    pub(super) fn add(&mut self, index: &Index, key: &[u8], record: &IVec, keys_only: bool) {
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        let head = decode(key, record).and_then(|record| {
            match record.value {
                _ if keys_only => {}
                Value::Inline(value) => self.bytes.extend_from_slice(value),
                Value::Chunked { length } => index.read_chunks(key, length, &mut self.bytes)?,
            }
            Ok((record.version, record.expires_ms))
        });
        let (version, expires_ms) = head.unwrap_or_else(|fault| {
            self.faults.push((self.rows.len(), fault));
            (0, 0)
        });
        self.rows.push(Place {
            key_end,
            end: self.bytes.len(),
            version,
            expires_ms,
        });
    }

    pub(super) fn finish(self, is_exhausted: bool) -> IndexPage {
        let bytes = self.bytes.freeze();
        let mut start = 0;
        let rows = self.rows.into_iter().map(|place| {
            let key = bytes.slice(start..place.key_end);
            let value = bytes.slice(place.key_end..place.end);
            start = place.end;
            let entry = Entry {
                value,
                version: place.version,
                expires_ms: place.expires_ms,
            };
            (key, entry)
        });
        IndexPage {
            rows: rows.collect(),
            faults: self.faults,
            is_exhausted,
        }
    }
}
