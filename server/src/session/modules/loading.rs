//! Modules as they come out of the store: at the start, and when a version is put in force again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use luge_protocol::ModuleDescription;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::super::Core;
use super::records::{
    Change, FORMAT_WITHOUT_GRANTS, MODULES, ModuleRecord, RECORD_FORMAT, VersionRecord, binary_key,
    compiled_key, context, encode, hex, keep, module_key, store, version_key, version_prefix,
};
use crate::function::{
    Artefact, CallLimits, Candidate, Compiled, Function, Hash, ModuleEntry, Registered, Registry,
    Runtime, Version, VersionStats, Versions,
};
use crate::store::{PageLimit, ReadPoint, Snapshot, Store};
use crate::transaction::{
    Keyspace, Scan, ScanOrder, Transaction, TransactionError, WriteLimits, prefix_end,
};

/// Why the modules in the store can't be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] TransactionError),
    /// A module that was accepted once is refused now.
    #[error(
        "the stored module `{name}` can't be loaded: {reason}; unless that names a setting or the machine, the release that accepted it can serve this folder"
    )]
    Module {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

/// Why a version can't be taken out of the store.
pub(super) enum Unusable {
    Store(TransactionError),
    /// In one sentence.
    Refused(String),
}

impl From<TransactionError> for Unusable {
    fn from(error: TransactionError) -> Self {
        Self::Store(error)
    }
}

impl From<String> for Unusable {
    fn from(reason: String) -> Self {
        Self::Refused(reason)
    }
}

/// Loads every module that the store keeps. Only active versions are compiled,
/// where their compiled forms are not kept.
///
/// # Errors
/// The store failed, or a module is refused.
pub async fn load_modules<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
) -> Result<usize, LoadError> {
    convert_old_records(core).await?;
    let keys = Mutex::new(keys(core, &[MODULES], &[MODULES + 1]).await?);
    let load = || load_one_after_the_other(core, &keys);
    // Four at a time keep two or three processors at the hashing and linking of compiled code, while another's records are
    // read; a start has nothing else to do for them.
    let loaded = tokio::try_join!(load(), load(), load(), load())?;
    let modules: BTreeMap<_, _> = <[_; 4]>::from(loaded).into_iter().flatten().collect();
    let count = modules.len();
    let versions = modules
        .values()
        .flat_map(|entry: &Arc<ModuleEntry<R::Module>>| entry.versions.kept().values());
    let binaries: Vec<Hash> = versions.map(|version| version.sha256).collect();
    core.runtime.keep_only(&binaries);
    let registry = Registry::new(modules, 0);
    core.stats.keep(&registry);
    core.registry.store(Arc::new(registry));
    Ok(count)
}

/// Loads modules until no key is left.
async fn load_one_after_the_other<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    keys: &Mutex<Vec<Bytes>>,
) -> Result<Vec<(String, Arc<ModuleEntry<R::Module>>)>, LoadError> {
    let next = || keys.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut modules = Vec::new();
    while let Some(key) = next() {
        let name = String::from_utf8_lossy(key.get(1..).unwrap_or_default()).into_owned();
        let entry = load_module(core, &name).await;
        let entry = entry.map_err(|why| of(&name, why))?;
        modules.push((name, Arc::new(entry)));
    }
    Ok(modules)
}

/// A version in force, of what the runtime made of it.
pub(super) fn registered<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    (description, sha256, limits): (ModuleDescription, Hash, CallLimits),
    module: R::Module,
    stats: Arc<VersionStats>,
) -> Registered<R::Module> {
    let context = Arc::new(context(&description, sha256, &core.log));
    let function = |name: &String| {
        Arc::new(Function {
            module: Arc::clone(&context),
            name: name.as_str().into(),
            export: core.runtime.export(&module, name),
            counted: stats.place(name),
        })
    };
    let procedures = description.procedures.iter();
    let procedures = procedures.map(|it| function(&it.procedure)).collect();
    let hooks = description.hooks.iter();
    let hooks = hooks.map(|it| function(&it.hook)).collect();
    Registered {
        gate: core.settings.gate(&limits),
        limits: Arc::new(limits),
        description,
        module,
        context,
        procedures,
        hooks,
        stats,
    }
}

/// A version that is kept, ready to be called; and what was compiled for that, where nothing that was
/// kept could be taken.
pub(super) async fn revive<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    name: &str,
    number: u64,
) -> Result<(Registered<R::Module>, Option<Artefact>), Unusable> {
    let mut transaction = begin(core).await?;
    let record = read_version(&mut transaction, name, number).await?;
    let (description, limits) = under_ceilings(core, record);
    let sha256 = parse_hash(&description.sha256)?;
    let stats = core.stats.of(&description);
    let of = |module| {
        let of = (description.clone(), sha256, limits.clone());
        registered(core, of, module, Arc::clone(&stats))
    };
    if let Some(compiled) = read_compiled(&mut transaction, &sha256).await?
        && let Some(module) = core.runtime.restore(&sha256, &compiled, &limits).await
    {
        return Ok((of(module), None));
    }
    let wasm = read_binary(&mut transaction, &description.sha256).await?;
    // A snapshot grows old while a module is compiled.
    drop(transaction);
    let candidate = Candidate {
        name,
        wasm: &wasm,
        limits: &limits,
    };
    let loaded = core.runtime.load(candidate).await?;
    Ok((of(loaded.module), loaded.artefact))
}

/// What a version that is kept is, as it would be in force.
pub(super) async fn describe_kept<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    name: &str,
    number: u64,
) -> Result<ModuleDescription, Unusable> {
    let mut transaction = begin(core).await?;
    let record = read_version(&mut transaction, name, number).await?;
    Ok(under_ceilings(core, record).0)
}

async fn load_module<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    name: &str,
) -> Result<ModuleEntry<R::Module>, Unusable> {
    let mut transaction = begin(core).await?;
    let record = transaction
        .record(Keyspace::Modules, &module_key(name))
        .await?
        .ok_or_else(|| "its record is not there".to_owned())?;
    let record: ModuleRecord = decode(&record)?;
    check_format(record.format)?;
    let prefix = version_prefix(name);
    let mut scan = Scan::of(
        Keyspace::Modules,
        &prefix,
        &prefix_end(&prefix),
        ScanOrder::Ascending,
        false,
    );
    let mut kept = Vec::new();
    while !scan.is_done() {
        // One at a time: descriptions may be long.
        let page = PageLimit { rows: 1, bytes: 1 };
        for (_, live) in transaction.scan(&mut scan, page).await? {
            kept.push(read_summary(&live.value)?);
        }
    }
    drop(transaction);
    let versions = Versions::restored(kept, record.active, record.trail, record.newest)?;
    let active = match versions.active() {
        Some(number) => {
            let (registered, artefact) = revive(core, name, number).await?;
            if let Some(artefact) = artefact {
                keep(core, artefact).await.map_err(TransactionError::from)?;
            }
            Some(Arc::new(registered))
        }
        None => None,
    };
    Ok(ModuleEntry { versions, active })
}

async fn begin<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
) -> Result<Transaction<S::Snapshot>, TransactionError> {
    let snapshot = core.store.begin(ReadPoint::Newest).await?;
    Ok(Transaction::new(
        snapshot,
        WriteLimits { keys: 0, bytes: 0 },
    ))
}

async fn keys<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    start: &[u8],
    end: &[u8],
) -> Result<Vec<Bytes>, TransactionError> {
    let mut transaction = begin(core).await?;
    let mut scan = Scan::of(Keyspace::Modules, start, end, ScanOrder::Ascending, true);
    let mut keys = Vec::new();
    while !scan.is_done() {
        // A store need not leave values out, and one of the old format has a binary in it.
        let page = PageLimit { rows: 1, bytes: 1 };
        let rows = transaction.scan(&mut scan, page).await?;
        keys.extend(rows.into_iter().map(|(key, _)| key));
    }
    Ok(keys)
}

async fn read_version<S: Snapshot>(
    transaction: &mut Transaction<S>,
    name: &str,
    number: u64,
) -> Result<VersionRecord, Unusable> {
    let record = transaction
        .record(Keyspace::Modules, &version_key(name, number))
        .await?
        .ok_or_else(|| format!("the record of version {number} is not there"))?;
    let record: VersionRecord = decode(&record)?;
    check_format(record.format)?;
    Ok(record)
}

/// What tells the compiled form of a binary. One that can't be read is as good as none.
async fn read_compiled<S: Snapshot>(
    transaction: &mut Transaction<S>,
    sha256: &Hash,
) -> Result<Option<Compiled>, Unusable> {
    let record = transaction
        .record(Keyspace::Modules, &compiled_key(sha256))
        .await?;
    Ok(record.and_then(|record| decode(&record).ok()))
}

async fn read_binary<S: Snapshot>(
    transaction: &mut Transaction<S>,
    sha256: &str,
) -> Result<Bytes, Unusable> {
    let hash = parse_hash(sha256)?;
    let wasm = transaction
        .record(Keyspace::Modules, &binary_key(&hash))
        .await?
        .ok_or_else(|| format!("its binary of the SHA-256 {sha256} is not there"))?;
    check_hash(&wasm, sha256)?;
    Ok(wasm)
}

fn read_summary(bytes: &[u8]) -> Result<Version, String> {
    let record: VersionRecord = decode(bytes)?;
    check_format(record.format)?;
    summary(&record.description, record.settings, bytes.len())
}

/// What is known of a version without a look into the store.
pub(super) fn summary(
    description: &ModuleDescription,
    settings: Option<Hash>,
    record_bytes: usize,
) -> Result<Version, String> {
    Ok(Version {
        number: description.version,
        sha256: parse_hash(&description.sha256)?,
        size: description.size,
        settings,
        pushed_ms: description.pushed_ms,
        procedures: description.procedures.len() as u64,
        hooks: description.hooks.len() as u64,
        granted: description
            .grant
            .as_ref()
            .map(|it| (it.read.len() + it.write.len()) as u64),
        record_bytes: record_bytes as u64,
    })
}

/// The ceilings may have been lowered since the push.
fn under_ceilings<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
    record: VersionRecord,
) -> (ModuleDescription, CallLimits) {
    let limits = record.limits.lowered_by(&core.settings.ceilings.max.told());
    let description = ModuleDescription {
        limits: limits.told(),
        ..record.description
    };
    (description, limits)
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    rmp_serde::from_slice(bytes).map_err(|error| error.to_string())
}

fn check_format(format: u32) -> Result<(), String> {
    match (FORMAT_WITHOUT_GRANTS..=RECORD_FORMAT).contains(&format) {
        true => Ok(()),
        false => Err(format!(
            "its record has format {format}, and not {FORMAT_WITHOUT_GRANTS} or {RECORD_FORMAT}"
        )),
    }
}

fn check_hash(wasm: &[u8], sha256: &str) -> Result<(), String> {
    match hex(&Sha256::digest(wasm)) == sha256 {
        true => Ok(()),
        false => Err("its binary does not have the SHA-256 that its record names".to_owned()),
    }
}

fn parse_hash(sha256: &str) -> Result<Hash, String> {
    let wrong = || format!("its record has {sha256:?} in place of a SHA-256");
    let digit = |at: usize| sha256.get(2 * at..2 * at + 2);
    let mut hash = Hash::default();
    for (at, byte) in hash.iter_mut().enumerate() {
        let pair = digit(at).ok_or_else(wrong)?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
    }
    match hex(&hash) == sha256 {
        true => Ok(hash),
        false => Err(wrong()),
    }
}

fn of(name: &str, why: Unusable) -> LoadError {
    match why {
        Unusable::Store(error) => LoadError::Store(error),
        Unusable::Refused(reason) => LoadError::Module {
            name: name.to_owned(),
            reason,
        },
    }
}

/// Format 1 had one version of each module, and its binary in the same record.
#[derive(Deserialize)]
struct OldRecord {
    format: u32,
    description: ModuleDescription,
    limits: CallLimits,
    wasm: Bytes,
}

const OLD_FORMAT: u32 = 1;

/// Writes records of format 1 anew, each module in one commit.
async fn convert_old_records<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
) -> Result<(), LoadError> {
    for key in keys(core, b"A", b"{").await? {
        let name = String::from_utf8_lossy(&key).into_owned();
        let found = begin(core).await?.record(Keyspace::Modules, &key).await?;
        let Some(record) = found else { continue };
        let change = converted::<R::Module>(&name, &key, &record);
        let change = change.map_err(|reason| of(&name, reason.into()))?;
        store(core, &change).await.map_err(TransactionError::from)?;
        tracing::info!(
            module = name,
            "its record was written anew in format {RECORD_FORMAT}"
        );
    }
    Ok(())
}

fn converted<M>(name: &str, key: &[u8], record: &[u8]) -> Result<Change<M>, String> {
    let old: OldRecord = decode(record)?;
    if old.format != OLD_FORMAT {
        return Err(format!(
            "its record has format {}, and not {OLD_FORMAT} or {RECORD_FORMAT}",
            old.format
        ));
    }
    check_hash(&old.wasm, &old.description.sha256)?;
    let number = old.description.version;
    let record = VersionRecord {
        format: RECORD_FORMAT,
        description: old.description,
        limits: old.limits,
        // Format 1 kept the hooks as they were overridden, and not by what.
        settings: None,
    };
    let encoded = encode(&record).map_err(|error| error.to_string())?;
    let version = summary(&record.description, record.settings, encoded.len())?;
    let versions = Versions::restored(vec![version.clone()], Some(number), vec![], number)?;
    let mut change = Change::to(name, versions, None).map_err(|error| error.to_string())?;
    change.add_version(&version, encoded, Some(old.wasm));
    change.replaces(key.to_vec());
    Ok(change)
}
