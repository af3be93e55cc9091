//! Flights: what calls that are in flight at once hold of memory and of the kernel's mappings.
//!
//! A server in a process of its own, and a connection for each call. The calls loop, so all of them are suspended on
//! their time slices but those that run at the moment; none waits for a place. Prints what the operating
//! system says of the server before them and with them.

#![expect(clippy::print_stdout, reason = "this is where the program prints")]

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use luge_benches::process::{Program, Server, program};
use luge_client::{Client, Error, LimitsRequest, PushOptions};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// What the memory of all calls together is to stay under.
const MAX_BYTES: u64 = 1 << 30;

/// How long a call may be under way: all of them have a millisecond in turn.
const PATIENCE: Duration = Duration::from_secs(600);

/// Holds many calls in flight at once.
#[derive(Parser)]
struct Arguments {
    /// How many.
    #[arg(long, default_value_t = 10_000)]
    calls: usize,
}

/// As large as what the Rust SDK builds, and touching as much of it as a small procedure does.
const GUEST: &str = r#"(module
    (memory (export "memory") 2)
    (data (i32.const 66000) "what a procedure has of constants")
    (func (export "wait") (result i32)
        (i32.store (i32.const 65000) (i32.const 1))
        (i32.store (i32.const 70000) (i32.const 1))
        (loop $on (br $on))
        (i32.const 0)))"#;

fn main() -> ExitCode {
    luge_benches::run(measure(Arguments::parse().calls))
}

async fn measure(count: usize) -> Result<ExitCode, String> {
    let folder = tempfile::tempdir().map_err(|error| format!("no folder: {error}"))?;
    let program = Program {
        path: program()?,
        settings: settings(count),
        bug: None,
    };
    let mut server = Server::start(&program, folder.path())?;
    let address = server.ready().await?;
    let process = server.process().ok_or("the server ended by itself")?;
    let operator = prepare(address).await.map_err(|error| error.to_string())?;
    let before = Held::of(process)?;
    println!("before: {before}");
    let mut calls = JoinSet::new();
    for _ in 0..count {
        let client = Client::builder()
            .request_timeout(PATIENCE)
            .connect(address)
            .await;
        let client = client.map_err(|error| error.to_string())?;
        calls.spawn(async move { client.call_raw("bench.wait", []).await });
    }
    loop {
        let running = operator.running_calls().await;
        let running = running.map_err(|error| error.to_string())?;
        let begun = running.iter().filter(|call| call.memory_bytes > 0).count();
        if begun == count {
            break;
        }
        if let Some(ended) = calls.try_join_next() {
            return Err(format!(
                "with {begun} calls under way, one ended: {ended:?}"
            ));
        }
        sleep(Duration::from_millis(200)).await;
    }
    let with = Held::of(process)?;
    println!("with {count} calls in flight: {with}");
    let each = with.resident_bytes.saturating_sub(before.resident_bytes) / count as u64;
    println!("each: {} KiB", each >> 10);
    server.kill().await?;
    Ok(match with.resident_bytes < MAX_BYTES {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Every bound out of the way but those of the machine.
fn settings(count: usize) -> Vec<String> {
    let places = [
        "max_running_calls",
        "max_module_running_calls",
        "module_running_calls",
    ];
    let rooms = ["max_instances", "max_connections"];
    let endless = [
        "fuel=1000000000000",
        "cpu_ms=3600000",
        "deadline_ms=3600000",
    ];
    let places = places.map(|name| format!("{name}={count}"));
    let rooms = rooms.map(|name| format!("{name}={}", count + 100));
    let endless = endless.map(|limit| format!("max_call_{limit}"));
    [places.to_vec(), rooms.to_vec(), endless.to_vec()].concat()
}

async fn prepare(address: SocketAddr) -> Result<Client, Error> {
    let client = Client::connect(address).await?;
    let options = PushOptions {
        limits: LimitsRequest {
            fuel: Some(1_000_000_000_000),
            cpu_ms: Some(3_600_000),
            deadline_ms: Some(3_600_000),
            ..LimitsRequest::default()
        },
        ..PushOptions::default()
    };
    client
        .module_push("bench", GUEST.as_bytes(), options)
        .await?;
    // A module that ran long has its calls apart from those who serve connections, from the next call on.
    let short = LimitsRequest {
        fuel: Some(10_000_000),
        ..LimitsRequest::default()
    };
    let ended = client.call_within("bench.wait", [], Some(short)).await;
    assert!(ended.is_err(), "a loop does not end by itself");
    Ok(client)
}

/// What a process holds.
struct Held {
    resident_bytes: u64,
    mappings: usize,
}

impl Held {
    fn of(process: u32) -> Result<Self, String> {
        let folder = Path::new("/proc").join(process.to_string());
        let read = |name| {
            let text = std::fs::read_to_string(folder.join(name));
            text.map_err(|error| format!("{name} of the server can't be read: {error}"))
        };
        let status = read("status")?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes =
            resident.and_then(|it| it.trim().trim_end_matches(" kB").parse::<u64>().ok());
        Ok(Self {
            resident_bytes: kibibytes.ok_or("no VmRSS")? << 10,
            mappings: read("maps")?.lines().count(),
        })
    }
}

impl std::fmt::Display for Held {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (megabytes, mappings) = (self.resident_bytes >> 20, self.mappings);
        write!(formatter, "{megabytes} MiB resident, {mappings} mappings")
    }
}
