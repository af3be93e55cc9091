//! The function runtime over wasmtime: the only place that names it.
//!
//! ```text
//!   wasmtime::Engine         one, with the pool of slots that instances are made in
//!   compiled.rs, trusted.rs  compiled code on disk, and the one place that believes it
//!   structure.rs             what a module may be made of, before it is compiled
//!   prepare.rs               what is added to it, so that its instances can be rewound
//!   compiler.rs              where that happens: in a process that can be killed
//!   module.rs                a binary checked, compiled, and linked as far as it can be beforehand
//!   sandbox.rs               one sandbox: a wasmtime::Store with its instance, its meter and the call
//!   pool.rs                  which instances serve again, and which don't; idle.rs bounds those of all modules
//!   rewind.rs                how one is set back to what it was when it was made; zeros.rs reads what it left alone
//!   room.rs                  how many instances the kernel has room for
//!   host.rs, wasi.rs         what guests import; every function passes through one wrapper, guest.rs
//!   meter.rs, limiter.rs     time and memory
//!   lane.rs                  where calls that run long run: queue.rs is each module's share there, job.rs one of them
//!   failure.rs, lines.rs     how a trap is told, and from which lines it came
//! ```
//!
//! Every instance is entered on a fiber, so that a guest can be suspended at a tick and its neighbours
//! get their turn; the host functions themselves are synchronous, because the store is local.

mod compiled;
mod compiler;
mod engine;
mod failure;
mod guest;
mod host;
mod idle;
mod job;
mod lane;
mod limiter;
mod lines;
mod meter;
mod module;
mod pool;
mod prepare;
pub mod price;
mod queue;
mod rewind;
mod room;
mod sandbox;
mod structure;
mod trusted;
mod wasi;
mod zeros;

use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::function::{
    Artefact, Budget, Call, CallLimits, Candidate, Compiled, Ended, Exports, Failure, Hash, Loaded,
    Running, Runtime, Usage,
};
use crate::store::Snapshot;
use luge_protocol::{ErrorCode, Isolation};

pub use compiler::{Compilers, run as run_compiler};
pub use engine::{EngineError, EngineOptions};
pub use module::Module;
pub use pool::Instance;
pub use room::Room;

use compiled::CompiledFolder;
use compiler::{Compiler, Output, blocking};
use idle::Idle;
use lane::{GivenUp, Lane};
use lines::Lines;
use sandbox::Sandbox;

/// Compiles and calls guests.
pub struct WasmRuntime<S: Snapshot> {
    room: Room,
    engine: wasmtime::Engine,
    linker: Arc<wasmtime::Linker<guest::HostState<S>>>,
    /// What the linker has, for messages.
    known: Arc<module::Signatures>,
    /// The most that any module may ask for; what the pool's slots are made for.
    max: CallLimits,
    compiler: Compiler,
    /// Where compiled code is kept, if anywhere.
    folder: Option<Arc<CompiledFolder>>,
    idle: Arc<Idle>,
    lane: Lane,
    _ticker: engine::Ticker,
}

impl<S: Snapshot> WasmRuntime<S> {
    /// Sets the engine up.
    ///
    /// # Errors
    /// The operating system gives too little address space or too few mappings.
    pub fn new(options: &EngineOptions) -> Result<Self, EngineError> {
        let room = Room::new(options.max_instances, room::mapping_limit());
        let options = &EngineOptions {
            max_instances: room.instances,
            max_idle_instances: room.share_of(options.max_idle_instances, options.max_instances),
            ..options.clone()
        };
        let engine = engine::build(options)?;
        let linker = host::linker(&engine).map_err(|error| EngineError(error.to_string()))?;
        let mut idle = wasmtime::Store::new(&engine, guest::HostState::idle());
        let known = module::signatures(&linker, &mut idle);
        let ticker = engine::Ticker::start(&engine)?;
        let idle = Idle::new(
            options.max_idle_instances,
            options.max_module_idle_instances,
        );
        Idle::start(&idle).map_err(|error| EngineError(error.to_string()))?;
        Ok(Self {
            room,
            engine,
            linker: Arc::new(linker),
            known: Arc::new(known),
            max: options.max.clone(),
            compiler: Compiler::new(Compilers::Thread, options),
            folder: None,
            idle,
            lane: Lane::start(lane_threads()).map_err(|error| EngineError(error.to_string()))?,
            _ticker: ticker,
        })
    }

    /// How many instances it has room for.
    pub fn room(&self) -> &Room {
        &self.room
    }

    /// Where kept instances are many, lets go those of modules that were not called since this was done before. A
    /// thread does it each second.
    pub fn make_room(&self) {
        self.idle.make_room();
    }

    /// How many instances were made; all other calls found one that was kept, as it was or rewound.
    pub fn made_instances(&self) -> u64 {
        self.idle.made()
    }

    /// The same runtime, which keeps compiled code in this folder. It may be deleted at any time.
    #[must_use]
    pub fn keeping_compiled_code(mut self, folder: PathBuf) -> Self {
        self.folder = Some(Arc::new(CompiledFolder::new(folder, &self.engine)));
        self
    }

    /// The same runtime, which compiles there.
    #[must_use]
    pub fn compiling_in(mut self, place: Compilers) -> Self {
        self.compiler.move_to(place);
        self
    }

    /// Links what was compiled, and tells what is to be kept of it.
    async fn link(
        &self,
        wasm: Arc<[u8]>,
        output: Output,
        limits: CallLimits,
    ) -> Result<Loaded<Arc<Module<S>>>, String> {
        let (linker, known) = (Arc::clone(&self.linker), Arc::clone(&self.known));
        let (folder, idle) = (self.folder.clone(), Arc::clone(&self.idle));
        blocking(move || {
            // Its instructions lie where they were when it was compiled.
            let prepared = prepare::prepare(&wasm)?;
            let lines = Lines::of(&prepared);
            let module = Module::new(output.module, lines, &linker, &known, &limits, idle)?;
            let artefact = folder.map(|folder| artefact(&folder, &wasm, &prepared, &output.code));
            let module = Arc::new(module);
            Ok(Loaded { module, artefact })
        })
        .await
    }
}

/// What is to be kept of a binary that was prepared and compiled.
fn artefact(folder: &CompiledFolder, wasm: &[u8], prepared: &[u8], code: &[u8]) -> Artefact {
    let mut bytes = Lines::keep(prepared);
    bytes.extend_from_slice(code);
    Artefact {
        wasm: Sha256::digest(wasm).into(),
        compiled: Compiled {
            engine: folder.engine(),
            sha256: Sha256::digest(&bytes).into(),
        },
        bytes,
    }
}

impl<S: Snapshot> Runtime<S> for WasmRuntime<S> {
    type Module = Arc<Module<S>>;
    type Instance = Instance<S>;

    async fn load(&self, candidate: Candidate<'_>) -> Result<Loaded<Arc<Module<S>>>, String> {
        module::check_header(candidate.wasm)?;
        let limits = candidate.limits.clone();
        debug_assert!(
            limits.memory_bytes <= self.max.memory_bytes,
            "ceilings bound the pool"
        );
        let wasm = Arc::from(candidate.wasm);
        let output = self.compiler.compile(&self.engine, &wasm).await?;
        self.link(wasm, output, limits).await
    }

    async fn restore(
        &self,
        wasm: &Hash,
        compiled: &Compiled,
        limits: &CallLimits,
    ) -> Option<Arc<Module<S>>> {
        let folder = Arc::clone(self.folder.as_ref()?);
        if compiled.engine != folder.engine() {
            return None;
        }
        let (engine, linker) = (self.engine.clone(), Arc::clone(&self.linker));
        let (known, idle) = (Arc::clone(&self.known), Arc::clone(&self.idle));
        let (wasm, sha256, limits) = (*wasm, compiled.sha256, limits.clone());
        let restored = tokio::task::spawn_blocking(move || {
            let bytes = folder.read(&wasm)?;
            let (module, lines) = trusted::kept(&engine, &bytes, &sha256)?;
            let module = Module::new(module, lines, &linker, &known, &limits, idle);
            module.ok().map(Arc::new)
        });
        restored.await.ok().flatten()
    }

    async fn keep(&self, artefact: Artefact) {
        let Some(folder) = self.folder.clone() else {
            return;
        };
        let written =
            tokio::task::spawn_blocking(move || folder.write(&artefact.wasm, &artefact.bytes));
        // A write that panicked is told by the thread itself; the next start compiles.
        let _ = written.await;
    }

    fn forget(&self, wasm: &Hash) {
        if let Some(folder) = &self.folder {
            folder.remove(wasm);
        }
    }

    fn keep_only(&self, binaries: &[Hash]) {
        if let Some(folder) = &self.folder {
            folder.keep_only(binaries);
        }
    }

    fn hurry(&self) {
        self.engine.increment_epoch();
    }

    fn retire(&self, mut instance: Instance<S>) {
        instance.set_sound(false);
    }

    fn export(&self, module: &Arc<Module<S>>, function: &str) -> Option<usize> {
        module.function(function)
    }

    fn exports<'a>(&self, module: &'a Arc<Module<S>>) -> &'a Exports {
        module.exports()
    }

    async fn call(
        &self,
        module: &Arc<Module<S>>,
        instance: &mut Option<Instance<S>>,
        call: Box<Call<S>>,
        mut budget: Budget,
    ) -> Ended<S> {
        let earlier = instance.take();
        let Some(place) = call.function.export else {
            return absent(call);
        };
        let running = Arc::clone(&call.running);
        let (is_alone, deadline) = (budget.is_alone, budget.deadline);
        let pace = module.pace();
        let is_long = !is_alone && pace.is_long();
        if is_long {
            // The time in which it waits for its first slice is not used.
            budget.begun = None;
        }
        // It owns what it needs, so that it can go on in the lane.
        let work = Box::pin(call_once(Arc::clone(module), earlier, place, call, budget));
        let ended = match is_alone {
            // All commits wait for it.
            true => Ok(work.await),
            false => {
                let bounds = (is_long, deadline);
                self.lane.run_if_long(pace, &running, bounds, work).await
            }
        };
        let (ended, live) = match ended {
            Ok((Some(ended), live)) => (ended, live),
            Ok((None, _)) => return given_up(GivenUp::Lost, &running),
            Err(why) => return given_up(why, &running),
        };
        pace.note(&ended.usage);
        *instance = live;
        ended
    }
}

/// A call of a function that is not there.
fn absent<S: Snapshot>(call: Box<Call<S>>) -> Ended<S> {
    let message = format!("the module has no function `{}`", call.function.name);
    Ended {
        call: Some(call),
        outcome: Err(Box::new(Failure::new(ErrorCode::Internal, message))),
        usage: Usage::default(),
    }
}

/// A call whose deadline passed while it waited for its first slice.
fn too_late<S: Snapshot>(call: Box<Call<S>>) -> Ended<S> {
    let message =
        "the deadline passed before the function could run (`deadline_ms` of its push or call)";
    Ended {
        call: Some(call),
        outcome: Err(Box::new(Failure::new(ErrorCode::DeadlineExceeded, message))),
        usage: Usage::default(),
    }
}

/// Calls the function at this place of the module, on whichever thread asks for it; answers the instance, too,
/// where it is still sound. What is lost in a fault of our own has no end.
async fn call_once<S: Snapshot>(
    module: Arc<Module<S>>,
    earlier: Option<Instance<S>>,
    place: usize,
    call: Box<Call<S>>,
    budget: Budget,
) -> (Option<Ended<S>>, Option<Instance<S>>) {
    if budget.begun.is_none() && meter::has_passed(budget.deadline) {
        return (Some(too_late(call)), earlier);
    }
    // What happens to few calls, or costs them much more, is boxed: it would make this future, which every call
    // pays for, four times as large.
    let mut live = match ready(&module, earlier, call, &budget) {
        Ok(live) => live,
        Err(call) => match Box::pin(make(&module, call, &budget)).await {
            Ok(live) => live,
            Err(ended) => return (Some(*ended), None),
        },
    };
    let sandbox = live.sandbox();
    let outcome = sandbox.run(&module, place).await;
    // Before the lines are read: the meter is this thread's, and that may end on another.
    let (call, usage) = sandbox.end();
    if call.is_none() {
        return (None, None);
    }
    let is_whole = !sandbox.has_refused();
    let outcome = match outcome {
        Ok(number) => Ok(number),
        Err(fallen) => {
            let failure = Box::pin(fallen.with_lines(module.lines())).await;
            Err(Box::new(failure))
        }
    };
    let live = outcome.is_ok().then(|| {
        live.set_sound(is_whole);
        live
    });
    let ended = Ended {
        call,
        outcome,
        usage,
    };
    (Some(ended), live)
}

/// An instance with the call in it: the one that there is, or one that was kept. Gives the call back where there
/// is none.
fn ready<S: Snapshot>(
    module: &Module<S>,
    earlier: Option<Instance<S>>,
    call: Box<Call<S>>,
    budget: &Budget,
) -> Result<Instance<S>, Box<Call<S>>> {
    let kept = || match budget.isolation {
        Isolation::Reuse => module.kept().take(&budget.limits),
        // It has to be initialised, which is no matter of a moment.
        Isolation::Fresh if module.has_initialize() => None,
        Isolation::Fresh => module.rewound()?.take(&budget.limits),
    };
    let Some(mut instance) = earlier.or_else(kept) else {
        return Err(call);
    };
    // Until its call has come to an end, it is to be dropped.
    instance.set_sound(false);
    instance.sandbox().give(call, budget);
    Ok(instance)
}

/// A new instance with the call in it, or one that was rewound.
async fn make<S: Snapshot>(
    module: &Module<S>,
    call: Box<Call<S>>,
    budget: &Budget,
) -> Result<Instance<S>, Box<Ended<S>>> {
    let home = match budget.isolation {
        Isolation::Reuse => Some(module.kept()),
        Isolation::Fresh => module.rewound(),
    };
    let is_fresh = budget.isolation == Isolation::Fresh;
    let rewound = home.filter(|_| is_fresh && module.has_initialize());
    if let Some(mut instance) = rewound.and_then(|pool| pool.take(&budget.limits)) {
        instance.set_sound(false);
        let sandbox = instance.sandbox();
        sandbox.give(call, budget);
        sandbox.begin(module).await?;
        return Ok(instance);
    }
    let sandbox = Sandbox::make(module, call, budget).await?;
    Ok(Instance::new(Box::new(sandbox), home.cloned()))
}

/// What is left of a call that was given up.
fn given_up<S: Snapshot>(why: GivenUp, running: &Running) -> Ended<S> {
    let failure = match why {
        GivenUp::Killed => Failure::new(ErrorCode::Killed, "it was killed"),
        GivenUp::Lost => Failure::new(ErrorCode::Internal, "the call's state was lost"),
    };
    Ended {
        call: None,
        outcome: Err(Box::new(failure)),
        usage: running.used(),
    }
}

/// Half as many as there are processors: a thread that wakes to serve a request finds one of the others.
fn lane_threads() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (processors / 2).max(1)
}
