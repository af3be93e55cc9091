//! Finding the log's end: what a restart reads before it writes.

use std::path::Path;

use super::super::disk::Disk;
use super::block::{BLOCK_HEAD_BYTES, MAGIC, Place, decode_block};
use super::segment::{SEGMENT_HEADER_BYTES, Segment, SegmentHeader, path_of};
use super::{BlockHead, Cut, LogEnd, LogError, SegmentEnd};
use crate::store::Sequence;

/// Reads all segments in order and calls `visit` for each whole block with commits above `from`; the
/// first of them may have commits at and below it as well. Segments that lie wholly at or below
/// `from` are not read beyond their headers.
///
/// Everything through `from` must have been durable, and be in the store otherwise.
///
/// # Errors
/// Durable commits above `from` are missing, a segment is not ours to read, the disk failed, or
/// `visit` did. A torn end is no error; see [`LogEnd::cut`].
pub fn scan<E: From<LogError>>(
    disk: &dyn Disk,
    folder: &Path,
    store_id: &[u8; 16],
    from: Sequence,
    visit: impl FnMut(&BlockHead, &[u8]) -> Result<(), E>,
) -> Result<LogEnd, E> {
    let segments = Segment::list(disk, folder, store_id)?;
    let mut walk = Walk {
        disk,
        folder,
        store_id,
        from,
        segments: &segments,
        end: LogEnd::empty(from),
        visit,
    };
    walk.end.synced = 0;
    let fault = walk.segments()?;
    walk.finish(fault).map_err(E::from)
}

/// The way through the segments, as far as they chain.
struct Walk<'a, V> {
    disk: &'a dyn Disk,
    folder: &'a Path,
    store_id: &'a [u8; 16],
    from: Sequence,
    segments: &'a [Segment],
    /// What has been found so far.
    end: LogEnd,
    visit: V,
}

/// The first thing that is not whole.
struct Fault {
    /// Where, to tell people.
    cut: Cut,
    /// The segment at which the log breaks off, by its place in the row.
    segment: usize,
    /// How much of that segment is part of the log.
    kept: usize,
}

/// What lies behind a fault.
struct Remains {
    /// The newest sequence that a whole block or header there calls durable.
    synced: Sequence,
    /// Whether there is nothing but zeros.
    is_blank: bool,
}

impl<V> Walk<'_, V> {
    fn segments<E: From<LogError>>(&mut self) -> Result<Option<Fault>, E>
    where
        V: FnMut(&BlockHead, &[u8]) -> Result<(), E>,
    {
        for (at, segment) in self.segments.iter().enumerate() {
            if let Err(cut) = self.enter(segment)? {
                return Ok(Some(Fault {
                    cut,
                    segment: at,
                    kept: 0,
                }));
            }
            if let Some(last) = self.next_previous(at).filter(|last| *last <= self.from) {
                self.leave(last, segment.length);
                continue;
            }
            let bytes = segment.read(self.disk)?;
            if let Some((kept, why)) = self.blocks(segment, &bytes)? {
                let cut = Cut {
                    file: segment.path.clone(),
                    offset: kept as u64,
                    why: why.to_owned(),
                };
                return Ok(Some(Fault {
                    cut,
                    segment: at,
                    kept,
                }));
            }
        }
        Ok(None)
    }

    /// Takes a segment into the log if it continues it, else says what is wrong where.
    fn enter(&mut self, segment: &Segment) -> Result<Result<(), Cut>, LogError> {
        let before = self.end.segments.last();
        let expected = before.map_or(segment.number, |before| before.number + 1);
        let broken = |number, offset, why: String| Cut {
            file: path_of(self.folder, number),
            offset,
            why,
        };
        if segment.number != expected {
            let why = "the segment is missing".to_owned();
            return Ok(Err(broken(expected, 0, why)));
        }
        let header = match &segment.header {
            Ok(header) => header,
            Err(why) => return Ok(Err(broken(segment.number, 0, (*why).to_owned()))),
        };
        match before {
            None if header.previous > self.from => {
                return Err(LogError::Gap {
                    folder: self.folder.to_owned(),
                    first: header.previous,
                    from: self.from,
                });
            }
            None => {
                self.end.first = header.previous;
                self.end.last = header.previous;
            }
            Some(before) if header.previous != self.end.last => {
                let why = format!(
                    "the log ends here at commit {}, and the next segment continues commit {}",
                    self.end.last, header.previous
                );
                return Ok(Err(broken(before.number, before.bytes, why)));
            }
            Some(_) => {}
        }
        self.begin(header);
        Ok(Ok(()))
    }

    fn begin(&mut self, header: &SegmentHeader) {
        self.end.segments.push(SegmentEnd {
            number: header.number,
            previous: header.previous,
            last: header.previous,
            bytes: SEGMENT_HEADER_BYTES as u64,
        });
        self.end.stamp_ms = self.end.stamp_ms.max(header.stamp_ms);
        self.end.lease_ms = self.end.lease_ms.max(header.lease_ms);
        self.end.synced = self.end.synced.max(header.synced);
        self.end.is_clean = false;
    }

    /// The last commit of a segment, as the next one's header tells it.
    fn next_previous(&self, at: usize) -> Option<Sequence> {
        let next = self.segments.get(at + 1)?;
        let header = next.header.as_ref().ok()?;
        let current = self.end.segments.last()?;
        let is_next = header.number == current.number + 1 && header.previous >= current.previous;
        is_next.then_some(header.previous)
    }

    fn leave(&mut self, last: Sequence, bytes: u64) {
        self.end.last = last;
        if let Some(segment) = self.end.segments.last_mut() {
            segment.last = last;
            segment.bytes = bytes;
        }
    }

    /// Reads the blocks of a segment, up to zeros that reach to its end or to the first block that is
    /// not whole: then says where that is, and why.
    fn blocks<E: From<LogError>>(
        &mut self,
        segment: &Segment,
        bytes: &[u8],
    ) -> Result<Option<(usize, &'static str)>, E>
    where
        V: FnMut(&BlockHead, &[u8]) -> Result<(), E>,
    {
        let place = Place::start(self.store_id, segment.number);
        let mut offset = SEGMENT_HEADER_BYTES;
        loop {
            let rest = bytes.get(offset..).unwrap_or_default();
            if is_blank(rest) {
                return Ok(None);
            }
            let (head, payload) = match decode_block(rest, place.at(offset as u64)) {
                Ok(block) => block,
                Err(why) => return Ok(Some((offset, why))),
            };
            if head.previous != self.end.last {
                return Ok(Some((
                    offset,
                    "the block does not follow the one before it",
                )));
            }
            if head.last > self.from && head.count > 0 {
                (self.visit)(&head, payload)?;
            }
            offset += BLOCK_HEAD_BYTES + payload.len();
            self.leave(head.last, offset as u64);
            self.end.stamp_ms = self.end.stamp_ms.max(head.stamp_ms);
            self.end.lease_ms = self.end.lease_ms.max(head.lease_ms);
            self.end.synced = self.end.synced.max(head.synced);
            self.end.is_clean = head.is_clean;
        }
    }

    /// Judges what was found: a torn end, or damage.
    fn finish(mut self, fault: Option<Fault>) -> Result<LogEnd, LogError> {
        if let Some(fault) = fault {
            let remains = self.remains(&fault)?;
            if remains.synced > self.end.last {
                return Err(damaged(fault.cut));
            }
            let kept = fault.segment + usize::from(fault.kept > 0);
            let left = self.segments.get(kept..).unwrap_or_default();
            self.end.leftovers = left.iter().map(|segment| segment.number).collect();
            self.end.cut = (!remains.is_blank).then_some(fault.cut);
        }
        if self.end.last < self.from {
            return Err(damaged(self.cut_here(format!(
                "the log ends at commit {}, and should reach commit {} at least",
                self.end.last, self.from
            ))));
        }
        self.drop_empty_segment();
        self.end.is_clean &= self.end.cut.is_none();
        Ok(self.end)
    }

    /// A header without a block is half of a write.
    fn drop_empty_segment(&mut self) {
        let is_empty = |segment: &SegmentEnd| segment.bytes == SEGMENT_HEADER_BYTES as u64;
        if self.end.segments.last().is_some_and(is_empty) {
            let cut = self.cut_here("the segment has no whole block".to_owned());
            self.end.cut.get_or_insert(cut);
            let number = self.end.segments.pop().map(|segment| segment.number);
            self.end.leftovers.splice(..0, number);
        }
    }

    fn cut_here(&self, why: String) -> Cut {
        let last = self.end.segments.last();
        Cut {
            file: last.map_or_else(
                || self.folder.to_owned(),
                |segment| path_of(self.folder, segment.number),
            ),
            offset: last.map_or(0, |segment| segment.bytes),
            why,
        }
    }

    fn remains(&self, fault: &Fault) -> Result<Remains, LogError> {
        let mut remains = Remains {
            synced: 0,
            is_blank: true,
        };
        let mut kept = fault.kept;
        for segment in self.segments.iter().skip(fault.segment) {
            let bytes = segment.read(self.disk)?;
            let rest = bytes.get(kept..).unwrap_or_default();
            // Mostly it is what a segment was reserved with, in which there is nothing to look for.
            let rest = if is_blank(rest) { &[][..] } else { rest };
            remains.is_blank &= rest.is_empty();
            if let (0, Ok(header)) = (kept, &segment.header) {
                remains.synced = remains.synced.max(header.synced);
            }
            let place = Place::start(self.store_id, segment.number);
            for at in magics(rest) {
                let block = rest.get(at..).unwrap_or_default();
                if let Ok((head, _)) = decode_block(block, place.at((kept + at) as u64)) {
                    remains.synced = remains.synced.max(head.synced);
                }
            }
            kept = 0;
        }
        Ok(remains)
    }
}

fn damaged(cut: Cut) -> LogError {
    let Cut { file, offset, why } = cut;
    LogError::Damaged { file, offset, why }
}

fn magics(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let windows = bytes.windows(MAGIC.len()).enumerate();
    windows.filter_map(|(at, window)| (window == MAGIC).then_some(at))
}

fn is_blank(bytes: &[u8]) -> bool {
    static ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|it| ZEROS.starts_with(it))
}
