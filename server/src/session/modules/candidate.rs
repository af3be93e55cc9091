//! What a push is checked for: its name and its sizes, what it compiles to, and what it says of itself.

use std::sync::Arc;

use luge_protocol::{
    ErrorCode, ErrorReply, ExportDescription, Isolation, ModuleDescription, ModulePush,
};
use sha2::{Digest, Sha256};

use super::super::Core;
use super::loading::registered;
use super::records::{context, encode, hex};
use crate::function::{
    Artefact, Budget, Call, CallLimits, Candidate, Changes, Described, Description, Exports,
    Function, Hash, ModuleContext, Registered, RequestContext, Running, Runtime, Stage, describe,
    tidy,
};
use crate::store::Store;

/// The longest name of a module, in bytes.
pub(super) const MAX_NAME_BYTES: usize = 64;

/// The most that the configuration of a module may hold, in bytes of keys and values.
const MAX_CONFIG_BYTES: usize = 64 << 10;

/// The most describers of a module: one for each function that it may offer, and one for itself.
const MAX_DESCRIBERS: usize = 257;

/// What a push asks for, in the form in which it is kept and compared.
pub(super) struct Asked {
    pub(super) limits: CallLimits,
    pub(super) sha256: Hash,
    /// As of [`Version::settings`](crate::function::Version::settings).
    pub(super) settings: Hash,
}

/// A module that may be registered.
pub(super) struct Prepared<M> {
    pub(super) registered: Registered<M>,
    pub(super) exports: Vec<ExportDescription>,
    pub(super) artefact: Option<Artefact>,
}

/// Checks what can be told of a push before its binary is compiled.
pub(super) fn check<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    push: &ModulePush<'_>,
) -> Result<Asked, ErrorReply> {
    check_push(core, push)?;
    let asked = push.limits.clone().unwrap_or_default();
    let limits = core
        .settings
        .ceilings
        .resolve(&asked)
        .map_err(|error| ErrorReply::new(ErrorCode::InvalidModule, error.to_string()))?;
    let settings = settings(push, &limits)?;
    Ok(Asked {
        settings: Sha256::digest(settings).into(),
        sha256: Sha256::digest(&push.wasm[..]).into(),
        limits,
    })
}

/// The settings of a push, as bytes that no other settings have.
fn settings(push: &ModulePush<'_>, limits: &CallLimits) -> Result<Vec<u8>, ErrorReply> {
    let settings = (
        push.config.clone().unwrap_or_default(),
        limits,
        push.overrides.as_deref().unwrap_or_default(),
    );
    let mut settings = encode(&settings)?.to_vec();
    // What was not asked for adds nothing, so that versions are found again that were pushed before it
    // could be asked for.
    if let Some(grant) = &push.grant {
        settings.extend_from_slice(&encode(&tidy(grant))?);
    }
    if let Some(isolation) = &push.isolation {
        settings.extend_from_slice(&encode(isolation)?);
    }
    Ok(settings)
}

/// Compiles and describes a module under the number that it would get, and stores nothing.
pub(super) async fn prepare<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    push: &ModulePush<'_>,
    asked: &Asked,
    number: u64,
) -> Result<Prepared<R::Module>, ErrorReply> {
    let limits = asked.limits.clone();
    let invalid = |reason: String| {
        let message = format!("the module `{}` can't be registered: {reason}", push.name);
        ErrorReply::new(ErrorCode::InvalidModule, message)
    };
    let candidate = Candidate {
        name: &push.name,
        wasm: &push.wasm,
        limits: &limits,
    };
    let loaded = core.runtime.load(candidate).await.map_err(invalid)?;
    let module = loaded.module;
    let mut description = ModuleDescription {
        name: push.name.clone().into_owned(),
        version: number,
        active: false,
        sha256: hex(&asked.sha256),
        size: push.wasm.len() as u64,
        pushed_ms: (core.surroundings.wall_ms)(),
        release: String::new(),
        description: String::new(),
        procedures: Vec::new(),
        hooks: Vec::new(),
        config: push.config.clone().unwrap_or_default(),
        limits: limits.told(),
        grant: None,
        isolation: Isolation::Fresh,
        warnings: Vec::new(),
        change: None,
    };
    let describing = Arc::new(context(&description, asked.sha256, &core.log));
    let offered = ask(core, push, &module, &limits, &describing)
        .await
        .map_err(invalid)?;
    description.release = offered.release;
    description.description = offered.description;
    description.procedures = offered.procedures;
    description.hooks = offered.hooks;
    description.grant = offered.grant;
    description.isolation = offered.isolation;
    description.warnings = offered.warnings;
    let stats = core.stats.fresh(&description);
    let of = (description, asked.sha256, limits);
    Ok(Prepared {
        exports: told_exports(core.runtime.exports(&module)),
        artefact: loaded.artefact,
        registered: registered(core, of, module, stats),
    })
}

fn told_exports(exports: &Exports) -> Vec<ExportDescription> {
    let callable = exports.callable.iter().map(|name| ExportDescription {
        export: name.clone(),
        signature: "() -> i32".to_owned(),
    });
    let others = exports
        .others
        .iter()
        .map(|(name, signature)| ExportDescription {
            export: name.clone(),
            signature: signature.clone(),
        });
    let mut told: Vec<ExportDescription> = callable.chain(others).collect();
    told.sort_by(|left, right| left.export.cmp(&right.export));
    told
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
        // Together they write no more than one call may.
        let room = limits.output_bytes.saturating_sub(lines.len());
        lines.extend(ask_one(core, module, name, limits, room, context).await?);
        lines.push(b'\n');
    }
    let described = if describers.is_empty() {
        Described::Nothing
    } else {
        Described::Lines(&lines)
    };
    let changes = Changes {
        overrides: push.overrides.as_deref().unwrap_or_default(),
        grant: push.grant.as_ref(),
        isolation: push.isolation,
    };
    describe(
        described,
        exports,
        changes,
        core.settings.command.max_key_bytes,
    )
    .map_err(|error| error.to_string())
}

/// Runs one describer; answers what it wrote.
async fn ask_one<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    module: &R::Module,
    name: &str,
    limits: &CallLimits,
    max_output_bytes: usize,
    context: &Arc<ModuleContext>,
) -> Result<Vec<u8>, String> {
    let seed = (core.surroundings.seed)();
    let request = RequestContext {
        command: "module.push",
        ..RequestContext::default()
    };
    let function = Arc::new(Function {
        module: Arc::clone(context),
        name: name.into(),
        export: core.runtime.export(module, name),
        counted: None,
    });
    let running = Arc::new(Running::new(request));
    let mut call = Box::new(Call::new(Stage::Describe, None, running, function, seed));
    call.max_output_bytes = max_output_bytes;
    let begun = (core.surroundings.now)();
    let budget = Budget {
        limits: Arc::new(limits.clone()),
        cpu: limits.cpu,
        begun: Some(begun),
        deadline: begun + limits.deadline,
        isolation: Isolation::Fresh,
        is_alone: false,
    };
    let mut instance = None;
    let called = core.runtime.call(module, &mut instance, call, budget);
    let ended = called.await;
    // It would wait for calls that a module may never have.
    if let Some(instance) = instance {
        core.runtime.retire(instance);
    }
    match ended.outcome {
        Ok(0) => Ok(ended.call.map(|call| call.output).unwrap_or_default()),
        Ok(code) => Err(format!(
            "its describer `{name}` returned {code}, and should return 0"
        )),
        Err(failure) => Err(format!(
            "its describer `{name}` failed: {}",
            failure.message
        )),
    }
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
    if count >= limit && !registry.modules().contains_key(&*push.name) {
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
