//! Modules: pushed, shown, listed and removed.

mod push;
mod records;

use std::sync::Arc;

use bytes::Bytes;
use luge_protocol::{ErrorCode, ErrorReply, ModulePush, ModuleSummary, Reply};

use super::{Core, Outcome, refusal};
use crate::function::{Registered, Runtime};
use crate::store::Store;

use push::{MAX_NAME_BYTES, prepare};
use records::change;

pub use records::{LoadError, load_modules};

/// Registers a module, or a new version of it.
pub(super) async fn push<S: Store, R: Runtime<S::Snapshot>>(
    core: &Arc<Core<S, R>>,
    push: &ModulePush<'_>,
) -> Outcome {
    // One at a time: each builds on the registry that the last one left.
    let turn = Arc::clone(&core.pushes).lock_owned().await;
    match prepare(core, push).await {
        Err(refused) => (Err(refused), 0),
        Ok((record, registered)) => {
            let name = record.description.name.clone();
            let encoded = match rmp_serde::to_vec_named(&record) {
                Ok(encoded) => Bytes::from(encoded),
                Err(error) => return (Err(refusal::internal(&error.to_string())), 0),
            };
            let version = record.description.version;
            let stored = Some((encoded, Arc::new(registered)));
            match change(core, turn, name.clone(), stored).await {
                Err(refused) => (Err(refused), 0),
                Ok(sequence) => {
                    tracing::info!(module = name, version, "pushed");
                    (Ok(Reply::Module(Box::new(record.description))), sequence)
                }
            }
        }
    }
}

/// Removes a module.
pub(super) async fn remove<S: Store, R: Runtime<S::Snapshot>>(
    core: &Arc<Core<S, R>>,
    name: &str,
) -> Outcome {
    let turn = Arc::clone(&core.pushes).lock_owned().await;
    if core.registry.load().module(name).is_none() {
        return (Err(unknown(core, name)), 0);
    }
    match change(core, turn, name.to_owned(), None).await {
        Err(refused) => (Err(refused), 0),
        Ok(sequence) => {
            tracing::info!(module = name, "removed");
            (Ok(Reply::Done(())), sequence)
        }
    }
}

/// Describes a module.
pub(super) fn show<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    name: &str,
) -> Result<Reply, ErrorReply> {
    match core.registry.load().module(name) {
        Some(module) => Ok(Reply::Module(Box::new(module.description.clone()))),
        None => Err(unknown(core, name)),
    }
}

/// Lists the modules.
pub(super) fn list<S: Store, R: Runtime<S::Snapshot>>(core: &Core<S, R>) -> Reply {
    let summary = |module: &Arc<Registered<R::Module>>| {
        let description = &module.description;
        ModuleSummary {
            name: description.name.clone(),
            version: description.version,
            sha256: description.sha256.clone(),
            size: description.size,
            pushed_ms: description.pushed_ms,
            procedures: description.procedures.len() as u64,
            hooks: description.hooks.len() as u64,
        }
    };
    Reply::Modules(
        core.registry
            .load()
            .modules()
            .values()
            .map(summary)
            .collect(),
    )
}

fn next_version<S: Store, R: Runtime<S::Snapshot>>(core: &Core<S, R>, name: &str) -> u64 {
    core.registry
        .load()
        .module(name)
        .map_or(1, |module| module.description.version + 1)
}

fn unknown<S: Store, R: Runtime<S::Snapshot>>(core: &Core<S, R>, name: &str) -> ErrorReply {
    let registry = core.registry.load();
    let shown: String = name.chars().take(MAX_NAME_BYTES).collect();
    let known: Vec<&str> = registry
        .modules()
        .keys()
        .map(String::as_str)
        .take(20)
        .collect();
    let known = if known.is_empty() {
        "there are none".to_owned()
    } else {
        format!("there are {}", known.join(", "))
    };
    let message = format!("no module `{}`; {known}", shown.escape_default());
    ErrorReply::new(ErrorCode::NotFound, message)
}
