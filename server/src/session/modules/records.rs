//! What the store keeps of modules, and the one way to change it.
//!
//! ```text
//!   01 name                        a module: its active version, its trail, the numbers it gave
//!   02 name 00 number (u64 be)     a version: what it is, and its limits
//!   03 sha256                      a binary, stored once, however many versions have it
//!   04 sha256                      what tells the compiled form of that binary, if one is kept
//! ```
//!
//! Every change of a module is one commit. A name begins with a letter, and so did the keys of the
//! format before this one; `loading.rs` turns those records into these.

use std::sync::Arc;

use bytes::Bytes;
use luge_protocol::{ErrorReply, ModuleDescription};
use serde::{Deserialize, Serialize};

use super::super::{Core, refusal};
use crate::bugs::{Bug, is_seeded};
use crate::function::{
    Artefact, CallLimits, Granted, GuestLog, Hash, LogRate, ModuleContext, ModuleEntry, Registered,
    Registry, Runtime, Version, Versions,
};
use crate::store::{CommitOutcome, ReadPoint, Sequence, Store, StoreError};
use crate::transaction::{Keyspace, Transaction};

/// The form of the records that are written.
pub(super) const RECORD_FORMAT: u32 = 3;

/// The form before: the same without what a module was granted, which then is every key. A release that
/// knows nothing of grants must not take a record that has one.
pub(super) const FORMAT_WITHOUT_GRANTS: u32 = 2;

/// What the store keeps of a module beside its versions.
#[derive(Serialize, Deserialize)]
pub(super) struct ModuleRecord {
    pub(super) format: u32,
    pub(super) active: Option<u64>,
    /// The versions that were active before, the latest last.
    pub(super) trail: Vec<u64>,
    /// The highest number that was ever given.
    pub(super) newest: u64,
}

/// What the store keeps of a version beside its binary.
#[derive(Serialize, Deserialize)]
pub(super) struct VersionRecord {
    pub(super) format: u32,
    pub(super) description: ModuleDescription,
    pub(super) limits: CallLimits,
    /// As of [`Version::settings`].
    pub(super) settings: Option<Hash>,
}

/// The first byte of the keys of [`ModuleRecord`]s.
pub(super) const MODULES: u8 = 1;
const VERSIONS: u8 = 2;
const BINARIES: u8 = 3;
const COMPILED: u8 = 4;

pub(super) fn module_key(name: &str) -> Vec<u8> {
    [&[MODULES], name.as_bytes()].concat()
}

pub(super) fn version_key(name: &str, number: u64) -> Vec<u8> {
    [&version_prefix(name)[..], &number.to_be_bytes()].concat()
}

/// What the keys of all versions of a module begin with.
pub(super) fn version_prefix(name: &str) -> Vec<u8> {
    [&[VERSIONS], name.as_bytes(), &[0]].concat()
}

pub(super) fn binary_key(sha256: &Hash) -> Vec<u8> {
    [&[BINARIES][..], sha256].concat()
}

pub(super) fn compiled_key(sha256: &Hash) -> Vec<u8> {
    [&[COMPILED][..], sha256].concat()
}

/// What becomes of one module: what the store gets, and what the registry.
pub(super) struct Change<M> {
    name: String,
    writes: Vec<(Vec<u8>, Option<Bytes>)>,
    /// Gone where the module is removed.
    kept: Option<(Versions, Option<Arc<Registered<M>>>)>,
    /// What was compiled for it, and is to be kept once the store has what tells it.
    artefact: Option<Artefact>,
    /// Binaries that no version has any more.
    forgotten: Vec<Hash>,
}

impl<M> Change<M> {
    /// The module has these versions from now on, of which `active` is in force.
    pub(super) fn to(
        name: &str,
        versions: Versions,
        active: Option<Arc<Registered<M>>>,
    ) -> Result<Self, ErrorReply> {
        let record = encode(&ModuleRecord {
            format: RECORD_FORMAT,
            active: versions.active(),
            trail: versions.trail().to_vec(),
            newest: versions.newest(),
        })?;
        Ok(Self {
            name: name.to_owned(),
            writes: vec![(module_key(name), Some(record))],
            kept: Some((versions, active)),
            artefact: None,
            forgotten: Vec::new(),
        })
    }

    /// The module is gone, and all its versions.
    pub(super) fn removal(name: &str, registry: &Registry<M>) -> Self {
        let mut change = Self {
            name: name.to_owned(),
            writes: vec![(module_key(name), None)],
            kept: None,
            artefact: None,
            forgotten: Vec::new(),
        };
        if let Some(entry) = registry.modules().get(name) {
            change.drop_versions(registry, entry.versions.kept().values());
        }
        change
    }

    /// A version is new; its binary, too, where it is given.
    pub(super) fn add_version(&mut self, version: &Version, record: Bytes, wasm: Option<Bytes>) {
        let key = version_key(&self.name, version.number);
        self.writes.push((key, Some(record)));
        if let Some(wasm) = wasm {
            self.writes.push((binary_key(&version.sha256), Some(wasm)));
        }
    }

    /// A binary was compiled, and its compiled form is to be kept.
    pub(super) fn add_compiled(&mut self, artefact: Option<Artefact>) -> Result<(), ErrorReply> {
        if let Some(artefact) = &artefact {
            let told = encode(&artefact.compiled)?;
            self.writes.push((compiled_key(&artefact.wasm), Some(told)));
        }
        self.artefact = artefact;
        Ok(())
    }

    /// Versions are no longer kept, nor their binaries where no other version has them.
    pub(super) fn drop_versions<'a>(
        &mut self,
        registry: &Registry<M>,
        dropped: impl IntoIterator<Item = &'a Version>,
    ) {
        for version in dropped {
            let key = version_key(&self.name, version.number);
            self.writes.push((key, None));
            let sha256 = &version.sha256;
            let is_kept = self
                .kept
                .as_ref()
                .is_some_and(|(versions, _)| versions.has_binary(sha256));
            let mut others = registry.modules().iter();
            let is_shared =
                others.any(|(name, entry)| *name != self.name && entry.versions.has_binary(sha256));
            if !is_kept && !is_shared {
                self.writes.push((binary_key(sha256), None));
                self.writes.push((compiled_key(sha256), None));
                self.forgotten.push(*sha256);
            }
        }
    }

    /// The record of the format before, which this change stands in for.
    pub(super) fn replaces(&mut self, key: Vec<u8>) {
        self.writes.push((key, None));
    }
}

pub(super) fn encode(record: &impl Serialize) -> Result<Bytes, ErrorReply> {
    rmp_serde::to_vec_named(record)
        .map(Bytes::from)
        .map_err(|error| refusal::internal(&error.to_string()))
}

/// What the calls of a version share.
pub(super) fn context(
    description: &ModuleDescription,
    seed: Hash,
    log: &Arc<GuestLog>,
) -> ModuleContext {
    ModuleContext {
        name: description.name.clone(),
        version: description.version,
        config: description.config.clone(),
        pushed_ms: description.pushed_ms,
        granted: description.grant.as_ref().map(Granted::new),
        seed,
        log_rate: LogRate::default(),
        log: Some(Arc::clone(log)),
    }
}

/// Changes a module in the store and then in the registry. It is a task of its own, because a
/// connection that goes away drops its request, and the two must not part.
pub(super) async fn carry_out<S: Store, R: Runtime<S::Snapshot>>(
    core: &Arc<Core<S, R>>,
    turn: tokio::sync::OwnedMutexGuard<()>,
    change: Change<R::Module>,
) -> Result<Sequence, ErrorReply> {
    let core = Arc::clone(core);
    let changed = tokio::spawn(async move {
        let _turn = turn;
        let sequence = store(&core, &change).await?;
        for binary in &change.forgotten {
            core.runtime.forget(binary);
        }
        if let Some(artefact) = change.artefact {
            core.runtime.keep(artefact).await;
        }
        let entry = change
            .kept
            .map(|(versions, active)| Arc::new(ModuleEntry { versions, active }));
        let next = core.registry.load().with(&change.name, entry, sequence);
        core.stats.keep(&next);
        core.registry.store(Arc::new(next));
        Ok(sequence)
    });
    match changed.await {
        Ok(Ok(sequence)) => Ok(sequence),
        Ok(Err(error)) => Err(refusal::store(&error)),
        Err(error) => Err(refusal::internal(&error.to_string())),
    }
}

/// Keeps a compiled form that was made at the start.
pub(super) async fn keep<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    artefact: Artefact,
) -> Result<(), StoreError> {
    // Numbers and bytes: nothing in it can fail to be encoded.
    let Ok(told) = encode(&artefact.compiled) else {
        return Ok(());
    };
    let key = compiled_key(&artefact.wasm);
    write(core, &[(key, Some(told))]).await?;
    core.runtime.keep(artefact).await;
    Ok(())
}

/// Writes a change to the store, as one commit.
pub(super) async fn store<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    change: &Change<R::Module>,
) -> Result<Sequence, StoreError> {
    let is_forgotten = match &change.kept {
        Some(_) => is_seeded(Bug::ForgetModule),
        None => is_seeded(Bug::KeepRemovedModule),
    };
    let writes = match is_forgotten {
        true => &[],
        false => &change.writes[..],
    };
    write(core, writes).await
}

async fn write<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    writes: &[(Vec<u8>, Option<Bytes>)],
) -> Result<Sequence, StoreError> {
    let snapshot = core.store.begin(ReadPoint::Newest).await?;
    let mut transaction = Transaction::new(snapshot, core.settings.writes);
    for (key, record) in writes {
        transaction.set_record(Keyspace::Modules, key, record.clone());
    }
    let _permit = core.coordinator.shared().await;
    let (snapshot, commit) = transaction.into_commit(true);
    match core.store.commit(snapshot, commit).await? {
        CommitOutcome::Committed(sequence) => Ok(sequence),
        CommitOutcome::Conflict => Err(StoreError::Storage(
            "a blind write met a conflict".to_owned(),
        )),
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
