//! A module: checked, compiled, and linked as far as it can be before it is instantiated.

use std::collections::HashMap;
use std::sync::Arc;

use wasmtime::{ExternType, FuncType, InstancePre, Linker, ModuleExport};

use super::engine::KEPT_MEMORY_BYTES;
use super::guest::HostState;
use super::idle::Idle;
use super::lane::Pace;
use super::lines::Lines;
use super::pool::Pool;
use super::prepare::is_added;
use super::rewind::Rewind;
use crate::function::{CallLimits, Exports, LargeMemory};
use crate::store::Snapshot;

const PAGE_BYTES: u64 = 65_536;

/// The most functions that a module may export: each is kept with its name and type.
const MAX_EXPORTS: usize = 4_096;

/// What modules may import, with each function's type.
pub(super) type Signatures = HashMap<(String, String), String>;

/// A compiled module.
pub struct Module<S: Snapshot> {
    linked: InstancePre<HostState<S>>,
    exports: Exports,
    /// What can be called, in the order of the names.
    functions: Vec<(String, ModuleExport)>,
    memory: Option<ModuleExport>,
    has_initialize: bool,
    kept: Arc<Pool<S>>,
    rewound: Option<Arc<Pool<S>>>,
    rewind: Option<Arc<Rewind>>,
    idle: Arc<Idle>,
    lines: Option<Lines>,
    pace: Arc<Pace>,
}

/// Refuses what is no core module in binary form, before a compiler sees it.
pub(super) fn check_header(wasm: &[u8]) -> Result<(), String> {
    match wasm.get(..8) {
        Some(b"\0asm\x01\0\0\0") => Ok(()),
        Some(b"\0asm\x0d\0\x01\0") => {
            Err("it is a component, and this server runs core modules".to_owned())
        }
        Some(header) if header.starts_with(b"\0asm") => {
            Err("it is of a version of WebAssembly that this server does not know".to_owned())
        }
        _ => Err("it is no WebAssembly binary: it does not begin with \\0asm; the text form is translated by the client, as `luge module push` does".to_owned()),
    }
}

impl<S: Snapshot> Module<S> {
    /// A module of what was compiled, where it asks for nothing that it can't have.
    pub(super) fn new(
        module: wasmtime::Module,
        lines: Option<Lines>,
        linker: &Linker<HostState<S>>,
        known: &Signatures,
        limits: &CallLimits,
        idle: Arc<Idle>,
    ) -> Result<Self, String> {
        check_imports(known, &module)?;
        check_sizes(&module, limits)?;
        let linked = linker
            .instantiate_pre(&module)
            .map_err(|error| first_lines(&error))?;
        check_export_count(&module)?;
        let mut exports = Exports {
            has_hook_imports: has_hook_imports(&module),
            large_memory: large_memory(&module),
            ..Exports::default()
        };
        let mut functions = Vec::new();
        for export in own_exports(&module) {
            let ExternType::Func(found) = export.ty() else {
                continue;
            };
            let name = export.name().to_owned();
            if found.params().len() == 0 && found.results().map(|it| it.is_i32()).eq([true]) {
                if let Some(index) = module.get_export_index(&name) {
                    functions.push((name.clone(), index));
                }
                exports.callable.push(name);
            } else {
                exports.others.push((name, shortened(&signature(&found))));
            }
        }
        functions.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        let has_initialize = check_entry_points(&exports)?;
        let memory = module.get_export_index("memory");
        let rewind = Rewind::of(&module).map(Arc::new);
        let rewound = rewind.as_ref().map(|rewind| {
            let idle = Arc::clone(&idle);
            Pool::rewinding(Arc::clone(rewind), idle)
        });
        Ok(Self {
            linked,
            exports,
            functions,
            memory,
            has_initialize,
            kept: Pool::new(Arc::clone(&idle)),
            rewound,
            rewind,
            idle,
            lines,
            pace: Arc::new(Pace::new()),
        })
    }

    /// How its calls ran lately.
    pub(super) fn pace(&self) -> &Arc<Pace> {
        &self.pace
    }

    /// Its instances that wait for a call with what earlier ones have left in them.
    pub(super) fn kept(&self) -> &Arc<Pool<S>> {
        &self.kept
    }

    /// Its instances that wait for a call and are as new, if that can be had.
    pub(super) fn rewound(&self) -> Option<&Arc<Pool<S>>> {
        self.rewound.as_ref()
    }

    /// The kept instances of all modules.
    pub(super) fn idle(&self) -> &Idle {
        &self.idle
    }

    /// How its instances are rewound.
    pub(super) fn rewind(&self) -> Option<&Rewind> {
        self.rewind.as_deref()
    }

    pub(super) fn linked(&self) -> &InstancePre<HostState<S>> {
        &self.linked
    }

    pub(super) fn exports(&self) -> &Exports {
        &self.exports
    }

    /// The place of a function that can be called.
    pub(super) fn function(&self, name: &str) -> Option<usize> {
        let order = |(other, _): &(String, ModuleExport)| other.as_str().cmp(name);
        self.functions.binary_search_by(order).ok()
    }

    /// The function at a place.
    pub(super) fn export(&self, place: usize) -> Option<&ModuleExport> {
        self.functions.get(place).map(|(_, export)| export)
    }

    pub(super) fn memory(&self) -> Option<&ModuleExport> {
        self.memory.as_ref()
    }

    /// Where its instructions come from, if it says so.
    pub(super) fn lines(&self) -> Option<&Lines> {
        self.lines.as_ref()
    }

    pub(super) fn has_initialize(&self) -> bool {
        self.has_initialize
    }
}

/// What the module's author exports.
fn own_exports(module: &wasmtime::Module) -> impl Iterator<Item = wasmtime::ExportType<'_>> {
    let exports = module.exports();
    exports.filter(|export| !is_added(export.name()))
}

fn check_export_count(module: &wasmtime::Module) -> Result<(), String> {
    let functions = own_exports(module).filter(|export| export.ty().func().is_some());
    match functions.count() {
        0..=MAX_EXPORTS => Ok(()),
        count => Err(format!(
            "it exports {count} functions, which exceeds the limit of {MAX_EXPORTS}"
        )),
    }
}

fn has_hook_imports(module: &wasmtime::Module) -> bool {
    let is_for_hooks = |name: &str| name.starts_with("request_") || name.starts_with("response_");
    module
        .imports()
        .any(|import| import.module() == super::host::MODULE && is_for_hooks(import.name()))
}

/// Answers whether there is an `_initialize` to run.
fn check_entry_points(exports: &Exports) -> Result<bool, String> {
    let is_exported = |name: &str| {
        exports
            .callable
            .iter()
            .chain(exports.others.iter().map(|(other, _)| other))
            .any(|it| it == name)
    };
    if is_exported("_start") {
        return Err("it is a program with a `_start`, which would run once and end; build it as a library (a reactor, for Rust a cdylib, for Go -buildmode=c-shared)".to_owned());
    }
    let other = exports
        .others
        .iter()
        .find(|(name, _)| name == "_initialize");
    match other {
        Some((_, found)) if found == "() -> ()" => Ok(true),
        Some((_, found)) => Err(format!(
            "its `_initialize` has the type {found}, and should have () -> ()"
        )),
        None if is_exported("_initialize") => {
            Err("its `_initialize` returns an i32, and should return nothing".to_owned())
        }
        None => Ok(false),
    }
}

fn check_imports(known: &Signatures, module: &wasmtime::Module) -> Result<(), String> {
    let mut needs_memory = false;
    for import in module.imports() {
        let (from, name) = (import.module(), import.name());
        let wanted = match import.ty() {
            ExternType::Func(wanted) => signature(&wanted),
            other => {
                let kind = kind(&other);
                let (from, name) = (shortened(from), shortened(name));
                return Err(format!(
                    "it imports the {kind} `{from}.{name}`; only functions can be imported"
                ));
            }
        };
        match known.get(&(from.to_owned(), name.to_owned())) {
            Some(given) if *given == wanted => needs_memory = true,
            Some(given) => {
                return Err(format!(
                    "it imports `{from}.{name}` with the type {wanted}, and the server has it with {given}"
                ));
            }
            None => return Err(unknown_import(from, name, known)),
        }
    }
    let has_memory = module
        .exports()
        .any(|export| export.name() == "memory" && matches!(export.ty(), ExternType::Memory(_)));
    if needs_memory && !has_memory {
        return Err("it does not export its memory under the name `memory`".to_owned());
    }
    Ok(())
}

/// Every function of a linker, with its type. `store` is only looked into.
pub(super) fn signatures<S: Snapshot>(
    linker: &Linker<HostState<S>>,
    store: &mut wasmtime::Store<HostState<S>>,
) -> Signatures {
    let functions: Vec<_> = linker
        .iter(&mut *store)
        .filter_map(|(from, name, item)| {
            Some(((from.to_owned(), name.to_owned()), item.into_func()?))
        })
        .collect();
    let typed = functions
        .into_iter()
        .map(|(name, function)| (name, signature(&function.ty(&*store))));
    typed.collect()
}

/// A function's type, as messages show it.
fn signature(function: &FuncType) -> String {
    let list = |types: Vec<String>| types.join(", ");
    let parameters = list(function.params().map(|it| it.to_string()).collect());
    let mut results: Vec<String> = function.results().map(|it| it.to_string()).collect();
    match results.pop() {
        Some(only) if results.is_empty() => format!("({parameters}) -> {only}"),
        Some(last) => {
            results.push(last);
            format!("({parameters}) -> ({})", list(results))
        }
        None => format!("({parameters}) -> ()"),
    }
}

fn unknown_import(from: &str, name: &str, known: &Signatures) -> String {
    let (from, name) = (&shortened(from), &shortened(name));
    let nearest = known
        .keys()
        .map(|(module, function)| {
            let distance = strsim::damerau_levenshtein(name, function)
                + 2 * strsim::damerau_levenshtein(from, module);
            (distance, module, function)
        })
        .min();
    match nearest {
        Some((_, module, function)) => format!(
            "it imports `{from}.{name}`, which this server does not have; the nearest is `{module}.{function}`"
        ),
        None => format!("it imports `{from}.{name}`, which this server does not have"),
    }
}

/// A name as messages show it: names in a module may be long, and hold anything.
pub(super) fn shortened(name: &str) -> String {
    const MAX_CHARACTERS: usize = 128;
    let mut characters = name.chars();
    let mut shown: String = characters
        .by_ref()
        .take(MAX_CHARACTERS)
        .flat_map(shown_character)
        .collect();
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}

fn shown_character(character: char) -> Vec<char> {
    match character.is_control() {
        true => character.escape_default().collect(),
        false => vec![character],
    }
}

/// The bytes that an instance's memory begins with.
fn initial_memory_bytes(module: &wasmtime::Module) -> u64 {
    let pages = module.resources_required().max_initial_memory_size;
    pages.unwrap_or(0).saturating_mul(PAGE_BYTES)
}

fn large_memory(module: &wasmtime::Module) -> Option<LargeMemory> {
    let bytes = initial_memory_bytes(module);
    let ready_bytes = KEPT_MEMORY_BYTES as u64;
    (bytes > ready_bytes).then_some(LargeMemory { bytes, ready_bytes })
}

fn check_sizes(module: &wasmtime::Module, limits: &CallLimits) -> Result<(), String> {
    let needs = module.resources_required();
    let bytes = initial_memory_bytes(module);
    if bytes > limits.memory_bytes as u64 {
        let limit = limits.memory_bytes;
        return Err(format!(
            "it begins with a memory of {bytes} bytes, which exceeds its limit of {limit}; ask for more memory at the push, or link it with a smaller stack"
        ));
    }
    let elements = needs.max_initial_table_size.unwrap_or(0);
    if elements > limits.table_elements as u64 {
        let limit = limits.table_elements;
        return Err(format!(
            "it begins with a table of {elements} elements, which exceeds its limit of {limit}"
        ));
    }
    if needs.num_tables > 1 {
        let tables = needs.num_tables;
        return Err(format!(
            "it has {tables} tables, which exceeds the limit of 1"
        ));
    }
    Ok(())
}

fn kind(found: &ExternType) -> &'static str {
    match found {
        ExternType::Memory(_) => "memory",
        ExternType::Table(_) => "table",
        ExternType::Global(_) => "global",
        ExternType::Func(_) => "function",
        ExternType::Tag(_) => "tag",
    }
}

pub(super) fn first_lines(error: &wasmtime::Error) -> String {
    let chain: Vec<String> = error
        .chain()
        .map(|error| error.to_string().replace('\n', " "))
        .collect();
    let mut text = chain.join(": ");
    if text.len() > 500 {
        let cut = (0..=500)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        text.truncate(cut);
    }
    text
}
