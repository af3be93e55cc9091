use std::any::Any;

use serde::de::DeserializeOwned;

use crate::message_pack;

/// How a procedure's call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded with this output; its writes stand.
    Done(Vec<u8>),
    /// It refused; its writes are undone.
    Refused {
        /// What it returned.
        code: i32,
        /// Its output.
        payload: Vec<u8>,
    },
    /// It panicked, or made a mistake that ends a call; its writes are undone.
    Trapped(String),
}

impl Outcome {
    pub(super) fn new(result: Result<i32, Box<dyn Any + Send>>, output: Vec<u8>) -> Self {
        match result {
            Ok(0) => Self::Done(output),
            Ok(code) => Self::Refused {
                code,
                payload: output,
            },
            Err(panic) => Self::Trapped(message(panic.as_ref())),
        }
    }

    /// The reply of a call that succeeded.
    ///
    /// # Panics
    /// Where it did not succeed, or the reply has another shape.
    #[must_use]
    #[track_caller]
    pub fn reply<T: DeserializeOwned>(&self) -> T {
        match self {
            Self::Done(output) => message_pack::decode(output).expect("the reply has this shape"),
            other => panic!("expected a reply, found {other:?}"),
        }
    }

    /// The payload of a call that refused.
    ///
    /// # Panics
    /// Where it did not refuse, or the payload has another shape.
    #[must_use]
    #[track_caller]
    pub fn refusal<T: DeserializeOwned>(&self) -> T {
        match self {
            Self::Refused { payload, .. } => {
                message_pack::decode(payload).expect("the payload has this shape")
            }
            other => panic!("expected a refusal, found {other:?}"),
        }
    }

    /// The code of a call that refused, 0 where it succeeded.
    ///
    /// # Panics
    /// Where it trapped.
    #[must_use]
    #[track_caller]
    pub fn code(&self) -> i32 {
        match self {
            Self::Done(_) => 0,
            Self::Refused { code, .. } => *code,
            Self::Trapped(message) => panic!("the call trapped: {message}"),
        }
    }
}

/// What a panic said.
pub(super) fn message(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        return (*text).to_owned();
    }
    panic
        .downcast_ref::<String>()
        .cloned()
        .unwrap_or_else(|| "a panic without a message".to_owned())
}
