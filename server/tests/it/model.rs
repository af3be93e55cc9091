//! Both stores against a plain ordered map: random transactions, read through snapshots that stay
//! open over later commits.

use std::collections::BTreeMap;

use bytes::Bytes;
use luge_server::store::{CommitOutcome, MemoryStore, PageLimit, ReadPoint, Store};
use luge_server::transaction::{Scan, ScanOrder, TimeToLive, Transaction, WriteLimits};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::{ManualClock, START_MS, open_embedded, runtime};

/// Keys are few, so that transactions meet.
const KEYS: u8 = 12;

#[derive(Clone, Debug)]
enum Step {
    Set(u8, u16, Option<u8>),
    Delete(u8),
    Undo(Vec<(u8, u16)>),
    Commit,
    /// Versions go from memory to the index, where there is one.
    Fold,
    OpenSnapshot,
    CloseSnapshot,
    Advance(u8),
    Scan {
        from: u8,
        to: u8,
        is_reverse: bool,
        rows: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..KEYS, any::<u16>(), proptest::option::of(1_u8..30)).prop_map(|(key, size, ttl)| Step::Set(key, size, ttl)),
        2 => (0..KEYS).prop_map(Step::Delete),
        1 => vec((0..KEYS, any::<u16>()), 1..4).prop_map(Step::Undo),
        3 => Just(Step::Commit),
        1 => Just(Step::Fold),
        1 => Just(Step::OpenSnapshot),
        1 => Just(Step::CloseSnapshot),
        1 => (1_u8..20).prop_map(Step::Advance),
        4 => (0..KEYS, 0..KEYS, any::<bool>(), 1_u8..6)
            .prop_map(|(from, to, is_reverse, rows)| Step::Scan { from, to, is_reverse, rows }),
    ]
}

/// What a key holds: its value and when it ends.
type Model = BTreeMap<Vec<u8>, (Vec<u8>, Option<u64>)>;

fn key(number: u8) -> Vec<u8> {
    vec![b'k'; usize::from(number % 3) + 1]
        .into_iter()
        .chain([number])
        .collect()
}

/// Some values are large enough to lie in chunks.
fn value(size: u16) -> Vec<u8> {
    vec![u8::try_from(size % 256).unwrap(); usize::from(size) % 9000]
}

fn live(model: &Model, now_ms: u64) -> Model {
    let is_live = |end: &Option<u64>| end.is_none_or(|end| end > now_ms);
    model
        .iter()
        .filter(|(_, (_, end))| is_live(end))
        .map(|(key, held)| (key.clone(), held.clone()))
        .collect()
}

type Open<S> = Transaction<<S as Store>::Snapshot>;

async fn begin<S: Store>(store: &S) -> Open<S> {
    let limits = WriteLimits {
        keys: 1000,
        bytes: 64 << 20,
    };
    Transaction::new(store.begin(ReadPoint::Newest).await.unwrap(), limits)
}

async fn read_all<S: Store>(
    transaction: &mut Open<S>,
    (start, end): (&[u8], &[u8]),
    is_reverse: bool,
    rows: usize,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let order = if is_reverse {
        ScanOrder::Descending
    } else {
        ScanOrder::Ascending
    };
    let mut scan = Scan::new(start, end, order, false);
    let mut found = Vec::new();
    while !scan.is_done() {
        let limit = PageLimit {
            rows,
            bytes: 10_000,
        };
        let page = transaction.scan(&mut scan, limit).await.unwrap();
        assert!(page.len() <= rows);
        found.extend(
            page.into_iter()
                .map(|(key, live)| (key.to_vec(), live.value.to_vec())),
        );
    }
    let scan = Scan::new(start, end, order, false);
    assert_eq!(visit_all::<S>(transaction, scan, rows).await, found);
    found
}

/// The same rows where they lie, so many at once.
async fn visit_all<S: Store>(
    transaction: &mut Open<S>,
    mut scan: Scan,
    rows: usize,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let limit = PageLimit {
        rows: rows + 1,
        bytes: 10_000,
    };
    let mut found = Vec::new();
    while !scan.is_done() {
        let most = found.len() + rows;
        let take = |key: &[u8], value: &[u8]| {
            let is_taken = found.len() < most;
            if is_taken {
                found.push((key.to_vec(), value.to_vec()));
            }
            is_taken
        };
        transaction.visit(&mut scan, limit, take).await.unwrap();
    }
    found
}

async fn compare<S: Store>(transaction: &mut Open<S>, model: &Model) {
    let expected = live(model, transaction.now_ms());
    for number in 0..KEYS {
        let found = transaction.get(&key(number)).await.unwrap();
        let held = expected.get(&key(number));
        assert_eq!(
            found.as_ref().map(|live| live.value.to_vec()),
            held.map(|held| held.0.clone())
        );
        let left = held
            .and_then(|held| held.1)
            .map(|end| end - transaction.now_ms());
        assert_eq!(found.and_then(|live| live.ttl_ms), left);
    }
    let rows: Vec<_> = expected
        .into_iter()
        .map(|(key, held)| (key, held.0))
        .collect();
    assert_eq!(read_all::<S>(transaction, (b"", b""), false, 3).await, rows);
}

async fn play<S: Store>(store: &S, clock: &ManualClock, steps: &[Step], fold: impl AsyncFn()) {
    let mut committed = Model::new();
    let mut current = begin(store).await;
    let mut pending = committed.clone();
    let mut snapshots: Vec<(Open<S>, Model)> = Vec::new();
    for step in steps {
        match step {
            Step::Set(number, size, ttl) => {
                let ttl_ms = ttl.map(u64::from);
                let end = ttl_ms.map(|ttl_ms| current.now_ms() + ttl_ms);
                let ttl = ttl_ms.map_or(TimeToLive::Forever, TimeToLive::For);
                current
                    .set(&key(*number), Bytes::from(value(*size)), ttl)
                    .await
                    .unwrap();
                pending.insert(key(*number), (value(*size), end));
            }
            Step::Delete(number) => {
                let was_there = live(&pending, current.now_ms()).contains_key(&key(*number));
                assert_eq!(current.delete(&key(*number)).await.unwrap(), was_there);
                pending.remove(&key(*number));
            }
            Step::Undo(writes) => {
                let savepoint = current.savepoint();
                for (number, size) in writes {
                    current
                        .set(
                            &key(*number),
                            Bytes::from(value(*size)),
                            TimeToLive::Forever,
                        )
                        .await
                        .unwrap();
                }
                current.undo_to(savepoint);
            }
            Step::Commit => {
                compare::<S>(&mut current, &pending).await;
                let transaction = std::mem::replace(&mut current, begin(store).await);
                let now_ms = transaction.now_ms();
                let has_writes = transaction.has_writes();
                let (snapshot, commit) = transaction.into_commit(true);
                let has_expiry = commit.reads.live_until_ms != 0;
                match store.commit(snapshot, commit).await.unwrap() {
                    CommitOutcome::Committed(_) => committed = pending.clone(),
                    // Nobody else writes: only time can make a conflict.
                    CommitOutcome::Conflict => assert!(has_expiry && clock_is_after(clock, now_ms)),
                }
                // Deleting what has expired already is no write.
                assert!(has_writes || live(&pending, now_ms) == live(&committed, now_ms));
                current = begin(store).await;
                pending = committed.clone();
            }
            Step::Fold => fold().await,
            Step::OpenSnapshot => snapshots.push((begin(store).await, committed.clone())),
            Step::CloseSnapshot => drop(snapshots.pop()),
            Step::Advance(ms) => clock.advance(u64::from(*ms)),
            Step::Scan {
                from,
                to,
                is_reverse,
                rows,
            } => {
                let (start, end) = (key(*from.min(to)), key(*from.max(to)));
                let expected = live(&pending, current.now_ms());
                let in_range = |at: &Vec<u8>| *at >= start && *at < end;
                let mut rows_of: Vec<_> = expected
                    .into_iter()
                    .filter(|(at, _)| in_range(at))
                    .map(|(at, held)| (at, held.0))
                    .collect();
                if *is_reverse {
                    rows_of.reverse();
                }
                let found = read_all::<S>(
                    &mut current,
                    (&start, &end),
                    *is_reverse,
                    usize::from(*rows),
                )
                .await;
                assert_eq!(found, rows_of);
            }
        }
        for (snapshot, model) in &mut snapshots {
            compare::<S>(snapshot, model).await;
        }
    }
}

fn clock_is_after(clock: &ManualClock, ms: u64) -> bool {
    luge_server::store::Clock::now_ms(clock) > ms
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_stores_hold_what_a_map_would(steps in vec(step(), 1..60)) {
        let runtime = runtime();
        let clock = ManualClock::at(START_MS);
        let memory = MemoryStore::new([1; 16], Box::new(clock.clone()));
        runtime.block_on(play(&memory, &clock, &steps, async || {}));
        let clock = ManualClock::at(START_MS);
        let folder = tempfile::tempdir().unwrap();
        let embedded = open_embedded(folder.path(), clock.clone());
        runtime.block_on(async {
            play(&embedded, &clock, &steps, async || embedded.folded().await.unwrap()).await;
            embedded.close().await.unwrap();
        });
    }
}
