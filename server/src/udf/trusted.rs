//! The one place that trusts compiled code that did not come from the compiler just now.

use sha2::{Digest, Sha256};
use wasmtime::{Engine, Module};

use super::lines::Lines;
use crate::function::Hash;

/// A module out of its compiled form, with its lines; `None` where these are not the bytes of that hash, or not for this
/// engine.
///
/// The hash must be of what this server has compiled: it comes from the store, which only the server writes.
#[expect(
    unsafe_code,
    reason = "wasmtime can't check compiled code, so its caller must know where it is from"
)]
pub(super) fn module(
    engine: &Engine,
    bytes: &[u8],
    sha256: &Hash,
) -> Option<(Module, Option<Lines>)> {
    if Sha256::digest(bytes)[..] != sha256[..] {
        return None;
    }
    let (lines, code) = Lines::restore(bytes)?;
    // SAFETY: `deserialize` asks that the bytes are what `Module::serialize` gave. They stand where `Lines::keep` ended, in a file that has the SHA-256 that
    // the store has of what `serialize` gave this server, and nobody can find other bytes of the same hash.
    // They are this very buffer, which nobody can change meanwhile: no file is looked at again. Wasmtime
    // itself refuses what was made by another release or for other settings.
    let module = unsafe { Module::deserialize(engine, bytes.get(code..)?) };
    module.ok().map(|module| (module, lines))
}
