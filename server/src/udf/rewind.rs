//! Instances that are set back to what they were when they were made, so that a call that is to have a fresh one
//! need not wait until one is made.
//!
//! ```text
//!   what a call may change          how it is set back
//!   memory                          written anew out of an image; not where it has grown
//!   mutable globals                 set to their first values, by exports that were added
//!   tables, segments it dropped     not at all: a module with an instruction for that was not prepared
//! ```
//!
//! Where code runs to make an instance, such as what computes where data lies, it takes fuel, which one that is rewound would
//! not take: no image is taken of it, and it is made anew each time.
//!
//! What the host's functions know is in the call, and ends with it.

use std::sync::OnceLock;

use wasmtime::{Global, Instance, Memory, ModuleExport, Store, Val};

use super::guest::HostState;
use super::prepare::{is_added, mark};
use super::zeros::is_zero;
use crate::store::Snapshot;

/// What memory is compared and copied by, in bytes. It divides the pages of Wasm.
const BLOCK_BYTES: usize = 4_096;

/// How the instances of a module are rewound.
pub(super) struct Rewind {
    globals: Vec<ModuleExport>,
    /// What the tables hold.
    table_elements: usize,
    /// Taken of the first instance that is made.
    first: OnceLock<Image>,
}

/// An instance as it was when it was made, before any of its code ran.
struct Image {
    memory_bytes: usize,
    /// The memory's blocks, in order; `None` for one of zeros.
    blocks: Vec<Option<Box<[u8]>>>,
    globals: Vec<Val>,
}

/// What of an instance is rewound beside its memory.
#[derive(Default)]
pub(super) struct Globals(Vec<Global>);

impl Rewind {
    /// For a compiled module, if its instances can be rewound.
    pub(super) fn of(module: &wasmtime::Module) -> Option<Self> {
        let names = || module.exports().map(|export| export.name());
        let count = names().find_map(mark)?;
        let globals = names().filter(|name| is_added(name) && mark(name).is_none());
        let elements = module.resources_required().max_initial_table_size;
        let rewind = Self {
            globals: globals
                .filter_map(|name| module.get_export_index(name))
                .collect(),
            table_elements: usize::try_from(elements.unwrap_or(0)).unwrap_or(usize::MAX),
            first: OnceLock::new(),
        };
        (rewind.globals.len() == count).then_some(rewind)
    }

    /// What an instance's tables take, which no call changes.
    pub(super) fn table_elements(&self) -> usize {
        self.table_elements
    }

    /// Looks at an instance that was just made, and of whose code nothing has run.
    pub(super) fn look<S: Snapshot>(
        &self,
        store: &mut Store<HostState<S>>,
        instance: &Instance,
        memory: Option<Memory>,
    ) -> Globals {
        let globals = self.globals.iter().filter_map(|export| {
            let found = instance.get_module_export(&mut *store, export)?;
            found.into_global()
        });
        let globals = Globals(globals.collect());
        self.first
            .get_or_init(|| Image::of(store, memory, &globals));
        globals
    }

    /// Sets an instance back, if that can be done.
    pub(super) fn set_back<S: Snapshot>(
        &self,
        store: &mut Store<HostState<S>>,
        memory: Option<Memory>,
        globals: &Globals,
    ) -> bool {
        let first = self.first.get();
        first.is_some_and(|first| first.restore(store, memory, globals))
    }
}

impl Image {
    fn of<S: Snapshot>(
        store: &mut Store<HostState<S>>,
        memory: Option<Memory>,
        globals: &Globals,
    ) -> Self {
        let Globals(globals) = globals;
        let values = globals.iter().map(|global| global.get(&mut *store));
        let globals = values.collect();
        let memory = memory.map_or(&[][..], |memory| memory.data(&*store));
        let blocks = memory.chunks(BLOCK_BYTES);
        Self {
            memory_bytes: memory.len(),
            blocks: blocks
                .map(|block| (!is_zero(block)).then(|| block.into()))
                .collect(),
            globals,
        }
    }

    fn restore<S: Snapshot>(
        &self,
        store: &mut Store<HostState<S>>,
        memory: Option<Memory>,
        globals: &Globals,
    ) -> bool {
        let Globals(globals) = globals;
        let memory_bytes = memory.map_or(0, |memory| memory.data_size(&*store));
        if globals.len() != self.globals.len() || memory_bytes != self.memory_bytes {
            return false;
        }
        for (global, value) in globals.iter().zip(&self.globals) {
            if global.set(&mut *store, *value).is_err() {
                return false;
            }
        }
        let memory = memory.map_or(&mut [][..], |memory| memory.data_mut(&mut *store));

        for (block, first) in memory.chunks_mut(BLOCK_BYTES).zip(&self.blocks) {
            match first {
                Some(first) => block.copy_from_slice(first),
                // Most of a memory is never touched: to read that costs less than to write it.
                None if is_zero(block) => {}
                None => block.fill(0),
            }
        }
        true
    }
}
