//! Writes: overwriting, inserting, and what durability costs.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use luge_server::store::embedded::{EmbeddedOptions, EmbeddedStore};
use luge_server::store::{
    CommitOutcome, Decision, ReadPoint, Sequence, Store, Target, Write, value,
};
use luge_server::transaction::{TimeToLive, Transaction, WriteLimits};
use tokio::runtime::Runtime;

use crate::measure::{
    Random, Rate, compare, folder_bytes, in_turns, process_cpu, rate, resident_bytes, thread_cpu,
};
use crate::reads::now;
use crate::timed_disk::TimedDisk;
use crate::{
    Settings, VALUE_BYTES, everysec, folder, key, open, open_loaded_sled, open_on, open_sled,
};

/// Commits of one writer that wait for their acks, as a connection pipelines them.
const PIPELINE: usize = 16;

/// Fills a store.
pub(crate) fn load(runtime: &Runtime, store: &EmbeddedStore, keys: u64) {
    let _entered = runtime.enter();
    for number in 0..keys {
        write(runtime, store, number, u64::from_le_bytes([b'v'; 8]), false);
    }
    runtime.block_on(store.folded()).expect("it folds");
}

fn write(
    runtime: &Runtime,
    store: &EmbeddedStore,
    number: u64,
    salt: u64,
    durable: bool,
) -> Sequence {
    let mut place = Vec::with_capacity(17);
    place.push(b'd');
    place.extend_from_slice(&key(number));
    let mut content = [b'v'; VALUE_BYTES];
    content[..8].copy_from_slice(&salt.to_le_bytes());
    let put = Write::Put {
        value: value(&content),
        expires_ms: 0,
    };
    let target = Target {
        key: &Bytes::from(place),
        looks: false,
        durable,
    };
    let mut put = Some(put);
    let written = store.evaluate(target, |_, _, _| Decision {
        write: put.take(),
        outcome: (),
    });
    let written = now(runtime, written).expect("it commits");
    written.committed.expect("it was written")
}

/// How writers overwrite.
#[derive(Clone, Copy, Default)]
struct Manner<'a> {
    durable: bool,
    /// Commits of one writer that wait for their acks.
    depth: usize,
    latencies: Option<&'a Mutex<Vec<Duration>>>,
}

/// Without syncs.
const RELAXED: Manner<'static> = Manner {
    durable: false,
    depth: PIPELINE,
    latencies: None,
};

/// Overwrites random keys from all writers, for a time.
fn pipelined(
    settings: &Settings,
    runtime: &Runtime,
    store: &EmbeddedStore,
    manner: Manner<'_>,
) -> Rate {
    let Manner {
        durable,
        depth,
        latencies,
    } = manner;
    rate(settings.writers, settings.time, |_, random| {
        // Writers that wait for room look at its clock.
        let _entered = runtime.enter();
        let mut waiting = VecDeque::with_capacity(depth);
        let mut own = Vec::new();
        for _ in 0..depth * 8 {
            let began = Instant::now();
            let salt = random.below(u64::MAX);
            let number = random.below(settings.keys);
            let sequence = write(runtime, store, number, salt, durable);
            waiting.push_back((sequence, began));
            if waiting.len() >= depth {
                settle(runtime, store, &mut waiting, &mut own);
            }
        }
        while !waiting.is_empty() {
            settle(runtime, store, &mut waiting, &mut own);
        }
        let count = own.len() as u64;
        if let Some(latencies) = latencies {
            latencies.lock().expect("nobody panics").append(&mut own);
        }
        count
    })
}

/// A pipeline's worth of writes, acked.
pub(crate) fn burst(
    runtime: &Runtime,
    store: &EmbeddedStore,
    mut next: impl FnMut() -> u64,
) -> u64 {
    let _entered = runtime.enter();
    let mut last = 0;
    for salt in 0..PIPELINE as u64 {
        last = write(runtime, store, next(), salt, false);
    }
    now(runtime, store.acked(last)).expect("it is acked");
    PIPELINE as u64
}

/// Waits for the oldest ack, and takes those that came with it.
fn settle(
    runtime: &Runtime,
    store: &EmbeddedStore,
    waiting: &mut VecDeque<(Sequence, Instant)>,
    latencies: &mut Vec<Duration>,
) {
    if let Some((first, _)) = waiting.front() {
        now(runtime, store.acked(*first)).expect("it is acked");
    }
    while let Some((_, began)) = waiting.pop_front_if(|(sequence, _)| store.is_acked(*sequence)) {
        latencies.push(began.elapsed());
    }
}

/// Overwriting the same keys from all writers.
pub(crate) fn overwrite(settings: &Settings) {
    let runtime = Runtime::new().expect("a runtime");
    let (ours, sleds) = (folder(), folder());
    let sled = open_loaded_sled(sleds.path(), settings.keys);
    let store = open(ours.path(), everysec());
    load(&runtime, &store, settings.keys);
    let overwrite = || {
        let rate = pipelined(settings, &runtime, &store, RELAXED);
        // What is left of the fold should not slow sled down, whose turn it is.
        runtime.block_on(store.folded()).expect("it folds");
        rate
    };
    let rates = in_turns(overwrite, || sled_overwrite(settings, &sled));
    compare("overwrite, everysec", rates, 3.0);
    let (unfolded, older) = store.memory_bytes();
    println!(
        "in memory alone {} KiB, older versions {} KiB, folder {} MiB (sled's {} MiB), resident {} MiB",
        unfolded >> 10,
        older >> 10,
        folder_bytes(ours.path()) >> 20,
        folder_bytes(sleds.path()) >> 20,
        resident_bytes() >> 20
    );
    runtime.block_on(store.close()).expect("it closes");
}

/// Overwriting for longer, slice by slice: bursts go to memory and the log alone, what lasts is folded.
pub(crate) fn sustained(settings: &Settings) {
    let runtime = Runtime::new().expect("a runtime");
    let folder = folder();
    let store = open(folder.path(), everysec());
    load(&runtime, &store, settings.keys);
    for slice in 0..8 {
        let rate = pipelined(settings, &runtime, &store, RELAXED);
        println!(
            "slice {slice} of {:?}: {:.0}/s, {:.0} ns of cpu; folder {} MiB, resident {} MiB",
            settings.time,
            rate.second,
            rate.cpu_nanos,
            folder_bytes(folder.path()) >> 20,
            resident_bytes() >> 20
        );
    }
    runtime.block_on(store.close()).expect("it closes");
}

fn sled_overwrite(settings: &Settings, sled: &sled::Db) -> Rate {
    rate(settings.writers, settings.time, |_, random| {
        for _ in 0..100 {
            let mut value = [b'v'; VALUE_BYTES];
            value[..8].copy_from_slice(&random.below(u64::MAX).to_le_bytes());
            let number = random.below(settings.keys);
            sled.insert(key(number), &value[..]).expect("it is stored");
        }
        100
    })
}

/// Inserting new keys from all writers, until there are as many as asked for.
pub(crate) fn insert(settings: &Settings) {
    let runtime = Runtime::new().expect("a runtime");
    let (ours, sleds) = (folder(), folder());
    let sled = open_sled(sleds.path());
    let sled_rate = until_all(settings, |number| {
        sled.insert(key(number), &[b'v'; VALUE_BYTES][..])
            .expect("it is stored");
    });
    drop(sled);
    let before = resident_bytes();
    let store = open(ours.path(), everysec());
    let (began, cpu) = (Instant::now(), process_cpu());
    let our_rate = until_all(settings, |number| {
        let _entered = runtime.enter();
        let sequence = write(&runtime, &store, number, 0, false);
        // As far behind as a pipeline of all writers may be.
        let window = (settings.writers * PIPELINE) as u64;
        if sequence.is_multiple_of(PIPELINE as u64) {
            let behind = now(&runtime, store.acked(sequence.saturating_sub(window)));
            behind.expect("it is acked");
        }
    });
    compare("insert new keys, everysec", (our_rate, sled_rate), 0.7);
    runtime.block_on(store.folded()).expect("it folds");
    let all = Rate::of(settings.keys, began.elapsed(), process_cpu() - cpu);
    compare("the same, until sled has them all", (all, sled_rate), 0.7);
    println!(
        "memory: {} bytes a key; folder {} MiB (sled's {} MiB)",
        resident_bytes().saturating_sub(before) / settings.keys,
        folder_bytes(ours.path()) >> 20,
        folder_bytes(sleds.path()) >> 20,
    );
    runtime.block_on(store.close()).expect("it closes");
}

fn until_all(settings: &Settings, work: impl Fn(u64) + Sync) -> Rate {
    let next = AtomicU64::new(0);
    let (began, cpu) = (Instant::now(), process_cpu());
    std::thread::scope(|scope| {
        for _ in 0..settings.writers {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= settings.keys {
                        return;
                    }
                    work(number);
                }
            });
        }
    });
    Rate::of(settings.keys, began.elapsed(), process_cpu() - cpu)
}

/// Writes that are synced before they are acked, beside writes that are not.
pub(crate) fn durability(settings: &Settings) {
    let runtime = Runtime::new().expect("a runtime");
    let everysec_folder = folder();
    let store = open(everysec_folder.path(), everysec());
    load(&runtime, &store, settings.keys);
    let relaxed = pipelined(settings, &runtime, &store, RELAXED);
    runtime.block_on(store.close()).expect("it closes");
    drop(store);
    let always_folder = folder();
    let disk = TimedDisk::default();
    let options = EmbeddedOptions::default();
    let store = open_on(disk.clone(), always_folder.path(), options);
    load(&runtime, &store, settings.keys);
    let mut rates = Vec::new();
    for depth in [PIPELINE, 1] {
        disk.take();
        let latencies = Mutex::new(Vec::new());
        let manner = Manner {
            durable: true,
            depth,
            latencies: Some(&latencies),
        };
        rates.push(pipelined(settings, &runtime, &store, manner));
        let latencies = latencies.into_inner().expect("nobody panics");
        let in_flight = settings.writers * depth;
        println!("always, {in_flight} in flight: {}", percentiles(latencies));
        let syncs = disk.take();
        println!("  as commits meet syncs: {}", met(&syncs));
        println!("  syncs meanwhile: {}", percentiles(syncs));
    }
    let always = rates.first().map_or(0.0, |rate| rate.second);
    println!(
        "always {always:.0}/s, everysec {:.0}/s: {:.2} of it (target 0.7); one sync with nothing beside it {:?}",
        relaxed.second,
        always / relaxed.second,
        one_sync(always_folder.path())
    );
    runtime.block_on(store.close()).expect("it closes");
}

fn percentiles(mut latencies: Vec<Duration>) -> String {
    latencies.sort();
    let at = |permille: usize| {
        let place = latencies.len().saturating_sub(1) * permille / 1000;
        latencies.get(place).copied().unwrap_or_default()
    };
    let mean =
        latencies.iter().sum::<Duration>() / u32::try_from(latencies.len().max(1)).unwrap_or(1);
    format!(
        "mean {mean:?}, p50 {:?}, p99 {:?}, p99.9 {:?}, max {:?}",
        at(500),
        at(990),
        at(999),
        at(1000)
    )
}

/// The sync that is under way at a moment: a long one is met by as many more commits as it is longer.
fn met(syncs: &[Duration]) -> String {
    let mut syncs = syncs.to_vec();
    syncs.sort();
    let all: Duration = syncs.iter().sum();
    let at = |permille: u32| {
        let mut passed = Duration::ZERO;
        let mut before = syncs.iter().take_while(|sync| {
            passed += **sync;
            passed < all * permille / 1000
        });
        let place = before.by_ref().count();
        syncs.get(place).copied().unwrap_or_default()
    };
    format!("p50 {:?}, p99 {:?}", at(500), at(990))
}

/// The median time of an append of 16 KiB with its sync, about what a group of 800 writes 20 times.
fn one_sync(folder: &std::path::Path) -> Duration {
    use std::io::Write as _;
    let mut file = std::fs::File::create(folder.join("probe")).expect("a file");
    let mut times: Vec<Duration> = (0..200)
        .map(|_| {
            let began = Instant::now();
            file.write_all(&[7; 16 << 10]).expect("it is written");
            file.sync_data().expect("it is synced");
            began.elapsed()
        })
        .collect();
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// A transaction of two reads and two writes, by one thread.
pub(crate) fn transaction(settings: &Settings) {
    let runtime = Runtime::new().expect("a runtime");
    let folder = folder();
    let store = open(folder.path(), everysec());
    load(&runtime, &store, settings.keys);
    const ROUNDS: u64 = 200_000;
    let mut random = Random::new(0);
    for is_waiting in [false, true] {
        let began = (Instant::now(), thread_cpu());
        for round in 0..ROUNDS {
            let last = transact(settings, &runtime, &store, &mut random);
            if is_waiting && round % PIPELINE as u64 == 0 {
                now(&runtime, store.acked(last)).expect("it is acked");
            }
        }
        let (wall, cpu) = (began.0.elapsed(), thread_cpu() - began.1);
        println!(
            "two reads and two writes{}: {:.2} µs of cpu in the foreground (target 3), {:.2} µs of time",
            if is_waiting {
                ", and every 16th time a wait for its ack"
            } else {
                ""
            },
            cpu.as_secs_f64() * 1e6 / ROUNDS as f64,
            wall.as_secs_f64() * 1e6 / ROUNDS as f64
        );
    }
    runtime.block_on(store.close()).expect("it closes");
}

fn transact(
    settings: &Settings,
    runtime: &Runtime,
    store: &EmbeddedStore,
    random: &mut Random,
) -> Sequence {
    let limits = WriteLimits {
        keys: 100,
        bytes: 1 << 20,
    };
    let snapshot = now(runtime, store.begin(ReadPoint::Newest)).expect("it begins");
    let mut transaction = Transaction::new(snapshot, limits);
    let keys = [random.below(settings.keys), random.below(settings.keys)].map(key);
    for key in &keys {
        let value = now(runtime, transaction.get(key)).expect("it reads");
        let value = value.map_or_else(Bytes::new, |live| live.value);
        let copy = luge_server::store::value(&value);
        now(runtime, transaction.set(key, copy, TimeToLive::Forever)).expect("it writes");
    }
    let (snapshot, commit) = transaction.into_commit(false);
    match now(runtime, store.commit(snapshot, commit)).expect("it commits") {
        CommitOutcome::Committed(sequence) => sequence,
        CommitOutcome::Conflict => panic!("nobody else writes"),
    }
}
