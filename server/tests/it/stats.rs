use luge_protocol::{ErrorCode, LimitsRequest, Reply, StatsReply};
use luge_server::config::Config;
use luge_server::store::{MemoryStore, Store};

use crate::support::{Push, Talk, ask, check, check_with, clock, open_memory, runtime};

/// Procedures that succeed, refuse, trap and loop, and a hook that blocks keys that begin with `no`.
fn guest(name: &'static str) -> Push {
    let lines = r#"{"procedure":"ok"}\n{"procedure":"no"}\n{"procedure":"trap"}\n{"procedure":"loop"}\n
        {"hook":"guard","phase":"request","commands":["set","get"]}\n"#;
    let length = lines.len() - lines.matches('\\').count();
    let lines = lines.replace('"', r"\22").replace('\n', r"\0a");
    Push::new(
        name,
        format!(
            r#"(module
        (import "luge_v1" "output_write" (func $output (param i32 i32)))
        (import "luge_v1" "request_key" (func $key (param i32 i32 i32) (result i64)))
        (memory (export "memory") 1)
        (data (i32.const 0) "{lines}")
        (func (export "metadata") (result i32)
            (call $output (i32.const 0) (i32.const {length})) (i32.const 0))
        (func (export "ok") (result i32) (i32.const 0))
        (func (export "no") (result i32) (i32.const -3))
        (func (export "trap") (result i32) (unreachable))
        (func (export "loop") (result i32) (loop $on (br_if $on (i32.const 1))) (i32.const 0))
        (func (export "guard") (result i32)
            (drop (call $key (i32.const 0) (i32.const 1024) (i32.const 2)))
            (i32.eq (i32.load16_u (i32.const 1024)) (i32.const 0x6f6e))))"#
        ),
    )
}

#[test]
fn calls_are_counted_by_function_and_code() {
    let mut guest = guest("m");
    guest.limits = Some(LimitsRequest {
        fuel: Some(5_000),
        ..LimitsRequest::default()
    });
    check(
        &[guest],
        "
        > module.stats
        nothing
        > call m.ok
        …
        > call m.ok
        …
        > call m.no
        rejected: …
        > call m.trap
        trap: …
        > call m.loop
        fuel_exhausted: …
        > call m.absent
        not_found: …
        > set yes 1
        …
        > set no 1
        blocked: …
        > mget yes no other
        blocked: …
        > module.stats m
        m.guard 1*: 5 calls, blocked 2; m.loop 1*: 1 calls, fuel_exhausted 1; m.no 1*: 1 calls, rejected 1; m.ok 1*: 2 calls; m.trap 1*: 1 calls, trap 1; set: 2 with hooks; mget: 1 with hooks
        > module.stats n
        not_found: …
    ",
    );
}

#[test]
fn a_version_is_counted_as_long_as_it_is_kept() {
    check(
        &[],
        "
        > module.push m one
        …
        > call m.say
        …
        > module.push m two
        …
        > call m.say
        …
        > call m.say
        …
        > module.stats
        m.after_call 1: 1 calls; m.before_call 1: 1 calls; m.say 1: 1 calls; m.after_call 2*: 2 calls; m.before_call 2*: 2 calls; m.say 2*: 2 calls; call: 3 with hooks
        > module.rollback m
        …
        > call m.say
        …
        > module.stats m
        m.after_call 1*: 2 calls; …; m.say 2: 2 calls; call: 4 with hooks
        > module.remove m
        ok
        > module.stats
        call: 4 with hooks
        > module.push m one
        …
        > module.stats
        call: 4 with hooks
    ",
    );
}

#[test]
fn the_time_that_hooks_added_is_told_of_modules_whose_hooks_ran() {
    let plain = Push::new(
        "plain",
        r#"(module (memory (export "memory") 1) (func (export "run") (result i32) (i32.const 0)))"#,
    );
    check(
        &[plain],
        r#"
        > module.push m one
        …
        > call plain.run
        …
        > module.stats m
        m.after_call 1*: 1 calls; m.before_call 1*: 1 calls; call: 1 with hooks
        > module.stats plain
        plain.run 1*: 1 calls
    "#,
    );
}

#[test]
fn functions_beyond_the_bound_are_counted_together_until_there_is_room() {
    check_with(
        &[guest("m")],
        |config| config.max_counted_functions = 1,
        "
        > call m.ok
        …
        > call m.no
        rejected: …
        > call m.ok
        …
        > module.stats
        m.ok 1*: 2 calls; 1 uncounted
        > module.remove m
        ok
        > module.push n one
        …
        > call n.say
        …
        > module.stats
        n.before_call 1*: 1 calls; call: 1 with hooks; 3 uncounted
    ",
    );
}

#[test]
fn what_was_used_is_told_with_its_quantiles() {
    let told = runtime().block_on(async {
        let clock = clock();
        let mut talk = Talk::new(open_memory(&clock), &Config::default(), clock).await;
        talk.push(&guest("m")).await.unwrap();
        for _ in 0..10 {
            talk.request("call m.ok").await.unwrap();
        }
        talk.request("call m.loop").await.unwrap_err();
        stats(talk.request("module.stats m").await.unwrap())
    });
    let [busy, ok] = &told.functions[..] else {
        panic!("{told:?}");
    };
    assert_eq!(
        (busy.function.as_str(), busy.fuel.max),
        ("loop", 10_000_000)
    );
    assert_eq!(
        (busy.cpu_ns.p50, busy.cpu_ns.p99),
        (busy.cpu_ns.max, busy.cpu_ns.max)
    );
    assert_eq!(ok.fuel.total, 10 * ok.fuel.max);
    assert!(ok.cpu_ns.p50 > 0 && ok.cpu_ns.p50 <= ok.cpu_ns.p99);
    assert!(ok.cpu_ns.p99 <= ok.cpu_ns.max && ok.cpu_ns.max < busy.cpu_ns.max);
    assert_eq!(ok.memory_bytes, 65_536);
}

fn stats(reply: Reply) -> StatsReply {
    match reply {
        Reply::Stats(told) => *told,
        other => panic!("{other:?}"),
    }
}

/// Reads `k` and writes it; its first attempt takes a while in between, and so meets a conflict where
/// somebody writes `k` meanwhile.
const SLOW_AT_FIRST: &str = r#"(module
    (import "luge_v1" "kv_incr" (func $incr (param i32 i32 i64 i32) (result i32)))
    (import "luge_v1" "context" (func $context (param i32 i32 i32 i32) (result i64)))
    (memory (export "memory") 1)
    (data (i32.const 0) "k")
    (func (export "run") (result i32) (local $left i32)
        (drop (call $incr (i32.const 0) (i32.const 1) (i64.const 1) (i32.const 8)))
        (drop (call $context (i32.const 6) (i32.const 0) (i32.const 16) (i32.const 1)))
        (if (i32.eq (i32.load8_u (i32.const 16)) (i32.const 49)) (then
            (local.set $left (i32.const 300000000))
            (loop $on (br_if $on (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))
        (i32.const 0)))"#;

#[test]
fn a_conflict_counts_for_the_functions_of_its_attempt_and_a_retry_for_those_of_the_next() {
    let config = Config {
        max_instances: 16,
        call_fuel: 10_000_000_000,
        call_cpu_ms: 5_000,
        call_deadline_ms: 60_000,
        ..Config::default()
    };
    runtime().block_on(async {
        let clock = clock();
        let store: MemoryStore = open_memory(&clock);
        let mut talk = Talk::new(store, &config, clock).await;
        talk.push(&Push::new("m", SLOW_AT_FIRST)).await.unwrap();
        let mut session = talk.session();
        let slow = tokio::spawn(async move { ask(&mut session, "call m.run").await });
        let mut other = talk.session();
        loop {
            match ask(&mut other, "calls").await.unwrap() {
                Reply::Calls(calls) if calls.iter().any(|it| it.fuel > 0) => break,
                _ => tokio::task::yield_now().await,
            }
        }
        ask(&mut other, "set k 5").await.unwrap();
        slow.await.unwrap().unwrap();
        assert_eq!(talk.core.store.visible(), 3);
        let told = stats(talk.request("module.stats").await.unwrap());
        let run = &told.functions[0];
        assert_eq!((run.calls, run.conflicts, run.retries), (2, 1, 1));
        assert!(run.errors.is_empty());
    });
}

#[test]
fn a_call_that_is_killed_counts_as_killed() {
    let config = Config {
        max_instances: 16,
        call_fuel: 10_000_000_000,
        call_cpu_ms: 5_000,
        call_deadline_ms: 60_000,
        ..Config::default()
    };
    runtime().block_on(async {
        let clock = clock();
        let mut talk = Talk::new(open_memory(&clock), &config, clock).await;
        talk.push(&guest("m")).await.unwrap();
        let mut session = talk.session();
        let endless = tokio::spawn(async move { ask(&mut session, "call m.loop").await });
        let mut operator = talk.session();
        let call = loop {
            match ask(&mut operator, "calls").await.unwrap() {
                Reply::Calls(calls) if calls.iter().any(|it| it.module.is_some()) => {
                    break calls[0].call;
                }
                _ => tokio::task::yield_now().await,
            }
        };
        ask(&mut operator, &format!("kill {call}")).await.unwrap();
        assert_eq!(
            endless.await.unwrap().unwrap_err().code(),
            ErrorCode::Killed
        );
        let told = stats(talk.request("module.stats").await.unwrap());
        assert_eq!(told.functions[0].errors, [("killed".to_owned(), 1)].into());
    });
}
