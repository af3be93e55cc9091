//! Functions for Luge, a key-value server that its clients program in WebAssembly.
//!
//! ```
//! use luge_udf::{Decision, Request, hook, kv, procedure};
//! use serde::{Deserialize, Serialize};
//!
//! luge_udf::module! { description = "Accounts that hold money" }
//!
//! #[derive(Deserialize)]
//! struct Deposit {
//!     account: String,
//!     amount: i64,
//! }
//!
//! #[derive(Serialize)]
//! enum Refused {
//!     NotPositive,
//!     NotANumber { account: String },
//! }
//!
//! /// Adds to an account and returns its new balance.
//! #[procedure]
//! fn deposit(deposit: Deposit) -> Result<i64, Refused> {
//!     if deposit.amount <= 0 {
//!         return Err(Refused::NotPositive);
//!     }
//!     let key = format!("account:{}", deposit.account);
//!     kv::incr(key, deposit.amount).map_err(|_| Refused::NotANumber { account: deposit.account })
//! }
//!
//! /// Only procedures change accounts.
//! #[hook(request, commands = "set, del", prefix = "account:")]
//! fn guard(request: &Request) -> Decision {
//!     Decision::block(format!("{} is changed by procedures alone", request.key_text()))
//! }
//! ```
//!
//! **What a call is.** Every call is one serializable transaction within a budget of fuel, time and memory, and one
//! that fails leaves nothing behind. Unless its module says otherwise it runs in a fresh instance: nothing is left
//! from the call before, and what a function keeps in statics is gone with the call. In a module that is described
//! with `isolation = "reuse"` (see [`module!`]) a call finds what earlier ones, of whichever client, left in statics;
//! it costs less than a fresh one. How long an instance lives is not said, so what is to stay goes into [`kv`] in
//! either case.
//!
//! **Tests.** On any target but wasm32 everything here runs against an in-memory store of its own, so that
//! `cargo test` needs no server: see [`testing`].
//!
//! **What it costs.** A module without serde has 25 to 35 KiB, of which some 15 are the allocator and the standard library's
//! panics; typed arguments add 10 to 30. Each function says which host calls it makes; these take fuel by the price
//! list in `udfs/ABI.md`, and about ten nanoseconds each.

// The macros name this crate by its name, here as well.
extern crate self as luge_udf;

#[cfg(all(target_arch = "wasm32", target_os = "unknown", feature = "allocator"))]
mod allocator;
pub mod config;
pub mod context;
pub mod decimal;
#[doc(hidden)]
pub mod export;
mod hook;
pub mod kv;
pub mod log;
pub mod message_pack;
mod panic;
mod procedure;
pub mod raw;
mod read;
mod scan;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use context::{now_ms, random};
pub use hook::{
    Block, Command, Condition, Decision, Request, RequestAnswer, Response, ResponseAnswer, Status,
};
pub use procedure::{REFUSED, Refusal, RefusalCode, UNREADABLE_ARGUMENTS};

/// Exports a function as a procedure, called as `module.function`.
///
/// It takes one argument or none: `&[u8]` and `Vec<u8>` get the bytes as they came; every other type is read
/// from MessagePack with serde, and may borrow (`Transfer<'_>`). It returns a value or a `Result`: a `Vec<u8>`
/// is sent as it is, everything else is written as MessagePack. An `Err` undoes the call's writes, and the
/// client gets `rejected` with the code (see [`RefusalCode`]) and the payload. Arguments that cannot be read
/// are refused with [`UNREADABLE_ARGUMENTS`] and a text. A panic is logged, and ends the call as a trap.
///
/// `#[procedure(read_only)]` promises not to write, which the server enforces; such calls never wait for a
/// sync and never conflict. The first paragraph of the doc comment becomes the procedure's description.
///
/// Reading the arguments is one host call (two above 256 bytes), writing the reply one.
pub use luge_udf_macros::procedure;

/// Exports a function as a hook, which runs around commands on the client's side.
///
/// `#[hook(request, …)]` runs before the command. It takes `request: &Request`, or `&mut Request` to change the
/// value or the ttl, and returns a [`Decision`], or anything else that is a [`RequestAnswer`]. Its writes stand
/// also when the command is refused or fails.
///
/// `#[hook(response, …)]` runs after the command, also after one that was refused. It takes
/// `request: &Request` and `response: &mut Response`, or less, and returns nothing or a `Result`, whose error
/// undoes the command.
///
/// The options:
/// - `commands = "set, del"`: around which of `get`, `set`, `del`, `expire` and `call`; all five without it.
/// - `prefix = "user:"`, or `prefix_hex = "00ff"`: for keys that begin so; all without it. For a `call` the key
///   is the procedure's name.
/// - `order = -5`: request hooks run from the lowest to the highest, response hooks the other way; 0 without it.
/// - `on_failure = "continue"`: passes over a hook that traps or exceeds its budget; without it, that blocks.
///
/// Whoever pushes the module may override prefix, order and `on_failure`. The first paragraph of the doc comment
/// becomes the hook's description.
pub use luge_udf_macros::hook;

/// Describes the module: `module! { release = "1.2.0", description = "…", read = ["user:"], write = ["user:"] }`.
///
/// All are optional; the release is the package's version without it. At most once in a module.
///
/// `isolation = "reuse"` has instances kept between calls, with what is in their statics, which other clients' calls
/// may then find; a call in one costs less than one in a fresh instance.
///
/// `read` and `write` ask for the keys that the module's functions use, by prefixes: texts, or bytes as `b"\xff"`.
/// With one of them nothing else may be read or written, and an access outside of them ends the call with
/// `forbidden`; without both, the module asks for every key. Deleting and incrementing tell what was there, so they
/// need both. Whoever pushes the module may grant less. A scan must lie within one prefix: [`kv::prefix`] does where the
/// prefix is one of them, or begins with one. In tests, [`testing::Host::of`] holds functions to it.
pub use luge_udf_macros::module;
