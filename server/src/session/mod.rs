//! Sessions: one client's conversation as a value, without its socket.
//!
//! [`Session::handle`] turns one request's body into one answer. The answer carries a *gate*: the
//! sequence that the store must have acked before the answer may leave. A session takes the next
//! request as soon as the last one is sequenced, so the requests of a pipeline share a sync.

mod attempt;
mod authority;
mod calls;
mod dry_run;
mod figures;
mod greeting;
mod hooks;
mod logs;
mod modules;
mod places;
mod plain;
mod point;
mod procedures;
mod refusal;
mod request;
mod stats;
mod streams;
mod sweep;
mod watch;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use luge_protocol::{
    Command, Durability, ErrorCode, ErrorReply, HookCommand, InfoReply, Options, Reply, Request,
    RequestId, Response, ServerLimits,
};
use tokio::sync::Semaphore;
use tokio::sync::watch::{Receiver, Sender};
use tracing::Instrument;

use crate::bugs::{Bug, is_seeded};
use crate::command::CommandLimits;
use crate::function::{
    CallLimits, Ceilings, Gate, GuestLog, Identity, LogBounds, Procedure, Registry, RequestContext,
    Runtime, Seed, Turnstile, VersionBounds,
};
use crate::store::{Commit, CommitOutcome, ReadPoint, Sequence, Store};
use crate::transaction::{Coordinator, WriteLimits};

use authority::Grant;
use stats::Stats;
use streams::StreamTable;

pub use authority::{Authority, Role, Token, TokenHash};
pub use figures::{Figures, FunctionFigures, Traffic};
pub use modules::{LoadError, load_modules};
pub use plain::{MAX_PLAIN_RESPONSE_BYTES, Written};
pub use streams::{Interruption, Progress, Stream};
pub use sweep::{sweep, sweep_once};

/// What the sessions of a server share.
pub struct Core<S: Store, R: Runtime<S::Snapshot>> {
    /// Where the data lies.
    pub store: S,
    /// What calls guests.
    pub runtime: R,
    /// The modules in force.
    registry: ArcSwap<Registry<R::Module>>,
    /// Who may do what.
    authority: Sender<Arc<Authority>>,
    coordinator: Coordinator,
    /// The bounds.
    pub settings: Settings,
    surroundings: Surroundings,
    /// One change of a module at a time, so that each builds on the last one's registry.
    pushes: Arc<tokio::sync::Mutex<()>>,
    /// How many requests may run functions at once.
    running: Semaphore,
    /// Where those pass that waited for a place until they were late.
    late: Turnstile,
    /// The requests that run functions.
    calls: Arc<calls::Calls>,
    stats: Stats,
    traffic: Traffic,
    /// What guests logged lately.
    log: Arc<GuestLog>,
    /// One permit for each stream, of all connections together.
    stream_places: Arc<Semaphore>,
    requests: AtomicU64,
    connections: AtomicU64,
    started: Instant,
}

/// The bounds of a server, as far as requests meet them.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The bounds on commands.
    pub command: CommandLimits,
    /// A frame's body, in bytes; a reply may not be larger either.
    pub max_frame_bytes: usize,
    /// A module's binary, in bytes.
    pub max_module_bytes: usize,
    /// Registered modules.
    pub max_modules: usize,
    /// What is kept of one module.
    pub versions: VersionBounds,
    /// What a plain command's transaction may write.
    pub writes: WriteLimits,
    /// Keys and ranges that one transaction may read.
    pub max_reads: usize,
    /// The limits of calls.
    pub ceilings: Ceilings,
    /// The cpu time of all hooks of one phase of a request together.
    pub phase_cpu: Duration,
    /// Requests that may run functions at once; others wait.
    pub max_running: usize,
    /// Requests that wait for a place behind the gate of one module.
    pub max_module_waiting: usize,
    /// Streams of one connection.
    pub max_streams: usize,
    /// Streams of all connections together.
    pub max_all_streams: usize,
    /// What is kept of guests' lines.
    pub log: LogBounds,
    /// Functions that are counted.
    pub max_counted_functions: usize,
    /// Attempts beside others, before one alone.
    pub max_shared_attempts: u32,
    /// The durability of writes, as clients are told.
    pub durability: String,
    /// Whether a write must be on disk before it is acknowledged.
    pub syncs_always: bool,
}

impl Settings {
    /// Whether the attempt of this number runs while no other commits.
    fn is_alone(&self, attempt: u32) -> bool {
        attempt > self.max_shared_attempts
    }

    /// The gate of a version with these limits.
    fn gate(&self, limits: &CallLimits) -> Gate {
        let places = limits
            .running_calls
            .clamp(1, self.ceilings.max.running_calls.max(1));
        Gate::new(places, self.max_module_waiting)
    }
}

/// What enters the core as a value: time and randomness.
pub struct Surroundings {
    /// The clock that deadlines are measured by.
    pub now: Box<dyn Fn() -> Instant + Send + Sync>,
    /// Fresh random bytes.
    pub seed: Box<dyn Fn() -> Seed + Send + Sync>,
    /// Milliseconds since 1970.
    pub wall_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
}

/// One client's conversation.
pub struct Session<S: Store, R: Runtime<S::Snapshot>> {
    core: Arc<Core<S, R>>,
    identity: Arc<Identity>,
    authority: Receiver<Arc<Authority>>,
    /// What it may do, once it was greeted.
    grant: Option<Grant>,
    refused_greetings: u32,
    /// Why nothing more is answered.
    over: Option<ErrorReply>,
    /// The newest commit that this session was told of: its reads never see less.
    last_seen: Sequence,
    streams: StreamTable,
    /// The stream that the last request began, until it is taken over.
    begun: Option<Stream<S, R>>,
    /// The store's key of a plain request, kept for its memory.
    place: Vec<u8>,
}

/// What one request is answered with.
#[derive(Debug)]
pub struct Answer {
    /// The response.
    pub response: Response<Reply>,
    /// What the store must have acked before the response may leave.
    pub gate: Sequence,
}

/// A request on its way through the core.
struct Context<'a> {
    id: RequestId,
    command: &'a Command<'a>,
    options: &'a Options,
    arrived: Instant,
    number: u64,
}

impl Context<'_> {
    fn deadline(&self) -> Option<Instant> {
        let deadline = Duration::from_millis(self.options.deadline_ms?);
        // One that lies beyond all clocks is none.
        self.arrived.checked_add(deadline)
    }
}

/// How a request ended, and behind which gate.
type Outcome = (Result<Reply, ErrorReply>, Sequence);

impl<S: Store, R: Runtime<S::Snapshot>> Core<S, R> {
    /// A core without modules.
    pub fn new(store: S, runtime: R, settings: Settings, surroundings: Surroundings) -> Self {
        let started = (surroundings.now)();
        Self {
            store,
            runtime,
            registry: ArcSwap::from_pointee(Registry::default()),
            authority: Sender::default(),
            coordinator: Coordinator::default(),
            running: Semaphore::new(settings.max_running),
            late: Turnstile::default(),
            calls: Arc::default(),
            traffic: Traffic::default(),
            stats: Stats::new(settings.max_counted_functions),
            log: Arc::new(GuestLog::new(
                settings.log,
                Arc::clone(&surroundings.wall_ms),
            )),
            stream_places: Arc::new(Semaphore::new(settings.max_all_streams)),
            settings,
            surroundings,
            pushes: Arc::default(),
            requests: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            started,
        }
    }

    /// How many connections are open; kept by whoever keeps connections.
    pub fn connections(&self) -> &AtomicU64 {
        &self.connections
    }

    /// The bounds that clients are told.
    pub fn told_limits(&self) -> ServerLimits {
        let settings = &self.settings;
        ServerLimits {
            max_frame_bytes: settings.max_frame_bytes as u64,
            max_key_bytes: settings.command.max_key_bytes as u64,
            max_value_bytes: settings.command.max_value_bytes as u64,
            max_module_bytes: settings.max_module_bytes as u64,
        }
    }

    /// What hooks wrote may be acked before it is on disk; a durable commit takes it along.
    async fn flush(&self) -> Outcome {
        let _permit = self.coordinator.shared().await;
        let commit = Commit {
            durable: true,
            ..Commit::default()
        };
        let flushed = async {
            let snapshot = self.store.begin(ReadPoint::Newest).await?;
            self.store.commit(snapshot, commit).await
        };
        match flushed.await {
            Ok(CommitOutcome::Committed(sequence)) => (Ok(Reply::Done(())), sequence),
            Ok(CommitOutcome::Conflict) => (
                Err(refusal::internal(
                    "a commit that read nothing met a conflict",
                )),
                0,
            ),
            Err(error) => (Err(refusal::store(&error)), 0),
        }
    }

    fn uptime_ms(&self) -> u64 {
        let uptime = (self.surroundings.now)().duration_since(self.started);
        u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX)
    }

    fn info(&self) -> InfoReply {
        InfoReply {
            server: greeting::SERVER.to_owned(),
            store: bytes::Bytes::copy_from_slice(&self.store.id()),
            engine: self.store.engine().to_owned(),
            durability: self.settings.durability.clone(),
            uptime_ms: self.uptime_ms(),
            connections: self.connections.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
            sequence: self.store.visible(),
            modules: self.registry.load().modules().len() as u64,
        }
    }
}

impl<S: Store, R: Runtime<S::Snapshot>> Session<S, R> {
    /// A conversation that has not begun.
    pub fn new(core: Arc<Core<S, R>>, identity: Identity) -> Self {
        Self {
            authority: core.authority(),
            core,
            identity: Arc::new(identity),
            grant: None,
            refused_greetings: 0,
            over: None,
            last_seen: 0,
            streams: StreamTable::default(),
            begun: None,
            place: Vec::new(),
        }
    }

    /// Answers the request in a frame's body. Where it began a stream, that is the stream's first
    /// response, and [`Session::begun`] has the others.
    pub async fn handle(&mut self, body: &[u8], arrived: Instant) -> Answer {
        let number = self.core.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let request = match Request::decode(body) {
            Ok(request) => request,
            Err(error) => {
                let code = ErrorCode::BadRequest;
                self.core.stats.add_request(None, Some(code));
                let reply = ErrorReply::new(code, error.message);
                return answer(error.id.unwrap_or(0), (Err(reply), 0));
            }
        };
        let context = Context {
            id: request.id,
            command: &request.command,
            options: &request.options,
            arrived,
            number,
        };
        let name = request.command.name();
        let span = tracing::debug_span!("request", call = number, command = name);
        let outcome = {
            // Pinned here, since it would be moved into what carries the span.
            let outcome = pin!(self.dispatch(&context));
            outcome.instrument(span).await
        };
        let code = outcome.0.as_ref().err().map(ErrorReply::code);
        let command = Some(request.command.index());
        self.core.stats.add_request(command, code);
        let mut answer = answer(request.id, outcome);
        self.veil(&mut answer.response);
        answer
    }

    async fn dispatch(&mut self, context: &Context<'_>) -> Outcome {
        if let Err(refused) = self.check(context.command) {
            return (Err(refused), 0);
        }
        match context.command {
            Command::Hello(hello) => (self.greet(hello).map(|it| Reply::Hello(Box::new(it))), 0),
            Command::Ping(_) => (Ok(Reply::Pong("pong")), 0),
            Command::Info(_) => (Ok(Reply::Info(Box::new(self.core.info()))), 0),
            Command::Flush(_) => self.core.flush().await,
            Command::ModulePush(push) => modules::push(&self.core, push).await,
            Command::ModuleList(_) => modules::list(&self.core),
            Command::ModuleShow(show) => modules::show(&self.core, show).await,
            Command::ModuleActivate(activate) => modules::activate(&self.core, activate).await,
            Command::ModuleRollback(name) => modules::roll_back(&self.core, &name.name).await,
            Command::ModuleRemove(remove) => modules::remove(&self.core, &remove.name).await,
            Command::Get(_)
            | Command::Set(_)
            | Command::Del(_)
            | Command::Exists(_)
            | Command::Expire(_)
            | Command::Ttl(_)
            | Command::Persist(_)
            | Command::Incr(_)
            | Command::Mget(_)
            | Command::Scan(_)
            | Command::Batch(_)
            | Command::Call(_) => self.run(context).await,
            Command::Logs(logs) => (self.logs(context.id, logs), 0),
            Command::Watch(watch) => self.watch(context.id, watch).await,
            Command::Backup(_) => self.backup(context.id).await,
            Command::Stop(stop) => {
                self.streams.stop(stop.id);
                (Ok(Reply::Done(())), 0)
            }
            Command::CallsList(_) => {
                let now = (self.core.surroundings.now)();
                (Ok(Reply::Calls(self.core.calls.list(now))), 0)
            }
            Command::CallsKill(kill) => {
                let killed = self.core.calls.kill(kill.call);
                self.core.runtime.hurry();
                (killed.map(Reply::Done), 0)
            }
            Command::ModuleStats(of) => stats::told(&self.core, of.name.as_deref()),
        }
    }

    async fn run(&mut self, context: &Context<'_>) -> Outcome {
        let core = &*self.core;
        let registry = core.registry.load();
        let (outcome, gate, has_written) = 'done: {
            if let Some(done) = point::peek(core, &registry, context, self.last_seen) {
                break 'done done;
            }
            // A thread has few guards, and what follows may wait.
            let registry = &*Guard::into_inner(registry);
            if let Some(point) = point::written(context.command, registry) {
                break 'done point::run(core, registry, context, &point).await;
            }
            let request = RequestContext {
                identity: Arc::clone(&self.identity),
                request: context.number,
                command: context.command.name(),
            };
            let called = match context.command {
                Command::Call(call) => registry.procedure(&call.procedure),
                _ => None,
            };
            let point = read_point(context.command, registry, called, self.last_seen);
            request::run(core, registry, context, &request, called, point).await
        };
        self.saw(gate, has_written);
        (outcome, gate)
    }

    /// A pipeline never goes back: what a reply told, whether written or read, later reads see, too.
    fn saw(&mut self, gate: Sequence, has_written: bool) {
        if !(has_written && is_seeded(Bug::ForgetLastWrite)) {
            self.last_seen = self.last_seen.max(gate);
        }
    }
}

/// Plain reads see what is acked, so that they never wait for a sync; everything else sees the newest.
fn read_point<M>(
    command: &Command<'_>,
    registry: &Registry<M>,
    called: Option<Procedure<'_, M>>,
    last_seen: Sequence,
) -> ReadPoint {
    let acked = ReadPoint::Acked(last_seen);
    match command {
        Command::Get(_)
        | Command::Exists(_)
        | Command::Ttl(_)
        | Command::Mget(_)
        | Command::Scan(_)
            if !registry.has_hooks(HookCommand::Get) =>
        {
            acked
        }
        Command::Call(_) if !registry.has_hooks(HookCommand::Call) => match called {
            Some(called) if called.description.read_only => acked,
            _ => ReadPoint::Newest,
        },
        _ => ReadPoint::Newest,
    }
}

fn answer(id: RequestId, (outcome, gate): Outcome) -> Answer {
    Answer {
        response: Response { id, outcome },
        gate,
    }
}

/// Whether a request asks for its writes to be on disk, whatever wrote them.
fn wants_durability(options: &Options) -> bool {
    options.durability == Some(Durability::Always)
}
