//! Who is asking, about what and when. Each function is one host call and a little fuel.
//!
//! What does not apply is absent: there is no user without authentication, and no peer where the server
//! itself makes the call.

use crate::{decimal, raw, read};

fn field(number: u32) -> Option<String> {
    read::text(|offset, buffer| raw::context(number, offset, buffer))
}

/// The connection's number.
#[must_use]
pub fn connection() -> Option<String> {
    field(1)
}

/// The client's network address, without its port.
#[must_use]
pub fn peer() -> Option<String> {
    field(2)
}

/// The name that the client gave itself. Anyone can give any name: not for security.
#[must_use]
pub fn client() -> Option<String> {
    field(3)
}

/// The user, as authenticated.
#[must_use]
pub fn user() -> Option<String> {
    field(4)
}

/// The request's id: one for all the calls of hooks and procedures that the request leads to.
#[must_use]
pub fn request_id() -> Option<String> {
    field(5)
}

/// Which attempt this is, from 1; higher after conflicts.
#[must_use]
pub fn attempt() -> Option<i64> {
    field(6).and_then(|attempt| decimal::parse(attempt.as_bytes()))
}

/// The command as it was sent, such as `mget`, where hooks see its parts as `get`.
#[must_use]
pub fn command() -> Option<String> {
    field(7)
}

/// The version of this module that runs.
#[must_use]
pub fn module_version() -> Option<String> {
    field(8)
}

/// The transaction's time, in milliseconds since 1970. It stands still during a call.
#[must_use]
pub fn now_ms() -> i64 {
    raw::now_ms()
}

/// Random bytes, from a generator seeded afresh for each attempt: `let id: [u8; 16] = random();`.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    raw::random_fill(&mut bytes);
    bytes
}
