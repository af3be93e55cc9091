//! A server from its start to its end in order.

use std::time::Duration;

use luge_client::{Client, LimitsRequest, PushOptions};

use crate::support::{Served, program};

const BANK: &[u8] = include_bytes!("../../../udfs/examples/built/bank.wasm");

#[tokio::test]
async fn a_server_that_is_told_to_stop_exits_0_and_has_everything_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    for (round, signal) in ["-TERM", "-INT"].into_iter().enumerate() {
        let server = Served::start(folder.path());
        let client = server.client().await;
        for before in 0..round {
            let value = client.get(format!("round:{before}")).await.unwrap();
            assert_eq!(value.as_deref(), Some(&b"here"[..]));
        }
        client.set(format!("round:{round}"), "here").await.unwrap();
        // Another setting makes another version.
        let options = PushOptions {
            config: [("round".to_owned(), round.to_string())].into(),
            ..PushOptions::default()
        };
        client.module_push("bank", BANK, options).await.unwrap();
        let log = server.stop(signal);
        assert!(log.last().unwrap().ends_with("stopped"), "{log:?}");
    }
    let server = Served::start(folder.path());
    let client = server.client().await;
    let bank = client.module_show("bank").await.unwrap();
    assert_eq!(bank.version, 2);
    let value = client.get("round:1").await.unwrap();
    assert_eq!(value.as_deref(), Some(&b"here"[..]));
}

#[tokio::test]
async fn writes_that_are_under_way_at_a_stop_are_acknowledged_and_kept_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = Served::start(folder.path());
    let client = server.client().await;
    let (told, mut acknowledged) = tokio::sync::mpsc::unbounded_channel();
    let writer = tokio::spawn(async move {
        let mut last = 0_u64;
        while client.set("count", (last + 1).to_string()).await.is_ok() {
            last += 1;
            let _ = told.send(());
        }
        last
    });
    for _ in 0..20 {
        acknowledged.recv().await.unwrap();
    }
    tokio::task::spawn_blocking(move || server.stop("-TERM"))
        .await
        .unwrap();
    let last = writer.await.unwrap();
    let server = Served::start(folder.path());
    let found = server.client().await.get("count").await.unwrap().unwrap();
    let found: u64 = std::str::from_utf8(&found).unwrap().parse().unwrap();
    // One more may have been carried out whose answer did not arrive.
    assert!(found == last || found == last + 1, "{found} after {last}");
}

/// Whoever interrupted a stop that waited for a loop had to wait for ten seconds, or to kill the server.
#[tokio::test]
async fn a_second_interrupt_ends_a_stop_that_waits_and_loses_nothing_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let server = Served::start(folder.path());
    let client = server.client().await;
    let options = PushOptions {
        limits: LimitsRequest {
            fuel: Some(10_000_000_000),
            cpu_ms: Some(5_000),
            deadline_ms: Some(60_000),
            ..LimitsRequest::default()
        },
        ..PushOptions::default()
    };
    let endless =
        r#"(module (func (export "run") (result i32) (loop $on (br $on)) (i32.const 0)))"#;
    client
        .module_push("endless", endless.as_bytes(), options)
        .await
        .unwrap();
    client.set("kept", "yes").await.unwrap();
    let looping = server.client().await;
    tokio::spawn(async move { looping.call_raw("endless.run", []).await });
    while client.running_calls().await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.interrupt_twice(), Some(130));
    let server = Served::start(folder.path());
    let kept = server.client().await.get("kept").await.unwrap();
    assert_eq!(kept.as_deref(), Some(&b"yes"[..]));
}

#[tokio::test]
async fn connections_that_do_nothing_do_not_hold_a_stop_up() {
    let folder = tempfile::tempdir().unwrap();
    let server = Served::start(folder.path());
    let idle = [server.client().await, server.client().await];
    let silent = tokio::net::TcpStream::connect(server.address)
        .await
        .unwrap();
    // Well within the 10 seconds that what runs may take.
    let stop = tokio::task::spawn_blocking(move || server.stop("-TERM"));
    let log = tokio::time::timeout(Duration::from_secs(8), stop).await;
    assert!(!log.unwrap().unwrap().is_empty());
    drop((idle, silent));
}

#[tokio::test]
async fn serving_is_what_happens_without_a_command() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let command = program(["--listen", "127.0.0.1:0", "--data", folder]);
    let server = Served::start_command(command);
    server.client().await.ping().await.unwrap();
    server.stop("-TERM");
}

#[tokio::test]
async fn one_thread_serves_everybody_beside_a_function_that_loops() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let server = Served::start_command(program([
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--data",
        data,
        "--set",
        "worker_threads=1",
    ]));
    let client = server.client().await;
    let endless =
        r#"(module (func (export "run") (result i32) (loop $on (br $on)) (i32.const 0)))"#;
    client
        .module_push("endless", endless.as_bytes(), PushOptions::default())
        .await
        .unwrap();
    let looping = server.client().await;
    let loops = tokio::spawn(async move { looping.call_raw("endless.run", []).await });
    while !loops.is_finished() {
        client.set("key", "value").await.unwrap();
    }
    assert!(loops.await.unwrap().is_err(), "its cpu time is bounded");
    assert_eq!(
        client.get("key").await.unwrap().as_deref(),
        Some(&b"value"[..])
    );
    server.stop("-TERM");
}

#[tokio::test]
async fn an_open_address_is_served_when_the_user_insists() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let command = program([
        "serve",
        "--listen",
        "0.0.0.0:0",
        "--data",
        folder,
        "--no-auth",
    ]);
    let server = Served::start_command(command);
    let port = server.address.port();
    let client = Client::connect(format!("127.0.0.1:{port}")).await.unwrap();
    client.ping().await.unwrap();
    server.stop("-TERM");
}

#[test]
fn log_lines_are_json_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let mut command = program(["serve", "--listen", "127.0.0.1:0", "--data", folder]);
    command.env("LUGE_LOG_FORMAT", "json");
    command.stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    let line = lines.next().unwrap().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["level"], "INFO");
    assert!(line["fields"]["message"].is_string());
}

#[test]
fn a_start_tells_how_many_instances_the_kernel_has_room_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = program(["serve", "--listen", "127.0.0.1:0", "--data"]);
    command
        .arg(folder.path())
        .args(["--set", "max_instances=28000"]);
    let (server, told) = Served::start_telling(command);
    assert!(told.contains("room for "), "{told}");
    assert!(told.contains("max_instances"), "{told}");
    server.stop("-TERM");
}
