//! Puts the reply together from what became of the parts.

use bytes::Bytes;
use luge_protocol::{
    CallReply, DelReply, Found, IncrReply, OperationReply, Reply, ScanEntry, ScanReply, SetReply,
};

use super::{Action, Outcome, Part, Plan, Shape, Verdict};

/// What is known of the commit when the reply is put together.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    /// The version of what this request wrote: the sequence of its commit.
    pub version: u64,
    /// The sequence of the moment that it read.
    pub snapshot: u64,
}

/// The reply to a request that was carried out.
#[must_use]
pub fn reply(plan: Plan, commit: Pending) -> Reply {
    let Plan { parts, shape } = plan;
    match shape {
        Shape::One => one(&parts, commit),
        Shape::Count => Reply::Count(done(&parts)),
        Shape::Del { next } => Reply::Del(DelReply(done(&parts), next)),
        Shape::Mget => Reply::Mget(parts.iter().map(|part| value(part, commit)).collect()),
        Shape::Scan { cursor, keys_only } => {
            let mut entries = Vec::with_capacity(parts.len());
            let shown = parts.iter();
            entries.extend(shown.filter_map(|part| entry(part, keys_only, commit)));
            Reply::Scan(ScanReply(entries, cursor, commit.snapshot))
        }
        Shape::Batch { operations } => Reply::Batch(batch(&parts, operations, commit)),
    }
}

fn one(parts: &[Part], commit: Pending) -> Reply {
    let (Some(part), disclosed) = (parts.first(), parts.get(1)) else {
        return Reply::Done(());
    };
    match (&part.action, &part.outcome) {
        (Action::Ttl, Outcome::Value { ttl_ms, .. }) => Reply::Ttl(Some(*ttl_ms)),
        (Action::Ttl, _) => Reply::Ttl(None),
        (Action::Call, Outcome::Value { value, .. }) => Reply::Call(CallReply(value.clone())),
        _ => match operation(part, disclosed, commit) {
            OperationReply::Get(found) => Reply::Get(found),
            OperationReply::Set(set) => Reply::Set(set),
            OperationReply::Count(count) => Reply::Count(count),
            OperationReply::Incr(incr) => Reply::Incr(incr),
            OperationReply::Changed(has_changed) => Reply::Changed(has_changed),
            OperationReply::Done(()) => Reply::Done(()),
        },
    }
}

/// One reply for each operation; the keys of one `del` are counted together.
fn batch(parts: &[Part], operations: usize, commit: Pending) -> Vec<OperationReply> {
    // An operation without parts is a `del` of no keys.
    let mut replies = vec![OperationReply::Count(0); operations];
    for group in parts.chunk_by(|left, right| left.operation == right.operation) {
        let Some(first) = group.first() else { continue };
        let Some(place) = replies.get_mut(first.operation) else {
            continue;
        };
        *place = match first.action {
            Action::Del => OperationReply::Count(done(group)),
            _ => operation(first, group.get(1), commit),
        };
    }
    replies
}

fn done(parts: &[Part]) -> u64 {
    let has_found = |part: &&Part| matches!(part.outcome, Outcome::Value { .. } | Outcome::Done);
    parts.iter().filter(has_found).count() as u64
}

fn operation(part: &Part, disclosed: Option<&Part>, commit: Pending) -> OperationReply {
    let is_done = matches!(part.outcome, Outcome::Done);
    match part.action {
        Action::Set { .. } => {
            OperationReply::Set(SetReply(commit.version, let_out(part, disclosed)))
        }
        Action::Incr { .. } => {
            let number = let_out(part, disclosed).filter(|_| is_unchanged(disclosed));
            let number = number.and_then(|text| std::str::from_utf8(&text).ok()?.parse().ok());
            OperationReply::Incr(IncrReply(number, commit.version))
        }
        Action::Expire | Action::Persist => OperationReply::Changed(is_done),
        Action::Check(_) => OperationReply::Done(()),
        _ => OperationReply::Get(value(part, commit)),
    }
}

/// What a `set` or `incr` tells, as the hooks of `get` left it.
fn let_out(part: &Part, disclosed: Option<&Part>) -> Option<Bytes> {
    let Outcome::Made(made) = &part.outcome else {
        return None;
    };
    match disclosed.map(|part| &part.outcome) {
        None => made.clone(),
        Some(Outcome::Value { value, .. }) => Some(value.clone()),
        Some(_) => None,
    }
}

/// Whether the hooks of `get` left the number as it is; a changed one is left out.
fn is_unchanged(disclosed: Option<&Part>) -> bool {
    disclosed.is_none_or(|part| {
        let is_same = match &part.outcome {
            Outcome::Value { value, .. } => part.value.as_ref() == Some(value),
            _ => false,
        };
        is_same && part.verdict == Verdict::Proceed
    })
}

fn value(part: &Part, commit: Pending) -> Option<Found> {
    match &part.outcome {
        Outcome::Value { value, version, .. } => {
            Some(Found(value.clone(), version.unwrap_or(commit.version)))
        }
        _ => None,
    }
}

fn entry(part: &Part, keys_only: bool, commit: Pending) -> Option<ScanEntry> {
    if matches!(part.verdict, Verdict::Blocked(_)) {
        return None;
    }
    let Found(found, version) = value(part, commit)?;
    Some(ScanEntry(
        part.key.clone(),
        (!keys_only).then_some(found),
        version,
    ))
}
