use luge_protocol::{ErrorCode, HookOverride, LimitsRequest, OnFailure, Reply, RunningCall};
use std::sync::Arc;

use luge_server::config::Config;
use luge_server::store::embedded::disk::RealDisk;
use luge_server::store::embedded::{EmbeddedOptions, EmbeddedStore};
use luge_server::store::{ReadPoint, Store};
use tokio::task::JoinHandle;

use crate::support::{
    Push, Talk, TestSession, ask, check, clock, open_embedded, open_memory, options, runtime,
};

/// Limits that nothing here reaches: what ends is killed.
pub(crate) fn endless() -> Option<LimitsRequest> {
    Some(LimitsRequest {
        fuel: Some(1_000_000_000_000),
        cpu_ms: Some(3_600_000),
        deadline_ms: Some(3_600_000),
        ..LimitsRequest::default()
    })
}

/// A module whose functions write `before=1` first, and then do what `body` says.
fn guest(name: &'static str, body: &str) -> Push {
    let wat = format!(
        r#"(module
        (import "luge_v1" "output_write" (func $output (param i32 i32)))
        (import "luge_v1" "kv_set" (func $set (param i32 i32 i32 i32 i64)))
        (import "luge_v1" "kv_delete" (func $delete (param i32 i32) (result i32)))
        (import "luge_v1" "kv_incr" (func $incr (param i32 i32 i64 i32) (result i32)))
        (import "luge_v1" "kv_scan" (func $scan (param i32 i32 i32 i32 i32 i32) (result i32)))
        (import "luge_v1" "kv_scan_next" (func $next (param i32 i32 i32) (result i64)))
        (import "luge_v1" "kv_scan_close" (func $close (param i32)))
        (memory (export "memory") 1)
        (data (i32.const 1024) "before1")
        (data (i32.const 2048) "{{\22hook\22:\22guard\22,\22phase\22:\22request\22,\22commands\22:[\22set\22],\22prefix\22:\22guarded\22}}")
        (func $write (call $set (i32.const 1024) (i32.const 6) (i32.const 1030) (i32.const 1) (i64.const 0)))
        {body})"#
    );
    Push {
        limits: endless(),
        ..Push::new(name, wat)
    }
}

const SPIN: &str = r#"(func (export "run") (result i32)
    (call $write) (loop $on (br $on)) (i32.const 0))"#;

/// Looks at the calls until they are as wanted.
pub(crate) async fn look<S: Store>(
    session: &mut TestSession<S>,
    is_wanted: impl Fn(&[RunningCall]) -> bool,
) -> Vec<RunningCall> {
    loop {
        match ask(session, "calls").await.unwrap() {
            Reply::Calls(calls) if is_wanted(&calls) => return calls,
            Reply::Calls(_) => tokio::task::yield_now().await,
            other => panic!("{other:?}"),
        }
    }
}

/// Has a session of its own ask for this, and answers the code that it ends with.
pub(crate) fn begin<S: Store>(talk: &Talk<S>, line: &'static str) -> JoinHandle<ErrorCode> {
    let mut session = talk.session();
    tokio::spawn(async move { ask(&mut session, line).await.unwrap_err().code() })
}

pub(crate) async fn kill<S: Store>(session: &mut TestSession<S>, call: u64) {
    ask(session, &format!("kill {call}")).await.unwrap();
}

async fn is_empty<S: Store>(session: &mut TestSession<S>) {
    look(session, <[RunningCall]>::is_empty).await;
    match ask(session, "scan").await.unwrap() {
        Reply::Scan(scan) => assert_eq!(scan.0, []),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn config() -> Config {
    Config {
        max_instances: 16,
        max_call_fuel: u64::MAX,
        max_call_cpu_ms: 3_600_000,
        max_call_deadline_ms: 3_600_000,
        phase_cpu_ms: 3_600_000,
        ..Config::default()
    }
}

/// Runs a test on the memory store and on the embedded one.
macro_rules! on_both {
    ($config:expr, $test:ident) => {
        runtime().block_on(async {
            let clock = clock();
            let memory = open_memory(&clock);
            $test(Talk::new(memory, &$config, clock).await).await;
            let clock = crate::support::clock();
            let folder = tempfile::tempdir().unwrap();
            let embedded = open_embedded(folder.path(), clock.clone());
            $test(Talk::new(embedded, &$config, clock).await).await;
        });
    };
}

pub(crate) use on_both;

#[test]
fn an_endless_loop_is_seen_and_killed_and_leaves_nothing() {
    on_both!(config(), test);
    async fn test<S: Store>(mut talk: Talk<S>) {
        talk.push(&guest("spin", SPIN)).await.unwrap();
        let mut operator = talk.session();
        let spinning = begin(&talk, "call spin.run");
        // A tick may come before the memory is there.
        let calls = look(&mut operator, |calls| {
            calls.iter().any(|it| it.cpu_us > 0 && it.memory_bytes > 0)
        })
        .await;
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0].command, "call");
        assert_eq!(calls[0].module.as_deref(), Some("spin"));
        assert_eq!(calls[0].function.as_deref(), Some("run"));
        assert_eq!((calls[0].attempt, calls[0].memory_bytes), (1, 65536));
        kill(&mut operator, calls[0].call).await;
        assert_eq!(spinning.await.unwrap(), ErrorCode::Killed);
        is_empty(&mut operator).await;
        let line = format!("kill {}", calls[0].call);
        let error = ask(&mut operator, &line).await.unwrap_err();
        let message = format!(
            "not_found: no call {} is running; `luge ps` (`calls.list`) shows those that are",
            calls[0].call
        );
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn a_scan_that_begins_again_and_again_is_killed() {
    on_both!(config(), test);
    async fn test<S: Store>(mut talk: Talk<S>) {
        let scans = guest(
            "scans",
            r#"(func (export "run") (result i32) (local $handle i32)
                (call $write)
                (loop $on
                    (local.set $handle (call $scan (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
                    (loop $more (br_if $more (i64.ne (call $next (local.get $handle) (i32.const 4096) (i32.const 8192)) (i64.const 0))))
                    (call $close (local.get $handle))
                    (br $on))
                (i32.const 0))"#,
        );
        talk.push(&scans).await.unwrap();
        for number in 0..300 {
            talk.request(&format!("set k{number} v")).await.unwrap();
        }
        let mut operator = talk.session();
        let scanning = begin(&talk, "call scans.run");
        let calls = look(&mut operator, |calls| calls.iter().any(|it| it.cpu_us > 0)).await;
        kill(&mut operator, calls[0].call).await;
        assert_eq!(scanning.await.unwrap(), ErrorCode::Killed);
        let found = talk.request("get before").await.unwrap();
        assert_eq!(found, Reply::Get(None));
    }
}

/// Reads `k`: without it a long loop, which ends, and with it one without end.
const RETRIED: &str = r#"
    (import "luge_v1" "kv_get" (func $get (param i32 i32 i32 i32 i32) (result i64)))
    (memory (export "memory") 1)
    (data (i32.const 0) "kbefore")
    (func (export "run") (result i32) (local $left i32)
        (call $set (i32.const 1) (i32.const 6) (i32.const 0) (i32.const 1) (i64.const 0))
        (if (i64.ne (call $get (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 64) (i32.const 64)) (i64.const -1))
            (then (loop $on (br $on))))
        (local.set $left (i32.const 500000000))
        (loop $more (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
        (i32.const 0))"#;

#[test]
fn a_call_is_killed_in_the_middle_of_its_retries() {
    on_both!(config(), test);
    async fn test<S: Store>(mut talk: Talk<S>) {
        let set = r#"(import "luge_v1" "kv_set" (func $set (param i32 i32 i32 i32 i64)))"#;
        let push = Push {
            limits: endless(),
            ..Push::new("retried", format!("(module {set} {RETRIED})"))
        };
        talk.push(&push).await.unwrap();
        let mut operator = talk.session();
        // It conflicts with a write that is committed while its first attempt runs, so there is a second.
        let retried = begin(&talk, "call retried.run");
        look(&mut operator, |calls| calls.iter().any(|it| it.cpu_us > 0)).await;
        talk.request("set k v").await.unwrap();
        let calls = look(&mut operator, |calls| {
            calls.iter().any(|it| it.attempt == 2 && it.cpu_us > 0)
        })
        .await;
        kill(&mut operator, calls[0].call).await;
        assert_eq!(retried.await.unwrap(), ErrorCode::Killed);
        let found = talk.request("get before").await.unwrap();
        assert_eq!(found, Reply::Get(None));
    }
}

/// A kill is no failure of the hook: what fails open must not go on without it.
#[test]
fn a_killed_hook_ends_its_request_even_where_it_fails_open() {
    on_both!(config(), test);
    async fn test<S: Store>(mut talk: Talk<S>) {
        let hook = Push {
            overrides: Some(vec![HookOverride {
                hook: Some("guard".into()),
                prefix: None,
                order: None,
                on_failure: Some(OnFailure::Continue),
            }]),
            ..guest(
                "watchdog",
                r#"(func (export "metadata") (result i32)
                    (call $output (i32.const 2048) (i32.const 72)) (i32.const 0))
                (func (export "guard") (result i32) (call $write) (loop $on (br $on)) (i32.const 0))"#,
            )
        };
        talk.push(&hook).await.unwrap();
        let mut operator = talk.session();
        let setting = begin(&talk, "set guarded 1");
        let calls = look(&mut operator, |calls| calls.iter().any(|it| it.cpu_us > 0)).await;
        assert_eq!(
            (&calls[0].command[..], calls[0].function.as_deref()),
            ("set", Some("guard"))
        );
        kill(&mut operator, calls[0].call).await;
        assert_eq!(setting.await.unwrap(), ErrorCode::Killed);
        is_empty(&mut operator).await;
    }
}

#[test]
fn a_call_that_waits_for_its_place_is_seen_and_killed_there() {
    let config = Config {
        max_running_calls: 1,
        ..config()
    };
    on_both!(config, test);
    async fn test<S: Store>(mut talk: Talk<S>) {
        talk.push(&guest("spin", SPIN)).await.unwrap();
        let mut operator = talk.session();
        let running = begin(&talk, "call spin.run");
        look(&mut operator, |calls| calls.iter().any(|it| it.cpu_us > 0)).await;
        let waiting = begin(&talk, "call spin.run");
        let calls = look(&mut operator, |calls| calls.len() == 2).await;
        assert_eq!((calls[1].module.as_deref(), calls[1].cpu_us), (None, 0));
        kill(&mut operator, calls[1].call).await;
        assert_eq!(waiting.await.unwrap(), ErrorCode::Killed);
        kill(&mut operator, calls[0].call).await;
        assert_eq!(running.await.unwrap(), ErrorCode::Killed);
        is_empty(&mut operator).await;
    }
}

const QUICK: &str = r#"(func (export "run") (result i32) (call $write) (i32.const 0))"#;

/// A module whose functions one request may run at a time.
fn narrow(push: Push) -> Push {
    let limits = push.limits.clone().unwrap_or_default();
    Push {
        limits: Some(LimitsRequest {
            running_calls: Some(1),
            ..limits
        }),
        ..push
    }
}

/// There are two places for all. Who waits for a module must not take one of them.
#[test]
fn calls_beyond_a_modules_bound_wait_and_then_are_overloaded_while_other_modules_go_on() {
    let config = Config {
        max_running_calls: 2,
        max_module_waiting_calls: 1,
        ..config()
    };
    on_both!(config, test);
    async fn test<S: Store>(mut talk: Talk<S>) {
        talk.push(&narrow(guest("spin", SPIN))).await.unwrap();
        talk.push(&guest("quick", QUICK)).await.unwrap();
        let mut operator = talk.session();
        let running = begin(&talk, "call spin.run");
        look(&mut operator, |calls| calls.iter().any(|it| it.cpu_us > 0)).await;
        let waiting = begin(&talk, "call spin.run");
        look(&mut operator, |calls| calls.len() == 2).await;
        let error = talk.request("call spin.run").await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "overloaded: the module `spin` has no room: 1 requests run its functions and 1 wait, which are its limits (running_calls at its push, and the setting max_module_waiting_calls); try again later"
        );
        talk.request("call quick.run").await.unwrap();
        talk.request("del before").await.unwrap();
        let calls = look(&mut operator, |calls| calls.len() == 2).await;
        assert_eq!(calls[1].module, None);
        // Who waits follows who runs.
        kill(&mut operator, calls[0].call).await;
        assert_eq!(running.await.unwrap(), ErrorCode::Killed);
        let calls = look(&mut operator, |calls| calls.iter().any(|it| it.cpu_us > 0)).await;
        kill(&mut operator, calls[0].call).await;
        assert_eq!(waiting.await.unwrap(), ErrorCode::Killed);
        is_empty(&mut operator).await;
    }
}

#[test]
fn a_hook_at_its_modules_bound_holds_up_only_the_requests_that_it_stands_around() {
    on_both!(config(), test);
    async fn test<S: Store>(mut talk: Talk<S>) {
        let hook = narrow(guest(
            "watchdog",
            r#"(func (export "metadata") (result i32)
                (call $output (i32.const 2048) (i32.const 72)) (i32.const 0))
            (func (export "guard") (result i32) (loop $on (br $on)) (i32.const 0))"#,
        ));
        talk.push(&hook).await.unwrap();
        let mut operator = talk.session();
        let running = begin(&talk, "set guarded 1");
        look(&mut operator, |calls| calls.iter().any(|it| it.cpu_us > 0)).await;
        let waiting = begin(&talk, "set guarded:2 1");
        let calls = look(&mut operator, |calls| calls.len() == 2).await;
        assert_eq!(calls[1].module, None);
        talk.request("set free 1").await.unwrap();
        talk.request("del free").await.unwrap();
        for (call, answer) in calls.iter().zip([running, waiting]) {
            kill(&mut operator, call.call).await;
            assert_eq!(answer.await.unwrap(), ErrorCode::Killed);
        }
        is_empty(&mut operator).await;
    }
}

/// A module that ran long runs apart from others: it is seen, killed and answered all the same, and its
/// short functions are what they were.
#[test]
fn a_module_that_ran_long_is_still_killed_limited_and_answered() {
    on_both!(config(), test);
    async fn test<S: Store>(mut talk: Talk<S>) {
        let body = format!(
            r#"{SPIN}
            (func (export "quick") (result i32) (call $write) (call $output (i32.const 1024) (i32.const 6)) (i32.const 0))
            (func (export "refuse") (result i32) (call $write) (i32.const 7))
            (func (export "fall") (result i32) (call $write) unreachable)"#
        );
        talk.push(&guest("both", &body)).await.unwrap();
        let mut operator = talk.session();
        for _ in 0..3 {
            let spinning = begin(&talk, "call both.run");
            let calls = look(&mut operator, |calls| {
                calls.iter().any(|it| it.cpu_us > 2_000)
            })
            .await;
            kill(&mut operator, calls[0].call).await;
            assert_eq!(spinning.await.unwrap(), ErrorCode::Killed);
            is_empty(&mut operator).await;
            let error = ask(&mut operator, "call both.run --fuel 100000")
                .await
                .unwrap_err();
            assert_eq!(error.code(), ErrorCode::FuelExhausted);
            let error = talk.request("call both.refuse").await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::Rejected);
            let error = talk.request("call both.fall").await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::Trap);
            is_empty(&mut operator).await;
            let answer = talk.request("call both.quick").await.unwrap();
            assert!(format!("{answer:?}").contains("before"), "{answer:?}");
            talk.request("del before").await.unwrap();
        }
    }
}

/// A kill was answered, and the call committed all the same once the store had room for it.
#[test]
fn a_call_that_waits_for_the_store_s_room_is_killed_there() {
    runtime().block_on(async {
        let clock = clock();
        let folder = tempfile::tempdir().unwrap();
        let tiny = EmbeddedOptions {
            max_unfolded_bytes: 1,
            ..options()
        };
        let disk = Arc::new(RealDisk);
        let time = Box::new(clock.clone());
        let store = EmbeddedStore::open(folder.path(), [1; 16], disk, time, tiny).unwrap();
        let mut talk = Talk::new(store, &config(), clock).await;
        talk.push(&guest("quick", QUICK)).await.unwrap();
        talk.core.store.folded().await.unwrap();
        // What is written behind an open snapshot can't be folded, and fills the memory there is.
        let held = talk.core.store.begin(ReadPoint::Newest).await.unwrap();
        talk.request("set full 1").await.unwrap();
        let mut operator = talk.session();
        let waiting = begin(&talk, "call quick.run");
        let calls = look(&mut operator, |calls| !calls.is_empty()).await;
        // Long enough for its function, and not for its commit.
        for _ in 0..1000 {
            look(&mut operator, |calls| !calls.is_empty()).await;
        }
        kill(&mut operator, calls[0].call).await;
        assert_eq!(waiting.await.unwrap(), ErrorCode::Killed);
        drop(held);
        let found = talk.request("get before").await.unwrap();
        assert_eq!(found, Reply::Get(None));
    });
}

/// A request that goes away takes its line with it.
#[test]
fn a_call_whose_request_is_dropped_is_listed_no_more() {
    on_both!(config(), test);
    async fn test<S: Store>(mut talk: Talk<S>) {
        talk.push(&guest("spin", SPIN)).await.unwrap();
        let mut operator = talk.session();
        let running = begin(&talk, "call spin.run");
        look(&mut operator, |calls| !calls.is_empty()).await;
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
        is_empty(&mut operator).await;
    }
}

#[test]
fn a_dry_run_tells_what_it_would_write_and_writes_nothing() {
    let both = guest(
        "both",
        r#"(func (export "run") (result i32)
            (call $write)
            (drop (call $delete (i32.const 1026) (i32.const 1)))
            (drop (call $incr (i32.const 1025) (i32.const 1) (i64.const 5) (i32.const 0)))
            (call $set (i32.const 1027) (i32.const 1) (i32.const 1030) (i32.const 1) (i64.const 500))
            (call $output (i32.const 1024) (i32.const 6))
            (i32.const 0))
        (func (export "refuse") (result i32) (call $write) (i32.const 9))"#,
    );
    let both = Push {
        limits: None,
        ..both
    };
    check(
        &[both],
        "
        > set f 1
        v2
        > call both.run --dry-run
        before, before=1, e=5, f deleted, o=1@1000500
        > scan
        f=1
        > call both.refuse --dry-run
        rejected: both.refuse refused with the code 9
        > call both.run
        before
        > scan
        before=1 e=5 o=1
    ",
    );
}

#[test]
fn a_dry_run_lists_as_many_writes_as_its_bound_allows_and_counts_the_rest() {
    on_both!(config(), test);
    async fn test<S: Store>(mut talk: Talk<S>) {
        let many = guest(
            "many",
            r#"(func (export "run") (result i32) (local $number i32)
                (loop $more
                    (i32.store (i32.const 8) (local.get $number))
                    (call $set (i32.const 8) (i32.const 4) (i32.const 1030) (i32.const 1) (i64.const 0))
                    (local.set $number (i32.add (local.get $number) (i32.const 1)))
                    (br_if $more (i32.lt_u (local.get $number) (i32.const 1500))))
                (i32.const 0))"#,
        );
        talk.push(&many).await.unwrap();
        let Reply::DryRun(told) = talk.request("call many.run --dry-run").await.unwrap() else {
            panic!("no dry run");
        };
        assert_eq!((told.writes.len(), told.more), (1000, 500));
        assert!(told.writes.is_sorted_by(|left, right| left.0 < right.0));
        assert!(
            told.fuel > 1_500_000 && told.memory_bytes == 65536,
            "{told:?}"
        );
        is_empty(&mut talk.session()).await;
    }
}
