//! WASI preview 1, as far as ordinary Rust and Go builds need it to load.
//!
//! Clocks tell the transaction's time, at 1 ms; the standard streams go to the module's log; random
//! bytes come from the call's generator. There are no arguments, no environment, no files and no
//! sockets: what asks for them is answered `EBADF` or `ENOSYS`. Waiting returns at once and moves the
//! call's monotonic clock on.

use wasmtime::{Caller, Linker};

use super::guest::{Guest, HostState, enter};
use super::price;
use crate::function::Stop;
use crate::store::Snapshot;

const MODULE: &str = "wasi_snapshot_preview1";

const SUCCESS: i32 = 0;
const EBADF: i32 = 8;
const EINVAL: i32 = 28;
const ENOSYS: i32 = 52;
const ESPIPE: i32 = 70;

const CLOCK_REALTIME: i32 = 0;
const CLOCK_THREAD_CPU: i32 = 3;
const NANOS_PER_MILLI: u64 = 1_000_000;

/// The most buffers of one write, and the most subscriptions of one wait.
const MAX_VECTORS: u32 = 1024;

const SUBSCRIPTION_BYTES: u32 = 48;
const EVENT_BYTES: u32 = 32;

macro_rules! wasi {
    ($linker:ident, $name:literal, $price:expr, ($($arg:ident: $ty:ty),*), $body:expr) => {
        $linker.func_wrap(
            MODULE,
            $name,
            |mut caller: Caller<'_, HostState<S>>, $($arg: $ty),*| -> wasmtime::Result<i32> {
                enter(&mut caller, $name, $price, |guest| {
                    let body: fn(&mut Guest<'_, S>, $($ty),*) -> Result<i32, Stop> = $body;
                    body(guest, $($arg),*)
                })
            },
        )?;
    };
}

/// Functions that answer one number, whatever they are asked.
macro_rules! refuse {
    ($linker:ident, $errno:expr, $($name:literal ($($ty:ty),*))*) => {
        $(refuse!(@one $linker, $errno, $name, ($($ty),*));)*
    };
    (@one $linker:ident, $errno:expr, $name:literal, ($($ty:ty),*)) => {
        $linker.func_wrap(
            MODULE,
            $name,
            |mut caller: Caller<'_, HostState<S>>, $(_: $ty),*| -> wasmtime::Result<i32> {
                enter(&mut caller, $name, price::LOOK, |_| Ok($errno))
            },
        )?;
    };
}

pub(super) fn link<S: Snapshot>(linker: &mut Linker<HostState<S>>) -> wasmtime::Result<()> {
    link_process(linker)?;
    link_clocks(linker)?;
    link_streams(linker)?;
    link_absent(linker)
}

fn link_process<S: Snapshot>(linker: &mut Linker<HostState<S>>) -> wasmtime::Result<()> {
    wasi!(linker, "args_get", price::LOOK, (_argv: u32, _buf: u32), |_, _, _| Ok(SUCCESS));
    wasi!(linker, "environ_get", price::LOOK, (_environ: u32, _buf: u32), |_, _, _| Ok(SUCCESS));
    wasi!(linker, "args_sizes_get", price::LOOK, (count: u32, bytes: u32), no_strings);
    wasi!(linker, "environ_sizes_get", price::LOOK, (count: u32, bytes: u32), no_strings);
    wasi!(linker, "sched_yield", price::LOOK, (), |_| Ok(SUCCESS));
    wasi!(linker, "random_get", price::RANDOM, (ptr: u32, len: u32), |guest, ptr, len| {
        guest.fill_random(ptr, len).map(|()| SUCCESS)
    });
    linker.func_wrap(
        MODULE,
        "proc_exit",
        |mut caller: Caller<'_, HostState<S>>, code: i32| -> wasmtime::Result<()> {
            enter(&mut caller, "proc_exit", price::LOOK, |_| {
                Err(Stop::trap(format!(
                    "the guest ended itself with the code {code}"
                )))
            })
        },
    )?;
    refuse!(linker, ENOSYS, "proc_raise"(i32));
    Ok(())
}

fn no_strings<S: Snapshot>(guest: &mut Guest<'_, S>, count: u32, bytes: u32) -> Result<i32, Stop> {
    guest.write(count, &0_u32.to_le_bytes())?;
    guest.write(bytes, &0_u32.to_le_bytes())?;
    Ok(SUCCESS)
}

fn link_clocks<S: Snapshot>(linker: &mut Linker<HostState<S>>) -> wasmtime::Result<()> {
    wasi!(linker, "clock_res_get", price::LOOK, (clock: i32, out: u32), |guest, clock, out| {
        if !(CLOCK_REALTIME..=CLOCK_THREAD_CPU).contains(&clock) {
            return Ok(EINVAL);
        }
        guest.write(out, &NANOS_PER_MILLI.to_le_bytes())?;
        Ok(SUCCESS)
    });
    wasi!(linker, "clock_time_get", price::LOOK, (clock: i32, _precision: i64, out: u32),
    |guest, clock, _, out| {
        if !(CLOCK_REALTIME..=CLOCK_THREAD_CPU).contains(&clock) {
            return Ok(EINVAL);
        }
        let waited_ns = if clock == CLOCK_REALTIME { 0 } else { guest.call.waited_ns };
        let now_ns = guest.call.now_ms().saturating_mul(NANOS_PER_MILLI).saturating_add(waited_ns);
        guest.write(out, &now_ns.to_le_bytes())?;
        Ok(SUCCESS)
    });
    wasi!(linker, "poll_oneoff", price::LOOK, (subscriptions: u32, events: u32, count: u32, out: u32),
        poll_oneoff);
    Ok(())
}

/// Every subscription is answered at once. The monotonic clock moves on to the earliest of those
/// that wait for a clock.
fn poll_oneoff<S: Snapshot>(
    guest: &mut Guest<'_, S>,
    subscriptions: u32,
    events: u32,
    count: u32,
    out: u32,
) -> Result<i32, Stop> {
    if count == 0 || count > MAX_VECTORS {
        return Ok(EINVAL);
    }
    let records = guest.read(subscriptions, count * SUBSCRIPTION_BYTES)?;
    let mut answers = Vec::with_capacity((count * EVENT_BYTES) as usize);
    let mut earliest_ns: Option<u64> = None;
    let now_ns = guest.call.now_ms().saturating_mul(NANOS_PER_MILLI);
    for record in records.chunks_exact(SUBSCRIPTION_BYTES as usize) {
        let number = |at: usize| -> u64 {
            let bytes = record
                .get(at..at + 8)
                .and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u64::from_le_bytes)
        };
        let kind = record.get(8).copied().unwrap_or(0);
        if kind == 0 {
            let is_absolute = number(40) & 1 == 1;
            let base_ns = now_ns.saturating_add(guest.call.waited_ns);
            let wait_ns = if is_absolute {
                number(24).saturating_sub(base_ns)
            } else {
                number(24)
            };
            earliest_ns = Some(earliest_ns.map_or(wait_ns, |other| other.min(wait_ns)));
        }
        answers.extend_from_slice(&number(0).to_le_bytes());
        answers.extend_from_slice(&[0, 0, kind]);
        answers.resize(answers.len() + EVENT_BYTES as usize - 11, 0);
    }
    let waited_ns = guest
        .call
        .waited_ns
        .saturating_add(earliest_ns.unwrap_or(0));
    guest.call.waited_ns = waited_ns;
    guest.write(events, &answers)?;
    guest.write(out, &count.to_le_bytes())?;
    Ok(SUCCESS)
}

fn link_streams<S: Snapshot>(linker: &mut Linker<HostState<S>>) -> wasmtime::Result<()> {
    wasi!(linker, "fd_write", price::LOG, (fd: i32, vectors: u32, count: u32, out: u32), fd_write);
    wasi!(linker, "fd_read", price::LOOK, (fd: i32, _vectors: u32, _count: u32, out: u32),
    |guest, fd, _, _, out| {
        if fd != 0 {
            return Ok(EBADF);
        }
        guest.write(out, &0_u32.to_le_bytes())?;
        Ok(SUCCESS)
    });
    wasi!(linker, "fd_fdstat_get", price::LOOK, (fd: i32, out: u32), |guest, fd, out| {
        if !(0..=2).contains(&fd) {
            return Ok(EBADF);
        }
        // A character device, with every right.
        let mut record = [0_u8; 24];
        record[0] = 2;
        record[8..].fill(0xff);
        guest.write(out, &record)?;
        Ok(SUCCESS)
    });
    wasi!(linker, "fd_fdstat_set_flags", price::LOOK, (fd: i32, _flags: i32), |_, fd, _| Ok(standard(fd)));
    wasi!(linker, "fd_close", price::LOOK, (fd: i32), |_, fd| Ok(standard(fd)));
    wasi!(linker, "fd_seek", price::LOOK, (fd: i32, _offset: i64, _whence: i32, _out: u32),
    |_, fd, _, _, _| Ok(if standard(fd) == SUCCESS { ESPIPE } else { EBADF }));
    Ok(())
}

fn standard(fd: i32) -> i32 {
    if (0..=2).contains(&fd) {
        SUCCESS
    } else {
        EBADF
    }
}

fn fd_write<S: Snapshot>(
    guest: &mut Guest<'_, S>,
    fd: i32,
    vectors: u32,
    count: u32,
    out: u32,
) -> Result<i32, Stop> {
    let level = match fd {
        1 => 2,
        2 => 3,
        _ => return Ok(EBADF),
    };
    if count > MAX_VECTORS {
        return Ok(EINVAL);
    }
    let table = guest.read(vectors, count * 8)?;
    let mut written: u32 = 0;
    for vector in table.chunks_exact(8) {
        let number = |at: usize| -> u32 {
            let bytes = vector
                .get(at..at + 4)
                .and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u32::from_le_bytes)
        };
        let (bytes, call) = guest.slice_and_call(number(0), number(4))?;
        written = written.saturating_add(number(4));
        call.log_stream(level, bytes);
    }
    guest.write(out, &written.to_le_bytes())?;
    Ok(SUCCESS)
}

/// Files, folders and sockets: there are none.
fn link_absent<S: Snapshot>(linker: &mut Linker<HostState<S>>) -> wasmtime::Result<()> {
    refuse!(linker, EBADF,
        "fd_advise"(i32, i64, i64, i32)
        "fd_allocate"(i32, i64, i64)
        "fd_datasync"(i32)
        "fd_fdstat_set_rights"(i32, i64, i64)
        "fd_filestat_get"(i32, i32)
        "fd_filestat_set_size"(i32, i64)
        "fd_filestat_set_times"(i32, i64, i64, i32)
        "fd_pread"(i32, i32, i32, i64, i32)
        "fd_prestat_get"(i32, i32)
        "fd_prestat_dir_name"(i32, i32, i32)
        "fd_pwrite"(i32, i32, i32, i64, i32)
        "fd_readdir"(i32, i32, i32, i64, i32)
        "fd_renumber"(i32, i32)
        "fd_sync"(i32)
        "fd_tell"(i32, i32)
    );
    refuse!(linker, ENOSYS,
        "path_create_directory"(i32, i32, i32)
        "path_filestat_get"(i32, i32, i32, i32, i32)
        "path_filestat_set_times"(i32, i32, i32, i32, i64, i64, i32)
        "path_link"(i32, i32, i32, i32, i32, i32, i32)
        "path_open"(i32, i32, i32, i32, i32, i64, i64, i32, i32)
        "path_readlink"(i32, i32, i32, i32, i32, i32)
        "path_remove_directory"(i32, i32, i32)
        "path_rename"(i32, i32, i32, i32, i32, i32)
        "path_symlink"(i32, i32, i32, i32, i32)
        "path_unlink_file"(i32, i32, i32)
        "sock_accept"(i32, i32, i32)
        "sock_recv"(i32, i32, i32, i32, i32, i32)
        "sock_send"(i32, i32, i32, i32, i32)
        "sock_shutdown"(i32, i32)
    );
    Ok(())
}
