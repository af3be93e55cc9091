//! What the store keeps of versions: each binary once, nothing of what was dropped, all of it over
//! restarts and in backups, and the records of the format before.

use bytes::Bytes;
use luge_client::Client;
use luge_protocol::{LimitsRequest, Reply, Request};
use luge_server::config::Config;
use luge_server::server::ceilings;
use luge_server::store::embedded::restore;
use luge_server::store::{Commit, PageLimit, ReadPoint, Snapshot, Store, Write};
use luge_server::testing::start_in;
use luge_server::transaction::Keyspace;
use serde::Serialize;

use crate::support::{
    ManualClock, Push, START_MS, Talk, ask, clock, now, open_embedded, open_memory, parsed,
    runtime, speaker,
};

fn config() -> Config {
    Config {
        max_instances: 64,
        ..Config::default()
    }
}

/// How many rows of each kind the store has of modules, by the first byte of their keys: modules,
/// versions, binaries, and others.
async fn rows<S: Store>(store: &S) -> [usize; 4] {
    let snapshot = store.begin(ReadPoint::Newest).await.unwrap();
    let range = Keyspace::Modules.range(b"", b"");
    let limit = PageLimit {
        rows: 1_000,
        bytes: usize::MAX,
    };
    let page = snapshot.scan(&range, false, true, limit).await.unwrap();
    let mut counts = [0; 4];
    for (key, _) in page.rows {
        let kind = usize::from(Keyspace::strip(&key)[0]);
        counts[if (1..=3).contains(&kind) { kind - 1 } else { 3 }] += 1;
    }
    counts
}

async fn requests<S: Store>(talk: &mut Talk<S>, lines: &[&str]) {
    for line in lines {
        talk.request(line)
            .await
            .unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn a_binary_is_stored_once_and_for_as_long_as_a_version_has_it() {
    runtime().block_on(async {
        let config = Config {
            max_module_versions: 3,
            ..config()
        };
        let mut talk = Talk::new(open_memory(&clock()), &config, clock()).await;
        requests(
            &mut talk,
            &[
                "module.push a one",
                "module.push a one --config k=2",
                "module.push b one",
            ],
        )
        .await;
        assert_eq!(rows(&talk.core.store).await, [2, 3, 1, 0]);
        requests(&mut talk, &["module.push a two", "module.push a two"]).await;
        assert_eq!(rows(&talk.core.store).await, [2, 4, 2, 0]);
        // Both versions of `a` with the first binary are dropped, and `b` still has it.
        requests(&mut talk, &["module.push a six", "module.push a ten"]).await;
        assert_eq!(rows(&talk.core.store).await, [2, 4, 4, 0]);
        requests(&mut talk, &["module.remove b"]).await;
        assert_eq!(rows(&talk.core.store).await, [1, 3, 3, 0]);
        requests(&mut talk, &["module.remove a"]).await;
        assert_eq!(rows(&talk.core.store).await, [0; 4]);
    });
}

#[test]
fn what_changes_nothing_writes_nothing() {
    runtime().block_on(async {
        let mut talk = Talk::new(open_memory(&clock()), &config(), clock()).await;
        requests(&mut talk, &["module.push m one", "module.push m two"]).await;
        let before = talk.core.store.visible();
        requests(
            &mut talk,
            &[
                "module.push m two",
                "module.push m one --inactive",
                "module.push m six --dry-run",
                "module.push other six --dry-run",
                "module.activate m 2",
                "module.list",
                "module.show m 1",
            ],
        )
        .await;
        for line in ["module.push m !", "module.activate m 9", "module.push x !"] {
            assert!(talk.request(line).await.is_err(), "{line}");
        }
        assert_eq!(talk.core.store.visible(), before);
    });
}

/// The server's own clock: a time of pushing that a start made anew would differ.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_times_and_what_a_rollback_returns_to_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let server = start_in(folder.path(), |_| {}).await;
    let client = Client::connect(server.address()).await.unwrap();
    let push = async |word: &str, inactive| {
        let options = luge_client::PushOptions {
            inactive,
            ..luge_client::PushOptions::default()
        };
        client
            .module_push("m", &speaker(word), options)
            .await
            .unwrap()
    };
    for (word, inactive) in [
        ("one", false),
        ("two", false),
        ("six", false),
        ("ten", true),
    ] {
        push(word, inactive).await;
    }
    client.module_activate("m", 1).await.unwrap();
    let before = client.module_list().await.unwrap();
    let [module] = &before[..] else {
        panic!("{before:?}")
    };
    assert_eq!((module.active, module.rollback), (Some(1), Some(3)));
    let shown = client.module_show_version("m", 4).await.unwrap();
    drop(client);
    drop(server);

    let server = start_in(folder.path(), |_| {}).await;
    let client = Client::connect(server.address()).await.unwrap();
    assert_eq!(client.module_list().await.unwrap(), before);
    assert_eq!(client.module_show_version("m", 4).await.unwrap(), shown);
    let say = async || client.call_raw("m.say", vec![]).await.unwrap();
    assert_eq!(say().await, b"oneoneone"[..]);
    for (number, said) in [(3, "sixsixsix"), (2, "twotwotwo")] {
        assert_eq!(client.module_rollback("m").await.unwrap().version, number);
        assert_eq!(say().await, said.as_bytes());
    }
    assert!(client.module_rollback("m").await.is_err());
    let options = luge_client::PushOptions::default();
    let pushed = client.module_push("m", &speaker("new"), options).await;
    assert_eq!(pushed.unwrap().version, 5);
}

#[test]
fn a_backup_has_every_version() {
    let folder = tempfile::tempdir().unwrap();
    let listed = runtime().block_on(async {
        let store = open_embedded(&folder.path().join("first"), clock());
        let mut talk = Talk::new(store, &config(), clock()).await;
        requests(
            &mut talk,
            &[
                "module.push m one",
                "module.push m two",
                "module.push m six --inactive",
            ],
        )
        .await;
        let mut session = talk.session();
        ask(&mut session, "backup").await.unwrap();
        let mut stream = session.begun().unwrap();
        let mut copy = Vec::new();
        while let Some(Reply::Piece(piece)) = stream.next().await.unwrap() {
            copy.extend_from_slice(&piece);
            stream.told();
        }
        std::fs::write(folder.path().join("copy"), copy).unwrap();
        let listed = talk.request("module.list").await.unwrap();
        drop(stream);
        talk.core.store.close().await.unwrap();
        listed
    });
    let data = folder.path().join("second");
    restore(&folder.path().join("copy"), &data, [9; 16]).unwrap();
    runtime().block_on(async {
        let store = open_embedded(&data, clock());
        let mut talk = Talk::new(store, &config(), clock()).await;
        assert_eq!(talk.request("module.list").await.unwrap(), listed);
        talk.run(
            "restored",
            &[],
            "
            > call m.say
            twotwotwo
            > module.rollback m
            m version 1: activated, before 2
            > module.activate m 3
            m version 3: activated, before 1
            > call m.say
            sixsixsix
        ",
        )
        .await;
        talk.core.store.close().await.unwrap();
    });
}

/// What a record was before there were versions: one for each module, under its name.
#[derive(Serialize)]
struct OldRecord {
    format: u32,
    description: serde_json::Value,
    limits: luge_server::function::CallLimits,
    wasm: Bytes,
}

#[test]
fn records_of_the_format_before_become_versions() {
    runtime().block_on(async {
        let mut talk = Talk::new(open_memory(&clock()), &config(), clock()).await;
        let pushed = talk.request("module.push m one --config k=7").await;
        let Ok(Reply::Module(mut description)) = pushed else {
            panic!("{pushed:?}")
        };
        description.version = 3;
        let mut description = serde_json::to_value(description).unwrap();
        for name in ["active", "change"] {
            description.as_object_mut().unwrap().remove(name).unwrap();
        }
        let record = OldRecord {
            format: 1,
            description,
            limits: ceilings(&config()).default,
            wasm: speaker("one").into(),
        };
        let store = open_memory(&clock());
        let commit = Commit {
            writes: vec![(
                Keyspace::Modules.key(b"m"),
                Write::Put {
                    value: rmp_serde::to_vec_named(&record).unwrap().into(),
                    expires_ms: 0,
                },
            )],
            durable: true,
            ..Commit::default()
        };
        let snapshot = store.begin(ReadPoint::Newest).await.unwrap();
        store.commit(snapshot, commit).await.unwrap();
        assert_eq!(rows(&store).await, [0, 0, 0, 1]);
        let mut talk = Talk::new(store, &config(), ManualClock::at(START_MS)).await;
        assert_eq!(rows(&talk.core.store).await, [1, 1, 1, 0]);
        // By what its hooks were overridden was not kept, so nothing is taken for the same.
        talk.run(
            "memory",
            &[],
            "
            > module.list
            m 3*
            > call m.setting
            7one
            > module.push m one --config k=7
            m version 4: pushed, before 3
            > module.rollback m
            m version 3: activated, before 4
        ",
        )
        .await;
    });
}

#[test]
fn a_version_that_the_server_does_not_take_any_more_leaves_what_is_in_force() {
    let folder = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let store = open_embedded(folder.path(), clock());
        let mut talk = Talk::new(store, &config(), clock()).await;
        let big = Push {
            limits: Some(LimitsRequest {
                memory_bytes: Some(32 << 20),
                ..LimitsRequest::default()
            }),
            ..Push::new("m", "(module (memory 300))")
        };
        talk.push(&big).await.unwrap();
        requests(&mut talk, &["module.push m two"]).await;
        talk.core.store.close().await.unwrap();
    });
    runtime().block_on(async {
        let config = Config {
            max_call_memory_bytes: 16 << 20,
            ..config()
        };
        let store = open_embedded(folder.path(), clock());
        let mut talk = Talk::new(store, &config, clock()).await;
        talk.run(
            "embedded",
            &[],
            "
            > module.rollback m
            invalid_module: version 1 of the module `m` can't be used: …19660800…; nothing was changed
            > module.activate m 1
            invalid_module: version 1 of the module `m` can't be used: …
            > module.list
            m <1 2*
            > call m.say
            twotwotwo
        ",
        )
        .await;
        talk.core.store.close().await.unwrap();
    });
}

/// Who is told that nothing had to be changed relies on it as much as who is told of a change.
#[test]
fn what_is_told_of_modules_waits_for_the_commit_that_made_it_so() {
    runtime().block_on(async {
        let talk = Talk::new(open_memory(&clock()), &config(), clock()).await;
        let mut session = talk.session();
        ask(&mut session, "ping").await.unwrap();
        let mut gate = async |line: &str| {
            let body = Request::new(1, parsed(line)).encode();
            session.handle(&body, now()).await.gate
        };
        let pushed = gate("module.push m one").await;
        assert_ne!(pushed, 0);
        let later = gate("set k v").await;
        assert!(later > pushed);
        for line in [
            "module.push m one",
            "module.push m two --dry-run",
            "module.activate m 1",
            "module.show m",
            "module.list",
        ] {
            assert_eq!(gate(line).await, pushed, "{line}");
        }
        let removed = gate("module.remove m").await;
        assert_eq!(gate("module.list").await, removed);
    });
}

/// Builds before grants kept records of format 2, without what a module was granted. Those before it
/// refuse what has a grant, since they would pass over it.
#[test]
fn a_record_without_a_grant_is_loaded_with_every_key_and_a_later_format_is_refused() {
    runtime().block_on(async {
        for (format, expected) in [
            (2, Ok("twotwotwo")),
            (4, Err("has format 4, and not 2 or 3")),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let store = open_embedded(folder.path(), clock());
            let mut talk = Talk::new(store, &config(), clock()).await;
            requests(&mut talk, &["module.push m two"]).await;
            let store = &talk.core.store;
            let snapshot = store.begin(ReadPoint::Newest).await.unwrap();
            let range = Keyspace::Modules.range(b"\x01", b"\x03");
            let limit = PageLimit {
                rows: 10,
                bytes: usize::MAX,
            };
            let page = snapshot.scan(&range, false, false, limit).await.unwrap();
            assert_eq!(page.rows.len(), 2);
            let writes = page.rows.into_iter().map(|(key, entry)| {
                let mut record = entry.value.to_vec();
                let mut replace = |old: &[u8], new: &[u8]| {
                    let at = record.windows(old.len()).position(|it| it == old);
                    if let Some(at) = at {
                        record[at..at + new.len()].copy_from_slice(new);
                    }
                    at.is_some()
                };
                assert!(replace(
                    b"\xa6format\x03",
                    &[b"\xa6format", &[format][..]].concat()
                ));
                // A name that is not known is passed over, and `grant` is not there.
                assert_eq!(replace(b"\xa5grant\xc0", b"\xa5GRANT\xc0"), key.len() > 4);
                let value = record.into();
                let expires_ms = 0;
                (key, Write::Put { value, expires_ms })
            });
            let commit = Commit {
                writes: writes.collect(),
                durable: true,
                ..Commit::default()
            };
            store.commit(snapshot, commit).await.unwrap();
            let loaded = luge_server::session::load_modules(&talk.core).await;
            match expected {
                Ok(answer) => {
                    loaded.unwrap();
                    let Ok(Reply::Call(said)) = talk.request("call m.say").await else {
                        panic!("it is called")
                    };
                    assert_eq!(said.0, answer);
                }
                Err(reason) => {
                    let error = loaded.unwrap_err().to_string();
                    assert!(error.contains(reason), "{error}");
                }
            }
            talk.core.store.close().await.unwrap();
        }
    });
}
