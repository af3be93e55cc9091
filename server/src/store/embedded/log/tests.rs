//! Logs that are written, torn, damaged, removed and followed.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use super::super::disk::{Disk, RealDisk};
use super::*;

const STORE: [u8; 16] = [7; 16];

/// Room for three blocks of one commit.
const SMALL: u64 = 320;

/// A folder with a log, and the blocks that were appended to it.
struct Fixture {
    folder: tempfile::TempDir,
    disk: Arc<dyn Disk>,
    blocks: Vec<(BlockHead, Vec<u8>)>,
}

type Block = (BlockHead, Vec<u8>);

impl Fixture {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            disk: Arc::new(RealDisk),
            blocks: Vec::new(),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn segment(&self, number: u64) -> PathBuf {
        segment::path_of(&self.path(), number)
    }

    fn scan(&self, from: Sequence) -> Result<(LogEnd, Vec<Block>), LogError> {
        let mut blocks = Vec::new();
        let end = scan(&*self.disk, &self.path(), &STORE, from, |head, payload| {
            blocks.push((*head, payload.to_vec()));
            Ok::<(), LogError>(())
        })?;
        Ok((end, blocks))
    }

    fn open(&self) -> LogWriter {
        let (end, _) = self.scan(0).unwrap();
        self.open_at(&end)
    }

    fn open_at(&self, end: &LogEnd) -> LogWriter {
        let options = LogOptions {
            store_id: STORE,
            segment_bytes: SMALL,
        };
        LogWriter::open(Arc::clone(&self.disk), self.path(), options, end).unwrap()
    }

    /// Appends a block of one commit with a value of this length.
    fn append(&mut self, writer: &mut LogWriter, value_bytes: usize) {
        let group = Group {
            last: writer.last() + 1,
            count: 1,
            stamp_ms: 1_000 + writer.last(),
            lease_ms: 2_000,
            is_clean: false,
        };
        let value = vec![0xee; value_bytes];
        let change = Change::Put {
            value: &value,
            expires_ms: 0,
        };
        let mut payload = Vec::new();
        encode_commit(&mut payload, [(&b"k"[..], change)].into_iter()).unwrap();
        let head = writer.append(&group, &payload).unwrap();
        self.blocks.push((head, payload));
    }

    /// Five commits, the first three of them known to be durable, over two segments.
    fn five(&mut self) {
        let mut writer = self.open();
        for at in 0..5 {
            self.append(&mut writer, 3);
            if at == 2 {
                writer.sync().unwrap();
            }
        }
        assert_eq!(writer.segments().len(), 2);
    }

    fn reader(&self, from: Sequence) -> Result<LogReader, ReadError> {
        LogReader::new(Arc::clone(&self.disk), self.path(), STORE, from)
    }

    fn change(&self, number: u64, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.segment(number)).unwrap();
        change(&mut bytes);
        fs::write(self.segment(number), bytes).unwrap();
    }
}

fn mark(writer: &LogWriter, is_clean: bool) -> Group {
    Group {
        last: writer.last(),
        count: 0,
        stamp_ms: 5_000,
        lease_ms: 6_000,
        is_clean,
    }
}

/// Where the block at this place in its segment begins, all of them having one commit of 3 bytes.
fn block_at(place: usize) -> usize {
    SEGMENT_HEADER_BYTES + place * (BLOCK_HEAD_BYTES + 23)
}

#[test]
fn blocks_come_back_over_rolls_restarts_and_large_ones() {
    let mut log = Fixture::new();
    for _ in 0..3 {
        let mut writer = log.open();
        for bytes in [0, 3, 100, 3, 5_000, 3, 3, 3, 3] {
            log.append(&mut writer, bytes);
        }
        writer.append(&mark(&writer, false), &[]).unwrap();
        writer.sync().unwrap();
        writer.append(&mark(&writer, true), &[]).unwrap();
        writer.sync().unwrap();
        let (end, blocks) = log.scan(0).unwrap();
        assert_eq!(blocks, log.blocks);
        assert_eq!(end.segments, writer.segments().collect::<Vec<_>>());
        assert_eq!((end.first, end.last), (0, writer.last()));
        assert_eq!((end.stamp_ms, end.lease_ms), (5_000, 6_000));
        assert_eq!((end.synced, end.is_clean), (writer.last(), true));
        assert_eq!(end.cut, None);
    }
    assert_eq!(log.blocks.last().unwrap().0.last, 27);
}

#[test]
fn sequences_may_skip_ahead_but_not_back() {
    let log = Fixture::new();
    let mut writer = log.open();
    let group = |last, count| Group {
        last,
        count,
        ..Group::default()
    };
    writer.append(&group(1_000, 2), &[0; 8]).unwrap();
    for wrong in [group(1_000, 1), group(1_001, 2), group(1_001, 0)] {
        let refused = writer.append(&wrong, &[]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }
    writer.append(&group(5_000, 1), &[0; 4]).unwrap();
    let (end, blocks) = log.scan(0).unwrap();
    assert_eq!((end.last, blocks.len()), (5_000, 2));
    assert_eq!(blocks[1].0.previous, 1_000);
}

#[test]
fn a_last_block_torn_at_any_byte_is_cut_off() {
    let mut log = Fixture::new();
    log.five();
    let whole = fs::read(log.segment(2)).unwrap();
    let (start, end_of_block) = (block_at(1), block_at(2));
    for at in start..end_of_block {
        for is_short in [false, true] {
            let mut torn = whole.clone();
            torn[at..].fill(0);
            if is_short {
                torn.truncate(at);
            }
            fs::write(log.segment(2), torn).unwrap();
            let (end, blocks) = log.scan(0).unwrap();
            assert_eq!(blocks, log.blocks[..4]);
            assert_eq!(end.last, 4);
            let cut = end.cut.map(|cut| (cut.file, cut.offset));
            let expected = (at > start).then(|| (log.segment(2), start as u64));
            assert_eq!(cut, expected, "{at}");
        }
    }
}

#[test]
fn a_first_block_torn_at_any_byte_takes_its_segment_along() {
    let mut log = Fixture::new();
    log.five();
    let whole = fs::read(log.segment(2)).unwrap();
    for at in 0..block_at(1) {
        let mut torn = whole.clone();
        torn[at..].fill(0);
        fs::write(log.segment(2), torn).unwrap();
        let (end, blocks) = log.scan(0).unwrap();
        assert_eq!(blocks, log.blocks[..3]);
        let numbers: Vec<_> = end.segments.iter().map(|it| it.number).collect();
        assert_eq!((numbers, &end.leftovers[..]), (vec![1], &[2][..]));
        assert_eq!(end.cut.is_some(), at > 0);
    }
    let (end, _) = log.scan(0).unwrap();
    let mut writer = log.open_at(&end);
    log.blocks.truncate(3);
    log.append(&mut writer, 3);
    assert_eq!(log.scan(0).unwrap().1, log.blocks);
    assert_eq!(writer.position().unwrap().number, 2);
}

#[test]
fn blocks_behind_an_unsynced_hole_are_not_applied() {
    let mut log = Fixture::new();
    log.five();
    log.change(2, |bytes| bytes[block_at(0)..block_at(1)].fill(0));
    let (end, blocks) = log.scan(0).unwrap();
    assert_eq!(blocks, log.blocks[..3]);
    assert!(end.cut.is_some());
    let mut writer = log.open_at(&end);
    log.blocks.truncate(3);
    log.append(&mut writer, 9);
    assert_eq!(log.scan(0).unwrap().1, log.blocks);
}

#[test]
fn damage_below_what_was_durable_names_its_place() {
    let mut log = Fixture::new();
    log.five();
    log.change(1, |bytes| bytes[block_at(1) + 30] ^= 4);
    let error = log.scan(0).unwrap_err();
    let LogError::Damaged { file, offset, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!((file, *offset), (&log.segment(1), block_at(1) as u64));
    let text = error.to_string();
    for part in ["0000000000000001.log, byte 152: ", "luge-server restore"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn any_flipped_byte_is_damage_or_an_unsynced_end() {
    let mut log = Fixture::new();
    log.five();
    for number in [1, 2] {
        let whole = fs::read(log.segment(number)).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x55;
            fs::write(log.segment(number), flipped).unwrap();
            match log.scan(0) {
                Ok((end, blocks)) => {
                    assert!(number == 2 || at >= block_at(3), "{number} {at}");
                    assert_eq!(blocks, log.blocks[..blocks.len()]);
                    assert!(end.last >= 3 && end.last == blocks.len() as u64);
                    assert!(end.cut.is_some() && !end.is_clean);
                }
                Err(LogError::Damaged { .. }) => assert!(number == 1, "{number} {at}"),
                Err(other) => panic!("{other}"),
            }
        }
        fs::write(log.segment(number), whole).unwrap();
    }
}

#[test]
fn a_missing_segment_is_damage_or_an_unsynced_end() {
    let mut log = Fixture::new();
    log.five();
    let mut writer = log.open();
    (0..3).for_each(|_| log.append(&mut writer, 3));
    fs::rename(log.segment(2), log.path().join("away")).unwrap();
    let error = log.scan(0).unwrap_err().to_string();
    assert!(error.contains("0000000000000002.log, byte 0: the segment is missing"));
    fs::rename(log.path().join("away"), log.segment(2)).unwrap();
    fs::remove_file(log.segment(1)).unwrap();
    let error = log.scan(0).unwrap_err();
    assert!(matches!(
        error,
        LogError::Gap {
            first: 3,
            from: 0,
            ..
        }
    ));
    assert_eq!(log.scan(3).unwrap().1, log.blocks[3..]);
}

#[test]
fn a_spare_is_a_leftover_and_no_damage() {
    let mut log = Fixture::new();
    drop(log.open());
    let (end, _) = log.scan(0).unwrap();
    assert_eq!(
        (end.cut, end.leftovers, end.is_clean),
        (None, vec![1], true)
    );
    log.five();
    let mut writer = log.open();
    log.append(&mut writer, 3);
    writer.prepare().unwrap();
    let (end, _) = log.scan(0).unwrap();
    assert_eq!((end.cut.clone(), end.leftovers.clone()), (None, vec![4]));
    let writer = log.open_at(&end);
    assert_eq!(writer.room(), SMALL - SEGMENT_HEADER_BYTES as u64);
    assert!(writer.fits(100) && !writer.fits(320));
    let kept = fs::metadata(log.segment(3)).unwrap().len();
    assert_eq!(kept, block_at(1) as u64);
}

/// A mark that did not fit went over to a segment of its own while a spare of the same number was being made, and what was
/// written to that spare later was in a file without a name.
#[test]
fn a_spare_whose_number_another_segment_has_by_now_is_not_written_to() {
    let mut log = Fixture::new();
    let mut writer = log.open();
    log.append(&mut writer, 3);
    let late = writer.spare_task().unwrap().run();
    writer.prepare().unwrap();
    for _ in 0..4 {
        log.append(&mut writer, 3);
    }
    writer.install(late).unwrap();
    for _ in 0..4 {
        log.append(&mut writer, 3);
    }
    assert_eq!(log.scan(0).unwrap().1, log.blocks);
}

/// A start read all that was reserved, two segments of zeros.
#[test]
fn a_log_that_gave_back_what_it_had_reserved_has_its_blocks_and_nothing_else() {
    let mut log = Fixture::new();
    let mut writer = log.open();
    log.append(&mut writer, 3);
    writer.prepare().unwrap();
    writer.sync().unwrap();
    writer.give_back().unwrap();
    let length = |number| fs::metadata(log.segment(number)).map(|found| found.len());
    assert_eq!(length(1).unwrap(), writer.bytes());
    assert!(length(2).is_err());
    assert_eq!(writer.room(), 0);
    let (end, blocks) = log.scan(0).unwrap();
    assert_eq!((end.cut, end.leftovers), (None, vec![]));
    assert_eq!(blocks, log.blocks);
    log.append(&mut writer, 3);
    let mut writer = log.open();
    log.append(&mut writer, 3);
    assert_eq!(log.scan(0).unwrap().1, log.blocks);
}

#[test]
fn old_segments_are_skipped_and_removed() {
    let mut log = Fixture::new();
    let mut writer = log.open();
    for _ in 0..12 {
        log.append(&mut writer, 3);
    }
    writer.remove_through(7).unwrap();
    assert_eq!(writer.first(), 0, "what follows has never been synced");
    writer.sync().unwrap();
    log.change(1, |bytes| bytes[block_at(0)] ^= 1);
    let (end, blocks) = log.scan(4).unwrap();
    assert_eq!((end.first, &blocks[..]), (0, &log.blocks[4..]));
    writer.remove_through(7).unwrap();
    assert_eq!((writer.first(), writer.segments().len()), (6, 2));
    writer.remove_through(100).unwrap();
    assert_eq!((writer.first(), writer.segments().len()), (9, 1));
    let (end, blocks) = log.scan(9).unwrap();
    assert_eq!((end.first, &blocks[..]), (9, &log.blocks[9..]));
    assert!(matches!(log.scan(8), Err(LogError::Gap { .. })));
    let error = log.scan(13).unwrap_err().to_string();
    assert!(error.contains("should reach commit 13"), "{error}");
}

#[test]
fn a_sync_covers_what_was_appended_before_it() {
    let mut log = Fixture::new();
    let mut writer = log.open();
    (0..4).for_each(|_| log.append(&mut writer, 3));
    let early = writer.unsynced();
    log.append(&mut writer, 3);
    let late = writer.unsynced();
    writer.finish_sync(&late, late.run()).unwrap();
    writer.finish_sync(&early, early.run()).unwrap();
    assert_eq!((early.last(), writer.synced()), (4, 5));
    log.append(&mut writer, 3);
    assert_eq!(log.blocks[5].0.synced, 5);
    let failed = writer.unsynced();
    let error = Err(io::Error::other("no"));
    writer.finish_sync(&failed, error).unwrap_err();
    assert!(writer.has_failed());
    writer.sync().unwrap_err();
    writer.append(&mark(&writer, false), &[]).unwrap_err();
    assert_eq!(log.scan(0).unwrap().1, log.blocks);
}

#[test]
fn segments_of_others_are_refused() {
    let mut log = Fixture::new();
    log.five();
    let other = scan(&RealDisk, &log.path(), &[8; 16], 0, |_, _| {
        Ok::<(), LogError>(())
    });
    assert!(matches!(other, Err(LogError::Foreign(_))));
    log.change(2, |bytes| {
        bytes[8] = 2;
        let checksum = {
            let mut hasher = crc32fast::Hasher::new();
            hasher.update(&2u32.to_le_bytes());
            hasher.update(&bytes[16..SEGMENT_HEADER_BYTES]);
            hasher.finalize()
        };
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    });
    let error = log.scan(0).unwrap_err().to_string();
    assert!(error.contains("has format 2, and this release reads up to 1"));
}

#[test]
fn a_value_that_is_a_log_is_no_evidence() {
    let mut log = Fixture::new();
    log.five();
    let inner = fs::read(log.segment(2)).unwrap();
    let outer = Fixture::new();
    let mut writer = outer.open();
    let group = Group {
        last: 1,
        count: 1,
        ..Group::default()
    };
    writer.append(&group, &inner).unwrap();
    outer.change(1, |bytes| bytes[block_at(0) + 20] ^= 1);
    let (end, blocks) = outer.scan(0).unwrap();
    assert!(blocks.is_empty() && end.cut.is_some());
}

#[test]
fn a_reader_follows_over_rolls_and_removals() {
    let mut log = Fixture::new();
    let mut reader = log.reader(0).unwrap();
    assert!(reader.next_block(0).unwrap().is_none());
    let mut writer = log.open();
    let mut read = Vec::new();
    for at in 1..=40 {
        log.append(&mut writer, at % 7 * 40);
        writer.append(&mark(&writer, false), &[]).unwrap();
        writer.sync().unwrap();
        if at % 3 == 0 {
            let upto = writer.last() - 1;
            while let Some(block) = reader.next_block(upto).unwrap() {
                read.push(block);
            }
            assert_eq!(read.len() as u64, upto);
            writer.remove_through(upto.saturating_sub(3)).unwrap();
        }
    }
    assert_eq!(read, log.blocks[..38]);
    assert!(writer.first() > 25);
}

#[test]
fn a_reader_that_comes_too_late_is_told_so() {
    let mut log = Fixture::new();
    let mut writer = log.open();
    (0..12).for_each(|_| log.append(&mut writer, 3));
    writer.sync().unwrap();
    let mut slow = log.reader(0).unwrap();
    writer.remove_through(7).unwrap();
    for expected in &log.blocks[..3] {
        assert_eq!(slow.next_block(12).unwrap().as_ref(), Some(expected));
    }
    let too_old = slow.next_block(12).unwrap_err();
    assert!(matches!(too_old, ReadError::TooOld { first: 6 }));
    let too_old = log.reader(5).err().unwrap();
    assert!(matches!(too_old, ReadError::TooOld { first: 6 }));
    let mut reader = log.reader(7).unwrap();
    assert_eq!(reader.next_block(8).unwrap().as_ref(), log.blocks.get(7));
    assert_eq!(reader.next_block(8).unwrap(), None);
}

#[test]
fn a_reader_reports_damage() {
    let mut log = Fixture::new();
    log.five();
    log.change(1, |bytes| bytes[block_at(1) + 40] ^= 1);
    let mut reader = log.reader(0).unwrap();
    reader.next_block(5).unwrap().unwrap();
    let error = reader.next_block(5).unwrap_err().to_string();
    assert!(error.contains("0000000000000001.log, byte 152"), "{error}");
}
