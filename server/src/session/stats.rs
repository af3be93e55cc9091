//! What a server counts: requests by how they ended, the time that hooks added to them, and what
//! functions did.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use luge_protocol::{
    Command, ErrorCode, FunctionKind, FunctionReport, HookTime, ModuleDescription, Reply,
    StatsReply, Summary,
};

use super::figures::FunctionFigures;
use super::modules::find;
use super::{Core, Outcome};
use crate::function::{
    Distribution, FunctionStats, Histogram, Registry, Runtime, Sharded, StatsRoom, VersionStats,
};
use crate::store::Store;

const COMMANDS: usize = Command::NAMES.len();

/// Every code, and success.
const RESULTS: usize = ErrorCode::ALL.len() + 1;

/// What is counted of all sessions together.
pub(super) struct Stats {
    requests: Sharded<Requests>,
    /// For each command, by its place, how long hooks took.
    hooks: [Sharded<Histogram>; COMMANDS],
    room: Arc<StatsRoom>,
    /// Those of versions that are kept and were active since the start, by module and version.
    versions: Mutex<BTreeMap<(String, u64), Arc<VersionStats>>>,
}

/// For each command, by its place, and behind them for what is none, the requests by how they ended.
struct Requests([[AtomicU64; RESULTS]; COMMANDS + 1]);

impl Default for Requests {
    fn default() -> Self {
        Self([const { [const { AtomicU64::new(0) }; RESULTS] }; COMMANDS + 1])
    }
}

impl Stats {
    pub(super) fn new(max_counted_functions: usize) -> Self {
        Self {
            requests: Sharded::default(),
            hooks: std::array::from_fn(|_| Sharded::default()),
            room: Arc::new(StatsRoom::new(max_counted_functions)),
            versions: Mutex::default(),
        }
    }

    /// Counts a request; `None` stands for one that could not be read.
    pub(super) fn add_request(&self, command: Option<usize>, error: Option<ErrorCode>) {
        let result = error.map_or(0, |code| code.index() + 1);
        let requests = self.requests.own().0.get(command.unwrap_or(COMMANDS));
        if let Some(count) = requests.and_then(|results| results.get(result)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts the time that hooks took of a request, all its attempts together.
    pub(super) fn add_hook_time(&self, command: &Command<'_>, time: Duration) {
        if let Some(times) = self.hooks.get(command.index()) {
            let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            times.own().add(nanos);
        }
    }

    /// Where the calls of a version are counted: where they were before, if it is kept since then.
    pub(super) fn of(&self, description: &ModuleDescription) -> Arc<VersionStats> {
        let place = (description.name.clone(), description.version);
        match self.versions().get(&place) {
            Some(stats) => Arc::clone(stats),
            None => self.fresh(description),
        }
    }

    /// Where the calls of a version that there was not yet are counted.
    pub(super) fn fresh(&self, description: &ModuleDescription) -> Arc<VersionStats> {
        let ModuleDescription {
            procedures, hooks, ..
        } = description;
        Arc::new(VersionStats::new(procedures, hooks, &self.room))
    }

    /// Keeps what was counted of the versions that a registry has, and of no others.
    pub(super) fn keep<M>(&self, registry: &Registry<M>) {
        let mut versions = self.versions();
        versions.retain(|(name, version), _| {
            let entry = registry.modules().get(name);
            entry.is_some_and(|entry| entry.versions.kept().contains_key(version))
        });
        for module in registry.active() {
            let place = (module.context.name.clone(), module.context.version);
            versions.insert(place, Arc::clone(&module.stats));
        }
    }

    /// How long hooks took, by command, where there were any.
    pub(super) fn hook_times(&self) -> impl Iterator<Item = (&'static str, Distribution)> {
        let commands = Command::NAMES.iter().copied().zip(&self.hooks);
        commands.filter_map(|(name, times)| {
            let mut distribution = Distribution::default();
            for histogram in times.all() {
                distribution.join(histogram);
            }
            (distribution.count() > 0).then_some((name, distribution))
        })
    }

    /// Requests by command and by `ok` or the code of the error; those that could not be read have no
    /// command. Those that there were none of are left out.
    pub(super) fn requests(&self) -> Vec<(&'static str, &'static str, u64)> {
        let commands = Command::NAMES.iter().copied().chain(["none"]).enumerate();
        let mut requests = Vec::new();
        for (at, command) in commands {
            let codes = ErrorCode::ALL.iter().map(|code| code.name());
            for (result, name) in ["ok"].into_iter().chain(codes).enumerate() {
                let of =
                    |shard: &Requests| Some(shard.0.get(at)?.get(result)?.load(Ordering::Relaxed));
                let count = self.requests.all().filter_map(of).sum();
                if count > 0 {
                    requests.push((command, name, count));
                }
            }
        }
        requests
    }

    /// The functions that were called, by module, version and name.
    pub(super) fn functions(&self) -> Vec<FunctionFigures> {
        let mut functions = Vec::new();
        for ((module, version), stats) in self.kept() {
            functions.extend(
                stats
                    .called()
                    .map(|(function, kind, counted)| FunctionFigures {
                        module: module.clone(),
                        version,
                        function: function.to_owned(),
                        kind,
                        counted,
                    }),
            );
        }
        functions
    }

    /// Calls of functions beyond those that are counted.
    pub(super) fn uncounted(&self) -> u64 {
        self.room.uncounted()
    }

    fn versions(&self) -> MutexGuard<'_, BTreeMap<(String, u64), Arc<VersionStats>>> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> Vec<((String, u64), Arc<VersionStats>)> {
        let versions = self.versions();
        let kept = versions.iter();
        kept.map(|(place, stats)| (place.clone(), Arc::clone(stats)))
            .collect()
    }
}

/// The functions that ran in an attempt, each once.
#[derive(Default)]
pub(super) struct Ran<'a> {
    first: Option<&'a FunctionStats>,
    others: Vec<&'a FunctionStats>,
}

impl<'a> Ran<'a> {
    pub(super) fn add(&mut self, function: &'a FunctionStats) {
        if self.all().any(|other| std::ptr::eq(other, function)) {
            return;
        }
        match self.first {
            None => self.first = Some(function),
            Some(_) => self.others.push(function),
        }
    }

    /// Counts for each that the attempt met a conflict.
    pub(super) fn met_a_conflict(&self) {
        self.all().for_each(FunctionStats::add_conflict);
    }

    fn all(&self) -> impl Iterator<Item = &'a FunctionStats> {
        self.first.into_iter().chain(self.others.iter().copied())
    }
}

/// What was counted of the functions of one module, or of all.
pub(super) fn told<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    name: Option<&str>,
) -> Outcome {
    let registry = core.registry.load();
    if let Some(Err(refused)) = name.map(|name| find(&registry, name)) {
        return (Err(refused), 0);
    }
    let functions = core.stats.functions().into_iter();
    let functions = functions.filter(|it| name.is_none_or(|name| name == it.module));
    let functions = functions.map(|it| {
        let active = registry.module(&it.module);
        let is_active = active.is_some_and(|active| active.context.version == it.version);
        report(it, is_active)
    });
    let functions: Vec<FunctionReport> = functions.collect();
    // Times are of all hooks together; to a module that had none in them they say nothing.
    let is_concerned = name.is_none() || functions.iter().any(|it| it.kind == FunctionKind::Hook);
    let times = is_concerned.then(|| core.stats.hook_times());
    let hooks = times
        .into_iter()
        .flatten()
        .map(|(command, times)| HookTime {
            command: command.to_owned(),
            requests: times.count(),
            added_ns: summary(&times),
        });
    let reply = StatsReply {
        counted_ms: core.uptime_ms(),
        functions,
        hooks: hooks.collect(),
        uncounted_calls: core.stats.uncounted(),
    };
    (Ok(Reply::Stats(Box::new(reply))), registry.sequence)
}

fn report(it: FunctionFigures, active: bool) -> FunctionReport {
    let counted = it.counted;
    let errors = counted.errors.iter();
    FunctionReport {
        module: it.module,
        version: it.version,
        active,
        function: it.function,
        kind: it.kind,
        calls: counted.cpu_ns.count(),
        errors: errors
            .map(|(code, count)| (code.name().to_owned(), *count))
            .collect(),
        conflicts: counted.conflicts,
        retries: counted.retries,
        fuel: summary(&counted.fuel),
        cpu_ns: summary(&counted.cpu_ns),
        memory_bytes: counted.memory_bytes as u64,
    }
}

fn summary(distribution: &Distribution) -> Summary {
    Summary {
        total: distribution.total,
        p50: distribution.percentile(50),
        p99: distribution.percentile(99),
        max: distribution.max,
    }
}
