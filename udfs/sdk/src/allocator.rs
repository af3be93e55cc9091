//! The allocator of guests: it begins in the memory that the module has from the start.
//!
//! The one of the standard library grows the memory at its first allocation, whatever is left behind the data.
//! For a fresh instance that is dear: the server has to make the new pages accessible, and to take
//! them away again behind the call. Most calls allocate a few kilobytes, for which there is room.

use core::alloc::Layout;
use core::arch::wasm32::memory_grow;
use core::ptr::NonNull;

use talc::base::Talc;
use talc::base::binning::Binning;
use talc::cell::TalcSyncCell;
use talc::source::Source;
use talc::wasm::WasmBinning;

const PAGE_BYTES: usize = 65_536;

/// What growth must have room for beside the allocation itself: the allocator's own words around it.
const OVERHEAD_BYTES: usize = 64;

#[global_allocator]
static ALLOCATOR: TalcSyncCell<Rest, WasmBinning> = TalcSyncCell::new_wasm(Rest { end: None });

/// The rest of the initial memory first, and pages behind it after that.
#[derive(Debug)]
struct Rest {
    /// The end of what was claimed last; none before the first claim.
    end: Option<NonNull<u8>>,
}

#[expect(
    unsafe_code,
    reason = "the linker defines where the data ends and the initial memory does"
)]
unsafe extern "C" {
    static __heap_base: u8;
    static __heap_end: u8;
}

// SAFETY: `acquire` allocates nothing, and holds no container that does.
#[expect(
    unsafe_code,
    reason = "what a source of memory promises can't be checked"
)]
unsafe impl Source for Rest {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        match talc.source.end {
            None => claim_initial(talc),
            Some(end) => grow(talc, end, layout),
        }
    }
}

/// The allocator asks again where this was too little.
fn claim_initial<B: Binning>(talc: &mut Talc<Rest, B>) -> Result<(), ()> {
    let (base, end) = (&raw const __heap_base, &raw const __heap_end);
    let bytes = (end as usize).saturating_sub(base as usize);
    // SAFETY: between these two the linker has put nothing, and nothing but this allocator uses it: neither the
    // stack, which lies below the data, nor what grows the memory, which gets pages behind.
    #[expect(unsafe_code, reason = "memory is handed over")]
    let claimed = unsafe { talc.claim(base.cast_mut(), bytes) };
    talc.source.end = Some(claimed.unwrap_or(NonNull::dangling()));
    Ok(())
}

fn grow<B: Binning>(talc: &mut Talc<Rest, B>, end: NonNull<u8>, layout: Layout) -> Result<(), ()> {
    let bytes = layout
        .size()
        .checked_add(layout.align() + OVERHEAD_BYTES)
        .ok_or(())?;
    let pages = bytes.div_ceil(PAGE_BYTES);
    let before = memory_grow::<0>(pages);
    if before == usize::MAX {
        return Err(());
    }
    let base = (before * PAGE_BYTES) as *mut u8;
    // The last byte of the address space is left out, so that no end wraps around.
    let bytes = (pages * PAGE_BYTES).min(usize::MAX - base as usize);
    // SAFETY: the pages are new, so nobody else has them; and `end` is what the last claim or extension answered.
    #[expect(unsafe_code, reason = "memory is handed over")]
    unsafe {
        if end.as_ptr() == base {
            talc.source.end = Some(talc.extend(end, base.wrapping_add(bytes)));
        } else {
            talc.source.end = Some(talc.claim(base, bytes).ok_or(())?);
        }
    }
    Ok(())
}
