//! What is told of functions: how often they were called, how that ended, and what they used.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::list::list;

/// Of `module.stats`, a map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatsReply {
    /// Since when it is counted, in milliseconds up to now.
    pub counted_ms: u64,
    /// The functions that were called, by module, version and name.
    #[serde(deserialize_with = "list")]
    pub functions: Vec<FunctionReport>,
    /// The commands that hooks ran for, all modules together.
    #[serde(deserialize_with = "list")]
    pub hooks: Vec<HookTime>,
    /// Calls of functions beyond those that the server counts.
    pub uncounted_calls: u64,
}

/// One function of one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionReport {
    /// The module.
    pub module: String,
    /// The number of the version.
    pub version: u64,
    /// Whether that version is in force.
    pub active: bool,
    /// The function.
    pub function: String,
    /// What it is.
    pub kind: FunctionKind,
    /// Calls that have ended, each attempt by itself.
    pub calls: u64,
    /// Those of them that did not succeed, by code.
    pub errors: BTreeMap<String, u64>,
    /// Attempts in which it ran and whose commit met a conflict.
    pub conflicts: u64,
    /// Calls in attempts behind the first one of their request.
    pub retries: u64,
    /// Fuel of a call.
    pub fuel: Summary,
    /// Time running of a call, in nanoseconds.
    pub cpu_ns: Summary,
    /// The most linear memory that a call had, in bytes.
    pub memory_bytes: u64,
}

/// What a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FunctionKind {
    /// It is called by name.
    Procedure,
    /// It runs around commands.
    Hook,
}

impl FunctionKind {
    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Procedure => "procedure",
            Self::Hook => "hook",
        }
    }
}

/// What hooks added to a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookTime {
    /// The command, as it was sent.
    pub command: String,
    /// Requests that had hooks.
    pub requests: u64,
    /// The time that both phases took, all attempts of a request together, in nanoseconds.
    pub added_ns: Summary,
}

/// Many values in four numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// All of them together.
    pub total: u64,
    /// What half of them do not exceed, to an eighth of it.
    pub p50: u64,
    /// What 99 of 100 do not exceed, to an eighth of it.
    pub p99: u64,
    /// The largest.
    pub max: u64,
}
