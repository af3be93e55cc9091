//! Opening a store: the index as it was left where it can be trusted, else a new one from base and log.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::acks::Acks;
use super::base::{CopyEnd, CopyError, CopyReader, Frame};
use super::commit::Sequencer;
use super::disk::{Disk, DiskFile};
use super::files::examine;
use super::folder::{Folder, FolderError};
use super::index::{Index, Progress};
use super::journal::Journal;
use super::log::{self, LogEnd, LogOptions, LogWriter};
use super::rebase::newest_base;
use super::redo::{RecoveryError, Redo};
use super::shared::{Ending, Shared};
use super::snapshots::Snapshots;
use super::versions::Versions;
use super::{EmbeddedOptions, SKIP_AFTER_UNCLEAN_STOP};
use crate::store::{Clock, Millis, Sequence};

/// The buffer through which copies are read.
const READ_BYTES: usize = 256 << 10;

/// The base of a folder.
struct Base {
    path: std::path::PathBuf,
    start: Sequence,
    stamp_ms: Millis,
    bytes: u64,
}

/// An index that has everything through `applied`, and what the log has beyond it, in memory.
struct Recovered {
    index: Index,
    versions: Versions,
    applied: Sequence,
    end: LogEnd,
}

/// Opens the store in a folder.
pub(super) fn open(
    path: &Path,
    new_id: [u8; 16],
    disk: Arc<dyn Disk>,
    clock: Box<dyn Clock>,
    options: EmbeddedOptions,
) -> Result<Shared, FolderError> {
    let folder = Folder::open(path, disk, new_id)?;
    folder.make_folders()?;
    let base = find_base(&folder)?;
    let reused = match is_trusted(&folder, &options)? {
        true => reuse(&folder, base.as_ref(), &options),
        false => None,
    };
    let recovered = match reused {
        Some(recovered) => recovered,
        None => rebuild(&folder, base.as_ref(), &options)?,
    };
    start(folder, base.as_ref(), recovered, clock, options)
}

/// Whether the index is worth a look. If so, that is noted before it is opened.
fn is_trusted(folder: &Folder, options: &EmbeddedOptions) -> Result<bool, FolderError> {
    if !folder.is_ours() {
        return Ok(false);
    }
    if !folder.is_index_trusted(&options.boot) {
        tracing::info!("the index is not as a server of this boot left it");
        return Ok(false);
    }
    folder.note_reopening(&options.boot)?;
    Ok(true)
}

/// The index as it was left, if it is sound and the log goes on where it ends.
fn reuse(folder: &Folder, base: Option<&Base>, options: &EmbeddedOptions) -> Option<Recovered> {
    let doubt = |error: &dyn std::fmt::Display| tracing::warn!(%error, "the index is doubtful");
    let index = options
        .open_index(&folder.index())
        .map_err(|error| doubt(&error))
        .ok()?;
    let progress = index.progress().map_err(|error| doubt(&error)).ok()?;
    let Some(progress) = progress.filter(|it| it.store == folder.id()) else {
        doubt(&"it is empty, or another store's");
        return None;
    };
    // Behind the base even the log may be gone that it would need.
    if progress.applied < base.map_or(0, |base| base.start) {
        doubt(&"it is older than the base");
        return None;
    }
    let redone = redo(folder, index, progress.applied, options);
    redone.map_err(|error| doubt(&error)).ok()
}

/// A new index from base and log.
fn rebuild(
    folder: &Folder,
    base: Option<&Base>,
    options: &EmbeddedOptions,
) -> Result<Recovered, FolderError> {
    if folder.is_ours() && folder.index().exists() {
        // Nothing is set aside for a rebuild that can't be.
        examine(folder)?;
    }
    if let Some(aside) = folder.set_index_aside()? {
        let aside = aside.display();
        tracing::warn!(%aside, "the index is made anew from base and log; what was set aside can be deleted");
    }
    let index = options
        .open_index(&folder.index())
        .map_err(|error| folder.index_error(&error))?;
    let mut base_end = None;
    let mut applied = 0;
    if let Some(base) = base {
        let versions = Versions::new(0);
        let redo = Redo::new(&index, &versions, options.fold_bytes);
        let end = read_copy(&**folder.disk(), &base.path, &redo)?;
        redo.fold_all()
            .map_err(|error| folder.index_error(&error))?;
        applied = base.start;
        base_end = Some(end.end);
    }
    index
        .note(Progress {
            store: folder.id(),
            applied,
        })
        .map_err(|error| folder.index_error(&error))?;
    let recovered = redo(folder, index, applied, options)
        .map_err(|error| FolderError::Damaged(error.to_string()))?;
    folder.check_reach(base_end, &recovered.end)?;
    Ok(recovered)
}

/// Does again what the log has beyond the index.
fn redo(
    folder: &Folder,
    index: Index,
    applied: Sequence,
    options: &EmbeddedOptions,
) -> Result<Recovered, RecoveryError> {
    let versions = Versions::new(options.cache_bytes - options.scan_cache_bytes());
    let redo = Redo::new(&index, &versions, options.max_unfolded_bytes);
    let disk = &**folder.disk();
    let end = redo.log(|visit| log::scan(disk, &folder.log(), &folder.id(), applied, visit))?;
    versions.merge_runs();
    Ok(Recovered {
        index,
        versions,
        applied,
        end,
    })
}

fn start(
    folder: Folder,
    base: Option<&Base>,
    recovered: Recovered,
    clock: Box<dyn Clock>,
    options: EmbeddedOptions,
) -> Result<Shared, FolderError> {
    let Recovered {
        index,
        versions,
        applied,
        end,
    } = recovered;
    folder.check_reach(None, &end)?;
    // Not before it is sure that the start goes on and cuts.
    if let Some(cut) = &end.cut {
        let (file, offset) = (cut.file.display(), cut.offset);
        tracing::warn!(%file, offset, why = cut.why, "the log is torn there, and cut off; nothing newer tells whether that had been on disk");
    }
    // Before the first new byte: should the machine stop from here on, the index is not trusted.
    folder.note_running(&options.boot)?;
    let log_options = LogOptions {
        store_id: folder.id(),
        segment_bytes: options.log_segment_bytes,
    };
    let stamp_ms = base
        .map_or(0, |base| base.stamp_ms)
        .max(end.stamp_ms)
        .max(end.lease_ms);
    let log_error = |error| FolderError::Io {
        action: "open the log in",
        path: folder.log(),
        error,
    };
    let disk = Arc::clone(folder.disk());
    let writer = LogWriter::open(disk, folder.log(), log_options, &end).map_err(log_error)?;
    let journal = Journal::new(writer, stamp_ms);
    let sequence = begin_run(&folder, &journal, &end).map_err(log_error)?;
    folder.claim()?;
    Ok(Shared {
        id: folder.id(),
        options,
        index,
        folder,
        clock,
        versions,
        snapshots: Snapshots::new(sequence, stamp_ms),
        sequencer: Sequencer::new(sequence),
        journal,
        acks: Acks::new(sequence),
        applied: AtomicU64::new(applied),
        applied_position: AtomicU64::new(0),
        folded_through: AtomicU64::new(end.last),
        base_start: AtomicU64::new(base.map_or(0, |base| base.start)),
        base_bytes: AtomicU64::new(base.map_or(0, |base| base.bytes)),
        base_position: AtomicU64::new(0),
        is_index_doubtful: AtomicBool::new(false),
        folds: AtomicU64::new(0),
        is_full: AtomicBool::new(false),
        swept: Mutex::new(None),
        wants_fold: AtomicBool::new(false),
        wants_base: AtomicBool::new(false),
        bases: AtomicU64::new(0),
        failed_bases: AtomicU64::new(0),
        room: Notify::new(),
        time: Notify::new(),
        waiting_for_time: AtomicUsize::new(0),
        ending: Ending::default(),
        readers: Mutex::new(BTreeMap::new()),
    })
}

/// Begins the run in the log; answers the sequence that it begins at.
fn begin_run(folder: &Folder, journal: &Journal, end: &LogEnd) -> io::Result<Sequence> {
    if end.is_clean || !folder.is_ours() {
        journal.mark(false)?;
        return Ok(end.last);
    }
    // The log itself must know what was skipped: it ends where the store says it does.
    let sequence = end.last + SKIP_AFTER_UNCLEAN_STOP;
    journal.skip_to(sequence)?;
    Ok(sequence)
}

fn find_base(folder: &Folder) -> Result<Option<Base>, FolderError> {
    let disk = &**folder.disk();
    let newest = newest_base(disk, &folder.base()).map_err(|error| FolderError::Io {
        action: "read",
        path: folder.base(),
        error,
    })?;
    let Some(path) = newest else { return Ok(None) };
    let bytes = disk.open(&path).and_then(|file| file.length());
    let bytes = bytes.map_err(|error| FolderError::Io {
        action: "read",
        path: path.clone(),
        error,
    })?;
    let reader = open_copy(disk, &path)?;
    let header = reader.header();
    if header.store_id != folder.id() {
        return Err(FolderError::Damaged(format!(
            "the base {} belongs to another store; take it out of this folder, and put back the store's own if there was one",
            path.display()
        )));
    }
    Ok(Some(Base {
        start: header.start,
        stamp_ms: header.stamp_ms,
        path,
        bytes,
    }))
}

/// Reads a whole copy into the index.
pub(super) fn read_copy(
    disk: &dyn Disk,
    path: &Path,
    redo: &Redo<'_>,
) -> Result<CopyEnd, FolderError> {
    let damaged = |error: &dyn std::fmt::Display| damaged_copy(path, error);
    let mut reader = open_copy(disk, path)?;
    while let Some(frame) = reader.next_frame().map_err(|error| damaged(&error))? {
        let done = match frame {
            Frame::Rows(rows) => redo.rows(&rows),
            Frame::Block(head, payload) => redo.block(&head, &payload),
            Frame::End(end) => return Ok(end),
        };
        done.map_err(|error| damaged(&error))?;
    }
    Err(damaged(&"it has no end"))
}

/// A copy, to be read from its beginning.
pub(super) fn open_copy(
    disk: &dyn Disk,
    path: &Path,
) -> Result<CopyReader<impl Read + use<>>, FolderError> {
    let file = disk.open(path).map_err(|error| FolderError::Io {
        action: "open",
        path: path.to_owned(),
        error,
    })?;
    let file = BufReader::with_capacity(READ_BYTES, FileReader { file, offset: 0 });
    CopyReader::new(file).map_err(|error: CopyError| damaged_copy(path, &error))
}

pub(super) fn damaged_copy(path: &Path, error: &dyn std::fmt::Display) -> FolderError {
    let is_base = path.extension().is_some_and(|it| it == "base");
    let path = path.display();
    FolderError::Damaged(match is_base {
        true => format!(
            "{path}: {error}; put the file back as it was, or restore a backup into an empty folder with `luge-server restore`"
        ),
        false => format!("{path} is no whole backup: {error}; take another one"),
    })
}

/// Reads a file from its beginning on.
struct FileReader {
    file: Arc<dyn DiskFile>,
    offset: u64,
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}
