//! Deadlines that pass while a call waits for its turn among those that run long.

use luge_protocol::{ErrorCode, Options, Reply, Request};
use luge_server::store::Store;

use crate::calls::{begin, config, endless, kill, look, on_both};
use crate::support::{
    Push, Talk, TestSession, ask, clock, language, now, open_embedded, open_memory, runtime,
};

/// Counts the calls of `spin.run`.
const COUNTER: &str = r#"(module
    (import "luge_v1" "output_write" (func $output (param i32 i32)))
    (import "luge_v1" "kv_incr" (func $incr (param i32 i32 i64 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 1024) "count")
    (data (i32.const 2048) "{\22hook\22:\22count\22,\22phase\22:\22request\22,\22commands\22:[\22call\22],\22prefix\22:\22spin.run\22}")
    (func (export "metadata") (result i32) (call $output (i32.const 2048) (i32.const 74)) (i32.const 0))
    (func (export "count") (result i32)
        (drop (call $incr (i32.const 1024) (i32.const 5) (i64.const 1) (i32.const 0)))
        (i32.const 0)))"#;

const SPIN: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "busy") (result i32) (loop $on (br $on)) (i32.const 0))
    (func (export "run") (result i32) (loop $on (br $on)) (i32.const 0)))"#;

async fn ask_until<S: Store>(session: &mut TestSession<S>, line: &str, deadline_ms: u64) -> Reply {
    let request = Request {
        options: Options {
            deadline_ms: Some(deadline_ms),
            ..Options::default()
        },
        ..Request::new(1, language::parse(line))
    };
    let answer = session.handle(&request.encode(), now()).await;
    let error = answer.response.outcome.unwrap_err();
    assert_eq!(error.code(), ErrorCode::DeadlineExceeded, "{error}");
    ask(session, "get count").await.unwrap()
}

/// A call that met its deadline while it waited for its turn was given up there, and what hooks had written before it
/// was gone with it: whoever made a module long could call past a limiter.
#[test]
fn what_a_hook_counts_stands_where_the_call_behind_it_meets_its_deadline() {
    on_both!(config(), test);
    async fn test<S: Store>(mut talk: Talk<S>) {
        let unbounded = |name, wat: &str| Push {
            limits: endless(),
            ..Push::new(name, wat.to_owned())
        };
        talk.push(&unbounded("counter", COUNTER)).await.unwrap();
        talk.push(&unbounded("spin", SPIN)).await.unwrap();
        let mut operator = talk.session();
        let busy: Vec<_> = (0..8).map(|_| begin(&talk, "call spin.busy")).collect();
        look(&mut operator, |calls| {
            let long = calls.iter().filter(|it| it.cpu_us > 1_000);
            long.count() == busy.len()
        })
        .await;
        for counted in 1..=3 {
            let count = ask_until(&mut operator, "call spin.run", 20).await;
            let told = format!("{count:?}");
            assert!(told.contains(&format!("\"{counted}\"")), "{told}");
        }
        let calls = look(&mut operator, |calls| calls.len() == busy.len()).await;
        for call in calls {
            kill(&mut operator, call.call).await;
        }
        for ended in busy {
            assert_eq!(ended.await.unwrap(), ErrorCode::Killed);
        }
    }
}
