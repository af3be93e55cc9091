//! Commands: what each request means to a transaction.
//!
//! A data command is taken apart into *parts*, one for each key or call, and put together again from
//! what became of them. Hooks see parts only, so what they need to know is five things: `get`, `set`,
//! `del`, `expire` and `call`.
//!
//! ```text
//!   plan:    command → parts         apply: part by part          reply: parts → reply
//! ```
//!
//! A part that only lets a value out (the old value of a `set`, the number of an `incr`) is a
//! *disclosure*: the hooks of `get` decide whether and how it is told, and never refuse the request.

mod apply;
mod limits;
mod plan;
mod reply;

use bytes::Bytes;
use luge_protocol::{Condition, ErrorReply, HookCommand};

use crate::store::StoreError;
use crate::transaction::{TimeToLive, TransactionError};

pub use apply::{apply, disclose, settle_call};
pub use limits::CommandLimits;
pub use plan::{Plan, Shape, foresee_sum, plan};
pub use reply::{Pending, reply};

/// What one part does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Reads a value.
    Get,
    /// Looks whether the key is there.
    Exists,
    /// Reads how long the key will live.
    Ttl,
    /// Checks a condition.
    Check(Condition),
    /// Stores the part's value.
    Set {
        /// What must hold.
        condition: Option<Condition>,
        /// Whether the value before is wanted.
        wants_old: bool,
    },
    /// Stores the sum, which is the part's value.
    Incr {
        /// What was added.
        delta: i64,
    },
    /// Deletes the key.
    Del,
    /// Gives the part's time to live.
    Expire,
    /// Takes the time to live away.
    Persist,
    /// Runs a procedure; the key is its name, the value its arguments.
    Call,
    /// Lets out what the part before it found or made.
    Disclose,
}

/// One key's or one call's share of a command.
#[derive(Clone, Debug)]
pub struct Part {
    /// What it does.
    pub action: Action,
    /// The key.
    pub key: Bytes,
    /// What it stores, or the arguments of a call.
    pub value: Option<Bytes>,
    /// The time to live that it gives; `None` where a `set` says nothing.
    pub ttl: Option<TimeToLive>,
    /// What request hooks made of it.
    pub verdict: Verdict,
    /// What became of it.
    pub outcome: Outcome,
    /// Which operation of a batch it belongs to; 0 elsewhere.
    pub operation: usize,
}

/// What request hooks made of a part.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It is to be done.
    Proceed,
    /// It is refused.
    Blocked(Box<ErrorReply>),
    /// It is answered with this.
    Responded(Bytes),
    /// It is answered as if the key were absent.
    Absent,
}

/// What became of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing yet, or nothing at all.
    Pending,
    /// The key is absent; nothing was there to do.
    Absent,
    /// A value was found, made, or answered by a hook.
    Value {
        /// The value.
        value: Bytes,
        /// Its version; `None` if this request wrote it.
        version: Option<u64>,
        /// Milliseconds it has left; 0 for no end.
        ttl_ms: u64,
    },
    /// It was done.
    Done,
    /// The value before, or the new number; still to pass the hooks of `get`, if there are any.
    Made(Option<Bytes>),
}

/// Why a request can't be carried out.
#[derive(Debug)]
pub enum CommandError {
    /// It is refused: everything its commands did is to be undone, and this is the answer.
    Refused(ErrorReply),
    /// The store failed.
    Store(StoreError),
}

impl Part {
    /// A part that has not met anyone yet.
    #[must_use]
    pub fn new(action: Action, key: Bytes) -> Self {
        Self {
            action,
            key,
            value: None,
            ttl: None,
            verdict: Verdict::Proceed,
            outcome: Outcome::Pending,
            operation: 0,
        }
    }

    /// Which of the five commands hooks see.
    #[must_use]
    pub fn hook_command(&self) -> HookCommand {
        match self.action {
            Action::Get | Action::Exists | Action::Ttl | Action::Check(_) | Action::Disclose => {
                HookCommand::Get
            }
            Action::Set { .. } | Action::Incr { .. } => HookCommand::Set,
            Action::Del => HookCommand::Del,
            Action::Expire | Action::Persist => HookCommand::Expire,
            Action::Call => HookCommand::Call,
        }
    }

    /// Whether it only lets a value out, so that a block holds back the value and not the request.
    #[must_use]
    pub fn is_disclosure(&self) -> bool {
        self.action == Action::Disclose
    }
}

impl From<TransactionError> for CommandError {
    fn from(error: TransactionError) -> Self {
        use luge_protocol::ErrorCode;
        let message = error.to_string();
        match error {
            TransactionError::Store(error) => Self::Store(error),
            TransactionError::TooLarge { .. } | TransactionError::TooManyReads { .. } => {
                Self::Refused(ErrorReply::new(ErrorCode::TooLarge, message))
            }
            TransactionError::ReadOnly => {
                Self::Refused(ErrorReply::new(ErrorCode::Forbidden, message))
            }
            TransactionError::NotANumber(_) => {
                Self::Refused(ErrorReply::new(ErrorCode::BadRequest, message))
            }
        }
    }
}
