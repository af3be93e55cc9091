//! Functions: what the core asks of any runtime that calls guests, and what it knows of modules.
//!
//! A *call* is one execution of one function. It is a value: the transaction goes in with it and
//! comes out of it, together with how it ended. The runtime adds the sandbox and the budget; what
//! the host functions mean is said here, in [`Call`], once for every runtime.

mod call;
mod describe;
mod gate;
mod grant;
mod guest_log;
mod histogram;
mod limits;
mod log;
mod registry;
mod running;
mod scan;
mod stats;
mod turnstile;
mod versions;
mod view;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use luge_protocol::{ErrorCode, Isolation};
use serde::{Deserialize, Serialize};

use crate::store::Snapshot;

pub use call::{
    Call, Function, Identity, ModuleContext, RequestContext, Seed, Stage, Stop, time_to_live,
};
pub use describe::{Changes, DescribeError, Described, Description, describe};
pub use gate::{Crowded, Gate, Place};
pub use grant::{Granted, MAX_GRANTED_PREFIXES, tidy};
pub use guest_log::{GuestLog, LogBounds, LogLine, LogPage, LogRate};
pub use histogram::{Distribution, Histogram, Sharded};
pub use limits::{CallLimits, Ceilings, LimitError};
pub use registry::{HookEntry, ModuleEntry, Procedure, Registered, Registry};
pub use running::Running;
pub use scan::ScanStep;
pub use stats::{Counted, FunctionStats, StatsRoom, VersionStats};
pub use turnstile::Turnstile;
pub use versions::{Hash, NoRoom, Version, VersionBounds, Versions};
pub use view::{HookView, ResponseStatus};

/// What a runtime is given to load a module.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The name it is pushed under.
    pub name: &'a str,
    /// The Wasm binary.
    pub wasm: &'a [u8],
    /// The limits of its calls.
    pub limits: &'a CallLimits,
}

/// What tells a binary's compiled form: the store has it, so that nothing else is ever run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compiled {
    /// Tells the runtime's release and its settings from others.
    pub engine: Hash,
    /// SHA-256 of the compiled form.
    pub sha256: Hash,
}

/// A binary's compiled form, to be kept.
#[derive(Clone, Debug)]
pub struct Artefact {
    /// SHA-256 of the binary.
    pub wasm: Hash,
    /// What tells the form.
    pub compiled: Compiled,
    /// The form.
    pub bytes: Vec<u8>,
}

/// A module that was compiled.
pub struct Loaded<M> {
    /// The module.
    pub module: M,
    /// Its compiled form; `None` where the runtime keeps none.
    pub artefact: Option<Artefact>,
}

/// What bounds one call.
#[derive(Clone, Debug)]
pub struct Budget {
    /// The limits of the attempt.
    pub limits: Arc<CallLimits>,
    /// What is left of the cpu time; the least of the call's limit and of what its phase has left.
    pub cpu: Duration,
    /// When the call begins, which is when it was asked for: the making of its instance counts. `None` is when it
    /// first runs.
    pub begun: Option<Instant>,
    /// When the request must be done.
    pub deadline: Instant,
    /// Whether all commits wait for it: it gives way more seldom, and never to the lane.
    pub is_alone: bool,
    /// Whether it may find what another request has left in its instance, and leave its own to the next.
    pub isolation: Isolation,
}

/// What a call used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Fuel.
    pub fuel: u64,
    /// Time running, host calls included, suspensions not.
    pub cpu: Duration,
    /// The most linear memory, in bytes.
    pub memory_bytes: usize,
}

/// Why a call ended without a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of end it was.
    pub code: ErrorCode,
    /// One sentence.
    pub message: String,
    /// The guest's functions that were running, innermost first.
    pub backtrace: Vec<String>,
    /// The last line that the function logged as an error.
    pub log: Option<String>,
}

/// A call that is over.
pub struct Ended<S: Snapshot> {
    /// The call, with its transaction; gone where it was killed before it was looked at, and where the runtime lost it in
    /// a fault of its own.
    pub call: Option<Box<Call<S>>>,
    /// The number that the function returned, or why there is none: boxed, since it is large, and seldom.
    pub outcome: Result<i32, Box<Failure>>,
    /// What it used.
    pub usage: Usage,
}

/// What can be loaded, instantiated and called.
pub trait Runtime<S: Snapshot>: Send + Sync + 'static {
    /// A module that is ready to be instantiated.
    type Module: Send + Sync + 'static;
    /// A live instance of a module.
    type Instance: Send + 'static;

    /// Checks and compiles a module.
    ///
    /// # Errors
    /// What is wrong with it, in one sentence.
    fn load(
        &self,
        candidate: Candidate<'_>,
    ) -> impl Future<Output = Result<Loaded<Self::Module>, String>> + Send;

    /// A module out of what [`Runtime::keep`] has kept of the binary of this hash; `None` where that is not
    /// there, is not as `compiled` tells, or does not fit the limits any more. Then it is to be loaded.
    fn restore(
        &self,
        wasm: &Hash,
        compiled: &Compiled,
        limits: &CallLimits,
    ) -> impl Future<Output = Option<Self::Module>> + Send;

    /// Keeps a compiled form for the next start. The store must have what tells it.
    fn keep(&self, artefact: Artefact) -> impl Future<Output = ()> + Send;

    /// Keeps no compiled form of this binary any more.
    fn forget(&self, wasm: &Hash);

    /// Keeps compiled forms of these binaries and of no others.
    fn keep_only(&self, binaries: &[Hash]);

    /// Has every function that runs look whether it is to end, without waiting for the next tick.
    fn hurry(&self);

    /// Drops an instance of which nothing may be left, whatever its isolation.
    fn retire(&self, instance: Self::Instance);

    /// The place of a function among those that a module exports.
    fn export(&self, module: &Self::Module, function: &str) -> Option<usize>;

    /// What a module exports.
    fn exports<'a>(&self, module: &'a Self::Module) -> &'a Exports;

    /// Calls the function that a call names, in `instance`. Where there is none, one is made and initialised, or is one
    /// that was kept: as it is, if the budget's isolation is [`Isolation::Reuse`], and else one that nobody can tell from
    /// one that was made. After a failure no instance is left. One that is dropped may be kept for other calls.
    fn call(
        &self,
        module: &Self::Module,
        instance: &mut Option<Self::Instance>,
        call: Box<Call<S>>,
        budget: Budget,
    ) -> impl Future<Output = Ended<S>> + Send;
}

/// The functions that a module exports, and what else its author may want to know of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exports {
    /// Those of the type `() -> i32`, in the module's order.
    pub callable: Vec<String>,
    /// The others, with their types.
    pub others: Vec<(String, String)>,
    /// Whether it imports what only hooks may use: `request_…` and `response_…`.
    pub has_hook_imports: bool,
    /// The memory that an instance begins with, where it is more than is set back.
    pub large_memory: Option<LargeMemory>,
}

/// A memory of which a part has to be made anew for each fresh instance, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LargeMemory {
    /// What an instance begins with.
    pub bytes: u64,
    /// The most that is.
    pub ready_bytes: u64,
}

impl Usage {
    /// Adds what another call of the same request used.
    pub fn add(&mut self, other: &Self) {
        self.fuel += other.fuel;
        self.cpu += other.cpu;
        self.memory_bytes = self.memory_bytes.max(other.memory_bytes);
    }
}

impl Failure {
    /// A failure without a back-trace.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            backtrace: Vec::new(),
            log: None,
        }
    }
}
