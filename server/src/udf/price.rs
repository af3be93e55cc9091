//! What host functions cost, in fuel. `udfs/ABI.md` has the same table, and a test holds it to this.
//!
//! An instruction of the guest costs 1. The bases are about what a function takes in the time of as
//! many instructions; on top comes 1 for every [`BYTES_PER_UNIT`] bytes copied.

/// Bytes copied between guest and host for one unit.
pub const BYTES_PER_UNIT: u64 = 16;

/// Growing memory, for each page asked for.
pub const MEMORY_GROW_PER_PAGE: u8 = 16;

/// Functions that read what the host has at hand: `input`, `config_get`, `context`, `request_*`,
/// `response_*`, `now_ms`, WASI's clocks.
pub const LOOK: u64 = 20;

/// `output_write`.
pub const OUTPUT: u64 = 20;

/// `kv_get`, `kv_ttl`, `kv_version`, `request_previous`: a look-up in the store.
pub const READ: u64 = 1_000;

/// `kv_set`.
pub const WRITE: u64 = 1_000;

/// `kv_delete` and `kv_incr`: a look-up and a write.
pub const READ_AND_WRITE: u64 = 2_000;

/// `kv_scan` and `kv_scan_close`.
pub const SCAN_OPEN: u64 = 200;

/// `kv_scan_next`, for each step in the store.
pub const SCAN_STEP: u64 = 1_000;

/// `kv_scan_next`, for each entry given out.
pub const SCAN_ENTRY: u64 = 100;

/// `random_fill` and WASI's `random_get`.
pub const RANDOM: u64 = 100;

/// `log`, and each write to WASI's standard streams.
pub const LOG: u64 = 500;

/// The table of `udfs/ABI.md`: host functions and their bases.
pub const TABLE: &[(&str, u64)] = &[
    ("input", LOOK),
    ("output_write", OUTPUT),
    ("kv_get", READ),
    ("kv_set", WRITE),
    ("kv_delete", READ_AND_WRITE),
    ("kv_incr", READ_AND_WRITE),
    ("kv_ttl", READ),
    ("kv_version", READ),
    ("kv_scan", SCAN_OPEN),
    ("kv_scan_next", SCAN_STEP),
    ("kv_scan_close", SCAN_OPEN),
    ("now_ms", LOOK),
    ("random_fill", RANDOM),
    ("log", LOG),
    ("config_get", LOOK),
    ("context", LOOK),
    ("request_command", LOOK),
    ("request_key", LOOK),
    ("request_value", LOOK),
    ("request_previous", READ),
    ("request_arg", LOOK),
    ("request_set_value", LOOK),
    ("request_set_ttl", LOOK),
    ("response_status", LOOK),
    ("response_value", LOOK),
    ("response_set_value", LOOK),
];
