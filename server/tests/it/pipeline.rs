use std::io::Write;

use luge_protocol::{
    CallReply, CallsKill, Command, LimitsRequest, ModulePush, Request, Response, RunningCall,
    response_id,
};

use crate::support::language::parse;
use crate::wire::{Peer, server};

/// Sends requests together, numbered from 0 on.
fn send<'a>(peer: &mut Peer, commands: impl IntoIterator<Item = Command<'a>>) {
    let mut bytes = Vec::new();
    for (id, command) in (0..).zip(commands) {
        let body = Request::new(id, command).encode();
        bytes.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend(body);
    }
    peer.0.write_all(&bytes).unwrap();
}

/// The number and the length of the next response.
fn next(peer: &mut Peer) -> (u64, usize) {
    let body = peer.frame().expect("a response");
    (response_id(&body).unwrap(), body.len())
}

fn push<'a>(wasm: &'a [u8], limits: LimitsRequest) -> Command<'a> {
    Command::ModulePush(Box::new(ModulePush {
        name: "m".into(),
        wasm: wasm.into(),
        config: None,
        limits: Some(limits),
        overrides: None,
        inactive: None,
        dry_run: None,
        grant: None,
        isolation: None,
    }))
}

/// Replies that are ready are handed over together, and must not wait for a request behind them.
#[test]
fn what_was_answered_leaves_while_the_request_behind_it_runs() {
    let server = server(|_| {});
    let mut peer = Peer::greeted(server.address());
    let wasm = wat::parse_str(
        r#"(module
        (import "luge_v1" "output_write" (func $output (param i32 i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "{\22procedure\22:\22run\22}")
        (func (export "metadata") (result i32)
            (call $output (i32.const 0) (i32.const 19)) (i32.const 0))
        (func (export "run") (result i32) (loop $on (br $on)) (i32.const 0)))"#,
    )
    .unwrap();
    let patient = LimitsRequest {
        fuel: Some(10_000_000_000),
        cpu_ms: Some(5_000),
        deadline_ms: Some(60_000),
        ..LimitsRequest::default()
    };
    send(&mut peer, [push(&wasm, patient)]);
    next(&mut peer);
    let lines = [
        "set k 1",
        "exists k",
        "get k",
        "call m.run",
        "exists k",
        "get k",
    ];
    send(&mut peer, lines.map(parse));
    let ids = [(); 3].map(|()| next(&mut peer).0);
    assert_eq!(ids, [0, 1, 2]);

    let mut killer = Peer::greeted(server.address());
    send(&mut killer, [parse("calls")]);
    let body = killer.frame().unwrap();
    let listed: Response<Vec<RunningCall>> = Response::decode(&body).unwrap();
    let call = listed.outcome.unwrap()[0].call;
    send(&mut killer, [Command::CallsKill(CallsKill { call })]);
    next(&mut killer);
    let body = peer.frame().unwrap();
    let ended: Response<CallReply> = Response::decode(&body).unwrap();
    assert!(ended.outcome.unwrap_err().to_string().starts_with("killed"));
    assert_eq!([(); 2].map(|()| next(&mut peer).0), [4, 5]);
}

#[test]
fn short_and_long_replies_keep_the_order_of_their_requests() {
    let server = server(|_| {});
    let mut peer = Peer::greeted(server.address());
    let value = vec![b'x'; 9_000];
    let set = Command::Set(luge_protocol::Set {
        key: "long".into(),
        value: (&value).into(),
        ttl_ms: None,
        keep_ttl: None,
        condition: None,
        return_old: None,
    });
    send(&mut peer, [set]);
    next(&mut peer);
    let lines = [
        "exists long",
        "get long",
        "mget long long",
        "set k 1",
        "get k",
        "exists k",
    ];
    send(&mut peer, (0..600).map(|at| parse(lines[at % lines.len()])));
    for id in 0..600 {
        let (found, bytes) = next(&mut peer);
        assert_eq!(found, id);
        let values = [0, 1, 2, 0, 0, 0][usize::try_from(id).unwrap() % lines.len()];
        let expected = values * value.len()..values * value.len() + 60;
        assert!(expected.contains(&bytes), "{id}: {bytes} bytes");
    }
}
