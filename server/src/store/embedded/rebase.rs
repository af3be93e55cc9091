//! Bases: a full copy of the index from time to time, so that the log before it can go.
//!
//! The copy is made while commits and folds go on, so its rows are of different moments. It names the
//! sequence that it began at and the one that it ended at: with the log between the two done again, it
//! is right.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::base::{CopyHeader, CopyWriter, Row};
use super::disk::{Disk, DiskFile};
use super::folder::Folder;
use super::index::Index;
use super::shared::Shared;
use crate::bugs::{Bug, is_seeded};
use crate::store::{Entry, KeyRange, Millis, PageLimit, Sequence, StoreError, successor};

/// How often the thread looks whether there is something to do.
const TICK: Duration = Duration::from_millis(100);

/// How long the thread waits after a base could not be written.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Rows that are read from the index at once.
const PAGE: PageLimit = PageLimit {
    rows: 1024,
    bytes: 256 << 10,
};

/// How often a row is read again that is being folded at the moment.
const MAX_ROW_TRIES: u32 = 100;

/// Where an unfinished base lies.
const UNFINISHED: &str = "unfinished";

/// The thread that writes bases.
pub(super) fn run(shared: &Shared) {
    while shared.sleep(TICK) {
        let is_asked = shared.wants_base.swap(false, Ordering::AcqRel);
        if is_asked && !fold_first(shared) {
            return;
        }
        if !is_asked && !is_due(shared) {
            continue;
        }
        match write_base(shared) {
            Ok(true) => shared.remove_log(),
            Ok(false) => {}
            // The base before stays, and the log with it; writes go on until the disk is full.
            Err(error) => {
                tracing::warn!(%error, "a base could not be written");
                // It may hold the last free bytes of the disk.
                let unfinished = shared.folder.base().join(UNFINISHED);
                drop(shared.folder.disk().remove(&unfinished));
                shared.failed_bases.fetch_add(1, Ordering::AcqRel);
                if !shared.sleep(PAUSE_AFTER_FAILURE) {
                    return;
                }
            }
        }
    }
}

/// Whether a base would stand for so much log that it is worth its length. What is not folded yet does
/// not count, so that a base follows a fold and does not ask for one more.
fn is_due(shared: &Shared) -> bool {
    let applied = shared.applied_position.load(Ordering::Acquire);
    let based = shared.base_position.load(Ordering::Acquire);
    let least = shared.options.base_log_bytes;
    applied.saturating_sub(based) >= least.max(shared.base_bytes.load(Ordering::Relaxed))
}

/// Writes a base; answers whether it became one.
fn write_base(shared: &Shared) -> io::Result<bool> {
    let folder = shared.folder.base();
    let disk = shared.folder.disk();
    let unfinished = folder.join(UNFINISHED);
    if disk.list(&folder)?.iter().any(|name| name == UNFINISHED) {
        disk.remove(&unfinished)?;
    }
    check_room(shared)?;
    // The commit is loaded behind its place: so it is no older than that.
    let position = shared.applied_position.load(Ordering::Acquire);
    let start = shared.applied();
    let (stamp_ms, _) = shared.snapshots.times();
    let header = CopyHeader {
        store_id: shared.id,
        start,
        stamp_ms,
    };
    let mut copy = CopyWriter::new(Sink::create(&**disk, &unfinished)?, &header)?;
    let is_whole = copy_rows(&shared.index, |row| {
        copy.row(row)?;
        Ok(!shared.is_ending())
    })?;
    if !is_whole {
        return Ok(false);
    }
    // The rows may be as new as that, and a base must not know what the log could lose.
    let end = shared.folded_through.load(Ordering::Acquire).max(start);
    while shared.journal.synced() < end && !is_seeded(Bug::BaseBeforeSync) {
        if shared.is_ending() {
            return Ok(false);
        }
        shared.journal.sync()?;
    }
    let bytes = finish(&**disk, &folder, start, copy, end)?;
    shared.base_bytes.store(bytes, Ordering::Relaxed);
    shared.base_position.store(position, Ordering::Release);
    shared.base_start.store(start, Ordering::Release);
    shared.bases.fetch_add(1, Ordering::AcqRel);
    Ok(true)
}

/// A base must not take the room that the log and the index need; it is about as long as the last one.
fn check_room(shared: &Shared) -> io::Result<()> {
    let free = shared.folder.disk().free_bytes(shared.folder.path())?;
    let needed = shared.options.min_free_bytes + shared.base_bytes.load(Ordering::Relaxed);
    if free < needed {
        return Err(io::Error::other(format!(
            "the disk has {free} bytes left, and a base needs {needed}"
        )));
    }
    Ok(())
}

/// Writes the base of a store that nobody uses; answers how many rows it has.
pub(super) fn write_whole_base(
    folder: &Folder,
    index: &Index,
    last: Sequence,
    stamp_ms: Millis,
) -> io::Result<u64> {
    let (disk, bases) = (&**folder.disk(), folder.base());
    let header = CopyHeader {
        store_id: folder.id(),
        start: last,
        stamp_ms,
    };
    let sink = Sink::create(disk, &bases.join(UNFINISHED))?;
    let mut copy = CopyWriter::new(sink, &header)?;
    let mut rows = 0;
    copy_rows(index, |row| {
        rows += 1;
        copy.row(row)?;
        Ok(true)
    })?;
    finish(disk, &bases, last, copy, last)?;
    Ok(rows)
}

/// Makes a copy that is through the base; answers how long it is.
fn finish(
    disk: &dyn Disk,
    folder: &Path,
    start: Sequence,
    copy: CopyWriter<Sink>,
    end: Sequence,
) -> io::Result<u64> {
    let (sink, bytes) = copy.finish(end)?;
    sink.finish()?;
    disk.rename(&folder.join(UNFINISHED), &folder.join(base_name(start)))?;
    disk.sync_folder(folder)?;
    remove_others(disk, folder, start)?;
    Ok(bytes)
}

/// Has everything folded that there is, so that the base stands for as much of the log as it can.
fn fold_first(shared: &Shared) -> bool {
    let wanted = shared.snapshots.needed();
    while shared.applied() < wanted {
        shared.ask_for_fold();
        if !shared.sleep(TICK / 4) {
            return false;
        }
    }
    true
}

/// Hands every row of the index to `take`, until it has enough.
pub(super) fn copy_rows(
    index: &Index,
    mut take: impl FnMut(&Row<'_>) -> io::Result<bool>,
) -> io::Result<bool> {
    let mut range = KeyRange {
        start: Bytes::new(),
        end: Bytes::from_static(&[u8::MAX]),
    };
    loop {
        let page = index.read_page(&range, PAGE).map_err(io::Error::other)?;
        let Some((last, _)) = page.rows.last() else {
            return Ok(true);
        };
        range.start = successor(last);
        let mut faults = page.faults.into_iter().peekable();
        for (at, (key, entry)) in page.rows.iter().enumerate() {
            let again;
            let entry = match faults.next_if(|(place, _)| *place == at) {
                Some(_) => {
                    again = read_again(index, key).map_err(io::Error::other)?;
                    again.as_ref()
                }
                None => Some(entry),
            };
            let Some(entry) = entry else { continue };
            let row = Row {
                key,
                value: &entry.value,
                version: entry.version,
                expires_ms: entry.expires_ms,
            };
            if !take(&row)? {
                return Ok(false);
            }
        }
        if page.is_exhausted {
            return Ok(true);
        }
    }
}

/// A large value that is being folded is in pieces for a moment.
fn read_again(index: &Index, key: &[u8]) -> Result<Option<Entry>, StoreError> {
    let mut tries = 0;
    loop {
        tries += 1;
        match index.get(key) {
            Err(_) if tries < MAX_ROW_TRIES => std::thread::sleep(Duration::from_millis(1)),
            read => return read,
        }
    }
}

/// A new file that is written from its beginning on.
struct Sink {
    file: Arc<dyn DiskFile>,
    buffer: Vec<u8>,
    written: u64,
}

impl Sink {
    const BUFFER_BYTES: usize = 256 << 10;

    fn create(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: disk.create(path)?,
            buffer: Vec::with_capacity(Self::BUFFER_BYTES),
            written: 0,
        })
    }

    /// Writes and syncs what is left.
    fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.file.sync()
    }
}

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= Self::BUFFER_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

fn base_name(start: Sequence) -> String {
    format!("{start:020}.base")
}

/// The newest base of a folder. One that is not finished has another name.
pub(super) fn newest_base(disk: &dyn Disk, folder: &Path) -> io::Result<Option<PathBuf>> {
    let names = disk.list(folder)?;
    let newest = names.iter().rfind(|name| name.ends_with(".base"));
    Ok(newest.map(|name| folder.join(name)))
}

fn remove_others(disk: &dyn Disk, folder: &Path, start: Sequence) -> io::Result<()> {
    let keep = base_name(start);
    for name in disk.list(folder)? {
        if name != keep {
            disk.remove(&folder.join(name))?;
        }
    }
    Ok(())
}
