//! What a hook sees of the command it stands around, and what it may change of it.

use bytes::Bytes;
use luge_protocol::{Condition, HookCommand};

use super::call::Stop;
use crate::transaction::TimeToLive;

/// How a command ended, as response hooks see it. The discriminants are the numbers of the guest ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseStatus {
    /// Done.
    Ok = 0,
    /// The key is absent.
    Absent = 1,
    /// It failed.
    Error = 2,
    /// A hook refused it.
    Blocked = 3,
    /// A hook answered it.
    Responded = 4,
}

/// The request and, later, the response of one part of a request.
#[derive(Clone, Debug)]
pub struct HookView {
    /// Which of the five.
    pub command: HookCommand,
    /// The key; of a `call`, the procedure's name.
    pub key: Bytes,
    /// The value of a `set`, the arguments of a `call`.
    pub value: Option<Bytes>,
    /// The time to live that a `set` or `expire` gives; `None` where a `set` says nothing of it.
    pub ttl: Option<TimeToLive>,
    /// The condition of a `set`.
    pub condition: Option<Condition>,
    /// What an `incr` adds.
    pub delta: Option<i64>,
    /// How the command ended; in the request phase not yet.
    pub status: ResponseStatus,
    /// What `get` or `call` returns; of an error or a block, the code's name.
    pub response: Option<Bytes>,
}

impl HookView {
    /// The argument of this number, as the guest ABI counts them.
    #[must_use]
    pub fn argument(&self, field: u32) -> Option<i64> {
        match field {
            1 => self.ttl.map(|ttl| match ttl {
                TimeToLive::Forever => 0,
                TimeToLive::Kept => -1,
                TimeToLive::For(ttl_ms) => i64::try_from(ttl_ms).unwrap_or(i64::MAX),
            }),
            2 => (self.command == HookCommand::Set).then_some(match self.condition {
                None => 0,
                Some(Condition::Absent) => 1,
                Some(Condition::Present) => 2,
                Some(Condition::Version(_)) => 3,
            }),
            3 => match self.condition {
                Some(Condition::Version(version)) => i64::try_from(version).ok(),
                _ => None,
            },
            4 => self.delta,
            _ => None,
        }
    }

    /// Replaces the value of a `set` or the arguments of a `call`.
    ///
    /// # Errors
    /// A trap: the command has no value.
    pub fn set_value(&mut self, value: Bytes) -> Result<(), Stop> {
        match self.command {
            HookCommand::Set | HookCommand::Call => {
                self.value = Some(value);
                Ok(())
            }
            other => Err(Stop::trap(format!(
                "a {} has no value to set",
                other.name()
            ))),
        }
    }

    /// Replaces the time to live of a `set` or an `expire`.
    ///
    /// # Errors
    /// A trap: the command has none.
    pub fn set_ttl(&mut self, ttl: TimeToLive) -> Result<(), Stop> {
        match self.command {
            HookCommand::Set | HookCommand::Expire => {
                self.ttl = Some(ttl);
                Ok(())
            }
            other => Err(Stop::trap(format!(
                "a {} has no time to live to set",
                other.name()
            ))),
        }
    }

    /// Replaces what a `get` or `call` returns.
    ///
    /// # Errors
    /// A trap: the command returns no value, or it did not succeed.
    pub fn set_response(&mut self, value: Bytes) -> Result<(), Stop> {
        let returns_value = matches!(self.command, HookCommand::Get | HookCommand::Call);
        if !returns_value {
            let name = self.command.name();
            return Err(Stop::trap(format!(
                "the response of a {name} has no value to set"
            )));
        }
        match self.status {
            ResponseStatus::Ok | ResponseStatus::Absent | ResponseStatus::Responded => {
                self.response = Some(value);
                Ok(())
            }
            ResponseStatus::Error | ResponseStatus::Blocked => Err(Stop::trap(
                "an error or a block can't be turned into a success".to_owned(),
            )),
        }
    }
}
