//! The load generator: many connections, one thread, and as little of its own as can be.
//!
//! On two cores a generator takes from the server what it uses itself, so a request costs it a copy of its
//! template, the digits of its key, and a look at where its reply ends. Nothing is allocated for a request, and one
//! look at the clock serves all replies of a read.

pub mod answer;
pub mod client;
mod connection;
pub mod generator;
pub mod keys;
mod schedule;
pub mod template;
mod window;
pub mod wire;
