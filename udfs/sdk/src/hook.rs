//! What hooks are given and what they answer.
//!
//! Each method of [`Request`] and [`Response`] is a host call or two, made when it is called: a hook pays for
//! what it looks at.

use std::time::Duration;

use serde::Serialize;

use crate::kv::{Ttl, milliseconds};
use crate::message_pack::{self, DecodeError};
use crate::{raw, read};

/// The five commands that hooks see; every data command of the protocol is made of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Command {
    /// Reads one key. `mget`, `scan`, `exists` and `ttl` are gets, key by key.
    Get,
    /// Writes one key. `incr` is a set of the sum.
    Set,
    /// Deletes one key.
    Del,
    /// Changes when a key expires. `persist` is one, too.
    Expire,
    /// Calls a procedure.
    Call,
    /// One that this version of the crate does not know.
    Other,
}

/// What a `set` demands of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Always,
    /// That it is absent.
    IfAbsent,
    /// That it is there.
    IfPresent,
    /// That it has this version.
    IfVersion(u64),
}

/// What the client asked for, as earlier hooks left it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Request {}

impl Request {
    #[doc(hidden)]
    #[must_use]
    pub const fn current() -> Self {
        Self {}
    }

    /// The command.
    #[must_use]
    pub fn command(&self) -> Command {
        match raw::request_command() {
            1 => Command::Get,
            2 => Command::Set,
            3 => Command::Del,
            4 => Command::Expire,
            5 => Command::Call,
            _ => Command::Other,
        }
    }

    /// The key; for a `call` the procedure's name, `module.procedure`.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        read::read(raw::request_key).unwrap_or_default()
    }

    /// The key as text; bytes that are no UTF-8 become replacement characters.
    #[must_use]
    pub fn key_text(&self) -> String {
        read::lossy(self.key())
    }

    /// The value that a `set` writes, or the arguments of a `call`.
    #[must_use]
    pub fn value(&self) -> Option<Vec<u8>> {
        read::read(raw::request_value)
    }

    /// The arguments of a `call`, decoded.
    ///
    /// # Errors
    /// Where they have another shape.
    pub fn arguments<T: serde::de::DeserializeOwned>(&self) -> Result<T, DecodeError> {
        message_pack::decode(&self.value().unwrap_or_default())
    }

    /// The value that the key had before the request. A recorded read, which costs what a [`crate::kv::get`]
    /// costs.
    #[must_use]
    pub fn previous(&self) -> Option<Vec<u8>> {
        read::read(raw::request_previous)
    }

    /// The ttl that a `set` or `expire` gives; nothing where it keeps the one that the key has, or where the
    /// command gives none.
    #[must_use]
    pub fn ttl(&self) -> Option<Ttl> {
        match argument(1) {
            Some(0) => Some(Ttl::Never),
            Some(ms) => u64::try_from(ms)
                .ok()
                .map(|ms| Ttl::Left(Duration::from_millis(ms))),
            None => None,
        }
    }

    /// What a `set` demands of the key.
    #[must_use]
    pub fn condition(&self) -> Condition {
        match argument(2) {
            Some(1) => Condition::IfAbsent,
            Some(2) => Condition::IfPresent,
            Some(3) => Condition::IfVersion(argument(3).unwrap_or_default().unsigned_abs()),
            _ => Condition::Always,
        }
    }

    /// What an `incr` adds; nothing for a plain `set`.
    #[must_use]
    pub fn delta(&self) -> Option<i64> {
        argument(4)
    }

    /// Replaces the value that a `set` writes, or the arguments of a `call`. For request hooks.
    pub fn set_value(&mut self, value: impl AsRef<[u8]>) {
        raw::request_set_value(value.as_ref());
    }

    /// Lets the key expire after `ttl`. For request hooks on `set` and `expire`.
    pub fn set_ttl(&mut self, ttl: Duration) {
        raw::request_set_ttl(milliseconds(ttl));
    }

    /// Lets the key keep the expiry that it has. For request hooks on `set` and `expire`.
    pub fn keep_ttl(&mut self) {
        raw::request_set_ttl(-1);
    }

    /// Lets the key not expire. For request hooks on `set` and `expire`.
    pub fn clear_ttl(&mut self) {
        raw::request_set_ttl(0);
    }
}

fn argument(field: u32) -> Option<i64> {
    let mut number = [0; 8];
    (raw::request_arg(field, &mut number) == 1).then(|| i64::from_le_bytes(number))
}

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// It did what was asked.
    Ok,
    /// The key is not there.
    Absent,
    /// It failed; [`Response::error`] names the error.
    Error,
    /// A request hook blocked it.
    Blocked,
    /// A request hook answered in its place.
    Responded,
    /// One that this version of the crate does not know.
    Other,
}

/// What the client will be told, as later hooks left it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Response {}

impl Response {
    #[doc(hidden)]
    #[must_use]
    pub const fn current() -> Self {
        Self {}
    }

    /// How the command ended.
    #[must_use]
    pub fn status(&self) -> Status {
        match raw::response_status() {
            0 => Status::Ok,
            1 => Status::Absent,
            2 => Status::Error,
            3 => Status::Blocked,
            4 => Status::Responded,
            _ => Status::Other,
        }
    }

    /// The value that a `get` or `call` returns, if it returns one.
    #[must_use]
    pub fn value(&self) -> Option<Vec<u8>> {
        match self.status() {
            Status::Ok | Status::Responded => read::read(raw::response_value),
            _ => None,
        }
    }

    /// The error code's name, such as `precondition_failed`, where the command failed or was blocked.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        match self.status() {
            Status::Error | Status::Blocked => read::text(raw::response_value),
            _ => None,
        }
    }

    /// Replaces the value that a `get` or `call` returns, or answers a `get` of an absent key.
    ///
    /// # Traps
    /// The command is another one, or it failed or was blocked: an error cannot be turned into a success.
    pub fn set_value(&mut self, value: impl AsRef<[u8]>) {
        raw::response_set_value(value.as_ref());
    }
}

/// What a request hook answers.
///
/// A hook may also return nothing, which continues, or a `Result` whose error is turned into a [`Block`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The next hook, and then the command.
    Continue,
    /// The command is refused with this message.
    Block(String),
    /// The client gets this reply, and the command does not run. For `get` and `call`.
    Respond(Vec<u8>),
    /// The client is told that the key is absent, and the command does not run. For `get`.
    Absent,
}

impl Decision {
    /// Refuses the command.
    pub fn block(message: impl Into<String>) -> Self {
        Self::Block(message.into())
    }

    /// Answers with bytes.
    pub fn respond(reply: impl Into<Vec<u8>>) -> Self {
        Self::Respond(reply.into())
    }

    /// Answers with a value as MessagePack, as a procedure would.
    ///
    /// # Panics
    /// Where the type's own `Serialize` fails.
    pub fn respond_with<T: Serialize + ?Sized>(reply: &T) -> Self {
        match message_pack::encode(reply) {
            Ok(bytes) => Self::Respond(bytes),
            Err(_) => panic!("the reply cannot be written as MessagePack"),
        }
    }
}

/// A refusal with a message for the client; any text turns into one, so `?` and `Err("…".into())` work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block(pub String);

impl<T: Into<String>> From<T> for Block {
    fn from(message: T) -> Self {
        Self(message.into())
    }
}

/// What a function with `#[hook(request, …)]` may return.
#[diagnostic::on_unimplemented(
    message = "a request hook cannot return `{Self}`",
    note = "it returns `Decision`, `()`, or a `Result` of these whose error turns into a `Block`"
)]
pub trait RequestAnswer {
    /// The decision that it stands for.
    fn decision(self) -> Decision;
}

impl RequestAnswer for Decision {
    fn decision(self) -> Decision {
        self
    }
}

impl RequestAnswer for () {
    fn decision(self) -> Decision {
        Decision::Continue
    }
}

impl<T: RequestAnswer, E: Into<Block>> RequestAnswer for Result<T, E> {
    fn decision(self) -> Decision {
        match self {
            Ok(answer) => answer.decision(),
            Err(refused) => Decision::Block(refused.into().0),
        }
    }
}

/// What a function with `#[hook(response, …)]` may return: nothing, or a `Result` whose error is turned into a
/// [`Block`], which undoes the request's commands and all writes of response hooks.
#[diagnostic::on_unimplemented(
    message = "a response hook cannot return `{Self}`",
    note = "it returns `()`, or a `Result<(), _>` whose error turns into a `Block`"
)]
pub trait ResponseAnswer {
    /// The refusal that it stands for, if it is one.
    fn block(self) -> Option<Block>;
}

impl ResponseAnswer for () {
    fn block(self) -> Option<Block> {
        None
    }
}

impl<E: Into<Block>> ResponseAnswer for Result<(), E> {
    fn block(self) -> Option<Block> {
        self.err().map(Into::into)
    }
}
