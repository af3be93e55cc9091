use std::path::{Path, PathBuf};
use std::sync::Arc;

use luge_client::{Client, ErrorCode, PushOptions};
use luge_server::config::Config;
use luge_server::store::embedded::disk::RealDisk;
use luge_server::testing::{TestServer, start_compiling_in};
use luge_server::udf::Compilers;

use crate::support::speaker;

fn program() -> Compilers {
    Compilers::Process(PathBuf::from(env!("CARGO_BIN_EXE_luge-server")))
}

async fn start(
    compilers: Compilers,
    folder: &Path,
    change: impl FnOnce(&mut Config),
) -> (TestServer, Client) {
    let server = start_compiling_in(compilers, folder, Arc::new(RealDisk), change).await;
    let client = Client::connect(server.address()).await.unwrap();
    (server, client)
}

/// What a push of this is refused with.
async fn refused(client: &Client, wasm: &[u8]) -> String {
    let pushed = client.module_push("m", wasm, PushOptions::default()).await;
    let error = pushed.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::InvalidModule), "{error}");
    error.to_string()
}

/// Functions within every bound, which take a compiler many seconds together.
fn slow() -> Vec<u8> {
    let step = "(local.set 0 (i64.add (i64.mul (local.get 1) (local.get 2)) (i64.xor (local.get 3) (local.get 0))))
        (if (i64.eqz (local.get 0)) (then (local.set 1 (local.get 2)) (local.set 3 (local.get 0))))";
    let function = format!(
        "(func (param i64 i64 i64 i64) (loop {} (br_if 0 (i64.eqz (local.get 3)))))",
        step.repeat(2_000)
    );
    wat::parse_str(format!("(module {})", function.repeat(30))).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_process_compiles_runs_and_is_kept_for_a_start_that_compiles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = start(program(), folder.path(), |_| {}).await;
    let options = PushOptions::default();
    let pushed = client.module_push("a", &speaker("one"), options).await;
    pushed.unwrap();
    let said = client.call_raw("a.say", vec![]).await.unwrap();
    assert_eq!(said, &b"oneoneone"[..]);
    drop((client, server));
    // It could not compile: this program is not there.
    let nowhere = Compilers::Process(folder.path().join("nothing"));
    let (_server, client) = start(nowhere, folder.path(), |_| {}).await;
    let said = client.call_raw("a.say", vec![]).await.unwrap();
    assert_eq!(said, &b"oneoneone"[..]);
    let message = refused(&client, &speaker("two")).await;
    assert!(message.contains("no process to compile in"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_and_a_thread_refuse_in_the_same_words() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (_process, by_process) = start(program(), folders[0].path(), |_| {}).await;
    let (_thread, by_thread) = start(Compilers::Thread, folders[1].path(), |_| {}).await;
    let binaries: [&[u8]; 4] = [
        b"\0asm\x01\0\0\0\x01\xff\xff\xff\xff\xff",
        &wat::parse_str("(module (func (export \"f\") (result i32) i64.const 1))").unwrap(),
        &wat::parse_str("(module (memory i64 1))").unwrap(),
        &wat::parse_str("(module (func $f return_call $f))").unwrap(),
    ];
    for binary in binaries {
        let message = refused(&by_process, binary).await;
        assert_eq!(message, refused(&by_thread, binary).await);
        assert!(!message.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compiler_that_takes_too_long_is_killed_and_the_next_push_has_its_turn() {
    let folder = tempfile::tempdir().unwrap();
    let short = |config: &mut Config| config.compile_time_ms = 100;
    let (_server, client) = start(program(), folder.path(), short).await;
    for _ in 0..2 {
        let message = refused(&client, &slow()).await;
        let limit = "longer than the limit of 100 ms (`compile_time_ms`)";
        assert!(message.contains(limit), "{message}");
    }
    client.set("k", "v").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compiler_that_takes_too_much_memory_ends_and_the_next_push_has_its_turn() {
    let folder = tempfile::tempdir().unwrap();
    let little = |config: &mut Config| config.compile_memory_bytes = 16 << 20;
    let (_server, client) = start(program(), folder.path(), little).await;
    let message = refused(&client, &slow()).await;
    let limit = "more memory than the limit of 16777216 bytes (`compile_memory_bytes`)";
    assert!(message.contains(limit), "{message}");
    let options = PushOptions::default();
    let pushed = client.module_push("a", &speaker("one"), options).await;
    pushed.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_no_compiler_is_told_as_a_fault_and_believed_in_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // It ends with an error; it writes without end; it ends well, with nothing.
    for program in ["cat", "yes", "true"] {
        let program = Compilers::Process(Path::new("/usr/bin").join(program));
        let (_server, client) = start(program, folder.path(), |_| {}).await;
        let message = refused(&client, &speaker("one")).await;
        assert!(!message.is_empty());
        let called = client.call_raw("m.say", vec![]).await;
        assert!(called.is_err());
    }
}
