//! The whole store on disks whose power was cut: what was acknowledged is there, and every commit is
//! whole or not there at all, whatever became of the writes that no sync covered and of the index.
//!
//! 300 images are tried; `LUGE_POWER_CUTS=10000 cargo test --release -p luge-server --test it
//! power_cut` tries more.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use luge_server::store::embedded::disk::{Disk, RealDisk};
use luge_server::store::embedded::{EmbeddedOptions, EmbeddedStore, SyncPolicy};
use luge_server::store::{
    Commit, CommitOutcome, KeyRange, PageLimit, ReadPoint, Snapshot, Store, Write,
};

use crate::support::disk::{FailingDisk, Failure, Operation, RecordingDisk, image};
use crate::support::{ManualClock, START_MS, copy_folder, options, runtime};

type Model = BTreeMap<Bytes, Bytes>;

/// Small files, so that a short history goes over many of them.
fn small(boot: &str, sync: SyncPolicy) -> EmbeddedOptions {
    EmbeddedOptions {
        sync,
        cache_bytes: 64 << 10,
        log_segment_bytes: 16 << 10,
        boot: boot.to_owned(),
        ..options()
    }
}

fn open(
    folder: &Path,
    disk: Arc<dyn Disk>,
    options: EmbeddedOptions,
) -> Result<EmbeddedStore, String> {
    let clock = Box::new(ManualClock::at(START_MS));
    EmbeddedStore::open(folder, [7; 16], disk, clock, options).map_err(|error| error.to_string())
}

/// The changes of the commit of this number. Every commit tells its number under one key, touches some
/// of a few others, and now and then has a value that lies in chunks.
fn changes(number: u64) -> Vec<(Bytes, Write)> {
    let mut dice = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut roll = |bound: u64| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        dice % bound
    };
    let mut changes = BTreeMap::new();
    for _ in 0..roll(5) {
        let key = Bytes::from(format!("dkey-{}", roll(30)));
        let write = match roll(4) {
            0 => Write::Delete,
            kind => {
                let length = if kind == 1 { roll(9_000) } else { roll(100) };
                put(format!("{number}-").repeat(usize::try_from(length).unwrap() / 8 + 1))
            }
        };
        changes.insert(key, write);
    }
    changes.insert(Bytes::from_static(b"dnumber"), put(number.to_string()));
    changes.into_iter().collect()
}

fn put(value: String) -> Write {
    Write::Put {
        value: Bytes::from(value),
        expires_ms: 0,
    }
}

/// What a store holds after the commits 1 to `number`.
fn model(number: u64) -> Model {
    let mut model = Model::new();
    for number in 1..=number {
        for (key, write) in changes(number) {
            match write {
                Write::Put { value, .. } => drop(model.insert(key, value)),
                _ => drop(model.remove(&key)),
            }
        }
    }
    model
}

async fn commit(store: &EmbeddedStore, number: u64, durable: bool) -> Result<u64, String> {
    let told = |error: luge_server::store::StoreError| error.to_string();
    let snapshot = store.begin(ReadPoint::Newest).await.map_err(told)?;
    let commit = Commit {
        writes: changes(number),
        durable,
        ..Commit::default()
    };
    match store.commit(snapshot, commit).await.map_err(told)? {
        CommitOutcome::Committed(sequence) => Ok(sequence),
        CommitOutcome::Conflict => panic!("it has read nothing"),
    }
}

async fn content(store: &EmbeddedStore) -> Model {
    let snapshot = store.begin(ReadPoint::Newest).await.unwrap();
    let mut range = KeyRange {
        start: Bytes::from_static(b"d"),
        end: Bytes::from_static(b"e"),
    };
    let limit = PageLimit {
        rows: 7,
        bytes: 1 << 20,
    };
    let mut rows = Model::new();
    loop {
        let page = snapshot.scan(&range, false, false, limit).await.unwrap();
        rows.extend(page.rows.into_iter().map(|(key, entry)| (key, entry.value)));
        let Some(reached) = page.reached else { break };
        range.start = [&reached[..], &[0]].concat().into();
    }
    for (key, value) in &rows {
        let entry = snapshot.get(key).await.unwrap().unwrap();
        assert_eq!(entry.value, *value, "{key:?} differs from its row");
    }
    rows
}

/// Holds a store to some prefix of the history, which has everything that was promised. Answers how
/// many commits it has.
async fn check(store: &EmbeddedStore, promised: u64, what: &str) -> u64 {
    let content = content(store).await;
    let number = content.get(&b"dnumber"[..]).map_or(0, |number| {
        std::str::from_utf8(number).unwrap().parse().unwrap()
    });
    assert!(
        number >= promised,
        "{what}: {promised} commits were promised, and {number} are there"
    );
    assert_eq!(
        content,
        model(number),
        "{what}: not what {number} commits make"
    );
    number
}

/// What was promised at which operation of the recording.
#[derive(Default)]
struct Ledger(Vec<(usize, u64)>);

impl Ledger {
    fn promise(&mut self, disk: &RecordingDisk, number: u64) {
        self.0.push((disk.count(), number));
    }

    fn promised(&self, upto: usize) -> u64 {
        let before = self.0.iter().filter(|(at, _)| *at <= upto);
        before.map(|(_, number)| *number).max().unwrap_or(0)
    }
}

/// Commits some more, each folded at once: beside a base they are newer than its beginning.
async fn go_on(store: &EmbeddedStore, from: u64, count: u64) {
    for number in from + 1..=from + count {
        commit(store, number, false).await.unwrap();
        store.folded().await.unwrap();
    }
}

/// Three runs on one disk: the first is killed, the second stops in order. Copies of sled's folder are
/// kept from in between.
async fn record(folder: &Path, copies: &Path, sync: SyncPolicy) -> (Vec<Operation>, Ledger) {
    let disk = Arc::new(RecordingDisk::new(folder));
    let mut ledger = Ledger::default();
    let mut number = 0;
    for run in 0..3 {
        let store = open(folder, Arc::clone(&disk) as _, small("a", sync)).unwrap();
        number = check(&store, number, "a restart").await;
        for step in 0..60 {
            number += 1;
            let sequence = commit(&store, number, sync == SyncPolicy::Always)
                .await
                .unwrap();
            if step % 3 == 0 {
                store.acked(sequence).await.unwrap();
                if sync == SyncPolicy::Always {
                    ledger.promise(&disk, number);
                }
            }
            match step {
                20 | 50 => store.folded().await.unwrap(),
                35 => {
                    let (based, ()) = tokio::join!(store.rebased(), go_on(&store, number, 6));
                    based.unwrap();
                    number += 6;
                }
                45 => {
                    // What is acknowledged as synced is promised at every level.
                    let sequence = commit(&store, number + 1, true).await.unwrap();
                    number += 1;
                    store.acked(sequence).await.unwrap();
                    ledger.promise(&disk, number);
                }
                _ => {}
            }
        }
        store.acked(store.visible()).await.unwrap();
        copy_folder(&folder.join("sled"), &copies.join(run.to_string()));
        if run == 1 {
            store.close().await.unwrap();
            ledger.promise(&disk, number);
        }
    }
    (disk.recording(), ledger)
}

/// Puts an index into the image that a power cut may have left: none, one from another time, or one
/// that is garbled or cut short.
fn leave_index(target: &Path, copies: &Path, seed: u64) {
    if seed.is_multiple_of(5) {
        return;
    }
    let sled = target.join("sled");
    copy_folder(&copies.join((seed % 3).to_string()), &sled);
    let database = sled.join("db");
    let mut bytes = fs::read(&database).unwrap();
    let length = bytes.len();
    let place = usize::try_from(seed.wrapping_mul(0x9E37_79B9) % length as u64).unwrap();
    match seed % 5 {
        1 => bytes.truncate(place),
        2 => bytes[place..(place + 4096).min(length)].fill(0x5A),
        3 => fs::remove_file(sled.join("conf")).unwrap(),
        _ => {}
    }
    fs::write(&database, bytes).unwrap();
}

/// Plants the bug that the environment names, to see that the power cuts find it.
#[cfg(feature = "seeded-bugs")]
fn seed_bug() {
    use luge_server::bugs::{Bug, seed};
    let name = std::env::var("SEEDED_BUG").unwrap_or_default();
    let bug = Bug::named(&name);
    assert_eq!(bug.is_none(), name.is_empty(), "there is no bug {name}");
    seed(bug);
}

#[cfg(not(feature = "seeded-bugs"))]
fn seed_bug() {}

fn power_cuts(sync: SyncPolicy) {
    seed_bug();
    let (folder, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let runtime = runtime();
    let (recording, ledger) = runtime.block_on(record(folder.path(), copies.path(), sync));
    let wanted = std::env::var("LUGE_POWER_CUTS").ok();
    let images = wanted.map_or(100, |wanted| wanted.parse::<u64>().unwrap() / 3);
    for at in 0..images {
        // All along the recording, each place with another choice of what was lost.
        let upto = usize::try_from(at * recording.len() as u64 / images).unwrap();
        let target = tempfile::tempdir().unwrap();
        image(&recording, upto, at, target.path());
        leave_index(target.path(), copies.path(), at);
        let what = format!("a power cut at operation {upto}, seed {at}");
        let promised = ledger.promised(upto);
        runtime.block_on(async {
            let store = match open(target.path(), Arc::new(RealDisk), small("b", sync)) {
                Ok(store) => store,
                // Without a name, no store had been promised.
                Err(error) if promised == 0 && error.contains("holds no Luge data") => return,
                Err(error) => panic!("{what}: {error}"),
            };
            let number = check(&store, promised, &what).await;
            // It goes on from there, and once more over a kill.
            let sequence = commit(&store, number + 1, true).await.unwrap();
            store.acked(sequence).await.unwrap();
            drop(store);
            let store = open(target.path(), Arc::new(RealDisk), small("b", sync)).unwrap();
            check(&store, number + 1, &what).await;
        });
    }
}

#[test]
fn what_was_acknowledged_survives_every_power_cut() {
    power_cuts(SyncPolicy::Always);
}

#[test]
fn with_syncs_on_the_clock_a_power_cut_leaves_a_prefix_and_what_was_asked_to_be_synced() {
    power_cuts(SyncPolicy::Interval(Duration::from_millis(3)));
}

#[test]
fn with_syncs_that_are_rare_a_base_is_not_ahead_of_the_log() {
    power_cuts(SyncPolicy::Interval(Duration::from_secs(60)));
}

/// A short history with a fold and a base. Answers how many commits were acknowledged, and whether all
/// went well.
async fn work(store: &EmbeddedStore, from: u64) -> (u64, bool) {
    let mut acknowledged = from;
    for number in from + 1..=from + 24 {
        let Ok(sequence) = commit(store, number, true).await else {
            return (acknowledged, false);
        };
        if store.acked(sequence).await.is_err() {
            return (acknowledged, false);
        }
        acknowledged = number;
        let went_well = match number % 24 {
            8 => store.folded().await,
            16 => store.rebased().await,
            _ => Ok(()),
        };
        if went_well.is_err() {
            return (acknowledged, false);
        }
    }
    (acknowledged, true)
}

/// The next operation of the disk fails, and that for each of them.
fn disk_failures(from_then_on: bool) {
    let runtime = runtime();
    let options = || small("a", SyncPolicy::Always);
    for at in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let failure = [Failure::Broken, Failure::Full, Failure::Short][at % 3];
        let disk = Arc::new(FailingDisk::new(Arc::new(RealDisk)));
        disk.fail(at, failure, from_then_on);
        let what = format!("operation {at} fails with {failure:?}");
        let is_over = runtime.block_on(async {
            let mut acknowledged = 0;
            if let Ok(store) = open(folder.path(), Arc::clone(&disk) as _, options()) {
                let failed = tokio::time::timeout(Duration::from_secs(30), work(&store, 0)).await;
                let (number, _) = failed.unwrap_or_else(|_| panic!("{what}: it hangs"));
                acknowledged = number;
                // Reads go on, and show nothing that was not acknowledged or that no commit made.
                check(&store, acknowledged, &what).await;
                drop(store.close().await);
            }
            let is_over = disk.count() <= at;
            disk.heal();
            let store = open(folder.path(), Arc::new(RealDisk), options());
            let store = store.unwrap_or_else(|error| panic!("{what}: {error}"));
            let number = check(&store, acknowledged, &what).await;
            let (_, is_well) = work(&store, number).await;
            assert!(is_well, "{what}: it does not go on");
            store.close().await.unwrap();
            is_over
        });
        if is_over {
            return;
        }
    }
}

#[test]
fn an_operation_of_the_disk_that_fails_once_loses_nothing_that_was_acknowledged() {
    disk_failures(false);
}

#[test]
fn a_disk_that_fails_from_some_operation_on_loses_nothing_that_was_acknowledged() {
    disk_failures(true);
}
