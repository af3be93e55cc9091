use luge_protocol::{Reply, Request};
use luge_server::config::Config;
use luge_server::session::Stream;
use luge_server::store::{MemorySnapshot, MemoryStore};
use luge_server::udf::WasmRuntime;

use crate::support::{
    Push, Talk, TestSession, ask, clock, now, open_memory, parsed, rendered, runtime,
};

type Memory = MemoryStore;
type TestStream = Stream<Memory, WasmRuntime<MemorySnapshot>>;

/// Each procedure logs: `say` its input at the level 2, `warn` at the level 3, `many` a hundred and
/// fifty lines.
fn guest(name: &'static str) -> Push {
    Push::new(
        name,
        r#"(module
        (import "luge_v1" "input" (func $input (param i32 i32 i32) (result i64)))
        (import "luge_v1" "log" (func $log (param i32 i32 i32)))
        (memory (export "memory") 1)
        (func $line (param $level i32)
            (call $log (local.get $level) (i32.const 0)
                (i32.wrap_i64 (call $input (i32.const 0) (i32.const 0) (i32.const 1000)))))
        (func (export "say") (result i32) (call $line (i32.const 2)) (i32.const 0))
        (func (export "warn") (result i32) (call $line (i32.const 3)) (i32.const 0))
        (func (export "many") (result i32) (local $left i32)
            (local.set $left (i32.const 150))
            (loop $on
                (call $line (i32.const 1))
                (br_if $on (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
            (i32.const 0)))"#,
    )
}

async fn talk(change: impl Fn(&mut Config)) -> Talk<Memory> {
    let mut config = Config {
        max_instances: 16,
        ..Config::default()
    };
    change(&mut config);
    let clock = clock();
    let mut talk = Talk::new(open_memory(&clock), &config, clock).await;
    for name in ["m", "n"] {
        talk.push(&guest(name)).await.unwrap();
    }
    talk
}

async fn requests(talk: &mut Talk<Memory>, lines: &[&str]) {
    for line in lines {
        talk.request(line).await.unwrap();
    }
}

/// Begins a stream; answers its first response, too.
async fn begin(session: &mut TestSession<Memory>, line: &str) -> (String, TestStream) {
    let first = ask(session, line).await.unwrap();
    (rendered(Ok(first)), session.begun().unwrap())
}

async fn next(stream: &mut TestStream) -> Option<String> {
    let event = stream.next().await.unwrap();
    event.map(|event| rendered(Ok(event)))
}

/// Everything that is told until the end.
async fn all(session: &mut TestSession<Memory>, line: &str) -> Vec<String> {
    let (first, mut stream) = begin(session, line).await;
    let mut told = vec![first];
    while let Some(event) = next(&mut stream).await {
        told.push(event);
    }
    told
}

#[test]
fn lines_that_are_kept_are_told_by_module_and_by_level_and_then_it_ends() {
    runtime().block_on(async {
        let mut talk = talk(|_| {}).await;
        let mut session = talk.session();
        assert_eq!(all(&mut session, "logs").await, ["no lines"]);
        requests(
            &mut talk,
            &["call m.say a", "call n.say b", "call m.warn c"],
        )
        .await;
        assert_eq!(
            all(&mut session, "logs").await,
            ["info m.say: a; info n.say: b; warn m.warn: c"]
        );
        assert_eq!(
            all(&mut session, "logs m").await,
            ["info m.say: a; warn m.warn: c"]
        );
        assert_eq!(
            all(&mut session, "logs --level warn").await,
            ["warn m.warn: c"]
        );
        assert_eq!(
            all(&mut session, "logs n --level error").await,
            ["no lines"]
        );
        assert_eq!(all(&mut session, "logs nobody").await, ["no lines"]);
    });
}

#[test]
fn a_line_tells_its_call_and_its_time_and_has_no_control_characters() {
    runtime().block_on(async {
        let mut talk = talk(|_| {}).await;
        requests(&mut talk, &["call m.say a\u{1b}[2J\rb"]).await;
        let mut session = talk.session();
        let Reply::Lines(event) = ask(&mut session, "logs").await.unwrap() else {
            panic!("no lines");
        };
        let line = &event.lines[0];
        assert_eq!(line.message, "a\\u{1b}[2J\\rb");
        assert_eq!(line.time_ms, crate::support::START_MS);
        // hello, two pushes, and the call.
        assert_eq!(line.call, 4);
    });
}

#[test]
fn who_follows_is_told_of_lines_as_they_come() {
    runtime().block_on(async {
        let mut talk = talk(|_| {}).await;
        requests(&mut talk, &["call m.say before"]).await;
        let mut session = talk.session();
        let (first, mut stream) = begin(&mut session, "logs m --follow").await;
        assert_eq!(first, "info m.say: before");
        let waiting = tokio::spawn(async move {
            let told = next(&mut stream).await;
            (told, stream)
        });
        requests(&mut talk, &["call n.say other", "call m.say after"]).await;
        let (told, stream) = waiting.await.unwrap();
        assert_eq!(told.as_deref(), Some("info m.say: after"));
        let stopped = stream.stopped();
        let stop = Request::new(9, parsed("stop 1")).encode();
        session.handle(&stop, now()).await.response.outcome.unwrap();
        stopped.await;
    });
}

#[test]
fn who_is_slow_is_told_how_many_lines_went_and_holds_nobody_up() {
    runtime().block_on(async {
        let mut talk = talk(|config| config.max_guest_log_lines = 2).await;
        let mut session = talk.session();
        let (first, mut stream) = begin(&mut session, "logs --follow").await;
        assert_eq!(first, "no lines");
        for word in ["a", "b", "c", "d", "e"] {
            requests(&mut talk, &[&format!("call m.say {word}")]).await;
        }
        assert_eq!(
            next(&mut stream).await.as_deref(),
            Some("3 skipped; info m.say: d; info m.say: e")
        );
    });
}

#[test]
fn a_call_and_a_second_have_bounds_which_are_told_in_a_line() {
    runtime().block_on(async {
        let mut talk = talk(|config| config.max_guest_log_rate = 120).await;
        requests(
            &mut talk,
            &["call m.many x", "call m.many y", "call n.say z"],
        )
        .await;
        let mut session = talk.session();
        let told = all(&mut session, "logs").await.join("; ");
        let lines: Vec<&str> = told.split("; ").collect();
        // A line says that a call has no more; what follows the semicolon in it is split off here.
        assert_eq!(lines.iter().filter(|it| it.ends_with(": x")).count(), 100);
        assert!(told.contains("warn m.many: more than 100 lines in one call; the rest is dropped"));
        assert_eq!(lines.iter().filter(|it| it.ends_with(": y")).count(), 19);
        assert!(told.ends_with(
            "warn m.many: more than 120 lines in one second; the rest is dropped; info n.say: z"
        ));
    });
}
