//! What `watch` and `backup` tell, on both stores, without sockets.

use std::sync::Arc;

use luge_protocol::{ErrorReply, Reply};
use luge_server::config::Config;
use luge_server::session::Stream;
use luge_server::store::embedded::disk::RealDisk;
use luge_server::store::embedded::{EmbeddedOptions, EmbeddedStore, restore};
use luge_server::store::{
    Commit, CommitOutcome, KeyRange, MemoryStore, PageLimit, ReadPoint, Snapshot, Store, Write,
    WriteSet,
};
use luge_server::transaction::Keyspace;
use luge_server::udf::WasmRuntime;

use crate::support::{
    ManualClock, Push, START_MS, Talk, TestSession, ask, open_embedded, options, rendered, runtime,
};

type TestStream<S> = Stream<S, WasmRuntime<<S as Store>::Snapshot>>;

/// A hook that stands around every `get` of a key that begins with `secret:`.
const MASK: &str = r#"(module
    (import "luge_v1" "output_write" (func $write (param i32 i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "{\"hook\": \"mask\", \"phase\": \"response\", \"commands\": [\"get\"], \"prefix\": \"secret:\"}")
    (func (export "metadata") (result i32)
        (call $write (i32.const 0) (i32.const 79)) (i32.const 0))
    (func (export "mask") (result i32) (i32.const 0)))"#;

fn config() -> Config {
    Config {
        max_instances: 16,
        max_streams: 2,
        ..Config::default()
    }
}

/// Runs a test on the memory store and on the embedded one.
macro_rules! on_both {
    ($test:ident) => {
        runtime().block_on(async {
            let clock = ManualClock::at(START_MS);
            let memory = MemoryStore::new([1; 16], Box::new(clock.clone()));
            $test(Talk::new(memory, &config(), clock).await).await;
            let clock = ManualClock::at(START_MS);
            let folder = tempfile::tempdir().unwrap();
            let embedded = open_embedded(folder.path(), clock.clone());
            $test(Talk::new(embedded, &config(), clock).await).await;
        });
    };
}

/// Begins a stream; answers its first response, too.
async fn begin<S: Store>(
    session: &mut TestSession<S>,
    line: &str,
) -> Result<(String, TestStream<S>), ErrorReply> {
    let first = ask(session, line).await?;
    Ok((rendered(Ok(first)), session.begun().unwrap()))
}

/// The next events, as lines.
async fn told<S: Store>(stream: &mut TestStream<S>, events: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for _ in 0..events {
        lines.push(rendered(Ok(stream.next().await.unwrap().unwrap())));
        stream.told();
    }
    lines
}

async fn requests<S: Store>(talk: &mut Talk<S>, lines: &[&str]) {
    for line in lines {
        talk.request(line).await.unwrap();
    }
}

fn resumes_at(error: &ErrorReply) -> u64 {
    error.details().sequence.unwrap()
}

#[test]
fn commits_are_told_in_order_each_as_a_whole() {
    async fn test<S: Store>(mut talk: Talk<S>) {
        requests(&mut talk, &["set before 0"]).await;
        let mut session = talk.session();
        let (first, mut all) = begin(&mut session, "watch").await.unwrap();
        assert_eq!(first, "v1:");
        let mut session = talk.session();
        let (_, mut users) = begin(&mut session, "watch user:").await.unwrap();
        let mut session = talk.session();
        let (_, mut keys) = begin(&mut session, "watch user: --keys").await.unwrap();
        let lines = [
            "set user:1 Ada --ttl 5000",
            "batch set user:2 Grace; set other x; del user:1; incr count 5",
            "set other y",
            "del none",
            "persist user:2",
            "expire user:2 70",
            "del other user:2",
        ];
        requests(&mut talk, &lines).await;
        let expected = [
            "v2: user:1=Ada@1005000",
            "v3: count=5 other=x user:1 del user:2=Grace",
            "v4: other=y",
            "v5: user:2=Grace@1000070",
            "v6: other del user:2 del",
        ];
        assert_eq!(told(&mut all, 5).await, expected);
        let expected = [
            "v2: user:1=Ada@1005000",
            "v3: user:1 del user:2=Grace",
            "v5: user:2=Grace@1000070",
            "v6: user:2 del",
        ];
        assert_eq!(told(&mut users, 4).await, expected);
        let expected = [
            "v2: user:1@1005000",
            "v3: user:1 del user:2",
            "v5: user:2@1000070",
            "v6: user:2 del",
        ];
        assert_eq!(told(&mut keys, 4).await, expected);
    }
    on_both!(test);
}

#[test]
fn a_watch_begins_at_the_commit_that_is_asked_for() {
    async fn test<S: Store>(mut talk: Talk<S>) {
        requests(&mut talk, &["set a 1", "set a 2", "set a 3"]).await;
        for (from, begins, tells) in [(0, "v0:", 3), (1, "v0:", 3), (3, "v2:", 1), (4, "v3:", 0)] {
            let mut session = talk.session();
            let line = format!("watch a --from {from}");
            let (first, mut stream) = begin(&mut session, &line).await.unwrap();
            assert_eq!(first, begins);
            let lines = told(&mut stream, tells).await;
            let expected = (4 - tells..4).map(|n| format!("v{n}: a={n}"));
            assert_eq!(lines, expected.collect::<Vec<_>>());
        }
        let mut session = talk.session();
        let error = begin(&mut session, "watch a --from 5").await.err().unwrap();
        assert!(
            error
                .to_string()
                .starts_with("bad_request: the sequence 5 lies ahead of the newest commit, 3"),
            "{error}"
        );
        assert_eq!(resumes_at(&error), 4);
    }
    on_both!(test);
}

#[test]
fn a_key_whose_time_has_come_is_told_as_expired_when_it_is_removed() {
    async fn test<S: Store>(mut talk: Talk<S>) {
        let mut session = talk.session();
        let (_, mut stream) = begin(&mut session, "watch").await.unwrap();
        requests(&mut talk, &["set a 1 --ttl 10"]).await;
        let store = &talk.core.store;
        let snapshot = store.begin(ReadPoint::Newest).await.unwrap();
        let commit = Commit {
            writes: WriteSet::from([(Keyspace::Data.key(b"a"), Write::Expire)]),
            ..Commit::default()
        };
        let outcome = store.commit(snapshot, commit).await.unwrap();
        assert!(matches!(outcome, CommitOutcome::Committed(2)));
        let lines = told(&mut stream, 2).await;
        assert_eq!(lines, ["v1: a=1@1000010", "v2: a expire"]);
    }
    on_both!(test);
}

#[test]
fn values_behind_hooks_are_not_told() {
    async fn test<S: Store>(mut talk: Talk<S>) {
        let mut session = talk.session();
        let (_, mut all) = begin(&mut session, "watch").await.unwrap();
        let mut session = talk.session();
        let (_, mut users) = begin(&mut session, "watch user:").await.unwrap();
        requests(&mut talk, &["set user:1 Ada"]).await;
        assert_eq!(told(&mut all, 1).await, ["v1: user:1=Ada"]);
        talk.push(&Push::new("mask", MASK)).await.unwrap();
        requests(&mut talk, &["set secret:1 x", "set user:2 Grace"]).await;
        let error = all.next().await.unwrap_err();
        assert!(error.to_string().starts_with("forbidden: "), "{error}");
        assert_eq!(resumes_at(&error), 2);
        let lines = told(&mut users, 2).await;
        assert_eq!(lines, ["v1: user:1=Ada", "v4: user:2=Grace"]);
        for line in ["watch secret:", "watch secret:1", "watch sec", "watch"] {
            let error = begin(&mut talk.session(), line).await.err().unwrap();
            assert!(error.to_string().starts_with("forbidden: "), "{error}");
        }
        let mut session = talk.session();
        let (_, mut keys) = begin(&mut session, "watch --keys --from 2").await.unwrap();
        assert_eq!(told(&mut keys, 2).await, ["v3: secret:1", "v4: user:2"]);
    }
    on_both!(test);
}

#[test]
fn a_session_has_so_many_streams_and_no_two_of_one_id() {
    async fn test<S: Store>(talk: Talk<S>) {
        let mut session = talk.session();
        let (_, stream) = begin(&mut session, "watch a").await.unwrap();
        let error = begin(&mut session, "backup").await.err().unwrap();
        assert_eq!(
            error.to_string(),
            "bad_request: the request 1 has a stream that has not ended; take another id"
        );
        let stopped = stream.stopped();
        ask(&mut session, "stop 2").await.unwrap();
        ask(&mut session, "stop 1").await.unwrap();
        stopped.await;
        let place = stream.release();
        ask(&mut session, "stop 1").await.unwrap();
        let (first, backup) = begin(&mut session, "backup").await.unwrap();
        assert_eq!(first, "piece of 0");
        drop((place, backup));
        let long = format!("watch {}", "x".repeat(1_025));
        let error = begin(&mut session, &long).await.err().unwrap();
        assert_eq!(
            error.to_string(),
            "too_large: prefix of 1025 bytes exceeds the limit of 1024 for a key (`max_key_bytes`)"
        );
    }
    on_both!(test);
}

#[test]
fn every_watcher_is_told_everything() {
    async fn test<S: Store>(mut talk: Talk<S>) {
        let mut streams = Vec::new();
        for _ in 0..200 {
            let mut session = talk.session();
            let (_, stream) = begin(&mut session, "watch k").await.unwrap();
            streams.push((session, stream));
        }
        for number in 0..5 {
            talk.request(&format!("set k {number}")).await.unwrap();
        }
        let expected: Vec<_> = (0..5).map(|n| format!("v{}: k={n}", n + 1)).collect();
        for (_, stream) in &mut streams {
            assert_eq!(told(stream, 5).await, expected);
        }
    }
    on_both!(test);
}

#[test]
fn who_falls_behind_is_told_the_first_commit_that_is_kept() {
    runtime().block_on(async {
        let clock = ManualClock::at(START_MS);
        let memory = MemoryStore::new([1; 16], Box::new(clock.clone()));
        let mut talk = Talk::new(memory, &config(), clock).await;
        let mut session = talk.session();
        let (_, mut slow) = begin(&mut session, "watch").await.unwrap();
        for _ in 0..10_005 {
            talk.request("incr n").await.unwrap();
        }
        let ended = slow.next().await.unwrap_err();
        let error = begin(&mut talk.session(), "watch --from 2").await;
        let error = error.err().unwrap();
        for error in [ended, error] {
            assert!(error.to_string().starts_with("too_old: "), "{error}");
            let first = resumes_at(&error);
            assert_eq!(first, 6);
            let mut session = talk.session();
            let line = format!("watch --from {first}");
            let (_, mut stream) = begin(&mut session, &line).await.unwrap();
            assert_eq!(told(&mut stream, 1).await, ["v6: n=6"]);
        }
    });
}

#[test]
fn who_falls_behind_the_log_is_told_the_first_commit_that_it_still_has() {
    let clock = ManualClock::at(START_MS);
    let folder = tempfile::tempdir().unwrap();
    let small = EmbeddedOptions {
        base_log_bytes: 1 << 20,
        fold_log_bytes: 1 << 20,
        max_kept_log_bytes: 1 << 20,
        ..options()
    };
    let disk = Arc::new(RealDisk);
    let time = Box::new(clock.clone());
    let store = EmbeddedStore::open(folder.path(), [1; 16], disk, time, small).unwrap();
    runtime().block_on(async {
        let mut talk = Talk::new(store, &config(), clock).await;
        let mut session = talk.session();
        let (_, mut slow) = begin(&mut session, "watch").await.unwrap();
        let line = format!("set k {}", "v".repeat(100 << 10));
        let error = loop {
            talk.request(&line).await.unwrap();
            if let Err(error) = begin(&mut talk.session(), "watch --from 1").await
                // More than the one file that the watcher may have open is gone.
                && resumes_at(&error) > 40
            {
                break error;
            }
        };
        assert!(error.to_string().starts_with("too_old: "), "{error}");
        let mut told_up_to = 0;
        let error = loop {
            match slow.next().await {
                Ok(Some(Reply::Event(event))) => {
                    assert_eq!(event.sequence, told_up_to + 1);
                    told_up_to = event.sequence;
                }
                Ok(other) => panic!("{other:?}"),
                Err(error) => break error,
            }
        };
        assert!(error.to_string().starts_with("too_old: "), "{error}");
        let first = resumes_at(&error);
        assert!(first > told_up_to + 1, "{first} after {told_up_to}");
        // The store is still letting go of what it does not need, so what it says first may be late.
        let mut first = first;
        loop {
            let mut session = talk.session();
            let line = format!("watch --keys --from {first}");
            let next = match begin(&mut session, &line).await {
                Ok((_, mut stream)) => stream.next().await,
                Err(error) => Err(error),
            };
            match next {
                Ok(Some(Reply::Event(event))) => {
                    assert_eq!(event.sequence, first);
                    return;
                }
                Ok(other) => panic!("{other:?}"),
                Err(error) => {
                    assert!(error.to_string().starts_with("too_old: "), "{error}");
                    assert!(resumes_at(&error) > first);
                    first = resumes_at(&error);
                }
            }
        }
    });
}

/// Every key as a store shows it that was made from a backup, and the version of the newest.
async fn restored(backup: &[u8]) -> (tempfile::TempDir, EmbeddedStore) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup");
    std::fs::write(&file, backup).unwrap();
    let data = folder.path().join("data");
    restore(&file, &data, [9; 16]).unwrap();
    let store = open_embedded(&data, ManualClock::at(START_MS));
    (folder, store)
}

#[test]
fn a_backup_during_writes_shows_one_moment() {
    const KEYS: usize = 40;
    async fn sum(store: &EmbeddedStore) -> i64 {
        let snapshot = store.begin(ReadPoint::Newest).await.unwrap();
        let range: KeyRange = Keyspace::Data.range(b"", b"");
        let limit = PageLimit {
            rows: 1_000,
            bytes: 1 << 20,
        };
        let page = snapshot.scan(&range, false, false, limit).await.unwrap();
        assert_eq!(page.rows.len(), KEYS);
        let number = |value: &[u8]| -> i64 { std::str::from_utf8(value).unwrap().parse().unwrap() };
        page.rows
            .iter()
            .map(|(_, entry)| number(&entry.value))
            .sum()
    }
    async fn test<S: Store>(mut talk: Talk<S>) {
        for key in 0..KEYS {
            talk.request(&format!("set k{key} 100")).await.unwrap();
        }
        let mut sums = Vec::new();
        for round in 0..5 {
            let mut session = talk.session();
            let (_, mut stream) = begin(&mut session, "backup").await.unwrap();
            let mut copy = Vec::new();
            let mut turn = round;
            // Each piece is taken between two writes that move between keys.
            while let Some(reply) = stream.next().await.unwrap() {
                let Reply::Piece(piece) = reply else {
                    panic!("{reply:?} is no piece");
                };
                copy.extend_from_slice(&piece);
                turn += 7;
                let (from, to) = (turn % KEYS, (turn * 3 + 1) % KEYS);
                let line = format!("batch incr k{from} -9; incr k{to} 9");
                talk.request(&line).await.unwrap();
            }
            let (_folder, store) = restored(&copy).await;
            sums.push(sum(&store).await);
            store.close().await.unwrap();
        }
        assert_eq!(sums, [100 * 40; 5]);
    }
    on_both!(test);
}
