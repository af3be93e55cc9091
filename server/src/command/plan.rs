//! Takes a command apart into parts.
//!
//! What can be checked without the store is checked here, so that a request is refused before
//! anything of it is done. Scans and deletions of a range look their keys up here, since there is no
//! other way to know them; the lookup is part of the transaction like any other.

use bytes::Bytes;
use luge_protocol::{
    Command, Condition, ErrorCode, ErrorReply, HookCommand, Key, Operation, Range,
    Scan as ScanArguments,
};

use super::{Action, CommandError, CommandLimits, Outcome, Part};
use crate::function::Registry;
use crate::store::{PageLimit, Snapshot, successor, value};
use crate::transaction::{
    Row, Scan, ScanOrder, TimeToLive, Transaction, TransactionError, parse_number, prefix_end,
};

/// Entries of a page of a scan where the request names no limit.
const DEFAULT_PAGE_ENTRIES: usize = 100;

/// Keys of one deletion of a range where the request names no limit.
const DEFAULT_RANGE_KEYS: usize = 1_000;

/// Steps in the store that one page takes at the most. A long stretch of expired keys ends a page
/// early, or empty, and the next one goes on behind it.
const MAX_PAGE_STEPS: usize = 1_000;

/// A command taken apart.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The parts, in the order in which they are done.
    pub parts: Vec<Part>,
    /// How the reply is put together.
    pub shape: Shape,
}

/// How the reply is put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Of the one part.
    One,
    /// The number of parts that found something.
    Count,
    /// Deleted keys, and for a range where to go on.
    Del {
        /// The first key that is still to be deleted.
        next: Option<Bytes>,
    },
    /// One for each part.
    Mget,
    /// Entries, and where to go on.
    Scan {
        /// What the next page is to be asked with.
        cursor: Option<Bytes>,
        /// Whether values are left out.
        keys_only: bool,
    },
    /// One for each operation.
    Batch {
        /// How many there are.
        operations: usize,
    },
}

/// Takes a command apart.
///
/// # Errors
/// The request is refused, or the store failed.
pub async fn plan<S: Snapshot, M>(
    transaction: &mut Transaction<S>,
    registry: &Registry<M>,
    command: &Command<'_>,
    limits: &CommandLimits,
) -> Result<Plan, CommandError> {
    let planner = Planner { registry, limits };
    planner.plan(transaction, command).await
}

struct Planner<'a, M> {
    registry: &'a Registry<M>,
    limits: &'a CommandLimits,
}

impl<M> Planner<'_, M> {
    async fn plan<S: Snapshot>(
        &self,
        transaction: &mut Transaction<S>,
        command: &Command<'_>,
    ) -> Result<Plan, CommandError> {
        let one = |parts| {
            Ok(Plan {
                parts,
                shape: Shape::One,
            })
        };
        match command {
            Command::Get(get) => one(vec![self.part(Action::Get, &get.key)?]),
            Command::Ttl(ttl) => one(vec![self.part(Action::Ttl, &ttl.key)?]),
            Command::Mget(mget) => Ok(Plan {
                parts: self.parts(&Action::Get, &mget.keys)?,
                shape: Shape::Mget,
            }),
            Command::Exists(exists) => {
                let parts = self.parts(&Action::Exists, &exists.keys)?;
                Ok(Plan {
                    parts,
                    shape: Shape::Count,
                })
            }
            Command::Del(del) => self.plan_del(transaction, del).await,
            Command::Scan(scan) => self.plan_scan(transaction, scan).await,
            Command::Call(call) => one(vec![self.call(call)]),
            Command::Set(set) => one(self.set(set)?),
            Command::Incr(incr) => one(self.incr(incr)?),
            Command::Expire(expire) => one(vec![self.expire(expire)?]),
            Command::Persist(persist) => one(vec![self.persist(persist)?]),
            Command::Batch(batch) => self.plan_batch(&batch.operations),
            other => {
                let message = format!("`{}` is no data command", other.name());
                Err(ErrorReply::new(ErrorCode::Internal, message).into())
            }
        }
    }

    fn part(&self, action: Action, key: &Key<'_>) -> Result<Part, ErrorReply> {
        self.limits.check_key(key)?;
        Ok(Part::new(action, Bytes::copy_from_slice(key)))
    }

    fn parts(&self, action: &Action, keys: &[Key<'_>]) -> Result<Vec<Part>, ErrorReply> {
        self.limits.check_count("keys", keys.len())?;
        let mut parts = Vec::with_capacity(keys.len());
        for key in keys {
            parts.push(self.part(action.clone(), key)?);
        }
        Ok(parts)
    }

    fn call(&self, call: &luge_protocol::Call<'_>) -> Part {
        let mut part = Part::new(
            Action::Call,
            Bytes::copy_from_slice(call.procedure.as_bytes()),
        );
        part.value = Some(Bytes::copy_from_slice(&call.arguments));
        part
    }

    fn plan_batch(&self, operations: &[Operation<'_>]) -> Result<Plan, CommandError> {
        self.limits.check_count("operations", operations.len())?;
        let mut parts = Vec::with_capacity(operations.len());
        for (at, operation) in operations.iter().enumerate() {
            let mut planned = match operation {
                Operation::Get(get) => vec![self.part(Action::Get, &get.key)?],
                Operation::Set(set) => self.set(set)?,
                Operation::Del(del) => self.parts(&Action::Del, &del.keys)?,
                Operation::Incr(incr) => self.incr(incr)?,
                Operation::Expire(expire) => vec![self.expire(expire)?],
                Operation::Persist(persist) => vec![self.persist(persist)?],
                Operation::Check(check) => {
                    vec![self.part(Action::Check(check.condition), &check.key)?]
                }
            };
            for part in &mut planned {
                part.operation = at;
            }
            parts.append(&mut planned);
            self.limits.check_count("keys", parts.len())?;
        }
        Ok(Plan {
            parts,
            shape: Shape::Batch {
                operations: operations.len(),
            },
        })
    }

    fn expire(&self, expire: &luge_protocol::Expire<'_>) -> Result<Part, ErrorReply> {
        let mut part = self.part(Action::Expire, &expire.key)?;
        part.ttl = Some(time_to_live(Some(expire.ttl_ms), None)?);
        Ok(part)
    }

    fn persist(&self, persist: &luge_protocol::Persist<'_>) -> Result<Part, ErrorReply> {
        let mut part = self.part(Action::Persist, &persist.key)?;
        part.ttl = Some(TimeToLive::Forever);
        Ok(part)
    }

    fn set(&self, set: &luge_protocol::Set<'_>) -> Result<Vec<Part>, ErrorReply> {
        self.limits.check_value(&set.value)?;
        let wants_old = set.return_old.unwrap_or(false);
        let action = Action::Set {
            condition: set.condition,
            wants_old,
        };
        let mut part = self.part(action, &set.key)?;
        part.value = Some(value(&set.value));
        part.ttl = match (set.ttl_ms, set.keep_ttl) {
            (None, None | Some(false)) => None,
            (ttl_ms, keep_ttl) => Some(time_to_live(ttl_ms, keep_ttl)?),
        };
        Ok(self.with_disclosure(part, wants_old))
    }

    fn incr(&self, incr: &luge_protocol::Incr<'_>) -> Result<Vec<Part>, ErrorReply> {
        let delta = incr.delta.unwrap_or(1);
        let mut part = self.part(Action::Incr { delta }, &incr.key)?;
        part.ttl = Some(TimeToLive::Kept);
        Ok(self.with_disclosure(part, true))
    }

    /// Adds the part that lets the value out, where hooks have a say in it.
    fn with_disclosure(&self, part: Part, wants_value: bool) -> Vec<Part> {
        if wants_value && self.registry.is_hooked(HookCommand::Get, &part.key) {
            let disclosure = Part::new(Action::Disclose, part.key.clone());
            return vec![part, disclosure];
        }
        vec![part]
    }

    async fn plan_del<S: Snapshot>(
        &self,
        transaction: &mut Transaction<S>,
        del: &luge_protocol::Del<'_>,
    ) -> Result<Plan, CommandError> {
        let (keys, range) = match (&del.keys, &del.range) {
            (Some(keys), None) if del.limit.is_none() => (keys, None),
            (None, Some(range)) => (&Vec::new(), Some(range)),
            _ => {
                let message = "`del` takes either keys, or a range with an optional limit";
                return Err(ErrorReply::new(ErrorCode::BadRequest, message).into());
            }
        };
        let Some(range) = range else {
            let parts = self.parts(&Action::Del, keys)?;
            return Ok(Plan {
                parts,
                shape: Shape::Del { next: None },
            });
        };
        let limit = self.limits.page(del.limit, DEFAULT_RANGE_KEYS)?;
        let mut scan = Scan::new(&range.start, &range.end, ScanOrder::Ascending, true);
        let rows = self.collect(transaction, &mut scan, limit).await?;
        let next = unfinished(&scan).map(|passed| successor(&passed));
        let parts = rows
            .into_iter()
            .map(|(key, _)| Part::new(Action::Del, key))
            .collect();
        Ok(Plan {
            parts,
            shape: Shape::Del { next },
        })
    }

    async fn plan_scan<S: Snapshot>(
        &self,
        transaction: &mut Transaction<S>,
        arguments: &ScanArguments<'_>,
    ) -> Result<Plan, CommandError> {
        let limit = self.limits.page(arguments.limit, DEFAULT_PAGE_ENTRIES)?;
        let (start, end) = bounds(arguments)?;
        let is_reverse = arguments.reverse.unwrap_or(false);
        let order = if is_reverse {
            ScanOrder::Descending
        } else {
            ScanOrder::Ascending
        };
        let keys_only = arguments.keys_only.unwrap_or(false);
        let is_hooked = self
            .registry
            .hook_in_range(HookCommand::Get, &start, &end)
            .is_some();
        let mut scan = Scan::new(&start, &end, order, keys_only);
        if let Some(cursor) = &arguments.cursor {
            scan.skip_to(cursor);
        }
        let rows = self.collect(transaction, &mut scan, limit).await?;
        let cursor = unfinished(&scan);
        let part = |(key, live): Row| {
            let mut part = Part::new(Action::Get, key);
            if !is_hooked {
                part.outcome = Outcome::Value {
                    value: live.value,
                    version: live.version,
                    ttl_ms: live.ttl_ms.unwrap_or(0),
                };
            }
            part
        };
        let parts = rows.into_iter().map(part).collect();
        Ok(Plan {
            parts,
            shape: Shape::Scan { cursor, keys_only },
        })
    }

    async fn collect<S: Snapshot>(
        &self,
        transaction: &mut Transaction<S>,
        scan: &mut Scan,
        limit: usize,
    ) -> Result<Vec<Row>, CommandError> {
        let mut rows: Vec<Row> = Vec::new();
        let mut bytes = 0;
        for step in 0..MAX_PAGE_STEPS {
            if rows.len() >= limit || bytes >= self.limits.max_page_bytes || scan.is_done() {
                break;
            }
            if step > 0 {
                // A long stretch of expired keys must not keep the neighbours waiting.
                tokio::task::yield_now().await;
            }
            let page = PageLimit {
                rows: limit - rows.len(),
                bytes: self.limits.max_page_bytes - bytes,
            };
            let found = transaction.scan(scan, page).await?;
            bytes += found
                .iter()
                .map(|(key, live)| key.len() + live.value.len())
                .sum::<usize>();
            match rows.is_empty() {
                true => rows = found,
                false => rows.extend(found),
            }
        }
        Ok(rows)
    }
}

/// The sum that an `incr` will store, which its hooks see as the value of a `set`: it adds to what
/// hooks have made of the parts before it. Where there is none, hooks run all the same, and the command
/// fails after them: nobody dodges a limiter by failing.
///
/// # Errors
/// The store failed.
pub async fn foresee_sum<S: Snapshot>(
    transaction: &mut Transaction<S>,
    earlier: &[Part],
    key: &[u8],
    delta: i64,
) -> Result<Option<Bytes>, TransactionError> {
    let sum = match planned_value(earlier, key) {
        Some(planned) => planned.and_then(|planned| planned.checked_add(delta)),
        None => match transaction.sum(key, delta).await {
            Ok(sum) => Some(sum),
            Err(TransactionError::NotANumber(_)) => None,
            Err(error) => return Err(error),
        },
    };
    Ok(sum.map(|sum| Bytes::from(sum.to_string())))
}

/// The number that earlier parts of a batch will have put under the key; `None` where they leave it
/// alone, `Some(None)` where it is none.
fn planned_value(earlier: &[Part], key: &[u8]) -> Option<Option<i64>> {
    let last = earlier.iter().rev().find(|part| {
        part.key == key
            && matches!(
                part.action,
                Action::Set { .. } | Action::Incr { .. } | Action::Del
            )
    })?;
    Some(match (&last.action, &last.value) {
        (Action::Del, _) => Some(0),
        (_, Some(value)) => parse_number(value).ok(),
        (_, None) => None,
    })
}

fn bounds(arguments: &ScanArguments<'_>) -> Result<(Vec<u8>, Vec<u8>), ErrorReply> {
    match (&arguments.prefix, &arguments.range) {
        (Some(_), Some(_)) => {
            let message = "`scan` takes either a prefix or a range";
            Err(ErrorReply::new(ErrorCode::BadRequest, message))
        }
        (Some(prefix), None) => Ok((prefix.to_vec(), prefix_end(prefix))),
        (None, Some(Range { start, end })) => Ok((start.to_vec(), end.to_vec())),
        (None, None) => Ok((Vec::new(), Vec::new())),
    }
}

/// Where a page stopped that is not the last one.
fn unfinished(scan: &Scan) -> Option<Bytes> {
    if scan.is_done() { None } else { scan.passed() }
}

/// The time to live that a request names.
fn time_to_live(ttl_ms: Option<u64>, keep_ttl: Option<bool>) -> Result<TimeToLive, ErrorReply> {
    match (ttl_ms, keep_ttl.unwrap_or(false)) {
        (Some(_), true) => {
            let message = "`ttl_ms` and `keep_ttl` exclude each other";
            Err(ErrorReply::new(ErrorCode::BadRequest, message))
        }
        (Some(0), false) => {
            let message =
                "a time to live of 0 ms is none; use at least 1, or `persist` to take it away";
            Err(ErrorReply::new(ErrorCode::BadRequest, message))
        }
        (Some(ttl_ms), false) => Ok(TimeToLive::For(ttl_ms)),
        (None, true) => Ok(TimeToLive::Kept),
        (None, false) => Ok(TimeToLive::Forever),
    }
}

impl From<ErrorReply> for CommandError {
    fn from(error: ErrorReply) -> Self {
        Self::Refused(error)
    }
}

/// Whether a condition holds for a key of this version; `None` stands for one that this request wrote.
pub(super) fn holds(condition: Condition, version: Option<Option<u64>>) -> bool {
    match condition {
        Condition::Absent => version.is_none(),
        Condition::Present => version.is_some(),
        Condition::Version(wanted) => version.map_or(Some(0), |version| version) == Some(wanted),
    }
}
