//! The host functions of ABI version 1, as they are: one safe function over slices for each import.
//!
//! The other modules of this crate are easier to use and cover everything here; this one is for those who
//! want to choose their buffers. On wasm32 each function is an import of the module `luge_v1`; elsewhere it
//! is played by [`crate::testing`].
//!
//! **Traps.** An expected outcome is a return value. A guest's mistake ends the call at once, undoes it,
//! and cannot be caught: a key or value over the server's limit, an unknown flag, a handle that is not
//! open, a function that does not belong in this phase, a write in a read-only procedure. The error names
//! the host function. "# Traps" below lists what there is beyond the limits on keys, values and output.
//!
//! **Readers** copy `min(buffer.len(), length - offset)` bytes from `offset` and return the whole length,
//! or -1 for absent. An empty buffer asks for the length alone.
//!
//! **Cost.** Each call costs a base amount of fuel and one more for every 16 bytes that it copies, in
//! either direction, the key included. The base is small for what the host holds in memory (input,
//! context, time), larger where the store is asked. The price list is `udfs/ABI.md`.

#[cfg(target_arch = "wasm32")]
mod imports {
    #[link(wasm_import_module = "luge_v1")]
    #[expect(
        unsafe_code,
        reason = "the host's side of the boundary can only be declared"
    )]
    unsafe extern "C" {
        pub(super) fn input(offset: u32, buffer: *mut u8, cap: u32) -> i64;
        pub(super) fn output_write(pointer: *const u8, length: u32);
        pub(super) fn kv_get(
            key: *const u8,
            key_length: u32,
            offset: u32,
            buffer: *mut u8,
            cap: u32,
        ) -> i64;
        pub(super) fn kv_set(
            key: *const u8,
            key_length: u32,
            value: *const u8,
            value_length: u32,
            ttl_ms: i64,
        );
        pub(super) fn kv_delete(key: *const u8, key_length: u32) -> i32;
        pub(super) fn kv_incr(key: *const u8, key_length: u32, delta: i64, out: *mut u8) -> i32;
        pub(super) fn kv_ttl(key: *const u8, key_length: u32) -> i64;
        pub(super) fn kv_version(key: *const u8, key_length: u32) -> i64;
        pub(super) fn kv_scan(
            start: *const u8,
            start_length: u32,
            end: *const u8,
            end_length: u32,
            limit: u32,
            flags: u32,
        ) -> i32;
        pub(super) fn kv_scan_next(handle: i32, buffer: *mut u8, cap: u32) -> i64;
        pub(super) safe fn kv_scan_close(handle: i32);
        pub(super) safe fn now_ms() -> i64;
        pub(super) fn random_fill(pointer: *mut u8, length: u32);
        pub(super) fn log(level: u32, pointer: *const u8, length: u32);
        pub(super) fn config_get(
            key: *const u8,
            key_length: u32,
            offset: u32,
            buffer: *mut u8,
            cap: u32,
        ) -> i64;
        pub(super) fn context(field: u32, offset: u32, buffer: *mut u8, cap: u32) -> i64;
        pub(super) safe fn request_command() -> i32;
        pub(super) fn request_key(offset: u32, buffer: *mut u8, cap: u32) -> i64;
        pub(super) fn request_value(offset: u32, buffer: *mut u8, cap: u32) -> i64;
        pub(super) fn request_previous(offset: u32, buffer: *mut u8, cap: u32) -> i64;
        pub(super) fn request_arg(field: u32, out: *mut u8) -> i32;
        pub(super) fn request_set_value(pointer: *const u8, length: u32);
        pub(super) safe fn request_set_ttl(ms: i64);
        pub(super) safe fn response_status() -> i32;
        pub(super) fn response_value(offset: u32, buffer: *mut u8, cap: u32) -> i64;
        pub(super) fn response_set_value(pointer: *const u8, length: u32);
    }
}

/// The length of a slice of this module's memory, which has 32-bit addresses.
#[cfg(target_arch = "wasm32")]
#[expect(clippy::cast_possible_truncation, reason = "usize is u32 on wasm32")]
const fn length(bytes: &[u8]) -> u32 {
    bytes.len() as u32
}

/// Calls the import on wasm32, with the second list of arguments, and its stand-in elsewhere, with the first.
macro_rules! host {
    ($name:ident($($native:expr),*); $($import:expr),*) => {{
        #[cfg(target_arch = "wasm32")]
        #[expect(unsafe_code, reason = "each pointer and length comes from one live slice, which the host \
            reads or fills before it returns, and never keeps")]
        unsafe {
            imports::$name($($import),*)
        }
        #[cfg(not(target_arch = "wasm32"))]
        {
            crate::testing::host::$name($($native),*)
        }
    }};
}

/// The same for an import without pointers, which is safe to call as it stands.
macro_rules! plain {
    ($name:ident($($argument:expr),*)) => {{
        #[cfg(target_arch = "wasm32")]
        {
            imports::$name($($argument),*)
        }
        #[cfg(not(target_arch = "wasm32"))]
        {
            crate::testing::host::$name($($argument),*)
        }
    }};
}

/// Reads this call's input: a procedure's arguments. Empty in a hook.
pub fn input(offset: u32, buffer: &mut [u8]) -> i64 {
    host!(input(offset, buffer); offset, buffer.as_mut_ptr(), length(buffer))
}

/// Appends to the output: the reply, the refusal's payload, the message of a block.
///
/// An output over the module's limit ends the call as `output_too_large`.
pub fn output_write(bytes: &[u8]) {
    host!(output_write(bytes); bytes.as_ptr(), length(bytes));
}

/// Reads a value, and records the read: a later change of the key by another commit is a conflict.
pub fn kv_get(key: &[u8], offset: u32, buffer: &mut [u8]) -> i64 {
    host!(kv_get(key, offset, buffer); key.as_ptr(), length(key), offset, buffer.as_mut_ptr(), length(buffer))
}

/// Writes a value into the transaction's buffer. `ttl_ms` 0: no expiry; -1: the expiry it has.
///
/// # Traps
/// On any other negative `ttl_ms`. A write in a read-only procedure ends the call as `forbidden`.
pub fn kv_set(key: &[u8], value: &[u8], ttl_ms: i64) {
    host!(kv_set(key, value, ttl_ms);
        key.as_ptr(), length(key), value.as_ptr(), length(value), ttl_ms);
}

/// Deletes a key; 1 if it was there, else 0. As the answer tells of the store, this is a read, too.
///
/// # Traps
/// A write in a read-only procedure ends the call as `forbidden`.
pub fn kv_delete(key: &[u8]) -> i32 {
    host!(kv_delete(key); key.as_ptr(), length(key))
}

/// Adds to a decimal number and keeps the key's expiry; an absent key counts as 0.
///
/// Returns 0 with the new value, little-endian, in `out`; or 1, changing nothing, where the value is not a
/// number or the sum does not fit into 64 bits.
///
/// # Traps
/// A write in a read-only procedure ends the call as `forbidden`.
pub fn kv_incr(key: &[u8], delta: i64, out: &mut [u8; 8]) -> i32 {
    host!(kv_incr(key, delta, out); key.as_ptr(), length(key), delta, out.as_mut_ptr())
}

/// The time a key has left: -1 where it is absent, 0 without expiry, else milliseconds.
pub fn kv_ttl(key: &[u8]) -> i64 {
    host!(kv_ttl(key); key.as_ptr(), length(key))
}

/// The sequence number of the commit that wrote a key: 0 where it is absent, -1 where this transaction
/// wrote it.
pub fn kv_version(key: &[u8]) -> i64 {
    host!(kv_version(key); key.as_ptr(), length(key))
}

/// [`kv_scan`]: from the last key to the first.
pub const REVERSE: u32 = 1;
/// [`kv_scan`]: leaves the values out.
pub const KEYS_ONLY: u32 = 2;
/// As many scans may be open at once in one call.
pub const MAX_OPEN_SCANS: u32 = 16;

/// Opens a scan over the keys from `start` up to, not including, `end`; an empty `end` means to the last key.
///
/// Returns a handle for [`kv_scan_next`]. What has been walked over is recorded as read, also where it was
/// empty.
///
/// # Traps
/// On flags other than [`REVERSE`] and [`KEYS_ONLY`], and on the seventeenth open scan.
pub fn kv_scan(start: &[u8], end: &[u8], limit: u32, flags: u32) -> i32 {
    host!(kv_scan(start, end, limit, flags);
        start.as_ptr(), length(start), end.as_ptr(), length(end), limit, flags)
}

/// Fills the buffer with whole entries, and returns the bytes written. It may give out fewer than would fit, so go on
/// until 0.
///
/// ```text
/// | key length: u32le | value length: u32le | key | value |  ...
/// ```
///
/// 0 is the end. `-n` says that the next entry needs `n` bytes, and does not move. Writes of this
/// transaction made before this call show. Costs something for every entry, too.
///
/// # Traps
/// On a handle that is not open.
pub fn kv_scan_next(handle: i32, buffer: &mut [u8]) -> i64 {
    host!(kv_scan_next(handle, buffer); handle, buffer.as_mut_ptr(), length(buffer))
}

/// Closes a scan. The end of the call closes those left open.
///
/// # Traps
/// On a handle that is not open.
pub fn kv_scan_close(handle: i32) {
    plain!(kv_scan_close(handle));
}

/// The transaction's time, in milliseconds since 1970. It stands still during a call.
pub fn now_ms() -> i64 {
    plain!(now_ms())
}

/// Fills the buffer with random bytes, from a generator seeded afresh for each attempt.
pub fn random_fill(buffer: &mut [u8]) {
    host!(random_fill(buffer); buffer.as_mut_ptr(), length(buffer));
}

/// Writes a line to the module's log; levels from 0, trace, to 4, error. It stays, whatever becomes of the call.
pub fn log(level: u32, message: &[u8]) {
    host!(log(level, message); level, message.as_ptr(), length(message));
}

/// Reads an entry of the configuration that was given when the module was pushed.
pub fn config_get(key: &[u8], offset: u32, buffer: &mut [u8]) -> i64 {
    host!(config_get(key, offset, buffer);
        key.as_ptr(), length(key), offset, buffer.as_mut_ptr(), length(buffer))
}

/// Reads a field about the call, as text; the numbers are those of [`crate::context`]. Unknown ones are absent.
pub fn context(field: u32, offset: u32, buffer: &mut [u8]) -> i64 {
    host!(context(field, offset, buffer); field, offset, buffer.as_mut_ptr(), length(buffer))
}

/// What the client asked for: 1 get, 2 set, 3 del, 4 expire, 5 call; a later server may know more.
///
/// # Traps
/// Outside of hooks.
pub fn request_command() -> i32 {
    plain!(request_command())
}

/// Reads the key, or the name of the procedure that is called.
///
/// # Traps
/// Outside of hooks.
pub fn request_key(offset: u32, buffer: &mut [u8]) -> i64 {
    host!(request_key(offset, buffer); offset, buffer.as_mut_ptr(), length(buffer))
}

/// Reads the value to be set, or the arguments of the procedure; absent for the other commands.
///
/// # Traps
/// Outside of hooks.
pub fn request_value(offset: u32, buffer: &mut [u8]) -> i64 {
    host!(request_value(offset, buffer); offset, buffer.as_mut_ptr(), length(buffer))
}

/// Reads the value that the key had before the request, in both phases, and records the read.
///
/// # Traps
/// Outside of hooks.
pub fn request_previous(offset: u32, buffer: &mut [u8]) -> i64 {
    host!(request_previous(offset, buffer); offset, buffer.as_mut_ptr(), length(buffer))
}

/// Reads a number of the request, little-endian, into `out`: 1 if it is there, else 0.
///
/// The fields: 1 the ttl in milliseconds; 2 the condition (0 always, 1 if absent, 2 if present, 3 if
/// version); 3 the version expected; 4 the delta of an `incr`. Unknown ones are absent.
///
/// # Traps
/// Outside of hooks.
pub fn request_arg(field: u32, out: &mut [u8; 8]) -> i32 {
    host!(request_arg(field, out); field, out.as_mut_ptr())
}

/// Replaces the value to be set, or the arguments of the procedure.
///
/// # Traps
/// Outside of request hooks, and where the command has no value.
pub fn request_set_value(value: &[u8]) {
    host!(request_set_value(value); value.as_ptr(), length(value));
}

/// Replaces the ttl that a `set` or `expire` gives; 0: no expiry, -1: the expiry it has.
///
/// # Traps
/// Outside of request hooks, on any other negative number, and where the command gives no ttl.
pub fn request_set_ttl(ms: i64) {
    plain!(request_set_ttl(ms));
}

/// How the command ended: 0 ok, 1 absent, 2 error, 3 blocked, 4 responded.
///
/// # Traps
/// Outside of response hooks.
pub fn response_status() -> i32 {
    plain!(response_status())
}

/// Reads the value that the command returns; with the statuses 2 and 3, the name of the error code.
///
/// # Traps
/// Outside of response hooks.
pub fn response_value(offset: u32, buffer: &mut [u8]) -> i64 {
    host!(response_value(offset, buffer); offset, buffer.as_mut_ptr(), length(buffer))
}

/// Replaces the value that a `get` or `call` returns, or answers a `get` of an absent key.
///
/// # Traps
/// Outside of response hooks, around another command, and with the statuses 2 and 3.
pub fn response_set_value(value: &[u8]) {
    host!(response_set_value(value); value.as_ptr(), length(value));
}
