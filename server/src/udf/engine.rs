//! The engine: which Wasm is accepted, how it is compiled, and the pool that instances live in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, OperatorCost, OptLevel, PoolingAllocationConfig,
    Strategy, VariableOperatorCost, WasmBacktraceDetails,
};

use crate::function::CallLimits;

/// How often a running guest is looked at: its limits are checked, and its neighbours get a turn.
const TICK: Duration = Duration::from_millis(1);

/// What host functions may use of a fiber's stack, beyond the guest's own part.
const HOST_STACK_BYTES: usize = 1 << 20;

/// What a slot keeps resident between two instances, so that a small guest's pages need not be
/// mapped anew: what a small stack and some data take. It is cleared at each end, so more is not better.
pub(super) const KEPT_MEMORY_BYTES: usize = 128 << 10;

/// The same for a slot's table.
const KEPT_TABLE_BYTES: usize = 8 << 10;

/// Frames of a back-trace. The innermost say where it failed; a deep recursion repeats itself.
const MAX_BACKTRACE_FRAMES: usize = 20;

/// How the engine is set up.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Instances that may live at once.
    pub max_instances: u32,
    /// Of these, instances of all modules that are kept, waiting for a call or at work.
    pub max_idle_instances: usize,
    /// Instances of one version of a module that wait for a call.
    pub max_module_idle_instances: usize,
    /// The most that any module may ask for.
    pub max: CallLimits,
    /// A guest's stack, in bytes.
    pub stack_bytes: usize,
    /// How long a process may compile one binary, by the wall clock.
    pub compile_time: Duration,
    /// What a process may take of memory for that, in bytes.
    pub compile_memory_bytes: u64,
}

/// Why the engine can't be set up.
#[derive(Debug, thiserror::Error)]
#[error("the function runtime can't be set up: {0}")]
pub struct EngineError(pub(super) String);

pub(super) fn build(options: &EngineOptions) -> Result<Engine, EngineError> {
    let mut config = guests();
    config
        .max_wasm_stack(options.stack_bytes)
        .async_stack_size(options.stack_bytes + HOST_STACK_BYTES)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(options)));
    start(&config)
}

/// An engine whose code runs in the other, and which makes no instances.
pub(super) fn for_compiling() -> Result<Engine, EngineError> {
    start(&guests())
}

fn start(config: &Config) -> Result<Engine, EngineError> {
    Engine::new(config).map_err(|error| EngineError(format!("{error:#}")))
}

/// Which Wasm there is, and what code is made of it.
fn guests() -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        .consume_fuel(true)
        .operator_cost(operator_cost())
        .epoch_interruption(true)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(MAX_BACKTRACE_FRAMES))
        .native_unwind_info(false)
        .wasm_tail_call(false)
        .wasm_relaxed_simd(false)
        .wasm_multi_memory(false)
        .wasm_memory64(false)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false);
    config
}

fn pool(options: &EngineOptions) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(options.max_instances)
        .total_memories(options.max_instances)
        .total_tables(options.max_instances)
        .total_stacks(options.max_instances)
        .max_memory_size(options.max.memory_bytes)
        .max_memories_per_module(1)
        .max_tables_per_module(1)
        .table_elements(options.max.table_elements)
        .linear_memory_keep_resident(KEPT_MEMORY_BYTES)
        .table_keep_resident(KEPT_TABLE_BYTES)
        .max_unused_warm_slots(options.max_instances);
    pool
}

/// One unit an operator, as wasmtime has it, and for growth a price a page, since each growth changes
/// the mapping of memory.
fn operator_cost() -> OperatorCost {
    let variable = VariableOperatorCost {
        memory_grow_per_page: super::price::MEMORY_GROW_PER_PAGE,
        ..VariableOperatorCost::new()
    };
    OperatorCost {
        variable,
        ..OperatorCost::default()
    }
}

/// The thread that moves the epoch on.
pub(super) struct Ticker {
    is_stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    pub(super) fn start(engine: &Engine) -> Result<Self, EngineError> {
        let engine = engine.weak();
        let is_stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&is_stopped);
        let tick = move || {
            while !stop.load(Ordering::Relaxed) {
                std::thread::sleep(TICK);
                match engine.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => return,
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("luge-ticker".to_owned())
            .spawn(tick)
            .map_err(|error| EngineError(error.to_string()))?;
        Ok(Self {
            is_stopped,
            thread: Some(thread),
        })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
