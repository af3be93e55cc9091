//! What leaves the store as it is committed: feeds of changes, and backups.
//!
//! Both read the log's files behind its writer, and hold up neither it nor who commits. The log that
//! they still need is kept within a bound; who falls behind that is told where to go on.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::base::{CopyHeader, CopyWriter};
use super::log::{BlockHead, Change, Commits, LogReader, ReadError};
use super::rebase::copy_rows;
use super::shared::Shared;
use crate::store::{Backup, CommittedChanges, Feed, Sequence, StoreError, Write};

/// Bytes of log that are read at once for a feed.
const MAX_READ_BYTES: usize = 256 << 10;

/// The pieces in which a backup leaves.
const PIECE_BYTES: usize = 256 << 10;

/// Pieces of a backup that wait for who takes them.
const MAX_WAITING_PIECES: usize = 4;

/// A place in the log behind which it is kept.
struct Pin {
    shared: Arc<Shared>,
    number: u64,
}

/// What was committed, from the log.
pub struct EmbeddedFeed {
    pin: Pin,
    after: Sequence,
    /// Gone while it is read with.
    reader: Option<LogReader>,
}

/// A copy on its way out.
pub struct EmbeddedBackup {
    pieces: mpsc::Receiver<Result<Bytes, StoreError>>,
}

impl Pin {
    fn new(shared: Arc<Shared>, after: Sequence) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        shared.lock_readers().insert(number, after);
        Self { shared, number }
    }

    fn move_to(&self, after: Sequence) {
        self.shared.lock_readers().insert(self.number, after);
    }

    fn reader(&self, after: Sequence) -> Result<LogReader, StoreError> {
        let folder = &self.shared.folder;
        let disk = Arc::clone(folder.disk());
        LogReader::new(disk, folder.log(), self.shared.id, after)
            .map_err(|error| read_error(&error, after))
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.shared.lock_readers().remove(&self.number);
    }
}

impl EmbeddedFeed {
    pub(super) fn new(shared: Arc<Shared>, after: Option<Sequence>) -> Result<Self, StoreError> {
        let after = after.unwrap_or_else(|| shared.snapshots.acked());
        // Before the log is looked at, so that what is found there stays.
        let pin = Pin::new(Arc::clone(&shared), after);
        let (_, first) = shared.journal.extent();
        if after < first {
            return Err(StoreError::Forgotten { after, first });
        }
        let reader = pin.reader(after)?;
        Ok(Self {
            pin,
            after,
            reader: Some(reader),
        })
    }
}

impl Feed for EmbeddedFeed {
    async fn next(&mut self) -> Result<Vec<CommittedChanges>, StoreError> {
        loop {
            let after = self.after;
            let settled = self.pin.shared.acks.reached(after.saturating_add(1)).await;
            let ended = || StoreError::Unavailable("the store is closed".to_owned());
            if settled.acked <= after {
                return Err(settled.failure.map_or_else(ended, StoreError::Unavailable));
            }
            let mut reader = self.reader.take().ok_or_else(ended)?;
            let read = tokio::task::spawn_blocking(move || {
                let blocks = read_blocks(&mut reader, settled.acked);
                (reader, blocks)
            });
            let (reader, blocks) = read.await.map_err(|_| ended())?;
            self.reader = Some(reader);
            let blocks = blocks.map_err(|error| read_error(&error, after))?;
            let mut commits = Vec::new();
            for (head, payload) in blocks {
                decode(&head, Bytes::from(payload), after, &mut commits)?;
                self.after = head.last;
            }
            self.pin.move_to(self.after);
            if !commits.is_empty() {
                return Ok(commits);
            }
        }
    }
}

fn read_blocks(
    reader: &mut LogReader,
    upto: Sequence,
) -> Result<Vec<(BlockHead, Vec<u8>)>, ReadError> {
    let mut blocks = Vec::new();
    let mut bytes = 0;
    while bytes < MAX_READ_BYTES
        && let Some((head, payload)) = reader.next_block(upto)?
    {
        bytes += payload.len();
        blocks.push((head, payload));
    }
    Ok(blocks)
}

fn decode(
    head: &BlockHead,
    payload: Bytes,
    after: Sequence,
    commits: &mut Vec<CommittedChanges>,
) -> Result<(), StoreError> {
    let damaged = |error: super::log::BadPayload| StoreError::Storage(error.to_string());
    // Numbers between the log's end and the first of a run after a kill. Whoever was told of a commit
    // that had one of them was told of what a power cut took, and must begin anew.
    let first = head.last.saturating_sub(u64::from(head.count)) + 1;
    if head.previous < after && after.saturating_add(1) < first {
        return Err(StoreError::Forgotten {
            after,
            first: head.last,
        });
    }
    for commit in Commits::new(head, &payload) {
        let (sequence, writes) = commit.map_err(damaged)?;
        let mut changes = Vec::new();
        for (key, change) in writes {
            let write = match change {
                Change::Put { value, expires_ms } => Write::Put {
                    value: payload.slice_ref(value),
                    expires_ms,
                },
                Change::Delete => Write::Delete,
                Change::Expire => Write::Expire,
            };
            changes.push((payload.slice_ref(key), write));
        }
        // The first block may begin before what is asked for.
        if sequence > after && !changes.is_empty() {
            commits.push(CommittedChanges { sequence, changes });
        }
    }
    Ok(())
}

fn read_error(error: &ReadError, after: Sequence) -> StoreError {
    match error {
        ReadError::TooOld { first } => StoreError::Forgotten {
            after,
            first: *first,
        },
        other => StoreError::Storage(other.to_string()),
    }
}

impl EmbeddedBackup {
    pub(super) fn start(shared: Arc<Shared>) -> Result<Self, StoreError> {
        let (send, pieces) = mpsc::channel(MAX_WAITING_PIECES);
        // All of the log stays until the copy's beginning is known.
        let pin = Pin::new(Arc::clone(&shared), 0);
        pin.move_to(shared.applied());
        let work = move || {
            if let Err(error) = copy(&pin, &send) {
                // Who does not take pieces any more does not want to know either.
                let _ = send.blocking_send(Err(error));
            }
        };
        std::thread::Builder::new()
            .name("luge-backup".to_owned())
            .spawn(work)
            .map_err(|error| StoreError::Storage(error.to_string()))?;
        Ok(Self { pieces })
    }
}

impl Backup for EmbeddedBackup {
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        self.pieces.recv().await.transpose()
    }
}

/// Sends bytes in pieces.
struct Pieces<'a> {
    send: &'a mpsc::Sender<Result<Bytes, StoreError>>,
    piece: Vec<u8>,
}

impl io::Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        for piece in self.piece.chunks(PIECE_BYTES * 2) {
            let piece = Bytes::copy_from_slice(piece);
            self.send
                .blocking_send(Ok(piece))
                .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        }
        self.piece.clear();
        Ok(())
    }
}

/// Copies the index while it changes, and then the log from the copy's beginning to its end: together
/// they are the store as it is at the end.
fn copy(pin: &Pin, send: &mpsc::Sender<Result<Bytes, StoreError>>) -> Result<(), StoreError> {
    let shared = &pin.shared;
    let storage = |error: io::Error| StoreError::Storage(error.to_string());
    // The pin's place, which is what keeps the log.
    let start = shared.lock_readers().get(&pin.number).copied();
    let start = start.unwrap_or_else(|| shared.applied());
    let (stamp_ms, _) = shared.snapshots.times();
    let header = CopyHeader {
        store_id: shared.id,
        start,
        stamp_ms,
    };
    let pieces = Pieces {
        send,
        piece: Vec::with_capacity(PIECE_BYTES),
    };
    let mut writer = CopyWriter::new(pieces, &header).map_err(storage)?;
    copy_rows(&shared.index, |row| writer.row(row).map(|()| true)).map_err(storage)?;
    // No row is newer than what is acked.
    let end = shared.snapshots.acked();
    let mut reader = pin.reader(start)?;
    let mut last = start;
    while last < end {
        let block = reader.next_block(end);
        let Some((head, payload)) = block.map_err(|error| outrun(&error, start))? else {
            return Err(StoreError::Storage(format!(
                "the log ends at commit {last}, and {end} is acked"
            )));
        };
        writer.block(&head, &payload).map_err(storage)?;
        last = head.last;
        pin.move_to(last);
    }
    let (mut pieces, _) = writer.finish(end).map_err(storage)?;
    pieces.flush().map_err(storage)
}

fn outrun(error: &ReadError, start: Sequence) -> StoreError {
    match read_error(error, start) {
        StoreError::Forgotten { .. } => StoreError::Overloaded(
            "more was written during the backup than the log keeps for it; take it faster, or raise max_kept_log_bytes".to_owned(),
        ),
        other => other,
    }
}
