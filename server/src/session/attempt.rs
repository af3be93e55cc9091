//! One attempt at a request: a transaction, from its snapshot to what it would commit.
//!
//! ```text
//!   begin → request hooks of all parts → [savepoint] all commands → response hooks of all parts → commit
//!             their writes stand              undone on an error or a block         conflict: from the start
//! ```

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use luge_protocol::{Command, ErrorCode, ErrorReply, LimitsRequest, Phase};
use smallvec::SmallVec;
use tracing::{Instrument, Span};

use super::calls::Ticket;
use super::places::Places;
use super::stats::Ran;
use super::{Context, Core};
use crate::bugs::{Bug, is_seeded};
use crate::command::{self, Action, CommandError, Outcome, Part, Plan, Shape};
use crate::function::{
    Budget, Call, CallLimits, Ended, Failure, Function, FunctionStats, HookView, Procedure,
    Registered, Registry, RequestContext, Runtime, Seed, Stage, Usage,
};
use crate::store::{ReadPoint, Store, StoreError};
use crate::transaction::Transaction;

/// What a request may hold in writes, in bytes, while it waits for its commit and others run in its
/// place. With more it keeps the place, so that connections by the thousand do not add up.
const MAX_WAITING_WRITE_BYTES: usize = 64 << 10;

/// One attempt at a request.
pub(super) struct Attempt<'a, S: Store, R: Runtime<S::Snapshot>> {
    pub(super) core: &'a Core<S, R>,
    pub(super) registry: &'a Registry<R::Module>,
    pub(super) context: &'a Context<'a>,
    pub(super) request: &'a RequestContext,
    /// Which attempt it is, from 1 on.
    pub(super) number: u32,
    /// The procedure that the request calls, if it calls one that there is.
    pub(super) called: Option<Procedure<'a, R::Module>>,
    /// Gone only while a call has it, and once it is to be committed. Boxed, since it goes from hand to hand.
    transaction: Option<Box<Transaction<S::Snapshot>>>,
    pub(super) deadline: Option<Instant>,
    /// One instance for each module whose hooks have been called. Mostly it is one.
    instances: SmallVec<[Live<'a, R::Module, R::Instance>; 1]>,
    /// What the caller of a procedure lowers its limits to.
    pub(super) lowered: Option<&'a LimitsRequest>,
    seed: Option<Seed>,
    calls: u64,
    /// The places among those that run functions.
    pub(super) places: Option<Places<'a>>,
    /// The place in the list of them.
    pub(super) ticket: Option<Ticket<'a>>,
    /// What all functions have used.
    pub(super) usage: Usage,
    /// How long its hooks ran; none where it has none.
    pub(super) hook_time: Option<Duration>,
    /// The functions that a conflict counts for.
    pub(super) ran: Ran<'a>,
}

/// An instance that serves the hooks of its module, one after the other.
struct Live<'a, M, I> {
    module: &'a Registered<M>,
    instance: I,
}

/// Why an attempt ended without an answer.
pub(super) enum Abort {
    /// The store failed.
    Store(StoreError),
    /// The transaction was lost in a fault of the runtime.
    Lost,
    /// Someone killed it.
    Killed,
    /// There is no room for it.
    Refused(ErrorReply),
}

/// How an attempt came to its end.
pub(super) struct Settled {
    pub(super) outcome: Result<Plan, ErrorReply>,
    /// Whether the commands themselves wrote, and not only hooks.
    pub(super) has_changed: bool,
}

impl<'a, S: Store, R: Runtime<S::Snapshot>> Attempt<'a, S, R> {
    pub(super) fn new(
        core: &'a Core<S, R>,
        registry: &'a Registry<R::Module>,
        context: &'a Context<'a>,
        request: &'a RequestContext,
        called: Option<Procedure<'a, R::Module>>,
        (number, ticket): (u32, Option<Ticket<'a>>),
    ) -> Self {
        Self {
            core,
            registry,
            context,
            request,
            number,
            called,
            transaction: None,
            deadline: context.deadline(),
            instances: SmallVec::new(),
            lowered: lowered(context.command),
            seed: None,
            calls: 0,
            places: None,
            ticket,
            usage: Usage::default(),
            hook_time: None,
            ran: Ran::default(),
        }
    }

    pub(super) async fn run(&mut self, point: ReadPoint) -> Result<Settled, Abort> {
        let (core, registry, command) = (self.core, self.registry, self.context.command);
        self.take_places_of_call().await?;
        let snapshot = core.store.begin(point).await.map_err(Abort::Store)?;
        let settings = &core.settings;
        let transaction = Transaction::new(snapshot, settings.writes);
        let transaction = transaction.with_max_reads(settings.max_reads);
        self.transaction = Some(Box::new(transaction));
        let limits = &settings.command;
        let planned = command::plan(self.transaction()?, registry, command, limits).await;
        let mut plan = match planned {
            Ok(plan) => plan,
            Err(CommandError::Refused(reply)) => return self.settle(Err(reply), false),
            Err(CommandError::Store(error)) => return Err(Abort::Store(error)),
        };
        self.take_places_of(&plan).await?;
        let beginning = self.transaction()?.savepoint();
        let hooks_began = self.clock(&plan, Phase::Request);
        let mut refused = self.request_hooks(&mut plan).await?;
        self.note_hooks(hooks_began);
        let before = self.transaction()?.savepoint();
        let mut has_changed = false;
        if refused.is_none() {
            refused = self.apply_all(&mut plan).await?;
            has_changed = self.transaction()?.has_changed_since(before);
        }
        if refused.is_some() && !is_seeded(Bug::KeepFailedCommand) {
            let place = match is_seeded(Bug::LoseHookWrites) {
                true => beginning,
                false => before,
            };
            self.transaction()?.undo_to(place);
            has_changed = false;
        }
        let hooks_began = self.clock(&plan, Phase::Response);
        let blocked = self.response_hooks(&mut plan, refused.as_ref()).await?;
        self.note_hooks(hooks_began);
        if let Some(blocked) = blocked {
            self.transaction()?.undo_to(before);
            return self.settle(Err(blocked), false);
        }
        let outcome = match refused {
            Some(reply) => Err(reply),
            None => Ok(plan),
        };
        self.settle(outcome, has_changed)
    }

    /// Gives back what only functions need; the places, where what was written is small.
    fn settle(
        &mut self,
        outcome: Result<Plan, ErrorReply>,
        has_changed: bool,
    ) -> Result<Settled, Abort> {
        self.instances.clear();
        if self.transaction()?.written_bytes() <= MAX_WAITING_WRITE_BYTES {
            self.places = None;
        }
        Ok(Settled {
            outcome,
            has_changed,
        })
    }

    /// Takes the transaction, which is to be committed.
    pub(super) fn take_transaction(&mut self) -> Result<Box<Transaction<S::Snapshot>>, Abort> {
        self.transaction.take().ok_or(Abort::Lost)
    }

    pub(super) fn transaction(&mut self) -> Result<&mut Transaction<S::Snapshot>, Abort> {
        self.transaction.as_deref_mut().ok_or(Abort::Lost)
    }

    /// The time, where the phase has hooks to measure.
    fn clock(&self, plan: &Plan, phase: Phase) -> Option<Instant> {
        let registry = self.registry;
        let is_hooked = |part: &Part| registry.has_any(part.hook_command(), phase, &part.key);
        let any = plan.parts.iter().any(is_hooked);
        any.then(|| (self.core.surroundings.now)())
    }

    fn note_hooks(&mut self, began: Option<Instant>) {
        if let Some(began) = began {
            let time = (self.core.surroundings.now)().duration_since(began);
            self.hook_time = Some(self.hook_time.unwrap_or_default() + time);
        }
    }

    /// Does every part; answers why the request is refused, if it is.
    async fn apply_all(&mut self, plan: &mut Plan) -> Result<Option<ErrorReply>, Abort> {
        let is_batch = matches!(plan.shape, Shape::Batch { .. });
        let mut reply_bytes = 0;
        for at in 0..plan.parts.len() {
            let (done, rest) = plan.parts.split_at_mut(at);
            let Some(part) = rest.first_mut() else { break };
            let index = is_batch.then_some(part.operation as u64);
            let applied = match part.action {
                Action::Call => self.apply_call(part).await?,
                Action::Disclose => {
                    if let Some(made) = done.last() {
                        command::disclose(&made.outcome, part);
                    }
                    Ok(())
                }
                _ => command::apply(self.transaction()?, part, index).await,
            };
            match applied {
                Ok(()) => {}
                Err(CommandError::Refused(reply)) => return Ok(Some(reply)),
                Err(CommandError::Store(error)) => return Err(Abort::Store(error)),
            }
            reply_bytes += outcome_bytes(&part.outcome);
            let limit = self.core.settings.max_frame_bytes;
            if reply_bytes > limit {
                let message = format!(
                    "a reply of more than {reply_bytes} bytes exceeds the limit of {limit}"
                );
                return Ok(Some(ErrorReply::new(ErrorCode::TooLarge, message)));
            }
        }
        Ok(None)
    }

    /// Calls one function. The transaction goes with the call and comes back.
    pub(super) async fn call(
        &mut self,
        module: &'a Registered<R::Module>,
        function: &'a Arc<Function>,
        stage: Stage,
        limits: Arc<CallLimits>,
        cpu: Duration,
        setup: impl FnOnce(&mut Call<S::Snapshot>),
    ) -> Result<(CallEnd, Result<i32, Box<Failure>>, Usage), Abort> {
        let deadline = self.context.arrived + limits.deadline;
        let deadline = self
            .deadline
            .map_or(deadline, |request| request.min(deadline));
        let begun = (self.core.surroundings.now)();
        if begun >= deadline {
            let message = "the deadline passed before the function could run (`deadline_ms` of its push or call)";
            let failure = Box::new(Failure::new(ErrorCode::DeadlineExceeded, message));
            return Ok((CallEnd::default(), Err(failure), Usage::default()));
        }
        let mut transaction = self.transaction.take().ok_or(Abort::Lost)?;
        let write_limits = transaction.set_limits(limits.writes());
        let mut call = self.new_call(stage, transaction, function);
        call.max_output_bytes = limits.output_bytes;
        setup(&mut call);
        let budget = Budget {
            is_alone: self.core.settings.is_alone(self.number),
            limits,
            cpu,
            begun: Some(begun),
            deadline,
            isolation: module.description.isolation,
        };
        // A procedure has an instance to itself within its request: hooks leave nothing in it, and
        // hooks must not run in one whose memory the caller has lowered.
        let is_hook = stage != Stage::Procedure;
        let mut instance = is_hook.then(|| self.take_instance(module)).flatten();
        let ended = {
            let runtime = &self.core.runtime;
            // Pinned here, since it would be moved into what carries the span.
            let ended = pin!(runtime.call(&module.module, &mut instance, call, budget));
            ended.instrument(span(function, self.number)).await
        };
        if let Some(instance) = instance.filter(|_| is_hook) {
            self.instances.push(Live { module, instance });
        }
        self.usage.add(&ended.usage);
        if let Some(stats) = function.counted.and_then(|place| module.stats.at(place)) {
            self.count(stats, stage, &ended);
        }
        if let Some(ticket) = &self.ticket
            && ticket.running().is_killed()
        {
            return Err(Abort::Killed);
        }
        let mut call = ended.call.ok_or(Abort::Lost)?;
        let mut transaction = call.transaction.take().ok_or(Abort::Lost)?;
        transaction.set_limits(write_limits);
        self.transaction = Some(transaction);
        let end = CallEnd {
            output: std::mem::take(&mut call.output),
            view: call.view.take(),
        };
        Ok((end, ended.outcome, ended.usage))
    }

    fn new_call(
        &mut self,
        stage: Stage,
        transaction: Box<Transaction<S::Snapshot>>,
        function: &Arc<Function>,
    ) -> Box<Call<S::Snapshot>> {
        let seed = self.next_seed();
        // Whoever runs functions has a ticket; what has none can't be seen.
        let running = self.ticket.as_ref().map(|ticket| {
            ticket.running().runs(function);
            Arc::clone(ticket.running())
        });
        let mut call = Box::new(Call::new(
            stage,
            Some(transaction),
            running.unwrap_or_default(),
            Arc::clone(function),
            seed,
        ));
        call.max_key_bytes = self.core.settings.command.max_key_bytes;
        call.max_value_bytes = self.core.settings.command.max_value_bytes;
        call
    }

    fn count(&mut self, stats: &'a FunctionStats, stage: Stage, ended: &Ended<S::Snapshot>) {
        stats.add_call(&ended.usage, self.number);
        match (&ended.outcome, stage) {
            (Err(failure), _) => stats.add_error(failure.code),
            (Ok(1), Stage::RequestHook | Stage::ResponseHook) => {
                stats.add_error(ErrorCode::Blocked)
            }
            (Ok(number), Stage::Procedure) if *number != 0 => stats.add_error(ErrorCode::Rejected),
            (Ok(_), _) => {}
        }
        self.ran.add(stats);
    }

    /// After a failure a module gets a fresh instance.
    pub(super) fn drop_instance(&mut self, module: &Registered<R::Module>) {
        if let Some(instance) = self.take_instance(module) {
            self.core.runtime.retire(instance);
        }
    }

    fn take_instance(&mut self, module: &Registered<R::Module>) -> Option<R::Instance> {
        let mut instances = self.instances.iter();
        let place = instances.position(|live| std::ptr::eq(live.module, module))?;
        Some(self.instances.swap_remove(place).instance)
    }

    /// Every call of an attempt has random numbers of its own, from one seed of the attempt.
    fn next_seed(&mut self) -> Seed {
        let mut seed = *self
            .seed
            .get_or_insert_with(|| (self.core.surroundings.seed)());
        self.calls += 1;
        for (byte, count) in seed.iter_mut().zip(self.calls.to_le_bytes()) {
            *byte ^= count;
        }
        seed
    }
}

/// What a call is logged under.
fn span(function: &Function, attempt: u32) -> Span {
    let (module, name) = (&function.module, &*function.name);
    let version = module.version;
    tracing::debug_span!(
        "function",
        module = module.name,
        version,
        function = name,
        attempt
    )
}

/// What a call leaves.
#[derive(Default)]
pub(super) struct CallEnd {
    pub(super) output: Vec<u8>,
    pub(super) view: Option<Box<HookView>>,
}

fn outcome_bytes(outcome: &Outcome) -> usize {
    const OVERHEAD_BYTES: usize = 16;
    OVERHEAD_BYTES
        + match outcome {
            Outcome::Value { value, .. } => value.len(),
            Outcome::Made(Some(value)) => value.len(),
            _ => 0,
        }
}

fn lowered<'a>(command: &'a Command<'_>) -> Option<&'a LimitsRequest> {
    match command {
        Command::Call(call) => call.limits.as_deref(),
        _ => None,
    }
}
