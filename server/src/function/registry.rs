//! The registry: every module with its versions, and for each command the hooks that stand around it.
//!
//! It is one immutable value. A change of a module builds the next one and swaps it in; a request takes it once and
//! keeps to it, so it never sees half a change.

use std::collections::BTreeMap;
use std::sync::Arc;

use luge_protocol::{HookCommand, HookDescription, ModuleDescription, Phase, ProcedureDescription};

use super::call::{Function, ModuleContext};
use super::gate::Gate;
use super::limits::CallLimits;
use super::stats::VersionStats;
use super::versions::{Hash, Versions};
use crate::store::Sequence;

/// A version in force.
pub struct Registered<M> {
    /// What it is and what it offers.
    pub description: ModuleDescription,
    /// What the runtime made of it.
    pub module: M,
    /// The limits of its calls.
    pub limits: Arc<CallLimits>,
    /// What its calls share.
    pub context: Arc<ModuleContext>,
    /// Its procedures, in the order of the description.
    pub procedures: Box<[Arc<Function>]>,
    /// Its hooks, likewise.
    pub hooks: Box<[Arc<Function>]>,
    /// Who may run its functions at once.
    pub gate: Gate,
    /// What is counted of its functions.
    pub stats: Arc<VersionStats>,
}

/// A module, with all its versions.
pub struct ModuleEntry<M> {
    /// Those that are kept.
    pub versions: Versions,
    /// The one in force, ready to be called.
    pub active: Option<Arc<Registered<M>>>,
}

/// A hook in its place.
pub struct HookEntry<M> {
    /// Its module.
    pub module: Arc<Registered<M>>,
    /// What it is.
    pub hook: HookDescription,
    /// The function that it runs.
    pub function: Arc<Function>,
}

/// A procedure in its place.
pub struct Procedure<'a, M> {
    /// Its module.
    pub module: &'a Arc<Registered<M>>,
    /// What it is.
    pub description: &'a ProcedureDescription,
    /// The function that it runs.
    pub function: &'a Arc<Function>,
}

impl<M> Clone for Procedure<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Procedure<'_, M> {}

/// All modules, and the hooks in the order in which they run.
pub struct Registry<M> {
    /// The commit of the newest change; what tells of modules waits for it. 0 where they are as the
    /// server found them.
    pub sequence: Sequence,
    modules: BTreeMap<String, Arc<ModuleEntry<M>>>,
    /// For each command, by its number less one: request hooks ascending, response hooks descending.
    request: [Vec<Arc<HookEntry<M>>>; 5],
    response: [Vec<Arc<HookEntry<M>>>; 5],
}

impl<M> Registry<M> {
    /// A registry of these modules, as that commit left them.
    pub fn new(modules: BTreeMap<String, Arc<ModuleEntry<M>>>, sequence: Sequence) -> Self {
        let mut registry = Self {
            sequence,
            modules,
            request: Default::default(),
            response: Default::default(),
        };
        let modules: Vec<_> = registry.active().cloned().collect();
        for module in modules {
            for (hook, function) in module.description.hooks.iter().zip(&module.hooks) {
                let entry = Arc::new(HookEntry {
                    module: Arc::clone(&module),
                    hook: hook.clone(),
                    function: Arc::clone(function),
                });
                let table = match hook.phase {
                    Phase::Request => &mut registry.request,
                    Phase::Response => &mut registry.response,
                };
                for command in &hook.commands {
                    if let Some(hooks) = table.get_mut(index(*command)) {
                        hooks.push(Arc::clone(&entry));
                    }
                }
            }
        }
        registry.sort();
        registry
    }

    fn sort(&mut self) {
        for hooks in &mut self.request {
            hooks.sort_by(|left, right| place(left).cmp(&place(right)));
        }
        for hooks in &mut self.response {
            hooks.sort_by(|left, right| place(right).cmp(&place(left)));
        }
    }

    /// All modules, by name, those without an active version included.
    pub fn modules(&self) -> &BTreeMap<String, Arc<ModuleEntry<M>>> {
        &self.modules
    }

    /// The versions in force, by the names of their modules.
    pub fn active(&self) -> impl Iterator<Item = &Arc<Registered<M>>> {
        self.modules
            .values()
            .filter_map(|entry| entry.active.as_ref())
    }

    /// Whether any version of any module has this binary.
    pub fn has_binary(&self, sha256: &Hash) -> bool {
        self.modules
            .values()
            .any(|entry| entry.versions.has_binary(sha256))
    }

    /// The module of this name.
    pub fn module(&self, name: &str) -> Option<&Arc<Registered<M>>> {
        self.modules.get(name)?.active.as_ref()
    }

    /// The same modules with one replaced, added or removed by a commit.
    pub fn with(
        &self,
        name: &str,
        module: Option<Arc<ModuleEntry<M>>>,
        sequence: Sequence,
    ) -> Self {
        let mut modules = self.modules.clone();
        match module {
            Some(module) => modules.insert(name.to_owned(), module),
            None => modules.remove(name),
        };
        Self::new(modules, sequence)
    }

    /// A procedure by its full name, `module.procedure`.
    pub fn procedure(&self, name: &str) -> Option<Procedure<'_, M>> {
        let (module, procedure) = name.split_once('.')?;
        let module = self.module(module)?;
        let described = module.description.procedures.iter();
        let (description, function) = described
            .zip(&module.procedures)
            .find(|(it, _)| it.procedure == procedure)?;
        Some(Procedure {
            module,
            description,
            function,
        })
    }

    /// Whether any hook stands around this command, whatever the key.
    pub fn has_hooks(&self, command: HookCommand) -> bool {
        [Phase::Request, Phase::Response]
            .into_iter()
            .any(|phase| !self.table(command, phase).is_empty())
    }

    /// Whether any hook stands around this command for this key.
    pub fn is_hooked(&self, command: HookCommand, key: &[u8]) -> bool {
        self.has_hooks(command)
            && [Phase::Request, Phase::Response]
                .into_iter()
                .any(|phase| self.has_any(command, phase, key))
    }

    /// Whether a phase has hooks around this command for this key.
    pub fn has_any(&self, command: HookCommand, phase: Phase, key: &[u8]) -> bool {
        self.hooks(command, phase, key).next().is_some()
    }

    /// A hook around this command for some key of `[start, end)`, if there is any; an empty `end` reaches to the last
    /// key.
    pub fn hook_in_range(
        &self,
        command: HookCommand,
        start: &[u8],
        end: &[u8],
    ) -> Option<&HookEntry<M>> {
        let meets = |entry: &&Arc<HookEntry<M>>| {
            let prefix = &entry.hook.prefix[..];
            let begins_before_end = end.is_empty() || prefix < end;
            begins_before_end && (prefix >= start || start.starts_with(prefix))
        };
        [Phase::Request, Phase::Response]
            .into_iter()
            .find_map(|phase| self.table(command, phase).iter().find(meets))
            .map(|entry| &**entry)
    }

    /// The modules whose hooks stand around this command for this key, some of them more than once.
    pub fn around(
        &self,
        command: HookCommand,
        key: &[u8],
    ) -> impl Iterator<Item = &Arc<Registered<M>>> {
        [Phase::Request, Phase::Response]
            .into_iter()
            .flat_map(move |phase| self.hooks(command, phase, key))
            .map(|entry| &entry.module)
    }

    /// The hooks of a phase around this command for this key, in the order in which they run.
    pub fn hooks(
        &self,
        command: HookCommand,
        phase: Phase,
        key: &[u8],
    ) -> impl Iterator<Item = &Arc<HookEntry<M>>> {
        self.table(command, phase)
            .iter()
            .filter(move |entry| key.starts_with(&entry.hook.prefix))
    }

    fn table(&self, command: HookCommand, phase: Phase) -> &[Arc<HookEntry<M>>] {
        let table = match phase {
            Phase::Request => &self.request,
            Phase::Response => &self.response,
        };
        table.get(index(command)).map_or(&[], Vec::as_slice)
    }
}

impl<M> Default for Registry<M> {
    fn default() -> Self {
        Self::new(BTreeMap::new(), 0)
    }
}

fn index(command: HookCommand) -> usize {
    command as usize - 1
}

fn place<M>(entry: &HookEntry<M>) -> (i32, &str, &str) {
    (
        entry.hook.order,
        &entry.module.description.name,
        &entry.hook.hook,
    )
}
