//! The sweeper: keys whose time has come go, and no other, wherever the store has them.

use luge_server::config::Config;
use luge_server::session::sweep_once;
use luge_server::store::{ReadPoint, Snapshot, Store};

use crate::support::{
    ManualClock, Talk, clock, fold, open_embedded, open_folded, open_memory, runtime,
};

/// The keys that lie in the store, expired or not.
async fn stored<S: Store>(talk: &Talk<S>, keys: &[&str]) -> Vec<String> {
    let snapshot = talk.core.store.begin(ReadPoint::Newest).await.unwrap();
    let mut found = Vec::new();
    for key in keys {
        let place = format!("d{key}");
        if snapshot.get(place.as_bytes()).await.unwrap().is_some() {
            found.push((*key).to_owned());
        }
    }
    found
}

/// Sweeps until nothing is due; answers how many keys were looked at.
async fn sweep<S: Store>(talk: &Talk<S>) -> usize {
    let mut looked = 0;
    loop {
        let swept = sweep_once(&talk.core).await.unwrap();
        fold(&talk.core.store).await;
        looked += swept;
        if swept == 0 {
            return looked;
        }
        assert!(looked < 10_000, "it goes on for ever");
    }
}

/// Runs a test on both stores, on the embedded one also with everything in sled.
macro_rules! on_both_stores {
    ($name:ident, |$talk:ident, $clock:ident| $body:block) => {
        #[test]
        fn $name() {
            async fn history<S: Store>(store: S, $clock: ManualClock) {
                let config = Config {
                    max_instances: 16,
                    ..Config::default()
                };
                let mut $talk = Talk::new(store, &config, $clock.clone()).await;
                $body
                $talk.core.store.close().await.unwrap();
            }
            let (runtime, time) = (runtime(), clock());
            runtime.block_on(history(open_memory(&time), time));
            for open in [open_embedded, open_folded] {
                let (folder, time) = (tempfile::tempdir().unwrap(), clock());
                runtime.block_on(history(open(folder.path(), time.clone()), time));
            }
        }
    };
}

async fn ask<S: Store>(talk: &mut Talk<S>, line: &str) {
    talk.request(line)
        .await
        .unwrap_or_else(|error| panic!("{line}: {error}"));
    fold(&talk.core.store).await;
}

on_both_stores!(
    the_sweeper_removes_what_expired_and_nothing_live,
    |talk, clock| {
        let keys = ["short", "long", "forever", "gone"];
        ask(&mut talk, "set short 1 --ttl 100").await;
        ask(&mut talk, "set long 1 --ttl 1000").await;
        ask(&mut talk, "set forever 1").await;
        ask(&mut talk, "set gone 1 --ttl 100").await;
        ask(&mut talk, "del gone").await;
        assert_eq!(sweep(&talk).await, 0, "nothing is due yet");
        clock.advance(99);
        sweep(&talk).await;
        assert_eq!(stored(&talk, &keys).await, ["short", "long", "forever"]);
        clock.advance(1);
        sweep(&talk).await;
        assert_eq!(stored(&talk, &keys).await, ["long", "forever"]);
        clock.advance(1_000);
        sweep(&talk).await;
        assert_eq!(stored(&talk, &keys).await, ["forever"]);
    }
);

on_both_stores!(
    the_sweeper_goes_by_the_newest_time_to_live,
    |talk, clock| {
        let keys = ["longer", "shorter", "persisted", "kept", "again"];
        for key in keys {
            ask(&mut talk, &format!("set {key} 1 --ttl 500")).await;
        }
        ask(&mut talk, "set longer 2 --ttl 2000").await;
        ask(&mut talk, "expire shorter 100").await;
        ask(&mut talk, "persist persisted").await;
        ask(&mut talk, "set kept 2 --keep-ttl").await;
        // Deleted, and made anew with the very same end.
        ask(&mut talk, "del again").await;
        ask(&mut talk, "set again 2 --ttl 500").await;
        clock.advance(100);
        sweep(&talk).await;
        assert_eq!(
            stored(&talk, &keys).await,
            ["longer", "persisted", "kept", "again"]
        );
        clock.advance(400);
        sweep(&talk).await;
        assert_eq!(stored(&talk, &keys).await, ["longer", "persisted"]);
        clock.advance(10_000);
        sweep(&talk).await;
        assert_eq!(stored(&talk, &keys).await, ["persisted"]);
    }
);

on_both_stores!(
    the_sweeper_spares_a_key_that_was_written_anew,
    |talk, clock| {
        ask(&mut talk, "set a 1 --ttl 100").await;
        ask(&mut talk, "set b 1 --ttl 100").await;
        clock.advance(200);
        // Both are gone for every reader, and lie there still.
        ask(&mut talk, "set a 2").await;
        ask(&mut talk, "incr b").await;
        sweep(&talk).await;
        assert_eq!(stored(&talk, &["a", "b"]).await, ["a", "b"]);
    }
);

on_both_stores!(
    the_sweeper_comes_through_more_than_it_takes_at_once,
    |talk, clock| {
        for batch in 0..7 {
            let sets: Vec<String> = (0..100)
                .map(|at| format!("set k{batch}-{at} 1 --ttl 100"))
                .collect();
            ask(&mut talk, &format!("batch {}", sets.join("; "))).await;
        }
        ask(&mut talk, "set k 1 --ttl 1000").await;
        clock.advance(100);
        sweep(&talk).await;
        let snapshot = talk.core.store.begin(ReadPoint::Newest).await.unwrap();
        let range = luge_server::store::KeyRange {
            start: bytes::Bytes::from_static(b"dk"),
            end: bytes::Bytes::from_static(b"dl"),
        };
        let limit = luge_server::store::PageLimit {
            rows: 1000,
            bytes: 1 << 20,
        };
        let page = snapshot.scan(&range, false, true, limit).await.unwrap();
        let left: Vec<_> = page.rows.iter().map(|(key, _)| key.clone()).collect();
        assert_eq!(left, ["dk"]);
    }
);

// Each look for expired keys began at the front, where rows of keys lay that were removed and not yet
// folded: so no more than the first few were found until the next fold.
#[test]
fn the_sweeper_goes_on_behind_what_it_removed_and_waits_for_no_fold() {
    const KEYS: usize = 2_000;
    let folder = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let clock = clock();
        let store = open_embedded(folder.path(), clock.clone());
        let mut talk = Talk::new(store, &Config::default(), clock.clone()).await;
        for number in 0..KEYS {
            let line = format!("set key-{number} v --ttl 1000");
            talk.request(&line).await.unwrap();
        }
        talk.core.store.folded().await.unwrap();
        clock.advance(2_000);
        let mut removed = 0;
        while removed < KEYS {
            let swept = sweep_once(&talk.core).await.unwrap();
            assert!(swept > 0, "{removed} of {KEYS} keys were found");
            removed += swept;
        }
        talk.core.store.close().await.unwrap();
    });
}
