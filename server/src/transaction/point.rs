//! One key as a snapshot: what a command sees that is decided inside the store's commit section.

use bytes::Bytes;

use crate::store::{Entry, KeyRange, Millis, Page, PageLimit, Sequence, Snapshot, StoreError};

/// The newest entry of one key. Nothing can change it before the commit, so what is decided on it
/// never conflicts.
#[derive(Clone, Debug)]
pub struct PointSnapshot {
    /// The store's key.
    pub key: Bytes,
    /// What it holds, expired or not.
    pub entry: Option<Entry>,
    /// The newest commit.
    pub sequence: Sequence,
    /// The commit's stamp.
    pub now_ms: Millis,
}

impl PointSnapshot {
    fn other(key: &[u8]) -> StoreError {
        let (key, own) = (key.escape_ascii(), "the one key of its command");
        StoreError::Storage(format!("{key} was looked up, and is not {own}"))
    }
}

impl Snapshot for PointSnapshot {
    fn sequence(&self) -> Sequence {
        self.sequence
    }

    fn now_ms(&self) -> Millis {
        self.now_ms
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Entry>, StoreError> {
        if self.key != key {
            return Err(Self::other(key));
        }
        Ok(self.entry.clone())
    }

    async fn scan(
        &self,
        range: &KeyRange,
        _is_reverse: bool,
        _keys_only: bool,
        _limit: PageLimit,
    ) -> Result<Page, StoreError> {
        Err(Self::other(&range.start))
    }
}
