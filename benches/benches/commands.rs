//! Requests through a session, from the request's bytes to the reply as a value: no socket. Over the
//! memory store, so that what is measured is ours; over sled for comparison.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use luge_benches::{BenchCore, GUEST, ask, core, encode, memory_core, push, session};
use luge_protocol::{Call, Command, Get, Isolation, Set};
use luge_server::server::SystemClock;
use luge_server::store::Store;
use luge_server::store::embedded::disk::RealDisk;
use luge_server::store::embedded::{EmbeddedOptions, EmbeddedStore};
use serde::Serialize;
use tokio::runtime::Runtime;

const BANK: &[u8] = include_bytes!("../../udfs/examples/built/bank.wasm");

/// Arguments as the Rust SDK takes them.
fn encoded(arguments: impl Serialize) -> Vec<u8> {
    rmp_serde::to_vec(&arguments).expect("plain values are encoded")
}

fn requests(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    through(criterion, &runtime, "memory", &memory_core());
    let folder = tempfile::tempdir().expect("a folder");
    let store = EmbeddedStore::open(
        folder.path(),
        [0; 16],
        Arc::new(RealDisk),
        Box::new(SystemClock),
        EmbeddedOptions::default(),
    )
    .expect("a store");
    let core = core(store);
    through(criterion, &runtime, "embedded", &core);
    runtime.block_on(core.store.close()).expect("it closes");
}

fn through<S: Store>(
    criterion: &mut Criterion,
    runtime: &Runtime,
    store: &str,
    core: &Arc<BenchCore<S>>,
) {
    let session = Arc::new(tokio::sync::Mutex::new(runtime.block_on(session(core))));
    let value = [b'v'; 64];
    let set = |key: &'static str| {
        encode(Command::Set(Set {
            key: key.into(),
            value: (&value).into(),
            ttl_ms: None,
            keep_ttl: None,
            condition: None,
            return_old: None,
        }))
    };
    let get = |key: &'static str| encode(Command::Get(Get { key: key.into() }));
    let call = |name: &'static str, arguments: &[u8]| {
        encode(Command::Call(Call {
            procedure: name.into(),
            arguments: arguments.into(),
            dry_run: None,
            limits: None,
        }))
    };
    let hooked = "hooked:user:1234567890";
    let kept = "kept:user:1234567890";
    let five = ("five:user:1234567890", "kept-five:user:1234567890");
    runtime.block_on(async {
        let session = &mut *session.lock().await;
        let guest = wat::parse_str(GUEST).expect("the guest is well-formed");
        push(session, "kept", &guest, Some("kept:"), Isolation::Reuse).await;
        for name in ["one", "two", "three", "four", "five"] {
            push(session, name, &guest, Some("five:"), Isolation::Fresh).await;
        }
        for name in ["six", "seven", "eight", "nine", "ten"] {
            push(session, name, &guest, Some("kept-five:"), Isolation::Reuse).await;
        }
        push(session, "bank", BANK, None, Isolation::Fresh).await;
        push(session, "kept-bank", BANK, None, Isolation::Reuse).await;
        let sets = [hooked, kept, five.0, five.1].map(set);
        for body in [set("plain:user:1234567890")].into_iter().chain(sets) {
            ask(session, &body).await;
        }
        ask(session, &call("bank.open", &encoded(("anna", 100)))).await;
    });
    let account = encoded("anna");
    let mut group = criterion.benchmark_group("requests");
    group.throughput(Throughput::Elements(1));
    for (name, body) in [
        ("get", get("plain:user:1234567890")),
        ("get with a request hook", get(hooked)),
        ("get with a request hook in a kept instance", get(kept)),
        ("get with five request hooks", get(five.0)),
        ("get with five request hooks in kept instances", get(five.1)),
        ("set", set("plain:user:1234567890")),
        (
            "call of a procedure that does nothing",
            call("bench.noop", b""),
        ),
        ("call of a transfer", call("bench.transfer", b"")),
        (
            "call of a small Rust procedure",
            call("bank.balance", &account),
        ),
        (
            "call of a small Rust procedure in a kept instance",
            call("kept-bank.balance", &account),
        ),
    ] {
        group.bench_function(BenchmarkId::new(name, store), |bencher| {
            bencher.to_async(runtime).iter(|| async {
                ask(&mut *session.lock().await, &body).await;
            });
        });
    }
    group.finish();
}

criterion_group!(benches, requests);
criterion_main!(benches);
