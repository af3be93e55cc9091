//! How far back snapshots can be read: by age and by memory, and not a moment less.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use luge_server::store::embedded::disk::RealDisk;
use luge_server::store::embedded::{EmbeddedOptions, EmbeddedSnapshot, EmbeddedStore};
use luge_server::store::{
    Clock, Commit, CommitOutcome, ReadPoint, ReadSet, Snapshot, Store, StoreError, Write,
};

use crate::support::{START_MS, clock, options, runtime};

const KEY: &[u8] = b"dkey";

fn open(folder: &Path, options: EmbeddedOptions) -> EmbeddedStore {
    let clock = Box::new(clock());
    EmbeddedStore::open(folder, [1; 16], Arc::new(RealDisk), clock, options).unwrap()
}

async fn begin(store: &EmbeddedStore) -> EmbeddedSnapshot {
    store.begin(ReadPoint::Newest).await.unwrap()
}

/// Overwrites the key, and waits until that is acked.
async fn put(store: &EmbeddedStore, value: impl Into<Bytes>) {
    let commit = Commit {
        writes: vec![(Bytes::from_static(KEY), write(value))],
        ..Commit::default()
    };
    let snapshot = begin(store).await;
    match store.commit(snapshot, commit).await.unwrap() {
        CommitOutcome::Committed(sequence) => store.acked(sequence).await.unwrap(),
        CommitOutcome::Conflict => panic!("it has read nothing"),
    }
}

fn write(value: impl Into<Bytes>) -> Write {
    Write::Put {
        value: value.into(),
        expires_ms: 0,
    }
}

/// What the snapshot sees, if it can still be read.
async fn value(snapshot: &EmbeddedSnapshot) -> Option<Bytes> {
    match snapshot.get(KEY).await {
        Ok(entry) => Some(entry.unwrap().value),
        Err(StoreError::TooOld { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Lets the store's threads go on until the snapshot can't be read any more.
async fn outlive(store: &EmbeddedStore, snapshot: &EmbeddedSnapshot) {
    let gone = async {
        while value(snapshot).await.is_some() {
            store.folded().await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let patience = Duration::from_secs(30);
    tokio::time::timeout(patience, gone).await.unwrap();
}

#[test]
fn too_old_is_what_lived_longer_than_the_bound_and_is_not_the_newest() {
    let folder = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions {
        max_snapshot_age: Duration::from_millis(100),
        ..options()
    };
    runtime().block_on(async {
        let store = open(folder.path(), options);
        put(&store, "1").await;
        let old = begin(&store).await;
        put(&store, "2").await;
        let newest = begin(&store).await;
        assert_eq!(value(&old).await.unwrap(), "1");
        outlive(&store, &old).await;
        // As old, and nothing needs to be kept for it.
        assert_eq!(value(&newest).await.unwrap(), "2");
        let commit = Commit {
            reads: ReadSet {
                points: [Bytes::from_static(KEY)].into(),
                ..ReadSet::default()
            },
            writes: vec![(Bytes::from_static(b"dother"), write("1"))],
            ..Commit::default()
        };
        let refused = store.commit(old, commit.clone()).await;
        assert!(
            matches!(
                refused,
                Err(StoreError::TooOld { .. }) | Ok(CommitOutcome::Conflict)
            ),
            "{refused:?}"
        );
        let committed = store.commit(newest, commit).await.unwrap();
        assert!(matches!(committed, CommitOutcome::Committed(_)));
        store.close().await.unwrap();
    });
}

#[test]
fn a_snapshot_within_the_bounds_sees_its_moment_whatever_is_folded() {
    let folder = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions {
        cache_bytes: 0,
        fold_bytes: 0,
        ..options()
    };
    runtime().block_on(async {
        let store = open(folder.path(), options);
        let mut snapshots = Vec::new();
        for number in 0..20 {
            put(&store, number.to_string()).await;
            snapshots.push(begin(&store).await);
            store.folded().await.unwrap();
            for (number, snapshot) in snapshots.iter().enumerate() {
                assert_eq!(value(snapshot).await.unwrap(), number.to_string());
            }
        }
        store.close().await.unwrap();
    });
}

#[test]
fn too_old_is_the_oldest_where_history_has_no_room_and_only_that() {
    let folder = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions {
        max_history_bytes: 64 << 10,
        max_snapshot_age: Duration::from_secs(3_600),
        ..options()
    };
    runtime().block_on(async {
        let store = open(folder.path(), options);
        put(&store, "1").await;
        let old = begin(&store).await;
        for _ in 0..3 {
            put(&store, vec![7; 10 << 10]).await;
            store.folded().await.unwrap();
        }
        assert_eq!(value(&old).await.unwrap(), "1", "there is room");
        let young = begin(&store).await;
        // Each of these is seen by a snapshot of its own, so that it has to be kept.
        let mut between = Vec::new();
        for _ in 0..8 {
            put(&store, vec![8; 10 << 10]).await;
            between.push(begin(&store).await);
        }
        outlive(&store, &old).await;
        // What the oldest are given up for is there: a new one is readable as before.
        let newest = begin(&store).await;
        assert_eq!(value(&newest).await.unwrap(), vec![8; 10 << 10]);
        let (_, history) = store.memory_bytes();
        drop((young, between));
        store.folded().await.unwrap();
        assert!(history <= 128 << 10, "{history} bytes of history");
        store.close().await.unwrap();
    });
}

// The age of snapshots at one commit was counted from the first that had begun there, and so on an
// idle store, where each reader begins before the one before has ended, from long ago. With the next
// commit all of them were too old, also one that had begun a moment before.
#[test]
fn a_fresh_snapshot_is_not_as_old_as_those_that_began_at_the_same_commit() {
    let folder = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions {
        max_snapshot_age: Duration::from_secs(1),
        ..options()
    };
    runtime().block_on(async {
        let store = open(folder.path(), options);
        put(&store, "1").await;
        let measure = begin(&store).await;
        put(&store, "2").await;
        let _early = begin(&store).await;
        outlive(&store, &measure).await;
        let fresh = begin(&store).await;
        put(&store, "3").await;
        store.folded().await.unwrap();
        assert_eq!(value(&fresh).await.unwrap(), "2");
        store.close().await.unwrap();
    });
}

// A write that read nothing was answered `too_old` when the history behind its snapshot was gone by
// the time of its commit. A fresh snapshot is all that it needs.
#[test]
fn a_write_whose_snapshot_grew_too_old_is_tried_again() {
    use crate::support::{Talk, ask};
    use luge_server::config::Config;
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    // No room for history: whatever is replaced is forgotten once it is acked.
    let options = EmbeddedOptions {
        max_history_bytes: 0,
        ..options()
    };
    let (disk, id) = (Arc::new(RealDisk), [1; 16]);
    let store =
        EmbeddedStore::open(folder.path(), id, disk, Box::new(clock.clone()), options).unwrap();
    runtime().block_on(async {
        let config = Config {
            max_instances: 16,
            ..Config::default()
        };
        let talk = Talk::new(store, &config, clock).await;
        let mut tasks = tokio::task::JoinSet::new();
        for key in ["a", "b", "c", "d"] {
            let mut session = talk.session();
            tasks.spawn(async move {
                for _ in 0..50 {
                    ask(&mut session, &format!("set {key} 1")).await.unwrap();
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        talk.core.store.close().await.unwrap();
    });
}

/// A clock that holds up who asks for the time, when told to: a commit asks for it after it was
/// admitted and before it is validated.
#[derive(Clone, Default)]
struct HoldingClock {
    is_held: Arc<AtomicBool>,
    is_asked: Arc<AtomicBool>,
}

impl Clock for HoldingClock {
    fn now_ms(&self) -> u64 {
        // The store's own threads have names, and go on.
        let is_own = std::thread::current()
            .name()
            .is_some_and(|name| name.starts_with("luge-"));
        while !is_own && self.is_held.load(Ordering::SeqCst) {
            self.is_asked.store(true, Ordering::SeqCst);
            std::thread::yield_now();
        }
        START_MS
    }
}

// A commit asked whether its snapshot was still kept before it looked for newer versions, and not
// after. When the snapshot was given up in between, the newer version was folded and forgotten, and
// was not found: an update was lost.
#[test]
fn lost_update_of_a_snapshot_that_is_given_up_during_its_commit() {
    let folder = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions {
        max_snapshot_age: Duration::from_millis(200),
        cache_bytes: 0,
        fold_bytes: 0,
        ..options()
    };
    let clock = HoldingClock::default();
    let (disk, boxed) = (Arc::new(RealDisk), Box::new(clock.clone()));
    let store = EmbeddedStore::open(folder.path(), [1; 16], disk, boxed, options).unwrap();
    let store = Arc::new(store);
    runtime().block_on(async {
        put(&store, "1").await;
        let snapshot = begin(&store).await;
        assert_eq!(value(&snapshot).await.unwrap(), "1");
        put(&store, "2").await;
        clock.is_held.store(true, Ordering::SeqCst);
        let committing = {
            let store = Arc::clone(&store);
            let commit = Commit {
                reads: ReadSet {
                    points: [Bytes::from_static(KEY)].into(),
                    ..ReadSet::default()
                },
                writes: vec![(Bytes::from_static(KEY), write("1 and one more"))],
                ..Commit::default()
            };
            tokio::spawn(async move { store.commit(snapshot, commit).await })
        };
        let folded = async {
            while !clock.is_asked.load(Ordering::SeqCst) || store.memory_bytes().0 > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let patience = Duration::from_secs(30);
        tokio::time::timeout(patience, folded).await.unwrap();
        clock.is_held.store(false, Ordering::SeqCst);
        let outcome = committing.await.unwrap();
        assert!(
            matches!(outcome, Err(StoreError::TooOld { .. })),
            "{outcome:?}"
        );
        assert_eq!(value(&begin(&store).await).await.unwrap(), "2");
        store.close().await.unwrap();
    });
}
