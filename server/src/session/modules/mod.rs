//! Modules: pushed, activated, rolled back, shown, listed and removed.
//!
//! A change of a module is planned on the registry, written to the store as one commit, and then
//! swapped into the registry. The registry has what is known of every version, and the active ones
//! compiled; the rest of a version is read from the store when somebody asks for it.

mod candidate;
mod loading;
mod push;
mod records;
mod unknown;

use std::sync::Arc;

use luge_protocol::{
    ErrorCode, ErrorReply, ModuleActivate, ModuleChange, ModuleDescription, ModuleOutcome,
    ModulePush, ModuleShow, ModuleSummary, Reply, VersionSummary,
};
use tokio::sync::OwnedMutexGuard;

use super::{Core, Outcome, refusal};
use crate::command::CommandError;
use crate::function::{ModuleEntry, Registry, Runtime, Versions};
use crate::store::{Sequence, Store};

use loading::{Unusable, describe_kept, revive};
use records::{Change, carry_out, hex};
use unknown::{no_module, no_rollback, no_version};

pub use loading::{LoadError, load_modules};

/// A reply, and the commit that it tells of.
type Told = Result<(Reply, Sequence), ErrorReply>;

/// Registers a module, or a new version of it; with `dry_run`, only tells what that would do.
pub(super) async fn push<S: Store, R: Runtime<S::Snapshot>>(
    core: &Arc<Core<S, R>>,
    push: &ModulePush<'_>,
) -> Outcome {
    outcome(match push.dry_run {
        Some(true) => push::rehearse(core, push).await,
        _ => push::push(core, push).await,
    })
}

/// Puts a version in force that is kept.
pub(super) async fn activate<S: Store, R: Runtime<S::Snapshot>>(
    core: &Arc<Core<S, R>>,
    activate: &ModuleActivate<'_>,
) -> Outcome {
    outcome(try_activate(core, &activate.name, activate.version).await)
}

/// Puts the version in force that was active before this one.
pub(super) async fn roll_back<S: Store, R: Runtime<S::Snapshot>>(
    core: &Arc<Core<S, R>>,
    name: &str,
) -> Outcome {
    outcome(try_roll_back(core, name).await)
}

/// Removes a module with all its versions.
pub(super) async fn remove<S: Store, R: Runtime<S::Snapshot>>(
    core: &Arc<Core<S, R>>,
    name: &str,
) -> Outcome {
    let turn = turn(core).await;
    let registry = core.registry.load_full();
    if let Err(refused) = find(&registry, name) {
        return (Err(refused), 0);
    }
    let removed = carry_out(core, turn, Change::removal(name, &registry)).await;
    outcome(removed.map(|sequence| {
        tracing::info!(module = name, "removed");
        (Reply::Done(()), sequence)
    }))
}

/// Describes a version of a module.
pub(super) async fn show<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    show: &ModuleShow<'_>,
) -> Outcome {
    outcome(try_show(core, show).await)
}

/// Lists the modules with their versions.
pub(super) fn list<S: Store, R: Runtime<S::Snapshot>>(core: &Core<S, R>) -> Outcome {
    let registry = core.registry.load();
    let modules = registry.modules().iter();
    let listed = modules.map(|(name, entry)| summary(name, entry));
    (Ok(Reply::Modules(listed.collect())), registry.sequence)
}

async fn try_activate<S: Store, R: Runtime<S::Snapshot>>(
    core: &Arc<Core<S, R>>,
    name: &str,
    number: u64,
) -> Told {
    let turn = turn(core).await;
    let registry = core.registry.load_full();
    let entry = find(&registry, name)?;
    if entry.versions.active() == Some(number) {
        return unchanged(core, &registry, name, number).await;
    }
    let mut versions = entry.versions.clone();
    match versions.activate(number) {
        true => put_in_force(core, turn, name, versions, number).await,
        false => Err(no_version(name, number, &versions)),
    }
}

async fn try_roll_back<S: Store, R: Runtime<S::Snapshot>>(
    core: &Arc<Core<S, R>>,
    name: &str,
) -> Told {
    let turn = turn(core).await;
    let registry = core.registry.load_full();
    let mut versions = find(&registry, name)?.versions.clone();
    match versions.roll_back() {
        Some(number) => put_in_force(core, turn, name, versions, number).await,
        None => Err(no_rollback(name, &versions)),
    }
}

async fn try_show<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    show: &ModuleShow<'_>,
) -> Told {
    let registry = core.registry.load_full();
    let entry = find(&registry, &show.name)?;
    let versions = &entry.versions;
    // A module has at least one version; 0 is none, and is told so.
    let newest = || versions.kept().keys().next_back().copied();
    let number = show.version.or(versions.active()).or_else(newest);
    let number = number.unwrap_or_default();
    match kept(core, &show.name, entry, number).await {
        Ok(description) => Ok((Reply::Module(Box::new(description)), registry.sequence)),
        Err(refused) => {
            // A change meanwhile may have dropped it.
            let registry = core.registry.load();
            let versions = &find(&registry, &show.name)?.versions;
            match versions.kept().contains_key(&number) {
                true => Err(refused),
                false => Err(no_version(&show.name, number, versions)),
            }
        }
    }
}

/// Compiles a version that is kept, and makes it the one in force, as `versions` have it already.
async fn put_in_force<S: Store, R: Runtime<S::Snapshot>>(
    core: &Arc<Core<S, R>>,
    turn: OwnedMutexGuard<()>,
    name: &str,
    versions: Versions,
    number: u64,
) -> Told {
    let registry = core.registry.load_full();
    let active_before = find(&registry, name)?.versions.active();
    let revived = revive(core, name, number).await;
    let (registered, artefact) = revived.map_err(|why| unusable(name, number, why))?;
    let told = ModuleDescription {
        active: true,
        change: Some(change_of(ModuleOutcome::Activated, active_before)),
        ..registered.description.clone()
    };
    let mut change = Change::to(name, versions, Some(Arc::new(registered)))?;
    change.add_compiled(artefact)?;
    let sequence = carry_out(core, turn, change).await?;
    tracing::info!(module = name, version = number, active_before, "activated");
    Ok((Reply::Module(Box::new(told)), sequence))
}

/// Tells that everything is so already; and waits for the commit that made it so.
async fn unchanged<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    registry: &Registry<R::Module>,
    name: &str,
    number: u64,
) -> Told {
    let entry = find(registry, name)?;
    let mut description = kept(core, name, entry, number).await?;
    let active = entry.versions.active();
    description.change = Some(change_of(ModuleOutcome::Unchanged, active));
    Ok((Reply::Module(Box::new(description)), registry.sequence))
}

/// What a version that is kept is.
async fn kept<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    name: &str,
    entry: &ModuleEntry<R::Module>,
    number: u64,
) -> Result<ModuleDescription, ErrorReply> {
    if !entry.versions.kept().contains_key(&number) {
        return Err(no_version(name, number, &entry.versions));
    }
    let mut description = match &entry.active {
        Some(active) if active.description.version == number => active.description.clone(),
        _ => {
            let described = describe_kept(core, name, number).await;
            described.map_err(|why| unusable(name, number, why))?
        }
    };
    description.active = entry.versions.active() == Some(number);
    Ok(description)
}

/// Changes of modules wait for each other, because each is planned on what the last one left.
async fn turn<S: Store, R: Runtime<S::Snapshot>>(core: &Core<S, R>) -> OwnedMutexGuard<()> {
    Arc::clone(&core.pushes).lock_owned().await
}

/// The module of this name.
///
/// # Errors
/// There is none.
pub(super) fn find<'a, M>(
    registry: &'a Registry<M>,
    name: &str,
) -> Result<&'a ModuleEntry<M>, ErrorReply> {
    let entry = registry.modules().get(name);
    entry
        .map(|entry| &**entry)
        .ok_or_else(|| no_module(registry, name))
}

fn change_of(outcome: ModuleOutcome, active_before: Option<u64>) -> ModuleChange {
    ModuleChange {
        outcome,
        active_before,
        dropped: Vec::new(),
        dry_run: false,
        exports: Vec::new(),
    }
}

fn summary<M>(name: &str, entry: &ModuleEntry<M>) -> ModuleSummary {
    let versions = &entry.versions;
    let version = |it: &crate::function::Version| VersionSummary {
        version: it.number,
        sha256: hex(&it.sha256),
        size: it.size,
        pushed_ms: it.pushed_ms,
        procedures: it.procedures,
        hooks: it.hooks,
        granted: it.granted,
        settings: it.settings.as_ref().map(|settings| hex(settings)),
    };
    ModuleSummary {
        name: name.to_owned(),
        active: versions.active(),
        rollback: versions.rollback_target(),
        stored_bytes: versions.stored_bytes(),
        versions: versions.kept().values().map(version).collect(),
    }
}

/// A version that the store has, and that can't be used. What is in force stays so.
fn unusable(name: &str, number: u64, why: Unusable) -> ErrorReply {
    match why {
        Unusable::Refused(reason) => {
            let message = format!(
                "version {number} of the module `{name}` can't be used: {reason}; nothing was changed"
            );
            ErrorReply::new(ErrorCode::InvalidModule, message)
        }
        Unusable::Store(error) => match CommandError::from(error) {
            CommandError::Store(error) => refusal::store(&error),
            CommandError::Refused(reply) => reply,
        },
    }
}

fn outcome(told: Told) -> Outcome {
    match told {
        Ok((reply, sequence)) => (Ok(reply), sequence),
        Err(refused) => (Err(refused), 0),
    }
}
