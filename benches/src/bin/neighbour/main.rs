//! A module that loops on every connection that it can get, and what others notice of it.
//! `benches/README.md` tells how to use it.

mod measured;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use clap::Parser;
use luge_benches::GUEST;
use luge_benches::process::{Program, Server, program};
use luge_client::{Client, Error, PushOptions};
use tokio::task::JoinSet;

use crate::measured::{Kind, Rounds, measure};

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
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Rounds without the hostile module, as many with it, and as many beside a loop outside of the server, in turns.
    #[arg(long, default_value_t = 15)]
    rounds: u32,
    /// Connections on which the hostile module loops.
    #[arg(long, default_value_t = 200)]
    connections: usize,
    /// A fifth of the rounds.
    #[arg(long)]
    quick: bool,
}

fn main() -> ExitCode {
    luge_benches::run(run(Arguments::parse()))
}

async fn run(mut arguments: Arguments) -> Result<ExitCode, String> {
    if arguments.quick {
        arguments.rounds = arguments.rounds.div_ceil(5);
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
    let (mut quiet, mut loud, mut outside) = Default::default();
    let time = Duration::from_secs(arguments.seconds);
    let mut looped = 0;
    for _ in 0..arguments.rounds {
        round(address, time, &mut quiet).await?;
        let hostile = Hostile::start(address, arguments.connections);
        // Until it has all that it can get.
        tokio::time::sleep(Duration::from_millis(500)).await;
        round(address, time, &mut loud).await?;
        looped += hostile.stop().await;
        let spinner = Spinner::start()?;
        round(address, time, &mut outside).await?;
        spinner.stop();
    }
    server.stop().await?;
    println!(
        "{} rounds of {time:?} of each; {looped} calls looped",
        arguments.rounds
    );
    let gets = compare("get", [&quiet.gets, &loud.gets, &outside.gets]);
    let calls = compare("call", [&quiet.calls, &loud.calls, &outside.calls]);
    Ok(match gets <= MAX_RATIO && calls <= MAX_RATIO {
        true => ExitCode::SUCCESS,
        false => {
            eprintln!("error: a neighbour's p99 grew to more than {MAX_RATIO} times");
            ExitCode::FAILURE
        }
    })
}

/// What was measured of both kinds of neighbours.
#[derive(Default)]
struct Measured {
    gets: Rounds,
    calls: Rounds,
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
async fn round(address: SocketAddr, time: Duration, into: &mut Measured) -> Result<(), String> {
    let gets = tokio::task::spawn_blocking(move || measure(address, Kind::Get, time));
    let calls = tokio::task::spawn_blocking(move || measure(address, Kind::Call, time));
    let (gets, calls) = (gets.await, calls.await);
    let failed = |error: tokio::task::JoinError| error.to_string();
    let gets = gets.map_err(failed)?.map_err(|error| error.to_string())?;
    let calls = calls.map_err(failed)?.map_err(|error| error.to_string())?;
    into.gets.add(gets);
    into.calls.add(calls);
    Ok(())
}

/// Prints what was measured alone, beside the hostile module, and beside a loop outside of the server, and gives the
/// ratio of the first two 99th percentiles.
fn compare(name: &str, [quiet, loud, outside]: [&Rounds; 3]) -> f64 {
    let alone = quiet.micros(990);
    let ratio = loud.micros(990) / alone;
    println!(
        "{name}: p99 {alone:.0} µs alone and {:.0} beside it: {ratio:.2} times (at most {MAX_RATIO}); {:.0} beside a loop outside of the server: {:.2} times",
        loud.micros(990),
        outside.micros(990),
        outside.micros(990) / alone,
    );
    for (permille, quantile) in [(500, "p50"), (999, "p99.9")] {
        println!(
            "  {quantile} {:.0}, {:.0} and {:.0} µs, of {}, {} and {} requests",
            quiet.micros(permille),
            loud.micros(permille),
            outside.micros(permille),
            quiet.count(),
            loud.count(),
            outside.count(),
        );
    }
    ratio
}

/// A thread of the least priority that loops, as those of the server's lane do, but in this program: what a busy
/// processor does to latencies on this machine, whoever keeps it busy.
struct Spinner {
    is_stopped: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Spinner {
    fn start() -> Result<Self, String> {
        let is_stopped = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&is_stopped);
        let spin = move || {
            rustix::process::setpriority_process(None, 19).expect("a priority");
            while !until.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        };
        let thread = std::thread::Builder::new().spawn(spin);
        let thread = thread.map_err(|error| format!("no thread: {error}"))?;
        Ok(Self { is_stopped, thread })
    }

    fn stop(self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        // Nothing in it fails but for the priority.
        let _ = self.thread.join();
    }
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
