//! Modules: pushed, shown, listed and removed.

mod records;

use std::sync::Arc;

use bytes::Bytes;
use luge_protocol::{ErrorCode, ErrorReply, ModuleDescription, ModulePush, ModuleSummary, Reply};
use sha2::{Digest, Sha256};

use super::{Core, Outcome, refusal};
use crate::function::{
    Budget, Call, CallLimits, Candidate, Described, Description, Exports, ModuleContext,
    Registered, RequestContext, Runtime, Stage, describe,
};
use crate::store::Store;

use records::{RECORD_FORMAT, Record, change, context, hex};

pub use records::{LoadError, load_modules};

/// The longest name of a module, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// The most that the configuration of a module may hold, in bytes of keys and values.
const MAX_CONFIG_BYTES: usize = 64 << 10;

/// The most describers of a module: one for each function that it may offer, and one for itself.
const MAX_DESCRIBERS: usize = 257;

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

/// Checks, compiles and describes a module, and stores nothing.
async fn prepare<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    push: &ModulePush<'_>,
) -> Result<(Record, Registered<R::Module>), ErrorReply> {
    check_push(core, push)?;
    let asked = push.limits.clone().unwrap_or_default();
    let limits = core
        .settings
        .ceilings
        .resolve(&asked)
        .map_err(|error| ErrorReply::new(ErrorCode::InvalidModule, error.to_string()))?;
    let invalid = |reason: String| {
        let message = format!("the module `{}` can't be registered: {reason}", push.name);
        ErrorReply::new(ErrorCode::InvalidModule, message)
    };
    let candidate = Candidate {
        name: &push.name,
        wasm: &push.wasm,
        limits: &limits,
    };
    let module = core.runtime.load(candidate).await.map_err(invalid)?;
    let hash = Sha256::digest(&push.wasm[..]);
    let mut description = ModuleDescription {
        name: push.name.clone().into_owned(),
        version: next_version(core, &push.name),
        sha256: hex(&hash),
        size: push.wasm.len() as u64,
        pushed_ms: (core.surroundings.wall_ms)(),
        release: String::new(),
        description: String::new(),
        procedures: Vec::new(),
        hooks: Vec::new(),
        config: push.config.clone().unwrap_or_default(),
        limits: limits.told(),
        warnings: Vec::new(),
    };
    let context = Arc::new(context(&description, hash.into()));
    let offered = ask(core, push, &module, &limits, &context)
        .await
        .map_err(invalid)?;
    description.release = offered.release;
    description.description = offered.description;
    description.procedures = offered.procedures;
    description.hooks = offered.hooks;
    description.warnings = offered.warnings;
    let wasm = Bytes::copy_from_slice(&push.wasm);
    let record = Record {
        format: RECORD_FORMAT,
        description: description.clone(),
        limits: limits.clone(),
        wasm,
    };
    Ok((
        record,
        Registered {
            description,
            module,
            limits,
            context,
        },
    ))
}

/// Runs the describers of a module and reads what they say.
async fn ask<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    push: &ModulePush<'_>,
    module: &R::Module,
    limits: &CallLimits,
    context: &Arc<ModuleContext>,
) -> Result<Description, String> {
    let exports = core.runtime.exports(module);
    let describers = describers(exports)?;
    let mut lines = Vec::new();
    for name in &describers {
        let seed = (core.surroundings.seed)();
        let request = RequestContext {
            command: "module.push",
            ..RequestContext::default()
        };
        let mut call = Box::new(Call::new(
            Stage::Describe,
            None,
            request,
            Arc::clone(context),
            seed,
        ));
        // Together they write no more than one call may.
        call.max_output_bytes = limits.output_bytes.saturating_sub(lines.len());
        let deadline = (core.surroundings.now)() + limits.deadline;
        let budget = Budget {
            limits: limits.clone(),
            cpu: limits.cpu,
            deadline,
            running: Arc::default(),
        };
        let ended = core
            .runtime
            .call(module, &mut None, name, call, &budget)
            .await;
        match ended.outcome {
            Ok(0) => {}
            Ok(code) => {
                return Err(format!(
                    "its describer `{name}` returned {code}, and should return 0"
                ));
            }
            Err(failure) => {
                return Err(format!(
                    "its describer `{name}` failed: {}",
                    failure.message
                ));
            }
        }
        lines.extend(ended.call.map(|call| call.output).unwrap_or_default());
        lines.push(b'\n');
    }
    let described = if describers.is_empty() {
        Described::Nothing
    } else {
        Described::Lines(&lines)
    };
    let overrides = push.overrides.as_deref().unwrap_or_default();
    describe(
        described,
        exports,
        overrides,
        core.settings.command.max_key_bytes,
    )
    .map_err(|error| error.to_string())
}

/// The names of a module's describers, in the order in which they run.
fn describers(exports: &Exports) -> Result<Vec<&String>, String> {
    let is_describer = |name: &&String| *name == "metadata" || name.starts_with("metadata_");
    let mut names: Vec<&String> = exports.callable.iter().filter(is_describer).collect();
    names.sort();
    match names.len() {
        0..=MAX_DESCRIBERS => Ok(names),
        count => Err(format!(
            "it has {count} describers, which exceeds the limit of {MAX_DESCRIBERS}"
        )),
    }
}

fn check_push<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    push: &ModulePush<'_>,
) -> Result<(), ErrorReply> {
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let name = push.name.as_bytes();
    let is_name = name.first().is_some_and(u8::is_ascii_alphabetic)
        && name.iter().all(|byte| is_name_byte(*byte))
        && name.len() <= MAX_NAME_BYTES;
    if !is_name {
        let shown: String = push.name.chars().take(MAX_NAME_BYTES).collect();
        let message = format!(
            "`{}` is no name for a module; a name has 1 to {MAX_NAME_BYTES} letters, digits, `_` and `-`, beginning with a letter",
            shown.escape_default()
        );
        return Err(ErrorReply::new(ErrorCode::BadRequest, message));
    }
    let (size, limit) = (push.wasm.len(), core.settings.max_module_bytes);
    if size > limit {
        let message = format!("the module of {size} bytes exceeds the limit of {limit}");
        return Err(ErrorReply::new(ErrorCode::InvalidModule, message));
    }
    let registry = core.registry.load();
    let (count, limit) = (registry.modules().len(), core.settings.max_modules);
    if count >= limit && registry.module(&push.name).is_none() {
        let message =
            format!("{count} modules are registered, and the limit is {limit}; remove one first");
        return Err(ErrorReply::new(ErrorCode::InvalidModule, message));
    }
    let config = push.config.iter().flatten();
    let size: usize = config.map(|(key, value)| key.len() + value.len()).sum();
    if size > MAX_CONFIG_BYTES {
        let message =
            format!("the configuration of {size} bytes exceeds the limit of {MAX_CONFIG_BYTES}");
        return Err(ErrorReply::new(ErrorCode::InvalidModule, message));
    }
    Ok(())
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
