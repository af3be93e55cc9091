use luge_protocol::ErrorReply;
use luge_server::config::Config;
use luge_server::store::MemoryStore;

use crate::support::{Push, Talk, clock, open_memory, runtime};

const TEXT: &str = r#"(module
    (func $inner
        (unreachable))
    (func $outer
        (call $inner))
    (func $run (export "run") (result i32)
        (call $outer)
        (i32.const 0)))"#;

/// The module with the lines of its text.
fn with_lines() -> Vec<u8> {
    wat::Parser::new()
        .generate_dwarf(wat::GenerateDwarf::Lines)
        .parse_str(Some(std::path::Path::new("guest.wat")), TEXT)
        .unwrap()
}

/// The content of a module's custom section.
fn section<'a>(wasm: &'a [u8], name: &[u8]) -> &'a [u8] {
    let at = wasm
        .windows(name.len())
        .position(|window| window == name)
        .unwrap();
    &wasm[at + name.len()..]
}

async fn trap(talk: &mut Talk<MemoryStore>, wasm: &[u8]) -> ErrorReply {
    talk.push_binary(&Push::new("m", ""), wasm).await.unwrap();
    talk.request("call m.run").await.unwrap_err()
}

async fn talk() -> Talk<MemoryStore> {
    let config = Config {
        max_instances: 16,
        ..Config::default()
    };
    let clock = clock();
    Talk::new(open_memory(&clock), &config, clock).await
}

#[test]
fn a_back_trace_has_files_and_lines_where_the_module_carries_them() {
    runtime().block_on(async {
        let mut talk = talk().await;
        for wasm in [with_lines(), wat::parse_str(TEXT).unwrap(), with_lines()] {
            let has_lines = wasm.windows(11).any(|it| it == b".debug_line");
            let error = trap(&mut talk, &wasm).await;
            let expected = match has_lines {
                true => [
                    "inner at guest.wat:3",
                    "outer at guest.wat:5",
                    "run at guest.wat:7",
                ],
                false => ["inner", "outer", "run"],
            };
            assert_eq!(
                error.details().backtrace.as_deref(),
                Some(&expected.map(String::from)[..])
            );
        }
    });
}

/// What is wrong in the lines of a module costs it lines, and nothing else.
#[test]
fn a_module_whose_lines_are_damaged_traps_all_the_same() {
    runtime().block_on(async {
        let mut talk = talk().await;
        let whole = with_lines();
        let from = whole.len() - section(&whole, b".debug_line").len();
        for at in (from..whole.len()).step_by(7) {
            let mut wasm = whole.clone();
            wasm[at] ^= 0xff;
            let pushed = talk.push_binary(&Push::new("m", ""), &wasm).await;
            // Behind the lines there may be sections that a module can't do without.
            if pushed.is_err() {
                continue;
            }
            let error = talk.request("call m.run").await.unwrap_err();
            assert_eq!(error.0, "trap", "{at}");
            let backtrace = error.details().backtrace.clone().unwrap();
            assert!(backtrace[0].starts_with("inner"), "{at}: {backtrace:?}");
        }
    });
}
