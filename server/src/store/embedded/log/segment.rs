//! Segments: the files of the log, and what stands at their heads.

use std::io;
use std::path::{Path, PathBuf};

use super::super::disk::{Disk, read_full_at};
use super::super::fields::Fields;
use super::LogError;
use crate::store::{Millis, Sequence};

/// How long a segment's header is.
pub const SEGMENT_HEADER_BYTES: usize = 72;

const MAGIC: [u8; 8] = *b"luge-log";

/// The version of what lies in a segment.
const FORMAT: u32 = 1;

/// What stands at the head of a segment. All but the first two are those of its first block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) store_id: [u8; 16],
    pub(super) number: u64,
    /// The sequence of the last commit before this segment.
    pub(super) previous: Sequence,
    pub(super) synced: Sequence,
    pub(super) stamp_ms: Millis,
    pub(super) lease_ms: Millis,
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderFault {
    /// They are not whole, or another segment's.
    Broken(&'static str),
    /// They are whole, and a newer release's.
    Newer(u32),
}

/// A segment as it lies in the folder.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) length: u64,
    pub(super) header: Result<SegmentHeader, &'static str>,
}

impl SegmentHeader {
    pub(super) fn encode(&self, buffer: &mut Vec<u8>) {
        let mut content = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        content.extend_from_slice(&self.store_id);
        content.extend_from_slice(&self.number.to_le_bytes());
        content.extend_from_slice(&self.previous.to_le_bytes());
        content.extend_from_slice(&self.synced.to_le_bytes());
        content.extend_from_slice(&self.stamp_ms.to_le_bytes());
        content.extend_from_slice(&self.lease_ms.to_le_bytes());
        buffer.extend_from_slice(&MAGIC);
        buffer.extend_from_slice(&FORMAT.to_le_bytes());
        buffer.extend_from_slice(&checksum(FORMAT, &content).to_le_bytes());
        buffer.extend_from_slice(&content);
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, HeaderFault> {
        let whole = bytes.get(..SEGMENT_HEADER_BYTES);
        let mut fields = Fields::new(whole.ok_or(HeaderFault::Broken("the header is cut off"))?);
        Self::decode_fields(&mut fields).unwrap_or(Err(HeaderFault::Broken(
            "the header's checksum does not fit its content",
        )))
    }

    /// `None` where the bytes are not a whole header of any format.
    fn decode_fields(fields: &mut Fields<'_>) -> Option<Result<Self, HeaderFault>> {
        if fields.array()? != MAGIC {
            return Some(Err(HeaderFault::Broken("no header begins here")));
        }
        let format = fields.u32()?;
        if fields.u32()? != checksum(format, fields.rest()) {
            return None;
        }
        if format != FORMAT {
            return Some(Err(HeaderFault::Newer(format)));
        }
        Some(Ok(Self {
            store_id: fields.array()?,
            number: fields.u64()?,
            previous: fields.u64()?,
            synced: fields.u64()?,
            stamp_ms: fields.u64()?,
            lease_ms: fields.u64()?,
        }))
    }
}

/// The checksum stays where it is, and over the same number of bytes, in all formats: so a header of a
/// newer one can be told from a broken one.
fn checksum(format: u32, content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&format.to_le_bytes());
    hasher.update(content);
    hasher.finalize()
}

impl Segment {
    /// All segments in the folder, in order.
    ///
    /// # Errors
    /// One is another store's or a newer release's, or the disk failed.
    pub(super) fn list(
        disk: &dyn Disk,
        folder: &Path,
        store_id: &[u8; 16],
    ) -> Result<Vec<Self>, LogError> {
        let names = match disk.list(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            names => names.map_err(LogError::io("list", folder))?,
        };
        let numbers = names.iter().filter_map(|name| number_of(name));
        numbers
            .map(|number| Self::open(disk, folder, store_id, number))
            .collect()
    }

    /// One segment.
    ///
    /// # Errors
    /// As for [`Self::list`].
    pub(super) fn open(
        disk: &dyn Disk,
        folder: &Path,
        store_id: &[u8; 16],
        number: u64,
    ) -> Result<Self, LogError> {
        let path = path_of(folder, number);
        let read = || {
            let file = disk.open(&path)?;
            let mut bytes = [0; SEGMENT_HEADER_BYTES];
            let filled = read_full_at(&*file, &mut bytes, 0)?;
            Ok((file.length()?, filled, bytes))
        };
        let (length, filled, bytes) = read().map_err(LogError::io("read", &path))?;
        let header = match SegmentHeader::decode(bytes.get(..filled).unwrap_or(&bytes)) {
            Ok(header) if header.store_id != *store_id => return Err(LogError::Foreign(path)),
            Ok(header) if header.number != number => Err("the header is another segment's"),
            Ok(header) => Ok(header),
            Err(HeaderFault::Broken(why)) => Err(why),
            Err(HeaderFault::Newer(found)) => {
                return Err(LogError::Newer {
                    file: path,
                    found,
                    known: FORMAT,
                });
            }
        };
        Ok(Self {
            number,
            path,
            length,
            header,
        })
    }

    /// The whole segment's bytes.
    pub(super) fn read(&self, disk: &dyn Disk) -> Result<Vec<u8>, LogError> {
        let read = || {
            let file = disk.open(&self.path)?;
            let length = usize::try_from(self.length).map_err(io::Error::other)?;
            let mut bytes = vec![0; length];
            let filled = read_full_at(&*file, &mut bytes, 0)?;
            bytes.truncate(filled);
            Ok(bytes)
        };
        read().map_err(LogError::io("read", &self.path))
    }
}

/// Where the segment of this number lies.
pub(super) fn path_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:016}.log"))
}

fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    let is_ours = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_ours.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back_and_any_flipped_bit_is_seen() {
        let header = SegmentHeader {
            store_id: [9; 16],
            number: 3,
            previous: 5,
            synced: 4,
            stamp_ms: 6,
            lease_ms: 7,
        };
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        assert_eq!(bytes.len(), SEGMENT_HEADER_BYTES);
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let read = SegmentHeader::decode(&flipped);
            assert!(matches!(read, Err(HeaderFault::Broken(_))), "{bit}");
        }
    }

    #[test]
    fn only_our_names_are_segments() {
        assert_eq!(number_of("0000000000000042.log"), Some(42));
        for name in ["42.log", "0000000000000042.log.new", "+000000000000042.log"] {
            assert_eq!(number_of(name), None, "{name}");
        }
    }
}
