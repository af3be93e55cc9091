//! The host functions of the guest ABI, version 1: import module `luge_v1`.
//!
//! Each reads guest memory with checks, asks the call, and writes the result. What it means is in
//! `udfs/ABI.md` and in [`Call`](crate::function::Call); here is only the way to and from memory.

use bytes::BufMut;
use wasmtime::{Caller, Engine, Linker};

use super::guest::{Guest, HostState, enter, in_place};
use super::{price, wasi};
use crate::function::{ScanStep, Stop, time_to_live};
use crate::store::Snapshot;
use crate::transaction::Live;

/// The name of the import module; the ABI's version is in it.
pub(super) const MODULE: &str = "luge_v1";

/// Defines a host function: its name, its price, its parameters, its result, and its body.
macro_rules! host {
    ($linker:ident, $name:literal, $price:expr, ($($arg:ident: $ty:ty),*) $(-> $result:ty)?, $body:expr) => {
        $linker.func_wrap(
            MODULE,
            $name,
            |mut caller: Caller<'_, HostState<S>>, $($arg: $ty),*| -> wasmtime::Result<host!(@result $($result)?)> {
                enter(&mut caller, $name, $price, |guest| {
                    let body: fn(&mut Guest<'_, S>, $($ty),*) -> Result<host!(@result $($result)?), Stop> = $body;
                    body(guest, $($arg),*)
                })
            },
        )?;
    };
    (@result) => { () };
    (@result $result:ty) => { $result };
}

/// Everything that a guest may import.
pub(super) fn linker<S: Snapshot>(engine: &Engine) -> wasmtime::Result<Linker<HostState<S>>> {
    let mut linker = Linker::new(engine);
    link_input_and_output(&mut linker)?;
    link_keys(&mut linker)?;
    link_scans(&mut linker)?;
    link_surroundings(&mut linker)?;
    link_request(&mut linker)?;
    link_response(&mut linker)?;
    link_abort(&mut linker)?;
    wasi::link(&mut linker)?;
    Ok(linker)
}

fn link_input_and_output<S: Snapshot>(linker: &mut Linker<HostState<S>>) -> wasmtime::Result<()> {
    host!(linker, "input", price::LOOK, (off: u32, buf: u32, cap: u32) -> i64, |guest, off, buf, cap| {
        let input = guest.call.input()?;
        guest.copy_out(Some(&input), off, buf, cap)
    });
    host!(linker, "output_write", price::OUTPUT, (ptr: u32, len: u32), |guest, ptr, len| {
        let (bytes, call) = guest.slice_and_call(ptr, len)?;
        call.output_write(bytes)
    });
    Ok(())
}

fn link_keys<S: Snapshot>(linker: &mut Linker<HostState<S>>) -> wasmtime::Result<()> {
    host!(linker, "kv_get", price::READ, (key: u32, key_len: u32, off: u32, buf: u32, cap: u32) -> i64,
    |guest, key, key_len, off, buf, cap| {
        let found = look_up(guest, key, key_len)?;
        guest.copy_out(found.as_ref().map(|live| &live.value[..]), off, buf, cap)
    });
    host!(linker, "kv_set", price::WRITE, (key: u32, key_len: u32, val: u32, val_len: u32, ttl_ms: i64),
    |guest, key, key_len, val, val_len, ttl_ms| {
        let key = guest.read(key, key_len)?;
        let (value, call) = guest.slice_and_call(val, val_len)?;
        in_place(call.kv_set(&key, value, ttl_ms))
    });
    host!(linker, "kv_delete", price::READ_AND_WRITE, (key: u32, key_len: u32) -> i32, |guest, key, key_len| {
        let (key, call) = guest.slice_and_call(key, key_len)?;
        in_place(call.kv_delete(key)).map(i32::from)
    });
    host!(linker, "kv_incr", price::READ_AND_WRITE, (key: u32, key_len: u32, delta: i64, out: u32) -> i32,
    |guest, key, key_len, delta, out| {
        guest.check_range(out, 8)?;
        let (key, call) = guest.slice_and_call(key, key_len)?;
        match in_place(call.kv_incr(key, delta))? {
            Some(sum) => guest.write(out, &sum.to_le_bytes()).map(|()| 0),
            None => Ok(1),
        }
    });
    host!(linker, "kv_ttl", price::READ, (key: u32, key_len: u32) -> i64, |guest, key, key_len| {
        let found = look_up(guest, key, key_len)?;
        Ok(found.map_or(-1, |live| live.ttl_ms.map_or(0, to_i64)))
    });
    host!(linker, "kv_version", price::READ, (key: u32, key_len: u32) -> i64, |guest, key, key_len| {
        let found = look_up(guest, key, key_len)?;
        Ok(found.map_or(0, |live| live.version.map_or(-1, to_i64)))
    });
    Ok(())
}

fn look_up<S: Snapshot>(
    guest: &mut Guest<'_, S>,
    key: u32,
    key_len: u32,
) -> Result<Option<Live>, Stop> {
    let (key, call) = guest.slice_and_call(key, key_len)?;
    in_place(call.kv_get(key))
}

fn link_scans<S: Snapshot>(linker: &mut Linker<HostState<S>>) -> wasmtime::Result<()> {
    host!(linker, "kv_scan", price::SCAN_OPEN,
    (start: u32, start_len: u32, end: u32, end_len: u32, limit: u32, flags: u32) -> u32,
    |guest, start, start_len, end, end_len, limit, flags| {
        let end = guest.read(end, end_len)?;
        let (start, call) = guest.slice_and_call(start, start_len)?;
        call.kv_scan(start, &end, limit, flags)
    });
    // Its price is taken step by step, inside.
    host!(linker, "kv_scan_next", 0, (handle: u32, buf: u32, cap: u32) -> i64, scan_next);
    host!(linker, "kv_scan_close", price::SCAN_OPEN, (handle: u32), |guest, handle| {
        guest.call.kv_scan_close(handle)
    });
    Ok(())
}

/// Whole entries, as many as fit into `buf[..cap]`. A stretch of keys that are gone takes several
/// steps, with a look at the meter before each.
fn scan_next<S: Snapshot>(
    guest: &mut Guest<'_, S>,
    handle: u32,
    buf: u32,
    cap: u32,
) -> Result<i64, Stop> {
    loop {
        guest.meter.check()?;
        guest.pay(price::SCAN_STEP);
        let (mut place, call) = guest.place(buf, cap)?;
        let mut needed = None;
        let take = |key: &[u8], value: &[u8]| {
            let bytes = 8 + key.len() + value.len();
            if bytes > place.len() {
                needed = Some(bytes);
                return false;
            }
            place.put_u32_le(length(key));
            place.put_u32_le(length(value));
            place.put_slice(key);
            place.put_slice(value);
            true
        };
        let step = in_place(call.kv_scan_step(handle, cap as usize, take))?;
        let left = place.len();
        match (step, needed) {
            (ScanStep::End, _) => return Ok(0),
            (ScanStep::Taken(0), Some(needed)) => {
                return Ok(-i64::try_from(needed).unwrap_or(i64::MAX));
            }
            (ScanStep::Taken(0), None) => {}
            (ScanStep::Taken(count), _) => {
                let bytes = cap as usize - left;
                guest.pay(price::SCAN_ENTRY.saturating_mul(count));
                guest.pay_copy(bytes);
                return Ok(i64::try_from(bytes).unwrap_or(i64::MAX));
            }
        }
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

fn link_surroundings<S: Snapshot>(linker: &mut Linker<HostState<S>>) -> wasmtime::Result<()> {
    host!(linker, "now_ms", price::LOOK, () -> i64, |guest| Ok(to_i64(guest.call.now_ms())));
    host!(linker, "random_fill", price::RANDOM, (ptr: u32, len: u32), |guest, ptr, len| {
        guest.fill_random(ptr, len)
    });
    host!(linker, "log", price::LOG, (level: u32, ptr: u32, len: u32), |guest, level, ptr, len| {
        let (text, call) = guest.slice_and_call(ptr, len)?;
        call.log(level, text)
    });
    host!(linker, "config_get", price::LOOK,
    (key: u32, key_len: u32, off: u32, buf: u32, cap: u32) -> i64,
    |guest, key, key_len, off, buf, cap| {
        let (key, call) = guest.slice_and_call(key, key_len)?;
        let key = std::str::from_utf8(key).ok();
        let value = key.and_then(|key| call.module().config.get(key)).cloned();
        guest.copy_out(value.as_deref().map(str::as_bytes), off, buf, cap)
    });
    host!(linker, "context", price::LOOK, (field: u32, off: u32, buf: u32, cap: u32) -> i64,
    |guest, field, off, buf, cap| {
        let text = guest.call.context(field)?;
        guest.copy_out(text.as_deref().map(str::as_bytes), off, buf, cap)
    });
    Ok(())
}

fn link_request<S: Snapshot>(linker: &mut Linker<HostState<S>>) -> wasmtime::Result<()> {
    host!(linker, "request_command", price::LOOK, () -> i32, |guest| {
        guest.call.view().map(|view| view.command as i32)
    });
    host!(linker, "request_key", price::LOOK, (off: u32, buf: u32, cap: u32) -> i64, |guest, off, buf, cap| {
        let key = guest.call.view()?.key.clone();
        guest.copy_out(Some(&key), off, buf, cap)
    });
    host!(linker, "request_value", price::LOOK, (off: u32, buf: u32, cap: u32) -> i64, |guest, off, buf, cap| {
        let value = guest.call.view()?.value.clone();
        guest.copy_out(value.as_deref(), off, buf, cap)
    });
    host!(linker, "request_previous", price::READ, (off: u32, buf: u32, cap: u32) -> i64, |guest, off, buf, cap| {
        let previous = in_place(guest.call.request_previous())?;
        guest.copy_out(previous.as_ref().map(|live| &live.value[..]), off, buf, cap)
    });
    host!(linker, "request_arg", price::LOOK, (field: u32, out: u32) -> i32, |guest, field, out| {
        guest.check_range(out, 8)?;
        match guest.call.view()?.argument(field) {
            Some(argument) => guest.write(out, &argument.to_le_bytes()).map(|()| 1),
            None => Ok(0),
        }
    });
    host!(linker, "request_set_value", price::LOOK, (ptr: u32, len: u32), |guest, ptr, len| {
        let (value, call) = guest.slice_and_call(ptr, len)?;
        call.check_value(value)?;
        call.request_mut()?.set_value(bytes::Bytes::copy_from_slice(value))
    });
    host!(linker, "request_set_ttl", price::LOOK, (ms: i64), |guest, ms| {
        guest.call.request_mut()?.set_ttl(time_to_live(ms)?)
    });
    Ok(())
}

fn link_response<S: Snapshot>(linker: &mut Linker<HostState<S>>) -> wasmtime::Result<()> {
    host!(linker, "response_status", price::LOOK, () -> i32, |guest| {
        guest.call.response().map(|view| view.status as i32)
    });
    host!(linker, "response_value", price::LOOK, (off: u32, buf: u32, cap: u32) -> i64, |guest, off, buf, cap| {
        let value = guest.call.response()?.response.clone();
        guest.copy_out(value.as_deref(), off, buf, cap)
    });
    host!(linker, "response_set_value", price::LOOK, (ptr: u32, len: u32), |guest, ptr, len| {
        let (value, call) = guest.slice_and_call(ptr, len)?;
        call.check_value(value)?;
        call.response_mut()?.set_response(bytes::Bytes::copy_from_slice(value))
    });
    Ok(())
}

/// What AssemblyScript calls when an assertion fails: a trap with its message.
fn link_abort<S: Snapshot>(linker: &mut Linker<HostState<S>>) -> wasmtime::Result<()> {
    linker.func_wrap(
        "env",
        "abort",
        |mut caller: Caller<'_, HostState<S>>, message: u32, file: u32, line: u32, column: u32| {
            enter(&mut caller, "abort", price::LOG, |guest| {
                let message = utf16(guest, message);
                let file = utf16(guest, file);
                Err::<(), _>(Stop::trap(format!("{message} at {file}:{line}:{column}")))
            })
        },
    )?;
    Ok(())
}

/// AssemblyScript's strings are UTF-16, with their length in bytes in the 4 bytes before them.
fn utf16<S: Snapshot>(guest: &mut Guest<'_, S>, ptr: u32) -> String {
    const MAX_BYTES: u32 = 1024;
    let length = match ptr.checked_sub(4).map(|at| guest.read(at, 4)) {
        Some(Ok(bytes)) => bytes.try_into().map_or(0, u32::from_le_bytes),
        _ => 0,
    };
    let bytes = guest
        .read(ptr, length.min(MAX_BYTES) & !1)
        .unwrap_or_default();
    let units = bytes.chunks_exact(2).map(|pair| match pair {
        [low, high] => u16::from_le_bytes([*low, *high]),
        _ => 0,
    });
    char::decode_utf16(units)
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
