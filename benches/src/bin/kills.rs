//! Kills: how long after `calls.kill` was sent the killed call's answer is there.
//!
//! A server in a process of its own, one connection that calls and another that kills; the times are those that the
//! clients see. Prints the median, p99 and the longest, of loops that are alone and of such that share the
//! machine with others; fails where a p99 is over the bound.

#![expect(clippy::print_stdout, reason = "this is where the program prints")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use luge_benches::process::{Program, Server, program};
use luge_client::{Client, Error, ErrorCode, LimitsRequest, PushOptions};
use tokio::task::JoinHandle;

/// How many calls are killed of each kind.
const KILLS: usize = 300;

/// The time within which a kill is to end a call.
const BOUND: Duration = Duration::from_millis(2);

const GUEST: &str = r#"(module
    (import "luge_v1" "kv_scan" (func $scan (param i32 i32 i32 i32 i32 i32) (result i32)))
    (import "luge_v1" "kv_scan_next" (func $next (param i32 i32 i32) (result i64)))
    (import "luge_v1" "kv_scan_close" (func $close (param i32)))
    (memory (export "memory") 2)
    (func (export "loop") (result i32) (loop $on (br $on)) (i32.const 0))
    (func (export "scan") (result i32) (local $handle i32)
        (loop $on
            (local.set $handle (call $scan (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
            (loop $more (br_if $more (i64.ne (call $next (local.get $handle) (i32.const 4096) (i32.const 65536)) (i64.const 0))))
            (call $close (local.get $handle))
            (br $on))
        (i32.const 0)))"#;

/// Loops that a killed one shares the machine with.
const OTHERS: usize = 7;

fn main() -> ExitCode {
    luge_benches::run(measure())
}

async fn measure() -> Result<ExitCode, String> {
    let folder = tempfile::tempdir().map_err(|error| format!("no folder: {error}"))?;
    let program = Program {
        path: program()?,
        settings: [
            "fuel=1000000000000",
            "cpu_ms=3600000",
            "deadline_ms=3600000",
        ]
        .map(|limit| format!("max_call_{limit}"))
        .to_vec(),
        bug: None,
    };
    let mut server = Server::start(&program, folder.path())?;
    let address = server.ready().await?;
    let connect = async || Client::connect(address).await.map_err(|it| it.to_string());
    let (caller, operator) = (connect().await?, connect().await?);
    prepare(&caller).await.map_err(|error| error.to_string())?;
    let pair = Pair { caller, operator };
    let mut longest = Duration::ZERO;
    longest = longest.max(pair.kill_many("loop", "alone").await?);
    longest = longest.max(pair.kill_many("scan", "alone").await?);
    let mut others = Vec::new();
    for _ in 0..OTHERS {
        // A connection's calls run one after the other.
        others.push(begin(connect().await?, "loop"));
    }
    while pair.running().await?.len() < OTHERS {}
    longest = longest.max(pair.kill_many("loop", "beside others").await?);
    for other in pair.running().await? {
        pair.operator
            .kill(other)
            .await
            .map_err(|error| error.to_string())?;
    }
    for other in others {
        ended(other).await?;
    }
    server.stop().await?;
    Ok(match longest <= BOUND {
        true => ExitCode::SUCCESS,
        false => {
            println!("the bound is {BOUND:?}");
            ExitCode::FAILURE
        }
    })
}

/// A module with loops, and some keys to scan.
async fn prepare(client: &Client) -> Result<(), Error> {
    for number in 0..1_000 {
        client.set(format!("key:{number}"), vec![b'v'; 64]).await?;
    }
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
        .module_push("endless", GUEST.as_bytes(), options)
        .await?;
    Ok(())
}

/// What calls, and what kills.
struct Pair {
    caller: Client,
    operator: Client,
}

/// Calls from this connection; answers when the answer came, too.
fn begin(caller: Client, function: &str) -> Call {
    let procedure = format!("endless.{function}");
    tokio::spawn(async move {
        let answer = caller.call_raw(&procedure, []).await;
        (answer, Instant::now())
    })
}

type Call = JoinHandle<(Result<bytes::Bytes, Error>, Instant)>;

impl Pair {
    /// The calls that have begun to run.
    async fn running(&self) -> Result<Vec<u64>, String> {
        let calls = self.operator.running_calls().await;
        let calls = calls.map_err(|error| error.to_string())?;
        let running = calls.iter().filter(|call| call.module.is_some());
        Ok(running.map(|call| call.call).collect())
    }

    /// Kills one call after the other; answers the p99.
    async fn kill_many(&self, function: &str, beside: &str) -> Result<Duration, String> {
        let mut times = Vec::with_capacity(KILLS);
        let before = self.running().await?;
        for _ in 0..KILLS {
            let call = begin(self.caller.clone(), function);
            let victim = loop {
                let new = |it: &u64| !before.contains(it);
                if let Some(victim) = self.running().await?.into_iter().find(new) {
                    break victim;
                }
            };
            let sent = Instant::now();
            let killed = self.operator.kill(victim).await;
            killed.map_err(|error| error.to_string())?;
            times.push(ended(call).await?.saturating_duration_since(sent));
        }
        times.sort();
        let at = |share: usize| times.get(KILLS * share / 1000).copied().unwrap_or_default();
        let p99 = at(990);
        let (median, longest) = (at(500), at(999));
        println!(
            "{function}, {beside}: killed within {median:.2?} (p50), {p99:.2?} (p99), {longest:.2?} (longest)"
        );
        Ok(p99)
    }
}

/// When a killed call was answered.
async fn ended(call: Call) -> Result<Instant, String> {
    let (answer, at) = call.await.map_err(|error| error.to_string())?;
    match answer {
        Err(error) if error.code() == Some(ErrorCode::Killed) => Ok(at),
        other => Err(format!("a killed call ended with {other:?}")),
    }
}
