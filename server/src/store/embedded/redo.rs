//! Doing again what a base and a log have, before anyone reads.

use super::base::Rows;
use super::index::Index;
use super::log::{self, BlockHead, Change, Commits, LogError};
use super::snapshots::Snapshots;
use super::versions::{Unfolded, Version, Versions};
use crate::store::{Sequence, StoreError, value};

/// Why something can't be recovered.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecoveryError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("sled: {0}")]
    Index(#[from] StoreError),
    #[error("a block of the log does not decode: {0}")]
    Payload(#[from] log::BadPayload),
}

/// Puts rows and commits into memory, and takes them to the index when they become too many. Nobody
/// reads yet, so only the newest version of each key counts.
pub(super) struct Redo<'a> {
    index: &'a Index,
    versions: &'a Versions,
    snapshots: Snapshots,
    max_bytes: usize,
}

impl<'a> Redo<'a> {
    pub(super) fn new(index: &'a Index, versions: &'a Versions, max_bytes: usize) -> Self {
        Self {
            index,
            versions,
            // Nobody looks at anything but the newest.
            snapshots: Snapshots::new(Sequence::MAX, 0),
            max_bytes,
        }
    }

    /// Rows of a copy: they come in order, and go to the index as they are.
    pub(super) fn rows(&mut self, rows: &Rows) -> Result<(), RecoveryError> {
        let versions: Vec<(&[u8], Version)> = rows
            .iter()
            .map(|row| {
                let version = Version {
                    sequence: row.version,
                    expires_ms: row.expires_ms,
                    value: Some(value(row.value)),
                };
                (row.key, version)
            })
            .collect();
        let parts = versions.iter().map(|(key, version)| (*key, version));
        self.index.fold_ordered(parts)?;
        Ok(())
    }

    /// The commits of a block.
    pub(super) fn block(&mut self, head: &BlockHead, payload: &[u8]) -> Result<(), RecoveryError> {
        let views = self.snapshots.views();
        for commit in Commits::new(head, payload) {
            let (sequence, writes) = commit?;
            for (key, change) in writes {
                let (value, expires_ms) = match change {
                    Change::Put { value, expires_ms } => (Some(self::value(value)), expires_ms),
                    Change::Delete | Change::Expire => (None, 0),
                };
                let version = Version {
                    sequence,
                    expires_ms,
                    value,
                };
                self.versions.put(key, version, &views);
            }
        }
        if self.versions.unfolded_bytes() > self.max_bytes {
            self.fold_all()?;
        }
        Ok(())
    }

    /// Takes everything to the index.
    pub(super) fn fold_all(&mut self) -> Result<(), StoreError> {
        const BATCH_KEYS: usize = 1024;
        let unfolded = self.versions.begin_pass();
        for keys in unfolded.keys.chunks(BATCH_KEYS) {
            let batch: Vec<Unfolded> = keys
                .iter()
                .filter_map(|key| self.versions.to_fold(key, Sequence::MAX))
                .collect();
            self.index.fold_ordered(batch.iter().map(Unfolded::parts))?;
            self.versions.folded(&batch);
        }
        self.versions.finish_pass(unfolded);
        Ok(())
    }
}
