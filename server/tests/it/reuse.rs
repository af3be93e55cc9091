//! Instances that are kept between calls: what goes on in them, and when they end.

use std::sync::Arc;
use std::time::Duration;

use luge_protocol::{Call, Command, ErrorCode, Isolation, LimitsRequest, Options, Reply};
use luge_server::config::Config;
use luge_server::function::{self, Budget, Candidate, Function, Runtime as _, Stage};
use luge_server::store::{MemorySnapshot, MemoryStore};
use luge_server::udf::{Instance, Module};

use crate::calls;
use crate::support::{Push, Talk, check, clock, now, open_memory, refused, runtime};

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
        limits: Some(Box::new(LimitsRequest {
            memory_bytes,
            ..LimitsRequest::default()
        })),
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

#[test]
fn an_instance_ends_with_a_call_that_is_killed_in_it() {
    runtime().block_on(async {
        let mut talk = Talk::new(open_memory(&clock()), &calls::config(), clock()).await;
        let push = Push {
            limits: calls::endless(),
            ..pushed(None, REUSE)
        };
        talk.push(&push).await.unwrap();
        assert_eq!(count(&mut talk, None).await, 1);
        assert_eq!(count(&mut talk, None).await, 2);
        let mut operator = talk.session();
        let spinning = calls::begin(&talk, "call m.spin");
        let is_running =
            |calls: &[luge_protocol::RunningCall]| calls.first().is_some_and(|it| it.cpu_us > 0);
        let running = calls::look(&mut operator, is_running).await;
        // The other call has the instance that was kept, so this one is given a new one.
        assert_eq!(count(&mut talk, None).await, 1);
        calls::kill(&mut operator, running[0].call).await;
        assert_eq!(spinning.await.unwrap(), ErrorCode::Killed);
        assert_eq!(count(&mut talk, None).await, 2);
        assert_eq!(count(&mut talk, None).await, 3);
    });
}

/// A core whose runtime keeps so many instances of a module, and a quarter of sixteen of all.
async fn bounded(of_module: usize) -> Talk<MemoryStore> {
    let config = Config {
        max_instances: 16,
        max_module_idle_instances: of_module,
        ..Config::default()
    };
    Talk::new(open_memory(&clock()), &config, clock()).await
}

async fn load(talk: &Talk<MemoryStore>) -> Arc<Module<MemorySnapshot>> {
    let candidate = Candidate {
        name: "m",
        wasm: &wat::parse_str(counter(REUSE)).unwrap(),
        limits: &talk.core.settings.ceilings.default,
    };
    talk.core.runtime.load(candidate).await.unwrap().module
}

/// Calls a module in so many instances that live at once, and answers what each has counted to.
async fn count_in(
    talk: &Talk<MemoryStore>,
    module: &Arc<Module<MemorySnapshot>>,
    instances: usize,
) -> Vec<u32> {
    let limits = talk.core.settings.ceilings.default.clone();
    let budget = Budget {
        is_alone: false,
        cpu: limits.cpu,
        begun: Some(now()),
        deadline: now() + Duration::from_secs(60),
        isolation: Isolation::Reuse,
        limits: Arc::new(limits),
    };
    let mut live: Vec<Option<Instance<MemorySnapshot>>> = Vec::new();
    let mut counts = Vec::new();
    for _ in 0..instances {
        let runtime = &talk.core.runtime;
        let function = Arc::new(Function {
            export: runtime.export(module, "bytes"),
            ..Function::default()
        });
        let mut call =
            function::Call::new(Stage::Procedure, None, Arc::default(), function, [7; 32]);
        call.max_output_bytes = 4;
        let mut instance = None;
        let ended = runtime
            .call(module, &mut instance, Box::new(call), budget.clone())
            .await;
        assert_eq!(ended.outcome, Ok(0));
        let output = ended.call.unwrap().output;
        counts.push(u32::from_le_bytes(output[..].try_into().unwrap()));
        live.push(instance);
    }
    counts.sort_unstable();
    counts
}

#[test]
fn no_more_instances_of_a_module_are_kept_than_its_bound_says() {
    runtime().block_on(async {
        let talk = bounded(2).await;
        let module = load(&talk).await;
        assert_eq!(count_in(&talk, &module, 3).await, [1, 1, 1]);
        assert_eq!(count_in(&talk, &module, 3).await, [1, 2, 2]);
        let none = bounded(0).await;
        let module = load(&none).await;
        assert_eq!(count_in(&none, &module, 1).await, [1]);
        assert_eq!(count_in(&none, &module, 1).await, [1]);
    });
}

#[test]
fn no_more_instances_of_all_modules_are_kept_than_their_share_and_a_module_that_is_gone_gives_its_own_back()
 {
    runtime().block_on(async {
        let talk = bounded(16).await;
        let (one, other) = (load(&talk).await, load(&talk).await);
        assert_eq!(count_in(&talk, &one, 3).await, [1, 1, 1]);
        assert_eq!(count_in(&talk, &other, 3).await, [1, 1, 1]);
        // Of four places the first has three.
        assert_eq!(count_in(&talk, &other, 3).await, [1, 1, 2]);
        assert_eq!(count_in(&talk, &one, 3).await, [2, 2, 2]);
        drop(one);
        assert_eq!(count_in(&talk, &other, 3).await, [1, 1, 3]);
        assert_eq!(count_in(&talk, &other, 3).await, [2, 2, 4]);
    });
}

/// Calls were refused while instances of modules that nobody called stood in all slots.
#[test]
fn an_instance_that_waits_gives_its_slot_to_a_call() {
    runtime().block_on(async {
        let talk = bounded(16).await;
        let (one, other) = (load(&talk).await, load(&talk).await);
        assert_eq!(count_in(&talk, &one, 2).await, [1, 1]);
        assert_eq!(count_in(&talk, &other, 16).await, [1; 16]);
        assert_eq!(count_in(&talk, &one, 1).await, [1]);
    });
}

/// The modules that were called first held all places for kept instances for as long as they were there, called or not.
#[test]
fn a_module_that_is_not_called_gives_its_places_to_one_that_is() {
    runtime().block_on(async {
        let talk = bounded(16).await;
        let (one, other) = (load(&talk).await, load(&talk).await);
        assert_eq!(count_in(&talk, &one, 4).await, [1, 1, 1, 1]);
        assert_eq!(count_in(&talk, &other, 1).await, [1]);
        assert_eq!(count_in(&talk, &other, 1).await, [1]);
        // It was called, and keeps its places for once.
        talk.core.runtime.make_room();
        assert_eq!(count_in(&talk, &one, 1).await, [2]);
        talk.core.runtime.make_room();
        assert_eq!(count_in(&talk, &other, 1).await, [1]);
        talk.core.runtime.make_room();
        assert_eq!(count_in(&talk, &other, 1).await, [1]);
        assert_eq!(count_in(&talk, &other, 1).await, [2]);
        // With few places taken all stay.
        talk.core.runtime.make_room();
        talk.core.runtime.make_room();
        assert_eq!(count_in(&talk, &other, 1).await, [3]);
        assert_eq!(count_in(&talk, &one, 1).await, [1]);
    });
}

/// An instance that was refused memory in one hook of a request served others after the next hook of it.
#[test]
fn an_instance_that_was_refused_memory_serves_no_later_request_whatever_else_it_did_in_its_own() {
    let lines = [
        REUSE,
        r#"{"procedure": "count"}"#,
        r#"{"hook": "greedy", "phase": "request", "commands": ["set"], "order": 1}"#,
        r#"{"hook": "modest", "phase": "request", "commands": ["set"], "order": 2}"#,
    ]
    .join("\n");
    let length = lines.len();
    let data = lines.replace('"', "\\22").replace('\n', "\\0a");
    let wat = format!(
        r#"(module
        (import "luge_v1" "output_write" (func $output (param i32 i32)))
        (memory (export "memory") 1)
        (global $calls (mut i32) (i32.const 48))
        (data (i32.const 1024) "{data}")
        (func (export "metadata") (result i32)
            (call $output (i32.const 1024) (i32.const {length})) (i32.const 0))
        (func (export "count") (result i32)
            (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
            (i32.store8 (i32.const 0) (global.get $calls))
            (call $output (i32.const 0) (i32.const 1)) (i32.const 0))
        (func (export "greedy") (result i32)
            (i32.ne (memory.grow (i32.const 60000)) (i32.const -1)))
        (func (export "modest") (result i32) (i32.const 0)))"#
    );
    check(
        &[Push::new("m", wat)],
        "
        > call m.count
        1
        > call m.count
        2
        > set k v
        v2
        > call m.count
        1
    ",
    );
}
