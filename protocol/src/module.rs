//! How modules, hooks and procedures are described.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::Key;
use crate::list::list;

/// The five commands that hooks see. The discriminants are the numbers of the guest ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HookCommand {
    /// A value leaves the server.
    Get = 1,
    /// A value is stored.
    Set = 2,
    /// A key is deleted.
    Del = 3,
    /// A key's time to live changes.
    Expire = 4,
    /// A procedure is called; the key is its name, the value its arguments.
    Call = 5,
}

impl HookCommand {
    /// Every command, by its number.
    pub const ALL: [Self; 5] = [Self::Get, Self::Set, Self::Del, Self::Expire, Self::Call];

    /// The name that describers use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Set => "set",
            Self::Del => "del",
            Self::Expire => "expire",
            Self::Call => "call",
        }
    }

    /// The command of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|command| command.name() == name)
    }
}

/// When a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Before the command.
    Request,
    /// After it.
    Response,
}

/// What a hook's failure (a trap, a spent budget) means for the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// The request is refused.
    #[default]
    Block,
    /// The hook is passed over: it fails open.
    Continue,
}

/// A hook, as it is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookDescription {
    /// The function that the module exports.
    pub hook: String,
    /// When it runs.
    pub phase: Phase,
    /// The commands that it runs for.
    pub commands: Vec<HookCommand>,
    /// The keys that it runs for: those that begin so.
    pub prefix: Bytes,
    /// Its place: request hooks run in ascending order, response hooks in descending order.
    pub order: i32,
    /// What its failure means.
    pub on_failure: OnFailure,
    /// What its author says of it.
    #[serde(default)]
    pub description: String,
}

/// A procedure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcedureDescription {
    /// The function that the module exports.
    pub procedure: String,
    /// Whether it may not write.
    pub read_only: bool,
    /// What its author says of it.
    #[serde(default)]
    pub description: String,
}

/// Whether a call has an instance of its own, or one that others used before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Each request has instances of its own.
    #[default]
    Fresh,
    /// Instances are kept between requests, with what is in their memory.
    Reuse,
}

/// The keys that the functions of a module may use, by their prefixes. The empty one stands for every key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grant {
    /// The keys that they may read: those that begin so.
    #[serde(deserialize_with = "list")]
    pub read: Vec<Bytes>,
    /// The keys that they may write.
    #[serde(deserialize_with = "list")]
    pub write: Vec<Bytes>,
}

/// A version of a module, in full.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModuleDescription {
    /// The name that it was pushed under.
    pub name: String,
    /// The number of this version, counted from 1 for each name.
    pub version: u64,
    /// Whether it is the version in force.
    #[serde(default)]
    pub active: bool,
    /// SHA-256 of the Wasm binary, in hexadecimal.
    pub sha256: String,
    /// The binary's size, in bytes.
    pub size: u64,
    /// When it was pushed: milliseconds since 1970, by the server's clock.
    pub pushed_ms: u64,
    /// The release that its author names.
    #[serde(default)]
    pub release: String,
    /// What its author says of it.
    #[serde(default)]
    pub description: String,
    /// Its procedures, by name.
    pub procedures: Vec<ProcedureDescription>,
    /// Its hooks, by name.
    pub hooks: Vec<HookDescription>,
    /// The configuration that it was given.
    pub config: BTreeMap<String, String>,
    /// The limits in force, all fields present.
    pub limits: LimitsRequest,
    /// The keys that its functions may use; nil means every key.
    #[serde(default)]
    pub grant: Option<Grant>,
    /// Whether its instances are kept between requests.
    #[serde(default)]
    pub isolation: Isolation,
    /// What an operator should know, such as hooks that fail open.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// What the request did, where it was a push, an activation or a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<ModuleChange>,
}

/// What a push, an activation or a rollback did; of a dry run, what it would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleChange {
    /// What became of the version.
    pub outcome: ModuleOutcome,
    /// The version that was active before the request; nil where none was.
    pub active_before: Option<u64>,
    /// The versions that are no longer kept, to make room.
    #[serde(default, deserialize_with = "list")]
    pub dropped: Vec<u64>,
    /// Whether nothing was changed, because only a check was asked for.
    #[serde(default)]
    pub dry_run: bool,
    /// The functions that the module exports, by name; only of a dry run.
    #[serde(default, deserialize_with = "list")]
    pub exports: Vec<ExportDescription>,
}

/// What became of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModuleOutcome {
    /// It is new.
    Pushed,
    /// It was kept, and is put in force.
    Activated,
    /// Everything was so already.
    Unchanged,
}

/// A function that a module exports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportDescription {
    /// Its name.
    pub export: String,
    /// Its type, such as `() -> i32`.
    #[serde(rename = "type")]
    pub signature: String,
}

/// A registered module, with a line for each of its versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleSummary {
    /// The name that it was pushed under.
    pub name: String,
    /// The version in force; nil where none is.
    pub active: Option<u64>,
    /// The version that a rollback would put in force; nil where there is none.
    pub rollback: Option<u64>,
    /// What all versions take in the store, in bytes; a binary that several have counts once.
    pub stored_bytes: u64,
    /// The versions that are kept, by number.
    #[serde(deserialize_with = "list")]
    pub versions: Vec<VersionSummary>,
}

/// A version of a module, in one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionSummary {
    /// Its number.
    pub version: u64,
    /// SHA-256 of the Wasm binary, in hexadecimal.
    pub sha256: String,
    /// The binary's size, in bytes.
    pub size: u64,
    /// When it was pushed: milliseconds since 1970, by the server's clock.
    pub pushed_ms: u64,
    /// How many procedures it has.
    pub procedures: u64,
    /// How many hooks it has.
    pub hooks: u64,
    /// How many prefixes of keys its functions may use, those to read and those to write; nil means every
    /// key.
    #[serde(default)]
    pub granted: Option<u64>,
    /// Tells the settings of its push from those of another, as SHA-256 in hexadecimal; nil where they are not
    /// known.
    #[serde(default)]
    pub settings: Option<String>,
}

/// Limits of a call, asked for or in force. What is left out is the server's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsRequest {
    /// Fuel of one attempt.
    pub fuel: Option<u64>,
    /// Time running of one attempt, in milliseconds.
    pub cpu_ms: Option<u64>,
    /// Wall clock from the first attempt on, in milliseconds.
    pub deadline_ms: Option<u64>,
    /// Linear memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// Output, in bytes.
    pub output_bytes: Option<u64>,
    /// Keys written.
    pub write_keys: Option<u64>,
    /// Bytes of the keys and values written.
    pub write_bytes: Option<u64>,
    /// Elements of a table.
    pub table_elements: Option<u64>,
    /// Requests that run functions of the module at once; of no effect on a single call.
    pub running_calls: Option<u64>,
}

/// What a push changes of the hooks that the module describes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HookOverride<'a> {
    /// The hook; nil means every hook of the module.
    pub hook: Option<String>,
    /// The prefix in place of the described one.
    #[serde(borrow)]
    pub prefix: Option<Key<'a>>,
    /// The order in place of the described one.
    pub order: Option<i32>,
    /// The rule in place of the described one.
    pub on_failure: Option<OnFailure>,
}
