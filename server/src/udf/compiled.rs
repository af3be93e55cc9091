//! Compiled code on disk, so that a start does not compile again.
//!
//! A file is a form that can be derived: it may be missing, old or damaged at any time, and then the
//! binary is compiled again. Its name tells the binary and the engine, and whether its bytes are the right
//! ones is decided by their SHA-256, which the store has.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, OpenOptions};
use std::hash::{Hash as _, Hasher};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use super::compiler::MAX_CODE_BYTES;
use super::prepare::REVISION;
use crate::function::Hash;

/// The largest file that is written or read: the code, and the lines of the binary, which are a part of it.
const MAX_FILE_BYTES: u64 = 2 * MAX_CODE_BYTES;

/// How much of the engine's hash a name has. It only keeps two engines from taking turns in one file.
const NAME_ENGINE_BYTES: usize = 8;

/// The folder of compiled code.
pub(super) struct CompiledFolder {
    path: PathBuf,
    /// Tells this engine, its release and its settings, and how binaries are prepared for it, from others.
    engine: Hash,
    written: AtomicU64,
}

impl CompiledFolder {
    /// The folder at this path, which need not be there.
    pub(super) fn new(path: PathBuf, engine: &wasmtime::Engine) -> Self {
        let mut hasher = EngineHasher(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        REVISION.hash(&mut hasher);
        Self {
            path,
            engine: hasher.0.finalize().into(),
            written: AtomicU64::new(0),
        }
    }

    /// What tells this engine from others.
    pub(super) fn engine(&self) -> Hash {
        self.engine
    }

    /// What the file of a binary holds, whatever that is.
    pub(super) fn read(&self, wasm: &Hash) -> Option<Vec<u8>> {
        let file = fs::File::open(self.file(wasm)).ok()?;
        let length = file.metadata().ok()?.len();
        let mut bytes = Vec::with_capacity(usize::try_from(length.min(MAX_FILE_BYTES)).ok()?);
        file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Writes the file of a binary, whole or not at all. Without it the next start compiles.
    pub(super) fn write(&self, wasm: &Hash, bytes: &[u8]) {
        if let Err(error) = self.try_write(wasm, bytes) {
            let folder = self.path.display();
            tracing::warn!(%folder, "compiled code can't be kept, so a start compiles again: {error}");
        }
    }

    /// Removes the file of a binary.
    pub(super) fn remove(&self, wasm: &Hash) {
        remove(&self.file(wasm));
    }

    /// Removes every file but those of these binaries: what versions that are gone have left, engines of
    /// other releases, and writes that a kill cut off.
    pub(super) fn keep_only(&self, binaries: &[Hash]) {
        let kept: HashSet<PathBuf> = binaries.iter().map(|wasm| self.file(wasm)).collect();
        let Ok(entries) = fs::read_dir(&self.path) else {
            return;
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            if !kept.contains(&path) {
                remove(&path);
            }
        }
    }

    fn file(&self, wasm: &Hash) -> PathBuf {
        let engine = self.engine.get(..NAME_ENGINE_BYTES).unwrap_or_default();
        self.path.join(format!("{}-{}", hex(wasm), hex(engine)))
    }

    fn try_write(&self, wasm: &Hash, bytes: &[u8]) -> io::Result<()> {
        let length = bytes.len() as u64;
        if length > MAX_FILE_BYTES {
            let message = format!("{length} bytes exceed the limit of {MAX_FILE_BYTES}");
            return Err(io::Error::other(message));
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)?;
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let temporary = self.path.join(format!("writing-{number}"));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let written = options
            .open(&temporary)
            .and_then(|mut file| file.write_all(bytes))
            .and_then(|()| fs::rename(&temporary, self.file(wasm)));
        if written.is_err() {
            remove(&temporary);
        }
        written
    }
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), "compiled code can't be removed: {error}");
        }
        _ => {}
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Takes what the engine tells of itself into a hash that other programs can't run into by chance.
struct EngineHasher(Sha256);

impl Hasher for EngineHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Never asked for: the hash is taken out whole.
    fn finish(&self) -> u64 {
        0
    }
}
