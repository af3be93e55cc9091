//! One request's way through the core: attempts until one commits, or there is nothing to commit.

use std::future::Future;
use std::time::Duration;

use luge_protocol::{Command, ErrorCode, ErrorReply, Reply};

use super::attempt::{Abort, Attempt, Settled};
use super::calls::Ticket;
use super::{Context, Core, dry_run, refusal, wants_durability};
use crate::bugs::{Bug, is_seeded};
use crate::command::{self, Pending};
use crate::function::{Procedure, Registry, RequestContext, Runtime};
use crate::store::{CommitOutcome, ReadPoint, Sequence, Store, StoreError};
use crate::transaction::{Permit, Transaction};

/// Attempts alone, after those beside others. Alone only the passing of time can make a conflict: a
/// key that was read as live expires before the commit.
const MAX_EXCLUSIVE_ATTEMPTS: u32 = 3;

/// The outcome of a request, its gate, and whether something was written.
pub(super) type Done = (Result<Reply, ErrorReply>, Sequence, bool);

/// Runs a request until it commits.
pub(super) async fn run<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    registry: &Registry<R::Module>,
    context: &Context<'_>,
    request: &RequestContext,
    called: Option<Procedure<'_, R::Module>>,
    point: ReadPoint,
) -> Done {
    let last = core.settings.max_shared_attempts + MAX_EXCLUSIVE_ATTEMPTS;
    let mut ticket = None;
    let mut hook_time = None;
    let mut done = None;
    for number in 1..=last {
        if is_late(core, context) {
            done = Some((Err(refusal::late()), 0, false));
            break;
        }
        let alone = match core.settings.is_alone(number) {
            true => match unless_killed(ticket.as_ref(), core.coordinator.exclusive()).await {
                Some(permit) => Some(permit),
                None => {
                    done = Some(aborted(Abort::Killed, request));
                    break;
                }
            },
            false => None,
        };
        if let Some(ticket) = &ticket {
            Ticket::running(ticket).begin(number);
        }
        let place = (number, ticket.take());
        let mut attempt = Attempt::new(core, registry, context, request, called, place);
        let settled = attempt.run(point).await;
        ticket = attempt.ticket.take();
        hook_time = sum(hook_time, attempt.hook_time);
        done = match settled {
            Ok(settled) => finish(&mut attempt, settled, alone, ticket.as_ref()).await,
            Err(abort) => Some(aborted(abort, request)),
        };
        if done.is_some() {
            break;
        }
        attempt.ran.met_a_conflict();
        tracing::debug!(request = request.request, number, "conflict");
    }
    if let Some(time) = hook_time {
        core.stats.add_hook_time(context.command, time);
    }
    done.unwrap_or_else(|| {
        let message = format!("other commits touched what the request read, {last} times in a row");
        (Err(ErrorReply::new(ErrorCode::Conflict, message)), 0, false)
    })
}

/// Ends an attempt that has come to its end: tells what it would have written, or commits it. `None` on a conflict.
async fn finish<S: Store, R: Runtime<S::Snapshot>>(
    attempt: &mut Attempt<'_, S, R>,
    settled: Settled,
    alone: Option<Permit>,
    ticket: Option<&Ticket<'_>>,
) -> Option<Done> {
    let request = attempt.request;
    let mut transaction = match attempt.take_transaction() {
        Ok(transaction) => transaction,
        Err(abort) => return Some(aborted(abort, request)),
    };
    if attempt.number > 1 && is_seeded(Bug::TrustRetries) {
        transaction.forget_reads();
    }
    if let Some(ticket) = ticket {
        ticket.running().waits();
    }
    if is_dry_run(attempt.context.command) && !is_killed(ticket) {
        return Some(told_only(attempt, transaction, settled));
    }
    match commit(attempt, transaction, settled, alone, ticket).await {
        Ok(Some(done)) => Some(done),
        Ok(None) if is_killed(ticket) => Some(aborted(Abort::Killed, request)),
        Ok(None) => None,
        Err(error) => Some((Err(refusal::store(&error)), 0, false)),
    }
}

fn sum(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one + other),
        (one, other) => one.or(other),
    }
}

fn aborted(abort: Abort, request: &RequestContext) -> Done {
    let reply = match abort {
        Abort::Store(error) => refusal::store(&error),
        Abort::Killed => refusal::killed(request.request),
        Abort::Refused(reply) => reply,
        Abort::Lost => refusal::internal("the call's transaction was lost"),
    };
    (Err(reply), 0, false)
}

/// Commits what an attempt wrote; `None` on a conflict, and where it is killed before.
async fn commit<S: Store, R: Runtime<S::Snapshot>>(
    attempt: &mut Attempt<'_, S, R>,
    transaction: Box<Transaction<S::Snapshot>>,
    settled: Settled,
    alone: Option<Permit>,
    ticket: Option<&Ticket<'_>>,
) -> Result<Option<Done>, StoreError> {
    let (core, context) = (attempt.core, attempt.context);
    let Settled {
        outcome,
        has_changed,
    } = settled;
    let snapshot = transaction.sequence();
    let told = |version| outcome.map(|plan| command::reply(plan, Pending { version, snapshot }));
    if is_killed(ticket) {
        return Ok(None);
    }
    if !transaction.has_writes() {
        return Ok(Some((told(0), snapshot, false)));
    }
    let _permit = match alone {
        Some(permit) => permit,
        None => match unless_killed(ticket, core.coordinator.shared()).await {
            Some(permit) => permit,
            None => return Ok(None),
        },
    };
    let is_durable = is_durable(core, context, has_changed);
    let (snapshot, commit) = transaction.into_commit(is_durable);
    // What waits for the store's room has not begun; see `Store::commit`.
    let Some(committed) = unless_killed(ticket, core.store.commit(snapshot, commit)).await else {
        return Ok(None);
    };
    match committed {
        Ok(CommitOutcome::Committed(sequence)) => Ok(Some((told(sequence), sequence, true))),
        // What could not be validated any more was not written either: a fresh snapshot may do.
        Ok(CommitOutcome::Conflict) | Err(StoreError::TooOld { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A dry run's answer: what the call is answered, and what it would have written.
fn told_only<S: Store, R: Runtime<S::Snapshot>>(
    attempt: &Attempt<'_, S, R>,
    transaction: Box<Transaction<S::Snapshot>>,
    settled: Settled,
) -> Done {
    let (outcome, usage) = (settled.outcome, &attempt.usage);
    let snapshot = transaction.sequence();
    let told = outcome.map(|plan| {
        let pending = Pending {
            version: 0,
            snapshot,
        };
        let limit = attempt.core.settings.max_frame_bytes;
        dry_run::reply(command::reply(plan, pending), *transaction, usage, limit)
    });
    (told, snapshot, false)
}

fn is_dry_run(command: &Command<'_>) -> bool {
    matches!(command, Command::Call(call) if call.dry_run == Some(true))
}

fn is_killed(ticket: Option<&Ticket<'_>>) -> bool {
    ticket.is_some_and(|ticket| ticket.running().is_killed())
}

/// Waits for something; `None` where the request is killed before.
async fn unless_killed<T>(
    ticket: Option<&Ticket<'_>>,
    waited_for: impl Future<Output = T>,
) -> Option<T> {
    match ticket {
        None => Some(waited_for.await),
        Some(ticket) if ticket.running().is_killed() => None,
        // Mostly nothing is to be waited for, and listening for a kill costs more than that.
        Some(ticket) => tokio::select! {
            biased;
            done = waited_for => Some(done),
            () = ticket.running().killed() => None,
        },
    }
}

/// Whether the request's deadline has passed.
pub(super) fn is_late<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    context: &Context<'_>,
) -> bool {
    context
        .deadline()
        .is_some_and(|deadline| (core.surroundings.now)() >= deadline)
}

/// Whether a commit must be on disk before it is acked: the server's level counts where the commands
/// themselves wrote and not only hooks, the request's wherever it is stronger.
pub(super) fn is_durable<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    context: &Context<'_>,
    has_changed: bool,
) -> bool {
    (has_changed && core.settings.syncs_always) || wants_durability(context.options)
}
