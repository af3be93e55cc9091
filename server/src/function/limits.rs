//! The limits of one call, and the ceilings that a push can't lift them above.

use std::time::Duration;

use luge_protocol::LimitsRequest;
use serde::{Deserialize, Serialize};

use crate::transaction::WriteLimits;

/// The limits of one call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallLimits {
    /// Fuel of one attempt.
    pub fuel: u64,
    /// Time running of one attempt, host calls included, suspensions not.
    pub cpu: Duration,
    /// Wall clock from the first attempt, over queues, suspensions and attempts.
    pub deadline: Duration,
    /// Linear memory, in bytes.
    pub memory_bytes: usize,
    /// Output, in bytes.
    pub output_bytes: usize,
    /// Keys written in the request's transaction.
    pub write_keys: usize,
    /// Bytes of keys and values written in the request's transaction.
    pub write_bytes: usize,
    /// Elements of a table.
    pub table_elements: usize,
    /// Requests that run functions of the module at once.
    #[serde(default = "any_number")]
    pub running_calls: usize,
}

/// What holds for versions from before this limit: the server's own bound.
fn any_number() -> usize {
    usize::MAX
}

/// What a push gets where it asks for nothing, and the most that it may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ceilings {
    /// Where nothing is asked for.
    pub default: CallLimits,
    /// The most.
    pub max: CallLimits,
}

/// A limit that was asked for and can't be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// More than this server gives.
    #[error(
        "the limit {name} of {asked} exceeds this server's ceiling of {ceiling} (`{}`)",
        ceiling_name(name)
    )]
    Above {
        /// Which.
        name: &'static str,
        /// What was asked for.
        asked: u64,
        /// The most.
        ceiling: u64,
    },
    /// Nothing, with which nothing could run.
    #[error("the limit {name} is 0, and must be at least 1")]
    None {
        /// Which.
        name: &'static str,
    },
}

impl Ceilings {
    /// The limits that a push asks for.
    ///
    /// # Errors
    /// One of them is above its ceiling.
    pub fn resolve(&self, asked: &LimitsRequest) -> Result<CallLimits, LimitError> {
        let (default, max) = (&self.default, &self.max);
        let needed = [
            ("fuel", asked.fuel),
            ("cpu_ms", asked.cpu_ms),
            ("deadline_ms", asked.deadline_ms),
            ("running_calls", asked.running_calls),
        ];
        if let Some((name, _)) = needed.iter().find(|(_, asked)| *asked == Some(0)) {
            return Err(LimitError::None { name });
        }
        let size = |name, asked, default: usize, max: usize| {
            pick(name, asked, default as u64, max as u64).map(to_usize)
        };
        let time = |name, asked, default: Duration, max: Duration| {
            pick(name, asked, millis(default), millis(max)).map(Duration::from_millis)
        };
        Ok(CallLimits {
            fuel: pick("fuel", asked.fuel, default.fuel, max.fuel)?,
            cpu: time("cpu_ms", asked.cpu_ms, default.cpu, max.cpu)?,
            deadline: time(
                "deadline_ms",
                asked.deadline_ms,
                default.deadline,
                max.deadline,
            )?,
            memory_bytes: size(
                "memory_bytes",
                asked.memory_bytes,
                default.memory_bytes,
                max.memory_bytes,
            )?,
            output_bytes: size(
                "output_bytes",
                asked.output_bytes,
                default.output_bytes,
                max.output_bytes,
            )?,
            write_keys: size(
                "write_keys",
                asked.write_keys,
                default.write_keys,
                max.write_keys,
            )?,
            write_bytes: size(
                "write_bytes",
                asked.write_bytes,
                default.write_bytes,
                max.write_bytes,
            )?,
            table_elements: size(
                "table_elements",
                asked.table_elements,
                default.table_elements,
                max.table_elements,
            )?,
            running_calls: size(
                "running_calls",
                asked.running_calls,
                default.running_calls,
                max.running_calls,
            )?,
        })
    }
}

impl CallLimits {
    /// These limits, lowered where the caller asks for less.
    #[must_use]
    pub fn lowered_by(&self, asked: &LimitsRequest) -> Self {
        let size = |own: usize, asked: Option<u64>| own.min(asked.map_or(own, to_usize));
        let time =
            |own: Duration, asked: Option<u64>| own.min(asked.map_or(own, Duration::from_millis));
        Self {
            fuel: self.fuel.min(asked.fuel.unwrap_or(self.fuel)),
            cpu: time(self.cpu, asked.cpu_ms),
            deadline: time(self.deadline, asked.deadline_ms),
            memory_bytes: size(self.memory_bytes, asked.memory_bytes),
            output_bytes: size(self.output_bytes, asked.output_bytes),
            write_keys: size(self.write_keys, asked.write_keys),
            write_bytes: size(self.write_bytes, asked.write_bytes),
            table_elements: size(self.table_elements, asked.table_elements),
            // A bound on all calls together, of which no one of them makes a choice.
            running_calls: self.running_calls,
        }
    }

    /// The bounds on the transaction's writes.
    #[must_use]
    pub fn writes(&self) -> WriteLimits {
        WriteLimits {
            keys: self.write_keys,
            bytes: self.write_bytes,
        }
    }

    /// The limits as the protocol tells them.
    #[must_use]
    pub fn told(&self) -> LimitsRequest {
        LimitsRequest {
            fuel: Some(self.fuel),
            cpu_ms: Some(millis(self.cpu)),
            deadline_ms: Some(millis(self.deadline)),
            memory_bytes: Some(self.memory_bytes as u64),
            output_bytes: Some(self.output_bytes as u64),
            write_keys: Some(self.write_keys as u64),
            write_bytes: Some(self.write_bytes as u64),
            table_elements: Some(self.table_elements as u64),
            running_calls: Some(self.running_calls as u64),
        }
    }
}

/// The setting that holds a limit's ceiling.
fn ceiling_name(limit: &str) -> String {
    match limit {
        "running_calls" => "max_module_running_calls".to_owned(),
        other => format!("max_call_{other}"),
    }
}

fn pick(name: &'static str, asked: Option<u64>, default: u64, max: u64) -> Result<u64, LimitError> {
    let value = asked.unwrap_or(default.min(max));
    if value > max {
        return Err(LimitError::Above {
            name,
            asked: value,
            ceiling: max,
        });
    }
    Ok(value)
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
