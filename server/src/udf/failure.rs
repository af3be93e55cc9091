//! How a guest's end is told: one match from wasmtime's errors to codes.

use luge_protocol::ErrorCode;
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};

use super::guest::HostStop;
use super::module::shortened;
use crate::function::{CallLimits, Failure, Stop};

/// The failure that an error of wasmtime stands for.
pub(super) fn failure(
    error: &wasmtime::Error,
    limits: &CallLimits,
    has_refused_memory: bool,
) -> Failure {
    let (code, message) = sort(error, limits);
    let backtrace = backtrace(error);
    // An instance that does not even begin within its limit ends without a trap.
    if matches!(code, ErrorCode::Trap | ErrorCode::Internal) && has_refused_memory {
        let limit = limits.memory_bytes;
        let message = format!(
            "the function failed after its memory met the limit of {limit} bytes: {message}"
        );
        return Failure {
            code: ErrorCode::MemoryExceeded,
            message,
            backtrace,
            log: None,
        };
    }
    Failure {
        code,
        message,
        backtrace,
        log: None,
    }
}

fn sort(error: &wasmtime::Error, limits: &CallLimits) -> (ErrorCode, String) {
    if let Some(host) = error.downcast_ref::<HostStop>() {
        let code = match &host.stop {
            Stop::Trap(_) => ErrorCode::Trap,
            Stop::Failed(code, _) => *code,
        };
        return (code, host.to_string());
    }
    if error.is::<PoolConcurrencyLimitError>() {
        let message = "every slot for instances is taken; try again later".to_owned();
        return (ErrorCode::Overloaded, message);
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => {
            let fuel = limits.fuel;
            (
                ErrorCode::FuelExhausted,
                format!("the function used up its fuel of {fuel}"),
            )
        }
        Some(Trap::StackOverflow) => (
            ErrorCode::StackOverflow,
            "the function's stack is full".to_owned(),
        ),
        Some(trap) => (ErrorCode::Trap, trap.to_string()),
        None => (ErrorCode::Internal, format!("{error:#}")),
    }
}

/// The guest's functions that were running, innermost first, by name where the module has names.
fn backtrace(error: &wasmtime::Error) -> Vec<String> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return Vec::new();
    };
    let frames = backtrace.frames().iter();
    frames
        .map(|frame| match frame.func_name() {
            Some(name) => shortened(&format!("{:#}", rustc_demangle::demangle(name))),
            None => format!("function {}", frame.func_index()),
        })
        .collect()
}
