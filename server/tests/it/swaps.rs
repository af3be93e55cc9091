//! Versions that change under load. Every request is counted: each succeeds, and each is wholly of one
//! version, its hooks and its procedures alike.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use luge_protocol::{Found, OperationReply, Reply};
use luge_server::config::Config;
use luge_server::store::Store;
use tokio::task::JoinSet;

use crate::support::{
    ManualClock, Talk, TestSession, ask, clock, open_embedded, open_memory, runtime,
};

/// How the workers and the one who swaps see each other.
#[derive(Default)]
struct Progress {
    sent: AtomicU64,
    answered: AtomicU64,
    is_over: AtomicBool,
}

impl Progress {
    /// Waits until so many more requests were answered. A worker that ends meanwhile has failed.
    async fn more(&self, requests: u64, workers: &mut JoinSet<BTreeSet<String>>) {
        let until = self.answered.load(Ordering::SeqCst) + requests;
        while self.answered.load(Ordering::SeqCst) < until {
            if let Some(ended) = workers.try_join_next() {
                panic!("a worker ended: {ended:?}");
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Sends requests of all kinds until it is over; answers the words that it was told.
async fn work<S: Store>(
    mut session: TestSession<S>,
    key: &'static str,
    progress: Arc<Progress>,
) -> BTreeSet<String> {
    let lines = [
        "call m.say".to_owned(),
        format!("set k:{key} x"),
        format!("batch set k:{key} y; get k:{key}"),
        "mget first last".to_owned(),
    ];
    let mut words = BTreeSet::new();
    while !progress.is_over.load(Ordering::SeqCst) {
        for line in &lines {
            progress.sent.fetch_add(1, Ordering::SeqCst);
            let reply = ask(&mut session, line).await;
            let reply = reply.unwrap_or_else(|error| panic!("{line}: {error}"));
            words.extend(one_word(line, reply));
            progress.answered.fetch_add(1, Ordering::SeqCst);
        }
        tokio::task::yield_now().await;
    }
    words
}

/// The word that a reply is made of.
fn one_word(line: &str, reply: Reply) -> Option<String> {
    let text = |found: &Found| String::from_utf8(found.0.to_vec()).unwrap();
    match reply {
        Reply::Call(output) => {
            let said = String::from_utf8(output.0.to_vec()).unwrap();
            let word = said[..said.len() / 3].to_owned();
            assert_eq!(said, word.repeat(3), "{line}");
            Some(word)
        }
        Reply::Mget(found) => match &found[..] {
            // By the hooks before and after one and the same `set`.
            [Some(first), Some(last)] => {
                assert_eq!((text(first), first.1), (text(last), last.1), "{line}");
                Some(text(first))
            }
            _ => panic!("{line}: {found:?}"),
        },
        Reply::Batch(replies) => {
            assert!(matches!(&replies[1], OperationReply::Get(Some(_))));
            None
        }
        Reply::Set(_) => None,
        other => panic!("{line}: {other:?}"),
    }
}

async fn swap_under_load<S: Store>(store: S, clock: ManualClock) {
    // What is tried is the swap: a crowded machine should not meet a call's limits.
    let config = Config {
        max_instances: 64,
        max_module_versions: 4,
        call_cpu_ms: 5_000,
        call_deadline_ms: 60_000,
        phase_cpu_ms: 10_000,
        ..Config::default()
    };
    let mut talk = Talk::new(store, &config, clock).await;
    for line in ["module.push m aaaa", "set k:0 x", "flush"] {
        talk.request(line).await.unwrap();
    }
    let progress = Arc::new(Progress::default());
    let mut workers = JoinSet::new();
    for key in ["1", "2", "3", "4"] {
        workers.spawn(work(talk.session(), key, Arc::clone(&progress)));
    }
    let mut swaps = 0;
    for round in 0..12_u8 {
        let word = char::from(b'b' + round).to_string().repeat(4);
        let before = u64::from(round) + 1;
        for line in [
            format!("module.push m {word} --inactive"),
            format!("module.activate m {}", before + 1),
            "module.rollback m".to_owned(),
            format!("module.push m {word} --dry-run"),
            format!("module.push m {word}"),
        ] {
            let outcome = talk.request(&line).await;
            outcome.unwrap_or_else(|error| panic!("{line}: {error}"));
            // Of so many answers one worker has ten, and so two whole turns behind this change.
            progress.more(40, &mut workers).await;
            swaps += u64::from(!line.ends_with("active") && !line.ends_with("dry-run"));
        }
        let refused = talk.request("module.push m !").await;
        assert!(refused.is_err(), "{refused:?}");
    }
    progress.is_over.store(true, Ordering::SeqCst);
    let mut words = BTreeSet::new();
    while let Some(done) = workers.join_next().await {
        words.extend(done.unwrap());
    }
    let sent = progress.sent.load(Ordering::SeqCst);
    assert_eq!(sent, progress.answered.load(Ordering::SeqCst));
    assert!(sent >= 12 * 5 * 40, "{sent} requests");
    assert_eq!(swaps, 36);
    // The first one, and one of each round.
    assert_eq!(words.len(), 13, "{words:?}");
    talk.core.store.close().await.unwrap();
}

#[test]
fn no_request_fails_or_is_torn_while_versions_are_swapped() {
    let runtime = runtime();
    runtime.block_on(swap_under_load(open_memory(&clock()), clock()));
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    let store = open_embedded(folder.path(), clock.clone());
    runtime.block_on(swap_under_load(store, clock));
}
