//! How every inner error is told to a client: one place for all of them.

use luge_protocol::{Command, ErrorCode, ErrorDetails, ErrorReply};

use super::Role;
use super::watch::TooLarge;
use crate::function::Failure;
use crate::store::{Sequence, StoreError};

/// A command in a message, for those who type it into `luge` and for those who send it.
pub(super) fn named(command: &str) -> String {
    let typed = match command {
        "calls.list" => "ps".to_owned(),
        "calls.kill" => "kill".to_owned(),
        other => other.replace('.', " "),
    };
    match typed == command {
        true => format!("`{command}`"),
        false => format!("`luge {typed}` (`{command}`)"),
    }
}

/// A store's error.
pub(super) fn store(error: &StoreError) -> ErrorReply {
    let code = match error {
        StoreError::Storage(_) => ErrorCode::Storage,
        StoreError::UnknownOutcome(_) => ErrorCode::UnknownOutcome,
        StoreError::Unavailable(_) => ErrorCode::Unavailable,
        StoreError::Overloaded(_) => ErrorCode::Overloaded,
        StoreError::TooOld { .. } => ErrorCode::TooOld,
        StoreError::Forgotten { first, .. } => return forgotten(first + 1),
    };
    ErrorReply::new(code, error.to_string())
}

/// A request whose deadline has passed.
pub(super) fn late() -> ErrorReply {
    let message = "the request's deadline passed before it was done (`deadline_ms` of the request)";
    ErrorReply::new(ErrorCode::DeadlineExceeded, message)
}

/// A request that someone killed.
pub(super) fn killed(call: u64) -> ErrorReply {
    let message = format!("the call {call} was killed; nothing of it was written");
    ErrorReply::new(ErrorCode::Killed, message).with(ErrorDetails {
        call: Some(call),
        ..ErrorDetails::default()
    })
}

/// A request before `hello`.
pub(super) fn ungreeted(command: &str) -> ErrorReply {
    let message = format!("the first request of a connection is `hello`, and this is `{command}`");
    ErrorReply::new(ErrorCode::BadRequest, message)
}

/// A `hello` without a token, where one is needed.
pub(super) fn missing_token() -> ErrorReply {
    let message = "this server wants a token as the credentials of `hello`, and there were none";
    ErrorReply::new(ErrorCode::Unauthenticated, message)
}

/// A `hello` with a token that is none of the server's.
pub(super) fn unknown_token() -> ErrorReply {
    let message = "the credentials of `hello` are no token of this server's";
    ErrorReply::new(ErrorCode::Unauthenticated, message)
}

/// A session that was refused too often.
pub(super) fn too_many_greetings(limit: u32) -> ErrorReply {
    let message = format!("{limit} greetings of this connection were refused; connect again");
    ErrorReply::new(ErrorCode::Unauthenticated, message)
}

/// A `hello` with a token, where there are none.
pub(super) fn needless_token() -> ErrorReply {
    let message = "this server has no tokens; leave the credentials out";
    ErrorReply::new(ErrorCode::Unsupported, message)
}

/// A session whose token was taken away.
pub(super) fn revoked_token() -> ErrorReply {
    let message = "the token of this connection is not in force any more, or allows less; connect again with one that is";
    ErrorReply::new(ErrorCode::Unauthenticated, message)
}

/// A command that the session's role does not allow.
pub(super) fn weak_role(command: &Command<'_>, needed: Role, role: Role) -> ErrorReply {
    let what = match command {
        Command::Call(call) if call.dry_run == Some(true) => "a dry run of a `call`".to_owned(),
        command => named(command.name()),
    };
    let message = format!("{what} needs the role {needed}, and this token has {role}");
    ErrorReply::new(ErrorCode::Forbidden, message)
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

/// The error that ends a watch, with the commit to go on from.
pub(super) fn resumed_at(error: ErrorReply, sequence: Sequence) -> ErrorReply {
    error.with(ErrorDetails {
        sequence: Some(sequence),
        ..ErrorDetails::default()
    })
}

/// Commits before `first` are not kept any more.
fn forgotten(first: Sequence) -> ErrorReply {
    let message = format!(
        "the changes that come next are not kept any more; the first that are kept are of {first}"
    );
    resumed_at(ErrorReply::new(ErrorCode::TooOld, message), first)
}

/// A watch from a commit that there is not yet.
pub(super) fn ahead(from: Sequence, newest: Sequence) -> ErrorReply {
    let message = format!(
        "the sequence {from} lies ahead of the newest commit, {newest}; it may be of another store"
    );
    resumed_at(ErrorReply::new(ErrorCode::BadRequest, message), newest + 1)
}

/// A prefix that no key can have.
pub(super) fn long_prefix(bytes: usize, limit: usize) -> ErrorReply {
    let message =
        format!("prefix of {bytes} bytes exceeds the limit of {limit} for a key (`max_key_bytes`)");
    ErrorReply::new(ErrorCode::TooLarge, message)
}

/// Values below a prefix with hooks.
pub(super) fn hooked_prefix(prefix: &[u8], module: &str, hook: &str) -> ErrorReply {
    let keys = match prefix.is_empty() {
        true => "every key".to_owned(),
        false => format!("keys that begin with `{}`", prefix.escape_ascii()),
    };
    let message = format!(
        "a watch of {keys} can't tell values: some pass hooks of `get`, such as `{hook}` of the module `{module}`, which it can't call; watch the keys only (`--keys-only`, `keys_only`), or another prefix"
    );
    ErrorReply::new(ErrorCode::Forbidden, message)
}

/// A second stream of the same id.
pub(super) fn stream_twice(id: u64) -> ErrorReply {
    let message = format!("the request {id} has a stream that has not ended; take another id");
    ErrorReply::new(ErrorCode::BadRequest, message)
}

/// No place for another stream.
pub(super) fn too_many_streams(limit: usize, whose: &str) -> ErrorReply {
    let message = format!("the limit of {limit} streams {whose} is reached");
    ErrorReply::new(ErrorCode::Overloaded, message)
}

/// A watcher that does not take what it is told.
pub(super) fn slow(resume: Option<Sequence>) -> ErrorReply {
    ended(
        ErrorCode::Overloaded,
        "the watcher took longer than watch_timeout_ms to read what it was told; watch again from the sequence in the details, and read faster or watch less",
        resume,
    )
}

/// A stream that the server's stop ends.
pub(super) fn stopping(resume: Option<Sequence>) -> ErrorReply {
    ended(ErrorCode::Unavailable, "the server is stopping", resume)
}

fn ended(code: ErrorCode, message: &str, resume: Option<Sequence>) -> ErrorReply {
    let error = ErrorReply::new(code, message);
    match resume {
        Some(sequence) => resumed_at(error, sequence),
        None => error,
    }
}

/// A value that was stored when frames could be larger. The watch can go on behind its commit.
pub(super) fn too_large_to_tell(change: &TooLarge) -> ErrorReply {
    let message = format!(
        "a change of {} bytes in commit {} exceeds the limit for a frame; watch the keys only, or go on behind it",
        change.bytes, change.sequence
    );
    ErrorReply::new(ErrorCode::TooLarge, message).with(ErrorDetails {
        key: Some(change.key.clone()),
        sequence: Some(change.sequence + 1),
        ..ErrorDetails::default()
    })
}
