//! Clients that carry out tasks, and note what they were told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use luge_benches::histories::history::Moment;
use luge_benches::histories::{Operation, Outcome, Read, Seen, Write};
use luge_benches::pipeline::{Ask, in_order};
use luge_client::{
    Batch, Client, Condition, Entry, Error, ErrorCode, Expiry, Found, OperationReply, ScanOptions,
    SetOptions, SetOutcome,
};

use crate::program::{self, Record, Step, Told};
use crate::workload::Task;

/// How long before its time to live is over a key may be gone: clocks count whole milliseconds.
const EARLY: Duration = Duration::from_millis(3);

/// How long after its time to live is over a key may still be seen: a read shows a moment that may lie
/// as far back as the oldest sync under way.
const LATE: Duration = Duration::from_millis(250);

/// A connection and its notes.
pub(crate) struct Notes {
    pub(crate) client: Client,
    pub(crate) connection: usize,
    pub(crate) began: Instant,
    /// Attempts beyond the first, as procedures saw them.
    pub(crate) retries: AtomicU64,
}

/// Carries out tasks in a pipeline: sent in this order, none waiting for another's answer.
pub(crate) async fn pipeline(notes: &Notes, tasks: Vec<Task>) -> Vec<Operation> {
    let asks = tasks
        .into_iter()
        .map(|task| -> Ask<'_, Operation> { Box::pin(notes.ask(task)) });
    in_order(asks.collect()).await
}

impl Notes {
    fn now(&self) -> Moment {
        nanoseconds(self.began.elapsed())
    }

    async fn ask(&self, task: Task) -> Operation {
        let mut operation = Operation::done(text(&task), self.now(), 0);
        operation.connection = self.connection;
        let asked = match task {
            Task::Get(key) => self.get(&mut operation, key).await,
            Task::Mget(keys) => self.mget(&mut operation, &keys).await,
            Task::Scan {
                prefix,
                keys,
                limit,
                reverse,
            } => {
                let options = ScanOptions {
                    page_entries: Some(limit),
                    reverse,
                    ..ScanOptions::prefix(prefix)
                };
                self.scan(&mut operation, &options, &keys).await
            }
            Task::Set {
                key,
                value,
                wants_old,
            } => self.set(&mut operation, key, value, wants_old).await,
            Task::SetHooked {
                key,
                value,
                if_absent,
            } => {
                self.set_hooked(&mut operation, &key, value, if_absent)
                    .await
            }
            Task::SetExpiring { key, value, ttl } => {
                self.set_expiring(&mut operation, key, value, ttl).await
            }
            Task::Incr(key) => self.incr(&mut operation, key).await,
            Task::Batch(steps) => self.batch(&mut operation, &steps).await,
            Task::Call(steps) => self.call(&mut operation, "hunt.run", &steps).await,
            Task::Peek(steps) => self.call(&mut operation, "hunt.peek", &steps).await,
        };
        operation.completed = self.now();
        if let Err(error) = asked {
            operation.outcome = match is_certain(&error) {
                true => Outcome::Refused,
                false => Outcome::Unknown,
            };
            operation.text += &format!(" -> {error}");
        }
        if let Some((_, last)) = operation
            .writes
            .iter_mut()
            .find_map(|it| it.expires.as_mut())
        {
            *last += operation.completed;
        }
        operation
    }

    async fn get(&self, operation: &mut Operation, key: String) -> Result<(), Error> {
        let found = self.client.get_versioned(&key).await?;
        let version = found.as_ref().map(|found| found.version);
        let seen = shown(operation, found.as_ref().map(|found| &found.value[..]));
        operation.reads.push(Read::point(key, seen).at(version));
        Ok(())
    }

    async fn mget(&self, operation: &mut Operation, keys: &[String]) -> Result<(), Error> {
        let found = self.client.mget(keys).await?;
        for (key, found) in keys.iter().zip(found) {
            let version = found.as_ref().map(|found| found.version);
            let seen = shown(operation, found.as_ref().map(|found| &found.value[..]));
            operation.reads.push(Read::point(key, seen).at(version));
        }
        Ok(())
    }

    async fn scan(
        &self,
        operation: &mut Operation,
        options: &ScanOptions,
        keys: &[String],
    ) -> Result<(), Error> {
        let page = self.client.scan_page(options, None).await?;
        let entries = by_key(&page.entries);
        let last = page.entries.last().map(|entry| &entry.key[..]);
        // A page that is not the last one speaks for the keys up to its last entry.
        let is_covered = |key: &&String| match (page.cursor.is_some(), last) {
            (false, _) => true,
            (true, None) => false,
            (true, Some(last)) if options.reverse => key.as_bytes() >= last,
            (true, Some(last)) => key.as_bytes() <= last,
        };
        for key in keys.iter().filter(is_covered) {
            let entry = entries.get(key).copied();
            let seen = shown(operation, entry.map(|entry| &entry.value[..]));
            let version = entry.map(|entry| entry.version);
            operation.reads.push(Read::range(key, seen).at(version));
        }
        Ok(())
    }

    async fn set(
        &self,
        operation: &mut Operation,
        key: String,
        value: u64,
        wants_old: bool,
    ) -> Result<(), Error> {
        operation.writes.push(Write::value(&key, value));
        let options = SetOptions {
            return_old: wants_old,
            ..SetOptions::default()
        };
        let outcome = self.set_plain(operation, &key, value, options).await?;
        if wants_old {
            let seen = shown(operation, outcome.old.as_deref());
            operation.reads.push(Read::point(key, seen));
        }
        Ok(())
    }

    /// Whatever becomes of the set, what its request hook wrote stands.
    async fn set_hooked(
        &self,
        operation: &mut Operation,
        key: &str,
        value: u64,
        if_absent: bool,
    ) -> Result<(), Error> {
        let audit = [format!("audit:{key}"), format!("v:{value}")];
        let audit = audit.map(|key| Write::value(key, value));
        operation.writes.extend(audit);
        let options = SetOptions {
            condition: if_absent.then_some(Condition::Absent),
            ..SetOptions::default()
        };
        let asked = self.client.set_with(key, value.to_string(), options).await;
        match asked {
            Ok(outcome) => {
                operation.sequence = Some(outcome.version);
                if if_absent {
                    operation.reads.push(Read::point(key, Seen::Absent));
                }
                let echo = format!("echo::{key}");
                operation.writes.push(Write::value(key, value));
                operation.writes.push(Write::value(echo, value));
                Ok(())
            }
            Err(error)
                if matches!(
                    error.code(),
                    Some(ErrorCode::Blocked | ErrorCode::PreconditionFailed)
                ) =>
            {
                operation.text += &format!(" -> {error}");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn set_expiring(
        &self,
        operation: &mut Operation,
        key: String,
        value: u64,
        ttl: Duration,
    ) -> Result<(), Error> {
        let first = operation.invoked + nanoseconds(ttl.saturating_sub(EARLY));
        operation.writes.push(Write {
            // The later end counts from the answer, which is still to come.
            expires: Some((first, nanoseconds(ttl + LATE))),
            ..Write::value(&key, value)
        });
        let options = SetOptions {
            expiry: Expiry::After(ttl),
            ..SetOptions::default()
        };
        self.set_plain(operation, &key, value, options).await?;
        Ok(())
    }

    async fn set_plain(
        &self,
        operation: &mut Operation,
        key: &str,
        value: u64,
        options: SetOptions,
    ) -> Result<SetOutcome, Error> {
        let outcome = self
            .client
            .set_with(key, value.to_string(), options)
            .await?;
        operation.sequence = Some(outcome.version);
        Ok(outcome)
    }

    async fn incr(&self, operation: &mut Operation, key: String) -> Result<(), Error> {
        let sum = self.client.incr(&key, 1).await?;
        operation.sequence = Some(sum.version);
        let number = sum.number.unwrap_or_default();
        let told = [Told::Number(u64::try_from(number).unwrap_or_default())];
        note(operation, Record::new(&[Step::Incr(key)], &told));
        Ok(())
    }

    async fn batch(&self, operation: &mut Operation, steps: &[Step]) -> Result<(), Error> {
        operation.writes = Record::intended(steps).writes;
        let mut batch = Batch::new();
        for step in steps {
            batch = match step {
                Step::Get(key) => batch.get(key),
                Step::Set(key, value) => batch.set(key, value.to_string()),
                Step::Delete(key) => batch.del(&[key]),
                Step::Incr(key) => batch.incr(key, 1),
                Step::Check(key, Seen::Absent, _) => batch.check(key, Condition::Absent),
                Step::Check(key, _, version) => batch.check(key, Condition::Version(*version)),
                _ => batch,
            };
        }
        let replies = self.client.batch(batch).await?;
        let mut told = Vec::new();
        for reply in replies {
            told.push(match reply {
                OperationReply::Get(found) => found_told(operation, found),
                OperationReply::Set(set) => {
                    operation.sequence = Some(set.0);
                    Told::Nothing
                }
                OperationReply::Count(count) => Told::Deleted(count > 0),
                OperationReply::Incr(sum) => {
                    Told::Number(u64::try_from(sum.0.unwrap_or_default()).unwrap_or_default())
                }
                _ => Told::Nothing,
            });
        }
        note(operation, Record::new(steps, &told));
        Ok(())
    }

    async fn call(
        &self,
        operation: &mut Operation,
        procedure: &str,
        steps: &[Step],
    ) -> Result<(), Error> {
        operation.writes = Record::intended(steps).writes;
        let output = self
            .client
            .call_raw(procedure, program::encode(steps))
            .await?;
        let Some(told) = program::decode(steps, &output) else {
            let text = "its answer is not of the guest's form".to_owned();
            operation.contradictions.push(text);
            return Ok(());
        };
        if let Some(Told::Number(attempt)) = told.first()
            && matches!(steps.first(), Some(Step::Attempt))
        {
            let retries = attempt.saturating_sub(1);
            self.retries.fetch_add(retries, Ordering::Relaxed);
        }
        note(operation, Record::new(steps, &told));
        Ok(())
    }
}

fn found_told(operation: &mut Operation, found: Option<Found>) -> Told {
    let version = found.as_ref().map(|found| found.1);
    let seen = shown(operation, found.as_ref().map(|found| &found.0[..]));
    // The version 0 stands for what this batch wrote.
    Told::Saw(seen, version.filter(|version| *version != 0))
}

fn note(operation: &mut Operation, record: Record) {
    operation.reads.extend(record.reads);
    operation.writes = record.writes;
    operation.contradictions.extend(record.contradictions);
}

/// What a stored value shows; one that is no number is a contradiction.
fn shown(operation: &mut Operation, value: Option<&[u8]>) -> Seen {
    program::seen(value).unwrap_or_else(|| {
        let value = String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
        let text = format!("it read the value {value:?}, which nobody writes");
        operation.contradictions.push(text);
        Seen::Absent
    })
}

pub(crate) fn by_key(entries: &[Entry]) -> HashMap<String, &Entry> {
    let name = |entry: &Entry| String::from_utf8_lossy(&entry.key).into_owned();
    entries.iter().map(|entry| (name(entry), entry)).collect()
}

/// Whether an error says that nothing was changed.
fn is_certain(error: &Error) -> bool {
    match error {
        Error::Server(reply) => reply.code() != ErrorCode::UnknownOutcome,
        Error::TooLarge { .. } | Error::Arguments(_) | Error::Wat(_) => true,
        _ => false,
    }
}

fn nanoseconds(time: Duration) -> Moment {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn text(task: &Task) -> String {
    let list = |steps: &[Step]| {
        let steps: Vec<String> = steps.iter().map(Step::to_string).collect();
        steps.join(", ")
    };
    match task {
        Task::Get(key) => format!("get {key}"),
        Task::Mget(keys) => format!("mget {}", keys.join(" ")),
        Task::Scan {
            prefix,
            limit,
            reverse,
            ..
        } => {
            let way = if *reverse { " from the end" } else { "" };
            format!("scan {prefix} for {limit}{way}")
        }
        Task::Set { key, value, .. } => format!("set {key} {value}"),
        Task::SetHooked {
            key,
            value,
            if_absent,
        } => {
            let condition = if *if_absent { " if absent" } else { "" };
            format!("set {key} {value}{condition}, with hooks")
        }
        Task::SetExpiring { key, value, ttl } => format!("set {key} {value} for {ttl:?}"),
        Task::Incr(key) => format!("incr {key}"),
        Task::Batch(steps) => format!("batch: {}", list(steps)),
        Task::Call(steps) => format!("call: {}", list(steps)),
        Task::Peek(steps) => format!("read-only call: {}", list(steps)),
    }
}
