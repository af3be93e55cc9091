//! A module that loops on every connection that it can get, and what others notice of it.
//! `benches/README.md` tells how to use it.

mod measured;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use clap::Parser;
use luge_benches::GUEST;
use luge_benches::process::{Program, Server, program};
use luge_client::{Client, Error, PushOptions};
use tokio::task::JoinSet;

use crate::measured::{Kind, Latencies, measure};

/// The ratio of the 99th percentiles that is still borne.
const MAX_RATIO: f64 = 2.0;

/// A procedure that never ends by itself.
const HOSTILE: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "spin") (result i32) (loop $on (br $on)) (i32.const 0)))"#;

/// Measures what a hostile module does to others.
#[derive(Debug, Parser)]
#[command(name = "neighbour")]
struct Arguments {
    /// How long each round is.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Rounds without the hostile module, and as many with it, in turns.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Connections on which the hostile module loops.
    #[arg(long, default_value_t = 200)]
    connections: usize,
    /// Rounds of two seconds.
    #[arg(long)]
    quick: bool,
}

fn main() -> ExitCode {
    luge_benches::run(run(Arguments::parse()))
}

async fn run(mut arguments: Arguments) -> Result<ExitCode, String> {
    if arguments.quick {
        arguments.seconds = 2;
    }
    let folder = tempfile::tempdir().map_err(|error| format!("no folder: {error}"))?;
    let program = Program {
        path: program()?,
        settings: vec!["max_connections=2000".to_owned()],
        bug: None,
    };
    let mut server = Server::start(&program, folder.path())?;
    let address = server.ready().await?;
    prepare(address).await.map_err(|error| error.to_string())?;
    let (mut quiet, mut loud) = (Rounds::default(), Rounds::default());
    let time = Duration::from_secs(arguments.seconds);
    for _ in 0..arguments.rounds {
        quiet.add(round(address, time).await?);
        let hostile = Hostile::start(address, arguments.connections);
        // Until it has all that it can get.
        tokio::time::sleep(Duration::from_millis(500)).await;
        loud.add(round(address, time).await?);
        let calls = hostile.stop().await;
        println!("a round of {time:?} beside {calls} calls that looped");
    }
    server.stop().await?;
    let gets = compare("get", &quiet.gets, &loud.gets);
    let calls = compare("call", &quiet.calls, &loud.calls);
    Ok(match gets <= MAX_RATIO && calls <= MAX_RATIO {
        true => ExitCode::SUCCESS,
        false => {
            eprintln!("error: a neighbour's p99 grew to more than {MAX_RATIO} times");
            ExitCode::FAILURE
        }
    })
}

#[derive(Default)]
struct Rounds {
    gets: Latencies,
    calls: Latencies,
}

impl Rounds {
    fn add(&mut self, round: Self) {
        self.gets.add(round.gets);
        self.calls.add(round.calls);
    }
}

async fn prepare(address: SocketAddr) -> Result<(), Error> {
    let client = Client::connect(address).await?;
    client.set("key", vec![b'v'; 64]).await?;
    for (name, text) in [("good", GUEST), ("hostile", HOSTILE)] {
        client
            .module_push(name, text.as_bytes(), PushOptions::default())
            .await?;
    }
    Ok(())
}

/// One round of both kinds of neighbours at once.
async fn round(address: SocketAddr, time: Duration) -> Result<Rounds, String> {
    let gets = tokio::task::spawn_blocking(move || measure(address, Kind::Get, time));
    let calls = tokio::task::spawn_blocking(move || measure(address, Kind::Call, time));
    let (gets, calls) = (gets.await, calls.await);
    let failed = |error: tokio::task::JoinError| error.to_string();
    Ok(Rounds {
        gets: gets.map_err(failed)?.map_err(|error| error.to_string())?,
        calls: calls.map_err(failed)?.map_err(|error| error.to_string())?,
    })
}

fn compare(name: &str, quiet: &Latencies, loud: &Latencies) -> f64 {
    let ratio = loud.micros(990) / quiet.micros(990);
    println!(
        "{name}: p50 {:.0} µs alone and {:.0} beside it, p99 {:.0} and {:.0}: {ratio:.2} times (at most {MAX_RATIO}); p99.9 {:.0} and {:.0}, of {} and {}",
        quiet.micros(500),
        loud.micros(500),
        quiet.micros(990),
        loud.micros(990),
        quiet.micros(999),
        loud.micros(999),
        quiet.count(),
        loud.count(),
    );
    ratio
}

/// The hostile module's callers.
struct Hostile {
    callers: JoinSet<()>,
    is_stopped: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
}

impl Hostile {
    fn start(address: SocketAddr, connections: usize) -> Self {
        let (is_stopped, calls) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let mut callers = JoinSet::new();
        for _ in 0..connections {
            let (is_stopped, calls) = (Arc::clone(&is_stopped), Arc::clone(&calls));
            callers.spawn(async move {
                let Ok(client) = Client::connect(address).await else {
                    return;
                };
                while !is_stopped.load(Ordering::Relaxed) {
                    // It ends with an error, as it should.
                    let _ = client.call_raw("hostile.spin", &b""[..]).await;
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self {
            callers,
            is_stopped,
            calls,
        }
    }

    async fn stop(mut self) -> u64 {
        self.is_stopped.store(true, Ordering::Relaxed);
        while self.callers.join_next().await.is_some() {}
        self.calls.load(Ordering::Relaxed)
    }
}
