//! Languages: what the rate limiter costs in each language that it is written in.
//!
//! Prints the size of each module that is given, and how long its compilation, its first call, a call in a
//! fresh instance and one in a kept instance take. A call is the hook that counts a request: it reads two
//! settings, the client and a key, and writes the key.

#![expect(clippy::print_stdout, reason = "this is where the program prints")]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use luge_benches::{BenchCore, memory_core};
use luge_protocol::Isolation;
use luge_server::function::{
    Budget, Call, CallLimits, Candidate, Function, ModuleContext, Runtime, Stage,
};
use luge_server::store::{MemorySnapshot, MemoryStore, ReadPoint, Store};
use luge_server::transaction::{Transaction, WriteLimits};
use luge_server::udf::Module;

/// How many calls are measured of each kind at once, and how often; the least mean is told.
const CALLS: u32 = 500;
const ROUNDS: u32 = 9;

const RUST: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../udfs/examples/built/rate_limiter.wasm"
);

fn main() -> ExitCode {
    luge_benches::run(measure())
}

async fn measure() -> Result<ExitCode, String> {
    let mut paths: Vec<String> = std::env::args().skip(1).collect();
    if paths.is_empty() {
        paths.push(RUST.to_owned());
    }
    println!(
        "size in bytes, compilation, first call, fresh call, kept call, fuel of a fresh and of a kept call, memory"
    );
    for path in paths {
        let wasm = std::fs::read(&path).map_err(|error| format!("{path}: {error}"))?;
        let bench = Bench::new(&wasm).await?;
        let first = bench.calls(Isolation::Fresh, 1).await?;
        let fresh = bench.least(Isolation::Fresh).await?;
        let kept = bench.least(Isolation::Reuse).await?;
        println!("{path}");
        println!(
            "{}, {:.1?}, {:.1?}, {:.1?}, {:.2?}, {} and {}, {} KiB",
            wasm.len(),
            bench.compilation,
            first.each,
            fresh.each,
            kept.each,
            fresh.fuel,
            kept.fuel,
            fresh.memory_bytes >> 10,
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// A module that is loaded.
struct Bench {
    core: Arc<BenchCore<MemoryStore>>,
    module: Arc<Module<MemorySnapshot>>,
    function: Arc<Function>,
    limits: Arc<CallLimits>,
    compilation: Duration,
}

/// What calls took: the mean time, and what the last one used.
struct Took {
    each: Duration,
    fuel: u64,
    memory_bytes: usize,
}

impl Bench {
    async fn new(wasm: &[u8]) -> Result<Self, String> {
        let core = memory_core();
        let limits = core.settings.ceilings.default.clone();
        let candidate = Candidate {
            name: "rate-limiter",
            wasm,
            limits: &limits,
        };
        let began = Instant::now();
        let module = core.runtime.load(candidate).await?.module;
        let compilation = began.elapsed();
        let limit = ("limit".to_owned(), i64::MAX.to_string());
        let context = ModuleContext {
            config: BTreeMap::from([limit]),
            // The clock while an instance is made: Go's runtime does not begin where it shows 0.
            pushed_ms: 1_700_000_000_000,
            ..ModuleContext::default()
        };
        let function = Function {
            module: Arc::new(context),
            export: core.runtime.export(&module, "limit"),
            ..Function::default()
        };
        Ok(Self {
            core,
            module,
            function: Arc::new(function),
            limits: Arc::new(limits),
            compilation,
        })
    }

    async fn least(&self, isolation: Isolation) -> Result<Took, String> {
        let mut least = self.calls(isolation, CALLS).await?;
        for _ in 1..ROUNDS {
            let took = self.calls(isolation, CALLS).await?;
            if took.each < least.each {
                least = took;
            }
        }
        Ok(least)
    }

    /// Calls of the hook, one after the other, in one transaction.
    async fn calls(&self, isolation: Isolation, count: u32) -> Result<Took, String> {
        let snapshot = self.core.store.begin(ReadPoint::Newest).await;
        let snapshot = snapshot.map_err(|error| error.to_string())?;
        let writes = WriteLimits {
            keys: 10,
            bytes: 1 << 20,
        };
        let mut transaction = Some(Box::new(Transaction::new(snapshot, writes)));
        let began = Instant::now();
        let mut used = None;
        for _ in 0..count {
            let begun = Instant::now();
            let budget = Budget {
                begun: Some(begun),
                is_alone: false,
                limits: Arc::clone(&self.limits),
                cpu: self.limits.cpu,
                deadline: begun + self.limits.deadline,
                isolation,
            };
            let taken = transaction.take();
            let function = Arc::clone(&self.function);
            let mut call = Call::new(Stage::RequestHook, taken, Arc::default(), function, [7; 32]);
            (call.max_key_bytes, call.max_value_bytes) = (1 << 10, 1 << 20);
            call.max_output_bytes = self.limits.output_bytes;
            let (module, mut instance) = (&self.module, None);
            let runtime = &self.core.runtime;
            let ended = runtime
                .call(module, &mut instance, Box::new(call), budget)
                .await;
            match ended.outcome {
                Ok(0) => {}
                Ok(other) => return Err(format!("the hook answered {other}")),
                Err(failure) => {
                    let from = failure.backtrace.join(", ");
                    return Err(format!("{}, in {from}", failure.message));
                }
            }
            transaction = ended.call.and_then(|mut call| call.transaction.take());
            used = Some(ended.usage);
        }
        let each = began.elapsed() / count;
        let used = used.ok_or("no call was made")?;
        Ok(Took {
            each,
            fuel: used.fuel,
            memory_bytes: used.memory_bytes,
        })
    }
}
