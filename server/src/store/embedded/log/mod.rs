//! The log: every commit in order, the truth of the store.
//!
//! It is a row of segments, `{number:016}.log`, numbered without gaps. All numbers are little-endian.
//!
//! ```text
//!   segment:  header | block | block | ... | zeros, or the end of the file
//!
//!   header:   magic "luge-log" | format u32 | crc u32 | store id [16] | number u64 |
//!             previous u64 | synced u64 | stamp_ms u64 | lease_ms u64
//!             crc over the format and everything after the crc
//!
//!   block:    magic B1 "LgB" | payload length u32 | crc u32 | previous u64 | last u64 | count u32 |
//!             synced u64 | stamp_ms u64 | lease_ms u64 | is clean u8 | payload
//!             crc over the store's id, the segment's number, the block's offset, the payload's length
//!             and everything after the crc
//!
//!   payload:  commits, see `commits`
//! ```
//!
//! A block is one write. A segment's header is written together with its first block; before that, a
//! *spare* segment is zeros on reserved space, whose name has been synced, so that going over to it
//! costs no sync. Blocks chain: each tells the last sequence before it. So a block that was lost is
//! noticed even where the bytes after it are whole.
//!
//! **What a power cut leaves.** Everything that was synced, and of the rest anything: writes that are
//! missing, torn, or there while earlier ones are not. Each block carries the sequence that was
//! durable when it was written. So the first block that is not whole ends the log, and is nobody's
//! loss, unless a later whole block, anywhere behind it, says that the commits missing here had been
//! durable. Then the disk lost what it had promised to keep, and nothing but a copy brings it back.

mod block;
mod commits;
mod reader;
mod scan;
mod segment;
mod writer;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use crate::store::{Millis, Sequence};

pub use block::{BLOCK_HEAD_BYTES, BlockHead};
pub use commits::{BadPayload, Change, Commits, TooLarge, Writes, encode_commit};
pub use reader::{LogReader, ReadError};
pub use scan::scan;
pub use segment::SEGMENT_HEADER_BYTES;
pub use writer::{Group, LogOptions, LogWriter, MadeSpare, SpareTask, SyncTask};

/// Where the log ends, as [`scan`] found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEnd {
    /// The log holds every commit after this one.
    pub first: Sequence,
    /// The last commit in the log; `first` if it has none.
    pub last: Sequence,
    /// The newest stamp of the commits in the log.
    pub stamp_ms: Millis,
    /// The time up to which stamps may have been given out.
    pub lease_ms: Millis,
    /// What the log itself knows to be durable. More may be.
    pub synced: Sequence,
    /// Whether the store was closed in order and nothing was written since.
    pub is_clean: bool,
    /// What was torn and is to be cut off, for the log of the server.
    pub cut: Option<Cut>,
    /// The segments to keep, oldest first.
    pub segments: Vec<SegmentEnd>,
    /// The numbers of the segments to remove: spares, and what lies behind the cut.
    pub leftovers: Vec<u64>,
}

/// Where a torn log is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The segment.
    pub file: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// What is wrong there.
    pub why: String,
}

/// Where a segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentEnd {
    /// Its number.
    pub number: u64,
    /// The last commit before it.
    pub previous: Sequence,
    /// Its last commit; `previous` if it has only marks.
    pub last: Sequence,
    /// How far its blocks reach.
    pub bytes: u64,
}

/// Why a log can't be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// What had been durable is not there any more.
    #[error(
        "the log is damaged: {file}, byte {offset}: {why}, and the commits there had been durable; put the file back as it was, or restore a backup into an empty folder with `luge-server restore`"
    )]
    Damaged {
        /// The segment.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        why: String,
    },
    /// The log begins too late.
    #[error(
        "the log in {folder} begins after commit {first}, and what it should continue ends at commit {from}; put the older segments back, or restore a backup into an empty folder with `luge-server restore`"
    )]
    Gap {
        /// The log's folder.
        folder: PathBuf,
        /// The commit before the log's first.
        first: Sequence,
        /// The commit after which it should begin, or earlier.
        from: Sequence,
    },
    /// A segment is another store's.
    #[error(
        "the log segment {0} belongs to another store; take it out of this folder, and put back the store's own if there was one"
    )]
    Foreign(PathBuf),
    /// A segment was written by a newer release.
    #[error(
        "the log segment {file} has format {found}, and this release reads up to {known}; use the release that wrote it"
    )]
    Newer {
        /// The segment.
        file: PathBuf,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The operating system refused.
    #[error("can't {action} {path}: {error}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What came back.
        error: io::Error,
    },
}

impl LogEnd {
    /// The end of a log that has not begun, in a store that holds everything through `last`.
    #[must_use]
    pub fn empty(last: Sequence) -> Self {
        Self {
            first: last,
            last,
            stamp_ms: 0,
            lease_ms: 0,
            synced: last,
            is_clean: true,
            cut: None,
            segments: Vec::new(),
            leftovers: Vec::new(),
        }
    }
}

impl LogError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io {
            action,
            path: path.to_owned(),
            error,
        }
    }
}
