//! How every inner error is told to a client: one place for all of them.

use luge_protocol::{ErrorCode, ErrorDetails, ErrorReply};

use crate::function::Failure;
use crate::store::StoreError;

/// A store's error.
pub(super) fn store(error: &StoreError) -> ErrorReply {
    let code = match error {
        StoreError::Storage(_) => ErrorCode::Storage,
        StoreError::UnknownOutcome(_) => ErrorCode::UnknownOutcome,
        StoreError::Unavailable(_) => ErrorCode::Unavailable,
        StoreError::Overloaded(_) => ErrorCode::Overloaded,
        StoreError::TooOld { .. } | StoreError::Forgotten { .. } => ErrorCode::TooOld,
    };
    ErrorReply::new(code, error.to_string())
}

/// A command that this release knows and does not carry out.
pub(super) fn unsupported(what: &str) -> ErrorReply {
    let message = format!("`{what}` is not carried out by this release");
    ErrorReply::new(ErrorCode::Unsupported, message)
}

/// A request whose deadline has passed.
pub(super) fn late() -> ErrorReply {
    let message = "the request's deadline passed before it was done";
    ErrorReply::new(ErrorCode::DeadlineExceeded, message)
}

/// A procedure that failed.
pub(super) fn failed(module: &str, function: &str, call: u64, failure: Failure) -> ErrorReply {
    let message = format!("{module}.{function}: {}", failure.message);
    ErrorReply::new(failure.code, message).with(ErrorDetails {
        module: Some(module.to_owned()),
        function: Some(function.to_owned()),
        call: Some(call),
        log: failure.log,
        backtrace: (!failure.backtrace.is_empty()).then_some(failure.backtrace),
        ..ErrorDetails::default()
    })
}

/// A hook that failed, and whose failure is a block.
pub(super) fn failed_hook(module: &str, hook: &str, call: u64, failure: Failure) -> ErrorReply {
    let message = format!("the hook {module}.{hook} failed: {}", failure.message);
    ErrorReply::new(ErrorCode::Blocked, message).with(ErrorDetails {
        module: Some(module.to_owned()),
        function: Some(hook.to_owned()),
        cause: Some(failure.code.name().to_owned()),
        call: Some(call),
        log: failure.log,
        backtrace: (!failure.backtrace.is_empty()).then_some(failure.backtrace),
        ..ErrorDetails::default()
    })
}

/// A hook's block, with the message that it wrote.
pub(super) fn blocked(module: &str, hook: &str, output: &[u8]) -> ErrorReply {
    let message = match output {
        [] => format!("the hook {module}.{hook} refused"),
        output => String::from_utf8_lossy(output).into_owned(),
    };
    ErrorReply::new(ErrorCode::Blocked, message).with(ErrorDetails {
        module: Some(module.to_owned()),
        function: Some(hook.to_owned()),
        ..ErrorDetails::default()
    })
}

/// A fault of ours.
pub(super) fn internal(message: &str) -> ErrorReply {
    tracing::error!(message, "a request met a fault of the server");
    ErrorReply::new(ErrorCode::Internal, message)
}
