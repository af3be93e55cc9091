//! The places that a request takes before it runs functions: one behind the gate of each module that it
//! may meet, and one among all requests that run functions.
//!
//! They are taken before the first function runs, the gates in the order of the modules' names and the
//! common place last: so nobody who has what another waits for waits for that other. A request that waits
//! for a module holds none of the common places, so a module that all want leaves them to the rest. It does
//! hold the places of the modules before it in that order: a module whose hooks stand around the calls of
//! another is as crowded as that one.

use std::sync::Arc;
use std::time::Instant;

use luge_protocol::{Command, ErrorCode, ErrorReply, HookCommand};
use smallvec::SmallVec;
use tokio::sync::SemaphorePermit;

use super::attempt::{Abort, Attempt};
use super::refusal;
use crate::command::{Action, Plan};
use crate::function::{Crowded, Place, Registered, Runtime};
use crate::store::Store;

/// The modules that a request mostly meets: room for them takes no memory of its own.
const USUAL_MODULES: usize = 2;

/// The modules that a request may meet.
type Modules<'a, M> = SmallVec<[&'a Arc<Registered<M>>; USUAL_MODULES]>;

/// What a request holds while it runs functions.
#[expect(dead_code, reason = "holding it is its use")]
pub(super) struct Places<'a> {
    gates: SmallVec<[Place<'a>; USUAL_MODULES]>,
    running: SemaphorePermit<'a>,
}

impl<'a, S: Store, R: Runtime<S::Snapshot>> Attempt<'a, S, R> {
    /// Takes the places of a call before its snapshot: one that waits grows old, and would conflict.
    pub(super) async fn take_places_of_call(&mut self) -> Result<(), Abort> {
        let Command::Call(call) = self.context.command else {
            return Ok(());
        };
        let mut modules = Modules::new();
        modules.extend(self.called.map(|called| called.module));
        let (registry, name) = (self.registry, call.procedure.as_bytes());
        if registry.is_hooked(HookCommand::Call, name) {
            modules.extend(registry.around(HookCommand::Call, name));
        }
        self.take_places(modules).await
    }

    /// Takes the places of the functions that a plan calls, if it calls any.
    pub(super) async fn take_places_of(&mut self, plan: &Plan) -> Result<(), Abort> {
        let registry = self.registry;
        let is_called = |part: &crate::command::Part| {
            part.action == Action::Call || registry.is_hooked(part.hook_command(), &part.key)
        };
        if self.places.is_some() || !plan.parts.iter().any(is_called) {
            return Ok(());
        }
        let mut modules = Modules::new();
        for part in &plan.parts {
            // A page of a scan has parts by the thousand, and few modules.
            for module in registry.around(part.hook_command(), &part.key) {
                if !modules.iter().any(|known| Arc::ptr_eq(known, module)) {
                    modules.push(module);
                }
            }
        }
        self.take_places(modules).await
    }

    /// Alone, all commits wait for this attempt. So it waits for no place: those who have one may be
    /// waiting for their commit.
    async fn take_places(&mut self, mut modules: Modules<'a, R::Module>) -> Result<(), Abort> {
        let (core, number) = (self.core, self.number);
        let ticket = self.ticket.get_or_insert_with(|| {
            let ticket = core.calls.enter(self.request, self.context.arrived);
            ticket.running().begin(number);
            ticket
        });
        if core.settings.is_alone(number) {
            return Ok(());
        }
        if modules.len() > 1 {
            modules.sort_by(|left, right| left.description.name.cmp(&right.description.name));
            modules.dedup_by(|left, right| Arc::ptr_eq(left, right));
        }
        // Mostly there is room, and whoever waits listens for its kill and for a time.
        let gates: Option<_> = modules.iter().map(|it| it.gate.try_enter()).collect();
        if let Some(gates) = gates
            && let Ok(running) = core.running.try_acquire()
        {
            self.places = Some(Places { gates, running });
            return Ok(());
        }
        let longest = modules.iter().map(|module| module.limits.deadline).max();
        let own = longest.map(|longest| self.context.arrived + longest);
        let deadline = self.deadline.into_iter().chain(own).min();
        let places = async {
            let mut gates = SmallVec::with_capacity(modules.len());
            for module in modules {
                let place = module.gate.enter().await;
                gates.push(place.map_err(|crowded| crowded_out(module, crowded))?);
            }
            let running = core.running.acquire().await;
            let running = running.map_err(|_| Abort::Lost)?;
            Ok(Places { gates, running })
        };
        let places = tokio::select! {
            biased;
            () = ticket.running().killed() => return Err(Abort::Killed),
            places = places => places,
            () = passes(deadline) => {
                // Those that came together are late together.
                let now = (core.surroundings.now)();
                tokio::select! {
                    biased;
                    () = ticket.running().killed() => return Err(Abort::Killed),
                    () = core.late.pass(now, async {}) => {}
                }
                return Err(Abort::Refused(refusal::late()));
            }
        };
        self.places = Some(places?);
        Ok(())
    }
}

/// Resolves once the deadline has passed.
async fn passes(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

fn crowded_out<M>(module: &Registered<M>, crowded: Crowded) -> Abort {
    let name = &module.description.name;
    let message = format!(
        "the module `{name}` has no room: {crowded} (running_calls at its push, and the setting max_module_waiting_calls); try again later"
    );
    Abort::Refused(ErrorReply::new(ErrorCode::Overloaded, message))
}
