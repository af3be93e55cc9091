//! What the benchmarks share: a core without sockets, a guest, and requests as bytes.
//!
//! And what the programs that hunt for bugs are made of: [`histories`] checks what clients of a
//! running server saw, [`torture`] what a killed server kept. [`load`] is the load generator, [`compare`] has it
//! drive Luge and its peers, and [`scaling`] shows how Luge's cost grows.

pub mod compare;
pub mod histories;
pub mod load;
pub mod pipeline;
pub mod process;
pub mod random;
pub mod scaling;
pub mod targets;
pub mod torture;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use luge_protocol::{Command, Hello, HookOverride, Isolation, ModulePush, Request};
use luge_server::config::Config;
use luge_server::function::Identity;
use luge_server::server::{SystemClock, ceilings, engine_options, settings, surroundings};
use luge_server::session::{Core, Session};
use luge_server::store::{MemoryStore, Store};
use luge_server::udf::WasmRuntime;

/// Runs a program that hunts for bugs: what it answers is its exit code, and 2 where it could not do
/// its work.
pub fn run(program: impl Future<Output = Result<ExitCode, String>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(program),
        Err(error) => Err(format!("can't start the runtime: {error}")),
    };
    outcome.unwrap_or_else(|message| {
        eprintln!("error: {message}");
        ExitCode::from(2)
    })
}

/// A core over a store, with the function runtime.
pub type BenchCore<S> = Core<S, WasmRuntime<<S as Store>::Snapshot>>;

/// A session with it.
pub type BenchSession<S> = Session<S, WasmRuntime<<S as Store>::Snapshot>>;

/// The guest of the benchmarks: procedures that do nothing, call the host a thousand times, read one
/// key as often, and move an amount between two keys; and hooks that do nothing.
pub const GUEST: &str = r#"(module
    (import "luge_v1" "output_write" (func $output (param i32 i32)))
    (import "luge_v1" "now_ms" (func $now (result i64)))
    (import "luge_v1" "kv_get" (func $get (param i32 i32 i32 i32 i32) (result i64)))
    (import "luge_v1" "kv_incr" (func $incr (param i32 i32 i64 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "ab")
    (data (i32.const 16) "{\22procedure\22:\22noop\22}\0a{\22procedure\22:\22touch\22}\0a{\22procedure\22:\22thousand\22}\0a{\22procedure\22:\22transfer\22}\0a{\22hook\22:\22pass\22,\22phase\22:\22request\22,\22commands\22:[\22get\22],\22prefix\22:\22hooked:\22}")
    (func (export "metadata") (result i32) (call $output (i32.const 16) (i32.const 164)) (i32.const 0))
    (func (export "noop") (result i32) (i32.const 0))
    (func (export "touch") (result i32)
        (i32.store (i32.const 1024) (i32.const 1)) (i32.store (i32.const 32768) (i32.const 1)) (i32.const 0))
    (func (export "thousand") (result i32) (local $left i32)
        (local.set $left (i32.const 1000))
        (loop $more
            (drop (call $now))
            (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
        (i32.const 0))
    (func (export "hot") (result i32) (local $left i32)
        (local.set $left (i32.const 1000))
        (loop $more
            (drop (call $get (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 2000) (i32.const 64)))
            (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
        (i32.const 0))
    (func (export "transfer") (result i32)
        (drop (call $incr (i32.const 0) (i32.const 1) (i64.const -1) (i32.const 2000)))
        (drop (call $incr (i32.const 1) (i32.const 1) (i64.const 1) (i32.const 2000)))
        (i32.const 0))
    (func (export "pass") (result i32) (i32.const 0)))"#;

/// A core over this store.
///
/// # Panics
/// The function runtime can't be set up.
pub fn core<S: Store>(store: S) -> Arc<BenchCore<S>> {
    let config = Config::default();
    let ceilings = ceilings(&config);
    let runtime = WasmRuntime::new(&engine_options(&config, &ceilings)).expect("an engine");
    Arc::new(Core::new(
        store,
        runtime,
        settings(&config, ceilings),
        surroundings(),
    ))
}

/// A core in memory.
#[must_use]
pub fn memory_core() -> Arc<BenchCore<MemoryStore>> {
    core(MemoryStore::new([0; 16], Box::new(SystemClock)))
}

/// A session that has been greeted, and has pushed the guest as `bench`.
///
/// # Panics
/// The guest is refused.
pub async fn session<S: Store>(core: &Arc<BenchCore<S>>) -> BenchSession<S> {
    let mut session = Session::new(Arc::clone(core), Identity::default());
    let hello = Command::Hello(Hello {
        versions: vec![1],
        client: None,
        credentials: None,
    });
    ask(&mut session, &encode(hello)).await;
    let wasm = wat::parse_str(GUEST).expect("the guest is well-formed");
    push(&mut session, "bench", &wasm, None, Isolation::Fresh).await;
    session
}

/// Pushes a module, its hooks for keys with this prefix where one is given.
///
/// # Panics
/// It is refused.
pub async fn push<S: Store>(
    session: &mut BenchSession<S>,
    name: &'static str,
    wasm: &[u8],
    prefix: Option<&'static str>,
    isolation: Isolation,
) {
    let overrides = prefix.map(|prefix| {
        vec![HookOverride {
            prefix: Some(prefix.into()),
            ..HookOverride::default()
        }]
    });
    let push = Command::ModulePush(Box::new(ModulePush {
        name: name.into(),
        wasm: wasm.into(),
        config: None,
        limits: None,
        overrides,
        inactive: None,
        dry_run: None,
        grant: None,
        isolation: Some(isolation),
    }));
    ask(session, &encode(push)).await;
}

/// A request's body.
#[must_use]
pub fn encode(command: Command<'_>) -> Vec<u8> {
    Request::new(1, command).encode()
}

/// Answers one request.
///
/// # Panics
/// It fails.
pub async fn ask<S: Store>(session: &mut BenchSession<S>, body: &[u8]) {
    let answer = session.handle(body, Instant::now()).await;
    if let Err(error) = answer.response.outcome {
        panic!("{error}");
    }
}
