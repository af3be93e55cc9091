//! The server's tests. Most pass through sessions as transcripts, on both stores.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets what it does not expect fails, and says where"
)]

mod support;

/// The guest ABI's page, held to the code.
mod abi;
/// Who may do what: roles, tokens, and what becomes of those that were taken away.
mod authority;
/// Where guests trapped, by function, file and line.
mod backtraces;
/// Bounds and races that only hostile peers and guests meet.
mod bounds;
/// Calls that are looked at, killed, or run dry.
mod calls;
/// Plain commands, as transcripts.
mod commands;
/// Compiled code on disk.
mod compiled;
/// Compilation in a process of its own, which ends also where the compiler would not.
mod compiler;
/// Many clients at once: what never conflicts, and what is never lost.
mod concurrency;
/// Deadlines that pass while a call waits for its turn.
mod deadlines;
/// The log on disks that lose what was not synced, and on disks that fail.
mod disk;
/// What survives which mishap, and what clients are told: the README's table.
mod durability;
/// Procedures, limits, traps and describers.
mod functions;
/// Which keys a module may read and write.
mod grants;
/// The example modules, as they are built.
mod guests;
/// How far back snapshots can be read.
mod history;
/// Hooks around commands: phases, order, savepoints, failures.
mod hooks;
/// The anomalies of the literature, by name.
mod isolation;
/// One module in two languages, and the table that both pass.
mod languages;
/// What guests log: kept within bounds, and told to whoever may read it.
mod logs;
/// The port for metrics: three pages, within bounds.
mod metrics;
/// Both stores against a plain ordered map.
mod model;
/// Requests that are sent together, and what their replies wait for.
mod pipeline;
/// The store on disks whose power was cut, and on disks that fail.
mod power_cut;
/// Restarts, and folders that can't be used.
mod recovery;
/// Instances that are kept between calls as they are.
mod reuse;
/// Instances that are fresh at each call.
mod rewind;
/// What the server's own log says of requests.
mod spans;
/// What is counted of functions, and what hooks add to commands.
mod stats;
/// Streams on sockets: slow, deaf and stopped ones.
mod streams;
/// Versions of modules that change under load: none tears a request.
mod swaps;
/// The sweeper of expired keys.
mod sweep;
/// What acknowledgements and flushes promise, and what no restart turns back.
mod sync_levels;
/// The rules of the sources: arrows, sizes, words.
mod tidy;
/// Handshakes that do not come to their end, and what is no TLS.
mod tls;
/// What the store keeps of versions: rows, restarts, backups, the format before.
mod version_records;
/// Versions of modules: pushed, activated, rolled back, dropped.
mod versions;
/// What watches and backups tell, on both stores.
mod watch;
/// Raw bytes on a socket: other protocols, garbage, slow and deaf peers.
mod wire;
