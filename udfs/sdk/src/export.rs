//! What the attributes expand to. Not for authors: it may change with the macros.
//!
//! Whether a type is bytes, a `Result` or something for serde is decided where the types are known: a method
//! call finds the implementation for the type itself before the one for references to any type.

use std::marker::PhantomData;

use serde::{Deserialize, Serialize};

use crate::hook::{Decision, RequestAnswer, ResponseAnswer};
use crate::message_pack::{self, DecodeError};
use crate::procedure::{REFUSED, Refusal, RefusalCode, UNREADABLE_ARGUMENTS};
use crate::{raw, read};

pub use crate::hook::{Command, Request, Response};

/// One exported function, behind a type of its name.
pub trait Function {
    /// The export's name.
    const NAME: &'static str;
    /// What its describer writes.
    const METADATA: &'static str;
    /// What it is.
    const KIND: Kind;
    /// Reads the input, runs it, and writes the output.
    fn run() -> i32;
}

/// What a module says of itself, behind a type that `module!` makes.
pub trait Module {
    /// What its describer writes.
    const METADATA: &'static str;
    /// The keys that it asks for; nothing means every key.
    const GRANT: Option<Grant>;
}

/// The keys that a module asks for, by their prefixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Those that it reads.
    pub read: &'static [&'static [u8]],
    /// Those that it writes.
    pub write: &'static [&'static [u8]],
}

/// A procedure or a hook.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Called by name.
    Procedure {
        /// May not write.
        read_only: bool,
    },
    /// Called around commands.
    Hook {
        /// After the command rather than before it.
        response: bool,
        /// Around these.
        commands: &'static [Command],
        /// On keys that begin so.
        prefix: &'static [u8],
    },
}

/// The body of an export.
pub fn call<F: Function>() -> i32 {
    crate::panic::install();
    F::run()
}

/// The body of a describer.
pub fn describe(line: &str) -> i32 {
    raw::output_write(line.as_bytes());
    0
}

/// A procedure's arguments, as bytes.
pub fn input() -> Vec<u8> {
    read::read(raw::input).unwrap_or_default()
}

/// Answers arguments that could not be read.
pub fn unreadable(error: &DecodeError) -> i32 {
    if let Ok(message) = message_pack::encode(&["arguments: ", &error.text()].concat()) {
        raw::output_write(&message);
    }
    UNREADABLE_ARGUMENTS
}

/// The type of a procedure's argument.
#[derive(Debug)]
pub struct Argument<T>(PhantomData<T>);

impl<T> Argument<T> {
    #[expect(clippy::new_without_default, reason = "made by the macros alone")]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

pub trait BytesArgument<'a> {
    type Bytes;
    fn take(&self, input: &'a [u8]) -> Result<Self::Bytes, DecodeError>;
}

impl<'a> BytesArgument<'a> for Argument<&'a [u8]> {
    type Bytes = &'a [u8];

    fn take(&self, input: &'a [u8]) -> Result<&'a [u8], DecodeError> {
        Ok(input)
    }
}

impl<'a> BytesArgument<'a> for Argument<Vec<u8>> {
    type Bytes = Vec<u8>;

    fn take(&self, input: &'a [u8]) -> Result<Vec<u8>, DecodeError> {
        Ok(input.to_vec())
    }
}

pub trait TypedArgument<'a, T> {
    fn take(&self, input: &'a [u8]) -> Result<T, DecodeError>;
}

impl<'a, T: Deserialize<'a>> TypedArgument<'a, T> for &Argument<T> {
    fn take(&self, input: &'a [u8]) -> Result<T, DecodeError> {
        message_pack::decode(input)
    }
}

/// A procedure's return value: first split into reply and refusal, then each is written.
#[derive(Debug)]
pub struct Fallible;
#[derive(Debug)]
pub struct Infallible;

pub trait FallibleReturn {
    fn fallibility(&self) -> Fallible {
        Fallible
    }
}
impl<T, E> FallibleReturn for Result<T, E> {}

pub trait InfallibleReturn {
    fn fallibility(&self) -> Infallible {
        Infallible
    }
}
impl<T> InfallibleReturn for &T {}

impl Fallible {
    pub fn split<T, E>(self, returned: Result<T, E>) -> Result<T, E> {
        returned
    }
}

impl Infallible {
    pub fn split<T>(self, returned: T) -> Result<T, Refusal> {
        Ok(returned)
    }
}

#[derive(Debug)]
pub struct Raw;
#[derive(Debug)]
pub struct Typed;

pub trait RawReply {
    fn form(&self) -> Raw {
        Raw
    }
}
impl RawReply for Vec<u8> {}
impl RawReply for Refusal {}

pub trait TypedReply {
    fn form(&self) -> Typed {
        Typed
    }
}
impl<T> TypedReply for &T {}

impl Raw {
    pub fn write(self, bytes: impl Into<RawOutput>) {
        raw::output_write(&bytes.into().0);
    }
}

impl Typed {
    pub fn write<T: Serialize>(self, value: T) {
        match message_pack::encode(&value) {
            Ok(bytes) => raw::output_write(&bytes),
            Err(_) => panic!("what the procedure returned cannot be written as MessagePack"),
        }
    }
}

/// Bytes to be written as they are.
#[derive(Debug)]
pub struct RawOutput(Vec<u8>);

impl From<Vec<u8>> for RawOutput {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<Refusal> for RawOutput {
    fn from(refusal: Refusal) -> Self {
        Self(refusal.payload)
    }
}

pub trait ChosenCode {
    fn refusal_code(&self) -> i32;
}

impl<T: RefusalCode> ChosenCode for T {
    fn refusal_code(&self) -> i32 {
        match self.code() {
            0 => REFUSED,
            code => code,
        }
    }
}

impl RefusalCode for Refusal {
    fn code(&self) -> i32 {
        self.code
    }
}

pub trait DefaultCode {
    fn refusal_code(&self) -> i32 {
        REFUSED
    }
}
impl<T> DefaultCode for &T {}

/// Answers a request hook.
pub fn answer_request(answer: impl RequestAnswer) -> i32 {
    match answer.decision() {
        Decision::Continue => 0,
        Decision::Block(message) => {
            raw::output_write(message.as_bytes());
            1
        }
        Decision::Respond(reply) => {
            raw::output_write(&reply);
            2
        }
        Decision::Absent => 3,
    }
}

/// Answers a response hook.
pub fn answer_response(answer: impl ResponseAnswer) -> i32 {
    match answer.block() {
        None => 0,
        Some(block) => {
            raw::output_write(block.0.as_bytes());
            1
        }
    }
}
