//! Instances that are kept between calls: what goes on in them, and when they end.

use luge_protocol::{Call, Command, Isolation, LimitsRequest, Options, Reply};
use luge_server::config::Config;
use luge_server::store::MemoryStore;

use crate::support::{Push, Talk, check, clock, open_memory, refused, runtime};

/// A module that counts its calls in a global, and says the number as four bytes, or as one digit.
fn counter(line: &str) -> String {
    let lines = [
        line,
        r#"{"procedure": "count"}"#,
        r#"{"procedure": "bytes"}"#,
        r#"{"procedure": "refuse"}"#,
        r#"{"procedure": "trap"}"#,
        r#"{"procedure": "spin"}"#,
        r#"{"procedure": "grow"}"#,
        r#"{"hook": "hook", "phase": "request", "commands": ["set"]}"#,
    ]
    .join("\n");
    let length = lines.len();
    let data = lines.replace('"', "\\22").replace('\n', "\\0a");
    format!(
        r#"(module
        (import "luge_v1" "output_write" (func $output (param i32 i32)))
        (memory (export "memory") 1)
        (global $calls (mut i32) (i32.const 0))
        (data (i32.const 1024) "{data}")
        (func $next (global.set $calls (i32.add (global.get $calls) (i32.const 1))))
        (func (export "metadata") (result i32)
            (call $output (i32.const 1024) (i32.const {length})) (i32.const 0))
        (func $count (export "count") (result i32) (call $next)
            (i32.store8 (i32.const 0) (i32.add (i32.const 48) (global.get $calls)))
            (call $output (i32.const 0) (i32.const 1)) (i32.const 0))
        (func (export "bytes") (result i32) (call $next)
            (i32.store (i32.const 0) (global.get $calls))
            (call $output (i32.const 0) (i32.const 4)) (i32.const 0))
        (func (export "refuse") (result i32) (drop (call $count)) (i32.const 7))
        (func (export "trap") (result i32) (unreachable))
        (func (export "spin") (result i32) (loop $more (br $more)) (i32.const 0))
        (func (export "grow") (result i32) (call $next)
            (drop (memory.grow (i32.const 8))) (i32.const 0))
        (func (export "hook") (result i32) (drop (call $count)) (i32.const 1)))"#
    )
}

const REUSE: &str = r#"{"module": {"isolation": "reuse"}}"#;

fn pushed(isolation: Option<Isolation>, line: &str) -> Push {
    Push {
        isolation,
        ..Push::new("m", counter(line))
    }
}

#[test]
fn what_a_call_leaves_in_memory_the_next_one_finds_and_a_fresh_one_does_not() {
    let kept = "
        > call m.count
        1
        > call m.count
        2
        > call m.refuse
        rejected: m.refuse refused with the code 7
        > set k v
        blocked: 4
        > call m.count
        5
    ";
    check(&[pushed(None, REUSE)], kept);
    check(&[pushed(Some(Isolation::Reuse), "")], kept);
    let fresh = "
        > call m.count
        1
        > call m.count
        1
        > set k v
        blocked: 1
    ";
    check(&[pushed(None, "")], fresh);
    check(&[pushed(Some(Isolation::Fresh), REUSE)], fresh);
}

#[test]
fn an_instance_ends_with_a_failure() {
    check(
        &[pushed(None, REUSE)],
        "
        > call m.count
        1
        > call m.trap
        trap: …
        > call m.count
        1
        > call m.count
        2
        > call m.spin
        fuel_exhausted: …
        > call m.count
        1
    ",
    );
}

#[test]
fn an_unknown_way_of_keeping_instances_is_refused() {
    let message = refused(&pushed(None, r#"{"module": {"isolation": "shared"}}"#));
    assert!(message.contains("unknown variant `shared`"), "{message}");
}

async fn talk() -> Talk<MemoryStore> {
    let config = Config {
        max_instances: 64,
        ..Config::default()
    };
    Talk::new(open_memory(&clock()), &config, clock()).await
}

/// The number that the instance of this call has counted to.
async fn count(talk: &mut Talk<MemoryStore>, memory_bytes: Option<u64>) -> u32 {
    let command = Command::Call(Call {
        procedure: "m.bytes".into(),
        arguments: b""[..].into(),
        dry_run: None,
        limits: Some(LimitsRequest {
            memory_bytes,
            ..LimitsRequest::default()
        }),
    });
    match talk.ask("", command, Options::default()).await {
        Ok(Reply::Call(reply)) => u32::from_le_bytes(reply.0[..].try_into().unwrap()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_instance_ends_after_ten_thousand_calls() {
    runtime().block_on(async {
        let mut talk = talk().await;
        talk.push(&pushed(None, REUSE)).await.unwrap();
        for expected in 1..=10_000 {
            assert_eq!(count(&mut talk, None).await, expected);
        }
        assert_eq!(count(&mut talk, None).await, 1);
    });
}

#[test]
fn another_version_never_runs_in_an_instance_of_the_one_before() {
    runtime().block_on(async {
        let mut talk = talk().await;
        talk.push(&pushed(None, REUSE)).await.unwrap();
        assert_eq!(count(&mut talk, None).await, 1);
        assert_eq!(count(&mut talk, None).await, 2);
        // The same bytes under other settings are another version.
        talk.push(&pushed(Some(Isolation::Reuse), REUSE))
            .await
            .unwrap();
        assert_eq!(count(&mut talk, None).await, 1);
        talk.request("module.rollback m").await.unwrap();
        assert_eq!(count(&mut talk, None).await, 1);
    });
}

#[test]
fn an_instance_that_has_grown_serves_no_call_that_may_not_have_its_memory() {
    runtime().block_on(async {
        let mut talk = talk().await;
        talk.push(&pushed(None, REUSE)).await.unwrap();
        talk.request("call m.grow").await.unwrap();
        assert_eq!(count(&mut talk, None).await, 2);
        assert_eq!(count(&mut talk, Some(4 << 16)).await, 1);
    });
}
