//! Reads: hot, cold, and scans.

use bytes::Bytes;
use luge_server::store::embedded::{EmbeddedOptions, EmbeddedStore};
use luge_server::store::{KeyRange, PageLimit, ReadPoint, Snapshot, Store};
use tokio::runtime::Runtime;

use crate::measure::{Random, compare, in_turns, rate, resident_bytes};
use crate::writes::load;
use crate::{Settings, everysec, folder, key, open, open_loaded_sled};

/// Compares reads.
pub(crate) fn run(settings: &Settings) {
    let runtime = Runtime::new().expect("a runtime");
    let (ours, sleds) = (folder(), folder());
    let sled = open_loaded_sled(sleds.path(), settings.keys);
    let before = resident_bytes();
    // Hot keys are those that are in memory: here, all.
    let hot = EmbeddedOptions {
        cache_bytes: 8 << 30,
        ..everysec()
    };
    let store = open(ours.path(), hot);
    load(&runtime, &store, settings.keys);
    let bytes = resident_bytes().saturating_sub(before);
    println!(
        "memory with all in the cache: {} bytes a key",
        bytes / settings.keys
    );
    let warm = |store: &EmbeddedStore| {
        rate(settings.readers, settings.time, |_, random| {
            let snapshot = begin(&runtime, store);
            (0..1000)
                .map(|_| u64::from(get(&snapshot, random.below(settings.keys))))
                .sum()
        })
    };
    let sled_get = || {
        rate(settings.readers, settings.time, |_, random| {
            (0..1000)
                .map(|_| {
                    let found = sled.get(key(random.below(settings.keys)));
                    u64::from(found.expect("it reads").is_some())
                })
                .sum()
        })
    };
    warm(&store);
    // As a `get` of one key does.
    let peek = || {
        rate(settings.readers, settings.time, |_, random| {
            (0..1000)
                .map(|_| u64::from(peek(&store, random.below(settings.keys))))
                .sum()
        })
    };
    compare("hot get", in_turns(peek, sled_get), 4.0);
    // As a function does.
    let rates = in_turns(|| warm(&store), sled_get);
    compare("hot get, of an open snapshot", rates, 4.0);
    let single = rate(settings.readers, settings.time, |_, random| {
        let snapshot = begin(&runtime, &store);
        u64::from(get(&snapshot, random.below(settings.keys)))
    });
    println!(
        "a snapshot with one hot get: {:.0}/s, {:.0} ns",
        single.second, single.cpu_nanos
    );
    runtime.block_on(store.close()).expect("it closes");
    drop(store);
    let uncached = EmbeddedOptions {
        cache_bytes: 0,
        ..like_sled()
    };
    let store = open(ours.path(), uncached);
    warm(&store);
    let rates = in_turns(|| warm(&store), sled_get);
    compare("cold get: sled has it", rates, 1.0 / 1.3);
    runtime.block_on(store.close()).expect("it closes");
}

/// Our sled has as much of a cache as the other one, which has its default.
fn like_sled() -> EmbeddedOptions {
    EmbeddedOptions {
        index_cache_bytes: 1 << 30,
        ..everysec()
    }
}

fn begin<S: Store>(runtime: &Runtime, store: &S) -> S::Snapshot {
    now(runtime, store.begin(ReadPoint::Newest)).expect("it begins")
}

fn peek(store: &impl Store, number: u64) -> bool {
    let peeked = store.peek(&place(number), 0).expect("memory has it");
    peeked.entry.is_some()
}

fn get(snapshot: &impl Snapshot, number: u64) -> bool {
    let found = poll(snapshot.get(&place(number))).expect("it is ready at once");
    found.expect("it reads").is_some()
}

/// The store's key.
fn place(number: u64) -> [u8; 17] {
    let mut place = [0; 17];
    place[0] = b'd';
    place[1..].copy_from_slice(&key(number));
    place
}

/// Polls once: what is in memory is ready at once.
pub(crate) fn poll<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(ready) => Some(ready),
        std::task::Poll::Pending => None,
    }
}

/// What is ready at once as it is, and what is not on the runtime.
pub(crate) fn now<F: Future>(runtime: &Runtime, future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(ready) => ready,
        std::task::Poll::Pending => runtime.block_on(future),
    }
}

/// Scans over everything: as a server does it, and without what it keeps for scans.
pub(crate) fn scan(settings: &Settings) {
    let runtime = Runtime::new().expect("a runtime");
    let (ours, sleds) = (folder(), folder());
    let sled = open_loaded_sled(sleds.path(), settings.keys);
    let store = open(ours.path(), like_sled());
    load(&runtime, &store, settings.keys);
    let sleds = |_: usize, _: &mut Random| {
        let rows = sled.iter().filter(|row| match row {
            Ok((_, value)) => is_read(value),
            Err(_) => false,
        });
        rows.count() as u64
    };
    let in_turns = |store: &EmbeddedStore| {
        let ours = |_: usize, _: &mut Random| scan_all(&begin(&runtime, store));
        in_turns(
            || rate(1, settings.time, ours),
            || rate(1, settings.time, sleds),
        )
    };
    compare("scan, rows", in_turns(&store), 0.8);
    runtime.block_on(store.close()).expect("it closes");
    drop(store);
    let uncached = EmbeddedOptions {
        cache_bytes: 0,
        ..like_sled()
    };
    let store = open(ours.path(), uncached);
    compare("cold scan, rows: sled has them", in_turns(&store), 0.8);
    runtime.block_on(store.close()).expect("it closes");
}

/// Reads all rows; answers how many there are.
fn scan_all(snapshot: &impl Snapshot) -> u64 {
    let limit = PageLimit {
        rows: 1000,
        bytes: 1 << 20,
    };
    let mut range = KeyRange {
        start: Bytes::from_static(b"d"),
        end: Bytes::from_static(b"e"),
    };
    let mut rows = 0;
    loop {
        let page = poll(snapshot.scan(&range, false, false, limit)).expect("it is ready");
        let page = page.expect("it reads");
        let read = page.rows.iter().filter(|(_, it)| is_read(&it.value));
        rows += read.count() as u64;
        let Some(reached) = page.reached else {
            return rows;
        };
        range.start = [&reached[..], &[0]].concat().into();
    }
}

/// Looks at a whole value, as whoever scans does.
fn is_read(value: &[u8]) -> bool {
    value.iter().all(|byte| *byte == b'v')
}
