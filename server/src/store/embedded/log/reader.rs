//! Reading the log while it is being written: for feeds of changes, and for backups.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::disk::{Disk, DiskFile, read_full_at};
use super::block::{BLOCK_HEAD_BYTES, Place, block_bytes, decode_block};
use super::segment::{SEGMENT_HEADER_BYTES, Segment, path_of};
use super::{BlockHead, LogError};
use crate::store::Sequence;

/// Why a reader can't go on.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The next commits have been removed.
    #[error("the log begins after commit {first}, and the commits before that have been removed")]
    TooOld {
        /// The log holds every commit after this one.
        first: Sequence,
    },
    /// The log can't be read.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// A place in the log that moves forwards. It holds the segment that it reads open, so that one may be
/// removed behind it; the segments after that must still be there when it comes to them.
pub struct LogReader {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    store_id: [u8; 16],
    /// What the caller has.
    from: Sequence,
    /// `None` while the log has no segment.
    place: Option<OpenSegment>,
}

struct OpenSegment {
    number: u64,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    offset: u64,
    /// The last commit before `offset`.
    last: Sequence,
}

/// What lies at the reader's place.
enum Next {
    Block(BlockHead, Vec<u8>),
    /// Zeros or the file's end.
    Nothing,
}

impl LogReader {
    /// A reader of all commits after `from`.
    ///
    /// # Errors
    /// Commits after `from` have been removed, or the log can't be read.
    pub fn new(
        disk: Arc<dyn Disk>,
        folder: PathBuf,
        store_id: [u8; 16],
        from: Sequence,
    ) -> Result<Self, ReadError> {
        let mut reader = Self {
            disk,
            folder,
            store_id,
            from,
            place: None,
        };
        reader.place = reader.locate()?;
        Ok(reader)
    }

    /// The next block with commits after `from`, marks left out; the first one may have commits at and
    /// below `from` as well. `None` once everything through `upto` has been returned.
    ///
    /// The caller sees to it that everything through `upto` has been appended: what is not whole there
    /// is damage, and not a block that is just being written.
    ///
    /// # Errors
    /// Commits have been removed before they were read, or the log can't be read. The reader stays
    /// where it is.
    pub fn next_block(
        &mut self,
        upto: Sequence,
    ) -> Result<Option<(BlockHead, Vec<u8>)>, ReadError> {
        while self.from < upto {
            if self.place.is_none() {
                self.place = self.locate()?;
            }
            let Some(place) = &mut self.place else {
                return Ok(None);
            };
            if place.last >= upto {
                return Ok(None);
            }
            match place.read(&self.store_id)? {
                Next::Nothing => self.roll()?,
                Next::Block(head, _) if head.count > 0 && head.last > upto => return Ok(None),
                Next::Block(head, payload) => {
                    place.offset += (BLOCK_HEAD_BYTES + payload.len()) as u64;
                    place.last = head.last;
                    if head.count > 0 && head.last > self.from {
                        self.from = head.last;
                        return Ok(Some((head, payload)));
                    }
                }
            }
        }
        Ok(None)
    }

    /// The segment that holds the commit after `from`: the newest that begins at or before it.
    fn locate(&self) -> Result<Option<OpenSegment>, ReadError> {
        let segments = self.list()?;
        let begun: Vec<_> = segments
            .iter()
            .filter_map(|segment| Some((segment, segment.header.as_ref().ok()?.previous)))
            .collect();
        let holds = |(_, previous): &&(&Segment, Sequence)| *previous <= self.from;
        match (begun.iter().rev().find(holds), begun.first()) {
            (Some((segment, previous)), _) => self.enter(segment.number, *previous).map(Some),
            (None, Some((_, first))) => Err(ReadError::TooOld { first: *first }),
            (None, None) => Ok(None),
        }
    }

    fn list(&self) -> Result<Vec<Segment>, LogError> {
        loop {
            match Segment::list(&*self.disk, &self.folder, &self.store_id) {
                // Removed after it was listed. There are ever fewer of those.
                Err(LogError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {}
                segments => return segments,
            }
        }
    }

    fn enter(&self, number: u64, previous: Sequence) -> Result<OpenSegment, ReadError> {
        let path = path_of(&self.folder, number);
        match self.disk.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.too_old()?),
            Err(error) => Err(LogError::io("open", &path)(error).into()),
            Ok(file) => Ok(OpenSegment {
                number,
                path,
                file,
                offset: SEGMENT_HEADER_BYTES as u64,
                last: previous,
            }),
        }
    }

    /// Goes over to the next segment.
    fn roll(&mut self) -> Result<(), ReadError> {
        let Some(place) = &self.place else {
            return Ok(());
        };
        let number = place.number + 1;
        let next = match Segment::open(&*self.disk, &self.folder, &self.store_id, number) {
            Err(LogError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                return Err(self.too_old()?);
            }
            next => next?,
        };
        let path = next.path;
        match next.header {
            Ok(header) if header.previous == place.last => {
                self.place = Some(self.enter(number, header.previous)?);
                Ok(())
            }
            Ok(_) => Err(damaged(
                &path,
                0,
                "the segment does not follow the one before it",
            )),
            Err(why) => Err(damaged(&path, 0, why)),
        }
    }

    /// What it means that the next segment is not there.
    fn too_old(&self) -> Result<ReadError, ReadError> {
        let segments = self.list()?;
        let mut headers = segments.iter().filter_map(|it| it.header.as_ref().ok());
        let read = self.place.as_ref().map_or(self.from, |place| place.last);
        Ok(match headers.next() {
            Some(header) if header.previous > read => ReadError::TooOld {
                first: header.previous,
            },
            _ => damaged(&self.folder, 0, "a segment is missing"),
        })
    }
}

impl OpenSegment {
    fn read(&self, store_id: &[u8; 16]) -> Result<Next, ReadError> {
        let mut bytes = vec![0; BLOCK_HEAD_BYTES];
        let filled = self.fill(&mut bytes, self.offset)?;
        if bytes.iter().take(filled).all(|byte| *byte == 0) {
            return Ok(Next::Nothing);
        }
        let length = block_bytes(&bytes).unwrap_or_default();
        let left = self.length()?.saturating_sub(self.offset);
        // A length that the file does not have is damage, and not a reason to take memory.
        if filled == BLOCK_HEAD_BYTES && length > filled && length as u64 <= left {
            bytes.resize(length, 0);
            let rest = bytes.get_mut(filled..).unwrap_or_default();
            self.fill(rest, self.offset + filled as u64)?;
        }
        let place = Place::start(store_id, self.number).at(self.offset);
        let head = match decode_block(&bytes, place) {
            Ok((head, _)) if head.previous == self.last => head,
            Ok(_) => {
                let why = "the block does not follow the one before it";
                return Err(damaged(&self.path, self.offset, why));
            }
            Err(why) => return Err(damaged(&self.path, self.offset, why)),
        };
        Ok(Next::Block(head, bytes.split_off(BLOCK_HEAD_BYTES)))
    }

    fn fill(&self, buffer: &mut [u8], offset: u64) -> Result<usize, LogError> {
        read_full_at(&*self.file, buffer, offset).map_err(LogError::io("read", &self.path))
    }

    fn length(&self) -> Result<u64, LogError> {
        self.file.length().map_err(LogError::io("read", &self.path))
    }
}

fn damaged(file: &Path, offset: u64, why: &str) -> ReadError {
    ReadError::Log(LogError::Damaged {
        file: file.to_owned(),
        offset,
        why: why.to_owned(),
    })
}
