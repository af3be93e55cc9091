//! The golden requests: one for each command, and more where a command has more than one form.

use std::borrow::Cow;
use std::collections::BTreeMap;

use luge_protocol::{
    Batch, Call, CallsKill, Check, Command, Condition, Del, Durability, Exists, Expire, Get, Grant,
    Hello, HookOverride, Incr, Isolation, LimitsRequest, Logs, Mget, ModuleActivate, ModuleName,
    ModulePush, ModuleShow, ModuleStats, NoArguments, OnFailure, Operation, Options, Persist,
    Range, Request, Scan, Set, Stop, Ttl, Watch,
};

use super::{Case, replies};

/// Every golden case: requests, replies and errors.
pub(crate) fn all() -> Vec<Case> {
    let mut cases: Vec<Case> = requests()
        .into_iter()
        .map(|(name, request)| request_case(name, &request))
        .collect();
    cases.extend(replies::replies());
    cases.extend(replies::errors());
    cases
}

fn request_case(name: &str, request: &Request<'_>) -> Case {
    Case {
        name: name.to_owned(),
        body: request.encode(),
        recode: Box::new(|body| {
            Request::decode(body)
                .map(|request| request.encode())
                .map_err(|error| error.message)
        }),
    }
}

/// The golden requests with the names of their files.
pub(crate) fn requests() -> Vec<(&'static str, Request<'static>)> {
    let mut requests = connection_requests();
    requests.extend(data_requests());
    requests.extend(module_requests());
    requests.extend(stream_requests());
    requests
}

fn connection_requests() -> Vec<(&'static str, Request<'static>)> {
    let hello = Hello {
        versions: vec![1],
        client: Some(Cow::Borrowed("example")),
        credentials: None,
    };
    vec![
        ("hello.request", Request::new(1, Command::Hello(hello))),
        (
            "ping.request",
            Request::new(2, Command::Ping(NoArguments {})),
        ),
        (
            "info.request",
            Request::new(3, Command::Info(NoArguments {})),
        ),
        (
            "flush.request",
            Request::new(4, Command::Flush(NoArguments {})),
        ),
    ]
}

fn data_requests() -> Vec<(&'static str, Request<'static>)> {
    let with_options = Request {
        options: Options {
            durability: Some(Durability::Always),
            deadline_ms: Some(250),
        },
        ..Request::new(u64::MAX, Command::Get(get("greeting")))
    };
    vec![
        (
            "set.request",
            Request::new(2, Command::Set(set("greeting", "hi"))),
        ),
        (
            "set.request.full",
            Request::new(300, Command::Set(full_set())),
        ),
        (
            "get.request",
            Request::new(3, Command::Get(get("greeting"))),
        ),
        ("get.request.options", with_options),
        ("del.request", Request::new(4, Command::Del(del_keys()))),
        (
            "del.request.range",
            Request::new(5, Command::Del(del_range())),
        ),
        ("exists.request", Request::new(6, Command::Exists(exists()))),
        ("expire.request", Request::new(7, Command::Expire(expire()))),
        (
            "ttl.request",
            Request::new(8, Command::Ttl(Ttl { key: "a".into() })),
        ),
        (
            "persist.request",
            Request::new(9, Command::Persist(persist())),
        ),
        ("incr.request", Request::new(10, Command::Incr(incr()))),
        ("mget.request", Request::new(11, Command::Mget(mget()))),
        ("scan.request", Request::new(12, Command::Scan(scan()))),
        (
            "scan.request.range",
            Request::new(13, Command::Scan(scan_range())),
        ),
        ("batch.request", Request::new(14, Command::Batch(batch()))),
        ("call.request", Request::new(15, Command::Call(call()))),
    ]
}

fn get(key: &'static str) -> Get<'static> {
    Get { key: key.into() }
}

fn set(key: &'static str, value: &'static str) -> Set<'static> {
    Set {
        key: key.into(),
        value: value.into(),
        ttl_ms: None,
        keep_ttl: None,
        condition: None,
        return_old: None,
    }
}

fn full_set() -> Set<'static> {
    Set {
        ttl_ms: Some(10_000),
        keep_ttl: Some(false),
        condition: Some(Condition::Version(70_000)),
        return_old: Some(true),
        ..set("greeting", "hi")
    }
}

fn del_keys() -> Del<'static> {
    Del {
        keys: Some(vec!["a".into(), b"\x00\xff".into()]),
        range: None,
        limit: None,
    }
}

fn range() -> Range<'static> {
    Range {
        start: "a".into(),
        end: "".into(),
    }
}

fn del_range() -> Del<'static> {
    Del {
        keys: None,
        range: Some(range()),
        limit: Some(50),
    }
}

fn exists() -> Exists<'static> {
    Exists {
        keys: vec!["a".into(), "b".into()],
    }
}

fn expire() -> Expire<'static> {
    Expire {
        key: "a".into(),
        ttl_ms: 5_000_000_000,
    }
}

fn persist() -> Persist<'static> {
    Persist { key: "a".into() }
}

fn incr() -> Incr<'static> {
    Incr {
        key: "visits".into(),
        delta: Some(-1000),
    }
}

fn mget() -> Mget<'static> {
    Mget {
        keys: vec!["a".into(), "b".into()],
    }
}

fn scan() -> Scan<'static> {
    Scan {
        prefix: Some("user:".into()),
        limit: Some(10),
        cursor: Some("user:7".into()),
        ..Scan::default()
    }
}

fn scan_range() -> Scan<'static> {
    Scan {
        range: Some(range()),
        reverse: Some(true),
        keys_only: Some(true),
        ..Scan::default()
    }
}

fn batch() -> Batch<'static> {
    let conditional = Set {
        condition: Some(Condition::Absent),
        ..set("b", "2")
    };
    Batch {
        operations: vec![
            Operation::Get(get("a")),
            Operation::Set(conditional),
            Operation::Del(exists()),
            Operation::Incr(incr()),
            Operation::Expire(expire()),
            Operation::Persist(persist()),
            Operation::Check(Check {
                key: "a".into(),
                condition: Condition::Present,
            }),
        ],
    }
}

fn call() -> Call<'static> {
    Call {
        procedure: Cow::Borrowed("text.process"),
        arguments: b"\x81\xa5input\xa5hello".into(),
        dry_run: Some(false),
        limits: Some(Box::new(LimitsRequest {
            fuel: Some(1_000_000),
            cpu_ms: Some(20),
            ..LimitsRequest::default()
        })),
    }
}

fn module_requests() -> Vec<(&'static str, Request<'static>)> {
    let activate = ModuleActivate {
        name: Cow::Borrowed("text"),
        version: 1,
    };
    vec![
        (
            "module.push.request",
            Request::new(16, Command::ModulePush(Box::new(push()))),
        ),
        (
            "module.list.request",
            Request::new(17, Command::ModuleList(NoArguments {})),
        ),
        (
            "module.show.request",
            Request::new(18, Command::ModuleShow(show())),
        ),
        (
            "module.activate.request",
            Request::new(19, Command::ModuleActivate(activate)),
        ),
        (
            "module.rollback.request",
            Request::new(20, Command::ModuleRollback(text())),
        ),
        (
            "module.remove.request",
            Request::new(21, Command::ModuleRemove(text())),
        ),
        (
            "module.stats.request",
            Request::new(
                22,
                Command::ModuleStats(ModuleStats {
                    name: Some(Cow::Borrowed("text")),
                }),
            ),
        ),
        (
            "calls.list.request",
            Request::new(23, Command::CallsList(NoArguments {})),
        ),
        (
            "calls.kill.request",
            Request::new(24, Command::CallsKill(CallsKill { call: 99 })),
        ),
    ]
}

fn show() -> ModuleShow<'static> {
    ModuleShow {
        name: Cow::Borrowed("text"),
        version: Some(1),
    }
}

fn text() -> ModuleName<'static> {
    ModuleName {
        name: Cow::Borrowed("text"),
    }
}

fn push() -> ModulePush<'static> {
    ModulePush {
        name: Cow::Borrowed("text"),
        wasm: b"\0asm\x01\0\0\0".into(),
        config: Some(BTreeMap::from([("mode".to_owned(), "strict".to_owned())])),
        limits: Some(LimitsRequest {
            memory_bytes: Some(16 << 20),
            ..LimitsRequest::default()
        }),
        overrides: Some(vec![HookOverride {
            hook: None,
            prefix: Some("user:".into()),
            order: Some(-5),
            on_failure: Some(OnFailure::Continue),
        }]),
        inactive: Some(true),
        dry_run: Some(false),
        grant: Some(Grant {
            read: vec![b"user:"[..].into()],
            write: vec![],
        }),
        isolation: Some(Isolation::Reuse),
    }
}

fn stream_requests() -> Vec<(&'static str, Request<'static>)> {
    let logs = Logs {
        level: None,
        module: Some(Cow::Borrowed("text")),
        follow: Some(true),
    };
    let watch = Watch {
        prefix: "user:".into(),
        keys_only: None,
        from: Some(7),
    };
    vec![
        ("logs.request", Request::new(25, Command::Logs(logs))),
        ("watch.request", Request::new(26, Command::Watch(watch))),
        (
            "backup.request",
            Request::new(27, Command::Backup(NoArguments {})),
        ),
        (
            "stop.request",
            Request::new(28, Command::Stop(Stop { id: 26 })),
        ),
    ]
}
