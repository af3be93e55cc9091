//! A store's folder without a server: checked, or made from a backup.

use std::path::Path;
use std::sync::Arc;

use super::base::{CopyEnd, Frame};
use super::disk::{Disk, RealDisk};
use super::folder::{Folder, FolderError};
use super::index::{Index, Progress};
use super::journal::Journal;
use super::log::{self, LogEnd, LogOptions, LogWriter};
use super::rebase::{newest_base, write_whole_base};
use super::recovery::{damaged_copy, open_copy, read_copy};
use super::redo::{RecoveryError, Redo};
use super::versions::Versions;
use crate::store::{Millis, Sequence};

/// What sled may cache while an index is made.
const INDEX_CACHE_BYTES: u64 = 64 << 20;

/// Bytes in memory while an index is made.
const REDO_BYTES: usize = 64 << 20;

/// What a folder holds, found whole.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The store.
    pub store_id: [u8; 16],
    /// The base: the commit that it began at, and its rows.
    pub base: Option<(Sequence, u64)>,
    /// The last commit.
    pub last: Sequence,
    /// Blocks of the log behind the base.
    pub blocks: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// What a start would cut off as torn: the file, and where in it.
    pub torn: Option<(String, u64)>,
}

/// What a backup was made into.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The new store's id.
    pub store_id: [u8; 16],
    /// The commit that it shows.
    pub last: Sequence,
    /// Its rows: keys, and the server's own records.
    pub rows: u64,
}

/// Reads everything that a rebuild would need, and changes nothing.
///
/// # Errors
/// Names the file and the place that are not as they should be.
pub fn check(folder: &Path) -> Result<Checked, FolderError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    examine(&Folder::open_existing(folder, disk)?)
}

/// Reads everything that a rebuild of an open folder would need.
pub(super) fn examine(folder: &Folder) -> Result<Checked, FolderError> {
    let disk = &**folder.disk();
    let newest = newest_base(disk, &folder.base()).map_err(|error| FolderError::Io {
        action: "read",
        path: folder.base(),
        error,
    })?;
    let base = newest.map(|path| check_copy(disk, &path)).transpose()?;
    let start = base.as_ref().map_or(0, |(start, _, _)| *start);
    let mut blocks = 0;
    let mut count = |head: &log::BlockHead, payload: &[u8]| {
        blocks += 1;
        let damaged = |error| RecoveryError::Payload(error);
        log::Commits::new(head, payload).try_for_each(|commit| commit.map(drop).map_err(damaged))
    };
    let end = log::scan(disk, &folder.log(), &folder.id(), start, &mut count);
    let end = end.map_err(|error| FolderError::Damaged(error.to_string()))?;
    folder.check_reach(base.as_ref().map(|(_, _, end)| end.end), &end)?;
    Ok(Checked {
        store_id: folder.id(),
        base: base.map(|(start, _, end)| (start, end.rows)),
        last: end.last,
        blocks,
        log_bytes: end.segments.iter().map(|segment| segment.bytes).sum(),
        torn: end
            .cut
            .map(|cut| (cut.file.display().to_string(), cut.offset)),
    })
}

/// Reads a whole copy; answers its beginning, its newest stamp and its end.
fn check_copy(disk: &dyn Disk, path: &Path) -> Result<(Sequence, Millis, CopyEnd), FolderError> {
    let mut reader = open_copy(disk, path)?;
    let header = *reader.header();
    let mut stamp_ms = header.stamp_ms;
    while let Some(frame) = reader
        .next_frame()
        .map_err(|error| damaged_copy(path, &error))?
    {
        match frame {
            Frame::Rows(_) => {}
            Frame::Block(head, _) => stamp_ms = stamp_ms.max(head.stamp_ms),
            Frame::End(end) => return Ok((header.start, stamp_ms, end)),
        }
    }
    Err(damaged_copy(path, &"it has no end"))
}

/// Makes a store out of a backup, in an empty folder. The whole of the backup is checked before
/// anything is made of it.
///
/// # Errors
/// The backup is damaged, the folder is not empty, or the disk failed. What was begun is no store
/// then, is taken for none, and can be deleted.
pub fn restore(backup: &Path, folder: &Path, new_id: [u8; 16]) -> Result<Restored, FolderError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (_, stamp_ms, end) = check_copy(&*disk, backup)?;
    let folder = Folder::open_empty(folder, Arc::clone(&disk), new_id)?;
    let rows = fill(&folder, &disk, backup, stamp_ms, end.end)
        .map_err(|error| folder.half_restored(error.to_string()))?;
    Ok(Restored {
        store_id: new_id,
        last: end.end,
        rows,
    })
}

/// Fills an empty folder; answers how many rows it has.
fn fill(
    folder: &Folder,
    disk: &Arc<dyn Disk>,
    backup: &Path,
    stamp_ms: Millis,
    last: Sequence,
) -> Result<u64, FolderError> {
    folder.make_folders()?;
    let sled = |error| folder.index_error(&error);
    let index = Index::open(&folder.index(), INDEX_CACHE_BYTES, 0).map_err(sled)?;
    let versions = Versions::new(0);
    let redo = Redo::new(&index, &versions, REDO_BYTES);
    read_copy(&**disk, backup, &redo)?;
    redo.fold_all().map_err(sled)?;
    let progress = Progress {
        store: folder.id(),
        applied: last,
    };
    index.note(progress).map_err(sled)?;
    let io = |action, error| FolderError::Io {
        action,
        path: folder.path().to_owned(),
        error,
    };
    let rows = write_whole_base(folder, &index, last, stamp_ms)
        .map_err(|error| io("write the base into", error))?;
    begin_log(folder, last, stamp_ms).map_err(|error| io("write the log into", error))?;
    drop(index);
    folder.claim()?;
    // The last step: before it, nobody takes this for a store.
    folder.note_stopped()?;
    Ok(rows)
}

/// A log that goes on behind the base, as a store leaves it that is closed in order.
fn begin_log(folder: &Folder, last: Sequence, stamp_ms: Millis) -> std::io::Result<()> {
    let disk = Arc::clone(folder.disk());
    let options = LogOptions::new(folder.id());
    let writer = LogWriter::open(disk, folder.log(), options, &LogEnd::empty(last))?;
    let journal = Journal::new(writer, stamp_ms);
    journal.mark(true)?;
    journal.give_back()
}
