//! What an acknowledgement promises at each level, what a flush adds to it, and what no restart may
//! turn back.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use luge_protocol::{ErrorCode, Reply};
use luge_server::config::{Config, DurabilitySetting};
use luge_server::store::embedded::disk::{Disk, RealDisk};
use luge_server::store::embedded::{EmbeddedOptions, EmbeddedStore, FolderError, SyncPolicy};
use luge_server::store::{Commit, CommitOutcome, Feed, ReadPoint, Snapshot, Store, StoreError};
use luge_server::transaction::{TimeToLive, Transaction, WriteLimits};

use crate::support::disk::{FailingDisk, Failure, Operation, RecordingDisk};
use crate::support::{ManualClock, Talk, clock, copy_folder, options, runtime};

/// So long that no test sees a sync that it did not ask for.
const HOUR: Duration = Duration::from_secs(3_600);

/// Time enough for anything. Only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

const LIMITS: WriteLimits = WriteLimits {
    keys: 10,
    bytes: 1 << 10,
};

fn open(folder: &Path, disk: Arc<dyn Disk>, clock: ManualClock) -> EmbeddedStore {
    try_open(folder, disk, clock).unwrap()
}

fn try_open(
    folder: &Path,
    disk: Arc<dyn Disk>,
    clock: ManualClock,
) -> Result<EmbeddedStore, FolderError> {
    let options = EmbeddedOptions {
        sync: SyncPolicy::Interval(HOUR),
        boot: "a".to_owned(),
        ..options()
    };
    EmbeddedStore::open(folder, [1; 16], disk, Box::new(clock), options)
}

async fn talk(store: EmbeddedStore, clock: ManualClock) -> Talk<EmbeddedStore> {
    let config = Config {
        max_instances: 16,
        durability: DurabilitySetting::Interval(HOUR),
        ..Config::default()
    };
    Talk::new(store, &config, clock).await
}

async fn get(talk: &mut Talk<EmbeddedStore>, key: &str) -> Option<String> {
    match talk.request(&format!("get {key}")).await.unwrap() {
        Reply::Get(found) => found.map(|found| String::from_utf8(found.0.to_vec()).unwrap()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_killed_store_keeps_what_was_acked_before_any_sync() {
    let (folder, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let runtime = runtime();
    runtime.block_on(async {
        let mut talk = talk(open(folder.path(), Arc::new(RealDisk), clock()), clock()).await;
        for number in 0..50 {
            talk.request(&format!("set k{number} {number}"))
                .await
                .unwrap();
            if number == 20 {
                talk.core.store.folded().await.unwrap();
            }
        }
        talk.request("del k3").await.unwrap();
        // What a kill leaves at this very moment; a drop gives the threads time to end.
        copy_folder(folder.path(), kept.path());
    });
    for folder in [kept, folder] {
        runtime.block_on(async {
            let mut talk = talk(open(folder.path(), Arc::new(RealDisk), clock()), clock()).await;
            for number in 0..50 {
                let expected = (number != 3).then(|| number.to_string());
                assert_eq!(get(&mut talk, &format!("k{number}")).await, expected);
            }
        });
    }
}

/// How many syncs of files, and writes to files, the disk has seen so far.
fn syncs_and_writes(disk: &RecordingDisk) -> (usize, usize) {
    let recording = disk.recording();
    let count = |wanted: fn(&Operation) -> bool| recording.iter().filter(|it| wanted(it)).count();
    (
        count(|it| matches!(it, Operation::Sync(..))),
        count(|it| matches!(it, Operation::Write(..))),
    )
}

/// The log's thread sleeps until someone waits for an ack. What nobody waits for, such as what the
/// sweeper removes, must come into the log all the same.
#[test]
fn what_nobody_waits_for_is_written_too() {
    let folder = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        for sync in [SyncPolicy::Always, SyncPolicy::Interval(HOUR)] {
            let options = EmbeddedOptions { sync, ..options() };
            let disk = Arc::new(RealDisk);
            let store =
                EmbeddedStore::open(folder.path(), [1; 16], disk, Box::new(clock()), options);
            let store = store.unwrap();
            let mut last = 0;
            for number in 0..3_u8 {
                let snapshot = store.begin(ReadPoint::Newest).await.unwrap();
                let mut transaction = Transaction::new(snapshot, LIMITS);
                let value = Bytes::copy_from_slice(&[number]);
                let set = transaction.set(b"k", value, TimeToLive::Forever).await;
                set.unwrap();
                let (snapshot, commit) = transaction.into_commit(sync == SyncPolicy::Always);
                match store.commit(snapshot, commit).await.unwrap() {
                    CommitOutcome::Committed(sequence) => last = sequence,
                    CommitOutcome::Conflict => panic!("nobody else writes"),
                }
            }
            let written = async {
                while !store.is_acked(last) {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(PATIENCE, written).await.unwrap();
            store.close().await.unwrap();
        }
    });
}

#[test]
fn a_flush_syncs_what_was_acked_without_a_sync() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(RecordingDisk::new(folder.path()));
    runtime().block_on(async {
        let mut talk = talk(open(folder.path(), Arc::clone(&disk) as _, clock()), clock()).await;
        // The first commits of a run are synced in any case.
        talk.request("flush").await.unwrap();
        let (syncs, writes) = syncs_and_writes(&disk);
        for number in 0..10 {
            talk.request(&format!("set k {number}")).await.unwrap();
        }
        let (now_syncs, now_writes) = syncs_and_writes(&disk);
        assert_eq!(now_syncs, syncs, "nothing asked for a sync");
        assert!(now_writes > writes, "the kernel has it");
        talk.request("flush").await.unwrap();
        let recording = disk.recording();
        let is_write = |it: &Operation| matches!(it, Operation::Write(..));
        let last_write = recording.iter().rposition(is_write).unwrap();
        let Operation::Write(file, ..) = recording[last_write] else {
            unreachable!("it was looked for")
        };
        let is_covered = recording.iter().any(
            |it| matches!(it, Operation::Sync(synced, covered) if *synced == file && *covered > last_write),
        );
        assert!(is_covered, "the flush was answered before its sync");
    });
}

#[test]
fn a_flush_whose_sync_fails_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(FailingDisk::new(Arc::new(RealDisk)));
    runtime().block_on(async {
        let mut talk = talk(
            open(folder.path(), Arc::clone(&disk) as _, clock()),
            clock(),
        )
        .await;
        talk.request("flush").await.unwrap();
        talk.request("set k 1").await.unwrap();
        disk.fail(0, Failure::Broken, true);
        let store = &talk.core.store;
        let snapshot = store.begin(ReadPoint::Newest).await.unwrap();
        let commit = Commit {
            durable: true,
            ..Commit::default()
        };
        let CommitOutcome::Committed(sequence) = store.commit(snapshot, commit).await.unwrap()
        else {
            panic!("it has read nothing")
        };
        let acked = store.acked(sequence).await;
        assert!(
            matches!(acked, Err(StoreError::UnknownOutcome(_))),
            "{acked:?}"
        );
        // What was acknowledged before is still read, and writes are refused.
        assert_eq!(get(&mut talk, "k").await.as_deref(), Some("1"));
        let error = talk.request("set k 2").await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Unavailable, "{error}");
    });
}

#[test]
fn time_that_only_reads_saw_does_not_run_backwards_over_a_restart() {
    let (folder, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let runtime = runtime();
    runtime.block_on(async {
        let time = clock();
        let store = open(folder.path(), Arc::new(RealDisk), time.clone());
        let mut talk = talk(store, time.clone()).await;
        talk.request("set k 1 --ttl 5000").await.unwrap();
        for _ in 0..5 {
            assert_eq!(get(&mut talk, "k").await.as_deref(), Some("1"));
            time.advance(1_000);
        }
        assert_eq!(get(&mut talk, "k").await, None, "it has expired");
        copy_folder(folder.path(), kept.path());
    });
    for folder in [kept, folder] {
        runtime.block_on(async {
            let time = clock();
            time.set_back(60_000);
            let store = open(folder.path(), Arc::new(RealDisk), time.clone());
            let mut talk = talk(store, time).await;
            assert_eq!(get(&mut talk, "k").await, None, "it was seen gone before");
        });
    }
}

// After a stop in order the index was opened, which touches its files, before it was noted that a
// server runs on it. A kill in between left files that differed from their seal, and an index that had
// lost nothing was made anew from base and log, however large it was.
#[test]
fn a_start_that_is_cut_off_does_not_cost_the_index() {
    let runtime = runtime();
    for at in 0.. {
        let folder = tempfile::tempdir().unwrap();
        runtime.block_on(async {
            let store = open(folder.path(), Arc::new(RealDisk), clock());
            talk(store, clock()).await.core.store.close().await.unwrap();
        });
        let disk = FailingDisk::new(Arc::new(RealDisk));
        disk.fail(at, Failure::Broken, true);
        let cut_off = try_open(folder.path(), Arc::new(disk), clock());
        let is_over = cut_off.is_ok();
        drop(cut_off);
        drop(open(folder.path(), Arc::new(RealDisk), clock()));
        let aside = folder.path().join("sled.aside");
        assert!(!aside.exists(), "cut off at operation {at}");
        if is_over {
            assert!(at > 3, "the start met no failure");
            return;
        }
    }
}

// The seal of a stop in order was put on the index's files while sled had them open, which moves its
// pages about twice a second, also when nothing is asked of it. Now and then a server that had stopped
// in order made its index anew.
#[test]
fn the_index_is_sealed_after_it_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let state = || std::fs::read_to_string(folder.path().join("STATE")).unwrap();
    runtime().block_on(async {
        let store = open(folder.path(), Arc::new(RealDisk), clock());
        store.close().await.unwrap();
        assert!(state().starts_with("running"), "{}", state());
        drop(store);
        assert!(state().starts_with("stopped"), "{}", state());
    });
}

#[test]
fn stamps_do_not_run_backwards_while_the_clock_does() {
    let folder = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let time = clock();
        let store = open(folder.path(), Arc::new(RealDisk), time.clone());
        let first = store.begin(ReadPoint::Newest).await.unwrap().now_ms();
        time.advance(10);
        let later = store.begin(ReadPoint::Newest).await.unwrap().now_ms();
        time.set_back(5_000);
        let last = store.begin(ReadPoint::Newest).await.unwrap().now_ms();
        assert!(first < later && later <= last, "{first} {later} {last}");
    });
}

// After an unclean stop sequences skip ahead. A fold then noted the skipped numbers as applied, which
// no log could back: a second kill before the next commit had the index made anew; and a base that
// was due then waited for the log to be synced that far, for ever, and with it the stop of the server.
#[test]
fn the_numbers_that_are_skipped_after_a_kill_are_neither_folded_nor_in_a_base() {
    let (folder, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let runtime = runtime();
    runtime.block_on(async {
        let mut talk = talk(open(folder.path(), Arc::new(RealDisk), clock()), clock()).await;
        talk.request("set k 1").await.unwrap();
        copy_folder(folder.path(), kept.path());
    });
    let again = tempfile::tempdir().unwrap();
    runtime.block_on(async {
        let store = open(kept.path(), Arc::new(RealDisk), clock());
        let in_time = async {
            store.folded().await.unwrap();
            store.rebased().await.unwrap();
            copy_folder(kept.path(), again.path());
            store.close().await.unwrap();
        };
        let patience = Duration::from_secs(30);
        let ended = tokio::time::timeout(patience, in_time).await;
        if ended.is_err() {
            // A drop would wait for the thread that hangs.
            std::mem::forget(store);
            panic!("a fold, a base or the stop hangs");
        }
    });
    runtime.block_on(async {
        let store = open(again.path(), Arc::new(RealDisk), clock());
        let aside = again.path().join("sled.aside");
        assert!(!aside.exists(), "the index was made anew");
        assert_eq!(
            get(&mut talk(store, clock()).await, "k").await.as_deref(),
            Some("1")
        );
    });
}

/// A watcher that had been told of a commit which a power cut took was let in again behind it, and kept
/// for ever what nobody else had.
#[test]
fn a_watcher_of_numbers_that_were_skipped_is_told_where_to_begin_anew() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let clock = clock();
        let mut first = talk(
            open(folder.path(), Arc::new(RealDisk), clock.clone()),
            clock.clone(),
        )
        .await;
        first.request("set a 1").await.unwrap();
        let last = first.core.store.visible();
        drop(first);
        let mut second = talk(
            open(folder.path(), Arc::new(RealDisk), clock.clone()),
            clock,
        )
        .await;
        let skipped = second.core.store.visible();
        assert!(skipped > last + 1);
        for after in [last + 1, skipped - 2] {
            let mut feed = second.core.store.follow(Some(after)).await.unwrap();
            let error = feed.next().await.unwrap_err();
            let is_forgotten =
                matches!(error, StoreError::Forgotten { first, .. } if first == skipped);
            assert!(is_forgotten, "behind {after}: {error:?}");
        }
        for after in [last, skipped] {
            let mut feed = second.core.store.follow(Some(after)).await.unwrap();
            second.request("set a 2").await.unwrap();
            assert!(feed.next().await.unwrap()[0].sequence > skipped);
        }
    });
}
