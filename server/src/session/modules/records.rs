//! What the store keeps of modules: written with the registry, and read when the server starts.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use luge_protocol::{ErrorReply, ModuleDescription};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::super::{Core, refusal};
use crate::bugs::{Bug, is_seeded};
use crate::function::{CallLimits, Candidate, ModuleContext, Registered, Registry, Runtime};
use crate::store::{CommitOutcome, PageLimit, ReadPoint, Sequence, Store, StoreError};
use crate::transaction::{Keyspace, Scan, ScanOrder, Transaction, TransactionError, WriteLimits};

/// What the store keeps of a module.
#[derive(Serialize, Deserialize)]
pub(super) struct Record {
    /// The form of this record.
    pub(super) format: u32,
    pub(super) description: ModuleDescription,
    pub(super) limits: CallLimits,
    pub(super) wasm: Bytes,
}

pub(super) const RECORD_FORMAT: u32 = 1;

/// Why the modules in the store can't be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] TransactionError),
    /// A module that was accepted once is refused now.
    #[error(
        "the stored module `{name}` can't be loaded: {reason}; the release that accepted it can serve this folder"
    )]
    Module {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

/// Loads every module that the store keeps.
///
/// # Errors
/// The store failed, or a module is refused.
pub async fn load_modules<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
) -> Result<usize, LoadError> {
    let snapshot = core
        .store
        .begin(ReadPoint::Newest)
        .await
        .map_err(TransactionError::from)?;
    let mut transaction = Transaction::new(snapshot, WriteLimits { keys: 0, bytes: 0 });
    let mut scan = Scan::of(Keyspace::Modules, b"", b"", ScanOrder::Ascending, false);
    let mut modules = BTreeMap::new();
    while !scan.is_done() {
        // One at a time: a record holds a whole binary.
        let rows = transaction
            .scan(&mut scan, PageLimit { rows: 1, bytes: 1 })
            .await?;
        for (name, live) in rows {
            let name = String::from_utf8_lossy(&name).into_owned();
            let registered = load(core, &live.value)
                .await
                .map_err(|reason| LoadError::Module {
                    name: name.clone(),
                    reason,
                })?;
            modules.insert(name, Arc::new(registered));
        }
    }
    let count = modules.len();
    core.registry.store(Arc::new(Registry::new(modules)));
    Ok(count)
}

async fn load<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    record: &[u8],
) -> Result<Registered<R::Module>, String> {
    let record: Record = rmp_serde::from_slice(record).map_err(|error| error.to_string())?;
    if record.format != RECORD_FORMAT {
        return Err(format!(
            "its record has format {}, and not {RECORD_FORMAT}",
            record.format
        ));
    }
    let hash = Sha256::digest(&record.wasm);
    if hex(&hash) != record.description.sha256 {
        return Err("its binary does not have the SHA-256 that its record names".to_owned());
    }
    // The ceilings may have been lowered since.
    let limits = record.limits.lowered_by(&core.settings.ceilings.max.told());
    let description = ModuleDescription {
        limits: limits.told(),
        ..record.description
    };
    let candidate = Candidate {
        name: &description.name,
        wasm: &record.wasm,
        limits: &limits,
    };
    let module = core.runtime.load(candidate).await?;
    let context = Arc::new(context(&description, hash.into()));
    Ok(Registered {
        description,
        module,
        limits,
        context,
    })
}

pub(super) fn context(description: &ModuleDescription, seed: [u8; 32]) -> ModuleContext {
    ModuleContext {
        name: description.name.clone(),
        version: description.version,
        config: description.config.clone(),
        pushed_ms: description.pushed_ms,
        seed,
    }
}

/// What the store and the registry get of a pushed module.
pub(super) type Stored<M> = (Bytes, Arc<Registered<M>>);

/// Changes a module in the store and then in the registry. It is a task of its own, because a
/// connection that goes away drops its request, and the two must not part.
pub(super) async fn change<S: Store, R: Runtime<S::Snapshot>>(
    core: &Arc<Core<S, R>>,
    turn: tokio::sync::OwnedMutexGuard<()>,
    name: String,
    stored: Option<Stored<R::Module>>,
) -> Result<Sequence, ErrorReply> {
    let core = Arc::clone(core);
    let changed = tokio::spawn(async move {
        let _turn = turn;
        let (record, module) = stored.unzip();
        let sequence = store_record(&core, &name, record).await?;
        let next = core.registry.load().with(&name, module);
        core.registry.store(Arc::new(next));
        Ok(sequence)
    });
    match changed.await {
        Ok(Ok(sequence)) => Ok(sequence),
        Ok(Err(error)) => Err(refusal::store(&error)),
        Err(error) => Err(refusal::internal(&error.to_string())),
    }
}

async fn store_record<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    name: &str,
    record: Option<Bytes>,
) -> Result<Sequence, StoreError> {
    let snapshot = core.store.begin(ReadPoint::Newest).await?;
    let mut transaction = Transaction::new(snapshot, core.settings.writes);
    let is_forgotten = match &record {
        Some(_) => is_seeded(Bug::ForgetModule),
        None => is_seeded(Bug::KeepRemovedModule),
    };
    if !is_forgotten {
        transaction.set_record(Keyspace::Modules, name.as_bytes(), record);
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
