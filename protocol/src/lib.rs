//! The wire protocol of Luge, version 1: frames, requests, responses and error codes.
//!
//! ```text
//!   0       4                                    4 + length
//!   +-------+-------------------------------------+
//!   | length|  body: one MessagePack value        |
//!   | u32 be|                                     |
//!   +-------+-------------------------------------+
//!
//!   request  body   [id, {command: arguments}]            or  [id, {command: arguments}, options]
//!   response body   [id, {"ok": reply}]                   or  [id, {"err": [code, message, details]}]
//! ```
//!
//! This crate turns bytes into values and back. It does no I/O, reads no clock and logs nothing.
//! Keys and values of a decoded request borrow from the frame that they arrived in.
//! `PROTOCOL.md`, beside this crate's sources, is the specification; a test holds its tables to the
//! code.

mod arguments;
mod binary;
mod calls;
mod error;
mod frame;
mod list;
mod logs;
mod module;
mod plain;
mod reply;
mod request;
mod response;
mod secret;
mod stats;
mod stream;

pub use arguments::{
    Batch, Call, CallsKill, Check, Condition, Del, Exists, Expire, Get, Hello, Incr, Logs, Mget,
    ModuleActivate, ModuleName, ModulePush, ModuleShow, ModuleStats, NoArguments, Operation,
    Persist, Range, Scan, Set, Stop, Ttl, Watch,
};
pub use binary::{Key, Value};
pub use calls::{DryRunReply, DryRunWrite, RunningCall};
pub use error::{DecodeError, ErrorCode, ErrorDetails, ErrorReply};
pub use frame::{FRAME_HEADER_BYTES, FrameCodec, FrameError};
pub use list::MAX_LIST_ELEMENTS;
pub use logs::{LogEvent, LogLevel, LogLine};
pub use module::{
    ExportDescription, Grant, HookCommand, HookDescription, HookOverride, Isolation, LimitsRequest,
    ModuleChange, ModuleDescription, ModuleOutcome, ModuleSummary, OnFailure, Phase,
    ProcedureDescription, VersionSummary,
};
pub use plain::{PlainCommand, PlainRequest, encode_get_response, encode_set_response};
pub use reply::{
    CallReply, DelReply, Found, HelloReply, IncrReply, InfoReply, OperationReply, Reply, ScanEntry,
    ScanReply, ServerLimits, SetReply,
};
pub use request::{Command, Durability, Options, Request, RequestId};
pub use response::{Response, response_id};
pub use secret::Secret;
pub use stats::{FunctionKind, FunctionReport, HookTime, StatsReply, Summary};
pub use stream::{ChangeKind, KeyChange, WatchEvent, is_last_of_stream};

/// The version of the protocol that this crate speaks.
pub const PROTOCOL_VERSION: u32 = 1;

/// The port that a server listens on unless it is told otherwise.
pub const DEFAULT_PORT: u16 = 5843;
