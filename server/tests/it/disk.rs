//! The log on disks that lose what was not synced, and on disks that fail; and these disks themselves.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use luge_server::store::Sequence;
use luge_server::store::embedded::disk::{Disk, RealDisk};
use luge_server::store::embedded::log::{
    Change, Group, LogEnd, LogError, LogOptions, LogWriter, encode_commit, scan,
};

use crate::support::disk::{FailingDisk, Failure, Operation, RecordingDisk, image};

const STORE: [u8; 16] = [3; 16];

/// The payload of the only commit of this sequence; some take more than a sector.
fn payload(sequence: Sequence) -> Vec<u8> {
    let value = vec![sequence.to_le_bytes()[0]; usize::try_from(sequence % 5).unwrap() * 300];
    let change = Change::Put {
        value: &value,
        expires_ms: 0,
    };
    let mut payload = Vec::new();
    encode_commit(&mut payload, [(&b"key"[..], change)].into_iter()).unwrap();
    payload
}

/// Reads the log and holds it to what was appended.
fn check(disk: &dyn Disk, root: &Path, from: Sequence, synced: Sequence) -> LogEnd {
    let mut next = None;
    let end = scan(disk, &root.join("log"), &STORE, from, |head, found| {
        assert_eq!(*next.get_or_insert(head.last), head.last);
        assert_eq!(found, payload(head.last));
        next = Some(head.last + 1);
        Ok::<(), LogError>(())
    });
    let end = end.unwrap_or_else(|error| panic!("after a power cut: {error}"));
    assert!(
        end.last >= synced,
        "{synced} were synced, and {} are there",
        end.last
    );
    assert!(next.is_none_or(|next| next == end.last + 1));
    end
}

fn open(disk: Arc<dyn Disk>, root: &Path, end: &LogEnd) -> std::io::Result<LogWriter> {
    let options = LogOptions {
        store_id: STORE,
        segment_bytes: 4_000,
    };
    LogWriter::open(disk, root.join("log"), options, end)
}

fn append(writer: &mut LogWriter) -> std::io::Result<()> {
    let group = Group {
        last: writer.last() + 1,
        count: 1,
        ..Group::default()
    };
    writer.append(&group, &payload(group.last)).map(drop)
}

/// Appends this many commits, syncs now and then, removes what is old, and calls `after` at each step.
fn work(
    writer: &mut LogWriter,
    commits: u64,
    mut after: impl FnMut(&LogWriter),
) -> std::io::Result<()> {
    for at in 0..commits {
        append(writer)?;
        after(writer);
        if at % 3 == 1 {
            writer.prepare()?;
        }
        if at % 4 == 3 {
            writer.sync()?;
            after(writer);
        }
        if at % 10 == 9 {
            writer.remove_through(writer.synced().saturating_sub(6))?;
            after(writer);
        }
    }
    Ok(())
}

/// After how many operations which sequence was durable, and where the log may begin by then.
type Promises = Vec<(usize, Sequence, Sequence)>;

/// Works, is killed, and works on: nothing that the killed run left unsynced may be taken for durable
/// just because it can be read.
fn record(root: &Path, commits: u64) -> (Vec<Operation>, Promises) {
    let disk = RecordingDisk::new(root);
    let mut promises = vec![(0, 0, 0)];
    let mut first = 0;
    for _ in 0..2 {
        let end = check(&disk, root, first, 0);
        let mut writer = open(Arc::new(disk.clone()), root, &end).unwrap();
        promises.push((disk.count(), writer.synced(), writer.first()));
        work(&mut writer, commits, |writer| {
            promises.push((disk.count(), writer.synced(), writer.first()));
        })
        .unwrap();
        first = writer.first();
    }
    (disk.recording(), promises)
}

#[test]
fn disk_that_loses_power_at_any_operation_keeps_what_was_synced() {
    // With 7, the killed run leaves two segments behind that are not synced.
    for commits in [7, 14] {
        lose_power_at_any_operation(commits);
    }
}

fn lose_power_at_any_operation(commits: u64) {
    let root = tempfile::tempdir().unwrap();
    let (recording, promises) = record(root.path(), commits);
    for upto in 0..=recording.len() {
        let so_far = promises.iter().filter(|(at, ..)| *at <= upto);
        let (_, synced, _) = *so_far.clone().next_back().unwrap();
        // A removal that is under way may have been done already.
        let later = promises.iter().find(|(at, ..)| *at > upto);
        let first = later
            .map_or(0, |it| it.2)
            .max(so_far.map(|it| it.2).max().unwrap());
        for seed in 0..12 {
            let target = tempfile::tempdir().unwrap();
            image(&recording, upto, seed, target.path());
            let disk = RecordingDisk::new(target.path());
            let end = check(&disk, target.path(), first, synced);
            let mut writer = open(Arc::new(disk.clone()), target.path(), &end).unwrap();
            append(&mut writer).unwrap();
            writer.sync().unwrap();
            check(&disk, target.path(), first, end.last + 1);
        }
    }
}

#[test]
fn disk_that_loses_power_again_during_the_restart_keeps_what_was_synced() {
    let root = tempfile::tempdir().unwrap();
    let (recording, promises) = record(root.path(), 5);
    for upto in 0..=recording.len() {
        let so_far = promises.iter().rfind(|(at, ..)| *at <= upto);
        let (_, synced, _) = *so_far.unwrap();
        let target = tempfile::tempdir().unwrap();
        image(&recording, upto, upto as u64, target.path());
        let (again, promised) = record(target.path(), 3);
        for cut in 0..=again.len() {
            let so_far = promised.iter().rfind(|(at, ..)| *at <= cut);
            let synced = synced.max(so_far.unwrap().1);
            for seed in [0, 1, cut as u64 + 2] {
                let target = tempfile::tempdir().unwrap();
                image(&again, cut, seed, target.path());
                check(&RealDisk, target.path(), 0, synced);
            }
        }
    }
}

#[test]
fn disk_that_fails_stops_the_log_and_a_restart_finds_what_was_synced() {
    for failure in [Failure::Broken, Failure::Full, Failure::Short] {
        for after in 0.. {
            let root = tempfile::tempdir().unwrap();
            let disk = FailingDisk::new(Arc::new(RealDisk));
            let mut writer = open(Arc::new(disk.clone()), root.path(), &LogEnd::empty(0)).unwrap();
            let before = disk.count();
            disk.fail(after, failure, after % 2 == 0);
            let worked = work(&mut writer, 20, |_| {});
            if worked.is_ok() {
                assert!(disk.count() - before <= after);
                break;
            }
            disk.heal();
            let has_failed = writer.has_failed();
            assert_eq!(append(&mut writer).is_err(), has_failed);
            assert_eq!(writer.sync().is_err(), has_failed);
            check(&RealDisk, root.path(), writer.first(), writer.synced());
        }
    }
}

#[test]
fn disk_that_is_full_while_a_spare_is_made_stops_nothing() {
    let root = tempfile::tempdir().unwrap();
    let disk = FailingDisk::new(Arc::new(RealDisk));
    let mut writer = open(Arc::new(disk.clone()), root.path(), &LogEnd::empty(0)).unwrap();
    append(&mut writer).unwrap();
    // The file is created, and its space can't be had.
    disk.fail(1, Failure::Full, true);
    writer.prepare().unwrap_err();
    assert!(!writer.has_failed());
    disk.heal();
    writer.prepare().unwrap();
    work(&mut writer, 10, |_| {}).unwrap();
    check(&RealDisk, root.path(), writer.first(), 11);
}

#[test]
fn disk_images_hold_what_was_synced_and_some_of_the_rest() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    fs::write(path("before"), b"old").unwrap();
    let disk = RecordingDisk::new(root.path());
    let file = disk.create(&path("new")).unwrap();
    file.write_all_at(&[1; 2_000], 0).unwrap();
    file.sync().unwrap();
    disk.sync_folder(root.path()).unwrap();
    file.write_all_at(&[2; 2_000], 1_000).unwrap();
    disk.rename(&path("before"), &path("after")).unwrap();
    let recording = disk.recording();
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..60 {
        let target = tempfile::tempdir().unwrap();
        image(&recording, recording.len(), seed, target.path());
        let names = RealDisk.list(target.path()).unwrap();
        assert_eq!(names.len(), 2, "{names:?}");
        let new = fs::read(target.path().join("new")).unwrap();
        assert_eq!(new[..1_000], [1; 1_000]);
        assert!(new.len() == 2_000 || new.len() == 3_000);
        assert_eq!(fs::read(target.path().join(&names[0])).unwrap(), b"old");
        let is_torn = new.contains(&2) && new[1_000..].iter().any(|byte| *byte != 2);
        seen.insert((names[0].clone(), new.len(), is_torn));
    }
    // Both names, with the write absent, whole and torn.
    assert!(seen.len() >= 5, "{seen:?}");
}
