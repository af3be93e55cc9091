//! What a store and its folder survive.

use std::sync::Arc;

use luge_protocol::Reply;
use luge_server::config::Config;
use luge_server::store::embedded::disk::RealDisk;
use luge_server::store::embedded::{EmbeddedStore, FolderError};
use luge_server::store::{Commit, ReadPoint, Store, Write};

use crate::support::{
    ManualClock, Push, START_MS, Talk, copy_folder, open_embedded, options, runtime,
};

fn open(folder: &std::path::Path) -> Result<EmbeddedStore, FolderError> {
    let clock = Box::new(ManualClock::at(START_MS));
    EmbeddedStore::open(folder, [2; 16], Arc::new(RealDisk), clock, options())
}

/// The error of an opening that should fail.
fn refusal(folder: &std::path::Path) -> String {
    match open(folder) {
        Ok(_) => panic!("the folder should be refused"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn data_versions_times_to_live_and_modules_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let config = Config {
        max_instances: 16,
        ..Config::default()
    };
    runtime.block_on(async {
        let clock = ManualClock::at(START_MS);
        let store = open_embedded(folder.path(), clock.clone());
        let mut talk = Talk::new(store, &config, clock).await;
        let answer = Push::new("answer", r#"(module
            (import "luge_v1" "output_write" (func $output (param i32 i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "42")
            (func (export "run") (result i32) (call $output (i32.const 0) (i32.const 2)) (i32.const 0)))"#);
        talk.run("embedded", &[answer], "
            > set a 1
            v2
            > set b 2 --ttl 5000
            v3
            > del a
            deleted 1
            > set c 3
            v5
        ").await;
        talk.core.store.close().await.unwrap();
    });
    runtime.block_on(async {
        let clock = ManualClock::at(START_MS + 1000);
        let store = open_embedded(folder.path(), clock.clone());
        let mut talk = Talk::new(store, &config, clock).await;
        talk.run(
            "embedded",
            &[],
            "
            > get a
            nil
            > get c
            3 v5
            > ttl b
            4000ms
            > module.list
            answer 1*
            > call answer.run
            42
            > set d 4
            v6
        ",
        )
        .await;
        talk.core.store.close().await.unwrap();
    });
}

#[test]
fn after_an_unclean_stop_versions_skip_ahead_and_the_clock_does_not_run_backwards() {
    let folder = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let config = Config {
        max_instances: 16,
        ..Config::default()
    };
    runtime.block_on(async {
        let clock = ManualClock::at(START_MS);
        let store = open_embedded(folder.path(), clock.clone());
        let mut talk = Talk::new(store, &config, clock).await;
        talk.run(
            "embedded",
            &[],
            "
            > set a 1 --ttl 1000
            v1
            ~ 1000ms
            > set b 2
            v2
        ",
        )
        .await;
        // What a kill leaves behind: the files as they are, without a close.
        copy_folder(folder.path(), copy.path());
        talk.core.store.close().await.unwrap();
    });
    runtime.block_on(async {
        // The wall clock was set back in the meantime.
        let clock = ManualClock::at(START_MS - 500);
        let store = open_embedded(copy.path(), clock.clone());
        let mut talk = Talk::new(store, &config, clock).await;
        talk.run(
            "embedded",
            &[],
            "
            > get a
            nil
            > get b
            2 v2
            > set c 3
            v1000003
        ",
        )
        .await;
        talk.core.store.close().await.unwrap();
    });
}

#[test]
fn a_folder_that_another_server_has_open_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path()).unwrap();
    assert_eq!(
        refusal(folder.path()),
        format!(
            "the data folder {} is in use by another server; stop that one, or choose another folder with --data",
            folder.path().display()
        )
    );
    runtime().block_on(first.close()).unwrap();
    drop(first);
    open(folder.path()).unwrap();
}

#[test]
fn a_folder_with_something_else_in_it_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("thesis.tex"), "important").unwrap();
    assert!(refusal(folder.path()).contains("is not empty and holds no Luge data"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_folder_that_has_lost_its_log_is_refused_and_not_begun_again() {
    let folder = tempfile::tempdir().unwrap();
    runtime()
        .block_on(open(folder.path()).unwrap().close())
        .unwrap();
    let log = folder.path().join("log");
    std::fs::rename(&log, folder.path().join("elsewhere")).unwrap();
    let refusal = refusal(folder.path());
    assert!(refusal.contains("is gone; put the log back"), "{refusal}");
    std::fs::remove_dir_all(&log).unwrap();
    std::fs::rename(folder.path().join("elsewhere"), &log).unwrap();
    open(folder.path()).unwrap();
}

/// It was told that the folder holds no Luge data, and to choose another one.
#[test]
fn a_folder_that_has_lost_its_format_is_refused_and_told_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    runtime()
        .block_on(open(folder.path()).unwrap().close())
        .unwrap();
    std::fs::remove_file(folder.path().join("FORMAT")).unwrap();
    let refusal = refusal(folder.path());
    assert!(
        refusal.contains("has a log and no file FORMAT"),
        "{refusal}"
    );
}

#[test]
fn a_first_run_that_was_cut_off_is_begun_again() {
    let folder = tempfile::tempdir().unwrap();
    runtime()
        .block_on(open(folder.path()).unwrap().close())
        .unwrap();
    // The FORMAT file gets its name last: without it nothing was promised yet.
    let format = folder.path().join("FORMAT");
    std::fs::rename(&format, folder.path().join("FORMAT.new")).unwrap();
    open(folder.path()).unwrap();
}

#[test]
fn another_format_and_a_damaged_one_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).unwrap());
    let format = folder.path().join("FORMAT");
    wait_until_closed(folder.path());
    for other in [1, 9] {
        std::fs::write(&format, format!("luge-format {other}\nstore 00\n")).unwrap();
        let expected = format!("has format {other}, and this release reads format 2");
        assert!(refusal(folder.path()).contains(&expected));
    }
    std::fs::write(&format, "").unwrap();
    assert!(refusal(folder.path()).contains("is damaged"));
}

// The numbers that are skipped after a kill were in no log until the first commit. A store that was
// idle after a kill and then stopped went back to the numbers before, and its next start did not trust
// the index, which claimed more than the log; a base that was due waited for ever.
#[test]
fn what_an_unclean_stop_skips_stays_skipped_also_where_nothing_is_written_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let skipped = runtime.block_on(async {
        let store = open(folder.path()).unwrap();
        let snapshot = store.begin(ReadPoint::Newest).await.unwrap();
        let commit = Commit {
            writes: vec![("dkey".into(), Write::Delete)],
            durable: true,
            ..Commit::default()
        };
        store.commit(snapshot, commit).await.unwrap();
        store.acked(store.visible()).await.unwrap();
        // What a kill leaves behind.
        drop(store);
        let store = open(folder.path()).unwrap();
        let skipped = store.visible();
        assert!(skipped > 1_000_000);
        store.folded().await.unwrap();
        store.rebased().await.unwrap();
        store.close().await.unwrap();
        skipped
    });
    let again = open(folder.path()).unwrap();
    assert_eq!(again.visible(), skipped);
    assert!(!folder.path().join("sled.aside").exists());
}

/// A store that is dropped closes in its own thread; its lock tells when.
fn wait_until_closed(folder: &std::path::Path) {
    let lock = std::fs::File::open(folder.join("LOCK")).unwrap();
    lock.lock().unwrap();
}

#[test]
fn a_restart_keeps_the_id_of_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path()).unwrap();
    let id = first.id();
    runtime().block_on(first.close()).unwrap();
    drop(first);
    let (disk, clock) = (Arc::new(RealDisk), Box::new(ManualClock::at(1)));
    let again = EmbeddedStore::open(folder.path(), [9; 16], disk, clock, options()).unwrap();
    assert_eq!(again.id(), id);
}

#[test]
fn a_closed_store_takes_no_writes() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        max_instances: 16,
        ..Config::default()
    };
    runtime().block_on(async {
        let clock = ManualClock::at(START_MS);
        let store = open_embedded(folder.path(), clock.clone());
        let mut talk = Talk::new(store, &config, clock).await;
        talk.request("set a 1").await.unwrap();
        talk.core.store.close().await.unwrap();
        let error = talk.request("set a 2").await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "unavailable: the store takes no writes: it is closed"
        );
        let Reply::Get(Some(found)) = talk.request("get a").await.unwrap() else {
            panic!("a is there")
        };
        assert_eq!(found.0, "1");
    });
}
