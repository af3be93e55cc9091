//! One sandbox: a `wasmtime::Store` with one instance in it.

use std::sync::Arc;

use wasmtime::{PoolConcurrencyLimitError, TypedFunc, UpdateDeadline};

use super::failure::Fallen;
use super::guest::{HostState, HostStop};
use super::limiter::Limiter;
use super::meter::{Meter, give_way};
use super::module::Module;
use super::rewind::{Globals, Rewind};
use crate::function::{Budget, Call, CallLimits, Ended, Stage, Usage};
use crate::store::Snapshot;
use luge_protocol::ErrorCode;

/// A live instance of a module. What it may be used for again, [`Instance`](super::pool::Instance) says.
pub(super) struct Sandbox<S: Snapshot> {
    store: wasmtime::Store<HostState<S>>,
    instance: Option<wasmtime::Instance>,
    globals: Globals,
    /// The functions that it was entered at, by their places in the module: to look one up costs as much as a
    /// small call.
    entries: Vec<Option<TypedFunc<(), i32>>>,
    limits: Arc<CallLimits>,
    /// How many calls it was made for or given.
    calls: u32,
    /// Whether growth was refused in any of them.
    has_refused: bool,
}

impl<S: Snapshot> Sandbox<S> {
    /// Makes and initialises an instance, within the budget of the call that it is made for.
    pub(super) async fn make(
        module: &Module<S>,
        call: Box<Call<S>>,
        budget: &Budget,
    ) -> Result<Self, Box<Ended<S>>> {
        let state = HostState {
            meter: Meter::start(budget, &call.running),
            call: Some(call),
            limiter: Limiter {
                memory_bytes: budget.limits.memory_bytes,
                table_elements: budget.limits.table_elements,
                refused: None,
            },
            memory: None,
        };
        let store = wasmtime::Store::new(module.linked().module().engine(), state);
        let mut live = Self {
            store,
            instance: None,
            globals: Globals::default(),
            entries: Vec::new(),
            limits: Arc::clone(&budget.limits),
            calls: 1,
            has_refused: false,
        };
        live.store.limiter(|state| &mut state.limiter);
        let pace = Arc::clone(module.pace());
        live.store.epoch_deadline_callback(move |mut store| {
            let left = store.get_fuel().unwrap_or(0);
            let memory = store.data().memory;
            let memory_bytes = memory.map_or(0, |memory| memory.data_size(&store));
            let meter = &store.data_mut().meter;
            let usage = meter.usage(left, memory_bytes);
            meter.note(&usage);
            pace.look(&usage, meter.measured());
            let check = meter.check();
            check.map_err(|stop| wasmtime::Error::new(HostStop { function: "", stop }))?;
            if meter.goes_on() {
                return Ok(UpdateDeadline::Continue(1));
            }
            let turn = give_way(Arc::clone(meter));
            // It looks again as soon as it goes on: it may have waited until its deadline.
            Ok(UpdateDeadline::YieldCustom(0, Box::pin(turn)))
        });
        live.begin(module).await?;
        Ok(live)
    }

    /// Makes and initialises the instance, or initialises one that was rewound and given a call.
    pub(super) async fn begin(&mut self, module: &Module<S>) -> Result<(), Box<Ended<S>>> {
        let Err(error) = self.initialise(module).await else {
            return Ok(());
        };
        let fallen = self.fallen(&error);
        // Before the lines are read: the meter is this thread's, and that may end on another.
        let (call, usage) = self.end();
        let failed = fallen.with_lines(module.lines()).await;
        Err(Box::new(Ended {
            call,
            outcome: Err(Box::new(failed)),
            usage,
        }))
    }

    /// Gives a live instance another call.
    pub(super) fn give(&mut self, call: Box<Call<S>>, budget: &Budget) {
        self.calls += 1;
        self.has_refused = self.has_refused();
        // All threads share their count, and they are mostly the same.
        if !Arc::ptr_eq(&self.limits, &budget.limits) {
            self.limits = Arc::clone(&budget.limits);
        }
        let state = self.store.data_mut();
        Meter::restart(&mut state.meter, budget, &call.running);
        state.call = Some(call);
        state.limiter = Limiter {
            memory_bytes: budget.limits.memory_bytes,
            table_elements: budget.limits.table_elements,
            refused: None,
        };
        // Fuel is always on in this engine, so filling up can't fail.
        let _ = self.refuel();
    }

    /// Sets it back to what it was when it was made, if that can be done.
    pub(super) fn rewind(&mut self, rewind: &Rewind) -> bool {
        let memory = self.store.data().memory;
        rewind.set_back(&mut self.store, memory, &self.globals)
    }

    /// How many calls it has served.
    pub(super) fn calls(&self) -> u32 {
        self.calls
    }

    /// What its memory has grown to, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        let memory = self.store.data().memory;
        memory.map_or(0, |memory| memory.data_size(&self.store))
    }

    /// Runs the start section and `_initialize`, in which a guest sees neither the transaction nor
    /// the request.
    async fn initialise(&mut self, module: &Module<S>) -> wasmtime::Result<()> {
        self.refuel()?;
        let hidden = self.store.data_mut().call.as_mut().map(|call| {
            let stage = std::mem::replace(&mut call.stage, Stage::Initialise);
            let seed = call.module().seed;
            (stage, call.transaction.take(), call.reseed(seed))
        });
        let made = self.run_initialisation(module).await;
        if let Some((stage, transaction, random)) = hidden
            && let Some(call) = self.store.data_mut().call.as_mut()
        {
            call.stage = stage;
            call.transaction = transaction;
            call.restore_random(random);
        }
        made
    }

    async fn run_initialisation(&mut self, module: &Module<S>) -> wasmtime::Result<()> {
        let instance = match self.instance {
            Some(instance) => instance,
            None => self.instantiate(module).await?,
        };
        if module.has_initialize() {
            let initialize = instance.get_typed_func::<(), ()>(&mut self.store, "_initialize")?;
            initialize.call_async(&mut self.store, ()).await?;
        }
        Ok(())
    }

    async fn instantiate(&mut self, module: &Module<S>) -> wasmtime::Result<wasmtime::Instance> {
        let mut made = module.linked().instantiate_async(&mut self.store).await;
        if let Err(error) = &made
            && error.is::<PoolConcurrencyLimitError>()
            && module.idle().give_way()
        {
            made = module.linked().instantiate_async(&mut self.store).await;
        }
        let instance = made?;
        module.idle().add_made();
        if let Some(index) = module.memory() {
            let memory = instance.get_module_export(&mut self.store, index);
            self.store.data_mut().memory = memory.and_then(wasmtime::Extern::into_memory);
        }
        self.instance = Some(instance);
        let is_untouched = self.store.get_fuel()? == self.limits.fuel;
        if let Some(rewind) = module.rewind().filter(|_| is_untouched) {
            let memory = self.store.data().memory;
            self.globals = rewind.look(&mut self.store, &instance, memory);
        }
        Ok(instance)
    }

    /// Runs the exported function at this place of the module. The first run of an instance goes on with the fuel
    /// that the initialisation left; every later one begins with a full tank.
    pub(super) async fn run(
        &mut self,
        module: &Module<S>,
        place: usize,
    ) -> Result<i32, Box<Fallen>> {
        match self.enter(module, place).await {
            Ok(number) => Ok(number),
            Err(error) => Err(Box::new(self.fallen(&error))),
        }
    }

    /// Whether growth was ever refused in it: what it holds may be less than others would give it.
    pub(super) fn has_refused(&self) -> bool {
        self.has_refused || self.store.data().limiter.refused.is_some()
    }

    async fn enter(&mut self, module: &Module<S>, place: usize) -> wasmtime::Result<i32> {
        if !matches!(self.entries.get(place), Some(Some(_))) {
            let entry = self.look_up(module, place)?;
            // Only an instance that serves again keeps it.
            if self.calls == 1 {
                return entry.call_async(&mut self.store, ()).await;
            }
            let length = self.entries.len().max(place + 1);
            self.entries.resize(length, None);
            if let Some(kept) = self.entries.get_mut(place) {
                *kept = Some(entry);
            }
        }
        match self.entries.get(place) {
            Some(Some(entry)) => entry.call_async(&mut self.store, ()).await,
            _ => Err(wasmtime::format_err!(
                "function {place} was looked up in vain"
            )),
        }
    }

    /// The exported function at a place.
    fn look_up(
        &mut self,
        module: &Module<S>,
        place: usize,
    ) -> wasmtime::Result<TypedFunc<(), i32>> {
        let export = self.instance.zip(module.export(place));
        let found = export.and_then(|(instance, index)| {
            instance
                .get_module_export(&mut self.store, index)?
                .into_func()
        });
        let found = found.ok_or_else(|| wasmtime::format_err!("the instance lacks an export"))?;
        found.typed::<(), i32>(&self.store)
    }

    /// Takes the call out, and tells what it used.
    pub(super) fn end(&mut self) -> (Option<Box<Call<S>>>, Usage) {
        let left = self.store.get_fuel().unwrap_or(0);
        let memory_bytes = self.memory_bytes();
        let fuel = self.limits.fuel.saturating_sub(left);
        let cpu = self.store.data().meter.used();
        let call = self.store.data_mut().call.take().map(|mut call| {
            call.finish_log();
            call
        });
        (
            call,
            Usage {
                fuel,
                cpu,
                memory_bytes,
            },
        )
    }

    fn refuel(&mut self) -> wasmtime::Result<()> {
        self.store.set_epoch_deadline(1);
        self.store.set_fuel(self.limits.fuel)
    }

    fn fallen(&mut self, error: &wasmtime::Error) -> Fallen {
        let mut fallen = Fallen::new(error, &self.limits, self.store.data().limiter.refused);
        let call = self.store.data_mut().call.as_mut();
        fallen.failure.log = call.and_then(|call| call.take_last_error());
        if fallen.failure.code == ErrorCode::Internal {
            tracing::error!(
                message = fallen.failure.message,
                "a call failed in the runtime"
            );
        }
        fallen
    }
}
