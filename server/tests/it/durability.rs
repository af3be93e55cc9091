//! What survives which mishap, and what clients are told of it. The README has a table of it, which
//! names these tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use luge_client::{Client, Error, ScanOptions};
use luge_server::config::{Config, DurabilitySetting};
use luge_server::store::Store;
use luge_server::store::embedded::disk::RealDisk;
use luge_server::store::embedded::{EmbeddedOptions, EmbeddedStore, SyncPolicy, check};
use luge_server::testing::{self, TestServer};

use crate::support::disk::FailingDisk;
use crate::support::{ManualClock, START_MS, Talk, options, runtime};

/// Time enough for anything. Only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

type Answer<T> = Result<T, Error>;

async fn serve(folder: &Path, disk: &FailingDisk, durability: DurabilitySetting) -> TestServer {
    testing::start_on(folder, Arc::new(disk.clone()), |config| {
        config.durability = durability;
        config.min_free_disk_bytes = 1 << 20;
    })
    .await
}

/// Syncs on a clock that does not strike during a test.
const SELDOM: DurabilitySetting = DurabilitySetting::Interval(Duration::from_secs(60));

fn code<T: std::fmt::Debug>(answer: Answer<T>) -> String {
    match answer {
        Err(Error::Server(refused)) => refused.0,
        other => panic!("it should be refused, and is {other:?}"),
    }
}

async fn number(client: &Client, key: &str) -> u64 {
    let value = client.get(key).await.unwrap().unwrap();
    std::str::from_utf8(&value).unwrap().parse().unwrap()
}

#[test]
fn a_full_disk_refuses_writes_with_storage_and_they_go_on_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let disk = FailingDisk::new(Arc::new(RealDisk));
    runtime().block_on(async {
        let server = serve(folder.path(), &disk, DurabilitySetting::Always).await;
        let client = Client::connect(server.address()).await.unwrap();
        let mut written = 0;
        for _ in 0..2 {
            disk.leave(1000);
            let refused = async {
                loop {
                    match client.set("n", (written + 1).to_string()).await {
                        Ok(_) => written += 1,
                        Err(Error::Server(refused)) => break refused,
                        Err(other) => panic!("{other}"),
                    }
                }
            };
            let refused = tokio::time::timeout(PATIENCE, refused).await.unwrap();
            assert_eq!(refused.0, "storage");
            let message = refused.to_string();
            assert!(
                message.contains("has 1000 bytes left, and writes need 1048576"),
                "{message}"
            );
            assert_eq!(code(client.incr("n", 1).await), "storage");
            assert_eq!(code(client.del(&["n"]).await), "storage");
            assert_eq!(number(&client, "n").await, written);
            disk.leave(1 << 40);
            let goes_on = async {
                while client.set("n", (written + 1).to_string()).await.is_err() {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(PATIENCE, goes_on).await.unwrap();
            written += 1;
        }
        server.stop().unwrap();
        let server = serve(folder.path(), &disk, DurabilitySetting::Always).await;
        let client = Client::connect(server.address()).await.unwrap();
        assert_eq!(number(&client, "n").await, written);
    });
}

/// The server after a failed sync: no writes, and what was acknowledged can be read.
async fn takes_no_writes(client: &Client, acknowledged: u64) {
    assert_eq!(code(client.set("n", "0").await), "unavailable");
    assert_eq!(code(client.set("other", "0").await), "unavailable");
    assert_eq!(code(client.incr("n", 1).await), "unavailable");
    assert_eq!(code(client.flush().await), "unavailable");
    assert_eq!(number(client, "n").await, acknowledged);
    let mut rows = client.scan(ScanOptions::default());
    let row = rows.next().await.unwrap().unwrap();
    let expected = acknowledged.to_string();
    assert_eq!(
        (&row.key[..], &row.value[..]),
        (&b"n"[..], expected.as_bytes())
    );
    assert!(rows.next().await.unwrap().is_none());
}

#[test]
fn after_a_failed_sync_pending_writes_are_unknown_later_ones_unavailable_and_reads_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let disk = FailingDisk::new(Arc::new(RealDisk));
    runtime().block_on(async {
        let server = serve(folder.path(), &disk, DurabilitySetting::Always).await;
        let client = Client::connect(server.address()).await.unwrap();
        for written in 1..=20 {
            client.set("n", written.to_string()).await.unwrap();
        }
        disk.break_syncs();
        let pending = client.set("n", "21");
        assert_eq!(code(pending.await), "unknown_outcome");
        takes_no_writes(&client, 20).await;
        // It can't stop in order either, and says so.
        server.stop().unwrap_err();
        let whole = FailingDisk::new(Arc::new(RealDisk));
        let server = serve(folder.path(), &whole, DurabilitySetting::Always).await;
        let client = Client::connect(server.address()).await.unwrap();
        let found = number(&client, "n").await;
        assert!((20..=21).contains(&found), "{found}");
        client.set("n", "22").await.unwrap();
    });
}

#[test]
fn with_syncs_on_the_clock_a_failed_sync_tells_who_asked_for_always_and_stops_writes() {
    let folder = tempfile::tempdir().unwrap();
    let disk = FailingDisk::new(Arc::new(RealDisk));
    runtime().block_on(async {
        let server = serve(folder.path(), &disk, SELDOM).await;
        let client = Client::connect(server.address()).await.unwrap();
        client.durable().set("n", "1").await.unwrap();
        disk.break_syncs();
        // Nobody asked for a sync, so nobody is told that there could be none.
        client.set("n", "2").await.unwrap();
        assert_eq!(
            code(client.durable().set("n", "3").await),
            "unknown_outcome"
        );
        takes_no_writes(&client, 2).await;
        server.stop().unwrap_err();
        let whole = FailingDisk::new(Arc::new(RealDisk));
        let server = serve(folder.path(), &whole, SELDOM).await;
        let client = Client::connect(server.address()).await.unwrap();
        assert!((2..=3).contains(&number(&client, "n").await));
        client.set("n", "4").await.unwrap();
    });
}

/// A store in a folder, and what is asked of it.
struct Opened(Talk<EmbeddedStore>);

/// Small files, so that a short history has several.
fn small(sync: SyncPolicy) -> EmbeddedOptions {
    EmbeddedOptions {
        sync,
        log_segment_bytes: 16 << 10,
        ..options()
    }
}

async fn open(folder: &Path, sync: SyncPolicy) -> Result<Opened, String> {
    let clock = ManualClock::at(START_MS);
    let (disk, time) = (Arc::new(RealDisk), Box::new(clock.clone()));
    let store = EmbeddedStore::open(folder, [1; 16], disk, time, small(sync))
        .map_err(|error| error.to_string())?;
    let config = Config {
        max_instances: 16,
        ..Config::default()
    };
    Ok(Opened(Talk::new(store, &config, clock).await))
}

impl Opened {
    /// Sets these keys to their own number, one commit for each.
    async fn fill(&mut self, keys: std::ops::Range<u32>) {
        for key in keys {
            let line = format!("set key{key} {}", value(key));
            self.0.request(&line).await.unwrap();
        }
    }

    async fn has(&mut self, keys: u32) {
        let mut transcript = String::new();
        for key in 0..keys {
            transcript += &format!("> get key{key}\n{} v…\n", value(key));
        }
        transcript += &format!("> get key{keys}\nnil\n");
        self.0.run("embedded", &[], &transcript).await;
    }

    async fn close(self) {
        self.0.core.store.close().await.unwrap();
    }

    /// Leaves the folder as a kill does.
    fn kill(self) {
        drop(self);
    }
}

/// A value that is found nowhere else in a file.
fn value(key: u32) -> String {
    format!("-the-value-of-{key}-{}", "x".repeat(200))
}

/// Every file below a folder, but for the lock and for sled's, who changes them by looking.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("sled") {
            found.extend(files(&path));
        } else if path.is_file() && !path.ends_with("LOCK") {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

/// Flips a bit in the value of a key, in the file below this folder that has it; answers the file.
fn flip(folder: &Path, key: u32) -> PathBuf {
    let marker = format!("-the-value-of-{key}-");
    for (path, mut bytes) in files(folder) {
        let mut windows = bytes.windows(marker.len());
        if let Some(at) = windows.position(|window| window == marker.as_bytes()) {
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            return path;
        }
    }
    panic!("{marker} is in no file of {}", folder.display());
}

/// Whether the index was set aside, and another one made.
fn is_rebuilt(folder: &Path) -> bool {
    folder.join("sled.aside").exists()
}

/// Holds an opening to its refusal, which names the file, changes neither log nor base, and sets no
/// index aside.
async fn refused(folder: &Path, named: &[&str]) {
    let before = files(folder);
    for _ in 0..2 {
        let Err(refusal) = open(folder, SyncPolicy::Always).await else {
            panic!("the folder should be refused: {named:?}");
        };
        for part in named {
            assert!(refusal.contains(part), "{part:?} is not in {refusal}");
        }
        assert!(!refusal.contains('\n'), "{refusal}");
    }
    let after = files(folder);
    let changed: Vec<_> = before
        .keys()
        .chain(after.keys())
        // STATE tells that the index was about to be opened.
        .filter(|path| !path.ends_with("STATE") && before.get(*path) != after.get(*path))
        .collect();
    assert!(changed.is_empty(), "a refused start changed {changed:?}");
}

#[test]
fn a_byte_flipped_in_the_middle_of_the_log_is_refused_with_its_place_and_left_as_it_is() {
    runtime().block_on(async {
        for is_folded in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let mut store = open(folder.path(), SyncPolicy::Always).await.unwrap();
            store.fill(0..20).await;
            if is_folded {
                store.0.core.store.folded().await.unwrap();
            }
            store.fill(20..40).await;
            store.kill();
            let file = flip(&folder.path().join("log"), 30);
            refused(
                folder.path(),
                &[file.to_str().unwrap(), ", byte ", "durable"],
            )
            .await;
            let found = check(folder.path()).unwrap_err().to_string();
            assert!(found.contains(file.to_str().unwrap()), "{found}");
            // With the file as it was, nothing is lost.
            let mut bytes = fs::read(&file).unwrap();
            let marker = "-the-value-of-30-";
            let at = bytes
                .windows(marker.len())
                .position(|it| it[1..] == marker.as_bytes()[1..]);
            bytes[at.unwrap()] ^= 1;
            fs::write(&file, bytes).unwrap();
            let mut store = open(folder.path(), SyncPolicy::Always).await.unwrap();
            store.has(40).await;
            store.close().await;
        }
    });
}

#[test]
fn a_torn_end_of_the_log_is_cut_off_after_a_kill() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let never = SyncPolicy::Interval(PATIENCE);
        let mut store = open(folder.path(), never).await.unwrap();
        store.fill(0..10).await;
        store.kill();
        let file = flip(&folder.path().join("log"), 9);
        let torn = check(folder.path()).unwrap().torn.unwrap();
        assert_eq!(torn.0, file.to_str().unwrap());
        let mut store = open(folder.path(), never).await.unwrap();
        store.has(9).await;
        store.fill(9..12).await;
        store.kill();
        let mut store = open(folder.path(), never).await.unwrap();
        store.has(12).await;
    });
}

// A log that ended early was cut off like a torn one also where the server had stopped in order: then
// its last mark had been synced, so whatever is missing had been promised.
#[test]
fn a_log_that_has_lost_its_end_after_a_stop_in_order_is_refused() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(folder.path(), SyncPolicy::Always).await.unwrap();
        store.fill(0..10).await;
        store.close().await;
        let log = folder.path().join("log");
        let bytes: usize = files(&log).values().map(Vec::len).sum();
        assert!(bytes < 1 << 16, "what was reserved is given back: {bytes}");
        let (last, whole) = files(&log)
            .into_iter()
            .rfind(|(_, bytes)| bytes.iter().any(|byte| *byte != 0))
            .unwrap();
        let end = whole.iter().rposition(|byte| *byte != 0).unwrap();
        let mut flipped = whole.clone();
        flipped[end] ^= 0xFF;
        let mut blank = whole.clone();
        blank[end - 40..].fill(0);
        for lost in [flipped, blank, whole[..end - 100].to_vec()] {
            fs::write(&last, lost).unwrap();
            refused(folder.path(), &[log.to_str().unwrap(), "has lost its end"]).await;
            let found = check(folder.path()).unwrap_err().to_string();
            assert!(found.contains("has lost its end"), "{found}");
        }
        fs::write(&last, whole).unwrap();
        open(folder.path(), SyncPolicy::Always)
            .await
            .unwrap()
            .has(10)
            .await;
    });
}

#[test]
fn a_damaged_base_is_refused_when_a_rebuild_needs_it_and_found_by_a_check_before() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(folder.path(), SyncPolicy::Always).await.unwrap();
        store.fill(0..20).await;
        store.0.core.store.rebased().await.unwrap();
        store.fill(20..30).await;
        store.close().await;
        let base = flip(&folder.path().join("base"), 10);
        let base = base.to_str().unwrap();
        // The index is whole, and nobody reads the base.
        let mut store = open(folder.path(), SyncPolicy::Always).await.unwrap();
        store.has(30).await;
        store.close().await;
        let found = check(folder.path()).unwrap_err().to_string();
        assert!(found.contains(base) && found.contains("byte"), "{found}");
        fs::write(folder.path().join("STATE"), "doubtful\n").unwrap();
        refused(folder.path(), &[base, "damaged at byte"]).await;
        // Without the index there is nothing else to take the store from.
        fs::remove_dir_all(folder.path().join("sled")).unwrap();
        refused(folder.path(), &[base, "damaged at byte"]).await;
    });
}

/// What may become of sled's files.
fn spoil(sled: &Path, how: &str, older: &Path) {
    let database = sled.join("db");
    let mut bytes = fs::read(&database).unwrap();
    let middle = bytes.len() / 2;
    match how {
        "garbled" => bytes[middle] ^= 1,
        "truncated" => bytes.truncate(middle),
        "emptied" => bytes.clear(),
        "without its configuration" => fs::remove_file(sled.join("conf")).unwrap(),
        "deleted" => return fs::remove_dir_all(sled).unwrap(),
        "rolled back" => {
            fs::remove_dir_all(sled).unwrap();
            return copy_folder(older, sled);
        }
        other => panic!("{other}"),
    }
    fs::write(&database, bytes).unwrap();
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let path = file.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            fs::copy(path, target).unwrap();
        }
    }
}

#[test]
fn an_index_that_was_changed_after_a_stop_in_order_is_noticed_and_made_anew() {
    runtime().block_on(async {
        for how in [
            "garbled",
            "truncated",
            "emptied",
            "without its configuration",
            "deleted",
            "rolled back",
        ] {
            let (folder, older) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let sled = folder.path().join("sled");
            let mut store = open(folder.path(), SyncPolicy::Always).await.unwrap();
            store.fill(0..20).await;
            store.0.core.store.rebased().await.unwrap();
            store.close().await;
            copy_folder(&sled, older.path());
            let mut store = open(folder.path(), SyncPolicy::Always).await.unwrap();
            store.fill(20..30).await;
            store.0.core.store.folded().await.unwrap();
            store.close().await;
            assert!(!is_rebuilt(folder.path()));
            spoil(&sled, how, older.path());
            let mut store = open(folder.path(), SyncPolicy::Always).await.unwrap();
            assert_eq!(is_rebuilt(folder.path()), how != "deleted", "{how}");
            store.has(30).await;
            store.fill(30..31).await;
            store.close().await;
            let mut store = open(folder.path(), SyncPolicy::Always).await.unwrap();
            store.has(31).await;
        }
    });
}

#[test]
fn an_index_that_is_older_or_not_there_after_a_kill_is_brought_up_to_the_log() {
    runtime().block_on(async {
        for how in ["deleted", "rolled back"] {
            let (folder, older) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let sled = folder.path().join("sled");
            let mut store = open(folder.path(), SyncPolicy::Always).await.unwrap();
            store.fill(0..20).await;
            store.0.core.store.folded().await.unwrap();
            store.kill();
            copy_folder(&sled, older.path());
            let mut store = open(folder.path(), SyncPolicy::Always).await.unwrap();
            store.fill(20..30).await;
            store.0.core.store.folded().await.unwrap();
            store.kill();
            spoil(&sled, how, older.path());
            let mut store = open(folder.path(), SyncPolicy::Always).await.unwrap();
            store.has(30).await;
        }
    });
}

// A server that is killed while sled begins to write a snapshot of its own leaves an empty file with a name
// such as `snap.00000000000006E2.generating`. When sled 0.34.7 opens the folder, it takes the last of such
// names for its newest snapshot, finds it too short to be one, and opens nothing, ever again.
#[test]
fn an_index_that_sled_can_t_open_after_a_kill_is_made_anew() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let sled = folder.path().join("sled");
        let mut store = open(folder.path(), SyncPolicy::Always).await.unwrap();
        store.fill(0..20).await;
        store.0.core.store.rebased().await.unwrap();
        store.fill(20..30).await;
        store.0.core.store.folded().await.unwrap();
        store.kill();
        fs::write(sled.join("snap.00000000000006E2.generating"), "").unwrap();
        let mut store = open(folder.path(), SyncPolicy::Always).await.unwrap();
        assert!(is_rebuilt(folder.path()), "sled opened it");
        store.has(30).await;
        store.close().await;
    });
}
