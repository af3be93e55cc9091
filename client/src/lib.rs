//! The client library of Luge, a key-value server that its clients program in WebAssembly.
//!
//! A [`Client`] is a handle on one connection. It can be cloned and shared; requests that are made at
//! the same time are pipelined.
//!
//! ```
//! # #[tokio::main]
//! # async fn main() -> Result<(), luge_client::Error> {
//! # let server = luge_server::testing::start().await;
//! # let address = server.address();
//! use luge_client::{Client, PushOptions, ScanOptions};
//!
//! let client = Client::connect(address).await?; // such as "127.0.0.1:5843"
//!
//! client.set("user:1", "Ada").await?;
//! client.set("user:2", "Grace").await?;
//! assert_eq!(client.get("user:1").await?.as_deref(), Some(&b"Ada"[..]));
//!
//! let mut users = client.scan(ScanOptions::prefix("user:"));
//! while let Some(entry) = users.next().await? {
//!     println!("{:?} is {:?}", entry.key, entry.value);
//! }
//!
//! // A module in text form: its one procedure returns the number 42.
//! let module = r#"(module
//!     (import "luge_v1" "output_write" (func $write (param i32 i32)))
//!     (memory (export "memory") 1)
//!     (data (i32.const 0) "\2a")
//!     (func (export "answer") (result i32)
//!         (call $write (i32.const 0) (i32.const 1))
//!         (i32.const 0)))"#;
//! client.module_push("deep", module.as_bytes(), PushOptions::default()).await?;
//! let answer: u32 = client.call("deep.answer", &()).await?;
//! assert_eq!(answer, 42);
//! # Ok(())
//! # }
//! ```
//!
//! A [`Watch`] follows what is committed, and goes on where another one ended:
//!
//! ```no_run
//! # async fn example(client: luge_client::Client) -> Result<(), luge_client::Error> {
//! use luge_client::{Error, WatchOptions};
//!
//! let mut options = WatchOptions::default();
//! loop {
//!     let mut watch = client.watch("user:", options).await?;
//!     let error: Error = loop {
//!         match watch.next().await {
//!             Ok(Some(commit)) => println!("{} changes in {}", commit.changes.len(), commit.sequence),
//!             Ok(None) => return Ok(()),
//!             Err(error) => break error,
//!         }
//!     };
//!     // Too slow: nothing is lost. With `too_old`, what was before has to be read anew.
//!     options.from = Some(error.resume_from().ok_or(error)?);
//! }
//! # }
//! ```
//!
//! The server's answers that are errors are [`Error::Server`]; [`Error::code`] tells them apart:
//!
//! ```no_run
//! # async fn example(client: luge_client::Client) -> Result<(), luge_client::Error> {
//! use luge_client::{Condition, ErrorCode, SetOptions};
//!
//! let only_if_absent = SetOptions {
//!     condition: Some(Condition::Absent),
//!     ..SetOptions::default()
//! };
//! match client.set_with("lock", "mine", only_if_absent).await {
//!     Ok(_) => println!("the lock is ours"),
//!     Err(error) if error.code() == Some(ErrorCode::PreconditionFailed) => println!("it is taken"),
//!     Err(error) => return Err(error),
//! }
//! # Ok(())
//! # }
//! ```

mod backup;
mod batch;
mod bounded;
mod builder;
mod call;
mod client;
mod connection;
mod data;
mod error;
mod logs;
mod module;
mod scan;
mod stream;
mod tls;
mod watch;

pub use batch::Batch;
pub use builder::ClientBuilder;
pub use client::Client;
pub use data::{Expiry, RangeDeletion, SetOptions, SetOutcome, Sum, TimeToLive, Versioned};
pub use error::{Error, Rejected};
pub use logs::{LogEntry, LogOptions, LogReader};
pub use luge_protocol::{
    ChangeKind, Command, Condition, DEFAULT_PORT, DryRunReply, DryRunWrite, ErrorCode,
    ErrorDetails, ErrorReply, ExportDescription, Found, FunctionKind, FunctionReport, Grant,
    HelloReply, HookCommand, HookDescription, HookOverride, HookTime, IncrReply, InfoReply,
    Isolation, Key, KeyChange, LimitsRequest, LogLevel, LogLine, ModuleChange, ModuleDescription,
    ModuleOutcome, ModuleSummary, OnFailure, OperationReply, Phase, ProcedureDescription,
    RunningCall, ServerLimits, SetReply, StatsReply, Summary, VersionSummary,
};
pub use module::PushOptions;
pub use scan::{Entry, Keys, Page, ScanOptions, Scanner};
pub use tls::Tls;
pub use watch::{Commit, Watch, WatchOptions};
