//! The requests that run functions, for who wants to look at them or to end one.
//!
//! A call that is killed ends where it next looks, which it is hurried to, or at once where it waits for a place, for its turn or
//! for being alone. It is answered `killed`, and nothing of it was written. What is in the store's hands
//! already is committed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use luge_protocol::{ErrorCode, ErrorReply, RunningCall};

use super::refusal::named;
use crate::function::{ModuleContext, RequestContext, Running, Usage};

/// Every request that runs functions, by its number.
#[derive(Default)]
pub(super) struct Calls {
    listed: Mutex<BTreeMap<u64, Arc<Listed>>>,
}

/// One of them.
struct Listed {
    request: RequestContext,
    arrived: Instant,
    running: Arc<Running>,
    now: Mutex<Now>,
}

/// What it does at the moment.
#[derive(Default)]
struct Now {
    attempt: u32,
    /// Module and function; none while it waits.
    function: Option<(Arc<ModuleContext>, Arc<str>)>,
    /// What its hooks have taken of its time; none where it has no hooks.
    hook_time: Option<Duration>,
}

/// A place in the list. Dropping it gives it back.
pub(super) struct Ticket {
    calls: Arc<Calls>,
    listed: Arc<Listed>,
}

impl Calls {
    /// Lists a request.
    pub(super) fn enter(self: &Arc<Self>, request: &RequestContext, arrived: Instant) -> Ticket {
        let listed = Arc::new(Listed {
            request: request.clone(),
            arrived,
            running: Arc::default(),
            now: Mutex::default(),
        });
        self.lock().insert(request.request, Arc::clone(&listed));
        Ticket {
            calls: Arc::clone(self),
            listed,
        }
    }

    /// All of them, the oldest first.
    pub(super) fn list(&self, now: Instant) -> Vec<RunningCall> {
        let listed: Vec<Arc<Listed>> = self.lock().values().map(Arc::clone).collect();
        listed.iter().map(|listed| listed.tell(now)).collect()
    }

    /// Ends one.
    ///
    /// # Errors
    /// None of this number runs.
    pub(super) fn kill(&self, call: u64) -> Result<(), ErrorReply> {
        let listed = self.lock().get(&call).map(Arc::clone);
        let Some(listed) = listed else {
            let message = format!(
                "no call {call} is running; {} shows those that are",
                named("calls.list")
            );
            return Err(ErrorReply::new(ErrorCode::NotFound, message));
        };
        tracing::info!(call, "a call is killed");
        listed.running.kill();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Listed>>> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listed {
    fn tell(&self, now: Instant) -> RunningCall {
        let doing = self.now();
        let (module, function) = doing
            .function
            .as_ref()
            .map(|(module, function)| (module.name.clone(), function.to_string()))
            .unzip();
        // What waits uses nothing.
        let used = match module {
            Some(_) => self.running.used(),
            None => Usage::default(),
        };
        let age = now.saturating_duration_since(self.arrived);
        RunningCall {
            call: self.request.request,
            command: self.request.command.to_owned(),
            module,
            function,
            user: self.request.identity.user.clone(),
            age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
            attempt: doing.attempt,
            cpu_us: u64::try_from(used.cpu.as_micros()).unwrap_or(u64::MAX),
            memory_bytes: used.memory_bytes as u64,
            fuel: used.fuel,
        }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    pub(super) fn running(&self) -> &Arc<Running> {
        &self.listed.running
    }

    /// Notes that an attempt begins.
    pub(super) fn begin(&self, attempt: u32) {
        self.listed.now().attempt = attempt;
    }

    /// Notes that a function runs.
    pub(super) fn runs(&self, module: &Arc<ModuleContext>, function: &Arc<str>) {
        self.listed.running.note(&Usage::default());
        self.listed.now().function = Some((Arc::clone(module), Arc::clone(function)));
    }

    /// Notes that hooks ran for so long.
    pub(super) fn add_hook_time(&self, time: Duration) {
        let mut now = self.listed.now();
        now.hook_time = Some(now.hook_time.unwrap_or_default() + time);
    }

    /// How long hooks ran; none where there were none.
    pub(super) fn hook_time(&self) -> Option<Duration> {
        self.listed.now().hook_time
    }

    /// Notes that none does.
    pub(super) fn waits(&self) {
        self.listed.now().function = None;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.calls.lock().remove(&self.listed.request.request);
    }
}
