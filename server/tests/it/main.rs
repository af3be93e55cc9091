//! The server's tests. Most pass through sessions as transcripts, on both stores.

mod support;

/// Plain commands, as transcripts.
mod commands;
/// Procedures, limits, traps and describers.
mod functions;
/// Hooks around commands: phases, order, savepoints, failures.
mod hooks;
