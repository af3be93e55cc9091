//! The function runtime alone: a fresh instance and a call, a call into a live instance, and calls
//! of the host. No session, no store behind it.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use luge_benches::{GUEST, memory_core};
use luge_protocol::{Isolation, ProcedureDescription};
use luge_server::function::{
    Budget, Call, CallLimits, Candidate, Function, Runtime, Stage, StatsRoom, Usage, VersionStats,
};
use luge_server::store::{Commit, MemorySnapshot, ReadPoint, Store, Write};
use luge_server::transaction::{Keyspace, Transaction, WriteLimits};
use luge_server::udf::{Instance, Module};

fn calls(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let core = memory_core();
    let limits = core.settings.ceilings.default.clone();
    let wasm = wat::parse_str(GUEST).expect("the guest is well-formed");
    let candidate = Candidate {
        name: "bench",
        wasm: &wasm,
        limits: &limits,
    };
    let module = runtime
        .block_on(core.runtime.load(candidate))
        .expect("it loads")
        .module;
    let mut group = criterion.benchmark_group("functions");
    for (name, function, keeps, isolation) in [
        ("fresh instance and call", "noop", false, Isolation::Fresh),
        (
            "instance kept between calls and call",
            "noop",
            false,
            Isolation::Reuse,
        ),
        (
            "fresh instance and call touching two pages",
            "touch",
            false,
            Isolation::Fresh,
        ),
        ("call into a live instance", "noop", true, Isolation::Fresh),
        (
            "call into a live instance with 1,000 host calls",
            "thousand",
            true,
            Isolation::Fresh,
        ),
        (
            "call into a live instance with 1,000 reads of one key",
            "hot",
            true,
            Isolation::Fresh,
        ),
    ] {
        group.bench_function(name, |bencher| {
            bencher.to_async(&runtime).iter_custom(|count| {
                run(&core, &module, &limits, (function, keeps, isolation), count)
            });
        });
    }
    group.finish();
}

/// Runs `count` calls one after the other, in one instance or in a fresh one each.
async fn run(
    core: &Arc<luge_benches::BenchCore<luge_server::store::MemoryStore>>,
    module: &Arc<Module<MemorySnapshot>>,
    limits: &CallLimits,
    (function, keeps, isolation): (&str, bool, Isolation),
    count: u64,
) -> Duration {
    let begin = async || {
        let snapshot = core.store.begin(ReadPoint::Newest).await;
        snapshot.expect("a snapshot")
    };
    let commit = Commit {
        writes: vec![(Keyspace::Data.key(b"a"), put())],
        ..Commit::default()
    };
    let committed = core.store.commit(begin().await, commit).await;
    committed.expect("a commit");
    let snapshot = begin().await;
    let writes = WriteLimits {
        keys: 10,
        bytes: 1000,
    };
    let mut transaction = Some(Box::new(Transaction::new(snapshot, writes)));
    let mut instance: Option<Instance<MemorySnapshot>> = None;
    let begun = Instant::now();
    let mut budget = Budget {
        begun: Some(begun),
        is_alone: false,
        limits: Arc::new(limits.clone()),
        cpu: limits.cpu,
        deadline: begun + Duration::from_secs(3600),
        isolation,
    };
    let function = Arc::new(Function {
        export: core.runtime.export(module, function),
        ..Function::default()
    });
    let running = Arc::default();
    for _ in 0..count {
        budget.begun = Some(Instant::now());
        let taken = transaction.take();
        let (running, function) = (Arc::clone(&running), Arc::clone(&function));
        let mut call = Box::new(Call::new(
            Stage::Procedure,
            taken,
            running,
            function,
            [7; 32],
        ));
        call.max_key_bytes = 1 << 10;
        let ended = core
            .runtime
            .call(module, &mut instance, call, budget.clone())
            .await;
        assert_eq!(ended.outcome, Ok(0));
        transaction = ended.call.and_then(|mut call| call.transaction.take());
        if !keeps {
            instance = None;
        }
    }
    begun.elapsed()
}

fn put() -> Write {
    Write::Put {
        value: vec![b'v'; 64].into(),
        expires_ms: 0,
    }
}

/// What it costs a call to be counted, by one thread and by two at once.
fn counting(criterion: &mut Criterion) {
    let stats = Arc::new(version_stats());
    let usage = Usage {
        fuel: 4_213,
        cpu: Duration::from_nanos(2_400),
        memory_bytes: 65_536,
    };
    let mut group = criterion.benchmark_group("counting");
    for threads in [1, 2] {
        let name = format!("a call, by each of {threads} threads");
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| {
                let begun = Instant::now();
                std::thread::scope(|scope| {
                    for _ in 0..threads {
                        scope.spawn(|| {
                            for _ in 0..count {
                                if let Some(function) = black_box(&stats).of(black_box("transfer"))
                                {
                                    function.add_call(black_box(&usage), 1);
                                }
                            }
                        });
                    }
                });
                begun.elapsed()
            });
        });
    }
    group.finish();
}

/// Of a module with ten procedures.
fn version_stats() -> VersionStats {
    let procedure = |name: &str| ProcedureDescription {
        procedure: name.to_owned(),
        read_only: false,
        description: String::new(),
    };
    let names = "open close deposit withdraw transfer balance history freeze thaw audit";
    let procedures: Vec<_> = names.split(' ').map(procedure).collect();
    VersionStats::new(&procedures, &[], &Arc::new(StatsRoom::new(100)))
}

criterion_group!(benches, calls, counting);
criterion_main!(benches);
