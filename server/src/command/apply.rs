//! Does parts to a transaction.

use bytes::Bytes;
use luge_protocol::{Condition, ErrorCode, ErrorDetails, ErrorReply};

use super::plan::holds;
use super::{Action, CommandError, Outcome, Part, Verdict};
use crate::store::Snapshot;
use crate::transaction::{Live, TimeToLive, Transaction, parse_number};

/// Does one part, other than a call. `index` is its place in a batch, for the answer where a
/// condition does not hold.
///
/// # Errors
/// The request is refused, or the store failed.
pub async fn apply<S: Snapshot>(
    transaction: &mut Transaction<S>,
    part: &mut Part,
    index: Option<u64>,
) -> Result<(), CommandError> {
    match &part.verdict {
        Verdict::Proceed if part.outcome == Outcome::Pending => {}
        // An answer stands for the value; whether the key is there, how long, and in which version is
        // the store's to tell.
        Verdict::Responded(_)
            if matches!(part.action, Action::Exists | Action::Ttl | Action::Check(_)) => {}
        Verdict::Responded(value) => {
            part.outcome = Outcome::Value {
                value: value.clone(),
                version: Some(0),
                ttl_ms: 0,
            };
            return Ok(());
        }
        Verdict::Absent => {
            if let Action::Check(condition) = part.action
                && !holds(condition, None)
            {
                return Err(unmet(part, condition, index, None).into());
            }
            part.outcome = Outcome::Absent;
            return Ok(());
        }
        // What the plan has found already, and what hooks refused.
        Verdict::Proceed | Verdict::Blocked(_) => return Ok(()),
    }
    part.outcome = match part.action.clone() {
        Action::Get | Action::Exists | Action::Ttl => found(transaction.get(&part.key).await?),
        Action::Check(condition) => {
            check(transaction, part, condition, index).await?;
            Outcome::Done
        }
        Action::Set {
            condition,
            wants_old,
        } => set(transaction, part, condition, wants_old, index).await?,
        Action::Incr { delta } => incr(transaction, part, delta).await?,
        Action::Del => changed(transaction.delete(&part.key).await?),
        Action::Expire => {
            let ttl = part.ttl.unwrap_or(TimeToLive::Kept);
            changed(transaction.expire(&part.key, ttl).await?)
        }
        Action::Persist => persist(transaction, part).await?,
        Action::Call | Action::Disclose => return Ok(()),
    };
    Ok(())
}

/// Puts a procedure's output into its part.
pub fn settle_call(part: &mut Part, output: Bytes) {
    part.outcome = Outcome::Value {
        value: output,
        version: None,
        ttl_ms: 0,
    };
}

/// Hands what a part made to the disclosure behind it, as far as the request hooks let it.
pub fn disclose(made: &Outcome, disclosure: &mut Part) {
    let Outcome::Made(Some(made)) = made else {
        disclosure.outcome = Outcome::Absent;
        return;
    };
    let value = match &disclosure.verdict {
        Verdict::Proceed => made.clone(),
        Verdict::Responded(value) => value.clone(),
        Verdict::Absent => {
            disclosure.outcome = Outcome::Absent;
            return;
        }
        Verdict::Blocked(_) => return,
    };
    disclosure.value = Some(made.clone());
    disclosure.outcome = Outcome::Value {
        value,
        version: None,
        ttl_ms: 0,
    };
}

async fn check<S: Snapshot>(
    transaction: &mut Transaction<S>,
    part: &Part,
    condition: Condition,
    index: Option<u64>,
) -> Result<(), CommandError> {
    let version = transaction.get(&part.key).await?.map(|live| live.version);
    if holds(condition, version) {
        return Ok(());
    }
    Err(unmet(part, condition, index, version).into())
}

fn unmet(
    part: &Part,
    condition: Condition,
    index: Option<u64>,
    version: Option<Option<u64>>,
) -> ErrorReply {
    let is = match version {
        None => "absent".to_owned(),
        Some(None) => "written by this request".to_owned(),
        Some(Some(version)) => format!("of version {version}"),
    };
    let wanted = match condition {
        Condition::Absent | Condition::Version(0) => "absent".to_owned(),
        Condition::Present => "present".to_owned(),
        Condition::Version(version) => format!("of version {version}"),
    };
    let message = format!("the key is {is}, and should be {wanted}");
    ErrorReply::new(ErrorCode::PreconditionFailed, message).with(ErrorDetails {
        index,
        key: Some(part.key.clone()),
        version: Some(version.flatten().unwrap_or(0)),
        ..ErrorDetails::default()
    })
}

async fn set<S: Snapshot>(
    transaction: &mut Transaction<S>,
    part: &Part,
    condition: Option<Condition>,
    wants_old: bool,
    index: Option<u64>,
) -> Result<Outcome, CommandError> {
    if let Some(condition) = condition {
        check(transaction, part, condition, index).await?;
    }
    let old = if wants_old {
        transaction.get(&part.key).await?
    } else {
        None
    };
    let value = part.value.clone().unwrap_or_default();
    let ttl = part.ttl.unwrap_or(TimeToLive::Forever);
    transaction.set(&part.key, value, ttl).await?;
    Ok(Outcome::Made(old.map(|live| live.value)))
}

async fn incr<S: Snapshot>(
    transaction: &mut Transaction<S>,
    part: &Part,
    delta: i64,
) -> Result<Outcome, CommandError> {
    let ttl = part.ttl.unwrap_or(TimeToLive::Kept);
    let value = match &part.value {
        Some(value) => value.clone(),
        None => Bytes::from(transaction.sum(&part.key, delta).await?.to_string()),
    };
    transaction.set(&part.key, value.clone(), ttl).await?;
    // A hook may have put something else than a number in its place, which is nothing to tell.
    let number = parse_number(&value).is_ok();
    Ok(Outcome::Made(number.then_some(value)))
}

async fn persist<S: Snapshot>(
    transaction: &mut Transaction<S>,
    part: &Part,
) -> Result<Outcome, CommandError> {
    // A hook may have put a time to live in the place of none.
    let ttl = part.ttl.unwrap_or(TimeToLive::Forever);
    if ttl != TimeToLive::Forever {
        return Ok(changed(transaction.expire(&part.key, ttl).await?));
    }
    match transaction.get(&part.key).await? {
        Some(Live {
            ttl_ms: Some(_), ..
        }) => Ok(changed(transaction.expire(&part.key, ttl).await?)),
        _ => Ok(Outcome::Absent),
    }
}

fn found(live: Option<Live>) -> Outcome {
    match live {
        None => Outcome::Absent,
        Some(live) => Outcome::Value {
            value: live.value,
            version: live.version,
            ttl_ms: live.ttl_ms.unwrap_or(0),
        },
    }
}

fn changed(has_changed: bool) -> Outcome {
    if has_changed {
        Outcome::Done
    } else {
        Outcome::Absent
    }
}
