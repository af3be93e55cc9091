//! Writing the log: appending, going over to the next segment, syncing, and removing old segments.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::disk::{Disk, DiskFile, read_full_at};
use super::block::{BLOCK_HEAD_BYTES, Place, encode_block};
use super::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, path_of};
use super::{BlockHead, LogEnd, SegmentEnd};
use crate::store::{Millis, Sequence};

/// Room for writes that come by the thousand, and little enough to read at a restart.
const SEGMENT_BYTES: u64 = 32 << 20;

/// The first segment of a run is smaller, since the start waits until it is filled with zeros and on the disk: 16 MiB take ten
/// times as long as everything else about the log.
const FIRST_SEGMENT_BYTES: u64 = 1 << 20;

/// The buffer that blocks are put together in does not stay larger than this.
const BUFFER_BYTES: usize = 1 << 20;

/// How a log is written.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The store that it belongs to.
    pub store_id: [u8; 16],
    /// How large segments are; a block that is larger gets one of its own size.
    pub segment_bytes: u64,
}

/// What the caller knows of a block; the log adds the rest of [`BlockHead`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// The last sequence of the block; [`LogWriter::last`] in a mark.
    pub last: Sequence,
    /// How many commits the payload holds; 0 for a mark.
    pub count: u32,
    /// The newest stamp of all commits so far.
    pub stamp_ms: Millis,
    /// The time up to which stamps may have been given out.
    pub lease_ms: Millis,
    /// Whether the store closes in order with this mark.
    pub is_clean: bool,
}

/// The log's end, open for more. After a write or a sync that failed it refuses everything: what is
/// on the disk can't be told any more, and only a restart finds out.
pub struct LogWriter {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    options: LogOptions,
    /// Oldest first. The last one takes the next block if there is room.
    segments: VecDeque<Segment>,
    spare: Option<Spare>,
    first: Sequence,
    last: Sequence,
    synced: Sequence,
    next_number: u64,
    /// Blocks are put together here.
    buffer: Vec<u8>,
    has_failed: bool,
}

struct Segment {
    number: u64,
    previous: Sequence,
    last: Sequence,
    length: u64,
    /// How far its blocks reach.
    written: u64,
    /// How far they are durable.
    synced: u64,
    /// Open for as long as something is not synced or more can be written.
    file: Option<Arc<dyn DiskFile>>,
}

/// The next segment, of zeros, with its name and its space durable.
struct Spare {
    number: u64,
    length: u64,
    file: Arc<dyn DiskFile>,
}

/// A sync that can be carried out without holding the writer, and is then to be handed back with
/// [`LogWriter::finish_sync`].
pub struct SyncTask {
    /// Segments by number, how far they were written, and the files.
    files: Vec<(u64, u64, Arc<dyn DiskFile>)>,
    last: Sequence,
}

/// A spare that is to be made, which takes its time and needs no writer, and is then to be handed back
/// with [`LogWriter::install`].
pub struct SpareTask {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    number: u64,
    length: u64,
}

/// A spare that was made, or not.
pub struct MadeSpare(Result<Spare, SpareError>);

/// Why there is no spare.
struct SpareError {
    error: io::Error,
    /// Whether it was a sync that failed.
    is_fatal: bool,
}

impl LogOptions {
    /// Segments of the usual size.
    #[must_use]
    pub fn new(store_id: [u8; 16]) -> Self {
        Self {
            store_id,
            segment_bytes: SEGMENT_BYTES,
        }
    }
}

impl SyncTask {
    /// The sequence that is durable once this is done.
    #[must_use]
    pub fn last(&self) -> Sequence {
        self.last
    }

    /// Syncs the files.
    ///
    /// # Errors
    /// The disk failed.
    pub fn run(&self) -> io::Result<()> {
        self.files.iter().try_for_each(|(_, _, file)| file.sync())
    }
}

impl LogWriter {
    /// Opens the log behind the end that a scan found: removes the leftovers, cuts off what is torn,
    /// makes everything that is kept durable, and reserves a fresh segment. Nothing is appended to the
    /// old ones.
    ///
    /// # Errors
    /// The disk failed.
    pub fn open(
        disk: Arc<dyn Disk>,
        folder: PathBuf,
        options: LogOptions,
        end: &LogEnd,
    ) -> io::Result<Self> {
        disk.create_folder(&folder)?;
        if let Some(parent) = folder.parent() {
            disk.sync_folder(parent)?;
        }
        for number in &end.leftovers {
            remove(&*disk, &folder, *number)?;
        }
        disk.sync_folder(&folder)?;
        for (at, segment) in end.segments.iter().enumerate() {
            let is_last = at + 1 == end.segments.len();
            let path = path_of(&folder, segment.number);
            if segment.last > end.synced {
                rewrite(&*disk, &path, segment.bytes)?;
            }
            if is_last {
                cut(&*disk, &path, segment.bytes)?;
            }
        }
        let newest = end.segments.last().map(|segment| segment.number + 1);
        let mut writer = Self {
            disk,
            folder,
            options,
            segments: end.segments.iter().map(Segment::kept).collect(),
            spare: None,
            first: end.first,
            last: end.last,
            synced: end.last,
            next_number: newest.or(end.leftovers.first().copied()).unwrap_or(1),
            buffer: Vec::new(),
            has_failed: false,
        };
        let first = writer.options.segment_bytes.min(FIRST_SEGMENT_BYTES);
        writer.install(writer.task(first).run())?;
        Ok(writer)
    }

    /// Appends a block, in a fresh segment if it does not fit into the current one, and returns its
    /// head. It is durable after a sync.
    ///
    /// # Errors
    /// `InvalidInput` where the numbers do not continue the log, and the disk's error where a fresh
    /// segment can't be had: nothing was changed. Otherwise the write failed, and so has the log.
    pub fn append(&mut self, group: &Group, payload: &[u8]) -> io::Result<BlockHead> {
        self.check()?;
        let head = self.head(group)?;
        let bytes = (BLOCK_HEAD_BYTES + payload.len()) as u64;
        if self.rest() < bytes {
            self.roll(&head, bytes)?;
        }
        let written = self.write(&head, payload);
        self.has_failed |= written.is_err();
        written.map(|()| head)
    }

    /// Makes a spare segment if there is none, so that going over to it costs nothing.
    ///
    /// # Errors
    /// The disk failed or is full. The log can go on unless it was a sync that failed.
    pub fn prepare(&mut self) -> io::Result<()> {
        match self.spare_task() {
            Some(task) => self.install(task.run()),
            None => self.check(),
        }
    }

    /// The spare that is missing, if one is. Until it is handed back, nothing may be appended that does
    /// not fit.
    #[must_use]
    pub fn spare_task(&self) -> Option<SpareTask> {
        let is_wanted = self.spare.is_none() && !self.has_failed;
        is_wanted.then(|| self.task(self.options.segment_bytes))
    }

    /// Takes a spare.
    ///
    /// # Errors
    /// The one that it met. The log can go on unless it was a sync that failed.
    pub fn install(&mut self, made: MadeSpare) -> io::Result<()> {
        self.check()?;
        match made.0 {
            // Another has its number by now, and its name in the folder.
            Ok(spare) if spare.number != self.next_number => Ok(()),
            Ok(spare) => {
                self.spare = Some(spare);
                Ok(())
            }
            Err(SpareError { error, is_fatal }) => {
                self.has_failed |= is_fatal;
                Err(error)
            }
        }
    }

    fn task(&self, length: u64) -> SpareTask {
        SpareTask {
            disk: Arc::clone(&self.disk),
            folder: self.folder.clone(),
            number: self.next_number,
            length,
        }
    }

    /// Bytes that can be appended without asking the disk for space: the rest of the current segment,
    /// and the spare. Blocks are not split between the two; see [`Self::fits`].
    #[must_use]
    pub fn room(&self) -> u64 {
        self.rest() + self.spare_room()
    }

    /// Whether one block with a payload of this size can be appended to the current segment.
    #[must_use]
    pub fn fits_here(&self, payload_bytes: usize) -> bool {
        (BLOCK_HEAD_BYTES + payload_bytes) as u64 <= self.rest()
    }

    /// Whether one block with a payload of this size can be appended without asking the disk for
    /// space.
    #[must_use]
    pub fn fits(&self, payload_bytes: usize) -> bool {
        let bytes = (BLOCK_HEAD_BYTES + payload_bytes) as u64;
        bytes <= self.rest() || bytes <= self.spare_room()
    }

    /// The sync that makes everything durable that has been appended so far.
    #[must_use]
    pub fn unsynced(&self) -> SyncTask {
        let dirty = self.segments.iter().filter(|it| it.written > it.synced);
        let file = |it: &Segment| Some((it.number, it.written, Arc::clone(it.file.as_ref()?)));
        SyncTask {
            files: dirty.filter_map(file).collect(),
            last: self.last,
        }
    }

    /// Takes note of a sync that was carried out. Syncs may be handed back in any order.
    ///
    /// # Errors
    /// The sync's own, and the log has failed with it.
    pub fn finish_sync(&mut self, task: &SyncTask, outcome: io::Result<()>) -> io::Result<()> {
        self.has_failed |= outcome.is_err();
        outcome?;
        self.check()?;
        for (number, written, _) in &task.files {
            if let Some(segment) = self.segments.iter_mut().find(|it| it.number == *number) {
                segment.synced = segment.synced.max(*written);
            }
        }
        self.synced = self.synced.max(task.last);
        let old = self.segments.len().saturating_sub(1);
        for segment in self.segments.iter_mut().take(old) {
            if segment.synced == segment.written {
                segment.file = None;
            }
        }
        Ok(())
    }

    /// Makes everything durable that has been appended so far.
    ///
    /// # Errors
    /// The disk failed, and the log has failed with it.
    pub fn sync(&mut self) -> io::Result<()> {
        self.check()?;
        let task = self.unsynced();
        let outcome = task.run();
        self.finish_sync(&task, outcome)
    }

    /// Removes the oldest segments as long as all their commits are at or below `sequence`. The newest
    /// one stays, and so does what comes before a segment that has never been synced: the log's end
    /// must always be on the disk.
    ///
    /// # Errors
    /// The disk failed. The log can go on unless it was a sync that failed.
    pub fn remove_through(&mut self, sequence: Sequence) -> io::Result<()> {
        self.check()?;
        while let (Some(oldest), Some(next)) = (self.segments.front(), self.segments.get(1)) {
            if oldest.last > sequence || next.synced == 0 {
                break;
            }
            remove(&*self.disk, &self.folder, oldest.number)?;
            self.first = next.previous;
            self.segments.pop_front();
            // One after the other, so that no power cut leaves a gap in the row.
            self.sync_folder()?;
        }
        Ok(())
    }

    /// Gives back what is reserved behind the log's end, which the next start would have to read. What of this a power cut
    /// undoes, that start finds, and gives back itself.
    ///
    /// # Errors
    /// The disk failed. The log can go on.
    pub fn give_back(&mut self) -> io::Result<()> {
        self.check()?;
        if let Some(spare) = self.spare.take() {
            remove(&*self.disk, &self.folder, spare.number)?;
        }
        if let Some(segment) = self.segments.back_mut()
            && let Some(file) = &segment.file
        {
            // From here on nothing fits behind it, whatever the disk says.
            segment.length = segment.written;
            file.set_length(segment.written)?;
        }
        Ok(())
    }

    /// The log holds every commit after this one.
    #[must_use]
    pub fn first(&self) -> Sequence {
        self.first
    }

    /// The last commit that was appended.
    #[must_use]
    pub fn last(&self) -> Sequence {
        self.last
    }

    /// The last commit that is durable.
    #[must_use]
    pub fn synced(&self) -> Sequence {
        self.synced
    }

    /// Whether a write or a sync has failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// The segments that hold blocks, oldest first.
    pub fn segments(&self) -> impl ExactSizeIterator<Item = SegmentEnd> + DoubleEndedIterator {
        self.segments.iter().map(|segment| SegmentEnd {
            number: segment.number,
            previous: segment.previous,
            last: segment.last,
            bytes: segment.written,
        })
    }

    /// Bytes of all segments, without what is only reserved.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.written).sum()
    }

    /// Where the newest segment ends; `None` in a log without blocks.
    #[must_use]
    pub fn position(&self) -> Option<SegmentEnd> {
        self.segments().next_back()
    }

    fn check(&self) -> io::Result<()> {
        if self.has_failed {
            return Err(io::Error::other(
                "a write or a sync of the log failed earlier, and only a restart can tell what is on the disk",
            ));
        }
        Ok(())
    }

    fn head(&self, group: &Group) -> io::Result<BlockHead> {
        let head = BlockHead {
            previous: self.last,
            last: group.last,
            count: group.count,
            synced: self.synced,
            stamp_ms: group.stamp_ms,
            lease_ms: group.lease_ms,
            is_clean: group.is_clean,
        };
        if head.is_sound() {
            Ok(head)
        } else {
            let why = format!(
                "{group:?} does not continue a log that ends at {}",
                self.last
            );
            Err(io::Error::new(io::ErrorKind::InvalidInput, why))
        }
    }

    fn rest(&self) -> u64 {
        let current = self.segments.back();
        current.map_or(0, |segment| segment.length - segment.written)
    }

    fn spare_room(&self) -> u64 {
        let spare = self.spare.as_ref();
        spare.map_or(0, |it| {
            it.length.saturating_sub(SEGMENT_HEADER_BYTES as u64)
        })
    }

    /// Goes over to a segment that has room for a block of so many bytes.
    fn roll(&mut self, head: &BlockHead, bytes: u64) -> io::Result<()> {
        if self.spare_room() < bytes {
            if let Some(small) = self.spare.take() {
                remove(&*self.disk, &self.folder, small.number)?;
            }
            let needed = bytes + SEGMENT_HEADER_BYTES as u64;
            let made = self.task(needed.max(self.options.segment_bytes)).run();
            self.install(made)?;
        }
        if let Some(spare) = self.spare.take() {
            self.next_number = spare.number + 1;
            self.segments.push_back(Segment {
                number: spare.number,
                previous: head.previous,
                last: head.previous,
                length: spare.length,
                written: 0,
                synced: 0,
                file: Some(spare.file),
            });
        }
        Ok(())
    }

    /// One write: the block, and before the first one the segment's header.
    fn write(&mut self, head: &BlockHead, payload: &[u8]) -> io::Result<()> {
        let lost = || io::Error::other("the log has no open segment");
        let segment = self.segments.back_mut().ok_or_else(lost)?;
        self.buffer.clear();
        if segment.written == 0 {
            header(&self.options, segment, head).encode(&mut self.buffer);
        }
        let place = Place::start(&self.options.store_id, segment.number);
        let offset = segment.written + self.buffer.len() as u64;
        encode_block(&mut self.buffer, place.at(offset), head, payload)
            .ok_or_else(|| io::Error::other("a block of the log must be smaller than 4 GiB"))?;
        let file = segment.file.as_ref().ok_or_else(lost)?;
        file.write_all_at(&self.buffer, segment.written)?;
        segment.written += self.buffer.len() as u64;
        segment.last = head.last;
        self.last = head.last;
        self.buffer.shrink_to(BUFFER_BYTES);
        Ok(())
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        let synced = self.disk.sync_folder(&self.folder);
        self.has_failed |= synced.is_err();
        synced
    }
}

impl SpareTask {
    /// Makes the spare.
    #[must_use]
    pub fn run(self) -> MadeSpare {
        let mut is_fatal = false;
        let made = self.make(&mut is_fatal);
        MadeSpare(made.map_err(|error| SpareError { error, is_fatal }))
    }

    fn make(self, is_fatal: &mut bool) -> io::Result<Spare> {
        let path = path_of(&self.folder, self.number);
        let file = match self.disk.create(&path) {
            // An attempt before this one failed half-way.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.disk.remove(&path)?;
                self.disk.create(&path)?
            }
            file => file?,
        };
        if let Err(error) = file.reserve(self.length) {
            // It may hold the last free bytes of the disk. If it can't be removed, the next attempt
            // does that.
            drop(self.disk.remove(&path));
            return Err(error);
        }
        *is_fatal = true;
        file.sync()?;
        self.disk.sync_folder(&self.folder)?;
        Ok(Spare {
            number: self.number,
            length: self.length,
            file,
        })
    }
}

impl Segment {
    fn kept(end: &SegmentEnd) -> Self {
        Self {
            number: end.number,
            previous: end.previous,
            last: end.last,
            length: end.bytes,
            written: end.bytes,
            synced: end.bytes,
            file: None,
        }
    }
}

fn header(options: &LogOptions, segment: &Segment, head: &BlockHead) -> SegmentHeader {
    SegmentHeader {
        store_id: options.store_id,
        number: segment.number,
        previous: head.previous,
        synced: head.synced,
        stamp_ms: head.stamp_ms,
        lease_ms: head.lease_ms,
    }
}

/// Makes an old segment durable as it was read. A sync alone would not do: if one had failed before
/// the restart, the operating system may take what it has in memory for written. So the bytes are
/// written once more.
fn rewrite(disk: &dyn Disk, path: &Path, bytes: u64) -> io::Result<()> {
    let file = disk.open(path)?;
    let mut piece = vec![0; BUFFER_BYTES];
    let mut at = 0;
    while at < bytes {
        let wanted = usize::try_from(bytes - at).unwrap_or(usize::MAX);
        let length = wanted.min(piece.len());
        let read = read_full_at(&*file, piece.get_mut(..length).unwrap_or_default(), at)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.write_all_at(piece.get(..read).unwrap_or_default(), at)?;
        at += read as u64;
    }
    file.sync()
}

/// Gives back what the segment does not use, and with it whatever is torn there.
fn cut(disk: &dyn Disk, path: &Path, bytes: u64) -> io::Result<()> {
    let file = disk.open(path)?;
    file.set_length(bytes)?;
    file.sync()
}

fn remove(disk: &dyn Disk, folder: &Path, number: u64) -> io::Result<()> {
    match disk.remove(&path_of(folder, number)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
