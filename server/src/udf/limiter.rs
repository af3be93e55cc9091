//! The limiter: answers whether a guest's memory or table may grow.

/// How often a store tries to make its instance, with a memory and a table: once more where it found no slot.
const TRIES: usize = 2;

/// The caps of one instance, and which of them was met.
pub(super) struct Limiter {
    pub(super) memory_bytes: usize,
    pub(super) table_elements: usize,
    /// What was refused to grow last: a failure after that is told as `memory_exceeded`.
    pub(super) refused: Option<Refused>,
}

/// What a limit kept from growing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Memory,
    Table,
}

impl Limiter {
    fn answer(&mut self, is_allowed: bool, what: Refused) -> bool {
        if !is_allowed {
            self.refused = Some(what);
        }
        is_allowed
    }
}

impl wasmtime::ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.answer(desired <= self.memory_bytes, Refused::Memory))
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.answer(desired <= self.table_elements, Refused::Table))
    }

    fn instances(&self) -> usize {
        TRIES
    }

    fn memories(&self) -> usize {
        TRIES
    }

    fn tables(&self) -> usize {
        TRIES
    }
}
