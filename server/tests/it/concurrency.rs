//! Many clients at once: what never conflicts, what is never lost, what nobody waits for.

use bytes::Bytes;
use luge_protocol::{ErrorCode, Reply};
use luge_server::config::Config;
use luge_server::store::embedded::disk::RealDisk;
use luge_server::store::embedded::{EmbeddedOptions, EmbeddedStore};
use luge_server::store::{Decision, Store, Target, Write};
use std::sync::Arc;
use tokio::task::JoinSet;

use crate::support::{
    ManualClock, Push, Talk, ask, clock, open_embedded, open_memory, options, runtime,
};

/// A store without room for history and for a cache, which folds at every tick.
fn open_cramped(folder: &std::path::Path, clock: ManualClock) -> EmbeddedStore {
    let options = EmbeddedOptions {
        max_history_bytes: 0,
        cache_bytes: 0,
        fold_bytes: 0,
        max_unfolded_bytes: 16 << 10,
        ..options()
    };
    let disk = Arc::new(RealDisk);
    EmbeddedStore::open(folder, [1; 16], disk, Box::new(clock), options).unwrap()
}

/// Runs a test on the memory store, on the embedded one, and on one without any room.
macro_rules! on_all_stores {
    ($test:ident) => {
        let runtime = runtime();
        runtime.block_on($test(open_memory(&clock()), clock()));
        for open in [open_embedded, open_cramped] {
            let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
            runtime.block_on($test(open(folder.path(), clock.clone()), clock));
        }
    };
}

fn config() -> Config {
    Config {
        max_instances: 64,
        ..Config::default()
    }
}

async fn number<S: Store>(talk: &mut Talk<S>, key: &str) -> u64 {
    // Plain reads see what is acked, and the sessions did not wait for that.
    talk.request("flush").await.unwrap();
    let found = talk.request(&format!("get {key}")).await.unwrap();
    let Reply::Get(Some(found)) = found else {
        panic!("{key} holds {found:?}")
    };
    std::str::from_utf8(&found.0).unwrap().parse().unwrap()
}

async fn join(mut tasks: JoinSet<()>) {
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

#[test]
fn contended_increments_all_count() {
    // 8 sessions increment one key at once, half of the time in a procedure; conflicts are retried,
    // then run alone, so none is lost and none is told of a conflict.
    async fn contend<S: Store>(store: S, clock: ManualClock) {
        let mut talk = Talk::new(store, &config(), clock).await;
        let push = Push::new(
            "count",
            r#"(module
            (import "luge_v1" "kv_incr" (func $incr (param i32 i32 i64 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "n")
            (func (export "up") (result i32)
                (call $incr (i32.const 0) (i32.const 1) (i64.const 1) (i32.const 8))))"#,
        );
        talk.push(&push).await.unwrap();
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let mut session = talk.session();
            tasks.spawn(async move {
                for at in 0..50 {
                    let line = if at % 2 == 0 {
                        "incr n"
                    } else {
                        "call count.up"
                    };
                    ask(&mut session, line).await.unwrap();
                }
            });
        }
        join(tasks).await;
        assert_eq!(number(&mut talk, "n").await, 400);
    }
    let runtime = runtime();
    runtime.block_on(contend(open_memory(&clock()), clock()));
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    runtime.block_on(contend(open_embedded(folder.path(), clock.clone()), clock));
}

#[test]
fn commands_of_one_key_never_conflict_and_are_never_too_old() {
    async fn contend<S: Store>(store: S, clock: ManualClock) {
        let mut talk = Talk::new(store, &config(), clock).await;
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let mut session = talk.session();
            tasks.spawn(async move {
                for at in 0..40 {
                    for line in [
                        "incr n",
                        "set once 1 --if absent",
                        "set k 1 --if present",
                        "expire k 100000",
                        "persist k",
                        "set k 2 --keep-ttl",
                        "del k",
                    ] {
                        match ask(&mut session, line).await {
                            Ok(_) => {}
                            Err(error) if error.code() == ErrorCode::PreconditionFailed => {}
                            Err(error) => panic!("{line}, round {at}: {error}"),
                        }
                    }
                }
            });
        }
        join(tasks).await;
        assert_eq!(number(&mut talk, "n").await, 320);
        talk.core.store.close().await.unwrap();
    }
    on_all_stores!(contend);
}

#[test]
fn a_decision_on_one_key_is_made_once_on_the_newest_value() {
    async fn contend<S: Store>(store: S, _clock: ManualClock) {
        let store = Arc::new(store);
        let key = Bytes::from_static(b"dn");
        fn target(key: &Bytes) -> Target<'_> {
            Target {
                key,
                looks: true,
                durable: false,
            }
        }
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let (store, key) = (Arc::clone(&store), key.clone());
            tasks.spawn(async move {
                for _ in 0..50 {
                    let mut decisions = 0;
                    let evaluated = store.evaluate(target(&key), |entry, newest, _| {
                        decisions += 1;
                        let before = entry.map_or(0, |entry| {
                            assert!(entry.version <= newest, "it is from the future");
                            u64::from_be_bytes(entry.value[..].try_into().unwrap())
                        });
                        let value = Bytes::copy_from_slice(&(before + 1).to_be_bytes());
                        Decision {
                            write: Some(Write::Put {
                                value,
                                expires_ms: 0,
                            }),
                            outcome: before + 1,
                        }
                    });
                    let evaluated = evaluated.await.unwrap();
                    assert_eq!(decisions, 1);
                    assert_eq!(evaluated.committed, Some(evaluated.seen + 1));
                }
            });
        }
        join(tasks).await;
        let last = store.evaluate(target(&key), |entry, _, _| Decision {
            write: None,
            outcome: u64::from_be_bytes(entry.unwrap().value[..].try_into().unwrap()),
        });
        assert_eq!(last.await.unwrap().outcome, 400);
        store.close().await.unwrap();
    }
    on_all_stores!(contend);
}

#[test]
fn read_only_calls_never_conflict_and_see_one_moment() {
    // Writers move one unit between two keys by batches; a read-only procedure adds the two up, with
    // two reads.
    async fn contend<S: Store>(store: S, clock: ManualClock) {
        let mut talk = Talk::new(store, &config(), clock).await;
        let push = Push::new(
            "sum",
            r#"(module
            (import "luge_v1" "output_write" (func $output (param i32 i32)))
            (import "luge_v1" "kv_get" (func $get (param i32 i32 i32 i32 i32) (result i64)))
            (memory (export "memory") 1)
            (data (i32.const 0) "ab{\22procedure\22:\22both\22,\22read_only\22:true}")
            (func (export "metadata") (result i32)
                (call $output (i32.const 2) (i32.const 37)) (i32.const 0))
            (func (export "both") (result i32)
                (drop (call $get (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 100) (i32.const 2)))
                (drop (call $get (i32.const 1) (i32.const 1) (i32.const 0) (i32.const 102) (i32.const 2)))
                (call $output (i32.const 100) (i32.const 4))
                (i32.const 0)))"#,
        );
        talk.push(&push).await.unwrap();
        talk.request("batch set a 50; set b 50").await.unwrap();
        talk.request("flush").await.unwrap();
        let mut tasks = JoinSet::new();
        for sign in ["", "-"] {
            let mut session = talk.session();
            tasks.spawn(async move {
                let other = if sign.is_empty() { "-" } else { "" };
                for _ in 0..30 {
                    let line = format!("batch incr a {sign}1; incr b {other}1");
                    ask(&mut session, &line).await.unwrap();
                }
            });
        }
        for _ in 0..4 {
            let mut session = talk.session();
            tasks.spawn(async move {
                for _ in 0..100 {
                    let reply = ask(&mut session, "call sum.both").await.unwrap();
                    let Reply::Call(output) = reply else {
                        panic!("{reply:?}")
                    };
                    let text = std::str::from_utf8(&output.0).unwrap();
                    let (a, b) = text.split_at(2);
                    let sum = a.parse::<u64>().unwrap() + b.parse::<u64>().unwrap();
                    assert_eq!(sum, 100, "a is {a}, b is {b}");
                }
            });
        }
        join(tasks).await;
        talk.core.store.close().await.unwrap();
    }
    let runtime = runtime();
    runtime.block_on(contend(open_memory(&clock()), clock()));
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    runtime.block_on(contend(open_embedded(folder.path(), clock.clone()), clock));
}

// A one-key command handed on that its snapshot had been given up, though it needs none: where the
// history had no room, or a writer waited for room for longer than a snapshot may live, `incr` could
// be answered `too_old`. A flush, which reads nothing, too.
#[test]
fn without_room_for_history_nothing_that_needs_none_is_refused() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    let store = open_cramped(folder.path(), clock.clone());
    runtime().block_on(async {
        let talk = Talk::new(store, &config(), clock).await;
        let mut tasks = JoinSet::new();
        for key in ["a", "b", "c", "d"] {
            let mut session = talk.session();
            tasks.spawn(async move {
                for _ in 0..50 {
                    for line in ["set KEY 1", "incr KEY", "flush"] {
                        let line = line.replace("KEY", key);
                        let answer = ask(&mut session, &line).await;
                        answer.unwrap_or_else(|error| panic!("{line}: {error}"));
                    }
                }
            });
        }
        join(tasks).await;
        talk.core.store.close().await.unwrap();
    });
}
