//! Allocations: what one request on each of the ten hottest paths asks of the allocator, beside what is recorded.
//!
//! Time moves by a fifth from run to run, and these figures do not: who adds an allocation to a path sees it. A whole
//! server is in this process, and a client sends it pipelines over TCP. Only the server's one worker is counted: it
//! serves the connection, from its socket to the reply. The threads beside it, which write the log, fold and tick, and the
//! client are not, so what they do by the clock is in no figure. A figure is the median of several rounds: what a timer or
//! the end of another round adds to one of them does not show.
//!
//! ```text
//! main.rs       measures, and says what is to be done
//! counting.rs   the allocator
//! paths.rs      the requests
//! client.rs     who sends them
//! server.rs     who answers them
//! record.rs     what was recorded, and whether a path grew
//! report.rs     what is printed
//! ```

#![expect(clippy::print_stdout, reason = "this is where the program prints")]

use std::process::ExitCode;

use clap::Parser;

use client::Client;
use counting::{Count, Counting, counted};
use paths::{BATCH_REQUESTS, Durability, Path};
use record::{Figures, Measured, Record};
use server::Server;

mod client;
mod counting;
mod paths;
mod record;
mod report;
mod server;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What is committed.
const RECORD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/allocations.txt");

/// Batches of a round.
const ROUND_BATCHES: usize = 100;

/// Rounds that are counted.
const ROUNDS: usize = 9;

/// Rounds before those, in which queues, tables and buffers grow to their size.
const WARM_UP_ROUNDS: usize = 3;

/// Counts what a request allocates on each of the ten hottest paths.
#[derive(Parser)]
struct Arguments {
    /// Exit with 1 where a path allocates more than is recorded
    #[arg(long, conflicts_with = "record")]
    check: bool,
    /// Write what was measured into the record
    #[arg(long)]
    record: bool,
    /// Why a path grew, which the record is to tell
    #[arg(long, requires = "record")]
    note: Option<String>,
}

fn main() -> ExitCode {
    run(&Arguments::parse()).unwrap_or_else(|message| {
        eprintln!("error: {message}");
        ExitCode::from(2)
    })
}

fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    if cfg!(debug_assertions) && (arguments.check || arguments.record) {
        let message = "the record is of builds with --release: others leave allocations in that the compiler takes out";
        return Err(message.to_owned());
    }
    let record = match std::fs::read_to_string(RECORD) {
        Ok(text) => Record::parse(&text)?,
        Err(_) => Record::default(),
    };
    let measured = measure()?;
    print!("{}", report::table(&record, &measured));
    if arguments.record {
        let record = record.taken_over(&measured, arguments.note.as_deref())?;
        let written = std::fs::write(RECORD, record.to_string());
        written.map_err(|error| format!("can't write {RECORD}: {error}"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let verdicts = record.compare(&measured);
    for advice in report::advice(&verdicts) {
        println!("{advice}");
    }
    let fails = verdicts.iter().any(|(_, verdict)| verdict.fails());
    Ok(match arguments.check && fails {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

/// The figures of every path, in their order.
fn measure() -> Result<Vec<Measured>, String> {
    let everysec = Server::start(Durability::Everysec)?;
    let always = Server::start(Durability::Always)?;
    let mut measured = Vec::new();
    for path in paths::all() {
        let server = match path.durability {
            Durability::Everysec => &everysec,
            Durability::Always => &always,
        };
        let mut client = Client::connect(server.address())?;
        let figures = figures(&mut client, &path).map_err(|why| format!("{}: {why}", path.name))?;
        measured.push(Measured {
            path: path.name,
            figures,
        });
    }
    everysec.stop()?;
    always.stop()?;
    Ok(measured)
}

fn figures(client: &mut Client, path: &Path) -> Result<Figures, String> {
    for _ in 0..WARM_UP_ROUNDS {
        round(client, path)?;
    }
    let mut rounds = [Count::default(); ROUNDS];
    for counted in &mut rounds {
        *counted = round(client, path)?;
    }
    Ok(Figures {
        allocations: median(rounds.map(|it| it.allocations)),
        bytes: median(rounds.map(|it| it.bytes)),
    })
}

fn round(client: &mut Client, path: &Path) -> Result<Count, String> {
    let before = counted();
    for _ in 0..ROUND_BATCHES {
        client.ask(&path.batch)?;
    }
    Ok(counted().since(before))
}

/// What a request of the middle round has.
fn median(mut rounds: [u64; ROUNDS]) -> f64 {
    rounds.sort_unstable();
    let middle = rounds.get(ROUNDS / 2).copied().unwrap_or_default();
    middle as f64 / (ROUND_BATCHES * BATCH_REQUESTS) as f64
}
