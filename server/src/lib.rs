//! Luge's server, as a library: a key-value store that its clients program in WebAssembly.
//!
//! From the ground up, each using only what stands above it here; at the edge, not knowing one
//! another, `store/embedded`, [`udf`] and [`net`], which [`server`] joins:
//!
//! ```text
//!   store ← transaction ← function ← command ← session
//! ```
//!
//! The core names no sled, no wasmtime, no sockets and no clock. `ARCHITECTURE.md` tells more.

pub mod command;
pub mod function;
pub mod session;
pub mod store;
pub mod transaction;

mod metrics;
pub mod net;
pub mod udf;

pub mod bugs;
pub mod config;
pub mod reload;
pub mod secrets;
pub mod server;
pub mod testing;
pub mod tokens;
