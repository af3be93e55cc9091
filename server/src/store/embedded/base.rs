//! Copies of a store, as one stream of bytes: the bases that its log continues, and backups.
//!
//! ```text
//!   copy:    header | frame | frame | ... | end frame
//!
//!   header:  magic "lugecopy" | format u32 | crc u32 | store id [16] | start u64 | stamp_ms u64
//!            crc over the format and everything after the crc
//!   frame:   kind u8 | length u32 | crc u32 | payload
//!            crc over the kind, the length and the payload
//!
//!   rows  1: row ...   each: key length u16 | value length u32 | version u64 | expires_ms u64 |
//!                            key | value
//!   block 2: previous u64 | last u64 | count u32 | synced u64 | stamp_ms u64 | lease_ms u64 |
//!            is clean u8 | commits, as the log has them
//!   end   3: end u64 | rows u64 | blocks u64 | SHA-256 of all bytes before the hash, but for this
//!            frame's kind, length and crc
//! ```
//!
//! Every commit at or below `start` is in the rows; the rows may show later ones as well. The copy is
//! right once all log through `end` is applied: from the blocks in it, or from the log that it
//! belongs to. A copy without its end frame is none.

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

use super::fields::Fields;
use super::log::BlockHead;
use crate::store::{Millis, Sequence};

const MAGIC: [u8; 8] = *b"lugecopy";

/// The version of what lies in a copy.
const FORMAT: u32 = 1;

const HEADER_BYTES: usize = 48;
const FRAME_HEAD_BYTES: usize = 9;
const END_NUMBERS_BYTES: usize = 24;

/// Rows are gathered up to this before they become a frame.
const ROWS_BYTES: usize = 64 * 1024;

/// The largest payload of a frame: more than any group of commits has. Memory for it grows with what
/// arrives.
pub const MAX_FRAME_BYTES: usize = 256 << 20;

const ROWS: u8 = 1;
const BLOCK: u8 = 2;
const END: u8 = 3;

/// What a copy begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyHeader {
    /// The store that was copied.
    pub store_id: [u8; 16],
    /// Every commit at or below this is in the rows.
    pub start: Sequence,
    /// The newest stamp when the copy began.
    pub stamp_ms: Millis,
}

/// What a copy ends with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyEnd {
    /// The copy is right once all log through this is applied.
    pub end: Sequence,
    /// How many rows it has.
    pub rows: u64,
    /// How many blocks it has.
    pub blocks: u64,
}

/// A key and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// The sequence of the commit that wrote it.
    pub version: Sequence,
    /// When it ceases to be; 0 for never.
    pub expires_ms: Millis,
}

/// A part of a copy, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Some rows.
    Rows(Rows),
    /// A block of the log; its payload is what [`Commits`](super::log::Commits) reads.
    Block(BlockHead, Vec<u8>),
    /// The copy is whole, and nothing follows.
    End(CopyEnd),
}

/// Rows that are known to decode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    payload: Vec<u8>,
}

/// Why a copy can't be read.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// It is not what was written.
    #[error("the copy is damaged at byte {offset}: {why}")]
    Damaged {
        /// Where the header or frame that is wrong begins.
        offset: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It was written by a newer release.
    #[error(
        "the copy has format {0}, and this release reads up to {FORMAT}; use the release that wrote it"
    )]
    Newer(u32),
    /// It can't be read to its end.
    #[error("the copy can't be read at byte {offset}: {error}")]
    Io {
        /// Where the header or frame that can't be read begins.
        offset: u64,
        /// What came back.
        error: io::Error,
    },
}

/// Writes a copy. It makes no write smaller than a frame's head, and most are a frame of some 64 KiB.
pub struct CopyWriter<W> {
    output: W,
    hash: Sha256,
    /// Rows that are not written yet.
    rows: Vec<u8>,
    counts: CopyEnd,
    bytes: u64,
}

/// Reads a copy frame by frame, in memory for one frame.
pub struct CopyReader<R> {
    input: R,
    header: CopyHeader,
    hash: Sha256,
    counts: CopyEnd,
    offset: u64,
    is_over: bool,
}

impl<W: Write> CopyWriter<W> {
    /// Begins a copy.
    ///
    /// # Errors
    /// The output's.
    pub fn new(output: W, header: &CopyHeader) -> io::Result<Self> {
        let mut writer = Self {
            output,
            hash: Sha256::new(),
            rows: Vec::new(),
            counts: CopyEnd::default(),
            bytes: 0,
        };
        let mut content = Vec::with_capacity(HEADER_BYTES);
        content.extend_from_slice(&header.store_id);
        content.extend_from_slice(&header.start.to_le_bytes());
        content.extend_from_slice(&header.stamp_ms.to_le_bytes());
        let checksum = checksum(&[&FORMAT.to_le_bytes(), &content]);
        let head = [&MAGIC[..], &FORMAT.to_le_bytes(), &checksum].concat();
        writer.put(&head)?;
        writer.put(&content)?;
        Ok(writer)
    }

    /// Adds a row.
    ///
    /// # Errors
    /// `InvalidInput` where the row is larger than a frame; otherwise the output's.
    pub fn row(&mut self, row: &Row<'_>) -> io::Result<()> {
        let key_length = u16::try_from(row.key.len()).map_err(|_| too_large())?;
        let value_length = u32::try_from(row.value.len()).map_err(|_| too_large())?;
        let bytes = 22 + row.key.len() + row.value.len();
        if bytes > MAX_FRAME_BYTES {
            return Err(too_large());
        }
        if self.rows.len() + bytes > ROWS_BYTES {
            self.flush_rows()?;
        }
        self.rows.extend_from_slice(&key_length.to_le_bytes());
        self.rows.extend_from_slice(&value_length.to_le_bytes());
        self.rows.extend_from_slice(&row.version.to_le_bytes());
        self.rows.extend_from_slice(&row.expires_ms.to_le_bytes());
        self.rows.extend_from_slice(row.key);
        self.rows.extend_from_slice(row.value);
        self.counts.rows += 1;
        Ok(())
    }

    /// Adds a block of the log.
    ///
    /// # Errors
    /// `InvalidInput` where the block is larger than a frame; otherwise the output's.
    pub fn block(&mut self, head: &BlockHead, payload: &[u8]) -> io::Result<()> {
        self.flush_rows()?;
        let mut content = Vec::new();
        head.encode(&mut content);
        content.extend_from_slice(payload);
        self.frame(BLOCK, &content)?;
        self.counts.blocks += 1;
        Ok(())
    }

    /// Ends the copy, and returns the output and how many bytes were written to it.
    ///
    /// # Errors
    /// The output's.
    pub fn finish(mut self, end: Sequence) -> io::Result<(W, u64)> {
        self.flush_rows()?;
        let mut content = Vec::new();
        for number in [end, self.counts.rows, self.counts.blocks] {
            content.extend_from_slice(&number.to_le_bytes());
        }
        let hash = self.hash.clone().chain_update(&content).finalize();
        content.extend_from_slice(&hash);
        self.frame(END, &content)?;
        self.output.flush()?;
        Ok((self.output, self.bytes))
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn flush_rows(&mut self) -> io::Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let mut rows = std::mem::take(&mut self.rows);
        self.frame(ROWS, &rows)?;
        rows.clear();
        rows.shrink_to(ROWS_BYTES);
        self.rows = rows;
        Ok(())
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).map_err(|_| too_large())?;
        if payload.len() > MAX_FRAME_BYTES {
            return Err(too_large());
        }
        let length = length.to_le_bytes();
        let checksum = checksum(&[&[kind], &length, payload]);
        self.put(&[&[kind][..], &length, &checksum].concat())?;
        self.put(payload)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.write_all(bytes)?;
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

impl<R: Read> CopyReader<R> {
    /// Reads the header of a copy.
    ///
    /// # Errors
    /// It is damaged or a newer release's, or the input failed.
    pub fn new(mut input: R) -> Result<Self, CopyError> {
        let mut bytes = Vec::new();
        take(&mut input, HEADER_BYTES, &mut bytes)
            .map_err(|error| CopyError::Io { offset: 0, error })?;
        let damaged = |why| CopyError::Damaged { offset: 0, why };
        let mut fields = Fields::new(&bytes);
        if fields.array() != Some(MAGIC) {
            return Err(damaged("it does not begin as a copy does"));
        }
        let format = fields.u32();
        let found = fields.array();
        let content = fields.rest();
        let broken = "the header's checksum does not fit its content";
        let format = format.ok_or_else(|| damaged("the header is cut off"))?;
        if found != Some(checksum(&[&format.to_le_bytes(), content])) {
            return Err(damaged(broken));
        }
        if format != FORMAT {
            return Err(CopyError::Newer(format));
        }
        let header = decode_header(&mut fields).ok_or_else(|| damaged(broken))?;
        Ok(Self {
            input,
            header,
            hash: Sha256::new().chain_update(&bytes),
            counts: CopyEnd::default(),
            offset: bytes.len() as u64,
            is_over: false,
        })
    }

    /// What the copy begins with.
    pub fn header(&self) -> &CopyHeader {
        &self.header
    }

    /// The next part. After [`Frame::End`], and after an error, there is none.
    ///
    /// # Errors
    /// The copy is damaged, or ends without its end frame, or the input failed.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, CopyError> {
        if self.is_over {
            return Ok(None);
        }
        let frame = self.frame();
        self.is_over = !matches!(frame, Ok(Frame::Rows(_) | Frame::Block(..)));
        frame.map(Some)
    }

    fn frame(&mut self) -> Result<Frame, CopyError> {
        let head = self.take(FRAME_HEAD_BYTES)?;
        let Some((kind, length, found)) = decode_frame_head(&head) else {
            return Err(self.damaged("the copy ends without its end frame"));
        };
        if length > MAX_FRAME_BYTES {
            return Err(self.damaged("the frame is longer than any frame may be"));
        }
        let payload = self.take(length)?;
        if payload.len() < length {
            return Err(self.damaged("the frame is cut off"));
        }
        let announced = head.get(1..5).unwrap_or_default();
        if checksum(&[&[kind], announced, &payload]) != found {
            return Err(self.damaged("the frame's checksum does not fit its content"));
        }
        if kind != END {
            self.hash.update(&head);
            self.hash.update(&payload);
        }
        let frame = match kind {
            ROWS => self.rows(payload),
            BLOCK => self.block(&payload),
            END => self.end(&payload),
            _ => Err(self.damaged("the frame is of a kind that is not known")),
        }?;
        self.offset += (FRAME_HEAD_BYTES + length) as u64;
        Ok(frame)
    }

    fn rows(&mut self, payload: Vec<u8>) -> Result<Frame, CopyError> {
        let mut fields = Fields::new(&payload);
        while !fields.rest().is_empty() {
            if decode_row(&mut fields).is_none() {
                return Err(self.damaged("the frame cuts a row off"));
            }
            self.counts.rows += 1;
        }
        Ok(Frame::Rows(Rows { payload }))
    }

    fn block(&mut self, payload: &[u8]) -> Result<Frame, CopyError> {
        let mut fields = Fields::new(payload);
        let head = BlockHead::decode(&mut fields)
            .ok_or_else(|| self.damaged("the block's numbers contradict each other"))?;
        self.counts.blocks += 1;
        Ok(Frame::Block(head, fields.rest().to_vec()))
    }

    fn end(&mut self, payload: &[u8]) -> Result<Frame, CopyError> {
        let mut fields = Fields::new(payload);
        let numbers = fields.bytes(END_NUMBERS_BYTES).unwrap_or_default();
        let hash = self.hash.clone().chain_update(numbers).finalize();
        if fields.rest() != &hash[..] {
            return Err(self.damaged("the copy's SHA-256 does not fit its content"));
        }
        let mut fields = Fields::new(numbers);
        let end = fields.u64().unwrap_or_default();
        let counts = (fields.u64(), fields.u64());
        if counts != (Some(self.counts.rows), Some(self.counts.blocks)) {
            return Err(self.damaged("the copy has not as many rows and blocks as it says"));
        }
        if !self.take(1)?.is_empty() {
            return Err(self.damaged("something follows the end frame"));
        }
        self.counts.end = end;
        Ok(Frame::End(self.counts))
    }

    fn take(&mut self, length: usize) -> Result<Vec<u8>, CopyError> {
        let mut bytes = Vec::new();
        take(&mut self.input, length, &mut bytes).map_err(|error| CopyError::Io {
            offset: self.offset,
            error,
        })?;
        Ok(bytes)
    }

    fn damaged(&self, why: &'static str) -> CopyError {
        CopyError::Damaged {
            offset: self.offset,
            why,
        }
    }
}

impl Rows {
    /// The rows, in the order in which they were written.
    pub fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        let mut fields = Fields::new(&self.payload);
        std::iter::from_fn(move || decode_row(&mut fields))
    }
}

fn checksum(parts: &[&[u8]]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().to_le_bytes()
}

/// Reads up to `length` bytes; memory grows with what arrives, and not with what was announced.
fn take(input: &mut impl Read, length: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
    input.take(length as u64).read_to_end(bytes).map(drop)
}

fn decode_header(fields: &mut Fields<'_>) -> Option<CopyHeader> {
    Some(CopyHeader {
        store_id: fields.array()?,
        start: fields.u64()?,
        stamp_ms: fields.u64()?,
    })
}

fn decode_frame_head(head: &[u8]) -> Option<(u8, usize, [u8; 4])> {
    let mut fields = Fields::new(head);
    let kind = fields.u8()?;
    let length = usize::try_from(fields.u32()?).ok()?;
    Some((kind, length, fields.array()?))
}

fn decode_row<'a>(fields: &mut Fields<'a>) -> Option<Row<'a>> {
    let key_length = usize::from(fields.u16()?);
    let value_length = usize::try_from(fields.u32()?).ok()?;
    Some(Row {
        version: fields.u64()?,
        expires_ms: fields.u64()?,
        key: fields.bytes(key_length)?,
        value: fields.bytes(value_length)?,
    })
}

fn too_large() -> io::Error {
    let why =
        format!("a row or block is larger than the {MAX_FRAME_BYTES} bytes that a frame takes");
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: CopyHeader = CopyHeader {
        store_id: [5; 16],
        start: 40,
        stamp_ms: 1_000,
    };

    const HEAD: BlockHead = BlockHead {
        previous: 40,
        last: 42,
        count: 2,
        synced: 39,
        stamp_ms: 1_001,
        lease_ms: 1_002,
        is_clean: false,
    };

    fn row<'a>(key: &'a [u8], value: &'a [u8]) -> Row<'a> {
        Row {
            key,
            value,
            version: 39,
            expires_ms: 7,
        }
    }

    fn copy() -> Vec<u8> {
        let mut writer = CopyWriter::new(Vec::new(), &HEADER).unwrap();
        writer.row(&row(b"a", b"one")).unwrap();
        writer.row(&row(b"", b"")).unwrap();
        writer.block(&HEAD, b"payload").unwrap();
        let (bytes, length) = writer.finish(42).unwrap();
        assert_eq!(bytes.len() as u64, length);
        bytes
    }

    /// The frames up to the end or the first error.
    fn read(bytes: &[u8]) -> Result<Vec<Frame>, CopyError> {
        let mut reader = CopyReader::new(bytes)?;
        assert_eq!(*reader.header(), HEADER);
        let mut frames = Vec::new();
        while let Some(frame) = reader.next_frame()? {
            frames.push(frame);
        }
        Ok(frames)
    }

    #[test]
    fn a_copy_comes_back() {
        let frames = read(&copy()).unwrap();
        let [Frame::Rows(rows), block, end] = &frames[..] else {
            panic!("{frames:?}");
        };
        let rows: Vec<_> = rows.iter().collect();
        assert_eq!(rows, [row(b"a", b"one"), row(b"", b"")]);
        assert_eq!(*block, Frame::Block(HEAD, b"payload".to_vec()));
        let counts = CopyEnd {
            end: 42,
            rows: 2,
            blocks: 1,
        };
        assert_eq!(*end, Frame::End(counts));
    }

    #[test]
    fn many_rows_become_frames_of_bounded_size() {
        let mut writer = CopyWriter::new(Vec::new(), &HEADER).unwrap();
        let (large, small) = (vec![1; 300_000], vec![2; 1_000]);
        for at in 0..200u8 {
            let value = if at == 50 { &large } else { &small };
            writer.row(&row(&[at], value)).unwrap();
        }
        let (bytes, _) = writer.finish(40).unwrap();
        let mut keys = Vec::new();
        for frame in read(&bytes).unwrap() {
            if let Frame::Rows(rows) = frame {
                assert!(rows.payload.len() <= 65_536 || rows.iter().count() == 1);
                keys.extend(rows.iter().flat_map(|row| row.key.to_vec()));
            }
        }
        assert_eq!(keys, (0..200).collect::<Vec<u8>>());
        let mut writer = CopyWriter::new(Vec::new(), &HEADER).unwrap();
        let huge = vec![0; MAX_FRAME_BYTES];
        let refused = writer.row(&row(b"a", &huge)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_copy_that_was_cut_or_changed_anywhere_is_refused() {
        let bytes = copy();
        for cut in 0..bytes.len() {
            assert!(matches!(
                read(&bytes[..cut]),
                Err(CopyError::Damaged { .. })
            ));
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x41;
            assert!(read(&changed).is_err(), "{at}");
        }
        let longer = [&bytes[..], &[0]].concat();
        let error = read(&longer).unwrap_err().to_string();
        assert!(error.contains("something follows"), "{error}");
    }

    #[test]
    fn an_error_names_the_frame_that_is_wrong() {
        let mut bytes = copy();
        // The second frame follows a frame of two rows, one of them empty but for its numbers.
        let second = HEADER_BYTES + FRAME_HEAD_BYTES + 22 + 4 + 22;
        bytes[second + 20] ^= 1;
        let error = read(&bytes).unwrap_err().to_string();
        let start = format!("the copy is damaged at byte {second}: the frame's checksum");
        assert!(error.starts_with(&start), "{error}");
    }

    #[test]
    fn frames_left_out_or_put_elsewhere_are_noticed_at_the_end() {
        let bytes = copy();
        let second = HEADER_BYTES + FRAME_HEAD_BYTES + 22 + 4 + 22;
        let without = [&bytes[..HEADER_BYTES], &bytes[second..]].concat();
        let error = read(&without).unwrap_err().to_string();
        assert!(error.contains("SHA-256"), "{error}");
    }

    proptest! {
        #[test]
        fn garbage_is_refused_and_never_panics(
            bytes in prop::collection::vec(prop_oneof![Just(0u8), 1u8..4, any::<u8>()], 0..200),
        ) {
            prop_assert!(read(&bytes).is_err());
            let behind_a_header = [&copy()[..HEADER_BYTES], &bytes].concat();
            prop_assert!(read(&behind_a_header).is_err());
        }

        #[test]
        fn rows_of_garbage_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut writer = CopyWriter::new(Vec::new(), &HEADER).unwrap();
            writer.frame(ROWS, &bytes).unwrap();
            writer.frame(BLOCK, &bytes).unwrap();
            let (copy, _) = writer.finish(1).unwrap();
            prop_assert!(read(&copy).is_err() || bytes.is_empty());
        }
    }
}
