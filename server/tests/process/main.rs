//! Tests of the program itself: its processes, signals, files and what it prints.
//!
//! Nothing sleeps here: a server is awaited by its log, and every wait has an end.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that can't go on should say where"
)]

mod support;

mod backup;
mod configuration;
mod crash;
mod demo;
mod readme;
mod refusals;
mod serve;
mod tls;
mod tokens;
