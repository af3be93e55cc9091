use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use luge_protocol::{Command, Get, LimitsRequest, NoArguments, Reply, Request};
use luge_server::config::Config;
use luge_server::function::{Call, Stage};
use luge_server::store::{Commit, MemoryStore, ReadPoint, Snapshot, Store, Write};
use luge_server::transaction::{TimeToLive, Transaction, WriteLimits};

use crate::support::{
    ManualClock, Push, START_MS, Talk, ask, check, check_with, now, open_embedded, refused, runtime,
};
use crate::wire::Peer;

const LIMITS: WriteLimits = WriteLimits {
    keys: 100,
    bytes: 1 << 20,
};

fn small() -> Config {
    Config {
        max_instances: 16,
        ..Config::default()
    }
}

/// A snapshot at an older sequence was given the newest time: it saw a key as expired that a commit
/// outside of it had still read as live.
#[test]
fn a_snapshots_time_does_not_exceed_the_stamp_of_the_first_commit_outside_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(START_MS);
    let store = open_embedded(folder.path(), clock.clone());
    runtime().block_on(async {
        for round in 0..100 {
            let stamp_ms = START_MS + round * 10;
            let write = Write::Put {
                value: Bytes::from_static(b"v"),
                expires_ms: 0,
            };
            let commit = Commit {
                writes: [(Bytes::from_static(b"dk"), write)].into(),
                durable: true,
                ..Commit::default()
            };
            let snapshot = store.begin(ReadPoint::Newest).await.unwrap();
            let before = snapshot.sequence();
            store.commit(snapshot, commit).await.unwrap();
            clock.advance(10);
            let seen = store.begin(ReadPoint::Acked(0)).await.unwrap();
            assert!(
                seen.sequence() > before || seen.now_ms() <= stamp_ms,
                "a snapshot of {} shows {} ms after a commit of {stamp_ms} ms that it does not show",
                seen.sequence(),
                seen.now_ms()
            );
            let acked = store.begin(ReadPoint::Newest).await.unwrap().sequence();
            store.acked(acked).await.unwrap();
        }
        store.close().await.unwrap();
    });
}

/// A connection that goes away takes its request with it; a push was then stored, and not in force.
#[test]
fn a_push_whose_connection_goes_away_is_in_force_if_it_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(START_MS);
    runtime().block_on(async {
        let store = open_embedded(folder.path(), clock.clone());
        let mut talk = Talk::new(store, &small(), clock).await;
        let wasm = wat::parse_str(r#"(module (func (export "run") (result i32) (i32.const 0)))"#);
        let wasm = wasm.unwrap();
        talk.request("ping").await.unwrap();
        let core = Arc::clone(&talk.core);
        for _ in 0..20 {
            let before = core.store.visible();
            let is_stored = async {
                while core.store.visible() == before {
                    tokio::task::yield_now().await;
                }
            };
            let push = Push::new("lost", "");
            tokio::select! {
                biased;
                () = is_stored => {}
                _ = talk.push_binary(&push, &wasm) => {}
            }
            assert_eq!(
                talk.request("module.remove lost").await,
                Ok(Reply::Done(()))
            );
        }
    });
}

/// Writes of hooks are acked before they are on disk, and `flush` waited for no more than that.
#[test]
fn a_flush_waits_for_a_durable_commit_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(START_MS);
    runtime().block_on(async {
        let store = open_embedded(folder.path(), clock.clone());
        let mut talk = Talk::new(store, &small(), clock).await;
        talk.request("set k v").await.unwrap();
        let written = talk.core.store.visible();
        let mut session = talk.session();
        ask(&mut session, "ping").await.unwrap();
        let body = Request::new(1, Command::Flush(NoArguments {})).encode();
        let answer = session.handle(&body, now()).await;
        answer.response.outcome.unwrap();
        assert!(answer.gate > written);
    });
}

/// A value that tells, by the count of its owner, whether it is still held.
struct Held {
    _count: Arc<()>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        b"value"
    }
}

/// Each overwritten value was kept for a savepoint that nobody had set in between.
#[test]
fn a_key_written_again_and_again_is_kept_once() {
    let clock = ManualClock::at(START_MS);
    let store = MemoryStore::new([1; 16], Box::new(clock));
    runtime().block_on(async {
        let snapshot = store.begin(ReadPoint::Newest).await.unwrap();
        let mut transaction = Transaction::new(snapshot, LIMITS);
        let count = Arc::new(());
        let outer = transaction.savepoint();
        for _ in 0..3 {
            let inner = transaction.savepoint();
            for _ in 0..1000 {
                let value = Bytes::from_owner(Held {
                    _count: Arc::clone(&count),
                });
                let written = transaction.set(b"k", value, TimeToLive::Forever).await;
                written.unwrap();
            }
            assert!(Arc::strong_count(&count) < 10);
            assert!(transaction.has_changed_since(inner));
        }
        transaction.undo_to(outer);
        assert!(!transaction.has_writes());
        assert_eq!(Arc::strong_count(&count), 1);
    });
}

/// A guest could have each scan keep as much as its whole memory in the read set.
#[test]
fn the_bounds_of_a_scan_are_kept_no_longer_than_a_key() {
    let clock = ManualClock::at(START_MS);
    let store = MemoryStore::new([1; 16], Box::new(clock));
    runtime().block_on(async {
        let snapshot = store.begin(ReadPoint::Newest).await.unwrap();
        let transaction = Transaction::new(snapshot, LIMITS);
        let mut call = Call::new(
            Stage::Procedure,
            Some(Box::new(transaction)),
            Default::default(),
            Arc::default(),
            [0; 32],
        );
        call.max_key_bytes = 1024;
        let handle = call
            .kv_scan(&vec![b'a'; 1 << 20], &vec![b'b'; 1 << 20], 0, 0)
            .unwrap();
        call.kv_scan_step(handle, 100, |_, _| true).await.unwrap();
        let (_, commit) = call.transaction.take().unwrap().into_commit(true);
        let range = &commit.reads.ranges[0];
        assert!(range.start.len() + range.end.len() < 3000);
    });
}

/// Each name of an export is kept with its type, and each describer runs with a budget of its own.
#[test]
fn a_module_with_very_many_exports_is_refused() {
    let exports: String = (0..5000)
        .map(|at| format!(r#"(export "metadata_{at}" (func $f))"#))
        .collect();
    let push = Push::new(
        "many",
        format!("(module (func $f (result i32) (i32.const 0)) {exports})"),
    );
    assert_eq!(
        refused(&push),
        "invalid_module: the module `many` can't be registered: it exports 5000 functions, which exceeds the limit of 4096"
    );
    let exports: String = (0..300)
        .map(|at| format!(r#"(export "metadata_{at}" (func $f))"#))
        .collect();
    let push = Push::new(
        "many",
        format!("(module (func $f (result i32) (i32.const 0)) {exports})"),
    );
    assert_eq!(
        refused(&push),
        "invalid_module: the module `many` can't be registered: it has 300 describers, which exceeds the limit of 257"
    );
}

/// A module that was pushed with more than the server gives today.
#[test]
fn a_stored_module_keeps_to_ceilings_that_were_lowered_since() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(START_MS);
    let runtime = runtime();
    runtime.block_on(async {
        let store = open_embedded(folder.path(), clock.clone());
        let mut talk = Talk::new(store, &small(), clock.clone()).await;
        let mut push = Push::new(
            "big",
            r#"(module (memory 1) (func (export "grow") (result i32)
                (i32.add (memory.grow (i32.const 300)) (i32.const 1))))"#,
        );
        push.limits = Some(LimitsRequest {
            memory_bytes: Some(32 << 20),
            ..LimitsRequest::default()
        });
        talk.run(
            "embedded",
            &[push],
            "> call big.grow\nrejected: big.grow refused with the code 2…",
        )
        .await;
        talk.core.store.close().await.unwrap();
    });
    runtime.block_on(async {
        let store = open_embedded(folder.path(), clock.clone());
        let config = Config {
            max_call_memory_bytes: 16 << 20,
            ..small()
        };
        let mut talk = Talk::new(store, &config, clock).await;
        // Growth is refused, and -1 and 1 make 0.
        talk.run("embedded", &[], "> call big.grow\n\"\"").await;
    });
}

/// A setting was added to another, or given to a semaphore, before anyone looked at its size.
#[test]
fn settings_beyond_reason_are_refused_in_a_sentence() {
    for field in Config::FIELDS {
        if !matches!(
            field.unit,
            "bytes" | "connections" | "replies" | "requests" | "commits" | "keys" | "entries"
        ) {
            continue;
        }
        let flag = (field.name.to_owned(), u64::MAX.to_string());
        assert!(Config::load(None, &[flag]).is_err(), "{}", field.name);
    }
}

/// Each piece of a large frame took a whole read's worth of the server's room, however small it was.
#[test]
fn a_large_frame_in_small_pieces_takes_no_more_room_than_it_has_bytes() {
    use std::io::{Read as _, Write as _};
    let server = runtime().block_on(luge_server::testing::start_with(|config| {
        config.max_buffered_bytes = 1 << 20;
        config.frame_timeout_ms = 5_000;
    }));
    let Peer(mut socket) = Peer::greeted(server.address());
    socket.set_nodelay(true).unwrap();
    let body = Request::new(
        9,
        Command::Get(Get {
            key: vec![b'k'; 300_000].into(),
        }),
    )
    .encode();
    let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    frame.extend_from_slice(&body);
    for piece in frame.chunks(1000) {
        socket.write_all(piece).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut answer = [0; 64];
    let length = socket.read(&mut answer).unwrap();
    let told = String::from_utf8_lossy(&answer[..length]);
    assert!(told.contains("of 300000 bytes"), "{told}");
}

#[test]
fn a_transaction_that_reads_too_much_is_refused() {
    check_with(
        &[],
        |config| config.max_reads = 3,
        "
        > mget a b c
        nil, nil, nil
        > mget a b c d
        too_large: the transaction would read more than 3 keys and ranges
        > scan
        nothing
    ",
    );
}

#[test]
fn a_long_stretch_of_expired_keys_ends_a_page_and_the_next_goes_on_behind_it() {
    // One row at a time, so that the stretch takes more steps than a page may.
    let mut transcript = String::new();
    for part in 0..2 {
        let sets: Vec<String> = (0..600)
            .map(|at| format!("set a{part}{at:03} x --ttl 10"))
            .collect();
        let versions = vec![format!("v{}", part + 1); 600].join(", ");
        transcript += &format!("> batch {}\n{versions}\n", sets.join("; "));
    }
    transcript += "
        > set z end
        v3
        ~ 10ms
        > scan --limit 1
        nothing next a1399
        > scan --limit 1 --cursor a1399
        z=end
        > del --range a zz --limit 1
        deleted 0 next a1399\\x00
        > scan
        z=end
    ";
    check(&[], &transcript.replace("\\\\", "\\"));
}
