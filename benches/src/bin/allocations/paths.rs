//! The ten hottest paths, as requests, and the data and the modules that they need.

use luge_protocol::{
    Call, Command, Get, HookOverride, Incr, Isolation, Mget, ModulePush, Scan, Set,
};
use serde::Serialize;

use crate::client::Batch;

/// A pipeline of a client that is busy: what the server answers together.
pub(crate) const BATCH_REQUESTS: usize = 16;

/// Keys of an `mget`.
const MGET_KEYS: usize = 10;

/// Entries of a page.
const PAGE_ENTRIES: usize = 100;

/// Commits before anything is measured. Small numbers are written in fewer bytes: a reply with a sequence should be as long as
/// those of a server that has served for some minutes, whichever paths come first.
const COMMITS: usize = 70_000;

/// Built from `functions/workloads` by `LUGE_GUESTS=benches/functions udfs/build.sh`.
const FUNCTIONS: &[u8] = include_bytes!("../../../functions/built/workloads.wasm");

/// A JSON object with what the hook asks for.
const CHECKED: &[u8] = br#"{"name":"Ann Lind","age":41,"mail":"anna@example.org","on":true}"#;

const VALUE: &[u8] = &[b'v'; 64];

/// When a write of a path is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Once the kernel has it.
    Everysec,
    /// Once it is on disk.
    Always,
}

/// A path that is measured.
pub(crate) struct Path {
    /// Its name in the record.
    pub(crate) name: &'static str,
    /// On which server.
    pub(crate) durability: Durability,
    /// Its requests.
    pub(crate) batch: Batch,
}

/// Every path, in the record's order.
pub(crate) fn all() -> Vec<Path> {
    let path = |name, batch| Path {
        name,
        durability: Durability::Everysec,
        batch,
    };
    let key = |number| key("key", number);
    let write = |number| set(key(number), VALUE);
    let mget = |number: usize| {
        let keys = (0..MGET_KEYS).map(|at| key(number * MGET_KEYS + at).into());
        Command::Mget(Mget {
            keys: keys.collect(),
        })
    };
    let page = |_| {
        Command::Scan(Scan {
            prefix: Some("page:".into()),
            limit: Some(PAGE_ENTRIES as u64),
            ..Scan::default()
        })
    };
    vec![
        path("get", batch(|number| get(key(number)))),
        path("set everysec", batch(write)),
        Path {
            durability: Durability::Always,
            ..path("set always", batch(write))
        },
        path("incr", batch(incr)),
        path("mget of 10", batch(mget)),
        path("scan of 100", batch(page)),
        path("noop fresh", batch(|_| call("fresh.noop", ()))),
        path("noop kept", batch(|_| call("kept.noop", ()))),
        path("transfer kept", batch(transfer)),
        path(
            "set with a hook kept",
            batch(|number| set(self::key("kept", number), CHECKED)),
        ),
    ]
}

/// What there must be before them.
pub(crate) fn preparation() -> Vec<Batch> {
    let keys = BATCH_REQUESTS * MGET_KEYS;
    let accounts = 2 * BATCH_REQUESTS;
    let commits = (0..COMMITS / 1000).map(|_| {
        let writes = (0..1000).map(|_| set(key("commit", 0), VALUE));
        Batch::of(writes)
    });
    let mut preparation = vec![
        Batch::of([push("fresh", Isolation::Fresh)]),
        Batch::of([push("kept", Isolation::Reuse)]),
        Batch::of((0..keys).map(|number| set(key("key", number), VALUE))),
        // More than a page, so that one ends with a cursor.
        Batch::of((0..2 * PAGE_ENTRIES).map(|number| set(key("page", number), VALUE))),
        Batch::of((0..accounts).map(|number| set(key("acct", number), b"1000000000"))),
        Batch::of((0..BATCH_REQUESTS).map(|number| set(key("count", number), b"1000000"))),
    ];
    preparation.extend(commits);
    preparation
}

fn batch<'a>(request: impl FnMut(usize) -> Command<'a>) -> Batch {
    Batch::of((0..BATCH_REQUESTS).map(request))
}

fn key(prefix: &str, number: usize) -> String {
    format!("{prefix}:{number:012}")
}

fn get(key: String) -> Command<'static> {
    Command::Get(Get { key: key.into() })
}

fn set(key: String, value: &'static [u8]) -> Command<'static> {
    Command::Set(Set {
        key: key.into(),
        value: value.into(),
        ttl_ms: None,
        keep_ttl: None,
        condition: None,
        return_old: None,
    })
}

fn incr(number: usize) -> Command<'static> {
    Command::Incr(Incr {
        key: key("count", number).into(),
        delta: None,
    })
}

/// Two accounts read and written.
fn transfer(number: usize) -> Command<'static> {
    let (payer, payee) = (key("acct", 2 * number), key("acct", 2 * number + 1));
    call("kept.transfer", (payer, payee, 1))
}

fn call(procedure: &'static str, arguments: impl Serialize) -> Command<'static> {
    let arguments = rmp_serde::to_vec(&arguments).unwrap_or_default();
    Command::Call(Call {
        procedure: procedure.into(),
        arguments: arguments.into(),
        dry_run: None,
        limits: None,
    })
}

/// The functions under this name, their hook for keys that begin with it.
fn push(name: &'static str, isolation: Isolation) -> Command<'static> {
    let prefix = HookOverride {
        prefix: Some(format!("{name}:").into()),
        ..HookOverride::default()
    };
    Command::ModulePush(Box::new(ModulePush {
        name: name.into(),
        wasm: FUNCTIONS.into(),
        config: None,
        limits: None,
        overrides: Some(vec![prefix]),
        inactive: None,
        dry_run: None,
        grant: None,
        isolation: Some(isolation),
    }))
}
