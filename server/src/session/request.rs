//! One request's way through the core: attempts until one commits, or there is nothing to commit.

use std::future::Future;
use std::sync::{Arc, OnceLock};

use luge_protocol::{Command, ErrorCode, ErrorReply, Reply};

use super::attempt::{Abort, Attempt, Settled};
use super::calls::Ticket;
use super::{Context, Core, dry_run, refusal, wants_durability};
use crate::bugs::{Bug, is_seeded};
use crate::command::{self, Pending};
use crate::function::{Registry, RequestContext, Runtime};
use crate::store::{CommitOutcome, ReadPoint, Sequence, Store, StoreError};
use crate::transaction::Permit;

/// Attempts alone, after those beside others. Alone only the passing of time can make a conflict: a
/// key that was read as live expires before the commit.
const MAX_EXCLUSIVE_ATTEMPTS: u32 = 3;

/// The outcome of a request, its gate, and whether something was written.
pub(super) type Done = (Result<Reply, ErrorReply>, Sequence, bool);

/// Runs a request until it commits.
pub(super) async fn run<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    registry: Arc<Registry<R::Module>>,
    context: &Context<'_>,
    request: RequestContext,
    point: ReadPoint,
) -> Done {
    let ticket = OnceLock::new();
    let done = run_listed(core, registry, context, request, point, &ticket).await;
    if let Some(time) = ticket.get().and_then(Ticket::hook_time) {
        core.stats.add_hook_time(context.command, time);
    }
    done
}

async fn run_listed<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    registry: Arc<Registry<R::Module>>,
    context: &Context<'_>,
    mut request: RequestContext,
    point: ReadPoint,
    ticket: &OnceLock<Ticket>,
) -> Done {
    let last = core.settings.max_shared_attempts + MAX_EXCLUSIVE_ATTEMPTS;
    for number in 1..=last {
        request.attempt = number;
        if is_late(core, context) {
            return (Err(refusal::late()), 0, false);
        }
        let alone = match core.settings.is_alone(number) {
            true => match unless_killed(ticket, core.coordinator.exclusive()).await {
                Some(permit) => Some(permit),
                None => return aborted(Abort::Killed, &request),
            },
            false => None,
        };
        if let Some(ticket) = ticket.get() {
            ticket.begin(number);
        }
        let attempt = Attempt::new(core, &registry, context, &request, ticket);
        match attempt.run(context.command, point).await {
            Ok(mut settled) => {
                if number > 1 && is_seeded(Bug::TrustRetries) {
                    settled.transaction.forget_reads();
                }
                if let Some(ticket) = ticket.get() {
                    ticket.waits();
                }
                if is_dry_run(context.command) && !is_killed(ticket) {
                    return told_only(core, settled);
                }
                let ran = std::mem::take(&mut settled.ran);
                match commit(core, context, settled, alone, ticket).await {
                    Ok(Some(done)) => return done,
                    Ok(None) if is_killed(ticket) => return aborted(Abort::Killed, &request),
                    Ok(None) => {
                        ran.met_a_conflict();
                        tracing::debug!(request = request.request, number, "conflict");
                    }
                    Err(error) => return (Err(refusal::store(&error)), 0, false),
                }
            }
            Err(abort) => return aborted(abort, &request),
        }
    }
    let message = format!("other commits touched what the request read, {last} times in a row");
    (Err(ErrorReply::new(ErrorCode::Conflict, message)), 0, false)
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
    core: &Core<S, R>,
    context: &Context<'_>,
    settled: Settled<'_, S>,
    alone: Option<Permit>,
    ticket: &OnceLock<Ticket>,
) -> Result<Option<Done>, StoreError> {
    let Settled {
        transaction,
        outcome,
        has_changed,
        places: _places,
        usage: _,
        ran: _,
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
    core: &Core<S, R>,
    settled: Settled<'_, S>,
) -> Done {
    let Settled {
        transaction,
        outcome,
        usage,
        ..
    } = settled;
    let snapshot = transaction.sequence();
    let told = outcome.map(|plan| {
        let pending = Pending {
            version: 0,
            snapshot,
        };
        let limit = core.settings.max_frame_bytes;
        dry_run::reply(command::reply(plan, pending), transaction, &usage, limit)
    });
    (told, snapshot, false)
}

fn is_dry_run(command: &Command<'_>) -> bool {
    matches!(command, Command::Call(call) if call.dry_run == Some(true))
}

fn is_killed(ticket: &OnceLock<Ticket>) -> bool {
    let ticket = ticket.get();
    ticket.is_some_and(|ticket| ticket.running().is_killed())
}

/// Waits for something; `None` where the request is killed before.
async fn unless_killed<T>(
    ticket: &OnceLock<Ticket>,
    waited_for: impl Future<Output = T>,
) -> Option<T> {
    match ticket.get() {
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
