//! How a guest's end is told: one match from wasmtime's errors to codes.

use luge_protocol::ErrorCode;
use wasmtime::{FrameInfo, PoolConcurrencyLimitError, Trap, WasmBacktrace};

use super::guest::HostStop;
use super::limiter::Refused;
use super::lines::Lines;
use super::module::shortened;
use crate::function::{CallLimits, Failure, Stop};

/// A failure, and where the guest's functions in its back-trace were: the offsets of their instructions in
/// the module.
pub(super) struct Fallen {
    pub(super) failure: Failure,
    offsets: Vec<Option<usize>>,
}

impl Fallen {
    /// The failure that an error of wasmtime stands for.
    pub(super) fn new(
        error: &wasmtime::Error,
        limits: &CallLimits,
        refused: Option<Refused>,
    ) -> Self {
        let (mut code, mut message) = sort(error, limits);
        // An instance that does not even begin within its limit ends without a trap.
        if let Some(refused) = refused
            && matches!(code, ErrorCode::Trap | ErrorCode::Internal)
        {
            let met = match refused {
                Refused::Memory => {
                    format!(
                        "memory met the limit of {} bytes (`memory_bytes` of its push or call)",
                        limits.memory_bytes
                    )
                }
                Refused::Table => {
                    format!(
                        "table met the limit of {} elements (`table_elements` of its push or call)",
                        limits.table_elements
                    )
                }
            };
            code = ErrorCode::MemoryExceeded;
            message = format!("the function failed after its {met}: {message}");
        }
        let frames = error.downcast_ref::<WasmBacktrace>();
        let frames = frames.map_or(&[][..], WasmBacktrace::frames);
        Self {
            failure: Failure {
                code,
                message,
                backtrace: frames.iter().map(name).collect(),
                log: None,
            },
            offsets: frames.iter().map(FrameInfo::module_offset).collect(),
        }
    }

    /// The failure, with the lines in its back-trace where the module tells them.
    pub(super) async fn with_lines(mut self, lines: Option<&Lines>) -> Failure {
        let Some(lines) = lines.filter(|_| !self.offsets.is_empty()) else {
            return self.failure;
        };
        let table = lines.table().await;
        for (name, offset) in self.failure.backtrace.iter_mut().zip(&self.offsets) {
            if let Some(line) = offset.and_then(|offset| table.find(offset)) {
                name.push_str(" at ");
                name.push_str(&line);
            }
        }
        self.failure
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
                format!("the function used up its fuel of {fuel} (`fuel` of its push or call)"),
            )
        }
        Some(Trap::StackOverflow) => (
            ErrorCode::StackOverflow,
            "the function's stack is full: does it recurse without end? (`stack_bytes` of the server)".to_owned(),
        ),
        Some(trap) => (ErrorCode::Trap, trap.to_string()),
        None => (ErrorCode::Internal, format!("{error:#}")),
    }
}

/// A function's name, where the module has names.
fn name(frame: &FrameInfo) -> String {
    match frame.func_name() {
        Some(name) => shortened(&format!("{:#}", rustc_demangle::demangle(name))),
        None => format!("function {}", frame.func_index()),
    }
}
