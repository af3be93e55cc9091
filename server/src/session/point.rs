//! Commands of one key that no hook sees. Those that write are decided inside the store's commit
//! section, on the newest value, and so they never conflict, however many clients write the key. Those
//! that read do without a snapshot where memory alone tells what they ask.

use std::pin::pin;
use std::task::{Context as TaskContext, Poll, Waker};

use luge_protocol::{Command, ErrorReply, HookCommand, Key};

use super::{Context, Core, refusal, request};
use crate::command::{self, CommandError, CommandLimits, Pending, Plan};
use crate::function::{Registry, Runtime};
use crate::store::{
    Decision, Entry, Evaluated, Millis, Peeked, Sequence, Store, StoreError, Target, Write,
};
use crate::transaction::{Keyspace, PointSnapshot, Transaction};

/// What was decided: the plan that was carried out, or why not.
type Decided = Result<Plan, CommandError>;

/// The one key that a command is about.
pub(super) struct Point<'a> {
    key: &'a Key<'a>,
    /// Whether it looks at what is there.
    looks: bool,
}

/// What a command writes, if that is one key, and no hook sees it.
pub(super) fn written<'a, M>(
    command: &'a Command<'a>,
    registry: &Registry<M>,
) -> Option<Point<'a>> {
    let (key, hook, looks) = match command {
        Command::Set(set) => {
            let looks = set.condition.is_some()
                || set.keep_ttl == Some(true)
                || set.return_old == Some(true);
            (&set.key, HookCommand::Set, looks)
        }
        Command::Incr(incr) => (&incr.key, HookCommand::Set, true),
        Command::Expire(expire) => (&expire.key, HookCommand::Expire, true),
        Command::Persist(persist) => (&persist.key, HookCommand::Expire, true),
        Command::Del(del) => match (&del.keys, &del.range) {
            (Some(keys), None) if keys.len() == 1 => (keys.first()?, HookCommand::Del, true),
            _ => return None,
        },
        _ => return None,
    };
    let is_hooked = |hook| registry.is_hooked(hook, key);
    let is_seen = is_hooked(hook) || looks && is_hooked(HookCommand::Get);
    (!is_seen).then_some(Point { key, looks })
}

/// What a command reads, if that is one key, and there are no hooks of reads.
fn read<'a, M>(command: &'a Command<'a>, registry: &Registry<M>) -> Option<&'a Key<'a>> {
    if registry.has_hooks(HookCommand::Get) {
        return None;
    }
    match command {
        Command::Get(get) => Some(&get.key),
        Command::Ttl(ttl) => Some(&ttl.key),
        _ => None,
    }
}

/// Answers a command that reads one key, if that takes no snapshot.
pub(super) fn peek<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    registry: &Registry<R::Module>,
    context: &Context<'_>,
    last_seen: Sequence,
) -> Option<request::Done> {
    let key = read(context.command, registry)?;
    if request::is_late(core, context) {
        return None;
    }
    let key = Keyspace::Data.key(key);
    let Peeked { sequence, entry } = core.store.peek(&key, last_seen)?;
    let snapshot = PointSnapshot {
        key,
        entry,
        sequence,
        // It never expires, so the time does not matter.
        now_ms: 0,
    };
    let (_, outcome) = decide(core, registry, context.command, snapshot);
    Some(told(Evaluated {
        committed: None,
        seen: sequence,
        outcome,
    }))
}

/// Carries the command out. Answers the outcome, its gate, and whether something was written.
pub(super) async fn run<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    registry: &Registry<R::Module>,
    context: &Context<'_>,
    point: &Point<'_>,
) -> request::Done {
    let place = Keyspace::Data.key(point.key);
    let is_durable = request::is_durable(core, context, true);
    let _permit = core.coordinator.shared().await;
    if request::is_late(core, context) {
        return (Err(refusal::late()), 0, false);
    }
    let decide = |entry: Option<Entry>, sequence: Sequence, now_ms: Millis| {
        let snapshot = PointSnapshot {
            key: place.clone(),
            entry,
            sequence,
            now_ms,
        };
        let (write, outcome) = decide(core, registry, context.command, snapshot);
        Decision { write, outcome }
    };
    let target = Target {
        key: &place,
        looks: point.looks,
        durable: is_durable,
    };
    match core.store.evaluate(target, decide).await {
        Ok(evaluated) => told(evaluated),
        Err(error) => (Err(refusal::store(&error)), 0, false),
    }
}

fn decide<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    registry: &Registry<R::Module>,
    command: &Command<'_>,
    snapshot: PointSnapshot,
) -> (Option<Write>, Decided) {
    let mut transaction = Transaction::new(snapshot, core.settings.writes);
    let limits = &core.settings.command;
    // The snapshot is a value, so there is nothing to wait for.
    let polled = pin!(carry_out(&mut transaction, registry, command, limits))
        .poll(&mut TaskContext::from_waker(Waker::noop()));
    let decided = match polled {
        Poll::Ready(decided) => decided,
        Poll::Pending => Err(CommandError::Store(StoreError::Storage(
            "a command of one key waited inside of its commit".to_owned(),
        ))),
    };
    if decided.is_err() {
        return (None, decided);
    }
    let (_, commit) = transaction.into_commit(false);
    let write = commit.writes.into_iter().next().map(|(_, write)| write);
    (write, decided)
}

async fn carry_out<M>(
    transaction: &mut Transaction<PointSnapshot>,
    registry: &Registry<M>,
    command: &Command<'_>,
    limits: &CommandLimits,
) -> Decided {
    let mut plan = command::plan(transaction, registry, command, limits).await?;
    if let Some((part, rest)) = plan.parts.split_first_mut() {
        command::apply(transaction, part, None).await?;
        if let Some(disclosure) = rest.first_mut() {
            command::disclose(&part.outcome, disclosure);
        }
    }
    Ok(plan)
}

fn told(evaluated: Evaluated<Decided>) -> request::Done {
    let Evaluated {
        committed,
        seen,
        outcome,
    } = evaluated;
    let gate = committed.unwrap_or(seen);
    let reply = match outcome {
        Ok(plan) => Ok(command::reply(
            plan,
            Pending {
                version: committed.unwrap_or(0),
                snapshot: seen,
            },
        )),
        Err(CommandError::Refused(reply)) => Err::<_, ErrorReply>(reply),
        Err(CommandError::Store(error)) => Err(refusal::store(&error)),
    };
    (reply, gate, committed.is_some())
}
