//! The function runtime alone: a fresh instance and a call, a call into a live instance, and calls
//! of the host. No session, no store behind it.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use luge_benches::{GUEST, memory_core};
use luge_server::function::{
    Budget, Call, CallLimits, Candidate, ModuleContext, RequestContext, Runtime, Stage,
};
use luge_server::store::{MemorySnapshot, ReadPoint, Store};
use luge_server::transaction::{Transaction, WriteLimits};
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
    let context = Arc::new(ModuleContext::default());
    let mut group = criterion.benchmark_group("functions");
    for (name, function, keeps) in [
        ("fresh instance and call", "noop", false),
        ("fresh instance and call touching two pages", "touch", false),
        ("call into a live instance", "noop", true),
        (
            "call into a live instance with 1,000 host calls",
            "thousand",
            true,
        ),
    ] {
        group.bench_function(name, |bencher| {
            bencher.to_async(&runtime).iter_custom(|count| {
                run(&core, &module, &context, &limits, function, keeps, count)
            });
        });
    }
    group.finish();
}

/// Runs `count` calls one after the other, in one instance or in a fresh one each.
async fn run(
    core: &Arc<luge_benches::BenchCore<luge_server::store::MemoryStore>>,
    module: &Module<MemorySnapshot>,
    context: &Arc<ModuleContext>,
    limits: &CallLimits,
    function: &str,
    keeps: bool,
    count: u64,
) -> Duration {
    let snapshot = core
        .store
        .begin(ReadPoint::Newest)
        .await
        .expect("a snapshot");
    let writes = WriteLimits {
        keys: 10,
        bytes: 1000,
    };
    let mut transaction = Some(Transaction::new(snapshot, writes));
    let mut instance: Option<Instance<MemorySnapshot>> = None;
    let begun = Instant::now();
    let budget = Budget {
        limits: limits.clone(),
        cpu: limits.cpu,
        deadline: begun + Duration::from_secs(3600),
        running: Arc::default(),
    };
    for _ in 0..count {
        let request = RequestContext::default();
        let taken = transaction.take();
        let call = Box::new(Call::new(
            Stage::Procedure,
            taken,
            request,
            Arc::clone(context),
            [7; 32],
        ));
        let ended = core
            .runtime
            .call(module, &mut instance, function, call, &budget)
            .await;
        assert_eq!(ended.outcome, Ok(0));
        transaction = ended.call.and_then(|mut call| call.transaction.take());
        if !keeps {
            instance = None;
        }
    }
    begun.elapsed()
}

criterion_group!(benches, calls);
criterion_main!(benches);
