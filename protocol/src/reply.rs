//! Replies: what a request that succeeded is answered with.
//!
//! Tuples are arrays on the wire and keep their length; structs with named fields are maps and may
//! grow, so a client passes over names that it does not know.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::list::list;
use crate::{
    DryRunReply, LogEvent, ModuleDescription, ModuleSummary, RunningCall, StatsReply, WatchEvent,
};

/// Any reply, for encoding. Which one it is follows from the command.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Reply {
    /// Of `hello`.
    Hello(Box<HelloReply>),
    /// Of `ping`: `"pong"`.
    Pong(&'static str),
    /// Of `info`.
    Info(Box<InfoReply>),
    /// Of `get`: nil where the key is absent.
    Get(Option<Found>),
    /// Of `set`.
    Set(SetReply),
    /// Of `del`.
    Del(DelReply),
    /// Of `exists`: how many are present.
    Count(u64),
    /// Of `expire` and `persist`: whether something changed.
    Changed(bool),
    /// Of `ttl`: nil where the key is absent, 0 where it does not expire, else milliseconds.
    Ttl(Option<u64>),
    /// Of `incr`.
    Incr(IncrReply),
    /// Of `mget`: one for each key, in order.
    Mget(Vec<Option<Found>>),
    /// Of `scan`.
    Scan(ScanReply),
    /// Of `batch`: one for each part, in order.
    Batch(Vec<OperationReply>),
    /// Of `call`.
    Call(CallReply),
    /// Of `call` with `dry_run`.
    DryRun(Box<DryRunReply>),
    /// Of `calls.list`.
    Calls(Vec<RunningCall>),
    /// Of `module.push`, `module.show`, `module.activate` and `module.rollback`.
    Module(Box<ModuleDescription>),
    /// Of `module.list`.
    Modules(Vec<ModuleSummary>),
    /// Of `module.stats`.
    Stats(Box<StatsReply>),
    /// Of `watch`, one of many.
    Event(WatchEvent),
    /// Of `logs`, one of many.
    Lines(LogEvent),
    /// Of `backup`, one of many: the next bytes of the copy.
    Piece(Bytes),
    /// Of commands that only succeed, and at the end of a stream: nil.
    Done(()),
}

/// A key's value and version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found(
    /// The value.
    pub Bytes,
    /// The version: the sequence of the commit that wrote it; 0 for a value that a hook answered.
    pub u64,
);

/// Of `set`: the new version, and the value before where it was asked for and there was one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetReply(
    /// The version of what was stored.
    pub u64,
    /// The value before.
    pub Option<Bytes>,
);

/// Of `del`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelReply(
    /// How many keys were present and are deleted.
    pub u64,
    /// For a range: where to go on, nil when it is done.
    pub Option<Bytes>,
);

/// Of `incr`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncrReply(
    /// The new number; nil where a hook does not let it out.
    pub Option<i64>,
    /// The version of what was stored.
    pub u64,
);

/// One entry of a scan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanEntry(
    /// The key.
    pub Bytes,
    /// The value; nil when only keys were asked for.
    pub Option<Bytes>,
    /// The version.
    pub u64,
);

/// Of `scan`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanReply(
    /// The entries, in order.
    #[serde(deserialize_with = "list")]
    pub Vec<ScanEntry>,
    /// Where the next page begins; nil at the end.
    pub Option<Bytes>,
    /// The sequence of the moment that the page shows.
    pub u64,
);

/// Of one part of a `batch`; of the same shape as the reply of the command alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum OperationReply {
    /// Of `get`.
    Get(Option<Found>),
    /// Of `set`.
    Set(SetReply),
    /// Of `del`: how many keys were deleted.
    Count(u64),
    /// Of `incr`.
    Incr(IncrReply),
    /// Of `expire` and `persist`.
    Changed(bool),
    /// Of `check`: nil.
    Done(()),
}

/// Of `call`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallReply(
    /// The procedure's output: bytes, by custom one MessagePack value.
    pub Bytes,
);

/// Of `hello`, a map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloReply {
    /// The version that both sides speak from now on.
    pub version: u32,
    /// The server's name and release.
    pub server: String,
    /// 16 bytes that tell this store from every other; a restored store has new ones.
    pub store: Bytes,
    /// The bounds that a client must keep to.
    pub limits: ServerLimits,
}

/// The server's bounds, a map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerLimits {
    /// A frame's body.
    pub max_frame_bytes: u64,
    /// A key.
    pub max_key_bytes: u64,
    /// A value.
    pub max_value_bytes: u64,
    /// A module's binary.
    pub max_module_bytes: u64,
}

/// Of `info`, a map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InfoReply {
    /// The server's release.
    pub server: String,
    /// The store's id.
    pub store: Bytes,
    /// What holds the data: `sled` or `memory`.
    pub engine: String,
    /// How a write is acknowledged.
    pub durability: String,
    /// Milliseconds since the server started.
    pub uptime_ms: u64,
    /// Open connections.
    pub connections: u64,
    /// Requests since the server started.
    pub requests: u64,
    /// The sequence of the newest commit.
    pub sequence: u64,
    /// Registered modules.
    pub modules: u64,
}
