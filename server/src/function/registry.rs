//! The registry: every module in force, and for each command the hooks that stand around it.
//!
//! It is one immutable value. A push builds the next one and swaps it in; a request takes it once and
//! keeps to it, so it never sees half a change.

use std::collections::BTreeMap;
use std::sync::Arc;

use luge_protocol::{HookCommand, HookDescription, ModuleDescription, Phase, ProcedureDescription};

use super::call::ModuleContext;
use super::limits::CallLimits;

/// A module in force.
pub struct Registered<M> {
    /// What it is and what it offers.
    pub description: ModuleDescription,
    /// What the runtime made of it.
    pub module: M,
    /// The limits of its calls.
    pub limits: CallLimits,
    /// What its calls share.
    pub context: Arc<ModuleContext>,
}

/// A hook in its place.
pub struct HookEntry<M> {
    /// Its module.
    pub module: Arc<Registered<M>>,
    /// What it is.
    pub hook: HookDescription,
}

/// All modules, and the hooks in the order in which they run.
pub struct Registry<M> {
    modules: BTreeMap<String, Arc<Registered<M>>>,
    /// For each command, by its number less one: request hooks ascending, response hooks descending.
    request: [Vec<Arc<HookEntry<M>>>; 5],
    response: [Vec<Arc<HookEntry<M>>>; 5],
}

impl<M> Registry<M> {
    /// A registry of these modules.
    pub fn new(modules: BTreeMap<String, Arc<Registered<M>>>) -> Self {
        let mut registry = Self {
            modules,
            request: Default::default(),
            response: Default::default(),
        };
        let modules: Vec<_> = registry.modules.values().cloned().collect();
        for module in modules {
            for hook in &module.description.hooks {
                let entry = Arc::new(HookEntry {
                    module: Arc::clone(&module),
                    hook: hook.clone(),
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

    /// The modules, by name.
    pub fn modules(&self) -> &BTreeMap<String, Arc<Registered<M>>> {
        &self.modules
    }

    /// The module of this name.
    pub fn module(&self, name: &str) -> Option<&Arc<Registered<M>>> {
        self.modules.get(name)
    }

    /// The same modules with one replaced, added or removed.
    pub fn with(&self, name: &str, module: Option<Arc<Registered<M>>>) -> Self {
        let mut modules = self.modules.clone();
        match module {
            Some(module) => modules.insert(name.to_owned(), module),
            None => modules.remove(name),
        };
        Self::new(modules)
    }

    /// A procedure by its full name, `module.procedure`.
    pub fn procedure(&self, name: &str) -> Option<(&Arc<Registered<M>>, &ProcedureDescription)> {
        let (module, procedure) = name.split_once('.')?;
        let module = self.modules.get(module)?;
        let found = module
            .description
            .procedures
            .iter()
            .find(|it| it.procedure == procedure)?;
        Some((module, found))
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
                .any(|phase| self.hooks(command, phase, key).next().is_some())
    }

    /// Whether any hook stands around this command for some key of `[start, end)`; an empty `end`
    /// reaches to the last key.
    pub fn is_range_hooked(&self, command: HookCommand, start: &[u8], end: &[u8]) -> bool {
        let meets = |entry: &Arc<HookEntry<M>>| {
            let prefix = &entry.hook.prefix[..];
            let begins_before_end = end.is_empty() || prefix < end;
            begins_before_end && (prefix >= start || start.starts_with(prefix))
        };
        [Phase::Request, Phase::Response]
            .into_iter()
            .any(|phase| self.table(command, phase).iter().any(meets))
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
        Self::new(BTreeMap::new())
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
