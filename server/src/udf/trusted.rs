//! The one place that trusts compiled code that was not compiled by this process.

use sha2::{Digest, Sha256};
use wasmtime::{Engine, Module};

use super::compiler::OwnCode;
use super::lines::Lines;
use crate::function::Hash;

/// A module out of its compiled form, with its lines; `None` where these are not the bytes of that hash, or not for this
/// engine.
///
/// The hash must be of what this server has compiled: it comes from the store, which only the server writes.
pub(super) fn kept(
    engine: &Engine,
    bytes: &[u8],
    sha256: &Hash,
) -> Option<(Module, Option<Lines>)> {
    if Sha256::digest(bytes)[..] != sha256[..] {
        return None;
    }
    let (lines, code) = Lines::restore(bytes)?;
    // They stand where `Lines::keep` ended, in a file that has the SHA-256 that the store has of what was
    // compiled, and nobody can find other bytes of the same hash.
    let module = module(engine, bytes.get(code..)?);
    module.ok().map(|module| (module, lines))
}

/// The module that a process of this program has compiled just now.
pub(super) fn fresh(engine: &Engine, code: &OwnCode) -> wasmtime::Result<Module> {
    module(engine, code.bytes())
}

#[expect(
    unsafe_code,
    reason = "wasmtime can't check compiled code, so its caller must know where it is from"
)]
fn module(engine: &Engine, code: &[u8]) -> wasmtime::Result<Module> {
    // SAFETY: `deserialize` asks that the bytes are what wasmtime's compiler gave. Of the two callers one has
    // shown by a hash that they are what it gave to this server, and the other has an `OwnCode`: what a process
    // that runs this very program wrote into a pipe that nobody else has. Both look at this very buffer, which
    // nobody can change meanwhile: no file is looked at again. Wasmtime itself refuses what was made by another
    // release or for other settings.
    unsafe { Module::deserialize(engine, code) }
}
