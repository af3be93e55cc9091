//! The golden responses: one for each form of reply, and one for each error code.

use std::collections::BTreeMap;

use bytes::Bytes;
use luge_protocol::{
    CallReply, ChangeKind, DelReply, ErrorCode, ErrorDetails, ErrorReply, ExportDescription, Found,
    FunctionKind, FunctionReport, Grant, HelloReply, HookCommand, HookDescription, HookTime,
    IncrReply, InfoReply, Isolation, KeyChange, LimitsRequest, LogEvent, LogLevel, LogLine,
    ModuleChange, ModuleDescription, ModuleOutcome, ModuleSummary, OnFailure, OperationReply,
    Phase, ProcedureDescription, Reply, Response, ScanEntry, ScanReply, ServerLimits, SetReply,
    StatsReply, Summary, VersionSummary, WatchEvent,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Case;

/// One case for each form of reply.
pub(crate) fn replies() -> Vec<Case> {
    let mut cases = connection_replies();
    cases.extend(data_replies());
    cases.extend(batch_and_module_replies());
    cases.extend(stream_replies());
    cases
}

fn stream_replies() -> Vec<Case> {
    let begin = WatchEvent::progress(6);
    let piece = Bytes::from_static(b"part");
    vec![
        case(
            "watch.reply.begin",
            26,
            Reply::Event(begin.clone()),
            Some(begin),
        ),
        case("watch.reply", 26, Reply::Event(event()), Some(event())),
        case("watch.reply.end", 26, Reply::Done(()), None::<WatchEvent>),
        case("logs.reply", 25, Reply::Lines(lines()), Some(lines())),
        case("backup.reply", 27, Reply::Piece(piece.clone()), Some(piece)),
        case("stop.reply", 28, Reply::Done(()), ()),
    ]
}

fn lines() -> LogEvent {
    LogEvent {
        lines: vec![LogLine {
            time_ms: 1_790_000_000_000,
            level: LogLevel::Warn,
            call: 1234,
            module: "bank".to_owned(),
            function: "transfer".to_owned(),
            message: "the account is low".to_owned(),
        }],
        skipped: 3,
    }
}

fn event() -> WatchEvent {
    let change = |key, change| KeyChange {
        key: Bytes::from_static(key),
        change,
        value: None,
        expires_ms: None,
    };
    let set = KeyChange {
        value: Some(Bytes::from_static(b"Ada")),
        expires_ms: Some(0),
        ..change(b"user:1", ChangeKind::Set)
    };
    WatchEvent {
        sequence: 7,
        changes: vec![
            set,
            change(b"user:2", ChangeKind::Del),
            change(b"user:3", ChangeKind::Expire),
        ],
        more: true,
    }
}

fn connection_replies() -> Vec<Case> {
    vec![
        case("hello.reply", 1, Reply::Hello(Box::new(hello())), hello()),
        case("ping.reply", 2, Reply::Pong("pong"), "pong".to_owned()),
        case("info.reply", 3, Reply::Info(Box::new(info())), info()),
        case("flush.reply", 4, Reply::Done(()), ()),
    ]
}

fn data_replies() -> Vec<Case> {
    let found = Found(Bytes::from_static(b"hi"), 7);
    let old = SetReply(9, Some(Bytes::from_static(b"hi")));
    let rest = DelReply(50, Some(Bytes::from_static(b"b")));
    let mget = vec![Some(found.clone()), None];
    let output = CallReply(Bytes::from_static(b"\x81\xa6output\xa5HELLO"));
    vec![
        case(
            "set.reply",
            2,
            Reply::Set(SetReply(7, None)),
            SetReply(7, None),
        ),
        case("set.reply.old", 300, Reply::Set(old.clone()), old),
        case("get.reply", 3, Reply::Get(Some(found.clone())), Some(found)),
        case("get.reply.absent", 4, Reply::Get(None), None::<Found>),
        case(
            "del.reply",
            4,
            Reply::Del(DelReply(1, None)),
            DelReply(1, None),
        ),
        case("del.reply.range", 5, Reply::Del(rest.clone()), rest),
        case("exists.reply", 6, Reply::Count(2), 2_u64),
        case("expire.reply", 7, Reply::Changed(true), true),
        case("ttl.reply", 8, Reply::Ttl(Some(4_999)), Some(4_999_u64)),
        case("ttl.reply.absent", 8, Reply::Ttl(None), None::<u64>),
        case("persist.reply", 9, Reply::Changed(false), false),
        case("incr.reply", 10, Reply::Incr(incr()), incr()),
        case(
            "incr.reply.hidden",
            10,
            Reply::Incr(IncrReply(None, 11)),
            IncrReply(None, 11),
        ),
        case("mget.reply", 11, Reply::Mget(mget.clone()), mget),
        case("scan.reply", 12, Reply::Scan(scan()), scan()),
        case("call.reply", 15, Reply::Call(output.clone()), output),
    ]
}

fn batch_and_module_replies() -> Vec<Case> {
    let operations = vec![
        OperationReply::Get(Some(Found(Bytes::from_static(b"1"), 7))),
        OperationReply::Set(SetReply(12, None)),
        OperationReply::Count(2),
        OperationReply::Incr(incr()),
        OperationReply::Changed(true),
        OperationReply::Done(()),
    ];
    type Operations = (Option<Found>, SetReply, u64, IncrReply, bool, ());
    let list = vec![summary()];
    let shown = Reply::Module(Box::new(module()));
    let pushed = Reply::Module(Box::new(ModuleDescription {
        change: Some(change()),
        ..module()
    }));
    vec![
        encoded::<Operations>("batch.reply", 14, Reply::Batch(operations)),
        encoded::<ModuleDescription>("module.show.reply", 18, shown),
        encoded::<ModuleDescription>("module.push.reply", 16, pushed),
        case("module.list.reply", 17, Reply::Modules(list.clone()), list),
        encoded::<StatsReply>("module.stats.reply", 22, Reply::Stats(Box::new(stats()))),
    ]
}

/// One case for each error code, with the details that it has.
pub(crate) fn errors() -> Vec<Case> {
    ErrorCode::ALL
        .iter()
        .map(|&code| {
            let error = ErrorReply::new(code, message(code));
            let error = match details(code) {
                Some(details) => error.with(details),
                None => error,
            };
            let response = Response::<()> {
                id: 5,
                outcome: Err(error),
            };
            response_case::<()>(&format!("error.{code}"), &response)
        })
        .collect()
}

fn message(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::Blocked => "the name is empty",
        ErrorCode::PreconditionFailed => "the key is present, at version 7",
        ErrorCode::TooLarge => "key of 2000 bytes exceeds the limit of 1024",
        _ => "what went wrong",
    }
}

fn details(code: ErrorCode) -> Option<ErrorDetails> {
    let function = ErrorDetails {
        module: Some("bank".to_owned()),
        function: Some("transfer".to_owned()),
        ..ErrorDetails::default()
    };
    let details = match code {
        ErrorCode::PreconditionFailed => ErrorDetails {
            index: Some(1),
            key: Some(Bytes::from_static(b"greeting")),
            version: Some(7),
            ..ErrorDetails::default()
        },
        ErrorCode::Blocked => ErrorDetails {
            cause: Some("fuel_exhausted".to_owned()),
            ..function
        },
        ErrorCode::TooOld => ErrorDetails {
            sequence: Some(900),
            ..ErrorDetails::default()
        },
        ErrorCode::Rejected => ErrorDetails {
            code: Some(-3),
            payload: Some(Bytes::from_static(b"\xa4poor")),
            ..function
        },
        ErrorCode::Trap => ErrorDetails {
            call: Some(1234),
            backtrace: Some(vec!["bank::fail".to_owned(), "transfer".to_owned()]),
            ..function
        },
        _ => return None,
    };
    Some(details)
}

/// A case whose typed reply must encode to what the server's [`Reply`] encodes to.
fn case<R>(name: &str, id: u64, reply: Reply, typed: R) -> Case
where
    R: Serialize + DeserializeOwned,
{
    let case = encoded::<R>(name, id, reply);
    let response = Response {
        id,
        outcome: Ok(typed),
    };
    assert_eq!(
        encode(&response),
        case.body,
        "{name}: the typed reply differs"
    );
    case
}

fn encoded<R: Serialize + DeserializeOwned>(name: &str, id: u64, reply: Reply) -> Case {
    let outcome = Ok(reply);
    let body = encode(&Response { id, outcome });
    Case {
        body,
        ..response_case::<R>(
            name,
            &Response {
                id,
                outcome: Err(ErrorReply::new(ErrorCode::Internal, "")),
            },
        )
    }
}

fn response_case<R>(name: &str, response: &Response<R>) -> Case
where
    R: Serialize + DeserializeOwned,
{
    Case {
        name: name.to_owned(),
        body: encode(response),
        recode: Box::new(|body| {
            Response::<R>::decode(body)
                .map(|response| encode(&response))
                .map_err(|error| error.message)
        }),
    }
}

fn encode<R: Serialize>(response: &Response<R>) -> Vec<u8> {
    let mut body = Vec::new();
    response.encode(&mut body).expect("replies encode");
    body
}

fn hello() -> HelloReply {
    HelloReply {
        version: 1,
        server: "luge 0.1.0".to_owned(),
        store: Bytes::from_static(b"0123456789abcdef"),
        limits: ServerLimits {
            max_frame_bytes: 16 << 20,
            max_key_bytes: 1 << 10,
            max_value_bytes: 1 << 20,
            max_module_bytes: 4 << 20,
        },
    }
}

fn info() -> InfoReply {
    InfoReply {
        server: "luge 0.1.0".to_owned(),
        store: Bytes::from_static(b"0123456789abcdef"),
        engine: "sled".to_owned(),
        durability: "always".to_owned(),
        uptime_ms: 60_000,
        connections: 1,
        requests: 3,
        sequence: 7,
        modules: 1,
    }
}

fn incr() -> IncrReply {
    IncrReply(Some(-1000), 10)
}

fn scan() -> ScanReply {
    let key = Bytes::from_static;
    ScanReply(
        vec![
            ScanEntry(key(b"user:7"), Some(key(b"Ada")), 3),
            ScanEntry(key(b"user:8"), None, 4),
        ],
        Some(key(b"user:9")),
        12,
    )
}

fn summary() -> ModuleSummary {
    ModuleSummary {
        name: "text".to_owned(),
        active: Some(2),
        rollback: Some(1),
        stored_bytes: 716,
        versions: vec![version(1), version(2)],
    }
}

fn version(version: u64) -> VersionSummary {
    VersionSummary {
        version,
        sha256: "ab".repeat(32),
        size: 8,
        pushed_ms: 1_790_000_000_000,
        procedures: 1,
        hooks: 1,
        granted: Some(2),
        settings: Some("cd".repeat(32)),
    }
}

fn stats() -> StatsReply {
    let summary = Summary {
        total: 12_300,
        p50: 4_000,
        p99: 4_300,
        max: 4_321,
    };
    StatsReply {
        counted_ms: 60_000,
        functions: vec![FunctionReport {
            module: "text".to_owned(),
            version: 2,
            active: true,
            function: "process".to_owned(),
            kind: FunctionKind::Procedure,
            calls: 3,
            errors: BTreeMap::from([("trap".to_owned(), 1)]),
            conflicts: 1,
            retries: 1,
            fuel: summary,
            cpu_ns: summary,
            memory_bytes: 65_536,
        }],
        hooks: vec![HookTime {
            command: "set".to_owned(),
            requests: 3,
            added_ns: summary,
        }],
        uncounted_calls: 0,
    }
}

fn change() -> ModuleChange {
    ModuleChange {
        outcome: ModuleOutcome::Pushed,
        active_before: Some(1),
        dropped: vec![],
        dry_run: true,
        exports: vec![ExportDescription {
            export: "process".to_owned(),
            signature: "() -> i32".to_owned(),
        }],
    }
}

fn module() -> ModuleDescription {
    ModuleDescription {
        name: "text".to_owned(),
        version: 2,
        active: true,
        sha256: "ab".repeat(32),
        size: 8,
        pushed_ms: 1_790_000_000_000,
        release: "1.2.0".to_owned(),
        description: "changes text".to_owned(),
        procedures: vec![ProcedureDescription {
            procedure: "process".to_owned(),
            read_only: true,
            description: String::new(),
        }],
        hooks: vec![HookDescription {
            hook: "validate".to_owned(),
            phase: Phase::Request,
            commands: vec![HookCommand::Set, HookCommand::Del],
            prefix: Bytes::from_static(b"user:"),
            order: -5,
            on_failure: OnFailure::Continue,
            description: String::new(),
        }],
        config: BTreeMap::from([("mode".to_owned(), "strict".to_owned())]),
        limits: LimitsRequest {
            fuel: Some(10_000_000),
            cpu_ms: Some(50),
            deadline_ms: Some(1_000),
            memory_bytes: Some(16 << 20),
            output_bytes: Some(2 << 20),
            write_keys: Some(10_000),
            write_bytes: Some(16 << 20),
            table_elements: Some(20_000),
            running_calls: Some(64),
        },
        grant: Some(Grant {
            read: vec![Bytes::from_static(b"user:"), Bytes::from_static(b"\xff")],
            write: vec![],
        }),
        isolation: Isolation::Reuse,
        warnings: vec!["validate fails open".to_owned()],
        change: None,
    }
}
