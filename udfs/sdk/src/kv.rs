//! The store, inside the call's transaction.
//!
//! Reads see the state at the transaction's start and this call's own writes. Writes are held back until the
//! call succeeds; a refusal, a panic or a budget that runs out undoes them. What was read is recorded: if
//! another commit changes it meanwhile, the server runs the call again.
//!
//! Every function here is one host call, a read of a value over 256 bytes two; its fuel is a base plus one
//! for each 16 bytes of key and value. Keys and values over the server's limits (1 KiB and 1 MiB unless it is
//! configured otherwise) end the call.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::message_pack::{self, DecodeError};
use crate::{decimal, raw, read};

pub use crate::scan::{Entries, Keys, Range, prefix, range};

const NO_EXPIRY: i64 = 0;
const KEEP_EXPIRY: i64 = -1;

/// Reads a value.
pub fn get(key: impl AsRef<[u8]>) -> Option<Vec<u8>> {
    let key = key.as_ref();
    read::read(|offset, buffer| raw::kv_get(key, offset, buffer))
}

/// Reads a value as text; bytes that are no UTF-8 become replacement characters.
pub fn text(key: impl AsRef<[u8]>) -> Option<String> {
    get(key).map(read::lossy)
}

/// Whether a key is there. Cheaper than reading the value.
pub fn exists(key: impl AsRef<[u8]>) -> bool {
    length(key).is_some()
}

/// The length of a value in bytes, without copying it.
pub fn length(key: impl AsRef<[u8]>) -> Option<usize> {
    usize::try_from(raw::kv_get(key.as_ref(), 0, &mut [])).ok()
}

/// Writes a value that does not expire.
pub fn set(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
    raw::kv_set(key.as_ref(), value.as_ref(), NO_EXPIRY);
}

/// Writes a value that expires after `ttl`: at least one millisecond, counted in whole ones.
pub fn set_with_ttl(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>, ttl: Duration) {
    raw::kv_set(key.as_ref(), value.as_ref(), milliseconds(ttl));
}

/// Writes a value and leaves the expiry that the key has.
pub fn set_keep_ttl(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
    raw::kv_set(key.as_ref(), value.as_ref(), KEEP_EXPIRY);
}

/// Deletes a key, and says whether it was there.
pub fn delete(key: impl AsRef<[u8]>) -> bool {
    raw::kv_delete(key.as_ref()) == 1
}

/// The value is not decimal text, or the sum does not fit into 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotANumber;

impl std::fmt::Display for NotANumber {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the value is not a whole number of 64 bits")
    }
}

impl std::error::Error for NotANumber {}

/// Adds to a number and returns the sum; an absent key counts as 0. The key keeps its expiry.
///
/// # Errors
/// Where the value is not a number or the sum does not fit; nothing is changed then.
pub fn incr(key: impl AsRef<[u8]>, delta: i64) -> Result<i64, NotANumber> {
    let mut sum = [0; 8];
    match raw::kv_incr(key.as_ref(), delta, &mut sum) {
        0 => Ok(i64::from_le_bytes(sum)),
        _ => Err(NotANumber),
    }
}

/// Reads a number, which the store keeps as decimal text.
///
/// # Errors
/// Where the value is not a number.
pub fn number(key: impl AsRef<[u8]>) -> Result<Option<i64>, NotANumber> {
    match get(key) {
        None => Ok(None),
        Some(text) => decimal::parse(&text).map(Some).ok_or(NotANumber),
    }
}

/// Writes a number as decimal text, without an expiry.
pub fn set_number(key: impl AsRef<[u8]>, number: i64) {
    set(key, decimal::format(number));
}

/// Reads a value that [`store`] wrote.
///
/// # Errors
/// Where the value has another shape.
pub fn load<T: DeserializeOwned>(key: impl AsRef<[u8]>) -> Result<Option<T>, DecodeError> {
    get(key)
        .map(|value| message_pack::decode(&value))
        .transpose()
}

/// Writes a value of any type as MessagePack, without an expiry.
///
/// # Panics
/// Where the type's own `Serialize` fails.
pub fn store<T: Serialize + ?Sized>(key: impl AsRef<[u8]>, value: &T) {
    match message_pack::encode(value) {
        Ok(bytes) => set(key, bytes),
        Err(_) => panic!("the value to store cannot be written as MessagePack"),
    }
}

/// How long a key lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ttl {
    /// It does not expire.
    Never,
    /// It expires after this time.
    Left(Duration),
}

/// The time that a key has left, or nothing where it is absent.
pub fn ttl(key: impl AsRef<[u8]>) -> Option<Ttl> {
    match u64::try_from(raw::kv_ttl(key.as_ref())).ok()? {
        0 => Some(Ttl::Never),
        left => Some(Ttl::Left(Duration::from_millis(left))),
    }
}

/// Which commit wrote a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// None: it is absent.
    Absent,
    /// This transaction, which has no number yet.
    Own,
    /// The commit with this sequence number.
    Commit(u64),
}

/// The version of a key. Numbers are never used twice, so an equal version means an unchanged value.
pub fn version(key: impl AsRef<[u8]>) -> Version {
    match raw::kv_version(key.as_ref()) {
        0 => Version::Absent,
        version => u64::try_from(version).map_or(Version::Own, Version::Commit),
    }
}

/// At least 1, as 0 would mean no expiry.
pub(crate) fn milliseconds(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX).max(1)
}
