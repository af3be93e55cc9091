//! Error codes: stable names, told in one table.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::list::optional_list;

macro_rules! error_codes {
    ($($variant:ident $name:literal $sentence:literal)*) => {
        /// Why a request failed. The name on the wire is stable; new names may be added, and a client
        /// treats one that it does not know as [`ErrorCode::Internal`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $(#[doc = $sentence] $variant,)*
        }

        impl ErrorCode {
            /// Every code, in the order of the specification.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name on the wire.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Its place among [`Self::ALL`].
            #[must_use]
            pub fn index(self) -> usize {
                self as usize
            }

            /// What the code means, in one sentence.
            #[must_use]
            pub fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence,)* }
            }

            /// The code of this name, if there is one.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

error_codes! {
    BadRequest "bad_request" "The request is not of the protocol's form."
    Unsupported "unsupported" "The server knows the command or option, and does not carry it out."
    Unauthenticated "unauthenticated" "`hello` carried no token of the server's, or that token is no longer in force."
    Forbidden "forbidden" "The user, or the function, may not do this."
    NotFound "not_found" "The module, version, procedure or call that was named does not exist."
    Conflict "conflict" "Other commits touched what the request read, on every attempt; it can be sent again."
    PreconditionFailed "precondition_failed" "A condition of the request did not hold; nothing was changed."
    TooLarge "too_large" "A key, value, frame or transaction exceeds its limit."
    TooOld "too_old" "The request needs history that is no longer kept."
    Blocked "blocked" "A hook refused the request."
    Rejected "rejected" "The procedure refused; its code and payload are in the details."
    FuelExhausted "fuel_exhausted" "The function used up its fuel."
    CpuExhausted "cpu_exhausted" "The function used up its cpu time."
    DeadlineExceeded "deadline_exceeded" "The deadline passed before the request was done."
    MemoryExceeded "memory_exceeded" "The function failed after it was refused more memory."
    StackOverflow "stack_overflow" "The function's stack is full."
    OutputTooLarge "output_too_large" "The function wrote more output than its limit."
    Trap "trap" "The function ended abnormally."
    Killed "killed" "The call was ended by an operator."
    InvalidModule "invalid_module" "The module can't be registered."
    Overloaded "overloaded" "A bound of the server is reached; the request can be sent again later."
    Storage "storage" "The disk refused; nothing was changed."
    UnknownOutcome "unknown_outcome" "The server can't tell whether the change will last."
    Unavailable "unavailable" "The server is stopping, or takes no writes."
    Internal "internal" "The server has a fault; the log tells more."
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What a failed request is answered with: `[code, message, details]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorReply(
    /// The code's name.
    pub String,
    /// One lower-case sentence, with the value and the limit where there are any.
    pub String,
    /// More, for programs; nil where there is nothing to add.
    pub Option<Box<ErrorDetails>>,
);

impl ErrorReply {
    /// An error without details.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self(code.name().to_owned(), message.into(), None)
    }

    /// The same error with details.
    #[must_use]
    pub fn with(mut self, details: ErrorDetails) -> Self {
        self.2 = Some(Box::new(details));
        self
    }

    /// The code; [`ErrorCode::Internal`] for a name from a newer server.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        ErrorCode::from_name(&self.0).unwrap_or(ErrorCode::Internal)
    }

    /// The sentence.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.1
    }

    /// The details, empty where the server sent none.
    #[must_use]
    pub fn details(&self) -> ErrorDetails {
        self.2.as_deref().cloned().unwrap_or_default()
    }
}

impl fmt::Display for ErrorReply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.0, self.1)
    }
}

impl std::error::Error for ErrorReply {}

/// What an error tells programs, a map; absent fields are left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorDetails {
    /// The position in a batch, counted from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// The key that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Bytes>,
    /// The current version of that key, 0 where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// With a `watch` that ended: the first commit that was not told, to give as `from`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// The module whose function was called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// The function: a procedure or a hook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// With `blocked` after a hook's failure: the code of that failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// With `rejected`: the number that the procedure returned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// With `rejected`: the output of the procedure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Bytes>,
    /// The call's id, as the server's log has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<u64>,
    /// The last line that the function logged as an error, such as a panic's message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// The guest's functions that were running, innermost first.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "optional_list"
    )]
    pub backtrace: Option<Vec<String>>,
}

/// Bytes that are not of the protocol's form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// The request's id, where the bytes got that far.
    pub id: Option<u64>,
    /// What is wrong, in one sentence.
    pub message: String,
}

/// The longest message of a [`DecodeError`], in bytes. What a peer sent is quoted in it.
const MAX_MESSAGE_BYTES: usize = 1024;

fn shortened(mut message: String) -> String {
    if message.len() > MAX_MESSAGE_BYTES {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
        message.push('…');
    }
    message
}

impl DecodeError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            id: None,
            message: shortened(message.into()),
        }
    }

    pub(crate) fn of(id: u64, message: impl Into<String>) -> Self {
        Self {
            id: Some(id),
            message: shortened(message.into()),
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for DecodeError {}
