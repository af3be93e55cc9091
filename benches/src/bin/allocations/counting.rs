//! An allocator that counts what the threads allocate that asked to be counted.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// The operating system's allocator, and a count beside it.
pub(crate) struct Counting;

/// What was asked of the allocator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// How often: memory that grows or shrinks counts like memory that is new.
    pub(crate) allocations: u64,
    /// How much; of memory that grows, what it grew by.
    pub(crate) bytes: u64,
}

impl Count {
    /// What was counted since then.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            allocations: self.allocations - before.allocations,
            bytes: self.bytes - before.bytes,
        }
    }
}

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

thread_local! {
    // Neither made at its first use nor dropped, so that the allocator may look at it at any time.
    static IS_COUNTED: Cell<bool> = const { Cell::new(false) };
}

/// What this thread allocates is counted from now on.
pub(crate) fn count_this_thread() {
    IS_COUNTED.set(true);
}

/// What was counted until now.
pub(crate) fn counted() -> Count {
    Count {
        allocations: ALLOCATIONS.load(Ordering::Relaxed),
        bytes: BYTES.load(Ordering::Relaxed),
    }
}

fn count(bytes: usize) {
    if IS_COUNTED.try_with(Cell::get).unwrap_or(false) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

// SAFETY: every call is handed to `System` as it came, whose answer is handed back as it is, so what `System`
// promises holds here. `count` adds to two numbers: it does not allocate, and it does not panic.
#[expect(
    unsafe_code,
    reason = "who counts allocations stands between a program and its allocator"
)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps what `alloc` asks for, which is the same of both.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as for `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count(bytes.saturating_sub(layout.size()));
        // SAFETY: the caller has the memory from here with this layout, so it is of `System` with this layout.
        unsafe { System.realloc(memory, layout, bytes) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as for `realloc`.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_threads_that_asked_for_it_are_counted_and_growth_by_what_it_adds() {
        let before = counted();
        drop(std::hint::black_box(vec![0_u8; 1000]));
        assert_eq!(counted(), before);
        let thread = std::thread::spawn(|| {
            count_this_thread();
            let before = counted();
            let mut bytes = std::hint::black_box(Vec::<u8>::with_capacity(100));
            bytes.reserve_exact(1000);
            counted().since(before)
        });
        let expected = Count {
            allocations: 2,
            bytes: 1000,
        };
        assert_eq!(thread.join().unwrap(), expected);
    }
}
