//! The arguments of each command, in the order in which an array carries them.
//!
//! Each is accepted as an array in this order, trailing optional ones left out, or as a map by name.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, Error, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use crate::list::{list, optional_list, optional_map};
use crate::{Grant, HookOverride, Isolation, Key, LimitsRequest, LogLevel, Secret, Value};

/// The arguments of commands that take none: `[]` or `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoArguments {}

/// `hello`: the first request of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello<'a> {
    /// The protocol versions that the client speaks.
    #[serde(deserialize_with = "list")]
    pub versions: Vec<u32>,
    /// What the client calls itself. Self-declared: not for security.
    #[serde(default, borrow)]
    pub client: Option<Cow<'a, str>>,
    /// A token that proves who the user is.
    #[serde(default, borrow)]
    pub credentials: Option<Secret<'a>>,
}

/// `get`: the value of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Get<'a> {
    /// The key.
    #[serde(borrow)]
    pub key: Key<'a>,
}

/// What must hold for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The key is absent. On the wire `"absent"`.
    Absent,
    /// The key is present. On the wire `"present"`.
    Present,
    /// The key's version is this one; 0 means absent. On the wire the number.
    Version(u64),
}

/// `set`: stores a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set<'a> {
    /// The key.
    #[serde(borrow)]
    pub key: Key<'a>,
    /// The value.
    #[serde(borrow)]
    pub value: Value<'a>,
    /// The time to live in milliseconds, at least 1. Without it the key does not expire.
    #[serde(default)]
    pub ttl_ms: Option<u64>,
    /// Whether the key keeps the expiry that it has. Not together with `ttl_ms`.
    #[serde(default)]
    pub keep_ttl: Option<bool>,
    /// What must hold, else `precondition_failed`.
    #[serde(default)]
    pub condition: Option<Condition>,
    /// Whether the reply carries the value that the key had.
    #[serde(default)]
    pub return_old: Option<bool>,
}

/// A range of keys, `[start, end)`; an empty `end` reaches to the last key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range<'a> {
    /// The first key of the range.
    #[serde(borrow)]
    pub start: Key<'a>,
    /// The first key behind it.
    #[serde(borrow)]
    pub end: Key<'a>,
}

/// `del`: deletes keys, or a range of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Del<'a> {
    /// The keys. Either these or a range.
    #[serde(default, borrow, deserialize_with = "optional_list")]
    pub keys: Option<Vec<Key<'a>>>,
    /// The range.
    #[serde(default, borrow)]
    pub range: Option<Range<'a>>,
    /// The most keys of the range to delete at once. 1,000 if left out.
    #[serde(default)]
    pub limit: Option<u64>,
}

/// `exists`: how many of the keys are present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exists<'a> {
    /// The keys; one that is named twice counts twice.
    #[serde(borrow, deserialize_with = "list")]
    pub keys: Vec<Key<'a>>,
}

/// `expire`: gives a key a time to live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expire<'a> {
    /// The key.
    #[serde(borrow)]
    pub key: Key<'a>,
    /// The time to live in milliseconds, at least 1.
    pub ttl_ms: u64,
}

/// `ttl`: how long a key will live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ttl<'a> {
    /// The key.
    #[serde(borrow)]
    pub key: Key<'a>,
}

/// `persist`: takes a key's time to live away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Persist<'a> {
    /// The key.
    #[serde(borrow)]
    pub key: Key<'a>,
}

/// `incr`: adds to the number that a key holds as decimal text; an absent key holds 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Incr<'a> {
    /// The key. It keeps the expiry that it has.
    #[serde(borrow)]
    pub key: Key<'a>,
    /// What to add. 1 if left out.
    #[serde(default)]
    pub delta: Option<i64>,
}

/// `mget`: the values of several keys, of one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mget<'a> {
    /// The keys.
    #[serde(borrow, deserialize_with = "list")]
    pub keys: Vec<Key<'a>>,
}

/// `scan`: one page of the entries of a range or prefix, in the order of the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scan<'a> {
    /// The keys that begin so. Either this or a range; neither means every key.
    #[serde(borrow)]
    pub prefix: Option<Key<'a>>,
    /// The range.
    #[serde(borrow)]
    pub range: Option<Range<'a>>,
    /// The most entries of one page. 100 if left out.
    pub limit: Option<u64>,
    /// Whether to go from the last key to the first.
    pub reverse: Option<bool>,
    /// Whether to leave the values out.
    pub keys_only: Option<bool>,
    /// Where the page before this one stopped, as its reply told.
    #[serde(borrow)]
    pub cursor: Option<Key<'a>>,
}

/// One part of a `batch`: `{name: arguments}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation<'a> {
    /// Reads a key.
    #[serde(borrow)]
    Get(Get<'a>),
    /// Stores a value.
    #[serde(borrow)]
    Set(Set<'a>),
    /// Deletes keys.
    #[serde(borrow)]
    Del(Exists<'a>),
    /// Adds to a number.
    #[serde(borrow)]
    Incr(Incr<'a>),
    /// Gives a key a time to live.
    #[serde(borrow)]
    Expire(Expire<'a>),
    /// Takes a key's time to live away.
    #[serde(borrow)]
    Persist(Persist<'a>),
    /// Checks a condition and changes nothing.
    #[serde(borrow)]
    Check(Check<'a>),
}

/// `check`: a condition by itself, in a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check<'a> {
    /// The key.
    #[serde(borrow)]
    pub key: Key<'a>,
    /// What must hold, else the whole batch is undone.
    pub condition: Condition,
}

/// `batch`: reads and writes in order, all or none of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch<'a> {
    /// The parts. Reads see the writes before them.
    #[serde(borrow, deserialize_with = "list")]
    pub operations: Vec<Operation<'a>>,
}

/// `call`: runs a procedure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call<'a> {
    /// `module.procedure`.
    #[serde(borrow)]
    pub procedure: Cow<'a, str>,
    /// The arguments: bytes, by custom one MessagePack value.
    #[serde(borrow)]
    pub arguments: Value<'a>,
    /// Whether to run it and write nothing.
    #[serde(default)]
    pub dry_run: Option<bool>,
    /// Limits below the module's own. Boxed, since most calls name none and they are larger than all else here.
    #[serde(default)]
    pub limits: Option<Box<LimitsRequest>>,
}

/// `module.push`: registers a module, or a new version of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModulePush<'a> {
    /// The name: 1 to 64 letters, digits, `_` and `-`, beginning with a letter.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// The Wasm binary.
    #[serde(borrow)]
    pub wasm: Value<'a>,
    /// What the module's functions read with `config_get`.
    #[serde(default, deserialize_with = "optional_map")]
    pub config: Option<BTreeMap<String, String>>,
    /// Limits of each call, below the server's ceilings.
    #[serde(default)]
    pub limits: Option<LimitsRequest>,
    /// What to change of the hooks that the module describes.
    #[serde(default, borrow, deserialize_with = "optional_list")]
    pub overrides: Option<Vec<HookOverride<'a>>>,
    /// Whether to keep the version without putting it in force.
    #[serde(default)]
    pub inactive: Option<bool>,
    /// Whether to check it, to answer what the push would do, and to change nothing.
    #[serde(default)]
    pub dry_run: Option<bool>,
    /// The keys that the module's functions may use, of those that it asks for; all of them if left out.
    #[serde(default)]
    pub grant: Option<Grant>,
    /// Whether instances are kept between requests; as the module says if left out.
    #[serde(default)]
    pub isolation: Option<Isolation>,
}

/// `module.show`: a version of a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleShow<'a> {
    /// The name.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// The version's number. If left out the active one, or the newest where none is active.
    #[serde(default)]
    pub version: Option<u64>,
}

/// `module.remove`, `module.rollback`: a module by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleName<'a> {
    /// The name.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
}

/// `module.stats`: what was counted of functions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModuleStats<'a> {
    /// Only this module's.
    #[serde(borrow)]
    pub name: Option<Cow<'a, str>>,
}

/// `module.activate`: makes a version the one in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleActivate<'a> {
    /// The name.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// The version's number.
    pub version: u64,
}

/// `calls.kill`: ends a running call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallsKill {
    /// The call's id.
    pub call: u64,
}

/// `logs`: a stream of what guests log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Logs<'a> {
    /// Only this module's.
    #[serde(borrow)]
    pub module: Option<Cow<'a, str>>,
    /// Whether to go on as new lines come.
    pub follow: Option<bool>,
    /// Only lines of this level or a more serious one.
    pub level: Option<LogLevel>,
}

/// `watch`: a stream of the changes below a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch<'a> {
    /// The keys that begin so.
    #[serde(borrow)]
    pub prefix: Key<'a>,
    /// Whether to leave the values out.
    #[serde(default)]
    pub keys_only: Option<bool>,
    /// The first sequence wanted; from now on if left out.
    #[serde(default)]
    pub from: Option<u64>,
}

/// `stop`: ends a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// The id of the request that began the stream.
    pub id: u64,
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Absent => serializer.serialize_str("absent"),
            Self::Present => serializer.serialize_str("present"),
            Self::Version(version) => serializer.serialize_u64(*version),
        }
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ConditionVisitor)
    }
}

struct ConditionVisitor;

impl Visitor<'_> for ConditionVisitor {
    type Value = Condition;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a condition (\"absent\", \"present\" or a version)")
    }

    fn visit_u64<E: Error>(self, version: u64) -> Result<Condition, E> {
        Ok(Condition::Version(version))
    }

    // Some encoders write every integer as a signed one.
    fn visit_i64<E: Error>(self, version: i64) -> Result<Condition, E> {
        u64::try_from(version)
            .map(Condition::Version)
            .map_err(|_| E::invalid_value(serde::de::Unexpected::Signed(version), &self))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Condition, E> {
        match name {
            "absent" => Ok(Condition::Absent),
            "present" => Ok(Condition::Present),
            other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
        }
    }
}
