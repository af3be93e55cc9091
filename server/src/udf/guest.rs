//! The one wrapper that every host function passes through.
//!
//! It takes the price, finds the guest's memory and the call, runs the function's body, takes the
//! price of what was copied, and turns a stop into the error that ends the guest.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use luge_protocol::ErrorCode;
use wasmtime::{AsContextMut, Caller, Extern, Memory};

use super::limiter::Limiter;
use super::meter::Meter;
use super::price;
use crate::function::{Call, Stop};
use crate::store::Snapshot;

/// What an instance's `wasmtime::Store` carries.
pub(super) struct HostState<S: Snapshot> {
    /// The call under way.
    pub(super) call: Option<Box<Call<S>>>,
    pub(super) meter: Arc<Meter>,
    pub(super) limiter: Limiter,
    /// The guest's memory, once the instance is made.
    pub(super) memory: Option<Memory>,
}

impl<S: Snapshot> HostState<S> {
    /// The state of a store that runs nothing.
    pub(super) fn idle() -> Self {
        let limiter = Limiter {
            memory_bytes: 0,
            table_elements: 0,
            refused: None,
        };
        Self {
            call: None,
            meter: Meter::idle(),
            limiter,
            memory: None,
        }
    }
}

/// Why the host ended a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostStop {
    /// The host function, empty for the meter.
    pub(super) function: &'static str,
    pub(super) stop: Stop,
}

/// What a host function's body works on.
pub(super) struct Guest<'a, S: Snapshot> {
    /// The guest's memory, none of which may be trusted to stay as it is.
    memory: &'a mut [u8],
    pub(super) call: &'a mut Call<S>,
    pub(super) meter: &'a Meter,
    /// What is to be paid on top of the base.
    fuel: u64,
}

/// Runs the body of the host function `name`, whose base price is `base`.
pub(super) fn enter<S: Snapshot, R>(
    caller: &mut Caller<'_, HostState<S>>,
    name: &'static str,
    base: u64,
    body: impl FnOnce(&mut Guest<'_, S>) -> Result<R, Stop>,
) -> wasmtime::Result<R> {
    let ended = |stop| {
        wasmtime::Error::new(HostStop {
            function: name,
            stop,
        })
    };
    charge(caller, base)?;
    let memory = match caller.data().memory {
        Some(memory) => Some(memory),
        // Before the instance is made, that is in the start section, nobody has looked yet.
        None => caller.get_export("memory").and_then(Extern::into_memory),
    };
    let (memory, state) = match memory {
        Some(memory) => memory.data_and_store_mut(caller.as_context_mut()),
        None => (&mut [][..], caller.data_mut()),
    };
    let Some(call) = state.call.as_mut() else {
        let message = "a host function ran outside of a call".to_owned();
        return Err(ended(Stop::Failed(ErrorCode::Internal, message)));
    };
    let mut guest = Guest {
        memory,
        call,
        meter: &state.meter,
        fuel: 0,
    };
    let result = body(&mut guest).map_err(ended)?;
    let fuel = guest.fuel;
    charge(caller, fuel)?;
    Ok(result)
}

fn charge<S: Snapshot>(caller: &mut Caller<'_, HostState<S>>, price: u64) -> wasmtime::Result<()> {
    if price == 0 {
        return Ok(());
    }
    match caller.get_fuel()?.checked_sub(price) {
        Some(left) => caller.set_fuel(left),
        None => {
            caller.set_fuel(0)?;
            Err(wasmtime::Trap::OutOfFuel.into())
        }
    }
}

impl<S: Snapshot> Guest<'_, S> {
    /// A copy of `ptr[..len]`.
    pub(super) fn read(&mut self, ptr: u32, len: u32) -> Result<Vec<u8>, Stop> {
        self.slice(ptr, len).map(<[u8]>::to_vec)
    }

    /// `ptr[..len]`, together with the call.
    pub(super) fn slice_and_call(
        &mut self,
        ptr: u32,
        len: u32,
    ) -> Result<(&[u8], &mut Call<S>), Stop> {
        self.pay_copy(len as usize);
        let range = range(self.memory, ptr, len)?;
        let slice = self.memory.get(range).unwrap_or_default();
        Ok((slice, self.call))
    }

    /// `ptr[..len]`.
    pub(super) fn slice(&mut self, ptr: u32, len: u32) -> Result<&[u8], Stop> {
        self.slice_and_call(ptr, len).map(|(slice, _)| slice)
    }

    /// `ptr[..len]`, to be filled and paid by as much as is.
    pub(super) fn place(&mut self, ptr: u32, len: u32) -> Result<(&mut [u8], &mut Call<S>), Stop> {
        let range = range(self.memory, ptr, len)?;
        let slice = self.memory.get_mut(range).unwrap_or_default();
        Ok((slice, self.call))
    }

    /// Fills `ptr[..len]` with random bytes, with a look at the meter now and then: the range may be
    /// as large as the memory.
    pub(super) fn fill_random(&mut self, ptr: u32, len: u32) -> Result<(), Stop> {
        const CHUNK_BYTES: usize = 64 << 10;
        self.pay_copy(len as usize);
        let range = range(self.memory, ptr, len)?;
        for chunk in self
            .memory
            .get_mut(range)
            .unwrap_or_default()
            .chunks_mut(CHUNK_BYTES)
        {
            self.meter.check()?;
            self.call.random_fill(chunk);
        }
        Ok(())
    }

    /// Writes `bytes` at `ptr`.
    pub(super) fn write(&mut self, ptr: u32, bytes: &[u8]) -> Result<(), Stop> {
        let len = u32::try_from(bytes.len()).map_err(|_| Stop::trap("4 GiB at once"))?;
        self.pay_copy(bytes.len());
        self.place(ptr, len)?.0.copy_from_slice(bytes);
        Ok(())
    }

    /// Copies `min(cap, length - off)` bytes from offset `off` of `value` to `buf`, and returns the
    /// whole length; -1 for absent. The whole of `buf[..cap]` must lie in memory.
    pub(super) fn copy_out(
        &mut self,
        value: Option<&[u8]>,
        off: u32,
        buf: u32,
        cap: u32,
    ) -> Result<i64, Stop> {
        range(self.memory, buf, cap)?;
        let Some(value) = value else { return Ok(-1) };
        let rest = value.get(off as usize..).unwrap_or_default();
        let copied = rest.get(..cap as usize).unwrap_or(rest);
        self.write(buf, copied)?;
        Ok(i64::try_from(value.len()).unwrap_or(i64::MAX))
    }

    /// Refuses a range that does not lie in memory, before anything is done.
    pub(super) fn check_range(&self, ptr: u32, len: u32) -> Result<(), Stop> {
        range(self.memory, ptr, len).map(drop)
    }

    /// Adds to the price.
    pub(super) fn pay(&mut self, fuel: u64) {
        self.fuel = self.fuel.saturating_add(fuel);
    }

    /// The price of a copy.
    pub(super) fn pay_copy(&mut self, bytes: usize) {
        self.pay(bytes as u64 / price::BYTES_PER_UNIT);
    }
}

fn range(memory: &[u8], ptr: u32, len: u32) -> Result<std::ops::Range<usize>, Stop> {
    let start = ptr as usize;
    let end = start + len as usize;
    if end > memory.len() {
        let size = memory.len();
        return Err(Stop::trap(format!(
            "the range of {len} bytes at {ptr} reaches beyond the memory of {size} bytes"
        )));
    }
    Ok(start..end)
}

/// Runs what a local store has ready at once.
pub(super) fn in_place<T>(future: impl Future<Output = Result<T, Stop>>) -> Result<T, Stop> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => {
            let message = "a local store was not ready at once".to_owned();
            Err(Stop::Failed(ErrorCode::Internal, message))
        }
    }
}

impl std::fmt::Display for HostStop {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Stop::Trap(reason) | Stop::Failed(_, reason)) = &self.stop;
        match self.function {
            "" => formatter.write_str(reason),
            function => write!(formatter, "{function}: {reason}"),
        }
    }
}

impl std::error::Error for HostStop {}
