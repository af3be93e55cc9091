//! A command with hooks around it.

use std::any::Any;
use std::time::Duration;

use serde::Serialize;

use crate::hook::{Command, Condition, Status};
use crate::kv::{Ttl, milliseconds};
use crate::{decimal, message_pack};

use super::call::{Call, RequestState, ResponseState};
use super::outcome::message;

/// A request for [`super::Host::hook`], and how its command ended, if that is to be played.
#[derive(Debug, Clone)]
pub struct Exchange {
    pub(super) command: Command,
    pub(super) key: Vec<u8>,
    value: Option<Vec<u8>>,
    ttl_ms: Option<i64>,
    condition: Condition,
    delta: Option<i64>,
    outcome: Option<(Status, Option<Vec<u8>>)>,
}

impl Exchange {
    fn new(command: Command, key: impl AsRef<[u8]>) -> Self {
        Self {
            command,
            key: key.as_ref().to_vec(),
            value: None,
            ttl_ms: None,
            condition: Condition::Always,
            delta: None,
            outcome: None,
        }
    }

    /// Reads a key.
    pub fn get(key: impl AsRef<[u8]>) -> Self {
        Self::new(Command::Get, key)
    }

    /// Writes a value, without an expiry.
    pub fn set(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        Self {
            value: Some(value.as_ref().to_vec()),
            ttl_ms: Some(0),
            ..Self::new(Command::Set, key)
        }
    }

    /// Adds to a number, which hooks see as a `set` of the sum.
    pub fn incr(key: impl AsRef<[u8]>, delta: i64) -> Self {
        Self {
            delta: Some(delta),
            ttl_ms: Some(-1),
            ..Self::new(Command::Set, key)
        }
    }

    /// Deletes a key.
    pub fn del(key: impl AsRef<[u8]>) -> Self {
        Self::new(Command::Del, key)
    }

    /// Lets a key expire.
    pub fn expire(key: impl AsRef<[u8]>, ttl: Duration) -> Self {
        Self::new(Command::Expire, key).ttl(ttl)
    }

    /// Lets a key not expire.
    pub fn persist(key: impl AsRef<[u8]>) -> Self {
        Self {
            ttl_ms: Some(0),
            ..Self::new(Command::Expire, key)
        }
    }

    /// Calls a procedure, `module.procedure`. What it returns must be said, with [`Exchange::returned`].
    ///
    /// # Panics
    /// Where the arguments cannot be written as MessagePack.
    pub fn call(procedure: &str, arguments: &(impl Serialize + ?Sized)) -> Self {
        let arguments = message_pack::encode(arguments).expect("the arguments can be encoded");
        Self {
            value: Some(arguments),
            ..Self::new(Command::Call, procedure)
        }
    }

    /// With this ttl.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl_ms = Some(milliseconds(ttl));
        self
    }

    /// Keeping the ttl that the key has.
    #[must_use]
    pub const fn keep_ttl(mut self) -> Self {
        self.ttl_ms = Some(-1);
        self
    }

    /// On this condition.
    #[must_use]
    pub const fn condition(mut self, condition: Condition) -> Self {
        self.condition = condition;
        self
    }

    /// The command is not run, and returned this value.
    #[must_use]
    pub fn returned(mut self, value: impl AsRef<[u8]>) -> Self {
        self.outcome = Some((Status::Ok, Some(value.as_ref().to_vec())));
        self
    }

    /// The command is not run: an earlier hook answered in its place.
    #[must_use]
    pub fn responded(mut self, value: impl AsRef<[u8]>) -> Self {
        self.outcome = Some((Status::Responded, Some(value.as_ref().to_vec())));
        self
    }

    /// The command is not run: an earlier hook blocked it.
    #[must_use]
    pub fn blocked(mut self) -> Self {
        self.outcome = Some((Status::Blocked, Some(b"blocked".to_vec())));
        self
    }

    /// The command is not run, and failed with this error code.
    #[must_use]
    pub fn failed(mut self, code: &str) -> Self {
        self.outcome = Some((Status::Error, Some(code.as_bytes().to_vec())));
        self
    }

    /// Gives the call its request.
    pub(super) fn begin(&self, call: &mut Call) {
        // The key of a call is a name.
        let stored = match self.command {
            Command::Call => None,
            _ => call.transaction.get(&self.key),
        };
        let previous = stored.map(|entry| entry.value.clone());
        let value = match self.delta {
            None => self.value.clone(),
            Some(delta) => {
                let number = previous.as_deref().map_or(Some(0), decimal::parse);
                number
                    .and_then(|number| number.checked_add(delta))
                    .map(|sum| decimal::format(sum).into_bytes())
            }
        };
        if call.context.command.is_empty() {
            call.context.command = name(self.command).to_owned();
        }
        call.request = Some(RequestState {
            command: self.command,
            key: self.key.clone(),
            value,
            previous,
            ttl_ms: self.ttl_ms,
            condition: self.condition,
            delta: self.delta,
        });
    }

    /// Gives the call its response, running the command where nothing says how it ended.
    pub(super) fn complete(&self, call: &mut Call) {
        let (status, value) = self.outcome.clone().unwrap_or_else(|| self.apply(call));
        call.response = Some(ResponseState { status, value });
    }

    fn apply(&self, call: &mut Call) -> (Status, Option<Vec<u8>>) {
        let transaction = &mut call.transaction;
        let version = transaction.get(&self.key).map(|entry| entry.version);
        let present = version.is_some();
        let met = match self.condition {
            Condition::Always => true,
            Condition::IfAbsent => !present,
            Condition::IfPresent => present,
            // An absent key has the version 0.
            Condition::IfVersion(expected) => version.map_or(expected == 0, |version| {
                u64::try_from(version) == Ok(expected)
            }),
        };
        if !met {
            return (Status::Error, Some(b"precondition_failed".to_vec()));
        }
        let value = call
            .request
            .as_ref()
            .and_then(|request| request.value.clone());
        let found = if present { Status::Ok } else { Status::Absent };
        match self.command {
            Command::Get => (
                found,
                transaction.get(&self.key).map(|entry| entry.value.clone()),
            ),
            Command::Set => match value {
                Some(value) => {
                    transaction.set(&self.key, &value, self.ttl_ms.unwrap_or_default());
                    (Status::Ok, None)
                }
                None => (Status::Error, Some(b"bad_request".to_vec())),
            },
            Command::Del => {
                transaction.delete(&self.key);
                (found, None)
            }
            Command::Expire => {
                let value = transaction.get(&self.key).map(|entry| entry.value.clone());
                if let Some(value) = value {
                    transaction.set(&self.key, &value, self.ttl_ms.unwrap_or_default());
                }
                (found, None)
            }
            Command::Call | Command::Other => {
                panic!(
                    "say what the procedure returned, with `Exchange::returned` or `Exchange::failed`"
                )
            }
        }
    }
}

const fn name(command: Command) -> &'static str {
    match command {
        Command::Get => "get",
        Command::Set => "set",
        Command::Del => "del",
        Command::Expire => "expire",
        Command::Call => "call",
        Command::Other => "other",
    }
}

/// What a hook made of an exchange.
#[derive(Debug, Clone)]
pub struct Hooked {
    /// False where the hook's commands or prefix did not fit, and it was passed by.
    pub ran: bool,
    /// What it answered.
    pub answer: Answer,
    /// The request's value, as the hook left it.
    pub value: Option<Vec<u8>>,
    /// The request's ttl, as the hook left it; nothing where the key keeps its own.
    pub ttl: Option<Ttl>,
    /// How the command ended; only after a response hook.
    pub status: Option<Status>,
    /// What the client gets, as the hook left it; only after a response hook.
    pub response: Option<Vec<u8>>,
}

/// What a hook answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Go on.
    Continue,
    /// Refuse, with this message.
    Block(String),
    /// Reply this in place of the command.
    Respond(Vec<u8>),
    /// Tell the client that the key is absent.
    Absent,
    /// The hook panicked, made a mistake that ends a call, or answered what this command cannot have.
    Trap(String),
}

impl Hooked {
    pub(super) fn passed_by(call: &Call) -> Self {
        Self {
            ran: false,
            ..Self::of(Answer::Continue, call)
        }
    }

    pub(super) fn new(
        command: Command,
        result: Result<i32, Box<dyn Any + Send>>,
        call: &Call,
    ) -> Self {
        let is_request = call.response.is_none();
        let answer = match (result, command) {
            (Err(panic), _) => Answer::Trap(message(panic.as_ref())),
            (Ok(0), _) => Answer::Continue,
            (Ok(1), _) => Answer::Block(String::from_utf8_lossy(&call.output).into_owned()),
            (Ok(2), Command::Get | Command::Call) if is_request => {
                Answer::Respond(call.output.clone())
            }
            (Ok(3), Command::Get) if is_request => Answer::Absent,
            (Ok(code), _) => Answer::Trap(format!("a hook cannot answer {code} here")),
        };
        Self::of(answer, call)
    }

    fn of(answer: Answer, call: &Call) -> Self {
        let request = call.request.as_ref();
        let ttl = request
            .and_then(|request| u64::try_from(request.ttl_ms?).ok())
            .map(|ms| match ms {
                0 => Ttl::Never,
                ms => Ttl::Left(Duration::from_millis(ms)),
            });
        Self {
            ran: true,
            answer,
            value: request.and_then(|request| request.value.clone()),
            ttl,
            status: call.response.as_ref().map(|response| response.status),
            response: call
                .response
                .as_ref()
                .and_then(|response| response.value.clone()),
        }
    }
}
