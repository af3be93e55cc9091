//! What is told of calls: those that run, and what a dry run would do.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::list::list;

/// One of `calls.list`, a map: a request that runs functions, at this moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningCall {
    /// Its id, for `calls.kill`, and in the details of errors.
    pub call: u64,
    /// The request's command.
    pub command: String,
    /// The module whose function runs; none while the request waits.
    pub module: Option<String>,
    /// The function.
    pub function: Option<String>,
    /// The user that the connection's credentials name.
    pub user: Option<String>,
    /// Milliseconds since the request arrived.
    pub age_ms: u64,
    /// Which attempt this is, from 1 on.
    pub attempt: u32,
    /// How long the function has been running, in microseconds, as of its last tick, a millisecond ago
    /// or less.
    pub cpu_us: u64,
    /// Bytes of its linear memory, as of then.
    pub memory_bytes: u64,
    /// Fuel that it has used, as of its last call of another function: a loop counts for itself.
    pub fuel: u64,
}

/// Of a `call` with `dry_run`, a map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DryRunReply {
    /// The procedure's output.
    pub output: Bytes,
    /// What it would write, in the order of the keys, up to a bound.
    #[serde(deserialize_with = "list")]
    pub writes: Vec<DryRunWrite>,
    /// How many keys it would write beyond those.
    pub more: u64,
    /// Fuel that all functions used, hooks included.
    pub fuel: u64,
    /// Their time running, in microseconds.
    pub cpu_us: u64,
    /// The most linear memory that one of them had, in bytes.
    pub memory_bytes: u64,
}

/// One key that a dry run would write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DryRunWrite(
    /// The key.
    pub Bytes,
    /// The value; nil for a deletion.
    pub Option<Bytes>,
    /// When it would expire, in milliseconds since 1970; 0 for never.
    pub u64,
);
