//! The server's tests. Most pass through sessions as transcripts, on both stores.

mod support;

/// Plain commands, as transcripts.
mod commands;
/// Procedures, limits, traps and describers.
mod functions;
/// Hooks around commands: phases, order, savepoints, failures.
mod hooks;
/// The anomalies of the literature, by name.
mod isolation;
/// Restarts, and folders that can't be used.
mod recovery;
/// Raw bytes on a socket: other protocols, garbage, slow and deaf peers.
mod wire;
