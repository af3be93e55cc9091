//! Pushes: a new version, one that is kept already, or a dry run of either.

use std::sync::Arc;

use bytes::Bytes;
use luge_protocol::{ErrorCode, ErrorReply, ModuleChange, ModuleOutcome, ModulePush, Reply};

use super::super::{Core, refusal};
use super::candidate::{Asked, Prepared, check, prepare};
use super::loading::summary;
use super::records::{Change, RECORD_FORMAT, VersionRecord, carry_out, encode};
use super::unknown::no_room;
use super::{Told, change_of, put_in_force, turn, unchanged};
use crate::function::{
    CallLimits, ModuleEntry, Registered, Runtime, Version, VersionBounds, Versions,
};
use crate::store::Store;

/// A new version, and what it makes of the others.
struct Plan<M> {
    registered: Registered<M>,
    version: Version,
    record: Bytes,
    versions: Versions,
    dropped: Vec<Version>,
    change: ModuleChange,
}

/// Registers a module, or a new version of it. What is kept already is not stored again.
pub(super) async fn push<S: Store, R: Runtime<S::Snapshot>>(
    core: &Arc<Core<S, R>>,
    push: &ModulePush<'_>,
) -> Told {
    let turn = turn(core).await;
    let asked = check(core, push)?;
    let registry = core.registry.load_full();
    let name = &*push.name;
    let entry = registry.modules().get(name).map(|entry| &**entry);
    if let Some(entry) = entry
        && let Some(number) = entry.versions.find(&asked.sha256, &asked.settings)
    {
        return match outcome_of_kept(push, &entry.versions, number) {
            ModuleOutcome::Activated => {
                let mut versions = entry.versions.clone();
                versions.activate(number);
                put_in_force(core, turn, name, versions, number).await
            }
            _ => unchanged(core, &registry, name, number).await,
        };
    }
    let versions = entry.map_or_else(Versions::default, |entry| entry.versions.clone());
    let mut prepared = prepare(core, push, &asked, versions.next()).await?;
    if !is_inactive(push) {
        check_replaced(entry, &prepared.registered)?;
    }
    let artefact = prepared.artefact.take();
    let plan = plan(push, &asked, prepared, versions, core.settings.versions)?;
    let mut told = plan.registered.description.clone();
    let active = match is_inactive(push) {
        true => entry.and_then(|entry| entry.active.clone()),
        false => Some(Arc::new(plan.registered)),
    };
    let mut change = Change::to(name, plan.versions, active)?;
    let has_binary = registry.has_binary(&asked.sha256);
    let wasm = (!has_binary).then(|| Bytes::copy_from_slice(&push.wasm));
    change.add_version(&plan.version, plan.record, wasm);
    change.add_compiled(artefact)?;
    change.drop_versions(&registry, &plan.dropped);
    let sequence = carry_out(core, turn, change).await?;
    let (version, is_active) = (plan.version.number, !is_inactive(push));
    tracing::info!(module = name, version, is_active, "pushed");
    told.active = is_active;
    told.change = Some(plan.change);
    Ok((Reply::Module(Box::new(told)), sequence))
}

/// What a push would do. It takes its turn like one: compilers and describers cost what they cost.
pub(super) async fn rehearse<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    push: &ModulePush<'_>,
) -> Told {
    let _turn = turn(core).await;
    let asked = check(core, push)?;
    let registry = core.registry.load_full();
    let entry = registry.modules().get(&*push.name).map(|entry| &**entry);
    let versions = entry.map_or_else(Versions::default, |entry| entry.versions.clone());
    let kept = versions.find(&asked.sha256, &asked.settings);
    let number = kept.unwrap_or(versions.next());
    let mut prepared = prepare(core, push, &asked, number).await?;
    let exports = std::mem::take(&mut prepared.exports);
    let is_active = !is_inactive(push) || versions.active() == Some(number);
    if kept.is_none() && !is_inactive(push) {
        check_replaced(entry, &prepared.registered)?;
    }
    let (mut told, mut change) = match versions.kept().get(&number) {
        Some(version) => {
            let mut told = prepared.registered.description;
            told.pushed_ms = version.pushed_ms;
            let outcome = outcome_of_kept(push, &versions, number);
            (told, change_of(outcome, versions.active()))
        }
        None => {
            let plan = plan(push, &asked, prepared, versions, core.settings.versions)?;
            (plan.registered.description, plan.change)
        }
    };
    change.dry_run = true;
    change.exports = exports;
    told.active = is_active;
    told.change = Some(change);
    Ok((Reply::Module(Box::new(told)), registry.sequence))
}

fn plan<M>(
    push: &ModulePush<'_>,
    asked: &Asked,
    prepared: Prepared<M>,
    mut versions: Versions,
    bounds: VersionBounds,
) -> Result<Plan<M>, ErrorReply> {
    let registered = prepared.registered;
    let settings = Some(asked.settings);
    let record = encode(&VersionRecord {
        format: RECORD_FORMAT,
        description: registered.description.clone(),
        limits: CallLimits::clone(&registered.limits),
        settings,
    })?;
    let version = summary(&registered.description, settings, record.len())
        .map_err(|reason| refusal::internal(&reason))?;
    let mut change = change_of(ModuleOutcome::Pushed, versions.active());
    let dropped = versions
        .add(version.clone(), !is_inactive(push), bounds)
        .map_err(|error| no_room(&push.name, &error))?;
    change.dropped = dropped.iter().map(|version| version.number).collect();
    Ok(Plan {
        registered,
        version,
        record,
        versions,
        dropped,
        change,
    })
}

/// Refuses what has no functions in place of a version in force that has some: mostly its describer has another name, or the
/// linker has dropped its exports, and hooks that guard keys would be gone.
fn check_replaced<M>(
    entry: Option<&ModuleEntry<M>>,
    new: &Registered<M>,
) -> Result<(), ErrorReply> {
    let has_functions = |module: &Registered<M>| {
        !module.description.procedures.is_empty() || !module.description.hooks.is_empty()
    };
    let active = entry.and_then(|entry| entry.active.as_deref());
    let Some(active) = active.filter(|active| has_functions(active) && !has_functions(new)) else {
        return Ok(());
    };
    let message = format!(
        "the module has no procedures and no hooks, and version {version}, which is in force, has some; push it inactive (`--inactive`, `inactive`), or remove the module",
        version = active.description.version,
    );
    Err(ErrorReply::new(ErrorCode::InvalidModule, message))
}

fn is_inactive(push: &ModulePush<'_>) -> bool {
    push.inactive == Some(true)
}

/// What becomes of a version that is kept when it is pushed again.
fn outcome_of_kept(push: &ModulePush<'_>, versions: &Versions, number: u64) -> ModuleOutcome {
    match is_inactive(push) || versions.active() == Some(number) {
        true => ModuleOutcome::Unchanged,
        false => ModuleOutcome::Activated,
    }
}
