//! The requests that run functions, for who wants to look at them or to end one.
//!
//! A call that is killed ends where it next looks, which it is hurried to, or at once where it waits for a place, for its turn or
//! for being alone. It is answered `killed`, and nothing of it was written. What is in the store's hands
//! already is committed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use luge_protocol::{ErrorCode, ErrorReply, RunningCall};
use slab::Slab;

use super::refusal::named;
use crate::function::{RequestContext, Running, Usage};

/// The parts of the list. Numbers are given one after the other, so requests that begin at the same time are in
/// different ones.
const PARTS: usize = 16;

/// Every request that runs functions, in parts by its number, so that threads which serve requests side by side do not
/// wait for each other. Within a part they lie anywhere: each comes and goes, and few are ever looked for.
#[derive(Default)]
pub(super) struct Calls {
    parts: [Listing; PARTS],
}

/// A part, on a line of the cache of its own.
#[derive(Default)]
#[repr(align(64))]
struct Listing(Mutex<Slab<Listed>>);

/// One of them.
#[derive(Clone)]
struct Listed {
    arrived: Instant,
    running: Arc<Running>,
}

/// A place in the list. Dropping it gives it back.
pub(super) struct Ticket<'a> {
    calls: &'a Calls,
    /// Where it lies in its part.
    place: usize,
    running: Arc<Running>,
}

impl Calls {
    /// Lists a request.
    pub(super) fn enter(&self, request: &RequestContext, arrived: Instant) -> Ticket<'_> {
        let running = Arc::new(Running::new(request.clone()));
        let listed = Listed {
            arrived,
            running: Arc::clone(&running),
        };
        let place = self.part(request.request).insert(listed);
        Ticket {
            calls: self,
            place,
            running,
        }
    }

    /// All of them, the oldest first.
    pub(super) fn list(&self, now: Instant) -> Vec<RunningCall> {
        let mut listed = BTreeMap::new();
        for part in &self.parts {
            let part = part.lock();
            let numbered = part.iter().map(|(_, it)| (it.number(), it.clone()));
            listed.extend(numbered);
        }
        listed.values().map(|listed| listed.tell(now)).collect()
    }

    /// Ends one.
    ///
    /// # Errors
    /// None of this number runs.
    pub(super) fn kill(&self, call: u64) -> Result<(), ErrorReply> {
        let running = {
            let part = self.part(call);
            let mut listed = part.iter().map(|(_, listed)| listed);
            let found = listed.find(|listed| listed.number() == call);
            found.map(|listed| Arc::clone(&listed.running))
        };
        let Some(running) = running else {
            let message = format!(
                "no call {call} is running; {} shows those that are",
                named("calls.list")
            );
            return Err(ErrorReply::new(ErrorCode::NotFound, message));
        };
        tracing::info!(call, "a call is killed");
        running.kill();
        Ok(())
    }

    /// The part that has the request of this number.
    fn part(&self, number: u64) -> MutexGuard<'_, Slab<Listed>> {
        let [first, ..] = &self.parts;
        let at = usize::try_from(number % PARTS as u64).unwrap_or(0);
        self.parts.get(at).unwrap_or(first).lock()
    }
}

impl Listing {
    fn lock(&self) -> MutexGuard<'_, Slab<Listed>> {
        let Self(part) = self;
        part.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listed {
    fn number(&self) -> u64 {
        self.running.request().request
    }

    fn tell(&self, now: Instant) -> RunningCall {
        let (running, request) = (&self.running, self.running.request());
        let (module, function) = running
            .function()
            .map(|function| (function.module.name.clone(), function.name.to_string()))
            .unzip();
        // What waits uses nothing.
        let used = match module {
            Some(_) => running.used(),
            None => Usage::default(),
        };
        let age = now.saturating_duration_since(self.arrived);
        RunningCall {
            call: request.request,
            command: request.command.to_owned(),
            module,
            function,
            user: request.identity.user.clone(),
            age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
            attempt: running.attempt(),
            cpu_us: u64::try_from(used.cpu.as_micros()).unwrap_or(u64::MAX),
            memory_bytes: used.memory_bytes as u64,
            fuel: used.fuel,
        }
    }
}

impl Ticket<'_> {
    pub(super) fn running(&self) -> &Arc<Running> {
        &self.running
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let number = self.running.request().request;
        let left = self.calls.part(number).try_remove(self.place);
        drop(left);
    }
}
